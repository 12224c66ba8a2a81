"""config.json of Hugging Face's format: how a DecoderConfig is written and read.

`described` writes and `configuration` reads. A setting that is not read back as it was
written cannot be expressed in the format; `kind_of` then raises an error that names it.
"""

from dataclasses import fields, replace
from math import inf, log

from symlab.harness.errors import nearest
from symlab.models.families import DecoderConfig, Yarn, family
from symlab.models.transformer import ALPHA, LIMIT

KINDS = {  # model_type: our family, their class
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "gemma3_text": ("gemma3", "Gemma3ForCausalLM"),
    "olmoe": ("olmoe", "OlmoeForCausalLM"),
    "gpt_oss": ("gpt-oss", "GptOssForCausalLM"),
}
SLIDING, FULL = "sliding_attention", "full_attention"
FIXED = {  # settings of theirs for which a Decoder has one value
    "qwen3": {"hidden_act": "silu", "attention_bias": False},
    "gemma3_text": {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "use_bidirectional_attention": False,
    },
    "olmoe": {"hidden_act": "silu", "attention_bias": False, "clip_qkv": None},
    "gpt_oss": {
        "hidden_act": "silu",
        "attention_bias": True,
        "swiglu_alpha": ALPHA,
        "swiglu_limit": LIMIT,
    },
}
# --- written -------------------------------------------------------------------------


def described(kind: str, c: DecoderConfig) -> dict:
    """Return the content of config.json for a configuration.

    kind: 'qwen3', 'gemma3_text', 'olmoe' or 'gpt_oss'.
    c: the configuration.

    Settings that this kind cannot express are left out: `kind_of` finds a kind that can
    express all of them.
    """
    content = {
        "model_type": kind,
        "architectures": [KINDS[kind][1]],
        "vocab_size": c.vocabulary,
        "max_position_embeddings": c.context,
        "hidden_size": c.width,
        "intermediate_size": c.hidden,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "rms_norm_eps": c.eps,
        "tie_word_embeddings": c.tied,
        "bos_token_id": None,  # absent ones get the published models' numbers
        "eos_token_id": None,
        "pad_token_id": None,
        "rope_parameters": _rope(c.rope_base, c.yarn),
        **FIXED[kind],
    }
    if kind != "olmoe":
        types = [SLIDING if c.slides(i) else FULL for i in range(c.layers)]
        content |= {"head_dim": c.head_width, "layer_types": types}
        # transformers asks for a window where no layer has one, too
        content |= {"sliding_window": c.window or c.context}
    if kind == "qwen3":
        content |= {"use_sliding_window": c.window is not None}
    elif kind == "gemma3_text":
        content["query_pre_attn_scalar"] = round(_query_scale(c) ** -2)
        local = _rope(c.window_rope_base or c.rope_base, None)
        content["rope_parameters"] = {FULL: _rope(c.rope_base, None), SLIDING: local}
    else:
        experts = "num_experts" if kind == "olmoe" else "num_local_experts"
        content |= {experts: c.experts, "num_experts_per_tok": c.chosen}
    if kind == "olmoe":  # a softmax of the chosen is a softmax of all, renormalised
        content["norm_topk_prob"] = c.gate == "top-k, softmax"
    return content


def _rope(base: float, yarn: Yarn | None) -> dict:
    if yarn is None:
        return {"rope_type": "default", "rope_theta": base}
    return {
        "rope_type": "yarn",
        "rope_theta": base,
        "factor": yarn.factor,
        "original_max_position_embeddings": yarn.context,
        "beta_fast": yarn.fast,
        "beta_slow": yarn.slow,
        "truncate": False,
    }


def kind_of(config: DecoderConfig) -> str:
    """Return the `model_type` of the Hugging Face model that a configuration fits.

    Its configuration has a field for every setting of ours. Raises ValueError, which
    names the settings that the nearest kind cannot express.
    """
    kinds = ("olmoe", "gpt_oss") if config.experts else ("qwen3", "gemma3_text")
    lost = {kind: _lost(kind, config) for kind in kinds}
    kind = min(kinds, key=lambda kind: len(lost[kind]))
    if lost[kind]:
        raise ValueError(
            f"Hugging Face's {kind}, the nearest of {', '.join(KINDS)}, cannot say "
            + "; ".join(lost[kind])
        )
    return kind


def _lost(kind: str, config: DecoderConfig) -> list[str]:
    """The fields that this kind does not say, with their values."""
    lost, inside = [], config.heads * config.head_width
    if kind == "olmoe" and inside != config.width:
        lost.append(f"head_width = {config.head_width} (it has width / heads)")
        config = replace(config, width=inside)  # to find what else is lost
    if kind == "gemma3_text" and config.width % config.heads:
        lost.append(f"width = {config.width} (it has multiples of heads)")
    mine = _canonical(config)
    read = _canonical(configuration(described(kind, config)))
    pairs = [
        (f.name, getattr(mine, f.name), getattr(read, f.name)) for f in fields(mine)
    ]
    lost += [f"{name} = {a!r} (it has {b!r})" for name, a, b in pairs if a != b]
    return lost


def _canonical(c: DecoderConfig) -> DecoderConfig:
    """The same model with one value where several mean the same."""
    if c.window is None:
        c = replace(c, pattern=1, window_rope_base=None)
    else:
        types = [c.slides(i) for i in range(c.layers)]
        base = c.window_rope_base or c.rope_base
        c = replace(c, pattern=_pattern(types), window_rope_base=base)
    if not c.experts:
        c = replace(c, chosen=0, gate="softmax, top-k")
    return replace(c, query_scale=float(f"{_query_scale(c):.12g}"))


def _query_scale(c: DecoderConfig) -> float:
    return c.query_scale or c.head_width**-0.5


# --- read ----------------------------------------------------------------------------


def configuration(content: dict) -> DecoderConfig:
    """Return the DecoderConfig that a config.json describes.

    content: the JSON object, in the spelling of transformers 5 or of older published
        models.

    Raises ValueError that names what is missing, or what a Decoder does not have.
    """
    kind = content.get("model_type")
    if kind not in KINDS:
        raise ValueError(nearest(str(kind), KINDS, "model_type"))
    for key, value in (FIXED[kind] | {"attention_dropout": 0.0}).items():
        _expect(key, content.get(key, value), value)
    _expect("quantization_config", content.get("quantization_config"), None)
    heads, width = (
        _size(content, key) for key in ("num_attention_heads", "hidden_size")
    )
    own = width // heads if kind == "olmoe" else _size(content, "head_dim")
    shared = content.get("num_key_value_heads") is not None
    sizes = {
        "vocabulary": _size(content, "vocab_size"),
        "context": _size(content, "max_position_embeddings"),
        "width": width,
        "hidden": _size(content, "intermediate_size"),
        "layers": _size(content, "num_hidden_layers"),
        "heads": heads,
        "kv_heads": _size(content, "num_key_value_heads") if shared else heads,
        "head_width": own,
        "eps": _number(content, "rms_norm_eps"),
        "tied": content.get("tie_word_embeddings", kind == "gemma3_text"),
        **_windows(kind, content),
        **_positions(kind, content),
    }
    if kind == "gemma3_text":
        sizes["query_scale"] = _number(content, "query_pre_attn_scalar") ** -0.5
    if kind in ("olmoe", "gpt_oss"):
        experts = "num_experts" if kind == "olmoe" else "num_local_experts"
        sizes["experts"] = _size(content, experts)
        sizes["chosen"] = _size(content, "num_experts_per_tok")
    if kind == "olmoe" and content.get("norm_topk_prob"):
        sizes["gate"] = "top-k, softmax"
    return family(KINDS[kind][0], **sizes)


def _get(content: dict, key: str):
    if content.get(key) is None:
        raise ValueError(f"config.json has no {key}: add it, a Decoder needs it")
    return content[key]


def _size(content: dict, key: str) -> int:
    value = _get(content, key)
    if type(value) is not int or value < 1:
        raise ValueError(
            f"{key} = {value!r} in config.json: a Decoder needs a whole number of 1 or "
            "more"
        )
    return value


def _number(content: dict, key: str) -> float:
    value = _get(content, key)
    if type(value) not in (int, float) or not 0 < value < inf:
        raise ValueError(
            f"{key} = {value!r} in config.json: a Decoder needs a finite number above 0"
        )
    return value


def _table(content: dict, key: str) -> dict:
    value = _get(content, key)
    if not isinstance(value, dict):
        raise ValueError(f"{key} = {value!r} in config.json: a Decoder needs a table")
    return value


def _expect(key: str, found, value) -> None:
    if found != value:
        raise ValueError(
            f"{key} = {found!r} is not supported: a Decoder has {value!r} in its place"
        )


def _windows(kind: str, content: dict) -> dict:
    """window and pattern."""
    types, window = _layer_types(kind, content), content.get("sliding_window")
    if kind == "qwen3" and not content.get("use_sliding_window"):
        window = None
    known = isinstance(types, list) and all(t in (SLIDING, FULL) for t in types)
    if not known or len(types) != content["num_hidden_layers"]:
        raise ValueError(
            f"layer_types = {types} is not supported: a Decoder has one type for each "
            f"layer, {SLIDING} or {FULL}"
        )
    if SLIDING not in types:
        return {"window": None, "pattern": 1}
    if window is None:
        raise ValueError(f"layer_types has {SLIDING} and sliding_window is not set")
    window = _size(content, "sliding_window")
    return {"window": window, "pattern": _pattern([t == SLIDING for t in types])}


def _layer_types(kind: str, content: dict) -> list[str]:
    """Those written, else those that the kind's other settings stand for."""
    if content.get("layer_types"):
        return content["layer_types"]
    layers = range(content["num_hidden_layers"])
    if kind == "olmoe" or (kind == "qwen3" and not content.get("use_sliding_window")):
        return [FULL for _ in layers]
    if kind == "qwen3":
        first = _get(content, "max_window_layers")
        if type(first) is not int:
            raise ValueError(f"max_window_layers = {first!r}: give a whole number")
        return [SLIDING if i >= first else FULL for i in layers]
    every = 6 if kind == "gemma3_text" else 2
    if kind == "gemma3_text" and content.get("sliding_window_pattern") is not None:
        every = _size(content, "sliding_window_pattern")
    return [SLIDING if (i + 1) % every else FULL for i in layers]


def _pattern(slides: list[bool]) -> int:
    """The smallest with which layers slide so."""
    for pattern in range(2, len(slides) + 2):
        if all(s == bool((i + 1) % pattern) for i, s in enumerate(slides)):
            return pattern
    raise ValueError(
        f"layer_types with windows in layers {[i for i, s in enumerate(slides) if s]} "
        "is not supported: in a Decoder every n-th layer has none and all others do"
    )


def _positions(kind: str, content: dict) -> dict:
    """rope_base, yarn and window_rope_base."""
    rope = content.get("rope_parameters")
    if rope is not None:
        rope = _table(content, "rope_parameters")
    else:  # as before transformers 5
        rope = {"rope_theta": _number(content, "rope_theta")}
        if content.get("rope_scaling"):
            rope |= _table(content, "rope_scaling")
        if kind == "gemma3_text":
            local = {"rope_theta": _number(content, "rope_local_base_freq")}
            rope = {FULL: rope, SLIDING: local}
    factor = content.get("partial_rotary_factor")
    if kind != "gemma3_text":
        rope = {"partial_rotary_factor": factor, **rope}
        return {"rope_base": _number(rope, "rope_theta"), "yarn": _yarn(rope, content)}
    bases = {}
    for field, layers in (("rope_base", FULL), ("window_rope_base", SLIDING)):
        part = {"partial_rotary_factor": factor, **_table(rope, layers)}
        _expect("rope_type of gemma3_text", _yarn(part, content), None)
        bases[field] = _number(part, "rope_theta")
    return bases


def _yarn(rope: dict, content: dict) -> Yarn | None:
    _expect("partial_rotary_factor", rope.get("partial_rotary_factor") or 1.0, 1.0)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "yarn":
        raise ValueError(
            f"rope_type = {kind!r} is not supported: a Decoder has 'default' or 'yarn'"
        )
    _expect("truncate", rope.get("truncate", True), False)
    for key in ("mscale", "mscale_all_dim"):
        _expect(key, rope.get(key) or None, None)
    factor = _number(rope, "factor")
    if factor < 1:
        raise ValueError(f"factor = {factor} of yarn is not supported: use 1 or more")
    usual = 0.1 * log(factor) + 1
    if abs((rope.get("attention_factor") or usual) - usual) > 1e-9:
        _expect("attention_factor", rope["attention_factor"], usual)
    usual = {
        "original_max_position_embeddings": content["max_position_embeddings"],
        "beta_fast": 32.0,
        "beta_slow": 1.0,
    }
    said = usual | {key: rope[key] for key in usual if rope.get(key)}
    context = _size(said, "original_max_position_embeddings")
    return Yarn(factor, context, _number(said, "beta_fast"), _number(said, "beta_slow"))
