"""Adapters: one product in many ways, each rule against a formula written out."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from symlab.harness import Context, contract, project
from symlab.models import adaptation, adapters, symmetric_attention
from symlab.models.adapters import STACKS
from symlab.symopt import SymOpt
from symlab.symopt.low_rank import low_rank

PROJECT = project.find(Path(__file__).resolve().parents[1])
module = contract.load(PROJECT, "lora_symmetry").module
SIZES = {"width": 16, "layers": 2, "rank": 3, "batch": 2, "context": 8, "seed": 5}
S = adaptation.Sizes(**SIZES)


def factors(seed: int = 0, rank: int = 3) -> dict:
    """Random factors of every matrix, float64."""
    draws = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=draws, dtype=torch.float64)

    sites = adapters.sites(S.shape)
    return {
        k: (normal(s, m, rank), normal(s, rank, n)) for k, (s, m, n) in sites.items()
    }


def norms(pair) -> torch.Tensor:
    return torch.stack([w.norm() for w in pair])


@pytest.fixture(scope="module")
def begun():
    return adaptation.begin(pretraining=3, warmup=3, **SIZES)


# --- the model -----------------------------------------------------------------------


def test_an_adapted_matrix_is_the_frozen_one_plus_the_product(begun):
    """Against the plain transformer with weights that were added by hand."""
    p, its = adaptation.frozen(begun), factors()
    p = {k: w.double() for k, w in p.items()}
    x = torch.arange(16).view(2, 8)
    lane = {k: tuple(0.1 * w[None] for w in pair) for k, pair in its.items()}
    found = adapters.forward(p, lane, x, S.shape)
    w = {k: 0.01 * (b @ a).mT for k, (b, a) in its.items()}
    by_hand = {k: v.clone() for k, v in p.items()}
    for layer in range(2):
        # the stack "square" lists queries of all layers, then keys, values, outputs
        by_hand["scores"][0, layer] += w["square"][layer]
        by_hand["scores"][1, layer] += w["square"][2 + layer]
        by_hand["v"][layer] += w["square"][4 + layer]
        by_hand["o"][layer] += w["square"][6 + layer]
        by_hand["up"][layer] += w["up"][layer]
        by_hand["down"][layer] += w["down"][layer]
    lanes = {k: v[None] for k, v in by_hand.items()}
    expected = symmetric_attention.forward(lanes, x[None], S.shape)
    torch.testing.assert_close(found, expected)


def test_every_way_to_write_a_product_keeps_it():
    its, draws = factors(), np.random.default_rng(0)
    whole = adapters.products(its)
    ways = [adapters.balanced(its), adapters.scaled(its, 10.0)]
    ways.append(adapters.mixed(its, 100.0, draws))
    for way in ways:
        for name, w in adapters.products(way).items():
            torch.testing.assert_close(w, whole[name])
        assert (norms(way["up"]) / norms(its["up"]) - 1).abs().max() > 0.1


def test_balanced_factors_have_equal_grams_and_mixed_ones_the_condition_asked_for():
    its = adapters.balanced(factors())
    for b, a in its.values():
        torch.testing.assert_close(b.mT @ b, a @ a.mT)
    mixed = adapters.mixed(its, 100.0, np.random.default_rng(0))
    for name, (b, _) in mixed.items():
        m = torch.linalg.lstsq(its[name][0], b).solution
        values = torch.linalg.svdvals(m)
        torch.testing.assert_close(values[:, 0], torch.full_like(values[:, 0], 10.0))
        torch.testing.assert_close(values[:, -1], torch.full_like(values[:, -1], 0.1))


def test_lora_starts_from_a_product_of_zero():
    its = adapters.initial(S.shape, 3, np.random.default_rng(0))
    for b, a in its.values():
        assert not b.any()
        bound = a.shape[-1] ** -0.5
        assert 0.9 * bound < a.abs().max() <= bound


def test_texts_differ_and_the_held_out_blocks_are_not_trained_on():
    (first, second), n = adaptation.texts()
    for train, held in (first, second):
        assert 8 < len(train) / len(held) < 10
        assert max(train.max(), held.max()) < n
    read, rows = bytes(second[0].tolist()), second[1][:20_000].view(-1, 100)
    assert sum(bytes(row.tolist()) in read for row in rows) < 0.05 * len(rows)


# --- rules ---------------------------------------------------------------------------


def step_of(arm: str, its: dict, grads: dict, lr: float = 0.01) -> dict:
    """The factors after one step with these gradients."""
    leaves = {k: [w.clone().requires_grad_() for w in pair] for k, pair in its.items()}
    groups = adaptation.settings(leaves, arm, lr)
    optimizer = SymOpt(groups, weight_decay=0.0, eps=adaptation.EPSILON)
    for name, pair in leaves.items():
        for w, g in zip(pair, grads[name], strict=True):
            w.grad = g.clone()
    optimizer.step()
    return {k: tuple(w.detach() for w in pair) for k, pair in leaves.items()}


def preconditioned(x, own, other, damped: bool):
    """low_rank written with symmetric roots and an SVD: P C^(-1/2) of x C^(-1/2) = P S,
    for the metric C of the other factor.
    """
    c = other @ other.T
    if damped:
        scale = 0.2 * max(len(own), other.shape[1]) ** 0.5
        c = c + scale**2 * np.linalg.inv(own.T @ own)
    values, vectors = np.linalg.eigh(c)
    root = vectors / values**0.5 @ vectors.T
    u, _, vt = np.linalg.svd(x @ root, full_matrices=False)
    return u @ vt @ root


def test_low_rank_is_the_preconditioned_update_written_in_numpy():
    draws = np.random.default_rng(1)
    b, a = draws.normal(size=(9, 3)), draws.normal(size=(3, 7))
    x, y = draws.normal(size=(9, 3)), draws.normal(size=(3, 7))

    def tensors(*arrays):
        return [torch.from_numpy(w.copy())[None] for w in arrays]

    grad, own, other = tensors(x, b, a)
    found = low_rank(grad, own=own, other=other, method="svd")[0]
    np.testing.assert_allclose(found, preconditioned(x, b, a, False), rtol=1e-9)
    grad, own, other = tensors(y.T, a.T, b.T)
    found = low_rank(grad, own=own, other=other, inner=True, method="svd")[0]
    expected = preconditioned(y.T, a.T, b.T, True)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(("arm", "ratio"), [("adamw", 1.0), ("lora_plus", 16.0)])
def test_a_first_step_of_adam_is_the_sign_of_the_gradient_times_the_rate(arm, ratio):
    """LoRA+ by its definition: B's rate is 16 times A's."""
    its, grads = factors(), factors(1)
    after = step_of(arm, its, grads)
    for name in STACKS:
        for i, rate in ((0, 0.01 * ratio), (1, 0.01)):
            expected = its[name][i] - rate * grads[name][i].sign()
            torch.testing.assert_close(after[name][i], expected, rtol=1e-6, atol=1e-9)


def test_muon_moves_each_factor_by_its_own_polar_factor():
    its, grads = factors(), factors(1)
    after = step_of("muon", its, grads)
    for name in STACKS:
        for own, new, grad in zip(its[name], after[name], grads[name], strict=True):
            u, _, vt = torch.linalg.svd(grad, full_matrices=False)
            size = 0.01 * 0.2 * max(own.shape[-2:]) ** 0.5
            values = torch.linalg.svdvals((own - new) / size)
            assert (
                (values > 0.6) & (values < 1.2)
            ).all()  # five steps of Newton-Schulz
            aligned = ((own - new) * (u @ vt)).sum((-2, -1)) / values.sum(-1)
            torch.testing.assert_close(aligned, torch.full_like(aligned, size))


def test_products_are_apart_by_the_largest_relative_difference_of_a_matrix():
    ones = {"up": torch.ones(2, 3, 4, 5), "down": torch.ones(2, 1, 5, 4)}
    moved = {k: w.clone() for k, w in ones.items()}
    moved["up"][0, 2] *= 1.5
    moved["down"][1] *= 0.9
    found = adapters.apart([ones, moved], [ones, ones])
    np.testing.assert_allclose(found, [[0, 0.5], [0, 0.1]], atol=1e-6)


# --- what the experiment measures ----------------------------------------------------


def exact(arm: str, start: str = "mixed", **more):
    fields = SIZES | {"pretraining": 3, "warmup": 3, "steps": 5, "lr": 0.01} | more
    return module.Config("identity", arm, start, precision="float64", **fields)


@pytest.mark.parametrize("start", module.MOVED)
def test_products_of_low_rank_do_not_see_the_factors(start):
    (row,) = module.run([exact("low_rank", start)], Context())
    assert len(row["parting"]) == 5
    assert row["parted"] < 1e-8


@pytest.mark.parametrize("arm", ["adamw", "lora_plus", "muon"])
def test_products_of_other_rules_do(arm):
    (row,) = module.run([exact(arm)], Context())
    assert row["parted"] > 0.1


def test_lora_plus_is_adamw_from_other_factors():
    quarter, other = exact("adamw", "quarter"), exact("adamw", "out_10")
    same, parted = module.run([quarter, other], Context())
    assert same["parted"] < 1e-4 < 0.1 < parted["parted"]
    assert module.counterpart(quarter).lr == 0.0025


def test_starts_of_one_product_are_that_product(begun):
    warm = adapters.products(adaptation.start(begun, "warm"))
    for start in module.STARTS:
        c = module.Config(start=start, **SIZES)
        for name, w in adapters.products(module.start_of(c, begun)).items():
            if start == "zero":
                assert not w.any()
            else:
                torch.testing.assert_close(w, warm[name])


def test_a_rate_that_is_too_large_counts_as_a_guess():
    c = module.Config(
        "tune", "adamw", lr=1e6, **SIZES, pretraining=3, warmup=3, steps=3
    )
    (row,) = module.run([c], Context())
    assert row["val_loss"] == module.GUESS
    assert row["diverged"]


def rows_of_one_arm() -> pd.DataFrame:
    """Losses of AdamW from four starts of one product on three seeds; a seed's number
    is added to each, and LoRA's start and another arm have losses that would show.
    """
    losses = {"own": (2.0, 2.1, 2.2, 1.9), "kept": (None, 2.5, 2.3, 2.1)}
    found = []
    for seed, (study, its) in product(range(3), losses.items()):
        for start, loss in zip(("balanced", *module.MOVED), its, strict=True):
            if loss is not None:
                found.append((seed, study, "adamw", start, loss + seed))
        found.append((seed, study, "muon", "mixed", 5.0))
    found += [(seed, "own", "adamw", "zero", 9.0) for seed in range(3)]
    return pd.DataFrame(found, columns=["seed", "study", "arm", "start", "val_loss"])


@pytest.mark.parametrize(("study", "expected"), [("kept", 0.5), ("own", 0.3)])
def test_a_spread_is_the_range_over_the_four_starts_of_each_seed(study, expected):
    found = module.spread("adamw", study)(rows_of_one_arm())
    assert found.value == pytest.approx(expected)
    assert found.n == 3


@pytest.mark.parametrize(("study", "expected"), [("kept", 0.3), ("own", 0.2 / 3)])
def test_a_penalty_is_the_mean_of_rewritten_starts_minus_balanced(study, expected):
    found = module.penalty("adamw", study)(rows_of_one_arm())
    assert found.value == pytest.approx(expected)
    assert found.n == 3


def test_a_penalty_has_a_sign():
    """A range over starts has none, and is above 0 for any optimizer."""
    rows = rows_of_one_arm()
    rewritten = rows.start.isin(module.MOVED)
    lower = rows.assign(val_loss=rows.val_loss.where(~rewritten, 1.5))
    assert module.penalty("adamw", "own")(lower).value == pytest.approx(-1.5)
    assert module.spread("adamw", "own")(lower).value > 0


def test_arms_are_tuned_alike_and_raced_at_rates_of_their_grids():
    design = pd.DataFrame(module.sweep("quick"))
    tuned = design[design.study == "tune"].groupby(["arm", "start"]).lr.agg(set)
    assert tuned.map(len).eq(5).all()
    raced = design[design.study == "own"].groupby(["arm", "start"]).lr.agg(set)
    assert raced.map(len).eq(1).all()
    assert all(raced[cell] <= tuned[cell] for cell in raced.index)
    kept = design[design.study == "kept"]
    for arm, its in kept.groupby("arm").lr:
        assert set(its) == raced[arm, "balanced"]
