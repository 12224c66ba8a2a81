"""What paper scale lacks, in portions that fit into the minutes of a rented GPU.

The file portions.toml of a project lists its portions in order of value. A portion is
an experiment, whose rows go to its store, or a command, whose output goes to a file.
One call runs what is missing until its minutes are over, and the next call goes on:
from the rows that are there, from the checkpoint of the run that was stopped, and from
the first command without an output file. Rows and outputs that were committed under
results/reference count as there. Nothing is committed here.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path

from symlab.harness import contract, engine, machine, plan
from symlab.harness.errors import UserError, nearest
from symlab.harness.progress import duration
from symlab.harness.project import Committed, Project
from symlab.harness.sweep import SCALES

FILE = "portions.toml"
STOPPING = 15.0  # seconds at most, a tenth of a call at most, kept for saving a state
NEVER = "not run on a GPU yet"


@dataclass(frozen=True)
class Portion:
    """One piece of work: an experiment with a condition on its runs, or a command.

    A field of portions.toml has the name of a field here.
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
    """Files or folders under SYMLAB_DATA of which one has to be there."""


class Clock:
    """The time that a call has. Runs are stopped a little before it is over, so that
    their state is saved and their rows are written within it.
    """

    def __init__(self, minutes: float):
        self.seconds = 60 * minutes
        self.end = time.monotonic() + self.seconds
        self.stop = self.end - min(STOPPING, self.seconds / 10)
        self.stopped = False

    def left(self) -> float:
        """Seconds until runs are stopped."""
        return self.stop - time.monotonic()

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """A context whose body is ended like by Ctrl-C when no time is left.

        It works in the main thread alone, and not on Windows, which lacks SIGALRM.
        """

        def ring(*_):
            self.stopped = True
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, ring)
        try:
            signal.setitimer(signal.ITIMER_REAL, max(self.left(), 1e-3))
            yield
        except KeyboardInterrupt:
            if not self.stopped:
                raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


# --- the list ------------------------------------------------------------------------


def read(project: Project, scale: str, names: tuple[str, ...] = ()) -> list[Portion]:
    """Return the portions of a project at a scale, in order of value.

    names: of those that are asked for; () for all. Raises UserError for a list that
    cannot be used, and for a name that is not in it.
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
    """Return two lines on a portion: what of it is there, and why it is wanted."""
    if portion.experiment:
        there, lacking, seconds, devices = _runs(project, portion, scale)
        state = f"{there} of {there + len(lacking.configs)} runs are there"
        if lacking.configs:
            known = "unknown" if seconds is None else f"about {duration(seconds)}"
            state += f", time of the next: {known}"
    else:
        found = _output_of(project, portion, scale)
        state = f"its output is in {found}" if found else "its output is missing"
        devices = {"cuda"} if found and "device: cuda" in found.read_text() else set()
    never = "" if "cuda" in devices else f"; {NEVER}"
    return f"{portion.name} ({scale}): {state}{never}\n    {portion.why}"


def _runs(project: Project, portion: Portion, scale: str):
    """(count of runs that are there, plan of the others, seconds of the next or None,
    devices of the rows). Committed rows count.
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
    seconds = made.seconds.get(keys[0]) if keys else None
    return len(made.configs) - len(keys), lacking, seconds, devices


def _output(project: Project, portion: Portion, scale: str) -> Path:
    return project.results / scale / f"{portion.name}.txt"


def _output_of(project: Project, portion: Portion, scale: str) -> Path | None:
    """The output file that is there, in results or committed; None without one."""
    both = (_output(p, portion, scale) for p in (project, Committed(project.root)))
    return next((path for path in both if path.is_file()), None)


def missing(portion: Portion) -> str:
    """Return a sentence on the data that a portion lacks; '' where it lacks none."""
    folder = Path(os.environ.get("SYMLAB_DATA") or "data")
    fetched = os.environ.get("SYMLAB_DOWNLOAD") == "1"
    if fetched or not portion.needs:
        return ""
    if any((folder / name).exists() for name in portion.needs):
        return ""
    return (
        f"{portion.name} is left out: there is no {' or '.join(portion.needs)} in "
        f"{folder}, so set SYMLAB_DATA to a folder that has it, or SYMLAB_DOWNLOAD=1"
    )


# --- running -------------------------------------------------------------------------


def run(
    project: Project, chosen: list[Portion], minutes: float, scale: str, device: str
) -> int:
    """Run what is missing of portions, within minutes, and say what came of it.

    chosen: in order of value. device: 'cpu' or 'cuda'. Returns 0, also where the time
    did not suffice, or 1 where a run failed or a portion lacks its data.
    """
    check_device(device)
    clock, status = Clock(minutes), 0
    for portion in chosen:
        if clock.left() <= 0:
            break
        if lacks := missing(portion):
            print(lacks)
            status = 1
            continue
        one = _run_experiment if portion.experiment else _run_command
        status = max(status, one(project, portion, clock, scale, device))
    rest = "the same call goes on from here" if clock.left() <= 0 else "all were tried"
    used = clock.seconds - (clock.end - time.monotonic())
    print(f"{duration(used)} of {duration(clock.seconds)} used: {rest}")
    return status


def check_device(device: str) -> None:
    """Raise UserError for a device that is not here."""
    try:
        engine.check_device(device)
    except UserError as error:
        if device != "cuda":
            raise
        raise UserError(
            "the portions of paper scale need a GPU, and torch sees none here: run "
            "them on a machine that has one, or see that they work with --device cpu "
            "--scale smoke"
        ) from error


def _run_experiment(project, portion, clock: Clock, scale: str, device: str) -> int:
    """Run the missing runs one call at a time; 1 where one failed."""
    tried: set[str] = set()
    failed = 0
    while True:
        there, lacking, seconds, _ = _runs(project, portion, scale)
        todo = {k: c for k, c in lacking.configs.items() if k not in tried}
        total = there + len(lacking.configs)
        if not tried:
            print(f"{portion.name} ({scale}): {there} of {total} runs are there")
        if lacking.blocked:
            print(f"    not run: {portion.experiment} {lacking.blocked}")
            return 1
        if not todo or not _fits(lacking, seconds, clock):
            return int(failed > 0)
        chunk = _together(lacking.experiment, todo)
        tried |= chunk.keys()
        _announce(lacking.experiment, chunk, seconds, clock)
        done, began = engine.Report(), time.time()
        with clock.stopping():
            part = dataclasses.replace(lacking, configs=chunk)
            done = engine.run(project, [part], jobs=1, device=device, quiet=True)
        for _, error in done.failed:
            print(f"    failed: {error.strip().splitlines()[-1]}")
        failed += len(done.failed)
        if clock.stopped:
            print(f"    {_stopped(lacking, began)}")
            return int(failed > 0)
        if done.interrupted:
            raise KeyboardInterrupt
        if done.ok:
            print(f"    {done.ok} finished in {duration(done.seconds)}")


def _together(experiment: contract.Experiment, todo: dict[str, dict]) -> dict:
    """The first run, and those that one call of `run` computes beside it."""
    first = next(iter(todo.values()))
    alike = [
        k
        for k, config in todo.items()
        if all(config[f] == first[f] for f in experiment.static)
    ]
    return {k: todo[k] for k in alike[: experiment.lanes]}


def _announce(experiment, chunk: dict, seconds: float | None, clock: Clock) -> None:
    config = next(iter(chunk.values()))
    usual = {f.name: f.default for f in dataclasses.fields(experiment.module.Config)}
    said = {k: v for k, v in config.items() if v != usual[k] or k == "seed"}
    more = f" and {len(chunk) - 1} beside it" if len(chunk) > 1 else ""
    known = "unknown" if seconds is None else f"about {duration(seconds)}"
    print(f"    {', '.join(f'{k}={v}' for k, v in said.items())}{more}: expected time "
          f"{known}, {duration(clock.left())} left", flush=True)  # fmt: skip


def _stopped(lacking: plan.Plan, began: float) -> str:
    """A sentence on where the run that was stopped goes on."""
    kept = (lacking.store.parts / "checkpoints").rglob("*")
    saved = any(p.is_file() and p.stat().st_mtime >= began for p in kept)
    on = "goes on from its checkpoint" if saved else (
        "begins anew, as it had saved no state yet: give it more MINUTES"
    )  # fmt: skip
    return f"stopped, as the time is over: finished runs are kept, and this one {on}"


def _fits(lacking: plan.Plan, seconds: float | None, clock: Clock) -> bool:
    """Whether to start the next run; where not, say why.

    A run that is longer than a whole call is started all the same if it keeps
    checkpoints, which later calls go on from: it would never be made otherwise.
    """
    left, whole = clock.left(), clock.stop - clock.end + clock.seconds
    if seconds is None or seconds <= left:
        return left > 0
    keeps = "context" in signature(lacking.experiment.module.run).parameters
    if keeps and seconds > whole:
        return left > 0
    least = int((seconds + STOPPING) // 60) + 1
    advice = f"; MINUTES={least} suffice for one" if seconds > whole else ""
    print(f"    not started: the next run takes about {duration(seconds)}, and "
          f"{duration(max(left, 0))} are left{advice}")  # fmt: skip
    return False


def _run_command(project, portion, clock: Clock, scale: str, device: str) -> int:
    """Run a command unless its output is there; 1 where it failed."""
    if found := _output_of(project, portion, scale):
        print(f"{portion.name} ({scale}): its output is in {found}")
        return 0
    target = _output(project, portion, scale)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".unfinished.txt")
    if not portion.resumes and (took := _stopped_after(unfinished)) >= clock.left():
        print(f"{portion.name} ({scale}): not started: it was stopped after "
              f"{duration(took)}, and {duration(clock.left())} are left")  # fmt: skip
        return 0
    filled = {"device": device, "folder": str(target.parent)}
    words = [w.format(**filled) for w in (*portion.command, *portion.options[scale])]
    print(f"{portion.name} ({scale}): expected time unknown, "
          f"{duration(clock.left())} left", flush=True)  # fmt: skip
    start = time.monotonic()
    with unfinished.open("w") as file:
        file.write(_head(project, words, device))
        file.flush()
        status = _follow([sys.executable, *words], file, project.root, clock)
        took = time.monotonic() - start
        file.write(f"\n{_ENDS[status is None]} {took:.0f} s\n")
    if status == 0:
        unfinished.replace(target)
        print(f"    finished in {duration(took)}: {target}")
        return 0
    if status is None:
        print(f"    stopped after {duration(took)}, as the time is over: what it "
              f"printed is in {unfinished}")  # fmt: skip
        return 0
    print(f"    failed with exit status {status}: see {unfinished}")
    return 1


_ENDS = ("ended after", "stopped after")


def _stopped_after(unfinished: Path) -> float:
    """Seconds after which the last call stopped the command; 0 if none did."""
    if not unfinished.is_file():
        return 0.0
    last = unfinished.read_text().strip().rpartition("\n")[2]
    stopped = last.startswith(_ENDS[1])
    return float(last.split()[-2]) if stopped else 0.0


def _head(project: Project, words: list[str], device: str) -> str:
    """The first lines of an output: what made it, where and when."""
    about = engine.origin(project)
    changed = ", with files that differ from it" if about["dirty"] else ""
    processor = machine.columns()["cpu"]
    if device == "cuda":
        import torch

        processor += f", {torch.cuda.get_device_name()}"
    return (
        f"command: python {' '.join(words)}\ndevice: {device} ({processor})\n"
        f"commit: {about['git'] or 'unknown'}{changed}\n"
        f"started: {datetime.now(UTC).isoformat(timespec='seconds')}\n\n"
    )


def _follow(words: list[str], file, root: Path, clock: Clock) -> int | None:
    """Return the exit status of a command, None if it was stopped as time is over.

    It has a process group of its own, so that what it starts ends with it.
    """
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(
        words, cwd=root, env=env, stdout=file, stderr=file, start_new_session=True
    )
    try:
        return child.wait(timeout=max(clock.left(), 0))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=max(clock.end - time.monotonic(), 0.5))
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
