"""SymOpt: each weight gets an update that is equivariant under its symmetry group.

    optimizer = SymOpt(model, lr=1e-3)           roles and rules by `describe(model)`
    optimizer = SymOpt(model, preset="muon")     a related optimizer
    optimizer = SymOpt([{"params": [w], "rule": "row_norm", "lr": 0.02}, ...])

It is an ordinary torch optimizer: it works with param_groups, schedulers, GradScaler
and DistributedDataParallel, and its state_dict is restored bit for bit. Parameters
without a symmetry group (gains, biases, unknown roles) are stepped by torch's AdamW.
The module `step` takes a step, `rule` defines rules, `checks` checks settings, and
`saved` restores a state_dict.

Parameters may be sharded (`fully_shard`, any DTensor); the state is sharded as they
are. Roles are found in a forward pass of the whole model, so they are planned before
sharding, or on another model:

    with torch.device("meta"):
        groups = param_groups(Decoder(config), lr=1e-3, example=tokens)
    model = Decoder(config)
    fully_shard(model)
    optimizer = SymOpt(model, groups=groups)
"""

from collections.abc import Iterable, Mapping
from math import inf

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from symlab.symopt.checks import (
    DEFAULTS,
    OTHERS,
    check_gradients,
    check_group,
    check_parameter,
    check_range,
    check_storage,
    jobs_of,
)
from symlab.symopt.job import Job, momentum_dtype
from symlab.symopt.presets import param_groups
from symlab.symopt.registry import RULES, rule_of
from symlab.symopt.roles import unwrapped
from symlab.symopt.rule import ADAMW, Rule
from symlab.symopt.saved import MOMENTUM, OF_ADAMW, matched, names_of
from symlab.symopt.sharded import is_distributed
from symlab.symopt.step import ready_adamw, take, take_adamw

RATES = ("lr", "weight_decay")  # may change between steps; other changes are planned


class SymOpt(Optimizer):
    """One optimizer for a whole model, or for groups of parameters.

    model_or_groups: a model, whose parameters get roles and rules (see `describe`); or
        tensors or param_groups, which get the settings below and no roles.
    lr, weight_decay: for a model, the base values from which `describe` shows those of
        each parameter; for groups, the defaults. With the scale 'rms' updates are as
        large as AdamW's, so that AdamW's lr and weight_decay are suitable.
    preset, overrides, example: as in `describe`; for a model only.
    groups: the result of `param_groups` for a model with the same parameter names,
        which includes lr and weight_decay; for a model only.
    betas, eps: for the parameters that AdamW steps.
    maximize: whether to maximise instead of minimise.
    compile: whether to compile each rule for each shape with torch.compile; what cannot
        be compiled runs uncompiled and is named in a warning.

    Settings of a group, with their defaults:

    rule ('spectral')     a name of `registry.RULES`, a user's `Rule`, 'adamw', or
                          'by parts'
    options ({})          keyword arguments of the rule, e.g. {"method": "svd"}
    momentum (0.95)       decay of the momentum; 0 for none
    nesterov (True)       whether the momentum is Nesterov's
    ema (True)            whether gradients are averaged; False sums them
    momentum_dtype (None) 'float32' for half-precision weights; None is their dtype
    stochastic_rounding   (False) round bfloat16 weights up or down at random, so that
                          they are right on average
    decay ('lr')          how weight_decay acts: 'lr' multiplies weights by 1 - lr *
                          weight_decay, 'independent' takes lr / base_lr in place of
                          lr, 'cautious' shrinks only entries that the step makes
                          smaller
    scale ('rms')         the length of updates: none, muon, rms, scion or a number, see
                          `size`
    radius (1.0)          a further factor on that length
    rows, columns         (-2, -1) the axes of outputs and inputs; a third is a stack
    flat (False)          whether it is a convolution, whose other axes count as inputs
    pieces, along         (1, 'rows') how many matrices lie side by side, for instance
                          heads, along 'rows', 'columns' or 'interleaved rows'
    transpose (False)     whether the rule gets inputs as rows
    shift (False)         whether one vector may be added to all rows without a change
                          of the loss, so that updates may be centred
    parts (())            for the rule 'by parts', for weights that hold several
                          matrices of unequal size: dicts with start and length along
                          `rows`, and rule, options, pieces, along, transpose, scale,
                          radius
    inner_axes ((0, 1))   for a rule of pairs, whose parameters are listed as B, A, B,
                          A: the axes of outputs and inputs of each A
    role ('')             the weight's role, for the reader and for checks
    base_lr (None)        what 'independent' decay divides lr by; None is the first lr

    Raises ValueError if a rule does not fit its parameter, for complex numbers, shared
    storage and flattened (FSDP1) parameters, and for settings that are unknown or out
    of range. `step` raises before any parameter has changed: RuntimeError for sparse
    gradients and changed shapes, and NotFinite for infinite or NaN gradients under
    rules that mix rows. Gradients are not checked under row norms, entrywise rules and
    AdamW, nor for sharded parameters, nor on a GPU, where a check would stall the
    queue, except for methods that factorise.
    """

    def __init__(
        self,
        model_or_groups: nn.Module | Iterable,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        *,
        preset: str = "symmetric",
        overrides: dict[str, dict | str | Rule] | None = None,
        example=None,
        groups: list[dict] | None = None,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        maximize: bool = False,
        compile: bool = False,
    ):
        defaults = DEFAULTS | {"lr": lr, "weight_decay": weight_decay, "betas": betas}
        defaults |= {"eps": eps, "maximize": maximize, "compile": compile}
        check_group(defaults, defaults, rule_of)
        asked = {"preset": preset, "overrides": overrides, "example": example}
        chosen = overrides or example is not None or preset != "symmetric"
        if isinstance(model_or_groups, nn.Module):
            if groups is None:
                groups = param_groups(model_or_groups, lr, weight_decay, **asked)
            elif chosen:
                raise ValueError(
                    "preset, overrides and example were for `param_groups`: these "
                    "groups say already what is done"
                )
            groups = _bound(groups, model_or_groups)
        elif chosen or groups is not None:
            raise ValueError(
                "preset, overrides, example and groups= need a model: say `rule` in "
                "the groups"
            )
        else:
            groups = model_or_groups
        self.rules: dict[str, Rule] = {}  # from outside, by name
        self._planned: list[tuple[dict, tuple, list[Job]]] = []
        super().__init__(groups, defaults)

    # --- groups ----------------------------------------------------------------------

    def add_param_group(self, group: dict) -> None:
        """Add a param_group, as for any torch optimizer, after a check of its settings.

        Raises ValueError if a setting is unknown or the rule does not fit a parameter;
        the group is not added then.
        """
        super().add_param_group(group)
        group, known = self.param_groups[-1], dict(self.rules)
        try:
            self._check(group, known=(*self.defaults, *OTHERS))
            if group["base_lr"] is None:  # schedules move lr; `independent` needs this
                group["base_lr"] = float(group["lr"])
            check_storage(self.param_groups)
        except ValueError:
            del self.param_groups[-1]
            self.rules = known
            raise

    def _rule_of(self, name: str) -> Rule:
        return rule_of(name, self.rules)

    def _check(self, group: dict, known: Iterable[str] | None = None) -> None:
        """Check a group; known: the keys that it may have, any if None."""
        _name_rules(group, self.rules)
        try:
            check_group(group, known, self._rule_of)
        except ValueError as error:
            if not (named := group.get("param_names")):
                raise
            more = f" and {len(named) - 1} more" * (len(named) > 1)
            raise ValueError(f"the group of {named[0]}{more}: {error}") from None
        names = group.get("param_names") or [None] * len(group["params"])
        for p, name in zip(group["params"], names, strict=True):
            try:
                check_parameter(p, group, self._rule_of)
            except ValueError as error:
                who = f"{name or 'a parameter'} {tuple(p.shape)}"
                raise ValueError(f"{who}: {error}") from None
        jobs_of(group, self._rule_of)  # raises where pairs are none

    # --- state -----------------------------------------------------------------------

    def __getstate__(self) -> dict:
        return super().__getstate__() | {"rules": self.rules}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self.rules = getattr(self, "rules", {})
        self._planned = []
        for group in self.param_groups:
            for key, value in DEFAULTS.items():
                group.setdefault(key, value)

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore a saved state, by parameters' names if both sides have them.

        state_dict: the saved state. One of torch.optim.AdamW is accepted if all groups
            are AdamW.

        Each tensor is restored bit for bit, or cast if the parameter's precision has
        changed. All settings of the groups, rules and learning rates included, become
        the saved ones, as in every torch optimizer; change them afterwards. Raises
        ValueError, and changes nothing, for a state of other parameters or shapes and
        for unknown rules.
        """
        state_dict = matched(state_dict, self.param_groups, self._rule_of)
        groups = zip(state_dict["param_groups"], self.param_groups, strict=True)
        for saved, own in groups:  # before anything of this optimizer is replaced
            self._check(own | saved | {"params": own["params"]})
        super().load_state_dict(state_dict)
        ids = [i for g in state_dict["param_groups"] for i in g["params"]]
        own = [(p, g) for g in self.param_groups for p in g["params"]]
        for i, (p, group) in zip(ids, own, strict=True):
            for name, value in state_dict["state"].get(i, {}).items():
                if name == "step":  # torch would share it with the saved state
                    count = torch.as_tensor(value, dtype=torch.float32)
                    self.state[p][name] = count.clone()
                elif name == "draws":
                    self.state[p][name] = value.clone()
                elif isinstance(value, Tensor):
                    kind = torch.promote_types(p.dtype, torch.float32)
                    kind = p.dtype if name in OF_ADAMW else kind
                    kind = momentum_dtype(p, group) if name == MOMENTUM else kind
                    self.state[p][name] = value.detach().to(p.device, kind, copy=True)

    # --- the step --------------------------------------------------------------------

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step; return the loss that `closure` computes, None without a
        closure.

        closure: a function that computes the loss and new gradients.

        Raises RuntimeError for sparse gradients and changed shapes and NotFinite for
        infinite or NaN gradients, before any parameter has changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        jobs = self._jobs()
        for i, job in enumerate(jobs):
            job.begin(self.state[job.p], i)
        self._check_gradients(jobs)
        plain = [(g, *self._ready(g)) for g in self.param_groups if g["rule"] == ADAMW]
        for group in plain:  # from here on parameters move
            take_adamw(*group)
        take(jobs)
        return loss

    def _ready(self, group: dict) -> tuple[list, list]:
        params = [p for p in group["params"] if p.grad is not None]
        return ready_adamw(params, [self.state[p] for p in params])

    def _jobs(self) -> list[Job]:
        """Parameters with a gradient and a rule; planned anew where that changed."""
        groups = [g for g in self.param_groups if g["rule"] != ADAMW]
        if len(groups) != len(self._planned):
            self._planned = [({}, (), [])] * len(groups)
        for k, group in enumerate(groups):
            settings, seen, _ = self._planned[k]
            now = tuple(
                (id(p), p.shape, p.dtype, p.grad.dtype, p.device)
                for p in group["params"]
                if p.grad is not None
            )
            said = {k: v for k, v in group.items() if k not in ("params", *RATES)}
            if now == seen and said == settings:
                continue
            self._check(group)
            jobs = jobs_of(group, self._rule_of)
            self._drop_states_of_other_rules(group)
            kept = said | {"options": dict(said["options"])}
            self._planned[k] = (kept, now, jobs)
        return [job for _, _, jobs in self._planned for job in jobs]

    def _drop_states_of_other_rules(self, group: dict) -> None:
        """A rule that was changed between steps begins anew, with its momentum."""
        names = names_of(group, self._rule_of)
        for p in group["params"]:
            for name in [n for n in self.state.get(p, {}) if n not in names]:
                del self.state[p][name]

    def _check_gradients(self, jobs: list[Job]) -> None:
        """Find what cannot be stepped before anything has moved."""
        for group in self.param_groups:
            for name in RATES:
                if not isinstance(group[name], Tensor):
                    check_range(name, group[name], 0, inf)
            for p in group["params"]:
                if p.grad is not None and p.grad.is_sparse:
                    raise RuntimeError(
                        "SymOpt takes no sparse gradients: build the embedding with "
                        "sparse=False"
                    )
        asked = [j.p for j in jobs if any(s.check_finite for s in j.stacks)]
        asked = [p for p in asked if not is_distributed(p)]
        check_gradients(asked, self._name_of)

    def _name_of(self, p: Tensor) -> str:
        for group in self.param_groups:
            names = group.get("param_names") or [""] * len(group["params"])
            for q, name in zip(group["params"], names, strict=True):
                if q is p:
                    return f"{name or 'a parameter'} {tuple(p.shape)}"
        return "a parameter"


def _name_rules(group: dict, known: dict[str, Rule]) -> None:
    """Put names for the rules of a group, and keep those from outside under theirs."""
    if not isinstance(group["options"], Mapping):
        raise ValueError(f"options must be a dict, not {group['options']!r}")
    group["options"] = dict(group["options"])
    group["parts"] = tuple(dict(part) for part in group["parts"])
    for said in (group, *group["parts"]):
        rule = said.get("rule")
        if not isinstance(rule, Rule):
            continue
        for there in (RULES.get(rule.name), known.get(rule.name)):
            if there is not None and there is not rule and there != rule:
                raise ValueError(
                    f"there is another rule {rule.name!r} already: give yours a name "
                    "of its own"
                )
        if rule.name not in RULES:
            known[rule.name] = rule
        said["rule"] = rule.name


def _bound(groups: list[dict], model: nn.Module) -> list[dict]:
    """The groups with the model's parameters of their names."""
    there = dict(unwrapped(model).named_parameters())
    named = [n for g in groups for n in g["param_names"]]
    for what, some, others in (
        ("the model has no parameter", named, there),
        ("no group has the parameter", there, named),
    ):
        if missing := [n for n in some if n not in others]:
            raise ValueError(
                f"{what} {missing[0]!r}: plan the groups on a model of the same names"
            )
    return [g | {"params": [(n, there[n]) for n in g["param_names"]]} for g in groups]
