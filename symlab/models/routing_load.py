"""How evenly a mixture of experts spreads its tokens: measures, and auxiliary losses.

    logits, routers = model(tokens, routers=True)
    measures(routers)                                {'load_cv': 2.2, ...}
    auxiliary = sum(load_balancing_loss(r.logits, r.chosen) for r in routers)

    balancing = PhiBalancing(experts=16)             one for each router
    auxiliary = balancing(logits.softmax(-1))

f (E,) is the load: the fraction of the assignments that each of E experts got, with sum
1; it has no gradient. P (E,) is the mean over tokens of each expert's probability, the
softmax of the logits over all experts. The losses are as in Switch (arXiv 2101.03961),
ST-MoE (arXiv 2202.08906) and phi-balancing (arXiv 2605.15403). Hugging Face's f is not
divided by the number K of experts per token, so their load-balancing loss is K times as
large.
"""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

DEAD = 0.1  # of a fair share
POTENTIALS = ("entropy", "euclidean")


def load(chosen: Tensor, experts: int) -> Tensor:
    """Return the load f (E,): the fraction of all assignments that each expert got.

    chosen: numbers of the chosen experts, of any shape.
    experts: E, the number of experts.

    f sums to 1.
    """
    counts = torch.zeros(experts, device=chosen.device)
    ones = torch.ones(chosen.numel(), device=chosen.device)
    return counts.index_add(0, chosen.flatten(), ones) / chosen.numel()


def load_cv(f: Tensor) -> Tensor:
    """Return the coefficient of variation of the load f (E,), each expert's share of
    tokens.

    It is the standard deviation over experts, divided by the mean: 0 if all loads are
    equal.
    """
    return f.std(correction=0) / f.mean()


def max_violation(f: Tensor) -> Tensor:
    """Return the largest load divided by an equal share, minus 1 (called MaxVio in
    papers).

    f: the load (E,), the fraction of all assignments that each expert got; an equal
        share is 1/E.
    """
    return f.max() / f.mean() - 1


def dead_fraction(f: Tensor) -> Tensor:
    """Return the fraction of experts with less than a tenth of an equal share of
    tokens.

    f: the load (E,), the fraction of all assignments that each expert got; an equal
        share is 1/E.
    """
    return (f < DEAD * f.mean()).float().mean()


def load_entropy(f: Tensor) -> Tensor:
    """Return the entropy of the load f (E,), divided by its maximum, log E.

    f: the load, the fraction of all assignments that each expert got. The result is 1
        if all experts have equal loads, and 0 if one expert gets all tokens.
    """
    return torch.special.entr(f).sum() / log(len(f))


def mean_logit_drift(logits: Tensor) -> Tensor:
    """Return the root mean square, over tokens, of the mean logit of each token.

    logits: (..., E), of a router with E experts, or of an output head with E tokens.

    A softmax ignores this mean. Updates whose mean over E is zero leave it where it
    started.
    """
    return logits.mean(-1).square().mean().sqrt()


def load_balancing_loss(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return the loss E sum_i f_i P_i of a router, a scalar.

    logits: (N, E), of N tokens and E experts.
    chosen: (N, K), the numbers of the experts of each token.

    f is the fraction of assignments that each expert got, without gradient; P is the
    mean softmax of the logits (Switch, arXiv 2101.03961). The loss is 1 if f or P is
    uniform.
    """
    experts = logits.shape[-1]
    p = logits.softmax(-1).mean(0)
    return experts * (load(chosen, experts).to(p) * p).sum()


def z_loss(logits: Tensor) -> Tensor:
    """Return the mean square of the logsumexp of a router's logits (N, E).

    It penalises a common shift of all logits, which does not change the probabilities
    (ST-MoE, arXiv 2202.08906).
    """
    return logits.logsumexp(-1).square().mean()


def price(load: Tensor, phi: str = "entropy") -> Tensor:
    """Return the price of each expert: the gradient of a potential phi at the load.

    load: (..., E), here called m.
    phi: 'entropy' is sum m log m, with the gradient 1 + log m, for which only ratios of
        loads matter; 'euclidean' is sum m^2 / 2, with the gradient m.

    A load of zero gets the price of the smallest positive number.
    """
    if phi not in POTENTIALS:
        raise ValueError(f"unknown potential {phi!r}: use {' or '.join(POTENTIALS)}")
    if phi == "euclidean":
        return load.clone()
    return 1 + load.clamp(min=torch.finfo(load.dtype).tiny).log()


class PhiBalancing(torch.nn.Module):
    """An auxiliary loss that balances a router's experts by prices on their load.

    The aim is to add lambda phi(p) to the model's loss, where p is the router's mean
    probabilities and phi strictly convex and symmetric. By duality grad phi is the
    price of the load: mirror ascent with mirror map phi* makes it the gradient at a
    running mean m of the batches' p_t (Chen et al., arXiv 2605.15403, Algorithm 1):

        m <- (1 - eta) m + eta p_t    loss = lambda <p_t, grad phi(m)>, price detached

    Relabelling experts relabels prices. A common shift of all prices changes the loss
    but not its gradient, as probabilities sum to one. So this loss can be combined with
    updates that leave the mean router logit unchanged; a z-loss has no such invariance.

    experts: their number E.
    phi: 'entropy' or 'euclidean', see `price`.
    rate: eta of the running mean (0.01 in the paper).
    weight: lambda, in units of the loss.
    load: (E,), the running mean m, all zero at first.

    With the Euclidean potential the price starts at zero and grows over 1/rate steps;
    with the entropy the start only shifts it. Each process of a distributed run has the
    mean of its own batch. Do not recompute it in a checkpointed block: each call in
    training updates the mean.
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
        """Return the auxiliary loss, a scalar, of a router's probabilities (..., E).

        probabilities: the softmax over ALL experts, before top-k, not after.

        Sums are in float32 at least, under autocast as well. Raises ValueError for
        another number of experts. At the first call alone, since the check waits for
        the device, it also raises ValueError if the values are not probabilities.
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
    """Return all measures of a mixture of experts, {name: value}, averaged over layers.

    routers: for each layer a pair (logits (N, E), chosen (N, K)) for N tokens, or None
        for a layer without experts.

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
