"""Rates that were tuned at a small width hold at a larger one."""

from dataclasses import replace
from math import sqrt

import pytest
import torch

from symlab.models.families import FAMILIES, family
from symlab.models.transformer import Decoder, loss
from symlab.pretraining import Recipe, pretrain, transfer
from symlab.pretraining.model import begin_with, build
from symlab.pretraining.transfer import rates, weights
from symlab.symopt import SymOpt
from tests.test_pretraining import text

V, T = 64, 16
MIXED = {"experts": 4, "chosen": 2}


def sized(width: int, name: str = "qwen3", **others):
    """Heads become more, not wider."""
    heads = {"heads": width // 16, "kv_heads": width // 16, "head_width": 16}
    sizes = {"vocabulary": V, "context": T, "width": width, "layers": 2}
    return family(name, **sizes, **heads, hidden=2 * width, **others)


def lr_scales(wide, base, rule) -> dict[str, float]:
    found = rates(wide, base, 0.01, rule)["overrides"]
    return {role: said["lr_scale"] for role, said in found.items()}


@pytest.mark.parametrize("rule", transfer.RULES)
def test_activations_change_as_much_at_four_times_the_width(rule):
    """Of attention, feed-forward parts and logits, over six steps at one rate; without
    the factors the change grows at least four times somewhere."""
    lr = 0.005 if rule == "adamw" else 0.01
    narrow = moved(32, lr, rule, scaled=False)
    scaled, plain = (
        [b / a for a, b in zip(narrow, moved(128, lr, rule, scaled), strict=True)]
        for scaled in (True, False)
    )
    assert min(scaled) > 0.5
    assert max(scaled) < 2
    assert min(plain) > 2
    assert max(plain) > 4


def moved(width: int, lr: float, rule: str, scaled: bool) -> list[float]:
    """How far activations go in six steps on one batch, root mean square each."""
    config, base = sized(width), sized(32)
    settings = rates(config, base, lr, rule) if scaled else {"preset": rule, "lr": lr}
    recipe = Recipe(steps=1, batch=4, length=T)
    model, groups = build(config, recipe, settings | {"weight_decay": 0.0})
    if scaled:
        begin_with(model, weights(config, base))
    optimizer = SymOpt(model, groups=groups)
    draws = torch.Generator().manual_seed(1)
    tokens = torch.randint(V, (4, T + 1), generator=draws)
    x, y = tokens[:, :-1], tokens[:, 1:]
    before = activations(model, x)
    for _ in range(6):
        loss(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = activations(model, x)
    return [
        float((b - a).square().mean().sqrt())
        for a, b in zip(before, after, strict=True)
    ]


@torch.no_grad()
def activations(model: Decoder, x: torch.Tensor) -> list[torch.Tensor]:
    found = []

    def keep(module, inputs, output):
        found.append(output[0] if isinstance(output, tuple) else output)

    parts = [part for b in model.blocks for part in (b.attention, b.feed)]
    hooks = [part.register_forward_hook(keep) for part in parts]
    logits = model(x)
    for hook in hooks:
        hook.remove()
    return [*found, logits]


def test_the_factors_of_adamw_are_those_of_table_3():
    found = lr_scales(
        sized(128, "olmoe", **MIXED), sized(32, "olmoe", **MIXED), "adamw"
    )
    quarter = {"query", "key", "value", "attention out", "gate_up", "down"}
    quarter |= {"head", "router"}
    assert found == {role: 0.25 if role in quarter else 1.0 for role in found}
    assert {*quarter, "embedding", "gain"} == set(found)


def test_the_factors_of_polar_factors_keep_the_spectral_condition():
    """Updates are 0.2 max(m, n)^(1/2) long at a rate of 1, those of heads with
    (16, 128) entries; eight heads instead of two add up to an operator."""
    found = lr_scales(sized(128), sized(32), "symmetric")
    assert found["gate"] == found["up"] == pytest.approx(1 / 2)
    assert found["down"] == pytest.approx(1 / 2)
    assert found["query"] == found["attention out"] == pytest.approx(1 / 4)
    assert found["head"] == pytest.approx(3 / 4)
    assert found["embedding"] == 3.0
    assert found["gain"] == 1.0


def test_a_hidden_part_that_grows_by_itself_has_its_own_fan_in():
    base = sized(32)
    wide = replace(base, hidden=4 * base.hidden)
    found = lr_scales(wide, base, "adamw")
    assert found["down"] == 0.25
    assert {v for role, v in found.items() if role != "down"} == {1.0}
    drawn = weights(wide, base)["blocks.0.feed.down.weight"]
    assert float(drawn.std()) == pytest.approx(0.02 / 2, rel=0.05)


def test_initial_weights_are_scaled_by_their_inputs():
    config, base = (sized(w, "olmoe", **MIXED) for w in (128, 32))
    found = weights(config, base, seed=5)
    plain = Decoder(config, torch.Generator().manual_seed(5))
    expected = {"embedding": 1, "head": 1 / 4, "router": 1 / 4, "norm": 1}
    for name, p in plain.named_parameters():
        kind = next((k for k in expected if f"{k}.weight" in name), None)
        torch.testing.assert_close(found[name], p * expected.get(kind, 1 / 2))


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        *(("symmetric", name) for name in FAMILIES),
        ("adamw", "qwen3"),
        ("muon", "qwen3"),
    ],
)
def test_at_the_base_width_nothing_changes(rule, name):
    mixed = MIXED if name in ("olmoe", "gpt-oss") else {}
    base = sized(32, name, **mixed)
    usual = {"embedding": 3.0, "head": 3.0} if rule == "symmetric" else {}
    found = lr_scales(base, base, rule)
    assert found == {role: usual.get(role, 1.0) for role in found}
    plain = Decoder(base, torch.Generator().manual_seed(0))
    drawn = weights(base, base)
    assert all(torch.equal(p, drawn[n]) for n, p in plain.named_parameters())


def test_a_scaled_embedding_grows_less():
    """Gemma multiplies what it looks up by the root of the width."""
    config, base = sized(128, "gemma3"), sized(32, "gemma3")
    assert lr_scales(config, base, "adamw")["embedding"] == 1 / 2
    plain = Decoder(config, torch.Generator().manual_seed(0))
    drawn = weights(config, base)["embedding.weight"]
    torch.testing.assert_close(drawn, plain.embedding.weight.detach() / sqrt(4))


def test_a_run_takes_both():
    config, base = (replace(sized(w), vocabulary=32) for w in (64, 32))
    recipe = Recipe(steps=2, batch=4, length=16, validation=2)
    start = weights(config, base)
    row = pretrain(config, text(), recipe, rates(config, base, 0.01), weights=start)
    assert row["val_loss"] < row["train_loss"][0]


@pytest.mark.parametrize(
    ("config", "rule", "words"),
    [
        (sized(64), "scion", "of 'scion' follow the width is not known here: use one"),
        (replace(sized(64), layers=3), "adamw", "layers is 3 and that of the base 2"),
        (replace(sized(64), head_width=32), "adamw", "head_width is 32"),
    ],
)
def test_what_does_not_carry_over_is_said(config, rule, words):
    with pytest.raises(ValueError, match=words):
        rates(config, sized(32), 0.01, rule)


def test_a_role_of_which_nothing_is_known_is_refused():
    tied = {"role": "tied embedding", "shape": (V, 32)}
    with pytest.raises(ValueError, match="rate of the role 'tied embedding' follows"):
        transfer._reach(tied, sized(32))
