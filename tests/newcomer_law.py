"""SGD with momentum on a noisy quadratic has a closed-form variance. Cost: 5 s."""

from dataclasses import dataclass

import numpy as np

from symlab import harness as h

LANES = 256
DOE = h.Paper("Doe 2025", arxiv="2501.00001")


@dataclass(frozen=True)
class Config:
    lr: float = 0.1
    momentum: float = 0.0
    noise: float = 1.0
    seed: int = 0


def sweep(scale):
    rates = [0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.3, 1.5, 1.7, 1.8]
    seeds = range({"smoke": 2, "quick": 8, "paper": 32}[scale])
    return h.grid(Config, lr=rates, momentum=[0.0, 0.9], noise=[0.0, 1.0], seed=seeds)


def run(configs):
    fields = ("lr", "momentum", "noise")
    lr, beta, noise = (h.lanes.column(configs, f, dtype=float) for f in fields)
    seeds, which = h.lanes.shared(configs)
    z = np.stack([h.rng.stream(s, "noise").normal(size=(4000, 64)) for s in seeds])
    x, v, work, speed, square = 1.0, 0.0, 0.0, 0.0, 0.0
    for t in range(4000):
        g = x + noise * z[which, t]
        v = beta * v + g
        work, speed = work + x * g, speed + lr * (1 + beta) / 2 * v * v
        x = x - lr * v
        square = square + (t >= 2000) * x * x / 2000
    gap = speed + (1 - beta) * (1 - x * x) / (2 * lr) + beta * v * x - work
    theory = noise**2 * lr * (1 + beta) / (1 - beta) / (2 * (1 + beta) - lr)
    rows = zip(square.mean(1), theory[:, 0], np.abs(gap / work).max(1), strict=True)
    return [{"variance": a, "theory": b, "gap": c} for a, b, c in rows]


@h.figure("newcomer_law")
def draw(df, ax):
    """Variance of the iterate against learning rate; dashed, the closed form."""
    for beta, color in {0.0: h.plot.BLUE, 0.9: h.plot.ORANGE}.items():
        rows = h.where(noise=1.0, momentum=beta)(df).sort_values("lr")
        arm = h.Arm(f"momentum {beta:g}", color, line="none")
        h.panels.curve(ax, rows, "lr", "variance", arm)
        h.plot.theory(ax, rows.lr, rows.theory)
    ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="variance of x")
    h.panels.legend(ax)


CLAIMS = [
    h.Claim("balance_is_exact", "Work and speed balance in every run, with end terms.",
        place="derivation", kind="identity", estimate=h.where().worst("gap"),
        below=1e-9, reason="Float64 sums of 4000 terms round to 1e-12."),
    h.Claim("variance_is_closed_form", "The variance is the closed form, to 5 %.",
        paper=DOE, origin="oracle", place="derivation", kind="equivalence", above=-0.05,
        estimate=h.where(noise=1.0).mean("variance / theory - 1"), below=0.05,
        reason="5 % is less than one sees in the figure."),
    h.Claim("no_noise_no_variance", "Without noise the variance is below 1e-20.",
        origin="control", place="derivation", kind="identity", below=1e-20,
        estimate=h.where(noise=0.0).worst("variance"), reason="It decays to 1e-45."),
]  # fmt: skip
