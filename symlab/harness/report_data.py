"""The content of the report: every experiment with its verdicts, and every drawn
figure.

Groups of experiments that share a figure are processed in parallel.
"""

import ast
import io
import re
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_letters

import joblib

from symlab.harness import contract, findings, plan, remembered
from symlab.harness.claims import Verdict
from symlab.harness.project import Project

COLOURS = 256  # of a picture in the report: no difference can be seen
RESOLUTION = 2 / 3  # of the drawn file, which has 300 dots per inch


@dataclass(frozen=True)
class Looked:
    """One experiment in the report: its docstring, its numbers of runs, its verdicts.

    name: of the experiment. title, body: the parts of its docstring.
    done, wanted: how many runs have current rows, and how many there are.
    verdicts: on its claims, whose estimates are replaced by their descriptions.
    """

    name: str
    title: str
    body: str
    done: int
    wanted: int
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Drawn:
    """One figure in the report: its picture as PNG, and where the picture comes from.

    picture: b"" if the drawn file is not of the current rows and code.
    size: width and height in pixels.
    captions: a pair (letter, text) for each panel that has a docstring; the letter is
        "" if it is the only panel.
    record: the origin, as `findings.origin` returns it.
    """

    name: str
    picture: bytes
    size: tuple[int, int]
    captions: tuple[tuple[str, str], ...]
    record: dict


@dataclass(frozen=True)
class Described:
    """Stands for a claim's estimate if only its description is needed."""

    phrase: str

    def __call__(self, df):
        """Raise TypeError: the estimate itself was left in another process."""
        raise TypeError(f"this is a description, not an estimate: {self.phrase}")


def look(
    project: Project, scale: str, jobs: int = 1
) -> tuple[list[Looked], list[Drawn]]:
    """Return all experiments by name, and all figures by number, for the report.

    scale: of the rows.
    jobs: how many processes judge claims at once; 1 uses the present process.
    """
    figures = contract.figures(project)
    groups = _groups(contract.names(project), figures)
    shares = _shares(project, groups, jobs)
    parts = joblib.Parallel(n_jobs=len(shares))(
        joblib.delayed(_look_at)(
            project, scale, share, {f: e for f, e in figures.items() if e[0] in share}
        )
        for share in shares
    )
    experiments = sorted((e for es, _ in parts for e in es), key=lambda e: e.name)
    drawn = sorted((f for _, fs in parts for f in fs), key=lambda f: numbered(f.name))
    return experiments, drawn


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


def _shares(project: Project, groups: list[list[str]], jobs: int) -> list[list[str]]:
    """Groups dealt to processes, the longest source first, to the least loaded one.

    A process takes all of its share at once, because each imports packages anew. The
    length of the source stands for the time, as most of it goes into reading source and
    judging the claims that are written there.
    """
    long = {g[0]: sum(_length(project, name) for name in g) for g in groups}
    shares: list[list[str]] = [[] for _ in range(max(1, min(jobs, len(groups))))]
    loads = [0] * len(shares)
    for group in sorted(groups, key=lambda g: -long[g[0]]):
        least = loads.index(min(loads))
        shares[least] += group
        loads[least] += long[group[0]]
    return shares


def _length(project: Project, name: str) -> int:
    return (project.experiments / f"{name}.py").stat().st_size


def _look_at(
    project: Project, scale: str, names: list[str], figures: dict[str, list[str]]
) -> tuple[list[Looked], list[Drawn]]:
    plans = {name: plan.make(project, name, scale) for name in names}
    verdicts = {name: findings.verdicts([p]) for name, p in plans.items()}
    looked = [_experiment(p, verdicts[name]) for name, p in plans.items()]
    drawn = [
        _figure(
            project,
            figure,
            [plans[n] for n in drawing],
            [v for n in drawing for v in verdicts[n]],
        )
        for figure, drawing in figures.items()
    ]
    return looked, drawn


def _experiment(p: plan.Plan, verdicts: list[Verdict]) -> Looked:
    done, wanted = findings.progress(p)
    docs = ast.get_docstring(ast.parse(p.experiment.path.read_bytes()))
    first, _, rest = docs.partition("\n\n")
    told = tuple(
        replace(v, claim=replace(v.claim, estimate=Described(v.claim.quantity)))
        for v in verdicts
    )
    title = " ".join(first.split())
    return Looked(p.experiment.name, title, rest.strip(), done, wanted, told)


def _figure(
    project: Project, name: str, plans: list[plan.Plan], verdicts: list[Verdict]
) -> Drawn:
    """One figure; its picture only if it was drawn from the rows that are judged."""
    record = findings.origin(project, name, plans, verdicts)
    stem = findings.stem(project, name, plans[0].scale)
    committed = project.root / "figures" / "reference" / stem.name
    current = [s for s in (stem, committed) if findings.up_to_date(s, record)]
    picture, size = b"", (0, 0)
    if current:
        picture, size = _small(project.root, Path(f"{current[0]}.png"))
    return Drawn(name, picture, size, captions(name, plans), record)


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
