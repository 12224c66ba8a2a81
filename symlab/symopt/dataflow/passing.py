"""Pass the record of a value's origin on through an operation.

The record lists the products with weights from which a value is computed. Linear
operations keep it, and others note how far from linear they are: a factor per token, an
activation, anything else. Sums over tokens are noted, too.
"""

import torch
from torch import Tensor

from symlab.symopt.dataflow import shifts
from symlab.symopt.dataflow.adapters import note_use, without_adapter
from symlab.symopt.dataflow.traces import (
    ACTIVATED,
    BENT,
    COPIES,
    JOINS,
    LINEAR,
    MIXING,
    ORDERED,
    PICKS,
    REDUCTIONS,
    SCALED,
    VIEWS,
    WRITES,
    Operation,
    Product,
    Scores,
    Trace,
    varying,
)
from symlab.symopt.dataflow.values import Known, entries, feature_dims, lengths
from symlab.tracing import words

STRAIGHT = words(  # the value stays a linear function of the product
    "add sub rsub mul div neg sum mean constant_pad_nd masked_fill where "
    "native_dropout dropout"
)
ACTIVATIONS = words(
    "silu gelu relu sigmoid tanh softplus leaky_relu elu celu selu hardswish mish "
    "hardsigmoid hardtanh prelu erf relu6 log_sigmoid_forward softsign"
)
NORMS = {  # and which argument is the bias
    "native_layer_norm": 3,
    "fused_rms_norm": None,
    "native_batch_norm": 2,
    "native_group_norm": 2,
}
TARGETS = words("nll_loss_forward nll_loss2d_forward gather take_along_dim index")
SUMMING = words("index_add scatter_add scatter_reduce index_reduce convolution")


def pass_on(known: Known, op: Operation, values: list[Tensor]) -> None:
    """Record the products with weights from which the results of an operation are
    computed.

    known: the record of the pass (`Known`). op: the operator call.
    values: those of its inputs that are values, not weights.
    """
    found = shifts.after(op, known.shift)
    name = op.name
    values = [t for t in values if known.origin(t)]
    if not values:
        for shift in found:
            shifts.spoil(shift, name)
        return
    _note_scores(known, op, values)
    bend = _bend(name)
    if name in TARGETS:
        for p in known.origin(op.args[0]).nodes(Product):
            p.compared = True
    own = any(t in known.weights for t in op.tensors())
    note_use(op, [known.origin(t) for t in values], own, bend)
    values = without_adapter(op, values, known)
    if name in ("mul", "div", "add", "sub") and len(values) == 2:
        values, bend = _factors(known, *values, name)
    if bend >= BENT:
        for t in values:
            known.rest(t, "" if name in NORMS else name)
    origins = known.moved(op, values)
    for result, origin, shift in zip(op.results, origins, found, strict=True):
        if not (result.is_floating_point() or result.is_complex()):
            shifts.spoil(shift, name)  # a number that was rounded
            continue
        origin = origin.at_least(bend)
        for n in origin:
            if origin[n].direct and all(
                n not in known.origin(t) or _pools(op, t, known.origin(t)[n])
                for t in values
            ):
                origin[n] = origin[n]._replace(direct=False)
        known.origins[result] = origin
        known.shifts[result] = shift
        known.wrote(op, result, origin)


def _note_scores(known: Known, op: Operation, values: list[Tensor]) -> None:
    """Tables whose numbers are added to attention scores."""
    if op.name not in ("add", "baddbmm"):
        return
    if any(known.origin(t).nodes(Scores) for t in values):
        for t in values:
            known.bias_table(t)


def _factors(known: Known, a: Tensor, b: Tensor, name) -> tuple[list[Tensor], int]:
    """Return which of two values, multiplied entry by entry, give the product features.

    A number per token times features is these features, scaled. A mean of some
    features, as in a norm, adds no places of its own.
    """
    for x, y in ((a, b), (b, a)):
        inside = set(known.origin(y)) <= set(known.origin(x))
        if inside and entries(y) < x.numel():
            bends = [t.bend for t in known.origin(y).values()]
            one = name in ("mul", "div")
            return [x], max(bends) if not one else max(SCALED, _norm(known, x, y))
    if name in ("add", "sub"):
        return [a, b], LINEAR
    if name == "mul" and _per_token(known, b, a):
        return [a], SCALED
    if name == "mul" and _per_token(known, a, b):
        return [b], SCALED
    if name == "div" and _per_token(known, b, a):
        return [a], SCALED
    one = known.origin(a).product()
    alike = one is not None and one is known.origin(b).product()
    return [a, b], ACTIVATED if alike else BENT


def _norm(known: Known, x: Tensor, y: Tensor) -> int:
    """The bend of x times a function y of it, one number per token or head."""
    return SCALED if _per_token(known, y, x) else BENT


def _per_token(known: Known, factor: Tensor, t: Tensor) -> bool:
    """Whether the factor is the same for all features of t."""
    if factor.ndim == 0:
        return True
    for trace in known.origin(t).values():
        for labels in trace.labels or ():
            for d in varying(labels):
                back = t.ndim - d
                if factor.ndim >= back and lengths(factor)[-back] > 1:
                    return False
        if trace.labels:
            return True
    return lengths(factor)[-1] == 1 < t.shape[-1]


def _bend(name: str) -> int:
    """What the operation does to its values, whatever they are."""
    if name in ACTIVATIONS:
        return ACTIVATED
    straight = VIEWS | COPIES | STRAIGHT | PICKS | JOINS | WRITES | ORDERED
    return LINEAR if name in straight else BENT


def picked_dims(op: Operation, t: Tensor) -> set[int]:
    """Return the dimensions of t from which the operation `op` picks entries."""
    if op.name == "index" and op.args[0] is t:
        return {d for d, i in enumerate(op.args[1]) if i is not None}
    dim = op.argument("dim")
    return set(range(t.ndim)) if dim is None else {dim % t.ndim}


def _is_slice(op: Operation) -> bool:
    """Whether one place that is not the first is picked, as in `x[:, [-1]]`.

    The first token is one for all; the last of a language model is one of many. With
    several samples it is a constant, and not where the text of one of them ends.
    """
    picked = [(d, i) for d, i in enumerate(op.args[1]) if i is not None]
    if len(picked) != 1:
        return False
    (d, i), n = picked[0], op.args[0].shape
    if i.is_floating_point() or i.dtype == torch.bool or i.numel() != 1 or i.is_meta:
        return False
    return d > 0 and n[0] > 1 and n[d] > 1 and int(i) % n[d] != 0


def _pools(op: Operation, t: Tensor, trace: Trace) -> bool:
    """Whether one value for all tokens may be left.

    A sum leaves one, the first of the tokens is one, and so are tokens that indices
    pick, as those of the last token that is no padding.
    """
    name, features = op.name, feature_dims(t, trace)
    if name in REDUCTIONS | {"topk", "sort"}:
        along = {"topk": -1, "sort": -1}.get(name)
        dims = op.dims(t.ndim) if along is None else [op.argument("dim", -1) % t.ndim]
        return not set(dims) <= features
    if name in ("select", "slice"):
        dim = op.argument("dim", 0) % t.ndim
        only = op.args[2] == 0 if name == "select" else op.results[0].shape[dim] == 1
        starts = op.args[2] if len(op.args) > 2 else 0
        return dim not in features and t.shape[dim] > 1 and only and starts == 0
    if name == "index" and _is_slice(op):
        return False
    if name in ("index", "index_select", "gather", "take_along_dim", "masked_select"):
        return not picked_dims(op, t) <= features
    return name in MIXING or name in SUMMING or "pool" in name
