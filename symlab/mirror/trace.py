"""Following a model's operations: which hidden units each value belongs to.

A slot is a tensor of labels with the shape of a value; a value has one slot for each
hidden index that it carries (a weight has two). Every rule says what an operation does
to slots, and to the groups of the units: see `orbits`.
"""

import math

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

NONE, PERMUTATION, SIGNED, ROTATION = range(4)  # each group contains the ones before


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# --- following operations ------------------------------------------------------------

INDEXING = _words(
    "t transpose permute unsqueeze squeeze expand slice select split split_with_sizes "
    "unbind index_select repeat flip roll narrow diagonal unfold movedim unsafe_split "
)
SAME = _words("clone detach alias contiguous to _to_copy lift_fresh positive")
LINEAR = _words("neg mul div add sub rsub sum mean")
ODD = _words("tanh sin erf asinh atan sinh tan softsign sign")
POINTWISE = _words(
    "relu gelu silu sigmoid exp log sqrt rsqrt pow abs square reciprocal clamp "
    "clamp_min clamp_max hardtanh leaky_relu elu celu selu softplus hardswish mish "
    "hardsigmoid threshold cos log1p expm1 log_sigmoid_forward relu6 maximum minimum "
    "where gt ge lt le eq ne logical_and logical_or logical_not masked_fill isnan "
    "bitwise_not mse_loss smooth_l1_loss huber_loss binary_cross_entropy_with_logits "
    "binary_cross_entropy addcmul addcdiv lerp exp2 prelu _prelu_kernel max min"
)
REDUCING = _words("sum mean amax amin max min var std var_mean logsumexp prod any")
ALONG = _words("_softmax _log_softmax softmax log_softmax _safe_softmax")
POOLING = _words(
    "max_pool2d_with_indices max_pool1d_with_indices avg_pool2d avg_pool1d "
    "_adaptive_avg_pool2d adaptive_avg_pool1d adaptive_max_pool2d upsample_nearest2d "
    "upsample_bilinear2d"
)
NEUTRAL = _words(
    "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones "
    "new_empty new_full new_empty_strided argmax argmin bernoulli"
)


class Trace(TorchDispatchMode):
    """Carries slots along: labels of hidden units, tensors of the values' shape."""

    def __init__(self, atoms):
        super().__init__()
        self.atoms = atoms
        self.names = WeakIdKeyDictionary()
        for name, t in atoms.tensors.items():
            self.names[t] = name

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [a for a in _tensors((args, kwargs)) if self.slots(a)]
        before = [(a, self.slots(a)) for a in given]
        out = func(*args, **kwargs)
        for t in given:
            if t in self.names:
                self.atoms.used.add(self.names[t])
        if before:
            self._follow(func, args, kwargs, out)
        elif isinstance(out, Tensor) and out in self.atoms.slots:
            self.atoms.slots[out] = []  # overwritten in place
        return out

    def slots(self, t) -> list[Tensor]:
        return self.atoms.slots.get(t, []) if isinstance(t, Tensor) else []

    def keep(self, out: Tensor, slots: list[Tensor]) -> None:
        """Give a result its slots, those that differ anywhere at all."""
        slots = [s.expand(out.shape) for s in slots]
        self.atoms.slots[out] = [s for s in slots if bool((s > 0).any())]

    def _follow(self, func, args, kwargs, out) -> None:
        name = func._schema.name.removeprefix("aten::")
        name = name if name.startswith("__") else name.rstrip("_")
        rule = getattr(self, f"op_{name.lstrip('_')}", None)
        if rule is not None:
            done = rule(args, kwargs, out)
        elif name in INDEXING:
            done = self._indexing(func, args, kwargs, out)
        elif name in SAME:
            done = self.keep(out, self.slots(args[0]))
        elif name in REDUCING and not isinstance((*args, None)[1], Tensor):
            done = self._reduce(name, args, kwargs, out)
        elif name in LINEAR | ODD | POINTWISE:
            done = self._elementwise(name, args, kwargs, out)
        elif name in ALONG:
            for s in self.slots(args[0]):
                self.atoms.cap(s, PERMUTATION)
            done = self.keep(out, self.slots(args[0]))
        elif name in POOLING:
            done = self._pool(name, args, out)
        else:
            done = None if name in NEUTRAL else name
        if isinstance(done, str):  # the operation is not understood
            for t in _tensors((args, kwargs)):
                for s in self.slots(t):
                    self.atoms.give_up(s, done)
            for o in _tensors(out):
                self.atoms.slots[o] = []

    # shapes

    def _indexing(self, func, args, kwargs, out) -> None:
        done = [func(s, *args[1:], **kwargs) for s in self.slots(args[0])]
        for i, o in enumerate(_tensors(out)):
            self.keep(o, [d if isinstance(d, Tensor) else d[i] for d in done])

    def op_view(self, args, kwargs, out) -> None:
        self.keep(out, [s.reshape(out.shape) for s in self.slots(args[0])])

    op_reshape = op_unsafe_view = op_reshape_alias = op_view

    def op_copy(self, args, kwargs, out) -> None:
        self.keep(out, self.slots(args[1]))

    def op_cat(self, args, kwargs, out) -> None:
        parts, dim = args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0)
        most = max(len(self.slots(p)) for p in parts)
        columns = []
        for i in range(most):
            rows = [
                self.slots(p)[i]
                if i < len(self.slots(p))
                else torch.zeros_like(p, dtype=torch.long)
                for p in parts
            ]
            columns.append(torch.cat(self._one_stream(rows, dim % out.ndim), dim))
        self.keep(out, columns)

    def _one_stream(self, rows: list[Tensor], dim: int) -> list[Tensor]:
        """Parts side by side along another index (class token, patches) are tied."""
        first = rows[0]
        if dim in _varies(first) or not first.any():
            return rows
        one, made = first.narrow(dim, 0, 1), [first]
        for row in rows[1:]:
            same = bool(row.any()) and _varies(row) == _varies(first)
            if same:
                self.atoms.tie(one, row.narrow(dim, 0, 1))
            made.append(one.expand(row.shape) if same else row)
        return made

    def op_constant_pad_nd(self, args, kwargs, out) -> None:
        x, pads = args[:2]
        kept = []
        for s in self.slots(x):
            if any(d >= x.ndim - len(pads) // 2 for d in _varies(s)):
                kept.append(torch.constant_pad_nd(s, pads, 0))
            else:
                kept.append(s[tuple(slice(None if d in _varies(s) else 1)
                                    for d in range(s.ndim))])  # fmt: skip
        self.keep(out, kept)

    # elementwise

    def _elementwise(self, name, args, kwargs, out) -> str | None:
        operands = _tensors((args, kwargs))
        if any(math.prod(o.shape) > out.numel() for o in operands) and out.ndim:
            return name
        if not out.ndim:  # a loss with its mean inside: as elementwise, then summed
            shape = torch.broadcast_shapes(*(o.shape for o in operands))
            if name in LINEAR:
                return None
            self._meet(operands, shape, PERMUTATION)
            return None
        group = SIGNED if name in ODD else PERMUTATION
        if name in ("mul", "div", "neg"):
            group = ROTATION
        elif name in ("add", "sub", "rsub"):
            group = ROTATION if len(operands) > 1 else PERMUTATION
        product = name in ("mul", "div")
        self.keep(out, self._meet(operands, out.shape, group, product))
        return None

    def _meet(self, operands, shape, group, product=False) -> list[Tensor]:
        """Slots of operands that are combined entry by entry."""
        kept: list[Tensor] = []
        for o in operands:
            others = list(kept)  # an operand's own slots do not meet
            for s in self.slots(o):
                s = s.expand(shape)
                twin = next((k for k in others if _varies(k) & _varies(s)), None)
                if twin is None:
                    kept.append(s)
                    continue
                others = [k for k in others if k is not twin]
                self.atoms.tie(twin, s)
                if product:
                    self.atoms.cap(s, PERMUTATION)
                kept = [torch.where(k > 0, k, s) if k is twin else k for k in kept]
        alive = []
        for s in kept:
            self.atoms.cap(s, group)
            told_apart = False
            for o in operands:
                own = [_varies(x.expand(shape)) for x in self.slots(o)]
                for dim in _varies(s) - set().union(*own):
                    if dim in _varies(o.expand(shape)):
                        told_apart |= self.atoms.remember(s, dim)
                    elif not product:
                        self.atoms.cap(s, PERMUTATION)  # one constant added to all
            alive += [] if told_apart else [s]
        return alive

    def _reduce(self, name, args, kwargs, out) -> str | None:
        x = args[0]
        outs = _tensors(out)
        kept = []
        for s in self.slots(x):
            if name not in ("sum", "mean"):
                self.atoms.cap(s, PERMUTATION)
            dims = args[1] if len(args) > 1 and not isinstance(args[1], bool) else None
            dims = kwargs.get("dim", dims)
            dims = range(x.ndim) if dims is None or dims == [] else dims
            dims = [dims] if isinstance(dims, int) else list(dims)
            dims = {d % x.ndim for d in dims}
            if _varies(s) & dims:
                self.atoms.cap(s, PERMUTATION)
                for d in _varies(s) - dims:
                    self.atoms.remember(s, d)  # sums of different units
                continue
            for d in sorted(dims):
                s = s.narrow(d, 0, 1)
            if outs[0].ndim != x.ndim:
                s = s.reshape([n for d, n in enumerate(s.shape) if d not in dims])
            kept.append(s)
        for o in outs:
            self.keep(o, kept)
        return None

    def op_linalg_vector_norm(self, args, kwargs, out) -> str | None:
        x, dims, keep = args[0], *(*args[2:4], None, False)[:2]
        return self._reduce("amax", (x, dims, keep), {}, out)

    # sums over an index

    def op_bmm(self, args, kwargs, out) -> str | None:
        x, y = args[:2]
        kept = self._contract(self.slots(x), self.slots(y), x.shape, y.shape, x, y)
        if isinstance(kept, str):
            return kept
        self.keep(out, kept)
        return None

    def op_mm(self, args, kwargs, out) -> str | None:
        kept = self._matrix(*args[:2])
        if isinstance(kept, str):
            return kept
        self.keep(out, kept)
        return None

    def _matrix(self, x, y):
        kept = self._contract(
            [s[None] for s in self.slots(x)],
            [s[None] for s in self.slots(y)],
            (1, *x.shape),
            (1, *y.shape),
            x[None],
            y[None],
        )
        return kept if isinstance(kept, str) else [s[0] for s in kept]

    def op_mv(self, args, kwargs, out) -> str | None:
        x, y = args
        kept = self._contract(
            [s[None] for s in self.slots(x)],
            [s[None, :, None] for s in self.slots(y)],
            (1, *x.shape),
            (1, y.shape[0], 1),
        )
        if isinstance(kept, str):
            return kept
        self.keep(out, [s[0, :, 0] for s in kept])
        return None

    def op_addmm(self, args, kwargs, out) -> str | None:
        bias, x, y = args[:3]
        kept = self._matrix(x, y)
        if isinstance(kept, str):
            return kept
        self.atoms.slots[out] = [s.expand(out.shape) for s in kept]
        self.keep(out, self._meet([out, bias], out.shape, ROTATION))
        return None

    def op_baddbmm(self, args, kwargs, out) -> str | None:
        bias, x, y = args[:3]
        kept = self._contract(self.slots(x), self.slots(y), x.shape, y.shape, x, y)
        if isinstance(kept, str):
            return kept
        self.atoms.slots[out] = [s.expand(out.shape) for s in kept]
        self.keep(out, self._meet([out, bias], out.shape, ROTATION))
        return None

    def _contract(self, xs, ys, x_shape, y_shape, x=None, y=None) -> list[Tensor] | str:
        """(B, N, K) times (B, K, M): ties what is summed over, keeps the rest.

        x, y: the factors; where they are constant along K they tell no units apart.
        """
        (b, n, k), m = x_shape, y_shape[2]
        summed_x = [s for s in xs if 2 in _varies(s)]
        summed_y = [s for s in ys if 1 in _varies(s)]
        if any(1 in _varies(s) and not _one_place(s, 2) for s in summed_x) or any(
            2 in _varies(s) for s in summed_y
        ):
            return "a product over an index that a unit spreads over"
        for s in (*xs, *ys):
            if 0 in _varies(s):
                self.atoms.remember(s, 0)  # matrices of a batch are not exchanged
        for s in summed_x:
            for t in summed_y:
                self.atoms.tie(s, t[:, None, :, 0].expand(s.shape))
            if not summed_y and k > 1 and (y is None or 1 in _varies(y)):
                self.atoms.remember(s, 2)
        for t in summed_y:
            if not summed_x and k > 1 and (x is None or 2 in _varies(x)):
                self.atoms.remember(t, 1)
        kept = [s[:, :, :1].expand(b, n, m) for s in xs if 2 not in _varies(s)]
        return kept + [t[:, :1].expand(b, n, m) for t in ys if 1 not in _varies(t)]

    def op_convolution(self, args, kwargs, out) -> str | None:
        x, w, bias, *_, transposed, _, groups = args
        if transposed or groups not in (1, x.shape[1]):
            return "grouped or transposed convolution"
        ins = [s for s in self.slots(x) if 1 in _varies(s)]
        if any(_varies(s) - {0, 1} for s in self.slots(x)):
            return "convolution over an index that a unit spreads over"
        ins = [s[0].flatten(1)[:, 0] for s in ins]  # (C,)
        outs = self._by_axis(w, 0)
        if groups == 1:
            summed = self._by_axis(w, 1)
            self._sum_channels(ins, summed)
        else:
            if w.shape[0] != groups:
                return "grouped or transposed convolution"
            for s in ins:
                for o in outs:
                    self.atoms.tie(s, o)
        for o in outs:
            for b in self.slots(bias):
                self.atoms.tie(o, b)
        view = (1, -1, *[1] * (out.ndim - 2))
        self.keep(out, [o.view(view) for o in outs])
        return None

    def _sum_channels(self, ins, summed) -> None:
        for s in ins:
            for t in summed:
                self.atoms.tie(s, t)
            if not summed:
                self.atoms.remember(s, 0)
        for t in summed:
            if not ins:
                self.atoms.remember(t, 0)

    def _by_axis(self, w: Tensor, axis: int) -> list[Tensor]:
        """The slot of a weight along one of its axes, (n,)."""
        found = [s for s in self.slots(w) if _varies(s) <= {axis} and s.any()]
        found = [s for s in found if axis in _varies(s) or w.shape[axis] == 1]
        return [s.movedim(axis, 0).flatten(1)[:, 0] for s in found]

    # networks

    def op_scaled_dot_product_flash_attention_for_cpu(self, args, kwargs, out):
        q, k, v = args[:3]
        shapes = [(math.prod(t.shape[:-2]), *t.shape[-2:]) for t in (q, k, v)]
        if q.shape[:-2] != k.shape[:-2]:
            return "attention with shared heads"
        qs, ks, vs = (
            [s.reshape(shape) for s in self.slots(t)]
            for t, shape in zip((q, k, v), shapes, strict=True)
        )
        flipped = (shapes[1][0], shapes[1][2], shapes[1][1])
        scores = self._contract(qs, [s.mT for s in ks], shapes[0], flipped)
        if isinstance(scores, str) or scores:
            return scores or "attention scores that carry an index"
        weights = (*shapes[0][:2], shapes[2][1])
        kept = self._contract([], vs, weights, shapes[2])
        if isinstance(kept, str):
            return kept
        outs = _tensors(out)
        self.keep(outs[0], [s.reshape(outs[0].shape) for s in kept])
        return None

    op_scaled_dot_product_flash_attention = (
        op_scaled_dot_product_flash_attention_for_cpu
    )
    op_scaled_dot_product_efficient_attention = (
        op_scaled_dot_product_flash_attention_for_cpu
    )

    def op_embedding(self, args, kwargs, out) -> None:
        weight = args[0]
        for s in self._by_axis(weight, 0):
            self.atoms.remember(s, 0)
        self.keep(out, [s.expand(out.shape) for s in self._by_axis(weight, 1)])

    def op_native_layer_norm(self, args, kwargs, out) -> None:
        affine = [a for a in args[2:4] if isinstance(a, Tensor)]
        outs = _tensors(out)
        kept = self._meet([args[0], *affine], args[0].shape, PERMUTATION)
        self.keep(outs[0], kept)

    def op_fused_rms_norm(self, args, kwargs, out) -> None:
        self.op_native_layer_norm((args[0], args[1], args[2], None), kwargs, out)

    def op_native_batch_norm(self, args, kwargs, out) -> None:
        x, outs = args[0], _tensors(out)
        slots = self.slots(x)
        for statistic in args[1:5]:
            for s in self.slots(statistic):
                s = s.view(1, -1, *[1] * (x.ndim - 2)).expand(x.shape)
                for mine in slots:
                    self.atoms.tie(mine, s)
                slots = slots or [s]
        for s in slots:
            self.atoms.cap(s, PERMUTATION)
            if not self.slots(x):
                self.atoms.remember(s, 1)
        self.keep(outs[0], slots)

    op_native_batch_norm_legit = op_native_batch_norm_legit_no_training = (
        op_native_batch_norm
    )
    op_cudnn_batch_norm = op_batch_norm_with_update = op_batch_norm_no_update = (
        op_native_batch_norm
    )

    def _pool(self, name, args, out) -> str | None:
        outs, kept = _tensors(out), []
        for s in self.slots(args[0]):
            if _varies(s) - {0, 1}:
                return name
            if "max" in name:
                self.atoms.cap(s, PERMUTATION)
            first = s[(..., *[slice(0, 1)] * (s.ndim - 2))]
            kept.append(first)
        self.keep(outs[0], kept)
        return None

    def op_nll_loss_forward(self, args, kwargs, out) -> None:
        for s in self.slots(args[0]):
            for dim in _varies(s):
                self.atoms.remember(s, dim)  # the label picks one of them

    op_nll_loss_nd = op_nll_loss2d_forward = op_nll_loss_forward


def _tensors(tree) -> list[Tensor]:
    leaves = torch.utils._pytree.tree_leaves(tree)
    return [x for x in leaves if isinstance(x, Tensor)]


def _varies(slot: Tensor) -> set[int]:
    """Dimensions along which the unit changes."""
    moving = [d for d in range(slot.ndim) if slot.shape[d] > 1 and slot.stride(d)]
    return {d for d in moving if not bool((slot == slot.narrow(d, 0, 1)).all())}


def _one_place(slot: Tensor, dim: int) -> bool:
    """Whether each label stands at one place of `dim` (rows of several streams)."""
    view = [-1 if d == dim else 1 for d in range(slot.ndim)]
    places = torch.arange(slot.shape[dim], device=slot.device).view(view)
    both = torch.stack([slot, places.expand(slot.shape)]).reshape(2, -1)
    both = both[:, both[0] > 0].unique(dim=1)
    return len(both[0].unique()) == both.shape[1]
