"""What an experiment file must define, and how experiments are found.

Names in the file (docs: experiments/_template.py):
  module docstring   the claim in a sentence, reference, expected outcome, cost
  Config             frozen dataclass of int, float, str, bool fields, with `seed`
  sweep(scale)       list[Config], the whole design
  run(configs)       list[dict] in the order given: scalars and 1-D lists; pure
  LANES, STATIC      most configs per call; fields that must agree within a call
  CLAIMS             list[Claim]
  @figure(...)       functions draw(df, ax)
Optional: MAY_BE_NAN, result columns in which a non-finite value is no failure.

Figures and experiments are found by reading source, not by importing it.
"""

import ast
import dataclasses
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from symlab.harness import sweep
from symlab.harness.errors import UserError, nearest
from symlab.harness.project import Project

RESERVED = ("key", "code", "status", "error", "lanes", "wall_s", "device", "threads")
RESERVED += ("versions", "git", "dirty", "finished")


@dataclass(frozen=True)
class Panel:
    """Where a draw function draws: a figure, a column of it, and a row."""

    figure: str
    column: str
    row: int
    draw: Callable


def figure(name: str, panel: str = "main", row: int = 0):
    """Mark `draw(df, ax)` as a panel of a figure; columns run left, mid, right."""

    def mark(draw):
        panels = getattr(draw, "_panels", ())
        draw._panels = (*panels, Panel(name, panel, row, draw))
        return draw

    return mark


@dataclass(frozen=True)
class Experiment:
    """An imported experiment file, checked against the contract."""

    name: str
    path: Path
    module: ModuleType

    @property
    def lanes(self) -> int:
        return getattr(self.module, "LANES", 1)

    @property
    def static(self) -> tuple[str, ...]:
        return tuple(getattr(self.module, "STATIC", ()))

    @property
    def claims(self) -> list:
        return self.module.CLAIMS

    def panels(self, figure: str) -> list[Panel]:
        marked = [getattr(v, "_panels", ()) for v in vars(self.module).values()]
        return [p for panels in marked for p in panels if p.figure == figure]

    def configs(self, scale: str, seed0: int = 0) -> list[dict]:
        """The typed configs of a sweep, each seed moved by `seed0`, no config twice."""
        if scale not in sweep.SCALES:
            raise UserError(nearest(scale, sweep.SCALES, "scale"))
        rows = [sweep.typed(c) for c in self.module.sweep(scale)]
        for row in rows:
            row["seed"] += seed0
        unique = {sweep.key(row): row for row in rows}
        return list(unique.values())

    def run(self, configs: list[dict]) -> list[dict]:
        return self.module.run([self.module.Config(**c) for c in configs])


def names(project: Project) -> list[str]:
    """All experiments, by file name; files that begin with an underscore are not."""
    files = sorted(project.experiments.glob("*.py"))
    return [f.stem for f in files if not f.stem.startswith("_")]


def load(project: Project, name: str) -> Experiment:
    """Import one experiment file, anew when its text has changed."""
    path = project.experiments / f"{name}.py"
    if name not in names(project):
        raise UserError(nearest(name, names(project), "experiment"))
    return _load(project.root, path, path.read_text())


@lru_cache(maxsize=64)
def _load(root: Path, path: Path, text: str) -> Experiment:
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    module_name = f"experiments.{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look themselves up here
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        raise UserError(
            f"{path.name} line {error.lineno} is not Python: {error.msg}"
        ) from None
    experiment = Experiment(path.stem, path, module)
    _check(experiment)
    return experiment


def _check(experiment: Experiment) -> None:
    module, name = experiment.module, experiment.path.name
    required = ("__doc__", "Config", "sweep", "run", "CLAIMS")
    if missing := [n for n in required if not getattr(module, n, None)]:
        raise UserError(
            f"{name} lacks {', '.join(missing)}: see experiments/_template.py"
        )
    if not dataclasses.is_dataclass(module.Config):
        raise UserError(f"{name}: Config must be a frozen dataclass")
    fields = {f.name for f in dataclasses.fields(module.Config)}
    for f in dataclasses.fields(module.Config):
        sweep._declared(f)
    if "seed" not in fields:
        raise UserError(f"{name}: Config needs a field `seed: int`")
    if clash := fields & set(RESERVED):
        raise UserError(
            f"{name}: rename the config fields {sorted(clash)}, as the "
            "store has columns of those names"
        )
    if unknown := set(experiment.static) - fields:
        raise UserError(f"{name}: STATIC names unknown fields {sorted(unknown)}")


def figures(project: Project) -> dict[str, list[str]]:
    """figure -> experiments that draw it, from the source alone."""
    found: dict[str, list[str]] = {}
    for name in names(project):
        for figure_name in _decorations(project.experiments / f"{name}.py"):
            experiments = found.setdefault(figure_name, [])
            if name not in experiments:
                experiments.append(name)
    return found


def _decorations(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_text())
    except SyntaxError as error:
        raise UserError(
            f"{path.name} line {error.lineno} is not Python: {error.msg}"
        ) from None
    calls = [
        d
        for n in tree.body
        if isinstance(n, ast.FunctionDef)
        for d in n.decorator_list
        if isinstance(d, ast.Call)
    ]
    return [
        c.args[0].value
        for c in calls
        if getattr(c.func, "id", getattr(c.func, "attr", "")) == "figure"
        and c.args
        and isinstance(c.args[0], ast.Constant)
    ]
