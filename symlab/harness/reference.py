"""Committed copies of rows and figures, which can be seen without running anything."""

import shutil
from pathlib import Path

import pyarrow as pa

from symlab.harness import contract, findings, gallery, pages, plan
from symlab.harness.errors import UserError
from symlab.harness.files import write_table
from symlab.harness.project import Project
from symlab.harness.store import Store


def write(project: Project, scale: str) -> list[Path]:
    """Copy current result rows and figures to the committed folders; return the files.

    The folders are results/reference and figures/reference; the latter also gets a
    contact sheet, gallery.png.

    Raises UserError if runs are missing, or if a figure was not drawn from the current
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
    if pictures := [path for path in written if path.suffix == ".png"]:
        sheet = findings.stem(project, "gallery", scale).name
        place = project.root / "figures" / "reference" / f"{sheet}.png"
        written.append(gallery.write(pictures, place))
    if scale == "quick":
        written += pages.write(project, scale)
    return written


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
