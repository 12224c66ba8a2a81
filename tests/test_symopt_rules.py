"""Rules and polar factors: against scipy, torch.optim.Muon, and their own groups."""

import sys
from functools import partial

import numpy as np
import pytest
import scipy.linalg
import torch

from symlab import symopt
from symlab.symopt import columns, equivariance_error, rows
from symlab.symopt.polar import METHODS

SHAPES = ((12, 7), (7, 12), (1, 6), (6, 1), (3, 8, 5))
EXACT = ("inverse_sqrt", "qdwh", "svd")
P, O, SHIFT = (rows(kind) for kind in ("permutation", "rotation", "shift"))  # noqa: E741
CP, CO = (columns(kind) for kind in ("permutation", "rotation"))
svd = {"method": "svd"}

RULES = {  # rule: (map, group it claims, an action outside of it)
    "row_norm": (symopt.row_norm, (P, CO), O),
    "row_norm centred": (partial(symopt.row_norm, centred=True), (P, CO, SHIFT), O),
    "row_norm, floor": (partial(symopt.row_norm, floor=0.1), (P, CO), O),
    "centred_row_norm": (symopt.centred_row_norm, (P, CO, SHIFT), O),
    "column_norm": (symopt.column_norm, (O, CP), CO),
    "spectral": (partial(symopt.spectral, **svd), (O, CO), SHIFT),
    "spectral, alpha": (partial(symopt.spectral, alpha=1.0, **svd), (O, CO), SHIFT),
    "spectral centred": (
        partial(symopt.spectral, centred=True, **svd), (P, CO, SHIFT), O),
    "row_then_spectral": (partial(symopt.row_then_spectral, **svd), (P, CO), O),
    "row_then_spectral centred": (
        partial(symopt.row_then_spectral, centred=True, **svd), (P, CO, SHIFT), O),
    "spectral_then_row": (partial(symopt.spectral_then_row, **svd), (P, CO), O),
}  # fmt: skip


def gradient(shape, dtype=torch.float64, seed=0) -> torch.Tensor:
    """Rows of very different sizes, as embeddings have."""
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=draws, dtype=torch.float64)
    return (x * torch.logspace(0, -2, shape[-2], dtype=torch.float64)[:, None]).to(
        dtype
    )


# --- groups --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", RULES)
def test_rules_are_equivariant_under_the_group_they_claim(name, shape):
    rule, group, _ = RULES[name]
    assert equivariance_error(rule, gradient(shape), *group) < 1e-10
    assert equivariance_error(rule, gradient(shape, torch.float32), *group) < 1e-4


@pytest.mark.parametrize("name", RULES)
def test_and_not_under_others(name):
    rule, _, outside = RULES[name]
    assert equivariance_error(rule, gradient((12, 7)), outside) > 1e-2


def test_adams_sign_is_equivariant_to_signed_permutations_and_not_to_rotations():
    groups = rows("signed permutation"), columns("signed permutation")
    assert equivariance_error(torch.sign, gradient((12, 7)), *groups) == 0.0
    assert equivariance_error(torch.sign, gradient((12, 7)), CO) > 0.1


def test_random_elements_are_in_their_groups():
    draws = torch.Generator().manual_seed(0)
    x = torch.eye(5, dtype=torch.float64)
    for kind in ("permutation", "signed permutation", "rotation"):
        q, _ = rows(kind).element(x, draws)
        torch.testing.assert_close(q(x) @ q(x).T, x)
        if kind != "rotation":
            assert set(q(x).abs().unique().tolist()) == {0.0, 1.0}
    with pytest.raises(ValueError, match="unknown group 'dihedral'"):
        rows("dihedral")


# --- what the rules are --------------------------------------------------------------


def test_row_norm_has_unit_rows_and_zero_where_there_is_no_gradient():
    x = gradient((6, 4))
    x[2] = 0.0
    lengths = symopt.row_norm(x).norm(dim=1)
    expected = torch.ones(6, dtype=torch.float64)
    expected[2] = 0.0
    torch.testing.assert_close(lengths, expected)
    faint = symopt.row_norm(x, floor=1.0).norm(dim=1)
    assert (faint[3:].diff() < 0).all()  # rows with small gradients move less


@pytest.mark.parametrize("name", [n for n in RULES if "centred" in n])
def test_centred_updates_leave_the_mean_row_alone(name):
    update = RULES[name][0](gradient((12, 7)))
    # the exact rule is centred where its iteration has converged
    assert update.mean(0).abs().max() < 1e-8


def test_exact_centring_solves_its_linear_problem():
    """Feasible, of unit rows, and better than scipy's or any random feasible update."""
    x = gradient((40, 6))
    u = symopt.centred_row_norm(x, floor=0.0, steps=1000)
    assert u.sum(0).abs().max() < 1e-9
    torch.testing.assert_close(u.norm(dim=1), torch.ones(40, dtype=torch.float64))
    dual = scipy.optimize.minimize(
        lambda a: float((x - torch.from_numpy(a)).norm(dim=1).sum()),
        np.zeros(6),
        method="Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 10**4},
    )
    assert float((x * u).sum()) == pytest.approx(dual.fun, rel=1e-6)
    twice = symopt.row_norm(x, centred=True)
    twice = twice / twice.norm(dim=1).max()  # the paper's form, made feasible
    assert (x * u).sum() > 1.05 * (x * twice).sum()


@pytest.mark.parametrize("layout", ["concatenated", "interleaved"])
def test_pairs_share_one_length_in_both_layouts(layout):
    gate, up = gradient((5, 4), seed=1), gradient((5, 4), seed=2)
    fused = torch.cat([gate, up])
    if layout == "interleaved":
        fused = torch.stack([gate, up], 1).reshape(10, 4)
    y = symopt.paired_row_norm(fused, layout)
    if layout == "interleaved":
        y = y.view(5, 2, 4).transpose(0, 1).reshape(10, 4)
    length = torch.cat([gate, up], 1).norm(dim=1, keepdim=True)
    torch.testing.assert_close(y, torch.cat([gate / length, up / length]))


def test_alpha_one_is_steepest_descent_under_the_spectral_norm():
    x = gradient((9, 5))
    y = symopt.spectral(x, alpha=1.0, **svd)
    gain = (x * y).sum() - torch.linalg.matrix_norm(y, 2) ** 2 / 2
    best = torch.linalg.matrix_norm(x, "nuc") ** 2 / 2
    torch.testing.assert_close(gain, best)


@pytest.mark.parametrize("convention", ["original", "match_rms_adamw"])
def test_scales_are_torchs(convention):
    from torch.optim._muon import _adjust_lr

    name = {"original": "muon", "match_rms_adamw": "rms"}[convention]
    for shape in ((30, 10), (10, 30)):
        assert symopt.size(shape, name) == pytest.approx(
            _adjust_lr(1.0, convention, torch.Size(shape)))  # fmt: skip


# --- polar factors -------------------------------------------------------------------


def conditioned(m: int, n: int, condition: float, dtype=torch.float64):
    """A matrix with log-uniform singular values, and its polar factor."""
    draws = torch.Generator().manual_seed(m * n)
    k = min(m, n)
    u, v = (
        torch.linalg.qr(torch.randn(s, k, generator=draws, dtype=torch.float64))[0]
        for s in (m, n)
    )
    s = torch.logspace(0, -np.log10(condition), k, dtype=torch.float64)
    return ((u * s) @ v.T).to(dtype), u @ v.T


def error(found, true) -> float:
    return float((found.double() - true).norm() / true.norm())


@pytest.mark.parametrize("method", METHODS)
def test_polar_is_scipys(method):
    x, _ = conditioned(20, 33, 10.0)
    expected, _ = scipy.linalg.polar(x.numpy())
    # five steps of a quintic come within tenths, by design
    limit = 1e-10 if method in EXACT else 0.35
    assert error(symopt.polar(x, method), torch.from_numpy(expected)) < limit
    assert error(symopt.polar(x.T, method), torch.from_numpy(expected.T)) < limit


@pytest.mark.parametrize(
    ("method", "steps", "limit"),
    [("polar_express", 12, 1e-10), ("gram", 12, 1e-10), ("qdwh", None, 1e-8),
     ("svd", None, 1e-8)],
)  # fmt: skip
@pytest.mark.parametrize("condition", [1.0, 1e3, 1e4])
def test_polar_of_ill_conditioned_matrices(method, steps, limit, condition):
    x, true = conditioned(16, 40, condition)
    assert error(symopt.polar(x, method, steps=steps), true) < limit


def test_polar_of_condition_1e6_to_rounding():
    x, true = conditioned(16, 40, 1e6)
    for method in ("qdwh", "svd"):
        assert error(symopt.polar(x, method), true) < 1e-9
    single, _ = conditioned(16, 40, 1e6, torch.float32)
    assert symopt.polar(single, "inverse_sqrt").isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_polar_is_scale_invariant_and_leaves_its_input_alone(method):
    x = gradient((6, 9), torch.float32)
    before, y = x.clone(), symopt.polar(x, method)
    assert torch.equal(x, before)
    for size in (1e-30, 1e-12, 1e6, 1e30):
        # rows of 1/100 lose digits in a float32 Gram matrix
        torch.testing.assert_close(symopt.polar(size * x, method), y, rtol=0, atol=2e-3)


def test_polar_compiles_to_one_graph():
    """In float32, too, where it asks how many bits products have."""
    torch._dynamo.reset()
    one_graph = torch.compile(symopt.polar, fullgraph=True, backend="eager")
    for shape in ((12, 5), (6, 6), (2, 4, 9)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(one_graph(x), symopt.polar(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("method", METHODS)
def test_polar_at_zero_at_low_rank_and_in_half_precision(method, dtype):
    assert not symopt.polar(torch.zeros(2, 3, 4, dtype=dtype), method).any()
    y = symopt.polar(torch.eye(5, dtype=dtype), method)
    assert y.dtype == dtype
    assert error(y, torch.eye(5, dtype=torch.float64)) < 0.35
    low = gradient((8, 2)) @ gradient((2, 12), seed=1)
    s = torch.linalg.svdvals(symopt.polar(low, method))
    assert s[1] > 0.6
    assert s[2] < 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_stacks_are_one_matrix_after_the_other(method):
    x = gradient((2, 3, 6, 4))
    y = symopt.polar(x, method)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(y[i, j], symopt.polar(x[i, j], method))


def test_newton_schulz_is_torch_optim_muons():
    from torch.optim._muon import _zeropower_via_newtonschulz

    x = gradient((24, 40), torch.float32)
    theirs = _zeropower_via_newtonschulz(x, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    ours = symopt.polar(x, "newton_schulz", dtype=torch.bfloat16)
    assert error(ours, theirs.double()) < 0.02  # bf16: two roundings of 2^-8
    assert error(symopt.polar(x, "newton_schulz"), theirs.double()) < 0.03


def test_newton_schulz_acts_on_singular_values_as_jordans_quintic():
    x = gradient((6, 9))
    sigma = np.linalg.svd(x.numpy(), compute_uv=False) / np.linalg.norm(x.numpy())
    for _ in range(5):
        sigma = 3.4445 * sigma - 4.7750 * sigma**3 + 2.0315 * sigma**5
    found = np.linalg.svd(symopt.polar(x, "newton_schulz").numpy(), compute_uv=False)
    np.testing.assert_allclose(np.sort(found), np.sort(np.abs(sigma)), rtol=1e-9)


def test_blocks_of_a_stack_do_not_see_each_others_scale():
    x = gradient((2, 6, 4), torch.float32)
    x[0] *= 1e-30
    for method in METHODS:
        y = symopt.polar(x, method)
        torch.testing.assert_close(y[1], symopt.polar(x[1], method))
        assert y[0].norm() > 1.0


def test_the_gram_form_is_the_same_polynomial():
    x = gradient((10, 60))
    torch.testing.assert_close(
        symopt.polar(x, "gram"), symopt.polar(x, "polar_express"))  # fmt: skip


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match="of matrices"):
        symopt.polar(torch.ones(3))
    with pytest.raises(ValueError, match="for matrices"):
        symopt.row_norm(torch.ones(3))
    with pytest.raises(ValueError, match="real matrices"):
        symopt.polar(torch.ones(3, 3, dtype=torch.complex64))
    with pytest.raises(ValueError, match="unknown method 'cayley'"):
        symopt.polar(torch.ones(3, 3), "cayley")
    with pytest.raises(ValueError, match="svd takes no steps"):
        symopt.polar(torch.ones(3, 3), "svd", steps=3)
    with pytest.raises(ValueError, match="cutoff is for svd and qdwh"):
        symopt.polar(torch.ones(3, 3), cutoff=0.1)
    with pytest.raises(ValueError, match="do not pair"):
        symopt.paired_row_norm(torch.ones(7, 3))
    with pytest.raises(ValueError, match="unknown scale"):
        symopt.size((3, 3), "lars")


@pytest.mark.parametrize("method", ["polar_express", "gram", "newton_schulz"])
@pytest.mark.parametrize("shape", [(1, 12, 31), (3, 31, 12), (2, 13, 13)])
def test_blocks_of_rows_and_parts_of_stacks_change_nothing(method, shape, monkeypatch):
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=draws, dtype=torch.float64)
    before = symopt.polar(x, method)
    module = sys.modules["symlab.symopt.polar"]  # the name is the function
    monkeypatch.setattr(module, "BLOCK", 5)
    monkeypatch.setattr(module, "PART", 1)
    torch.testing.assert_close(symopt.polar(x, method), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("rest", [0.1, 0.0215, 1e-3, 1e-5])
def test_the_gram_form_is_as_accurate_on_a_spectrum_with_one_large_value(dtype, rest):
    """Squares lose small values; steps on one Gram matrix of few bits explode."""
    draws = torch.Generator().manual_seed(0)
    u, v = (
        torch.linalg.qr(torch.randn(n, 16, generator=draws, dtype=torch.float64))[0]
        for n in (16, 48)
    )
    s = torch.full((16,), rest, dtype=torch.float64)
    s[0] = 1.0
    x, true = ((u * s) @ v.T).to(dtype), u @ v.T
    errors = {
        m: float((symopt.polar(x, m).double() - true).norm() / true.norm())
        for m in ("gram", "polar_express")
    }
    assert errors["gram"] < errors["polar_express"] + 0.03
    assert torch.linalg.matrix_norm(symopt.polar(x, "gram").double(), 2) < 1.3
