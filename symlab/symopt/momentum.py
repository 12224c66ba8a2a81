"""Momentum: averages or sums of gradients, and what a rule sees of them.

Lists of tensors of any shapes, in foreach calls. group: momentum (the decay), ema
(average, or sum), nesterov.
"""

import torch
from torch import Tensor


def advance(buffers: list, grads: list[Tensor], group: dict) -> None:
    """The buffers after these gradients."""
    beta = group["momentum"]
    if beta and group["ema"]:
        torch._foreach_lerp_(buffers, grads, 1 - beta)
    elif beta:
        torch._foreach_mul_(buffers, beta)
        torch._foreach_add_(buffers, grads)


def advanced(buffers: list, grads: list[Tensor], group: dict) -> list:
    """The same, not in place."""
    beta = group["momentum"]
    if beta and group["ema"]:
        return torch._foreach_lerp(buffers, grads, 1 - beta)
    return torch._foreach_add(grads, buffers, alpha=beta) if beta else buffers


def ahead(buffers: list, grads: list[Tensor], group: dict) -> list[Tensor]:
    """What the rule sees, of buffers that have moved on."""
    beta = group["momentum"]
    if not beta:
        return grads
    if not group["nesterov"]:
        return buffers
    if group["ema"]:
        return torch._foreach_lerp(grads, buffers, beta)
    return torch._foreach_add(grads, buffers, alpha=beta)
