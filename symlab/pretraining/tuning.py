"""Which rates a recorded grid chooses: the same grid and seeds for every arm.

Frames have one row per run, with columns of the arm, of its rates and of the result.
"""

from collections.abc import Sequence

import pandas as pd


def scores(
    df: pd.DataFrame, arm: Sequence[str], rates: Sequence[str], value: str = "val_loss"
) -> pd.Series:
    """Mean of `value` over seeds at each point of each arm's grid.

    A run without a finite value makes its point infinitely bad. Raises ValueError where
    points of the grid have different seeds: they would not compare.
    """
    points = df.groupby([*arm, *rates])
    seeds = points.seed.agg(lambda s: tuple(sorted(s)))
    if seeds.nunique() > 1:
        raise ValueError(
            "the points of a grid have different seeds: run the whole grid on the same"
        )
    finite = df[value].astype(float).fillna(float("inf"))
    return finite.groupby([df[c] for c in (*arm, *rates)]).mean()


def chosen(
    df: pd.DataFrame, arm: Sequence[str], rates: Sequence[str], value: str = "val_loss"
) -> pd.DataFrame:
    """One row per arm, in the index: the rates with the least score, and the score."""
    found = scores(df, arm, rates, value).rename("score").reset_index()
    best = found.loc[found.groupby(list(arm)).score.idxmin()]
    return best.set_index(list(arm))[[*rates, "score"]]


def at_edge(
    df: pd.DataFrame, arm: Sequence[str], rates: Sequence[str], value: str = "val_loss"
) -> pd.DataFrame:
    """True where an arm's chosen rate is the least or largest of its grid."""
    best = chosen(df, arm, rates, value)
    grid = df.groupby(list(arm))[list(rates)]
    low, high = grid.min(), grid.max()
    return (best[list(rates)] == low) | (best[list(rates)] == high)
