"""The science of figure 4, against torch.optim, lyapunov, simulation, planted rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from symlab.harness import contract, project, rng
from symlab.harness.claims import judge
from symlab.mirror import lyapunov

PROJECT = project.find(Path(__file__).parent)
plasticity = contract.load(PROJECT, "plasticity").module
SMALL = {"dim": 20, "tasks": 2, "steps": 200, "seed": 3}


def config(arm: str, **fields):
    return plasticity.Config(arm=arm, **plasticity.ARMS[arm] | SMALL | fields)


def literal(c) -> dict:
    """The row of a config by autograd and torch.optim.SGD, as the docstring says it."""
    streams = {n: rng.stream(c.seed, n) for n in ("init", "point", "data", "kicks")}
    vanilla, towards_point = c.arm == "vanilla", c.arm == "point"
    size = (2, c.dim)
    uv = torch.from_numpy(c.init * streams["init"].normal(size=size))
    point = torch.from_numpy(streams["point"].normal(size=size))
    bias = c.offset * point.sign() if c.arm in ("bias", "trap") else torch.zeros(size)
    theta = (uv.prod(0) if vanilla else uv - bias).requires_grad_()
    # the optimizer decays to zero; decay to the point is a penalty in the loss
    decay = 0.0 if towards_point else c.weight_decay
    optimizer = torch.optim.SGD([theta], c.lr, weight_decay=decay)
    row = {"excess": [], "zero_fraction": [], "log_distance": [], "effective_rank": []}
    for teacher in torch.from_numpy(plasticity.teacher(c.seed, c)):
        draws = streams["data"].standard_normal((c.steps, c.dim + 1), np.float32)
        kicks = plasticity.bits(streams["kicks"], c.steps, c.dim).swapaxes(0, 1)
        kicks = torch.from_numpy(2.0 * kicks - 1)
        for x, kick in zip(torch.from_numpy(draws).double(), kicks, strict=True):
            w = theta if vanilla else (theta + bias).prod(0)
            loss = (w @ x[:-1] - teacher @ x[:-1] - c.noise * x[-1]) ** 2
            if towards_point:
                away = (theta - c.offset * point).square().sum()
                loss = loss + c.weight_decay / 2 * away
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if c.kick:
                theta.data += c.kick * c.lr**0.5 * kick
        uv = theta.detach() if vanilla else theta.detach() + bias
        w = uv if vanilla else uv[0] * uv[1]
        sizes = w if vanilla else torch.stack([uv[0] + uv[1], uv[0] - uv[1]])
        row["excess"].append(float((w - teacher).square().sum()))
        row["zero_fraction"].append(float((w.abs() < 1e-4).double().mean()))
        row["log_distance"].append(float(np.median(sizes.abs().log().numpy())))
        p = torch.ones(c.dim) if vanilla else uv[0].abs()
        entropy = torch.distributions.Categorical(p.double()).entropy()
        row["effective_rank"].append(float(entropy.exp()))
    return row


@pytest.mark.parametrize("arm", plasticity.ARMS)
def test_every_arm_is_what_its_definition_gives_with_torch_optim(arm):
    c = config(arm)
    (row,) = plasticity.run([c])
    for column, values in literal(c).items():
        assert row[column] == pytest.approx(values, rel=1e-5, abs=1e-5), column


def test_an_offset_without_decay_is_another_name_for_none():
    trap = config("trap")
    plain = replace(trap, arm="symmetric", offset=0.0)
    assert plasticity.run([trap]) == plasticity.run([plain])


def test_bits_are_fair_and_independent():
    drawn = plasticity.bits(rng.stream(0, "kicks"), 40_000, 3)
    assert drawn.shape == (2, 40_000, 3)
    signs = 2.0 * drawn.transpose(1, 0, 2).reshape(-1, 6) - 1
    assert np.unique(signs).tolist() == [-1, 1]
    assert np.abs(signs.mean(0)).max() < 4 / 200
    assert np.abs(np.cov(signs.T) - np.eye(6)).max() < 4 / 200


def test_exponent_is_that_of_random_teachers_and_inputs():
    c = config("symmetric", dim=5, lr=0.05)
    draws = np.random.default_rng(0).normal(size=(3, 1_000_000))
    w, rest = draws[0] / np.sqrt(5), draws[1] * np.sqrt(1 - 1 / 5 + c.noise**2)
    h = torch.from_numpy(-2 * (w * draws[2] + rest) * draws[2])  # of u+v, as y = -r
    expected = lyapunov.exponent(h, c.lr, c.weight_decay)
    error = float(torch.log((1 - c.lr * (h + c.weight_decay)).abs()).std()) / 1e3
    assert plasticity.exponent(c) == pytest.approx(expected, abs=4 * error)
    assert plasticity.exponent(c) < np.log(1 - c.lr * c.weight_decay)


def test_lms_theory_is_the_mean_of_many_runs():
    c = config("vanilla", dim=4, steps=30, tasks=3, lr=0.06, weight_decay=0.5)
    g = np.random.default_rng(1)
    w, means, errors = c.init**2 * g.normal(size=(2, 40_000, 4)).prod(0), [], []
    for _ in range(c.tasks):
        teacher = g.normal(size=w.shape) / 2
        for _ in range(c.steps):
            x = g.normal(size=w.shape)
            r = ((w - teacher) * x).sum(1) - c.noise * g.normal(size=len(w))
            w = (1 - c.lr * c.weight_decay) * w - 2 * c.lr * r[:, None] * x
        square = np.square(w - teacher).sum(1)
        means.append(square.mean())
        errors.append(square.std() / np.sqrt(len(w)))
    assert np.abs(plasticity.lms(c) - means).max() < 4 * max(errors)


def planted(fall: float, lose: tuple) -> pd.DataFrame:
    """Rows in which the arms `lose` go from 0.2 to 1, and mirrors near by `fall`."""
    rows = []
    for c in plasticity.sweep("quick"):
        tasks = np.arange(c.tasks)
        lost = c.arm in lose
        falls = c.arm in ("symmetric", "trap")
        rate = fall * c.steps * (plasticity.exponent(c) if falls else 0)
        level = 0.2 + 0.8 * lost * tasks / c.tasks + 1e-3 * c.seed
        rows.append(
            vars(c)
            | {"excess": level, "zero_fraction": 0.99 * lost * (tasks >= c.tasks - 5)}
            | {"log_distance": -3 + rate * tasks, "effective_rank": 50 - tasks % 2}
        )
    return pd.DataFrame(rows)


def test_claims_follow_planted_rows():
    right = planted(1.0, ("symmetric", "trap"))
    wrong = planted(0.5, ("vanilla", "bias", "point", "noise"))
    for claim in plasticity.CLAIMS:
        if claim.name != "vanilla_is_lms":
            assert judge("p", claim, right).verdict == "held", claim.name
            assert judge("p", claim, wrong).verdict == "failed", claim.name
    vanilla = right.arm == "vanilla"
    (claim,) = (c for c in plasticity.CLAIMS if c.name == "vanilla_is_lms")
    assert judge("p", claim, right).verdict == "failed"
    exact = plasticity.lms(plasticity.Config(arm="vanilla", lr=0.001))
    right.loc[vanilla, "excess"] = right[vanilla].excess.map(lambda _: exact)
    assert judge("p", claim, right).verdict == "held"


def test_one_bad_remedy_is_enough_to_fail():
    (claim,) = (c for c in plasticity.CLAIMS if c.name == "remedies_learn")
    for arm in plasticity.REMEDIES:
        rows = planted(1.0, ("symmetric", "trap", arm))
        assert judge("p", claim, rows).verdict == "failed", arm


def test_foresight_compares_a_measure_with_the_next_task_over_arms():
    excess = {"symmetric": [9.0, 1.0, 3.0], "noise": [9.0, 2.0, 4.0]}
    measure = {"symmetric": [4.0, 2.0, 7.0], "noise": [3.0, 1.0, 7.0]}
    rows = [
        {"arm": arm, "seed": 5, "excess": excess[arm], "log_distance": measure[arm]}
        for arm in excess
    ]
    vanilla = rows[0] | {"arm": "vanilla", "excess": [1.0, 9.0, 0.0]}
    df = pd.DataFrame([*rows, vanilla])
    assert plasticity.foresight(df, "log_distance").to_dict() == {5: 1.0}
    df["effective_rank"] = [[2.0, 2.0, 1.0]] * 3  # the same at both tasks: says nothing
    assert plasticity.foresight(df, "effective_rank").to_dict() == {5: 0.0}


def test_foresight_is_spearmans_correlation():
    draws = np.random.default_rng(0).integers(0, 5, (2, 40)).astype(float)
    expected = scipy.stats.spearmanr(*draws).statistic
    assert plasticity._spearman(*draws) == pytest.approx(expected)


def test_effective_rank_counts_equal_values():
    sigma = np.array([[2.0, 2.0, 2.0, 0.0], [0.0] * 4, [1e-30, 0, 0, 0]])
    assert plasticity.effective_rank(sigma) == pytest.approx([3.0, 0.0, 1.0])
