"""Intervals of what the public runs show, for claims and figures.

Submissions are the units where a statement is about submissions, and runs where it is
about one pair of them.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtrit

from symlab.harness.stats import LEVEL, Interval
from symlab.leaderboard.judging import (
    ASSUMED,
    MARGIN,
    heterogeneity,
    log_deviations,
    pooled,
)

Samples = Sequence[Sequence[float]]
WIDEST = 5.0  # of the logarithm of standard deviations: a factor of 148


def around(value: float, error: float, freedom: float, n: int) -> Interval:
    """Return Student's interval of an estimate with a standard error.

    freedom: degrees of freedom of the error. n: how many runs or submissions it is of.
    """

    def ends(alpha):
        half = float(stdtrit(freedom, 1 - alpha / 2)) * error
        return value - half, value + half

    return Interval(value, *ends(1 - LEVEL), n, "t", ends=ends)


def jackknifed(statistic: Callable[[Samples], float], samples: Samples) -> Interval:
    """Return the interval of a statistic of several samples by the jackknife: from its
    values with each one of the samples left out.
    """
    k, value = len(samples), statistic(samples)
    left = [statistic([*samples[:i], *samples[i + 1 :]]) for i in range(k)]
    error = math.sqrt((k - 1) * np.var(left))
    return around(value, error, k - 1, k)


def deviation(samples: Samples) -> Interval:
    """Return the interval of the pooled standard deviation over the one that the
    benchmark's rule assumes, by the jackknife of its logarithm.
    """
    return jackknifed(lambda x: math.log(pooled(x)[0] / ASSUMED), samples).map(math.exp)


def of_deviation(value: float, n: int) -> Interval:
    """Return the interval of the standard deviation of a normal sample.

    value: the sample's standard deviation. n: its size.
    """

    def ends(alpha):
        upper, lower = chdtri(n - 1, [alpha / 2, 1 - alpha / 2])
        return value * math.sqrt((n - 1) / upper), value * math.sqrt((n - 1) / lower)

    return Interval(value, *ends(1 - LEVEL), n, "chi^2", ends=ends)


def spread(samples: Samples) -> Interval:
    """Return the interval of the standard deviation tau, over submissions, of the
    logarithm of a run's standard deviation: 0 where all submissions are equal.

    With Cochran's Q (`judging.heterogeneity`), the estimate of Paule and Mandel is the
    tau at which Q equals its expectation. The interval ends where Q equals quantiles of
    its chi-square distribution.
    """
    values, variances = log_deviations(samples)
    k = len(values)

    def at(q: float) -> float:
        """The tau at which Cochran's Q has come down to q; 0 where it begins below."""
        if heterogeneity(values, variances) <= q:
            return 0.0
        return brentq(lambda t: heterogeneity(values, variances, t) - q, 0.0, WIDEST)

    def ends(alpha):
        upper, lower = chdtri(k - 1, [alpha / 2, 1 - alpha / 2])
        return at(float(upper)), at(float(lower))

    return Interval(at(k - 1.0), *ends(1 - LEVEL), k, "Q profile", ends=ends)


def rule_error(samples: Samples) -> Interval:
    """Return the interval of the probability that the benchmark's rule accepts a
    submission whose true mean loss is the target itself.

    It is the probability that a normal mean of n runs lies MARGIN / sqrt(n) below the
    target, averaged over standard deviations that vary between submissions as measured
    (log-normally).
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)

    def log_chance(some: Samples) -> float:
        tau = spread(some).value
        level = (
            math.log(pooled(some)[0]) - tau**2
        )  # E[sigma^2] is exp(2 level + 2 tau^2)
        chances = ndtr(-MARGIN / np.exp(level + tau * nodes))
        return math.log(weights @ chances / weights.sum())

    return jackknifed(log_chance, samples).map(math.exp)


def rank_correlation(x, y) -> Interval:
    """Return Spearman's rank correlation with the interval of Bonett and Wright
    (Psychometrika 65, 2000, p. 23): normal on Fisher's scale, of variance
    (1 + r^2/2)/(n - 3). Raises ValueError where both orders agree or are opposite.
    """
    from scipy.stats import spearmanr

    n, r = len(x), float(spearmanr(x, y).statistic)
    if abs(r) > 1 - 1e-12:
        raise ValueError(
            f"a rank correlation of {r:g} has no interval: use more values"
        )
    error = math.sqrt((1 + r**2 / 2) / (n - 3))
    return around(math.atanh(r), error, math.inf, n).map(math.tanh)


def count(value: float, n: int) -> Interval:
    """Return an interval of length 0 for a number that describes a finite list and has
    no sampling error.

    value: such as a share of submissions. n: how many things were counted.
    """
    return Interval(value, value, value, n, "count")
