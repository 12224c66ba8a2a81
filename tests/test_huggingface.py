"""Export to and import from Hugging Face's format, with transformers as the judge."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from symlab.data.text import Corpus, corpus
from symlab.models import huggingface, vision
from symlab.models.families import PRESETS, DecoderConfig, Yarn, preset
from symlab.models.folder import write_json, write_weights
from symlab.models.generate import generate
from symlab.models.huggingface import export, imported
from symlab.models.huggingface.configurations import (
    FULL,
    configuration,
    described,
    kind_of,
)
from symlab.models.transformer import Decoder, family
from symlab.pretraining import Recipe, load, train
from symlab.pretraining.__main__ import _check_tokens
from symlab.pretraining.saved import save
from tests.test_transformer import (
    FAMILIES,
    TOKENS,
    T,
    V,
    decoder,
    draws,
    hugging_face,
)
from tests.test_transformer import (
    configuration as usual,
)


@pytest.fixture(scope="module")
def transformers():
    vision.torchvision()  # transformers imports it
    found = pytest.importorskip("transformers")
    found.logging.disable_progress_bar()
    return found


def stirred(config: DecoderConfig) -> Decoder:
    """Random and large weights, all of them."""
    model = Decoder(config, draws())
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=draws(p.numel())))
    return model


ODD = {  # what the families may have and seldom do
    "qwen3 that slides": (
        "qwen3",
        {"window": 5, "pattern": 3, "layers": 5, "rope_base": 321.0, "kv_heads": 1},
    ),
    "qwen3 with yarn": ("qwen3", {"yarn": Yarn(4.0, 8, 2.0, 0.2), "eps": 1e-3}),
    "gemma3 of two bases": (
        "gemma3",
        {"rope_base": 3e5, "window_rope_base": 50.0, "pattern": 3, "layers": 4}
        | {"query_scale": 24**-0.5, "kv_heads": 1},
    ),
    "gemma3 that sees all": ("gemma3", {"window": None, "query_scale": None}),
    "gemma3 that sees little": ("gemma3", {"window": 1, "pattern": 9, "eps": 0.1}),
    "olmoe, renormalised": (
        "olmoe",
        {"gate": "top-k, softmax", "kv_heads": 1, "rope_base": 77.0, "chosen": 8},
    ),
    "olmoe with yarn": ("olmoe", {"yarn": Yarn(2.0, 12), "experts": 5, "chosen": 1}),
    "gpt-oss without yarn": ("gpt-oss", {"yarn": None, "rope_base": 55.0}),
    "gpt-oss with a short yarn": (
        "gpt-oss",
        {"yarn": Yarn(8.0, 6, 1.5, 0.3), "pattern": 3, "layers": 4, "rope_base": 90.0}
        | {"heads": 6, "kv_heads": 3, "head_width": 4},
    ),
    "gpt-oss that sees all": ("gpt-oss", {"window": None, "pattern": 1}),
}


def model_of(case: str) -> Decoder:
    if case in FAMILIES:
        return decoder(case)
    name, changes = ODD[case]
    return stirred(replace(usual(name), **changes))


@pytest.mark.parametrize("case", [*FAMILIES, *ODD])
def test_logits_are_the_same_both_ways(transformers, tmp_path, case):
    """At 24 tokens, beyond all windows; what comes back is what was given."""
    model = model_of(case)
    export(model, tmp_path / "out", ends=[1])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", attn_implementation="eager"
    )
    back, taken = imported(tmp_path / "out"), imported(theirs)
    with torch.no_grad():
        expected = theirs(TOKENS).logits
        assert expected.abs().max() > 1
        for mine in (model, back, taken):
            assert (mine(TOKENS) - expected).abs().max() < 1e-4
    for mine in (back, taken):
        for one, other in zip(mine.parameters(), model.parameters(), strict=True):
            assert torch.equal(one, other)
    assert back.config == taken.config == configuration(described_in(tmp_path / "out"))


def described_in(folder) -> dict:
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_text_is_that_of_transformers(transformers, tmp_path, name):
    """Ends of documents included."""
    model, prompt = decoder(name), TOKENS[:, :5]
    free = generate(model, prompt, T - 5, temperature=0)
    for end in (None, int(free[0, 8])):
        ends = () if end is None else (end,)
        export(model, tmp_path / f"{end}", ends=ends)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / f"{end}")
        expected = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=T - 5,
            do_sample=False,
        )
        found = generate(model, prompt, T - 5, temperature=0, ends=ends)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_folders_that_transformers_writes_are_read(transformers, tmp_path, name):
    """In one file, in several, and, of a mixture, as stacks."""
    theirs = hugging_face(name, usual(name))
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=draws(p.numel())))
        expected = theirs(TOKENS).logits
    theirs.save_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "several", max_shard_size="20KB")
    assert len(list((tmp_path / "several").glob("*.safetensors"))) > 1
    (tmp_path / "stacks").mkdir()
    shutil.copy(tmp_path / "one" / "config.json", tmp_path / "stacks")
    write_weights(tmp_path / "stacks", theirs.state_dict())
    for folder in ("one", "several", "stacks"):
        found = imported(tmp_path / folder, context=T)
        assert found.config.context == T
        with torch.no_grad():
            assert (found(TOKENS) - expected).abs().max() < 1e-4
    assert load(tmp_path / "one").ends == (1,)
    for context in (0, theirs.config.max_position_embeddings + 1):
        with pytest.raises(ValueError, match=f"context = {context}: use 1 to"):
            imported(tmp_path / "one", context=context)


def test_an_imported_model_goes_on_learning(transformers, tmp_path):
    """From log 40 down by a third of a nat, in a text whose entropy is log 4."""
    ids = [0]
    for step in np.random.default_rng(0).integers(1, 5, 4000):
        ids.append(int(ids[-1] * 3 + step) % V)
    ids = np.array(ids, np.uint16)
    text = Corpus("toy", "0" * 16, V, ids[:-800], ids[-800:], 2.0, "{}")
    recipe = Recipe(steps=25, batch=4, length=T, validation=3, evaluate_every=24)
    torch.manual_seed(0)  # of their initial weights
    for name in FAMILIES:
        model = imported(hugging_face(name, usual(name)), context=T)
        adam = torch.optim.AdamW(model.parameters(), lr=0.01)
        start, *_, end = train(model, adam, text, recipe)["val_curve"]
        assert start == pytest.approx(np.log(V), abs=0.3)
        assert end < start - 0.33, name


def test_a_model_that_was_trained_here_is_loaded_there(
    transformers, tmp_path, monkeypatch
):
    """dense-small on a text: trained, kept, exported; the same logits and text."""
    monkeypatch.setenv("SYMLAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text").mkdir()
    for i in range(8):
        lines = (f"{j} times {i} is {i * j}:\tnaïve né “x”\n\n" for j in range(600))
        (tmp_path / "text" / f"{i}.txt").write_text("".join(lines), encoding="utf-8")
    text = corpus(str(tmp_path / "text"), vocabulary=300)
    model = Decoder(preset("dense-small", vocabulary=300, context=48), draws())
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = train(model, adam, text, Recipe(steps=50, batch=4, length=48))
    assert losses["val_loss"] < 3 < np.log(300)
    save(tmp_path / "kept", model, text)
    kept = load(tmp_path / "kept")
    export(kept.model, tmp_path / "out", kept.tokenizer, kept.ends)
    exported = load(tmp_path / "out").tokenizer
    assert exported.token_to_id("<|endoftext|>") == 299
    _check_tokens(tmp_path / "out", exported, text.tokenizer)  # training may go on

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for line in (" 3 times", "\n\n  7\t× naïve\u00a0né 数 \x00", "", "is 4: ;  x\r\n"):
        ids = kept.tokenizer.encode(line).ids
        assert tokenizer(line)["input_ids"] == ids
        assert tokenizer.decode(ids) == line
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|endoftext|>", 299)
    assert tokenizer.model_max_length == 48
    with torch.no_grad():
        windows = torch.from_numpy(text.validation[:96].astype(np.int64)).view(2, 48)
        error = theirs(windows).logits - kept.model(windows)
    assert error.abs().max() < 1e-4
    for prompt in ("3 times", "12"):
        given = tokenizer(prompt, return_tensors="pt")
        found = theirs.generate(**given, max_new_tokens=30, do_sample=False)[0]
        expected = tokenizer.decode(found, skip_special_tokens=True)
        assert len(expected) > len(prompt) + 10
        assert kept.sample(prompt, tokens=30, temperature=0) == expected
        again = load(tmp_path / "out")  # the exported folder is as good
        assert again.ends == (299,)
        assert again.sample(prompt, tokens=30, temperature=0) == expected


def test_other_tokens_are_other_vocabularies_merges_and_ends():
    def tokenizer(**changes) -> Tokenizer:
        vocabulary = {"a": 0, "b": 1, "ab": 2, "c": 3}
        made = {"vocab": vocabulary, "merges": [("a", "b")]} | changes
        return Tokenizer(models.BPE(**made))

    def check(theirs, end=None) -> None:
        if end:
            theirs.add_special_tokens([end])
        _check_tokens("kept", theirs, tokenizer().to_str())

    check(tokenizer())
    check(tokenizer(), "<|endoftext|>")
    more = {"a": 0, "b": 1, "ab": 2, "c": 3, "d": 4}
    swapped = {"b": 0, "a": 1, "ab": 2, "c": 3}
    bytewise = tokenizer()
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel()
    for other, end in [
        (None, None),
        (tokenizer(merges=[]), None),
        (tokenizer(vocab=swapped), None),
        (tokenizer(vocab=more), "<|endoftext|>"),
        (tokenizer(), "<|im_end|>"),
        (bytewise, None),
    ]:
        with pytest.raises(ValueError, match="are for other tokens than the") as found:
            check(other, end)
    said = str(found.value)
    assert "give the --text and --limit with which they were trained" in said
    assert "symlab.data.text.Corpus with their tokenizer in Python" in said
    assert "weights=dict(model.named_parameters())" in said


# --- tied weights, other types -------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_tied_weights_stay_tied(transformers, tmp_path, name):
    """Both ways, from a model and from its folder, whose file has one table."""
    config = hugging_face(name, usual(name)).config
    config.tie_word_embeddings = True
    theirs = transformers.AutoModelForCausalLM.from_config(config)
    theirs.save_pretrained(tmp_path / "theirs")
    for source in (theirs, tmp_path / "theirs"):
        found = imported(source)
        assert found.config.tied
        assert found.head.weight is found.embedding.weight
        with torch.no_grad():
            error = found(TOKENS) - theirs(TOKENS).logits
        assert error.abs().max() < 1e-5
    found.embedding.weight.data.mul_(2)
    export(found, tmp_path / "ours")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert back.lm_head.weight is back.model.embed_tokens.weight
    with torch.no_grad():
        error = found(TOKENS) - back(TOKENS).logits
    assert error.abs().max() < 1e-4


def test_two_tables_stay_two(transformers, tmp_path):
    found = decoder("gemma3")  # which transformers ties unless it is told not to
    export(found, tmp_path / "two")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "two")
    assert torch.equal(back.lm_head.weight, found.head.weight)
    assert torch.equal(back.model.embed_tokens.weight, found.embedding.weight)
    assert not imported(tmp_path / "two").config.tied


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_a_stored_head_of_its_own_is_read_whatever_the_settings_say(
    transformers, tmp_path, name
):
    """tie_word_embeddings = true and two tables: transformers keeps both, so do we."""
    export(decoder(name), tmp_path / "two")
    content = described_in(tmp_path / "two") | {"tie_word_embeddings": True}
    write_json(tmp_path / "two" / "config.json", content)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "two")
    for source in (tmp_path / "two", theirs):
        found = imported(source)
        assert not found.config.tied
        assert torch.equal(found.head.weight, decoder(name).head.weight)
        with torch.no_grad():
            assert (found(TOKENS) - theirs(TOKENS).logits).abs().max() < 1e-4


def test_a_stored_copy_of_the_embedding_is_no_head_of_its_own(tmp_path):
    tied = Decoder(replace(usual("qwen3"), tied=True), draws())
    export(tied, tmp_path / "out")
    stored = dict(huggingface.weights.converted("qwen3", dict(tied.named_parameters())))
    stored["lm_head.weight"] = stored["model.embed_tokens.weight"].clone()
    write_weights(tmp_path / "out", stored)
    assert imported(tmp_path / "out").config.tied
    stored["lm_head.weight"][3, 5] += 1e-3
    write_weights(tmp_path / "out", stored)
    assert not imported(tmp_path / "out").config.tied


def test_gemma_is_tied_where_its_folder_does_not_say(transformers, tmp_path):
    """As in the published ones, which leave out what is transformers' default."""
    config = hugging_face("gemma3", usual("gemma3")).config
    config.tie_word_embeddings = True
    theirs = transformers.Gemma3ForCausalLM(config)
    theirs.save_pretrained(tmp_path / "tied")
    content = described_in(tmp_path / "tied")
    del content["tie_word_embeddings"]
    write_json(tmp_path / "tied" / "config.json", content)
    found = imported(tmp_path / "tied")
    assert found.head.weight is found.embedding.weight
    with torch.no_grad():
        error = found(TOKENS) - theirs(TOKENS).logits
    assert error.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float64, torch.float64), (torch.bfloat16, torch.float32)],
)
def test_types_of_weights(transformers, tmp_path, dtype, expected):
    theirs = hugging_face("olmoe", usual("olmoe")).to(dtype)
    theirs.save_pretrained(tmp_path / "theirs")
    for source in (theirs, tmp_path / "theirs"):
        found = imported(source)
        assert {p.dtype for p in found.parameters()} == {expected}
        theirs_now = theirs.get_input_embeddings().weight.to(expected)
        assert torch.equal(found.embedding.weight, theirs_now)
    export(found, tmp_path / "out")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert back.dtype == expected


# --- configurations ------------------------------------------------------------------

PUBLISHED = {  # as on the hub, in the spelling of transformers 4
    "qwen3": {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "max_position_embeddings": 40960,
        "max_window_layers": 28,
        "model_type": "qwen3",
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "gemma3": {
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "max_position_embeddings": 32768,
        "model_type": "gemma3_text",
        "num_attention_heads": 4,
        "num_hidden_layers": 26,
        "num_key_value_heads": 1,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": 512,
        "sliding_window_pattern": 6,
        "vocab_size": 262144,
    },
    "olmoe": {
        "attention_bias": False,
        "clip_qkv": None,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "intermediate_size": 1024,
        "max_position_embeddings": 4096,
        "model_type": "olmoe",
        "norm_topk_prob": False,
        "num_attention_heads": 16,
        "num_experts": 64,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 16,
        "num_key_value_heads": 16,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "vocab_size": 50304,
    },
    "gpt-oss": {
        "attention_bias": True,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "max_position_embeddings": 131072,
        "model_type": "gpt_oss",
        "num_attention_heads": 64,
        "num_experts_per_tok": 4,
        "num_hidden_layers": 24,
        "num_key_value_heads": 8,
        "num_local_experts": 32,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "rope_type": "yarn",
            "truncate": False,
        },
        "rope_theta": 150000,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
        "vocab_size": 201088,
    },
}


@pytest.mark.parametrize("name", FAMILIES)
def test_published_configurations_are_those_of_the_families(transformers, name):
    """Read as they are, and as transformers spells them today."""
    content = PUBLISHED[name]
    sizes = {
        "vocabulary": content["vocab_size"],
        "context": content["max_position_embeddings"],
        "width": content["hidden_size"],
        "layers": content["num_hidden_layers"],
        "heads": content["num_attention_heads"],
        "kv_heads": content["num_key_value_heads"],
        "head_width": content.get("head_dim", 128),
        "hidden": content["intermediate_size"],
    }
    if name in ("olmoe", "gpt-oss"):
        experts = content.get("num_experts", content.get("num_local_experts"))
        sizes |= {"experts": experts, "chosen": content["num_experts_per_tok"]}
    expected = family(name, **sizes, tied=name in ("qwen3", "gemma3"))
    today = transformers.AutoConfig.for_model(**content).to_dict()
    assert configuration(content) == configuration(today) == expected
    if name == "qwen3":
        slides = {"use_sliding_window": True, "sliding_window": 9}
        found = configuration(content | slides | {"max_window_layers": 0})
        assert not any(found.slides(i) != (i < 28) for i in range(28))
        with pytest.raises(ValueError, match="layer_types with windows in layers .20,"):
            configuration(content | slides | {"max_window_layers": 20})


@pytest.mark.parametrize("name", PRESETS)
def test_all_presets_can_be_written(name):
    kind = kind_of(PRESETS[name])
    assert configuration(described(kind, PRESETS[name])) == PRESETS[name]


LINEAR = {"rope_type": "linear", "factor": 8.0}
YARN = PUBLISHED["gpt-oss"]["rope_scaling"]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("qwen3", {"model_type": "qwen2"}, "unknown model_type 'qwen2'.*qwen3"),
        ("qwen3", {"model_type": None}, "unknown model_type 'None'"),
        ("qwen3", {"attention_bias": True}, "attention_bias = True is not supported"),
        ("gpt-oss", {"attention_bias": False}, "attention_bias = False is not"),
        ("olmoe", {"hidden_act": "gelu"}, "hidden_act = 'gelu'.*has 'silu'"),
        ("gemma3", {"hidden_activation": "gelu"}, "hidden_activation = 'gelu'"),
        ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0"),
        ("gemma3", {"attn_logit_softcapping": 5.0}, "attn_logit_softcapping = 5.0"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional"),
        ("gemma3", {"rope_scaling": LINEAR}, "rope_type = 'linear'"),
        ("gemma3", {"rope_scaling": YARN}, "rope_type of gemma3_text = Yarn"),
        ("qwen3", {"rope_scaling": LINEAR}, "rope_type = 'linear' is not supported"),
        ("qwen3", {"rope_scaling": {"type": "dynamic"}}, "rope_type = 'dynamic'"),
        ("qwen3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ("gpt-oss", {"rope_scaling": YARN | {"truncate": True}}, "truncate = True"),
        ("gpt-oss", {"rope_scaling": YARN | {"mscale": 2.0}}, "mscale = 2.0"),
        ("gpt-oss", {"rope_scaling": YARN | {"factor": 0.5}}, "factor = 0.5 of yarn"),
        (
            "gpt-oss",
            {"rope_scaling": YARN | {"attention_factor": 1.0}},
            "attention_factor = 1.0",
        ),
        ("gpt-oss", {"swiglu_limit": 5.0}, "swiglu_limit = 5.0.*has 7.0"),
        ("gpt-oss", {"swiglu_alpha": 1.0}, "swiglu_alpha = 1.0"),
        ("gpt-oss", {"quantization_config": {}}, "quantization_config = {}"),
        ("gpt-oss", {"sliding_window": None}, "sliding_window is not set"),
        ("gpt-oss", {"layer_types": ["full_attention"]}, "layer_types = .'full"),
        ("gpt-oss", {"layer_types": ["chunked"] * 24}, "layer_types = .'chunked"),
        ("olmoe", {"clip_qkv": 8.0}, "clip_qkv = 8.0"),
        ("olmoe", {"attention_dropout": 0.1}, "attention_dropout = 0.1"),
        ("olmoe", {"num_attention_heads": 0}, "num_attention_heads = 0 in config.json"),
        ("olmoe", {"hidden_size": "32"}, "hidden_size = '32' in config.json: .* whole"),
        ("qwen3", {"num_key_value_heads": 0}, "num_key_value_heads = 0 in config"),
        ("qwen3", {"num_hidden_layers": 2.0}, "num_hidden_layers = 2.0 in config"),
        ("qwen3", {"rms_norm_eps": "1e-6"}, "rms_norm_eps = '1e-6' .* finite number"),
        ("qwen3", {"rope_theta": -1.0}, "rope_theta = -1.0 in config.json"),
        ("qwen3", {"rope_scaling": [1]}, r"rope_scaling = \[1\] .* needs a table"),
        ("gemma3", {"rope_parameters": {FULL: 3}}, "full_attention = 3 .* a table"),
        ("gemma3", {"rope_parameters": 3}, "rope_parameters = 3 .* needs a table"),
        ("gemma3", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar = 0"),
        ("gemma3", {"sliding_window": "a"}, "sliding_window = 'a' in config.json"),
        ("gemma3", {"sliding_window_pattern": 0}, "sliding_window_pattern = 0"),
        ("gemma3", {"layer_types": 3}, "layer_types = 3 is not supported"),
        ("gemma3", {"layer_types": [[]] * 26}, "layer_types = .* is not supported"),
        ("gpt-oss", {"rope_scaling": YARN | {"factor": "a"}}, "factor = 'a'"),
        ("gpt-oss", {"rope_scaling": YARN | {"beta_fast": "a"}}, "beta_fast = 'a'"),
        ("olmoe", {"hidden_size": None}, "config.json has no hidden_size"),
        ("olmoe", {"rope_theta": None}, "config.json has no rope_theta"),
    ],
)
def test_settings_that_a_decoder_has_not_are_refused_by_name(name, changes, message):
    with pytest.raises(ValueError, match=message):
        configuration(PUBLISHED[name] | changes)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("qwen3", {"scaled_embedding": True}, "qwen3, .* scaled_embedding = True"),
        ("qwen3", {"activation": "gelu"}, r"activation = 'gelu' \(it has 'silu'\)"),
        ("qwen3", {"query_scale": 0.3}, "query_scale = 0.3"),
        (
            "qwen3",
            {"window": 4, "pattern": 2, "window_rope_base": 5.0},
            r"window_rope_base = 5.0 \(it has 1000000.0\)",
        ),
        ("gemma3", {"post_norms": False}, "gemma3_text, .* post_norms = False"),
        ("gemma3", {"query_scale": 0.3}, "query_scale = 0.3"),
        ("gemma3", {"heads": 6, "kv_heads": 3}, "width = 32 .it has multiples"),
        ("gemma3", {"yarn": Yarn(2.0, 8)}, "yarn = Yarn.*it has None"),
        ("olmoe", {"window": 4, "pattern": 2}, "olmoe, .* window = 4"),
        ("olmoe", {"head_width": 6}, "head_width = 6 .it has width"),
        ("olmoe", {"qk_norm": "head"}, "qk_norm = 'head'"),
        ("gpt-oss", {"sinks": False}, "gpt_oss, .* sinks = False"),
        ("gpt-oss", {"gate": "softmax, top-k"}, "gate = 'softmax, top-k'"),
    ],
)
def test_configurations_that_their_format_cannot_say(tmp_path, name, changes, message):
    model = Decoder(replace(usual(name), **changes), draws())
    with pytest.raises(ValueError, match=message):
        export(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- what is missing or damaged ------------------------------------------------------


def test_weights_that_do_not_fit_are_named(tmp_path):
    place = tmp_path / "out"
    export(decoder("olmoe"), place)
    content = described_in(place)

    def refused(message: str, **changes) -> None:
        write_json(place / "config.json", content | changes)
        with pytest.raises(ValueError, match=message):
            imported(place)

    refused("model.layers.3.input_layernorm.weight is missing", num_hidden_layers=4)
    refused("no place for .* such as model.layers.2", num_hidden_layers=2)
    refused(r"feed.gate_up has the shape \(8, .* asks for \(9, ", num_experts=9)
    refused("embedding.weight has the shape", vocab_size=V + 1)
    refused("no_such", model_type="no_such")
    write_json(place / "config.json", content)
    imported(place)
    whole = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        imported(place)
    (place / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors is missing"):
        imported(place)
    (place / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="config.json is missing"):
        imported(place)


def test_an_index_without_a_map_is_named(tmp_path):
    export(decoder("qwen3"), tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").unlink()
    index = tmp_path / "out" / "model.safetensors.index.json"
    for content in ({"weight_map": ["a"]}, {"weight_map": {"a": 1}}, {}):
        write_json(index, content)
        with pytest.raises(ValueError, match="index.json is damaged: its weight_map"):
            imported(tmp_path / "out")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_numbers_that_stand_for_others_are_refused(tmp_path, dtype):
    """Quantised weights whose configuration doesn't say so."""
    export(decoder("qwen3"), tmp_path / "out")
    stored = dict(decoder("qwen3").named_parameters())
    stored = dict(huggingface.weights.converted("qwen3", stored))
    name = "model.layers.1.mlp.up_proj.weight"
    stored[name] = stored[name].detach().to(dtype)
    write_weights(tmp_path / "out", stored)
    with pytest.raises(ValueError, match=f"{name} is of {dtype}, which may stand"):
        imported(tmp_path / "out")


@pytest.mark.parametrize("tokenizer", ["", "{}", 3])
def test_what_is_no_tokenizer_is_not_exported(tmp_path, tokenizer):
    with pytest.raises(ValueError, match="the tokenizer cannot be read .*: give a"):
        export(decoder("qwen3"), tmp_path / "out", tokenizer)
    assert not (tmp_path / "out").exists()


def test_weights_without_values_are_not_exported(tmp_path):
    with torch.device("meta"):
        empty = Decoder(usual("qwen3"))
    with pytest.raises(ValueError, match="on the meta device .* have no values"):
        export(empty, tmp_path / "out")
    assert not (tmp_path / "out").exists()


ONE_AT_LEAST = (
    *("vocabulary", "context", "width", "layers", "heads", "kv_heads", "head_width"),
    *("hidden", "pattern"),
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({name: 0}, f"{name} = 0: give a whole number of 1 or more")
        for name in ONE_AT_LEAST
    ]
    + [
        ({"width": "a"}, "width = 'a': give a whole number of 1"),
        ({"layers": 2.0}, "layers = 2.0: give a whole number of 1"),
        ({"experts": -1}, "experts = -1: give a whole number of 0 or more"),
        ({"window": 0, "pattern": 2}, "window = 0: give a whole number of 1"),
    ],
)
def test_a_decoder_has_one_of_each_at_least(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(usual("qwen3"), **changes)


def test_sizes_of_numpy_become_whole_numbers():
    config = replace(usual("gemma3"), width=np.int64(32), window=np.int32(3))
    assert type(config.width) is type(config.window) is int


def test_a_tokenizer_that_is_damaged_is_named(tmp_path):
    export(decoder("qwen3"), tmp_path / "out")
    assert load(tmp_path / "out").tokenizer is None
    (tmp_path / "out" / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="tokenizer.json is no tokenizer"):
        load(tmp_path / "out")


def test_an_export_does_not_write_over_files(tmp_path):
    (tmp_path / "note").write_text("mine")
    for place in (tmp_path, tmp_path / "note"):
        with pytest.raises(ValueError, match="exists and is not empty: name a new"):
            export(decoder("qwen3"), place)
    assert [p.name for p in tmp_path.iterdir()] == ["note"]
