"""An archive: one ZIP file with everything that a result rests on, fit for Zenodo.

  results/<scale>/<experiment>.parquet   rows of the sweep, made by the present code
  figures/...                            figures drawn from these rows
  claims.csv, claims.lock                every verdict; what was claimed, and when
  source/...                             the code, its tests and docs
  environment.json, environment.txt      machine and versions; all packages, for pip
  ro-crate-metadata.json                 what each file is (RO-Crate 1.1)
  archive.json                           the version of this format, and the SHA-256 of
                                         each other file

Equal content gives equal bytes: files are in the order of their names, and the time at
which the archive was made is not stored. symlab.load(name, archive=FILE) reads its
rows.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pyarrow as pa

from symlab.harness import columns, files, store
from symlab.harness.errors import UserError, nearest

SCHEMA = 1  # of the form of an archive: a reader knows those up to its own
INDEX = "archive.json"
BEGINNING = (1980, 1, 1, 0, 0, 0)  # the earliest time that a ZIP file can name


def write(path: Path, content: Mapping[str, bytes], about: dict) -> None:
    """Write an archive to a new file; an existing file is never replaced.

    content: {name in the archive: bytes}.
    about: further entries of archive.json, such as the scale of the rows.

    Raises UserError if the file exists or cannot be written.
    """
    digests = {name: sha256(data).hexdigest() for name, data in content.items()}
    index = {"schema": SCHEMA, **about, "sha256": digests}
    whole = _zipped({**content, INDEX: text(index)})
    try:
        with path.open("xb") as file:
            try:
                file.write(whole)
            except BaseException:
                path.unlink()  # a part of an archive is none
                raise
    except FileExistsError:
        raise UserError(
            f"{path} exists and is left as it is: give another name, or delete it"
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}): name a file in a folder that "
            "exists and has space"
        ) from None


def text(record: dict) -> bytes:
    """Return a dict as JSON; equal dicts give equal bytes."""
    return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()


def _zipped(content: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name, data in sorted(content.items()):
            about = zipfile.ZipInfo(name, BEGINNING)
            about.external_attr = 0o644 << 16
            about.create_system = 3  # Unix, on every system
            packed = Path(name).suffix in (".parquet", ".png", ".pdf")
            about.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            file.writestr(about, data)
    return made.getvalue()


def read(path: Path) -> "Archive":
    """Return the archive in a file.

    Raises UserError if the file is not an archive, is damaged, or has a format that
    this version of symlab does not know.
    """
    if not path.is_file():
        raise UserError(f"there is no archive {path}: `symlab archive {path}` makes it")
    opened = Archive(path, {})
    try:
        index = json.loads(opened.raw(INDEX))
        schema = index["schema"]
        if schema != SCHEMA:
            raise UserError(
                f"{path} has the form {schema}, and this symlab reads form {SCHEMA}: "
                "use the version of symlab in its folder source"
            )
        digests = {str(k): str(v) for k, v in index["sha256"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path} is no archive of symlab: its {INDEX} is not readable"
        ) from None
    return Archive(path, digests)


@dataclass(frozen=True)
class Archive:
    """An archive on disk, to be read.

    digests: {name of a file in it: its SHA-256}.
    """

    path: Path
    digests: dict[str, str]

    @cached_property
    def rows(self) -> list[tuple[str, str]]:
        """The pairs (scale, experiment) of all tables of rows in the archive,
        sorted.
        """
        names = [Path(n) for n in self.digests if n.startswith("results/")]
        return sorted((p.parent.name, p.stem) for p in names if p.suffix == ".parquet")

    def table(self, scale: str, experiment: str) -> pa.Table:
        """Return the rows of one experiment as an Arrow table.

        Raises UserError, which lists the names that exist, if the archive has no such
        table.
        """
        if scale not in (scales := {s for s, _ in self.rows}):
            raise UserError(f"{self.path}: {nearest(scale, scales, 'scale')}")
        known = {name for s, name in self.rows if s == scale}
        if experiment not in known:
            raise UserError(f"{self.path}: {nearest(experiment, known, 'experiment')}")
        data = self.bytes(f"results/{scale}/{experiment}.parquet")
        try:
            return store.checked(files.read_table(data))
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError):
            raise self._damaged(f"{experiment}.parquet") from None

    def frame(self, scale: str, experiment: str) -> pd.DataFrame:
        """Return the rows of one experiment as a frame, in the order of its sweep."""
        table = columns.named(self.table(scale, experiment), store.META)
        return table.to_pandas(use_threads=False).infer_objects()

    def bytes(self, name: str) -> bytes:
        """Return the content of a file in the archive, by its name there.

        Raises UserError if the content is not what was packed.
        """
        data = self.raw(name)
        if sha256(data).hexdigest() != self.digests.get(name):
            raise self._damaged(name)
        return data

    def raw(self, name: str) -> bytes:
        """Return the content of a file in the archive, checked only by ZIP's own
        checksum.
        """
        try:
            with zipfile.ZipFile(self.path) as file:
                return file.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError,
                RuntimeError):  # fmt: skip
            raise self._damaged(name) from None
        except KeyError:
            raise UserError(
                f"{self.path} is no archive of symlab, or only a part of one: it has "
                f"no {name}"
            ) from None
        except OSError as error:
            raise UserError(f"cannot read {self.path} ({error.strerror})") from None

    def _damaged(self, name: str) -> UserError:
        return UserError(
            f"{self.path} is damaged or is no ZIP file ({name}): fetch or make it again"
        )
