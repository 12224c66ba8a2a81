"""pleas: least squares on features against numpy, and what it refuses."""

import numpy as np
import pytest
import torch
from torch import nn

from experiments import pleas
from symlab.harness import Context
from symlab.mirror.least_squares import refit
from symlab.mirror.merge import merge
from symlab.models import zoo

N, RIDGE = 40, 0.01


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return [
        nn.Sequential(
            nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3)
        ).double()
        for _ in range(2)
    ]


def array(t: torch.Tensor) -> np.ndarray:
    return t.detach().numpy()


@pytest.mark.parametrize("inputs", ["averaged", "merged"])
@pytest.mark.parametrize("n", [N, 4])
def test_each_layer_is_the_least_squares_solution_of_numpy(pair, inputs, n):
    """The penalty as rows of an ordinary problem; with 4 samples it decides."""
    a, b = pair
    x = torch.randn(n, 6).double()
    fitted = refit(a, b, x, ridge=RIDGE, inputs=inputs)
    features = [x, x, x]  # in a, in b and in the merged network
    for i in (0, 2, 4):
        ours, theirs, own = features
        design = array((ours + theirs) / 2 if inputs == "averaged" else own)
        design = np.c_[design, np.ones(n)]
        z = array((a[i](ours) + b[i](theirs)) / 2)
        means = ((a[i].weight + b[i].weight) / 2, (a[i].bias + b[i].bias) / 2)
        start = np.c_[tuple(map(array, means))].T  # (D + 1, O)
        root = np.sqrt(n * RIDGE) * np.eye(design.shape[1])
        rows, targets = np.r_[design, root], np.r_[z, root @ start]
        best = np.linalg.lstsq(rows, targets, rcond=None)[0]
        np.testing.assert_allclose(array(fitted[i].weight), best[:-1].T, atol=1e-10)
        np.testing.assert_allclose(array(fitted[i].bias), best[-1], atol=1e-10)
        models = (a, b, fitted)
        features = [m[i](h).relu() for m, h in zip(models, features, strict=True)]


def test_equal_networks_stay_as_they_are(pair):
    a, _ = pair
    x = torch.randn(N, 6).double()
    torch.testing.assert_close(refit(a, a, x)(x), a(x))


def test_the_fit_is_nearer_to_the_mean_outputs_than_the_mean_weights(pair):
    a, b = pair
    x = torch.randn(200, 6).double()
    target = (a(x) + b(x)) / 2
    errors = [
        (m(x) - target).square().mean().item()
        for m in (refit(a, b, x, inputs="merged"), merge(a, b))
    ]
    assert errors[0] < 0.8 * errors[1], errors


def test_what_cannot_be_fitted_is_refused(pair):
    a, b = pair
    x = torch.randn(N, 6).double()
    with pytest.raises(ValueError, match="one of averaged, merged, not 'mean'"):
        refit(a, b, x, inputs="mean")
    with pytest.raises(ValueError, match="no unique solution without it"):
        refit(a, b, x, ridge=0.0)
    norm = nn.BatchNorm1d(6).double()
    with pytest.raises(ValueError, match="no torch.nn.Linear"):
        refit(norm, norm, x)
    shared = nn.Linear(6, 6).double()
    twice = nn.Sequential(shared, nn.ReLU(), shared)
    with pytest.raises(ValueError, match="'0' is called more than once"):
        refit(twice, twice, x)


def test_a_run_merges_by_hand_what_it_says():
    """Rows of a small pair: the mean, and that calibration labels play no part."""
    small = {"width": 8, "layers": 3, "steps": 100, "samples": 64, "seed": 1}
    configs = [pleas.Config(match="none", fit=f, **small) for f in pleas.FITS]
    rows = pleas.run(configs, Context())
    arrays = zoo.train(
        width=8, layers=3, weight_decay=1e-4, steps=100, models=2, seed=1
    )
    a, b = zoo.members(arrays)
    data = zoo.digits(1)
    assert rows[0]["accuracy"] == zoo.accuracy(zoo.average([a, b]), data)
    ends = [zoo.accuracy(m, data) for m in (a, b)]
    assert rows[0]["single"] == pytest.approx(np.mean(ends))
    fitted = refit(a, b, data.x[:64], inputs="merged")
    assert rows[2]["accuracy"] == zoo.accuracy(fitted, data)
    assert len({row["loss"] for row in rows}) == 3
