"""One step of many parameters: momentum, rule, decay and the step itself.

Matrices of equal shape, rule and device are one batched call, whatever parameters they
come from; momentum, decay and the step are foreach calls.

Parameters may lie in parts on several processes (`sharded`). Momentum, decay and step
are of the parts, and so are rules for which a part is enough: entries of a sign,
experts of a stack, rows of a row norm, as arXiv 2605.18106 claims; but a floor gathers
one number per row, and centring needs the whole. Other rules see whole momenta: each
matrix is brought to one process, which makes its update and sends the parts back.
"""

from functools import cached_property
from math import prod

import torch
import torch.distributed as dist
from torch import Tensor

from symlab.symopt import sharded
from symlab.symopt.calls import compiled, options_of, run, to_rms
from symlab.symopt.layout import Layout
from symlab.symopt.momentum import advance, ahead
from symlab.symopt.registry import RULES, size
from symlab.symopt.row_steps import step_rows
from symlab.symopt.sharded import Dealt

# entries in one batched call: bounds what a step needs beside its state
MOST = {"cpu": 2**22, "cuda": 2**25}
ROWS_FROM = 2**20  # entries from which a matrix is stepped row by row, alone
HALF = (torch.float16, torch.bfloat16)


class Job:
    """One parameter in one step; shape: (N, m, n) of its matrices, whole.

    own: the part of it that lies here, of which `blocks` are made if that is enough.
    """

    def __init__(self, p: Tensor, state: dict, group: dict):
        self.p, self.state, self.group = p, state, group
        self.rule, self.layout = RULES[group["rule"]], _layout(group)
        outline = sharded.outline(p)
        self.shape = tuple(self.blocks(outline).shape)
        self.own = sharded.local(p)
        self.like = self.own if self.is_local else outline

    @cached_property
    def grad(self) -> Tensor:
        return sharded.local_grad(self.p)

    def blocks(self, x: Tensor) -> Tensor:
        """(N, m, n); a vector is one row."""
        return self.layout.split(x) if x.ndim > 1 else x[None, None]

    def joined(self, blocks: Tensor) -> Tensor:
        """The inverse, in the parameter's shape and dtype."""
        whole = self.layout.join(blocks, self.like) if self.p.ndim > 1 else blocks[0, 0]
        return whole.to(self.p.dtype)

    @cached_property
    def cut(self) -> set[int]:
        """The axes along which the parameter lies in parts."""
        return set(sharded.cut_axes(self.p))

    @cached_property
    def in_rows(self) -> bool:
        """Whether the step is row by row: one matrix, as it lies, not centred; large,
        or in parts that are rows."""
        layout, centred = self.layout, self.group["options"].get("centred")
        lies = layout.flat or layout.rows % 2 == 0
        lies = lies and not layout.transpose and layout.pieces == 1
        if self.p.ndim != 2 or not self.rule.factor or not lies or centred:
            return False
        return self.cut == {0} if self.cut else self.p.numel() >= ROWS_FROM

    @cached_property
    def is_local(self) -> bool:
        """Whether the parts that lie here are enough for their update."""
        if not self.cut or self.in_rows:
            return True
        if self.rule.entrywise:
            return self.layout.pieces == 1
        mixed = self.rule.state and self.layout.pieces > 1  # a state is cut by matrices
        return self.cut == {0} and self.layout.is_stack(self.p.ndim) and not mixed

    @cached_property
    def team(self):
        """Among whom its matrices are dealt; None if they are not."""
        return None if self.is_local else sharded.team(self.p)

    @property
    def step_size(self) -> float:
        """What multiplies the update: lr, radius and scale."""
        scale, sized = self.group["scale"], self.rule.sized
        lr = float(self.group["lr"]) * self.group["radius"]
        if sized == "measured":
            return lr * (scale if isinstance(scale, int | float) else 1.0)
        m, n = self.shape[-2:]
        if self.layout.transpose and sized == "spectrum":
            m, n = n, m  # outputs and inputs again
        return lr * size((m, n) if self.p.ndim > 1 else (n,), scale, sized)

    @property
    def buffer(self) -> Tensor | None:
        """This process's part of the momentum."""
        buffer = self.state.get("momentum_buffer")
        return None if buffer is None else sharded.local(buffer)

    @property
    def states(self) -> list[Tensor]:
        """What the rule carries, in its order."""
        return [self.state[name] for name in self.rule.state]

    @property
    def cost(self) -> int:
        """Flops, about: of products with Gram matrices, or of a pass over entries."""
        return prod(self.shape) * (min(self.shape[-2:]) if self.rule.pieces else 1)

    @property
    def decay(self) -> float:
        return 1 - float(self.group["lr"]) * self.group["weight_decay"]

    @property
    def key(self) -> tuple:
        """Jobs of equal keys are one call."""
        g = self.group
        same = ("rule", "scale", "momentum", "nesterov", "ema", "maximize", "compile")
        options = repr(sorted(g["options"].items()))
        where = (self.p.dtype, self.p.grad.dtype, self.own.device)
        parts = ()
        if self.cut and self.is_local:  # of equal shape on each process, if on one
            p = self.p
            parts = (tuple(p.shape), p.device_mesh, p.placements, self.layout)
        return *(g[k] for k in same), options, where, *self.shape[-2:], parts

    def begin(self) -> None:
        """Make what the state lacks, in parts as the parameter is."""
        state, p = self.state, self.p
        if self.group["momentum"] and "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        for name, first in self.rule.state.items():
            if name not in state:
                wide = torch.promote_types(p.dtype, torch.float32)
                x = first(self.shape[-2], dtype=wide, device=self.own.device)
                x = x.expand(self.shape[0], -1, -1)
                state[name] = sharded.cut_along(x, p, self.state_axis)

    @property
    def state_axis(self) -> int | None:
        """Of the rule's state (N, m, ...), along which it lies in parts."""
        if self.is_local:
            return 0
        return None if self.team is None else 1


# --- the step ------------------------------------------------------------------------


def take(jobs: list[Job]) -> None:
    """One step of each. Where processes share parameters all of them must call it."""
    for job in jobs:
        job.begin()
    dealt: dict[tuple, list[Job]] = {}
    for job in jobs:
        if job.team is not None:
            key = job.team, job.p.dtype, job.grad.dtype
            dealt.setdefault(key, []).append(job)
    for batch in _batches([job for job in jobs if job.team is None]):
        _step_batch(batch)
    for (team, *_), theirs in dealt.items():
        _step_dealt(theirs, team)


def _batches(jobs: list[Job]) -> list[list[Job]]:
    """Jobs of one call together, but no more than MOST entries."""
    by_key: dict[tuple, list[list[Job]]] = {}
    for job in jobs:
        lists = by_key.setdefault(job.key, [[]])
        most = MOST.get(job.own.device.type, MOST["cuda"])
        if lists[-1] and sum(map(_entries, lists[-1])) + _entries(job) > most:
            lists.append([])
        lists[-1].append(job)
    return [batch for lists in by_key.values() for batch in lists]


def _entries(job: Job) -> int:
    return job.like.numel()


def _step_batch(batch: list[Job]) -> None:
    """Momentum, rule and step of jobs with equal shapes and settings."""
    if all(j.in_rows for j in batch):
        for job in batch:
            step_rows(job)
        return
    x, counts = _stacked(batch, _wholes(batch, _momenta(batch)))
    states = [[sharded.local(s) for s in j.states] for j in batch]
    updates = _updates(batch, x, counts, states)
    _move(batch, [_part(j, u) for j, u in zip(batch, updates, strict=True)])


def _wholes(batch: list[Job], momenta: list[Tensor]) -> list[Tensor]:
    pairs = zip(batch, momenta, strict=True)
    return [x if j.is_local else sharded.whole(x, j.p) for j, x in pairs]


def _part(job: Job, update: Tensor) -> Tensor:
    return update if job.is_local else sharded.part_of(update, job.p)


def _stacked(batch: list[Job], seen: list[Tensor]) -> tuple[Tensor, list[int]]:
    """All matrices (N, m, n) in float32 at least, and how many are of each job."""
    blocks = [j.blocks(x) for j, x in zip(batch, seen, strict=True)]
    x = torch.cat(blocks) if len(blocks) > 1 else blocks[0]
    return x.float() if x.dtype in HALF else x, [len(b) for b in blocks]


def _updates(batch: list[Job], x: Tensor, counts: list[int], states: list) -> list:
    """What the rule makes of x, in the jobs' shapes; their states move on in place."""
    group, rule = batch[0].group, batch[0].rule
    if x.numel():
        call = compiled(run) if group["compile"] else run
        joined = [torch.cat(parts) for parts in zip(*states, strict=True)]
        x, *joined = call(x, group["rule"], options_of(group, x), *joined)
        for i, new in enumerate(joined):
            for own, part in zip(states, new.split(counts), strict=True):
                own[i].copy_(part)
        if group["scale"] == "rms" and rule.sized == "measured":
            x = x * to_rms(x)
    return [j.joined(u) for j, u in zip(batch, x.split(counts), strict=True)]


def _step_dealt(jobs: list[Job], team: "dist.ProcessGroup") -> None:
    """The same where each matrix is brought to one process, which has it whole then."""
    me, world = dist.get_rank(team), dist.get_world_size(team)
    owners = dict(zip(jobs, sharded.deal([j.cost for j in jobs], world), strict=True))
    mine, seen = [j for j in jobs if owners[j] == me], {}
    for batch in _batches(jobs):
        seen |= zip(batch, _momenta(batch), strict=True)
    cut = [Dealt(tuple(j.p.shape), *j.cut, owners[j]) for j in jobs]
    wholes = sharded.collect([seen.pop(j) for j in jobs], cut, team)
    seen = dict(zip(mine, wholes, strict=True))
    carried = [(s, owners[j]) for j in jobs for s in j.states]
    cut_states = [Dealt(tuple(s.shape), 1, owner) for s, owner in carried]
    parts = [sharded.local(s) for s, _ in carried]
    states = sharded.collect(parts, cut_states, team)
    in_order, found = iter(states), {}
    own = {j: [next(in_order) for _ in j.states] for j in mine}
    for batch in _batches(mine):
        x, counts = _stacked(batch, [seen.pop(j) for j in batch])
        updates = _updates(batch, x, counts, [own[j] for j in batch])
        found |= zip(batch, updates, strict=True)
    states = sharded.spread(states, cut_states, parts, team)
    for part, new in zip(parts, states, strict=True):
        part.copy_(new)
    like = [j.own for j in jobs]
    updates = sharded.spread([found[j] for j in mine], cut, like, team)
    found = dict(zip(jobs, updates, strict=True))
    for batch in _batches(jobs):
        _move(batch, [found[j] for j in batch])


def _momenta(batch: list[Job]) -> list[Tensor]:
    """What the rule sees of each gradient; the buffers move on."""
    group, grads = batch[0].group, [j.grad for j in batch]
    grads = torch._foreach_neg(grads) if group["maximize"] else grads
    buffers = [j.buffer for j in batch]
    advance(buffers, grads, group)
    return ahead(buffers, grads, group)


def _move(batch: list[Job], updates: list[Tensor]) -> None:
    """Decay, then the step; one call for parameters of one step size."""
    decays = [j.decay for j in batch]
    if any(d != 1 for d in decays):
        torch._foreach_mul_([j.own for j in batch], decays)
    by_size: dict[float, tuple[list, list]] = {}
    for job, update in zip(batch, updates, strict=True):
        params, steps = by_size.setdefault(job.step_size, ([], []))
        params.append(job.own)
        steps.append(update)
    for step_size, (params, steps) in by_size.items():
        torch._foreach_add_(params, steps, alpha=-step_size)


def _layout(group: dict) -> Layout:
    return Layout(**{k: group[k] for k in Layout.__dataclass_fields__})
