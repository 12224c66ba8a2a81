"""Factored descent against plain loops, autograd, scipy's spectra and integrators."""

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.integrate import solve_ivp

from experiments import matrix_sensing as experiment
from symlab import factors

S = experiment.SPECTRUM


def lanes_of(*matrices):
    return np.stack(matrices, -1)


def random_factors(n=7, k=4, seed=0):
    return np.random.default_rng(seed).normal(size=(2, n, k)) / 2


@pytest.mark.parametrize("symmetric", [True, False])
def test_fewer_rows_have_the_errors_of_all_rows(symmetric):
    c = experiment.Config(symmetric=symmetric, alpha=0.4, steps=400)
    f, g = experiment.starts(c)
    m = np.zeros((c.dim, c.dim))
    m[[0, 1], [0, 1]] = S
    errors = []
    for t in range(c.steps + 1):
        r = f @ g.T - m
        if t % experiment.EVERY == 0:
            errors.append((r**2).sum())
        f, g = f - c.lr * r @ g, g - c.lr * r.T @ f
    (row,) = experiment.run([c])
    kept = experiment.marks(c.steps) // experiment.EVERY
    assert row["curve"] == pytest.approx(np.array(errors)[kept], rel=1e-9)


@pytest.mark.parametrize("measurements", [0, 60])
@pytest.mark.parametrize("symmetric", [True, False])
def test_gradients_are_those_of_autograd(measurements, symmetric):
    n = 5
    a = np.random.default_rng(1).normal(size=(measurements, n * n))
    h = a.T @ a / 60 if measurements else np.eye(n * n)
    f, g = random_factors(n, 3)
    g = f if symmetric else g
    loss = factors.Loss(S, n, [h] * bool(measurements), np.array([0]), symmetric)
    df, dg = loss.gradient(f[..., None], g[..., None])
    ft, gt = (torch.tensor(x, requires_grad=True) for x in (f, g))
    m = torch.diag(torch.tensor([*S, 0, 0, 0], dtype=torch.float64))
    r = (ft @ gt.T - m).reshape(-1)
    (0.5 * r @ torch.tensor(h) @ r).backward()
    if symmetric:  # X moves by half of the derivative of the loss of X X^T
        expected = (ft.grad + gt.grad).numpy() / 2
        assert df[..., 0] == pytest.approx(expected, rel=1e-10, abs=1e-12)
        assert dg[..., 0] == pytest.approx(expected, rel=1e-10, abs=1e-12)
    else:
        assert df[..., 0] == pytest.approx(ft.grad.numpy(), rel=1e-10, abs=1e-12)
        assert dg[..., 0] == pytest.approx(gt.grad.numpy(), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("measurements", [0, 90])
def test_the_least_positive_eigenvalue_is_scipys(measurements):
    n, k, r = 6, 4, 2
    f, g = random_factors(n, k)
    g = g[:, :r] @ np.random.default_rng(2).normal(size=(r, k))  # of rank r
    a = np.random.default_rng(1).normal(size=(measurements, n * n))
    h = a.T @ a / 90 if measurements else None
    j = torch.autograd.functional.jacobian(
        lambda x, y: x @ y.T, (torch.tensor(f), torch.tensor(g))
    )
    j = np.concatenate([x.reshape(n * n, n * k).numpy() for x in j], 1)
    root = j if h is None else scipy.linalg.sqrtm(h).real @ j
    values = scipy.linalg.svdvals(root) ** 2
    expected = values[values > 1e-12 * values[0]].min()
    assert factors.least_positive(f, g, r, h) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("beta2", [0.16, 0.5, 1.96])
def test_the_one_step_keeps_the_product_and_sets_the_least_eigenvalue(beta2):
    f = random_factors()[0]
    g = np.linalg.lstsq(f, np.diag([*S, 0, 0, 0, 0, 0]), rcond=None)[0].T
    g[2:] = 0  # a minimum, up to the part of M outside the range of F
    new_f, new_g = factors.rebalanced(f, g, beta2)
    assert new_f @ new_g.T == pytest.approx(f @ g.T, abs=1e-12)
    assert new_f.T @ new_f == pytest.approx(beta2 * np.eye(4), abs=1e-12)
    least = min(beta2, scipy.linalg.svdvals(f @ g.T)[1] ** 2 / beta2)
    assert factors.least_positive(new_f, new_g, 2) == pytest.approx(least, rel=1e-8)


def test_gradient_flow_conserves_the_imbalance_and_steps_follow_its_law():
    f, g = random_factors()
    loss = factors.Loss(S, 7)
    shape = f.shape

    def velocity(_, z):
        x, y = z.reshape(2, *shape, 1)
        return -np.concatenate([d.ravel() for d in loss.gradient(x, y)])

    start = np.concatenate([f.ravel(), g.ravel()])
    end = solve_ivp(velocity, (0, 20), start, rtol=1e-10, atol=1e-12).y[:, -1]
    x, y = end.reshape(2, *shape)
    assert x.T @ x - y.T @ y == pytest.approx(f.T @ f - g.T @ g, abs=1e-7)
    found = factors.descend(
        lanes_of(f), lanes_of(g), loss, np.array([0.1]), 200, 10, np.zeros(1), 0.0
    )
    drift = found.f[..., 0].T @ found.f[..., 0] - found.g[..., 0].T @ found.g[..., 0]
    assert np.abs(drift - (f.T @ f - g.T @ g)).max() > 1e-3  # of order lr
    assert found.law.max() < 1e-13


def test_the_one_step_waits_for_the_loss_and_is_made_once():
    c = experiment.Config(study="step", alpha=0.1, beta2=0.5, steps=400)
    plain, stepped = experiment.run([experiment.Config(alpha=0.1, steps=400), c])
    assert plain["stepped"] == -1 < 0 < stepped["stepped"]
    looks = experiment.marks(400)
    before = looks <= stepped["stepped"]
    assert stepped["curve"][before] == pytest.approx(plain["curve"][before], rel=1e-9)
    loss = plain["curve"][looks < stepped["stepped"]] / 2
    assert loss.min() >= experiment.TRIGGER
