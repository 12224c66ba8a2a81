"""The placebo audit: claims of a difference fall on shuffled arms, others stand."""

import io
import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from symlab.harness import Claim, Estimate, Paper, placebo, stats, weakest, where
from symlab.harness.claims import judge
from symlab.harness.estimates import estimate

PAPER = Paper("Doe 2020", "Jane Doe", "On lines", 2020, "2001.00001")
SWEPT = ["arm", "lr"]


@dataclass(frozen=True)
class Config:
    seed: int
    arm: str
    lr: float


def frame(seeds=8, effect=3.0):
    """Three arms at two rates; only arm a differs, by `effect` standard deviations."""
    draws = np.random.default_rng(0)
    rows = [
        {"arm": arm, "lr": lr, "seed": seed, "y": effect * (arm == "a") + base}
        for seed in range(seeds)
        for lr in (0.1, 0.2)
        for arm, base in zip("abc", 10 + draws.normal(size=3), strict=True)
    ]
    return pd.DataFrame(rows)


def audited(estimate, df=None, **fields):
    claim = Claim("c", "s", estimate=estimate, reason="r", **fields)
    df = frame() if df is None else df
    found = placebo.shuffle(claim, df, SWEPT)
    return found, placebo.finding(claim, judge("e", claim, df).verdict, found)


ONE_RATE = where(lr=0.1)


def test_a_difference_falls_when_its_arms_are_shuffled():
    found, words = audited(ONE_RATE.paired("y", arm=("a", "b")), above=0.0)
    assert (found.shuffled, found.draws) == ("arm", placebo.DRAWS)
    assert found.survives <= 0.03
    assert words == placebo.DIFFER


def test_a_margin_that_is_too_wide_survives():
    """Twenty below is far from any arm: the claim says nothing about a and b."""
    found, words = audited(ONE_RATE.paired("y", arm=("a", "b")), above=-20.0)
    assert found.survives == 1.0
    assert words == placebo.NONE


def test_three_seeds_are_too_few():
    """One in eight permutations of two arms leaves all three seeds as they are."""
    df = frame(seeds=3, effect=200.0)
    found, words = audited(ONE_RATE.paired("y", arm=("a", "b")), df, above=0.0)
    assert found.least == 1 / 8
    assert abs(found.survives - 1 / 8) < 0.08
    assert words == placebo.FEW
    four = frame(seeds=4, effect=200.0)  # one in sixteen, though fewer may be drawn
    words = audited(ONE_RATE.paired("y", arm=("a", "b")), four, above=0.0)[1]
    assert words == placebo.FEW


@pytest.mark.parametrize("kind", ["equivalence", "identity", "precondition"])
def test_equivalences_and_identities_are_expected_to_survive(kind):
    same = ONE_RATE.paired("y", arm=("b", "c"))
    found, words = audited(same, above=-3.0, below=3.0, kind=kind)
    assert found.survives > 0.9
    assert words == f"may survive ({kind})"


def test_arms_are_permuted_within_each_seed_in_all_of_its_rows():
    """The seeds keep their values, and pairs at both rates are exchanged together."""
    df = frame()
    df["y"] = df.seed + 0.25 * (df.arm == "a") + 0.5 * (df.lr == 0.2)
    each = where().paired("y", each="lr", arm=("a", "b"))
    values = [each.placebo(df)(draw).value for draw in range(50)]
    assert {round(abs(v) * 16) % 1 for v in values} == {0}
    assert set(np.round(np.array(values) / 0.25 * 8)) <= set(range(-8, 9, 2))
    assert min(values) < 0 < max(values)
    assert each.placebo(df)(7) == each.placebo(df)(7)


def test_an_interaction_and_other_scales_are_shuffled_too():
    df = frame()
    df["y"] += 5.0 * ((df.arm == "a") & (df.lr == 0.2))
    both = where().paired("y", arm=("a", "b"), lr=(0.2, 0.1))
    assert audited(both, df, above=0.0)[1] == placebo.DIFFER
    ratio = ONE_RATE.log_ratio("y", arm=("a", "b")).map(math.exp, "exp of {}")
    assert audited(ratio, above=1.0)[1] == placebo.DIFFER
    assert ratio.arms == ("arm",)


def test_the_weakest_of_several_is_shuffled_as_a_whole():
    both = weakest(
        ONE_RATE.paired("y", arm=("a", "b")), ONE_RATE.paired("y", arm=("a", "c"))
    )
    assert both.arms == ("arm",)
    assert audited(both, above=0.0)[1] == placebo.DIFFER
    assert audited(both, above=-20.0)[1] == placebo.NONE
    level = weakest(ONE_RATE.paired("y", arm=("a", "b")), where(arm="a").mean("y"))
    assert level.placebo is None


def test_a_selection_by_fields_is_shuffled_one_field_at_a_time():
    """The mean of arm a at one rate; of the two fields the arm matters."""
    found, words = audited(where(arm="a", lr=0.1).mean("y"), above=11.5)
    assert (found.shuffled, words) == ("arm", placebo.DIFFER)
    assert audited(where(arm="a").mean("y"), above=1.0)[1] == placebo.NONE


def test_an_estimate_that_does_not_say_its_arms_is_tried_field_by_field():
    @estimate
    def best_arm(df):
        """largest mean of an arm minus that of arm b"""
        wide = df[df.lr == 0.1].pivot(index="seed", columns="arm", values="y")
        return stats.mean(wide.a - wide.b)

    found, words = audited(best_arm, above=0.0)
    assert (found.shuffled, words) == ("arm", placebo.DIFFER)
    told = Estimate(best_arm.compute, "gap", arms=("arm",))
    assert audited(told, above=0.0)[1] == placebo.DIFFER


def test_a_claim_that_stands_is_unknown_where_its_arms_are():
    """Each arm has its own rate, so that neither label can move alone."""
    df = frame()
    df = df[((df.arm == "a") & (df.lr == 0.1)) | ((df.arm == "b") & (df.lr == 0.2))]

    @estimate
    def gap(df):
        """y of arm a at a rate of 0.1 minus y of arm b"""
        first = df[(df.arm == "a") & (df.lr == 0.1)].set_index("seed").y
        return stats.mean(first - df[df.arm == "b"].set_index("seed").y)

    found, words = audited(gap, df, above=-20.0)
    assert math.isnan(found.survives)
    assert words == "unknown: the estimate does not say which arms it compares"
    told = Estimate(gap.compute, "gap", arms=("lr",))
    assert audited(told, df, above=-20.0)[1] == "unknown: lr cannot be shuffled alone"
    everywhere, words = audited(estimate(gap.compute), above=-20.0)
    assert everywhere.survives > 0.9
    assert words == "unknown: the estimate does not say which arms it compares"
    claim = Claim("c", "s", estimate=where().mean("y"), reason="r", above=0.0)
    assert placebo.shuffle(claim, df, []).note == "no field has several values"


def test_labels_that_run_adds_are_arms_too():
    """A column of words with several values, but none of the harness's own."""
    df = frame().assign(label="x", name=lambda df: df.arm + "!", key="k", y2=1.0)
    df.loc[0, "key"] = "other"
    plan = SimpleNamespace(
        experiment=SimpleNamespace(module=SimpleNamespace(Config=Config))
    )
    assert placebo.swept(plan, df) == ["arm", "lr", "name"]


def test_pairs_that_one_arm_lacks_are_left_out():
    """At a third rate only arm a has runs."""
    df = frame()
    more = df[(df.arm == "a") & (df.lr == 0.1)].assign(lr=0.3)
    df = pd.concat([df, more], ignore_index=True)
    found, words = audited(where().paired("y", each="lr", arm=("a", "b")), df, above=0)
    assert words == placebo.DIFFER


def test_every_claim_has_a_row_and_the_table_counts_them(monkeypatch):
    ahead, behind = (
        ONE_RATE.paired("y", arm=arms) for arms in (("a", "b"), ("b", "a"))
    )
    missing = where(arm="z").mean("y")
    claims = [
        Claim("differs", "s", paper=PAPER, estimate=ahead, reason="r", above=0.0),
        Claim("fails", "s", estimate=behind, reason="r", above=0.0),
        Claim("broken", "s", estimate=missing, reason="r", above=0.0),
    ]
    module = SimpleNamespace(Config=Config)
    experiment = SimpleNamespace(name="e", claims=claims, module=module)
    plan = SimpleNamespace(experiment=experiment, rows=frame)
    assert placebo.swept(plan, frame()) == SWEPT
    monkeypatch.setattr(placebo.findings, "progress", lambda p: (48, 48))
    found = placebo.audit([plan])
    assert found.claim.tolist() == ["differs", "fails", "broken"]
    assert found.paper.tolist() == ["Doe 2020", "", ""]
    assert found.finding.tolist()[:2] == [placebo.DIFFER, "does not hold (failed)"]
    assert found.finding[2].startswith("unknown: ")
    text = placebo.table(found)
    again = pd.read_csv(io.StringIO(found.to_csv(index=False)))
    assert placebo.table(again) == text
    assert "| the arms differ | 1 |" in text
    assert "| e | `differs` | Doe 2020 | effect | held | arm | " in text
    monkeypatch.setattr(placebo.findings, "progress", lambda p: (47, 48))
    assert set(placebo.audit([plan]).finding) == {"unknown: rows are missing"}
