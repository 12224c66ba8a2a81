"""symlab.mirror.compress: the same function with exactly the planted units gone."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

from symlab.mirror import compress
from symlab.mirror.search import Search, compared, double, outputs
from symlab.models.vision import torchvision


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
    assert type(new) is type(model) and str(report)
    return new, report


# --- layers one after another --------------------------------------------------------

BATCH = (torch.randn(32, 5), torch.arange(32) % 3)


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
    model = mlp()
    with torch.no_grad():
        model[4].weight[:, 2:] = 0.0
        model[2].weight[:2, 5] = 0.0
    new, _ = compressed(model, cross_entropy, BATCH)
    assert (new[0].out_features, new[2].out_features) == (7, 2)


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
    assert compressed(model, cross_entropy, BATCH)[0][2].out_features == 9
    new, report = compressed(model, cross_entropy, BATCH, silent=True)
    assert (new[2].out_features, row(report, "2.weight:0").silent) == (8, 1)


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
    """Unit 4 of the stream is unit 1, unit 5 is zero."""
    for layer in (model.put, model.down):
        equal_unit(layer, 1, 4)
        layer.weight[5], layer.bias[5] = 0.0, 0.0
    model.norm.weight[4] = model.norm.weight[1]


def test_a_stream_with_layer_norm_is_left_alone():
    model = Gated(nn.LayerNorm)
    plant_stream(model)
    new, report = compressed(model, cross_entropy, BATCH)
    assert size(new) == size(model)
    (note,) = [n for n in report.table.note if n]
    assert note == "2 stay: the layer norm reads all units at once"


def test_a_stream_with_a_root_mean_square_norm_is_not():
    model = Gated(nn.RMSNorm)
    plant_stream(model)
    new, report = compressed(model, cross_entropy, BATCH)
    assert new.put.out_features == 4
    assert new.norm.normalized_shape == (4,)


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


IMAGES = (torch.randn(4, 3, 12, 12), torch.arange(4) % 3)


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


def test_groups_of_a_convolution_keep_one_width():
    def grouped():
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3, groups=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(8 * 64, 3))  # fmt: skip

    model = grouped()
    same_channel([model[0]], 0, 1)
    new, report = compressed(model, cross_entropy, IMAGES)
    assert new[0].out_channels == 6
    assert "same number of units" in " ".join(report.table.note)
    same_channel([model[0]], 3, 5)
    new, _ = compressed(model, cross_entropy, IMAGES)
    assert (new[0].out_channels, new[2].in_channels, new[2].groups) == (4, 4, 2)


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
    of_stream = 2 * (256 * 9 + 256 + 512 * 9 * 2 + 2 * 3) + 2 * (510 * 9 + 10)
    assert new.fc.in_features == 510 and new.layer4[1].conv1.in_channels == 510
    inner = 2 * 64 * 9 + 2 + 2 * 128 * 9 + 2
    expected = 2 * (256 * 9 + 256 + 512 * 9 + 512 * 9) + 2 * 6 + 2 * (512 * 9 + 10)
    assert report.parameters[0] - report.parameters[1] == expected + inner
    del of_stream
