"""Functions on the cyclic group Z_n: frequencies, a filter, averages over orbits.

A weight vector with one entry for each number modulo n is a function on Z_n. The real
characters of frequency w = 1, ..., (n-1)/2 are cos(2 pi w i/n) and sin(2 pi w i/n);
they span a plane that every shift of Z_n maps to itself. Frequency 0 is the constant.
n must be odd, so that each frequency except 0 has two characters.
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
    """Return the squared norm (..., (n-1)/2) of x (..., n) at each frequency except 0.

    x is a function on the integers modulo n, n odd; frequency w is the plane spanned by
    cos(2 pi w i/n) and sin(2 pi w i/n).
    """
    parts = np.einsum("...n,wpn->...wp", x, characters(x.shape[-1]))
    return np.sum(parts**2, -1)


def dominant(*weights: np.ndarray) -> np.ndarray:
    """Return the frequency (...) at which weights (..., n) have the most power
    together.

    weights: the weights of neurons, functions on the integers modulo n; several arrays,
        such as incoming and outgoing weights, may be given.

    The power of each array is divided by its sum over frequencies before the powers are
    added, so that all weights of a neuron count alike. Constant weights count as zero.
    """
    shares = 0.0
    for x in weights:
        p = power(x)
        shares = shares + p / np.maximum(p.sum(-1, keepdims=True), 1e-300)
    return shares.argmax(-1) + 1


def keep(x: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Return the part (..., n) of each function in x (..., n) at one frequency.

    x: functions on the integers modulo n.
    frequency: (...), the frequency kept of each function, from 1 to (n-1)/2.
    """
    plane = characters(x.shape[-1])[np.asarray(frequency) - 1]  # (..., 2, n)
    inside = (plane * x[..., None, :]).sum(-1)  # (..., 2)
    return (plane * inside[..., None]).sum(-2)


def by_offset(table: np.ndarray) -> np.ndarray:
    """Return a table over (a, b, c) as one over (a, b, d), with d = c - a - b modulo n.

    table: (n, n, n), such as logits of the answers c to a + b modulo n.

    The result at (a, b, d) is table[a, b, a + b + d]. The group Z_n x Z_n shifts a and
    b, and with them the right answer a + b; the offset d from the right answer does not
    change.
    """
    n = len(table)
    a, b, d = np.ogrid[:n, :n, :n]
    return table[a, b, (a + b + d) % n]


def orbit_average(table: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the mean (n,) of logits, ordered by their offset from the right answer.

    table: (n, n, n), over pairs (a, b) and the offset d = c - a - b modulo n of the
        answer c, as `by_offset` returns it.
    kept: (n, n), booleans: the pairs that are averaged.

    It is the average over the group Z_n x Z_n, without the pairs that are not kept. The
    averaged model gives the right answer if entry 0, the logit of the right answer, is
    the largest. Raises ValueError if no pair is kept.
    """
    if not kept.any():
        raise ValueError("no pair is kept: keep at least one to average over")
    return by_offset(table)[kept].mean(0)
