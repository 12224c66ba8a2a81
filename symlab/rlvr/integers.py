"""Exact computation with rewards that are integers.

torch's default float32 holds integers up to 2**24, and two rewards of a group count as
equal if they differ by less than 1e-6 of their size. Integers of 1024 or more are
therefore computed in float64, after the least reward of their group was subtracted, so
that they are exact up to 2**53.
"""

import math

import numpy as np

from symlab.rlvr import parts
from symlab.rlvr.arrays import namespace

LARGE = 2**10  # smaller integers are exact enough in float32
EXACT = 2**53  # float64 holds every integer up to this one


def large(rewards) -> np.ndarray | None:
    """Return the rewards as int64 if they are integers and the largest absolute value
    is at least 1024; else None.

    rewards: a numpy array, a torch tensor or a list. Raises ValueError for integers
        above 2**53.
    """
    if namespace(rewards) is not np:
        if rewards.is_floating_point() or rewards.is_complex():
            return None
        rewards = rewards.detach().cpu()
    try:
        r = np.asarray(rewards)
    except ValueError:  # rows of unequal lengths: the sentence about them follows
        return None
    if r.dtype.kind not in "iu" or not r.size:
        return None
    largest = max(abs(int(r.max())), abs(int(r.min())))
    if largest > EXACT:
        raise ValueError(
            f"rewards of size {largest} are integers above 2**53, which float64 does "
            "not hold: divide them by a constant, or subtract one"
        )
    return r.astype(np.int64) if largest >= LARGE else None


def exact(whole, least, success, rewards, rule: str, shift: str):
    """Return (rewards, successes) in float64 for integer rewards, of which some have a
    size of 1024 or more.

    A constant is subtracted from the rewards if that changes no advantage. A success is
    1.0, a failure 0.0.

    whole: the integers, as `large` returns them.
    least: for each of them the least reward of its group, of a shape that can be
        subtracted.
    success: as in `advantages`; if it is None, the second result is None.
    rewards: as the caller has them, in numpy or torch; the results are of the same
        kind, on the same device.
    rule: the estimator's name, for messages.
    shift: which constants change no advantage: one of the 'group', one of the 'batch',
        'none', or 'unknown'. If unknown, ValueError is raised for rewards that differ
        from the least one of their group by less than 1e-6 of their size.
    """
    r = _as(whole, rewards)
    if success is not None:
        lowest = parts.threshold(success)
        if lowest is not None and math.isfinite(lowest):
            success = _as(whole >= lowest, rewards)
        success = parts.successes(r, success, rule)
    if shift == "unknown" and _near(whole, least):
        raise ValueError(
            f"rewards of {rule} are integers up to {abs(whole).max()} that "
            "differ by less than 1e-6 of their size: subtract a constant from them"
        )
    if shift in ("group", "batch"):
        r = _as(whole - (least if shift == "group" else whole.min()), rewards)
    return r, success


def least_of_groups(whole: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Return for each rollout the least reward of its group, (N,).

    whole: (N,), the integer rewards of N rollouts. member: (N,), the numbers of their
        groups, from 0 up.
    """
    least = np.full(member.max() + 1, whole.max())
    np.minimum.at(least, member, whole)
    return least[member]


def _as(values: np.ndarray, rewards):
    """The values in float64, as an array or tensor of the kind of the rewards."""
    xp, values = namespace(rewards), values.astype(np.float64)
    return values if xp is np else xp.as_tensor(values, device=rewards.device)


def _near(r: np.ndarray, least: np.ndarray) -> bool:
    """Whether some rewards are apart by less than what float32 adds to them."""
    apart = r - least
    return bool(((apart > 0) & (apart <= parts.SINGLE * abs(r))).any())
