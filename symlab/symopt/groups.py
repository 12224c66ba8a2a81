"""Symmetry groups that act on matrices, and the error of an update's equivariance.

A group element acts on gradients and on updates. For permutations, signed permutations
and rotations both actions are the same (U(g.G) = g.U(G)); a shift adds one vector to
all rows of a gradient and leaves the update unchanged (U(G + 1 a^T) = U(G)).

    equivariance_error(rule, x, rows("permutation"), columns("rotation"))
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("permutation", "signed permutation", "rotation", "shift")


@dataclass(frozen=True)
class Action:
    """A symmetry group that acts on the rows or columns of matrices (..., m, n).

    kind: 'permutation', 'signed permutation', 'rotation' or 'shift' (one vector added
        to all rows or columns).
    side: 'left' for rows, 'right' for columns.
    """

    kind: str
    side: str

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"unknown group {self.kind!r}: use {', '.join(KINDS)}")
        if self.side not in ("left", "right"):
            raise ValueError(f"unknown side {self.side!r}: use 'left' or 'right'")

    def element(self, x: Tensor, draws: torch.Generator) -> tuple[Callable, Callable]:
        """Return a random group element as two functions: on gradients, and on updates.

        x: a tensor of the shape on which they act; it also determines the size of a
            shift.
        draws: the random generator.

        Both functions are the same, except that a shift changes gradients and leaves
        updates unchanged.
        """
        if self.kind == "shift":
            a = _shift(x, self.side, draws)
            return (lambda g: g + a), (lambda u: u)
        n = x.shape[-2 if self.side == "left" else -1]
        q = _matrix(self.kind, n, draws).to(x)
        act = (lambda g: q @ g) if self.side == "left" else (lambda g: g @ q.mT)
        return act, act


def rows(kind: str) -> Action:
    """Return the `Action` of a group on the rows of matrices.

    kind: 'permutation', 'signed permutation', 'rotation' or 'shift'.
    """
    return Action(kind, "left")


def columns(kind: str) -> Action:
    """Return the `Action` of a group on the columns of matrices.

    kind: 'permutation', 'signed permutation', 'rotation' or 'shift'.
    """
    return Action(kind, "right")


def _matrix(kind: str, n: int, draws: torch.Generator) -> Tensor:
    """A random orthogonal matrix of the group, float64."""
    if kind == "rotation":  # Haar: QR with the signs of R taken out
        q, r = torch.linalg.qr(torch.randn(n, n, generator=draws, dtype=torch.float64))
        return q * r.diagonal().sign()
    q = torch.eye(n, dtype=torch.float64)[torch.randperm(n, generator=draws)]
    if kind == "signed permutation":
        q = q * (2.0 * torch.randint(0, 2, (n,), generator=draws) - 1)
    return q


def _shift(x: Tensor, side: str, draws: torch.Generator) -> Tensor:
    """One random vector for all rows (left) or columns (right), as large as x."""
    size = x.detach().double().square().mean().sqrt()
    shape = list(x.shape)
    shape[-2 if side == "left" else -1] = 1
    return (size * torch.randn(shape, generator=draws, dtype=torch.float64)).to(x)


def equivariance_error(
    rule: Callable[[Tensor], Tensor], x: Tensor, *actions: Action, seed: int = 0
) -> float:
    """Return |U(g x) - g U(x)| / |U(x)| in the Frobenius norm for a random group
    element g.

    rule: U, from a gradient x to an update of the same shape. x: (..., m, n).
    actions: the groups; g consists of one random element of each, applied in turn.
    seed: seed of the random elements.

    The error is 0 up to rounding for an equivariant rule. If U(x) = 0, as for one
    centred row, the norm of the difference itself is returned.
    """
    draws = torch.Generator().manual_seed(seed)
    moved, expected = x, rule(x)
    size = expected.double().norm() or 1.0
    for action in actions:
        on_gradient, on_update = action.element(x, draws)
        moved, expected = on_gradient(moved), on_update(expected)
    return float((rule(moved) - expected).double().norm() / size)
