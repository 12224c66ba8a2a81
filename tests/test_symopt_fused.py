"""Weights that hold several things: which rows are which, in every layout."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symlab.symopt import roles
from symlab.symopt.roles import Part

D, T = 16, 5
X = torch.randn(2, T, D, generator=torch.Generator().manual_seed(0))


class Layer(nn.Module):
    """One weight w, and a function of its product."""

    def __init__(self, rows, use, written_out=False):
        super().__init__()
        self.w, self.use, self.written_out = nn.Linear(D, rows), use, written_out
        self.out, self.down = nn.LazyLinear(D), nn.LazyLinear(D)
        self.head = nn.Linear(D, 3)
        self.taps = nn.Conv1d(8, 8, 2, padding=1, groups=8)
        self(X)
        for name in ("out", "down"):
            if isinstance(getattr(self, name), nn.LazyLinear):
                delattr(self, name)  # not used

    def forward(self, x):
        return self.head(x + self.use(self, self.w(x)))

    def attend(self, q, k, v, heads):
        """(N, T, heads width) each; narrower k and v have fewer heads."""
        width = q.shape[-1] // heads
        q, k = (t.unflatten(-1, (-1, width)).transpose(1, 2) for t in (q, k))
        v = v.unflatten(-1, (k.shape[1], -1)).transpose(1, 2)
        return self.attend_heads(q, k, v)

    def attend_heads(self, q, k, v):
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        if self.written_out:
            y = ((q @ k.mT) / q.shape[-1] ** 0.5).softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))


def rotated(x):
    """A rotary embedding of (N, T, heads width 4)."""
    x = x.unflatten(-1, (-1, 4))
    a, b = x.chunk(2, -1)
    return (x * 0.8 + torch.cat([-b, a], -1) * 0.6).flatten(2)


def everything(m, y):
    q, k, v, gate, up = y.split([8, 8, 8, 24, 24], -1)
    return m.attend(rotated(q), rotated(k), v, 2) + m.down(F.silu(gate) * up)


def gates_first(m, y):
    gate, up, q, k, v = y.split([10, 10, 8, 4, 4], -1)
    return m.attend(q, k, v, 2) + m.down(up * F.gelu(gate))


def wide_values(m, y):
    return m.attend(*y.split([8, 8, 16], -1), 2)


def by_heads(m, y):
    """[heads, (q k v), width] rows."""
    y = y.unflatten(-1, (2, 3, 4)).permute(3, 0, 2, 1, 4)
    return m.attend_heads(*y)


def by_groups(m, y):
    """[groups, two queries, a key and a value, width] rows, as in Falcon."""
    y = y.unflatten(-1, (2, 4, 4))
    q, k, v = y[..., :2, :].flatten(2, 3), y[..., 2, :], y[..., 3, :]
    return m.attend_heads(*(t.transpose(1, 2) for t in (q, k, v)))


def by_heads_of_two_widths(m, y):
    """[heads, (q k: 4, v: 8)] rows."""
    q, k, v = y.unflatten(-1, (2, 16)).transpose(1, 2).split([4, 4, 8], -1)
    return m.attend_heads(q, k, v)


def gate_and_rest(m, y):
    gate, up, rest = y.split([6, 6, 4], -1)
    return m.down(gate.sigmoid() * up) + m.out(rest)


def scanned(m, y):
    """As Mamba's: one half is mixed over time, the other is a gate of the result."""
    x, gate = y.chunk(2, -1)
    x = F.silu(m.taps(x.mT)[..., :T]).mT
    return m.out(x.cumsum(1) * F.silu(gate))


CASES = {
    "q, k, v, gate, up": (72, everything, [
        Part("query", 0, 8, 2), Part("key", 8, 8, 2), Part("value", 16, 8, 2),
        Part("gate", 24, 24), Part("up", 48, 24)]),
    "gates first, shared keys": (36, gates_first, [
        Part("gate", 0, 10), Part("up", 10, 10), Part("query", 20, 8, 2),
        Part("key", 28, 4), Part("value", 32, 4)]),
    "wide values": (32, wide_values, [
        Part("query", 0, 8, 2), Part("key", 8, 8, 2), Part("value", 16, 16, 2)]),
    "heads of two widths": (32, by_heads_of_two_widths, [
        Part("query", 0, 4), Part("key", 4, 4), Part("value", 8, 8),
        Part("query", 16, 4), Part("key", 20, 4), Part("value", 24, 8)]),
    "a gate and something else": (16, gate_and_rest, [
        Part("gate", 0, 6), Part("up", 6, 6), Part("matrix", 12, 4)]),
}  # fmt: skip


@pytest.mark.parametrize("written_out", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_parts_are_the_rows_that_are_used(name, written_out):
    rows, use, parts = CASES[name]
    block = roles(Layer(rows, use, written_out), X)["w.weight"]
    assert block.role == "fused"
    assert list(block.parts) == parts
    covered = [r for p in block.parts for r in range(p.start, p.start + p.length)]
    assert covered == list(range(rows))


@pytest.mark.parametrize("written_out", [False, True])
@pytest.mark.parametrize(("use", "heads"), [(by_heads, 6), (by_groups, 8)])
def test_equal_heads_in_any_order_are_qkv(use, heads, written_out):
    found = roles(Layer(4 * heads, use, written_out), X)
    block, out = found["w.weight"], found["out.weight"]
    assert (block.role, block.heads, block.parts) == ("qkv", heads, ())
    assert (out.role, out.heads) == ("attention out", 2 if use is by_heads else 4)


def test_the_text_of_a_fused_group_lists_its_parts():
    block = roles(Layer(72, everything), X)["w.weight"]
    assert block.group.startswith("query: rotation in 2 heads x rotation; key: ")
    assert block.group.endswith("up: permutation x rotation")


def test_a_part_that_is_not_understood_is_unknown():
    found = roles(Layer(16, scanned), X)
    block = found["w.weight"]
    assert found["taps.weight"].role == "depthwise"
    assert (block.role, [p.role for p in block.parts]) == (
        "fused", ["matrix", "unknown"],
    )  # fmt: skip
    assert [(p.start, p.length) for p in block.parts] == [(0, 8), (8, 8)]
    assert "unknown: none" in block.group


def test_rows_without_a_use_leave_the_weight_unknown():
    def use(m, y):
        return m.attend(*y[..., :24].chunk(3, -1), 2)

    block = roles(Layer(28, use), X)["w.weight"]
    assert (block.role, block.parts) == ("unknown", ())
    assert "4 of its 28 rows" in block.note


def test_a_gate_that_lies_between_other_rows_is_unknown():
    def use(m, y):
        return m.down(y[..., :12:2].sigmoid() * y[..., 1:12:2]) + m.out(y[..., 12:])

    block = roles(Layer(16, use), X)["w.weight"]
    assert block.role == "unknown"
    assert "between" in block.note


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("layout", ["concatenated", "interleaved"])
def test_two_halves_are_gate_up(layout, first):
    def use(m, y):
        halves = y.chunk(2, -1)
        if layout == "interleaved":
            halves = y[..., ::2], y[..., 1::2]
        return m.down(F.silu(halves[first]) * halves[1 - first])

    found = roles(Layer(20, use), X)
    assert (found["w.weight"].role, found["w.weight"].layout) == ("gate_up", layout)
    assert found["down.weight"].role == "down"


def test_torchs_gated_linear_unit():
    found = roles(Layer(20, lambda m, y: m.down(F.glu(y, -1))), X)
    assert found["w.weight"].role == "gate_up"


FACTORS = {
    "a number per token": lambda m, y: m.down(y[..., :1].sigmoid() * y[..., 1:]),
    "a mixture": lambda m, y: m.down(
        sum(y[..., 12:].softmax(-1)[..., [e]] * y[..., 4 * e : 4 * e + 4]
            for e in range(3))
    ),
    "a norm": lambda m, y: m.down(y / y.norm(dim=-1, keepdim=True)),
    "a square": lambda m, y: m.down(y * y.relu()),
    "some of the features": lambda m, y: m.down(y * y[..., :1]),
}  # fmt: skip


@pytest.mark.parametrize("name", FACTORS)
def test_a_factor_that_is_no_feature_makes_no_gated_unit(name):
    found = roles(Layer(15, FACTORS[name]), X)
    gated = {"gate", "up", "gate_up", "down"}
    assert not gated & {b.role for b in found.values()}
    assert not gated & {p.role for b in found.values() for p in b.parts}


def test_a_scalar_gate_and_a_soft_mixture_of_layers():
    class Mixture(nn.Module):
        def __init__(self, experts):
            super().__init__()
            self.r = nn.Linear(D, experts)
            self.e = nn.ModuleList(nn.Linear(D, D) for _ in range(experts))
            self.head = nn.Linear(D, 3)

        def forward(self, x):
            p = self.r(x).sigmoid()
            return self.head(x + sum(p[..., [i]] * e(x) for i, e in enumerate(self.e)))

    for experts in (1, 4):
        found = roles(Mixture(experts), X)
        assert {found[n].role for n in ("r.weight", "e.0.weight")} == {"matrix"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_parts_do_not_depend_on_the_precision(dtype):
    layer = Layer(72, everything)
    found = roles(layer, X)
    assert roles(layer.to(dtype), X.to(dtype)) == found
    assert roles(layer.to("meta"), X) == found


def test_slices_of_one_weight_are_parts_of_it():
    class Sliced(nn.Module):
        """Queries, keys and values by products with slices of one parameter."""

        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(D, 32))  # (in, out)
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            q, k, v = x @ self.w[:, :8], x @ self.w[:, 8:16], x @ self.w[:, 16:]
            q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v)
            return self.head(y.transpose(1, 2).flatten(2))

    block = roles(Sliced(), X)["w"]
    assert (block.role, block.rows, block.columns) == ("fused", 1, 0)
    assert list(block.parts) == [
        Part("query", 0, 8, 2), Part("key", 8, 8, 2), Part("value", 16, 16, 2),
    ]  # fmt: skip


class Attended(nn.Module):
    """Attention of 2 heads of 4, with one change to its keys or values."""

    def __init__(self, change):
        super().__init__()
        self.q, self.k, self.v, self.extra = (nn.Linear(D, 8) for _ in range(4))
        self.number, self.head = nn.Linear(D, 2), nn.Linear(8, 3)
        self.change = change

    def forward(self, x):
        layers = (self.q, self.k, self.v, self.extra)
        q, k, v, e = (f(x).view(2, T, 2, 4).transpose(1, 2) for f in layers)
        k, v = self.change(k, v, e, self.number(x).transpose(1, 2).unsqueeze(-1))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.head(y.transpose(1, 2).flatten(2))


CHANGES = {  # role of k, role of v
    "nothing": (lambda k, v, e, n: (k, v), "key", "value"),
    "a key and value of zeros": (
        lambda k, v, e, n: tuple(F.pad(t, (0, 0, 1, 0)) for t in (k, v)),
        "key", "value"),
    "a sum of two products": (lambda k, v, e, n: (k + e, v), "key", "value"),
    "a product in some of the places": (
        lambda k, v, e, n: (torch.cat([k[..., :2], e[..., 2:]], -1), v),
        "matrix", "value"),
    "a number per head": (
        lambda k, v, e, n: (k, v * F.softplus(n)), "key", "matrix"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_heads_of_one_product_with_something_else(name):
    change, key, value = CHANGES[name]
    found = roles(Attended(change), X)
    assert (found["k.weight"].role, found["v.weight"].role) == (key, value)
    assert found["q.weight"].role == "query"
    assert found["number.weight"].role == "matrix"


def test_a_stack_of_heads_holds_a_query_a_key_and_a_value_in_each():
    """(width, heads, 3 head width): three matrices in each of the stack."""

    class Stacked(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Parameter(torch.randn(16, 4, 12))
            self.out = nn.Parameter(torch.randn(4, 4, 16))

        def forward(self, x):
            q, k, v = torch.einsum("btd,dhk->bhtk", x, self.qkv).chunk(3, -1)
            y = F.scaled_dot_product_attention(q, k, v)
            return torch.einsum("bhtk,hkd->btd", y, self.out)

    block = roles(Stacked(), torch.randn(2, 5, 16))["qkv"]
    assert (block.role, block.rows, block.columns, block.heads) == ("qkv", 2, 0, 3)
