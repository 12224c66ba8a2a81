"""What an experiment file must define, and how experiments are found and imported.

Names in the file (`symlab new NAME` writes one, from symlab/template.py):
  module docstring   the claim in a sentence, reference, expected outcome, cost
  Config             frozen dataclass of int, float, str, bool fields, with `seed`:
                     the settings of one run
  sweep(scale)       list[Config], all runs at a scale
  run(configs)       list[dict], the results in the order given: scalars and 1-D lists.
                     It has no side effects. It may be run(configs, context), see
                     context.py
  LANES, STATIC      the largest number of configs per call of `run`; the fields that
                     are equal in all of them
  CLAIMS             list[Claim]
  @figure(...)       functions draw(df, ax)
Optional names: MAY_BE_NAN, result columns in which a non-finite value is no failure;
DEVICES, ("cpu", "cuda") if run() follows context.device; DATA, a tuple of files below
the project's folder that run() reads: their content counts like code; EXTRA, the name
of an extra of pyproject.toml and the packages that run() imports from it; EXTERNAL, a
tuple of files below the folder SYMLAB_DATA that run() reads, or downloads with
SYMLAB_DOWNLOAD=1.

Figures and experiments are found by reading source code, not by importing it.
"""

import ast
import dataclasses
import gc
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from symlab.harness import code, faults, sweep
from symlab.harness.context import Context
from symlab.harness.errors import UserError, nearest
from symlab.harness.project import Project
from symlab.harness.store import META

READ = (
    "LANES",
    "STATIC",
    "CLAIMS",
    "MAY_BE_NAN",
    "DEVICES",
    "DATA",
    "EXTRA",
    "EXTERNAL",
)


@dataclass(frozen=True)
class Panel:
    """Where draw(df, ax), a function of an experiment, draws: the name of the figure,
    a column of it ('left', 'mid', 'right' or 'main') and a row, 0 for the top one; and
    the title of the panel, unless `draw` writes one that depends on the rows.
    """

    figure: str
    column: str
    row: int
    draw: Callable
    title: str = ""


def figure(name: str, panel: str = "main", row: int = 0, title: str = ""):
    """Return a decorator that marks a function draw(df, ax) as a panel of a figure.

    name: of the figure. panel: the column, 'left', 'mid' or 'right', or 'main' for the
    only one. row: from the top, counted from 0. title: of the panel; a title that
    depends on the rows is written by draw itself, and takes its place.
    """

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", str(name)):
        raise UserError(
            f"a figure cannot be named {name!r}, as its files get that name: use "
            "letters, digits, _ and -"
        )

    def mark(draw):
        panels = getattr(draw, "_panels", ())
        draw._panels = (*panels, Panel(name, panel, row, draw, title))
        return draw

    return mark


@dataclass(frozen=True)
class Experiment:
    """An imported experiment file, with the names that the docstring of this module
    lists.

    name: the name of the file, without suffix.
    module: the imported module.
    reached: the code that its `run` can reach (`code.Reached`).
    """

    name: str
    path: Path
    module: ModuleType
    reached: code.Reached

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices on which `run` can compute: ("cpu",) or ("cpu", "cuda").

        If DEVICE=cuda is asked of an experiment that cannot use it, the runs use the
        CPU, and their column `device` says so.
        """
        return tuple(getattr(self.module, "DEVICES", ("cpu",)))

    @property
    def lanes(self) -> int:
        """The largest number of configs that one call of `run` gets."""
        return getattr(self.module, "LANES", 1)

    @property
    def static(self) -> tuple[str, ...]:
        """The config fields that must be equal in all configs of one call of `run`."""
        return tuple(getattr(self.module, "STATIC", ()))

    @property
    def takes_context(self) -> bool:
        """Whether `run` has a parameter `context`."""
        return _takes_context(self.module.run)

    @property
    def extra(self) -> tuple[str, ...]:
        """The name of the optional dependency group that `run` needs, then its
        packages; or ().

        They are EXTRA in the experiment file. Rows record the versions of these
        packages, as of all packages that `run` reaches.
        """
        return tuple(getattr(self.module, "EXTRA", ()))

    @property
    def external(self) -> tuple[str, ...]:
        """The files below the folder SYMLAB_DATA that `run` reads: EXTERNAL of the
        file, or ().

        They are not committed and enter no key, so `run` has to check that they are the
        ones it was written for.
        """
        return tuple(getattr(self.module, "EXTERNAL", ()))

    @property
    def lacks(self) -> str:
        """A sentence on what is missing to run the experiment, and what to do; '' if
        nothing is.

        It names optional packages that are not installed, and input files that are not
        there. Existing rows can be judged and drawn without them.
        """
        return self._lacks_packages() or self._lacks_inputs()

    def _lacks_inputs(self) -> str:
        folder = Path(os.environ.get("SYMLAB_DATA") or "data")
        absent = [name for name in self.external if not (folder / name).is_file()]
        if not absent or os.environ.get("SYMLAB_DOWNLOAD") == "1":
            return ""
        return (
            f"needs {' and '.join(absent)} (not in {folder}): set SYMLAB_DATA to a "
            "folder that has them, or SYMLAB_DOWNLOAD=1 to download them"
        )

    def _lacks_packages(self) -> str:
        name, *packages = self.extra or ("",)
        absent = [p for p in packages if importlib.util.find_spec(p) is None]
        if not absent:
            return ""
        return (
            f"needs the extra {name} ({', '.join(absent)} not installed): "
            f"`make {name}` installs it"
        )

    @property
    def claims(self) -> list:
        """The list CLAIMS of the experiment file."""
        return self.module.CLAIMS

    def panels(self, figure: str) -> list[Panel]:
        """Return the panels that the experiment draws in a figure, by the figure's
        name.
        """
        marked = [getattr(v, "_panels", ()) for v in vars(self.module).values()]
        return [p for panels in marked for p in panels if p.figure == figure]

    def configs(self, scale: str, seed0: int = 0) -> dict[str, dict]:
        """Return {key: config} of the sweep at a scale.

        scale: 'smoke', 'quick' or 'paper'. seed0: a number added to each seed.

        A config is a dict of a run's settings, and its key a hash of them. Raises
        UserError for an unknown scale, and if the file's `sweep` fails.
        """
        if scale not in sweep.SCALES:
            raise UserError(nearest(scale, sweep.SCALES, "scale"))
        with _no_collection():
            return self._configs(scale, seed0)

    def _configs(self, scale: str, seed0: int) -> dict[str, dict]:
        what = f"{self.path.name}: sweep({scale!r}) failed"
        with faults.telling(what, self.path.parents[1]):
            found = self._sweep(scale)
            for config in found:
                if type(config) is not self.module.Config:
                    raise UserError(
                        f"{self.path.name}: sweep({scale!r}) returned {config!r}, "
                        "which is no Config: return a list of Config"
                    )
            rows = [sweep.typed(c) for c in found]
        for row in rows if seed0 else ():
            row["seed"] += seed0
        return dict(zip(sweep.keys(rows), rows, strict=True))

    def _sweep(self, scale: str) -> list:
        """What the file's `sweep` returns; a field that Config lacks is explained."""
        try:
            return list(self.module.sweep(scale))
        except TypeError as error:
            found = re.search(r"Config.* unexpected keyword .*?'(\w+)'", str(error))
            if not found:
                raise
            raise UserError(f"{self.path.name}: {self._no_field(found[1])}") from error

    def _no_field(self, name: str) -> str:
        """A sentence on a name that is no field of Config, though sweep gives it."""
        config = self.module.Config
        if name in vars(config):
            value = vars(config)[name]
            return (
                f"Config.{name} has no annotation, so it is no field: write "
                f"`{name}: {type(value).__name__} = {value!r}`"
            )
        fields = [f.name for f in dataclasses.fields(config)]
        return nearest(name, fields, "field of Config")

    def run(self, configs: list[dict], context: Context | None = None) -> list[dict]:
        """Return the result rows of the file's `run` for these configs, in their order.

        configs: dicts of settings, as in `configs`.
        context: the device and folders, given to `run` if it has such a parameter.
        """
        wanted = [self.module.Config(**c) for c in configs]
        if self.takes_context:
            return self.module.run(wanted, context or Context())
        return self.module.run(wanted)


@lru_cache(maxsize=100)
def _takes_context(run: Callable) -> bool:
    return "context" in signature(run).parameters


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the search for cyclic garbage, which would walk through all configs again
    and again while they are made: a third of the time of 100,000.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def names(project: Project) -> list[str]:
    """Return the names of all experiments: the files in experiments/, without suffix.

    Files that begin with an underscore are left out, and so are files whose names
    Python cannot import (see `unreadable`).
    """
    return [f.stem for f in _files(project) if f.stem.isidentifier()]


def _files(project: Project) -> list[Path]:
    files = sorted(project.experiments.glob("*.py"))
    return [f for f in files if not f.stem.startswith("_")]


def unreadable(project: Project) -> list[str]:
    """Return one sentence for each file in experiments/ that cannot be an experiment.

    An example is a file that Python cannot import by its name.
    """
    found = []
    for path in _files(project):
        if not path.stem.isidentifier():
            found.append(
                f"{path.name} is left out: name the file of an experiment as a Python "
                "name, with letters, digits and underscores"
            )
            continue
        try:
            ast.parse(path.read_bytes(), path.name)
        except (SyntaxError, ValueError) as error:
            found.append(not_python(path, error))
    return found


def not_python(path: Path, error: Exception) -> str:
    """Return the error message for an experiment file that Python cannot parse.

    path: the file. error: the exception that Python raised.
    """
    line = getattr(error, "lineno", None)
    where = f" line {line}" if line else ""
    return f"{path.name}{where} is not Python: {getattr(error, 'msg', error)}"


def load(project: Project, name: str) -> Experiment:
    """Return an experiment file, imported.

    It is imported again if the file, or a module that it reaches, has changed.
    """
    path = project.experiments / f"{name}.py"
    if name not in names(project):
        raise UserError(nearest(name, names(project), "experiment"))
    if str(project.root) not in sys.path:
        sys.path.insert(0, str(project.root))
    module = f"experiments.{name}"
    try:
        reached = _reach(project, path, module)
        _imported.note(project.root, reached.files)
        if (path, reached.files[module]) not in _loaded:
            known = list(sys.path)
            _loaded[path, reached.files[module]] = _import(module, path)
            if sys.path != known:  # the file put a folder of its own on the path
                reached = _reach(project, path, module)
                _imported.note(project.root, reached.files, found=True)
    except SyntaxError as error:
        raise UserError(not_python(Path(error.filename or path), error)) from None
    except ImportError as error:
        raise UserError(
            f"{path.name} cannot be imported: {faults.said(error)}"
        ) from error
    loaded = _loaded[path, reached.files[module]]
    experiment = Experiment(name, path, loaded, reached)
    packages = {*reached.packages, *experiment.extra[1:]}
    reached = dataclasses.replace(reached, packages=tuple(sorted(packages)))
    experiment = dataclasses.replace(experiment, reached=reached)
    _check(experiment)
    return experiment


def _reach(project: Project, path: Path, module: str) -> code.Reached:
    return code.reach(project.root, module, ["run"], _data(project, path))


def _data(project: Project, path: Path) -> tuple[str, ...]:
    """DATA of an experiment file, from its source: files whose content counts."""
    for node in ast.parse(path.read_bytes(), path.name).body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if "DATA" not in [getattr(t, "id", None) for t in targets]:
            continue
        try:
            found = ast.literal_eval(node.value)
        except ValueError:
            found = None
        listed = isinstance(found, (tuple, list))
        if not listed or not all(isinstance(name, str) for name in found):
            raise UserError(
                f"{path.name}: write DATA as a tuple of file names in quotes, since it "
                "is read without running the file"
            )
        for name in found:
            if not (project.root / name).is_file():
                raise UserError(
                    f"{path.name}: DATA names {name!r}, and there is no such file in "
                    f"{project.root}: add it, or correct the name"
                )
        return tuple(found)
    return ()


class _Imported:
    """What this process has imported, so that an edit is never run under a wrong key.

    A notebook outlives edits. Modules of the project are dropped and imported again;
    the harness cannot be: after an edit to it (`outdated`) runs need a new process.
    """

    def __init__(self):
        self.files: dict[str, str] = {}
        self.generation = 0  # counts edits: worker processes of an older one must go
        self.outdated = False

    def note(self, root: Path, files: dict[str, str], found: bool = False) -> None:
        """Forget what was imported where a file has changed since.

        found: the files are those of an import that was made just now.
        """
        if found:
            self.files |= files
            return
        old = [m for m, d in files.items() if self.files.get(m, d) != d]
        if old:
            self.generation += 1
            self.outdated |= any(m.startswith("symlab.harness") for m in old)
            self.files = {}
            _loaded.clear()
            _forget(root, files)
        self.files |= files


_imported = _Imported()
_loaded: dict[tuple[Path, str], ModuleType] = {}


def edits() -> tuple[int, bool]:
    """Return how many edits of source files this process has seen, and whether it must
    restart.

    It must be restarted if a file of the harness was edited, because that is not
    imported again.
    """
    return _imported.generation, _imported.outdated


def _forget(root: Path, files: dict[str, str]) -> None:
    """Drop the project's modules, and others of `files`, but for this harness."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        stays = name in ("__main__", "symlab", "symlab.notebook")
        stays = stays or name.startswith("symlab.harness") or "site-packages" in file
        ours = file.startswith(f"{root}{os.sep}") or name in files
        if ours and not stays:
            del sys.modules[name]


def _import(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up here
    what, known = f"{path.name} cannot be imported", (SyntaxError, ImportError)
    with faults.telling(what, path.parents[1], known):
        source = compile(path.read_bytes(), str(path), "exec")
        exec(source, module.__dict__)
    return module


def _check(experiment: Experiment) -> None:
    module, name = experiment.module, experiment.path.name
    required = ("__doc__", "Config", "sweep", "run", "CLAIMS")
    if missing := [n for n in required if not getattr(module, n, None)]:
        raise UserError(
            f"{name} lacks {', '.join(missing)}: `symlab new NAME` writes a file that "
            "has everything"
        )
    parameters = getattr(module.Config, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise UserError(f"{name}: Config must be a frozen dataclass")
    fields = {f.name: sweep.declared(f) for f in dataclasses.fields(module.Config)}
    if fields.get("seed") is not int:
        bare = " (it has no annotation there)" * ("seed" in vars(module.Config))
        bare = bare if "seed" not in fields else ""
        raise UserError(f"{name}: Config needs a field `seed: int`{bare}")
    if clash := set(fields) & set(META):
        raise UserError(
            f"{name}: rename the config fields {sorted(clash)}, as the "
            "store has columns of those names"
        )
    if type(experiment.lanes) is not int or experiment.lanes < 1:
        raise UserError(
            f"{name}: LANES is {experiment.lanes!r}: give the largest number of "
            "configs that one call of run takes, 1 or more"
        )
    if unknown := set(experiment.static) - set(fields):
        raise UserError(f"{name}: STATIC names unknown fields {sorted(unknown)}")
    _check_claims(experiment)
    _check_drawings(experiment.path)
    _check_spelling(experiment)


def _check_claims(experiment: Experiment) -> None:
    """Every claim is a Claim and has a name of its own, by which its line in
    claims.lock is found.
    """
    name = experiment.path.name
    for claim in experiment.claims:
        if not all(hasattr(claim, n) for n in ("name", "statement", "estimate")):
            listed = isinstance(claim, (list, tuple))
            hint = "; unpack a list of them, as in CLAIMS = [*family(...)]" * listed
            raise UserError(
                f"{name}: CLAIMS holds a {type(claim).__name__} where a Claim belongs"
                f"{hint}"
            )
    found = [c.name for c in experiment.claims]
    if twice := [n for n in dict.fromkeys(found) if found.count(n) > 1]:
        raise UserError(
            f"{name}: two claims are named {twice[0]!r}: give each a name of its own"
        )


def _check_drawings(path: Path) -> None:
    """No two functions of a file draw one panel, and none hides another."""
    found = _drawings(path)
    for sentence in _collisions(found).values():
        raise UserError(f"{path.name}: {sentence}")
    by_name: dict[str, Drawing] = {}
    for d in found:
        before = by_name.setdefault(d.function, d)
        if before.line != d.line:
            raise UserError(
                f"{path.name}: two draw functions are named {d.function!r} (lines "
                f"{before.line} and {d.line}), and Python keeps the second alone: "
                "give each a name of its own"
            )


def _check_spelling(experiment: Experiment) -> None:
    """A name that nothing uses and that is nearly one which the harness reads."""
    near = {
        name: close[0]
        for name, value in vars(experiment.module).items()
        if name not in READ
        and not callable(value)
        and not isinstance(value, ModuleType)
        if (close := get_close_matches(name.upper(), READ, n=1, cutoff=0.8))
    }
    if not near:
        return
    tree = ast.parse(experiment.path.read_bytes())
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in near]
    used = {n.id for n in found if not isinstance(n.ctx, ast.Store)}
    for n in found:
        if n.id not in used:
            raise UserError(
                f"{experiment.path.name} line {n.lineno}: nothing reads {n.id}: write "
                f"{near[n.id]} if that is meant, else give it another name"
            )


class Drawing(NamedTuple):
    """A function of an experiment file that draws a panel, as read from its source.

    panel, row: arguments of `figure`; None if the source does not write them out.
    """

    file: str
    function: str
    line: int
    figure: str
    panel: str | None
    row: int | None

    def __str__(self) -> str:
        return f"{self.function} in {self.file} line {self.line}"


def figures(project: Project) -> dict[str, list[str]]:
    """Return {figure: names of the experiments that draw it}.

    The files are read as text and not imported.
    """
    found: dict[str, list[str]] = {}
    for name in names(project):
        for figure_name in _decorations(project.experiments / f"{name}.py"):
            experiments = found.setdefault(figure_name, [])
            if name not in experiments:
                experiments.append(name)
    return found


def collisions(project: Project) -> dict[str, str]:
    """Return {figure: sentence} of the figures in which two functions draw the same
    panel.

    The functions may be in one file or in two. The files are read as text and not
    imported.
    """
    files = [project.experiments / f"{name}.py" for name in names(project)]
    return _collisions([d for path in files for d in _drawings(path)])


def _collisions(drawings: list[Drawing]) -> dict[str, str]:
    found: dict[str, str] = {}
    taken: dict[tuple, Drawing] = {}
    for d in drawings:
        if d.panel is None or d.row is None:
            continue
        first = taken.setdefault((d.figure, d.panel, d.row), d)
        if first is not d:
            row = f", row {d.row}," * bool(d.row)
            found.setdefault(
                d.figure,
                f"panel {d.panel!r}{row} of figure {d.figure!r} is drawn twice, by "
                f"{first} and by {d}: give each @figure its own panel, row or name",
            )
    return found


def _decorations(path: Path) -> list[str]:
    """The figures that a file draws, also of one that Python cannot parse.

    Such a file still stops its own figures, which would lack its panels, and no others.
    """
    try:
        return [d.figure for d in _parsed(path.name, path.read_bytes())]
    except (SyntaxError, ValueError):
        text = path.read_bytes().decode(errors="replace")
        return re.findall(r"""@(?:\w+\.)*figure\(\s*["']([^"']+)""", text)


def _drawings(path: Path) -> list[Drawing]:
    """The drawings of a file; none of one that Python cannot parse."""
    try:
        return list(_parsed(path.name, path.read_bytes()))
    except (SyntaxError, ValueError):
        return []


@lru_cache(maxsize=256)
def _parsed(file: str, source: bytes) -> tuple[Drawing, ...]:
    """The drawings in the source of a file; one command asks for them several times."""
    found = []
    for n in ast.parse(source).body:
        calls = n.decorator_list if isinstance(n, ast.FunctionDef) else []
        for c in (c for c in calls if isinstance(c, ast.Call)):
            called = getattr(c.func, "id", getattr(c.func, "attr", ""))
            place = _place(c)
            if called == "figure" and place[0] is not None:
                found.append(Drawing(file, n.name, n.lineno, *place))
    return tuple(found)


def _place(call: ast.Call) -> tuple[str | None, str | None, int | None]:
    """The figure, panel and row that `figure(...)` is given; None for what is not
    written out.
    """
    given = {"panel": ast.Constant("main"), "row": ast.Constant(0)}
    given |= dict(zip(("name", "panel", "row"), call.args, strict=False))
    given |= {k.arg: k.value for k in call.keywords}
    nodes = [given.get(n) for n in ("name", "panel", "row")]
    return tuple(n.value if isinstance(n, ast.Constant) else None for n in nodes)
