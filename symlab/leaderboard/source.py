"""The public logs of the benchmark, from a folder or from its repository; their digest.

  SYMLAB_DATA/leaderboard/curves.parquet   one row per evaluation (logs.curves)
  SYMLAB_DATA/leaderboard/entries.csv      one row per submission (logs.table)

Both files are made from the repository at COMMIT (MIT licence). With SYMLAB_DOWNLOAD=1
they are made if they are missing; the download is the whole repository, some 60 MB.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.request import urlopen

import pandas as pd

from symlab.leaderboard import logs

COMMIT = "f411b3d346aa52d3504324ca93c230fd84c6c07f"
ADDRESS = f"https://codeload.github.com/KellerJordan/modded-nanogpt/tar.gz/{COMMIT}"
FOLDER = "records/track_3_optimization/"
RESULTS = FOLDER + "results/"
FILES = ("curves.parquet", "entries.csv")
DIGEST = "b50f0be07650a983"


@dataclass(frozen=True)
class Logs:
    """Evaluations of all runs, and the table of submissions.

    curves: a frame with the columns logs.COLUMNS, losses in nats.
    entries: a frame with the columns of `logs.table`.
    """

    curves: pd.DataFrame
    entries: pd.DataFrame

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of all numbers that are used.

        These are the steps and losses of every run, and the published steps, means and
        numbers of runs.
        """
        parts = [
            self.curves[list(logs.COLUMNS)].sort_values(["log", "run", "step"]),
            self.entries[["entry", "steps", "mean_loss", "n", "log"]],
        ]
        text = "".join(p.to_csv(index=False, float_format="%.5f") for p in parts)
        return sha256(text.encode()).hexdigest()[:16]


def stored() -> Logs:
    """Return the logs in SYMLAB_DATA; download them if missing and SYMLAB_DOWNLOAD=1.

    Raises FileNotFoundError if they are absent, and ValueError if they are not those of
    COMMIT.
    """
    folder = Path(os.environ.get("SYMLAB_DATA") or "data") / "leaderboard"
    if not all((folder / name).is_file() for name in FILES):
        if os.environ.get("SYMLAB_DOWNLOAD") != "1":
            raise FileNotFoundError(
                f"no logs of the optimization benchmark in {folder}: set SYMLAB_DATA "
                f"to a folder with leaderboard/{FILES[0]}, or SYMLAB_DOWNLOAD=1"
            )
        _write(download(ADDRESS), folder)
    found = read(folder)
    if found.digest != DIGEST:
        raise ValueError(
            f"the logs in {folder} are not those of commit {COMMIT[:8]} (their digest "
            f"is {found.digest}, not {DIGEST}): remove the folder and set "
            "SYMLAB_DOWNLOAD=1"
        )
    return found


def read(folder: Path) -> Logs:
    """Return the logs in a folder that has both files of FILES."""
    curves, entries = (folder / name for name in FILES)
    return Logs(pd.read_parquet(curves), pd.read_csv(entries))


def download(address: str) -> Logs:
    """Return the logs in a gzipped tar archive of the repository, read as it arrives.

    address: the URL of the archive.

    Raises ValueError if the archive has no table of submissions.
    """
    with (
        urlopen(address, timeout=60) as stream,
        tarfile.open(fileobj=stream, mode="r|gz") as archive,
    ):
        texts = dict(_texts(archive))
    entries = logs.table(texts.pop("README.md", ""))
    if entries.empty:
        raise ValueError(
            f"{address} has no table of submissions in {FOLDER}README.md: the "
            "repository's form has changed, and symlab.leaderboard must follow it"
        )
    return Logs(logs.curves(texts.items()), entries)


def _texts(archive: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    """Yield (path below the results, text) of the logs, and the table's README."""
    for member in archive:
        path = member.name.partition("/")[2]  # without the name of the repository
        readme = path == FOLDER + "README.md"
        log = path.startswith(RESULTS) and path.endswith(logs.SUFFIXES)
        if member.isfile() and (readme or log):
            content = archive.extractfile(member).read()
            name = "README.md" if readme else path.removeprefix(RESULTS)
            yield name, content.decode("utf-8", "replace")


def _write(found: Logs, folder: Path) -> None:
    """Write FILES; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(FILES, (found.curves, found.entries), strict=True):
        part = folder / f"{name}.part"
        if name.endswith(".csv"):
            frame.to_csv(part, index=False)
        else:
            frame.to_parquet(part, index=False)
        os.replace(part, folder / name)
