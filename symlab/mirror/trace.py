"""Follow a model's operations to find which hidden units each value belongs to.

A slot is a tensor of labels with the shape of a value; a value has one slot for each
hidden index that it carries (a weight matrix has two). Every rule states how an
operation changes slots, and reports to `atoms` what it implies for the units.

A value without slots is a constant of the model (computed from numbers, buffers and
frozen parameters only) or data. Units are distinguished by the values of constants, and
by their positions in data.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from symlab.mirror.atoms import PERMUTATION, ROTATION, SIGNED, Atoms
from symlab.mirror.slots import (
    along_dim,
    classes_along,
    labels_of,
    line,
    may_vary,
    one_place,
    varies,
)
from symlab.tracing import Mode, compact, operator_name, seen_through, tensors, words

SAMPLES = 256  # positions of a batch at which units' values are kept


# --- following operations ------------------------------------------------------------

INDEXING = words(
    "t transpose permute unsqueeze squeeze expand slice select split split_with_sizes "
    "unbind index_select repeat flip roll narrow diagonal unfold movedim unsafe_split "
)
SAME = words("clone detach alias contiguous to to_copy lift_fresh positive")
LINEAR = words("neg mul div add sub rsub sum mean")
ODD = words("tanh sin erf asinh atan sinh tan sign softshrink hardshrink atanh asin")
EVEN = words("abs square cos cosh")
POINTWISE = words(
    "softshrink hardshrink atanh asin softsign cosh "
    "relu gelu silu sigmoid exp log sqrt rsqrt pow abs square reciprocal clamp "
    "clamp_min clamp_max hardtanh leaky_relu elu celu selu softplus hardswish mish "
    "hardsigmoid threshold cos log1p expm1 log_sigmoid_forward relu6 maximum minimum "
    "where gt ge lt le eq ne logical_and logical_or logical_not masked_fill isnan "
    "bitwise_not mse_loss smooth_l1_loss huber_loss binary_cross_entropy_with_logits "
    "binary_cross_entropy addcmul addcdiv lerp exp2 prelu prelu_kernel max min"
)
REDUCING = words("sum mean amax amin max min var std var_mean logsumexp prod any")
ALONG = words("softmax log_softmax safe_softmax")
VIEWS = words("view reshape unsafe_view reshape_alias")
FILLED = words("zeros_like ones_like full_like new_zeros new_ones new_full")
NEUTRAL = words(
    "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones "
    "new_empty new_full new_empty_strided bernoulli arange"
)


class Trace(Mode):
    """A torch mode that records, in one call, to which hidden units each value belongs.

    A slot is a tensor of integer labels, one for each entry of a value: the label of
    the hidden unit that the entry belongs to, 0 for none. A value has one slot for each
    hidden index that it carries.

    atoms: the `Atoms` that stores labels and records the relations of units.
    originals: weights of the given model, which the loss must not use, because its copy
        is traced.
    """

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
        given = tensors((args, kwargs))
        if any(t in self.originals for t in given):
            raise ValueError(
                "the loss uses weights of the model that was given to it from outside: "
                "compute all of it from its first argument, a copy"
            )
        carry = [a for a in given if self.slots(a)]
        name, full = operator_name(func), func._schema.name
        inplace = full.endswith("_") and not full.endswith("__")
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
            for o in tensors(out):
                if o in self.atoms.slots:
                    self.atoms.slots[o] = []  # overwritten in place
        if name in ALONG | POINTWISE | LINEAR | SAME | INDEXING | VIEWS:
            met = [self.events[t] for t in given if t in self.events]
            for o in tensors(out) if met else ():
                self.events[o] = met[0]
        if name not in FILLED and any(t in self.atoms.varying for t in given):
            for o in tensors(out):
                self.atoms.varying[o] = True
        if base is not None:
            self._write_back(base, args[0])
        return out

    def slots(self, t) -> list[Tensor]:
        """Return the slots (tensors of unit labels) of a value t; [] for constants and
        data.
        """
        return self.atoms.slots.get(t, []) if isinstance(t, Tensor) else []

    def _as(self, given: Tensor, shown: Tensor) -> Tensor:
        """Another view of a value, of the same origin."""
        for origin in (self.atoms.varying, self.direct, self.events):
            if given in origin:
                origin[shown] = origin[given]
        return shown

    def keep(self, out: Tensor, slots: list[Tensor]) -> None:
        """Store the slots (tensors of unit labels) of a result, except those without
        labels.

        out: the result. slots: tensors that broadcast to its shape.
        """
        slots = [s.expand(out.shape) for s in slots]
        self.atoms.slots[out] = [s for s in slots if bool((s > 0).any())]

    def _follow(self, name, func, args, kwargs, out) -> None:
        rule = getattr(self, f"op_{name}", None)
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
        else:
            done = None if name in NEUTRAL else name
        if isinstance(done, str):  # the operation is not understood
            for t in tensors((args, kwargs)):
                for s in self.slots(t):
                    self.atoms.give_up(s, done)
            for o in tensors(out):
                self.atoms.ghosts(o, done)
            return
        first = args[0] if args else None
        if isinstance(first, Tensor) and (name in SAME | INDEXING | VIEWS):
            for o in tensors(out):
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
                summed = [s for s in slots if varies(s) <= dims]
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
            place = seen_through(view, base, labels)
            place.copy_(slots[i] if i < len(slots) else torch.zeros_like(place))
            mine[i] = labels
        self.keep(base, mine)
        if view in self.atoms.varying:
            self.atoms.varying[base] = True

    # shapes

    def _indexing(self, func, args, kwargs, out) -> None:
        done = [func(s, *args[1:], **kwargs) for s in self.slots(args[0])]
        for i, o in enumerate(tensors(out)):
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
        if dim in varies(first) or not first.any():
            return rows
        one, made = first.narrow(dim, 0, 1), [first]
        for row in rows[1:]:
            same = bool(row.any()) and varies(row) == varies(first)
            if same:
                self.atoms.tie(one, row.narrow(dim, 0, 1))
            made.append(one.expand(row.shape) if same else row)
        return made

    def op_constant_pad_nd(self, args, kwargs, out) -> None:
        x, pads = args[:2]
        kept = []
        for s in self.slots(x):
            if any(d >= x.ndim - len(pads) // 2 for d in varies(s)):
                kept.append(torch.constant_pad_nd(s, pads, 0))
            else:
                kept.append(s[tuple(slice(None if d in varies(s) else 1)
                                    for d in range(s.ndim))])  # fmt: skip
        self.keep(out, kept)

    # elementwise

    def _elementwise(self, name, args, kwargs, out) -> str | None:
        out = tensors(out)[0]  # some keep a buffer beside it
        operands = tensors((args, kwargs))
        if any(math.prod(o.shape) > out.numel() for o in operands) and out.ndim:
            return name
        if not out.ndim and name in LINEAR:
            return None
        shape = np.broadcast_shapes(*(tuple(o.shape) for o in operands))
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
                twin = next((i for i in others if varies(kept[i]) & varies(s)), None)
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
                for dim in varies(s)
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
        own = [x for x in own if dim in varies(x)]
        hidden = self._uncovered(own, dim, shape[dim])
        if not hidden.any():
            return False
        x = other.expand(shape)
        if own:
            rest = x.movedim(dim, 0)[hidden]
            if bool((rest == rest.reshape(-1)[0]).all()):
                return False  # padding
            s = torch.where(along_dim(hidden, dim, s.ndim), compact(s)[0], 0)
        constant = other not in self.atoms.varying
        differs = dim in varies(x) or (not constant and may_vary(x, dim))
        if not product and (constant or not differs):
            zero = not bool(x.any())
            if not zero and not (constant and self._fix(s, dim, x)):
                self.atoms.cap(s, PERMUTATION)
            if differs and not zero:
                self.atoms.remember(s, dim, classes_along(x, dim), linear=constant)
        elif differs:
            keys = classes_along(x, dim) if constant else None
            apart = self.atoms.remember(s, dim, keys)
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
        if varies(s) != {dim}:
            return False
        labels = line(s, dim)
        rows = compact(x)[0] if x.stride(dim) else x
        rows = rows.movedim(dim, 0)
        self.atoms.fix(labels, rows.reshape(rows.shape[0], -1))
        return True

    def _along(self, name, args, out) -> None:
        for s in self.slots(args[0]):
            self.atoms.cap(s, PERMUTATION)
            self.atoms.colour(s, name)
            if args[1] % out.ndim in varies(s):
                self.atoms.span(s, name)
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
        outs, kept = tensors(out), []
        linear = name in ("sum", "mean", "norm")
        dims = self._dims(args, kwargs)
        for s in self.slots(x):
            if not linear:
                self.atoms.cap(s, PERMUTATION)
                self.atoms.colour(s, name)
            if varies(s) & dims:
                self.atoms.span(s, name)
                squared = any(s is q for q in self.squares.get(x, ()))
                if linear and name != "norm" and not squared:
                    d = next(iter(varies(s) & dims))
                    if not self._fix(s, d, x.new_ones(()).expand(x.shape)):
                        self.atoms.cap(s, PERMUTATION)
                for d in varies(s) - dims:
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
            if dim % s.ndim in varies(s):
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
            if varies(s) & set(used) and not moved:
                for d in varies(s):
                    self.atoms.remember(s, d)  # data choose some of them
                continue
            kept.append(torch.ops.aten.index(s, indices))
        self.keep(out, kept)
        if moved and x in self.direct:
            self.direct[out] = True
        return None

    def op_argmax(self, args, kwargs, out) -> str | None:
        dims = self._dims(args, kwargs)
        chosen = any(varies(s) & dims for s in self.slots(args[0]))
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
        summed_x = [s for s in xs if 2 in varies(s)]
        summed_y = [s for s in ys if 1 in varies(s)]
        if any(1 in varies(s) and not one_place(s, 2) for s in summed_x) or any(
            2 in varies(s) for s in summed_y
        ):
            return "a product over an index that a unit spreads over"
        batched = [s for s in (*xs, *ys) if 0 in varies(s)]
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
        rest = [s for s in xs if 2 not in varies(s)]
        kept = [s[:, :, :1].expand(b, n, m) for s in rest]
        rest = [t for t in ys if 1 not in varies(t)]
        return kept + [t[:, :1].expand(b, n, m) for t in rest]

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
        mine = torch.where(along_dim(hidden, dim, s.ndim), compact(s)[0], 0)
        if partners:  # padding, or values that are raw in part
            rest = other.movedim(its, 0)[hidden]
            if not bool(rest.any()):
                return
        constant = other not in self.atoms.varying
        if its not in varies(other) and (constant or not may_vary(other, its)):
            if bool(other.any()) and not self._fix_summed(mine, dim, other, its):
                self.atoms.cap(mine, PERMUTATION)
        elif constant:
            if not self._fix_summed(mine, dim, other, its):
                self.atoms.cap(mine, PERMUTATION)
            self.atoms.remember(mine, dim, classes_along(other, its), linear=True)
        else:
            self.atoms.remember(mine, dim)

    def _fix_summed(self, s, dim: int, other, its: int) -> bool:
        if varies(s) - {dim}:
            return False
        labels = line(s, dim)
        if its in varies(other):
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


def _is_odd(name: str, args) -> bool:
    """Whether values are cut at -c and c."""
    return (
        name in ("clamp", "hardtanh")
        and len(args) > 2
        and all(isinstance(a, int | float) for a in args[1:3])
        and args[1] == -args[2]
    )
