"""Intervals agree with scipy, verdicts with intervals, streams with themselves."""

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from symlab.harness import rng, stats, sweep, where
from symlab.harness.claims import Claim, judge
from symlab.harness.errors import UserError
from symlab.harness.stats import Interval

SAMPLE = np.array([0.3, 0.1, 0.9, 0.4, 0.35])


def test_mean_is_scipys_t_interval():
    ours, theirs = stats.mean(SAMPLE), scipy.stats.ttest_1samp(SAMPLE, 0)
    low, high = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-12)


def test_paired_is_scipys_paired_interval():
    a, b = SAMPLE, SAMPLE[::-1] + 0.2
    df = pd.DataFrame(
        {"seed": [0, 1, 2, 3, 4] * 2, "arm": ["a"] * 5 + ["b"] * 5, "y": [*a, *b]}
    ).sample(frac=1, random_state=1)
    ours = stats.paired(df, "y", "arm", "a", "b")
    low, high = scipy.stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-12)


def test_pairs_at_each_value_of_another_field_are_averaged():
    rows = [  # arm, seed, step, y: only steps 1 and 2 are common
        *(("a", s, t, 10.0 * t + s) for s in (0, 1, 2) for t in (1, 2, 3)),
        *(("b", s, t, 3.0 * t + s**2) for s in (0, 1, 2) for t in (0, 1, 2)),
    ]
    df = pd.DataFrame(rows, columns=["arm", "seed", "step", "y"])
    found = where().paired("y", each="step", arm=("a", "b"))
    seeds = [10.5 + s - s**2 for s in (0, 1, 2)]  # 7 and 14, less s^2 - s
    assert found(df).value == pytest.approx(np.mean(seeds))
    assert found(df).low == pytest.approx(stats.mean(seeds).low)
    assert str(found).endswith("(arm = a minus arm = b, paired at each step)")
    ratio = where("step == 1").log_ratio("y", arm=("a", "b"))
    alike = where("step == 1").log_ratio("y", each="step", arm=("a", "b"))
    assert alike(df) == ratio(df)
    apart = where("(arm == 'a') == (step == 3)")
    with pytest.raises(ValueError, match="nothing to pair"):
        apart.paired("y", each="step", arm=("a", "b"))(df)


def test_an_interval_of_one_run_is_infinite():
    assert stats.mean([1.0]).low == -math.inf
    assert np.isnan(stats.band([1.0])).all()


def test_the_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(size=(2000, 4))
    hits = [i.low <= 0 <= i.high for i in map(stats.mean, draws)]
    assert abs(np.mean(hits) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20),
    st.floats(-100, 100),
    st.floats(0.1, 10),
)
def test_mean_moves_and_scales_with_the_sample(x, shift, scale):
    a, b = stats.mean(x), stats.mean(np.array(x) * scale + shift)
    assert b.low == pytest.approx(a.low * scale + shift, rel=1e-6, abs=1e-6)
    assert b.high == pytest.approx(a.high * scale + shift, rel=1e-6, abs=1e-6)


def verdict(low, high, n=5, **criterion):
    value = 0.0 if high == math.inf else (low + high) / 2  # one run: no interval
    interval = Interval(value, low, high, n)
    claim = Claim("c", "s", "p", lambda df: interval, reason="r", **criterion)
    return judge("e", claim, pd.DataFrame({"y": [1]}))


@pytest.mark.parametrize(
    ("low", "high", "criterion", "expected"),
    [
        (1, 2, {"above": 0.5}, "held"),
        (1, 2, {"above": 2}, "failed"),
        (1, 2, {"above": 1}, "undecided"),
        (1, 2, {"above": 1.7}, "undecided"),
        (1, 2, {"below": 2.5}, "held"),
        (1, 2, {"below": 1}, "failed"),
        (1, 2, {"below": 1.5}, "undecided"),
        (-1, 1, {"above": -2, "below": 2}, "held"),
        (-1, 3, {"above": -2, "below": 2}, "undecided"),
        (3, 4, {"above": -2, "below": 2}, "failed"),
        (-math.inf, math.inf, {"above": 0}, "undecided"),
        (math.nan, math.nan, {"above": 0}, "error"),
    ],
)
def test_verdicts(low, high, criterion, expected):
    assert verdict(low, high, **criterion).verdict == expected


def test_undecided_says_how_many_more_seeds():
    # half width 1 at distance 0.5: four times the runs are needed, fifteen more than 5
    assert "about 15 more seeds" in verdict(-0.5, 1.5, above=0).note
    assert verdict(-1.0, 1.0 + 1e-9, above=0).note == "seeds will not decide"


def test_more_outcomes_are_counted_by_the_exact_interval():
    """None of 16 leaves a tenth open; none of 36 does not: 1 - 0.025^(1/36) = 0.097."""
    assert stats.more_runs(stats.fraction([False] * 16), 0.1) == 20
    assert stats.more_runs(stats.fraction([True, False] * 8), 0.5) is None


def test_a_claim_that_cannot_fail_is_refused():
    with pytest.raises(ValueError, match="cannot fail"):
        Claim("c", "s", "p", lambda df: None, reason="r")
    with pytest.raises(ValueError, match="say why"):
        Claim("c", "s", "p", lambda df: None, reason="r", above=0, expected="failed")
    with pytest.raises(ValueError, match="use one of held, failed, undecided$"):
        Claim("c", "s", "p", lambda df: None, reason="r", above=0, expected="error")


@pytest.mark.parametrize(
    "estimate",
    [
        lambda df: stats.mean(df.nothing),
        lambda df: stats.paired(df, "y", "arm", "a", "b"),
    ],
)
def test_an_estimate_that_cannot_be_made_is_an_error_and_never_as_expected(estimate):
    undecided = {"expected": "undecided", "because": "b"}
    claim = Claim("c", "s", "p", estimate, reason="r", above=0, **undecided)
    frame = pd.DataFrame({"y": [1.0], "arm": ["a"], "seed": [0]})
    found = judge("e", claim, frame)
    assert found.verdict == "error"
    assert not found.as_expected
    assert "could not be made" in found.note


# --- random streams and keys ----------------------------------------------------------


def test_streams_are_the_same_in_every_process_and_release():
    assert rng.stream(3, "data").integers(0, 1000, 5).tolist() == STREAM
    assert rng.integer(3, "init") == INTEGER
    code = (
        "from symlab.harness import rng; print(rng.stream(3, 'data').integers(0, "
        "1000, 5).tolist())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == str(STREAM)


STREAM = [859, 431, 650, 442, 847]
INTEGER = 3342265840048041300


def test_streams_of_other_names_or_seeds_are_independent():
    names = [(s, n) for s in range(3) for n in ("a", "b", "data")]
    x = np.array([rng.stream(s, n).normal(size=4000) for s, n in names])
    off = np.corrcoef(x) - np.eye(len(x))
    assert np.abs(off).max() < 5 / math.sqrt(4000)


class TestKeys:
    values = {"lr": 0.1, "n": 3, "on": True, "name": "a"}

    def test_order_of_fields_does_not_count(self):
        assert sweep.key(self.values) == sweep.key(dict(reversed(self.values.items())))

    @pytest.mark.parametrize(
        "change",
        [{"lr": 0.2}, {"n": 4}, {"on": False}, {"name": "b"}, {"n": 3.0}, {"on": 1}],
    )
    def test_values_and_types_count(self, change):
        assert sweep.key(self.values) != sweep.key(self.values | change)

    def test_is_what_it_was(self):
        """Rows of earlier releases stay fresh only while this holds."""
        assert sweep.key(self.values) == KEY


KEY = "ab54bbc713034488"


def test_grid_and_zipped():
    def make(**kw):
        return kw

    assert sweep.grid(make, a=[1, 2], b="x") == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]
    assert sweep.zipped(make, a=[1, 2], b=3) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]
    with pytest.raises(UserError, match="length 1 or 3"):
        sweep.zipped(make, a=[1, 2], b=[1, 2, 3])


def test_imports_are_light():
    code = (
        "import sys, symlab; heavy = {'numpy', 'pandas', 'torch', 'matplotlib'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "import symlab.__main__, symlab.harness.plot, symlab.harness.stats; "
        "assert not {'torch', 'matplotlib', 'seaborn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
