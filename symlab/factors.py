"""Gradient descent on a low-rank matrix M by factors, F G^T, in many runs side by side.

L runs ("lanes") are computed together; the last axis of every array runs over them, the
fastest order for matrices of a few rows. The loss is |H^(1/2) vec(R)|^2/2 with
R = F G^T - M and M = diag(s, 0, ...) of rank r; H is the identity, or the Gram matrix
of measurements. Descent on X X^T is the case in which G starts at F, as both factors
then make the same step.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Descent:
    """What `descend` returns: the errors of L runs at recorded steps, and their last
    factors.

    In each run the factors F and G, both (n, k), are trained to make F G^T equal to a
    matrix M (n, n).
    times: (T,), the recorded steps.
    errors: (T, L), the squared Frobenius norm of R = F G^T - M at these steps.
    f, g: the factors at the end, (n, k, L).
    stepped: (L,), the step at which a run was re-balanced, or -1.
    law: (L,), the largest deviation of an entry of F^T F - G^T G from the law that
        `descend` states.
    """

    times: np.ndarray
    errors: np.ndarray
    f: np.ndarray
    g: np.ndarray
    stepped: np.ndarray
    law: np.ndarray


def descend(f, g, loss, lr, steps: int, every: int, beta2, trigger: float) -> Descent:
    """Descend from factors F and G of F G^T towards M, in L runs side by side.

    f, g: the factors F and G at the start, (n, k, L).
    loss: a `Loss`.
    lr: (L,), the learning rate of each run.
    steps: the number of steps.
    every: the number of steps between two records of the error.
    beta2: (L,), the value to which re-balancing sets all squared singular values of F,
        see `rebalanced`; 0 if the run is never re-balanced.
    trigger: a run is re-balanced once, at the first record at which its loss is below
        this number.

    A step changes F^T F - G^T G by exactly lr^2 (G^T R^T R G - F^T R R^T F), with R the
    weighted residual.
    """
    f, g, n_lanes = f.copy(), g.copy(), f.shape[2]
    began, moved = gram(f) - gram(g), np.zeros((f.shape[1], f.shape[1], n_lanes))
    errors, stepped = [], np.full(n_lanes, -1)
    for t in range(steps + 1):
        if t % every == 0:
            r = loss.residual(f, g)
            errors.append((r**2).sum((0, 1)))
            low = (r * loss.weighted(r)).sum((0, 1)) / 2 < trigger
            for i in np.flatnonzero(low & (beta2 > 0) & (stepped < 0)):
                f[..., i], g[..., i] = rebalanced(f[..., i], g[..., i], beta2[i])
                began[..., i], moved[..., i] = (gram(f) - gram(g))[..., i], 0
                stepped[i] = t
        df, dg = loss.gradient(f, g)
        moved += lr**2 * (gram(df) - gram(dg))
        f, g = f - lr * df, g - lr * dg
    law = np.abs(gram(f) - gram(g) - began - moved).max((0, 1))
    return Descent(np.arange(0, steps + 1, every), np.array(errors), f, g, stepped, law)


class Loss:
    """The loss of factors F, G in L runs: half the weighted squares of F G^T - M.

    spectrum: (r,), the first entries of the diagonal of M (n, n); the rest of M is
        zero.
    hs: matrices H (n^2, n^2) that weight the residual R = F G^T - M, one per data set;
        without them every entry is observed and H is the identity.
    which: (L,), the data set of each run.
    symmetric: whether the runs descend on X X^T, which only the symmetric part of H
        vec(R) moves.
    """

    def __init__(self, spectrum, n: int, hs=(), which=None, symmetric: bool = False):
        self.spectrum, self.hs, self.which = spectrum, hs, which
        self.symmetric = symmetric
        self.target = np.zeros((n, n, 1))
        self.target[range(len(spectrum)), range(len(spectrum)), 0] = spectrum

    def residual(self, f, g):
        """Return R = F G^T - M of all runs, (n, n, L)."""
        return np.einsum("ial,jal->ijl", f, g) - self.target

    def weighted(self, residual):
        """Return the weighted residual H vec(R), in the shape of R (n, n, L)."""
        if not len(self.hs):
            return residual
        flat = residual.reshape(-1, residual.shape[2])
        out = np.empty_like(flat)
        for u, h in enumerate(self.hs):
            out[:, self.which == u] = h @ flat[:, self.which == u]
        out = out.reshape(residual.shape)
        return (out + out.swapaxes(0, 1)) / 2 if self.symmetric else out

    def gradient(self, f, g):
        """Return the gradients of the loss in F and in G, each (n, k, L)."""
        if len(self.hs):
            w = self.weighted(self.residual(f, g))
            return np.einsum("ijl,jal->ial", w, g), np.einsum("ijl,ial->jal", w, f)
        r, s = len(self.spectrum), self.spectrum[:, None, None]
        df = np.einsum("nil,ijl->njl", f, gram(g))  # cheaper than (F G^T) G
        dg = np.einsum("nil,ijl->njl", g, gram(f))
        df[:r] -= s * g[:r]
        dg[:r] -= s * f[:r]
        return df, dg


def gram(x):
    """Return the Gram matrices X^T X (k, k, L) of factors X (n, k, L), one per run."""
    return np.einsum("nil,njl->ijl", x, x)


def reduced(factor: np.ndarray, r: int) -> np.ndarray:
    """Return a factor (n, k) in fewer rows, (r + k, k), for a matrix M of rank r.

    The n - r rows in which M = diag(s, 0, ...) is zero are rotated so that at most k of
    them are not zero. If every entry is observed, descent commutes with rotations of
    those rows of F and of G, so its errors stay the same at a fraction of the cost.
    """
    return np.concatenate([factor[:r], np.linalg.qr(factor[r:], mode="r")])


def rebalanced(f, g, beta2: float):
    """Return new factors with the same product F G^T, the first with singular values
    beta.

    f, g: factors of one run, (n, k).
    beta2: beta^2, a scalar.

    With the singular value decomposition F = A S B^T the new factors are beta A and G B
    S/beta.
    """
    a, s, b = np.linalg.svd(f, full_matrices=False)
    return np.sqrt(beta2) * a, (g @ b.T) * s / np.sqrt(beta2)


def least_positive(f, g, r: int, h=None) -> float:
    """Return the least positive eigenvalue of the loss's Hessian at a limit of descent.

    f, g: (n, k), near a limit at which F G^T = M, F has rank k and G has rank r.
    r: the rank of M.
    h: the weights H (n^2, n^2) of the residual, or None for the identity.

    The matrix is J^T H J with J = d(F G^T)/d(F, G). J has rank (k + r) n - k r at the
    limit; the remaining eigenvalues, which vanish there, are left out.
    """
    n, k = f.shape
    one = np.eye(n)
    by_f = np.einsum("ip,ja->ijpa", one, g).reshape(n * n, n * k)
    by_g = np.einsum("jp,ia->ijpa", one, f).reshape(n * n, n * k)
    j = np.concatenate([by_f, by_g], 1)
    values = np.linalg.eigvalsh(j.T @ (j if h is None else h @ j))
    return float(values[2 * n * k - ((k + r) * n - k * r)])
