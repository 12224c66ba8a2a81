"""syre: remove the mirror symmetries of any model by a fixed random offset.

The model is evaluated at theta + theta_0 with a static Gaussian theta_0, and the decay
pulls theta to zero. No reflection maps theta_0 to itself, so no mirror is left at which
solutions could collapse. The offset needs the decay: without it it is only another name
for the same parameters. It removes all mirrors of a countable set (permutations, sign
flips, rescalings); the continuum of rotations needs unequal decay, `penalty`, too.

Source: Ziyin, Xu, Chuang, "Remove Symmetries to Control Model Expressivity and Improve
Optimization" (syre); default offset .01/sqrt(d), d the fan-in.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Offset(nn.Module):
    """theta -> theta + theta_0."""

    def __init__(self, offset: Tensor):
        super().__init__()
        self.register_buffer("offset", offset)

    def forward(self, theta: Tensor) -> Tensor:
        return theta + self.offset

    def right_inverse(self, theta: Tensor) -> Tensor:
        """The optimizer's theta of a given weight: the model's function stays."""
        return theta - self.offset


def remove_symmetries(
    model: nn.Module, scale: float | None = None, seed: int = 0
) -> nn.Module:
    """Register an offset on every parameter of the model, in place; returns the model.

    scale: standard deviation of theta_0; by default .01/sqrt(fan-in) of each parameter.
    Train it with weight decay on all of `model.parameters()`.
    """
    if scale is not None and not scale > 0:
        raise ValueError(f"the scale is {scale}: a static offset must be positive")
    draws = torch.Generator().manual_seed(seed)
    for module in list(model.modules()):
        if isinstance(module, parametrize.ParametrizationList):
            continue
        for name, p in list(module.named_parameters(recurse=False)):
            fan_in = p[0].numel() if p.ndim > 1 else p.numel()
            std = 0.01 / fan_in**0.5 if scale is None else scale
            theta_0 = std * torch.randn(p.shape, generator=draws)
            offset = Offset(theta_0.to(device=p.device, dtype=p.dtype))
            parametrize.register_parametrization(module, name, offset)
    return model


def penalty(model: nn.Module, weight_decay: float, spread: float = 0.5) -> Tensor:
    """(1/2) theta^T D theta with unequal D in weight_decay * [1 - spread, 1 + spread].

    Add it to the loss instead of the optimizer's weight_decay: it breaks rotations,
    under which equal decay is invariant. D is a fixed function of each entry's place.
    """
    if not 0 < spread < 1:
        raise ValueError(f"the spread is {spread}: choose it between 0 and 1")
    draws, total = torch.Generator().manual_seed(1), 0.0
    for p in model.parameters():
        d = 1 + spread * (2 * torch.rand(p.shape, generator=draws) - 1)
        total = total + (d.to(p) * p.square()).sum()
    return weight_decay / 2 * total
