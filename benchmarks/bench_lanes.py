"""Configurations per CPU-second: vectorised lanes against one torch loop per config.

    python benchmarks/bench_lanes.py [n_lanes] [steps]

The same experiment (figure 3 left, u*v, online SGD of batch 1), the same data streams,
one thread. The loop is what one would write first: autograd and an update in place, one
process per configuration. Its start-up (importing torch) is measured apart and not
counted in the ratio. Both sides give the same rows to 1e-5.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from experiments import rescaling_sparsity as experiment  # noqa: E402
from symlab.harness import rng  # noqa: E402


def loop(c: experiment.Config) -> float:
    """One configuration by autograd; the mean square over the last tenth."""
    d = c.dim
    teacher = rng.stream(c.seed, "teacher").normal(size=d) / np.sqrt(d)
    teacher = torch.from_numpy(teacher.astype(np.float32))
    uv = rng.stream(c.seed, "init").normal(size=(2, d)) * c.init
    u, v = (torch.tensor(a, dtype=torch.float32, requires_grad=True) for a in uv)
    data, squares = rng.stream(c.seed, "data"), 0.0
    draws = torch.from_numpy(data.standard_normal((c.steps, d + 1), np.float32))
    for t in range(c.steps):
        x = draws[t, :d]
        y = x @ teacher + c.noise * draws[t, d]
        r = (u * v) @ x - y
        (r * r).backward()
        with torch.no_grad():
            u -= c.lr * u.grad
            v -= c.lr * v.grad
            u.grad = v.grad = None
        if t >= 0.9 * c.steps:
            squares += float(r.detach()) ** 2
    return squares / (c.steps - int(np.ceil(0.9 * c.steps)))


def cpu_seconds(function) -> tuple[float, object]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def main(n_lanes: int = 1040, steps: int = 2000, n_loop: int = 3) -> float:
    torch.set_num_threads(1)
    rates, seeds = np.geomspace(0.005, 0.03, 26), range(n_lanes // 26)
    configs = [
        experiment.Config(lr=float(lr), steps=steps, seed=s)
        for s in seeds
        for lr in rates
    ]
    probe = configs[:: len(configs) // n_loop][:n_loop]
    loop(experiment.Config(steps=50))  # the first call of autograd warms up
    experiment.run(configs[:2])
    ratios = []
    for _ in range(3):
        alone, errors = cpu_seconds(lambda: [loop(c) for c in probe])
        together, rows = cpu_seconds(lambda: experiment.run(configs))
        slow, fast = alone / len(probe), together / len(configs)
        ratios.append(slow / fast)
        print(
            f"loop {1 / slow:8.2f}  lanes {1 / fast:9.1f} configs per CPU-second: "
            f"{slow / fast:.0f} times ({len(configs) * steps / together / 1e6:.2f} M "
            "config-steps per second)"
        )
    mse = {(c.lr, c.seed): r["mse"] for c, r in zip(configs, rows, strict=True)}
    gap = max(
        abs(mse[c.lr, c.seed] / e - 1) for c, e in zip(probe, errors, strict=True)
    )
    print(f"largest relative difference of the error: {gap:.1e} (must be < 1e-5)")
    print(f"median ratio: {np.median(ratios):.0f}")
    assert gap < 1e-5
    return float(np.median(ratios))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
