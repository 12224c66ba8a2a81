"""One batched call of a rule, eager or compiled, with options that fit the device."""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from symlab.symopt.registry import RULES

ITERATIONS = ("auto", "newton_schulz", "polar_express", "gram")


def run(x: Tensor, rule: str, options: tuple, *states) -> tuple[Tensor, ...]:
    """A rule on (N, m, n), with its state: (update, *new state)."""
    chosen = partial(RULES[rule].map, **dict(options))
    return chosen(x, *states) if RULES[rule].state else (chosen(x),)


def options_of(group: dict, x: Tensor) -> tuple:
    """The rule's options; iterations run in bfloat16 where that is fast."""
    options = dict(group["options"])
    known = RULES[group["rule"]].options
    iterates = options.get("method", known.get("method")) in ITERATIONS
    if x.is_cuda and x.dtype == torch.float32 and iterates and "dtype" in known:
        options.setdefault("dtype", torch.bfloat16)
    return tuple(sorted(options.items()))


def to_rms(update: Tensor) -> Tensor:
    """What makes the root mean square of the entries of each matrix .2."""
    rms = update.square().mean((-2, -1), keepdim=True).sqrt()
    return torch.where(rms > 0, 0.2 / torch.where(rms > 0, rms, 1), 0)


@cache
def compiled(function: Callable) -> Callable:
    return torch.compile(function, dynamic=False)
