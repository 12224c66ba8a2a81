"""Inputs that are guessed, models on the meta device, and models that are refused."""

import warnings

import pytest
import torch
from torch import nn

from symlab.symopt import roles
from symlab.symopt.dataflow.examples import candidates

SIZES = {
    "num_attention_heads": 4, "num_hidden_layers": 1, "hidden_size": 32,
    "intermediate_size": 48, "vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
DECODER = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 64,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MODELS = {
    "BertForQuestionAnswering": ("BertConfig", SIZES),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", SIZES),
    "MarianMTModel": ("MarianConfig", DECODER),
    "Speech2TextForConditionalGeneration": (
        "Speech2TextConfig",
        DECODER | {"conv_channels": 16, "input_feat_per_channel": 8}),
    "T5ForConditionalGeneration": (
        "T5Config", {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48,
                     "num_layers": 1, "num_heads": 4}),
    "SwinForImageClassification": (
        "SwinConfig", {"image_size": 32, "patch_size": 4, "embed_dim": 16,
                       "depths": [1, 1], "num_heads": [2, 4], "window_size": 4}),
    "Qwen3MoeForCausalLM": (
        "Qwen3MoeConfig", SIZES | EXPERTS | {"head_dim": 8, "num_key_value_heads": 2}),
    "SwitchTransformersForConditionalGeneration": (
        "SwitchTransformersConfig",
        {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2,
         "num_decoder_layers": 2, "num_heads": 4, "num_experts": 4,
         "encoder_sparse_step": 2, "decoder_sparse_step": 2}),
}  # fmt: skip


def build(name):
    from symlab.models import vision

    vision.torchvision()  # transformers imports it
    transformers = pytest.importorskip("transformers")
    config, sizes = MODELS[name]
    return getattr(transformers, name)(getattr(transformers, config)(**sizes))


@pytest.mark.parametrize("name", MODELS)
def test_hugging_face_models_need_no_example(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = roles(build(name))
    unknown = {n for n, b in found.items() if b.role == "unknown"}
    assert all("expert" in n for n in unknown)
    if name == "BertForQuestionAnswering":
        assert not found["qa_outputs.weight"].shift
    tables = {b.shape for b in found.values() if b.role == "bias table"}
    assert len(tables) == {"T5": 1, "Sw": 2 if "Swin" in name else 1}.get(name[:2], 0)


@pytest.mark.parametrize("name", MODELS)
def test_on_the_meta_device_and_in_other_precisions_roles_are_the_same(name):
    found = roles(build(name))
    with torch.device("meta"):
        model = build(name)
    different = {
        n: (b, found[n]) for n, b in roles(model).items() if b.role != found[n].role
    }
    assert all(
        "not used" in one.note for pair in different.values() for one in pair[1:]
    )
    for dtype in (torch.float64, torch.bfloat16):
        given = roles(build(name).to(dtype))
        assert {n: b.role for n, b in given.items()} == {
            n: b.role for n, b in found.items()
        }


def test_the_numbers_that_a_forward_pass_asks_for_are_made_up_on_meta():
    class Asking(nn.Module):
        """Branches on a number, and sends each token to the experts it asks for."""

        def __init__(self):
            super().__init__()
            self.router, self.head = nn.Linear(8, 2, bias=False), nn.Linear(8, 3)
            self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

        def forward(self, x):
            which = self.router(x).softmax(-1).argmax(-1)
            if x.abs().max().item() > 1e9:
                return x
            y = torch.zeros_like(x)
            for e, expert in enumerate(self.experts):
                y[which == e] = expert(x[which == e])
            return self.head(x + y)

    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    found = roles(Asking(), x)
    assert found["router.weight"].role == "router"
    assert found["router.weight"].shift
    assert roles(Asking().to("meta"), x) == found


def test_guesses_are_tried_in_turn():
    class Late(nn.Module):
        """Its first layer is a table of positions, and its input is numbers."""

        def __init__(self):
            super().__init__()
            self.positions, self.w = nn.Embedding(5, 8), nn.Linear(6, 8)

        def forward(self, x):
            return self.w(x) + self.positions(torch.arange(len(x)))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = roles(Late())
    assert found["w.weight"].role == "matrix"
    assert len(list(candidates(Late()))) == 3  # ids, of two samples or one, and numbers


def test_guesses_leave_the_random_numbers_alone():
    layer = nn.Conv2d(3, 4, 3)
    torch.manual_seed(1)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    roles(layer)
    assert torch.equal(drawn, torch.rand(1))


def test_flattened_parameters_are_refused():
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = nn.Sequential(nn.Linear(4, 4))
    flat = FullyShardedDataParallel.__new__(FullyShardedDataParallel)
    nn.Module.__init__(flat)
    model.append(flat)
    with pytest.raises(ValueError, match=r"use fully_shard \(FSDP2\)"):
        roles(model)
