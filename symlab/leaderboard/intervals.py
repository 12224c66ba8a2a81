"""Intervals of statistics of the benchmark's public runs, for claims and figures.

The independent units are submissions for statements about submissions, and runs for
statements about one pair of submissions.
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
    """Return Student's interval of an estimate with a known standard error.

    value, error: the estimate and its standard error.
    freedom: the degrees of freedom of the error.
    n: the number of runs or submissions from which the estimate was made.
    """

    def ends(alpha):
        half = float(stdtrit(freedom, 1 - alpha / 2)) * error
        return value - half, value + half

    return Interval(value, *ends(1 - LEVEL), n, "t", ends=ends)


def jackknifed(statistic: Callable[[Samples], float], samples: Samples) -> Interval:
    """Return the jackknife interval of a statistic of several samples.

    statistic: a function from a list of samples to a number. samples: the samples.

    It uses the values of the statistic with each one of the samples left out.
    """
    k, value = len(samples), statistic(samples)
    left = [statistic([*samples[:i], *samples[i + 1 :]]) for i in range(k)]
    error = math.sqrt((k - 1) * np.var(left))
    return around(value, error, k - 1, k)


def deviation(samples: Samples) -> Interval:
    """Return the interval of the ratio of measured to assumed standard deviation of a
    run's final loss.

    The measured one is pooled over submissions; the assumed one is the 0.0013 nats of
    the benchmark's rule. The interval is the jackknife's of the ratio's logarithm.

    samples: the losses of the runs of each submission.
    """
    return jackknifed(lambda x: math.log(pooled(x)[0] / ASSUMED), samples).map(math.exp)


def of_deviation(value: float, n: int) -> Interval:
    """Return the interval of the standard deviation of a normal sample.

    value: the sample's standard deviation. n: the size of the sample.
    """

    def ends(alpha):
        upper, lower = chdtri(n - 1, [alpha / 2, 1 - alpha / 2])
        return value * math.sqrt((n - 1) / upper), value * math.sqrt((n - 1) / lower)

    return Interval(value, *ends(1 - LEVEL), n, "chi^2", ends=ends)


def spread(samples: Samples) -> Interval:
    """Return the interval of how much the runs' standard deviation varies over
    submissions.

    The estimated quantity tau is the standard deviation, over submissions, of the
    logarithm of the standard deviation of a submission's runs; it is 0 if all
    submissions are equally noisy. The estimate of Paule and Mandel is the tau at which
    Cochran's Q (`judging.heterogeneity`) equals its expectation. The interval ends
    where Q equals quantiles of its chi-square distribution.

    samples: the losses of the runs of each submission.
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
    """Return the interval of the probability that the benchmark's rule accepts by
    chance.

    It is the probability that a submission whose true mean loss equals the target is
    accepted: that a normal mean of n runs lies MARGIN / sqrt(n) below the target,
    averaged over standard deviations that vary between submissions as measured
    (log-normally).

    samples: the losses of the runs of each submission.
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
    """Return Spearman's rank correlation of x and y (N,) with its interval.

    The interval is that of Bonett and Wright (Psychometrika 65, 2000, p. 23): normal on
    Fisher's scale, with variance (1 + r^2/2)/(N - 3). Raises ValueError if the two
    orders are equal or opposite.
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
    """Return an interval of length 0, for a number without a sampling error.

    value: a number that describes a finite list, such as a fraction of submissions.
    n: how many things were counted.
    """
    return Interval(value, value, value, n, "count")
