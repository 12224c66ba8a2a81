"""Reinforcement learning from verifiable rewards: advantages, objective, pass@k, tasks.

    advantages(rewards, "agrae")               rewards (B, G), numpy or torch
    compose(normalise=..., difficulty=..., sign=...)   an estimator of your own parts
    clipped_objective(logp, old_logp, ...)     PPO's loss, with clip fractions
    pass_at_k(n, c, k)                         the unbiased estimate
    RuleWithExceptions(), Countdown()          tasks that a program verifies

`symlab.rlvr.theory` has the theorems of A-GRAE (arXiv 2602.05548) as functions;
`symlab.rlvr.trl` and `symlab.rlvr.verl` provide the estimators to these two trainers,
and `symlab.rlvr.loops` to other libraries, as functions with their signatures. torch
and TRL are imported only when they are needed.
"""

from importlib import import_module

from symlab.rlvr.advantages import ESTIMATORS, advantages, grouped_advantages
from symlab.rlvr.compose import compose
from symlab.rlvr.metrics import advantage_metrics, group_weights
from symlab.rlvr.omega import SmoothedOmega
from symlab.rlvr.passk import pass_at_k, pass_at_k_exact
from symlab.rlvr.tasks import Countdown, RuleWithExceptions

_LAZY = {"AdvantageTrainer": "trl", "clipped_objective": "objective"}

__all__ = [
    "ESTIMATORS",
    "AdvantageTrainer",
    "Countdown",
    "RuleWithExceptions",
    "SmoothedOmega",
    "advantage_metrics",
    "advantages",
    "clipped_objective",
    "compose",
    "group_weights",
    "grouped_advantages",
    "pass_at_k",
    "pass_at_k_exact",
]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(import_module(f"symlab.rlvr.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'symlab.rlvr' has no attribute {name!r}")
