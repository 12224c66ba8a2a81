"""How a mixture of experts spreads its tokens: measures and the two auxiliary losses.

    logits, routers = model(tokens, routers=True)
    measures(routers)                                {'load_cv': 2.2, ...}
    auxiliary = sum(load_balancing_loss(r.logits, r.chosen) for r in routers)

f (E,) is the load: the fraction of the assignments that each expert got, sum 1; it has
no gradient. P (E,): the mean of its probability, the softmax over all experts. Losses
as in Switch (arXiv 2101.03961) and ST-MoE (arXiv 2202.08906); Hugging Face's f is not
divided by K, and their loss so K times as large.
"""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

DEAD = 0.1  # of a fair share


def load(chosen: Tensor, experts: int) -> Tensor:
    """f (E,) of the experts chosen, numbers of any shape."""
    counts = torch.zeros(experts, device=chosen.device)
    ones = torch.ones(chosen.numel(), device=chosen.device)
    return counts.index_add(0, chosen.flatten(), ones) / chosen.numel()


def load_cv(f: Tensor) -> Tensor:
    """Standard deviation over experts in units of the mean; 0 is even."""
    return f.std(correction=0) / f.mean()


def max_violation(f: Tensor) -> Tensor:
    """By how much the fullest expert exceeds a fair share, in shares (MaxVio)."""
    return f.max() / f.mean() - 1


def dead_fraction(f: Tensor) -> Tensor:
    """Fraction of experts with less than a tenth of a fair share."""
    return (f < DEAD * f.mean()).float().mean()


def load_entropy(f: Tensor) -> Tensor:
    """Entropy of f in units of its maximum: 1 is even, 0 one expert for all."""
    return torch.special.entr(f).sum() / log(len(f))


def mean_logit_drift(logits: Tensor) -> Tensor:
    """Root mean square over tokens of the mean logit of (..., E).

    The part of the logits that a softmax does not see: centred updates keep it where
    it started. For a head, too.
    """
    return logits.mean(-1).square().mean().sqrt()


def load_balancing_loss(logits: Tensor, chosen: Tensor) -> Tensor:
    """E sum_i f_i P_i of logits (N, E) and chosen (N, K): 1 where both are even."""
    experts = logits.shape[-1]
    p = logits.softmax(-1).mean(0)
    return experts * (load(chosen, experts).to(p) * p).sum()


def z_loss(logits: Tensor) -> Tensor:
    """Mean square of the logsumexp of (N, E): no function of probabilities alone."""
    return logits.logsumexp(-1).square().mean()


@torch.no_grad()
def measures(routers: Sequence) -> dict[str, float]:
    """All of them, averaged over layers; routers have logits (N, E), chosen (N, K).

    Raises ValueError for a dense model, which has no routers.
    """
    routers = [r for r in routers if r is not None]
    if not routers:
        raise ValueError("there are no routers: this is for a mixture of experts")
    rows = []
    for logits, chosen in routers:
        f = load(chosen, logits.shape[-1])
        rows.append(
            {
                "load_cv": load_cv(f),
                "max_violation": max_violation(f),
                "dead_fraction": dead_fraction(f),
                "load_entropy": load_entropy(f),
                "mean_logit_drift": mean_logit_drift(logits),
                "load_balancing_loss": load_balancing_loss(logits, chosen),
                "z_loss": z_loss(logits),
            }
        )
    return {k: float(sum(row[k] for row in rows) / len(rows)) for k in rows[0]}
