"""Matrix problems with a known optimum, against autograd, scipy and torch.optim."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import torch

from symlab import known_optima
from symlab.harness import contract, project

mp = contract.load(project.find(Path(__file__).parent), "matrix_problems").module
SMALL = {"rows": 12, "columns": 5, "batch": 8, "steps": 30}


def config(study: str, **fields) -> mp.Config:
    size = {"rows": 6, "columns": 5, "steps": 30} if study == "sensing" else SMALL
    return mp.Config(study=study, **(size | fields))


def weights(c: mp.Config, n_lanes: int) -> torch.Tensor:
    draws = torch.Generator().manual_seed(1)
    w = torch.randn(n_lanes, c.rows, c.columns, generator=draws, dtype=torch.float64)
    return w if c.study == "sensing" else w.float()


def sampled_loss(c: mp.Config, w: torch.Tensor, t: int) -> torch.Tensor:
    """The loss of one lane at step t, written from its definition."""
    if c.study == "sensing":
        a, truth = (torch.from_numpy(x) for x in known_optima.measurements(c))
        return ((a @ (w.flatten() - truth.flatten())) ** 2).mean() / 2
    truth = known_optima.tokens(c)
    x, y = (torch.from_numpy(a)[t] for a in known_optima.drawn(c, truth))
    e, h = (torch.from_numpy(a).to(w) for a in (truth.embedding, truth.head))
    e, h = (w, h) if c.study == "embedding" else (e, w)
    return torch.nn.functional.cross_entropy(e[x] @ h.T, y)


@pytest.mark.parametrize("basis", ["axes", "rotated"])
@pytest.mark.parametrize("study", known_optima.PROBLEMS)
def test_gradients_are_those_of_autograd(study, basis):
    configs = [config(study, basis=basis, seed=s) for s in (3, 4, 3)]
    w = weights(configs[0], 3)
    found = known_optima.PROBLEMS[study](configs).gradient(w, 7)
    for c, ours, at in zip(configs, found, w, strict=True):
        at = at.clone().requires_grad_()
        (theirs,) = torch.autograd.grad(sampled_loss(c, at, 7), at)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def population_loss(c: mp.Config, w: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the next token over the whole distribution, in float64."""
    truth = known_optima.tokens(c)
    p = torch.from_numpy(truth.frequency[:, None] * np.exp(truth.log_p()))
    e, h = torch.from_numpy(truth.embedding), torch.from_numpy(truth.head)
    z = w @ h.T if c.study == "embedding" else e @ w.T
    return -(p * torch.log_softmax(z, -1)).sum()


def optimum(c: mp.Config) -> tuple[torch.Tensor, float]:
    """W*, and the entropy of the next token."""
    truth = known_optima.tokens(c)
    p = truth.frequency[:, None] * np.exp(truth.log_p())
    best = truth.embedding if c.study == "embedding" else truth.head
    return torch.from_numpy(best), float(-np.sum(p * truth.log_p()))


@pytest.mark.parametrize("study", ["embedding", "head"])
def test_the_known_optimum_is_the_one_that_scipy_finds(study):
    c = config(study)

    def loss(flat):
        w = torch.from_numpy(flat).view(c.rows, c.columns).requires_grad_()
        value = population_loss(c, w)
        return float(value.detach()), torch.autograd.grad(value, w)[0].numpy().ravel()

    start = np.zeros(c.rows * c.columns)
    tight = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9}
    found = scipy.optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", options=tight
    )
    best, entropy = optimum(c)
    assert entropy - 1e-12 <= found.fun < entropy + 1e-6
    assert loss(start)[0] > entropy + 0.1
    assert float(population_loss(c, best)) == pytest.approx(entropy, abs=1e-12)


@pytest.mark.parametrize("study", ["embedding", "head"])
def test_excess_is_the_population_loss_above_the_entropy(study):
    c = config(study)
    w, (best, entropy) = weights(c, 1), optimum(c)
    (row,) = known_optima.PROBLEMS[study]([c]).measure(w)
    expected = float(population_loss(c, w[0].double())) - entropy
    assert row["excess"] == pytest.approx(expected, rel=1e-9)
    truth, ours = known_optima.tokens(c), w[0].double().numpy()
    p = np.exp(truth.log_p())
    q = np.exp(replace(truth, **{study: ours}).log_p())
    pairs = truth.frequency[:, None] * scipy.special.kl_div(p, q)
    by_token = pairs.sum(1 if study == "embedding" else 0)
    mass = truth.frequency if study == "embedding" else truth.frequency @ p
    for name, half in (("frequent", slice(6)), ("rare", slice(6, None))):
        expected = by_token[half].sum() / mass[half].sum()
        assert row[name] == pytest.approx(expected, rel=1e-9)
    (at_optimum,) = known_optima.PROBLEMS[study]([c]).measure(best[None])
    assert at_optimum["excess"] == pytest.approx(0.0, abs=1e-12)


def test_sensing_has_its_optimum_at_the_low_rank_target():
    c = config("sensing")
    a, truth = known_optima.measurements(c)
    assert np.linalg.matrix_rank(truth, tol=1e-8) == known_optima.RANK
    solution = scipy.linalg.lstsq(a, a @ truth.ravel())[0]
    np.testing.assert_allclose(solution, truth.ravel(), atol=1e-12)
    problem = known_optima.Sensing([c])
    best = torch.from_numpy(truth)[None]
    assert problem.gradient(best, 0).abs().max() < 1e-14
    assert problem.measure(best)[0]["excess"] < 1e-28
    (zero,) = problem.measure(torch.zeros_like(best))
    assert zero["excess"] == zero["distance"] == 1.0


@pytest.mark.parametrize("study", ["embedding", "head"])
def test_tokens_and_labels_follow_the_model(study):
    c = config(study, batch=1000, steps=300)
    truth = known_optima.tokens(c)
    x, y = known_optima.drawn(c, truth)
    counts = np.zeros((c.rows, c.rows))
    np.add.at(counts, (x.ravel(), y.ravel()), 1)
    joint = x.size * truth.frequency[:, None] * np.exp(truth.log_p())
    common = joint > 5
    degrees = common.sum()
    chi = np.sum((counts - joint)[common] ** 2 / joint[common])
    assert abs(chi - degrees) < 5 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("rule", mp.ADAM)
def test_adamw_is_torchs(rule):
    c = config("head", rule=rule, lr=0.05)
    problem = known_optima.Head([c])
    ours = mp._descend([c], problem)[0]
    w = torch.zeros(1, c.rows, c.columns, requires_grad=True)
    betas = (c.momentum, mp.ADAM[rule])
    adam = torch.optim.AdamW([w], lr=c.lr, betas=betas, weight_decay=0.0)
    linear = torch.optim.lr_scheduler.LambdaLR(adam, lambda t: factor(t, c.steps))
    for t in range(c.steps):
        w.grad = problem.gradient(w.detach(), t)
        adam.step()
        linear.step()
    torch.testing.assert_close(ours, w.detach()[0], rtol=1e-4, atol=1e-6)


def factor(t: int, steps: int) -> float:
    """The rate's factor at step t: 1, and over the last 40 % linearly to 0."""
    return 1.0 if t < 0.6 * steps else (steps - t) / (0.4 * steps)


def test_schedule_is_constant_then_linear_to_zero():
    rates = [mp.schedule(t, 100, mp.DECAY) for t in range(101)]
    assert rates[:61] == [1.0] * 61
    np.testing.assert_allclose(np.diff(rates[60:]), -1 / 40)
    assert rates[100] == 0.0


def test_rotated_problems_are_the_same_to_rules_that_turn_with_them():
    """End to end: equal losses, but for AdamW and the sign."""

    def gap(rule, lr, study="sensing"):
        a, b = mp.run([config(study, rule=rule, lr=lr, basis=b) for b in BASES])
        return abs(np.log(a["excess"] / b["excess"]))

    for rule, lr in (("sgd", 5.0), ("spectral", 0.05), ("polargrad", 1.0)):
        assert gap(rule, lr) < 1e-8
        assert gap(rule, lr, "embedding") < 1e-3
    assert gap("row_norm", 0.05, "head") < 1e-3  # turns with columns
    assert gap("row_norm", 0.05) > 1e-2  # and not with rows
    for rule in ("adamw", "sign"):
        assert gap(rule, 0.05) > 1e-2
        assert gap(rule, 0.05, "embedding") > 1e-2


BASES = ("axes", "rotated")


@pytest.mark.parametrize("study", known_optima.PROBLEMS)
def test_every_rule_descends_and_a_large_rate_is_a_divergence(study):
    lr = {r: c / 4 for r, c in mp.CENTRES[study].items()}
    rows = mp.run([config(study, rule=r, lr=x, steps=200) for r, x in lr.items()])
    (start,) = mp.run([config(study, lr=0.0)])
    for rule, row in zip(lr, rows, strict=True):
        assert row["excess"] < 0.8 * start["excess"], rule
    (lost,) = mp.run([config(study, lr=1e6, steps=400)])
    assert lost["diverged"]
    assert lost["excess"] == mp.CEILING


def test_rows_come_in_the_order_of_their_configs():
    rules = ("spectral", "adamw", "row_norm", "sgd")
    configs = [config("head", rule=r, seed=s) for r in rules for s in (2, 1)]
    for row, c in zip(mp.run(configs), configs, strict=True):
        assert row["excess"] == pytest.approx(mp.run([c])[0]["excess"], rel=1e-6)


# --- the tuned rate ------------------------------------------------------------------


def sweep_rows():
    """A made-up sweep: AdamW is best at rate 0.2, row_norm at 0.4."""
    import pandas as pd

    best = {"adamw": 0.2, "adamw_95": 0.1, "row_norm": 0.4}
    level = {"adamw": 0.5, "adamw_95": 1.0, "row_norm": 1.0}
    return pd.DataFrame(
        {"study": "head", "basis": "rotated", "rule": rule, "lr": lr, "seed": seed,
         "excess": level[rule] * np.exp(np.log(lr / at) ** 2) * (1 + 0.01 * seed)}
        for rule, at in best.items()
        for lr in (0.1, 0.2, 0.4, 0.8)
        for seed in range(8)
    )  # fmt: skip


ESTIMATES = {claim.name: claim.estimate for claim in mp.CLAIMS}


def chosen(df) -> dict:
    return mp.tuned(df).groupby("rule").lr.unique().str[0].to_dict()


def test_rates_are_chosen_on_tuning_seeds_and_compared_on_fresh_ones():
    df = sweep_rows()
    best = {"adamw": 0.2, "adamw_95": 0.1, "row_norm": 0.4}
    assert chosen(df) == best
    assert set(mp.tuned(df).seed) == {1, 3, 5, 7}
    fresh = df.seed % 2 == 1
    other = df.copy()  # whatever the fresh seeds say, the choice stands
    other.loc[fresh, "excess"] = 1e3 / other.lr[fresh] ** 3
    assert chosen(other) == best
    assert adamw_of(other) == "adamw"
    other = df.copy()
    other.loc[~fresh, "excess"] = 1 / other.lr[~fresh]
    assert chosen(other) == dict.fromkeys(best, 0.8)


def adamw_of(df) -> str:
    """The variant whose losses the comparisons call AdamW's."""
    kept = mp.one_adamw(df)
    assert set(kept.rule) == {"adamw", "row_norm"}
    kept = kept[kept.rule == "adamw"].excess
    (name,) = [r for r in mp.ADAM if kept.equals(df[df.rule == r].excess)]
    return name


def test_the_adamw_of_comparisons_is_the_one_that_tunes_better():
    df = sweep_rows()
    assert adamw_of(df) == "adamw"
    df.loc[df.rule == "adamw_95", "excess"] /= 4
    assert adamw_of(df) == "adamw_95"
    found = ESTIMATES["head_adamw_and_row_norm"](df)
    assert found.value == pytest.approx(np.log(4))


def test_differences_are_paired_and_against_the_better_adamw():
    df = sweep_rows()
    found = ESTIMATES["head_adamw_and_row_norm"](df)
    assert found.value == pytest.approx(np.log(2))
    assert found.high - found.low == pytest.approx(0.0, abs=1e-9)  # seeds cancel
    assert found.n == 4
    of_head = mp.TUNED.where(study="head")
    other = of_head.log_ratio("excess", rule=("row_norm", "adamw_95"))(df)
    assert other.value == pytest.approx(0.0)


def test_a_rate_at_the_end_of_its_grid_is_noticed():
    df = sweep_rows()
    edge = ESTIMATES["grids_hold_the_best"]
    assert edge(df).value == 1.0  # adamw_95's
    assert edge(df[df.rule != "adamw_95"]).value == 0.0
