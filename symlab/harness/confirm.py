"""Confirmation: every claim is judged again on seeds that nobody can choose.

The seeds follow from a hash of what the registered claims of an experiment say, so
whoever changes a claim gets other seeds, for that experiment alone. Each draw of seeds
is logged in a committed file before its first run: a second draw for the same
experiment shows there, even if the first was never finished.
"""

import datetime
import math
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pandas as pd

from symlab.harness import claim_tables, claims, files, findings, plan, registration
from symlab.harness.errors import UserError
from symlab.harness.project import Committed, Project
from symlab.harness.race import Race
from symlab.harness.stats import Interval

FIRST = 1_000_000  # above every seed that was used so far
STEP = 1000  # more than the seeds of a sweep; even, as some races tune on even seeds
DRAWS = 2_000_000  # FIRST + STEP * DRAWS < 2^31, which every library takes for a seed
RATES = (
    "Races run at the rates that their sweeps name; where a claim chooses rates from "
    "tuning runs, it chooses them from the tuning runs on the new seeds."
)
SAME = "the same numbers on other seeds"
BEGUN = "begun"
NO_ROWS = "no rows"
KIND = "confirm"  # of the committed table
AGREEMENTS = ("equal", "differs", NO_ROWS)


def seed0(lock: Iterable[registration.Entry], experiment: str, scale: str) -> int:
    """Return the number that is added to the seeds of an experiment for its
    confirmation.

    It is derived from a hash of what the experiment's claims say.

    lock: the registered claims.
    experiment: the name of the experiment.
    scale: the size of the sweep. Each scale has its own seeds, so a confirmation at
        smoke scale does not reveal the results at others.
    """
    text = f"{registration.name_of(lock, experiment)} {scale}"
    draw = int(sha256(text.encode()).hexdigest(), 16) % DRAWS
    return FIRST + STEP * draw


def plans(
    project: Project, names: Iterable[str], scale: str, **options
) -> list[plan.Plan]:
    """Return plans for running experiments again on the seeds that follow from their
    claims.

    names: the experiments.
    scale: the size of the sweeps.
    options: further arguments of `plan.make`.

    Raises UserError if the claims have changed since they were registered.
    """
    lock, names = registration.read(project), list(names)
    now = registration.entries(project, names)
    if changed := registration.changes([e for e in lock if e.experiment in names], now):
        raise UserError(
            f"claims.lock is not of the claims as they stand ({changed[0]}"
            f"{f', and {len(changed) - 1} more' if len(changed) > 1 else ''}): run "
            f"`{project.command('lock')}` and commit it, then confirm"
        )
    return [
        plan.make(project, name, scale, seed0=seed0(lock, name, scale), **options)
        for name in names
    ]


def races(planned: plan.Plan) -> bool:
    """Return whether an experiment compares methods at tuned learning rates.

    planned: a plan of the experiment. If the result is true, the experiment has a
        `Race`, and the note RATES says how rates are chosen on fresh seeds.
    """
    return any(isinstance(x, Race) for x in vars(planned.experiment.module).values())


def compared(project: Project, confirmed: plan.Plan) -> pd.DataFrame:
    """Return a frame with a row per claim: its earlier verdict, and that of the
    confirmation.

    confirmed: the plan of the confirmation, a sweep on fresh seeds.

    The earlier verdict is that of the committed rows if they are complete and current,
    else of the rows under results/. The column `agreement` is "equal", "differs", or
    "no rows" if there is no earlier verdict.
    """
    second = findings.verdicts([confirmed])
    for place in (Committed(project.root), project):
        before = plan.make(place, confirmed.experiment.name, confirmed.scale)
        done, wanted = findings.progress(before)
        if done == wanted:
            first = findings.verdicts([before])
            break
    else:
        first = [claims.Verdict(v.experiment, v.claim, NO_ROWS, None) for v in second]
    return pd.DataFrame([_row(a, b) for a, b in zip(first, second, strict=True)])


def _row(a: claims.Verdict, b: claims.Verdict) -> dict:
    i, j = a.interval, b.interval
    same = i and j and (i.value, i.low, i.high) == (j.value, j.low, j.high)
    notes = [b.note] if b.note else []
    return {
        "experiment": a.experiment,
        "claim": a.claim.name,
        "claimed": a.claim.criterion,
        "before": a.verdict,
        "confirmation": b.verdict,
        "agreement": _agreement(a.verdict, b.verdict),
        "bearing": b.meaning,
        **_numbers("", i),
        **_numbers("confirmed_", j),
        "note": "; ".join([*notes, SAME] if same else notes),
    }


def _agreement(before: str, after: str) -> str:
    if before == NO_ROWS:
        return NO_ROWS
    return "equal" if before == after else "differs"


def _numbers(prefix: str, interval) -> dict:
    """Value, limits and n of an interval, to six digits, so that a diff is short."""
    found = {
        k: float(f"{getattr(interval, k, math.nan):.6g}")
        for k in ("value", "low", "high")
    }
    found["n"] = getattr(interval, "n", 0)
    return {prefix + k: v for k, v in found.items()}


def line(row) -> str:
    """Return a line for the terminal that compares a claim's earlier verdict with that
    on fresh seeds.

    row: a row of the frame that `compared` returns.
    """
    mark = {"differs": "DIFFERS", NO_ROWS: NO_ROWS}.get(row.agreement, "equal")
    compared = row.agreement != NO_ROWS
    before = f"{row.before} {shown(row)}" if compared else "none to compare with"
    text = f"{mark:8} {row.claim}: {before}"
    text += f"\n         confirmation: {row.confirmation} {shown(row, 'confirmed_')}"
    text += f", claimed {row.claimed} ({row.bearing})"
    return text + (f"\n         {row.note}" if row.note else "")


def shown(row, prefix: str = "") -> str:
    """Return the estimate and its interval in a row of `compared` as text.

    prefix: "" for the estimate on the earlier rows, "confirmed_" for that on fresh
        seeds.
    """
    value, low, high, n = (
        getattr(row, prefix + k) for k in ("value", "low", "high", "n")
    )
    return f"{value:.3g} [{low:.3g}, {high:.3g}], n={n}"


def again(project: Project, verdict: claims.Verdict, scale: str) -> str:
    """Return as text how a claim came out in its confirmation, from the committed
    table.

    verdict: the earlier verdict on the claim. scale: of the runs that were confirmed.
    """
    table = claim_tables.read(project, KIND, scale)
    if table is None:
        return "not judged"
    claim = verdict.claim
    here = (table.experiment == verdict.experiment) & (table.claim == claim.name)
    if not here.any():
        return "not judged"
    row = next(table[here].itertuples())
    if row.claimed != claim.criterion:
        return f"judged with other thresholds, {row.claimed}: {row.confirmation}"
    ends = {k: getattr(row, f"confirmed_{k}") for k in ("value", "low", "high", "n")}
    like = verdict.interval or Interval(math.nan, math.nan, math.nan, 0)
    found = replace(verdict, interval=replace(like, **ends, note=""))
    return f"{row.confirmation}, {found.measured}"


# --- what is committed ---------------------------------------------------------------


def log_file(project: Project, scale: str) -> Path:
    """Return the path of the file in which draws of fresh seeds are logged, for one
    scale.
    """
    return claim_tables.path(project, KIND, scale).with_name("confirmations.log")


def log(
    project: Project, scale: str, experiment: str, found: pd.DataFrame | None = None
) -> bool:
    """Add a line on a draw of fresh seeds to the log; return whether it was added.

    found: the result of `compared`, once the runs are finished; None before the first
        run.

    A line has the date, scale, experiment, hash of its claims, first seed, and "begun",
    or with `found` how many verdicts are equal to the earlier ones and how many differ.
    It is not added if the log already says the same.
    """
    path, lock = log_file(project, scale), registration.read(project)
    name, first = registration.name_of(lock, experiment), seed0(lock, experiment, scale)
    counts = [BEGUN]
    if found is not None:
        counts = [f"{(found.agreement == word).sum()} {word}" for word in AGREEMENTS]
    said = "\t".join((scale, experiment, name, str(first), *counts))
    before = path.read_text("utf-8") if path.is_file() else ""
    if said in (text.partition("\t")[2] for text in before.splitlines()):
        return False
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    files.write([f"{before}{today}\t{said}\n".encode()], path)
    return True


def draws(project: Project, scale: str, experiment: str) -> int:
    """Return from the log how many times fresh seeds were drawn for an experiment.

    scale: the size of the sweep; other scales are not counted.
    """
    path = log_file(project, scale)
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    fields = [text.split("\t") for text in lines]
    whole = (f for f in fields if len(f) > 4)
    return len({f[4] for f in whole if f[1:3] == [scale, experiment]})


def lost(project: Project, scale: str) -> list[str]:
    """Return committed lines of the log of seed draws that the file on disk no longer
    has.

    Raises UserError if the checkout has no git history to look at.
    """
    path = log_file(project, scale)
    now = set(path.read_text("utf-8").splitlines()) if path.is_file() else set()
    name = path.relative_to(project.root).as_posix()
    before = {
        line: None
        for commit in registration.commits(project, name)
        for line in registration.text_at(project, commit, name).splitlines()
    }
    return [
        f"{path.name} lost a draw of seeds for {line.split(chr(9))[2]}: "
        f"{' '.join(line.split())}"
        for line in before
        if line.count("\t") > 2 and line not in now
    ]
