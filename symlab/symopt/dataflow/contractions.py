"""Recognise products with weights: which axes of the parameter are summed over."""

import torch
from torch import Tensor

from symlab.symopt.dataflow.attention import attend
from symlab.symopt.dataflow.tables import look_up
from symlab.symopt.dataflow.traces import (
    Origin,
    Product,
    Scores,
    Trace,
)
from symlab.symopt.dataflow.values import Known, feature_dims


def contract(
    known: Known, op, x: Tensor, w: Tensor, summed: int, free: int, at=-1
) -> bool:
    """Record the product of the value x with the weight w; return whether it was
    recognised.

    known: the record of the pass (`Known`). op: the operator call.
    summed: the dimension of w over which the sum runs. free: the dimension of w that
        remains as the features of the result.
    at: the dimension of the result that holds the features.
    """
    if at == -1 and x in known.one_hot and w.ndim == 2:
        return look_up(known, w, known.one_hot[x], summed, op.results[0])
    weight = known.weights[w]
    axes = weight.axes(w)
    free_axes, summed_axes = axes[free], axes[summed]
    total = len(weight.strides)
    left = [a for a in range(total) if a not in (*free_axes, *summed_axes)]
    # an axis of length 1 has no stride; of (heads, width) the width is the matrix's
    summed_axis = max(summed_axes) if summed_axes else left.pop()
    free_axis = max(free_axes) if free_axes else left.pop()
    inside = len(free_axes) + len(summed_axes)
    if set(free_axes) & set(summed_axes) or max(inside, 2) > total:
        known.seen.unknown[weight.name] = "several axes at once"
        known.consumed(op, x)
        return True
    rows = torch.arange(w.shape[free], device="cpu")
    if len(free_axes) == 1:
        rows = weight.indices(w, free, free_axis)
    elif free_axes:
        rows = weight.stacked(w.shape[free], free_axes)
    inputs = known.origin(x)
    for n, trace in inputs.items():
        if x.ndim > 1 and at % x.ndim not in feature_dims(x, trace):  # sums tokens
            inputs = Origin({**inputs, n: trace._replace(direct=False)})
    axes, given = (free_axis, summed_axis), (inputs, known.source(x))
    product = Product(weight.name, *axes, *given, rows, w.shape[summed])
    known.consumed(op, x, by=product)
    known.made(op, product, at)
    return True


def mm(known: Known, op, given=None) -> bool:
    """Record a matrix product with a weight; return whether it was recognised.

    known: the record of the pass (`Known`). op: the operator call.
    given: the two factors, by default the first two arguments of `op`.
    """
    a, b = given or op.args[:2]
    ours = a in known.weights, b in known.weights
    if all(ours):
        for w in (a, b):
            known.seen.unknown[known.weights[w].name] = "a product of parameters"
        return True
    if ours[1]:
        return contract(known, op, a, b, b.ndim - 2, b.ndim - 1)
    if ours[0]:
        return contract(known, op, b, a, a.ndim - 1, a.ndim - 2, at=-2)
    return False


def bmm(known: Known, op, given=None) -> bool:
    """Record a batched matrix product; return whether it was recognised.

    It can be the product of a value with a weight, of queries with keys, or of
    attention scores with values.

    known: the record of the pass (`Known`). op: the operator call.
    given: the two factors, by default the first two arguments of `op`.
    """
    a, b = given or op.args[:2]
    if mm(known, op, (a, b)):
        return True
    one, two = known.origin(a), known.origin(b)
    scores = [n for n, t in one.items() if isinstance(n, Scores) and t.bend]
    if len(scores) == 1:
        s = scores[0]
        known.consumed(op, b)
        attend(known, op, s.query, s.key, two, s.width, b.shape[-1])
        return True
    if one and two:
        known.consumed(op, a, b)
        key = two.relabelled(lambda x: x.mT)
        node = Scores(one, key, a.shape[-1])
        known.origins[op.results[0]] = Origin({node: Trace()})
        return True
    return False


def addmm(known: Known, op, given=None) -> bool:
    """Record a matrix product to which something is added; return whether it was
    recognised.

    known: the record of the pass (`Known`). op: the operation, whose first three
    arguments are the added tensor and the two factors.
    """
    if op.args[0] in known.weights:
        known.seen.added.add(known.weights[op.args[0]].name)
    done = bmm(known, op, op.args[1:3])
    for node in known.origin(op.results[0]).nodes(Product) if done else ():
        node.plain = False
    if done and known.origin(op.results[0]).nodes(Scores):
        known.bias_table(op.args[0])
    return done


def mv(known: Known, op) -> bool:
    """Record a product of a weight and a vector; return whether it was recognised.

    known: the record of the pass (`Known`). op: the operator call.
    """
    w, x = op.args[:2]
    if w not in known.weights:
        return False
    return contract(known, op, x, w, w.ndim - 1, w.ndim - 2)


def linear(known: Known, op) -> bool:
    """Record a linear layer; return whether it was recognised.

    known: the record of the pass (`Known`). op: the operator call.
    """
    args = op.args
    if len(args) > 2 and isinstance(args[2], Tensor) and args[2] in known.weights:
        known.seen.added.add(known.weights[args[2]].name)
    if args[1] not in known.weights:
        return False
    done = contract(known, op, args[0], args[1], 1, 0)
    for node in known.origin(op.results[0]).nodes(Product):
        node.plain = node.plain and (len(args) < 3 or args[2] is None)
    return done


def convolution(known: Known, op) -> bool:
    """Record a convolution; return whether its kernel is a parameter.

    known: the record of the pass (`Known`). op: the operator call.
    """
    x, w, bias = op.args[:3]
    if w not in known.weights:
        return False
    known.consumed(op, x)
    if isinstance(bias, Tensor) and bias in known.weights:
        known.seen.added.add(known.weights[bias].name)
    name = known.weights[w].name
    transposed, groups = op.args[6], op.args[8]
    known.seen.convolutions[name] = (transposed, groups)
    out = op.results[0]
    at = 1 if out.ndim == w.ndim else 0
    rows = torch.arange(out.shape[at], device="cpu")
    axes = (1, 0) if transposed else (0, 1)
    width = w.numel() // w.shape[axes[0]]
    given = known.origin(x), known.source(x)
    known.made(op, Product(name, *axes, *given, rows, width), at)
    return True
