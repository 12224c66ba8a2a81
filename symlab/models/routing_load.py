"""How a mixture of experts spreads its tokens: measures, and three auxiliary losses.

    logits, routers = model(tokens, routers=True)
    measures(routers)                                {'load_cv': 2.2, ...}
    auxiliary = sum(load_balancing_loss(r.logits, r.chosen) for r in routers)

    balancing = PhiBalancing(experts=16)             one for each router
    auxiliary = balancing(logits.softmax(-1))

f (E,) is the load: the fraction of the assignments that each expert got, sum 1; it has
no gradient. P (E,): the mean of its probability, the softmax over all experts. Losses
as in Switch (arXiv 2101.03961), ST-MoE (arXiv 2202.08906) and phi-balancing (arXiv
2605.15403); Hugging Face's f is not divided by K, and their loss so K times as large.
"""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

DEAD = 0.1  # of a fair share
POTENTIALS = ("entropy", "euclidean")


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
    """Mean square of the logsumexp of logits (N, E).

    It depends on a shift of the logits, which the probabilities do not.
    """
    return logits.logsumexp(-1).square().mean()


def price(load: Tensor, phi: str = "entropy") -> Tensor:
    """The gradient of phi at a load (..., E): 1 + log m, or m.

    phi: 'entropy' is sum m log m, for which only ratios of loads count; 'euclidean' is
    sum m^2 / 2. A load of zero has the price of the least positive number.
    """
    if phi not in POTENTIALS:
        raise ValueError(f"unknown potential {phi!r}: use {' or '.join(POTENTIALS)}")
    if phi == "euclidean":
        return load.clone()
    return 1 + load.clamp(min=torch.finfo(load.dtype).tiny).log()


class PhiBalancing(torch.nn.Module):
    """Phi-balancing of one router; `load` (E,) is its state, all zero at first.

    min L + lambda phi(E p) over routers, phi strictly convex and symmetric. By duality
    phi is the price of the load: mirror ascent with mirror map phi* makes it the
    gradient of phi at a running mean m of the batches' mean probabilities p_t (Chen et
    al., arXiv 2605.15403, Algorithm 1):

        m <- (1 - eta) m + eta p_t    loss = lambda <p_t, grad phi(m)>, price detached

    Relabelling experts relabels prices; a shift of all prices moves the loss and not
    its gradient, as probabilities sum to one, so it goes with updates that leave the
    mean router logit alone, as a z-loss does not.

    rate: eta of the running mean (0.01 in the paper). weight: lambda, in units of the
    loss. With the Euclidean potential the price starts at zero and grows over 1/rate
    steps; with the entropy the start only shifts it. Each process of a distributed run
    has the mean of its own batch. Do not recompute it in a checkpointed block: each
    call in training moves the mean.
    """

    load: Tensor

    def __init__(
        self,
        experts: int,
        phi: str = "entropy",
        rate: float = 0.01,
        weight: float = 0.01,
    ):
        super().__init__()
        if phi not in POTENTIALS:
            raise ValueError(
                f"unknown potential {phi!r}: use {' or '.join(POTENTIALS)}"
            )
        if not 0 < rate <= 1:
            raise ValueError(f"rate = {rate} averages nothing: use one in (0, 1]")
        if weight < 0:
            raise ValueError(f"weight = {weight} rewards imbalance: use one >= 0")
        self.phi, self.rate, self.weight = phi, rate, weight
        self.register_buffer("load", torch.zeros(experts))
        self._checked = False

    def forward(self, probabilities: Tensor) -> Tensor:
        """The scalar loss of (..., E), the router's softmax over ALL experts.

        Before top-k, not after. Sums are in float32 at least, under autocast as well.
        Raises ValueError for another number of experts and, at the first call alone, as
        it waits for the device, for what is no probabilities.
        """
        experts = len(self.load)
        if probabilities.shape[-1] != experts:
            raise ValueError(
                f"the last axis has {probabilities.shape[-1]} entries and the router "
                f"{experts} experts: give their softmax before top-k"
            )
        wide = torch.promote_types(probabilities.dtype, torch.float32)
        p = probabilities.to(wide).reshape(-1, experts)
        if len(p) and not self._checked:
            _check(p.detach())
            self._checked = True
        if len(p) == 0:  # no token here: nothing to average, nothing to pay
            return p.sum()
        p = p.mean(0)
        if self.training:
            self.load.lerp_(p.detach().to(self.load.dtype), self.rate)
        return self.weight * (p * price(self.load, self.phi).to(wide)).sum()

    def extra_repr(self) -> str:
        return (
            f"experts={len(self.load)}, phi={self.phi!r}, rate={self.rate}, "
            f"weight={self.weight}"
        )


def _check(p: Tensor) -> None:
    """Rows are probabilities to what bfloat16 rounds."""
    off = (p.sum(-1) - 1).abs().amax()
    if not (off < 0.01 and (p >= 0).all()):
        raise ValueError(
            "these are no probabilities, as they are negative or do not sum to one: "
            "give the softmax over all experts, before top-k"
        )


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
