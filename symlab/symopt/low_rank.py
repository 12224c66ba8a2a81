"""Updates of the factors of a low-rank product W = B A (LoRA) that depend on W only.

B (m, r) and A (r, n) are not determined by W: (B M, M^-1 A) is the same for every
invertible M, the group GL(r). Gradients then change to G_B M^-T and M^T G_A, so an
update is compatible if dB becomes dB M and dA becomes M^-1 dA; then B A is trained in
the same way from any factors. An entrywise rule (AdamW) and a polar factor of each
factor (Muon) are not compatible.

`low_rank` takes steepest steps of W: among updates of one factor whose effect on W has
spectral norm at most 1, it is the one with the largest inner product with the momentum.

    max <X, dB>  subject to  |dB A|_2 <= 1
    A A^T = L L^T,  dB = dB' L^-1:   |dB A|_2 = |dB'|_2,  <X, dB> = <X L^-T, dB'>
    so  dB = polar(X L^-T) L^-1

L is determined up to a rotation, which cancels. Under M, A A^T becomes M^-1 A A^T M^-T,
L becomes M^-1 L R for a rotation R, X L^-T becomes X L^-T R, and dB becomes dB M.
Rotations of outputs and inputs commute with all of it: the group is
O(m) x GL(r) x O(n).

For A the same holds with P = B^T B in place of Q = A A^T. P is singular at the start of
LoRA, where B = 0, and small for long, and the step would be unbounded. So there

    max <X, dA>  subject to  |B dA|_2 <= 1  and  |Q^-1/2 dA|_2 <= 1 / c

is satisfied with one metric, P + c^2 Q^-1, which transforms as P does: a step of A is
also bounded relative to A. With c = damping * 0.2 max(m, n)^(1/2), the length of a step
under the scale rms, a learning rate of 0.001 changes A by at most one part in a
thousand.

Prior work, in our words: Riemannian preconditioned LoRA (Zhang & Pilanci, arXiv
2402.02347) multiplies gradients by (A A^T + d I)^-1, which is compatible with GL(r) for
d = 0 and without Adam's second moments; LoRA-RITE (Yen et al., arXiv 2410.20625) is
compatible with second moments, in a polar frame that it updates. Neither takes polar
factors.
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
    """Return the update of one factor of a low-rank product W = B A.

    The change of W does not depend on how W is factored: the update is equivariant
    under O(m) x GL(r) x O(n).

    x: (N, m, r), the momentum of `own`.
    own: (N, m, r), the factor. other: (N, r, n), the other factor; own @ other is W.
    inner: whether the factor is A, which is then given transposed, with W^T = A^T B^T.
    damping: strength of the damping of A's metric, relative to an update whose entries
        have root mean square 0.2.
    method, options: of `polar`.

    Raises ValueError for a damping that is negative or not finite.
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
