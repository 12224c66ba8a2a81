"""How far the singular vectors of two models agree, and what a permutation can change.

With A = sum_i s_i u_i v_i^T and B = sum_j t_j x_j y_j^T,

    <A, B> = sum_ij s_i t_j (u_i . x_j) (v_i . y_j).

A permutation of units multiplies a matrix by orthogonal ones: it changes the singular
vectors but not the singular values s and t. It therefore changes
|A - B|^2 = |A|^2 + |B|^2 - 2 <A, B> by the directions alone (Ito, Yamada and Kumagai,
ICLR 2025, arXiv 2402.04051).
"""

from collections.abc import Sequence

import numpy as np

Matrices = Sequence[np.ndarray]


def alignment(a: Matrices, b: Matrices, gamma: float = 0.0) -> float:
    """Return how well the singular vectors of two models agree; 1 if they are equal.

    a, b: the weight matrices (m, n) of two models, layer by layer in the same order.
    gamma: in [0, 1]; a singular vector is kept if its singular value is at least gamma
        times the largest of its layer.

    With U, V the kept left and right vectors of one layer of a, and X, Y those of b, it
    is

        sum_layers <U V^T, X Y^T> / sqrt(sum_layers |U V^T|^2 sum_layers |X Y^T|^2),

    the cosine between the two partial isometries. |U V^T|^2 is the number of vectors
    kept. Raises ValueError if the numbers of layers differ or gamma is not in [0, 1].
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma is a share of the largest singular value, not {gamma}")
    products, ours, theirs = 0.0, 0, 0
    for x, y in zip(a, b, strict=True):
        p, n = _isometry(x, gamma)
        q, m = _isometry(y, gamma)
        products += float((p * q).sum())
        ours, theirs = ours + n, theirs + m
    return products / float(np.sqrt(ours * theirs))


def pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the contribution of each pair of singular directions to <A, B>, (r, r).

    a, b: matrices A = sum_i s_i u_i v_i^T and B = sum_j t_j x_j y_j^T of one shape (m,
        n); r = min(m, n).

    Entry (i, j) is s_i t_j (u_i . x_j) (v_i . y_j); the entries add up to <A, B>.
    """
    u, s, v = _svd(a)
    x, t, y = _svd(b)
    return np.outer(s, t) * (u.T @ x) * (v @ y.T)


def identity_error(a: Matrices, b: Matrices) -> float:
    """Return the largest error, over layers, of <A, B> as the sum of `pairs`.

    a, b: the weight matrices of two models, layer by layer. The error is relative to
    |A| |B|, and 0 up to rounding.
    """
    errors = [
        abs(pairs(x, y).sum() - (x * y).sum()) / np.linalg.norm(x) / np.linalg.norm(y)
        for x, y in zip(a, b, strict=True)
    ]
    return float(max(errors))


def values_moved(a: Matrices, b: Matrices) -> float:
    """Return the largest difference between the singular values of two models.

    a, b: the weight matrices, layer by layer. The i-th largest values of a layer are
    compared, relative to the largest singular value of that layer in a.
    """
    spectra = [(_svd(x)[1], _svd(y)[1]) for x, y in zip(a, b, strict=True)]
    return float(max(np.abs(s - t).max() / s[0] for s, t in spectra))


def leading_shares(a: Matrices, b: Matrices, n: int = 10) -> tuple[float, float]:
    """Return the fractions of <A, B> and of |A|^2 that the first n singular directions
    carry.

    a, b: the weight matrices A and B of two models, layer by layer; both fractions are
        of sums over the layers.

    For <A, B>, the pairs counted are those in which both directions are among the first
    n of their own matrix; see `pairs`.
    """
    gains = [pairs(x, y) for x, y in zip(a, b, strict=True)]
    energies = [_svd(x)[1] ** 2 for x in a]
    gain = sum(g[:n, :n].sum() for g in gains) / sum(g.sum() for g in gains)
    energy = sum(e[:n].sum() for e in energies) / sum(e.sum() for e in energies)
    return float(gain), float(energy)


def _isometry(matrix: np.ndarray, gamma: float) -> tuple[np.ndarray, int]:
    """Return the sum of u_i v_i^T over kept values, (m, n), and their number."""
    u, s, v = _svd(matrix)
    kept = s >= gamma * s[0]
    return u[:, kept] @ v[kept], int(kept.sum())


def _svd(matrix: np.ndarray):
    return np.linalg.svd(np.asarray(matrix, np.float64), full_matrices=False)
