"""Polar factors of matrices: the orthogonal factor U V^T of x = U S V^T.

    polar(x)                         (..., m, n) to (..., m, n), batched, any dtype
    polar(x, "svd")                  exact to rounding; the default errs by some 10 %

Every method is scale invariant, maps zero to zero, and does not change its input.
Singular directions with singular value 0 are zero with qdwh and svd, damped with
inverse_sqrt, and amplified rounding errors (a thousandfold) with the iterations.

  newton_schulz   Keller Jordan's quintic, five steps: singular values in [0.68, 1.13]
                  (https://kellerjordan.github.io/posts/muon)
  polar_express   the minimax sequence of Amsel et al. (arXiv 2505.16932)
  gram            polar_express on the Gram matrix of the smaller side: fewer flops if
                  one side is longer; restarted after two steps if products have few
                  digits, because a Gram matrix squares the condition number
  inverse_sqrt    x (x^T x + d I)^(-1/2) by a coupled iteration, with a damping d
                  RELATIVE to the mean eigenvalue: an absolute one fails on small
                  gradients
  qdwh            dynamically weighted Halley (Nakatsukasa, Bai, Gygi 2010): exact to
                  rounding
  svd             the definition; the reference for the others

The last two set singular values below `cutoff` times the largest to zero. Without this
the map is discontinuous at rank deficiency: rounding determines the polar factor in the
lost directions.
"""

from collections.abc import Sequence
from functools import cache
from itertools import islice

import torch
from torch import Tensor

from symlab.symopt.names import unknown

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
GRAM_FROM = 1.5  # sides' ratio: below it the Gram form has more flops, not fewer
GRAM_ENTRIES = 2**13  # of a matrix: below it the count of calls decides
BLOCK = 192  # rows of a symmetric product at a time on a CPU
PART = 2**20  # entries of a stack at a time on a CPU: its caches hold about that
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
    """Return the polar factor U V^T of each matrix x = U S V^T (..., m, n), in x's
    dtype.

    method: 'newton_schulz', 'polar_express', 'gram', 'inverse_sqrt', 'qdwh' or 'svd',
        as the module describes; 'auto' is polar_express, computed from the Gram matrix
        if one side is much longer.
    steps: of the iteration (default 5; 14 for inverse_sqrt; until convergence for
        qdwh).
    dtype: in which to compute; by default that of x, and float32 for half precision if
        the method factorises.
    cutoff: singular values below this fraction of the largest count as 0, for qdwh and
        svd (default sqrt(m n) times the dtype's rounding).

    Raises ValueError for a vector, complex numbers, an unknown method, and for steps or
    a cutoff that the method does not take or that are out of range.
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
        method = "gram" if _is_long(*x.shape[-2:]) else "polar_express"
    if method not in METHODS:
        raise unknown("method", method, ("auto", *METHODS))
    if steps is not None and not (isinstance(steps, int) and steps > 0):
        raise ValueError(f"steps must be a whole number above 0, not {steps}")
    if cutoff is not None and not 0 <= cutoff < 1:
        raise ValueError(f"cutoff is relative, from 0 to below 1, and not {cutoff}")
    if steps is not None and method == "svd":
        raise ValueError("the method svd takes no steps")
    if cutoff is not None and method not in ("svd", "qdwh"):
        raise ValueError(f"cutoff is for svd and qdwh, and not for {method}")
    half = x.dtype in (torch.float16, torch.bfloat16)
    exact = method in ("inverse_sqrt", "qdwh", "svd")
    working = dtype or (torch.float32 if half and exact else x.dtype)
    stack = x if x.ndim == 3 else x.reshape(-1, *x.shape[-2:])  # (N, m, n)
    size = _at_once(stack)
    if size >= len(stack):
        y = _factor(stack, method, steps, cutoff, working)
    else:
        y = torch.empty_like(stack)
        for part, its in zip(stack.split(size), y.split(size), strict=True):
            its.copy_(_factor(part, method, steps, cutoff, working))
    return y if x.ndim == 3 else y.view(x.shape)


def _factor(x: Tensor, method: str, steps, cutoff, working: torch.dtype) -> Tensor:
    """The polar factors of a stack (N, m, n), in the dtype of x."""
    wide = x.shape[-2] <= x.shape[-1]
    y = METHODS[method](_normalised(x if wide else x.mT, working), steps, cutoff)
    return (y if wide else y.mT).to(x.dtype)


def nuclear_norm(x: Tensor, factor: Tensor) -> Tensor:
    """Return the sum of singular values of each matrix, (..., 1, 1).

    x: (..., m, n), the matrices. factor: (..., m, n), their polar factors.

    The sum is computed as the inner product of both.
    """
    return (x * factor).sum((-2, -1), keepdim=True)


def _is_long(m: int, n: int) -> bool:
    """Whether the Gram form is faster: fewer flops, if these are what takes time."""
    return max(m, n) >= GRAM_FROM * min(m, n) and m * n >= GRAM_ENTRIES


def _at_once(stack: Tensor) -> int:
    """How many of the matrices (N, m, n) to take: on a CPU what its caches hold."""
    if stack.device.type != "cpu" or torch.compiler.is_compiling():
        return len(stack)
    return max(1, PART // stack[0].numel())


def _normalised(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x over its Frobenius norm, so that singular values are at most 1; 0 stays 0.

    Divided by the largest entry first, as the squares of 1e-30 underflow.
    """
    wide = torch.promote_types(dtype, torch.float32)
    least = torch.finfo(wide).tiny
    largest = torch.linalg.vector_norm(x, float("inf"), (-2, -1), keepdim=True)
    y = (x / largest.clamp(min=torch.finfo(x.dtype).tiny)).to(wide)
    norm = torch.linalg.vector_norm(y, dim=(-2, -1), keepdim=True)
    return (y / norm.clamp(min=least)).to(dtype)


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
    return _iterate(x, _safe(_sequence(EXPRESS, steps)))


def _safe(coefficients: Coefficients) -> Coefficients:
    """Return the coefficients for x / SAFETY, so that x need not be divided."""
    (a, b, c), *others = coefficients
    return [(a / SAFETY, b / SAFETY**3, c / SAFETY**5), *others]


def _iterate(x: Tensor, coefficients: Coefficients) -> Tensor:
    """x <- a x + b (x x^T) x + c (x x^T)^2 x for each matrix of (..., m, n)."""
    shape = x.shape
    x = x if x.ndim == 3 else x.reshape(-1, *shape[-2:])
    if not _in_blocks(x):
        for a, b, c in coefficients:
            gram = torch.bmm(x, x.mT)  # (N, m, m)
            p = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            x = _times(p, x, a)
    else:
        for a, b, c in coefficients:
            gram = _symmetric(x, x.mT)
            x = _times(_symmetric(gram, gram, gram, b, c), x, a)
    return x.view(shape)


def _gram(x: Tensor, steps, cutoff) -> Tensor:
    """Apply the same polynomials to G = x x^T alone: x <- p(G) x, G <- p(G) G p(G).

    Rounding makes eigenvalues of G negative, and steps on the same G make those large:
    with 24 bits five steps lose nothing that one sees, with 11 bits two and then three.
    With bfloat16's 8 a matrix of one large singular value may end at 1000 instead of 1
    after two, so float16 takes its place, or the form without G.
    """
    if x.dtype == torch.bfloat16:
        return _gram(x.half(), steps, cutoff).bfloat16()
    if (bits := _bits(x)) < 11:
        return _polar_express(x, steps, cutoff)
    shape, remaining = x.shape, _safe(_sequence(EXPRESS, steps))
    x, length = x.reshape(-1, *shape[-2:]), 5 if bits >= 24 else 2
    while remaining:
        part, remaining = remaining[:length], remaining[length:]
        x = _times(_total(_symmetric(x, x.mT), part), x)
        length = max(3, length)
    return x.view(shape)


def _total(gram: Tensor, coefficients: Coefficients) -> Tensor:
    """The product of the polynomials' values while G goes along."""
    total = None
    for i, (a, b, c) in enumerate(coefficients):
        p = _symmetric(gram, gram, gram, b, c)
        p.diagonal(dim1=-2, dim2=-1).add_(a)
        total = p if total is None else _symmetric(p, total)
        if i + 1 < len(coefficients):
            gram = _symmetric(_symmetric(p, gram), p)
    return total


def _bits(x: Tensor) -> int:
    """Return how many bits a product keeps of the numbers it multiplies."""
    if x.dtype == torch.float32:
        return _bits_of_float32(x.is_cuda)
    return {torch.float64: 53, torch.float16: 11, torch.bfloat16: 8}[x.dtype]


def _bits_of_float32(cuda: bool) -> int:
    """torch may be told to round them for speed; what is compiled keeps its answer."""
    backend = torch.backends.cuda if cuda else torch.backends.mkldnn
    return {"tf32": 11, "bf16": 8}.get(backend.matmul.fp32_precision, 24)


# what torch.compiler.assume_constant_result does, whose import takes two seconds
_bits_of_float32._dynamo_marked_constant = True


def _symmetric(a: Tensor, b: Tensor, c: Tensor | None = None, beta=1.0, alpha=1.0):
    """alpha a b + beta c (N, m, m), which is symmetric.

    On a CPU by blocks of rows up to the diagonal, mirrored: 5/8 of the flops for 4.
    A GPU needs all rows in one call to be busy.
    """
    m = a.shape[-2]
    if not _in_blocks(a):
        if c is None:
            return torch.bmm(a, b)
        return torch.baddbmm(c, a, b, beta=beta, alpha=alpha)
    y = a.new_zeros(a.shape[0], m, m) if c is None else c.clone()
    for i in range(0, m, BLOCK):
        j = min(m, i + BLOCK)
        y[:, i:j, :j].baddbmm_(a[:, i:j], b[..., :j], beta=beta, alpha=alpha)
        y[:, :i, i:j] = y[:, i:j, :i].mT
    return y


def _in_blocks(x: Tensor) -> bool:
    """Whether symmetric products of m rows are made in blocks."""
    on_cpu = x.device.type == "cpu" and not torch.compiler.is_compiling()
    return on_cpu and x.shape[-2] >= 2 * BLOCK


def _times(p: Tensor, x: Tensor, a: float = 0.0) -> Tensor:
    """p x + a x, in the memory layout of x. p is symmetric up to rounding only."""
    t = x.mT
    if t.is_contiguous():
        return torch.baddbmm(t, t, p.mT, beta=a).mT
    return torch.baddbmm(x, p, x, beta=a)


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
