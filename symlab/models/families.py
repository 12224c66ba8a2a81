"""Sizes and architectures of decoders: four families as published, and smaller ones.

    preset("qwen3-626m")                                  as compared by Lau & Su
    preset("dense-small", vocabulary=4096, context=128)   for two CPU cores
    family("gpt-oss", vocabulary=512, context=64, ...)    sizes of one's own

The published sizes are those of arXiv 2605.18106; the architectures follow the
families' technical reports (arXiv 2505.09388, 2503.19786, 2409.02060, 2508.10925).
"""

from dataclasses import dataclass, replace
from operator import index

SIZES = ("vocabulary", "context", "width", "layers", "heads", "kv_heads", "head_width")
SIZES += ("hidden", "pattern")
COUNTS = ("experts", "chosen")
QK_NORMS = ("none", "head", "projection")
ACTIVATIONS = ("silu", "gelu", "clamped")
GATES = ("softmax, top-k", "top-k, softmax")


@dataclass(frozen=True)
class Yarn:
    """YaRN (arXiv 2309.00071): slower rotary position embedding, for longer contexts.

    Pairs of coordinates that make fewer than `slow` turns in `context` tokens turn
    `factor` times more slowly, those that make more than `fast` turns are unchanged,
    and between these the mixture is linear.
    """

    factor: float
    context: int
    fast: float = 32.0
    slow: float = 1.0


@dataclass(frozen=True)
class DecoderConfig:
    """The sizes of a decoder-only transformer, and the settings in which families
    differ.

    vocabulary, context: the number of tokens, and the longest sequence.
    width, layers: of the residual stream, and the number of blocks.
    heads, kv_heads, head_width: query heads, the heads of keys and values that they
        share, and the width of each head.
    hidden: units of the feed-forward part, or of one expert.
    experts, chosen: the number of experts and how many a token uses; 0 for one dense
        unit.
    gate: the order in which a router takes them, 'softmax, top-k' (the probabilities of
        the chosen are not renormalised) or 'top-k, softmax'.
    activation: of gated units, 'silu', 'gelu' (its tanh form) or 'clamped' (gpt-oss's).
    qk_norm: RMS norm of queries and keys: 'none', 'head' (of each head) or 'projection'
        (of the whole projection).
    biases: whether attention, router and experts have biases.
    sinks: whether each head has a learned logit that takes attention and gives nothing.
    window, pattern: the tokens that a layer with a sliding window sees, itself
        included, None for no window; every pattern-th layer sees all tokens.
    rope_base, window_rope_base: base of the rotary frequencies; another one for layers
        with a window, or None.
    yarn: a `Yarn`, or None.
    query_scale: the factor on attention logits; None for head_width^(-1/2).
    gain_offset: norms multiply by gain_offset + gain.
    post_norms: whether norms also follow attention and the feed-forward part.
    scaled_embedding: whether embeddings are multiplied by width^(1/2).
    eps, tied: of the norms; whether the head's weight is that of the embedding.

    Raises ValueError for sizes and settings that do not fit together.
    """

    vocabulary: int
    context: int
    """the longest sequence"""
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int
    """R: units of the feed-forward part, or of one expert"""
    experts: int = 0
    """0: one dense unit"""
    chosen: int = 0
    """K experts per token"""
    gate: str = "softmax, top-k"
    """the order; probabilities of the chosen are not renormalised in the first"""
    activation: str = "silu"
    """of gated units; 'gelu' in its tanh form; 'clamped' is gpt-oss's"""
    qk_norm: str = "head"
    """RMS norm of queries and keys, per head or over the whole projection"""
    biases: bool = False
    """of attention, router and experts"""
    sinks: bool = False
    """a learned logit per head that takes attention and gives nothing"""
    window: int | None = None
    """tokens that a sliding layer sees, itself included"""
    pattern: int = 1
    """every pattern-th layer sees all tokens, the others a window"""
    rope_base: float = 1e6
    window_rope_base: float | None = None
    """of sliding layers, where it is another"""
    yarn: Yarn | None = None
    query_scale: float | None = None
    """of attention logits; default W^(-1/2)"""
    gain_offset: float = 0.0
    """norms multiply by offset + gain"""
    post_norms: bool = False
    """norms also after attention and after the feed-forward part"""
    scaled_embedding: bool = False
    """times D^(1/2)"""
    eps: float = 1e-6
    tied: bool = False
    """the head's weight is the embedding's"""

    def __post_init__(self):
        names = (*SIZES, *COUNTS, *(() if self.window is None else ("window",)))
        for name in names:
            value = whole_number(self, name, least=0 if name in COUNTS else 1)
            object.__setattr__(self, name, value)  # the dataclass is frozen
        for value, known in (
            (self.gate, GATES),
            (self.activation, ACTIVATIONS),
            (self.qk_norm, QK_NORMS),
        ):
            if value not in known:
                raise ValueError(f"unknown {value!r}: use one of {', '.join(known)}")
        if self.heads % self.kv_heads:
            raise ValueError(
                f"{self.heads} heads do not share {self.kv_heads} keys equally: choose "
                "kv_heads that divide heads"
            )
        if self.head_width % 2:
            raise ValueError(
                f"head_width = {self.head_width} has no pairs: use an even one"
            )
        if self.window is not None and self.pattern < 2:
            raise ValueError(
                f"pattern = {self.pattern} leaves no layer with a window: use 2 or more"
            )
        if self.experts and not 0 < self.chosen <= self.experts:
            raise ValueError(
                f"chosen = {self.chosen} of {self.experts} experts: choose 1 to all"
            )

    def slides(self, layer: int) -> bool:
        """Return whether a layer attends only to the last `window` tokens.

        layer: its number, from 0.
        """
        return self.window is not None and (layer + 1) % self.pattern != 0


def whole_number(config: DecoderConfig, name: str, least: int) -> int:
    """Return a field of the configuration as an int.

    name: the field. least: its smallest valid value.

    Raises ValueError if the value is not a whole number or is below `least`.
    """
    value = getattr(config, name)
    try:
        found = index(value)  # numpy's, too
    except TypeError:
        found = least - 1
    if found < least:
        raise ValueError(f"{name} = {value!r}: give a whole number of {least} or more")
    return found


FAMILIES = {
    "qwen3": {},
    "gemma3": {
        "activation": "gelu",
        "window": 512,
        "pattern": 6,
        "window_rope_base": 1e4,
        "query_scale": 256**-0.5,
        "gain_offset": 1.0,
        "post_norms": True,
        "scaled_embedding": True,
    },
    "olmoe": {"qk_norm": "projection", "rope_base": 1e4, "eps": 1e-5},
    "gpt-oss": {
        "gate": "top-k, softmax",
        "activation": "clamped",
        "qk_norm": "none",
        "biases": True,
        "sinks": True,
        "window": 128,
        "pattern": 2,
        "rope_base": 1.5e5,
        "yarn": Yarn(factor=32.0, context=4096),
        "eps": 1e-5,
    },
}


def family(name: str, **sizes) -> DecoderConfig:
    """Return a configuration with the architecture of a published family, such as
    'qwen3'.

    sizes: fields of DecoderConfig, which take precedence over those of the family.

    Raises ValueError for an unknown family.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown family {name!r}: use one of {', '.join(FAMILIES)}")
    return DecoderConfig(**(FAMILIES[name] | sizes))


def _sizes(width, layers, heads, kv_heads, head_width, hidden, **others) -> dict:
    """D, layers, H, G, W, R; vocabulary and context, unless given."""
    return {
        "width": width,
        "layers": layers,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_width": head_width,
        "hidden": hidden,
        "vocabulary": 4096,
        "context": 1024,
    } | others


PRESETS = {
    "qwen3-626m": family(
        "qwen3", **_sizes(1024, 20, 16, 8, 128, 3072, vocabulary=151936)
    ),
    "gemma3-1.1b": family(
        "gemma3", **_sizes(1152, 18, 4, 1, 256, 6912, vocabulary=262144)
    ),
    "olmoe-2.8b": family(
        "olmoe",
        **_sizes(2048, 12, 16, 16, 128, 1024, vocabulary=50304, experts=32, chosen=8),
    ),
    "gpt-oss-3.5b": family(
        "gpt-oss",
        **_sizes(2048, 12, 64, 8, 64, 2048, vocabulary=201088, experts=16, chosen=4),
    ),
    "dense-small": family("qwen3", **_sizes(96, 3, 3, 1, 32, 288, context=128)),
    "moe-small": family(
        "olmoe", **_sizes(96, 2, 3, 3, 32, 96, context=128, experts=16, chosen=2)
    ),
    "dense-512": family("qwen3", **_sizes(512, 8, 8, 4, 64, 1536, vocabulary=32768)),
    "moe-512": family(
        "olmoe",
        **_sizes(512, 8, 8, 8, 64, 128, vocabulary=32768, experts=64, chosen=8),
    ),
    "dense-768": family("qwen3", **_sizes(768, 12, 6, 3, 128, 2304, vocabulary=32768)),
}


def preset(name: str, **changes) -> DecoderConfig:
    """Return a named configuration, such as 'dense-small', with some fields changed.

    changes: fields of DecoderConfig, such as vocabulary and context. Raises ValueError
        for an unknown name.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: use one of {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)
