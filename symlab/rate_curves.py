"""The best learning rate at each width, from losses on a grid of rates, and its drift.

Frames have one row per run, with columns arm (the method), width, lr, seed and loss;
the rates of an arm at a width are equally spaced in their logarithm and the same for
all seeds. Best rates are counted in octaves (log2): a drift of one is a factor of two.

The best rate of a seed is the vertex of the parabola through the least loss of its grid
and the two neighbours. If the least loss is at an end of the grid, the best rate is
only known to lie there or beyond, and the functions that need it raise ValueError.
"""

from functools import partial

import numpy as np
import pandas as pd

from symlab.harness import race, stats
from symlab.harness.claims import LackingRows
from symlab.harness.estimates import Estimate, estimate


def vertex(x, y) -> tuple[float, float]:
    """Return the position and height of the vertex of a parabola near the least y.

    The parabola goes through the least y and its two neighbours.

    x, y: (N,), x equally spaced and rising. Raises LackingRows, a ValueError, if the
        least y is the first or the last one.
    """
    i = int(np.argmin(y))
    if i in (0, len(y) - 1):
        raise LackingRows(
            f"the least loss is at an end of the grid, log2 of the rate = {x[i]:g}: "
            "the best rate lies there or beyond it, so run rates further out"
        )
    left, least, right = y[i - 1 : i + 2]
    bend = left - 2 * least + right
    place = x[i] + (x[i + 1] - x[i]) * (left - right) / (2 * bend)
    return place, least - (left - right) ** 2 / (8 * bend)


def losses(df: pd.DataFrame, arm: str, width: int) -> pd.DataFrame:
    """Return the losses of an arm at a width: one row per seed, one column per log2 of
    rate.
    """
    rows = df[(df.arm == arm) & (df.width == width)]
    rows = rows.assign(octave=np.log2(rows.lr))
    return rows.pivot(index="seed", columns="octave", values="loss")


def best(df: pd.DataFrame, arm: str, width: int) -> pd.DataFrame:
    """Return for each seed of an arm at a width the best rate and the loss there.

    The columns are 'octave', log2 of the rate, and 'loss'. Raises LackingRows, a
    ValueError, if a least loss is at an end of the grid.
    """
    wide = losses(df, arm, width)
    found = [vertex(wide.columns, row) for row in wide.to_numpy()]
    return pd.DataFrame(found, index=wide.index, columns=["octave", "loss"])


# --- estimates: one number for each seed, then the mean over seeds


def drift(arm: str, other: str = "") -> Estimate:
    """Return an estimate of how far the best rate moves from the least to the largest
    width.

    arm: the arm (method) whose best rate is followed.
    other: another arm, whose drift is subtracted; '' for none.

    It is the mean over seeds of the change of log2 of the rate, in octaves; it is
    positive if the best rate rises.
    """
    words = f"log2 of {arm}'s best rate at the largest over that at the least width"
    if not other:
        return _signed(partial(_drifts, arm=arm), words, "width")
    return _signed(
        lambda df: _drifts(df, arm) - _drifts(df, other),
        f"{words}, minus the same of {other}",
        "arm",
    )


def cost_of_keeping(arm: str) -> Estimate:
    """Return an estimate of the cost of keeping the least width's rate at the largest
    width.

    It is the mean over seeds of the loss of an arm at the largest width with the rate
    that is best at the least width, minus that with the rate that is best at the
    largest width. Both rates are points of the grid, chosen for each seed by the mean
    loss of the other seeds, so that no seed is measured at a rate that it has chosen.
    """
    words = (
        f"loss of {arm} at the largest width with the rate that is best at the least "
        "width, minus that with the best rate there (rates chosen on the other seeds)"
    )
    return _signed(partial(_costs, arm=arm), words, "lr")


def gain(arm: str, other: str) -> Estimate:
    """Return an estimate of the loss of `other` minus that of `arm` at the largest
    width.

    Each arm is taken at its best rate, within each seed; the estimate is the mean over
    seeds.
    """
    words = f"loss of {other} minus that of {arm}, each at its best rate"
    return _signed(
        partial(_gains, arm=arm, other=other), f"{words}, at the largest width", "arm"
    )


def share_of_gain(share: float, arm: str, of: str, other: str) -> Estimate:
    """Return an estimate of the gain of one arm minus a share of another arm's gain.

    share: the fraction of the other arm's gain that is subtracted.
    arm, of: the arm, and the other arm.
    other: the arm over which both gain.

    Gains are those of the function `gain`. A positive value says that `arm` has more
    than this share of the gain of `of`.
    """
    return _signed(
        lambda df: _gains(df, arm, other) - share * _gains(df, of, other),
        f"gain of {arm} over {other} minus {share:g} times that of {of}, each at its "
        "best rate, at the largest width",
        "arm",
    )


@estimate
def at_edge(df):
    """1 if a seed's least loss is at an end of a grid of rates, else 0

    The function returns the largest of these numbers over the seeds of df, an interval
    as `stats.worst` gives it. Claims print the line above.
    """
    found = [
        race.at_edge(rows, ("arm", "width"), ("lr",), "loss").lr.max()
        for _, rows in df.groupby("seed")
    ]
    return stats.worst(np.array(found, float))


def _drifts(df, arm: str) -> pd.Series:
    narrow, wide = _ends(df)
    return best(df, arm, wide).octave - best(df, arm, narrow).octave


def _costs(df, arm: str) -> pd.Series:
    narrow, wide = (losses(df, arm, width) for width in _ends(df))

    def cost(row):
        kept, own = (x.drop(index=row.name).mean().idxmin() for x in (narrow, wide))
        if kept not in row:
            raise LackingRows(
                f"the grid of {arm} at the largest width lacks 2^{kept:g}, the best "
                "rate at the least width: run it there, too"
            )
        return row[kept] - row[own]

    return wide.apply(cost, axis=1)


def _gains(df, arm: str, other: str) -> pd.Series:
    _, wide = _ends(df)
    return best(df, other, wide).loss - best(df, arm, wide).loss


def _ends(df) -> tuple[int, int]:
    return df.width.min(), df.width.max()


def _signed(each, phrase: str, field: str) -> Estimate:
    """The mean over seeds of a difference between two values of a field.

    each(df): one difference for each seed. To exchange the two values at a seed is to
    change the sign of its difference, which the placebo does at random.
    """

    def placebo(df):
        found = each(df)

        def draw(number: int):
            signs = np.random.default_rng(number).choice([-1, 1], len(found))
            return stats.mean(found * signs)

        return draw

    return Estimate(
        lambda df: stats.mean(each(df)),
        f"mean over seeds of {phrase}",
        (field,),
        placebo,
    )
