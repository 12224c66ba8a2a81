"""The science of figure 3, against autograd, scipy, torchvision and planted cases."""

import io
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from symlab.data import images
from symlab.harness import Context, contract, project, rng
from symlab.models import resnet, vision

PROJECT = project.find(Path(__file__).parent)


def module(name: str):
    return contract.load(PROJECT, name).module


rescaling = module("rescaling_sparsity")
rotation = module("rotation_low_rank")
grouping = module("neuron_grouping")


# --- rescaling -----------------------------------------------------------------------


@pytest.mark.parametrize("model", ["product", "plain"])
def test_online_steps_are_those_of_autograd(model):
    c = rescaling.Config(model=model, lr=0.003, steps=300, dim=20, seed=3)
    (row,) = rescaling.run([c])
    teacher = torch.from_numpy(rng.stream(3, "teacher").normal(size=20) / np.sqrt(20))
    u, v = torch.from_numpy(rng.stream(3, "init").normal(size=(2, 20)) * 0.1)
    theta = [u, v] if model == "product" else [u * v]
    theta = [t.clone().requires_grad_() for t in theta]
    optimizer = torch.optim.SGD(theta, lr=c.lr)
    draws = rng.stream(3, "data").standard_normal((300, 21), np.float32)
    errors = []
    for x in torch.from_numpy(draws).double():
        w = theta[0] * theta[1] if model == "product" else theta[0]
        loss = (w @ x[:20] - teacher @ x[:20] - x[20]) ** 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert row["mse"] == pytest.approx(np.mean(errors[270:]), rel=1e-4)


def test_exponent_is_that_of_a_long_random_product():
    lr, mse, teacher = 0.03, 1.5, 0.1
    x, rho = np.random.default_rng(0).normal(size=(2, 2_000_000))
    samples = np.log(np.abs(1 + 2 * lr * (teacher * x**2 + np.sqrt(mse) * rho * x)))
    error = samples.std() / np.sqrt(len(samples))
    exact = rescaling.exponent(lr, mse, np.array([teacher]))[0]
    assert abs(exact - samples.mean()) < 4 * error


def test_critical_teacher_is_second_order_at_small_rates_and_zero_of_the_exponent():
    assert rescaling.critical_teacher(1e-3, 1.0) == pytest.approx(1e-3, rel=0.02)
    root = rescaling.critical_teacher(0.05, 2.0)
    assert abs(rescaling.exponent(0.05, 2.0, np.array([root]))[0]) < 1e-5


# --- rotation ------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["factored", "residual"])
def test_minibatch_steps_are_those_of_autograd(model):
    c = rotation.Config(model=model, noise=1.0, dim=12, steps=25, batch=4, seed=5)
    (row,) = rotation.run([c])
    m = torch.from_numpy(rotation.target(c)).float()
    eye = torch.eye(12) if model == "residual" else torch.zeros(12, 12)
    uw = rng.stream(5, "init").normal(size=(2, 12, 12)) / np.sqrt(12)
    uw = np.zeros((2, 12, 12)) if model == "residual" else uw
    u, w = (torch.tensor(a, dtype=torch.float32, requires_grad=True) for a in uw)
    optimizer = torch.optim.SGD([u, w], lr=c.lr, weight_decay=c.weight_decay)
    x, eps = torch.from_numpy(
        rng.stream(5, "data").standard_normal((2, 100, 12), np.float32)
    )
    for xt, et in zip(x.split(4), eps.split(4), strict=True):
        p = xt @ (eye + w).t() @ (eye + u).t()
        loss = (p - xt @ m.t() - c.noise * et).square().sum(1).mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    s = torch.linalg.svdvals(((eye + u) @ (eye + w)).detach())
    np.testing.assert_allclose(row["spectrum"], (s / s[0]).numpy(), atol=2e-5)


def test_full_observation_reaches_the_soft_threshold_and_no_other():
    c = rotation.Config(
        study="decay", dim=20, steps=4000, lr=0.2, momentum=0.9, batch=0
    )
    (row,) = rotation.run([c])
    assert row["rank"] == row["soft_threshold_rank"]
    assert row["max_difference"] < 1e-5
    (early,) = rotation.run([replace(c, steps=20)])
    assert early["max_difference"] > 1e-2


def test_a_rate_too_large_is_a_divergence_not_a_crash():
    c = rotation.Config(study="decay", dim=20, steps=200, lr=2.0, momentum=0.9, batch=0)
    assert rotation.run([c])[0]["diverged_at"] == 200


# --- neurons -------------------------------------------------------------------------


def test_planted_copies_and_dead_neurons_are_found():
    draws = np.random.default_rng(0)
    free = draws.normal(size=(200, 6))
    copies = np.c_[free[:, :2] * [2, -3] + 1, free[:, 0] + 5]  # of neurons 0, 1 and 0
    dead = 1e-5 * draws.normal(size=(200, 3))
    found = grouping.grouping(np.c_[free, copies, dead])
    assert found["live"] == 9
    assert found["grouped"] == pytest.approx(5 / 9)
    assert found["clusters"] == 6
    full = grouping.matrix(found["correlation"])
    assert full.shape == (9, 9)
    np.testing.assert_array_equal(full, full.T)
    live = np.c_[free, copies]
    np.testing.assert_allclose(
        np.sort(np.linalg.eigvalsh(full)),
        np.sort(np.linalg.eigvalsh(np.corrcoef(live.T))),
        atol=0.005,
    )
    nearest = (np.abs(full) - np.eye(9)).max(1)
    assert np.mean(nearest >= grouping.COPY) == found["grouped"]  # what is drawn black


def test_neurons_without_copies_are_not_grouped():
    found = grouping.grouping(np.random.default_rng(0).normal(size=(400, 50)))
    assert found["grouped"] == 0
    assert found["clusters"] == 50


@pytest.mark.parametrize("neurons", [np.zeros((9, 4)), np.full((9, 4), np.nan)])
def test_a_dead_or_diverged_network_has_no_groups(neurons):
    with np.errstate(invalid="ignore"):
        found = grouping.grouping(neurons)
    assert found["live"] == found["grouped"] == 0


@pytest.fixture
def few_images(monkeypatch):
    data = images.digits()
    small = images.Images(data.x[:96], data.y[:96], data.x_test[:40], data.y_test[:40])
    monkeypatch.setattr(images, "load", lambda name: small)


@pytest.mark.parametrize("offset", [0.01, pytest.param(0.0, marks=pytest.mark.long)])
def test_a_killed_training_resumes_to_the_same_row(
    few_images, monkeypatch, tmp_path, offset
):
    """The weights of every layer decide; the audit of them has tests of its own."""
    c = grouping.Config(epochs=3, batch=32, offset=offset)

    def weights(model, x, y):
        return {n: p.detach().numpy().copy() for n, p in model.named_parameters()}

    monkeypatch.setattr(grouping, "audited", weights)
    monkeypatch.setattr(grouping, "compressed", lambda model, x, y: {})
    (whole,) = grouping.run([c], Context())
    assert len(whole) > 60  # the weights are compared, too
    kept = Context(checkpoints=tmp_path)
    clock = itertools.count(step=100)  # every save is more than a minute after the last
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    real, calls = grouping._step, itertools.count()

    def killed(*args):
        if next(calls) == 7:  # in the third epoch
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(grouping, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        grouping.run([c], kept)
    assert len(list(tmp_path.glob("*.state"))) == 1
    steps = itertools.count()
    monkeypatch.setattr(grouping, "_step", lambda *a: (next(steps), real(*a))[1])
    (resumed,) = grouping.run([c], kept)
    assert next(steps) == 3, "only the last epoch is left to do"
    for column, value in whole.items():
        np.testing.assert_array_equal(resumed[column], value)


def test_static_bias_pulls_to_theta_0_and_decay_to_zero(few_images):
    """Without gradient, both decay arms forget the start; only one ends at theta_0."""
    for offset in (0.0, 0.5):
        c = grouping.Config(offset=offset, weight_decay=0.5)
        p = torch.nn.Parameter(torch.ones(50))
        pull = grouping._offset(c, [p])
        start = p.detach().clone()
        optimizer = torch.optim.SGD([p], lr=0.1, weight_decay=c.weight_decay)
        for _ in range(400):
            p.grad = torch.zeros_like(p)
            if pull:
                torch._foreach_sub_([p.grad], pull)
            optimizer.step()
        theta_0 = start - 1
        assert torch.allclose(p, theta_0, atol=1e-6)
        assert (theta_0.abs().max() > 0.5) == bool(offset)


def test_augmentation_shifts_and_mirrors_whole_images():
    x = torch.arange(2 * 3 * 32 * 32.0).view(2, 3, 32, 32)
    y = images.augmented(x.expand(2, -1, -1, -1), rng.stream(0, "a"))
    assert y.shape == x.shape
    padded = torch.nn.functional.pad(x, (4, 4, 4, 4), mode="reflect")
    for image, source in zip(y, padded, strict=True):
        windows = [
            source[:, i : i + 32, j : j + 32] for i in range(9) for j in range(9)
        ]
        assert any(
            torch.equal(image, w) or torch.equal(image, w.flip(-1)) for w in windows
        )


def test_schedule_warms_up_holds_and_ends_at_zero():
    c = grouping.Config(lr=1.0, hold=0.5)
    rates = [grouping.rate(c, t, 1000) for t in range(1000)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[50:500] == [1.0] * 450
    assert rates[-1] == pytest.approx(0.002)


# --- ResNet18 and images --------------------------------------------------------------


def torchvisions(seed: int):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return vision.torchvision().models.resnet18(num_classes=10)


@pytest.mark.parametrize("stem", ["torchvision", "cifar"])
def test_resnet18_computes_what_torchvisions_does(stem):
    ours = resnet.resnet18(seed=1, stem=stem)
    theirs = torchvisions(1)
    if stem == "cifar":
        theirs.conv1, theirs.maxpool = ours.conv1, ours.maxpool
    x = images.digits().x[:8]
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)
    taps = [m for m in ours.modules() if isinstance(m, resnet.CentreTap)]
    assert len(taps) == (3 if stem == "torchvision" else 0)


def test_resnet18_trains_as_torchvisions_does():
    """The same losses, step by step: the taps left out never mattered.

    In float64: in float32 the first steps amplify rounding a thousand times each.
    """
    data = images.digits()
    x_all = data.x.double()
    losses = []
    for model in (resnet.resnet18(seed=1).double(), torchvisions(1).double()):
        optimizer = torch.optim.SGD(
            model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1
        )
        found = []
        for i in range(6):
            x, y = x_all[16 * i : 16 * i + 16], data.y[16 * i : 16 * i + 16]
            loss = torch.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(float(loss.detach()))
        losses.append(found)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-7)
    assert losses[0][0] != losses[0][-1]


def test_penultimate_activations_are_what_the_classifier_sees_before_its_relu():
    model = resnet.resnet18(seed=2)
    x = images.digits().x[:16]
    model(x)  # one training step of running statistics
    pre, post = resnet.penultimate(model, x)
    assert model.training
    assert (pre < 0).any()
    model.eval()
    torch.testing.assert_close(model.fc(pre.relu()), model(x))


def test_initialisation_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    a, b = resnet.resnet18(seed=3), resnet.resnet18(seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(a.layer4[1].conv2.weight, b.layer4[1].conv2.weight)
    with pytest.raises(ValueError, match="unknown stem"):
        resnet.resnet18(stem="vgg")


def test_cifar_stem_keeps_the_resolution():
    model = resnet.resnet18(stem="cifar").eval()
    assert model.maxpool(model.conv1(torch.zeros(1, 3, 32, 32))).shape[-1] == 32


def test_digits_are_standardised_and_split_once():
    data = images.digits()
    assert data.x.shape == (1400, 3, 32, 32)
    assert data.x_test.shape == (397, 3, 32, 32)
    assert abs(float(data.x.mean())) < 1e-4
    assert torch.equal(data.x, images.digits().x)


@pytest.fixture
def parquet_cifar(tmp_path, monkeypatch):
    """Small files in the format of the Hugging Face release."""
    from PIL import Image

    folder = tmp_path / "cifar10"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    encoded = []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    for split in ("train", "test"):
        frame = pd.DataFrame({"img": encoded, "label": np.arange(6)})
        frame.to_parquet(folder / f"{split}.parquet")
    monkeypatch.setenv("SYMLAB_DATA", str(tmp_path))
    return pixels


def test_cifar10_from_parquet(parquet_cifar):
    data = images.load("cifar10")
    x = torch.from_numpy(parquet_cifar).permute(0, 3, 1, 2).float() / 255
    x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
    torch.testing.assert_close(data.x, x)
    assert data.y.tolist() == list(range(6))


def test_absent_and_unknown_data_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("SYMLAB_DATA", str(tmp_path))
    monkeypatch.delenv("SYMLAB_DOWNLOAD", raising=False)
    with pytest.raises(FileNotFoundError, match="SYMLAB_DOWNLOAD=1"):
        images.load("cifar10")
    with pytest.raises(ValueError, match="unknown data 'mnist'"):
        images.load("mnist")


def test_real_cifar10_trains_for_a_few_steps(monkeypatch):
    folder = Path(os.environ.get("SYMLAB_DATA", "nowhere")) / "cifar10"
    if not (folder / "test.parquet").is_file():
        pytest.skip("SYMLAB_DATA has no cifar10/test.parquet")
    x, y = images._parquet(folder / "test.parquet")
    assert sorted(set(y.tolist())) == list(range(10))
    data = images._standardised(x[:128], y[:128], x[128:168], y[128:168], (0, 2, 3))
    monkeypatch.setattr(images, "load", lambda name: data)
    c = grouping.Config(data="cifar10", epochs=1, batch=32, augment=True)
    (row,) = grouping.run([c], Context())
    assert row["diverged_at"] == -1
    assert 0 < row["live"] <= 512


BROKEN = """import builtins
attempts = getattr(builtins, "attempts", 0)
builtins.attempts = attempts + 1
if attempts == 0:
    raise RuntimeError({message!r})
"""


@pytest.mark.parametrize(
    ("message", "cured"),
    [("operator torchvision::nms does not exist", True), ("no such library", False)],
)
def test_the_torchvision_cure_is_for_one_failure_only(tmp_path, message, cured):
    """A stand-in torchvision that fails to import once, in the given way."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        BROKEN.format(message=message)
    )
    script = (
        "import torch; from symlab.models.vision import torchvision; torchvision(); "
        "print(torch.ops.torchvision.nms, torch.ops.torchvision.qnms)"
    )
    path = os.pathsep.join([str(tmp_path), str(PROJECT.root)])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == cured, done.stderr
    if not cured:
        assert message in done.stderr
