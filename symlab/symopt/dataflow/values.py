"""What is known about each tensor of a forward pass: from what it is computed."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from symlab.symopt.dataflow import shifts
from symlab.symopt.dataflow.shifts import Shifts
from symlab.symopt.dataflow.traces import (
    BENT,
    LINEAR,
    MAX_ENTRIES,
    MAX_LAYOUTS,
    MAX_NODES,
    SCALED,
    Lookup,
    Operation,
    Origin,
    Product,
    Seen,
    Trace,
    collapsed,
    moved,
    rows_of,
    same,
    varying,
)
from symlab.symopt.dataflow.weights import Weight
from symlab.tracing import seen_through


class Known:
    """What is known about each tensor of one forward pass, in tables keyed by the
    tensor.

    parameters: {name: parameter}. inputs: {name: tensor}, the model's inputs.

    weights: which part of which parameter the tensor is.
    origins: the products and lookups from which it is computed.
    shifts: how it changes when one vector is added to all rows of a weight.
    ids: the name of the model's input, for integers that are one.
    choices: the products whose largest features it points to.
    one_hot: the ids that it represents as rows of zeros and a single 1.
    sources: one object for a value and its reshapes.
    noise: random zeros and ones, by which a dropout multiplies.
    axes: {parameter's name: number of its axes}.
    seen: the record of the pass.
    """

    def __init__(self, parameters: dict[str, Tensor], inputs: dict[str, Tensor]):
        self.seen = Seen(inputs=tuple(inputs))
        self.weights = WeakIdKeyDictionary()
        self.origins = WeakIdKeyDictionary()
        self.shifts = WeakIdKeyDictionary()
        self.ids = WeakIdKeyDictionary()
        self.choices = WeakIdKeyDictionary()
        self.one_hot = WeakIdKeyDictionary()
        self.sources = WeakIdKeyDictionary()
        self.noise = WeakIdKeyDictionary()
        for name, t in inputs.items():
            if not t.is_floating_point():
                self.ids.setdefault(t, name)  # given twice, it has its first name
        self.axes = {name: p.ndim for name, p in parameters.items()}
        for name, p in parameters.items():
            layout = [(p.stride(d), p.shape[d], (d,)) for d in range(p.ndim)]
            self.weights[p] = Weight(name, layout, {})

    def origin(self, t) -> Origin:
        """Return from which products and lookups a tensor is computed, as an `Origin`,
        which is empty if that is not known.
        """
        return self.origins.get(t, Origin()) if isinstance(t, Tensor) else Origin()

    def shift(self, t) -> Shifts:
        """Return how a tensor changes when one vector is added to all rows of a weight,
        as `Shifts`, which are empty if that is not known.
        """
        return self.shifts[t].live() if t in self.shifts else Shifts()

    def union(self, parts) -> Origin:
        """Return as one `Origin` all products and lookups from which some values are
        computed.

        parts: pairs (value, change), where `change` is a function from the value's
            labels (the weight's row behind each entry) to those of the result, or None
            if they are lost.
        """
        both = Origin()
        for t, change in parts:
            for n, trace in self.origin(t).items():
                labels = None if trace.labels is None or change is None else []
                for x in trace.labels or ():
                    y = change(x) if labels is not None else None
                    labels = None if y is None else [*labels, y]
                if labels and all(_nowhere(x) for x in labels):
                    continue
                both[n] = _merged(both.get(n), trace, labels)
        if len(both) > MAX_NODES:
            both = Origin({n: t._replace(labels=None) for n, t in both.items()})
        return both

    def moved(self, op: Operation, values: list[Tensor]) -> list[Origin]:
        """Return the `Origin` of each result of an operation that moves entries of
        `values`.

        An `Origin` lists the products with weights from which a tensor is computed.
        """
        cache: dict[tuple[int, int], list] = {}

        def change(t, i):
            def one(labels):
                key = id(t), id(labels)
                if key not in cache:
                    cache[key] = moved(op, t, labels)
                return cache[key][i]

            return one

        return [
            self.union([(t, change(t, i)) for t in values])
            for i in range(len(op.results))
        ]

    def wrote(self, op: Operation, result: Tensor, origin: Origin) -> None:
        """Record that an operation wrote to a view of a larger tensor.

        The larger tensor then has the view's origins, too.

        result: the view that was written to. origin: the products from which it is now
            computed.
        """
        if result._base is None or not any(result is a for a in op.args[:1]):
            return
        base = result._base

        def place(labels):
            if not base.is_contiguous() or base.numel() > MAX_ENTRIES:
                return None
            whole = torch.full(base.shape, -1, dtype=labels.dtype, device="cpu")
            seen_through(result, base, whole).copy_(labels)
            return whole

        new = Origin(
            {
                n: t
                if t.labels is None
                else t._replace(labels=_placed(t.labels, place))
                for n, t in origin.items()
            }
        )
        old = self.origin(base)
        for n, t in new.items():
            before = old.get(n)
            if before is not None and before.labels and t.labels:
                over = torch.where(t.labels[0] < 0, before.labels[0], t.labels[0])
                t = t._replace(labels=(over,), bend=max(t.bend, before.bend))
            new[n] = t
        self.origins[base] = Origin({**old, **new})

    def rewrote(self, op: Operation, before: list[tuple[Tensor, Shifts]]) -> None:
        """Update what is known about tensors that share memory with tensors just
        written to.

        before: pairs of a written tensor and its `Shifts` (its change when one vector
            is added to all rows of a weight) before the write.

        If it is not known how the write changes the other tensors, the product loses
        its shift symmetry.
        """
        for t, old in before:
            new = self.shift(t)
            for p in {*old, *new}:
                if p not in old or p not in new:
                    p.spoiled = p.spoiled or op.name
            if old or new:
                for x in self._sharing(t):
                    self.shifts[x] = self._rewritten(op, t, x, old, new)

    def _sharing(self, t: Tensor) -> list[Tensor]:
        place = t.untyped_storage()._cdata
        return [
            x
            for x in list(self.shifts.keys())
            if x is not t and x.untyped_storage()._cdata == place
        ]

    def _rewritten(self, op, t: Tensor, x: Tensor, old: Shifts, new: Shifts) -> Shifts:
        """The shifts of x, which shares the memory of t, after t was written to."""
        whole = x.numel() == t.numel() and all(
            y.is_contiguous() and y.storage_offset() == t.storage_offset()
            for y in (x, t)
        )
        found = Shifts()
        for p, s in self.shift(x).items():
            a, b = old.get(p), new.get(p)
            kept = a is not None and b is not None
            alike = kept and (a.kind, a.scale) == (b.kind, b.scale)
            same_before = kept and (a.kind, a.scale) == (s.kind, s.scale)
            if not (alike or (whole and same_before)):
                p.spoiled = p.spoiled or op.name
                continue
            if not alike:
                s = replace(s, kind=b.kind, scale=b.scale)
            found[p] = replace(s, holes=s.holes or b.holes)
        return found

    def set(self, results: list[Tensor], origin: Origin) -> None:
        """Record that several results are computed from the same products and lookups.

        origin: these, as an `Origin`.
        """
        for t in results:
            if t.is_floating_point():
                self.origins[t] = origin

    def lose(self, op: Operation) -> None:
        """Record an operation that is not recognised.

        The roles of weights among its arguments become "unknown", and products in its
        inputs lose their shift symmetry.
        """
        given = op.tensors()
        for t in given:
            if t in self.weights:
                self.seen.unknown[self.weights[t].name] = op.name
        shifts.spoil(shifts.of_all(given, self.shift), op.name)
        self.set(op.results, self.union([(t, None) for t in given]).at_least(BENT))

    def rest(self, t: Tensor, name: str) -> None:
        """Record which rows of a weight have other uses than attention and gated units.

        t: the value that is used, if it holds some of a product's features.
        name: '' for a linear use, else the name of the operation.
        """
        p = self.origin(t).product()
        if p is None:
            return
        trace = self.origin(t)[p]
        if trace.labels and trace.bend <= SCALED:
            rows = rows_of(trace.labels)
            if 0 < len(rows) < p.features:
                self.seen.rest.append((p, rows, name))

    def made(self, op: Operation, product: Product, at: int) -> None:
        """Record that the result of an operation is this product with a weight.

        at: the dimension of the result that holds the product's features.
        """
        self.seen.products.append(product)
        out = op.results[0]
        at = at % out.ndim
        shape = [1] * out.ndim
        shape[at] = product.features
        labels = product.rows.reshape(shape).expand(out.shape)
        self.origins[out] = Origin({product: Trace(LINEAR, (labels,))})
        shift = shifts.first(product, out, at)
        if shift is not None:
            self.shifts[out] = Shifts({product: shift})

    def consumed(self, op: Operation, *values: Tensor, by: object = None) -> None:
        """Record that an operation uses these values and does not pass them on.

        by: the product with a weight that takes them; None for a convolution, attention
            or gate, which are recorded by name.
        """
        for x in values:
            shifts.spoil(self.shift(x), op.name)
            self.rest(x, "")
            for node in self.origin(x).nodes((Product, Lookup)):
                node.consumers.add(op.name if by is None else by)

    def source(self, x: Tensor) -> object:
        """Return an object that is the same for a value and all its reshapes and
        copies.
        """
        return self.sources.setdefault(x, object())

    def bias_table(self, t) -> None:
        """Record, if t was looked up in a table, that the table is added to attention
        scores.
        """
        table = self.origin(t).only(Lookup)
        if table is not None:
            table.scores = True


def feature_dims(t: Tensor, trace: Trace) -> set[int]:
    """Return the dimensions of t along which the features of one product vary.

    trace: how t was computed from that product; without labels the result is the last
        dimension.
    """
    found = {d for x in trace.labels or () for d in varying(x)}
    return found or {t.ndim - 1}


def lengths(t: Tensor) -> list[int]:
    """Return the shape of t, with 1 for each dimension of stride 0 (an expanded
    number).
    """
    return [1 if s == 0 else n for n, s in zip(t.shape, t.stride(), strict=True)]


def entries(t: Tensor) -> int:
    """Return the number of entries of t, with dimensions of stride 0 counted as 1."""
    return torch.Size(lengths(t)).numel()


def _nowhere(labels: Tensor) -> bool:
    return labels.numel() > 0 and bool((collapsed(labels) < 0).all())


def _placed(labels: tuple[Tensor, ...], place) -> tuple[Tensor, ...] | None:
    found = tuple(place(x) for x in labels)
    return None if any(x is None for x in found) else found


def _merged(old: Trace | None, new: Trace, labels: list | None) -> Trace:
    """Both traces of one node in one value."""
    layouts = None if labels is None else tuple(labels)
    if old is None:
        return new._replace(labels=layouts)
    if layouts is not None:
        if old.labels is None:
            layouts = None
        else:
            known = list(old.labels)
            known += [x for x in layouts if not any(same(x, y) for y in known)]
            layouts = tuple(known) if len(known) <= MAX_LAYOUTS else None
    return Trace(max(old.bend, new.bend), layouts, old.direct or new.direct)
