"""Functions on the cyclic group Z_n: frequencies, a filter, averages over orbits.

A weight vector with one entry for each number modulo n is a function on Z_n. The real
characters of frequency w = 1, ..., (n-1)/2 are cos(2 pi w i/n) and sin(2 pi w i/n), and
span a plane that every shift of Z_n maps to itself; frequency 0 is the constant. n is
odd here, so that each frequency but 0 has two characters.
"""

import numpy as np


def characters(n: int) -> np.ndarray:
    """Return the orthonormal real characters ((n-1)/2, 2, n): cosine and sine.

    Raises ValueError for an even n, whose last frequency has one character only.
    """
    if n < 3 or n % 2 == 0:
        raise ValueError(f"n is {n}: use an odd number of at least 3")
    angle = 2 * np.pi * np.outer(np.arange(1, (n + 1) // 2), np.arange(n)) / n
    return np.sqrt(2 / n) * np.stack([np.cos(angle), np.sin(angle)], 1)


def power(x: np.ndarray) -> np.ndarray:
    """Return the squared norm (..., (n-1)/2) of x (..., n) at each frequency but 0.

    x is a function on the integers modulo n, n odd; frequency w is the plane of cos(2
    pi w i/n) and sin(2 pi w i/n).
    """
    parts = np.einsum("...n,wpn->...wp", x, characters(x.shape[-1]))
    return np.sum(parts**2, -1)


def dominant(*weights: np.ndarray) -> np.ndarray:
    """Return the frequency (...) in which weights (..., n) together have most power.

    weights: the weights of neurons, functions on the integers modulo n; several arrays,
        such as incoming and outgoing weights, may be given. Each one's power is divided
        by its sum, and these are added, so that all weights of a neuron count alike. A
        weight that is constant counts as nothing.
    """
    shares = 0.0
    for x in weights:
        p = power(x)
        shares = shares + p / np.maximum(p.sum(-1, keepdims=True), 1e-300)
    return shares.argmax(-1) + 1


def keep(x: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Return the part (..., n) of x (..., n) at one frequency each.

    x: functions on the integers modulo n. frequency: (...), from 1 to (n-1)/2.
    """
    plane = characters(x.shape[-1])[np.asarray(frequency) - 1]  # (..., 2, n)
    inside = (plane * x[..., None, :]).sum(-1)  # (..., 2)
    return (plane * inside[..., None]).sum(-2)


def by_offset(table: np.ndarray) -> np.ndarray:
    """Return a table over (a, b, c) as one over (a, b, d), with d = c - a - b modulo n.

    table: (n, n, n), such as logits of the answers c to a + b modulo n. The result at
        (a, b, d) is table[a, b, a + b + d]. The group Z_n x Z_n moves (a, b) and takes
        the answer a + b along: what remains is the offset d from the right answer.
    """
    n = len(table)
    a, b, d = np.ogrid[:n, :n, :n]
    return table[a, b, (a + b + d) % n]


def orbit_average(table: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the mean (n,) of logits by their offset from the right answer.

    table: (n, n, n), over pairs (a, b) and the offset d = c - a - b modulo n of the
        answer c, as `by_offset` returns it. kept: (n, n), the pairs over which is
        averaged.

    It is the average over the group Z_n x Z_n, where the pairs that are not kept are
    left out; an invariant answer is right where the largest entry is the first. Raises
    ValueError where no pair is kept.
    """
    if not kept.any():
        raise ValueError("no pair is kept: keep at least one to average over")
    return by_offset(table)[kept].mean(0)
