"""Averages over GL+(2), the maps of the plane that keep its orientation.

Its invariant measure is d^4g/det(g)^2. An average over it is taken factor by factor, as
in Mironenco and Forre, "Lie Group Decompositions for Equivariant Neural Networks" (ICLR
2024, arXiv 2310.11366): the compact factor by the rotations of symlab.actions, exactly,
and the others by quadrature. The oracle is the integral over the four entries.
"""

import numpy as np
import pytest
from scipy.special import roots_hermite, roots_legendre

from symlab import actions

MOVES = {
    "identity": np.eye(2),
    "shear": np.array([[1.0, 0.6], [0.0, 1.0]]),
    "stretch": np.diag([1.4, 0.8]),
    "any": np.array([[0.9, -0.5], [0.7, 1.1]]),
}


def polynomial(g):
    """A polynomial of degree 4 in the entries, even in the second column."""
    a, b, c = g[..., 0, 0], g[..., 0, 1], g[..., 1, 0]
    return 1 + a**2 + 0.5 * b**2 * c**2 + a * c


def f(g):
    """A function of (..., 2, 2) that decays at zero determinant and at infinity."""
    determinant = g[..., 0, 0] * g[..., 1, 1] - g[..., 0, 1] * g[..., 1, 0]
    return determinant**4 * polynomial(g) * np.exp(-np.square(g).sum((-2, -1)))


def direct():
    """The integral over all entries, by Gauss-Hermite: exact for a polynomial.

    f is even in the second column, so that matrices of positive determinant are half.
    """
    x, w = roots_hermite(8)
    g = np.stack(np.meshgrid(x, x, x, x, indexing="ij"), -1).reshape(-1, 2, 2)
    weights = np.einsum("i,j,k,l->ijkl", w, w, w, w).ravel()
    return float((weights * polynomial(g) * np.linalg.det(g) ** 2).sum() / 2)


def nodes(low, high, n=32):
    x, w = roots_legendre(n)
    return low + (high - low) * (x + 1) / 2, w * (high - low) / 2


def rotations(order=8):
    """Rotations of the plane; 8 are exact for k, in which f has degree 4."""
    return actions.planar_rotations(order).numpy()


def by_qr(h, power=1):
    """g = k t, with t = (a, b; 0, d): d^4g = a da db dd dk, k by its angle."""
    (a, wa), (b, wb), (d, wd) = nodes(0, 6), nodes(-6, 6), nodes(0, 6)
    grid = np.meshgrid(a, b, d, indexing="ij")
    a, b, d = (axis.ravel() for axis in grid)
    weights = np.einsum("i,j,k->ijk", wa, wb, wd).ravel()
    t = np.stack([a, b, np.zeros_like(a), d], -1).reshape(-1, 2, 2)
    mean = np.mean([f(k @ t @ h) for k in rotations()], 0)
    return float((weights * a**power / (a * d) ** 2 * mean).sum() * 2 * np.pi)


def by_polar(h):
    """g = k p, with p = u diag(s, r s) u^T and 0 < r < 1, k and u by their angles.

    The singular value decomposition has d^4g = (s1^2 - s2^2) ds1 ds2 dk du, and each g
    twice, as u and -u give the same p: hence the half.
    """
    (s, ws), (r, wr) = nodes(0, 6), nodes(0, 1)
    s, r = (axis.ravel() for axis in np.meshgrid(s, r, indexing="ij"))
    weights = np.outer(ws, wr).ravel() * s / 2  # d(r s) = s dr
    p = np.zeros((len(s), 2, 2))
    p[:, 0, 0], p[:, 1, 1] = s, r * s
    mean = 0
    for u in rotations(32):
        shaped = u @ p @ u.T
        mean = mean + np.mean([f(k @ shaped @ h) for k in rotations()], 0) / 32
    measure = (s**2 - (r * s) ** 2) / (r * s**2) ** 2
    return float((weights * measure * mean).sum() * (2 * np.pi) ** 2)


@pytest.mark.parametrize("move", MOVES)
def test_an_average_by_qr_is_the_direct_one_and_invariant(move):
    """The mean of f(g h) over g is the same for every h: the measure is two-sided."""
    assert by_qr(MOVES[move]) == pytest.approx(direct(), rel=1e-6)


@pytest.mark.parametrize("move", ["identity", "any"])
def test_an_average_by_polar_factors_is_the_direct_one_and_invariant(move):
    assert by_polar(MOVES[move]) == pytest.approx(direct(), rel=1e-6)


def test_a_wrong_measure_is_noticed():
    """Without the factor a of QR the result differs, and depends on the move."""
    wrong = [by_qr(h, power=0) for h in MOVES.values()]
    assert abs(wrong[0] / direct() - 1) > 0.1
    assert np.ptp(wrong) > 0.1 * wrong[0]
