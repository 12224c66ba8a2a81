"""What `mirror.compress` removes, by activation, optimizer and weight decay.

    .venv/bin/python benchmarks/compress_table.py

Networks with one hidden layer of 64 units learn scikit-learn's digits (1,200 images,
full batch, 2,000 steps, seed 0). Each cell: the parameters that are left, in percent,
after exact removal, and with outputs of the 1,200 images allowed to move by 1 % of the
largest. The last line is the largest loss of test accuracy (597 images) of the latter.
The table stands in docs/mirror-symmetry.md. Three minutes on one core.
"""

import pandas as pd
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy, silu

from symlab import mirror

STEPS, TOLERANCE = 2000, 0.01
DIGITS = load_digits()
IMAGES = torch.tensor(DIGITS.data / 16).float()
LABELS = torch.tensor(DIGITS.target)
TRAINING, TEST = (IMAGES[:1200], LABELS[:1200]), (IMAGES[1200:], LABELS[1200:])
OPTIMIZERS = {
    **{
        f"SGD (lr 0.2, momentum 0.9), decay {decay}": (
            torch.optim.SGD,
            {"lr": 0.2, "momentum": 0.9, "weight_decay": decay},
        )
        for decay in (0.001, 0.003, 0.01)
    },
    **{
        f"AdamW (lr 0.003), decay {decay}": (
            torch.optim.AdamW,
            {"lr": 0.003, "weight_decay": decay},
        )
        for decay in (0.1, 1.0)
    },
}


class Gated(nn.Module):
    """A hidden layer silu(gate) * up of 64 units."""

    def __init__(self):
        super().__init__()
        self.gate, self.up = nn.Linear(64, 64), nn.Linear(64, 64)
        self.down = nn.Linear(64, 10)

    def forward(self, x):
        return self.down(silu(self.gate(x)) * self.up(x))


def plain(activation) -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), activation(), nn.Linear(64, 10))


NETWORKS = {
    "ReLU": lambda: plain(nn.ReLU),
    "GELU": lambda: plain(nn.GELU),
    "SiLU": lambda: plain(nn.SiLU),
    "tanh": lambda: plain(nn.Tanh),
    "gated SiLU": Gated,  # gradients are clipped to norm 1
}


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def trained(network, optimizer, options) -> nn.Module:
    torch.manual_seed(0)
    model = NETWORKS[network]()
    steps = optimizer(model.parameters(), **options)
    for _ in range(STEPS):
        steps.zero_grad()
        loss(model, TRAINING).backward()
        if network == "gated SiLU":
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        steps.step()
    return model


def accuracy(model) -> float:
    return (model(TEST[0]).argmax(1) == TEST[1]).float().mean().item()


def main() -> None:
    torch.set_num_threads(1)
    table, lost = {}, 0.0
    for text, (optimizer, options) in OPTIMIZERS.items():
        for network in NETWORKS:
            model = trained(network, optimizer, options)
            _, exact = mirror.compress(model, loss, TRAINING)
            small, near = mirror.compress(model, loss, TRAINING, tolerance=TOLERANCE)
            lost = max(lost, accuracy(model) - accuracy(small))
            left = [100 * r.parameters[1] / r.parameters[0] for r in (exact, near)]
            table.setdefault(network, {})[text] = "{:.0f}, {:.0f} %".format(*left)
    print(pd.DataFrame(table).to_string())
    print(f"largest loss of test accuracy: {lost:.3f}")


if __name__ == "__main__":
    main()
