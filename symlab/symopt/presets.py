"""The rule of each role: the layerwise rules of Lau & Su, and related optimizers.

    describe(model)                    one row per parameter: what SymOpt(model) will do
    describe(model, preset="muon")     the same for another optimizer
    param_groups(model)                the same as groups for SymOpt(other, groups=...)

A preset maps roles to settings; `overrides` are settings by role or by a pattern of
parameter names, and later ones take precedence:

    overrides={"embedding": {"lr": 0.02}, "*.router.weight": "adamw", "head": my_rule}

where my_rule is a user's `Rule`.
"""

from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from math import inf

from torch import Tensor, nn

from symlab.symopt.checks import DEFAULTS, check_parameter, check_range
from symlab.symopt.layout import Layout
from symlab.symopt.names import meant, unknown
from symlab.symopt.registry import RULES, rule_of
from symlab.symopt.roles import GROUPS, ROLES, Block, Part, roles
from symlab.symopt.rule import ADAMW, BY_PARTS, Rule, check_size, violated_by_adamw

HIDDEN = (
    "query",
    "key",
    "value",
    "qkv",
    "attention out",
    "gate",
    "up",
    "gate_up",
    "down",
    "matrix",
    "convolution",
    "adapter out",
    "adapter in",
)
TABLES = ("embedding", "tied embedding")
PIECED = ("query", "key", "value", "qkv", "attention out", "fused")


@dataclass(frozen=True)
class Settings:
    """How SymOpt updates the parameters of one role.

    rule: a name of `registry.RULES`, a `Rule`, or 'adamw'.
    lr: None stands for the optimizer's lr times lr_scale.
    weight_decay: None stands for the optimizer's, for hidden matrices, convolutions,
        adapters and fused weights, and for 0 for all others.
    ema: whether the momentum averages gradients; otherwise it sums them.
    per_piece: whether heads, and the halves of a fused gate and up projection, are
        updated as separate matrices.
    transpose: whether the rule gets inputs as rows.
    centred: whether the mean row is subtracted from updates; None does so if one vector
        may be added to all rows without a change of the loss.

    The other fields are as in SymOpt.
    """

    rule: str | Rule = ADAMW
    lr: float | None = None
    lr_scale: float = 1.0
    weight_decay: float | None = None
    momentum: float = 0.95
    nesterov: bool = True
    ema: bool = True
    momentum_dtype: str | None = None
    stochastic_rounding: bool = False
    decay: str = "lr"
    scale: str | float = "rms"
    radius: float = 1.0
    per_piece: bool = True
    transpose: bool = False
    centred: bool | None = None
    shift: bool | None = None
    options: tuple[tuple[str, object], ...] = ()

    def changed(self, changes: dict | str | Rule) -> "Settings":
        """Return a copy with other values of these fields, or other options of the
        rule.

        changes: {field or option: value}, or a rule.

        Raises ValueError for a name that is neither a field nor an option, and for
        numbers out of range.
        """
        changes = {"rule": changes} if isinstance(changes, str | Rule) else changes
        changes = dict(changes)
        changes.update(changes.pop("options", {}))
        names = [f.name for f in fields(self)]
        own = {k: v for k, v in changes.items() if k in names}
        rule = own.get("rule", self.rule)
        options = {} if rule != self.rule else dict(self.options)
        known = {} if rule == ADAMW else rule_of(rule).options
        for name, value in changes.items():
            if name in names or (rule == ADAMW and name in OPTIONS):
                continue  # AdamW has no options: a pattern may fit its biases, too
            if name not in known:
                raise unknown("setting or option", name, (*names, *known))
            options[name] = value
        done = replace(self, **own, options=tuple(sorted(options.items())))
        done.check()
        return done

    def check(self) -> None:
        """Raise ValueError if a number among these settings is out of range, or if a
        switch is not a bool.
        """
        for name in ("lr", "lr_scale", "weight_decay"):
            if (value := getattr(self, name)) is not None:
                check_range(name, value, 0, inf)
        for name in SWITCHES:
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, not {value!r}")
        for name in ("centred", "shift"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, bool):
                raise ValueError(f"{name} must be True, False or None, not {value!r}")
        check_range("momentum", self.momentum, 0, 1)
        check_size(self.scale)
        check_size(self.radius, "radius")
        if self.rule != ADAMW:
            rule_of(self.rule).check(dict(self.options))


OPTIONS = {name for rule in RULES.values() for name in rule.options}
SWITCHES = ("nesterov", "ema", "stochastic_rounding", "per_piece", "transpose")
MOMENTUM = (  # what a parameter has one of, whatever its parts
    "momentum",
    "nesterov",
    "ema",
    "momentum_dtype",
    "stochastic_rounding",
    "decay",
)
SPECTRAL = Settings("spectral")
PLAIN = {"nesterov": False, "scale": "none"}
SIGN = Settings("sign", nesterov=False, momentum=0.9, scale="scion", radius=3000.0)
SCION = {
    **dict.fromkeys(
        HIDDEN, replace(SIGN, rule="spectral", radius=50.0, per_piece=False)
    ),
    "embedding": replace(SIGN, rule="row_norm", radius=50.0),
    "tied embedding": SIGN,
    "head": SIGN,
    "router": replace(SIGN, rule="spectral", radius=50.0, centred=False),
    **dict.fromkeys(("gain", "bias"), replace(SIGN, rule="bias_rms", radius=50.0)),
}
ROWS = Settings("row_norm", weight_decay=0.0, lr_scale=3.0, options=(("floor", 1e-3),))
PRESETS: dict[str, dict[str, Settings]] = {
    "symmetric": {
        **dict.fromkeys(HIDDEN, SPECTRAL),
        **dict.fromkeys(("gate", "up", "gate_up"), Settings("row_then_spectral")),
        "down": Settings("row_then_spectral", transpose=True),
        "adapter out": Settings("low_rank"),
        "adapter in": Settings("low_rank", transpose=True),
        **dict.fromkeys(TABLES, ROWS),
        "head": ROWS,
        "router": Settings("spectral", weight_decay=0.0),
    },
    "adamw": {},
    "muon": dict.fromkeys(
        HIDDEN,
        Settings("spectral", per_piece=False, options=(("method", "newton_schulz"),)),
    ),
    "muoneq": dict.fromkeys(
        HIDDEN,
        Settings(
            "row_then_spectral",
            per_piece=False,
            options=(("method", "newton_schulz"),),
        ),
    ),
    "ssd": dict.fromkeys(
        GROUPS,
        Settings(
            "spectral", momentum=0.0, **PLAIN, centred=False, options=(("alpha", 1.0),)
        ),
    ),
    "polargrad": dict.fromkeys(
        HIDDEN,
        Settings("spectral", **PLAIN, per_piece=False, options=(("alpha", 1.0),)),
    ),
    "scion": SCION,
    "scion_constrained": {
        role: replace(s, weight_decay=1.0) for role, s in SCION.items()
    },
    "normuon": dict.fromkeys(HIDDEN, Settings("normuon", per_piece=False)),
    "aro": {
        role: Settings(
            "aro",
            nesterov=False,
            per_piece=False,
            # the side of the residual stream is rotated: outputs of these two
            transpose=role not in ("attention out", "down"),
        )
        for role in HIDDEN
    },
    "freon": dict.fromkeys(
        HIDDEN, Settings("freon", ema=False, nesterov=False, per_piece=False)
    ),
    "kaon": dict.fromkeys(
        HIDDEN, Settings("kaon", ema=False, nesterov=False, per_piece=False)
    ),
}


# --- the plan for a model ------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """One parameter, or a range of its rows with its own role, and its update settings.

    block: its shape, role and axes. settings: the settings of its role.
    lr, weight_decay: its own.
    parts: the row ranges, for a weight that holds several matrices of unequal size.
    partner: A, if this is B of a low-rank product B A under a rule that uses both
        factors.
    """

    block: Block
    settings: Settings
    lr: float
    weight_decay: float
    parts: tuple["Planned", ...] = ()
    partner: "Planned | None" = None

    @property
    def rule(self) -> Rule | None:
        """The update rule; None for torch's AdamW."""
        return None if self.settings.rule == ADAMW else rule_of(self.settings.rule)

    @property
    def centred(self) -> bool:
        """Whether its updates have a mean row of 0.

        Adding one vector to all rows of the gradient (a shift) then has no effect.
        """
        options = dict(self.settings.options)
        return self.rule is not None and self.rule.needs_shift(options)

    def group(self) -> dict:
        """Return the settings as a param_group of SymOpt, without the parameter.

        The values are numbers, strings and the like, except a user's own rules.
        """
        s, b = self.settings, self.block
        group = {"role": b.role, "rule": s.rule, "lr": self.lr}
        group["weight_decay"] = self.weight_decay
        if self.parts:
            group |= _momentum(self.parts[0].settings)
            group |= {"rule": BY_PARTS, "rows": b.rows, "columns": b.columns}
            return group | {"parts": tuple(p.part() for p in self.parts)}
        if s.rule == ADAMW:
            return group | {"decay": "lr" if s.decay == "cautious" else s.decay}
        layout = self.layout()
        group |= _momentum(s)
        group |= {k: getattr(layout, k) for k in Layout.__dataclass_fields__}
        group |= {"scale": s.scale, "radius": s.radius, "shift": b.shift}
        if self.partner is not None:
            group["inner_axes"] = (self.partner.block.rows, self.partner.block.columns)
        return group | {"options": dict(s.options)}

    def part(self) -> dict:
        """Return the settings as an entry of `parts` of a param_group, for a range of
        rows.
        """
        s, b, layout = self.settings, self.block, self.layout()
        own = {"role": b.role, "start": b.parts[0].start, "length": b.parts[0].length}
        own |= {"rule": s.rule, "options": dict(s.options)}
        own |= {"scale": s.scale, "radius": s.radius, "transpose": layout.transpose}
        return own | {"pieces": layout.pieces, "along": layout.along}

    def layout(self) -> Layout:
        """Return the `Layout` by which the parameter is split into matrices."""
        b, s = self.block, self.settings
        pieces, along = 1, "rows"
        if b.groups > 1:  # of a convolution, each a matrix of its own for any rule
            pieces, along = b.groups, "columns" if b.rows else "rows"
        elif s.per_piece and self.rule is not None and self.rule.pieces:
            if b.layout:
                pieces = 2
                along = "interleaved rows" if b.layout == "interleaved" else "rows"
            elif b.heads > 1:
                pieces, along = b.heads, "columns" if b.head_columns else "rows"
        return Layout(b.rows, b.columns, pieces, along, b.is_convolution, s.transpose)

    def row(self) -> dict:
        """Return the parameter's row of the table that `describe` makes, {column:
        value}.
        """
        notes = [self.block.note] + [p.broken() for p in self.parts or (self,)]
        rule = self.said()
        if self.parts:
            named = [(p.block.role, p.said()) for p in self.parts]
            alike = len({said for _, said in named}) == 1
            listed = "; ".join(f"{role}: {said}" for role, said in named)
            rule = f"{named[0][1]}, per part" if alike else listed
        return {
            "name": self.block.name,
            "shape": self.block.shape,
            "role": self.block.role,
            "group": self.block.group,
            "rule": rule,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "note": "; ".join(dict.fromkeys(n for n in notes if n)),
        }

    def said(self) -> str:
        """Return the rule and its options as text, such as 'row_norm (centred)'."""
        s, b = self.settings, self.block
        if self.rule is None:
            return ADAMW
        said = [f"{k}={v}" for k, v in s.options if k != "centred"]
        said = ["centred"] * bool(dict(s.options).get("centred")) + said
        piece = "half" if b.layout else "group" if b.groups > 1 else "head"
        said += [f"per {piece}"] * (self.layout().pieces > 1)
        said += ["transposed"] * s.transpose
        return f"{self.rule.name} ({', '.join(said)})" if said else self.rule.name

    def broken(self) -> str:
        """Return, as text, which factors of the symmetry group the update rule does not
        respect.

        The result is '' if the rule respects the parameter's whole group.
        """
        b, s = self.block, self.settings
        if b.role not in GROUPS:
            return ""
        if self.rule is None:
            broken = violated_by_adamw(GROUPS[b.role], shift=b.shift)
        else:
            broken = self.rule.violates(
                GROUPS[b.role],
                shift=b.shift,
                centred=self.centred,
                transpose=s.transpose,
            )
        if s.decay == "cautious" and self.weight_decay and self.rule is not None:
            by_entries = violated_by_adamw(GROUPS[b.role])
            if by_entries:
                broken = f"{broken}; by its decay, {by_entries}".removeprefix("; ")
        return f"does not respect: {broken}" if broken else ""


def _momentum(s: Settings) -> dict:
    return {k: getattr(s, k) for k in MOMENTUM}


def plan(
    model: nn.Module,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    *,
    preset: str = "symmetric",
    overrides: dict[str, dict | str | Rule] | None = None,
    example=None,
) -> list[tuple[Tensor, Planned]]:
    """Return (parameter, `Planned`) pairs: what SymOpt will do with each parameter.

    The pairs are in the model's order. The arguments are those of SymOpt.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    blocks = roles(model, example)
    _check_overrides(overrides or {}, blocks)
    parameters, found = dict(model.named_parameters()), []
    for (_, p), block in zip(parameters.items(), blocks.values(), strict=True):
        parts = [
            _one(_part_block(block, part), preset, overrides, lr, weight_decay)
            for part in block.parts
        ]
        if parts and all(part.rule is not None for part in parts):
            _check_alike(block, parts)
            first = parts[0]
            one = Planned(
                block, first.settings, first.lr, first.weight_decay, tuple(parts)
            )
        else:
            one = _one(_noted(block, parts), preset, overrides, lr, weight_decay)
        try:
            check_parameter(p, DEFAULTS | one.group(), rule_of)
        except ValueError as error:
            raise ValueError(f"{block.name} {block.shape}: {error}") from None
        found.append((p, one))
    _check_used(overrides or {}, [one for _, one in found])
    _check_pieces(overrides or {}, list(blocks.values()))
    by_name = {one.block.name: one for _, one in found}
    return [(p, _paired(one, by_name)) for p, one in found]


def _paired(one: Planned, by_name: dict[str, Planned]) -> Planned:
    """Return the plan with its partner, for the first factor of a low-rank product."""
    if one.rule is None or not one.rule.paired:
        return one
    partner = by_name.get(one.block.partner)
    if partner is None:
        raise ValueError(
            f"{one.block.name} is no factor of a low-rank product, and {one.rule.name} "
            "is for these: use another rule"
        )
    if partner.settings.rule != one.settings.rule:
        raise ValueError(
            f"{one.block.name} and {partner.block.name} are factors of one product: "
            f"give both the rule {one.rule.name}, or none"
        )
    return replace(one, partner=partner) if one.block.role == "adapter out" else one


def _one(block: Block, preset: str, overrides, lr, weight_decay) -> Planned:
    settings = PRESETS[preset].get(block.role, Settings())
    for key, changes in (overrides or {}).items():
        if key == block.role or fnmatchcase(block.name, key):
            try:
                settings = settings.changed(changes)
            except ValueError as error:
                raise ValueError(f"the override {key!r}: {error}") from None
    return _planned(block, settings, lr, weight_decay)


def _check_used(overrides: dict, found: list[Planned]) -> None:
    """Raise ValueError where an override gives options to AdamW alone."""
    ones = [part for one in found for part in one.parts or (one,)]
    names = [f.name for f in fields(Settings)]
    for key, changes in overrides.items():
        if not isinstance(changes, dict):
            continue
        fit = [o for o in ones if key == o.block.role or fnmatchcase(o.block.name, key)]
        options = {**changes, **changes.get("options", {})}
        for option in set(options) - {*names, "options"}:
            if fit and all(o.rule is None for o in fit):
                raise ValueError(
                    f"the override {key!r} gives {option!r} to AdamW, which has no "
                    "options: say rule=, too"
                )


def _check_pieces(overrides: dict, blocks: list[Block]) -> None:
    """Raise ValueError where an override asks for pieces that no weight has."""
    for key, changes in overrides.items():
        if not isinstance(changes, dict) or changes.get("per_piece") is not True:
            continue
        fit = [b for b in blocks if key == b.role or fnmatchcase(b.name, key)]
        whole = [b for b in fit if b.role not in PIECED and not b.layout]
        if fit and len(whole) == len(fit):
            raise ValueError(
                f"the override {key!r} asks for pieces with per_piece=True, and "
                f"{whole[0].name} is a {whole[0].role} without known heads or halves: "
                "make a parameter of each piece, or leave per_piece out"
            )


def _part_block(block: Block, part: Part) -> Block:
    """A part as a block of its own, in the same axes."""
    return replace(block, role=part.role, heads=part.heads, parts=(part,), note="")


def _noted(block: Block, parts: list[Planned]) -> Block:
    """The block of a weight that AdamW steps whole, as it does one of its parts."""
    plain = [p.block.role for p in parts if p.rule is None]
    if not plain or len(plain) == len(parts):
        return block
    said = f"AdamW for all of it, as for the part of role {plain[0]}"
    return replace(block, note="; ".join(filter(None, (block.note, said))))


def _check_alike(block: Block, parts: list[Planned]) -> None:
    """One parameter has one momentum, learning rate and decay."""
    said = [(p.lr, p.weight_decay, *_momentum(p.settings).values()) for p in parts]
    for part, its in zip(parts, said, strict=True):
        if its != said[0]:
            raise ValueError(
                f"{block.name} holds {', '.join(p.block.role for p in parts)} in one "
                f"weight, so {part.block.role} can have a rule of its own, and no lr, "
                "weight_decay or momentum"
            )


def param_groups(
    model: nn.Module, lr: float = 1e-3, weight_decay: float = 0.1, **options
) -> list[dict]:
    """Return what SymOpt(model, ...) would do, as param_groups with names, without
    tensors.

    model: a whole model, which may be on the meta device.
    lr, weight_decay: as for SymOpt. options: preset, overrides and example of SymOpt.

    The result is for SymOpt(other, groups=...) on a model with the same parameter
    names, which may be sharded. Each group has `param_names`, lr, weight_decay and
    settings as plain values.
    """
    groups: dict[str, dict] = {}
    for _, one in plan(model, lr, weight_decay, **options):
        if one.block.role == "adapter in" and one.rule is not None and one.rule.paired:
            continue  # with its partner
        settings = one.group()
        key = repr(sorted(settings.items()))
        group = groups.setdefault(key, {"param_names": []} | settings)
        group["param_names"].append(one.block.name)
        if one.partner is not None:
            group["param_names"].append(one.partner.block.name)
    return list(groups.values())


def _planned(block: Block, s: Settings, lr: float, weight_decay: float) -> Planned:
    if s.shift is not None:
        block = replace(block, shift=s.shift)
    if s.rule != ADAMW:
        options, known = dict(s.options), rule_of(s.rule).options
        if "centred" in known and "centred" not in options:
            wanted = s.centred if s.centred is not None else block.shift
            options |= {"centred": True} if wanted else {}
        if "layout" in known and block.layout:
            options.setdefault("layout", block.layout)
        s = replace(s, options=tuple(sorted(options.items())))
    if s.weight_decay is not None:
        weight_decay = s.weight_decay
    elif block.role not in (*HIDDEN, "fused"):
        weight_decay = 0.0
    return Planned(
        block, s, s.lr if s.lr is not None else lr * s.lr_scale, weight_decay
    )


def _check_overrides(overrides: dict, blocks: dict[str, Block]) -> None:
    there = {b.role for b in blocks.values()}
    there |= {part.role for b in blocks.values() for part in b.parts}
    for key in overrides:
        if key in ROLES or any(fnmatchcase(b.name, key) for b in blocks.values()):
            continue
        raise ValueError(
            f"the override {key!r} is no role and fits no parameter's name"
            f"{meant(key, (*there, *blocks))} (this model has the roles "
            f"{', '.join(sorted(there))})"
        )


def describe(model: nn.Module, lr: float = 1e-3, weight_decay: float = 0.1, **options):
    """Return what SymOpt(model, ...) will do, as a DataFrame with one row per
    parameter.

    lr, weight_decay: as for SymOpt. options: preset, overrides and example of SymOpt.

    The columns are name, shape, role, group (its symmetry group), rule, lr,
    weight_decay, and a note: which factor of the symmetry group the rule does not
    respect, what was assumed (a softmax outside the forward pass), or why a role is
    unknown (such a parameter gets AdamW without weight decay). Raises ValueError as
    SymOpt does.
    """
    import pandas as pd

    planned = plan(model, lr, weight_decay, **options)
    return pd.DataFrame([p.row() for _, p in planned])
