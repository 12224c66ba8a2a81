"""Which indices of a model's parameters are hidden, and which group acts on each.

The model runs once on real data while every operation is followed. An atom is a place
on an axis of a parameter: (name, axis, position). Where two axes meet (a sum over an
index, an elementwise sum or product) their atoms are tied: they move together, and a
class of tied atoms is a unit. A unit's group begins as all rotations and shrinks by
what is done to its index:
  sums, products with weights, scaling    rotation
  tanh and other odd functions            signed permutation
  relu, softmax, norms, gates             permutation
  anything we have no rule for            unknown, with the operation's name
Units that meet data which differs from unit to unit (input features, class labels, an
attention head's scores, rotary angles) remember where: only units with the same
parameters and the same memory may be exchanged, and make an orbit.
What comes out is a conjecture; `audit` puts it to a numerical test.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from symlab.mirror.trace import NONE, ROTATION, Trace

KINDS = ("none", "permutation", "signed permutation", "rotation")


@dataclass(frozen=True)
class Orbit:
    """Units that a group exchanges.

    names, shapes: the tensors it touches. index: (m, P) places in them, flattened one
    after the other; row i holds the P entries of unit i. axes: texts such as
    'fc.weight:1', with [from:to] where the orbit has a part of an axis.
    unknown: why nothing can be said, '' where something can.
    """

    kind: str
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    index: Tensor
    axes: tuple[str, ...]
    unknown: str = ""


def orbits(model: nn.Module, run: Callable[[], Tensor]) -> list[Orbit]:
    """The orbits of a model's hidden units; `run()` computes its loss once."""
    atoms = _Atoms(model)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque kernel otherwise
    try:
        with Trace(atoms):
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    if not atoms.used:
        raise ValueError(
            "the loss uses no parameter of the model that it is given: compute it from "
            "its first argument"
        )
    return atoms.orbits()


# --- atoms and what ties them --------------------------------------------------------


class _Atoms:
    """Labels of all (tensor, axis, position); label 0 is 'nothing'."""

    def __init__(self, model: nn.Module):
        self.tensors = {n: p for n, p in model.named_parameters() if p.numel()}
        self.slots, self.used = WeakIdKeyDictionary(), set()
        self.stacked: set[int] = set()  # stacks of matrices, by number
        stacked = {n: p.ndim == 3 and p.shape[1] > 1 for n, p in self.tensors.items()}
        for prefix, module in model.named_modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                stacked[f"{prefix}.weight".lstrip(".")] = False
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for name, b in module.named_buffers(prefix, recurse=False):
                    if b.ndim:
                        self.tensors[name] = b
        self.trainable = {n for n, t in self.tensors.items() if t.requires_grad}
        owner, axis_of, position = [np.array([-1])], [np.array([0])], [np.array([0])]
        total = 1
        for number, (name, t) in enumerate(self.tensors.items()):
            slots = []
            # a stack of matrices (experts): its units belong to one matrix each
            stack = t.shape[0] if stacked.get(name) else 1
            if stack > 1:
                self.stacked.add(number)
            wide = [d for d in range(t.ndim) if t.shape[d] > 1]
            lead = wide[0] if wide and t.ndim == 3 else 0  # a class token is (1, 1, D)
            for axis in (1, 2) if stack > 1 else range(lead, min(t.ndim, lead + 2)):
                n = stack * t.shape[axis]
                labels = torch.arange(total, total + n, device=t.device)
                view = [1] * t.ndim
                view[axis] = t.shape[axis]
                if stack > 1:
                    view[0] = stack
                slots.append(labels.view(view).expand(t.shape))
                owner.append(np.full(n, number))
                axis_of.append(np.full(n, axis))
                position.append(np.arange(n))
                total += n
            self.slots[t] = slots
        self.owner, self.axis = np.concatenate(owner), np.concatenate(axis_of)
        self.position = np.concatenate(position)
        self.group = np.full(total, ROTATION)
        self.pairs: list[np.ndarray] = []
        self.memory: list[tuple[np.ndarray, np.ndarray]] = []  # labels, positions
        self.reasons: dict[int, str] = {}

    def tie(self, a: Tensor, b: Tensor) -> None:
        pairs = np.stack([a.cpu().numpy().ravel(), b.cpu().numpy().ravel()])
        pairs = np.unique(pairs, axis=1)
        self.pairs.append(pairs[:, (pairs > 0).all(0)])

    def cap(self, slot: Tensor, group: int) -> None:
        labels = np.unique(slot.cpu().numpy())
        self.group[labels] = np.minimum(self.group[labels], group)

    def remember(self, slot: Tensor, dim: int) -> bool:
        """The units met something that differs from place to place along `dim`.

        True where that tells each of them from all others.
        """
        places = torch.arange(slot.shape[dim], device=slot.device)
        view = [1] * slot.ndim
        view[dim] = -1
        both = torch.stack([slot, places.view(view).expand(slot.shape)])
        both = np.unique(both.cpu().numpy().reshape(2, -1), axis=1)
        both = both[:, both[0] > 0]
        self.memory.append((both[0], both[1]))
        return all(len(np.unique(b)) == both.shape[1] for b in both)

    def give_up(self, slot: Tensor, operation: str) -> None:
        for label in np.unique(slot.cpu().numpy()).tolist():
            self.reasons.setdefault(label, operation)

    def orbits(self) -> list[Orbit]:
        n = len(self.group)
        pairs = np.concatenate([*self.pairs, np.zeros((2, 0), int)], 1)
        graph = coo_array((np.ones(pairs.shape[1]), pairs), (n, n))
        count, unit = connected_components(graph, directed=False)
        group = np.full(count, ROTATION)
        np.minimum.at(group, unit, self.group)
        reasons = {}
        for label, operation in self.reasons.items():
            if label:
                reasons.setdefault(unit[label], operation)
        memories = [[] for _ in range(count)]
        for serial, (labels, places) in enumerate(self.memory):
            found: dict[int, set] = {}
            for u, p in zip(unit[labels], places, strict=True):
                found.setdefault(int(u), set()).add(int(p))
            for u, where in found.items():
                memories[u].append((serial, tuple(sorted(where))))
        members = [[] for _ in range(count)]
        for label in range(1, n):
            members[unit[label]].append(label)
        families: dict[tuple, list[int]] = {}
        for u in range(count):
            axes = Counter((self.owner[x], self.axis[x]) for x in members[u])
            names = [list(self.tensors)[o] for o, _ in axes]
            if self.used.isdisjoint(names) or self.trainable.isdisjoint(names):
                continue
            why = reasons.get(u, "")
            key = (tuple(sorted(axes.items())), tuple(memories[u]), why)
            families.setdefault(key, []).append(u)
        made = [self._orbit(us, members, group, key) for key, us in families.items()]
        return [o for o in made if o is not None]

    def _orbit(self, units, members, group, key) -> Orbit | None:
        axes, _, why = key
        kind = min(int(group[u]) for u in units)
        if not why and (len(units) < 2 or kind == NONE):
            return None
        names = list(self.tensors)
        owners = sorted({o for (o, _), _ in axes})
        if len(owners) < len(axes):
            why = why or "one matrix reads and writes this index"
        starts, total = {}, 0
        for o in owners:
            starts[o] = total
            total += self.tensors[names[o]].numel()
        columns = []
        for (owner, axis), _ in axes if not why else ():
            at = [
                [self.position[x] for x in members[u]
                 if (self.owner[x], self.axis[x]) == (owner, axis)]
                for u in units
            ]  # fmt: skip
            places = starts[owner] + self._places(owner, axis)
            columns.append(places[np.array(at)].reshape(len(units), -1))
        index = np.concatenate(columns, 1) if columns else np.zeros((0, 0), int)
        return Orbit(
            KINDS[kind],
            tuple(names[o] for o in owners),
            tuple(tuple(self.tensors[names[o]].shape) for o in owners),
            torch.from_numpy(index),
            tuple(self._text(o, axis, units, members) for (o, axis), _ in axes),
            why,
        )

    def _text(self, owner: int, axis: int, units, members) -> str:
        """'q.weight:0' for a whole axis, 'q.weight:0[16:32]' for a part of it."""
        at = sorted(
            int(self.position[x])
            for u in units
            for x in members[u]
            if (self.owner[x], self.axis[x]) == (owner, axis)
        )
        text = f"{list(self.tensors)[owner]}:{axis}"
        if len(at) == np.sum((self.owner == owner) & (self.axis == axis)):
            return text
        cuts = [i for i in range(1, len(at)) if at[i] != at[i - 1] + 1]
        runs = zip([0, *cuts], [*cuts, len(at)], strict=True)
        parts = [f"{at[a]}:{at[b - 1] + 1}" for a, b in runs]
        return f"{text}[{','.join(parts) if len(parts) < 5 else '...'}]"

    def _places(self, owner: int, axis: int) -> np.ndarray:
        """(n, entries): where the atoms of one axis lie in their flattened tensor."""
        t = list(self.tensors.values())[owner]
        places = np.arange(t.numel()).reshape(t.shape)
        if owner in self.stacked:
            return np.moveaxis(places, axis, 1).reshape(-1, t.shape[3 - axis])
        return np.moveaxis(places, axis, 0).reshape(t.shape[axis], -1)
