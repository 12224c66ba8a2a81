"""Statistics of the benchmark's public runs: standard deviations, slopes and gains.

Losses are in nats, slopes in nats per 100 steps. The gain of a submission over another
is how much lower its mean loss would be at equal steps: the difference of the mean
losses, plus a rate for each 100 steps by which it is shorter. There are two such rates:
the slope of the loss at the end of a run, which is what stopping it earlier would cost;
and the cost of planning a shorter run, whose learning-rate schedule also ends earlier.
The second is smaller.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import digamma, ndtri, polygamma, stdtr, stdtrit

TARGET = 3.28  # nats
ASSUMED = 0.0013  # the standard deviation of a run's loss in the benchmark's rule
MARGIN = 0.004  # nats: a mean of n runs must be lower than TARGET by MARGIN / sqrt(n)
WINDOW = 130  # steps; the longest time between two evaluations is 125
POWER = 0.8
MOST = 10_000  # runs; more would decide nothing in practice


def pooled(samples: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Return the pooled standard deviation within samples, and its degrees of freedom.

    samples: losses of the runs of each submission; a sample of one run contributes
        nothing.
    """
    squares = sum(np.square(np.subtract(x, np.mean(x))).sum() for x in samples)
    freedom = sum(len(x) - 1 for x in samples)
    return math.sqrt(squares / freedom), freedom


def log_deviations(samples: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Return estimates of the logarithm of samples' standard deviations, and their
    variances.

    samples: K normal samples of at least two values; both results are (K,).

    With nu degrees of freedom log(s^2/sigma^2) is distributed as log(chi^2/nu), with
    mean digamma(nu/2) - log(nu/2) and variance trigamma(nu/2).
    """
    half = np.array([len(x) - 1 for x in samples]) / 2
    logs = np.log([np.var(x, ddof=1) for x in samples])
    return (logs - digamma(half) + np.log(half)) / 2, polygamma(1, half) / 4


def heterogeneity(values, variances, tau: float = 0.0) -> float:
    """Return Cochran's Q of several estimates with known variances.

    values, variances: the estimates and their variances, (K,).
    tau: the assumed standard deviation of the true values.

    At the true tau, Q has about a chi-square distribution with K - 1 degrees of
    freedom; Viechtbauer, Stat. Med. 26 (2007), p. 37, derives an interval of tau from
    that.
    """
    weights = 1 / (np.asarray(variances) + tau**2)
    mean = np.average(values, weights=weights)
    return float(weights @ np.square(values - mean))


def slope(runs: pd.DataFrame, steps: int) -> float:
    """Return by how much the loss falls per 100 steps at the end of a submission's
    runs.

    runs: evaluations with columns trial, step, val_loss.
    steps: the step at which the runs end.

    A line is fitted by least squares to the mean over runs at each step of the last
    WINDOW; the result is NaN if there are fewer than two such steps.
    """
    near = runs[(runs.step <= steps) & (runs.step >= steps - WINDOW)]
    mean = near.groupby("step").val_loss.mean()
    if len(mean) < 2:
        return math.nan
    return -100 * float(np.polyfit(mean.index.to_numpy(float), mean.to_numpy(), 1)[0])


@dataclass(frozen=True)
class Noise:
    """What all comparisons share: the noise of a run, and the price of steps.

    deviation: the standard deviation of the loss between runs of one submission, nats.
    freedom: its degrees of freedom.
    rate: the price of 100 steps, nats.
    rate_uncertainty: the standard error of the rate.
    """

    deviation: float
    freedom: int
    rate: float
    rate_uncertainty: float


@dataclass(frozen=True)
class Result:
    """The mean loss of a submission, its number of runs, and its number of steps."""

    mean: float
    n: int
    steps: int


def gain(new: Result, old: Result, noise: Noise) -> dict:
    """Return the gain of submission `new` over `old` at equal steps, as a dict.

    gain: how much lower the mean loss of `new` is, in nats, plus the rate for each 100
        steps by which `new` is shorter.
    uncertainty: its standard error, to which the rate contributes if the numbers of
        steps differ.
    p: the two-sided P value of Student's t test.
    needed: with how many runs of each submission a gain of this size is significant
        with probability POWER; MOST if even more would not suffice, for instance
        because the rate is too uncertain.
    """
    saved = (old.steps - new.steps) / 100
    value = old.mean - new.mean + noise.rate * saved
    runs = noise.deviation * math.sqrt(1 / new.n + 1 / old.n)
    error = math.hypot(runs, noise.rate_uncertainty * saved)
    p = 2 * float(stdtr(noise.freedom, -abs(value) / error))
    quantiles = float(stdtrit(noise.freedom, 0.975) + ndtri(POWER))
    left = (value / quantiles) ** 2 - (noise.rate_uncertainty * saved) ** 2
    needed = 2 * noise.deviation**2 / left if left > 0 and value > 0 else math.inf
    needed = float(min(math.ceil(min(needed, MOST)), MOST))
    return {"gain": value, "uncertainty": error, "p": p, "needed": max(needed, 2.0)}


def missed(sample, other, noise: Noise) -> bool:
    """Return whether the 95 % interval of the difference of two samples' means excludes
    0.

    sample, other: the samples.
    noise: has the standard deviation that is used, pooled over submissions.
    """
    error = noise.deviation * math.sqrt(1 / len(sample) + 1 / len(other))
    reach = float(stdtrit(noise.freedom, 0.975)) * error
    return bool(abs(np.mean(sample) - np.mean(other)) > reach)
