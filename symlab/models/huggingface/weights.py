"""Names and layouts of weights in Hugging Face's format, from a Decoder's and back.

Files of olmoe have a matrix for each expert, models of transformers one stack of all
experts; both are read. In the stacks of gpt_oss the columns of gate and up-projection
alternate, and matrices are (inputs, outputs).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from symlab.models.folder import missing

WHOLE = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
}
MODULES = {  # of a block: ours, theirs
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "feed_norm": "post_attention_layernorm",
    "feed.gate": "mlp.gate_proj",
    "feed.up": "mlp.up_proj",
    "feed.down": "mlp.down_proj",
    "feed.router": "mlp.gate",
}
OTHERS = {  # where a kind has other names
    "gemma3_text": {
        "feed_norm": "pre_feedforward_layernorm",
        "post_attention_norm": "post_attention_layernorm",
        "post_feed_norm": "post_feedforward_layernorm",
    },
    "gpt_oss": {"feed.router": "mlp.router"},
}
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
PARAMETERS = {  # of a block, in no module of their own
    "attention.sinks": "self_attn.sinks",
    "feed.gate_up": "mlp.experts.gate_up_proj",
    "feed.gate_up_bias": "mlp.experts.gate_up_proj_bias",
    "feed.down": "mlp.experts.down_proj",
    "feed.down_bias": "mlp.experts.down_proj_bias",
}


def _name(kind: str, ours: str) -> str:
    if ours in WHOLE:
        return WHOLE[ours]
    _, layer, rest = ours.split(".", 2)
    if rest in PARAMETERS:
        return f"model.layers.{layer}.{PARAMETERS[rest]}"
    module, _, last = rest.rpartition(".")
    theirs = (MODULES | OTHERS.get(kind, {}))[module]
    return f"model.layers.{layer}.{theirs}.{last}"


def converted(kind: str, weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield a Decoder's weights with the names and layouts of Hugging Face, on the CPU.

    kind: 'qwen3', 'gemma3_text', 'olmoe' or 'gpt_oss'.
    weights: by the Decoder's names.

    The experts of olmoe are yielded one by one.
    """
    for ours, p in weights.items():
        theirs, p = _name(kind, ours), p.cpu()
        if kind == "olmoe" and ".experts." in theirs:
            for e, matrix in enumerate(p):
                names = _expert_names(theirs, e)
                for name, part in zip(names, matrix.chunk(len(names)), strict=True):
                    yield name, part.clone()  # files have no tensors that share memory
        else:
            yield theirs, (_turned(theirs, p) if kind == "gpt_oss" else p).contiguous()


def _expert_names(stack: str, e: int) -> list[str]:
    """The matrices of one expert that a stack holds, one below the other."""
    stem, _, last = stack.rpartition(".")
    parts = ("gate_proj", "up_proj") if last == "gate_up_proj" else ("down_proj",)
    return [f"{stem}.{e}.{part}.weight" for part in parts]


def _turned(theirs: str, p: Tensor) -> Tensor:
    """Stacks of gpt_oss from ours: gates and ups in turn, inputs before outputs."""
    if ".gate_up_proj" in theirs:
        p = torch.stack(p.chunk(2, 1), 2).flatten(1, 2)
    return p.mT if ".experts." in theirs and p.ndim == 3 else p


def _turned_back(theirs: str, p: Tensor) -> Tensor:
    p = p.mT if ".experts." in theirs and p.ndim == 3 else p
    if ".gate_up_proj" in theirs:
        p = torch.cat([p[:, ::2], p[:, 1::2]], 1)
    return p


def has_own_head(stored) -> bool:
    """Return whether a head is stored that is not the embedding.

    stored: tensors by Hugging Face's names.

    Such a model has two separate tables, whatever its configuration says about tied
    weights; transformers reads it in the same way.
    """
    head, table = (WHOLE[name] for name in ("head.weight", "embedding.weight"))
    if head not in stored or table not in stored:
        return False
    one, other = stored[head], stored[table]
    wide = torch.promote_types(one.dtype, other.dtype)
    return not torch.equal(one.to(wide), other.to(wide))


class Reader:
    """Reads a Decoder's parameters, by the Decoder's names, from Hugging Face's
    tensors.

    kind: 'qwen3', 'gemma3_text', 'olmoe' or 'gpt_oss'.
    stored: tensors by Hugging Face's names, a mapping or a folder's `Weights`.
    tied: whether the head is the embedding; a copy of it may be stored and is not read.
    used: the stored names that were read.
    """

    def __init__(self, kind: str, stored, tied: bool):
        self.kind, self.stored = kind, stored
        self.used: set[str] = {WHOLE["head.weight"]} if tied else set()

    def __call__(self, ours: str) -> Tensor:
        theirs = _name(self.kind, ours)
        expert = self.kind == "olmoe" and ".experts." in theirs
        if expert and theirs not in self.stored:
            return self._stack(theirs)
        p = self._get(theirs)
        return _turned_back(theirs, p) if self.kind == "gpt_oss" else p

    def _stack(self, theirs: str) -> Tensor:
        experts, e = [], 0
        while (names := _expert_names(theirs, e))[0] in self.stored:
            experts.append(torch.cat([self._get(name) for name in names]))
            e += 1
        if not experts:
            self._get(names[0])  # says that it is missing
        return torch.stack(experts)

    def _get(self, theirs: str) -> Tensor:
        if theirs not in self.stored:
            raise ValueError(missing(theirs))
        self.used.add(theirs)
        p = self.stored[theirs]
        if p.dtype not in FLOATS:
            raise ValueError(
                f"the weight {theirs} is of {p.dtype}, which may stand for other "
                "numbers: write the weights as float32, float16 or bfloat16"
            )
        return p
