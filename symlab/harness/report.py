"""One self-contained HTML page: every figure, its claims with verdicts, its origin."""

import ast
import base64
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from symlab.harness import contract, findings, plan, summary
from symlab.harness.errors import UserError
from symlab.harness.project import Project

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>symlab: {{ scale }}</title>
<style>
body { font: 16px/1.5 Georgia, serif; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; color: #222 }
img { width: 100%; height: auto } h1, h2, h3 { line-height: 1.2 }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 0.85rem; width: 100% }
td, th { padding: 0.3rem 0.5rem; border-bottom: 1px solid #ddd; text-align: left;
         vertical-align: top }
.held { color: #00664b } .failed, .error { color: #b03000; font-weight: bold }
.undecided { color: #7a6000 } small, pre { color: #555 } pre { white-space: pre-wrap }
</style>
<h1>symlab, {{ scale }} scale</h1>
<h2>What came of the papers</h2>
<div class="wide">{{ papers }}</div><p>Claims that are not about a paper:</p>
<div class="wide">{{ others }}</div>
{% if headlines %}<h2>Headlines</h2>
<div class="wide"><table><tr><th>paper<th>says<th>what came of it</tr>
{% for h in headlines %}<tr><td>{{ h.paper.short }}<td>{{ h.sentence }}
<td>{{ h.outcome }}</tr>{% endfor %}</table></div>{% endif %}
{% for f in figures %}
<h2>{{ f.name }}</h2>
{% if f.image %}<img alt="{{ f.name }}" src="data:image/png;base64,{{ f.image }}">
<p><small>Drawn by <code>{{ f.command }}</code>.</small></p>
{% else %}
<p>Not drawn from the current rows: <code>{{ f.command }}</code>.</p>{% endif %}
{% for e in f.experiments %}
<h3>{{ e.name }}: {{ e.done }} of {{ e.wanted }} runs</h3>
<details><summary>{{ e.title }}</summary><pre>{{ e.body }}</pre></details>
<div class="wide"><table><tr><th>verdict<th>claim<th>estimate<th>criterion<th>why</tr>
{% for v in e.verdicts %}<tr><td class="{{ v.verdict }}">{{ v.verdict }}
{%- if v.judged and not v.as_expected %} (expected {{ v.claim.expected }}){% endif %}
<br>{{ v.meaning }}{% if v.holm %}<br><small>{{ v.holm }} by Holm</small>{% endif %}
<td><b>{{ v.claim.name }}</b><br>{{ v.claim.statement }}
<br><small>{{ v.claim.source }}; thresholds written {{ v.claim.registered }}</small>
<td>{{ v.interval or "none" }} {{ v.note }}<br><small>{{ v.claim.quantity }}</small>
<td>{{ v.claim.criterion }}
<td>{{ v.claim.reason }} {{ v.claim.because }}
{%- for day, what in v.claim.history %}<br><small>{{ day }}: {{ what }}</small>
{%- endfor %}</tr>{% endfor %}</table></div>
{% endfor %}{% endfor %}</html>
"""


def write(project: Project, scale: str) -> Path:
    """Write figures/report.html, one page with all figures, claims and verdicts, from
    the rows and figures that are there; return its path.

    Scales other than quick get names of their own.
    """
    verdicts = summary.judged(project, scale)
    page = Environment(autoescape=True).from_string(PAGE)
    path = Path(f"{findings.stem(project, 'report', scale)}.html")
    html = page.render(
        scale=scale,
        papers=_table(summary.counts(verdicts)),
        others=_table(summary.others(verdicts)),
        headlines=summary.headlines(verdicts),
        figures=[
            _figure(project, name, scale, verdicts)
            for name in contract.figures(project)
        ],
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}): free space there or set "
            "SYMLAB_FIGURES to a folder that can be written"
        ) from None
    return path


def _table(frame) -> Markup:
    return Markup(frame.reset_index().to_html(index=False, border=0))


def _figure(project: Project, name: str, scale: str, judged: list) -> dict:
    """One figure; its picture only if it was drawn from the rows that are judged."""
    plans = findings.plans_of(project, name, scale)
    drawn = [p.experiment.name for p in plans]
    verdicts = [v for v in judged if v.experiment in drawn]
    record = findings.origin(project, name, plans, verdicts)
    stem = findings.stem(project, name, scale)
    current = findings.up_to_date(stem, record)
    image = Path(f"{stem}.png").read_bytes() if current else b""
    return {
        "name": name,
        "image": base64.b64encode(image).decode(),
        "command": record["command"],
        "experiments": [_experiment(p, verdicts) for p in plans],
    }


def _experiment(p: plan.Plan, verdicts: list) -> dict:
    done, wanted = findings.progress(p)
    docs = ast.get_docstring(ast.parse(p.experiment.path.read_bytes()))
    title, _, body = docs.partition("\n")
    return {
        "name": p.experiment.name,
        "title": title,
        "body": body.strip(),
        "done": done,
        "wanted": wanted,
        "verdicts": [v for v in verdicts if v.experiment == p.experiment.name],
    }
