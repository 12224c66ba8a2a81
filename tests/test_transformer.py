"""The decoder against Hugging Face's four models, with one mapping of names for all."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from torch.nn import functional as F

from symlab.models import vision
from symlab.models.families import PRESETS
from symlab.models.transformer import (
    Decoder,
    DecoderConfig,
    Router,
    family,
    grouped_product,
    loss,
    preset,
)
from symlab.symopt import roles

T, V, WINDOW = 24, 40, 7
FAMILIES = ("qwen3", "gemma3", "olmoe", "gpt-oss")
MIXTURES = FAMILIES[2:]
SIZES = {
    "vocabulary": V,
    "context": T,
    "width": 32,
    "layers": 3,
    "heads": 4,
    "kv_heads": 2,
    "head_width": 16,
    "hidden": 24,
}


def configuration(name: str) -> DecoderConfig:
    """Tiny; both kinds of layers in the families that slide."""
    sizes = dict(SIZES)
    if name in MIXTURES:
        sizes |= {"experts": 8, "chosen": 3}
    if name == "olmoe":  # its width of a head is no parameter of its own
        sizes |= {"head_width": 8}
    if name in ("gemma3", "gpt-oss"):
        sizes |= {"window": WINDOW, "pattern": 2}
    return family(name, **sizes)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def decoder(name: str) -> Decoder:
    """All parameters random and large: gains, biases and sinks, too."""
    model = Decoder(configuration(name), draws())
    with torch.no_grad():
        for n, p in model.named_parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=draws(p.numel())))
            if name == "gpt-oss" and n.endswith("gate_up"):
                p.mul_(5)  # so that its limits act
    return model


TOKENS = torch.randint(V, (3, T), generator=draws(1))

# --- Hugging Face --------------------------------------------------------------------


def hugging_face(name: str, c: DecoderConfig):
    """Their model of this configuration of the family."""
    vision.torchvision()  # transformers imports it
    transformers = pytest.importorskip("transformers")
    kind = {"gpt-oss": "GptOss", "gemma3": "Gemma3", "olmoe": "Olmoe"}.get(
        name, "Qwen3"
    )
    special = {
        "qwen3": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        "gemma3": {
            "sliding_window": c.window,
            "sliding_window_pattern": c.pattern,
            "tie_word_embeddings": False,
        },
        "olmoe": {"num_experts": c.experts, "num_experts_per_tok": c.chosen},
        "gpt-oss": {
            "num_local_experts": c.experts,
            "num_experts_per_tok": c.chosen,
            "sliding_window": c.window,
        },
    }[name]
    config = getattr(
        transformers, "Gemma3TextConfig" if kind == "Gemma3" else f"{kind}Config"
    )(
        vocab_size=c.vocabulary,
        hidden_size=c.width,
        intermediate_size=c.hidden,
        num_hidden_layers=c.layers,
        num_attention_heads=c.heads,
        num_key_value_heads=c.kv_heads,
        pad_token_id=None,
        bos_token_id=1,
        eos_token_id=1,
        attn_implementation="eager",
        **({} if name == "olmoe" else {"head_dim": c.head_width}),
        **special,
    )
    return getattr(transformers, f"{kind}ForCausalLM")(config)


NAMES = {  # ours: theirs
    "embedding.": "model.embed_tokens.",
    "head.": "lm_head.",
    "norm.": "model.norm.",
    "blocks.": "model.layers.",
    ".attention_norm.": ".input_layernorm.",
    ".attention.": ".self_attn.",
    ".query.": ".q_proj.",
    ".key.": ".k_proj.",
    ".value.": ".v_proj.",
    ".out.": ".o_proj.",
    ".query_norm.": ".q_norm.",
    ".key_norm.": ".k_norm.",
    ".feed_norm.": ".post_attention_layernorm.",
    ".feed.gate.": ".mlp.gate_proj.",
    ".feed.up.": ".mlp.up_proj.",
    ".feed.down.": ".mlp.down_proj.",
    ".feed.router.": ".mlp.gate.",
    ".feed.gate_up": ".mlp.experts.gate_up_proj",
    ".feed.down": ".mlp.experts.down_proj",
}
OTHERS = {
    "gemma3": {
        ".feed_norm.": ".pre_feedforward_layernorm.",
        ".post_attention_norm.": ".post_attention_layernorm.",
        ".post_feed_norm.": ".post_feedforward_layernorm.",
    },
    "gpt-oss": {".feed.router.": ".mlp.router."},
}


def theirs(name: str, ours: str) -> str:
    names = NAMES | OTHERS.get(name, {})
    for old in sorted(names, key=len, reverse=True):
        if old[0] == "." or ours.startswith(old):
            ours = ours.replace(old, names[old])
    return ours


def as_theirs(name: str, ours: str, t: torch.Tensor) -> torch.Tensor:
    """gpt-oss has gates and ups in turn, and inputs before outputs."""
    if name != "gpt-oss" or ".feed." not in ours or "router" in ours:
        return t
    if "gate_up" in ours:
        gate, up = t.chunk(2, 1)
        t = torch.stack([gate, up], 2).flatten(1, 2)
    return t.mT if t.ndim == 3 else t


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_loss_and_gradients_are_hugging_faces(name):
    model, other = decoder(name), hugging_face(name, configuration(name))
    their = dict(other.named_parameters())
    with torch.no_grad():
        for n, p in model.named_parameters():
            their.pop(theirs(name, n)).copy_(as_theirs(name, n, p))
    assert not their  # every parameter has its own
    found, expected = model(TOKENS), other(TOKENS, labels=TOKENS)
    assert expected.logits.abs().max() > 1
    torch.testing.assert_close(found, expected.logits, rtol=0, atol=1e-4)
    # they shift labels themselves; here the data has
    value = loss(found[:, :-1], TOKENS[:, 1:])
    torch.testing.assert_close(value, expected.loss, rtol=0, atol=1e-5)
    value.backward()
    expected.loss.backward()
    gradients = {n: p.grad for n, p in other.named_parameters()}
    for n, p in model.named_parameters():
        expected = gradients[theirs(name, n)]
        found = as_theirs(name, n, p.grad)
        size = expected.abs().max()
        assert size > 0, n
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-4 * float(size))


def test_frequencies_are_hugging_faces_yarn_at_the_published_size():
    vision.torchvision()
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.GptOssConfig(head_dim=64)
    frequency, size = ROPE_INIT_FUNCTIONS["yarn"](config)
    tables = Decoder(replace(configuration("gpt-oss"), head_width=64), draws()).rotation
    position = torch.arange(T)[:, None]
    torch.testing.assert_close(
        tables.cos[:, :32], size * (position * frequency).cos(), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        tables.sin[:, 32:], size * (position * frequency).sin(), rtol=0, atol=1e-5
    )


# --- roles ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_roles_are_found_from_connections(name):
    c, found = configuration(name), roles(decoder(name))
    shared = c.kv_heads
    expected = {
        "embedding.weight": ("embedding", 1, False),
        "head.weight": ("head", 1, True),
        "attention.query.weight": ("query", c.heads, False),
        "attention.key.weight": ("key", shared, False),
        "attention.value.weight": ("value", shared, False),
        "attention.out.weight": ("attention out", c.heads, False),
        "feed.gate.weight": ("gate", 1, False),
        "feed.up.weight": ("up", 1, False),
        "feed.down.weight": ("down", 1, False),
        "feed.router.weight": ("router", 1, True),
        "feed.gate_up": ("gate_up", 1, False),
        "feed.down": ("down", 1, False),
        "norm.weight": ("gain", 1, False),
        "attention.weight": ("gain", 1, False),
        "bias": ("bias", 1, False),
        "sinks": ("bias", 1, False),
    }
    for n, block in found.items():
        end = max((e for e in expected if n.endswith(e)), key=len)
        assert (block.role, block.heads, block.shift) == expected[end], n
        if n.endswith("feed.gate_up"):
            assert (block.layout, block.rows, block.columns) == ("concatenated", 1, 2)
        if n.endswith("feed.down"):
            assert (block.rows, block.columns) == (1, 2)
        if n.endswith("out.weight"):
            assert block.head_columns
    assert set(found) == {n for n, _ in decoder(name).named_parameters()}


# --- sizes and initial values --------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count", "printed"),
    [
        ("qwen3-626m", 625_784_832, "626M"),
        ("gemma3-1.1b", 1_087_138_944, "1.1B"),
        ("olmoe-2.8b", 2_824_177_664, "2.8B"),
        ("gpt-oss-3.5b", 3_467_779_008, "3.5B"),
    ],
)
def test_published_sizes(name, count, printed):
    with torch.device("meta"):
        model = Decoder(preset(name))
    found = sum(p.numel() for p in model.parameters())
    assert found == count
    digits = f"{found / 1e6:.0f}M" if printed[-1] == "M" else f"{found / 1e9:.1f}B"
    assert digits == printed
    with torch.device("meta"):
        few = Decoder(preset(name, layers=2))
    blocks = roles(few).values()  # the optimizer's plan needs no memory either
    assert not {b.name for b in blocks if b.role == "unknown"}
    heads = {b.role: b.heads for b in blocks}
    assert heads["attention out"] == heads["query"] == preset(name).heads
    assert ("router" in heads) == (preset(name).experts > 0)
    with torch.device("meta"):
        other = hugging_face(name[: name.rindex("-")], preset(name))
    assert sum(p.numel() for p in other.parameters()) == count


def test_small_presets_have_the_sizes_that_they_were_planned_with():
    dense = preset("dense-small", vocabulary=50, context=16)
    sizes = dense.width, dense.layers, dense.heads, dense.kv_heads, dense.head_width
    assert sizes == (96, 3, 3, 1, 32)
    assert (dense.hidden, dense.vocabulary, dense.context) == (288, 50, 16)
    mixture = preset("moe-small")
    assert (mixture.layers, mixture.experts, mixture.chosen) == (2, 16, 2)
    for config in PRESETS.values():
        assert config.heads % config.kv_heads == 0


def test_initial_values_are_the_callers_draws_and_no_others():
    state = torch.get_rng_state()
    one, same = (Decoder(configuration("gpt-oss"), draws(3)) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    for (n, p), q in zip(one.named_parameters(), same.parameters(), strict=True):
        assert torch.equal(p, q), n
    weights = torch.cat([p.flatten() for p in one.parameters() if p.ndim > 1])
    weights = weights[weights != 0].detach().numpy()  # without stacks of biases
    assert weights.mean() == pytest.approx(0, abs=4e-4)
    assert scipy.stats.kstest(weights / 0.02, "norm").pvalue > 1e-3
    zero = {n for n, p in one.named_parameters() if not p.any()}
    assert zero == {n for n, _ in one.named_parameters() if n.endswith("bias")} - {
        f"blocks.{i}.feed.router.bias" for i in range(3)
    }
    for name, gain in (("gemma3", 0.0), ("qwen3", 1.0)):
        model = Decoder(configuration(name), draws())
        for n, p in model.named_parameters():
            assert p.ndim > 1 or (p == gain).all(), n
    later = Decoder(configuration("gpt-oss"), draws(4)).to_empty(device="cpu")
    later.initialise(draws(3))
    assert torch.equal(later(TOKENS), one(TOKENS))


# --- precision, devices' products, compilation ---------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_float64_and_bfloat16_autocast(name):
    model = decoder(name)
    single = model(TOKENS)
    with torch.autocast("cpu", torch.bfloat16):
        half, routers = model(TOKENS, routers=True)
        value = loss(half, TOKENS)
    assert half.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    value.backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    assert all(r.logits.dtype == torch.float32 for r in routers if r is not None)
    # a router may choose others where two are close
    close = ((half - single).abs() < 0.15 * single.std()).float().mean()
    assert close > (0.9 if name in MIXTURES else 0.999)
    double = model.double()(TOKENS)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=0, atol=1e-4)


def test_no_token_sees_what_comes_after_it():
    later = TOKENS.clone()
    later[:, 10:] = (later[:, 10:] + 1) % V
    for name in FAMILIES:
        model = decoder(name).double()
        same, other = model(TOKENS), model(later)
        torch.testing.assert_close(same[:, :10], other[:, :10], rtol=0, atol=1e-12)
        assert (same[:, 10:] - other[:, 10:]).abs().amin((0, 2)).max() > 1e-6


@pytest.mark.parametrize("width", [16, 6])
def test_grouped_products_are_one_product_per_expert(width):
    """By torch's kernel, and without it: float64, and rows of 24 bytes."""
    sizes = torch.tensor([3, 0, 5, 1])
    ends = sizes.cumsum(0).to(torch.int32)
    expert = torch.repeat_interleave(torch.arange(4), sizes)
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(9, width, generator=draws()).to(dtype)
        w = torch.randn(4, 8, width, generator=draws(1)).to(dtype)
        bias = torch.randn(4, 8, generator=draws(2)).to(dtype)
        w.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            assert grouped_product(x, w, ends, bias, expert).dtype == torch.bfloat16
        found = grouped_product(x, w, ends, bias, expert)
        expected = torch.einsum("moi,mi->mo", w[expert], x) + bias[expert]
        torch.testing.assert_close(found, expected)
        (gradient,) = torch.autograd.grad(found.square().sum(), w)
        torch.testing.assert_close(
            gradient, torch.autograd.grad(expected.square().sum(), w)[0]
        )


def test_a_dense_model_compiles_as_one_graph():
    """Gemma's has layers with a window and one without."""
    model = Decoder(replace(configuration("gemma3"), layers=2), draws())
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(TOKENS), model(TOKENS))


# --- loss and load -------------------------------------------------------------------


def test_a_model_that_is_given_the_answer_has_no_loss():
    targets = TOKENS[:, 1:]
    assert loss(1e3 * F.one_hot(targets, V).float(), targets) == 0
    even = loss(torch.zeros(2, 5, V, dtype=torch.bfloat16), TOKENS[:2, :5])
    assert even.dtype == torch.float32
    assert even == pytest.approx(np.log(V))


def test_experts_are_chosen_by_the_gate_of_the_family():
    for name in MIXTURES:
        c = configuration(name)
        _, routers = decoder(name)(TOKENS, routers=True)
        assert len(routers) == c.layers
        for r in routers:
            assert isinstance(r, Router)
            assert r.logits.shape == (TOKENS.numel(), c.experts)
            largest = r.logits.argsort(-1, descending=True)[:, : c.chosen]
            assert torch.equal(largest.sort(-1)[0], r.chosen.sort(-1)[0])
    _, none = decoder("qwen3")(TOKENS, routers=True)
    assert none == [None] * 3


# --- bad input -----------------------------------------------------------------------


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match="longer context"):
        decoder("qwen3")(torch.zeros(1, T + 1, dtype=torch.long))
    with pytest.raises(ValueError, match="give draws="):
        Decoder(configuration("qwen3"))
    with pytest.raises(ValueError, match="unknown preset 'gpt'"):
        preset("gpt")
    with pytest.raises(ValueError, match="unknown family 'llama'"):
        family("llama", **SIZES)
    for change, message in (
        ({"gate": "sigmoid"}, "unknown 'sigmoid'"),
        ({"kv_heads": 3}, "divide heads"),
        ({"head_width": 5}, "even one"),
        ({"experts": 4}, "1 to all"),
        ({"window": 4}, "2 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(configuration("qwen3"), **change)
