"""Averaged over frames, a network learns rotated shapes from few clouds of low noise.

Reference: Puny, Atzmon, Ben-Hamu, Misra, Grover, Smith and Lipman, "Frame Averaging for
Invariant and Equivariant Network Design", ICLR 2022 (arXiv 2110.03336), who compare a
backbone averaged over the frame of principal axes with the same backbone trained with
and without rotations, on normals of scanned surfaces. Task, sizes and network are ours:
eight random shapes of 8 points, each cloud with noise and under a random rotation, told
apart by a perceptron with two hidden layers. It is trained on the clouds as they are,
on 4 random rotations of each cloud per step, or with its logits averaged over the 4
poses of each cloud's frame: the last two cost the same per step of training, and frames
four times as much in a test.

Expected from 16 training clouds: with frames, the test accuracy is far above that of
the plain network; it is 1, as with random rotations, if the noise is weak (0.1 of the
spread of the points), and below that of random rotations if the noise is strong (0.4)
and turns the principal axes.
Cost on one core: smoke 3 s, quick 60 s, paper 30 min.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from symlab.harness import Claim, figure, grid, named, panels, rng, where
from symlab.papers import FRAMES, PUNY

LANES = 64
STATIC = ("arm", "n", "noise", "dim", "points", "steps")
SIZES, NOISES = (16, 32, 64, 128), (0.1, 0.4)
CLASSES, TEST = 8, 512  # shapes, test clouds
HIDDEN, LR = 64, 3e-3


@dataclass(frozen=True)
class Config:
    arm: str = "plain"
    """'plain', 'augmented' by random rotations, or averaged over the 'frame'."""
    n: int = 16
    """Training clouds, equally many of each shape."""
    noise: float = 0.1
    """Standard deviation of the noise of a coordinate, where shapes have 1."""
    dim: int = 3
    """Dimension d of the points."""
    points: int = 8
    """Points of a cloud, in a fixed order."""
    steps: int = 200
    """Training steps of Adam, full batch."""
    seed: int = 0
    """Shapes, clouds and weights; shared by all arms."""


def sweep(scale: str) -> list[Config]:
    seeds = range({"smoke": 2, "quick": 8, "paper": 32}[scale])
    steps = {"smoke": 20, "quick": 200, "paper": 1000}[scale]
    sizes = (16, 64) if scale == "smoke" else SIZES
    arms = {"arm": ["plain", "augmented", "frame"], "noise": NOISES, "n": sizes}
    return grid(Config, **arms, seed=seeds, steps=steps)


def run(configs: list[Config]) -> list[dict]:
    """Return a row of results for each config. Their networks are trained side by side
    in L lanes: parameters are (L, inputs, outputs).

    Columns:
        accuracy: fraction of 512 test clouds, in random rotations, whose shape is
            recognised after the last step; for arm 'frame' by the logits averaged over
            the poses of the frame
        train_accuracy: as accuracy, but on the training clouds as they were drawn
    """
    import torch
    from torch.nn.functional import cross_entropy

    from symlab import actions

    first = configs[0]
    poses = 2 ** (first.dim - 1)  # in a frame

    def drawn(c: Config, n: int, name: str):
        """Return n centred clouds (n, points, d) of float32, and their classes (n,)."""
        shape = (CLASSES, c.points, c.dim)
        shapes = rng.stream(c.seed, "shapes").normal(size=shape)
        draws = rng.stream(c.seed, name)
        classes = np.arange(n) % CLASSES
        x = shapes[classes] + c.noise * draws.normal(size=(n, c.points, c.dim))
        x = torch.from_numpy(x) @ actions.random_rotations(draws, n, c.dim)
        return (x - x.mean(1, keepdim=True)).float(), torch.from_numpy(classes)

    def stacked(n, name):
        clouds, classes = zip(*(drawn(c, n, name) for c in configs), strict=True)
        return torch.stack(clouds), classes[0]

    def posed(x):
        """Return the clouds (L, n, points, d) in F poses, (L, n, F, points * d): those
        of the frame for arm 'frame', else as they are.
        """
        framed = first.arm == "frame"
        x = (
            actions.framed(x.double(), special=True).float()
            if framed
            else x[:, :, None]
        )
        return x.flatten(3)

    def normal(*shape):
        draws = [
            rng.stream(c.seed, f"weights {shape}").normal(size=shape) for c in configs
        ]
        return torch.from_numpy(np.stack(draws)).float().div_(np.sqrt(shape[0]))

    width = first.points * first.dim
    weights = [normal(width, HIDDEN), normal(HIDDEN, HIDDEN), normal(HIDDEN, CLASSES)]
    biases = [torch.zeros(len(configs), 1, w.shape[2]) for w in weights]
    parameters = [p.requires_grad_() for p in (*weights, *biases)]

    def logits(x):
        h = x.flatten(1, 2)  # (L, n F, width)
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            h = torch.relu(torch.baddbmm(b, h, w))
        h = torch.baddbmm(biases[-1], h, weights[-1])
        return h.unflatten(1, x.shape[1:3])  # (L, n, F, classes)

    def loss(x, y):
        """Return the cross-entropy, summed over lanes: of the mean logits of a cloud's
        poses for arm 'frame', else the mean over poses.
        """
        out = logits(x)
        out = out.mean(2, keepdim=True) if first.arm == "frame" else out
        labels = y[:, None].expand(len(out), len(y), out.shape[2])
        return cross_entropy(out.flatten(0, 2), labels.flatten()) * len(out)

    x, y = stacked(first.n, "train")
    test, truth = stacked(TEST, "test")
    turning = [rng.stream(c.seed, "augmentation") for c in configs]
    optimizer = torch.optim.Adam(parameters, lr=LR)
    inputs = posed(x)
    for _ in range(first.steps):
        if first.arm == "augmented":
            turn = [actions.random_rotations(d, first.n * poses, first.dim)
                    for d in turning]  # fmt: skip
            turn = torch.stack(turn).float().unflatten(1, (first.n, poses))
            inputs = (x[:, :, None] @ turn).flatten(3)
        optimizer.zero_grad()
        loss(inputs, y).backward()
        optimizer.step()
    with torch.no_grad():
        right = logits(posed(test)).mean(2).argmax(-1) == truth
        fitted = logits(posed(x)).mean(2).argmax(-1) == y
    return [
        {
            "accuracy": float(r.double().mean()),
            "train_accuracy": float(t.double().mean()),
        }
        for r, t in zip(right, fitted, strict=True)
    ]


# --- figure ---------------------------------------------------------------------------

CLEAN, NOISY = where(noise=NOISES[0]), where(noise=NOISES[1])


@figure("frames1", "right", title="In noise, both uses of rotations help")
def draw_samples(df, ax):
    """Test error in telling eight shapes apart by rotated point clouds, with noise of
    0.4 of the spread of the points, against the number of training clouds: of networks
    trained on the clouds as they are, trained on random rotations of them, or averaged
    over the rotations that align a cloud with its principal axes (frame).
    """
    arms = {name: FRAMES[name] for name in ("plain", "augmented", "frame")}
    rows = NOISY(df).assign(error=lambda rows: 1 - rows.accuracy)
    panels.curves(ax, rows, "n", "error", "arm", arms)
    panels.ticks(ax, "x", sorted(df.n.unique()), log=2)
    panels.reference(ax, y=1 - 1 / CLASSES)
    panels.note(ax, df.n.max(), 1, "guessing", data=True, ha="right")
    ax.set(xlabel="training clouds", ylabel="test error", yscale="log")
    panels.ticks(ax, "y", (0.003, 0.01, 0.03, 0.1, 0.3, 1), log=10)
    ax.set_ylim(top=1.5)


# --- claims ---------------------------------------------------------------------------

ACCURATE = PUNY.smallest["accuracy"]
SEEN = (("2026-11-30", "written after trial runs on seeds 900 to 903 with 16 and 64 "
         "clouds, which showed the accuracies"),)  # fmt: skip
FITTED = named("train_accuracy", "accuracy on the training clouds")
puny = partial(Claim, paper=PUNY, history=SEEN)
CLAIMS = [
    puny("frames_need_fewer_samples",
        "On telling eight shapes apart by rotated point clouds (noise 0.4 of their "
        "spread), a network averaged over rotations to the cloud's principal axes has "
        "an accuracy over 0.02 higher than the network without averaging, in the mean "
        "over 16 to 128 training clouds.",
        origin="ours", unit="accuracy",
        estimate=NOISY.paired("accuracy", each="n", arm=("frame", "plain")),
        above=ACCURATE.size, reason=ACCURATE.reason),
    puny("frames_beat_augmentation_in_noise",
        "On telling eight shapes apart by rotated point clouds (noise 0.4 of their "
        "spread), a network averaged over rotations to the cloud's principal axes has "
        "an accuracy over 0.02 higher than one trained on random rotations at equal "
        "cost, from 16 training clouds.",
        origin="ours", unit="accuracy",
        estimate=NOISY.where(n=16).paired("accuracy", arm=("frame", "augmented")),
        above=ACCURATE.size, reason=ACCURATE.reason, expected="failed",
        because="Noise turns principal axes of nearly equal variance, so that one "
        "shape appears in many poses; in trial runs the accuracy of the averaged "
        "network was 0.07 lower."),
    puny("frames_match_augmentation_without_noise",
        "On telling eight shapes apart by rotated point clouds (noise 0.1 of their "
        "spread), a network averaged over rotations to the cloud's principal axes and "
        "one trained on random rotations at equal cost have accuracies within 0.02, "
        "in the mean over 16 to 128 training clouds.",
        origin="control", kind="equivalence", unit="accuracy",
        estimate=CLEAN.paired("accuracy", each="n", arm=("frame", "augmented")),
        above=-ACCURATE.size, below=ACCURATE.size, written="after",
        history=(*SEEN, ("2026-11-30", "origin changed from ours to control after its "
                         "rows, as both accuracies are at the ceiling")),
        reason="Both accuracies are 0.999 or more: this shows that either network can "
        "solve the task where noise is weak, and compares nothing else."),
    puny("training_clouds_are_fitted",
        "On telling eight shapes apart by rotated point clouds, every network "
        "(trained on the clouds, on random rotations of them, or averaged over "
        "rotations to principal axes) classifies more than 0.9 of its own training "
        "clouds correctly.",
        origin="protocol", kind="precondition", unit="accuracy",
        estimate=where().least(FITTED), above=0.9,
        reason="A network that does not fit its data says nothing about how it "
        "generalises."),
]  # fmt: skip
