"""Reads the evaluations in a log of the modded-nanogpt benchmark.

A log prints the whole training script and then a line for each evaluation, such as

    step:3250/3325 val_loss:3.28011 train_time:512.003s step_avg:157.54ms

A log may hold several runs, one after the other; other lines are ignored.
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

    `run` counts from 0; a new run begins where the step does not increase. An
    evaluation that is not a number (of a run that diverged) is ignored.
    """
    run, last = 0, -1
    for match in LINE.finditer(text):
        step = int(match["step"])
        run += step <= last
        last = step
        yield run, step, int(match["total_steps"]), float(match["val_loss"])


def curves(files: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Return the evaluations of several logs, one row each, with the columns COLUMNS.

    files: pairs (path below the folder of results, text).

    Files with other suffixes than a log's, and files without an evaluation, are left
    out. val_loss is in nats.
    """
    rows = [
        (path, *evaluation)
        for path, text in sorted(files)
        if PurePosixPath(path).suffix in SUFFIXES
        for evaluation in evaluations(text)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def table(readme: str) -> pd.DataFrame:
    """Return the table of submissions in the benchmark's README, one row per
    submission.

    readme: the text of the README.

    The columns are entry (the submission's number), steps (to a loss of 3.28 nats),
    record (whether it was a record), mean_loss (nats, as published), n (number of runs)
    and log (path below the folder of results).
    """
    rows = [match.groupdict() for match in ROW.finditer(readme)]
    found = pd.DataFrame(rows, columns=list(ROW.groupindex))
    kinds = {"entry": int, "steps": int, "mean_loss": float, "n": int}
    return found.astype(kinds).assign(record=found.record == "(!)")
