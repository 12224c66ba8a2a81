"""What a worker process does: it imports an experiment and runs configs.

Tasks carry dicts, results are lists of dicts. Runs share a process one after the other;
`surroundings.restored` says what a run may change for itself alone, and what stays
changed for the next run. An experiment whose `run` must have a process of its own has
to start one.

Every exception of `run` becomes a failed row, including KeyboardInterrupt: workers
ignore SIGINT, so no such exception comes from the user, whose Ctrl-C stops the calling
process, which then stops its workers. A run that ends the process (os._exit, a
segmentation fault, out of memory) becomes a failed row as well: see pool.py.
"""

import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from time import perf_counter  # a run may put another into the module

from symlab.harness import columns, context, contract, faults, machine
from symlab.harness.project import Project
from symlab.harness.surroundings import restored, seed_generators

_loaded: dict[tuple[str, str, str], contract.Experiment] = {}


def execute(task: dict) -> list[dict]:
    """Run the configs of one task; return one dict per config, in order.

    task: a dict with root (the project's folder), name (the experiment), code, device,
        configs (a list of dicts) and keys.

    Each dict returned has key, status ('ok' or 'failed'), error, lanes (how many
    configs were computed together), wall_s, device, cpu, blas, system and result.
    Nothing is raised: an exception becomes a failed row.
    """
    os.environ["SYMLAB_QUIET"] = "1"  # no progress bars: the sweep has one
    try:
        experiment = _experiment(task["root"], task["name"], task["code"])
    except BaseException as error:
        return [outcome(task, k, error=_text(error)) for k in task["keys"]]
    return _bisect(experiment, task, task["configs"], task["keys"])


def _experiment(root: str, name: str, expected: str) -> contract.Experiment:
    """The experiment, if its code is the one that the plan saw."""
    experiment = _loaded.get((root, name, expected))
    if experiment is None:
        experiment = contract.load(Project(Path(root)), name)
        if experiment.reached.code != expected:
            raise RuntimeError(
                "the source changed while the sweep was running: start the same "
                "command again"
            )
        _loaded[root, name, expected] = experiment
    return experiment


def follow(parent: int) -> None:
    """Watch a process in a thread, and end this process within seconds after its end.

    parent: the id of the process that started this one.

    Watching is necessary because a parent that is killed by SIGKILL, or because memory
    is short, can tell nobody.
    """

    def watch():
        while os.getppid() == parent:
            pause.wait(SECONDS)
        if os.getpgrp() == os.getpid():  # with the programs that a run has started
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    pause = threading.Event()
    threading.Thread(target=watch, daemon=True).start()


SECONDS = 1.0  # between two looks at the parent


def settle() -> None:
    """Set up a worker process, once: its threads and signals.

    BLAS and torch use one thread: more would compete for the cores of other workers.
    Its handler for SIGINT does nothing; unlike an ignored signal, a handler is not
    inherited by programs that a run starts.
    """
    from threadpoolctl import threadpool_limits

    os.environ["OMP_NUM_THREADS"] = "1"  # for what is imported inside run
    threadpool_limits(1)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    signal.signal(signal.SIGINT, lambda *_: None)


def prepare(task: dict) -> None:
    """Import the experiment of a task, and find out what its rows record of this
    machine.

    These are versions of packages, the processor, the linear-algebra library and the
    system. Both steps take a while the first time. Errors are ignored here, as
    `execute` reports them.
    """
    with suppress(BaseException):
        _versions(_experiment(task["root"], task["name"], task["code"]), task)
        machine.columns()


def _bisect(experiment, task: dict, configs: list, keys: list) -> list[dict]:
    """Run together; where that raises, run halves, down to the lane that fails."""
    start = perf_counter()
    try:
        with restored(task["code"]):
            seed_generators(keys[0])
            given = context.of(task) if experiment.takes_context else None
            start = perf_counter()
            rows = experiment.run(configs, given)
            wall = (perf_counter() - start) / len(configs)
        _check_shape(rows, len(configs))
    except BaseException as error:
        if len(configs) == 1:
            return [
                outcome(
                    task,
                    keys[0],
                    error=_text(error),
                    wall=perf_counter() - start,
                )
            ]
        half = len(configs) // 2
        return _bisect(experiment, task, configs[:half], keys[:half]) + _bisect(
            experiment, task, configs[half:], keys[half:]
        )
    allowed = getattr(experiment.module, "MAY_BE_NAN", ())
    return [
        _finish(task, key, row, allowed, wall, len(configs))
        | _versions(experiment, task)
        for key, row in zip(keys, rows, strict=True)
    ]


def _versions(experiment: contract.Experiment, task: dict) -> dict[str, str]:
    """The versions of packages, where they may differ from those of the command: on a
    cluster, whose tasks bear a mark. Asking for them takes a fifth of a second at
    first.
    """
    if "mark" not in task:
        return {}
    return {"versions": machine.versions(experiment.reached.versions)}


def _check_shape(rows, n: int) -> None:
    if not isinstance(rows, list) or len(rows) != n:
        got = f"{len(rows)} rows" if isinstance(rows, list) else type(rows).__name__
        raise ValueError(
            f"run returned {got} for {n} configs: return a list with one "
            "dict per config, in the order given"
        )
    for row in rows:
        if not isinstance(row, dict):
            raise ValueError(
                f"run returned a {type(row).__name__} where a dict of results belongs"
            )


def _finish(task, key, row: dict, allowed, wall: float, lanes: int) -> dict:
    """An outcome; results that cannot be stored or are not finite make it a failure."""
    try:
        row = {columns.plain(n): columns.plain(value) for n, value in row.items()}
        for name, value in row.items():
            if type(name) is not str:
                raise TypeError(f"a result is named {name!r}: use a string")
            columns.check_text(name, name)
            columns.kind(name, value)
        at = row.get("diverged_at", -1)
        if type(at) is not int:
            raise TypeError(
                "diverged_at must be a step (int), -1 where nothing diverged"
            )
    except BaseException as error:
        error = f"a result cannot be stored: {_text(error, traces=False)}"
        return outcome(task, key, error=error, wall=wall, lanes=lanes)
    lost = [
        n
        for n, v in row.items()
        if isinstance(v, float) and n not in allowed and not abs(v) < float("inf")
    ]
    if at >= 0:
        error = f"diverged at step {at}"
    else:
        error = f"diverged: {', '.join(lost)} not finite" if lost else ""
    return outcome(task, key, error=error, wall=wall, lanes=lanes, result=row)


def outcome(task, key, *, error="", wall=0.0, lanes=1, result=None) -> dict:
    """Return the result of one run, as a dict with the entries that `execute` names.

    task: the task of the run. key: of its config.
    error: why it failed; '' if it succeeded.
    wall: its time in seconds.
    lanes: how many configs were computed together.
    result: the row that `run` returned.
    """
    return {
        "key": key,
        "status": "failed" if error else "ok",
        "error": error,
        "lanes": lanes,
        "wall_s": wall,
        "device": task["device"],
        **machine.columns(),
        "result": result or {},
    }


LONGEST = 4000  # characters of an error: its end says more than its beginning


def _text(error: BaseException, traces: bool = True) -> str:
    """The error as text that a table can hold, whatever its methods do.

    Its last line names the user's line, as "my_law.py line 45: KeyError: 'z'".
    """
    try:
        lines = traceback.format_exception(error) if traces else [str(error)]
        if traces and faults.file_of(error):
            lines.append(faults.said(error))
        text = "".join(lines).encode(errors="backslashreplace").decode().strip()
    except BaseException:
        text = ""
    text = text or f"{type(error).__name__}, whose text cannot be shown"
    if len(text) <= LONGEST:
        return text
    cut = f"\n[{len(text) - LONGEST} characters are left out here]\n"
    return text[: LONGEST // 4] + cut + text[-LONGEST // 4 * 3 :]
