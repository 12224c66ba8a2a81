"""Many configurations as one batched program: parameters carry a leading axis L.

Hyper-parameters become columns [L, 1, ...]; lanes with the same seed share their data
stream; lanes never interact, so one that diverges turns non-finite alone.
"""

from collections.abc import Sequence

import numpy as np


def column(configs: Sequence, field: str, ndim: int = 2, dtype=np.float32):
    """One config field as an array (L, 1, ..., 1) with `ndim` axes."""
    values = np.array([getattr(c, field) for c in configs], dtype)
    return values.reshape(-1, *[1] * (ndim - 1))


def shared(configs: Sequence, field: str = "seed") -> tuple[list, np.ndarray]:
    """The distinct values of a field (U of them, in order) and each lane's index (L,).

    Draw data once for each of the U seeds, then index: x[which] is (L, ...).
    """
    values = [getattr(c, field) for c in configs]
    unique = list(dict.fromkeys(values))
    position = {value: i for i, value in enumerate(unique)}
    return unique, np.array([position[v] for v in values])


class Divergence:
    """The step at which each lane first was seen non-finite, or -1."""

    def __init__(self, n_lanes: int):
        self.at = np.full(n_lanes, -1)

    def look(self, finite, step: int) -> None:
        """`finite`: (L,) booleans, numpy or torch, for the state after `step`."""
        lost = ~np.asarray(finite, bool) & (self.at < 0)
        self.at[lost] = step
