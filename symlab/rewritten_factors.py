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
    """Estimate the range (largest minus smallest) of an optimizer's final validation
    loss over four starts: balanced factors of one product B A, and three other ways to
    write it.

    arm: the optimizer.
    study: 'own', each start at its best learning rate; 'kept', all at that of
        'balanced'.
    """

    def compute(df):
        rows = [OWN.where(arm=arm, start="balanced")(df)]
        rows.append(where(study=study, arm=arm, start=MOVED)(df))
        losses = pd.concat(rows).groupby("seed").val_loss
        return stats.mean((losses.max() - losses.min())[losses.size() == 4])

    rates = {"kept": "balanced's best rate", "own": "each start's best rate"}[study]
    phrase = f"mean over seeds of the range of val_loss of {arm} over the four starts"
    return Estimate(compute, f"{phrase} of one product, at {rates}", ("arm", "start"))


def penalty(arm: str, study: str) -> Estimate:
    """Estimate an optimizer's final validation loss from rewritten factors minus that
    from balanced factors of the same product, averaged over the three ways to rewrite
    them.

    arm: the optimizer.
    study: 'own', each start at its best learning rate; 'kept', all at that of
        'balanced'.
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
    """Estimate the final validation loss of `arm` minus that of `other` from one start,
    each at its best learning rate from there.

    arm, other: two optimizers.
    start: the factors at the start; 'rescaled' averages over the rewritten starts.
    """
    several = start == "rescaled"
    rows = OWN.where(start=MOVED if several else start)
    return rows.paired("val_loss", each="start" if several else "", arm=(arm, other))
