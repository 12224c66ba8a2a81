"""Statistics of the public runs: standard deviations, slopes and gains.

Losses are in nats, slopes in nats per 100 steps. The gain of a submission over another
is what its mean loss would be lower by at equal steps: the difference of the mean
losses, and a rate for each 100 steps by which it was shorter. There are two such rates:
the slope at the end of a run, which stopping it earlier would cost, and the cost of
planning a shorter run, whose schedule ends earlier, too. The second is smaller.
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
    """Return the standard deviation within samples, pooled, and its degrees of freedom.

    samples: losses of the runs of each submission; one with a single run adds nothing.
    """
    squares = sum(np.square(np.subtract(x, np.mean(x))).sum() for x in samples)
    freedom = sum(len(x) - 1 for x in samples)
    return math.sqrt(squares / freedom), freedom


def log_deviations(samples: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Return estimates of the logarithm of each sample's standard deviation, and their
    sampling variances, for normal samples of two and more.

    With nu degrees of freedom log(s^2/sigma^2) is log(chi^2/nu), of mean digamma(nu/2)
    - log(nu/2) and variance trigamma(nu/2).
    """
    half = np.array([len(x) - 1 for x in samples]) / 2
    logs = np.log([np.var(x, ddof=1) for x in samples])
    return (logs - digamma(half) + np.log(half)) / 2, polygamma(1, half) / 4


def heterogeneity(values, variances, tau: float = 0.0) -> float:
    """Return Cochran's Q of estimates with known variances, if their true values have a
    standard deviation of tau.

    At the true tau it is about chi^2 with one degree of freedom fewer than there are
    estimates; Viechtbauer, Stat. Med. 26 (2007), p. 37, makes an interval of that.
    """
    weights = 1 / (np.asarray(variances) + tau**2)
    mean = np.average(values, weights=weights)
    return float(weights @ np.square(values - mean))


def slope(runs: pd.DataFrame, steps: int) -> float:
    """Return by how much the loss falls per 100 steps before a submission's end.

    runs: evaluations with columns trial, step, val_loss. The line is fitted by least
    squares to the mean over the runs at each step of the last WINDOW; NaN where there
    are fewer than two such steps.
    """
    near = runs[(runs.step <= steps) & (runs.step >= steps - WINDOW)]
    mean = near.groupby("step").val_loss.mean()
    if len(mean) < 2:
        return math.nan
    return -100 * float(np.polyfit(mean.index.to_numpy(float), mean.to_numpy(), 1)[0])


@dataclass(frozen=True)
class Noise:
    """What all comparisons share: the standard deviation within submissions and its
    degrees of freedom; the rate that exchanges loss for steps, and its uncertainty.
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
    """Return the gain of one submission over another at equal steps, as a dict.

    gain: how much lower the mean loss of `new` is, in nats, plus the rate for each 100
    steps by which it is shorter. uncertainty: the standard error, to which the rate
    contributes where steps differ. p: two-sided, by Student's t. needed: with how many
    runs of each a gain of this size is significant with probability POWER; MOST where
    even more would not do, as where the rate is too uncertain.
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
    """Return whether the 95 % interval of the difference between two samples' means
    does not contain 0.

    The standard deviation is the pooled one of `noise`.
    """
    error = noise.deviation * math.sqrt(1 / len(sample) + 1 / len(other))
    reach = float(stdtrit(noise.freedom, 0.975)) * error
    return bool(abs(np.mean(sample) - np.mean(other)) > reach)
