"""What it costs a rule of low-rank adapters to start from rewritten factors: estimates.

Rows have the columns `study`, `arm`, `start`, `seed` and `val_loss`. In the study "own"
each start has the rate that is best for it, and in "kept" all have the best rate of the
start "balanced". The starts MOVED are the product of "balanced", written in other ways.
"""

import pandas as pd

from symlab.harness import stats
from symlab.harness.estimates import Estimate, where

MOVED = ("out_10", "in_10", "mixed")
OWN = where(study="own")


def spread(arm: str, study: str) -> Estimate:
    """The largest minus the smallest final loss over the four starts of one product."""

    def compute(df):
        rows = [OWN.where(arm=arm, start="balanced")(df)]
        rows.append(where(study=study, arm=arm, start=MOVED)(df))
        losses = pd.concat(rows).groupby("seed").val_loss
        return stats.mean((losses.max() - losses.min())[losses.size() == 4])

    rates = {"kept": "balanced's best rate", "own": "each start's best rate"}[study]
    phrase = f"mean over seeds of the range of val_loss of {arm} over the four starts"
    return Estimate(compute, f"{phrase} of one product, at {rates}", ("arm", "start"))


def penalty(arm: str, study: str) -> Estimate:
    """The final loss from rewritten factors minus that from balanced ones, the mean of
    the three ways to rewrite them.
    """

    def beside(df):
        rows = where(study=study, start=MOVED)(df).assign(factors="rewritten")
        base = OWN.where(start="balanced")(df).assign(factors="balanced")
        return pd.concat([rows, *(base.assign(start=start) for start in MOVED)])

    rates = {"kept": "all have balanced's best rate", "own": "each has its best rate"}
    beside.__doc__ = f"start is one of {', '.join(MOVED)} and {rates[study]}"
    ends = ("rewritten", "balanced")
    return where(arm=arm).where(beside).paired("val_loss", each="start", factors=ends)


def against(arm: str, other: str, start: str) -> Estimate:
    """The mean difference in final loss, each arm at its own best rate of the start."""
    several = start == "rescaled"
    rows = OWN.where(start=MOVED if several else start)
    return rows.paired("val_loss", each="start" if several else "", arm=(arm, other))
