"""Many configurations as one batched program: parameters carry a leading axis L.

Hyper-parameters become columns [L, 1, ...]; lanes with the same seed share their data
stream; lanes never interact, so one that diverges turns non-finite alone.
"""

from collections.abc import Callable, Hashable, Sequence

import numpy as np


def column(configs: Sequence, field: str, ndim: int = 2, dtype=np.float32):
    """Return one field of each config as an array (L, 1, ..., 1) with `ndim` axes.

    It is in float32 unless `dtype` is given: identities that hold to more than seven
    digits need dtype=float.
    """
    values = np.array([getattr(c, field) for c in configs], dtype)
    return values.reshape(-1, *[1] * (ndim - 1))


def shared(configs: Sequence, field: str = "seed") -> tuple[list, np.ndarray]:
    """Return the U different values of a field in order, and for each of L configs the
    index of its value, (L,).

    Draw data once for each value (a seed, say), then index: x[which] is (L, ...).
    """
    values = [getattr(c, field) for c in configs]
    unique = list(dict.fromkeys(values))
    position = {value: i for i, value in enumerate(unique)}
    return unique, np.array([position[v] for v in values])


def grouped(configs: Sequence, by: Callable, run: Callable[[list], Sequence]) -> list:
    """Run configs sorted by a rule, and return results in the order given.

    by: a function from a config to the value that it is sorted by. run: gets the sorted
    configs, and returns one result per config; `slices` tells it where each value
    stands. Configs of equal value keep their order.
    """
    order = sorted(range(len(configs)), key=lambda i: by(configs[i]))
    found = run([configs[i] for i in order])
    results = [None] * len(order)
    for place, result in zip(order, found, strict=True):
        results[place] = result
    return results


def slices(configs: Sequence, by: Callable) -> dict[Hashable, slice]:
    """Return {value of `by(config)`: slice of the configs with that value}.

    Raises ValueError where configs of one value do not stand side by side.
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
    """For each of L runs computed side by side, the step at which it first was seen
    infinite or NaN, or -1.
    """

    def __init__(self, n_lanes: int):
        self.at = np.full(n_lanes, -1)

    def look(self, finite, step: int) -> None:
        """Note `step` for the runs that are infinite or NaN for the first time.

        finite: (L,) booleans, NumPy or torch, for the state of L runs after `step`.
        """
        lost = ~np.asarray(finite, bool) & (self.at < 0)
        self.at[lost] = step
