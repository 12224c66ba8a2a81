"""Tasks over workers: outcomes as they come, and what happens when a worker dies.

Tasks carry dicts, never arrays. Each task has a worker process of its own, here
(local.py) or on a cluster (cluster.py), so a process that dies or takes too long takes
along one call of `run` and no other. Such a call is tried again by halves after all
others, down to the run that does it; a single run is tried once more at the end, when
nothing else needs memory, and is a failed row if it kills its process a second time.
One job has a worker process, too: no run may end the process that writes the rows.
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
    """Run tasks in worker processes; yield (task, its outcomes) as they finish.

    tasks: dicts, as `worker.execute` takes them, with `timeout` besides: the seconds
    that one call of `run` may take, 0 for any. backend: one of BACKENDS. scheduler: the
    address of a running cluster of dask or ray; '' starts one here.
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
    """Return the backend that an address of a cluster belongs to; 'joblib' for ''."""
    if not scheduler:
        return "joblib"
    return "ray" if scheduler.startswith("ray://") else "dask"


def known(backend: str) -> str:
    """Return the name of a backend, of BACKENDS; raise UserError for another."""
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
