"""Estimates that say what they measure: some rows, a quantity, and a statistic of it.

    NOISE = where(study="noise", model="factored")
    NOISE.paired("rank", noise=(0.0, 4.0))

is a function of the frame of an experiment that returns an `Interval`, and prints as
"mean over seeds of rank (noise = 0 minus noise = 4, paired), where study = noise and
model = factored". A quantity is a column, an expression of columns ("dim - rank"), or a
function df -> Series whose docstring says what it returns.

Runs of one seed share their data and are not independent. `mean`, `paired` and their
relatives therefore reduce each seed to one number first, and n counts seeds; `worst`,
`least` and `fraction` look at every run.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from operator import sub, truediv

import numpy as np
import pandas as pd

from symlab.harness import stats
from symlab.harness.claims import Claim
from symlab.harness.errors import nearest
from symlab.harness.stats import Interval

Quantity = str | Callable[[pd.DataFrame], pd.Series]


@dataclass(frozen=True)
class Estimate:
    """A function df -> Interval that prints as a phrase."""

    compute: Callable[[pd.DataFrame], Interval]
    phrase: str

    def __call__(self, df: pd.DataFrame) -> Interval:
        return self.compute(df)

    def __str__(self) -> str:
        return self.phrase

    def map(self, function: Callable[[float], float], phrase: str) -> "Estimate":
        """The estimate on another scale; `function` is monotone, `phrase` holds {}.

        >>> where().log_ratio("loss", arm=("a", "b")).map(math.exp, "exp of {}")
        """

        def compute(df):
            i = self(df)
            ends = sorted((function(i.low), function(i.high)))
            return replace(i, value=function(i.value), low=ends[0], high=ends[1])

        return Estimate(compute, phrase.format(self.phrase))


def estimate(function: Callable[[pd.DataFrame], Interval]) -> Estimate:
    """Decorator: a function df -> Interval as an `Estimate`.

    Its phrase is the first paragraph of the docstring, without the full stop. Raises
    ValueError where there is none.
    """
    return Estimate(function, _described(function))


@dataclass(frozen=True)
class Rows:
    """A selection of rows; `where` makes one. Call it with a frame to have them."""

    steps: tuple[tuple[str, Callable[[pd.DataFrame], pd.DataFrame]], ...] = ()
    one: str = "run"  # what tells rows apart, in words

    def __call__(self, df: pd.DataFrame) -> pd.DataFrame:
        """The rows selected; raises ValueError where there is none, naming the step."""
        for name, select in self.steps:
            df = select(df)
            if df.empty:
                raise ValueError(f"no row is left where {name}")
        return df

    def __str__(self) -> str:
        return " and ".join(name for name, _ in self.steps if name)

    def where(self, *selections, **fields) -> "Rows":
        """The same rows, narrowed down further; arguments as of `where`."""
        more = *map(_selection, selections), *map(_equal, fields.items())
        return replace(self, steps=(*self.steps, *more))

    def cells(self, over: Mapping[str, Iterable], **columns: str) -> "Rows":
        """One row for each entry of list columns, as of an audit of many cells.

        over: {axis: values}; the product of the axes, the last one fastest, names the
        entries of a list. columns: name=column, what one entry of a list column is
        called. All other columns are repeated. Raises ValueError where a list is longer
        or shorter than the product.

        >>> where(study="rule").cells({"block": BLOCKS, "side": SIDES}, error="errors")
        """
        names = pd.DataFrame(list(product(*over.values())), columns=list(over))

        def unrolled(df):
            for column in columns.values():
                if wrong := set(df[column].map(len)) - {len(names)}:
                    raise ValueError(
                        f"{column} has {wrong.pop()} entries, and "
                        f"{' x '.join(over)} has {len(names)}"
                    )
            table = df.drop(columns=[*columns.values()])
            table = table.iloc[np.repeat(np.arange(len(df)), len(names))]
            axes = {axis: np.tile(names[axis], len(df)) for axis in over}
            entries = {n: np.concatenate([*df[c]]) for n, c in columns.items()}
            return table.reset_index(drop=True).assign(**axes, **entries)

        return Rows((*self.steps, ("", unrolled)), " and ".join(over))

    # --- one number for each seed, then the mean over seeds

    def mean(self, quantity: Quantity) -> Estimate:
        """Mean over seeds, each seed's runs averaged first."""
        return self._over_seeds(
            f"{name_of(quantity)}", lambda df: by_seed(df, quantity)
        )

    def paired(self, quantity: Quantity, each: str = "", **arms) -> Estimate:
        """Mean over seeds of the difference between two values of one field.

        `paired("rank", noise=(0, 4))` is rank at noise = 0 minus rank at noise = 4.
        Each seed must occur once under both. Two fields give their interaction: the
        difference in the first, at the one value of the second minus at the other.
        each: another field; pairs are made at each of its values that both have, and
        averaged over these. Seeds that lack one of these values are left out.
        """
        return self._of_two(quantity, arms, each, "minus")

    def ratio(self, quantity: Quantity, each: str = "", **arms) -> Estimate:
        """Mean over seeds of the ratio of two values of one field; as `paired`."""
        return self._of_two(quantity, arms, each, "over", truediv)

    def log_ratio(self, quantity: Quantity, each: str = "", **arms) -> Estimate:
        """Mean over seeds of the natural logarithm of the ratio; as `paired`."""
        return self._of_two(quantity, arms, each, "over", scale=np.log)

    def slope(self, quantity: Quantity, x: Quantity) -> Estimate:
        """Mean over seeds of the least-squares slope of the quantity on x."""

        def slopes(df):
            frame = pd.DataFrame(
                {"seed": df.seed, "x": values(df, x), "y": values(df, quantity)}
            )
            return frame.groupby("seed").apply(
                lambda g: np.polyfit(g.x, g.y, 1)[0], include_groups=False
            )

        return self._over_seeds(f"slope of {name_of(quantity)} on {name_of(x)}", slopes)

    # --- every run

    def worst(self, quantity: Quantity) -> Estimate:
        """The largest value over all runs, for statements that hold run by run."""
        return self._extreme(quantity, largest=True)

    def least(self, quantity: Quantity) -> Estimate:
        """The smallest value over all runs, for statements that hold run by run."""
        return self._extreme(quantity, largest=False)

    def fraction(self, condition: str) -> Estimate:
        """The fraction of runs under which an expression is true, exact binomial."""

        def compute(df):
            return stats.fraction(values(self(df), condition).astype(bool))

        return Estimate(compute, self._where(f"fraction of runs with {condition}"))

    # --- how they are made

    def _over_seeds(self, what: str, reduce) -> Estimate:
        return Estimate(
            lambda df: stats.mean(reduce(self(df))),
            self._where(f"mean over seeds of {what}"),
        )

    def _of_two(
        self, quantity, arms: dict, each: str, word: str, join=sub, scale=None
    ) -> Estimate:
        if not arms or any(len(ends) != 2 for ends in arms.values()):
            raise TypeError(f"give a field with its two values, not {arms}")
        fixed = ["seed", *([each] if each else [])]

        def reduce(df):
            sizes = values(df, quantity)
            frame = df.assign(_quantity=scale(sizes) if scale else sizes)
            for field, (a, b) in arms.items():
                frame = frame[frame[field].isin([a, b])]
                if lacking := [v for v in (a, b) if v not in set(frame[field])]:
                    raise ValueError(
                        f"no run has {field} = {lacking[0]}: nothing to pair"
                    )
            if frame.duplicated([*fixed, *arms]).any():
                raise ValueError(
                    f"a seed has several runs of one {' and '.join(arms)}: narrow the "
                    "rows down with where(...)"
                )
            wide = frame.pivot(index=fixed, columns=list(arms), values="_quantity")
            found = wide
            for a, b in arms.values():
                found = join(found[a], found[b])
            if each:
                shared = wide.notna().groupby(level=each).any().all(axis=1)
                found = found.unstack(each).loc[:, shared].mean(axis=1, skipna=False)
            if (found := found.dropna()).empty:
                (field, (a, b)) = next(iter(arms.items()))
                raise ValueError(
                    f"no seed has both {field} = {a} and {field} = {b}: nothing to pair"
                )
            return found

        ends = ", ".join(
            f"{field} = {_shown(a)} {word} {field} = {_shown(b)}"
            for field, (a, b) in arms.items()
        )
        ends += f", paired at each {each}" if each else ", paired"
        log = "log of " if scale else ""
        return self._over_seeds(f"{log}{name_of(quantity)} ({ends})", reduce)

    def _extreme(self, quantity, largest: bool) -> Estimate:
        word = "largest" if largest else "smallest"
        return Estimate(
            lambda df: stats.worst(values(self(df), quantity), largest),
            self._where(f"{word} {name_of(quantity)} of any {self.one}"),
        )

    def _where(self, phrase: str) -> str:
        return f"{phrase}, where {self}" if str(self) else phrase


def where(*selections, **fields) -> Rows:
    """A selection of rows.

    fields: `model="factored"` asks for equality, `noise=(1.0, 2.0)` for one of several.
    selections: expressions of columns ("weight_decay > 0"), or functions df -> df whose
    docstrings say which rows they keep. Raises ValueError on a frame where no row is
    left, so that a misspelt value is never a silent nothing.
    """
    return Rows().where(*selections, **fields)


def weakest(*estimates: Estimate, above: bool = True) -> Estimate:
    """The estimate that decides a claim about each of several.

    above=True returns the interval with the least lower end, for a claim that all lie
    above a threshold; above=False the one with the largest upper end.
    """

    def compute(df):
        found = [e(df) for e in estimates]
        return (
            min(found, key=lambda i: i.low)
            if above
            else max(found, key=lambda i: i.high)
        )

    word, phrases = "smallest" if above else "largest", list(map(str, estimates))
    ends = {phrase.partition(", where ")[2] for phrase in phrases}
    if len(ends) == 1 and "" not in ends:  # said once: they share their rows
        phrases = [phrase.partition(", where ")[0] for phrase in phrases]
        phrases[-1] += f"; all where {ends.pop()}"
    return Estimate(compute, f"the {word} of: " + "; ".join(phrases))


def family(
    name: str, statement: str, make: Callable[..., Estimate], *, but=None, **given
):
    """Claims over a product of arms, in the order of the axes, the last one fastest.

    name, statement: texts with a {place} for each axis. An axis is a keyword that is no
    field of `Claim`: a sequence of values, or a dict {value: words of the statement}.
    make(**values) returns the estimate of one combination. All other keywords are
    fields of every claim. but: {(value, ...): fields} of the combinations that differ.

    >>> family("{arm}_learns", "{arm} learns.", lambda arm: ..., arm=ARMS, below=0)
    """
    fields = {k: v for k, v in given.items() if k in Claim.__dataclass_fields__}
    axes = {k: _words(v) for k, v in given.items() if k not in fields}
    claims, but = [], dict(but or {})
    if strange := set(but) - set(product(*axes.values())):
        raise ValueError(f"no combination of the axes is {strange.pop()}")
    for chosen in product(*axes.values()):
        values = dict(zip(axes, chosen, strict=True))
        words = {k: axes[k][v] for k, v in values.items()}
        short = {
            k: str(v).replace(" ", "_").replace("-", "_") for k, v in values.items()
        }
        own = but.get(chosen, {})
        claims.append(
            Claim(
                name.format(**short),
                statement.format(**words),
                estimate=make(**values),
                **{**fields, **own},
            )
        )
    return claims


def by_seed(df: pd.DataFrame, quantity: Quantity) -> pd.Series:
    """One number for each seed: the mean of the quantity over the seed's runs."""
    return values(df, quantity).groupby(df.seed).mean()


def values(df: pd.DataFrame, quantity: Quantity) -> pd.Series:
    """The quantity of each row."""
    if callable(quantity):
        return quantity(df)
    return (
        df[quantity] if quantity in df.columns else df.eval(quantity, engine="python")
    )


def named(quantity: Quantity, words: str) -> Callable[[pd.DataFrame], pd.Series]:
    """The quantity under a name that reads well: claims print these words for it.

    >>> where().worst(named("wrong", "relative error of the polar factor"))
    """

    def called(df: pd.DataFrame) -> pd.Series:
        return values(df, quantity)

    called.__doc__ = words
    return called


def name_of(quantity: Quantity) -> str:
    """The words for a quantity: its expression, or the docstring of its function."""
    return _described(quantity) if callable(quantity) else quantity


def _described(function: Callable) -> str:
    text = (function.__doc__ or "").strip().split("\n\n")[0]
    if not text:
        raise ValueError(
            f"{getattr(function, '__name__', function)} needs a docstring that says "
            "what it returns: claims print it"
        )
    return " ".join(text.split()).removesuffix(".")


def _selection(selection) -> tuple[str, Callable]:
    if callable(selection):
        return _described(selection), selection
    return selection, lambda df: df[df.eval(selection, engine="python").astype(bool)]


def _equal(item: tuple[str, object]) -> tuple[str, Callable]:
    field, value = item

    def column(df: pd.DataFrame) -> pd.Series:
        if field not in df.columns:
            raise ValueError(nearest(field, df.columns, "column"))
        return df[field]

    if isinstance(value, Iterable) and not isinstance(value, str):
        several = list(value)
        shown = ", ".join(map(_shown, several))
        return f"{field} is one of {shown}", lambda df: df[column(df).isin(several)]
    return f"{field} = {_shown(value)}", lambda df: df[column(df) == value]


def _shown(value) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f"'{value}'" if value == "" else str(value)


def _words(axis) -> dict:
    return axis if isinstance(axis, dict) else {v: str(v) for v in axis}
