"""Follow token ids, dropout masks, one-hot rows, and which features a top-k chose."""

from torch import Tensor

from symlab.symopt.dataflow.traces import (
    COPIES,
    JOINS,
    SCALED,
    VIEWS,
    Operation,
    Product,
    varying,
)
from symlab.symopt.dataflow.values import Known
from symlab.tracing import words

COMPARISONS = words("eq ne lt le gt ge")
CHOOSING = words("topk sort argmax argmin argsort max min multinomial")
OF_IDS = words("roll constant_pad_nd masked_fill where index_select index flip fill")
ASKING = words(  # of a weight's shape, dtype or device alone
    "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones "
    "new_empty new_full new_empty_strided"
)


def follow_ids(known: Known, op: Operation) -> None:
    """Mark the results of an operation as token ids if it copies, slices or shifts ids.

    The ids are integers that the model was given as input.

    known: the record of the pass (`Known`). op: the operator call.
    """
    if op.name not in VIEWS | COPIES | JOINS | OF_IDS | {"copy"}:
        return
    names = {known.ids[t] for t in op.tensors() if t in known.ids}
    if len(names) != 1:
        return
    if op.name in ("index", "index_select") and op.args[0] not in known.ids:
        return
    for r in op.results:
        if not r.is_floating_point():
            known.ids[r] = next(iter(names))
            if r._base is not None and r is op.args[0]:
                known.ids[r._base] = known.ids[r]


def follow_dropout(known: Known, op: Operation) -> None:
    """Record that the result of a dropout counts as the same value as its input.

    known: the record of the pass (`Known`). op: the operator call.
    """
    if op.name == "bernoulli":
        known.noise.update({r: True for r in op.results})
    kept = [t for t in op.tensors() if t not in known.noise]
    dropped = op.name == "mul" and len(kept) == 1 == len(op.tensors()) - 1
    if op.name == "native_dropout" or dropped:
        known.sources[op.results[0]] = known.source(kept[0])


def follow_one_hot(known: Known, op: Operation) -> None:
    """Mark the results of an operation as one-hot rows of ids, if they are.

    The product of such rows with a table is then recorded as a lookup in that table.

    known: the record of the pass (`Known`). op: the operator call.
    """
    args, ids = op.args, None
    if op.name == "scatter" and isinstance(op.argument("value"), int | float):
        ids = args[2] if op.argument("value") == 1 else None
    elif op.name == "eq" and all(isinstance(a, Tensor) for a in args[:2]):
        for one, other in (args, args[::-1]):
            column = one.ndim > 1 and one.shape[-1] == 1 < other.shape[-1]
            ids = one if column and other.ndim == 1 else ids
    elif op.name in COPIES | VIEWS and args[0] in known.one_hot:
        ids = known.one_hot[args[0]]
    if ids is None or ids.is_floating_point() or ids in known.choices:
        return
    for r in op.results:
        same = op.name not in VIEWS or r.shape[-1] == args[0].shape[-1]
        if same and not known.origin(args[0]):
            known.one_hot[r] = ids


def follow_choices(known: Known, op: Operation) -> None:
    """Mark the results of an operation that depend on what a top-k (or argmax) chose.

    If such a choice decides what else is computed, the product whose largest features
    were chosen is marked as `chosen`, which makes its weight a router.

    known: the record of the pass (`Known`). op: the operator call.
    """
    given = op.tensors()
    made = _choice(known, op)
    chosen = {p for t in given if t in known.choices for p in known.choices[t]}
    if chosen and _acts(known, op, given, chosen):
        for p in chosen:
            p.chosen = True
        chosen = set()
    if made is not None:
        chosen = chosen | {made}
    if not chosen or op.name in ASKING:
        return
    for r in op.results:
        floats = r.is_floating_point()
        if made is None or not floats:
            known.choices[r] = chosen
            if r._base is not None and r is (op.args[0] if op.args else None):
                known.choices[r._base] = chosen


def _choice(known: Known, op: Operation) -> Product | None:
    """The product whose largest features this operation looks for."""
    floats = [t for t in op.tensors() if t.is_floating_point()]
    if not floats or op.name not in CHOOSING | COMPARISONS:
        return None
    made_of = {_scored(known, t) for t in floats}
    p = made_of.pop()
    if made_of or p is None:
        return None
    if op.name in COMPARISONS:
        return p if len(floats) == 2 else None
    labels = known.origin(floats[0])[p].labels
    dim = op.argument("dim", -1)
    if op.name == "multinomial":
        dim = -1
    if dim is None or isinstance(dim, Tensor):
        return None
    dim = dim % floats[0].ndim if floats[0].ndim else 0
    along = labels is None or any(dim in varying(x) for x in labels)
    if not along and op.name == "topk" and p.softmax and p.features > 1:
        # each expert takes tokens: a shift is left out, though a softmax may hide it
        p.spoiled = p.spoiled or "topk over tokens"
        return p
    return p if along else None


def _scored(known: Known, t: Tensor) -> Product | None:
    """The product that these scores are; noise may be the product of another."""
    origin = known.origin(t)
    straight = [n for n, trace in origin.items() if trace.bend <= SCALED]
    noisy = len(straight) == 1 and origin.nodes() == origin.nodes(Product)
    p = straight[0] if noisy else origin.product()
    return p if isinstance(p, Product) else None


def _dispatches(known: Known, op: Operation, given: list[Tensor], t: Tensor) -> bool:
    """Whether each number of a choice meets all features of the input t."""
    masks = [x for x in given if x in known.choices]
    larger = all(op.results[0].numel() > x.numel() for x in masks)
    return op.name == "mul" and t.ndim > 1 and larger


def _acts(known: Known, op: Operation, given: list[Tensor], chosen: set) -> bool:
    """Whether a choice acts on values of other origin here, or picks weights."""
    name = op.name
    if name == "embedding" or name in ("mm", "addmm", "linear"):
        others = [t for t in given if t.is_floating_point()]
        return name == "mm" and all(t not in known.weights for t in others)
    picks = name in ("index", "index_select", "gather", "bmm")
    for t in given:
        if not t.is_floating_point() or t in known.choices:
            continue
        if t in known.weights:
            if name in ("index", "index_select") and t.ndim > 2:
                return True
            continue
        origin = known.origin(t)
        other = bool(origin) and not chosen & set(origin)
        if other or (not origin and (picks or _dispatches(known, op, given, t))):
            return True
    return name == "grouped_mm"
