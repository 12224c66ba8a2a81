"""Networks that settle to a fixed point, and the error vectors of equilibrium
propagation.

Axel Laborieux and Friedemann Zenke, "Improving equilibrium propagation without weight
symmetry through Jacobian homeostasis", ICLR 2024 (arXiv 2309.02214). Activations s
solve

    F(s, b) = M s + x - b e(s) - f^{-1}(s) = 0

where e is the gradient of the loss with respect to the activations and b the nudge,
which enters before the nonlinearity f as in the authors' code. With the Jacobian
J = M - diag(1/f') the derivative of s at b = 0 is J^{-1} e. The error vector of
equilibrium propagation (EP) is -J^{-1} e, and that of backpropagation (BP) -J^{-T} e:
they are equal if J is symmetric.

Axes: networks side by side L, samples N, units n. All is in float64.
"""

import numpy as np
import torch

# --- one equilibrium in each lane, f = tanh, by Newton's method -----------------------


def equilibrium(m, x, y, beta=0.0, iterations: int = 20):
    """Return the activations s = tanh(M s + x - beta e) of L networks of n units, (L,
    n).

    m: the weights M, (L, n, n).
    x: the inputs to the units, (L, n).
    y: (L, k), the targets of the first k units, which are the outputs.
    beta: the nudge, a real or complex number.
    iterations: steps of Newton's method, which solves the equation.

    e is s - y on the k output units and 0 elsewhere. Raises ArithmeticError if the
    equation is not solved to 1e-12.
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
    """Return an estimate of ds/db at b = 0 from solutions at nudges of size beta.

    solve: solve(b) returns the activations s(b) at the nudge b, which may be complex.
    points: the number N of nudges; 1 takes the difference (s(beta) - s(0))/beta.
    beta: the size of the nudges.

    The nudges are b_k = beta exp(2 pi i k/N), and the estimate is (1/N) sum_k s(b_k)
    exp(-2 pi i k/N) / beta, whose error is of order beta^N.
    """
    if points == 1:
        return (solve(beta) - solve(0.0)) / beta
    turns = np.exp(2j * np.pi * np.arange(points) / points)
    return np.mean([solve(beta * w) / w for w in turns], 0).real / beta


def taylor(solve, order: int, radius: float = 0.2, points: int = 24):
    """Return a Taylor coefficient of s(b) at b = 0, by Cauchy's integral formula.

    solve: solve(b) returns the activations s(b) at the complex nudge b.
    order: the order of the coefficient.
    radius: the radius of the circle around 0 on which s is computed.
    points: the number of nudges on that circle.
    """
    turns = np.exp(2j * np.pi * np.arange(points) / points)
    values = [solve(radius * w) * w**-order for w in turns]
    return np.mean(values, 0).real / radius**order


def error_vectors(m, x, y):
    """Return the Jacobian, the output error, and two error vectors of L networks of n
    units.

    m, x, y: as for `equilibrium`, at nudge 0.

    The Jacobian J = M - diag(1/f') is (L, n, n). The output error e, the error vectors
    -J^{-1} e of equilibrium propagation, and -J^{-T} e of backpropagation, are each (L,
    n).
    """
    s = equilibrium(m, x, y)
    e = np.zeros_like(s)
    e[:, : y.shape[-1]] = s[:, : y.shape[-1]] - y
    j = m - np.eye(m.shape[-1]) / (1 - s**2)[:, None, :]
    return j, e, solved(j, -e), solved(np.swapaxes(j, 1, 2), -e)


def homeostatic(j, z):
    """Return the homeostatic loss |J z|^2 - z.J^2 z, (N,), at N vectors z.

    j: the Jacobian J of a network of n units, (n, n). z: (N, n).

    Its mean over standard normal vectors z is 1/2 |J - J^T|^2 in the Frobenius norm,
    which is 0 if J is symmetric.
    """
    jz = z @ j.T
    return (jz**2 - z * (jz @ j.T)).sum(1)


# --- layers, many samples, f = sigmoid, by iteration, in torch ------------------------


def settled(m, drive, odd, sweeps: int = 25):
    """Return the activations s = sigmoid(M s + drive) of L layered networks of n units
    for N samples, (L, N, n).

    m: the weights M, (L, n, n).
    drive: the inputs to the units, (L, N, n).
    odd: (n,) booleans, true for the units of every second layer.
    sweeps: how often all units are updated.

    Odd and even layers are updated in turn: if all were updated at once, they could
    settle into different states.
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
    """Return the error vectors -J^{-1} e of equilibrium propagation, (L, N, n), for L
    layered networks of n units and N samples.

    m: the weights M, (L, n, n); with M^T the result is the error vectors of
        backpropagation.
    s, e: activations and the gradient of the loss at them, (L, N, n).
    odd, sweeps: as for `settled`.

    J = M - diag(1/f') is the Jacobian, with f' = s (1 - s). The vectors d solve d = f'
    (M d + e), by sweeps as in `settled`.
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
    """Return random weights of a layered network, and where they may be nonzero.

    draws: the source of random numbers.
    inputs: the number of inputs.
    layers: the number of units in each layer, n in all.

    Returns tensors M (n, n) and V (n, inputs + 1), two boolean masks of where M and V
    may be nonzero, and the booleans (n,) that `settled` calls odd. M holds independent
    forward and feedback weights between neighbouring layers, with a variance of one
    over the number of units that they come from. V reads the inputs and a constant,
    whose weight starts at 0, into the first layer. Weights are float64.
    """
    layer = np.repeat(np.arange(len(layers)), layers)
    allowed = np.abs(layer[:, None] - layer) == 1
    first = np.tile(layer[:, None] == 0, inputs + 1)
    m = allowed * draws.normal(size=allowed.shape) / np.sqrt(np.array(layers)[layer])
    v = first * draws.normal(size=first.shape) / np.sqrt(inputs)
    v[:, -1] = 0
    return tuple(map(torch.from_numpy, (m, v, allowed, first, layer % 2 == 1)))


def train(network, images, targets, batches, penalty, lr: float, every: int, probe):
    """Train L networks in place by equilibrium propagation (EP); return cosines of its
    error vectors with those of backpropagation.

    network: the five results of `layered`; the first four have a leading axis L, one
        entry for each network.
    images, targets: (N, inputs + 1) and (N, k); the last k units are the outputs, and
        the loss is 1/2 |s - target|^2.
    batches: (steps, L, B), the numbers of the images in each step.
    penalty: (L, 1, 1), the weight of the homeostatic loss 1/2 |M - M^T|^2 / n, for the
        recurrent weights M of n units.
    lr: the learning rate of Adam.
    every: the number of steps between two records.
    probe: the numbers of the images that are used for the records.

    The result is (L, 1 + steps // every): the mean cosine over the images of `probe`
    and all units but the outputs, at the start and after each `every` steps.
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
    """Return the activations s of L layered networks for N samples, and the gradient of
    the loss 1/2 |s - target|^2 with respect to s, each (L, N, n).

    network: as for `train`; its networks have n units.
    x: inputs, (N, inputs + 1) or with a leading axis L.
    target: (..., N, k), the targets of the last k units.
    """
    m, v, *_, odd = network
    s = settled(m, (x @ v.mT).expand(len(m), -1, -1), odd)
    e = torch.zeros_like(s)
    e[..., -target.shape[-1] :] = s[..., -target.shape[-1] :] - target
    return s, e


# --- vectors --------------------------------------------------------------------------


def solved(a, b):
    """Return a^{-1} b for matrices a (L, n, n) and vectors b (L, n)."""
    return np.linalg.solve(a, b[..., None])[..., 0]


def size(v):
    """Return the Euclidean norms (...) of vectors (..., n), arrays or tensors."""
    return (v**2).sum(-1) ** 0.5


def cosine(a, b):
    """Return the cosines (...) of the angles between vectors (..., n).

    a, b: arrays or tensors.
    """
    return (a * b).sum(-1) / (size(a) * size(b))
