"""Low-rank adapters of the frozen matrices of a small transformer, in runs side by
side.

The transformer is that of `symlab.models.symmetric_attention`, of the form "full". Each
of its matrices W (m outputs, n inputs) becomes W + B A, with B (m, r) and A (r, n), as
in LoRA (Hu et al., arXiv 2106.09685) with the scale alpha/r = 1. Embedding, positions
and head stay as they are.

Matrices of one shape are stacked: "square" holds query, key, value and output of every
layer, S = 4 n_layers; "up" and "down" hold those of the perceptrons, S = n_layers. So
factors are {"square": (B, A), "up": (B, A), "down": (B, A)}, with B (S, m, r) and A (S,
r, n), or with a leading axis L of runs that are computed side by side ("lanes").

The factors (B M, M^-1 A) have the same product for every invertible M (r, r):
`balanced`, `scaled` and `mixed` write one product in several ways.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from symlab.models import symmetric_attention
from symlab.models.symmetric_attention import Shape

Factors = dict[str, tuple[Tensor, Tensor]]
STACKS = ("square", "up", "down")


def sites(shape: Shape) -> dict[str, tuple[int, int, int]]:
    """Return {stack: (S, m, n)}: S matrices with m outputs and n inputs are in a stack.

    shape: the transformer's sizes.
    """
    d, layers = shape.width, shape.layers
    return {
        "square": (4 * layers, d, d),
        "up": (layers, 2 * d, d),
        "down": (layers, d, 2 * d),
    }


def initial(shape: Shape, rank: int, draws: np.random.Generator) -> Factors:
    """Return LoRA's usual initial factors {stack: (B, A)}, float32, whose product B A
    is 0.

    shape: the transformer's sizes. rank: r.
    draws: the source of random numbers.

    Entries of A are uniform within n^(-1/2) of 0, and B is 0.
    """
    found = {}
    for name, (s, m, n) in sites(shape).items():
        a = draws.uniform(-1, 1, (s, rank, n)) / n**0.5
        found[name] = torch.zeros(s, m, rank), torch.from_numpy(a).float()
    return found


def cast(factors: Factors, precision: str) -> Factors:
    """Return the factors of low-rank adapters in a precision such as "float32"."""
    kind = getattr(torch, precision)
    return {k: tuple(w.to(kind) for w in pair) for k, pair in factors.items()}


def products(factors: Factors) -> dict[str, Tensor]:
    """Return the product B A of every matrix, {stack: (..., S, m, n)}.

    factors: {stack: (B, A)}, (..., S, m, r) and (..., S, r, n), for stacks of S
        matrices with m outputs and n inputs.
    """
    return {name: b @ a for name, (b, a) in factors.items()}


def apart(
    one: Sequence[dict[str, Tensor]], other: Sequence[dict[str, Tensor]]
) -> np.ndarray:
    """Return how far the products of L runs are from those of L others, (L, T).

    one, other: the products of the runs after each of T steps, {stack: (L, S, m, n)}
        for stacks of S matrices.

    An entry is the largest |W - W'| / |W'| in the Frobenius norm over all matrices of
    the two runs, with W of `one` and W' of `other`.
    """
    gaps = []
    for ours, theirs in zip(one, other, strict=True):
        parts = [
            (ours[k] - w).norm(dim=(2, 3)) / w.norm(dim=(2, 3))
            for k, w in theirs.items()
        ]
        gaps.append(np.concatenate(parts, axis=1).max(1))  # (L,)
    return np.transpose(gaps)


def forward(p: dict[str, Tensor], factors: Factors, x: Tensor, shape: Shape) -> Tensor:
    """Return the logits (L, B, T, V) of L transformers with B A added to their
    matrices.

    p: the frozen parameters, without an axis L, as all runs share them.
    factors: {stack: (B, A)} of L runs, with a leading axis L.
    x: character indices (B, T), B sequences of T of V characters, the same for all
        runs.
    shape: the transformer's sizes.
    """
    w = {k: v.mT for k, v in products(factors).items()}  # tokens are rows: y = x W^T
    lanes = len(w["up"])
    q, k, v, o = w["square"].chunk(4, 1)  # (L, layers, D, D) each
    moved = {
        "scores": p["scores"] + torch.stack([q, k], 1),
        "v": p["v"] + v,
        "o": p["o"] + o,
        "up": p["up"] + w["up"],
        "down": p["down"] + w["down"],
    }
    still = {k: p[k].expand(lanes, *p[k].shape) for k in p if k not in moved}
    x = x.expand(lanes, *x.shape)
    return symmetric_attention.forward(still | moved, x, shape)


# --- one product, written in several ways --------------------------------------------


def balanced(factors: Factors) -> Factors:
    """Return factors {stack: (B, A)} of the same products that are balanced: B^T B = A
    A^T.

    They are U S^(1/2) and S^(1/2) V^T, from the singular value decomposition U S V^T of
    B A.
    """
    found = {}
    for name, (b, a) in factors.items():
        u, s, vt = torch.linalg.svd(b @ a, full_matrices=False)
        root, r = s[..., : b.shape[-1], None].sqrt(), b.shape[-1]
        found[name] = u[..., :r] * root.mT, root * vt[..., :r, :]
    return found


def scaled(factors: Factors, by: float) -> Factors:
    """Return the factors (by B, A / by), whose product is the same."""
    return {name: (by * b, a / by) for name, (b, a) in factors.items()}


def mixed(factors: Factors, condition: float, draws: np.random.Generator) -> Factors:
    """Return the factors (B M, M^-1 A), with one random M for each matrix.

    condition: the condition number of M.
    draws: the source of random numbers.

    M = U diag(s) V^T has random orthogonal U and V and singular values s from
    condition^(-1/2) to condition^(1/2), evenly spaced on a logarithmic scale.
    """
    found = {}
    for name, (b, a) in factors.items():
        s, r = len(b), b.shape[-1]
        u, v = np.linalg.qr(draws.normal(size=(2, s, r, r)))[0]
        values = condition ** np.linspace(-0.5, 0.5, r)
        m = torch.from_numpy((u * values) @ v.swapaxes(-1, -2)).to(b.dtype)
        inverse = torch.from_numpy((v / values) @ u.swapaxes(-1, -2)).to(b.dtype)
        found[name] = b @ m, inverse @ a
    return found
