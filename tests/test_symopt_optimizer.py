"""SymOpt as an optimizer: against torch's own, its parts by hand, and bad input."""

import copy
import io
import multiprocessing

import numpy as np
import pytest
import torch
from torch import nn

from symlab import symopt
from symlab.symopt import PRESETS, RULES, SymOpt, describe, job, rules, step

SHAPES = ((24, 8), (8, 24), (12, 12))
MATRIX_RULES = [
    name
    for name, rule in RULES.items()
    if name not in ("bias_rms", "paired_row_norm") and not rule.paired
]


def weights(*shapes, dtype=torch.float32, seed=0) -> list[nn.Parameter]:
    draws = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(s, generator=draws).to(dtype)) for s in shapes]


def train(steps: int, optimizers: list, seed=1, dtype=None) -> None:
    """The same gradients for the parameters of all optimizers."""
    draws = torch.Generator().manual_seed(seed)
    columns = [[p for g in o.param_groups for p in g["params"]] for o in optimizers]
    for _ in range(steps):
        for same in zip(*columns, strict=True):
            gradient = torch.randn(same[0].shape, generator=draws)
            for p in same:
                p.grad = gradient.to(p.dtype)
        for o in optimizers:
            o.step()


def difference(ps, qs) -> float:
    pairs = [(p.detach(), q.detach()) for p, q in zip(ps, qs, strict=True)]
    return max(float((p - q).norm() / q.norm()) for p, q in pairs)


def group(params, rule="spectral", **settings) -> list[dict]:
    """One param_group, with the shift that centred rules ask for."""
    shift = {"shift": True} if rule == "centred_row_norm" else {}
    return [{"params": list(params), "rule": rule, **shift, **settings}]


class Small(nn.Module):
    """An embedding, a gated unit and a head."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(12, 8)
        self.a, self.b, self.c = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(6, 8)
        self.head = nn.Linear(8, 12)

    def forward(self, ids):
        x = self.table(ids)
        return self.head(x + self.c(torch.sigmoid(self.a(x)) * self.b(x)))


def losses(model, opt, steps=5, seed=2) -> list[float]:
    draws, found = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        ids = torch.randint(12, (6, 2), generator=draws)
        loss = nn.functional.cross_entropy(model(ids[:, 0]), ids[:, 1])
        opt.zero_grad()
        loss.backward()
        opt.step()
        found.append(loss.item())
    return found


# --- parity --------------------------------------------------------------------------

MUON = {"scale": "muon", "lr": 0.02, "weight_decay": 0.1}


@pytest.mark.parametrize("nesterov", [True, False])
def test_torch_optim_muon_step_for_step(nesterov, monkeypatch):
    theirs, ours = weights(*SHAPES), weights(*SHAPES)
    muon = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, nesterov=nesterov)
    options = {"method": "newton_schulz", "dtype": torch.bfloat16}
    same = SymOpt(group(ours, options=options, nesterov=nesterov, **MUON))
    train(20, [muon, same])
    assert difference(ours, theirs) < 2e-3  # their iteration is bfloat16

    def single(grad, coefficients, steps, eps):  # their recurrence, in float32
        a, b, c = coefficients
        x = grad.T if grad.size(0) > grad.size(1) else grad
        x = x / x.norm().clamp(min=eps)
        for _ in range(steps):
            gram = x @ x.T
            x = torch.addmm(
                x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a
            )
        return x.T if grad.size(0) > grad.size(1) else x

    monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", single)
    theirs, ours = weights(*SHAPES), weights(*SHAPES)
    muon = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, nesterov=nesterov)
    options = {"method": "newton_schulz"}
    same = SymOpt(group(ours, options=options, nesterov=nesterov, **MUON))
    train(20, [muon, same])
    assert difference(ours, theirs) < 1e-6


def test_adamw_is_torchs_bit_for_bit():
    theirs, ours = weights((6, 4), (5,)), weights((6, 4), (5,))
    settings = {"lr": 3e-3, "weight_decay": 0.2, "betas": (0.8, 0.97), "eps": 1e-6}
    adamw = torch.optim.AdamW(theirs, **settings)
    same = SymOpt(group(ours, "adamw"), **settings)
    train(20, [adamw, same])
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


def test_adamw_reads_gradients_of_any_memory_order():
    """torch's fused form does not, on a CPU: it permutes one in another order."""
    (ours,), (theirs,) = weights((6, 4)), weights((6, 4))
    optimizer = SymOpt([{"params": [ours], "rule": "adamw"}], lr=0.1)
    adamw = torch.optim.AdamW([theirs], lr=0.1, betas=(0.9, 0.95), weight_decay=0.1)
    gradient = torch.arange(24.0).view(4, 6).T - 12
    for p, opt in ((ours, optimizer), (theirs, adamw)):
        for _ in range(3):
            p.grad = gradient
            opt.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    wide = torch.randn(6, 8)
    ours, theirs = (nn.Parameter(wide.clone()[:, ::2]) for _ in range(2))
    optimizer = SymOpt([{"params": [ours], "rule": "adamw"}], lr=0.1)
    adamw = torch.optim.AdamW([theirs], lr=0.1, betas=(0.9, 0.95), weight_decay=0.1)
    for p, opt in ((ours, optimizer), (theirs, adamw)):
        for _ in range(3):
            p.grad = gradient
            opt.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_averaged_and_summed_momentum_agree_for_scale_free_rules():
    """EMA with Nesterov times 1/(1 - beta) is heavy ball with Nesterov."""
    for rule in ("row_norm", "spectral", "freon"):
        a, b = weights(*SHAPES), weights(*SHAPES)
        train(9, [SymOpt(group(a, rule)), SymOpt(group(b, rule, ema=False))])
        assert difference(a, b) < 1e-5


# --- one step by hand ----------------------------------------------------------------


def one_step(shape, rule="spectral", **settings) -> tuple[torch.Tensor, torch.Tensor]:
    """(gradient, the update) of one float64 step of size 1 without momentum."""
    p = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    draws = torch.Generator().manual_seed(0)
    p.grad = torch.randn(shape, generator=draws, dtype=torch.float64)
    settings = {"scale": "none", "momentum": 0.0, "weight_decay": 0.0} | settings
    SymOpt(group([p], rule, lr=1.0, **settings)).step()
    return p.grad, -p.detach()


def test_heads_experts_halves_and_orientation():
    svd = {"options": {"method": "svd"}}
    polar = lambda x: symopt.polar(x, "svd")  # noqa: E731
    g, u = one_step((12, 5), pieces=3, **svd)
    torch.testing.assert_close(u[4:8], polar(g[4:8]))
    g, u = one_step((5, 12), pieces=3, along="columns", **svd)
    torch.testing.assert_close(u[:, 4:8], polar(g[:, 4:8]))
    g, u = one_step((5, 12), pieces=3, rows=1, columns=0, **svd)  # stored transposed
    torch.testing.assert_close(u[:, 4:8], polar(g[:, 4:8]))
    g, u = one_step((3, 8, 5), pieces=2, **svd)  # experts with fused gate and up
    torch.testing.assert_close(u[1, :4], polar(g[1, :4]))
    g, u = one_step((3, 8, 5), pieces=2, along="interleaved rows", **svd)
    torch.testing.assert_close(u[2, ::2], polar(g[2, ::2]))
    g, u = one_step((6, 3, 2, 2), flat=True, **svd)
    torch.testing.assert_close(u.flatten(1), polar(g.flatten(1)))
    g, u = one_step((4, 3), "row_norm", transpose=True)
    torch.testing.assert_close(u, symopt.column_norm(g))
    g, u = one_step((2, 4, 3), "row_norm", rows=2, columns=1)
    torch.testing.assert_close(u[1], symopt.column_norm(g[1]))


def test_scales():
    for name, factor in {"none": 1, "muon": 2**0.5, "scion": 2**0.5, 3.0: 3}.items():
        for shape in ((8, 4), (4, 8)):
            _, u = one_step(shape, scale=name, options={"method": "svd"})
            expected = factor if shape == (8, 4) or name == 3.0 else 1 / factor
            expected = 1 if name == "muon" and shape == (4, 8) else expected
            largest = torch.linalg.matrix_norm(u, 2)
            assert float(largest) == pytest.approx(expected), (name, shape)
            _, turned = one_step(
                shape, scale=name, options={"method": "svd"}, transpose=True
            )
            torch.testing.assert_close(
                turned, u
            )  # outputs and inputs stay what they are


@pytest.mark.parametrize("rule", [r for r in MATRIX_RULES if "executed" not in r])
def test_the_rms_scale_makes_updates_as_large_as_adamws(rule):
    for shape in ((30, 10), (10, 30)):
        _, u = one_step(shape, rule, scale="rms")
        rms = float(u.square().mean().sqrt())
        exact = rule in ("row_norm", "sign", "normuon", "aro", "freon", "kaon")
        assert rms == pytest.approx(0.2, rel=1e-9 if exact else 0.05)


def test_decay_is_decoupled_and_maximize_climbs():
    up, down = weights((4, 4)), weights((4, 4))
    start = up[0].detach().clone()
    plain = {"lr": 0.1, "weight_decay": 0.5}
    train(1, [SymOpt(group(up), maximize=True, **plain), SymOpt(group(down), **plain)])
    middle = (up[0] + down[0]) / 2
    torch.testing.assert_close(middle.detach(), start * (1 - 0.1 * 0.5))
    assert difference(up, down) > 0.01


@pytest.mark.parametrize("rule", MATRIX_RULES)
def test_momentum_is_the_average_of_gradients_whatever_the_rule(rule):
    """Rules leave what they are given alone."""
    p = weights((6, 4))
    opt = SymOpt(group(p, rule))
    average, draws = torch.zeros(6, 4), torch.Generator().manual_seed(5)
    for _ in range(4):
        p[0].grad = torch.randn(6, 4, generator=draws)
        before = p[0].grad.clone()
        opt.step()
        average.lerp_(before, 0.05)
        assert torch.equal(p[0].grad, before)
    torch.testing.assert_close(opt.state[p[0]]["momentum_buffer"], average)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rule", MATRIX_RULES)
def test_zero_gradients_move_nothing_and_steps_are_finite(rule, dtype):
    ps = weights((6, 4), (3, 4, 5), dtype=dtype)
    start = [p.detach().clone() for p in ps]
    opt = SymOpt(group(ps, rule, weight_decay=0.0), lr=0.1)
    for p in ps:
        p.grad = torch.zeros_like(p)
    opt.step()
    assert all(torch.equal(p, s) for p, s in zip(ps, start, strict=True))
    train(3, [opt])
    assert all(torch.isfinite(p).all() for p in ps)
    assert all(not torch.equal(p, s) for p, s in zip(ps, start, strict=True))


# --- batching ------------------------------------------------------------------------


@pytest.mark.parametrize("rule", MATRIX_RULES)
def test_a_batch_is_as_each_alone(rule, monkeypatch):
    shapes = ((6, 4), (6, 4), (2, 6, 4), (4, 6))
    together, alone, cut = weights(*shapes), weights(*shapes), weights(*shapes)
    kind = {"weight_decay": 0.1}
    opts = [SymOpt(group(together, rule, **kind), lr=0.1)]
    opts += [SymOpt([g for p in alone for g in group([p], rule, **kind)], lr=0.1)]
    train(3, opts)
    assert difference(together, alone) < 1e-6
    monkeypatch.setitem(step.MOST, "cpu", 30)
    train(3, [SymOpt(group(cut, rule, **kind), lr=0.1)])
    assert difference(together, cut) < 1e-5


def test_one_call_for_equal_shapes_across_parameters_and_groups(monkeypatch):
    seen = []
    row_norm = RULES["row_norm"]
    spy = copy.copy(row_norm)
    object.__setattr__(
        spy, "map", lambda x, floor=0.0: seen.append(x.shape) or row_norm.map(x)
    )
    monkeypatch.setitem(RULES, "row_norm", spy)
    a, b, c, d = weights((6, 4), (6, 4), (3, 6, 4), (5, 4))
    groups = group([a, d], "row_norm") + group([b, c], "row_norm", lr=0.5)
    opt = SymOpt(groups)
    train(1, [opt])
    seen.clear()  # it was tried on small matrices before the first step
    train(1, [opt])
    assert sorted(seen) == [(1, 5, 4), (5, 6, 4)]
    monkeypatch.setitem(step.MOST, "cpu", 100)  # the bound on one call's entries
    seen.clear()
    train(1, [opt])
    assert sorted(seen) == [(1, 5, 4), (2, 6, 4), (3, 6, 4)]


def stepped_rows(rows_from, monkeypatch, dtype=torch.float32, size=1.0, **settings):
    """Four steps of row_norm, row by row from `rows_from` entries on."""
    monkeypatch.setattr(job, "ROWS_FROM", rows_from)
    draws = torch.Generator().manual_seed(0)
    p = nn.Parameter(torch.randn(300, 40, generator=draws).to(dtype))
    opt = SymOpt(group([p], "row_norm", **settings), lr=0.1)
    for _ in range(4):
        sizes = size * torch.logspace(0, -6, 300)[:, None]
        p.grad = (sizes * torch.randn(300, 40, generator=draws)).to(dtype)
        p.grad[7] = 0
        opt.step()
    return p.detach(), opt.state[p].get("momentum_buffer")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"nesterov": False},
        {"ema": False},
        {"momentum": 0.0},
        {"maximize": True},
        {"options": {"floor": 1e-3}, "weight_decay": 0.0},
        {"options": {"centred": False}},
        {"options": {"centred": True}, "shift": True},
        {"options": {"centred": True, "floor": 1e-3}, "shift": True, "ema": False},
        {"options": {"centred": True}, "shift": True, "nesterov": False},
        {"options": {"centred": True}, "shift": True, "momentum": 0.0},
        {"rows": 0, "columns": 1},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_large_tables_are_stepped_row_by_row_to_the_same(settings, dtype, monkeypatch):
    monkeypatch.setattr(rules, "CACHED", 400)  # several parts
    seen = []
    by_rows = step._step_rows
    monkeypatch.setattr(step, "_step_rows", lambda *a: seen.append(1) or by_rows(*a))
    a, buffer = stepped_rows(0, monkeypatch, dtype, **settings)
    assert len(seen) == 4
    b, same = stepped_rows(10**9, monkeypatch, dtype, **settings)
    assert len(seen) == 4
    limit = {torch.float32: 2e-6, torch.float64: 1e-12, torch.bfloat16: 4e-2}[dtype]
    torch.testing.assert_close(a, b, rtol=limit, atol=limit)
    assert buffer is same is None or torch.equal(buffer, same)


def test_pieces_of_a_large_table_have_rows_of_their_own(monkeypatch):
    kind = {"pieces": 2, "along": "columns"}
    a, _ = stepped_rows(0, monkeypatch, **kind)
    b, _ = stepped_rows(10**9, monkeypatch, **kind)
    assert torch.equal(a, b)


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e6, 1e30])
@pytest.mark.parametrize("rows_from", [0, 10**9])
@pytest.mark.parametrize("centred", [False, True])
def test_row_steps_do_not_depend_on_the_gradients_size(
    size, rows_from, centred, monkeypatch
):
    kind = {"options": {"floor": 1e-3, "centred": centred}, "shift": True}
    a, _ = stepped_rows(rows_from, monkeypatch, size=size, **kind)
    b, _ = stepped_rows(rows_from, monkeypatch, **kind)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# --- as any torch optimizer ----------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_a_saved_run_goes_on_bit_for_bit(preset):
    torch.manual_seed(0)
    model = Small()
    opt = SymOpt(model, lr=1e-3, preset=preset)
    losses(model, opt, 3)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": opt.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = Small()
    other.load_state_dict(saved["model"])
    again = SymOpt(other, lr=7.0, preset=preset)
    again.load_state_dict(saved["optimizer"])
    assert losses(model, opt, 4, seed=3) == losses(other, again, 4, seed=3)
    twin = copy.deepcopy((model, opt))
    assert losses(model, opt, 2, seed=4) == losses(*twin, 2, seed=4)


def test_state_keeps_its_dtype_beside_half_precision_weights():
    p = weights((6, 4), dtype=torch.bfloat16)
    opt = SymOpt(group(p, "aro"))
    train(2, [opt])
    again = SymOpt(group(p, "aro"))
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    for name, value in opt.state[p[0]].items():
        assert again.state[p[0]][name].dtype == value.dtype, name
        assert torch.equal(again.state[p[0]][name], value), name


def test_schedulers_move_every_group_and_lr_scales_stay():
    model = Small()
    opt = SymOpt(model, lr=1e-2)
    first = {g["role"]: g["lr"] for g in opt.param_groups}
    assert first["embedding"] == pytest.approx(3 * first["gate"])
    scheduler = torch.optim.lr_scheduler.LambdaLR(opt, lambda t: 0.5**t)
    losses(model, opt, 1)
    scheduler.step()
    assert {g["role"]: g["lr"] for g in opt.param_groups} == {
        role: lr / 2 for role, lr in first.items()
    }
    torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.1, total_steps=3)


def test_gradient_accumulation_scaler_frozen_and_missing_gradients():
    torch.manual_seed(0)
    model = Small()
    twin = copy.deepcopy(model)
    opts = [SymOpt(m, lr=1e-2) for m in (model, twin)]
    x, y = torch.arange(8), torch.arange(8) + 1
    whole = nn.functional.cross_entropy(model(x), y)
    whole.backward()
    for half in (slice(0, 4), slice(4, 8)):
        (nn.functional.cross_entropy(twin(x[half]), y[half]) / 2).backward()
    for opt in opts:
        opt.step()
    assert difference(model.parameters(), twin.parameters()) < 1e-5

    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = copy.deepcopy(model.state_dict())
    for bad in (True, False):
        opts[0].zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss * (float("inf") if bad else 1.0)).backward()
        scaler.step(opts[0])
        scaler.update()
        same = [torch.equal(v, before[n]) for n, v in model.state_dict().items()]
        assert all(same) if bad else not any(same)

    model.table.weight.requires_grad_(False)
    model.head.bias.grad = None
    frozen = model.table.weight.clone()
    model.table.weight.grad = None
    opts[0].step()
    assert torch.equal(model.table.weight, frozen)
    fresh = SymOpt(model)
    fresh.step()
    assert model.head.bias not in fresh.state


def test_a_closure_is_called_and_its_loss_returned():
    p = weights((4, 4))
    opt = SymOpt(group(p))

    def closure():
        opt.zero_grad()
        loss = p[0].square().sum()
        loss.backward()
        return loss

    first = opt.step(closure)
    assert opt.step(closure).item() < first.item()


def _train_one_of_two(rank: int, port: int, results) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(Small())
    opt = SymOpt(model, lr=1e-2, example=torch.arange(4))
    x, y = torch.arange(8), torch.arange(8) + 1
    for _ in range(3):
        opt.zero_grad()
        part = slice(4 * rank, 4 * rank + 4)
        nn.functional.cross_entropy(model(x[part]), y[part]).backward()
        opt.step()
    results.put((rank, [p.detach().numpy() for p in model.module.parameters()]))
    dist.destroy_process_group()


def test_two_processes_are_as_one():
    """DistributedDataParallel over gloo: replicas agree, and with a single process."""
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", __name__])  # imported once
    results = context.Queue()
    ranks = [
        context.Process(target=_train_one_of_two, args=(r, port, results))
        for r in range(2)
    ]
    for r in ranks:
        r.start()
    found = dict(results.get(timeout=120) for _ in ranks)
    for r in ranks:
        r.join(timeout=60)
    torch.manual_seed(0)
    model = Small()
    opt = SymOpt(model, lr=1e-2, example=torch.arange(4))
    x, y = torch.arange(8), torch.arange(8) + 1
    for _ in range(3):
        opt.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        opt.step()
    for a, b, p in zip(found[0], found[1], model.parameters(), strict=True):
        assert np.array_equal(a, b)
        np.testing.assert_allclose(a, p.detach().numpy(), atol=1e-5)


@pytest.mark.filterwarnings("ignore::Warning")  # of the compiler itself
def test_compiled_rules_are_the_same():
    torch._dynamo.reset()
    a, b = weights(*SHAPES), weights(*SHAPES)
    opts = [SymOpt(group(a), compile=True), SymOpt(group(b))]
    train(3, opts)
    assert difference(a, b) < 1e-5


# --- describe, presets, overrides ----------------------------------------------------


def test_describe_says_what_the_optimizer_does():
    model = Small()
    table = describe(model, 1e-2, preset="symmetric").set_index("name")
    assert list(table.columns) == [
        "shape", "role", "group", "rule", "lr", "weight_decay", "note",
    ]  # fmt: skip
    assert set(table.index) == {n for n, _ in model.named_parameters()}
    opt = SymOpt(model, 1e-2)
    for g in opt.param_groups:
        for name in g["param_names"]:
            row = table.loc[name]
            assert row["rule"].split(" ")[0] == g["rule"]
            assert (row["lr"], row["weight_decay"]) == (g["lr"], g["weight_decay"])
            assert row["role"] == g["role"]
    assumed = "assumes a softmax over the outputs"
    assert table.loc["head.weight", "note"].startswith(assumed)
    assert (table.note.drop("head.weight") == "").all()  # rules respect their groups
    assert table.weight_decay.to_dict() == {
        n: 0.1 if n in ("a.weight", "b.weight", "c.weight") else 0.0
        for n in table.index
    }
    adamw = describe(model, preset="adamw").set_index("name")
    assert "rotation of inputs" in adamw.loc["table.weight", "note"]
    muon = describe(model, preset="muon").set_index("name")
    assert muon.loc["head.weight", "rule"] == "adamw"


def test_overrides_by_role_and_by_name():
    model = Small()
    overrides = {
        "gate": {"rule": "freon", "q": 0.5, "lr": 0.7, "weight_decay": 0.0},
        "a.*": {"method": "gram"},
        "head": "adamw",
    }
    table = describe(model, overrides=overrides).set_index("name")
    assert table.loc["a.weight", "rule"] == "freon (method=gram, q=0.5)"
    assert table.loc["a.weight", ["lr", "weight_decay"]].tolist() == [0.7, 0.0]
    assert table.loc["head.weight", "rule"] == "adamw"
    losses(model, SymOpt(model, overrides=overrides), 2)
    with pytest.raises(ValueError, match="'heads' is no role and fits no parameter"):
        describe(model, overrides={"heads": "adamw"})
    with pytest.raises(ValueError, match="unknown preset 'moun'"):
        SymOpt(model, preset="moun")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_learns(preset):
    torch.manual_seed(0)
    model = Small()
    lr = {"ssd": 0.1, "polargrad": 0.1}.get(preset, 3e-4 if "scion" in preset else 0.02)
    opt = SymOpt(model, lr=lr, preset=preset, weight_decay=0.0)
    x, y = torch.arange(11), torch.arange(11) + 1
    for _ in range(60):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
    assert loss.item() < 0.5  # from log 12 = 2.5


# --- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "settings", "message"),
    [
        ([torch.zeros(5)], {}, r"is a vector, and spectral is for matrices"),
        ([torch.zeros(4, 4, dtype=torch.complex64)], {}, "is complex"),
        ([torch.zeros(4, 4)], {"rule": "spectrul"}, "unknown rule 'spectrul'"),
        ([torch.zeros(4, 4)], {"options": {"step": 1}}, "'step': did you mean 's"),
        ([torch.zeros(5, 4)], {"pieces": 3}, "5 rows do not make 3 equal pieces"),
        ([torch.zeros(4, 4)], {"scale": "adam"}, "unknown scale 'adam'"),
        ([torch.zeros(4, 4)], {"along": "rws", "pieces": 2}, "unknown along 'rws'"),
        (
            [torch.zeros(4, 4)],
            {"rule": "row_norm", "options": {"centred": True}},
            "has no shift symmetry",
        ),
        (
            [torch.zeros(4, 4)],
            {"rule": "paired_row_norm", "role": "gate"},
            "is for a fused gate and up",
        ),
    ],
)
def test_bad_groups_get_one_clear_error(params, settings, message):
    params = [nn.Parameter(p) for p in params]
    with pytest.raises(ValueError, match=message):
        SymOpt([{"params": params, **settings}])


def test_other_bad_input():
    model = Small()
    with pytest.raises(ValueError, match="has no shift symmetry"):
        SymOpt(model, overrides={"embedding": {"centred": True}})
    SymOpt(model, overrides={"embedding": {"centred": True, "shift": True}})
    both = torch.zeros(8, 4)
    parts = [nn.Parameter(both[:5]), nn.Parameter(both[3:])]
    with pytest.raises(ValueError, match="share memory"):
        SymOpt(parts)
    SymOpt([nn.Parameter(both[:4]), nn.Parameter(both[4:])])  # side by side is fine
    sparse = nn.Embedding(5, 3, sparse=True)
    sparse(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse=False"):
        SymOpt(sparse, example=torch.tensor([1])).step()
    with pytest.raises(ValueError, match="lr must be 0 or more"):
        SymOpt(model, lr=-1.0)
    with pytest.raises(ValueError, match="need a model"):
        SymOpt(weights((3, 3)), preset="muon")
    opt = SymOpt(weights((3, 3)))
    with pytest.raises(ValueError, match="is a vector"):
        opt.add_param_group({"params": weights((3,))})
    assert len(opt.param_groups) == 1  # as before
