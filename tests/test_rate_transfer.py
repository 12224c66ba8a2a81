"""Rates across widths: muP by its coordinates, polar updates, best rates, decoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from symlab import rate_curves
from symlab.harness import contract, project
from symlab.models import wide_decoder as decoder
from symlab.symopt import SymOpt

PROJECT = project.find(Path(__file__).resolve().parents[1])
module = contract.load(PROJECT, "rate_transfer").module
SMALL = module.Config(steps=2, batch=2, context=8)
V, T = 20, 8


def stepped(arm: str, width: int, lr: float = 2.0**-8):
    """Weights before and after one step of an arm, and characters (1, 16, T + 1)."""
    c = replace(SMALL, arm=arm, width=width, lr=lr)
    variance = 1.0 if arm in module.LARGE else module.BASE / width
    p = decoder.initial(width, T, V, [0], variance)
    rows = torch.from_numpy(np.random.default_rng(0).integers(0, V, (1, 16, T + 1)))
    optimizer = SymOpt(module.groups(c, p), weight_decay=0.0)
    before = {k: w.detach().clone() for k, w in p.items()}
    decoder.losses(p, rows).sum().backward()
    optimizer.step()
    return before, {k: w.detach() for k, w in p.items()}, rows


def moved(arm: str, width: int) -> tuple[float, float]:
    """Root mean square changes by one step: of the stream, and of the logits by the
    head alone. (Steps of the stream reach the logits by way of the random head, which
    adds a part that vanishes as D^(-1/2).)
    """
    before, after, rows = stepped(arm, width)
    x = rows[..., :-1]
    changes = (
        decoder.stream(after, x) - decoder.stream(before, x),
        decoder.logits(before | {"head": after["head"]}, x) - decoder.logits(before, x),
    )
    return tuple(float(change.square().mean().sqrt()) for change in changes)


# --- parametrisations ----------------------------------------------------------------


def test_a_step_moves_activations_as_far_at_every_width_in_mup_and_not_otherwise():
    """The coordinate check of Tensor Programs V, on the first step."""
    for arm, growth in (("mup", 1), ("adamw", 2)):
        narrow, wide = moved(arm, 256), moved(arm, 512)
        ratios = np.divide(wide, narrow) / growth
        assert ((ratios > 0.85) & (ratios < 1.15)).all(), arm


@pytest.mark.parametrize(
    ("arm", "multiples"),  # of embedding, hidden matrices, head at 4 times the width
    [("adamw", (1, 1, 1)), ("embedding", (4, 1, 1)), ("head", (1, 1, 1)),
     ("mup", (1, 1 / 4, 1 / 4))],
)  # fmt: skip
def test_the_first_step_of_adam_is_as_long_as_the_table_says(arm, multiples):
    before, after, _ = stepped(arm, 128, lr=0.01)
    for name, multiple in zip(("embed", "q", "head"), multiples, strict=True):
        longest = (after[name] - before[name]).abs().max()
        torch.testing.assert_close(float(longest), 0.01 * multiple, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("arm", "variance"), [("adamw", 1 / 256), ("mup", 1 / 2048)])
def test_heads_start_with_the_variance_of_the_table(arm, variance):
    before, _, _ = stepped(arm, 256)
    assert before["head"].var() == pytest.approx(variance, rel=0.1)
    assert before["q"].var() == pytest.approx(1 / 256, rel=0.1)
    assert before["down"].var() == pytest.approx(1 / 128, rel=0.1)


@pytest.mark.parametrize("width", [32, 128])
@pytest.mark.parametrize(
    ("arm", "narrowing", "widening"),  # spectral norms, of D to D/2 and of D/2 to D
    [("none", 1, 1), ("muon", 1, 2**0.5), ("scion", 0.5**0.5, 2**0.5), ("rms", 0, 0)],
)
def test_polar_updates_have_the_spectral_norm_of_their_convention(
    arm, narrowing, widening, width
):
    if arm == "rms":
        narrowing = widening = 0.2 * width**0.5
    before, after, _ = stepped(arm, width, lr=0.5)
    for name, norm in (("up", narrowing), ("down", widening)):
        update = (after[name] - before[name])[0] / 0.5
        found = torch.linalg.matrix_norm(update, 2)
        assert found == pytest.approx(norm, rel=0.2)  # polar_express: up to 1.14


def test_rms_is_none_at_another_rate():
    rms = module.run([replace(SMALL, arm="rms", width=64, lr=0.01)])
    none = module.run([replace(SMALL, arm="none", width=64, lr=0.01 * 0.2 * 8)])
    assert rms[0]["loss"] == pytest.approx(none[0]["loss"], rel=1e-6)


def test_the_arms_of_adamw_are_one_at_the_base_width_and_differ_beyond():
    arms = ("adamw", "embedding", "head", "mup")
    at_base = {module.run([replace(SMALL, arm=a)])[0]["loss"] for a in arms}
    wider = {module.run([replace(SMALL, arm=a, width=64)])[0]["loss"] for a in arms}
    assert len(at_base) == 1
    assert len(wider) == 4


# --- best rates ----------------------------------------------------------------------


def test_the_vertex_is_that_of_the_parabola_that_polyfit_finds():
    draws = np.random.default_rng(0)
    for _ in range(20):
        x = np.arange(-9.0, -3.0) * draws.uniform(0.5, 2)
        y = (x - x[3]) ** 2 + draws.normal(size=6) / 4
        if (i := y.argmin()) in (0, 5):
            continue
        a, b, c = np.polyfit(x[i - 1 : i + 2], y[i - 1 : i + 2], 2)
        found = rate_curves.vertex(x, y)
        np.testing.assert_allclose(found, (-b / (2 * a), c - b**2 / (4 * a)))


@pytest.mark.parametrize("y", [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
def test_a_best_rate_at_an_end_of_the_grid_is_refused(y):
    with pytest.raises(ValueError, match="or beyond it, so run rates further out"):
        rate_curves.vertex([-6, -5, -4], y)


def planted(best: dict, floor: dict | None = None, noise: float = 0.0) -> pd.DataFrame:
    """Rows whose losses are parabolas: best[arm, width] and floor[arm, width]."""
    draws = np.random.default_rng(1)
    rows = [
        {"arm": a, "width": d, "seed": s, "lr": 2.0**k,
         "loss": (floor or {}).get((a, d), 0) + 0.1 * (k - x - 0.1 * s) ** 2
         + noise * draws.normal()}
        for (a, d), x in best.items() for s in range(4) for k in range(-10, 0)
    ]  # fmt: skip
    return pd.DataFrame(rows)


BEST = {("a", 32): -4.3, ("a", 256): -6.1, ("b", 32): -4.0, ("b", 256): -4.6}


def test_drifts_are_the_planted_ones():
    df = planted(BEST)
    assert rate_curves.drift("a")(df).value == pytest.approx(-1.8)
    assert rate_curves.drift("b", "a")(df).value == pytest.approx(1.2)
    assert rate_curves.at_edge(df).value == 0


def test_keeping_a_rate_costs_what_the_other_seeds_choose():
    df = planted({("a", 32): -4.2, ("a", 256): -6.2})  # grid points -4 and -6
    for seed, rows in df[df.width == 256].groupby("seed"):
        loss = rows.set_index("lr").loss
        assert rate_curves._costs(df, "a")[seed] == loss[2.0**-4] - loss[2.0**-6]
    one = planted({("a", 32): -4.2, ("a", 256): -6.2})
    odd = (one.seed == 0) & (one.width == 256) & (one.lr == 2.0**-9)
    one.loc[odd, "loss"] = -9.0  # lucky at a bad rate: its own choice is not used
    assert rate_curves._costs(one, "a")[0] == rate_curves._costs(df, "a")[0]


def test_a_kept_rate_that_was_not_run_is_asked_for():
    df = planted({("a", 32): -4.2, ("a", 256): -6.2})
    with pytest.raises(ValueError, match="lacks 2\\^-4, the best rate at the least"):
        rate_curves.cost_of_keeping("a")(df[(df.width == 32) | (df.lr < 2.0**-4)])


def test_gains_and_shares_of_gains():
    best = {(a, 256): -5.0 for a in "abc"}
    df = planted(best, {("a", 256): 3.0, ("b", 256): 2.0, ("c", 256): 2.7})
    assert rate_curves.gain("b", "a")(df).value == pytest.approx(1.0)
    half = rate_curves.share_of_gain(0.5, "c", of="b", other="a")
    assert half(df).value == pytest.approx(0.3 - 0.5)


def test_exchanging_the_arms_of_a_seed_changes_the_sign_of_its_difference():
    df = planted(BEST, noise=0.001)
    found = {rate_curves.drift("a").placebo(df)(i).value for i in range(40)}
    assert max(found) == pytest.approx(-min(found), rel=1e-6)
    assert max(found) == pytest.approx(1.8, abs=0.1)


# --- the decoder ---------------------------------------------------------------------


def test_the_decoder_is_the_one_written_out():
    p = decoder.initial(64, T, V, [3, 4])
    p = {k: w.detach().double() for k, w in p.items()}
    x = torch.from_numpy(np.random.default_rng(2).integers(0, V, (2, 3, T)))
    found = decoder.logits(p, x).view(2, 3, T, V)

    def norm(y):
        centred = y - y.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    for lane, sequence in np.ndindex(2, 3):
        w = {k: v[lane] for k, v in p.items()}
        y = w["embed"][x[lane, sequence]] + w["position"]
        q, k, v = (norm(y) @ w[name] for name in ("q", "k", "v"))
        heads = []
        for h in (slice(0, 16), slice(16, 32)):
            scores = q[:, h] @ k[:, h].T / 4
            unseen = torch.ones(T, T).triu(1).bool()
            weight = scores.masked_fill(unseen, -torch.inf).softmax(-1)
            heads.append(weight @ v[:, h])
        y = y + torch.cat(heads, -1) @ w["o"]
        y = y + (norm(y) @ w["up"]).relu() @ w["down"]
        torch.testing.assert_close(found[lane, sequence], norm(y) @ w["head"])
