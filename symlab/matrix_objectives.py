"""Three random objectives over matrices, with gradients of many runs side by side.

They are those of Lau, Long and Su (PolarGrad, arXiv 2505.21799, sections 6.1 to 6.3):

  Quadratic    |A X B - C|^2 / 2, strongly convex; full gradient
  Logistic     sum of log(1 + exp(-C * (A X B))), convex; gradient of a batch
  Completion   mean of (X Y^T - M)^2 over observed entries, not convex; full gradient

An objective holds U problems, one per seed, and `which` (L,) says which of them each of
the L runs has. Weights are a list of tensors (L, m, n): X alone, or X and Y. All is
float64. `gap` returns the objective minus its least value; if possible it is computed
without a difference of two losses, which would cancel.
"""

import numpy as np
import scipy.optimize
import torch
from scipy.special import expit
from torch import Tensor

from symlab.harness import rng


def _lanes_of(arrays) -> Tensor:
    """The arrays of U problems as one tensor (U, ...)."""
    return torch.from_numpy(np.stack(list(arrays)))


class Quadratic:
    """The objective |A X B - C|_F^2 / 2 over X (m, n), with normal A, B and C.

    A is (2 m, m), B (n, 5 n / 2), C (2 m, 5 n / 2). The aspect ratios are the paper's.
    Its Hessian is A^T A x B B^T (Kronecker product), whose condition number tends to 34
    * 20 = 670 for large matrices of these ratios.
    """

    def __init__(self, seeds, which, rows: int, columns: int):
        draws = [rng.stream(s, "quadratic") for s in seeds]
        p, q = 2 * rows, 5 * columns // 2
        a = [d.normal(size=(p, rows)) for d in draws]
        b = [d.normal(size=(columns, q)) for d in draws]
        c = [d.normal(size=(p, q)) for d in draws]
        start = [d.uniform(-1, 1, (rows, columns)) for d in draws]
        solved = map(_least_squares, a, b, c)
        self.a, self.b, self.c, self.best = map(_lanes_of, (a, b, c, solved))
        self.left, self.right = self.a.mT @ self.a, self.b @ self.b.mT
        self.which = torch.as_tensor(which)
        self.start = [_lanes_of(start)[self.which]]

    def gradient(self, weights: list[Tensor], step: int) -> list[Tensor]:
        """Return the gradient A^T (A X B - C) B^T, computed from the distance to the
        optimum.

        weights: [X], X (L, m, n). step: not used, as the gradient is exact.
        """
        w = self.which
        off = weights[0] - self.best[w]
        return [torch.bmm(torch.bmm(self.left[w], off), self.right[w])]

    def gap(self, weights: list[Tensor]) -> Tensor:
        """Return the objective minus its minimum, |A (X - X*) B|^2 / 2 with optimum X*,
        (L,).
        """
        w = self.which
        off = torch.bmm(torch.bmm(self.a[w], weights[0] - self.best[w]), self.b[w])
        return off.square().sum((1, 2)) / 2

    def residual(self, weights: list[Tensor]) -> Tensor:
        """Return the residual A X B - C of each run, (L, p, q), where C is (p, q)."""
        w = self.which
        return torch.bmm(torch.bmm(self.a[w], weights[0]), self.b[w]) - self.c[w]


def _least_squares(a, b, c):
    half = np.linalg.lstsq(a, c, rcond=None)[0]  # (m, q)
    return np.linalg.lstsq(b.T, half.T, rcond=None)[0].T


class Logistic:
    """The objective sum of log(1 + exp(-C * (A X B))) over X (m, n), with normal A and
    B.

    A is (10 m, m), B (n, 4 n). An entry of C is 1 if a normal random number is above
    1/2, and -1 otherwise: labels do not depend on A and B. A step sees `batch` rows of
    A, drawn with replacement, the same in all runs of a seed.
    """

    def __init__(self, seeds, which, rows: int, columns: int, batch: int, steps: int):
        draws = [rng.stream(s, "logistic") for s in seeds]
        n, q = 10 * rows, 4 * columns
        a = [d.normal(size=(n, rows)) for d in draws]
        b = [d.normal(size=(columns, q)) for d in draws]
        c = [np.where(d.normal(size=(n, q)) > 0.5, 1.0, -1.0) for d in draws]
        start = [d.uniform(-1, 1, (rows, columns)) for d in draws]
        self.least = torch.tensor([_least_loss(*x) for x in zip(a, b, c, strict=True)])
        self.a, self.b, self.c = map(_lanes_of, (a, b, c))
        rounds = [
            rng.stream(s, "batches").integers(n, size=(steps + 1, batch)) for s in seeds
        ]
        self.drawn = _lanes_of(rounds)  # (U, T + 1, batch)
        self.which = torch.as_tensor(which)
        self.start = [_lanes_of(start)[self.which]]

    def gradient(self, weights: list[Tensor], step: int) -> list[Tensor]:
        """Return the gradient, (L, m, n) in a list, of the loss of this step's
        batch.
        """
        taken = self.drawn[:, step, :, None]  # (U, batch, 1)
        a = self.a.gather(1, taken.expand(-1, -1, self.a.shape[2]))[self.which]
        c = self.c.gather(1, taken.expand(-1, -1, self.c.shape[2]))[self.which]
        b = self.b[self.which]
        slope = torch.sigmoid(-c * torch.bmm(torch.bmm(a, weights[0]), b)).mul_(c)
        return [torch.bmm(torch.bmm(a.mT, slope), b.mT).neg_()]

    def gap(self, weights: list[Tensor]) -> Tensor:
        """Return the loss over all rows minus its least value, (L,)."""
        found = []
        for i, u in enumerate(self.which.tolist()):
            logits = self.c[u] * (self.a[u] @ weights[0][i] @ self.b[u])
            found.append(torch.nn.functional.softplus(-logits).sum() - self.least[u])
        return torch.stack(found)


def _least_loss(a, b, c) -> float:
    """The least loss, by L-BFGS in coordinates in which A and B are orthogonal."""
    a, b = np.linalg.qr(a)[0], np.linalg.qr(b.T)[0].T
    shape = a.shape[1], b.shape[0]

    def loss(flat):
        logits = c * (a @ flat.reshape(shape) @ b)
        slope = -c * expit(-logits)
        return np.logaddexp(0, -logits).sum(), (a.T @ slope @ b.T).ravel()

    tight = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-7}
    start = np.zeros(shape[0] * shape[1])
    return float(
        scipy.optimize.minimize(
            loss, start, jac=True, method="L-BFGS-B", options=tight
        ).fun
    )


class Completion:
    """The mean of (X Y^T - M)^2 over a random 30 % of the entries of M, of low rank.

    M = U V^T with U (rows, rank) and V (columns, rank) standard normal. X is (rows,
    rank) and Y (columns, rank); the least loss is 0.

    seeds: the seed of each problem.
    which: (L,), the problem of each run, by its position in `seeds`.
    """

    def __init__(self, seeds, which, rows: int, columns: int, rank: int):
        draws = [rng.stream(s, "completion") for s in seeds]
        sizes = (rows, rank), (columns, rank)
        factors = [[d.normal(size=s) for s in sizes] for d in draws]
        mask = [(d.random((rows, columns)) < 0.3).astype(float) for d in draws]
        start = [[d.uniform(-1, 1, s) for s in sizes] for d in draws]
        self.mask, self.target = _lanes_of(mask), _lanes_of(u @ v.T for u, v in factors)
        self.which = torch.as_tensor(which)
        self.start = [_lanes_of(side)[self.which] for side in zip(*start, strict=True)]

    def _residual(self, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The error of the observed entries (L, m, n), and their number (L, 1, 1)."""
        w, (x, y) = self.which, weights
        mask = self.mask[w]
        error = torch.baddbmm(self.target[w], x, y.mT, beta=-1)
        return error.mul_(mask), self.mask.sum((1, 2), keepdim=True)[w]

    def gradient(self, weights: list[Tensor], step: int) -> list[Tensor]:
        """Return the gradients with respect to X and Y, (L, rows, rank) and (L,
        columns, rank).
        """
        (x, y), (error, count) = weights, self._residual(weights)
        error.mul_(2 / count)
        return [torch.bmm(error, y), torch.bmm(error.mT, x)]

    def gap(self, weights: list[Tensor]) -> Tensor:
        """Return the loss of each run, (L,); its least value is 0."""
        error, count = self._residual(weights)
        return error.square_().sum((1, 2)) / count[:, 0, 0]
