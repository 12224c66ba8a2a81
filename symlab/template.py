"""One sentence: what should come out.

Reference: authors, title, year, equation or figure. Say what is the paper's and what is
ours. Expected outcome, with numbers. Cost: smoke 1 s, quick 10 s on one core.

`symlab new NAME` writes a copy of this file to experiments/NAME.py. It runs as it is,
and nothing else has to be registered. Import torch and other heavy packages inside
functions: planning and drawing then need not load them. What keeps the file short:
`from symlab import harness as h` in place of many names (h.Claim, h.plot),
`Paper("Doe 2025", arxiv="2501.00001")`, `# fmt: skip` after lists of claims; the
docstrings of Config, sweep and run may go.
"""

from dataclasses import dataclass

import numpy as np

from symlab.harness import Arm, Claim, figure, grid, lanes, panels, plot, rng, where

LANES = 256  # most configs per call of run; without it one run per call, which is slow
STATIC = ("n",)  # fields that must agree within a call: shapes, step counts
# Optional: DATA = ("data/x.csv",), the files that run reads, from the project's folder;
# EXTRA = ("lm", "transformers"), an extra of pyproject.toml and what run needs from it;
# EXTERNAL = ("x.csv",), files below SYMLAB_DATA, which are not committed


@dataclass(frozen=True)
class Config:
    sigma: float = 1.0
    """Standard deviation of the samples."""
    n: int = 10_000
    """Samples per run."""
    seed: int = 0
    """Names the random streams; arms of equal seed are paired."""


def sweep(scale: str) -> list[Config]:
    """Return the configs of all runs; called with 'smoke', 'quick' or 'paper'."""
    n_seeds = {"smoke": 2, "quick": 8, "paper": 32}[scale]
    return grid(Config, sigma=[0.5, 1.0, 2.0], seed=range(n_seeds))


def run(configs: list[Config]) -> list[dict]:
    """Return one row per config, in order: a dict of scalars and 1-D lists. Keep no
    state in globals; list the files that are read in DATA.

    Columns:
        spread: standard deviation of the samples of a run; `symlab.columns` reads this.
    """
    seeds, which = lanes.shared(configs)
    x = np.stack([rng.stream(s, "data").normal(size=configs[0].n) for s in seeds])
    sigma = lanes.column(configs, "sigma", dtype=float)  # (L, 1); float32 without dtype
    samples = x[which] * sigma  # (L, n)
    return [{"spread": float(row.std())} for row in samples]


MEASURED = Arm("measured", plot.BLUE, line="none")  # markers; without `line` a curve


@figure("template")
def draw(df, ax):
    """Standard deviation of the samples against sigma; dashed, the line on which both
    are equal.
    """
    panels.curve(ax, df, "sigma", "spread", MEASURED)
    sigma = sorted(df.sigma.unique())
    plot.theory(ax, sigma, sigma)
    ax.set(xlabel="sigma", ylabel="standard deviation")
    panels.legend(ax)


CLAIMS = [
    Claim("spread_is_sigma",
        "Samples of sigma times a normal number have standard deviation sigma, to 1 %.",
        origin="oracle", place="definition", kind="equivalence",
        estimate=where().mean("spread / sigma - 1"), above=-0.01, below=0.01,
        reason="A run of 10,000 samples errs by 1/sqrt(2n) = 0.7 %, and the mean of 8 "
        "by 0.25 %: its 95 % interval fits into 1 %."),
    Claim("no_run_errs_much",
        "No run's standard deviation differs from its sigma by more than 4 %.",
        origin="oracle", place="definition", kind="identity",
        estimate=where().worst("abs(spread / sigma - 1)"), below=0.04,
        reason="4 % are more than five standard errors of a run."),
]  # fmt: skip
