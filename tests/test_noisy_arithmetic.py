"""Sums with wrong labels: oracles are numpy's FFT, torch's AdamW and brute force."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from symlab import fourier
from symlab.harness import contract, project
from symlab.modular_network import logits, start, train

PROJECT = project.find(Path(__file__).resolve().parents[1])
module = contract.load(PROJECT, "noisy_arithmetic").module
CONFIG = module.Config(n=7, width=16, noise=0.5)


def waves(n: int, width: int, draws) -> list[np.ndarray]:
    """U, V, W (width, n) of cosines whose phases add: the rule in closed form."""
    w = draws.integers(1, (n + 1) // 2, width)[:, None]
    phase = draws.uniform(0, 2 * np.pi, (2, width, 1))
    angle = 2 * np.pi * w * np.arange(n) / n
    parts = (angle + phase[0], angle + phase[1], angle + phase[0] + phase[1])
    return [np.cos(x) for x in parts]


@pytest.mark.parametrize("n", [3, 7, 31])
def test_frequencies_are_those_of_the_fast_fourier_transform(n):
    x, y = np.random.default_rng(n).normal(size=(2, 5, n))
    size = np.abs(np.fft.rfft(x)[:, 1:]) ** 2
    np.testing.assert_allclose(fourier.power(x), 2 * size / n)
    shares = [np.abs(np.fft.rfft(z)[:, 1:]) ** 2 for z in (x, y)]
    shares = sum(s / s.sum(1, keepdims=True) for s in shares)
    found = fourier.dominant(x, y)
    np.testing.assert_array_equal(found, shares.argmax(1) + 1)
    only = np.fft.rfft(x) * (np.arange(n // 2 + 1) == found[:, None])
    np.testing.assert_allclose(
        fourier.keep(x, found), np.fft.irfft(only, n), atol=1e-12
    )


def test_characters_are_orthonormal_and_shifts_keep_their_planes():
    c = fourier.characters(9).reshape(-1, 9)
    np.testing.assert_allclose(c @ c.T, np.eye(8), atol=1e-12)
    x = np.random.default_rng(0).normal(size=(4, 9))
    w = np.array([1, 2, 3, 4])
    moved = fourier.keep(np.roll(x, 2, -1), w)
    np.testing.assert_allclose(moved, np.roll(fourier.keep(x, w), 2, -1), atol=1e-12)


def test_what_has_no_answer_is_refused():
    with pytest.raises(ValueError, match="use an odd number"):
        fourier.characters(8)
    with pytest.raises(ValueError, match="keep at least one"):
        fourier.orbit_average(np.zeros((3, 3, 3)), np.zeros((3, 3), bool))


def test_the_orbit_average_is_that_over_all_group_elements():
    n = 5
    table = np.random.default_rng(0).normal(size=(n, n, n))
    average = np.mean(
        [np.roll(table, (s, t, s + t), (0, 1, 2)) for s in range(n) for t in range(n)],
        axis=0,
    )
    found = fourier.orbit_average(table, np.ones((n, n), bool))
    np.testing.assert_allclose(average[0, 0], found)
    np.testing.assert_allclose(fourier.by_offset(average), np.tile(found, (n, n, 1)))


def test_the_filter_returns_a_rule_that_noise_hid():
    draws = np.random.default_rng(1)
    clean = waves(31, 256, draws)
    truth, all_pairs = (
        np.add.outer(np.arange(31), np.arange(31)) % 31,
        np.ones((31, 31)),
    )
    assert module.accuracy(logits(*clean, square=True), truth, all_pairs > 0) == 1
    for got, x in zip(module.filtered(*clean), clean, strict=True):
        np.testing.assert_allclose(got, x, atol=1e-9)
    hidden = [x + draws.normal(size=x.shape) for x in clean]
    raw = module.accuracy(logits(*hidden), truth, all_pairs > 0)
    read = module.accuracy(
        logits(*module.filtered(*hidden), square=True), truth, all_pairs > 0
    )
    assert raw < read - 0.1
    assert read > 0.95


def test_training_is_that_of_torch():
    c = CONFIG
    labels, kept, noisy = module.data(c)
    first = start(c.n, c.width, np.random.default_rng(0))
    how = {"steps": 25, "lr": 1e-2, "weight_decay": 0.1, "every": 5}
    mine, curves = train(first, labels, kept, (noisy, kept & ~noisy), **how)

    u, v, w, mu = (torch.nn.Parameter(torch.from_numpy(x.copy())) for x in first)
    optimizer = torch.optim.AdamW([u, v, w, mu], 1e-2, (0.9, 0.98), weight_decay=0.1)
    a, b = np.nonzero(kept)
    y = torch.from_numpy(labels[kept])
    wrong = torch.from_numpy(noisy[kept])
    seen = []
    for t in range(25):
        out = torch.relu(u[:, a] + v[:, b]).T @ w + mu.T
        if t % 5 == 0:
            right = (out.argmax(1) == y).float()
            seen.append([float(right[wrong].mean()), float(right[~wrong].mean())])
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(out, y).backward()
        optimizer.step()
    for got, want in zip(mine, (u, v, w, mu), strict=True):
        np.testing.assert_allclose(got, want.detach(), atol=2e-4)
    np.testing.assert_allclose(curves, seen, atol=1e-6)
    out = torch.relu(u[:, a] + v[:, b]).T @ w + mu.T
    np.testing.assert_allclose(logits(*mine)[kept], out.detach(), atol=1e-3)


def test_noise_is_exact_nested_and_wrong():
    truth = np.add.outer(np.arange(7), np.arange(7)) % 7
    before = np.zeros((7, 7), bool)
    for noise in (0.0, 0.3, 0.8, 1.0):
        labels, kept, noisy = module.data(replace(CONFIG, noise=noise))
        assert kept.sum() == 39
        assert noisy.sum() == round(noise * 39)
        np.testing.assert_array_equal(labels != truth, noisy)
        assert not (before & ~noisy).any()
        assert not (noisy & ~kept).any()
        before = noisy


def test_the_vote_is_right_as_often_as_its_law_says():
    draws, n, runs = np.random.default_rng(0), 31, 4000
    pairs = round(0.8 * n * n)
    (law,) = module.vote_law(np.array([0.955]), n, 0.8)
    wrong = round(0.955 * pairs)
    counts = draws.multinomial(wrong, np.full(n - 1, 1 / (n - 1)), runs)
    found = (counts.max(1) < pairs - wrong).mean()
    assert 0.2 < found < 0.9
    assert found == pytest.approx(law, abs=0.03)
    assert module.vote_law(np.array([0.5, 1 - 1 / n]), n, 0.8) == pytest.approx(
        [1, 0], abs=0.01
    )
