"""What a model does with each of its parameters, seen by following one forward pass.

Every value knows the nodes that it comes from: products with a weight, table lookups,
attention, gated units. Reshapes, sums, norms and activations pass them on. So a weight
is a query because its product reaches the first argument of an attention, and a router
because its product reaches a top-k, whatever its module is called. Needs no gradient
and no particular input: a few tokens are enough.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VIEWS = _words(
    "t transpose permute unsqueeze squeeze expand slice select split split_with_sizes "
    "unbind narrow diagonal movedim view reshape unsafe_view reshape_alias as_strided "
    "unsafe_split detach alias chunk "
)
COPIES = _words("clone contiguous to _to_copy to_copy lift_fresh")
STRAIGHT = _words(  # the value stays a linear function of the product
    "add sub rsub mul div neg sum mean cat stack index index_select gather repeat "
    "roll flip copy constant_pad_nd masked_fill where index_add scatter_add "
    "scatter index_put native_dropout dropout index_copy sort topk slice_scatter "
)
ACTIVATIONS = _words(
    "silu gelu relu sigmoid tanh softplus leaky_relu elu celu selu hardswish mish "
    "hardsigmoid hardtanh prelu erf relu6 log_sigmoid_forward softsign"
)
OF_ENTRIES = _words("add sub rsub mul div neg exp abs square pow clamp softplus sqrt")
SOFTMAX = _words("softmax log_softmax safe_softmax logsumexp")
NORMS = {  # and which argument is the bias
    "native_layer_norm": 3,
    "fused_rms_norm": None,
    "native_batch_norm": 2,
    "native_group_norm": 2,
}
ASKING = _words(  # of a weight's shape, dtype or device alone
    "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones "
    "new_empty new_full new_empty_strided"
)
LINEAR, BENT, ACTIVATED = range(3)  # what happened between a product and a value


@dataclass(eq=False)
class Product:
    """A contraction of a value with a weight."""

    name: str  # of the parameter
    free: int  # its axis of outputs
    summed: int  # its axis of inputs
    inputs: "Origin"
    features: int  # length of `free`
    width: int  # length of `summed`
    softmax: bool = False  # a softmax saw it, or a constant multiple and sum of it
    topk: bool = False


@dataclass(eq=False)
class Lookup:
    """Rows of a table, picked by ids."""

    name: str
    rows: int


@dataclass(eq=False)
class Scores:
    """Products of two values: attention scores, if a softmax and values follow."""

    query: "Origin"
    key: "Origin"
    width: int


@dataclass(eq=False)
class Attention:
    query: "Origin"
    key: "Origin"
    value: "Origin"
    query_width: int
    value_width: int


@dataclass(eq=False)
class Gated:
    """A product of gate and up; for a fused weight both are it, with its layout."""

    gate: Product
    up: Product
    layout: str | None


class Origin(dict):
    """(node, part) -> LINEAR, BENT or ACTIVATED; part: which slice of its features."""

    def nodes(self, kind: type | None = None) -> set:
        return {n for n, _ in self if kind is None or isinstance(n, kind)}

    def product(self) -> Product | None:
        """The one product that it comes from, if there is no other node."""
        nodes = self.nodes()
        only = next(iter(nodes)) if len(nodes) == 1 else None
        return only if isinstance(only, Product) else None

    def at_least(self, bend: int) -> "Origin":
        return Origin({k: max(v, bend) for k, v in self.items()})

    def united(self, other: "Origin") -> "Origin":
        if not other or other is self:
            return self
        if not self:
            return other
        both = Origin(self)
        for k, v in other.items():
            both[k] = max(v, both.get(k, LINEAR))
        return both


@dataclass
class Weight:
    """A tensor that is a parameter, a part of it, or a copy: which axis lies where."""

    name: str
    strides: list[tuple[int, int, tuple[int, ...]]]  # (stride, length, axes) of storage

    def axes(self, t: Tensor) -> list[tuple[int, ...]]:
        """The parameter's axes in each dimension of a view t of the storage."""
        return [self._axes_of(t, d) for d in range(t.ndim)]

    def _axes_of(self, t: Tensor, dim: int) -> tuple[int, ...]:
        stride, reach = t.stride(dim), t.stride(dim) * t.shape[dim]
        if t.shape[dim] == 1 or stride == 0:
            return ()
        found = []
        for s, n, axes in self.strides:  # [s, s n) is where this axis moves
            if n > 1 and stride < s * n and reach > s:
                found += axes
        return tuple(found)


@dataclass
class Seen:
    """Everything that was seen of one model."""

    products: list[Product] = field(default_factory=list)
    lookups: list[Lookup] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)
    gated: list[Gated] = field(default_factory=list)
    convolutions: set[str] = field(default_factory=set)
    added: set[str] = field(default_factory=set)  # biases
    multiplied: set[str] = field(default_factory=set)  # gains
    unknown: dict[str, str] = field(default_factory=dict)  # name -> operation
    head: Product | None = None
    head_bent: bool = False


class Following(TorchDispatchMode):
    """Watches the operations of a forward pass and fills in `seen`."""

    def __init__(self, parameters: dict[str, Tensor]):
        super().__init__()
        self.seen = Seen()
        self.weights = WeakIdKeyDictionary()
        self.origins = WeakIdKeyDictionary()
        self.raw: dict[int, tuple[Origin, Tensor]] = {}  # inputs without an origin
        for name, p in parameters.items():
            layout = [(p.stride(d), p.shape[d], (d,)) for d in range(p.ndim)]
            self.weights[p] = Weight(name, layout)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        name = name if name.startswith("__") else name.strip("_")
        self._follow(name, func._schema, args, kwargs, out)
        return out

    def origin(self, t) -> Origin:
        return self.origins.get(t, Origin()) if isinstance(t, Tensor) else Origin()

    # what an operation does ----------------------------------------------------------

    def _follow(self, name, schema, args, kwargs, out) -> None:
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if name in ASKING:
            return
        weights = [t for t in tensors if t in self.weights]
        rule = getattr(self, f"_{name}", None) if name in NAMED else None
        if name.startswith("scaled_dot_product"):
            rule = self._attention
        if rule is not None and (done := rule(args, kwargs, out)) is not None:
            self._set(out, done)
            return
        if weights and name in VIEWS | COPIES and tensors[0] is weights[0]:
            self._same_weight(name, tensors[0], out)
            return
        if weights and len(tensors) == 1 and name in OF_ENTRIES | ACTIVATIONS:
            self._copied(tensors[0], out)
            return
        for w in weights:
            alone = len(weights) == len(tensors)
            self._used(w, f"{name} of parameters alone" if alone else name, args)
        values = [t for t in tensors if t not in self.weights]
        if name == "mul" and len(values) == 2 and self._gate(*values, out):
            return
        self._pass_on(name, values, schema, args, out)

    def _pass_on(self, name, values, schema, args, out) -> None:
        origin = Origin()
        for t in values:
            origin = origin.united(self.origin(t))
        if not origin:
            return
        product = origin.product()
        if name in SOFTMAX:
            for (n, _), bend in origin.items():
                if isinstance(n, Product) and n is product and bend == LINEAR:
                    n.softmax = True
        if name in ("topk", "sort") and product is not None:
            product.topk = True
        if name in ACTIVATIONS:
            origin = origin.at_least(ACTIVATED)
        elif name in ("mul", "div") and sum(bool(self.origin(t)) for t in values) > 1:
            origin = origin.at_least(ACTIVATED if product else BENT)
        elif name not in VIEWS | COPIES | STRAIGHT:
            origin = origin.at_least(BENT)
        for result in _tensors(out):
            whole = values[0]
            if name in VIEWS and result.numel() < whole.numel():
                self.origins[result] = self._part(origin, result)
            else:
                self.origins[result] = origin
        for given, declared in zip(args, schema.arguments, strict=False):
            if declared.alias_info is not None and declared.alias_info.is_write:
                self._wrote(given, origin)

    def _wrote(self, t, origin: Origin) -> None:
        if not isinstance(t, Tensor):
            return
        self.origins[t] = origin
        if t._base is not None:  # a view of a buffer was written to
            self.origins[t._base] = self.origin(t._base).united(origin)

    def _part(self, origin: Origin, view: Tensor) -> Origin:
        """The same nodes, now known to be a slice of their features."""

        def part(node, old):
            if old is not None or not isinstance(node, Product):
                return old
            return view.storage_offset() % node.features

        return Origin({(n, part(n, p)): bend for (n, p), bend in origin.items()})

    def _set(self, out, origin: Origin) -> None:
        for t in _tensors(out):
            if t.is_floating_point():
                self.origins[t] = origin

    # weights -------------------------------------------------------------------------

    def _same_weight(self, name, t, out) -> None:
        if name in COPIES:
            self._copied(t, out)
            return
        for o in _tensors(out):
            self.weights[o] = self.weights[t]

    def _copied(self, t: Tensor, out, axes=None) -> None:
        """out has the dimensions of t, with strides of its own."""
        axes = self.weights[t].axes(t) if axes is None else axes
        for o in _tensors(out):
            if o is not t:
                layout = [(o.stride(d), o.shape[d], axes[d]) for d in range(o.ndim)]
                self.weights[o] = Weight(self.weights[t].name, layout)

    def _used(self, w: Tensor, name: str, args) -> None:
        """A use that is no contraction: bias, gain, or not understood."""
        known = self.weights[w].name
        place = next((i for i, a in enumerate(args) if a is w), None)
        if name in ("add", "sub", "rsub", "addmm", "baddbmm", "cat", "convolution"):
            self.seen.added.add(known)
        elif name in NORMS:
            is_bias = place == NORMS[name]
            (self.seen.added if is_bias else self.seen.multiplied).add(known)
        elif name in ("mul", "div"):
            self.seen.multiplied.add(known)
        else:
            self.seen.unknown[known] = name

    def _contract(self, x: Tensor, w: Tensor, summed: int, free: int) -> Origin | None:
        """The value x times the weight w, summed over dimension `summed` of w."""
        weight = self.weights[w]
        axes = weight.axes(w)
        free_axes, summed_axes = axes[free], axes[summed]
        total = len(weight.strides)
        left = [a for a in range(total) if a not in (*free_axes, *summed_axes)]
        # an axis of length 1 has no stride; of (heads, width) the width is the matrix's
        summed_axis = summed_axes[-1] if summed_axes else left.pop()
        free_axis = free_axes[-1] if free_axes else left.pop()
        inside = len(free_axes) + len(summed_axes)
        if set(free_axes) & set(summed_axes) or max(inside, 2) > total:
            self.seen.unknown[weight.name] = "several axes at once"
            return Origin()
        inputs, sizes = self._inputs(x), (w.shape[free], w.shape[summed])
        product = Product(weight.name, free_axis, summed_axis, inputs, *sizes)
        self.seen.products.append(product)
        return Origin({(product, None): LINEAR})

    def _inputs(self, x: Tensor) -> Origin:
        """The origin of x as an object: two products share it if they share x."""
        if x in self.origins:
            return self.origins[x]
        storage = x.untyped_storage()._cdata
        self.raw.setdefault(storage, (Origin(), x))  # x, so that it is not freed
        return self.raw[storage][0]

    def _mm(self, args, kwargs, out) -> Origin | None:
        a, b = args[:2]
        ours = a in self.weights, b in self.weights
        if all(ours):
            for w in (a, b):
                self.seen.unknown[self.weights[w].name] = "a product of parameters"
            return Origin()
        if ours[1]:
            return self._contract(a, b, b.ndim - 2, b.ndim - 1)
        if ours[0]:
            return self._contract(b, a, a.ndim - 1, a.ndim - 2)
        return None

    def _bmm(self, args, kwargs, out) -> Origin | None:
        done = self._mm(args, kwargs, out)
        if done is not None:
            return done
        a, b = map(self.origin, args[:2])
        scores = [n for (n, _), bend in a.items() if isinstance(n, Scores) and bend]
        if len(scores) == 1:
            s = scores[0]
            return self._attend(s.query, s.key, b, s.width, args[1].shape[-1])
        if a and b:
            return Origin({(Scores(a, b, args[0].shape[-1]), None): LINEAR})
        return None

    def _addmm(self, args, kwargs, out) -> Origin | None:
        if args[0] in self.weights:
            self.seen.added.add(self.weights[args[0]].name)
        return self._bmm(args[1:3], kwargs, out)

    _baddbmm = _addmm

    def _mv(self, args, kwargs, out) -> Origin | None:
        if args[0] not in self.weights:
            return None
        return self._contract(args[1], args[0], args[0].ndim - 1, args[0].ndim - 2)

    def _linear(self, args, kwargs, out) -> Origin | None:
        if len(args) > 2 and isinstance(args[2], Tensor) and args[2] in self.weights:
            self.seen.added.add(self.weights[args[2]].name)
        if args[1] not in self.weights:
            return None
        return self._contract(args[0], args[1], 1, 0)

    def _grouped_mm(self, args, kwargs, out) -> Origin | None:
        return self._mm(args, kwargs, out)

    def _convolution(self, args, kwargs, out) -> Origin | None:
        x, w, bias = args[:3]
        if w not in self.weights:
            return None
        if isinstance(bias, Tensor) and bias in self.weights:
            self.seen.added.add(self.weights[bias].name)
        name = self.weights[w].name
        self.seen.convolutions.add(name)
        inside = w.shape[1:].numel()
        product = Product(name, 0, 1, self._inputs(x), w.shape[0], inside)
        return Origin({(product, None): LINEAR})

    def _embedding(self, args, kwargs, out) -> Origin | None:
        if args[0] not in self.weights:
            return None
        lookup = Lookup(self.weights[args[0]].name, args[0].shape[0])
        self.seen.lookups.append(lookup)
        return Origin({(lookup, None): LINEAR})

    def _index_select(self, args, kwargs, out) -> Origin | None:
        if args[0] not in self.weights or args[1] != 0:
            return None
        return self._rows_of(args[0], args[2], out)

    def _index(self, args, kwargs, out) -> Origin | None:
        if args[0] not in self.weights or args[1][0] is None:
            return None
        return self._rows_of(args[0], args[1][0], out)

    def _rows_of(self, w: Tensor, ids: Tensor, out: Tensor) -> Origin | None:
        """Rows for given ids are a lookup; what a router picks stays a weight."""
        if w.ndim == 2 and not self.origin(ids):
            return self._embedding((w,), {}, out)
        axes = self.weights[w].axes(w)
        self._copied(w, out, [axes[0]] * ids.ndim + axes[1:])
        return Origin()

    # attention and gates -------------------------------------------------------------

    def _attention(self, args, kwargs, out) -> Origin | None:
        q, k, v = args[:3]
        origins = map(self.origin, (q, k, v))
        return self._attend(*origins, q.shape[-1], v.shape[-1])

    def _attend(self, query, key, value, query_width, value_width) -> Origin:
        node = Attention(query, key, value, query_width, value_width)
        self.seen.attentions.append(node)
        return Origin({(node, None): LINEAR})

    def _glu(self, args, kwargs, out) -> Origin | None:
        product = self.origin(args[0]).product()
        return None if product is None else self._gated(product, product, 0)

    def _gate(self, a: Tensor, b: Tensor, out: Tensor) -> bool:
        """Whether a * b is a gated unit: two products of one input, or two halves."""
        first, second = self.origin(a), self.origin(b)
        one, two = first.product(), second.product()
        if one is None or two is None or one.inputs is not two.inputs:
            return False
        parts = [{p for _, p in o} for o in (first, second)]
        if one is two and (len(parts[0] | parts[1]) != 2 or parts[0] & parts[1]):
            return False
        if max(first.values()) < max(second.values()):
            one, two = two, one
        offset = max(p or 0 for p in parts[0] | parts[1])
        self._set(out, self._gated(one, two, offset))
        return True

    def _gated(self, gate: Product, up: Product, offset: int) -> Origin:
        layout = None
        if gate is up:
            layout = "interleaved" if offset == 1 < gate.features // 2 else ""
            layout = layout or "concatenated"
        node = Gated(gate, up, layout)
        self.seen.gated.append(node)
        return Origin({(node, None): LINEAR})


NAMED = _words(
    "mm bmm addmm baddbmm mv linear grouped_mm convolution embedding index_select "
    "index glu"
)


def _tensors(tree) -> list[Tensor]:
    return [t for t in tree_leaves(tree) if isinstance(t, Tensor)]


def follow(model: torch.nn.Module, call) -> Seen:
    """What `call()`, a forward pass of the model, does with the parameters.

    The model is left as it was: its buffers, its mode and torch's random numbers.
    """
    parameters = dict(model.named_parameters())
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    modes = {m: m.training for m in model.modules()}
    mode = Following(parameters)
    gpus = {p.device for p in parameters.values() if p.is_cuda}
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # one operation for a layer
        model.eval()
        with torch.random.fork_rng(list(gpus)), torch.no_grad(), mode:
            out = call()
        _find_head(mode, out)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for m, training in modes.items():
            m.training = training
        with torch.no_grad():
            for n, b in model.named_buffers():
                if n in buffers and b.shape == buffers[n].shape:
                    b.copy_(buffers[n])
    return mode.seen


def _find_head(mode: Following, out) -> None:
    """The last product: what the output, or `out.logits`, comes from."""
    if hasattr(out, "logits"):
        out = out.logits
    floats = [t for t in _tensors(out) if t.is_floating_point()]
    if not floats:
        return
    origin = mode.origin(floats[0])
    mode.seen.head = origin.product()
    mode.seen.head_bent = any(bend != LINEAR for bend in origin.values())
