"""SymOpt: each weight block gets an update that is equivariant under its group.

    optimizer = SymOpt(model, lr=1e-3)           roles and rules by `describe(model)`
    optimizer = SymOpt(model, preset="muon")     a relative
    optimizer = SymOpt([{"params": [w], "rule": "row_norm", "lr": 0.02}, ...])

An ordinary torch optimizer: param_groups, schedulers, GradScaler, DistributedData-
Parallel, and a state_dict that comes back bit for bit. Parameters without a group are
torch's own AdamW; `steps` has the others.

Parameters may be sharded (`fully_shard`, any DTensor); the state is, as they are. Roles
show in a forward pass of the whole model, so they are planned before, or on another:

    with torch.device("meta"):
        groups = param_groups(Decoder(config), lr=1e-3, example=tokens)
    fully_shard(model)
    optimizer = SymOpt(model, groups=groups)
"""

import math
from collections.abc import Iterable
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.optimizer import Optimizer

from symlab.symopt.layout import ALONG, Layout
from symlab.symopt.presets import param_groups
from symlab.symopt.registry import ADAMW, RULES
from symlab.symopt.roles import unwrapped
from symlab.symopt.sharded import local, local_grad
from symlab.symopt.steps import Job, take

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

    preset, overrides, example: as in `describe`; for a model only. groups: what
    `param_groups` said of a model of the same names, their lr and weight_decay with it.
    With the scale 'rms' updates are as large as AdamW's, so that AdamW's lr and
    weight_decay fit.
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
        groups: list[dict] | None = None,
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
        take(jobs)
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
            [local(p) for p in params],
            [local_grad(p) for p in params],
            [local(s["exp_avg"]) for s in states],
            [local(s["exp_avg_sq"]) for s in states],
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


# --- groups --------------------------------------------------------------------------


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
    job = Job(p, {}, group)  # raises where heads do not divide
    if not math.isfinite(job.step_size):
        raise ValueError(f"lr, radius and scale of {who} make no number")


@torch.no_grad()
def _check_storage(groups: list[dict]) -> None:
    """Two parameters over the same memory would be stepped twice."""
    spans = []
    for p in (local(p) for g in groups for p in g["params"]):
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
