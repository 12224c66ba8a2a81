"""Many configs as one batched program: "lanes" are runs along the leading axis L.

Each hyper-parameter becomes an array [L, 1, ...]. Lanes with the same seed share their
random data. Lanes never interact, so if one diverges, only its own numbers become
non-finite.
"""

from collections.abc import Callable, Hashable, Sequence

import numpy as np


def column(configs: Sequence, field: str, ndim: int = 2, dtype=np.float32):
    """Return one field of each of L configs as an array (L, 1, ..., 1) with `ndim`
    axes.

    configs: the configs. field: the name of the field.
    dtype: float32 by default; identities that hold to more than seven digits need
        dtype=float.
    """
    values = np.array([getattr(c, field) for c in configs], dtype)
    return values.reshape(-1, *[1] * (ndim - 1))


def shared(configs: Sequence, field: str = "seed") -> tuple[list, np.ndarray]:
    """Return the U different values of a field, and the index of each config's value,
    (L,).

    configs: L configs. field: the name of the field. Values are in order of occurrence.

    Data can then be drawn once for each value (a seed, say), x (U, ...), and x[which]
    is (L, ...).
    """
    values = [getattr(c, field) for c in configs]
    unique = list(dict.fromkeys(values))
    position = {value: i for i, value in enumerate(unique)}
    return unique, np.array([position[v] for v in values])


def grouped(configs: Sequence, by: Callable, run: Callable[[list], Sequence]) -> list:
    """Run configs sorted by some value, and return the results in the order given.

    by: a function from a config to the value by which it is sorted. Configs of equal
        value keep their order.
    run: a function from the sorted configs to one result per config; it can use
        `slices` to find the configs of each value.
    """
    order = sorted(range(len(configs)), key=lambda i: by(configs[i]))
    found = run([configs[i] for i in order])
    results = [None] * len(order)
    for place, result in zip(order, found, strict=True):
        results[place] = result
    return results


def slices(configs: Sequence, by: Callable) -> dict[Hashable, slice]:
    """Return {value of `by(config)`: slice of the configs with that value}.

    by: a function from a config to a value.

    Raises ValueError if configs of one value are not adjacent.
    """
    values = [by(c) for c in configs]
    found = {}
    for value in dict.fromkeys(values):
        start, n = values.index(value), values.count(value)
        if values[start : start + n] != [value] * n:
            raise ValueError(
                f"lanes of {value!r} do not stand side by side: sort the configs, as "
                "lanes.grouped does"
            )
        found[value] = slice(start, start + n)
    return found


class Divergence:
    """The step at which each of L runs, computed side by side, diverged.

    n_lanes: L.
    at: (L,), the step at which a run was first seen to be infinite or NaN, or -1.
    """

    def __init__(self, n_lanes: int):
        self.at = np.full(n_lanes, -1)

    def look(self, finite, step: int) -> None:
        """Record `step` for those runs that are infinite or NaN for the first time.

        finite: (L,) booleans, NumPy or torch, whether the state of each run is finite
            after `step`.
        """
        lost = ~np.asarray(finite, bool) & (self.at < 0)
        self.at[lost] = step
