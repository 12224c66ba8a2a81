"""The polar factor of matrices: the orthogonal part U V^T of x = U S V^T.

    polar(x)                         (..., m, n) to (..., m, n), batched, any dtype
    polar(x, "svd")                  another way to the same map

Every way is scale invariant, is defined at zero (the answer is zero) and at rank
deficiency (directions without gradient stay zero), and leaves its input alone.

  newton_schulz   Keller Jordan's quintic, five steps: singular values in [.68, 1.13]
                  (https://kellerjordan.github.io/posts/muon)
  polar_express   the minimax sequence of Amsel et al. (arXiv 2505.16932)
  gram            polar_express on the Gram matrix of the smaller side: fewer flops
                  where one side is much longer; started anew after two steps, as
                  powers of a Gram matrix lose digits
  inverse_sqrt    x (x^T x + d I)^(-1/2) by a coupled iteration, with a damping d
                  RELATIVE to the mean eigenvalue: an absolute one fails on small
                  gradients
  qdwh            dynamically weighted Halley (Nakatsukasa, Bai, Gygi 2010): to rounding
  svd             the definition; the reference for the others

The last two cut off singular values below `cutoff` of the largest. Without it the map
is discontinuous at rank deficiency: rounding decides where lost directions point.
"""

from collections.abc import Sequence
from functools import cache
from itertools import islice

import torch
from torch import Tensor

Coefficients = Sequence[tuple[float, float, float]]

KELLER: Coefficients = ((3.4445, -4.7750, 2.0315),) * 5
# arXiv 2505.16932, lower bound 1e-3; all but the last divided by their safety factors
EXPRESS: Coefficients = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
GRAM_FROM = 2.5  # sides' ratio: below it the Gram form has more flops, not fewer
LAST = (1.875, -1.25, 0.375)  # its limit: further steps converge with order three
SAFETY = (
    1.02  # the first polynomials diverge beyond 1; the norm is computed in rounding
)


def polar(
    x: Tensor,
    method: str = "auto",
    *,
    steps: int | None = None,
    dtype: torch.dtype | None = None,
    cutoff: float | None = None,
) -> Tensor:
    """The polar factor of each matrix of x (..., m, n), in the dtype of x.

    method: 'auto' is polar_express, by way of `gram` where one side is much longer.
    steps: of the iteration (default 5; inverse_sqrt 8). dtype: to compute in; default
    that of x, float32 for half precision where the method has factorisations. cutoff:
    relative, for qdwh and svd (default sqrt(m n) times the dtype's rounding).
    Raises ValueError for a vector, complex numbers or an unknown method.
    """
    if x.ndim < 2:
        raise ValueError(
            f"a polar factor is of matrices, and this has shape {tuple(x.shape)}: use "
            "a row-norm or AdamW rule for vectors"
        )
    if x.is_complex() or not x.is_floating_point():
        raise ValueError(f"polar is for real matrices, not {x.dtype}")
    if x.numel() == 0:
        return x.clone()
    if method == "auto":
        short, long = sorted(x.shape[-2:])
        method = "gram" if long >= GRAM_FROM * short else "polar_express"
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: use auto, {', '.join(METHODS)}")
    half = x.dtype in (torch.float16, torch.bfloat16)
    exact = method in ("inverse_sqrt", "qdwh", "svd")
    working = dtype or (torch.float32 if half and exact else x.dtype)
    wide = x.shape[-2] <= x.shape[-1]
    y = _normalised(x if wide else x.mT, working)
    y = METHODS[method](y, steps, cutoff)
    return (y if wide else y.mT).to(x.dtype)


def nuclear_norm(x: Tensor, factor: Tensor) -> Tensor:
    """<x, polar(x)>, the sum of singular values: (..., 1, 1) from two (..., m, n)."""
    return (x * factor).sum((-2, -1), keepdim=True)


def _normalised(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x over its Frobenius norm, so that singular values are at most 1; 0 stays 0.

    Divided by the largest entry first: the squares of 1e-30 are no numbers.
    """
    largest = x.abs().amax((-2, -1), keepdim=True)
    y = (x / torch.where(largest > 0, largest, 1)).to(
        torch.promote_types(dtype, torch.float32)
    )
    norm = torch.linalg.matrix_norm(y, keepdim=True)
    return (y / torch.where(norm > 0, norm, 1)).to(dtype)


# --- iterations on (..., m, n) with m <= n -------------------------------------------


def _sequence(coefficients: Coefficients, steps: int | None):
    """The first `steps` polynomials; after the last given one the limit goes on."""

    def endless():
        yield from coefficients
        while True:
            yield LAST if coefficients is EXPRESS else coefficients[-1]

    return list(islice(endless(), steps or len(coefficients)))


def _newton_schulz(x: Tensor, steps, cutoff) -> Tensor:
    return _iterate(x, _sequence(KELLER, steps))


def _polar_express(x: Tensor, steps, cutoff) -> Tensor:
    return _iterate(x / SAFETY, _sequence(EXPRESS, steps))


def _iterate(x: Tensor, coefficients: Coefficients) -> Tensor:
    """x <- a x + b (x x^T) x + c (x x^T)^2 x."""
    shape = x.shape
    x = x.reshape(-1, *shape[-2:])
    for a, b, c in coefficients:
        gram = torch.bmm(x, x.mT)
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, gram, x, beta=a)
    return x.view(shape)


def _gram(x: Tensor, steps, cutoff, restart: int = 2) -> Tensor:
    """The same polynomials p of G = x x^T alone: x <- p(G) x, G <- p(G) G p(G)."""
    shape = x.shape
    x = x.reshape(-1, *shape[-2:]) / SAFETY
    coefficients = _sequence(EXPRESS, steps)
    for begin in range(0, len(coefficients), restart):
        gram, total = torch.bmm(x, x.mT), None
        part = coefficients[begin : begin + restart]
        for i, (a, b, c) in enumerate(part):
            p = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            p.diagonal(dim1=-2, dim2=-1).add_(a)
            total = p if total is None else torch.bmm(p, total)
            if i + 1 < len(part):
                gram = torch.bmm(torch.bmm(p, gram), p)
        x = torch.bmm(total, x)
    return x.view(shape)


def _inverse_sqrt(x: Tensor, steps, cutoff) -> Tensor:
    """(x x^T + d I)^(-1/2) x by a coupled iteration: Y Z^-1 = C, Y -> C^(1/2)."""
    c = x @ x.mT
    m = c.shape[-1]
    eye = torch.eye(m, dtype=c.dtype, device=c.device)
    mean = c.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    damped = c + mean * (m * torch.finfo(c.dtype).eps) * eye
    scale = SAFETY * torch.linalg.matrix_norm(damped, keepdim=True)
    scale = torch.where(scale > 0, scale, 1)
    y, z = damped / scale, eye.expand_as(c)
    for a, b, c_ in _sequence(EXPRESS, steps or 14):
        t = z @ y
        p = a * eye + b * t + c_ * (t @ t)
        y, z = y @ p, p @ z
    return (z / scale.sqrt()) @ x


def _qdwh(x: Tensor, steps, cutoff) -> Tensor:
    """X <- (b/c) X + (a - b/c) (I + c X X^T)^-1 X with weights for the least value."""
    eye = torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    u = x
    for a, b, c in _halley(float(torch.finfo(x.dtype).eps), steps):
        if c > 100:  # the inverse would lose digits: QR of [sqrt(c) X^T; I] instead
            tall = torch.cat([c**0.5 * u.mT, eye.expand(*u.shape[:-2], *eye.shape)], -2)
            q, _ = torch.linalg.qr(tall)
            first, second = q[..., : u.shape[-1], :], q[..., u.shape[-1] :, :]
            u = b / c * u + (a - b / c) / c**0.5 * (second @ first.mT)
        else:
            factor = torch.linalg.cholesky(eye + c * (u @ u.mT))
            u = b / c * u + (a - b / c) * torch.cholesky_solve(u, factor)
    # on the numerical range: x = H u, and what H has lost u must not have
    h = x @ u.mT
    values, vectors = torch.linalg.eigh((h + h.mT) / 2)
    largest = values[..., -1:].clamp(min=torch.finfo(x.dtype).tiny)
    kept = (values > _cutoff(x, cutoff) * largest).to(x.dtype)
    return (vectors * kept[..., None, :]) @ (vectors.mT @ u)


@cache
def _halley(least: float, steps: int | None) -> tuple[tuple[float, float, float], ...]:
    """The weights a, b, c while the least singular value goes from `least` to 1."""
    found, value = [], least
    while (
        (abs(value - 1) > 1e-15 and len(found) < 12)
        if steps is None
        else len(found) < steps
    ):
        d = (4 * (1 - value**2) / value**4) ** (1 / 3)
        a = (1 + d) ** 0.5 + 0.5 * (
            8 - 4 * d + 8 * (2 - value**2) / (value**2 * (1 + d) ** 0.5)
        ) ** 0.5
        b = (a - 1) ** 2 / 4
        c = a + b - 1
        found.append((a, b, c))
        value = min(1.0, value * (a + b * value**2) / (1 + c * value**2))
    return tuple(found)


def _svd(x: Tensor, steps, cutoff) -> Tensor:
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    largest = s[..., :1].clamp(min=torch.finfo(x.dtype).tiny)
    kept = (s > _cutoff(x, cutoff) * largest).to(x.dtype)
    return (u * kept[..., None, :]) @ vt


def _cutoff(x: Tensor, cutoff: float | None) -> float:
    if cutoff is not None:
        return cutoff
    return (x.shape[-2] * x.shape[-1]) ** 0.5 * float(torch.finfo(x.dtype).eps)


METHODS = {
    "newton_schulz": _newton_schulz,
    "polar_express": _polar_express,
    "gram": _gram,
    "inverse_sqrt": _inverse_sqrt,
    "qdwh": _qdwh,
    "svd": _svd,
}
