"""Fits of rates recover known laws; driven equations agree with scipy's integrators."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from symlab import fits

T = np.arange(1.0, 2001)


def test_a_power_law_has_its_exponent_and_constant():
    rate = fits.power_law(T, 3 * T**-2, (200, 2000))
    assert (rate.value, rate.low, rate.high) == pytest.approx((-2, -2, -2), abs=1e-9)
    assert rate.constant == pytest.approx(3, rel=1e-9)
    assert (rate.start, rate.end, rate.n) == (200, 2000, 1801)


def test_an_exponential_has_its_rate_and_ends_at_the_floor():
    y = 2 * np.exp(-0.05 * T) + 1e-20  # rounding-like plateau
    rate = fits.exponential(T, y, floor=1e-15)
    assert rate.value == pytest.approx(0.05, rel=1e-4)
    assert rate.end == pytest.approx(np.log(2e15) / 0.05, abs=1)
    assert rate.start == pytest.approx(rate.end / 2, abs=2)


def test_the_range_of_local_rates_shows_a_curve_that_is_no_law():
    straight = fits.exponential(T, np.exp(-0.01 * T), floor=1e-30)
    bent = fits.exponential(T, 1 / T**2, floor=1e-30)
    assert straight.high - straight.low < 1e-10
    assert bent.high > 1.5 * bent.low > 0


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        (lambda: fits.power_law(T, T, (1, 8)), "8 samples"),
        (lambda: fits.exponential(T, 0 * T, floor=0.0), "0 samples"),
        (lambda: fits.exponential(T, np.nan * T, floor=0.0), "0 samples"),
        (lambda: fits.power_law(T[::-1], T, (1, 99)), "must rise"),
        (lambda: fits.power_law(np.linspace(1, 1000, 20), T[:20], (1, 1000)), "part"),
    ],
)
def test_a_fit_without_enough_samples_is_refused(fit, words):
    with pytest.raises(ValueError, match=words):
        fit()


def test_a_width_is_interpolated_and_counts_the_longest_range():
    x = np.geomspace(1e-2, 1e2, 5)
    assert fits.width(x, [4, 1, 1, 1, 4], level=2) == pytest.approx(
        3
    )  # half a gap each
    assert fits.width(x, [1, 9, 1, 1, np.nan], level=3) == pytest.approx(1.5)
    assert fits.width(x, [1, 1, 1, 1, 1], level=3) == pytest.approx(4)
    assert fits.width(x, [9, 9, 9, 9, np.inf], level=3) == 0


@pytest.mark.parametrize("dt", [1e-3, 0.3, 4.0])
def test_a_propagator_is_the_matrix_exponential_of_scipy(dt):
    a, b = np.array([[0.0, 1.0], [-3.0, -2.0]]), np.array([0.0, 1.5])
    e, f = fits.propagator(a, b, dt)
    assert e == pytest.approx(expm(a * dt), rel=1e-12, abs=1e-14)
    rest = np.linalg.solve(a, (expm(a * dt) - np.eye(2)) @ b)
    assert f == pytest.approx(rest, rel=1e-9, abs=1e-14)


def test_a_driven_equation_agrees_with_solve_ivp():
    a, b, dt = np.array([[0.0, 1.0], [-0.5, -0.7]]), np.array([0.0, 2.0]), 0.2
    source = np.random.default_rng(0).uniform(size=(50, 3))
    start = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 0.5]])
    path = fits.driven(a, b, source, start, dt)
    z = start.copy()
    for s in source:  # step by step, because the source jumps
        z = np.stack([
            solve_ivp(lambda _, z, s=s[i]: a @ z + b * s, (0, dt), z[:, i], rtol=1e-10,
                      atol=1e-12).y[:, -1] for i in range(3)], 1)  # fmt: skip
    assert path.shape == (51, 2, 3)
    assert path[-1] == pytest.approx(z, rel=1e-8)
