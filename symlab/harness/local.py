"""Calls on this machine: joblib deals them out, and each has a process of its own.

joblib's threads only wait: each hands its call to a child (children.py), whose death or
delay it can name. joblib's own processes (loky) share one queue, so that the death of
one fails every call that is under way, and none of them can be stopped alone.
"""

import atexit
import os
import sys
from collections.abc import Iterator

import joblib

from symlab.harness import contract
from symlab.harness.children import Child, Crew
from symlab.harness.errors import UserError

Ended = tuple[dict, str, list[dict]]  # task, what became of it, its outcomes


class Local:
    """The calls of one sweep, by the children that are kept for the next."""

    def __init__(self):
        self.crew = _crew()

    def calls(self, tasks: list[dict], jobs: int) -> Iterator[Ended]:
        """Yield each task with what became of it, `jobs` tasks at a time.

        A caller who wants no more closes the generator, which ends the children.
        """
        crew = self.crew
        deal = joblib.Parallel(
            n_jobs=jobs,
            backend="threading",
            return_as="generator_unordered",
            batch_size=1,
        )

        def waiting():  # none once the crew is stopped, so that joblib's threads end
            for task in tasks:
                if crew.stopped:
                    return
                yield joblib.delayed(_call)(crew, task)

        ended, done = deal(waiting()), False
        try:
            for task, end in ended:  # `yield from` would close joblib's generator
                yield task, *end
            done = True
        finally:
            if not done:
                crew.stop()
                for _ in ended:  # what is left comes back at once
                    pass

    def close(self) -> None:
        """Leave the children, which work on nothing, to the next sweep."""


def _call(crew: Crew, task: dict) -> tuple[dict, tuple[str, list[dict]]]:
    return task, crew.call(task)


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
    """End the children that are kept for the next call."""
    _kept.close()
