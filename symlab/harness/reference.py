"""Committed copies: the rows and figures one sees without running anything."""

import re
import shutil
from pathlib import Path

import pyarrow as pa

from symlab.harness import contract, plan, product
from symlab.harness.errors import UserError
from symlab.harness.files import write_table
from symlab.harness.project import Project
from symlab.harness.store import Store


def write(project: Project, scale: str) -> list[Path]:
    """Copy the current rows of every experiment, and the figures, when complete."""
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
        source = product.stem(project, figure, scale)
        plans = product.plans_of(project, figure, scale)
        record = product.origin(project, figure, plans, product.verdicts(plans))
        if not product.up_to_date(source, record):
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


PLACE = re.compile(r"<!-- (verdicts|table) (\w+) -->\n.*?<!-- end -->\n", re.DOTALL)


def write_pages(project: Project, scale: str) -> list[Path]:
    """Fill in the pages under docs/ that have places for verdicts or tables."""
    pages = sorted((project.root / "docs").glob("*.md"))
    for page in pages:
        page.write_text(filled(project, scale, page.read_text("utf-8")), "utf-8")
    return pages


def filled(project: Project, scale: str, text: str) -> str:
    """The text of a page with its places as the current rows have them.

    <!-- verdicts fig --> ... <!-- end -->     claims of figures named fig...
    <!-- table name --> ... <!-- end -->       what `table(df)` of an experiment returns
    """

    def fill(place: re.Match) -> str:
        kind, name = place.groups()
        write = verdict_table if kind == "verdicts" else experiment_table
        return f"<!-- {kind} {name} -->\n{write(project, scale, name)}<!-- end -->\n"

    return PLACE.sub(fill, text)


def experiment_table(project: Project, scale: str, name: str) -> str:
    """The frame that the experiment makes of its rows, in Markdown."""
    p = plan.make(project, name, scale)
    frame = p.experiment.module.table(p.rows())
    rows = [list(map(str, frame.columns)), ["---"] * len(frame.columns)]
    rows += [[str(v) for v in row] for row in frame.itertuples(index=False)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def verdict_table(project: Project, scale: str, prefix: str = "") -> str:
    """figure -> claim -> verdict, in Markdown, from the rows that are there.

    prefix: of the names of the figures whose claims are wanted.
    """
    drawn: dict[str, list[str]] = {}
    for figure, experiments in contract.figures(project).items():
        if not figure.startswith(prefix):
            continue
        for name in experiments:
            drawn.setdefault(name, []).append(figure)
    lines = [
        "| figure | claim | source | measured | claimed | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted(drawn, key=lambda n: sorted(drawn[n])):
        p = plan.make(project, name, scale)
        for v in product.verdicts([p]):
            cells = (
                ", ".join(sorted(drawn[name])),
                f"{v.claim.statement} (`{v.claim.name}`)",
                v.claim.source,
                str(v.interval or v.note),
                v.claim.criterion,
                v.verdict,
            )
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines) + "\n"


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
