"""The report: one HTML page with the results of each paper, all claims, and all
figures.

The page is self-contained. report.html.j2 is its template; its style and its script are
in files beside it, and are included in the page.
"""

import base64
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from symlab.harness import claim_tables, confirm, contract, report_data, summary
from symlab.harness.claims import LOG_RATIO, ORIGINS, RATIO, Paper, Verdict
from symlab.harness.errors import UserError
from symlab.harness.project import Committed, Project
from symlab.harness.report_data import Drawn, Looked

NO_PAPER = "no paper"
NOT_JUDGED = "not judged"
SHOWN = ("failed", "error", "undecided", "held", NOT_JUDGED)  # as the page sorts them


def write(
    project: Project,
    scale: str,
    jobs: int = 1,
    reference: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> Path:
    """Write figures/report.html, one page with all claims, verdicts and figures.

    scale: of the rows; other scales than quick give files with names of their own.
    jobs: how many processes judge claims.
    reference: whether the committed rows are shown in any case.
    say: a function that is given a sentence on each step before it is done.

    The page is made from rows and figures that exist, and nothing is drawn: a picture
    is shown if its file is of the present rows and code. If no experiment was run on
    this machine, the committed rows are shown. Returns the path of the page.
    """
    committed = reference or not any((project.results / scale).glob("*.parquet"))
    source = Committed(project.root) if committed else project
    n = len(contract.names(project))
    say(
        f"judging the claims of {n} experiment{'s' * (n != 1)} on the "
        f"{'committed rows' if committed else 'rows under ' + str(source.results)}"
    )
    experiments, figures = report_data.look(source, scale, jobs)
    text = page(
        experiments,
        figures,
        scale,
        claim_tables.read(project, confirm.KIND, scale),
        committed=committed and any(e.done for e in experiments),
    )
    path = project.figures / f"report{'' if scale == 'quick' else f'.{scale}'}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}): free space there or set "
            "SYMLAB_FIGURES to a folder that can be written"
        ) from None
    return path


def page(
    experiments: Sequence[Looked],
    figures: Sequence[Drawn],
    scale: str,
    confirmed: pd.DataFrame | None = None,
    committed: bool = False,
) -> str:
    """Return the report as HTML.

    experiments, figures: what `report_data.look` returned.
    scale: of the rows.
    confirmed: the table of verdicts on fresh seeds, if there is one.
    committed: whether the rows are those that came with the project.
    """
    verdicts = summary.corrected([v for e in experiments for v in e.verdicts])
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        autoescape=True, loader=folder, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "address": link,
        "source": lambda name: Markup(folder.get_source(environment, name)[0]),
    }
    board = summary.scoreboard(verdicts, confirmed)
    papers = list(board.get("paper", ()))
    rows = claim_rows(verdicts, figures, papers, confirmed)
    shown = [_figure(f, experiments, rows) for f in figures]
    shown.sort(key=lambda f: [*papers, f["paper"]].index(f["paper"]))
    return environment.get_template("report.html.j2").render(
        scale=scale,
        committed=committed,
        board=summary.shown(board),
        others=summary.others(verdicts).reset_index(),
        headlines=summary.headlines(verdicts),
        rows=rows,
        choices=_choices(rows, [f["name"] for f in shown]),
        figures=shown,
    )


def claim_rows(
    verdicts: Sequence[Verdict],
    figures: Sequence[Drawn],
    papers: Sequence[str],
    confirmed: pd.DataFrame | None = None,
) -> list[dict]:
    """Return what the report says about each claim, one dict per claim.

    verdicts: on all claims. figures: the figures of the report.
    papers: short names of papers, in the order of the page; claims about no paper come
        last. Within a paper, claims are in the order of their figures' numbers.
    confirmed: as for `page`.
    """
    drawn = {
        name: [f.name for f in figures if name in f.record["experiments"]]
        for name in {v.experiment for v in verdicts}
    }
    again = {} if confirmed is None else {
        (r.experiment, r.claim, r.claimed): r.confirmation
        for r in confirmed.itertuples()
    }  # fmt: skip
    order = {name: i for i, name in enumerate([*papers, NO_PAPER])}
    rows = [_row(v, drawn[v.experiment], again) for v in verdicts]
    rows.sort(
        key=lambda r: (
            order.get(r["paper"], len(order)),
            [report_data.numbered(f) for f in r["figures"][:1]],
        )
    )
    return [row | {"order": i} for i, row in enumerate(rows)]


def _row(v: Verdict, figures: list[str], again: dict) -> dict:
    c, name = v.claim, f"{v.experiment}.{v.claim.name}"
    number, counted = _interval(v)
    return {
        "id": f"claim-{name}",
        "name": name,
        "claim": c,
        "v": v,
        "paper": c.paper.short if c.paper else NO_PAPER,
        "about": c.paper,
        "verdict": v.verdict if v.judged else NOT_JUDGED,
        "figures": figures,
        "number": number,
        "counted": counted,
        "again": again.get((v.experiment, c.name, c.criterion), ""),
        "command": f"make {figures[0]}" if figures else f"symlab run {v.experiment}",
    }


def _interval(v: Verdict) -> tuple[str, str]:
    """('0.5 [0.4, 0.6] nats', 'n=8'): the estimate, and what it was made of."""
    if v.interval is None:
        return "no estimate", ""
    found = re.fullmatch(r"(\S+(?: \[[^]]*\])?)(?:, | \()?(.*?)", v.measured)
    number, counted = found.groups()
    if counted.count(")") > counted.count("("):
        counted = counted.removesuffix(")")
    unit = RATIO if v.claim.unit == LOG_RATIO else v.claim.unit
    return f"{number} {unit}".rstrip(), counted


def _choices(rows: Sequence[dict], figures: list[str]) -> dict[str, list[str]]:
    """The values that each filter offers, of those that occur."""
    verdicts = {r["verdict"] for r in rows}
    origins = {r["claim"].origin for r in rows}
    return {
        "paper": list(dict.fromkeys(r["paper"] for r in rows)),
        "verdict": [v for v in SHOWN if v in verdicts],
        "origin": [o for o in ORIGINS if o in origins],
        "figure": figures,
    }


def _figure(f: Drawn, experiments: Sequence[Looked], rows: Sequence[dict]) -> dict:
    """What the page says of one figure; its paper is that of most of its claims."""
    mine = [r for r in rows if f.name in r["figures"]]
    about = [r["paper"] for r in mine if r["about"]]
    return {
        "name": f.name,
        "image": base64.b64encode(f.picture).decode(),
        "size": f.size,
        "captions": f.captions,
        "command": f.record["command"],
        "claims": len(mine),
        "counts": {v: n for v in SHOWN if (n := _count(mine, v))},
        "paper": max(about, key=about.count) if about else "",
        "experiments": [
            (e, f.record["experiments"][e.name])
            for e in experiments
            if e.name in f.record["experiments"]
        ],
    }


def _count(rows: Sequence[dict], verdict: str) -> int:
    return sum(r["verdict"] == verdict for r in rows)


def link(paper: Paper) -> str:
    """Return the URL of a paper on arXiv, or "" if it has no arXiv number."""
    known = re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv)
    return f"https://arxiv.org/abs/{paper.arxiv}" if known else ""
