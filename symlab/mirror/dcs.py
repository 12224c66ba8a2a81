"""DCS, differentiable constraint by symmetry, as a torch parametrization.

Any parameter theta can carry constraints A theta = 0 that weight decay switches on:
    theta = (I - A^+ A) v + A^+ s,   s = u * w,
with weight decay on u and w alone. Since min (wd/2)(u^2 + w^2) under u w = s is wd |s|,
this is minimising l(theta) + wd ||A theta||_1 with an ordinary optimizer: the
constraint holds exactly, not nearly, above a finite critical decay. With orthonormal
rows, A = O^T, it is the construction of Liu Ziyin, "Symmetry Induces Structure and
Constraint of Learning" (ICML 2024); general A (generalised and fused lasso) and the
critical decay are derived here.

    torch.nn.utils.parametrize.register_parametrization(layer, "weight", DCS(A))
    optimizer = torch.optim.SGD(decay_groups(model, weight_decay=0.1), lr=0.1)

It takes an update that is linear in (u, w) near 0, as SGD's is: there u + w and u - w
are multiplied by 1 - lr (weight_decay +- g), g = A^+T grad l. Adam and AdamW divide the
gradient by its own size, up to their eps:
  AdamW  near 0 a step is lr (g w/eps + weight_decay u), so that the critical decay is
         1/eps times that of SGD: 1e8 times by default, and no constraint ever holds.
         With eps=1 on u and w it is SGD's: decay_groups(model, 0.1, eps=1.0, lr=1.0).
  Adam   its decay is part of the gradient, so that the minimum is the right one, but s
         does not stay at 0: in full batch it bursts out again and again, up to 1e-6 at
         lr .001 and 1e-3 at lr .1.
In float32 a constraint that holds exactly reads 1e-8: the rounding of A theta.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

AWAKE = 0.01  # least initial u: u = w = 0 is stationary and would never be left


class DCS(nn.Module):
    """The parametrization of one parameter by (v, u, w).

    constraint: A (k, P) on the flattened parameter, of full row rank.
    groups: sizes that add up to k; the s of a group share one u, and vanish together
    (group lasso). Default: every constraint for itself.
    """

    def __init__(self, constraint: Tensor, groups: tuple[int, ...] = ()):
        super().__init__()
        if constraint.ndim != 2:
            raise ValueError(
                f"the constraint has shape {tuple(constraint.shape)}: give a matrix "
                "(constraints, entries of the parameter)"
            )
        k = constraint.shape[0]
        if torch.linalg.matrix_rank(constraint.double()) < k:
            raise ValueError(
                "the constraints depend on each other: drop rows until the matrix has "
                "full row rank"
            )
        groups = groups or (1,) * k
        if sum(groups) != k or min(groups) < 1:
            raise ValueError(f"the groups {groups} do not add up to {k} constraints")
        inverse = torch.linalg.pinv(constraint.double()).to(constraint.dtype)
        self.register_buffer("constraint", constraint.detach().clone())
        self.register_buffer("inverse", inverse)  # A^+, (P, k)
        owner = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups))
        self.register_buffer("owner", owner)  # the group of each constraint, (k,)

    def forward(self, v: Tensor, u: Tensor, w: Tensor) -> Tensor:
        flat = v.reshape(-1)
        s = u.index_select(0, self.owner) * w  # u[...] has a slow backward
        return (flat + self.inverse @ (s - self.constraint @ flat)).view_as(v)

    def right_inverse(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(v, u, w) of a given theta: the function of the module does not change."""
        s = self.constraint @ theta.detach().reshape(-1)
        squares = torch.zeros(int(self.owner.max()) + 1).to(s)
        u = squares.index_add(0, self.owner, s.square()).pow(0.25)  # |s_group|^(1/2)
        u = u.clamp(min=AWAKE)
        return theta.detach().clone(), u, s / u[self.owner]

    def violation(self, theta: Tensor) -> Tensor:
        """max |A theta|."""
        return (self.constraint @ theta.reshape(-1)).abs().max()


def decay_groups(
    model: nn.Module, weight_decay: float, others: float = 0.0, **options
) -> list[dict]:
    """Parameter groups for any torch optimizer: decay on u and w, `others` elsewhere.

    Decay on v would shrink the solution and is never part of the constraint. `options`
    are further settings of the optimizer for u and w alone, as lr and, for AdamW, eps.
    """
    pairs = []
    for module in model.modules():
        if isinstance(module, parametrize.ParametrizationList) and isinstance(
            module[0], DCS
        ):
            pairs += [module.original1, module.original2]
    if not pairs:
        raise ValueError(
            "the model has no DCS parametrization: register one with "
            "torch.nn.utils.parametrize.register_parametrization"
        )
    chosen = {id(p) for p in pairs}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = [{"params": pairs, "weight_decay": weight_decay, **options}]
    return [*groups, {"params": rest, "weight_decay": others}] if rest else groups


def critical_decay(
    loss: Callable[[Tensor], Tensor],
    theta: Tensor,
    constraint: Tensor,
    groups: tuple[int, ...] = (),
) -> float:
    """The decay from which the constraint holds: max |A^+T grad l(theta_c)|.

    theta_c: the minimum of l under A theta = 0. There the gradient is A^T mu, and s = 0
    is the minimum of l + wd ||s|| if and only if wd >= |mu| of each group.
    """
    gradient = torch.func.grad(loss)(theta.detach()).reshape(-1)
    multipliers = torch.linalg.pinv(constraint).T @ gradient
    groups = groups or (1,) * len(multipliers)
    return max(float(m.norm()) for m in multipliers.split(list(groups)))


def differences(n: int) -> Tensor:
    """The fused lasso's A: (n-1, n), rows theta_{i+1} - theta_i."""
    return torch.diff(torch.eye(n), dim=0)
