"""Plant a permutation of hidden units in a model, and count what a match finds."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from symlab.mirror.descent import floating
from symlab.mirror.match import Match
from symlab.mirror.units import Element, Index


@torch.no_grad()
def plant(
    model: nn.Module, found: Sequence[Index], draws: np.random.Generator, noise=0.0
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a copy of a model with noise, and its units in a random order.

    found: the `indices` of the model; those of kind 'permutation' are reordered.
    noise: standard deviation of the noise, in units of that of each parameter's
        entries.

    Also returned: the order (m,) of each index by its text; unit i of the copy is unit
        order[i] of the model.
    """
    moved, orders = copy.deepcopy(model), {}
    for p in moved.parameters():
        p += noise * p.std() * torch.from_numpy(draws.normal(size=p.shape)).to(p)
    for index in found:
        if index.kind == "permutation" and not index.unknown:
            order = torch.from_numpy(draws.permutation(index.units))
            index.act_(Element(order=order), floating(moved))
            orders[index.text()] = order
    return moved, orders


def recovered(match: Match, orders: dict[str, Tensor]) -> float:
    """Return the share of hidden units that a match puts back to where they came from.

    match: from the model with the random orders to the model that it was made of.
    orders: the random order (m,) of each index (set of units), as `plant` returns them.

    Raises ValueError where nothing was planted.
    """
    if not orders:
        raise ValueError("no index was reordered: the model has no permutation")
    hits = []
    for text, order in orders.items():
        kept = torch.arange(len(order))
        hits.append(order[match.orders.get(text, kept)] == kept)
    return float(torch.cat(hits).double().mean())
