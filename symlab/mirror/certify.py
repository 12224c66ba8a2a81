"""Test conjectured symmetries of a loss on its gradient.

A group element g acts on the parameters of an index (a set of m hidden units). If
l(g theta) = l(theta) for all theta, the gradient at the image is the image of the
gradient. Conversely, if this holds at all points for the gradient with respect to the
parameters that g moves, then l(g theta) - l(theta) does not depend on these parameters,
and it vanishes because it does where they are 0. The gradient is a sharper test than
the loss: each unit and parameter is compared by itself, so that a branch that hardly
changes the loss (a layer scale of 1e-6, a small head beside a large one) is tested as
well as any other.

The tested elements generate the group, so that a subgroup cannot be taken for the whole
group. On each index, one element is tested by itself: for permutations a cycle of all
units, or of all but one if m is odd (an odd permutation), for rotations a random
orthogonal matrix. A second element is tested on all indices at once: a transposition
that joins the cycle, or another random matrix. The commutator of the two is a 3-cycle
(a generic rotation) of one index alone, and with the cycle it generates all
permutations (all rotations). Sign changes and rescalings are tested by themselves. In
exact arithmetic and at a generic point, the probability of a wrong certificate is zero;
see `audit` for the errors that are possible in floating point.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from symlab.mirror.units import Element, Index, Part
from symlab.tracing import Mode, one_by_one

POINTS = 2  # at which every index is tested alone
EULER = 24  # at most so many points to find rescalings with
FLIPS = 10  # sets of units whose signs are changed
SHARP = 300  # times what rounding was seen to do: beyond it a difference is real
CHUNK = 1 << 18  # entries that are compared at once


@dataclass
class Tolerance:
    """Thresholds that decide whether two gradients of one hidden unit agree.

    agree, differ: differences relative to the norm of the gradients. A difference below
        `agree` passes. One above `differ`, and above the measured rounding, violates
        the symmetry. Any other one is undecided, unless the measured rounding, below
        `differ`, explains it.
    noise: the relative perturbation of the parameters by which rounding is measured.
    null: relative size below which a singular value counts as zero.
    """

    agree: float
    differ: float
    noise: float  # relative perturbation of the parameters that shows rounding
    null: float  # singular values below it, relative, are zero


DOUBLE = Tolerance(1e-10, 1e-6, 2.0**-50, 1e-9)
SINGLE = Tolerance(1e-4, 1e-2, 2.0**-21, 1e-3)


class Wide(Mode):
    """A torch mode in which casts from float64 to shorter types do nothing.

    Many norms cast to float32, and the rounding would hide small violations of a
    symmetry.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if (
            func is torch.ops.aten._to_copy.default
            and args[0].dtype == torch.float64
            and kwargs.get("dtype") in (torch.float32, torch.float16, torch.bfloat16)
        ):
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


@dataclass
class Outcome:
    """The result of testing a symmetry on gradients.

    violation: the largest relative difference found.
    wrong: whether some difference is certainly larger than rounding.
    unsure: whether some difference is neither certainly rounding nor certainly larger.
    """

    violation: float = 0.0
    wrong: bool = False
    unsure: bool = False

    def __or__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            max(self.violation, other.violation),
            self.wrong or other.wrong,
            self.unsure or other.unsure,
        )

    @property
    def passed(self) -> bool:
        """Whether all differences are certainly no larger than rounding."""
        return not (self.wrong or self.unsure)


@dataclass
class Probe:
    """Gradients of a model's loss at random weights, on which symmetries are tested.

    model: the model, whose tensors are changed in place.
    loss, batch: the loss is `loss(model, batch)`, a scalar.
    tolerance: the thresholds, for float64 or for float32.

    base: {parameter name: gradient} at the present weights.
    point: the arguments of `move` that led to the present weights.
    jitter: the change of the loss under the last `rounding`.
    """

    model: nn.Module
    loss: object
    batch: object
    tolerance: Tolerance
    point: tuple = field(init=False, default=())
    jitter: float = field(init=False, default=0.0)

    def __post_init__(self):
        self.params = {
            n: p for n, p in self.model.named_parameters() if p.requires_grad
        }
        self.tensors = {n: p.data for n, p in self.params.items()}
        for n, b in self.model.named_buffers():
            if b.is_floating_point():
                self.tensors[n] = b
        self.base: dict[str, Tensor] = {}
        self.value, self.last = 0.0, 0.0
        self.flags: bool | None = None  # whether the loss looks at requires_grad

    def call(self) -> Tensor:
        """Return the loss at the present weights, a scalar tensor."""
        if self.tolerance is SINGLE:
            return self.loss(self.model, self.batch)
        with one_by_one(), Wide():
            return self.loss(self.model, self.batch)

    def gradient(self, names=None) -> dict[str, Tensor]:
        """Return the gradient at the present weights, {parameter name: tensor}.

        names: the names of the parameters for which it is computed, by default all.

        The gradient is zero for a parameter on which the loss does not depend.
        """
        wanted = [n for n in self.params if names is None or n in names]
        with torch.enable_grad(), self._only(set(wanted)):
            value = self.call()
            self.last = float(value.detach())
            if not value.requires_grad:
                return {n: torch.zeros_like(self.params[n]) for n in wanted}
            found = torch.autograd.grad(
                value, [self.params[n] for n in wanted], allow_unused=True
            )
        seen: set[int] = set()
        return {
            n: torch.zeros_like(self.params[n]) if g is None else _own(g.detach(), seen)
            for n, g in zip(wanted, found, strict=True)
        }

    @contextmanager
    def _only(self, names: set[str]):
        """Other parameters keep no graph, unless the loss looks at requires_grad."""
        if self.flags is None:
            value = float(self.call().detach())
            for p in self.params.values():
                p.requires_grad_(False)
            try:
                self.flags = value != float(self.call())
            except RuntimeError:  # it takes gradients itself
                self.flags = True
            for p in self.params.values():
                p.requires_grad_(True)
        for n, p in self.params.items():
            p.requires_grad_(self.flags or n in names)
        try:
            yield
        finally:
            for p in self.params.values():
                p.requires_grad_(True)

    def move(self, origin: dict[str, Tensor], seed: int, factor: float = 1.0) -> bool:
        """Move the weights to a random point near `origin`, in place.

        origin: {parameter name: tensor}. seed: seed of the random point.
        factor: a factor on all matrices; a small one reactivates units that a
            nonlinearity had set to zero.

        Returns whether the loss and its gradient are finite there; if not, smaller
        distances from `origin` have been tried as well.
        """
        for size in (1.0, 0.3, 0.1, 0.03):
            self.base = {}
            self._go(origin, seed, size, factor)
            self.base = self.gradient()
            self.value = self.last
            finite = all(_finite(g) for g in self.base.values())
            if finite and np.isfinite(self.value):
                self.point = (origin, seed, size, factor)
                return True
        return False

    def _go(self, origin: dict[str, Tensor], seed: int, size, factor) -> None:
        draws = torch.Generator().manual_seed(seed)
        for n, p in self.params.items():
            p.data.copy_(origin[n])
            _shake(p.data, size, draws)
            if factor != 1 and p.ndim > 1:
                p.data.mul_(factor)
        for n, t in self.tensors.items():  # batch norm's statistics go with the units
            if n.endswith(("running_mean", "running_var")):
                noise = torch.randn(t.shape, generator=draws).to(t.device)
                t.copy_((0.5 * noise).exp() if n.endswith("var") else 0.5 * noise)

    def rounding(self, seed: int) -> dict[str, Tensor]:
        """Return the gradient at weights that differ from the present ones by rounding.

        seed: seed of the random relative changes.

        The result is {parameter name: tensor}. The present weights are restored
        afterwards.
        """
        draws = torch.Generator().manual_seed(seed)
        for p in self.params.values():
            for some in _pieces(p.data):
                noise = torch.randn(some.shape, generator=draws).to(some)
                some.mul_(noise.mul_(self.tolerance.noise).add_(1))
        noisy = self.gradient()
        self.jitter = abs(self.last - self.value)
        self._go(*self.point)
        return noisy

    def test(self, index: Index, g: Element, noise: list) -> tuple[Outcome, Tensor]:
        """Test whether the gradient transforms as the weights do under a group element.

        index: the m hidden units and the tensor axes that carry them.
        g: the group element, which permutes, rotates or scales the units.
        noise: for each tensor axis, how far rounding changes the gradients, as `floors`
            returns it.

        Returns the `Outcome`, and booleans (number of the index's tensor axes, m):
        whether unit m has a gradient above rounding on each axis.
        """
        kept = {}
        if g.order is None or g.factors:  # otherwise the inverse restores them exactly
            kept = {n: self.tensors[n].clone() for n in index.names}
        index.act_(g, self.tensors)
        try:
            found = self.gradient(index.names)
        finally:
            if kept:
                for n, t in kept.items():
                    self.tensors[n].copy_(t)
            else:
                index.act_(inverse(g), self.tensors)
        del kept
        return self.compare(index, g, found, noise)

    def compare(self, index: Index, g: Element, found, noise) -> tuple[Outcome, Tensor]:
        """Compare the gradient at transformed weights with the transformed gradient.

        index, g, noise: as for `test`.
        found: {parameter name: gradient} at the weights to which g has been applied.

        Each unit is compared separately on each of the index's tensor axes. Returns the
        `Outcome` and booleans (number of tensor axes, m), as `test` does.
        """
        outcome = self._judge_value()
        alive = torch.zeros(len(index.parts), index.units, dtype=torch.bool)
        dual, several = g.dual(), _twice(index)
        acted = {n: self.base[n].clone() for n in several if n in self.base}
        index.act_(dual, acted)
        for number, part in enumerate(index.parts):
            if part.name not in self.base:
                continue
            for units in part.chunks(CHUNK):
                got = part.rows(found[part.name], units)
                if part.name in acted:
                    want = part.rows(acted[part.name], units)
                else:
                    want = _acted(part, number, dual, self.base[part.name], units)
                size = torch.maximum(got.norm(dim=1), want.norm(dim=1)).cpu()
                difference = (got - want).norm(dim=1).cpu()
                if not bool(torch.isfinite(difference).all()):
                    return Outcome(float("nan"), unsure=True), alive
                floor = reach(noise[number], g, units)
                seen = size > SHARP * noise[number].max()  # others are rounding alone
                alive[number, units] |= seen
                outcome |= self._judge(difference[seen], size[seen], floor[seen])
        return outcome, alive

    def _judge_value(self) -> Outcome:
        """The loss itself: what it takes from detached weights has no gradient."""
        size = max(abs(self.value), 1e-300)
        change = abs(self.last - self.value) / size
        limit = max(self.tolerance.agree, SHARP * self.jitter / size)
        return Outcome(change if change > limit else 0.0, wrong=change > limit)

    def _judge(self, difference: Tensor, size: Tensor, floor: Tensor) -> Outcome:
        relative = difference / size
        rounding = SHARP * floor / size
        wrong = (relative > self.tolerance.differ) & (relative > rounding)
        passed = (relative < self.tolerance.agree) | (
            (relative < rounding) & (rounding < self.tolerance.differ)
        )
        return Outcome(
            float(relative.max()) if len(relative) else 0.0,
            bool(wrong.any()),
            not bool((passed | wrong).all()),
        )

    def euler(self, index: Index, gradient: dict | None = None) -> Tensor:
        """Return weights times gradients, summed over each unit's entries on each
        tensor axis.

        index: m hidden units and the tensor axes that carry them.
        gradient: {parameter name: tensor}, by default the gradient at the present
            weights.

        The result is (m, number of tensor axes): the derivative of the loss with
        respect to a factor on a unit's entries on one axis.
        """
        columns, gradient = [], self.base if gradient is None else gradient
        for part in index.parts:
            if part.name not in self.base:
                columns.append(torch.zeros(index.units, dtype=torch.float64))
                continue
            t, g = self.tensors[part.name], gradient[part.name]
            sums = [
                (part.rows(t, u) * part.rows(g, u)).sum(1).double().cpu()
                for u in part.chunks(CHUNK)
            ]
            columns.append(torch.cat(sums))
        return torch.stack(columns, 1)

    def euler_rounding(self, index: Index, noise: list[Tensor]) -> Tensor:
        """Return, for each tensor axis, a bound on how far rounding changes `euler`
        (weights times gradients, summed over a unit): (axes,).

        index: the hidden units and their tensor axes.
        noise: for each axis, how far rounding changes the gradients, as `floors`
            returns it.
        """
        found = []
        for part, floor in zip(index.parts, noise, strict=True):
            t = self.tensors[part.name]
            size = [part.rows(t, u).norm(dim=1).cpu() for u in part.chunks(CHUNK)]
            found.append(SHARP * float((torch.cat(size).double() * floor).max()))
        return torch.tensor(found, dtype=torch.float64)

    def floors(self, index: Index, noisy: dict[str, Tensor]) -> list[Tensor]:
        """Return, for each tensor axis of an index, how far rounding changes gradients:
        (m,).

        index: m hidden units and their tensor axes.
        noisy: the gradient at slightly changed weights, as `rounding` returns it.

        An entry is the norm, over what one unit owns on the axis, of the difference
        from the gradient at the present weights.
        """
        found = []
        for part in index.parts:
            if part.name not in self.base:
                found.append(torch.zeros(index.units))
                continue
            a, b = self.base[part.name], noisy[part.name]
            rows = [
                (part.rows(a, u) - part.rows(b, u)).norm(dim=1).cpu()
                for u in part.chunks(CHUNK)
            ]
            found.append(torch.cat(rows))
        return found


# --- elements of the groups ----------------------------------------------------------


def alone(index: Index, seed: int) -> Element:
    """Return the random group element with which one index is tested by itself.

    index: a set of m hidden units, and the group that may act on them.
    seed: seed of the random choice.

    For rotations it is a random orthogonal matrix (m, m). For permutations it is a
    cycle of all units or, if m is odd, of all but one. Either cycle is an odd
    permutation, which is needed because even permutations generate only half of the
    group.
    """
    draws = torch.Generator().manual_seed(seed)
    m = index.units
    if index.kind == "rotation":
        return Element(matrix=_within(index, _orthogonal(index, draws)))
    order = torch.randperm(m, generator=draws)
    turned = order if m % 2 == 0 else order[1:]  # an odd permutation
    to = torch.arange(m)
    to[turned] = turned.roll(1)
    return Element(order=to)


def jointly(index: Index, seed: int) -> Element:
    """Return the random group element that is tested on all indices of the model at
    once.

    index: a set of m hidden units, and the group that may act on them.
    seed: as for `alone`.

    For rotations it is another random orthogonal matrix; otherwise it exchanges two
    units. Together with the element that `alone` returns for the same seed, it
    generates the group.
    """
    draws = torch.Generator().manual_seed(seed)
    m = index.units
    if index.kind == "rotation":
        other = torch.Generator().manual_seed(seed + 7919)
        return Element(matrix=_within(index, _orthogonal(index, other)))
    order = torch.randperm(m, generator=draws)  # as in `alone`: neighbours, or the
    a, b = (
        order[0],
        order[1 % m],
    )  # unit that the cycle leaves out and one of the others
    to = torch.arange(m)
    to[a], to[b] = b, a
    return Element(order=to)


def inverse(g: Element) -> Element:
    """Return the inverse of a group element."""
    order = None if g.order is None else torch.argsort(g.order)
    matrix = None if g.matrix is None else g.matrix.T
    return Element(order, matrix, {p: 1 / f for p, f in g.factors.items()})


def flips(index: Index, pattern: tuple[int, ...], seed: int) -> list[Element]:
    """Return elements that generate all single-unit sign changes on some tensor axes.

    index: m hidden units.
    pattern: positions, among the tensor axes of the index, of those on which a unit
        changes sign.
    seed: seed of the random choices.

    If units may be exchanged, the sign change of one unit suffices. Otherwise each unit
    gets its own element; for more than FLIPS units there are FLIPS random sets of
    units, each of which overlooks a smaller group with a probability of at most 1/2.
    """
    draws = torch.Generator().manual_seed(seed)
    m = index.units
    ones = torch.ones(m, dtype=torch.float64)
    if index.kind == "permutation":
        sets = [torch.randint(m, (1,), generator=draws)]
    elif m <= FLIPS:
        sets = list(torch.arange(m)[:, None])
    else:
        sets = [(torch.rand(m, generator=draws) < 0.5).nonzero() for _ in range(FLIPS)]
    signs = [ones.index_fill(0, some.reshape(-1), -1.0) for some in sets]
    return [Element(factors=dict.fromkeys(pattern, x)) for x in signs]


def rescaled(index: Index, exponents, seed: int) -> Element:
    """Return the element that scales each unit by its own random c between 0.6 and 1.7.

    index: the hidden units.
    exponents: one number e for each tensor axis of the index; what the unit owns there
        is multiplied by c**e.
    seed: seed of c.
    """
    draws = torch.Generator().manual_seed(seed)
    c = torch.exp(torch.rand(index.units, generator=draws).double() - 0.5)
    return Element(factors={p: c**e for p, e in enumerate(exponents) if e})


def _orthogonal(index: Index, draws) -> Tensor:
    m = index.units if index.subspace is None else index.subspace.shape[1]
    q, r = torch.linalg.qr(torch.randn(m, m, generator=draws, dtype=torch.float64))
    q = q * r.diagonal().sign()
    if torch.linalg.det(q) > 0:  # not a mere rotation: reflections as well
        q[0] *= -1
    return q


def _within(index: Index, q: Tensor) -> Tensor:
    if index.subspace is None:
        return q
    b = index.subspace
    return torch.eye(len(b), dtype=b.dtype) + b @ (q - torch.eye(len(q)).to(q)) @ b.T


# --- rescalings ----------------------------------------------------------------------


def exponents(
    rows: np.ndarray, rounding: np.ndarray, tolerance: float = 1e-9
) -> tuple[tuple[float, ...], ...]:
    """Return the exponents of all rescalings of single units that leave the loss
    unchanged.

    rows: (points * units, axes), weights times gradients as `Probe.euler` returns them.
    rounding: (axes,), the size up to which a column of `rows` is explained by rounding.
    tolerance: relative size below which a singular value counts as zero.

    Each rescaling is a tuple s with rows @ s = 0: what a unit owns on its p-th tensor
    axis is multiplied by c**s[p]. By the chain rule, row . s is the derivative of the
    loss along the rescaling of one unit.
    """
    seen = np.flatnonzero(np.abs(rows).max(0, initial=0.0) > rounding)
    scaled = _unit(rows[:, seen])  # points far out count no more than others
    size = np.abs(scaled).max(0, initial=0.0)
    order = np.argsort(-size, kind="stable")  # the surest are solved for
    seen, size = seen[order], size[order]
    scaled = _unit(scaled[:, order] / size) if len(scaled) else scaled
    if len(scaled) < len(seen) or len(seen) < 2:
        return ()
    _, values, basis = np.linalg.svd(scaled, full_matrices=False)
    null = basis[values < tolerance * values[0]] / size
    found = []
    for row in _reduced(null):
        whole = np.zeros(rows.shape[1])
        whole[seen] = row
        found.append(tuple(float(x) for x in whole))
    return tuple(found)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length one; those of zeros are left out."""
    length = np.linalg.norm(rows, axis=1)
    return rows[length > 0] / length[length > 0, None]


def _reduced(null: np.ndarray) -> np.ndarray:
    """Reduced row echelon form, entries rounded to multiples of 1/12."""
    null, at = null.copy(), 0
    for column in range(null.shape[1]):
        if at == len(null):
            break
        pivot = at + int(np.abs(null[at:, column]).argmax())
        if abs(null[pivot, column]) < 1e-6 * np.abs(null[pivot]).max():
            continue
        null[[at, pivot]] = null[[pivot, at]]
        null[at] /= null[at, column]
        others = [i for i in range(len(null)) if i != at]
        null[others] -= null[others, column][:, None] * null[at]
        at += 1
    rounded = np.round(null * 12) / 12
    return rounded[np.isclose(rounded, null, atol=1e-3).all(1)] + 0.0


# --- small pieces --------------------------------------------------------------------


def _shake(p: Tensor, size: float, draws) -> None:
    """Move p to a random point nearby; what is positive stays so, as variances are."""
    if not p.numel():
        return
    typical = float(p.flatten()[:100_000].abs().median())
    fan = p[0].numel() if p.ndim > 1 else 4
    usual = fan**-0.5
    positive = bool((p > 0).all())
    least = usual / 3 if size == 1 else 0.0
    step = size * max(typical, least) or size * usual
    if positive and size == 1 and typical < 0.1 * usual:  # a layer scale of 1e-6
        p.mul_(usual / typical)
    for some in _pieces(p):
        noise = torch.randn(some.shape, generator=draws).to(some)
        if positive:
            some.mul_(noise.mul_(0.5 * size).exp_())
        else:
            some.add_(noise, alpha=step)


def _pieces(t: Tensor) -> tuple[Tensor, ...]:
    """Views of about CHUNK entries, that what is computed from them stays small."""
    if not (t.ndim and t.numel()):
        return (t,)
    return t.split(max(1, CHUNK // t[0].numel()))


def _finite(t: Tensor) -> bool:
    return all(bool(torch.isfinite(some).all()) for some in _pieces(t))


def _own(g: Tensor, seen: set[int]) -> Tensor:
    """A gradient that may be written to: dense, of memory that no other one has."""
    if g.is_sparse:
        return g.to_dense()
    shared = g.data_ptr() in seen or any(
        n > 1 and stride == 0 for n, stride in zip(g.shape, g.stride(), strict=True)
    )
    seen.add(g.data_ptr())
    return g.clone(memory_format=torch.contiguous_format) if shared else g


def _twice(index: Index) -> set[str]:
    names = [p.name for p in index.parts]
    return {n for n in names if names.count(n) > 1}


def _acted(part: Part, number: int, g: Element, t: Tensor, units: slice) -> Tensor:
    """Rows of the image of t under g, for some units."""
    if g.matrix is not None:
        rows = g.matrix[units].to(t) @ part.rows(t)
    elif g.order is not None:
        moved = replace(part, places=part.places[g.order[units]])
        rows = moved.rows(t)
    else:
        rows = part.rows(t, units)
    if number in g.factors:
        rows = g.factors[number][units].to(t)[:, None] * rows
    return rows


def reach(floor: Tensor, g: Element, units: slice) -> Tensor:
    """Return the rounding of those gradients that the group element g moves to some
    units.

    floor: (m,), how far rounding changes the gradient of each of the m units on one
        tensor axis, as `Probe.floors` returns it.
    units: a slice that selects units; the result has one entry for each of them.
    """
    if g.matrix is not None:
        return floor.square().mean().sqrt().expand(len(floor))[units]
    if g.order is not None:
        return torch.maximum(floor, floor[g.order])[units]
    return floor[units]
