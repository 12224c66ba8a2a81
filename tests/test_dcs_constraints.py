"""DCS against torch's optimizers, subgradients and random products; figure 7's run."""

import copy
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import nn
from torch.nn.utils import parametrize

from symlab import mirror
from symlab.harness import contract, project, rng
from symlab.harness.claims import judge
from symlab.mirror import dcs as dcs_module

PROJECT = project.find(Path(__file__).parent)
dcs = contract.load(PROJECT, "dcs_constraints").module
SMALL = dcs.Config(dim=12, constraints=4, samples=60, steps=120)
SIGNAL = dcs.Config(
    study="fused", dim=20, constraints=19, samples=0, lr=0.02, weight_decay=0.3,
    steps=150,
)  # fmt: skip
RATE = dcs.Config(study="rate", dim=1, constraints=1, noise=4.0, batch=1)


def parametrized(theta, rows):
    model = nn.Module()
    model.theta = nn.Parameter(theta)
    parametrize.register_parametrization(model, "theta", mirror.DCS(rows))
    return model


# --- hand-written descent is the library with torch.optim.SGD ------------------------


@pytest.mark.parametrize(
    "c",
    [
        SMALL,
        replace(SMALL, method="minibatch", batch=7, lr=0.05, momentum=0.5),
        replace(SMALL, method="projection"),
        SIGNAL,
    ],
    ids=["full batch", "minibatch", "projection", "fused"],
)
def test_lanes_are_the_library_with_torchs_sgd(c):
    p = dcs.problem(c)
    x, y, rows = (torch.from_numpy(a) for a in (p.x, p.y, p.rows))
    model = parametrized(torch.zeros(c.dim, dtype=torch.float64), rows)
    if c.method == "projection":
        nn.init.zeros_(model.parametrizations.theta.original1)
    groups = mirror.decay_groups(model, c.weight_decay)
    optimizer = torch.optim.SGD(groups, lr=c.lr, momentum=c.momentum)
    order = rng.stream(c.seed, "batches").integers(len(y), size=(c.steps, c.batch))
    for batch in order:
        at = torch.from_numpy(batch) if c.batch else slice(None)
        loss = (x[at] @ model.theta - y[at]).square() / 2
        optimizer.zero_grad()
        (loss.sum() if c.study == "fused" else loss.mean()).backward()
        optimizer.step()
    theta = model.theta.detach()
    # with other lanes beside it, one of them of the same seed
    others = [replace(c, seed=1), replace(c, weight_decay=0.2), c]
    row = dcs.run(others)[2]
    left = (rows @ theta).abs().numpy()
    assert row["violation"] == pytest.approx(left.max(), rel=1e-9, abs=1e-15)
    if c.study == "fused":
        np.testing.assert_allclose(row["recovered"], theta, atol=1e-12)
    elif c.method == "descent":
        np.testing.assert_allclose(row["path"], left, atol=1e-12)


def test_the_noise_study_is_dcs_in_three_dimensions():
    """v moves under the noise but does not act on s."""
    c = replace(RATE, lr=0.05, weight_decay=0.3, steps=40, seed=2)
    y, draws = dcs.labels(c), np.random.default_rng(0)
    rows = torch.from_numpy(np.linalg.qr(draws.normal(size=(3, 1)))[0].T)
    across = torch.from_numpy(draws.normal(size=(c.samples, 3)))
    samples = across - across @ rows.T @ rows + torch.from_numpy(y)[:, None] * rows
    model = parametrized(rows[0].clone(), rows)  # s = 1, as u = 2 w
    groups = mirror.decay_groups(model, c.weight_decay)
    optimizer = torch.optim.SGD(groups, lr=c.lr)
    for i in rng.stream(c.seed, "order").integers(c.samples, size=c.steps):
        optimizer.zero_grad()
        ((model.theta - samples[i]).square().sum() / 2).backward()
        optimizer.step()
    (row,) = dcs.run([c])
    assert row["size"] == pytest.approx(
        abs(float(rows @ model.theta.detach())), rel=1e-9
    )
    assert row["size"] > 1e-3


def test_arms_with_torchs_optimizers_do_not_mix_their_seeds():
    c = replace(SMALL, study="torch", method="adamw eps", momentum=0.0, lr=1.0)
    together = dcs.run([c, replace(c, seed=1), replace(c, weight_decay=0.3)])
    for row, one in zip(together, (c, replace(c, seed=1)), strict=False):
        (alone,) = dcs.run([one])
        assert row["violation"] == pytest.approx(alone["violation"], rel=1e-9)
    assert together[0]["violation"] != together[2]["violation"]


# --- exact solutions -----------------------------------------------------------------


@pytest.mark.parametrize("c", [SMALL, SIGNAL])
def test_lasso_meets_its_optimality_conditions(c):
    """-gradient = rows^T z with |z| <= decay; z = decay*sign(s) where s is not 0."""
    p = dcs.problem(c)
    for decay in (0.5 * c.weight_decay, 0.8 * c.weight_decay):
        theta = dcs.lasso(p, decay)
        z, *_ = np.linalg.lstsq(p.rows.T, p.target - p.gram @ theta, rcond=None)
        s = p.rows @ theta
        np.testing.assert_allclose(p.rows.T @ z, p.target - p.gram @ theta, atol=1e-12)
        assert np.abs(z).max() < decay * (1 + 1e-9)
        live = np.abs(s) > 1e-9
        assert 0 < live.sum() < len(s)
        np.testing.assert_allclose(z[live], decay * np.sign(s[live]), rtol=1e-9)


def test_lasso_with_a_full_basis_is_scikit_learns():
    c = replace(SMALL, constraints=12)
    p = dcs.problem(c)
    lasso = Lasso(alpha=0.04, fit_intercept=False, tol=1e-14, max_iter=10**6)
    rotated = lasso.fit(p.x @ p.rows.T, p.y).coef_
    np.testing.assert_allclose(p.rows @ dcs.lasso(p, 0.04), rotated, atol=1e-9)


def test_labels_put_the_critical_decay_where_it_is_said():
    """The multipliers of the constrained minimum, from its KKT system."""
    p = dcs.problem(SMALL)
    zeros = np.zeros((4, 4))
    kkt = np.block([[p.gram, p.rows.T], [p.rows, zeros]])
    solution = np.linalg.solve(kkt, np.r_[p.target, np.zeros(4)])
    assert np.abs(solution[12:]).max() == pytest.approx(dcs.CRITICAL, rel=1e-9)
    np.testing.assert_allclose(
        dcs.lasso(p, 1.001 * dcs.CRITICAL), solution[:12], atol=1e-9
    )


# --- the exponent of the noise study --------------------------------------------------


def test_the_larger_exponent_of_a_random_product_decides():
    lr, decay, y = 0.1, 0.2, dcs.labels(RATE)
    drawn = np.random.default_rng(1).choice(y, size=(2, 400_000))
    logs = np.log(np.abs(1 - lr * (decay + np.array([[-1], [1]]) * drawn)))
    errors = logs.std(1) / np.sqrt(400_000)
    i = logs.mean(1).argmax()
    assert abs(dcs.exponent(y, lr, decay) - logs.mean(1)[i]) < 4 * errors[i]
    assert abs(logs.mean(1)[0] - logs.mean(1)[1]) > 40 * errors.max()
    # labels of the other sign exchange u+w and u-w
    assert dcs.exponent(-y, lr, decay) == pytest.approx(dcs.exponent(y, lr, decay))
    assert dcs.exponent(y, lr, dcs.critical(y, lr)) == pytest.approx(0, abs=1e-9)


def test_the_critical_decay_is_that_of_full_batch_without_noise_and_never_negative():
    still, wild = np.ones(3), dcs.labels(replace(RATE, noise=8.0))
    for order in ("exact", "second"):
        assert dcs.critical(still, 0.01, order) == pytest.approx(1.0)
    assert dcs.critical(wild, 0.1, "second") == 0.0


def test_sgd_collapses_above_its_critical_decay_and_not_below():
    c = replace(RATE, lr=0.1, steps=6000)
    root = dcs.critical(dcs.labels(c), c.lr)
    assert root < 0.5  # of the full batch's
    decays = [root - 0.2, root + 0.2]
    rows = dcs.run([replace(c, weight_decay=d) for d in decays])
    assert [r["collapsed"] for r in rows] == [0, 1]
    assert all(r["root"] == root for r in rows)


def test_measured_lies_between_the_last_survivor_and_the_next_decay():
    decays = [0.2, 0.0, 0.1]
    df = pd.DataFrame({"weight_decay": decays, "collapsed": [1, 0, 0]})
    df = df.assign(study="rate", lr=0.01, seed=0, root=0.15, second_order=0.1)
    assert dcs.measured(df).measured.item() == pytest.approx(0.2 - dcs.STEP / 2)


@pytest.mark.parametrize(("off", "verdict"), [(0.02, "held"), (-0.08, "failed")])
def test_the_worst_learning_rate_decides_whether_the_exponent_predicts(off, verdict):
    (claim,) = (c for c in dcs.CLAIMS if c.name == "exponent_predicts")
    df = pd.DataFrame([vars(c) for c in dcs.sweep("quick") if c.study == "rate"])
    # the roots of the seeds fill a step of the grid, whose resolution then averages out
    root = 0.5 + dcs.STEP * (df.seed - 7.5) / 16
    true = root + np.where(df.lr == dcs.RATES[2], off, 0.0)
    df = df.assign(root=root, second_order=0.0, collapsed=df.weight_decay > true)
    assert judge("dcs", claim, df).verdict == verdict


# --- the library with optimizers, schedulers, compilers ------------------------------


def grown(decay: float, **options) -> float:
    """log |(u, w)| after 100 steps of AdamW under a constant gradient dl/ds of -0.5."""
    u, w = (nn.Parameter(torch.tensor([1e-30]).double()) for _ in range(2))
    optimizer = torch.optim.AdamW([u, w], lr=0.1, weight_decay=decay, **options)
    for _ in range(100):
        optimizer.zero_grad()
        (-0.5 * u * w).sum().backward()
        optimizer.step()
    return float(torch.cat([u, w]).detach().norm().log()) - np.log(1e-30 * 2**0.5)


def test_the_critical_decay_of_adamw_is_that_of_sgd_over_eps():
    for eps in (1.0, 0.5):
        assert grown(0.96 * 0.5 / eps, eps=eps) > 0
        assert grown(1.04 * 0.5 / eps, eps=eps) < 0
    assert grown(5.0) > 1  # ten times the critical decay of SGD, with the default eps


def test_groups_carry_the_options_of_u_and_w_only():
    model = parametrized(torch.zeros(6), torch.eye(6)[:2])
    groups = mirror.decay_groups(model, 0.1, eps=1.0, lr=0.5)
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    pairs, rest = optimizer.param_groups
    assert (pairs["eps"], pairs["lr"], pairs["weight_decay"]) == (1.0, 0.5, 0.1)
    assert (rest["eps"], rest["lr"], rest["weight_decay"]) == (1e-8, 0.01, 0.0)
    assert [p.numel() for p in pairs["params"]] == [2, 2]


def test_the_critical_decay_takes_a_parameter():
    theta = nn.Parameter(torch.tensor([3.0, 4.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mirror.critical_decay(
            lambda t: t.square().sum() / 2, theta, torch.eye(2), groups=(2,)
        )
    assert found == pytest.approx(5.0)


OPTIMIZERS = {
    "sgd": lambda m: torch.optim.SGD(mirror.decay_groups(m, 0.1), lr=0.1, momentum=0.9),
    "adamw": lambda m: torch.optim.AdamW(mirror.decay_groups(m, 0.1, eps=1.0), lr=0.1),
}


def training(kind: str, seed: int = 0):
    """A layer under constraints, its optimizer and scheduler."""
    torch.manual_seed(seed)
    layer = nn.Linear(5, 3)
    rows = torch.linalg.qr(torch.randn(15, 4))[0].T.contiguous()
    parametrize.register_parametrization(layer, "weight", mirror.DCS(rows, (2, 1, 1)))
    optimizer = OPTIMIZERS[kind](layer)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 4, gamma=0.5)
    return layer, optimizer, scheduler


def train(layer, optimizer, scheduler, steps: int, call=None):
    call = layer if call is None else call
    x = torch.linspace(-1, 1, 40).view(8, 5)
    for _ in range(steps):
        optimizer.zero_grad()
        call(x).sub(1).square().mean().backward()
        optimizer.step()
        scheduler.step()
    return layer(x).detach()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_saved_training_goes_on_bitwise(kind):
    """The constraints are part of the saved state."""
    parts = training(kind)
    train(*parts, 6)
    saved = [copy.deepcopy(part.state_dict()) for part in parts]
    expected = train(*parts, 6)
    fresh = training(kind, seed=1)
    for part, state in zip(fresh, saved, strict=True):
        part.load_state_dict(state)
    assert torch.equal(train(*fresh, 6), expected)
    assert fresh[1].param_groups[0]["lr"] == pytest.approx(0.1 / 8)  # halved thrice


@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "cc"))),
    reason="torch.compile's inductor needs a C++ compiler",
)
def test_inductor_trains_as_eager_does():
    eager, compiled = training("sgd"), training("sgd")
    expected = train(*eager, 6)
    found = train(*compiled, 6, call=torch.compile(compiled[0], fullgraph=True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_descent_starts_off_the_mirrors_of_every_pair():
    """On u = w or u = -w a sign could never change; u = w = 0 would be absorbing."""
    module = mirror.DCS(torch.eye(4)[:2])
    v, u, w = module.right_inverse(torch.tensor([0.0, 2.0, 3.0, 4.0]))
    assert u.min() == pytest.approx(dcs_module.AWAKE)
    torch.testing.assert_close(module(v, u, w), v)
    torch.testing.assert_close(u[1] / w[1], torch.tensor(2.0))


def test_the_noise_study_can_change_its_sign(monkeypatch):
    """With labels of mean -1 the minimum is at s = -(1 - decay): reached from s = 1."""
    c = replace(RATE, lr=0.02, noise=0.5, weight_decay=0.1, steps=3000)
    monkeypatch.setattr(dcs, "labels", lambda c: -1 + 0 * np.arange(200.0))
    (row,) = dcs.run([c])
    assert row["size"] == pytest.approx(0.9, rel=1e-6)
