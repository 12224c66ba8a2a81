"""The style of all figures, basic curves, and figure files that record their origin.

Widths are those of a two-column page and are exact: layout is constrained, the bounding
box is never tightened. Fonts are STIX, which matplotlib ships, embedded as TrueType.
"""

import json
import math
import os
import re
from contextlib import suppress
from pathlib import Path
from string import ascii_letters

import numpy as np

from symlab.harness import stats
from symlab.harness.errors import UserError

COLUMN, TEXT, ROW = 3.25, 6.75, 2.3  # inches: one column, two columns, a row of panels
LETTER = 0.22  # inches from a panel's letter to its title
BLUE, ORANGE, GREEN, PINK, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#222222"
SKY = "#56B4E9"
THEORY = "theory"  # names the lines of `theory`, which a legend lists last
ORDER = {"left": "0", "mid": "1", "right": "2"}
STYLE = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.labelspacing": 0.25,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.2,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "axes.unicode_minus": True,
}


def curve(
    ax,
    df,
    x: str,
    y: str,
    *,
    label: str,
    color: str,
    marker: str = "o",
    limits: tuple[float, float] = (-math.inf, math.inf),
    **line,
):
    """Draw the mean of y over seeds at each x as a curve, with its 95 % interval as a
    band.

    ax: the matplotlib axes.
    df: rows with the columns seed, x and y.
    label, color, marker: of the curve.
    limits: (low, high), the range of y, at which the band ends.
    line: matplotlib's line properties.
    """
    import seaborn as sns

    def ends(sample) -> tuple[float, float]:
        low, high = stats.band(sample)
        return np.maximum(low, limits[0]), np.minimum(high, limits[1])  # NaN stays

    sns.lineplot(
        df,
        x=x,
        y=y,
        ax=ax,
        errorbar=ends,
        label=label,
        color=color,
        marker=marker,
        markeredgewidth=0,
        legend=False,
        err_kws={"linewidth": 0},
        **line,
    )


def theory(ax, x, y, *, label: str = "theory", color: str = BLACK, **line):
    """Draw a closed form y(x) as a dashed line without markers."""
    style = {"linestyle": (0, (4, 2)), "linewidth": 0.9, "zorder": 5} | line
    ax.plot(np.asarray(x), np.asarray(y), label=label, color=color, gid=THEORY, **style)


def compose(panels: list, stamp: str = "", column: bool = False):
    """Return a matplotlib figure of several panels, marked (a), (b) and so on.

    panels: (Panel, frame) pairs; a Panel says its column, its row, its title and the
        function that draws it.
    stamp: a text across the figure, such as that rows are missing.
    column: whether panels stand one below the other, at the width of one column.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    def order(name: str) -> str:
        return ORDER.get(name, name)

    placed = sorted(panels, key=lambda pair: (pair[0].row, order(pair[0].column)))
    places = [(p.row, p.column) for p, _ in placed]
    for place, (panel, _) in zip(places, placed, strict=True):
        twice = [p.draw for p, _ in placed if (p.row, p.column) == place]
        if len(twice) > 1:
            named = " and ".join(f"{d.__name__} of {d.__module__}" for d in twice)
            raise UserError(
                f"panel {panel.column!r}, row {panel.row}, of figure {panel.figure!r} "
                f"is drawn by {named}: give each @figure its own panel or row"
            )
    if column:
        places = [(n, "main") for n in range(len(places))]
    rows = sorted({row for row, _ in places})
    columns = sorted({name for _, name in places}, key=order)
    width = TEXT if len(columns) > 1 else COLUMN
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(width, ROW * len(rows)), layout="constrained")
        grid = fig.add_gridspec(len(rows), len(columns))
        for letter, place, (panel, df) in zip(
            ascii_letters, places, placed, strict=False
        ):
            row, name = place
            ax = fig.add_subplot(grid[rows.index(row), columns.index(name)])
            ax.set_title(panel.title)
            panel.draw(df, ax)
            if len(panels) > 1:
                _letter(ax, f"({letter})")
            for names in (ax.get_xticklabels(), ax.get_yticklabels(), ax.texts):
                if any("\n" in name.get_text() for name in names):
                    for name in names:  # first lines stand at one height
                        name.set_linespacing(1.0)
        if stamp:
            fig.text(
                0.5,
                0.5,
                stamp,
                color="crimson",
                alpha=0.6,
                fontsize=22,
                ha="center",
                va="center",
                rotation=20,
            )
    return fig


def _letter(ax, letter: str) -> None:
    """Write a panel's letter above its left edge, and its title behind the letter."""
    from matplotlib.transforms import ScaledTranslation

    ax.set_title(letter, loc="left", fontweight="bold")
    behind = ScaledTranslation(LETTER, 0, ax.figure.dpi_scale_trans)
    ax.title.set(ha="left", x=0, transform=ax.title.get_transform() + behind)
    ax.set_anchor("N")  # letters of one row at one height, above square panels too


def save(fig, stem: Path, provenance: dict) -> list[Path]:
    """Write a figure as PDF, PNG and JSON files with its provenance; return their
    paths.

    stem: the path of the files without suffix.
    provenance: the record of the figure's origin, which each file contains.

    The same figure gives the same bytes.
    """
    import matplotlib as mpl

    text = json.dumps(provenance, sort_keys=True)
    paths = [Path(f"{stem}.{kind}") for kind in ("pdf", "png", "json")]
    pdf = {
        "Title": stem.name,
        "Subject": text,
        "Creator": "symlab",
        "CreationDate": None,
    }
    new = [p.with_name(f".{p.stem}.{os.getpid()}{p.suffix}") for p in paths]
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            fig.savefig(new[0], metadata=pdf)
            fig.savefig(new[1], metadata={"symlab": text, "Software": "symlab"})
        arrays = {"provenance": provenance, "axes": drawn(fig)}
        strict = {"separators": (",", ":"), "allow_nan": False}
        new[2].write_text(json.dumps(arrays, **strict) + "\n")
        for source, target in zip(new, paths, strict=True):
            source.replace(target)
    except OSError as error:
        raise UserError(
            f"cannot write {stem.parent} ({error.strerror or error}): free space there "
            "or set SYMLAB_FIGURES to a folder that can be written"
        ) from None
    finally:
        for path in new:
            with suppress(OSError):
                path.unlink()
    return paths


def drawn(fig) -> list[dict]:
    """Return all data that a matplotlib figure shows, one dict per axes.

    Insets follow the axes that contain them.
    """
    out = []
    for ax in fig.axes:
        for a in (ax, *ax.child_axes):
            out.append(
                {
                    "title": f"{a.get_title('left')} {a.get_title()}".strip(),
                    "xlabel": a.get_xlabel(),
                    "ylabel": a.get_ylabel(),
                    "lines": [
                        {
                            "label": str(line.get_label()),
                            "x": _plain(line.get_xdata()),
                            "y": _plain(line.get_ydata()),
                        }
                        for line in a.lines
                    ],
                    "areas": [
                        [_plain(path.vertices) for path in c.get_paths()]
                        for c in a.collections
                        if len(c.get_paths()) and not len(c.get_offsets()) > 1
                    ],
                    "points": [
                        _plain(c.get_offsets())
                        for c in a.collections
                        if len(c.get_offsets()) > 1
                    ],
                    "bars": [
                        _plain([b.get_x(), b.get_width(), b.get_height()])
                        for b in a.patches
                        if hasattr(b, "get_height")
                    ],
                    "images": [_plain(i.get_array(), 3) for i in a.images],
                }
            )
    return out


def _plain(array, digits: int = 6) -> list:
    """Lists with so many significant digits, in what JSON can say.

    NaN is null and infinities are the words inf and -inf. An axis of names or dates has
    these as texts.
    """
    try:
        array = np.ma.filled(np.ma.asarray(array, dtype=float), np.nan)
    except (TypeError, ValueError):
        return np.asarray(array).astype(str).tolist()
    if array.ndim > 1:
        return [_plain(row, digits) for row in array]
    return [_json_number(v, digits) for v in array.tolist()]


def _json_number(value: float, digits: int) -> float | str | None:
    if math.isnan(value):
        return None
    return float(f"{value:.{digits}g}") if math.isfinite(value) else str(value)


def provenance(path: Path) -> dict:
    """Return the record of its origin that a figure file (.pdf, .png or .json)
    contains.

    Raises UserError if the file is missing or contains no such record.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}: draw it with make {path.stem}")
    try:
        if path.suffix == ".json":
            return json.loads(path.read_text())["provenance"]
        if path.suffix == ".png":
            from PIL import Image

            with Image.open(path) as image:
                known = "symlab" in image.info  # as it stands before the pixels
                return json.loads((image.info if known else image.text)["symlab"])
        found = re.search(rb"/Subject \(((?:\\.|[^\\)])*)\)", path.read_bytes(), re.S)
        return json.loads(re.sub(rb"\\(.)", rb"\1", found[1]))
    except (KeyError, TypeError, ValueError, AttributeError, OSError):
        raise _silent(path) from None


def origin_lines(path: Path, record: dict) -> list[str]:
    """Return the origin of a figure file as lines of text.

    path: the file. record: what `provenance` returned.

    Raises UserError for a record that another program wrote. Lines may hold any
    character that the file contains: escape them for a terminal.
    """
    try:
        lines = [f"{path}: {record['figure']}, drawn by `{record['command']}`"]
        for name, e in record["experiments"].items():
            seeds = e["seeds"] or ["none"]
            lines += [
                f"  {name}: {e['runs']} runs (digest {e['rows']}), code {e['code']}, "
                f"seeds {seeds[0]}..{seeds[-1]}, commit {', '.join(e['git'])}, "
                f"{', '.join(e['device'])}",
                f"    {'; '.join(e['versions'])}",
            ]
        for c in record["claims"]:
            more = [f"; {c[k]}" for k in ("bearing", "registered") if k in c]
            lines.append(
                f"  {c['verdict']:9}  {c['experiment']}.{c['claim']}: {c['value']}"
                f" [{c['low']}, {c['high']}], n={c['n']}{''.join(more)}"
            )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _silent(path) from None
    return lines


def _silent(path: Path) -> UserError:
    return UserError(
        f"{path} says nothing of its origin: it was not drawn by symlab, or was saved "
        "again by another program"
    )
