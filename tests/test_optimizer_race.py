"""The race of optimizers: what its arms share, and what its estimates say."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from symlab.data.text import Corpus, batches
from symlab.harness import Context, contract, plot, project
from symlab.harness.claims import judge_all
from symlab.models.families import preset
from symlab.models.transformer import Decoder
from symlab.pretraining import schedule
from symlab.pretraining.loop import build
from symlab.pretraining.runs import recipe_of
from symlab.symopt import SymOpt

EXPERIMENT = contract.load(project.find(Path(__file__).parent), "optimizer_race")
race = EXPERIMENT.module
SMALL = race.Config(width=16, layers=1, vocabulary=32, steps=8, batch=4, length=8)
SMALL = replace(SMALL, validation=2)


@pytest.fixture
def toy(monkeypatch) -> Corpus:
    """A text of 32 tokens in which each decides its four successors."""
    draws, ids = np.random.default_rng(0), [0]
    for step in draws.integers(1, 5, 3000):
        ids.append(int(ids[-1] * 3 + step) % 32)
    ids = np.array(ids, np.uint16)
    text = Corpus("toy", "0" * 16, 32, ids[:-800], ids[-800:], 2.0, "{}")
    monkeypatch.setattr("symlab.data.text.corpus", lambda name, vocabulary: text)
    return text


def groups(c) -> dict[str, dict]:
    """Name of a parameter -> what its group says, without the parameters."""
    return by_name(build(race.model(c), recipe_of(c), race.settings(c))[1])


def by_name(found: list[dict]) -> dict[str, dict]:
    return {n: {k: v for k, v in g.items() if k != "param_names"}
            for g in found for n in g["param_names"]}  # fmt: skip


def is_hidden(name: str) -> bool:
    return name.startswith("blocks.") and "norm" not in name


# --- arms ----------------------------------------------------------------------------


@pytest.mark.parametrize("arm", race.RULES)
def test_arms_differ_in_their_hidden_matrices_only(arm):
    ours = groups(replace(SMALL, arm=arm, lr=0.123))
    theirs = groups(replace(SMALL, arm="adamw", lr=0.5))
    assert ours.keys() == theirs.keys()
    hidden = [n for n in ours if is_hidden(n)]
    assert len(hidden) == 7
    for name in set(ours) - set(hidden):
        assert ours[name] == theirs[name]
        table = ours[name]["role"] in ("embedding", "head")
        assert ours[name]["rule"] == "adamw"
        assert ours[name]["lr"] == (race.TABLES if table else race.GAINS)
    for name in hidden:
        assert ours[name]["lr"] == 0.123
        assert (ours[name]["rule"] == "adamw") == (arm == "adamw")
        assert ours[name]["weight_decay"] == 0


@pytest.mark.parametrize("arm", race.WHOLE)
def test_whole_optimizers_are_the_presets_as_shipped(arm):
    c = replace(SMALL, arm=arm, lr=0.01)
    shipped = {"preset": race.WHOLE[arm], "lr": 0.01, "weight_decay": 0.0}
    assert groups(c) == by_name(build(race.model(c), recipe_of(c), shipped)[1])


def test_adamw_is_torchs_with_a_rate_for_tables(toy):
    c = replace(SMALL, lr=0.004, seed=3)
    (row,) = race.run([c], Context())
    model = Decoder(race.model(c), torch.Generator().manual_seed(3))
    parts = {0.004: [], race.TABLES: [], race.GAINS: []}
    for name, p in model.named_parameters():
        tables = name in ("embedding.weight", "head.weight")
        rate = 0.004 if is_hidden(name) else race.TABLES if tables else race.GAINS
        parts[rate].append(p)
    adamw = torch.optim.AdamW(
        [{"params": p, "lr": lr} for lr, p in parts.items()],
        betas=(0.9, 0.95),
        weight_decay=0.0,
    )
    falling = torch.optim.lr_scheduler.LambdaLR(adamw, lambda t: schedule(t, 8, 0.4))
    losses = []
    for _, (x, y) in zip(range(8), batches(toy.train, 4, 8, 3), strict=False):
        adamw.zero_grad()
        logits = model(torch.from_numpy(x)).transpose(1, 2)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y))
        loss.backward()
        adamw.step()
        falling.step()
        losses.append(loss.item())
    assert row["train_loss"] == pytest.approx(losses, abs=1e-5)


@pytest.mark.parametrize("power", ["svd", "newton"])
@pytest.mark.parametrize("arm", race.FREON)
def test_freons_exponent_is_that_of_singular_values(arm, power):
    c = replace(SMALL, arm=arm, lr=0.01, power=power)
    model, found = build(race.model(c), recipe_of(c), race.settings(c))
    assert {g["options"]["method"] for g in found if g["rule"] == "freon"} == {power}
    p = model.blocks[0].feed.down.weight
    before = p.detach().clone()
    g = torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    p.grad = g
    SymOpt(model, groups=found).step()
    u, s, vt = np.linalg.svd(g.double().numpy(), full_matrices=False)
    step = (u * s ** (1 - 2 * race.FREON[arm])) @ vt
    step *= 0.01 * 0.2 / np.sqrt(np.mean(step**2))  # entries as large as AdamW's
    np.testing.assert_allclose(before - p.detach(), step, atol=2e-5)


def test_arms_of_a_seed_have_the_same_weights_and_text(toy):
    arms = ("adamw", "aro", "scion", "muon_one_rate")
    rows = race.run([replace(SMALL, arm=a, lr=1e-3) for a in arms], Context())
    first = {row["train_loss"][0] for row in rows}
    assert len(first) == 1
    assert len({row["val_loss"] for row in rows}) == len(arms)
    (other,) = race.run([replace(SMALL, seed=1)], Context())
    assert other["train_loss"][0] not in first


def test_a_run_that_diverges_has_the_loss_of_guessing(toy):
    (row,) = race.run([replace(SMALL, arm="adamw_one_rate", lr=1e20)], Context())
    assert row["diverged"]
    assert row["val_loss"] == pytest.approx(math.log(32))
    lost = [k for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)]
    assert set(lost) <= set(race.MAY_BE_NAN)
    (row,) = race.run([SMALL], Context())
    assert not row["diverged"]
    assert row["val_loss"] < math.log(32)


# --- design --------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "quick", "paper"])
def test_every_arm_is_tuned_alike_and_raced_on_fresh_seeds(scale):
    df = pd.DataFrame(EXPERIMENT.configs(scale).values())
    assert set(df.arm) == set(race.ARMS)
    tune = df[df.study == "tune"]
    assert tune.groupby("arm").lr.nunique().nunique() == 1
    assert set(tune.seed).isdisjoint(df[df.study != "tune"].seed)
    for arm, rows in tune.groupby("arm"):
        rates = np.sort(rows.lr.unique())
        np.testing.assert_allclose(np.diff(np.log2(rates)), 1.0)
        assert rates[len(rates) // 2] == race.CENTRES[arm]
        assert race.TUNED[scale][arm] in rates
    raced = df[df.study == "race"].groupby("arm").lr.unique()
    assert {arm: list(lr) for arm, lr in raced.items()} == {
        arm: [lr] for arm, lr in race.TUNED[scale].items()
    }


def test_the_paper_scale_is_dense_512():
    (c, *_) = race.sweep("paper")
    assert race.model(c) == preset("dense-512", vocabulary=32768, context=1024)


# --- estimates -----------------------------------------------------------------------


def made_up(gap=None, seeds=8) -> pd.DataFrame:
    """Losses |log2(rate/best)|/10, half as much again above, twice that for AdamW;
    plus the arm's gap to AdamW and a tenth of the seed."""
    rows = []
    for c in race.sweep("quick"):
        if c.seed < seeds or c.study == "tune":
            off = math.log2(c.lr / race.TUNED["quick"][c.arm])
            off *= (2 if c.arm == "adamw" else 1) * (1.5 if off > 0 else 1)
            value = 3 + abs(off) / 10 + (gap or {}).get(c.arm, 0.0) + c.seed / 10
            rows.append({**c.__dict__, "val_loss": value, "diverged": False,
                         "state_bytes": 8 if "adamw" in c.arm else 4,
                         "parameters": 1, "optimizer_share": 0.5})  # fmt: skip
    return pd.DataFrame(rows)


def test_differences_are_of_the_race_and_paired():
    df = made_up({"muon": -0.05})
    found = race.difference("muon")(df)
    assert found.value == pytest.approx(-0.05)
    assert found.high - found.low < 1e-9  # seeds cancel
    assert found.n == 8
    assert race.difference("aro", "muon")(df).value == pytest.approx(0.05)
    assert race._at_half(df).value == pytest.approx(-0.25)  # AdamW is 0.2 worse there


def test_rises_are_over_the_loss_at_the_tuned_rate():
    df = made_up()
    assert race.rises(df, "muon").mean().to_dict() == pytest.approx(
        {0.5: 0.1, 2.0: 0.15}
    )
    assert len(race.rises(df, "muon")) == 8
    assert race.rise("adamw", (2.0,), "muon")(df).value == pytest.approx(0.15)
    assert race.rise("adamw", (0.5, 2.0))(df).value == pytest.approx(0.25)


def test_a_rate_that_is_not_the_best_or_at_the_end_is_noticed():
    at_the_edge, missed = (claim.estimate for claim in race.CLAIMS[:2])
    df = made_up()
    df.loc[df.study == "tune", "lr"] /= 2  # the best is raced at its double
    assert missed(df).value == pytest.approx(0.3)  # AdamW's
    df = made_up()
    edge = {a: g.lr.max() for a, g in df[df.study == "tune"].groupby("arm")}
    at = (df.study == "tune") & (df.arm == "kaon") & (df.lr == edge["kaon"])
    assert at_the_edge(df).value == 0.0
    assert missed(df).value == pytest.approx(0.0)
    df.loc[at, "val_loss"] = 0.0
    assert at_the_edge(df).value == 1.0
    assert missed(df).value > 1


def test_claims_and_figure_take_whatever_the_rows_are():
    for df in (made_up(), made_up({"adamw_one_rate": 0.5}), made_up(seeds=2)):
        verdicts = judge_all(EXPERIMENT, df)
        assert len(verdicts) == len(race.CLAIMS)
        assert not [v for v in verdicts if "could not be made" in v.note]
        fig = plot.compose([(p, df) for p in EXPERIMENT.panels("symopt5")])
        assert len(fig.axes) == 6
        assert len(race.table(df)) == len(race.ARMS)
