"""Conjectured symmetries of hidden units: which group acts, on which tensor axes."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from symlab.mirror.atoms import ROTATION, SIGNED, Family
from symlab.mirror.certify import Outcome
from symlab.mirror.units import Index

APART = "told apart by the data or constants that they meet"


@dataclass
class Conjecture:
    """A conjectured symmetry of m hidden units, which is tested on gradients of the
    loss.

    index: the units and the group that is conjectured to act on them.
    family: the `Family` from which the units come.
    members: the positions of the units in that family.
    seed: seed of the random group elements.
    outcome: the result of all tests so far.
    alive: (m,), whether a unit had a nonzero gradient in some test.
    idle: (m,), whether a unit had no gradient where sign changes were tested.
    """

    index: Index
    family: Family
    members: np.ndarray
    seed: int
    outcome: Outcome
    alive: Tensor
    idle: Tensor

    def note(self, outcome: Outcome, alive: Tensor) -> None:
        """Update this conjecture with the result of one test.

        outcome: the result. alive: (number of tensor axes, m) booleans, whether each of
        the m units had a gradient above rounding on each of its tensor axes.
        """
        self.outcome |= outcome
        self.alive |= alive.any(0)

    def smaller(self) -> list["Conjecture"]:
        """Return weaker conjectures, to be tested if the loss does not have this
        symmetry.

        A conjectured rotation is replaced by permutations, and a permutation by
        permutations within smaller sets of units. The list is empty if nothing weaker
        is left.
        """
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


def conjectures(families: list[Family]) -> list[Conjecture]:
    """Return the first conjectures to test for each family of hidden units.

    Units that no operation distinguishes share one conjecture. All units that differ
    from every other unit share one conjecture of kind 'none', which states no symmetry.
    """
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


def patterns(
    index: Index, family: Family, scales, few: int | None = None
) -> list[tuple[int, ...]]:
    """Return the candidate sets of tensor axes on which a unit may change its sign.

    index: the hidden units. family: the `Family` that they come from.
    scales: the certified rescalings, each with one exponent per tensor axis.
    few: how many of the sets of `family.early` are used (axes whose values reach a
        product or an even function); None for all.

    Each set is a tuple of positions in `index.parts`. The result is empty for
    rotations.
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


def some_units(index: Index, units: Tensor) -> Index:
    """Return an index that holds only some of the units of the given one.

    index: a set of m hidden units.
    units: the numbers of the units that are kept, or booleans (m,).
    """
    h, added = index.activations, index.contributions
    return replace(
        index,
        parts=tuple(replace(p, places=p.places[units]) for p in index.parts),
        activations=None if h is None else h[:, units],
        contributions=None if added is None else added[units],
    )


def numbers_apart(index: Index) -> list[Index]:
    """Split an index of scalar parameters into independent indices.

    Scalars that are moved together by a certified rescaling or sign change stay in one
    index. Every other scalar gets an index of its own, of kind 'none'.
    """
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
