"""Collects the content of an archive: rows, figures, verdicts, source, environment."""

import os
import platform
import re
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd
import pyarrow as pa

from symlab.harness import (
    archive,
    contract,
    crate,
    files,
    findings,
    machine,
    plan,
    registration,
)
from symlab.harness.claims import Verdict
from symlab.harness.errors import UserError
from symlab.harness.project import Project
from symlab.harness.store import Store

HOME = Path(__file__).resolve().parents[2]  # the folder that holds symlab
FOLDERS = ("benchmarks", "docs", "examples", "experiments", "symlab", "tests")
ALONE = (
    "CITATION.cff", "LICENSE", "Makefile", "NOTES.md", "README.md", "constraints.txt",
    "portions.toml", "pyproject.toml",
)  # fmt: skip


@dataclass(frozen=True)
class Packed:
    """What an archive contains: its numbers of experiments, rows and figures.

    said: one sentence on each thing that was left out.
    """

    experiments: int
    rows: int
    figures: int
    said: list[str]


def pack(project: Project, path: Path, scale: str, names: Sequence[str] = ()) -> Packed:
    """Write the rows of a scale, with all that they rest on, as one archive.

    path: the new file, which ends in .zip. scale: the size of the sweeps.
    names: the experiments; () for all that have a run at this scale.

    Raises UserError if runs are missing, if the file exists, or if its name does not
    end in .zip.
    """
    if path.suffix != ".zip":
        raise UserError(
            f"{path} does not end in .zip, which an archive does: name it so"
        )
    if path.exists():
        raise UserError(
            f"{path} exists and is left as it is: give another name, or delete it"
        )
    plans = [plan.make(project, n, scale) for n in names or contract.names(project)]
    plans = [p for p in plans if p.configs]
    _check_complete(plans, scale)
    content = {f"results/{scale}/{p.experiment.name}.parquet": _rows(p) for p in plans}
    verdicts = {p.experiment.name: findings.verdicts([p]) for p in plans}
    figures, said = _figures(project, plans, verdicts)
    judged = [v for found in verdicts.values() for v in found]
    content |= figures
    content |= _claims(project, judged)
    code, outside = source(project, plans)
    content |= code
    content |= environment()
    finished = max(max(p.rows().finished) for p in plans)[:10]
    papers = {v.claim.paper.short: v.claim.paper for v in judged if v.claim.paper}
    described = crate.metadata(
        {**content, archive.INDEX: None},
        finished,
        _about(project, scale, len(plans)),
        _authors(project),
        papers.values(),
    )
    content[crate.NAME] = archive.text(described)
    archive.write(path, content, {"scales": [scale]})
    stems = {Path(name).with_suffix("") for name in figures}
    return Packed(
        len(plans), sum(len(p.rows()) for p in plans), len(stems), said + outside
    )


def _check_complete(plans: list[plan.Plan], scale: str) -> None:
    if not plans:
        raise UserError(f"no experiment has a run at scale {scale}: nothing to archive")
    lacking = [p for p in plans if p.todo]
    if lacking:
        p = lacking[0]
        more = f", and {len(lacking) - 1} others lack some" * (len(lacking) > 1)
        raise UserError(
            f"{p.experiment.name} lacks {len(p.todo)} of {p.wanted} runs at scale "
            f"{scale}{more}: run what is missing (`make figures SCALE={scale}`), or "
            "pack the committed rows (--reference)"
        )


def _rows(p: plan.Plan) -> bytes:
    """The current rows as Parquet, in the order of the sweep."""
    table = p.store.current(p.code, p.configs)
    place = {key: i for i, key in enumerate(table["key"].to_pylist())}
    table = table.take(pa.array([place[key] for key in p.configs]))
    table = Store.with_manifests(table, {p.code: p.manifest})
    return b"".join(files.pieces_of(table))


def _figures(
    project: Project, plans: list[plan.Plan], verdicts: dict[str, list[Verdict]]
) -> tuple[dict[str, bytes], list[str]]:
    """Figures whose files were drawn from these rows; a sentence on each other one."""
    by_name = {p.experiment.name: p for p in plans}
    found, said = {}, []
    for figure, drawing in contract.figures(project).items():
        if lacking := [name for name in drawing if name not in by_name]:
            if len(lacking) < len(drawing):
                why = f"it also shows {lacking[0]}, which is not packed"
                said.append(f"{figure} is left out: {why}")
            continue
        mine = [by_name[name] for name in drawing]
        judged = [v for name in drawing for v in verdicts[name]]
        record = findings.origin(project, figure, mine, judged)
        stem = findings.stem(project, figure, mine[0].scale)
        places = stem, project.root / "figures" / "reference" / stem.name
        current = [s for s in places if findings.up_to_date(s, record)]
        if not current:
            said.append(f"{figure} is left out: it is not drawn from these rows "
                        f"(`{record['command']}` draws it)")  # fmt: skip
        for kind in ("pdf", "png", "json") if current else ():
            data = Path(f"{current[0]}.{kind}").read_bytes()
            found[f"figures/{stem.name}.{kind}"] = data
    return found, said


def _claims(project: Project, judged: list[Verdict]) -> dict[str, bytes]:
    table = pd.DataFrame([v.record() for v in judged])
    found = {"claims.csv": table.to_csv(index=False).encode()}
    lock = registration.path(project)
    return found | ({"claims.lock": lock.read_bytes()} if lock.is_file() else {})


def source(
    project: Project, plans: Iterable[plan.Plan]
) -> tuple[dict[str, bytes], list[str]]:
    """Return {name in the archive: content} of the source code, and what is missing
    from it.

    plans: the plans of the archive's experiments.

    The source is the project's folders of code and docs, symlab itself, and every file
    that `run` reaches or that DATA names. The second result has a sentence on each
    module that is reached but lies elsewhere.
    """
    found, said = {}, {}
    for root in (HOME, project.root):  # the project's own files come last, and count
        folders = FOLDERS if root == project.root else ("symlab",)
        found |= {f.relative_to(root): f for d in folders for f in _below(root / d)}
    found |= {Path(n): project.root / n for n in ALONE}
    for p in plans:
        data = (n.removeprefix("data:") for n in p.manifest if n.startswith("data:"))
        found |= {Path(name): project.root / name for name in data}
        for module in p.experiment.reached.files:
            name = Path(*module.split("."))
            places = name.with_suffix(".py"), name / "__init__.py"
            here = {n: project.root / n for n in places if (project.root / n).is_file()}
            found |= here
            if not here and not any(n in found for n in places):
                said[module] = f"{module} is left out: it lies outside of the project"
    there = {n: f for n, f in found.items() if f.is_file()}
    content = {f"source/{n.as_posix()}": f.read_bytes() for n, f in there.items()}
    return content, list(said.values())


def _below(folder: Path) -> list[Path]:
    """The files of a folder, without hidden ones and what Python compiled."""
    found = []
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(d for d in folders if d[0] != "." and d != "__pycache__")
        found += [Path(above) / n for n in sorted(names) if n[0] != "."]
    return [f for f in found if f.suffix not in (".pyc", ".so", ".pyd")]


def environment() -> dict[str, bytes]:
    """Return the content of the files environment.json and environment.txt.

    They record processor, system, Python and the version of every package; the name of
    the machine is in neither.
    """
    found = {d.name: d.version for d in metadata.distributions() if d.name}
    packages = dict(sorted(found.items(), key=lambda item: item[0].lower()))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    here = {"python": python, "platform": sys.platform, **machine.columns()}
    lines = [f"{n}=={v}" for n, v in packages.items() if n != "symlab"]
    return {
        "environment.json": archive.text(here | {"packages": packages}),
        "environment.txt": ("\n".join(lines) + "\n").encode(),
    }


def _about(project: Project, scale: str, experiments: int) -> dict[str, str]:
    named = _project_table(project)
    name = named.get("name") or project.root.name
    licence = named.get("license")
    more = f"{named['description']}. " if named.get("description") else ""
    return {
        "name": f"{name}: rows, figures and verdicts at scale {scale}",
        "description": f"{more}Result rows of {experiments} experiments at scale "
        f"{scale}, the figures drawn from them, the verdicts on their claims, the "
        "source code that made them and the versions of all packages.",
        "license": licence if isinstance(licence, str) else "",
    }


def _project_table(project: Project) -> dict:
    """The table [project] of pyproject.toml, {} where there is none."""
    try:
        with (project.root / "pyproject.toml").open("rb") as file:
            return tomllib.load(file).get("project", {})
    except (OSError, tomllib.TOMLDecodeError):
        return {}


def _authors(project: Project) -> list[str]:
    """The names in CITATION.cff below `authors:`."""
    try:
        text = (project.root / "CITATION.cff").read_text("utf-8")
    except OSError:
        return []
    part = re.search(r"^authors:\n((?:[ -].*(?:\n|$))*)", text, re.M)
    people = re.split(r"^ *- ", part[1] if part else "", flags=re.M)
    fields = [dict(re.findall(r"([\w-]+): *\"?([^\"\n]+)", one)) for one in people]
    words = [[f.get(k, "") for k in ("name", "given-names", "family-names")]
             for f in fields]  # fmt: skip
    return [" ".join(filter(None, w)) for w in words if any(w)]
