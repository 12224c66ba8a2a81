"""The step of a rule that multiplies rows by numbers, for tables too large to copy."""

import torch
from torch import Tensor

from symlab.symopt import sharded
from symlab.symopt.calls import compiled
from symlab.symopt.momentum import advance, advanced, ahead
from symlab.symopt.rules import row_lengths, row_parts


def step_rows(job) -> None:
    """The step of a `steps.Job`; nothing as large as its parameter is made.

    What the rule sees is made twice instead, for the lengths and for the step.
    """
    p, grad, group, buffer = job.own, job.grad, job.group, job.buffer
    said = {k: group[k] for k in ("momentum", "nesterov", "ema", "maximize")}
    lengths, move, decay = _lengths_ahead, _move_rows, job.decay
    if group["compile"]:
        lengths, move = compiled(lengths), compiled(move)
        decay = torch.tensor(decay, device=p.device)  # a new number compiles anew
    by = -job.step_size * _factors(job, lengths(grad, buffer, said))
    wide = torch.promote_types(p.dtype, torch.float32)
    limit = torch.finfo(wide).max
    move(p, grad, buffer, by.clamp(-limit, limit).to(wide), decay, said)


def _factors(job, lengths: Tensor) -> Tensor:
    """What multiplies each row; a floor asks for the lengths of all of them."""
    floor = job.group["options"].get("floor", 0.0)
    if floor and job.cut:
        wholes = sharded.whole(lengths, job.p)
        return sharded.part_of(job.rule.factor(wholes, floor), job.p)
    return job.rule.factor(lengths, floor) if len(lengths) else lengths


def _lengths_ahead(grad: Tensor, buffer: Tensor | None, group: dict) -> Tensor:
    """Of the rows that the rule will see."""
    found = []
    for g, b in _row_pairs(grad, buffer):
        g = -g if group["maximize"] else g
        (x,) = ahead(advanced([b], [g], group), [g], group)
        found.append(row_lengths(x))
    return torch.cat(found)


def _move_rows(p, grad, buffer, by: Tensor, decay, group: dict) -> None:
    """Momentum, decay and step of p (m, n), in place."""
    pairs, parts = _row_pairs(grad, buffer), row_parts(p)
    shares = by.split([len(w) for w in parts])
    for w, (g, b), share in zip(parts, pairs, shares, strict=True):
        g = -g if group["maximize"] else g
        advance([b], [g], group)
        (x,) = ahead([b], [g], group)
        if not isinstance(decay, float) or decay != 1:
            w.mul_(decay)
        if w.dtype == x.dtype == share.dtype:
            w.addcmul_(x, share)
        else:
            w.add_((x * share).to(w.dtype))


def _row_pairs(grad: Tensor, buffer: Tensor | None) -> list[tuple]:
    grads = row_parts(grad)
    buffers = [None] * len(grads) if buffer is None else row_parts(buffer)
    return list(zip(grads, buffers, strict=True))
