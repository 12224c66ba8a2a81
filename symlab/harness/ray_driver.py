"""The process that communicates with a ray cluster, for the process that writes the
rows.

ray ends the process that uses it, by a call in C++ that no `except` can catch: 60 s
after the head of the cluster (its service GCS) has gone, or at once if the node process
of this machine (its raylet) has gone and holds an object of the process. So ray is used
in a process of its own, whose end `cluster.Ray` turns into a one-sentence error.
"""

import os
import socket
import sys
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from threading import Lock

from symlab.harness import parcel
from symlab.harness.children import DIED

CONNECT = 30.0  # seconds in which the head must answer
READY = "ready"  # the cluster takes calls
ABSENT, SILENT = "absent", "silent"  # no package ray, no cluster; with what was said
GONE, UNABLE = "gone", "unable"  # what may become of a call beside DONE, DIED and LATE


def main(number: int, watched: int, parent: int) -> None:
    """Make calls on a ray cluster as they are requested, and send back how each ended.

    number: the file descriptor of a socket to the requesting process.
    watched, parent: not used.

    The first message received is a dictionary with `scheduler` (an address, '' for a
    cluster that is started here), `jobs`, `data` and `digest` (as `parcel.pack` returns
    them). The answer is READY, ABSENT or SILENT, and a text. Each later message is a
    number with a task; its answer is the number, how the task ended, and its results or
    a text.
    """
    for inherited in (number, watched):
        os.set_inheritable(inherited, False)
    connection = Connection(number)
    with suppress(EOFError, OSError):  # the parent closed the socket, or has died
        driver = _Driver(connection, connection.recv())
        while True:
            driver.begin(*connection.recv())
    if driver.ray:
        driver.leave()


class _Driver:
    def __init__(self, connection: Connection, about: dict):
        self.connection, self.digest = connection, about["digest"]
        self.sending = Lock()
        self.under_way: dict[int, object] = {}
        self.ray = None
        try:
            import ray
        except ImportError as error:
            self.connection.send((ABSENT, str(error)))
            return
        self.ray, scheduler = ray, about["scheduler"]
        where = {"address": scheduler} if scheduler else {"num_cpus": about["jobs"]}
        if not scheduler:  # not the cluster that somebody else has started here
            where |= {"address": "local", "include_dashboard": False}
        try:
            _knock(scheduler)
            ray.init(logging_level="error", **where)
        except (OSError, ValueError, RuntimeError) as error:
            self.connection.send((SILENT, str(error).splitlines()[0]))
            return
        self.head = scheduler
        if not scheduler.startswith("ray://"):
            self.head = ray.get_runtime_context().gcs_address
        self.call = ray.remote(max_retries=0, num_cpus=1)(parcel.carrier())
        self.source = ray.put(about["data"])
        self.connection.send((READY, ""))
        # of a lost cluster ray says in forty lines what the sweep says in a sentence
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    def begin(self, number: int, task: dict) -> None:
        """Hand a task to the cluster; its end is reported by a thread of ray's."""
        call = self.call.options(num_gpus=1) if task["device"] == "cuda" else self.call
        reference = call.remote(self.source, self.digest, task)
        self.under_way[number] = reference
        reference.future().add_done_callback(partial(self._report, number))

    def _report(self, number: int, future) -> None:
        del self.under_way[number]
        with self.sending, suppress(OSError):
            self.connection.send((number, *self._become(future)))

    def _become(self, future) -> tuple[str, list[dict] | str]:
        errors = self.ray.exceptions
        try:
            return future.result()
        except errors.RayTaskError as error:
            said = str(error).strip() or type(error).__name__
            return UNABLE, said.splitlines()[-1]
        except errors.LocalRayletDiedError:  # so will every further call
            return GONE, ""
        except errors.RayError:  # the worker, its node, its memory, or all of it
            with suppress(OSError):
                _knock(self.head)
                return DIED, []
            return GONE, ""

    def leave(self) -> None:
        """Stop what is under way, and leave the cluster, or end it if it is ours."""
        for reference in list(self.under_way.values()):
            with suppress(Exception):
                self.ray.cancel(reference, force=True)
        self.ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at host:port; ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT).close()
