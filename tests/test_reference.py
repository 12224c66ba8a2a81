"""The committed rows and figures are those of the code beside them; README is true."""

import dataclasses
import html
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import symlab
from symlab.harness import (
    Claim,
    claim_tables,
    claims,
    code,
    contract,
    findings,
    pages,
    plan,
    plot,
    project,
    summary,
)
from symlab.harness.store import Store

ROOT = Path(__file__).resolve().parents[1]
PROJECT = project.find(ROOT)
FIGURES = contract.figures(PROJECT)
STALE = "make reference, and commit what it writes"


@pytest.fixture(autouse=True)
def reference_folders(monkeypatch):
    monkeypatch.setenv("SYMLAB_RESULTS", str(ROOT / "results" / "reference"))
    monkeypatch.setenv("SYMLAB_FIGURES", str(ROOT / "figures" / "reference"))
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module", autouse=True)
def looked_at_once():
    """Plans, verdicts and codes of the same rows are made once for all tests here."""
    make, judge, reach = plan.make, claims.judge_all, code.reach
    made, judged, reached = {}, {}, {}

    def make_once(place, name, scale, **options):
        key = place, place.results, name, scale, *sorted(options.items())
        if key not in made:
            made[key] = make(place, name, scale, **options)
        return made[key]

    def judge_once(experiment, rows):
        asked = experiment.claims
        key = (experiment.name, *rows.key, *rows.finished, *map(id, asked))
        if key not in judged:
            judged[key] = asked, judge(experiment, rows)  # claims, so that ids stay
        return list(judged[key][1])

    def reach_once(root, module, names, data=()):
        key = root, module, tuple(names), tuple(data)
        if key not in reached:
            reached[key] = reach(*key)
        return reached[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "reach", reach_once)
        patch.setattr(plan, "make", make_once)
        patch.setattr(claims, "judge_all", judge_once)
        yield


@pytest.mark.parametrize("name", contract.names(PROJECT))
def test_reference_rows_are_of_the_current_code(name):
    made = plan.make(PROJECT, name, "quick")
    assert set(made.state.values()) == {"fresh"}, f"{made.describe()}: {STALE}"
    frame = Store(PROJECT.reference / "quick", name).frame()
    assert len(frame) == len(made.configs), "rows of another design are left"
    assert set(frame.code) == {made.code}
    assert set(frame.key) == set(made.configs)
    assert (frame.status == "ok").all()


@pytest.mark.parametrize("figure", FIGURES)
def test_reference_figures_are_drawn_from_the_reference_rows(figure):
    plans = findings.plans_of(PROJECT, figure, "quick")
    committed = json.loads((ROOT / f"figures/reference/{figure}.json").read_text())
    record = findings.origin(PROJECT, figure, plans, findings.verdicts(plans))
    for experiment, origin in record["experiments"].items():
        assert committed["provenance"]["experiments"][experiment] == origin, STALE
    for kind in ("pdf", "png"):
        path = ROOT / "figures" / "reference" / f"{figure}.{kind}"
        assert plot.provenance(path) == committed["provenance"]
    drawn = json.loads(json.dumps(plot.drawn(findings.draw(figure, plans))))
    for ours, theirs in zip(drawn, committed["axes"], strict=True):
        assert ours["xlabel"] == theirs["xlabel"]
        for a, b in zip(ours["lines"], theirs["lines"], strict=True):
            for axis in "xy":
                x, y = np.array(a[axis], float), np.array(b[axis], float)
                np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-14)


def test_a_figure_is_out_of_date_by_its_verdicts_and_not_by_rounding():
    stem = ROOT / "figures" / "reference" / "fig7"
    record = plot.provenance(stem.with_suffix(".json"))
    assert findings.up_to_date(stem, record)
    record["claims"][0]["value"] += 1e-9
    assert findings.up_to_date(stem, record)
    record["claims"][0]["verdict"] = "undecided"
    assert not findings.up_to_date(stem, record)


@pytest.mark.parametrize("name", contract.names(PROJECT))
def test_every_verdict_on_the_reference_rows_is_the_expected_one(name):
    made = plan.make(PROJECT, name, "quick")
    for verdict in findings.verdicts([made]):
        assert verdict.as_expected, verdict.line()


@cache
def verdicts():
    return summary.judged(PROJECT, "quick")


def test_pages_under_docs_show_what_is_in_the_reference_rows():
    read = {p: p.read_text() for p in pages.texts(PROJECT)}
    assert sum(len(pages.PLACE.findall(t)) for t in read.values()) >= 3
    for page, text in read.items():
        found = pages.filled(PROJECT, "quick", text, verdicts())
        assert text == found, f"{page.name}: {STALE}"
    shown = html.unescape("".join(read.values()))  # | and * are written as entities
    for v in verdicts():
        assert f"`{v.claim.name}`" in shown
    for headline in summary.headlines(verdicts()):
        assert headline.sentence in shown


def test_every_claim_of_a_paper_has_its_row_in_the_placebo_audit():
    table = claim_tables.read(PROJECT, "placebo", "quick")
    assert table is not None, "make placebo, and commit what it writes"
    audited = set(zip(table.experiment, table.claim, strict=True))
    for name in contract.names(PROJECT):
        for claim in contract.load(PROJECT, name).claims:
            assert (name, claim.name) in audited, "make placebo"


def test_all_claims_at_once_with_every_field_as_a_column(monkeypatch):
    judged = verdicts()  # a minute of work, and another test wants it, too
    monkeypatch.setattr(summary, "judged", lambda *_: judged)
    frame = symlab.claims()
    wanted = {
        (name, claim.name)
        for name in contract.names(PROJECT)
        for claim in contract.load(PROJECT, name).claims
    }
    assert set(zip(frame.experiment, frame.claim, strict=True)) == wanted
    fields = {f.name for f in dataclasses.fields(Claim)} - {"name", "estimate"}
    assert fields | {"bearing", "holm", "p", "registered"} <= set(frame.columns)
    papers = frame[frame.origin == "paper"]
    assert set(papers.bearing) <= {"supports", "contradicts", "undecided"}
    assert set(frame[frame.origin != "paper"].bearing) == {"not about a paper"}
    decided = frame[(frame.paper != "") & (frame.kind == "effect") & frame.p.notna()]
    decided = decided[decided.verdict.isin(["held", "failed"])]
    assert set(decided.holm) <= {"stands", "flips to undecided"}
    assert (frame.drop(decided.index).holm == "").all()


TRIPLE = re.compile(r"([+−]?[\d.]+) \[([+−]?[\d.]+), ([+−]?[\d.]+)\]")


def shows(text: str, value: float) -> bool:
    """Whether a number as it is printed is this one, but for rounding."""
    decimals = len(text.partition(".")[2])
    return abs(float(text.replace("−", "-")) - value) <= 0.501 * 10**-decimals


def test_the_findings_of_the_readme_are_the_numbers_of_the_claims_they_name():
    text = (ROOT / "README.md").read_text()
    findings_ = re.findall(r"^\d\. .*?(?=^\d\. |^\n|^!)", text, re.M | re.S)
    assert len(findings_) == 8
    known = {f"{v.experiment}.{v.claim.name}": v for v in verdicts()}
    for sentence in findings_:
        named = [known[name] for name in re.findall(r"`(\w+\.[\w.]+)`", sentence)]
        assert named
        for value, low, high in TRIPLE.findall(sentence):
            assert any(
                all(map(shows, (value, low, high), (sign * i.value, *ends)))
                for v in named
                for i in [v.interval]
                for sign in (1, -1)
                for ends in [sorted((sign * i.low, sign * i.high))]
            ), (value, low, high)
    race = {
        "race_symmetric_beats_adamw": "such a rate ends {:.3f} nats below SymOpt",
        "race_symmetric_beats_adamw_of_one_rate": "weights {:.2f} above it",
        "race_muon_beats_adamw": "ends {:.3f} below the best AdamW",
    }
    for name, words in race.items():
        value = abs(known[f"optimizer_race.{name}"].interval.value)
        assert words.format(value) in " ".join(text.split())
    said = "Every contradicted claim has a threshold that was written or changed after"
    assert said in " ".join(text.split())
    contradicted = [v for v in verdicts() if v.bearing == "contradicts"]
    assert all(v.claim.written == "after" or v.claim.history for v in contradicted)
    assert sum(v.too_small for v in contradicted) == 2
    assert "2 of them find an effect of the claimed sign" in " ".join(text.split())
    agrae = [v for v in verdicts() if v.claim.tests == "a-grae"]
    decided = [v for v in agrae if v.verdict == "failed"]
    assert (len(agrae), len(decided)) == (8, 3)
    assert {v.verdict for v in agrae} == {"failed", "undecided"}
    assert "3 rule out a gain of 0.01 (one after Holm)" in " ".join(text.split())
    assert sum(not v.holm.startswith("flips") for v in decided) == 1
    fresh = pd.read_csv(ROOT / "results/reference/confirm/quick.csv")
    fresh = fresh.set_index(["experiment", "claim"]).confirmation
    again = sorted(
        fresh[v.experiment, v.claim.name]
        for v in agrae
        if v.verdict == "undecided" and v.interval.n > 1
    )
    assert again == ["failed", "failed", "undecided"]  # the other two have one seed


def test_readme_names_the_experiments_and_commands_that_exist():
    text = (ROOT / "README.md").read_text()
    for name in contract.names(PROJECT):
        assert f"`{name}`" in text
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", text):
        rule = re.search(rf"^{target}:", makefile, re.M)
        assert rule or target in FIGURES, target


def make(*words: str):
    return subprocess.run(
        ["make", "VENV=", f"PYTHON={sys.executable}", *words],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_make_plans_a_figure_and_corrects_a_misspelt_one():
    done = make("fig3", "DRY=1", "ONLY=seed < 2 and study == 'lr'")
    assert done.returncode == 0, done.stderr
    assert "rescaling_sparsity (quick): 30 fresh" in done.stdout
    done = make("fgi3")
    assert done.returncode != 0
    assert "did you mean fig3" in done.stderr


def test_the_report_holds_every_figure_and_claim(tmp_path, monkeypatch):
    from symlab.harness import report

    for path in (ROOT / "figures" / "reference").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv("SYMLAB_FIGURES", str(tmp_path))
    page = report.write(PROJECT, "quick").read_text("utf-8")
    assert page.count("data:image/png;base64") == len(FIGURES), STALE
    for name in contract.names(PROJECT):
        for claim in contract.load(PROJECT, name).claims:
            assert page.count(f'<tr id="claim-{name}.{claim.name}"') == 1
    assert len(page.encode()) < 5e6
