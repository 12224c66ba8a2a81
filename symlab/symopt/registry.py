"""The rules by name: their map, the group that they respect, the size of their entries.

A rule maps a stack of matrices (N, m, n) to updates (N, m, n); one with state takes and
returns tensors (N, ...), too.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from symlab.symopt import executed, relatives, rules

SIGNED, PERMUTATION, ROTATION = "signed permutation", "permutation", "rotation"


@dataclass(frozen=True)
class Rule:
    """A map with what has to be known to use it.

    rows, columns: the largest group it respects on each side. sized: what has unit
    length in an update, or 'measured'. pieces: whether heads and fused halves are to
    be told apart (a row does not care). state: what it carries, as functions of m to
    its first value for one matrix. factor: where the map multiplies each row by a
    number, that number of the rows' lengths. entrywise: each entry sees itself alone.
    """

    map: Callable
    rows: str
    columns: str
    sized: str
    pieces: bool = False
    state: dict[str, Callable] = field(default_factory=dict)
    vectors: bool = False
    factor: Callable | None = None
    entrywise: bool = False

    @property
    def options(self) -> dict[str, object]:
        """Its keyword arguments with their defaults."""
        taken = inspect.signature(self.map).parameters.values()
        named = {p.name: p.default for p in taken if p.default is not p.empty}
        inner = ("heads", "head_rows", "rotation", "second")  # the optimizer's own
        if any(p.kind is p.VAR_KEYWORD for p in taken):
            named |= {"steps": None, "dtype": None, "cutoff": None}
        return {k: v for k, v in named.items() if k not in inner}


def normuon(
    x: Tensor,
    second: Tensor | None = None,
    *,
    beta2: float = 0.95,
    eps: float = 1e-8,
    method: str = "auto",
    **options,
) -> tuple[Tensor, Tensor]:
    """NorMuon of a momentum: the polar factor, then `relatives.normuon`."""
    factor = rules.spectral(x, method=method, **options)
    return relatives.normuon(factor, second, beta2, eps)


def _zeros(m: int, **kind) -> Tensor:
    return torch.zeros(m, 1, **kind)


def _spectral(map: Callable, columns: str = ROTATION, rows: str = ROTATION) -> Rule:
    return Rule(map, rows, columns, "spectrum", pieces=True)


RULES = {
    # of the layerwise stack
    "row_norm": Rule(
        rules.row_norm, PERMUTATION, ROTATION, "rows", factor=rules.row_factor
    ),
    "centred_row_norm": Rule(rules.centred_row_norm, PERMUTATION, ROTATION, "rows"),
    "paired_row_norm": Rule(rules.paired_row_norm, PERMUTATION, ROTATION, "pairs"),
    "spectral": _spectral(rules.spectral),
    "row_then_spectral": _spectral(rules.row_then_spectral, rows=PERMUTATION),
    "spectral_then_row": Rule(
        rules.spectral_then_row, PERMUTATION, ROTATION, "rows", pieces=True
    ),
    # relatives
    "sign": Rule(
        relatives.sign, SIGNED, SIGNED, "entries", vectors=True, entrywise=True
    ),
    "bias_rms": Rule(relatives.bias_rms, ROTATION, ROTATION, "entries", vectors=True),
    "sinkhorn": Rule(relatives.sinkhorn, SIGNED, SIGNED, "entries"),
    "freon": Rule(relatives.freon, ROTATION, ROTATION, "measured", pieces=True),
    "kaon": Rule(relatives.kaon, ROTATION, ROTATION, "measured", pieces=True),
    "normuon": Rule(
        normuon, SIGNED, ROTATION, "measured", pieces=True, state={"second": _zeros}
    ),
    "aro": Rule(
        relatives.aro,
        SIGNED,
        SIGNED,
        "measured",
        pieces=True,
        state={"rotation": torch.eye},
    ),
    # as the authors' code executes them
    "executed_row_norm": Rule(
        executed.executed_row_norm, PERMUTATION, ROTATION, "rows"
    ),
    "executed_right_polar": _spectral(executed.executed_right_polar),
    "executed_left_polar": _spectral(executed.executed_left_polar),
    "executed_hybrid": _spectral(
        partial(executed.executed_hybrid, coupled=False), rows=PERMUTATION
    ),
    "executed_fused_gate_up": Rule(
        executed.executed_fused_gate_up, ROTATION, ROTATION, "spectrum"
    ),
}
ADAMW = "adamw"  # the rule of everything without a group; torch's own


def violated(
    rule: str,
    group: tuple[str, str],
    *,
    shift: bool = False,
    centred: bool = False,
    transpose: bool = False,
) -> str:
    """The factors of a block's group (outputs, inputs) that a rule does not respect."""
    sides = (
        (SIGNED, SIGNED) if rule == ADAMW else (RULES[rule].rows, RULES[rule].columns)
    )
    sides = sides[::-1] if transpose else sides
    order = (PERMUTATION, SIGNED, ROTATION)  # each contains the ones before
    found = [
        f"{needed} of {side}"
        for needed, has, side in zip(group, sides, ("outputs", "inputs"), strict=True)
        if order.index(needed) > order.index(has)
    ]
    centred = centred or rule == "centred_row_norm"
    if shift and not centred:
        found.append("shift of outputs")
    return ", ".join(found)


def size(shape: tuple[int, ...], convention: str | float, sized: str) -> float:
    """What multiplies an update of matrices (..., m, n), by name, or the number given.

    sized: what has unit length in the update: 'rows', 'pairs' (of rows), 'spectrum'
    (singular values), 'entries' (their root mean square).

              spectrum            rows       entries
    none      1                   1          1
    muon      max(1, m/n)^(1/2)   1          1         Jordan's, torch.optim.Muon's
    rms       .2 max(m, n)^(1/2)  .2 n^(1/2) .2        entries as large as AdamW's
    scion     (m/n)^(1/2)         n^(1/2)    1/n       norms of operators

    Sources: Moonlight (arXiv 2502.16982) for rms, Pethick et al. (arXiv 2502.07529) for
    scion, with its embedding as rows and its head as signs.
    """
    if isinstance(convention, int | float):
        return float(convention)
    m, n = shape[-2:] if len(shape) > 1 else (1, shape[-1])
    lengths = {"rows": n, "pairs": 2 * n, "spectrum": max(m, n), "entries": 1}
    if convention == "rms":
        return 0.2 * lengths[sized] ** 0.5
    if convention in ("none", "muon", "scion") and sized == "spectrum":
        return rules.scale(shape, convention)
    if convention in ("none", "muon"):
        return 1.0
    if convention == "scion":
        vector = len(shape) < 2
        return 1.0 if vector else 1 / n if sized == "entries" else n**0.5
    raise ValueError(
        f"unknown scale {convention!r}: use none, muon, rms, scion or a number"
    )
