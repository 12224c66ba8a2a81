"""Named random streams: the same (seed, name) gives the same numbers everywhere.

Name the purpose ("teacher", "init", "data"), never the arm: arms of equal seed then
share data and initialisation, and their differences are paired.
"""

from hashlib import sha256

import numpy as np


def _sequence(seed: int, name: str) -> np.random.SeedSequence:
    digest = sha256(name.encode()).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]
    return np.random.SeedSequence([seed, *words])


def stream(seed: int, name: str) -> np.random.Generator:
    """An independent generator: Philox keyed by the seed and the SHA-256 of the name.

    `seed` is a non-negative integer. Drawn on the CPU, so a GPU run sees the same data.
    """
    return np.random.Generator(np.random.Philox(_sequence(seed, name)))


def integer(seed: int, name: str) -> int:
    """A 63-bit integer from the same stream, for a library that takes a seed."""
    return int(_sequence(seed, name).generate_state(1, np.uint64)[0] >> 1)
