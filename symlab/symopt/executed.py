"""The rules of Lau & Su (arXiv 2605.18106) as the authors' code executes them.

They are for reproductions only: `rules` has what the paper states. Source of the
differences: timlautk/equivariant_optimizers at a773b3f and, for the Gram iteration,
Dao-AILab/gram-newton-schulz, read line by line. Absolute constants that the paper does
not have make these rules depend on the scale of the gradient, and five steps of a
quintic are far from a polar factor if the least singular value is small. One difference
of the code is not reproduced: the Gram iteration divides a float32 input by its norm in
place, and if that input is the momentum buffer (embeddings), the buffer stays close to
its first gradient. Parameters are float32 in that code, so half precision is computed
in float32 here. These functions do not change their input and return zero for zero.
"""

import torch
from torch import Tensor

from symlab.symopt.polar import EXPRESS, SAFETY, _iterate
from symlab.symopt.rule import size
from symlab.symopt.rules import centre

EPSILON = 1e-8
LEAST = 1e-7  # of the Gram iteration, beside the Frobenius norm
# arXiv 2505.16932 for another lower bound, each over the powers of 1.05
COEFFICIENTS = tuple(
    (a / 1.05, b / 1.05**3, c / 1.05**5)
    for a, b, c in (
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    )
)


def executed_row_norm(
    x: Tensor, centred: bool = False, epsilon: float = EPSILON
) -> Tensor:
    """Return x with each row divided by (its length + epsilon), as Lau & Su's code
    does.

    x: (..., m, n), the momentum. centred: whether the mean row is subtracted before and
        after.
    epsilon: an absolute term, so that small gradients give smaller updates; the rule in
        their paper (arXiv 2605.18106) has no such term.
    """
    y = _single(x)
    y = centre(y) if centred else y
    y = y / (y.norm(dim=-1, keepdim=True) + epsilon)
    return (centre(y) if centred else y).to(x.dtype)


def executed_right_polar(
    x: Tensor, alpha: float = 1.0, centred: bool = False
) -> Tensor:
    """Return nu^alpha x (x^T x + 1e-8 I)^(-1/2), as Lau & Su's code computes it.

    x: (..., m, n), the momentum. nu is the trace of x^T x (x^T x + 1e-8 I)^(-1/2),
        about the nuclear norm.
    alpha: the power of nu. centred: whether the mean row is subtracted before and
        after.

    The inverse square root is approximated in five steps. The damping 1e-8 is absolute,
    so that the result depends on the size of the gradient. Source: the code of arXiv
    2605.18106.
    """
    return _one_sided(x, alpha, centred, left=False)


def executed_left_polar(x: Tensor, alpha: float = 1.0, centred: bool = False) -> Tensor:
    """Return nu^alpha (x x^T + 1e-8 I)^(-1/2) x, as Lau & Su's code computes it.

    x: (..., m, n), the momentum. nu is the trace of x x^T (x x^T + 1e-8 I)^(-1/2),
        about the nuclear norm.
    alpha: the power of nu. centred: whether the mean row is subtracted before and
        after.

    The inverse square root is approximated in five steps. The damping 1e-8 is absolute,
    so that the result depends on the size of the gradient. Source: the code of arXiv
    2605.18106.
    """
    return _one_sided(x, alpha, centred, left=True)


def executed_hybrid(
    x: Tensor,
    alpha: float = 1.0,
    centred: bool = False,
    side: str | None = None,
    *,
    coupled: bool = True,
    dtype: torch.dtype = torch.float16,
) -> Tensor:
    """Return the update 'hybrid' of x, as Lau & Su's code (arXiv 2605.18106) computes
    it.

    It is nu^alpha times the polar factor of x with normalised rows.

    x: (..., m, n), the momentum; its rows are first divided by their lengths.
    alpha: the power of nu, the inner product of these rows and their polar factor.
    centred: whether the mean row is subtracted before and after.
    side: None is the code's default, a Gram iteration in `dtype`, which first divides
        the matrix by its Frobenius norm, so that nu is too small by a factor of m^(1/2)
        for m rows. Its polynomials are applied here to the matrix instead of its Gram
        matrix, which is equal up to float16's rounding, some 0.3 %. 'left' and 'right'
        are the code's other backend, with an absolute damping of 1e-8 and the nu of the
        paper.
    coupled: whether a stack of experts shares one nu, the sum.

    Raises ValueError for another side.
    """
    if side not in (None, "left", "right"):
        raise ValueError(f"unknown side {side!r}: use 'left', 'right' or None")
    y = executed_row_norm(_single(x), centred)
    if side is None:
        y = y.float()
        y = y / (torch.linalg.matrix_norm(y, keepdim=True) + LEAST)
        wide = y.shape[-2] <= y.shape[-1]
        factor = _iterate((y if wide else y.mT).to(dtype), COEFFICIENTS).float()
        factor = factor if wide else factor.mT
    else:
        factor = _factor(y, left=side == "left")[0]
    dims = tuple(range(y.ndim)) if coupled else (-2, -1)
    nu = (y * factor).sum(dims, keepdim=True).clamp(min=EPSILON)
    update = nu**alpha * factor
    return (centre(update) if centred else update).to(x.dtype)


def executed_fused_gate_up(x: Tensor) -> Tensor:
    """Return one polar factor of gate and up projection together, as Lau & Su's code
    does.

    Their paper (arXiv 2605.18106) has one polar factor for each projection.

    x: (..., 2r, d), r rows of the gate projection, then r of the up projection.

    It is computed in bfloat16, with an absolute 1e-6 added to the norm, and multiplied
    by max(1, 2r/d)^(1/2). Raises ValueError for an odd number of rows.
    """
    _single(x)
    if x.shape[-2] % 2:
        raise ValueError(f"{x.shape[-2]} rows are not gates and ups: give (..., 2r, d)")
    wide = x.shape[-2] <= x.shape[-1]
    y = (x if wide else x.mT).to(torch.bfloat16)
    y = y / (SAFETY * torch.linalg.matrix_norm(y, keepdim=True) + 1e-6)
    for a, b, c in EXPRESS:  # in their order: bfloat16 rounds each product
        gram = y @ y.mT
        y = a * y + (b * gram + (c * gram) @ gram) @ y
    return size(x.shape, "muon") * (y if wide else y.mT).to(x.dtype)


def _one_sided(x: Tensor, alpha: float, centred: bool, left: bool) -> Tensor:
    y = _single(x)
    factor, nu = _factor(centre(y) if centred else y, left)
    update = nu.clamp(min=EPSILON) ** alpha * factor
    return (centre(update) if centred else update).to(x.dtype)


def _factor(x: Tensor, left: bool) -> tuple[Tensor, Tensor]:
    """The one-sided factor, and the trace of C C^(-1/2): (..., 1, 1)."""
    gram = x @ x.mT if left else x.mT @ x
    root = _inverse_sqrt(gram.float()).to(x.dtype)
    nu = (gram * root).sum((-2, -1), keepdim=True)
    return (root @ x if left else x @ root), nu


def _inverse_sqrt(c: Tensor) -> Tensor:
    """(C + 1e-8 I)^(-1/2) as theirs: Y -> Y P, Z -> P Z with P = p(I - Z Y)."""
    eye = torch.eye(c.shape[-1], dtype=c.dtype, device=c.device)
    c = (c + c.mT) / 2 + EPSILON * eye
    size = SAFETY * torch.linalg.matrix_norm(c, keepdim=True) + EPSILON
    y, z = c / size, eye.expand_as(c)
    for a, b, d in COEFFICIENTS:
        r = eye - z @ y
        r = (r + r.mT) / 2
        p = (a + b + d) * eye - (b + 2 * d) * r + d * (r @ r)
        y, z = y @ p, p @ z
    return z / size.sqrt()


def _single(x: Tensor) -> Tensor:
    """In float32 at least."""
    if x.ndim < 2 or not x.is_floating_point():
        raise ValueError(
            f"these rules are for real matrices, not {tuple(x.shape)} of {x.dtype}"
        )
    return x.to(torch.promote_types(x.dtype, torch.float32))
