"""Tables in README.md and docs/ that are generated from the committed rows.

They stand between two marks, such as `<!-- scoreboard all -->` and `<!-- end -->`.
"""

import html
import re
from pathlib import Path

import pandas as pd

from symlab.harness import (
    api,
    claim_tables,
    confirm,
    contract,
    placebo,
    plan,
    registration,
    summary,
)
from symlab.harness.claims import Verdict
from symlab.harness.errors import UserError
from symlab.harness.project import Committed, Project

OPENING = (
    r"<!-- (scoreboard|bearing|pages|verdicts|table|headlines|counts|placebo|confirmed|"
    r"api) ([^>]+?) -->\n"
)
PLACE = re.compile(rf"{OPENING}.*?<!-- end -->\n", re.DOTALL)


def texts(project: Project) -> list[Path]:
    """Return the files that may have generated tables: README.md and the pages under
    docs/.
    """
    found = [project.root / "README.md", *sorted((project.root / "docs").glob("*.md"))]
    return [page for page in found if page.is_file()]


def write(project: Project, scale: str) -> list[Path]:
    """Generate the tables of README.md and of the pages under docs/; return the changed
    files.

    Nothing is written if one table cannot be made. scale: of the committed rows from
    which they are made.
    """
    project = Committed(project.root)
    verdicts = summary.judged(project, scale)
    read = {page: page.read_text("utf-8") for page in texts(project)}
    made = {p: filled(project, scale, text, verdicts) for p, text in read.items()}
    changed = [page for page, text in made.items() if text != read[page]]
    for page in changed:
        page.write_text(made[page], "utf-8")
    return changed


def outdated(project: Project, scale: str) -> list[Path]:
    """Return the pages whose tables are not what the committed rows give; write
    nothing.

    scale: of the committed rows.
    """
    project = Committed(project.root)
    verdicts = summary.judged(project, scale)
    read = {page: page.read_text("utf-8") for page in texts(project)}
    return [p for p, t in read.items() if filled(project, scale, t, verdicts) != t]


def filled(project: Project, scale: str, text: str, verdicts: list[Verdict]) -> str:
    """Return the text of a page with its generated tables made anew from the current
    rows.

      <!-- scoreboard A; B --> ...             how the claims of each paper came out:
                                               A, B and the others, or "all" papers
      <!-- bearing contradicts --> ...         every claim whose verdict contradicts its
                                               paper, or leaves it "undecided"
      <!-- pages all --> ...                   which page has the verdicts of a figure
      <!-- api symlab.mirror --> ...           the public names of a module
      <!-- verdicts fig --> ... <!-- end -->   claims of figures named fig...
      <!-- table name --> ... <!-- end -->     what `table(df)` of an experiment returns
      <!-- headlines all --> ...               main statements of all papers, or of one
                                               by its short name, and what tests them
      <!-- counts papers --> ...               claims per paper, by what they mean for
                                               it; or "others", or "registered"
      <!-- placebo quick --> ...               the committed placebo audit of a scale
      <!-- confirmed quick --> ...             the committed confirmation of a scale

    text: the text of the page. verdicts: on all claims, as `summary.judged` returns
        them.
    """
    write = {
        "scoreboard": lambda names: scoreboard_table(project, scale, verdicts, names),
        "bearing": lambda word: bearing_table(project, verdicts, word),
        "pages": lambda _: page_table(project),
        "api": api.table,
        "verdicts": lambda name: verdict_table(project, verdicts, name),
        "table": lambda name: experiment_table(project, scale, name),
        "headlines": lambda name: headline_table(verdicts, name),
        "counts": lambda name: count_table(verdicts, name),
        "placebo": lambda name: placebo_table(project, name),
        "confirmed": lambda name: confirmed_table(project, name),
    }

    def fill(place: re.Match) -> str:
        kind, name = place.groups()
        if inner := re.search(OPENING, place[0][1:]):
            raise UserError(
                f"the place <!-- {kind} {name} --> has no <!-- end --> before "
                f"{inner[0].rstrip()}: write it where its table ends"
            )
        return f"<!-- {kind} {name} -->\n{write[kind](name)}<!-- end -->\n"

    return PLACE.sub(fill, text)


def scoreboard_table(
    project: Project, scale: str, verdicts: list[Verdict], names: str = "all"
) -> str:
    """Return a Markdown table of how the claims of each paper came out, and how sure
    this is.

    scale: of the rows. verdicts: of all claims.
    names: short names of papers that get a row of their own, separated by "; ", with
        one row for all others; or "all".
    """
    named = () if names == "all" else names.split("; ")
    confirmed = claim_tables.read(project, confirm.KIND, scale)
    board = summary.scoreboard(verdicts, confirmed, named)
    return markdown(summary.shown(board)) if len(board) else "None.\n"


def committed_scoreboard(project: Project) -> str:
    """Return the scoreboard of docs/claims.md as text for the terminal; "" if there is
    none.
    """
    page = project.root / "docs" / "claims.md"
    text = page.read_text("utf-8") if page.is_file() else ""
    found = re.search(r"<!-- scoreboard all -->\n(.*?)<!-- end -->", text, re.DOTALL)
    rows = found[1].splitlines() if found else []
    cells = [[html.unescape(c.strip()) for c in r.split("|")[1:-1]] for r in rows]
    if len(cells) < 3:
        return ""
    return pd.DataFrame(cells[2:], columns=cells[0]).to_string(index=False)


def bearing_table(project: Project, verdicts: list[Verdict], bearing: str) -> str:
    """Return a Markdown table of the claims that contradict their papers, or are
    undecided.

    verdicts: of all claims.
    bearing: "contradicts" or "undecided", which claims are listed.
    """
    drawn = _figures(project)
    rows = [
        {
            "paper": f"{v.claim.paper.short}, {v.claim.place}",
            "the claim, as the paper states it": v.claim.statement,
            "quantity": v.claim.quantity,
            "measured": v.measured,
            "claimed": v.claim.asked,
            "sign": "as claimed, but smaller" if v.too_small else "",
            "after Holm": v.holm.removeprefix("flips to "),
            "name": f"`{v.experiment}.{v.claim.name}`",
            "its rows": f"`make {drawn[v.experiment][0]}`",
        }
        for v in sorted(
            (v for v in verdicts if v.bearing == bearing and v.claim.paper),
            key=lambda v: v.claim.paper.short,
        )
    ]
    if not rows:
        return "None.\n"
    table = pd.DataFrame(rows)
    return markdown(table.loc[:, table.ne("").any()])


def page_table(project: Project) -> str:
    """Return a Markdown table of the pages that show the verdicts of each figure.

    It also has the command that judges the figure's claims on the committed rows.
    """
    rows = []
    for page in texts(project):
        text = page.read_text("utf-8")
        starts = tuple(re.findall(r"<!-- verdicts (\S+) -->", text))
        figures = sorted(contract.figures(project))
        found = [f for f in figures if f.startswith(starts)]
        if found:
            title = text.partition("\n")[0].removeprefix("# ")
            rows.append({
                "page": f"[{title}]({page.name})",
                "figures": ", ".join(found),
                "judged on the committed rows":
                    f"`make claims REFERENCE=1 NAMES=\"{' '.join(found)}\"`",
            })  # fmt: skip
    return markdown(pd.DataFrame(rows)) if rows else "None.\n"


def _figures(project: Project) -> dict[str, list[str]]:
    """{experiment: names of its figures}."""
    drawn: dict[str, list[str]] = {}
    for figure, experiments in contract.figures(project).items():
        for name in experiments:
            drawn.setdefault(name, []).append(figure)
    return drawn


def experiment_table(project: Project, scale: str, name: str) -> str:
    """Return as a Markdown table what an experiment's function `table(df)` makes of its
    rows.

    scale: of the rows. name: of the experiment. Raises UserError if it has no current
    rows.
    """
    p = plan.make(project, name, scale)
    if not len(rows := p.rows()):
        raise UserError(
            f"a table of {name} is to be made of its rows at scale {scale}, and none "
            f"of those in {project.results} is current: run `make reference`"
        )
    return markdown(p.experiment.module.table(rows))


def verdict_table(project: Project, verdicts: list[Verdict], prefix: str = "") -> str:
    """Return a Markdown table of the claims of figures, their verdicts and what these
    mean.

    verdicts: of all claims.
    prefix: the beginning of the names of the wanted figures.
    """
    drawn = {
        name: wanted
        for name, figures in _figures(project).items()
        if (wanted := [f for f in figures if f.startswith(prefix)])
    }
    order = sorted(drawn, key=lambda n: sorted(drawn[n]))
    rows = [
        {
            "figure": ", ".join(sorted(drawn[v.experiment])),
            "claim": f"{v.claim.statement} (`{v.claim.name}`)",
            "source": v.claim.source,
            "quantity": v.claim.quantity,
            "measured": v.measured,
            "claimed": v.claim.asked,
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
    """Return a Markdown table of papers' main statements, and of the claims that test
    them.

    verdicts: of all claims. paper: the paper's short name, or "all".
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

    verdicts: of all claims.
    which: "papers" counts, for each paper, verdicts by what they mean for it; "others"
        counts the claims that are not about a paper; "registered" counts papers' claims
        by when their thresholds were written.
    """
    count = {"papers": summary.counts, "others": summary.others,
             "registered": summary.registered}[which]  # fmt: skip
    return markdown(count(verdicts).reset_index())


def confirmed_table(project: Project, scale: str) -> str:
    """Return a Markdown table of how the claims came out on fresh seeds.

    scale: of the committed table of confirmations from which it is made.

    It counts equal and different verdicts for each experiment, and lists the different
    ones.
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
    """Return in Markdown how often claims hold when the labels of their arms are
    shuffled.

    scale: of the committed table from which it is made. An arm is a method or setting
        that a claim compares.
    """
    found = claim_tables.read(project, "placebo", scale)
    if found is None:
        return f"Not made yet: `make placebo SCALE={scale}`.\n"
    return placebo.table(found)


def markdown(frame: pd.DataFrame) -> str:
    """Return a frame as a Markdown table, without its index."""
    rows = [list(map(str, frame.columns)), ["---"] * len(frame.columns)]
    rows += [[str(v) for v in row] for row in frame.itertuples(index=False)]
    return "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in rows)


def _cell(text: str) -> str:
    """Markdown would take | for a border and * for emphasis."""
    return text.replace("|", "&#124;").replace("*", "&#42;")
