"""Statistics: the intervals of all claims and of all bands in figures.

Convention: a sample is a 1-D array with one number per seed; intervals are two-sided
    and of level 95 % unless said otherwise. With one seed the interval is infinite, not
    zero. docs/statistics.md says which interval is used when, and how often each covers
    the true value.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import bdtr, betaincinv, ndtri, stdtrit

LEVEL = 0.95
REACH = 10_000  # more seeds than that decide nothing in practice
POWER = 0.8  # of a design that is proposed: the chance that it decides
LEAST_P = 1e-12  # no sample of a few seeds carries a smaller one
PRIOR = 10.0  # variance of effects in standard deviations; narrow at 4 to 8 seeds

Ends = Callable[[float], tuple[float, float]]


@dataclass(frozen=True)
class Interval:
    """An estimate with the limits of its interval, from n independent seeds.

    value, low, high: the estimate and the limits.
    n: the number of seeds; 0 if it is unknown.
    method: "t", "t and Hall" (for a skewed sample), "binomial", "anytime", "constant"
        (all values are equal) or "worst case".
    runs: how many values were looked at, if more than n.
    note: what a reader of the interval must know.
    ends: ends(alpha) is the interval of level 1 - alpha; None if no sampling is
        modelled.
    of: what n counts, if not seeds.
    """

    value: float
    low: float
    high: float
    n: int
    method: str = "t"
    runs: int = 0
    note: str = ""
    ends: Ends | None = field(default=None, repr=False, compare=False)
    of: str = "seeds"

    @property
    def beyond(self) -> float:
        """An upper bound on the fraction of all seeds whose value is worse than the
        worst seen.

        The bound has a confidence of 95 %. It is a one-sided tolerance bound: the
        largest of n independent values exceeds all but a fraction 1 - 0.05^(1/n) of the
        distribution. For a constant sample it bounds the fraction of seeds whose value
        may differ. It is NaN for other methods, and if the number of seeds is unknown.
        """
        if self.method not in ("worst case", "constant") or not self.n:
            return math.nan
        return 1 - (1 - LEVEL) ** (1 / self.n)

    def map(self, function: Callable[[float], float]) -> "Interval":
        """Return the interval on another scale: a monotone function of its value and
        limits.

        If the interval of some level leaves the domain of the function, or its image
        overflows, the interval of that level is the whole line.
        """

        def ends(alpha):
            try:
                moved = tuple(sorted(map(function, self.ends(alpha))))
            except (ValueError, ArithmeticError):
                return _everything(alpha)
            return _everything(alpha) if any(map(math.isnan, moved)) else moved

        low, high = sorted((function(self.low), function(self.high)))
        moved = replace(self, value=function(self.value), low=low, high=high)
        return replace(moved, ends=ends if self.ends else None)

    def __str__(self) -> str:
        if self.method == "worst case":
            return f"{self.value:.3g} (worst of {self._counted()})"
        notes = [self.note] if self.note else []
        if self.method == "constant":
            notes.append(f"at most {self._share()} of {self.of} would differ")
        text = f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}], n={self.n}"
        text += f" {self.of}" * (self.of != "seeds")
        return f"{text} ({'; '.join(notes)})" if notes else text

    def __format__(self, spec: str) -> str:
        """f"{interval:+.3f}" is "+0.012 [-0.003, +0.027]", without n and notes."""
        ends = self.value, self.low, self.high
        value, low, high = (format(x, spec) for x in ends)
        return f"{value} [{low}, {high}]" if spec else str(self)

    def _counted(self) -> str:
        if not self.n:
            return f"{self.runs} values"
        seeds = f"{self.n} seed{'s' * (self.n != 1)}"
        if self.runs > self.n:
            seeds = f"{self.runs} values of {self.note or seeds}"
        if self.n == 1 and not self.note:
            return seeds  # a bound of 95 % would say nothing
        return f"{seeds}; at most {self._share()} of seeds lie beyond"

    def _share(self) -> str:
        return f"{100 * self.beyond:.2g} %"


def mean(sample, level: float = LEVEL) -> Interval:
    """Return the interval of the mean of a sample with one value per independent seed.

    It is Student's t interval. If the sample is `skewed`, it is the union of Student's
    and Hall's intervals (J. R. Stat. Soc. B 54, 1992, p. 221), the latter of which
    takes skewness into account. A sample of booleans gets the exact interval of
    `fraction`. A constant sample has an interval of width zero, and a note that says
    so.
    """
    x = np.asarray(sample)
    if x.dtype == object:
        x = np.array(x.tolist())  # booleans among objects are outcomes, too
    if x.dtype == bool:
        return fraction(x, level=level)
    x = x.astype(float)
    n, value = len(x), float(np.mean(x))
    if n < 2:
        return Interval(value, -math.inf, math.inf, n, ends=_everything)
    if _constant(x):
        return Interval(value, value, value, n, "constant", note=f"all {n} are equal")
    spread, skew = _spread(x), skewness(x)
    student = partial(_student, value, spread, n)
    notes = ["only two distinct values"] if len(np.unique(x)) == 2 < n else []
    if not skewed(x):
        return _interval(value, n, "t", student, level, note="; ".join(notes))
    ends = partial(_hull, student, partial(_hall, value, spread, n, skew))
    note = "; ".join([f"skewness {skew:.2g}", *notes])
    return _interval(value, n, "t and Hall", ends, level, note=note)


def anytime(sample, level: float = LEVEL) -> Interval:
    """Return an interval of the mean that stays valid if one looks at it after every
    seed.

    It is a confidence sequence: with probability `level` the intervals for all n
    simultaneously cover the mean, so seeds may be added until a claim is decided. It is
    for approximately normal seeds of unknown variance: the scale-invariant mixture of
    Lai (Ann. Stat. 4, 1976, p. 265) with a normal prior of variance PRIOR on the
    standardised mean, as in Wang & Ramdas (arXiv 2310.03722, section 4). It is 1.9
    times as wide as Student's interval at n = 8, and infinite up to n = 2.
    """
    x = np.asarray(sample, float)
    n, value = len(x), float(np.mean(x))
    if n < 2:
        return Interval(value, -math.inf, math.inf, n, "anytime", ends=_everything)
    if _constant(x):
        return mean(x)
    ends = partial(_mixture, value, _spread(x), n)
    return _interval(value, n, "anytime", ends, level, note="valid at any time")


def worst(sample, largest: bool = True, seeds=None) -> Interval:
    """Return the largest (or smallest) value over all runs, for claims about every run.

    sample: a value per run, such as the difference from an oracle.
    largest: whether the largest is returned, or the smallest.
    seeds: the seed of each run. By default it is an index of the sample named "seed",
        and without such an index unknown.

    The runs of one seed are not independent, so n counts seeds. It counts only seeds
    that have the largest number of runs, since on the others not everything was seen
    that is claimed of every run. The interval is the value itself: it says nothing
    about seeds that were not run. `Interval.beyond` bounds how many of those have a
    worse value.
    """
    x = np.asarray(sample, float)
    if seeds is None and isinstance(sample, pd.Series) and sample.index.name == "seed":
        seeds = sample.index
    n, note = 0, ""
    if seeds is not None:
        _, runs = np.unique(np.asarray(seeds), return_counts=True)
        n = int((runs == runs.max()).sum())
        if n < len(runs):
            note = f"{len(runs)} seeds, of which {n} ha{'s' if n == 1 else 've'} all"
    value = float(np.max(x) if largest else np.min(x))
    return Interval(value, value, value, n, "worst case", runs=len(x), note=note)


def geometric_mean(sample, level: float = LEVEL) -> Interval:
    """Return the interval of the geometric mean of a sample of positive numbers, one
    per independent seed: that of the mean of their logarithms, on the scale of the
    sample.
    """
    return mean(np.log(sample), level).map(np.exp)


def fraction(outcomes, seeds=None, level: float = LEVEL) -> Interval:
    """Return the fraction of true outcomes with its exact (Clopper-Pearson) interval.

    outcomes: one per run, True or False, or 1 or 0.
    seeds: the seed of each outcome; None if all outcomes are independent.

    The interval covers the truth at least `level` of the time, also if none or all
    outcomes are true: none of 16 gives [0, 0.206]. Several outcomes of one seed count
    as one outcome, their mean, which may be a fraction: as if all outcomes of a seed
    always agreed. Raises ValueError if an outcome is missing (NaN), or is neither true
    nor false.
    """
    x = pd.Series(np.asarray(outcomes))
    if not x.isin([0, 1]).all():
        raise ValueError("an outcome is neither true nor false")
    x = x.astype(float)
    each = x if seeds is None else x.groupby(np.asarray(seeds)).mean()
    n, k = len(each), float(each.sum())
    ends = partial(_clopper_pearson, k, n)
    runs = len(x) if len(x) > n else 0
    return _interval(k / n, n, "binomial", ends, level, runs=runs)


def paired(
    df: pd.DataFrame, column: str, by: str, a, b, unit: str = "seed"
) -> Interval:
    """Return the interval of the mean difference of a column between two arms, paired
    by seed.

    The difference is the column's value in rows with by == a minus that in rows with by
    == b.

    df: the rows. column: the column that is compared.
    by: the column that names the arm. a, b: its two values.
    unit: the column whose values pair rows, by default the seed. Each unit must occur
        at most once in each arm; units that lack one of them are left out.

    Raises ValueError if a value is NaN.
    """
    if df[column][df[by].isin([a, b])].isna().any():
        raise ValueError(f"{column} is not a number in a run")
    wide = df.pivot(index=unit, columns=by, values=column)
    difference = (wide[a] - wide[b]).dropna()
    if difference.empty:
        raise ValueError(f"no {unit} has both {by}={a} and {by}={b}: nothing to pair")
    return mean(difference)


def band(sample) -> tuple[float, float]:
    """Return (low, high) of the interval of a sample's mean, for seaborn's `errorbar=`.

    Both are NaN for a single run, so that no bar is drawn.
    """
    interval = mean(sample)
    return (interval.low, interval.high) if interval.n > 1 else (math.nan, math.nan)


# --- skewness


def skewness(sample) -> float:
    """Return the skewness of a sample; 0 for a constant sample.

    It is the third central moment over the 3/2 power of the second.
    """
    d = np.asarray(sample, float) - np.mean(sample)
    if not (largest := np.abs(d).max()) > 0:
        return 0.0
    d = d / largest  # cubes must not underflow
    return float(np.mean(d**3) / np.mean(d**2) ** 1.5)


def skewed(sample) -> bool:
    """Return whether a sample's skewness exceeds its standard error for a normal
    sample.

    The rule was chosen by the coverage of the resulting intervals (docs/statistics.md):
    a stricter rule detects too few exponential samples of 4 to 16 seeds. It calls three
    in ten normal samples skewed, which costs little, since their interval only grows.
    Fewer than four values are never skewed.
    """
    n = len(sample)
    if n < 4:
        return False
    adjusted = skewness(sample) * math.sqrt(n * (n - 1)) / (n - 2)
    return abs(adjusted) > math.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))


# --- tests


def p_value(
    interval: Interval, above: float = -math.inf, below: float = math.inf
) -> float:
    """Return the P value of the verdict that a value lies within, or outside, two
    limits.

    interval: the estimate of the value.
    above, below: the limits.

    For one limit the P value is two-sided: the smallest alpha for which the interval of
    level 1 - alpha excludes the limit, so it is below 0.05 exactly if the 95 % interval
    decides. For an estimate between two limits it is the larger of both P values, and
    for one outside it is that of the limit that was crossed. It is at least LEAST_P; it
    is NaN if no sampling is modelled, and if the estimate is not finite.
    """
    if interval.ends is None or not math.isfinite(interval.value):
        return math.nan
    if interval.value <= above:
        return _p_of(interval.ends, above)
    if interval.value >= below:
        return _p_of(interval.ends, below)
    limits = [limit for limit in (above, below) if math.isfinite(limit)]
    return max((_p_of(interval.ends, limit) for limit in limits), default=math.nan)


def _p_of(ends: Ends, limit: float) -> float:
    def covered(log_alpha: float) -> bool:
        low, high = ends(math.exp(log_alpha))
        return low <= limit <= high

    inside, outside = math.log(LEAST_P), 0.0
    if not covered(inside):
        return LEAST_P
    if covered(outside):
        return 1.0
    for _ in range(50):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if covered(middle) else (inside, middle)
    return math.exp(outside)


def holm(p_values: Iterable[float]) -> np.ndarray:
    """Return P values adjusted by Holm's step-down method for the number of tests.

    If the tests with adjusted values below 0.05 are rejected, the probability that any
    true hypothesis is rejected is at most 0.05, whatever their dependence (Holm, Scand.
    J. Stat. 6, 1979, p. 65). NaN stays NaN and does not count as a test.
    """
    p = np.array([*p_values], float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    p[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return p


# --- designs


def seeds_needed(interval: Interval, threshold: float) -> int | None:
    """Return about how many seeds a new sweep needs to decide a claim.

    interval: the claim's estimate. threshold: the limit that lies inside it.

    With this number the new interval excludes the threshold with probability POWER, if
    value and spread are the measured ones. For an `anytime` interval it is the total
    number of seeds at which the interval would be narrow enough. The result is None if
    the number cannot be known, or exceeds REACH.
    """
    distance = abs(interval.value - threshold)
    if interval.ends is None or distance == 0 or not math.isfinite(interval.high):
        return None
    if interval.method == "binomial":
        return _first(lambda n: _chance(interval.value, threshold, n) >= POWER)
    half = (interval.high - interval.low) / 2
    if interval.method == "anytime":
        spread = half / _radius(interval.n, 1 - LEVEL)
        return _first(lambda n: spread * _radius(n, 1 - LEVEL) < distance)
    spread = half / _quantile(interval.n, 1 - LEVEL) * math.sqrt(interval.n)
    return _first(
        lambda n: (
            spread * (_quantile(n, 1 - LEVEL) + ndtri(POWER)) / math.sqrt(n) < distance
        )
    )


def advice(interval: Interval, threshold: float) -> str:
    """Return a sentence on how many seeds would decide an undecided claim.

    interval: the claim's estimate. threshold: the limit that lies inside it.
    """
    of = interval.of
    if interval.method in ("worst case", "constant"):
        return f"{of} will not decide"
    if interval.n < 2:
        return f"more {of} are needed"
    if not (needed := seeds_needed(interval, threshold)):
        return f"{of} will not decide"
    if interval.method == "anytime":
        return f"about {needed} {of} in all would decide, and may be added one by one"
    if of != "seeds":  # recorded data: nobody can make a new sweep
        return f"about {needed} further {of} would decide"
    return (
        f"a new sweep of about {needed} unseen seeds would decide; adding seeds until "
        "it does would not be a 95 % interval"
    )


def _first(enough: Callable[[int], bool]) -> int | None:
    """The least n from 2 to REACH for which `enough(n)`, which n only helps."""
    low, high = 1, REACH
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _chance(truth: float, threshold: float, n: int) -> float:
    """That the exact interval of n outcomes of probability `truth` decides."""
    k = np.arange(n + 1)
    chances = np.diff(bdtr(k, n, truth), prepend=0.0)
    low, high = _clopper_pearson(k, n, 1 - LEVEL)
    return float(chances[(high < threshold) | (low > threshold)].sum())


# --- the ends of each interval, at level 1 - alpha


def _interval(
    value: float, n: int, method: str, ends: Ends, level: float, **more
) -> Interval:
    return Interval(value, *ends(1 - level), n, method, ends=ends, **more)


def _constant(x: np.ndarray) -> bool:
    """Equal, up to the rounding of a mean of equal numbers."""
    return bool(np.ptp(x) <= 8 * np.finfo(float).eps * np.abs(x).max())


def _spread(x: np.ndarray) -> float:
    """The standard deviation; squares must neither underflow nor overflow."""
    _, power = math.frexp(np.abs(x).max())
    return float(np.ldexp(np.std(np.ldexp(x, -power), ddof=1), power))


def _everything(alpha: float) -> tuple[float, float]:
    return -math.inf, math.inf


def _quantile(n: int, alpha: float) -> float:
    """Student's t of n - 1 degrees of freedom, upper point of alpha / 2."""
    return -float(stdtrit(n - 1, alpha / 2))


def _student(value: float, spread: float, n: int, alpha: float) -> tuple[float, float]:
    half = _quantile(n, alpha) * spread / math.sqrt(n)
    return value - half, value + half


def _hall(
    value: float, spread: float, n: int, skew: float, alpha: float
) -> tuple[float, float]:
    """Hall's interval: sqrt(n) g((value - mean) / spread) is nearly normal, where

    g(s) = s + skew s^2 / 3 + skew^2 s^3 / 27 + skew / (6 n)

    is monotone and inverted in closed form. Student's quantiles replace the normal
    ones, which are too small at 4 to 16 seeds.
    """

    def inverse(y: float) -> float:
        return 3 / skew * (float(np.cbrt(1 + skew * (y - skew / (6 * n)))) - 1)

    y = _quantile(n, alpha) / math.sqrt(n)
    return value - spread * inverse(y), value - spread * inverse(-y)


def _hull(first: Ends, second: Ends, alpha: float) -> tuple[float, float]:
    (a, b), (c, d) = first(alpha), second(alpha)
    return min(a, c), max(b, d)


def _clopper_pearson(k, n: int, alpha: float):
    """Limits for k true outcomes of n; k may be an array, and need not be whole."""
    k = np.asarray(k, float)
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, betaincinv(k, n - k + 1, alpha / 2), 0.0)
        high = np.where(k < n, 1 - betaincinv(n - k, k + 1, alpha / 2), 1.0)
    return (low, high) if k.ndim else (float(low), float(high))


def _mixture(value: float, spread: float, n: int, alpha: float) -> tuple[float, float]:
    half = spread * _radius(n, alpha)
    return value - half, value + half


def _radius(n: int, alpha: float) -> float:
    """Half the width of the anytime interval of n values of standard deviation 1.

    With k = 1 + n PRIOR and t Student's statistic of n - 1 degrees of freedom, the
    likelihood ratio of the mixture to the null hypothesis is

        ((1 + t^2 / (n - 1)) / (1 + t^2 / ((n - 1) k)))^(n / 2) / sqrt(k),

    a martingale under the null hypothesis, which ever reaches 1 / alpha with
    probability alpha at most (Ville).
    """
    k = 1 + n * PRIOR
    ratio = (math.sqrt(k) / alpha) ** (2 / n)
    if ratio >= k:
        return math.inf
    return math.sqrt((n - 1) / n * (ratio - 1) / (1 - ratio / k))
