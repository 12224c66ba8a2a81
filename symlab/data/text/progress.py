"""Progress of making tokens: a bar for people, and a file for processes that wait."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from symlab.data.text.sources import Reading

QUIET = 2.0  # seconds without a bar


class Bar(tqdm):
    """A tqdm bar without tqdm's monitoring thread, which a forked process would
    lack.
    """

    monitor_interval = 0  # no thread of its own: a fork would not have it


class Progress:
    """Shows how far the tokens of a text have been made, stage by stage.

    name: the name of the text.
    status: the file from which waiting processes read the progress; None if there are
        none.

    No bar is shown if SYMLAB_QUIET is set, as it is in the runs of a sweep.
    """

    def __init__(self, name: str, status: Path | None):
        self.name, self.status = name, status
        self.hidden = "SYMLAB_QUIET" in os.environ

    def reading(
        self,
        documents: Iterable[tuple[str, int]],
        met: Reading,
        size: int,
        limit: int | None,
    ) -> Iterator[tuple[str, int]]:
        """Yield the given (document, rank) pairs, and show how much has been read.

        met: counts the bytes of the files that were read.
        size: the bytes of all files.
        limit: the largest number of bytes that are wanted. If it is below `size`, or
            `size` is 0, progress is the size of the documents so far, in relation to
            this limit.
        """
        limited = limit is not None and (limit < size or not size)
        with self._stage("reading", limit if limited else size) as reach:
            taken = 0
            for text, rank in documents:
                taken += len(text)  # characters, about as many bytes
                reach(taken if limited else met.before + met.inside)
                yield text, rank

    def over(self, documents, what: str, total: int | None = None) -> "Watched":
        """Return the same documents; each pass over them is shown as the stage `what`.

        total: their size in bytes, by default `documents.bytes`.
        """
        return Watched(self, documents, what, total or documents.bytes)

    @contextmanager
    def _stage(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A function to tell how many bytes of `total` are done."""
        start, written = time.monotonic(), -1.0
        bar = Bar(
            total=total,
            desc=f"{self.name}: {what}",
            unit="B",
            unit_scale=True,
            delay=QUIET,
            leave=False,
            file=sys.stderr,
            disable=self.hidden,
            miniters=1,
            mininterval=0.1 if sys.stderr.isatty() else 20,
            dynamic_ncols=True,
        )

        def reach(done: int) -> None:
            nonlocal written
            done = min(done, total)
            bar.update(done - bar.n)
            now = time.monotonic()
            if self.status and (now > written + 1 or done == total):
                written = now
                self.status.write_text(_line(what, done, total, now - start), "utf-8")

        with bar:
            reach(0)
            yield reach


class Watched:
    """Documents that show the progress of each loop over them."""

    def __init__(self, show: Progress, documents, what: str, total: int):
        self.show, self.documents, self.what, self.total = show, documents, what, total

    def __len__(self) -> int:
        return len(self.documents)

    def __iter__(self) -> Iterator[bytes]:
        done = 0
        with self.show._stage(self.what, self.total) as reach:
            for document in self.documents:
                yield document
                done += len(document)
                reach(done)


def _line(what: str, done: int, total: int, elapsed: float) -> str:
    form = what + ", {percentage:.0f}% of {total_fmt}B, {remaining} left"
    return tqdm.format_meter(done, total, elapsed, unit_scale=True, bar_format=form)
