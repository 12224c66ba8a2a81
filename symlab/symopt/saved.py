"""Match a saved state_dict to an optimizer, by parameters' names if both have them.

torch's own load goes by the order of parameters and accepts any state. Here the
momentum or rule of another parameter, the state of another optimizer and a state of
another shape are errors with a message that says so.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from symlab.symopt.names import unknown
from symlab.symopt.registry import RULES
from symlab.symopt.rule import ADAMW, BY_PARTS

OF_ADAMW = ("step", "exp_avg", "exp_avg_sq")
MOMENTUM = "momentum_buffer"
IDENTITY = ("params", "param_names")


def matched(saved: dict, groups: list[dict], rule_of: Callable) -> dict:
    """Return a saved state_dict rearranged to the order of an optimizer's param_groups.

    saved: the state_dict. One of torch's AdamW is accepted if all groups are AdamW.
    groups: the optimizer's param_groups.
    rule_of: a function from a rule's name to its `Rule`.

    If both sides have `param_names`, parameters are found by name, in whatever order
    and groups; each group gets the settings with which its parameters were saved.
    Otherwise they are matched by order. Raises ValueError if the state does not fit.
    """
    theirs = saved["param_groups"]
    if any("rule" not in g for g in theirs):
        theirs = _from_adamw(saved, groups)
    named = all("param_names" in g for g in (*theirs, *groups))
    if named:
        theirs = _by_name(theirs, groups)
    elif [len(g["params"]) for g in theirs] != [len(g["params"]) for g in groups]:
        raise ValueError(
            "the state has groups of "
            f"{[len(g['params']) for g in theirs]} parameters, and this optimizer of "
            f"{[len(g['params']) for g in groups]}: build it as it was when saved"
        )
    for group, own in zip(theirs, groups, strict=True):
        names = own.get("param_names") or [None] * len(own["params"])
        for i, p, name in zip(group["params"], own["params"], names, strict=True):
            state = saved["state"].get(i, {})
            _check_state(state, p, f"{name or 'a parameter'}", group, rule_of)
    return saved | {"param_groups": theirs}


def _from_adamw(saved: dict, groups: list[dict]) -> list[dict]:
    """The groups of another optimizer's state, where they are torch's AdamW's."""
    other = [g["rule"] for g in groups if g["rule"] != ADAMW]
    kept = {name for state in saved["state"].values() for name in state}
    if other or not kept <= set(OF_ADAMW):
        why = f"has groups with the rule {other[0]!r}" if other else "is AdamW's"
        raise ValueError(
            "the state is of another optimizer, as its groups have no rule and its "
            f"states are {sorted(kept)}; this one {why}: start without that state, or "
            "load torch.optim.AdamW's into groups with rule='adamw'"
        )
    taken = ("params", "param_names", "lr", "betas", "eps", "weight_decay")
    taken += ("maximize", "initial_lr")
    if len(saved["param_groups"]) != len(groups):
        raise ValueError(
            f"the state has {len(saved['param_groups'])} groups, and this optimizer "
            f"{len(groups)}: build it as it was when saved"
        )
    return [
        {k: v for k, v in own.items() if k not in IDENTITY}
        | {k: v for k, v in theirs.items() if k in taken}
        for theirs, own in zip(saved["param_groups"], groups, strict=True)
    ]


def _by_name(theirs: list[dict], groups: list[dict]) -> list[dict]:
    """The saved groups with the parameters of each of ours, by their names."""
    where = {
        name: (g, i)
        for g in theirs
        for name, i in zip(g["param_names"], g["params"], strict=True)
    }
    ours = {name for g in groups for name in g["param_names"]}
    for what, some, others in (
        ("the state has nothing of", ours, where),
        ("the optimizer has no parameter", where, ours),
    ):
        missing = sorted(n for n in some if n not in others)
        if missing:
            raise ValueError(f"{what} {missing[0]!r}: it is of another model")
    found = []
    for own in groups:
        names = own["param_names"]
        settings = [
            {k: v for k, v in where[n][0].items() if k not in IDENTITY} for n in names
        ]
        for name, said in zip(names, settings, strict=True):
            if said != settings[0]:
                key = next(k for k in said if said[k] != settings[0].get(k))
                raise ValueError(
                    f"{names[0]!r} and {name!r} are in one group here and were saved "
                    f"with another {key}: build the groups as they were"
                )
        said = where[names[0]][0] if names else own
        own_ids = {"params": [where[n][1] for n in names], "param_names": list(names)}
        found.append({key: own_ids.get(key, value) for key, value in said.items()})
    return found


def _check_state(state: Mapping, p: Tensor, who: str, group: dict, rule_of) -> None:
    expected = names_of(group, rule_of)
    for name, value in state.items():
        if name not in expected:
            raise ValueError(
                f"the state of {who} has {name!r}, and the rule {group['rule']!r} has "
                f"{', '.join(expected) or 'none'}: it is of another optimizer or rule"
            )
        whole = name in (MOMENTUM, *OF_ADAMW[1:])
        if whole and isinstance(value, Tensor) and value.shape != p.shape:
            raise ValueError(
                f"the state {name!r} of {who} has the shape {tuple(value.shape)}, and "
                f"{who} has {tuple(p.shape)}: it is of another model"
            )


def names_of(group: Mapping, rule_of: Callable) -> tuple[str, ...]:
    """Return the names of the entries that the state of a group's parameters may have.

    group: the param_group. rule_of: a function from a rule's name to its `Rule`.

    Raises ValueError for a rule that rule_of does not know.
    """
    if group["rule"] == ADAMW:
        return OF_ADAMW
    if group["rule"] == BY_PARTS:
        ends = [(f".{i}", part["rule"]) for i, part in enumerate(group["parts"])]
    else:
        ends = [("", group["rule"])]
    found = [MOMENTUM, *["draws"] * bool(group.get("stochastic_rounding"))]
    for end, name in ends:
        try:
            rule = rule_of(name)
        except ValueError:
            known = (*RULES, ADAMW)
            raise ValueError(
                f"the state was saved with a rule that this optimizer does not know; "
                f"give it the Rule when it is made ({unknown('rule', name, known)})"
            ) from None
        found += [f"{state}{end}" for state in rule.state]
    return tuple(found)
