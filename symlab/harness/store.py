"""Storage of result rows: one Parquet file per experiment and scale, one row per run.

`pd.read_parquet` reads the file. A finished chunk of runs becomes an immutable part
file (written under another name in the same folder, then renamed), and parts are packed
into the one file at the end of every call. The rows on disk are at any moment those of
the file and its parts together; if a (key, code) occurs twice, it counts once, and a
run that succeeded takes precedence over one that failed. Parts are numbered, so that a
later row is recognised by its number and not by a clock. The manifest of a row's code
(which definitions it was made of) is stored once beside the parts, not in each.

Only packing needs an order between two processes: a lock that the system releases when
its holder dies. Without it, A packs parts {1, 2} while B packs {1, 2, 3} and deletes
them, and A's file replaces B's: part 3 is lost.
"""

import json
import sys
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout

from symlab.harness import columns, files
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
    "cpu": pa.string(),
    "blas": pa.string(),
    "system": pa.string(),
    "claims_digest": pa.string(),
    "git": pa.string(),
    "dirty": pa.bool_(),
    "finished": pa.string(),
}
MANIFESTS = b"symlab.manifests"


class Store:
    """The result rows of one experiment at one scale, on disk.

    folder: the folder of the scale. experiment: the name of the experiment.
    """

    def __init__(self, folder: Path, experiment: str):
        self.experiment = experiment
        self.file = folder / f"{experiment}.parquet"
        self.parts = folder / f".{experiment}.parts"
        self._serial = 0
        self._explained: set[str] = set()  # codes whose manifest is on disk
        self._seen: list[tuple] | None = None  # the files of the table below
        self._table = pa.schema(META).empty_table()

    def read(self) -> pa.Table:
        """Return all rows on disk, one for each run and version of the code.

        The column `key` identifies the run and `code` the version. Files that changed
        since the last call are read again.
        """
        there = self._identities()
        if there != self._seen:
            self._table, self._seen = self._read_all(), there
        return self._table

    def frame(
        self, code: str | None = None, configs: dict[str, dict] | None = None
    ) -> pd.DataFrame:
        """Return all rows on disk as a frame, or the successful rows of one version of
        the code.

        code: the version, as in the column `code`; None for all rows.
        configs: {key: config} of the wanted runs; None for all.
        """
        if code is None:
            return self.read().to_pandas(use_threads=False)
        return self.current(code, configs).to_pandas(use_threads=False)

    def current(self, code: str, configs: dict[str, dict] | None = None) -> pa.Table:
        """Return the rows of successful runs that one version of the code made.

        code: the version, as in the column `code`.
        configs: {key: config} of the wanted runs, whose columns then have the types of
            the config's fields; None for all runs.

        Columns that only other rows have are left out, and each column has the type and
        the name that its runs gave it, even if rows of older code have another type.
        """
        table = self.read()
        asked = pc.and_(pc.equal(table["code"], code), pc.equal(table["status"], "ok"))
        if configs is not None:
            keys = pa.array(list(configs), pa.string())
            asked = pc.and_(asked, pc.is_in(table["key"], keys))
        table = columns.named(table.filter(asked), META)
        for name, value in next(iter((configs or {}).values()), {}).items():
            if name in table.column_names:  # a float column may hold ints
                i, arrow = table.column_names.index(name), columns.arrow_of(value)
                table = table.set_column(i, name, table[name].cast(arrow))
        return table

    def write_part(self, rows: list[dict], manifests: dict) -> None:
        """Write rows of finished runs to disk as a file of their own, in a few
        milliseconds.

        rows: dicts.
        manifests: {code key: {name of a definition: hash of its source}} for the code
            that made the rows; each is written once, beside these files.
        """
        for code, manifest in manifests.items():
            if code not in self._explained:
                self._explain(code, manifest)
        if not self._serial:
            self._serial = max([0, *map(_number, self._part_files())])
        self._serial += 1
        name = f"{self._serial:09}-{uuid4().hex[:16]}.parquet"
        files.write_table(columns.table_of(rows, META), self.parts / name)

    def pack(self) -> None:
        """Merge the files that `write_part` wrote into the experiment's one file.

        Nothing happens if another process holds the lock for 60 s, or if the folder
        cannot be written.
        """
        files.remove_abandoned(self.parts, "*")
        files.remove_abandoned(self.file.parent, self.file.name)
        if not self._part_files():
            return
        # OSError: the folder cannot be written, and its files are read as they are
        with suppress(Timeout, OSError), FileLock(self.parts / ".lock", timeout=60):
            folded = [*self._part_files(), *self._manifest_files()]
            table = self.read()  # these and what was written since
            if table.num_rows:
                files.write_table(table, self.file, durable=True)
                for part in folded:
                    part.unlink(missing_ok=True)

    @staticmethod
    def with_manifests(table: pa.Table, manifests: dict) -> pa.Table:
        """Return the table with manifests in its metadata.

        manifests: {code key: {name of a definition: hash of its source}}.
        """
        return table.replace_schema_metadata({MANIFESTS: json.dumps(manifests)})

    def check(self) -> None:
        """Raise UserError if rows could not be written to disk; called before the first
        run.
        """
        probe = self.parts / ".probe"
        files.write([b"may be removed"], probe)
        probe.unlink(missing_ok=True)

    def _explain(self, code: str, manifest: dict) -> None:
        content = {"code": code, "manifest": manifest}
        text = json.dumps(content | {"sha256": _seal(content)}).encode()
        files.write([text], self.parts / f"{code}.json")
        self._explained.add(code)

    def _part_files(self) -> list[Path]:
        """In the order of their numbers, whatever the clock said."""
        found = [p for p in self.parts.glob("*.parquet") if p.name[0] != "."]
        return sorted(found, key=lambda p: (_number(p), p.name))

    def _manifest_files(self) -> list[Path]:
        return sorted(self.parts.glob("*.json"))

    def _identities(self) -> list[tuple]:
        """What tells a version of each file from another, without reading it."""
        found = []
        for path in (*self._part_files(), *self._manifest_files(), self.file):
            with suppress(OSError):
                s = path.stat()
                found.append((path.name, s.st_size, s.st_mtime_ns, s.st_ino))
        return found

    def _read_all(self) -> pa.Table:
        # The file last: a part that is packed meanwhile is in it by then. In the
        # table it comes first: parts are newer.
        found: dict = {}
        for path in self._manifest_files():
            found |= self._read_manifest(path)
        parts = [self._read_one(path) for path in self._part_files()]
        tables = [t for t in (self._read_one(self.file), *parts) if t is not None]
        for table in tables:
            found |= manifests(table)
        if not tables:
            return pa.schema(META).empty_table()
        return self.with_manifests(_merge(tables), found)

    def _read_manifest(self, path: Path) -> dict[str, dict[str, str]]:
        """{code: manifest}; a damaged one only costs the reason why rows are stale."""
        data = bytes_of(path)
        if data is None:
            return {}
        try:
            content = json.loads(data)
            if content.pop("sha256") != _seal(content):
                raise ValueError("its bytes are not those that were written")
            return {content["code"]: content["manifest"]}
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as e:
            self._explained.discard(path.stem)
            _put_aside(path, e, "of its rows it is not known what code made them")
            return {}

    def _read_one(self, path: Path) -> pa.Table | None:
        """A whole file; one that is no results file is moved aside, and said so."""
        data = bytes_of(path)
        if data is None:
            return None
        if data.startswith(b"version https://git-lfs.github.com/"):
            raise UserError(
                f"{path} is a pointer of Git LFS in place of its content: fetch it "
                "with `git lfs pull`, or delete it to run everything anew; nothing was "
                "changed"
            )
        try:
            return checked(files.read_table(data))
        except MemoryError:
            raise UserError(
                f"cannot read {path}, as memory is short: nothing was changed"
            ) from None
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as e:
            _put_aside(path, e, "its runs are done again")
            return None


def bytes_of(path: Path) -> bytes | None:
    """Return the bytes of a file; None if it does not exist, or no longer.

    Raises UserError if it cannot be read.
    """
    try:
        # From memory: pyarrow opens a path twice; it may be replaced in between.
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None  # packed by another process since we listed it, or none yet
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}): nothing was changed"
        ) from None


def _put_aside(path: Path, error: Exception, loss: str) -> None:
    """Rename a damaged file, so that it is not read again, and say what that costs."""
    aside = path.with_suffix(f".damaged-{time.time_ns()}")
    moved = f"moved aside to {aside.name}"
    try:
        path.rename(aside)
    except OSError as e:
        moved = f"it cannot be moved aside ({e.strerror}) and is left out"
    reason = str(error).split("\n")[0][:120] or type(error).__name__
    print(f"{path} is damaged ({reason}): {moved}, {loss}", file=sys.stderr)


def _seal(content: dict) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _number(part: Path) -> int:
    first = part.name.split("-")[0]
    return int(first) if first.isdecimal() else 0


def checked(table: pa.Table) -> pa.Table:
    """Return a table of rows, with its columns of META converted to their types.

    Raises ValueError if it lacks one of the columns key, code and status, or has two
    columns of one name.
    """
    if missing := {"key", "code", "status"} - set(table.column_names):
        raise ValueError(f"no columns {sorted(missing)}")
    if len(set(table.column_names)) < len(table.column_names):
        raise ValueError("two columns have the same name")
    for i, name in enumerate(table.column_names):
        if name in META and table.schema.types[i] != META[name]:
            table = table.set_column(i, name, table.column(i).cast(META[name]))
    return table


def _merge(tables: list[pa.Table]) -> pa.Table:
    """One table without doubles: ok before failed, then the later in the tables.

    So a row that went well is never lost to one that failed: FRESH=1 whose runs all
    fail says so, and leaves the rows of the same code as they were.
    """
    merged, places = columns.union(tables)
    rows = merged.select(["key", "code"]).to_pandas(use_threads=False)
    ok = pc.fill_null(pc.equal(merged["status"], "ok"), False)
    rows["ok"], rows["place"] = ok.to_numpy(), places
    later = rows.sort_values(["ok", "place"])
    best = later.drop_duplicates(["key", "code"], keep="last").sort_values("place")
    kept = best.index.to_numpy()
    return merged if best.index.equals(rows.index) else merged.take(kept)


def manifests(table: pa.Table) -> dict[str, dict[str, str]]:
    """Return which code made the rows of a table, from the table's metadata.

    The result is {code key: {name of a definition: hash of its source}}, for every
    version of the code that has rows.
    """
    return json.loads((table.schema.metadata or {}).get(MANIFESTS, b"{}"))
