"""Fits of decay rates over a stated window, and linear equations with a measured
source.

A fit says over which samples it was made and how far the curve departs from the fitted
law: `Rate.low` and `Rate.high` are the least and the largest rate among `PIECES` equal
parts of the window. For one deterministic curve these say more than a standard error of
the slope, which presupposes independent residuals. They are no confidence limits: no
sampling is modelled.
"""

from dataclasses import dataclass

import numpy as np

PIECES = 4  # parts of a window whose own rates are the ends of the interval
FEWEST = 3  # samples in each part


@dataclass(frozen=True)
class Rate:
    """The fitted rate of a law, and the range of its local values over the window.

    value: the exponent of t (power law), or the decay per unit of t (exponential).
    low, high: the least and the largest rate fitted to equal parts of the window.
    constant: c in y = c t^value, or in y = c exp(-value t).
    start, end: the first and the last t used.
    n: the number of samples.
    """

    value: float
    low: float
    high: float
    constant: float
    start: float
    end: float
    n: int


def power_law(t, y, window: tuple[float, float], floor: float = 0.0) -> Rate:
    """Return the exponent p of y = c t^p, by least squares of log y on log t.

    t, y: (T,), t > 0 and rising.
    window: the first and the last t to use.
    floor: the fit ends before y first falls to this value, below which it is rounding.

    Raises ValueError if fewer than PIECES * FEWEST samples are left, or if one of the
    parts has too few.
    """
    t, y = _used(t, y, window, floor)
    if t[0] <= 0:
        raise ValueError("a power law needs t > 0: start the window later")
    slope, cut, parts = _lines(np.log(t), np.log(y))
    return Rate(slope, min(parts), max(parts), float(np.exp(cut)), *_ends(t))


def exponential(t, y, floor: float, last: float = 0.5, window=(0, np.inf)) -> Rate:
    """Return the rate a of y = c exp(-a t): minus the slope of log y on t.

    t, y: (T,), t rising.
    floor: the curve is cut before y first falls to this value.
    last: the fraction of the remaining time, at its end, that is fitted; what precedes
        it is taken as the transient.
    window: the first and the last t that may be used.

    Raises ValueError as `power_law` does.
    """
    t, y = _used(t, y, window, floor)
    late = t >= t[-1] - last * (t[-1] - t[0])
    t, y = _enough(t[late], y[late])
    slope, cut, parts = _lines(t, np.log(y))
    return Rate(-slope, -max(parts), -min(parts), float(np.exp(cut)), *_ends(t))


def width(x, y, level: float, log=np.log10) -> float:
    """Return the width, in units of log x, of the range of x in which y is below
    `level`.

    x, y: (N,), x rising and positive, y positive.
    log: the logarithm that sets the unit; base 10 counts decades.

    It is the longest unbroken range; its ends are interpolated in log x and log y. A
    range that reaches an end of x is cut there, so that its width is a lower bound. A y
    that is not finite counts as infinite. The result is 0 if no y is below the level.
    """
    x, y = log(np.asarray(x, float)), np.asarray(y, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.log(np.where(np.isfinite(y), y, np.inf)) - np.log(level)
    best, start = 0.0, None
    for i, e in enumerate(excess):
        if e >= 0:
            start = None
            continue
        if start is None:  # the range begins between i - 1 and i
            start = x[i] if i == 0 else x[i] - _reach(x, excess, i, i - 1)
        last = i == len(x) - 1
        end = x[i] if last else x[i] + _reach(x, excess, i, i + 1)
        best = max(best, end - start)
    return float(best)


def _reach(x, excess, inside: int, other: int) -> float:
    """Return how far from x[inside] towards x[other] the excess stays below zero."""
    gap = abs(x[other] - x[inside])
    if excess[other] < 0:
        return float(gap)
    if not np.isfinite(excess[other]):
        return 0.0
    return float(gap * excess[inside] / (excess[inside] - excess[other]))


def propagator(a, b, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (E, f) of the exact step z <- E z + f s of the equation z' = A z + b s.

    a, b: A (n, n) and b (n,).
    dt: the length of the step, within which s is constant.

    E is (n, n), f is (n,). Both are blocks of the exponential of [[A, b], [0, 0]] dt,
    computed by scaling and squaring of Taylor's series (Higham, Functions of Matrices,
    2008, section 10.3).
    """
    a, b = np.atleast_2d(np.asarray(a, float)), np.atleast_1d(np.asarray(b, float))
    n = len(b)
    m = np.zeros((n + 1, n + 1))
    m[:n, :n], m[:n, n] = a * dt, b * dt
    halvings = max(0, int(np.ceil(np.log2(max(np.abs(m).sum(1).max(), 1e-300)))) + 3)
    m /= 2.0**halvings
    e, term = np.eye(n + 1), np.eye(n + 1)
    for k in range(1, 14):  # the norm is below 1/8: the rest is below 1e-23
        term = term @ m / k
        e = e + term
    for _ in range(halvings):
        e = e @ e
    return e[:n, :n], e[:n, n]


def driven(a, b, source, start, dt: float) -> np.ndarray:
    """Return the solution z of z' = A z + b s(t) for a recorded source s.

    a, b: A (n, n) and b (n,).
    source: (T, ...), the values of s, constant within each step.
    start: (n, ...), z at the start.
    dt: the length of a step.

    The result is (T + 1, n, ...). The steps are exact. With a measured source the
    solution is the prediction of a law for the measured run, without fitted parameters.
    """
    e, f = propagator(a, b, dt)
    source, z = np.asarray(source, float), np.asarray(start, float)
    path = [z]
    for s in source:
        z = np.tensordot(e, z, 1) + np.multiply.outer(f, s)
        path.append(z)
    return np.stack(path)


def _used(t, y, window, floor: float):
    """Return t and y within the window, and before y first falls to the floor."""
    t, y = np.asarray(t, float), np.asarray(y, float)
    if t.shape != y.shape or t.ndim != 1:
        raise ValueError(f"t and y are 1-D of one length, not {t.shape} and {y.shape}")
    if (np.diff(t) <= 0).any():
        raise ValueError("t must rise: sort the samples by t")
    low = ~(y > max(floor, 0.0))  # also NaN
    n = int(np.argmax(low)) if low.any() else len(t)
    inside = (t[:n] >= window[0]) & (t[:n] <= window[1])
    return _enough(t[:n][inside], y[:n][inside])


def _enough(t, y):
    if len(t) < PIECES * FEWEST:
        raise ValueError(
            f"{len(t)} samples lie in the window and above the floor, and a fit needs "
            f"{PIECES * FEWEST}: record more often, or move the window"
        )
    return t, y


def _lines(x, y) -> tuple[float, float, list[float]]:
    """Return slope and intercept of y on x, and the slopes of equal parts of x."""
    slope, cut = np.polyfit(x, y, 1)
    edges = np.linspace(x[0], x[-1], PIECES + 1)
    parts = [(x >= a) & (x <= b) for a, b in zip(edges, edges[1:], strict=False)]
    if min(map(np.sum, parts)) < FEWEST:
        raise ValueError(
            f"a part of the window has fewer than {FEWEST} samples: record more often"
        )
    return (
        float(slope),
        float(cut),
        [float(np.polyfit(x[p], y[p], 1)[0]) for p in parts],
    )


def _ends(t) -> tuple[float, float, int]:
    return float(t[0]), float(t[-1]), len(t)
