"""Runs per CPU-second: vectorised lanes against one torch loop per run.

    python benchmarks/bench_rlvr.py [lanes] [runs of the loop]

Two environments, symlab/rlvr/independent.py (study 'main' of advantage_dynamics, 60
steps) and symlab/rlvr/branching.py (advantage_frontier, four epochs, 400 updates), the
same random numbers, one thread, whole runs with everything that is measured along the
way. The loops, `Loop` and `Tree`, are what one would write first, with the library's
own parts: log-softmax, the clipped objective of symlab.rlvr with its statistics,
autograd and torch.optim.Adam.

Both are compared in float64 over 64 updates: to 1e-9. Later, rounding grows until one
sample differs; a change of the base policy by 1e-13 does the same.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from experiments import advantage_dynamics as experiment  # noqa: E402
from experiments import advantage_frontier as frontier  # noqa: E402
from symlab.harness import rng  # noqa: E402
from symlab.rlvr import advantages, clipped_objective, pass_at_k_exact  # noqa: E402
from symlab.rlvr import branching as tree  # noqa: E402
from symlab.rlvr.independent import BATCH as P  # noqa: E402
from symlab.rlvr.independent import MINIBATCHES as M  # noqa: E402
from symlab.rlvr.independent import TOKENS as T  # noqa: E402
from symlab.rlvr.independent import TRAIN, Draws, world  # noqa: E402
from symlab.rlvr.independent import VOCABULARY as V  # noqa: E402


class Loop:
    """One run by autograd."""

    def __init__(self, c: experiment.Config, dtype=torch.float32):
        there = world(c.seed, c.noise)
        self.c, self.dtype, self.draws = c, dtype, Draws(c.seed, c.group)
        self.features = torch.from_numpy(there.features.T.copy()).to(dtype)  # (N, D)
        self.right = torch.from_numpy(there.right.T.copy())  # (N, 2)
        base = torch.from_numpy(there.base.transpose(1, 0, 2).copy())  # (T, V, D)
        self.w = base.to(dtype).reshape(T * V, -1).requires_grad_()
        self.optimizer = torch.optim.Adam([self.w], lr=c.lr)
        self.mask = torch.ones(P * c.group, T, dtype=torch.bool)

    def log_pi(self, features):
        """(N, T, V)"""
        return torch.log_softmax((features @ self.w.T).view(-1, T, V), -1)

    def log_probability(self, prompts, tokens):
        """Of tokens (N, G, T), as (N*G, T)."""
        log_pi = self.log_pi(self.features[prompts])[:, None]
        log_pi = log_pi.expand(-1, tokens.shape[1], -1, -1)
        return log_pi.gather(-1, tokens[..., None]).view(-1, T)

    def run(self) -> list[dict]:
        when, found = experiment.logged(self.c.steps), []
        for step in range(self.c.steps):
            if step in when:
                found.append(self.measure())
            self.step()
        return [*found, self.measure()]

    def step(self) -> None:
        order, uniforms, _ = self.draws.step()
        order = torch.from_numpy(order)
        u = torch.from_numpy(uniforms).to(self.dtype)
        u = u.view(M, self.c.group, T, P).permute(0, 3, 1, 2)
        u = u.reshape(TRAIN, self.c.group, T)
        with torch.no_grad():
            tokens = self.sample(order, u)
            old = self.log_probability(order, tokens)
            hit = tokens[..., :2] == self.right[order][:, None]
            rewards = hit.all(-1).to(self.dtype)
            a = advantages(rewards, self.c.method).view(-1)
        for _ in range(self.c.epochs):
            for rows in torch.arange(TRAIN).split(P):
                self.update(order[rows], tokens[rows], old, a, rows)

    def sample(self, prompts, u):
        """Tokens (N, G, T), the inverse of the distribution function at u."""
        cumulative = self.log_pi(self.features[prompts]).exp().cumsum(-1)[..., :-1]
        u = u.transpose(1, 2).contiguous()
        found = torch.searchsorted(cumulative.contiguous(), u, right=True)
        return found.transpose(1, 2)

    def update(self, prompts, tokens, old, a, rows) -> None:
        g = self.c.group
        at = slice(int(rows[0]) * g, (int(rows[-1]) + 1) * g)
        loss, _ = clipped_objective(
            self.log_probability(prompts, tokens),
            old[at],
            a[at],
            self.mask,
            clip_low=self.c.clip_low,
            clip_high=self.c.clip_high,
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    @torch.no_grad()
    def measure(self) -> dict:
        log_pi = self.log_pi(self.features)
        entropy = -(log_pi.exp() * log_pi).sum(-1).mean(-1)
        own = log_pi[:, :2].gather(-1, self.right[..., None])[..., 0]
        p = own.double().sum(-1).exp().clamp(max=1)
        greedy = (log_pi[:, :2].argmax(-1) == self.right).all(-1)
        return {
            "batch_correct_curve": float(p[:TRAIN].mean()),
            "unsolved_curve": float(((1 - p[:TRAIN]) ** self.c.group).sum()),
            "entropy_curve": float(entropy[TRAIN:].double().mean()),
            "greedy_curve": float(greedy[TRAIN:].double().mean()),
            "pass_1_curve": float(p[TRAIN:].mean()),
            "pass_256_curve": float(pass_at_k_exact(p[TRAIN:], 256).mean()),
        }


class Tree:
    """One run of dependent tokens by autograd."""

    def __init__(self, c: frontier.Config, dtype=torch.float32):
        there = tree.world(c.seed, c.noise)
        self.c, self.dtype = c, dtype
        self.order, self.samples = (rng.stream(c.seed, n) for n in ("order", "samples"))
        self.features = torch.from_numpy(there.features.T.copy()).to(dtype)  # (N, D)
        self.right = torch.from_numpy(there.right.T.copy())  # (N, 2*PLANS)
        base = torch.from_numpy(there.base.transpose(1, 0, 2).copy())  # (J, V, D)
        self.w = base.to(dtype).flatten(0, 1).requires_grad_()
        self.optimizer = torch.optim.Adam([self.w], lr=c.lr)

    def log_pi(self, prompts):
        """(N, J, V)"""
        z = (self.features[prompts] @ self.w.T).view(-1, tree.SOFTMAXES, tree.PLANS)
        return torch.log_softmax(z, -1)

    def log_probability(self, prompts, tokens):
        """Of tokens (N, G, 3), as (N*G, 3)."""
        plan = tokens[..., 0]
        at = torch.stack([0 * plan, 1 + plan, 1 + tree.PLANS + plan], -1)
        prompt = torch.arange(len(prompts))[:, None, None]
        return self.log_pi(prompts)[prompt, at, tokens].flatten(0, 1)

    @torch.no_grad()
    def sample(self, prompts):
        """Tokens (N, G, 3): inverses of the distribution functions along the tree."""
        u = self.samples.random((tree.TOKENS, self.c.group, tree.TRAIN), np.float32)
        u = torch.from_numpy(u).to(self.dtype).transpose(1, 2)  # (3, N, G)
        cumulative = self.log_pi(prompts).exp().cumsum(-1)[..., :-1]
        prompt = torch.arange(len(prompts))[:, None]
        plan = (u[0, ..., None] >= cumulative[:, None, 0]).sum(-1)
        answers = [
            (u[i, ..., None] >= cumulative[prompt, 1 + (i - 1) * tree.PLANS + plan])
            for i in (1, 2)
        ]
        return torch.stack([plan, *(a.sum(-1) for a in answers)], -1)

    def step(self) -> None:
        order = torch.from_numpy(self.order.permutation(tree.TRAIN))
        tokens, right = self.sample(order), self.right[order]
        plan = tokens[..., 0]
        first, second = right.gather(1, plan), right.gather(1, tree.PLANS + plan)
        rewards = ((tokens[..., 1] == first) & (tokens[..., 2] == second)).to(
            self.dtype
        )
        a = advantages(rewards, self.c.method)
        with torch.no_grad():
            old = self.log_probability(order, tokens).unflatten(0, plan.shape)
        for _ in range(self.c.epochs):
            for rows in torch.arange(tree.TRAIN).split(tree.BATCH):
                logp = self.log_probability(order[rows], tokens[rows])
                loss, _ = clipped_objective(
                    logp,
                    old[rows].flatten(0, 1),
                    a[rows].flatten(),
                    torch.ones_like(logp),
                    clip_low=self.c.clip,
                    clip_high=self.c.clip,
                )
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()

    @torch.no_grad()
    def measure(self) -> dict:
        log_pi = self.log_pi(slice(None))
        plan = log_pi[:, 0].double().exp()
        own = log_pi[:, 1:].gather(-1, self.right[..., None])[..., 0].double()
        own = own.unflatten(1, (2, tree.PLANS)).sum(1).exp()
        p = (plan * own).sum(1).clamp(max=1)
        return {
            "pass_1_curve": float(p[tree.TRAIN :].mean()),
            "pass_256_curve": float(pass_at_k_exact(p[tree.TRAIN :], 256).mean()),
            "solved_curve": float(p[: tree.TRAIN].mean()),
        }

    def run(self) -> list[dict]:
        found, each = [self.measure()], M * self.c.epochs
        for done in range(0, self.c.updates, each):
            self.step()
            if done + each in frontier.CHECKPOINTS:
                found.append(self.measure())
        return found


def differences(pairs) -> float:
    """The largest of (curves of a loop, row of the lanes), over all that both have."""
    gaps = [
        np.abs(np.subtract([f[name] for f in found], row[name])).max()
        for found, row in pairs
        for name in found[0]
    ]
    return float(max(gaps))


def trained(configs, dtype=torch.float64) -> list[dict]:
    """What advantage_frontier's `run` does, in another precision."""
    training = tree.Training(configs, dtype)
    found, each = [training.measure()], M * configs[0].epochs
    for done in range(0, configs[0].updates, each):
        training.step()
        if done + each in frontier.CHECKPOINTS:
            found.append(training.measure())
    none = np.zeros(1)
    return [frontier._row(training, i, found, none) for i in range(len(configs))]


def difference(methods) -> float:
    """The largest between loops and lanes, after 64 updates in float64."""
    one = [experiment.Config(method=m, steps=4, seed=7) for m in methods]
    other = [frontier.Config("", m, epochs=4, updates=64, seed=7) for m in methods]
    rows = [*experiment.train(one, torch.float64), *trained(other)]
    loops = [Loop(c, torch.float64) for c in one]
    loops += [Tree(c, torch.float64) for c in other]
    pairs = [(loop.run(), row) for loop, row in zip(loops, rows, strict=True)]
    return differences(pairs)


def cpu_seconds(function) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main(n_lanes: int = 2 * experiment.LANES, n_loop: int = 3) -> float:
    torch.set_num_threads(1)
    print(f"largest difference in float64: {difference(experiment.METHODS[:6]):.1e}")
    seeds = range(-(-n_lanes // len(experiment.METHODS)))
    arms = [(m, s) for s in seeds for m in experiment.METHODS][:n_lanes]
    one = [experiment.Config(method=m, seed=s) for m, s in arms]
    other = [frontier.Config(method=m, epochs=4, seed=s) for m, s in arms]
    found = {
        "independent tokens": compared(Loop, experiment.run, one, n_loop),
        "dependent tokens": compared(Tree, frontier.run, other, n_loop),
    }
    for name, ratio in found.items():
        print(f"median ratio, {name}: {ratio:.0f}")
    return min(found.values())


def compared(loop, run, configs: list, n_loop: int) -> float:
    """The median of three ratios of CPU-seconds of a run, loop over lanes."""
    size, ratios = experiment.LANES, []
    chunks = [configs[i : i + size] for i in range(0, len(configs), size)]
    for _ in range(3):
        slow = cpu_seconds(lambda: [loop(c).run() for c in configs[:n_loop]]) / n_loop
        fast = cpu_seconds(lambda: [run(c) for c in chunks]) / len(configs)
        ratios.append(slow / fast)
        print(
            f"loop {1 / slow:6.2f}  lanes {1 / fast:6.1f} runs per CPU-second: "
            f"{slow / fast:.0f} times"
        )
    return float(np.median(ratios))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
