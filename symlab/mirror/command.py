"""Command `symlab audit FILE.py:factory`: audit the model that a Python file makes.

`factory()` takes no argument and returns (model, loss, batch), the arguments of
`audit`. The command prints a table, and writes all columns to a CSV file and a bar
chart of the units to a PNG file.
"""

import importlib.util
import sys
import textwrap
from pathlib import Path

import pandas as pd
from torch import nn

from symlab.harness.errors import UserError, nearest
from symlab.mirror.audit import audit

WIDTH = 100  # characters of a line of the terminal
NARROW = ["parameters", "symmetry", "units", "dead", "copies", "distinct", "rank"]
NAME = 24  # characters of a name in the table; the CSV has all


def run(target: str, out: Path, dead: float, near: float | None) -> list[Path]:
    """Print the audit of a model that a Python file makes; return the files written.

    target: 'FILE.py:factory'; `factory()` returns (model, loss, batch).
    out: the folder for FILE_factory_audit.csv and, if the model has a symmetry,
        FILE_factory_audit.png. It is created if absent; files of these names are
        replaced.
    dead, near: thresholds for dead and for equal units, as for `audit`.

    Raises UserError if the file or the factory is unsuitable, the model cannot be
    audited, or the folder cannot be written.
    """
    path, name = split(target)
    model, loss, batch = made(path, name)
    loss(model, batch)  # an error in the user's loss shows its traceback
    try:
        table = audit(model, loss, batch, dead, near)
    except ValueError as error:
        raise UserError(f"{target} cannot be audited: {error}") from None
    print(text(table))
    stem = out / f"{path.stem}_{name}_audit"
    try:
        return _written(table, stem)
    except OSError as error:
        raise UserError(
            f"cannot write to {out} ({error.strerror or error}): choose another folder "
            "with --out"
        ) from None


def split(target: str) -> tuple[Path, str]:
    """Return the path and the function's name from a target 'FILE.py:factory'.

    Raises UserError if the target is not of that form or there is no such Python file.
    """
    file, colon, name = target.rpartition(":")
    if not colon or not name.isidentifier():
        raise UserError(f"{target!r} is not FILE.py:factory, as in net.py:make")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"there is no file {file}")
    if path.suffix != ".py":
        raise UserError(f"{file} is no Python file: its name must end in .py")
    return path, name


def made(path: Path, name: str) -> tuple:
    """Return the (model, loss, batch) that a function of a Python file makes.

    path: the file, whose folder becomes the first on sys.path, as when Python runs it.
    name: the function, which takes no argument.

    Raises UserError if the file has no such function or it returns something else.
    Errors inside the file are not caught.
    """
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    factory = getattr(module, name, None)
    if not callable(factory):
        its = [n for n, f in vars(module).items() if _own(f, module)]
        raise UserError(nearest(name, its, f"factory in {path}"))
    result = factory()
    if not (isinstance(result, tuple | list) and len(result) == 3):
        what = f"returned {_kind(result)}"
    elif not isinstance(result[0], nn.Module):
        what = f"returned {_kind(result[0])} as the model"
    elif not callable(result[1]):
        what = f"returned {_kind(result[1])} as the loss"
    else:
        return tuple(result)
    raise UserError(
        f"{path}:{name} must return (model, loss, batch), where model is an nn.Module "
        f"and loss(model, batch) a scalar: it {what}"
    )


def text(table: pd.DataFrame) -> str:
    """Return the table of `audit` and its notes as text of at most WIDTH columns.

    A set of hidden units, which may lie on many tensor axes, is named by the first of
    them.
    """
    short = table[[*NARROW, "nearest"]].copy()
    short["parameters"] = [_name(p) for p in table.parameters]
    short["nearest"] = [f"{x:.3f}" if x == x else "" for x in table.nearest]
    for column in NARROW[2:]:
        short[column] = [str(x) if x is not pd.NA else "" for x in table[column]]
    lines = [short.to_string(), ""]
    for note, rows in table.groupby("note", sort=False):
        line = f"{', '.join(map(str, rows.index))}: {note}"
        lines += textwrap.wrap(line, WIDTH, subsequent_indent="    ")
    return "\n".join(lines)


def figure(table: pd.DataFrame):
    """Return a bar chart of the units of each hidden index: distinct, copied, dead.

    table: the result of `audit`. A hidden index is a set of units, such as the neurons
        of a layer, and gets one bar.

    Live units in excess of the number of distinct ones are drawn as copies. For a
    rotation, whose units can be mixed, the bar shows the rank of the weight product and
    the number of dimensions lost.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from symlab.harness.plot import BLUE, COLUMN, ORANGE, PINK, STYLE

    rows = table[~table.symmetry.isin(["none", "unknown"])]
    works, copies, dead = shares(rows)
    labels = [
        f"{_name(p)}\n{s} ({m})"
        for p, s, m in zip(rows.parameters, rows.symmetry, rows.units, strict=True)
    ]
    with mpl.rc_context(STYLE):
        size = 1.5 * COLUMN, 0.7 + 0.34 * len(rows)
        fig = Figure(figsize=size, layout="constrained")
        ax, at, left = fig.add_subplot(), range(len(rows)), 0.0
        for share, color, what in (
            (works, BLUE, "distinct, or rank"),
            (copies, ORANGE, "further copies"),
            (dead, PINK, "dead, or lost rank"),
        ):
            ax.barh(at, share, left=left, color=color, label=what, height=0.7)
            left = left + share
        ax.set_yticks(at, labels)
        ax.set(xlim=(0, 1), xlabel="share of the units")
        ax.invert_yaxis()
        fig.legend(loc="outside upper center", ncols=3)
    return fig


def shares(rows: pd.DataFrame) -> tuple:
    """Return the fractions of each index's units that are distinct, copies and dead.

    rows: rows of the table of `audit`, one for each set of units. The result is three
    pandas Series, which add up to 1 in each row.
    """
    units, rank = rows.units.astype(float), rows["rank"].astype(float)
    dead = rows.dead.astype(float).fillna(units - rank)  # a rotation has no units
    works = rank.fillna(units - dead)  # units that cannot be exchanged have no copies
    return works / units, (units - works - dead) / units, dead / units


def _written(table: pd.DataFrame, stem: Path) -> list[Path]:
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(stem.name + ".csv")]
    table.to_csv(paths[0], index=False)
    if not table.symmetry.isin(["none", "unknown"]).all():
        paths.append(stem.with_name(stem.name + ".png"))
        figure(table).savefig(paths[1], dpi=200)
    return paths


def _name(parameters: str) -> str:
    """The first axis in at most NAME characters, the middle left out."""
    first = parameters.split(", ")[0]
    if len(first) <= NAME:
        return first
    return f"{first[: NAME // 2]}…{first[1 - NAME // 2 :]}"


def _own(f, module) -> bool:
    return callable(f) and getattr(f, "__module__", "") == module.__name__


def _kind(x) -> str:
    """'a tuple of 2', 'None', 'a Linear'."""
    if x is None:
        return "None"
    many = f" of {len(x)}" if isinstance(x, tuple | list) else ""
    return f"{type(x).__name__}{many}"
