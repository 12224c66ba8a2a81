"""The progress bar, and durations in words."""

import sys
from collections.abc import Iterable

from tqdm import tqdm


def duration(seconds: float) -> str:
    """Return a duration as text: '45 s', '7 min' or '2.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress:
    """A progress bar over all runs, whose remaining time weighs each run by its
    expected seconds.
    """

    def __init__(self, tasks: Iterable[dict], cost: dict, jobs: int, quiet: bool):
        keys = [k for t in tasks for k in t["keys"]]
        self.cost = {k: cost[k] for k in keys if k in cost}
        self.jobs, self.left = jobs, sum(self.cost.values())
        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=len(keys),
            unit="run",
            disable=quiet,
            file=sys.stderr,
            mininterval=0.1 if terminal else 20,
            dynamic_ncols=True,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
        )

    def __enter__(self):
        self._show()
        return self

    def __call__(self, outcomes: list[dict]) -> None:
        self.left -= sum(self.cost.pop(o["key"], 0.0) for o in outcomes)
        failed = sum(o["status"] == "failed" for o in outcomes)
        self.bar.update(len(outcomes))
        self._show(failed)

    def _show(self, failed: int = 0) -> None:
        if self.cost:
            eta = duration(max(self.left, 0.0) / self.jobs)
            self.bar.set_postfix_str(f"ETA {eta}", refresh=False)
        if failed:
            tqdm.write(f"{failed} run(s) failed, the others go on", file=sys.stderr)

    def __exit__(self, *_):
        self.bar.close()
