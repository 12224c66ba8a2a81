"""Estimates: what they compute, against scipy; what they print; what they refuse."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as oracle

from symlab.harness import Arm, Claim, Paper, family, named, stats, weakest, where
from symlab.harness.claims import judge
from symlab.harness.estimates import Estimate, estimate, name_of

SEEDS = 8


@pytest.fixture(autouse=True)
def students(monkeypatch):
    """Student's interval for every sample: test_statistics.py tests the skewed ones."""
    monkeypatch.setattr(stats, "skewed", lambda sample: False)


@pytest.fixture
def df():
    """Two studies, two arms, three levels, eight seeds; y depends on all of them."""
    draws = np.random.default_rng(0)
    rows = [
        {"study": study, "arm": arm, "level": level, "seed": seed,
         "y": 2 + level * (arm == "a") + draws.random(), "n": 10}
        for study in ("main", "control")
        for arm in ("a", "b")
        for level in (0.0, 1.0, 2.0)
        for seed in range(SEEDS)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def sample(df, **fields):
    for name, value in fields.items():
        df = df[df[name] == value]
    return df.sort_values("seed").y.to_numpy()


def same(interval, value, low, high, n):
    np.testing.assert_allclose(
        (interval.value, interval.low, interval.high), (value, low, high), rtol=1e-12
    )
    assert interval.n == n


def t_interval(x):
    low, high = oracle.ttest_1samp(x, 0).confidence_interval()
    return x.mean(), low, high, len(x)


def test_paired_is_the_paired_t_interval(df):
    a = sample(df, study="main", arm="a", level=2.0)
    b = sample(df, study="main", arm="b", level=2.0)
    found = where(study="main", level=2.0).paired("y", arm=("a", "b"))
    low, high = oracle.ttest_rel(a, b).confidence_interval()
    same(found(df), (a - b).mean(), low, high, SEEDS)


def test_ratio_and_log_ratio_are_means_of_ratios(df):
    a = sample(df, study="main", arm="a", level=1.0)
    b = sample(df, study="main", arm="b", level=1.0)
    rows = where(study="main", level=1.0)
    same(rows.ratio("y", arm=("a", "b"))(df), *t_interval(a / b))
    same(rows.log_ratio("y", arm=("a", "b"))(df), *t_interval(np.log(a / b)))


def test_mean_counts_seeds_and_not_rows(df):
    by_seed = df[df.arm == "a"].groupby("seed").y.mean().to_numpy()
    same(where(arm="a").mean("y")(df), *t_interval(by_seed))


def test_slope_is_that_of_linear_regression_for_each_seed(df):
    rows = df[(df.study == "main") & (df.arm == "a")]
    slopes = [oracle.linregress(g.level, g.y).slope for _, g in rows.groupby("seed")]
    found = where(study="main", arm="a").slope("y", "level")(df)
    same(found, *t_interval(np.array(slopes)))


def test_rows_that_were_looked_at_often_have_anytime_intervals(df):
    rows = where(study="main", level=2.0)
    gap = sample(df, study="main", arm="a", level=2.0)
    gap = gap - sample(df, study="main", arm="b", level=2.0)
    found = rows.anytime().paired("y", arm=("a", "b"))(df)
    assert found == stats.anytime(gap)
    assert rows.where(arm="a").anytime().where(seed=(0, 1, 2)).mean("y")(df) == (
        stats.anytime(sample(df, study="main", arm="a", level=2.0)[:3])
    )


@pytest.mark.parametrize("k", [0, 3, 16])
def test_a_fraction_has_the_exact_binomial_interval(k):
    frame = pd.DataFrame({"seed": range(16), "hit": [1.0] * k + [0.0] * (16 - k)})
    exact = oracle.binomtest(k, 16).proportion_ci(method="exact")
    found = where().fraction("hit > 0.5")(frame)
    np.testing.assert_allclose((found.low, found.high), tuple(exact), atol=1e-12)
    assert (found.value, found.n) == (k / 16, 16)


def test_the_mean_of_outcomes_is_a_fraction():
    frame = pd.DataFrame({"seed": range(8), "hit": [True] * 8})
    assert where().mean("hit")(frame) == where().fraction("hit")(frame)
    assert where().mean("hit")(frame).low < 0.7


def test_none_of_sixteen_does_not_decide_a_tenth():
    """A t interval of sixteen equal outcomes has width zero and would."""
    frame = pd.DataFrame({"seed": range(16), "hit": [False] * 16})
    hits = where().fraction("hit")
    claim = Claim("c", "A tenth hit.", estimate=hits, reason="A tenth.", above=0.1)
    assert judge("e", claim, frame).verdict == "undecided"


def test_extremes_look_at_every_run(df):
    assert where(arm="a").worst("y")(df).value == df[df.arm == "a"].y.max()
    assert where(arm="a").least("y - n")(df).value == (df[df.arm == "a"].y - 10).min()


def test_extremes_and_fractions_count_seeds(df):
    """Six runs of each seed are not six times the seeds."""
    found = where(arm="a").worst("y")(df)
    assert (found.n, found.runs) == (SEEDS, 6 * SEEDS)
    hits = where(arm="a").fraction("y > 0")(df)
    assert (hits.n, hits.low) == (SEEDS, stats.fraction([True] * SEEDS).low)
    assert where().worst("y")(df.drop(columns="seed")).n == 0


def test_the_weakest_of_several_decides(df):
    steps = [where(arm="a").paired("y", level=p) for p in ((1.0, 0.0), (2.0, 1.0))]
    df = df[df.study == "main"]
    lows, highs = zip(*((e(df).low, e(df).high) for e in steps), strict=True)
    assert weakest(*steps)(df).low == min(lows)
    assert weakest(*steps, above=False)(df).high == max(highs)
    assert str(weakest(where(arm="a").mean("y"), where(arm="a").worst("y"))) == (
        "the smallest of: mean over seeds of y; largest y of any run; all where arm = a"
    )


def test_a_monotone_map_moves_value_and_ends(df):
    log = where(study="main", level=1.0).log_ratio("y", arm=("a", "b"))
    plain, mapped = log(df), log.map(math.exp, "exp of {}")(df)
    assert mapped.value == math.exp(plain.value)
    assert (mapped.low, mapped.high) == (math.exp(plain.low), math.exp(plain.high))
    turned = log.map(lambda v: -v, "minus {}")(df)
    assert (turned.low, turned.high) == (-plain.high, -plain.low)


def test_estimates_print_quantity_comparison_and_conditions():
    found = where(study="noise", model="factored").paired("rank", noise=(0.0, 4.0))
    assert str(found) == (
        "mean over seeds of rank (noise = 0 minus noise = 4, paired), where study = "
        "noise and model = factored"
    )
    assert str(where("wd > 0", arm=("a", "b")).worst("y")) == (
        "largest y of any run, where wd > 0 and arm is one of a, b"
    )

    def gap(df):
        """gap to the oracle."""
        return df.y

    assert name_of(gap) == "gap to the oracle"
    assert str(where().least(gap)) == "smallest gap to the oracle of any run"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: where(arm="c").mean("y"), "no row is left where arm = c"),
        (lambda: where(amr="a").mean("y"), "unknown column 'amr': did you mean arm"),
        (lambda: where("level > 5").worst("y"), "no row is left where level > 5"),
        (lambda: where().paired("y", arm=("a", "z")), "no run has arm = z"),
        (
            lambda: where(study="main").paired("y", arm=("a", "b")),
            "a seed has several runs of one arm",
        ),
    ],
)
def test_a_selection_of_nothing_is_an_error_and_no_number(df, make, message):
    with pytest.raises(ValueError, match=message):
        make()(df)


def test_seeds_that_only_one_arm_has_are_left_out_and_none_at_all_is_an_error(df):
    df = df[(df.study == "main") & (df.level == 1.0)]
    fewer = df[(df.arm == "a") | (df.seed < 5)]
    assert where().paired("y", arm=("a", "b"))(fewer).n == 5
    apart = df[(df.arm == "a") == (df.seed < 4)]
    with pytest.raises(ValueError, match="no seed has both"):
        where().paired("y", arm=("a", "b"))(apart)


def test_a_run_whose_quantity_is_not_a_number_is_never_left_out(df):
    """A run that diverged: without it the mean is that of the runs that survived."""
    at_one = where(study="main", level=1.0)
    wrong = (df.seed == 3) & (df.arm == "b") & (df.level == 1.0)
    broken = df.assign(y=df.y.mask(wrong))
    for make in ("paired", "ratio", "log_ratio"):
        with pytest.raises(ValueError, match="is not a number in a run"):
            getattr(at_one, make)("y", arm=("a", "b"))(broken)
    assert math.isnan(where(study="main").mean("y")(broken).value)
    lost = broken.dropna(subset="y")  # not run, and no number, are two things
    assert at_one.paired("y", arm=("a", "b"))(lost).n == SEEDS - 1


def test_a_ratio_that_does_not_exist_is_never_left_out(df):
    zero = df.assign(y=df.y.mask(df.seed == 3, 0.0))
    at_one = where(study="main", level=1.0)
    for make in ("ratio", "log_ratio"):
        with pytest.raises(ValueError, match="is not a number at a seed"):
            getattr(at_one, make)("y", arm=("a", "b"))(zero)
    with pytest.raises(ValueError, match="is not a number in a run"):
        at_one.log_ratio("y - 2.5", arm=("a", "b"))(df)


def test_counts_without_a_sign_do_not_wrap_around(df):
    counts = df.assign(n=np.where(df.arm == "a", 2, 3).astype("uint8"))
    at_one = where(study="main", level=1.0)
    assert at_one.paired("n", arm=("a", "b"))(counts).value == -1.0


def test_a_slope_needs_two_values_of_x(df):
    with pytest.raises(ValueError, match="fewer than two values of level"):
        where(level=1.0).slope("y", "level")(df)


def test_the_words_of_an_estimate_say_that_it_is_valid_at_any_time():
    """Else the lock would not see that the interval of a claim became another."""
    found = str(where(study="main").anytime().mean("y"))
    assert found == (
        "mean over seeds (interval valid at any time) of y, where study = main"
    )


def test_outcomes_have_no_interval_that_is_valid_at_any_time(df):
    with pytest.raises(ValueError, match="true or false have no interval"):
        where().anytime().fraction("y > 2")
    with pytest.raises(ValueError, match="true or false have no interval"):
        where().anytime().mean("y > 2")(df)


def test_cells_of_one_run_are_not_called_runs():
    """One run of each of three seeds has four cells: 12 values, and three runs."""
    df = pd.DataFrame({"seed": [0, 1, 2], "errors": [[0.1, 0.2, 0.3, 0.4]] * 3})
    each = where().cells({"block": ["a", "b"], "side": ["l", "r"]}, error="errors")
    found = str(each.worst("error")(df))
    assert found.startswith("0.4 (worst of 12 values of 3 seeds; at most 63 % of seeds")


def given(interval) -> Estimate:
    return Estimate(lambda df: interval, "what is given")


def test_the_weakest_of_several_is_an_interval_of_the_smallest():
    """A noisy arm does not hide that another one lies below 0."""
    noisy, below = stats.mean([10.0, -10, 3, -4, -2]), stats.mean([-1.0, -1.2, -0.9])
    found = weakest(given(noisy), given(below))(None)
    assert found.value == below.value < noisy.value
    assert found.low == noisy.low
    assert found.high == pytest.approx(below.ends(0.025)[1])
    assert found.high < 0
    assert stats.p_value(found, above=0) < 0.05
    turned = [given(i.map(lambda x: -x)) for i in (noisy, below)]
    turned = weakest(*turned, above=False)(None)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    alone = weakest(given(below))(None)
    assert (alone.low, alone.high) == pytest.approx((below.low, below.high))


def test_the_smallest_of_ten_equal_arms_is_not_below_them_too_often():
    """1,000 claims that all of ten arms lie above their common mean."""
    draws = np.random.default_rng(0).normal(size=(1000, 10, 8))
    below = 0
    for arms in draws:
        found = weakest(*(given(stats.mean(x)) for x in arms))(None)
        below += found.high < 0
    assert below / 1000 < 0.025 + 3 * math.sqrt(0.025 * 0.975 / 1000)


def test_an_estimator_without_words_is_refused():
    with pytest.raises(ValueError, match="needs a docstring"):
        estimate(lambda df: stats.mean(df.y))
    for arms in ({}, {"arm": ("a", "b", "c")}):
        with pytest.raises(TypeError, match="a field with its two values"):
            where().paired("y", **arms)


def test_two_fields_give_an_interaction_and_over_a_mean_of_pairs(df):
    def gap(level, study="main"):
        a, b = (sample(df, study=study, arm=arm, level=level) for arm in "ab")
        return a - b

    rows = where(study="main")
    found = rows.paired("y", arm=("a", "b"), level=(2.0, 0.0))(df)
    same(found, *t_interval(gap(2.0) - gap(0.0)))
    mean = sum(gap(level) for level in (0.0, 1.0, 2.0)) / 3
    same(rows.paired("y", arm=("a", "b"), each="level")(df), *t_interval(mean))
    # a level that only one arm has does not count
    partly = df[(df.arm == "a") | (df.level > 0)]
    mean = sum(gap(level) for level in (1.0, 2.0)) / 2
    same(rows.paired("y", arm=("a", "b"), each="level")(partly), *t_interval(mean))


def test_a_quantity_can_have_a_name_that_reads_well():
    assert str(where().mean(named("y - n", "excess of y"))) == (
        "mean over seeds of excess of y"
    )


def test_a_family_is_a_product_of_axes_with_its_exceptions(df):
    made = family(
        "{study}_{arm}_is_large",
        "Study {study}: the mean of {arm} is above 2.",
        lambda study, arm: where(study=study, arm=arm).mean("y"),
        study=("main", "control"),
        arm={"a": "arm A", "b": "arm B"},
        but={("control", "b"): {"expected": "failed", "because": "It is small."}},
        above=2.0,
        reason="Two is two.",
    )
    assert [c.name for c in made] == [
        "main_a_is_large", "main_b_is_large", "control_a_is_large", "control_b_is_large"
    ]  # fmt: skip
    assert made[1].statement == "Study main: the mean of arm B is above 2."
    assert [c.expected for c in made] == ["held", "held", "held", "failed"]
    assert made[2].estimate(df) == where(study="control", arm="a").mean("y")(df)
    with pytest.raises(ValueError, match="no combination"):
        family("{arm}", "{arm}", lambda arm: None, arm=("a",), but={("z",): {}})


PAPER = Paper("Doe 2020", "Jane Doe", "On lines", 2020, "2001.00001")


def claim(**fields):
    given = {"estimate": where().mean("y"), "reason": "One is one.", "above": 1.0}
    return Claim("c", "The mean of y is above 1.", **(given | fields))


def test_a_claim_says_where_it_comes_from():
    assert claim(paper=PAPER, place="figure 3").source == (
        "Doe 2020 (arXiv 2001.00001), figure 3"
    )
    assert claim(paper=PAPER, place="figure 3", origin="control").source == (
        "Doe 2020 (arXiv 2001.00001), figure 3, as control"
    )
    assert claim(place="algebra").source == "ours; algebra"
    assert claim(origin="oracle").source == "oracle"
    assert claim().origin == "ours"
    assert claim(paper=PAPER).origin == "paper"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"above": -math.inf}, "cannot fail"),
        ({"above": -0.5, "below": -0.6}, "no number is both"),
        ({"reason": ""}, "needs `reason`"),
        ({"estimate": None}, "needs `estimate`"),
        ({"expected": "true"}, "use one of held"),
        ({"expected": "failed"}, "say why in `because`"),
        ({"origin": "paper?"}, "use one of paper, ours"),
        ({"kind": "thing"}, "use one of effect"),
        ({"written": "2020"}, "use one of before, after"),
    ],
)
def test_a_claim_that_says_too_little_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        claim(**fields)


@pytest.mark.parametrize("history", [("2026-11-30", "0 became 1"), (("day",),)])
def test_a_history_that_lacks_a_comma_is_refused(history):
    with pytest.raises(ValueError, match="not made of pairs"):
        Claim("c", "s", estimate=where().mean("y"), reason="r", above=0,
              history=history)  # fmt: skip


def test_a_record_has_every_field_of_its_claim(df):
    made = claim(paper=PAPER, place="figure 3", unit="nats", written="after",
                 history=(("2020-01-02", "0.5 became 1"),))  # fmt: skip
    record = judge("e", made, df).record()
    assert record["quantity"] == "mean over seeds of y"
    assert (record["paper"], record["place"], record["unit"]) == (
        "Doe 2020", "figure 3", "nats"
    )  # fmt: skip
    assert record["written"] == "after"
    assert record["history"] == "2020-01-02: 0.5 became 1"


def test_arms_of_a_paper_can_be_told_apart():
    from symlab import papers

    for arms in (papers.OPTIMIZERS, papers.RULES, papers.ADVANTAGES):
        looks = [(a.color, a.marker, str(a.line)) for a in arms.values()]
        assert len(set(looks)) == len(looks)
        assert len({a.label for a in arms.values()}) == len(arms)
        assert all(isinstance(a, Arm) for a in arms.values())
