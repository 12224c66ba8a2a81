"""symlab.mirror.audit: planted structure is found exactly, nothing else is."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from symlab.mirror import audit, remove_symmetries
from symlab.models.vision import torchvision


def cross_entropy(model, batch):
    x, y = batch
    return functional.cross_entropy(model(x), y)


def square(model, x):
    return model(x).square().mean()


def symmetries(found):
    """The rows that name a symmetry."""
    return found[~found.symmetry.isin(["none", "unknown"])]


def names(found) -> list[tuple[str, int]]:
    rows = symmetries(found)
    return list(zip(rows.symmetry, rows.units, strict=True))


def by_index(found, text: str):
    (row,) = found[found.parameters.str.startswith(text)].itertuples()
    return row


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# --- planted structure ---------------------------------------------------------------


def mlp() -> nn.Sequential:
    """tanh, relu and linear hidden layers of 8, 9 and 6 units."""
    widths = (5, 8, 9, 6, 7)
    layers = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
    between = [nn.Tanh(), nn.ReLU(), nn.Identity()]
    pairs = zip(layers, [*between, nn.Identity()], strict=True)
    return nn.Sequential(*[module for pair in pairs for module in pair])


BATCH = (torch.randn(16, 5), torch.arange(16) % 3)


def copy_unit(first, second, i: int, j: int, sign: float = 1.0) -> None:
    """Unit j of the layer between two linear maps becomes unit i, up to sign."""
    with torch.no_grad():
        first.weight[j], first.bias[j] = sign * first.weight[i], sign * first.bias[i]
        second.weight[:, j] = sign * second.weight[:, i]


def kill_unit(first, second, i: int) -> None:
    with torch.no_grad():
        first.weight[i], first.bias[i], second.weight[:, i] = 0.0, 0.0, 0.0


def test_a_generic_network_has_symmetries_and_is_near_no_mirror():
    table = audit(mlp(), cross_entropy, BATCH)
    found = symmetries(table)
    assert names(table) == [
        ("signed permutation", 8), ("permutation, rescaling", 9), ("rotation", 6)
    ]  # fmt: skip
    assert (found.violation < 1e-11).all()
    assert found.dead.dropna().sum() == found.copies.dropna().sum() == 0
    assert found["rank"].tolist() == [8, 9, 6]
    assert found.note.str.contains("no unit is near|full rank").all()
    assert table.parameters[3:].tolist() == ["0.weight:1", "6.weight:0, 6.bias:0"]


def test_planted_structure_is_found_exactly():
    model = mlp()
    copy_unit(model[0], model[2], 0, 3)
    copy_unit(model[0], model[2], 1, 5, sign=-1.0)  # tanh: equal up to sign
    copy_unit(model[2], model[4], 2, 4)
    copy_unit(model[2], model[4], 2, 6)
    kill_unit(model[2], model[4], 8)
    with torch.no_grad():  # the linear layer's index loses two dimensions
        keep = torch.linalg.qr(torch.randn(6, 4))[0]
        p = keep @ keep.T
        model[4].weight.copy_(p @ model[4].weight)
        model[4].bias.copy_(p @ model[4].bias)
        model[6].weight.copy_(model[6].weight @ p)
    tanh, relu, linear = symmetries(audit(model, cross_entropy, BATCH)).itertuples()
    assert (tanh.dead, tanh.copies, tanh.distinct) == (0, 4, 6)
    assert (relu.dead, relu.copies, relu.distinct) == (1, 3, 6)
    assert (relu.dead_units, relu.copy_groups) == ([8], [[2, 4, 6]])
    assert linear.rank == 4
    assert "2 of 6 dimensions are nearly unused" in linear.note


def test_a_copy_with_the_other_sign_is_none_for_relu():
    model = mlp()
    copy_unit(model[2], model[4], 2, 4, sign=-1.0)
    assert audit(model, cross_entropy, BATCH).copies[1] == 0


def test_the_model_is_not_changed():
    model = mlp()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    audit(model, cross_entropy, BATCH)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert model[0].weight.dtype == torch.float32


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torchvision_resnet18_by_hand():
    """Four residual streams, eight inner layers; dead and equal channels planted."""
    model = torchvision().models.resnet18(num_classes=10).eval()
    names = ["layer4.0.conv2", "layer4.0.downsample.0", "layer4.1.conv2"]
    norms = ["layer4.0.bn2", "layer4.0.downsample.1", "layer4.1.bn2"]
    readers = ["layer4.1.conv1", "fc"]
    with torch.no_grad():
        for name in [*names, *norms]:
            module = model.get_submodule(name)
            tensors = [module.weight, getattr(module, "bias", None)]
            if name in norms:
                tensors += [module.running_mean, module.running_var]
            for t in tensors:
                if t is not None:
                    t[7] = t[3]
                    t[9] = 0.0
        for name in readers:
            weight = model.get_submodule(name).weight
            weight[:, 7] = weight[:, 3]
            weight[:, 9] = 0.0
    x = torch.randn(2, 3, 32, 32)
    found = symmetries(audit(model, cross_entropy, (x, torch.tensor([1, 2]))))
    assert sorted(found.units.tolist()) == [n for n in (64, 128, 256, 512)
                                            for _ in range(3)]  # fmt: skip
    # batch norm is odd: a channel's weights and its gain may change sign together
    assert set(found.symmetry) == {"signed permutation, rescaling"}
    assert found.violation.max() < 1e-9
    stream = by_index(found, "layer4.0.conv2.weight:0")
    assert {f"{n}.weight:0" for n in names} <= set(stream.parameters.split(", "))
    assert (stream.dead, stream.copies, stream.distinct) == (1, 2, 510)
    others = found[~found.parameters.str.contains("fc.weight")]
    assert others.dead.sum() == others.copies.sum() == 0
    assert by_index(found, "conv1.weight:0").units == 64


class Convolutions(nn.Module):
    """Depthwise and pointwise convolutions, pooling, and a flattened map."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=6)
        self.c, self.d = nn.Conv2d(6, 8, 1), nn.Linear(8 * 4 * 4, 3)

    def forward(self, x):
        x = self.c(self.b(self.a(x).relu()).relu())
        return self.d(functional.max_pool2d(x, 2).flatten(1))


def test_depthwise_convolutions_and_flattened_maps():
    batch = (torch.randn(4, 3, 12, 12), torch.arange(4) % 3)
    table = audit(Convolutions(), cross_entropy, batch)
    found = symmetries(table)
    assert found.parameters.tolist() == [
        "a.weight:0, a.bias:0, b.weight:0, b.bias:0, c.weight:1",
        "c.weight:0, c.bias:0, d.weight:1",
    ]
    assert names(table) == [
        ("permutation, rescaling", 6), ("permutation, rescaling", 8)
    ]  # fmt: skip


def test_tied_embeddings_move_together():
    model = Transformer()
    model.head.weight = model.embed.weight
    stream = by_index(audit(model, next_token, TOKENS), "position:1")
    assert (stream.symmetry, stream.units) == ("signed permutation, rescaling", 16)
    assert "embed.weight:1" in stream.parameters


# --- attention -----------------------------------------------------------------------


class Attention(nn.Module):
    """Causal attention over D = 16 with 4 heads of 4, by torch's fused kernel."""

    def __init__(self, kv_heads: int = 4):
        super().__init__()
        self.q, self.o = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)
        self.k, self.v = (nn.Linear(16, 4 * kv_heads, bias=False) for _ in range(2))

    def forward(self, x):  # (B, T, D)
        q, k, v = (
            f(x).unflatten(-1, (-1, 4)).transpose(1, 2)
            for f in (self.q, self.k, self.v)
        )
        copies = 4 // k.shape[1]
        k, v = (
            t[:, :, None].expand(-1, -1, copies, -1, -1).flatten(1, 2) for t in (k, v)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """Two pre-norm blocks with SwiGLU, learned positions, an untied head."""

    def __init__(self, kv_heads: int = 4):
        super().__init__()
        self.embed, self.position = (
            nn.Embedding(11, 16),
            nn.Parameter(torch.randn(9, 16)),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(5))
        self.attention = nn.ModuleList(Attention(kv_heads) for _ in range(2))
        self.gate, self.up = (
            nn.ModuleList(nn.Linear(16, 12, bias=False) for _ in range(2))
            for _ in range(2)
        )
        self.down = nn.ModuleList(nn.Linear(12, 16, bias=False) for _ in range(2))
        self.head = nn.Linear(16, 11, bias=False)

    def forward(self, tokens):
        x = self.embed(tokens) + self.position
        for i in range(2):
            x = x + self.attention[i](self.norms[2 * i](x))
            h = self.norms[2 * i + 1](x)
            x = x + self.down[i](functional.silu(self.gate[i](h)) * self.up[i](h))
        return self.head(self.norms[4](x))


TOKENS = torch.arange(30).view(3, 10) * 7 % 11


def next_token(model, tokens):
    logits = model(tokens[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def test_small_transformer_by_hand():
    found = symmetries(audit(Transformer(), next_token, TOKENS))
    counts = found.symmetry.value_counts().to_dict()
    # two blocks: 4 query-key and 4 value-output rotations, SwiGLU, heads; one stream.
    # SwiGLU's up and down, and a norm's gain and what reads it, may be rescaled
    assert counts == {
        "rotation": 16,
        "signed permutation, rescaling": 3,
        "permutation of heads": 2,
    }
    assert (found.violation < 1e-11).all()
    rotations = found[found.symmetry == "rotation"]
    assert (rotations["rank"] == 4).all()
    stream = by_index(found, "position:1")
    assert stream.units == 16
    swiglu = "gate.0.weight:0, up.0.weight:0, down.0.weight:1"
    assert by_index(found, swiglu).units == 12


def test_low_rank_products_of_one_head_are_found():
    model = Transformer()
    with torch.no_grad():
        q, k = model.attention[1].q.weight[4:8], model.attention[1].k.weight[4:8]
        n = torch.randn(4)
        n /= n.norm()
        q -= torch.outer(n, n @ q)
        k -= torch.outer(n, n @ k)
        model.attention[0].v.weight[8:10] = 0.0
        model.attention[0].o.weight[:, 8:10] = 0.0
    found = audit(model, next_token, TOKENS)
    ranks = found[found.symmetry == "rotation"].set_index("parameters")["rank"]
    low = ranks[ranks < 4].to_dict()
    assert low == {
        "attention.1.q.weight:0[4:8], attention.1.k.weight:0[4:8]": 3,
        "attention.0.o.weight:1[8:12], attention.0.v.weight:0[8:12]": 2,
    }


def test_equal_heads_are_found():
    model = Transformer()
    attention = model.attention[0]
    with torch.no_grad():
        for name in ("q", "k", "v"):
            getattr(attention, name).weight[12:16] = getattr(attention, name).weight[:4]
        attention.o.weight[:, 12:16] = attention.o.weight[:, :4]
    found = audit(model, next_token, TOKENS)
    heads = found[found.symmetry == "permutation of heads"]
    assert heads.copies.tolist() == [2, 0]
    assert heads.distinct.tolist() == [3, 4]


def test_grouped_query_attention_shares_rotations_between_queries():
    found = audit(Transformer(kv_heads=2), next_token, TOKENS)
    rotations = found[found.symmetry == "rotation"]
    assert len(rotations) == 2 * (2 + 2)
    assert (rotations.units == 4).all()


class Fused(nn.Module):
    """One matrix for queries, keys and values, attention written out."""

    def __init__(self):
        super().__init__()
        self.qkv, self.o = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        q, k, v = (
            t.unflatten(-1, (4, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1)
        )
        weights = (q @ k.transpose(-2, -1) / 2).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("eval_mode", [False, True])
@pytest.mark.parametrize("kind", ["fused", "torch's own"])
def test_packed_projections_are_taken_apart(kind, eval_mode):
    own = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True)
    model = Fused() if kind == "fused" else own
    model = nn.Sequential(model, nn.Linear(16, 3)).train(not eval_mode)
    loss = lambda model, b: functional.mse_loss(model(b[0]), b[1])  # noqa: E731
    found = audit(model, loss, (torch.randn(2, 5, 16), torch.randn(2, 5, 3)))
    counts = found.symmetry.value_counts().to_dict()
    linear = kind == "fused"  # o and the last layer
    assert counts["rotation"] == 8 + linear
    assert counts["permutation of heads"] == 1
    assert counts.get("permutation, rescaling", 0) == (not linear)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torchvisions_vision_transformer():
    """Class token and position embedding are (1, T, D); the class token is a cat."""
    vit = torchvision().models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=16,
        mlp_dim=24, num_classes=3)  # fmt: skip
    nn.init.normal_(vit.heads.head.weight)  # torchvision's is zero
    batch = (torch.randn(2, 3, 16, 16), torch.tensor([0, 2]))
    found = audit(vit.eval(), cross_entropy, batch)
    kinds = symmetries(found).groupby("symmetry").units.apply(sorted).to_dict()
    assert kinds == {
        "permutation": [24],
        "signed permutation, rescaling": [16],
        "permutation of heads": [2],
        "rotation": [8, 8, 8, 8],
    }


class Rotary(Attention):
    """Positions enter by turning queries and keys: no rotation, and heads remain."""

    def forward(self, x):
        q, k, v = (
            f(x).unflatten(-1, (-1, 4)).transpose(1, 2)
            for f in (self.q, self.k, self.v)
        )
        angle = torch.arange(x.shape[1])[:, None] * torch.tensor([1.0, 0.1]).to(x)
        cos, sin = (f(angle).repeat(1, 2) for f in (torch.cos, torch.sin))
        q, k = (
            t * cos + torch.cat([-t[..., 2:], t[..., :2]], -1) * sin for t in (q, k)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).flatten(2))


def test_rotary_heads_may_be_exchanged_and_their_pairs_change_sign():
    model = nn.Sequential(Rotary(), nn.LayerNorm(16), nn.Linear(16, 3))
    batch = (torch.randn(2, 5, 16), torch.randn(2, 5, 3))
    found = audit(model, lambda m, b: functional.mse_loss(m(b[0]), b[1]), batch)
    rotations = found[found.symmetry == "rotation"]
    assert not rotations.parameters.str.contains("0.q").any()
    assert (rotations.units == 4).all()
    pairs = by_index(found, "0.q.weight:0, 0.k.weight:0")
    assert (pairs.symmetry, pairs.units) == ("sign flip, rescaling", 8)
    (heads,) = found[found.symmetry == "permutation of heads"].itertuples()
    assert heads.units == 4
    assert "0.q.weight:0" in heads.parameters


# --- what a review found -------------------------------------------------------------


def test_a_common_gain_makes_no_copies():
    """Batch norm undoes the scale of weights: small ones are as different as large."""
    model = nn.Sequential(
        nn.Linear(5, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 3)
    )
    with torch.no_grad():
        model[0].weight.mul_(0.1)
        model[3].weight.mul_(0.1)
    for trained in (model, model.eval()):
        found = audit(trained, cross_entropy, BATCH)
        assert (found.units[0], found.copies[0]) == (64, 0)
    biased = mlp()
    nn.init.constant_(biased[0].bias, 10.0)
    assert audit(biased, cross_entropy, BATCH).copies[0] == 0


def relu_net(activation=None) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 8), activation or nn.ReLU(), nn.Linear(8, 3))


def flat_penalty(model, batch):
    flat = torch.cat([p.view(-1) for p in model.parameters()])
    return cross_entropy(model, batch) + 1e-3 * flat.square().sum()


def norm_penalty(model, batch):
    return cross_entropy(model, batch) + sum(p.norm() for p in model.parameters())


class Where(nn.Module):
    def forward(self, x):
        return torch.where(x > 0, x, torch.zeros_like(x))


@pytest.mark.parametrize(
    ("model", "loss", "symmetry"),
    [
        (relu_net(), flat_penalty, "permutation"),
        (relu_net(), norm_penalty, "permutation"),
        (relu_net(nn.ReLU6()), cross_entropy, "permutation"),
        (relu_net(Where()), cross_entropy, "permutation, rescaling"),
        (relu_net(nn.Dropout(0.5)).insert(1, nn.ReLU()).eval(), cross_entropy,
         "permutation, rescaling"),
    ],
)  # fmt: skip
def test_one_hidden_layer_is_one_permutation(model, loss, symmetry):
    assert names(audit(model, loss, BATCH)) == [(symmetry, 8)]


class Maxout(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 12), nn.Linear(4, 3)

    def forward(self, x):
        return self.b(self.a(x).view(-1, 4, 3).amax(-1))


def test_maxout_exchanges_within_its_groups():
    found = audit(Maxout(), cross_entropy, BATCH)
    assert names(found) == [("permutation", 3)] * 4
    groups = symmetries(found)
    assert groups.note.str.contains("no unit is near|full rank").all()


class Padded(nn.Module):
    """A ResNet's shortcut without parameters: strides, and zeros for new channels."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.c = nn.Linear(8, 3)

    def forward(self, x):
        x = self.a(x).relu()
        short = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.c((short + self.b(x)).relu().mean((2, 3)))


def test_padded_channels_are_told_from_the_others():
    batch = (torch.randn(4, 3, 6, 6), torch.arange(4) % 3)
    found = audit(Padded(), cross_entropy, batch)
    assert not (symmetries(found).units == 8).any()
    assert (found.violation.dropna() < 1e-12).all()


# --- none, and unknown ---------------------------------------------------------------


def test_a_model_with_its_symmetries_removed_has_none():
    assert names(audit(remove_symmetries(mlp()), cross_entropy, BATCH)) == []


class Weighted(nn.Module):
    """Hidden units with fixed, unequal gains: none may be exchanged."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(4, 3)
        self.register_buffer("gain", torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def forward(self, x):
        return self.b((self.a(x) * self.gain).relu())


def test_units_with_unequal_gains_are_not_exchanged():
    """Each may still be rescaled by itself, as the relu after the gain allows."""
    assert names(audit(Weighted(), cross_entropy, BATCH)) == [("rescaling", 4)]


class Recurrent(nn.Module):
    """One matrix reads and writes its index: W -> P W P^T."""

    def __init__(self):
        super().__init__()
        self.a, self.w, self.b = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = self.a(x).tanh()
        return self.b(self.w(h).tanh() + self.w(self.w(h)))


def test_a_matrix_that_reads_and_writes_one_index():
    assert names(audit(Recurrent(), cross_entropy, BATCH)) == [
        ("signed permutation", 6)
    ]


class Sorted(nn.Module):
    """An operation without a rule, between two layers and beside a third."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(5, 6)
        self.d = nn.Linear(6, 3)

    def forward(self, x):
        h = self.b(self.a(x).sort(-1).values) + self.c(x)
        return self.d(h.relu())


def test_behind_an_unknown_operation_units_are_named():
    found = audit(Sorted(), cross_entropy, BATCH)
    assert names(found) == [("permutation, rescaling", 6)]
    unknown = found[found.symmetry == "unknown"]
    assert unknown.note.str.contains("sort").all()
    assert "a.weight:0, a.bias:0" in ", ".join(unknown.parameters)
    assert "b.weight:1" in ", ".join(unknown.parameters)
    assert unknown.copies.isna().all()


def test_a_wrong_conjecture_is_caught_by_the_gradient(monkeypatch):
    """Were relu taken for linear, rotations would be conjectured; they are no more."""
    from symlab.mirror import trace

    monkeypatch.setattr(trace, "POINTWISE", trace.POINTWISE - {"relu"})
    monkeypatch.setattr(trace, "LINEAR", trace.LINEAR | {"relu"})
    monkeypatch.setattr(trace, "PERMUTATION", trace.ROTATION)
    found = audit(mlp(), cross_entropy, BATCH)
    assert ("permutation, rescaling", 9) in names(found)
    assert names(found).count(("rotation", 6)) == 1


def test_bad_input_is_one_sentence():
    model = mlp()
    with pytest.raises(ValueError, match="must return one number"):
        audit(model, lambda m, b: m(b[0]), BATCH)
    with pytest.raises(ValueError, match="changes from call to call"):
        audit(nn.Sequential(model, nn.Dropout(0.5)), cross_entropy, BATCH)
    with pytest.raises(ValueError, match="uses no parameter"):
        audit(model, lambda m, b: BATCH[0].sum(), BATCH)
    with torch.no_grad():
        model[0].weight[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        audit(model, cross_entropy, BATCH)


# --- what is a property of the function ----------------------------------------------


def test_rescaled_relu_units_are_as_dead_and_as_equal_as_before():
    model, other = relu_net(), relu_net()
    copy_unit(model[0], model[2], 1, 4)
    kill_unit(model[0], model[2], 6)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for unit, c in ((0, 1e4), (4, 30.0), (5, 1e-3)):
            other[0].weight[unit] *= c
            other[0].bias[unit] *= c
            other[2].weight[:, unit] /= c
    for net in (model, other):
        (row,) = symmetries(audit(net, cross_entropy, BATCH)).itertuples()
        assert (row.dead_units, row.copy_groups, row.distinct) == ([6], [[1, 4]], 6)


def test_a_bias_that_silences_one_unit_makes_no_other_one_dead():
    model = relu_net()
    with torch.no_grad():
        model[0].bias[3] = -1e4
    (row,) = symmetries(audit(model, cross_entropy, BATCH)).itertuples()
    assert (row.dead, row.silent) == (0, 1)


def test_one_unit_that_dwarfs_all_others_makes_them_no_less_alive():
    model = relu_net(nn.Tanh())
    with torch.no_grad():
        model[2].weight[:, 2] *= 3000
    (row,) = symmetries(audit(model, cross_entropy, BATCH)).itertuples()
    assert row.dead == 0


def test_parallel_units_of_any_size_are_one_direction():
    model = relu_net()
    with torch.no_grad():
        for unit, c in ((1, 0.2), (2, 3.0), (3, 7.0)):
            model[0].weight[unit] = c * model[0].weight[0]
            model[0].bias[unit] = c * model[0].bias[0]
            model[2].weight[:, unit] = 2 * c * model[2].weight[:, 0]
    (row,) = symmetries(audit(model, cross_entropy, BATCH)).itertuples()
    assert (row.copies, row.distinct) == (4, 5)


@pytest.mark.parametrize(("inputs", "width"), [(1, 48), (2, 128), (3, 200)])
def test_random_units_of_few_weights_are_no_copies(inputs, width):
    for activation in (nn.ReLU(), nn.Tanh(), nn.GELU()):
        model = nn.Sequential(nn.Linear(inputs, width), activation, nn.Linear(width, 1))
        x = torch.randn(20, inputs)
        found = audit(model, lambda m, x: (m(x) - 1).square().mean(), x)
        assert next(symmetries(found).itertuples()).copies == 0


def test_the_note_says_what_a_norm_or_a_maximum_forbids():
    model = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    with torch.no_grad():
        for t in (model[0].weight, model[0].bias, model[1].weight, model[2].weight.T):
            t[7] = t[2]
    row = by_index(audit(model, cross_entropy, BATCH), "0.weight:0")
    assert row.copies == 2
    assert "cannot be dropped, as the layer norm reads all units" in row.note


def test_rank_is_that_of_the_product_whatever_the_factors():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    x = torch.randn(20, 4)
    loss = lambda m, x: (m(x) - x.roll(1, 0)).square().mean()  # noqa: E731
    scale = torch.tensor([1e-3, 0.03, 1.0, 10.0])
    for kept, rank in ((4, 4), (2, 2)):
        with torch.no_grad():
            model[0].weight.copy_(torch.diag(scale))
            model[1].weight.copy_(torch.diag(1 / scale) * (torch.arange(4) < kept))
        (row,) = symmetries(audit(model, loss, x)).itertuples()
        assert (row.symmetry, row.rank) == ("rotation", rank)


# --- what training can move, and how it is given --------------------------------------


def test_frozen_weights_take_the_symmetry_with_them():
    model = relu_net()
    model[0].requires_grad_(False)
    assert names(audit(model, cross_entropy, BATCH)) == []
    adapted = nn.Sequential(nn.Linear(5, 2, bias=False), nn.Linear(2, 8, bias=False))

    class Adapter(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.low = model, adapted

        def forward(self, x):
            h = self.base[0](x) + self.low(x)
            return self.base[2](h.relu())

    found = audit(Adapter(), cross_entropy, BATCH)
    assert names(found) == [("rotation", 2)]


class Keeps(nn.Module):
    """Keeps an activation, as for a later look."""

    def __init__(self):
        super().__init__()
        self.net, self.last = relu_net(), None

    def forward(self, x):
        self.last = self.net[0](x)
        return self.net[2](self.last.relu())


def test_kept_activations_gradients_and_layouts_do_not_matter():
    model = Keeps()
    model(BATCH[0][:2])
    with torch.no_grad():
        assert names(audit(model, cross_entropy, BATCH)) == [
            ("permutation, rescaling", 8)
        ]
    x, y = torch.randn(2, 3, 12, 12), torch.tensor([0, 2])
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(6, 3))
    tables = []
    for layout in (torch.contiguous_format, torch.channels_last):
        batch = (x.to(memory_format=layout), y)
        tables.append(audit(model.to(memory_format=layout), cross_entropy, batch))
    assert tables[0].parameters.tolist() == tables[1].parameters.tolist()
    assert names(tables[1]) == [("permutation, rescaling", 6)]


def test_zeros_in_the_batch_make_no_symmetry_of_the_inputs():
    zeros = (torch.zeros(16, 5), BATCH[1])
    assert names(audit(relu_net(), cross_entropy, zeros)) == [
        ("permutation, rescaling", 8)
    ]


def test_rotations_behind_norms_without_gain_and_in_what_an_offset_leaves():
    model = nn.Sequential(
        nn.Linear(5, 8), nn.RMSNorm(8, elementwise_affine=False), nn.Linear(8, 3)
    )
    assert names(audit(model, cross_entropy, BATCH)) == [("rotation", 8)]
    wide = nn.Sequential(nn.Linear(5, 20, bias=False), nn.Linear(20, 3, bias=False))
    found = audit(remove_symmetries(wide), cross_entropy, BATCH)
    assert names(found) == [("rotation", 20 - 5 - 3)]


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.u, self.v = nn.Parameter(torch.randn(5)), nn.Parameter(torch.zeros(5))

    def forward(self, x):
        return x @ (self.u * self.v)


def test_the_papers_own_symmetries():
    found = audit(Product(), lambda m, b: (m(b[0]) - 1).square().mean(), BATCH)
    assert names(found) == [("sign flip, rescaling", 5)]
    assert found.dead[0] == 5  # v = 0: on all mirrors
    one = nn.Sequential(nn.Linear(5, 1), nn.Tanh(), nn.Linear(1, 1))
    found = audit(one, lambda m, b: (m(b[0]) - 1).square().mean(), BATCH)
    assert names(found) == [("sign flip", 1)]


# --- what an adversary found ----------------------------------------------------------


def test_detached_terms_and_weights_from_outside():
    model = relu_net()

    def penalised(m, batch):
        return cross_entropy(m, batch) + 0.1 * m[0].weight.detach()[0].norm()

    assert names(audit(model, penalised, BATCH)) == []

    def outer(m, batch):
        return cross_entropy(m, batch) + 0.1 * model[0].weight[0].norm()

    with pytest.raises(ValueError, match="from outside"):
        audit(model, outer, BATCH)


def test_losses_that_look_at_requires_grad():
    def penalised(m, batch):
        trained = [p for p in m.parameters() if p.requires_grad]
        return cross_entropy(m, batch) + sum(p.square().sum() for p in trained)

    assert names(audit(relu_net(), penalised, BATCH)) == [("permutation", 8)]


def test_casts_to_single_precision_inside_a_model():
    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = relu_net()

        def forward(self, x):
            h = self.net[0](x).float().relu()
            return self.net[2](h.to(x.dtype))

    found = audit(Cast(), cross_entropy, BATCH)
    assert names(found) == [("permutation, rescaling", 8)]
    assert found.violation[0] < 1e-11


def test_relu6_may_not_be_rescaled():
    assert names(audit(relu_net(nn.ReLU6()), cross_entropy, BATCH)) == [
        ("permutation", 8)
    ]


def test_random_numbers_and_the_batch_are_left_alone():
    model, batch = relu_net().double(), (BATCH[0].double(), BATCH[1])
    before, state = batch[0].clone(), torch.get_rng_state()
    audit(model, cross_entropy, batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(batch[0], before)


def test_single_numbers_may_be_the_whole_model():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.u = nn.Parameter(torch.tensor(0.7))
            self.w = nn.Parameter(torch.tensor(1.3))

    table = audit(Product(), lambda m, batch: (m.u * m.w - batch) ** 2, torch.ones(()))
    (row,) = table.to_dict("records")
    assert row["parameters"] == "u:0, w:0"
    assert row["symmetry"] == "sign flip, rescaling"
