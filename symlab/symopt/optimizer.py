"""SymOpt: each weight block gets an update that is equivariant under its group.

    optimizer = SymOpt(model, lr=1e-3)           roles and rules by `describe(model)`
    optimizer = SymOpt(model, preset="muon")     a relative
    optimizer = SymOpt([{"params": [w], "rule": "row_norm", "lr": 0.02}, ...])

An ordinary torch optimizer: param_groups, schedulers, GradScaler, DistributedData-
Parallel, and a state_dict that comes back bit for bit. Matrices of equal shape, rule
and device are one batched call, whatever parameters they come from; momentum, decay and
the step are foreach calls; parameters without a group are torch's own AdamW.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.optimizer import Optimizer

from symlab.symopt.layout import ALONG, Layout
from symlab.symopt.presets import plan
from symlab.symopt.registry import ADAMW, RULES, size
from symlab.symopt.rules import row_lengths, row_parts

MOST = 2**25  # entries in one batched call: bounds what a step needs beside its state
ROWS_FROM = 2**20  # entries from which a matrix is stepped row by row, alone
HALF = (torch.float16, torch.bfloat16)
ITERATIONS = ("auto", "newton_schulz", "polar_express", "gram")
DEFAULTS = {
    "rule": "spectral",
    "role": "",
    "momentum": 0.95,
    "nesterov": True,
    "ema": True,
    "scale": "rms",
    "radius": 1.0,
    "shift": False,
    "options": {},
    **asdict(Layout()),
}


class SymOpt(Optimizer):
    """One optimizer for a whole model, or for groups of parameters.

    model_or_groups: a model, whose parameters get roles (see `describe`); or tensors or
    param_groups, each with a `rule` of `registry.RULES` or 'adamw' (default 'spectral',
    which is Muon). Keys of a group beside lr, weight_decay, rule: options (of the
    rule), momentum, nesterov, ema (average gradients, or sum), scale (none, muon, rms,
    scion or a number), radius (times it), rows and columns (the axes), pieces and along
    (heads), transpose, shift (whether centring is right); of AdamW: betas, eps.

    preset, overrides, example: as in `describe`; for a model only. With the scale 'rms'
    updates are as large as AdamW's, so that AdamW's lr and weight_decay fit.
    compile: torch.compile the rules. Raises ValueError where a rule does not fit its
    parameter, and for complex numbers, shared storage or unknown names.
    """

    def __init__(
        self,
        model_or_groups: nn.Module | Iterable,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        *,
        preset: str = "symmetric",
        overrides: dict[str, dict | str] | None = None,
        example=None,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        maximize: bool = False,
        compile: bool = False,
    ):
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            if not float(value) >= 0:
                raise ValueError(f"{name} must be 0 or more, not {value}")
        defaults = DEFAULTS | {"lr": lr, "weight_decay": weight_decay, "betas": betas}
        defaults |= {"eps": eps, "maximize": maximize, "compile": compile}
        groups = model_or_groups
        if isinstance(groups, nn.Module):
            planned = plan(
                groups,
                lr,
                weight_decay,
                preset=preset,
                overrides=overrides,
                example=example,
            )
            groups = _groups(planned)
        elif overrides or example is not None or preset != "symmetric":
            raise ValueError(
                "preset, overrides and example need a model: say `rule` in the groups"
            )
        super().__init__(groups, defaults)

    def add_param_group(self, group: dict) -> None:
        """As torch's; checks that the group's rule fits its parameters."""
        super().add_param_group(group)
        try:
            group = self.param_groups[-1]
            if group["rule"] != ADAMW:
                group["options"] = dict(group["options"])
            names = group.get("param_names") or [None] * len(group["params"])
            for p, name in zip(group["params"], names, strict=True):
                _check(p, name, group)
            _check_storage(self.param_groups)
        except ValueError:
            del self.param_groups[-1]
            raise

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for key, value in DEFAULTS.items():
                group.setdefault(key, value)

    def load_state_dict(self, state_dict: dict) -> None:
        """As torch's, with each state in the dtype that it was saved in."""
        super().load_state_dict(state_dict)
        ids = [i for g in state_dict["param_groups"] for i in g["params"]]
        own = [p for g in self.param_groups for p in g["params"]]
        for i, p in zip(ids, own, strict=True):
            for name, value in state_dict["state"].get(i, {}).items():
                if isinstance(value, Tensor) and name != "step":
                    self.state[p][name] = value.detach().to(p.device, copy=True)

    @torch.no_grad()
    def step(self, closure=None):
        """One step. closure: re-evaluates the loss and returns it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        jobs = []
        for group in self.param_groups:
            with_grad = [p for p in group["params"] if p.grad is not None]
            for p in with_grad:
                if p.grad.is_sparse:
                    raise RuntimeError(
                        "SymOpt takes no sparse gradients: build the embedding with "
                        "sparse=False"
                    )
            if group["rule"] == ADAMW:
                self._adamw(group, with_grad)
            else:
                jobs += [Job(p, self.state[p], group) for p in with_grad]
        for batch in _batches(jobs):
            self._step_batch(batch)
        return loss

    def _adamw(self, group: dict, params: list[Tensor]) -> None:
        states = [self.state[p] for p in params]
        for p, state in zip(params, states, strict=True):
            if not state:
                state["step"] = torch.tensor(0.0, dtype=torch.float32)
                state["exp_avg"] = torch.zeros_like(p)
                state["exp_avg_sq"] = torch.zeros_like(p)
        beta1, beta2 = group["betas"]
        adamw(
            params,
            [p.grad for p in params],
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            [s["step"] for s in states],
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=group["maximize"],
        )

    def _step_batch(self, batch: list["Job"]) -> None:
        """Momentum, rule and step of jobs with equal shapes and settings."""
        group, rule = batch[0].group, RULES[batch[0].group["rule"]]
        if rule.factor and all(j.in_rows for j in batch):
            for job in batch:
                _step_rows(job, rule.factor)
            return
        momenta = _momenta(batch)
        blocks = [j.blocks(m) for j, m in zip(batch, momenta, strict=True)]
        counts = [len(b) for b in blocks]
        x = torch.cat(blocks) if len(blocks) > 1 else blocks[0]
        del momenta, blocks  # what Nesterov made is not needed beside the batch
        x = x.float() if x.dtype in HALF else x
        states = [_joined([j.state.get(name) for j in batch]) for name in rule.state]
        run = _compiled(_run) if group["compile"] else _run
        update, *states = run(x, group["rule"], _options(group, x), *states)
        for name, value in zip(rule.state, states, strict=True):
            for job, part in zip(batch, value.split(counts), strict=True):
                job.state[name] = part.clone()
        if group["scale"] == "rms" and rule.sized == "measured":
            update = update * _to_rms(update)
        _move(batch, update.split(counts))


class Job:
    """One parameter in one step; shape: (N, m, n) of its matrices."""

    def __init__(self, p: Tensor, state: dict, group: dict):
        self.p, self.state, self.group = p, state, group
        self.layout = _layout(group)
        self.shape = tuple(self.blocks(p).shape)
        if group["momentum"] and "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)

    def blocks(self, x: Tensor) -> Tensor:
        """(N, m, n); a vector is one row."""
        return self.layout.split(x) if x.ndim > 1 else x[None, None]

    def joined(self, blocks: Tensor) -> Tensor:
        """The inverse, in the parameter's shape and dtype."""
        whole = self.layout.join(blocks, self.p) if self.p.ndim > 1 else blocks[0, 0]
        return whole.to(self.p.dtype)

    @property
    def in_rows(self) -> bool:
        """Whether the step is row by row: one large matrix, as it lies, not centred."""
        if self.p.ndim != 2 or self.p.numel() < ROWS_FROM:
            return False
        lies = self.layout.rows % 2 == 0 and not self.layout.transpose
        return lies and not self.group["options"].get("centred")

    @property
    def step_size(self) -> float:
        """What multiplies the update: lr, radius and scale."""
        scale, sized = self.group["scale"], RULES[self.group["rule"]].sized
        lr = float(self.group["lr"]) * self.group["radius"]
        if sized == "measured":
            return lr * (scale if isinstance(scale, int | float) else 1.0)
        m, n = self.shape[-2:]
        if self.layout.transpose and sized == "spectrum":
            m, n = n, m  # outputs and inputs again
        return lr * size((m, n) if self.p.ndim > 1 else (n,), scale, sized)

    @property
    def key(self) -> tuple:
        """Jobs of equal keys are one call."""
        g = self.group
        same = ("rule", "scale", "momentum", "nesterov", "ema", "maximize", "compile")
        options = repr(sorted(g["options"].items()))
        carried = all(name in self.state for name in RULES[g["rule"]].state)
        where = (self.p.dtype, self.p.grad.dtype, self.p.device)
        return *(g[k] for k in same), options, carried, where, *self.shape[-2:]


# --- parts of a step -----------------------------------------------------------------


def _batches(jobs: list[Job]) -> list[list[Job]]:
    """Jobs of one call together, but no more than MOST entries."""
    by_key: dict[tuple, list[list[Job]]] = {}
    for job in jobs:
        lists = by_key.setdefault(job.key, [[]])
        if lists[-1] and sum(j.p.numel() for j in lists[-1]) + job.p.numel() > MOST:
            lists.append([])
        lists[-1].append(job)
    return [batch for lists in by_key.values() for batch in lists]


def _momenta(batch: list[Job]) -> list[Tensor]:
    """What the rule sees of each gradient; the buffers move on."""
    group, grads = batch[0].group, [j.p.grad for j in batch]
    grads = torch._foreach_neg(grads) if group["maximize"] else grads
    buffers = [j.state.get("momentum_buffer") for j in batch]
    _advance(buffers, grads, group)
    return _ahead(buffers, grads, group)


def _advance(buffers: list, grads: list[Tensor], group: dict) -> None:
    """The buffers after these gradients."""
    beta = group["momentum"]
    if beta and group["ema"]:
        torch._foreach_lerp_(buffers, grads, 1 - beta)
    elif beta:
        torch._foreach_mul_(buffers, beta)
        torch._foreach_add_(buffers, grads)


def _advanced(buffers: list, grads: list[Tensor], group: dict) -> list:
    """The same, not in place."""
    beta = group["momentum"]
    if beta and group["ema"]:
        return torch._foreach_lerp(buffers, grads, 1 - beta)
    return torch._foreach_add(grads, buffers, alpha=beta) if beta else buffers


def _ahead(buffers: list, grads: list[Tensor], group: dict) -> list[Tensor]:
    """What the rule sees, of buffers that have moved on."""
    beta = group["momentum"]
    if not beta:
        return grads
    if not group["nesterov"]:
        return buffers
    if group["ema"]:
        return torch._foreach_lerp(grads, buffers, beta)
    return torch._foreach_add(grads, buffers, alpha=beta)


def _step_rows(job: Job, factor: Callable) -> None:
    """The step of a rule that multiplies rows: nothing as large as p is made.

    What the rule sees is made twice instead, for the lengths and for the step.
    """
    p, grad, group = job.p, job.p.grad, job.group
    buffer = job.state.get("momentum_buffer")
    said = {k: group[k] for k in ("momentum", "nesterov", "ema", "maximize")}
    decay = 1 - float(group["lr"]) * group["weight_decay"]
    lengths, move = _lengths_ahead, _move_rows
    if group["compile"]:
        lengths, move = _compiled(lengths), _compiled(move)
        decay = torch.tensor(decay, device=p.device)  # a new number compiles anew
    by = -job.step_size * factor(lengths(grad, buffer, said), **group["options"])
    wide = torch.promote_types(p.dtype, torch.float32)
    limit = torch.finfo(wide).max
    move(p, grad, buffer, by.clamp(-limit, limit).to(wide), decay, said)


def _lengths_ahead(grad: Tensor, buffer: Tensor | None, group: dict) -> Tensor:
    """Of the rows that the rule will see."""
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


def _joined(states: list[Tensor | None]) -> Tensor | None:
    """The rule's state of all jobs; None before the first step."""
    return None if states[0] is None else torch.cat(states)


def _run(x: Tensor, rule: str, options: tuple, *states) -> tuple[Tensor, ...]:
    """A rule on (N, m, n), with its state: (update, *new state)."""
    chosen = partial(RULES[rule].map, **dict(options))
    return chosen(x, *states) if RULES[rule].state else (chosen(x),)


@cache
def _compiled(function: Callable) -> Callable:
    return torch.compile(function, dynamic=False)


def _options(group: dict, x: Tensor) -> tuple:
    """The rule's options; iterations run in bfloat16 where that is fast."""
    options = dict(group["options"])
    known = RULES[group["rule"]].options
    iterates = options.get("method", known.get("method")) in ITERATIONS
    if x.is_cuda and x.dtype == torch.float32 and iterates and "dtype" in known:
        options.setdefault("dtype", torch.bfloat16)
    return tuple(sorted(options.items()))


def _to_rms(update: Tensor) -> Tensor:
    """What makes the root mean square of the entries .2."""
    rms = update.square().mean((-2, -1), keepdim=True).sqrt()
    return torch.where(rms > 0, 0.2 / torch.where(rms > 0, rms, 1), 0)


def _move(batch: list[Job], updates: tuple[Tensor, ...]) -> None:
    """Decay, then the step; one call for parameters of one step size."""
    decays = [1 - float(j.group["lr"]) * j.group["weight_decay"] for j in batch]
    if any(d != 1 for d in decays):
        torch._foreach_mul_([j.p for j in batch], decays)
    by_size: dict[float, tuple[list, list]] = {}
    for job, update in zip(batch, updates, strict=True):
        params, steps = by_size.setdefault(job.step_size, ([], []))
        params.append(job.p)
        steps.append(job.joined(update))
    for step_size, (params, steps) in by_size.items():
        torch._foreach_add_(params, steps, alpha=-step_size)


# --- groups --------------------------------------------------------------------------


def _groups(planned: list) -> list[dict]:
    """One param_group for each distinct plan, with the parameters' names."""
    groups: dict[str, dict] = {}
    for p, one in planned:
        settings = one.group()
        group = groups.setdefault(repr(sorted(settings.items())), settings)
        group.setdefault("params", []).append((one.block.name, p))
    return list(groups.values())


def _layout(group: dict) -> Layout:
    return Layout(**{k: group[k] for k in Layout.__dataclass_fields__})


def _check(p: Tensor, name: str | None, group: dict) -> None:
    """Raise ValueError unless the group's rule fits this parameter."""
    who = f"{name or 'a parameter'} {tuple(p.shape)}"
    if p.is_complex():
        raise ValueError(f"{who} is complex, and SymOpt is for real parameters")
    if group["rule"] == ADAMW:
        return
    if group["rule"] not in RULES:
        known = ", ".join((*RULES, ADAMW))
        raise ValueError(f"unknown rule {group['rule']!r} for {who}: use {known}")
    rule, options = RULES[group["rule"]], group["options"]
    if p.ndim < 2 and not rule.vectors:
        raise ValueError(
            f"{who} is a vector, and {group['rule']} is for matrices: give it "
            "rule='adamw'"
        )
    if unknown := set(options) - set(rule.options):
        raise ValueError(
            f"{group['rule']} has no option {sorted(unknown)[0]!r}: it has "
            f"{', '.join(rule.options) or 'none'}"
        )
    if group["along"] not in ALONG:
        raise ValueError(f"unknown along {group['along']!r}: use {', '.join(ALONG)}")
    centring = options.get("centred") or group["rule"] == "centred_row_norm"
    if centring and not group["shift"]:
        raise ValueError(
            f"{who} has no shift symmetry that centring could respect (a softmax must "
            "follow it): use a rule without, or say shift=True if you know better"
        )
    if group["rule"] == "paired_row_norm" and group["role"] not in ("gate_up", ""):
        raise ValueError(
            f"{who} is no fused gate and up whose rows could be paired: use row_norm"
        )
    job = Job(p, {"momentum_buffer": None}, group)  # raises where heads do not divide
    if not math.isfinite(job.step_size):
        raise ValueError(f"lr, radius and scale of {who} make no number")


def _check_storage(groups: list[dict]) -> None:
    """Two parameters over the same memory would be stepped twice."""
    spans = []
    for p in (p for g in groups for p in g["params"]):
        if p.numel() and p.device.type != "meta":
            reach = sum(s * (n - 1) for s, n in zip(p.stride(), p.shape, strict=True))
            end = p.data_ptr() + (reach + 1) * p.element_size()
            spans.append((str(p.device), p.data_ptr(), end, tuple(p.shape)))
    spans.sort()
    for a, b in zip(spans, spans[1:], strict=False):
        if a[0] == b[0] and b[1] < a[2]:
            raise ValueError(
                f"two parameters, {a[3]} and {b[3]}, share memory: tie weights by "
                "assigning one Parameter to both modules"
            )
