"""Symmetries of hidden units, derived from the rules of a network's construction.

A network is built from scalars: one hidden unit is one scalar per sample and position.
Multiply a unit's scalar by s * c (s is its sign, c > 0 its size) and every operation
says what becomes of it: relu keeps c and refuses s = -1, tanh keeps s and refuses
c != 1, a square takes c to c ** 2 and forgets s, a product adds exponents. A parameter
that writes, scales, shifts or reads the scalar changes with it. So the sign flips of a
unit are the solutions of linear equations modulo 2, its rescalings those of linear
equations over the exponents of c, and two units may be exchanged if they have the same
history, constants included, and the same places in the same parameters.

What is counted, where one could think otherwise:

- exchanges, signs and rotations are isometries of the parameters; an exchange that also
  rescales (relu units with unequal constant gains) or shifts (sigmoid) is not counted
- an exchange is along an axis of the same parameters: units of two branches with the
  same activation are two indices, though their sum or concatenation sees no difference
- a sign flip or a rescaling may be of some parts of a unit only, as the gain of a layer
  norm and the columns that read it
- a rescaling is exact: that a batch norm undoes a factor up to its epsilon is not one
- a group that is not of single units is left out: rotations that keep the mean before a
  layer norm without gain, or that keep a frozen matrix
- rescalings that move the running means of a batch norm: both answers are accepted

`tests/mirror_networks.py` builds networks with these rules, and
`tests/test_mirror_networks.py` tests the outcome on the loss.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

Atom = tuple[str, int, int]  # parameter, axis, position
PLACE = re.compile(r"([^\s,\[\]]+):(\d+)(?:\[([\d:,]*)\])?")


def atoms_of(text: str, model) -> frozenset[Atom]:
    """The atoms of trainable parameters that a row's `parameters` names."""
    canonical = {id(p): n for n, p in model.named_parameters()}
    named = dict(model.named_parameters(remove_duplicate=False))
    out = []
    for name, axis, ranges in PLACE.findall(text):
        if name not in named or not named[name].requires_grad:
            continue
        first, axis = canonical[id(named[name])], int(axis)
        length = named[name].shape[axis]
        for piece in (ranges or f"0:{length}").split(","):
            start, _, stop = piece.partition(":")
            stop = int(stop) if stop else int(start) + 1
            out += [(first, axis, k) for k in range(int(start), stop)]
    return frozenset(out)


class Form(NamedTuple):
    """How a scalar changes with a unit's variables: s[a] s[b] ... and c[a]**k ..."""

    sign: frozenset = frozenset()
    size: tuple = ()  # ((variable, exponent), ...), sorted

    def __mul__(self, other):
        size = dict(self.size)
        for variable, power in other.size:
            size[variable] = size.get(variable, 0) + power
        size = tuple(sorted((v, k) for v, k in size.items() if k))
        return Form(self.sign ^ other.sign, size)

    def __pow__(self, k: int):
        size = tuple((v, k * power) for v, power in self.size if k)
        return Form(self.sign if k % 2 else frozenset(), size)


SAME = Form()


@dataclass(eq=False)
class Unit:
    """One hidden unit: where it is in the parameters, and what was done to it."""

    index: int
    history: list = field(default_factory=list)
    slots: dict[Atom, Form] = field(default_factory=dict)
    buffers: dict[Atom, Form] = field(default_factory=dict)
    turns: bool = True  # only linear maps so far: may be rotated into its like
    idle: bool = False  # the loss does not depend on it
    parent: "Unit | None" = None  # a block of units that is exchanged as a whole
    variables: int = 0
    positive: list[frozenset] = field(default_factory=list)
    fixed: list[tuple] = field(default_factory=list)
    fixed_unless_means_move: list[tuple] = field(default_factory=list)

    def variable(self) -> Form:
        self.variables += 1
        name = self.variables - 1
        return Form(frozenset([name]), ((name, 1),))

    def carry(self, atom: Atom, form: Form) -> None:
        """The parameter entries at this atom change as `form` says."""
        if atom in self.slots:  # a tied weight: it can change in one way only
            both = form * self.slots[atom] ** -1
            self.positive.append(both.sign)
            self.fixed.append(both.size)
        self.slots[atom] = form
        if self.parent is not None:
            self.parent.carry(atom, SAME)

    def break_rotation(self, token) -> None:
        self.turns = False
        self.history.append(token)

    def keep_sign(self, form: Form) -> None:
        self.positive.append(form.sign)

    def keep_size(self, form: Form) -> None:
        self.fixed.append(form.size)

    def pin(self, form: Form, token) -> None:
        """A constant of this unit's own is multiplied with it, or added to it."""
        self.keep_sign(form)
        self.keep_size(form)
        self.break_rotation(token)
        if self.parent is not None:
            self.parent.history.append(token)

    def places(self) -> tuple:
        return tuple((name, axis) for name, axis, _ in self.slots)


class Wire(NamedTuple):
    unit: Unit
    form: Form


@dataclass(frozen=True)
class Record:
    """Units of one hidden index with the same symmetry.

    units      the atoms of each unit
    exchange   'rotation', 'permutation' or None
    sign       each unit may flip its sign, in all or in some of its parts
    rescaling  each unit may be rescaled, by c in some parts and 1/c in others; None
               where the answer is a matter of convention
    slots      the same atoms in an order that is the same for all units
    signs      all patterns of signs over the slots that are a symmetry, (patterns, S)
    scales     all patterns of exponents in {-1, 0, 1} with both signs, (patterns, S)
    parts      for each slot the part it is in: slots of a part change alike
    buffers    running means that move with the units; with their own patterns
    """

    units: tuple[frozenset[Atom], ...]
    exchange: str | None
    sign: bool
    rescaling: bool | None
    slots: tuple[tuple[Atom, ...], ...]
    signs: np.ndarray
    scales: np.ndarray
    parts: tuple
    buffers: tuple[tuple[Atom, ...], ...]
    buffer_signs: np.ndarray
    index: int

    def __bool__(self):
        return bool(self.exchange or self.sign or self.rescaling is not False)

    @property
    def atoms(self) -> frozenset[Atom]:
        return frozenset().union(*self.units)

    @property
    def name(self) -> str:
        """The name in the audit's table."""
        if self.exchange == "rotation":
            return "rotation"
        if self.exchange:
            name = "signed permutation" if self.sign else "permutation"
        else:
            name = "sign flip" if self.sign else ""
        parts = [name, "rescaling" if self.rescaling else ""]
        return ", ".join(p for p in parts if p)


def matrix(rows: list[tuple], variables: int) -> np.ndarray:
    """Exponents as a matrix (rows, variables)."""
    out = np.zeros((len(rows), variables), dtype=np.int64)
    for i, row in enumerate(rows):
        for variable, power in row:
            out[i, variable] = power
    return out


def grid(values: tuple[int, ...], variables: int) -> np.ndarray:
    if not variables:
        return np.zeros((1, 0), dtype=np.int64)
    axes = np.meshgrid(*[values] * variables, indexing="ij")
    return np.stack([a.ravel() for a in axes], 1)


def sign_patterns(unit: Unit) -> tuple[np.ndarray, np.ndarray]:
    """Signs of slots and of buffers for each symmetry but the identity."""

    def of(signs):
        return matrix([[(v, 1) for v in s] for s in signs], unit.variables).T

    chosen = grid((0, 1), unit.variables)
    chosen = chosen[((chosen @ of(unit.positive)) % 2 == 0).all(1)]
    slots = chosen @ of([f.sign for f in unit.slots.values()]) % 2
    buffers = chosen @ of([f.sign for f in unit.buffers.values()]) % 2
    some = slots.any(1)
    return 1 - 2 * slots[some], 1 - 2 * buffers[some]


def scale_patterns(unit: Unit, strict: bool = True) -> np.ndarray:
    """Exponents of slots, in {-1, 0, 1} and of both signs, for each symmetry."""
    held = unit.fixed + (unit.fixed_unless_means_move if strict else [])
    chosen = grid((-1, 0, 1), unit.variables)
    chosen = chosen[~(chosen @ matrix(held, unit.variables).T).any(1)]
    sizes = [f.size for f in unit.slots.values()]
    slots = chosen @ matrix(sizes, unit.variables).T
    if not len(sizes):
        return slots
    mirror = (abs(slots) <= 1).all(1) & (slots.min(1) == -1) & (slots.max(1) == 1)
    return slots[mirror]


def record(units: list[Unit]) -> Record:
    first = units[0]
    signs, buffer_signs = sign_patterns(first)
    scales = scale_patterns(first)
    if len(scales):
        rescaling = True
    else:
        rescaling = None if len(scale_patterns(first, strict=False)) else False
    exchange = None
    if len(units) > 1:
        exchange = "rotation" if first.turns else "permutation"
    slots = tuple(tuple(u.slots) for u in units)
    buffers = tuple(tuple(u.buffers) for u in units)
    atoms = tuple(frozenset(s) for s in slots)
    sign = len(signs) > 0
    parts = tuple((name, axis, form) for (name, axis, _), form in first.slots.items())
    return Record(atoms, exchange, sign, rescaling, slots, signs, scales, parts,
                  buffers, buffer_signs, first.index)  # fmt: skip


def records(units: list[Unit]) -> list[Record]:
    """Units of one index with one history and the same places are one record.

    Some of these records may hold one unit without any symmetry.
    """
    classes: dict = {}
    for unit in units:
        if unit.slots and not unit.idle:
            key = (unit.index, tuple(unit.history), unit.turns, unit.places())
            classes.setdefault(key, []).append(unit)
    return [record(members) for members in classes.values()]


@dataclass(frozen=True)
class Truth:
    """All that is known of a network's symmetries.

    records   the hidden indices, one record for each class of their units
    blocks    units that consist of other records' units (a head of attention, a group
              of maxout); their own atoms, if any, may be in any row
    idle      atoms that the loss does not depend on: they may be in any row
    flat      parameters whose gradient is zero, though a symmetry moves them
    none      atoms of no symmetry
    plain     single units without any symmetry; their atoms are in `none`
    families  for the outputs: parameters whose axis 0 is the output
    kinds     what the network was built of
    """

    records: tuple[Record, ...]
    blocks: tuple[Record, ...]
    idle: frozenset[Atom]
    flat: frozenset[str]
    none: frozenset[Atom]
    plain: tuple[Record, ...]
    families: tuple[tuple[str, ...], ...]
    kinds: frozenset[str]

    @property
    def free(self) -> frozenset[Atom]:
        """Atoms for which every answer is accepted."""
        inner = frozenset().union(*[r.atoms for r in self.records])
        outer = frozenset().union(*[r.atoms for r in self.blocks])
        return self.idle | (outer - inner)


def truth(model, units, blocks, flat, families, kinds) -> Truth:
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    every = frozenset(
        (name, axis, position)
        for name, p in named.items()
        for axis, length in enumerate(p.shape)
        for position in range(length)
    )
    known, outer = records(units), [r for r in records(blocks) if r]
    found, plain = [r for r in known if r], [r for r in known if not r]
    idle = frozenset(a for u in units if u.idle for a in u.slots)
    moved = frozenset().union(*[r.atoms for r in [*found, *outer]])
    seen = [a for r in found for u in r.units for a in u]
    assert len(seen) == len(set(seen)), "an atom in two units"
    assert moved | idle <= every, sorted((moved | idle) - every)[:3]
    return Truth(tuple(found), tuple(outer), idle, frozenset(flat),
                 every - moved - idle, tuple(plain), tuple(families),
                 frozenset(kinds))  # fmt: skip
