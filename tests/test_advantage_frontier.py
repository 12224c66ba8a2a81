"""Dependent tokens: against enumeration of completions, autograd and definitions."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from scipy.integrate import quad

from symlab.harness import contract, project
from symlab.rlvr import advantages, clipped_objective, pass_at_k
from symlab.rlvr.branching import BATCH as P
from symlab.rlvr.branching import (
    PLANS,
    SOFTMAXES,
    TOKENS,
    TRAIN,
    Training,
    frontier_area,
    world,
)

frontier = contract.load(project.find(Path(__file__).parent), "advantage_frontier")
Config = frontier.module.Config


def config(method: str = "grpo", **fields):
    return Config(method=method, **({"updates": 16, "seed": 5} | fields))


def rollouts_of(lane: Training):
    """Minibatches of one lane, with their rollouts and rewards, and the old weights."""
    seen, real = [], lane.rollouts

    def noted(features, right, u):
        seen.append((right, *real(features, right, u)))
        return seen[-1][1:]

    lane.rollouts = noted
    batches = lane.sample()
    return batches, seen, lane.policy.w.clone()


def log_probability(w, features, columns, tokens):
    """Of tokens (TOKENS, G, P), as (P*G, TOKENS), by torch's log_softmax."""
    z = (w @ features).view(PLANS, SOFTMAXES * P)
    log_pi = torch.log_softmax(z, 0)
    return log_pi[tokens, columns].permute(2, 1, 0).reshape(-1, TOKENS)


@pytest.mark.parametrize(
    "c",
    [
        config("grpo"),
        config("agrae", clip=0.05),
        config("agrae", omega="group"),
        config("w_reinforce", group=4),
        config("positive_dominant", base=0.06),
    ],
    ids=lambda c: f"{c.method} {c.omega}",
)
def test_gradients_and_clip_counts_are_those_of_autograd(c):
    lane = Training([c], torch.float64)
    batches, seen, old = rollouts_of(lane)
    rewards = torch.cat([s[-1] for s in seen], 2)[0].T.double()  # (TRAIN, G)
    omega = None if c.omega == "batch" else rewards.mean(1, keepdim=True)
    a = advantages(rewards, c.method, omega=omega).split(P)
    noise = torch.Generator().manual_seed(0)
    lane.policy.w.add_(
        torch.randn(old.shape, generator=noise, dtype=old.dtype), alpha=0.2
    )
    for i in (0, 3):
        _, columns, tokens, _, _ = seen[i]
        where = batches[i].features[0], columns[0], tokens[0]
        w = lane.policy.w[0].clone().requires_grad_()
        loss, counted = clipped_objective(
            log_probability(w, *where), log_probability(old[0], *where),
            a[i].reshape(-1), torch.ones(P * c.group, TOKENS),
            clip_low=c.clip, clip_high=c.clip,
        )  # fmt: skip
        (expected,) = torch.autograd.grad(-loss, w)
        clipped = []
        found = lane.gradient(batches[i], clipped)[0]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        share = float(clipped[0][0]) / (P * c.group * TOKENS)
        both = float(counted["clip_low"]) + float(counted["clip_high"])
        assert share == pytest.approx(both)
        assert share > 0


def test_success_and_entropies_are_those_of_all_completions():
    """Every one of the 216 completions of a few prompts, one by one."""
    lane = Training([config(), config(seed=6, base=0.46)], torch.float64)
    found = lane.measure()
    for i in (0, 1):
        there = lane.worlds[i]
        z = np.einsum("vjd,dn->vjn", there.base, there.features[:, :4])
        pi = scipy.special.softmax(z, 0)
        for n in range(4):
            chance = {
                (z, a, b): pi[z, 0, n] * pi[a, 1 + z, n] * pi[b, 1 + PLANS + z, n]
                for z, a, b in product(range(PLANS), repeat=3)
            }
            right = there.right[:, n]
            paths = {(z, right[z], right[PLANS + z]) for z in range(PLANS)}
            assert len(paths) >= 2  # several right paths
            p = sum(chance[path] for path in paths)
            assert found["success"][i, n] == pytest.approx(p, rel=1e-9)
            whole = scipy.stats.entropy(list(chance.values()))
            parts = found["free"][i, n] + 2 * found["decisive"][i, n]
            assert parts == pytest.approx(whole, rel=1e-9)


def test_rollouts_follow_the_policy_and_are_rewarded_on_right_paths():
    c = config(group=16)
    lane = Training([c], torch.float64)
    success = lane.measure()["success"][0, :TRAIN]
    _, seen, _ = rollouts_of(lane)
    right, rewards = 0, []
    for answers, _, tokens, _, reward in seen:
        plan, first, second = tokens[0]  # (G, P)
        one = answers[0].gather(0, plan) == first
        two = answers[0].gather(0, plan + PLANS) == second
        assert torch.equal(reward[0], one & two)
        right = right + reward.sum()
        rewards.append(reward[0].sum(0))
    error = 0.5 / np.sqrt(TRAIN * c.group)
    assert float(right) / (TRAIN * c.group) == pytest.approx(
        success.mean(), abs=4 * error
    )
    unsolved = 1 - pass_at_k(c.group, torch.cat(rewards).numpy(), 8)
    assert unsolved.mean() == pytest.approx(((1 - success) ** 8).mean(), abs=0.05)


def test_the_area_is_that_under_the_best_point_to_the_right():
    draws = np.random.default_rng(0)
    for _ in range(5):
        x, y = draws.random((2, 7))

        def height(at, x=x, y=y):
            return max(y[x >= at], default=0.0)

        area, _ = quad(height, 0, 1, points=sorted(x), limit=200)
        assert frontier_area(x, y) == pytest.approx(area, rel=1e-6)
    assert frontier_area([0.5, 0.4], [0.8, 0.7]) == pytest.approx(0.4)  # dominated


def test_a_lane_alone_is_the_lane_among_others():
    configs = [
        config("grpo"),
        config("agrae", seed=6, lr=0.05),
        config("agrae", omega="group", base=0.06),
        config("hard", seed=6),
    ]
    run = frontier.module.run
    together = run(configs)
    for i in (0, 2):
        assert run([configs[i]]) == [together[i]]


def test_rare_plans_are_the_more_predictable():
    """Why exploration can pay: in every seed, by the teacher's own best guesses."""
    for seed in range(3):
        there = world(seed, 1.0)
        use = scipy.special.softmax(there.base[:, 0] @ there.features, 0).mean(1)
        assert use[0] == use.max()
        assert use[-3:].sum() < 0.3
        assert there.foreseen[-3:].mean() > there.foreseen[0] + 0.1


def test_all_arms_are_tuned_alike_and_raced_on_other_seeds():
    configs = frontier.module.sweep("quick")
    assert len(set(configs)) == len(configs)
    per_arm = {"race": {}, "tune": {}}
    for c in configs:
        arm = replace(c, lr=0.0, seed=0, study="")
        per_arm[c.study].setdefault(arm, set()).add((c.lr, c.seed))
    assert per_arm["race"].keys() == per_arm["tune"].keys()
    assert len({frozenset(runs) for runs in per_arm["tune"].values()}) == 1
    seeds = {s: {c.seed for c in configs if c.study == s} for s in ("race", "tune")}
    for runs in per_arm["race"].values():
        assert len({lr for lr, _ in runs}) == 1
        assert {seed for _, seed in runs} == seeds["race"]
    assert len(seeds["race"]) >= 8
    assert not seeds["race"] & seeds["tune"]
