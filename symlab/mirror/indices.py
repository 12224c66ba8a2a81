"""Find the hidden indices of a model, and certify the symmetry group of each.

`trace` and `atoms` conjecture which units lie on the same tensor axes and which group
may act on them; `certify` tests each conjecture. If a test fails, a smaller group or a
finer division of the units is tried; what remains is reported as unknown.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from symlab.mirror import certify
from symlab.mirror.atoms import STACK, Atoms, Family
from symlab.mirror.attention import heads
from symlab.mirror.certify import Outcome, Probe
from symlab.mirror.conjectures import (
    Conjecture,
    conjectures,
    numbers_apart,
    patterns,
    some_units,
)
from symlab.mirror.layers import LayerTrace
from symlab.mirror.private import private_copy
from symlab.mirror.units import Element, Index
from symlab.tracing import one_by_one

CHEAP = 1e8  # indices times parameters: above it one point has to do
PATTERNS = 24  # at most so many sets of parts are tested for a common sign
BROKEN = "the loss changes under what was thought its symmetry"
UNSURE = "float64 cannot decide whether the loss has this symmetry"
IDLE = "the batch does not exercise it: its gradient is zero"
INFINITE = "the loss is not finite near these weights"


def indices(
    model: nn.Module, loss: Callable[[nn.Module, object], Tensor], batch
) -> list[Index]:
    """Return the hidden indices of `loss(model, batch)`, each with its symmetry group.

    A hidden index is a set of units (neurons, channels, heads) with the tensor axes
    that carry them. Together the indices cover every axis of every trainable parameter
    once, including indices of kind 'none' and unknown ones; attention heads are blocks
    of other indices' units. See `audit`. Raises ValueError if the loss is not one
    finite number or changes from call to call.
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
    """Return the families of hidden units that one traced call of the loss suggests.

    They are candidates for symmetries, none of them tested. The model is not copied:
    pass a private copy, such as `private_copy` makes.
    """
    probe = Probe(model, loss, batch, certify.DOUBLE)
    return _trace(model, probe.call, batch, [])[0]


def _trace(model, call, batch, originals) -> tuple[list[Family], list[Index]]:
    atoms = Atoms(model, batch)
    if not atoms.tensors:
        raise ValueError("the model has no trainable parameter")
    with one_by_one(), LayerTrace(atoms, [p for p in originals if p.requires_grad]):
        call()
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


# --- tests ---------------------------------------------------------------------------


class Search:
    """Tests all conjectured symmetries on gradients at a few random weights.

    families: the candidates.
    probe: computes the gradients of a private copy of the model.
    model: the model whose weights are the centre of the random weights.
    """

    def __init__(self, families: list[Family], probe: Probe, model: nn.Module):
        self.families, self.probe = families, probe
        self.origin = {n: p.detach() for n, p in model.named_parameters()}
        made = conjectures(families)
        self.tests = [t for t in made if not t.index.unknown]
        self.done = [t for t in made if t.index.unknown]
        self.wholes = {id(f): Index("none", f.parts) for f in families}
        self.euler: dict[int, list] = {id(f): [] for f in families}
        self.limits: dict[int, Tensor] = {}
        self.floors: dict[int, list] = {}

    def run(self) -> list[Index]:
        """Run all tests; return every index: certified, of kind 'none', or unknown."""
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
        for (t, _), found in zip(pairs, self._together(pairs), strict=True):
            t.note(*found)

    def _together(self, pairs: list) -> list[tuple[Outcome, Tensor]]:
        """What `Probe.test` finds of (conjecture, element), all at once.

        If that fails, those that looked right are tested without the others, and the
        others, or if there are none that looked right, by halves.
        """
        if not pairs:
            return []
        if len(pairs) == 1:
            ((t, g),) = pairs
            return [self.probe.test(t.index, g, self._noise(t))]
        found = self._image(pairs)
        good = [i for i, (outcome, _) in enumerate(found) if outcome.passed]
        bad = [i for i, (outcome, _) in enumerate(found) if not outcome.passed]
        if not bad:
            return found
        if not good:
            good, bad = bad[: len(bad) // 2], bad[len(bad) // 2 :]
        for some in (good, bad):
            again = self._together([pairs[i] for i in some])
            for i, one in zip(some, again, strict=True):
                found[i] = one
        return found

    def _image(self, pairs: list) -> list[tuple[Outcome, Tensor]]:
        """What `Probe.compare` finds of each (conjecture, element), all at once."""
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
            t.index.act_(certify.inverse(g), probe.tensors)
        return outcomes

    # what each unit allows by itself

    def _rescalings(self) -> list[list]:
        """Exponents of the rescalings that pass, for each test.

        All are tested at once: in the logarithms of the factors the difference is
        analytic, and vanishes everywhere if it does at a random point. Unusual
        exponents, which rounding can suggest, are tested apart, so that they do not
        spoil the others.
        """
        usual, unusual = [], []
        for number, t in enumerate(self.tests):
            for k, s in enumerate(self._exponents(t)):
                g = certify.rescaled(t.index, s, t.seed + k)
                plain = all(abs(e) in (0, 0.5, 1, 2) for e in s)
                (usual if plain else unusual).append((number, s, (t, g)))
        found: list[list] = [[] for _ in self.tests]
        for some in (usual, unusual):
            outcomes = self._together([pair for _, _, pair in some])
            for (number, s, (t, _)), (outcome, _) in zip(some, outcomes, strict=True):
                if outcome.passed:
                    found[number].append(s)
                    t.outcome |= outcome
        return found

    def _exponents(self, t: Conjecture) -> tuple[tuple[float, ...], ...]:
        """The rescalings that the gradients at all points allow."""
        rows = self.euler[id(t.family)]
        euler = torch.cat([r[t.members] for r in rows])
        if len(euler) < 2 * euler.shape[1]:  # few units: others of their kind help
            euler = torch.cat(rows)
        limits = self.limits[id(t.family)].numpy()
        null = self.probe.tolerance.null
        return certify.exponents(euler.numpy(), limits, null)

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
            for pattern in patterns(t.index, t.family, scales[i], few)[:PATTERNS]
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
            passed = all(outcome.passed for outcome, _ in self._image(pairs))
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
        return heads(found, self.probe, self.floors)

    def _finished(self, scales: list, whole: list[Index]) -> list[Index]:
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
                found += numbers_apart(index)
            elif bool(t.idle.any()):
                idle = some_units(index, t.idle)
                found.append(some_units(index, ~t.idle))
                found.append(replace(idle, unknown=IDLE, signs=(), scales=()))
            else:
                found.append(index)
        for t in self.done:
            why = t.index.unknown or (UNSURE if t.outcome.unsure else BROKEN)
            violation = t.outcome.violation
            found.append(
                replace(t.index, kind="none", unknown=why, violation=violation)
            )
        return found + whole


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
