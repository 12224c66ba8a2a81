"""Which rule each role gets: the layerwise stack of Lau & Su, and its relatives.

    describe(model)                    one row per parameter: what SymOpt(model) will do
    describe(model, preset="muon")     the same of another optimizer
    param_groups(model)                the same as groups for SymOpt(other, groups=...)

A preset maps roles to settings; `overrides` are settings by role or by a pattern of
parameter names, and the later wins:

    overrides={"embedding": {"lr": 0.02}, "*.router.weight": "adamw"}
"""

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from torch import Tensor, nn

from symlab.symopt.layout import Layout
from symlab.symopt.registry import ADAMW, RULES, violated
from symlab.symopt.roles import GROUPS, ROLES, Block, roles

HIDDEN = ("query", "key", "value", "qkv", "attention out", "gate", "up", "gate_up")
HIDDEN += ("down", "matrix", "convolution")
TABLES = ("embedding", "tied embedding")


@dataclass(frozen=True)
class Settings:
    """What is done with one parameter.

    centred=None: where its group has the shift. lr is the optimizer's times lr_scale,
    and weight_decay the optimizer's (None), or these numbers. ema: the momentum
    averages gradients, else it sums them. per_piece: heads, and the halves of a fused
    gate and up, one by one. transpose: the rule takes inputs for rows.
    """

    rule: str = ADAMW
    lr: float | None = None
    lr_scale: float = 1.0
    weight_decay: float | None = None
    momentum: float = 0.95
    nesterov: bool = True
    ema: bool = True
    scale: str | float = "rms"
    radius: float = 1.0
    per_piece: bool = True
    transpose: bool = False
    centred: bool | None = None
    shift: bool | None = None
    options: tuple[tuple[str, object], ...] = ()

    def changed(self, changes: dict | str) -> "Settings":
        """With a rule's name, fields of this class, or options of the rule."""
        changes = {"rule": changes} if isinstance(changes, str) else dict(changes)
        changes.update(changes.pop("options", {}))
        own = {k: v for k, v in changes.items() if k in self.__dataclass_fields__}
        rule = own.get("rule", self.rule)
        options = {} if rule != self.rule else dict(self.options)
        options |= {k: v for k, v in changes.items() if k not in own}
        return replace(self, **own, options=tuple(sorted(options.items())))


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
        **dict.fromkeys(TABLES, ROWS),
        "head": ROWS,
        "router": Settings("spectral", weight_decay=0.0),
    },
    "adamw": {},
    "muon": dict.fromkeys(
        HIDDEN,
        Settings("spectral", per_piece=False, options=(("method", "newton_schulz"),)),
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
SOURCES = {
    "symmetric": "Lau & Su, arXiv 2605.18106, with the choices named in `PRESETS`",
    "adamw": "Loshchilov & Hutter, arXiv 1711.05101",
    "muon": "Jordan et al. 2024, with the rms scale of arXiv 2502.16982",
    "ssd": "Carlson et al. 2015, stochastic spectral descent",
    "polargrad": "Lau et al., arXiv 2505.21799",
    "scion": "Pethick et al., arXiv 2502.07529; the embedding's radius is ours",
    "scion_constrained": "the same with W <- (1 - lr) W before each step",
    "normuon": "Li et al., arXiv 2510.05491",
    "aro": "Gong et al., arXiv 2602.09006",
    "freon": "Shumaylov et al., arXiv 2605.11181",
    "kaon": "the same",
}


# --- the plan for a model ------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """One parameter: what it is and what will be done with it."""

    block: Block
    settings: Settings
    lr: float
    weight_decay: float

    @property
    def centred(self) -> bool:
        return bool(dict(self.settings.options).get("centred"))

    def group(self) -> dict:
        """What its param_group says, as plain values."""
        s, b = self.settings, self.block
        group = {"role": b.role, "rule": s.rule, "lr": self.lr}
        group["weight_decay"] = self.weight_decay
        if s.rule == ADAMW:
            return group
        layout = self.layout()
        group |= {k: getattr(s, k) for k in ("momentum", "nesterov", "ema", "scale")}
        group |= {k: getattr(layout, k) for k in Layout.__dataclass_fields__}
        group |= {"radius": s.radius, "shift": b.shift}
        return group | {"options": dict(s.options)}

    def layout(self) -> Layout:
        b, s = self.block, self.settings
        pieces, along = 1, "rows"
        if s.per_piece and RULES[s.rule].pieces:
            if b.layout:
                pieces = 2
                along = "interleaved rows" if b.layout == "interleaved" else "rows"
            elif b.heads > 1:
                pieces, along = b.heads, "columns" if b.head_columns else "rows"
        return Layout(b.rows, b.columns, pieces, along, b.is_convolution, s.transpose)

    def row(self) -> dict:
        """One row of `describe`."""
        s, b = self.settings, self.block
        said = [f"{k}={v}" for k, v in s.options if k != "centred"]
        said = ["centred"] * self.centred + said
        if s.rule != ADAMW:
            pieces = self.layout().pieces
            piece = "half" if b.layout else "head"
            said += [f"per {piece}"] * (pieces > 1) + ["transposed"] * s.transpose
        rule = f"{s.rule} ({', '.join(said)})" if said else s.rule
        note = b.note
        if b.role in GROUPS:
            broken = violated(
                s.rule,
                GROUPS[b.role],
                shift=b.shift,
                centred=self.centred,
                transpose=s.transpose,
            )
            note = f"does not respect: {broken}" if broken else note
        return {
            "name": b.name,
            "shape": b.shape,
            "role": b.role,
            "group": b.group,
            "rule": rule,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "note": note,
        }


def plan(
    model: nn.Module,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    *,
    preset: str = "symmetric",
    overrides: dict[str, dict | str] | None = None,
    example=None,
) -> list[tuple[Tensor, Planned]]:
    """(parameter, what is planned for it), in the model's order."""
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}: use {', '.join(PRESETS)}")
    blocks = roles(model, example)
    _check_overrides(overrides or {}, blocks)
    parameters = dict(model.named_parameters())
    found = []
    for (_, p), block in zip(parameters.items(), blocks.values(), strict=True):
        settings = PRESETS[preset].get(block.role, Settings())
        for key, changes in (overrides or {}).items():
            if key == block.role or fnmatchcase(block.name, key):
                settings = settings.changed(changes)
        found.append((p, _planned(block, settings, lr, weight_decay)))
    return found


def param_groups(
    model: nn.Module, lr: float = 1e-3, weight_decay: float = 0.1, **options
) -> list[dict]:
    """What SymOpt(model, ...) does, as param_groups with names instead of tensors.

    For SymOpt(other, groups=...) on a model of the same names: one that is sharded by
    then, while this one is whole, or on the meta device (so may the example be). Each
    has `param_names`, lr, weight_decay and settings as plain values. Takes the
    arguments of SymOpt that choose: preset, overrides, example.
    """
    groups: dict[str, dict] = {}
    for _, one in plan(model, lr, weight_decay, **options):
        settings = one.group()
        key = repr(sorted(settings.items()))
        group = groups.setdefault(key, {"param_names": []} | settings)
        group["param_names"].append(one.block.name)
    return list(groups.values())


def _planned(block: Block, s: Settings, lr: float, weight_decay: float) -> Planned:
    if s.shift is not None:
        block = replace(block, shift=s.shift)
    if s.rule != ADAMW and s.rule in RULES:
        options = dict(s.options)
        known = RULES[s.rule].options
        if "centred" in known and "centred" not in options:
            wanted = s.centred if s.centred is not None else block.shift
            options |= {"centred": True} if wanted else {}
        if "layout" in known and block.layout:
            options.setdefault("layout", block.layout)
        s = replace(s, options=tuple(sorted(options.items())))
    if s.weight_decay is not None:
        weight_decay = s.weight_decay
    elif block.role not in HIDDEN:
        weight_decay = 0.0
    return Planned(
        block, s, s.lr if s.lr is not None else lr * s.lr_scale, weight_decay
    )


def _check_overrides(overrides: dict, blocks: dict[str, Block]) -> None:
    for key in overrides:
        if key in ROLES or any(fnmatchcase(b.name, key) for b in blocks.values()):
            continue
        there = sorted({b.role for b in blocks.values()})
        raise ValueError(
            f"the override {key!r} is no role and fits no parameter's name: this model "
            f"has the roles {', '.join(there)}"
        )


def describe(model: nn.Module, lr: float = 1e-3, weight_decay: float = 0.1, **options):
    """What SymOpt(model, ...) will do, as a DataFrame with one row per parameter.

    Columns: name, shape, role, group, rule, lr, weight_decay, and a note: which factor
    of the group the rule does not respect, or why a role is unknown (it gets AdamW).
    Takes the arguments of SymOpt that choose: preset, overrides, example.
    """
    import pandas as pd

    planned = plan(model, lr, weight_decay, **options)
    return pd.DataFrame([p.row() for _, p in planned])
