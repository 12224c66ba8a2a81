"""DCS: starts off its mirrors, optima of a convex solver, precision, plain mistakes."""

import copy
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from symlab import mirror
from symlab.mirror.dcs import AWAKE, DCS, factors

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


class Model(nn.Module):
    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(theta)


def constrained(theta, a, groups=()) -> Model:
    model = Model(theta)
    parametrize.register_parametrization(model, "theta", DCS(a, groups))
    return model


def originals(model: Model):
    p = model.parametrizations.theta
    return p.original0, p.original1, p.original2


def grouped(w, sizes):
    return torch.stack([part.double().norm() for part in w.detach().split(list(sizes))])


# --- the start ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(1,) * 600, (3,) * 200, (599, 1)])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-6, 1.0, 1e4, 1e30])
def test_every_start_is_off_the_mirror(dtype, sizes, scale):
    draws = torch.Generator().manual_seed(len(sizes))
    theta = torch.randn(600, generator=draws, dtype=torch.float64) * scale
    theta = theta.clamp(-6e4, 6e4) if dtype is torch.float16 else theta
    theta = theta.to(dtype)
    model = constrained(theta, torch.eye(600), sizes)
    _, u, w = originals(model)
    assert u.dtype is w.dtype is dtype
    assert (u.detach().double() >= 1.2 * grouped(w, sizes)).all()
    assert u.min() >= AWAKE * (1 - 2**-8)
    # s is the rounded u times w, so that only w rounds it
    shared = u.detach().double().repeat_interleave(torch.tensor(sizes))
    product = shared * w.detach().double()
    half = torch.finfo(dtype).eps / 2 * theta.double().abs()
    assert ((product - theta.double()).abs() <= 1.01 * half + 1e-9 * scale).all()
    # half a unit in the last place of w, and half of theta
    error = (model.theta.detach() - theta).abs().double()
    eps, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).smallest_normal
    assert (error <= 1.01 * eps * theta.abs().double() + tiny).all()


def test_the_start_does_not_overflow_and_leaves_zero():
    for s in (1e300, 1e-300):
        u, w = factors(
            torch.tensor([s, -s, 3 * s, 0.0], dtype=torch.float64), torch.arange(4) // 2
        )
        assert torch.isfinite(u).all()
        assert torch.isfinite(w).all()
        assert (u >= 1.2 * w.view(2, 2).norm(dim=1)).all()
    u, w = factors(torch.zeros(3))
    assert torch.equal(u, torch.full((3,), AWAKE))
    assert not w.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_signs_change_where_the_data_ask_for_it(dtype):
    """Towards the mirror images of the start, at a tenth of the critical decay."""
    draws = torch.Generator().manual_seed(5)
    start = torch.randn(100, generator=draws, dtype=dtype)
    model = constrained(start, torch.eye(100, dtype=dtype))
    optimizer = torch.optim.SGD(mirror.decay_groups(model, 0.1), lr=0.1)
    for _ in range(1500):
        optimizer.zero_grad()
        ((model.theta + start.sign()).square().sum() / 2).backward()
        optimizer.step()
    torch.testing.assert_close(
        model.theta.detach(), -0.9 * start.sign(), atol=1e-3, rtol=0
    )


def test_noise_brings_pairs_to_their_mirror_and_new_factors_take_them_off():
    """The law of balance: u = w after a total of lr wd + (lr g)^2/2 of 8 in float32."""
    draws = torch.Generator().manual_seed(0)
    model = constrained(torch.ones(50), torch.eye(50))
    _, u, w = originals(model)
    optimizer = torch.optim.SGD(mirror.decay_groups(model, 0.5), lr=0.1)
    total, reached = 0.0, None
    for _ in range(400):
        optimizer.zero_grad()
        y = 1.5 + torch.randn(50, generator=draws)
        ((model.theta - y).square().sum() / 2).backward()
        g = (model.theta - y).detach()
        total += 0.1 * 0.5 + float((0.1 * g).square().mean()) / 2
        optimizer.step()
        if reached is None and float((u == w).float().mean()) > 0.5:
            reached = total
    assert 5 < reached < 12
    before = model.theta.detach()
    model.theta = before
    torch.testing.assert_close(model.theta.detach(), before)
    assert (u >= 1.2 * w.abs()).all()


# --- a convex solver as the oracle --------------------------------------------------


def design(seed: int, p: int, k: int):
    draws = np.random.default_rng(seed)
    mixing = np.eye(p) + 0.3 * draws.normal(size=(p, p)) / np.sqrt(p)
    x = draws.normal(size=(80, p)) @ mixing
    y = x @ (draws.normal(size=p) * draws.integers(0, 2, p)) + draws.normal(size=80)
    return x, y, draws.normal(size=(k, p))


CONVEX = {
    "lasso": (lambda a: np.eye(12), (), 0.2),
    "fused lasso": (lambda a: np.diff(np.eye(12), axis=0), (), 0.1),
    "group lasso": (lambda a: np.eye(12), (4, 4, 1, 3), 0.3),
    "general": (lambda a: a, (), 0.1),
    "groups of a general matrix": (lambda a: a, (2, 3, 2), 0.1),
}


@pytest.mark.parametrize("kind", CONVEX)
def test_descent_from_the_wrong_side_ends_at_the_convex_optimum(kind):
    cvxpy = pytest.importorskip("cvxpy")
    make, groups, decay = CONVEX[kind]
    x, y, a = design(sum(map(ord, kind)), 12, 7)
    a = make(a)
    sizes = groups or (1,) * len(a)
    ends = np.cumsum((0, *sizes))
    theta = cvxpy.Variable(12)
    norms = sum(
        cvxpy.norm(a[i:j] @ theta) for i, j in zip(ends, ends[1:], strict=False)
    )
    loss = cvxpy.sum_squares(x @ theta - y) / 160
    cvxpy.Problem(cvxpy.Minimize(loss + decay * norms)).solve("CLARABEL")

    def objective(t):
        s = [np.linalg.norm(part) for part in np.split(a @ t, ends[1:-1])]
        return np.mean((x @ t - y) ** 2) / 2 + decay * sum(s)

    best = theta.value
    wrong = -best + 0.3 * np.random.default_rng(0).normal(size=12)
    agree = np.sum(np.sign(a @ wrong) == np.sign(a @ best))
    assert agree < len(a) / 2
    model = constrained(torch.from_numpy(wrong), a, groups)
    optimizer = torch.optim.SGD(
        mirror.decay_groups(model, decay), lr=0.04, momentum=0.9
    )
    gram, target = torch.from_numpy(x.T @ x / 80), torch.from_numpy(x.T @ y / 80)
    for _ in range(3000):
        optimizer.zero_grad()
        t = model.theta
        (t @ gram @ t / 2 - target @ t).backward()
        optimizer.step()
    found = objective(model.theta.detach().numpy())
    assert found / objective(best) - 1 < 1e-6
    assert found / objective(best) - 1 > -1e-6  # else the oracle is wrong


# --- precision ----------------------------------------------------------------------


def held(dtype, a, **options):
    """A model whose constraint holds: u = w = 0."""
    draws = torch.Generator().manual_seed(3)
    theta = torch.randn(a.shape[1], generator=draws, dtype=torch.float64).to(dtype)
    model = constrained(theta, a, **options)
    with torch.no_grad():
        for p in originals(model)[1:]:
            p.zero_()
    return model


def bound(a, theta):
    """Half a unit in the last place of each entry, and the float32 of the products."""
    eps = torch.finfo(theta.dtype).eps
    return (eps * a.double().abs() @ theta.double().abs()).max() + 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["differences", "general"])
def test_an_exact_constraint_is_exact_up_to_the_rounding_of_theta(dtype, kind):
    a = mirror.differences(9)
    if kind == "general":
        a = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    model = held(dtype, a)
    theta = model.theta.detach()
    assert theta.dtype is dtype
    assert (a.double() @ theta.double()).abs().max() < bound(a, theta)
    for half in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", half):
            assert torch.equal(model.theta, theta)
    if kind == "differences" and dtype.itemsize == 2:  # one value, rounded once
        assert (theta == theta[0]).all()


def test_gradients_under_autocast_are_those_without():
    model = constrained(torch.randn(6), torch.randn(3, 6), (2, 1))
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = (model.theta * torch.arange(6)).sum()
        found.append(torch.autograd.grad(loss, originals(model)))
    for plain, cast in zip(*found, strict=True):
        torch.testing.assert_close(plain, cast, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["orthogonal", "general"])
def test_casts_of_the_model_do_not_round_the_constraint(kind):
    a = torch.tensor([[1 / 3, 1 / 7, 0, 0, 0], [0, 0, 0.1, 0.2, 0.3]]).double()
    a = a + (0.1 if kind == "general" else 0)
    theta = torch.linspace(-1, 1, 5)
    model = constrained(theta, a)
    for cast in ("half", "bfloat16", "float", "double"):
        getattr(model, cast)()
        with torch.no_grad():
            for p in originals(model)[1:]:
                p.zero_()
    assert model.theta.dtype is torch.float64
    assert (a @ model.theta.detach()).abs().max() < 1e-15
    # a constraint given in float32 is that float32 matrix, to the precision of float64
    model = constrained(theta, a.float()).double()
    with torch.no_grad():
        for p in originals(model)[1:]:
            p.zero_()
    assert (a.float().double() @ model.theta.detach()).abs().max() < 1e-15
    model = constrained(theta.double(), a.float())  # nor at registration
    with torch.no_grad():
        for p in originals(model)[1:]:
            p.zero_()
    assert (a.float().double() @ model.theta.detach()).abs().max() < 1e-15
    assert DCS(a.half()).violation(theta).dtype is torch.float32


def test_a_badly_scaled_or_nearly_dependent_matrix_still_holds_exactly():
    a = torch.tensor([[1.0, 0, 0, 0], [1.0, 1e-3, 0, 0], [0, 1e-3, 1, 1]])
    a = a * torch.tensor([[1e15], [1.0], [1e-15]])
    theta = held(torch.float32, a).theta.detach()
    unit = a.double() / a.double().norm(dim=1, keepdim=True)
    assert (unit @ theta.double()).abs().max() < 1e-6


# --- large and sparse constraints ---------------------------------------------------


def test_a_group_lasso_over_a_whole_layer_costs_as_much_as_the_layer():
    n = 64 * 64
    at = torch.arange(n)
    eye = torch.sparse_coo_tensor(
        torch.stack([at, at]), torch.ones(n), (n, n), check_invariants=True
    )
    layers, began = [], time.perf_counter()
    for a in (eye, torch.eye(n)):
        layer = nn.Linear(64, 64)
        weight = layer.weight.detach().clone()
        parametrize.register_parametrization(layer, "weight", DCS(a, (64,) * 64))
        torch.testing.assert_close(layer.weight.detach(), weight)
        layers.append(layer)
    assert time.perf_counter() - began < 1.0  # a dense pseudo-inverse takes minutes
    for layer in layers:
        held = sum(b.numel() * b.element_size() for b in layer.buffers())
        assert held <= 24 * n  # the layer: 4 n; a dense matrix: 4 n^2
        norm = layer.weight.detach().norm(dim=1)
        torch.testing.assert_close(
            layer.parametrizations.weight.original1.detach(), (2 * norm).sqrt()
        )


def layouts(a):
    coo = a.to_sparse_coo()
    return {"dense": a, "coo": coo, "csr": a.to_sparse_csr(), "array": a.numpy(),
            "lists": a.tolist()}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("kind", ["orthogonal", "general"])
@pytest.mark.parametrize("layout", ["coo", "csr", "array", "lists"])
def test_every_layout_is_the_dense_matrix(kind, layout):
    a = torch.zeros(5, 200, dtype=torch.float64)
    a[torch.arange(5), 7 * torch.arange(5)] = torch.arange(1.0, 6).double()
    a[torch.arange(5), 7 * torch.arange(5) + 100] = -1.0
    if kind == "general":
        a[:-1, 150] = 1.0
    theta = torch.linspace(-2, 2, 200).double()
    found = []
    for kind in ("dense", layout):
        model = constrained(theta, layouts(a)[kind], (2, 3))
        with torch.no_grad():
            originals(model)[2].mul_(torch.arange(5))
        (model.theta * theta).sum().backward()
        found += [(model.theta.detach(), *(p.grad for p in originals(model)))]
    for dense, other in zip(*found, strict=True):
        torch.testing.assert_close(dense, other)
    s = originals(model)[1].detach()[[0, 0, 1, 1, 1]] * originals(model)[2].detach()
    inverse = torch.linalg.pinv(a)
    torch.testing.assert_close(found[1][0], theta + inverse @ (s - a @ theta))


def test_rank_is_told_without_scale():
    draws = torch.Generator().manual_seed(0)
    a = torch.randn(40, 60, generator=draws, dtype=torch.float64)
    DCS(a * torch.logspace(-30, 30, 40).double()[:, None])
    for scale in (1e-20, 1.0, 1e20):
        rows = torch.cat([a[:20], scale * (a[:20].T @ a[:20, 0])[None]])
        for matrix in (rows, rows.float()):
            with pytest.raises(ValueError, match="full row rank"):
                DCS(matrix)
    with pytest.raises(ValueError, match="full row rank"):
        DCS(a.T)  # 60 rows of 40 entries
    with pytest.raises(ValueError, match="row 2 of the constraint is zero"):
        DCS(torch.diag(torch.tensor([1.0, 2, 0, 3]))[:, :4])


# --- state --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dense", "sparse", "orthogonal"])
def test_copies_state_dicts_and_removal(kind, tmp_path):
    draws = torch.Generator().manual_seed(0)
    a = {
        "dense": torch.randn(3, 40, generator=draws),
        "sparse": torch.diff(torch.eye(40), dim=0)[:9],
        "orthogonal": torch.eye(40)[::4],
    }[kind]
    layer = nn.Linear(8, 5)
    parametrize.register_parametrization(layer, "weight", DCS(a))
    with torch.no_grad():
        layer.parametrizations.weight.original2.add_(0.5)
    weight = layer.weight.detach()
    twin = copy.deepcopy(layer)
    assert torch.equal(twin.weight, weight)
    torch.save(layer.state_dict(), tmp_path / "state.pt")
    fresh = nn.Linear(8, 5)
    parametrize.register_parametrization(fresh, "weight", DCS(2 * a))
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(fresh.weight, weight)
    with torch.no_grad():
        layer.parametrizations.weight.original2.zero_()
    assert torch.equal(twin.weight, weight)  # the copy is one
    parametrize.remove_parametrizations(fresh, "weight")
    assert type(fresh) is nn.Linear
    assert isinstance(fresh.weight, nn.Parameter)
    assert torch.equal(fresh.weight, weight)


# --- plain mistakes -----------------------------------------------------------------


def test_plain_mistakes_get_one_sentence():
    layer, fine = nn.Linear(3, 2), torch.eye(6)[:2]

    def register(a, *groups, name="weight", module=layer):
        parametrize.register_parametrization(module, name, DCS(a, *groups))

    nan, inf = torch.full((2, 6), torch.nan), np.full((2, 6), -np.inf)
    for a, message in [
        (torch.eye(5), r"5 columns, but the parameter of shape \(2, 3\) has 6 entries"),
        (torch.zeros(0, 6), "has no rows"),
        (nan, "not finite"),
        (inf, "not finite"),
        (np.array([["a"]]), "real numbers"),
        (np.eye(6) * 1j, "real numbers"),
        (torch.eye(6) * 1j, "complex"),
        (None, "real numbers"),
        (1.0, "give a matrix"),
        (torch.eye(6)[0], "give a matrix"),
    ]:
        with pytest.raises(ValueError, match=message):
            register(a)
    register(torch.eye(6).to_sparse(1), module=nn.Linear(3, 2))  # rows of dense entries
    for groups in (3, "2", (1.5, 0.5), ("a", "b"), (None,), [(1, 1)]):
        with pytest.raises(ValueError, match="the number of constraints in each group"):
            register(fine, groups)
    for groups in ((1,), (3,), (2, 0), (-1, 3)):
        with pytest.raises(ValueError, match="do not add up to 2"):
            register(fine, groups)
    assert not parametrize.is_parametrized(layer)
    register(torch.eye(6).long(), np.array([2, 4]))
    with pytest.raises(ValueError, match="first parametrization"):
        register(fine)
    whole = nn.Module()
    whole.register_buffer("count", torch.arange(6))
    with pytest.raises(ValueError, match="dtype torch.int64"):
        register(fine, name="count", module=whole)
    with pytest.raises(ValueError, match="entries that are not finite"):
        constrained(torch.full((6,), torch.nan), fine)
    with pytest.raises(ValueError, match="6 columns"):
        DCS(fine).violation(torch.ones(5))


def test_decays_differences_and_losses_are_checked():
    layer = nn.Linear(3, 2)
    parametrize.register_parametrization(layer, "bias", DCS(torch.eye(2)))
    for bad in (-0.1, float("nan"), float("inf"), "0.1", None):
        with pytest.raises(ValueError, match="weight_decay is .*: a decay is a finite"):
            mirror.decay_groups(layer, bad)
        with pytest.raises(ValueError, match="others is"):
            mirror.decay_groups(layer, 0.1, others=bad)
    for bad in (layer.parameters(), None):
        with pytest.raises(ValueError, match="give a torch.nn.Module"):
            mirror.decay_groups(bad, 0.1)
    for n in (1, 0, -3, 2.5, "4", True):
        with pytest.raises(ValueError, match="an integer of 2 or more"):
            mirror.differences(n)
    theta, a = torch.ones(3), torch.eye(3)[:2]

    def critical(loss, **changed):
        return mirror.critical_decay(
            loss, **{"theta": theta, "constraint": a, **changed}
        )

    with pytest.raises(ValueError, match="a scalar tensor"):
        critical(lambda t: t)
    with pytest.raises(ValueError, match="does not depend on theta"):
        critical(lambda t: torch.ones(()))
    with pytest.raises(ValueError, match="gradient of the loss is not finite"):
        critical(lambda t: (t - 1).sqrt().sum())
    with pytest.raises(ValueError, match="3 columns"):
        critical(lambda t: t.sum(), theta=torch.ones(4))
    with pytest.raises(ValueError, match="do not add up"):
        critical(lambda t: t.sum(), groups=(3,))


@pytest.mark.parametrize("groups", [(), (1, 2)])
def test_the_critical_decay_of_a_general_matrix_is_by_the_pseudo_inverse(groups):
    draws = torch.Generator().manual_seed(0)
    for a in (torch.randn(3, 8, generator=draws), 2 * torch.eye(8)[:3]):
        g = torch.randn(8, generator=draws)
        mu = torch.linalg.pinv(a).T @ g
        expected = max(part.norm() for part in mu.split(groups or (1, 1, 1)))
        found = mirror.critical_decay(lambda t, g=g: t @ g, torch.ones(8), a, groups)
        assert found == pytest.approx(float(expected), rel=1e-5)
