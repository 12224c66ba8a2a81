"""Trees of results to be compared: folders and archives, which are only read.

A tree is a folder such as results/ or results/reference, which has a folder for each
scale; or the folder of one scale; or an archive that `symlab archive` wrote.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from symlab.harness import archive, files, store
from symlab.harness.errors import UserError
from symlab.harness.sweep import SCALES

Name = tuple[str, str]  # scale, experiment


@dataclass
class Tree:
    """The result rows of one folder or archive, to be compared with another.

    name: the path of the folder or archive.
    tables: {(scale, experiment): all rows}.
    doubled: {(scale, experiment): keys of runs that occur twice in one file with the
        same code}.
    broken: {(scale, experiment): a sentence on why the file could not be read}.
    """

    name: str
    tables: dict[Name, pa.Table] = field(default_factory=dict)
    doubled: dict[Name, set[str]] = field(default_factory=dict)
    broken: dict[Name, str] = field(default_factory=dict)


def tree(path: Path) -> Tree:
    """Return the rows of a folder of results, or of an archive; nothing is changed.

    Raises UserError if there is no such folder or archive, or if it holds no rows.
    """
    if path.is_file():
        found = Tree(str(path))
        opened = archive.read(path)
        for scale, name in opened.rows:
            try:
                table = found.tables[scale, name] = opened.table(scale, name)
                found.doubled[scale, name] = _doubled(table)
            except UserError as error:
                found.broken[scale, name] = str(error)
    elif path.is_dir():
        found = _folder(path)
    else:
        raise UserError(f"there is no folder or archive {path}: name one that has rows")
    if not found.tables and not found.broken:
        raise UserError(
            f"{path} holds no rows: name a folder such as results or "
            "results/reference, one of its scales, or an archive"
        )
    return found


def _folder(path: Path) -> Tree:
    found = Tree(str(path))
    scales = {s: path / s for s in SCALES if (path / s).is_dir()}
    scales = scales or {path.name if path.name in SCALES else "": path}
    for scale, folder in scales.items():
        names = {p.stem for p in folder.glob("*.parquet") if p.name[0] != "."}
        parts = (p.parent.name for p in folder.glob(".*.parts/*.parquet"))
        names |= {p.removeprefix(".").removesuffix(".parts") for p in parts}
        for name in sorted(names):
            source = _Untouched(folder, name)
            try:
                found.tables[scale, name] = source.read()
                found.doubled[scale, name] = source.doubled
            except UserError as error:
                found.broken[scale, name] = str(error)
    return found


def _doubled(table: pa.Table) -> set[str]:
    rows = table.select(["key", "code"]).to_pandas(use_threads=False)
    return set(rows.key[rows.duplicated()])


class _Untouched(store.Store):
    """A store that is only read: a damaged file stays where it is, and is an error.

    doubled: keys of runs that stand twice in one of the files that were read.
    """

    def __init__(self, folder: Path, experiment: str):
        super().__init__(folder, experiment)
        self.doubled: set[str] = set()

    def _read_one(self, path: Path) -> pa.Table | None:
        data = store.bytes_of(path)
        if data is None:
            return None
        try:
            table = store.checked(files.read_table(data))
            self.doubled |= _doubled(table)
            return table
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            reason = str(error).split("\n")[0][:120] or type(error).__name__
            raise UserError(f"{path} cannot be read ({reason})") from None

    def _read_manifest(self, path: Path) -> dict:
        return {}  # what the code was made of: no row depends on it
