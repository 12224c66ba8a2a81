"""The arms of the CIFAR-10 benchmark differ in the optimizer and in nothing else."""

import importlib.util
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from symlab.data.images import Images

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "bench_cifar.py"
ABOUT = {"images": 48, "digest": "0" * 16, "settings": "small"}


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_cifar", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data() -> Images:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(96, 3, 32, 32, generator=draws)
    x = torch.nn.functional.avg_pool2d(x, 3, 1, 1)  # neighbours are alike
    y = torch.arange(96) % 10
    return Images(x[:48], y[:48], x[48:], y[48:])


def options(**changes) -> Namespace:
    usual = {"epochs": 1, "batch": 48, "widths": [8, 8, 8], "pairs": 2, "rows": None}
    return Namespace(**usual | changes)


def filters(model) -> dict[str, torch.Tensor]:
    return {k: p for k, p in model.named_parameters() if k.endswith("filters")}


def test_one_step_of_symopt_is_that_of_torch_and_express_is_not(bench, data):
    one, other, third = (
        filters(bench.trained(arm, data, options(), seed=3)) for arm in bench.ARMS
    )
    # bfloat16 rounds to 0.4 %, which products of three iterations add up
    for gap, far in zip(steps_apart(one, other), steps_apart(one, third), strict=True):
        assert gap < 0.04
        assert far > 0.08


def steps_apart(one: dict, other: dict) -> list[float]:
    """Differences of filters, in lengths of a step: 0.24 times an orthogonal matrix."""
    step = 0.24 * 8**0.5
    return [float((other[name] - w).detach().norm()) / step for name, w in one.items()]


def test_a_seed_decides_weights_and_batches(bench, data):
    o = options(epochs=2, batch=16)
    first, again = (list(bench.batches(data, o, seed=1)) for _ in range(2))
    assert [epoch for epoch, _, _ in first] == [0, 0, 0, 1, 1, 1]
    for (_, x, y), (_, x_again, y_again) in zip(first, again, strict=True):
        assert x.equal(x_again)
        assert y.equal(y_again)
    other = next(bench.batches(data, o, seed=2))
    assert not other[1].equal(first[0][1])


def test_whitened_patches_are_uncorrelated(bench, data):
    filters = bench.whitening(data.x, eps=0.0)
    found = torch.nn.functional.conv2d(data.x, filters).transpose(0, 1).flatten(1)
    covariance = found[:12] @ found[:12].T / found.shape[1]
    assert torch.allclose(covariance, torch.eye(12), atol=2e-3)
    assert found[12:].equal(-found[:12])


def test_augmented_images_are_shifted_and_mirrored_ones(bench, data):
    x = data.x[:40]
    found = bench.augmented(x, torch.Generator().manual_seed(0))
    seen = set()
    for image, new in zip(x, found, strict=True):
        padded = torch.nn.functional.pad(image, (2, 2, 2, 2), "reflect")
        crops = {
            (mirror, a, b): side[:, a : a + 32, b : b + 32]
            for mirror, side in enumerate((padded, padded.flip(2)))
            for a in range(5)
            for b in range(5)
        }
        (case,) = [case for case, crop in crops.items() if crop.equal(new)]
        seen.add(case)
    assert len(seen) > 10


def test_rows_are_made_once_for_the_same_images_and_settings(
    bench, data, tmp_path, monkeypatch, capsys
):
    made = []

    def run(data, o, seed, arm):
        made.append((seed, arm))
        accuracy = 0.9 + 0.01 * seed + 0.001 * (arm == "symopt")
        return {"seed": seed, "arm": arm, "accuracy": accuracy, "seconds": 1.0}

    monkeypatch.setattr(bench, "run", run)
    o = options(rows=tmp_path / "rows.csv")
    bench.tell(bench.rows(data, o, ABOUT))
    assert "symopt minus torch: +0.10 [+0.10, +0.10]" in capsys.readouterr().out
    assert len(made) == 6
    assert len(bench.rows(data, o, ABOUT)) == 6
    assert len(made) == 6
    assert len(bench.rows(data, o, ABOUT | {"digest": "1" * 16})) == 6
    assert len(made) == 12


def test_accuracy_counts_right_answers(bench, data):
    model = lambda x: torch.nn.functional.one_hot(torch.arange(48) % 10, 10) + 0.0  # noqa: E731
    answers = data.y_test.clone()
    right = (torch.arange(48) % 10 == answers).double().mean()
    assert bench.accuracy(model, data) == pytest.approx(float(right))
