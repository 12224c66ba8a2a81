"""The functions for notebooks: load, columns, run, claims, figure."""

import warnings
from pathlib import Path

import pandas as pd

from symlab.harness import archive as archives
from symlab.harness import dictionary, engine, findings, summary
from symlab.harness.errors import UserError
from symlab.harness.project import Committed, Project, find


def load(
    experiment: str,
    scale: str = "quick",
    seed0: int = 0,
    reference: bool = False,
    archive: str | Path | None = None,
) -> pd.DataFrame:
    """Return the current rows of an experiment, one per run, in the order of its sweep.

    experiment: the name of its file, without suffix.
    scale: the size of the sweep, such as 'quick'.
    seed0: a number added to every seed.
    reference: whether to return the committed rows in place of those under results/.
    archive: a file that `symlab archive` wrote; its rows are returned whatever the
        present code is.

    Rows made by older code and failed runs are left out; `pd.read_parquet` on
    results/<scale>/<experiment>.parquet shows them all. If no rows are left, the frame
    is empty, and a warning says how to make rows. Raises UserError if the archive is
    damaged or has no rows of this experiment.
    """
    if archive is not None:
        if reference or seed0:
            raise UserError(
                "an archive holds one set of rows: leave out reference and seed0"
            )
        return archives.read(Path(archive)).frame(scale, experiment)
    (plan,) = findings.plans_of(_project(reference), experiment, scale, seed0=seed0)
    rows = plan.rows()
    if rows.empty:
        seeds = f" --seed0 {seed0}" if seed0 else ""
        run = f"make them by `symlab run {experiment} --scale {scale}{seeds}`"
        other = "" if reference else ", or pass reference=True for the committed ones"
        warnings.warn(
            f"no current rows of {experiment} at scale {scale}: {run}{other}",
            stacklevel=2,
        )
    return rows


def columns(experiment: str) -> pd.DataFrame:
    """Return what the columns of an experiment's rows mean, one row per column.

    experiment: the name of its file, without suffix.

    `kind` is 'setting' for a field of its Config, 'result' for what `run` measured, and
    'history' for how the row was made. `meaning` is a text. Raises UserError if there
    is no such experiment.
    """
    return dictionary.meanings(find(), experiment)


def _project(reference: bool) -> Project:
    return Committed(find().root) if reference else find()


def run(
    experiment: str, scale: str = "quick", jobs: int | None = None, seed0: int = 0
) -> pd.DataFrame:
    """Make the missing runs of an experiment; return all its rows, and warn of
    failures.

    experiment, scale, seed0: as for `load`.
    jobs: how many calls of `run` are made at once; None for the default.

    Raises UserError if runs are missing and need optional packages that are not
    installed.
    """
    project = find()
    (plan,) = findings.plans_of(project, experiment, scale, seed0=seed0)
    if plan.blocked:
        raise UserError(f"{plan.experiment.name} {plan.blocked}")
    done = engine.run(project, [plan], jobs=jobs)
    if done.failed:
        name, error = done.failed[0]
        last = error.strip().splitlines()[-1]
        warnings.warn(
            f"{len(done.failed)} runs failed, first {name}: {last}", stacklevel=2
        )
    if done.interrupted:
        raise KeyboardInterrupt
    return plan.rows()


def claims(
    name: str = "", scale: str = "quick", seed0: int = 0, reference: bool = False
) -> pd.DataFrame:
    """Return the verdicts on claims, one row each, with a column for every field.

    name: a figure or an experiment, whose claims are judged; '' for all.
    scale, seed0, reference: as for `load`.

    The column `bearing` says what the verdict means for the paper. `holm` says whether
    it stands under Holm's correction over all effects that are claimed of the paper; it
    is filled only without a name, as the correction needs all claims. Claims of an
    incomplete sweep are undecided, and their note says so.
    """
    if name:
        plans = findings.plans_of(_project(reference), name, scale, seed0=seed0)
        verdicts = findings.verdicts(plans)
    else:
        verdicts = summary.judged(_project(reference), scale, seed0)
    return pd.DataFrame([v.record() for v in verdicts])


def figure(name: str, scale: str = "quick", seed0: int = 0, reference: bool = False):
    """Return a figure by name, a matplotlib Figure drawn from the rows that exist.

    name: a figure, such as 'fig3'. scale, seed0, reference: as for `load`.
    """
    project = _project(reference)
    return findings.draw(name, findings.plans_of(project, name, scale, seed0=seed0))
