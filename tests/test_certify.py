"""The certificates of symlab.mirror alone: what the trace would tell is withheld.

`Blind` makes the trace conjecture that all units of a layer may be exchanged, whatever
was done to them. Only the test on the gradient stands between that and the table.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from symlab.mirror import atoms, audit, certify, indices
from symlab.mirror.certify import alone, exponents, jointly
from symlab.mirror.units import Index, Part

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(16) % 3


@pytest.fixture
def blind(monkeypatch):
    """Nothing tells units apart any more, and no function is remembered."""
    monkeypatch.setattr(atoms, "_numbered", lambda keys: np.zeros(len(keys), int))
    monkeypatch.setattr(atoms.Atoms, "colour", lambda self, slot, function: None)
    monkeypatch.setattr(atoms.Atoms, "even", lambda self, *slots: None)
    cap = atoms.Atoms.cap
    monkeypatch.setattr(
        atoms.Atoms, "cap", lambda self, slot, group: cap(self, slot, min(group, 1))
    )


class Mixed(nn.Module):
    """h units of which some have another activation; parts of the loss may be scaled.

    inner: a fixed factor on what the mixed units add to a residual stream.
    outer: a fixed factor on a second head, which sees the inputs only.
    """

    def __init__(self, h: int, other, some: int = 2, inner=None, outer=None):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, h), nn.Linear(h, 3), nn.Linear(5, 3)
        self.some, self.other, self.inner, self.outer = some, other, inner, outer
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        h = self.a(x)
        h = torch.cat([self.other(h[:, : self.some]), h[:, self.some :].relu()], 1)
        y = self.b(h)
        return y if self.inner is None else self.c(x) + self.inner * y


def loss(model, batch):
    x, y = batch
    value = functional.cross_entropy(model(x), y)
    if model.outer is not None:
        value = value + model.outer * (model.head(x) - 1).square().mean()
    return value


def claimed(model) -> bool:
    """Whether any of the layer's units are said to be exchangeable."""
    found = audit(model, loss, (X, Y))
    mine = found[found.parameters.str.contains("a.weight:0")]
    return bool(mine.symmetry.str.contains("permutation").any())


@pytest.mark.parametrize("first", range(3, 65, 8))
def test_two_other_units_are_seen_in_any_width(blind, first):
    torch.manual_seed(first)
    for h in range(first, min(first + 8, 65)):
        assert not claimed(Mixed(h, torch.tanh))


@pytest.mark.parametrize("some", [1, 2, 5, 9, 10])
def test_any_number_of_other_units_is_seen(blind, some):
    for other in (torch.tanh, functional.gelu, functional.silu, torch.abs):
        torch.manual_seed(some)
        assert not claimed(Mixed(11, other, some))


@pytest.mark.parametrize("power", [-12, -8, -4, 0, 4, 8])
@pytest.mark.parametrize("where", ["inner", "outer"])
def test_scales_hide_nothing(blind, power, where):
    """A branch that hardly moves the loss, and a head that moves it most.

    At 1e-12 the loss is equal to its last digits; the gradient tells.
    """
    torch.manual_seed(0)
    assert not claimed(Mixed(8, torch.tanh, 4, **{where: 10.0**power}))


def test_without_blindness_both_kinds_are_found():
    torch.manual_seed(0)
    found = audit(Mixed(8, torch.tanh, 3, inner=1e-8), loss, (X, Y))
    mine = found[found.parameters.str.contains("a.weight:0")]
    assert mine.symmetry.tolist() == ["signed permutation", "permutation, rescaling"]
    assert mine.units.tolist() == [3, 5]


def test_a_layer_scale_of_a_millionth_is_no_cover(blind):
    class Scaled(Mixed):
        def __init__(self):
            super().__init__(8, torch.tanh, 4)
            self.scale = nn.Parameter(1e-6 * torch.ones(3))

        def forward(self, x):
            return self.c(x) + self.scale * super().forward(x)

    torch.manual_seed(0)
    found = audit(Scaled(), loss, (X, Y))
    mine = found[found.parameters.str.contains("a.weight:0")]
    assert (mine.symmetry == "unknown").all()


def test_exponents_are_the_null_space_of_eulers_sums():
    """c on two parts and 1/c on a third, whatever a fourth does."""
    draws = np.random.default_rng(0)
    a, b, free = draws.standard_normal((3, 40))
    rows = np.stack([a, b, a + b, free], 1)
    assert exponents(rows, np.zeros(4)) == ((1.0, 1.0, -1.0, 0.0),) or exponents(
        rows, np.zeros(4)
    ) == ((-1.0, -1.0, 1.0, 0.0),)
    rows[:, 2] += 1e-6 * draws.standard_normal(40)
    assert exponents(rows, np.zeros(4)) == ()


@pytest.mark.parametrize("m", range(2, 9))
def test_the_tested_elements_generate_all_permutations(m):
    """Of one index alone: the cycle, and its commutator with the joint element."""
    from sympy.combinatorics import Permutation, PermutationGroup

    places = Part("w", 0, (m,), torch.arange(m)[:, None])
    for seed in range(5):
        index = Index("permutation", (places,))
        c, t = (
            Permutation(make(index, seed).order.tolist()) for make in (alone, jointly)
        )
        group = PermutationGroup([c, t * c * t**-1 * c**-1])
        assert group.order() == math.factorial(m)


@pytest.mark.parametrize("wrong", [{3}, {0, 7}, set(range(8)), set()])
def test_a_joint_test_that_fails_is_narrowed_down(wrong):
    """In the image of a wrong element every index looks wrong."""
    search = object.__new__(indices.Search)
    tests = [SimpleNamespace(index=i) for i in range(8)]

    def image(pairs):
        spoilt = any(t.index in wrong for t, _ in pairs)
        return [(certify.Outcome(wrong=spoilt), None) for _ in pairs]

    def alone(index, g, noise):
        return certify.Outcome(wrong=index in wrong), None

    search._image, search._noise = image, lambda t: []
    search.probe = SimpleNamespace(test=alone)
    found = search._together([(t, None) for t in tests])
    assert [not outcome.passed for outcome, _ in found] == [
        i in wrong for i in range(8)
    ]
