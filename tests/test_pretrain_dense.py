"""The dense comparison: what arms do to weights, moves of a decoder, estimates."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from symlab.data import text as texts
from symlab.harness import Context, Interval, contract, project, rng
from symlab.models.transformer import Decoder, loss
from symlab.symopt import SymOpt, describe

dense = contract.load(project.find(Path(__file__).parent), "pretrain_dense").module
V = 40
TINY = dense.Config(
    model="tiny", vocabulary=V, steps=4, batch=4, length=16, validation=2, seed=3
)
EXACT = replace(TINY, study="equivariance", precision="float64")


@pytest.fixture(autouse=True)
def text(monkeypatch):
    """Each token is drawn from four that the one before it allows."""
    ids = [0]
    for step in np.random.default_rng(0).integers(1, 5, 4000):
        ids.append(int(ids[-1] * 3 + step) % V)
    ids = np.array(ids, np.uint16)
    toy = texts.Corpus("toy", "0" * 16, V, ids[:-800], ids[-800:], 2.0, "{}")
    monkeypatch.setattr(texts, "corpus", lambda name, vocabulary: toy)
    return toy


def model(c) -> Decoder:
    draws = torch.Generator().manual_seed(c.seed)
    return Decoder(dense.size(c), draws).to(getattr(torch, c.precision))


def tokens() -> torch.Tensor:
    return torch.from_numpy(rng.stream(0, "tokens").integers(V, size=(4, 16)))


# --- arms ----------------------------------------------------------------------------


def unit(x, dim=-1):
    return x / x.norm(dim=dim, keepdim=True)


def orthogonal(x):
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    return u @ v


def centred(x):
    return x - x.mean(0)


def adam(first, second):
    """The second step of Kingma & Ba's, with averages 0.9 and 0.95."""
    mean = (0.09 * first + 0.1 * second) / (1 - 0.9**2)
    square = (0.0475 * first**2 + 0.05 * second**2) / (1 - 0.95**2)
    return mean / (square.sqrt() + 1e-8)


def of_average(rule):
    return lambda first, second: rule(0.95 * first + second)


SECOND_STEPS = {  # of embedding and head, from two gradients
    "adamw": (adam, adam),
    "adamw_one_rate": (adam, adam),
    "row_norm": (of_average(unit), of_average(lambda g: centred(unit(centred(g))))),
    "uncentred": (of_average(unit), of_average(unit)),
    "hybrid": (
        of_average(lambda g: orthogonal(unit(g))),
        of_average(lambda g: centred(orthogonal(centred(unit(centred(g)))))),
    ),
}


@pytest.mark.parametrize("arm", dense.ARMS)
def test_the_second_step_is_the_rule_by_hand(arm):
    c = replace(EXACT, arm=arm, embedding_lr=0.3, head_lr=0.02)
    decoder = model(c)
    named = dict(decoder.named_parameters())
    optimizer = SymOpt(decoder, **dense.optimizer(c))
    every = torch.arange(V).view(4, 10)  # no row without a gradient
    gradients = []
    for factor in (3, 7):
        optimizer.zero_grad()
        loss(decoder(every), (factor * every + 1) % V).backward()
        gradients.append({k: p.grad.clone() for k, p in named.items()})
        before = {k: p.detach().clone() for k, p in named.items()}
        optimizer.step()

    def step(name, lr):
        change = (named[name].detach() - before[name]) / -lr
        return change, *(g[name] for g in gradients)

    rates = {"embedding": 0.3, "head": 0.02}
    for (k, lr), rule in zip(rates.items(), SECOND_STEPS[arm], strict=True):
        change, *pair = step(f"{k}.weight", lr)
        torch.testing.assert_close(change, rule(*pair), rtol=0, atol=1e-9)
    change, first, second = step("blocks.0.attention.query.weight", c.body_lr)
    ahead = 0.95 * (0.95 * first + second) + second  # Nesterov's
    heads = [0.2 * 4 * orthogonal(g) for g in ahead.split(8)]  # 0.2 sqrt(16)
    torch.testing.assert_close(change, torch.cat(heads), rtol=0, atol=1e-8)


def test_arms_differ_in_embedding_and_head_alone():
    tables = {}
    for arm in dense.ARMS:
        choices = dense.optimizer(replace(TINY, arm=arm))
        tables[arm] = describe(model(TINY), **choices).set_index("name")
    assert (pd.concat(tables.values()).weight_decay == 0).all()
    vocabulary = ["embedding.weight", "head.weight"]
    bodies = [t.drop(vocabulary) for t in tables.values()]
    assert all(body.equals(bodies[0]) for body in bodies)
    assert set(bodies[0].rule) == {"spectral", "spectral (per head)", "adamw"}
    assert set(bodies[0].role[bodies[0].rule == "adamw"]) == {"gain"}
    found = {arm: tuple(t.rule[vocabulary]) for arm, t in tables.items()}
    assert found["row_norm"][1].startswith("row_norm (centred")
    assert "centred" not in found["row_norm"][0] + "".join(found["uncentred"])
    assert found["hybrid"] == ("row_then_spectral", "row_then_spectral (centred)")


def test_every_arm_trains_and_says_what_it_costs():
    for arm in dense.ARMS:
        (row,) = dense.run([replace(TINY, arm=arm, steps=30)], Context())
        assert row["val_loss"] < np.log(V) - 0.2
        assert row["text_hash"] == "0" * 16
        buffers = 2 if arm.startswith("adamw") else 1
        counters = 8 if buffers == 2 else 0
        assert row["vocabulary_state_bytes"] == buffers * 4 * 2 * V * 16 + counters
        moves = arm not in dense.CENTRED
        assert (row["head_shift"] > 0.01) == moves
        assert (row["head_shift"] < dense.STILL) != moves


def test_a_rate_that_is_too_large_fails_a_comparison_but_not_the_tuning():
    large = replace(TINY, head_lr=1e30, body_lr=1e30, embedding_lr=1e30)
    (row,) = dense.run([large], Context())
    assert row["diverged_at"] >= 0
    (row,) = dense.run([replace(large, study="tune")], Context())
    assert (row["val_loss"], row["diverged_at"]) == (dense.CEILING, -1)
    numbers = [v for k, v in row.items() if k not in dense.MAY_BE_NAN]
    assert np.isfinite([v for v in numbers if isinstance(v, float)]).all()


# --- moves ---------------------------------------------------------------------------


@pytest.mark.parametrize("move", dense.MOVES)
def test_a_moved_model_computes_the_same(move):
    decoder = model(EXACT)
    weights = dense.weights_of(decoder)
    copy, ids = dense.moved(move, weights, dense.size(EXACT), rng.stream(3, move))
    x = tokens()
    expected = decoder(x).log_softmax(-1).detach()
    decoder.load_state_dict(copy, strict=False)
    found = decoder(torch.from_numpy(ids)[x]).log_softmax(-1).detach()
    torch.testing.assert_close(found[..., ids], expected, rtol=0, atol=1e-12)
    changed = {k for k in weights if not torch.equal(weights[k], copy[k])}
    number = {"tokens": 2, "neurons": 6, "heads": 8, "rotation": 16, "shift": 1}
    assert len(changed) == number[move]
    fresh = dense.weights_of(model(EXACT))
    assert all(torch.equal(weights[k], fresh[k]) for k in weights)


def test_symmetric_rules_follow_each_move_and_adamw_all_but_the_rotation():
    for arm in ("row_norm", "hybrid"):
        (row,) = dense.run([replace(EXACT, arm=arm)], Context())
        assert max(row["loss_errors"] + row["weight_errors"]) < dense.EQUAL
        assert row["last_loss"] < row["first_loss"]
    (row,) = dense.run([replace(EXACT, arm="adamw")], Context())
    rotated = row["loss_errors"].pop(dense.ROTATION)
    assert rotated > 1e-4
    assert max(row["loss_errors"]) < dense.EQUAL


def test_the_audit_sees_a_rule_without_the_symmetry(monkeypatch):
    signs = {"rule": "sign", "nesterov": False, "scale": "none"}
    monkeypatch.setitem(dense.ARMS, "row_norm", signs)
    (row,) = dense.run([replace(EXACT, arm="row_norm")], Context())
    assert row["loss_errors"][dense.ROTATION] > 1e-4


def test_the_unmoved_run_is_that_of_the_loop_with_gains_that_stay():
    losses, end = dense.follow(EXACT)
    assert losses[0] == pytest.approx(np.log(V), abs=0.02)
    assert len(losses) == EXACT.steps + 1
    gains = [v for k, v in end.items() if v.ndim == 1]
    assert len(gains) == 9
    assert all((g == 1).all() for g in gains)


# --- design --------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "quick", "paper"])
def test_arms_get_equal_grids_and_fresh_seeds(scale):
    df = pd.DataFrame([c.__dict__ for c in dense.sweep(scale)])
    assert not df.duplicated().any()
    seeds = df.groupby("study").seed.agg(set)
    assert not seeds["tune"] & seeds["compare"]
    assert seeds["sensitivity"] <= seeds["compare"]
    tune, tuned = df[df.study == "tune"], dense.RACE.used(df)
    rates = list(dense.RACE.rates)
    for arm, points in tune.groupby("arm"):
        for rate in rates:
            values = np.unique(points[rate])
            np.testing.assert_allclose(values[1:] / values[:-1], 3, rtol=0.1)
            assert len(values) == 3
            assert tuned.loc[arm, rate] in values
        one = arm == "adamw_one_rate"
        assert len(points[rates].drop_duplicates()) == (3 if one else 9)
        assert (points.embedding_lr == points.head_lr).all() == one
    assert set(tune.arm) == {*dense.TUNE, "adamw_one_rate"}
    assert (tuned.loc["uncentred"] == tuned.loc["row_norm"]).all()


def made_up(best: float = 0.0):
    """Losses that are least at e^best times the middle of the grid, and a quarter more
    for each squared e-fold in either rate; seeds add their number."""
    df = pd.DataFrame([c.__dict__ for c in dense.sweep("quick")])
    level = {"row_norm": 0.05, "adamw_one_rate": 0.03, "hybrid": -0.01}
    found = []
    for row in df.itertuples():
        arm = {"uncentred": "row_norm"}.get(row.arm, row.arm)
        centre = np.array(dense.CENTRES["quick"][arm])
        folds = np.log(np.array([row.embedding_lr, row.head_lr]) / centre) - best
        found.append(4 + level.get(row.arm, 0) + row.seed + (folds**2).sum() / 4)
    return df.assign(val_loss=found)


@pytest.fixture
def middle(monkeypatch):
    """A design whose chosen rates are the middle of the grids."""
    monkeypatch.setitem(dense.TUNED, "quick", dense.CENTRES["quick"])


def found(name: str, df) -> Interval:
    """What the estimate of a claim gives."""
    return {c.name: c for c in dense.CLAIMS}[name].estimate(df)


def test_differences_are_paired_by_seed(middle):
    df = made_up()
    gap = found("row_norm_and_adamw", df)
    assert (gap.value, gap.n) == (pytest.approx(0.05), 8)
    assert gap.high - gap.low < 1e-9
    other = found("row_norm_and_adamw_of_one_rate", df)
    assert other.value == pytest.approx(0.02)


def test_rises_are_over_the_tuned_loss_of_the_same_seed(middle):
    df = made_up()
    rises = dense.rises_of(df, "hybrid")
    assert list(rises.columns) == [0.5, 2.0]
    expected = np.full((4, 2), np.log(2) ** 2 / 2)
    np.testing.assert_allclose(rises, expected)  # one row for each seed
    tilted = made_up(best=0.3)  # twice the rates is nearer to the best than half
    half, twice = ((np.log(f) - 0.3) ** 2 / 2 - 0.3**2 / 2 for f in (0.5, 2.0))
    np.testing.assert_allclose(dense.rises_of(tilted, "adamw")[2.0], twice)
    worse = found("adamw_bears_a_factor_of_two", tilted)
    assert (worse.value, worse.n) == (pytest.approx(half), 4)
    alike = found("hybrid_needs_its_rates_as_adamw_does", tilted)
    assert alike.value == pytest.approx(0.0)
    dear = (tilted.study == "sensitivity") & (tilted.arm == "hybrid")
    tilted.loc[dear, "val_loss"] += 0.07
    more = found("hybrid_needs_its_rates_as_adamw_does", tilted)
    assert more.value == pytest.approx(0.07)
    grid = dense.diagonal(df, "adamw")
    assert sorted(grid) == pytest.approx([1 / 3, 3.0], rel=0.05)
    assert list(grid.values()) == pytest.approx([np.log(3) ** 2 / 2] * 2, rel=0.1)


def test_rates_that_are_not_the_grids_are_noticed(middle):
    df = made_up()
    excess = found("compared_rates_are_the_grids", df)
    assert excess.value == pytest.approx(0.0, abs=0.01)  # grids are rounded
    assert found("grids_hold_the_best_rates", df).value == 0.0
    moved = made_up(best=np.log(3))
    excess = found("compared_rates_are_the_grids", moved)
    assert excess.value == pytest.approx(np.log(3) ** 2 / 2, rel=0.1)
    assert found("grids_hold_the_best_rates", moved).value == 1.0


def test_errors_of_the_rotation_are_told_from_the_others():
    errors = {"adamw": [1e-3, 0, 0, 0.5, 2e-3], "hybrid": [0, 0, 3e-3, 0, 0]}
    df = pd.DataFrame({"arm": list(errors), "loss_errors": list(errors.values())})
    df = df.assign(study="equivariance")
    assert found("adamw_parts_from_a_rotated_model", df).value == 0.5
    for name in ("adamw_follows_the_rest", "moved_models_have_the_same_losses"):
        assert found(name, df).value == 0  # of one run, which has 2e-3 or 3e-3
    errors = {"adamw": [1e-13, 0, 0, 0.5, 2e-13], "hybrid": [0, 0, 3e-13, 0, 0]}
    df = df.assign(loss_errors=list(errors.values()))
    for name in ("adamw_follows_the_rest", "moved_models_have_the_same_losses"):
        assert found(name, df).value == 1


def test_state_is_compared_with_adamws(middle):
    df = made_up().assign(vocabulary_state_bytes=100.0)
    assert dense.state_from_half(df).value == 0.5
    df.loc[df.arm == "adamw", "vocabulary_state_bytes"] = 200.0
    assert dense.state_from_half(df).value == 0.0
    df.loc[df.arm == "hybrid", "vocabulary_state_bytes"] = 120.0
    assert dense.state_from_half(df).value == pytest.approx(0.1)
