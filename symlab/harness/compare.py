"""Comparison of two sets of result rows: which runs both have, and how far they differ.

The two are called trees A and B; each is a folder or an archive of results. Rows of A
and B are compared if they are of the same run (`key`) and the same code, or, without
such a pair, if each tree has a single row of the run. Further rows of a run that has a
partner were made by other versions of the code: they are counted and not compared.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa

from symlab.harness import columns, store
from symlab.harness.differences import BEYOND, EQUAL, WITHIN, Tolerance, apart
from symlab.harness.errors import UserError, nearest
from symlab.harness.trees import Name, Tree

IDENTITY = ("key", "code", "error")  # these say which row it is, or hold paths
PROVENANCE = tuple(name for name in store.META if name not in (*IDENTITY, "status"))


@dataclass
class Compared:
    """The result of comparing two trees for one experiment at one scale.

    rows: {outcome: number of rows}, for the outcomes in COUNTED.
    columns: a frame with one row for each column of results that differs beyond the
        tolerance: the number of rows that differ, the largest absolute and relative
        difference, and the key of the first such run.
    said: sentences on what could not be compared, and on types that differ.
    """

    scale: str
    experiment: str
    rows: dict[str, int]
    columns: pd.DataFrame
    said: list[str] = field(default_factory=list)
    broken: bool = False

    @property
    def same(self) -> bool:
        """Whether both trees have the same rows, which agree within the tolerance."""
        differ = ("only in A", "only in B", "beyond", "unclear")
        return not self.broken and not any(self.rows[what] for what in differ)


COUNTED = (
    "equal", "within", "beyond", "only in A", "only in B", "unclear", "other code",
)  # fmt: skip
DETAILS = ("column", "rows", "absolute", "relative", "first run")


def compare(
    a: Tree,
    b: Tree,
    tolerance: Tolerance,
    names: Collection[str] = (),
    provenance: bool = False,
) -> list[Compared]:
    """Return the comparison of two trees for each experiment and scale.

    a, b: the trees.
    tolerance: the differences that count as agreement.
    names: the experiments to compare; () for all.
    provenance: whether wall time, machine, versions and commit are compared, too.

    Raises UserError for an experiment, or a column with its own tolerance, that neither
    tree has, and for trees without a common scale.
    """
    scales = [{s for s, _ in {*t.tables, *t.broken}} for t in (a, b)]
    if not scales[0] & scales[1]:
        raise UserError(
            f"{a.name} has rows of scale {_named(scales[0])}, and {b.name} of "
            f"{_named(scales[1])}: name two trees that have one in common"
        )
    keys = {*a.tables, *b.tables, *a.broken, *b.broken}
    for name in names:
        if name not in {experiment for _, experiment in keys}:
            raise UserError(nearest(name, {n for _, n in keys}, "experiment"))
    chosen = sorted(k for k in keys if not names or k[1] in names)
    tables = [t[k] for t in (a.tables, b.tables) for k in chosen if k in t]
    known = {columns.original(f) for table in tables for f in table.schema}
    for column in tolerance.columns:
        if column not in known:
            raise UserError(nearest(column, known, "column"))
    skipped = {*IDENTITY, *(() if provenance else PROVENANCE)}
    return [_experiment(a, b, key, tolerance, skipped) for key in chosen]


def _named(scales: Iterable[str]) -> str:
    return " and ".join(sorted(s or "unknown" for s in scales))


def _experiment(
    a: Tree, b: Tree, key: Name, tolerance: Tolerance, skipped: set[str]
) -> Compared:
    broken = [tree.broken[key] for tree in (a, b) if key in tree.broken]
    if broken:
        rows = dict.fromkeys(COUNTED, 0)
        return Compared(*key, rows, pd.DataFrame(columns=DETAILS), broken, broken=True)
    empty = pa.schema(store.META).empty_table()
    tables = [tree.tables.get(key, empty) for tree in (a, b)]
    doubled = [tree.doubled.get(key, set()) for tree in (a, b)]
    places, rows, said = _paired(*tables, set().union(*doubled))
    rows |= dict.fromkeys(("equal", "within", "beyond"), 0)
    taken = [columns.named(t.take(pa.array(p, pa.int64())), ("key",))
             for t, p in zip(tables, places, strict=True)]  # fmt: skip
    state, details, more = _columns(*taken, tolerance, skipped)
    for word, value in (("equal", EQUAL), ("within", WITHIN), ("beyond", BEYOND)):
        rows[word] = int((state == value).sum())
    ordered = {what: rows[what] for what in COUNTED}
    return Compared(*key, ordered, pd.DataFrame(details, columns=DETAILS), said + more)


def _paired(
    a: pa.Table, b: pa.Table, doubled: set[str]
) -> tuple[list[list[int]], dict, list[str]]:
    """The places of rows that belong together, counts of the others, sentences."""
    places: list[list[int]] = [[], []]
    rows, said = dict.fromkeys(COUNTED[3:], 0), []
    by_run = [_by_run(table) for table in (a, b)]
    for key in dict.fromkeys(k for runs in by_run for k in runs):
        mine, other = (runs.get(key, {}) for runs in by_run)
        if key in doubled:
            said.append(f"run {key} has several rows of one code: none was compared")
            rows["unclear"] += 1
        elif not mine or not other:
            rows["only in B" if other else "only in A"] += 1
        elif shared := mine.keys() & other.keys():
            for code in sorted(shared):
                places[0].append(mine[code])
                places[1].append(other[code])
            rows["other code"] += len(mine) + len(other) - 2 * len(shared)
        elif len(mine) == len(other) == 1:
            places[0] += mine.values()
            places[1] += other.values()
        else:
            said.append(
                f"run {key} has rows of {len(mine)} versions of the code in A and of "
                f"{len(other)} in B, and none of the same: none was compared"
            )
            rows["unclear"] += 1
    return places, rows, said


def _by_run(table: pa.Table) -> dict[str, dict[str, int]]:
    """{key: {code: place}} of the rows of a table."""
    found: dict[str, dict[str, int]] = {}
    pairs = zip(table["key"].to_pylist(), table["code"].to_pylist(), strict=True)
    for i, (key, code) in enumerate(pairs):
        found.setdefault(key, {})[code] = i
    return found


def _columns(a: pa.Table, b: pa.Table, tolerance: Tolerance, skipped: set[str]):
    """The state of each pair of rows, details of columns that differ, sentences."""
    state, details, said = np.full(len(a), EQUAL), [], []
    names = dict.fromkeys([*a.column_names, *b.column_names])
    for name in (n for n in names if n not in skipped):
        lacking = [x for x, t in (("A", a), ("B", b)) if name not in t.column_names]
        mine, other = (
            t[name].combine_chunks() if name in t.column_names else pa.nulls(len(t))
            for t in (a, b)
        )
        found = apart(mine, other, tolerance.of(name))
        np.maximum(state, found.state, out=state)
        beyond = np.flatnonzero(found.state == BEYOND)
        if lacking and len(beyond):
            said.append(f"column {name} has no values in {lacking[0]}")
        elif found.said:
            said.append(f"column {name} {found.said}")
        if len(beyond):
            first = a["key"][int(beyond[0])].as_py()
            details.append((name, len(beyond), found.absolute, found.relative, first))
    return state, details, said


def text(a: Tree, b: Tree, found: Iterable[Compared]) -> str:
    """Return comparisons as a table for the terminal, with a conclusion in its last
    line.

    a, b: the trees. found: what `compare` returned.
    """
    found = list(found)
    rows = [{"scale": c.scale, "experiment": c.experiment} | c.rows for c in found]
    table = pd.DataFrame(rows)
    unused = [w for w in ("unclear", "other code") if not table[w].any()]
    lines = [f"A: {a.name}", f"B: {b.name}", "",
             table.drop(columns=unused).to_string(index=False)]  # fmt: skip
    for c in found:
        title = f"\n{c.experiment} ({c.scale})" if c.scale else f"\n{c.experiment}"
        lines += [title] * bool(c.said or len(c.columns))
        lines += [f"  {sentence}" for sentence in c.said[:10]]
        lines += [f"  and {len(c.said) - 10} more"] * (len(c.said) > 10)
        if len(c.columns):
            shown = c.columns.to_string(index=False, float_format="{:.3g}".format)
            lines.append("  " + shown.replace("\n", "\n  "))
    differ = sum(not c.same for c in found)
    end = f"{differ} of {len(found)} experiments differ" if differ else "no difference"
    return "\n".join([*lines, "", f"{end} beyond the tolerance"])


def record(a: Tree, b: Tree, found: Iterable[Compared]) -> dict:
    """Return comparisons as a dict for JSON, in which infinite numbers are texts.

    a, b: the trees. found: what `compare` returned.
    """
    kept = [
        {"scale": c.scale, "experiment": c.experiment, "same": c.same, "rows": c.rows,
         "columns": [{k: _plain(v) for k, v in row.items()}
                     for row in c.columns.to_dict("records")], "said": c.said}
        for c in found
    ]  # fmt: skip
    return {"a": a.name, "b": b.name, "same": all(c.same for c in found),
            "experiments": kept}  # fmt: skip


def _plain(value):
    """JSON knows no infinity: it becomes a word."""
    infinite = isinstance(value, float) and not np.isfinite(value)
    return str(value) if infinite else value
