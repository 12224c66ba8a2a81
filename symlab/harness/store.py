"""One Parquet file per experiment and scale, one row per run, for `pd.read_parquet`.

A finished chunk becomes an immutable part file (written under another name in the same
folder, then renamed), and parts are packed into the one file at the end of every call.
What is on disk is at each moment the union of the file and its parts; a (key, code)
that stands twice counts once, and a run that went well counts before one that failed.

Only packing needs an order between two processes: a lock that the system releases when
its holder dies. Without it, A packs parts {1, 2} while B packs {1, 2, 3} and deletes
them, and A's file replaces B's: part 3 is gone.
"""

import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from symlab.harness.errors import UserError

META = {
    "key": pa.string(),
    "code": pa.string(),
    "status": pa.string(),
    "error": pa.string(),
    "lanes": pa.int64(),
    "wall_s": pa.float64(),
    "device": pa.string(),
    "threads": pa.int64(),
    "versions": pa.string(),
    "git": pa.string(),
    "dirty": pa.bool_(),
    "finished": pa.string(),
}
SCALAR = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
NUMBERS = (  # pairs of types that share a column, as float
    {pa.int64(), pa.float64()},
    {pa.list_(pa.int64()), pa.list_(pa.float64())},
)
MANIFESTS = b"symlab.manifests"


class Store:
    """The rows of one experiment at one scale."""

    def __init__(self, folder: Path, experiment: str):
        self.experiment = experiment
        self.file = folder / f"{experiment}.parquet"
        self.parts = folder / f".{experiment}.parts"
        self._serial = 0

    def read(self) -> pa.Table:
        """Every row on disk, without doubles."""
        tables = [t for t in map(self._read_one, self._files()) if t is not None]
        return _merge(tables) if tables else pa.schema(META).empty_table()

    def frame(self, code: str | None = None) -> pd.DataFrame:
        """Rows on disk as pandas: all, or those of one code that went well.

        Columns that only other rows have are left out, so that a column has the type
        that its runs gave it.
        """
        table = self.read()
        if code is not None:
            current = pc.and_(
                pc.equal(table["code"], code), pc.equal(table["status"], "ok")
            )
            table = table.filter(current)
            table = table.select(
                [n for n in table.column_names
                 if n in META or table[n].null_count < len(table)])  # fmt: skip
        return table.to_pandas()

    def write_part(self, rows: list[dict], manifests: dict) -> None:
        """Make finished rows safe on disk; a few milliseconds."""
        table = self.with_manifests(_table(rows), manifests)
        self._serial += 1
        name = f"{time.time_ns()}-{os.getpid()}-{self._serial}.parquet"
        write_table(table, self.parts / name)

    def pack(self) -> None:
        """Fold the parts into the one file; left undone if others hold the lock."""
        if not self._part_files():
            return
        with suppress(Timeout), FileLock(self.parts / ".lock", timeout=60):
            parts = self._part_files()
            tables = [self._read_one(f) for f in (self.file, *parts)]
            tables = [t for t in tables if t is not None]
            if parts and tables:
                write_table(_merge(tables), self.file)
                for part in parts:
                    part.unlink(missing_ok=True)

    @staticmethod
    def with_manifests(table: pa.Table, manifests: dict) -> pa.Table:
        """The table with {code: manifest} in its metadata."""
        return table.replace_schema_metadata({MANIFESTS: json.dumps(manifests)})

    def _part_files(self) -> list[Path]:
        return sorted(p for p in self.parts.glob("*.parquet") if p.name[0] != ".")

    def _files(self) -> list[Path]:
        # The file last: a part that is packed meanwhile is in it by then.
        return [*self._part_files(), self.file]

    def _read_one(self, path: Path) -> pa.Table | None:
        """A whole file; one that is no results file is moved aside, and said so."""
        try:
            # From memory: pyarrow opens a path twice; it may be replaced in between.
            source = pa.BufferReader(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None  # packed by another process since we listed it, or none yet
        except OSError as error:
            raise UserError(
                f"cannot read {path} ({error.strerror}): nothing was changed"
            ) from None
        try:
            table = pq.ParquetFile(source).read()
            if missing := {"key", "code", "status"} - set(table.column_names):
                raise ValueError(f"no columns {sorted(missing)}")
            return table
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, ValueError) as e:
            aside = path.with_suffix(f".damaged-{time.time_ns()}")
            with suppress(OSError):
                path.rename(aside)
            reason = str(e).split("\n")[0][:120]
            print(
                f"{path} is damaged ({reason}): moved aside to {aside.name}, "
                "its runs are done again",
                file=sys.stderr,
            )
            return None


def _table(rows: list[dict]) -> pa.Table:
    """Rows as a typed table; a column that a row lacks is null (NaN in pandas)."""
    names = list(dict.fromkeys(n for row in rows for n in row))
    schema = pa.schema(
        [(n, META.get(n) or column_type(n, [r.get(n) for r in rows])) for n in names]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def column_type(name: str, values: list) -> pa.DataType:
    """The Arrow type of Python values: int and float make float, others must agree."""
    types = {value_type(name, v) for v in values if v is not None}
    if types in NUMBERS:
        return next(t for t in types if "double" in str(t))
    if len(types) > 1:
        raise TypeError(
            f"column {name!r} holds {' and '.join(sorted(map(str, types)))}"
            ": return one type in every row"
        )
    return types.pop() if types else pa.null()


def value_type(name: str, value) -> pa.DataType:
    """The Arrow type of one result: a scalar or a 1-D list of scalars."""
    if type(value) in SCALAR:
        return SCALAR[type(value)]
    if type(value) is list and all(type(v) in SCALAR for v in value):
        return pa.list_(column_type(name, value) if value else pa.float64())
    raise TypeError(
        f"column {name!r} holds a {type(value).__name__}: return int, "
        "float, bool, str or a 1-D list of them"
    )


def plain(value):
    """Numpy scalars and 1-D arrays or lists as the Python values the store holds."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _merge(tables: list[pa.Table]) -> pa.Table:
    """One table without doubles: ok before failed, then the one that finished last."""
    found: dict = {}
    for table in tables:
        found |= manifests(table)
    try:
        merged = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(
            f"rows of different code cannot share a table ({error}): move "
            "the old results file away"
        ) from None
    order = ("key", "code", "status", "finished")
    best: dict[tuple, tuple] = {}
    for i, (key, code, status, finished) in enumerate(
        zip(*(merged[name].to_pylist() for name in order), strict=True)
    ):
        rank = (status == "ok", finished, i)
        best[key, code] = max(best.get((key, code), rank), rank)
    kept = merged.take(pa.array(sorted(i for *_, i in best.values()), pa.int64()))
    return Store.with_manifests(kept, found)


def manifests(table: pa.Table) -> dict[str, dict[str, str]]:
    """code -> manifest, for every version of the code that has rows."""
    return json.loads((table.schema.metadata or {}).get(MANIFESTS, b"{}"))


def write_table(table: pa.Table, path: Path) -> None:
    """Write all of it or nothing, with a sentence when the disk does not take it."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(".tmp", ".", path.parent)
        os.close(handle)
        pq.write_table(table, temporary, compression="zstd")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise UserError(
            f"cannot write {path.parent} ({error.strerror or error}): free space there "
            "or set SYMLAB_RESULTS to a folder that can be written; finished "
            "runs are kept"
        ) from None
