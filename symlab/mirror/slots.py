"""Slots: tensors of labels, one for each hidden index that a value carries.

A slot has the shape of its value. Entries of one unit have its label; 0 is no unit.
"""

import numpy as np
import torch
from torch import Tensor

from symlab.tracing import compact


def labels_of(slot: Tensor) -> np.ndarray:
    """Return the labels of units in a slot, sorted, each once, without 0 (none)."""
    found = np.unique(compact(slot)[0].cpu().numpy())
    return found[found > 0]


def line(slot: Tensor, dim: int) -> Tensor:
    """Return the labels (n,) of a slot along `dim`, of length n.

    slot: labels of hidden units; they have to be equal along all other dimensions.
    """
    return compact(slot)[0].movedim(dim, 0).reshape(slot.shape[dim], -1)[:, 0]


def along_dim(mask: np.ndarray, dim: int, ndim: int) -> Tensor:
    """Return a mask (n,) as a tensor of `ndim` dimensions, n along `dim`."""
    view = [-1 if d == dim else 1 for d in range(ndim)]
    return torch.from_numpy(mask).view(view)


def classes_along(x: Tensor, dim: int) -> np.ndarray:
    """Return integers (n,), one per slice of x along `dim`, equal for equal slices."""
    rows = compact(x)[0] if x.stride(dim) else x
    rows = rows.movedim(dim, 0).reshape(rows.shape[dim], -1).detach().cpu().numpy()
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def may_vary(x: Tensor, dim: int) -> bool:
    """Return whether the data in x may differ along `dim`, whatever this batch holds.

    They cannot where the dimension has length 1, or where x was broadcast along it.
    """
    return x.shape[dim] > 1 and x.stride(dim) != 0


def varies(slot: Tensor) -> set[int]:
    """Return the dimensions of a slot along which the labels of hidden units change.

    A single unit changes nowhere: its dimension has length 1 and a stride that is not
        0.
    """
    moving = [d for d in range(slot.ndim) if slot.shape[d] > 1 and slot.stride(d)]
    found = {d for d in moving if not bool((slot == slot.narrow(d, 0, 1)).all())}
    if found:
        return found
    return {d for d in range(slot.ndim) if slot.shape[d] == 1 and slot.stride(d)}


def one_place(slot: Tensor, dim: int) -> bool:
    """Return whether each label of a slot occurs at one position of `dim` only.

    Label 0 (no unit) is left out. A label may still occur often along other dimensions.
    """
    view = [-1 if d == dim else 1 for d in range(slot.ndim)]
    places = torch.arange(slot.shape[dim], device=slot.device).view(view)
    both = torch.stack([slot, places.expand(slot.shape)]).reshape(2, -1)
    both = both[:, both[0] > 0].unique(dim=1)
    return len(both[0].unique()) == both.shape[1]
