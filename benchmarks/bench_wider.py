"""Configurations per CPU-second: lanes against one loop per configuration.

    python benchmarks/bench_wider.py

matrix_sensing  F G^T with k = 4, all entries observed, 6000 steps. One loop is NumPy on
                all 30 rows, with the products of the formula and the law of the
                imbalance, as the lanes have it; the other is torch with autograd. The
                spectra of the Gauss-Newton matrices are in the lanes' time only.
noether         SGD on the normalised 16-16-10 network, batch 16, float32; the loop is
                torch with autograd and torch.nn.functional, one run at a time.
arithmetic      AdamW on all pairs of numbers modulo 31, 256 neurons, 300 steps; the
                loop is torch with autograd, torch.optim.AdamW and the rows of U and V
                of the pairs that are trained on. One step of one run is three products
                of (256, 31) and (31, 961) matrices, which fill a core by themselves:
                the time of these products alone, also printed, bounds what any way of
                running several networks on one core can gain.

One thread, process time. Both sides of a pair give the same errors, which is checked.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from experiments import matrix_sensing, noether_dynamics, noisy_arithmetic  # noqa: E402
from symlab.harness import rng  # noqa: E402
from symlab.modular_network import BETAS, start  # noqa: E402


def sensing_loop(c: matrix_sensing.Config) -> float:
    """Return the squared error at the end of one run, in NumPy."""
    f, g = matrix_sensing.starts(c)
    m = np.zeros((c.dim, c.dim))
    m[[0, 1], [0, 1]] = matrix_sensing.SPECTRUM
    moved = np.zeros((c.rank, c.rank))
    for t in range(c.steps + 1):
        r = f @ g.T - m
        if t % matrix_sensing.EVERY == 0:
            error = float((r**2).sum())
        df, dg = r @ g, r.T @ f
        moved += c.lr**2 * (df.T @ df - dg.T @ dg)
        f, g = f - c.lr * df, g - c.lr * dg
    return error


def sensing_autograd(c: matrix_sensing.Config) -> float:
    """Return the squared error at the end of one run, by torch's autograd."""
    factors = [torch.tensor(x, requires_grad=True) for x in matrix_sensing.starts(c)]
    m = torch.zeros(c.dim, c.dim, dtype=torch.float64)
    m[[0, 1], [0, 1]] = torch.from_numpy(matrix_sensing.SPECTRUM)
    for t in range(c.steps + 1):
        loss = (factors[0] @ factors[1].T - m).square().sum() / 2
        if t % matrix_sensing.EVERY == 0:
            error = 2 * float(loss.detach())
        loss.backward()
        with torch.no_grad():
            for x in factors:
                x -= c.lr * x.grad
                x.grad = None
    return error


def noether_loop(c: noether_dynamics.Config) -> float:
    """Return the training loss at the end of one run."""
    functional = torch.nn.functional
    x, y = noether_dynamics.digits()
    x, y = torch.from_numpy(x).float(), torch.from_numpy(y.argmax(1))
    w = rng.stream(c.seed, "init").normal(size=(26, 16))
    w = torch.from_numpy(w / np.linalg.norm(w, axis=1, keepdims=True)).float()
    w.requires_grad_()
    shape = c.steps, c.batch
    draws = rng.stream(c.seed, "batches").integers(len(x), size=shape)

    def loss_of(x, y):
        n = functional.normalize(w, dim=1)
        h = torch.relu(functional.linear(x, 8 * n[:16]))
        h = functional.rms_norm(h, (16,), eps=1e-24)
        return functional.cross_entropy(functional.linear(h, 2 * n[16:]), y)

    for i in torch.from_numpy(draws):
        loss_of(x[i], y[i]).backward()
        with torch.no_grad():
            w -= c.lr * w.grad
            w.grad = None
    with torch.no_grad():
        return float(loss_of(x, y))


def arithmetic_loop(c: noisy_arithmetic.Config) -> float:
    """Return the fraction of training labels that one run fits at its end."""
    labels, kept, _ = noisy_arithmetic.data(c)
    first = start(c.n, c.width, rng.stream(c.seed, "init"))
    u, v, w, mu = (torch.tensor(x, requires_grad=True) for x in first)
    a, b = (torch.from_numpy(i) for i in np.nonzero(kept))
    y = torch.from_numpy(labels[kept])
    optimizer = torch.optim.AdamW(
        [u, v, w, mu], lr=c.lr, betas=BETAS, weight_decay=c.weight_decay
    )

    def answers():
        return torch.relu(u.T[a] + v.T[b]) @ w + mu[:, 0]

    for _ in range(c.steps):
        torch.nn.functional.cross_entropy(answers(), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return float((answers().argmax(1) == y).float().mean())


def products_us(width: int, n: int) -> float:
    """Return the CPU-microseconds of one step's three matrix products."""
    w, z = torch.randn(width, n), torch.randn(width, n * n)
    g = torch.randn(n, n * n)

    def products():
        for _ in range(100):
            w.T @ z, z @ g.T, w @ g

    products()
    return min(cpu_seconds(products)[0] for _ in range(5)) * 1e4


def cpu_seconds(function) -> tuple[float, object]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def compare(name: str, loop, run, configs: list, value: str, rel: float) -> float:
    """Print and return how many times as many runs the lanes make; check the errors."""
    loop(configs[0])  # the first call warms up
    run(configs[:2])
    probe = configs[:: len(configs) // 2 - 1][:2]
    ratios = []
    for _ in range(3):
        alone, errors = cpu_seconds(lambda: [loop(c) for c in probe])
        together, rows = cpu_seconds(lambda: run(configs))
        slow, fast = alone / len(probe), together / len(configs)
        ratios.append(slow / fast)
    found = dict(zip(configs, rows, strict=True))
    gap = max(abs(found[c][value] / e - 1) for c, e in zip(probe, errors, strict=True))
    steps = configs[0].steps
    print(f"{name:17} loop {slow / steps * 1e6:6.1f} us, {len(configs)} lanes "
          f"{fast / steps * 1e6:6.2f} us per step of a run: median ratio "
          f"{np.median(ratios):.0f} (largest difference {gap:.0e})")  # fmt: skip
    assert gap < rel, "loop and lanes must give the same errors"
    return float(np.median(ratios))


def main() -> None:
    torch.set_num_threads(1)
    alphas = np.geomspace(0.05, 0.12, 16)
    sensing = [
        matrix_sensing.Config(alpha=float(a), steps=6000, seed=s)
        for s in range(16)
        for a in alphas
    ]
    for name, loop in (("NumPy", sensing_loop), ("autograd", sensing_autograd)):
        name = f"sensing, {name}"
        compare(name, loop, matrix_sensing.run, sensing, "end", 1e-6)
    rates = np.geomspace(0.01, 1.0, 16)
    noether = [
        noether_dynamics.Config("lr", lr=float(lr), steps=300, seed=s)
        for s in range(16)
        for lr in rates
    ]
    compare(
        "noether", noether_loop, noether_dynamics.run, noether, "loss", 0.02
    )  # float32 and another order of sums
    arithmetic = [noisy_arithmetic.Config(noise=0.4, seed=s) for s in range(4)]
    runs = noisy_arithmetic.run
    compare("arithmetic", arithmetic_loop, runs, arithmetic, "fit", 0.01)
    limit = products_us(arithmetic[0].width, arithmetic[0].n)
    print(f"arithmetic: the three products of a step alone take {limit:.1f} us")


if __name__ == "__main__":
    main()
