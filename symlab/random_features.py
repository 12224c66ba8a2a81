"""Least squares on random features of points on a sphere: features, SGD, its limit.

phi_j(x) = sin(w_j.x/sqrt(d))/sqrt(p), j = 1..p, for x (d,) and fixed w_j (d,) of norm
sqrt(d). The sine has no even part: besides the linear functions of x it contains those
of third order, d^3/6 in number, which n samples cannot resolve and which act as noise.
Only the last layer is trained, so the loss is convex. Descent from zero stays in the
span of the training features: w = Phi^T a, with one coefficient in a for each of the n
samples. A step on sample i changes a_i alone and costs n operations for any p.

Axes: L runs side by side, N samples, P features, D inputs, C targets that are learned
    together.
"""

import numpy as np

LINEAR = np.exp(-1 / 2)  # E z sin(z), z normal
CURVED = (1 - np.exp(-2)) / 2 - LINEAR**2  # E sin(z)^2 - LINEAR^2


def sphere(draws: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """Return n uniform points (n, dim) on the sphere of radius sqrt(dim)."""
    x = draws.normal(size=(n, dim))
    return x * np.sqrt(dim) / np.linalg.norm(x, axis=1, keepdims=True)


def features(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the random features sin(w x / sqrt(D)) / sqrt(P), (N, P), of points x.

    x (N, D): the points. w (P, D): the weights of the first layer, which stay fixed.
    """
    return np.sin(x @ w.T / np.sqrt(x.shape[1])) / np.sqrt(len(w))


def descend(kernels, targets, orders, lr) -> tuple[np.ndarray, np.ndarray]:
    """Return averages of the coefficients a of SGD with constant steps, which begins at
    zero and keeps the weights w = Phi^T a.

    kernels: Phi Phi^T (L, N, N) of L runs, with N samples each.
    targets: (L, N, C), the C targets of each sample.
    orders: the sample of each step, (L, T) with T = passes * N, in passes over all
        samples.
    lr: (L,), the learning rate of each run.

    A step is w -= lr (phi.w - y) phi. Returns two arrays (L, N, C): the mean of the
    coefficients before each step of the first pass, and their mean over the second half
    of all steps.
    """
    lanes, n, _ = targets.shape
    steps, lane = orders.shape[1], np.arange(lanes)
    a, first, late = (np.zeros_like(targets) for _ in range(3))
    for t in range(steps):
        if t < n:
            first += a
        elif t >= steps // 2:
            late += a
        i = orders[:, t]
        wrong = (kernels[lane, i][:, None] @ a)[:, 0] - targets[lane, i]  # (L, C)
        a[lane, i] -= lr[:, None] * wrong
    return first / n, late / (steps - max(n, steps // 2))


def minimum_norm(kernel: np.ndarray, targets: np.ndarray, rank: int) -> np.ndarray:
    """Return the coefficients (N, C) of the least-squares fit of least norm.

    kernel: Phi Phi^T (N, N).
    targets: (N, C).
    rank: the rank of Phi, which is min(N, P) for random features. Eigenvalues beyond it
        are rounding and count as zero.
    """
    values, vectors = np.linalg.eigh(kernel)
    values, vectors = values[-rank:], vectors[:, -rank:]
    return vectors @ (vectors.T @ targets / values[:, None])


def ridgeless(p, n: int, dim: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return bias and variance of the minimum-norm fit in the limit of large p, n and
    dim.

    p: numbers of features, an array. n: the number of samples.
    dim: the dimension of the inputs, on a sphere of radius sqrt(dim); a feature is a
        sine of a random projection.
    noise: the standard deviation of the normal noise on the labels.

    The target is beta.x/sqrt(dim) with beta (dim,) of norm sqrt(dim), so that the risk
    of predicting zero is 1. The bias is the mean squared error without noise, the
    variance what the noise adds. Mei and Montanari (arXiv 1908.05355), theorem 2, in
    the form of Simon, Karkada, Ghosh and Belkin (arXiv 2311.14646), equation 7 with
    ridge 0. At p = n both are infinite.
    """
    p = np.asarray(p, float)
    fitted = np.minimum(n, p)
    value = LINEAR**2 / dim  # eigenvalue of each linear function; the rest has none
    half = fitted * value - LINEAR**2 - CURVED
    root = np.sqrt(half**2 + 4 * fitted * CURVED * value)
    gamma = (root - half) / (2 * fitted)  # solves dim value/(value + gamma) + ... = z
    learned = value / (value + gamma)
    q = dim * learned**2
    kappa = gamma * (1 - fitted / p)
    spent = (q * (p - 2 * fitted) + fitted**2) / (n * (p - q))  # 1 at p = n
    gain = 1 / np.where(p == n, 1, 1 - spent)
    gain = np.where(p == n, np.inf, gain)
    missed = (1 - learned) - kappa * learned**2 / value * p / (p - q)
    return gain * missed, noise**2 * (gain - 1)
