"""Named random streams: the same (seed, name) gives the same numbers everywhere.

A name is that of the purpose of the numbers ("teacher", "init", "data"), never of the
method under test: methods of equal seed then share data and initialisation, so that
their differences are paired.
"""

from hashlib import sha256

import numpy as np


def _sequence(seed: int, name: str) -> np.random.SeedSequence:
    digest = sha256(name.encode()).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]
    return np.random.SeedSequence([seed, *words])


def stream(seed: int, name: str) -> np.random.Generator:
    """Return a NumPy random generator that is the same for the same (seed, name)
    everywhere.

    seed: a non-negative integer. name: the purpose of the numbers, such as "data".

    It is Philox, keyed by the seed and the SHA-256 of the name; streams of different
    names are independent. Numbers are drawn on the CPU, so a run on a GPU gets the same
    data.
    """
    return np.random.Generator(np.random.Philox(_sequence(seed, name)))


def integer(seed: int, name: str) -> int:
    """Return a 63-bit integer that is the same for the same (seed, name) everywhere.

    It is for libraries that take a seed.
    """
    return int(_sequence(seed, name).generate_state(1, np.uint64)[0] >> 1)
