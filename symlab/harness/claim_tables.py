"""Committed CSV tables with one row per claim, which are updated experiment by
experiment.
"""

from pathlib import Path

import pandas as pd

from symlab.harness import files
from symlab.harness.project import Project


def path(project: Project, kind: str, scale: str) -> Path:
    """Return the path of a table with one row per claim.

    kind: what the table holds, "confirm" or "placebo". scale: of the runs.

    The path is results/reference/<kind>/<scale>.csv. At smoke scale, which only shows
    that the code runs, the table is instead written beside the rows of the runs and is
    not committed.
    """
    smoke = project.results / scale if scale == "smoke" else project.reference
    return smoke / kind / f"{scale}.csv"


def read(project: Project, kind: str, scale: str) -> pd.DataFrame | None:
    """Return a table with one row per claim as it is on disk, or None if there is none.

    kind, scale: as for `path`.
    """
    file = path(project, kind, scale)
    if not file.is_file():
        return None
    return pd.read_csv(file, keep_default_na=False, na_values=["nan"])


def write(project: Project, kind: str, scale: str, found: pd.DataFrame) -> Path:
    """Replace the rows of some experiments' claims in a table on disk; return its path.

    kind, scale: as for `path`.
    found: the new rows, a frame with the columns experiment and claim.
    """
    old = read(project, kind, scale)
    if old is not None:
        old = old[~old.experiment.isin(found.experiment)]
        found = pd.concat([old, found]) if len(old) else found
    found = found.sort_values(["experiment", "claim"], kind="stable")
    file = path(project, kind, scale)
    files.write([found.to_csv(index=False, na_rep="nan").encode()], file)
    return file
