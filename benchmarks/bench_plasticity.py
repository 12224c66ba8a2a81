"""Lanes of figure 4, compiled or not, against a torch loop for each config.

    python benchmarks/bench_plasticity.py [n_seeds] [tasks]

All arms of experiments/plasticity.py, the same data streams, one process, one thread.
The loop is what one would write first: autograd, torch.optim.SGD, one configuration
after the other; its start-up is not counted. It is timed on one task; at its end both
sides have the same excess to 1e-5 (in longer runs float32 rounds each its own way).
The steady state is what further tasks take: the start of a call, and compiling, whose
CPU-seconds are printed, are not in it. Beside it stand the random numbers alone, which
both kinds of lanes draw and which bound the ratio.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.bench_lanes import cpu_seconds  # noqa: E402
from benchmarks.bench_lanes import lanes as any_lanes  # noqa: E402
from experiments import plasticity as experiment  # noqa: E402
from symlab import compiled  # noqa: E402
from symlab.harness import rng  # noqa: E402

STEPS = 500  # per task
lanes = partial(any_lanes, run=experiment.run)


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


def random_numbers(n_seeds: int, dim: int, steps: int = 250) -> float:
    """Return the CPU-seconds per step of drawing inputs and label noise."""
    streams = [rng.stream(s, "bench") for s in range(n_seeds)]
    out = np.empty((steps, dim + 1), np.float32)
    draw, _ = cpu_seconds(
        lambda: [s.standard_normal(out=out, dtype=np.float32) for s in streams]
    )
    return draw / steps


def sweep(n_seeds: int, tasks: int) -> list:
    """Return the configs of all arms, at STEPS steps a task."""
    return [
        experiment.Config(arm=arm, **its, tasks=tasks, steps=STEPS, seed=seed)
        for seed in range(n_seeds)
        for arm, its in experiment.ARMS.items()
    ]


def main(n_seeds: int = 200, tasks: int = 4) -> float:
    torch.set_num_threads(1)
    short, configs = sweep(n_seeds, 1), sweep(n_seeds, 1 + tasks)
    probe, steps = short[: len(experiment.ARMS)], tasks * STEPS
    loop(experiment.Config(tasks=1, steps=50))  # the first call of autograd warms up
    lanes(False, configs[:6])
    first, (again, rows) = lanes(True, short)[0], lanes(True, short)
    print(f"compiling takes {first - again:.1f} CPU-seconds", flush=True)
    ratios = []
    for _ in range(3):
        alone, errors = cpu_seconds(lambda: [loop(c) for c in probe])
        per_step, found = alone / len(probe) / STEPS, []
        text = f"loop {per_step * 1e6:.0f} us a step"
        for pays, name in ((False, "single operations"), (True, "compiled")):
            start, whole = lanes(pays, short)[0], lanes(pays, configs)[0]
            steady = (whole - start) / steps
            found.append(per_step * len(configs) / steady)
            text += f"; {name} {steady * 1e6:.0f} us for {len(configs)} lanes: "
            text += f"{found[-1]:.0f} times"
        numbers = random_numbers(n_seeds, configs[0].dim)
        found.append(per_step * len(configs) / numbers)
        print(f"{text}; random numbers alone {numbers * 1e6:.0f} us", flush=True)
        ratios.append(found)
    together = [row["excess"][0] for row in (*lanes(False, short)[1], *rows)]
    gap = max(
        abs(together[i] / excess[0] - 1)
        for begin in (0, len(short))
        for i, excess in enumerate(errors, begin)
    )
    print(f"largest relative difference of the excess: {gap:.1e} (must be < 1e-5)")
    single, ours, bound = np.median(ratios, 0)
    print(f"median ratios in the steady state: {single:.0f} and, compiled, {ours:.0f}")
    print(f"a program that only drew the random numbers: {bound:.0f}")
    assert gap < 1e-5
    assert not compiled._failed
    return float(ours)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
