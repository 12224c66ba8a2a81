"""Learning rates and initial weights that carry over from a small width to a large one.

    base = preset("dense-small")                        tuned at this width
    config = preset("dense-small", width=384, heads=12, kv_heads=4, hidden=1152)
    row = pretrain(config, text, recipe, rates(config, base, lr, "adamw"),
                   weights=weights(config, base, seed))

The activations of a wide model, and their change in each step, should be as large as
those of the narrow one. For a weight with m outputs and n inputs, and with r the ratio
of n to its value at the base width, the factors on the base values are

                      embedding   hidden       head, router
    initial entries   1           r^(-1/2)     1/r
    AdamW's rate      1           1/r          1/r

This is the maximal update parametrisation (Yang et al. 2022, arXiv 2203.03466, table
3); gains and biases keep their rates. A rule whose updates have unit singular values
needs the rate that keeps |dW| at (m/n)^(1/2), the spectral condition (Yang, Simon &
Bernstein 2023, arXiv 2310.17813); for k heads side by side, each at (m/(n k))^(1/2).
The scale 'rms', which all presets but Scion's have, makes updates 0.2 max(m, n)^(1/2)
long, as AdamW's are, and so does not satisfy it by itself. At the base width all
factors are 1. A weight decay that is multiplied with the rate falls with it; the
setting decay="independent" keeps it.
"""

from math import sqrt

import torch
from torch import Tensor

from symlab.models.families import DecoderConfig
from symlab.models.transformer import Decoder
from symlab.pretraining.model import plan
from symlab.symopt.presets import HIDDEN, PRESETS, Settings
from symlab.symopt.registry import rule_of
from symlab.symopt.rule import ADAMW, size

RULES = ("adamw", "symmetric", "muon")
OUTPUT = ("head", "router")  # their outputs do not become more
GROWS = ("width", "heads", "kv_heads", "hidden")


def rates(
    config: DecoderConfig, base: DecoderConfig, lr: float, rule: str = "symmetric"
) -> dict:
    """Return arguments of SymOpt with which a wide decoder trains as a narrow one does.

    config: the wide decoder. base: the narrow decoder.
    lr: the learning rate that was tuned for the narrow decoder.
    rule: a preset of SymOpt, 'adamw', 'symmetric' or 'muon'.

    The result is the argument `optimizer` of `pretrain`; the factor on the rate of each
    role of weights is its lr_scale. Raises ValueError for other presets, and for
    configurations that differ in more than widths. Source: arXiv 2203.03466, table 3,
    and arXiv 2310.17813.
    """
    _check(config, base)
    if rule not in RULES:
        raise ValueError(
            f"how the rates of {rule!r} follow the width is not known here: use one of "
            f"{', '.join(RULES)}"
        )
    wide, narrow = (_groups(c, rule) for c in (config, base))
    overrides = {}
    for name, group in wide.items():
        role = group["role"]
        factor = _reach(group, config) / _reach(narrow[name], base)
        scale = PRESETS[rule].get(role, Settings()).lr_scale
        overrides[role] = {"lr_scale": scale * factor}
    return {"preset": rule, "lr": lr, "overrides": overrides}


def weights(
    config: DecoderConfig, base: DecoderConfig, seed: int = 0
) -> dict[str, Tensor]:
    """Return initial weights {name: tensor} for a wide decoder, scaled by role.

    config: the wide decoder. base: the narrow decoder. seed: seed of the weights.

    They are the wide decoder's own random weights times a factor per role, with which
    activations are as large as in the narrow decoder (arXiv 2203.03466, table 3).
    """
    _check(config, base)
    narrow = _groups(base, "adamw")
    model = Decoder(config, torch.Generator().manual_seed(seed))
    wide = _groups(config, "adamw")
    found = {}
    for name, p in model.named_parameters():
        role = wide[name]["role"]
        power = 1.0 if role in OUTPUT else 0.5 if role in HIDDEN else 0.0
        r = wide[name]["shape"][-1] / narrow[name]["shape"][-1]
        factor = r**-power * _lookup(config, role) / _lookup(base, role)
        found[name] = p.detach() * factor
    return found


def _groups(c: DecoderConfig, rule: str) -> dict[str, dict]:
    """What SymOpt plans for each parameter, with its shape."""
    model, groups = plan(c, {"preset": rule})
    named = {n: g for g in groups for n in g["param_names"]}
    return {n: named[n] | {"shape": p.shape} for n, p in model.named_parameters()}


def _reach(group: dict, c: DecoderConfig) -> float:
    """The length that an update should have, over the length that it has."""
    role, shape = group["role"], tuple(group["shape"])
    if role in ("embedding", "gain", "bias"):
        return _lookup(c, role)  # entries, or rows with entries, of one size
    if role not in (*HIDDEN, *OUTPUT):
        raise ValueError(
            f"how the rate of the role {role!r} follows the width is not known here: "
            "tune it at this width"
        )
    m, n = shape[-2:]
    if group["rule"] == ADAMW:
        return 1 / n
    sized = rule_of(group["rule"]).sized
    if sized == "rows":  # of the head, each as AdamW's entries would make it
        return 1 / n
    pieces = group.get("pieces", 1)
    one = (m, n // pieces) if group["along"] == "columns" else (m // pieces, n)
    return sqrt(m / (n * pieces)) / size(one, group["scale"], sized)


def _lookup(c: DecoderConfig, role: str) -> float:
    """Undoes the factor D^(1/2) that some decoders have after the embedding."""
    return c.width**-0.5 if c.scaled_embedding and role == "embedding" else 1.0


def _check(config: DecoderConfig, base: DecoderConfig) -> None:
    for name in DecoderConfig.__dataclass_fields__:
        a, b = getattr(config, name), getattr(base, name)
        if name not in GROWS and a != b:
            raise ValueError(
                f"{name} is {a} and that of the base {b}: rates carry over where only "
                f"{', '.join(GROWS)} differ"
            )
