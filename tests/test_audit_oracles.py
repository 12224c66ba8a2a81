"""The audit against two published answers to the same question.

Torch-Pruning (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023)
finds which channels must be removed together: those of one hidden index. Git Re-Basin
(Ainsworth, Hayase and Srinivasa, ICLR 2023, arXiv 2209.04836) lists by hand which axes
of a VGG16 and of a ResNet20 share a permutation.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional

from symlab.mirror import audit
from symlab.models.vision import torchvision
from tests.mirror_truth import Atom, atoms_of

EXCHANGE = ("permutation", "signed permutation", "rotation")
Indices = set[frozenset[Atom]]


def cross_entropy(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def audited(model: nn.Module, side: int) -> Indices:
    """The atoms of each row whose units may be exchanged."""
    batch = (torch.randn(3, 3, side, side), torch.arange(3))
    table = audit(model, cross_entropy, batch)
    heads = table.symmetry.str.contains("heads")
    kept = table[table.symmetry.str.startswith(EXCHANGE) & ~heads]
    return {atoms_of(text, model) for text in kept.parameters}


def assert_identical(ours: Indices, theirs: Indices) -> None:
    def some(sets):
        return "\n".join(
            ", ".join(sorted({f"{n}:{a}" for n, a, _ in s})) for s in list(sets)[:5]
        )

    assert not theirs - ours, f"not found:\n{some(theirs - ours)}"
    assert not ours - theirs, f"not in theirs:\n{some(ours - theirs)}"


# --- Torch-Pruning -------------------------------------------------------------------


def pruning_groups(model: nn.Module, side: int) -> Indices:
    """The channels that Torch-Pruning would remove together, as atoms.

    A group lists what is to be done to modules: remove outputs `idxs` of one, inputs of
    another. The outputs of a module are axis 0 of its weight and its bias, the inputs
    are axis 1 of its weight. Batch norm and depthwise convolutions have one number or
    kernel for each channel, on axis 0. Classes stay: the last layer is left out.
    """
    pruning = pytest.importorskip("torch_pruning")
    names = {m: n for n, m in model.named_modules()}
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    graph = pruning.DependencyGraph().build_dependency(
        model, example_inputs=torch.randn(1, 3, side, side)
    )
    found = set()
    for group in graph.get_all_groups(ignored_layers=[last]):
        atoms = set()
        for dependency, positions in group:
            module = dependency.target.module
            if not hasattr(module, "weight") or module not in names:
                continue  # an addition, an activation, a concatenation
            outputs = graph.is_out_channel_pruning_fn(dependency.handler)
            single = module.weight.ndim == 1 or getattr(module, "groups", 1) > 1
            axis = 0 if outputs or single else 1
            owned = ["weight", "bias"] if axis == 0 else ["weight"]
            for name in owned:
                if getattr(module, name) is not None:
                    full = f"{names[module]}.{name}"
                    atoms |= {(full, axis, int(p)) for p in positions}
        found.add(frozenset(atoms))
    return found


def narrow_vgg(models) -> nn.Module:
    """VGG11 with batch norm: all of its layers, an eighth of the width."""
    widths = [8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"]
    layers = models.vgg.make_layers(widths, batch_norm=True)
    classifier = nn.Sequential(
        *(nn.Linear(64 * 49, 48), nn.ReLU(), nn.Dropout()),
        *(nn.Linear(48, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10)),
    )
    return nn.Sequential(layers, nn.AdaptiveAvgPool2d(7), nn.Flatten(), classifier)


def make(name: str) -> tuple[nn.Module, int]:
    """The network and the side of its images."""
    models = torchvision().models
    return {
        "resnet18": lambda: (models.resnet18(num_classes=10), 32),
        "vgg11_bn": lambda: (narrow_vgg(models), 32),
        "mobilenet_v3_small": lambda: (models.mobilenet_v3_small(num_classes=10), 64),
        "densenet": lambda: (
            models.DenseNet(
                growth_rate=8, block_config=(3, 4, 3), num_init_features=16,
                num_classes=10),
            32,
        ),
        "resnet50": lambda: (
            models.ResNet(
                models.resnet.Bottleneck, [3, 4, 6, 3], num_classes=10,
                width_per_group=16),
            32,
        ),
    }[name]()  # fmt: skip


SLOW = ("resnet50", "vgg11_bn", "mobilenet_v3_small")
LONG = [pytest.param(n, marks=pytest.mark.long) for n in SLOW]
NETWORKS = ("resnet18", "densenet", *LONG)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_torch_pruning_couples_the_same_channels(name):
    torch.manual_seed(0)
    model, side = make(name)
    theirs = pruning_groups(model.eval(), side)
    assert_identical(audited(model, side), theirs)


@pytest.mark.filterwarnings("ignore")
def test_the_groups_of_resnet18_by_hand():
    """Four streams of 64 to 512 channels; in each of eight blocks one inner layer."""
    model, side = make("resnet18")
    groups = pruning_groups(model.eval(), side)
    blocks = [f"layer{i}.{j}" for i in range(1, 5) for j in range(2)]
    expected = {
        whole(model, f"{b}.conv1.weight:0", f"{b}.bn1.weight:0", f"{b}.bn1.bias:0",
              f"{b}.conv2.weight:1")
        for b in blocks
    }  # fmt: skip
    for i in range(1, 5):
        read = [f"layer{i}.0.conv1.weight:1"] * (i == 1)
        read += [f"layer{i}.1.conv1.weight:1"]
        more = [f"layer{i + 1}.0.{n}.weight:1" for n in ("conv1", "downsample.0")]
        read += more if i < 4 else ["fc.weight:1"]
        writers = [(f"layer{i}.{j}.conv2", f"layer{i}.{j}.bn2") for j in range(2)]
        if i == 1:
            writers.append(("conv1", "bn1"))
        else:
            first = f"layer{i}.0.downsample"
            writers.append((f"{first}.0", f"{first}.1"))
        expected.add(whole(model, *written(*writers), *read))
    assert len(expected) == 12
    assert groups == expected


# --- Git Re-Basin --------------------------------------------------------------------


def whole(model: nn.Module, *axes: str) -> frozenset[Atom]:
    """The atoms of whole axes, each as 'conv1.weight:0'."""
    return atoms_of(", ".join(axes), model)


def written(*layers: tuple[str, str]) -> list[str]:
    """Axes of convolutions without bias, each with a norm behind it."""
    return [
        axis
        for conv, norm in layers
        for axis in (f"{conv}.weight:0", f"{norm}.weight:0", f"{norm}.bias:0")
    ]


class ChannelNorm(nn.LayerNorm):
    """flax's LayerNorm of images: over the channels of each pixel."""

    def forward(self, x):  # (N, C, H, W)
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class VGG16(nn.Module):
    """The VGG16 of Git Re-Basin, an eighth as wide; a 32 x 32 image ends as one pixel.

    Convolution, layer norm over channels, relu; three linear layers at the end.
    """

    def __init__(self):
        super().__init__()
        widths = [8, 8, 16, 16, 32, 32, 32, *[64] * 6]
        pairs = zip([3, *widths], widths, strict=False)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs)
        self.norms = nn.ModuleList(ChannelNorm(n) for n in widths)
        sizes = ((64, 40), (40, 24), (24, 10))
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in sizes)

    def forward(self, x):
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x)).relu()
            if i in (1, 3, 6, 9, 12):
                x = functional.max_pool2d(x, 2)
        x = x.flatten(1)
        return self.dense[2](self.dense[1](self.dense[0](x).relu()).relu())


def vgg16_axes() -> list[list[str]]:
    """15 permutations: of 13 convolutions and of two hidden linear layers.

    Each is on the layer's outputs and bias, on the norm behind it, and on the inputs of
    the next layer.
    """
    layers = [f"convs.{i}" for i in range(13)] + [f"dense.{i}" for i in range(3)]
    out = []
    for i, (layer, following) in enumerate(zip(layers, layers[1:], strict=False)):
        norm = [f"norms.{i}.weight:0", f"norms.{i}.bias:0"] if i < 13 else []
        axes = [f"{layer}.weight:0", f"{layer}.bias:0", *norm, f"{following}.weight:1"]
        out.append(axes)
    return out


class Block(nn.Module):
    """Two convolutions beside a skip; a wider block has a convolution in the skip."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, width, 3, stride, padding=1, bias=False),
                ChannelNorm(width),
            )

    def forward(self, x):
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (y + self.shortcut(x)).relu()


class ResNet20(nn.Module):
    """The ResNet20 of Git Re-Basin, half as wide: three groups of three blocks."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm1 = ChannelNorm(8)
        self.groups = nn.ModuleList()
        before = 8
        for width, stride in ((8, 1), (16, 2), (32, 2)):
            self.groups.append(nn.Sequential(
                Block(before, width, stride), Block(width, width, 1),
                Block(width, width, 1)))  # fmt: skip
            before = width
        self.dense = nn.Linear(32, 10)

    def forward(self, x):
        x = self.norm1(self.conv1(x)).relu()
        for group in self.groups:
            x = group(x)
        return self.dense(x.mean((2, 3)))


def resnet20_axes() -> list[list[str]]:
    """12 permutations: one inside of each block, and one stream for each group.

    A group's stream is written by its blocks' second convolutions, and by the first
    convolution of all or by the shortcut of its first block. It is read by its blocks'
    first convolutions, but not by that of a block with a shortcut, which reads, as the
    shortcut does, the stream before.
    """
    out = []
    for i in range(3):
        blocks = [f"groups.{i}.{j}" for j in range(3)]
        for b in blocks:
            inner = written((f"{b}.conv1", f"{b}.norm1"))
            out.append([*inner, f"{b}.conv2.weight:1"])
        start = ("conv1", "norm1")
        if i:
            start = (f"{blocks[0]}.shortcut.0", f"{blocks[0]}.shortcut.1")
        stream = written(start, *[(f"{b}.conv2", f"{b}.norm2") for b in blocks])
        stream += [f"{b}.conv1.weight:1" for b in blocks[(i > 0) :]]
        following = f"groups.{i + 1}.0"
        if i < 2:
            stream.append(f"{following}.conv1.weight:1")
            stream.append(f"{following}.shortcut.0.weight:1")
        else:
            stream.append("dense.weight:1")
        out.append(stream)
    return out


@pytest.mark.parametrize(
    ("network", "axes", "count"),
    [(VGG16, vgg16_axes, 15), (ResNet20, resnet20_axes, 12)],
)
def test_git_re_basin_lists_the_same_axes(network, axes, count):
    torch.manual_seed(0)
    model = network()
    theirs = {whole(model, *listed) for listed in axes()}
    assert len(theirs) == count
    assert_identical(audited(model, 32), theirs)
