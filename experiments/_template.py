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
# Optional: DATA = ("data/x.csv",), the files that run reads, from the project's folder


@dataclass(frozen=True)
class Config:
    scale: float = 1.0
    """Standard deviation of the samples."""
    n: int = 10_000
    """Samples per run."""
    seed: int = 0
    """Names the random streams; arms of equal seed are paired."""


def sweep(scale: str) -> list[Config]:
    """The whole design; called with 'smoke', 'quick' or 'paper'."""
    n_seeds = {"smoke": 2, "quick": 8, "paper": 32}[scale]
    return grid(Config, scale=[0.5, 1.0, 2.0], seed=range(n_seeds))


def run(configs: list[Config]) -> list[dict]:
    """One row per config, in order: scalars, 1-D lists. No globals; files in DATA."""
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
    scales = sorted(df.scale.unique())
    plot.theory(ax, scales, [theory(Config(scale=s)) for s in scales])
    ax.set(xlabel="scale", ylabel="standard deviation")
    ax.legend()


def _error(df):
    """Relative error per seed: arms of one seed share data, so they count once."""
    expected = [theory(Config(scale=s)) for s in df.scale]
    return stats.mean((df.spread / expected - 1).groupby(df.seed).mean())


CLAIMS = [
    Claim(
        "spread_is_scale",
        "The standard deviation equals the scale.",
        "definition",
        _error,
        reason="a run of n=10,000 samples errs by 1/sqrt(2n) = 0.7 %, the mean of 8 by "
        "0.25 %: its 95 % interval fits into 1 %",
        above=-0.01,
        below=0.01,
    )
]
