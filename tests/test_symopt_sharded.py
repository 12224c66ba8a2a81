"""SymOpt on parameters in parts: as on whole ones, with two processes and with three.

Each process also steps the whole parameters, and compares.
"""

import io
import multiprocessing
import traceback
from functools import cache

import pytest
import torch
from torch import nn

from symlab.models.transformer import Decoder, family, loss
from symlab.symopt import PRESETS, RULES, SymOpt, param_groups, roles, sharded, step

TOKENS = torch.arange(8)[None]
SIZES = {"vocabulary": 50, "context": 8, "width": 16, "layers": 1, "heads": 4}
SIZES |= {"kv_heads": 2, "head_width": 4, "hidden": 24}
EXPERTS = {"experts": 4, "chosen": 2}  # of three processes the last has none
TRAINED = ("symmetric", "adamw", "muon", "scion", "normuon", "aro", "freon")
ROUNDED = ("scion", "aro")  # where gradients lack rank rounding chooses
LR = 2e-4  # Scion's radius is 50


def decoder(dtype=torch.float32, name="gpt-oss", **sizes) -> Decoder:
    draws = torch.Generator().manual_seed(0)
    return Decoder(family(name, **SIZES, **(sizes or EXPERTS)), draws).to(dtype)


def part(t):
    return t.to_local() if sharded.is_distributed(t) else t


@torch.no_grad()
def error(ours, theirs) -> float:
    """The largest relative difference of parts from wholes."""
    pairs = [(p.full_tensor(), q) for p, q in zip(ours, theirs, strict=True)]
    return max(float((p - q).norm() / q.norm()) for p, q in pairs)


def state_bytes(optimizer) -> int:
    tensors = [v for s in optimizer.state.values() for v in s.values()]
    return sum(part(v).untyped_storage().nbytes() for v in tensors)


# --- what each process does: a decoder -----------------------------------------------


def in_parts(dtype, mesh) -> Decoder:
    from torch.distributed.fsdp import fully_shard

    model = decoder(dtype)
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


@cache
def plan(preset: str) -> list[dict]:
    with torch.device("meta"):
        model = decoder()
    return param_groups(model, LR, preset=preset, example=TOKENS)


def train(model, optimizer, tokens) -> torch.Tensor:
    optimizer.zero_grad()
    value = loss(model(tokens[:, :-1]), tokens[:, 1:])
    value.backward()
    optimizer.step()
    return value.detach()


def training(preset: str, dtype, mesh) -> dict:
    """Three steps; the last also by an optimizer that had this one's state_dict."""
    import torch.distributed as dist

    whole, parts, again = decoder(dtype), in_parts(dtype, mesh), in_parts(dtype, mesh)
    theirs = SymOpt(whole, groups=plan(preset))
    ours = SymOpt(parts, groups=plan(preset))
    draws, apart = torch.Generator().manual_seed(1), []
    for i in range(3):
        if i == 2:
            resumed = taken_up(ours, parts, again, plan(preset))
        tokens = torch.randint(SIZES["vocabulary"], (6, 9), generator=draws)
        mine = tokens.chunk(mesh.size())[mesh.get_local_rank()]
        mean = train(parts, ours, mine)
        dist.all_reduce(mean)
        apart.append(float((mean / mesh.size() - train(whole, theirs, tokens)).abs()))
    train(again, resumed, mine)
    pairs = zip(parts.parameters(), again.parameters(), strict=True)
    return {
        "losses": max(apart),
        "parameters": error(parts.parameters(), whole.parameters()),
        "bytes": state_bytes(ours) / state_bytes(theirs),
        "resumed": all(torch.equal(part(p), part(q)) for p, q in pairs),
    }


@torch.no_grad()
def taken_up(optimizer, model, other, groups) -> SymOpt:
    """An optimizer of the other model, which becomes as this one, through a file."""
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        part(q).copy_(part(p))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    same = SymOpt(other, groups=groups)
    same.load_state_dict(torch.load(file, weights_only=False))
    return same


def checkpoint(preset: str, mesh) -> dict:
    """torch's gathered state is that of a single process, and loads again."""
    from torch.distributed.checkpoint import state_dict as torchs

    whole, parts = decoder(torch.float64), in_parts(torch.float64, mesh)
    theirs = SymOpt(whole, groups=plan(preset))
    ours = SymOpt(parts, groups=plan(preset))
    tokens = torch.randint(50, (6, 9), generator=torch.Generator().manual_seed(1))
    for _ in range(2):
        train(parts, ours, tokens)
        train(whole, theirs, tokens)
    everything = torchs.StateDictOptions(full_state_dict=True)
    saved = torchs.get_optimizer_state_dict(parts, ours, options=everything)
    found = []
    for name, p in whole.named_parameters():
        for key, value in theirs.state[p].items():
            distance = (saved["state"][name][key] - value).norm()
            found.append(float(distance / value.norm().clamp(min=1e-9)))
    before, fresh = dict(ours.state), SymOpt(parts, groups=plan(preset))
    fresh.zero_grad()
    torchs.set_optimizer_state_dict(parts, fresh, saved, options=everything)
    same = [
        torch.equal(part(value), part(fresh.state[p][key]))
        for p, state in before.items()
        for key, value in state.items()
    ]
    return {"distance": max(found), "loaded": all(same)}


def work(mesh) -> dict:
    """Collectives of one step, and how many matrices rules saw here."""
    from torch.distributed.tensor.debug import CommDebugMode

    model, seen, original = in_parts(torch.float32, mesh), [], step.run
    optimizer = SymOpt(model, groups=plan("muon"))
    train(model, optimizer, torch.arange(18).view(2, 9))
    step.run = lambda *given: seen.append(len(given[3])) or original(*given)
    with CommDebugMode() as counted:
        optimizer.step()
    step.run = original
    calls = {str(name): n for name, n in counted.get_comm_counts().items()}
    return {"calls": calls, "matrices": sum(seen)}


# --- what each process does: rules and layouts ---------------------------------------

LAYOUTS = {  # name -> shape, settings
    "tall": ((8, 4), {}),
    "wide": ((4, 7), {}),
    "few rows": ((2, 5), {}),
    "heads": ((12, 5), {"pieces": 3}),
    "heads in columns": ((4, 12), {"pieces": 3, "along": "columns"}),
    "stored transposed": ((5, 8), {"rows": 1, "columns": 0}),
    "transposed": ((7, 4), {"transpose": True}),
    "experts": ((4, 6, 3), {}),
    "fused experts": ((4, 6, 5), {"pieces": 2}),
    "interleaved": ((5, 6, 4), {"pieces": 2, "along": "interleaved rows"}),
    "experts last": ((6, 7, 4), {"rows": 0, "columns": 1}),
    "convolution": ((6, 3, 2, 2), {"flat": True}),
}
OPTIONS = (
    ("spectral", {"centred": True}),
    ("row_norm", {"centred": True}),
    ("row_norm", {"centred": False, "floor": 0.1}),
    ("row_then_spectral", {"centred": True, "floor": 0.1}),
)
SETTINGS = ({"momentum": 0.0}, {"maximize": True, "ema": False})
PLACES = {  # shape of the mesh for W processes, placements by axis; None repeats
    "rows": ("W", (0,)),
    "columns": ("W", (1,)),
    "repeated": ("W", (None,)),
    "repeated rows": ("1W", (None, 0)),
    "rows and columns": ("W1", (0, 1)),
    "rows twice": ("1W", (0, 0)),
}


def arms():
    """(name, rule, settings, place, dtype): all rules on rows, some elsewhere, too."""
    exact = torch.float64
    for rule in (n for n, r in RULES.items() if n[:8] != "executed" and not r.paired):
        yield rule, rule, {}, "rows", exact
    for rule, said in OPTIONS:
        yield f"{rule} {said}", rule, {"options": said}, "rows", exact
    for settings in SETTINGS:
        yield f"spectral {settings}", "spectral", settings, "rows", exact
    for place in list(PLACES)[1:]:
        for rule in ("row_norm", "spectral"):
            yield f"{rule}, {place}", rule, {}, place, exact
    yield "sign, columns", "sign", {}, "columns", exact
    yield "aro, rows and columns", "aro", {}, "rows and columns", exact
    yield "row_norm, bfloat16", "row_norm", {}, "rows", torch.bfloat16
    yield "normuon, bfloat16", "normuon", {}, "rows", torch.bfloat16


def placing(place: str, world: int):
    """Tensors onto this mesh; the same one each time."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    shape, axes = PLACES[place]
    mesh = init_device_mesh("cpu", tuple(world if n == "W" else 1 for n in shape))
    placements = [Replicate() if axis is None else Shard(axis) for axis in axes]
    return lambda x: distribute_tensor(x, mesh, placements, src_data_rank=None)


def layouts(rule: str, settings: dict, placed, dtype) -> float:
    """Two steps with the same gradients of wholes and of parts."""
    draws, groups, twins = torch.Generator().manual_seed(0), [], []
    for shape, layout in LAYOUTS.values():
        if rule == "paired_row_norm" and (layout or shape[-2] % 2):
            continue
        p = torch.randn(shape, generator=draws).to(dtype)
        group = {"rule": rule, "shift": True, **layout, **settings}
        groups.append({"params": [nn.Parameter(p)], **group})
        twins.append({"params": [nn.Parameter(placed(p.clone()))], **group})
    theirs, ours = SymOpt(groups, lr=0.1), SymOpt(twins, lr=0.1)
    wholes, parts = ([g["params"][0] for g in gs] for gs in (groups, twins))
    for _ in range(2):
        for p, q in zip(wholes, parts, strict=True):
            p.grad = torch.randn(p.shape, generator=draws).to(dtype)
            q.grad = placed(p.grad)
        theirs.step()
        ours.step()
    return error(parts, wholes)


def silent(world: int) -> dict:
    """Collectives of rules for which a part is enough, by rule."""
    from torch.distributed.tensor.debug import CommDebugMode

    placed, found = placing("rows", world), {}
    for name, rule, shape in (
        ("rows", "row_norm", (7, 4)),
        ("entries", "sign", (7, 4)),
        ("experts", "spectral", (4, 6, 3)),
        ("vectors", "adamw", (7,)),
    ):
        p = nn.Parameter(placed(torch.ones(shape)))
        p.grad = placed(torch.arange(1.0, p.numel() + 1).view(shape))
        optimizer = SymOpt([{"params": [p], "rule": rule}])
        with CommDebugMode() as counted:
            optimizer.step()
        found[name] = counted.get_total_counts()
    return found


def partial_gradients(world: int) -> float:
    """A gradient that is still a sum over processes is summed."""
    from torch.distributed.tensor import DTensor, Partial

    placed = placing("rows", world)
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    p, q = nn.Parameter(x), nn.Parameter(placed(x.clone()))
    p.grad = x.cos()
    q.grad = DTensor.from_local(x.cos() / world, q.device_mesh, [Partial()])
    for one in (p, q):
        SymOpt([one], lr=0.1).step()
    return error([q], [p])


# --- processes -----------------------------------------------------------------------


def everything(world: int) -> dict:
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (world,))
    found = {p: training(p, torch.float32, mesh) for p in TRAINED}
    found |= {(p, "exact"): training(p, torch.float64, mesh) for p in ROUNDED}
    found["checkpoint"] = {p: checkpoint(p, mesh) for p in ("symmetric", "aro")}
    found["work"] = work(mesh)
    places = {place: placing(place, world) for place in PLACES}
    found["layouts"] = {
        name: layouts(rule, settings, places[place], dtype)
        for name, rule, settings, place, dtype in arms()
    }
    found["silent"] = silent(world)
    found["partial"] = partial_gradients(world)
    try:
        roles(in_parts(torch.float32, mesh), TOKENS)
    except ValueError as refused:
        found["refused"] = str(refused)
    return found


def process(rank: int, world: int, file: str, results) -> None:
    torch.set_num_threads(1)
    try:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{file}", rank=rank, world_size=world
        )
        results.put((rank, everything(world)))
        torch.distributed.destroy_process_group()
    except BaseException:
        results.put((rank, traceback.format_exc()))


@pytest.fixture(scope="module", params=[2, 3])
def found(request, tmp_path_factory) -> list[dict]:
    """What each process found, by rank. One server imports, and they are its forks."""
    context = multiprocessing.get_context("forkserver")
    modules = ["torch._dynamo", "torch.distributed.fsdp", __name__]
    context.set_forkserver_preload(modules)
    results, file = context.Queue(), tmp_path_factory.mktemp("group") / "file"
    arguments = [(r, request.param, str(file), results) for r in range(request.param)]
    ranks = [context.Process(target=process, args=a) for a in arguments]
    for r in ranks:
        r.start()
    try:
        by_rank: dict = {}
        while len(by_rank) < len(ranks):
            rank, value = results.get(timeout=300)
            assert isinstance(value, dict), value
            by_rank[rank] = value
    finally:
        for r in ranks:
            r.join(timeout=10 if len(by_rank) == len(ranks) else 0)
            r.kill()
    return [by_rank[r] for r in range(len(ranks))]


# --- tests ---------------------------------------------------------------------------


@pytest.mark.parametrize("preset", TRAINED)
def test_a_decoder_is_trained_as_by_one_process(found, preset):
    for mine in found:
        assert mine[preset]["losses"] < 5e-6
        assert mine[preset]["parameters"] < (1e-3 if preset in ROUNDED else 1e-5)
        if preset in ROUNDED:
            assert mine[preset, "exact"]["losses"] < 1e-12
            assert mine[preset, "exact"]["parameters"] < 1e-9


@pytest.mark.parametrize("preset", TRAINED)
def test_state_lies_in_parts_and_comes_back_bit_for_bit(found, preset):
    shares = [mine[preset]["bytes"] for mine in found]
    assert sum(shares) == pytest.approx(1, abs=0.01)
    if len(shares) == 2:
        assert shares[0] == pytest.approx(0.5, abs=0.01)
    assert all(mine[preset]["resumed"] for mine in found)


@pytest.mark.parametrize("preset", ["symmetric", "aro"])
def test_the_gathered_checkpoint_is_that_of_one_process(found, preset):
    for mine in found:
        assert mine["checkpoint"][preset]["distance"] < 1e-7
        assert mine["checkpoint"][preset]["loaded"]


def test_every_rule_on_every_layout_is_as_on_wholes(found):
    for mine in found:
        assert len(mine["layouts"]) == len(list(arms()))
        for name, distance in mine["layouts"].items():
            assert distance < (2e-2 if "bfloat16" in name else 1e-12), name


def test_parts_that_are_enough_say_nothing_and_others_send_twice(found):
    for mine in found:
        assert mine["silent"] == dict.fromkeys(mine["silent"], 0)
        assert mine["work"]["calls"] == {"c10d.alltoall_base_": 2}
        assert mine["partial"] < 1e-6


def test_each_matrix_is_worked_on_once(found):
    per_block = 4 + 2 * EXPERTS["experts"]
    assert sum(m["work"]["matrices"] for m in found) == SIZES["layers"] * per_block


def test_a_sharded_model_has_no_roles(found):
    for mine in found:
        assert "the model is sharded" in mine["refused"]


def test_work_is_dealt_evenly():
    assert sharded.deal([4, 3, 2, 2, 1], 2) == [0, 1, 1, 0, 1]
    assert sharded.deal([1], 3) == [0]


def test_parts_are_those_of_torch():
    from torch.distributed.tensor import Shard

    for length in range(9):
        ours = sharded.Dealt((3, length), 1, 0)
        theirs = [
            Shard(1).local_shard_size_and_offset(length, 4, r)[0] for r in range(4)
        ]
        assert ours.lengths(4) == theirs


# --- the plan of another model -------------------------------------------------------


@pytest.mark.parametrize("preset", ["symmetric", "aro"])
@pytest.mark.parametrize("experts", [{"experts": 0}, EXPERTS])
@pytest.mark.parametrize("name", ["qwen3", "gemma3", "olmoe", "gpt-oss"])
def test_a_plan_on_the_meta_device_is_that_of_the_model(name, experts, preset):
    with torch.device("meta"):
        model = decoder(name=name, **experts)
    groups = param_groups(model, LR, preset=preset, example=TOKENS)
    model = decoder(name=name, **experts)
    assert groups == param_groups(model, LR, preset=preset, example=TOKENS)
    named = [n for g in groups for n in g["param_names"]]
    assert sorted(named) == sorted(n for n, _ in model.named_parameters())


@pytest.mark.parametrize("preset", PRESETS)
def test_groups_by_name_are_what_the_model_gets_itself(preset):
    one, other = decoder(), decoder()
    a = SymOpt(one, LR, preset=preset, example=TOKENS)
    b = SymOpt(other, groups=plan(preset))
    tokens = torch.arange(18).view(2, 9)
    assert [train(one, a, tokens) for _ in "ab"] == [
        train(other, b, tokens) for _ in "ab"
    ]
    assert repr(a) == repr(b)


def test_groups_of_another_model_are_refused():
    groups, model = plan("muon"), decoder()
    with pytest.raises(ValueError, match="no parameter 'blocks.0.feed.gate_up"):
        SymOpt(decoder(experts=0), groups=groups)
    with pytest.raises(ValueError, match="no group has the parameter 'embedding"):
        SymOpt(model, groups=[g for g in groups if g["rule"] != "adamw"])
    with pytest.raises(ValueError, match="say already what is done"):
        SymOpt(model, groups=groups, preset="muon")
    with pytest.raises(ValueError, match="need a model"):
        SymOpt(list(model.parameters()), groups=groups)


def test_parameters_with_names_are_torchs_own_form():
    p = nn.Parameter(torch.ones(3, 2))
    optimizer = SymOpt([{"params": [("w", p)], "rule": "row_norm"}])
    assert optimizer.param_groups[0]["param_names"] == ["w"]
    with pytest.raises(ValueError, match=r"the group of w: spectral centres"):
        SymOpt([{"params": [("w", p)], "options": {"centred": True}}])
