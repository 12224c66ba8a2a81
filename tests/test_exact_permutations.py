"""Wide networks that learn permutations, against quadrature, brute force, autograd."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

from symlab import wide_networks as wide
from symlab.harness import contract, project

PROJECT = project.find(Path(__file__).resolve().parents[1])
REGIMES = ("last", "both")
module = contract.load(PROJECT, "exact_permutations").module


def inputs(k: int) -> np.ndarray:
    """All nonzero binary inputs (2^k - 1, k), at unit length."""
    bits = (np.arange(1, 2**k)[:, None] >> np.arange(k)) & 1
    return bits / np.linalg.norm(bits, axis=1, keepdims=True)


@pytest.mark.parametrize("u", [-0.3, 0.0, 0.7])
def test_kernels_are_the_expectations_that_they_say(u):
    normal = stats.multivariate_normal(cov=[[1, u], [u, 1]])
    product, _ = integrate.dblquad(
        lambda g, h: g * h * normal.pdf([g, h]), 0, 7, 0, 7, epsabs=1e-6
    )
    k, theta = wide.kernels("both", u)
    assert k == pytest.approx(product, abs=1e-5)
    orthant = normal.cdf([0, 0])  # both below 0, which is as likely as both above
    assert theta - k == pytest.approx(u * orthant, abs=1e-5)
    assert wide.kernels("last", u)[1] == k


def test_an_unknown_regime_is_refused():
    with pytest.raises(ValueError, match="use 'both' or 'last'"):
        wide.kernels("first", 0.0)


@pytest.mark.parametrize("regime", REGIMES)
def test_moments_are_those_of_the_linear_system(regime):
    x, k = inputs(5), 5
    theta = wide.kernels(regime, np.eye(k))[1]
    mean = wide.kernels(regime, x)[1] @ np.linalg.inv(theta)  # target: the identity
    high, low, variance = wide.moments(regime, k, (x > 0).sum(1))
    np.testing.assert_allclose(
        mean, np.where(x > 0, high[:, None], low[:, None]), atol=1e-12
    )
    np.testing.assert_allclose(
        np.diag(wide.covariance(regime, x)), variance, atol=1e-12
    )


@pytest.mark.parametrize("regime", REGIMES)
def test_the_law_of_all_inputs_is_the_sum_over_each_of_them(regime):
    k = 8
    row = module._law(module.Config(regime=regime, k=k))
    wrong = []
    for x in inputs(k):
        n = int((x > 0).sum())
        if n > 1:
            high, low, variance = wide.moments(regime, k, n)
            z = np.sqrt(row["every"] / variance)
            right = stats.norm.cdf(high * z) ** n * stats.norm.cdf(-low * z) ** (k - n)
            wrong.append(1 - right)
    assert len(wrong) == 2**k - 1 - k
    assert sum(wrong) == pytest.approx(0.1, rel=1e-6)
    assert row["single"] < row["every"]
    assert row["worst_ones"] == 2


def test_errors_far_out_are_not_rounded_to_nothing():
    near, far = wide.log_error(np.array([3e3, 1e6]), "both", 64, 2)
    assert near < np.log(0.1)
    high, low, variance = wide.moments("both", 64, 2)
    tails = stats.norm.logsf(np.array([high, -low]) * np.sqrt(1e6 / variance))
    assert far == pytest.approx(
        np.logaddexp(tails[0] + np.log(2), tails[1] + np.log(62))
    )
    assert far < -400


def test_needed_inverts_a_law():
    found = wide.needed(lambda nets: -nets / np.array([1.0, 7.0]), 0.9, (2,))
    np.testing.assert_allclose(found, np.log(10) * np.array([1.0, 7.0]))


def test_passages_are_those_of_networks_drawn_by_numpy():
    k, runs = 4, 300
    mine = [
        wide.passages("last", k, (0.9,), 1000, np.random.default_rng([1, i]))[0]
        for i in range(runs)
    ]
    x = inputs(k)[[bin(i).count("1") == 2 for i in range(1, 2**k)]]
    mean = np.where(x > 0, *wide.moments("last", k, 2)[:2])
    cov, other, draws = wide.covariance("last", x), [], np.random.default_rng(2)
    for _ in range(runs):
        f = draws.multivariate_normal(np.zeros(len(x)), cov, (200, k)).swapaxes(1, 2)
        average = mean + np.cumsum(f, 0) / np.arange(1, 201)[:, None, None]
        right = ((average > 0) == (x > 0)).all(2).mean(1)
        other.append(1 + int((right > 0.9).argmax()))  # all six pairs
    error = np.hypot(stats.sem(mine), stats.sem(other))
    assert abs(np.mean(mine) - np.mean(other)) < 4 * error


@pytest.mark.parametrize("regime", REGIMES)
def test_training_is_that_of_autograd(regime):
    k, width, steps, draws = 4, 12, 7, np.random.default_rng(0)
    a = torch.from_numpy(draws.normal(size=(3, width, k)) / k**0.5)
    v = torch.from_numpy(draws.normal(size=(3, k, width)) / width**0.5)
    x = torch.from_numpy(inputs(k).T)
    target = torch.eye(k, dtype=torch.float64)[[2, 0, 3, 1]]
    mine = wide.trained(regime, a, v, target, x, steps)
    lr = 1 / np.linalg.eigvalsh(wide.kernels(regime, np.eye(k))[1])[-1] * k
    for i in range(3):
        first = torch.nn.Linear(k, width, bias=regime == "last").double()
        second = torch.nn.Linear(width, k, bias=False).double()
        with torch.no_grad():
            first.weight.copy_(a[i])
            second.weight.copy_(v[i])
            if first.bias is not None:
                first.bias.zero_()
        net = torch.nn.Sequential(first, torch.nn.ReLU(), second)
        rate = lr / (k if regime == "both" else width)
        groups = [{"params": first.parameters(), "lr": rate}]
        groups += [{"params": second.parameters(), "lr": lr / width}]
        optimizer = torch.optim.SGD(groups)
        for _ in range(steps):
            optimizer.zero_grad()
            wrong = net(torch.eye(k, dtype=torch.float64)) - target.T
            (wrong.square().sum() / 2).backward()
            optimizer.step()
        np.testing.assert_allclose(mine[i], net(x.T).T.detach(), atol=1e-12)


def test_the_committed_counts_are_the_last_lines_of_the_authors_runs():
    assert module.published(10, 0.9) == (69, pytest.approx(0.0021, abs=1e-4))
    assert module.published(11, 0.999) == (0, 0.0)
    path = Path(os.environ.get("SYMLAB_DATA", "nowhere"))
    if not (path := path / "permutations" / "ensemble_accuracy.csv").is_file():
        pytest.skip("SYMLAB_DATA has no permutations/ensemble_accuracy.csv")
    every = pd.read_csv(path)
    last = every.groupby(["accuracy_wanted", "k"]).tail(1)
    committed = pd.read_csv(PROJECT.root / module.DATA[0], comment="#")
    keys = ["accuracy_wanted", "k"]
    pd.testing.assert_frame_equal(
        committed.sort_values(keys, ignore_index=True),
        last.sort_values(keys, ignore_index=True),
    )


@pytest.mark.parametrize("regime", REGIMES)
def test_the_squared_error_is_that_of_averages_drawn_from_the_law(regime):
    k, draws = 6, np.random.default_rng(3)
    row = module._passage(module.Config(study="passage", regime=regime, k=k))
    count, published = module.published(k, 0.9)
    x = inputs(k)[(inputs(k) > 0).sum(1) == 2]
    theta = wide.kernels(regime, np.eye(k))[1]
    mean = wide.kernels(regime, x)[1] @ np.linalg.inv(theta)  # (15, k)
    spread = np.linalg.cholesky(wide.covariance(regime, x) / count)
    averages = mean + spread @ draws.standard_normal((4000, *x.shape))
    found = np.mean((averages - x) ** 2)
    assert 1 + row["squared_error"] == pytest.approx(published / found, rel=0.01)


@pytest.mark.long
@pytest.mark.parametrize("regime", REGIMES)
def test_wide_networks_have_the_law_at_every_input(regime):
    draws = np.random.default_rng(0)
    k, width, nets = 5, 4096, 256
    a = torch.from_numpy(draws.standard_normal((nets, width, k), np.float32)) / k**0.5
    v = torch.from_numpy(draws.standard_normal((nets, k, width), np.float32))
    x = inputs(k)
    given = (torch.eye(k), torch.from_numpy(x.T.astype(np.float32)))
    out = wide.trained(regime, a, v / width**0.5, *given).numpy().swapaxes(1, 2)
    mean = partial(wide.moments, regime, k)((x > 0).sum(1))
    law = np.where(x > 0, mean[0][:, None], mean[1][:, None])
    error = np.sqrt(np.maximum(mean[2], 1e-9) / nets)[:, None]
    assert (np.abs(out.mean(0) - law) < 5 * error + 0.004).all()
