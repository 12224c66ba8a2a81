"""What the current rows of experiments show: verdicts, figures, and their
provenance.
"""

import math
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import pandas as pd

from symlab.harness import claims, code, contract, faults, plot
from symlab.harness.errors import UserError, nearest
from symlab.harness.plan import Plan, make_all
from symlab.harness.project import Project

RECORDED = ("experiment", "claim", "verdict", "bearing", "registered", "value", "low")
RECORDED += ("high", "n")  # of a claim, in the files of a figure


def verdicts(plans: Iterable[Plan], partial: bool = False) -> list[claims.Verdict]:
    """Return the verdicts on all claims of the planned experiments, from their current
    rows.

    plans: one plan per experiment.
    partial: whether to judge the claims of an incomplete sweep on the rows that exist;
        otherwise these claims are undecided.
    """
    judged = []
    for p in plans:
        done, wanted = progress(p)
        if done < wanted and not partial:
            note = f"not judged: {done} of {wanted} runs are there ({p.lacking()})"
            judged += [
                claims.Verdict(p.experiment.name, c, "undecided", None, note)
                for c in p.experiment.claims
            ]
        else:
            judged += claims.judge_all(p.experiment, p.rows())
    return judged


def mistaken(plan: Plan, claim: claims.Claim) -> bool:
    """Return whether a claim's estimate fails for a reason that lies in the claim.

    plan: a plan of the experiment at smoke scale. claim: the claim.

    An estimate may lack rows only because the sweep at smoke scale is smaller than the
    one at quick scale. It is therefore tried on the settings of quick scale, too,
    without results: if it lacks rows there as well, it names a value that no run has,
    and the claim is mistaken.
    """
    quick = pd.DataFrame(plan.experiment.configs("quick").values())
    for rows, known in ((plan.rows(), False), (quick, True)):
        try:
            claim.estimate(rows)
            return False
        except claims.LackingRows:
            continue
        except (Exception, SystemExit):
            return not known
    return True


def stem(
    project: Project, figure: str, scale: str, seed0: int = 0, column: bool = False
) -> Path:
    """Return the path of a figure's files without suffix, such as figures/fig3.

    scale: other scales than 'quick' have names of their own, so they never overwrite
        it.
    seed0: a number added to all seeds; if it is not 0, it is in the name.
    column: whether the figure has the form for one column, which is in the name.
    """
    name = figure if scale == "quick" else f"{figure}.{scale}"
    name += f".seed{seed0}" * bool(seed0) + ".column" * column
    return project.figures / name


def progress(plan: Plan) -> tuple[int, int]:
    """Return how many runs of a plan have a row of the present code, and how many there
    are.
    """
    return len(plan.rows()), plan.wanted


def draw(figure: str, plans: list[Plan], absent: int = 0, column: bool = False):
    """Return the matplotlib figure of this name, drawn from current rows.

    plans: the plans of its experiments.
    absent: how many runs belong to experiments of the figure that are not among the
        plans.
    column: whether panels stand one below the other, for one column of a page.

    A stamp says "preliminary" if rows are missing. Raises UserError if there are no
    rows.
    """
    counts = [progress(p) for p in plans]
    done, wanted = (sum(c) for c in zip(*counts, strict=True))
    wanted += absent
    panels = [
        (panel, rows)
        for p in plans
        for rows in [p.rows()]
        if len(rows)
        for panel in p.experiment.panels(figure)
    ]
    if not panels:
        raise UserError(f"there is no row to draw yet: run `make {figure}` first")
    stamp = "" if done == wanted else f"preliminary {done}/{wanted}"
    root = plans[0].experiment.path.parents[1]
    with faults.telling(f"{figure} cannot be drawn", root):
        return plot.compose(panels, stamp, column)


def origin(
    project: Project,
    figure: str,
    plans: list[Plan],
    judged: list[claims.Verdict],
    seed0: int = 0,
    column: bool = False,
) -> dict:
    """Return the provenance of a figure, as a dict: its rows, code, seeds and verdicts.

    plans: the plans of its experiments. judged: the verdicts on their claims.
    seed0: a number added to all seeds.
    column: whether panels stand one below the other.

    It depends on the rows alone, so the same rows give the same dict.
    """
    command = f"make {figure} SCALE={plans[0].scale}"
    command += f" SEED0={seed0}" * bool(seed0) + " COLUMN=1" * column
    record = {"figure": figure, "command": command}
    record["claims"] = [
        {k: _number(v) for k, v in j.record().items() if k in RECORDED} for j in judged
    ]
    style = code.reach(project.root, "symlab.harness.plot", ["compose", "save"]).code
    record["experiments"] = {
        p.experiment.name: _origin(project, figure, p, style) for p in plans
    }
    return record


def _number(value):
    """JSON knows no infinity and no NaN: they become words."""
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if finite else str(value)


def _origin(project: Project, figure: str, plan: Plan, style: str) -> dict:
    rows = plan.rows()
    identity = sorted((rows.key + rows.code + rows.finished).tolist())
    draws = [p.draw.__name__ for p in plan.experiment.panels(figure)]
    module = f"experiments.{plan.experiment.name}"
    drawing = code.reach(project.root, module, [*draws, "CLAIMS"]).code
    return {
        "code": plan.code,
        "runs": len(rows),
        "rows": sha256("".join(identity).encode()).hexdigest()[:16],
        "seeds": sorted(set(rows.seed.tolist())) if len(rows) else [],
        "git": sorted(
            {g + "+changes" * d for g, d in set(zip(rows.git, rows.dirty, strict=True))}
        ),
        "versions": sorted(rows.versions.unique()),
        "device": sorted(rows.device.unique()),
        "drawn_by": f"{drawing}-{style}",
    }


def up_to_date(path: Path, record: dict) -> bool:
    """Return whether a figure's file was drawn from the given rows by the present code.

    path: the file. record: what `origin` returns for these rows.
    """
    try:
        files = [Path(f"{path}.{kind}") for kind in ("pdf", "png", "json")]
        return all(_decided(plot.provenance(f)) == _decided(record) for f in files)
    except UserError:
        return False


def _decided(record: dict) -> dict:
    """Without estimates: the rows and the code are named, and machines round apart."""
    kept = ("experiment", "claim", "verdict")
    claims = [{k: claim[k] for k in kept} for claim in record.get("claims", [])]
    return record | {"claims": claims}


def plans_of(project: Project, name: str, scale: str, **options) -> list[Plan]:
    """Return the plans of the experiments that draw a figure, or of one experiment.

    name: of a figure or of an experiment. scale: the size of the sweeps.
    options: further arguments of `plan.make`.
    """
    figures = contract.figures(project)
    if name in figures:
        return make_all(project, figures[name], scale, **options)
    if name in contract.names(project):
        return make_all(project, [name], scale, **options)
    known = [*figures, *contract.names(project)]
    raise UserError(nearest(name, known, "figure or experiment"))
