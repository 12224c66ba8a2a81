"""Panels of figures: curves, points, forest plots, heat maps, and labels and legends.

An experiment says what is drawn; sizes, greys and the room for a legend are decided
here. An `Arm` is one method or setting, with one name, colour and marker in every
figure of its paper. Functions draw on a matplotlib `ax`; they take arms as {value of a
column: Arm}.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fractions import Fraction

import numpy as np

from symlab.harness import plot, stats
from symlab.harness.stats import Interval

SMALL = 6.5  # points: text inside a panel, crowded tick labels; nothing is smaller
GREY, FAINT, SHADE = "0.6", "0.85", "0.93"  # reference lines, grids, filled bands
DASHED = (0, (4, 2))  # closed forms, and nothing that was measured
ANY = (-np.inf, np.inf)  # the range of a quantity without bounds


@dataclass(frozen=True)
class Arm:
    """The name, colour and marker of one method or setting, the same in every figure.

    line: a matplotlib line style; "none" for markers without a curve.
    hollow: whether `points` and `forest` leave the inside of its markers white.
    """

    label: str
    color: str
    marker: str = "o"
    line: str | tuple = "-"
    hollow: bool = False

    @property
    def look(self) -> dict:
        """Colour, marker and line, as matplotlib's `plot` takes them."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.line}


# --- curves and points ---------------------------------------------------------------


def curves(
    ax, df, x: str, y: str, by: str, arms: Mapping[object, Arm], *, label="{}", **line
) -> None:
    """Draw the mean of y over seeds at each x, with its interval as a band, for each
    arm.

    df: rows with the columns seed, x, y and by.
    by: the column that holds the arms' values. Rows of other values are not drawn.
    arms: {value: Arm}. An arm without rows is left out.
    label: a text with {} for the arm's name.
    line: `limits` of `curve`, and matplotlib's line properties.

    Raises ValueError if an arm without rows is named nearly as a value without an arm,
    as after a misspelling.
    """
    there = [str(v) for v in df[by].unique() if v not in arms]
    for value in set(arms) - set(df[by].unique()):
        near = get_close_matches(str(value).lower(), map(str.lower, there), cutoff=0.8)
        if near:
            raise ValueError(
                f"no row has {by} = {value!r}, and rows have {by} = {near[0]!r} "
                "without an arm: name the arm by the value of its rows"
            )
    for value, arm in arms.items():
        if len(rows := df[df[by] == value]):
            curve(ax, rows, x, y, arm, label=label.format(arm.label), **line)


def curve(
    ax, df, x: str, y: str, arm: Arm, *, label: str | None = None, **line
) -> None:
    """Draw the mean of y over seeds at each x as a curve, with a 95 % interval, for one
    arm.

    df: rows with the columns seed, x and y.
    arm: gives name, colour and marker.
    label: by default the arm's name.
    line: matplotlib's line properties, and limits=(low, high): the range of y, at which
        the band ends.
    """
    if mine := {"line", "hollow"} & set(line):
        raise ValueError(
            f"{sorted(mine)[0]} is of the arm: Arm({arm.label!r}, ..., "
            f"{sorted(mine)[0]}=...)"
        )
    look = arm.look | line
    plot.curve(ax, df, x, y, label=arm.label if label is None else label, **look)


def ranges(
    ax, samples, arm: Arm, *, over: float = 1.0, band: bool = False, **line
) -> None:
    """Draw one arm's mean at each x as a curve, with bars from the least to the largest
    value: for few seeds, whose interval would say little.

    samples: what `groupby(x)[y]` gives. over: what x is divided by. band: whether a
    band is drawn in place of bars. line: matplotlib's line properties.
    """
    low, mean, high = samples.min(), samples.mean(), samples.max()
    x = mean.index / over
    if band:
        ax.fill_between(x, low, high, color=arm.color, alpha=0.15, lw=0)
    else:
        ax.vlines(x, low, high, color=arm.color, lw=0.7)
    ax.plot(x, mean, **arm.look | line)


def unrolled(df, x: str | Sequence, y: str, keep: Sequence[str] = ()):
    """Return a frame with one row for each entry of a list column y.

    x: the name of a list column as long as y, or the positions themselves, equal in all
        rows.
    keep: further columns to keep.

    The columns are "seed", those of `keep`, "x" and "y", whatever the list columns are
    called.
    """
    import pandas as pd

    rows = [
        (row.seed, *(getattr(row, k) for k in keep), at, value)
        for row in df.itertuples()
        for at, value in zip(
            getattr(row, x) if isinstance(x, str) else x, getattr(row, y), strict=False
        )
    ]
    return pd.DataFrame(rows, columns=["seed", *keep, "x", "y"])


def points(
    ax,
    at: Sequence[float],
    intervals: Sequence[Interval],
    arm: Arm,
    *,
    across: bool = False,
    label: str | None = None,
    limits: tuple[float, float] = ANY,
    **style,
) -> None:
    """Draw estimates as markers, with their intervals as bars.

    at: the positions of the markers. intervals: the estimates.
    arm: gives name, colour and marker.
    across: whether the values run along the x axis instead of the y axis.
    limits: the range of the quantity, at which bars end.

    A single run, whose interval is infinite, is drawn as a marker without a bar.
    """
    intervals = [within(i, limits) for i in intervals]
    value = np.array([i.value for i in intervals])
    ends = np.array([[i.value - i.low, i.high - i.value] for i in intervals]).T
    reach = np.abs(ends) if np.isfinite(ends).all() else None
    place = (value, np.asarray(at)) if across else (np.asarray(at), value)
    look = {"color": arm.color, "ms": 3.4, "mew": 0, "elinewidth": 0.8}
    if arm.hollow:
        look |= {"mfc": "white", "mew": 0.7}
    look |= style
    ax.errorbar(
        *place,
        **{"xerr" if across else "yerr": reach},
        fmt=arm.marker,
        label=arm.label if label is None else label,
        **look,
    )


def apart(
    ax,
    df,
    x: str,
    y: str,
    by: str,
    arms: Mapping[object, Arm],
    *,
    spread: float = 0.3,
    log: float | None = None,
    **style,
) -> None:
    """Draw means of y over seeds at each x with intervals as bars, arms side by side.

    The means of each arm are joined by a thin line.

    by, arms: as in `curves`.
    spread: the distance between the outermost arms, in units of x, or with `log` in
        powers of it.
    log: the base of a logarithmic x axis; None for a linear one.
    style: what `points` takes.
    """
    shown = {value: arm for value, arm in arms.items() if (df[by] == value).any()}
    shifts = np.linspace(-0.5, 0.5, len(shown)) * spread * (len(shown) > 1)
    for shift, (value, arm) in zip(shifts, shown.items(), strict=True):
        found = means(df[df[by] == value].groupby(x)[y])
        at = [place * log**shift if log else place + shift for place in found]
        look = {"ls": arm.line, "lw": 0.8} | style
        points(ax, at, [*found.values()], arm, **look)


def band(
    ax, at, intervals: Sequence[Interval], arm: Arm, *, limits=ANY, **line
) -> None:
    """Draw estimates as one curve, with their intervals as a band.

    at: the positions. intervals: the estimates.
    limits: (low, high), the range of the quantity, at which the band ends.

    No band is drawn where an interval is infinite, as that of a single run is.
    """
    intervals = [within(i, limits) for i in intervals]
    look = {"label": arm.label, "mew": 0} | arm.look | line
    ax.plot(at, [i.value for i in intervals], **look)
    ends = np.array([(i.low, i.high) for i in intervals]).T
    if np.isfinite(ends).all():
        ax.fill_between(at, *ends, color=arm.color, alpha=0.15, lw=0)


def forest(
    ax,
    rows: Mapping[str, Mapping[object, Interval]],
    arms: Mapping[object, Arm],
    *,
    zero: float | None = 0.0,
    spread: float = 0.3,
    limits: tuple[float, float] = ANY,
) -> None:
    """Draw a forest plot: one row for each name, with the intervals of several arms.

    rows: {name: {arm's value: interval}}, from top to bottom.
    arms: {arm's value: Arm}.
    zero: where the line of no effect is; None for no line.
    spread: the distance between the outermost arms of a row, in rows.
    limits: the range of the quantity, at which bars end.
    """
    names = list(rows)
    offsets = np.linspace(-spread / 2, spread / 2, len(arms)) if len(arms) > 1 else [0]
    for (value, arm), offset in zip(arms.items(), offsets, strict=True):
        found = [
            (i + offset, rows[n][value])
            for i, n in enumerate(names)
            if value in rows[n]
        ]
        if found:
            at, intervals = zip(*found, strict=True)
            points(ax, at, intervals, arm, across=True, limits=limits)
    if zero is not None:
        reference(ax, x=zero)
    rows_of(ax, names)


def rows_of(ax, names: Sequence[str], *, shared: bool = False) -> None:
    """Label the rows of a panel, which are at y = 0, 1, and so on, from the top down.

    shared: whether a panel to the left, if there is one, has the labels for both.
    """
    shown = [""] * len(names) if shared and beside(ax) else names
    ax.set_yticks(range(len(names)), shown)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.4, -0.6)


def within(interval: Interval, limits: tuple[float, float]) -> Interval:
    """Return an interval cut at the range (low, high) of its quantity, to be drawn.

    The infinite interval of a single run is not changed.
    """
    low, high = limits
    if not (np.isfinite(interval.low) and np.isfinite(interval.high)):
        return interval
    return replace(interval, low=max(interval.low, low), high=min(interval.high, high))


def histogram(ax, sample, bins, arm: Arm, **style) -> None:
    """Draw the counts of a sample in bins as a filled outline."""
    look = {"histtype": "stepfilled", "alpha": 0.45, "color": arm.color} | style
    ax.hist(np.asarray(sample), bins, label=arm.label, **look)


# --- images --------------------------------------------------------------------------


def heat(
    ax,
    values,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    limits: tuple[float, float] | None = None,
    cmap: str = "magma",
    text: str | Callable[[float], str] = "",
):
    """Draw a matrix as colours, with names at its sides; return the image.

    values: (rows, columns).
    rows, columns: the names. Those of more than twelve columns are written small.
    limits: the numbers at the ends of the colour scale.
    text: a format such as "{:.0f}", or a function of the number, whose result is
        written into each cell, in black or white.
    """
    values = np.asarray(values, float)
    low, high = limits or (np.nanmin(values), np.nanmax(values))
    shown = ax.imshow(
        values, cmap=cmap, vmin=low, vmax=high, aspect="auto", interpolation="nearest"
    )
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    if len(columns) > 12:
        ax.tick_params(axis="x", labelsize=SMALL)
    for side in ax.spines.values():
        side.set_visible(True)
    if text:
        write = text.format if isinstance(text, str) else text
        for (i, j), v in np.ndenumerate(values):
            dark = sum(shown.cmap(shown.norm(v))[:3]) < 1.5
            ax.text(j, i, write(v), ha="center", va="center", fontsize=SMALL,
                    color="white" if dark else "black")  # fmt: skip
    return shown


def colorbar(
    ax,
    shown,
    label: str,
    ticks: Mapping[float, str] | None = None,
    below=False,
    aspect: float = 20,
) -> None:
    """Draw the colour scale of an image beside its panel, or below it.

    shown: the image, as `heat` returns it. label: the title of the scale.
    ticks: {value: text}; None for matplotlib's own.
    aspect: the length of the scale over its width.
    """
    where = {"location": "bottom"} if below else {"anchor": (0, 1)}
    where |= {"fraction": 0.05, "pad": 0.03, "aspect": aspect}
    bar = ax.figure.colorbar(shown, ax=ax, **where)
    if ticks is not None:
        bar.set_ticks(list(ticks), labels=list(ticks.values()))
    bar.set_label(label, labelpad=1)
    bar.outline.set_linewidth(0.4)


# --- marks ---------------------------------------------------------------------------


def reference(
    ax, *, x: float | None = None, y: float | None = None, label: str = "", **line
) -> None:
    """Draw a thin grey line behind the data at x or at y, for example at a threshold.

    label: its entry in the legend. line: matplotlib's line properties.
    """
    style = {"color": GREY, "lw": 0.7, "zorder": 0} | line
    if label:
        style["label"] = label
    if x is not None:
        ax.axvline(x, **style)
    if y is not None:
        ax.axhline(y, **style)


def level(ax, interval: Interval, label: str = "", **line) -> None:
    """Draw a measured value that does not depend on x, with its interval as a pale
    band.

    The value is a thin grey horizontal line. interval: the value's estimate.
    """
    style = {"color": GREY, "lw": 0.9, "zorder": 1} | line
    ax.axhline(interval.value, **(style | ({"label": label} if label else {})))
    if interval.n > 1:
        band = {"color": style["color"], "alpha": 0.12, "lw": 0, "zorder": 0}
        ax.axhspan(interval.low, interval.high, **band)


def note(ax, x: float, y: float, text: str, *, data: bool = False, **style) -> None:
    """Write small text in a panel at x, y.

    x, y: fractions of the panel's width and height, or with data=True its data
    coordinates.
    """
    where = {} if data else {"transform": ax.transAxes}
    ax.text(x, y, text, **({"fontsize": SMALL} | where | style))


def name(ax, arm: Arm, x: float, y: float, **style) -> None:
    """Write an arm's name beside its line, in its colour.

    x: a fraction of the panel's width.
    y: in data coordinates. If it is outside the panel, nothing is written and no room
        is taken.
    """
    look = {"color": arm.color, "transform": ax.get_yaxis_transform(), "clip_on": True}
    note(ax, x, y, arm.label, **(look | style))


def ticks(
    ax, axis: str, values: Sequence[float] | Mapping[float, str], log=None
) -> None:
    """Put ticks at the given values of an axis and nowhere else, as plain numbers.

    axis: 'x' or 'y'.
    values: numbers, written as '0.05' or '2', or {number: text}.
    log: the base of a logarithmic axis; None for a linear one.
    """
    if log:
        getattr(ax, f"set_{axis}scale")("log", base=log)
    plain = {v: f"{v:g}".replace("-", "\N{MINUS SIGN}") for v in values}
    labels = values if isinstance(values, Mapping) else plain
    line = getattr(ax, f"{axis}axis")
    line.set_ticks(list(labels), labels=list(labels.values()))
    line.set_ticks([], minor=True)


def powers(exponents: Sequence[int], base: float = 10.0) -> dict[float, str]:
    """Return {base**k: its text} for the exponents k, such as 10^2 for 100, for
    `ticks`.
    """
    return {base**k: f"${base:g}^{{{k}}}$" for k in exponents}


def decades(
    ax,
    axis: str,
    exponents: Sequence[int],
    *,
    zero: float | None = None,
    gap_at: float = 0.0,
) -> None:
    """Make an axis logarithmic, with ticks at powers of ten.

    axis: 'x' or 'y'. exponents: those of the powers of ten.
    zero: the coordinate at which data of the value 0 are drawn, since a logarithmic
        axis has no 0; it gets a tick "0", and the axis a break at `gap_at`. None if
        there are no such data.
    gap_at: the coordinate of the break.
    """
    named = powers(exponents)
    ticks(ax, axis, named if zero is None else {zero: "0"} | named, log=10)
    if zero is not None:
        gap(ax, axis, gap_at)


def fractions(values: Sequence[float]) -> dict[float, str]:
    """Return {number: text} for `ticks`, with fractions such as '1/8' as texts."""
    return {v: str(Fraction(v).limit_denominator(100)) for v in values}


def gap(ax, axis: str, at: float) -> None:
    """Draw a break in an axis: two strokes across its line.

    axis: 'x' or 'y'.
    at: the place, in data coordinates, for example between 0 and the first decade of a
        logarithmic axis, where the axis is not logarithmic.
    """
    along = axis == "x"
    place, across = ((at, 0), ax.get_xaxis_transform()) if along else (
        (0, at), ax.get_yaxis_transform())  # fmt: skip
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0}
    ax.text(*place, "//", transform=across, ha="center", va="center", bbox=box,
            fontsize=SMALL, rotation=0 if along else 90, zorder=4)  # fmt: skip


def legend(
    ax,
    loc: str = "best",
    *,
    room: float = 0.0,
    title: str = "",
    clear: bool = False,
    **how,
) -> None:
    """Add the legend of a panel: first what was measured, then closed forms.

    Closed forms with the same label have one entry.

    loc: matplotlib's location.
    room: the fraction by which the y axis is extended to make space, on the side that
        `loc` names, upper or lower.
    clear: whether the words have a white outline, so that they can be read on a
        reference line; no line or axis is hidden.
    how: what matplotlib's `legend` takes.
    """
    if room:
        log = ax.get_yscale() == "log"
        low, high = np.log(ax.get_ylim()) if log else ax.get_ylim()
        extra = room * (high - low)
        ends = (low - extra, high) if "lower" in loc else (low, high + extra)
        ax.set_ylim(*(np.exp(ends) if log else ends))
    if "handles" not in how:
        how = _entries(ax) | how
    box = ax.legend(loc=loc, **({"title": title} if title else {}), **how)
    box.get_title().set_fontsize(SMALL)
    if clear:
        from matplotlib.patheffects import withStroke

        for text in (*box.get_texts(), box.get_title()):
            text.set_path_effects([withStroke(linewidth=2, foreground="white")])


def key(ax, shown: Sequence[Arm] = (), *, lines: bool = True, **how) -> None:
    """Put a legend above the title of a panel, in as few lines as the figure's width
    allows.

    It begins at the left edge of the panel and may extend above panels to the right:
    called on the first panel of a row, it is the legend of that row.

    shown: arms to list; by default what the panel has drawn.
    lines: whether an arm of `shown` is listed with its line beside its marker.
    how: what matplotlib's `legend` takes, such as ncols.
    """
    from matplotlib.transforms import Bbox, offset_copy

    fig = ax.figure
    how = (handles(shown, lines=lines) if shown else _entries(ax)) | how
    at = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0}
    at["bbox_transform"] = offset_copy(ax.transAxes, fig, y=18, units="points")
    tight = {} if lines or not shown else {"handlelength": 1, "handletextpad": 0.3}
    look = at | {"columnspacing": 1.3, "borderpad": 0} | tight | how
    narrow = fig.get_figwidth() <= plot.COLUMN  # names at the left may fill 0.3 of it
    space = (1 - (0.3 if narrow else ax.get_position().x0)) * fig.bbox.width
    most = look.pop("ncols", len(look["handles"]))
    for ncols in range(most, 0, -1):
        box = ax.legend(ncols=ncols, **look)
        if box.get_window_extent().width <= space:
            break

    def height_alone(renderer=None):
        """The layout makes room above; the width does not push neighbours away."""
        at = box.get_window_extent(renderer)
        return Bbox.from_bounds(at.x0, at.y0, 1, at.height)

    box.get_tightbbox = height_alone


def handles(arms: Sequence[Arm], *, lines: bool = True) -> dict:
    """Return what `legend` takes to list these arms, whether or not they were drawn.

    lines: whether an arm is listed with its line beside its marker.

    An arm without a marker, of colour plot.BLACK and line DASHED, stands for all closed
    forms.
    """
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=a.color, marker=a.marker, mew=0.7 * a.hollow,
               ls=a.line if lines or not a.marker else "",
               mfc="white" if a.hollow else a.color)
        for a in arms
    ]  # fmt: skip
    return {"handles": marks, "labels": [a.label for a in arms]}


def _entries(ax) -> dict:
    pairs = list(zip(*ax.get_legend_handles_labels(), strict=True))
    forms = {text: line for line, text in pairs[::-1] if _closed_form(line)}
    kept = [p for p in pairs if not _closed_form(p[0])]
    kept += [p for p in pairs if forms.get(p[1]) is p[0]]  # each name once
    found, labels = zip(*kept, strict=True) if kept else ((), ())
    return {"handles": found, "labels": labels}


def _closed_form(handle) -> bool:
    return getattr(handle, "get_gid", lambda: None)() == plot.THEORY


def inset(ax, box: Sequence[float], title: str = ""):
    """Return a small panel inside another.

    box: (left, bottom, width, height) in fractions of the outer panel.
    """
    small = ax.inset_axes(box)
    small.set_title(title, fontsize=SMALL, pad=2)
    small.tick_params(labelsize=SMALL)
    return small


def beside(ax) -> bool:
    """Return whether there is a panel to the left, which can name the rows of both.

    In the form of a figure for one column there is none.
    """
    place = ax.get_subplotspec()
    return place is not None and place.colspan.start > 0


def means(groups) -> dict:
    """Return {name: interval of the mean} for (name, sample) pairs, such as `groupby`
    gives.
    """
    return {name: stats.mean(sample) for name, sample in groups}
