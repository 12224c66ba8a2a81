"""Low-rank factors: trained alike whatever the product is written as."""

import pytest
import torch
from torch import nn

from symlab.symopt import SymOpt, step
from symlab.symopt.low_rank import low_rank


class Adapted(nn.Module):
    """Two frozen layers, each with a low-rank product beside it, float64."""

    def __init__(self, rank=3, zero=False):
        super().__init__()
        draws = torch.Generator().manual_seed(0)

        def normal(*shape):
            w = torch.randn(shape, generator=draws, dtype=torch.float64)
            return nn.Parameter(w / shape[-1] ** 0.5)

        self.base = nn.ParameterList([normal(8, 6), normal(8, 8)])
        self.b = nn.ParameterList([normal(8, rank), normal(8, rank)])
        self.a = nn.ParameterList([normal(rank, 6), normal(rank, 8)])
        for w in self.base:
            w.requires_grad_(False)
        if zero:
            for w in self.b:
                nn.init.zeros_(w)

    def products(self):
        return [b @ a for b, a in zip(self.b, self.a, strict=True)]

    def forward(self, x):
        first, second = self.products()
        hidden = torch.tanh(x @ (self.base[0] + first).T)
        return hidden @ (self.base[1] + second).T


def moved(model, ms) -> "Adapted":
    """(B M, M^-1 A) for each product."""
    with torch.no_grad():
        for b, a, m in zip(model.b, model.a, ms, strict=True):
            b.copy_(b @ m)
            a.copy_(torch.linalg.solve(m, a))
    return model


def pairs(model) -> list:
    return [p for b, a in zip(model.b, model.a, strict=True) for p in (b, a)]


def train(model, optimizer, steps=20) -> list[float]:
    draws, losses = torch.Generator().manual_seed(1), []
    for _ in range(steps):
        x = torch.randn(16, 6, generator=draws, dtype=torch.float64)
        y = torch.randn(16, 8, generator=draws, dtype=torch.float64)
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def invertible(condition: float, rank=3) -> list:
    """Two matrices of this condition, far from rotations."""
    draws = torch.Generator().manual_seed(2)
    found = []
    for _ in range(2):
        u, _, vt = torch.linalg.svd(
            torch.randn(rank, rank, generator=draws, dtype=torch.float64)
        )
        values = torch.logspace(0, -1, rank, base=condition, dtype=torch.float64)
        found.append(u @ torch.diag(values) @ vt)
    return found


def parting(make, ms, zero=False) -> float:
    """Largest relative difference of the products after 20 steps."""
    one, other = Adapted(zero=zero), moved(Adapted(zero=zero), ms)
    losses = [train(model, make(pairs(model))) for model in (one, other)]
    assert min(losses[0]) < losses[0][0]  # it learns
    with torch.no_grad():
        ws = zip(one.products(), other.products(), strict=True)
        return max(float((v - w).norm() / v.norm()) for v, w in ws)


def ours(params, **settings):
    return SymOpt([{"params": params, "rule": "low_rank", **settings}], lr=0.02)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("settings", [{}, {"nesterov": False}, {"momentum": 0.0}])
def test_twenty_steps_do_not_see_the_factors(settings, zero):
    ms = invertible(10.0)
    assert parting(lambda p: ours(p, **settings), ms, zero) < 1e-12


def test_other_rules_do():
    ms = invertible(10.0)
    adamw = lambda p: torch.optim.AdamW(p, lr=0.02)  # noqa: E731
    muon = lambda p: SymOpt([{"params": p, "rule": "spectral"}], lr=0.02)  # noqa: E731
    assert parting(adamw, ms) > 0.1
    assert parting(muon, ms) > 0.1


def test_a_step_of_one_factor_has_spectral_norm_one_in_the_product():
    draws = torch.Generator().manual_seed(0)
    b, x = torch.randn(2, 2, 7, 3, generator=draws, dtype=torch.float64)
    a = torch.randn(2, 3, 9, generator=draws, dtype=torch.float64)
    update = low_rank(x, own=b, other=a, method="svd")
    values = torch.linalg.svdvals(update @ a)
    torch.testing.assert_close(values[:, :3], torch.ones(2, 3, dtype=torch.float64))
    assert values[:, 3:].max() < 1e-12
    best = (x * update).sum()  # no other step of that norm is favoured more
    for _ in range(50):
        y = torch.randn(2, 7, 3, generator=draws, dtype=torch.float64)
        y = y / torch.linalg.matrix_norm(y @ a, 2, keepdim=True)
        assert (x * y).sum() < best


def test_the_second_factor_moves_little_while_the_first_is_zero():
    draws = torch.Generator().manual_seed(0)
    a = torch.randn(1, 3, 9, generator=draws, dtype=torch.float64)
    x = torch.randn(1, 9, 3, generator=draws, dtype=torch.float64)
    zero = torch.zeros(1, 3, 7, dtype=torch.float64)  # B^T
    update = low_rank(x, own=a.mT, other=zero, inner=True, method="svd").mT
    gram = a @ a.mT
    relative = torch.linalg.svdvals(
        torch.linalg.solve(torch.linalg.cholesky(gram), update)
    )
    expected = torch.full((1, 3), 1 / (0.2 * 9**0.5), dtype=torch.float64)
    torch.testing.assert_close(relative, expected)
    nothing = low_rank(0 * x, own=a.mT, other=zero, inner=True)
    assert not nothing.any()


def test_pairs_are_checked():
    model = Adapted()
    for params, message in (
        ([model.b[0], model.a[0], model.b[1]], "has 3 parameters"),
        ([model.a[0], model.b[0]], "are no factors"),
        ([model.b[0], model.a[0], model.b[1], model.b[0].clone()], "are no factors"),
    ):
        with pytest.raises(ValueError, match=message):
            ours([nn.Parameter(p.detach().clone()) for p in params])
    with pytest.raises(ValueError, match="damping must be 0 or more"):
        ours(pairs(model), options={"damping": -1.0})


def test_a_frozen_partner_is_still_seen():
    model = Adapted()
    for a in model.a:
        a.requires_grad_(False)
    before = [p.detach().clone() for p in pairs(model)]
    train(model, ours(pairs(model)), 2)
    same = [torch.equal(p, q) for p, q in zip(before, pairs(model), strict=True)]
    assert same == [False, True, False, True]


def test_both_factors_move_from_where_they_were(monkeypatch):
    """Whether they are in one chunk of the step or in two."""
    found = []
    for most in (2**22, 1):
        monkeypatch.setitem(step.MOST, "cpu", most)
        model = Adapted()
        train(model, ours(pairs(model)), 3)
        found.append([p.detach().clone() for p in pairs(model)])
    for p, q in zip(*found, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
