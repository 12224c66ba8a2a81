"""A cache of which code the experiments reach, and of small pictures for the report.

Following the names of one experiment takes 0.3 s, and between most calls nothing
changes. So the result is kept under results/.reached, together with everything that was
looked up in the file system: which file each module name led to, or that it led to
none, and a hash of the file's content. A kept result is used only if every such look-up
has the same result again, for the same Python, the same search path and the same source
of the code that follows names. Times and sizes of files are not compared. The small
pictures of the report are kept in the same folder, by a hash of what they are made
from.
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
    """Where a module's file is, and a hash of its content, without parsing it."""

    path: Path | None
    folders: tuple[Path, ...]
    digest: str

    @classmethod
    def of(cls, _name: str, path: Path | None, source: bytes, folders: tuple):
        """Return the place of a module; the arguments are those of `source.Module`."""
        return cls(path, folders, sha256(source).hexdigest()[:16])


class Answer:
    """The kept result of one call of `code.reach`: a dictionary that JSON can hold.

    root, module, names, data: the arguments of that call.
    """

    def __init__(self, root: Path, module: str, names: list[str], data: list[str]):
        self.root, self.data = root, data
        asked = [str(root), module, names, data, sys.version, sys.path]
        asked += [OWN, sorted(map(str, STANDARD)), sorted(dir(builtins))]
        self.name = sha256(json.dumps(asked).encode()).hexdigest()
        self.file = folder(root) / f"{self.name[:32]}.json"

    def recall(self) -> dict | None:
        """Return the kept result; None if there is none, or if it is no longer valid.

        It is not valid if a module's place or content, or a data file, has changed
        since.
        """
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
        """Keep a result for the next call, if there is a folder of results.

        finder: the `source.Finder` that was used, which has all modules that it found.
        answer: the result.

        If the folder cannot be written, nothing is kept and no error is raised.
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
    """Return the folder in which a project's results of `code.reach` are kept.

    root: the project's folder.
    """
    return Path(os.environ.get("SYMLAB_RESULTS") or root / "results") / FOLDER


def picture(root: Path, source: bytes, make: Callable[[], bytes]) -> bytes:
    """Return the bytes that make() returns, from disk if they were made before.

    root: the project's folder.
    source: all data on which the result depends; their hash is the name of the kept
        file.
    make: a function that makes the picture.
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
