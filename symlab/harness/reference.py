"""Committed copies: the rows and figures one sees without running anything."""

import shutil
from pathlib import Path

import pyarrow as pa

from symlab.harness import contract, plan, product
from symlab.harness.errors import UserError
from symlab.harness.project import Project
from symlab.harness.store import Store, write_table


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
        written += _write_verdicts(project, scale)
    return written


BEGIN, END = "<!-- verdicts -->\n", "<!-- end of verdicts -->\n"


def _write_verdicts(project: Project, scale: str) -> list[Path]:
    """Put the verdicts into the pages under docs/ that have a place for them."""
    pages = sorted((project.root / "docs").glob("*.md"))
    pages = [p for p in pages if BEGIN in p.read_text("utf-8")]
    for page in pages:
        before, _, rest = page.read_text("utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        text = before + BEGIN + verdict_table(project, scale) + END + after
        page.write_text(text, "utf-8")
    return pages


def verdict_table(project: Project, scale: str) -> str:
    """figure -> claim -> verdict, in Markdown, from the rows that are there."""
    drawn: dict[str, list[str]] = {}
    for figure, experiments in contract.figures(project).items():
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
