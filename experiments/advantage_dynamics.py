"""PPO's clip moves the entropy of tokens that do not decide the reward.

Reference: "Unveiling Implicit Advantage Symmetry" (A-GRAE, arXiv 2602.05548), figures 2
and 3 on 7B models; PSR and NSR (right, or wrong, rollouts alone) are those of arXiv
2506.01347, the effects of the two ends of PPO's clip those of arXiv 2509.26114. The
estimators come from symlab.rlvr; the environment (symlab.rlvr.independent), the
controls and the thresholds are ours. Orderings are compared: none of the paper's
numbers is a target at this scale.

A policy writes 10 tokens of a vocabulary of 12. Each token has a softmax whose logits
are linear in the features of the prompt, with 960 shared parameters; the first two
tokens decide, eight are free. Given the prompt the tokens are independent, so nothing
that the free tokens do can change a reward, and a prompt has one right pair. Keeping
free tokens various therefore cannot pay here: the setting shows what the clip does to
the entropy of tokens without a signal, and it says nothing about whether A-GRAE or
Negative-Dominant improve pass@k. experiments/advantage_frontier.py (figure agrae8)
asks that, where right tokens depend on free ones; this experiment is its control.

The right tokens of a prompt are drawn from a sharp softmax of a teacher, so they cannot
be foreseen entirely; the base policy knows the teacher with noise. 128 prompts are
trained on and 512 are held out. Success rates p, pass@k = mean of 1 - (1-p)^k and
entropies are exact: only training is random. A step samples G = 8 rollouts of every
prompt, then takes 4 epochs of 4 minibatches with the clipped objective of PPO (0.2) and
Adam (0.1), without a KL term or an entropy bonus. 2 to 4 % of the tokens are clipped,
many more than the 0.04 to 0.2 % in logs of large runs, and GRPO has reached most of its
training success by step 3 of 60. Widths and noises were chosen with GRPO alone, on
seeds 10000 to 10003: a base reward of 0.45 to 0.5 and a training plateau above 0.8.

Studies, each with the same 16 seeds for all its arms:
  main            every method
  no clip, low clip, high clip, on-policy, random reward
                  controls: no clip, one end of it alone, fresh samples for every
                  update, rewards by the toss of a coin
  random, no clip GRPO without a clip under random rewards

Mechanism: in expectation an asymmetric estimator only reweights prompts, as long as the
samples are fresh (experiments/advantage_theory.py). With stale minibatches the low clip
removes negative terms and the high clip positive ones: the first keeps entropy up, the
second brings it down (arXiv 2509.26114), and the weights of the two signs decide how
much each of them matters. Expected, from a prototype: entropy is ordered as
Positive-Dominant < GRPO < A-GRAE < Negative-Dominant, with the clip only, under random
rewards as well; pass@256 falls below the base policy's. A difference of less than a
tenth in entropy, or of less than 0.01 in pass@k, counts as none.
Until 2026-11-30 this file had 14 methods, five more studies, up to 128 seeds and claims
about the pass@k of A-GRAE and its parts; NOTES.md says which were dropped, and why.
Updates amplify rounding: within 10 to 40 steps a run in float32 departs from the same
run in float64, in its free tokens (entropy by up to 0.02) and, where negative
advantages dominate (Negative-Dominant, NSR, W-REINFORCE), in its success rates (by up
to 0.03), as far as other samples would take it. A run alone is bitwise equal to the
same run among others.
Cost on one core: smoke 3 s, quick 1 min, paper 4 min.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from symlab.harness import Arm, Claim, figure, lanes, panels, plot, stats
from symlab.harness.estimates import Estimate, family, named, where
from symlab.papers import ADVANTAGES, AGRAE, CLIPPING, IN_WORDS, ZHU, resized
from symlab.rlvr.independent_training import Training, estimator
from symlab.rlvr.passk import pass_at_k_exact

LANES = 64  # half as many take a seventh more time, twice as many gain nothing
STATIC = ("fresh", "group", "epochs", "steps", "noise")
KS = tuple(2**i for i in range(9))
OFF = 1e9  # a clip range that never clips
FALL, RISE = 0.05, 1.3  # a collapse: fall of batch-correct rate, rise of unsolved count
PD, ND = "positive_dominant", "negative_dominant"
METHODS = ("grpo", PD, ND, "ass", "ddas", "agrae", "w_reinforce", "psr", "nsr")
CONTROLLED = ("grpo", PD, ND, "agrae")


@dataclass(frozen=True)
class Config:
    study: str = "main"
    """The comparison that the run belongs to."""
    method: str = "grpo"
    """An estimator of symlab.rlvr.advantages, or 'base', which is not trained."""
    beta: float = 10.0
    """Factor of positive_dominant, and divisor of negative_dominant."""
    alpha: float = 1.0
    """Mean reward from which ass, agrae and agrae_released keep positive advantages."""
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
}


def sweep(scale: str) -> list[Config]:
    n = {"smoke": 2, "quick": 16, "paper": 64}[scale]
    arms = [Config(method=m) for m in ("base", *METHODS)]
    arms += [Config(s, m, **own) for s, own in CONTROLS.items() for m in CONTROLLED]
    arms.append(Config("random, no clip", reward="random", **CONTROLS["no clip"]))
    steps = 6 if scale == "smoke" else 60
    # seeds outermost: a chunk of lanes then has few of them, and few samples to draw
    return [replace(a, steps=steps, seed=s) for s in range(n) for a in arms]


def logged(steps: int) -> list[int]:
    """The numbers of steps after which the policy is measured."""
    early = {0, 1, 2, 3, 5, steps}
    return sorted((early | set(range(0, steps, 10))) & set(range(steps + 1)))


def run(configs: list[Config]) -> list[dict]:
    return lanes.grouped(configs, estimator, train)


def train(configs: list[Config], dtype=None) -> list[dict]:
    """Return one row of results for each config; their policies are trained side by
    side, in float32 unless `dtype` is given. Configs with the same estimator must stand
    next to one another.
    """
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
    """Curves over the steps in `when`, and the numbers that are read from them.

    Columns:
        step_curve: (11,), the numbers of steps after which the policy was measured,
            from 0, before training, to the last; entries of the curves without 'clip'
            belong to these
        batch_correct_curve: (11,), success rate on the 128 training prompts: the exact
            probability that a rollout of the policy is correct by the verifier, also
            where rewards are random
        unsolved_curve: (11,), expected number of the 128 training prompts for which
            none of G = 8 rollouts of the policy is correct
        train_entropy_curve: (11,), policy entropy in nats on training prompts, mean
            over the ten tokens
        entropy_curve: (11,), policy entropy in nats on the 512 held-out prompts, mean
            over the ten tokens
        greedy_curve: (11,), fraction of the held-out prompts at which greedy decoding
            is correct
        pass_1_curve: (11,), pass@1, the mean success rate, on held-out prompts
        pass_256_curve: (11,), pass@256 on held-out prompts, exact from the success rate
            of each
        clip_low_curve: (10,), fraction of tokens whose gradient PPO's clip removes at
            its lower end (negative advantage, ratio below 1 - clip_low), over all
            updates of the step that follows each entry of step_curve but the last
        clip_high_curve: (10,), as clip_low_curve, but at the upper end of the clip
            (positive advantage, ratio above 1 + clip_high)
        pass_at_k: (9,), pass@k on held-out prompts after the last step, for k = 1, 2,
            4, ..., 256
        pass_1, pass_16, pass_256: pass@k on held-out prompts after the last step, with
            k as in the name
        entropy: policy entropy in nats on held-out prompts, mean over the ten tokens,
            after the last step
        greedy: fraction of the held-out prompts at which greedy decoding is correct,
            after the last step
        batch_correct: exact success rate on the training prompts after the last step
        clip_low_mean, clip_high_mean: mean of clip_low_curve (or of clip_high_curve)
            over its entries from step 5 on (over all of them if fewer than seven steps
            were measured)
        fall: largest fall of batch_correct_curve below the highest value that it had
            before
        rise: largest ratio of unsolved_curve to the lowest value that it had before; 1
            if it never rises
        collapsed: whether, at some measured step, batch_correct_curve is more than 0.05
            below its earlier maximum and unsolved_curve more than 1.3 times its earlier
            minimum
    """
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


# --- table and figure ----------------------------------------------------------------

MAIN = where(study="main")
STUDIES = {"main": "both clips"} | {name: name for name in CONTROLS}
PASS_1 = Arm("pass@1", "0.35")
PASS_256 = Arm("pass@256", "0.35", "s", hollow=True)
QUANTITIES = {
    "entropy": named("entropy", "final entropy per token"),
    "pass_1": named("pass_1", "pass@1"),
    "pass_256": named("pass_256", "pass@256"),
    "batch_correct": named("batch_correct", "final success rate on training prompts"),
}


def arms(*methods: str) -> dict[str, Arm]:
    """Return the names, colours and markers of some methods' curves as {method: `Arm`},
    in the order given.
    """
    return {m: ADVANTAGES[m] for m in methods}


def difference(column: str, method: str, other: str = "grpo", study: str = "main"):
    """Return the estimate of a column under `method` minus the same under `other`,
    paired by seed, within a study. column: one of QUANTITIES.
    """
    return where(study=study).paired(QUANTITIES[column], method=(method, other))


def entropy(method: str, study: str = "main"):
    """Return the estimate of a method's final entropy per token on held-out prompts
    divided by GRPO's, paired by seed, within a study.
    """
    return where(study=study).ratio(QUANTITIES["entropy"], method=(method, "grpo"))


def table(df):
    """Return a table of every method of the main study, with paired differences to
    GRPO.
    """
    import pandas as pd

    rows = []
    means = MAIN(df).groupby("method").mean(numeric_only=True)
    for method in ("base", *METHODS):
        mean, row = means.loc[method], {"method": ADVANTAGES[method].label}
        for column in ("entropy", "pass_1", "pass_256"):
            row[column.replace("pass_", "pass@")] = f"{mean[column]:5.3f}"
        for column in ("pass_1", "pass_256"):
            i = difference(column, method)(df) if method != "grpo" else None
            shown = f"{i:+6.3f}" if i else ""
            row["difference of " + column.replace("_", "@")] = shown
        clipped = f"{mean.clip_low_mean:4.1%}, {mean.clip_high_mean:4.1%}"
        rows.append(row | {"clipped low, high": clipped})
    return pd.DataFrame(rows)


def _entropies(df, ax, study: str):
    rows = df[(df.study == study) | (df.method == "base")]
    frame = panels.unrolled(rows, "step_curve", "entropy_curve", ["method"])
    shown = arms("base", "grpo", "agrae", PD, ND)
    panels.curves(ax, frame, "x", "y", "method", shown)
    ax.set(xlabel="step", ylabel="test entropy per token (nats)", ylim=(0.34, 0.7))


def _between(ax, rows: int) -> None:
    for below in range(1, rows):
        panels.reference(ax, y=below - 0.5, color=panels.FAINT)


@figure("agrae2", "left", title="A clip of 0.2 orders entropies")
def draw_entropy(df, ax):
    """Policy entropy per token on held-out prompts against the training step, with
    PPO's clip of probability ratios at 0.8 and 1.2, for four advantage estimators and
    the policy before training (base). Bands and bars, here and in the other panels, are
    95 % intervals over 16 seeds.
    """
    _entropies(df, ax, "main")
    panels.key(ax)


@figure("agrae2", "mid", title="No clip: within 0.03 nats of GRPO")
def draw_entropy_no_clip(df, ax):
    """Policy entropy per token on held-out prompts minus GRPO's of the same seed,
    against the training step, for advantage estimators in training without PPO's clip.
    The y axis spans a sixth of the range that it has in the panel for training with the
    clip.
    """
    rows = where(study="no clip")(df)
    frame = panels.unrolled(rows, "step_curve", "entropy_curve", ["method"])
    wide = frame.pivot(index=["seed", "x"], columns="method", values="y")
    gaps = wide.sub(wide.grpo, axis=0).melt(ignore_index=False, value_name="y")
    panels.curves(ax, gaps.reset_index(), "x", "y", "method", arms("agrae", PD, ND))
    panels.reference(ax, y=0, color=plot.BLACK)
    panels.ticks(ax, "y", (-0.03, -0.02, -0.01, 0, 0.01, 0.02, 0.03))
    ax.set(xlabel="step", ylabel="entropy minus GRPO's (nats)", ylim=(-0.03, 0.03))


@figure("agrae2", "right", title="Final entropy, by control")
def draw_entropy_controls(df, ax):
    """Final policy entropy per token under Positive-Dominant and Negative-Dominant
    (GRPO with the advantages of right rollouts times 10 and divided by 10), divided by
    GRPO's, with both ends of PPO's clip and in each control: no clip, one end of it,
    fresh samples for every update (on-policy), random rewards under both ends. Without
    a clip the order of the two is reversed; on-policy, both are near 1. Most intervals
    are narrower than the marks.
    """
    ax.set_xscale("log")
    rows = {name: {m: entropy(m, study)(df) for m in (PD, ND)}
            for study, name in STUDIES.items()}  # fmt: skip
    panels.forest(ax, rows, arms(PD, ND), zero=1, spread=0.2)
    _between(ax, len(rows))
    panels.ticks(ax, "x", (0.7, 1, 1.4), log=10)
    ax.set(xlabel="final entropy over GRPO's", xlim=(0.6, 1.75))


@figure("agrae2", "left", row=1, title="Positive-Dominant ends clipped least")
def draw_clip_fractions(df, ax):
    """Percentage of tokens whose gradient PPO's clip removes, against the training
    step: filled, by its lower end (tokens with negative advantages); hollow, by its
    upper end (tokens with positive advantages), where GRPO and Negative-Dominant nearly
    coincide and have every other mark each.
    """
    own_marks = {"grpo": (0, 2), ND: (1, 2)}
    for side, look in (("low", {}), ("high", {"mfc": "white", "mew": 0.7})):
        column = f"clip_{side}_curve"
        frame = panels.unrolled(MAIN(df), "step_curve", column, ["method"])
        for method, arm in arms("grpo", PD, ND).items():
            own = frame[frame.method == method].assign(y=100 * frame.y)
            found = panels.means(own.groupby("x").y)
            every = own_marks.get(method) if side == "high" else None
            look = look | {"markevery": every}
            panels.band(ax, [*found], [*found.values()], arm, **look)
    panels.ticks(ax, "y", (0.3, 1, 3), log=10)
    ax.set(xlabel="step", ylabel="tokens clipped (%)", ylim=(0.2, 8))
    clips = (Arm("lower clip", "0.35"), Arm("upper clip", "0.35", hollow=True))
    listed = panels.handles(clips, lines=False)
    ax.add_artist(ax.legend(loc="upper right", **listed))
    panels.key(ax, [*arms("base", "grpo", PD, ND, "psr", "nsr").values()])


@figure("agrae2", "mid", row=1, title="The base is ahead at large $k$")
def draw_pass(df, ax):
    """pass@k on held-out prompts after training by GRPO, by right rollouts alone (PSR)
    and by wrong rollouts alone (NSR), and before training (base).
    """
    frame = panels.unrolled(MAIN(df), KS, "pass_at_k", ["method"])
    shown = arms("base", "grpo", "psr", "nsr")
    panels.curves(ax, frame, "x", "y", "method", shown, limits=(0, 1))
    panels.ticks(ax, "x", KS[::2], log=2)
    ax.set(xlabel="$k$", ylabel="pass@$k$, held-out prompts")


@figure("agrae2", "right", row=1, title="pass@$k$ against GRPO's")
def draw_methods(df, ax):
    """pass@1 and pass@256 on held-out prompts of each method minus GRPO's, paired by
    seed.
    """
    kinds = {"pass_256": PASS_256, "pass_1": PASS_1}
    rows = {ADVANTAGES[m].label: {c: difference(c, m)(df) for c in kinds}
            for m in METHODS if m != "grpo"}  # fmt: skip
    panels.forest(ax, rows, kinds)
    _between(ax, len(rows))
    panels.ticks(ax, "x", (-0.03, 0, 0.03))
    ax.tick_params(axis="y", labelsize=panels.SMALL)
    ax.set_xlabel("pass@$k$ minus GRPO's")
    panels.key(ax, [PASS_1, PASS_256], lines=False)


# --- claims --------------------------------------------------------------------------

POINT = AGRAE.smallest["pass@k"].size  # least difference in pass@k that counts
MORE = AGRAE.smallest["entropy"].size  # least ratio of entropies that counts
LESS = 1 / MORE


def every_seed(column: str, *pairs: tuple[str, str], study: str = "main") -> Estimate:
    """Return the estimate of the smallest value, over all seeds and pairs of methods,
    of a column under the first method of a pair minus the same under the second.
    """

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


def at_every_k(method: str, other: str) -> Estimate:
    """Return the estimate of pass@k on held-out prompts under `method` minus that under
    `other`, paired by seed, at the k where its mean over seeds is smallest.
    """

    def compute(df):
        rows = MAIN.where(method=(method, other))(df)
        frame = panels.unrolled(rows, KS, "pass_at_k", ["method"])
        wide = frame.pivot(index=["x", "seed"], columns="method", values="y")
        found = panels.means((wide[method] - wide[other]).groupby("x"))
        return min(found.values(), key=lambda i: i.value)

    return Estimate(
        compute,
        f"mean over seeds of pass@k on held-out prompts, {method} minus {other} "
        "(paired), at the k where it is smallest, where study = main",
    )


def clip_effect(clip: str, without: str = "no clip") -> Estimate:
    """Return the estimate of GRPO's final entropy per token in the study `clip` divided
    by that in the study `without`, paired by seed. The two studies differ in PPO's
    clip.
    """
    pair = (clip, without)
    rows = where(method="grpo", study=pair)
    return rows.ratio(QUANTITIES["entropy"], study=pair)


CLIPPED = named("clip_low_mean + clip_high_mean", "fraction of tokens clipped")
GRPO = MAIN.where(method="grpo")
ORDER = (("grpo", PD), (ND, "grpo"))
ARM_OF = {"no_loss": PD, "no_gain": ND}
ALONE = {"positives_are_not_clipped_low": ("psr", "low"),
         "negatives_are_not_clipped_high": ("nsr", "high")}  # fmt: skip
TASK = "On a synthetic task of ten independent tokens, two of which decide the reward"
TOSSED = "With tosses of a coin as rewards for answers of ten independent tokens"
RAISED, LOWERED, AG = (IN_WORDS[m] for m in (PD, ND, "agrae"))
TENTH, ONE_POINT = (AGRAE.smallest[k].reason for k in ("entropy", "pass@k"))
TIMES_TEN = "GRPO with the advantages of right rollouts times 10 and divided by 10"
HELD_OUT = "on held-out prompts"
AN_ORDER = (
    "The paper orders the three methods, and any difference of this sign agrees with "
    "it; other claims ask how large the differences are."
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
was_ratio = partial(resized, AGRAE.smallest["entropy"])
CLAIMS = [
    setting("base_reward",
        f"{TASK}, the policy before training is right in 0.4 to 0.55 of its rollouts "
        "on training prompts, in the mean over seeds.",
        unit="fraction of rollouts",
        estimate=MAIN.where(method="base").mean(QUANTITIES["batch_correct"]),
        above=0.4, below=0.55,
        reason="Right and wrong rollouts are then both common, so that most groups of "
        "rollouts give GRPO a gradient. The sizes and the noise of the task were "
        "chosen for this, on other seeds."),
    setting("plateau",
        f"{TASK}, GRPO ends with a success rate above 0.8 on training prompts, in the "
        "mean over seeds.",
        unit="fraction of rollouts",
        estimate=GRPO.mean(QUANTITIES["batch_correct"]), above=0.8,
        reason="Training has then done most of what it can. The sizes and the noise "
        "of the task were chosen for this, on other seeds."),
    setting("clip_fraction",
        f"{TASK}, PPO's clip of the probability ratio, at 0.8 and at 1.2, acts on 1 "
        "to 10 % of the tokens in training by GRPO, averaged over the logged steps "
        "from step 5 on.",
        estimate=GRPO.mean(CLIPPED), above=0.01, below=0.1, unit="fraction of tokens",
        reason="The experiment is to show what the clip does, so that the clip must "
        "act; in logs of large training runs it acts on 0.04 to 0.2 % of the tokens. "
        "The sizes and the noise of the task were chosen for this, on other seeds."),
    # --- entropy
    agrae("entropy_is_ordered",
        f"{TASK}, GRPO ends in every seed with a higher policy entropy {HELD_OUT} "
        "than Positive-Dominant and a lower one than Negative-Dominant "
        f"({TIMES_TEN}).",
        place="figure 3", estimate=every_seed("entropy", *ORDER),
        above=0.0, unit="nats", reason=AN_ORDER),
    ratio("positive_dominant_loses_entropy",
        f"{TASK}, {RAISED} ends with less than 0.91 times GRPO's policy entropy "
        f"{HELD_OUT}, in the mean over seeds.",
        paper=AGRAE, place="figure 3", estimate=entropy(PD), below=LESS,
        **was_ratio("of 0.7")),
    ratio("negative_dominant_keeps_entropy",
        f"{TASK}, {LOWERED} ends with more than 1.1 times GRPO's policy entropy "
        f"{HELD_OUT}, in the mean over seeds.",
        paper=AGRAE, place="figure 3", estimate=entropy(ND),
        above=MORE, **was_ratio("of 1.2, which failed,")),
    ratio("agrae_entropy_is_above_grpo",
        f"{TASK}, {AG} ends with more than 1.1 times GRPO's policy entropy "
        f"{HELD_OUT}, in the mean over seeds.",
        paper=AGRAE, place="figure 10", estimate=entropy("agrae"), above=MORE,
        expected="failed",
        because="A-GRAE ends with 4 % more entropy than GRPO: it gains, but less than "
        "a tenth.",
        **was_ratio("of 0 nats, which held,")),
    *family("{study}_{effect}",
        f"{TASK}, {{effect}} ends with 0.91 to 1.1 times GRPO's policy entropy "
        f"{HELD_OUT}, in the mean over seeds, if both {{study}}.",
        lambda study, effect: entropy(ARM_OF[effect], study), paper=AGRAE,
        place="figure 3, without the clip or without stale samples", origin="control",
        kind="equivalence",
        above=LESS, below=MORE, unit="times GRPO's entropy",
        reason="In expectation such a method gives prompts other weights and does no "
        "more, as long as samples are fresh and nothing is clipped. " + TENTH,
        **was_ratio("of 0.9 and 1.1"),
        study={"no clip": "train without PPO's clip",
               "on-policy": "draw fresh samples for every update"},
        effect={"no_loss": RAISED, "no_gain": LOWERED}),
    agrae("entropy_is_ordered_by_random_rewards",
        f"{TOSSED}, GRPO ends in every seed with a higher policy entropy {HELD_OUT} "
        "than Positive-Dominant and a lower one than Negative-Dominant "
        f"({TIMES_TEN}).",
        place="figure 3, without information in the reward", origin="control",
        estimate=every_seed("entropy", *ORDER, study="random reward"),
        above=0.0, unit="nats",
        reason="By arXiv 2509.26114 PPO's clip changes entropy even where rewards are "
        "random, so that the order of the methods should stay. Any difference of this "
        "sign counts."),
    clipping("low_clip_raises_entropy",
        f"{TASK}, GRPO with PPO's lower clip alone, at a probability ratio of 0.8, "
        f"ends with more than 1.1 times the policy entropy {HELD_OUT} that it has "
        "without a clip, in the mean over seeds.",
        tests="low", estimate=clip_effect("low clip"), above=MORE,
        **was_ratio("of 0 nats")),
    clipping("high_clip_lowers_entropy",
        f"{TASK}, GRPO with PPO's upper clip alone, at a probability ratio of 1.2, "
        f"ends with less than 0.91 times the policy entropy {HELD_OUT} that it has "
        "without a clip, in the mean over seeds.",
        tests="high", estimate=clip_effect("high clip"), below=LESS, expected="failed",
        because="GRPO ends with 0.96 of the entropy that it has without a clip: it "
        "falls, by less than a tenth.", **was_ratio("of 0 nats, which held,")),
    Claim("clips_lower_entropy_under_random_rewards",
        f"{TOSSED}, GRPO with PPO's clip at probability ratios of 0.8 and 1.2 ends "
        f"with less than 0.91 times the policy entropy {HELD_OUT} that it has without "
        "a clip, in the mean over seeds.",
        paper=CLIPPING, place="abstract", tests="random", reason=TENTH,
        unit="times the entropy without a clip", below=LESS,
        estimate=clip_effect("random reward", "random, no clip"), expected="failed",
        because="The lower clip of PPO's ratio dominates, under random rewards as with "
        "true ones: entropy with both clips is 1.25 times that without. Both end below "
        "the base policy's entropy, which the noise of the updates lowers.",
        written="after", history=(("2026-11-30", "written after a look at the rows"),)),
    Claim("no_gain_without_the_low_clip",
        f"{TASK}, {LOWERED} ends with 0.91 to 1.1 times GRPO's policy entropy "
        f"{HELD_OUT}, in the mean over seeds, if both train with PPO's upper clip "
        "alone.",
        unit="times GRPO's entropy", reason="By arXiv 2509.26114 it is the lower clip "
        "that raises entropy, so that the difference to GRPO should vanish without it. "
        + TENTH,
        paper=AGRAE, place="figure 3, without the lower clip", origin="control",
        kind="equivalence", estimate=entropy(ND, "high clip"), above=LESS, below=MORE,
        **was_ratio("of 0.9 and 1.1")),
    *family("{signs}",
        f"In training by {{signs}} of PPO's probability ratio, in any run at any "
        f"logged step from step 5 on ({TASK[:1].lower()}{TASK[1:]}).",
        lambda signs: where(method=ALONE[signs][0]).worst(
            named(f"clip_{ALONE[signs][1]}_mean", "fraction of tokens clipped there")),
        signs={"positives_are_not_clipped_low": "PSR, which uses right rollouts alone, "
               "no token is clipped at the lower bound",
               "negatives_are_not_clipped_high": "NSR, which uses wrong rollouts "
               "alone, no token is clipped at the upper bound"},
        place="definition of the clipped objective", origin="protocol", below=1e-12,
        kind="identity", unit="fraction of tokens",
        reason="The lower clip acts only on rollouts of negative advantage and the "
        "upper one only on those of positive advantage, so that the fraction is "
        "exactly 0."),
    # --- pass@k
    points("grpo_lifts_pass_1",
        f"{TASK}, GRPO ends with a pass@1 {HELD_OUT} more than 0.01 above that of the "
        "policy before training, in the mean over seeds.",
        paper=AGRAE, place="figure 2", tests="shrinkage", above=POINT,
        estimate=difference("pass_1", "grpo", other="base"),
        **was_zero((FIRST, "'in every seed' became the mean over seeds: in one "
                            "of the first 16 pass@1 is lower by 0.006"))),
    points("grpo_lowers_pass_256",
        f"{TASK}, GRPO ends in every seed with a pass@256 {HELD_OUT} more than 0.01 "
        "below that of the policy before training.",
        paper=AGRAE, place="figure 2", tests="shrinkage", above=POINT,
        estimate=every_seed("pass_256", ("base", "grpo")), **was_zero()),
    *(points(name, text, paper=ZHU, place="abstract", tests=headline,
        estimate=found, written="after",
        history=(("2026-11-30", "written after a look at the rows"),), **fields)
      for name, headline, text, found, fields in (
        ("nsr_beats_the_base_at_every_k", "negative alone",
         f"{TASK}, NSR (training on wrong rollouts alone) ends with a pass@k "
         f"{HELD_OUT} more than 0.01 above that of the policy before training, at "
         "every k = 1, 2, 4, ..., 256, in the mean over seeds.",
         at_every_k("nsr", "base"),
         {"above": POINT, "expected": "failed", "because": "NSR is ahead of the base "
          "policy at k = 1 only, and 0.13 behind at k = 32. Every method falls behind "
          "at large k: the base policy guesses more widely than any trained one."}),
        ("nsr_matches_grpo_at_every_k", "negative and grpo",
         f"{TASK}, NSR (training on wrong rollouts alone) ends with a pass@k "
         f"{HELD_OUT} above GRPO's or less than 0.01 below it, at every k = 1, 2, 4, "
         "..., 256, in the mean over seeds.",
         at_every_k("nsr", "grpo"), {"above": -POINT}),
        ("psr_lifts_pass_1", "positive alone",
         f"{TASK}, PSR (training on right rollouts alone) ends with a pass@1 "
         f"{HELD_OUT} more than 0.01 above that of the policy before training, in the "
         "mean over seeds.",
         difference("pass_1", "psr", other="base"), {"above": POINT}),
        ("psr_lowers_pass_256", "positive alone",
         f"{TASK}, PSR (training on right rollouts alone) ends with a pass@256 "
         f"{HELD_OUT} more than 0.01 below that of the policy before training, in the "
         "mean over seeds.",
         difference("pass_256", "psr", other="base"), {"below": -POINT}))),
]  # fmt: skip
