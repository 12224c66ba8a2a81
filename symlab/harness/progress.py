"""The progress of a sweep: a bar on a terminal, lines in a log, and the time left.

The first estimate of the time left is how long earlier rows took; it is corrected by
the speed of the runs that finish.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from tqdm import tqdm


def duration(seconds: float) -> str:
    """Return a duration as text: '45 s', '7 min' or '2.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Remaining:
    """An estimate of the time that a sweep still needs.

    keys: the keys of the runs, in the order in which they begin.
    cost: {key: expected seconds} of the runs that were timed before; any other run
        counts as the mean of the runs that have finished.
    jobs: the number of workers.

    Let F be the expected worker-seconds of the finished runs, E those of the runs under
    way, and A the seconds that the finished runs took. Runs are then estimated to take
    (A + E) / (F + E) times what was expected; and at least W / (F + E) times, where W =
    elapsed time x workers, because the runs under way have not finished yet.
    """

    def __init__(self, keys: list[str], cost: dict[str, float], jobs: int):
        self.jobs = jobs
        self._cost = {k: cost[k] for k in keys if cost.get(k)}
        self._queue = deque(keys)
        self._waiting = set(keys)
        self._known = sum(self._cost.values())  # of the runs that have not finished
        self._expected = self._taken = self._taken_all = 0.0  # of those that have
        self._finished = 0

    def took(self, outcomes: list[dict]) -> None:
        """Record runs that finished: dicts with key and wall_s, the seconds of each."""
        for outcome in outcomes:
            key, wall = outcome["key"], outcome["wall_s"]
            self._waiting.discard(key)
            self._finished += 1
            self._taken_all += wall
            if key in self._cost:
                self._expected += self._cost[key]
                self._taken += wall
                self._known -= self._cost.pop(key)

    def seconds(self, elapsed: float, lanes: int = 1) -> float | None:
        """Return the estimated seconds left; None if nothing is known yet.

        elapsed: seconds since the sweep began.
        lanes: how many runs one worker makes at a time.
        """
        unknown = len(self._waiting) - len(self._cost)
        if not self._known and not (unknown and self._finished):
            return None
        under_way = sum(self._cost.get(k, 0.0) for k in self._running(lanes))
        slowness, begun = 1.0, self._expected + under_way
        if begun:
            slowness = (self._taken + under_way) / begun
            if not unknown:
                slowness = max(slowness, elapsed * self.jobs / begun)
        each = self._taken_all / self._finished if self._finished else 0.0
        spent = max(elapsed * self.jobs - self._taken_all, 0.0)  # on those under way
        left = self._known * slowness + unknown * each
        return max(left - min(spent, under_way * slowness), 0.0) / self.jobs

    def _running(self, lanes: int) -> list[str]:
        """About the runs that are under way: the next of those that have not
        finished.
        """
        while self._queue and self._queue[0] not in self._waiting:
            self._queue.popleft()
        found = []
        for key in self._queue:
            if key in self._waiting:
                found.append(key)
            if len(found) == self.jobs * lanes:
                break
        return found


class Progress:
    """Shows the progress of a sweep: a bar on a terminal, else occasional lines of a
    log.

    The first line is written after `FIRST` seconds.
    tasks: dicts with `keys`, the keys of their runs, in the order in which they begin.
    cost: {key: expected seconds} of the runs that were timed before.
    jobs: the number of workers.
    quiet: whether nothing is shown.
    write: a function that writes a line of the log.
    """

    FIRST, SHARE, MOST = 30.0, 0.1, 600.0  # seconds; of the time gone; seconds

    def __init__(
        self,
        tasks: list[dict],
        cost: dict[str, float],
        jobs: int,
        quiet: bool,
        write: Callable[[str], None] | None = None,
    ):
        keys = [k for t in tasks for k in t["keys"]]
        self.lanes = max((len(t["keys"]) for t in tasks), default=1)
        self.remaining = Remaining(keys, cost, jobs)
        self.total, self.done, self.failed = len(keys), 0, 0
        self.write = write or (lambda text: tqdm.write(text, file=sys.stderr))
        self.terminal = sys.stderr.isatty()
        self.quiet = quiet
        self.bar = tqdm(
            total=len(keys),
            unit="run",
            disable=quiet or not self.terminal,
            file=sys.stderr,
            dynamic_ncols=True,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
        )
        self.start = monotonic()
        self._end, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._speak, daemon=True)

    def __enter__(self):
        if not self.quiet:
            self._thread.start()
        return self

    def __call__(self, outcomes: list[dict]) -> None:
        """Count runs that finished."""
        failed = sum(o["status"] == "failed" for o in outcomes)
        with self._lock:
            self.remaining.took(outcomes)
            self.done += len(outcomes)
            self.failed += failed
        self.bar.update(len(outcomes))
        if failed and not self.quiet:
            self.write(f"{failed} run(s) failed, the others go on")

    def line(self) -> str:
        """Return a line of the log: how many runs are done, how many failed, and the
        time left.
        """
        gone = monotonic() - self.start
        with self._lock:
            left = self.remaining.seconds(gone, self.lanes)
            failed = f", {self.failed} failed" if self.failed else ""
            text = f"{self.done} of {self.total} runs done{failed}, {duration(gone)}"
        return f"{text} gone" + (
            "" if left is None else f", about {duration(left)} left"
        )

    def _speak(self) -> None:
        pause = 1.0 if self.terminal else self.FIRST  # looking costs too much per run
        while not self._end.wait(pause):
            if self.terminal:
                self._set_time()
                self.bar.refresh()
                continue
            self.write(self.line())
            pause = max(self.FIRST, self.SHARE * (monotonic() - self.start))
            pause = min(pause, self.MOST)

    def _set_time(self) -> None:
        with self._lock:
            left = self.remaining.seconds(monotonic() - self.start, self.lanes)
        if left is not None:
            self.bar.set_postfix_str(f"{duration(left)} left", refresh=False)

    def __exit__(self, *_):
        self._end.set()
        if self._thread.ident:
            self._thread.join()
        self.bar.close()
