"""Labels of the positions on the axes of a model's parameters, and their relations.

An atom is a position on an axis of a parameter: (name, axis, position). `trace` follows
the operations of one call of the model and records here which atoms belong to one
hidden unit (they are tied), what distinguishes units, and which functions were applied
to them. `families` collects the units that nothing distinguishes: a conjectured
symmetry, which `certify` tests numerically.

  tied            these atoms move together; a class of tied atoms is a unit
  capped          the operation allows at most a certain group: rotations, permutations
                  with signs, or permutations
  coloured        a function was applied; units with different functions are not
                  exchanged
  remembered      the unit was combined with values that differ from unit to unit
  fixed           a constant was added to a rotated index, or read from it; only
                  rotations that leave the columns of that constant in place remain
  given up        an operation for which there is no rule was applied to the unit
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from symlab.mirror.slots import labels_of
from symlab.mirror.units import Part
from symlab.tracing import compact

UNUSED = "the loss does not use it"
KERNEL = "positions of a kernel"
ONE = "an axis of one place"
STACK = "whole matrices of a stack are not compared"
PACKED = 4  # places of a unit on one axis: up to here they are parts of their own
NONE, PERMUTATION, SIGNED, ROTATION = range(4)  # each group contains the ones before


@dataclass
class Family:
    """Hidden units on the same tensor axes, with what a trace says about their
    symmetry.

    parts: the tensor axes that carry the m units.
    group: the number of the largest group that the model's operations allow: 0 none, 1
        permutations, 2 permutations with signs, 3 rotations.
    alike: (m,) integers; no operation distinguishes units with equal numbers.
    finer: (m,) as `alike`, but units also differ if separate calls of one function,
        such as two relu calls, were applied to them.
    turned: (m,) as `alike`, but constants that were added to the units are ignored,
        because some rotations leave these in place.
    unknown: the reason why nothing is known about the units, '' if something is known.
    across: the operation that reads all units together, such as a norm; '' for none.
    gains: positions in `parts` of the axes that multiply the units entry by entry.
    early: tuples of positions in `parts`; each holds axes before an even function or
        before both sides of a product, where a sign change may leave the function as it
        is.
    products: whether some unit enters a product of two values entry by entry.
    fixed: (m, c), constants that were added to the units or read from them; None if
        none.
    activations: (samples, m), the units' values where they are read; None if unknown.
    contributions: (m,), the relative norm of what each unit adds; None if unknown.
    batched: for each unit, the set of (number of a batched product, head) it belongs
        to.
    """

    parts: tuple[Part, ...]
    group: int
    alike: np.ndarray
    finer: np.ndarray
    turned: np.ndarray
    unknown: str = ""
    across: str = ""
    gains: tuple[int, ...] = ()
    early: tuple[tuple[int, ...], ...] = ()
    products: bool = False
    fixed: np.ndarray | None = None
    activations: Tensor | None = None
    contributions: Tensor | None = None
    batched: list[frozenset] = field(default_factory=list)  # heads that a unit met


class Atoms:
    """Labels of all positions on the axes of a model's tensors, and their relations.

    Each triple (tensor, axis, position) has a label of its own; label 0 means that an
    entry belongs to no hidden unit. A tensor of labels with the shape of a value is
    called a slot. The methods record what a traced call of the model does to the
    labels; `families` evaluates the records.

    model: its trainable parameters and batch norm's buffers get labels.
    batch: any structure of tensors, the data of the call.
    """

    def __init__(self, model: nn.Module, batch=()):
        self.tensors = {
            n: p for n, p in model.named_parameters() if p.numel() and p.requires_grad
        }
        self.stacks = {  # of a stack of matrices (experts) each has its own
            n: p.shape[0] if p.ndim == 3 and p.shape[1] > 1 else 1
            for n, p in self.tensors.items()
        }
        self.kernels: dict[str, int] = {}  # the first kernel axis of a convolution
        self.deep: set[str] = set()  # depthwise kernels: a channel reads itself alone
        for prefix, module in model.named_modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                name = f"{prefix}.weight".lstrip(".")
                deep = module.in_channels == module.groups > 1
                if deep:
                    self.deep.add(name)
                self.stacks[name] = 1 if deep or module.transposed else module.groups
                self.kernels[name] = 2
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for name, b in module.named_buffers(prefix, recurse=False):
                    if b.ndim:
                        self.tensors[name] = b
        self.varying = WeakIdKeyDictionary()  # depends on the batch or on the weights
        leaves = torch.utils._pytree.tree_leaves(batch)
        for t in (*self.tensors.values(), *leaves):
            if isinstance(t, Tensor):
                self.varying[t] = True
        self.slots, self.used = WeakIdKeyDictionary(), set()
        self.blocks: list[tuple[int, int, int]] = []  # (first label, tensor, axis)
        self.total = 1
        for number, (name, t) in enumerate(self.tensors.items()):
            slots, stack = [], self.stacks.get(name, 1)
            for axis in self._axes(name, t):
                slots.append(self._slot(t, number, axis, stack if axis else 1))
            self.slots[t] = slots
        self.atoms = self.total
        self.pairs: list[np.ndarray] = []
        self.caps: list[tuple[np.ndarray, int]] = []
        self.colours: list[tuple[np.ndarray, str]] = []
        self.memory: list[tuple[np.ndarray, np.ndarray, bool]] = []
        self.heads: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.fixes: list[tuple[np.ndarray, np.ndarray]] = []
        self.gains: list[np.ndarray] = []
        self.products: list[np.ndarray] = []
        self.readers: list[np.ndarray] = []
        self.evens: list[tuple[list[np.ndarray], int]] = []
        self.spans: list[tuple[np.ndarray, str]] = []
        self.reasons: list[tuple[np.ndarray, str]] = []
        self.readings: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []

    def _axes(self, name: str, t: Tensor) -> list[int]:
        """The axes that carry labels; of one place only where it may be a unit."""
        if name in self.kernels or t.ndim < 3:
            axes = list(range(self.kernels.get(name, t.ndim)))
            axes = axes[:1] if name in self.deep else axes
        else:
            axes = [a for a in range(t.ndim) if t.shape[a] > 1]
        return axes[t.ndim > 0 and 1 < t.shape[0] == self.stacks.get(name, 1) :]

    def _slot(self, t: Tensor, number: int, axis: int, stack: int) -> Tensor:
        n = stack * t.shape[axis]
        labels = torch.arange(self.total, self.total + n, device=t.device)
        self.blocks.append((self.total, number, axis))
        self.total += n
        if stack == 1:  # the stride marks the axis, even if it has one place
            return labels.as_strided(t.shape, [int(d == axis) for d in range(t.ndim)])
        view = [-1 if d == axis + 1 else 1 for d in range(t.ndim + 1)]
        view[0] = stack
        shape = (stack, t.shape[0] // stack, *t.shape[1:])
        labels = labels.view(view).expand(shape)
        return labels.flatten(0, 1) if shape[1] > 1 else labels[:, 0]

    # what the trace reports

    def ghosts(self, out: Tensor, operation: str) -> None:
        """Give new labels to the result of an operation without a rule; its units are
        unknown.

        out: the result; each of its dimensions longer than 1 gets new labels, and every
            unit that is later tied to one of them is unknown, too.
        operation: the operation's name, which is reported as the reason.
        """
        slots = []
        for dim in range(out.ndim):
            if out.shape[dim] > 1:
                n = out.shape[dim]
                labels = torch.arange(self.total, self.total + n, device=out.device)
                view = [-1 if d == dim else 1 for d in range(out.ndim)]
                slots.append(labels.view(view).expand(out.shape))
                self.total += n
                self.reasons.append((labels.cpu().numpy(), operation))
        self.slots[out] = slots

    def tie(self, a: Tensor, b: Tensor) -> None:
        """Record that labels at the same position of two slots belong to one hidden
        unit.

        a, b: slots (integer tensors of labels, 0 for no unit) of one shape. Positions
            at which one of them is 0 are skipped.
        """
        a, b = compact(a, b)
        pairs = np.stack([a.cpu().numpy().ravel(), b.cpu().numpy().ravel()])
        pairs = pairs[:, (pairs > 0).all(0)]
        self.pairs.append(np.unique(pairs, axis=1))

    def cap(self, slot: Tensor, group: int) -> None:
        """Record the largest group that an operation allows to act on hidden units.

        slot: integer tensor of the labels of the units to which the operation was
            applied.
        group: the group: 0 none, 1 permutations, 2 permutations with signs, 3 all
            rotations (which is no restriction and not recorded).
        """
        if group < ROTATION:
            self.caps.append((labels_of(slot), group))

    def colour(self, slot: Tensor, function: str) -> None:
        """Record that a function was applied to hidden units.

        slot: integer tensor of the units' labels. function: the function's name.
        """
        self.colours.append((labels_of(slot), function))

    def even(self, *slots: Tensor) -> None:
        """Record which hidden units precede an even function or a product.

        slots: one integer tensor of labels for an even function; two, one for each
            factor, for a product, whose value is unchanged if both factors change sign.
        """
        self.evens.append(([labels_of(s) for s in slots], len(self.pairs)))

    def span(self, slot: Tensor, operation: str) -> None:
        """Record that an operation, such as a norm, reads all units of a slot together.

        slot: integer tensor of the units' labels. operation: the operation's name.
        """
        self.spans.append((labels_of(slot), operation))

    def read(self, slot: Tensor) -> None:
        """Record that a product sums hidden units' values over an axis of a parameter.

        slot: integer tensor of the labels of that parameter axis.
        """
        self.readers.append(labels_of(slot))

    def reading(self, labels: Tensor, norms: Tensor, sample) -> None:
        """Record which units a matrix product sums over, and how much each contributes.

        labels: (B, K), the labels of the K units in each of B rows.
        norms: broadcast to (B, K), the norm of what each unit adds to the product.
        sample: (samples, K), values of the units on the batch, or None.
        """
        norms = norms.detach().double().expand(labels.shape).cpu().numpy()
        self.readings.append((labels.cpu().numpy(), norms, sample))

    def remember(
        self, slot: Tensor, dim: int, keys: np.ndarray | None = None, linear=False
    ) -> bool:
        """Record that units were combined with values that differ along one dimension.

        Units at positions with different values cannot be exchanged.

        slot: integer tensor of the units' labels. dim: the dimension of the slot.
        keys: one number for each position along `dim`, equal for equal values; by
            default the values at all positions differ.
        linear: whether only constants were added or read, which some rotations leave in
            place.

        Returns whether this distinguishes each of these units from all others.
        """
        places = torch.arange(slot.shape[dim], device=slot.device)
        if keys is not None:
            places = torch.as_tensor(keys, device=slot.device)
        view = [-1 if d == dim else 1 for d in range(slot.ndim)]
        slot, places = compact(slot, places.view(view).expand(slot.shape))
        both = np.stack([slot.cpu().numpy().ravel(), places.cpu().numpy().ravel()])
        both = np.unique(both[:, both[0] > 0], axis=1)
        self.memory.append((both[0], both[1], linear))
        return all(len(np.unique(b)) == both.shape[1] for b in both)

    def head(self, event: int, slot: Tensor) -> None:
        """Record which attention head each hidden unit belongs to.

        event: the number of the traced batched matrix product that combines the heads.
        slot: integer tensor of the units' labels; its dimension 0 runs over the heads.
        """
        places = torch.arange(slot.shape[0], device=slot.device)
        view = [-1, *[1] * (slot.ndim - 1)]
        slot, places = compact(slot, places.view(view).expand(slot.shape))
        both = np.stack([slot.cpu().numpy().ravel(), places.cpu().numpy().ravel()])
        both = np.unique(both[:, both[0] > 0], axis=1)
        self.heads.append((event, both[0], both[1]))

    def fix(self, labels: Tensor, constant: Tensor) -> None:
        """Record constants that were added to units or read from them linearly.

        labels: (n,), the units' labels. constant: (n, c), c constants for each unit.

        Only rotations of the units that leave the c columns in place remain allowed.
        """
        keep = labels.cpu().numpy() > 0
        columns = constant.detach().double().cpu().numpy()[keep]
        if columns.shape[1] > len(columns):  # the same span in fewer columns
            columns = np.linalg.qr(columns.T, mode="r").T
        self.fixes.append((labels.cpu().numpy()[keep], columns))

    def give_up(self, slot: Tensor, operation: str) -> None:
        """Record that an operation without a rule was applied to the units of a slot.

        slot: integer tensor of the units' labels. operation: the operation's name.
        """
        self.reasons.append((labels_of(slot), operation))

    # what comes of it

    def families(self) -> list[Family]:
        """Return all hidden units, grouped into families by the tensor axes that carry
        them.
        """
        unit = self._joined(np.arange(self.total), self.pairs)
        count = int(unit.max()) + 1
        group = np.full(count, ROTATION)
        for labels, cap in self.caps:
            np.minimum.at(group, unit[labels], cap)
        reasons: dict[int, str] = {}
        for labels, why in self.reasons:
            for u in np.unique(unit[labels]):
                reasons.setdefault(int(u), why)
        spans: dict[int, str] = {}
        for labels, operation in self.spans:
            for u in np.unique(unit[labels]):
                spans.setdefault(int(u), operation)
        owner, axis, position = self._places()
        reads = {
            pair
            for labels in self.readers
            for pair in zip(owner[labels].tolist(), axis[labels].tolist(), strict=True)
        }
        order = np.argsort(unit[1 : self.atoms], kind="stable") + 1
        ends = np.searchsorted(unit[order], np.arange(count), side="right")
        members = [x.tolist() for x in np.split(order, ends[:-1])]
        coarse = self._signatures(count, unit, by_operation=False)
        fine = self._signatures(count, unit, by_operation=True)
        memory = self._memories(count, unit, linear=True)
        turned = self._memories(count, unit, linear=False)
        early = self._early(unit)
        kinds: dict[tuple, list[int]] = defaultdict(list)
        names = list(self.tensors)
        for u in range(count):
            mine = members[u]
            axes = Counter(zip(owner[mine].tolist(), axis[mine].tolist(), strict=True))
            if not any(self.tensors[names[o]].requires_grad for o, _ in axes):
                continue
            unused = self.used.isdisjoint(names[o] for o, _ in axes)
            why = UNUSED if unused else reasons.get(u, "")
            key = (tuple(sorted(axes.items())), why, coarse[u], early.get(u, ()))
            kinds[(*key, group[u])].append(u)
        multiplied = np.zeros(count, bool)
        for labels in self.products:
            multiplied[unit[labels]] = True
        made = []
        for (axes, why, _, before, largest), us in kinds.items():
            parts = self._parts(us, members, axes, (owner, axis, position), reads)
            told = [memory[u] for u in us]
            family = Family(
                parts,
                int(largest),
                _numbered(told),
                _numbered([(t, fine[u]) for t, u in zip(told, us, strict=True)]),
                _numbered([turned[u] for u in us]),
                why,
                next((spans[u] for u in us if u in spans), ""),
            )
            row = np.full(count, -1)  # the number of a class within this family
            row[us] = np.arange(len(us))
            row = row[unit]
            keys = [(names.index(p.name), p.axis) for p in parts]
            family.gains = self._marked(self.gains, keys, row, owner, axis)
            keys = [(*k, keys[:i].count(k)) for i, k in enumerate(keys)]
            family.early = tuple(
                tuple(i for i, key in enumerate(keys) if key in those)
                for those in before
            )
            family.products = bool(multiplied[us].any())
            family.fixed = self._fixed(row, len(us))
            family.contributions, family.activations = self._read(row, len(us))
            family.batched = self._heads_of(row, len(us))
            made.append(family)
        scalars = [n for n, t in self.tensors.items() if not t.ndim and n in self.used]
        for n in set(n for n, t in self.tensors.items() if not t.ndim) - set(scalars):
            one = (Part(n, 0, (), torch.zeros(1, 1, dtype=torch.long)),)
            made.append(self._numbers(one, NONE, UNUSED))
        if scalars:  # single numbers may be rescaled against each other
            one = torch.zeros(1, 1, dtype=torch.long)
            parts = tuple(Part(n, 0, (), one) for n in scalars)
            made.append(self._numbers(parts, SIGNED))
        order = {id(f): min(int(p.places.min()) for p in f.parts) for f in made}
        first = {id(f): names.index(f.parts[0].name) for f in made}
        return sorted(made, key=lambda f: (first[id(f)], f.parts[0].axis, order[id(f)]))

    @staticmethod
    def _numbers(parts: tuple[Part, ...], group: int, unknown: str = "") -> Family:
        """Parameters without axes, as one unit."""
        alike, no_heads = np.zeros(1, int), [frozenset()]
        return Family(
            parts, group, alike, alike, alike, unknown, products=True, batched=no_heads
        )

    def leftover(self) -> list[tuple[Part, str]]:
        """Return (part, reason) for each trainable tensor axis that carries no hidden
        unit.
        """
        found = []
        for name, t in self.tensors.items():
            labelled = self._axes(name, t)
            for a in range(t.ndim) if t.requires_grad else ():
                if a not in labelled:
                    why = KERNEL if name in self.kernels and a > 1 else STACK
                    why = ONE if t.shape[a] == 1 else why
                    places = torch.arange(t.shape[a])[:, None]
                    found.append((Part(name, a, tuple(t.shape), places), why))
        return found

    @staticmethod
    def _joined(classes: np.ndarray, pairs: list[np.ndarray]) -> np.ndarray:
        """(labels,) the number of each label's class, after some pairs were tied."""
        ties = classes[np.concatenate([*pairs, np.zeros((2, 0), int)], 1)]
        n = int(classes.max()) + 1
        graph = coo_array((np.ones(ties.shape[1]), ties), (n, n))
        return connected_components(graph, directed=False)[1][classes]

    def _places(self):
        owner = np.full(self.total, -1)
        axis, position = np.zeros(self.total, int), np.zeros(self.total, int)
        ends = [*(b[0] for b in self.blocks), self.atoms][1:]
        for (start, number, a), end in zip(self.blocks, ends, strict=True):
            owner[start:end], axis[start:end] = number, a
            position[start:end] = np.arange(end - start)
        return owner, axis, position

    def _signatures(self, count, unit, by_operation: bool) -> list[tuple]:
        found: list[set] = [set() for _ in range(count)]
        for serial, (labels, function) in enumerate(self.colours):
            for u in np.unique(unit[labels]):
                found[u].add(serial if by_operation else function)
        return [tuple(sorted(f)) for f in found]

    def _memories(self, count, unit, linear: bool) -> list[tuple]:
        found: list[list] = [[] for _ in range(count)]
        both = [(x, y) for x, y, added in self.memory if linear or not added]
        both += [(x, y) for _, x, y in self.heads]
        for serial, (labels, places) in enumerate(both):
            pairs = np.unique(np.stack([unit[labels], places]), axis=1)
            cuts = np.flatnonzero(np.diff(pairs[0])) + 1
            for run in np.split(np.arange(pairs.shape[1]), cuts):
                if len(run):
                    seen = tuple(pairs[1, run].tolist())
                    found[pairs[0, run[0]]].append((serial, seen))
        return [tuple(f) for f in found]

    def _early(self, unit) -> dict[int, tuple]:
        """Sets of (tensor, axis, number) of a unit that may change sign together.

        Before an even function what was tied to the unit then; of a product what stands
        before both sides, or before one of them and behind.
        """
        owner, axis, _ = self._places()
        names, keys = self._ranks(unit, owner, axis)
        whole = _by_class(unit[1 : self.atoms], keys[1:])
        found: dict[int, set] = defaultdict(set)
        before, tied = np.arange(self.total), 0
        one_sided: dict[int, list[set]] = defaultdict(list)  # of a product
        first: dict[int, frozenset] = {}
        for slots, pairs in self.evens:
            before, sides = self._joined(before, self.pairs[tied:pairs]), []
            tied = pairs
            for labels in slots:
                here = np.isin(before[: self.atoms], before[labels])
                x = np.flatnonzero(here[1:]) + 1
                sides.append(_by_class(unit[x], keys[x]))
            for u in set().union(*sides):
                met = [side.get(u, set()) for side in sides]
                sets = [set().union(*met)]
                first.setdefault(u, frozenset(sets[0]))
                if len(met) == 2:
                    behind = whole[u] - sets[0]
                    sets += [one | behind for one in met]
                    one_sided[u] += met
                else:  # a gain before an even function
                    sets += [sets[0] - one for one in one_sided[u]]
                found[u].update(map(frozenset, sets))
        said = lambda those: frozenset(names[k] for k in those)  # noqa: E731
        made: dict[tuple, tuple] = {}  # most units say the same
        for u, x in found.items():
            key = (first[u], frozenset(x))
            if key not in made:
                rest = sorted(map(said, x - {first[u]}), key=sorted)
                made[key] = (said(first[u]), *rest)
            found[u] = made[key]
        return dict(found)

    def _ranks(self, unit, owner, axis) -> tuple[list[tuple], np.ndarray]:
        """The distinct (tensor, axis, number), and which of them each label is.

        Numbers count a unit's own places along one axis, if they are few.
        """
        whole = np.stack([unit, owner, axis])[:, : self.atoms]
        _, mine, counts = np.unique(
            whole, axis=1, return_inverse=True, return_counts=True
        )
        mine = mine.reshape(-1)
        order = np.argsort(mine, kind="stable")
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        numbers = np.empty(len(order), int)
        numbers[order] = np.arange(len(order)) - first[mine[order]]
        numbers[counts[mine] > PACKED] = 0
        keys, which = np.unique(
            np.stack([*whole[1:], numbers]), axis=1, return_inverse=True
        )
        return list(map(tuple, keys.T.tolist())), which.reshape(-1)

    def _parts(self, units, members, axes, places, reads) -> tuple[Part, ...]:
        (owner, axis, position), names, made = places, list(self.tensors), []
        labels = np.array([x for u in units for x in members[u]])
        for (o, a), count in axes:
            mine = labels[(owner[labels] == o) & (axis[labels] == a)]
            at = torch.from_numpy(position[mine].reshape(len(units), count))
            t = self.tensors[names[o]]
            part = Part(
                names[o], int(a), tuple(t.shape), at,
                self.stacks.get(names[o], 1) if a else 1, (o, a) in reads,
                t.requires_grad,
            )  # fmt: skip
            if at.shape[1] > PACKED:
                made.append(part)
            else:  # packed projections: each may have signs and factors of its own
                made += [replace(part, places=x) for x in at.split(1, 1)]
        return tuple(made)

    @staticmethod
    def _marked(marks, keys, row, owner, axis) -> tuple[int, ...]:
        found = {
            (owner[x], axis[x]) for labels in marks for x in labels[row[labels] >= 0]
        }
        return tuple(i for i, key in enumerate(keys) if key in found)

    def _fixed(self, row, m) -> np.ndarray | None:
        columns = []
        for labels, constants in self.fixes:
            mine = row[labels]
            if (mine >= 0).any():
                met = np.zeros((m, constants.shape[1]))
                np.add.at(met, mine[mine >= 0], constants[mine >= 0])
                columns.append(met)
        return np.concatenate(columns, 1) if columns else None

    def _read(self, row, m) -> tuple[Tensor | None, Tensor | None]:
        """What the units add to their readers, and their values there."""
        largest, values = None, []
        for labels, norms, sample in self.readings:
            mine = row[labels]
            known = mine >= 0
            if not known.any():
                continue
            at, added = mine[known], np.zeros(m)
            np.add.at(added, at, norms[known] ** 2)
            added = np.sqrt(added)
            scale = np.sqrt(np.mean(added**2))
            added = added / scale if scale > 0 else added
            largest = added if largest is None else np.maximum(largest, added)
            counts = np.bincount(at, minlength=m)
            if sample is not None and len(set(counts)) == 1:
                order = np.argsort(at, kind="stable")
                columns = sample[:, known[0]][:, order]
                columns = columns.reshape(len(sample), m, counts[0])
                values.append(np.moveaxis(columns, 2, 0).reshape(-1, m))
        value = torch.from_numpy(np.concatenate(values)[:1024]) if values else None
        return None if largest is None else torch.from_numpy(largest), value

    def _heads_of(self, row, m) -> list[frozenset]:
        met: list[set] = [set() for _ in range(m)]
        for event, labels, places in self.heads:
            for u, p in zip(row[labels].tolist(), places.tolist(), strict=True):
                if u >= 0:
                    met[u].add((event, p))
        return [frozenset(x) for x in met]


def _by_class(classes: np.ndarray, keys: np.ndarray) -> dict[int, set[int]]:
    """The keys that stand beside each class."""
    order = np.argsort(classes, kind="stable")
    classes, keys = classes[order], keys[order]
    starts = np.flatnonzero(np.diff(classes, prepend=-1))
    ends = [*starts[1:], len(classes)] if len(starts) else []
    return {
        int(classes[a]): set(keys[a:b].tolist())
        for a, b in zip(starts, ends, strict=True)
    }


def _numbered(keys: list) -> np.ndarray:
    seen: dict = {}
    return np.array([seen.setdefault(k, len(seen)) for k in keys])
