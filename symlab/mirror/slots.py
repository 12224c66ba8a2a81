"""Slots: integer tensors that label the entries of a value by hidden unit.

A slot has the shape of its value, which has one slot for each hidden index that it
carries. Entries of one unit have that unit's label; label 0 means no unit.
"""

import numpy as np
import torch
from torch import Tensor

from symlab.tracing import compact


def labels_of(slot: Tensor) -> np.ndarray:
    """Return the distinct labels of hidden units in a slot, sorted, without 0 (no
    unit).
    """
    found = np.unique(compact(slot)[0].cpu().numpy())
    return found[found > 0]


def line(slot: Tensor, dim: int) -> Tensor:
    """Return the labels (n,) of a slot along its dimension `dim`, of length n.

    slot: labels of hidden units, equal along all other dimensions; this is not checked.
    """
    return compact(slot)[0].movedim(dim, 0).reshape(slot.shape[dim], -1)[:, 0]


def along_dim(mask: np.ndarray, dim: int, ndim: int) -> Tensor:
    """Return a mask (n,) reshaped to `ndim` dimensions, with n along `dim` and 1
    elsewhere.
    """
    view = [-1 if d == dim else 1 for d in range(ndim)]
    return torch.from_numpy(mask).view(view)


def classes_along(x: Tensor, dim: int) -> np.ndarray:
    """Return integers (n,), one per slice of x along `dim`; equal slices get equal
    numbers.
    """
    rows = compact(x)[0] if x.stride(dim) else x
    rows = rows.movedim(dim, 0).reshape(rows.shape[dim], -1).detach().cpu().numpy()
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def may_vary(x: Tensor, dim: int) -> bool:
    """Return whether the entries of x can differ along `dim` for some batch.

    They cannot if the dimension has length 1 or x was broadcast along it.
    """
    return x.shape[dim] > 1 and x.stride(dim) != 0


def varies(slot: Tensor) -> set[int]:
    """Return the dimensions of a slot along which the labels of hidden units change.

    If there is none, the slot holds a single unit, and the result is each dimension
    that has length 1 and a nonzero stride.
    """
    moving = [d for d in range(slot.ndim) if slot.shape[d] > 1 and slot.stride(d)]
    found = {d for d in moving if not bool((slot == slot.narrow(d, 0, 1)).all())}
    if found:
        return found
    return {d for d in range(slot.ndim) if slot.shape[d] == 1 and slot.stride(d)}


def one_place(slot: Tensor, dim: int) -> bool:
    """Return whether each label of a slot occurs at only one position of `dim`.

    Label 0 (no unit) is ignored. A label may occur many times along other dimensions.
    """
    view = [-1 if d == dim else 1 for d in range(slot.ndim)]
    places = torch.arange(slot.shape[dim], device=slot.device).view(view)
    both = torch.stack([slot, places.expand(slot.shape)]).reshape(2, -1)
    both = both[:, both[0] > 0].unique(dim=1)
    return len(both[0].unique()) == both.shape[1]
