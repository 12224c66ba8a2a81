"""Least squares after a permutation merges networks better than the permutation alone.

Reference: Nasery, Hayase, Koh & Oh, "PLeaS: Merging Models with Permutations and Least
Squares", CVPR 2025 (arXiv 2407.02447), of which the abstract and the released code
(SewoongLab/PLeaS-Merging) were readable to us. Networks, data and thresholds are ours:
pairs of relu networks that learned scikit-learn's digits (`symlab.models.zoo`), of 5
hidden layers of 64 units and of 3 of 32, and two of each group of mode_connectivity, 2
of 128; a seed is a pair. Units are matched by weights or activations
(`symlab.mirror.match`), on the calibration inputs. Then the weights of each layer are

  mean      the means of both networks (Git Re-Basin),
  averaged  the ridge solution from mean inputs to mean outputs of the layer
            (`symlab.mirror.least_squares`, in closed form; the authors' code has these
            features and takes 400 steps of Adam), or
  merged    the same from the inputs that the merged network itself has (ours).

Labels are not used. This is the complete merge (budget ratio 0) of networks of one
task; the paper also merges partially, and networks of different tasks.
Expected, from a pilot on other code with the variant 'merged' (3 pairs, accuracies;
5 x 64, 64 samples): single 0.974; mean 0.20, with WM 0.52, with AM 0.86; least squares
0.92 without, 0.94 with WM and 0.96 with AM; with all 1,400 samples 0.961 and 0.969. The
variant 'averaged' had no pilot.
Found on four pairs: least squares adds 0.09 to 0.25 to the accuracy of matched means,
and matching adds 0.05 to that of least squares in 5 x 64, too few pairs to decide.
Cost on one core: smoke 10 s, quick 2 min, paper 1 h (estimated).
"""

from dataclasses import dataclass, replace
from functools import partial
from textwrap import fill

import numpy as np

from symlab.harness import Arm, Claim, Context, figure, grid, panels, plot
from symlab.harness.estimates import family, named, weakest, where
from symlab.models import zoo
from symlab.papers import MATCHES, PLEAS

LANES = 64  # the merges of one pair, which share its matches
STATIC = ("width", "layers", "seed")
GROUP = ("width", "layers", "weight_decay", "steps", "models", "fixed", "seed")
WAYS, FITS = ("none", "weights", "activations"), ("mean", "averaged", "merged")
FEW, ALL, AUDITED = 64, 1400, 64  # calibration samples; samples of the audit


@dataclass(frozen=True)
class Config:
    match: str = "activations"
    """'none', 'weights' or 'activations': how the second network is matched."""
    fit: str = "averaged"
    """'mean', or least squares from 'averaged' or 'merged' inputs of a layer."""
    samples: int = FEW
    """Calibration samples, for activations and least squares."""
    width: int = 64
    """Units of each hidden layer."""
    layers: int = 5
    """Hidden layers."""
    weight_decay: float = 1e-4
    """L2 penalty of training, in Adam's gradient."""
    ridge: float = 0.01
    """Ridge penalty of least squares, per sample, towards the mean of the weights."""
    fixed: float = 0.0
    """Share of the weights of a row that are constants; 0 keeps the symmetry."""
    steps: int = 1000
    """Training steps."""
    models: int = 2
    """Networks of a group, of which the first two are merged."""
    seed: int = 0
    """The group: split of the data, initialisations and orders."""


def sweep(scale: str) -> list[Config]:
    every = {
        "match": WAYS,
        "fit": FITS,
        "samples": (FEW, ALL) if scale == "smoke" else (32, FEW, 256, ALL),
        "steps": {"smoke": 60, "quick": 1000, "paper": 5000}[scale],
        "seed": range({"smoke": 2, "quick": 4, "paper": 16}[scale]),
    }
    if scale == "smoke":
        return grid(Config, width=8, layers=(5, 3), **every)
    return [
        *grid(Config, width=64, layers=5, **every),
        *grid(Config, width=32, layers=3, **every),
        *grid(Config, width=128, layers=2, weight_decay=1e-3, models=3, **every),
    ]


def run(configs: list[Config], context: Context) -> list[dict]:
    """Return a row for each config.

    Columns:
        single: mean over the two networks before merging of the fraction of the test
            digits that each classifies correctly
        ensemble: fraction of the test digits that the sum of both networks'
            probabilities classifies correctly
    """
    from symlab.mirror.indices import indices

    c = configs[0]
    arrays = context.shared(zoo.train, **{f: getattr(c, f) for f in GROUP})
    a, b, *_ = zoo.members(arrays)
    data = zoo.digits(c.seed)
    found = indices(b, zoo.loss, tuple(t[:AUDITED] for t in data.train))
    ends = [zoo.logits(m, data.x_test) for m in (a, b)]
    both = sum(z.softmax(1) for z in ends)
    singles = [zoo.right(z, data) for z in ends]
    shared = {"single": sum(singles) / 2, "ensemble": zoo.right(both, data)}
    moved, rows = {}, []
    for c in configs:
        some = data.x[: c.samples], data.y[: c.samples]
        key = c.match, c.samples if c.match == "activations" else 0
        if key not in moved:
            moved[key] = _matched(c, a, b, found, some)
        rows.append(_measured(_merged(c, a, moved[key], some[0]), data) | shared)
    return rows


def _matched(c: Config, a, b, found, some):
    """Return the second network in the order of the first one's units."""
    from symlab.mirror.match import match

    if c.match == "none":
        return b
    return match(a, b, zoo.loss, some, c.match, specification=found).apply(b)


def _merged(c: Config, a, b, x):
    from symlab.mirror.least_squares import refit
    from symlab.mirror.merge import merge

    if c.fit == "mean":
        return merge(a, b)
    return refit(a, b, x, ridge=c.ridge, inputs=c.fit)


def _measured(model, data: zoo.Digits) -> dict:
    """Return the accuracy and the loss of a merged network on the test digits.

    Columns:
        accuracy: fraction of the test digits that the merged network classifies
            correctly
        loss: loss of the merged network on the test digits, in nats
    """
    return {
        "accuracy": zoo.accuracy(model, data),
        "loss": zoo.loss(model, data.test).item(),
    }


# --- figure --------------------------------------------------------------------------

LEAST = PLEAS.smallest["accuracy"]
DEEP, NARROW = where(layers=5), where(layers=3)
FIT_ARMS = {"averaged": Arm("fit on mean inputs", panels.GREY),
            "merged": Arm("fit on merged inputs", panels.GREY,
                          hollow=True)}  # fmt: skip
LINES = {"single": Arm("one network", panels.GREY, "", ":"),
         "ensemble": Arm("ensemble", panels.GREY, "", "-")}  # fmt: skip
BLOCK = 7.5  # from one way of matching to the next, in powers of two
SHAPES = {5: Arm("5", plot.ORANGE, "s"), 3: Arm("3", plot.PINK, "D"),
          2: Arm("2", plot.SKY, "o")}  # fmt: skip
MERGES = {
    "mean of weights": ("none", "mean"),
    "mean, AM": ("activations", "mean"),
    "least squares (LS)": ("none", "averaged"),
    "LS, AM": ("activations", "averaged"),
    "LS, AM, merged inputs": ("activations", "merged"),
}
MISTAKES = named("1 - accuracy", "test error")
SPREAD = 0.45  # of the marks of a row, in rows
GAINS = {
    "least squares": ("match", "activations", "fit", ("averaged", "mean")),
    "matching (AM)": ("fit", "averaged", "match", ("activations", "none")),
    "merged inputs": ("match", "activations", "fit", ("merged", "averaged")),
}


def _over_samples(ax, df, rows):
    """Draw least squares against the samples, one block for each way of matching, with
    bars over pairs, as intervals of four pairs are wide; hollow, from merged inputs.
    """
    some = rows(df).assign(error=lambda of: 1 - of.accuracy)
    marks = {}
    for k, way in enumerate(WAYS):
        for fit, shift in {"averaged": -0.13, "merged": 0.13}.items():
            mine = where(match=way, fit=fit)(some)
            at = BLOCK * k + np.log2(mine.samples) + shift
            look = {"mfc": "white", "mew": 0.8} if fit == "merged" else {}
            panels.ranges(ax, mine.groupby(at).error, MATCHES[way], ms=3.4, **look)
        marks |= {BLOCK * k + np.log2(n): str(n) for n in sorted(some.samples.unique())}
        panels.note(ax, (k + 0.5) / len(WAYS), 0.95, MATCHES[way].label, ha="center",
                    va="top", color=MATCHES[way].color)  # fmt: skip
    pairs = some.drop_duplicates("seed")
    for of, arm in LINES.items():
        panels.reference(ax, y=1 - pairs[of].mean(), ls=arm.line, lw=0.9)
    middle = (np.log2(some.samples.min()) + np.log2(some.samples.max())) / 2
    for k in range(1, len(WAYS)):
        panels.reference(ax, x=middle + BLOCK * (k - 0.5), color=panels.FAINT)
    panels.ticks(ax, "x", marks)
    ax.tick_params(axis="x", labelsize=panels.SMALL)
    ax.set(
        xlabel="calibration samples",
        ylabel="test error",
        xlim=(middle - BLOCK / 2, middle + BLOCK * (len(WAYS) - 0.5)),
        ylim=(0.03, 0.21),
    )


@figure("lmc2", "left", title="5 layers: merged inputs give lower mean errors")
def draw(df, ax):
    """Test error of two networks of five hidden layers of 64 units, merged by least
    squares for each layer, against the samples that it uses, with units left as they
    were trained or matched by their weights (WM) or activations (AM). Filled, a layer
    is fitted on the mean of its inputs in both networks; hollow, on its inputs in the
    merged one. Marks are means of four pairs of networks, and bars reach from the best
    to the worst pair. Grey lines, the mean of the two networks and their ensemble.
    """
    _over_samples(ax, df, DEEP)
    panels.key(ax, [*FIT_ARMS.values(), *LINES.values()], lines=False)


@figure("lmc2", "right", title="3 layers: the two fits are not told apart")
def draw_narrow(df, ax):
    """Test error of two networks of three hidden layers of 32 units, merged by least
    squares for each layer, against the samples that it uses, with units unmatched,
    matched by weights (WM) or by activations (AM). Filled, a layer is fitted on the
    mean of its inputs in both networks; hollow, on its inputs in the merged one; bars
    reach from the best to the worst of four pairs. Grey lines, the mean of the two
    networks and their ensemble.
    """
    _over_samples(ax, df, NARROW)


def _forest(ax, df, rows: dict, estimate, **how):
    """Draw estimate(layers, value) for each value of rows and number of layers; return
    the intervals.
    """
    found = sorted(set(df.layers), reverse=True)
    arms = {n: SHAPES[n] for n in found}
    intervals = {
        fill(name, 14): {
            n: estimate(where(layers=n, samples=FEW), value)(df) for n in found
        }
        for name, value in rows.items()
    }
    panels.forest(ax, intervals, arms, spread=SPREAD, **how)
    for k in range(1, len(rows)):
        panels.reference(ax, y=k - 0.5, color=panels.FAINT)
    return intervals


@figure("lmc2", "left", row=1, title="Least squares repairs the mean")
def draw_merges(df, ax):
    """Test error of five merges of two networks with 64 samples, for networks of
    three shapes: the means of both networks' weights, and least squares (LS) for each
    layer; AM, after matching of their units by activations; merged inputs, with each
    layer fitted on its inputs in the merged network.
    """

    def error(rows, merge):
        return rows.where(match=merge[0], fit=merge[1]).mean(MISTAKES)

    _forest(ax, df, MERGES, error, zero=None, limits=(0, 1))
    panels.ticks(ax, "x", (0.02, 0.05, 0.1, 0.2, 0.5, 1), log=10)
    ax.set(xlabel=f"test error, {FEW} samples", xlim=(0.02, 1.04))
    widths = df.groupby("layers").width.first()
    key = [replace(SHAPES[n], label=f"{n} layers of {widths[n]} units")
           for n in sorted(widths.index, reverse=True)]  # fmt: skip
    panels.key(ax, key, lines=False)


@figure("lmc2", "right", row=1, title="What each part of a merge adds")
def draw_gains(df, ax):
    """Gains in test accuracy with 64 samples, paired by networks: of least squares over
    the mean of weights, both after matching of units by activations (AM); of AM over no
    matching, both with least squares; and of fits on a layer's inputs in the merged
    network over its mean inputs in both, both with AM and least squares. The dotted
    line is the smallest gain of interest. Arrows mark intervals that the frame cuts,
    with their ends.
    """

    def gain(rows, steps):
        held, value, by, pair = steps
        return rows.where(**{held: value}).paired("accuracy", **{by: pair})

    edge = 0.32
    for k, row in enumerate(_forest(ax, df, GAINS, gain).values()):
        places = k + np.linspace(-SPREAD / 2, SPREAD / 2, len(row))
        for y, (n, found) in zip(places, row.items(), strict=True):
            if found.high > edge:
                look = {"color": SHAPES[n].color, "clip_on": False}
                ax.plot([edge], [y], ">", ms=3, mew=0, **look)
                panels.note(ax, edge, y - 0.04, f"to {found.high:.2f}", data=True,
                            ha="right", color=SHAPES[n].color)  # fmt: skip
    panels.reference(ax, x=LEAST.size, ls=":")
    panels.note(ax, LEAST.size + 0.004, -0.5, f"{LEAST.size}", data=True)
    ax.set(xlabel=f"gain in test accuracy, {FEW} samples", xlim=(-0.06, edge))


# --- claims --------------------------------------------------------------------------

SEEN = {"written": "after", "history": (
    ("2026-11-30", "written after the pilot on other code at the head of the file"),
)}  # fmt: skip
WIDELY = {"expected": "undecided", "because": "The interval over four pairs "
          "of networks contains the threshold."}  # fmt: skip
TWO = "Two ReLU networks of {shape} trained on digits"
FEW_IMAGES, ALL_IMAGES = (
    f"merged by least squares on {n} images (each layer is fitted to the mean output "
    "of both networks' layers)" for n in ("64", "1,400")
)  # fmt: skip
NETWORKS = {"5_x_64": "5 hidden layers of 64 units",
            "3_x_32": "3 hidden layers of 32 units"}  # fmt: skip

SINGLE = named("accuracy - single", "accuracy of the merge minus that of one network")
ENSEMBLE = named("ensemble - accuracy", "accuracy of the ensemble minus the merge's")


def _few(shape: str, samples: int = FEW):
    return (DEEP if shape == "5_x_64" else NARROW).where(samples=samples)


abstract = {"paper": PLEAS, "place": "abstract", "unit": "fraction of the test images"}
least = {"above": LEAST.size, "reason": LEAST.reason, "shape": NETWORKS}
pleas = SEEN | abstract | least
ours = partial(Claim, unit="fraction of the test images", reason=LEAST.reason)
CLAIMS = [
    *family("squares_help_{way}_{shape}",
        f"{TWO}, matched unit by unit by their {{way}}, merge to a test accuracy more "
        "than 0.02 higher by least squares on 64 images (each layer is fitted to the "
        "mean output of both networks' layers) than by averaging their weights.",
        lambda way, shape: _few(shape).where(match=way)
        .paired("accuracy", fit=("averaged", "mean")), way=("weights", "activations"),
        tests="beyond permutation", **pleas, but={("activations", "3_x_32"): WIDELY}),
    *family("matching_helps_{shape}",
        f"{TWO}, {FEW_IMAGES}, have a test accuracy more than 0.02 higher if their "
        "units were first matched by activations than if they were not.",
        lambda shape: _few(shape).where(fit="averaged")
        .paired("accuracy", match=("activations", "none")), tests="permutation",
        **pleas | WIDELY),
    *family("near_single_{shape}",
        f"{TWO}, matched by their activations and {ALL_IMAGES}, have a test accuracy "
        "above or less than 0.02 below the mean of their own accuracies.",
        lambda shape: _few(shape, ALL).where(match="activations", fit="averaged")
        .mean(SINGLE), **pleas | {"above": -LEAST.size},
        but={("5_x_64",): WIDELY}),
    *family("matching_stops_helping_{shape}",
        f"{TWO}, {ALL_IMAGES}, have a test accuracy that differs by less than 0.02 "
        "between units first matched by activations and units left as they are.",
        lambda shape: _few(shape, ALL).where(fit="averaged")
        .paired("accuracy", match=("activations", "none")),
        **pleas | {"paper": None, "place": "", "above": -LEAST.size,
                   "below": LEAST.size, "kind": "equivalence"} | WIDELY),
    ours("own_inputs_help",
        "Two ReLU networks of 5 hidden layers of 64 units trained on digits, matched "
        "by activations and merged by least squares for each layer on 64 images, have "
        "a test accuracy more than 0.02 higher if a layer is fitted on its inputs in "
        "the merged network than on the mean of its inputs in both.",
        above=LEAST.size,
        estimate=DEEP.where(samples=FEW, match="activations")
        .paired("accuracy", fit=("merged", "averaged")), **WIDELY),
    ours("ensemble_is_the_ceiling",
        "The ensemble of two ReLU networks trained on digits (mean of their "
        "probabilities) has a higher test accuracy than their merge by matched "
        "activations and least squares for each layer on 64 images, with 5 hidden "
        "layers of 64 units as with 3 of 32.",
        above=0.0, estimate=weakest(*(
            _few(shape).where(match="activations", fit="averaged")
            .mean(ENSEMBLE) for shape in NETWORKS)),
        reason="The ensemble costs twice as much to run, so that any loss of accuracy "
        "against it counts.", **WIDELY),
]  # fmt: skip
