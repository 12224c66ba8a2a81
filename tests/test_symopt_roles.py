"""Roles by connections: hand-written models with misleading names, and libraries'."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symlab.symopt import SymOpt, describe, roles

D, V, HEADS = 16, 24, 4


class Attention(nn.Module):
    """Grouped queries; fused or not; by one call or written out."""

    def __init__(self, fused=False, written_out=False, shared=1):
        super().__init__()
        self.fused, self.written_out, self.shared = fused, written_out, shared
        kv = D // shared
        self.router = nn.Linear(D, D + 2 * kv if fused else D)  # no router at all
        self.up = nn.Linear(D, kv)
        self.embedding = nn.Linear(D, kv)
        self.gate = nn.Linear(D, D)
        self.norm = nn.RMSNorm(D // HEADS)

    def forward(self, x):
        if self.fused:
            kv = D // self.shared
            q, k, v = self.router(x).split([D, kv, kv], -1)
        else:
            q, k, v = self.router(x), self.up(x), self.embedding(x)
        q, k, v = (t.unflatten(-1, (-1, D // HEADS)).transpose(1, 2) for t in (q, k, v))
        q = self.norm(q)
        k, v = (t.repeat_interleave(HEADS // t.shape[1], 1) for t in (k, v))
        if self.written_out:
            scores = (q @ k.mT) * q.shape[-1] ** -0.5
            y = scores.softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.gate(y.transpose(1, 2).flatten(-2))


class Mixture(nn.Module):
    """Four experts as stacks, two of them used for each token."""

    def __init__(self, router="softmax, topk", interleaved=False, r=6):
        super().__init__()
        self.kind, self.interleaved = router, interleaved
        self.lm_head = nn.Parameter(torch.randn(4, D) * 0.1)  # the router
        self.q_proj = nn.Parameter(torch.randn(4, 2 * r, D) * 0.1)
        self.q_bias = nn.Parameter(torch.zeros(4, 2 * r))
        self.k_proj = nn.Parameter(torch.randn(4, r, D) * 0.1)  # (in, out)

    def weights(self, x):
        logits = x @ self.lm_head.t()
        if self.kind == "softmax, topk":
            return logits.softmax(-1).topk(2)
        if self.kind == "topk, softmax":
            top, which = logits.topk(2)
            return top.softmax(-1), which
        return logits.sigmoid().topk(2)

    def forward(self, x):
        weights, which = self.weights(x)
        out = torch.zeros_like(x)
        for e in range(4):
            y = F.linear(x, self.q_proj[e], self.q_bias[e])
            gate, up = (
                (y[..., ::2], y[..., 1::2]) if self.interleaved else y.chunk(2, -1)
            )
            y = (F.silu(gate) * up) @ self.k_proj[e]
            out = out + y * ((which == e) * weights).sum(-1, keepdim=True)
        return out


class Feedforward(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(D, 6), nn.Linear(D, 6), nn.Linear(6, D)

    def forward(self, x):
        return self.c(self.a(x) * F.gelu(self.b(x)))


class Language(nn.Module):
    def __init__(self, attention, middle, tied=False, cap=False):
        super().__init__()
        self.cap = cap
        self.o_proj = nn.Embedding(V, D)
        self.attention, self.middle = attention, middle
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.down = nn.Linear(D, V, bias=False)
        if tied:
            self.down.weight = self.o_proj.weight

    def forward(self, ids):
        x = self.o_proj(ids)
        x = x + self.attention(self.norm1(x))
        x = x + self.middle(self.norm2(x))
        logits = self.down(x)
        return 30 * torch.tanh(logits / 30) if self.cap else logits


@pytest.mark.parametrize("written_out", [False, True])
def test_attention_and_gates_by_their_connections(written_out):
    model = Language(Attention(written_out=written_out, shared=2), Feedforward())
    found = roles(model)
    expected = {
        "o_proj.weight": ("embedding", 1),
        "attention.router.weight": ("query", 4),
        "attention.up.weight": ("key", 2),
        "attention.embedding.weight": ("value", 2),
        "attention.gate.weight": ("attention out", 4),
        "attention.norm.weight": ("gain", 1),
        "attention.up.bias": ("bias", 1),
        "middle.a.weight": ("up", 1),
        "middle.b.weight": ("gate", 1),
        "middle.c.weight": ("down", 1),
        "norm1.weight": ("gain", 1),
        "norm1.bias": ("bias", 1),
        "down.weight": ("head", 1),
    }
    assert {n: (found[n].role, found[n].heads) for n in expected} == expected
    assert found["attention.gate.weight"].head_columns
    assert found["down.weight"].shift
    assert set(found) == {n for n, _ in model.named_parameters()}


@pytest.mark.parametrize("shared", [1, 2])
def test_a_fused_projection_is_found_with_all_its_heads(shared):
    found = roles(Language(Attention(fused=True, shared=shared), Feedforward()))
    block = found["attention.router.weight"]
    assert (block.role, block.heads) == ("qkv", HEADS + 2 * HEADS // shared)
    assert found["attention.up.weight"].note == "not used in a forward pass"


@pytest.mark.parametrize(
    ("router", "shift"),
    [("softmax, topk", True), ("topk, softmax", True), ("sigmoid", False)],
)
@pytest.mark.parametrize("interleaved", [False, True])
def test_experts_and_routers(router, shift, interleaved):
    found = roles(Language(Attention(), Mixture(router, interleaved)))
    assert found["middle.lm_head"].role == "router"
    assert found["middle.lm_head"].shift is shift
    fused = found["middle.q_proj"]
    layout = "interleaved" if interleaved else "concatenated"
    assert (fused.role, fused.layout) == ("gate_up", layout)
    assert (fused.rows, fused.columns) == (1, 2)
    assert found["middle.q_bias"].role == "bias"
    down = found["middle.k_proj"]
    assert (down.role, down.rows, down.columns) == ("down", 2, 1)


def test_the_optimizer_takes_heads_halves_and_axes_from_the_roles():
    model = Language(Attention(), Mixture(interleaved=True))
    opt = SymOpt(model)
    of = {n: g for g in opt.param_groups for n in g["param_names"]}
    assert (of["middle.q_proj"]["pieces"], of["middle.q_proj"]["along"]) == (
        2, "interleaved rows",
    )  # fmt: skip
    assert (of["middle.k_proj"]["rows"], of["middle.k_proj"]["transpose"]) == (2, True)
    out = of["attention.gate.weight"]
    assert (out["pieces"], out["along"]) == (HEADS, "columns")
    assert of["attention.router.weight"]["along"] == "rows"
    assert of["middle.lm_head"]["options"] == {"centred": True}


def test_the_shift_is_no_symmetry_of_tied_or_capped_heads():
    tied = roles(Language(Attention(), Feedforward(), tied=True))
    assert tied["o_proj.weight"].role == "tied embedding"
    assert not tied["o_proj.weight"].shift
    assert "down.weight" not in tied  # one parameter, seen once
    capped = roles(Language(Attention(), Feedforward(), cap=True))
    assert capped["down.weight"].role == "head"
    assert not capped["down.weight"].shift
    capped = Language(Attention(), Feedforward(), cap=True)
    capped.middle = nn.Sequential(capped.middle, nn.Tanh())  # bends what it passes on
    seen = roles(nn.Sequential(capped, nn.LogSoftmax(-1)))
    assert seen["0.down.weight"].role == "head"
    assert not seen["0.down.weight"].shift
    free = Language(Attention(), Feedforward())
    assert roles(nn.Sequential(free, nn.LogSoftmax(-1)))["0.down.weight"].shift


def test_a_classifier_and_a_regression_have_no_shift_but_a_softmax_gives_one():
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    assert (roles(model)["2.weight"].role, roles(model)["2.weight"].shift) == (
        "head",
        False,
    )
    model.append(nn.LogSoftmax(-1))
    assert roles(model)["2.weight"].shift


def test_an_expert_that_no_token_reached_is_as_its_siblings():
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(Feedforward() for _ in range(3))

        def forward(self, x):
            return self.experts[0](x)  # the others wait for other tokens

    found = roles(Language(Attention(), Routed()))
    for expert in range(3):
        assert found[f"middle.experts.{expert}.b.weight"].role == "gate"
        assert found[f"middle.experts.{expert}.c.weight"].role == "down"


def test_what_is_not_understood_gets_adamw_and_is_listed():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.fine = nn.Linear(4, 4)
            self.odd = nn.Parameter(torch.randn(4, 4))

        def forward(self, x):
            return self.fine(x) @ torch.linalg.matrix_exp(self.odd)

    with torch.no_grad():
        table = describe(Odd(), example=torch.randn(2, 4)).set_index("name")
    assert table.loc["odd", ["role", "rule"]].tolist() == ["unknown", "adamw"]
    assert "matrix_exp" in table.loc["odd", "note"]
    assert table.loc["fine.weight", "role"] == "head"


def test_without_an_input_types_decide_and_a_warning_says_so():
    class Closed(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(4, 8)
            self.attention = nn.MultiheadAttention(8, 2)
            self.matrix = nn.Linear(8, 8)

        def forward(self, ids, other):
            return self.matrix(self.table(ids) + other)

    with pytest.warns(UserWarning, match="give example="):
        found = roles(Closed())
    assert found["table.weight"].role == "embedding"
    assert (found["attention.in_proj_weight"].role) == "qkv"
    assert found["attention.in_proj_weight"].heads == 6
    assert found["matrix.weight"].role == "unknown"
    ids, other = torch.arange(4), torch.randn(4, 8)
    assert roles(Closed(), (ids, other))["matrix.weight"].role == "head"
    with pytest.raises(ValueError, match="fails on this example"):
        roles(Closed(), (ids,))


class Counting(nn.Linear):
    """Writes to a buffer whatever its mode, and draws."""

    def __init__(self):
        super().__init__(8, 8)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x + torch.rand_like(x))


def test_looking_changes_nothing():
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), Counting(), nn.Linear(8, 2)
    )
    before = {n: t.clone() for n, t in model.state_dict().items()}
    torch.manual_seed(3)
    found = roles(model)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert model.training
    assert model[2].training
    assert found["1.weight"].role == "gain"


def test_torchs_own_layers():
    layer = nn.TransformerEncoderLayer(D, HEADS, 32, batch_first=True)
    for example in (torch.randn(2, 5, D), torch.randn(5, D)):
        found = roles(layer, example)
        assert found["self_attn.in_proj_weight"].role == "qkv"
        assert found["self_attn.in_proj_weight"].heads == 3 * HEADS
        assert found["self_attn.out_proj.weight"].role == "attention out"
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    assert roles(network)["0.weight"].role == "convolution"
    assert roles(network)["1.bias"].role == "bias"


HUGGING_FACE = {
    "Qwen3": {"head_dim": 8},
    "Gemma3": {"head_dim": 8},
    "Olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "GptOss": {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Phi3": {},
}


@pytest.mark.parametrize("family", HUGGING_FACE)
def test_hugging_face_models(family):
    """Against the roles that their parameters' names promise."""
    from symlab.models import vision

    vision.torchvision()  # transformers imports it
    transformers = pytest.importorskip("transformers")
    kind = "Gemma3TextConfig" if family == "Gemma3" else f"{family}Config"
    config = getattr(transformers, kind)(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        vocab_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
        **HUGGING_FACE[family],
    )
    found = roles(getattr(transformers, f"{family}ForCausalLM")(config))
    promised = {
        "embed_tokens.weight": "embedding",
        "q_proj.weight": "query",
        "k_proj.weight": "key",
        "v_proj.weight": "value",
        "qkv_proj.weight": "qkv",
        "o_proj.weight": "attention out",
        "mlp.gate_proj.weight": "gate",
        "up_proj.weight": "up",
        "gate_up_proj": "gate_up",
        "gate_up_proj.weight": "gate_up",
        "down_proj": "down",
        "down_proj.weight": "down",
        "mlp.gate.weight": "router",
        "router.weight": "router",
        "lm_head.weight": "head",
        "norm.weight": "gain",
        "layernorm.weight": "gain",
        "bias": "bias",
        "sinks": "bias",
    }
    if family == "Gemma3":  # its head is tied
        promised["embed_tokens.weight"] = "tied embedding"
    for name, block in found.items():
        fitting = [end for end in promised if name.endswith(end)]
        assert block.role == promised[max(fitting, key=len)], name
    heads = {b.role: b.heads for b in found.values()}
    if family != "Phi3":
        assert (heads["query"], heads["key"], heads["attention out"]) == (4, 2, 4)
    if family == "GptOss":
        fused = next(b for b in found.values() if b.role == "gate_up")
        assert (fused.layout, fused.rows) == ("interleaved", 2)


def test_a_weight_that_is_asked_for_its_type_is_not_used_by_that():
    class Asking(nn.Linear):
        def forward(self, x):
            return super().forward(x) + self.weight.new_zeros(8)

    assert roles(Asking(8, 8))["weight"].role == "head"


class Projections(nn.Module):
    """Queries, keys, values and outputs with an axis of heads of their own."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (
            nn.Parameter(torch.randn(D, HEADS, D // HEADS)) for _ in range(3)
        )
        self.o = nn.Parameter(torch.randn(HEADS, D // HEADS, D))
        self.last = nn.Linear(D, 3)

    def forward(self, x):
        q, k, v = (
            torch.einsum("btd,dhk->bhtk", x, w) for w in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v)
        return self.last(torch.einsum("bhtk,hkd->btd", y, self.o))


def test_heads_as_an_axis_are_stacks():
    x = torch.randn(2, 5, D)
    model = Projections()
    found = roles(model, x)
    said = {"q": "query", "k": "key", "v": "value", "o": "attention out"}
    assert {n: found[n].role for n in said} == said
    assert {(found[n].rows, found[n].columns) for n in "qkv"} == {(2, 0)}
    assert all(found[n].parts == () for n in said)
    optimizer = SymOpt(model, lr=1e-3, example=x)
    model(x).square().mean().backward()
    optimizer.step()


def test_parts_that_do_not_fill_their_axis_are_refused():
    from symlab.symopt.dataflow.fused import Part
    from symlab.symopt.roles import Block, _checked

    whole = (Part("query", 0, 8, 2), Part("matrix", 8, 4))
    assert _checked(Block("w", (12, 6), "fused", parts=whole)).role == "fused"
    for shape, parts in (((16, 6), whole), ((8, 6), whole), ((12, 6), whole[1:])):
        block = _checked(Block("w", shape, "fused", parts=parts))
        assert (block.role, block.parts) == ("unknown", ())
        assert "do not fill" in block.note
    assert _checked(Block("w", (10, 6), "query", heads=4)).role == "unknown"


class Dispatched(nn.Module):
    """Experts get their tokens by rows of 0 and 1, or choose them."""

    def __init__(self, chooses):
        super().__init__()
        self.chooses = chooses
        self.scores = nn.Linear(D, 4, bias=False)
        self.stack = nn.Parameter(torch.randn(4, D, D))
        self.last = nn.Linear(D, 3)

    def forward(self, x):
        p = self.scores(x).softmax(-1)
        if self.chooses:
            weight, which = p.t().topk(3)
            y = torch.zeros_like(x)
            for e in range(4):
                made = x[which[e]] @ self.stack[e]
                y = y.index_add(0, which[e], made * weight[e, :, None])
        else:
            sent = F.one_hot(p.argmax(-1), 4).to(x)
            y = torch.bmm(torch.einsum("te,td->etd", sent, x), self.stack).relu()
            y = torch.einsum("te,etd->td", p * sent, y)
        return self.last(x + y)


def test_routers_by_dispatch_and_by_choice_of_the_experts():
    x = torch.randn(6, D)
    found = roles(Dispatched(chooses=False), x)
    assert (found["scores.weight"].role, found["scores.weight"].shift) == (
        "router",
        True,
    )
    found = roles(Dispatched(chooses=True), x)
    assert (found["scores.weight"].role, found["scores.weight"].shift) == (
        "router",
        False,
    )


def test_a_mask_on_a_weight_leaves_no_group_and_a_gain_is_one():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(D, D))
            self.register_buffer("mask", torch.ones(D, D).tril())
            self.scale = nn.Parameter(torch.ones(1, D))
            self.last = nn.Linear(D, 3)

        def forward(self, x):
            return self.last(F.relu(F.linear(x, self.w * self.mask)) * self.scale)

    found = roles(Masked(), torch.randn(5, D))
    assert found["w"].role == "unknown"
    assert "mask" in found["w"].note
    assert (found["scale"].role, found["scale"].note) == ("gain", "")
