"""The factors of a low-rank product W = B A, as in LoRA: updates that see W alone.

B (m, r) and A (r, n) are not determined by W: (B M, M^-1 A) is the same for every
invertible M, the group GL(r). Gradients follow as G_B -> G_B M^-T and G_A -> M^T G_A,
so an update is compatible if dB -> dB M and dA -> M^-1 dA; then B A is trained alike
whatever M the factors started from. An entry-wise rule (AdamW) and a polar factor of
each factor (Muon) are not.

`low_rank` takes steepest steps of W: among updates of one factor whose effect on W has
spectral norm at most 1 it is the one that the momentum favours most.

    max <X, dB>  subject to  |dB A|_2 <= 1
    A A^T = L L^T,  dB = dB' L^-1:   |dB A|_2 = |dB'|_2,  <X, dB> = <X L^-T, dB'>
    so  dB = polar(X L^-T) L^-1

L is fixed up to a rotation, which cancels. Under M, A A^T -> M^-1 A A^T M^-T, L -> M^-1
L R for a rotation R, X L^-T -> X L^-T R, and dB -> dB M. Rotations of outputs and
inputs commute with all of it: the group is O(m) x GL(r) x O(n).

For A the same holds with B^T B = P in place of A A^T = Q. P is singular at the start of
LoRA, where B = 0, and small for long, and the step would be without bound. So there

    max <X, dA>  subject to  |B dA|_2 <= 1  and  |Q^-1/2 dA|_2 <= 1 / c

is met with one metric, P + c^2 Q^-1, which transforms as P does: a step of A is bounded
relative to A, too. With c = damping * 0.2 max(m, n)^(1/2), the length of a step under
the scale rms, a learning rate of 0.001 changes A by at most one part in a thousand.

Prior art, in our words: Riemannian preconditioned LoRA (Zhang & Pilanci, arXiv
2402.02347) multiplies gradients by (A A^T + d I)^-1, which has GL(r) for d = 0 and
without Adam's second moments; LoRA-RITE (Yen et al., arXiv 2410.20625) has it with
second moments in a polar frame that is carried along. Neither takes polar factors.
"""

import torch
from torch import Tensor

from symlab.symopt.polar import polar


def low_rank(
    x: Tensor,
    *,
    own: Tensor,
    other: Tensor,
    inner: bool = False,
    damping: float = 1.0,
    method: str = "auto",
    **options,
) -> Tensor:
    """Return the update of one factor of a low-rank product W = B A, such that the
    change of W does not depend on how W was factored.

    x (N, m, r): the momentum of `own`. own (N, m, r): the factor; other (N, r, n): the
    one that it is multiplied by, so that own @ other is W. The update is equivariant
    under O(m) x GL(r) x O(n). inner: whether the factor is A, which is then given
    transposed, with W^T = A^T B^T; its metric is damped by `damping` (relative to an
    update with entries of root mean square 0.2). options: of `polar`. Raises ValueError
    for a damping below 0.
    """
    if not 0 <= damping < float("inf"):
        raise ValueError(f"damping must be 0 or more, not {damping}")
    metric = other @ other.mT  # (N, r, r)
    if inner and damping:
        c = damping * 0.2 * max(own.shape[-2], other.shape[-1]) ** 0.5
        metric = metric + c**2 * _inverse(own.mT @ own)
    lower = _cholesky(metric)  # (N, r, r)
    # x L^-T, and then its polar factor times L^-1
    framed = torch.linalg.solve_triangular(lower, x.mT, upper=False).mT
    factor = polar(framed, method, **options)
    y = torch.linalg.solve_triangular(lower.mT, factor.mT, upper=True).mT
    moved = x.abs().amax((-2, -1), keepdim=True) > 0
    return torch.where(moved, y, 0).to(x.dtype)


def _cholesky(metric: Tensor) -> Tensor:
    """L of L L^T, of a metric (N, r, r) that may be singular up to rounding."""
    r, eps = metric.shape[-1], float(torch.finfo(metric.dtype).eps)
    mean = metric.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    mean = torch.where(mean > 0, mean, 1)
    least = r * eps * mean * torch.eye(r, dtype=metric.dtype, device=metric.device)
    return torch.linalg.cholesky(metric + least)


def _inverse(metric: Tensor) -> Tensor:
    return torch.cholesky_inverse(_cholesky(metric))
