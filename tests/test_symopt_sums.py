"""Matrices of which the roles say too little: in a sum, and with mixed heads."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symlab import mirror
from symlab.symopt import SymOpt, check, describe, roles

D, HEADS, V = 16, 4, 24
IDS = torch.randint(V, (2, 8), generator=torch.Generator().manual_seed(0))
X = torch.randn(2, 5, D, generator=torch.Generator().manual_seed(1))

SUMS = {
    "buffer": lambda m: m.layer.weight + m.offset,
    "minus": lambda m: m.offset - m.layer.weight,
    "product": lambda m: m.layer.weight + m.a @ m.b,
    "in one call": lambda m: torch.addmm(m.layer.weight, m.a, m.b),
    "number in a tensor": lambda m: m.layer.weight + m.offset[0, 0],
    "joined": lambda m: torch.cat([m.layer.weight, m.offset]),
    "view of the sum": lambda m: (m.layer.weight + m.offset).flip(0)[:D],
    "in place": lambda m: m.layer.weight.clone().add_(m.offset),
    "several masks": lambda m: (m.layer.weight * m.masks).mean(0),
}


class Summed(nn.Module):
    """A layer with the weight `SUMS[kind]`, and learned positions beside a constant."""

    def __init__(self, kind):
        super().__init__()
        self.weight_of = SUMS.get(kind, lambda m: m.layer.weight)
        self.layer, self.head = nn.Linear(D, D, bias=False), nn.Linear(D, 3)
        self.a, self.b = nn.Parameter(torch.randn(D, 2)), nn.Parameter(torch.ones(2, D))
        self.register_buffer("offset", torch.randn(D, D))
        self.register_buffer("masks", torch.rand(3, D, D))
        self.positions = nn.Parameter(torch.randn(5, D))
        self.register_buffer("waves", torch.randn(5, D))

    def forward(self, x):
        x = x + (self.positions + self.waves)
        y = F.linear(x, self.weight_of(self))
        return self.head(torch.relu(y[..., :D]))


@pytest.mark.parametrize("kind", SUMS)
def test_a_matrix_in_a_sum_is_unknown_with_the_reason(kind):
    model = Summed(kind)
    block = roles(model, X)["layer.weight"]
    assert block.role == "unknown"
    assert "a constant or another weight" in block.note
    row = describe(model, example=X).set_index("name").loc["layer.weight"]
    assert (row.role, row.group, row.rule) == ("unknown", "", "adamw")
    assert row.note == block.note


def test_a_table_that_is_added_to_inputs_stays_a_bias_and_a_plain_matrix_one():
    found = roles(Summed("plain"), X)
    assert found["positions"].role == "bias"
    assert not found["positions"].note
    assert found["layer.weight"].role == "matrix"


def test_every_matrix_without_its_symmetries_is_unknown():
    layers = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    found = roles(mirror.remove_symmetries(layers), torch.randn(4, 6))
    matrices = [b for b in found.values() if len(b.shape) == 2]
    assert [b.role for b in matrices] == ["unknown"] * 2
    assert {b.role for b in found.values() if len(b.shape) == 1} == {"bias"}


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, 3), nn.Embedding(V, 3)])
def test_a_kernel_or_a_table_in_a_sum_is_unknown(layer):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer
            self.register_buffer("offset", torch.randn(layer.weight.shape))

        def forward(self, x):
            w = self.layer.weight + self.offset
            return F.conv2d(x, w) if x.ndim == 4 else F.embedding(x, w)

    x = torch.randn(2, 3, 6, 6) if isinstance(layer, nn.Conv2d) else IDS
    assert roles(Model(), x)["layer.weight"].role == "unknown"


def loss(model, x):
    return model(x).square().mean()


def test_check_says_that_a_matrix_in_a_sum_gets_adamw_unless_a_rule_is_given():
    model = Summed("buffer")
    found = check(model, SymOpt(model, example=X), X, loss)
    row = found[found.finding == "matrix in a sum gets AdamW"]
    assert row.parameters.tolist() == ["layer.weight"]
    ruled = SymOpt(model, example=X, overrides={"layer.weight": "spectral"})
    assert "matrix in a sum gets AdamW" not in set(check(model, ruled, X, loss).finding)


def test_a_rule_by_override_moves_the_sum_as_it_moves_a_weight():
    torch.manual_seed(0)
    summed, plain = Summed("buffer").double(), Summed("plain").double()
    plain.load_state_dict(summed.state_dict())
    with torch.no_grad():
        plain.layer.weight += plain.offset
    for model in (summed, plain):
        rule = {"layer.weight": {"rule": "spectral", "weight_decay": 0.0}}
        optimizer = SymOpt(model, lr=0.1, example=X.double(), overrides=rule)
        loss(model, X.double()).backward()
        optimizer.step()
    moved = summed.layer.weight + summed.offset
    torch.testing.assert_close(moved, plain.layer.weight)


# --- heads along a strided axis ------------------------------------------------------

ORDERS = {  # of the rows: the view, and where q, k and v are in it
    "heads, width, three": ((HEADS, D // HEADS, 3), (4, 0, 2, 1, 3)),
    "three, width, heads": ((3, D // HEADS, HEADS), (2, 0, 4, 1, 3)),
    "three, heads, width": ((3, HEADS, D // HEADS), (2, 0, 3, 1, 4)),
    "heads, three, width": ((HEADS, 3, D // HEADS), (3, 0, 2, 1, 4)),
}
STRIDED = ("heads, width, three", "three, width, heads")


class Packed(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.shape, self.places = ORDERS[order]
        self.table, self.head = nn.Embedding(V, D), nn.Linear(D, V)
        self.packed, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)

    def forward(self, ids):
        x = self.packed(self.table(ids))
        q, k, v = x.view(*ids.shape, *self.shape).permute(self.places)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        return self.head(self.out(y))


def language_loss(model, ids):
    return F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())


@pytest.mark.parametrize("order", ORDERS)
def test_heads_that_are_not_told_apart_are_said_to_be_one_matrix(order):
    model = Packed(order)
    row = describe(model, example=IDS).set_index("name").loc["packed.weight"]
    found = check(model, SymOpt(model, example=IDS), IDS, language_loss)
    said = found[found.finding == "heads of a fused weight are not told apart"]
    if order in STRIDED:
        assert row.role == "matrix"
        assert "query, key and value" in row.note
        assert said.parameters.tolist() == ["packed.weight"]
    else:
        assert (row.role, row.rule, row.note) == ("qkv", "spectral (per head)", "")
        assert said.empty


def test_pieces_of_a_weight_that_has_none_are_refused():
    asked = {"packed.weight": {"per_piece": True}}
    with pytest.raises(ValueError, match="a matrix without known heads"):
        SymOpt(Packed(STRIDED[0]), example=IDS, overrides=asked)
    options = {"preset": "muon", "overrides": asked, "example": IDS}
    row = describe(Packed("three, heads, width"), **options).set_index("name")
    assert "per head" in row.rule["packed.weight"]
    asked = {"*": {"per_piece": True}}  # some have pieces
    describe(Packed("three, heads, width"), example=IDS, overrides=asked)
