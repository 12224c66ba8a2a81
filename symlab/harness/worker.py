"""What a worker process does: import the experiment by name, run configs, catch all.

Kept light and importable: tasks carry dicts, results are lists of dicts.
"""

import os
import sys
import time
import traceback
from functools import cache
from pathlib import Path

import pyarrow as pa

from symlab.harness import contract, store
from symlab.harness.project import Project

_loaded: dict[tuple[Path, str, str], contract.Experiment] = {}


def execute(task: dict) -> list[dict]:
    """Run the configs of one task; one outcome dict each, in order, never an exception.

    task: root, name, code, device, configs (list of dicts), keys.
    outcome: key, status ('ok' or 'failed'), error, lanes, wall_s, device, result.
    """
    os.environ["SYMLAB_DEVICE"] = task["device"]
    os.environ["SYMLAB_CHECKPOINTS"] = task.get("checkpoints", "")
    try:
        experiment = _experiment(Path(task["root"]), task["name"], task["code"])
    except (Exception, SystemExit) as error:
        return [outcome(task, k, error=_last_lines(error)) for k in task["keys"]]
    return _bisect(experiment, task, task["configs"], task["keys"])


def _experiment(root: Path, name: str, expected: str) -> contract.Experiment:
    """The experiment, if its code is the one that the plan saw."""
    experiment = _loaded.get((root, name, expected))
    if experiment is None:
        experiment = contract.load(Project(root), name)
        if experiment.reached.code != expected:
            raise RuntimeError(
                "the source changed while the sweep was running: start the same "
                "command again"
            )
        _loaded[root, name, expected] = experiment
    return experiment


class OneThread:
    """One BLAS and torch thread: more would fight over the cores of other workers.

    A context where runs share the caller's process; a worker enters it once, for good.
    """

    def __enter__(self):
        from threadpoolctl import threadpool_limits

        self.omp = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"  # for what is imported inside run
        self.limits = threadpool_limits(1)
        torch = sys.modules.get("torch")
        self.torch = torch.get_num_threads() if torch else None
        if torch:
            torch.set_num_threads(1)
        return self

    def __exit__(self, *_):
        self.limits.restore_original_limits()
        if self.torch:
            sys.modules["torch"].set_num_threads(self.torch)
        if self.omp is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = self.omp


@cache
def settle() -> None:
    """What a worker process does once."""
    OneThread().__enter__()


def _bisect(experiment, task: dict, configs: list, keys: list) -> list[dict]:
    """Run together; where that raises, run halves, down to the lane that fails."""
    start = time.perf_counter()
    try:
        rows = experiment.run(configs)
        _check_shape(rows, len(configs))
    except (Exception, SystemExit) as error:
        if len(configs) == 1:
            return [
                outcome(
                    task,
                    keys[0],
                    error=_last_lines(error),
                    wall=time.perf_counter() - start,
                )
            ]
        half = len(configs) // 2
        return _bisect(experiment, task, configs[:half], keys[:half]) + _bisect(
            experiment, task, configs[half:], keys[half:]
        )
    wall = (time.perf_counter() - start) / len(configs)
    allowed = getattr(experiment.module, "MAY_BE_NAN", ())
    return [
        _finish(task, key, row, allowed, wall, len(configs))
        for key, row in zip(keys, rows, strict=True)
    ]


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
        row = {name: store.plain(value) for name, value in row.items()}
        for name, value in row.items():
            if not isinstance(name, str):
                raise TypeError(f"a result is named {name!r}: use a string")
            kind = store.value_type(name, value)
            if type(value) not in (float, bool):  # they fit their column
                pa.array([value], kind)
        at = row.get("diverged_at", -1)
        if type(at) is not int:
            raise TypeError(
                "diverged_at must be a step (int), -1 where nothing diverged"
            )
    except (TypeError, ValueError, OverflowError) as error:  # pa.ArrowInvalid is one
        return outcome(task, key, error=_last_line(error), wall=wall, lanes=lanes)
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
    return {
        "key": key,
        "status": "failed" if error else "ok",
        "error": error,
        "lanes": lanes,
        "wall_s": wall,
        "device": task["device"],
        "result": result or {},
    }


def _last_line(error: Exception) -> str:
    return f"a result cannot be stored: {error}".split("\n")[0]


def _last_lines(error: Exception) -> str:
    return "".join(traceback.format_exception(error))[-4000:]
