"""Nineteen architectures as tiny models, and the true role of each of their parameters.

The roles were read in the module code of transformers 5, not in names of parameters and
not in what `symlab.symopt` says. So they are an oracle for it. A role is defined by
what is done with a weight:

query, key, value   its product is that argument of an attention
qkv                 one weight with all three
attention out       it is applied to what an attention returns
gate, up, down      the unit down(act(gate(x)) * up(x)); gate_up: the first two in one
router              its product reaches a top-k or an argmax over experts
matrix              another product inside of the model, as in a plain MLP
depthwise           a convolution of each channel with itself
bias table          rows, chosen by a distance, that are added to attention scores

Where an expert could give two answers, both are admissible. 'unknown' is never wrong,
but it is asked for a reason, and expected only where the truth lists it.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

VOCABULARY, WIDTH, HEADS, KV_HEADS = 64, 32, 4, 2
HEADED = ("query", "key", "value", "qkv", "attention out")
HIDDEN = (*HEADED, "gate", "up", "gate_up", "down", "matrix", "convolution", "fused")
TABLES = ("embedding", "tied embedding", "head", "bias table", "depthwise")
VECTORS = ("gain", "bias")


@dataclass(frozen=True)
class Truth:
    """What is true of one parameter.

    roles: the admissible ones, the most precise first; with 'unknown' where even an
    expert may give up. heads: blocks of the outputs, or of the inputs of an 'attention
    out'. rows, columns: the axes of outputs and inputs. shift: whether one vector added
    to all rows changes no prediction. layout: how gate and up share their weight.
    parts: how many different maps this tensor holds, where it holds several.
    """

    roles: tuple[str, ...]
    heads: int = 1
    rows: int = 0
    columns: int = 1
    shift: bool = False
    layout: str | None = None
    parts: int = 1

    @property
    def update(self) -> str:
        """The update that it should have: 'matrix', 'vector', or 'either' is right.

        'vector' is AdamW or a row norm: tables, heads, and all that is no matrix.
        A router is 'either': both are common, and Lau & Su ask for a matrix update.
        """
        known = set(self.roles) - {"unknown"}
        if known <= set(HIDDEN):
            return "matrix"
        return "vector" if known <= {*TABLES, *VECTORS} else "either"


@dataclass(frozen=True)
class Architecture:
    """A class of transformers with a tiny configuration, and its truth by name pattern.

    The first pattern that fits a parameter's name counts. inputs: what the model takes,
    'text', 'sequences' (two of them), 'image', 'audio' or 'text and image'.
    """

    model: str
    config: dict
    truth: dict[str, Truth]
    inputs: str = "text"

    def build(self, seed: int = 0) -> nn.Module:
        """The model with random weights; torch's own random stream stays as it is."""
        from symlab.models import vision

        vision.torchvision()  # transformers imports it
        import transformers

        kind = getattr(transformers, self.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return kind(kind.config_class(**self.config)).eval()

    def truths(self, model: nn.Module) -> dict[str, Truth]:
        """name -> Truth for each parameter, each once."""
        return {name: self.truth[self.pattern(name)] for name in _names(model)}

    def pattern(self, name: str) -> str:
        """The first pattern that fits this name."""
        for pattern in self.truth:
            if fnmatchcase(name, pattern):
                return pattern
        raise KeyError(f"{self.model} has no truth for {name}: add a pattern")

    def example(self) -> dict[str, torch.Tensor]:
        """Keyword arguments for one forward pass."""
        draw = torch.Generator().manual_seed(1)
        ids = torch.randint(3, VOCABULARY, (2, 6), generator=draw)
        image = torch.randn((2, 3, 16, 16), generator=draw)
        audio = torch.randn((2, 8, 24), generator=draw)  # 24 frames are 12 positions
        return {
            "text": {"input_ids": ids},
            "sequences": {"input_ids": ids, "decoder_input_ids": ids.flip(1)},
            "image": {"pixel_values": image},
            "audio": {"input_features": audio, "decoder_input_ids": ids},
            "text and image": {"input_ids": ids, "pixel_values": image},
        }[self.inputs]


def _names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def mistakes(block, truth: Truth) -> list[str]:
    """What a `symlab.symopt.roles.Block` says that is not true; empty if unknown."""
    if block.role == "unknown":
        return []
    if block.role not in truth.roles:
        return [f"the role is {block.role}, not {' or '.join(truth.roles)}"]
    claims = {"shift": (block.shift, truth.shift)}
    if block.role in HEADED:
        claims["heads"] = (block.heads, truth.heads)
        inside = block.role == "attention out" and truth.heads > 1
        claims["head_columns"] = (block.head_columns, inside)
    if block.role in HIDDEN and block.role != "convolution":
        claims["axes"] = ((block.rows, block.columns), (truth.rows, truth.columns))
    if block.role == "gate_up":
        claims["layout"] = (block.layout, truth.layout)
    return [f"{k} is {a}, not {b}" for k, (a, b) in claims.items() if a != b]


# --- parts that several architectures share ------------------------------------------

GAIN, BIAS = Truth(("gain",)), Truth(("bias",))
EMBEDDING, TIED = Truth(("embedding",)), Truth(("tied embedding",))
LANGUAGE_HEAD = Truth(("head",), shift=True)  # a softmax over the vocabulary follows
MATRIX, CONVOLUTION = Truth(("matrix",)), Truth(("convolution",))
GATE, UP, DOWN = Truth(("gate",)), Truth(("up",)), Truth(("down",))
ROUTER = Truth(("router",), shift=True)  # a softmax follows
BIAS_TABLE = Truth(("bias table", "unknown"))
PROJECTION = Truth(("head", "matrix"))  # the last product, and its size is a width
GATE_UP = Truth(("gate_up",), layout="concatenated", parts=2)
GATE_UP_STACK = Truth(("gate_up",), rows=1, columns=2, layout="concatenated", parts=2)
DOWN_STACK = Truth(("down",), rows=1, columns=2)
NORMS = {"*norm*.weight": GAIN}
BIASES = {"*.bias": BIAS}


def qkv(blocks: int) -> Truth:
    return Truth(("qkv",), blocks, parts=3)


def attention(kv_heads: int = HEADS, names: str = "{}_proj", out: str = "o") -> dict:
    """Patterns of separate queries, keys, values and outputs."""
    heads = {"q": ("query", HEADS), "k": ("key", kv_heads), "v": ("value", kv_heads)}
    heads[out] = ("attention out", HEADS)
    return {
        f"*.{names.format(key)}.weight": Truth((role,), n)
        for key, (role, n) in heads.items()
    }


def gated(where: str) -> dict:
    """Patterns of a gated unit in three weights, as in Llama."""
    parts = {"gate": GATE, "up": UP, "down": DOWN}
    return {f"*.{where}.{key}_proj.weight": truth for key, truth in parts.items()}


def experts(where: str) -> dict:
    """Patterns of a router and of stacked experts with gated units."""
    return {
        f"*.{where}.gate.weight": ROUTER,
        f"*.{where}.experts.gate_up_proj": GATE_UP_STACK,
        f"*.{where}.experts.down_proj": DOWN_STACK,
    }


UNTIED = {"model.embed_tokens.weight": EMBEDDING, "lm_head.weight": LANGUAGE_HEAD}
LLAMA = UNTIED | attention(KV_HEADS) | gated("mlp") | NORMS
PLAIN_MLP = {"*.fc1.weight": MATRIX, "*.fc2.weight": MATRIX}
DENSE_MLP = {"*.dense_h_to_4h.weight": MATRIX, "*.dense_4h_to_h.weight": MATRIX}
SEPARATE = attention(out="out") | PLAIN_MLP  # BART, CLIP, OPT, Whisper

TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1}
TOKENS |= {"eos_token_id": 2}
DECODER = TOKENS | {
    "hidden_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
}
GROUPED = DECODER | {"intermediate_size": 48, "num_key_value_heads": KV_HEADS}
TWO_STACKS = TOKENS | {
    "d_model": WIDTH,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": 1,
}
T5_SIZES = {"vocab_size": VOCABULARY, "d_model": WIDTH, "d_kv": 8, "d_ff": 48}
T5_SIZES |= {"num_heads": HEADS, "pad_token_id": 0, "decoder_start_token_id": 0}
IMAGES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
    "image_size": 16,
    "patch_size": 8,
}


# --- the architectures ---------------------------------------------------------------

ARCHITECTURES = {
    "Llama": Architecture("LlamaForCausalLM", GROUPED, LLAMA),
    "Mistral": Architecture("MistralForCausalLM", GROUPED, LLAMA),
    "Qwen3": Architecture("Qwen3ForCausalLM", GROUPED | {"head_dim": 8}, LLAMA),
    "Gemma 2": Architecture(
        "Gemma2ForCausalLM",
        GROUPED | {"num_hidden_layers": 2, "head_dim": 8, "tie_word_embeddings": False},
        # its logits go through a soft cap, so a shift of all of them is felt
        LLAMA | {"lm_head.weight": Truth(("head",))},
    ),
    "Mixtral": Architecture(
        "MixtralForCausalLM",
        GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2},
        UNTIED | attention(KV_HEADS) | experts("mlp") | NORMS,
    ),
    "Qwen2-MoE": Architecture(
        "Qwen2MoeForCausalLM",
        GROUPED
        | {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 40,
        },
        UNTIED
        | attention(KV_HEADS)
        | experts("mlp")
        | gated("mlp.shared_expert")
        # one number per token: sigmoid(gate(x)) times the shared expert's output
        | {"*.shared_expert_gate.weight": Truth(("gate", "matrix", "router"))}
        | NORMS
        | BIASES,
    ),
    "DeepSeek-V3": Architecture(
        "DeepseekV3ForCausalLM",
        GROUPED
        | {
            "num_hidden_layers": 2,
            "num_key_value_heads": HEADS,
            "first_k_dense_replace": 1,
            "moe_intermediate_size": 24,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "q_lora_rank": 16,
            "kv_lora_rank": 12,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4,
            "v_head_dim": 8,
        },
        UNTIED
        | {
            "*.q_a_proj.weight": Truth(("matrix", "unknown")),  # to the latent query
            "*.q_b_proj.weight": Truth(("query",), HEADS),
            # the latent of keys and values, and the key that all heads share
            "*.kv_a_proj_with_mqa.weight": Truth(
                ("fused", "matrix", "unknown"), parts=2
            ),
            # for each head a key without positions, then a value
            "*.kv_b_proj.weight": Truth(
                ("fused", "qkv", "matrix", "unknown"), 2 * HEADS, parts=2
            ),
            "*.o_proj.weight": Truth(("attention out",), HEADS),
        }
        # its gates are sigmoids, and a shift of all logits is felt
        | experts("mlp")
        | {"*.mlp.gate.weight": Truth(("router",))}
        | gated("mlp")
        | gated("mlp.shared_experts")
        | NORMS,
    ),
    "Falcon": Architecture(
        "FalconForCausalLM",
        DECODER,
        {"transformer.word_embeddings.weight": TIED}
        # all heads of queries, then one of keys and one of values
        | {"*.query_key_value.weight": qkv(HEADS + 2)}
        | {"*.self_attention.dense.weight": Truth(("attention out",), HEADS)}
        | DENSE_MLP
        | {"*norm.weight": GAIN, "*.ln_f.weight": GAIN}
        | BIASES,
    ),
    "Bloom": Architecture(
        "BloomForCausalLM",
        TOKENS | {"hidden_size": WIDTH, "n_layer": 1, "n_head": HEADS},
        {"transformer.word_embeddings.weight": TIED}
        # query, key and value of one head, then those of the next
        | {"*.query_key_value.weight": qkv(3 * HEADS)}
        | {"*.self_attention.dense.weight": Truth(("attention out",), HEADS)}
        | DENSE_MLP
        | {"*norm.weight": GAIN, "*.ln_f.weight": GAIN}
        | BIASES,
    ),
    "GPT-J": Architecture(
        "GPTJForCausalLM",
        TOKENS | {"n_embd": WIDTH, "n_layer": 1, "n_head": HEADS, "rotary_dim": 4},
        {"transformer.wte.weight": EMBEDDING, "lm_head.weight": LANGUAGE_HEAD}
        | attention(out="out")
        | {"*.fc_in.weight": MATRIX, "*.fc_out.weight": MATRIX}
        | {"*.ln_1.weight": GAIN, "*.ln_f.weight": GAIN}
        | BIASES,
    ),
    "OPT": Architecture(
        "OPTForCausalLM",
        DECODER
        | {"ffn_dim": 48, "word_embed_proj_dim": 16, "max_position_embeddings": 32}
        | {"do_layer_norm_before": False},  # as the one of 350M parameters
        {"*.embed_tokens.weight": TIED, "*.embed_positions.weight": EMBEDDING}
        | {"*.project_in.weight": MATRIX, "*.project_out.weight": MATRIX}
        | SEPARATE
        | NORMS
        | BIASES,
    ),
    "T5": Architecture(
        "T5ForConditionalGeneration",
        T5_SIZES | {"num_layers": 1},
        {"shared.weight": TIED, "*.relative_attention_bias.weight": BIAS_TABLE}
        | attention(names="{}")
        | {"*.wi.weight": MATRIX, "*.wo.weight": MATRIX}
        | NORMS,
        inputs="sequences",
    ),
    "Switch": Architecture(
        "SwitchTransformersForConditionalGeneration",
        T5_SIZES
        | {"num_layers": 2, "num_decoder_layers": 2, "num_experts": 4}
        | {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1},
        {"shared.weight": TIED, "*.relative_attention_bias.weight": BIAS_TABLE}
        | attention(names="{}")
        # the loss has a z-loss of the router's logits (router_z_loss_coef is 0.001),
        # and the logsumexp in it feels a shift that the forward pass does not
        | {"*.router.classifier.weight": Truth(("router",))}
        | {"*.wi.weight": MATRIX, "*.wo.weight": MATRIX}
        | NORMS,
        inputs="sequences",
    ),
    "BART": Architecture(
        "BartForConditionalGeneration",
        TWO_STACKS | {"max_position_embeddings": 32, "forced_eos_token_id": 2},
        {"model.shared.weight": TIED, "*.embed_positions.weight": EMBEDDING}
        | SEPARATE
        | NORMS
        | BIASES,
        inputs="sequences",
    ),
    "Whisper": Architecture(
        "WhisperForConditionalGeneration",
        TWO_STACKS
        | {"max_source_positions": 12, "max_target_positions": 16, "num_mel_bins": 8},
        {"model.decoder.embed_tokens.weight": TIED}
        | {"*.conv?.weight": CONVOLUTION}
        | {"model.encoder.embed_positions.weight": EMBEDDING}
        # its rows are sliced, then added: no lookup
        | {"model.decoder.embed_positions.weight": Truth(("embedding", "bias"))}
        | SEPARATE
        | NORMS
        | BIASES,
        inputs="audio",
    ),
    "ViT": Architecture(
        "ViTForImageClassification",
        IMAGES | {"num_labels": 5},
        {
            "*.cls_token": Truth(("bias", "unknown")),
            "*.position_embeddings": Truth(("bias", "embedding", "unknown")),
            "*.patch_embeddings.projection.weight": CONVOLUTION,
            "classifier.weight": Truth(("head",)),  # its softmax is in the loss
        }
        | attention()
        | PLAIN_MLP
        | NORMS
        | BIASES,
        inputs="image",
    ),
    "CLIP": Architecture(
        "CLIPModel",
        {
            "projection_dim": 24,
            "text_config": GROUPED | {"max_position_embeddings": 16},
            "vision_config": IMAGES,
        },
        {
            "logit_scale": Truth(("gain", "unknown")),
            "*.token_embedding.weight": EMBEDDING,
            "*.position_embedding.weight": EMBEDDING,
            "*.class_embedding": BIAS,
            "*.patch_embedding.weight": CONVOLUTION,
            "*_projection.weight": PROJECTION,
            "*.pre_layrnorm.weight": GAIN,
        }
        | SEPARATE
        | NORMS
        | BIASES,
        inputs="text and image",
    ),
    "Mamba": Architecture(
        "MambaForCausalLM",
        TOKENS
        | {"hidden_size": WIDTH, "num_hidden_layers": 1}
        | {"state_size": 4, "time_step_rank": 4},
        {
            "backbone.embeddings.weight": TIED,
            "*.A_log": Truth(("gain", "bias", "unknown")),  # exp(dt A), by entries
            "*.mixer.D": Truth(("gain", "unknown")),  # times x
            "*.conv1d.weight": Truth(("depthwise", "unknown")),
            # x and its gate z: the unit is out_proj(silu(z) * scan(x))
            "*.in_proj.weight": Truth(
                ("fused", "gate_up", "matrix"), layout="concatenated", parts=2
            ),
            "*.x_proj.weight": Truth(("fused", "matrix"), parts=3),  # of dt, B and C
            "*.dt_proj.weight": Truth(("matrix", "gate")),  # softplus(dt) B x
            "*.out_proj.weight": Truth(("down", "matrix")),
        }
        | NORMS
        | BIASES,
    ),
    "ModernBERT": Architecture(
        "ModernBertForMaskedLM",
        GROUPED
        | {"num_hidden_layers": 2, "num_key_value_heads": HEADS}
        | {"cls_token_id": 1, "sep_token_id": 2},
        {"*.tok_embeddings.weight": TIED}
        # all queries, then all keys, then all values
        | {"*.Wqkv.weight": qkv(3 * HEADS)}
        | {"*.attn.Wo.weight": Truth(("attention out",), HEADS)}
        | {"*.mlp.Wi.weight": GATE_UP, "*.mlp.Wo.weight": DOWN}
        | {"head.dense.weight": MATRIX}  # before the tied decoder
        | NORMS
        | BIASES,
    ),
}
