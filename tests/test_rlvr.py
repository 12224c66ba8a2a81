"""rlvr: exact algebra, scipy, fractions, the published formulas of verl and TRL."""

import subprocess
import sys
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from symlab import rlvr
from symlab.rlvr import advantages as estimate
from symlab.rlvr import clipped_objective, pass_at_k, pass_at_k_exact, tasks, theory
from symlab.rlvr.advantages import ESTIMATORS
from symlab.rlvr.programs import ZERO, values

ALONE = ("psr", "nsr", "w_reinforce", "reinforce_pp")
RELATIVE = tuple(name for name in ESTIMATORS if name not in ALONE)
REAL = ("grpo", "dapo", "dr_grpo", "positive_dominant", "negative_dominant", "rloo")
OF_BATCH = ("reinforce_pp", "reinforce_pp_baseline")
REAL += OF_BATCH
KINDS = (np.asarray, torch.tensor)
SMALL = pytest.mark.filterwarnings("ignore:omega is the mean success of")


def binary(rows=40, group=8, seed=0, p=0.4) -> np.ndarray:
    """(B, G) rewards 0 and 1, with all-wrong and all-correct groups among them."""
    r = (np.random.default_rng(seed).random((rows, group)) < p).astype(float)
    r[0], r[1] = 0, 1
    return r


def close(found, true, tolerance=1e-12):
    np.testing.assert_allclose(
        np.asarray(found), np.asarray(true), tolerance, tolerance
    )


# --- advantages ----------------------------------------------------------------------


def by_hand(name, r, omega):
    """One reward at a time, from the paper's formulas."""
    a = np.zeros_like(r)
    for b, i in np.ndindex(*r.shape):
        p, mean = r[b].mean(), r[b].mean()
        std = np.sqrt(p * (1 - p))
        if name == "reinforce_pp":
            a[b, i] = (r[b, i] - r.mean()) / r.std()
            continue
        if name in ALONE:
            weights = {"psr": (1, 0), "nsr": (0, -1), "w_reinforce": (0.1, -1)}
            a[b, i] = weights[name][0 if r[b, i] else 1]
            continue
        if std == 0:
            continue
        a[b, i] = r[b, i] - mean
        if name == "rloo":
            a[b, i] = r[b, i] - np.delete(r[b], i).mean()
        elif name == "reinforce_pp_baseline":
            a[b, i] /= (r - r.mean(1, keepdims=True)).std()
        elif name == "pkpo":
            a[b, i] = by_subsets(r[b], i, k=4)
        elif name != "dr_grpo":
            a[b, i] /= std
        up = r[b, i] == 1
        a[b, i] *= {"positive_dominant": 10, "negative_dominant": 0.1}.get(
            name, 1
        ) ** int(up)
        if name == "hard":
            a[b, i] *= 0.5 / np.sqrt(p)
        if name == "easy":
            a[b, i] *= 0.5 / np.sqrt(1 - p)
        if name in ("ddas", "agrae"):
            a[b, i] *= omega / 2 / np.sqrt(p) + (1 - omega) / 2 / np.sqrt(1 - p)
        if name in ("ass", "agrae") and up:
            a[b, i] *= min(1, omega)
    return a


def by_subsets(r, i, k):
    """PKPO's s^(loo) times G: the best of k with rollout i, less the best of k without.

    All subsets of a group r (G,), arXiv 2505.15201: the mean over those of size k that
    hold i, less that over those of size k that do not.
    """
    every = [set(s) for s in combinations(range(len(r)), k)]
    best = {
        held: np.mean([max(r[j] for j in s) for s in every if (i in s) == held])
        for held in (True, False)
    }
    return k * (best[True] - best[False])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [n for n in ESTIMATORS if n != "agrae_released"])
def test_estimators_are_the_papers_formulas(name, kind):
    r = binary()
    found = estimate(kind(r), name)
    assert isinstance(found, type(kind(r)))
    close(found, by_hand(name, r, r.mean()))
    close(estimate(kind(r), name, omega=0.3), by_hand(name, r, 0.3))
    close(ESTIMATORS[name](kind(r)), found)


def test_grpo_is_scipys_zscore_and_torchs_std_as_in_verl_and_trl():
    r = np.random.default_rng(1).normal(size=(30, 8))
    close(estimate(r), scipy.stats.zscore(r, axis=1))
    x = torch.tensor(r)
    for std, epsilon in (("verl", 1e-6), ("trl", 1e-4)):
        expected = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + epsilon)
        close(estimate(x, "grpo", std=std), expected)
        close(estimate(r, "dapo", std=std), expected)


def test_agrae_released_is_the_arithmetic_of_its_code():
    """The branch `grpo_weight == 2.0` of the authors' core_algos, as it reads."""
    r = torch.tensor(binary())
    omega, expected = r.mean(), torch.zeros_like(r)
    for b, i in np.ndindex(*r.shape):
        score = (r[b, i] - r[b].mean()) / (r[b].std() + 1e-6)
        root = r[b].mean().sqrt()
        focus_hard, focus_easy = (
            0.5 * score / (root + 1e-6),
            0.5 * score / (1 - root + 1e-6),
        )
        score = (1 - omega) * focus_easy + omega * focus_hard
        expected[b, i] = score * min(1, omega) if score > 0 else score
    close(estimate(r, "agrae_released"), expected)


def test_sums_of_agrae_by_success_rate_are_the_published_ones():
    found = theory.update_size("agrae", 8)[1:8]
    expected = [3.87, 4.10, 4.21, 4.24, 4.21, 4.10, 3.87]
    assert found.round(2).tolist() == expected
    found = theory.update_size("agrae_released", 8, std="population")[1:8]
    expected = [4.34, 5.20, 6.12, 7.24, 8.77, 11.20, 16.42]
    assert found.round(2).tolist() == expected


def test_hard_and_easy_sum_to_the_papers_roots():
    p = np.arange(1, 8) / 8
    close(theory.update_size("hard", 8)[1:8], 8 * np.sqrt(1 - p))
    close(theory.update_size("easy", 8)[1:8], 8 * np.sqrt(p))


def test_agrae_on_the_dr_grpo_base_scales_its_advantage():
    r = binary()
    std = r.std(1, keepdims=True)
    found = estimate(r, "agrae", base="dr_grpo", alpha=0.5)
    close(found, std * estimate(r, "agrae", alpha=0.5))
    weaker = estimate(r, "agrae", alpha=1.0)[r == 1]
    assert (abs(weaker) <= abs(estimate(r, "agrae", alpha=0.5)[r == 1])).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", RELATIVE)
def test_equal_groups_have_exactly_no_advantage_and_nothing_is_nan(name, dtype):
    for group in (2, 3, 7, 64):
        if name == "pkpo" and group < 5:  # k = 4
            continue
        every = torch.arange(group) < torch.arange(group + 1)[:, None]
        for omega in (0.0, 0.37, 1.0):
            found = estimate(every.to(dtype), name, omega=omega)
            assert found.dtype == dtype
            assert found.isfinite().all()
            assert not found[[0, -1]].any()
            assert found[1:-1].any() or name in ("ass", "agrae", "ddas")
    if name in REAL:
        r = torch.tensor([[0.1] * 7, [1 / 3] * 7, [-1e30] * 7], dtype=dtype)
        if name == "reinforce_pp_baseline":
            r = r[:2]
        assert not estimate(r, name).any()
        assert not estimate(np.full((2, 10), 0.7), name).any()


def test_small_differences_of_rewards_are_standardised_and_rounding_is_not():
    r = np.array([[1e-6, 0.0, 0.0, 1e-6]])
    close(estimate(r), [[1, -1, -1, 1]])
    assert not estimate(1e-200 * r).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_rewards_are_left_alone_and_integers_are_floats(name, kind):
    whole = kind(binary().astype(np.int64))
    r = kind(binary())
    before = np.array(r)
    found = estimate(r, name)
    found += 1.0
    close(r, before, 0)
    close(estimate(whole, name), found - 1.0, 1e-5)


def test_omega_can_be_given_for_each_of_several_batches():
    first, second = binary(seed=1), binary(seed=2, p=0.8)
    omega = np.repeat([first.mean(), second.mean()], len(first))[:, None]
    both = np.concatenate([first, second])
    for name in ("ddas", "ass", "agrae", "agrae_released"):
        alone = np.concatenate([estimate(first, name), estimate(second, name)])
        close(estimate(both, name, omega=omega), alone)


def test_groups_can_be_given_by_name_in_any_order():
    r = binary()
    order = np.random.default_rng(0).permutation(r.size)
    names = np.repeat([f"prompt {b}" for b in range(len(r))], 8)[order]
    expected = estimate(r, "agrae").ravel()[order]
    for kind in KINDS:
        flat = kind(r.ravel()[order])
        close(rlvr.grouped_advantages(flat, names, "agrae"), expected)


@SMALL
@pytest.mark.parametrize("name", [n for n in ESTIMATORS if n not in OF_BATCH])
def test_groups_may_be_unequal_and_rollouts_left_out(name):
    """As each group alone, at the mean reward of all that count."""
    sizes, draws = (4, 2, 1, 4, 3, 1, 5, 2), np.random.default_rng(6)
    groups = [draws.integers(0, 2, n).astype(float) for n in sizes]
    groups[0][:2] = 0, 1
    omega = np.concatenate(groups[:-1]).mean()
    k = [{"k": min(4, max(1, n - 1))} if name == "pkpo" else {} for n in sizes]
    alone = [
        estimate(np.stack([r, r]) if len(r) > 1 else [[*r, *r]], name, omega=omega, **o)
        for r, o in zip(groups, k, strict=True)
    ]
    expected = np.concatenate([a[0][:n] for a, n in zip(alone, sizes, strict=True)])
    expected[-2:] = 0
    labels = np.repeat(np.arange(8), sizes)
    rewards, valid = np.concatenate(groups), labels < 7
    rewards[-2:] = np.nan, 0.5  # they do not count
    order = draws.permutation(len(rewards))
    for kind in KINDS:
        found = rlvr.grouped_advantages(
            kind(rewards[order]), labels[order], name, valid=valid[order]
        )
        close(found, expected[order])
    nothing = rlvr.grouped_advantages([0.5, 1.0], [0, 0], name, valid=[False] * 2)
    assert nothing.tolist() == [0, 0]
    one = rlvr.grouped_advantages([1.0, 1.0], [0, 0], name, valid=[True, False])
    assert one[0] == (estimate([[1.0]], name)[0, 0] if name in ALONE else 0)
    assert one[1] == 0


@SMALL
def test_groups_by_name_that_cannot_be_used_are_said():
    with pytest.raises(ValueError, match="groups of one have no baseline"):
        rlvr.grouped_advantages([0.0, 1.0], ["a", "b"], "agrae")
    with pytest.raises(ValueError, match="give one of each to a rollout"):
        rlvr.grouped_advantages([0.0, 1, 1], ["a", "b"])
    with pytest.raises(ValueError, match="give one of each to a rollout"):
        rlvr.grouped_advantages([0.0, 1], ["a", "a"], valid=[True])
    with pytest.raises(ValueError, match="omega has shape"):
        rlvr.grouped_advantages([0.0, 1], ["a", "a"], "ass", omega=[[0.5]])


# --- theorems ------------------------------------------------------------------------


def softmax(n=9, seed=0) -> np.ndarray:
    return scipy.special.softmax(np.random.default_rng(seed).normal(size=n))


def test_symmetric_estimators_sum_to_zero_and_dominant_ones_do_not():
    r = binary()
    mixed = (r.std(1) > 0)[:, None]
    for name in ("grpo", "dapo", "dr_grpo", "hard", "easy", "ddas"):
        a = estimate(r, name)
        assert abs(a.sum(1)).max() < 1e-12
        close((a * r).sum(1), -(a * (1 - r)).sum(1))
    assert (estimate(r, "positive_dominant").sum(1) > 0)[mixed[:, 0]].all()
    for name in ("negative_dominant", "ass", "agrae"):
        assert (estimate(r, name).sum(1) < 0)[mixed[:, 0]].all()


def test_weights_of_length_make_directions_differ():
    """Where tokens weigh alike, estimators change the size of an expected update."""
    pi, correct = softmax(4), np.array([1.0, 0, 1, 0])
    samples = np.array(list(product(range(4), repeat=4)))
    chance = pi[samples].prod(1)

    def direction(name, weights):
        a = estimate(correct[samples], name, omega=0.5) * weights[samples]
        moved = chance @ theory.logit_motion(pi, samples, a)
        return moved / np.linalg.norm(moved)

    for weights, alike in ((np.ones(4), True), (1 / np.arange(1, 5), False)):
        cosine = direction("grpo", weights) @ direction("positive_dominant", weights)
        assert (cosine > 1 - 1e-12) == alike


@pytest.mark.parametrize("kind", KINDS)
def test_theorem_1_is_the_gradient_of_the_objective(kind):
    pi, rng = softmax(), np.random.default_rng(3)
    samples, a = rng.integers(0, 9, (5, 6)), rng.normal(size=(5, 6))
    found = theory.logit_motion(kind(pi), kind(samples), kind(a), eta=0.7)
    changed = theory.log_probability_motion(kind(pi), kind(samples), kind(a), eta=0.7)
    for g in range(5):
        h = torch.tensor(np.log(pi), requires_grad=True)
        value = (h.log_softmax(0)[samples[g]] * torch.tensor(a[g])).sum()
        (gradient,) = torch.autograd.grad(value, h)
        close(found[g], 0.7 * gradient)
        _, moved = torch.func.jvp(
            lambda h: h.log_softmax(0), (h.detach(),), (0.7 * gradient,)
        )
        close(changed[g], moved)


@SMALL
def test_theorem_1_unsampled_logits_rest_where_the_group_is_symmetric():
    pi, samples = softmax(), np.array([0, 1, 1, 4, 5, 5, 2, 2])
    unsampled = [3, 6, 7, 8]
    r = np.array([[1.0, 0, 0, 0, 1, 1, 0, 0]])
    for name in ("grpo", "dr_grpo", "dapo"):
        dh = theory.logit_motion(pi, samples, estimate(r, name)[0])
        assert abs(dh[unsampled]).max() < 1e-12 < abs(dh).max()
    for name, sign in (("positive_dominant", -1), ("agrae", 1)):
        a = estimate(r, name)[0]
        dh = theory.logit_motion(pi, samples, a)
        close(dh[unsampled], -a.sum() * pi[unsampled])
        assert (sign * dh[unsampled] > 0).all()
    # limit (i): of the logits, not of the probabilities
    a = estimate(r, "agrae")[0]
    moved = theory.log_probability_motion(pi, samples, a)
    expected = -a.sum() * (pi - (pi**2).sum()) - (a * pi[samples]).sum()
    close(moved[unsampled], expected[unsampled])


def test_theorem_2_is_the_sum_of_absolute_advantages():
    for group in (2, 5, 8, 64):
        p = np.arange(group + 1) / group
        close(theory.update_size("grpo", group), theory.magnitude(p, group))
        close(theory.update_size("dapo", group), theory.magnitude(p, group))
    assert theory.update_size("grpo", 8).argmax() == 4


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_expected_motion_has_the_direction_of_no_estimator(name):
    """All 4^6 groups, against the binomial: every method reweights one direction."""
    pi, correct = softmax(4), np.array([1, 0, 1, 0])
    given = {"batch": rlvr.parts.Batch(0.4, 0.5, 0.3)} if name in OF_BATCH else {}
    left, right = theory.expected_motion(
        pi, correct, 6, name, omega=0.3, eta=0.5, **given
    )
    close(left, right)
    assert abs(left).max() > 1e-3


def test_the_printed_expectation_is_the_limit_of_large_groups():
    p = np.array([0.1, 0.3, 0.5, 0.9])
    for name, scale in (("grpo", 1), ("positive_dominant", 10), ("ass", 0.4)):
        gaps = []
        for group in (8, 64, 512):
            exact = theory.update_weight(p, group, name, omega=0.4)
            k = np.arange(group + 1)
            chance = scipy.stats.binom.pmf(k, group, p[:, None])
            root = chance @ np.sqrt(k / group * (1 - k / group))
            close(exact, group * root * (scale * (1 - p) + p), 1e-10)
            limit = theory.large_group_weight(p, group, scale)
            gaps.append(abs(exact / limit - 1).max())
        assert gaps[0] > 0.1 > gaps[1] > 0.01 > gaps[2]


# --- objective -----------------------------------------------------------------------


def tokens(n=6, t=5, seed=0, spread=0.5):
    """logp, old_logp, advantages, mask of unequal lengths, one sequence empty."""
    g = torch.Generator().manual_seed(seed)
    logp = -torch.rand(n, t, generator=g, dtype=torch.float64) * 3
    old = logp + spread * torch.randn(n, t, generator=g, dtype=torch.float64)
    a = torch.randn(n, generator=g, dtype=torch.float64)
    mask = torch.arange(t) < torch.tensor([5, 1, 3, 0, 4, 5])[:n, None]
    return logp, old, a, mask


def looped(logp, old, a, mask, low, high, dual, how, length):
    """The objective token by token, in python."""
    sums, counts, stats = [], [], np.zeros(3)
    for i in range(len(logp)):
        total, count = 0.0, 0
        for t in range(logp.shape[1]):
            if not mask[i, t]:
                continue
            rho, ai = float((logp[i, t] - old[i, t]).exp()), float(a[i])
            gain = min(rho * ai, min(max(rho, 1 - low), 1 + high) * ai)
            if dual and ai < 0:
                stats[2] += gain < dual * ai
                gain = max(gain, dual * ai)
            stats += [ai < 0 and rho < 1 - low, ai > 0 and rho > 1 + high, 0]
            total, count = total - gain, count + 1
        sums.append(total)
        counts.append(count)
    if how == "sequence":
        loss = np.mean([s / max(c, 1) for s, c in zip(sums, counts, strict=True)])
    else:
        loss = sum(sums) / (sum(counts) if how == "token" else len(logp) * length)
    return loss, stats / sum(counts)


@pytest.mark.parametrize("dual", [None, 3.0])
@pytest.mark.parametrize("how", ["sequence", "token", "constant"])
def test_the_objective_is_its_loop(how, dual):
    logp, old, a, mask = tokens(spread=1.0)
    options = {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": dual}
    found, stats = clipped_objective(
        logp, old, a, mask, normalisation=how, max_length=7, **options
    )
    expected, fractions = looped(logp, old, a, mask, 0.2, 0.28, dual, how, 7)
    assert float(found) == pytest.approx(expected, rel=1e-12)
    clips = [float(stats[name]) for name in ("clip_low", "clip_high", "clip_dual")]
    close(clips, fractions)
    assert min(clips[:2]) > 0.05
    assert (clips[2] > 0) == (dual is not None)
    d = (logp - old)[mask]
    close(stats["approx_kl"], (d.exp() - 1 - d).mean())
    close(stats["approx_kl_k1"], -d.mean())
    close([stats["ratio"], stats["ratio_max"]], [d.exp().mean(), d.exp().max()])


def test_on_policy_its_gradient_is_reinforce():
    logp, _, a, mask = tokens()
    for how in ("sequence", "token", "constant"):
        x = logp.clone().requires_grad_()
        loss, stats = clipped_objective(
            x, logp, a, mask, normalisation=how, max_length=5
        )
        weight = {
            "sequence": 1 / mask.sum(1).clamp(min=1).double() / 6,
            "token": torch.full((6,), 1 / int(mask.sum()), dtype=torch.float64),
            "constant": torch.full((6,), 1 / 30, dtype=torch.float64),
        }[how]
        (gradient,) = torch.autograd.grad(loss, x)
        close(gradient, -(a * weight)[:, None] * mask)
        assert not stats["clip_low"] + stats["clip_high"] + stats["approx_kl"]
        assert not stats["ratio"].requires_grad


def test_clipped_tokens_have_no_gradient_and_the_others_have():
    logp, old, a, mask = tokens(spread=1.0)
    x = logp.clone().requires_grad_()
    loss, _ = clipped_objective(x, old, a, mask, dual_clip=3.0)
    (gradient,) = torch.autograd.grad(loss, x)
    rho, a = (logp - old).exp(), a[:, None]
    clipped = (rho < 0.8) & (a < 0) | (rho > 1.2) & (a > 0) | (rho > 3) & (a < 0)
    assert ((gradient != 0) == (mask & ~clipped)).all()
    assert (mask & clipped).any()


def test_what_the_mask_leaves_out_may_be_anything():
    logp, old, a, mask = tokens()
    expected, _ = clipped_objective(logp, old, a, mask)
    spoilt = torch.where(mask, logp, float("nan")).requires_grad_()
    padded = torch.where(mask, old, -float("inf"))
    loss, stats = clipped_objective(spoilt, padded, a, mask.double())
    assert loss.item() == expected.item()
    assert all(value.isfinite() for value in stats.values())
    (gradient,) = torch.autograd.grad(loss, spoilt)
    assert gradient.isfinite().all()
    far = logp.float() + 1e4  # a ratio beyond float32
    far.requires_grad_()
    loss, _ = clipped_objective(far, old.float(), a.float(), mask)
    (gradient,) = torch.autograd.grad(loss, far)
    assert loss.isfinite()
    assert gradient.isfinite().all()


# --- pass@k --------------------------------------------------------------------------


def test_pass_at_k_is_the_ratio_of_binomials():
    n, c, k = (x.ravel() for x in np.meshgrid(range(1, 13), range(13), range(1, 13)))
    fit = (c <= n) & (k <= n)
    n, c, k = n[fit], c[fit], k[fit]
    exact = [
        1 - Fraction(scipy.special.comb(i - j, m, exact=True)) / _ways(i, m)
        for i, j, m in zip(n.tolist(), c.tolist(), k.tolist(), strict=True)
    ]
    close(pass_at_k(n, c, k), [float(x) for x in exact])
    found = pass_at_k(torch.tensor(n), torch.tensor(c), torch.tensor(k))
    assert found.dtype == torch.float64
    close(found, pass_at_k(n, c, k))


def _ways(n, k) -> int:
    return scipy.special.comb(n, k, exact=True)


@pytest.mark.parametrize(
    ("n", "c", "k"),
    [(256, 1, 1), (256, 3, 64), (256, 100, 128), (256, 255, 1), (10_000, 7, 5_000)]
    + [
        (10_000, 400, 500),
        (10_000, 600, 600),
        (1_000_000, 1, 1),
        (1_000_000, 3000, 3000),
    ]
    + [(1_000_000, 999_999, 1), (1_000_000, 1, 999_999)],
)
def test_pass_at_k_keeps_its_digits_for_many_samples(n, c, k):
    few, many = sorted((c, k))  # C(n-c, k) / C(n, k) is symmetric in c and k
    top, bottom = 1, 1
    for i in range(few):
        top, bottom = top * (n - many - i), bottom * (n - i)
    expected = float(1 - Fraction(top, bottom))
    assert float(pass_at_k(n, c, k)) == pytest.approx(expected, rel=1e-12, abs=0)


def test_pass_at_k_is_unbiased_and_exact_from_p():
    p = np.array([0.0, 1e-12, 0.01, 0.3, 1.0])
    for k in (1, 4, 16):
        c = np.arange(17)
        chance = scipy.stats.binom.pmf(c, 16, p[:, None])
        close(chance @ pass_at_k(16, c, k), pass_at_k_exact(p, k), 1e-10)
    assert float(pass_at_k_exact(1e-20, 5)) == pytest.approx(5e-20, abs=0)
    close(pass_at_k_exact(torch.tensor(p), 7), pass_at_k_exact(p, 7))
    close(pass_at_k(16, np.arange(17), 1), np.arange(17) / 16)


# --- tasks ---------------------------------------------------------------------------

TASKS = (rlvr.RuleWithExceptions(), rlvr.Countdown(), rlvr.Countdown(count=4))


def problems(task, prompts) -> set:
    """What two prompts must not share: for countdown the order does not matter."""
    rows = prompts.tolist()
    if isinstance(task, rlvr.Countdown):
        n = task.count
        rows = [sorted(row[:n]) + row[n:] for row in rows]
    return {tuple(row) for row in rows}


@pytest.mark.parametrize("task", TASKS)
def test_prompts_are_distinct_and_splits_share_none(task):
    train, again = (task.prompts(0, 600, "train") for _ in range(2))
    assert (train == again).all()
    assert train.shape == (600, task.prompt_length)
    assert 0 <= train.min() <= train.max() < len(task.vocabulary)
    seen = problems(task, train)
    assert len(seen) == 600
    for seed in (0, 1):
        assert not seen & problems(task, task.prompts(seed, 600, "test"))
    assert problems(task, task.prompts(1, 600, "train")) != seen


@pytest.mark.parametrize("task", TASKS)
def test_demonstrations_are_right_but_for_the_noise(task):
    prompts = task.prompts(0, 600, "train")
    clean = task.demonstration(prompts, np.random.default_rng(0), 0.0)
    assert clean.shape == (600, task.completion_length)
    assert task.reward(prompts, clean).tolist() == [1.0] * 600
    noisy = task.demonstration(prompts, np.random.default_rng(0), 0.5)
    rule = isinstance(task, rlvr.RuleWithExceptions)
    expected = (0.5 + 0.5 / 12) ** 2 if rule else 0.5
    assert task.reward(prompts, noisy).mean() == pytest.approx(expected, abs=0.07)
    groups = np.stack([clean, noisy, noisy], 1)  # (B, G, T)
    r = task.reward(prompts, groups)
    assert (r[:, 0] == 1).all()
    assert (r[:, 1] == task.reward(prompts, noisy)).all()
    assert (task.lengths(groups)[:, 0] == task.lengths(clean)).all()


def test_the_rule_and_its_exceptions():
    task = rlvr.RuleWithExceptions()
    prompts = task.prompts(0, 5000, "train")
    x, answers, odd = prompts[:, :4], task.answers(prompts), task.is_exception(prompts)
    rule = np.stack([x[:, 0] + x[:, 1], x[:, 2] + 2 * x[:, 3]], 1) % 12
    assert odd.mean() == pytest.approx(0.25, abs=0.025)
    assert (answers[~odd] == rule[~odd]).all()
    assert (answers[odd] != rule[odd]).all()
    shift = (answers - rule)[odd] % 12
    assert scipy.stats.chisquare(np.bincount(shift.ravel())[1:]).pvalue > 1e-3
    assert abs(np.corrcoef(shift.T)[0, 1]) < 0.1
    y = task.demonstration(prompts, np.random.default_rng(0), 0.0)
    free = [j for j in range(task.completion_length) if j not in task.positions]
    y[:, free] = 12  # work tokens are free
    assert task.reward(prompts, y).all()
    for j in task.positions:
        wrong = y.copy()
        wrong[:, j] = (wrong[:, j] + 1) % 12
        assert not task.reward(prompts, wrong).any()


def test_hashes_are_splitmix64():
    """Published first outputs of its generator, seeds 0 and 1234567."""
    found = tasks._mixed(np.array([0, 1234567]))
    assert found.tolist() == [0xE220A8397B1DCDAF, 6457827717110365317]


def executed(words: list[str], numbers: list[int]):
    """The value of a postfix program by Fractions, None if it is none."""
    stack, left = [], list(numbers)
    for word in words:
        if word == ".":
            return stack[0] if len(stack) == 1 else None
        if word in "+-*/":
            if len(stack) < 2 or (word == "/" and stack[-1] == 0):
                return None
            b, a = stack.pop(), stack.pop()
            ops = {"+": a + b, "-": a - b, "*": a * b}
            stack.append(ops[word] if word in ops else a / b)
        elif word.isdigit() and int(word) in left:
            left.remove(int(word))
            stack.append(Fraction(int(word)))
        else:
            return None
    return None


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_executor_is_exact_arithmetic_on_any_tokens(count):
    task, rng = rlvr.Countdown(count), np.random.default_rng(count)
    prompts = task.prompts(0, 60, "train")
    y = rng.integers(0, len(task.vocabulary), (60, 20, task.completion_length))
    programs, _ = task.programs(prompts)
    some = programs[:, rng.integers(0, programs.shape[1], 20)].copy()
    place = (*np.ogrid[:60, :10], rng.integers(0, task.completion_length, (60, 10)))
    some[place] = y[:, :10, 0]  # half of them with one token replaced
    y = np.concatenate([y, some], 1)
    top, bottom = task.value(prompts, y)
    reward, valued = task.reward(prompts, y), 0
    for b, i in product(range(60), range(y.shape[1])):
        numbers = [int(task.vocabulary[t]) for t in prompts[b, :count]]
        tens, ones = (int(task.vocabulary[t]) for t in prompts[b, count : count + 2])
        value = executed([task.vocabulary[t] for t in y[b, i]], numbers)
        assert (value is None) == (bottom[b, i] == 0)
        if value is not None:
            valued += 1
            assert Fraction(int(top[b, i]), int(bottom[b, i])) == value
        assert reward[b, i] == (value == 10 * tens + ones)
    assert valued > 600


@pytest.mark.parametrize("count", [2, 3, 4])
def test_all_programs_are_found_and_judged_as_the_executor_does(count):
    task = rlvr.Countdown(count)
    prompts = task.prompts(0, 20, "test")
    programs, right = task.programs(prompts)
    assert (task.reward(prompts, programs) == right).all()
    assert right.any(1).all()
    top, bottom = task.value(prompts, programs)
    found, over = values(prompts[:, :count] - ZERO)
    assert ((over == 0) == (bottom == 0)).all()
    assert (found * bottom == top * over)[bottom != 0].all()
    assert (bottom == 0).any() == (count > 2)
    # operands, orders, shapes (Catalan), operators: sum over k >= 2 of them
    shapes = {2: 1, 3: 2, 4: 5}
    total = sum(
        scipy.special.perm(count, k, exact=True) * shapes[k] * 4 ** (k - 1)
        for k in range(2, count + 1)
    )
    distinct = [row for row in prompts if len(set(row[:count])) == count]
    which = [list(map(tuple, prompts.tolist())).index(tuple(distinct[0]))][0]
    assert len({tuple(p) for p in programs[which].tolist()}) == total
    assert (task.lengths(programs) <= 2 * count).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    draws = torch.Generator().manual_seed(0)
    logp, old = (-3 * torch.rand(64, 2000, generator=draws).to(dtype) for _ in "ab")
    logp[0, 0], old[0, 0] = 0, -30
    mask, a = torch.ones(64, 2000), torch.randn(64, generator=draws).to(dtype)
    logp.requires_grad_()
    found, stats = clipped_objective(logp, old, a, mask, dual_clip=2.3)
    single = (x.float() for x in (logp, old, a))
    true, expected = clipped_objective(*single, mask, dual_clip=2.3)
    assert found == true
    assert stats == expected
    assert all(torch.isfinite(x) for x in stats.values())
    found.backward()
    assert logp.grad.dtype == dtype


# --- without torch -------------------------------------------------------------------


def test_importing_rlvr_does_not_load_torch():
    code = (
        "import sys, symlab.rlvr, symlab.rlvr.theory, symlab.rlvr.trl\n"
        "import symlab.rlvr.verl\n"
        "symlab.rlvr.advantages([[0, 1]], 'agrae'); symlab.rlvr.pass_at_k(4, 2, 1)\n"
        "assert 'torch' not in sys.modules and 'trl' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- errors --------------------------------------------------------------------------


@SMALL
@pytest.mark.parametrize("kind", KINDS)
def test_bad_rewards_are_one_sentence(kind):
    r = kind([[0.0, 1.0], [1.0, 1.0]])
    with pytest.raises(ValueError, match=r"'agrea'.*did you mean 'agrae'"):
        estimate(r, "agrea")
    with pytest.raises(ValueError, match="no option 'beta': use omega, alpha, base"):
        estimate(r, "agrae", beta=2.0)
    for name in RELATIVE:
        with pytest.raises(ValueError, match="groups of one"):
            estimate(r[:, :1], name)
    for name in ESTIMATORS:
        for bad in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="1 rewards are not finite"):
                estimate(kind([[0.0, bad]]), name)
        with pytest.raises(ValueError, match=r"give \(B, G\)"):
            estimate(r[0], name)
        if name not in REAL:
            with pytest.raises(ValueError, match="and 3 are others, such as 2:"):
                estimate(2 * r, name)
    assert estimate(r[:, :1], "nsr").tolist() == [[-1.0], [0.0]]
    with pytest.raises(ValueError, match="there is no rollout"):
        estimate(r[:0])
    with pytest.raises(ValueError, match="unknown std 'sample'"):
        estimate(r, std="sample")
    with pytest.raises(ValueError, match="unknown base 'ppo'"):
        estimate(r, "agrae", base="ppo")
    for omega in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match="is no mean of rewards"):
            estimate(r, "agrae", omega=omega)
    with pytest.raises(ValueError, match=r"omega has shape \(3,\)"):
        estimate(r, "agrae", omega=[0.1, 0.2, 0.3])
    for name, option in (("agrae", "alpha"), ("hard", "gamma")):
        with pytest.raises(ValueError, match=f"{option} = 0 is no scale"):
            estimate(r, name, **{option: 0})
    for weight in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="is no weight"):
            estimate(r, "w_reinforce", weight=weight)
    close(estimate(r, "w_reinforce", weight=0), estimate(r, "nsr"))


def test_other_bad_input_is_one_sentence():
    x, a, mask = torch.zeros(2, 3), torch.zeros(2), torch.ones(2, 3)
    with pytest.raises(ValueError, match="unknown normalisation"):
        clipped_objective(x, x, a, mask, normalisation="mean")
    with pytest.raises(ValueError, match="needs max_length"):
        clipped_objective(x, x, a, mask, normalisation="constant")
    with pytest.raises(ValueError, match=r"mask has shape \(2, 2\)"):
        clipped_objective(x, x, a, mask[:, :2])
    with pytest.raises(ValueError, match="advantages have shape"):
        clipped_objective(x, x, torch.zeros(3), mask)
    with pytest.raises(ValueError, match="no clip range"):
        clipped_objective(x, x, a, mask, clip_low=-0.1)
    with pytest.raises(ValueError, match="no dual clip"):
        clipped_objective(x, x, a, mask, dual_clip=0.5)
    for n, c, k, message in (
        (8, 1, 9, "k must be"),
        (8, 9, 1, "c must be"),
        (8, 1, 0, "k must be"),
        (8, -1, 1, "c must be"),
        (8, 1.5, 1, "give integers"),
    ):
        with pytest.raises(ValueError, match=message):
            pass_at_k(n, np.array([0, c]), k)
    with pytest.raises(ValueError, match="a success rate"):
        pass_at_k_exact([0.5, 1.1], 2)
    with pytest.raises(ValueError, match="it counts samples"):
        pass_at_k_exact(0.5, 0)
    with pytest.raises(ValueError, match="too many"):
        theory.expected_motion(softmax(9), np.eye(9)[0], 12)
    with pytest.raises(ValueError, match="one correct and one wrong|must be correct"):
        theory.expected_motion(softmax(3), np.ones(3), 2)


@pytest.mark.parametrize("task", TASKS)
def test_bad_prompts_are_one_sentence(task):
    prompts = task.prompts(0, 4, "train")
    y = task.demonstration(prompts, np.random.default_rng(0), 0.0)
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        task.prompts(0, 4, "dev")
    with pytest.raises(ValueError, match="tokens: give"):
        task.reward(prompts, y[:, :-1])
    with pytest.raises(ValueError, match="prompts have shape"):
        task.reward(prompts[:3], y)
    if task != TASKS[2]:
        with pytest.raises(ValueError, match="train has (about )?\\d+ pro"):
            task.prompts(0, 40_000, "train")
