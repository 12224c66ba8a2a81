"""The rules that come with SymOpt, by name; each is a `Rule`, like a user's own."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from symlab.symopt import executed, relatives, rules
from symlab.symopt.low_rank import low_rank
from symlab.symopt.names import unknown
from symlab.symopt.rule import (
    ADAMW,
    ITERATIONS,
    LINEAR,
    PERMUTATION,
    ROTATION,
    SIGNED,
    Rule,
)

POLAR = {"steps": None, "dtype": None, "cutoff": None}  # options of `polar`


def normuon(
    x: Tensor,
    second: Tensor | None = None,
    *,
    beta2: float = 0.95,
    eps: float = 1e-8,
    method: str = "auto",
    **options,
) -> tuple[Tensor, Tensor]:
    """Return NorMuon's update of a momentum x (..., m, n), and its next state.

    x: the momentum. second: (..., m, 1), the running mean square of each row's entries,
        None at first.
    beta2: decay of that average. eps: added to its root.
    method, options: of `polar`.

    The rows of the polar factor of x are divided by the root of `second`; see
    `relatives.normuon`. Source: arXiv 2510.05491.
    """
    factor = rules.spectral(x, method=method, **options)
    return relatives.normuon(factor, second, beta2, eps)


def _zeros(m: int, n: int, **kind) -> Tensor:
    return torch.zeros(m, 1, **kind)


def _entries(m: int, n: int, **kind) -> Tensor:
    return torch.zeros(m, n, **kind)


def _inputs(m: int, n: int, **kind) -> Tensor:
    return torch.zeros(n, n, **kind)


def _number(m: int, n: int, **kind) -> Tensor:
    return torch.zeros(1, 1, **kind)


def _eye(m: int, n: int, **kind) -> Tensor:
    return torch.eye(m, **kind)


def _rows(name: str, map: Callable, **more) -> Rule:
    return Rule(name, map, PERMUTATION, ROTATION, "rows", **more)


def _pads(options: Mapping) -> bool:
    """An iteration does; a cut-off, a mean over rows and a floor count the rows."""
    iterates = options.get("method", "auto") in ITERATIONS
    return iterates and not (options.get("centred") or options.get("floor"))


def _spectral(name: str, map: Callable, rows: str = ROTATION, **more) -> Rule:
    return Rule(name, map, rows, ROTATION, "spectrum", pieces=True, **more)


STACK = (  # the layerwise stack
    _rows("row_norm", rules.row_norm, factor=rules.row_factor),
    _rows("centred_row_norm", rules.centred_row_norm, centres=True),
    Rule("paired_row_norm", rules.paired_row_norm, PERMUTATION, ROTATION, "pairs"),
    _spectral("spectral", rules.spectral, pads=_pads, forwards=POLAR),
    _spectral(
        "row_then_spectral",
        rules.row_then_spectral,
        PERMUTATION,
        pads=_pads,
        forwards=POLAR,
    ),
    _rows("spectral_then_row", rules.spectral_then_row, pieces=True, forwards=POLAR),
)
RELATIVES = (
    Rule(
        "sign", relatives.sign, SIGNED, SIGNED, "entries", vectors=True, entrywise=True
    ),
    Rule("bias_rms", relatives.bias_rms, ROTATION, ROTATION, "entries", vectors=True),
    Rule("sinkhorn", relatives.sinkhorn, SIGNED, SIGNED, "entries"),
    Rule(
        "freon",
        relatives.freon,
        ROTATION,
        ROTATION,
        pieces=True,
        forwards=POLAR | {"damping": None},
    ),
    Rule("kaon", relatives.kaon, ROTATION, ROTATION, pieces=True),
    Rule(
        "normuon",
        normuon,
        SIGNED,
        ROTATION,
        pieces=True,
        state={"second": _zeros},
        forwards=POLAR,
    ),
    Rule(
        "aro",
        relatives.aro,
        SIGNED,
        SIGNED,
        pieces=True,
        state={"rotation": _eye},
    ),
    Rule(
        "eigen_adam",
        relatives.eigen_adam,
        PERMUTATION,
        ROTATION,
        state={
            "mean": _entries,
            "second": _entries,
            "gram": _inputs,
            "count": _number,
        },
    ),
)
PAIRS = (  # the factors of low-rank products
    Rule(
        "low_rank",
        low_rank,
        ROTATION,
        LINEAR,
        "spectrum",
        paired=True,
        forwards=POLAR,
    ),
)
EXECUTED = (  # the stack as the authors' code executes it
    _rows("executed_row_norm", executed.executed_row_norm),
    _spectral("executed_right_polar", executed.executed_right_polar),
    _spectral("executed_left_polar", executed.executed_left_polar),
    _spectral(
        "executed_hybrid", partial(executed.executed_hybrid, coupled=False), PERMUTATION
    ),
    Rule(
        "executed_fused_gate_up",
        executed.executed_fused_gate_up,
        ROTATION,
        ROTATION,
        "spectrum",
    ),
)
RULES = {rule.name: rule for rule in (*STACK, *PAIRS, *RELATIVES, *EXECUTED)}


def rule_of(rule: str | Rule, own: dict[str, Rule] | None = None) -> Rule:
    """Return the `Rule` with a given name; a `Rule` is returned unchanged.

    own: {name: Rule} of further rules. Raises ValueError for an unknown name.
    """
    if isinstance(rule, Rule):
        return rule
    known = RULES | (own or {})
    if rule not in known:
        raise unknown("rule", rule, (*known, ADAMW))
    return known[rule]
