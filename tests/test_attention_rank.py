"""Figure 8: the symmetry of attention, its removal, and what is measured of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from torch.nn.functional import cross_entropy

from symlab.data import characters
from symlab.harness import contract, project
from symlab.mirror import hidden
from symlab.models.small_transformer import Attention, SmallTransformer

rank = contract.load(project.find(Path(__file__).parent), "attention_rank").module
TINY = rank.Config(steps=6, context=8, d_model=8, d_head=4, heads=2, batch=4)
PAIRS = {"qk": {"q": 1, "k": 1}, "vo": {"v": 1, "o": 2}}  # where the hidden index is
PREFIX = "blocks.1.attention."


@pytest.fixture
def tokens():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 11, (5, 9)))


def small(**changes) -> SmallTransformer:
    sizes = {"context": 9, "d_model": 12, "heads": 3, "d_head": 4, "layers": 2}
    return SmallTransformer(11, **sizes | changes).double()


def rotation(seed: int, n: int, d: int):
    """n orthogonal matrices (n, d, d)."""
    draws = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(n, d, d, generator=draws).double())[0]


def loss_of(model, tokens):
    def loss(params):
        logits = torch.func.functional_call(model, params, (tokens[:, :-1],))
        return cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    return loss


# --- the symmetry --------------------------------------------------------------------


def test_rotating_the_hidden_index_of_each_head_changes_no_logit(tokens):
    model = small()
    before = model(tokens).detach()
    r, s = rotation(1, 3, 4), rotation(2, 3, 4)
    attention = model.blocks[0].attention
    with torch.no_grad():
        for p in (attention.q, attention.k):
            p.copy_(r @ p)
        attention.v.copy_(s @ attention.v)
        attention.o.copy_(attention.o @ s.transpose(1, 2))
        torch.testing.assert_close(model(tokens), before, rtol=0, atol=1e-10)
        attention.k.copy_(r @ attention.k)  # not with its partner
        assert (model(tokens) - before).abs().max() > 1e-3


@pytest.mark.parametrize("pair", PAIRS)
def test_the_mirror_library_finds_the_rotations(tokens, pair):
    model, n = small(), torch.randn(4, generator=torch.Generator().manual_seed(3))
    params, loss = dict(model.named_parameters()), loss_of(model, tokens)
    axes = {PREFIX + name: axis for name, axis in PAIRS[pair].items()}
    assert hidden(params, axes, n).violation(loss, params) < 1e-9
    alone = dict(list(axes.items())[:1])
    with pytest.raises(ValueError, match="not this symmetry"):
        hidden(params, alone, n).check(loss, params)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_offset_leaves_no_rotation_of_the_decayed_variables(tokens, pair):
    c = replace(TINY, model="offset", context=9, layers=2)
    model, n = rank.build(c, 11).double(), torch.ones(4)
    params, loss = dict(model.named_parameters()), loss_of(model, tokens)
    axes = {
        f"{PREFIX}parametrizations.{name}.original": axis
        for name, axis in PAIRS[pair].items()
    }
    params |= {name: 0.1 * torch.randn_like(params[name]) for name in axes}
    with pytest.raises(ValueError, match="not this symmetry"):
        hidden(params, axes, n).check(loss, params)


# --- the model -----------------------------------------------------------------------


def test_attention_is_torchs(tokens):
    """Against torch.nn.MultiheadAttention with a causal mask."""
    h, e, d = 3, 4, 12
    q, k, v = torch.randn(3, h, e, d, generator=torch.Generator().manual_seed(4))
    o = torch.randn(h, d, e, generator=torch.Generator().manual_seed(5))
    theirs = torch.nn.MultiheadAttention(d, h, bias=False, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([w.reshape(-1, d) for w in (q, k, v)]))
        theirs.out_proj.weight.copy_(torch.cat(list(o), dim=1))
    x = torch.randn(2, 7, d, generator=torch.Generator().manual_seed(6))
    future = torch.ones(7, 7, dtype=torch.bool).triu(1)
    expected, _ = theirs(x, x, x, attn_mask=future, need_weights=False)
    torch.testing.assert_close(Attention(q, k, v, o)(x), expected, rtol=1e-4, atol=1e-5)


def test_the_unfactored_model_starts_as_the_same_function(tokens):
    a, b = small(seed=7).float(), small(seed=7, factored=False).float()
    torch.testing.assert_close(a(tokens), b(tokens), rtol=1e-4, atol=1e-5)
    pairs = zip(a.blocks, b.blocks, strict=True)
    for ours, theirs in ((x.attention, y.attention) for x, y in pairs):
        for p, q in zip(ours.products(), theirs.products(), strict=True):
            torch.testing.assert_close(p, q)


def test_a_logit_depends_on_the_past_alone(tokens):
    model, later = small(), tokens.clone()
    later[:, 5:] = (later[:, 5:] + 1) % 11
    a, b = model(tokens), model(later)
    torch.testing.assert_close(a[:, :5], b[:, :5])
    assert (a[:, 5:] - b[:, 5:]).abs().min() > 0


# --- the experiment ------------------------------------------------------------------


@pytest.mark.parametrize("study", ["sgd", "adamw"])
@pytest.mark.parametrize("model", ["factored", "offset", "unfactored"])
def test_decay_alone_ends_at_zero_or_at_theta_0(study, model):
    """Without gradient; and what is no attention matrix stays where it is."""
    c = replace(TINY, study=study, model=model, weight_decay=1.0, lr=0.1, momentum=0.5)
    net = rank.build(c, 11)
    start = {n: p.clone() for n, p in net.state_dict().items() if "offset" not in n}
    weights = [p.detach().clone() for p in net.blocks[0].attention.products()]
    with torch.no_grad():
        for p in net.attention():
            p.add_(0.3)
    optimizer = rank._optimizer(c, net)
    for _ in range(300):
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    for p, q in zip(net.blocks[0].attention.products(), weights, strict=True):
        goal = q if model == "offset" else torch.zeros_like(q)
        torch.testing.assert_close(p.detach(), goal, rtol=1e-4, atol=1e-5)
    for name, p in net.state_dict().items():
        if "attention" not in name:
            assert torch.equal(p, start[name]), name


def test_without_decay_the_offset_is_only_another_name():
    (plain,), (moved,) = (
        rank.run([replace(TINY, model=m)]) for m in ("factored", "offset")
    )
    assert moved["validation_loss"] == pytest.approx(plain["validation_loss"], abs=1e-5)
    np.testing.assert_allclose(moved["spectrum_qk"], plain["spectrum_qk"], atol=1e-5)
    (decayed,), (pulled,) = (
        rank.run([replace(TINY, model=m, weight_decay=0.3)])
        for m in ("factored", "offset")
    )
    assert pulled["top_vo"] > 1.05 * decayed["top_vo"]


def test_total_decay_is_how_far_decay_alone_shrinks():
    c = replace(TINY, weight_decay=0.001, steps=2000, lr=0.1)
    p = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.SGD(
        [p], lr=c.lr, momentum=c.momentum, weight_decay=c.weight_decay
    )
    for step in range(c.steps):
        optimizer.param_groups[0]["lr"] = rank.rate(c, step)
        p.grad = torch.zeros_like(p)
        optimizer.step()
    assert -np.log(p.item()) == pytest.approx(rank.total_decay(c), rel=0.02)


def test_ranks_of_planted_spectra():
    alive = np.r_[np.ones(3), 5e-3, np.zeros(4)]  # 3 by 1e-2, 4 by 1e-3
    dead = 1e-6 * np.ones(8)
    found = rank.ranks(np.stack([alive, dead])[None])
    assert found["rank"] == 1.5
    assert found["rank_strict"] == 2.0
    np.testing.assert_array_equal(found["spectrum"], alive)
    assert rank.ranks(np.ones((1, 2, 5)))["effective"] == pytest.approx(5)


def test_the_price_is_1_for_balanced_factors_and_more_for_others():
    c, draws = TINY, torch.Generator().manual_seed(8)
    model = rank.build(c, 11)
    attention = model.blocks[0].attention
    with torch.no_grad():
        for a, b in ((attention.q, attention.k), (attention.v, attention.o)):
            u = torch.linalg.qr(torch.randn(c.heads, 8, 8, generator=draws))[0]
            v = torch.linalg.qr(torch.randn(c.heads, 8, 8, generator=draws))[0]
            root = torch.rand(c.heads, 4, 1, generator=draws)
            left, right = root * u[:, :4], root * v[:, :4]
            a.copy_(left)
            b.copy_(right if b is attention.k else right.transpose(1, 2))
        assert rank._measures(c, model)["price"] == pytest.approx(1, abs=1e-6)
        attention.q.mul_(2)
        attention.k.div_(2)  # the same function
        assert rank._measures(c, model)["price"] > 1.1


def test_a_divergence_is_reported():
    (row,) = rank.run([replace(TINY, lr=1e6, steps=120)])
    assert row["diverged_at"] >= 0


# --- the claims ----------------------------------------------------------------------


def made_up() -> pd.DataFrame:
    """The quick design: ranks fall in proportion to decay, slower by the threshold."""
    df = pd.DataFrame([vars(c) for c in rank.sweep("quick")])
    df["full_rank"] = np.where(df.model == "unfactored", 64, 16)
    top = np.where(df.study == "sgd", 0.008, 3.0)
    lost = np.where(df.model == "factored", df.weight_decay / top, 0.1)
    for name, most in (("rank_qk", 12), ("rank_vo", 10), ("rank_strict_qk", 9)):
        df[name] = df.full_rank - most * lost
    df["rank_strict_vo"] = df.rank_vo + df.seed
    df["price"] = 1 + 0.001 * df.seed + (df.weight_decay < 0.004)
    df["bigram_loss"], df["validation_loss"] = 2.0, 1.5 + 0.01 * df.seed
    return df


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("query_key_rank_falls", 9),  # by the stricter threshold
        ("value_output_rank_falls", 10),
        ("more_decay_less_rank", 10 / 8),  # the first doubling, of W_O W_V
        ("adamw_rank_falls", 9),
        ("offset_keeps_rank", 1 - 1.2 / 16),
        ("unfactored_keeps_rank", 1 - 1.2 / 64),
        ("decay_is_nuclear_norm", 1.003),  # not the runs at smaller decays
        ("attention_is_used", -0.47),
        ("moderate_decay_is_cheap", 0),
    ],
)
def test_estimates_give_what_was_planted(name, value):
    claims = {c.name: c for c in rank.CLAIMS}
    assert claims[name].estimate(made_up()).value == pytest.approx(value)


# --- the text ------------------------------------------------------------------------


def test_the_default_text_is_the_one_of_the_committed_rows():
    text = characters.load("mpmath")
    assert len(text.train) + len(text.validation) == 283_512
    assert text.digest == "8383cff27e882d79"
    letters = "".join(text.vocabulary[i] for i in text.train[:40])
    assert letters == '"""\nExtended docstrings for functions.py'


def test_baselines_of_a_text():
    text = characters.encode("ab" * 5000)
    assert text.unigram_loss() == pytest.approx(np.log(2), rel=1e-3)
    assert text.bigram_loss() == pytest.approx(0, abs=1e-3)
    skewed = characters.encode("aaab" * 5000).unigram_loss()
    assert skewed == pytest.approx(scipy.stats.entropy([3, 1]), rel=1e-3)
    coin = np.random.default_rng(0).integers(0, 2, 20_000)
    text = characters.encode("".join("xy"[i] for i in coin))
    assert text.bigram_loss() == pytest.approx(np.log(2), rel=1e-2)


def test_absent_and_unknown_texts_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("SYMLAB_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="set SYMLAB_DATA"):
        characters.load("tinyshakespeare")
    with pytest.raises(ValueError, match="unknown text 'bible'"):
        characters.load("bible")
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_bytes(b"to be\r\nor not\n" * 10)
    text = characters.load("tinyshakespeare")
    assert text.vocabulary == "\n benort"
    assert len(text.train) == 117
