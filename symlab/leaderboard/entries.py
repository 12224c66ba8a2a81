"""The submissions to the benchmark: which runs are theirs, and what each changes.

Group, parent and change are taken from the submission's own description, or from its
code if the description does not say; they are our reading. A group says under which
transformations of hidden weight matrices the update rule is equivariant:

  coordinate     signed permutations of entries: Adam's second moments
  entries+polar  entry-wise second moments, then a polar factor
  bi-orthogonal  rotations on both sides: Muon, powers of the spectrum, Shampoo
  one-sided      statistics of one side, then a polar factor or a graft
  row aware      rotations on one side, permutations of rows or columns on the other
  eigenbasis     Adam in the eigenbasis of Kronecker factors (SOAP), or their triangle
                 (PSGD); an exact eigenbasis is equivariant to rotations, unless a
                 row-wise rule follows
"""

from dataclasses import dataclass

import pandas as pd

GROUPS = ("coordinate", "entries+polar", "bi-orthogonal", "one-sided", "row aware",
          "eigenbasis")  # fmt: skip
CHANGES = ("rule", "schedule", "averaging", "tuning", "mixed")


@dataclass(frozen=True)
class Entry:
    """What a submission's description says, besides the numbers in the benchmark's
    table.

    group: one of GROUPS.
    rule: the name of its update rule in symlab.symopt.registry, or ''.
    parent: the number of the submission that it modifies; 0 if it names none.
    change: one of CHANGES, or ''; "averaging" includes extrapolation of weights.
    only: if its folder also holds other runs, a part of the path of its own logs, or
        its planned number of steps.
    differs: why its published mean is not the mean of its logs, or ''.
    readout: whether its last evaluations are made with other weights than those being
        trained, so that the slope of the loss at the end is not defined.
    """

    group: str
    rule: str = ""
    parent: int = 0
    change: str = ""
    only: str | int = ""
    differs: str = ""
    readout: bool = False


TWO, ROW, EIGEN = "bi-orthogonal", "row aware", "eigenbasis"
ENTRIES = {
    1: Entry(TWO, "spectral"),
    2: Entry("coordinate", "adamw"),
    3: Entry(TWO, "spectral", 1, "tuning"),
    4: Entry("coordinate"),
    5: Entry(TWO, "spectral"),
    6: Entry(TWO, "spectral", 3, "tuning"),
    7: Entry("entries+polar"),
    8: Entry(ROW, "normuon", 5, "rule"),
    9: Entry(ROW, "normuon"),
    10: Entry(ROW, "normuon", 12, "rule"),
    11: Entry(ROW, "", 9, "rule"),
    12: Entry(TWO, "spectral", 6, "tuning"),
    13: Entry(ROW, "normuon", 8, "averaging"),
    14: Entry(EIGEN, "", 11, "rule"),
    15: Entry("one-sided"),
    16: Entry(EIGEN, "", 14, "rule"),
    17: Entry(ROW, "", 11, "rule"),
    18: Entry(TWO),
    19: Entry(EIGEN, "", 8, "rule", only="b1095_sh090"),
    20: Entry(EIGEN, "", 16, "mixed"),
    21: Entry(TWO),
    22: Entry(TWO, "spectral"),
    23: Entry(ROW, only=3090),
    24: Entry(ROW, "", 11, "schedule"),
    25: Entry(EIGEN, "", 19, "schedule"),
    26: Entry(EIGEN),
    27: Entry(EIGEN, "", 19, "mixed"),
    28: Entry(TWO),
    29: Entry(EIGEN, "", 20, "rule"),
    30: Entry(EIGEN, "", 29, "mixed"),
    31: Entry(ROW, "", 23, "rule"),
    32: Entry(EIGEN, "", 20, "rule"),
    33: Entry(EIGEN),
    34: Entry(EIGEN, "", 30, "averaging"),
    35: Entry("one-sided"),
    36: Entry(TWO, "spectral", 12, "tuning"),
    37: Entry(TWO, "spectral", 5, "tuning"),
    38: Entry(EIGEN, "", 30, "mixed", readout=True),
    39: Entry(TWO, "spectral", 12, "averaging"),
    40: Entry(EIGEN, "", 30, "averaging"),
    41: Entry(EIGEN, "", 40, "rule", differs="1 of its 20 logs is public"),
    42: Entry(EIGEN, "", 40, "mixed", readout=True),
    43: Entry(EIGEN, "", 41, "averaging", readout=True),
    44: Entry(EIGEN, "", 41, "mixed", only="/H100_"),
    45: Entry(EIGEN, "", 44, "averaging", readout=True),
    46: Entry(EIGEN, "", 45, "rule", differs="it reads out an average of weights"),
}

RECORDS = (1, 3, 5, 9, 11, 13, 14, 16, 20, 29, 30, 34, 38, 40, 41, 42, 43, 44, 45, 46)
SUCCESSIONS = tuple(zip(RECORDS[1:], RECORDS, strict=False))  # (record, the last one)
KINSHIPS = tuple((k, e.parent) for k, e in ENTRIES.items() if e.parent)


def of_registry(rule) -> str:
    """Return the group, one of GROUPS, of an update rule of symlab.symopt.registry.

    rule: a `Rule`. The group follows from the transformations of rows and of columns
        under which the rule is equivariant; the scale of updates is ignored.
    """
    from symlab.symopt.rule import ROTATION  # it imports torch

    rotations = [rule.rows, rule.columns].count(ROTATION)
    return ("coordinate", ROW, TWO)[rotations]


def runs(curves: pd.DataFrame, log: str, steps: int, entry: Entry) -> pd.DataFrame:
    """Return the evaluations of one submission's runs, with a column `trial`.

    curves: the evaluations of all runs.
    log: the path of the log that the benchmark's table names. The runs are those of the
        log's folder, or of the log itself if it is in no folder.
    steps: the published number of steps.
    entry: what the submission's description says.

    A run counts if it was evaluated at that step. Excerpts, with fewer than half of the
    evaluations of the longest run, are left out. Of runs with the same last three
    validation losses, as when a log was saved twice, only the first counts. `trial`
    numbers the runs from 0, in the order of their logs. Raises ValueError if no run is
    left.
    """
    folder, inside, _ = log.partition("/")
    own = curves.log.str.startswith(folder + "/") if inside else curves.log == log
    if isinstance(entry.only, str):
        own &= curves.log.str.contains(entry.only, regex=False)
    else:
        own &= curves.total_steps == entry.only
    parts = [run for _, run in curves[own].groupby(["log", "run"], sort=True)]
    longest = max(map(len, parts), default=0)
    chosen = {}
    for run in parts:
        if steps in run.step.to_numpy() and 2 * len(run) >= longest:
            last = tuple(run.val_loss.tail(3))
            chosen.setdefault(last if len(run) > 2 else len(chosen), run)
    if not chosen:
        raise ValueError(f"no run of {log} was evaluated at step {steps}")
    return pd.concat([run.assign(trial=i) for i, run in enumerate(chosen.values())])
