"""Record which part of which parameter a tensor is."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Weight:
    """A record that a tensor is a parameter, a part of it or a copy.

    It states where in the tensor's storage each axis of the parameter lies.

    name: the parameter's name.
    strides: (stride, length, axes of the parameter) for each dimension of the storage.
    starts: {axis: its first index in this storage}.
    """

    name: str
    strides: list[tuple[int, int, tuple[int, ...]]]  # (stride, length, axes) of storage
    starts: dict[int, int]  # axis -> its first index in this storage

    def axes(self, t: Tensor) -> list[tuple[int, ...]]:
        """Return, for each dimension of a view t of the storage, the parameter's axes
        in it.
        """
        return [self._axes_of(t, d) for d in range(t.ndim)]

    def _axes_of(self, t: Tensor, dim: int) -> tuple[int, ...]:
        stride, reach = t.stride(dim), t.stride(dim) * t.shape[dim]
        if t.shape[dim] == 1 or stride == 0:
            return ()
        found = []
        for s, n, axes in self.strides:  # [s, s n) is where this axis moves
            if n > 1 and stride < s * n and reach > s:
                found += axes
        return tuple(found)

    def indices(self, t: Tensor, dim: int, axis: int) -> Tensor:
        """Return (n,): the index on one axis of the parameter of each entry along a
        dimension.

        t: a view of the storage. dim: its dimension, of length n. axis: the parameter's
            axis.
        """
        start, step, left = self.starts.get(axis, 0), 1, t.storage_offset()
        for s, _, axes in sorted(self.strides, reverse=True):
            if s and axis in axes:
                start += left // s
                step = max(1, t.stride(dim) // s) if t.shape[dim] > 1 else 1
            left = left % s if s else left
        return start + step * torch.arange(t.shape[dim], device="cpu")

    def stacked(self, count: int, axes: tuple[int, ...]) -> Tensor:
        """Return (count,): the row numbers along a dimension that joins axes of the
        parameter.

        axes: the joined axes, which may lie in either order. A row number is the index
        on the axes before the last one, times the last one's length, plus the index on
        the last one.
        """
        strides = {a: s for s, _, on in self.strides for a in on if a in axes}
        lengths = {a: n for _, n, on in self.strides for a in on if a in axes}
        last, every = max(axes), torch.arange(count, device="cpu")
        if min(axes, key=strides.__getitem__) == last:
            return every
        length = lengths[last]
        stack = count // length
        return every % stack * length + every // stack
