"""Committed copies of rows and figures, to be seen without running anything."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa

from symlab.harness import (
    claim_tables,
    confirm,
    contract,
    findings,
    placebo,
    plan,
    registration,
    summary,
)
from symlab.harness.claims import Verdict
from symlab.harness.errors import UserError
from symlab.harness.files import write_table
from symlab.harness.project import Project
from symlab.harness.store import Store


def write(project: Project, scale: str) -> list[Path]:
    """Copy current result rows and figures to the committed folders results/reference
    and figures/reference; return the files.

    Raises UserError where runs are missing or a figure is not drawn from the current
    rows.
    """
    written = []
    for name in contract.names(project):
        p = plan.make(project, name, scale)
        if todo := len(p.todo):
            raise UserError(
                f"{name} lacks {todo} runs at {scale} scale: run `make figures "
                f"SCALE={scale}` before the reference is written"
            )
        target = project.reference / scale / f"{name}.parquet"
        write_table(_current(p), target)
        written.append(target)
    for figure in contract.figures(project):
        source = findings.stem(project, figure, scale)
        plans = findings.plans_of(project, figure, scale)
        record = findings.origin(project, figure, plans, findings.verdicts(plans))
        if not findings.up_to_date(source, record):
            raise UserError(
                f"{figure} is not drawn from the current rows: "
                f"run `{record['command']}`"
            )
        for kind in ("pdf", "png", "json"):
            target = project.root / "figures" / "reference" / f"{source.name}.{kind}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(f"{source}.{kind}", target)
            written.append(target)
    if scale == "quick":
        written += write_pages(project, scale)
    return written


PLACE = re.compile(
    r"<!-- (verdicts|table|headlines|counts|placebo|confirmed) ([^>]+?) -->\n"
    r".*?<!-- end -->\n",
    re.DOTALL,
)


def write_pages(project: Project, scale: str) -> list[Path]:
    """Write verdicts and tables into the pages under docs/ that have places for them;
    return the files.
    """
    verdicts = summary.judged(project, scale)
    pages = sorted((project.root / "docs").glob("*.md"))
    for page in pages:
        text = filled(project, scale, page.read_text("utf-8"), verdicts)
        page.write_text(text, "utf-8")
    return pages


def filled(project: Project, scale: str, text: str, verdicts: list[Verdict]) -> str:
    """Return the text of a docs page with its marked places filled from the current
    rows.

      <!-- verdicts fig --> ... <!-- end -->   claims of figures named fig...
      <!-- table name --> ... <!-- end -->     what `table(df)` of an experiment returns
      <!-- headlines all --> ...               main statements of all papers, or of one
                                               by its short name, and what tests them
      <!-- counts papers --> ...               claims per paper and axis; or "others"
      <!-- placebo quick --> ...               the committed audit of a scale
      <!-- confirmed quick --> ...             the committed confirmation of a scale

    verdicts: of all claims, as `summary.judged` returns them.
    """
    write = {
        "verdicts": lambda name: verdict_table(project, verdicts, name),
        "table": lambda name: experiment_table(project, scale, name),
        "headlines": lambda name: headline_table(verdicts, name),
        "counts": lambda name: count_table(verdicts, name),
        "placebo": lambda name: placebo_table(project, name),
        "confirmed": lambda name: confirmed_table(project, name),
    }

    def fill(place: re.Match) -> str:
        kind, name = place.groups()
        return f"<!-- {kind} {name} -->\n{write[kind](name)}<!-- end -->\n"

    return PLACE.sub(fill, text)


def experiment_table(project: Project, scale: str, name: str) -> str:
    """Return in Markdown the frame that `table(df)` of an experiment file makes of its
    rows.
    """
    p = plan.make(project, name, scale)
    return markdown(p.experiment.module.table(p.rows()))


def verdict_table(project: Project, verdicts: list[Verdict], prefix: str = "") -> str:
    """Return the claims of figures, with verdicts and what these mean, as a Markdown
    table.

    prefix: how the names of the wanted figures begin.
    """
    drawn: dict[str, list[str]] = {}
    for figure, experiments in contract.figures(project).items():
        if not figure.startswith(prefix):
            continue
        for name in experiments:
            drawn.setdefault(name, []).append(figure)
    order = sorted(drawn, key=lambda n: sorted(drawn[n]))
    rows = [
        {
            "figure": ", ".join(sorted(drawn[v.experiment])),
            "claim": f"{v.claim.statement} (`{v.claim.name}`)",
            "source": v.claim.source,
            "measured": str(v.interval or v.note),
            "claimed": v.claim.criterion,
            "verdict": v.verdict + f" ({v.holm} by Holm)" * v.holm.startswith("flips"),
            "bearing": v.meaning,
            "thresholds": v.claim.registered,
        }
        for v in sorted(
            (v for v in verdicts if v.experiment in drawn),
            key=lambda v: order.index(v.experiment),
        )
    ]
    return markdown(pd.DataFrame(rows))


def headline_table(verdicts: list[Verdict], paper: str = "all") -> str:
    """Return the main statements of papers, and how the claims that test them came out,
    in Markdown.

    paper: the paper's short name, or "all".
    """
    rows = [
        {"paper": h.paper.short, "says": h.sentence, "what came of it": h.outcome}
        for h in summary.headlines(verdicts)
        if paper in ("all", h.paper.short)
    ]
    if not rows and paper != "all":
        raise UserError(f"no claim names a paper {paper!r} with headlines")
    return markdown(pd.DataFrame(rows)) if rows else "None is listed yet.\n"


def count_table(verdicts: list[Verdict], which: str) -> str:
    """Return counts of claims as a Markdown table.

    which: "papers" for counts per paper by what they mean for it, or "others" for the
    claims that are not about a paper.
    """
    count = {"papers": summary.counts, "others": summary.others}[which]
    return markdown(count(verdicts).reset_index())


def confirmed_table(project: Project, scale: str) -> str:
    """Return in Markdown how the claims came out when their experiments were run again
    on fresh seeds.

    It is made from the committed table of a scale; it counts equal and different
    verdicts for each experiment, and lists what differs.
    """
    found = claim_tables.read(project, confirm.KIND, scale)
    if found is None:
        return f"Not made yet: `make confirm SCALE={scale}`.\n"
    lock = registration.read(project)
    rows = [
        {"experiment": name, "seeds from": its.seed0.iloc[0]}
        | {word: (its.agreement == word).sum() for word in confirm.AGREEMENTS}
        | {"claims": "as registered" if confirm.seed0(lock, name, scale)
           == its.seed0.iloc[0] else "changed since",
           "draws of seeds": confirm.draws(project, scale, name)}
        for name, its in found.groupby("experiment")
    ]  # fmt: skip
    text = markdown(pd.DataFrame(rows))
    apart = found[found.agreement == "differs"]
    rows = [
        {
            "experiment": r.experiment,
            "claim": f"`{r.claim}`",
            "claimed": r.claimed,
            "before": f"{r.before}: {confirm.shown(r)}",
            "on fresh seeds": f"{r.confirmation}: {confirm.shown(r, 'confirmed_')}",
        }
        for r in apart.itertuples()
    ]
    if rows:
        text += "\n" + markdown(pd.DataFrame(rows))
    known = set(found.experiment)
    if lacking := [n for n in contract.names(project) if n not in known]:
        text += f"\nNot confirmed yet: {', '.join(lacking)}.\n"
    return text


def placebo_table(project: Project, scale: str) -> str:
    """Return in Markdown the committed audit of how often claims hold when the labels
    of their arms are shuffled.
    """
    found = claim_tables.read(project, "placebo", scale)
    if found is None:
        return f"Not made yet: `make placebo SCALE={scale}`.\n"
    return placebo.table(found)


def markdown(frame: pd.DataFrame) -> str:
    """A frame without its index as a table in Markdown."""
    rows = [list(map(str, frame.columns)), ["---"] * len(frame.columns)]
    rows += [[str(v) for v in row] for row in frame.itertuples(index=False)]
    return "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in rows)


def _cell(text: str) -> str:
    """Markdown would take | for a border and * for emphasis."""
    return text.replace("|", "&#124;").replace("*", "&#42;")


def _current(p: plan.Plan) -> pa.Table:
    """The rows of the sweep as it stands, in its order, made by the current code."""
    table = p.store.read()
    index = {
        (k, c): i
        for i, (k, c) in enumerate(
            zip(table["key"].to_pylist(), table["code"].to_pylist(), strict=True)
        )
    }
    rows = [index[key, p.code] for key in p.configs]
    return Store.with_manifests(table.take(pa.array(rows)), {p.code: p.manifest})
