"""What the three experiments on frames compute, against limits that are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from symlab.harness import contract, project, rng

PROJECT = project.find(Path(__file__).parent)
fa, fs, gf = (
    contract.load(PROJECT, name).module
    for name in ("frame_averaging", "frame_samples", "graph_frames")
)


def test_the_error_over_rotations_is_that_of_a_mean_over_scipys():
    """Another sample of rotations, drawn by scipy, gives errors of the same size."""
    c = fa.Config(study="cost", dim=3, seed=3)
    (row,) = fa.run([c])
    net = fa.network(3, 24, 8)
    x = rng.stream(3, "clouds").normal(size=(32, 8, 3))
    group = torch.from_numpy(Rotation.random(64, random_state=0).as_matrix())

    def mean(clouds):
        return net((torch.from_numpy(clouds) @ group[:, None]).flatten(-2)).mean(0)

    moves = Rotation.random(8, random_state=1).as_matrix()
    errors = [(mean(x @ g) - mean(x)).norm() / mean(x).norm() for g in moves]
    at_64 = fa.ROTATIONS.index(64)
    theirs = float(np.sqrt(np.mean(np.square(errors))))
    assert row["group_error"][at_64] == pytest.approx(theirs, rel=0.5)
    assert row["predicted_error"][at_64] == pytest.approx(theirs, rel=0.5)


def test_the_derived_error_falls_from_one_rotation_to_many():
    """sqrt(2V/(KM+V)) is below sqrt(2) at K = 1, and falls as K^-1/2 at large K."""
    (row,) = fa.run([fa.Config(study="cost", dim=2)])
    law = row["predicted_error"]
    assert law[0] < 2**0.5
    assert law[-2] / law[-1] == pytest.approx(2, rel=0.05)


def test_the_jump_has_its_limit():
    """The axes of both clouds are known as delta vanishes: 45 degrees apart."""
    (row,) = fa.run([fa.Config(study="jump", dim=2, seed=2)])
    x = rng.stream(2, "cloud").normal(size=(8, 2))
    x = x - x.mean(0)
    u, v = np.linalg.svd(x, full_matrices=False)[0][:, ::-1].T  # up to their signs
    net = fa.network(2, 16, 8)

    def mean(first, second):
        """Over the frame of SO(2): the coordinates and their negative."""
        cloud = torch.from_numpy(np.stack([first, second], -1)).flatten()
        return (net(cloud) + net(-cloud)) / 2

    changes = []
    for w in (v, -v):  # axes in the order of ascending variance
        along, across = mean(-w, u), mean((u - w) / 2**0.5, (u + w) / 2**0.5)
        changes.append(float((along - across).norm() / along.norm()))
    found = row["frame_change"][-1]
    assert min(abs(np.array(changes) / found - 1)) < 1e-5


def test_frames_learn_where_the_plain_network_does_not():
    base = fs.Config(n=16, noise=0.1, steps=60)
    plain, frame = (
        fs.run([replace(base, arm=arm)])[0]["accuracy"] for arm in ("plain", "frame")
    )
    assert plain < 0.5 < 0.9 < frame


def test_shuffled_labels_are_fitted_but_not_learned(monkeypatch):
    """Trained on permuted classes, networks know those, and guess on new clouds."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(8 * 64))
    fitted, cross_entropy = [], torch.nn.functional.cross_entropy

    def shuffled(logits, classes):
        classes = classes[order]
        fitted.append(float((logits.argmax(1) == classes).double().mean()))
        return cross_entropy(logits, classes)

    base = fs.Config(arm="frame", n=64, noise=0.4)
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", shuffled)
    rows = fs.run([replace(base, seed=seed) for seed in range(8)])
    assert fitted[0] < 0.3
    assert fitted[-1] > 0.9
    assert np.mean([row["accuracy"] for row in rows]) == pytest.approx(1 / 8, abs=0.05)


@pytest.mark.parametrize("pair", gf.PAIRS[:-1])
def test_message_passing_agrees_with_colour_refinement(pair):
    (row,) = gf.run([gf.Config(pair=pair, seed=5)])
    assert (row["message_apart"] > 1e-9) == row["refinement_tells"]
    assert row["apart"] > 1e-3
    assert row["relabelled"] < 1e-12
