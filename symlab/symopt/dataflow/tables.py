"""Lookups of rows by ids, and parts of weights that are picked."""

import torch
from torch import Tensor

from symlab.symopt.dataflow.passing import NORMS
from symlab.symopt.dataflow.traces import (
    COPIES,
    LINEAR,
    Lookup,
    Operation,
    Origin,
    Trace,
)
from symlab.symopt.dataflow.values import Known
from symlab.symopt.dataflow.weights import Weight


def same_weight(known: Known, op, t) -> None:
    """Record that the results are views or copies of the weight t."""
    if op.name in COPIES:
        copied(known, t, op.results)
        return
    for o in op.results:
        known.weights[o] = known.weights[t]


def copied(known: Known, t: Tensor, results, axes=None) -> None:
    """Record that the results have the dimensions of t, with strides of their own."""
    weight = known.weights[t]
    given = weight.axes(t) if axes is None else axes
    starts = {}
    for d, on in enumerate(weight.axes(t)):
        if len(on) == 1 and t.shape[d]:
            starts[on[0]] = int(weight.indices(t, d, on[0])[0])
    for o in results:
        if o is not t:
            layout = [(o.stride(d), o.shape[d], given[d]) for d in range(o.ndim)]
            known.weights[o] = Weight(weight.name, layout, starts)


def bent(known: Known, w: Tensor, function: str) -> None:
    """Record that a matrix is used through a function of its entries: no group fits.

    The result keeps the place of the weight, so that the rest of the model is still
    understood. Vectors, as the logarithms of gains, have no group to lose.
    """
    name = known.weights[w].name
    if known.axes[name] > 1:
        known.seen.unknown[name] = f"used through {function} of its entries"


def masked(known: Known, op: Operation, w: Tensor) -> bool:
    """Whether a matrix is multiplied by numbers that come from no parameter.

    One number leaves the weight what it is. As many numbers as it has entries, such as
    a mask of connections, break its symmetries.
    """
    name, others = known.weights[w].name, [t for t in op.tensors() if t is not w]
    if len(others) != 1 or known.origin(others[0]) or known.axes[name] < 2:
        return False
    inverse = op.name == "div" and op.args[0] is not w
    if others[0].numel() == 1 and not inverse:
        copied(known, w, op.results)
        return True
    if op.results[0].shape != w.shape or w.ndim < 2:
        return False
    note = "multiplied by numbers of its own shape, such as a mask, before use"
    copied(known, w, op.results)
    known.seen.unknown[name] = note
    return True


def used(known: Known, w: Tensor, name: str, args) -> None:
    """Record a use that is no contraction: as bias, as gain, or not understood."""
    own = known.weights[w].name
    place = next((i for i, a in enumerate(args) if a is w), None)
    if name in ("add", "sub", "rsub", "addmm", "baddbmm", "cat", "convolution"):
        known.seen.added.add(own)
    elif name in NORMS:
        is_bias = place == NORMS[name]
        (known.seen.added if is_bias else known.seen.multiplied).add(own)
    elif name in ("mul", "div"):
        known.seen.multiplied.add(own)
    else:
        known.seen.unknown[own] = name


def embedding(known: Known, op) -> bool:
    w, ids = op.args[:2]
    return look_up(known, w, ids, 0, op.results[0])


def embedding_bag(known: Known, op) -> bool:
    """Record a lookup with a sum over the ids of each bag."""
    w, ids = op.args[:2]
    if not look_up(known, w, ids, 0, op.results[0]):
        return False
    out = op.results[0]
    known.origins[out] = Origin(
        {n: t._replace(direct=False) for n, t in known.origin(out).items()}
    )
    return True


def index_select(known: Known, op) -> bool:
    w, dim, ids = op.args[:3]
    if w not in known.weights:
        return False
    return picked_rows(known, w, ids, dim % w.ndim, op)


def index(known: Known, op) -> bool:
    w, ids = op.args[:2]
    places = [d for d, i in enumerate(ids) if i is not None]
    if w not in known.weights or len(places) != 1:
        return False
    return picked_rows(known, w, ids[places[0]], places[0], op)


def picked_rows(known: Known, w: Tensor, ids: Tensor, dim: int, op: Operation) -> bool:
    """Record rows picked by given ids as a lookup; those that a router picks stay."""
    picked = ids in known.choices or bool(known.origin(ids))
    if w.ndim == 2 and not picked:
        return look_up(known, w, ids, dim, op.results[0])
    axes = known.weights[w].axes(w)
    many = [axes[dim]] * ids.ndim
    copied(known, w, op.results, axes[:dim] + many + axes[dim + 1 :])
    return True


def look_up(known: Known, w: Tensor, ids: Tensor, dim: int, out: Tensor) -> bool:
    """Note that entries along dimension `dim` of the weight w were picked by ids."""
    if w not in known.weights or w.ndim != 2:
        return False
    weight = known.weights[w]
    axes = weight.axes(w)
    rows = axes[dim][-1] if axes[dim] else dim
    columns = axes[1 - dim][-1] if axes[1 - dim] else 1 - rows
    if rows == columns:
        known.seen.unknown[weight.name] = "a lookup in a reshaped table"
        return True
    sizes = w.shape[dim], w.shape[1 - dim]
    given = known.source(ids), known.ids.get(ids)
    lookup = Lookup(weight.name, rows, columns, *sizes, *given)
    known.seen.lookups.append(lookup)
    labels = torch.arange(w.shape[1 - dim], device="cpu")
    shape = out.shape if out.shape[-1] == len(labels) else None
    labels = None if shape is None else (labels.expand(shape),)
    known.origins[out] = Origin({lookup: Trace(LINEAR, labels)})
    return True
