"""Merge two models, and measure what the loss does on the line between them.

Linear mode connectivity modulo permutation is from Git Re-Basin (Ainsworth et al.,
arXiv 2209.04836), the reset of batch norm's statistics from REPAIR (Jordan et al.,
arXiv 2211.08403), which corrects the variance that averaged units have lost.
"""

import copy
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from symlab.mirror.descent import floating
from symlab.mirror.match import Loss, Match, assert_alike
from symlab.mirror.match import match as find


def merge(
    a: nn.Module,
    b: nn.Module,
    weight: float = 0.5,
    match: Match | None = None,
    loss: Loss | None = None,
    batch=None,
) -> nn.Module:
    """Return (1 - weight) * a + weight * b, of all floating parameters and buffers.

    b is matched to a first if a match or a loss and a batch are given. Batch norm's
    statistics are interpolated as well: `reset_statistics` computes them on data.
    """
    assert_alike(a, b)
    if match is None and loss is not None:
        match = find(a, b, loss, batch)
    other = floating(b if match is None else match.apply(b))
    merged = copy.deepcopy(a)
    for n, t in floating(merged).items():
        t.copy_((1 - weight) * t.double() + weight * other[n].double())
    return merged


@torch.no_grad()
def reset_statistics(
    model: nn.Module, batches: Iterable, call: Callable | None = None
) -> nn.Module:
    """Recompute batch norm's running statistics on the batches, in place.

    Each is `call(model, batch)`, or model(batch) without it; batches count equally. Of
    interpolated statistics the variance is too large (Jordan et al., section 3).
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    kept = [(m, m.training, m.momentum) for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.train()
        m.momentum = None  # the plain average over batches
    try:
        for batch in batches if norms else ():
            model(batch) if call is None else call(model, batch)
    finally:
        for m, training, momentum in kept:
            m.train(training)
            m.momentum = momentum
    return model


@torch.no_grad()
def barrier(
    a: nn.Module,
    b: nn.Module,
    loss: Loss,
    batches: Iterable,
    points: int = 11,
    reset: bool = False,
) -> pd.DataFrame:
    """Return the mean loss over the batches along the line from a to b.

    Columns weight (0 at a, 1 at b), loss, chord (between the losses at the ends) and
    excess, loss - chord. `frame.attrs["barrier"]` is the largest excess, at least 0
    (Frankle et al., arXiv 1912.05671, as Git Re-Basin has it). reset: whether batch
    norm's statistics are recomputed on the batches at every point.
    """
    batches, rows = list(batches), []
    for weight in np.linspace(0, 1, points):
        model = merge(a, b, float(weight))
        if reset:
            reset_statistics(model, batches, loss)
        rows.append((weight, np.mean([float(loss(model, x)) for x in batches])))
    frame = pd.DataFrame(rows, columns=["weight", "loss"])
    first, last = frame["loss"].iloc[[0, -1]]
    frame["chord"] = first + (last - first) * frame["weight"]
    frame["excess"] = frame["loss"] - frame["chord"]
    frame.attrs["barrier"] = float(frame["excess"].max())
    return frame
