"""One optimizer step of many parameters.

    take(jobs)      sharded matrices that are needed as wholes: `_step_dealt`; others:
      _step_rows    large tables: with at most one temporary of their size
      _step_chunk   all others, some 4 million entries at a time:
        momentum    foreach calls over the chunk
        rule        one call for all matrices of one shape and rule, (N, m, n)
        decay, step foreach calls over the chunk
    take_adamw      torch's own AdamW, fused

Shapes (N, m, n) are N matrices with m outputs and n inputs. The module `job` holds what
is known before the step.

Parameters may be sharded over several processes (`sharded`). Momentum, decay and step
act on the shards, and so do rules for which a shard is enough: signs of entries,
experts of a stack, rows of a row norm, as arXiv 2605.18106 states; but a floor gathers
one number per row, and centring needs the whole matrix. Other rules need whole momenta:
each matrix is brought to one process, which computes its update and sends the parts
back.
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim.adamw import adamw

from symlab.symopt import sharded
from symlab.symopt.compiling import compiled
from symlab.symopt.job import Job, Stack, fit_state, momentum_dtype
from symlab.symopt.rule import Rule
from symlab.symopt.rules import row_lengths, row_parts
from symlab.symopt.sharded import Dealt

# entries in one chunk: bounds what a step needs beside its state
MOST = {"cpu": 2**22, "cuda": 2**25}
HALF = (torch.float16, torch.bfloat16)


# --- the step ------------------------------------------------------------------------


def take(jobs: list[Job]) -> None:
    """Take one optimizer step of each job (a parameter with its gradient and settings).

    If processes share parameters, all of them must call it.
    """
    dealt: dict[tuple, list[Job]] = {}
    for job in jobs:
        if job.team is not None:
            key = job.team, job.p.dtype, job.grad.dtype
            dealt.setdefault(key, []).append(job)
    here = [job for job in jobs if job.team is None]
    for job in here:
        if job.in_rows:
            _step_rows(job)
    for chunk in chunks([job for job in here if not job.in_rows]):
        _step_chunk(chunk)
    for (team, *_), theirs in dealt.items():
        _step_dealt(theirs, team)


def chunks(jobs: Iterable[Job]) -> list[list[Job]]:
    """Return lists of jobs that are stepped together, in torch._foreach calls.

    The jobs of a list agree in settings, dtype and device, and have at most MOST
    entries together, unless a single job has more.
    """
    by_key: dict[tuple, dict[tuple, list[Job]]] = {}
    for job in jobs:
        alike = tuple(stack.key for stack in job.stacks)
        by_key.setdefault(job.key, {}).setdefault(alike, []).append(job)
    found: list[list[Job]] = []
    for key, shapes in by_key.items():
        most, entries = MOST.get(key[-1].type, MOST["cuda"]), 0
        for job in (job for alike in shapes.values() for job in alike):
            entries += job.like.numel()
            if entries > most or entries == job.like.numel():
                found.append([])
                entries = job.like.numel()
            found[-1].append(job)
    return found


def _step_chunk(jobs: list[Job]) -> None:
    """Momentum, rule, decay and step of jobs with equal settings, of any shapes."""
    seen = _momenta(jobs)
    wholes = [
        x if j.is_local else sharded.whole(x, j.p)
        for j, x in zip(jobs, seen, strict=True)
    ]
    states = [[sharded.local(s) for s in j.states] for j in jobs]
    updates = _updates(jobs, wholes, states)
    parts = [
        u if j.is_local else sharded.part_of(u, j.p)
        for j, u in zip(jobs, updates, strict=True)
    ]
    _move(jobs, parts)


def _step_dealt(jobs: list[Job], team: "dist.ProcessGroup") -> None:
    """Step sharded jobs whose rules need whole matrices: one process makes each."""
    me, world = dist.get_rank(team), dist.get_world_size(team)
    owners = dict(zip(jobs, sharded.deal([j.cost for j in jobs], world), strict=True))
    mine, seen = [j for j in jobs if owners[j] == me], {}
    for chunk in chunks(jobs):
        seen |= zip(chunk, _momenta(chunk), strict=True)
    cut = [Dealt(tuple(j.p.shape), *j.cut, owners[j]) for j in jobs]
    wholes = sharded.collect([seen.pop(j) for j in jobs], cut, team)
    seen = dict(zip(mine, wholes, strict=True))
    carried = [(s, owners[j]) for j in jobs for s in j.states]
    cut_states = [Dealt(tuple(s.shape), 1, owner) for s, owner in carried]
    parts = [sharded.local(s) for s, _ in carried]
    states = sharded.collect(parts, cut_states, team)
    in_order, found = iter(states), {}
    own = {j: [next(in_order) for _ in j.states] for j in mine}
    for chunk in chunks(mine):
        updates = _updates(chunk, [seen.pop(j) for j in chunk], [own[j] for j in chunk])
        found |= zip(chunk, updates, strict=True)
    states = sharded.spread(states, cut_states, parts, team)
    for part, new in zip(parts, states, strict=True):
        part.copy_(new)
    like = [j.own for j in jobs]
    updates = sharded.spread([found[j] for j in mine], cut, like, team)
    found = dict(zip(jobs, updates, strict=True))
    for chunk in chunks(jobs):
        _move(chunk, [found[j] for j in chunk])


# --- momentum ------------------------------------------------------------------------


def _momenta(jobs: list[Job]) -> list[Tensor]:
    """What the rules see of each gradient; the buffers move on."""
    group, grads = jobs[0].group, [j.grad for j in jobs]
    grads = torch._foreach_neg(grads) if group["maximize"] else grads
    if group["momentum_dtype"]:
        kind = momentum_dtype(jobs[0].p, group)
        grads = [g.to(kind) for g in grads]
    buffers = [j.buffer for j in jobs]
    _advance(buffers, grads, group)
    return _ahead(buffers, grads, group)


def _advance(buffers: list, grads: list[Tensor], group: dict) -> None:
    """Bring the buffers to the average, or sum, with these gradients."""
    beta = group["momentum"]
    if beta and group["ema"]:
        torch._foreach_lerp_(buffers, grads, 1 - beta)
    elif beta:
        torch._foreach_mul_(buffers, beta)
        torch._foreach_add_(buffers, grads)


def _advanced(buffers: list, grads: list[Tensor], group: dict) -> list:
    """Return the advanced buffers as new tensors; see `_advance`."""
    beta = group["momentum"]
    if beta and group["ema"]:
        return torch._foreach_lerp(buffers, grads, 1 - beta)
    return torch._foreach_add(grads, buffers, alpha=beta) if beta else buffers


def _ahead(buffers: list, grads: list[Tensor], group: dict) -> list[Tensor]:
    """Return what the rules see: Nesterov's look ahead, or the buffers themselves."""
    beta = group["momentum"]
    if not beta:
        return grads
    if not group["nesterov"]:
        return buffers
    if group["ema"]:
        return torch._foreach_lerp(grads, buffers, beta)
    return torch._foreach_add(grads, buffers, alpha=beta)


# --- rule ----------------------------------------------------------------------------


def _updates(jobs: list[Job], seen: list[Tensor], states: list[list]) -> list[Tensor]:
    """Return the update of each job, in its shape and dtype; states move in place.

    seen: whole momenta, in the parameters' shapes. Each call of a rule takes all
    matrices of one key, (N, m, n).
    """
    calls: dict[tuple, list[tuple[int, int, Tensor]]] = {}
    for i, (job, x) in enumerate(zip(jobs, seen, strict=True)):
        for k, stack in enumerate(job.stacks):
            calls.setdefault(stack.key, []).append((i, k, stack.of(x)))
    found: list[list[Tensor | None]] = [[None] * len(j.stacks) for j in jobs]
    for asked in calls.values():
        blocks = [x for _, _, x in asked]
        its = [(jobs[i], jobs[i].stacks[k]) for i, k, _ in asked]
        own = [_states_of(jobs[i], k, states[i]) for i, k, _ in asked]
        made = _call(its, blocks, own)
        for (i, k, _), update in zip(asked, made, strict=True):
            found[i][k] = update
    return [_joined(job, us) for job, us in zip(jobs, found, strict=True)]


def _states_of(job: Job, k: int, states: list[Tensor]) -> list[Tensor]:
    """Return the states of the job's stack k, of all its states in order."""
    start = sum(len(s.names) for s in job.stacks[:k])
    return states[start : start + len(job.stacks[k].names)]


def _call(
    its: list[tuple[Job, Stack]], blocks: list[Tensor], states: list[list[Tensor]]
) -> list[Tensor]:
    """One call of one rule on blocks (N_i, m, n) of several jobs."""
    (job, stack), counts = its[0], [len(b) for b in blocks]
    shapes = {b.shape[1:] for b in blocks}
    x = torch.cat(blocks) if len(shapes) == 1 < len(blocks) else blocks[0]
    if len(shapes) > 1:
        x = _padded(blocks)
    if not x.numel():
        return blocks
    x = x.float() if x.dtype in HALF else x
    joined = [torch.cat(parts) for parts in zip(*states, strict=True)]
    factors = _factors(its, x) if stack.rule.paired else {}
    compile = job.group["compile"]
    x, *joined = run(stack.rule, stack.options, compile, x, joined, factors)
    for i, new in enumerate(joined):
        for own, part in zip(states, new.split(counts), strict=True):
            own[i].copy_(part)
    if stack.to_rms:
        x = x * _to_rms(x)
    updates = x.split(counts) if len(counts) > 1 else [x]
    if len(shapes) > 1:
        pairs = zip(updates, blocks, strict=True)
        return [u[:, : b.shape[1], : b.shape[2]] for u, b in pairs]
    return list(updates)


def _padded(blocks: list[Tensor]) -> Tensor:
    """(N, m, n) of blocks (N_i, m_i, n_i), with zeros after the shorter ones."""
    m, n = (max(b.shape[i] for b in blocks) for i in (1, 2))
    x = blocks[0].new_zeros(sum(map(len, blocks)), m, n)
    start = 0
    for b in blocks:
        x[start : start + len(b), : b.shape[1], : b.shape[2]] = b
        start += len(b)
    return x


def run(rule: Rule, options: dict, compile: bool, x: Tensor, states, factors) -> tuple:
    """Return the result of a rule for momenta x (N, m, n): (updates, *new states).

    options: the rule's keyword options. compile: whether to use torch.compile.
    states: the rule's states. factors: keyword arguments for a rule of the two factors
        of a low-rank product.
    """
    call = partial(rule, options=options)
    if compile:
        said = tuple((k, repr(v)) for k, v in sorted(options.items()))
        what = f"{rule.name} on {tuple(x.shape)}"
        call = compiled(call, what, (rule.map, said), x)  # names are not unique
    return call(x, states=states, factors=factors)


def _factors(its: list[tuple[Job, Stack]], x: Tensor) -> dict[str, Tensor]:
    """own (N, m, r) and other (N, r, n), the two factors of low-rank products."""
    own, other = (torch.cat([j.factors[i] for j, _ in its]).to(x.dtype) for i in (0, 1))
    return {"own": own, "other": other, "inner": its[0][1].inner}


def _to_rms(update: Tensor) -> Tensor:
    """(N, 1, 1), what makes the root mean square of each matrix's entries 0.2."""
    rms = update.square().mean((-2, -1), keepdim=True).sqrt()
    return torch.where(rms > 0, 0.2 / torch.where(rms > 0, rms, 1), 0)


def _joined(job: Job, updates: list[Tensor]) -> Tensor:
    """The parts' updates, each at its scale, as one of the parameter's shape."""
    kind = job.p.dtype
    if job.group["stochastic_rounding"] and job.team is None:
        kind = torch.float32  # rounded once, with the weights
    if job.alone is not None:
        return job.alone.back(updates[0], job.like).to(kind)
    pairs = zip(job.stacks, updates, strict=True)
    parts = [s.scale * s.back(u, job.like) for s, u in pairs]
    return torch.cat(parts, job.stacks[0].layout.rows).to(kind)


# --- decay and step ------------------------------------------------------------------


def _move(jobs: list[Job], updates: list[Tensor]) -> None:
    """Decay, then the step; one call for parameters of one step size.

    W <- (1 - lr weight_decay) W with the decay 'lr' (AdamW's); 'independent' takes
    lr / base_lr for lr, so that only a schedule moves it (Wortsman et al., arXiv
    2309.14322); 'cautious' shrinks only entries that the step makes smaller (Chen et
    al., arXiv 2510.12402), which keeps signed permutations and no rotation.
    """
    group, shrinks = jobs[0].group, [j.shrinks for j in jobs]
    if group["decay"] == "cautious":
        for job, update, by in zip(jobs, updates, shrinks, strict=True):
            w = job.own
            w.sub_(by * w * (w * update > 0))
    if group["stochastic_rounding"]:
        for job, update, by in zip(jobs, updates, shrinks, strict=True):
            by = 0.0 if group["decay"] == "cautious" else by
            _move_rounded(job, update, 1 - by)
        return
    if group["decay"] != "cautious" and any(shrinks):
        torch._foreach_mul_([j.own for j in jobs], [1 - by for by in shrinks])
    by_size: dict[float, tuple[list, list]] = {}
    for job, update in zip(jobs, updates, strict=True):
        params, steps = by_size.setdefault(job.step_size, ([], []))
        params.append(job.own)
        steps.append(update)
    for step_size, (params, steps) in by_size.items():
        torch._foreach_add_(params, steps, alpha=-step_size)


def _move_rounded(job: Job, update: Tensor, decay: float) -> None:
    """Decay and step, with weights rounded up or down at random, so that they are right
    on average and updates below their last bit are not lost.

    The draws follow from a count in the state, so that a saved run goes on alike.
    """
    w, draws = job.own, torch.Generator(job.own.device)
    draws.manual_seed(int(job.state["draws"]))
    job.state["draws"] += 1
    exact = w.float() * decay - job.step_size * update.float()
    w.copy_(stochastically_rounded(exact, w.dtype, draws))


def stochastically_rounded(
    x: Tensor, dtype: torch.dtype, draws: torch.Generator
) -> Tensor:
    """Return x (float32, any shape) in bfloat16, rounded up or down at random with mean
    x.

    A random number below the last kept bit is added, and the rest is cut off.

    dtype: bfloat16; ValueError is raised for any other. draws: the random generator.
    """
    if dtype != torch.bfloat16:
        raise ValueError(f"stochastic rounding is to bfloat16, not to {dtype}")
    bits = x.float().contiguous().view(torch.int32)
    added = torch.randint(
        0, 2**16, bits.shape, generator=draws, device=x.device, dtype=torch.int32
    )
    cut = ((bits + added) & -(2**16)).view(torch.float32)
    return torch.where(x.isfinite(), cut, x.float()).to(dtype)


# --- large tables, row by row --------------------------------------------------------
# A rule with a `factor` multiplies each row by a number. Some rows at a time fit the
# cache of a CPU, so that memory is read and written as seldom as the sums allow.


def _step_rows(job: Job) -> None:
    """The step of one table (m, n) under a rule that multiplies its rows by numbers."""
    stack, group, p = job.alone, job.group, job.own
    said = {k: group[k] for k in ("momentum", "nesterov", "ema", "maximize")}
    decay, by = 1 - job.shrinks, -job.step_size
    if group["compile"]:  # a new number would compile anew
        decay, by = (torch.tensor(v, device=p.device) for v in (decay, by))
    step = _centred_rows if stack.options.get("centred") else _plain_rows
    step(job, said, decay, by)


def _plain_rows(job: Job, said: dict, decay, by) -> None:
    """What the rule sees is made twice, for the lengths and for the step: no copy."""
    stack, p, grad, buffer = job.alone, job.own, job.grad, job.buffer
    call = partial(_maybe_compiled, job)
    lengths = call(_lengths_ahead)(grad, buffer, said)
    floor = stack.options.get("floor", 0.0)
    if floor and job.cut:
        wholes = sharded.whole(lengths, job.p)
        factors = sharded.part_of(stack.rule.factor(wholes, floor), job.p)
    else:
        factors = stack.rule.factor(lengths, floor) if len(lengths) else lengths
    call(_move_rows)(p, grad, buffer, _bounded(by * factors, p), decay, said)


def _centred_rows(job: Job, said: dict, decay, by) -> None:
    """Centre, multiply rows, centre again: one copy of what the rule sees."""
    stack, p = job.alone, job.own
    call = partial(_maybe_compiled, job)
    x, mean = call(_copy_ahead)(job.grad, job.buffer, said)
    lengths = call(_centre_rows)(x, mean)
    factors = by * stack.rule.factor(lengths, stack.options.get("floor", 0.0))
    call(_move_centred)(p, x, _bounded(factors, p), decay)


def _maybe_compiled(job: Job, function: Callable) -> Callable:
    """The function, compiled for this table if its group asks for that."""
    if not job.group["compile"]:
        return function
    settings = tuple(job.group[k] for k in ("momentum", "nesterov", "ema", "maximize"))
    what = f"{job.alone.rule.name} on {tuple(job.own.shape)}"
    return compiled(function, what, settings, job.own)


def _bounded(factors: Tensor, p: Tensor) -> Tensor:
    """float64 numbers per row as finite ones of p's precision, float32 at least."""
    wide = torch.promote_types(p.dtype, torch.float32)
    limit = torch.finfo(wide).max
    return factors.clamp(-limit, limit).to(wide)


def _lengths_ahead(grad: Tensor, buffer: Tensor | None, group: dict) -> Tensor:
    """(m, 1), the lengths of the rows that the rule will see."""
    found = []
    for g, b in _row_pairs(grad, buffer):
        g = -g if group["maximize"] else g
        (x,) = _ahead(_advanced([b], [g], group), [g], group)
        found.append(row_lengths(x))
    return torch.cat(found)


def _move_rows(p, grad, buffer, by: Tensor, decay, group: dict) -> None:
    """Momentum, decay and step of p (m, n), in place."""
    pairs, parts = _row_pairs(grad, buffer), row_parts(p)
    shares = by.split([len(w) for w in parts])
    for w, (g, b), share in zip(parts, pairs, shares, strict=True):
        g = -g if group["maximize"] else g
        _advance([b], [g], group)
        (x,) = _ahead([b], [g], group)
        _step_part(w, x, share, decay)


def _copy_ahead(grad: Tensor, buffer: Tensor | None, group: dict) -> tuple:
    """Advance the momentum; (what the rule sees (m, n), its mean row (n,))."""
    wide = torch.promote_types(grad.dtype, torch.float32)
    x = torch.empty_like(grad, dtype=wide)
    total = x.new_zeros(x.shape[-1:], dtype=torch.float64)
    for part, (g, b) in zip(row_parts(x), _row_pairs(grad, buffer), strict=True):
        g = -g if group["maximize"] else g
        _advance([b], [g], group)
        if g.dtype == wide and group["momentum"] and group["nesterov"] and group["ema"]:
            torch.lerp(g, b, group["momentum"], out=part)  # as `_ahead`, without a copy
        else:
            part.copy_(_ahead([b], [g], group)[0])
        total += part.sum(0)
    return x, (total / len(x)).to(wide)


def _centre_rows(x: Tensor, mean: Tensor) -> Tensor:
    """Subtract the mean row of x (m, n) in place; (m, 1), the rows' lengths then."""
    return torch.cat([row_lengths(part.sub_(mean)) for part in row_parts(x)])


def _move_centred(p: Tensor, x: Tensor, by: Tensor, decay) -> None:
    """Decay p (m, n) and add by_i x_i less the mean of these over i."""
    total = torch.zeros_like(row_parts(x)[0])
    shares = by.split([len(part) for part in row_parts(x)])
    parts = list(zip(row_parts(p), row_parts(x), shares, strict=True))
    for w, part, share in parts:
        total[: len(part)].addcmul_(part, share)
        if w.dtype == x.dtype:
            _step_part(w, part, share, decay)
    mean = total.sum(0) / len(x)
    for w, part, share in parts:
        if w.dtype == x.dtype:
            w.sub_(mean)
        else:  # rounded once
            w.copy_(w * decay + (part * share - mean))


def _step_part(w: Tensor, x: Tensor, share: Tensor, decay) -> None:
    """w <- decay w + share_i x_i, in place. w, x (m, n); share (m, 1)."""
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


# --- AdamW ---------------------------------------------------------------------------


def _decay_of_adamw(group: dict) -> float:
    """What torch multiplies by lr: for an independent decay over the base of lr."""
    by, base = group["weight_decay"], group["base_lr"]
    return by / base if group["decay"] == "independent" and base else by


def ready_adamw(params: list[Tensor], states: list[dict]) -> tuple[list, list]:
    """Return (fused, plain): the tensors that torch's AdamW steps in its fused form,
    and in its plain form.

    params: the parameters. states: their optimizer states, which are filled in if
        empty.

    Each item is (parameter, gradient, mean, mean square, count); no parameter is
    changed. On a CPU the fused form (torch 2.13) reads all four tensors in the memory
    order of the first, whatever their strides are, so it is used only if their strides
    are equal.
    """
    fused, plain = [], []  # (p, gradient, mean, mean square, count) of each
    for p, state in zip(params, states, strict=True):
        if "exp_avg_sq" not in state:
            state.clear()  # of another rule, if any
            state["step"] = torch.tensor(0.0, dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        if mean.shape != p.shape or mean.dtype != p.dtype or p.grad.shape != p.shape:
            fit_state(state, p, p.dtype, ("exp_avg", "exp_avg_sq"))
            mean, square = state["exp_avg"], state["exp_avg_sq"]
        w, g = p, p.grad
        if sharded.is_distributed(p):
            w, mean, square = map(sharded.local, (p, mean, square))
            g = sharded.local_grad(p)
        alike = w.is_contiguous() and g.is_contiguous() and mean.is_contiguous()
        if not (alike and square.is_contiguous()):
            alike = w.stride() == g.stride() == mean.stride() == square.stride()
        alike = alike and (w.is_cpu or w.is_cuda)
        if w.is_cuda and not state["step"].is_cuda:
            state["step"] = state["step"].to(w.device)
        (fused if alike else plain).append((w, g, mean, square, state["step"]))
    return fused, plain


def take_adamw(group: dict, fused: list, plain: list) -> None:
    """Take one step of torch's AdamW with the settings of a param_group.

    fused, plain: lists of tensors, as `ready_adamw` returns them.
    """
    beta1, beta2 = group["betas"]
    for its, in_one in ((fused, True), (plain, False)):
        if not its:
            continue
        *tensors, counts = map(list, zip(*its, strict=True))
        adamw(
            *tensors,
            [],
            counts,
            fused=in_one,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=_decay_of_adamw(group),
            eps=group["eps"],
            maximize=group["maximize"],
        )
