"""Races: comparisons of arms (methods) at learning rates tuned on the same grid and
seeds.

The tuning runs are recorded as rows like any other. `Race` says which rates they
choose, whether the rates in use are the chosen ones, and what a rate that is off by a
factor costs. Frames have one row per run, with columns of the arm, of its rates and of
the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from symlab.harness import stats
from symlab.harness.claims import Claim
from symlab.harness.estimates import Estimate, Rows


@dataclass(frozen=True)
class Race:
    """A comparison of arms (methods) at learning rates tuned for each on the same grid.

    arm, rates: the columns that name an arm and its learning rates.
    tune: the rows of the tuning runs.
    raced: the rows of the runs that are compared, of fresh seeds at the chosen rates.
    value: the column that is tuned; less is better.
    """

    name: str  # as in "In pretraining a small decoder, the learning rates ..."
    arm: tuple[str, ...]
    rates: tuple[str, ...]
    tune: Rows
    raced: Rows
    value: str = "val_loss"

    def scores(self, df: pd.DataFrame) -> pd.Series:
        """Return the mean of the tuned value over tuning seeds, indexed by arm and
        rates.
        """
        return scores(self.tune(df), self.arm, self.rates, self.value)

    def chosen(self, df: pd.DataFrame) -> pd.DataFrame:
        """Return for each arm the rates with the smallest mean value over tuning seeds.

        That mean is a column, too.
        """
        return chosen(self.tune(df), self.arm, self.rates, self.value)

    def used(self, df: pd.DataFrame) -> pd.DataFrame:
        """Return for each arm the rates at which its compared runs were made."""
        return self.raced(df).groupby(list(self.arm))[list(self.rates)].first()

    def excess(self, df: pd.DataFrame) -> pd.Series:
        """Return for each arm how much worse its rates in use did than the best of its
        grid.

        It is the difference of the mean tuned values over tuning seeds.
        """
        found, used = self.scores(df), self.used(df)
        table = found.unstack(list(self.rates))
        at = {}
        for arm in table.index:
            rates = tuple(used.loc[arm, list(self.rates)])
            at[arm] = found[(*_tuple(arm), *rates)] - table.loc[arm].min()
        return pd.Series(at)

    def protocol(
        self, tolerance: float, reason: str, unit: str, prefix: str = "", **fields
    ) -> list[Claim]:
        """Return three claims that the learning rates of a comparison were tuned
        properly.

        They say that no chosen rate is at an end of its grid, that the rates in use are
        the chosen ones, and that no seed is used both for tuning and for the
        comparison.

        tolerance: by how much the rates in use may do worse than the best of the grid
            on the tuning seeds.
        unit, reason: the unit of the tolerance, and why it is chosen.
        prefix: of the claims' names.
        fields: further fields of all three claims.
        """

        def edges(df):
            found = at_edge(self.tune(df), self.arm, self.rates, self.value)
            return stats.worst(found.to_numpy(float).ravel())

        def shared(df):
            return stats.worst([len({*self.tune(df).seed} & {*self.raced(df).seed})])

        inside = Estimate(
            edges, "1 if any method's best rate is an end of its grid, else 0"
        )
        excess = Estimate(
            lambda df: stats.worst(self.excess(df)),
            f"largest excess, among methods, of mean {self.value} on the tuning seeds "
            "over the best of the grid",
        )
        about = {"origin": "protocol", "kind": "precondition"} | fields
        return [
            Claim(
                f"{prefix}grids_hold_the_best",
                f"In {self.name}, the learning rates that do best on the tuning seeds "
                "lie inside their grids, not at an end, for every method and setting "
                "compared.",
                estimate=inside,
                below=0.5,
                reason="Where the first or last rate of a grid is the best, a better "
                "one may lie outside of it.",
                **about,
            ),
            Claim(
                f"{prefix}rates_are_the_best",
                f"In {self.name}, every method is compared at learning rates whose "
                f"mean loss on the tuning seeds is less than {tolerance:.2g} {unit} "
                "above the least mean loss of its tuning grid.",
                estimate=excess,
                below=tolerance,
                reason=reason,
                unit=unit,
                **about,
            ),
            Claim(
                f"{prefix}seeds_are_fresh",
                f"In {self.name}, no random seed on which learning rates were tuned is "
                "among the seeds on which methods are compared.",
                estimate=Estimate(shared, "number of seeds both tuned on and compared"),
                below=0.5,
                reason="A rate chosen on a seed looks better there than it is.",
                unit="seeds",
                **about,
            ),
        ]


def rises(
    df: pd.DataFrame,
    moved: Rows,
    raced: Rows,
    rate: str = "lr",
    value: str = "val_loss",
) -> pd.DataFrame:
    """Return the cost of a wrong learning rate for one arm.

    It is the value at multiples of the chosen rate minus the value at the chosen rate
    itself, with a row for each seed and a column for each multiple.

    df: the rows. moved, raced: selections of the arm's runs at other rates, and at the
        chosen one.
    rate, value: the columns of the learning rate and of the result.
    """
    at = raced(df).set_index("seed")
    rows = moved(df)
    rows = rows.assign(factor=(rows[rate] / at[rate].iloc[0]).round(6))
    wide = rows.pivot(index="seed", columns="factor", values=value)
    return wide.sub(at[value].reindex(wide.index), axis=0)


def _tuple(value) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def scores(
    df: pd.DataFrame, arm: Sequence[str], rates: Sequence[str], value: str = "val_loss"
) -> pd.Series:
    """Return the mean of `value` over seeds at each point of each arm's grid of rates.

    arm, rates: the columns that name an arm and its learning rates.

    A run without a finite value makes the mean of its point infinite. Raises ValueError
    if points of the grid have different seeds, as they could not be compared.
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
    """Return for each arm the rates with the smallest mean of `value` over seeds.

    arm, rates: the columns that name an arm and its learning rates.

    The frame is indexed by arm, and has that mean as a column, too.
    """
    found = scores(df, arm, rates, value).rename("score").reset_index()
    best = found.loc[found.groupby(list(arm)).score.idxmin()]
    return best.set_index(list(arm))[[*rates, "score"]]


def at_edge(
    df: pd.DataFrame, arm: Sequence[str], rates: Sequence[str], value: str = "val_loss"
) -> pd.DataFrame:
    """Return for each arm whether each of its best rates is at an end of the grid.

    arm, rates: the columns that name an arm and its learning rates.
    value: the column whose mean over seeds is smallest at the best rates.
    """
    best = chosen(df, arm, rates, value)
    grid = df.groupby(list(arm))[list(rates)]
    low, high = grid.min(), grid.max()
    return (best[list(rates)] == low) | (best[list(rates)] == high)
