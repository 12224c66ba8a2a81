"""Tasks over joblib: loky processes here, dask or ray elsewhere; survives dead workers.

Tasks carry dicts, never arrays. Outcomes come as they finish, so a worker that dies
takes along only what was running; that is tried again, each run alone in a pool, and a
run that kills its process twice becomes a failed row. One job has a worker process too:
no run may end the process that writes the rows.
"""

import os
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

from tqdm import tqdm

from symlab.harness import contract, worker
from symlab.harness.errors import UserError

BACKENDS = ("loky", "dask", "ray")


def outcomes(tasks: list[dict], jobs: int, backend: str) -> Iterator:
    """Run tasks in worker processes; yield (task, its outcomes) as they finish.

    tasks: dicts, as `worker.execute` takes them. backend: of joblib. A worker that dies
    takes along only what it was running, which is tried again.
    """
    waiting = {id(t): t for t in tasks}
    while waiting:
        running: dict[int, dict] = {}  # handed to joblib and not yet back
        try:
            for i, outcomes in _pool(waiting, running, jobs, backend):
                running.pop(i)
                yield waiting.pop(i), outcomes
        except Exception as error:
            if not _worker_died(error):
                raise
            tqdm.write(
                "a worker process died; what it ran is tried again, one run at a time",
                file=sys.stderr,
            )
            suspects = [waiting.pop(i) for i in list(running or waiting)]
            yield from _one_by_one([t for s in suspects for t in _singles(s)], backend)


_KILLED = (
    "the worker process died while running this (out of memory, or killed): "
    "see whether the run fits this machine"
)


def _singles(task: dict) -> list[dict]:
    pairs = zip(task["configs"], task["keys"], strict=True)
    return [{**task, "configs": [c], "keys": [k]} for c, k in pairs]


def _one_by_one(tasks: list[dict], backend: str) -> Iterator:
    """Suspects, each alone in a pool: who kills its process again is a failed row."""
    for task in tasks:
        try:
            for _, outcomes in _pool({0: task}, {}, 1, backend):
                yield task, outcomes
        except Exception as error:
            if not _worker_died(error):
                raise
            yield task, [worker.outcome(task, task["keys"][0], error=_KILLED)]


def _pool(tasks: dict[int, dict], running: dict, jobs: int, backend: str) -> Iterator:
    """Run tasks on a backend; `running` holds what is handed over and not yet back."""
    _check_backend(backend)
    if backend == "loky":
        _check_processes()
    edits, _ = contract.edits()
    if backend == "loky" and edits != _pool_edits[0]:
        _loky().get_reusable_executor().shutdown(wait=True)
        _pool_edits[0] = edits  # workers that imported older code are gone
    if backend == "loky" and jobs == 1:
        yield from _one_worker(tasks, running)
    else:
        yield from _joblib(tasks, running, jobs, backend)


def _one_worker(tasks: dict[int, dict], running: dict) -> Iterator:
    """Loky without joblib, which runs one job in the calling process."""
    executor = _loky().get_reusable_executor(
        max_workers=1, timeout=IDLE, env=dict.fromkeys(THREADS, "1"), **following()
    )
    waiting, futures = iter(list(tasks.items())), deque()
    try:
        while True:
            for i, task in islice(waiting, AHEAD - len(futures)):
                running[i] = task
                futures.append(executor.submit(_tagged, i, task))
            if not futures:
                return
            yield futures.popleft().result()
    except BaseException:  # also of the caller, who wants no more
        executor.shutdown(kill_workers=True)
        raise


def following() -> dict:
    """Return options of loky (joblib's processes) that make workers end with this
    process, even if it is killed.
    """
    return {"initializer": worker.follow, "initargs": (os.getpid(),)}


def _loky():
    import joblib

    return joblib.externals.loky


def _joblib(tasks: dict[int, dict], running: dict, jobs: int, backend: str) -> Iterator:
    import joblib

    def calls():
        for i, task in list(tasks.items()):
            running[i] = task
            yield joblib.delayed(_tagged)(i, task)

    jobs = max(jobs, 2)  # joblib runs n_jobs=1 in this process
    with _pool_of(backend, jobs), warnings.catch_warnings():
        # loky says so when a long task keeps a worker busy past its idle time
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")
        # and joblib, when we stop early
        warnings.filterwarnings("ignore", ".*have been cancelled")
        yield from joblib.Parallel(
            return_as="generator_unordered", batch_size=1, max_nbytes=None
        )(calls())


AHEAD = 2  # tasks that one worker is given at a time, so that it never waits for us
IDLE = 300  # seconds after which a worker that has nothing to do ends, as joblib's
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
THREADS += ("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")  # per library, of a worker
_pool_edits = [0]  # the edits that the reusable workers have seen


def _check_backend(backend: str) -> None:
    if backend not in BACKENDS:
        raise UserError(
            f"unknown backend {backend!r}: use {', '.join(BACKENDS)} (threads would "
            "share one random generator and one set of BLAS threads)"
        )


def _check_processes() -> None:
    """joblib falls back to threads, silently, where it finds no semaphores."""
    import joblib

    if not hasattr(joblib, "externals"):
        raise UserError(
            "joblib cannot start worker processes here, as the system gives no "
            "semaphores (is /dev/shm full, or the size of files limited?): use "
            "BACKEND=dask"
        )


def _tagged(i: int, task: dict) -> tuple[int, list[dict]]:
    worker.settle()
    return i, worker.execute(task)


@contextmanager
def _pool_of(backend: str, jobs: int) -> Iterator[None]:
    """joblib set to a backend; dask and ray are started here unless they run."""
    import joblib

    with ExitStack() as stack:
        options: dict = {}
        if backend == "loky":
            options = {"inner_max_num_threads": 1, **following()}
        try:
            if backend == "dask":
                stack.enter_context(_dask_client(jobs))
            elif backend == "ray":
                from ray.util.joblib import register_ray

                register_ray()
            config = joblib.parallel_config(backend=backend, n_jobs=jobs, **options)
        except (ValueError, ImportError) as error:
            raise UserError(
                f"the backend {backend!r} is not at hand "
                f"({str(error).splitlines()[0]}): use loky, or install it "
                "(pip install 'symlab[dask]', or ray)"
            ) from None
        with config:
            yield


def _dask_client(jobs: int):
    """The cluster at DASK_SCHEDULER_ADDRESS, or a local one of one-thread workers."""
    import dask
    from dask.distributed import Client

    if dask.config.get("scheduler-address", None):
        return Client()
    return Client(
        n_workers=jobs, threads_per_worker=1, memory_limit=0, dashboard_address=None
    )


def _worker_died(error: Exception) -> bool:
    return type(error).__name__ in (
        "TerminatedWorkerError",
        "BrokenProcessPool",
        "KilledWorker",
        "WorkerCrashedError",
    )
