"""Figure 9: training against torch, distances and clusters against definitions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from symlab.harness import contract, project, rng
from symlab.mirror import permutation, sign_flip

NAME = "homogeneous_ensembling"
ours = contract.load(project.find(Path(__file__).parent), NAME).module
SHORT = ours.Config(width=12, steps=600, samples=100)  # 600: more than one chunk


class Net(nn.Module):
    """The student as torch would have it: (1/m) a.tanh(W x), without biases."""

    def __init__(self, theta: np.ndarray):
        super().__init__()
        self.w = nn.Parameter(torch.from_numpy(theta[:-1].T.copy()))  # (m, D)
        self.a = nn.Parameter(torch.from_numpy(theta[-1].copy()))

    def forward(self, x, shift=(0.0, 0.0)):
        w, a = self.w + shift[0], self.a + shift[1]
        return torch.tanh(x @ w.T) @ a / len(a)


def trained_by_torch(c) -> np.ndarray:
    """Neurons (m, D+1) from autograd and torch.optim.SGD, theta + theta_0 spelt out."""
    theta, theta_0 = ours.start(c)
    net = Net(theta - theta_0)  # the network starts at theta, decay pulls to theta_0
    shift = torch.from_numpy(theta_0[:-1].T), torch.from_numpy(theta_0[-1])
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=c.lr * c.width,
        momentum=c.momentum,
        weight_decay=c.weight_decay / c.width,
    )
    x, y = (torch.from_numpy(v) for v in (ours.inputs(c)[0], ours.labels(c)))
    size = (c.steps, c.batch)
    order = rng.stream(c.seed, "order").integers(0, c.samples, size)
    fresh = torch.from_numpy(rng.stream(c.seed, "fresh noise").normal(size=size))
    for pick, eps in zip(order, fresh * c.fresh_noise, strict=True):
        loss = (net(x[pick], shift) - y[pick] - eps).square().mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    w, a = net.w + shift[0], net.a + shift[1]
    return torch.cat([w, a[:, None]], 1).detach().numpy()


def test_the_gradient_is_that_of_autograd():
    draws = torch.Generator().manual_seed(0)
    theta, x, y = (
        torch.randn(s, generator=draws, dtype=torch.float64)
        for s in [(3, 6, 12), (3, 7, 5), (3, 7, 1)]
    )
    found = ours.gradient(theta, x, y)
    theta.requires_grad_()
    p = torch.tanh(x @ theta[:, :-1]) @ theta[:, -1:].mT / 12
    loss = ((p - y) ** 2).mean((1, 2)).sum() / 2
    (expected,) = torch.autograd.grad(loss, theta)
    torch.testing.assert_close(found, 12 * expected, rtol=1e-12, atol=1e-14)


def test_lanes_train_as_torch_does_one_by_one():
    configs = [
        replace(SHORT, weight_decay=0.02, seed=4),
        replace(SHORT, weight_decay=0.02, offset=0.3, seed=4),
        replace(SHORT, weight_decay=0.0, fresh_noise=0.5, lr=0.1, seed=5),
        replace(SHORT, weight_decay=0.01, momentum=0.5, seed=4),
    ]
    theta, divergence = ours._train(configs)
    assert (divergence.at == -1).all()
    for c, neurons in zip(configs, theta, strict=True):
        np.testing.assert_allclose(neurons, trained_by_torch(c), rtol=1e-7, atol=1e-9)


def test_errors_are_those_of_the_network_on_unseen_clean_and_on_training_labels():
    (row,) = ours.run([SHORT])
    (neurons,), _ = ours._train([SHORT])
    net = Net(neurons.T)
    x, x_test = (torch.from_numpy(v) for v in ours.inputs(SHORT))
    t = ours.teacher(SHORT)
    clean = torch.tanh(x_test @ torch.from_numpy(t[:, :-1].T)) @ torch.from_numpy(
        t[:, -1]
    )
    with torch.no_grad():
        test = (net(x_test) - clean / 5).square().mean()
        train = (net(x) - torch.from_numpy(ours.labels(SHORT))).square().mean()
    assert row["test_error"] == pytest.approx(float(test))
    assert row["train_error"] == pytest.approx(float(train))
    norms = np.linalg.norm(t[:, :-1], axis=1)
    np.testing.assert_allclose(norms, np.abs(t[:, -1]))


def planted() -> np.ndarray:
    """Nine neurons: three copied (one with its sign changed), two dead."""
    draws = np.random.default_rng(0)
    a, b, c = draws.normal(size=(3, 6))
    near = a + 0.002 * np.linalg.norm(a) * np.eye(6)[0]
    return np.stack([a, near, -a, b, b, c, 1.5 * c, 1e-3 * b, -1e-4 * c])


def test_planted_copies_of_either_sign_are_one_neuron_and_the_dead_are_one():
    neurons = planted()
    assert ours.alive(neurons).tolist() == [True] * 7 + [False] * 2
    # a and its copies, b, c, 1.5 c, and the dead
    assert ours.distinct(neurons, 0.01) == 5
    assert ours.distinct(neurons[:7], 0.01) == 4
    assert ours.distinct(neurons, 0.001) == 6
    assert ours.distinct(neurons[[0]], 0.01) == 1


def test_clusters_are_those_of_scikit_learn():
    from sklearn.cluster import AgglomerativeClustering

    draws = np.random.default_rng(1)
    neurons = draws.normal(size=(8, 4))[draws.integers(0, 8, 40)]
    neurons += 0.05 * draws.normal(size=neurons.shape)
    neurons *= draws.choice([-1, 1], size=(40, 1))
    counts, norm = [], np.linalg.norm(neurons, axis=1)
    relative = np.array(
        [
            [min(np.linalg.norm(p - q), np.linalg.norm(p + q)) for p in neurons]
            for q in neurons
        ]
    ) / np.maximum(norm[:, None], norm)
    for within in (0.02, 0.05, 0.1, 0.2):
        theirs = AgglomerativeClustering(
            n_clusters=None,
            distance_threshold=within,
            metric="precomputed",
            linkage="average",
        ).fit(relative)
        counts.append(ours.distinct(neurons, within))
        assert counts[-1] == theirs.n_clusters_
    assert len(set(counts)) > 2


def test_mirror_distance_is_that_of_the_nearest_mirror_that_the_loss_has():
    neurons = np.random.default_rng(2).normal(size=(6, 4))
    neurons[3] = -neurons[0]
    x = torch.randn(20, 3, dtype=torch.float64)

    def loss(p):
        return (torch.tanh(x @ p["w"].T) @ p["a"]).square().mean()

    params = {
        "w": torch.from_numpy(neurons[:, :3]),
        "a": torch.from_numpy(neurons[:, 3]),
    }
    axes = {"w": 0, "a": 0}
    nearest = np.full(6, np.inf)
    for i in range(6):
        flip = sign_flip(params, axes, i)
        flip.check(loss, params)
        for j in set(range(6)) - {i}:
            swap = permutation(params, axes, i, j)
            swap.check(loss, params)
            for at in (params, flip.reflect(params)):
                nearest[i] = min(nearest[i], float(swap.distance(at)))
    expected = nearest / np.linalg.norm(neurons, axis=1)
    np.testing.assert_allclose(ours.mirror_distances(neurons), expected, atol=1e-14)
    assert expected[0] == expected[3] == 0 < expected.max()


def test_copies_stay_copies_and_the_static_bias_parts_them(monkeypatch):
    """theta_i = theta_j is stationary under SGD; with theta_0 it is not."""
    theta, theta_0 = ours.start(replace(SHORT, offset=0.2))
    theta[:, 1] = theta[:, 0]
    for offset, equal in ((0.0, True), (1.0, False)):
        monkeypatch.setattr(
            ours, "start", lambda c, o=offset: (theta.copy(), o * theta_0)
        )
        (neurons,), _ = ours._train([SHORT])
        assert (np.abs(neurons[0] - neurons[1]).max() < 1e-12) == equal


def test_a_static_bias_without_decay_is_only_a_new_name():
    assert not ours.start(SHORT)[1].any()
    wide = ours.start(replace(SHORT, width=500, offset=0.3))[1]
    assert wide.std() == pytest.approx(0.3, rel=0.05)
    free = replace(SHORT, weight_decay=0.0)
    one, other = ours.run([free, replace(free, offset=0.5)])
    assert one["test_error"] == pytest.approx(other["test_error"], rel=1e-9)
    np.testing.assert_allclose(one["incoming"], other["incoming"], atol=2e-3)


def test_a_rate_too_large_is_a_divergence_and_the_other_lanes_go_on():
    with np.errstate(all="ignore"):
        wild, calm = ours.run([replace(SHORT, lr=1e4), SHORT])
    assert wild["diverged_at"] > 0
    assert calm["diverged_at"] == -1
    (alone,) = ours.run([SHORT])
    np.testing.assert_array_equal(calm.pop("incoming"), alone.pop("incoming"))
    assert calm == pytest.approx(alone, rel=1e-9, abs=1e-12)
