"""Advantage experiments against autograd, torch.optim.Adam, scipy and definitions."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from symlab.harness import contract, project, rng
from symlab.rlvr import advantages, clipped_objective, pass_at_k
from symlab.rlvr.independent import BATCH as P
from symlab.rlvr.independent import DECISIVE, TRAIN, Policy, world
from symlab.rlvr.independent import TOKENS as T
from symlab.rlvr.independent import VOCABULARY as V
from symlab.rlvr.independent_training import OPTIONS, SIDES, Training
from symlab.rlvr.theory import logit_motion

HERE = project.find(Path(__file__).parent)
dynamics = contract.load(HERE, "advantage_dynamics").module
theory = contract.load(HERE, "advantage_theory").module


def config(method: str = "grpo", **fields) -> dynamics.Config:
    return dynamics.Config(method=method, **({"steps": 2, "seed": 5} | fields))


def sampled(configs, moved: float = 0.3):
    """A training with samples, and a policy that has moved away from them."""
    lane = Training(configs, torch.float64)
    batches, uniforms, coins = lane._draw()
    lane.sample(batches, uniforms, coins)
    noise = torch.Generator().manual_seed(0)
    old = lane.policy.w.clone()
    lane.policy.w.add_(torch.randn(old.shape, generator=noise, dtype=old.dtype) * moved)
    return lane, batches, uniforms, coins, old


def tokens_of(w, features, uniforms):
    """Tokens (P, G, T) by numpy: the inverse of the distribution function."""
    z = (w @ features).view(V, T, P).numpy()
    f = np.cumsum(np.exp(z) / np.exp(z).sum(0), 0)
    u = uniforms.reshape(-1, 1, T, P)
    return torch.from_numpy((u >= f[:-1]).sum(1)).permute(2, 0, 1)


def objective(c, w, batch, tokens, old, a):
    """The library's clipped objective of one lane, from tokens."""

    def log_probability(w):
        z = (w @ batch.features[0]).view(V, T, P).permute(2, 1, 0)
        log_pi = torch.log_softmax(z, -1)[:, None].expand(-1, c.group, -1, -1)
        return log_pi.gather(-1, tokens[..., None]).reshape(-1, T)

    return clipped_objective(
        log_probability(w), log_probability(old), a.reshape(-1),
        torch.ones(P * c.group, T), clip_low=c.clip_low, clip_high=c.clip_high,
    )  # fmt: skip


def judged(c, batches, uniforms, coins, old):
    """Tokens (P, G, T) and advantages (P, G) of each minibatch, by other means."""
    tokens = [
        tokens_of(old[0], b.features[0], u[:, 0])
        for b, u in zip(batches, uniforms, strict=True)
    ]
    rewards = [
        (k[..., :2] == b.right[0].T[:, None]).all(-1).double()
        for k, b in zip(tokens, batches, strict=True)
    ]
    if c.reward == "random":
        rewards = [torch.from_numpy(coin[:, 0].T).double() for coin in coins]
    options = {k: getattr(c, k) for k in OPTIONS.get(c.method, ())}
    return tokens, advantages(torch.cat(rewards), c.method, **options).split(P)


@pytest.mark.parametrize(
    "c",
    [
        config("grpo"),
        config("agrae", alpha=0.5, clip_low=0.1),
        config("negative_dominant", beta=4.0, clip_high=0.5),
        config("w_reinforce", group=4),
        config("psr", clip_low=1.0, clip_high=dynamics.OFF),
        config("easy", reward="random"),
    ],
    ids=lambda c: c.method,
)
def test_gradients_and_clip_counts_are_those_of_autograd(c):
    lane, batches, uniforms, coins, old = sampled([c])
    tokens, a = judged(c, batches, uniforms, coins, old)
    for i in (0, 3):
        w = lane.policy.w[0].clone().requires_grad_()
        loss, counted = objective(c, w, batches[i], tokens[i], old[0], a[i])
        (expected,) = torch.autograd.grad(-loss, w)
        clipped = []
        found = lane.gradient(batches[i], clipped)[0]
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        n = P * c.group * T
        for side, number in zip(("clip_low", "clip_high"), clipped[0], strict=True):
            assert float(number[0]) / n == pytest.approx(float(counted[side]))


def test_a_step_is_that_of_a_loop():
    """Two epochs of updates; on a CPU torch's fused Adam takes a gradient for one in
    the order of the weights' memory, whatever its own is."""
    c = config("agrae", epochs=2)
    lane, batches, uniforms, coins, old = sampled([c], 0.0)
    tokens, a = judged(c, batches, uniforms, coins, old)
    w = old[0].clone().requires_grad_()
    adam = torch.optim.Adam([w], lr=c.lr)
    for _ in range(c.epochs):
        for i, batch in enumerate(batches):
            loss, _ = objective(c, w, batch, tokens[i], old[0], a[i])
            adam.zero_grad()
            loss.backward()
            adam.step()
    again = Training([c], torch.float64)
    again.step(count=False)
    torch.testing.assert_close(again.policy.w[0], w.detach(), rtol=1e-9, atol=1e-9)


def test_updates_are_those_of_adam():
    c = config(lr=0.03)
    policy = Policy([c], torch.zeros(1, 6, 3, dtype=torch.float64))
    w = torch.zeros(1, 6, 3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([w], lr=c.lr, maximize=True)
    draws = torch.Generator().manual_seed(3)
    for _ in range(20):
        w.grad = torch.randn(w.shape, generator=draws, dtype=w.dtype)
        policy.ascend(w.grad)
        adam.step()
    torch.testing.assert_close(policy.w, w.detach(), rtol=1e-12, atol=1e-12)


def test_matched_steps_have_one_length_and_lanes_without_it_keep_adams():
    configs = [config(length=0.02), config()]
    draws = torch.Generator().manual_seed(3)
    g = torch.randn(2, 6, 3, generator=draws, dtype=torch.float64)
    g[1] = g[0]
    policy = Policy(configs, torch.zeros_like(g))
    policy.ascend(g)
    policy.ascend(2 * g)
    before = policy.w.clone()
    policy.ascend(-g)
    matched, plain = policy.w - before
    assert float(matched.square().mean().sqrt()) == pytest.approx(0.02, rel=1e-12)
    scaled = plain * 0.02 / plain.square().mean().sqrt()
    torch.testing.assert_close(matched, scaled, rtol=1e-9, atol=1e-12)


def test_tokens_follow_the_policy():
    """Counts against the probabilities, by a chi-square over all tokens."""
    lane, batches, *_ = sampled([config("psr", seed=s) for s in range(8)], 0.0)
    found = expected = 0.0
    for batch in batches:
        pi = lane.policy(batch.features, lane.buffers[0]).view(-1, V, T, P)
        counts = torch.zeros_like(pi)
        counts.view(-1)[batch.index] = batch.number[0]
        found = found + counts.sum((0, 3))
        expected = expected + (pi * counts.sum(1, keepdim=True)).sum((0, 3))
    free = slice(DECISIVE, None)  # the others are right by selection
    test = scipy.stats.chisquare(found[:, free], expected[:, free], axis=0)
    assert scipy.stats.combine_pvalues(test.pvalue).pvalue > 1e-3


def test_measures_are_those_of_scipy():
    lane, *_ = sampled([config(), config(seed=6)])
    lane.measure()
    for i, c in enumerate(lane.settings):
        there = world(c.seed, c.noise)
        z = lane.policy.w[i].numpy() @ there.features
        pi = scipy.special.softmax(z.reshape(V, T, -1), 0)
        n = np.arange(pi.shape[-1])
        first, second = there.right
        p = (pi[first, 0, n] * pi[second, 1, n])[TRAIN:]
        best = pi[:, :2].argmax(0) == there.right
        expected = {
            "entropy": scipy.stats.entropy(pi, axis=0)[:, TRAIN:].mean(),
            "train_entropy": scipy.stats.entropy(pi)[:, :TRAIN].mean(),
            "greedy": best.all(0)[TRAIN:].mean(),
            "pass_1": p.mean(),
            "pass_256": (1 - (1 - p) ** 256).mean(),
        }
        found = {name: lane.curves[f"{name}_curve"][0][i] for name in expected}
        assert found == pytest.approx(expected, rel=1e-9)


def test_success_rates_agree_with_sampling():
    """pass@k by the unbiased estimator on sampled rollouts, within its error."""
    c = config(group=250)
    lane = Training([c], torch.float64)
    lane.measure()
    batches, uniforms, coins = lane._draw()
    rewards = []
    lane.advantages = lambda r: rewards.append(r) or np.zeros((2, 1, TRAIN))
    lane.sample(batches, uniforms, coins)
    right = rewards[0][:, 0].sum(0)  # of 250 rollouts of each of 128 prompts
    rate = lane.curves["batch_correct_curve"][0][0]
    error = 0.5 / np.sqrt(128 * 250)
    assert right.mean() / 250 == pytest.approx(rate, abs=4 * error)
    unsolved = 1 - pass_at_k(250, right, 8)
    expected = replace(c, group=8)
    other = Training([expected], torch.float64)
    other.measure()
    exact = other.curves["unsolved_curve"][0][0]
    assert float(unsolved.sum()) == pytest.approx(exact, abs=1.5)


ARMS = [
    config("grpo"),
    config("agrae", alpha=0.5),
    config("negative_dominant", seed=6),
    config("psr", reward="random"),
    config("grpo", clip_low=1.0, clip_high=dynamics.OFF),
    config("hard", length=0.022),
    config("base"),
]


@cache
def rows_together(fresh: bool = False):
    return dynamics.run([replace(c, fresh=fresh) for c in ARMS])


@pytest.mark.parametrize("fresh", [False, True])
def test_a_lane_alone_is_the_lane_among_others(fresh):
    for i in (0, 2, 5):
        (alone,) = dynamics.run([replace(ARMS[i], fresh=fresh)])
        assert alone == rows_together(fresh)[i]


@pytest.mark.parametrize("group", [4, 16, 32])
def test_so_it_is_with_other_groups(group):
    """torch's sums over 16 rollouts and more depend on how they lie in memory."""
    methods = ("grpo", "positive_dominant", "agrae", "agrae")
    seeds = (5, 5, 5, 6)
    configs = [
        config(m, group=group, seed=s) for m, s in zip(methods, seeds, strict=True)
    ]
    for c, row in zip(configs, dynamics.run(configs), strict=True):
        assert dynamics.run([c]) == [row]


def test_the_base_policy_is_not_trained_and_others_are():
    for name in ("entropy_curve", "pass_1_curve", "batch_correct_curve"):
        base = rows_together()[-1][name]
        assert len(set(base)) == 1
        start = [row[name][0] for row, c in zip(rows_together(), ARMS, strict=True)]
        assert start[0] == base[0] != start[2]  # the seed is another one
        assert rows_together()[0][name][-1] != base[0]


def test_fresh_samples_are_never_clipped():
    for row in rows_together(fresh=True):
        assert row["clip_low_mean"] == row["clip_high_mean"] == 0
    assert (
        rows_together()[0]["clip_low_mean"] > 0 < rows_together()[0]["clip_high_mean"]
    )
    assert (
        rows_together()[4]["clip_low_mean"] == rows_together()[4]["clip_high_mean"] == 0
    )


def test_omega_is_the_mean_reward_of_each_lane():
    """Lanes with other rewards must not share it; agrae depends on it."""
    configs = [config("agrae"), config("agrae", seed=6)]
    lane = Training(configs, torch.float64)
    level = np.array([0.2, 0.8])[:, None]
    draws = np.random.default_rng(1)
    rewards = draws.random((8, 2, TRAIN)) < level
    found = lane.advantages(rewards)
    for i in range(2):
        r = rewards[:, i].T.astype(float)  # (P, G)
        expected = advantages(r, "agrae", omega=float(r.mean()))
        mixed = (r.mean(1) > 0) & (r.mean(1) < 1)
        a = np.where(r == 1, *found[:, i, :, None])[mixed]
        np.testing.assert_allclose(a, expected[mixed], rtol=1e-12, atol=1e-14)


def test_groups_are_counted_in_bytes():
    """The largest works, in which every number of rollouts is reached."""
    c = config("w_reinforce", group=255, steps=1)
    lane = Training([c], torch.float64)
    batches, uniforms, coins = lane._draw()
    lane.sample(batches, uniforms, coins)
    for batch, u in zip(batches, uniforms, strict=True):
        tokens = tokens_of(lane.policy.w[0], batch.features[0], u[:, 0])
        expected = torch.nn.functional.one_hot(tokens, V).sum(1)  # (P, T, V)
        found = torch.zeros(V, T, P, dtype=torch.float64)
        found.view(-1)[batch.index] = batch.number.sum(0)
        torch.testing.assert_close(found.permute(2, 1, 0), expected.double())
    assert batch.number.max() > 127
    with pytest.raises(ValueError, match="group = 256: use at most 255"):
        dynamics.run([replace(c, group=256)])


def test_a_collapse_needs_a_fall_and_unsolved_prompts():
    curves = {n: np.full(4, 0.5) for n in ("entropy_curve", "greedy_curve")}
    curves |= {f"clip_{s}_curve": np.zeros(3) for s in SIDES}

    def collapsed(correct, unsolved):
        given = {"batch_correct_curve": correct, "unsolved_curve": unsolved}
        given = {k: np.array(v) for k, v in given.items()}
        passes = np.full(len(dynamics.KS), 0.5)
        return dynamics._row([0, 1, 2, 3], curves | given, passes)["collapsed"]

    assert collapsed([0.4, 0.8, 0.7, 0.8], [9.0, 3.0, 4.5, 3.0])
    assert not collapsed([0.4, 0.8, 0.76, 0.8], [9.0, 3.0, 4.5, 3.0])
    assert not collapsed([0.4, 0.8, 0.7, 0.8], [9.0, 3.0, 3.5, 3.0])
    assert not collapsed([0.4, 0.6, 0.7, 0.8], [9.0, 5.0, 4.5, 3.0])
    assert not collapsed([0.4, 0.8, 0.7, 0.9], [3.5, 3.5, 4.0, 2.0])  # fewer later


def test_every_study_has_the_same_seeds_for_all_its_arms():
    configs = dynamics.sweep("quick")
    assert len(set(configs)) == len(configs)
    by_study = {}
    for c in configs:
        arms = by_study.setdefault(c.study, {})
        arms.setdefault(replace(c, seed=0), set()).add(c.seed)
    for arms in by_study.values():
        n = len(next(iter(arms.values())))
        assert n >= 16
        assert all(seeds == set(range(n)) for seeds in arms.values())
    main = {c.method for c in configs if c.study == "main"}
    assert main == {"base", *dynamics.METHODS}


# --- theory --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["grpo", "negative_dominant"])
def test_each_prefix_of_the_tree_obeys_theorem_1_by_itself(method):
    """The rollouts that pass a prefix are a group of their own, of sum A not 0."""
    c = theory.Config(study="tree", method=method, seed=4)
    draws = rng.stream(c.seed, "tree")
    shapes = [(theory.BRANCHES**d, theory.BRANCHES) for d in range(theory.PLACES)]
    logits = [torch.from_numpy(draws.normal(size=s)) for s in shapes]
    pi = theory.leaves(logits).exp().numpy()
    correct = draws.permutation(np.arange(len(pi)) % 2).astype(float)
    group = theory.mixed(draws, pi / pi.sum(), correct, c.group)
    a = advantages(correct[group][None], method, omega=theory.OMEGA)[0]
    largest = []
    for place, h in enumerate(logits):
        node = group // theory.BRANCHES ** (theory.PLACES - place - 1)
        moved = [0.0]
        for prefix in set(node // theory.BRANCHES):
            here = node // theory.BRANCHES == prefix
            tokens = node[here] % theory.BRANCHES
            dh = logit_motion(torch.softmax(h[prefix], 0).numpy(), tokens, a[here])
            moved += list(abs(np.delete(dh, tokens)))
        largest.append(max(moved))
    (row,) = theory.run([c])
    np.testing.assert_allclose(row["by_place"], largest, atol=1e-12)


def test_log_probabilities_of_leaves_are_products_along_paths():
    draws = torch.Generator().manual_seed(2)
    logits = [
        torch.randn(4**d, 4, generator=draws, dtype=torch.float64) for d in range(3)
    ]
    found = theory.leaves(logits)
    assert float(found.exp().sum()) == pytest.approx(1, abs=1e-12)
    for leaf in (0, 17, 63):
        a, b, c = leaf // 16, leaf // 4 % 4, leaf % 4
        tables = [torch.log_softmax(h, 1) for h in logits]
        path = tables[0][0, a] + tables[1][a, b] + tables[2][4 * a + b, c]
        assert float(found[leaf]) == pytest.approx(float(path), abs=1e-12)


@pytest.mark.parametrize("method", ["grpo", "agrae"])
def test_theory_rows_follow_the_symmetry(method):
    row, tree = theory.run(
        [theory.Config(study=s, method=method, seed=1) for s in ("motion", "tree")]
    )
    assert row["theorem_1_error"] < 1e-12 > row["expectation_error"]
    symmetric = method == "grpo"
    assert (row["unsampled"] < 1e-12) == (tree["root"] < 1e-12) == symmetric
    assert tree["deeper"] > 1e-3 < row["unsampled_log_probability"]
    assert row["unsampled_by_length"] > 1e-3


def test_a_wrong_formula_is_noticed(monkeypatch):
    from symlab.rlvr import theory as formulas

    real = formulas.logit_motion
    monkeypatch.setattr(formulas, "logit_motion", lambda *a: real(*a) + 1e-6)
    (row,) = theory.run([theory.Config(study="motion")])
    assert row["theorem_1_error"] > 1e-7
