"""Theorem 1 as property tests; DCS and syre against solvers and plain torch."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, minimize
from sklearn.linear_model import Lasso
from torch import nn
from torch.nn.utils import parametrize

from symlab import mirror
from symlab.mirror import lyapunov, syre

HIDDEN, INPUTS = 4, 3
UNITS = {"w": 0, "b": 0, "a": 1}  # the hidden index of a two-layer network


def network(seed: int, kind: str):
    """(loss of a parameter dict, generic parameters, a mirror that the loss has)."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    x, y = draw(16, INPUTS), draw(16, 2)
    if kind == "rescaling":
        params = {"u": draw(INPUTS), "v": draw(INPUTS)}
        kinds = ["equal", "opposite", "zero"]
        symmetry = mirror.rescaling(params, "u", "v", seed % INPUTS, kinds[seed % 3])
        return (
            lambda p: ((x @ (p["u"] * p["v"])) - y[:, 0]).square().mean(),
            params,
            symmetry,
        )
    if kind == "rotation":
        params = {"W": draw(HIDDEN, INPUTS), "U": draw(2, HIDDEN)}
        symmetry = mirror.hidden(params, {"W": 0, "U": 1}, draw(HIDDEN))
        return (
            lambda p: (x @ p["W"].T @ p["U"].T - y).square().mean(),
            params,
            symmetry,
        )
    params = {
        "w": draw(HIDDEN, INPUTS),
        "b": draw(HIDDEN),
        "a": draw(2, HIDDEN),
        "c": draw(2),
    }
    i, j = seed % HIDDEN, (seed + 1) % HIDDEN
    symmetry = (
        mirror.permutation(params, UNITS, i, j)
        if kind == "permutation"
        else mirror.sign_flip(params, UNITS, i)
    )

    def loss(p):
        h = torch.tanh(x @ p["w"].T + p["b"])
        return (h @ p["a"].T + p["c"] - y).square().mean()

    return loss, params, symmetry


KINDS = ["rescaling", "rotation", "permutation", "sign flip"]
cases = [st.integers(0, 10_000), st.sampled_from(KINDS)]
many = settings(max_examples=40, deadline=None)


def penalised(loss, gamma):
    return lambda p: loss(p) + gamma * sum(t.square().sum() for t in p.values())


@many
@given(*cases)
def test_reflection_leaves_the_loss_and_is_its_own_inverse(seed, kind):
    loss, params, symmetry = network(seed, kind)
    assert symmetry.violation(loss, params) < 1e-9
    twice = symmetry.reflect(symmetry.reflect(params))
    for name, value in params.items():
        torch.testing.assert_close(twice[name], value)
    on = symmetry.project(params)
    assert symmetry.distance(on) < 1e-12
    assert symmetry.distance(params) > 1e-3
    moved = math.sqrt(sum(float((params[n] - on[n]).square().sum()) for n in params))
    assert moved == pytest.approx(float(symmetry.distance(params)), rel=1e-9)


@many
@given(*cases, st.floats(0, 10))
def test_part_1_the_gradient_stays_in_the_mirror_at_every_decay(seed, kind, gamma):
    loss, params, symmetry = network(seed, kind)
    gradient = torch.func.grad(penalised(loss, gamma))
    size = sum(g.abs().max() for g in gradient(params).values())
    assert symmetry.distance(gradient(symmetry.project(params))) < 1e-12 * (1 + size)
    assert symmetry.distance(gradient(params)) > 1e-6


@settings(max_examples=15, deadline=None)
@given(*cases)
def test_part_2_the_hessian_is_block_diagonal_on_the_mirror_only(seed, kind):
    loss, params, symmetry = network(seed, kind)
    assert mirror.blocks(loss, symmetry.project(params), [symmetry]).off_block < 1e-12
    assert mirror.blocks(loss, params, [symmetry]).off_block > 1e-4


@many
@given(*cases)
def test_part_3_the_projection_wins_exactly_above_the_threshold(seed, kind):
    loss, params, symmetry = network(seed, kind)
    on, threshold = symmetry.project(params), float(symmetry.threshold(loss, params))
    for factor, better in ((1 + 1e-6, True), (1 - 1e-6, False)):
        gamma = threshold * factor if threshold > 0 else threshold / factor
        total = penalised(loss, gamma)
        assert (total(on) < total(params)) == better


@settings(max_examples=6, deadline=None)
@given(*cases)
def test_part_4_at_large_decay_every_minimum_lies_on_the_mirror(seed, kind):
    loss, params, symmetry = network(seed, kind)
    for gamma, on_mirror in ((3.0, True), (1e-4, False)):
        theta = {n: p.clone().requires_grad_() for n, p in params.items()}
        optimizer = torch.optim.LBFGS(
            theta.values(), max_iter=500, line_search_fn="strong_wolfe",
            tolerance_grad=1e-12, tolerance_change=1e-16)  # fmt: skip

        def closure(theta=theta, gamma=gamma, optimizer=optimizer):
            optimizer.zero_grad()
            value = penalised(loss, gamma)(theta)
            value.backward()
            return value

        optimizer.step(closure)
        if on_mirror:
            assert symmetry.distance(theta) < 1e-5


def test_a_dense_basis_and_its_entries_are_one_symmetry():
    loss, params, symmetry = network(3, "permutation")
    again = mirror.MirrorSymmetry.of_matrix(params, symmetry.names, symmetry.matrix())
    torch.testing.assert_close(again.coordinates(params), symmetry.coordinates(params))
    o = symmetry.matrix()
    theta = torch.cat([params[n].reshape(-1) for n in symmetry.names])
    torch.testing.assert_close(o.T @ theta, symmetry.coordinates(params))
    reflected = torch.cat([symmetry.reflect(params)[n].reshape(-1)
                           for n in symmetry.names])  # fmt: skip
    torch.testing.assert_close(theta - 2 * o @ (o.T @ theta), reflected)


def test_two_mirrors_make_three_blocks():
    loss, params, first = network(0, "permutation")  # neurons 0 and 1
    second = mirror.permutation(params, UNITS, 2, 3)
    on = second.project(first.project(params))
    found = mirror.blocks(loss, on, [first, second])
    assert found.sizes == (6, 6, 14)
    assert found.off_block < 1e-12
    with pytest.raises(ValueError, match="not orthogonal to each other"):
        mirror.blocks(loss, on, [first, mirror.permutation(params, UNITS, 1, 2)])


def test_law_of_balance_in_float64():
    """u^2 - w^2 is multiplied by 1 - lr^2 g^2 at each SGD step, g = dl/d(u w)."""
    draws = torch.Generator().manual_seed(0)
    u, w = torch.randn(2, 50, generator=draws, dtype=torch.float64)
    for _ in range(30):
        g, lr = torch.randn(50, generator=draws, dtype=torch.float64), 0.05
        before = u**2 - w**2
        u, w = u - lr * g * w, w - lr * g * u
        torch.testing.assert_close(
            u**2 - w**2, before * (1 - lr**2 * g**2), rtol=1e-12, atol=1e-14
        )


def test_bad_mirrors_get_one_sentence():
    loss, params, symmetry = network(0, "permutation")
    skew = torch.ones(3, 2).double()
    with pytest.raises(ValueError, match="O\\^T O differs from the identity"):
        mirror.MirrorSymmetry.of_matrix({"a": skew[:, 0]}, ("a",), skew)
    with pytest.raises(ValueError, match="give it 3 rows"):
        mirror.MirrorSymmetry.of_matrix({"a": skew[:, 0]}, ("a",), torch.eye(2))
    with pytest.raises(ValueError, match="no parameter 'q': the parameters are w, b"):
        mirror.hidden(params, {"q": 0}, torch.ones(4))
    with pytest.raises(ValueError, match="no hidden index of size 4"):
        mirror.hidden(params, {"w": 1}, torch.ones(4))
    with pytest.raises(ValueError, match="has shape"):
        symmetry.distance({**params, "w": torch.zeros(5, 3).double()})
    with pytest.raises(ValueError, match="one shared tensor"):
        mirror.hidden({**params, "tied": params["w"]}, {"w": 0}, torch.ones(4))
    with pytest.raises(ValueError, match="has not this symmetry"):
        mirror.hidden(params, UNITS, torch.ones(4)).check(loss, params)
    with pytest.raises(ValueError, match="unknown mirror"):
        mirror.rescaling({"u": skew, "v": skew + 0}, "u", "v", 0, "both")


def test_neurons_and_entries_are_counted_as_in_a_list():
    _, params, _ = network(0, "permutation")
    for pair, same in (((0, 1), (-4, -3)), ((3, 0), (-1, 0))):
        first, second = (mirror.permutation(params, UNITS, *p) for p in (pair, same))
        torch.testing.assert_close(first.matrix(), second.matrix())
    flips = [mirror.sign_flip(params, UNITS, i).matrix() for i in (3, -1)]
    torch.testing.assert_close(*flips)
    pairs = {"u": params["b"], "v": params["b"] + 1}
    for bad in (4, -5, 1.0, None, True, "0"):
        with pytest.raises(ValueError, match="give an integer from -4 to 3"):
            mirror.permutation(params, UNITS, 0, bad)
        with pytest.raises(ValueError, match="give an integer from -4 to 3"):
            mirror.sign_flip(params, UNITS, bad)
        with pytest.raises(ValueError, match="give an integer from -4 to 3"):
            mirror.rescaling(pairs, "u", "v", bad)
    on = mirror.rescaling(pairs, "u", "v", -1).project(pairs)
    assert on["u"][3].abs() < 1e-15
    assert torch.equal(on["v"][:3], pairs["v"][:3])


def test_one_neuron_or_one_tensor_is_no_pair():
    """(e_i - e_i) would be a sign flip of neuron i, under another name."""
    _, params, _ = network(0, "permutation")
    for i, j in ((2, 2), (1, -3)):
        with pytest.raises(ValueError, match="cannot be exchanged with itself"):
            mirror.permutation(params, UNITS, i, j)
    with pytest.raises(ValueError, match="'b' is named twice"):
        mirror.rescaling(params, "b", "b", 0)
    with pytest.raises(ValueError, match="'b' has 4 entries and 'c' has 2"):
        mirror.rescaling(params, "b", "c", 0)
    with pytest.raises(ValueError, match="name each parameter once"):
        mirror.MirrorSymmetry.of_matrix(params, ("b", "b"), torch.eye(8)[:, :1])


def test_directions_and_axes_of_a_hidden_index_are_checked():
    _, params, _ = network(0, "permutation")
    inf, nan = torch.tensor([0, 1, torch.inf, 0]), torch.full((4,), torch.nan)
    for n in (torch.zeros(4), nan, inf, torch.ones(4, 1), 1.0, None, "n", 1j * nan):
        with pytest.raises(ValueError, match="finite real numbers, not all of them"):
            mirror.hidden(params, UNITS, n)
    plain = mirror.hidden(params, UNITS, torch.tensor([1.0, 2, 0, -1])).matrix()
    for n in ([1, 2, 0, -1], np.array([1e-200, 2e-200, 0, -1e-200])):
        torch.testing.assert_close(mirror.hidden(params, UNITS, n).matrix(), plain)
    for axes in ({}, ["w"], None, "w"):
        with pytest.raises(ValueError, match="a dict of parameter and dimension"):
            mirror.permutation(params, axes, 0, 1)
    for axis in (2, -3, 0.0, None):
        with pytest.raises(ValueError, match="'w', shape .*, has no dimension"):
            mirror.sign_flip(params, {"w": axis}, 0)


def test_parameters_that_cannot_be_moved_get_one_sentence():
    _, params, symmetry = network(0, "permutation")
    whole = {n: p.long() for n, p in params.items()}
    with pytest.raises(ValueError, match="'w' is torch.int64"):
        mirror.sign_flip(whole, UNITS, 0)
    with pytest.raises(ValueError, match="'w' is torch.int64"):
        symmetry.reflect(whole)
    with pytest.raises(ValueError, match="'w' is ndarray"):
        symmetry.distance({n: p.numpy() for n, p in params.items()})
    for bad in (nn.Linear(2, 2), [params["w"]], None):
        with pytest.raises(ValueError, match="give a dict of name and tensor"):
            mirror.hidden(bad, UNITS, torch.ones(4))
    entries = torch.tensor([0]), torch.tensor([0]), torch.tensor([1.0])
    for place, wrong in ((0, 9), (0, -1), (1, 1)):
        changed = list(entries)
        changed[place] = torch.tensor([wrong])
        with pytest.raises(ValueError, match="rows below 4 and columns below 1"):
            mirror.MirrorSymmetry(("b",), ((4,),), *changed, 1)
    with pytest.raises(ValueError, match="has no columns"):
        mirror.MirrorSymmetry.of_matrix(params, ("b",), torch.zeros(4, 0))


def test_every_parameter_keeps_its_dtype_and_integers_stay():
    loss, params, symmetry = network(0, "permutation")
    mixed = {**params, "w": params["w"].bfloat16(), "b": params["b"].float()}
    for moved in (symmetry.reflect(mixed), symmetry.project(mixed)):
        assert [moved[n].dtype for n in mixed] == [p.dtype for p in mixed.values()]
    exact, half = symmetry.reflect(params)["w"], symmetry.reflect(mixed)["w"]
    torch.testing.assert_close(half.double(), exact, rtol=2**-7, atol=1e-2)
    short = {n: p.bfloat16() for n, p in params.items()}  # rounded once, at the end
    exact = symmetry.reflect({n: p.double() for n, p in short.items()})
    for name, moved in symmetry.reflect(short).items():
        torch.testing.assert_close(moved.double(), exact[name], rtol=2**-8, atol=1e-5)
    counted = {**params, "count": torch.tensor(7)}

    def checked(p):
        assert p["count"] == 7
        return loss(p)

    assert symmetry.violation(checked, counted) < 1e-9


def test_losses_that_are_no_number_get_one_sentence():
    loss, params, symmetry = network(0, "permutation")
    calls = [
        lambda of: symmetry.violation(of, params),
        lambda of: symmetry.threshold(of, params),
        lambda of: mirror.blocks(of, params, [symmetry]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="to return one number"):
            call(lambda p: p["w"])
    with pytest.raises(ValueError, match="needs 2 or more"):
        symmetry.violation(loss, params, points=1)


def test_blocks_need_mirrors_and_leave_integers_alone():
    loss, params, symmetry = network(0, "permutation")
    for none in ([], ["mirror"], ()):
        with pytest.raises(ValueError, match="give one or more mirror symmetries"):
            mirror.blocks(loss, params, none)
    with pytest.raises(ValueError, match="not orthogonal to each other"):
        mirror.blocks(loss, params, [symmetry, symmetry])
    on = symmetry.project(params)
    expected = mirror.blocks(loss, on, [symmetry])
    counted = mirror.blocks(loss, {"count": torch.tensor(2), **on}, symmetry)
    assert counted.sizes == expected.sizes == (6, 20)
    torch.testing.assert_close(counted.matrix, expected.matrix)
    flat = mirror.blocks(lambda p: p["w"].sum(), on, [symmetry])
    assert flat.off_block == 0.0  # of a Hessian of zeros
    half = {n: p.bfloat16() for n, p in on.items()}
    square = mirror.blocks(lambda p: p["w"].square().sum(), half, [symmetry])
    assert square.off_block < 1e-6
    with pytest.raises(ValueError, match="have to be tensors"):
        mirror.blocks(loss, {**on, "x": np.ones(2)}, [symmetry])


# --- Lyapunov exponents ---------------------------------------------------------------


def test_spectrum_of_a_random_linear_map_is_its_exponents():
    h = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)).double() + 0.5
    lr = 0.1

    def step(theta, x):
        return theta * (1 - lr * x)

    found, _ = lyapunov.spectrum(step, torch.ones(3).double(), h, 3)
    exact = sorted((lyapunov.exponent(h[:, i], lr) for i in range(3)), reverse=True)
    np.testing.assert_allclose(found, exact, atol=2e-3)


def test_critical_rate_is_where_the_second_order_exponent_is_zero():
    h = torch.randn(20_000, generator=torch.Generator().manual_seed(1)) - 0.1
    lr = lyapunov.critical_lr(h, 0.02)
    assert lyapunov.second_order(h, lr, 0.02) == pytest.approx(0, abs=1e-9)
    assert lyapunov.exponent(h, lr, 0.02) == pytest.approx(0, abs=3 * lr**3)
    assert lyapunov.critical_lr(h + 1) == 0.0


# --- DCS -----------------------------------------------------------------------------


def problem(seed: int, k: int = 6, p: int = 20):
    draws = np.random.default_rng(seed)
    x, y = draws.normal(size=(60, p)), draws.normal(size=60)
    orthonormal = np.linalg.qr(draws.normal(size=(p, k)))[0].T
    return x, y, torch.from_numpy(orthonormal)


class Linear(nn.Module):
    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(theta)


def descend(x, y, constraint, decay, steps=6000, groups=(), lr=0.2):
    gram = torch.from_numpy(x.T @ x / len(y))
    target = torch.from_numpy(x.T @ y / len(y))
    model = Linear(torch.zeros(len(target), dtype=torch.float64))
    dcs = mirror.DCS(constraint, groups)
    parametrize.register_parametrization(model, "theta", dcs)
    optimizer = torch.optim.SGD(mirror.decay_groups(model, decay), lr=lr, momentum=0.9)
    before = torch.full_like(target, torch.inf)
    for step in range(steps):
        optimizer.zero_grad()
        theta = model.theta
        (theta @ gram @ theta / 2 - target @ theta).backward()
        optimizer.step()
        if step % 200 == 199:
            if (theta - before).abs().max() < 1e-12:  # it is there
                break
            before = theta.detach()
    return model.theta.detach(), float(dcs.violation(model.theta.detach()))


def constrained(x, y, a):
    """The least squares solution under A theta = 0, by scipy."""
    done = minimize(
        lambda t: np.mean((x @ t - y) ** 2) / 2, np.zeros(x.shape[1]),
        jac=lambda t: x.T @ (x @ t - y) / len(y), method="SLSQP",
        constraints=LinearConstraint(a, 0, 0), options={"ftol": 1e-15, "maxiter": 500},
    )  # fmt: skip
    return torch.from_numpy(done.x)


@pytest.mark.parametrize("groups", [(), (3, 3)])
def test_the_constraint_holds_exactly_above_the_critical_decay_only(groups):
    x, y, a = problem(0)
    best = constrained(x, y, a.numpy())
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)

    def loss(t):
        return (tx @ t - ty).square().mean() / 2

    critical = mirror.critical_decay(loss, best, a, groups)
    theta, off = descend(x, y, a, 1.1 * critical, groups=groups)
    assert off < 1e-12
    torch.testing.assert_close(theta, best, atol=1e-6, rtol=0)
    assert descend(x, y, a, 0.9 * critical, 1500, groups)[1] > 1e-3


def test_identity_constraint_is_scikit_learns_lasso():
    x, y, _ = problem(1)
    theta, _ = descend(x, y, torch.eye(20).double(), 0.05, steps=7000)
    lasso = Lasso(alpha=0.05, fit_intercept=False, tol=1e-14, max_iter=10**6).fit(x, y)
    np.testing.assert_allclose(theta, lasso.coef_, atol=1e-6)


def test_differences_are_the_fused_lasso():
    """Against SLSQP on the split form: theta differences = plus - minus, both >= 0."""
    x, y, _ = problem(2, p=8)
    a, decay = mirror.differences(8).double(), 0.1
    theta, _ = descend(x, y, a, decay)
    d = a.numpy()

    def value(z):
        return np.mean((x @ z[:8] - y) ** 2) / 2 + decay * z[8:].sum()

    equal = LinearConstraint(np.c_[d, -np.eye(7), np.eye(7)], 0, 0)
    done = minimize(
        value,
        np.zeros(22),
        method="SLSQP",
        constraints=equal,
        bounds=[(None, None)] * 8 + [(0, None)] * 14,
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    np.testing.assert_allclose(theta, done.x[:8], atol=1e-4)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_dcs_lives_with_optimizers_schedulers_state_dicts_and_compile(kind):
    torch.manual_seed(0)
    layer = nn.Linear(5, 3)
    x = torch.randn(8, 5)
    before = layer(x)
    a = torch.linalg.qr(torch.randn(15, 4))[0].T.contiguous()
    parametrize.register_parametrization(layer, "weight", mirror.DCS(a))
    torch.testing.assert_close(layer(x), before)  # right_inverse: same function
    optimizer = kind(mirror.decay_groups(layer, 0.1), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    compiled = torch.compile(layer, backend="aot_eager")
    for _ in range(5):
        loss = compiled(x).square().mean()
        torch.testing.assert_close(loss, layer(x).square().mean())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    other = nn.Linear(5, 3)
    parametrize.register_parametrization(other, "weight", mirror.DCS(a))
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert torch.equal(other(x), layer(x))
    decays = [g["weight_decay"] for g in optimizer.param_groups]
    assert decays == [0.1, 0.0]
    assert sum(p.numel() for p in optimizer.param_groups[0]["params"]) == 8


def test_dcs_leaves_an_exact_constraint_when_the_data_ask_for_it():
    """u = w = 0 would be absorbing; a start on the mirror must not be."""
    x, y, a = problem(3)
    assert descend(x, y, a, 0.0, steps=2000)[1] > 1e-3


def test_bad_constraints_get_one_sentence():
    with pytest.raises(ValueError, match="full row rank"):
        mirror.DCS(torch.ones(2, 4))
    with pytest.raises(ValueError, match="give a matrix"):
        mirror.DCS(torch.ones(4))
    with pytest.raises(ValueError, match="do not add up to 2"):
        mirror.DCS(torch.eye(2), (1, 2))
    with pytest.raises(ValueError, match="no DCS parametrization"):
        mirror.decay_groups(nn.Linear(2, 2), 0.1)


# --- syre ----------------------------------------------------------------------------


def test_syre_keeps_the_function_and_removes_the_mirrors():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(16, 3).double(), torch.randn(16, 2).double()
    before = model(x)
    decayed = penalised(lambda p: (torch.func.functional_call(model, p, (x,)) - y)
                        .square().mean(), 0.1)  # fmt: skip
    params = dict(model.named_parameters())
    units = {"0.weight": 0, "0.bias": 0, "2.weight": 1}
    symmetry = mirror.permutation(params, units, 0, 1)
    assert symmetry.violation(decayed, params) < 1e-9
    removed = mirror.remove_symmetries(copy.deepcopy(model), scale=0.3)
    torch.testing.assert_close(removed(x), before)
    originals = dict(removed.named_parameters())
    renamed = {
        ".parametrizations.".join(name.rsplit(".", 1)) + ".original": axis
        for name, axis in units.items()
    }

    def loss(p):
        out = torch.func.functional_call(removed, p, (x,))
        return (out - y).square().mean() + 0.1 * sum(
            t.square().sum() for t in p.values()
        )

    moved = mirror.permutation(originals, renamed, 0, 1)
    assert moved.violation(loss, originals) > 1e-3


def test_the_anisotropic_penalty_breaks_rotations_and_equal_decay_does_not():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))
    params = dict(model.named_parameters())
    symmetry = mirror.hidden(params, {"0.weight": 0, "1.weight": 1}, torch.randn(4))
    equal = [
        float(p.detach().square().sum()) for p in symmetry.reflect(params).values()
    ]
    assert sum(equal) == pytest.approx(
        float(sum(p.detach().square().sum() for p in params.values())), rel=1e-5
    )
    before = float(syre.penalty(model, 1.0).detach())
    with torch.no_grad():
        for name, value in symmetry.reflect(params).items():
            model.get_parameter(name).copy_(value.clone())
    assert abs(float(syre.penalty(model, 1.0).detach()) / before - 1) > 1e-3
    for bad in (0, 1.5):
        with pytest.raises(ValueError, match="between 0 and 1"):
            syre.penalty(model, 1.0, bad)
    with pytest.raises(ValueError, match="must be positive"):
        mirror.remove_symmetries(model, scale=0.0)
