"""Forms of scores: their symmetry, written-out attention, lanes, and what they save."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from symlab.harness import contract, project
from symlab.models import symmetric_attention as sa

PROJECT = project.find(Path(__file__).resolve().parents[1])
module = contract.load(PROJECT, "symmetric_attention").module
SMALL = module.Config(steps=3, width=16, context=8, batch=4)


def model(form: str, lanes: int = 2, causal: bool = True, **sizes):
    """Parameters in float64 with a lane axis, their shape, and one-hot tokens."""
    shape = sa.Shape(form, 11, 11, 6, width=16, head_width=4, causal=causal, **sizes)
    starts = [sa.initial(shape, np.random.default_rng(i)) for i in range(lanes)]
    p = {k: torch.stack([q[k] for q in starts]).double() for k in starts[0]}
    draws = np.random.default_rng(9)
    return p, shape, torch.from_numpy(draws.integers(0, 11, (lanes, 3, 6)))


@pytest.mark.parametrize("form", ["full", "symmetric", "positive", "narrow"])
def test_scores_have_the_form_that_they_are_named_after(form):
    p, shape, _ = model(form, layers=2)
    a = sa.products(p, shape)
    assert a.shape == (2, 2, 4, 16, 16)
    eigenvalues = torch.linalg.eigvals(a).real
    symmetric = torch.equal(a, a.mT) or torch.allclose(a, a.mT, atol=1e-12)
    assert symmetric == (form in ("symmetric", "positive"))
    assert (torch.linalg.matrix_rank(a) == (2 if form == "narrow" else 4)).all()
    if symmetric:
        below = (eigenvalues < -1e-9).sum(-1)
        assert (below == (2 if form == "symmetric" else 0)).all()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("form", sa.FORMS)
def test_the_transformer_is_the_one_written_out(form, causal):
    p, shape, x = model(form, causal=causal)
    found = sa.forward(p, x, shape)
    seen = torch.ones(6, 6).tril().bool() if causal else torch.ones(6, 6).bool()
    a = (
        sa.products(p, shape)
        if shape.rank
        else torch.zeros(2, 1, 4, 16, 16, dtype=torch.float64)
    )

    def norm(y):
        centred = y - y.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    for lane in range(2):
        w = {k: v[lane] for k, v in p.items()}
        for sequence in range(3):
            y = w["embed"][x[lane, sequence]] + w["position"]
            z, parts = norm(y), []
            for h in range(4):
                scores = z @ a[lane, 0, h] @ z.T / max(shape.rank, 1) ** 0.5
                weight = scores.masked_fill(~seen, -torch.inf).softmax(-1)
                parts.append(weight @ z @ w["v"][0][:, 4 * h : 4 * h + 4])
            y = y + torch.cat(parts, -1) @ w["o"][0]
            y = y + (norm(y) @ w["up"][0]).relu() @ w["down"][0]
            torch.testing.assert_close(found[lane, sequence], norm(y) @ w["head"])


def test_one_hot_tokens_and_indices_are_the_same():
    p, shape, x = model("full")
    hot = torch.nn.functional.one_hot(x, 11).double()
    torch.testing.assert_close(sa.forward(p, hot, shape), sa.forward(p, x, shape))


def test_no_character_sees_a_later_one():
    p, shape, x = model("symmetric", layers=2)
    later = x.clone()
    later[..., -1] = (later[..., -1] + 1) % 11
    before, after = (sa.forward(p, y, shape)[..., :-1, :] for y in (x, later))
    assert torch.equal(before, after)


@pytest.mark.parametrize("form", sa.FORMS)
def test_operations_are_those_that_torch_counts(form):
    """The rest of the network is the same in all forms."""
    p, shape, x = model(form, lanes=1, layers=2)

    def counted(p, shape):
        fused = sdpa_kernel(SDPBackend.MATH)  # the fused kernel is not counted
        with fused, FlopCounterMode(display=False) as counter:
            sa.forward(p, x[:, :1], shape)
        return counter.get_total_flops()

    q, bare, _ = model("uniform", lanes=1, layers=2)
    idle = 2 * 2 * 4 * 6**2 * 2  # scores of the zeros that stand for no scores
    more = counted(p, shape) - (counted(q, bare) - idle)
    assert more == shape.score_flops() + (idle if form == "uniform" else 0)


def test_parameters_are_counted():
    count = {}
    for form in sa.FORMS:
        p, shape, _ = model(form, lanes=1, layers=2)
        count[form] = shape.score_parameters()
        assert count[form] == (p["scores"].numel() if shape.rank else 0)
    assert count["symmetric"] == count["positive"] == count["narrow"]
    assert count["full"] == 2 * count["symmetric"]
    assert count["uniform"] == 0


def test_arms_of_a_seed_share_what_they_have_in_common():
    full, narrow, none = (model(f, lanes=1)[0] for f in ("full", "narrow", "uniform"))
    symmetric = model("symmetric", lanes=1)[0]
    for name in set(none):
        assert torch.equal(full[name], none[name])
    assert torch.equal(full["scores"][:, :1], symmetric["scores"])
    heads = full["scores"].unflatten(-1, (4, 4))[..., :2].flatten(-2)
    assert torch.equal(heads, narrow["scores"])


def test_other_forms_and_odd_heads_are_refused():
    with pytest.raises(ValueError, match="no scores of the form 'skew'"):
        model("skew")
    with pytest.raises(ValueError, match="must be even"):
        sa.Shape("full", 11, 11, 6, head_width=3)


@pytest.mark.parametrize("task", ["text", "digits"])
def test_lanes_do_not_meet(task):
    configs = [replace(SMALL, task=task, seed=s) for s in (0, 1)]
    together = module.run(configs)
    for c, row in zip(configs, together, strict=True):
        (alone,) = module.run([c])
        assert alone["loss"] == pytest.approx(row["loss"], rel=1e-5)
    assert len({row["loss"] for row in together}) == 2


def test_digits_are_cut_into_patches_of_neighbours():
    draw, (x, y), _ = module._digits(SMALL, [0])
    from symlab.models.zoo import digits

    image = digits(0).x_test[5].view(8, 8)
    assert torch.equal(x[0, 5, 0], image[:2, :2].flatten())
    assert torch.equal(x[0, 5, 7], image[2:4, 6:].flatten())
    assert y.shape == (1, 397)
    batch, classes = draw()
    assert batch.shape == (1, 8, 16, 4)
    assert classes.shape == (1, 8)


def test_training_learns_the_digits():
    (row,) = module.run([replace(SMALL, task="digits", steps=50, batch=16)])
    assert row["accuracy"] > 0.3
