"""Networks that settle, and the error vectors of equilibrium propagation (EP).

Axel Laborieux and Friedemann Zenke, "Improving equilibrium propagation without weight
symmetry through Jacobian homeostasis", ICLR 2024 (arXiv 2309.02214). Activations s
solve

    F(s, b) = M s + x - b e(s) - f^{-1}(s) = 0

where e is the gradient of the loss at the activations and b the nudge, which enters
before the nonlinearity f as in the authors' code. With the Jacobian J = M - diag(1/f')
the derivative of s at b = 0 is J^{-1} e. EP's error vector is -J^{-1} e, and that of
backpropagation (BP) -J^{-T} e: they are equal where J is symmetric.

Axes: lanes L, samples N, units n. All is in float64.
"""

import numpy as np
import torch

# --- one equilibrium in each lane, f = tanh, by Newton's method -----------------------


def equilibrium(m, x, y, beta=0.0, iterations: int = 20):
    """The activations s = tanh(M s + x - beta e) (L, n), with e = s - y on outputs.

    m: (L, n, n), x: (L, n), y: (L, k), of the first k units; beta: a number, complex or
    not. Raises ArithmeticError where Newton's method does not solve it to 1e-12.
    """
    n, k = x.shape[-1], y.shape[-1]
    outputs = np.diag((np.arange(n) < k).astype(float))
    w = m - beta * outputs  # the nudge is linear in the activations
    drive = x + beta * np.pad(y, ((0, 0), (0, n - k)))
    u = drive
    for _ in range(iterations):
        s = np.tanh(u)
        wrong = (w @ s[..., None])[..., 0] + drive - u
        u = u - solved(w * (1 - s**2)[:, None, :] - np.eye(n), wrong)
    if not np.abs(wrong).max() < 1e-12:
        raise ArithmeticError(
            "Newton's method did not find an equilibrium: use smaller weights or nudges"
        )
    return np.tanh(u)


def contour(solve, points: int, beta: float):
    """The estimate of ds/db at b = 0 from nudges of size beta; solve(b) returns s(b).

    points: N nudges beta exp(2 pi i k/N), and (1/N) sum_k s exp(-2 pi i k/N) / beta,
    whose error is of order beta^N; 1 is the one-sided (s(beta) - s(0))/beta.
    """
    if points == 1:
        return (solve(beta) - solve(0.0)) / beta
    turns = np.exp(2j * np.pi * np.arange(points) / points)
    return np.mean([solve(beta * w) / w for w in turns], 0).real / beta


def taylor(solve, order: int, radius: float = 0.2, points: int = 24):
    """The Taylor coefficient of s(b) of this order at b = 0, by Cauchy's formula."""
    turns = np.exp(2j * np.pi * np.arange(points) / points)
    values = [solve(radius * w) * w**-order for w in turns]
    return np.mean(values, 0).real / radius**order


def error_vectors(m, x, y):
    """J (L, n, n), the gradient e, and EP's and BP's error vectors, each (L, n)."""
    s = equilibrium(m, x, y)
    e = np.zeros_like(s)
    e[:, : y.shape[-1]] = s[:, : y.shape[-1]] - y
    j = m - np.eye(m.shape[-1]) / (1 - s**2)[:, None, :]
    return j, e, solved(j, -e), solved(np.swapaxes(j, 1, 2), -e)


def homeostatic(j, z):
    """The homeostatic loss |J z|^2 - z.J^2 z (N,) at vectors z (N, n).

    Its mean over normal vectors is 1/2 |J - J^T|^2 (Frobenius norm).
    """
    jz = z @ j.T
    return (jz**2 - z * (jz @ j.T)).sum(1)


# --- layers, many samples, f = sigmoid, by iteration, in torch ------------------------


def settled(m, drive, odd, sweeps: int = 25):
    """The activations s = sigmoid(M s + drive), (L, N, n), of a layered network.

    odd: (n,) booleans, the units of every second layer. Odd and even layers are updated
    in turn, as all at once would let the two halves settle into different states.
    """
    up, down = m[:, odd][:, :, ~odd].mT, m[:, ~odd][:, :, odd].mT
    s = torch.zeros_like(drive)
    first, second = drive[..., odd], drive[..., ~odd]
    even = torch.zeros_like(second)
    for _ in range(sweeps):
        uneven = torch.baddbmm(first, even, up).sigmoid_()
        even = torch.baddbmm(second, uneven, down).sigmoid_()
    s[..., odd], s[..., ~odd] = uneven, even
    return s


def propagated(m, s, e, odd, sweeps: int = 25):
    """EP's error vectors -J^{-1} e (L, N, n) at activations s; BP's are those of M^T.

    They solve d = f' (M d + e), with f' = s (1 - s), by sweeps as in `settled`.
    """
    up, down = m[:, odd][:, :, ~odd].mT, m[:, ~odd][:, :, odd].mT
    gain, d = s * (1 - s), torch.zeros_like(e)
    first, second = (gain[..., odd], e[..., odd]), (gain[..., ~odd], e[..., ~odd])
    even = torch.zeros_like(second[1])
    for _ in range(sweeps):
        uneven = torch.baddbmm(first[1], even, up).mul_(first[0])
        even = torch.baddbmm(second[1], uneven, down).mul_(second[0])
    d[..., odd], d[..., ~odd] = uneven, even
    return d


def layered(draws: np.random.Generator, inputs: int, *layers: int):
    """Weights M (n, n) between neighbouring layers, V (n, inputs + 1), and their masks.

    M holds forward and feedback weights, which are independent, with variance 1 /
    (units that they come from). V, of the inputs and a bias that starts at 0, ends at
    the first layer. Returns float64 tensors M, V, where M may be nonzero, and where V
    may.
    """
    layer = np.repeat(np.arange(len(layers)), layers)
    allowed = np.abs(layer[:, None] - layer) == 1
    first = np.tile(layer[:, None] == 0, inputs + 1)
    m = allowed * draws.normal(size=allowed.shape) / np.sqrt(np.array(layers)[layer])
    v = first * draws.normal(size=first.shape) / np.sqrt(inputs)
    v[:, -1] = 0
    return tuple(map(torch.from_numpy, (m, v, allowed, first, layer % 2 == 1)))


def train(network, images, targets, batches, penalty, lr: float, every: int, probe):
    """Train lanes in place by Adam along EP's error vectors; the cosines with BP's.

    network: as `layered` returns it, all but the last with a leading axis L; images (N,
    inputs + 1), targets (N, k) of the last k units, under the loss 1/2 |s - target|^2;
    batches (steps, L, B), indices of images; penalty (L, 1, 1) times the homeostatic
    loss, 1/2 |M - M^T|^2 / n, is added; lr: Adam's learning rate. Returns (L, 1 + steps
    // every): the mean cosine over the images `probe` and all units but the last k,
    at the start and after each `every` steps.
    """
    m, v, m_allowed, v_allowed, odd = network
    optimizer = torch.optim.Adam([m, v], lr)
    k = targets.shape[-1]

    def alignment():
        s, e = errors(network, images[probe], targets[probe])
        ep, bp = propagated(m, s, e, odd), propagated(m.mT, s, e, odd)
        return cosine(ep[..., :-k], bp[..., :-k]).mean(-1)

    seen = [alignment()]
    for t, batch in enumerate(batches, 1):
        x = images[batch]  # (L, B, inputs + 1)
        s, e = errors(network, x, targets[batch])
        d = propagated(m, s, e, odd).mT / x.shape[1]  # (L, n, B)
        m.grad = m_allowed * (2 * penalty * (m - m.mT) / m.shape[1] + d @ s)
        v.grad = v_allowed * (d @ x)
        optimizer.step()
        if t % every == 0:
            seen.append(alignment())
    return torch.stack(seen, 1)


def errors(network, x, target):
    """The activations and the gradient of 1/2 |s - target|^2 at outputs, (L, N, n)."""
    m, v, *_, odd = network
    s = settled(m, (x @ v.mT).expand(len(m), -1, -1), odd)
    e = torch.zeros_like(s)
    e[..., -target.shape[-1] :] = s[..., -target.shape[-1] :] - target
    return s, e


# --- vectors --------------------------------------------------------------------------


def solved(a, b):
    """a^{-1} b for matrices a (L, n, n) and vectors b (L, n)."""
    return np.linalg.solve(a, b[..., None])[..., 0]


def size(v):
    """Euclidean norms (...) of vectors (..., n), arrays or tensors."""
    return (v**2).sum(-1) ** 0.5


def cosine(a, b):
    """Cosines (...) of the angles between vectors (..., n), arrays or tensors."""
    return (a * b).sum(-1) / (size(a) * size(b))
