"""symlab.mirror.compress: the same function with exactly the planted units gone."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from symlab.mirror import audit, compress
from symlab.mirror.verify import compared, double, outputs
from symlab.models.transformer import Decoder, preset
from symlab.models.vision import torchvision


def random(*shape) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def cross_entropy(model, batch):
    x, y = batch
    return functional.cross_entropy(model(x), y)


def square(model, x):
    return model(x).square().mean()


def next_token(model, tokens):
    out = model(tokens[:, :-1])
    logits = out if isinstance(out, torch.Tensor) else out.logits
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def size(model) -> int:
    return sum(p.numel() for p in model.parameters())


def change(old, new, loss, batch) -> float:
    """Of the outputs, relative to the largest, in float64."""
    wide, cast = double(old, loss, batch)
    before = outputs(wide, loss, cast)
    return compared(before, outputs(copy.deepcopy(new).double(), loss, cast))[0]


def row(report, text: str):
    (found,) = report.table[report.table.parameters.str.startswith(text)].itertuples()
    return found


def compressed(model, loss, batch, **options):
    """`compress`, with what must hold for every model and every result."""
    before = {n: t.clone() for n, t in model.state_dict().items()}
    new, report = compress(model, loss, batch, **options)
    for n, t in model.state_dict().items():
        assert torch.equal(before[n], t)  # the model is not changed
    measured = change(model, new, loss, batch)
    assert measured <= max(1e-6, options.get("tolerance", 0.0))
    assert report.change == pytest.approx(measured, rel=1e-3, abs=1e-12)
    assert report.parameters == (size(model), size(new))
    assert type(new) is type(model)
    assert str(report)
    return new, report


# --- layers one after another --------------------------------------------------------

BATCH = (random(32, 5), torch.arange(32) % 3)


def mlp(first=nn.Tanh, second=nn.ReLU) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(5, 8), first(), nn.Linear(8, 9), second(), nn.Linear(9, 3)
    )


@torch.no_grad()
def equal_unit(first, i: int, j: int, factor: float = 1.0) -> None:
    first.weight[j], first.bias[j] = factor * first.weight[i], factor * first.bias[i]


def test_copies_become_one_up_to_sign_and_size():
    """Outgoing weights differ; the copies' functions are equal, which is enough."""
    model = mlp()
    equal_unit(model[0], 0, 3)
    equal_unit(model[0], 1, 5, -1.0)  # tanh
    equal_unit(model[2], 2, 4, 2.5)  # relu
    equal_unit(model[2], 2, 6, 0.01)
    new, report = compressed(model, cross_entropy, BATCH)
    assert (new[0].out_features, new[2].in_features, new[2].out_features) == (6, 6, 7)
    assert report.table.merged.tolist() == [2, 2]
    assert report.parameters[1] == 6 * 6 + 7 * 7 + 8 * 3
    assert report.flops[1] < report.flops[0]


def test_a_sign_that_relu_does_not_allow_is_no_copy():
    model = mlp()
    equal_unit(model[2], 2, 4, -1.0)
    new, report = compressed(model, cross_entropy, BATCH)
    assert report.parameters[0] == report.parameters[1]


def test_dead_units_of_all_kinds_are_removed():
    model = mlp()
    with torch.no_grad():
        model[2].weight[0], model[2].bias[0] = 0.0, -0.3  # relu of it is 0
        model[2].weight[1], model[2].bias[1] = 0.0, 0.7  # a constant
        model[4].weight[:, 2] = 0.0  # nothing reads it
    new, report = compressed(model, cross_entropy, BATCH)
    found = row(report, "2.weight:0")
    assert (found.dead, found.constant, found.after) == (2, 1, 6)
    assert new[4].in_features == 6


def test_a_constant_goes_into_the_bias_or_stays():
    for bias in (True, False):
        model = nn.Sequential(nn.Linear(5, 8), nn.Sigmoid(), nn.Linear(8, 3, bias=bias))
        with torch.no_grad():
            model[0].weight[4], model[0].bias[4] = 0.0, 0.0  # sigmoid(0) = 1/2
        new, report = compressed(model, cross_entropy, BATCH)
        assert new[0].out_features == (7 if bias else 8)
        assert ("no bias" in report.table.note[0]) is not bias


def test_what_only_removed_units_read_is_removed_too():
    """Unit 0 of each layer is read by unit 0 of the next one only."""
    layers = [m for _ in range(5) for m in (nn.Linear(5, 5), nn.Tanh())]
    model = nn.Sequential(*layers, nn.Linear(5, 3))
    with torch.no_grad():
        for layer in model[2::2]:
            layer.weight[1:, 0] = 0.0
        model[-1].weight[0, 0] = 0.0
    new, _ = compressed(model, cross_entropy, BATCH)
    assert [layer.out_features for layer in new[::2]] == 5 * [4] + [3]


def test_a_linear_product_is_cut_to_its_rank():
    model = mlp(second=nn.Identity)
    with torch.no_grad():
        keep = torch.linalg.qr(torch.randn(9, 2))[0]
        model[2].weight.copy_(keep @ keep.T @ model[2].weight)
        model[2].bias.copy_(keep @ keep.T @ model[2].bias)
    new, report = compressed(model, cross_entropy, BATCH)
    assert (new[2].out_features, row(report, "2.weight:0").cut) == (2, 7)


def test_silent_units_go_only_when_asked():
    model = mlp()
    with torch.no_grad():
        model[2].bias[3] = -500.0
    new, report = compressed(model, cross_entropy, BATCH)
    assert new[2].out_features == 9
    assert "1 stay: silent on this batch only" in row(report, "2.weight:0").note
    new, _ = compressed(model, cross_entropy, BATCH, tolerance=1e-9)
    assert new[2].out_features == 9
    new, report = compressed(model, cross_entropy, BATCH, silent=True)
    assert (new[2].out_features, row(report, "2.weight:0").silent) == (8, 1)


def test_an_input_that_is_constant_on_the_batch_is_no_constant():
    model, (x, y) = mlp(), BATCH
    x = x.index_fill(1, torch.tensor([4]), 0.5)
    with torch.no_grad():
        model[0].weight[3, :4] = 0.0  # reads that input only
    new, report = compressed(model, cross_entropy, (x, y))
    assert new[0].out_features == 8
    new, report = compressed(model, cross_entropy, (x, y), silent=True)
    assert (new[0].out_features, report.table.silent[0]) == (7, 1)


def test_a_batch_of_one_makes_no_constants():
    model = mlp(nn.Sigmoid, nn.Tanh)
    new, _ = compressed(model, cross_entropy, (BATCH[0][:1], BATCH[1][:1]))
    assert size(new) == size(model)


class Words(nn.Module):
    """The mean of embedded words, then two nonlinear layers."""

    def __init__(self):
        super().__init__()
        self.embed, self.first = nn.Embedding(11, 6), nn.Linear(6, 7)
        self.second = nn.Linear(7, 3)

    def forward(self, words):
        return self.second(self.first(self.embed(words).mean(1).tanh()).tanh())


def test_words_that_the_batch_lacks_are_not_forgotten():
    """Unit 2 of the embedding is zero for the batch's words, but not for the last."""
    model = Words()
    with torch.no_grad():
        model.embed.weight[:10, 2] = 0.0
    words = torch.arange(40).view(8, 5) * 7 % 10
    new, _ = compressed(model, cross_entropy, (words, torch.arange(8) % 3))
    assert size(new) == size(model)
    with torch.no_grad():
        model.embed.weight[10, 2] = 0.0
    new, _ = compressed(model, cross_entropy, (words, torch.arange(8) % 3))
    assert new.embed.embedding_dim == 5
    new, _ = compressed(model, cross_entropy, (words[:1], torch.zeros(1).long()))
    assert new.second.in_features == 7  # one sample: all is constant on the batch


def test_units_that_are_nearly_dead_stay_and_are_named():
    """`audit` counts units below 1 % of a typical one as dead; outputs need them."""
    model = mlp()
    with torch.no_grad():
        model[0].weight[:3] *= 1e-4
        model[0].bias[:3] *= 1e-4
        model[0].weight[3] = 0.0
        model[0].bias[3] = 0.0
    found = audit(model, cross_entropy, BATCH).iloc[0]
    assert found.dead == 4
    assert "where that changes no output (its tolerance= allows" in found.note
    new, report = compressed(model, cross_entropy, BATCH)
    assert new[0].out_features == 7
    assert row(report, "0.weight:0").note == (
        "3 stay: near a mirror, not on it (see tolerance=)"
    )
    assert compress(model, cross_entropy, BATCH, tolerance=1e-3)[0][0].out_features == 4


def test_one_unit_stays():
    model = mlp()
    nn.init.zeros_(model[4].weight)
    new, report = compressed(model, cross_entropy, BATCH)
    assert (new[2].out_features, new[0].out_features) == (1, 8)
    assert not report.table.note.any()


def test_nothing_planted_nothing_changed():
    model = mlp()
    new, report = compressed(model, cross_entropy, BATCH)
    assert "nothing to remove" in str(report)
    for n, t in model.state_dict().items():
        assert torch.equal(t, new.state_dict()[n])


class Gated(nn.Module):
    """x + down(silu(gate x) * up x), with a norm before it."""

    def __init__(self, norm):
        super().__init__()
        self.put, self.norm = nn.Linear(5, 6), norm(6)
        self.gate, self.up = nn.Linear(6, 7), nn.Linear(6, 7)
        self.down, self.head = nn.Linear(7, 6), nn.Linear(6, 3)
        self.hidden = 7

    def forward(self, x):
        x = self.put(x)
        h = self.norm(x)
        h = functional.silu(self.gate(h)) * self.up(h)
        return self.head(x + self.down(h.view(-1, self.hidden)))


def test_gated_units_are_merged_up_to_the_factor_of_up():
    model = Gated(nn.LayerNorm)
    equal_unit(model.gate, 1, 4)
    equal_unit(model.up, 1, 4, -3.0)
    new, report = compressed(model, cross_entropy, BATCH)
    assert (new.gate.out_features, new.hidden, report.table.merged.sum()) == (6, 6, 1)


@torch.no_grad()
def plant_stream(model) -> None:
    """Units 4 and 2 of the stream are unit 1, unit 5 is zero."""
    for layer in (model.put, model.down):
        equal_unit(layer, 1, 4)
        equal_unit(layer, 1, 2)
        layer.weight[5], layer.bias[5] = 0.0, 0.0
    model.norm.weight[4] = model.norm.weight[1]


@pytest.mark.parametrize("bias", [True, False])
def test_a_stream_with_layer_norm_is_left_alone(bias):
    model = Gated(lambda n: nn.LayerNorm(n, bias=bias))
    plant_stream(model)
    new, report = compressed(model, cross_entropy, BATCH)
    assert size(new) == size(model)
    (note,) = [n for n in report.table.note if n]
    assert note == "2 stay: the layer norm reads all units at once"


def test_a_stream_with_a_root_mean_square_norm_is_not():
    model = Gated(nn.RMSNorm)
    plant_stream(model)
    new, report = compressed(model, cross_entropy, BATCH)
    assert new.put.out_features == 3
    assert new.norm.normalized_shape == (3,)


# --- convolutions --------------------------------------------------------------------


class Convolutions(nn.Module):
    """Depthwise and pointwise convolutions with batch norm; a flattened map."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(6, 6, 3, groups=6)
        self.norm, self.c = nn.BatchNorm2d(6), nn.Conv2d(6, 8, 1)
        self.d = nn.Linear(8 * 4 * 4, 3)

    def forward(self, x):
        x = self.c(self.b(self.norm(self.a(x)).relu()).relu()).sigmoid()
        return self.d(functional.max_pool2d(x, 2).flatten(1))


IMAGES = (random(4, 3, 12, 12), torch.arange(4) % 3)


class Widths(nn.Module):
    """Two widths, of which one becomes what the other was."""

    def __init__(self):
        super().__init__()
        self.hidden_size, self.inner_dim = 8, 7
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 7)
        self.c = nn.Linear(7, 3)

    def forward(self, x):
        x = self.b(self.a(x).tanh().view(-1, self.hidden_size)).relu()
        return self.c(x.view(-1, self.inner_dim))


def test_widths_that_the_module_keeps_are_not_mixed_up():
    model = Widths()
    equal_unit(model.a, 0, 3)
    equal_unit(model.b, 0, 3)
    new, _ = compressed(model, cross_entropy, BATCH)
    assert (new.hidden_size, new.inner_dim) == (7, 6)


@torch.no_grad()
def generic_norms(model) -> None:
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(std=0.1), m.running_var.uniform_(0.5, 1.5)
            m.weight.uniform_(0.5, 1.5), m.bias.normal_()


@torch.no_grad()
def same_channel(layers, i: int, j: int) -> None:
    for layer in layers:
        own = [layer.weight, getattr(layer, "bias", None)]
        own += [getattr(layer, "running_mean", None)]
        own += [getattr(layer, "running_var", None)]
        for t in own:
            if t is not None:
                t[j] = t[i] if i >= 0 else 0.0


def test_convolutions_norms_depthwise_and_flattened():
    model = Convolutions()
    generic_norms(model)
    model.eval()
    same_channel([model.a, model.norm, model.b], 0, 4)
    same_channel([model.a, model.norm, model.b], -1, 2)
    with torch.no_grad():
        model.b.weight[4], model.b.bias[4] = 2 * model.b.weight[0], 2 * model.b.bias[0]
    same_channel([model.c], 1, 6)
    same_channel([model.c], -1, 7)  # sigmoid: a constant map
    new, report = compressed(model, cross_entropy, IMAGES)
    assert (new.a.out_channels, new.norm.num_features) == (4, 4)
    assert (new.b.groups, new.b.in_channels, new.b.out_channels) == (4, 4, 4)
    assert (new.c.in_channels, new.c.out_channels, new.d.in_features) == (4, 6, 96)
    assert report.table.constant.sum() == 1


class Scaled(nn.Module):
    """A gain for each input, and a softmax over hidden units."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(5))
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.second(self.first(x * self.gain).softmax(-1))


def test_equal_gains_of_inputs_make_no_copies_and_a_softmax_reads_all():
    model = Scaled()
    equal_unit(model.first, 1, 2)
    new, report = compressed(model, cross_entropy, BATCH)
    assert size(new) == size(model)
    notes = [n for n in report.table.note if n]
    assert notes == ["1 stay: the softmax reads all units at once"]


def test_groups_of_a_convolution_keep_one_width():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 64, 3),
    )  # fmt: skip
    same_channel([model[0]], 0, 1)
    new, report = compressed(model, cross_entropy, IMAGES)
    assert new[0].out_channels == 8
    assert "same number of units" in " ".join(report.table.note)
    same_channel([model[0]], 0, 2)
    same_channel([model[0]], 4, 6)  # two of the first four, one of the others
    new, _ = compressed(model, cross_entropy, IMAGES)
    assert (new[0].out_channels, new[2].in_channels, new[2].groups) == (6, 6, 2)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_resnet18_loses_the_planted_channels_and_no_others():
    model = torchvision().models.resnet18(num_classes=10)
    generic_norms(model)
    model.eval()
    get = model.get_submodule
    stream = [get(f"layer4.{n}") for n in ("0.conv2", "0.bn2", "0.downsample.0",
              "0.downsample.1", "1.conv2", "1.bn2")]  # fmt: skip
    same_channel(stream, 3, 7)
    same_channel(stream, -1, 9)
    same_channel([get("layer1.0.conv1"), get("layer1.0.bn1")], 5, 6)
    same_channel([get("layer2.1.conv1"), get("layer2.1.bn1")], -1, 11)
    x = torch.randn(2, 3, 32, 32)
    new, report = compressed(model, cross_entropy, (x, torch.tensor([1, 2])))
    gone = report.table[report.table.before != report.table.after]
    assert sorted(gone.before - gone.after) == [1, 1, 2]
    assert (new.fc.in_features, new.layer4[1].conv1.in_channels) == (510, 510)
    of_stream = 2 * (256 + 3 * 512 * 9 + 10) + 3 * 2 * 2
    inner = 2 * (64 * 9 + 1) + 2 * (128 * 9 + 1)
    assert report.parameters[0] - report.parameters[1] == of_stream + inner


# --- decoders ------------------------------------------------------------------------

TOKENS = torch.arange(30).view(3, 10) * 7 % 11


@torch.no_grad()
def stirred(model):
    """Initial weights of transformers are too small to tell anything apart."""
    draws = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.add_(0.3 * torch.randn(p.shape, generator=draws))
    return model.eval()


def hugging_face(name: str, **sizes):
    torchvision()  # before transformers, which imports it
    import transformers

    config = getattr(transformers, f"{name}Config")(
        vocab_size=11, use_cache=False, bos_token_id=0, eos_token_id=0, **sizes
    )
    kind = {"GPT2": "GPT2LMHeadModel", "Qwen3": "Qwen3ForCausalLM"}[name]
    return stirred(getattr(transformers, kind)(config))


def gpt2():
    return hugging_face("GPT2", n_positions=16, n_embd=16, n_layer=2, n_head=2)


def qwen3(**more):
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6}
    return hugging_face("Qwen3", **sizes, **more)


@torch.no_grad()
def project(rank: int, *tensors, axis: int = 0) -> None:
    """The tensors lose rank along an axis, all in the same directions."""
    n = tensors[0].shape[axis]
    keep = torch.linalg.qr(torch.randn(n, rank))[0]
    for t in tensors:
        t.copy_((keep @ keep.T @ t.movedim(axis, 0)).movedim(0, axis))


def test_gpt2_loses_units_and_the_width_of_its_heads():
    """c_attn has queries, keys and values in one matrix: they keep one width."""
    model = gpt2()
    first, second = model.transformer.h
    with torch.no_grad():
        for j in (3, 9):
            first.mlp.c_fc.weight[:, j] = first.mlp.c_fc.weight[:, 7]
            first.mlp.c_fc.bias[j] = first.mlp.c_fc.bias[7]
        second.mlp.c_proj.weight[5] = 0.0
    w, b = second.attn.c_attn.weight, second.attn.c_attn.bias
    for h in (0, 8):
        project(5, w[:, 32 + h : 40 + h].T, b[32 + h : 40 + h])
        project(6, *(t for o in (h, 16 + h) for t in (w[:, o : o + 8].T, b[o : o + 8])))
        of_first = first.attn.c_attn  # its queries and keys have full rank
        project(
            5, of_first.weight[:, 32 + h : 40 + h].T, of_first.bias[32 + h : 40 + h]
        )
    new, report = compressed(model, next_token, TOKENS)
    first, second = new.transformer.h
    assert (first.mlp.c_fc.nf, second.mlp.c_proj.nx) == (62, 63)
    assert (first.attn.head_dim, second.attn.head_dim) == (8, 6)
    assert (second.attn.split_size, second.attn.c_attn.nf) == (12, 36)
    gone = 3 * (2 * 16 + 1) + 4 * (4 * 16 + 3)
    assert report.parameters[0] - report.parameters[1] == gone
    assert report.table.note.str.contains("fixes this width").sum() == 1
    assert new.lm_head.weight is new.transformer.wte.weight


def test_a_configuration_follows_where_all_layers_agree():
    model = gpt2()
    with torch.no_grad():
        for block in model.transformer.h:
            block.mlp.c_proj.weight[5] = 0.0
    new, _ = compressed(model, next_token, TOKENS)
    again = type(model)(new.config)
    again.load_state_dict(new.state_dict())
    assert torch.equal(again.eval()(TOKENS).logits, new(TOKENS).logits)


def test_heads_that_are_dead_or_attend_alike():
    model = gpt2()
    first, second = (block.attn for block in model.transformer.h)
    with torch.no_grad():
        first.c_proj.weight[8:] = 0.0
        for o in (0, 16, 32):  # the outputs of both heads differ
            second.c_attn.weight[:, o + 8 : o + 16] = second.c_attn.weight[:, o : o + 8]
            second.c_attn.bias[o + 8 : o + 16] = second.c_attn.bias[o : o + 8]
    new, report = compressed(model, next_token, TOKENS)
    assert [b.attn.num_heads for b in new.transformer.h] == [1, 1]
    assert report.parameters[0] - report.parameters[1] == 2 * 8 * (4 * 16 + 3)


def test_equal_patterns_with_values_of_their_own_stay_apart():
    """The sum of both outputs has rank 16, a head has a width of 8."""
    model = gpt2()
    attn = model.transformer.h[0].attn
    with torch.no_grad():
        for o in (0, 16):
            attn.c_attn.weight[:, o + 8 : o + 16] = attn.c_attn.weight[:, o : o + 8]
            attn.c_attn.bias[o + 8 : o + 16] = attn.c_attn.bias[o : o + 8]
    new, report = compressed(model, next_token, TOKENS)
    assert size(new) == size(model)
    assert report.table.note.str.contains("1 stay: undone").sum() == 1


def test_qwen3_loses_units_and_groups_of_heads():
    model = qwen3()
    first, second = model.model.layers
    with torch.no_grad():
        first.mlp.gate_proj.weight[5] = first.mlp.gate_proj.weight[2]
        first.mlp.up_proj.weight[5] = -2.0 * first.mlp.up_proj.weight[2]
        second.mlp.down_proj.weight[:, 9] = 0.0
        second.mlp.up_proj.weight[4] = 0.0
        first.self_attn.o_proj.weight[:, 12:] = 0.0  # two heads of one key and value
        project(4, second.self_attn.v_proj.weight)  # rotary: the width stays
    new, report = compressed(model, next_token, TOKENS)
    first, second = new.model.layers
    assert [x.mlp.intermediate_size for x in (first, second)] == [23, 22]
    assert first.self_attn.k_proj.out_features == 6
    assert first.self_attn.q_proj.out_features == 12
    gone = 3 * 3 * 16 + 12 * 2 * 16 + 6 * 2 * 16
    assert report.parameters[0] - report.parameters[1] == gone


@pytest.mark.parametrize("tied", [False, True])
def test_units_of_a_stream_with_root_mean_square_norms(tied):
    """Unit 3 is zero, unit 5 is unit 2: one of twice the square takes their place."""
    model = qwen3(tie_word_embeddings=tied)
    norms = [m for n, m in model.named_modules() if n.endswith("norm") and "_" not in n]
    writers = [model.model.embed_tokens.weight.T]
    for layer in model.model.layers:
        writers += [layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight]
        norms += [layer.input_layernorm, layer.post_attention_layernorm]
    with torch.no_grad():
        for w in [*writers, *(m.weight for m in norms)]:
            w[5] = w[2]
        for w in writers:
            w[3] = 0.0
    new, report = compressed(model, next_token, TOKENS)
    assert new.model.norm.weight.shape == (14,)
    assert new.config.hidden_size == 14
    assert (new.lm_head.weight is new.model.embed_tokens.weight) is tied
    per_layer = 2 * (12 + 6) * 2 + 3 * 24 + 2
    gone = 2 * per_layer + 1 + 11 * (1 if tied else 2)
    assert report.parameters[0] - report.parameters[1] == 2 * gone


def test_our_own_decoder_loses_heads_units_and_a_stream_unit():
    config = preset("dense-small", vocabulary=11, context=16)
    sizes = {"width": 16, "heads": 4, "kv_heads": 2, "head_width": 4, "hidden": 24}
    config = replace(config, layers=1, **sizes)
    model = stirred(Decoder(config, torch.Generator().manual_seed(0)))
    block = model.blocks[0]
    with torch.no_grad():
        block.feed.gate.weight[3] = block.feed.gate.weight[5]
        block.feed.up.weight[3] = block.feed.up.weight[5]
        block.attention.out.weight[:, 8:] = 0.0
        for t in (model.embedding.weight.T, block.attention.out.weight):
            t[7] = 0.0
        block.feed.down.weight[7] = 0.0
    new, _ = compressed(model, next_token, TOKENS)
    block = new.blocks[0]
    assert (block.attention.query.out_features, block.attention.key.out_features) == (
        8,
        4,
    )
    assert (block.feed.gate.out_features, new.embedding.embedding_dim) == (23, 15)


def test_torchs_encoder_layer_keeps_its_heads():
    layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True)
    model = stirred(nn.Sequential(layer, nn.Linear(16, 3)))
    nn.init.ones_(layer.norm1.weight)  # equal gains make no copies
    nn.init.zeros_(layer.norm1.bias)
    equal_unit(layer.linear1, 1, 2)
    with torch.no_grad():
        layer.self_attn.out_proj.weight[:, 4:8] = 0.0
    loss = lambda model, b: functional.mse_loss(model(b[0]), b[1])  # noqa: E731
    new, report = compressed(model, loss, (random(2, 5, 16), random(2, 5, 3)))
    assert (new[0].linear1.out_features, new[0].self_attn.num_heads) == (23, 4)
    assert report.table.note.str.contains("fixes this width").sum() == 1


class Attention(nn.Module):
    """Heads of any width, scaled by the root of their width."""

    def __init__(self, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(16, 16, bias=False) for _ in range(3))
        self.o, self.norm = nn.Linear(16, 16), nn.LayerNorm(16)

    def forward(self, x):
        q, k, v = (
            f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for f in (self.q, self.k, self.v)
        )
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.norm(self.o(y.transpose(1, 2).flatten(2)))


def test_equal_heads_become_one():
    """They need equal products only, and here each has factors of its own."""
    model = Attention(heads=4)
    turn = 2.0 * torch.linalg.qr(torch.randn(4, 4))[0]
    with torch.no_grad():
        for a, b in ((0, 12), (4, 8)):
            for layer, matrix in ((model.q, turn), (model.k, turn.inverse().T)):
                layer.weight[b : b + 4] = matrix @ layer.weight[a : a + 4]
            model.v.weight[b : b + 4] = model.v.weight[a : a + 4]
    loss = lambda model, b: functional.mse_loss(model(b[0]), b[1])  # noqa: E731
    new, _ = compressed(model, loss, (random(2, 5, 16), random(2, 5, 16)))
    assert (new.heads, new.q.out_features, new.o.in_features) == (2, 8, 8)


def test_a_width_that_scales_the_products():
    """Queries and keys lose other directions than each other, which is enough."""
    model = Attention(heads=2)
    for h in (slice(0, 8), slice(8, 16)):
        project(5, model.q.weight[h])
        project(7, model.k.weight[h])
        project(3, model.o.weight[:, h], axis=1)
    loss = lambda model, b: functional.mse_loss(model(b[0]), b[1])  # noqa: E731
    new, report = compressed(model, loss, (random(2, 5, 16), random(2, 5, 16)))
    assert [f.out_features for f in (new.q, new.k, new.v)] == [10, 10, 6]
    assert new.o.in_features == 6


# --- what comes out ------------------------------------------------------------------


def planted() -> nn.Sequential:
    model = mlp()
    equal_unit(model[0], 0, 3)
    equal_unit(model[2], 1, 5, 2.0)
    return model


def test_the_result_is_an_ordinary_module():
    new, _ = compressed(planted(), cross_entropy, BATCH)
    for again in (copy.deepcopy(new), pickle.loads(pickle.dumps(new))):
        assert torch.equal(again(BATCH[0]), new(BATCH[0]))
    fresh = nn.Sequential(
        nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    fresh.load_state_dict(new.state_dict())
    assert torch.equal(fresh(BATCH[0]), new(BATCH[0]))
    optimizer = torch.optim.SGD(new.parameters(), 0.1)
    before = cross_entropy(new, BATCH).item()
    for _ in range(20):
        optimizer.zero_grad()
        cross_entropy(new, BATCH).backward()
        optimizer.step()
    assert cross_entropy(new, BATCH).item() < before


def test_types_and_what_is_trained_stay():
    model = planted()
    model[0].weight.requires_grad_(False)
    new, _ = compressed(model, cross_entropy, BATCH)
    assert new[0].out_features == 7
    assert [p.requires_grad for p in new.parameters()] == [False] + 5 * [True]
    half = planted().bfloat16()
    new, _ = compress(half, lambda m, b: functional.cross_entropy(
        m(b[0].to(m[0].weight.dtype)).float(), b[1]), BATCH)  # fmt: skip
    assert new[2].weight.shape == (8, 7)
    assert new[2].weight.dtype == torch.bfloat16


class Sized(nn.Module):
    """Raw parameters; forward reads their width, or has it as a number."""

    def __init__(self, fixed: bool):
        super().__init__()
        self.first, self.bias = nn.Parameter(random(5, 8)), nn.Parameter(random(8))
        self.second, self.units, self.longest = nn.Parameter(random(8, 3)), 8, 8
        self.fixed = fixed

    def forward(self, x):
        x = (x @ self.first + self.bias).tanh()
        return x.view(-1, 8 if self.fixed else self.units) @ self.second


@pytest.mark.parametrize("fixed", [False, True])
def test_a_width_in_the_code_of_a_module(fixed):
    model = Sized(fixed)
    with torch.no_grad():
        model.first[:, 4], model.bias[4] = model.first[:, 2], model.bias[2]
        model.second[5] = 0.0
    new, report = compressed(model, cross_entropy, BATCH)
    assert len(new.second) == (8 if fixed else 6)
    assert ("the model's code fixes this width" in str(report)) is fixed


def test_a_reduction_that_changes_the_outputs_is_undone():
    """At the border a padded convolution reads 0 where the constant unit has 1/2."""
    for padding in (0, 1):
        model = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.Sigmoid(), nn.Conv2d(6, 4, 3, padding=padding),
            nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
        )  # fmt: skip
        with torch.no_grad():
            model[0].weight[2] = 0.0
        new, report = compressed(model, cross_entropy, IMAGES)
        assert new[0].out_channels == 6 - (not padding)
        assert ("1 stay: undone" in report.table.note[0]) is bool(padding)


def test_a_penalty_on_the_weights_is_part_of_the_loss():
    def loss(model, batch):
        squares = sum(p.square().sum() for p in model.parameters())
        return cross_entropy(model, batch) + 0.01 * squares

    new, _ = compressed(planted(), loss, BATCH)
    assert new[0].out_features == 8


def test_changes_of_the_loss_shapes_and_outputs_are_seen():
    one, zero, x = torch.ones(()), torch.zeros(()), torch.tensor([1.0, -4.0])
    assert compared((one, [x]), (one, [x]))[0] == 0.0
    assert compared((one, [x]), (1.5 * one, [x]))[0] == 0.5
    assert compared((zero, [x]), (zero, [x + 1.0]))[0] == 0.25
    assert compared((one, [x]), (one, [x[:1]]))[0] == float("inf")
    assert compared((one, [x]), (one, [x * float("nan")]))[0] == float("inf")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tolerance", [1e-3, 0.1])
def test_a_tolerance_is_a_bound(seed, tolerance):
    torch.manual_seed(seed)
    model = mlp(*[(nn.Tanh, nn.ReLU), (nn.GELU, nn.Identity), (nn.ReLU, nn.Tanh)][seed])
    with torch.no_grad():
        model[0].weight[3] = model[0].weight[1] + 1e-4 * torch.randn(5)
        model[0].bias[3] = model[0].bias[1]
        model[2].weight[4] *= 1e-4
        model[4].weight[:, 7] *= 1e-5
    exact, _ = compressed(model, cross_entropy, BATCH)
    new, report = compressed(model, cross_entropy, BATCH, tolerance=tolerance)
    assert size(new) < size(exact)
    assert 0 < report.change <= tolerance
    assert report.table.approximated.sum() >= 1


def test_digits_trained_with_weight_decay_keep_their_accuracy():
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16.0).float(), torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.2, 0.9, weight_decay=0.01)
    for _ in range(400):
        optimizer.zero_grad()
        cross_entropy(model, (x, y)).backward()
        optimizer.step()
    new, report = compressed(model, cross_entropy, (x, y))
    assert new[0].out_features < 64
    assert torch.equal(new(x).argmax(1), model(x).argmax(1))
    assert report.parameters[1] == new[0].out_features * (65 + 10) + 10


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf"), "small"])
def test_a_tolerance_that_is_none(tolerance):
    with pytest.raises(ValueError, match="tolerance must be a number from 0 up"):
        compress(mlp(), cross_entropy, BATCH, tolerance=tolerance)
