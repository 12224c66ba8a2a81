"""phi-balancing: an auxiliary loss that spreads the load of a mixture of experts.

    balancing = PhiBalancing(experts=16)
    loss = loss + balancing(logits.softmax(-1))

min L + lambda phi(E p) over routers, phi strictly convex and symmetric. By duality phi
is the price of the load: mirror ascent with mirror map phi* makes it the gradient of
phi at a running mean m of the batches' mean probabilities p_t (Chen et al., arXiv
2605.15403, Algorithm 1):

    m <- (1 - eta) m + eta p_t      loss = lambda <p_t, grad phi(m)>, price detached

Relabelling experts relabels prices; a shift of all prices moves the loss and not its
gradient, as probabilities sum to one, so it goes with updates that leave the mean
router logit alone, as a z-loss does not.
"""

import torch
from torch import Tensor

POTENTIALS = ("entropy", "euclidean")


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
    """The loss of one router; `load` (E,) is its state, all zero at first.

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
