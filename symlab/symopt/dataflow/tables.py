"""Recognise table lookups by ids, parts of weights, biases and gains."""

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
    """Record that the results of an operation are views or copies of the weight t.

    known: the record of the pass (`Known`). op: the operator call.
    """
    if op.name in COPIES:
        copied(known, t, op.results)
        return
    for o in op.results:
        known.weights[o] = known.weights[t]


def copied(known: Known, t: Tensor, results, axes=None) -> None:
    """Record that each result is a copy of the weight t, with its own strides.

    known: the record of the pass (`Known`). results: the copies.
    axes: for each dimension of a copy, the axes of the parameter in it; by default as
        in t.
    """
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
    """Record that the role of a matrix w is "unknown", as a function of its entries is
    used.

    The matrix then has no symmetry group. Vectors, such as logarithms of gains, have no
    group to lose and are not recorded.

    known: the record of the pass (`Known`). function: the name of the function.
    """
    name = known.weights[w].name
    if known.axes[name] > 1:
        known.seen.unknown[name] = f"used through {function} of its entries"


def masked(known: Known, op: Operation, w: Tensor) -> bool:
    """Return whether an operation multiplies a matrix w by numbers that are no
    parameter.

    The effect on the matrix is recorded: one number leaves it a weight of the same
    kind. As many numbers as it has entries, such as a mask of connections, break its
    symmetries, and its role becomes "unknown".

    known: the record of the pass (`Known`). op: the operator call.
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
    """Record a weight w as a bias, as a gain or as "unknown", by an operation that uses
    it.

    The operation is not a matrix product.

    known: the record of the pass (`Known`).
    name, args: the name and the arguments of the operation.
    """
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
    """Record a lookup in a table; return whether the table is a matrix parameter.

    known: the record of the pass (`Known`). op: the operator call.
    """
    w, ids = op.args[:2]
    return look_up(known, w, ids, 0, op.results[0])


def embedding_bag(known: Known, op) -> bool:
    """Record a table lookup with a sum over each bag of ids.

    Return whether the table is a matrix parameter.

    known: the record of the pass (`Known`). op: the operator call.
    """
    w, ids = op.args[:2]
    if not look_up(known, w, ids, 0, op.results[0]):
        return False
    out = op.results[0]
    known.origins[out] = Origin(
        {n: t._replace(direct=False) for n, t in known.origin(out).items()}
    )
    return True


def index_select(known: Known, op) -> bool:
    """Record torch's index_select of a weight by ids; return whether it was recognised.

    known: the record of the pass (`Known`). op: the operator call.
    """
    w, dim, ids = op.args[:3]
    if w not in known.weights:
        return False
    return picked_rows(known, w, ids, dim % w.ndim, op)


def index(known: Known, op) -> bool:
    """Record the indexing of a weight by tensors of ids; return whether it was
    recognised.

    known: the record of the pass (`Known`). op: the operator call.
    """
    w, ids = op.args[:2]
    places = [d for d, i in enumerate(ids) if i is not None]
    if w not in known.weights or len(places) != 1:
        return False
    return picked_rows(known, w, ids[places[0]], places[0], op)


def picked_rows(known: Known, w: Tensor, ids: Tensor, dim: int, op: Operation) -> bool:
    """Record that an operation picks rows of the weight w by ids.

    Return True if it was recognised, else False. For a matrix w and ids that the model
    was given it is a lookup in a table; otherwise, as for ids that a router chose, its
    results count as parts of the weight.

    known: the record of the pass (`Known`). ids: the tensor of ids.
    dim: the dimension of w from which they pick. op: the operator call.
    """
    picked = ids in known.choices or bool(known.origin(ids))
    if w.ndim == 2 and not picked:
        return look_up(known, w, ids, dim, op.results[0])
    axes = known.weights[w].axes(w)
    many = [axes[dim]] * ids.ndim
    copied(known, w, op.results, axes[:dim] + many + axes[dim + 1 :])
    return True


def look_up(known: Known, w: Tensor, ids: Tensor, dim: int, out: Tensor) -> bool:
    """Record a lookup in the table w; return whether w is a matrix parameter.

    known: the record of the pass (`Known`). ids: the tensor of ids.
    dim: the dimension of w from which they pick. out: the result of the lookup.
    """
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
