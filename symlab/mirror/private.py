"""Private copies of a model and its batch, which may be changed freely."""

import copy

import torch
from torch import Tensor, nn

from symlab.mirror.certify import DOUBLE, Probe


def copied(model: nn.Module) -> nn.Module:
    """Return a deep copy of a model, without the graphs of activations that it stores.

    Raises ValueError if the model cannot be copied.
    """
    memo: dict = {}
    for module in model.modules():
        for value in torch.utils._pytree.tree_leaves(dict(vars(module))):
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except TypeError as error:
        raise ValueError(f"the model cannot be copied ({error})") from error


def private_copy(model: nn.Module, loss, batch):
    """Return private copies of a model and its batch, and whether they are in float64.

    loss: called as loss(model, batch) to test what can be computed.

    In float64 rounding cannot hide a violation of a symmetry; it is used if the loss
    can be computed in it. Random layers keep their mode: a dropout in training mode has
    no exact symmetry. A floating-point tensor of the batch whose entries are all equal
    (zeros, say) would not show on which inputs the loss depends; it is replaced by
    random numbers if the loss can be computed with these. Raises ValueError for a
    scripted model and for sharded or complex parameters.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("a scripted model cannot be followed: audit the eager one")
    for n, p in model.named_parameters():
        if hasattr(p, "full_tensor"):
            raise ValueError(
                f"the parameter {n!r} is sharded (a DTensor): audit an unsharded copy, "
                "loaded from the full state dict"
            )
        if p.is_complex():
            raise ValueError(
                f"the parameter {n!r} is complex: only real ones are known"
            )
    single = torch.utils._pytree.tree_map(
        lambda x: x.clone() if isinstance(x, Tensor) else x, batch
    )
    double = torch.utils._pytree.tree_map(
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x,
        single,
    )
    other = torch.utils._pytree.tree_map(generic, double)
    for tried in (other, double):
        if _works(model, loss, tried):
            return copied(model).double(), tried, True
    return copied(model), single, False


def _works(model: nn.Module, loss, batch) -> bool:
    """Whether the loss can be computed in float64, and is finite."""
    try:
        value = Probe(copied(model).double(), loss, batch, DOUBLE).call()
    except Exception:  # float32 made inside the model, or a batch that must be so
        return False
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())


def generic(x):
    """Return random numbers in the shape of x if all entries of x are equal, else x.

    x: any object; only floating-point tensors of more than one entry are replaced. A
        tensor of zeros, for instance, would not show on which inputs the loss depends.
    """
    if not (isinstance(x, Tensor) and x.is_floating_point() and x.numel() > 1):
        return x
    if not bool((x == x.reshape(-1)[0]).all()):
        return x
    draws = torch.Generator().manual_seed(0)
    return torch.randn(x.shape, generator=draws).to(x)
