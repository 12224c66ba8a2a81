"""Gradients against autograd; laws of the charge against scipy and closed forms."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from experiments import noether_dynamics as experiment
from symlab import scale_symmetry


def network(seed=0, n_lanes=3, n=20):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(n_lanes, 26, 16, generator=g, dtype=torch.float64)
    x = torch.randn(n_lanes, n, 16, generator=g, dtype=torch.float64)
    y = torch.randint(10, (n_lanes, n), generator=g)
    return w, x, torch.nn.functional.one_hot(y, 10).double()


def plain_loss(w, x, labels):
    """The loss of one lane, as torch.nn.functional writes it."""
    n = torch.nn.functional.normalize(w, dim=1)
    z = torch.relu(torch.nn.functional.linear(x, 8 * n[:16]))
    h = torch.nn.functional.rms_norm(z, (16,), eps=1e-30)
    logits = torch.nn.functional.linear(h, 2 * n[16:])
    return torch.nn.functional.cross_entropy(logits, labels)


def test_losses_and_gradients_are_those_of_autograd():
    w, x, y = network()
    loss, g, square = scale_symmetry.gradients(w, x, y)
    for i in range(len(w)):
        leaf = w[i].clone().requires_grad_()
        expected = plain_loss(leaf, x[i], y[i].argmax(1))
        expected.backward()
        assert loss[i].item() == pytest.approx(expected.item(), rel=1e-10)
        assert torch.allclose(g[i], leaf.grad, rtol=1e-8, atol=1e-12)
    assert torch.allclose(square[..., 0], w.square().sum(2))


def test_the_scale_of_a_row_is_a_symmetry():
    w, x, y = network()
    scale = torch.rand(3, 26, 1, dtype=torch.float64) + 0.5
    loss, g, _ = scale_symmetry.gradients(w, x, y)
    moved, g_moved, _ = scale_symmetry.gradients(scale * w, x, y)
    assert torch.allclose(loss, moved, rtol=1e-12)
    assert torch.allclose(g / scale, g_moved, rtol=1e-10, atol=1e-14)
    assert (g * w).sum(2).abs().max() < 1e-13


def descent(lr, b, k, steps=400, rows=5, seed=0):
    """Return Laws and |w|^2 after SGD on random gradients, orthogonal to the rows."""
    r = np.random.default_rng(seed)
    w = r.normal(size=(1, rows, 300))
    w /= np.linalg.norm(w, axis=2, keepdims=True)
    v = np.zeros_like(w)
    laws = scale_symmetry.Laws(torch.ones(1, rows).double(), [lr], [b], [k])
    for _ in range(steps):
        n2 = (w**2).sum(2, keepdims=True)
        g = r.normal(size=w.shape)
        g -= w * (g * w).sum(2, keepdims=True) / n2
        g /= np.linalg.norm(g, axis=2, keepdims=True) * np.sqrt(n2)  # unit norm: 1
        v = b * v + g + k * w
        w = w - lr * v
        laws.step(torch.tensor((v**2).sum(2)), torch.ones(1, rows).double())
    return laws, (w**2).sum(2)


@pytest.mark.parametrize(("b", "k"), [(0.0, 0.0), (0.0, 0.1), (0.9, 0.0), (0.9, 0.1)])
def test_the_discrete_law_is_exact(b, k):
    laws, norm2 = descent(0.1, b, k)
    assert laws.exact.numpy() == pytest.approx(norm2, rel=1e-12)


def test_independent_gradients_have_the_derived_prefactor_and_not_the_published():
    laws, norm2 = descent(0.05, 0.9, 0.05)
    assert laws.ode.numpy() == pytest.approx(norm2, rel=0.02)
    assert (laws.derived.numpy() / norm2).mean() == pytest.approx(1, abs=0.05)
    assert (laws.published.numpy() / norm2).mean() > 3.5  # sqrt(19) = 4.4


@pytest.mark.parametrize(("b", "k"), [(0.0, 0.3), (0.9, 0.02), (0.9, 5.0)])
def test_the_charge_equation_is_that_of_scipy_and_of_a_damped_oscillator(b, k):
    """n'' + 2 gamma n' + omega^2 n = 0, over- and underdamped: neural mechanics."""
    lr, steps = 0.05, 40
    m, mu = lr * (1 + b) / 2, 1 - b
    laws = scale_symmetry.Laws(torch.ones(1, 1).double(), [lr], [b], [k])
    for _ in range(steps):
        laws.step(torch.zeros(1, 1).double(), torch.zeros(1, 1).double())
    t, gamma, omega2 = lr * steps, mu / (2 * m), 2 * k / m
    root = np.sqrt(complex(gamma**2 - omega2))
    fast, slow = -gamma - root, -gamma + root
    share = (-2 * k - slow) / (fast - slow)  # n(0) = 1, n'(0) = -2 k
    closed = (share * np.exp(fast * t) + (1 - share) * np.exp(slow * t)).real
    assert laws.ode.item() == pytest.approx(closed, rel=1e-9)
    solved = solve_ivp(
        lambda _, z: [z[1], -(mu * z[1] + 2 * k * z[0]) / m],
        (0, t), [1.0, -2 * k], rtol=1e-10, atol=1e-13,
    )  # fmt: skip
    assert laws.ode.item() == pytest.approx(solved.y[0, -1], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("form", ["published", "derived"])
def test_equation_17_is_its_integral(form):
    lr, b, k, steps = 0.1, 0.5, 0.2, 30
    laws = scale_symmetry.Laws(torch.ones(1, 1).double(), [lr], [b], [k])
    for _ in range(steps):
        laws.step(
            torch.ones(1, 1).double(), torch.full((1, 1), 0.7, dtype=torch.float64)
        )
    t, rate = lr * steps, 4 * k / (1 - b)
    weight = {"published": 2 * lr * (1 + b) / (1 - b) ** 3, "derived": 2 * lr / 0.25}
    integral = quad(lambda s: np.exp(-rate * (t - s)) * 0.7, 0, t)[0]
    expected = weight[form] * integral + np.exp(-rate * t)
    assert getattr(laws, form).item() ** 2 == pytest.approx(expected, rel=1e-9)


def test_rmsprop_on_the_sphere_follows_sgd_the_closer_the_smaller_the_rate():
    free, sphere = (
        experiment.run([
            experiment.Config("sphere", rule, weight_decay=0.01, lr=lr, steps=40)
            for lr in (0.2, 0.05)
        ])
        for rule in ("free", "sphere")
    )  # fmt: skip
    gaps = [abs(f["loss"] / s["loss"] - 1) for f, s in zip(free, sphere, strict=True)]
    assert gaps[1] < gaps[0] / 2 < 0.01
    assert gaps[0] > 1e-6  # they are two programs
