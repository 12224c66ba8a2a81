"""Following a model's operations: which hidden units each value belongs to.

A slot is a tensor of labels with the shape of a value; a value has one slot for each
hidden index that it carries (a weight has two). Every rule says what an operation does
to slots, and reports to `atoms` what it means for the units: see there.

A value without slots is a constant of the model (made of numbers, buffers and frozen
parameters only) or data. Constants tell units apart by their values, data by place.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from symlab.mirror.atoms import PERMUTATION, ROTATION, SIGNED, Atoms, compact, labels_of

SAMPLES = 256  # positions of a batch at which units' values are kept


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# --- following operations ------------------------------------------------------------

INDEXING = _words(
    "t transpose permute unsqueeze squeeze expand slice select split split_with_sizes "
    "unbind index_select repeat flip roll narrow diagonal unfold movedim unsafe_split "
)
SAME = _words("clone detach alias contiguous to _to_copy lift_fresh positive")
LINEAR = _words("neg mul div add sub rsub sum mean")
ODD = _words("tanh sin erf asinh atan sinh tan sign softshrink hardshrink atanh asin")
EVEN = _words("abs square cos cosh")
POINTWISE = _words(
    "softshrink hardshrink atanh asin softsign cosh "
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
VIEWS = _words("view reshape _unsafe_view _reshape_alias")
FILLED = _words("zeros_like ones_like full_like new_zeros new_ones new_full")
NEUTRAL = _words(
    "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones "
    "new_empty new_full new_empty_strided bernoulli arange"
)


class Trace(TorchDispatchMode):
    """Carries slots along: labels of hidden units, tensors of the values' shape."""

    def __init__(self, atoms: Atoms, originals=()):
        super().__init__()
        self.originals = WeakIdKeyDictionary()  # weights of the model that was given
        for t in originals:
            self.originals[t] = True
        self.atoms = atoms
        self.names, self.direct = WeakIdKeyDictionary(), WeakIdKeyDictionary()
        self.squares = WeakIdKeyDictionary()  # of a value whose sum may follow
        self.events, self.event = WeakIdKeyDictionary(), 0  # of scores, their product
        for name, t in atoms.tensors.items():
            self.names[t] = name
            if t.requires_grad:
                self.direct[t] = True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        if any(t in self.originals for t in given):
            raise ValueError(
                "the loss uses weights of the model that was given to it from outside: "
                "compute all of it from its first argument, a copy"
            )
        carry = [a for a in given if self.slots(a)]
        name = func._schema.name.removeprefix("aten::")
        inplace = name.endswith("_") and not name.endswith("__")
        name = name if name.startswith("__") else name.rstrip("_")
        base = args[0]._base if inplace and isinstance(args[0], Tensor) else None
        if carry:
            self._settle(name, args, kwargs, carry)
        out = func(*args, **kwargs)
        for t in given:
            if t in self.names:
                self.atoms.used.add(self.names[t])
        if carry:
            self._follow(name, func, args, kwargs, out)
        else:
            for o in _tensors(out):
                if o in self.atoms.slots:
                    self.atoms.slots[o] = []  # overwritten in place
        if name in ALONG | POINTWISE | LINEAR | SAME | INDEXING | VIEWS:
            met = [self.events[t] for t in given if t in self.events]
            for o in _tensors(out) if met else ():
                self.events[o] = met[0]
        if name not in FILLED and any(t in self.atoms.varying for t in given):
            for o in _tensors(out):
                self.atoms.varying[o] = True
        if base is not None:
            self._write_back(base, args[0])
        return out

    def slots(self, t) -> list[Tensor]:
        return self.atoms.slots.get(t, []) if isinstance(t, Tensor) else []

    def _as(self, given: Tensor, shown: Tensor) -> Tensor:
        """Another view of a value, of the same origin."""
        for origin in (self.atoms.varying, self.direct, self.events):
            if given in origin:
                origin[shown] = origin[given]
        return shown

    def keep(self, out: Tensor, slots: list[Tensor]) -> None:
        """Give a result its slots, those that differ anywhere at all."""
        slots = [s.expand(out.shape) for s in slots]
        self.atoms.slots[out] = [s for s in slots if bool((s > 0).any())]

    def _follow(self, name, func, args, kwargs, out) -> None:
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
            done = self._along(name, args, out)
        elif name in POOLING:
            done = self._pool(name, args, out)
        else:
            done = None if name in NEUTRAL else name
        if isinstance(done, str):  # the operation is not understood
            for t in _tensors((args, kwargs)):
                for s in self.slots(t):
                    self.atoms.give_up(s, done)
            for o in _tensors(out):
                self.atoms.ghosts(o, done)
            return
        first = args[0] if args else None
        if isinstance(first, Tensor) and (name in SAME | INDEXING | VIEWS):
            for o in _tensors(out):
                if first in self.direct:
                    self.direct[o] = True

    def _settle(self, name, args, kwargs, carry) -> None:
        """A square that is not summed over its index was an even function."""
        for a in carry:
            if a not in self.squares:
                continue
            slots = self.squares.pop(a)
            if name in ("sum", "mean"):
                dims = self._dims(args, kwargs)
                summed = [s for s in slots if _varies(s) <= dims]
                self.squares[a] = summed
                slots = [s for s in slots if all(s is not x for x in summed)]
            for s in slots:
                self.atoms.cap(s, SIGNED)
                self.atoms.even(s)
                self.atoms.colour(s, "square")

    def _write_back(self, base: Tensor, view: Tensor) -> None:
        """A view was written: its base carries what the view carries, there."""
        slots = self.slots(view)
        if not slots and not self.slots(base):
            return
        mine = [s.clone() for s in self.slots(base)]
        while len(mine) < len(slots):
            mine.append(torch.zeros(base.shape, dtype=torch.long, device=base.device))
        for i, labels in enumerate(mine):
            labels = labels.contiguous()
            if not base.is_contiguous():
                for s in (*self.slots(base), *slots):
                    self.atoms.give_up(s, "writing into a view")
                return
            place = labels.as_strided(
                view.shape, view.stride(), view.storage_offset() - base.storage_offset()
            )
            place.copy_(slots[i] if i < len(slots) else torch.zeros_like(place))
            mine[i] = labels
        self.keep(base, mine)
        if view in self.atoms.varying:
            self.atoms.varying[base] = True

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
        out = _tensors(out)[0]  # some keep a buffer beside it
        operands = _tensors((args, kwargs))
        if any(math.prod(o.shape) > out.numel() for o in operands) and out.ndim:
            return name
        if not out.ndim and name in LINEAR:
            return None
        shape = torch.broadcast_shapes(*(o.shape for o in operands))
        if self._is_square(name, args):
            self.keep(out, self.slots(args[0]))
            self.squares[out] = self.slots(out)
            return None
        group = SIGNED if name in ODD | EVEN or _is_odd(name, args) else PERMUTATION
        if name in ("mul", "div", "neg"):
            group = ROTATION
        elif name in ("add", "sub", "rsub"):
            group = ROTATION if len(operands) > 1 else PERMUTATION
        kept = self._meet(operands, shape, group, name in ("mul", "div"))
        for s in kept:
            if name in EVEN or (name == "pow" and args[1:] == (4,)):
                self.atoms.even(s)
            if name not in LINEAR:
                scalars = [a for a in args if isinstance(a, int | float | str | bool)]
                self.atoms.colour(s, f"{name} {scalars} {kwargs or ''}")
        if name == "div" and len(operands) > 1:
            for s in self.slots(operands[1]):
                self.atoms.cap(s, SIGNED)
                self.atoms.colour(s, "divisor")
        if out.ndim:  # otherwise a loss with its mean inside
            self.keep(out, kept)
        return None

    def _is_square(self, name, args) -> bool:
        if name == "pow":
            return not isinstance(args[1], Tensor) and args[1] == 2
        return name == "square" or (name == "mul" and args[0] is args[1])

    def _meet(self, operands, shape, group, product=False) -> list[Tensor]:
        """Slots of operands that are combined entry by entry."""
        kept: list[Tensor] = []
        weights: list[bool] = []  # whether a kept slot came from a parameter itself
        for o in operands:
            others = list(range(len(kept)))  # an operand's own slots do not meet
            for s in self.slots(o):
                s, direct = s.expand(shape), o in self.direct
                twin = next((i for i in others if _varies(kept[i]) & _varies(s)), None)
                if twin is None:
                    kept.append(s)
                    weights.append(direct)
                    continue
                others.remove(twin)
                k = kept[twin]
                if product:
                    self.atoms.cap(s, SIGNED)
                    self._product(k, s, weights[twin], direct)
                self.atoms.tie(k, s)
                k, s = compact(k, s)
                kept[twin] = torch.where(k > 0, k, s).expand(shape)
                weights[twin] &= direct
        alive = []
        for s, direct in zip(kept, weights, strict=True):
            self.atoms.cap(s, group)
            told = [
                self._tell(s, dim, o, shape, product)
                for o in operands
                for dim in _varies(s)
            ]
            alive += [] if direct and any(told) else [s]
        return alive

    def _product(self, k, s, k_direct: bool, s_direct: bool) -> None:
        self.atoms.even(k, s)
        if k_direct != s_direct:
            self.atoms.gains.append(labels_of(k if k_direct else s))
        else:
            self.atoms.products += [labels_of(k), labels_of(s)]

    def _tell(self, s, dim: int, other: Tensor, shape, product: bool) -> bool:
        """What the units along `dim` of s met in `other`, where it has no units.

        True where data were added to each, as to learned positions.
        """
        own = [x.expand(shape) for x in self.slots(other)]
        own = [x for x in own if dim in _varies(x)]
        hidden = self._uncovered(own, dim, shape[dim])
        if not hidden.any():
            return False
        x = other.expand(shape)
        if own:
            rest = x.movedim(dim, 0)[hidden]
            if bool((rest == rest.reshape(-1)[0]).all()):
                return False  # padding
            s = torch.where(_along_dim(hidden, dim, s.ndim), compact(s)[0], 0)
        constant = other not in self.atoms.varying
        varies = dim in _varies(x) or (not constant and _may_vary(x, dim))
        if not product and (constant or not varies):
            zero = not bool(x.any())
            if not zero and not (constant and self._fix(s, dim, x)):
                self.atoms.cap(s, PERMUTATION)
            if varies and not zero:
                self.atoms.remember(s, dim, _classes(x, dim), linear=constant)
        elif varies:
            apart = self.atoms.remember(s, dim, _classes(x, dim) if constant else None)
            return apart and not product and not own
        return False

    def _uncovered(self, own: list[Tensor], dim: int, n: int) -> np.ndarray:
        """(n,): the places along dim at which a value carries no unit."""
        covered = np.zeros(n, bool)
        for x in own:
            x = compact(x)[0] if x.stride(dim) else x
            at = (x.movedim(dim, 0) > 0).reshape(x.shape[dim], -1).any(1)
            covered |= at.cpu().numpy()
        return ~covered

    def _fix(self, s, dim: int, x: Tensor) -> bool:
        """Report constants x that are added; False where the index spreads."""
        if _varies(s) != {dim}:
            return False
        labels = _line(s, dim)
        rows = compact(x)[0] if x.stride(dim) else x
        rows = rows.movedim(dim, 0)
        self.atoms.fix(labels, rows.reshape(rows.shape[0], -1))
        return True

    def _along(self, name, args, out) -> None:
        for s in self.slots(args[0]):
            self.atoms.cap(s, PERMUTATION)
            self.atoms.colour(s, name)
            if args[1] % out.ndim in _varies(s):
                self.atoms.span(s, name.strip("_"))
        self.keep(out, self.slots(args[0]))

    def _dims(self, args, kwargs) -> set[int]:
        x = args[0]
        dims = args[1] if len(args) > 1 and not isinstance(args[1], bool) else None
        dims = kwargs.get("dim", dims)
        dims = range(x.ndim) if dims is None or dims == [] else dims
        dims = [dims] if isinstance(dims, int) else list(dims)
        return {d % x.ndim for d in dims}

    def _reduce(self, name, args, kwargs, out) -> str | None:
        x = args[0]
        outs, kept = _tensors(out), []
        linear = name in ("sum", "mean", "norm")
        dims = self._dims(args, kwargs)
        for s in self.slots(x):
            if not linear:
                self.atoms.cap(s, PERMUTATION)
                self.atoms.colour(s, name)
            if _varies(s) & dims:
                self.atoms.span(s, name)
                squared = any(s is q for q in self.squares.get(x, ()))
                if linear and name != "norm" and not squared:
                    d = next(iter(_varies(s) & dims))
                    if not self._fix(s, d, x.new_ones(()).expand(x.shape)):
                        self.atoms.cap(s, PERMUTATION)
                for d in _varies(s) - dims:
                    self.atoms.cap(s, PERMUTATION)
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
        x, order = args[0], args[1] if len(args) > 1 else 2
        dims, keep = (*args[2:4], None, False)[:2]
        name = "norm" if order == 2 else "amax"
        if order != 2:
            for s in self.slots(x):
                self.atoms.even(s)
        return self._reduce(name, (x, dims, keep), {}, out)

    def op_glu(self, args, kwargs, out) -> None:
        dim = args[1] if len(args) > 1 else kwargs.get("dim", -1)
        kept = []
        for s in self.slots(args[0]):
            one, gate = s.chunk(2, dim)
            if dim % s.ndim in _varies(s):
                self._product(one, gate, False, False)
                self.atoms.tie(one, gate)
                self.atoms.cap(one, SIGNED)
            self.atoms.colour(gate, "glu")
            kept.append(one)
        self.keep(out, kept)

    def op_index(self, args, kwargs, out) -> str | None:
        x, indices = args[0], args[1]
        used = [d for d, i in enumerate(indices) if i is not None]
        given = [i for i in indices if i is not None]
        if any(i.dtype == torch.bool for i in given):
            return "indexing by a mask"
        plain = len(given) == 1 and given[0].ndim == 1
        moved = plain and given[0] not in self.atoms.varying
        kept = []
        for s in self.slots(x):
            if _varies(s) & set(used) and not moved:
                for d in _varies(s):
                    self.atoms.remember(s, d)  # data choose some of them
                continue
            kept.append(torch.ops.aten.index(s, indices))
        self.keep(out, kept)
        if moved and x in self.direct:
            self.direct[out] = True
        return None

    def op_argmax(self, args, kwargs, out) -> str | None:
        dims = self._dims(args, kwargs)
        chosen = any(_varies(s) & dims for s in self.slots(args[0]))
        return "argmax" if chosen else self._reduce("amax", args, kwargs, out)

    op_argmin = op_argmax

    def op_as_strided(self, args, kwargs, out) -> str | None:
        slots = self.slots(args[0])
        if any(tuple(s.shape) != tuple(args[1]) for s in slots):
            return "as_strided"
        self.keep(out, slots)
        return None

    # sums over an index

    def op_bmm(self, args, kwargs, out) -> str | None:
        x, y = args[:2]
        kept = self._contract(self.slots(x), self.slots(y), x.shape, y.shape, x, y)
        if isinstance(kept, str):
            return kept
        if self.batched is not None:
            self.events[out] = self.batched
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
            self._as(x, x[None]),
            self._as(y, y[None]),
        )
        return kept if isinstance(kept, str) else [s[0] for s in kept]

    def op_mv(self, args, kwargs, out) -> str | None:
        x, y = args
        kept = self._contract(
            [s[None] for s in self.slots(x)],
            [s[None, :, None] for s in self.slots(y)],
            (1, *x.shape),
            (1, y.shape[0], 1),
            self._as(x, x[None]),
            self._as(y, y[None, :, None]),
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

    def _contract(
        self, xs, ys, x_shape, y_shape, x, y, event=None
    ) -> list[Tensor] | str:
        """(B, N, K) times (B, K, M): ties what is summed over, keeps the rest."""
        (b, n, _), m = x_shape, y_shape[2]
        summed_x = [s for s in xs if 2 in _varies(s)]
        summed_y = [s for s in ys if 1 in _varies(s)]
        if any(1 in _varies(s) and not _one_place(s, 2) for s in summed_x) or any(
            2 in _varies(s) for s in summed_y
        ):
            return "a product over an index that a unit spreads over"
        batched = [s for s in (*xs, *ys) if 0 in _varies(s)]
        if batched and event is None:
            event = self._event(x, y)
        for s in batched:
            self.atoms.head(event, s)  # matrices of a batch are not exchanged
        self.batched = event if batched else None
        for s in summed_x:
            for t in summed_y:
                self.atoms.tie(s, t[:, None, :, 0].expand(s.shape))
            self._told(s, 2, y, 1, summed_y)
        for t in summed_y:
            self._told(t, 1, x, 2, summed_x)
        self._reading(summed_x, summed_y, x, y)
        kept = [s[:, :, :1].expand(b, n, m) for s in xs if _not(s, summed_x)]
        return kept + [t[:, :1].expand(b, n, m) for t in ys if _not(t, summed_y)]

    def _event(self, x, y) -> int:
        """One number for the two products of an attention, a new one otherwise."""
        for t in (x, y):
            if t is not None and t in self.events:
                return self.events[t]
        self.event += 1
        return self.event

    def _told(self, s, dim: int, other, its: int, partners: list[Tensor]) -> None:
        """What the units along dim of s are multiplied with, where no unit is."""
        hidden = self._uncovered(partners, its, s.shape[dim])
        if s.shape[dim] == 1 or not hidden.any():
            return
        mine = torch.where(_along_dim(hidden, dim, s.ndim), compact(s)[0], 0)
        if partners:  # padding, or values that are raw in part
            rest = other.movedim(its, 0)[hidden]
            if not bool(rest.any()):
                return
        constant = other not in self.atoms.varying
        if its not in _varies(other) and (constant or not _may_vary(other, its)):
            if bool(other.any()) and not self._fix_summed(mine, dim, other, its):
                self.atoms.cap(mine, PERMUTATION)
        elif constant:
            if not self._fix_summed(mine, dim, other, its):
                self.atoms.cap(mine, PERMUTATION)
            self.atoms.remember(mine, dim, _classes(other, its), linear=True)
        else:
            self.atoms.remember(mine, dim)

    def _fix_summed(self, s, dim: int, other, its: int) -> bool:
        if _varies(s) - {dim}:
            return False
        labels = _line(s, dim)
        if its in _varies(other):
            rows = other.movedim(its, 0).reshape(len(labels), -1)
        else:
            rows = other.new_ones(len(labels), 1)
        self.atoms.fix(labels, rows)
        return True

    def _reading(self, summed_x, summed_y, x, y) -> None:
        """Keep the norm of what each unit adds, and its values if weights read it."""
        if not summed_x and not summed_y:
            return
        labels = summed_x[0][:, 0] if summed_x else summed_y[0][:, :, 0]
        x_read, y_read = x in self.direct, y in self.direct
        values = None
        if y_read and not x_read:
            values, other = x, y.norm(dim=2)
        elif x_read and not y_read:
            values, other = y.mT, x.norm(dim=1)
        if values is None:
            norms = x.norm(dim=1) * y.norm(dim=2)
        else:
            for s in summed_y if y_read else summed_x:
                self.atoms.read(s)
            centre = values.mean(1, keepdim=True) if values.shape[1] > 1 else 0.0
            norms = (values - centre).norm(dim=1) * other
        sample = None
        if values is not None and labels.shape[0] == 1:
            step = -(-values.shape[1] // SAMPLES)
            sample = values[0, ::step].detach().double().cpu().numpy()
        self.atoms.reading(labels, norms, sample)

    def op_convolution(self, args, kwargs, out) -> str | None:
        x, w, bias, *_, transposed, _, groups = args
        channel = out.ndim - w.ndim + 1  # 0 without a batch
        if any(_varies(s) - {0, channel} for s in self.slots(x)):
            return "convolution over an index that a unit spreads over"
        ins = [s for s in self.slots(x) if channel in _varies(s)]
        ins = [_line(s, channel) for s in ins]  # (C,)
        if transposed and groups > 1:
            return "grouped transposed convolution"
        outs = self._by_axis(w, 1 if transposed else 0)
        if groups == 1:
            seen = w.movedim(0, 1) if transposed else w
            summed = self._by_axis(w, 0 if transposed else 1)
            self._sum_channels(ins, summed, x, self._as(w, seen), channel)
        elif groups == x.shape[channel] == w.shape[0]:
            for s in ins:
                for o in outs:
                    self._product(s, o, False, True)
                    self.atoms.tie(s, o)
            if not ins:
                for o in outs:
                    self.atoms.remember(o, 0)
        else:
            size = w.shape[0] // groups
            number = np.repeat(np.arange(groups), w.shape[1])
            summed = [s for s in self.slots(w) if 1 in _varies(s) or w.shape[1] == 1]
            summed = [s[::size].flatten(2)[:, :, 0].reshape(-1) for s in summed]
            self._sum_channels(ins, summed, x, None, channel)
            for s in (*ins, *summed):
                self.atoms.remember(s, 0, number)
            for o in outs:
                self.atoms.remember(o, 0, np.repeat(np.arange(groups), size))
        for o in outs:
            for b in self.slots(bias):
                self.atoms.tie(o, b)
        view = [1] * out.ndim
        view[channel] = -1
        self.keep(out, [o.view(view) for o in outs])
        return None

    def _sum_channels(self, ins, summed, x, w, channel: int) -> None:
        flat = self._as(x, x.movedim(channel, -1).reshape(1, -1, x.shape[channel]))
        weight = w.movedim(1, 0).reshape(1, w.shape[1], -1) if w is not None else None
        for s in ins:
            for t in summed:
                self.atoms.tie(s, t)
            if not summed:
                self.atoms.remember(s, 0)
        for t in summed:
            if w is not None:
                self._told(t[None, :, None], 1, flat, 2, [s[None, None] for s in ins])
            elif not ins:
                self.atoms.remember(t, 0)
            self.atoms.read(t)
        if summed and weight is not None:
            values = flat[:, :: -(-flat.shape[1] // SAMPLES)]
            centred = values - values.mean(1, keepdim=True)
            norms = centred.norm(dim=1) * weight.norm(dim=2)
            sample = values[0].detach().double().cpu().numpy()
            self.atoms.reading(summed[0][None], norms, sample)

    def _by_axis(self, w: Tensor, axis: int) -> list[Tensor]:
        """The slot of a weight along one of its axes, (n,)."""
        found = [s for s in self.slots(w) if _varies(s) == {axis}]
        return [_line(s, axis) for s in found]

    # networks

    def op_scaled_dot_product_flash_attention_for_cpu(self, args, kwargs, out):
        q, k, v = args[:3]
        times = q.shape[-3] // k.shape[-3] if q.ndim > 3 else 1
        shapes = [(math.prod(t.shape[:-2]), *t.shape[-2:]) for t in (q, k, v)]
        shared = [1, times, times]  # queries that share a head of keys and values
        qs, ks, vs = (
            [s.repeat_interleave(r, -3).flatten(0, -3) if r > 1 else s.reshape(shape)
             for s in self.slots(t)]
            for t, shape, r in zip((q, k, v), shapes, shared, strict=True)
        )  # fmt: skip
        values = [
            self._as(t, (t.repeat_interleave(r, -3) if r > 1 else t).flatten(0, -3))
            for t, r in zip((q, k, v), shared, strict=True)
        ]
        self.event += 1
        shapes = [tuple(t.shape) for t in values]
        flipped = (shapes[1][0], shapes[1][2], shapes[1][1])
        scores = self._contract(
            qs, [s.mT for s in ks], shapes[0], flipped,
            values[0], self._as(k, values[1].mT), self.event,
        )  # fmt: skip
        if isinstance(scores, str) or any(_varies(s) - {0} for s in scores):
            return scores if isinstance(scores, str) else "scores that carry an index"
        weights = values[0].new_ones(()).expand(*shapes[0][:2], shapes[2][1])
        self.atoms.varying[weights] = True
        kept = self._contract([], vs, weights.shape, shapes[2], weights, values[2],
                              self.event)  # fmt: skip
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

    def _embedding_bag(self, args, kwargs, out) -> None:
        weight, outs = args[0], _tensors(out)
        for s in self._by_axis(weight, 0):
            self.atoms.remember(s, 0)
        kept = self._by_axis(weight, 1)
        if len(args) > 4 and args[4] == 2:  # the largest of each bag
            for s in kept:
                self.atoms.cap(s, PERMUTATION)
                self.atoms.colour(s, "max")
        self.keep(outs[0], [s.expand(outs[0].shape) for s in kept])

    op_embedding_bag = op_embedding_bag_forward_only = _embedding_bag

    def op_native_layer_norm(self, args, kwargs, out) -> None:
        outs = _tensors(out)
        dims = set(range(args[0].ndim - len(args[1]), args[0].ndim))
        for s in self.slots(args[0]):
            self.atoms.cap(s, PERMUTATION)
            if _varies(s) & dims:
                self.atoms.span(s, "layer norm")
            self.atoms.colour(s, "layer norm")
        self.keep(outs[0], self._affine(args[0], args[2:4]))

    def _affine(self, x: Tensor, affine) -> list[Tensor]:
        """Multiplied with a gain and shifted by a bias, either may be None."""
        gain, bias = (*affine, None, None)[:2]
        kept = self.slots(x)
        if isinstance(gain, Tensor):
            kept = self._meet([x, gain], x.shape, ROTATION, product=True)
        if isinstance(bias, Tensor):
            shown = self._as(x, torch.empty_like(x))
            self.atoms.slots[shown] = kept
            kept = self._meet([shown, bias], x.shape, ROTATION)
        return kept

    def op_fused_rms_norm(self, args, kwargs, out) -> None:
        outs = _tensors(out)
        dims = set(range(args[0].ndim - len(args[1]), args[0].ndim))
        for s in self.slots(args[0]):
            if _varies(s) & dims:
                self.atoms.span(s, "RMS norm")
        self.keep(outs[0], self._affine(args[0], args[2:3]))

    def op_native_batch_norm(self, args, kwargs, out) -> None:
        x, outs = args[0], _tensors(out)
        channel = 1 if x.ndim > 1 else 0
        slots = self.slots(x)
        for number in (2, 3, 0, 1):  # statistics, then gain and bias
            statistic, view = args[1 + number], [1] * x.ndim
            view[channel] = -1
            for s in self.slots(statistic):
                s = s.view(view).expand(x.shape)
                if number == 0 and slots:
                    self._product(slots[0], s, False, True)
                for mine in slots:
                    self.atoms.tie(mine, s)
                slots = slots or [s]
        for s in slots:
            self.atoms.cap(s, SIGNED)
            self.atoms.colour(s, "batch norm")
            if not self.slots(x):
                self.atoms.remember(s, channel)
        self.keep(outs[0], slots)

    op_native_batch_norm_legit = op_native_batch_norm_legit_no_training = (
        op_native_batch_norm
    )
    op_cudnn_batch_norm = op_batch_norm_with_update = op_batch_norm_no_update = (
        op_native_batch_norm
    )

    def op_native_group_norm(self, args, kwargs, out) -> str | None:
        x, gain, bias = args[:3]
        channels, groups = args[4], args[6]
        if any(_varies(s) - {0, 1} for s in self.slots(x)):
            return "group norm"
        number = np.arange(channels) // (channels // groups)
        for s in self.slots(x):
            self.atoms.cap(s, PERMUTATION)
            self.atoms.colour(s, "group norm")
            self.atoms.span(s, "group norm")
            self.atoms.remember(s, 1, number)
        view = (-1, *[1] * (x.ndim - 2))
        affine = []
        for t in (gain, bias):
            if isinstance(t, Tensor):
                shown = self._as(t, t.view(view))
                self.atoms.slots[shown] = [s.view(view) for s in self.slots(t)]
            affine.append(shown if isinstance(t, Tensor) else None)
        self.keep(_tensors(out)[0], self._affine(x, affine))
        return None

    def _pool(self, name, args, out) -> str | None:
        outs, kept = _tensors(out), []
        x = args[0]
        space = 1 if "1d" in name else 2  # the last dimensions, images or sequences
        for s in self.slots(x):
            if any(d >= x.ndim - space for d in _varies(s)):
                return name
            if "max" in name:
                self.atoms.cap(s, PERMUTATION)
                self.atoms.colour(s, name)
            kept.append(s[(..., *[slice(0, 1)] * space)])
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


def _is_odd(name: str, args) -> bool:
    """Whether values are cut at -c and c."""
    return (
        name in ("clamp", "hardtanh")
        and len(args) > 2
        and all(isinstance(a, int | float) for a in args[1:3])
        and args[1] == -args[2]
    )


def _not(slot: Tensor, others: list[Tensor]) -> bool:
    return all(slot is not o for o in others)


def _line(slot: Tensor, dim: int) -> Tensor:
    """(n,) the labels along dim, where all else is constant."""
    return compact(slot)[0].movedim(dim, 0).reshape(slot.shape[dim], -1)[:, 0]


def _may_vary(x: Tensor, dim: int) -> bool:
    """Whether data differ along dim, if not by chance in this batch."""
    return x.shape[dim] > 1 and x.stride(dim) != 0


def _along_dim(mask: np.ndarray, dim: int, ndim: int) -> Tensor:
    view = [-1 if d == dim else 1 for d in range(ndim)]
    return torch.from_numpy(mask).view(view)


def _classes(x: Tensor, dim: int) -> np.ndarray:
    """(n,): equal numbers where the slices of x along dim are equal."""
    rows = compact(x)[0] if x.stride(dim) else x
    rows = rows.movedim(dim, 0).reshape(rows.shape[dim], -1).detach().cpu().numpy()
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def _varies(slot: Tensor) -> set[int]:
    """Dimensions along which the unit changes.

    A single unit changes nowhere: its dimension is marked by a stride, see `Atoms`.
    """
    moving = [d for d in range(slot.ndim) if slot.shape[d] > 1 and slot.stride(d)]
    found = {d for d in moving if not bool((slot == slot.narrow(d, 0, 1)).all())}
    if found:
        return found
    return {d for d in range(slot.ndim) if slot.shape[d] == 1 and slot.stride(d)}


def _one_place(slot: Tensor, dim: int) -> bool:
    """Whether each label stands at one place of `dim` (rows of several streams)."""
    view = [-1 if d == dim else 1 for d in range(slot.ndim)]
    places = torch.arange(slot.shape[dim], device=slot.device).view(view)
    both = torch.stack([slot, places.expand(slot.shape)]).reshape(2, -1)
    both = both[:, both[0] > 0].unique(dim=1)
    return len(both[0].unique()) == both.shape[1]
