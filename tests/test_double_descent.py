"""Random features: descent in coefficients, the minimum norm, and the closed form."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, linalg, stats

from symlab import random_features as rf
from symlab.harness import contract, project

PROJECT = project.find(Path(__file__).resolve().parents[1])
module = contract.load(PROJECT, "double_descent").module
SMALL = module.Config(n=30, dim=8, passes=3)


def problem(p: int, n: int = 30, dim: int = 8):
    draws = np.random.default_rng(p)
    x, w = rf.sphere(draws, n, dim), rf.sphere(draws, p, dim)
    return rf.features(x, w), draws.normal(size=(n, 2)), draws


def mei_montanari(p, n, dim, noise):
    """Theorem 2 of arXiv 1908.05355, written out: bias and variance without ridge."""
    s = rf.LINEAR**2 / rf.CURVED  # zeta^2
    a, b = p / dim, n / dim
    t = min(a, b) * s - s - 1
    c = -(np.sqrt(t * t + 4 * s * min(a, b)) + t) / (2 * s)  # chi
    below = (
        -(c**5) * s**3 + 3 * c**4 * s**2 + (a * b - a - b + 1) * c**3 * s**3
        - 2 * c**3 * s**2 - 3 * c**3 * s + (a + b - 3 * a * b + 1) * c**2 * s**2
        + 2 * c**2 * s + c**2 + 3 * a * b * c * s - a * b
    )  # fmt: skip
    bias = b * c**3 * s**2 - b * c**2 * s + a * b * c * s - a * b
    variance = (
        c**5 * s**3 - 3 * c**4 * s**2 + (a - 1) * c**3 * s**3 + 2 * c**3 * s**2
        + 3 * c**3 * s - (a + 1) * c**2 * s**2 - 2 * c**2 * s - c**2
    )  # fmt: skip
    return bias / below, noise**2 * variance / below


def test_moments_of_the_sine_are_integrals():
    def moment(f):
        return integrate.quad(lambda z: f(z) * stats.norm.pdf(z), -9, 9)[0]

    assert moment(lambda z: z * np.sin(z)) == pytest.approx(rf.LINEAR)
    total = moment(lambda z: np.sin(z) ** 2)
    assert total - rf.LINEAR**2 == pytest.approx(rf.CURVED)


@pytest.mark.parametrize("p", [25, 100, 190, 210, 400, 1600])
def test_the_closed_form_is_the_theorem_of_mei_and_montanari(p):
    ours = rf.ridgeless(p, 200, 50, 0.5)
    assert np.allclose(ours, mei_montanari(p, 200, 50, 0.5), rtol=1e-9)


def test_the_closed_form_diverges_at_the_threshold_alone():
    bias, variance = rf.ridgeless([199, 200, 201], 200, 50, 0.5)
    assert np.isfinite([bias[0], bias[2], variance[0], variance[2]]).all()
    assert np.isinf([bias[1], variance[1]]).all()


@pytest.mark.parametrize("p", [12, 30, 90])
def test_the_minimum_norm_is_that_of_the_pseudo_inverse(p):
    phi, y, _ = problem(p)
    weights = phi.T @ rf.minimum_norm(phi @ phi.T, y, min(phi.shape))
    theirs = linalg.pinv(phi) @ y
    scale = abs(theirs).max()
    np.testing.assert_allclose(weights / scale, theirs / scale, atol=1e-6)


def test_descent_in_coefficients_is_sgd_on_the_weights():
    phi, y, draws = problem(50)
    order, lr = np.concatenate([draws.permutation(30) for _ in range(3)]), 0.7
    w, path = np.zeros((50, 2)), []
    for i in order:
        path.append(w.copy())
        w -= lr * np.outer(phi[i], phi[i] @ w - y[i])
    given = ((phi @ phi.T)[None], y[None], order[None], np.array([lr]))
    first, late = rf.descend(*given)
    np.testing.assert_allclose(phi.T @ first[0], np.mean(path[:30], 0), atol=1e-12)
    np.testing.assert_allclose(phi.T @ late[0], np.mean(path[45:], 0), atol=1e-12)


def test_descent_ends_at_the_minimum_norm():
    phi, y, draws = problem(400)
    order = np.concatenate([draws.permutation(30) for _ in range(1000)])
    kernel = phi @ phi.T
    lr = np.array([0.7 / np.diag(kernel).mean()])
    _, late = rf.descend(kernel[None], y[None], order[None], lr)
    least = rf.minimum_norm(kernel, y, 30)
    assert np.linalg.norm(late[0] - least) < 1e-3 * np.linalg.norm(least)


def test_two_copies_of_each_feature_change_nothing():
    alone = replace(SMALL, features=45)
    twice = replace(SMALL, features=90, copies=2)
    one, two = module.run([alone, twice])
    for column, value in one.items():
        assert two[column] == pytest.approx(value, rel=1e-8), column
    other = module.run([replace(SMALL, features=90)])[0]
    assert other["sgd_risk"] != pytest.approx(one["sgd_risk"], rel=1e-3)


def test_bias_and_variance_are_parts_of_one_predictor():
    """Labels without noise have the bias as their risk, and no variance."""
    noisy, clean = module.run([replace(SMALL, noise=x) for x in (0.5, 0.0)])
    for fit in module.FITS:
        assert clean[f"{fit}_risk"] == pytest.approx(clean[f"{fit}_bias"])
        assert clean[f"{fit}_bias"] == pytest.approx(noisy[f"{fit}_bias"])
        assert clean[f"{fit}_variance"] == 0
    assert noisy["norm_variance"] > noisy["pass_variance"] > 0


def test_a_large_fit_has_the_risk_of_the_closed_form():
    c = module.Config(n=300, dim=100, passes=2, features=600)
    rows = module.run([replace(c, seed=s) for s in range(4)])
    for part in ("bias", "variance"):
        found = np.mean([row[f"norm_{part}"] for row in rows])
        assert found == pytest.approx(rows[0][f"{part}_law"], rel=0.15), part
