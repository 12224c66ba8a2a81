"""Estimates from the rows on the benchmark, for the claims of optimizer_leaderboard.

Only gains compare arms, that is, submissions. So only they have a placebo, and only if
the logs of both submissions are complete: the difference in steps is converted to loss,
and then the runs of both submissions are shuffled.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from symlab.harness import stats, where
from symlab.harness.estimates import Estimate, Rows, weakest
from symlab.harness.stats import Interval
from symlab.leaderboard import intervals, judging
from symlab.leaderboard.entries import ENTRIES, SUCCESSIONS

Pair = tuple[int, int]  # a submission, and the one over which it gains
ENTRY, PAIR = where(study="entry"), where(study="pair")
LOGGED = ENTRY.where(
    f"entry not in {tuple(k for k, e in ENTRIES.items() if e.differs)}"
)
SLOPING = ENTRY.where(
    f"entry not in {tuple(k for k, e in ENTRIES.items() if e.readout)}",
    "slope == slope",  # is a number
)


SUBMISSIONS, RECORDS = "submissions", "records"  # what an interval's n counts


def counting(what: str, interval: Interval) -> Interval:
    """Return an interval marked as one whose n counts other things than seeds.

    what: what n counts, such as "submissions".
    """
    return replace(interval, of=what)


def samples(df: pd.DataFrame) -> list[np.ndarray]:
    """Return an array of final losses of runs for each submission.

    df: the rows of the experiment. Only submissions with complete logs and several runs
        are included.
    """
    return [np.asarray(losses) for losses in LOGGED.where("n > 1")(df).losses]


def of_samples(compute: Callable[[list], Interval], phrase: str) -> Estimate:
    """Return an estimate whose interval is `compute(samples(df))`.

    compute: a function from a list of arrays, one per submission, to an interval.
    phrase: how the estimate prints.
    """
    return Estimate(lambda df: counting(SUBMISSIONS, compute(samples(df))), phrase)


def slope() -> Estimate:
    """Return the estimate of the mean slope of the loss at the end of runs, over
    submissions.
    """
    phrase = "mean over submissions of the slope of the loss at the end of their curves"
    return Estimate(
        lambda df: counting(SUBMISSIONS, stats.mean(SLOPING(df).slope)), phrase
    )


def shorter_plan() -> Estimate:
    """Return the estimate of what reducing the planned number of steps by 100 costs, in
    nats.
    """
    rows = where(study="shorter")

    def compute(df):
        (row,) = rows(df).itertuples()
        freedom = sum(len(x) - 1 for x in samples(df))
        interval = intervals.around(row.cost, row.uncertainty, freedom, int(row.runs))
        return counting("runs of both plans", interval)

    phrase = "loss of 100 steps by which the plan of submission 12 is shortened"
    return Estimate(compute, phrase)


# --- pairs


RATES = {"": "at the slope of the curves", "_planned": "at the cost of a shorter plan"}


def gain(new: int, old: int, rate: str = "") -> Estimate:
    """Return the estimate of the gain of one submission over another, in nats at equal
    steps.

    new, old: the numbers of the submissions.
    rate: the price in nats of the steps by which they differ: '' for the slope of the
        loss curves, '_planned' for the cost of planning a shorter run.
    """
    rows = PAIR.where(entry=new, other=old)

    def around(df, value: float) -> Interval:
        row = rows(df).iloc[0]
        freedom = sum(len(x) - 1 for x in samples(df))
        error = float(row[f"uncertainty{rate}"])
        interval = intervals.around(value, error, freedom, int(row.runs))
        return counting("runs of both submissions", interval)

    def compute(df):
        return around(df, float(rows(df).iloc[0][f"gain{rate}"]))

    def placebo(df):
        losses = [
            np.asarray(LOGGED.where(entry=k)(df).losses.iloc[0]) for k in (new, old)
        ]
        exchanged = compute(df).value - (losses[1].mean() - losses[0].mean())
        both, n = np.concatenate([losses[0] - exchanged, losses[1]]), len(losses[0])

        def shuffled(draw: int) -> Interval:
            mixed = np.random.default_rng([draw, n]).permutation(both)
            return around(df, float(mixed[n:].mean() - mixed[:n].mean()))

        return shuffled

    phrase = f"mean loss of submission {old} minus that of {new}, steps exchanged "
    logged = not (ENTRIES[new].differs or ENTRIES[old].differs)
    return Estimate(
        compute, phrase + RATES[rate], rows.fields, placebo if logged else None
    )


def least_gain(pairs: Iterable[Pair]) -> Estimate:
    """Return the estimate of the smallest gain of several pairs of submissions.

    pairs: (new, old), numbers of submissions, as for `gain`.
    """
    pairs = list(pairs)
    which = ", ".join(f"{new} over {old}" for new, old in pairs)
    phrase = f"smallest gain at equal steps of submissions {which}"
    return replace(weakest(*(gain(*pair) for pair in pairs)), phrase=phrase)


def judged(df: pd.DataFrame, rate: str = "") -> pd.DataFrame:
    """Return the gain of each record over the previous record, one row per record in
    order.

    df: the rows of the experiment. rate: as for `gain`.

    The added columns are `holm`, the P value after Holm's correction for the number of
    records; `decided`, whether the gain is above 0 at a level of 5 % by that P value;
    and `needed`, how many runs of each submission would decide.
    """
    rows = PAIR(df).set_index(["entry", "other"]).loc[list(SUCCESSIONS)].reset_index()
    holm = stats.holm(rows[f"p{rate}"])
    decided = (holm < 1 - stats.LEVEL) & (rows[f"gain{rate}"] > 0)
    return rows.assign(holm=holm, decided=decided, needed=rows[f"needed{rate}"])


def share_decided(rate: str) -> Estimate:
    """Return the estimate of the fraction of records that are significantly better than
    the record before them.

    rate: as for `gain`.
    """

    def compute(df):
        decided = judged(df, rate).decided
        return counting(RECORDS, intervals.count(float(decided.mean()), len(decided)))

    phrase = (
        "share of records whose gain is decided after Holm's correction, with steps"
    )
    return Estimate(compute, f"{phrase} exchanged {RATES[rate]}")


def median_needed(rate: str) -> Estimate:
    """Return the estimate of the median number of runs that undecided records would
    need.

    It is the number of runs of each of two submissions that would decide whether the
    record is better than the previous one. rate: as for `gain`.
    """

    def compute(df):
        needed = judged(df, rate).query("~decided").needed
        return counting(RECORDS, intervals.count(float(needed.median()), len(needed)))

    phrase = "median over undecided records of the runs of each that would decide, with"
    return Estimate(compute, f"{phrase} steps exchanged {RATES[rate]}")


def repeated(df: pd.DataFrame) -> pd.Series:
    """share of the records decided in one half of the runs with a gain above 0 in the
    other half
    """

    def share(row) -> float:
        first, second = np.array(row.gain_first), np.array(row.gain_second)
        decided = (stats.holm(row.p_first) < 1 - stats.LEVEL) & (first > 0)
        return float((second[decided] > 0).mean()) if decided.any() else math.nan

    return df.apply(share, axis=1)


def covered() -> Estimate:
    """Return the estimate of how often 95 % intervals contain the true difference, 0.

    The difference is that between two halves of one submission's runs. Each submission
    counts once, with its mean over random divisions.
    """

    def compute(df):
        shares = np.mean(where(study="coverage")(df).shares.to_list(), axis=0)
        return counting(SUBMISSIONS, stats.mean(pd.Series(shares)))

    return Estimate(compute, "mean over submissions of how often intervals hold 0")


# --- steps


def steps_ratio(slow: int, fast: int) -> Estimate:
    """Return the estimate of the ratio of two submissions' numbers of steps to 3.28
    nats.

    slow, fast: their numbers; the steps of `slow` are divided by those of `fast`.

    The standard error has two parts: the errors of both mean losses, and the spread
    over submissions of the slope that converts the distance to 3.28 nats into steps.
    """

    def error(df, row) -> float:
        n = row.published_n if ENTRIES[row.entry].differs else row.n
        slopes = SLOPING(df).slope
        runs = 100 * judging.pooled(samples(df))[0] / n**0.5 / slopes.mean()
        exchanged = (row.reach - row.steps) * slopes.std() / slopes.mean()
        return math.hypot(runs, exchanged) / row.reach

    def compute(df):
        rows = [next(ENTRY.where(entry=k)(df).itertuples()) for k in (slow, fast)]
        value = math.log(rows[0].reach / rows[1].reach)
        errors = math.hypot(*(error(df, row) for row in rows))
        ratio = intervals.around(value, errors, math.inf, 2).map(math.exp)
        return counting(SUBMISSIONS, ratio)

    phrase = f"steps to 3.28 nats of submission {slow} over those of submission {fast}"
    return Estimate(compute, phrase)


def early(step: int, rows: Rows = ENTRY) -> Estimate:
    """Return the estimate of the rank correlation of an early loss with steps to 3.28
    nats.

    step: the early step at which the mean loss is taken. The correlation is over
        submissions.
    rows: a selection of submissions, by default all.
    """
    rows = rows.where(f"early_{step} == early_{step}")  # is a number

    def compute(df):
        found = rows(df)
        ranks = intervals.rank_correlation(found[f"early_{step}"], found.reach)
        return counting(SUBMISSIONS, ranks)

    phrase = f"rank correlation over submissions of the mean loss at step {step} with "
    return Estimate(compute, phrase + "the steps to 3.28 nats")
