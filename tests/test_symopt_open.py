"""SymOpt for people who bring something: rules, states, settings, compiled shapes."""

import copy
import io
import pickle
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from symlab.symopt import RULES, Rule, SymOpt, compiling, describe, polar, size
from symlab.symopt.rule import NONE, PERMUTATION, ROTATION, SIGNED


def weights(*shapes, dtype=torch.float32, seed=0) -> list[nn.Parameter]:
    draws = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(s, generator=draws).to(dtype)) for s in shapes]


def train(optimizer, steps: int = 3, seed: int = 1) -> None:
    draws = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in (p for g in optimizer.param_groups for p in g["params"]):
            p.grad = torch.randn(p.shape, generator=draws).to(p.dtype)
        optimizer.step()


class Head(nn.Module):
    """A head over the tokens of an embedding, and a hidden matrix."""

    def __init__(self):
        super().__init__()
        self.table, self.hidden = nn.Embedding(12, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 12, bias=False)

    def forward(self, ids):
        return self.head(torch.tanh(self.hidden(self.table(ids))))


# --- rules from outside --------------------------------------------------------------


def half_sign(x):
    """A rule of ten lines: half of the sign of each entry."""
    return 0.5 * x.sign()


HALF = Rule(
    "half_sign",
    half_sign,
    rows=SIGNED,
    columns=SIGNED,
    sized="entries",
    entrywise=True,
)


def averaged(x, second=None, *, beta=0.9):
    """A rule with a state: rows over the root of their averaged mean square."""
    second = beta * second + (1 - beta) * x.square().mean(-1, keepdim=True)
    return x / (second.sqrt() + 1e-30), second


AVERAGED = Rule(
    "averaged",
    averaged,
    rows=PERMUTATION,
    columns=ROTATION,
    sized="rows",
    state={"second": lambda m, n, **kind: torch.zeros(m, 1, **kind)},
)


def test_a_rule_from_outside_is_stepped_like_one_from_inside():
    (p,), (q,) = weights((6, 4)), weights((6, 4))
    ours = SymOpt([{"params": [p], "rule": HALF, "scale": "rms"}], lr=0.1)
    theirs = SymOpt([{"params": [q], "rule": "sign", "scale": 0.1}], lr=0.1)
    train(ours), train(theirs)
    torch.testing.assert_close(p, q, rtol=0, atol=1e-7)  # 0.5 x 0.2 is 0.1


def test_a_built_in_rule_is_made_of_nothing_else():
    """The same map under another name takes the same steps, bit for bit."""
    shapes = ((6, 4), (4, 6), (3, 2, 4), (6, 4))
    for name, rule in RULES.items():
        if rule.paired:
            continue  # of two parameters: test_symopt_low_rank
        fields = {f: getattr(rule, f) for f in Rule.__dataclass_fields__}
        copied = Rule(**(fields | {"name": f"my_{name}"}))
        sides = []
        for r in (name, copied):
            ps = weights(*shapes)
            train(SymOpt([{"params": ps, "rule": r, "shift": True}], lr=0.1))
            sides.append(ps)
        for p, q in zip(*sides, strict=True):
            assert torch.equal(p, q), name


def test_its_state_is_saved_under_its_own_names_and_comes_back_bit_for_bit():
    (p,) = weights((6, 4))
    one = SymOpt([{"params": [p], "rule": AVERAGED}], lr=0.1)
    train(one)
    assert set(one.state[p]) == {"momentum_buffer", "second"}
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)  # names and numbers, no code
    q = nn.Parameter(p.detach().clone())
    other = SymOpt([{"params": [q], "rule": AVERAGED}], lr=0.1)
    other.load_state_dict(saved)
    train(one, seed=5), train(other, seed=5)
    assert torch.equal(p, q)
    stranger = SymOpt([nn.Parameter(p.detach().clone())])
    with pytest.raises(ValueError, match="does not know; give it the Rule"):
        stranger.load_state_dict(saved)


def test_optimizers_with_such_a_rule_can_be_copied_and_pickled():
    (p,) = weights((6, 4))
    one = SymOpt([{"params": [p], "rule": HALF}], lr=0.1)
    train(one)
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        train(other)
        assert other.param_groups[0]["rule"] == "half_sign"


def test_a_model_takes_rules_by_role_and_describe_says_what_they_break():
    model, ids = Head(), torch.arange(12)[None]
    overrides = {"matrix": HALF, "head": {"rule": AVERAGED, "beta": 0.5}}
    table = describe(model, overrides=overrides, example=ids).set_index("name")
    assert table.loc["hidden.weight", "rule"] == "half_sign"
    broken = "does not respect: rotation of outputs, rotation of inputs"
    assert broken in table.loc["hidden.weight", "note"]
    assert table.loc["head.weight", "rule"] == "averaged (beta=0.5)"
    assert "shift of outputs" in table.loc["head.weight", "note"]
    optimizer = SymOpt(model, overrides=overrides, example=ids)
    before = model.head.weight.detach().clone()
    model(ids).square().sum().backward()
    optimizer.step()
    assert not torch.equal(before, model.head.weight)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "adamw"}, "cannot have the name"),
        ({"rows": "rotations"}, "did you mean 'rotation'"),
        ({"sized": "row"}, "did you mean 'rows'"),
        ({"map": 3}, "must be a function"),
        ({"map": lambda x: x[:, :2]}, "must keep each"),
        ({"map": lambda x: x @ x}, "fails on a small matrix"),
        ({"map": lambda x, flor=0.0: x, "name": "spectral"}, "another rule"),
        ({"state": {"second": lambda m, n, **k: torch.zeros(m, **k)}}, "fails on"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_when_it_is_made(fields, message):
    kind = {"name": "mine", "map": lambda x: x, "rows": NONE, "columns": NONE}
    with pytest.raises(ValueError, match=message):
        SymOpt([{"params": weights((4, 4)), "rule": Rule(**(kind | fields))}])


def test_sizes_by_hand():
    """Of one matrix and of a 3 x 3 convolution, from the sources' formulas."""
    assert size((6, 24), "muon") == 1.0
    assert size((24, 6), "muon") == 2.0
    assert size((6, 24), "rms") == pytest.approx(0.2 * 24**0.5)
    assert size((64, 32 * 9), "scion", kernel=9) == pytest.approx(2**0.5 / 9)
    assert size((64, 32), "scion") == pytest.approx(2**0.5)
    assert size((5, 16), "scion", "rows") == 4.0
    assert size((5, 16), 0.3, "entries") == 0.3
    with pytest.raises(ValueError, match="did you mean 'scion'"):
        size((5, 16), "scoin")


# --- one weight that holds several ---------------------------------------------------

PARTS = (
    {"role": "query", "start": 0, "length": 6, "rule": "spectral", "pieces": 2},
    {"role": "value", "start": 6, "length": 2, "rule": "spectral"},
    {"role": "gate", "start": 8, "length": 5, "rule": "row_norm"},
)


@pytest.mark.parametrize("axis", [0, 1])
def test_each_part_of_a_weight_has_its_own_rule(axis):
    """As three weights of their own, with the state of each under its number."""
    shape = (13, 7) if axis == 0 else (7, 13)
    (whole,) = weights(shape)
    cut = [whole.detach().narrow(axis, p["start"], p["length"]) for p in PARTS]
    alone = [nn.Parameter(c.clone().contiguous()) for c in cut]
    axes = {"rows": axis, "columns": 1 - axis}
    groups = [
        {"params": [w], "rule": p["rule"], "pieces": p.get("pieces", 1), **axes}
        for w, p in zip(alone, PARTS, strict=True)
    ]
    fused = SymOpt(
        [{"params": [whole], "rule": "by parts", "parts": PARTS, **axes}], lr=0.1
    )
    apart = SymOpt(groups, lr=0.1)
    draws = torch.Generator().manual_seed(3)
    for _ in range(3):
        whole.grad = torch.randn(shape, generator=draws)
        for w, p in zip(alone, PARTS, strict=True):
            w.grad = whole.grad.narrow(axis, p["start"], p["length"]).clone()
        fused.step(), apart.step()
    joined = torch.cat([w.detach() for w in alone], axis)
    torch.testing.assert_close(whole.detach(), joined, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (PARTS[:2], "8 rows, and it has 13"),
        ((PARTS[0], PARTS[2]), "leave out or repeat rows from 6"),
        ((PARTS[0] | {"rule": "spectrol"},), "did you mean 'spectral'"),
        ((PARTS[0] | {"peices": 2},), "did you mean 'pieces'"),
        ((PARTS[0] | {"length": -6},), "length must be a whole number above 0"),
    ],
)
def test_parts_must_cover_the_weight(parts, message):
    with pytest.raises(ValueError, match=message):
        SymOpt([{"params": weights((13, 7)), "rule": "by parts", "parts": parts}])


# --- what a group may say ------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pieces": 0}, "pieces must be a whole number above 0"),
        ({"pieces": 1.5}, "pieces must be a whole number above 0"),
        ({"momentum": 1.0}, "momentum must be 0 or more and below 1"),
        ({"lr": float("nan")}, "lr must be 0 or more and finite"),
        ({"lr": "fast"}, "lr must be a number"),
        ({"weight_decay": -0.1}, "weight_decay must be 0 or more"),
        ({"radius": 0.0}, "radius must be a number above 0"),
        ({"scale": -1.0}, "scale must be a number above 0"),
        ({"options": {"steps": 0}}, "steps must be a whole number above 0"),
        ({"options": {"method": "newton_shulz"}}, "did you mean 'newton_schulz'"),
        ({"options": {"cutoff": 2.0}}, "cutoff is relative"),
        ({"nestrov": False}, "did you mean 'nesterov'"),
        ({"rule": "row_norm", "options": {"floor": -1.0}}, "floor must be 0 or more"),
        ({"rule": "normuon", "options": {"beta2": 1.0}}, "beta2 = 1.0 is not in"),
        ({"rule": "freon", "options": {"q": 0.0}}, "no Schatten exponent"),
        ({"rule": "aro", "options": {"base": "sinkhor"}}, "did you mean 'sinkhorn'"),
        ({"rule": "adamw", "betas": (1.5, 0.9)}, "each of betas must be"),
        ({"rule": "adamw", "eps": -1.0}, "eps must be 0 or more"),
        ({"lr": "0.1"}, "lr must be a number, not '0.1'"),
        ({"weight_decay": "0.1"}, "weight_decay must be a number"),
        ({"nesterov": "no"}, "nesterov must be True or False"),
        ({"shift": "no"}, "shift must be True or False"),
        ({"pieces": True}, "pieces must be a whole number"),
        ({"base_lr": -1.0}, "base_lr must be 0 or more"),
        ({"rows": 5}, "has no axis 5"),
        ({"rows": 0, "columns": 0}, "two different axes"),
        ({"rows": 0, "columns": -2}, "the same axis"),
        ({"inner_axes": (0, 0)}, "two different axes"),
        ({"role": "heed"}, "did you mean 'head'"),
        ({"options": None}, "options must be a dict"),
        ({"options": {"alpha": float("nan")}}, "alpha must be a finite number"),
        ({"options": {"centred": "no"}}, "centred must be True or False"),
        ({"scale": None}, "scale must be a name or a number"),
    ],
)
def test_settings_are_checked_when_the_optimizer_is_made(settings, message):
    with pytest.raises(ValueError, match=message):
        SymOpt([{"params": weights((6, 6)), **settings}])
    late = SymOpt(weights((6, 6)))
    late.param_groups[0].update(settings)
    if not {"rule", "nestrov"} & set(settings):  # people may add keys then
        with pytest.raises(ValueError, match=message):
            train(late)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"matrix": {"nestrov": False}}, "'matrix': .*did you mean 'nesterov'"),
        ({"matrix": {"method": "svdd"}}, "did you mean 'svd'"),
        ({"matrix": {"momentum": -0.1}}, "momentum must be 0 or more"),
        ({"matrix": {"lr": -1.0}}, "lr must be 0 or more"),
        ({"matrix": "spectrall"}, "did you mean 'spectral'"),
        ({"metrix": "adamw"}, "did you mean 'matrix'"),
        ({"bias": {"method": "svd"}}, "gives 'method' to AdamW"),
    ],
)
def test_overrides_are_checked_likewise(overrides, message):
    ids = torch.arange(12)[None]
    for use in (describe, SymOpt):
        with pytest.raises(ValueError, match=message):
            use(Head(), overrides=overrides, example=ids)


def test_arguments_and_steps_of_polar_are_checked():
    for wrong in ({"betas": (1.5, 0.9)}, {"eps": -1.0}, {"lr": -1.0}):
        with pytest.raises(ValueError, match="must be 0 or more"):
            SymOpt(weights((4, 4)), **wrong)
    with pytest.raises(ValueError, match="steps must be"):
        polar(torch.randn(4, 6), steps=0)


# --- what cannot be stepped ----------------------------------------------------------


@pytest.mark.parametrize("rule", ["spectral", "freon", "row_then_spectral", "kaon"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_moves_nothing(rule, bad):
    first, second, bias = weights((6, 6), (4, 6), (4,))
    groups = [{"params": [("bias", bias)], "rule": "adamw"}]
    groups.append({"params": [("one", first), ("two", second)], "rule": rule})
    optimizer = SymOpt(groups)
    train(optimizer, 2)
    before = copy.deepcopy([first, second, bias]), copy.deepcopy(optimizer.state_dict())
    second.grad[1, 2] = bad
    with pytest.raises(RuntimeError, match=r"gradient of two \(4, 6\) is not finite"):
        optimizer.step()
    for p, q in zip((first, second, bias), before[0], strict=True):
        assert torch.equal(p, q)
    now = optimizer.state_dict()["state"]
    for i, state in before[1]["state"].items():
        assert all(torch.equal(v, now[i][k]) for k, v in state.items())


def test_a_sparse_gradient_moves_nothing():
    (matrix,) = weights((6, 4))
    table = nn.Embedding(5, 3, sparse=True)
    optimizer = SymOpt([matrix, table.weight])
    matrix.grad = torch.ones(6, 4)
    table(torch.tensor([1])).sum().backward()
    before = matrix.detach().clone()
    with pytest.raises(RuntimeError, match="sparse=False"):
        optimizer.step()
    assert torch.equal(matrix, before)


def test_a_matrix_without_entries_is_stepped_over():
    full, empty = weights((6, 4), (0, 4))
    optimizer = SymOpt([full, empty])
    train(optimizer, 2)
    assert full.isfinite().all()


@pytest.mark.parametrize("rule", ["spectral", "adamw"])
def test_a_change_of_shape_moves_nothing(rule):
    """A state of another shape must not be written over: it would leave its memory."""
    first, second = weights((6, 4), (5, 3))
    optimizer = SymOpt([{"params": [first, second], "rule": rule}])
    train(optimizer)
    before = first.detach().clone()
    second.data = torch.zeros(50, 30)
    second.grad = torch.ones(50, 30)
    with pytest.raises(RuntimeError, match="no parameter was moved"):
        optimizer.step()
    assert torch.equal(first, before)


@pytest.mark.parametrize("rule", ["spectral", "normuon", "row_norm", "adamw"])
def test_a_change_of_precision_between_steps_casts_the_state(rule):
    model = nn.Linear(6, 4, bias=False)
    optimizer = SymOpt([{"params": [model.weight], "rule": rule}])
    train(optimizer)
    model.bfloat16()
    train(optimizer)
    name = "exp_avg" if rule == "adamw" else "momentum_buffer"
    assert optimizer.state[model.weight][name].dtype == torch.bfloat16
    assert model.weight.isfinite().all()


def test_a_rule_that_changes_between_steps_begins_anew():
    (p,) = weights((6, 4))
    optimizer = SymOpt([{"params": [p], "rule": "normuon"}])
    group = optimizer.param_groups[0]
    for rule, names in (
        ("spectral", {"momentum_buffer"}),
        ("adamw", {"step", "exp_avg", "exp_avg_sq"}),
        ("normuon", {"momentum_buffer", "second"}),
    ):
        train(optimizer, 2)
        group["rule"] = rule
        train(optimizer, 1)
        assert set(optimizer.state[p]) == names
    again = SymOpt([{"params": [p], "rule": "normuon"}])
    again.load_state_dict(optimizer.state_dict())


def test_a_rate_that_is_no_number_moves_nothing():
    (p,) = weights((6, 4))
    optimizer = SymOpt([p])
    train(optimizer)
    before = p.detach().clone()
    optimizer.param_groups[0]["lr"] = float("nan")
    with pytest.raises(ValueError, match="lr must be 0 or more and finite"):
        optimizer.step()
    assert torch.equal(p, before)


# --- states --------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["spectral", "normuon", "adamw"])
@pytest.mark.parametrize(
    ("was", "now"),
    [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)],
)
def test_a_state_of_another_precision_is_cast(rule, was, now):
    (p,) = weights((4, 6), dtype=was)
    one = SymOpt([{"params": [p], "rule": rule}])
    train(one)
    (q,) = weights((4, 6), dtype=now)
    other = SymOpt([{"params": [q], "rule": rule}])
    other.load_state_dict(one.state_dict())
    name = "exp_avg" if rule == "adamw" else "momentum_buffer"
    assert other.state[q][name].dtype == now
    expected = one.state[p][name].to(now)
    assert torch.equal(other.state[q][name], expected)
    train(other)
    assert q.isfinite().all()


def named(*pairs, **settings) -> dict:
    return {"params": list(pairs), **settings}


def test_a_state_goes_to_the_parameters_of_its_names():
    a, b = weights((6, 6), (6, 6))
    one = SymOpt([named(("a", a), lr=0.1), named(("b", b), rule="row_norm", lr=0.2)])
    train(one)
    c, d = (nn.Parameter(p.detach().clone()) for p in (a, b))
    other = SymOpt([named(("b", d), rule="row_norm"), named(("a", c))])
    other.load_state_dict(one.state_dict())
    for new, old in ((c, a), (d, b)):
        kept = other.state[new]["momentum_buffer"]
        assert torch.equal(kept, one.state[old]["momentum_buffer"])
    said = [(g["rule"], g["lr"], g["param_names"]) for g in other.param_groups]
    assert said == [("row_norm", 0.2, ["b"]), ("spectral", 0.1, ["a"])]
    for pair in ((a, c), (b, d)):
        for p in pair:
            p.grad = torch.ones(6, 6)
    one.step(), other.step()
    assert torch.equal(a, c)
    assert torch.equal(b, d)


def test_states_that_belong_elsewhere_are_refused_with_one_sentence():
    a, b = weights((6, 6), (6, 6))
    one = SymOpt([named(("a", a)), named(("b", b), rule="normuon")])
    train(one)
    saved = one.state_dict()
    cases = [
        ([named(("a", a), ("b", b))], "'a' and 'b' are in one group here"),
        ([named(("a", a)), named(("c", b))], "has nothing of 'c'"),
        ([named(("a", a))], "has no parameter 'b'"),
        ([{"params": [a, b]}], "groups of \\[1, 1\\] parameters"),
    ]
    for groups, message in cases:
        with pytest.raises(ValueError, match=message):
            SymOpt(groups).load_state_dict(saved)
    wide = weights((6, 7), (6, 6))
    with pytest.raises(ValueError, match=r"has the shape \(6, 6\), and a has"):
        SymOpt(
            [named(("a", wide[0])), named(("b", wide[1]), rule="normuon")]
        ).load_state_dict(saved)
    other = copy.deepcopy(saved)
    other["param_groups"][1]["rule"] = "row_norm"  # its statistic is NorMuon's
    with pytest.raises(ValueError, match="has 'second', and the rule 'row_norm' has"):
        SymOpt([named(("a", a)), named(("b", b))]).load_state_dict(other)


def test_a_state_that_is_refused_leaves_the_optimizer_as_it_was():
    a, b = weights((6, 6), (6, 6))
    one = SymOpt([named(("a", a)), named(("b", b))], lr=0.1)
    train(one)
    saved, before = copy.deepcopy(one.state_dict()), copy.deepcopy(one.state_dict())
    saved["param_groups"][0]["lr"] = 0.7
    saved["param_groups"][1]["momentum"] = -3.0
    with pytest.raises(ValueError, match="momentum must be 0 or more"):
        one.load_state_dict(saved)
    now = one.state_dict()
    assert now["param_groups"] == before["param_groups"]
    for i, state in before["state"].items():
        assert all(torch.equal(v, now["state"][i][k]) for k, v in state.items())


def test_a_state_of_torchs_adamw_is_taken_by_adamw_alone():
    a, b = weights((6, 6), (6, 6))
    theirs = torch.optim.AdamW([a, b], lr=0.3, betas=(0.7, 0.8), fused=True)
    train(theirs)
    c, d = (nn.Parameter(p.detach().clone()) for p in (a, b))
    ours = SymOpt([{"params": [c, d], "rule": "adamw"}])
    ours.load_state_dict(theirs.state_dict())
    assert ours.param_groups[0]["lr"] == 0.3
    assert ours.param_groups[0]["rule"] == "adamw"
    train(theirs, seed=4), train(ours, seed=4)
    assert torch.equal(a, c)
    with pytest.raises(ValueError, match="of another optimizer"):
        SymOpt([a, b]).load_state_dict(theirs.state_dict())
    amsgrad = torch.optim.AdamW([a, b], amsgrad=True)
    train(amsgrad)
    with pytest.raises(ValueError, match="max_exp_avg_sq"):
        ours.load_state_dict(amsgrad.state_dict())


# --- compiled shapes -----------------------------------------------------------------


def test_every_shape_of_a_model_is_compiled(monkeypatch):
    """Twelve shapes are twelve graphs; torch keeps eight of one code object."""
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(compiling, "BACKEND", counter)
    monkeypatch.setattr(compiling, "_calls", {})
    shapes = [(128 + 8 * i, 128) for i in range(12)]
    plain, ours = weights(*shapes), weights(*shapes)
    one = SymOpt(plain, lr=0.1)
    other = SymOpt(ours, lr=0.1, compile=True)
    train(one, 2), train(other, 2)
    assert counter.frame_count == 12
    for p, q in zip(plain, ours, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_a_rule_that_cannot_be_compiled_is_named_and_runs(monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    monkeypatch.setattr(compiling, "_calls", {})
    kind = {"rule": "centred_row_norm", "shift": True}
    p, q = weights((6, 4)), weights((6, 4))
    one = SymOpt([{"params": p, **kind}], lr=0.1)
    other = SymOpt([{"params": q, **kind}], lr=0.1, compile=True)
    train(one)
    with pytest.warns(UserWarning, match=r"centred_row_norm on \(1, 6, 4\) runs with"):
        train(other)
    assert torch.equal(p[0], q[0])


def test_the_page_runs_and_prints_what_it_shows(capsys):
    """Among it a rule from outside, in ten lines."""
    page = Path(__file__).parents[1] / "docs" / "symmetry-compatible-optimizers.md"
    text = page.read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 2
    scope: dict = {}
    for block in blocks:
        exec(compile(block, page.name, "exec"), scope)
    shown = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert capsys.readouterr().out == "".join(shown)
    assert scope["rule"].options == {"beta": 0.9}


# --- FSDP1 ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("original", [False, True])
def test_parameters_that_fsdp1_has_flattened_are_refused(original, tmp_path):
    import torch.distributed as dist
    from torch.distributed.fsdp import FullyShardedDataParallel

    url = (tmp_path / "group").as_uri()
    dist.init_process_group("gloo", init_method=url, rank=0, world_size=1)
    try:
        cpu = torch.device("cpu")
        model = FullyShardedDataParallel(
            Head(), device_id=cpu, use_orig_params=original
        )
        for given in (model, list(model.parameters())):
            with pytest.raises(ValueError, match="FullyShardedDataParallel"):
                SymOpt(given)
    finally:
        dist.destroy_process_group()
