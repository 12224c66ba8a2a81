"""Does the work listed in portions.toml within a given number of minutes.

Each entry ("portion") is an experiment or a command. A later call continues: it uses
the rows that exist, the checkpoint of the run that was stopped, and begins with the
first command that has no output file. Nothing is committed to git here.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from symlab.harness import contract, engine, machine, plan, portions
from symlab.harness.errors import UserError
from symlab.harness.progress import duration
from symlab.harness.project import Project

STOPPING = 15.0  # seconds at most, a tenth of a call at most, kept for saving a state


class Clock:
    """The time within which the work on portions has to be done.

    minutes: the whole time.

    Runs are stopped shortly before it is over, so that their state is saved and their
    rows are written in time.
    """

    def __init__(self, minutes: float):
        self.seconds = 60 * minutes
        self.end = time.monotonic() + self.seconds
        self.usable = self.seconds - min(STOPPING, self.seconds / 10)
        self.stop = self.end - self.seconds + self.usable
        self.stopped = False

    def left(self) -> float:
        """Return the seconds until runs are stopped."""
        return self.stop - time.monotonic()

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """Return a context whose body is interrupted, as by Ctrl-C, when no time is
        left.

        It works only in the main thread, and not on Windows, which lacks SIGALRM.
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


def run(
    project: Project,
    chosen: list[portions.Portion],
    minutes: float,
    scale: str,
    device: str,
) -> int:
    """Do what is missing of portions within some minutes, and print what came of it.

    chosen: the portions (entries of portions.toml), in order of value.
    minutes: the time for all.
    scale: 'smoke', 'quick' or 'paper'. device: 'cpu' or 'cuda'.

    Returns 0, also if the time was too short, or 1 if a run failed or a portion lacks
    its data.
    """
    check_device(device)
    clock, status = Clock(minutes), 0
    # SIGTERM ends a call as Ctrl-C does: a command must not go on without this process
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for portion in chosen:
            if clock.left() <= 0:
                break
            status = max(status, _run_one(project, portion, clock, scale, device))
    finally:
        signal.signal(signal.SIGTERM, before)
    rest = "the same call goes on from here" if clock.left() <= 0 else "all were tried"
    used = clock.seconds - (clock.end - time.monotonic())
    print(f"{duration(used)} of {duration(clock.seconds)} used: {rest}")
    return status


def _run_one(project, portion, clock: Clock, scale: str, device: str) -> int:
    if lacks := portions.missing(portion, scale):
        print(lacks)
        return 1
    kind = _run_experiment if portion.experiment else _run_command
    return kind(project, portion, clock, scale, device)


def check_device(device: str) -> None:
    """Raise UserError if this machine does not have the device, 'cpu' or 'cuda'."""
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
        there, lacking, _ = portions.runs(project, portion, scale)
        todo = {k: c for k, c in lacking.configs.items() if k not in tried}
        total = there + len(lacking.configs)
        if not tried:
            print(f"{portion.name} ({scale}): {there} of {total} runs are there")
        if lacking.blocked:
            print(f"    not run: {portion.experiment} {lacking.blocked}")
            return 1
        if not todo or not _fits(lacking, todo, clock):
            return int(failed > 0)
        chunk = _together(lacking.experiment, todo)
        tried |= chunk.keys()
        print(f"    {_named(lacking.experiment, chunk)}: expected time "
              f"{portions.expected(lacking, chunk)}, {duration(clock.left())} left",
              flush=True)  # fmt: skip
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


def _named(experiment: contract.Experiment, chunk: dict[str, dict]) -> str:
    """The first of these runs, by the fields that are not at their defaults."""
    config = next(iter(chunk.values()))
    usual = {f.name: f.default for f in dataclasses.fields(experiment.module.Config)}
    said = {k: v for k, v in config.items() if v != usual[k] or k == "seed"}
    more = f" and {len(chunk) - 1} beside it" if len(chunk) > 1 else ""
    return ", ".join(f"{k}={v}" for k, v in said.items()) + more


def _stopped(lacking: plan.Plan, began: float) -> str:
    """A sentence on where the run that was stopped goes on."""
    kept = (lacking.store.parts / "checkpoints").rglob("*")
    saved = any(p.is_file() and p.stat().st_mtime >= began for p in kept)
    on = "goes on from its checkpoint" if saved else (
        "begins anew, as it had saved no state yet: give it more MINUTES"
    )  # fmt: skip
    return f"stopped, as the time is over: finished runs are kept, and this one {on}"


def _fits(lacking: plan.Plan, todo: dict[str, dict], clock: Clock) -> bool:
    """Whether to start the first of these runs; where not, say why.

    A run that is longer than a whole call is started all the same if it keeps
    checkpoints, which later calls go on from: it would never be made otherwise.
    """
    left, seconds = clock.left(), lacking.seconds.get(next(iter(todo)))
    if seconds is None or seconds <= left:
        return left > 0
    keeps = lacking.experiment.takes_context
    if keeps and seconds > clock.usable:
        return left > 0
    least = int((seconds + STOPPING) // 60) + 1
    advice = f"; MINUTES={least} suffice for one" if seconds > clock.usable else ""
    print(f"    not started: the next run takes about {duration(seconds)}, and "
          f"{duration(max(left, 0))} are left{advice}")  # fmt: skip
    return False


def _run_command(project, portion, clock: Clock, scale: str, device: str) -> int:
    """Run a command unless its output is there; 1 where it failed."""
    if found := portions.output_of(project, portion, scale):
        print(f"{portion.name} ({scale}): its output is in {found}")
        return 0
    target = portions.output(project, portion, scale)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".unfinished.txt")
    if not portion.resumes and (took := _stopped_after(unfinished)) >= clock.left():
        print(f"{portion.name} ({scale}): not started: it was stopped after "
              f"{duration(took)}, and {duration(clock.left())} are left")  # fmt: skip
        return 0
    words = [
        word.replace("{device}", device).replace("{folder}", str(target.parent))
        for word in (*portion.command, *portion.options[scale])
    ]
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
        return None
    finally:
        _end(child, min(STOPPING, clock.end - time.monotonic()))


def _end(child: subprocess.Popen, seconds: float) -> None:
    """End a command and what it started, after some seconds in which it may save."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=max(seconds, 0.5))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
