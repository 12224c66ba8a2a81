"""A zoo of small networks that learned handwritten digits, in groups trained together.

Matching and merging need several networks of one architecture that differ only in their
initialisation and the order of their data. `train` trains a group of them in one
batched program, and returns arrays, so that `Context.shared` can keep the group for all
runs that ask for it. The data are scikit-learn's 1,797 digits of 8x8 pixels.

With `fixed` > 0 the networks are W-asymmetric (Lim et al., "The Empirical Impact of
Neural Parameter Symmetries, or Lack Thereof", arXiv 2405.20231): in every row of every
weight matrix some entries are constants that all networks of the group share, so that
permuting hidden units is no longer a symmetry.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from symlab.harness import rng

PIXELS, CLASSES, N_TRAIN = 64, 10, 1400
NOISE = 0.1  # standard deviation of the noise on training inputs, which lie in [0, 1]
BATCH, LR = 64, 1e-3
SMALLER = (0.5, 1.0)  # size of the constants of the last layer, and of all others


@dataclass(frozen=True)
class Digits:
    """A split of scikit-learn's handwritten digits into training and test images.

    x, y: the training images, float32 (N, 64), 8x8 pixels in [0, 1], and their labels,
        int64 (N,).
    x_test, y_test: the same for testing.
    """

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor

    @property
    def train(self) -> tuple[Tensor, Tensor]:
        """The training set as a batch (x, y)."""
        return self.x, self.y

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """The test set as a batch (x_test, y_test)."""
        return self.x_test, self.y_test


def digits(seed: int) -> Digits:
    """Return 1,400 training and 397 test digits.

    seed: of the random split.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = rng.stream(seed, "split").permutation(len(labels))
    x = torch.from_numpy(pixels[order].astype(np.float32)) / 16
    y = torch.from_numpy(labels[order]).long()
    return Digits(x[:N_TRAIN], y[:N_TRAIN], x[N_TRAIN:], y[N_TRAIN:])


class PartlyFixed(nn.Linear):
    """A linear layer in which some weights are constants and not trained.

    The weight is the trained `weight` at entries where the mask `free` (out, in) is 1,
    and the constant in `constants` (out, in) at all others.
    """

    def __init__(self, inputs: int, outputs: int, free: Tensor, constants: Tensor):
        super().__init__(inputs, outputs)
        self.register_buffer("free", free)
        self.register_buffer("constants", constants)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.free + self.constants * (1 - self.free)
        return functional.linear(x, weight, self.bias)


def sizes(width: int, layers: int) -> list[tuple[int, int]]:
    """Return (inputs, outputs) of each linear layer of a network of the zoo.

    width: units of a hidden layer. layers: the number of hidden layers.
    """
    ends = [PIXELS, *[width] * layers, CLASSES]
    return list(zip(ends, ends[1:], strict=False))


def constants(
    width: int, layers: int, fixed: float, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """Return for each layer which weights are trained, and the values of the others.

    width, layers: units of a hidden layer, and the number of those layers.
    fixed: the fraction of constants in each row, at random places; in the last layer it
        is one half, as in the authors' code (lmc/train-mlp-mnist.py). Values are
        normal.
    seed: of places and values.

    The result has a pair (free, constants) per layer, both (out, in); `free` is 1 for a
    trained weight and 0 for a constant.
    """
    draws, found = rng.stream(seed, "fixed weights"), []
    shapes = sizes(width, layers)
    for number, (inputs, outputs) in enumerate(shapes):
        last = number == len(shapes) - 1
        n = round(inputs * (0.5 if last and fixed else fixed))
        place = draws.random((outputs, inputs)).argsort(1).argsort(1)
        value = SMALLER[not last] * draws.normal(size=(outputs, inputs))
        free = torch.from_numpy((place >= n).astype(np.float32))
        found.append((free, torch.from_numpy(value.astype(np.float32))))
    return found


def network(width: int, layers: int, fixed: float = 0.0, seed: int = 0) -> nn.Module:
    """Return an untrained network of relu layers, (N, 64) -> (N, 10).

    width, layers: units of a hidden layer, and the number of those layers.
    fixed, seed: the fraction of constant weights, and the seed of these.
    """
    kept = constants(width, layers, fixed, seed) if fixed else None
    parts: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(sizes(width, layers)):
        if kept is None:
            parts.append(nn.Linear(inputs, outputs))
        else:
            parts.append(PartlyFixed(inputs, outputs, *kept[number]))
        parts.append(nn.ReLU())
    return nn.Sequential(*parts[:-1]).eval()


def members(
    arrays: Mapping[str, np.ndarray], fixed: float = 0.0, seed: int = 0
) -> list[nn.Module]:
    """Return the networks of a group from the arrays that `train` returned.

    fixed, seed: the arguments with which the group was trained.
    """
    layers = len(arrays) // 2 - 1
    models, width = arrays["0.bias"].shape
    found = []
    for i in range(models):
        model = network(width, layers, fixed, seed)
        state = {name: torch.from_numpy(t[i].copy()) for name, t in arrays.items()}
        model.load_state_dict(state, strict=False)
        found.append(model)
    return found


def train(
    width: int,
    layers: int,
    weight_decay: float,
    steps: int,
    models: int,
    seed: int,
    fixed: float = 0.0,
) -> dict[str, np.ndarray]:
    """Train a group of networks; return {name of a parameter: (models, ...)}.

    width, layers: units of a hidden layer, and the number of those layers.
    weight_decay: an L2 penalty in the gradient, as torch.optim.Adam has it.
    steps: the number of steps.
    models: the number of networks.
    seed: of the group.
    fixed: the fraction of weights that are constants.

    Training uses Adam with a learning rate of 1e-3 that falls along half a cosine,
    batches of 64, and fresh noise of 0.1 on the inputs. Networks are initialised by
    PyTorch's uniform law. A network is the same, up to rounding, whatever the number of
    networks of its group.
    """
    data = digits(seed)
    starts = [rng.stream(seed, f"init {i}") for i in range(models)]
    orders = [rng.stream(seed, f"order {i}") for i in range(models)]
    parameters = _start(width, layers, starts)
    kept = constants(width, layers, fixed, seed) if fixed else None
    trained = [t.requires_grad_() for t in parameters.values()]
    optimizer = torch.optim.Adam(trained, LR, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        pick = np.stack([g.integers(0, N_TRAIN, BATCH) for g in orders])
        noise = np.stack(
            [g.standard_normal((BATCH, PIXELS), np.float32) for g in orders]
        )
        x = data.x[pick] + NOISE * torch.from_numpy(noise)  # (L, batch, 64)
        z = _forward(parameters, x, kept)
        mean = functional.cross_entropy(z.flatten(0, 1), data.y[pick].flatten())
        optimizer.zero_grad()
        (models * mean).backward()  # lanes never share a parameter: a sum of losses
        optimizer.step()
        schedule.step()
    return {name: t.detach().numpy() for name, t in parameters.items()}


def _start(width: int, layers: int, starts: list) -> dict[str, Tensor]:
    """Parameters (L, ...) by the names that they have in `network`."""
    found = {}
    for number, (inputs, outputs) in enumerate(sizes(width, layers)):
        for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            draws = [g.uniform(-1, 1, shape) / np.sqrt(inputs) for g in starts]
            stacked = np.stack(draws).astype(np.float32)
            found[f"{2 * number}.{name}"] = torch.from_numpy(stacked)
    return found


def _forward(parameters: dict[str, Tensor], x: Tensor, kept) -> Tensor:
    """Logits (L, N, 10) of x (L, N, 64)."""
    count = len(parameters) // 2
    for number in range(count):
        weight = parameters[f"{2 * number}.weight"]
        if kept is not None:
            free, value = kept[number]
            weight = weight * free + value * (1 - free)
        bias = parameters[f"{2 * number}.bias"].unsqueeze(1)
        x = torch.baddbmm(bias, x, weight.mT)
        x = x.relu() if number < count - 1 else x
    return x


# --- measures ------------------------------------------------------------------------


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross-entropy of a model on a batch (x, y), in nats."""
    return functional.cross_entropy(model(batch[0]), batch[1])


def matrices(model: nn.Module) -> list[np.ndarray]:
    """Return the trained weights of each layer, float64 (out, in).

    Weights that a network of the zoo holds constant count as 0.
    """
    found = []
    for layer in model:
        if isinstance(layer, nn.Linear):
            weight = layer.weight * getattr(layer, "free", 1.0)
            found.append(weight.detach().double().numpy())
    return found


def average(models: list[nn.Module]) -> nn.Module:
    """Return the network whose parameters are the means of several networks'
    parameters.
    """
    merged = copy.deepcopy(models[0])
    states = [m.state_dict() for m in models]
    mean = {n: torch.stack([s[n].double() for s in states]).mean(0) for n in states[0]}
    merged.load_state_dict(mean)
    return merged


@torch.no_grad()
def logits(model: nn.Module, x: Tensor) -> Tensor:
    """Return the logits (N, 10) of a network for digits x (N, 64)."""
    return model(x)


def accuracy(model: nn.Module, data: Digits) -> float:
    """Return the fraction of the test digits that a network classifies correctly."""
    return right(logits(model, data.x_test), data)


def right(z: Tensor, data: Digits) -> float:
    """Return the accuracy: the fraction of test digits whose largest logit is the
    label's.

    z: the logits (N, 10) of the test digits. data: the digits.
    """
    return float((z.argmax(1) == data.y_test).double().mean())
