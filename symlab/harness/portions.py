"""The list of work for a rented GPU, portions.toml, and how much of it has been done.

A portion is one entry of the list, small enough for the minutes of a rented GPU: either
an experiment with a condition on its runs, whose result rows are stored as usual, or a
command, whose output is written to a file. Entries are in order of value. Rows and
outputs that were committed under results/reference count as done. `portion_runs` does
what is left.
"""

import dataclasses
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from symlab.harness import plan
from symlab.harness.errors import UserError, nearest
from symlab.harness.progress import duration
from symlab.harness.project import Committed, Project
from symlab.harness.sweep import SCALES

FILE = "portions.toml"
NEVER = "not run on a GPU yet"


@dataclass(frozen=True)
class Portion:
    """One entry of portions.toml: an experiment with a condition on its runs, or a
    command.

    name, why: its name, and a sentence on what it shows.
    experiment, only: the name of an experiment, and a condition on the fields of its
        configs; '' for a command, and for all configs.
    command: arguments of Python, such as ("benchmarks/bench_symopt.py",).
    options: {scale: more arguments}; the portion exists at these scales only.
    resumes: whether the command itself continues where SIGTERM stopped it.
    needs: files or folders under SYMLAB_DATA, one of which must exist at scale 'paper'.
    """

    name: str
    """As the command line selects it; an output file gets this name."""
    why: str
    """A sentence on what it shows."""
    experiment: str = ""
    """The name of an experiment; '' for a command."""
    only: str = ""
    """A condition on the fields of its configurations; '' for all of them."""
    command: tuple[str, ...] = ()
    """Arguments of Python, as ("benchmarks/bench_symopt.py",)."""
    options: dict[str, list[str]] = field(default_factory=dict)
    """{scale: more arguments}; the portion exists at these scales alone. {device} and
    {folder}, where the outputs of the scale lie, are filled in."""
    resumes: bool = False
    """Whether the command itself goes on where SIGTERM stopped it."""
    needs: tuple[str, ...] = ()
    """Files or folders under SYMLAB_DATA of which one has to be there at scale paper.
    """


# --- the list ------------------------------------------------------------------------


def read(project: Project, scale: str, names: tuple[str, ...] = ()) -> list[Portion]:
    """Return the entries of portions.toml at a scale, in order of value.

    scale: 'smoke', 'quick' or 'paper'.
    names: the names of the wanted entries; () for all.

    Raises UserError if the file is missing or invalid, and for a name that it does not
    have.
    """
    path = project.root / FILE
    try:
        entries = tomllib.loads(path.read_text())["portion"]
    except FileNotFoundError:
        raise UserError(
            f"there is no {FILE} in {project.root}: write one, with a [[portion]] for "
            "each experiment or command that has to run on another machine"
        ) from None
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise UserError(
            f"{FILE} is not a list of [[portion]] tables: {error}"
        ) from None
    found = [_portion(entry) for entry in entries]
    for name in names:
        if name not in [p.name for p in found]:
            raise UserError(nearest(name, [p.name for p in found], "portion"))
    found = [p for p in found if p.experiment or scale in p.options]
    return [p for p in found if not names or p.name in names]


def _portion(entry: dict) -> Portion:
    known = {f.name: f for f in dataclasses.fields(Portion)}
    for name in entry:
        if name not in known:
            raise UserError(f"{FILE}: {nearest(name, known, 'field')}")
    lists = {k: tuple(v) for k, v in entry.items() if isinstance(v, list)}
    try:
        portion = Portion(**{**entry, **lists})
    except TypeError:
        raise UserError(f"{FILE}: give each portion a name and a why") from None
    if bool(portion.experiment) == bool(portion.command):
        raise UserError(
            f"{FILE}: give the portion {portion.name} an experiment or a command, one "
            "of the two"
        )
    if unknown := set(portion.options) - set(SCALES):
        raise UserError(f"{FILE}: {nearest(min(unknown), SCALES, 'scale')}")
    return portion


# --- what is there -------------------------------------------------------------------


def describe(project: Project, portion: Portion, scale: str) -> str:
    """Return two lines on a portion: how much of it has been done, and what it shows.

    portion: an entry of portions.toml. scale: 'smoke', 'quick' or 'paper'.
    """
    if portion.experiment:
        there, lacking, devices = runs(project, portion, scale)
        state = f"{there} of {there + len(lacking.configs)} runs are there"
        if lacking.configs:
            state += f", time of the next: {expected(lacking, lacking.configs)}"
    else:
        found = output_of(project, portion, scale)
        state = f"its output is in {found}" if found else "its output is missing"
        devices = {"cuda"} if found and "device: cuda" in found.read_text() else set()
    never = "" if "cuda" in devices else f"; {NEVER}"
    return f"{portion.name} ({scale}): {state}{never}\n    {portion.why}"


def runs(
    project: Project, portion: Portion, scale: str
) -> tuple[int, plan.Plan, set[str]]:
    """Return how many runs of a portion have rows, a plan of the others, and devices.

    portion: an entry of portions.toml with an experiment.

    Rows under results/ and committed rows count. The plan has the runs that are still
    to be made; the devices are those on which the experiment's rows were made, such as
    {'cuda'}. Raises UserError if the portion's condition selects no run.
    """
    made = plan.make(project, portion.experiment, scale, query=portion.only or None)
    if made is None or not made.configs:
        raise UserError(
            f"{FILE}: the condition {portion.only!r} selects no run of "
            f"{portion.experiment} at scale {scale}"
        )
    committed = plan.make(Committed(project.root), portion.experiment, scale)
    keys = [k for k in made.todo if committed.state.get(k) != "fresh"]
    keys.sort(key=lambda k: made.configs[k]["seed"])  # whole seeds, as the engine
    lacking = dataclasses.replace(made, configs={k: made.configs[k] for k in keys})
    rows = [p.rows() for p in (made, committed)]
    devices = {d for frame in rows if len(frame) for d in frame.device}
    return len(made.configs) - len(keys), lacking, devices


def expected(lacking: plan.Plan, todo: dict[str, dict]) -> str:
    """Return in words how long the first of some runs takes, such as 'about 7 min'.

    lacking: the plan that these runs are part of. todo: {key: config} of the runs.
    """
    seconds = lacking.seconds.get(next(iter(todo)))
    return "unknown" if seconds is None else f"about {duration(seconds)}"


def output(project: Project, portion: Portion, scale: str) -> Path:
    """Return the path of the file to which the output of a portion's command is
    written.

    portion: an entry of portions.toml with a command. scale: 'smoke', 'quick' or
        'paper'.
    """
    return project.results / scale / f"{portion.name}.txt"


def output_of(project: Project, portion: Portion, scale: str) -> Path | None:
    """Return the path of the output file of a portion's command, or None if it does not
    exist.

    portion: an entry of portions.toml with a command. scale: 'smoke', 'quick' or
        'paper'.

    The file is under results/, or else among the committed files.
    """
    both = (output(p, portion, scale) for p in (project, Committed(project.root)))
    return next((path for path in both if path.is_file()), None)


def missing(portion: Portion, scale: str) -> str:
    """Return a sentence on the data that a portion needs and that are not there, or ''.

    portion: an entry of portions.toml. scale: 'smoke', 'quick' or 'paper'.

    The result is '' at other scales than 'paper', and if data may be downloaded.
    """
    folder = Path(os.environ.get("SYMLAB_DATA") or "data")
    fetched = os.environ.get("SYMLAB_DOWNLOAD") == "1"
    if scale != "paper" or fetched or not portion.needs:
        return ""
    if any((folder / name).exists() for name in portion.needs):
        return ""
    return (
        f"{portion.name} is left out: there is no {' or '.join(portion.needs)} in "
        f"{folder}, so set SYMLAB_DATA to a folder that has it, or SYMLAB_DOWNLOAD=1"
    )
