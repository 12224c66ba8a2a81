"""Configurations per CPU-second: lanes, compiled or not, against a torch loop for each.

    python benchmarks/bench_lanes.py [n_lanes] [steps]

The same experiment (figure 3 left, u*v, online SGD of batch 1), the same data streams,
one thread. The loop is what one would write first: autograd and an update in place, one
process per configuration. Its start-up (importing torch) is measured apart and not
counted in the ratio. All sides give the same rows to 1e-5.

Lanes are measured twice: as a whole (a call of `run`, with its start and the theory in
its rows) and in the steady state, which is what `steps` further steps take. Compiling
is not counted in either; its CPU-seconds are printed, the C++ compiler's with them.
"""

import resource
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from experiments import rescaling_sparsity as experiment  # noqa: E402
from symlab import compiled  # noqa: E402
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
    """Return the CPU-seconds of a call, with those of programs it started, and its
    result.
    """
    before = [resource.getrusage(w) for w in WHOSE]
    result = function()
    after = [resource.getrusage(w) for w in WHOSE]
    used = sum(u.ru_utime + u.ru_stime for u in after)
    return used - sum(u.ru_utime + u.ru_stime for u in before), result


WHOSE = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def lanes(pays: bool, configs: list, run=experiment.run) -> tuple[float, list]:
    """Return the CPU-seconds of `run`, compiled or not, and its rows."""
    with mock.patch.object(compiled, "pays", return_value=pays):
        return cpu_seconds(lambda: run(configs))


def sweep(n_lanes: int, steps: int) -> list:
    """Return configs of 26 learning rates, and as many seeds as make n_lanes."""
    rates, seeds = np.geomspace(0.005, 0.03, 26), range(n_lanes // 26)
    return [
        experiment.Config(lr=float(lr), steps=steps, seed=s)
        for s in seeds
        for lr in rates
    ]


def main(n_lanes: int = 1040, steps: int = 2000, n_loop: int = 8) -> float:
    torch.set_num_threads(1)
    short, configs = sweep(n_lanes, 500), sweep(n_lanes, 500 + steps)
    probe = range(0, n_lanes, n_lanes // n_loop)
    loop(experiment.Config(steps=50))  # the first call of autograd warms up
    lanes(False, configs[:2])
    first, again = lanes(True, short)[0], lanes(True, short)[0]
    print(f"compiling takes {first - again:.1f} CPU-seconds", flush=True)
    ratios, gaps = [], []
    for _ in range(3):
        alone, errors = cpu_seconds(lambda: [loop(short[i]) for i in probe])
        per_step = alone / len(probe) / short[0].steps
        text, found = f"loop {per_step * 1e6:.0f} us a step", []
        for pays, name in ((False, "single operations"), (True, "compiled")):
            start, whole = lanes(pays, short)[0], lanes(pays, configs)[0]
            steady = (whole - start) / steps
            found.append(per_step * len(configs) / steady)
            entire = per_step * len(configs) * configs[0].steps / whole
            text += f"; {name} {steady * 1e6:.0f} us for {len(configs)} lanes: "
            text += f"{found[-1]:.0f} times (whole call {entire:.0f})"
        print(text, flush=True)
        ratios.append(found)
    for pays in (False, True):
        rows = lanes(pays, short)[1]
        pairs = zip(probe, errors, strict=True)
        gaps.append(max(abs(rows[i]["mse"] / e - 1) for i, e in pairs))
    print(f"largest relative differences of the error: {gaps[0]:.1e} of single")
    print(f"operations, {gaps[1]:.1e} of compiled steps (must be < 1e-5)")
    single, ours = np.median(ratios, 0)
    print(f"median ratios in the steady state: {single:.0f} and, compiled, {ours:.0f}")
    assert max(gaps) < 1e-5
    assert not compiled._failed
    return float(ours)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
