"""The content of the report: every experiment with its verdicts, and every drawn
figure.

Groups of experiments that share a figure are processed in parallel, and not at all if
nothing has changed since the last time (report_kept.py).
"""

import ast
import io
import math
import re
from dataclasses import replace
from itertools import chain
from pathlib import Path
from string import ascii_letters

import joblib

from symlab.harness import contract, findings, plan, remembered, report_kept
from symlab.harness.claims import Verdict
from symlab.harness.project import Project
from symlab.harness.report_kept import Described, Drawn, Ends, Group, Looked

COLOURS = 256  # of a picture in the report: no difference can be seen
RESOLUTION = 2 / 3  # of the drawn file, which has 300 dots per inch


def look(
    project: Project, scale: str, jobs: int = 1
) -> tuple[list[Looked], list[Drawn]]:
    """Return all experiments by name, and all figures by number, for the report.

    scale: of the rows.
    jobs: how many processes judge claims at once; 1 uses the present process.
    """
    figures = contract.figures(project)
    groups = [
        (
            tuple(names),
            tuple(f for f, drawing in figures.items() if drawing[0] in names),
        )
        for names in _groups(contract.names(project), figures)
    ]
    memory = report_kept.Memory(project, scale)
    kept = {g: told for g in groups if (told := memory.recall(g))}
    shares = _shares(project, [g for g in groups if g not in kept], jobs)
    parts = joblib.Parallel(n_jobs=max(1, len(shares)))(
        joblib.delayed(_look_at)(project, scale, share, figures) for share in shares
    )
    new = dict(zip(chain(*shares), chain(*parts), strict=True))
    for g in memory.same(g for g, (*_, known) in new.items() if known) if new else ():
        memory.keep(g, *new[g][:2])
    told = [*kept.values(), *(part[:2] for part in new.values())]
    experiments = sorted((e for es, _ in told for e in es), key=lambda e: e.name)
    drawn = [f for _, fs in told for f in fs]
    drawn = [replace(f, picture=f.picture or _picture(project, f)) for f in drawn]
    return experiments, sorted(drawn, key=lambda f: numbered(f.name))


def numbered(name: str) -> list:
    """Return a key that sorts names by the numbers in them: fig2 before fig10."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if part.isdigit() else part for part in parts]


def _groups(names: list[str], figures: dict[str, list[str]]) -> list[list[str]]:
    """Experiments that share a figure stand in one group."""
    group = {name: [name] for name in names}
    for drawing in figures.values():
        joined = list(dict.fromkeys(n for e in drawing for n in group[e]))
        group |= {name: joined for name in joined}
    return [g for name, g in group.items() if g[0] == name]


def _shares(project: Project, groups: list[Group], jobs: int) -> list[list[Group]]:
    """Groups dealt to processes, the longest source first, to the least loaded one.

    A process takes all of its share at once, because each imports packages anew. The
    length of the source stands for the time, as most of it goes into reading source and
    judging the claims that are written there.
    """
    long = {g: sum(_length(project, name) for name in g[0]) for g in groups}
    shares: list[list[Group]] = [[] for _ in range(min(jobs, len(groups)))]
    loads = [0] * len(shares)
    for group in sorted(groups, key=lambda g: -long[g]):
        least = loads.index(min(loads))
        shares[least].append(group)
        loads[least] += long[group]
    return shares


def _length(project: Project, name: str) -> int:
    return (project.experiments / f"{name}.py").stat().st_size


def _look_at(
    project: Project, scale: str, groups: list[Group], figures: dict[str, list[str]]
) -> list[tuple[list[Looked], list[Drawn], bool]]:
    """Each group's experiments and figures, and whether all that they depend on is
    known.
    """
    found = []
    for group in groups:
        with report_kept.watched(project, scale, group) as known:
            looked, drawn = _group(project, scale, group, figures)
            found.append((looked, drawn, known()))
    return found


def _group(
    project: Project, scale: str, group: Group, figures: dict[str, list[str]]
) -> tuple[list[Looked], list[Drawn]]:
    names, drawings = group
    plans = {name: plan.make(project, name, scale) for name in names}
    verdicts = {name: findings.verdicts([p]) for name, p in plans.items()}
    looked = [_experiment(p, verdicts[name]) for name, p in plans.items()]
    drawn = [
        _figure(
            project,
            figure,
            [plans[n] for n in figures[figure]],
            [v for n in figures[figure] for v in verdicts[n]],
        )
        for figure in drawings
    ]
    return looked, drawn


def _experiment(p: plan.Plan, verdicts: list[Verdict]) -> Looked:
    done, wanted = findings.progress(p)
    docs = ast.get_docstring(ast.parse(p.experiment.path.read_bytes()))
    first, _, rest = docs.partition("\n\n")
    title, told = " ".join(first.split()), tuple(map(_described, verdicts))
    return Looked(p.experiment.name, title, rest.strip(), done, wanted, told)


def _described(v: Verdict) -> Verdict:
    """The verdict without functions: it can be sent, and kept."""
    null = getattr(v.claim.estimate, "null", None)
    claim = replace(v.claim, estimate=Described(v.claim.quantity, null))
    if v.interval is None:
        return replace(v, claim=claim)
    ends = None if math.isnan(v.p) else Ends(v.p)
    return replace(v, claim=claim, interval=replace(v.interval, ends=ends))


def _figure(
    project: Project, name: str, plans: list[plan.Plan], verdicts: list[Verdict]
) -> Drawn:
    """One figure; its picture only if it was drawn from the rows that are judged."""
    record = findings.origin(project, name, plans, verdicts)
    stem = findings.stem(project, name, plans[0].scale)
    committed = project.root / "figures" / "reference" / stem.name
    current = [s for s in (stem, committed) if findings.up_to_date(s, record)]
    picture, size, file = b"", (0, 0), ""
    if current:
        file = f"{current[0]}.png"
        picture, size = _small(project.root, Path(file))
    return Drawn(name, picture, size, captions(name, plans), record, file)


def _picture(project: Project, f: Drawn) -> bytes:
    """The picture of a figure that was kept without it."""
    return _small(project.root, Path(f.file))[0] if f.file else b""


def captions(figure: str, plans: list[plan.Plan]) -> tuple[tuple[str, str], ...]:
    """Return (letter, text) for each panel of a figure that has a docstring, by letter.

    figure: its name. plans: the plans of its experiments. The letter of a single panel
        is "".
    """
    from symlab.harness import plot

    panels = sorted(
        (panel for p in plans for panel in p.experiment.panels(figure)),
        key=lambda panel: (panel.row, plot.ORDER.get(panel.column, panel.column)),
    )
    letters = ascii_letters if len(panels) > 1 else [""]
    return tuple(
        (letter, " ".join(panel.draw.__doc__.split()))
        for letter, panel in zip(letters, panels, strict=False)
        if panel.draw.__doc__
    )


def _small(root: Path, path: Path) -> tuple[bytes, tuple[int, int]]:
    """A smaller PNG of few colours, as bytes, and its size in pixels."""
    import PIL
    from PIL import Image

    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        size = round(image.width * RESOLUTION), round(image.height * RESOLUTION)
        said = f"{COLOURS} {size} Pillow {PIL.__version__} "
        small = remembered.picture(
            root, said.encode() + data, lambda: _reduced(image, size)
        )
    return small, size


def _reduced(image, size: tuple[int, int]) -> bytes:
    from PIL import Image

    plain = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    few = plain.quantize(
        COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
    )
    file = io.BytesIO()
    few.save(file, "PNG")
    return file.getvalue()
