"""Results of operators on the meta device, where tensors have shapes but no numbers.

Shapes are enough to find a model's connections, except for branches and indices that
depend on numbers. There all entries are taken to be nonzero, and every number is 0: a
mixture of experts sends each token to each expert that it asks for. Grouped products,
which torch has for some precisions only, get results of the right shape.
"""

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

INDEXED = (
    "index_add",
    "index_copy",
    "index_reduce",
    "scatter",
    "scatter_add",
    "gather",
)
SINGLE = (torch.float32, torch.bfloat16, torch.float16)


def result(func, name: str, args: tuple, kwargs: dict):
    """Return the result of an operator's call, with substitutes on the meta device.

    func: the operator. name: its short name. args, kwargs: those of the call.

    If the meta device has no implementation, the result is an empty tensor of the right
    shape.
    """
    first = args[0] if args and isinstance(args[0], Tensor) else None
    grouped = name == "grouped_mm" and args[1].ndim == 3
    if grouped and (first.is_meta or first.dtype not in SINGLE):
        return first.new_zeros(first.shape[0], args[1].shape[-1])
    if first is not None and first.is_meta:
        substitute = SUBSTITUTES.get(name)
        found = substitute(*args, **kwargs) if substitute else None
        if found is not None:
            return found
        if name in INDEXED:  # indices of `_nonzero` are real
            args, kwargs = tree_map(_without_numbers, (args, kwargs))
    return func(*args, **kwargs)


def _without_numbers(x):
    return x.to("meta") if isinstance(x, Tensor) else x


def _nonzero(x: Tensor) -> Tensor:
    return torch.ones(x.shape, dtype=torch.bool, device="cpu").nonzero()


def _number(x: Tensor):
    return False if x.dtype == torch.bool else 0.0 if x.is_floating_point() else 0


def _copied(x: Tensor, *args, device=None, dtype=None, **kwargs) -> Tensor | None:
    """Zeros, where numbers are asked for on another device."""
    if device is None or torch.device(device).type == "meta":
        return None
    return torch.zeros(x.shape, dtype=dtype or x.dtype, device=device)


def _counts(x: Tensor, weights=None, minlength: int = 0) -> Tensor:
    return x.new_empty(max(minlength, 1), dtype=torch.int64)


def _unique(x: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor, Tensor]:
    whole = x.flatten()
    index = x.new_empty(x.shape, dtype=torch.int64)
    return whole, index, whole.new_empty(whole.shape, dtype=torch.int64)


def _selected(x: Tensor, mask: Tensor) -> Tensor:
    shape = torch.broadcast_shapes(x.shape, mask.shape)
    return x.new_empty(shape.numel())


SUBSTITUTES = {
    "nonzero": _nonzero,
    "local_scalar_dense": _number,
    "to_copy": _copied,
    "bincount": _counts,
    "unique2": _unique,
    "masked_select": _selected,
}


@contextmanager
def all_nonzero():
    """A context in which a boolean mask on the meta device selects every entry."""
    from torch.fx.experimental import _config

    before = _config.meta_nonzero_assume_all_nonzero
    _config.meta_nonzero_assume_all_nonzero = True
    try:
        yield
    finally:
        _config.meta_nonzero_assume_all_nonzero = before
