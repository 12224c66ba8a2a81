"""Descent on matrix objectives by several update rules, in many runs side by side.

Rules, from the gradient of a matrix to its update, as in the code of Lau, Long and Su
(PolarGrad, arXiv 2505.21799; github timlautk/polargrad), with exact polar factors:

  gd                  the gradient
  adam                Adam of Kingma & Ba with torch's defaults
  muon                polar factor of Nesterov momentum, an average with factor 0.95
  muon_plain          polar factor of the gradient
  polargrad           polar factor of the gradient times its nuclear norm
  polargrad_momentum  polar factor of an average of gradients times its nuclear norm
  hybrid              polar factor of the gradient with rows of length 1 (Lau & Su)
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from symlab import symopt

LARGEST = 1e100  # larger gradients are those of lanes that diverged


@dataclass(frozen=True)
class Descent:
    """What `descend` returns: the last weights, and measurements at M steps ("marks").

    weights: the last weights, a list of tensors (L, m, n) for L runs.
    gaps: (L, M), the objective minus its least value at each mark.
    gradient: (L, M), the condition number of the gradient at each mark, the largest one
        if there are several matrices; 0 for a singular gradient.
    residual: (L, M), the condition number of the residual, or None if the objective has
        no residual.
    """

    weights: list[Tensor]
    gaps: np.ndarray
    gradient: np.ndarray
    residual: np.ndarray | None


def descend(
    objective, rules: Mapping[str, slice], rates, marks: Collection[int], average: float
) -> Descent:
    """Descend from the start of an objective, with one learning rate per step and run.

    objective: an objective of `symlab.matrix_objectives` with L runs.
    rules: {name of an update rule: the slice of runs that it moves}.
    rates: (T, L), the learning rate of each step and run.
    marks: the steps at which to record, counted from 0 to T.
    average: the factor of the average of gradients in the rule polargrad_momentum.
    """
    weights = [w.clone() for w in objective.start]
    rates = torch.as_tensor(rates)[:, :, None, None]
    updates = [
        [(at, update(rule, average, w[at])) for rule, at in rules.items()]
        for w in weights
    ]
    gaps, gradients, residuals = [], [], []
    for t in range(len(rates) + 1):
        g = [_finite(x) for x in objective.gradient(weights, t)]
        if t in marks:
            gaps.append(objective.gap(weights).numpy())
            gradients.append(np.max([condition(x) for x in g], 0))
            if hasattr(objective, "residual"):
                residuals.append(condition(objective.residual(weights)))
        if t < len(rates):
            for w, own, x in zip(weights, updates, g, strict=True):
                for at, rule in own:
                    w[at] -= rates[t, at] * rule(x[at])
    gaps, gradient = np.stack(gaps, 1), np.stack(gradients, 1)
    return Descent(
        weights, gaps, gradient, np.stack(residuals, 1) if residuals else None
    )


def _finite(x: Tensor) -> Tensor:
    """x (L, m, n), 0 in lanes that diverged: SVD would raise an error for all lanes."""
    kept = x.abs().amax((1, 2), keepdim=True) < LARGEST  # false for NaN
    return torch.where(kept, x, 0.0)


def condition(x: Tensor) -> np.ndarray:
    """Return the condition number of each matrix of x (L, m, n), (L,).

    It is the largest over the smallest singular value, or 0 if the smallest is 0.
    """
    s = torch.linalg.svdvals(_finite(x)).numpy()
    least = s[:, -1]
    return np.divide(s[:, 0], least, out=np.zeros_like(least), where=least > 0)


def update(rule: str, average: float, like: Tensor):
    """Return a function from gradients (L, m, n) to updates, which keeps the rule's
    state.

    rule: its name, as the module lists them.
    average: the factor of the average of gradients in the rule polargrad_momentum.
    like: a tensor of the shape and type of the gradients.

    Raises KeyError for an unknown rule.
    """
    polar = partial(symopt.spectral, method="svd")
    polargrad = partial(polar, alpha=1.0)
    hybrid = partial(symopt.row_then_spectral, method="svd")
    return {
        "gd": lambda: Momentum(lambda m: m, 0.0, like),
        "adam": lambda: _Adam(like),
        "muon": lambda: Momentum(polar, 0.95, like, nesterov=True),
        "muon_plain": lambda: Momentum(polar, 0.0, like),
        "polargrad": lambda: Momentum(polargrad, 0.0, like),
        "polargrad_momentum": lambda: Momentum(polargrad, average, like),
        "hybrid": lambda: Momentum(hybrid, 0.0, like),
    }[rule]()


class Momentum:
    """An update rule: a direction, computed from an average (EMA) of gradients or from
    Nesterov's look ahead.
    """

    def __init__(self, direction, beta: float, like: Tensor, nesterov: bool = False):
        self.direction, self.beta, self.nesterov = direction, beta, nesterov
        self.mean = torch.zeros_like(like)

    def __call__(self, g: Tensor) -> Tensor:
        mean = self.mean.lerp_(g, 1 - self.beta)
        return self.direction(g.lerp(mean, self.beta) if self.nesterov else mean)


class _Adam:
    """Adam with bias correction, beta 0.9 and 0.999, eps 1e-8."""

    def __init__(self, like: Tensor):
        self.mean, self.square = torch.zeros_like(like), torch.zeros_like(like)
        self.t = 0

    def __call__(self, g: Tensor) -> Tensor:
        self.t += 1
        self.mean.lerp_(g, 0.1)
        self.square.mul_(0.999).addcmul_(g, g, value=0.001)
        size = (self.square / (1 - 0.999**self.t)).sqrt_().add_(1e-8)
        return (self.mean / (1 - 0.9**self.t)).div_(size)
