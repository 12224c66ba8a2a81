"""What asymmetric advantages do to a policy: entropy, pass@k, difficulty, stability.

Reference: "Unveiling Implicit Advantage Symmetry" (A-GRAE, arXiv 2602.05548), figures
2-5, 9 and 10 on 7B models; PSR, NSR and W-REINFORCE are those of arXiv 2506.01347. The
estimators come from symlab.rlvr; the environment (symlab.rlvr.independent), the
controls and the thresholds are ours. Orderings are compared: none of the paper's
numbers is a target at this scale.

A policy writes 10 tokens of a vocabulary of 12. Each token has a softmax whose logits
are linear in the features of the prompt, with 960 shared parameters; the first two
tokens decide, eight are free. The right tokens of a prompt are drawn from a sharp
softmax of a teacher, so they cannot be foreseen entirely; the base policy knows the
teacher with noise. 128 prompts are trained on and 512 are held out. Given the prompt
the tokens are independent, so success rates p, pass@k = mean of 1 - (1-p)^k, entropies
and the expected number of unsolved groups are exact: only training is random. A step
samples G = 8 rollouts of every prompt, then takes 4 epochs of 4 minibatches with the
clipped objective of PPO (0.2) and Adam (0.1), without a KL term or an entropy bonus.
All completions have one length, so GRPO, DAPO and Dr. GRPO normalise alike: DAPO has
its wider upper clip, and Dr. GRPO does not divide by the std. Widths and noises were
chosen with GRPO alone, on seeds 10000 to 10003: a base reward of 0.45 to 0.5, a
training plateau above 0.8 and clip fractions of 1 to 10 %.

Studies, each with the same seeds for all its arms, 16 of them and 128 in 'main':
  main            every method
  no clip, low clip, high clip, on-policy, random reward, matched step
                  controls: no clip, one of the two, fresh samples for every update,
                  rewards by the toss of a coin, updates of one length
  beta, alpha, clip, group   sweeps of one field; its default value is in 'main'
  long            200 steps, for collapses
  weak base       a base policy whose mean reward is about 0.06
  random, no clip GRPO without a clip under random rewards

Mechanism: in expectation an asymmetric estimator only reweights prompts, as long as the
samples are fresh (experiments/advantage_theory.py). With stale minibatches the low clip
removes negative terms and the high clip positive ones: the first keeps entropy up, the
second brings it down (arXiv 2509.26114), and the weights of the two signs decide how
much each of them matters.
Expected, from a prototype of this setting: entropy is ordered as Positive-Dominant <
GRPO < A-GRAE < Negative-Dominant, with the clip only, under random rewards as well;
pass@256 falls below the base policy's; W-REINFORCE gains at large k; neither
Negative-Dominant nor A-GRAE improves on GRPO's pass@k.
Found: all of this, and A-GRAE is ahead of GRPO by 0.004 at pass@256, from DDAS, as ASS
alone gains nothing. 'main' has 128 seeds because 16 left the sign of this undecided,
and 64 that of pass@1 on seeds not used before; the intervals of these claims are
therefore valid at any time, and leave the sign of the gain at pass@1 undecided. One
prompt in a hundred is the smallest difference that counts since 2026-11-30, so that
these gains do not; entropies count from a tenth.
Updates amplify rounding: within 10 to 40 steps a run in float32 departs from the same
run in float64, in its free tokens (entropy by up to 0.02) and, where negative
advantages dominate (Negative-Dominant, NSR, W-REINFORCE), in its success rates (by up
to 0.03), as far as other samples would take it. A lane alone is bitwise equal to the
lane among others.
Cost on one core: smoke 8 s, quick 3 min, paper 8 min.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from symlab.harness import (
    Arm,
    Claim,
    Estimate,
    family,
    figure,
    grid,
    lanes,
    named,
    panels,
    plot,
    stats,
    where,
)
from symlab.papers import ADVANTAGES, AGRAE, CLIPPING, ZHU, resized
from symlab.rlvr.independent_training import Training, estimator
from symlab.rlvr.passk import pass_at_k_exact

LANES = 64  # half as many take a seventh more time, twice as many gain nothing
STATIC = ("fresh", "group", "epochs", "steps", "noise")
KS = tuple(2**i for i in range(9))
LENGTH = 0.022  # root mean square of GRPO's updates over the parameters
OFF = 1e9  # a clip range that never clips
WEAK = 2.0  # noise of a base policy with a mean reward of about 0.06
FALL, RISE = 0.05, 1.3  # a collapse: fall of batch-correct rate, rise of unsolved count
METHODS = (
    "grpo", "positive_dominant", "negative_dominant", "ass", "ddas", "agrae",
    "agrae_released", "w_reinforce", "psr", "nsr", "hard", "easy", "dr_grpo", "dapo",
)  # fmt: skip
PD, ND = "positive_dominant", "negative_dominant"


@dataclass(frozen=True)
class Config:
    study: str = "main"
    """The comparison that the run belongs to."""
    method: str = "grpo"
    """An estimator of symlab.rlvr.advantages, or 'base', which is not trained."""
    beta: float = 10.0
    """Factor of positive_dominant, and divisor of negative_dominant."""
    alpha: float = 1.0
    """Mean reward from which ass, agrae and agrae_released keep positives whole."""
    clip_low: float = 0.2
    """Ratios below 1 - clip_low are clipped where the advantage is negative."""
    clip_high: float = 0.2
    """Ratios above 1 + clip_high are clipped where the advantage is positive."""
    reward: str = "verifier"
    """'verifier': 1 if both decisive tokens are right; 'random': the toss of a coin."""
    fresh: bool = False
    """Whether every update gets its own samples; else those of a step share them."""
    length: float = 0.0
    """Root mean square of every update over the parameters; 0 leaves it to Adam."""
    group: int = 8
    """Rollouts of a prompt, G; at most 255."""
    lr: float = 0.1
    """Adam's learning rate."""
    epochs: int = 4
    """Passes over the samples of a step."""
    steps: int = 60
    """Steps, each over all prompts."""
    noise: float = 0.25
    """Noise of the base policy, relative to the teacher."""
    seed: int = 0
    """Prompts, base policy and samples; shared by all arms."""


CONTROLS = {
    "no clip": {"clip_low": 1.0, "clip_high": OFF},
    "low clip": {"clip_high": OFF},
    "high clip": {"clip_low": 1.0},
    "on-policy": {"fresh": True},
    "random reward": {"reward": "random"},
    "matched step": {"length": LENGTH},
}


def sweep(scale: str) -> list[Config]:
    n, more = {"smoke": (2, 2), "quick": (16, 128), "paper": (64, 256)}[scale]
    steps, long = (6, 8) if scale == "smoke" else (60, 200)
    arms = [replace(a, steps=long if a.study == "long" else steps) for a in _arms()]
    # seeds outermost: a chunk of lanes then has few of them, and few samples to draw
    seeds = ((s, a) for s in range(more) for a in arms if s < n or a.study == "main")
    return [replace(a, seed=s) for s, a in seeds]


def _arms() -> list[Config]:
    arms = [Config(method="base")]
    for study, fields in {"main": {}, **CONTROLS}.items():
        for method in METHODS:
            own = {"clip_high": 0.28} if method == "dapo" else {}
            arms.append(Config(study, method, **(own | fields)))
    weak = ("base", "grpo", "hard", "easy")
    three, ranges = ("grpo", PD, ND), (0.05, 0.1, 0.4)
    clips = grid(Config, study="clip", method=three, clip_low=ranges)
    return [
        *arms,
        *grid(Config, study="beta", method=(PD, ND), beta=(2.0, 5.0, 20.0)),
        *grid(Config, study="alpha", method=("ass", "agrae"), alpha=(0.25, 0.5, 2.0)),
        *(replace(c, clip_high=c.clip_low) for c in clips),
        *grid(Config, study="group", method=(*three, "agrae"), group=(4, 16, 32)),
        *grid(Config, study="long", method=("grpo", ND, "ass", "agrae")),
        *grid(Config, study="weak base", method=weak, noise=WEAK),
        Config("random, no clip", reward="random", **CONTROLS["no clip"]),
    ]


def logged(steps: int) -> list[int]:
    """The numbers of steps after which the policy is measured."""
    early = {0, 1, 2, 3, 5, steps}
    return sorted((early | set(range(0, steps, 10))) & set(range(steps + 1)))


def run(configs: list[Config]) -> list[dict]:
    return lanes.grouped(configs, estimator, train)


def train(configs: list[Config], dtype=None) -> list[dict]:
    """The rows of lanes, in float32 by default; lanes of one estimator are adjacent."""
    training = Training(configs, dtype)
    steps = configs[0].steps
    when = logged(steps)
    for step in range(steps):
        if step in when:
            training.measure()
        training.step(count=step in when)
    training.measure()
    passes = np.stack([pass_at_k_exact(training.rates, k).mean(1) for k in KS], 1)
    curves = {name: np.transpose(x) for name, x in training.curves.items()}
    return [
        _row(when, {name: x[i] for name, x in curves.items()}, passes[i])
        for i in range(len(configs))
    ]


def _row(when: list[int], curves: dict, passes: np.ndarray) -> dict:
    """Curves over the steps in `when`, and the numbers that are read from them."""
    correct, unsolved = curves["batch_correct_curve"], curves["unsolved_curve"]
    fall = np.maximum.accumulate(correct) - correct
    rise = unsolved / np.minimum.accumulate(unsolved)
    settled = [i for i, step in enumerate(when[:-1]) if step >= 5 or len(when) < 7]
    return {
        **{name: x.tolist() for name, x in curves.items()},
        "step_curve": when,
        "pass_at_k": passes.tolist(),
        "pass_1": float(passes[0]),
        "pass_16": float(passes[KS.index(16)]),
        "pass_256": float(passes[-1]),
        "entropy": float(curves["entropy_curve"][-1]),
        "greedy": float(curves["greedy_curve"][-1]),
        "batch_correct": float(correct[-1]),
        "clip_low_mean": float(curves["clip_low_curve"][settled].mean()),
        "clip_high_mean": float(curves["clip_high_curve"][settled].mean()),
        "fall": float(fall.max()),
        "rise": float(rise.max()),
        "collapsed": bool(((fall > FALL) & (rise > RISE)).any()),
    }


# --- table and figures ---------------------------------------------------------------

MAIN = where(study="main")
STUDY_OF = {"by_random_rewards": "random reward", "at_matched_steps": "matched step"}
STUDIES = {"main": "both clips"} | {name: name for name in CONTROLS}
PASS_1, PASS_256 = Arm("pass@1", plot.BLACK), Arm("pass@256", plot.SKY, "s")
AVERAGE_BASE = Arm("base reward {:4.2f}", plot.BLACK)
WEAK_BASE = Arm("base reward {:4.2f}", plot.GREEN, "s")
ENTROPY, FINAL = "test entropy per token, nats", "final test entropy, nats"
QUANTITIES = {
    "entropy": named("entropy", "final entropy per token"),
    "pass_1": named("pass_1", "pass@1"),
    "pass_256": named("pass_256", "pass@256"),
    "batch_correct": named("batch_correct", "final success rate on training prompts"),
    "collapsed": named("collapsed", "the indicator of a collapse"),
}
COMPACT = {"columnspacing": 0.8, "borderaxespad": 0.1, "handlelength": 1.6}


def arms(*methods: str) -> dict[str, Arm]:
    """The looks of some methods, in this order."""
    return {m: ADVANTAGES[m] for m in methods}


def difference(column: str, method: str, other: str = "grpo", study: str = "main"):
    """The paired difference of two methods within a study."""
    return where(study=study).paired(QUANTITIES[column], method=(method, other))


def entropy(method: str, study: str = "main"):
    """The paired ratio of a method's final test entropy to GRPO's within a study."""
    return where(study=study).ratio(QUANTITIES["entropy"], method=(method, "grpo"))


def gaps(rows, y: str, x="step_curve", other: str = "grpo"):
    """Every method's curve minus that of another, paired by seed; as `unrolled`."""
    frame = panels.unrolled(rows, x, y, ["method"])
    less = frame.loc[frame.method == other, ["seed", "x", "y"]]
    frame = frame.merge(less, on=["seed", "x"], suffixes=("", "_other"))
    return frame.assign(y=frame.y - frame.y_other)


def beside(df, *studies: str):
    """Rows of the main study and of others, for the seeds that all of them have."""
    rows = df[df.study.isin({"main", *studies})]
    shared = rows.groupby("seed").study.transform("nunique")
    return rows[shared == len({"main", *studies})]


def table(df):
    """Every method of the main study, with paired differences to GRPO."""
    import pandas as pd

    rows = []
    means = MAIN(df).groupby("method").mean(numeric_only=True)
    for method in ("base", *METHODS):
        mean, row = means.loc[method], {"method": ADVANTAGES[method].label}
        for column in ("entropy", "pass_1", "pass_16", "pass_256"):
            row[column.replace("pass_", "pass@")] = f"{mean[column]:5.3f}"
        for column in ("pass_1", "pass_256"):
            i = difference(column, method)(df) if method != "grpo" else None
            shown = f"{i.value:+6.3f} [{i.low:+6.3f}, {i.high:+6.3f}]" if i else ""
            row["difference of " + column.replace("_", "@")] = shown
        clipped = f"{mean.clip_low_mean:4.1%}, {mean.clip_high_mean:4.1%}"
        rows.append(row | {"clipped low, high": clipped})
    return pd.DataFrame(rows)


def _training(ax, rows, y: str, *methods: str, mean: bool = False, scale=1.0, **look):
    """A curve over the steps for each method; mean: without its interval."""
    frame = panels.unrolled(rows, "step_curve", y, ["method"])
    if mean:
        frame = frame.groupby(["method", "x"], as_index=False).y.mean()
    frame = frame.assign(y=scale * frame.y)
    panels.curves(ax, frame, "x", "y", "method", arms(*methods), **look)
    ax.set_xlabel("step")


def _entropies(df, ax, study: str, title: str):
    both = beside(df, study)
    rows = both[(both.study == study) | (both.method == "base")]
    _training(ax, rows, "entropy_curve", PD, ND, "agrae", "grpo", "base")
    ax.set(ylabel=ENTROPY, ylim=(0.3, 0.92))
    ax.set_title(title)


@figure("agrae2", panel="left")
def draw_entropy(df, ax):
    _entropies(df, ax, "main", "clip 0.2")
    panels.legend(ax, "upper left", ncol=2, **COMPACT)
    ax.get_legend().set_in_layout(False)


@figure("agrae2", panel="mid")
def draw_entropy_no_clip(df, ax):
    _entropies(df, ax, "no clip", "control: no clip")


@figure("agrae2", panel="right")
def draw_entropy_controls(df, ax):
    for method, shift in ((PD, -0.12), (ND, 0.12)):
        found = [entropy(method, study)(df) for study in STUDIES]
        panels.points(ax, np.arange(len(found)) + shift, found, ADVANTAGES[method])
    panels.reference(ax, y=1)
    ax.set_xticks(range(len(STUDIES)), STUDIES.values(), rotation=40, ha="right")
    panels.ticks(ax, "y", (0.5, 0.7, 1, 1.4, 2), log=10)
    ax.set(ylabel="final entropy over GRPO's", ylim=(0.5, 2.4))
    panels.legend(ax, "upper left", **COMPACT)


@figure("agrae2", panel="left", row=1)
def draw_clip_fractions(df, ax):
    for side, line in (("low", "-"), ("high", panels.DASHED)):
        label = "{}" if side == "low" else ""
        look = {"scale": 100, "label": label, "linestyle": line}
        _training(ax, MAIN(df), f"clip_{side}_curve", ND, "grpo", PD, **look)
    panels.ticks(ax, "y", (0.3, 1, 3, 10), log=10)
    ax.set(ylabel="tokens clipped, %", ylim=(0.2, 40))
    panels.legend(ax, "upper right", **COMPACT)
    panels.note(ax, 0.03, 0.03, "solid: low clip\ndashed: high clip")


@figure("agrae2", panel="mid", row=1)
def draw_beta(df, ax):
    both = beside(df, "beta")
    factor = both.beta ** both.method.map({PD: 1, ND: -1, "grpo": 0})
    methods = arms(PD, ND, "grpo")
    panels.curves(ax, both.assign(x=factor), "x", "entropy", "method", methods)
    base, rows = ADVANTAGES["base"], both[both.method == "base"]
    look = {"label": base.label, "color": base.color, "ls": base.line}
    panels.reference(ax, y=rows.entropy.mean(), **look)
    panels.ticks(ax, "x", (0.05, 0.2, 1, 5, 20), log=10)
    ax.set(xlabel="factor of positive advantages", ylabel=FINAL, ylim=(0.3, 0.92))
    panels.legend(ax, "upper right", **COMPACT)


@figure("agrae2", panel="right", row=1)
def draw_clip_range(df, ax):
    both = beside(df, "clip", "no clip")
    both = both.assign(x=both.clip_high.clip(upper=0.9))
    panels.curves(ax, both, "x", "entropy", "method", arms(ND, "grpo", PD))
    shown = {e: f"{e:g}" for e in (0.05, 0.1, 0.2, 0.4)} | {0.9: "off"}
    panels.ticks(ax, "x", shown, log=10)
    ax.set(xlabel="clip range $\\epsilon$", ylabel=FINAL, ylim=(0.3, 0.92))
    panels.legend(ax, "upper right", **COMPACT)


def _passes(df, ax, *methods: str, study: str = "main", title: str = ""):
    """Differences to GRPO at every k."""
    frame = gaps(where(study=study)(df), "pass_at_k", KS)
    panels.curves(ax, frame, "x", "y", "method", arms(*methods))
    panels.reference(ax, y=0)
    panels.ticks(ax, "x", KS[::2], log=2)
    ax.set(xlabel="$k$", ylabel="pass@$k$, difference to GRPO")
    ax.set_title(title)


@figure("agrae3", panel="left")
def draw_pass(df, ax):
    frame = panels.unrolled(MAIN(df), KS, "pass_at_k", ["method"])
    panels.curves(ax, frame, "x", "y", "method", arms("base", "grpo", PD, ND))
    panels.ticks(ax, "x", KS[::2], log=2)
    ax.set(xlabel="$k$", ylabel="pass@$k$, held-out prompts")
    panels.legend(ax, "lower right")


@figure("agrae3", panel="mid")
def draw_pass_differences(df, ax):
    _passes(df, ax, PD, ND, title="stale minibatches, clip 0.2")
    ax.set_ylim(-0.075, 0.045)
    panels.legend(ax, "lower right", **COMPACT)


@figure("agrae3", panel="right")
def draw_pass_on_policy(df, ax):
    _passes(df, ax, PD, ND, study="on-policy", title="control: on-policy")
    ax.set_ylim(-0.075, 0.045)


@figure("agrae4", panel="left")
def draw_batch(df, ax):
    _training(ax, MAIN(df), "batch_correct_curve", "hard", "easy", "grpo")
    ax.set_ylabel("batch-correct rate, training prompts")
    panels.legend(ax, "lower right")


@figure("agrae4", panel="mid")
def draw_batch_gap(df, ax):
    for study, arm in (("main", AVERAGE_BASE), ("weak base", WEAK_BASE)):
        rows = where(study=study)(df)
        frame = gaps(rows, "batch_correct_curve", other="hard")
        label = arm.label.format(rows[rows.method == "base"].batch_correct.mean())
        panels.curve(ax, frame[frame.method == "easy"], "x", "y", arm, label=label)
    panels.reference(ax, y=0)
    ax.set(xlabel="step", ylabel="batch-correct rate, Easy minus Hard")
    ax.set_ylim(-0.15, 0.015)
    panels.legend(ax, "lower left")


@figure("agrae4", panel="right")
def draw_focus_passes(df, ax):
    _passes(df, ax, "hard", "easy")
    panels.legend(ax, "upper left", room=0.2, ncol=2, **COMPACT)


@figure("agrae5", panel="left")
def draw_training(df, ax):
    pair, look = ("grpo", "agrae"), {"mean": True, "linestyle": panels.DASHED}
    _training(ax, MAIN(df), "entropy_curve", *pair, label="{}, test")
    _training(ax, MAIN(df), "train_entropy_curve", *pair, label="{}, train", **look)
    ax.set_ylabel("entropy per token, nats")
    panels.legend(ax, "upper right")


@figure("agrae5", panel="mid")
def draw_accuracy(df, ax):
    pair, look = ("grpo", "agrae"), {"linestyle": panels.DASHED}
    _training(ax, MAIN(df), "greedy_curve", *pair, label="{}, greedy")
    _training(ax, MAIN(df), "pass_1_curve", *pair, label="{}, pass@1", **look)
    ax.set(ylabel="accuracy, held-out prompts", ylim=(0.36, 0.7))
    panels.legend(ax, "lower right")


def _both_passes(df, ax, cells: dict, spread: float):
    """pass@1 and pass@256 minus GRPO's; cells: {(method, study): name}, downwards."""
    at = np.arange(len(cells))[::-1]
    for arm, column, shift in (
        (PASS_256, "pass_256", spread), (PASS_1, "pass_1", -spread)
    ):  # fmt: skip
        found = [difference(column, m, study=study)(df) for m, study in cells]
        panels.points(ax, at + shift, found, arm, across=True)
    panels.reference(ax, x=0)
    ax.set_yticks(at, cells.values())


@figure("agrae5", panel="right")
def draw_methods(df, ax):
    cells = {(m, "main"): ADVANTAGES[m].label for m in METHODS if m != "grpo"}
    _both_passes(df, ax, cells, 0.15)
    panels.ticks(ax, "x", (-0.03, 0, 0.03))
    ax.set(xlabel="difference to GRPO", ylim=(-0.6, len(cells) - 0.4))
    ax.set_xlim(-0.043, 0.05)  # room for the legend
    panels.legend(ax, "lower right", **COMPACT)


def _swept(df, ax, field: str, *methods: str):
    """Differences of pass@256 to GRPO, paired by seed, at each value of a field."""
    both = beside(df, field).set_index(["seed", "group"], drop=False)
    grpo = both.pass_256[both.method == "grpo"]
    for i, (method, arm) in enumerate(arms(*methods).items()):
        rows = both[both.method == method]
        gap = rows.pass_256 - grpo.reindex(rows.index)
        found = panels.means(gap.groupby(np.asarray(rows[field])))
        panels.points(ax, np.array(list(found)) * 1.06 ** (i - 1), found.values(), arm)
    panels.reference(ax, y=0)
    panels.ticks(ax, "x", list(found), log=2)
    ax.set_ylabel("pass@256, difference to GRPO")
    panels.legend(ax, "lower left", room=0.1, **COMPACT)


@figure("agrae5", panel="left", row=1)
def draw_alpha(df, ax):
    _swept(df, ax, "alpha", "ass", "agrae")
    ax.set_xlabel("$\\alpha$")


@figure("agrae5", panel="mid", row=1)
def draw_group(df, ax):
    _swept(df, ax, "group", PD, ND, "agrae")
    ax.set_xlabel("rollouts of a group $G$")


@figure("agrae5", panel="right", row=1)
def draw_controls(df, ax):
    cells = {("agrae", study): name for study, name in STUDIES.items()}
    _both_passes(df, ax, cells, 0.12)
    ax.set(xlabel="A-GRAE minus GRPO", ylim=(-0.5, len(STUDIES) - 0.5))
    ax.set_xscale("symlog", linthresh=0.01)
    panels.ticks(ax, "x", (-0.1, -0.01, 0, 0.01))
    panels.legend(ax, "upper left", **COMPACT)


def _each_seed(df, ax, method: str):
    rows, arm = where(study="long", method=method)(df), ADVANTAGES[method]
    for steps, rates in zip(rows.step_curve, rows.batch_correct_curve, strict=True):
        ax.plot(steps, rates, color=arm.color, lw=0.6, alpha=0.5)
    ax.set_title(arm.label)
    count = f"{rows.collapsed.sum()} of {len(rows)} runs collapse"
    panels.note(ax, 0.97, 0.05, count, ha="right")
    ax.set(xlabel="step", ylabel="batch-correct rate, each seed", ylim=(0.4, 1))


@figure("agrae6", panel="left")
def draw_negative(df, ax):
    _each_seed(df, ax, ND)


@figure("agrae6", panel="mid")
def draw_ass(df, ax):
    _each_seed(df, ax, "ass")


@figure("agrae6", panel="right")
def draw_unsolved(df, ax):
    rows = where(study="long")(df)
    _training(ax, rows, "unsolved_curve", ND, "ass", "agrae", "grpo")
    ax.set(ylabel="unsolved of 128 prompts, expected", ylim=(0, None))
    panels.legend(ax, "upper right")


# --- claims --------------------------------------------------------------------------

POINT = AGRAE.smallest["pass@k"].size  # least difference in pass@k that counts
ROLLOUT = AGRAE.smallest["batch-correct rate"].size
MORE = AGRAE.smallest["entropy"].size  # least ratio of entropies that counts
LESS = 1 / MORE


def every_seed(column: str, *pairs: tuple[str, str], study: str = "main") -> Estimate:
    """The least of the first minus the second method, over seeds and pairs."""

    def least(df):
        methods = [method for pair in pairs for method in pair]
        rows = where(study=study, method=methods)(df)
        if rows[column].isna().any():
            raise ValueError(f"{column} is not a number in a run")
        wide = rows.pivot(index="seed", columns="method", values=column)
        gaps = wide[[a for a, _ in pairs]] - wide[[b for _, b in pairs]].to_numpy()
        return stats.worst(gaps.dropna().min(axis=1), largest=False)

    words = QUANTITIES[column].__doc__
    differences = " and of ".join(f"{a} minus {b}" for a, b in pairs)
    phrase = f"smallest difference of {words} over seeds, of {differences}, where "
    return Estimate(least, f"{phrase}study = {study}")


def at_every_k(method: str, other: str, k_above: int = 0, largest=False) -> Estimate:
    """The paired difference of pass@k at the k, above a number, that decides."""

    def compute(df):
        rows = MAIN.where(method=(method, other))(df)
        frame = gaps(rows, "pass_at_k", KS, other=other)
        mine = frame[(frame.method == method) & (frame.x > k_above)]
        found = panels.means(mine.groupby("x").y).values()
        return (max if largest else min)(found, key=lambda i: i.value)

    which = f"the k above {k_above}" if k_above else "the k"
    end = "largest" if largest else "smallest"
    return Estimate(
        compute,
        f"mean over seeds of pass@k on held-out prompts, {method} minus {other} "
        f"(paired), at {which} where it is {end}, where study = main",
    )


def early(df):
    """success rate on training prompts, mean of the logged ones of steps 1 to 5"""
    import pandas as pd

    when = (np.asarray(steps) for steps in df.step_curve)
    rates = zip(when, map(np.asarray, df.batch_correct_curve), strict=True)
    means = [y[(s >= 1) & (s <= 5)].mean() for s, y in rates]
    return pd.Series(means, df.index)


def clip_effect(clip: str, without: str = "no clip") -> Estimate:
    """GRPO's entropy in one study over that in another, without a clip."""
    pair = (clip, without)
    rows = where(method="grpo", study=pair)
    return rows.ratio(QUANTITIES["entropy"], study=pair)


CLIPPED = named("clip_low_mean + clip_high_mean", "fraction of tokens clipped")
GRPO, LONG = MAIN.where(method="grpo"), where(study="long")
ORDER = (("grpo", PD), (ND, "grpo"))
ARM_OF = {"no_loss": PD, "no_gain": ND}
ALONE = {"positives_are_not_clipped_low": ("psr", "low"),
         "negatives_are_not_clipped_high": ("nsr", "high")}  # fmt: skip
RAISED = "Positive-Dominant (GRPO's advantages of correct rollouts times 10)"
LOWERED = "Negative-Dominant (GRPO's advantages of correct rollouts divided by 10)"
HELD_OUT = "on held-out prompts"
TENTH = (
    "A difference of less than a tenth would hardly be seen in figure 3 of arXiv "
    "2602.05548, whose curves end at 0.42 and 6.6 times GRPO's entropy."
)
ONE_POINT = AGRAE.smallest["pass@k"].reason
ROLLOUTS = AGRAE.smallest["batch-correct rate"].reason
AN_ORDER = "The claim is about the order alone; others ask how large differences are."
HIDDEN = (
    "In expectation the factor only reweights prompts: relative to GRPO's, the update "
    "of a prompt with success rate p is multiplied by "
)
COLLAPSE = (
    "A collapse is a success rate on training prompts 0.05 below its maximum so far, "
    "with an expected number of unsolved prompts 30 % above its minimum so far."
)
FIRST = "2026-11-21"
NEEDED = "the setting that the authors' controlled experiments need"
setting = partial(Claim, origin="protocol", kind="precondition", place=NEEDED)
agrae = partial(Claim, paper=AGRAE)
ratio = partial(Claim, unit="times GRPO's entropy", reason=TENTH)
clipping = partial(Claim, paper=CLIPPING, place="abstract", reason=TENTH,
                   unit="times the entropy without a clip")  # fmt: skip
points = partial(Claim, unit="fraction of prompts", reason=ONE_POINT)
was_zero = partial(resized, AGRAE.smallest["pass@k"], "of 0")
was_points = partial(resized, AGRAE.smallest["pass@k"])
was_rate = partial(resized, AGRAE.smallest["batch-correct rate"], "of 0")
was_ratio = partial(resized, AGRAE.smallest["entropy"])
EXTENDED = ("agrae", "ddas", "ass")  # whose pass@k asked for more seeds after a look
AT_ANY_TIME = (
    "2026-11-30", "the interval became one that is valid at any time, as 16 seeds "
    "became 64 and 128 after looks that were undecided",
)  # fmt: skip
IMPROVES = {"paper": AGRAE, "above": POINT, "expected": "failed"}


IN_WORDS = {
    "hard": "Hard (GRPO's advantages over the root of the prompt's success rate)",
    "agrae": "A-GRAE (harder prompts, stronger correct rollouts as the mean reward "
    "rises)",
    "ddas": "DDAS (weight moves from easy to hard prompts as the mean reward rises)",
    "ass": "ASS (weaker advantages of correct rollouts while the mean reward is low)",
    "w_reinforce": "W-REINFORCE (advantage 0.1 if right, -1 if wrong)",
}


def better(method: str, column: str = "pass_256") -> dict:
    """Statement and estimate of the claim that a method has a higher pass@k."""
    passes = QUANTITIES[column].__doc__
    text = f"{IN_WORDS[method]} ends with a {passes} {HELD_OUT} that is above GRPO's"
    text += " by more than 0.01."
    found = difference(column, method)
    if method in EXTENDED:
        arms = {"method": (method, "grpo")}
        found = MAIN.anytime().paired(QUANTITIES[column], **arms)
    return {"statement": text, "estimate": found}


CLAIMS = [
    setting("base_reward",
        "Before RL 0.4 to 0.55 of the base policy's rollouts on training prompts are "
        "right, in the mean over seeds.",
        estimate=MAIN.where(method="base").mean(QUANTITIES["batch_correct"]),
        above=0.4, below=0.55,
        reason="Right and wrong rollouts are then both common. Widths and noises were "
        "chosen for this, on other seeds."),
    setting("plateau",
        "GRPO ends with a success rate above 0.8 on training prompts, in the mean over "
        "seeds.",
        estimate=GRPO.mean(QUANTITIES["batch_correct"]), above=0.8,
        reason="Training then has done most of what it can. Widths and noises were "
        "chosen for this, on other seeds."),
    setting("clip_fraction",
        "Under GRPO the lower and the upper clip of PPO's ratio together act on 1 to "
        "10 % of the tokens, averaged over the logged steps from step 5 on.",
        estimate=GRPO.mean(CLIPPED), above=0.01, below=0.1, unit="fraction of tokens",
        reason="Large models have such fractions. Widths and noises were chosen for "
        "this, on other seeds."),
    # --- entropy
    agrae("entropy_is_ordered",
        f"In every seed GRPO's final entropy {HELD_OUT} lies above that of "
        "Positive-Dominant and below that of Negative-Dominant (advantages of correct "
        "rollouts times 10, and divided by 10).",
        place="figure 3", tests="suppression", estimate=every_seed("entropy", *ORDER),
        above=0.0, unit="nats", reason=AN_ORDER),
    ratio("positive_dominant_loses_entropy",
        f"{RAISED} ends with less than 0.91 of GRPO's entropy {HELD_OUT}.",
        paper=AGRAE, place="figure 3", estimate=entropy(PD), below=LESS,
        **was_ratio("of 0.7")),
    ratio("negative_dominant_keeps_entropy",
        f"{LOWERED} ends with more than 1.1 times GRPO's entropy {HELD_OUT}.",
        paper=AGRAE, place="figure 3", tests="suppression", estimate=entropy(ND),
        above=MORE, **was_ratio("of 1.2, which failed,")),
    ratio("agrae_entropy_is_above_grpo",
        f"{IN_WORDS['agrae']} ends with more than 1.1 times GRPO's entropy "
        f"{HELD_OUT}.",
        paper=AGRAE, place="figure 10", estimate=entropy("agrae"), above=MORE,
        expected="failed",
        because="A-GRAE keeps 4 % more entropy than GRPO: it gains, but less than a "
        "tenth.",
        **was_ratio("of 0 nats, which held,")),
    ratio("agrae_entropy_is_below_nd",
        f"{IN_WORDS['agrae']} ends with less than 0.91 of the entropy of "
        "Negative-Dominant (advantages of correct rollouts divided by 10), "
        f"{HELD_OUT}.",
        place="figure 3 and figure 10 of arXiv 2602.05548, put together",
        unit="times Negative-Dominant's entropy", below=LESS,
        estimate=MAIN.ratio(QUANTITIES["entropy"], method=("agrae", ND)),
        **was_ratio("of 0 nats")),
    *family("{study}_{effect}",
        "{study}, {effect} ends with 0.91 to 1.1 times GRPO's entropy on held-out "
        "prompts.",
        lambda study, effect: entropy(ARM_OF[effect], study), paper=AGRAE,
        place="figure 3, without the clip or without stale samples", origin="control",
        kind="equivalence",
        above=LESS, below=MORE, unit="times GRPO's entropy",
        reason="In expectation an asymmetric estimator reweights prompts and does no "
        "more, as long as samples are fresh and nothing is clipped. " + TENTH,
        **was_ratio("of 0.9 and 1.1"),
        study={"no clip": "Without a clip",
               "on-policy": "With fresh samples for every update"},
        effect={"no_loss": RAISED, "no_gain": LOWERED}),
    *family("entropy_is_ordered_{study}",
        "With {study}, in every seed GRPO's final entropy on held-out prompts lies "
        "above that of Positive-Dominant and below that of Negative-Dominant "
        "(advantages of correct rollouts times 10, and divided by 10).",
        lambda study: every_seed("entropy", *ORDER, study=STUDY_OF[study]),
        study={"by_random_rewards": "random rewards",
               "at_matched_steps": "all updates of one length"},
        paper=AGRAE, place="figure 3, without information in the reward or without "
        "differences in the length of updates", origin="control",
        above=0.0, unit="nats",
        reason=AN_ORDER + " By arXiv 2509.26114 the clips move entropy even where "
        "rewards are random, so the order should stay."),
    clipping("low_clip_raises_entropy",
        "With the lower clip of PPO's ratio alone GRPO ends with more than 1.1 times "
        f"the entropy that it has without a clip, {HELD_OUT}.",
        tests="low", estimate=clip_effect("low clip"), above=MORE,
        **was_ratio("of 0 nats")),
    clipping("high_clip_lowers_entropy",
        "With the upper clip of PPO's ratio alone GRPO ends with less than 0.91 of the "
        f"entropy that it has without a clip, {HELD_OUT}.",
        tests="high", estimate=clip_effect("high clip"), below=LESS, expected="failed",
        because="GRPO ends with 0.96 of the entropy that it has without a clip: it "
        "falls, by less than a tenth.", **was_ratio("of 0 nats, which held,")),
    Claim("clips_lower_entropy_under_random_rewards",
        "Under random rewards GRPO with both clips at 0.2 ends with less than 0.91 of "
        f"the entropy that it has without a clip, {HELD_OUT}.",
        paper=CLIPPING, place="abstract", tests="random", reason=TENTH,
        unit="times the entropy without a clip", below=LESS,
        estimate=clip_effect("random reward", "random, no clip"), expected="failed",
        because="The lower clip dominates here, under random rewards as with a "
        "verifier: entropy with both clips is 1.25 times that without. Both end below "
        "the base policy's entropy, which the noise of the updates lowers.",
        written="after", history=(("2026-11-30", "written after a look at the rows"),)),
    ratio("no_gain_without_the_low_clip",
        f"With the upper clip of PPO's ratio alone {LOWERED} ends with 0.91 to 1.1 "
        f"times GRPO's entropy {HELD_OUT}.",
        paper=AGRAE, place="figure 3, without the lower clip", origin="control",
        kind="equivalence", estimate=entropy(ND, "high clip"), above=LESS, below=MORE,
        **was_ratio("of 0.9 and 1.1")),
    *family("{signs}",
        "{signs} bound of PPO's ratio, in any run at any logged step from step 5 on.",
        lambda signs: where(method=ALONE[signs][0]).worst(
            named(f"clip_{ALONE[signs][1]}_mean", "fraction of tokens clipped there")),
        signs={"positives_are_not_clipped_low": "Under PSR, which trains on correct "
               "rollouts alone, no token is clipped at the lower",
               "negatives_are_not_clipped_high": "Under NSR, which trains on wrong "
               "rollouts alone, no token is clipped at the upper"},
        place="definition of the clipped objective", origin="protocol", below=1e-12,
        kind="identity", unit="fraction of tokens",
        reason="The lower clip acts on negative advantages alone, the upper one on "
        "positive ones."),
    # --- pass@k
    points("grpo_lifts_pass_1",
        f"GRPO raises pass@1 {HELD_OUT} above the base policy's by more than 0.01, in "
        "the mean over seeds.",
        paper=AGRAE, place="figure 2", tests="shrinkage", above=POINT,
        estimate=difference("pass_1", "grpo", other="base"),
        **was_zero((FIRST, "'in every seed' became the mean over seeds: in one "
                            "of the first 16 pass@1 is lower by 0.006"))),
    points("grpo_lowers_pass_256",
        f"GRPO lowers pass@256 {HELD_OUT} below the base policy's by more than 0.01, "
        "in every seed.",
        paper=AGRAE, place="figure 2", tests="shrinkage", above=POINT,
        estimate=every_seed("pass_256", ("base", "grpo")), **was_zero()),
    points("negative_dominant_at_every_k",
        f"{LOWERED} has a pass@k {HELD_OUT} that is less than 0.01 below GRPO's at "
        "every k from 1 to 256.",
        paper=AGRAE, place="figure 2", tests="suppression", above=-POINT,
        estimate=at_every_k(ND, "grpo"), expected="failed",
        because=HIDDEN + "p + (1-p)/10, which favours easy prompts. With fresh "
        "samples, where this is all that is left, Negative-Dominant is worse still; "
        "the entropy that the clip keeps does not make up for it.",
        **was_points("of 0.002")),
    points("positive_dominant_at_large_k",
        f"{RAISED} has a pass@k {HELD_OUT} that is below GRPO's by more than 0.01 at "
        "every k from 32 to 256.",
        paper=AGRAE, place="figure 2", below=-POINT,
        estimate=at_every_k(PD, "grpo", k_above=16, largest=True), expected="failed",
        because=HIDDEN + "p + 10 (1-p), which favours hard prompts. Positive-Dominant "
        "has a higher pass@k for it, more so with fresh samples.",
        **was_zero()),
    points("on_policy_negative_dominant_is_worse",
        f"With fresh samples for every update {LOWERED} has a pass@256 {HELD_OUT} that "
        "is below GRPO's by more than 0.01.",
        paper=AGRAE, place="figure 2, without stale samples", origin="control",
        estimate=difference("pass_256", ND, study="on-policy"), below=-POINT,
        **was_zero()),
    points("on_policy_positive_dominant_is_better",
        f"With fresh samples for every update {RAISED} has a pass@256 {HELD_OUT} that "
        "is above GRPO's by more than 0.01.",
        paper=AGRAE, place="figure 2, without stale samples", origin="control",
        estimate=difference("pass_256", PD, study="on-policy"), above=POINT,
        expected="undecided",
        because="The difference is 0.018 with an interval that begins at 0.009.",
        **was_zero()),
    Claim("easy_is_faster_early",
        "Over steps 1 to 5 Easy has a success rate on training prompts that is above "
        "Hard's by more than 0.01 (advantages over the root of a prompt's failure "
        "rate, and of its success rate).",
        paper=AGRAE, place="figure 5", tests="curriculum", unit="fraction of rollouts",
        estimate=MAIN.paired(early, method=("easy", "hard")), above=ROLLOUT,
        reason=ROLLOUTS, expected="failed",
        because="With half of the rollouts right from the start, hard prompts have as "
        "much to give as easy ones. In a prototype Easy was ahead early only from a "
        "mean reward of 0.05.",
        **was_rate()),
    Claim("hard_is_better_late",
        "Hard ends with a success rate on training prompts that is above Easy's by "
        "more than 0.01 (advantages over the root of a prompt's success rate, and of "
        "its failure rate).",
        paper=AGRAE, place="figure 5", tests="curriculum", unit="fraction of rollouts",
        estimate=difference("batch_correct", "easy", "hard"), below=-ROLLOUT,
        reason=ROLLOUTS, expected="undecided",
        because="Hard is ahead by 0.01, which is the threshold.", **was_rate()),
    Claim("easy_is_faster_early_from_a_weak_base",
        "From a base policy with a mean reward of 0.06, Easy (advantages over the root "
        "of the failure rate) leads Hard (of the success rate) by more than 0.01 in "
        "success on training prompts over steps 1 to 5.",
        place="seen in a prototype", unit="fraction of rollouts",
        estimate=where(study="weak base").paired(early, method=("easy", "hard")),
        above=ROLLOUT, reason=ROLLOUTS, expected="failed",
        because="The difference changes its sign within these steps and averages to a "
        "thousandth: there are too few easy prompts to be fast on.", written="after",
        history=((FIRST, "0 became 0.01 after the first run, whose interval was "
                  "-0.002 to 0.002"),)),
    points("hard_at_large_k", **better("hard"), paper=AGRAE, place="figure 4",
        above=POINT, expected="undecided",
        because="The gain is 0.0097 [0.0078, 0.0115]: above 0, and close to the "
        "threshold.",
        **was_zero()),
    *(points(name, **better("agrae", column), **IMPROVES, place="table 1",
        tests="a-grae", **was_zero(AT_ANY_TIME), because=f"The gain is {gain}.")
      for name, column, gain in (
          ("agrae_pass_1", "pass_1", "0.0023, less than one prompt in a hundred, and "
           "its sign is not shown once the looks at fewer seeds are counted"),
          ("agrae_pass_256", "pass_256", "0.0043: a gain in direction, which 128 seeds "
           "show, and less than one prompt in a hundred"))),
    points("agrae_pass_256_of_large_groups",
        f"With 32 rollouts of each prompt {IN_WORDS['agrae']} ends with a pass@256 on "
        "held-out prompts that is above GRPO's by more than 0.01.",
        place="table 1 of arXiv 2602.05548, with larger groups",
        estimate=where(study="group", group=32).paired(
            QUANTITIES["pass_256"], method=("agrae", "grpo")),
        above=POINT, expected="undecided",
        because="The gain is 0.015 with an interval that begins at 0.009.",
        **was_zero((FIRST, "written after a look at the first 16 seeds and "
                            "before a look at others"))),
    points("ddas_pass_256", **better("ddas"), **IMPROVES, place="ablation of A-GRAE",
        because="The gain of DDAS, A-GRAE's part that turns from easy to hard prompts, "
        "is 0.006: all of A-GRAE's gain, and less than one prompt in a hundred.",
        **was_zero((FIRST, "written after a look at 64 seeds"), AT_ANY_TIME)),
    points("ass_pass_256", **better("ass"), **IMPROVES, place="ablation of A-GRAE",
        because="ASS, A-GRAE's part that suppresses correct rollouts, is a mild "
        "Negative-Dominant and gains nothing (-0.002).",
        **was_points("of 0.002", (FIRST, "written after a look at 64 seeds"),
                     AT_ANY_TIME)),
    points("w_reinforce_at_large_k", **better("w_reinforce"), paper=ZHU,
        place="pass@256; also table 1 of arXiv 2602.05548", tests="weighted",
        above=POINT, **was_zero()),
    *(points(name, text, paper=ZHU, place="abstract", tests=headline,
        estimate=found, written="after",
        history=(("2026-11-30", "written after a look at the rows"),), **fields)
      for name, headline, text, found, fields in (
        ("nsr_beats_the_base_at_every_k", "negative alone",
         "NSR, which trains on wrong rollouts alone, ends with a pass@k on held-out "
         "prompts that is above the base policy's by more than 0.01 at every k from 1 "
         "to 256.",
         at_every_k("nsr", "base"),
         {"above": POINT, "expected": "failed", "because": "NSR is ahead at k = 1 "
          "only, and 0.13 behind at k = 32. Every method here falls behind at large k: "
          "the base policy guesses more widely than any trained one."}),
        ("nsr_matches_grpo_at_every_k", "negative and grpo",
         "NSR, which trains on wrong rollouts alone, has a pass@k on held-out prompts "
         "that is less than 0.01 below GRPO's at every k from 1 to 256.",
         at_every_k("nsr", "grpo"), {"above": -POINT}),
        ("psr_lifts_pass_1", "positive alone",
         "PSR, which trains on correct rollouts alone, ends with a pass@1 on held-out "
         "prompts that is above the base policy's by more than 0.01.",
         difference("pass_1", "psr", other="base"), {"above": POINT}),
        ("psr_lowers_pass_256", "positive alone",
         "PSR, which trains on correct rollouts alone, ends with a pass@256 on "
         "held-out prompts that is below the base policy's by more than 0.01.",
         difference("pass_256", "psr", other="base"), {"below": -POINT}))),
    # --- collapses
    agrae("negative_dominant_collapses",
        f"{LOWERED} collapses in more than one of ten runs of 200 steps.",
        place="figure 9", estimate=LONG.where(method=ND).fraction("collapsed"),
        above=0.1, unit="fraction of runs", expected="undecided",
        reason="The paper has 3 collapses in 10 runs; a tenth is well below that. "
        + COLLAPSE,
        because="None of 16 runs collapses, which leaves a fraction of up to 0.21 "
        "possible. With a verifier that is always right the success rate of no run "
        "falls by more than 0.004 in 200 steps; with random rewards it falls by 0.36.",
        history=(("2026-11-30", "the interval became exact binomial and the verdict "
                  "undecided: a t interval of sixteen zeros has width zero"),)),
    agrae("ass_is_stable",
        f"{IN_WORDS['ass']} collapses in fewer than three of ten runs of 200 steps.",
        place="figure 9", estimate=LONG.where(method="ass").fraction("collapsed"),
        below=0.3, unit="fraction of runs",
        reason="Three of ten is the rate of the paper's Negative-Dominant. " + COLLAPSE,
        written="after",
        history=(("2026-11-30", "'in no run' became an exact binomial bound: of 16 "
                  "runs without a collapse up to 0.21 may collapse"),)),
]  # fmt: skip
