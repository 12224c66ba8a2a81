"""What a step needs to know about a parameter, and the matrices into which it is split.

A `Job` is one parameter with a gradient; it has one `Stack` of matrices for each of its
parts, and most parameters are one part. Both hold what is known before a step; `step`
takes it. Shapes (N, m, n) are N matrices with m outputs and n inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from symlab.symopt import sharded
from symlab.symopt.layout import Layout
from symlab.symopt.rule import Rule, size

PADDED = 2**14  # entries up to which matrices of near shapes are one call
ROWS_FROM = 2**20  # entries from which a table is stepped row by row, alone


@dataclass(frozen=True, eq=False)
class Stack:
    """The matrices (N, m, n) into which a parameter is split, with their update rule.

    rule, options: the rule and its keyword options. layout: how the parameter is split.
    rows: (start, length) of a range along the axis of outputs; None for the whole
        parameter.
    shape: (N, m, n), of the whole parameter if it is sharded.
    scale: the factor on an update, besides lr.
    to_rms: whether each update is rescaled to the root mean square 0.2.
    check_finite: whether gradients are checked for infinite and NaN entries.
    names: the names of the rule's states.
    key: equal for stacks that can be updated in one call.
    inner: whether it is A of a low-rank product B A, which is then transposed.
    """

    rule: Rule
    options: dict
    layout: Layout
    rows: tuple[int, int] | None
    shape: tuple[int, int, int]
    scale: float
    to_rms: bool
    check_finite: bool
    names: tuple[str, ...]
    key: tuple
    inner: bool = False

    def of(self, x: Tensor) -> Tensor:
        """Return the matrices (N, m, n) of x, a tensor of the parameter's shape.

        A vector becomes one row, (1, 1, n).
        """
        if x.ndim < 2:
            return x[None, None]
        x = x if self.rows is None else x.narrow(self.layout.rows, *self.rows)
        return self.layout.split(x)

    def back(self, blocks: Tensor, like: Tensor) -> Tensor:
        """Return matrices (N, m, n) in the shape of a parameter, the inverse of `of`.

        like: a tensor of the parameter's shape; if the stack is a range of its rows,
            the result has the shape of that range.
        """
        if like.ndim < 2:
            return blocks[0, 0]
        like = like if self.rows is None else like.narrow(self.layout.rows, *self.rows)
        return self.layout.join(blocks, like)


@dataclass(eq=False)
class Job:
    """One parameter with a gradient, and all that a step needs to know about it.

    p: the parameter. group: its settings.
    stacks: the matrices into which it is split, one `Stack` for each rule.
    other: for rules of low-rank products, the job of the other factor.
    state: its entry in the optimizer's state, set at each step.
    factors: for such rules, both factors before the step, this one (N, m, r) and the
        other one (N, r, n).
    """

    p: Tensor
    group: dict
    stacks: tuple[Stack, ...]
    other: "Job | None" = None
    state: dict = field(default_factory=dict)
    factors: tuple[Tensor, ...] = ()

    @cached_property
    def cut(self) -> frozenset[int]:
        """The axes along which the parameter is sharded over several processes."""
        return frozenset(sharded.cut_axes(self.p))

    @cached_property
    def alone(self) -> Stack | None:
        """The only `Stack` of the parameter; None if ranges of its rows have different
        rules.
        """
        return self.stacks[0] if len(self.stacks) == 1 else None

    @cached_property
    def in_rows(self) -> bool:
        """Whether the parameter is updated one block of rows at a time, to save memory.

        This holds for a single matrix that is large, or sharded by rows, under a rule
        that multiplies each row by a number.
        """
        if self.p.ndim != 2 or self.alone is None or not self.alone.rule.factor:
            return False
        said = self.group
        if said["momentum_dtype"] or said["stochastic_rounding"]:
            return False
        if said["decay"] == "cautious":
            return False
        layout, centred = self.alone.layout, self.alone.options.get("centred")
        lies = layout.flat or layout.rows % 2 == 0
        if not lies or layout.transpose or layout.pieces > 1:
            return False
        if self.cut:
            return self.cut == {0} and not centred
        return self.p.numel() >= ROWS_FROM

    @cached_property
    def is_local(self) -> bool:
        """Whether each process can compute the update of its shard from that shard
        alone.
        """
        if not self.cut or self.in_rows:
            return True
        if self.alone is None:
            return False
        rule, layout = self.alone.rule, self.alone.layout
        if rule.entrywise:
            return layout.pieces == 1
        mixed = rule.state and layout.pieces > 1  # a state is cut by matrices
        return self.cut == {0} and layout.is_stack(self.p.ndim) and not mixed

    @cached_property
    def team(self):
        """The group of processes that share the work of the parameter's update.

        None if each process computes the update of its own shard.
        """
        return None if self.is_local else sharded.team(self.p)

    @cached_property
    def like(self) -> Tensor:
        """A tensor of the shape in which the update is computed.

        It is this process's shard, or, if the update needs the whole of a sharded
        parameter, a tensor of the whole shape on the meta device.
        """
        return sharded.local(self.p) if self.is_local else sharded.outline(self.p)

    @cached_property
    def key(self) -> tuple:
        """The settings, dtypes and device that jobs must share to be stepped in one
        call.
        """
        same = ("momentum", "nesterov", "ema", "maximize", "compile")
        same += ("momentum_dtype", "stochastic_rounding", "decay")
        settings = tuple(self.group[k] for k in same)
        return *settings, self.p.dtype, self.p.grad.dtype, sharded.local(self.p).device

    @cached_property
    def cost(self) -> int:
        """The approximate number of operations of the update.

        It counts Gram matrix products, or one pass over the entries.
        """
        return sum(
            prod(s.shape) * (min(s.shape[1:]) if s.rule.pieces else 1)
            for s in self.stacks
        )

    @property
    def own(self) -> Tensor:
        """This process's shard of the parameter; the parameter itself if it is not
        sharded.
        """
        return sharded.local(self.p)

    @property
    def grad(self) -> Tensor:
        """This process's shard of the gradient; the whole gradient if it is not
        sharded.
        """
        return sharded.local_grad(self.p)

    @property
    def buffer(self) -> Tensor | None:
        """This process's shard of the momentum; None if there is no momentum yet."""
        buffer = self.state.get("momentum_buffer")
        return None if buffer is None else sharded.local(buffer)

    @property
    def states(self) -> list[Tensor]:
        """The tensors that the parameter's update rules keep between steps, such as the
        momentum, in the order of the rules; each is (N, m, ...) for N matrices of m
        rows.
        """
        return [self.state[name] for stack in self.stacks for name in stack.names]

    @property
    def step_size(self) -> float:
        """The factor on the update: lr times the scale.

        If several rules update the parameter, it is lr, because their updates contain
        the scale.
        """
        lr = float(self.group["lr"])
        return lr if self.alone is None else lr * self.alone.scale

    @property
    def shrinks(self) -> float:
        """The fraction of the weights that weight decay removes in this step.

        It is weight_decay times lr, or times lr / base_lr for the decay 'independent'.
        """
        lr, by = float(self.group["lr"]), self.group["weight_decay"]
        if self.group["decay"] == "independent":
            base = self.group["base_lr"]
            return by * lr / base if base else by
        return by * lr

    def begin(self, state: dict, number: int) -> None:
        """Set the job's state for this step, and create missing entries.

        state: the parameter's entry in the optimizer's state. New entries are sharded
            as the parameter is.
        number: the index among all jobs, which determines the seed of stochastic
            rounding.
        """
        self.state, p = state, self.p
        fit_state(state, p, momentum_dtype(p, self.group), ("momentum_buffer",))
        if self.other is not None:
            other = self.other.alone.of(self.other.p).mT
            self.factors = self.alone.of(p).clone(), other.clone()
        if self.group["momentum"] and "momentum_buffer" not in state:
            kind = momentum_dtype(p, self.group)
            state["momentum_buffer"] = torch.zeros_like(p, dtype=kind)
        if self.group["stochastic_rounding"] and "draws" not in state:
            state["draws"] = torch.tensor(number * 1_000_003)  # seeds have 32 bits
        for stack in self.stacks:
            for name, first in zip(stack.names, stack.rule.state.values(), strict=True):
                if name not in state:
                    wide = torch.promote_types(p.dtype, torch.float32)
                    x = first(*stack.shape[1:], dtype=wide, device=self.own.device)
                    x = x.expand(stack.shape[0], *x.shape)
                    state[name] = sharded.cut_along(x, p, self._state_axis)

    @property
    def _state_axis(self) -> int | None:
        """The axis along which a state (N, m, ...) lies in parts; None is whole."""
        if self.is_local:
            return 0
        return None if self.team is None else 1


def momentum_dtype(p: Tensor, group: dict) -> torch.dtype:
    """Return the dtype of a parameter's momentum: that of p, or the one its group
    names.

    group: the param_group, with the setting momentum_dtype.
    """
    said = group["momentum_dtype"]
    return getattr(torch, said) if said else p.dtype


def fit_state(
    state: dict, p: Tensor, dtype: torch.dtype, names: tuple[str, ...]
) -> None:
    """Cast entries of a parameter's state to a dtype, after the precision of p has
    changed.

    names: the entries, all of the shape of p. Missing ones are skipped.

    Raises RuntimeError if an entry or the gradient has another shape than p.
    """
    for name in names:
        kept = state.get(name)
        if kept is None:
            continue
        if kept.shape != p.shape or p.grad.shape != p.shape:
            raise RuntimeError(
                f"a parameter has the shape {tuple(p.shape)}, its gradient "
                f"{tuple(p.grad.shape)} and its state {tuple(kept.shape)}, and no "
                "parameter was moved: build the optimizer anew after a change of shape"
            )
        if kept.dtype != dtype:
            state[name] = kept.to(dtype)


def job_of(p: Tensor, group: dict, rule_of: Callable[[str], Rule]) -> Job:
    """Return the `Job` of a parameter under the settings of its param_group.

    rule_of: a function from a rule's name to its `Rule`. Raises ValueError if the
    number of pieces (such as heads) does not divide the parameter.
    """
    parts = group["parts"] or ({},)
    stacks = [
        _stack(p, group | part, rule_of, i if group["parts"] else None)
        for i, part in enumerate(parts)
    ]
    return Job(p, group, tuple(stacks))


def _rounded(side: int) -> int:
    """The next length of at most four binary digits that is a multiple of eight.

    Sides grow by less than an eighth, and by less than eight where they are short.
    """
    step = 2 ** max(3, side.bit_length() - 4)
    return -(-side // step) * step


def pair_of(b: Tensor, a: Tensor, group: dict, rule_of: Callable) -> tuple[Job, Job]:
    """Return the two `Job`s of the factors of a product B A, for a rule that uses both.

    b, a: the factors. group: their param_group; its settings rows and columns are the
        axes of outputs and inputs of B, `inner_axes` those of A.
    rule_of: a function from a rule's name to its `Rule`.

    Raises ValueError if the shapes of B and A do not fit, or if they are sharded.
    """
    if sharded.is_distributed(b) or sharded.is_distributed(a):
        raise ValueError(
            f"the factors {tuple(b.shape)} and {tuple(a.shape)} lie in parts on "
            "several processes, and a rule of pairs needs them whole: use rule='adamw'"
        )
    rows, columns = group["inner_axes"]
    turned = group | {"rows": rows, "columns": columns, "transpose": True}
    outer, inner = _stack(b, group, rule_of, None), _stack(a, turned, rule_of, None)
    (_, m, r), (_, n, s) = outer.shape, inner.shape
    if r != s or outer.shape[0] != inner.shape[0]:
        raise ValueError(
            f"{tuple(b.shape)} and {tuple(a.shape)} are no factors B (m, r) and A "
            "(r, n) of a product: list the parameters of the group as B, A, B, A, ..."
        )
    by = float(group["radius"]) * size((m, n), group["scale"], "spectrum")
    jobs = [
        Job(p, group, (replace(stack, scale=by, inner=t, key=(*stack.key, t, m, n)),))
        for p, stack, t in ((b, outer, False), (a, inner, True))
    ]
    jobs[0].other, jobs[1].other = jobs[1], jobs[0]
    return tuple(jobs)


def _stack(p: Tensor, settings: dict, rule_of: Callable, part: int | None) -> Stack:
    """Return the stack of a parameter, or of its part of this number."""
    rule = rule_of(settings["rule"])
    layout = Layout(**{k: settings[k] for k in Layout.__dataclass_fields__})
    rows = None if part is None else (settings["start"], settings["length"])
    outline = sharded.outline(p)
    x = outline if rows is None else outline.narrow(layout.rows, *rows)
    shape = tuple(layout.split(x).shape) if p.ndim > 1 else (1, 1, len(p))
    options = _options(rule, settings["options"], p)
    to_rms = rule.sized == "measured" and settings["scale"] == "rms"
    end = "" if part is None else f".{part}"
    return Stack(
        rule=rule,
        options=options,
        layout=layout,
        rows=rows,
        shape=shape,
        scale=_scale(p, shape, rule, layout, settings),
        to_rms=to_rms,
        check_finite=_checks_finite(rule, options, p),
        names=tuple(f"{name}{end}" for name in rule.state),
        key=_key(p, shape, rule, options, layout, to_rms),
    )


def _options(rule: Rule, given: dict, p: Tensor) -> dict:
    """The rule's options; iterations run in bfloat16 where that is fast and enough."""
    options = dict(given)
    on_gpu = sharded.local(p).is_cuda
    if on_gpu and p.dtype == torch.float32 and rule.iterates(options):
        options.setdefault("dtype", torch.bfloat16)
    return options


def _scale(p: Tensor, shape, rule: Rule, layout: Layout, settings: dict) -> float:
    """How long a step of learning rate 1 is."""
    m, n = shape[1:]
    if layout.transpose and rule.sized == "spectrum":
        m, n = n, m  # outputs and inputs again
    sides = (m, n) if p.ndim > 1 else (n,)
    kernel = layout.kernel(tuple(p.shape))
    by = size(sides, settings["scale"], rule.sized, kernel)
    return float(settings["radius"]) * by


def _checks_finite(rule: Rule, options: dict, p: Tensor) -> bool:
    """On a GPU looking waits for the queue, as factorisations do anyway."""
    if sharded.local(p).is_cuda:
        return rule.pieces and not rule.iterates(options)
    return not (rule.entrywise or rule.factor)


def _key(p, shape, rule: Rule, options: dict, layout: Layout, to_rms: bool) -> tuple:
    """Equal for stacks of one call: of one shape, or of near ones that are padded."""
    m, n = shape[1:]
    if rule.pads(options) and not to_rms and m * n <= PADDED:
        m, n = _rounded(m), _rounded(n)
    parts = ()
    if sharded.cut_axes(p):  # of equal shape on each process, if on one
        parts = (tuple(p.shape), p.device_mesh, p.placements, layout)
    said = tuple((k, repr(v)) for k, v in sorted(options.items()))
    device = str(sharded.local(p).device)
    return rule.name, said, to_rms, device, p.dtype, m, n, parts
