"""Advantage estimators: from the rewards of groups of rollouts to their advantages.

    advantages(rewards, "agrae")      rewards (B, G): B prompts, G rollouts of each

Every estimator is a function of rewards (B, G), a numpy array or a torch tensor, and
returns the same kind. All but `psr`, `nsr`, `w_reinforce` and `reinforce_pp` are
group-relative: groups of rewards that are equal up to rounding have the advantage zero,
exactly.

  grpo, dapo           (r - mean) / std: arXiv 2402.03300; DAPO (2503.14476) differs in
                       the objective alone
  dr_grpo              r - mean: arXiv 2503.20783
  rloo                 r - mean of the group's others: arXiv 2402.14740
  reinforce_pp         (r - mean) / std of the batch: REINFORCE++, arXiv 2501.03262
  reinforce_pp_baseline  r - mean of the group, over the std of that in the batch
  pkpo                 the gradient of pass@k: arXiv 2505.15201
  psr, nsr             +1 if correct, -1 if wrong, else 0: arXiv 2506.01347
  w_reinforce          +weight if correct, -1 if wrong; same paper
  the others           arXiv 2602.05548: positive_dominant and negative_dominant of its
                       experiment I, hard and easy of experiment II, ddas, ass, agrae;
                       agrae_released is what its code computes

Some depend on which rollouts succeed: where rewards are not 0 and 1, `success` says it.
Some depend on omega, the mean success of all rollouts of the batch: a number, a
function such as `SmoothedOmega`, or, for several batches in one call, an array (B, 1).
The parts that they are made of are in `parts`; `compose` makes other mixes of them.
"""

import math
import sys
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from numbers import Integral, Real

import numpy as np

from symlab.rlvr import integers, parts
from symlab.rlvr.arrays import cast, checked_finite, floating, like, namespace
from symlab.rlvr.metrics import advantage_metrics
from symlab.rlvr.parts import above_zero, attenuation, base_of, mixed_groups, positives
from symlab.rlvr.passk import pass_at_k

ESTIMATORS = {}
NEAR = 0.7  # of 1, how alike names are of which one is suggested for the other


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
    rule = named(estimator)
    accepted = options_of(rule)
    for name in options:
        if name not in accepted:
            use = f"use {', '.join(accepted)}" if accepted else "it has none"
            raise ValueError(f"{name_of(rule)} has no option {name!r}: {use}")
    for name, value in (("omega", omega), ("success", success), ("batch", batch)):
        if name in accepted:
            options[name] = value
    whole = integers.large(rewards)
    if whole is None:
        return _one_to_a_rollout(rule(rewards, **options), rewards, rule)
    least, success = whole.min(-1, keepdims=True), options.get("success")
    shift = _shift(rule, success, batch)
    r, right = integers.exact(whole, least, success, rewards, name_of(rule), shift)
    if right is not None:
        options["success"] = right
        parts.warn_of_no_failure(whole, right, success, stacklevel=3)
    found = _one_to_a_rollout(rule(r, **options), rewards, rule)
    return cast(found, floating(rewards)[1])


def _shift(rule, success, batch) -> str:
    """Which constants may be subtracted from rewards without a change of advantages."""
    if rule not in ESTIMATORS.values():
        return "unknown"
    if rule is reinforce_pp:
        return "batch" if batch is None else "none"
    return "none" if success is None and "success" in options_of(rule) else "group"


def _one_to_a_rollout(found, rewards, rule):
    """What an estimator returned, which may be any function; see `advantages`."""
    expected = tuple(np.shape(rewards))
    if not hasattr(found, "shape"):
        raise ValueError(
            f"{name_of(rule)} returned a {type(found).__name__}: return an array of "
            f"the shape of the rewards, {expected}"
        )
    if tuple(found.shape) != expected:
        raise ValueError(
            f"{name_of(rule)} returned shape {tuple(found.shape)} for rewards "
            f"{expected}: return one advantage to a rollout"
        )
    numbers, _ = floating(found)
    finite = namespace(numbers).isfinite(numbers)
    if not finite.all():
        raise ValueError(
            f"{int((~finite).sum())} of {math.prod(expected)} advantages by "
            f"{name_of(rule)} are not finite: it divides by 0, or numbers overflow"
        )
    return found


def named(estimator):
    """Return the advantage estimator of a name; a function is returned as it is.

    Raises ValueError for an unknown name.
    """
    if callable(estimator):
        return estimator
    rule = ESTIMATORS.get(estimator) if isinstance(estimator, str) else None
    if rule is None:
        plain = str(estimator).strip().lower().replace("++", "_pp")
        plain = plain.replace("-", "_").replace(" ", "_")
        near = get_close_matches(plain, ESTIMATORS, 1, NEAR)
        use = f"did you mean {near[0]!r}?" if near else f"use {', '.join(ESTIMATORS)}"
        raise ValueError(f"unknown estimator {estimator!r}: {use}")
    return rule


def name_of(estimator) -> str:
    """Return the name of an advantage estimator for messages; 'the estimator' for a
    function without one.
    """
    return getattr(named(estimator), "__name__", "the estimator")


def options_of(rule) -> list[str]:
    """Return the names of all parameters of an advantage estimator but the first
    (rewards).

    `success` among them means that the estimator must be told which rollouts succeed,
    `omega` that it uses the mean success of the batch.
    """
    return list(signature(rule).parameters)[1:]


def checked_estimator(estimator, options: dict, group: int = 1024) -> None:
    """Raise ValueError unless an advantage estimator works with these options.

    options: its own, and omega and success as in `advantages`. group: the number of
    rollouts of a prompt. A success given as truth values, which belong to one batch, is
    refused, and so is a threshold that rewards of 0 reach by rounding. A function given
    as omega or success is not called.
    """
    given = dict(options)
    omega, success = given.get("omega"), given.get("success")
    if isinstance(omega, (str, type)) or np.ndim(omega):
        raise ValueError(
            f"omega = {omega!r} is no state of the policy: give a number, a function "
            "of the successes, or an object such as SmoothedOmega()"
        )
    if success is not None and not callable(success):
        if isinstance(success, (bool, np.bool_)) or np.ndim(success):
            raise ValueError(
                "success is truth values, which belong to one batch: give the least "
                "reward of a success, or a function of the rewards"
            )
        parts.above_rounding(success, parts.SINGLE)
    for name, harmless in (("omega", 0.5), ("success", 0.5)):
        if callable(given.get(name)) or given.get(name) is None:
            given[name] = harmless
    rewards, rule = np.arange(group)[None] == 0, named(estimator)
    if "success" in options_of(rule):  # truth values, which no warning is about
        said = given["success"]
        given["success"] = parts.successes(1.0 * rewards, said, name_of(rule))
    torch = sys.modules.get("torch")  # a part of one's own may be made for tensors
    advantages(rewards if torch is None else torch.tensor(rewards), rule, **given)


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
    r, dtype = floating(rewards)
    xp, member = namespace(r), parts.numbered(_on_host(groups))
    valid = np.ones(member.shape) if valid is None else _on_host(valid)
    valid = np.asarray(valid, bool)
    if r.ndim != 1 or not member.shape == valid.shape == tuple(r.shape):
        raise ValueError(
            f"rewards have shape {tuple(r.shape)}, groups {member.shape} and valid "
            f"{valid.shape}: give one of each to a rollout"
        )
    if np.ndim(omega):
        raise ValueError(f"omega has shape {np.shape(omega)}: give one number")
    rule, seen, asked = named(estimator), r, parts.in_precision(success, r, dtype)
    whole, success = integers.large(rewards), asked
    if whole is not None:
        least = integers.least_of_groups(whole, member)
        shift = _shift(rule, success, options.get("batch"))
        r, success = integers.exact(whole, least, asked, r, name_of(rule), shift)
    accepted, found = options_of(rule), xp.zeros_like(r)
    largest = np.bincount(member).max(initial=0)
    places = np.argsort(member, kind="stable")  # group by group
    places = places[valid[places]]
    if not len(places):
        if log is not None:
            log(advantage_metrics([], [], []))
        return cast(found, dtype)
    sizes = np.bincount(member[places])[member[places]]
    right = xp.zeros_like(r)
    told = "success" in accepted or success is not None
    if told or log is not None:
        try:
            right[places] = _successes_of(r, places, success, rule)
        except ValueError:  # rewards may be anything where nobody asks for success
            if told:
                raise
            right = None
    if "success" in accepted:
        parts.warn_of_no_failure(seen[places], right[places], asked, stacklevel=3)
        r = right if success is None else r  # 0 and 1 up to rounding are 0 and 1
    if "omega" in accepted:
        groups_left = len(np.unique(member[places]))
        omega = parts.batch_omega(omega, right[places], groups_left)
    if "batch" in accepted and options.get("batch") is None:
        within = xp.zeros_like(r)
        if largest > 1:
            within = grouped_advantages(r, member, "dr_grpo", valid=valid)
        spread = (float(parts.spread(x[places])) for x in (r, within))
        options["batch"] = parts.Batch(float(r[places].mean()), *spread)
    k = options.get("k", signature(pkpo).parameters["k"].default)
    if rule is pkpo and not _is_whole(k):
        raise ValueError(f"k = {k!r}: use whole numbers from 1 to G - 1")
    for size in np.unique(sizes):
        if rule is pkpo and size < largest:  # groups that lost some have fewer to draw
            options["k"] = min(k, max(1, int(size) - 1))
        elif rule is pkpo:
            options["k"] = k
        these = places[sizes == size]
        table = r[these].reshape(-1, size)
        if "success" in accepted:
            options["success"] = right[these].reshape(-1, size)
        if size == 1 < largest:
            table = xp.concatenate([table, table], 1)
            if "success" in accepted:
                options["success"] = xp.concatenate([options["success"]] * 2, 1)
        a = advantages(table, rule, omega=omega, **options)
        found[these] = a[:, :size].reshape(-1)
    if log is not None:
        used = omega if "omega" in accepted else None
        log(advantage_metrics(found, right, member, valid=valid, omega=used))
    return cast(found, dtype)


def _on_host(x):
    """x, or a copy in the memory of the CPU of a tensor that is on another device."""
    return x.cpu() if hasattr(x, "cpu") else x


def _successes_of(r, places, success, rule):
    """Of the rollouts in `places`; a function is given the rewards of these."""
    if success is not None and not callable(success) and np.ndim(success):
        success, _ = floating(success)
        if tuple(success.shape) != tuple(r.shape):
            raise ValueError(
                f"success has shape {tuple(success.shape)} and rewards "
                f"{tuple(r.shape)}: give one truth value to a rollout"
            )
        success = success[places]
    checked_finite(r[places])
    return parts.successes(r[places], success, name_of(rule))


# --- estimators ----------------------------------------------------------------------


def as_estimator(rule, *, alone: bool = False):
    """Return a rule for advantages wrapped so that rewards are checked, and made
    floats, before it sees them.

    rule: a function of rewards (B, G) to advantages (B, G). If it has a parameter
    `success`, it gets successes as 0.0 and 1.0; with `omega`, their mean over the
    batch; with `batch`, the statistics of its rewards. alone: whether a group may have
    one member.
    """
    accepted = options_of(rule)

    @wraps(rule)
    def checked(rewards, **options):
        r, dtype = _checked(rewards, rule.__name__, alone)
        if "success" in accepted:
            given = parts.in_precision(options.get("success"), r, dtype)
            right = parts.successes(r, given, rule.__name__)
            parts.warn_of_no_failure(r, right, given, stacklevel=4)
            r = right if given is None else r
            options["success"] = right
        if "omega" in accepted:
            options["omega"] = parts.batch_omega(
                options.get("omega"), options["success"], len(r), (len(r), 1)
            )
        if "batch" in accepted and options.get("batch") is None:
            options["batch"] = parts.batch_of(r)
        return _in_range(cast(rule(r, **options), dtype))

    return checked


def _estimator(*, alone: bool = False):
    """Enters a rule into ESTIMATORS."""

    def entered(rule):
        ESTIMATORS[rule.__name__] = as_estimator(rule, alone=alone)
        return ESTIMATORS[rule.__name__]

    return entered


@_estimator()
def grpo(rewards, *, std: str = "population"):
    """Return (r - mean) / std within each group, for rewards r (B, G).

    std: 'population' as in the paper (arXiv 2402.03300); 'verl' and 'trl', those
    trainers' unbiased std plus 1e-6 or 1e-4.
    """
    return base_of(rewards, "grpo", std)


@_estimator()
def dapo(rewards, *, std: str = "population"):
    """Return GRPO's advantages of rewards (B, G); DAPO (arXiv 2503.14476) changes the
    objective alone, with its clip range and token mean. std: as in `grpo`.
    """
    return base_of(rewards, "dapo", std)


@_estimator()
def dr_grpo(rewards):
    """Return r - mean of the group, for rewards r (B, G) (Dr. GRPO, arXiv
    2503.20783).
    """
    return parts.centred(rewards)


@_estimator()
def rloo(rewards):
    """Return r less the mean of the group's other G - 1 rewards, for rewards r (B, G).

    It equals G / (G - 1) (r - mean). Source: arXiv 2402.14740.
    """
    return parts.leave_one_out(rewards)


@_estimator(alone=True)
def reinforce_pp(rewards, *, batch=None):
    """Return (r - mean) / std over all rewards r (B, G) of the batch, so that groups
    without a success change the policy, too.

    batch: the statistics to use, where `rewards` are a part of the batch. It is
    REINFORCE++ of arXiv 2501.03262 for a reward at the end, no discount and no KL
    penalty. Mean and std are over rollouts; trainers that take them over tokens weigh
    rollouts by their lengths.
    """
    return parts.of_batch(rewards, batch)


@_estimator()
def reinforce_pp_baseline(rewards, *, batch=None):
    """Return r - mean of the group, over the std of this difference in the whole batch,
    for rewards r (B, G) (arXiv 2501.03262).

    batch: the statistics to use, where `rewards` are a part of the batch.
    """
    return parts.of_batch_within(rewards, batch)


@_estimator()
def pkpo(rewards, *, k: int = 4, success=None):
    """Return advantages whose policy gradient is that of pass@k, for rewards (B, G) of
    0 and 1, or with `success` as in `advantages`.

    They are G times the estimate s^(loo) of arXiv 2505.15201. With c of G correct and
    rho(n, c, k) = `pass_at_k`: k (1 - rho(G-1, c-1, k)) for a correct rollout and k
    (rho(G-1, c, k-1) - rho(G-1, c, k)) for a wrong one; the sum is 0, and k = 1 is
    `rloo`. The factor G belongs to objectives that are means over the group. Raises
    ValueError unless 1 <= k < G.
    """
    xp, g = namespace(rewards), rewards.shape[1]
    if not _is_whole(k) or not 1 <= k < g:
        raise ValueError(f"k = {k!r}: use whole numbers from 1 to G - 1 = {g - 1}")
    c = np.arange(g + 1)
    least = pass_at_k(g - 1, np.minimum(c, g - 1), k)  # of the others, if it is wrong
    more = pass_at_k(g - 1, np.minimum(c, g - 1), k - 1) if k > 1 else 0 * least
    wrong = k * (more - least)
    right = k * (1 - pass_at_k(g - 1, np.maximum(c - 1, 0), k))
    count = success.sum(-1)
    count = count.astype(int) if xp is np else count.long()
    of_right, of_wrong = (like(x, rewards)[count][:, None] for x in (right, wrong))
    a = xp.where(success > 0, of_right, of_wrong)
    return xp.where((count % g == 0)[:, None], 0.0, a)


@_estimator(alone=True)
def psr(rewards, *, success=None):
    """Return 1 for a correct rollout, else 0, for rewards (B, G): positive sample
    reinforcement (arXiv 2506.01347).

    success: which rollouts are correct, as in `advantages`.
    """
    return 1.0 * success


@_estimator(alone=True)
def nsr(rewards, *, success=None):
    """Return -1 for a wrong rollout, else 0, for rewards (B, G): negative sample
    reinforcement (arXiv 2506.01347).

    success: which rollouts are correct, as in `advantages`.
    """
    return success - 1


@_estimator(alone=True)
def w_reinforce(rewards, *, weight: float = 0.1, success=None):
    """Return `weight` for a correct rollout and -1 for a wrong one, for rewards (B, G)
    (arXiv 2506.01347).

    There is no baseline, so that groups without a success change the policy, too.
    success: which rollouts are correct, as in `advantages`.
    """
    if not 0 <= weight < math.inf:
        raise ValueError(f"weight = {weight} is no weight: use 0 (`nsr`) or more")
    return weight * success - (1 - success)


@_estimator()
def positive_dominant(
    rewards, *, beta: float = 10.0, base: str = "grpo", std: str = "population"
):
    """Return GRPO's advantages of rewards (B, G), the positive ones multiplied by beta
    (experiment I of arXiv 2602.05548).

    base: 'grpo', or 'dr_grpo' for advantages that are not divided by the std. std: as
        in `grpo`.
    """
    return positives(base_of(rewards, base, std), above_zero("beta", beta))


@_estimator()
def negative_dominant(
    rewards, *, beta: float = 10.0, base: str = "grpo", std: str = "population"
):
    """Return GRPO's advantages of rewards (B, G), the positive ones divided by beta
    (experiment I of arXiv 2602.05548).

    base: 'grpo', or 'dr_grpo' for advantages that are not divided by the std. std: as
        in `grpo`.
    """
    return positives(base_of(rewards, base, std), 1 / above_zero("beta", beta))


@_estimator()
def hard(
    rewards,
    *,
    gamma: float = 0.5,
    base: str = "grpo",
    std: str = "population",
    success=None,
):
    """Return gamma A / sqrt(p) for rewards (B, G), which favours groups with a low
    success rate p (experiment II of arXiv 2602.05548).

    A are the advantages of `base`, 'grpo' or 'dr_grpo'; groups with p = 0 or 1 get
    gamma A. With 'grpo' the sum of |A| / sqrt(p) over a group falls with p.

    std: as in `grpo`. success: which rollouts succeed, as in `advantages`.
    """
    a = above_zero("gamma", gamma) * base_of(rewards, base, std)
    return mixed_groups(success, parts.towards_hard, a)


@_estimator()
def easy(
    rewards,
    *,
    gamma: float = 0.5,
    base: str = "grpo",
    std: str = "population",
    success=None,
):
    """Return gamma A / sqrt(1 - p) for rewards (B, G), which favours groups with a high
    success rate p (experiment II of arXiv 2602.05548).

    A are the advantages of `base`, 'grpo' or 'dr_grpo'; groups with p = 0 or 1 get
    gamma A. With 'grpo' the sum of |A| / sqrt(1 - p) over a group rises with p.

    std: as in `grpo`. success: which rollouts succeed, as in `advantages`.
    """
    a = above_zero("gamma", gamma) * base_of(rewards, base, std)
    return mixed_groups(success, parts.towards_easy, a)


@_estimator()
def ddas(
    rewards, *, omega=None, base: str = "grpo", std: str = "population", success=None
):
    """Return A (omega/2 / sqrt(p) + (1 - omega)/2 / sqrt(1 - p)) for rewards (B, G),
    with p the success rate of the group and omega that of the batch (DDAS, arXiv
    2602.05548).

    A are the advantages of `base`, 'grpo' or 'dr_grpo'; groups with p = 0 or 1 keep
    them. If omega is large, groups with a low p are favoured, as by `hard`; if it is
    small, groups with a high p.

    omega, success: as in `advantages`. std: as in `grpo`.
    """
    return _ddas(base_of(rewards, base, std), success, omega)


@_estimator()
def ass(
    rewards,
    *,
    omega=None,
    alpha: float = 1.0,
    base: str = "grpo",
    std: str = "population",
    success=None,
):
    """Return the advantages of rewards (B, G) under `base`, with the positive ones
    multiplied by min(1, omega / alpha), where omega is the mean success of the batch
    (ASS, arXiv 2602.05548).

    base: 'grpo' or 'dr_grpo'. omega, success: as in `advantages`. std: as in `grpo`.
    """
    return positives(base_of(rewards, base, std), attenuation(omega, alpha))


@_estimator()
def agrae(
    rewards,
    *,
    omega=None,
    alpha: float = 1.0,
    base: str = "grpo",
    std: str = "population",
    success=None,
):
    """Return A-GRAE's advantages of rewards (B, G): those of `base`, weighted by group
    as in `ddas`, then the positive ones multiplied as in `ass` (arXiv 2602.05548).

    base: 'grpo' or 'dr_grpo'. omega, success: as in `advantages`. std: as in `grpo`.

    The objective is not changed. The paper has alpha = 1 for MATH, and 0.5 for Geo3K
    and medical data.
    """
    refocused = _ddas(base_of(rewards, base, std), success, omega)
    return positives(refocused, attenuation(omega, alpha))


@_estimator()
def agrae_released(
    rewards, *, omega=None, alpha: float = 1.0, std: str = "verl", success=None
):
    """Return A-GRAE's advantages of rewards (B, G) as the authors' code computes them,
    with 1 - sqrt(p) + 1e-6 where the paper (arXiv 2602.05548) has sqrt(1 - p).

    p: the success rate of a group. At p = 7/8 this term is 5.5 times the paper's.
    Parameters are those of `agrae`.
    """

    def weighed(a, p, q):
        root = p**0.5
        focus = omega / (root + 1e-6) + (1 - omega) / (1 - root + 1e-6)
        return 0.5 * focus * a

    refocused = mixed_groups(success, weighed, base_of(rewards, "grpo", std))
    return positives(refocused, attenuation(omega, alpha))


def _ddas(a, success, omega):
    return mixed_groups(success, lambda a, p, q: parts.refocused(a, p, q, omega), a)


# --- checks --------------------------------------------------------------------------


def _is_whole(x) -> bool:
    """Whether x is a number without a fraction: 4, and 4.0 too; no string, no NaN."""
    if isinstance(x, Integral):
        return not isinstance(x, bool)
    return isinstance(x, Real) and float(x).is_integer()


def _checked(rewards, rule: str, alone: bool):
    r, dtype = floating(rewards)
    if r.ndim != 2:
        raise ValueError(
            f"rewards have shape {tuple(r.shape)}: give (B, G), B prompts by G rollouts"
        )
    if 0 in r.shape:
        raise ValueError(f"rewards have shape {tuple(r.shape)}: there is no rollout")
    if r.shape[1] == 1 and not alone:
        raise ValueError(
            f"groups of one have no baseline for {rule}: sample at least 2 rollouts"
        )
    checked_finite(r)
    return r, dtype


def _in_range(a):
    """Advantages of half precision may not fit into it."""
    xp = namespace(a)
    if a.dtype.itemsize == 2 and not xp.isfinite(a).all():
        raise ValueError(f"advantages overflow {a.dtype}: give rewards in float32")
    return a
