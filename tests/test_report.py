"""The report: every claim once, every figure with captions, filters that work."""

import ast
import base64
import html.parser
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import html5lib
import pytest

from symlab.harness import Claim, project, report, report_data, where
from symlab.harness.claims import Paper, Verdict
from symlab.harness.errors import UserError
from symlab.harness.report_data import Described, Drawn, Looked
from symlab.harness.stats import Interval

PROJECT = project.find(Path(__file__).resolve().parents[1])
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)  # one pixel
PAPER = Paper("A 2024", "A", "On <mirrors> & more", 2024, "2401.00001", {"k": "It is."})
VOID = {"meta", "link", "img", "input", "br"}


class Page(html.parser.HTMLParser):
    """Elements and text of a page; a tag that is left open or closed twice is an
    error.
    """

    def __init__(self, text: str):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at line {self.getpos()[0]}"

    def all(self, tag: str, **attributes) -> list[dict]:
        found = [a for t, a in self.elements if t == tag]
        return [a for a in found if attributes.items() <= a.items()]


def verdict(name, word="held", experiment="e", judged=True, **fields) -> Verdict:
    given = {"paper": PAPER, "place": "figure 1", "unit": "nats", "above": 0.0}
    given |= {"reason": "Because.", "estimate": Described("the mean of y")}
    claim = Claim(name, f"The number of {name} is large.", **(given | fields))
    interval = Interval(1.5, 1.25, 1.75, 8) if judged else None
    return Verdict(experiment, claim, word, interval)


def looked(name: str, *verdicts) -> Looked:
    return Looked(name, "A title.", "More of it.", 8, 8, verdicts)


def drawn(name: str, *experiments: str, picture=PNG) -> Drawn:
    origin = {"rows": "r", "code": "c", "seeds": [0, 7], "git": ["abc"],
              "device": ["cpu"], "versions": ["numpy 2"]}  # fmt: skip
    origins = dict.fromkeys(experiments, origin)
    record = {"command": f"make {name}", "experiments": origins}
    return Drawn(name, picture, (30, 20), (("a", "Loss by <lr>."),), record)


EXPERIMENTS = [
    looked("d", verdict("late", "failed", "d", below=9.0, expected="failed",
                        because="It is wrong.")),
    looked("e", verdict("early"), verdict("rare", "undecided", tests="k"),
           verdict("open", "undecided", judged=False),
           verdict("ours", paper=None, unit="", history=(("2026-01-02", "unit"),))),
]  # fmt: skip
FIGURES = [drawn("fig2", "e"), drawn("fig10", "d"), drawn("fig11", "e", picture=b"")]
TEXT = report.page(EXPERIMENTS, FIGURES, "quick")
PAGE = Page(TEXT)
ROWS = [a for a in PAGE.all("tr") if a.get("id", "").startswith("claim-")]


def test_each_claim_is_one_row_paper_by_paper_and_by_the_number_of_its_figure():
    names = [row["data-name"] for row in ROWS]
    assert names == ["e.early", "e.rare", "e.open", "d.late", "e.ours"]
    assert [row["data-order"] for row in ROWS] == list("01234")
    assert ROWS[-1]["data-paper"] == "no paper"
    assert ROWS[0]["data-figure"] == "fig2 fig11"


def test_a_row_says_verdict_measure_unit_reason_and_history():
    assert [row["data-verdict"] for row in ROWS] == [
        "held", "undecided", "not judged", "failed", "held"
    ]  # fmt: skip
    for text in ("1.5 [1.25, 1.75] nats", "n=8", "&gt; 0 nats", "the mean of y",
                 "It is wrong.", "2026-01-02: unit", "contradicts A 2024"):  # fmt: skip
        assert text in TEXT, text


def test_an_extreme_is_shown_with_what_it_was_taken_of():
    worst = Interval(2e-9, 2e-9, 2e-9, 4, "worst case", runs=96)
    number, counted = report._interval(Verdict("e", verdict("x").claim, "held", worst))
    assert number == "2e-09 nats"
    assert counted.startswith("worst of 96 values of 4 seeds")
    assert not counted.endswith(")")


def test_filters_offer_what_occurs():
    options = re.findall(r'<select name="verdict">(.*?)</select>', TEXT, re.S)[0]
    offered = re.findall(r"<option>(.*?)</option>", options)
    assert offered == ["failed", "undecided", "held", "not judged"]


def test_the_page_is_well_formed_and_its_links_lead_somewhere():
    ids = [a["id"] for _, a in PAGE.elements if "id" in a]
    assert [i for i, n in Counter(ids).items() if n > 1] == []
    inner = [a["href"][1:] for a in PAGE.all("a") if a["href"].startswith("#")]
    assert {name.split("?")[0] for name in inner} <= set(ids)
    for _, a in PAGE.elements:
        for name in (a.get("aria-labelledby"), a.get("for")):
            assert name is None or name in ids
    assert "It is &lt;mirrors" not in TEXT
    assert "On &lt;mirrors&gt; &amp; more" in TEXT
    assert "(a)</b> Loss by &lt;lr&gt;." in TEXT


def test_html_follows_the_standard():
    html5lib.HTMLParser(strict=True).parse(TEXT)
    with pytest.raises(html5lib.html5parser.ParseError):
        html5lib.HTMLParser(strict=True).parse(TEXT.replace("</main>", "", 1))


def test_a_screen_reader_finds_names_scopes_and_the_count():
    assert all(a.get("scope") in ("row", "col") for a in PAGE.all("th"))
    assert all("alt" in a for a in PAGE.all("img"))
    assert PAGE.all("p", id="count")[0]["aria-live"] == "polite"
    regions = [a for _, a in PAGE.elements if a.get("role") == "region"]
    assert regions
    assert all(a["aria-label"] and a["tabindex"] == "0" for a in regions)
    titles = dict(re.findall(r'<h2 id="(\w+)"[^>]*>([^<]*)<', TEXT))
    names = [titles[a["aria-labelledby"]] for a in PAGE.all("section")]
    names += [a["aria-label"] for a in regions]
    assert len(names) == len(set(names))  # two regions of one name cannot be told apart
    assert len(PAGE.all("main")) == len(PAGE.all("h1")) == 1


def test_nothing_is_loaded_from_elsewhere():
    for _, a in PAGE.elements:
        for name in ("src", "srcset", "data", "action"):
            assert a.get(name, "data:").startswith("data:")
    assert {a["href"] for a in PAGE.all("link")} == {"data:,"}
    assert "url(" not in TEXT
    outside = set(re.findall(r"https?://[^\"<\s]+", TEXT))
    assert outside == {"https://arxiv.org/abs/2401.00001"}


def test_a_figure_that_is_not_current_says_which_command_draws_it():
    assert len(PAGE.all("img", alt="fig2: described by the text below it")) == 1
    assert not PAGE.all("img", alt="fig11: described by the text below it")
    assert "<code>make fig11</code> draws it" in TEXT


def test_the_same_rows_give_the_same_page():
    assert report.page(EXPERIMENTS, FIGURES, "quick") == TEXT


def test_committed_rows_are_said_to_be_such_whatever_was_run_here():
    notice = "These are the committed rows, in results/reference"
    assert notice in report.page(EXPERIMENTS, FIGURES, "quick", committed=True)
    assert notice not in TEXT


def test_a_report_without_claims_or_papers_is_a_page_too():
    page = Page(report.page([looked("e")], [drawn("fig1", "e")], "smoke"))
    assert page.all("figure", id="figure-fig1")


def test_groups_share_figures_and_processes_share_the_work(tmp_path):
    (tmp_path / "experiments").mkdir()
    for name, size in (("a", 5), ("b", 12), ("c", 3), ("d", 3)):
        (tmp_path / "experiments" / f"{name}.py").write_text("#" * size)
    groups = report_data._groups(list("abcd"), {"f": ["c", "a"], "g": ["a"]})
    assert sorted(groups) == [["b"], ["c", "a"], ["d"]]
    groups = [(tuple(names), ()) for names in groups]
    shares = report_data._shares(project.Project(tmp_path), groups, 2)
    names = [sorted(n for group in share for n in group[0]) for share in shares]
    assert sorted(names) == [["a", "c", "d"], ["b"]]


def test_a_claim_keeps_its_p_value_and_the_null_of_its_estimate():
    measured = Interval(0.5, 0.25, 0.75, 8, ends=lambda alpha: (0.25, 0.75))
    v = verdict("small", "failed", above=1.0, estimate=where().paired("y", a=(0, 1)))
    v = replace(v, interval=measured)
    told = report_data._described(v)
    assert told.p == pytest.approx(v.p)
    assert told.meaning == v.meaning
    assert "smaller than asked" in told.meaning


def test_every_panel_says_what_it_shows():
    for path in sorted(PROJECT.experiments.glob("[!_]*.py")):
        for f in ast.parse(path.read_bytes()).body:
            marks = [ast.unparse(d) for d in getattr(f, "decorator_list", ())]
            if any(mark.startswith("figure(") for mark in marks):
                said = ast.get_docstring(f)
                assert said, f"{path.name}: {f.name} needs a docstring, its caption"


def test_a_page_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "figures").write_text("a file where the folder should be")
    monkeypatch.delenv("SYMLAB_FIGURES", raising=False)
    monkeypatch.setattr(report_data, "look", lambda *_: (EXPERIMENTS, FIGURES))
    with pytest.raises(UserError, match="set SYMLAB_FIGURES to a folder"):
        report.write(project.Project(tmp_path), "quick")


def test_a_small_project_is_shown_as_it_was_drawn_by_two_processes(sandbox):
    sandbox.edit("experiments/line.py", "def draw(df, ax):\n",
                 'def draw(df, ax):\n    """y by x."""\n')  # fmt: skip
    other = (sandbox.root / "experiments" / "line.py").read_text()
    sandbox.write("experiments/other.py", other.replace('"line"', '"curve"'))
    done = sandbox("fig", "line", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    done = sandbox("report", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    text = (sandbox.root / "figures" / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.all("tr", id="claim-line.slope")[0]["data-verdict"] == "held"
    assert page.all("tr", id="claim-other.slope")[0]["data-verdict"] == "not judged"
    assert [a["alt"] for a in page.all("img") if a.get("src")] == [
        "line: described by the text below it"
    ]
    assert "y by x." in text

    # without runs the rows that came with the project are shown
    (sandbox.root / "results" / "reference").mkdir()
    shutil.move(sandbox.root / "results/quick", sandbox.root / "results/reference")
    done = sandbox("report", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    text = (sandbox.root / "figures" / "report.html").read_text("utf-8")
    assert "These are the committed rows" in text
    assert Page(text).all("tr", id="claim-line.slope")[0]["data-verdict"] == "held"
