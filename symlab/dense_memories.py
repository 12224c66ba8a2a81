"""Hopfield networks with interactions of P spins: steps, and the states they reach.

The energy of spins s (N,) with K memories xi (K, N), all entries +-1, is
E = -sum_mu (xi_mu.s)^P. Spin i flips if that lowers the energy. With m_mu = xi_mu.s and
u = xi_mu,i s_i, flipping spin i costs sum_mu m_mu^P - (m_mu - 2 u)^P: in this
difference of energies the interaction of a spin with itself cancels. All these numbers
are integers below 2^53 in the sizes used here, and exact in float64.

At a state s equal to one memory, the other K - 1 memories act as noise, a sum of K - 1
independent terms xi ((h + 1)^P - (h - 1)^P), where h is the sum of N - 1 random signs
and xi a random sign; the memory itself gives the signal N^P - (N - 2)^P. For large N
the fraction of bits that flip is erfc(sqrt(R/2))/2 with R = N^(P-1)/(K (2P - 3)!!).
Baldi and Venkatesh, Physical Review Letters 58, 913 (1987); Krotov and Hopfield (arXiv
1606.01164).
"""

import numpy as np
from scipy.special import erf, erfc, factorial2


def number(load: float, order: int, neurons: int) -> int:
    """Return the number of memories K that has a given scaled load.

    load: the scaled load K (2P - 3)!!/N^(P-1).
    order: P, the number of spins in an interaction.
    neurons: N, the number of spins.
    """
    return round(load * neurons ** (order - 1) / factorial2(2 * order - 3))


def worth(memories: np.ndarray, spins: np.ndarray, order: int) -> np.ndarray:
    """Return the energy (C, N) that the flip of each spin costs; below 0 if E falls.

    memories: (K, N), entries +-1.
    spins: (C, N), entries +-1, one state of the network in each row.
    order: P, the number of spins in an interaction.
    """
    overlap = spins @ memories.T  # (C, K)
    kept = _power(overlap, order)
    agree = kept - _power(overlap - 2, order)  # where u = 1
    differ = kept - _power(overlap + 2, order)
    both, sign = (agree + differ) / 2, (agree - differ) / 2
    return both.sum(1, keepdims=True) + spins * (sign @ memories)


def _power(x, order: int):
    """Return x**order, exact for integers and faster than ** in NumPy."""
    y = x
    for _ in range(order - 1):
        y = y * x
    return y


def wrong(memories: np.ndarray, spins: np.ndarray, order: int) -> float:
    """Return the fraction of spins, over all states, that one step would flip.

    memories, spins, order: as for `worth`. A spin whose flip costs no energy counts
        half.
    """
    cost = worth(memories, spins, order)
    return float((cost < 0).mean() + (cost == 0).mean() / 2)


def settled(memories, spins, order: int, steps: int) -> np.ndarray:
    """Return the states (C, N) after repeated steps of all spins.

    A step flips every spin whose flip alone would lower the energy.

    memories, spins, order: as for `worth`; `spins` are the initial states.
    steps: the largest number of steps; fewer are taken if no spin flips any more.
    """
    for _ in range(steps):
        flips = worth(memories, spins, order) < 0
        if not flips.any():
            break
        spins = np.where(flips, -spins, spins)
    return spins


def gaussian_error(load) -> np.ndarray:
    """Return the fraction of a memory's bits that flip in one step, for large N and K.

    load: the scaled load K (2P - 3)!!/N^(P-1), a number or an array; the result has its
        shape. The number P of spins in an interaction enters only through the load.
    """
    return erfc(np.sqrt(1 / (2 * np.asarray(load)))) / 2


def exact_error(order: int, neurons: int, memories: int, points: int = 4000) -> float:
    """Return the probability that a bit of a stored memory flips, for finite N and K.

    order: P, the number of spins in an interaction.
    neurons: N, the number of spins.
    memories: K, their number.
    points: the number of points of the numerical integral.

    It is the probability that the noise of the other memories exceeds the signal S, by
    the inversion formula of Gil-Pelaez: 1/2 - 1/pi times the integral of sin(t S)
    phi(t)/t, where phi is the characteristic function of the noise. The noise is
    treated as continuous, although it is a multiple of an integer; this changes the
    result by the square of the ratio of this integer to the noise.
    """
    h = np.arange(-(neurons - 1), neurons, 2.0)
    logs = np.concatenate([[0], np.cumsum(np.log(np.arange(1, neurons)))])
    chance = np.exp(logs[-1] - logs - logs[::-1] - (neurons - 1) * np.log(2))
    terms = (h + 1) ** order - (h - 1) ** order
    signal = float(neurons**order - (neurons - 2) ** order)
    spread = np.sqrt((memories - 1) * (chance @ terms**2))
    t = (np.arange(points) + 0.5) * 12 / points / spread  # phi is below 1e-12 at 12
    phi = (np.cos(np.outer(t, terms)) @ chance) ** (memories - 1)
    inner = np.sin(t * signal) * phi / t
    return float(0.5 - inner.sum() * (t[1] - t[0]) / np.pi)


def symmetric_error(order: int, load) -> np.ndarray:
    """Return the fraction of wrong bits in the fixed state near a memory, for P >= 3.

    order: P, the number of spins in an interaction.
    load: the scaled load K (2P - 3)!!/N^(P-1), a number or an array; the result has its
        shape.

    The overlap m of state and memory solves m = erf(m^(P-1)/sqrt(2 load)), the
    replica-symmetric equation at temperature 0, iterated from m = 1; the fraction of
    wrong bits is (1 - m)/2. Beyond a critical load m is 0. Derived here: for P >= 3 the
    noise of the other memories does not depend on m.
    """
    m = np.ones_like(np.asarray(load, float))
    for _ in range(2000):
        m = erf(m ** (order - 1) / np.sqrt(2 * np.asarray(load)))
    return (1 - m) / 2
