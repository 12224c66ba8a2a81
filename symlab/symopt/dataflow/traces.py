"""Follow where the features of a product lie in the values computed from it.

A product with a weight gives one number per feature, that is, per row of the weight.
Views, copies and indexing move these numbers. A value therefore has labels: an integer
tensor of its own shape that holds, for each entry, the row of the weight from which the
entry came, and -1 if it came from elsewhere. The operations that move the value also
move its labels, so that they are exact for any layout of heads, halves or experts. They
are equal for all tokens, have stride 0 there, and need almost no memory. Sums keep the
labels of each term (a rotary embedding adds two layouts).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from symlab.tracing import compact, tensors, words

VIEWS = words(
    "t transpose permute unsqueeze squeeze expand slice select split split_with_sizes "
    "unbind narrow diagonal movedim view reshape unsafe_view reshape_alias as_strided "
    "unsafe_split detach alias chunk view_as_complex view_as_real unfold "
    "unsafe_split_with_sizes"
)
COPIES = words("clone contiguous to to_copy lift_fresh")
RESHAPES = words("view reshape unsafe_view reshape_alias")
PICKS = words(  # these move whole entries; their other tensors are indices
    "index index_select gather repeat roll flip take_along_dim masked_select"
)
JOINS = words("cat stack")
WRITES = words(  # of a value into a larger one
    "index_put index_add index_copy scatter scatter_add copy slice_scatter "
    "select_scatter fill scatter_reduce index_reduce"
)
REDUCTIONS = words("sum mean amax amin max min logsumexp prod norm std var all any")
ORDERED = words("topk sort")
MIXING = words(  # the shape may stay, the place of a feature does not
    "mm bmm addmm baddbmm mv dot convolution cumsum cumprod fft_r2c "
    "fft_c2r fft_c2c linear upsample_nearest2d grouped_mm pixel_shuffle"
)
LINEAR, SCALED, BENT, ACTIVATED = range(4)  # what happened between node and value
PAIR = 2**31  # base of the labels of a complex number
MAX_NODES, MAX_LAYOUTS, MAX_ENTRIES = 6, 6, 2**24


@dataclass(eq=False)
class Product:
    """One product of a value with a weight, or with some of its rows, in a forward
    pass.

    name: the parameter's name. free, summed: its axes of outputs and of inputs.
    inputs: the `Origin` of the value. source: an object that is the same for all
        products of one value.
    rows: (features,), the row of the weight that each feature belongs to.
    width: the number of inputs.
    spoiled: the operation that changes if one number is added to all features; '' if
        none does.
    softmax: whether a softmax or the like took all features.
    compared: whether features were picked by ids, as those of targets are.
    chosen: whether its largest features choose what else is computed.
    plain: whether nothing was added to it.
    corrects: whether it is A of a low-rank product that is added to another product.
    consumers: the products and names of operations that use it.
    """

    name: str  # of the parameter
    free: int  # its axis of outputs
    summed: int  # its axis of inputs
    inputs: "Origin"
    source: object  # of its input: the same for products of one value
    rows: Tensor  # (features,): which index of `free` each feature belongs to
    width: int  # length of `summed`
    spoiled: str = ""  # the operation that sees a shift of all features, if any does
    softmax: bool = False  # an operation that no shift changes took all features
    compared: bool = False  # features were picked by ids, as those of targets are
    chosen: bool = False  # the largest of its features pick what else is computed
    plain: bool = True  # nothing was added to it
    corrects: bool = False  # times another weight, it is added to another product
    consumers: set = field(default_factory=set)  # products and operations that take it

    @property
    def features(self) -> int:
        return len(self.rows)


@dataclass(eq=False)
class Lookup:
    """One lookup of rows of a table by ids in a forward pass.

    name: the parameter's name. rows, columns: its axes.
    length, features: the numbers of rows and of columns.
    ids_source: an object that is the same for all tables looked up with the same ids.
    ids: the name of the model's input that the ids are, if they are one.
    scores: whether the looked-up values are added to attention scores.
    corrects: whether it is A of a low-rank product that is added to another table's
        rows.
    plain: whether nothing was added to it.
    consumers: the products and names of operations that use it.
    """

    name: str
    rows: int
    columns: int
    length: int  # number of rows
    features: int  # number of columns
    ids_source: object  # the same for tables looked up with the same ids
    ids: str | None = None  # the model's input that they are, if they are one
    scores: bool = False  # what was looked up is added to attention scores
    corrects: bool = False  # times a weight, it is added to another table's rows
    plain: bool = True
    consumers: set = field(default_factory=set)


@dataclass(eq=False)
class Scores:
    """A product of two values, which are attention scores if a softmax and values
    follow.

    query, key: the products with weights from which the two values are computed.
    width: the number of features of a head.
    """

    query: "Origin"
    key: "Origin"
    width: int


@dataclass(eq=False)
class Attention:
    """An attention operation of a forward pass.

    query, key, value: the `Origin`s of its three inputs.
    query_width, value_width: the number of features of a head.
    """

    query: "Origin"
    key: "Origin"
    value: "Origin"
    query_width: int
    value_width: int


@dataclass(eq=False)
class Gated:
    """An entrywise product of two sets of features, the gate and the up projection.

    gate, up: the products with a weight to which the features belong; they may be the
        same.
    gate_rows, up_rows: the rows of the weights that are used.
    """

    gate: Product
    up: Product
    gate_rows: tuple[int, ...]
    up_rows: tuple[int, ...]


class Trace(NamedTuple):
    """How a value was computed from one product with a weight, or from one table
    lookup.

    bend: how far from linear the computation is, LINEAR to ACTIVATED.
    labels: for each entry the index of the weight's row from which it comes, -1 for
        none; one tensor per layout that was summed; None if that is lost.
    direct: whether some path from the product to the value has no sum or mean over
        tokens.
    """

    bend: int = LINEAR
    labels: tuple[Tensor, ...] | None = None
    direct: bool = True


class Origin(dict):
    """{product or lookup: `Trace`}, all products and lookups that a value was computed
    from.
    """

    def nodes(self, kind: type | tuple | None = None) -> set:
        """Return the products and lookups of the given class (by default all)."""
        return {n for n in self if kind is None or isinstance(n, kind)}

    def only(self, kind: type | tuple):
        """Return the only product or lookup that the value comes from, if it is of this
        class.

        The result is None if there are several, none, or one of another class.
        """
        node = next(iter(self)) if len(self) == 1 else None
        return node if isinstance(node, kind) else None

    def product(self) -> Product | None:
        """Return the product that the value comes from, if that is its only origin;
        else None.
        """
        return self.only(Product)

    def at_least(self, bend: int) -> "Origin":
        """Return a copy in which each trace is at least `bend` far from linear.

        bend: one of LINEAR, SCALED, BENT and ACTIVATED.
        """
        return Origin({n: t._replace(bend=max(t.bend, bend)) for n, t in self.items()})

    def relabelled(self, change) -> "Origin":
        """Return a copy in which the function `change` was applied to every tensor of
        labels.

        A label is the row of a weight from which an entry comes.
        """
        return Origin(
            {
                n: t
                if t.labels is None
                else t._replace(labels=tuple(change(x) for x in t.labels))
                for n, t in self.items()
            }
        )


@dataclass
class Use:
    """Some rows of a weight that are used in one role, such as 'query' or 'gate'.

    rows: for each head the rows that reach it, or None if that is not known.
    width: the width of one head, 0 without heads.
    merged: whether the heads also hold values that come from other weights.
    """

    role: str
    rows: tuple[tuple[int, ...], ...] | None
    width: int = 0
    merged: bool = False


@dataclass
class Seen:
    """The record of one forward pass: what the model did with each of its weights.

    products, lookups, attentions, gated: the operations with weights, in order.
    rest: (product, rows, operation) for rows with other uses than attention and gates.
    convolutions: {weight's name: (transposed, number of groups)}.
    added, multiplied, otherwise: the names of biases, of gains, and of weights with
        other uses.
    unknown: {weight's name: the operation or reason}.
    recurrent: {weight's name: kind of layer}.
    head: the product that the first output comes from. shared_head: the products of a
        head that is called several times. second_heads: the products of further
        outputs.
    assumed: products returned as the only logits. returned: those returned beside a
        loss.
    has_loss: whether the output names a loss and logits.
    inputs: the names of the model's inputs.
    """

    products: list[Product] = field(default_factory=list)
    lookups: list[Lookup] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)
    gated: list[Gated] = field(default_factory=list)
    rest: list[tuple[Product, tuple[int, ...], str]] = field(default_factory=list)
    convolutions: dict[str, tuple[bool, int]] = field(default_factory=dict)
    added: set[str] = field(default_factory=set)  # biases
    multiplied: set[str] = field(default_factory=set)  # gains
    otherwise: set[str] = field(default_factory=set)  # given to attention, and so on
    unknown: dict[str, str] = field(default_factory=dict)  # name -> operation
    combined: set[str] = field(default_factory=set)  # with a constant or a weight
    in_sums: set[str] = field(default_factory=set)  # added to one
    recurrent: dict[str, str] = field(default_factory=dict)  # name -> kind of layer
    head: Product | None = None  # the product that the first output comes from
    shared_head: set[Product] = field(default_factory=set)  # several of one weight
    second_heads: set[Product] = field(default_factory=set)
    assumed: set[Product] = field(default_factory=set)  # returned as the only logits
    returned: set[Product] = field(default_factory=set)  # the same beside a loss
    has_loss: bool = False  # the output names a loss and logits
    inputs: tuple[str, ...] = ()  # names of the model's inputs


# --- label tensors -------------------------------------------------------------------


def collapsed(labels: Tensor) -> Tensor:
    """Return labels with length 1 in each dimension along which they are constant.

    labels: integers, one per entry of a value.
    """
    (labels,) = compact(labels)
    for d in range(labels.ndim):
        if labels.shape[d] > 1:
            first = labels.narrow(d, 0, 1)
            if bool((labels == first).all()):
                labels = first
    return labels


def varying(labels: Tensor) -> list[int]:
    """Return the dimensions along which labels change.

    labels: integers, one per entry of a value.
    """
    return [d for d, n in enumerate(collapsed(labels).shape) if n > 1]


def rows_of(traces: tuple[Tensor, ...]) -> tuple[int, ...]:
    """Return, sorted, the rows of a weight that occur in tensors of labels.

    A label is the index of the row from which an entry comes; -1 stands for none.
    """
    found = torch.cat([collapsed(x).reshape(-1) for x in traces]).unique()
    return tuple(found[found >= 0].tolist())


def spread(labels: Tensor, shape: torch.Size) -> Tensor | None:
    """Return labels expanded to a shape, aligned at the last dimensions as in
    broadcasting.

    labels: integers, one per entry of a value. The result is None if they do not fit.
    """
    small = collapsed(labels)
    small = small.reshape(small.shape[max(0, small.ndim - len(shape)) :])
    fits = all(
        n in (1, m) for n, m in zip(small.shape[::-1], shape[::-1], strict=False)
    )
    return small.expand(shape) if fits else None


def same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors of labels are equal, including their shapes."""
    if a is b:
        return True
    if a.shape != b.shape:
        return False
    a, b = collapsed(a), collapsed(b)
    return a.shape == b.shape and torch.equal(a, b)


class Operation(NamedTuple):
    """One call of a torch operator: its function, name, arguments and results."""

    func: object
    name: str
    args: tuple
    kwargs: dict
    results: list[Tensor]

    def tensors(self) -> list[Tensor]:
        """Return all tensors among the arguments of the call."""
        return tensors((self.args, self.kwargs))

    def argument(self, name: str, default=None):
        """Return an argument of the call by its name in the operator's schema.

        default: the result if the schema has no such name, or the argument is not given
            and has no default there.
        """
        if name in self.kwargs:
            return self.kwargs[name]
        for i, a in enumerate(self.func._schema.arguments):
            if a.name == name:
                if i < len(self.args):
                    return self.args[i]
                return default if a.default_value is None else a.default_value
        return default

    def dims(self, ndim: int) -> list[int]:
        """Return the dimensions along which a reduction, softmax or sort works.

        ndim: the number of dimensions of its input; all of them are returned if the
        call names none.
        """
        dim = self.argument("dim")
        if dim is None or (isinstance(dim, list | tuple) and not dim):
            return list(range(ndim))
        dim = dim if isinstance(dim, list | tuple) else [dim]
        return [d % ndim if ndim else 0 for d in dim]


def moved(op: Operation, t: Tensor, labels: Tensor) -> list[Tensor | None]:
    """Return the labels of each result of an operation, given those of its argument t.

    A label is the index of the weight's row from which an entry comes, -1 for none. A
    result whose labels are not known gets None.
    """
    found = _moved(op, t, labels)
    return [
        x if x is not None and x.shape == r.shape else None
        for x, r in zip(found, op.results, strict=True)
    ]


def _moved(op: Operation, t: Tensor, labels: Tensor) -> list[Tensor | None]:
    name, results = op.name, op.results
    shapes = [r.shape for r in results]
    if name in COPIES or name in ("detach", "alias"):
        return [labels] * len(results)
    if name in RESHAPES:
        return [_reshaped(labels, t, r) for r in results]
    if name == "view_as_complex":  # two labels in one number
        return [labels[..., 0] + 1 + (labels[..., 1] + 1) * PAIR]
    if name == "view_as_real":
        return [torch.stack([labels % PAIR, labels // PAIR], -1) - 1]
    if name == "as_strided":
        return [labels if s == t.shape else None for s in shapes]
    if name in VIEWS | PICKS | JOINS:
        return _again(op, t, labels)
    if name == "constant_pad_nd":
        return [torch.constant_pad_nd(labels, op.args[1], -1)]
    if name in WRITES:
        return [spread(labels, s) for s in shapes]
    if name in REDUCTIONS and op.argument("other") is None:
        return [_reduced(labels, op.dims(labels.ndim), s) for s in shapes]
    if name in ORDERED:
        dim = op.dims(labels.ndim)[0] if name == "sort" else _topk_dim(op, labels)
        along = collapsed(labels).shape[dim] > 1
        return [None if along else _narrowed(labels, dim, s) for s in shapes]
    if name in MIXING:
        return [None] * len(results)
    return [_broadcast(labels, s) for s in shapes]


def _topk_dim(op: Operation, labels: Tensor) -> int:
    return op.argument("dim", -1) % labels.ndim


def _reshaped(labels: Tensor, t: Tensor, out: Tensor) -> Tensor | None:
    if t.numel() != out.numel() or (
        labels.numel() > MAX_ENTRIES and not _viewable(labels, out.shape)
    ):
        return None
    return labels.reshape(out.shape)


def _viewable(labels: Tensor, shape) -> bool:
    try:
        labels.view(shape)
    except RuntimeError:
        return False
    return True


def _again(op: Operation, t: Tensor, labels: Tensor) -> list[Tensor | None]:
    """Return the labels after the operation that moved the values."""
    unread = any(x.is_meta for x in op.tensors() if not _is_value(x))
    if op.name in PICKS and unread:
        return [_without_indices(op, labels, r.shape) for r in op.results]

    def place(x):
        if x is t:
            return labels
        if not isinstance(x, Tensor):
            return x
        if _is_value(x):  # another value of a cat
            return labels.new_full((), -1).expand(x.shape)
        return x.cpu()

    if op.name == "cat":
        return [_joined(op, [place(x) for x in op.args[0]])]
    if labels.numel() > MAX_ENTRIES and op.name not in VIEWS:
        return [None] * len(op.results)
    args, kwargs = tree_map(place, (tuple(op.args), dict(op.kwargs)))
    try:
        return tensors(op.func(*args, **kwargs))
    except (RuntimeError, IndexError):
        return [None] * len(op.results)


def _is_value(t: Tensor) -> bool:
    return t.is_floating_point() or t.is_complex()


def _without_indices(op: Operation, labels: Tensor, shape) -> Tensor | None:
    """On the meta device only the dimensions that indices pick are known."""
    small = collapsed(labels)
    if op.name == "index":
        picked = [d for d, i in enumerate(op.args[1]) if i is not None]
        if any(small.shape[d] > 1 for d in picked) or len(shape) < labels.ndim:
            return None
        if picked != list(range(picked[0], picked[-1] + 1)):
            return None
        added = len(shape) - labels.ndim
        lengths = list(small.shape)
        new = lengths[: picked[0]] + [1] * (len(picked) + added)
        return small.reshape(new + lengths[picked[-1] + 1 :]).expand(shape)
    dim = op.argument("dim", 0) % labels.ndim
    if op.name in ("index_select", "gather") and small.shape[dim] == 1:
        return spread(small, shape)
    return None


def _joined(op: Operation, parts: list[Tensor]) -> Tensor | None:
    """A cat that leaves dimensions of stride 0 as they are."""
    parts = [p for p in parts if p.ndim > 1 or p.numel()]  # cat skips an empty (0,)
    ndim = parts[0].ndim
    dim = op.argument("dim", 0) % ndim
    still = [
        d
        for d in range(ndim)
        if d != dim and all(p.stride(d) == 0 or p.shape[d] == 1 for p in parts)
    ]
    for d in still:
        parts = [p.narrow(d, 0, 1) if p.shape[d] > 1 else p for p in parts]
    if sum(p.numel() for p in parts) > MAX_ENTRIES:
        return None
    return torch.cat(parts, dim).expand(op.results[0].shape)


def _reduced(labels: Tensor, dims: Iterable[int], shape) -> Tensor | None:
    small = collapsed(labels)
    if any(small.shape[d] > 1 for d in dims):
        return None
    for d in sorted(dims, reverse=True):
        keeps = len(shape) == labels.ndim
        labels = labels.narrow(d, 0, 1) if keeps else labels.select(d, 0)
    return labels


def _narrowed(labels: Tensor, dim: int, shape) -> Tensor:
    return labels.narrow(dim, 0, shape[dim]) if labels.ndim else labels


def _broadcast(labels: Tensor, shape) -> Tensor | None:
    try:
        return labels.expand(shape)
    except RuntimeError:
        return None
