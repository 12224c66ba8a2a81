"""Hessians in the basis of mirrors: block diagonal on them (theorem 1, part 2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from symlab.mirror.symmetry import MirrorSymmetry, Params


@dataclass(frozen=True)
class Blocks:
    """A Hessian in the orthonormal basis (im O_1, ..., im O_m, rest).

    matrix: (P, P). sizes: the widths of the blocks, the rest last.
    """

    matrix: Tensor
    sizes: tuple[int, ...]

    @property
    def off_block(self) -> float:
        """The largest entry outside the blocks, relative to the largest inside."""
        owner = torch.repeat_interleave(
            torch.arange(len(self.sizes)), torch.tensor(self.sizes)
        )
        same = owner[:, None] == owner[None, :]
        outside, inside = self.matrix[~same], self.matrix[same]
        if not len(outside):
            return 0.0
        return float(outside.abs().max() / inside.abs().max())


def blocks(
    loss: Callable[[Params], Tensor],
    params: Params,
    symmetries: Sequence[MirrorSymmetry],
) -> Blocks:
    """The Hessian of `loss` at `params` in the basis of mutually orthogonal mirrors.

    Dense: for models of up to some thousand parameters. Mirrors that are not orthogonal
    to each other raise ValueError, as they share directions and make no blocks.
    """
    names = list(params)
    shapes = [params[n].shape for n in names]
    flat = torch.cat([params[n].detach().reshape(-1) for n in names])

    def of_vector(theta: Tensor) -> Tensor:
        parts = theta.split([s.numel() for s in shapes])
        views = (p.view(s) for p, s in zip(parts, shapes, strict=True))
        return loss(dict(zip(names, views, strict=True)))

    hessian = torch.func.hessian(of_vector)(flat)
    basis = torch.cat([_embedded(s, params).to(flat) for s in symmetries], 1)
    overlap = (basis.T @ basis - torch.eye(basis.shape[1]).to(flat)).abs().max()
    if overlap > 1e-5:
        raise ValueError(
            f"the mirrors are not orthogonal to each other ({overlap:.2g}): use "
            "symmetries that act on different directions"
        )
    # QR of [basis, I] completes the basis
    full, _ = torch.linalg.qr(torch.cat([basis, torch.eye(len(flat)).to(flat)], 1))
    full = torch.cat([basis, full[:, basis.shape[1] : len(flat)]], 1)
    sizes = (*(s.k for s in symmetries), len(flat) - basis.shape[1])
    return Blocks(full.T @ hessian @ full, sizes)


def _embedded(symmetry: MirrorSymmetry, params: Params) -> Tensor:
    """O over all parameters: (P_all, k), dense."""
    starts, total = {}, 0
    for name, p in params.items():
        starts[name], total = total, total + p.numel()
    basis = symmetry.matrix()
    out = torch.zeros(total, symmetry.k, dtype=basis.dtype)
    row = 0
    for name, shape in zip(symmetry.names, symmetry.shapes, strict=True):
        size = torch.Size(shape).numel()
        out[starts[name] : starts[name] + size] = basis[row : row + size]
        row += size
    return out
