"""What the report said of experiments last time, kept in a file while it is still true.

Judging all claims takes tens of seconds, and nothing changes between most reports. So
the verdicts of each group of experiments that share figures are kept under
results/.reached, by a hash of the content of everything that they can depend on:

- every file of symlab, every other Python file of the project, and its folder data/;
- the experiments of the group, and those whose names occur in their source;
- their rows, committed or not, and the files of their figures;
- the versions of Python and of all installed packages, the system, the search path, the
  environment variables of symlab, and the names of the files in the folder SYMLAB_DATA.

Times and sizes of files are not looked at. Nothing is kept where one of these changed
while claims were judged, where a Python module came from elsewhere, or where a file was
opened that is not among them. Pictures are kept apart (`remembered.picture`).
"""

import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path

from symlab.harness import files, remembered
from symlab.harness.claims import Claim, Paper, Smallest, Verdict
from symlab.harness.errors import UserError
from symlab.harness.project import Project
from symlab.harness.source import third_party
from symlab.harness.stats import Interval

SYMLAB = Path(__file__).resolve().parents[1]
CODE = (".py", ".so")
FIGURE = ("pdf", "png", "json")
MOST = 300  # files that are kept; the oldest go
SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr")  # what libraries ask of the machine
Group = tuple[tuple[str, ...], tuple[str, ...]]  # names of experiments, of figures


@dataclass(frozen=True)
class Ends:
    """Stands for the ends of an interval of which only the P value p is known.

    At the level 1 - alpha they are those of the whole line if alpha <= p, so that no
    limit is excluded; otherwise they are NaN.
    """

    p: float

    def __call__(self, alpha: float) -> tuple[float, float]:
        """Return the ends of the interval of level 1 - alpha."""
        inf, nan = float("inf"), float("nan")
        return (-inf, inf) if alpha <= self.p else (nan, nan)


@dataclass(frozen=True)
class Described:
    """Stands for a claim's estimate where only its description is needed.

    null: as of `estimates.Estimate`.
    """

    phrase: str
    null: float | None = None

    def __call__(self, df):
        """Raise TypeError: the estimate itself was left in another process."""
        raise TypeError(f"this is a description, not an estimate: {self.phrase}")


@dataclass(frozen=True)
class Looked:
    """One experiment in the report: its docstring, its numbers of runs, its verdicts.

    name: of the experiment. title, body: the parts of its docstring.
    done, wanted: how many runs have current rows, and how many there are.
    verdicts: on its claims, whose estimates are replaced by their descriptions.
    """

    name: str
    title: str
    body: str
    done: int
    wanted: int
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Drawn:
    """One figure in the report: its picture as PNG, and where the picture comes from.

    picture: b"" if the drawn file is not of the current rows and code.
    size: width and height in pixels.
    captions: a pair (letter, text) for each panel that has a docstring; the letter is
        "" if it is the only panel.
    record: the origin, as `findings.origin` returns it.
    file: the PNG from which the picture was made, or "".
    """

    name: str
    picture: bytes
    size: tuple[int, int]
    captions: tuple[tuple[str, str], ...]
    record: dict
    file: str = ""


TYPES = {t.__name__: t for t in (Claim, Described, Drawn, Ends, Interval, Looked, Paper,
                                 Smallest, Verdict)}  # fmt: skip


class Memory:
    """The parts of the last report that are kept on disk, for one project and scale.

    A new object is made for each report.
    """

    def __init__(self, project: Project, scale: str):
        self.project, self.scale = project, scale
        self.sources = {p.stem: p.read_bytes() for p in _experiments(project)}
        self.common = _common(project)
        self.names: dict[Group, str] = {}

    def recall(self, group: Group) -> tuple[list[Looked], list[Drawn]] | None:
        """Return the stored parts of the report for a group of experiments that share
        figures: their texts and verdicts, and the figures without their pictures.

        Return None if nothing is stored, or if one of the files or versions that the
        module's docstring lists has changed since.
        """
        self.names[group] = self._name(group)
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            kept = json.loads(self._file(group).read_bytes())
            text = json.dumps(kept["told"])
            if self.common and kept["seal"] == self._seal(group, text):
                return _made(kept["told"])
        return None

    def keep(self, group: Group, looked: list[Looked], drawn: list[Drawn]) -> None:
        """Store the parts of the report for a group for which `recall` returned None.

        group: experiments that share figures, for which `same` says that nothing has
            changed since. looked, drawn: the parts, as `recall` returns them.

        If the folder cannot be written, nothing is stored and the next report takes
        longer.
        """
        told = _plain((looked, [replace(d, picture=b"") for d in drawn]))
        text = json.dumps(told)
        if json.dumps(_plain(_made(told))) != text:
            return
        kept = {"seal": self._seal(group, text), "told": told}
        file = self._file(group)
        if self.common and file.parent.parent.is_dir():
            with suppress(OSError, UserError):
                files.write([json.dumps(kept).encode()], file)
                _keep_few(file.parent)

    def same(self, groups: Iterable[Group]) -> list[Group]:
        """Return those groups of experiments for which nothing that their stored parts
        depend on has changed since `recall`.
        """
        now = Memory(self.project, self.scale)
        return [g for g in groups if now._name(g) == self.names[g]]

    def _file(self, group: Group) -> Path:
        return remembered.folder(self.project.root) / f"{self.names[group][:32]}.report"

    def _seal(self, group: Group, text: str) -> str:
        return sha256(f"{self.names[group]}{text}".encode()).hexdigest()

    def _name(self, group: Group) -> str:
        """A hash of all that the answer for a group depends on."""
        digest = sha256(self.common.encode())
        digest.update(json.dumps([self.scale, *group]).encode())
        for name in self._mentioned(group[0]):
            digest.update(f"\0{name}\0{_hash(self.sources[name])}".encode())
        for path in inputs(self.project, self.scale, group):
            digest.update(f"\0{path}\0{_hash_of(path)}".encode())
        return digest.hexdigest()

    def _mentioned(self, names: Iterable[str]) -> list[str]:
        """These experiments, and all whose names stand in the source of one of them."""
        found, queue = set(), [*names]
        while queue:
            name = queue.pop()
            if name not in found:
                found.add(name)
                words = set(re.findall(rb"\w+", self.sources[name]))
                queue += [n for n in self.sources if n.encode() in words]
        return sorted(found)


def inputs(project: Project, scale: str, group: Group) -> list[Path]:
    """Return the files of rows and figures from which the report on some experiments is
    made.

    group: the experiments, and the figures that they share. scale: of the rows.
    """
    names, figures = group
    found: list[Path] = []
    for folder in (project.results / scale, project.reference / scale):
        for name in names:
            found += [folder / f"{name}.parquet"]
            found += sorted((folder / f".{name}.parts").glob("*"))
    for folder in (project.figures, project.root / "figures" / "reference"):
        stems = [f if scale == "quick" else f"{f}.{scale}" for f in figures]
        found += [folder / f"{stem}.{kind}" for stem in stems for kind in FIGURE]
    return found


# --- what verdicts depend on ---------------------------------------------------------


def _experiments(project: Project) -> list[Path]:
    return sorted(project.experiments.glob("*.py"))


def _common(project: Project) -> str:
    """A hash of what every group depends on; "" where this process runs other code than
    lies on the disk.
    """
    own = _tree(SYMLAB)
    if own != OWN:
        return ""
    folders = [p for p in map(Path, sys.path) if p.is_dir()]
    packages = sorted(p.name for f in folders for p in f.glob("*.*-info"))  # versions
    variables = sorted((k, v) for k, v in os.environ.items() if k.startswith("SYMLAB_"))
    elsewhere = [
        sorted(os.listdir(p)) for p in folders
        if not third_party(p.resolve()) and p.resolve() != project.root
    ]  # fmt: skip
    external = Path(os.environ.get("SYMLAB_DATA") or "data")  # only its names matter
    names = sorted(os.path.join(f, n) for f, _, ns in os.walk(external) for n in ns)
    asked = [names, type(project).__name__, str(project.root), os.getcwd(), sys.version]
    asked += [platform.platform(), packages, variables, sys.path, elsewhere, own]
    return sha256(json.dumps([*asked, _project_files(project)]).encode()).hexdigest()


def _project_files(project: Project) -> list:
    """Path and hash of the project's own Python files but experiments, and of data."""
    found = []
    out = {project.root / "results", project.root / "figures", SYMLAB}
    for folder, inner, held in os.walk(project.root):
        here = Path(folder)
        inner[:] = [n for n in sorted(inner) if n[0] != "." and n != "__pycache__"
                    and here / n not in out
                    and not (here / n / "pyvenv.cfg").is_file()]  # fmt: skip
        data = project.root / "data" in (here, *here.parents)
        apart = here == project.experiments  # each group counts its own
        found += [
            (str(here / n), _hash_of(here / n))
            for n in sorted(held)
            if data or (n.endswith(CODE) and not (apart and n.endswith(".py")))
        ]
    return found


def _tree(folder: Path) -> str:
    """A hash of all files below a folder, but compiled ones."""
    found = sorted(p for p in folder.rglob("*") if "__pycache__" not in p.parts)
    return _hash(json.dumps([(str(p), _hash_of(p)) for p in found]).encode())


def _keep_few(folder: Path) -> None:
    """Remove the oldest files where there are more than MOST."""
    found = sorted(folder.glob("*.report"), key=lambda p: p.stat().st_mtime)
    for path in found[:-MOST]:
        path.unlink(missing_ok=True)


def _hash_of(path: Path) -> str:
    return _hash(path.read_bytes()) if path.is_file() else ""


def _hash(data: bytes) -> str:
    return sha256(data).hexdigest()


OWN = _tree(
    SYMLAB
)  # when this is imported: a process goes on with the code that it has


# --- what is opened ------------------------------------------------------------------

_opened: set[str] | None = None  # while a group is looked at
_listens = False


def _listen(event: str, arguments: tuple) -> None:
    if event == "open" and _opened is not None:
        path, _, flags = arguments
        if isinstance(path, (str, bytes)) and not flags & (os.O_EXCL | os.O_TRUNC):
            _opened.add(os.fsdecode(path))


@contextmanager
def watched(project: Project, scale: str, group: Group) -> Iterator[Callable[[], bool]]:
    """Return a context that yields a function: whether a group's report may be kept.

    It may be kept if `strange` finds no file among those opened since then and those of
    this process's modules.
    """
    global _opened, _listens
    if not _listens:
        sys.addaudithook(_listen)
        _listens = True
    _opened = opened = set()
    try:
        yield lambda: not strange(project, scale, group, opened)
    finally:
        _opened = None


def strange(
    project: Project, scale: str, group: Group, opened: Iterable[str]
) -> list[str]:
    """Return the files that a group's report may depend on, and that are not watched.

    group: the experiments of that part of the report, and their figures.
    opened: the files that were opened while it was made. The files of this process's
        modules are looked at, too. Watched files are those listed in the module's
        docstring: a change of one of them makes the kept report invalid.
    """
    own = {str(p) for p in inputs(project, scale, group)}
    covered = [SYMLAB, project.root / "data", remembered.folder(project.root)]
    covered += [SYMLAB.parent / "symlab.egg-info"]  # of `pip install -e`
    covered += [sys.prefix, sys.base_prefix, *SYSTEM, *_caches()]
    covered += [p for p in map(Path, sys.path) if third_party(p.resolve())]
    below = tuple(f"{p}{os.sep}" for p in covered)
    root = f"{project.root}{os.sep}"
    modules = (getattr(m, "__file__", None) for m in [*sys.modules.values()])
    found = {os.path.abspath(p) for p in [*opened, *filter(None, modules)]}
    return sorted(
        path
        for path in found
        if not path.startswith(below)
        and path not in own
        and not (path.startswith(root) and path.endswith((*CODE, ".pyc")))
        and not os.path.basename(path).startswith("<")
        and not os.path.isdir(path)
    )


def _caches() -> list[str]:
    """Where matplotlib keeps its list of fonts, if it is imported."""
    known = sys.modules.get("matplotlib")
    return [known.get_cachedir(), known.get_configdir()] if known else []


# --- as JSON -------------------------------------------------------------------------


def _plain(value):
    """A value as JSON can hold it; TypeError where it would not be the same again."""
    if is_dataclass(value) and type(value) is TYPES.get(type(value).__name__):
        told = {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
        return {"is": type(value).__name__, "of": told}
    if isinstance(value, tuple):
        return {"is": "tuple", "of": [_plain(v) for v in value]}
    if isinstance(value, Mapping):
        return {"is": "dict", "of": [[k, _plain(v)] for k, v in value.items()]}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    if hasattr(value, "item"):
        return _plain(value.item())
    if value == b"":
        return {"is": "bytes", "of": ""}
    raise TypeError(f"{type(value).__name__} is not kept")


def _made(told):
    """The value that `_plain` wrote."""
    if isinstance(told, list):
        return [_made(v) for v in told]
    if not isinstance(told, dict):
        return told
    kind, of = told["is"], told["of"]
    if kind == "tuple":
        return tuple(_made(v) for v in of)
    if kind == "dict":
        return {k: _made(v) for k, v in of}
    if kind == "bytes":
        return b""
    return TYPES[kind](**{k: _made(v) for k, v in of.items()})
