"""A two-layer network on all pairs of numbers modulo n, trained with wrong labels.

f(a, b) = W^T relu(U e_a + V e_b) + mu gives n logits. As the inputs are one-hot, the
hidden values of all n^2 pairs are sums of two tables. Training computes all pairs and
gives weight to those that are trained on: nothing is gathered or scattered. The setting
is that of Liu and Lu (arXiv 2605.18022).
"""

import numpy as np

BETAS, EPSILON = (0.9, 0.98), 1e-8  # of AdamW


def start(n: int, width: int, draws: np.random.Generator) -> list[np.ndarray]:
    """Return U, V, W (width, n) and mu (n, 1) at the start of training, float32.

    They are the weights of f(a, b) = W^T relu(U e_a + V e_b) + mu, drawn as torch
    initialises linear layers: uniform within 1/sqrt(fan-in) of 0, where the first layer
    has 2n inputs.
    """
    fans = (2 * n, 2 * n, width, width)
    shapes = [(width, n)] * 3 + [(n, 1)]
    return [
        draws.uniform(-(f**-0.5), f**-0.5, s).astype(np.float32)
        for f, s in zip(fans, shapes, strict=True)
    ]


def logits(u, v, w, mu=0.0, square: bool = False) -> np.ndarray:
    """Return the logits (n, n, n) of the network for all pairs (a, b) and answers c.

    u, v, w: (width, n), weights for a, for b and for the answers. mu: (n, 1), the bias.
    square: whether the activation is the square instead of the ReLU.
    """
    z = (u[:, :, None] + v[:, None]).reshape(len(u), -1)
    h = z * z if square else np.maximum(z, 0)
    return (w.T @ h + mu).T.reshape(3 * u.shape[1:])


def train(weights, labels, kept, groups, *, steps, lr, weight_decay, every):
    """Return the trained weights, as `start` returns them, and accuracy curves.

    weights: U, V, W and mu at the start.
    labels: (n, n) integers, the label of each pair (a, b).
    kept: (n, n) booleans, the pairs that are trained on.
    groups: G boolean arrays (n, n), groups of pairs whose accuracy is recorded.
    steps, lr, weight_decay: settings of full-batch AdamW on the mean cross-entropy over
        the kept pairs, in float32.
    every: the number of steps between two records.

    The curves are (steps/every, G): the fraction of a group's pairs that are classified
    as labelled, before steps 1, 1 + every, and so on; NaN for an empty group.
    """
    import torch

    first = [torch.from_numpy(x) for x in weights]
    sizes, (width, n) = [x.numel() for x in first], weights[0].shape
    flat = torch.cat([x.flatten() for x in first])
    grad, m1, m2 = (torch.zeros_like(flat) for _ in range(3))

    def views(x):
        return [p.view(f.shape) for p, f in zip(x.split(sizes), first, strict=True)]

    (u, v, w, mu), (gu, gv, gw, gmu) = views(flat), views(grad)
    y = torch.from_numpy(labels.reshape(-1))
    weight = torch.from_numpy(kept.reshape(-1) / np.float32(kept.sum()))
    wanted = torch.nn.functional.one_hot(y, n).T * weight  # (n, n^2)
    groups = [torch.from_numpy(g.reshape(-1)) for g in groups]
    z, gz = torch.empty(2, width, n, n)
    flat_z, flat_gz, curves = z.view(width, -1), gz.view(width, -1), []
    for t in range(1, steps + 1):
        torch.add(u[:, :, None], v[:, None], out=z).relu_()
        out = torch.addmm(mu, w.T, flat_z)  # (n, n^2)
        if t % every == 1:
            right = (out.argmax(0) == y).float()
            curves.append([float(right[g].mean()) for g in groups])
        g = torch.softmax(out, 0).mul_(weight).sub_(wanted)
        torch.mm(flat_z, g.T, out=gw)
        torch.mm(w, g, out=flat_gz)
        torch.ops.aten.threshold_backward.grad_input(gz, z, 0, grad_input=gz)
        torch.sum(gz, 2, out=gu)
        torch.sum(gz, 1, out=gv)
        torch.sum(g, 1, keepdim=True, out=gmu)
        m1.lerp_(grad, 1 - BETAS[0])
        m2.mul_(BETAS[1]).addcmul_(grad, grad, value=1 - BETAS[1])
        size = m2.sqrt().div_((1 - BETAS[1] ** t) ** 0.5).add_(EPSILON)
        flat.mul_(1 - lr * weight_decay)
        flat.addcdiv_(m1, size, value=-lr / (1 - BETAS[0] ** t))
    return [x.numpy() for x in (u, v, w, mu)], np.array(curves)
