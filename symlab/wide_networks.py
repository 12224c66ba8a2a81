"""Wide two-layer ReLU networks that learn a permutation from the basis vectors.

f(x) = V relu(A x), with weights N(0, 1/fan-in), is trained by gradient descent on the
pairs (e_i, e_p(i)) of a permutation p of k letters. At infinite width its outputs
before training are Gaussian processes, with covariance K(u)/k for unit inputs of cosine
u, and training ends at

  f(x) = f0(x) + sum_i w_i(x) (e_p(i) - f0(e_i)),   w(x) = Theta_XX^-1 Theta_Xx

(Jacot et al., arXiv 1806.07572; Lee et al., arXiv 1902.06720), where f0 is the network
before training and Theta the kernel of the trained parameters, up to a factor. The
argument `regime` says which parameters are trained: "both" layers at the rates of the
NTK parametrisation, or the "last" layer alone. One rate for all weights leads to the
latter at large width, as the last layer's kernel is larger by a factor of width/k. What
follows for permutations is derived here.
"""

import numpy as np


def kernels(regime: str, cosine) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernels K and Theta of wide ReLU networks at given cosines.

    regime: 'both' if both layers are trained, 'last' if the last one is.
    cosine: u, between two inputs of unit length; each kernel has its shape.

    K is E[relu(g) relu(h)] for unit normals g and h of correlation u, to which the
    covariance of the outputs before training is proportional. Theta is the kernel of
    gradient descent: K + u a with a = E[1(g > 0) 1(h > 0)] for 'both', and K for
    'last'. K and a are half the arc-cosine kernels of degrees 1 and 0 (Cho and Saul,
    2009). Raises ValueError for another regime.
    """
    if regime not in ("both", "last"):
        raise ValueError(f"regime is {regime!r}: use 'both' or 'last'")
    u = np.clip(cosine, -1.0, 1.0)
    a = (np.pi - np.arccos(u)) / (2 * np.pi)
    k = u * a + np.sqrt(1 - u * u) / (2 * np.pi)
    return k, k + (u * a if regime == "both" else 0.0)


def moments(regime: str, k: int, ones) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return means mu_1 and mu_0 and variance s^2 of the outputs of an infinitely wide
    two-layer ReLU network after training.

    The network has learned a permutation of k letters from the k basis vectors.

    regime: 'both' if both layers were trained, 'last' if the last one was.
    k: the number of letters.
    ones: numbers of ones among the k bits of the inputs, which have unit length; each
        result has its shape.

    mu_1 is the mean of an output that should be 1, mu_0 of one that should be 0, and
    s^2 the variance of each. With d and c the values of the gradient-descent kernel
    Theta (see `kernels`) for equal and for orthogonal inputs, the basis has the Gram
    matrix (d - c) I + c 1 1^T. The kernel of an input and e_i takes one value if bit i
    of the input is 1 and another if it is 0, so the input's weights on the basis
    vectors take two values, too: these are the two means.
    """
    n = np.asarray(ones, float)
    (d_k, d), (c_k, c) = kernels(regime, 1.0), kernels(regime, 0.0)
    near_k, near = kernels(regime, 1 / np.sqrt(n))
    shared = c * (n * near + (k - n) * c) / (d - c + k * c)
    high, low = (near - shared) / (d - c), (c - shared) / (d - c)
    total, squares = n * high + (k - n) * low, n * high**2 + (k - n) * low**2
    cross = n * high * near_k + (k - n) * low * c_k
    return high, low, (d_k - 2 * cross + (d_k - c_k) * squares + c_k * total**2) / k


def log_error(nets, regime: str, k: int, ones) -> np.ndarray:
    """Return the logarithm of the probability that the mean output of some wide
    networks is wrong at an input.

    nets: the number of networks in the mean.
    regime, k, ones: as for `moments`; `nets` and `ones` are broadcast.

    An output bit is 1 if the mean is positive. Outputs are independent, and an input
    with n ones among k bits is right with probability Phi(mu_1 sqrt(nets)/s)^n
    Phi(-mu_0 sqrt(nets)/s)^(k-n), where Phi is the normal distribution function.
    """
    from scipy.special import log_ndtr

    high, low, variance = moments(regime, k, ones)
    root, n = np.sqrt(nets / variance), np.asarray(ones)
    right = n * log_ndtr(high * root) + (k - n) * log_ndtr(-low * root)
    with np.errstate(divide="ignore"):  # an input of ones has no output to be 0
        tails = np.log(n) + log_ndtr(-high * root), np.log(k - n) + log_ndtr(low * root)
        exact = np.log(-np.expm1(right))
    return np.where(right < -1e-8, exact, np.logaddexp(*tails))  # far out: one error


def covariance(regime: str, x: np.ndarray) -> np.ndarray:
    """Return the covariance (N, N) of one output of trained networks at N inputs.

    regime: 'both' if both layers were trained, 'last' if the last one was.
    x: (N, k), inputs of unit length.

    The networks are infinitely wide, have random initial weights and have learned a
    permutation of k letters.
    """
    k_xx, _ = kernels(regime, x @ x.T)
    k_bx, theta_bx = kernels(regime, x.T)
    k_bb, theta_bb = kernels(regime, np.eye(x.shape[1]))
    w = np.linalg.solve(theta_bb, theta_bx)  # (k, N)
    cross = w.T @ k_bx
    return (k_xx - cross - cross.T + w.T @ k_bb @ w) / x.shape[1]


def needed(log_wrong, level: float, shape=()) -> np.ndarray:
    """Return the number of networks N at which the probability of an error is 1 -
    level.

    log_wrong: a function of N: the logarithm of the probability of an error, which
        falls with N.
    level: the probability that the result is right.
    shape: the shape of the result.

    N is sought up to e^25.
    """
    low, high = np.full(shape, -5.0), np.full(shape, 25.0)
    for _ in range(60):
        middle = (low + high) / 2
        above = log_wrong(np.exp(middle)) > np.log(1 - level)
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.exp(high)


def passages(
    regime: str, k: int, levels, tests: int, draws: np.random.Generator, chunk: int = 32
) -> list[int]:
    """Return how many wide networks must be averaged to first reach each of some
    levels.

    regime, k: as for `moments`.
    levels: rising fractions of the test inputs on which the average is right.
    tests: the number of test inputs, each with two ones among k bits, drawn with
        replacement.
    draws: the source of random numbers.
    chunk: how many networks are drawn at once.

    Networks of infinite width are drawn one after another, and the average of all
    networks drawn so far is tested. By symmetry the permutation is taken to be the
    identity.
    """
    pairs = np.stack(np.triu_indices(k, 1), 1)
    x = np.zeros((len(pairs), k))
    np.put_along_axis(x, pairs, 1.0, 1)
    tried = draws.integers(0, len(x), tests)
    share = np.bincount(tried, minlength=len(x)) / tests
    high, low, _ = moments(regime, k, 2)
    mean, sign = np.where(x > 0, high, low), np.where(x > 0, 1.0, -1.0)
    values, vectors = np.linalg.eigh(covariance(regime, x / np.sqrt(2)))
    root = (vectors * np.sqrt(np.maximum(values, 0))).astype(np.float32)
    found, total, done = [], np.zeros(x.shape), 0
    while len(found) < len(levels):
        z = draws.standard_normal((len(x), chunk * k), np.float32)
        steps = (root @ z).reshape(len(x), chunk, k).swapaxes(0, 1)
        walk = total + np.cumsum(steps, 0, dtype=float)  # (chunk, inputs, k)
        nets = done + np.arange(1, chunk + 1)
        right = ((walk / nets[:, None, None] + mean) * sign > 0).all(2) @ share
        for level in levels[len(found) :]:
            if not (there := right > level - 1e-9).any():  # sums of shares round
                break
            found.append(int(nets[there.argmax()]))
        total, done = walk[-1], done + chunk
    return found


def trained(regime: str, a, v, target, x, steps: int = 120):
    """Return the outputs (L, k, N) at inputs x (k, N) of L trained two-layer networks.

    regime: 'both' or 'last', which sets the rates below.
    a, v: torch tensors of initial weights, (L, width, k) and (L, k, width), of the
        network v relu(a x).
    target: (k, k), the wanted output for the basis vector e_i in column i.
    steps: the number of steps of full-batch gradient descent on |f - target|^2/2.

    The rate of v is lr/width. For "both" the rate of a is lr/k (the NTK parametrisation
    at rate lr); for "last" it is the rate of v, and trained biases that begin at 0 are
    added (as in the released code). lr is one over the largest eigenvalue of the
    kernel.
    """
    import torch

    width, k = a.shape[1:]
    a, v, b = a.clone(), v.clone(), torch.zeros_like(a[..., :1])
    (_, d), (_, c) = kernels(regime, 1.0), kernels(regime, 0.0)
    lr = float(k / (d + (k - 1) * c))
    last = lr / width
    first, bias = (lr / k, 0.0) if regime == "both" else (last, last)
    for _ in range(steps):
        z = (a + b).relu_()  # (L, width, k): the inputs are the basis
        r = torch.bmm(v, z).sub_(target)
        g = torch.ops.aten.threshold_backward(torch.bmm(v.mT, r), z, 0)
        v.baddbmm_(r, z.mT, alpha=-last)
        a.sub_(g, alpha=first)
        b.sub_(g.sum(2, keepdim=True), alpha=bias)
    return torch.bmm(v, (a @ x + b).relu_())
