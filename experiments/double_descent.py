"""Random features descend twice without any symmetry, and SGD softens the peak.

References: Fanghui Liu, Johan Suykens and Volkan Cevher, "On the Double Descent of
Random Features Models Trained with SGD", NeurIPS 2022 (arXiv 2110.06910; abstract and
introduction were at hand). Song Mei and Andrea Montanari, "The generalization error of
random features regression" (arXiv 1908.05355), theorem 2. Sizes are ours.

A linear target of 50 inputs is learned from 200 noisy labels by p random features
sin(w.x), of which only the last layer is trained. The other experiments of this project
find structure that a symmetry of the parameters makes. This one is their control: the
first layer is fixed, so that no exchange, rotation or scaling of weights leaves the
loss as it is, and yet the risk has a peak where p = n, and SGD from zero finds the
solution of least norm. The predictor is linear in the labels, so that each run is split
exactly into bias (labels without noise) and variance (noise alone). Three fits:

  minimum norm   the pseudo-inverse.
  SGD            one sample at a time, constant step 0.5/mean |phi|^2, 200 passes; the
                 iterates of the second half are averaged.
  one pass       the average of the iterates of SGD's first pass.

With copies = 2 a symmetry is put in: each feature stands twice, so that its two weights
may be exchanged. p parameters are then p/2 features. If the number of parameters made
the peak, it would stay at n; it is at 2n, as the rank decides.

Expected (closed form, dashed): the risk of the minimum-norm fit falls to 0.52 at p =
100, is infinite at p = n = 200, and falls to 0.12 at p = 8n. SGD agrees far from the
peak and is lower near it: 200 passes leave the smallest singular values unfitted.
Cost on one core: smoke 1 s, quick 15 s, paper 10 min.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from symlab import random_features as rf
from symlab.harness import Arm, Claim, family, figure, grid, panels, plot, rng
from symlab.harness.estimates import weakest, where
from symlab.papers import MEI, RANDOM_FEATURES

LANES = 64
STATIC = ("n", "dim", "passes")
MAY_BE_NAN = ("bias_law", "variance_law")  # infinite at p = n
STEP = 0.5  # over the mean of |phi|^2: at 1 a step fits its own sample exactly
TESTS = 1000
OVER_N = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 5 / 4, 3 / 2, 2, 4, 8)  # p/n
WITH_COPIES = (1 / 2, 1, 2, 4, 8)
FITS = ("norm", "sgd", "pass")


@dataclass(frozen=True)
class Config:
    features: int = 200
    """p, the number of trained parameters."""
    copies: int = 1
    """How often each random feature stands among the p; 2 makes a symmetry."""
    n: int = 200
    """Training samples."""
    dim: int = 50
    """Inputs."""
    noise: float = 0.5
    """Standard deviation of the noise of the labels; the target's is 1."""
    passes: int = 200
    """Passes of SGD over the samples."""
    seed: int = 0
    """Target, samples, noise, features and the order of samples; shared by all p."""


def sweep(scale: str) -> list[Config]:
    n, dim, passes, seeds = {
        "smoke": (40, 10, 20, 2),
        "quick": (200, 50, 200, 16),
        "paper": (400, 100, 1000, 32),
    }[scale]
    common = {"n": n, "dim": dim, "passes": passes, "seed": range(seeds)}
    ours = [round(x * n) for x in OVER_N]
    twice = [round(x * n) for x in WITH_COPIES]
    return [
        *grid(Config, features=ours, **common),
        *grid(Config, features=twice, copies=2, **common),
    ]


def run(configs: list[Config]) -> list[dict]:
    """Return a row for each config.

    Columns:
        norm_risk: mean squared error on 1000 test inputs, against targets without
            noise, of the exact fit of least norm to noisy training labels; predicting 0
            has about 1
        sgd_risk: as norm_risk, but of SGD, with iterates averaged over the second half
            of all steps
        pass_risk: as norm_risk, but of SGD in its first pass, with iterates averaged
            over that pass
        norm_bias: mean squared error on the test inputs of the exact fit of least norm
            to training labels without noise
        sgd_bias: as norm_bias, but of SGD, with iterates averaged over the second half
            of all steps
        pass_bias: as norm_bias, but of SGD in its first pass, with iterates averaged
            over that pass
        norm_variance: mean squared prediction on the test inputs of the exact fit of
            least norm to the noise of the training labels alone
        sgd_variance: as norm_variance, but of SGD, with iterates averaged over the
            second half of all steps
        pass_variance: as norm_variance, but of SGD in its first pass, with iterates
            averaged over that pass
        apart: mean squared difference between the predictions of SGD (iterates averaged
            over the second half of all steps) and of the exact fit of least norm on the
            test inputs, over the mean square of the latter
        bias_law, variance_law: closed form of norm_bias (or norm_variance) in the limit
            of many features, samples and inputs; infinite where the number of different
            features is n
    """
    kernels, tests, labels, truth, orders = zip(*map(data, configs), strict=True)
    kernels, labels = np.array(kernels), np.array(labels)
    lr = STEP / np.diagonal(kernels, axis1=1, axis2=2).mean(1)
    one, many = rf.descend(kernels, labels, np.array(orders), lr)
    rows = []
    for i, c in enumerate(configs):
        rank = min(c.n, c.features // c.copies)
        least = rf.minimum_norm(kernels[i], labels[i], rank)
        fits = dict(zip(FITS, (least, many[i], one[i]), strict=True))
        rows.append(_errors({k: tests[i] @ a for k, a in fits.items()}, truth[i]))
        bias, variance = rf.ridgeless(c.features / c.copies, c.n, c.dim, c.noise)
        rows[-1] |= {"bias_law": float(bias), "variance_law": float(variance)}
    return rows


def data(c: Config) -> tuple:
    """Return the five arrays of one regression problem on p random features.

    They are Phi Phi^T (n, n) of the training features Phi (n, p); test features times
    Phi^T, (TESTS, n); the labels as signal and noise, (n, 2); the target at the test
    points (TESTS,); and the order of samples in SGD, (passes * n,). The features of a
    problem with a smaller p are the first ones of a problem with a larger p.
    """
    draws = rng.stream(c.seed, "data")
    x = rf.sphere(draws, c.n + TESTS, c.dim)
    target = x @ rf.sphere(draws, 1, c.dim)[0] / np.sqrt(c.dim)
    noise = c.noise * draws.normal(size=c.n)
    w = rf.sphere(rng.stream(c.seed, "features"), c.features // c.copies, c.dim)
    phi = rf.features(x, np.repeat(w, c.copies, 0))
    own, tests = phi[: c.n], phi[c.n :]
    shuffles = rng.stream(c.seed, "order")
    order = np.concatenate([shuffles.permutation(c.n) for _ in range(c.passes)])
    labels = np.stack([target[: c.n], noise], 1)
    return own @ own.T, tests @ own.T, labels, target[c.n :], order


def _errors(outputs: dict, truth: np.ndarray) -> dict:
    """Mean square errors of each fit, and how far SGD is from the minimum norm."""
    row = {}
    for name, out in outputs.items():
        row[f"{name}_risk"] = float(np.square(out.sum(1) - truth).mean())
        row[f"{name}_bias"] = float(np.square(out[:, 0] - truth).mean())
        row[f"{name}_variance"] = float(np.square(out[:, 1]).mean())
    least, many = (outputs[k].sum(1) for k in ("norm", "sgd"))
    row["apart"] = float(np.square(many - least).mean() / np.square(least).mean())
    return row


# --- figure --------------------------------------------------------------------------

OURS = where(copies=1)
AWAY = OURS.where("features != n")
LEAST = Arm("least norm", plot.BLACK, "o", "", hollow=True)
ARMS = {
    "sgd_risk": Arm("200 passes", plot.BLUE, "s"),
    "pass_risk": Arm("1 pass", plot.ORANGE, "^", "-."),
}
PARTS = {
    "sgd_bias": Arm("bias$^2$", plot.GREEN, "v"),
    "sgd_variance": Arm("variance", plot.PINK, "D"),
}
COPIES = {
    1: ARMS["sgd_risk"],
    2: Arm("each feature\ntwice", plot.SKY, "P", ":"),
}


def _axes(ax, df, lowest: float, highest: float):
    ax.set(xlabel="parameters $p$", ylabel="test error")
    n = df.n.iloc[0]
    panels.ticks(ax, "x", [n // 8, n // 2, n, 2 * n, 8 * n], log=2)
    panels.ticks(ax, "y", [0.01, 0.03, 0.1, 0.3, 1, 3, 10], log=10)
    ax.set_ylim(lowest, highest)
    panels.reference(ax, x=n)
    panels.note(ax, 0.94 * n, highest * 0.97, "$p=n$", data=True, ha="right", va="top")


def _law(ax, df, law, **look):
    """Draw a closed form of p on both sides of the threshold."""
    c = df.iloc[0]
    for ends in ((df.features.min(), 0.995 * c.n), (1.005 * c.n, df.features.max())):
        p = np.geomspace(*ends, 150)
        plot.theory(ax, p, law(*rf.ridgeless(p, c.n, c.dim, c.noise)), **look)


def _name(ax, x: float, y: float, arm: Arm, **how):
    """Write the name of an arm beside its curve, in its colour."""
    panels.note(ax, x, y, arm.label, data=True, color=arm.color, **how)


@figure("descent1", "left", title="SGD softens the peak at $p=n$")
def draw_risk(df, ax):
    """Test error of regression on p random features against p, for SGD after 1 and 200
    passes over the samples and for the exact fit of least norm (rings; dashed, its
    closed form). The vertical line is the number of samples, n = 200; there the mean
    error of the exact fit is infinite: no ring is drawn, and the closed form leaves the
    frame.
    """
    rows = OURS(df)
    for column, arm in ARMS.items():
        panels.curve(ax, rows, "features", column, arm)
    least = panels.means(AWAY(df).groupby("features").norm_risk)
    panels.points(ax, [*least], [*least.values()], LEAST, ms=5, mfc="none", zorder=6)
    _law(ax, rows, np.add)
    _axes(ax, rows, 0.08, 20)
    n = df.n.iloc[0]
    panels.note(ax, 1.3 * n, 3, "least norm\n(dashed: closed form)", data=True)
    _name(ax, 8 * n, 0.36, ARMS["pass_risk"], ha="right")
    _name(ax, 3.3 * n, 0.13, ARMS["sgd_risk"], ha="right")


@figure("descent1", "mid", title="SGD: only the variance peaks")
def draw_parts(df, ax):
    """Parts of the test error of regression on p random features against p: squared
    bias and variance of SGD after 200 passes; dashed in the same colour, those of the
    exact fit of least norm by the closed form, which are infinite at p = n, the number
    of samples.
    """
    rows = OURS(df)
    for column, arm in PARTS.items():
        panels.curve(ax, rows, "features", column, arm)
    _law(ax, rows, lambda bias, _: bias, color=plot.GREEN)
    _law(ax, rows, lambda _, variance: variance, color=plot.PINK)
    _axes(ax, rows, 0.007, 20)
    ax.set_ylabel("part of the test error")
    n = df.n.iloc[0]
    _name(ax, n / 8, 0.95, PARTS["sgd_bias"])
    _name(ax, 0.3 * n, 0.035, PARTS["sgd_variance"])
    panels.note(ax, 1.6 * n, 3, "dashed: closed form\nof least norm", data=True)


@figure("descent1", "right", title="The peak follows the rank, not $p$")
def draw_copies(df, ax):
    """Test error of regression by SGD of 200 passes against the number p of trained
    weights, with p distinct random features and with p/2 features given twice, which
    adds a permutation symmetry. The vertical lines are at p = n = 200 samples and at p
    = 2n.
    """
    panels.curves(ax, df, "features", "sgd_risk", "copies", COPIES)
    _axes(ax, df, 0.08, 1.2)
    n = df.n.iloc[0]
    panels.reference(ax, x=2 * n)
    panels.note(ax, 2.1 * n, 1.17, "$p=2n$", data=True, va="top")
    _name(ax, 2.5 * n, 0.6, COPIES[2])
    panels.note(ax, n / 8, 0.33, "distinct\nfeatures", data=True, color=plot.BLUE)


# --- claims --------------------------------------------------------------------------

SIZES = tuple(round(200 * x) for x in OVER_N)
FEWER = tuple(zip(SIZES, SIZES[1:], strict=False))
MORE = tuple((b, a) for a, b in FEWER)
TOP = SIZES.index(200)
ERROR = RANDOM_FEATURES.smallest["error"]


def _each(column: str, pairs) -> list:
    return [OURS.log_ratio(column, features=pair) for pair in pairs]


def _from_law(df):
    """log of the minimum-norm risk over its closed form, mean over p other than n"""
    return np.log(df.norm_risk / (df.bias_law + df.variance_law))


def _over_norm(df):
    """log of the test error of SGD over that of the minimum-norm fit"""
    return np.log(df.sgd_risk / df.norm_risk)


def _copied_apart(df):
    """largest relative change of any risk of SGD when every feature stands twice"""
    half = df.features // df.copies
    risk = df.sgd_risk.groupby([df.seed, half])
    return (risk.transform("max") / risk.transform("min") - 1).where(df.copies == 2, 0)


# fmt: off
FITTED = "In regression with 200 noisy samples of a linear target,"
PILOT = ("2026-11-30", "features changed from ReLU to sine after one other seed, as "
         "the ReLU's second-order part is no noise with 50 inputs; thresholds stayed")
LIMITS = ("2026-11-30", "a lower limit was added after four other seeds, as equality "
          "has two sides")
RATE = ("2026-11-30", "origin changed from paper to ours after the rows, as the paper "
        "speaks of a rate of convergence in n, which one n cannot show")
paper = partial(Claim, paper=RANDOM_FEATURES, place="abstract", history=(PILOT,))
ours = partial(Claim, paper=RANDOM_FEATURES, origin="ours", unit="log ratio",
               history=(PILOT,))
control = partial(Claim, origin="control", place="derived here", history=(PILOT,))
CLAIMS = [
    Claim("closed_form", "In regression on 25 to 1600 random features of 50 inputs "
        "with 200 noisy labels, the test error of the minimum-norm fit is within 10 % "
        "of the closed form of Mei and Montanari for large sizes, in the geometric "
        "mean over seeds and nine numbers of features (all but 200).",
        paper=MEI, origin="oracle", kind="equivalence", place="theorem 2",
        unit="log ratio", history=(PILOT,), estimate=AWAY.mean(_from_law),
        above=-0.1, below=0.1,
        reason="The closed form neglects terms of the order of 1/50, one over the "
        "number of inputs, and a mean over nine numbers of features and sixteen seeds "
        "errs by a few per cent."),
    *family("sgd_peaks_above_{other}", f"{FITTED} SGD of 200 passes has more than 1.25 "
        "times the test error with 200 random features that it has with {other}, in "
        "the geometric mean over seeds.",
        lambda other: OURS.log_ratio("sgd_risk", features=(200, other)),
        other=(50, 1600), paper=RANDOM_FEATURES, place="abstract",
        tests="double descent", unit="log ratio", above=ERROR.log, reason=ERROR.reason,
        history=(PILOT,), but={(50,): {"expected": "undecided", "because": "SGD "
        "softens the peak: its error is 1.4 times that with 50 features, and sixteen "
        "seeds give the factor from 1.24 to 1.56."}}),
    paper("variance_rises_then_falls", f"{FITTED} the part of the test error of SGD "
        "(200 passes) that label noise adds rises with each step from 25 to 50, 100, "
        "150 and 200 random features and falls with each step from 200 to 250, 300, "
        "400, 800 and 1600.",
        tests="variance", unit="log ratio", above=0.0,
        estimate=weakest(*_each("sgd_variance", MORE[:TOP] + FEWER[TOP:])),
        reason="The paper says that the variance has a single peak, so any step in the "
        "other direction counts."),
    paper("bias_falls", "In regression with 200 samples of a linear target "
        "without label noise, the test error of SGD (200 passes) falls with each step "
        "from 25 to 50, 100, 150, 200, 250, 300, 400, 800 and 1600 random features.",
        tests="bias", unit="log ratio",
        estimate=weakest(*_each("sgd_bias", MORE), above=False), below=0.0,
        reason="The paper says that the bias falls monotonically, so any rise counts."),
    ours("minimum_norm_bias_peaks", "In regression with 200 samples of a linear "
        "target without label noise, the minimum-norm fit has more than 1.25 times the "
        "test error with 200 random features that it has with 100, in the geometric "
        "mean over seeds: the peak at 200 needs no label noise.",
        estimate=OURS.log_ratio("norm_bias", features=(200, 100)), above=ERROR.log,
        reason=ERROR.reason),
    *family("no_loss_at_{p}", f"{FITTED} SGD with a constant step size (200 passes) on "
        "{p} random features has the test error of the exact minimum-norm fit to "
        "within a factor of 1.25, in the geometric mean over seeds.",
        lambda p: OURS.where(features=p).mean(_over_norm), p=(400, 800, 1600),
        paper=RANDOM_FEATURES, place="abstract", tests="no loss", origin="ours",
        kind="equivalence", unit="log ratio", above=-ERROR.log, below=ERROR.log,
        reason=ERROR.reason, history=(PILOT, LIMITS, RATE)),
    ours("sgd_softens_the_peak", f"{FITTED} SGD of 200 passes on 200 random features "
        "has less than half the test error of the exact minimum-norm fit, in the "
        "geometric mean over seeds.",
        estimate=OURS.where(features=200).mean(_over_norm), below=-np.log(2),
        reason="With as many features as samples the exact fit has no finite mean "
        "error. A factor of two is seen at once in a figure."),
    ours("one_pass_has_no_peak", f"{FITTED} SGD of a single pass with averaged weights "
        "has a lower test error with 200 random features than with 50, in the "
        "geometric mean over seeds: it shows no peak at 200.", below=0.0,
        estimate=OURS.log_ratio("pass_risk", features=(200, 50)),
        reason="If the error had a peak at 200 features it would be higher than with "
        "50, by any amount."),
    control("copies_change_nothing", f"{FITTED} SGD has the same test error, to a "
        "relative 1e-6 in every run, if each random feature is given twice, so that "
        "the loss has a permutation symmetry, as if each is given once.",
        unit="relative difference", kind="identity",
        estimate=where().worst(_copied_apart), below=1e-6,
        reason="In exact arithmetic the two are the same descent, as twice the kernel "
        "goes with half the step size; rounding adds up over 40,000 steps."),
    control("rank_makes_the_peak", f"{FITTED} SGD of 200 passes with 400 trained "
        "weights has more than 1.25 times the test error if they belong to 200 random "
        "features given twice than if they belong to 400 different ones, in the "
        "geometric mean over seeds.",
        unit="log ratio", above=ERROR.log,
        estimate=where(features=400).log_ratio("sgd_risk", copies=(2, 1)),
        reason=ERROR.reason),
]
