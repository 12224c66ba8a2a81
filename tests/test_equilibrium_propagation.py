"""Equilibria against scipy's root finder, error vectors against autograd and numpy."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import root

from symlab.models import equilibrium as eq


def random_network(seed: int, n: int = 12, outputs: int = 4):
    """Weights (1, n, n) without symmetry, drive (1, n) and target (1, outputs)."""
    draws = np.random.default_rng(seed)
    m = 0.5 * draws.normal(size=(1, n, n)) / np.sqrt(n)
    return m, draws.normal(size=(1, n)), np.tanh(draws.normal(size=(1, outputs)))


def random_layers(seed: int):
    """One lane of a small layered network, 30 images and their targets."""
    draws = np.random.default_rng(seed)
    *parts, odd = eq.layered(draws, 6, 5, 4, 3)
    network = [*(part[None] for part in parts), odd]
    x = torch.from_numpy(draws.normal(size=(30, 7)))
    return network, x, torch.from_numpy(draws.uniform(size=(30, 3)))


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_the_equilibrium_is_scipys_root(beta):
    m, x, y = random_network(0)

    def wrong(s):
        e = np.zeros(12)
        e[:4] = s[:4] - y[0]
        return np.tanh(m[0] @ s + x[0] - beta * e) - s

    found = eq.equilibrium(m, x, y, beta)[0]
    oracle = root(wrong, np.zeros(12), tol=1e-13)
    assert oracle.success
    assert found == pytest.approx(oracle.x, abs=1e-10)


def test_an_equilibrium_that_newton_does_not_find_is_refused():
    m, x, y = random_network(0)
    with pytest.raises(ArithmeticError, match="smaller weights or nudges"):
        eq.equilibrium(m, x, y, iterations=2)


def test_error_vectors_are_those_of_autograd():
    m, x, y = random_network(1)
    j, e, ep, bp = eq.error_vectors(m, x, y)
    drive, target = torch.tensor(x[0], requires_grad=True), torch.tensor(y[0])
    s = torch.zeros(12, dtype=torch.float64)
    for _ in range(400):
        s = torch.tanh(torch.tensor(m[0]) @ s + drive)
    loss = (s[:4] - target).square().sum() / 2
    (slope,) = torch.autograd.grad(loss, drive)
    assert bp[0] == pytest.approx(slope.numpy(), abs=1e-12)
    jacobian = torch.autograd.functional.jacobian(
        lambda s: torch.tensor(m[0]) @ s + drive.detach() - s.atanh(), s.detach()
    )
    assert j[0] == pytest.approx(jacobian.numpy(), abs=1e-10)
    assert ep[0] == pytest.approx(-np.linalg.inv(j[0]) @ e[0], abs=1e-12)
    assert eq.size(ep - bp)[0] > 0.05 * eq.size(bp)[0]
    _, _, ep, bp = eq.error_vectors(m + np.swapaxes(m, 1, 2), x, y)
    assert ep == pytest.approx(bp, abs=1e-12)


def test_a_contour_takes_the_derivative_and_leaves_the_term_that_is_named():
    def solve(b):
        return np.exp(b) * np.array([[1.0, -2.0]])

    for n in (1, 2, 4, 6):
        left = eq.contour(solve, n, 0.1)[0] - np.array([1, -2])
        first = 0.1**n / math.factorial(n + 1) * np.array([1, -2])
        assert left == pytest.approx(first, rel=0.04)
        assert eq.taylor(solve, n + 1)[0, 0] == pytest.approx(1 / math.factorial(n + 1))


def test_a_contour_gives_eps_error_vector():
    m, x, y = random_network(2)
    _, _, ep, _ = eq.error_vectors(m, x, y)
    found = eq.contour(lambda b: eq.equilibrium(m, x, y, b), 6, 0.05)
    assert found == pytest.approx(-ep, abs=1e-7)


def test_the_homeostatic_loss_is_half_the_asymmetry():
    """Summed over the unit vectors it is a trace, and so its mean over normal ones."""
    j = np.random.default_rng(3).normal(size=(9, 9))
    found = eq.homeostatic(j, np.eye(9)).sum()
    assert found == pytest.approx(np.linalg.norm(j - j.T) ** 2 / 2, rel=1e-12)
    assert eq.homeostatic(j + j.T, np.eye(9)).sum() == pytest.approx(0, abs=1e-12)


def test_propagated_vectors_solve_their_equations():
    network, x, target = random_layers(4)
    m, v, *_, odd = network
    s, e = eq.errors(network, x, target)
    assert s[0] == pytest.approx(torch.sigmoid(s[0] @ m[0].T + x @ v[0].T), abs=1e-9)
    found = eq.propagated(m, s, e, odd)
    for n in range(3):
        j = m[0].numpy() - np.diag(1 / (s[0, n] * (1 - s[0, n])).numpy())
        expected = -np.linalg.solve(j, e[0, n].numpy())
        assert found[0, n].numpy() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_training_follows_autograd_where_weights_are_symmetric(penalty):
    network, x, target = random_layers(5)
    m, v, m_allowed, v_allowed, _ = network
    m += m.mT.clone()
    batches = torch.arange(30).view(1, 1, 30)
    coefficient = torch.full((1, 1, 1), penalty).double()
    eq.train(network, x, target, batches, coefficient, 0.0, 1, slice(0, 5))
    free = [a.clone().requires_grad_() for a in (m, v)]
    s = torch.zeros(1, 30, 12).double()
    for _ in range(200):
        s = torch.sigmoid(s @ free[0].mT + x @ free[1].mT)
    loss = (s[..., -3:] - target).square().sum() / 2 / 30
    slopes = torch.autograd.grad(loss, free)
    for a, slope, mask in zip((m, v), slopes, (m_allowed, v_allowed), strict=True):
        torch.testing.assert_close(a.grad, slope * mask, rtol=0, atol=1e-9)


def test_training_follows_eps_vectors_and_not_those_of_backpropagation():
    network, x, target = random_layers(6)
    batches, none = torch.arange(30).view(1, 1, 30), torch.zeros(1, 1, 1).double()
    eq.train(network, x, target, batches, none, 0.0, 1, slice(0, 5))
    m, allowed = network[0][0].numpy(), network[2][0].numpy()
    s, e = (a[0].numpy() for a in eq.errors(network, x, target))
    steps = {"ep": 0.0, "bp": 0.0}
    for one, wrong in zip(s, e, strict=True):
        j = m - np.diag(1 / (one * (1 - one)))
        steps["ep"] -= np.outer(np.linalg.solve(j, wrong), one) * allowed / 30
        steps["bp"] -= np.outer(np.linalg.solve(j.T, wrong), one) * allowed / 30
    assert network[0].grad[0].numpy() == pytest.approx(steps["ep"], abs=1e-9)
    assert np.abs(steps["ep"] - steps["bp"]).max() > 1e-4


def test_the_penalty_is_the_gradient_of_the_homeostatic_loss():
    grads = {}
    for penalty in (0.0, 1.0):
        network, x, target = random_layers(6)
        batches = torch.arange(30).view(1, 1, 30)
        coefficient = torch.full((1, 1, 1), penalty).double()
        eq.train(network, x, target, batches, coefficient, 0.0, 1, slice(0, 5))
        grads[penalty] = network[0].grad
    free = network[0].clone().requires_grad_()
    loss = (free - free.mT).square().sum() / 2 / 12
    (slope,) = torch.autograd.grad(loss, free)
    torch.testing.assert_close(grads[1.0] - grads[0.0], slope)


def test_layers_connect_to_their_neighbours_and_feedback_is_independent():
    m, v, m_allowed, v_allowed, odd = eq.layered(
        np.random.default_rng(7), 64, 30, 20, 10
    )
    assert odd.nonzero().flatten().tolist() == list(range(30, 50))
    assert m.shape == (60, 60)
    assert not m[:30, 50:].any()
    assert not m[:30, :30].any()
    assert m[30:50, :30].std() == pytest.approx(30**-0.5, rel=0.1)
    assert m[:30, 30:50].std() == pytest.approx(20**-0.5, rel=0.1)
    forward, feedback = m[30:50, :30].flatten(), m[:30, 30:50].T.flatten()
    assert abs(eq.cosine(forward, feedback)) < 0.15
    assert torch.equal(m_allowed, m != 0)
    assert not v[:, 64].any()
    assert v_allowed[:30].all()
    assert not v_allowed[30:].any()
