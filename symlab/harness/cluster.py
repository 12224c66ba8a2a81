"""Workers of a dask or ray cluster, which need no symlab and no file system of ours.

Both take single calls and give futures: joblib's ray backend has no results as they
come, and its dask backend waits for ever for a worker that died. A worker of the
cluster unpacks the source (parcel.py) and runs each call in a child of its own
(children.py), so a run that kills its process leaves the worker alive. A call that is
lost with its worker comes back as one that died; what can no longer come back ends the
sweep with one sentence.
"""

import contextlib
import queue
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from uuid import uuid4

from symlab.harness import parcel
from symlab.harness.children import DIED
from symlab.harness.errors import UserError

PATIENCE = 60.0  # seconds without a scheduler, or without any worker
CONNECT = 30.0  # seconds in which a scheduler must answer at first
KEPT = "finished runs are kept, and the same command goes on from there"

Ended = tuple[dict, str, list[dict]]  # task, what became of it, its outcomes


def workers(tasks: list[dict], jobs: int, backend: str, scheduler: str):
    """Return the workers of 'dask' or 'ray', which have `calls` and `close`, as
    local.Local has.

    scheduler: the address of a running cluster; '' starts one here with `jobs` workers.
    """
    kind = {"dask": Dask, "ray": Ray}[backend]
    try:
        return kind(tasks, jobs, scheduler)
    except ImportError as error:
        raise UserError(
            f"BACKEND={backend} is not at hand ({error}): install it with "
            f"`pip install 'symlab[{backend}]'`, or leave BACKEND away"
        ) from None


class _Cluster:
    """What both have: calls under way by name, and a mark in the folders of the sweep.

    A worker that reads the mark sees our file system, and keeps checkpoints there.
    """

    def __init__(self, tasks: list[dict]):
        self.data, self.digest = parcel.pack(tasks)
        self.under_way: dict = {}  # name of a call -> (task, what the cluster calls it)
        self.mark = uuid4().hex
        self.marks = {Path(t["checkpoints"]).parent / ".mark" for t in tasks}
        for path in self.marks:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.mark)

    def calls(self, tasks: list[dict], jobs: int) -> Iterator[Ended]:
        """Yield each task with what became of it, `jobs` tasks at a time."""
        waiting, ended = deque(tasks), []
        while waiting or self.under_way or ended:
            while waiting and len(self.under_way) < jobs:
                self.begin(waiting.popleft())
            yield from ended  # while the next ones compute
            ended = self.ended() if self.under_way else []

    def close(self) -> None:
        """Stop what is under way, and leave the cluster."""
        for path in self.marks:
            path.unlink(missing_ok=True)


class Dask(_Cluster):
    """Workers of a dask cluster: at an address, at DASK_SCHEDULER_ADDRESS, or here."""

    def __init__(self, tasks: list[dict], jobs: int, scheduler: str):
        import dask
        from distributed import Client, LocalCluster

        super().__init__(tasks)
        self.stack = contextlib.ExitStack()
        self.address = scheduler or dask.config.get("scheduler-address", "")
        quiet = {"distributed.comm.timeouts.connect": f"{CONNECT:g}s"}
        self.stack.enter_context(dask.config.set(quiet))
        where = self.address or self.stack.enter_context(
            LocalCluster(
                n_workers=1,
                threads_per_worker=jobs,
                processes=False,
                memory_limit=0,
                dashboard_address=None,
            )
        )
        try:
            self.client = self.stack.enter_context(Client(where, timeout=CONNECT))
        except (OSError, ValueError) as error:
            super().close()
            self.stack.close()
            said = str(error).splitlines()[0]
            raise UserError(
                f"no dask scheduler answers at {self.address} ({said}): start one with "
                "`dask scheduler`, or correct SCHEDULER="
            ) from None
        self.back: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.well = monotonic()  # when the cluster was last seen to be well
        # the result of a task, and no argument: computed anew if its worker dies
        self.source = self.client.submit(lambda data: data, self.data, pure=False)

    def begin(self, task: dict) -> None:
        """Hand a task to the cluster."""
        task = task | {"mark": self.mark}
        future = self.client.submit(
            parcel.carrier(), self.source, self.digest, task, pure=False
        )
        self.under_way[future.key] = task, future
        future.add_done_callback(lambda f: self.back.put(f.key))

    def ended(self) -> list[Ended]:
        """Wait a moment; return each task that ended, with what became of it.

        Raises UserError where the scheduler or all workers have been lost for
        `PATIENCE` seconds.
        """
        try:
            keys = [self.back.get(timeout=1.0)]
        except queue.Empty:
            self._check()
            return []
        with suppress(queue.Empty):
            while True:
                keys.append(self.back.get_nowait())
        return [e for e in map(self._result, keys) if e]

    def _result(self, key: str) -> Ended | None:
        from distributed import KilledWorker

        task, future = self.under_way[key]
        try:
            found = future.result(timeout=PATIENCE)
        except TimeoutError:
            self.back.put(key)
            self._check()
            return None
        except KilledWorker:
            found = DIED, []
        except Exception as error:
            if future.status == "error":
                raise _unable(error) from error
            if future.status != "cancelled" or self.client.status != "running":
                self.back.put(key)
                self._check()
                return None
            found = DIED, []  # somebody cancelled it
        del self.under_way[key]
        self.well = monotonic()
        return task, *found

    def _check(self) -> None:
        """Whether a scheduler and a worker are there; UserError when they stay away."""
        there = self.client.status == "running"
        if there and self.client.scheduler_info()["workers"]:
            self.well = monotonic()
        elif not there and self.client.status in ("closed", "closing"):
            self.well = -PATIENCE  # it has given up
        if monotonic() - self.well < PATIENCE:
            return
        what = "worker of the dask cluster" if there else "dask scheduler"
        command = "dask worker" if there else "dask scheduler"
        raise UserError(
            f"the {what} at {self.address} is gone: start one with `{command}`; {KEPT}"
        )

    def close(self) -> None:
        """Stop what is under way, also within the workers, and leave the cluster."""
        super().close()
        if self.under_way and self.client.status == "running":
            futures = [future for _, future in self.under_way.values()]
            with suppress(Exception):  # the cluster may be gone
                self.client.cancel(futures, force=True)
        if self.client.status == "running":
            with suppress(Exception):
                arguments = parcel.carrier(), b"", self.digest, None
                self.client.run(*arguments, on_error="ignore")
        with suppress(Exception):
            self.stack.close()


class Ray(_Cluster):
    """Workers of a ray cluster: at an address, or started here with `jobs` cores."""

    def __init__(self, tasks: list[dict], jobs: int, scheduler: str):
        import ray

        super().__init__(tasks)
        self.ray = ray
        where = {"address": scheduler} if scheduler else {"num_cpus": jobs}
        if not scheduler:  # not the cluster that somebody else has started here
            where |= {"address": "local", "include_dashboard": False}
        try:
            _knock(scheduler)
            ray.init(logging_level="error", **where)
        except (OSError, ValueError, RuntimeError) as error:
            super().close()
            said = str(error).splitlines()[0]
            raise UserError(
                f"no ray cluster answers at {scheduler} ({said}): start one with "
                "`ray start --head`, or correct SCHEDULER="
            ) from None
        self.call = ray.remote(max_retries=0, num_cpus=1)(parcel.carrier())
        self.source = ray.put(self.data)

    def begin(self, task: dict) -> None:
        """Hand a task to the cluster."""
        task = task | {"mark": self.mark}
        call = self.call.options(num_gpus=1) if task["device"] == "cuda" else self.call
        future = call.remote(self.source, self.digest, task)
        self.under_way[future] = task, future

    def ended(self) -> list[Ended]:
        """Wait a moment; return each task that ended, with what became of it."""
        done, _ = self.ray.wait(list(self.under_way), timeout=1.0)
        return [self._result(future) for future in done]

    def _result(self, future) -> Ended:
        task, _ = self.under_way.pop(future)
        try:
            found = self.ray.get(future)
        except self.ray.exceptions.RayTaskError as error:
            raise _unable(error) from error
        except self.ray.exceptions.RayError:  # the worker, its node or its memory
            found = DIED, []
        return task, *found

    def close(self) -> None:
        """Stop what is under way, and leave the cluster, or end it if it is ours."""
        super().close()
        for future in self.under_way:
            with suppress(Exception):
                self.ray.cancel(future, force=True)
        self.ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at host:port; ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT).close()


def _unable(error: Exception) -> UserError:
    said = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return UserError(
        f"a worker of the cluster cannot start runs ({said}): see that it has the "
        f"Python and the packages of this environment; {KEPT}"
    )
