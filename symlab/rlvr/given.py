"""Advantages of rewards as they are given: whole numbers exactly, and a second look.

`advantages` and `grouped_advantages` here are those of `symlab.rlvr.advantages`, which
computes in floats, with two things added for those who call them:

  whole numbers   torch's default float32 holds integers up to 2**24, and two rewards of
                  a group are equal to it where they differ by less than 1e-6 of their
                  size. From 1024 on, integers are computed in float64, less the least
                  of their group, so that they are exact up to 2**53
  success         a warning where rewards of 0 or less succeed as the larger ones do
"""

import math
import warnings

import numpy as np

from symlab.rlvr import parts
from symlab.rlvr.advantages import ESTIMATORS, name_of, named, options_of
from symlab.rlvr.advantages import advantages as of_floats
from symlab.rlvr.advantages import grouped_advantages as of_grouped_floats
from symlab.rlvr.arrays import cast, floating, namespace

LARGE = 2**10  # smaller integers are exact enough in float32
EXACT = 2**53  # float64 holds every integer up to this one
OF_THE_BATCH = "reinforce_pp"  # its baseline is the mean of the whole batch


def advantages(
    rewards, estimator="grpo", *, omega=None, success=None, batch=None, **options
):
    """Return the advantages (B, G) of rewards (B, G): G rollouts of each of B prompts.

    estimator: a name in ESTIMATORS, or a function of rewards (B, G) such as `compose`
    makes. success: which rollouts succeed: the least reward of a success, a function of
    the rewards, or truth values (B, G); if None, rewards must be 0 and 1 (up to
    rounding). omega: the mean success of the batch, in [0, 1]; or a function that is
    given the successes and returns it; if None, the mean success of these rewards, with
    a warning below 16 groups. batch: `parts.Batch`, statistics of the whole batch,
    where `rewards` are a part of it. Estimators that do not depend on these three
    ignore them.

    options: of the estimator, with these defaults. std='population' (grpo, dapo,
    positive_dominant, negative_dominant, hard, easy, ddas, ass, agrae): 'population' as
    in the papers, without an epsilon, so that rewards 1e-5, 0, 0, 0 have advantages of
    full size; 'verl' and 'trl' add 1e-6 and 1e-4 to an unbiased std. base='grpo', or
    'dr_grpo' without the std (the same, but grpo and dapo). beta=10.0
    (positive_dominant, negative_dominant), gamma=0.5 (hard, easy), alpha=1.0 (ass,
    agrae, agrae_released), k=4 (pkpo), weight=0.1 (w_reinforce), std='verl'
    (agrae_released).

    Rewards of a group are equal where they differ by less than 1e-6 of the largest of
    them, or of 1 if that is larger; by 1e-11 in float64, unless all rewards are numbers
    that float32 holds, too. Integers are exact up to 2**53.

    Raises ValueError for an unknown estimator or option, rewards that are not (B, G)
    and finite, integers above 2**53, groups of one where the group is the baseline,
    rewards other than 0 and 1 where success is needed and not given, and a function
    that does not return one finite number to a rollout. Warns where every rollout
    succeeds by a threshold or a function, some with a reward of 0 or less and others
    with more.
    """
    rule, told = named(estimator), []
    r, right, dtype = _exact(rewards, _noted(success, told), rule, batch, _by_row)
    given = {"omega": omega, "success": right, "batch": batch}
    found = of_floats(r, rule, **given, **options)
    _warn_of_no_failure(rewards, success, told, rule)
    return found if dtype is None else cast(found, dtype)


def grouped_advantages(
    rewards,
    groups,
    estimator="grpo",
    *,
    valid=None,
    omega=None,
    success=None,
    log=None,
    **options,
):
    """Return the advantages (N,) of rewards (N,) of rollouts in any order, with a label
    for the group (prompt) of each.

    groups: N labels (verl's uid), an array or a list; groups may have unequally many
    members. valid: (N,) bool; the other rollouts are left out of their groups and of
    omega, whatever their reward, and have the advantage zero. A rollout that is left
    alone, or is alone where other groups have more, is a group of equal rewards. omega:
    the mean success of the batch, a number, or a function of the successes of all valid
    rollouts; their mean if None. success: as in `advantages`; a function is called with
    the rewards (N,). log: a function that is given the `advantage_metrics` of the
    batch, a dictionary. options: of the estimator. Raises ValueError for lengths that
    differ, and as `advantages` does; warns as it does.
    """
    rule, told = named(estimator), []
    least = lambda r: _by_label(r, groups)  # noqa: E731
    batch = options.get("batch")
    r, right, dtype = _exact(rewards, _noted(success, told), rule, batch, least)
    options |= {"valid": valid, "omega": omega, "success": right, "log": log}
    found = of_grouped_floats(r, groups, rule, **options)
    _warn_of_no_failure(rewards, success, told, rule, valid)
    return found if dtype is None else cast(found, dtype)


# --- whole numbers -------------------------------------------------------------------


def _exact(rewards, success, rule, batch, least):
    """Return what to compute with: rewards, success, and the dtype of the result.

    Integers from 1024 on become float64, less what `least` returns for them where the
    estimator's baseline takes it away, too. Others are returned as they are, with the
    dtype None.
    """
    whole = _integers(rewards)
    if whole is None:
        return rewards, success, None
    xp, dtype = namespace(rewards), floating(rewards)[1]
    r = whole.astype(np.float64)
    reached = success is not None and not callable(success) and np.ndim(success) == 0
    if reached and not isinstance(success, (bool, np.bool_)):
        if math.isfinite(success):
            success = _as(r >= float(success), rewards, xp)
    elif callable(success):
        success = success(_as(r, rewards, xp))
    of_group = rule in ESTIMATORS.values()
    if of_group and rule is ESTIMATORS[OF_THE_BATCH]:
        r = (whole - whole.min() if batch is None else whole).astype(np.float64)
    elif of_group and not ("success" in options_of(rule) and success is None):
        r = (whole - least(whole)).astype(np.float64)
    elif not of_group and _near(whole, least(whole)):
        raise ValueError(
            f"rewards of {name_of(rule)} are integers up to {abs(whole).max()} that "
            "differ by less than 1e-6 of their size: subtract a constant from them"
        )
    return _as(r, rewards, xp), success, dtype


def _integers(rewards) -> np.ndarray | None:
    """The rewards as int64 if they are integers of 1024 or more, else None."""
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


def _as(values: np.ndarray, like, xp):
    """The values as a numpy array, or as a torch tensor on the device of `like`."""
    return values if xp is np else xp.as_tensor(values, device=like.device)


def _by_row(r: np.ndarray) -> np.ndarray:
    return r.min(-1, keepdims=True)


def _by_label(r: np.ndarray, groups) -> np.ndarray:
    """The least reward of each rollout's group; 0 where lengths do not fit."""
    labels = groups.cpu() if hasattr(groups, "cpu") else groups
    member = parts.numbered(labels)
    if member.shape != r.shape:
        return np.zeros_like(r)  # the sentence about it follows
    least = np.full(member.max() + 1, r.max())
    np.minimum.at(least, member, r)
    return least[member]


def _near(r: np.ndarray, least: np.ndarray) -> bool:
    """Whether some rewards are apart by less than what float32 adds to them."""
    apart = r - least
    return bool(((apart > 0) & (apart <= parts.SINGLE * abs(r))).any())


# --- success -------------------------------------------------------------------------


def _noted(success, told: list):
    """A function of the rewards that also lists what it has said."""
    if not callable(success):
        return success

    def noted(rewards):
        told.append(success(rewards))
        return told[-1]

    return noted


def _warn_of_no_failure(rewards, success, told: list, rule, valid=None) -> None:
    """Warn where all succeed, rewards of 0 or less among them beside larger ones.

    Truth values, which need not follow the rewards, are taken as they are. told: what a
    function has said.
    """
    by_rewards = callable(success) or (success is not None and not np.ndim(success))
    if not by_rewards or "success" not in options_of(rule):
        return
    r, dtype = floating(rewards)
    if valid is not None:
        kept = np.asarray(valid.cpu() if hasattr(valid, "cpu") else valid, bool)
        r = r[kept]
    if not math.prod(r.shape):
        return
    low, high = float(r.min()), float(r.max())
    if low > 0 or high - low <= parts.SINGLE * max(1.0, abs(low), abs(high)):
        return
    if told:
        right = floating(told[-1])[0]
    else:
        right = parts.successes(r, parts.in_precision(success, r, dtype), name_of(rule))
    if bool((right == 1).all()):
        warnings.warn(
            f"all {math.prod(r.shape)} rollouts succeed by the success that is given, "
            f"with rewards from {low:g} to {high:g}: give a least reward of a success "
            "that failures do not reach",
            UserWarning,
            stacklevel=3,
        )
