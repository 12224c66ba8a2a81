"""Workers on this machine: as many children as there are jobs, each with one task."""

import atexit
import os
import sys
from multiprocessing.connection import wait

from symlab.harness import contract
from symlab.harness.children import DONE, Child, close
from symlab.harness.errors import UserError

_idle: list[Child] = []  # kept from one call to the next: a notebook makes many
_surroundings: list = []  # of the process when they were started


class Local:
    """A number of child processes; `busy` counts those with a task."""

    def __init__(self, jobs: int):
        now = [contract.edits()[0], os.getcwd(), dict(os.environ), list(sys.path)]
        if _surroundings != now:  # they have imported older code, or lack a variable
            close_idle()
        _surroundings[:] = now
        self.jobs = jobs
        self._busy: list[Child] = []

    @property
    def busy(self) -> int:
        """The number of tasks that are under way."""
        return len(self._busy)

    @property
    def free(self) -> bool:
        """Whether one more task can begin now."""
        return len(self._busy) < self.jobs

    def begin(self, task: dict) -> None:
        """Hand a task to a child without one."""
        while _idle and not _idle[-1].alive:
            _idle.pop().kill()
        child = _idle.pop() if _idle else _start()
        self._busy.append(child)
        child.begin(task)

    def ended(self) -> list[tuple[dict, str, list[dict]]]:
        """Wait a moment; return (task, what became of it, its outcomes) of each task
        that ended.
        """
        connections = [c.connection for c in self._busy]
        wait(connections, min(c.wait_s() for c in self._busy))
        found = []
        for child in list(self._busy):
            task = child.task
            if (ended := child.ended()) is None:
                continue
            self._busy.remove(child)
            if ended[0] == DONE:
                _idle.append(child)
            found.append((task, *ended))
        return found

    def close(self) -> None:
        """Kill the children that still work; keep the others for the next call."""
        for child in self._busy:
            child.kill()
        self._busy = []


def _start() -> Child:
    try:
        return Child([p or os.getcwd() for p in sys.path])
    except OSError as error:
        raise UserError(
            f"cannot start a worker process ({error.strerror}): use fewer with JOBS=, "
            "or end other programs; finished runs are kept"
        ) from None


@atexit.register
def close_idle() -> None:
    """End the children that are kept for the next call."""
    close(_idle)
    _idle.clear()
