"""Hessian of a loss in the basis of its mirrors, on which it is block diagonal.

Source: Liu Ziyin, "Symmetry Induces Structure and Constraint of Learning" (ICML 2024),
theorem 1, part 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from symlab.mirror.symmetry import MirrorSymmetry, Params


@dataclass(frozen=True)
class Blocks:
    """A Hessian in an orthonormal basis whose first vectors span the mirrors' normals.

    matrix: (P, P), in the basis (columns of O_1, ..., columns of O_m, rest), where the
        mirror of symmetry i is the surface O_i^T theta = 0.
    sizes: the number of basis vectors in each of the m + 1 blocks.
    """

    matrix: Tensor
    sizes: tuple[int, ...]

    @property
    def off_block(self) -> float:
        """The largest |entry| outside the diagonal blocks, relative to the largest
        inside.
        """
        owner = torch.repeat_interleave(
            torch.arange(len(self.sizes)), torch.tensor(self.sizes)
        )
        same = owner[:, None] == owner[None, :]
        outside, inside = self.matrix[~same], self.matrix[same]
        if not outside.any():
            return 0.0
        return float(outside.abs().max() / inside.abs().max())


def blocks(
    loss: Callable[[Params], Tensor],
    params: Params,
    symmetries: Sequence[MirrorSymmetry],
) -> Blocks:
    """Return the dense Hessian of `loss` in the basis of some mirror symmetries.

    loss: takes parameters {name: tensor} and returns a scalar.
    params: {name: tensor}, P entries in total, up to some thousand. Integer tensors are
        held fixed; half-precision tensors are converted to float32.
    symmetries: symmetries whose mirrors are orthogonal to each other.

    Raises ValueError if two mirrors share directions, for an empty list, and for a loss
    that does not return one number.
    """
    symmetries = _listed(symmetries, params)
    still = {n: p for n, p in params.items() if not p.is_floating_point()}
    params = {n: p.detach() for n, p in params.items() if n not in still}
    shapes = [p.shape for p in params.values()]
    flat = torch.cat([p.reshape(-1) for p in params.values()])
    flat = flat.float() if flat.dtype.itemsize < 4 else flat

    def of_vector(theta: Tensor) -> Tensor:
        parts = theta.split([s.numel() for s in shapes])
        views = (p.view(s) for p, s in zip(parts, shapes, strict=True))
        value = loss(dict(zip(params, views, strict=True)) | still)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ValueError("the loss has to return one number, a scalar tensor")
        return value.reshape(())

    hessian = torch.func.hessian(of_vector)(flat)
    basis = torch.cat([_embedded(s, params).to(flat) for s in symmetries], 1)
    overlap = (basis.T @ basis - torch.eye(basis.shape[1]).to(flat)).abs().max()
    if not overlap <= 1e-5:
        raise ValueError(
            f"the mirrors are not orthogonal to each other ({overlap:.2g}): use "
            "symmetries that act on different directions"
        )
    # QR of [basis, I] completes the basis
    full, _ = torch.linalg.qr(torch.cat([basis, torch.eye(len(flat)).to(flat)], 1))
    full = torch.cat([basis, full[:, basis.shape[1] : len(flat)]], 1)
    sizes = (*(s.k for s in symmetries), len(flat) - basis.shape[1])
    return Blocks(full.T @ hessian @ full, sizes)


def _listed(symmetries, params: Params) -> list[MirrorSymmetry]:
    """The symmetries as a list, each of which fits the parameters."""
    if isinstance(symmetries, MirrorSymmetry):
        symmetries = [symmetries]
    symmetries = list(symmetries)
    if not symmetries or not all(isinstance(s, MirrorSymmetry) for s in symmetries):
        raise ValueError(
            "give one or more mirror symmetries, as symlab.mirror.permutation makes "
            "them: without a mirror there are no blocks"
        )
    for symmetry in symmetries:
        symmetry.coordinates(params)  # names and shapes
    if not all(isinstance(p, Tensor) for p in params.values()):
        raise ValueError("the parameters have to be tensors, all of them")
    return symmetries


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
