"""Advantages of whole numbers, exactly, and a success that nothing fails."""

import warnings

import numpy as np
import pytest
import torch

from symlab.rlvr import ESTIMATORS, advantages, compose, grouped_advantages

PAIRS = [(2**20, 2**20 + 1), (2**24, 2**24 + 1), (10**9, 10**9 + 64)]
PAIRS += [(2**53 - 1, 2**53), (-(2**53), 1 - 2**53)]


def as_array(r):
    return np.array(r, np.int64)


@pytest.mark.parametrize("kind", [as_array, torch.tensor, list])
@pytest.mark.parametrize("pair", PAIRS)
def test_integers_are_exact_in_numpy_and_in_torch(pair, kind):
    a = advantages(kind([pair]), "grpo")
    assert a.tolist() == [[-1.0, 1.0]]
    half = (pair[1] - pair[0]) / 2
    assert advantages(kind([pair]), "dr_grpo").tolist() == [[-half, half]]
    assert grouped_advantages(kind(pair), [0, 0]).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_large_integers_have_the_advantages_of_their_differences(name):
    small = np.array([[0, 1, 1, 3], [2, 0, 0, 5], [7, 7, 7, 7]])
    large = small + 10**12
    by_batch = name in ("ddas", "ass", "agrae", "agrae_released")
    given = {"omega": 0.3} if by_batch else {"k": 2} if name == "pkpo" else {}
    expected = advantages(small, name, success=2, **given)
    found = advantages(large, name, success=10**12 + 2, **given)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    found = advantages(torch.tensor(large), name, success=10**12 + 2, **given)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    labels = np.repeat([3, 1, 2], 4)
    found = grouped_advantages(
        large.reshape(-1), labels, name, success=lambda r: r >= 10**12 + 2, **given
    )
    np.testing.assert_allclose(found, expected.reshape(-1), rtol=1e-12)


def test_integers_that_float64_does_not_hold_are_refused():
    for r in (np.array([[2**53 + 2, 1]]), torch.tensor([[-(2**63), 1]])):
        with pytest.raises(ValueError, match=r"above 2\*\*53"):
            advantages(r)


def test_near_integers_are_refused_where_the_estimator_is_ones_own():
    r = torch.tensor([[10**9, 10**9 + 1]])
    with pytest.raises(ValueError, match="subtract a constant"):
        advantages(r, compose(normalise="grpo"))
    mix = compose(normalise="none")
    assert advantages(torch.tensor([[4000, 5000]]), mix).tolist() == [[4000, 5000]]


def test_the_tolerances_of_floats_are_those_that_are_documented():
    near = np.array([[1e8 + 0.1, 1e8 + 0.3, 1e8 + 0.1]])  # no numbers of float32
    equal = np.array([[1e8, 1e8 + 8, 1e8]])  # all of them float32's
    for kind in (np.array, torch.tensor):
        assert advantages(kind(near)).any()
        assert not advantages(kind(near) + 1e14).any()
        assert not advantages(kind(equal)).any()
    assert advantages(torch.tensor([[1e-9, 0.0]], dtype=torch.float64)).any()


REWARDS = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0]])
LABELS = [0] * 4 + [1] * 4


def zero_or_more(r):
    return r >= 0


@pytest.mark.parametrize("size", [1.0, 2000])  # floats, and integers above 1024
@pytest.mark.parametrize("success", [0, 0.0, zero_or_more])
def test_a_success_that_nothing_fails_is_warned_of(success, size):
    rewards = REWARDS * size if size == 1 else (REWARDS * size).long()
    said = f"all 8 rollouts succeed .* from 0 to {size:g}"
    with pytest.warns(UserWarning, match=said) as told:
        advantages(rewards, "hard", success=success)
    assert told[0].filename == __file__  # whose call it is about
    with pytest.warns(UserWarning, match=said) as told:
        grouped_advantages(rewards.reshape(-1), LABELS, "hard", success=success)
    assert told[0].filename == __file__


def test_no_warning_where_successes_are_such():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        advantages(2 * REWARDS - 1, "hard", success=0)
        advantages(0.9 + 0.1 * REWARDS, "hard", success=0.9)  # all right, and graded
        advantages(REWARDS * 0, "hard", success=0)  # equal
        advantages(REWARDS, "grpo", success=0)  # which does not ask for it
        advantages(REWARDS, "hard", success=torch.ones(2, 4))  # by something else
        valid = REWARDS.reshape(-1) > 0
        for r in (REWARDS.reshape(-1), 2000 * REWARDS.reshape(-1).long()):
            grouped_advantages(r, LABELS, "hard", valid=valid, success=0)
