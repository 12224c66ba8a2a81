"""Propose removals of hidden units that leave the outputs of a model unchanged.

  dead      nothing reads the unit, or its value is 0 for every input
  constant  the unit's value is the same for every input; its effect is added to the
            bias of each layer that reads it
  merged    another unit computes the same function up to certified signs and factors;
            the weights that read both are added up
  cut       a matrix product has a lower rank than its inner width, which is reduced
  heads     an attention head contributes nothing, or has the attention pattern of
            another head

Proposals are made from the weights and from recorded values of the units; `compress`
verifies each by comparing outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from symlab.mirror.products import ZERO, cut
from symlab.mirror.reading import Readings
from symlab.mirror.surgery import Draft, epsilon
from symlab.mirror.units import Index

EQUAL = 1e-5  # relative distance below which two units are proposed as equal


@dataclass
class Move:
    """A proposed removal of hidden units; `change(draft, factor)` carries it out.

    owner: number of the index (a set of hidden units or of attention heads) concerned.
    kind: 'dead', 'constant', 'silent', 'merged', 'cut', 'heads' or 'approximated'.
    units: the numbers of the units that are removed; for a narrower product, its new
        width and possibly the numbers of what is narrowed.
    indices: the numbers of the indices that lose units.
    needs: units that must not have been removed before this move is carried out.
    factors: values to try for `factor`, which multiplies a product whose width changes.
    loss: the measured relative change of the outputs.
    """

    owner: int
    kind: str
    units: tuple[int, ...]
    change: Callable[[Draft, float], None]
    indices: tuple[int, ...]
    needs: tuple[int, ...] = ()
    factors: tuple[float, ...] = (1.0,)
    loss: float = 0.0

    @property
    def key(self) -> tuple:
        """The (owner, kind, units) by which proposals are compared: equal keys, equal
        effect.
        """
        return self.owner, self.kind, self.units


def unit_move(s: "Site", kind: str, units: list[int], change, needs=()) -> Move:
    """Return the proposal to remove some units of one index (a set of hidden units).

    s: the index, as a `Site`. units: the numbers of the units to remove.
    kind, change: as for `Move`.
    needs: further units that must not have been removed before.
    """
    units = tuple(units)
    return Move(s.number, kind, units, change, (s.number,), (*units, *needs))


@dataclass
class Site:
    """A set of m hidden units, the tensor axes ("parts") that carry them, and their
    values.

    A part is given by its position in `index.parts`.

    number: the number of the index in the list of all indices.
    writes: parts that compute the units.
    reads: parts of weights that are multiplied with the units' values.
    both: parts that do both, such as a tied embedding; they are among `writes`, too.
    norms: paths of the root-mean-square norms over the units.
    values: for each part in `reads` and `both`, the least, largest, mean and
        root-mean-square value of its inputs, each (m, k), where each unit owns k
        positions of that axis.
    fixed: (m,), whether the unit's value is the same for every input.
    silent: (m,), whether the unit's value is the same throughout the batch at hand.
    bound: the reason why no unit can be removed, '' if units can be removed.
    """

    number: int
    index: Index
    writes: list[int]
    reads: list[int]
    both: list[int]
    norms: list[str]
    values: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]]
    fixed: Tensor
    silent: Tensor
    bound: str = ""


def site(number: int, index: Index, model: nn.Module, met: Readings, random) -> Site:
    """Return the `Site` of an index: the roles of its tensor axes and its units'
    values.

    number: the number of the index in the list of all indices.
    index: the set of hidden units. model: the model that it belongs to.
    met: the units' values at the model's weights.
    random: a sequence of the units' values at other, random weights. They distinguish a
        unit that is constant for every input from one that is constant on the batch
        only.
    """
    keys = [(p.name, p.axis) for p in index.parts]
    both = [i for i, k in enumerate(keys) if k in met.values and k in met.looked_up]
    reads = [i for i, k in enumerate(keys) if k in met.values and i not in both]
    writes = [i for i in range(len(keys)) if i not in reads]

    def at(found: Readings, i: int) -> tuple[Tensor, ...]:
        v, places = found.values[keys[i]], index.parts[i].places
        return tuple(t[places].double() for t in (v.low, v.high, v.mean, v.size))

    values = {i: at(met, i) for i in [*reads, *both]}
    fixed = torch.ones(index.units, dtype=torch.bool)
    for i in values:
        for other in random:
            if keys[i] in other.values:
                low, high, _, _ = at(other, i)
                fixed &= _same(low, high, 1e-12)
    for i, part in enumerate(index.parts):
        if keys[i] in met.looked_up:  # rows that no token of the batch looks up
            weight = model.get_parameter(part.name)
            fixed &= (part.rows(weight.detach().cpu()) == 0).all(1)
    silent = torch.ones_like(fixed) if values else torch.zeros_like(fixed)
    for i, (low, high, _, _) in values.items():
        silent &= _same(low, high, 1e-9) & (met.values[keys[i]].samples > 1)
    norms, bound = _norms(index, model)
    return Site(number, index, writes, reads, both, norms, values, fixed, silent, bound)


def _same(low: Tensor, high: Tensor, rounding: float) -> Tensor:
    """(m,) whether least and largest values (m, k) are equal but for rounding."""
    return (high - low <= rounding * torch.maximum(low.abs(), high.abs())).all(1)


def _norms(index: Index, model: nn.Module) -> tuple[list[str], str]:
    """Paths of root mean square norms over the units, or why they cannot be dropped."""
    if not index.across:
        return [], ""
    found, bound = [], f"the {index.across} reads all units at once"
    for part in index.parts:
        path = part.name.rpartition(".")[0]
        owner = model.get_submodule(path)
        own = [n for n, _ in owner.named_parameters(recurse=False)]
        if isinstance(owner, nn.LayerNorm | nn.GroupNorm):
            return [], bound
        batch = isinstance(owner, nn.modules.batchnorm._NormBase)
        if own == ["weight"] and len(part.shape) == 1 and epsilon(owner) and not batch:
            found.append(path)
    return found, "" if found else bound


# --- units ---------------------------------------------------------------------------


def unit_moves(s: Site, draft: Draft, silent: bool) -> list[Move]:
    """Return the proposals to remove dead and constant units and to merge equal ones.

    s: the hidden units. draft: the tensors with the removals made so far.
    silent: whether to propose also units whose value is constant on the batch only.
    """
    alive = draft.alive(s.index)
    rows = [draft.rows(p, slice(None)) for p in s.index.parts]
    unread = _unread(s, rows) & alive
    moves = [unit_move(s, "dead", [u], _dropping(s, [u])) for u in _list(unread)]
    still = s.silent & alive & ~unread
    for u in _list(still if silent else still & s.fixed):
        kind = "constant" if s.fixed[u] else "silent"
        kind = "dead" if s.fixed[u] and not _constant(s, u) else kind
        moves.append(unit_move(s, kind, [u], folding(s, u)))
    left = alive & ~unread & ~(still & (s.fixed | silent))
    return moves + _merges(s, rows, _list(left))


def _unread(s: Site, rows: list[Tensor]) -> Tensor:
    """(m,) what reads the unit is zero, or was on the way to zero and adds nothing."""
    size = torch.zeros(s.index.units, dtype=torch.float64)
    added = torch.zeros_like(size)
    for i in [*s.reads, *s.both]:
        norm = rows[i].norm(dim=1)
        added += norm * s.values[i][3].amax(1)
        size += norm / norm.max().clamp(min=1e-300)
    low = (size <= 1e-3 * size.max()) & (added <= ZERO * added.max())
    return (size == 0) | low


def _dropping(s: Site, units: list[int]):
    return lambda draft, factor: draft.drop(s.index.parts, units)


def _constant(s: Site, u: int) -> bool:
    """Whether the unit's value is another constant than zero."""
    for low, high, _, _ in s.values.values():
        scale = torch.maximum(low.abs(), high.abs()).amax()
        if bool((high[u].abs() > 1e-9 * scale).any()):
            return True
    return False


def folding(s: Site, u: int):
    """Return the change that removes unit u and adds its constant effect to biases.

    s: the hidden units. The effect on a layer that reads unit u is the unit's mean
    value times its weights there. The result is a function change(draft, factor).
    """

    def change(draft: Draft, factor: float) -> None:
        for i in [*s.reads, *s.both]:
            part, value = s.index.parts[i], s.values[i][2][u]
            bias = _bias(draft, part.name)
            if bias and bool((value != 0).any()):
                draft.own(bias).add_(_added(draft, part, u, value))
        draft.drop(s.index.parts, [u])

    return change


def no_bias(s: Site, u: int, draft: Draft) -> bool:
    """Return whether unit u is constant and some layer that reads it has no bias.

    s: the hidden units. u: the number of the unit.
    draft: the tensors with the removals made so far.
    """
    names = [s.index.parts[i].name for i in [*s.reads, *s.both]]
    return _constant(s, u) and not all(_bias(draft, n) for n in names)


def _bias(draft: Draft, name: str) -> str:
    """The bias of the layer whose weight this is, '' without one."""
    bias = f"{name.removesuffix('weight')}bias"
    return bias if name.endswith("weight") and bias in draft.source else ""


def _added(draft: Draft, part, u: int, value: Tensor) -> Tensor:
    """What a constant unit adds to the layer that reads it, (outputs,)."""
    t = draft.tensor(part.name)
    alone = Draft({part.name: torch.zeros_like(t)})  # the unit's entries, others zero
    rows = draft.rows(part, [u]).view(len(value), -1) * value.to(t)[:, None]
    alone.put(part, [u], rows)
    weights = alone.tensor(part.name)
    other = 1 if part.axis == 0 and t.ndim > 1 else 0
    return weights.sum([d for d in range(t.ndim) if d != other])


def canonical(s: Site, rows: list[Tensor]) -> Tensor:
    """Return factors, per unit and tensor axis, that make the units' weights
    comparable.

    s: the m hidden units.
    rows: for each of the index's tensor axes (parts), the entries (m, entries) that the
        units own.

    The result is (m, number of parts). Its factors are certified symmetries. For each
    rescaling, a unit's entries on one part that computes it get the norm 1; for each
    sign change, a fixed random combination of these entries becomes positive. Units
    that compute the same function up to these symmetries then have equal incoming
    weights.
    """
    order = sorted(s.writes, key=lambda p: -rows[p].shape[1])
    factors = torch.ones(s.index.units, len(rows), dtype=torch.float64)
    for p, way in _pivots([list(x) for x in s.index.scales], order):
        size = rows[p].norm(dim=1) * factors[:, p]
        positive = size > 0
        c = torch.where(positive, size, 1.0) ** (-1 / way[p])
        factors = factors * c[:, None] ** torch.tensor(way, dtype=torch.float64)
    parity = [[int(p in x) for p in range(len(rows))] for x in s.index.signs]
    draws = torch.Generator().manual_seed(0)
    for p, pattern in _pivots(parity, order, modulo=2):
        v = torch.randn(rows[p].shape[1], generator=draws, dtype=torch.float64)
        minus = (rows[p] @ v) * factors[:, p] < 0
        flip = torch.tensor(pattern, dtype=torch.bool)
        factors = torch.where(minus[:, None] & flip, -factors, factors)
    return factors


def _pivots(vectors: list[list], order: list[int], modulo: int = 0):
    """Each vector with a part of its own, that later vectors do not touch."""
    found = []
    while vectors:
        v, *vectors = vectors
        p = next((p for p in order if abs(v[p]) > 1e-9), None)
        if p is None:
            continue
        found.append((p, v))
        reduced = [[a - b * w[p] / v[p] for a, b in zip(w, v, strict=True)]
                   for w in vectors]  # fmt: skip
        vectors = [[x % modulo for x in w] for w in reduced] if modulo else reduced
    return found


def _merges(s: Site, rows: list[Tensor], live: list[int]) -> list[Move]:
    """Units that compute the same function become the first of them."""
    matrices = any(rows[p].shape[1] > 1 for p in s.writes)
    told_apart = s.index.kind == "none" and not (s.index.unknown and matrices)
    if len(live) < 2 or told_apart or (s.both and not s.norms):
        return []
    factors = canonical(s, rows)
    near = distances(s, rows, factors, live) <= EQUAL
    moves, taken = [], torch.zeros(len(live), dtype=torch.bool)
    for a, i in enumerate(live):
        same = near[a] & ~taken
        same[: a + 1] = False
        if taken[a] or not bool(same.any()):
            continue
        taken |= same
        copies = [live[b] for b in _list(same)]
        groups = [copies] if s.norms else [[j] for j in copies]
        for g in groups:
            change = merging(s, i, g, factors)
            moves.append(unit_move(s, "merged", g, change, needs=[i]))
    return moves


def distances(s: Site, rows, factors: Tensor, live: list[int]) -> Tensor:
    """Return the relative difference of the incoming weights of n units, pair by pair,
    (n, n).

    s: the hidden units.
    rows: for each tensor axis (part) of the index, the entries that each unit owns.
    factors: (m, number of parts), which multiply `rows`, as `canonical` returns them.
    live: the numbers of the n units that are compared.

    The difference is computed on each part that computes the units; the result is the
    largest of these.
    """
    worst = torch.zeros(len(live), len(live), dtype=torch.float64)
    for p in s.writes:
        x = (rows[p] * factors[:, p, None])[live]
        gram = x @ x.T
        square = gram.diagonal()
        d = (square[:, None] + square[None] - 2 * gram).clamp(min=0).sqrt()
        size = square.sqrt()
        scale = torch.maximum(size[:, None], size[None]).clamp(min=1e-300)
        if x.shape[1] == 1:  # biases and gains: relative to those of all units
            scale = scale.clamp(min=float(size.max()))
        worst = torch.maximum(worst, d / scale.clamp(min=1e-300))
    return worst


def merging(s: Site, i: int, copies: list[int], factors: Tensor):
    """Return the change that removes copies of unit i and adds their outgoing weights
    to it.

    s: the hidden units. copies: the numbers of the units that are removed.
    factors: (m, number of tensor axes), which make unit i and its copies equal, as
        `canonical` returns them.

    If root-mean-square norms act on the units, unit i, which then represents c units,
    is scaled by sqrt(c), so that the sum of squares is unchanged. The result is a
    function change(draft, factor).
    """
    root = (len(copies) + 1) ** 0.5 if s.norms else 1.0
    gains = {f"{n}.weight" for n in s.norms}

    def change(draft: Draft, factor: float) -> None:
        for p, part in enumerate(s.index.parts):
            mine = draft.rows(part, [i])
            if p in s.reads:
                for j in copies:
                    ratio = factors[j, p] / factors[i, p]
                    mine = mine + ratio * draft.rows(part, [j])
                draft.put(part, [i], mine / root)
            elif root != 1.0 and part.name not in gains:
                draft.put(part, [i], mine * root)
        draft.drop(s.index.parts, copies)

    return change


def cut_move(s: Site, width: int, kind: str = "cut") -> Move:
    """Return the proposal to narrow the weight product over the units of s to `width`.

    kind: the kind of the `Move`.
    """

    def change(draft: Draft, factor: float) -> None:
        cut(s.index, width, draft)

    return Move(s.number, kind, (width,), change, (s.number,))


def _list(mask: Tensor) -> list[int]:
    return mask.nonzero()[:, 0].tolist()
