"""The four names of a notebook: load, run, claims, figure."""

import warnings

import pandas as pd

from symlab.harness import engine, findings, summary
from symlab.harness.errors import UserError
from symlab.harness.project import find


def load(experiment: str, scale: str = "quick", seed0: int = 0) -> pd.DataFrame:
    """The current rows of an experiment, one per run, in the order of its sweep.

    Rows made by older code and failed runs are left out; `pd.read_parquet` on
    results/<scale>/<experiment>.parquet shows them all.
    """
    (plan,) = findings.plans_of(find(), experiment, scale, seed0=seed0)
    return plan.rows()


def run(
    experiment: str, scale: str = "quick", jobs: int | None = None, seed0: int = 0
) -> pd.DataFrame:
    """Run what is missing, then `load`; a warning names what failed.

    Raises UserError where runs are missing and need an extra that is not installed.
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


def claims(name: str = "", scale: str = "quick", seed0: int = 0) -> pd.DataFrame:
    """The verdicts of a figure's or an experiment's claims, or of all, one row each.

    Every field of a claim is a column; `bearing` says what the verdict means for the
    paper, and `holm` what is left of it with Holm's correction over all effects of the
    paper (without a name only: the family is all claims). Claims of an incomplete sweep
    are undecided, and their note says so.
    """
    if name:
        plans = findings.plans_of(find(), name, scale, seed0=seed0)
        verdicts = findings.verdicts(plans)
    else:
        verdicts = summary.judged(find(), scale, seed0)
    return pd.DataFrame([v.record() for v in verdicts])


def figure(name: str, scale: str = "quick", seed0: int = 0):
    """The matplotlib Figure of the rows that are there."""
    return findings.draw(name, findings.plans_of(find(), name, scale, seed0=seed0))
