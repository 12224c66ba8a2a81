"""Checks of param_groups and parameters, made before a step moves anything.

Each check raises ValueError with a message of one sentence; for an unknown name the
message gives the nearest known one.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from math import inf

import torch
from torch import Tensor

from symlab.symopt.job import Job, job_of, pair_of
from symlab.symopt.layout import ALONG, Layout
from symlab.symopt.names import unknown
from symlab.symopt.roles import ROLES
from symlab.symopt.rule import ADAMW, BY_PARTS, Rule, check_size
from symlab.symopt.sharded import local

DEFAULTS = {
    "rule": "spectral",
    "role": "",
    "momentum": 0.95,
    "nesterov": True,
    "ema": True,
    "momentum_dtype": None,
    "stochastic_rounding": False,
    "decay": "lr",
    "base_lr": None,
    "scale": "rms",
    "radius": 1.0,
    "shift": False,
    "options": {},
    "parts": (),
    "inner_axes": (0, 1),
    **asdict(Layout()),
}
# keys that schedulers and trainers add to groups, or that name them
OTHERS = (
    "params",
    "param_names",
    "name",
    "initial_lr",
    "max_lr",
    "min_lr",
    "swa_lr",
    "max_momentum",
    "base_momentum",
)
SWITCHES = (
    "nesterov",
    "ema",
    "maximize",
    "compile",
    "shift",
    "transpose",
    "flat",
    "stochastic_rounding",
)
DECAYS = ("lr", "independent", "cautious")
DTYPES = ("float32", "float64", "bfloat16", "float16")
PART = ("role", "start", "length", "rule", "options", "pieces", "along", "transpose")


class NotFinite(RuntimeError):
    """Raised if a gradient has an infinite or NaN entry; no parameter is changed."""


def check_group(group: Mapping, known: Iterable[str] | None, rule_of: Callable) -> None:
    """Raise ValueError for optimizer settings that no parameter could have.

    group: one dict of the optimizer's param_groups, with lr, rule and all other
        settings.
    known: the names of all settings; None if users may have added keys of their own, as
        they may after the optimizer is made.
    rule_of: a function from a rule's name to its `Rule`.
    """
    for key in group:
        if known is not None and key not in known:
            error = unknown("setting of a group", key, known)
            raise ValueError(
                f"{error}; add keys of your own once the optimizer is made"
            )
    for name in ("lr", "weight_decay", "eps"):
        check_range(name, group[name], 0, inf)
    if group["base_lr"] is not None:
        check_range("base_lr", group["base_lr"], 0, inf)
    for name in SWITCHES:
        if not isinstance(group[name], bool):
            raise ValueError(f"{name} must be True or False, not {group[name]!r}")
    _check_axes("rows and columns", (group["rows"], group["columns"]))
    _check_axes("inner_axes", group["inner_axes"])
    betas = group["betas"]
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas must be two numbers, not {betas}")
    for beta in betas:
        check_range("each of betas", beta, 0, 1)
    if group["decay"] not in DECAYS:
        raise unknown("decay", group["decay"], DECAYS)
    if group["rule"] == ADAMW:
        _check_adamw(group)
        return
    check_range("momentum", group["momentum"], 0, 1)
    check_size(group["scale"])
    check_size(group["radius"], "radius")
    if group["momentum_dtype"] not in (None, *DTYPES):
        raise unknown("momentum_dtype", group["momentum_dtype"], DTYPES)
    check_rule(group, rule_of)


def _check_axes(what: str, axes) -> None:
    whole = isinstance(axes, tuple | list) and all(type(a) is int for a in axes)
    if not whole or len(axes) != 2 or axes[0] == axes[1]:
        raise ValueError(f"{what} must be two different axes, not {axes}")


def _check_adamw(group: Mapping) -> None:
    if group["decay"] == "cautious" and group["weight_decay"]:
        raise ValueError(
            "the decay 'cautious' is not for torch's AdamW: use 'lr', 'independent' or "
            "weight_decay=0"
        )
    for key in ("momentum_dtype", "stochastic_rounding"):
        if group[key]:
            raise ValueError(
                f"{key} is not for torch's AdamW, which keeps its own precision: "
                "leave it out of this group"
            )


def check_rule(said: Mapping, rule_of: Callable) -> None:
    """Raise ValueError for a rule, options or pieces that a param_group cannot have.

    said: the settings of a whole param_group, or of one of the `parts` (row ranges)
        that it lists.
    rule_of: a function from a rule's name to its `Rule`.
    """
    if said["rule"] == BY_PARTS:
        if not said["parts"]:
            raise ValueError(f"a group with the rule {BY_PARTS!r} needs parts=")
        for part in said["parts"]:
            for key in part:
                if key not in PART and key not in ("scale", "radius"):
                    raise unknown("setting of a part", key, (*PART, "scale", "radius"))
            check_count("length", part["length"])
            check_rule({**said, "parts": (), **part}, rule_of)
        return
    if said.get("parts"):
        raise ValueError(f"a group with parts= has the rule {BY_PARTS!r}")
    rule = rule_of(said["rule"])
    if said["role"] not in (*ROLES, ""):
        raise unknown("role", said["role"], ROLES)
    rule.check(said["options"])
    check_count("pieces", said["pieces"])
    if said["along"] not in ALONG:
        raise unknown("along", said["along"], ALONG)
    if rule.needs_shift(said["options"]) and not said["shift"]:
        raise ValueError(
            f"{rule.name} centres, and its weight has no shift symmetry that centring "
            "could respect (a softmax must follow it): use a rule without, or say "
            "shift=True if you know better"
        )
    if rule.sized == "pairs" and said["role"] not in ("gate_up", ""):
        raise ValueError(
            f"{rule.name} is for a fused gate and up whose rows could be paired, and "
            f"not for the role {said['role']!r}: use row_norm"
        )


def check_range(what: str, value, least: float, below: float) -> None:
    """Raise ValueError unless value is a number, not NaN, with least <= value < below.

    what: the name of the setting, for the message.
    """
    if isinstance(value, str | bool | None):
        raise ValueError(f"{what} must be a number, not {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be a number, not {value!r}") from None
    if not least <= number < below:
        upper = "finite" if below == inf else f"below {below:g}"
        raise ValueError(f"{what} must be {least:g} or more and {upper}, not {value}")


def check_count(what: str, value) -> None:
    """Raise ValueError unless value is an int of at least 1.

    what: the name of the setting, for the message.
    """
    if type(value) is not int or value < 1:
        raise ValueError(f"{what} must be a whole number above 0, not {value!r}")


def check_parameter(p: Tensor, group: Mapping, rule_of: Callable) -> None:
    """Raise ValueError unless the update rule of a param_group can be applied to p.

    It cannot for complex entries, a vector under a rule for matrices, axes that p does
    not have, and parts or pieces that do not divide its rows.

    group: the settings. rule_of: a function from a rule's name to its `Rule`.
    """
    if p.is_complex():
        raise ValueError("it is complex, and SymOpt is for real parameters")
    if getattr(p, "_fsdp_flattened", False):  # torch's own mark
        raise ValueError(
            "FullyShardedDataParallel has flattened it, so that no matrix is left to "
            "act on: use torch.distributed.fsdp.fully_shard, with the groups planned "
            "before by `param_groups`"
        )
    if group["stochastic_rounding"] and p.dtype != torch.bfloat16:
        raise ValueError(f"stochastic_rounding is for bfloat16, and it is {p.dtype}")
    if group["rule"] == ADAMW:
        return
    for part in group["parts"] or (group,):
        rule: Rule = rule_of(part["rule"])
        if p.ndim < 2 and not rule.vectors:
            raise ValueError(
                f"it is a vector, and {rule.name} is for matrices: give it rule='adamw'"
            )
    if p.ndim > 1:
        for axis in (group["rows"], group["columns"]):
            if not -p.ndim <= axis < p.ndim:
                raise ValueError(f"it has no axis {axis}: see rows and columns")
        if group["rows"] % p.ndim == group["columns"] % p.ndim:
            raise ValueError("rows and columns are the same axis of it")
    if group["parts"]:
        _check_parts(p, group)
    if not _is_paired(group, rule_of):
        job_of(p, group, rule_of)  # raises where pieces do not divide it


def _is_paired(group: Mapping, rule_of: Callable) -> bool:
    return group["rule"] not in (ADAMW, BY_PARTS) and rule_of(group["rule"]).paired


def jobs_of(group: Mapping, rule_of: Callable) -> list[Job]:
    """Return one `Job` per parameter of a param_group that has a gradient.

    A job holds what a step needs to know about a parameter. The result is [] for a
    group that torch's AdamW steps.

    rule_of: a function from a rule's name to its `Rule`. Raises ValueError if a rule
    for the two factors of a low-rank product gets an odd number of parameters.
    """
    params = group["params"]
    if group["rule"] == ADAMW:
        return []
    if not _is_paired(group, rule_of):
        return [job_of(p, group, rule_of) for p in params if p.grad is not None]
    if len(params) % 2:
        raise ValueError(
            f"{group['rule']} is for pairs of factors B and A, and its group has "
            f"{len(params)} parameters: list them as B, A, B, A, ..."
        )
    pairs = zip(params[::2], params[1::2], strict=True)
    jobs = [job for b, a in pairs for job in pair_of(b, a, group, rule_of)]
    return [job for job in jobs if job.p.grad is not None]


def _check_parts(p: Tensor, group: Mapping) -> None:
    rows = group["rows"]
    end = 0
    for part in group["parts"]:
        if part["start"] != end:
            raise ValueError(
                f"its parts leave out or repeat rows from {end}: each must start "
                "where the one before ends"
            )
        end += part["length"]
    if end != p.shape[rows]:
        raise ValueError(f"its parts have {end} rows, and it has {p.shape[rows]}")


@torch.no_grad()
def check_storage(groups: list[dict]) -> None:
    """Raise ValueError if two parameters of the param_groups share memory.

    A step would update such memory twice.
    """
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


# --- gradients -----------------------------------------------------------------------


def check_gradients(params: list[Tensor], name_of: Callable[[Tensor], str]) -> None:
    """Raise NotFinite if a gradient of these parameters has an infinite or NaN entry.

    A polar factor would spread the entry over the whole matrix, and a factorisation
    would fail in the middle of the step.

    name_of: a function from a parameter to its name in the message.
    """
    params = [p for p in params if p.grad.numel()]
    if not params:
        return
    largest = torch._foreach_norm([p.grad for p in params], float("inf"))
    finite = torch.isfinite(torch.stack([x.float() for x in largest]))
    if bool(finite.all()):
        return
    bad = [p for p, ok in zip(params, finite.tolist(), strict=True) if not ok]
    more = f" and of {len(bad) - 1} more" * (len(bad) > 1)
    raise NotFinite(
        f"the gradient of {name_of(bad[0])}{more} is not finite, and no parameter was "
        "moved: skip this step, or look for the overflow"
    )
