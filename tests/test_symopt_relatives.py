"""Relatives and executed rules: numpy, scipy, and their own definitions."""

from functools import partial

import numpy as np
import pytest
import scipy.linalg
import torch

from symlab import symopt
from symlab.symopt import columns, equivariance_error, executed, relatives, rows
from symlab.symopt.relatives import aro, bias_rms, freon, kaon, normuon, schatten_power

METHODS = ("svd", "gram", "newton")
SHAPES = ((12, 7), (7, 12), (1, 6), (6, 1), (3, 8, 5))
P, SP, O = (  # noqa: E741
    rows(kind) for kind in ("permutation", "signed permutation", "rotation")
)
CP, CSP, CO = (
    columns(kind) for kind in ("permutation", "signed permutation", "rotation")
)


def first(rule, **options):
    """The update of the first step of a rule with state."""
    return lambda x: rule(x, **options)[0]


RULES = {  # rule: (map, group it claims, an action outside of it)
    "freon": (freon, (O, CO), rows("shift")),
    "freon, gram": (partial(freon, method="gram"), (O, CO), rows("shift")),
    "freon, newton": (partial(freon, method="newton"), (O, CO), rows("shift")),
    "kaon": (kaon, (O, CO), rows("shift")),
    "sinkhorn": (relatives.sinkhorn, (P, CP), O),
    "sign": (relatives.sign, (SP, CSP), CO),
    "aro": (first(aro), (CP,), CO),
    "aro, row_norm": (first(aro, base="row_norm"), (CO,), O),
    "normuon": (lambda x: normuon(symopt.polar(x, "svd"))[0], (P, CO), O),
}
EXECUTED = {
    "row": executed.executed_row_norm,
    "right": executed.executed_right_polar,
    "left": executed.executed_left_polar,
    "hybrid": executed.executed_hybrid,
    "fused": executed.executed_fused_gate_up,
}


def gradient(shape, dtype=torch.float64, seed=0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draws, dtype=torch.float64).to(dtype)


def rotation(*shape, seed=1) -> torch.Tensor:
    return torch.linalg.qr(gradient((*shape, shape[-1]), seed=seed))[0]


def conditioned(m: int, n: int, condition: float, c: float = 0.5):
    """A matrix with log-uniform singular values s, and U s^(1-2c) V^T."""
    k = min(m, n)
    u, v = (torch.linalg.qr(gradient((size, k), seed=size))[0] for size in (m, n))
    s = torch.logspace(0, -np.log10(condition), k, dtype=torch.float64)
    return (u * s) @ v.T, (u * s ** (1 - 2 * c)) @ v.T


def error(found, true) -> float:
    true = torch.as_tensor(true)
    return float((found.double() - true).norm() / true.norm())


# --- every map -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", RULES)
def test_maps_are_equivariant_under_the_group_they_claim(name, shape):
    rule, group, _ = RULES[name]
    if name == "kaon" and 1 in shape:  # rank one: no update
        assert kaon(gradient(shape)).abs().max() < 1e-20
        return
    assert equivariance_error(rule, gradient(shape), *group) < 1e-10
    # kaon's errors grow 80-fold, and newton's with the condition
    assert equivariance_error(rule, gradient(shape, torch.float32), *group) < 1e-3


@pytest.mark.parametrize("name", RULES)
def test_and_not_under_others(name):
    rule, _, outside = RULES[name]
    assert equivariance_error(rule, gradient((12, 7)), outside) > 1e-2


@pytest.mark.parametrize("name", [n for n in RULES if n != "normuon"])
def test_maps_are_scale_free_and_leave_their_input_alone(name):
    rule = RULES[name][0]
    x = gradient((6, 9), torch.float32)
    before, y = x.clone(), rule(x)
    assert torch.equal(x, before)
    for size in (1e-30, 1e-12, 1e6, 1e30):
        torch.testing.assert_close(rule(size * x), y, rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", [*RULES, *EXECUTED])
def test_zero_stays_zero_in_every_precision(name, dtype):
    rule = RULES[name][0] if name in RULES else EXECUTED[name]
    assert not rule(torch.zeros(2, 4, 6, dtype=dtype)).any()
    x = gradient((4, 6)).to(dtype)
    y = rule(x)
    assert y.dtype == dtype
    assert y.isfinite().all()
    x[1] = 0.0
    if name not in ("left", "kaon"):
        assert rule(x)[1].abs().max() < 0.01


@pytest.mark.parametrize("name", [*RULES, *EXECUTED])
def test_stacks_are_one_matrix_after_the_other(name):
    rule = RULES[name][0] if name in RULES else EXECUTED[name]
    if name == "hybrid":
        rule = partial(rule, coupled=False)
    x = gradient((2, 3, 6, 4), torch.float32)
    y = rule(x)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(y[i, j], rule(x[i, j]), rtol=0, atol=1e-3)


# --- Freon and Kaon ------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("c", [0.0, 0.25, 0.5, 2 / 3, 0.75])
def test_schatten_powers_are_scipys(method, c):
    x = gradient((7, 12))
    outer = (x @ x.T).numpy()
    expected = scipy.linalg.fractional_matrix_power(outer, -c) @ x.numpy()
    assert error(schatten_power(x, c, method), expected) < 1e-10
    assert error(schatten_power(x.T, c, method), expected.T) < 1e-10
    tripled = schatten_power(3 * x, c, method)
    torch.testing.assert_close(tripled, 3 ** (1 - 2 * c) * schatten_power(x, c, method))


@pytest.mark.parametrize("method", METHODS)
def test_freon_is_muon_at_one_and_the_gradient_at_two(method):
    x = gradient((7, 12))
    polar, _ = scipy.linalg.polar(x.numpy())
    assert error(freon(x, 1.0, method), polar) < 1e-10
    assert error(freon(x, 2.0, method), x * 7**0.5 / x.norm()) < 1e-12
    # a flat spectrum is its own answer, whatever q
    flat = symopt.polar(x, "svd")
    assert error(freon(5 * flat, 0.5, method), flat) < 1e-10


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("q", [0.5, 2 / 3, 1.5])
def test_freon_is_the_papers_recipe(method, q):
    """Normalise by |x|_q, map, multiply by (sum s^q / k)^((1-q)/q): numpy's SVD."""
    x = gradient((9, 5))
    u, s, vt = np.linalg.svd(x.numpy(), full_matrices=False)
    s = s / (s**q).sum() ** (1 / q)
    s = s ** (q - 1) * ((s**q).sum() / 5) ** ((1 - q) / q)
    assert error(freon(x, q, method), (u * s) @ vt) < 1e-10


@pytest.mark.parametrize(
    ("condition", "limits"),
    [(1e3, (1e-12, 1e-10, 1e-7)), (1e6, (1e-9, 1e-3, 0.05))],
)
def test_schatten_powers_of_ill_conditioned_matrices(condition, limits):
    x, true = conditioned(16, 40, condition, c=2 / 3)
    for method, limit in zip(METHODS, limits, strict=True):
        assert error(schatten_power(x, 2 / 3, method), true) < limit
    # float64 where a float32 Gram matrix would lose half the directions
    x, true = conditioned(16, 40, 1e4, c=2 / 3)
    assert error(schatten_power(x.float(), 2 / 3, "gram"), true) < 1e-3
    lost = schatten_power(x.float(), 2 / 3, "gram", dtype=torch.float32)
    assert error(lost, true) > 0.5


def test_inverted_spectra_do_not_blow_up_what_has_no_gradient():
    low = gradient((8, 2)) @ gradient((2, 12), seed=1)
    for method, limit in zip(METHODS, (1e-12, 1e-12, 1e-4), strict=True):
        s = torch.linalg.svdvals(freon(low, 0.5, method))
        assert s[1] > 0.05
        assert s[2] < limit * s[0]


def test_kaon_acts_on_singular_values_as_its_chaotic_map():
    x = gradient((6, 9))
    s = np.linalg.svd(x.numpy(), compute_uv=False) / np.linalg.norm(x.numpy())
    for _ in range(5):
        s = 4.1 * s * (1 - s**2) ** 2
    for update in (kaon(x), kaon(x.T)):
        found = np.linalg.svd(update.numpy(), compute_uv=False)
        np.testing.assert_allclose(np.sort(found), np.sort(s) / 1.175, rtol=1e-10)
    # of size 0.43 in the mean and never above 1
    found = torch.linalg.svdvals(kaon(gradient((64, 256))))
    assert found.max() < 1
    assert 0.3 < found.mean() < 0.55


# --- Sinkhorn, sign, Scion -----------------------------------------------------------


def test_sinkhorn_balances_rows_and_columns():
    x = gradient((8, 12)) * torch.logspace(0, -3, 8, dtype=torch.float64)[:, None]
    y = x.numpy()
    for _ in range(5):
        y = 12**0.5 * y / np.linalg.norm(y, axis=1, keepdims=True)
        y = 8**0.5 * y / np.linalg.norm(y, axis=0, keepdims=True)
    found = relatives.sinkhorn(x)
    assert error(found, y) < 1e-13
    torch.testing.assert_close(
        found.norm(dim=0), torch.full((12,), 8**0.5, dtype=torch.float64)
    )
    assert (found.norm(dim=1) / 12**0.5 - 1).abs().max() < 1e-2
    # in the limit, transposition commutes
    many = partial(relatives.sinkhorn, steps=100)
    torch.testing.assert_close(many(x.T).T, many(x))


def test_bias_rms_has_entries_of_size_one():
    x = gradient((3, 5), torch.float32)
    root = np.sqrt(np.mean(x.numpy() ** 2, axis=-1, keepdims=True))
    torch.testing.assert_close(bias_rms(x), x / torch.from_numpy(root))
    torch.testing.assert_close(bias_rms(1e-30 * x[0]), bias_rms(x[0]))
    assert not bias_rms(torch.zeros(4, dtype=torch.bfloat16)).any()


# --- ARO -----------------------------------------------------------------------------


def objective(x, frame, f) -> float:
    z = frame.T @ x
    return float((z * f(z)).sum())


@pytest.mark.parametrize("base", ["sinkhorn", "sign", "row_norm"])
def test_aro_is_its_formula(base):
    f = {"sign": np.sign, "sinkhorn": None, "row_norm": None}[base] or (
        lambda z: getattr(relatives, base)(torch.from_numpy(z)).numpy()
    )
    x, old = gradient((5, 12)), rotation(5)
    q, _ = np.linalg.qr(x.numpy() @ f(old.numpy().T @ x.numpy()).T)
    update, new = aro(x, old, base)
    assert error((new.T @ torch.from_numpy(q)).abs(), torch.eye(5)) < 1e-12
    assert error(update, q @ f(q.T @ x.numpy())) < 1e-12
    assert error(new.T @ new, torch.eye(5)) < 1e-12
    assert torch.equal(aro(x, old, base)[1], new)  # deterministic


@pytest.mark.parametrize(
    ("base", "shape"),
    [(base, shape) for base in ("sinkhorn", "row_norm", "sign")
     # signs of few columns can be linearly dependent
     for shape in ((5, 12), (2, 6, 30), (12, 7), (2, 20, 9))
     if base != "sign" or shape[-2] < shape[-1]],
)  # fmt: skip
def test_aro_turns_with_the_rows_when_its_frame_does(base, shape):
    """Over three steps: the frame beyond the rank of tall ones is no rounding."""
    q, ours = rotation(shape[-2], seed=2), rotation(*shape[:-1], seed=3)
    theirs, momentum = q @ ours, 0.0
    for step in range(3):
        momentum = 0.9 * momentum + 0.1 * gradient(shape, seed=step)
        update, ours = aro(momentum, ours, base)
        turned, theirs = aro(q @ momentum, theirs, base)
        assert error(turned, q @ update) < 1e-10
        assert error(theirs, q @ ours) < 1e-10


def test_a_frame_around_a_rule_that_commutes_with_it_is_empty():
    x = gradient((7, 9))
    for old in (None, rotation(7), rotation(7, seed=5)):
        torch.testing.assert_close(
            aro(x, old, symopt.column_norm)[0], symopt.column_norm(x)
        )


def test_aro_with_row_norm_is_a_power_iteration_for_the_polar_factor():
    """<x, R f(R^T x)> ends at the nuclear norm, the least it can be.

    It is the sum of the rows' lengths of R^T x, concave in their squares, so the frame
    of singular vectors has the least. The way there is down, but for small steps.
    """
    x, frame = gradient((12, 20)), None
    values = [objective(x, torch.eye(12, dtype=torch.float64), symopt.row_norm)]
    for _ in range(300):
        update, frame = aro(x, frame, "row_norm")
        values.append(objective(x, frame, symopt.row_norm))
    assert error(update, scipy.linalg.polar(x.numpy())[0]) < 1e-9
    nuclear = np.linalg.norm(x.numpy(), "nuc")
    assert (np.array(values) > nuclear - 1e-9).all()
    assert values[0] > 1.05 * nuclear
    assert values[-1] == pytest.approx(nuclear)


def test_the_frame_beyond_the_rank_stays_where_it_was():
    x = gradient((9, 4))
    _, old = aro(x, rotation(9))
    _, new = aro(x + 1e-3 * gradient((9, 4), seed=1), old)
    assert error(new[:, 4:], old[:, 4:]) < 1e-2


def test_aro_leaves_alone_what_has_no_gradient():
    old = rotation(6)
    update, new = aro(torch.zeros(6, 4, dtype=torch.float64), old)
    assert not update.any()
    assert torch.equal(new, old)
    low = gradient((6, 2)) @ gradient((2, 9), seed=1)
    for base in ("sinkhorn", "sign", "row_norm"):
        for x in (low, low.T):
            assert torch.linalg.svdvals(aro(x, None, base)[0])[2] < 1e-9


# --- NorMuon -------------------------------------------------------------------------


def test_normuon_is_its_recurrence_and_returns_new_state():
    second, expected = None, np.zeros((6, 1))
    for step in range(4):
        o = symopt.polar(gradient((6, 4), seed=step), "svd")
        before = None if second is None else second.clone()
        update, new = normuon(o, second, beta2=0.9)
        if before is not None:
            assert torch.equal(second, before)
        second = new
        expected = 0.9 * expected + 0.1 * (o.numpy() ** 2).mean(1, keepdims=True)
        even = o.numpy() / (np.sqrt(expected) + 1e-8)
        even *= 0.2 * np.sqrt(24) / np.linalg.norm(even)
        assert error(update, even) < 1e-12
        assert error(second, expected) < 1e-12


def test_normuon_evens_out_rows():
    o = symopt.polar(gradient((40, 4)), "svd")
    spread = [float(u.norm(dim=1).std()) for u in (o, normuon(o)[0])]
    assert spread[1] < 1e-6 < 0.01 < spread[0]


# --- as executed ---------------------------------------------------------------------

# first rows of updates by the authors' own code, at a773b3f, of the gradient below
THEIRS = {
    ("row", False): (0.801781, -0.267261, 0.534521, 0.0),
    ("row", True): (0.577483, -0.577483, 0.461256, -0.461256),
    ("left", False): (0.007195, -0.00236, 0.004367, 0.000468),
    ("left", True): (0.002691, -0.002691, 0.001758, -0.001758),
    ("right", False): (0.007195, -0.00236, 0.004367, 0.000468),
    ("hybrid", False): (1.191163, -0.457674, 0.658083, 0.075708),
    ("hybrid", True): (0.659825, -0.659825, 0.406089, -0.406089),
    ("hybrid, left", False): (2.61752, -0.902019, 1.59859, 0.116911),
}


def test_executed_rules_are_the_authors_code():
    g = 1e-3 * torch.tensor([[3.0, -1, 2, 0], [1, 1, -2, 4], [0, 2, 1, 1]])
    for (name, centred), expected in THEIRS.items():
        rule = EXECUTED[name.split(",")[0]]
        side = {"side": "left"} if "," in name else {}
        found = rule(g, centred=centred, **side)[0]
        # to the digits printed; the default hybrid is in float16
        limit = 0.03 if name == "hybrid" else 1e-3
        assert error(found, torch.tensor(expected, dtype=torch.float64)) < limit
    fused = executed.executed_fused_gate_up(g[:2])[0]
    expected = torch.tensor([0.691406, -0.220703, 0.441406, 0.003906])
    assert error(fused, expected.double()) < 0.01


@pytest.mark.parametrize(
    ("condition", "size", "low", "high"),
    [(1e3, 1.0, 0.1, 0.15), (1e3, 1e-4, 0.85, 0.92), (1e5, 1.0, 0.5, 0.6)],
)
def test_absolute_damping_loses_small_gradients(condition, size, low, high):
    """Relative to the polar factor; ours is exact at every size."""
    x, true = conditioned(32, 128, condition)
    x = size * x.float()
    assert low < error(executed.executed_left_polar(x, alpha=0.0), true) < high
    turned = executed.executed_right_polar(x.T, alpha=0.0)
    assert low < error(turned, true.T) < high
    assert error(symopt.polar(x, "svd"), true) < 0.01


def test_the_executed_nuclear_norm_is_too_small_by_the_norm_of_the_rows():
    x = gradient((1024, 64), torch.float32)
    unit = symopt.row_norm(x)
    nuclear = np.linalg.norm(unit.numpy(), "nuc")
    factor = executed.executed_hybrid(x, alpha=0.0)
    by_side = executed.executed_hybrid(x, alpha=0.0, side="right")
    stated = executed.executed_hybrid(x, side="right")
    found = executed.executed_hybrid(x)
    assert float(found.norm() / factor.norm()) == pytest.approx(nuclear / 32, rel=0.1)
    assert float(stated.norm() / by_side.norm()) == pytest.approx(nuclear, rel=0.1)
    rule = symopt.row_then_spectral(x, alpha=1.0)
    assert 28 < float(rule.norm() / found.norm()) < 36


def test_executed_stacks_share_one_nuclear_norm():
    x = gradient((3, 8, 24), torch.float32)
    alone = torch.stack([executed.executed_hybrid(one) for one in x])
    ratio = executed.executed_hybrid(x).norm(dim=(1, 2)) / alone.norm(dim=(1, 2))
    assert (ratio > 2.5).all()


def test_executed_row_norm_shrinks_small_gradients():
    x = gradient((6, 4))
    torch.testing.assert_close(
        executed.executed_row_norm(x), symopt.row_norm(x), rtol=0, atol=1e-7
    )
    assert executed.executed_row_norm(1e-8 * x).norm(dim=1).max() < 0.9
    for name in ("row", "right", "left", "hybrid"):
        u = EXECUTED[name](x.float() + 1.0, centred=True)
        assert u.mean(0).abs().max() < 1e-5 * u.abs().max()


@pytest.mark.parametrize("name", ["row", "right", "left", "hybrid"])
def test_executed_rules_see_no_shift_of_all_rows_where_they_centre(name):
    x = gradient((6, 9), torch.float32) + 1.0
    for centred in (True, False):
        rule = partial(EXECUTED[name], centred=centred)
        found = equivariance_error(rule, x, rows("shift"))
        assert (found < 0.01) if centred else (found > 0.1)


def test_a_fused_polar_factor_is_not_that_of_each_projection():
    gate, up = gradient((6, 24), seed=1), gradient((6, 24), seed=2)
    fused = torch.cat([gate, up])
    found = executed.executed_fused_gate_up(fused)
    assert error(found, symopt.polar(fused)) < 0.15  # bfloat16
    each = torch.cat([symopt.polar(gate), symopt.polar(up)])
    assert error(found, each) > 0.2


def test_executed_rules_leave_their_input_alone_as_the_original_does_not():
    """Its buffer, divided in place, keeps to the first gradient."""
    buffer, divided = torch.zeros(64, 16), torch.zeros(64, 16)
    for step in range(30):
        g = gradient((64, 16), torch.float32, seed=step) * 6e-4
        buffer = torch.lerp(buffer, g, 0.05)
        divided = torch.lerp(divided, g, 0.05)
        divided /= divided.norm() + 1e-7
        before = buffer.clone()
        for rule in EXECUTED.values():
            rule(buffer)
        assert torch.equal(buffer, before)
    start = gradient((64, 16), torch.float32) * 6e-4
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(divided.flatten(), start.flatten(), 0) > 0.999
    assert cosine(divided.flatten(), buffer.flatten(), 0) < 0.2


# --- errors --------------------------------------------------------------------------


def test_bad_input_is_one_sentence():
    x, ones = torch.ones(3, 4), torch.ones(3)
    for rule in (freon, kaon, relatives.sinkhorn, aro, normuon):
        with pytest.raises(ValueError, match="of matrices"):
            rule(ones)
    with pytest.raises(ValueError, match="real matrices"):
        kaon(torch.ones(3, 3, dtype=torch.complex64))
    with pytest.raises(ValueError, match="no Schatten exponent"):
        freon(x, 0.0)
    with pytest.raises(ValueError, match="unknown method 'cayley'"):
        schatten_power(x, 0.5, "cayley")
    with pytest.raises(ValueError, match="newton needs a fraction"):
        schatten_power(x, 0.123456, "newton")
    with pytest.raises(ValueError, match="unknown base 'adam'"):
        aro(x, None, "adam")
    with pytest.raises(ValueError, match="the rotation has shape"):
        aro(x, torch.eye(4))
    with pytest.raises(ValueError, match="the statistic has shape"):
        normuon(x, torch.zeros(4, 1))
    for rule in EXECUTED.values():
        with pytest.raises(ValueError, match="for real matrices"):
            rule(ones)
    with pytest.raises(ValueError, match="unknown side"):
        executed.executed_hybrid(x, side="both")
    with pytest.raises(ValueError, match="not gates and ups"):
        executed.executed_fused_gate_up(x)
