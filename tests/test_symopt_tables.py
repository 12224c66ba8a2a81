"""Tables, convolutions, routers, second heads, recurrent layers: roles by their use."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symlab.symopt import describe, roles

D, V, E, T = 8, 15, 4, 6
TOKENS = torch.arange(2 * T).view(2, T)
NUMBERS = torch.randn(2, T, D, generator=torch.Generator().manual_seed(1))


class Model(nn.Module):
    """Parameters by name, and one function of them."""

    def __init__(self, forward, **parameters):
        super().__init__()
        self.use = forward
        for name, p in parameters.items():
            module = isinstance(p, nn.Module)
            setattr(self, name, p if module else nn.Parameter(p))

    def forward(self, *inputs):
        return self.use(self, *inputs)


# --- tables --------------------------------------------------------------------------

LOOKUPS = {
    "transposed": lambda m, ids: F.embedding(ids, m.w.t()),
    "by columns": lambda m, ids: m.w[:, ids].movedim(0, -1),
    "selected": lambda m, ids: m.w.index_select(1, ids.flatten()).t().view(2, T, -1),
    "copied": lambda m, ids: F.embedding(ids, m.w.t().contiguous()),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_a_table_stored_with_its_tokens_second(name):
    model = Model(
        lambda m, ids: m.head(LOOKUPS[name](m, ids)),
        w=torch.randn(D, V),
        head=nn.Linear(D, 3),
    )
    block = roles(model, TOKENS)["w"]
    assert (block.role, block.rows, block.columns) == ("embedding", 1, 0)


def test_a_tied_table_stored_with_its_tokens_second():
    model = Model(lambda m, ids: F.embedding(ids, m.w.t()) @ m.w, w=torch.randn(D, V))
    block = roles(model, TOKENS)["w"]
    assert (block.role, block.rows, block.columns) == ("tied embedding", 1, 0)
    assert not block.shift


ONE_HOT = {
    "one_hot": lambda ids: F.one_hot(ids, V).float(),
    "compared": lambda ids: (ids[..., None] == torch.arange(V)).float(),
    "flattened": lambda ids: F.one_hot(ids.flatten(), V).float().view(2, T, V),
}


@pytest.mark.parametrize("name", ONE_HOT)
def test_a_product_with_one_hot_rows_is_a_lookup(name):
    model = Model(
        lambda m, ids: m.head(ONE_HOT[name](ids) @ m.w),
        w=torch.randn(V, D),
        head=nn.Linear(D, 3),
    )
    assert roles(model, TOKENS)["w"].role == "embedding"
    model = Model(
        lambda m, ids: ONE_HOT[name](ids) @ m.w @ m.w.t(), w=torch.randn(V, D)
    )
    assert roles(model, TOKENS)["w"].role == "tied embedding"


def test_heads_on_an_axis_of_their_own():
    """Weights (D, heads, width) and (heads, width, D), by einsum."""

    def forward(m, x):
        q, k, v = (torch.einsum("ntd,dhw->nhtw", x, w) for w in (m.q, m.k, m.v))
        y = F.scaled_dot_product_attention(q, k, v)
        return m.head(torch.einsum("nhtw,hwd->ntd", y, m.out))

    names = {"q": "query", "k": "key", "v": "value"}
    model = Model(
        forward,
        **{n: torch.randn(D, 2, 4) for n in names},
        out=torch.randn(2, 4, D),
        head=nn.Linear(D, 3),
    )
    found = roles(model, NUMBERS)
    for name, role in names.items():
        block = found[name]
        assert (block.role, block.rows, block.columns) == (role, 2, 0)
        assert (block.heads, block.parts) == (1, ())
    out = found["out"]
    assert (out.role, out.rows, out.columns) == ("attention out", 2, 1)


@pytest.mark.parametrize("first", ["ntd,edf->ntef", "ntd,edf->ntfe"])
@pytest.mark.parametrize("fused", [False, True])
def test_all_experts_at_once(first, fused):
    """Stacks (experts, in, out), multiplied as one matrix."""

    def forward(m, x):
        p = m.r(x).softmax(-1)
        y = torch.einsum(first, x, m.a)
        y = y.mT if first.endswith("fe") else y
        gate, up = y.chunk(2, -1) if fused else (y, torch.einsum(FIRST, x, m.b))
        return m.head(torch.einsum("ntef,efd,nte->ntd", F.silu(gate) * up, m.c, p))

    FIRST = "ntd,edf->ntef"
    model = Model(
        forward,
        r=nn.Linear(D, E),
        a=torch.randn(E, D, 12 if fused else 6),
        c=torch.randn(E, 6, D),
        head=nn.Linear(D, 3),
    )
    if not fused:
        model.b = nn.Parameter(torch.randn(E, D, 6))
    found = roles(model, NUMBERS)
    a = found["a"]
    assert (a.rows, a.columns) == (2, 1)
    assert a.role == ("gate_up" if fused else "gate")
    assert a.layout == ("concatenated" if fused else None)


def test_bags_and_bags_first_need_no_example():
    found = roles(nn.Sequential(nn.EmbeddingBag(V, D), nn.Linear(D, 2)))
    assert found["0.weight"].role == "embedding"


def test_tables_by_position_are_embeddings():
    model = Model(
        lambda m, ids: m.head(m.words(ids) + m.places(torch.arange(T))),
        words=nn.Embedding(V, D),
        places=nn.Embedding(T, D),
        head=nn.Linear(D, 3),
    )
    found = roles(model, TOKENS)
    assert found["places.weight"].role == found["words.weight"].role == "embedding"


@pytest.mark.parametrize("written_out", [False, True])
@pytest.mark.parametrize("table", ["layer", "parameter"])
def test_biases_of_attention_scores_are_no_embedding(table, written_out):
    distance = (torch.arange(T)[:, None] - torch.arange(T)).abs()

    def forward(m, x):
        q, k, v = m.w(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        given = m.bias(distance) if table == "layer" else m.bias[distance.flatten()]
        bias = given.view(T, T, 2).permute(2, 0, 1)[None]
        if written_out:
            y = (q @ k.mT / 2 + bias).softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return m.head(y.transpose(1, 2).flatten(2))

    bias = nn.Embedding(T, 2) if table == "layer" else torch.randn(T, 2)
    model = Model(forward, w=nn.Linear(D, 24), bias=bias, head=nn.Linear(D, 3))
    found = roles(model, NUMBERS)
    block = found["bias.weight" if table == "layer" else "bias"]
    assert (block.role, block.group) == ("bias table", "")
    assert (found["w.weight"].role, found["w.weight"].heads) == ("qkv", 6)


# --- convolutions --------------------------------------------------------------------

CONVOLUTIONS = {  # layer: role, rows, columns, groups
    "plain": (nn.Conv2d(4, 6, 3), "convolution", 0, 1, 1),
    "one tap": (nn.Conv1d(4, 6, 1), "convolution", 0, 1, 1),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), "convolution", 0, 1, 2),
    "three axes": (nn.Conv3d(4, 4, 1, groups=2), "convolution", 0, 1, 2),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4), "depthwise", 0, 1, 4),
    "several outputs per input": (nn.Conv1d(4, 8, 3, groups=4), "depthwise", 0, 1, 4),
    "one output per group": (nn.Conv1d(4, 2, 3, groups=2), "depthwise", 0, 1, 2),
    "transposed": (nn.ConvTranspose2d(4, 6, 2, 2), "convolution", 1, 0, 1),
    "transposed, grouped": (
        nn.ConvTranspose2d(4, 6, 2, 2, groups=2), "convolution", 1, 0, 2),
    "transposed, depthwise": (
        nn.ConvTranspose1d(4, 4, 2, 2, groups=4), "depthwise", 1, 0, 4),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    layer, *expected = CONVOLUTIONS[name]
    x = torch.randn(2, 4, *[5] * len(layer.kernel_size))
    block = roles(layer, x)["weight"]
    assert [block.role, block.rows, block.columns, block.groups] == expected
    assert roles(layer)["weight"] == block
    if block.role == "depthwise":
        assert describe(layer, example=x).iloc[0]["rule"] == "adamw"


# --- routers -------------------------------------------------------------------------


def one_hot_of_argmax(p):
    return F.one_hot(p.argmax(-1), E) * p


def only_the_maximum(p):
    return p * (p == p.max(-1, keepdim=True).values)


def above_the_second(p):
    return p * (p >= p.topk(2).values[..., -1:])


def sorted_out(p):
    which = p.argsort(-1, descending=True)[..., :2]
    return p * torch.zeros_like(p).scatter(-1, which, 1.0)


def drawn(p):
    which = torch.multinomial(p.flatten(0, 1), 2).view(2, T, 2)
    return torch.zeros_like(p).scatter(-1, which, p.gather(-1, which))


def straight_through(p):
    hard = F.one_hot(p.max(-1).indices, E).to(p.dtype)
    return hard - p.detach() + p


WEIGHTS = [one_hot_of_argmax, only_the_maximum, above_the_second, sorted_out, drawn,
           straight_through]  # fmt: skip


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize("experts", ["one by one", "stacked", "gathered"])
def test_a_router_in_any_spelling(weights, scores, experts):
    def forward(m, x):
        p = weights(getattr(m.r(x), scores)(-1) if scores == "softmax" else
                    m.r(x).sigmoid())  # fmt: skip
        if experts == "one by one":
            y = sum(p[..., [e]] * (x @ m.w[e]) for e in range(E))
        elif experts == "stacked":
            y = torch.einsum("ntd,edf,nte->ntf", x, m.w, p)
        else:
            best = p.argmax(-1).flatten()
            y = torch.bmm(x.view(-1, 1, D), m.w[best]).view_as(x)
        return m.head(x + y)

    model = Model(
        forward,
        r=nn.Linear(D, E, bias=False),
        w=torch.randn(E, D, D),
        head=nn.Linear(D, 3),
    )
    found = roles(model, NUMBERS)
    assert found["r.weight"].role == "router"
    assert found["r.weight"].shift is (scores == "softmax")
    assert (found["w"].role, found["w"].rows, found["w"].columns) == ("matrix", 2, 1)


NO_ROUTERS = {
    "a maximum over tokens": lambda m, x: m.head(m.r(x).max(1).values),
    "maxout": lambda m, x: m.head(
        m.r(x).unflatten(-1, (E, 2)).max(-1).values.repeat(1, 1, 2)),
    "largest features are kept": lambda m, x: m.head(
        (y := m.r(x)) * (y >= y.topk(2).values[..., -1:])),
    "a leaky activation": lambda m, x: m.head(torch.where((y := m.r(x)) > 0, y, y / 9)),
    "accuracy": lambda m, x: (m.head(x), (m.r(x).argmax(-1) == 1).float().mean()),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_ROUTERS)
def test_what_is_no_router(name):
    model = Model(NO_ROUTERS[name], r=nn.Linear(D, D), head=nn.Linear(D, 3))
    assert roles(model, NUMBERS)["r.weight"].role == "matrix"


def test_a_head_whose_prediction_is_returned_is_a_head():
    model = Model(lambda m, x: ((y := m.w(x)), y.argmax(-1)), w=nn.Linear(D, 3))
    assert roles(model, NUMBERS)["w.weight"].role == "head"


# --- heads ---------------------------------------------------------------------------

SECOND = {
    "a tuple": lambda m, h: (m.a(h), m.b(h)),
    "a dict": lambda m, h: {"policy": m.a(h), "value": m.b(h).squeeze(-1)},
    "a list in a dict": lambda m, h: {"heads": [m.a(h), m.b(h)]},
    "normed": lambda m, h: (m.a(h), F.normalize(m.b(h), dim=-1)),
}


@pytest.mark.parametrize("name", SECOND)
def test_each_output_that_is_one_product_is_a_head(name):
    model = Model(
        lambda m, x: SECOND[name](m, torch.tanh(m.trunk(x))),
        trunk=nn.Linear(D, D),
        a=nn.Linear(D, 3),
        b=nn.Linear(D, 5),
    )
    found = roles(model, NUMBERS)
    assert found["a.weight"].role == found["b.weight"].role == "head"
    assert found["trunk.weight"].role == "matrix"
    assert not found["a.weight"].shift


def test_an_output_that_is_used_again_is_no_head():
    model = Model(
        lambda m, x: (m.a(y := m.b(x)), y), a=nn.Linear(D, 3), b=nn.Linear(D, D)
    )
    found = roles(model, NUMBERS)
    assert (found["a.weight"].role, found["b.weight"].role) == ("head", "matrix")


def test_attention_and_gates_pass_on_their_roles_only_alone():
    """A gated unit in the residual stream makes no later product a down projection."""

    def forward(m, x):
        x = x + m.a(x).sigmoid() * m.b(x)
        q, k, v = (t.unsqueeze(1) for t in (x, x, x))
        x = x + F.scaled_dot_product_attention(q, k, v).squeeze(1)
        return m.head(m.c(x).relu())

    layers = {n: nn.Linear(D, D) for n in "abc"}
    found = roles(Model(forward, **layers, head=nn.Linear(D, 3)), NUMBERS)
    assert [found[f"{n}.weight"].role for n in "abc"] == ["gate", "up", "matrix"]


# --- recurrent layers, precision, meta -----------------------------------------------


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_alike_in_each_precision(kind):
    model = nn.Sequential(kind(D, 5, 2, bidirectional=True))
    found = roles(model, NUMBERS)
    for name, block in found.items():
        assert block.role == ("bias" if "bias" in name else "unknown")
        assert kind.__name__ in block.note or block.role == "bias"
    assert roles(model) == found
    for dtype in (torch.float64, torch.bfloat16):
        assert roles(model.to(dtype), NUMBERS.to(dtype)) == found
    assert roles(model.to("meta"), NUMBERS.bfloat16()) == found


@pytest.mark.parametrize("layer", [
    nn.Conv1d(3, 4, 3), nn.Conv3d(3, 4, 3), nn.LSTM(3, 4), nn.EmbeddingBag(9, 4),
    nn.ConvTranspose2d(3, 4, 2),
])  # fmt: skip
def test_simple_layers_need_no_example(layer):
    assert roles(layer)["weight" if hasattr(layer, "weight") else "weight_ih_l0"]


# --- operators that call functions ---------------------------------------------------


def test_flex_attention_is_attention():
    flex = pytest.importorskip("torch.nn.attention.flex_attention")

    def forward(m, x):
        q, k, v = m.w(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        y = flex.flex_attention(q, k, v, score_mod=lambda s, *_: s + 1)
        return m.head(m.out(y.transpose(1, 2).flatten(2)))

    model = Model(
        forward, w=nn.Linear(D, 24), out=nn.Linear(D, D), head=nn.Linear(D, 3)
    )
    found = roles(model, NUMBERS)
    assert (found["w.weight"].role, found["w.weight"].heads) == ("qkv", 6)
    assert (found["out.weight"].role, found["out.weight"].heads) == ("attention out", 2)
    assert not flex._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG


def test_checkpoints_branches_and_compiled_functions_are_looked_into():
    def gated(m, x):
        return m.a(x) * m.b(x).sigmoid()

    def checkpointed(m, x):
        return torch.utils.checkpoint.checkpoint(gated, m, x, use_reentrant=False)

    def branched(m, x):
        return torch.cond(x.sum() > 9, lambda y: -y, lambda y: gated(m, y), (x,))

    for inner in (checkpointed, branched, torch.compile(gated, backend="eager")):
        layers = {n: nn.Linear(D, D) for n in "abc"}
        model = Model(lambda m, x, f=inner: m.c(f(m, x)).relu(), **layers)
        found = roles(model, NUMBERS)
        assert [found[f"{n}.weight"].role for n in "abc"][:2] == ["up", "gate"]
