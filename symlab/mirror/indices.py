"""Find the hidden indices of a model, and certify the group that acts on each.

`trace` and `atoms` conjecture which units share their axes and what may be done to
them; `certify` tests each conjecture. Where a test fails, a smaller group or a finer
split is tried, and what is left over is called unknown.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from symlab.mirror import certify
from symlab.mirror.atoms import ROTATION, SIGNED, STACK, Atoms, Family
from symlab.mirror.certify import Outcome, Probe
from symlab.mirror.trace import Trace
from symlab.mirror.units import Element, Index

CHEAP = 1e8  # indices times parameters: above it one point has to do
PATTERNS = 24  # at most so many sets of parts are tested for a common sign
BROKEN = "the loss changes under what was thought its symmetry"
UNSURE = "float64 cannot decide whether the loss has this symmetry"
IDLE = "the batch does not exercise it: its gradient is zero"
INFINITE = "the loss is not finite near these weights"
APART = "told apart by the data or constants that they meet"


def indices(
    model: nn.Module, loss: Callable[[nn.Module, object], Tensor], batch
) -> list[Index]:
    """The hidden indices of `loss(model, batch)`, certified: see `audit`.

    Together they hold every axis of every trainable parameter once, those of kind
    'none' and the unknown ones included; attention heads are blocks of others.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng([]):
        private, batch, exact = private_copy(model, loss, batch)
        probe = Probe(private, loss, batch, certify.DOUBLE if exact else certify.SINGLE)
        value = probe.call()
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ValueError(
                "the loss must return one number: reduce it over the batch"
            )
        if not bool(torch.isfinite(value)):
            raise ValueError(
                "the loss is not finite at these weights: nothing to compare"
            )
        if not torch.equal(value, probe.call()):
            raise ValueError(
                "the loss changes from call to call (dropout?): call model.eval() first"
            )
        families, left = _trace(private, probe.call, batch, list(model.parameters()))
        return Search(families, probe, model).run() + left


def families(model: nn.Module, loss, batch) -> list[Family]:
    """What one call says of the units of a `private_copy`, not yet tested."""
    probe = Probe(model, loss, batch, certify.DOUBLE)
    return _trace(model, probe.call, batch, [])[0]


def _trace(model, call, batch, originals) -> tuple[list[Family], list[Index]]:
    atoms = Atoms(model, batch)
    if not atoms.tensors:
        raise ValueError("the model has no trainable parameter")
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque kernel otherwise
    try:
        with Trace(atoms, [p for p in originals if p.requires_grad]):
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    if not atoms.used:
        raise ValueError(
            "the loss uses no parameter of the model that it is given: compute it from "
            "its first argument"
        )
    left = []
    for part, why in atoms.leftover():
        unknown = why if why == STACK else ""
        left.append(Index("none", (part,), unknown=unknown, why=why))
    return atoms.families(), left


# --- conjectures ---------------------------------------------------------------------


@dataclass
class Conjecture:
    """An index under test.

    seed: of its group elements. outcome: of all tests so far. alive: (m,) units that
    had a gradient in some test; idle: units that had none where signs were tested.
    """

    index: Index
    family: Family
    members: np.ndarray
    seed: int
    outcome: Outcome
    alive: Tensor
    idle: Tensor

    def note(self, outcome: Outcome, alive: Tensor) -> None:
        """Remember a test, and which units had a gradient in it."""
        self.outcome |= outcome
        self.alive |= alive.any(0)

    def smaller(self) -> list["Conjecture"]:
        """What to try where the loss has not the group."""
        family, members = self.family, self.members
        if self.index.kind == "rotation":
            return [
                self._with(_index(family, "permutation", g), g)
                for g in _groups(family.alike, members)
            ]
        if self.index.kind == "permutation":
            groups = _groups(family.finer, members)
            if len(groups) > 1:
                return [self._with(_index(family, "permutation", g), g) for g in groups]
        return []

    def _with(self, index: Index, members: np.ndarray) -> "Conjecture":
        return _conjecture(index, self.family, members, self.seed + 1)


def _conjecture(index: Index, family, members, seed: int) -> Conjecture:
    none = torch.zeros(len(members), dtype=torch.bool)
    return Conjecture(index, family, members, seed, Outcome(), none, none.clone())


def _groups(numbers: np.ndarray, members: np.ndarray) -> list[np.ndarray]:
    return [members[numbers[members] == n] for n in np.unique(numbers[members])]


def _index(family: Family, kind: str, members: np.ndarray, **more) -> Index:
    at = torch.from_numpy(members)
    take = lambda t, dim: None if t is None else t.index_select(dim, at)  # noqa: E731
    return Index(
        kind if len(members) > 1 else "none",
        tuple(replace(p, places=p.places[at]) for p in family.parts),
        across=family.across,
        why="" if len(members) > 1 else APART,
        activations=take(family.activations, 1),
        contributions=take(family.contributions, 0),
        **more,
    )


def _conjectures(families: list[Family]) -> list[Conjecture]:
    """Units that nothing tells apart, together; those that are told apart, together."""
    made: list[Conjecture] = []
    for number, family in enumerate(families):
        everyone, single = np.arange(len(family.alike)), []
        if family.unknown:
            index = replace(_index(family, "none", everyone), unknown=family.unknown)
            made.append(_conjecture(index, family, everyone, 0))
            continue
        rotates = family.group == ROTATION
        found = []
        for members in _groups(family.turned if rotates else family.alike, everyone):
            turned, rest = _rotation(family, members) if rotates else (None, members)
            if turned is not None:
                found.append((turned, members))
                continue
            for alike in _groups(family.alike, rest):
                if len(alike) > 1:
                    found.append((_index(family, "permutation", alike), alike))
                else:
                    single.append(alike)
        if single:
            alone = np.concatenate(single)
            index = replace(_index(family, "none", alone), kind="none", why=APART)
            found.append((index, alone))
        for i, (index, members) in enumerate(found):
            made.append(_conjecture(index, family, members, 1000 * number + 10 * i))
    return made


def _rotation(family: Family, members) -> tuple[Index | None, np.ndarray]:
    """All rotations, or those that leave constants in place which the index met."""
    if len(members) < 2:
        return None, members
    subspace = None
    if family.fixed is not None:
        u, s, _ = np.linalg.svd(family.fixed[members], full_matrices=True)
        rank = int((s > 1e-9 * max(s.max(initial=0.0), 1e-300)).sum())
        if len(members) - rank < 2:
            return None, members
        if rank:
            subspace = torch.from_numpy(u[:, rank:].copy())
    return _index(family, "rotation", members, subspace=subspace), members


# --- tests ---------------------------------------------------------------------------


class Search:
    """The tests of all conjectures, at a few random points around the weights."""

    def __init__(self, families: list[Family], probe: Probe, model: nn.Module):
        self.families, self.probe = families, probe
        self.origin = {n: p.detach() for n, p in model.named_parameters()}
        made = _conjectures(families)
        self.tests = [t for t in made if not t.index.unknown]
        self.done = [t for t in made if t.index.unknown]
        self.wholes = {id(f): Index("none", f.parts) for f in families}
        self.euler: dict[int, list] = {id(f): [] for f in families}
        self.limits: dict[int, Tensor] = {}
        self.floors: dict[int, list] = {}

    def run(self) -> list[Index]:
        self._more_points()
        for point in range(certify.POINTS):
            if not self._go(point):
                lost = [*self.done, *self.tests]
                return [replace(t.index, kind="none", unknown=INFINITE) for t in lost]
            self._test_alone(point)
            self._test_jointly(point)
            self.done += [t for t in self.tests if not t.outcome.passed]
            self.tests = [t for t in self.tests if t.outcome.passed]
            if not self._cheap():
                break
        scales = self._rescalings()
        return self._finished(scales, self._heads_first(scales))

    # points

    def _more_points(self) -> None:
        """More gradients, to find rescalings of families with few units.

        Two of them far out and near 0, if that is cheap: relu6 is homogeneous up to
        where it is cut.
        """
        needed = [-(-2 * len(f.parts) // len(f.alike)) + 1 for f in self.families]
        extra = min(max(needed, default=0), certify.EULER) - certify.POINTS
        factors = [10.0, 0.1] if self._cheap() else []
        for point, factor in enumerate([*factors, *[1.0] * extra]):
            if self.probe.move(self.origin, 100 + point, factor):
                self._note_euler(self.probe.rounding(point))

    def _note_euler(self, noisy: dict[str, Tensor]) -> None:
        """Keep what `exponents` needs of this point, where it is above rounding."""
        null = self.probe.tolerance.null
        for key, whole in self.wholes.items():
            rows = self.probe.euler(whole)
            other = self.probe.euler(whole, noisy)
            unsure = (rows - other).norm(dim=1) > null * rows.norm(dim=1)
            self.euler[key].append(rows.masked_fill(unsure[:, None], 0.0))

    def _go(self, point: int, factor: float = 1.0) -> bool:
        """To a new point; False where the loss is not finite there."""
        if not self.probe.move(self.origin, point, factor):
            return False
        noisy = self.probe.rounding(point)
        self._note_euler(noisy)
        for key, whole in self.wholes.items():
            self.floors[key] = self.probe.floors(whole, noisy)
            least = self.probe.euler_rounding(whole, self.floors[key])
            self.limits[key] = torch.maximum(self.limits.get(key, least), least)
        return True

    def _cheap(self) -> bool:
        """Whether each index may be tested at every point, or at one only."""
        moved = sum(t.index.kind != "none" for t in self.tests)
        return moved * sum(p.numel() for p in self.origin.values()) < CHEAP

    def _noise(self, t: Conjecture) -> list[Tensor]:
        at = torch.from_numpy(t.members)
        return [f[at] for f in self.floors[id(t.family)]]

    # exchanges and rotations

    def _test_alone(self, point: int) -> None:
        """Keep those that pass; of one that fails, test what it splits into."""
        queue, passed = self.tests, []
        while queue:
            t, *queue = queue
            if t.index.kind == "none":
                passed.append(t)
                continue
            g = certify.alone(t.index, t.seed + point)
            t.note(*self.probe.test(t.index, g, self._noise(t)))
            if t.outcome.passed:
                passed.append(t)
            elif smaller := t.smaller():
                queue = smaller + queue
            else:
                self.done.append(t)
        self.tests = passed

    def _test_jointly(self, point: int) -> None:
        """One element of every index at once; outcomes are noted on each."""
        moved = [t for t in self.tests if t.index.kind != "none"]
        pairs = [(t, certify.jointly(t.index, t.seed + point)) for t in moved]
        for (t, _), outcome in zip(pairs, self._image(pairs), strict=True):
            t.note(*outcome)
        self._undo(pairs)

    def _undo(self, pairs: list) -> None:
        for t, g in reversed(pairs):
            t.index.act_(certify.inverse(g), self.probe.tensors)

    def _image(self, pairs: list) -> list:
        """Outcomes for each (conjecture, element), where all act at once.

        The tensors are left at the image; the gradient goes back to the point.
        """
        probe = self.probe
        for t, g in pairs:
            t.index.act_(g, probe.tensors)
        found = probe.gradient()
        for t, g in pairs:
            t.index.act_(g.dual(), probe.base)
        outcomes = []
        for t, g in pairs:
            noise = [certify.reach(f, g, slice(None)) for f in self._noise(t)]
            still = replace(t.index, kind="none")
            outcomes.append(probe.compare(still, Element(), found, noise))
        for t, g in reversed(pairs):
            t.index.act_(certify.inverse(g.dual()), probe.base)
        return outcomes

    # what each unit allows by itself

    def _rescalings(self) -> list[list]:
        """Exponents of the rescalings that pass, for each test.

        All are tested at once: in the logarithms of the factors the difference is
        analytic, and vanishes everywhere if it does at a random point. If that fails,
        by halves.
        """
        pairs, ways, null = [], [], self.probe.tolerance.null
        for t in self.tests:
            rows = self.euler[id(t.family)]
            euler = torch.cat([r[t.members] for r in rows])
            if len(euler) < 2 * euler.shape[1]:  # few units: others of their kind help
                euler = torch.cat(rows)
            limits = self.limits[id(t.family)].numpy()
            ways.append(list(certify.exponents(euler.numpy(), limits, null)))
            for k, s in enumerate(ways[-1]):
                pairs.append((t, certify.rescaled(t.index, s, t.seed + k)))
        if not pairs:
            return ways
        outcomes = self._together(pairs)
        passed, result = iter(zip(pairs, outcomes, strict=True)), []
        for some in ways:
            mine = [(s, *next(passed)) for s in some]
            result.append([s for s, _, o in mine if o.passed])
            for _, (t, _), o in mine:
                if o.passed:
                    t.outcome |= o
        return result

    def _together(self, pairs: list) -> list[Outcome]:
        """Outcomes of (conjecture, element), all at once; by halves if that fails."""
        if len(pairs) == 1:
            ((t, g),) = pairs
            return [self.probe.test(t.index, g, self._noise(t))[0]]
        outcomes = [o for o, _ in self._image(pairs)]
        self._undo(pairs)
        if all(o.passed for o in outcomes):
            return outcomes
        half = len(pairs) // 2
        return self._together(pairs[:half]) + self._together(pairs[half:])

    def _signs(self, scales: list) -> list[list]:
        """Sets of parts that may change sign together, for each test.

        A unit that is idle at a point (cut off, or constant) would pass for anything:
        what it leaves open is tested at other points.
        """
        found: list[list] = [[] for _ in self.tests]
        few = None if self._cheap() else 1
        queue = [
            (i, pattern, torch.zeros(len(t.index.parts), t.index.units) > 0)
            for i, t in enumerate(self.tests)
            for pattern in _patterns(t.index, t.family, scales[i], few)[:PATTERNS]
        ]
        if few:
            return self._signs_jointly(queue, found)
        for point, small in enumerate((1.0, 0.1, 0.3)):
            if point and not (queue and self._go(200 + point, small)):
                break
            again = []
            for i, pattern, seen in queue:
                t = self.tests[i]
                if t.index.kind == "none" and len(found[i]) > 1:
                    continue  # enough is known of units that are never compared
                outcome, alive, moved = _signed(
                    t, pattern, t.seed + point, self._noise(t), self.probe
                )
                seen = seen | alive
                last = point == 2  # what has no gradient anywhere does not count
                used = [p for p in pattern if not last or bool(seen[p].any())]
                used = [p for p in used if t.index.parts[p].trainable]
                if not outcome.passed:
                    continue
                lively = seen[used].all(0) if used else seen.any(0)
                some = last and t.index.kind == "none" and bool(lively[moved].any())
                if bool(lively[moved].all()) or some:
                    found[i].append(pattern)
                    t.outcome |= outcome
                    t.idle |= moved & ~lively
                else:
                    again.append((i, pattern, seen))
            queue = again
        return found

    def _signs_jointly(self, queue: list, found: list[list]) -> list[list]:
        """For large models: of each index one unit, for the first set of parts at once.

        Only if that fails, and for further sets, one index after the other.
        """
        seen: set[int] = set()
        firsts = [q for q in queue if not (q[0] in seen or seen.add(q[0]))]
        firsts = [q for q in firsts if self.tests[q[0]].index.kind == "permutation"]
        pairs = []
        for i, pattern, _ in firsts:
            t = self.tests[i]
            pairs.append((t, certify.flips(t.index, pattern, t.seed)[0]))
        passed = False
        if pairs:
            outcomes = [o for o, _ in self._image(pairs)]
            self._undo(pairs)
            passed = all(o.passed for o in outcomes)
        for i, pattern, _ in queue:
            t = self.tests[i]
            if found[i]:
                continue
            if passed and any(i == f[0] and pattern == f[1] for f in firsts):
                found[i].append(pattern)
                continue
            noise = self._noise(t)
            outcome, alive, moved = _signed(t, pattern, t.seed, noise, self.probe)
            used = [p for p in pattern if bool(alive[p].any())]
            if outcome.passed and used and bool(alive[used][:, moved].all()):
                found[i].append(pattern)
                t.outcome |= outcome
        return found

    # the outcome

    def _heads_first(self, scales: list) -> list[Index]:
        """Attention heads, tested before the point is left."""
        found = [
            (replace(t.index, scales=tuple(s)), t)
            for t, s in zip(self.tests, scales, strict=True)
        ]
        return _heads(found, self.probe, self.floors)

    def _finished(self, scales: list, heads: list[Index]) -> list[Index]:
        signs, found = self._signs(scales), []
        for t, s, flips in zip(self.tests, scales, signs, strict=True):
            violation = t.outcome.violation
            if t.index.kind == "none" and not s and not flips:
                violation = float("nan")
            idle = t.index.kind != "none" and float(t.alive.double().mean()) < 0.5
            index = replace(
                t.index, scales=tuple(s), signs=tuple(flips), violation=violation,
                unknown=IDLE if idle else "",
            )  # fmt: skip
            if not index.parts[0].shape:
                found += _numbers_apart(index)
            elif bool(t.idle.any()):
                rest = replace(_some(index, t.idle), unknown=IDLE, signs=(), scales=())
                found += [_some(index, ~t.idle), rest]
            else:
                found.append(index)
        for t in self.done:
            why = t.index.unknown or (UNSURE if t.outcome.unsure else BROKEN)
            violation = t.outcome.violation
            found.append(
                replace(t.index, kind="none", unknown=why, violation=violation)
            )
        return found + heads


def _signed(t: Conjecture, pattern, seed: int, noise, probe: Probe):
    """The tests of sign changes: outcome, (parts, m) with a gradient, (m,) moved."""
    outcome = Outcome()
    lively = torch.zeros(len(t.index.parts), t.index.units, dtype=torch.bool)
    moved = torch.zeros(t.index.units, dtype=torch.bool)
    for g in certify.flips(t.index, pattern, seed):
        one, alive = probe.test(t.index, g, noise)
        outcome |= one
        if not outcome.passed:
            break
        changed = next(iter(g.factors.values())) < 0
        lively |= alive & changed
        moved |= changed
    return outcome, lively, moved


def _patterns(
    index: Index, family: Family, scales, few: int | None = None
) -> list[tuple[int, ...]]:
    """Sets of parts in which a unit may change its sign, to be tested.

    few: how many of those before products and even functions; None for all.
    """
    numbers = range(len(index.parts))
    inputs = index.kind == "none" and all(p.reads for p in index.parts)
    if index.kind == "rotation" or inputs:
        return []  # -1 is a rotation; the inputs of a layer have signs of their own
    found = []
    if family.group >= SIGNED:
        found.append(tuple(p for p in numbers if p not in family.gains))
    found += family.early[:few]
    multiplied = family.products or (few is None and family.gains)
    if family.group >= SIGNED or multiplied:
        for s in scales:
            if all(float(e).is_integer() for e in s):
                found.append(tuple(p for p in numbers if s[p] % 2))
    variance = {i for i, p in enumerate(index.parts) if p.name.endswith("running_var")}
    found = [tuple(p for p in f if p not in variance) for f in found]
    found = [f for f in found if any(index.parts[p].trainable for p in f)]
    return list(dict.fromkeys(found))


def _some(index: Index, units: Tensor) -> Index:
    """The index of some of the units."""
    h, added = index.activations, index.contributions
    return replace(
        index,
        parts=tuple(replace(p, places=p.places[units]) for p in index.parts),
        activations=None if h is None else h[:, units],
        contributions=None if added is None else added[units],
    )


def _numbers_apart(index: Index) -> list[Index]:
    """Parameters without axes: those that change together, and each of the others."""
    moved = {p for s in index.scales for p, e in enumerate(s) if e}
    moved |= {p for pattern in index.signs for p in pattern}
    rest = [p for p in range(len(index.parts)) if p not in moved]
    found = [Index("none", (index.parts[p],), why=APART) for p in rest]
    if not moved:
        return found
    numbers = sorted(moved)
    scales = tuple(tuple(s[p] for p in numbers) for s in index.scales)
    signs = tuple(tuple(numbers.index(p) for p in f) for f in index.signs)
    parts = tuple(index.parts[p] for p in numbers)
    return [replace(index, parts=parts, scales=scales, signs=signs), *found]


# --- attention heads -----------------------------------------------------------------


def _heads(found: list, probe: Probe, floors) -> list[Index]:
    """Attention heads as units: what stands in one matrix of a batch of products."""
    events: dict[int, dict[int, set]] = {}
    for number, (index, t) in enumerate(found):
        stacked = any(p.stack > 1 for p in index.parts)
        for unit, member in enumerate(t.members):
            for event, place in () if stacked else t.family.batched[member]:
                met = events.setdefault(event, {})
                met.setdefault(place, set()).add((number, unit))
    made = []
    for places in events.values():
        blocks: dict[tuple, list[list]] = {}
        for nodes in _joined(list(places.values())):
            nodes = sorted(nodes, key=lambda node: _place(found, node))
            shape = tuple(_axes(found[n][0]) for n, _ in nodes)
            blocks.setdefault(shape, []).append(nodes)
        for heads in blocks.values():
            if len(heads) > 1:
                made.append(_block_index(found, heads))
    tested = [_tested_heads(index, noise(floors), probe) for index, noise in made]
    return [index for index in tested if index is not None]


def _joined(sets: list[set]) -> list[set]:
    """Sets that share a member become one."""
    joined: list[set] = []
    for s in sets:
        rest = []
        for other in joined:
            if other & s:
                s = s | other
            else:
                rest.append(other)
        joined = [*rest, s]
    return joined


def _axes(index: Index) -> tuple:
    return tuple((p.name, p.axis, p.places.shape[1]) for p in index.parts)


def _place(found, node) -> tuple:
    number, unit = node
    index = found[number][0]
    return _axes(index), [p.places[unit].tolist() for p in index.parts]


def _block_index(found, heads: list[list]):
    """The index whose units are the heads, and how to find its rounding.

    What makes up a head (its queries with its keys, its values with its outputs) stays
    apart: each gives parts of its own, even in one matrix.
    """
    sets = []
    for nodes in heads:
        of: dict[int, list[int]] = {}
        for n, unit in nodes:
            of.setdefault(n, []).append(unit)
        sets.append(list(of.items()))
    parts, owners, pairs = [], [], []
    for slot in zip(*sets, strict=True):
        index = found[slot[0][0]][0]
        first = len(parts)
        for i, old in enumerate(index.parts):
            places = [found[n][0].parts[i].places[us].reshape(-1) for n, us in slot]
            parts.append(replace(old, places=torch.stack(places)))
            owners.append((i, slot))
        s = index.rescaling
        if index.kind == "rotation" and s is not None:
            plus = tuple(first + i for i, e in enumerate(s) if e > 0)
            minus = tuple(first + i for i, e in enumerate(s) if e < 0)
            pairs.append((index.units, plus, minus))

    def noise(floors) -> list[Tensor]:
        def size(n, i, us):
            t = found[n][1]
            return floors[id(t.family)][i][t.members[us]].norm()

        return [torch.stack([size(n, i, us) for n, us in slot]) for i, slot in owners]

    return Index("permutation", tuple(parts), heads=True, pairs=tuple(pairs)), noise


def _tested_heads(index: Index, noise: list[Tensor], probe: Probe) -> Index | None:
    """The heads, if they may be exchanged by these parameters alone."""
    outcome = Outcome()
    for make in (certify.alone, certify.jointly):
        outcome |= probe.test(index, make(index, 0), noise)[0]
    return replace(index, violation=outcome.violation) if outcome.passed else None


# --- a private copy ------------------------------------------------------------------


def private_copy(model: nn.Module, loss, batch):
    """A copy in float64, where rounding cannot hide a violation, if the model allows.

    Random layers stay as they are: a dropout in training mode has no exact symmetry. A
    batch of equal numbers (zeros) would tell no input apart: random ones replace it,
    where the loss can be computed with them.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("a scripted model cannot be followed: audit the eager one")
    for n, p in model.named_parameters():
        if hasattr(p, "full_tensor"):
            raise ValueError(
                f"the parameter {n!r} is sharded (a DTensor): audit an unsharded copy, "
                "loaded from the full state dict"
            )
        if p.is_complex():
            raise ValueError(
                f"the parameter {n!r} is complex: only real ones are known"
            )
    single = torch.utils._pytree.tree_map(
        lambda x: x.clone() if isinstance(x, Tensor) else x, batch
    )
    double = torch.utils._pytree.tree_map(
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x,
        single,
    )
    other = torch.utils._pytree.tree_map(_generic, double)
    tolerance = certify.DOUBLE
    for tried in (other, double):
        try:
            copied = _copied(model).double()
            value = Probe(copied, loss, tried, tolerance).call()
            if not isinstance(value, Tensor) or bool(torch.isfinite(value).all()):
                return _copied(model).double(), tried, True
        except Exception:  # float32 made inside the model, or a batch that must be so
            continue
    return _copied(model), single, False


def _generic(x):
    if not (isinstance(x, Tensor) and x.is_floating_point() and x.numel() > 1):
        return x
    if not bool((x == x.reshape(-1)[0]).all()):
        return x
    draws = torch.Generator().manual_seed(0)
    return torch.randn(x.shape, generator=draws).to(x)


def _copied(model: nn.Module) -> nn.Module:
    """A deep copy; activations that modules keep of an earlier call are detached."""
    memo: dict = {}
    for module in model.modules():
        for value in torch.utils._pytree.tree_leaves(dict(vars(module))):
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except TypeError as error:
        raise ValueError(f"the model cannot be copied ({error})") from error
