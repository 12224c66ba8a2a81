"""Display and log a run while it trains: progress bar or lines, CSV, TensorBoard.

    pretrain(..., show=True, log="run/losses.csv", tensorboard="run/board")
    pandas.read_csv("run/losses.csv")            at any moment, also during the run

A row has the training loss of one step, computed before its update: `step` is the
number of updates made before, and `tokens` the number of tokens used for them. The row
after the last step has no training loss, but the validation loss of the final weights.
"""

import csv
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from symlab.harness.progress import duration

COLUMNS = ("step", "tokens", "loss", "lr_factor", "gradient_norm", "step_s", "val_loss")
HEADER = ",".join(COLUMNS) + "\n"
EVERY = 20.0  # seconds between two lines where there is no terminal
LOOK = 20  # steps between two losses in the bar


# --- on disk -------------------------------------------------------------------------


class Table:
    """A CSV file to which a run appends rows; unknown values are left empty.

    path: the file. step: the step at which the run begins; rows from there on are
        deleted.

    Each row is passed to the operating system when it is written, so that no row is
    lost if the process is killed. Raises OSError if a row cannot be written.
    """

    def __init__(self, path: Path, step: int):
        """Open the file and delete its rows from `step` on."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("a", newline="", encoding="utf-8")
            self.file.truncate(_found(path, step).kept)
            if not path.stat().st_size:
                self.file.write(HEADER)
                self.file.flush()
        except OSError as error:
            raise self._told(error) from error
        self.rows = csv.DictWriter(self.file, COLUMNS, lineterminator="\n")

    def write(self, rows: list[dict]) -> None:
        """Append rows, dicts {column: value}, in the order of steps."""
        try:
            self.rows.writerows(rows)
            self.file.flush()
        except OSError as error:
            raise self._told(error) from error

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # of the row that could not be written, said already
            self.file.close()

    def _told(self, error: OSError) -> OSError:
        return OSError(
            f"the log {self.path} could not be written ({error.strerror}): make room, "
            "or name another file, and start the same command again"
        )


class _Found(NamedTuple):
    """What a CSV holds: bytes to keep, and whether there are rows, and the last one."""

    kept: int
    rows: int
    ended: bool


def check_log(path: Path, step: int, resumable: bool) -> None:
    """Raise ValueError for a log file to which a run may not write.

    path: the file, whose name must end in .csv. step: the step at which the run begins.
    resumable: whether the run has a checkpoint.

    A run that begins at step 0 may not replace the rows of a run that has ended, and,
    if it has no checkpoint, may not replace any rows.
    """
    if path.suffix != ".csv":
        raise ValueError(
            f"log = {path}: give it a name that ends in .csv, as a table that grows "
            "while others read it is one"
        )
    found = _found(path, step)
    if step == 0 and found.rows and (found.ended or not resumable):
        raise ValueError(
            f"the log {path} has the losses of an earlier run, and this one begins at "
            "step 0: name another file, or delete it"
        )


def _found(path: Path, step: int) -> _Found:
    """What there is; kept are the whole rows before this step, which come first."""
    if not path.exists():
        return _Found(0, 0, False)
    kept, rows, ended = 0, 0, False
    with path.open("rb") as file:
        first = file.readline().decode(errors="replace")
        if not HEADER.startswith(first):
            raise ValueError(
                f"{path} is no log of a run, which would begin with {HEADER.strip()}: "
                "name another file"
            )
        whole = first == HEADER
        kept = len(HEADER) * (whole and step > 0)
        for line in file:
            values = line.decode(errors="replace").split(",")
            if not line.endswith(b"\n"):  # a process was killed while it wrote it
                break
            if len(values) != len(COLUMNS) or not values[0].isdecimal():
                raise ValueError(
                    f"row {rows + 1} of the log {path} is damaged: name another file, "
                    "or delete this one"
                )
            rows, ended = rows + 1, not values[COLUMNS.index("loss")]
            kept += len(line) * (int(values[0]) < step)
    return _Found(kept, rows, ended)


class Board:
    """Writes the rows of a run's log as curves for TensorBoard, with torch's
    SummaryWriter.

    folder: the folder of TensorBoard's files.
    step: the step at which the run begins; TensorBoard hides older data from there on.
    """

    def __init__(self, folder: Path, step: int):
        """Open the folder; TensorBoard hides older data from `step` on."""
        self.writer = board_writer()(str(folder), purge_step=step)

    def write(self, rows: list[dict]) -> None:
        for row in rows:
            for name, value in row.items():
                if name not in ("step", "tokens"):
                    self.writer.add_scalar(name, value, row["step"])
        self.writer.flush()

    def close(self) -> None:
        """Write the remaining data and close the files."""
        self.writer.close()


def board_writer() -> type:
    """Return torch.utils.tensorboard.SummaryWriter, which needs the package
    tensorboard.

    Raises ModuleNotFoundError, with a message that says what to install, if the package
    is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ModuleNotFoundError(
            f"TensorBoard's files need the package tensorboard ({error}): install it "
            "(pip install 'symlab[tensorboard]'), or log to a CSV"
        ) from error
    return SummaryWriter


# --- on stderr -----------------------------------------------------------------------


class Progress:
    """Shows the progress of a run: a bar in a terminal, otherwise lines of text on
    stderr.

    A line is printed at most every 20 seconds, and at the last step.

    steps: the steps of the whole run. done: those done before it was resumed.
    tokens: tokens per step of all processes together. show: False shows nothing.
    """

    def __init__(self, steps: int, done: int, tokens: int, show: bool):
        """Start the display; the class describes the arguments."""
        from tqdm import tqdm

        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=steps, initial=done, disable=not (show and terminal), unit=" steps"
        )
        self.show, self.lines = show, show and not terminal
        self.steps, self.done, self.tokens = steps, done, tokens
        self.then, self.since = time.monotonic(), done  # of the last line

    def __enter__(self) -> "Progress":
        if self.lines:
            self._print(f"step {self.done:,}/{self.steps:,}")
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()

    def say(self, said: str) -> None:
        """Print a text on a line of its own; the bar is drawn again below it."""
        if self.show:
            self.bar.write(said, sys.stderr)

    def step(self, loss: Tensor, factor: float) -> None:
        """Show that one more step is done.

        loss: the training loss of that step.
        factor: the factor by which the schedule multiplied the learning rates in that
            step.
        """
        self.done += 1
        self.bar.update(1)
        last = self.done == self.steps
        waited = time.monotonic() - self.then
        if self.lines and (last or waited > EVERY):
            speed, said = self._said(loss, factor)
            left = duration((self.steps - self.done) * self.tokens / speed)
            at = f"step {self.done:,}/{self.steps:,}"
            self._print(f"{at}  {'  '.join(said)}  ETA {left}")
        elif self.show and not self.lines and (last or self.done % LOOK == 0):
            self.bar.set_postfix_str(", ".join(self._said(loss, factor)[1]), False)

    def _said(self, loss: Tensor, factor: float) -> tuple[float, list[str]]:
        """Tokens per second since the last time, and what is said of the step."""
        value = float(loss)  # which waits for the device
        now = time.monotonic()
        speed = (self.done - self.since) * self.tokens / max(now - self.then, 1e-9)
        self.then, self.since = now, self.done
        words = [f"loss {value:.4f}", f"lr x {factor:.3g}", f"{speed:,.0f} tokens/s"]
        return speed, words

    def _print(self, said: str) -> None:
        print(f"symlab.pretraining: {said}", file=sys.stderr, flush=True)
