"""The three published problems, and PolarGrad's steps against scipy's polar factor."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import scipy.optimize
import torch
from torch.nn.functional import softplus

from symlab import symopt
from symlab.harness import contract, lanes, project
from symlab.matrix_descents import Descent, descend
from symlab.matrix_objectives import Completion, Logistic, Quadratic

EXPERIMENT = contract.load(project.find(Path(__file__).parent), "polargrad_problems")
pp = EXPERIMENT.module
SIZES = {
    "quadratic": {"rows": 12, "columns": 4, "steps": 40},
    "logistic": {"rows": 6, "columns": 3, "batch": 8, "steps": 40},
    "completion": {"rows": 12, "columns": 8, "rank": 2, "steps": 40},
}
RATES = {"quadratic": 1e-4, "logistic": 1e-3, "completion": 0.5}
MUON = {"quadratic": 0.01, "logistic": 0.02, "completion": 0.05}


def config(problem: str, **fields):
    return pp.Config(problem=problem, **(SIZES[problem] | fields))


def objective(problem: str, seeds=(3, 5), which=(0, 1, 0)):
    c = config(problem)
    if problem == "quadratic":
        return Quadratic(seeds, which, c.rows, c.columns)
    if problem == "logistic":
        return Logistic(seeds, which, c.rows, c.columns, c.batch, c.steps)
    return Completion(seeds, which, c.rows, c.columns, c.rank)


def descent(configs) -> Descent:
    """The descent that a run of these configs makes, recorded at its ends."""
    c = configs[0]
    rates = np.stack([pp._rates(c) for c in configs], 1)
    rules = lanes.slices(configs, pp._rule)
    return descend(
        pp._objective(configs), rules, rates, {0, c.steps}, pp.AVERAGE[c.problem]
    )


def loss_by_definition(o, weights, lane: int, step: int | None):
    """The loss of one lane; step: whose batch is taken, None for all rows."""
    u = int(o.which[lane])
    if isinstance(o, Completion):
        error = weights[0] @ weights[1].T - o.target[u]
        return (o.mask[u] * error**2).sum() / o.mask[u].sum()
    if isinstance(o, Quadratic):
        error = o.a[u] @ weights[0] @ o.b[u] - o.c[u]
        return 0.5 * torch.linalg.matrix_norm(error) ** 2
    a, c = o.a[u], o.c[u]
    if step is not None:
        a, c = a[o.drawn[u, step]], c[o.drawn[u, step]]
    return softplus(-c * (a @ weights[0] @ o.b[u])).sum()


@pytest.mark.parametrize("problem", SIZES)
def test_gradients_are_those_of_autograd(problem):
    o = objective(problem)
    found = o.gradient(o.start, 7)
    for lane in range(3):
        own = [w[lane].clone().requires_grad_() for w in o.start]
        expected = torch.autograd.grad(loss_by_definition(o, own, lane, 7), own)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours[lane], theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("problem", SIZES)
def test_the_gap_is_the_loss_above_the_least_one(problem):
    o = objective(problem)
    shapes = [w[0].shape for w in o.start]
    ends = np.cumsum([0, *(s.numel() for s in shapes)])

    def loss(flat):
        parts = [flat[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
        own = [torch.from_numpy(p).view(s) for p, s in zip(parts, shapes, strict=True)]
        own = [w.requires_grad_() for w in own]
        value = loss_by_definition(o, own, 1, None)
        slopes = torch.autograd.grad(value, own)
        return float(value.detach()), np.concatenate(
            [g.ravel().numpy() for g in slopes]
        )

    at = np.concatenate([w[1].ravel().numpy() for w in o.start])
    tight = {"gtol": 1e-9, "maxiter": 2000}
    least = 0.0
    if problem != "completion":
        least = scipy.optimize.minimize(loss, at, jac=True, options=tight).fun
    assert float(o.gap(o.start)[1]) == pytest.approx(loss(at)[0] - least, rel=1e-7)


def test_completion_reaches_zero_at_the_matrix_itself():
    o = objective("completion")
    u, s, vt = torch.linalg.svd(o.target[o.which])
    weights = [u[..., :2] * s[:, None, :2], vt.mT[..., :2].contiguous()]
    assert o.gap(weights).max() < 1e-25
    assert 0.2 < float(o.mask.mean()) < 0.4


def test_aspect_ratios_are_the_published_ones():
    o = Quadratic([42], [0], 500, 100)
    assert o.a.shape == (1, 1000, 500)
    assert o.b.shape == (1, 100, 250)
    condition = np.linalg.cond(o.a[0]) ** 2 * np.linalg.cond(o.b[0]) ** 2
    assert condition == pytest.approx(670, rel=0.15)
    assert float(o.start[0].min()) >= -1


def reference(problem: str, rule: str, lr: float, seed: int) -> list[np.ndarray]:
    """The weights after 40 steps in numpy, by scipy's polar factor."""
    o = objective(problem, [seed], [0])
    x = [w[0].numpy().copy() for w in o.start]
    mean = [np.zeros_like(w) for w in x]
    beta = {"muon": 0.95, "polargrad_momentum": pp.AVERAGE[problem]}.get(rule, 0.0)
    for t in range(SIZES[problem]["steps"]):
        gradients = o.gradient([torch.from_numpy(w)[None] for w in x], t)
        for i, g in enumerate(g[0].numpy() for g in gradients):
            mean[i] = beta * mean[i] + (1 - beta) * g
            m = beta * mean[i] + (1 - beta) * g if rule == "muon" else mean[i]
            factor, positive = scipy.linalg.polar(m)
            scale = np.trace(positive) if rule.startswith("polargrad") else 1.0
            x[i] = x[i] - lr * scale * factor
    return x


@pytest.mark.parametrize(
    "rule", ["polargrad", "polargrad_momentum", "muon", "muon_plain"]
)
@pytest.mark.parametrize("problem", SIZES)
def test_steps_agree_with_scipys_polar_factor(problem, rule):
    lr = (MUON if rule.startswith("muon") else RATES)[problem]
    configs = [config(problem, rule=rule, lr=lr, seed=s) for s in (3, 5)]
    found = descent(configs).weights
    for lane, seed in enumerate((3, 5)):
        expected = reference(problem, rule, lr, seed)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours[lane].numpy(), theirs, rtol=1e-8, atol=1e-9)


def test_symopts_own_optimizer_makes_the_same_steps():
    o = objective("quadratic", [3], [0])
    w = torch.nn.Parameter(o.start[0][0].clone())
    rule = {"rule": "spectral", "options": {"alpha": 1.0, "method": "svd"}}
    plain = {"momentum": 0.0, "nesterov": False, "scale": "none", "weight_decay": 0.0}
    optimizer = symopt.SymOpt([{"params": [w], **rule, **plain}], lr=1e-4)
    for t in range(SIZES["quadratic"]["steps"]):
        w.grad = o.gradient([w.detach()[None]], t)[0][0]
        optimizer.step()
    (expected,) = reference("quadratic", "polargrad", 1e-4, 3)
    np.testing.assert_allclose(w.detach().numpy(), expected, rtol=1e-8, atol=1e-9)


def test_adam_and_the_schedules_are_torchs():
    o = objective("quadratic", [3], [0])
    w = torch.nn.Parameter(o.start[0][0].clone())
    optimizer = torch.optim.Adam([w], lr=0.05)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=25, gamma=0.99)
    for t in range(40):
        w.grad = o.gradient([w.detach()[None]], t)[0][0]
        optimizer.step()
        scheduler.step()
    c = config("quadratic", rule="adam", schedule="stepwise", lr=0.05, seed=3)
    ours = descent([c]).weights[0][0]
    np.testing.assert_allclose(ours, w.detach(), rtol=1e-9)


def test_records_are_ratios_and_condition_numbers():
    c = config("quadratic", lr=1e-4)
    (row,) = pp.run([c])
    o, end = pp._objective([c]), descent([c])
    assert row["gaps"][0] == 0
    for recorded, matrix in (
        ("gradient_condition", o.gradient(end.weights, 0)[0][0]),
        ("residual_condition", o.residual(end.weights)[0]),
    ):
        expected = np.linalg.cond(matrix.numpy())
        assert row[recorded][-1] == pytest.approx(expected, rel=1e-9)
    gap = np.log10(float(o.gap(end.weights)[0] / o.gap(o.start)[0]))
    assert row["gap"] == pytest.approx(gap, rel=1e-9)
    assert row["gap"] < -0.5
    assert row["mean_log_gap"] == pytest.approx(np.mean(row["gaps"]))


def test_a_run_that_diverges_is_a_row_and_leaves_the_others_alone():
    good = config("quadratic", lr=1e-4, seed=3)
    rows = pp.run([good, config("quadratic", lr=1e3, seed=3)])
    assert rows[1]["gap"] == pp.CEILING
    assert rows[0]["gap"] == pytest.approx(pp.run([good])[0]["gap"], rel=1e-9)


def test_quantities_of_claims_on_curves_that_are_known():
    t = np.linspace(0, 4000, pp.MARKS)
    linear, power = -t / 500, -np.log10(1 + t)
    df = pd.DataFrame({"gap": [linear[-1], power[-1]], "gaps": [linear, power]})
    df["gradient_condition"] = [10 ** (1 + t / 4000)] * 2
    steady = pp.steadiness(df)
    assert steady[0] == pytest.approx(1.0)
    assert steady[1] == pytest.approx(np.log(4 / 3) / np.log(2), rel=1e-3)
    assert pp.later(df)[0] == pytest.approx(-4.0)
    assert pp.condition(df)[0] == pytest.approx(1.5)
    df["gaps"] = [np.where(t > 2000, -25.0, -1.0)] * 2
    assert pp.condition(df)[0] == pytest.approx(1.25)


def test_correlation_is_that_of_gap_and_condition_over_runs():
    t = np.arange(pp.MARKS)
    arm = {"study": "race", "problem": "quadratic", "schedule": "constant"}
    rows = [
        arm | {"rule": rule, "seed": s, "gaps": -t / 10, "other": 50.0 - t}
        for rule in pp.LOOKS
        for s in (0, 1)
    ]
    assert pp.correlation("other")(pd.DataFrame(rows)).value == pytest.approx(1.0)


def test_a_correlation_ends_at_its_cut():
    """Below a gap of 1e-2 the other number turns round."""
    t = np.arange(pp.MARKS)
    other = np.where(t < 20, 50.0 - t, 50.0 + t)
    arm = {"study": "race", "problem": "quadratic", "schedule": "constant"}
    df = pd.DataFrame([
        arm | {"rule": "gd", "seed": s, "gaps": -t / 10, "other": other} for s in (0, 1)
    ])  # fmt: skip
    assert pp.correlation("other", -2.0)(df).value == pytest.approx(1.0)
    assert pp.correlation("other")(df).value < 0


def test_condition_numbers_are_shown_up_to_where_rounding_decides_them():
    shown = pp._resolved([1e2, 1e5, 1e14, 1e12, 1e8])
    np.testing.assert_allclose(shown, [2, 5, np.nan, np.nan, np.nan])


def test_bands_are_the_middle_half_of_the_seeds():
    from matplotlib.figure import Figure

    arm = {"study": "race", "problem": "quadratic", "schedule": "constant",
           "steps": 4000}  # fmt: skip
    df = pd.DataFrame([
        arm | {"rule": r, "seed": s, "gaps": np.full(pp.MARKS, -float(s))}
        for r in pp.LOOKS for s in (0, 1, 2, 3, 24)
    ])  # fmt: skip
    ax = Figure().subplots()
    pp._course(df, ax, "quadratic", "gaps")
    assert set(ax.lines[0].get_ydata()) == {-2.0}
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (-3.0, -1.0)


@pytest.mark.parametrize("claim", EXPERIMENT.claims, ids=lambda c: c.name)
def test_statements_name_what_else_differs_between_arms(claim):
    """Muon has momentum and PolarGrad none; means over the run are of cut gaps."""
    said = claim.statement
    if "rule = muon" in claim.quantity or "Muon" in said:
        assert "momentum" in said
    if "cut at -10" in claim.quantity:
        assert "at least 1e-10 of its first value" in said
    if "while the gap is above 1e-20" in claim.quantity:
        assert "above 1e-20" in said


PAGE = Path(__file__).parents[1] / "docs" / "symmetry-compatible-optimizers.md"
RULES = {
    "gradient descent": "gd",
    "Adam": "adam",
    "Muon, Nesterov momentum 0.95": "muon",
    "Muon without momentum": "muon_plain",
    "PolarGrad": "polargrad",
    "PolarGrad with momentum": "polargrad_momentum",
    "hybrid": "hybrid",
}


def test_the_page_reports_every_arm_that_was_run():
    rows = project.find(PAGE.parent).root / "results/reference/quick"
    df = pd.read_parquet(rows / "polargrad_problems.parquet")
    df = df[df.study == "race"]
    head = "| rule | rate | quadratic | logistic | completion |\n"
    table = PAGE.read_text().split(head)[1].split("\n\n")[0]
    lines = table.replace("\u2212", "-").splitlines()[1:]  # without the rule
    found = {}
    for line in lines:
        rule, schedule, *cells = (x.strip() for x in line.strip("|").split("|"))
        found[RULES[rule], schedule] = [x.split(" / ") for x in cells]
    assert set(found) == set(pp.ARMS)
    for (rule, schedule), cells in found.items():
        arm = df[(df.rule == rule) & (df.schedule == schedule)]
        for problem, (mean, last) in zip(pp.PROBLEMS, cells, strict=True):
            own = arm[arm.problem == problem]
            assert float(mean) == pytest.approx(own.mean_log_gap.mean(), abs=0.0051)
            assert float(last) == pytest.approx(own.gap.mean(), abs=0.051)
