"""Which code was reached last time, kept in a file and used while it is still true.

Following the names of one experiment takes 0.3 s, and nothing changes between most
calls. So the answer is kept under results/.reached, together with every question that
was put to the file system: which file each name of a module led to, or that it led to
none, and a hash of the file's content. An answer counts only where all these questions
have the same answers again, for the same Python, the same search path and the same
source of the code that follows names. Times and sizes of files are not looked at. The
small pictures of the report are kept beside it, by their content.
"""

import builtins
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from symlab.harness import files
from symlab.harness.errors import UserError
from symlab.harness.source import STANDARD, Finder

FOLDER = ".reached"  # below the results
MOST = 500  # files of a kind that are kept; the oldest go
FOLLOWING = ("code", "effects", "remembered", "scope", "sharing", "source", "syntax")
HERE = Path(__file__).parent
OWN = [sha256((HERE / f"{m}.py").read_bytes()).hexdigest() for m in FOLLOWING]
# hashed when this is imported: a process goes on with the code that it has


@dataclass(frozen=True)
class Place:
    """Where a module lies and what is in its file, without a look at its statements."""

    path: Path | None
    folders: tuple[Path, ...]
    digest: str

    @classmethod
    def of(cls, _name: str, path: Path | None, source: bytes, folders: tuple):
        """Return the place of a module; arguments as of `source.Module`."""
        return cls(path, folders, sha256(source).hexdigest()[:16])


class Answer:
    """The answer to one question: what names of a module reach. It is a dictionary of
    what JSON can hold.

    root, module, names, data: as of `code.reach`.
    """

    def __init__(self, root: Path, module: str, names: list[str], data: list[str]):
        self.root, self.data = root, data
        asked = [str(root), module, names, data, sys.version, sys.path]
        asked += [OWN, sorted(map(str, STANDARD)), sorted(dir(builtins))]
        self.name = sha256(json.dumps(asked).encode()).hexdigest()
        self.file = folder(root) / f"{self.name[:32]}.json"

    def recall(self) -> dict | None:
        """Return what was reached, None where nothing is kept or something changed."""
        try:
            kept = json.loads(self.file.read_bytes())
            sealed, told = kept["seal"], kept["told"]
            if sealed != self._seal(told):
                return None
            finder = Finder(self.root, Place.of)
            for name, place in told["places"].items():
                if _said(finder.module(name)) != place:
                    return None
            return told["answer"] if told["data"] == self._data() else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def keep(self, finder: Finder, answer: dict) -> None:
        """Keep what was reached for the next call, where there is a folder of results.

        finder: the one that was asked, with all that it found. A folder that cannot be
        written costs time and nothing else.
        """
        if not self.file.parent.parent.is_dir():
            return
        places = {name: _said(m) for name, m in finder.modules.items()}
        with suppress(OSError, UserError):
            told = {"places": places, "data": self._data(), "answer": answer}
            text = json.dumps({"seal": self._seal(told), "told": told})
            files.write([text.encode()], self.file)
            _keep_few(self.file)

    def _data(self) -> list[str]:
        """A hash of the content of each file in `data`."""
        return [sha256((self.root / n).read_bytes()).hexdigest() for n in self.data]

    def _seal(self, told: dict) -> str:
        """A hash of the question and of what is kept for it: a damaged file has
        another.
        """
        text = json.dumps([self.name, told], sort_keys=True)
        return sha256(text.encode()).hexdigest()


def _said(module) -> list[str] | None:
    """What the file system said of a name: path, content, where submodules lie."""
    if module is None:
        return None
    return [str(module.path), module.digest, *map(str, module.folders)]


def folder(root: Path) -> Path:
    """Return where a project's answers are kept; root: its folder."""
    return Path(os.environ.get("SYMLAB_RESULTS") or root / "results") / FOLDER


def picture(root: Path, source: bytes, make: Callable[[], bytes]) -> bytes:
    """Return what make() returns, from memory where it was made before.

    root: the project's folder. source: all that the result depends on.
    """
    file = folder(root) / f"{sha256(source).hexdigest()[:32]}.png"
    with suppress(OSError):
        kept = file.read_bytes()
        if sha256(kept[32:]).digest() == kept[:32]:
            return kept[32:]
    made = make()
    if file.parent.parent.is_dir():
        with suppress(OSError, UserError):
            files.write([sha256(made).digest(), made], file)
            _keep_few(file)
    return made


def _keep_few(file: Path) -> None:
    """Remove the oldest files of this kind where there are more than MOST."""
    found = [p for p in file.parent.iterdir() if p.suffix == file.suffix]
    if len(found) > MOST:
        found.sort(key=lambda p: p.stat().st_mtime)
        for path in found[: MOST // 10]:
            path.unlink(missing_ok=True)
