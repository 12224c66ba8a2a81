"""The parts of an advantage estimator: baseline and scale, difficulty, sign.

    base_of(r, "grpo", "trl")         (r - mean) / std of the group
    refocused(a, p, q, omega)         weights groups by their success rates: DDAS
    positives(a, factor)              scales the positive advantages: ASS

The module also determines which rollouts succeed (`successes`) and the mean success of
the batch (`batch_omega`). Arrays are floats (B, G), for B prompts with G rollouts each.
"""

import math
import warnings
from numbers import Real
from typing import NamedTuple

import numpy as np

from symlab.rlvr.arrays import cast, floating, like, namespace

STD = {  # name: (what G is lessened by, what is added to the std)
    "population": (0, 0.0),  # the paper
    "verl": (1, 1e-6),
    "trl": (1, 1e-4),
}
BASES = ("grpo", "dapo", "dr_grpo")
FEW_GROUPS = 16  # a batch of fewer has no mean success that is not its own groups'
SINGLE, DOUBLE = 8 * 2.0**-23, 1e-11  # what a float32, float64 sum of size 1 errs less
DRIFT = 2e-7  # |sum| / sum | | of centred rewards that is put right


# --- which rollouts succeed ----------------------------------------------------------


def successes(rewards, success, rule: str):
    """Return 1.0 for each rollout that succeeds and 0.0 for the others.

    rewards: (B, G) or any other shape, which the result has, too.
    success: None, for rewards that are 0 or 1 up to rounding; a number, the least
        reward of a success; a function of the rewards; or the booleans that such a
        function returns.
    rule: the estimator's name, for messages.

    Raises ValueError if the success of a rollout cannot be decided this way.
    """
    if success is None:
        return _binary(rewards, rule)
    success = _number(success)
    if _is_real(success):
        if not math.isfinite(success):
            raise ValueError(f"success = {success} is no threshold: use a number")
        above_rounding(success, _tolerance(rewards))
        least = success - _tolerance(rewards) * max(1.0, abs(success))
        return like(rewards >= least, rewards)
    found = success(rewards) if callable(success) else success
    found, _ = floating(found)
    if tuple(found.shape) != tuple(rewards.shape):
        raise ValueError(
            f"success has shape {tuple(found.shape)} and rewards "
            f"{tuple(rewards.shape)}: give one truth value to a rollout"
        )
    if not ((found == 0) | (found == 1)).all():
        raise ValueError("success has values other than true and false: compare them")
    return like(found, rewards)


def warn_of_no_failure(rewards, right, success, stacklevel: int) -> None:
    """Warn where all rollouts succeed, some with a reward of 0 or less and others with
    more.

    right: 1.0 where a rollout succeeds, and 0.0 elsewhere. success: as in `advantages`;
        there is no warning if it is given as truth values, which need not follow the
        rewards. stacklevel: as in `warnings.warn`, 2 for the caller of this function.
    """
    by_rewards = callable(success) or threshold(success) is not None
    if not by_rewards or not (right == 1).all():
        return
    low, high = float(rewards.min()), float(rewards.max())
    if low > 0 or high - low <= SINGLE * max(1.0, abs(low), abs(high)):
        return
    warnings.warn(
        f"all {math.prod(rewards.shape)} rollouts succeed by the success that is "
        f"given, with rewards from {low:g} to {high:g}: give a least reward of a "
        "success that failures do not reach",
        UserWarning,
        stacklevel=stacklevel,
    )


def above_rounding(success, rounding: float) -> None:
    """Raise ValueError for a success threshold that a reward of 0 may reach by
    rounding.

    success: the least reward that counts as a success; functions are not checked.
    rounding: thresholds above 0 and up to this value are refused.
    """
    success = _number(success)
    if _is_real(success) and 0 < success <= rounding:
        raise ValueError(
            f"success = {float(success):g} is rounding, which rewards of 0 reach: use "
            "a larger threshold, or a function such as lambda r: r > 0"
        )


def in_precision(success, r, dtype):
    """Return a success threshold, rounded as half-precision rewards are rounded.

    A reward of 0.9 is 0.8984 in bfloat16, so a threshold of 0.9 would miss it.

    success: the threshold; anything that is not a number, such as a function, is
        returned unchanged. r: the rewards in single or double precision. dtype: the
        dtype in which they were given.
    """
    success = _number(success)
    if dtype.itemsize != 2 or not _is_real(success):
        return success
    above_rounding(success, SINGLE)  # 1e-9 is 0 in float16
    if abs(float(success)) > float(namespace(r).finfo(dtype).max):
        return success
    return float(cast(like(float(success), r), dtype))


def threshold(success) -> float | None:
    """Return a success threshold as a float, or None if success is not given by a
    threshold.

    success: which rollouts succeed, as in `advantages`; a number is the least reward of
        a success.
    """
    success = _number(success)
    return float(success) if _is_real(success) else None


def _number(x):
    """A number that is an array of shape () as a float, and all else as it is."""
    shape = None if callable(x) else getattr(x, "shape", None)
    if isinstance(x, Real) or shape is None or len(shape) or "bool" in str(x.dtype):
        return x
    return float(floating(x)[0])


def _is_real(x) -> bool:
    return isinstance(x, Real) and not isinstance(x, (bool, np.bool_))


def _binary(r, rule: str):
    near = _tolerance(r)
    others = (abs(r) > near) & (abs(r - 1) > near)
    if others.any():
        value = float(r[others][0])
        shown = f"{value:.9g}"
        raise ValueError(
            f"{rule} needs rewards 0 and 1, and {int(others.sum())} are others, such "
            f"as {repr(value) if shown in ('0', '1') else shown}: give success=, the "
            "least reward of a success or a function of the rewards"
        )
    return like(r > 0.5, r)


# --- the mean success of the batch ---------------------------------------------------


def batch_omega(omega, success, groups: int, shape: tuple = ()):
    """Return omega, the mean success of the batch.

    omega: None, for the mean of `success`, with a warning if the batch has fewer than
        16 groups; a number; an array of `shape`, one value per prompt; or a function of
        `success`, such as `SmoothedOmega`.
    success: 1.0 or 0.0 for each rollout. groups: the number of groups.

    Raises ValueError for values outside [0, 1] and for other shapes.
    """
    if omega is None:
        if groups < FEW_GROUPS:
            warn_of_few_groups(groups)
        return like(success.mean(), success)
    if callable(omega) and not isinstance(omega, type):
        omega = omega(success)
        told = f"the function returned omega = {omega!r}"
    else:
        told = f"omega = {omega!r} is given"
    if not _holds_numbers(omega):
        raise ValueError(f"{told}: it must be a real number in [0, 1]")
    omega = like(omega, success)
    if tuple(omega.shape) not in ((), shape):
        accepted = f" or one of each prompt, {shape}" if shape else ""
        raise ValueError(
            f"omega has shape {tuple(omega.shape)}: give a number{accepted}"
        )
    if not ((omega >= 0) & (omega <= 1)).all():
        raise ValueError(f"omega = {omega} is no mean of rewards 0 and 1: use [0, 1]")
    return omega


def _holds_numbers(x) -> bool:
    """Whether x is a real number, or an array or list of such; strings are none."""
    if namespace(x) is not np:
        return not x.is_complex() and "bool" not in str(x.dtype)
    x = np.asarray(x)
    if x.dtype.kind == "O":
        return all(_is_real(entry) for entry in x.flat)
    return x.dtype.kind in "fiu"


def warn_of_few_groups(groups: int) -> None:
    """Warn that omega, the mean success of a batch, is computed from few groups.

    groups: the number of groups.
    """
    counted = "1 group" if groups == 1 else f"{groups} groups"
    warnings.warn(
        f"omega is the mean success of {counted}, so that it follows single "
        "groups: give batches of 16 groups or more, or omega=SmoothedOmega()",
        UserWarning,
        stacklevel=4,
    )


# --- baseline and scale --------------------------------------------------------------


class Batch(NamedTuple):
    """The mean and the standard deviations of all rewards of a batch.

    std: of the rewards. std_within: of the rewards minus the mean of their group. Both
    are population standard deviations.
    """

    mean: float
    std: float
    std_within: float
    """Of rewards less the means of their groups."""


def batch_of(r) -> Batch:
    """Return the `Batch` of rewards (B, G): their mean and standard deviations."""
    return Batch(*(float(x) for x in (r.mean(), spread(r), spread(centred(r)))))


def spread(x):
    """Return the population standard deviation of all entries of x.

    It is exactly 0 if they are equal up to rounding.
    """
    x = centred(x.reshape(1, -1))
    return ((x * x).mean()) ** 0.5


def base_of(r, base: str, std: str):
    """Return (r - mean) / std within each group, or r - mean for the base 'dr_grpo'.

    r: (B, G), rewards. base: one of BASES.
    std: 'population', 'verl' or 'trl', the convention for the standard deviation.

    Raises ValueError for other values of base and std.
    """
    if base not in BASES:
        raise ValueError(f"unknown base {base!r}: use {', '.join(BASES)}")
    if std not in STD:
        raise ValueError(f"unknown std {std!r}: use {', '.join(STD)}")
    return centred(r) if base == "dr_grpo" else standardised(r, *STD[std])


def centred(r):
    """Return r minus the mean of its row, exactly 0 in rows that are equal up to
    rounding.

    r: (B, G), rewards. They are equal up to rounding if the largest and the least
        differ by less than 1e-6 in float32, or 1e-11 in float64, times the largest
        |reward|, or times 1 if that is below 1.

    The mean is rounded, too; if the differences therefore do not sum to 0, the
    remainder is subtracted.
    """
    xp = namespace(r)
    high, low = xp.amax(r, -1)[:, None], xp.amin(r, -1)[:, None]
    size = xp.maximum(xp.ones_like(high), xp.maximum(abs(high), abs(low)))
    x = r - r.mean(-1, keepdims=True)
    total = x.sum(-1, keepdims=True)
    drifts = abs(total) > DRIFT * abs(x).sum(-1, keepdims=True)
    x = xp.where(drifts, x - total / r.shape[-1], x)
    return xp.where(high - low <= _tolerance(r) * size, 0.0, x)


def standardised(r, correction: int = 0, epsilon: float = 0.0):
    """Return (r - mean) / (std + epsilon) in each row of rewards r (B, G).

    correction: the variance is divided by G - correction: 0 for the population
        variance, 1 for the unbiased one.
    """
    return scaled(centred(r), correction, epsilon)


def scaled(x, correction: int = 0, epsilon: float = 0.0):
    """Return x / (std + epsilon) in each row of x (B, G), whose mean is 0.

    correction: the variance is divided by G - correction: 0 for the population
        variance, 1 for the unbiased one.

    Rows of zeros stay zero.
    """
    xp = namespace(x)
    size = xp.amax(abs(x), -1)[:, None]
    size = xp.where(size > 0, size, 1.0)
    y = x / size  # squares of small numbers underflow
    std = ((y * y).sum(-1, keepdims=True) / (x.shape[-1] - correction)) ** 0.5
    if epsilon:
        return x / (size * std + epsilon)
    return y / xp.where(std > 0, std, 1.0)


def _tolerance(r) -> float:
    """What rounding may add to a number of size 1.

    A float64 array that holds nothing but float32 numbers has their rounding.
    """
    if r.dtype.itemsize == 4:
        return SINGLE
    single = r.astype(np.float32) if namespace(r) is np else r.float()
    return SINGLE if (single == r).all() else DOUBLE


def leave_one_out(r):
    """Return each reward minus the mean of the other rewards of its row, for r (B, G).

    It equals G / (G - 1) (r - mean).
    """
    return centred(r) * (r.shape[-1] / (r.shape[-1] - 1))


def of_batch(r, batch: Batch):
    """Return (r - mean) / std with mean and std of the whole batch, for rewards r (B,
    G).

    batch: the `Batch` of r. The result is 0 for a batch of equal rewards.
    """
    return (r - batch.mean) / batch.std if batch.std else 0.0 * r


def of_batch_within(r, batch: Batch):
    """Return r minus the mean of its row, divided by the std of this difference.

    r: (B, G), rewards. batch: the `Batch` of r, whose std_within is used.
    """
    return centred(r) / (batch.std_within or 1.0)


# --- difficulty ----------------------------------------------------------------------


def mixed_groups(success, weigh, a):
    """Return weigh(a, p, q) in groups with both successes and failures, and a in the
    others.

    success: (B, G), 0 and 1. weigh: a function of a, the groups' success rates p (B, 1)
        and q = 1 - p. a: (B, G), advantages.

    Groups with p = 0 or 1 are not weighted, as in the paper on A-GRAE (arXiv
    2602.05548).
    """
    xp = namespace(a)
    p, q = (x.mean(-1, keepdims=True) for x in (success, 1 - success))
    mixed = (p > 0) & (q > 0)
    return xp.where(
        mixed, weigh(a, xp.where(mixed, p, 0.5), xp.where(mixed, q, 0.5)), a
    )


def towards_hard(a, p, q):
    """Return the advantages a / sqrt(p), which are larger in groups with a low success
    rate.

    a: (B, G), advantages. p: (B, 1), success rates. q = 1 - p is not used.
    """
    return a / p**0.5


def towards_easy(a, p, q):
    """Return the advantages a / sqrt(q), which are larger in groups with a low failure
    rate.

    a: (B, G), advantages. q: (B, 1), failure rates. p = 1 - q is not used.
    """
    return a / q**0.5


def refocused(a, p, q, omega):
    """Return the advantages a (omega/2 / sqrt(p) + (1 - omega)/2 / sqrt(q)): DDAS.

    a: (B, G), advantages. p, q: (B, 1), success and failure rates of the groups.
    omega: the mean success of the batch. Source: arXiv 2602.05548.
    """
    return a * (0.5 * omega / p**0.5 + 0.5 * (1 - omega) / q**0.5)


# --- sign ----------------------------------------------------------------------------


def positives(a, factor):
    """Return the advantages a, with the positive ones multiplied by the factor."""
    return namespace(a).where(a > 0, a * factor, a)


def attenuation(omega, alpha: float = 1.0):
    """Return min(1, omega / alpha), the factor on positive advantages in ASS.

    omega: the mean success of the batch. Source: arXiv 2602.05548. Raises ValueError
    for an alpha that is not positive and finite.
    """
    return namespace(omega).clip(omega / above_zero("alpha", alpha), None, 1.0)


def above_zero(name: str, value: float) -> float:
    """Return the value; raise ValueError unless it is positive and finite.

    name: the name of the value, for the message.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"{name} = {value} is no scale: use a number above 0")
    return value


# --- labels of groups ---------------------------------------------------------------


def numbered(groups) -> np.ndarray:
    """Return integers (N,) that are equal where the N labels of groups are equal.

    groups: N labels, such as numbers or strings. Raises ValueError for missing labels
    (NaN) and for arrays of more than one dimension.
    """
    labels = groups if hasattr(groups, "dtype") else list(groups)
    if hasattr(labels, "dtype"):
        labels = np.asarray(labels)
        if labels.ndim != 1:
            raise ValueError(
                f"groups have shape {labels.shape}: give one label to a rollout"
            )
        if labels.dtype.kind in "fcmM":
            missing = np.isnat if labels.dtype.kind in "mM" else np.isnan
            _refuse_missing(int(missing(labels).sum()))
        if labels.dtype.kind != "O":
            return np.unique(labels, return_inverse=True)[1]
    _refuse_missing(sum(isinstance(x, Real) and x != x for x in labels))
    known = {}
    return np.array([known.setdefault(x, len(known)) for x in labels], np.int64)


def _refuse_missing(count: int) -> None:
    if count:
        raise ValueError(
            f"the labels of groups hold NaN {count} times, which equals no label: give "
            "every rollout the label of its group"
        )
