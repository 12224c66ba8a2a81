"""What recipes ask of the estimators: rounding, success, omega, mixes, metrics."""

import json
import warnings
from fractions import Fraction
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from symlab.rlvr import (
    SmoothedOmega,
    advantage_metrics,
    clipped_objective,
    compose,
    group_weights,
    grouped_advantages,
    theory,
)
from symlab.rlvr import advantages as estimate
from symlab.rlvr.advantages import ESTIMATORS, checked_estimator, options_of
from symlab.rlvr.loops import openrlhf
from tests.test_rlvr import ALONE, KINDS, REAL, SMALL, binary, close, tokens

STDS = ("population", "verl", "trl")
SYMMETRIC = ("grpo", "dapo", "dr_grpo", "rloo", "reinforce_pp_baseline", "pkpo")
SYMMETRIC += ("hard", "easy", "ddas")
BY_OMEGA = ("ddas", "ass", "agrae", "agrae_released")


# --- rewards that are equal up to rounding -------------------------------------------


def sums(weights, dtype) -> dict[float, np.ndarray]:
    """Weighted sums of 0/1 rewards, by their exact value: what equal rewards look like.

    In the order of the functions and backwards, as different reductions add.
    """
    found = {}
    for bits in product([0, 1], repeat=len(weights)):
        exact = sum(round(100 * w) * b for w, b in zip(weights, bits, strict=True))
        terms = np.array(weights, dtype) * np.array(bits, dtype)
        for order in (terms, terms[::-1]):
            total = dtype(0)
            for term in order:
                total = dtype(total + term)
            found.setdefault(exact, []).append(total)
    return {exact: np.array(x, dtype) for exact, x in found.items() if len(x) > 1}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "weights",
    [(0.1, 0.1, 0.5, 0.1, 0.7), (0.3, 0.6, 0.1, -0.4), (0.15, 0.65, 0.2, 0.8)],
)
@pytest.mark.parametrize("std", STDS)
def test_equal_sums_of_rewards_have_no_advantage_at_all(weights, dtype, std):
    groups = [x for x in sums(weights, dtype).values() if len(set(x.tolist())) > 1]
    assert groups  # rounding did differ
    for x in groups:
        for kind in KINDS:
            for name in ("grpo", "dapo", "positive_dominant", "negative_dominant"):
                assert not estimate(kind(x[None]), name, std=std).any()
            for name in ("dr_grpo", "rloo", *("reinforce_pp_baseline", "reinforce_pp")):
                assert not estimate(kind(x[None]), name).any()
        as_list = [float(v) for v in x]  # float32 in a list of Python floats
        assert not estimate([as_list], "grpo", std=std).any()
        assert not grouped_advantages(as_list, [7] * len(x), "grpo", std=std).any()


@pytest.mark.parametrize("value", [0.9, 1 / 3, -2.7, 1e-4, 1234.5])
def test_neighbouring_floats_are_equal_rewards(value):
    for dtype in (np.float32, np.float64):
        x = np.full((2, 6), value, dtype)
        x[0, 2] = np.nextafter(dtype(value), dtype(np.inf))
        x[1, 4] = np.nextafter(x[0, 2], dtype(np.inf))
        for name in REAL:
            assert not estimate(x, name).any()


@pytest.mark.parametrize("shift", [0.0, 100.0, 1e5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_advantages_of_a_group_sum_to_zero(dtype, shift):
    """To a millionth of their size, in groups of 2 to 65,536 and far from zero."""
    draws = np.random.default_rng(0)
    for group in (2, 7, 8, 1000, 65_536):
        graded = draws.random((3, group)) * max(1.0, 0.01 * shift) + shift
        right = (draws.random((3, group)) < 0.3).astype(dtype)
        right[:, 0], right[:, 1] = 0, 1
        for name in SYMMETRIC:
            if name == "pkpo" and group < 5:
                continue
            x = graded.astype(dtype) if name in REAL else right
            for kind in KINDS:
                a = np.asarray(estimate(kind(x), name, omega=0.4), np.float64)
                assert (abs(a.sum(1)) <= 1e-6 * abs(a).sum(1)).all()
                assert abs(a).sum() > 0


# --- success apart from the reward ---------------------------------------------------


@SMALL
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_plus_minus_one_is_zero_and_one(name, kind):
    """Where the reward is standardised or only its success counts."""
    r = binary()
    expected = estimate(kind(r), name)
    if name in ("dr_grpo", "rloo"):
        expected = 2 * expected
    tolerance = 1e-5 if name == "agrae_released" else 1e-12  # 1e-6 beside the std
    close(estimate(kind(2 * r - 1), name, success=0), expected, tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_success_is_a_threshold_a_function_or_truth_values(kind):
    draws = np.random.default_rng(3)
    right = binary()
    r = 0.9 * right + 0.1 * (draws.random(right.shape) < 0.5)  # accuracy and format
    expected = estimate(kind(r), "agrae", success=0.9)
    a, p = estimate(r), right.mean(1, keepdims=True)
    omega = right.mean()
    with np.errstate(divide="ignore"):
        focus = 0.5 * omega / np.sqrt(p) + 0.5 * (1 - omega) / np.sqrt(1 - p)
    focus[(p == 0) | (p == 1)] = 1.0  # the format still counts there, unweighed
    by_hand = a * focus * np.where(a > 0, omega, 1.0)
    close(expected, by_hand)
    assert abs(by_hand[:2]).max() > 0
    for success in (0.85, lambda x: x >= 0.85, kind(right > 0), kind(right)):
        close(estimate(kind(r), "agrae", success=success), expected)
    for name in ALONE[:3]:
        close(estimate(kind(r), name, success=0.5), estimate(right, name))
    labels = np.repeat(np.arange(len(r)), 8)
    order = draws.permutation(r.size)
    for success in (0.85, lambda x: x >= 0.85, kind(right.ravel()[order])):
        found = grouped_advantages(
            kind(r.ravel()[order]), labels[order], "agrae", success=success
        )
        close(found, np.asarray(expected).ravel()[order])


def test_a_threshold_is_met_by_sums_that_rounding_puts_below_it():
    below = np.float32(0.15) + np.float32(0.65) + np.float32(0.2)
    assert below < 1
    r = torch.tensor([[below, 0.0]] * 20)
    expected = estimate(r.round(), "agrae")
    close(estimate(r, "agrae"), expected, 1e-6)  # 0 and 1 up to rounding
    close(estimate(r, "agrae", success=1), expected, 1e-6)
    close(
        estimate([[1 - 1e-12, 0.0]] * 20, "agrae"), estimate([[1.0, 0]] * 20, "agrae")
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_threshold_that_rewards_of_0_reach_by_rounding_is_refused(dtype):
    """1e-9 for "above 0" would make every rollout of 0 a success."""
    r = np.array([0, 0.25, 0, 1, 0, 0], dtype)
    with pytest.raises(ValueError, match="success = 1e-09 is rounding, which rewards"):
        grouped_advantages(r, [0] * 6, "psr", success=1e-9)
    close(
        grouped_advantages(r, [0] * 6, "psr", success=lambda x: x > 0),
        [0, 1, 0, 1, 0, 0],
    )
    grouped_advantages(r, [0] * 6, "psr", success=1e-5)
    for success in (0, -1.0):  # which all reach
        with pytest.warns(UserWarning, match="all 6 rollouts succeed"):
            grouped_advantages(r, [0] * 6, "psr", success=success)
    fine = np.array([0, 1e-10, 0.1])  # in doubles 1e-10 is no rounding
    close(grouped_advantages(fine, [0] * 3, "psr", success=1e-10), [0, 1, 1])
    with pytest.raises(ValueError, match="success = 1e-09 is rounding"):
        checked_estimator("agrae", {"success": 1e-9})
    for success in (True, [True, False], torch.ones(16)):
        with pytest.raises(ValueError, match="truth values, which belong to one batch"):
            checked_estimator("agrae", {"success": success})


def test_a_batch_of_which_nothing_is_left_is_logged():
    logged = []
    a = grouped_advantages(
        [np.nan, 1.0], [0, 0], "agrae", valid=[False] * 2, log=logged.append
    )
    assert not a.any()
    assert logged == [{"groups": 0}]


def test_an_estimator_of_ones_own_returns_one_advantage_to_a_rollout():
    def wrong(rewards):
        return rewards.mean(1, keepdims=True)

    with pytest.raises(ValueError, match=r"wrong returned shape \(1, 1\) for rewards"):
        grouped_advantages([1.0, 0, 1], [0, 0, 0], wrong)


@pytest.mark.parametrize("value", [0.9, 0.7, 0.1, 1 / 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, np.float16])
def test_a_threshold_is_met_by_rewards_of_half_precision(value, dtype):
    """0.9 is 0.8984 in bfloat16, and 0.8999 in float16."""
    x = [value, 0.0, value, 1.0, 0.9 * value, 0.0]
    x = np.array(x, dtype) if dtype is np.float16 else torch.tensor(x, dtype=dtype)
    found = grouped_advantages(x, [0] * 6, "psr", success=value)
    assert found.dtype == x.dtype
    assert found.tolist() == [1, 0, 1, 1, 0, 0]
    if dtype is not np.float16:
        (found,) = openrlhf("psr", samples=6, success=value)([x])
        assert found.tolist() == [1, 0, 1, 1, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, np.float16])
def test_thresholds_are_met_alike_in_tables_and_in_groups_by_name(dtype):
    x = [0.9, 0.0, 0.9, 1.0, 0.81, 0.0]
    x = np.array(x, dtype) if dtype is np.float16 else torch.tensor(x, dtype=dtype)
    assert estimate(x[None], "psr", success=0.9)[0].tolist() == [1, 0, 1, 1, 0, 0]
    assert not grouped_advantages(x, [0] * 6, "psr", success=1e6).any()
    for success, message in (
        (1e-9, "success = 1e-09 is rounding"),  # 0 in float16, which every rollout has
        (True, "success has shape"),
        (float("nan"), "success = nan is no threshold"),
    ):
        with pytest.raises(ValueError, match=message):
            estimate(x[None], "psr", success=success)
        with pytest.raises(ValueError, match=message):
            grouped_advantages(x, [0] * 6, "psr", success=success)


@pytest.mark.parametrize("kind", KINDS)
def test_thresholds_of_rounding_are_refused_in_tables_too(kind):
    r = kind([[0, 0.25, 0, 1, 0, 0]])
    for name in ("psr", "hard", compose(difficulty="hard")):
        with pytest.raises(ValueError, match="success = 1e-09 is rounding, which rew"):
            estimate(r, name, success=1e-9)
    estimate(r, "psr", success=1e-5)
    for success in (0, -1.0):  # which all reach
        with pytest.warns(UserWarning, match="all 6 rollouts succeed"):
            estimate(r, "psr", success=success)
    fine = kind([[0, 1e-10, 0.1]])  # in doubles 1e-10 is no rounding
    if fine.dtype.itemsize == 8:
        assert estimate(fine, "psr", success=1e-10).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [np.array, np.float32, torch.tensor])
def test_a_threshold_may_be_an_array_of_no_dimension(kind, number):
    r = kind([[0, 0.25, 0.5, 1]])
    expected = estimate(r, "psr", success=0.5)
    close(estimate(r, "psr", success=number(0.5)), expected)
    close(grouped_advantages(r[0], [0] * 4, "psr", success=number(0.5)), expected[0])
    checked_estimator("hard", {"success": number(0.5)})
    with pytest.raises(ValueError, match="success = 1e-09 is rounding"):
        checked_estimator("hard", {"success": number(1e-9)})
    with pytest.raises(ValueError, match=r"success has shape \(\)"):
        estimate(r, "psr", success=kind(True))


def test_unknown_names_of_estimators_suggest_what_is_alike_or_name_all():
    r = binary(2, 4)
    for name, meant in (
        ("reinforce++", "reinforce_pp"),
        ("REINFORCE++-baseline", "reinforce_pp_baseline"),
        (" grpo ", "grpo"),
        ("dr grpo", "dr_grpo"),
        ("gpro", "grpo"),
    ):
        with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
            estimate(r, name)
    for name in ("pass@k", None, 5, "vanilla", ["grpo"]):
        with pytest.raises(ValueError, match="unknown estimator .*: use grpo, dapo, "):
            estimate(r, name)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_plain_function_returns_is_checked(kind):
    r = kind(binary(3, 4))
    for wrong, message in (
        (
            lambda r: r.mean(1),
            r"returned shape \(3,\) for rewards \(3, 4\): return one",
        ),
        (lambda r: r.T, r"returned shape \(4, 3\)"),
        (
            lambda r: r / (0 * r + float("inf")) + float("nan"),
            "12 of 12 advantages by .* are not",
        ),
        (lambda r: None, "returned a NoneType: return an array"),
        (lambda r: r.tolist(), "returned a list: return an array"),
    ):
        with pytest.raises(ValueError, match=message):
            estimate(r, wrong)
    assert estimate(r, lambda r: r) is r


def test_what_says_nothing_about_success_is_refused():
    r = np.array([[0.999, 0.0]])
    with pytest.raises(ValueError, match="others, such as 0.999: give success="):
        estimate(r, "agrae")
    with pytest.raises(ValueError, match=r"such as 1\.0000001: give success="):
        estimate([[1 + 1e-7, 0.0]], "hard")
    with pytest.raises(ValueError, match=r"such as 1\.0000000001: give success="):
        estimate([[1 + 1e-10, 0.0]], "hard")
    with pytest.raises(ValueError, match="is no threshold"):
        estimate(r, "hard", success=float("nan"))
    with pytest.raises(ValueError, match=r"success has shape \(2,\)"):
        estimate(r, "hard", success=lambda x: x[0] > 0)
    with pytest.raises(ValueError, match="values other than true and false"):
        estimate(r, "hard", success=lambda x: x)
    with pytest.raises(ValueError, match="success has shape"):
        grouped_advantages([0.5, 0.1], [0, 0], "hard", success=[True])
    for complex_ in (np.array([[1j, 0]]), torch.tensor([[1j, 0]])):
        with pytest.raises(ValueError, match="complex.*: give real numbers"):
            estimate(complex_)
    with pytest.raises(ValueError, match="give real numbers"):
        estimate([["a", "b"]])
    with pytest.raises(ValueError, match="rows of unequal lengths"):
        estimate([[0, 1], [1]])
    for name, meant in (
        ("AGRAE", "agrae"),
        ("A-GRAE", "agrae"),
        ("Dr-GRPO", "dr_grpo"),
    ):
        with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
            estimate(r, name)
    for r in (np.float32([[3e38, -3e38, 0]]), np.array([[1e308, 0.0]])):
        with pytest.raises(ValueError, match="overflow"):
            estimate(r)
    with pytest.raises(ValueError, match="advantages overflow torch.float16"):
        estimate(torch.tensor([[1.0, 0]]).half(), "positive_dominant", beta=1e5)


def test_labels_may_be_of_any_kind():
    r = [0.0, 1, 1, 0, 1]
    expected = grouped_advantages(r, [0, 0, 1, 1, 1])
    for labels in (
        ["a", "a", None, None, None],
        [("x", 1), ("x", 1), ("x", 2), ("x", 2), ("x", 2)],
        torch.tensor([5, 5, 2, 2, 2]),
        np.array(["q", "q", 3, 3, 3], dtype=object),
    ):
        close(grouped_advantages(r, labels), expected)

    class OnDevice:  # numpy refuses a tensor on a GPU
        def __init__(self, x):
            self.cpu = lambda: torch.tensor(x)

    found = grouped_advantages(
        r, OnDevice([5, 5, 2, 2, 2]), valid=OnDevice([True, True, False, True, True])
    )
    close(found, [-1, 1, 0, -1, 1])
    with pytest.raises(ValueError, match=r"groups have shape \(5, 1\)"):
        grouped_advantages(r, np.zeros((5, 1)))


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 0, np.nan, np.nan]),
        [0.0, 0.0, float("nan"), float("nan")],
        torch.tensor([0, 0, torch.nan, torch.nan]),
        np.array(["q", "q", np.nan, np.nan], dtype=object),
        np.array([1, 1, "NaT", "NaT"], dtype="timedelta64[s]"),
    ],
)
def test_labels_that_are_nan_name_no_group(labels):
    with pytest.raises(ValueError, match="labels of groups hold NaN 2 times"):
        grouped_advantages([0.0, 1, 1, 0], labels)


# --- omega ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", BY_OMEGA)
def test_a_batch_of_few_groups_is_warned_of_unless_omega_is_given(name):
    r = binary(16)
    labels = np.repeat(np.arange(16), 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate(r, name)
        grouped_advantages(r.ravel(), labels, name)
        for omega in (0.5, lambda s: s.mean(), SmoothedOmega()):
            estimate(r[:1], name, omega=omega)
        estimate(r[:1], "grpo")
    for few in (1, 15):
        with pytest.warns(UserWarning, match=f"success of {few} groups?, so"):
            estimate(r[:few], name)
        with pytest.warns(UserWarning, match=f"success of {few} groups?, so"):
            grouped_advantages(r[:few].ravel(), labels[: 8 * few], name)


@pytest.mark.parametrize("kind", KINDS)
def test_smoothed_omega_is_the_weighted_mean_of_all_batches(kind):
    smooth, top, bottom = SmoothedOmega(0.9), 0.0, 0.0
    for i in range(30):
        r = binary(4, 8, seed=i, p=0.2 + 0.02 * i)[: 2 + i % 3]
        top, bottom = 0.9 * top + r.sum(), 0.9 * bottom + r.size
        found = estimate(kind(r), "agrae", omega=smooth)
        close(found, estimate(r, "agrae", omega=top / bottom))
        assert smooth.value == pytest.approx(top / bottom, rel=1e-12)
    again = SmoothedOmega(0.9)
    again.load_state_dict(json.loads(json.dumps(smooth.state_dict())))
    assert again(kind(r)) == smooth(kind(r))
    assert SmoothedOmega().value is None
    first = SmoothedOmega()
    close(estimate(r, "ass", omega=first), estimate(r, "ass", omega=r.mean()))
    with pytest.raises(ValueError, match="is no decay"):
        SmoothedOmega(1.0)
    for signed in ([-1.0, 1.0, 1.0], [0.5, 0.5], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="values other than 0 and 1"):
            first(kind(np.array(signed)))
    assert first.value == pytest.approx(r.mean())  # nothing of them was entered
    with pytest.raises(ValueError, match="no rollouts"):
        first(kind(np.zeros(0)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_omega_that_is_no_real_number_is_refused(kind):
    r = kind(binary(4, 8))
    for omega in ("0.5", True, np.True_, ["0.5"] * 4, [True], 0.5j, kind(True)):
        with pytest.raises(ValueError, match="is given: it must be a real number"):
            estimate(r, "agrae", omega=omega)
    with pytest.raises(ValueError, match="is given: it must be a real number"):
        estimate(r, "agrae", omega=SmoothedOmega)
    for returned in (None, "0.5", True):
        with pytest.raises(ValueError, match=f"function returned omega = {returned!r}"):
            estimate(r, "agrae", omega=lambda s, found=returned: found)
    expected = estimate(r, "agrae", omega=0.5)
    for omega in (Fraction(1, 2), np.float32(0.5), torch.tensor(0.5), [[0.5]] * 4):
        close(estimate(r, "agrae", omega=omega), expected)


def test_a_warning_counts_one_group_and_several():
    with pytest.warns(UserWarning, match="the mean success of 1 group, so"):
        estimate(binary()[2:3], "ass")
    with pytest.warns(UserWarning, match="the mean success of 2 groups, so"):
        estimate(binary()[2:4], "ass")


def test_smoothed_omega_of_single_groups_compares_prompts():
    """One group a batch: its own rate is no state of the policy, the mean is."""
    draws, smooth = np.random.default_rng(0), SmoothedOmega()
    rates = draws.choice([0.1, 0.9], 600)
    for p in rates:
        r = (draws.random((1, 8)) < p).astype(float)
        estimate(r, "agrae", omega=smooth)
    assert smooth.value == pytest.approx(0.5, abs=0.1)


@SMALL
def test_an_omega_that_is_a_function_sees_the_successes_of_valid_rollouts():
    seen = []

    def omega(success):
        seen.append(np.array(success))
        return 0.25

    r, valid = np.array([2.0, -1, 2, -1, 2, 2]), np.array([1, 1, 1, 1, 1, 0], bool)
    found = grouped_advantages(
        r, [0, 0, 1, 1, 1, 1], "agrae", valid=valid, omega=omega, success=0
    )
    assert [x.tolist() for x in seen] == [[1, 0, 1, 0, 1]]
    expected = estimate([[2.0, -1]], "agrae", omega=0.25, success=0)[0]
    close(found[:2], expected)
    assert found[5] == 0
    with pytest.raises(ValueError, match="is no mean of rewards"):
        estimate(r[None], "agrae", omega=lambda s: 1.5, success=0)


def test_checking_an_estimator_enters_nothing():
    smooth, calls = SmoothedOmega(), []
    checked_estimator("agrae", {"omega": smooth, "success": calls.append})
    assert smooth.value is None
    assert not calls
    checked_estimator("pkpo", {"k": 8}, group=16)
    for omega in (SmoothedOmega, "smoothed", "0.5", [0.5], np.full((1, 1), 0.5)):
        with pytest.raises(ValueError, match="is no state of the policy: give a numb"):
            checked_estimator("agrae", {"omega": omega})
    for omega in (0.5, np.float32(0.5), torch.tensor(0.5), lambda s: s.mean()):
        checked_estimator("agrae", {"omega": omega})
    for options, message in (
        ({"k": 8}, "use whole numbers from 1 to G - 1 = 7"),
        ({"beta": 1.0}, "no option 'beta'"),
    ):
        with pytest.raises(ValueError, match=message):
            checked_estimator("pkpo", options, group=8)


# --- mixes ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("agrae", {"difficulty": "ddas", "sign": "ass"}),
        ("ddas", {"difficulty": "ddas"}),
        ("ass", {"sign": "ass"}),
        ("hard", {"difficulty": "hard"}),
        ("easy", {"difficulty": "easy"}),
        ("positive_dominant", {"sign": "positive_dominant"}),
        ("negative_dominant", {"sign": 0.1}),
        ("dr_grpo", {"normalise": "dr_grpo"}),
        ("rloo", {"normalise": "rloo"}),
        ("reinforce_pp", {"normalise": "reinforce_pp"}),
        ("reinforce_pp_baseline", {"normalise": "reinforce_pp_baseline"}),
    ],
)
def test_the_methods_are_made_of_parts(name, made, kind):
    r = kind(binary())
    assert (estimate(r, compose(**made)) == estimate(r, name)).all()
    order = np.random.default_rng(0).permutation(r.shape[0] * 8)
    labels, flat = np.repeat(np.arange(len(r)), 8)[order], r.reshape(-1)[order]
    found = grouped_advantages(flat, labels, compose(**made))
    close(found, np.asarray(estimate(r, name)).ravel()[order])


@pytest.mark.parametrize("std", ["verl", "trl"])
def test_parts_have_the_stds_of_trainers(std):
    r = binary()
    mix = compose(normalise=std, difficulty="ddas", sign=lambda w: min(1, 2 * float(w)))
    close(estimate(r, mix), estimate(r, "agrae", std=std, alpha=0.5))


def test_parts_of_ones_own():
    r = binary(40, 8)
    mix = compose(
        normalise=lambda r: r - 0.5,
        difficulty=lambda p: 1 / (p + 0.1),
        sign=0.5,
        name="my_mix",
    )
    p = r.mean(1, keepdims=True)
    weight = np.where((p > 0) & (p < 1), 1 / (p + 0.1), 1.0)
    a = (r - 0.5) * weight
    close(estimate(r, mix), np.where(a > 0, 0.5 * a, a))
    assert mix.__name__ == "my_mix"
    with pytest.raises(ValueError, match="my_mix needs rewards 0 and 1"):
        estimate(3 * r, mix)
    by_omega = compose(difficulty=lambda p, omega: omega + 0 * p)
    close(estimate(r, by_omega, omega=0.3)[2:], 0.3 * estimate(r)[2:])
    graded = np.random.default_rng(0).random((4, 5))
    close(estimate(graded, compose(sign=0.1)), estimate(graded, "negative_dominant"))

    def plain(rewards):
        return rewards - 0.25

    close(estimate(r, plain), r - 0.25)
    close(grouped_advantages(r.ravel(), np.arange(320) // 8, plain), r.ravel() - 0.25)


def test_batches_of_reinforce_pp_are_over_all_groups_of_any_size():
    draws = np.random.default_rng(5)
    sizes = (4, 2, 1, 5, 1)
    labels, r = np.repeat(np.arange(5), sizes), draws.random(13)
    for kind in KINDS:
        close(
            grouped_advantages(kind(r), labels, "reinforce_pp"),
            (r - r.mean()) / r.std(),
        )
        within = r - np.array([r[labels == i].mean() for i in labels])
        found = grouped_advantages(kind(r), labels, "reinforce_pp_baseline")
        close(found, within / within.std())
        alone = grouped_advantages(kind(r), np.arange(13), "reinforce_pp")
        close(alone, (r - r.mean()) / r.std())
        close(grouped_advantages(kind(0 * r), labels, "reinforce_pp"), 0 * r)


def test_parts_made_for_tensors_pass_the_check_of_an_adapter():
    mix = compose(difficulty=lambda p: torch.exp(-p), sign=lambda w: w.clamp(max=1))
    checked_estimator(mix, {})
    with pytest.raises(ValueError, match="mix has no option 'alpha'"):
        checked_estimator(mix, {"alpha": 1.0})


@pytest.mark.parametrize("kind", KINDS)
def test_a_difficulty_with_constants_of_its_own_is_not_given_omega_for_them(kind):
    r = kind(binary())
    expected = estimate(r, compose(difficulty=lambda p: 1 / (p + 0.1)))

    def weight(p, c=0.1, *, power=1):
        return 1 / (p + c) ** power

    for own in (weight, partial(weight, c=0.1), partial(weight, power=1)):
        close(estimate(r, compose(difficulty=own), omega=0.9), expected)
        assert "omega" not in options_of(compose(difficulty=own))
    by_omega = estimate(r, compose(difficulty="ddas"), omega=0.3)

    def ddas(p, c=1.0, *, omega=None):
        return c * 0.5 * (omega / p**0.5 + (1 - omega) / (1 - p) ** 0.5)

    for own in (
        ddas,
        lambda p, w: ddas(p, omega=w),
        lambda p, omega=0: ddas(p, 1, omega=omega),
    ):
        close(estimate(r, compose(difficulty=own), omega=0.3), by_omega)
    root = np.sqrt if kind is not torch.tensor else torch.sqrt  # tell no parameters
    mix = compose(difficulty=lambda p: p**0.5)
    close(estimate(r, compose(difficulty=root)), estimate(r, mix))


@pytest.mark.parametrize("kind", KINDS)
def test_what_parts_of_ones_own_return_is_checked(kind):
    """Weights (B,) of B = G prompts would weigh rollouts and not prompts."""
    r = kind(binary(8, 8))
    for made, message in (
        ({"difficulty": lambda p: 1 / (p[:, 0] + 0.1)}, r"shape \(8,\): return one"),
        ({"difficulty": lambda p: p + float("inf")}, "returned inf: return finite"),
        ({"difficulty": lambda p: -p}, "turns advantages round: return numbers from 0"),
        ({"difficulty": lambda p: "hard"}, "difficulty returned"),
        ({"sign": lambda omega: float("nan")}, "sign returned nan: return finite"),
        ({"sign": lambda omega: -1.0}, "sign returned -1, which turns"),
        ({"sign": lambda omega: [1.0, 2.0]}, r"sign returned shape \(2,\)"),
        ({"normalise": lambda r: r + float("inf")}, "normalise returned"),
        ({"normalise": lambda r: r[0]}, "return one number to a rollout"),
    ):
        with pytest.raises(ValueError, match=message):
            estimate(r, compose(**made), omega=0.5)
    as_list = compose(normalise=lambda r: (r - 0.5).tolist())
    close(estimate(r, as_list), r - 0.5)
    constant = compose(difficulty=lambda p: 2, sign=lambda omega: omega)
    mixed = estimate(r, compose(sign="ass"), omega=0.5)
    close(abs(estimate(r, constant, omega=0.5)).max(), 2 * abs(mixed).max())


def test_unknown_parts_are_one_sentence():
    for part in ("normalise", "difficulty", "sign"):
        with pytest.raises(ValueError, match=f"unknown {part} 'medium': use "):
            compose(**{part: "medium"})
    with pytest.raises(ValueError, match="unknown difficulty 2.0"):
        compose(difficulty=2.0)
    with pytest.raises(ValueError, match="sign = -1 is no scale"):
        compose(sign=-1)
    with pytest.raises(ValueError, match="normalise = None is no part: use 'none'"):
        compose(normalise=None)
    with pytest.raises(ValueError, match="name = 5 is no name"):
        compose(name=5)
    with pytest.raises(ValueError, match="return one number to a rollout"):
        estimate(binary(), compose(normalise=lambda r: r.mean(1)))


def test_pkpo_is_rloo_at_one_and_an_unbiased_gradient_of_pass_at_k():
    """All 4^6 groups: the mean of A dlog pi / G is the gradient of 1 - (1 - p)^k."""
    r = binary(40, 6)
    close(estimate(r, "pkpo", k=1), estimate(r, "rloo"))
    pi, correct, g = np.array([0.4, 0.3, 0.2, 0.1]), np.array([1.0, 0, 0, 1]), 6
    samples = np.array(list(product(range(4), repeat=g)))
    chance = pi[samples].prod(1)
    p = pi @ correct
    for k in (1, 2, 3, 5):
        a = estimate(correct[samples], "pkpo", k=k) / g
        found = chance @ theory.logit_motion(pi, samples, a)
        close(found, k * (1 - p) ** (k - 1) * pi * (correct - p))
    for k in (0, 6, 2.5):
        with pytest.raises(ValueError, match="use whole numbers from 1 to G - 1 = 5"):
            estimate(r, "pkpo", k=k)
    for k in (None, float("nan"), float("inf"), "2", True):
        with pytest.raises(ValueError, match=r"k = .*: use whole numbers from 1 to G"):
            estimate(r, "pkpo", k=k)
        with pytest.raises(ValueError, match=r"k = .*: use whole numbers from 1 to G"):
            grouped_advantages([1.0, 0, 0, 1, 0], [0, 0, 1, 1, 1], "pkpo", k=k)
    for k in (2.0, np.int32(2), np.float64(2)):
        close(estimate(r, "pkpo", k=k), estimate(r, "pkpo", k=2))


# --- micro-batches, sequence ratios, samplers ----------------------------------------


@pytest.mark.parametrize("dual", [None, 3.0])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("how", ["sequence", "token", "constant"])
def test_micro_batches_with_totals_have_the_gradient_of_the_batch(how, ratio, dual):
    logp, old, a, mask = tokens(spread=1.0)
    options = {"normalisation": how, "max_length": 7, "ratio": ratio, "dual_clip": dual}
    whole = logp.clone().requires_grad_()
    loss, _ = clipped_objective(whole, old, a, mask, **options)
    loss.backward()
    total = {"total_tokens": mask.sum()} if how == "token" else {"total_sequences": 6}
    micro, losses = logp.clone().requires_grad_(), []
    for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
        part, _ = clipped_objective(
            micro[rows], old[rows], a[rows], mask[rows], **options, **total
        )
        part.backward()
        losses.append(part.detach())
    close(sum(losses), loss.detach())
    close(micro.grad, whole.grad)
    assert abs(whole.grad).max() > 0


def test_the_sequence_ratio_is_gspos():
    """Sequence by sequence, in python, from arXiv 2507.18071."""
    logp, old, a, mask = tokens(spread=1.0)
    x = logp.clone().requires_grad_()
    found, stats = clipped_objective(x, old, a, mask, ratio="sequence")
    y, losses, clipped = logp.clone().requires_grad_(), [], 0
    for i in range(6):
        n = int(mask[i].sum())
        if not n:
            losses.append(0.0 * a[i])
            continue
        s = ((y[i] - old[i])[mask[i]].sum() / n).exp()
        losses.append(-torch.minimum(s * a[i], s.clamp(0.8, 1.2) * a[i]))
        clipped += n * bool((a[i] < 0) & (s < 0.8) | (a[i] > 0) & (s > 1.2))
    expected = sum(losses) / 6
    close(found.detach(), expected.detach())
    found.backward(), expected.backward()
    close(x.grad, y.grad)
    close(stats["clip_low"] + stats["clip_high"], clipped / int(mask.sum()))
    assert clipped


def test_tokens_are_weighed_by_the_truncated_ratio_to_their_sampler():
    logp, old, a, mask = tokens(spread=0.5)
    sampler = old + torch.randn(old.shape, dtype=old.dtype) * 0.5
    x = logp.clone().requires_grad_()
    loss, stats = clipped_objective(
        x, old, a, mask, sampler_logp=torch.where(mask, sampler, torch.nan)
    )
    loss.backward()
    plain = logp.clone().requires_grad_()
    clipped_objective(plain, old, a, mask)[0].backward()
    weight = (old - sampler).exp()
    close(x.grad, torch.where(mask, plain.grad * weight.clamp(max=2.0), 0))
    close(stats["truncated"], (weight > 2)[mask].double().mean())
    close(stats["sampler_weight"], weight.clamp(max=2)[mask].mean())
    same, _ = clipped_objective(logp, old, a, mask, sampler_logp=old)
    assert same == clipped_objective(logp, old, a, mask)[0]


def test_totals_and_ratios_that_cannot_be_are_said():
    x, a, mask = torch.zeros(2, 3), torch.zeros(2), torch.ones(2, 3)
    for options, message in (
        ({"total_tokens": 6}, "takes total_sequences"),
        ({"total_sequences": 2, "normalisation": "token"}, "takes total_tokens"),
        ({"total_sequences": 0}, "total_sequences = 0 is no count"),
        ({"ratio": "turn"}, "unknown ratio 'turn': use token, sequence"),
        ({"sampler_logp": x[:1]}, "sampler_logp has shape"),
        ({"sampler_logp": x, "truncation": 0}, "truncation = 0 is no bound"),
    ):
        with pytest.raises(ValueError, match=message):
            clipped_objective(x, x, a, mask, **options)


def test_a_mask_counts_tokens_or_leaves_them_out():
    x, a = torch.zeros(2, 3), torch.ones(2)
    for value in (0.5, float("nan"), 2, -1):
        mask = torch.ones(2, 3)
        mask[0, 1] = value
        with pytest.raises(ValueError, match="mask has values other than 0 and 1"):
            clipped_objective(x, x, a, mask)
    expected = clipped_objective(x, x, a, torch.ones(2, 3, dtype=torch.bool))
    for dtype in (torch.long, torch.bfloat16):
        assert clipped_objective(x, x, a, torch.ones(2, 3, dtype=dtype)) == expected


# --- metrics -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_count_groups_and_sums(kind):
    r = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0.0]])
    a = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [2, -1, -1, -1], [1, 1, -1, -3.0]])
    found = advantage_metrics(kind(a), kind(r))
    assert found["groups"] == 4
    assert found["zero_groups"] == 0.5
    assert found["sum"] == (-1 - 2) / 4
    assert found["size"] == (5 + 6) / 4
    assert found["omega"] == 7 / 16
    assert found["all_wrong"] == found["all_right"] == 0.25
    assert found["weight_hard"] == pytest.approx(
        (2 * 0.75 + 3 * 0.25) / (4 * np.sqrt(3 / 16))
    )
    assert "weight_easy" not in found
    order = np.random.default_rng(0).permutation(16)
    labels = np.array(list("aaaabbbbccccdddd"))[order]
    again = advantage_metrics(kind(a.ravel()[order]), kind(r.ravel()[order]), labels)
    assert again == pytest.approx(found)
    fewer = advantage_metrics(
        a.ravel(), r.ravel(), np.arange(16) // 4, valid=np.arange(16) < 4, omega=0.2
    )
    assert fewer == {
        "groups": 1, "zero_groups": 1, "sum": 0, "size": 0, "omega": 0.2,
        "all_wrong": 1, "all_right": 0,
    }  # fmt: skip
    assert advantage_metrics([], [], [])["groups"] == 0
    assert set(advantage_metrics(a)) == {"groups", "zero_groups", "sum", "size"}


@pytest.mark.parametrize("name", ["grpo", "agrae", "negative_dominant", "pkpo", "psr"])
def test_group_weights_have_the_theorys_mean(name):
    """Binomial mean of the groups' weights: W of E[dh] = eta W (E_pos - E_neg)."""
    g, p = 6, 0.3
    r = np.tri(g + 1, g, -1)
    a = estimate(r, name, omega=0.4)
    rates, w = group_weights(a, r)
    close(rates, np.arange(g + 1) / g)
    # around the group's own rate; the theory's is around the policy's
    chance = np.array([theory.math.comb(g, k) for k in range(g + 1)], float)
    chance *= p ** np.arange(g + 1) * (1 - p) ** (g - np.arange(g + 1))
    moved = (a * (rates[:, None] - p)).sum(1)
    close(chance @ (w + moved), theory.update_weight(p, g, name, omega=0.4))


def test_hidden_focuses_are_seen_in_the_metrics():
    r = binary(200, 8, seed=4, p=np.random.default_rng(1).random((200, 1)))
    found = {n: advantage_metrics(estimate(r, n), r) for n in ESTIMATORS}
    assert found["grpo"]["weight_hard"] == pytest.approx(1)
    assert found["grpo"]["weight_easy"] == pytest.approx(1)
    for name, harder in (("positive_dominant", 1), ("negative_dominant", -1)):
        gap = found[name]["weight_hard"] - found[name]["weight_easy"]
        assert gap * harder > 0
    assert found["hard"]["weight_hard"] > 1.2 * found["hard"]["weight_easy"]


def test_metrics_of_arrays_that_do_not_fit_are_said():
    a = np.zeros((2, 3))
    with pytest.raises(ValueError, match="and success"):
        advantage_metrics(a, a[:1])
    with pytest.raises(ValueError, match="give \\(B, G\\)"):
        advantage_metrics(a[0], a[0])
    with pytest.raises(ValueError, match="2 labels for 6 advantages"):
        advantage_metrics(a, a, [0, 1])
    with pytest.raises(ValueError, match="2 of valid for 6 advantages"):
        advantage_metrics(a, a, valid=[True, False])
    with pytest.raises(ValueError, match="omega is a function: give what it returned"):
        advantage_metrics(a, a, omega=SmoothedOmega())


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_are_of_successes_and_not_of_rewards(kind):
    """Rewards of -1 and 1 would have all-wrong groups at p = -1."""
    r = binary(6, 4)
    a = estimate(r, "agrae", omega=0.5)
    for rewards in (2 * r - 1, 0.5 * r, 0.9 * r + 0.1):
        for found in (advantage_metrics, group_weights):
            with pytest.raises(ValueError, match="success has values other than 0"):
                found(kind(a), kind(rewards))
    told = advantage_metrics(kind(a), kind(r > 0), omega=kind([[0.2], [0.4]]))
    assert told["omega"] == pytest.approx(0.3)
    unknown = np.where(np.arange(24) < 4, np.nan, r.ravel())  # said nothing about
    labels, valid = np.arange(24) // 4, np.arange(24) >= 4
    found = advantage_metrics(a.ravel(), kind(unknown), labels, valid=kind(valid))
    assert found == pytest.approx(advantage_metrics(a[1:], r[1:]))
