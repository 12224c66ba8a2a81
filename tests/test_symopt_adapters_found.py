"""Low-rank pairs: found by their products, and what they correct keeps its role."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symlab.symopt import roles
from symlab.symopt.roles import GROUPS

D, V, R, T, HEADS = 16, 24, 3, 5, 4
TOKENS = torch.arange(2 * T).view(2, T)
X = torch.randn(2, T, D, generator=torch.Generator().manual_seed(0))


class Adapted(nn.Module):
    """As peft's: a frozen layer, and B A beside it, with dropout and a scale."""

    def __init__(self, inputs, outputs, rank=R):
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.base.requires_grad_(False)
        self.first = nn.Linear(inputs, rank, bias=False)
        self.second = nn.Linear(rank, outputs, bias=False)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        update = self.second(self.first(self.dropout(x.to(self.first.weight.dtype))))
        return self.base(x) + update * 2.0


class AdaptedTable(nn.Module):
    """As peft's: A is stored (r, V), and B (d, r)."""

    def __init__(self):
        super().__init__()
        self.base = nn.Embedding(V, D)
        self.a = nn.Parameter(torch.randn(R, V))
        self.b = nn.Parameter(torch.randn(D, R))

    def forward(self, ids):
        return self.base(ids) + F.embedding(ids, self.a.T) @ self.b.T * 0.5


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = AdaptedTable()
        self.q, self.k, self.v, self.o = (Adapted(D, D) for _ in range(4))
        self.gate, self.up = Adapted(D, 20), Adapted(D, 20)
        self.down, self.head = Adapted(20, D), Adapted(D, V)

    def forward(self, ids):
        x = self.table(ids)
        q, k, v = (f(x).unflatten(-1, (HEADS, -1)) for f in (self.q, self.k, self.v))
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        x = x + self.down(F.silu(self.gate(x)) * self.up(x))
        return self.head(x)


def test_pairs_of_each_layer_name_each_other():
    found = roles(Model(), TOKENS)
    for layer in ("q", "k", "v", "o", "gate", "up", "down", "head"):
        a, b = (found[f"{layer}.{n}.weight"] for n in ("first", "second"))
        assert (a.role, b.role) == ("adapter in", "adapter out")
        assert (a.partner, b.partner) == (b.name, a.name)
        assert (a.rows, a.columns, b.rows, b.columns) == (0, 1, 0, 1)
        assert a.group == f"GL({R}) with {b.name}"
        assert b.group == f"GL({R}) with {a.name}"
    a, b = found["table.a"], found["table.b"]
    assert (a.role, a.rows, a.columns, a.partner) == ("adapter in", 0, 1, "table.b")
    assert (b.role, b.rows, b.columns, b.partner) == ("adapter out", 0, 1, "table.a")


def test_what_they_correct_keeps_its_role():
    found = roles(Model(), TOKENS)
    expected = {
        "table.base.weight": ("embedding", 1),
        "q.base.weight": ("query", HEADS),
        "k.base.weight": ("key", HEADS),
        "v.base.weight": ("value", HEADS),
        "o.base.weight": ("attention out", HEADS),
        "gate.base.weight": ("gate", 1),
        "up.base.weight": ("up", 1),
        "down.base.weight": ("down", 1),
        "head.base.weight": ("head", 1),
    }
    assert {n: (found[n].role, found[n].heads) for n in expected} == expected
    assert found["head.base.weight"].shift


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_pairs_do_not_depend_on_the_precision(dtype):
    found = roles(Model(), TOKENS)
    assert roles(Model().to(dtype), TOKENS) == found
    assert roles(Model().to("meta"), TOKENS) == found


class Between(nn.Module):
    """x + B f(A x), and a head."""

    def __init__(self, between, bias=False, rank=R, width=D):
        super().__init__()
        self.a, self.b = nn.Linear(D, rank, bias=bias), nn.Linear(rank, width, False)
        self.norm, self.head = nn.RMSNorm(rank), nn.Linear(width, 3)
        self.gain, self.between = nn.Parameter(torch.ones(rank)), between

    def forward(self, x):
        return self.head(self.b(self.between(self, self.a(x))))


def test_a_product_of_two_plain_matrices_is_a_pair():
    found = roles(Between(lambda m, y: y), X)
    assert found["a.weight"].partner == "b.weight"
    for change in (lambda m, y: y / 3, lambda m, y: y.clone().flatten(0, 1).view_as(y)):
        assert roles(Between(change), X)["b.weight"].role == "adapter out"


NO_PAIRS = {
    "an activation": Between(lambda m, y: y.relu()),
    "a norm": Between(lambda m, y: m.norm(y)),
    "a gain": Between(lambda m, y: y * m.gain),
    "a bias": Between(lambda m, y: y, bias=True),
    "a constant": Between(lambda m, y: y + 1),
    "a factor of each feature": Between(lambda m, y: y * torch.arange(R)),
    "a softmax": Between(lambda m, y: y.softmax(-1)),
    "a permutation of features": Between(lambda m, y: y.flip(-1)),
    "as many features as inputs": Between(lambda m, y: y, rank=D),
    "as many features as outputs": Between(lambda m, y: y, rank=R, width=R),
}


@pytest.mark.parametrize("name", NO_PAIRS)
def test_what_is_no_pair(name):
    found = roles(NO_PAIRS[name], X)
    assert {b.role for b in found.values() if len(b.shape) == 2} == {"matrix", "head"}
    assert {b.partner for b in found.values()} == {""}


class Twice(nn.Module):
    """What A gives is used twice, in one of several ways."""

    def __init__(self, way):
        super().__init__()
        self.way, self.head = way, nn.Linear(D, 3)
        self.a, self.b = nn.Linear(D, R, bias=False), nn.Linear(R, D, bias=False)
        self.c = nn.Linear(R, D, bias=False)

    def forward(self, x):
        y = self.a(x)
        if self.way == "by two weights":
            return self.head(self.b(y) + self.c(y))
        if self.way == "by an activation":
            return self.head(self.b(y) * y.sigmoid().mean())
        if self.way == "by two products of one weight":
            return self.head(self.b(y) + self.b(y))
        if self.way == "on two inputs":
            return self.head(self.b(y) + self.b(self.a(x.relu())))
        return self.head(self.b(y)), y  # returned


WAYS = ["by two weights", "by an activation", "by two products of one weight",
        "on two inputs", "returned"]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_weight_that_is_used_twice_has_no_partner(way):
    found = roles(Twice(way), X)
    assert {b.partner for b in found.values()} == {""}


def test_a_factorised_embedding_and_head_are_no_adapters():
    model = nn.Sequential(
        nn.Embedding(V, R), nn.Linear(R, D, bias=False), nn.Tanh(), nn.Linear(D, V)
    )
    found = roles(model, TOKENS)
    assert (found["0.weight"].role, found["1.weight"].role) == ("embedding", "matrix")
    model = nn.Sequential(nn.Linear(D, R, bias=False), nn.Linear(R, 8, bias=False))
    assert roles(model, X)["1.weight"].role == "head"


def test_the_groups_of_the_two_roles():
    assert GROUPS["adapter out"] == ("rotation", "general linear")
    assert GROUPS["adapter in"] == ("general linear", "rotation")


def test_pefts_own_layers():
    from symlab.models import vision

    vision.torchvision()  # transformers, which peft needs, imports it
    peft = pytest.importorskip("peft")
    model = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, 3))
    config = peft.LoraConfig(target_modules=["0"], r=R)
    found = roles(peft.get_peft_model(model, config), X)
    pair = [n for n, b in found.items() if b.partner]
    assert len(pair) == 2
    assert all("lora_" in n for n in pair)
