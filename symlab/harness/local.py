"""Calls of `run` on this machine, each in a worker process, dealt out by joblib.

joblib's threads only wait: each sends its call to a worker process (children.py), and
can tell which call it was if that process dies or takes too long. joblib's own
processes (loky) share one queue, so the death of one makes all calls under way fail,
and none of them can be stopped alone.

A process should not wait while the rows of its last call are stored. So there is one
thread more than processes, which has the next call ready; and calls that turn out to
take milliseconds are sent several at a time, which saves the pause between two of them.
"""

import atexit
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from time import monotonic

import joblib

from symlab.harness import contract
from symlab.harness.children import Child, Crew
from symlab.harness.errors import UserError

SPELL = 0.05  # seconds of short calls that a process is given at once

Ended = tuple[dict, str, list[dict]]  # task, what became of it, its outcomes


class Local:
    """The worker processes of this machine, which are kept from one sweep to the
    next.
    """

    def __init__(self):
        self.crew = _crew()

    def calls(self, tasks: list[dict], jobs: int) -> Iterator[Ended]:
        """Yield (task, how it ended, its results), in the order in which the tasks end.

        tasks: dicts, as for `pool.outcomes`. jobs: the largest number of processes.

        To stop early, close the generator: that ends the processes.
        """
        crew, spells, places = self.crew, _Spells(tasks), _Places(jobs)
        deal = joblib.Parallel(
            n_jobs=jobs + 1,
            backend="threading",
            return_as="generator_unordered",
            batch_size=1,
        )

        def waiting():  # none once the crew is stopped, so that joblib's threads end
            while not crew.stopped and (some := spells.next()):
                yield joblib.delayed(_call)(crew, places, spells, some)

        ended, done = deal(waiting()), False
        try:
            for some in ended:  # `yield from` would close joblib's generator
                yield from some
            done = True
        finally:
            if not done:
                crew.stop()
                for _ in ended:  # what is left comes back at once
                    pass

    def close(self) -> None:
        """Keep the idle worker processes for the next sweep."""


class _Spells:
    """The tasks of a sweep as lists that a child gets at once.

    A list has one task until it is known how long those like it take, and then at most
    twice as many as the last list of them, and not more than take `SPELL` seconds.
    """

    def __init__(self, tasks: list[dict]):
        self._left = deque(tasks)
        self._last: dict[tuple, tuple[int, float]] = {}  # tasks, seconds of one

    def next(self) -> list[dict]:
        """Return the next tasks, which are alike; none where all were handed out."""
        some: list[dict] = []
        seconds = 0.0
        while self._left:
            task = self._left[0]
            last, one = self._last.get(task["alike"], (0, SPELL))
            seconds += max(one, task["cost"])
            if some and (
                task["alike"] != some[0]["alike"]
                or len(some) == 2 * last
                or seconds > SPELL
            ):
                break
            some.append(self._left.popleft())
        return some

    def took(self, tasks: list[dict], seconds: float) -> None:
        """Note how long a list of tasks took a child, start and messages included."""
        self._last[tasks[0]["alike"]] = len(tasks), seconds / len(tasks)


class _Places:
    """Places for some calls at a time, which get them in the order in which they come.

    With a semaphore, the thread that leaves a place could take it again at once, and
    would have its rows to hand on first, while a process waits.
    """

    def __init__(self, n: int):
        self._open = n  # so many calls may have begun
        self._came = 0
        self._change = threading.Condition()

    def __enter__(self):
        with self._change:
            mine = self._came
            self._came += 1
            self._change.wait_for(lambda: mine < self._open)

    def __exit__(self, *_):
        with self._change:
            self._open += 1
            self._change.notify_all()


def _call(
    crew: Crew, places: _Places, spells: _Spells, tasks: list[dict]
) -> list[Ended]:
    """What became of tasks that are handed to a child at once, when there is a place.

    What was not begun when the child was lost goes to another one.
    """
    ends: list[tuple[str, list[dict]]] = []
    with places:
        begun = monotonic()
        while len(ends) < len(tasks):
            ends += crew.calls(tasks[len(ends) :])
        spells.took(tasks, monotonic() - begun)
    return [(task, *end) for task, end in zip(tasks, ends, strict=True)]


class _Here(Crew):
    def start(self) -> Child:
        try:
            return super().start()
        except OSError as error:
            raise UserError(
                f"cannot start a worker process ({error.strerror}): use fewer with "
                "JOBS=, or end other programs; finished runs are kept"
            ) from None


_kept = _Here()  # from one call to the next: a notebook makes many
_surroundings: list = []  # of the process when its children were started


def _crew() -> Crew:
    """The children of the call before, unless what they have imported is older."""
    global _kept
    now = [contract.edits()[0], os.getcwd(), dict(os.environ), list(sys.path)]
    if _surroundings != now or _kept.stopped:
        close_idle()
        _kept = _Here()
    _surroundings[:] = now
    return _kept


@atexit.register
def close_idle() -> None:
    """End the worker processes that are kept for the next sweep."""
    _kept.close()
