"""Workers of a dask or ray cluster, which need neither symlab nor a shared file system.

Calls are sent one by one and give futures. joblib's backends are not used: that for ray
does not return results as they come, and that for dask waits for ever for a worker that
died. A worker of the cluster unpacks the source code (parcel.py) and makes each call in
a process of its own (children.py), so a run that kills its process leaves the worker
alive. A call that is lost with its worker counts as one whose process died. If the
cluster itself is lost, the sweep ends with a one-sentence error.
"""

import contextlib
import os
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import monotonic
from uuid import uuid4

from symlab.harness import parcel, ray_driver
from symlab.harness.children import DIED, Child
from symlab.harness.errors import UserError

PATIENCE = 60.0  # seconds without a scheduler, or without any worker
CONNECT = 30.0  # seconds in which a scheduler must answer at first
LEAVE = 60.0  # seconds in which ray may end what it has started
KEPT = "finished runs are kept, and the same command goes on from there"

Ended = tuple[dict, str, list[dict]]  # task, what became of it, its outcomes


def workers(tasks: list[dict], jobs: int, backend: str, scheduler: str):
    """Return workers on a dask or ray cluster, with methods `calls` and `close`.

    tasks: all tasks of the sweep, whose source code the workers get.
    jobs: how many tasks run at a time.
    backend: 'dask' or 'ray'.
    scheduler: the address of a running cluster; '' starts one here with `jobs` workers.

    Raises UserError if the backend is not installed. `local.Local` has the same
    methods.
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
    """Workers of a dask cluster at an address, or of one that is started here.

    tasks, jobs: as for `workers`.
    scheduler: the address; '' takes DASK_SCHEDULER_ADDRESS, or if that is not set
        starts a cluster in this process.
    """

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
        """Send a task to the cluster."""
        task = task | {"mark": self.mark}
        future = self.client.submit(
            parcel.carrier(), self.source, self.digest, task, pure=False
        )
        self.under_way[future.key] = task, future
        future.add_done_callback(lambda f: self.back.put(f.key))

    def ended(self) -> list[Ended]:
        """Wait up to a second; return (task, how it ended, its results) for each task
        that ended.

        Raises UserError if the scheduler or all workers have been absent for `PATIENCE`
        seconds.
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
                said = str(error).strip() or type(error).__name__
                raise _unable(said.splitlines()[-1]) from error
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
        """Cancel the calls under way, kill their processes, and disconnect from the
        cluster.
        """
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
    """Workers of a ray cluster at an address, or of one that is started here.

    tasks, jobs, scheduler: as for `workers`.

    A separate process (ray_driver.py) communicates with the cluster, because ray ends
    the process that uses it when the cluster is lost.
    """

    def __init__(self, tasks: list[dict], jobs: int, scheduler: str):
        super().__init__(tasks)
        self.scheduler, self.numbers = scheduler, count()
        self.driver = Child([p or os.getcwd() for p in sys.path], main="ray_driver")
        about = {"scheduler": scheduler, "jobs": jobs}
        about |= {"data": self.data, "digest": self.digest}
        try:
            self.driver.connection.send(about)
            answer, said = self.driver.connection.recv()
        except (EOFError, OSError):
            answer, said = ray_driver.SILENT, "ray ended its process"
        if answer == ray_driver.READY:
            return
        self.close()
        if answer == ray_driver.ABSENT:
            raise ImportError(said)
        raise UserError(
            f"no ray cluster answers at {scheduler or 'this machine'} ({said}): start "
            "one with `ray start --head`, or correct SCHEDULER="
        )

    def begin(self, task: dict) -> None:
        """Send a task to the cluster."""
        number, task = next(self.numbers), task | {"mark": self.mark}
        self.under_way[number] = task, number
        with suppress(OSError):  # the driver has ended: `ended` will say so
            self.driver.connection.send((number, task))

    def ended(self) -> list[Ended]:
        """Wait a moment; return a list: [(task, how it ended, its results)] if a task
        ended, else [].

        Raises UserError if the cluster is lost. Ray notices this 60 s after its head
        process has gone, and then ends the driver process.
        """
        try:
            if not self.driver.connection.poll(1.0):
                return []
            number, how, found = self.driver.connection.recv()
        except (EOFError, OSError):
            number, how, found = None, ray_driver.GONE, ""
        if how == ray_driver.GONE:
            at = f"at {self.scheduler}" if self.scheduler else "of this command"
            raise UserError(
                f"the ray cluster {at} is gone, or its node on this machine: start one "
                f"with `ray start --head`; {KEPT}"
            )
        if how == ray_driver.UNABLE:
            raise _unable(found)
        task, _ = self.under_way.pop(number)
        return [(task, how, found)]

    def close(self) -> None:
        """Stop the calls under way, and disconnect from the cluster, or end it if it is
        ours.
        """
        super().close()
        self.driver.connection.close()
        with suppress(subprocess.TimeoutExpired):
            self.driver.process.wait(LEAVE)
        self.driver.kill()


def _unable(said: str) -> UserError:
    return UserError(
        f"a worker of the cluster cannot start runs ({said}): see that it has the "
        f"Python and the packages of this environment; {KEPT}"
    )
