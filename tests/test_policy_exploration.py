"""The tiny policies of tier 2, against torch's transformer, loops and the verifier."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import chisquare

from symlab.harness import Context, contract, project, rng
from symlab.rlvr import ESTIMATORS, advantages, small_training
from symlab.rlvr.small_policy import (
    TABLES,
    initial,
    logits,
    mask_of,
    sample,
    token_logp,
)

PROJECT = project.find(Path(__file__).parent)
policy = contract.load(PROJECT, "policy_exploration").module
SMOKE = policy.sweep("smoke")


def config(task: str, **fields):
    return replace(next(c for c in SMOKE if c.task == task), **fields)


def begun(c, dtype=torch.float32, noise: float = 0.0):
    """A task, its first prompts and weights that are not small."""
    task = small_training.task_of(c.task)
    start = initial(task, c.layers, c.width, rng.stream(c.seed, f"{c.task} init"))
    draws = np.random.default_rng(1)
    weights = {
        name: torch.from_numpy(w + noise * draws.normal(size=w.shape)).to(dtype)
        for name, w in start.items()
    }
    return task, weights, task.prompts(c.seed, c.prompts, "train")


def rollouts(c, weights, task, prompts):
    draws, where = np.random.default_rng(2), torch.device("cpu")
    return small_training.collected(c, task, weights, prompts, draws, where)


# --- policy --------------------------------------------------------------------------


def layer_of(weights: dict, i: int, heads: int):
    """torch's own block with the same weights."""
    d = weights["token"].shape[1]
    layer = torch.nn.TransformerEncoderLayer(
        d, heads, 4 * d, dropout=0.0, batch_first=True, norm_first=True, bias=False
    ).double()
    state = {
        "self_attn.in_proj_weight": weights[f"qkv{i}"].T,
        "self_attn.out_proj.weight": weights[f"out{i}"].T,
        "linear1.weight": weights[f"up{i}"].T,
        "linear2.weight": weights[f"down{i}"].T,
        "norm1.weight": torch.ones(d),
        "norm2.weight": torch.ones(d),
    }
    layer.load_state_dict(state)
    return layer.train()  # eval takes a fast path that wants biases


def test_logits_are_those_of_torchs_transformer():
    c = config("countdown", heads=4)
    task, weights, prompts = begun(c, torch.float64, noise=0.2)
    tokens = torch.from_numpy(prompts)
    t = tokens.shape[1]
    x = weights["token"][tokens] + weights["place"][:t]
    mask = torch.nn.Transformer.generate_square_subsequent_mask(t, dtype=x.dtype)
    for i in range(c.layers):
        x = layer_of(weights, i, c.heads)(x, mask)
    expected = torch.nn.functional.layer_norm(x, x.shape[-1:]) @ weights["head"]
    found = logits(weights, tokens, c.heads, keep=2)
    torch.testing.assert_close(found, expected[:, 2:], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("task", policy.TASKS)
def test_sampled_log_probabilities_are_those_of_the_whole_sequence(task):
    """With the cache, token by token, and without it."""
    c = config(task)
    task, weights, prompts = begun(c, torch.float64, noise=0.3)
    u = torch.from_numpy(np.random.default_rng(3).random((20, task.completion_length)))
    x = torch.from_numpy(prompts)
    y, logp, entropy = sample(weights, x, u, c.heads, u.shape[1])
    x = x.repeat_interleave(5, 0)
    torch.testing.assert_close(logp, token_logp(weights, x, y, c.heads))
    z = logits(weights, torch.cat([x, y[:, :-1]], 1), c.heads, keep=x.shape[1] - 1)
    each = torch.distributions.Categorical(logits=z)
    torch.testing.assert_close(entropy, each.entropy())


def test_samples_have_the_distribution_of_the_model():
    c, n = config("rule"), 20_000
    task, weights, prompts = begun(c, noise=0.3)
    x = torch.from_numpy(prompts[:1])
    u = torch.from_numpy(np.random.default_rng(4).random((n, 2), np.float32))
    y, _, _ = sample(weights, x, u, c.heads, 2)
    v = len(task.vocabulary)
    every = torch.cartesian_prod(torch.arange(v), torch.arange(v))
    logp = token_logp(weights, x.expand(v * v, -1), every, c.heads).sum(1)
    counts = np.bincount((y @ torch.tensor([v, 1])).numpy(), minlength=v * v)
    expected = n * logp.exp().double().numpy()
    often = expected > 5
    observed = [*counts[often], counts[~often].sum()]
    expected = [*expected[often], expected[~often].sum()]
    expected = np.array(expected) * n / np.sum(expected)
    assert chisquare(observed, expected).pvalue > 1e-3
    assert often.sum() > 20


def test_greedy_takes_the_most_probable_token():
    c = config("rule")
    task, weights, prompts = begun(c, noise=0.3)
    x = torch.from_numpy(prompts)
    y, _, _ = sample(weights, x, None, c.heads, task.completion_length)
    z = logits(weights, torch.cat([x, y[:, :-1]], 1), c.heads, keep=x.shape[1] - 1)
    assert (z.argmax(-1) == y).all()


# --- reward and objective ------------------------------------------------------------


def evaluated(tokens: list[int], vocabulary: tuple, numbers: list[int]):
    """A postfix program's value as Python computes it; None where it is none."""
    stack, left = [], list(numbers)
    for token in tokens:
        word = vocabulary[token]
        if word == ".":
            return stack[0] if len(stack) == 1 else None
        if word.isdigit():
            if int(word) not in left:
                return None
            left.remove(int(word))
            stack.append(Fraction(int(word)))
            continue
        if word == "=" or len(stack) < 2 or (word == "/" and stack[-1] == 0):
            return None
        b, a = stack.pop(), stack.pop()
        stack.append(
            {"+": a + b, "-": a - b, "*": a * b}.get(word) if word != "/" else a / b
        )
    return None


def test_rewards_are_the_verifiers(monkeypatch):
    """Of what the policy wrote; here programs of which about half are right."""
    c = config("countdown", prompts=64, group=8)
    task, weights, prompts = begun(c)

    def written(weights, x, u, heads, length):
        draws = np.random.default_rng(8)
        y = task.demonstration(x.repeat_interleave(c.group, 0).numpy(), draws, 0.5)
        wild = draws.random(y.shape) < 0.1
        y = np.where(wild, draws.integers(0, len(task.vocabulary), y.shape), y)
        return torch.from_numpy(y), torch.zeros(y.shape), torch.zeros(y.shape)

    monkeypatch.setattr(small_training, "sample", written)
    found = rollouts(c, weights, task, prompts)
    tokens = found["completions"].reshape(c.prompts, c.group, -1).tolist()
    words = task.vocabulary
    for prompt, group, rewards in zip(prompts, tokens, found["rewards"], strict=True):
        *numbers, tens, ones, _ = (words[t] for t in prompt)
        numbers, target = [int(n) for n in numbers], int(tens) * 10 + int(ones)
        right = [evaluated(tokens, words, numbers) == target for tokens in group]
        assert rewards.tolist() == right
    assert 0.1 < found["reward"] == found["rewards"].mean() < 0.9
    expected = advantages(found["rewards"], c.method).ravel()
    np.testing.assert_allclose(found["advantages"], expected, rtol=1e-6)


@pytest.mark.parametrize("method", ["negative_dominant", "dapo", "dr_grpo"])
def test_loss_and_gradient_are_those_of_a_plain_loop(method):
    c = config("countdown", method=method, clip_low=0.15, clip_high=0.28)
    task, old, prompts = begun(c, torch.float64, noise=0.3)
    r = rollouts(c, old, task, prompts)
    r["advantages"] = torch.from_numpy(np.random.default_rng(5).normal(size=16))
    r["completions"][::3, 3] = task.stop  # lengths differ
    r["mask"] = mask_of(task, r["completions"].numpy(), torch.device("cpu"))
    draws = np.random.default_rng(6)
    weights = {
        k: (w + 0.05 * torch.from_numpy(draws.normal(size=w.shape))).requires_grad_()
        for k, w in old.items()
    }
    pick = torch.tensor([0, 3, 5, 6, 7, 12])
    loss, stats = small_training.objective(c, weights, r, pick)
    plain, low, high, count = 0.0, 0, 0, 0
    kept = r["mask"][pick].sum().item()
    for n in pick.tolist():
        x, y = r["prompts"][n : n + 1], r["completions"][n : n + 1]
        a, length = r["advantages"][n], int(task.lengths(y.numpy())[0])
        scale = {"dapo": kept, "dr_grpo": len(pick) * y.shape[1]}
        scale = scale.get(method, len(pick) * length)
        for t in range(length):
            before = torch.cat([x, y[:, :t]], 1)
            z = logits(weights, before, c.heads)[0, -1]
            ratio = (z.log_softmax(-1)[y[0, t]] - r["logp"][n, t]).exp()
            clipped = ratio.clamp(1 - c.clip_low, 1 + c.clip_high)
            plain = plain - torch.minimum(ratio * a, clipped * a) / scale
            low += bool(a < 0 and ratio < 1 - c.clip_low)
            high += bool(a > 0 and ratio > 1 + c.clip_high)
            count += 1
    torch.testing.assert_close(loss, plain)
    assert count == kept
    assert low > 0
    assert high > 0
    assert stats["clip_low"].item() == pytest.approx(low / count)
    assert stats["clip_high"].item() == pytest.approx(high / count)
    names = list(weights)
    for name, g, h in zip(
        names,
        torch.autograd.grad(loss, list(weights.values())),
        torch.autograd.grad(plain, list(weights.values())),
        strict=True,
    ):
        torch.testing.assert_close(g, h, msg=name)


def test_an_epoch_takes_every_rollout_once_and_groups_whole(monkeypatch):
    c = config("rule", epochs=3)
    task, weights, prompts = begun(c)
    weights = {k: w.requires_grad_() for k, w in weights.items()}
    picks, plain = [], small_training.objective

    def spied(c, weights, rollouts, pick):
        picks.append(pick.tolist())
        return plain(c, weights, rollouts, pick)

    monkeypatch.setattr(small_training, "objective", spied)
    r = rollouts(c, weights, task, prompts)
    adam = torch.optim.Adam(list(weights.values()))
    small_training.updates(c, weights, adam, r, np.random.default_rng(7))
    assert len(picks) == c.epochs * c.minibatches
    n = c.prompts * c.group
    for e in range(c.epochs):
        parts = picks[e * c.minibatches : (e + 1) * c.minibatches]
        assert sorted(sum(parts, [])) == list(range(n))
    for pick in picks:
        groups = [i // c.group for i in pick]
        assert all(groups.count(g) == c.group for g in groups)


# --- runs ----------------------------------------------------------------------------


def test_a_run_is_bitwise_the_same_alone_and_among_others():
    """The first to run here moves even all-wrong groups, and must leave the start."""
    some = [c for c in SMOKE if c.task == "rule" and c.clip_low < 1][::-1]
    assert some[0].method == "w_reinforce"
    together = policy.run(some, Context())
    assert policy.run(some[-1:], Context()) == together[-1:]
    assert together[0]["reward"][0] == together[-1]["reward"][0]  # one start
    assert together[0] != together[-1]


def test_without_a_step_nothing_changes():
    (row,) = policy.run([config("rule", lr=0.0)], Context())
    for name in ("greedy", "pass", "test_entropy", "pool_reward", "unsolved"):
        assert row[name] == row[f"base_{name}"]
    assert set(row["clipped_low"] + row["clipped_high"]) == {0.0}


def start_of(c) -> dict:
    """The arguments of the supervised start of a config."""
    return dict(policy._fields(c, policy.START), device="cpu")


def test_a_kept_start_gives_the_row_that_a_new_one_gives(tmp_path, monkeypatch):
    c = config("rule")
    (fresh,) = policy.run([c], Context())
    kept = Context(stages=tmp_path, root=PROJECT.root)
    assert policy.run([c], kept) == [fresh]
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(small_training, "starting", None)  # it cannot train again
    assert policy.run([replace(c, lr=0.5), c], kept)[1:] == [fresh]


def test_a_start_depends_on_no_more_than_its_arguments():
    """A field that a start reads is an argument; those of RL alone are not."""
    c = config("rule")
    for name, value in {"method": "agrae", "lr": 0.5, "steps": 9, "test": 3}.items():
        assert start_of(replace(c, **{name: value})) == start_of(c)
    start = small_training.demonstrated(**start_of(c))
    others = {"seed": 1, "noise": 0.5, "shown": 60, "start_steps": 21, "heads": 2}
    others |= {"start_lr": 0.1, "start_batch": 8, "table_lr": 0.1}
    for name, value in others.items():
        other = small_training.demonstrated(**start_of(replace(c, **{name: value})))
        assert any((other[k] != start[k]).any() for k in start), name


def test_a_start_without_steps_is_the_initial_policy_of_its_seed():
    """Other sizes and seeds have other weights, drawn for the task."""
    for fields in ({}, {"seed": 1}, {"width": 20}, {"layers": 2}):
        c = config("rule", start_steps=0, **fields)
        _, expected, _ = begun(c)
        found = small_training.demonstrated(**start_of(c))
        assert list(found) == list(expected)
        for name, w in expected.items():
            assert (found[name] == w.numpy()).all(), name


def test_no_code_of_the_harness_that_keeps_a_start_is_in_the_key():
    reached = contract.load(PROJECT, "policy_exploration").reached.definitions
    modules = {name.split(":")[0] for name in reached if "harness" in name}
    assert modules == {"symlab.harness.rng"}


@pytest.mark.parametrize("scale", ["smoke", "quick"])
def test_arms_of_a_seed_are_a_chunk_and_share_a_start(scale):
    configs = policy.sweep(scale)
    for i in range(0, len(configs), policy.LANES):
        chunk = configs[i : i + policy.LANES]
        assert len({policy._fields(c, policy.START) for c in chunk}) == 1
        assert len(chunk) == policy.LANES


def test_without_the_clip_nothing_is_clipped():
    free = config("rule", method="w_reinforce", lr=0.5, **policy.NO_CLIP)
    (row,) = policy.run([free], Context())
    assert set(row["clipped_low"] + row["clipped_high"]) == {0.0}
    (row,) = policy.run([replace(free, clip_low=0.2, clip_high=0.2)], Context())
    assert row["clipped"] > 0.1


def frame():
    """Two tasks, three seeds, one of which lacks an arm of one task."""
    draws = np.random.default_rng(9)
    rows = [
        {"task": t, "method": m, "seed": s, "clip_low": low}
        for t in policy.TASKS
        for m in ("grpo", "agrae", "positive_dominant")
        for s in range(3)
        for low in (0.2, 1.0)
        if (t, m, s, low) != ("rule", "agrae", 2, 0.2)
    ]
    df = pd.DataFrame(rows)
    columns = ("pass_first", "base_pass_first", "pass_last", "late_entropy", "clipped")
    for name in columns:
        df[name] = draws.uniform(0.1, 1, len(df))
    return df


ESTIMATES = {claim.name: claim.estimate for claim in policy.CLAIMS}


def test_estimates_pair_by_seed_and_average_tasks():
    df = frame().set_index(["task", "method", "seed", "clip_low"])

    def of(column, task, method, seed, low=0.2):
        return df.loc[(task, method, seed, low), column]

    both = [
        np.mean(
            [
                of("pass_first", t, "agrae", s) - of("pass_first", t, "grpo", s)
                for t in policy.TASKS
            ]
        )
        for s in (0, 1)  # seed 2 has no pair
    ]
    found = ESTIMATES["agrae_pass_1"](frame())
    assert (found.value, found.n) == (pytest.approx(np.mean(both)), 2)
    ratios = [
        of("late_entropy", "rule", "positive_dominant", s, 1.0)
        / of("late_entropy", "rule", "grpo", s, 1.0)
        for s in range(3)
    ]
    found = ESTIMATES["no_clip_no_loss"](frame())
    without = np.exp(np.log(ratios).mean())  # geometric mean
    assert found.value == pytest.approx(without)
    effect = ESTIMATES["clip_takes_from_positive_rule"](frame())
    kept = ESTIMATES["entropy_positive_below_rule"](frame())
    assert effect.value == pytest.approx(kept.value / without)
    log_ratios = [
        np.mean(
            [
                np.log(
                    of("late_entropy", t, "agrae", s) / of("late_entropy", t, "grpo", s)
                )
                for t in policy.TASKS
            ]
        )
        for s in (0, 1)
    ]
    found = ESTIMATES["agrae_keeps_entropy"](frame())
    assert found.value == pytest.approx(np.exp(np.mean(log_ratios)))
    losses = [
        of("pass_last", "countdown", "grpo", s)
        - of("pass_last", "countdown", "positive_dominant", s)
        for s in range(3)
    ]
    back = ESTIMATES["positive_large_k"](frame())
    assert (back.value, back.n) == (pytest.approx(np.mean(losses)), 3)
    clips = [of("clipped", t, "grpo", s) for t in policy.TASKS for s in range(3)]
    assert ESTIMATES["samples_go_stale"](frame()).value == pytest.approx(np.mean(clips))
    changes = [
        of("pass_first", "rule", "grpo", s) - of("base_pass_first", "rule", "grpo", s)
        for s in range(3)
    ]
    found = ESTIMATES["rl_lifts_pass_1_rule"](frame())
    assert found.value == pytest.approx(np.mean(changes))


def test_a_comparison_without_a_pair_says_so():
    df = frame()
    df = df[(df.method != "grpo") | (df.seed == 2)]
    with pytest.raises(ValueError, match="nothing to pair"):
        ESTIMATES["agrae_pass_1"](df)


def test_panels_are_drawn_of_part_of_the_runs():
    """Without the control, and without all but two methods."""
    some = [c for c in SMOKE if c.task == "rule"]
    df = pd.DataFrame(
        [
            {**vars(c), **r}
            for c, r in zip(some, policy.run(some, Context()), strict=True)
        ]
    )
    for part in (df, df[df.clip_low < 1], df[df.method.isin(["grpo", "agrae"])]):
        axes = [Figure().subplots() for _ in range(3)]
        policy.draw_rule_entropy(part, axes[0])
        policy.draw_rule_passes(part, axes[1])
        policy.draw_rule_gains(part, axes[2])
        assert all(ax.lines for ax in axes)


def test_the_start_updates_matrices_by_polar_factors():
    """Query, key and value apart; each weight in one group, tables by AdamW."""
    c = config("countdown")
    _, before, _ = begun(c)
    weights = {k: w.clone().requires_grad_() for k, w in before.items()}
    optimizer = small_training.starting(weights, c.start_lr, c.table_lr)
    grouped = [p for g in optimizer.param_groups for p in g["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, weights.values()))
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for name, w in weights.items():
        parts = w.chunk(3, 1) if name.startswith("qkv") else [w]
        # each with singular values from 1 to 0.2, and of another size than the next
        uneven = [
            10.0**-i * uneven_of(part, seed=i).detach() for i, part in enumerate(parts)
        ]
        w.grad = torch.cat(uneven, 1)
    optimizer.step()
    for name, w in weights.items():
        moved = (w - before[name]).detach()
        for part in moved.chunk(3, 1) if name.startswith("qkv") else [moved]:
            s = torch.linalg.svdvals(part)
            flat = float(s.min() / s.max()) > 0.6
            assert flat == (name not in TABLES), name


def test_the_rate_of_the_start_rises_and_falls(monkeypatch):
    seen, made = [], small_training.starting

    def watched(*given):
        optimizer = made(*given)
        step = optimizer.step

        def noted():
            seen.append([g["lr"] / g["base_lr"] for g in optimizer.param_groups])
            step()

        optimizer.step = noted
        return optimizer

    monkeypatch.setattr(small_training, "starting", watched)
    small_training.demonstrated(**start_of(config("rule", start_steps=40)))
    done = np.arange(40) / 40  # up over the first twentieth, then down to 0
    expected = np.minimum(1, done / 0.05) * (1 - done)
    np.testing.assert_allclose(seen, expected[:, None] * np.ones(3))


def uneven_of(like, seed: int):
    draws = torch.Generator().manual_seed(seed)
    u, _, v = torch.linalg.svd(
        torch.randn(like.shape, generator=draws), full_matrices=False
    )
    return u @ torch.diag(torch.linspace(1, 0.2, u.shape[1])) @ v


def test_late_entropy_is_that_of_the_later_two_thirds():
    (row,) = policy.run([config("rule", steps=7)], Context())
    assert row["late_entropy"] == pytest.approx(np.mean(row["entropy"][2:]))
    assert len(row["entropy"]) == 7


def test_the_paper_sweep_has_every_method_on_both_tasks():
    paper = policy.sweep("paper")
    for task in policy.TASKS:
        mine = [c for c in paper if c.task == task]
        assert {c.method for c in mine} == set(ESTIMATORS)
        assert len({c.seed for c in mine}) >= 8
    assert {c.clip_high for c in paper if c.method == "dapo"} == {0.28}
