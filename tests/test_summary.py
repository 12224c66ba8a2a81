"""What verdicts mean for a paper, counted; headlines; Holm's correction."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from symlab.harness import Claim, summary, where
from symlab.harness.claims import Paper, Verdict, after, judge
from symlab.harness.summary import Headline

HEADLINES = {"sparse": "SGD makes it sparse.", "deep": "Depth does not matter."}
PAPER = Paper("A 2024", "A", "T", 2024, "1", headlines=HEADLINES)
FRAME = pd.DataFrame({"seed": range(8), "y": np.linspace(1, 2, 8)})


def verdict(name="c", frame=FRAME, **fields) -> Verdict:
    about = {"paper": PAPER, "place": "section 1", "tests": "sparse"}
    given = {"estimate": where().mean("y"), "reason": "r", "above": 0.0}
    return judge("e", Claim(name, "y is large.", **(about | given | fields)), frame)


SUPPORTS = verdict("a")
CONTRADICTS = verdict("b", above=3.0, expected="failed", because="It is not so.")
UNDECIDED = verdict("c", above=1.5)
ERROR = verdict("d", estimate=where(x=3).mean("y"))
CONTROL = verdict("f", origin="control")


def test_a_contradicted_paper_is_never_just_as_expected():
    assert CONTRADICTS.as_expected
    assert CONTRADICTS.bearing == "contradicts"
    assert "contradicts A 2024" in CONTRADICTS.line()
    assert "supports A 2024" in SUPPORTS.line()
    assert "leaves A 2024 undecided" in UNDECIDED.line()
    assert "control" in CONTROL.line()
    assert "A 2024" not in CONTROL.line()


def test_an_error_says_nothing_and_is_never_expected():
    assert ERROR.verdict == "error"
    assert not ERROR.as_expected
    assert "says nothing about A 2024" in ERROR.line()
    with pytest.raises(ValueError, match="expects 'error'"):
        replace(ERROR.claim, expected="error", because="It crashes.")


def test_claims_are_counted_by_paper_and_axis():
    ours = verdict("g", paper=None, place="", tests="", above=3.0)
    judged = [SUPPORTS, CONTRADICTS, UNDECIDED, ERROR, CONTROL, ours]
    counts = summary.counts(judged)
    assert counts.loc["A 2024"].to_dict() == {
        "supports": 1, "contradicts": 1, "undecided": 1, "error": 1
    }  # fmt: skip
    others = summary.others(judged)
    assert others.loc["control"].to_dict() == {
        "held": 1, "failed": 0, "undecided": 0, "error": 0
    }  # fmt: skip
    assert others.loc["ours"].failed == 1
    assert summary.counts([]).empty


def confirmed(*rows) -> pd.DataFrame:
    names = ["experiment", "claim", "claimed", "agreement"]
    return pd.DataFrame(rows, columns=names)


def test_the_scoreboard_says_how_claims_came_out_and_how_sure_that_is():
    exact = {"kind": "identity", "estimate": where().worst("y")}
    late = replace(UNDECIDED, claim=replace(UNDECIDED.claim, written="after"))
    moved = replace(SUPPORTS.claim, history=(("2026-01-01", "changed"),))
    judged = [
        replace(SUPPORTS, claim=moved), replace(CONTRADICTS, holm="flips to undecided"),
        late, ERROR,
        CONTROL, verdict("g", **exact), verdict("h", above=3.0, **exact),
        verdict("i", origin="control", above=3.0),
        verdict("j", frame=FRAME[:4]), verdict("k", origin="ours"),
    ]  # fmt: skip
    seen = confirmed(
        ("e", "a", "> 0", "equal"), ("e", "b", "> 3", "differs"),
        ("e", "c", "> 1.4", "equal"), ("e", "f", "> 0", "equal"),
    )  # fmt: skip
    (row,) = summary.scoreboard(judged, seen).to_dict("records")
    assert row == {
        "paper": "A 2024", "supported": 2, "contradicted": 1, "undecided": 1,
        "no_verdict": 1, "identities": 2, "identities_held": 1, "headlines": 2,
        "untested": 1, "controls": 2, "controls_held": 1, "seeds_low": 4, "seeds": 8,
        "seeds_high": 8, "confirmed": 1, "differing": 1, "before": 3, "unchanged": 2,
        "supported_flip": 0, "contradicted_flip": 1,
    }  # fmt: skip
    (shown,) = summary.shown(summary.scoreboard(judged, seen)).to_dict("records")
    assert shown == {
        "paper": "A 2024", "supported (after Holm)": "2 (2)",
        "contradicted (after Holm)": "1 (0)", "undecided": 1, "no verdict": 1,
        "thresholds before rows (unchanged)": "3 (2) of 4",
        "exact identities": "1 of 2",
        "main statements not tested": "1 of 2", "controls that hold": "1 of 2",
        "seeds": "8 (4 to 8)", "same verdict on unseen seeds": "1 of 2",
    }  # fmt: skip


def test_one_seed_is_no_repeat_of_a_verdict():
    """The interval of one seed is infinite, so that both verdicts are undecided."""
    alone = verdict("o", frame=FRAME[:1])
    assert alone.verdict == "undecided"
    seen = confirmed(("e", "o", "> 0", "equal"), ("e", "a", "> 0", "equal"))
    (row,) = summary.scoreboard([SUPPORTS, alone], seen).to_dict("records")
    assert (row["confirmed"], row["differing"]) == (1, 0)


def test_outcomes_are_counted_by_when_thresholds_were_written():
    old = {"history": (("2026-01-01", "changed"),)}
    judged = [
        SUPPORTS, verdict("l", **old), CONTRADICTS, CONTROL,
        verdict("m", above=3.0, written="after", **old),
    ]  # fmt: skip
    table = summary.registered(judged)
    assert table.loc["supports"].tolist() == [1, 1, 0]
    assert table.loc["contradicts"].tolist() == [1, 0, 1]
    assert len(table) == 2


def test_the_scoreboard_names_some_papers_and_adds_up_the_others():
    def about(short, **fields):
        return verdict(paper=replace(PAPER, short=short), **fields)

    judged = [about("B"), about("C"), about("C", above=3.0), SUPPORTS]
    alone = summary.scoreboard(judged)
    assert alone.paper.tolist() == ["C", "B", "A 2024"]
    assert "no verdict" not in summary.shown(alone)
    assert set(summary.shown(alone)["same verdict on unseen seeds"]) == {"not run"}
    some = summary.scoreboard(judged, None, ["A 2024"])
    assert some.paper.tolist() == ["A 2024", "2 other papers"]
    assert some.supported.tolist() == [1, 2]
    assert some.contradicted.tolist() == [0, 1]
    assert some.headlines.tolist() == [2, 4]
    assert summary.shown(summary.scoreboard([])).empty


def test_a_headline_lists_what_speaks_for_and_against_it():
    sparse, deep = summary.headlines([SUPPORTS, CONTRADICTS, CONTROL])
    assert sparse.outcome == (
        "supported by 1 (e.a); contradicted by 1 (e.b); beside it, not the paper's own "
        "words: e.f: held"
    )
    assert deep == Headline(PAPER, "deep", HEADLINES["deep"], ())
    assert deep.outcome == "not tested here"


def test_a_claim_without_its_rows_is_not_judged_and_not_undecided():
    none = verdict("n", frame=FRAME[:0])
    assert not none.judged
    assert "does not yet speak about A 2024" in none.line()
    assert summary.counts([SUPPORTS, none]).loc["A 2024"].to_dict() == {
        "supports": 1, "contradicts": 0, "undecided": 0, "error": 0, "not judged": 1
    }  # fmt: skip
    (sparse, _) = summary.headlines([none])
    assert sparse.outcome == "not judged yet in 1 (e.n)"


def test_holm_marks_what_its_family_does_not_carry():
    weak = verdict("w", frame=FRAME.assign(y=[-0.1, 1, 2, 0.1, 1, 0.2, 1, -0.1]))
    assert weak.verdict == "held"
    assert 0.02 < weak.p < 0.05
    alone = summary.corrected([weak])
    assert alone[0].holm == "stands"
    family = [weak, replace(weak), SUPPORTS, UNDECIDED, CONTROL]
    found = summary.corrected(family)
    assert [v.holm for v in found] == [
        "flips to undecided", "flips to undecided", "stands", "", "stands"
    ]  # fmt: skip
    assert found[0].record()["holm"] == "flips to undecided"
    claim = replace(weak.claim, paper=replace(PAPER, short="B 2025"))
    apart = [replace(weak, claim=claim)]  # the family of another paper
    assert [v.holm for v in summary.corrected([weak, *apart])] == ["stands"] * 2


@pytest.mark.parametrize("missing", [{"frame": FRAME[:0]}, {"estimate": lambda df: 1}])
def test_a_family_is_no_smaller_while_rows_are_missing(missing):
    weak = verdict("w", frame=FRAME.assign(y=[-0.1, 1, 2, 0.1, 1, 0.2, 1, -0.1]))
    found = summary.corrected([weak, verdict("m", **missing)])
    assert [v.holm for v in found] == ["flips to undecided", ""]


def test_a_claim_that_is_not_judged_is_not_as_expected():
    fields = {"expected": "undecided", "because": "It is close.", "above": 1.5}
    assert verdict("u", **fields).as_expected
    assert not verdict("u", frame=FRAME[:0], **fields).as_expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "before rows"),
        ({"written": "after"}, "after rows"),
        ({"history": (("2026-11-30", "0 became 1"),)},
         "before rows, changed once, see history"),
        ({"history": (("2026-11-30", "0 became 1"),) * 3},
         "before rows, changed 3 times, see history"),
        (after(("2026-11-30", "after a look")), "after rows, see history"),
    ],
)  # fmt: skip
def test_a_claim_says_when_its_thresholds_were_written(fields, words):
    found = verdict(**fields)
    assert found.claim.registered == words
    assert found.record()["registered"] == words


def test_without_own_rows_make_claims_says_how_the_committed_ones_are_judged(sandbox):
    hint = "REFERENCE=1 (--reference) judges the committed rows"
    assert hint not in sandbox("claims").stdout  # there are none
    assert sandbox("run", "line").returncode == 0
    rows = sandbox.root / "results" / "quick" / "line.parquet"
    committed = sandbox.root / "results" / "reference" / "quick" / "line.parquet"
    committed.parent.mkdir(parents=True)
    committed.write_bytes(rows.read_bytes())
    assert hint not in sandbox("claims").stdout  # its own rows are judged
    rows.unlink()
    assert f"not run here: line\n{hint}" in sandbox("claims").stdout
    assert hint not in sandbox("claims", "--reference").stdout


def test_make_claims_counts_and_a_crashing_estimate_fails_it_at_every_scale(sandbox):
    sandbox.edit("experiments/line.py", "stats.mean((df.y / df.x)", "stats.mean((df.z)")
    assert sandbox("run", "line", "--scale", "smoke", "--jobs", 1).returncode == 0
    done = sandbox("claims", "--scale", "smoke")
    assert done.returncode == 1, done.stderr
    assert "ERROR" in done.stdout
    assert "(line.py line 32: AttributeError: " in done.stdout
    assert "  ours     0       0          0      1" in done.stdout
    assert "over all effects of a paper\n  none\n" in done.stdout
    assert done.stdout.endswith("claims of papers\n  none\n")
    assert sandbox("claims", "--scale", "smoke", "--strict").returncode == 1


@pytest.mark.parametrize(
    ("comparison", "value", "limits", "small"),
    [
        ("paired", 1.0, {"above": 2.0}, True),
        ("paired", 1.0, {"above": 0.5}, False),  # it holds
        ("paired", -1.0, {"above": 2.0}, False),  # the other sign
        ("paired", 1.0, {"above": -3.0, "below": -2.0}, False),
        ("ratio", 1.05, {"above": 1.1}, True),
        ("ratio", 0.95, {"below": 0.9}, True),
        ("ratio", 0.95, {"above": 1.1}, False),
        ("log_ratio", 0.05, {"above": 0.1}, True),
        ("log_ratio", -0.05, {"above": 0.1}, False),
    ],
)
def test_an_effect_of_the_claimed_sign_that_is_too_small_is_told_apart(
    comparison, value, limits, small
):
    seeds = np.arange(8)
    ends = {
        "paired": (value, 0.0), "ratio": (value, 1.0), "log_ratio": (np.exp(value), 1.0)
    }  # fmt: skip
    frame = pd.concat([
        pd.DataFrame({"seed": seeds, "arm": arm, "y": y * (1 + 1e-3 * (seeds % 3))})
        for arm, y in zip("ab", ends[comparison], strict=True)
    ])  # fmt: skip
    frame.loc[frame.arm == "a", "y"] *= 1 + 1e-3 * (seeds % 2)
    estimate = getattr(where(), comparison)("y", arm=("a", "b"))
    found = verdict(
        "s", frame=frame, estimate=estimate, **({"above": -np.inf} | limits)
    )
    assert found.too_small == small
    assert ("has the claimed sign" in found.line()) == small
    mapped = verdict(
        "s", frame=frame, estimate=estimate.map(lambda x: 2 * x, "2 {}"),
        **({"above": -np.inf} | {k: 2 * x for k, x in limits.items()}),
    )  # fmt: skip
    assert mapped.too_small == small


def test_a_mean_has_no_sign_of_its_own():
    assert not CONTRADICTS.too_small
