"""Compare a model's outputs before and after a change, in float64 on a batch.

The module also makes other weights and other inputs for the same model, which
distinguish a unit that is constant for every input from one that is constant on this
batch.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from symlab.mirror.private import copied, generic
from symlab.mirror.products import ZERO

EXACT = 1e-6  # relative change of the outputs that counts as none
ROUGH = 1e-5  # the same where outputs cannot be computed in float64


def outputs(model: nn.Module, loss, batch) -> tuple[Tensor, list[Tensor]]:
    """Return the loss, and all tensors that the model returned while it was computed.

    loss: called once as loss(model, batch), without gradients.
    """
    calls: list = []
    handle = model.register_forward_hook(lambda m, i, out: calls.append(out))
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            value = loss(model, batch)
    finally:
        handle.remove()
        torch.backends.mha.set_fastpath_enabled(fast)
    return value.detach().clone(), [t.detach().clone() for t in _leaves(calls)]


def _leaves(x) -> list[Tensor]:
    if isinstance(x, Tensor):
        return [x] if x.is_floating_point() else []
    if isinstance(x, Mapping):
        x = list(x.values())
    return [t for y in x for t in _leaves(y)] if isinstance(x, list | tuple) else []


def compared(old, new) -> tuple[float, str]:
    """Return the largest relative change between two results of `outputs`, and a
    reason.

    old, new: the results. The change is the maximum of max |new - old| / max |old| over
    the output tensors and of |new - old| / max(|old|, 1) for the loss. If shapes
    differ, it is infinite and the reason says so; otherwise the reason is ''.
    """
    (value, before), (other, after) = old, new
    shapes = [[t.shape for t in side] for side in (before, after)]
    if shapes[0] != shapes[1]:
        return float("inf"), "the outputs would change their shape"
    changes = [float((other - value).abs() / value.abs().clamp(min=1))]
    for a, b in zip(before, after, strict=True):
        if a.numel():
            finite = a[a.isfinite()]
            scale = float(finite.abs().max()) if len(finite) else 1.0
            same = (a == b) | (a.isnan() & b.isnan())  # infinities of masks, too
            difference = float(torch.where(same, 0.0, (a - b).abs()).max())
            changes.append(difference / max(scale, 1e-300))
    return (max(changes) if all(c == c for c in changes) else float("inf")), ""


def limit(model: nn.Module, exactly: bool) -> float:
    """Return the largest relative change of a model's outputs that rounding can cause.

    exactly: whether the outputs can be computed in float64. If so, the result is EXACT;
        otherwise, as when the model's code casts to float32, it is ROUGH. It is at
        least the machine epsilon of float16 or bfloat16 weights.
    """
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    half = [torch.finfo(k).eps for k in kinds if torch.finfo(k).bits < 32]
    return max([EXACT if exactly else ROUGH, *half])


def double(model: nn.Module, loss, batch):
    """Return copies of a model and its batch, both in float64 if the model allows it.

    loss: called as loss(model, batch) to test that. A floating-point tensor of the
        batch whose entries are all equal (zeros, say) is replaced by random numbers,
        because it would not show on which inputs the loss depends.
    """
    leaves = torch.utils._pytree.tree_map(generic, batch)
    cast = torch.utils._pytree.tree_map(
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x,
        leaves,
    )
    try:
        with torch.no_grad():
            loss(widened(copied(model)), cast)
    except RuntimeError:  # float32 made inside the model
        return copied(model), leaves
    return widened(copied(model)), cast


def widened(model: nn.Module) -> nn.Module:
    """Convert a module to float64, in place, and return it.

    An RMSNorm whose eps is None gets the machine epsilon of its former dtype, which is
    what it used before.
    """
    for m in model.modules():
        if isinstance(m, nn.RMSNorm) and m.eps is None and m.weight is not None:
            m.eps = torch.finfo(m.weight.dtype).eps
    return model.double()


def noisy(batch):
    """Return a batch with Gaussian noise added to its floating-point tensors.

    The noise has the standard deviation of each tensor, so that samples differ.
    """
    draws = torch.Generator().manual_seed(0)

    def changed(x):
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            return x
        size = x.std() if x.numel() > 1 else 1.0
        return x + size * torch.randn(x.shape, generator=draws).to(x)

    return torch.utils._pytree.tree_map(changed, batch)


def shuffled(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy of a model with random weights that are zero where the model's are
    zero.

    Each weight is multiplied by a random number of absolute value 0.5 to 1.5 and random
    sign. A hidden unit whose value is still the same for all inputs is constant because
    of its zero weights. seed: seed of these numbers.
    """
    new = copied(model)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in new.parameters():
            if p.is_floating_point() and p.numel():
                size = torch.rand(p.shape, generator=draws) + 0.5
                sign = torch.randint(0, 2, p.shape, generator=draws) * 2 - 1
                zero = p.abs() <= ZERO * p.abs().max()
                p.copy_(torch.where(zero, 0.0, p * (size * sign).to(p)))
    return new
