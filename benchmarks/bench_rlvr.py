"""Runs per CPU-second: vectorised lanes against one torch loop per run.

    python benchmarks/bench_rlvr.py [lanes] [runs of the loop]

The same environment (symlab/rlvr/independent.py; study 'main' of advantage_dynamics),
the same random numbers, one thread, whole runs of 60 steps with everything that is
measured along the way. The loop is what one would write first, with the library's own
parts: log-softmax, the clipped objective of symlab.rlvr with its statistics, autograd
and torch.optim.Adam.

Both are compared in float64 over four steps, 64 updates: to 1e-9. Later, rounding grows
until one sample differs; a change of the base policy by 1e-13 does the same.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from experiments import advantage_dynamics as experiment  # noqa: E402
from symlab.rlvr import advantages, clipped_objective, pass_at_k_exact  # noqa: E402
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


def difference(methods, steps: int = 4) -> float:
    """The largest between loop and lanes, over everything measured, in float64."""
    configs = [experiment.Config(method=m, steps=steps, seed=7) for m in methods]
    rows, worst = experiment.train(configs, torch.float64), 0.0
    for c, row in zip(configs, rows, strict=True):
        found = Loop(c, torch.float64).run()
        for name in found[0]:
            gap = np.subtract([f[name] for f in found], row[name])
            worst = max(worst, float(np.abs(gap).max()))
    return worst


def cpu_seconds(function) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main(n_lanes: int = 2 * experiment.LANES, n_loop: int = 3) -> float:
    torch.set_num_threads(1)
    seeds = range(-(-n_lanes // len(experiment.METHODS)))
    arms = [(m, s) for s in seeds for m in experiment.METHODS][:n_lanes]
    configs = [experiment.Config(method=m, seed=s) for m, s in arms]
    size = experiment.LANES
    chunks = [configs[i : i + size] for i in range(0, n_lanes, size)]
    gap = difference(experiment.METHODS[:6])
    print(f"largest difference over four steps in float64: {gap:.1e}")
    assert gap < 1e-9
    ratios = []
    for _ in range(3):
        slow = cpu_seconds(lambda: [Loop(c).run() for c in configs[:n_loop]]) / n_loop
        fast = cpu_seconds(lambda: [experiment.run(c) for c in chunks]) / n_lanes
        ratios.append(slow / fast)
        print(
            f"loop {1 / slow:6.2f}  lanes {1 / fast:6.1f} runs per CPU-second: "
            f"{slow / fast:.0f} times"
        )
    print(f"median ratio: {np.median(ratios):.0f}")
    return float(np.median(ratios))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
