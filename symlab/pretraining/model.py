"""Build a decoder with initial weights, and the SymOpt settings of each weight."""

from collections.abc import Mapping
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from symlab.models.families import DecoderConfig
from symlab.models.transformer import Decoder, put
from symlab.pretraining.processes import ALONE, Processes, shard
from symlab.pretraining.recipe import PRECISIONS, Recipe, check_rates
from symlab.symopt import param_groups
from symlab.symopt.roles import roles

OWN = ("compile", "betas", "eps")  # arguments of SymOpt that `param_groups` lacks


def build(
    config: DecoderConfig, recipe: Recipe, optimizer: dict, processes: Processes = ALONE
) -> tuple[Decoder, list[dict]]:
    """Return a decoder with initial weights, and its param_groups for SymOpt.

    config: the decoder's configuration. recipe: gives the precision and the seed.
    optimizer: arguments of SymOpt. processes: if they hold shards, the weights are
        sharded.

    Roles of weights are found on the meta device, before any weight is allocated.
    """
    model, groups = plan(config, optimizer)
    model.to(PRECISIONS[recipe.precision])
    if processes.sharded:
        shard(model)
    model.to_empty(device=processes.device)
    model.initialise(torch.Generator().manual_seed(recipe.seed))
    return model, groups


def plan(config: DecoderConfig, optimizer: dict) -> tuple[Decoder, list[dict]]:
    """Return a decoder on the meta device, without memory, and its param_groups for
    SymOpt.

    config: the decoder's configuration. optimizer: arguments of SymOpt.

    Raises ValueError for rates, roles, rules and options that SymOpt does not accept.
    """
    check_rates(optimizer)
    own = {"embedding", "head"} & set(optimizer.get("overrides") or {})
    if config.tied and own:
        raise ValueError(
            f"the settings of {sorted(own)[0]!r} are for a table of its own, and this "
            "model's head is its embedding: give those of 'tied embedding'"
        )
    with torch.device("meta"):
        model = Decoder(config)
        example = torch.zeros(1, min(8, config.context), dtype=torch.long)
    chosen = {k: v for k, v in optimizer.items() if k not in OWN}
    groups = param_groups(model, example=example, **chosen)
    for group in groups:  # those of overrides, too
        check_rates(group)
    return model, groups


def roles_of(config: DecoderConfig) -> set[str]:
    """Return the roles of a decoder's weights ('embedding', 'query', 'head', ...).

    These are the keys that SymOpt's argument `overrides` accepts.
    """
    with torch.device("meta"):
        model = Decoder(config)
        example = torch.zeros(1, min(8, config.context), dtype=torch.long)
    blocks = roles(model, example).values()
    return {b.role for b in blocks} | {part.role for b in blocks for part in b.parts}


def described(optimizer: Mapping) -> str:
    """Return SymOpt's arguments as text that does not depend on their order."""
    return repr(_in_order(optimizer))


def _in_order(value):
    if isinstance(value, Mapping):
        return sorted((k, _in_order(v)) for k, v in value.items())
    return value.item() if isinstance(value, np.generic) else value


@torch.no_grad()
def begin_with(model: Decoder, weights: Mapping[str, Tensor]) -> None:
    """Copy given tensors into a model, as its initial weights.

    weights: {name: whole tensor}; each process of a sharded model copies its part.

    Raises ValueError if names or shapes differ from the model's.
    """
    own = {name: tuple(p.shape) for name, p in model.named_parameters()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(own.keys() | given.keys()):
        if own.get(name) != given.get(name):
            raise ValueError(
                f"the weights to begin with have {name} {given.get(name, 'missing')} "
                f"and the model {own.get(name, 'has none')}: give both one "
                "configuration"
            )
    for name, p in model.named_parameters():
        put(p, weights[name].detach())


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Return 16 hexadecimal digits of a hash of the weights' names and values."""
    found = sha256()
    for name, value in sorted(weights.items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
    return found.hexdigest()[:16]
