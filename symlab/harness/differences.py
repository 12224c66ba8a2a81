"""Comparison of two columns of values, row by row, with a tolerance.

A pair of values is EQUAL, WITHIN the tolerance, or BEYOND it. NaN equals NaN, and a
missing value equals a missing one. Lists are compared entry by entry; a pair of lists
has the state of its most different entries, and lists of unequal length are BEYOND.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from symlab.harness.columns import EMPTY, NOTHING, joined, kind_of

EQUAL, WITHIN, BEYOND = range(3)
NUMBERS = ("int", "float")


@dataclass(frozen=True)
class Tolerance:
    """Numbers a and b agree if |a - b| <= absolute + relative * max(|a|, |b|).

    The default of `relative` is ten times the rounding of float32; that of `absolute`
    is far above the rounding residuals (1e-16) of identities in float64.
    columns: {column: Tolerance} of the columns that have their own.
    """

    absolute: float = 1e-12
    relative: float = 1e-6
    columns: Mapping[str, "Tolerance"] = field(default_factory=dict)

    def of(self, column: str) -> "Tolerance":
        """Return the tolerance that applies to a column, by the column's name."""
        return self.columns.get(column, self)


@dataclass(frozen=True)
class Apart:
    """The differences between two columns of N values.

    state: (N,), EQUAL, WITHIN or BEYOND for each row.
    absolute: the largest difference of two finite numbers; 0 without numbers.
    relative: the largest difference divided by the larger of the two magnitudes; 0
        without numbers.
    said: a sentence if the types of the columns differ, '' otherwise.
    """

    state: np.ndarray
    absolute: float = 0.0
    relative: float = 0.0
    said: str = ""


def apart(a: pa.Array, b: pa.Array, tolerance: Tolerance) -> Apart:
    """Return the differences between two columns of equal length.

    a, b: the columns. tolerance: which differences count as agreement.

    Values whose types cannot share a column, such as numbers and texts, are not
    compared: such rows are BEYOND, and a sentence says so.
    """
    kinds = kind_of(a), kind_of(b)
    both = joined(*kinds) or joined(*kinds[::-1])
    there, other = _there(a), _there(b)
    state = np.where(there == other, EQUAL, BEYOND)
    shared = np.flatnonzero(there & other)
    if not len(shared):
        return Apart(state)
    if not both:
        state[shared] = BEYOND
        return Apart(state, said=f"holds {kinds[0]} in A and {kinds[1]} in B: these "
                                 "are not compared")  # fmt: skip
    found = _values(a.take(shared), b.take(shared), both, tolerance)
    state[shared] = found.state
    said = f"holds {kinds[0]} in A and {kinds[1]} in B: compared as {both}"
    if kinds[0] == kinds[1] or {EMPTY, NOTHING} & {*kinds}:
        said = ""
    return Apart(state, found.absolute, found.relative, found.said or said)


def _there(column: pa.Array) -> np.ndarray:
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=bool)


def _values(a: pa.Array, b: pa.Array, kind: str, tolerance: Tolerance) -> Apart:
    """Of values that are there on both sides."""
    if _is_list(a.type) and _is_list(b.type):
        return _lists(a, b, tolerance)
    if kind in NUMBERS:
        return _numbers(_float(a), _float(b), tolerance)
    if a.type == b.type and kind in ("bool", "string", "large int"):
        same = pc.equal(a, b).to_numpy(zero_copy_only=False)
        return Apart(np.where(same, EQUAL, BEYOND))
    pairs = zip(a.to_pylist(), b.to_pylist(), strict=True)
    same = np.array([repr(x) == repr(y) for x, y in pairs])  # NaN prints as NaN
    said = f"is of type {a.type}: compared for equality only"
    state = np.where(same, EQUAL, BEYOND)
    return Apart(state, said="" if kind == "large int" else said)


def _is_list(arrow: pa.DataType) -> bool:
    return pa.types.is_list(arrow) or pa.types.is_large_list(arrow)


def _float(values: pa.Array) -> np.ndarray:
    return values.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _numbers(a: np.ndarray, b: np.ndarray, tolerance: Tolerance) -> Apart:
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.isfinite(a) & np.isfinite(b)
    size = np.maximum(np.abs(a), np.abs(b))[finite]
    difference = np.full(len(a), np.inf)
    with np.errstate(over="ignore"):
        difference[finite] = np.abs(a[finite] - b[finite])
    limit = np.full(len(a), -1.0)  # nothing but itself is near an infinity
    limit[finite] = tolerance.absolute + tolerance.relative * size
    state = np.where(equal, EQUAL, np.where(difference <= limit, WITHIN, BEYOND))
    if not finite.any():
        return Apart(state)
    absolute = difference[finite]
    relative = absolute / np.maximum(size, np.finfo(float).tiny)
    return Apart(state, float(absolute.max()), float(relative.max()))


def _lists(a: pa.Array, b: pa.Array, tolerance: Tolerance) -> Apart:
    lengths = a.value_lengths().to_numpy(zero_copy_only=False)
    equally = lengths == b.value_lengths().to_numpy(zero_copy_only=False)
    state = np.where(equally, EQUAL, BEYOND)
    said = "" if equally.all() else "has lists of unequal length"
    same = np.flatnonzero(equally)
    inner = apart(a.take(same).flatten(), b.take(same).flatten(), tolerance)
    rows = np.repeat(same, lengths[same])
    np.maximum.at(state, rows, inner.state)
    return Apart(state, inner.absolute, inner.relative, inner.said or said)
