"""Treat attention heads as units: blocks of other indices' units, moved as wholes."""

from dataclasses import replace

import torch
from torch import Tensor

from symlab.mirror import certify
from symlab.mirror.certify import Outcome, Probe
from symlab.mirror.units import Index


def heads(found: list, probe: Probe, floors) -> list[Index]:
    """Return the groups of attention heads whose exchange leaves the model's function
    unchanged, as `units.Index` objects with whole heads as units.

    found: pairs (index of hidden units, its `Conjecture`); a head is a block of such
        units.
    probe: computes the model's gradients, on which each exchange is tested.
    floors: how far rounding changes these gradients.
    """
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
        for same in blocks.values():
            if len(same) > 1:
                made.append(_block_index(found, same))
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
