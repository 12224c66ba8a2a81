"""One sentence: what should come out.

Reference: authors, title, year, equation or figure. Say what is the paper's and what is
ours. Expected outcome, with numbers. Cost: smoke 1 s, quick 10 s on one core.

Copy this file to experiments/<name>.py; nothing else has to be registered. Import torch
and other heavy packages inside functions: planning and drawing then need not load them.
"""

from dataclasses import dataclass

import numpy as np

from symlab.harness import Claim, figure, grid, lanes, plot, rng, stats

LANES = 256  # most configs per call of run
STATIC = ("n",)  # fields that must agree within a call: shapes, step counts


@dataclass(frozen=True)
class Config:
    scale: float = 1.0
    """Standard deviation of the samples."""
    n: int = 1000
    """Samples per run."""
    seed: int = 0
    """Names the random streams; arms of equal seed are paired."""


def sweep(scale: str) -> list[Config]:
    """The whole design; called with 'smoke', 'quick' or 'paper'."""
    n_seeds = {"smoke": 2, "quick": 8, "paper": 32}[scale]
    return grid(Config, scale=[0.5, 1.0, 2.0], seed=range(n_seeds))


def run(configs: list[Config]) -> list[dict]:
    """One row per config, in order: scalars and 1-D lists. No files, no globals."""
    seeds, which = lanes.shared(configs)
    x = np.stack([rng.stream(s, "data").normal(size=configs[0].n) for s in seeds])
    samples = x[which] * lanes.column(configs, "scale")  # (L, n)
    return [{"spread": float(row.std())} for row in samples]


def theory(config: Config) -> float:
    """The closed form, drawn dashed and tested by a claim."""
    return config.scale


@figure("template")
def draw(df, ax):
    plot.curve(ax, df, "scale", "spread", label="measured", color=plot.BLUE)
    plot.theory(ax, [0.5, 2], [0.5, 2])
    ax.set(xlabel="scale", ylabel="standard deviation")
    ax.legend()


CLAIMS = [
    Claim(
        "spread_is_scale",
        "The standard deviation equals the scale.",
        "definition",
        lambda df: stats.mean(df.spread / df.scale - 1),
        reason="2 % is the standard error at n=1000, so the mean of all runs is inside",
        above=-0.02,
        below=0.02,
    )
]
