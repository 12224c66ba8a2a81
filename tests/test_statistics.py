"""Intervals agree with scipy, verdicts with intervals, streams with themselves."""

import math
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from symlab.harness import rng, stats, sweep, where
from symlab.harness.claims import Claim, judge
from symlab.harness.errors import UserError
from symlab.harness.stats import Interval

SAMPLE = np.array([0.3, 0.15, 0.7, 0.4, 0.5])
SKEWED = np.array([0.3, 0.1, 0.9, 0.4, 0.35])


def test_mean_is_scipys_t_interval():
    ours, theirs = stats.mean(SAMPLE), scipy.stats.ttest_1samp(SAMPLE, 0)
    low, high = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-12)
    assert (ours.method, ours.note) == ("t", "")


def test_a_skewed_sample_gets_the_hull_with_halls_interval_and_says_so():
    found = stats.mean(SKEWED)
    low, high = scipy.stats.ttest_1samp(SKEWED, 0).confidence_interval(0.95)
    assert stats.skewness(SKEWED) == pytest.approx(scipy.stats.skew(SKEWED))
    assert found.low == pytest.approx(low)
    assert found.high > high
    # g of Hall's paper, solved by bisection instead of his closed form
    n, skew = len(SKEWED), scipy.stats.skew(SKEWED)

    def g(s):
        return s + skew * s**2 / 3 + skew**2 * s**3 / 27 + skew / (6 * n)

    least = scipy.stats.t(n - 1).ppf(0.025) / math.sqrt(n)
    at = scipy.optimize.brentq(lambda s: g(s) - least, -50, 50)
    assert found.high == pytest.approx(SKEWED.mean() - SKEWED.std(ddof=1) * at)
    assert (found.method, found.note) == ("t and Hall", "skewness 0.92")
    mirrored = stats.mean(-SKEWED)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    assert not stats.skewed(SKEWED[[0, 1, 2]])


def test_a_constant_sample_is_no_certainty():
    """A mean of equal numbers may differ by rounding: that is no spread."""
    found = stats.mean(np.array([0.1, 0.1, 0.3 - 0.2, 0.1]))
    assert (found.low, found.high) == (found.value, found.value)
    assert (found.method, found.note) == ("constant", "all 4 are equal")
    assert "at most 53 % of seeds would differ" in str(found)
    assert math.isnan(stats.p_value(found, above=0))
    assert stats.mean(np.array([True] * 4)) == stats.fraction([True] * 4)
    assert stats.mean([0.0, 1.0, 1.0]).note == "only two distinct values"


def test_the_worst_of_three_seeds_says_little_about_others():
    """1 - 0.05^(1/3) = 0.63; runs of one seed are not independent."""
    runs = stats.worst([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], seeds=[0, 0, 1, 1, 2, 2])
    assert (runs.value, runs.n, runs.runs) == (6.0, 3, 6)
    assert runs.beyond == pytest.approx(1 - 0.05 ** (1 / 3))
    assert str(runs) == (
        "6 (worst of 6 values of 3 seeds; at most 63 % of seeds lie beyond)"
    )
    alone = stats.worst([1.0, 2.0], seeds=[5, 5])
    assert str(alone) == "2 (worst of 2 values of 1 seed)"
    unknown = stats.worst([1.0, 2.0])
    assert (unknown.n, str(unknown)) == (0, "2 (worst of 2 values)")
    assert math.isnan(unknown.beyond)
    by_seed = pd.Series([1.0, 2.0], index=pd.Index([7, 8], name="seed"))
    assert stats.worst(by_seed).n == 2


def test_the_worst_case_counts_seeds_that_have_all_runs():
    """Two of three seeds were run in one arm only: they say nothing of the other."""
    found = stats.worst([1.0, 2.0, 3.0, 4.0], seeds=[0, 0, 1, 2])
    assert (found.n, found.runs) == (1, 4)
    assert str(found) == (
        "4 (worst of 4 values of 3 seeds, of which 1 has all; at most 95 % of seeds "
        "lie beyond)"
    )


def test_outcomes_of_one_seed_count_once():
    outcomes, seeds = [True, True, False, True], [0, 0, 1, 1]
    found = stats.fraction(outcomes, seeds)
    assert (found.value, found.n, found.runs) == (0.75, 2, 4)
    beta = scipy.stats.beta
    expected = beta.ppf(0.025, 1.5, 1.5), beta.ppf(0.975, 2.5, 0.5)
    assert (found.low, found.high) == pytest.approx(expected)
    assert stats.fraction(outcomes, [0, 1, 2, 3]) == stats.fraction(outcomes)
    assert stats.mean(np.array(outcomes, object)) == stats.fraction(outcomes)


@pytest.mark.parametrize("broken", [math.nan, None, 0.5])
def test_an_outcome_that_is_missing_does_not_count_as_true(broken):
    with pytest.raises(ValueError, match="neither true nor false"):
        stats.fraction([1, 0, broken])


# --- P values -------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [-1.0, 0.0, 0.2, 0.4, 0.6])
def test_the_p_value_of_a_mean_is_that_of_scipys_t_test(limit):
    expected = scipy.stats.ttest_1samp(SAMPLE, limit).pvalue
    assert stats.p_value(stats.mean(SAMPLE), above=limit) == pytest.approx(expected)
    assert stats.p_value(stats.mean(SAMPLE), below=limit) == pytest.approx(expected)


def test_the_p_value_of_a_fraction_is_twice_the_smaller_tail():
    tail = scipy.stats.binom(16, 0.1).cdf(0)
    found = stats.p_value(stats.fraction([False] * 16), above=0.1)
    assert found == pytest.approx(2 * tail)


@given(
    st.lists(st.floats(-1, 1), min_size=4, max_size=12, unique=True),
    st.floats(-1, 1),
    st.sampled_from([stats.mean, stats.anytime]),
)
def test_a_p_value_is_below_a_twentieth_just_where_the_interval_decides(x, at, method):
    interval = method(x)
    apart = not interval.low <= at <= interval.high
    if min(abs(interval.low - at), abs(interval.high - at)) > 1e-9:
        assert (stats.p_value(interval, above=at) < 0.05) == apart


def test_the_p_value_between_two_limits_is_the_larger():
    x = stats.mean(SAMPLE)
    low, high = (stats.p_value(x, above=0.0), stats.p_value(x, below=0.6))
    assert stats.p_value(x, above=0.0, below=0.6) == max(low, high)
    crossed = stats.p_value(x, above=0.5, below=9.0)  # the mean is 0.41
    assert crossed == stats.p_value(x, above=0.5)
    assert math.isnan(stats.p_value(stats.worst(SAMPLE), above=0.0))
    assert stats.p_value(stats.mean([1.0]), above=0.0) == 1.0
    assert stats.p_value(stats.mean([1.0, 1.001, 0.9995]), above=-1e9) == stats.LEAST_P


def test_a_p_value_follows_its_interval_to_another_scale():
    x = stats.mean(SAMPLE)
    for move in (math.exp, lambda v: -v):
        moved = x.map(move)
        limits = {"above": move(0.2)} if move(1) > 0 else {"below": move(0.2)}
        assert stats.p_value(moved, **limits) == stats.p_value(x, above=0.2)


def test_holm_by_hand():
    """Three known values: times 3, 2 and 1, and never below the one before."""
    found = stats.holm([0.03, math.nan, 0.01, 0.04])
    np.testing.assert_allclose(found, [0.06, math.nan, 0.03, 0.06])
    assert stats.holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert stats.holm([]).tolist() == []


def test_holm_keeps_the_error_of_a_family_and_plain_p_values_do_not():
    """Ten claims at their thresholds: eight seeds each, 1,000 families."""
    x = np.random.default_rng(0).normal(size=(1000, 10, 8))
    p = scipy.stats.ttest_1samp(x, 0, axis=2).pvalue
    wrong = np.mean([stats.holm(family).min() < 0.05 for family in p])
    assert wrong < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
    assert np.mean(p.min(1) < 0.05) > 0.3


def test_an_estimate_that_is_not_finite_has_no_p_value():
    assert math.isnan(stats.p_value(Interval(math.inf, 1, 2, 8, ends=lambda a: (1, 2))))


@pytest.mark.parametrize(
    ("sample", "move", "limit"),
    [([1.0, 2.0, 2.5], math.exp, 1.0), ([10.0, 11.0, 10.6], math.log, 1.0)],
)
def test_a_scale_with_an_end_has_p_values_of_small_alphas(sample, move, limit):
    """At alpha = 1e-12 three seeds reach where exp overflows and log does not exist."""
    moved = stats.mean(sample).map(move)
    p = stats.p_value(moved, above=limit)
    assert (p < 0.05) == (moved.low > limit)
    back = {math.exp: math.log, math.log: math.exp}[move](limit)
    assert p == pytest.approx(stats.p_value(stats.mean(sample), above=back))


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("method", [stats.mean, stats.anytime])
def test_squares_of_tiny_and_huge_values_are_no_trouble(scale, method):
    at_one, found = method(SAMPLE), method(SAMPLE * scale)
    assert found.low == pytest.approx(at_one.low * scale)
    assert found.high == pytest.approx(at_one.high * scale)


# --- intervals that bear repeated looks -----------------------------------------------


def test_the_anytime_interval_is_where_its_likelihood_ratio_reaches_twenty():
    """The ratio as an integral over effects, without its closed form.

    Under an effect e, Student's t has the noncentral distribution at e sqrt(n).
    """
    x = SAMPLE
    n, found = len(x), stats.anytime(x)
    at = (x.mean() - found.low) / x.std(ddof=1) * math.sqrt(n)

    def weighted(e):
        density = scipy.stats.nct(n - 1, e * math.sqrt(n)).pdf(at)
        return density * scipy.stats.norm(0, math.sqrt(stats.PRIOR)).pdf(e)

    alternative = scipy.integrate.quad(weighted, -30, 30, points=[0, 2, 5])[0]
    ratio = alternative / scipy.stats.t(n - 1).pdf(at)
    assert ratio == pytest.approx(20, rel=1e-4)
    assert (found.low + found.high) / 2 == pytest.approx(x.mean())
    assert stats.anytime(x[:2]).high == math.inf
    assert "valid at any time" in str(found)


@pytest.mark.parametrize("law", ["normal", "logistic", "uniform"])
def test_anytime_intervals_all_cover_at_once_and_students_do_not(law):
    """2,000 sweeps of 40 seeds, with a look after each seed from the third on."""
    draws = getattr(np.random.default_rng(0), law)(size=(2000, 40))
    truth = 0.5 if law == "uniform" else 0.0
    n = np.arange(1, 41)
    mean = draws.cumsum(1) / n
    spread = np.sqrt(((draws**2).cumsum(1) - n * mean**2) / np.maximum(n - 1, 1))
    error = np.abs(mean - truth)[:, 2:] / spread[:, 2:]
    radii = np.array([stats._radius(m, 0.05) for m in n[2:]])
    always = (error <= radii).all(1).mean()
    assert always >= 0.95 - 2 * math.sqrt(0.95 * 0.05 / 2000)
    students = np.array([stats._quantile(m, 0.05) / math.sqrt(m) for m in n[2:]])
    assert (error <= students).all(1).mean() < 0.85


def test_five_rounds_of_more_seeds_are_wrong_too_often_but_for_anytime_intervals():
    """Add about as many seeds as would decide, five times, while the truth is at 0."""
    random = np.random.default_rng(1)
    wrong = {stats.mean: 0, stats.anytime: 0}
    for _ in range(300):
        x = random.normal(size=128)
        for method in wrong:
            looks = [method(x[:n]) for n in (8, 16, 32, 64, 128)]
            wrong[method] += any(not i.low <= 0 <= i.high for i in looks)
    assert wrong[stats.mean] / 300 > 0.1
    assert wrong[stats.anytime] / 300 < 0.05


# --- verdicts -------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("low", "high", "criterion", "measured", "asked"),
    [
        (-math.log(4), 0, {"below": -math.log(4)}, "0.5 [0.25, 1]", "< 0.25 times"),
        (0, 0, {"above": -math.log(2), "below": math.log(2)}, "1 [1, 1]",
         "> 0.5 and < 2 times"),
        (0, 0, {"above": 1e4}, "1 [1, 1]", "> 10000 log ratio"),
        (-9e3, -8e3, {"below": 0}, "0 [0, 0]", "< 1 times"),
        (800, 900, {"above": 0}, "850 [800, 900]", "> 1 times"),
    ],
)  # fmt: skip
def test_a_log_ratio_is_shown_as_a_ratio(low, high, criterion, measured, asked):
    shown = verdict(low, high, unit="log ratio", **criterion)
    assert shown.measured == f"{measured}, n=5"
    assert shown.claim.asked == asked
    assert shown.interval.low == low
    assert "log ratio" in shown.claim.criterion
    nats = verdict(low, high, unit="nats", **criterion)
    assert nats.measured == str(nats.interval)
    assert nats.claim.asked == nats.claim.criterion


def test_undecided_says_which_design_would_decide_and_not_to_peek():
    """Of scipy: the power of a t test of the effect measured, in a new sweep."""
    x = np.array([-0.9, 0.1, 0.5, 1.3, 1.6])
    assert not stats.skewed(x)
    claim = Claim("c", "s", "p", lambda df: stats.mean(df.y), reason="r", above=0)
    note = judge("e", claim, pd.DataFrame({"y": x})).note
    needed = stats.seeds_needed(stats.mean(x), 0)
    assert note == (
        f"a new sweep of about {needed} unseen seeds would decide; adding seeds until "
        "it does would not be a 95 % interval"
    )
    effect = x.mean() / x.std(ddof=1) * math.sqrt(needed)
    limit = scipy.stats.t(needed - 1).ppf(0.975)
    power = scipy.stats.nct(needed - 1, effect).sf(limit)
    assert stats.POWER - 0.02 < power < stats.POWER + 0.04
    worst = Claim("c", "s", "p", lambda df: stats.worst(df.y), reason="r", above=1.6)
    assert judge("e", worst, pd.DataFrame({"y": x})).verdict == "failed"
    assert stats.advice(stats.mean([1.0]), 0) == "more seeds are needed"
    assert stats.advice(stats.mean(x), x.mean()) == "seeds will not decide"


def test_an_interval_of_other_units_speaks_of_them_and_of_no_sweep():
    interval = replace(stats.mean(np.array([-0.9, 0.1, 0.5, 1.3, 1.6])), of="runs")
    assert str(interval).endswith("n=5 runs")
    said = stats.advice(interval, 0)
    assert re.fullmatch(r"about \d+ further runs would decide", said)
    assert stats.advice(replace(interval, n=1), 0) == "more runs are needed"



def test_more_outcomes_are_counted_by_the_exact_interval():
    """None of 16 leaves a tenth open; none of 36 does not: 1 - 0.025^(1/36) = 0.097."""
    assert stats.seeds_needed(stats.fraction([False] * 16), 0.1) == 36
    assert stats.seeds_needed(stats.fraction([True, False] * 8), 0.5) is None
    needed = stats.seeds_needed(stats.fraction([True] * 6 + [False] * 10), 0.5)
    binomial = scipy.stats.binom(needed, 6 / 16)
    power = sum(
        binomial.pmf(k)
        for k in range(needed // 2)
        if scipy.stats.binomtest(k, needed).proportion_ci(method="exact").high < 0.5
    )
    assert stats.POWER <= power < stats.POWER + 0.05


def test_between_two_limits_the_design_is_for_the_nearer_one():
    """The mean, 0.04, is 0.09 from one and 0.01 from the other."""
    claim = Claim("c", "s", "p", lambda df: stats.mean(df.y), reason="r",
                  above=-0.05, below=0.05)  # fmt: skip
    y = np.array([-0.2, 0.1, 0.02, 0.24])
    needed = stats.seeds_needed(stats.mean(y), 0.05)
    assert needed > 50 * stats.seeds_needed(stats.mean(y), -0.05)
    note = judge("e", claim, pd.DataFrame({"y": y})).note
    assert f"about {needed} unseen seeds" in note


def test_an_estimate_that_is_no_interval_hides_no_other_claim():
    for wrong, words in (
        (1.0, "it returned float, not an Interval"),
        (Interval(1.0, math.nan, math.nan, 4), "the estimate is not finite"),
    ):
        claim = Claim("c", "s", "p", lambda df, x=wrong: x, reason="r", above=0)
        found = judge("e", claim, pd.DataFrame({"y": [1.0]}))
        assert found.verdict == "error"
        assert words in found.note


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


def test_a_format_is_that_of_the_value_and_both_limits():
    found = Interval(0.0123, -0.003, 0.5, 8)
    assert f"{found:+.2f}" == "+0.01 [-0.00, +0.50]"
    assert f"{found}" == str(found)


def test_a_geometric_mean_has_the_interval_of_the_mean_of_logarithms():
    sample = np.array([1.0, 2.0, 3.0, 10.0])
    found, logs = stats.geometric_mean(sample), stats.mean(np.log(sample))
    assert found.value == pytest.approx(60**0.25)
    assert (found.low, found.high) == (np.exp(logs.low), np.exp(logs.high))
