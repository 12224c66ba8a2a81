"""Find whether adding one vector to all rows of a weight changes the loss.

It adds one number per token to all features of the product. A softmax over the features
does not depend on that number, a sigmoid or a square does. So each value that still
changes is followed to all its uses: `ADDED` if the number is added to it (logits, their
maximum, their logsumexp), `TIMES` if its exponential multiplies it (exp of logits). The
result of a softmax, and the difference or quotient of two such values of the same
token, does not change and is not followed further. Any other use breaks the symmetry,
and its name is recorded on the product. So does a value that still changes when the
pass is over, because its later use is not known. A detached value counts as a different
factor, because no gradient knows of its change.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from symlab.symopt.dataflow.traces import (
    COPIES,
    JOINS,
    ORDERED,
    PICKS,
    RESHAPES,
    VIEWS,
    Operation,
    Product,
    collapsed,
    moved,
    varying,
)
from symlab.tracing import tensors, words

ADDED, TIMES = "added", "times"
SOFTMAX = words("softmax log_softmax safe_softmax")
EXTREMES = words("amax amin max min logsumexp mean")
CHOICES = words("argmax argmin argsort")
COMPARISONS = words("eq ne lt le gt ge")
HARMLESS = words("isnan isinf isfinite zeros_like ones_like empty_like full_like")
LOWEST = -1e4  # a mask of at most this is -inf for a softmax
_FACTORS = WeakIdKeyDictionary()  # tensor -> one object, which no other tensor gets


@dataclass(frozen=True)
class Shift:
    """How one value changes when one vector is added to all rows of a weight.

    That adds one number per token to all features of the weight's product with its
    input.

    kind: ADDED if the number is added to the value, TIMES if its exponential multiplies
        the value.
    scale: the factors by which the features were multiplied.
    features: for each entry, the index of its feature.
    tokens: for each entry, the index of its token, or of a group of tokens after a sum
        over them; None if that is lost.
    whole: whether all features are present, once for each token.
    picked: whether a top-k or ids chose among them.
    total: whether it is the logsumexp of all features of a token, or the sum of their
        exp.
    holes: whether some entries were replaced by a large negative number, which does not
        change.
    """

    kind: str
    scale: tuple
    features: Tensor
    tokens: Tensor | None
    whole: bool = True
    picked: bool = False
    total: bool = False
    holes: bool = False

    def along(self, dim: int) -> bool:
        """Return whether only dimension `dim` runs over the features, all of them of
        one token.
        """
        same_token = self.tokens is not None and collapsed(self.tokens).shape[dim] == 1
        return same_token and varying(self.features) == [dim]


def first(product: Product, out: Tensor, dim: int) -> Shift | None:
    """Return how a product with a weight changes when one vector is added to all rows
    of the weight, as a `Shift`; None for a product of a single feature.

    out: the product's tensor. dim: its dimension that holds the features.
    """
    lengths = [n for d, n in enumerate(out.shape) if d != dim]
    count = torch.Size(lengths).numel()
    if product.features < 2:
        return None
    tokens = torch.arange(count).reshape(lengths).unsqueeze(dim).expand(out.shape)
    shape = [1] * out.ndim
    shape[dim] = product.features
    features = product.rows.reshape(shape).expand(out.shape)
    return Shift(ADDED, (), features, tokens)


class Shifts(dict):
    """{product with a weight: `Shift`}, the changes of one value under shifts of
    weights.

    Only products whose effect on the value is still known are listed.
    """

    def live(self) -> "Shifts":
        """Return the `Shifts` of those products, of an input and a weight, whose
        symmetry under a shift of the weight no operation has broken so far.
        """
        return Shifts({p: s for p, s in self.items() if not p.spoiled})


def spoil(shifts: Shifts, name: str) -> None:
    """Record that the operation `name` breaks the shift symmetry of some products.

    shifts: {product: `Shift`}. Products whose symmetry was broken before are unchanged.
    """
    for p in shifts:
        p.spoiled = p.spoiled or name


def after(op: Operation, of) -> list[Shifts]:
    """Return how each result of an operation changes when one vector is added to all
    rows of a weight, as `Shifts` by product.

    of: a function from an argument of the operation to its `Shifts`.
    """
    values = op.tensors()
    given = [(t, of(t)) for t in values]
    done = [Shifts() for _ in op.results]
    for p in {p for _, shifts in given for p in shifts}:
        mine = [(t, shifts[p]) for t, shifts in given if p in shifts]
        try:
            found = _after(op, p, mine, values)
        except (RuntimeError, IndexError, TypeError):
            found = None
        if found is None:
            p.spoiled = p.spoiled or op.name
            continue
        for shifts, shift in zip(done, found, strict=True):
            if shift is not None:
                shifts[p] = shift
    return done


def _after(op, p, mine, values) -> list[Shift | None] | None:
    """None: a use that sees the shift; else the Shift of each result, if it has one."""
    name, none = op.name, [None] * len(op.results)
    t, s = mine[0]
    if name in HARMLESS:
        return none
    if name in JOINS:
        return _joined(op, mine)
    if len(mine) == 2:
        return none if _cancel(op, p, mine) else None
    if len(mine) > 2:
        return None
    if name == "detach":
        return _moved(op, t, replace(s, scale=(*s.scale, name)))
    if name in RESHAPES and _merges_one(t, op.results[0], s):
        return None
    if name in VIEWS | COPIES | PICKS:
        return _moved(op, t, s)
    if name in SOFTMAX:
        return none if _normalised(op, p, t, s) else None
    if name in ("masked_fill", "where", "fill"):
        return _masked(op, t, s)
    if name in EXTREMES or name == "sum":
        return _reduced(op, p, t, s)
    if name in ORDERED or name in CHOICES:
        return _ordered(op, t, s)
    if name == "exp" and s.kind == ADDED:
        return _moved(op, t, replace(s, kind=TIMES, holes=False))  # exp is 0 there
    if name == "log" and s.kind == TIMES:
        return _moved(op, t, replace(s, kind=ADDED))
    if name in ("add", "sub", "rsub", "neg", "mul", "div"):
        return _linear(op, t, s, values)
    return None


def _moved(op, t, s: Shift) -> list[Shift | None] | None:
    features = moved(op, t, s.features)
    tokens = [None] * len(features) if s.tokens is None else moved(op, t, s.tokens)
    if any(f is None for f in features):
        return None
    count = _entries(s.features)
    found = []
    for f, k in zip(features, tokens, strict=True):
        fewer = _entries(f) != count
        by_ids = fewer and op.name in ("gather", "take_along_dim")
        whole, picked = s.whole and not fewer, s.picked or (s.whole and by_ids)
        found.append(replace(s, features=f, tokens=k, whole=whole, picked=picked))
    return found


def _merges_one(t: Tensor, out: Tensor, s: Shift) -> bool:
    """Whether an axis of length 1 beside the features is gone in a reshape.

    It may be one of tokens or samples, of which the example has one, and what merges it
    with the features merges theirs when there are more.
    """
    axes = varying(s.features)
    beside = {d + e for d in axes for e in (-1, 1)} - {-1, t.ndim}
    fewer = out.ndim <= t.ndim and out.shape != t.shape
    return fewer and any(t.shape[d] == 1 for d in beside)


def _entries(labels: Tensor) -> int:
    return collapsed(labels).numel()


def _joined(op, mine) -> list[Shift] | None:
    """A cat along tokens, or of pieces of one product's features."""
    s = mine[0][1]
    labels = [moved(op, t, m.features)[0] for t, m in mine]
    if any(x is None for x in labels) or any(
        (m.kind, m.scale) != (s.kind, s.scale) for _, m in mine
    ):
        return None
    features = labels[0]
    for x in labels[1:]:
        features = torch.maximum(features, x)
    if bool((features < 0).any()):
        return None  # a constant beside the logits does not shift with them
    tokens = None
    if all(m.tokens is not None for _, m in mine):
        parts = [moved(op, t, m.tokens)[0] for t, m in mine]
        tokens = parts[0]
        for x in parts[1:]:
            tokens = None if tokens is None or x is None else torch.maximum(tokens, x)
    holes = any(m.holes for _, m in mine)
    return [replace(s, features=features, tokens=tokens, whole=False, holes=holes)]


def _normalised(op, p, t, s: Shift) -> bool:
    dim = op.dims(t.ndim)[0]
    if s.kind != ADDED or not s.along(dim):
        return False
    enough = s.picked or _complete(s, p)
    p.softmax = p.softmax or enough
    return enough


def _complete(s: Shift, p: Product) -> bool:
    here = collapsed(s.features).reshape(-1)
    return s.whole and len(here) == p.features == len(here.unique())


def _cancel(op, p, mine) -> bool:
    """Whether two values of one token shift alike, so that the result does not."""
    (_, a), (_, b) = mine
    if (a.kind, a.scale) != (b.kind, b.scale) or a.tokens is None or b.tokens is None:
        return False
    kind = {"sub": ADDED, "rsub": ADDED, "div": TIMES}.get(op.name)
    compared = op.name in COMPARISONS
    if not compared and (a.kind != kind or a.holes or b.holes):
        return False
    if op.argument("alpha", 1) != 1:
        return False
    if 1 in op.results[0].shape[:-1]:
        return False  # one sample or token for all hides which of them are compared
    one, two = torch.broadcast_tensors(collapsed(a.tokens), collapsed(b.tokens))
    if _tokens_collide(a.tokens, b.tokens) or not torch.equal(one, two):
        return False
    if not compared:
        p.softmax = p.softmax or any(s.total or _complete(s, p) for s in (a, b))
    return True


def _tokens_collide(a: Tensor, b: Tensor) -> bool:
    """Whether a dimension of tokens meets one of other length or a broadcast."""
    small = collapsed(a), collapsed(b)
    full = torch.broadcast_shapes(a.shape, b.shape)
    for x, y in zip(*(_padded(s.shape, len(full)) for s in small), strict=True):
        if x != y:
            return True
    return False


def _padded(shape, ndim: int) -> list[int]:
    return [1] * (ndim - len(shape)) + list(shape)


def _masked(op, t, s: Shift) -> list[Shift | None] | None:
    """Entries that are filled with -inf leave a softmax over the others."""
    if op.name == "where":
        fill = op.args[2] if op.args[1] is t else op.args[1]
    else:
        fill = op.args[-1]
    if isinstance(fill, Tensor):
        fill = 0.0 if fill.is_meta or fill.numel() != 1 else fill.item()
    if fill > LOWEST or s.kind != ADDED:
        return None
    return _moved(op, t, replace(s, holes=s.holes or fill > float("-inf")))


def _reduced(op, p, t, s: Shift) -> list[Shift | None] | None:
    """The maximum, logsumexp, mean or sum over features, or a mean over tokens."""
    dims = op.dims(t.ndim)
    if s.holes and op.name not in ("amax", "max", "logsumexp"):
        return None
    if len(op.args) < 2 and "dim" not in op.kwargs and op.name in ("max", "min"):
        return None
    over = any(s.along(d) for d in dims)
    if not over:
        if op.name not in ("sum", "mean") or s.kind != ADDED:
            return None
        count = 1 if op.name == "mean" else torch.Size(t.shape[d] for d in dims).numel()
        labels = moved(op, t, s.features)[0]
        if labels is None:
            return None
        scale = s.scale if count == 1 else (*s.scale, count)
        tokens = None if s.tokens is None else _pooled(s.tokens, dims, labels.shape)
        return [replace(s, features=labels, tokens=tokens, scale=scale)]
    alike = s.kind == ADDED and op.name in EXTREMES
    if not (alike or (s.kind == TIMES and op.name in ("sum", "mean", "amax"))):
        return None
    if len(dims) != 1:
        return None
    tokens, kind = s.tokens, {"logsumexp": ADDED, "sum": TIMES}
    total = _complete(s, p) and kind.get(op.name) == s.kind
    flat = collapsed(s.features).narrow(dims[0], 0, 1).expand(t.shape)
    found = []
    for r in op.results:
        if not r.is_floating_point():
            found.append(None)
            continue
        keep = r.ndim == t.ndim
        f, k = (
            None if x is None else _dropped(x, dims[0], keep) for x in (flat, tokens)
        )
        one = replace(s, total=total, whole=False, holes=False)
        found.append(replace(one, features=f, tokens=k))
    return found


def _pooled(tokens: Tensor, dims: list[int], shape) -> Tensor:
    """Labels of means over tokens: one for each group of them, whoever makes it."""
    small = collapsed(tokens)
    kept = [d for d in range(small.ndim) if d not in dims]
    lengths = [small.shape[d] for d in kept]
    groups = small.permute(*kept, *dims).reshape(torch.Size(lengths).numel(), -1)
    times = torch.Size(tokens.shape[d] // small.shape[d] for d in dims).numel()
    found = [hash((times, *g)) % 2**62 for g in groups.tolist()]
    keeps = len(shape) == tokens.ndim
    lengths = [1 if d in dims else n for d, n in enumerate(small.shape)]
    lengths = lengths if keeps else [lengths[d] for d in kept]
    return torch.tensor(found).reshape(lengths).expand(shape)


def _dropped(labels: Tensor, dim: int, keep: bool) -> Tensor:
    return labels.narrow(dim, 0, 1) if keep else labels.select(dim, 0)


def _ordered(op, t, s: Shift) -> list[Shift | None] | None:
    """The largest features of one token are those of it shifted."""
    flat = op.name in ("argmax", "argmin") and op.argument("dim") is None
    dim = op.argument("dim", -1)
    if flat or dim is None or not s.along(dim % t.ndim):
        return None
    dim = dim % t.ndim
    found = []
    for r in op.results:
        if not r.is_floating_point():
            found.append(None)
            continue
        features = s.features.narrow(dim, 0, r.shape[dim])
        tokens = None if s.tokens is None else s.tokens.narrow(dim, 0, r.shape[dim])
        picked = s.picked or s.whole
        found.append(
            replace(s, features=features, tokens=tokens, whole=False, picked=picked)
        )
    return found


def _linear(op, t, s: Shift, values) -> list[Shift | None] | None:
    """The logits plus anything, or times one number for all features of a token."""
    others = [x for x in values if x is not t]
    if op.name in ("mul", "div"):
        if op.name == "div" and op.args[0] is not t:
            return None
        if op.argument("rounding_mode") is not None:
            return None
        if not all(_per_token(x, s, op.results[0].ndim) for x in others):
            return None
        if s.kind == ADDED:
            axes = varying(s.features)
            ndim = op.results[0].ndim
            for other in others:
                for d in axes:
                    back = ndim - (d + ndim - t.ndim)
                    if other.ndim >= back and other.shape[-back] > 1:
                        return None
            factors = [_factor(x) for x in others] or [
                x for x in op.args if isinstance(x, int | float)
            ]
            s = replace(s, scale=(*s.scale, op.name, *factors))
    elif s.kind == TIMES:
        return None
    else:
        factor = _sign(op, t)
        s = s if factor == 1 else replace(s, scale=(*s.scale, factor))
    return _moved(op, t, s)


def _per_token(factor: Tensor, s: Shift, ndim: int) -> bool:
    """Whether all values of one token are multiplied by one and the same number."""
    if factor.numel() == 1:
        return True
    if s.tokens is None:
        return False
    small = collapsed(s.tokens)
    if len(small.unique()) != small.numel():
        return False
    lengths = _padded(small.shape, ndim), _padded(factor.shape, ndim)
    return all(n == 1 or m > 1 for m, n in zip(*lengths, strict=True))


def _sign(op, t) -> float:
    """The factor of t in a sum or a difference, with alpha."""
    first, alpha = op.args[0] is t, op.argument("alpha", 1)
    if op.name == "neg":
        return -1
    if op.name == "rsub":  # other - alpha x first
        return -alpha if first else 1
    return 1 if first else alpha if op.name == "add" else -alpha


def _factor(x: Tensor) -> tuple:
    """Return one object per tensor, as long as nobody writes to it."""
    version = 0 if x.is_inference() else x._version
    return _FACTORS.setdefault(x, object()), version


def of_all(tree, of) -> Shifts:
    """Return how the tensors in nested lists and dicts change when one vector is added
    to all rows of a weight, as one `Shifts`.

    tree: the nested structure. of: a function from a tensor to its `Shifts`.
    """
    both = Shifts()
    for t in tensors(tree):
        both.update(of(t))
    return both
