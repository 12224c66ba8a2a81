"""Hidden indices of a model: which entries of its tensors belong to which hidden unit.

An `Index` has m units and several parts. A part is one axis of one tensor, and unit i
owns the slices `places[i]` along it: a neuron owns a row of the layer that computes it,
an entry of that layer's bias and a column of the layer that reads it. A matrix may be
part of one index twice (W -> P W P^T). A group element acts on all parts at once.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

BLOCK = 1 << 18  # entries of a tensor that are moved at once


@dataclass(frozen=True)
class Part:
    """One axis of one tensor, along which each of m hidden units owns k positions.

    name, shape: the tensor, a parameter or a buffer such as batch norm's running mean.
    axis: the axis of that tensor.
    places: (m, k) positions along the axis; unit i owns the slices places[i].
    stack: the number of groups (experts, groups of a convolution) into which the first
        axis is cut, each with an index of its own; position e * shape[axis] + j is
        place j of group e.
    reads: whether the units' values are multiplied with this tensor and summed over the
        axis; otherwise the tensor computes the units' values, or does both, as a tied
        embedding.
    trainable: whether the tensor is a parameter that requires a gradient.
    """

    name: str
    axis: int
    shape: tuple[int, ...]
    places: Tensor
    stack: int = 1
    reads: bool = False
    trainable: bool = True

    @cached_property
    def consecutive(self) -> bool:
        """Whether the units' positions, taken unit by unit, increase by one at each
        step.
        """
        flat = self.places.reshape(-1)
        return len(flat) > 0 and torch.equal(flat, flat[0] + torch.arange(len(flat)))

    def slices(self, t: Tensor) -> Tensor:
        """Return the slices of tensor t along this axis, flattened to (n, rest).

        n is the length of the axis, times the number of groups if the first axis is
        stacked.
        """
        if self.stack == 1:
            return t.movedim(self.axis, 0).reshape(t.shape[self.axis], -1)
        t = t.reshape(self.stack, -1, *t.shape[1:]).movedim(self.axis + 1, 1)
        return t.reshape(self.stack * t.shape[1], -1)

    def rows(self, t: Tensor, units: slice = slice(None)) -> Tensor:
        """Return the entries of tensor t that each unit owns, flattened to (m, k *
        rest).

        units: a slice that selects some of the m units.

        The result may be a view of t and must not be written to.
        """
        t = t if self.shape else t.reshape(1)
        places = self.places[units]
        if self.stack > 1:
            taken = self.slices(t)[places.reshape(-1).to(t.device)]
            return taken.reshape(len(places), -1)
        if self.consecutive and isinstance(units, slice) and places.numel():
            taken = t.narrow(self.axis, int(places[0, 0]), places.numel())
        else:
            taken = t.index_select(self.axis, places.reshape(-1).to(t.device))
        return taken.movedim(self.axis, 0).reshape(len(places), -1)

    def chunks(self, entries: int) -> list[slice]:
        """Return slices of consecutive units that own about `entries` numbers per
        slice.

        Each slice has at least one unit; together the slices cover all units in order.
        """
        m, axis = len(self.places), self.shape[self.axis] if self.shape else 1
        each = torch.Size(self.shape).numel() // axis * self.places.shape[1]
        step = max(1, entries // max(1, each))
        return [slice(a, min(a + step, m)) for a in range(0, m, step)]

    def exchange_(self, t: Tensor, order: Tensor) -> None:
        """Replace what unit i owns of tensor t by what unit order[i] owned, in place.

        order: (m,), a permutation.
        """
        given = replace(self, places=self.places[order])
        if torch.equal(given.places, self.places):
            return
        for block in self._blocks(t):
            self._write(block, given.rows(block))

    def multiply_(self, t: Tensor, matrix: Tensor) -> None:
        """Multiply the entries of tensor t that the units own, in place.

        matrix: (m, m), which mixes the units, or (m,), one factor for each unit.
        """
        matrix = matrix.to(t)
        for block in self._blocks(t):
            rows = self.rows(block)
            rows = matrix @ rows if matrix.ndim == 2 else matrix[:, None] * rows
            self._write(block, rows)

    def _blocks(self, t: Tensor) -> list[Tensor]:
        """Views of t, in pieces along another axis than its own."""
        others = [d for d in range(t.ndim) if d != self.axis]
        if self.stack > 1 or not others:
            return [t]
        d = max(others, key=lambda d: t.shape[d])
        return list(t.split(max(1, BLOCK * t.shape[d] // max(t.numel(), 1)), d))

    def _write(self, t: Tensor, rows: Tensor) -> None:
        places = self.places.to(t.device).reshape(-1)
        rows = rows.reshape(len(places), -1)
        if not self.shape:
            t.copy_(rows.reshape(()))
        elif self.stack == 1:
            shape = (len(places), *t.movedim(self.axis, 0).shape[1:])
            rows = rows.view(shape).movedim(0, self.axis)
            if self.consecutive:
                t.narrow(self.axis, int(places[0]), len(places)).copy_(rows)
            else:
                t.index_copy_(self.axis, places, rows)
        else:
            changed = self.slices(t).clone()
            changed[places] = rows
            groups = t.reshape(self.stack, -1, *t.shape[1:]).movedim(self.axis + 1, 1)
            back = changed.reshape(groups.shape).movedim(1, self.axis + 1)
            t.copy_(back.reshape(t.shape))

    def __str__(self) -> str:
        return _axis_text(self, self.places.reshape(-1).tolist())


@dataclass(frozen=True)
class Element:
    """A group element that permutes or rotates m hidden units and scales them.

    order: (m,), unit i receives what unit order[i] had; None without a permutation.
    matrix: (m, m), an orthogonal matrix, used instead of `order`; None without one.
    factors: {position of a part in the index: (m,)}, the factor on each unit's entries
        along that tensor axis.
    """

    order: Tensor | None = None
    matrix: Tensor | None = None
    factors: Mapping[int, Tensor] = field(default_factory=dict)

    def dual(self) -> "Element":
        """Return the element that acts on gradients if this one acts on weights.

        Order and matrix are the same, and factors are inverted.
        """
        return Element(
            self.order, self.matrix, {p: 1 / f for p, f in self.factors.items()}
        )


@dataclass(frozen=True)
class Index:
    """A set of m hidden units, the tensor axes (parts) that carry them, and its
    symmetries.

    kind: 'rotation', 'permutation' or 'none' (the units cannot be exchanged).
    signs: tuples of positions in `parts`; the function is unchanged if what a unit owns
        on all parts of one tuple changes sign.
    scales: tuples of exponents s, one per part; the function is unchanged if what a
        unit owns on each part p is multiplied by c**s[p], c > 0.
    across: the operation that reads all units together (a norm, a softmax, a maximum),
        '' if there is none; removing or merging units would change its result.
    unknown: the reason why nothing is known about the units' symmetry, '' if it is
        known.
    why: the reason why units of kind 'none' cannot be exchanged.
    heads: whether the units are attention heads, which are blocks of units of other
        indices.
    pairs: for heads, (width of a product that each head forms, parts on one side, parts
        on the other); heads are compared by these products, as rotations inside a head
        leave them unchanged.
    violation: the largest relative difference found when the symmetries were tested.
    subspace: (m, r) with orthonormal columns, if only a subspace may be rotated; else
        None.
    activations: (samples, m), the units' values where they are read; None if unknown.
    contributions: (m,), the norm of what each unit adds to the layers that read it,
        relative to the root mean square over the units; None if unknown.
    """

    kind: str
    parts: tuple[Part, ...]
    signs: tuple[tuple[int, ...], ...] = ()
    scales: tuple[tuple[float, ...], ...] = ()
    across: str = ""
    unknown: str = ""
    why: str = ""
    heads: bool = False
    pairs: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...] = ()
    subspace: Tensor | None = None
    violation: float = float("nan")
    activations: Tensor | None = None
    contributions: Tensor | None = None

    @property
    def units(self) -> int:
        """m, the number of hidden units."""
        return len(self.parts[0].places)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tensors whose axes carry the units, each once."""
        return tuple(dict.fromkeys(p.name for p in self.parts))

    @property
    def rescaling(self) -> tuple[float, ...] | None:
        """The exponents, -1, 0 or 1 per part, of a certified rescaling of a unit.

        A part is a tensor axis that carries the units; what a unit owns on part p may
        be multiplied by c**s[p]. Only a rescaling that multiplies some parts by c and
        others by 1/c counts, because it implies a mirror symmetry. None if there is no
        such rescaling.
        """
        times = (1.0, -1.0, 0.5, -0.5, 2.0, -2.0)
        sums = [
            tuple(x * a + y * b for a, b in zip(*pair, strict=True))
            for pair in itertools.combinations(self.scales[:6], 2)
            for x, y in itertools.product(times[:5:2], times)
        ]
        for s in (*self.scales, *sums):
            if set(s) <= {-1.0, 0.0, 1.0} and min(s) < 0 < max(s):
                return s
        return None

    @property
    def merging(self) -> tuple[float, ...] | None:
        """The exponents s, one per part, of a rescaling that shrinks all outgoing
        weights.

        A part is a tensor axis that carries the units; what a unit owns there may be
        multiplied by c**s. The exponents of all parts that read the units' values are
        negative, and some other exponent is positive. If no part reads the values, this
        is `rescaling`; None if there is no such rescaling.
        """
        reads = [p for p, part in enumerate(self.parts) if part.reads]
        for s in self.scales:
            for way in (s, tuple(-e for e in s)):
                if reads and max(way) > 0 and all(way[p] < 0 for p in reads):
                    return way
        return self.rescaling if not reads else None

    @property
    def symmetry(self) -> str:
        """The name of the symmetry in the table of `audit`, such as 'permutation'."""
        if self.unknown:
            return "unknown"
        if self.heads:
            return "permutation of heads"
        if self.kind == "rotation":
            return self.kind
        base = {(False, False): "", (False, True): "sign flip"}
        base |= {(True, False): "permutation", (True, True): "signed permutation"}
        found = [base[self.kind == "permutation", bool(self.signs)]]
        found += ["rescaling"] if self.rescaling else []
        return ", ".join(f for f in found if f) or "none"

    def act_(self, g: Element, tensors: Mapping[str, Tensor]) -> None:
        """Apply the group element g to the tensors of this index, in place.

        tensors: {name: tensor}; tensors of the index that are missing here are skipped.
        """
        for number, part in enumerate(self.parts):
            if part.name not in tensors:
                continue
            t = tensors[part.name]
            if g.order is not None:
                part.exchange_(t, g.order)
            if g.matrix is not None:
                part.multiply_(t, g.matrix)
            if number in g.factors:
                part.multiply_(t, g.factors[number])

    def text(self) -> str:
        """Return the tensor axes of the index, such as 'a.weight:0, a.bias:0,
        b.weight:1'.
        """
        axes: dict[tuple, list[Part]] = {}
        for p in self.parts:
            axes.setdefault((p.name, p.axis), []).append(p)
        return ", ".join(
            _axis_text(ps[0], [x for p in ps for x in p.places.reshape(-1).tolist()])
            for ps in axes.values()
        )


def _axis_text(part: Part, places: list[int]) -> str:
    """'q.weight:0' for a whole axis, 'q.weight:0[16:32]' for a part of it."""
    at, name = sorted(places), f"{part.name}:{part.axis}"
    if len(at) == (part.shape[part.axis] * part.stack if part.shape else 1):
        return name
    cuts = [i for i in range(1, len(at)) if at[i] != at[i - 1] + 1]
    runs = zip([0, *cuts], [*cuts, len(at)], strict=True)
    return f"{name}[{','.join(f'{at[a]}:{at[b - 1] + 1}' for a, b in runs)}]"
