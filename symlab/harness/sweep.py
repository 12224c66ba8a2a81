"""Sweeps: lists of configs. A run is identified by the hash of its typed config."""

import json
from collections.abc import Iterable
from dataclasses import fields
from functools import lru_cache
from hashlib import sha256
from itertools import product

from symlab.harness.errors import UserError

SCALES = ("smoke", "quick", "paper")
TYPES = (int, float, str, bool)


def grid(config, **axes) -> list:
    """Return configs for every combination of the axes' values, the last axis fastest.

    config: the class Config of an experiment.
    axes: a list of values for each field; a single value stands for a list of one.

    >>> grid(Config, lr=[0.1, 0.2], seed=range(3))     # 6 configs
    """
    axes = {name: _axis(values) for name, values in axes.items()}
    keys = list(axes)
    combinations = product(*axes.values())
    return [config(**dict(zip(keys, c, strict=True))) for c in combinations]


def zipped(config, **axes) -> list:
    """Return configs with the first value of every axis, with the second values, and so
    on.

    config: the class Config of an experiment.
    axes: a list of values for each field; a single value is repeated.

    Raises UserError if the lists have different lengths.
    """
    axes = {name: _axis(values) for name, values in axes.items()}
    n = max(len(v) for v in axes.values())
    if bad := {k: len(v) for k, v in axes.items() if len(v) not in (1, n)}:
        raise UserError(f"zipped axes must have length 1 or {n}, not {bad}")
    rows = ({k: v[i % len(v)] for k, v in axes.items()} for i in range(n))
    return [config(**row) for row in rows]


def _axis(values) -> list:
    bare = isinstance(values, str) or not isinstance(values, Iterable)
    return [values] if bare else list(values)


def typed(config) -> dict:
    """Return the values of a config's fields by name, converted to their declared
    types.

    NumPy scalars are accepted, and so is an int for a float. Raises UserError for any
    other type and for NaN.
    """
    out = {}
    for name, kind in _kinds(type(config)).items():
        value = getattr(config, name)
        if type(value) is not kind or value != value:
            value = _converted(name, kind, value)
        out[name] = value + 0.0 if kind is float else value  # -0.0 is 0.0
    return out


def _converted(name: str, kind: type, value):
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or value != value:
        raise UserError(
            f"config field {name!r} is declared {kind.__name__} "
            f"and holds {value!r}: give it a value of that type (not NaN)"
        )
    return value


@lru_cache(maxsize=64)
def _kinds(config: type) -> dict[str, type]:
    return {f.name: declared(f) for f in fields(config)}


def declared(f) -> type:
    """Return the declared type of a dataclass field.

    Raises UserError for a type that rows cannot hold.
    """
    names = {t.__name__: t for t in TYPES}
    kind = names.get(f.type, f.type) if isinstance(f.type, str) else f.type
    if kind not in TYPES:
        shown = getattr(kind, "__name__", kind)
        raise UserError(
            f"config field {f.name!r} has the unsupported type {shown}: use int, "
            "float, str or bool, so that a run has a name and a column"
        )
    return kind


def key(values: dict) -> str:
    """Return the key of a config: 16 hex digits of a hash of its typed values.

    values: {field: value}; the order of the fields makes no difference.
    """
    return _digest(_part(name, values[name]) for name in sorted(values))


def keys(configs: list[dict]) -> list[str]:
    """Return the `key` of each config; all configs have the same fields and types.

    A sweep of 100,000 runs has few different values in most fields, so the text that is
    hashed is made once for each value.
    """
    parts = {name: _Parts(name) for name in sorted(configs[0] if configs else ())}
    return [_digest([known[c[n]] for n, known in parts.items()]) for c in configs]


class _Parts(dict):
    """{value of one field: its part of the text that is hashed}."""

    def __init__(self, name: str):
        self.name = name

    def __missing__(self, value) -> str:
        self[value] = part = _part(self.name, value)
        return part


def _part(name: str, value) -> str:
    return _encode({name: [type(value).__name__, repr(value)]})[1:-1]


def _digest(parts: Iterable[str]) -> str:
    """Of the JSON object that has these parts, in the order of their names."""
    return sha256(f"{{{','.join(parts)}}}".encode()).hexdigest()[:16]


_encode = json.JSONEncoder(separators=(",", ":")).encode
