"""Intervals. Every claim and every band in a figure takes its interval from here.

Convention: a sample is a 1-D array with one number per seed; intervals are two-sided
and of level 95 % unless said. With one seed the interval is infinite, not zero.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import betaincinv, stdtrit

LEVEL = 0.95
REACH = 10_000  # more seeds than that decide nothing in practice


@dataclass(frozen=True)
class Interval:
    """An estimate with its limits, from n independent runs."""

    value: float
    low: float
    high: float
    n: int
    method: str = "t"

    def __str__(self) -> str:
        if self.method == "worst case":
            return f"{self.value:.3g} (worst of {self.n})"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}], n={self.n}"


def mean(sample, level: float = LEVEL) -> Interval:
    """Student's t interval of the mean of independent runs."""
    x = np.asarray(sample, float)
    n, value = len(x), float(np.mean(x))
    if n < 2:
        return Interval(value, -math.inf, math.inf, n)
    half = float(stdtrit(n - 1, (1 + level) / 2) * np.std(x, ddof=1) / math.sqrt(n))
    return Interval(value, value - half, value + half, n)


def worst(sample, largest: bool = True) -> Interval:
    """The extreme over all runs, for statements that hold run by run (an oracle's gap).

    No sampling is modelled: the interval is the one number.
    """
    x = np.asarray(sample, float)
    value = float(np.max(x) if largest else np.min(x))
    return Interval(value, value, value, len(x), "worst case")


def fraction(outcomes, level: float = LEVEL) -> Interval:
    """The fraction of true outcomes with its exact (Clopper-Pearson) interval.

    It covers the truth at least `level` of the time, also where none or all are true:
    none of 16 gives [0, 0.206].
    """
    x = np.asarray(outcomes, bool)
    return _clopper_pearson(int(x.sum()), len(x), level)


def _clopper_pearson(k: int, n: int, level: float = LEVEL) -> Interval:
    """k of n outcomes are true."""
    tail = (1 - level) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return Interval(k / n, low, high, n, "binomial")


def paired(
    df: pd.DataFrame, column: str, by: str, a, b, unit: str = "seed"
) -> Interval:
    """Interval of the mean difference a - b of `column`, paired by `unit` (the seed).

    Each unit must occur once under `by == a` and once under `by == b`.
    """
    wide = df.pivot(index=unit, columns=by, values=column)
    difference = (wide[a] - wide[b]).dropna()
    if difference.empty:
        raise ValueError(f"no {unit} has both {by}={a} and {by}={b}: nothing to pair")
    return mean(difference)


def band(sample) -> tuple[float, float]:
    """Low and high of `mean`, as seaborn's `errorbar=` wants; none for one run."""
    interval = mean(sample)
    return (interval.low, interval.high) if interval.n > 1 else (math.nan, math.nan)


def more_runs(interval: Interval, threshold: float) -> int | None:
    """About how many more runs would move the interval off the threshold.

    None where that cannot be known, or is out of reach: more than REACH. Of a fraction
    it is found by the exact interval of more runs with the same fraction.
    """
    if interval.method == "binomial":
        return _more_outcomes(interval, threshold)
    distance, half = abs(interval.value - threshold), (interval.high - interval.low) / 2
    if interval.n < 2 or distance == 0 or not math.isfinite(half):
        return None
    needed = math.ceil(interval.n * (half / distance) ** 2)
    return max(needed - interval.n, 1) if needed < REACH else None


def _more_outcomes(interval: Interval, threshold: float) -> int | None:
    for more in range(1, REACH):
        n = interval.n + more
        found = _clopper_pearson(round(interval.value * n), n)
        if not found.low <= threshold <= found.high:
            return more
    return None
