"""Measures of a load against SciPy, auxiliary losses against their definitions."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch.nn import functional as F

from symlab.models import routing_load, vision
from symlab.models.routing_load import PhiBalancing, price
from symlab.models.transformer import Decoder, family

OLMOE = family(
    "olmoe", vocabulary=40, context=24, width=32, layers=3, heads=4, kv_heads=2,
    head_width=8, hidden=24, experts=8, chosen=3,
)  # fmt: skip


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradient(shape, dtype=torch.float64, seed=0) -> torch.Tensor:
    return torch.randn(shape, generator=draws(seed), dtype=torch.float64).to(dtype)


# --- measures ------------------------------------------------------------------------


def test_load_measures_at_loads_with_known_answers():
    even, one = torch.full((8,), 1 / 8), F.one_hot(torch.tensor(2), 8).float()
    assert [float(m(even)) for m in MEASURES] == pytest.approx([0, 0, 0, 1])
    assert [float(m(one)) for m in MEASURES] == pytest.approx([7**0.5, 7, 7 / 8, 0])
    chosen = torch.tensor([[0, 1], [0, 2], [0, 1]])
    f = routing_load.load(chosen, 4)
    torch.testing.assert_close(f, torch.tensor([3.0, 2, 1, 0]) / 6)
    counts = f.double().numpy()
    assert float(routing_load.load_cv(f)) == pytest.approx(
        scipy.stats.variation(counts)
    )
    entropy = scipy.stats.entropy(counts) / np.log(4)
    assert float(routing_load.load_entropy(f)) == pytest.approx(entropy)
    few = torch.tensor([0.03, 0.02, 0.45, 0.5])  # a tenth of a fair share is 0.025
    assert float(routing_load.dead_fraction(few)) == 0.25
    logits = torch.tensor([[1.0, 3.0], [-4.0, -4.0]])
    assert float(routing_load.mean_logit_drift(logits)) == pytest.approx(10**0.5)
    lse = scipy.special.logsumexp(logits.numpy(), 1)
    assert float(routing_load.z_loss(logits)) == pytest.approx((lse**2).mean())


MEASURES = (
    routing_load.load_cv,
    routing_load.max_violation,
    routing_load.dead_fraction,
    routing_load.load_entropy,
)


def test_the_balancing_loss_is_hugging_faces_over_k():
    vision.torchvision()
    pytest.importorskip("transformers")
    from transformers.models.olmoe.modeling_olmoe import load_balancing_loss_func

    logits = torch.randn(50, 8, generator=draws(), requires_grad=True)
    chosen = logits.topk(3).indices
    found = routing_load.load_balancing_loss(logits, chosen)
    expected = load_balancing_loss_func((logits,), 8, 3) / 3
    torch.testing.assert_close(found, expected)
    mine, their = (torch.autograd.grad(v, logits)[0] for v in (found, expected))
    torch.testing.assert_close(mine, their)


def test_measures_are_means_over_layers():
    decoder = Decoder(OLMOE, draws())
    _, routers = decoder(torch.randint(40, (3, 24), generator=draws(1)), routers=True)
    assert len(routers) == 3
    found = routing_load.measures(routers)
    each = [routing_load.measures([r]) for r in routers]
    for key, value in found.items():
        assert value == pytest.approx(np.mean([e[key] for e in each]))
    with pytest.raises(ValueError, match="no routers"):
        routing_load.measures([None])


# --- phi-balancing -------------------------------------------------------------------


@pytest.mark.parametrize("phi", ["entropy", "euclidean"])
def test_prices_are_the_gradient_of_the_potential(phi):
    m = gradient((5,)).softmax(0).requires_grad_()
    potential = {"entropy": (m * m.log()).sum(), "euclidean": m.square().sum() / 2}
    potential[phi].backward()
    torch.testing.assert_close(price(m.detach(), phi), m.grad)


@pytest.mark.parametrize("phi", ["entropy", "euclidean"])
def test_phi_balancing_is_its_recurrence(phi):
    balancing, m = PhiBalancing(5, phi, rate=0.1, weight=0.3).double(), np.zeros(5)
    losses, twins = 0.0, []
    for step in range(3):
        logits = gradient((2, 7, 5), seed=step).requires_grad_()
        p = logits.softmax(-1)
        m = 0.9 * m + 0.1 * p.detach().numpy().mean((0, 1))
        grad = 1 + np.log(m) if phi == "entropy" else m
        loss = balancing(p)
        expected = 0.3 * (p.mean((0, 1)) * torch.from_numpy(grad)).sum()
        torch.testing.assert_close(loss, expected)
        (gradient_,) = torch.autograd.grad(expected, logits, retain_graph=True)
        losses, twins = losses + loss, [*twins, (logits, gradient_)]
    losses.backward()  # after later steps have moved the mean
    for logits, expected in twins:
        torch.testing.assert_close(logits.grad, expected)


def test_phi_balancing_relabels_shifts_and_restores():
    logits = gradient((64, 6))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))

    def after(logits, module=None):
        module = module or PhiBalancing(6).double()
        logits = logits.clone().requires_grad_()
        loss = module(logits.softmax(-1))
        return module, loss, torch.autograd.grad(loss, logits)[0]

    module, loss, grad = after(logits)
    permuted, same, permuted_grad = after(logits[:, order])
    torch.testing.assert_close(same, loss)
    torch.testing.assert_close(permuted_grad, grad[:, order])
    torch.testing.assert_close(permuted.load, module.load[order])
    _, same, shifted_grad = after(logits + 3.0)
    torch.testing.assert_close(same, loss)
    torch.testing.assert_close(shifted_grad, grad)
    assert grad.sum(-1).abs().max() < 1e-12  # no z-loss in it
    # of entropy only ratios of loads count: half the load shifts all prices by log 2
    module.eval()
    _, whole, before = after(logits, module)
    module.load /= 2
    _, half, shifted_grad = after(logits, module)
    torch.testing.assert_close(whole - half, torch.tensor(0.01 * np.log(2)))
    torch.testing.assert_close(shifted_grad, before)
    twin = PhiBalancing(6).double()
    twin.load_state_dict(module.state_dict())
    assert torch.equal(after(logits, twin)[1], after(logits, module.train())[1])


def test_phi_balancing_moves_in_training_alone_and_in_float32():
    module = PhiBalancing(4).eval()
    assert module(torch.eye(4)).isfinite()
    assert not module.load.any()
    module.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = torch.nn.Linear(3, 4)(gradient((50, 3), torch.float32))
        loss = module(logits.softmax(-1).to(torch.bfloat16))
    assert loss.dtype == module.load.dtype == torch.float32
    loss.backward()
    assert module.load.sum() == pytest.approx(0.01, rel=1e-2)
    assert not module(torch.zeros(0, 4))  # a process without tokens


def trained_load_cv(phi: str, weight: float) -> float:
    """A router that is paid for two of eight experts; std/mean of its top-2 load."""
    x, w = gradient((256, 8), torch.float32), gradient((8, 8), torch.float32, seed=1)
    w = (0.3 * w).requires_grad_()
    module = PhiBalancing(8, phi, rate=0.1, weight=weight)
    step = torch.optim.Adam([w], lr=0.02)
    for _ in range(150):
        p = (x @ w).softmax(-1)
        loss = -p[:, :2].sum(-1).mean() + module(p)
        step.zero_grad()
        loss.backward()
        step.step()
    load = (x @ w).topk(2, -1).indices.flatten().bincount(minlength=8).float()
    return float(load.std(correction=0) / load.mean())


@pytest.mark.parametrize(("phi", "weight"), [("entropy", 2.0), ("euclidean", 10.0)])
def test_phi_balancing_balances(phi, weight):
    assert trained_load_cv(phi, weight) < 0.7 * trained_load_cv(phi, 0.0)


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match="unknown potential"):
        PhiBalancing(4, "renyi")
    with pytest.raises(ValueError, match="averages nothing"):
        PhiBalancing(4, rate=0.0)
    with pytest.raises(ValueError, match="rewards imbalance"):
        PhiBalancing(4, weight=-1.0)
    with pytest.raises(ValueError, match="3 entries and the router 4"):
        PhiBalancing(4)(torch.ones(2, 3))
    for logits in (2 * torch.ones(2, 4), torch.tensor([[2.0, -1.0, 0.0, 0.0]])):
        with pytest.raises(ValueError, match="no probabilities"):
            PhiBalancing(4)(logits)
