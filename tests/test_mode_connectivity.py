"""mode_connectivity and its parts: the zoo, alignment, planted orders, the STE."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn import functional

from symlab.mirror import alignment as svd
from symlab.mirror.indices import indices
from symlab.mirror.match import match
from symlab.mirror.merge import barrier
from symlab.mirror.planted import plant, recovered
from symlab.models import zoo
from symlab.models.vision import torchvision

DRAWS = np.random.default_rng(0)
SMALL = {"width": 16, "layers": 2, "weight_decay": 1e-3, "seed": 3}


@pytest.fixture(scope="module")
def group():
    """Two networks of 16 units after 400 steps, their data and their indices."""
    arrays = zoo.train(**SMALL, steps=400, models=2)
    models, data = zoo.members(arrays), zoo.digits(3)
    found = indices(models[1], zoo.loss, (data.x[:32], data.y[:32]))
    return arrays, models, data, found


# --- the zoo -------------------------------------------------------------------------


def test_a_network_is_the_same_alone_and_in_a_group():
    together = zoo.train(**SMALL, steps=20, models=3)
    alone = zoo.train(**SMALL, steps=20, models=1)
    for name, t in alone.items():
        np.testing.assert_allclose(t[0], together[name][0], atol=1e-6)
        assert not np.allclose(t[0], together[name][1], atol=1e-3)


def test_a_group_is_torch_adam_on_each_network():
    """Ten steps of one network by torch.optim.Adam alone, on the same draws."""
    from symlab.harness import rng

    arrays = zoo.train(**SMALL, steps=10, models=1)
    model = zoo.network(16, 2)
    start, order = rng.stream(3, "init 0"), rng.stream(3, "order 0")
    for layer in model[::2]:
        for p in layer.parameters():
            drawn = start.uniform(-1, 1, p.shape) / layer.in_features**0.5
            p.data = torch.from_numpy(drawn).float()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, weight_decay=1e-3)
    data = zoo.digits(3)
    for step in range(10):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 + np.cos(np.pi * step / 10)) / 2
        some = order.integers(0, 1400, 64)
        noise = torch.from_numpy(order.standard_normal((64, 64), np.float32))
        optimizer.zero_grad()
        zoo.loss(model, (data.x[some] + 0.1 * noise, data.y[some])).backward()
        optimizer.step()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(arrays[name][0], p.detach(), atol=2e-6)


def test_networks_learn_and_the_split_is_of_all_digits(group):
    _, models, data, _ = group
    assert len(data.x) == 1400
    assert len(data.x_test) == 397
    other = zoo.digits(4)
    sums = [torch.cat([d.x, d.x_test]).double().sum() for d in (data, other)]
    assert sums[0] == pytest.approx(sums[1])
    assert not torch.equal(data.x, other.x)
    assert all(zoo.accuracy(m, data) > 0.6 for m in models)


def test_asymmetric_networks_share_constants_and_have_no_permutation():
    arrays = zoo.train(**SMALL, steps=20, models=2, fixed=0.25)
    a, b = zoo.members(arrays, 0.25, seed=3)
    for x, y, share in zip(a[::2], b[::2], (0.25, 0.25, 0.5), strict=True):
        assert torch.equal(x.free, y.free)
        assert torch.equal(x.constants, y.constants)
        assert bool(((1 - x.free).sum(1) == share * x.in_features).all())
        assert not torch.equal(x.weight * x.free, y.weight * y.free)
    data = zoo.digits(3)
    batch = data.x[:32], data.y[:32]
    kinds = [i.kind for i in indices(a, zoo.loss, batch)]
    assert "permutation" not in kinds
    # a constant decides: what the layer computes changes with it
    before = a(data.x_test)
    a[0].constants += 1
    assert (a(data.x_test) - before).abs().max() > 0.1


def test_the_mean_of_networks_is_that_of_their_parameters(group):
    _, (a, b), _, _ = group
    mean = zoo.average([a, b, b])
    expected = (a[2].weight + 2 * b[2].weight) / 3
    torch.testing.assert_close(mean[2].weight, expected)


# --- alignment -----------------------------------------------------------------------


def test_alignment_is_what_its_formula_says():
    a, b = ([DRAWS.normal(size=s) for s in ((5, 8), (4, 5))] for _ in range(2))
    gamma, total, counts = 0.5, 0.0, np.zeros(2)
    for x, y in zip(a, b, strict=True):
        (u, s, v), (w, t, z) = np.linalg.svd(x), np.linalg.svd(y)
        for i in np.flatnonzero(s >= gamma * s.max()):
            for j in np.flatnonzero(t >= gamma * t.max()):
                total += (u[:, i] @ w[:, j]) * (v[i] @ z[j])
        counts += (s >= gamma * s.max()).sum(), (t >= gamma * t.max()).sum()
    expected = total / np.sqrt(counts.prod())
    assert svd.alignment(a, b, gamma) == pytest.approx(expected, rel=1e-10)
    assert svd.alignment(a, a, gamma) == pytest.approx(1, rel=1e-12)
    assert svd.alignment(a, [-x for x in a]) == pytest.approx(-1, rel=1e-12)
    with pytest.raises(ValueError, match="share of the largest singular value, not 2"):
        svd.alignment(a, b, 2)


def test_pairs_sum_to_the_inner_product_and_leading_ones_to_their_share():
    a, b = DRAWS.normal(size=(2, 6, 9))
    p = svd.pairs(a, b)
    assert p.sum() == pytest.approx((a * b).sum(), rel=1e-12)
    gain, energy = svd.leading_shares([a], [b], 2)
    assert gain == pytest.approx(p[:2, :2].sum() / p.sum(), rel=1e-12)
    s = np.linalg.svd(a, compute_uv=False)
    assert energy == pytest.approx((s[:2] ** 2).sum() / (a**2).sum(), rel=1e-12)


def test_a_permutation_moves_no_singular_value_and_noise_does():
    a = DRAWS.normal(size=(6, 9))
    moved = a[DRAWS.permutation(6)][:, DRAWS.permutation(9)]
    assert svd.values_moved([a], [moved]) < 1e-12
    assert svd.identity_error([a], [moved]) < 1e-12
    assert svd.values_moved([a], [a + 0.1]) > 1e-3


# --- matching ------------------------------------------------------------------------


def test_a_planted_order_is_recovered_and_computes_the_same(group):
    _, (a, _), data, found = group
    moved, orders = plant(a, found, np.random.default_rng(1))
    assert len(orders) == 2
    torch.testing.assert_close(a(data.x), moved(data.x), rtol=1e-4, atol=1e-4)
    result = match(a, moved, zoo.loss, data.train, specification=found)
    assert recovered(result, orders) == 1
    wrong = match(moved, moved, zoo.loss, data.train, specification=found)
    assert recovered(wrong, orders) < 0.5
    with pytest.raises(ValueError, match="the model has no permutation"):
        recovered(result, {})


def test_noise_of_a_planted_copy_has_the_size_that_was_asked_for(group):
    _, (a, _), _, _ = group
    moved, _ = plant(a, [], np.random.default_rng(1), noise=0.5)
    before, after = (m[0].weight.detach().numpy() for m in (a, moved))
    assert (after - before).std() / before.std() == pytest.approx(0.5, rel=0.1)


def test_one_hidden_layer_is_an_assignment_problem():
    """scipy, on the similarity of all weights of a unit."""
    torch.manual_seed(0)
    a, b = (nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 3)) for _ in "ab")
    batch = torch.randn(32, 5), torch.arange(32) % 3
    (order,) = match(a, b, zoo.loss, batch).orders.values()
    x, y = (
        torch.cat([m[0].weight, m[0].bias[:, None], m[2].weight.T], 1).detach().numpy()
        for m in (a, b)
    )
    assert order.tolist() == linear_sum_assignment(x @ y.T, maximize=True)[1].tolist()


def test_where_the_straight_through_estimator_starts(group):
    """Without a step: at A it is weight matching, at B it changes nothing."""
    _, (a, b), data, found = group
    options = {"specification": found, "steps": 0, "by": "straight-through"}
    at_a = match(a, b, zoo.loss, data.train, start="a", **options)
    at_b = match(a, b, zoo.loss, data.train, start="b", **options)
    weights = match(a, b, zoo.loss, data.train, specification=found)
    assert at_a.after == weights.after < weights.before
    assert at_b.after == at_b.before == weights.before
    options["steps"] = 20
    moved = match(a, b, zoo.loss, data.train, start="b", lr=0.03, **options)
    assert moved.after != moved.before
    with pytest.raises(ValueError, match="start must be 'a' or 'b', not 'c'"):
        match(a, b, zoo.loss, data.train, start="c", **options)


class Product(nn.Module):
    """f = u v, which is 1 at (1, 1) and at (-1, -1), and 0 half way."""

    def __init__(self, u: float):
        super().__init__()
        self.u, self.v = (nn.Parameter(torch.tensor(u)) for _ in "uv")

    def forward(self):
        return self.u * self.v


def test_the_barrier_of_a_product_is_exact():
    frame = barrier(
        Product(1.0), Product(-1.0), lambda m, _: (m() - 1).square(), [None], 11
    )
    t = np.linspace(0, 1, 11)
    expected = ((1 - 2 * t) ** 2 - 1) ** 2
    np.testing.assert_allclose(frame.loss, expected, atol=1e-6)
    assert frame.attrs["barrier"] == pytest.approx(1, abs=1e-6)


@pytest.mark.long
def test_the_audit_specifies_resnet18_for_planting_and_matching():
    """All 12 indices of torchvision's network, found by the audit, are put back."""
    torch.manual_seed(0)
    model = torchvision().models.resnet18(num_classes=10).eval()
    batch = torch.randn(2, 3, 32, 32), torch.arange(2)
    found = indices(model, zoo.loss, batch)
    moved, orders = plant(model, found, np.random.default_rng(0))
    assert len(orders) == 12
    result = match(model, moved, zoo.loss, batch, specification=found)
    assert recovered(result, orders) == 1
    assert functional.mse_loss(model(batch[0]), moved(batch[0])) < 1e-6
