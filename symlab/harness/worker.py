"""What a worker process does: import the experiment by name, run configs, catch all.

Kept light and importable: tasks carry dicts, results are lists of dicts.
"""

import os
import sys
import time
import traceback
from functools import cache
from pathlib import Path

from symlab.harness import code, contract, store
from symlab.harness.project import Project

_loaded: dict[tuple[Path, str], tuple[str, contract.Experiment]] = {}


def execute(task: dict) -> list[dict]:
    """Run the configs of one task; one outcome dict each, in order, never an exception.

    task: root, name, code, device, configs (list of dicts), keys.
    outcome: key, status ('ok' or 'failed'), error, lanes, wall_s, device, result.
    """
    os.environ["SYMLAB_DEVICE"] = task["device"]
    os.environ["SYMLAB_CHECKPOINTS"] = task.get("checkpoints", "")
    try:
        experiment = _experiment(Path(task["root"]), task["name"], task["code"])
    except Exception as error:
        return [outcome(task, k, error=_last_lines(error)) for k in task["keys"]]
    return _bisect(experiment, task, task["configs"], task["keys"])


def _experiment(root: Path, name: str, expected: str) -> contract.Experiment:
    """The experiment whose code is the one that the plan saw, imported anew if need be.

    A worker outlives a call, and the user may edit between two calls or during one.
    """
    found = _loaded.get((root, name))
    if found is None or found[0] != expected:
        if found is not None:
            _forget(root)
        now = code.digest(code.of_experiment(root, name))
        if now != expected:
            raise RuntimeError(
                "the source changed while the sweep was running: "
                "start the same command again"
            )
        _loaded[root, name] = (now, contract.load(Project(root), name))
    return _loaded[root, name][1]


def _forget(root: Path) -> None:
    """Drop the project's modules, but for this harness, so that edits are imported."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        stays = name in ("__main__", "symlab", "symlab.notebook")
        stays = stays or name.startswith("symlab.harness") or "site-packages" in file
        if file.startswith(f"{root}{os.sep}") and not stays:
            del sys.modules[name]
    contract._load.cache_clear()


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
    except Exception as error:
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
    row = {name: store.plain(value) for name, value in row.items()}
    try:
        for name, value in row.items():
            store.value_type(name, value)
    except TypeError as error:
        return outcome(task, key, error=str(error), wall=wall, lanes=lanes)
    lost = [
        n
        for n, v in row.items()
        if isinstance(v, float) and n not in allowed and not abs(v) < float("inf")
    ]
    if row.get("diverged_at", -1) >= 0:
        error = f"diverged at step {row['diverged_at']}"
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


def _last_lines(error: Exception) -> str:
    return "".join(traceback.format_exception(error))[-4000:]
