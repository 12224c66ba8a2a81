"""Merge two models, and measure the loss on the line between them.

Linear mode connectivity modulo permutation is from Git Re-Basin (Ainsworth et al.,
arXiv 2209.04836). The reset of batch norm's statistics, which restores the variance
that averaged units have lost, is from REPAIR (Jordan et al., arXiv 2211.08403).
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
    """Return the model (1 - weight) * a + weight * b.

    All floating-point parameters and buffers are interpolated, batch norm's statistics
    included; `reset_statistics` recomputes the latter on data.

    match: moves b's units to the positions of a's before the interpolation. If it is
        None and `loss` and `batch` are given, such a match is computed; without these,
        b is used as it is.

    Raises ValueError if the architectures differ.
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
    """Recompute batch norm's running statistics from data, in place; return the model.

    batches: each is given to the model by `call(model, batch)`, or by model(batch) if
        `call` is None; all batches have equal weight.

    Statistics that were interpolated between two models have too large a variance
    (Jordan et al., arXiv 2211.08403, section 3).
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
    """Return the mean loss at points on the straight line from model a to model b.

    loss: called as loss(model, batch). batches: its mean is taken over these.
    points: the number of points, ends included.
    reset: whether batch norm's statistics are recomputed on the batches at every point.

    The columns are weight (0 at a, 1 at b), loss, chord (the linear interpolation
    between the losses at the ends) and excess, loss - chord. `frame.attrs["barrier"]`
    is the largest excess, at least 0 (Frankle et al., arXiv 1912.05671, as in Git
    Re-Basin).
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
