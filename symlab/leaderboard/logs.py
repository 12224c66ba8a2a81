"""The evaluations that a log of the modded-nanogpt benchmark holds.

A log prints the whole training script and then a line for each evaluation, such as

    step:3250/3325 val_loss:3.28011 train_time:512.003s step_avg:157.54ms

A log may hold several runs, one after the other; lines of other forms are passed over.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

import pandas as pd

LINE = re.compile(
    r"^step:(?P<step>\d+)/(?P<total_steps>\d+) val_loss:(?P<val_loss>\d+\.\d+)\s",
    re.MULTILINE,
)
SUFFIXES = (".txt", ".out")  # .stdout repeats what a .txt beside it holds
COLUMNS = ("log", "run", "step", "total_steps", "val_loss")
ROW = re.compile(
    r"^\| (?P<entry>\d+) \| (?P<steps>\d+)(?P<record>(?:\(!\))?) \| "
    r"(?P<mean_loss>\d\.\d+) \(n=(?P<n>\d+)\).*\(results/(?P<log>[^)]+)\) \| ",
    re.MULTILINE,
)


def evaluations(text: str) -> Iterator[tuple[int, int, int, float]]:
    """Yield (run, step, total_steps, val_loss) for each evaluation in a log's text.

    run counts from 0; a new one begins where the step does not grow. Evaluations that
    are not numbers (a run that diverged) match no line, so they are passed over.
    """
    run, last = 0, -1
    for match in LINE.finditer(text):
        step = int(match["step"])
        run += step <= last
        last = step
        yield run, step, int(match["total_steps"]), float(match["val_loss"])


def curves(files: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Return the evaluations of several logs, one row each, in COLUMNS.

    files: (path below the folder of results, text). Files with other suffixes, and
    those without an evaluation, are left out. val_loss is in nats.
    """
    rows = [
        (path, *evaluation)
        for path, text in sorted(files)
        if PurePosixPath(path).suffix in SUFFIXES
        for evaluation in evaluations(text)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def table(readme: str) -> pd.DataFrame:
    """Return the submissions' table of the benchmark's README, one row per submission.

    Columns: entry (its number), steps (to a loss of 3.28), record (whether it was one),
    mean_loss (nats, as published), n (runs), log (path below the folder of results).
    """
    rows = [match.groupdict() for match in ROW.finditer(readme)]
    found = pd.DataFrame(rows, columns=list(ROW.groupindex))
    kinds = {"entry": int, "steps": int, "mean_loss": float, "n": int}
    return found.astype(kinds).assign(record=found.record == "(!)")
