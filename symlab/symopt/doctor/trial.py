"""Take a few training steps that are undone later, and record what each parameter does.

    with as_found(model, optimizers) as start:
        trial = Trial(model, optimizers)
        trial.look(batch, loss)         the role of each parameter
        trial.train(objective, steps)   gradients, and whether weights move
        trial.compare(start)            updates alone: their size, and rounding

The update alone is measured in a step from weights of 0, in which nothing is decayed
and nothing is lost to rounding. `findings` evaluates the recorded `Weight`s.
"""

import inspect
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor, nn

from symlab.symopt.doctor.as_found import listed
from symlab.symopt.presets import PRESETS
from symlab.symopt.registry import RULES
from symlab.symopt.roles import GROUPS, Block, roles, unwrapped
from symlab.symopt.rule import ADAMW

SPARSE = ("SparseAdam", "SGD", "Adagrad")  # take sparse gradients
HALF = (torch.float16, torch.bfloat16)


@dataclass(eq=False)
class Weight:
    """One parameter, and what a few trial steps of training did with it.

    name, p: the parameter. block: its role in the model.
    places: the (optimizer, param_group) pairs that list it.
    gradient: 'some' if a step gave it a nonzero gradient, 'zero' if all were zero,
        'none' without any.
    finite: whether the last gradient was finite.
    sparse: whether it got a sparse gradient that its optimizer does not accept.
    moved: whether the steps changed it.
    lost: the fraction of nonzero entries of an update that rounding removes.
    size: the root mean square of the update that a Gaussian gradient gives, divided by
        lr.
    axis: for a stack of experts, the axis that enumerates them.
    reached: (E,), which of these experts had a gradient.
    idle, copies: as text, the experts without a gradient, and those that are equal.
    """

    name: str
    p: Tensor
    block: Block | None = None
    places: list[tuple] = field(default_factory=list)
    gradient: str = "none"
    finite: bool = True
    sparse: bool = False
    moved: bool = False
    lost: float = 0.0
    size: float = 0.0
    axis: int | None = None
    reached: Tensor | None = None
    idle: str = ""
    copies: str = ""

    @property
    def group(self) -> dict:
        return self.places[0][1] if self.places else {}

    @property
    def lr(self) -> float:
        return float(self.group.get("lr", 1.0))

    @property
    def role(self) -> str:
        return self.block.role if self.block else ""

    @property
    def kind(self) -> str:
        """The kind of update that its optimizer makes.

        It is 'matrix' for a rule that mixes rows (as a polar factor does), 'free' for
        another normalised rule, 'adam', or '' for an unknown optimizer.
        """
        optimizer = type(self.places[0][0]).__name__.lower() if self.places else ""
        if "rule" in self.group:
            name = _name(self.group["rule"])
            rule = RULES.get(name, self.group["rule"])
            mixes = getattr(rule, "sized", "") == "spectrum"
            mixes = mixes or getattr(rule, "pieces", False)
            return "adam" if name == ADAMW else "matrix" if mixes else "free"
        if "muon" in optimizer:
            return "matrix" if self.group.get("use_muon", True) else "adam"
        return "adam" if "adam" in optimizer else ""

    @property
    def is_normalised(self) -> bool:
        """Whether the size of its update is independent of the size of its gradient."""
        scaled = self.group.get("options", {}).get("alpha")
        return self.kind in ("matrix", "free") and not scaled

    def was_chosen(self, **fields) -> bool:
        """Return whether a preset of SymOpt gives its role these settings.

        fields: settings such as lr_scale=1.0.

        A preset counts only if its rules are those of all param_groups of the
        optimizer.
        """
        groups = self.places[0][0].param_groups
        pairs = [(g.get("role"), _name(g.get("rule"))) for g in groups]
        for preset in PRESETS.values():
            rules = {role: _name(s.rule) for role, s in preset.items()}
            if all(role and rules.get(role, ADAMW) == rule for role, rule in pairs):
                said = preset.get(self.role)
                if all(getattr(said, k, None) == v for k, v in fields.items()):
                    return True
        return False

    def observe(self) -> None:
        """Record whether this step's gradient is present, finite, sparse and nonzero.

        A sparse gradient that the optimizer does not accept is replaced by a dense one.
        """
        g = self.p.grad
        if g is None:
            return
        if g.is_sparse:
            takes = {type(o).__name__ for o, _ in self.places} <= set(SPARSE)
            self.sparse = self.sparse or not takes
            self.p.grad = g.coalesce() if takes else g.to_dense()
            g = self.p.grad.values() if takes else self.p.grad
        self.finite = bool(torch.isfinite(g).all())
        if self.gradient != "some":
            self.gradient = "some" if bool(g.any()) else "zero"
        if self.axis is not None:
            some = g.movedim(self.axis, 0).flatten(1).ne(0).any(1)
            self.reached = some if self.reached is None else self.reached | some

    def note_rounding(self, now: Tensor, start: Tensor) -> None:
        """Set `lost`, the fraction of the update's nonzero entries that rounding
        removes.

        It must be called while self.p holds the update in place of the weights.

        now, start: the weights at present and before the trial steps.

        An entry whose update, even when doubled, is rounded away could not move under
        rounding to nearest. If 1 % or more of such entries have moved, rounding is
        stochastic or compensated, and `lost` stays 0.
        """
        update, x = self.p.detach().double(), now.double()
        there = update != 0
        same = there & ((x + update).to(now.dtype) == now)
        far = there & ((x + 2 * update).to(now.dtype) == now)
        anyway = (now != start)[far].double().mean() if bool(far.any()) else 0.0
        if bool(there.any()) and anyway < 0.01:
            self.lost = float(same.sum() / there.sum())


def _name(rule) -> str:
    return getattr(rule, "name", rule)


class Trial:
    """A few training steps of a model and its optimizers, and what each parameter did.

    clip: the largest norm of the gradients; None for no clipping.

    weights: the model's parameters, as `Weight`s. others: parameters that only the
        optimizers have. all: both.
    steps: the number of steps taken. failed: the loss, if it was not finite.
    norms: the norms of the whole gradient before clipping.
    unseen: why roles are unknown, '' if they are known.
    mixtures: for each mixture of experts, the `Weight`s of each expert.
    """

    def __init__(self, model: nn.Module, optimizers: list, clip: float | None = None):
        self.model, self.optimizers, self.clip = model, optimizers, clip
        named = unwrapped(model).named_parameters()
        found = {id(p): Weight(name, p) for name, p in named}
        self.weights = list(found.values())
        for p, name, o, g in listed(optimizers):
            weight = found.setdefault(id(p), Weight(name, p))
            weight.places.append((o, g))
        self.all = list(found.values())
        self.others = self.all[len(self.weights) :]
        self.steps, self.failed, self.unseen = 0, None, ""
        self.norms: list[float] = []
        self.mixtures: list[list[list[Weight]]] = []

    def look(self, batch, loss: Callable | None) -> None:
        """Find the role of each parameter, and which are experts, from one forward
        pass.

        batch, loss: as for `checkup.check`: the model is called with the batch, or, if
            `loss` is given, as loss(model, batch) calls it.
        """
        calls = []
        if loss is not None:
            note = lambda module, *given: calls.append(given)  # noqa: E731
            hook = self.model.register_forward_pre_hook(note, with_kwargs=True)
            try:
                with torch.no_grad():
                    loss(self.model, batch)
            finally:
                hook.remove()
        try:
            example = _example(self.model, *calls[0]) if calls else batch
            blocks = roles(self.model, example)
        except ValueError as error:
            self.unseen = str(error)
            return
        for w in self.weights:
            w.block = blocks.get(w.name)
        routers = [w.name for w in self.weights if w.role == "router"]
        self.mixtures = _lists(unwrapped(self.model), self.weights, routers)
        for w in self.weights if routers else ():
            w.axis = _stack_axis(w)
            if w.axis is not None:
                self.mixtures.append([[w]] * w.p.shape[w.axis])

    def train(self, objective: Callable[[], Tensor], steps: int) -> None:
        """Take up to `steps` training steps; stop if the loss or a gradient is not
        finite.

        objective: a function that returns the loss, a scalar with a gradient.
        """
        params = [w.p for w in self.all]

        def evaluate() -> Tensor:
            for p in params:
                p.grad = None
            value = objective()
            value.backward()
            return value

        for _ in range(steps):
            value = evaluate()
            for w in self.all:
                w.observe()
            if not isfinite(value.item()):
                self.failed = value.item()
            if self.failed is not None or not all(w.finite for w in self.all):
                return
            if self.clip is not None:
                norm = nn.utils.clip_grad_norm_(params, self.clip)
                self.norms.append(float(norm))
            for o in self.optimizers:
                o.step(evaluate) if _needs_closure(o) else o.step()
            self.steps += 1

    def compare(self, start: Callable[[Tensor], Tensor]) -> None:
        """Record which parameters have moved, equal experts, and the size and rounding
        of updates.

        start: a function from a parameter to its values before the steps.
        """
        if not self.steps:
            return
        for w in self.weights:
            w.moved = not torch.equal(w.p, start(w.p))
        for experts in self.mixtures:
            compare_experts(experts)
        if not any(_needs_closure(o) for o in self.optimizers):
            self._round(start)
            self._measure()

    @torch.no_grad()
    def _round(self, start: Callable[[Tensor], Tensor]) -> None:
        """The next update, and how much of it these weights would take."""
        watched = [w for w in self.weights if w.gradient == "some" and w.places]
        watched = [w for w in watched if w.p.dtype in HALF or not w.moved]
        if watched:
            now = [w.p.clone() for w in watched]
            self._step_from_zero()
            for w, x in zip(watched, now, strict=True):
                w.note_rounding(x, start(w.p))

    @torch.no_grad()
    def _measure(self) -> None:
        """Sizes of updates that matrix rules make of Gaussian gradients, at first."""
        watched = [w for w in self.weights if w.kind == "matrix" and w.lr > 0]
        for w in self.all:
            w.p.grad = None
        draws = torch.Generator().manual_seed(0)
        for w in watched:
            w.p.grad = torch.randn(w.p.shape, generator=draws).to(w.p)
        for o in self.optimizers:
            o.state = defaultdict(dict)
        if watched:
            self._step_from_zero()
        for w in watched:
            w.size = float(w.p.double().square().mean().sqrt()) / w.lr

    def _step_from_zero(self) -> None:
        for w in self.all:
            w.p.zero_()
        for o in self.optimizers:
            o.step()


def _needs_closure(optimizer) -> bool:
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def _example(model: nn.Module, args: tuple, kwargs: dict):
    """Return the arguments of a call as `roles` takes them."""
    if not args or not kwargs:
        return args or kwargs
    call = inspect.signature(unwrapped(model).forward)
    return dict(call.bind_partial(*args).arguments) | kwargs


# --- experts -------------------------------------------------------------------------


def _stack_axis(w: Weight) -> int | None:
    """Return the axis of a stack that counts its matrices, None for other weights."""
    if w.p.ndim != 3 or w.role not in GROUPS or w.role == "convolution":
        return None
    axes = {0, 1, 2} - {w.block.rows % 3, w.block.columns % 3}
    return axes.pop() if len(axes) == 1 else None


def _lists(model, weights: list[Weight], routers: list[str]) -> list[list]:
    """Return mixtures in module lists beside a router: per expert, its Weights."""
    found = []
    for prefix, module in model.named_modules():
        dot = f"{prefix}." if prefix else ""
        inside = [r.removeprefix(dot) for r in routers if r.startswith(dot)]
        if not any(not any(s.isdigit() for s in r.split(".")) for r in inside):
            continue
        for own, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) > 1:
                starts = [f"{dot}{own}.{e}." for e in range(len(child))]
                experts = [[w for w in weights if w.name.startswith(s)] for s in starts]
                if len({tuple(w.p.shape for w in expert) for expert in experts}) == 1:
                    found.append(experts)
    return found


def compare_experts(experts: list[list[Weight]]) -> None:
    """Record on each parameter which experts of its mixture are idle or equal.

    experts: for each expert of one mixture, its parameters.

    `idle` names the experts without a gradient, `copies` those that are equal bit for
    bit.
    """

    def hit(w: Weight, e: int) -> bool:
        some = w.gradient == "some"
        return some and (w.reached is None or bool(w.reached[e]))

    used = [e for e, ws in enumerate(experts) if any(hit(w, e) for w in ws)]
    rest = [e for e in range(len(experts)) if e not in used]
    for e in rest if used else ():
        for w in experts[e]:
            w.idle = _numbers(rest, len(experts))
    alike: dict[tuple, list[int]] = {}
    for e in used:  # sums first, which are one pass over all experts
        sums = tuple(float(x.double().sum()) for x in _matrices(experts[e], e))
        alike.setdefault(sums, []).append(e)
    for sums, same in alike.items():
        first = _matrices(experts[same[0]], same[0])
        same = [e for e in same if _equal(first, _matrices(experts[e], e))]
        for e in same if sums and len(same) > 1 else ():
            for w in experts[e]:
                w.copies = _numbers(same, len(experts))


def _equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def _matrices(expert: list[Weight], e: int) -> list[Tensor]:
    """Return an expert's matrices, not its biases, which may all begin at 0."""
    parts = [w.p if w.axis is None else w.p.select(w.axis, e) for w in expert]
    return [x.detach() for x in parts if x.ndim > 1]


def _numbers(experts: list[int], of: int) -> str:
    some = ", ".join(map(str, experts[:6])) + (", ..." if len(experts) > 6 else "")
    return f"{len(experts)} of {of} experts ({some})"


# --- ties ----------------------------------------------------------------------------


def parted_ties(model: nn.Module) -> set[int]:
    """Return ids of parameters that a Hugging Face model declares tied but that are
    separate.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    parted: set[int] = set()
    for prefix, module in model.named_modules():
        dot = f"{prefix}." if prefix else ""
        ties = getattr(module, "all_tied_weights_keys", None) or {}
        pairs = [(named.get(dot + a), named.get(dot + b)) for a, b in ties.items()]
        config = getattr(module, "config", None)
        if getattr(config, "tie_word_embeddings", False) is True:
            ends = ("get_input_embeddings", "get_output_embeddings")
            found = [getattr(module, end, lambda: None)() for end in ends]
            pairs.append(tuple(getattr(end, "weight", None) for end in found))
        for a, b in pairs:
            if a is not None and b is not None and a is not b:
                parted |= {id(a), id(b)}
    return parted
