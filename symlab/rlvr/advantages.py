"""Advantage estimators: from the rewards of groups of rollouts to their advantages.

    advantages(rewards, "agrae")      rewards (B, G): B prompts, G rollouts of each

Every estimator is a pure function of rewards (B, G), a numpy array or a torch tensor,
and returns the same kind; all but `psr`, `nsr` and `w_reinforce` are group-relative:
groups of equal rewards have the advantage zero, exactly.

  grpo, dapo           (r - mean) / std: arXiv 2402.03300; DAPO (2503.14476) differs in
                       the objective alone
  dr_grpo              r - mean: arXiv 2503.20783
  psr, nsr             +1 if correct, -1 if wrong, else 0: arXiv 2506.01347
  w_reinforce          +weight if correct, -1 if wrong; same paper
  the others           arXiv 2602.05548: positive_dominant and negative_dominant of its
                       experiment I, hard and easy of experiment II, ddas, ass, agrae;
                       agrae_released is what its code computes

omega is the mean reward of all trajectories of the batch. Given, it is a number or, for
several batches in one call, an array (B, 1).
"""

import math
from difflib import get_close_matches
from functools import wraps
from inspect import signature

import numpy as np

from symlab.rlvr.arrays import cast, floating, like, namespace

STD = {  # name: (what G is lessened by, what is added to the std)
    "population": (0, 0.0),  # the paper
    "verl": (1, 1e-6),
    "trl": (1, 1e-4),
}
BASES = ("grpo", "dapo", "dr_grpo")
ESTIMATORS = {}


def advantages(rewards, estimator: str = "grpo", *, omega=None, **options):
    """The advantages (B, G) of rewards (B, G) by the named estimator.

    omega: mean reward of the batch, in [0, 1]; that of `rewards` if None. Estimators
    that do not depend on it ignore it. options: of the estimator. Raises ValueError for
    an unknown estimator or option, rewards that are not (B, G) and finite, groups of
    one where the group is the baseline, and rewards other than 0 and 1 where success
    rates are needed.
    """
    rule = ESTIMATORS.get(estimator)
    if rule is None:
        near = get_close_matches(str(estimator), ESTIMATORS, 1, 0.0)[0]
        raise ValueError(f"unknown estimator {estimator!r}: did you mean {near!r}?")
    accepted = list(signature(rule).parameters)[1:]
    for name in options:
        if name not in accepted:
            use = f"use {', '.join(accepted)}" if accepted else "it has none"
            raise ValueError(f"{estimator} has no option {name!r}: {use}")
    if "omega" in accepted:
        options["omega"] = omega
    return rule(rewards, **options)


def grouped_advantages(
    rewards, groups, estimator: str = "grpo", *, valid=None, omega=None, **options
):
    """The advantages (N,) of rewards (N,) whose groups are given by name, in any order.

    groups: N labels that sort (verl's uid), an array or a list; groups may have
    unequally many members. valid: (N,) bool; the other rollouts are left out of their
    groups and of omega, whatever their reward, and have the advantage zero. A rollout
    that is left alone, or is alone where other groups have more, is a group of equal
    rewards. omega: a number, the mean of all valid rewards if None. options: of the
    estimator. Raises ValueError for lengths that differ, and as `advantages` does.
    """
    r, dtype = floating(rewards)
    xp, labels = namespace(r), np.asarray(groups)
    valid = np.ones(labels.shape, bool) if valid is None else np.asarray(valid, bool)
    if r.ndim != 1 or not labels.shape == valid.shape == tuple(r.shape):
        raise ValueError(
            f"rewards have shape {tuple(r.shape)}, groups {labels.shape} and valid "
            f"{valid.shape}: give one of each to a rollout"
        )
    if np.ndim(omega):
        raise ValueError(f"omega has shape {np.shape(omega)}: give one number")
    found = xp.zeros_like(r)
    _, member, counts = np.unique(labels, return_inverse=True, return_counts=True)
    largest = counts.max(initial=0)
    places = np.argsort(member, kind="stable")  # group by group
    places = places[valid[places]]
    if len(places) and omega is None:
        omega = r[places].mean()
    sizes = np.bincount(member[places])[member[places]]
    for size in np.unique(sizes):
        these = places[sizes == size]
        table = r[these].reshape(-1, size)
        if size == 1 < largest:
            table = xp.concatenate([table, table], 1)
        a = advantages(table, estimator, omega=omega, **options)
        found[these] = a[:, :size].reshape(-1)
    return cast(found, dtype)


# --- estimators ----------------------------------------------------------------------


def _estimator(*, binary: bool = False, alone: bool = False):
    """Enters a rule into ESTIMATORS; it then sees checked rewards in floats.

    binary: rewards are 0 or 1. alone: a group may have one member.
    """

    def entered(rule):
        @wraps(rule)
        def checked(rewards, **options):
            r, dtype = _checked(rewards, rule.__name__, binary, alone)
            return cast(rule(r, **options), dtype)

        ESTIMATORS[rule.__name__] = checked
        return checked

    return entered


@_estimator()
def grpo(rewards, *, std: str = "population"):
    """(r - mean) / std of the group.

    std: 'population', the paper's; 'verl', unbiased + 1e-6; 'trl', unbiased + 1e-4.
    """
    return _base(rewards, "grpo", std)


@_estimator()
def dapo(rewards, *, std: str = "population"):
    """GRPO's; what DAPO changes is the objective: clip range and token mean."""
    return _base(rewards, "dapo", std)


@_estimator()
def dr_grpo(rewards):
    """r - mean of the group."""
    return _centred(rewards)


@_estimator(binary=True, alone=True)
def psr(rewards):
    """Positive sample reinforcement: 1 if correct, else 0."""
    return 1.0 * rewards


@_estimator(binary=True, alone=True)
def nsr(rewards):
    """Negative sample reinforcement: -1 if wrong, else 0."""
    return rewards - 1


@_estimator(binary=True, alone=True)
def w_reinforce(rewards, *, weight: float = 0.1):
    """`weight` if correct, -1 if wrong: no baseline, so all-wrong groups count."""
    if not 0 <= weight < math.inf:
        raise ValueError(f"weight = {weight} is no weight: use 0 (`nsr`) or more")
    return weight * rewards - (1 - rewards)


@_estimator()
def positive_dominant(
    rewards, *, beta: float = 10.0, base: str = "grpo", std: str = "population"
):
    """Positive advantages times beta; experiment I."""
    return _positives(_base(rewards, base, std), _above_zero("beta", beta))


@_estimator()
def negative_dominant(
    rewards, *, beta: float = 10.0, base: str = "grpo", std: str = "population"
):
    """Positive advantages over beta; experiment I."""
    return _positives(_base(rewards, base, std), 1 / _above_zero("beta", beta))


@_estimator(binary=True)
def hard(rewards, *, gamma: float = 0.5, base: str = "grpo", std: str = "population"):
    """gamma A / sqrt(p), p the success rate of the group: sum|A| falls with p."""
    return _above_zero("gamma", gamma) * _base(rewards, base, std) / _root(rewards)


@_estimator(binary=True)
def easy(rewards, *, gamma: float = 0.5, base: str = "grpo", std: str = "population"):
    """gamma A / sqrt(1 - p): sum|A| rises with p."""
    return _above_zero("gamma", gamma) * _base(rewards, base, std) / _root(1 - rewards)


@_estimator(binary=True)
def ddas(rewards, *, omega=None, base: str = "grpo", std: str = "population"):
    """omega/2 A / sqrt(p) + (1 - omega)/2 A / sqrt(1 - p): `hard` in an easy batch."""
    return _refocused(rewards, _omega(omega, rewards), _base(rewards, base, std))


@_estimator(binary=True)
def ass(
    rewards,
    *,
    omega=None,
    alpha: float = 1.0,
    base: str = "grpo",
    std: str = "population",
):
    """Positive advantages times min(1, omega / alpha)."""
    weight = _attenuation(_omega(omega, rewards), alpha)
    return _positives(_base(rewards, base, std), weight)


@_estimator(binary=True)
def agrae(
    rewards,
    *,
    omega=None,
    alpha: float = 1.0,
    base: str = "grpo",
    std: str = "population",
):
    """DDAS, then ASS, on the advantage of the base; the objective stays the base's.

    alpha is 1 for MATH, 0.5 for Geo3K and the medical data of the paper.
    """
    omega = _omega(omega, rewards)
    refocused = _refocused(rewards, omega, _base(rewards, base, std))
    return _positives(refocused, _attenuation(omega, alpha))


@_estimator(binary=True)
def agrae_released(rewards, *, omega=None, alpha: float = 1.0, std: str = "verl"):
    """A-GRAE as the authors' code has it: the easy term is over 1 - sqrt(p) + 1e-6.

    The paper has sqrt(1 - p): at p = 7/8 this is 5.5 times as much.
    """
    omega, base = _omega(omega, rewards), _base(rewards, "grpo", std)
    root = rewards.mean(-1, keepdims=True) ** 0.5
    focus = omega / (root + 1e-6) + (1 - omega) / (1 - root + 1e-6)
    return _positives(0.5 * focus * base, _attenuation(omega, alpha))


# --- parts ---------------------------------------------------------------------------


def _base(r, base: str, std: str):
    if base not in BASES:
        raise ValueError(f"unknown base {base!r}: use {', '.join(BASES)}")
    if std not in STD:
        raise ValueError(f"unknown std {std!r}: use {', '.join(STD)}")
    return _centred(r) if base == "dr_grpo" else _standardised(r, *STD[std])


def _centred(r):
    """r - mean, and 0 where all are equal: means of equal numbers are rounded, too."""
    xp = namespace(r)
    equal = xp.amax(r, -1) == xp.amin(r, -1)
    return xp.where(equal[:, None], 0.0, r - r.mean(-1, keepdims=True))


def _standardised(r, correction: int, epsilon: float):
    xp = namespace(r)
    x = _centred(r)
    size = xp.amax(abs(x), -1)[:, None]
    size = xp.where(size > 0, size, 1.0)
    y = x / size  # squares of 1e-200 are no numbers
    std = ((y * y).sum(-1, keepdims=True) / (r.shape[-1] - correction)) ** 0.5
    if epsilon:
        return x / (size * std + epsilon)
    return y / xp.where(std > 0, std, 1.0)


def _root(r):
    """sqrt(p) of each group (B, 1), and 1 where it is 0: there A is 0."""
    p = r.mean(-1, keepdims=True)
    return namespace(r).where(p > 0, p, 1.0) ** 0.5


def _refocused(r, omega, base):
    return base * (0.5 * omega / _root(r) + 0.5 * (1 - omega) / _root(1 - r))


def _positives(base, factor):
    return namespace(base).where(base > 0, base * factor, base)


def _attenuation(omega, alpha: float):
    return namespace(omega).clip(omega / _above_zero("alpha", alpha), None, 1.0)


def _omega(omega, r):
    if omega is None:
        return like(r.mean(), r)
    omega = like(omega, r)
    if tuple(omega.shape) not in ((), (len(r), 1)):
        raise ValueError(
            f"omega has shape {tuple(omega.shape)}: give a number or one of each "
            f"prompt, ({len(r)}, 1)"
        )
    if not ((omega >= 0) & (omega <= 1)).all():
        raise ValueError(f"omega = {omega} is no mean of rewards 0 and 1: use [0, 1]")
    return omega


def _above_zero(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} = {value} is no scale: use a number above 0")
    return value


def _checked(rewards, rule: str, binary: bool, alone: bool):
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
    finite = namespace(r).isfinite(r)
    if not finite.all():
        raise ValueError(f"{int((~finite).sum())} rewards are not finite: mend them")
    others = (r != 0) & (r != 1)
    if binary and others.any():
        raise ValueError(
            f"{rule} needs rewards 0 and 1, and {int(others.sum())} are others, such "
            f"as {float(r[others][0]):.9g}: threshold them"
        )
    return r, dtype
