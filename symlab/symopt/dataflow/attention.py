"""Recognise attention and gated units, which multiply two computed values."""

import torch
from torch import Tensor

from symlab.symopt.dataflow.traces import (
    LINEAR,
    SCALED,
    Attention,
    Gated,
    Origin,
    Product,
    Trace,
    collapsed,
    rows_of,
    varying,
)
from symlab.symopt.dataflow.values import Known


def attention(known: Known, op) -> bool:
    """Record a fused attention operation with its queries, keys and values.

    known: the record of the pass (`Known`). op: the operator call.

    Returns True: the call has been recognised.
    """
    q, k, v = op.args[:3]
    known.consumed(op, q, k, v)
    origins = map(known.origin, (q, k, v))
    for t in op.tensors():  # a mask
        if not any(t is x for x in (q, k, v)):
            known.bias_table(t)
    attend(known, op, *origins, q.shape[-1], v.shape[-1])
    return True


def attend(known: Known, op, query, key, value, query_width, value_width) -> None:
    """Record an attention, whose result then consists of the features of its values.

    known: the record of the pass (`Known`). op: the operator call.
    query, key, value: the `Origin`s of its inputs.
    query_width, value_width: the number of features of a head.
    """
    node = Attention(query, key, value, query_width, value_width)
    known.seen.attentions.append(node)
    out = op.results[0]
    labels = _of_heads(node, out)
    trace = Trace(LINEAR, None if labels is None else (labels,))
    known.origins[out] = Origin({node: trace})


def glu(known: Known, op) -> bool:
    """Record torch's glu of one product as a gated unit; return whether it is one.

    known: the record of the pass (`Known`). op: the operator call.
    """
    x = op.args[0]
    product = known.origin(x).product()
    if product is None or not known.origin(x)[product].labels:
        return False
    first, second = (
        rows_of(tuple(y.chunk(2, op.argument("dim", -1))[i] for y in
                      known.origin(x)[product].labels))
        for i in (0, 1)
    )  # fmt: skip
    known.consumed(op, x)
    return gated(known, op, product, product, second, first)


def gate(known: Known, a: Tensor, b: Tensor, op) -> bool:
    """Record a * b as a gated unit, if it is one, and return whether it is.

    It is one if a and b are features of products of one input with weights, equally
    many of each.

    op: the multiplication. known: the record of the pass (`Known`).
    """
    first, second = known.origin(a), known.origin(b)
    one, two = first.product(), second.product()
    if one is None or two is None or one.source is not two.source:
        return False
    traces = first[one], second[two]
    if a.shape != b.shape or not all(t.labels for t in traces):
        return False
    if [varying(x) for x in traces[0].labels] != [varying(x) for x in traces[1].labels]:
        return False
    rows = rows_of(traces[0].labels), rows_of(traces[1].labels)
    if len(rows[0]) != len(rows[1]) or len(rows[0]) < 2:
        return False
    if one is two and set(rows[0]) & set(rows[1]):
        return False
    if traces[0].bend < traces[1].bend:
        one, two, rows = two, one, rows[::-1]
    known.consumed(op, a, b)
    return gated(known, op, one, two, *rows)


def gated(known: Known, op, gate: Product, up: Product, gate_rows, up_rows) -> bool:
    """Record that an operation multiplies the features of two products as a gated unit
    does.

    known: the record of the pass (`Known`). op: the operator call.
    gate, up: the products with weights. gate_rows, up_rows: the rows of these weights
        that are used.

    Returns True: the operation has been recognised.
    """
    node = Gated(gate, up, gate_rows, up_rows)
    known.seen.gated.append(node)
    known.origins[op.results[0]] = Origin({node: Trace()})
    return True


def whole(origin: Origin, node) -> bool:
    """Return whether every entry of a tensor comes from a feature of one given product.

    origin: the products from which the tensor is computed, with labels of their
        features.
    node: the product in question.
    """
    if not isinstance(node, Product) or not origin[node].labels:
        return False
    places = _places(origin[node])
    return places.numel() > 0 and bool(collapsed(places).all())


def shared(origin: Origin, node) -> bool:
    """Return whether a tensor holds more than the features of one given product.

    It does if other products fill the entries that this one does not fill, or multiply
    it.

    origin: the products from which the tensor is computed. node: the product in
        question.
    """
    others = [trace for n, trace in origin.items() if n is not node]
    if others and origin[node].bend > SCALED:
        return True
    if whole(origin, node):
        return False
    if not origin[node].labels or any(not trace.labels for trace in others):
        return bool(others)
    left = ~_places(origin[node])
    return any(bool((collapsed(_places(t) & left)).any()) for t in others)


def _places(trace: Trace) -> Tensor:
    """Where a feature of the node is, in any layout."""
    filled = trace.labels[0] >= 0
    for x in trace.labels[1:]:
        filled = filled | (x >= 0)
    return filled


def _of_heads(node: Attention, out: Tensor) -> Tensor | None:
    """Labels of an attention's output, in which a head of queries has one place."""
    width, labels = node.value_width, None
    p = next((n for n in node.query if whole(node.query, n)), None)
    if out.shape[-1] != width:
        return None
    if p is not None:
        layouts = [_small(x).where(_small(x) >= 0, 2**30) for x in node.query[p].labels]
        lowest = torch.stack([x.amin(-1) for x in layouts]).amin(0)
        labels = lowest.unique(return_inverse=True)[1].unsqueeze(-1)
    if labels is None and out.ndim == 4:
        labels = torch.arange(out.shape[1]).reshape(-1, 1, 1)
    if labels is None:
        return None
    try:
        return (labels * width + torch.arange(width)).expand(out.shape)
    except RuntimeError:
        return None


def _small(labels: Tensor) -> Tensor:
    """With one token: the features of a head stay in the last dimension."""
    small = collapsed(labels)
    return small.expand(*small.shape[:-1], labels.shape[-1])
