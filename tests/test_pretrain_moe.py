"""Routers under four rules: that nothing else differs, and the estimates."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from symlab.data.text import Corpus
from symlab.harness import Context, Interval, claims, contract, plot, project

moe = contract.load(project.find(Path(__file__).parent), "pretrain_moe").module
SMALL = {"vocabulary": 32, "steps": 3, "batch": 2, "length": 16, "validation": 2}


def config(router: str = "adamw", **fields) -> moe.Config:
    return moe.Config(router=router, **(SMALL | {"step": 0.02} | fields))


@pytest.fixture
def toy(monkeypatch):
    ids = np.random.default_rng(0).integers(32, size=3000).astype(np.uint16)
    text = Corpus("toy", "0" * 16, 32, ids[:2000], ids[2000:], 2.0, "{}")
    monkeypatch.setattr("symlab.data.text.corpus", lambda name, vocabulary: text)


def built(c: moe.Config):
    """The model and its optimizer."""
    from symlab.pretraining import Recipe
    from symlab.pretraining.loop import build
    from symlab.symopt import SymOpt

    recipe = Recipe(steps=1, batch=1, length=c.length, seed=c.seed)
    model, groups = build(moe.decoder(c), recipe, moe.optimizer(c))
    return model, SymOpt(model, groups=groups)


# --- the arms ------------------------------------------------------------------------


def settings(c: moe.Config) -> dict[str, dict]:
    _, optimizer = built(c)
    return {
        name: {k: v for k, v in group.items() if k not in ("params", "param_names")}
        for group in optimizer.param_groups
        for name in group["param_names"]
    }


def test_only_routers_differ():
    reference = settings(config())
    routers = {f"blocks.{layer}.feed.router.weight" for layer in (0, 1)}
    for rule in set(moe.ROUTERS) - {"adamw"}:
        found = settings(config(rule))
        assert {n for n in found if found[n] != reference[n]} == routers, rule
    rates = {n: g["lr"] for n, g in reference.items()}
    assert rates["embedding.weight"] == 0.06
    assert rates["head.weight"] == 0.012
    assert rates["blocks.0.feed.gate_up"] == rates["blocks.1.attention.out.weight"]
    rules = {n: g["rule"] for n, g in reference.items()}
    assert rules["blocks.0.feed.gate_up"] == "spectral"
    assert rules["embedding.weight"] == rules["head.weight"] == "adamw"
    assert all(g["weight_decay"] == 0 for g in reference.values())


def expected_update(rule: str, g: np.ndarray) -> np.ndarray:
    """Of length 1 per row or singular value, in float64."""

    def centred(x):
        return x - x.mean(0)

    def rows(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def polar(x):
        u, s, vt = np.linalg.svd(x, full_matrices=False)
        return u[:, s > 1e-9] @ vt[s > 1e-9]

    x = centred(g)
    if rule == "row_norm":
        return centred(rows(x))
    return centred(polar(x if rule == "left_polar" else centred(rows(x))))


@pytest.mark.parametrize("rule", moe.ROUTERS)
def test_two_steps_of_a_router_are_the_rules(rule):
    model, optimizer = built(config(rule))
    weight = model.blocks[1].feed.router.weight
    before = weight.detach().double().numpy().copy()
    gradients = np.random.default_rng(1).normal(size=(2, *weight.shape))
    paths = []
    for g in gradients:
        weight.grad = torch.from_numpy(g).float()
        optimizer.step()
        paths.append(before - weight.detach().double().numpy())
    if rule == "frozen":
        assert not np.any(paths)
    elif rule == "adamw":  # the bound on a row is met at the first step
        np.testing.assert_allclose(np.linalg.norm(paths[0], axis=1), 0.02, rtol=1e-4)
    else:
        first, second = gradients[0], 0.95 * gradients[0] + gradients[1]
        expected = 0.02 * sum(expected_update(rule, m) for m in (first, second))
        error = np.linalg.norm(paths[1] - expected) / np.linalg.norm(expected)
        assert error < (
            1e-4 if rule == "row_norm" else 0.2
        )  # an iteration's five steps
        assert np.abs(paths[1].mean(0)).max() < 1e-7


def test_rates_of_adamw_shrink_with_the_width():
    for model, width in (("tiny", 64), ("moe-512", 512)):
        c = config(model=model)
        rate = moe.optimizer(c)["overrides"]["router"]["lr"]
        assert rate == pytest.approx(0.02 / width**0.5)
        rate = moe.optimizer(replace(c, router="row_norm"))["overrides"]["router"]["lr"]
        assert rate == 0.02


def test_arms_of_a_seed_share_weights_and_text(toy):
    rows = moe.run(
        [config(rule) for rule in ("frozen", "adamw", "left_polar")], Context()
    )
    assert len({row["train_loss"][0] for row in rows}) == 1
    assert len({row["train_loss"][2] for row in rows}) == 3
    frozen, adamw, left = rows
    assert frozen["router_moved"] == frozen["router_shift"] == 0
    assert adamw["router_shift"] > 1e-3
    assert left["router_shift"] < 1e-6 < left["router_moved"]
    (other,) = moe.run([config("frozen", seed=1)], Context())
    assert other["train_loss"][0] != frozen["train_loss"][0]


def test_auxiliary_losses_reach_the_loop(toy, monkeypatch):
    seen = {}

    def train(model, optimizer, text, recipe, **options):
        seen[recipe.balance, recipe.z, recipe.phi] = recipe
        return {}

    monkeypatch.setattr("symlab.pretraining.train", train)
    moe.run([config(auxiliary=name) for name in moe.AUXILIARY], Context())
    expected = {(0, 0, 0), (0.01, 0, 0), (0.01, 0.001, 0), (0, 0, 0.1)}
    assert set(seen) == expected
    sizes = {(r.steps, r.batch, r.length, r.validation) for r in seen.values()}
    assert sizes == {(3, 2, 16, 2)}


def test_distance_is_that_of_centred_weights():
    draws = np.random.default_rng(0)
    a, b = draws.normal(size=(2, 2, 5, 3))
    shift = draws.normal(size=3)
    found = moe.moved(
        [torch.from_numpy(x) for x in a], [torch.from_numpy(x + shift) for x in b]
    )
    centred = [x - x.mean(1, keepdims=True) for x in (a, b)]
    norms = [np.linalg.norm(x.reshape(2, -1), axis=1) for x in (b - a, a)]
    assert found < (norms[0] / norms[1]).mean()
    norms = [
        np.linalg.norm(x.reshape(2, -1), axis=1)
        for x in (centred[1] - centred[0], centred[0])
    ]
    assert found == pytest.approx((norms[0] / norms[1]).mean())


def test_a_killed_run_resumes_to_the_same_row(toy, monkeypatch, tmp_path):
    from symlab.pretraining import loop

    c = config("left_polar", steps=4, save_every=2)
    (whole,) = moe.run([c], Context())
    kept = Context(checkpoints=tmp_path)
    tell = loop._Run._tell

    def die(run, bar):
        tell(run, bar)
        if run.step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_tell", die)
        with pytest.raises(KeyboardInterrupt):
            moe.run([c], kept)
    assert len(list(tmp_path.iterdir())) == 1
    (resumed,) = moe.run([c], kept)
    for name in ("val_loss", "load_cv", "router_moved", "train_loss"):
        assert resumed[name] == whole[name], name


# --- estimates -----------------------------------------------------------------------

SLOPE = {"frozen": 0.0, "adamw": 1.0, "row_norm": 1.2, "left_polar": 0.7}
COLUMNS = ("max_violation", "dead_fraction", "load_entropy", "mean_logit_drift")
COLUMNS += ("router_shift", "router_moved", "z_loss", "load_cv")


def rows(seeds=range(4)) -> pd.DataFrame:
    """A made-up sweep: load CV is SLOPE x (place of the step) x exp(0.1 seed)."""
    found = []
    for c in moe.sweep("quick"):
        if c.seed not in seeds and c.study != "tune":
            continue
        place = 1 + moe.STEPS.index(c.step) if c.step else 1
        slope = SLOPE[c.router] or 0.5
        even = {"none": 1.0, "balance": 0.3, "balance and z": 0.2, "phi": 0.5}
        level = slope * place * np.exp(0.1 * c.seed) * even[c.auxiliary]
        off = np.log(c.embedding_lr / 0.06) ** 2 + np.log(c.head_lr / 0.012) ** 2
        row = vars(c) | dict.fromkeys(COLUMNS, level)
        found.append(row | {"val_loss": 3 + 0.01 * off - 0.001 * place + c.seed})
    return pd.DataFrame(found)


def found(name: str, df) -> Interval:
    """What the estimate of a claim gives."""
    return {c.name: c for c in moe.CLAIMS}[name].estimate(df)


def test_paired_differences_are_those_that_were_planted():
    df = rows()
    places = np.log([1 / 3, 2 / 4]).mean()
    for name, offset in (("steps", 0), ("rates", places)):
        gap = found(f"left_polar_at_equal_{name}", df)
        assert gap.value == pytest.approx(np.log(0.7) + offset)
        assert gap.high - gap.low == pytest.approx(0, abs=1e-9)  # seeds cancel
        assert gap.n == 4
    mean = -0.3 * 2.5 * np.exp(0.1 * np.arange(4)).mean()
    assert found("left_polar_dead", df).value == pytest.approx(mean)
    assert found("frozen_loss", df).value == pytest.approx(0.003)


def test_rates_are_chosen_by_seeds_that_do_not_judge():
    df = rows()
    assert moe.best_loss(df) == dict.fromkeys(moe.LEARNED, 0.08)
    odd = df.seed % 2 == 1
    df.loc[odd & (df.step == 0.0025), "val_loss"] -= 1  # best, for odd seeds only
    for choose in (moe.best_loss, moe.least_load):
        mine = moe.judged(choose)(df)
        steps = mine[mine.router != "frozen"].groupby(mine.seed % 2).step.unique()
        assert list(steps[0]) == [0.0025]  # even seeds get what the odd ones chose
        expected = 0.08 if choose is moe.best_loss else 0.0025
        assert list(steps[1]) == [expected]
        assert len(mine) == 4 * 4
        assert sum(mine.router == "frozen") == 4


def test_the_least_load_is_sought_where_nothing_is_lost():
    df = rows()
    assert moe.least_load(df) == dict.fromkeys(moe.LEARNED, 0.0025)
    low = (df.step == 0.0025) & (df.study == "frontier")
    df.loc[low, "val_loss"] += 0.03
    assert moe.least_load(df) == dict.fromkeys(moe.LEARNED, 0.008)
    df.loc[df.router == "row_norm", "val_loss"] += 1.0  # none within reach: least loss
    assert moe.least_load(df)["row_norm"] == 0.08


def test_auxiliary_losses_are_compared_at_one_step():
    df = rows()
    change = moe.changes(df, "load_cv", "balance and z", other="balance")
    np.testing.assert_allclose(change, np.log(0.2 / 0.3))
    assert set(change.columns) == set(moe.LEARNED)
    hurt = (df.auxiliary == "phi") & (df.router == "row_norm")
    df.loc[hurt, "load_cv"] *= 4
    assert moe.least_helped("phi")(df).value == pytest.approx(np.log(2))
    df.loc[hurt, "val_loss"] += 0.5
    assert moe.dearest(df).value == pytest.approx(0.5)
    assert found("left_polar_with_phi", df).value == pytest.approx(np.log(0.7))


def test_the_recorded_grid_has_the_rates_in_use():
    df = rows()
    assert found("tables_are_tuned", df).value == pytest.approx(0)
    assert found("tables_lie_inside", df).value == 0
    tune = df.study == "tune"
    df.loc[tune & (df.head_lr == 0.004), "val_loss"] -= 0.5
    excess = 0.5 - 0.01 * np.log(3) ** 2
    assert found("tables_are_tuned", df).value == pytest.approx(excess)
    assert found("tables_lie_inside", df).value == 1


def test_no_seed_is_both_tuned_on_and_judged():
    df = rows()
    assert found("tuning_seeds_are_not_judged", df).value == 0
    df.loc[(df.study == "tune") & (df.seed == 100), "seed"] = 1
    assert found("tuning_seeds_are_not_judged", df).value == 1


@pytest.mark.parametrize("scale", ["smoke", "quick", "paper"])
def test_the_design_tunes_on_seeds_of_their_own(scale):
    seeds = pd.DataFrame(moe.sweep(scale)).groupby("study").seed.agg(set)
    assert not seeds["tune"] & (seeds["frontier"] | seeds["auxiliary"])


@pytest.mark.parametrize("n_seeds", [2, 4])
def test_every_claim_is_judged(n_seeds):
    df = rows(range(n_seeds))
    for claim in moe.CLAIMS:
        verdict = claims.judge("pretrain_moe", claim, df)
        assert verdict.interval is not None, verdict.line()


def test_shifts_are_judged_by_the_worst_run():
    df = rows()
    judged = (df.router == "adamw") & (df.study != "tune")
    df.loc[judged, "router_shift"] = np.arange(judged.sum())
    assert found("adamw_shifts", df).value == 0
    largest = df.router_shift[~df.router.isin(["adamw", "frozen"])].max()
    assert found("centred_routers_do_not_shift", df).value == largest


def test_the_z_loss_is_compared_with_the_balancing_loss_alone():
    df = rows()
    pair = df.auxiliary.isin(["balance", "balance and z"])
    df.loc[pair, "z_loss"] = 8.0
    df.loc[(df.auxiliary == "balance and z") & (df.router == "row_norm"), "z_loss"] = 4
    assert found("z_loss_moves_adamw", df).value == pytest.approx(0)
    halved = found("centring_cancels_the_z_loss", df)
    assert halved.value == pytest.approx(np.log(0.5))


def test_the_mean_logit_is_judged_where_it_differs_most():
    df = rows()
    frozen = 0.5 * np.exp(0.1 * df.seed)
    df["mean_logit_drift"] = np.where(df.router == "row_norm", frozen / 2, frozen)
    odd = (df.router == "left_polar") & (df.step == 0.025)
    df.loc[odd, "mean_logit_drift"] *= 1.5
    assert moe.steadiness(df).value == pytest.approx(-np.log(2))
    df.loc[odd, "mean_logit_drift"] *= 2
    assert moe.steadiness(df).value == pytest.approx(np.log(3))


def test_every_panel_is_drawn():
    df = rows()
    experiment = contract.load(project.find(Path(__file__).parent), "pretrain_moe")
    figure = plot.compose([(p, df) for p in experiment.panels("symopt4")])
    assert len(figure.axes) == 6
    frozen = 0.5 * np.exp(0.1 * np.arange(4)).mean()
    dashed = plot.drawn(figure)[1]["lines"][0]["y"]
    assert dashed == pytest.approx([frozen] * 2, rel=1e-5)
    assert len(moe.table(df)) == 13 + 9


def test_designs_have_every_rule_at_every_step():
    for scale, n_rules in (("smoke", 3), ("quick", 3), ("paper", 4)):
        df = pd.DataFrame([vars(c) for c in moe.sweep(scale)])
        mine = df[(df.study == "frontier") & (df.router != "frozen")]
        assert mine.router.nunique() == n_rules
        assert mine.groupby("router").step.unique().map(tuple).nunique() == 1
        tuned, rates = moe.TUNED[scale], list(moe.RACE.rates)
        used = {tuple(x) for x in df[df.study != "tune"][rates].to_numpy()}
        assert used == {tuple(tuned.values())}
        grid = df[df.study == "tune"][rates]
        assert (grid == list(tuned.values())).all(axis=1).any()
