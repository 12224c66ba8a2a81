"""Update rules: a map from momentum to update, with the properties needed to use it.

    mine = Rule("my_sign", torch.sign, rows=SIGNED, columns=SIGNED, sized="entries")
    SymOpt(model, overrides={"head": mine})
    SymOpt([{"params": [w], "rule": mine}])

The rules of `registry` are made in the same way, so that a user's own rule has the same
checks, states, batching, sharding and line in `describe`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import inf, isfinite

import torch
from torch import Tensor

from symlab.symopt.names import unknown

NONE, PERMUTATION = "none", "permutation"
SIGNED, ROTATION = "signed permutation", "rotation"
LINEAR = "general linear"
KINDS = (NONE, PERMUTATION, SIGNED, ROTATION, LINEAR)  # each contains those before it

SIZED = ("rows", "pairs", "spectrum", "entries", "measured")
SCALES = ("none", "muon", "rms", "scion")
ITERATIONS = ("auto", "newton_schulz", "polar_express", "gram")
ADAMW = "adamw"  # the rule of what has no group: torch's own
BY_PARTS = "by parts"  # of a weight whose parts have a rule each
RESERVED = (ADAMW, BY_PARTS)
PAIR = ("own", "other", "inner")  # what a rule of pairs is given


def _never(options: Mapping) -> bool:
    return False


@dataclass(frozen=True)
class Rule:
    """An update rule: a map of a stack of matrices, the group it respects, and its
    size.

    name: its name in param_groups, in `describe` and in a state_dict.
    map: takes momenta x (N, m, n), then its states, and keyword options; returns the
        updates (N, m, n), or with states (updates, *new states). It must not change x,
        must treat each of the N matrices independently, and must return 0 for 0.
    rows, columns: the largest group that it respects on each side, one of `KINDS`.
    sized: what has length 1 in an update, for `size`: 'rows', 'pairs' (of rows),
        'spectrum' (singular values), 'entries' (their root mean square); 'measured' if
        none of these has, and the scale 'rms' then measures each update. This is not
        checked, and the meaning of a learning rate depends on it.
    pieces: whether heads and fused halves are separate matrices for it; a rule that
        treats each row by itself does not need this.
    state: name -> function (m, n, dtype=, device=) that returns the first value of that
        state, (rows, ...), for one matrix (m, n). The momentum is not one of them.
    vectors: whether it accepts vectors, as matrices of one row.
    centres: whether its updates do not change when one vector is added to all rows of
        x. Only weights with that symmetry may use it.
    factor: for a map that multiplies each row by a number: the function from the rows'
        lengths (m, 1) and `floor` to these numbers. Large tables are then stepped row
        by row.
    entrywise: whether each entry of the update depends on that entry of x alone.
    paired: whether it is for the two factors of a low-rank product. It then gets, as
        keyword arguments, the weights of the factor that x belongs to and of the other
        one: own= (N, m, r), other= (N, r, n). The second factor is transposed, with
        inner=True.
    pads: a function of the options: whether rows and columns of zeros beside x leave
        its update unchanged, with zeros there. Small matrices of many shapes are then
        updated in one call.
    forwards: options that the map passes on, with their defaults.

    Raises ValueError for a name that is not allowed, and for unknown groups or sizes.
    """

    name: str
    map: Callable
    rows: str = NONE
    columns: str = NONE
    sized: str = "measured"
    pieces: bool = False
    state: Mapping[str, Callable] = field(default_factory=dict)
    vectors: bool = False
    centres: bool = False
    factor: Callable | None = None
    entrywise: bool = False
    paired: bool = False
    pads: Callable[[Mapping], bool] = _never
    forwards: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self):
        if not callable(self.map):
            raise ValueError(f"the map of the rule {self.name!r} must be a function")
        if self.name in RESERVED or not self.name:
            raise ValueError(f"a rule cannot have the name {self.name!r}")
        for side in (self.rows, self.columns):
            if side not in KINDS:
                raise unknown(f"group of the rule {self.name!r}", side, KINDS)
        if self.sized not in SIZED:
            raise unknown(f"size of the rule {self.name!r}", self.sized, SIZED)

    @cached_property
    def options(self) -> dict[str, object]:
        """The keyword options of the rule's map, with their defaults."""
        try:
            taken = inspect.signature(self.map).parameters.values()
        except ValueError:  # functions of torch have no signature
            taken = ()
        named = {p.name: p.default for p in taken if p.default is not p.empty}
        inner = (*self.state, *PAIR) if self.paired else tuple(self.state)
        return {k: v for k, v in named.items() if k not in inner} | dict(self.forwards)

    def needs_shift(self, options: Mapping) -> bool:
        """Return whether updates with these options are centred (their mean row is 0).

        Only a weight to whose rows one vector may be added without a change of the loss
        may have such updates.
        """
        return self.centres or bool(options.get("centred"))

    def iterates(self, options: Mapping) -> bool:
        """Return whether, with these options, the rule is an iteration that works in
        half precision.
        """
        method = options.get("method", self.options.get("method"))
        return method in ITERATIONS and "dtype" in self.options

    def check(self, options: Mapping) -> None:
        """Raise ValueError unless the rule accepts these options and returns the right
        shapes.

        The rule is called on one small matrix, (1, 4, 6).
        """
        for name, value in options.items():
            if name not in self.options:
                raise unknown(f"option of {self.name}", name, self.options)
            if isinstance(self.options[name], bool) and not isinstance(value, bool):
                raise ValueError(f"{name} must be True or False, not {value!r}")
            if isinstance(value, float) and not isfinite(value):
                raise ValueError(f"{name} must be a finite number, not {value}")
        cpu = {"device": "cpu", "dtype": torch.float32}  # whatever the defaults are
        draws = torch.Generator().manual_seed(0)
        x = torch.randn(1, 4, 6, generator=draws, **cpu)
        factors = {}
        if self.paired:
            factors = {"own": x, "other": torch.randn(1, 6, 4, generator=draws, **cpu)}
        states = [
            first(4, 6, dtype=x.dtype, device=x.device)[None]
            for first in self.state.values()
        ]
        try:
            found = self(x, options, states, factors)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        except Exception as error:
            raise ValueError(
                f"{self.name} fails on a small matrix with the options "
                f"{dict(options)}: {type(error).__name__}: {error}"
            ) from error
        wanted = [tuple(x.shape), *(tuple(s.shape) for s in states)]
        shapes = [tuple(t.shape) if isinstance(t, Tensor) else t for t in found]
        if shapes != wanted:
            raise ValueError(
                f"{self.name} returns the shapes {shapes} for a momentum "
                f"{wanted[0]} and states {wanted[1:]}: it must keep each"
            )

    def __call__(self, x: Tensor, options: Mapping, states=(), factors=None) -> tuple:
        """Return (updates, *new states) for momenta x (N, m, n)."""
        found = self.map(x, *states, **(factors or {}), **dict(options))
        return tuple(found) if self.state else (found,)

    def violates(
        self,
        group: tuple[str, str],
        *,
        shift: bool = False,
        centred: bool = False,
        transpose: bool = False,
    ) -> str:
        """Return as text which factors of a symmetry group the rule breaks; '' if none.

        group: names of the groups of outputs and inputs, such as ('permutation',
            'rotation').
        shift: whether adding one vector to all rows is in the group, too.
        centred: whether updates respect that. transpose: whether the rule gets inputs
            as rows.
        """
        sides = (self.columns, self.rows) if transpose else (self.rows, self.columns)
        return _violated(sides, group, shift and not (centred or self.centres))


def violated_by_adamw(group: tuple[str, str], *, shift: bool = False) -> str:
    """Return as text which factors of a symmetry group AdamW, an entrywise rule,
    breaks.

    group: names of the groups of outputs and inputs, such as ('permutation',
        'rotation').
    shift: whether adding one vector to all rows is in the group, too.
    """
    return _violated((SIGNED, SIGNED), group, shift)


def _violated(has: tuple[str, str], needed: tuple[str, str], shift: bool) -> str:
    found = [
        f"{need} of {side}"
        for need, have, side in zip(needed, has, ("outputs", "inputs"), strict=True)
        if KINDS.index(need) > KINDS.index(have)
    ]
    return ", ".join(found + ["shift of outputs"] * shift)


def size(
    shape: tuple[int, ...],
    convention: str | float,
    sized: str = "spectrum",
    kernel: int = 1,
) -> float:
    """Return the factor that brings an update (..., m, n) to its conventional size.

    shape: the update's shape; m and n are the numbers of outputs and inputs.
    convention: a name of the table below, or the number itself.
    sized: what has unit length in the update: 'rows', 'pairs' (of rows), 'spectrum'
        (singular values), 'entries' (their root mean square) or 'measured' (nothing:
        the factor is 1, and the scale rms measures each update).
    kernel: the number of kernel entries of a convolution (9 for 3 x 3), which n
        includes.

              spectrum             rows        entries
    none      1                    1           1
    muon      max(1, m/n)^(1/2)    1           1      Jordan's, torch.optim.Muon's
    rms       0.2 max(m, n)^(1/2)  0.2 n^(1/2) 0.2    entries as large as AdamW's
    scion     (m/c)^(1/2) / k      n^(1/2)     1/n    operator norms, n = c k

    Sources: Moonlight (arXiv 2502.16982) for rms; Pethick et al. (arXiv 2502.07529) for
    scion, with the embedding as rows, the head as signs, and the k kernel entries of a
    convolution over c channels. 'pairs' are treated as rows of 2 n. A vector (n,) is
    one row, whose size is 1 for scion. Raises ValueError for an unknown convention.
    """
    if isinstance(convention, int | float):
        return float(convention)
    if convention not in SCALES:
        raise unknown("scale", convention, (*SCALES, "a number"))
    if sized == "measured":
        return 1.0
    vector = len(shape) < 2
    m, n = (1, shape[-1]) if vector else shape[-2:]
    if convention == "rms":
        lengths = {"rows": n, "pairs": 2 * n, "spectrum": max(m, n), "entries": 1}
        return 0.2 * lengths[sized] ** 0.5
    if convention == "none" or (convention == "scion" and vector):
        return 1.0
    if convention == "muon":
        return max(1.0, m / max(n, 1)) ** 0.5 if sized == "spectrum" else 1.0
    if sized == "spectrum":
        return (m * kernel / max(n, 1)) ** 0.5 / kernel
    return 1 / max(n, 1) if sized == "entries" else n**0.5


def check_size(convention: str | float, what: str = "scale") -> None:
    """Raise ValueError unless convention is a name that `size` accepts or a positive
    number.

    what: the name of the setting, for the message.
    """
    if isinstance(convention, str):
        size((1, 1), convention)
    elif not isinstance(convention, int | float) or isinstance(convention, bool):
        raise ValueError(f"{what} must be a name or a number, not {convention!r}")
    elif not 0 < float(convention) < inf or not isfinite(convention):
        raise ValueError(f"{what} must be a number above 0, not {convention}")
