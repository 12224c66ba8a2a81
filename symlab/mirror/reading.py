"""Record which axes of which parameters read hidden units, and the units' values there.

A matrix product multiplies a parameter with units' values and sums over one axis: this
axis reads the units, every other axis that carries units computes them. Merging units
adds up the weights that read them; the effect of a constant unit can be added to the
bias of the layer that reads it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from symlab.tracing import Mode, one_by_one

# operation: (argument, its axis that is summed over), for both factors
PRODUCTS = {
    "mm": ((0, 1), (1, 0)),
    "addmm": ((1, 1), (2, 0)),
    "bmm": ((0, 2), (1, 1)),
    "baddbmm": ((1, 2), (2, 1)),
    "mv": ((0, 1), (1, 0)),
    "addmv": ((1, 1), (2, 0)),
    "_grouped_mm": ((0, 1), (1, 1)),
}
# flat in places: a unit may be constant on a batch by chance
FLAT = ("relu", "hardtanh", "clamp", "clamp_min", "clamp_max", "threshold")
FLAT += ("hardsigmoid", "hardswish")


@dataclass
class Values:
    """Statistics of hidden units' values at the n positions of a tensor axis.

    low, high, mean, size: (n,), the least, largest, mean and root-mean-square value.
    samples: the number of values per position.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    size: Tensor
    samples: int = 0


class Readings(Mode):
    """Records the values that each weight is multiplied with in a forward pass of the
    model.

    model: the model.
    tilted: if True, f(x) is replaced by f(x) + x for functions f that are flat in
        places, so that a unit is constant only if its inputs are.

    values: {(name, axis): `Values`} for each axis of a parameter that is multiplied
        with hidden units' values and summed over.
    looked_up: the (name, axis) of embeddings, which compute units although a tied
        output layer reads them.
    """

    def __init__(self, model: nn.Module, tilted: bool = False):
        super().__init__()
        self.tilted = tilted
        self.values: dict[tuple[str, int], Values] = {}
        self.looked_up: set[tuple[str, int]] = set()
        self.tensors: dict[int, list[tuple[str, Tensor]]] = {}
        for name, p in model.named_parameters():
            at = p.untyped_storage().data_ptr()
            self.tensors.setdefault(at, []).append((name, p))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        tilt = args[0].clone() if self.tilted and name.strip("_") in FLAT else None
        out = func(*args, **(kwargs or {}))
        if tilt is not None and tilt.is_floating_point():
            out.add_(tilt)
        if name in PRODUCTS:
            for (w, axis), (x, other) in (PRODUCTS[name], PRODUCTS[name][::-1]):
                self._met(args[w], axis, args[x], other)
        elif name == "convolution":
            x, w, groups, transposed = args[0], args[1], args[8], args[6]
            if groups == 1 or groups != x.shape[1]:
                self._met(w, 0 if transposed else 1, x, 1)
        elif name in ("embedding", "_embedding_bag"):
            found = self._parameter(args[0])
            self.looked_up |= {(found[0], 1)} if found else set()
        return out

    def _parameter(self, t: Tensor) -> tuple[str, Tensor] | None:
        """The parameter of which t is a view."""
        for name, p in self.tensors.get(t.untyped_storage().data_ptr(), ()):
            first = p.storage_offset()
            if first <= t.storage_offset() < first + max(p.numel(), 1):
                return name, p
        return None

    def _met(self, w: Tensor, axis: int, x: Tensor, other: int) -> None:
        """The parameter w is multiplied with x; both are summed over."""
        found = self._parameter(w)
        if found is None or self._parameter(x) is not None or axis >= w.ndim:
            return
        name, p = found
        step, n = w.stride(axis), w.shape[axis]
        axes = [a for a in range(p.ndim) if p.stride(a) == step and p.shape[a] >= n]
        if not axes:
            return
        first = (w.storage_offset() - p.storage_offset()) // step % p.shape[axes[0]]
        x, stack = x.detach(), p.shape[0]
        if p.ndim == 3 and x.ndim == 3 and len(x) == stack:  # one matrix for each
            x = x.movedim(other, 1).flatten(0, 1)
        else:
            x = x.movedim(other, 0).flatten(1)
            if p.ndim == 3:  # rows are sorted by expert: all may meet every value
                x = x.repeat(stack, 1)
        self._note((name, axes[0]), p.shape[axes[0]], first, x)

    def _note(self, key, length: int, first: int, x: Tensor) -> None:
        """Values x (positions, samples) from the position `first` on."""
        length = max(length, len(x))  # groups of a convolution come one after another
        new = lambda fill: torch.full((length,), fill, dtype=x.dtype)  # noqa: E731
        inf = float("inf")
        v = self.values.setdefault(key, Values(new(inf), new(-inf), new(0.0), new(0.0)))
        at = slice(first, first + len(x))
        if x.numel() and len(v.low[at]) == len(x):
            v.low[at] = torch.minimum(v.low[at], x.amin(1).cpu())
            v.high[at] = torch.maximum(v.high[at], x.amax(1).cpu())
            share = x.shape[1] / (v.samples + x.shape[1])
            v.mean[at] += share * (x.mean(1).cpu() - v.mean[at])
            v.samples += x.shape[1]
            v.size[at] = torch.maximum(v.size[at], x.square().mean(1).sqrt().cpu())


def readings(model: nn.Module, loss, *batches, tilted: bool = False) -> Readings:
    """Return the `Readings` of `loss(model, batch)`, called once for each batch.

    tilted: as for `Readings`: whether f(x) is replaced by f(x) + x for functions f that
        are flat in places.
    """
    found = Readings(model, tilted)
    with torch.no_grad(), one_by_one(), found:
        for batch in batches:
            loss(model, batch)
    return found
