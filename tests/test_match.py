"""symlab.mirror.match: planted symmetries are undone, trained models are connected."""

import copy
import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from symlab.mirror import barrier, match, merge, reset_statistics
from symlab.mirror.descent import floating
from symlab.mirror.indices import indices
from symlab.mirror.units import Element, Index
from symlab.models.vision import torchvision
from tests.test_audit import TOKENS, Transformer, next_token


def cross_entropy(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def planted(model: nn.Module, found: list[Index], partial_signs: bool = True):
    """A copy, moved by a random element of every index at once, and the orders.

    Signs that only some readers see (a norm's gain with what reads it) can be left out.
    """
    draws = torch.Generator().manual_seed(1)
    moved, orders = copy.deepcopy(model), {}
    tensors = floating(moved)
    for index in found:
        if index.unknown or index.kind == "none":
            continue
        m = index.units
        if index.kind == "rotation":
            q = torch.linalg.qr(torch.randn(m, m, generator=draws).double())[0]
            index.act_(Element(matrix=q), tensors)
            continue
        order = torch.randperm(m, generator=draws)
        orders["heads: " * index.heads + index.text()] = order
        index.act_(Element(order=order), tensors)
        for parts in index.signs if partial_signs else ():
            sign = torch.randint(2, (m,), generator=draws) * 2.0 - 1
            index.act_(Element(factors=dict.fromkeys(parts, sign)), tensors)
    return moved, orders


def largest_difference(a: nn.Module, b: nn.Module) -> float:
    pairs = zip(floating(a).values(), floating(b).values(), strict=True)
    return max(float((x - y).abs().max()) for x, y in pairs)


# --- planted symmetries --------------------------------------------------------------


IMAGES = (torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)),
          torch.arange(3))  # fmt: skip


@pytest.fixture(scope="module")
def resnet():
    """ResNet-18 with statistics that differ between units, and its indices."""
    torch.manual_seed(0)
    model = torchvision().models.resnet18(num_classes=10).eval()
    for name, t in floating(model).items():
        if name.endswith("running_mean"):
            t.normal_(std=0.1)
        if name.endswith("running_var"):
            t.uniform_(0.5, 1.5)
    return model, indices(model, cross_entropy, IMAGES)


def test_resnet18_is_recovered_bit_for_bit(resnet):
    model, found = resnet
    moved, orders = planted(model, found)
    assert len(orders) == 12
    result = match(model, moved, cross_entropy, IMAGES, specification=found)
    assert largest_difference(model, moved) > 0.1
    assert largest_difference(model, result.apply(moved)) == 0
    assert result.distance[1] == 0 < result.distance[0]
    for name, order in orders.items():
        assert torch.equal(order[result.orders[name]], torch.arange(len(order)))


def vision_transformer() -> nn.Module:
    model = torchvision().models.VisionTransformer(
        image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16,
        mlp_dim=24, num_classes=5,
    ).eval()  # fmt: skip
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)  # its head and its biases start at zero
    return model


SMALL = (IMAGES[0][..., :8, :8], IMAGES[1])


@pytest.mark.parametrize("by", ["weights", "activations"])
@pytest.mark.parametrize(
    ("make", "loss", "batch", "kinds"),
    [
        (vision_transformer, cross_entropy, SMALL, 5),
        (Transformer, next_token, TOKENS, 5),
    ],
)
def test_transformers_are_recovered(make, loss, batch, kinds, by):
    """The stream, hidden layers, heads, and the rotations inside of every head."""
    torch.manual_seed(0)
    model = make()
    found = indices(model, loss, batch)
    moved, orders = planted(model, found, partial_signs=by == "weights")
    assert len(orders) == kinds
    result = match(model, moved, loss, batch, by=by, specification=found)
    assert largest_difference(model, moved) > 0.5
    assert largest_difference(model, result.apply(moved)) < 1e-5


def test_without_rotations_heads_and_units_are_exchanged_only():
    torch.manual_seed(0)
    model = Transformer()
    found = indices(model, next_token, TOKENS)
    some = [i for i in found if i.kind != "rotation"]
    moved, _ = planted(model, some)
    result = match(
        model, moved, next_token, TOKENS, rotations=False, specification=found
    )
    assert all(g.matrix is None for _, g in result.steps)
    assert largest_difference(model, result.apply(moved)) == 0


class Recurrent(nn.Module):
    """h <- tanh(W h + U x): W carries the index on both of its axes."""

    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.RNNCell(4, 9), nn.Linear(9, 3)

    def forward(self, x):  # (N, T, 4)
        h = torch.zeros(len(x), 9).to(x)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.out(h)


def test_a_matrix_between_units_of_one_index_is_recovered():
    torch.manual_seed(0)
    model, batch = Recurrent(), (torch.randn(8, 3, 4), torch.arange(8) % 3)
    found = indices(model, cross_entropy, batch)
    moved, orders = planted(model, found)
    assert len(orders) == 1
    result = match(model, moved, cross_entropy, batch, specification=found)
    assert largest_difference(model, result.apply(moved)) == 0


def test_what_the_audit_does_not_know_is_left_and_named():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, x):
            return self.out(self.lstm(x)[0][:, -1])

    torch.manual_seed(0)
    batch = (torch.randn(8, 3, 4), torch.arange(8) % 3)
    result = match(Gated(), Gated(), cross_entropy, batch)
    assert result.before == result.after
    assert "out.weight:1" in result.left


# --- against direct solutions --------------------------------------------------------


@pytest.mark.parametrize(("function", "signed"), [(nn.ReLU, False), (nn.Tanh, True)])
def test_one_hidden_layer_is_matched_as_well_as_any_order(function, signed):
    """The optimum over all 4! orders, and 2**4 signs of tanh, by trying them."""
    torch.manual_seed(0)
    a, b = (
        nn.Sequential(nn.Linear(5, 4), function(), nn.Linear(4, 3)) for _ in range(2)
    )
    batch = (torch.randn(16, 5), torch.arange(16) % 3)
    result = match(a, b, cross_entropy, batch)

    def squares(order, sign):
        moved = copy.deepcopy(b)
        with torch.no_grad():
            moved[0].weight.copy_(sign[:, None] * b[0].weight[order])
            moved[0].bias.copy_(sign * b[0].bias[order])
            moved[2].weight.copy_(sign * b[2].weight[:, order])
        pairs = zip(a.parameters(), moved.parameters(), strict=True)
        return sum((x - y).square().sum().item() for x, y in pairs)

    signs = itertools.product([1.0, -1.0] if signed else [1.0], repeat=4)
    signs = [torch.tensor(s) for s in signs]
    best = min(
        squares(list(order), sign)
        for order in itertools.permutations(range(4))
        for sign in signs
    )
    assert result.after**2 == pytest.approx(best, rel=1e-5)
    assert result.after < result.before


def tanh_values(model: nn.Module, x) -> np.ndarray:
    with torch.no_grad():
        return model[1](model[0](x)).T.numpy()  # (units, samples)


def test_activations_are_matched_by_their_correlations_up_to_sign():
    torch.manual_seed(0)
    a, b = (
        nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 3)) for _ in range(2)
    )
    batch = (torch.randn(64, 5), torch.arange(64) % 3)
    result = match(a, b, cross_entropy, batch, by="activations")
    x, y = (tanh_values(m, batch[0]) for m in (a, b))
    r = np.corrcoef(x, y)[:12, 12:]
    rows, columns = linear_sum_assignment(-abs(r))
    (order,) = result.orders.values()
    assert order.tolist() == columns.tolist()
    expected = np.sign(r[rows, columns])[:, None] * y[columns]
    np.testing.assert_allclose(
        tanh_values(result.apply(b), batch[0]), expected, rtol=1e-5, atol=1e-6
    )
    weights = match(a, b, cross_entropy, batch)
    assert not torch.equal(*weights.orders.values(), order)


# --- trained models ------------------------------------------------------------------


DIGITS = load_digits()
X = torch.tensor(DIGITS.data / 16).float()
Y = torch.tensor(DIGITS.target)
TRAIN, TEST = (X[:1400], Y[:1400]), (X[1400:], Y[1400:])


def trained(seed: int, norm: bool = False) -> nn.Module:
    """Two hidden relu layers of 64 units, after 400 steps of Adam."""
    torch.manual_seed(seed)
    between = [nn.BatchNorm1d(64), nn.ReLU()] if norm else [nn.ReLU()]
    model = nn.Sequential(
        nn.Linear(64, 64), *copy.deepcopy(between), nn.Linear(64, 64), *between,
        nn.Linear(64, 10))  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, weight_decay=1e-3)
    for _ in range(400):
        some = torch.randint(1400, (64,))
        optimizer.zero_grad()
        cross_entropy(model, (X[some], Y[some])).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def pair():
    return trained(0), trained(1)


def height(a, b, **options) -> float:
    return barrier(a, b, cross_entropy, [TEST], **options).attrs["barrier"]


def test_a_model_and_its_permuted_copy_are_connected_after_matching(pair):
    a, _ = pair
    found = indices(a, cross_entropy, (X[:64], Y[:64]))
    moved, _ = planted(a, found)
    result = match(a, moved, cross_entropy, TRAIN, specification=found)
    assert height(a, moved) > 0.3
    assert height(a, result.apply(moved)) == 0


@pytest.mark.parametrize("by", ["weights", "activations", "straight-through"])
def test_trained_models_are_connected_after_matching(pair, by):
    """Barriers on the test digits: 0.8 as they are, below 0.1 when matched."""
    a, b = pair
    result = match(a, b, cross_entropy, TRAIN, by=by, steps=30)
    moved = result.apply(b)
    torch.testing.assert_close(moved(X), b(X), rtol=1e-4, atol=1e-4)
    assert height(a, b) > 0.5
    assert height(a, moved) < 0.1
    assert result.after < 0.8 * result.before


def test_the_straight_through_estimator_has_less_loss_half_way(pair):
    a, b = pair
    losses = []
    for by, lr in (("weights", 0), ("straight-through", 0.01), ("straight-through", 1)):
        result = match(a, b, cross_entropy, TRAIN, by=by, steps=20, lr=lr)
        losses.append(cross_entropy(merge(a, b, match=result), TRAIN).item())
    assert losses[1] < losses[0]
    assert losses[2] <= losses[0]  # too large a step: the best of all is kept


@pytest.fixture(scope="module")
def normed():
    return trained(0, norm=True), trained(1, norm=True)


def test_statistics_go_along_but_do_not_count(normed):
    orders = []
    for last in (1, 100):
        a, b = copy.deepcopy(normed)
        a[1].running_var *= torch.linspace(1, last, 64)
        b[1].running_var *= torch.linspace(last, 1, 64)
        result = match(a, b, cross_entropy, (X[:64], Y[:64]))
        orders.append(list(result.orders.values()))
        expected = b[1].running_var[orders[-1][0]]
        torch.testing.assert_close(result.apply(b)[1].running_var, expected)
    assert all(torch.equal(x, y) for x, y in zip(*orders, strict=True))


def test_statistics_of_a_merged_model_are_reset(normed):
    """Batch norm of half-way weights: its old statistics are wrong, the new exact."""
    a, b = normed
    result = match(a, b, cross_entropy, (X[:256], Y[:256]))
    merged = merge(a, b, match=result)
    reset = reset_statistics(copy.deepcopy(merged), [TRAIN], cross_entropy)
    z = merged[0](X[:1400])
    torch.testing.assert_close(reset[1].running_mean, z.mean(0))
    torch.testing.assert_close(reset[1].running_var, z.var(0))
    assert not reset.training
    assert not reset[1].training
    assert reset[1].momentum == 0.1
    assert cross_entropy(reset, TEST).item() < cross_entropy(merged, TEST).item()
    moved = result.apply(b)
    assert height(a, moved, reset=True) < height(a, moved) < height(a, b)


def test_merged_parameters_and_the_line(pair):
    a, b = pair
    for weight, end in ((0.0, a), (1.0, b)):
        assert largest_difference(merge(a, b, weight), end) == 0
    quarter = merge(a, b, 0.25)
    expected = 0.75 * a[0].weight + 0.25 * b[0].weight
    torch.testing.assert_close(quarter[0].weight, expected)
    matched = merge(a, b, 1.0, loss=cross_entropy, batch=(X[:64], Y[:64]))
    torch.testing.assert_close(matched(X), b(X), rtol=1e-4, atol=1e-4)
    frame = barrier(a, b, cross_entropy, [TRAIN, TEST], points=5)
    assert frame.weight.tolist() == [0, 0.25, 0.5, 0.75, 1]
    both = [[cross_entropy(m, x).item() for x in (TRAIN, TEST)] for m in (a, b)]
    ends = [sum(x) / 2 for x in both]
    assert frame.loss.iloc[[0, -1]].tolist() == pytest.approx(ends)
    assert frame.attrs["barrier"] == frame.excess.max() == frame.excess[2]
    assert frame.chord[2] == pytest.approx(sum(ends) / 2)


# --- errors --------------------------------------------------------------------------


def test_errors_say_what_is_wrong(pair):
    a, b = pair
    other = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    with pytest.raises(ValueError, match=r"'0.weight' is of shape \(64, 64\) in a and"):
        match(a, other, cross_entropy, TRAIN)
    with pytest.raises(ValueError, match=r"'2.weight' .* absent in b"):
        merge(other, nn.Sequential(nn.Linear(64, 32)))
    with pytest.raises(ValueError, match="one of weights, activations"):
        match(a, b, cross_entropy, TRAIN, by="distance")


def test_a_wrong_certificate_is_seen(pair):
    """Units whose reader is left out of the index."""
    a, b = pair
    (index, *_) = indices(b, cross_entropy, (X[:64], Y[:64]))
    wrong = Index("permutation", index.parts[:1])
    with pytest.raises(RuntimeError, match="would change the model's outputs"):
        match(a, b, cross_entropy, TRAIN, specification=[wrong])
