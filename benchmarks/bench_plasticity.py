"""Configurations per CPU-second: lanes of figure 4 against a torch loop per config.

    python benchmarks/bench_plasticity.py [n_seeds] [tasks]

All arms of experiments/plasticity.py, the same data streams, one process, one thread.
The loop is what one would write first: autograd, torch.optim.SGD, one configuration
after the other; its start-up is not counted. It is timed on one task; at its end both
sides have the same excess to 1e-5 (in longer runs float32 rounds each its own way).
Last, the ratio to the limit: the bytes that a step must move, at the rate of a
multiplication of arrays of that size, and its random numbers.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from experiments import plasticity as experiment  # noqa: E402
from symlab.harness import rng  # noqa: E402

STEPS = 500  # per task
PASSES = 27  # reads and writes of (lanes, dim) by a step of u*v, counted in _Product


def loop(c: experiment.Config) -> list[float]:
    """One configuration by autograd: the excess loss at the end of each task."""
    uv, centre = (torch.from_numpy(a[:, 0]).float() for a in experiment.start([c]))
    bias = centre if c.arm in ("bias", "trap") else torch.zeros_like(centre)
    theta = (uv.prod(0) if c.arm == "vanilla" else uv - bias).requires_grad_()
    pull = c.lr * c.weight_decay * centre if c.arm == "point" else None
    optimizer = torch.optim.SGD([theta], lr=c.lr, weight_decay=c.weight_decay)
    data, kicks = rng.stream(c.seed, "data"), rng.stream(c.seed, "kicks")
    excess = []
    for teacher in torch.from_numpy(experiment.teacher(c.seed, c)).float():
        draws = torch.from_numpy(data.standard_normal((c.steps, c.dim + 1), np.float32))
        bits = experiment.bits(kicks, c.steps, c.dim) if c.kick else None
        for t in range(c.steps):
            x = draws[t, : c.dim]
            model = theta if c.arm == "vanilla" else theta + bias
            w = model if c.arm == "vanilla" else model[0] * model[1]
            loss = (w @ x - teacher @ x - c.noise * draws[t, c.dim]) ** 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                if pull is not None:
                    theta += pull
                if c.kick:
                    sign = torch.from_numpy(2.0 * bits[:, t] - 1)
                    theta += c.kick * c.lr**0.5 * sign
        w = theta.detach() if c.arm == "vanilla" else (theta.detach() + bias).prod(0)
        excess.append(float((w - teacher).square().sum()))
    return excess


def cpu_seconds(function) -> tuple[float, object]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def limit(n_lanes: int, n_seeds: int, dim: int, repeat: int = 300) -> float:
    """CPU-seconds per step that moving the bytes and drawing the numbers take alone."""
    a, b, out = torch.ones(3, n_lanes, dim)
    multiply, _ = cpu_seconds(
        lambda: [torch.mul(a, b, out=out) for _ in range(repeat)]
    )  # three passes
    stream = rng.stream(0, "bench")
    draw, _ = cpu_seconds(
        lambda: stream.standard_normal((repeat, n_seeds, dim + 1), np.float32)
    )
    return (multiply / 3 * PASSES + draw) / repeat


def main(n_seeds: int = 200, tasks: int = 4) -> float:
    torch.set_num_threads(1)
    configs = [
        experiment.Config(arm=arm, **its, tasks=tasks, steps=STEPS, seed=seed)
        for seed in range(n_seeds)
        for arm, its in experiment.ARMS.items()
    ]
    steps = tasks * STEPS
    probe = [replace(c, tasks=1) for c in configs[: len(experiment.ARMS)]]
    loop(experiment.Config(tasks=1, steps=50))  # the first call of autograd warms up
    experiment.run(configs[:6])
    ratios, efforts = [], []
    for _ in range(3):
        alone, errors = cpu_seconds(lambda: [loop(c) for c in probe])
        together, rows = cpu_seconds(lambda: experiment.run(configs))
        slow, fast = alone / len(probe) / STEPS, together / len(configs) / steps
        ratios.append(slow / fast)
        efforts.append(together / steps / limit(len(configs), n_seeds, configs[0].dim))
        print(
            f"loop {1 / slow:8.0f}  lanes {1 / fast:9.0f} config-steps per CPU-second: "
            f"{slow / fast:.0f} times, {together / steps * 1e3:.2f} ms per step, "
            f"{efforts[-1]:.1f} times the limit"
        )
    gap = max(
        abs(row["excess"][0] / excess[0] - 1)
        for row, excess in zip(rows, errors, strict=False)
    )
    print(f"largest relative difference of the excess: {gap:.1e} (must be < 1e-5)")
    print(f"{len(configs)} lanes: median ratio {np.median(ratios):.0f}, ", end="")
    print(f"{np.median(efforts):.1f} times the limit")
    assert gap < 1e-5
    return float(np.median(ratios))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
