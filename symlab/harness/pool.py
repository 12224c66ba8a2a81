"""Distributes tasks to worker processes, and handles the death of such a process.

Tasks carry dicts, never arrays. Each task runs in a worker process, here (local.py) or
on a cluster (cluster.py), so a process that dies or takes too long affects one call of
`run` and no other. After all other calls, the configs of such a call are tried again in
two halves, down to single runs. A single run whose process died is tried once more at
the end, when nothing else needs memory; if its process dies again, it becomes a failed
row. A worker process is used even for one job: no run may end the process that writes
the rows.
"""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise

from tqdm import tqdm

from symlab.harness import worker
from symlab.harness.children import DIED, DONE
from symlab.harness.errors import UserError

BACKENDS = ("joblib", "dask", "ray")
EARLIER = {"loky": "joblib", "local": "joblib"}  # names that scripts may still use


def outcomes(
    tasks: list[dict], jobs: int, backend: str = "joblib", scheduler: str = ""
) -> Iterator[tuple[dict, list[dict]]]:
    """Run tasks in worker processes; yield (task, its results) as they finish.

    tasks: dicts as for `worker.execute`, with `timeout`, the seconds that one call of
        `run` may take, 0 for any.
    jobs: how many tasks run at a time.
    backend: one of BACKENDS.
    scheduler: the address of a running cluster of dask or ray; '' starts one here.
    """
    alone: list[dict] = []  # single runs that have lost a process
    with _workers(tasks, jobs, known(backend), scheduler) as workers:
        while tasks or alone:
            if not tasks:
                tasks, alone, jobs = alone, [], 1
            lost: list[dict] = []
            with closing(workers.calls(tasks, jobs)) as calls:
                for task, how, found in calls:
                    if how != DONE:
                        found = _again(task, how, lost, alone)
                    if found:
                        yield task, found
            tasks = lost


def _again(task: dict, how: str, lost: list, alone: list) -> list[dict]:
    """Keep what is tried again of a call that was lost; its outcomes where nothing
    is.
    """
    task = task | {"deaths": task.get("deaths", 0) + 1}
    n = len(task["keys"])
    if n > 1:
        said, cuts = "its runs are tried again in two halves", (0, n // 2, n)
        for start, end in pairwise(cuts):
            part = {k: task[k][start:end] for k in ("keys", "configs")}
            lost.append({**task, **part, "cost": task["cost"] / 2})
    elif how == DIED and task["deaths"] == 1:
        said = "its run is tried again at the end, alone"
        alone.append(task)
    else:
        return [_failed(task, how)]
    limit = f"took longer than TIMEOUT={task['timeout']:g} seconds"
    what = "lost its worker process" if how == DIED else limit
    tqdm.write(f"a call of {task['name']} {what}: {said}", file=sys.stderr)
    return []


_KILLED = (
    "the worker process died while running this (out of memory, or killed): "
    "see whether the run fits this machine"
)


def _failed(task: dict, how: str) -> dict:
    """The outcome of a run that is given up."""
    if how == DIED:
        return worker.outcome(task, task["keys"][0], error=_KILLED)
    limit = task["timeout"]
    error = (
        f"the run took longer than TIMEOUT={limit:g} seconds and was stopped: give it "
        "more, or make it shorter"
    )
    return worker.outcome(task, task["keys"][0], error=error, wall=limit)


def backend_of(scheduler: str) -> str:
    """Return the backend ('dask' or 'ray') of a cluster's address; 'joblib' for ''."""
    if not scheduler:
        return "joblib"
    return "ray" if scheduler.startswith("ray://") else "dask"


def known(backend: str) -> str:
    """Return the present name of a backend, which is one of BACKENDS.

    Older names are translated. Raises UserError for any other name.
    """
    backend = EARLIER.get(backend, backend)
    if backend not in BACKENDS:
        raise UserError(
            f"unknown backend {backend!r}: use {', '.join(BACKENDS)} (threads would "
            "share one random generator and one set of BLAS threads)"
        )
    return backend


@contextmanager
def _workers(tasks: list[dict], jobs: int, backend: str, scheduler: str) -> Iterator:
    """The workers of a backend, which are stopped at the end, whatever happens."""
    if backend == "joblib":
        from symlab.harness import local

        workers = local.Local()
    else:
        from symlab.harness import cluster

        workers = cluster.workers(tasks, jobs, backend, scheduler)
    try:
        yield workers
    finally:
        workers.close()
