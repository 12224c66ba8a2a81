"""Worker processes that make runs, one call of `run` at a time, and how each call ends.

A child is a Python process in a session of its own, at the other end of a socket. It is
given a task, or several short ones at once, works on them one after the other, and
sends the results of each as soon as it has them. If it dies, or if a call takes too
long, the task concerned is therefore known: the first one without results. Those
after it were not begun. A signal to the session also ends programs that a run has
started. A pool that feeds several processes from one queue (joblib's loky,
concurrent.futures) breaks as a whole when one of them dies, cannot say which task it
was, and cannot stop a call. Here each of joblib's threads (local.py), or of the threads
of a cluster's worker, waits for one child.

On a cluster this file is used within a worker that has no symlab installed: it needs
only the standard library.
"""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from socket import socketpair
from time import monotonic

DONE, DIED, LATE = "done", "died", "late"  # what becomes of a call
BEGUN = "begun"  # a child's word that the experiment is imported and its run begins
LOOK = 0.5  # seconds between two looks at processes that say nothing
GRACE = 2.0  # seconds in which an idle child may end by itself
START = (
    "import sys; numbers = sys.argv[1:4]; sys.path[:] = sys.argv[4:]; "
    "from symlab.harness.{} import main; main(*map(int, numbers))"
)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
THREADS += ("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")  # one for each library


class Child:
    """A worker process that makes runs; it ends with the process that started it.

    path: its `sys.path`.
    folder: its working directory; None for that of this process.
    variables: environment variables that are added to those of this process.
    main: the module of the harness whose function `main` it calls.
    """

    def __init__(
        self,
        path: list[str],
        folder: str | None = None,
        variables: dict[str, str] | None = None,
        main: str = "child",
    ):
        self.tasks: deque[dict] = deque()  # it works on the first of them
        self._deadline: float | None = None  # of the first, once its call began
        self.owner = os.getpid()  # a fork of this process has no children
        ours, theirs = socketpair()
        words = [sys.executable, *subprocess._args_from_interpreter_flags()]
        watched, self._lifeline = os.pipe()  # closed by our end, however we end
        numbers = [theirs.fileno(), watched]
        words += ["-c", START.format(main), *map(str, numbers), str(self.owner), *path]
        try:
            self.process = subprocess.Popen(
                words,
                env=os.environ | dict.fromkeys(THREADS, "1") | (variables or {}),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                pass_fds=numbers,
                start_new_session=True,
            )
        except OSError:
            ours.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(watched)
        self.connection = Connection(ours.detach())

    @property
    def alive(self) -> bool:
        """Whether the process is running and was started by the present process, not by
        one of which the present process is a fork.
        """
        return self.owner == os.getpid() and self.process.poll() is None

    def begin(self, tasks: list[dict]) -> None:
        """Send tasks to an idle child.

        tasks: dicts as for `worker.execute`, with `timeout`, the seconds that a task's
            call of `run` may take, 0 for any.

        They are sent as one message, which the child reads before it sends anything: if
        both sent at once, each might wait for ever for the other to read.
        """
        self.tasks.extend(tasks)
        with suppress(OSError):  # it has ended: `ended` will say so
            self.connection.send(tasks)

    def ended(self) -> tuple[str, list[dict]] | None:
        """Return how the child's first task ended, and its results; None while it
        continues.

        The first is DONE, DIED or LATE; the results are a list of dicts, empty unless
        DONE. A task that is DONE leaves the list `tasks`. A child whose call of `run`
        takes longer than the task's timeout is killed; imports and the tasks before it
        do not count.
        """
        gone = self.process.poll() is not None  # if so, its last words are here
        try:
            while self.connection.poll():
                said = self.connection.recv()
                if said != BEGUN:
                    self.tasks.popleft()
                    self._deadline = None
                    return DONE, said
                self._deadline = monotonic() + self.tasks[0]["timeout"]
        except (EOFError, OSError):
            gone = True
        if not gone and (self._deadline is None or monotonic() < self._deadline):
            return None
        self.kill()
        return (DIED if gone else LATE), []

    def wait_s(self) -> float:
        """Return the seconds after which `ended` should be called again.

        They are at most LOOK, and no more than are left to the call of `run` under way.
        """
        left = LOOK if self._deadline is None else self._deadline - monotonic()
        return min(max(left, 0.0), LOOK)

    def strike(self) -> None:
        """Send SIGKILL to the process and to the programs that its run has started."""
        if self.owner == os.getpid():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End the process now, with the programs that its run has started."""
        if self._lifeline is None:
            return  # it was killed before
        self.strike()
        if self.owner == os.getpid():
            self.process.wait()
        self.connection.close()
        os.close(self._lifeline)
        self._lifeline = None


class Crew:
    """Worker processes that are started as needed, for all threads of this process."""

    def __init__(self):
        self.stopped = False
        self._change = threading.Condition()  # guards all that follows
        self._idle: list[Child] = []
        self._busy: list[Child] = []

    def calls(self, tasks: list[dict]) -> list[tuple[str, list[dict]]]:
        """Let one child work on tasks; return for each how it ended, and its results.

        The pairs are those of `Child.ended`. The call waits until the child is done.
        The list ends with the first task that is not DONE; tasks after it were not
        begun, and the list is then shorter than `tasks`. If the crew is stopped, the
        first task counts as DIED.
        """
        child = self._take()
        if child is None:
            return [(DIED, [])]
        found = []
        try:
            child.begin(tasks)
            while child.tasks and (not found or found[-1][0] == DONE):
                wait([child.connection], child.wait_s())
                if end := child.ended():
                    found.append(end)
        finally:  # tasks are left, too, where an exception, such as Ctrl-C, came
            self._leave(child, well=not child.tasks)
        return found

    def stop(self) -> None:
        """Kill all children, whatever they are doing; no further call begins."""
        with self._change:
            self.stopped = True
            for child in self._busy:  # its thread sees that, and clears up
                child.strike()
            idle, self._idle = self._idle, []
            self._change.wait_for(lambda: not self._busy, GRACE)
        for child in idle:
            child.kill()

    def close(self) -> None:
        """End idle children, by force if they do not end within `GRACE` seconds."""
        until = monotonic() + GRACE
        for child in self._idle:
            child.connection.close()  # nobody can send it anything any more
        for child in self._idle:
            if child.owner == os.getpid():
                with suppress(subprocess.TimeoutExpired):
                    child.process.wait(max(until - monotonic(), 0.0))
            child.kill()
        self._idle = []

    def start(self) -> Child:
        """Start and return a new child with the `sys.path` of this process."""
        return Child([p or os.getcwd() for p in sys.path])

    def _take(self) -> Child | None:
        with self._change:
            if self.stopped:
                return None
            child = None
            while self._idle and child is None:
                child = self._idle.pop()
                if not child.alive:
                    child = child.kill()
            child = child or self.start()
            self._busy.append(child)
        return child

    def _leave(self, child: Child, well: bool) -> None:
        if not well:
            child.kill()
        with self._change:
            self._busy.remove(child)
            if well and not self.stopped:
                self._idle.append(child)
            self._change.notify_all()
        if well and self.stopped:
            child.kill()


class Guests(Crew):
    """The worker processes of one worker of a dask or ray cluster.

    folder: where the source code of the sweep was unpacked: its folder `project` has
        the experiments, `lib` the code that lay outside the project.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def call(self, task: dict) -> tuple[str, list[dict]]:
        """Let a child work on one task; return how it ended, and its results.

        The two are as for `Child.ended`.
        """
        return self.calls([self._here(task)])[0]

    def start(self) -> Child:
        """Start and return a new child, which imports the unpacked source code."""
        project, lib = str(self.folder / "project"), str(self.folder / "lib")
        known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        variables = {"PYTHONPATH": os.pathsep.join([project, lib, *known])}
        return Child([project, lib, *sys.path], project, variables)

    def _here(self, task: dict) -> dict:
        """The task with this machine's folders, where it does not see the sweep's."""
        task = task | {"root": str(self.folder / "project")}
        mark, kept = Path(task["checkpoints"]).parent / ".mark", ""
        with suppress(OSError):
            kept = mark.read_text()
        if kept != task["mark"]:
            own = self.folder / "checkpoints" / Path(task["checkpoints"]).name
            task["checkpoints"] = str(own)
        return task
