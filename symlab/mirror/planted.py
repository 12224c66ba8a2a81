"""Apply a random permutation to a model's units, and count what a match recovers."""

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
    """Return a copy of a model with noise and permuted units, and the permutations.

    found: the `indices` of the model; those of kind 'permutation' are permuted.
    draws: the generator of the noise and the permutations.
    noise: standard deviation of the noise on each parameter, relative to the standard
        deviation of the parameter's entries.

    The permutations are {text of an index: (m,)}: unit i of the copy is unit order[i]
    of the model.
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
    """Return the fraction of hidden units that a match moves back to their original
    place.

    match: the match of the permuted model to the original one.
    orders: the random order (m,) of each set of units, as `plant` returns them.

    Raises ValueError if `orders` is empty.
    """
    if not orders:
        raise ValueError("no index was reordered: the model has no permutation")
    hits = []
    for text, order in orders.items():
        kept = torch.arange(len(order))
        hits.append(order[match.orders.get(text, kept)] == kept)
    return float(torch.cat(hits).double().mean())
