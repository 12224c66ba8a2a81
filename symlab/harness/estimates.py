"""Estimates that print what they measure: a statistic of a quantity of selected rows.

    NOISE = where(study="noise", model="factored")
    NOISE.paired("rank", noise=(0.0, 4.0))

is a function from the frame of an experiment's rows to an `Interval`, and prints as
"mean over seeds of rank (noise = 0 minus noise = 4, paired), where study = noise and
model = factored". A quantity is a column, an expression of columns ("dim - rank"), or a
function df -> Series whose docstring says what it returns.

Runs of one seed share their data and are not independent. `mean`, `paired` and similar
methods therefore first reduce each seed to one number; `worst`, `least` and `fraction`
look at every run. n always counts seeds. docs/statistics.md says which interval each
method gives.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from operator import sub, truediv

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_unsigned_integer_dtype

from symlab.harness import stats
from symlab.harness.claims import Claim, LackingRows
from symlab.harness.errors import nearest
from symlab.harness.stats import Interval

Quantity = str | Callable[[pd.DataFrame], pd.Series]
NO_SEQUENCE = (
    "outcomes that are true or false have no interval that is valid at any time: judge "
    "unseen seeds without the old ones"
)


@dataclass(frozen=True)
class Estimate:
    """A function from an experiment's rows (a DataFrame) to an `Interval`; prints as a
    phrase.

    arms: the fields whose values it compares, or by which it selects rows; () if it
        does not say.
    placebo: placebo(df) is a function from the number of a random permutation to the
        estimate after the labels of the compared arms were permuted within each seed;
        None if it compares none.
    null: the value of the estimate if the two arms that it compares do not differ; None
        if it compares none.
    """

    compute: Callable[[pd.DataFrame], Interval]
    phrase: str
    arms: tuple[str, ...] = ()
    placebo: Callable[[pd.DataFrame], Callable[[int], Interval]] | None = None
    null: float | None = None

    def __call__(self, df: pd.DataFrame) -> Interval:
        return self.compute(df)

    def __str__(self) -> str:
        return self.phrase

    def map(self, function: Callable[[float], float], phrase: str) -> "Estimate":
        """Return the estimate on another scale: a function of its value and limits.

        function: a monotone function of a number.
        phrase: how the new estimate prints, with {} for the phrase of this one.

        >>> where().log_ratio("loss", arm=("a", "b")).map(math.exp, "exp of {}")
        """

        def placebo(df):
            shuffled = self.placebo(df)
            return lambda draw: shuffled(draw).map(function)

        return replace(
            self,
            compute=lambda df: self(df).map(function),
            phrase=phrase.format(self.phrase),
            placebo=self.placebo and placebo,
            null=None if self.null is None else function(self.null),
        )


def estimate(function: Callable[[pd.DataFrame], Interval]) -> Estimate:
    """A decorator that makes an `Estimate` of a function from rows to an Interval.

    The estimate prints as the first paragraph of the function's docstring, without the
    full stop. Raises ValueError if there is none.
    """
    return Estimate(function, _described(function))


@dataclass(frozen=True)
class Rows:
    """A selection of an experiment's rows, made by `where`, with methods for estimates.

    Called with a frame, it returns the rows of that frame that it selects.
    """

    steps: tuple[tuple[str, Callable[[pd.DataFrame], pd.DataFrame]], ...] = ()
    one: str = "run"  # what tells rows apart, in words
    fields: tuple[str, ...] = ()  # by which `where` selects
    looked_at_often: bool = False

    def __call__(self, df: pd.DataFrame) -> pd.DataFrame:
        """The rows selected; raises ValueError where there is none, naming the step.

        Conditions on one column each that follow each other are looked at together:
        to copy the rows costs far more than to look.
        """
        kept = None  # a mask that was not applied yet
        for name, select in self.steps:
            if isinstance(select, _Equal):
                mask = select.mask(df)
                kept = mask if kept is None else kept & mask
                left = kept.any()
            else:
                df, kept = select(df if kept is None else df[kept]), None
                left = not df.empty
            if not left:
                raise LackingRows(f"no row is left where {name}")
        return df if kept is None else df[kept]

    def __str__(self) -> str:
        return " and ".join(name for name, _ in self.steps if name)

    def where(self, *selections, **fields) -> "Rows":
        """Return a selection of those of these rows that meet further conditions.

        selections, fields: as for the function `where`.
        """
        more = *map(_selection, selections), *map(_equal, fields.items())
        named = dict.fromkeys((*self.fields, *fields))
        return replace(self, steps=(*self.steps, *more), fields=tuple(named))

    def anytime(self) -> "Rows":
        """Return the same selection, but with intervals that stay valid when seeds are
        added.

        It applies to `mean`, `paired`, `ratio`, `log_ratio` and `slope`, whose
        intervals are then those of `stats.anytime`; outcomes that are true or false
        have no such interval here.

        >>> where(study="main").anytime().paired("rank", noise=(0.0, 4.0))
        """
        return replace(self, looked_at_often=True)

    def cells(self, over: Mapping[str, Iterable], **columns: str) -> "Rows":
        """Return a selection with one row for each entry of list columns, not one per
        run.

        over: {axis: values}; the combinations of the values, the last axis fastest,
            name the entries of a list, and become columns.
        columns: name=column, the list columns and the names of the columns of their
            entries.

        All other columns are repeated. Raises ValueError if a list does not have one
        entry for each combination.

        >>> where(study="rule").cells({"block": BLOCKS, "side": SIDES}, error="errors")
        """
        names = pd.DataFrame(list(product(*over.values())), columns=list(over))

        def unrolled(df):
            _check_columns(df, columns.values())
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

        steps = (*self.steps, ("", unrolled))
        return replace(self, steps=steps, one=" and ".join(over))

    # --- one number for each seed, then the mean over seeds

    def mean(self, quantity: Quantity) -> Estimate:
        """Return the estimate of the mean over seeds of a quantity.

        quantity: a column, an expression of columns, or a function of the frame.

        The runs of each seed are averaged first. The mean of a quantity that is true or
        false has the interval of a fraction.
        """
        found = self._over_seeds(
            f"{name_of(quantity)}", lambda df: by_seed(df, quantity), self.fields
        )

        def compute(df):
            rows = self(df)
            true = values(rows, quantity).infer_objects()
            if not is_bool_dtype(true):
                return self._interval(by_seed(rows, quantity))
            if self.looked_at_often:
                raise ValueError(NO_SEQUENCE)
            return stats.fraction(true, rows.seed)

        return replace(found, compute=compute)

    def paired(self, quantity: Quantity, each: str = "", **arms) -> Estimate:
        """Return the estimate of a quantity's mean difference between two arms, paired
        by seed.

        quantity: a column, an expression of columns, or a function of the frame.
        arms: one field with two values: `paired("rank", noise=(0, 4))` is rank at noise
            = 0 minus rank at noise = 4. Two such fields give their interaction: the
            difference in the first at the first value of the second, minus that at the
            second value.
        each: another field; differences are taken at each of its values that both arms
            have, and averaged. Seeds that lack one of these values are left out.

        Each seed must occur at most once in each arm; seeds that were not run in both
        are left out. If a quantity is not a number in a run, the run is not left out:
        the estimate is an error.
        """
        return self._of_two(quantity, arms, each, "minus")

    def ratio(self, quantity: Quantity, each: str = "", **arms) -> Estimate:
        """Return the estimate of the mean over seeds of the ratio of a quantity in two
        arms.

        `ratio("loss", arm=("a", "b"))` is loss at arm = a over loss at arm = b, within
        each seed; the arguments are those of `paired`.
        """
        return self._of_two(quantity, arms, each, "over", truediv)

    def log_ratio(self, quantity: Quantity, each: str = "", **arms) -> Estimate:
        """Return the estimate of the mean over seeds of the log of a quantity's ratio
        in two arms.

        The logarithm is natural; the ratio and the arguments are those of `ratio`.
        """
        return self._of_two(quantity, arms, each, "over", scale=np.log)

    def slope(self, quantity: Quantity, x: Quantity) -> Estimate:
        """Return the estimate of the mean over seeds of a least-squares slope.

        quantity, x: the slope is that of quantity against x. Each seed's rows give one
            slope.

        Raises ValueError if a seed has fewer than two values of x.
        """

        def slopes(df):
            frame = pd.DataFrame(
                {"seed": df.seed, "x": values(df, x), "y": values(df, quantity)}
            )
            if frame.groupby("seed").x.nunique().min() < 2:
                raise LackingRows(f"a seed has fewer than two values of {name_of(x)}")
            return frame.groupby("seed").apply(
                lambda g: np.polyfit(g.x, g.y, 1)[0], include_groups=False
            )

        what = f"slope of {name_of(quantity)} on {name_of(x)}"
        return self._over_seeds(what, slopes, self.fields)

    # --- every run

    def worst(self, quantity: Quantity) -> Estimate:
        """Return the largest value of a quantity over all runs, for claims about every
        run.

        It is the largest of the runs that were made; `Interval.beyond` bounds the
        fraction of other seeds that may exceed it.
        """
        return self._extreme(quantity, largest=True)

    def least(self, quantity: Quantity) -> Estimate:
        """Return the smallest value of a quantity over all runs, for claims about every
        run.

        It is the smallest of the runs that were made; `Interval.beyond` bounds the
        fraction of other seeds that may lie below it.
        """
        return self._extreme(quantity, largest=False)

    def fraction(self, condition: str) -> Estimate:
        """Return the estimate of the fraction of runs for which a condition is true.

        condition: an expression of columns, such as "x <= 1".

        The interval is that of Clopper and Pearson for a binomial proportion; several
        runs of one seed count as one outcome, their mean. A comparison with NaN is
        false, so write "x <= 1": "not (x > 1)" is true of a run that failed.
        """
        if self.looked_at_often:
            raise ValueError(NO_SEQUENCE)

        def compute(df):
            rows = self(df)
            return stats.fraction(values(rows, condition), rows.seed)

        phrase = self._where(f"fraction of runs with {condition}")
        return Estimate(compute, phrase, self.fields)

    # --- how they are made

    def _over_seeds(self, what: str, reduce, arms=(), placebo=None) -> Estimate:
        valid = " (interval valid at any time)" * self.looked_at_often
        return Estimate(
            lambda df: self._interval(reduce(self(df))),
            self._where(f"mean over seeds{valid} of {what}"),
            tuple(arms),
            placebo,
        )

    def _interval(self, sample) -> Interval:
        return (stats.anytime if self.looked_at_often else stats.mean)(sample)

    def _of_two(
        self, quantity, arms: dict, each: str, word: str, join=sub, scale=None
    ) -> Estimate:
        if not arms or any(len(ends) != 2 for ends in arms.values()):
            raise TypeError(f"give a field with its two values, not {arms}")
        fixed = ["seed", *([each] if each else [])]

        def table(df):
            """The quantity: seeds (and values of `each`) down, arms across."""
            _check_columns(df, [*fixed, *arms])
            for field, ends in arms.items():
                if lacking := [v for v in ends if v not in set(df[field])]:
                    raise LackingRows(
                        f"no run has {field} = {lacking[0]}: nothing to pair"
                    )
                df = df[df[field].isin(ends)]
            sizes = values(df, quantity)
            if is_unsigned_integer_dtype(sizes):
                sizes = sizes.astype(float)  # 2 - 3 would wrap around
            with np.errstate(invalid="ignore", divide="ignore"):
                needed = [c for c in df.columns if c in (*fixed, *arms)]
                frame = df[needed].assign(_quantity=scale(sizes) if scale else sizes)
            if frame.duplicated([*fixed, *arms]).any():
                raise ValueError(
                    f"a seed has several runs of one {' and '.join(arms)}: narrow the "
                    "rows down with where(...)"
                )
            if frame._quantity.isna().any():
                raise ValueError(f"{what} is not a number in a run")
            return frame.pivot(index=fixed, columns=list(arms), values="_quantity")

        def compared(wide):
            """One number for each seed."""
            found = wide
            for a, b in arms.values():
                found = join(found[a], found[b])
            if found[wide.notna().all(axis=1)].isna().any():
                raise ValueError(f"{what} is not a number at a seed")
            if each:
                shared = wide.notna().groupby(level=each).any().all(axis=1)
                found = found.unstack(each).loc[:, shared].mean(axis=1, skipna=False)
            if (found := found.dropna()).empty:
                (field, (a, b)) = next(iter(arms.items()))
                raise LackingRows(
                    f"no seed has both {field} = {a} and {field} = {b}: nothing to pair"
                )
            return found

        def placebo(df):
            wide = table(self(df)).dropna()
            return lambda draw: self._interval(compared(_shuffled(wide, draw)))

        ends = ", ".join(
            f"{field} = {_shown(a)} {word} {field} = {_shown(b)}"
            for field, (a, b) in arms.items()
        )
        ends += f", paired at each {each}" if each else ", paired"
        log = "log of " if scale else ""
        what = f"{log}{name_of(quantity)} ({ends})"
        found = self._over_seeds(what, lambda df: compared(table(df)), arms, placebo)
        return replace(found, null=0.0 if scale or join is sub else 1.0)

    def _extreme(self, quantity, largest: bool) -> Estimate:
        def compute(df):
            rows = self(df)
            seeds = rows.get("seed")
            return stats.worst(values(rows, quantity), largest, seeds)

        word = "largest" if largest else "smallest"
        phrase = self._where(f"{word} {name_of(quantity)} of any {self.one}")
        return Estimate(compute, phrase, self.fields)

    def _where(self, phrase: str) -> str:
        return f"{phrase}, where {self}" if str(self) else phrase


def where(*selections, **fields) -> Rows:
    """Return a selection of an experiment's rows.

    fields: `model="factored"` selects rows with this value, `noise=(1.0, 2.0)` rows
        with one of several.
    selections: expressions of columns ("weight_decay > 0"), or functions df -> df whose
        docstrings say which rows they keep.

    Applied to a frame in which it selects no row, it raises ValueError, so that a
    misspelt value cannot go unnoticed.
    """
    return Rows().where(*selections, **fields)


def weakest(*estimates: Estimate, above: bool = True) -> Estimate:
    """Return one estimate that decides a claim about each of several estimates.

    estimates: the estimates.
    above: True for a claim that all lie above a threshold, which the smallest decides;
        False for one that all lie below a threshold, which the largest decides.

    For above=True the result is an interval of the smallest of the true values. Its
    lower end is the smallest of the lower ends: the true smallest value lies below it
    no more often than below its own interval. Its upper end is the smallest of the
    upper ends at alpha divided by their number (Bonferroni), as any of them may be the
    smallest by chance. n, method and note are those of the estimate with the smallest
    lower end. With above=False, smallest and largest, lower and upper change places. If
    an estimate models no sampling, the interval of one estimate is returned as it is.
    """

    extreme = min if above else max

    def pick(found: list[Interval]) -> Interval:
        def ends(alpha):
            few = alpha / len(found)
            alphas = (alpha, few) if above else (few, alpha)
            return tuple(
                extreme(i.ends(a)[end] for i in found) for end, a in enumerate(alphas)
            )

        chosen = extreme(found, key=lambda i: i.low if above else i.high)
        if not all(i.ends for i in found):
            return replace(chosen, ends=None)
        value = extreme(i.value for i in found)
        low, high = ends(1 - stats.LEVEL)
        return replace(chosen, value=value, low=low, high=high, ends=ends)

    def compute(df):
        return pick([e(df) for e in estimates])

    def placebo(df):
        shuffled = [e.placebo(df) for e in estimates]
        return lambda draw: pick([s(draw) for s in shuffled])

    word, phrases = "smallest" if above else "largest", list(map(str, estimates))
    ends = {phrase.partition(", where ")[2] for phrase in phrases}
    if len(ends) == 1 and "" not in ends:  # said once: they share their rows
        phrases = [phrase.partition(", where ")[0] for phrase in phrases]
        phrases[-1] += f"; all where {ends.pop()}"
    arms = tuple(dict.fromkeys(field for e in estimates for field in e.arms))
    comparing = all(e.placebo for e in estimates)
    phrase = f"the {word} of: " + "; ".join(phrases)
    return Estimate(compute, phrase, arms, placebo if comparing else None)


def family(
    name: str, statement: str, make: Callable[..., Estimate], *, but=None, **given
):
    """Return one claim for each combination of the values of some axes, the last one
    fastest.

    name, statement: texts with {axis} for the value of each axis.
    make: make(**values) returns the estimate of one combination.
    but: {(value, ...): fields} of the combinations whose fields differ.
    given: a keyword that is no field of `Claim` is an axis: a sequence of values, or a
        dict {value: its words in the statement}. All other keywords are fields of every
        claim.

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
    """Return one number for each seed: the mean of a quantity over the seed's runs.

    It is NaN if one of them is NaN: a run that failed is not left out of the mean.
    """
    found = values(df, quantity)
    return found.groupby(df.seed).mean().mask(found.isna().groupby(df.seed).any())


def values(df: pd.DataFrame, quantity: Quantity) -> pd.Series:
    """Return the value of a quantity in each row of df.

    quantity: a column, an expression of columns, or a function of the frame.
    """
    if callable(quantity):
        return quantity(df)
    return df[quantity] if quantity in df.columns else _evaluated(df, quantity)


def _evaluated(df: pd.DataFrame, expression: str):
    """An expression of columns; pandas first makes a Series of each column that there
    is, so it is given those alone whose names occur.
    """
    words, known = set(re.findall(r"\w+", expression)), df.columns
    if "`" not in expression:  # which quotes a name that is no word
        df = df[[c for c in df.columns if c in words]]
    try:
        return df.eval(expression, engine="python")
    except pd.errors.UndefinedVariableError as error:
        name = re.search(r"'(.+?)'", str(error))
        raise ValueError(nearest(name[1], known, "column")) from error


def _check_columns(df: pd.DataFrame, names: Iterable[str]) -> None:
    """Raise ValueError for a name that is no column of a frame, with those like it."""
    for name in names:
        if name not in df.columns:
            raise ValueError(nearest(name, df.columns, "column"))


def named(quantity: Quantity, words: str) -> Callable[[pd.DataFrame], pd.Series]:
    """Return a quantity that claims print in given words.

    quantity: a column, an expression of columns or a function of the frame.
    words: the words.

    >>> where().worst(named("wrong", "relative error of the polar factor"))
    """

    def called(df: pd.DataFrame) -> pd.Series:
        return values(df, quantity)

    called.__doc__ = words
    return called


def name_of(quantity: Quantity) -> str:
    """Return the words in which claims print a quantity.

    They are its expression, or the docstring of its function.
    """
    return _described(quantity) if callable(quantity) else quantity


def _shuffled(wide: pd.DataFrame, draw: int) -> pd.DataFrame:
    """The columns permuted, in the same way in all rows of a seed.

    Comparisons over equally many seeds are permuted alike by the same draw, so that
    arms with a common partner stay dependent.
    """
    seeds, codes = np.unique(wide.index.get_level_values("seed"), return_inverse=True)
    order = np.tile(np.arange(wide.shape[1]), (len(seeds), 1))
    order = np.random.default_rng([draw, len(seeds)]).permuted(order, axis=1)
    moved = np.take_along_axis(wide.to_numpy(), order[codes], axis=1)
    return pd.DataFrame(moved, wide.index, wide.columns)


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
    return selection, lambda df: df[_evaluated(df, selection).astype(bool)]


@dataclass(frozen=True)
class _Equal:
    """Rows whose column has a value, or one of several."""

    field: str
    values: object
    several: bool

    def mask(self, df: pd.DataFrame) -> np.ndarray:
        """Whether each row is selected; raises ValueError where there is no column."""
        _check_columns(df, [self.field])
        column = df[self.field]
        found = column.isin(self.values) if self.several else column == self.values
        return found.to_numpy(dtype=bool, na_value=False)


def _equal(item: tuple[str, object]) -> tuple[str, _Equal]:
    field, value = item
    if isinstance(value, Iterable) and not isinstance(value, str):
        several = list(value)
        shown = ", ".join(map(_shown, several))
        return f"{field} is one of {shown}", _Equal(field, several, True)
    return f"{field} = {_shown(value)}", _Equal(field, value, False)


def _shown(value) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f"'{value}'" if value == "" else str(value)


def _words(axis) -> dict:
    return axis if isinstance(axis, dict) else {v: str(v) for v in axis}
