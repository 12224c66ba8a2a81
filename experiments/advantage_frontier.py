"""A-GRAE gains over GRPO in pass@1 and pass@256 where exploration can pay.

Reference: "Unveiling Implicit Advantage Symmetry" (A-GRAE, arXiv 2602.05548), figures
2, 3, 5 and 10 and table 1 on 7B models; W-REINFORCE is that of arXiv 2506.01347. The
estimators come from symlab.rlvr; environment (symlab.rlvr.branching), tuning and
thresholds are ours. Signs and sizes of differences are compared: none of the paper's
numbers is a target at this scale.

A completion is a plan, which is free, and two answer tokens, which decide and whose
right values depend on the plan. So each prompt has six right paths, and exploration can
pay twice: rare plans are the more predictable ones (pass@1), and a prompt that is a
surprise after one plan need not be one after another (pass@256). Widths, scales and
noises were chosen with GRPO alone, on seeds 10000 to 10015, before any other method was
run: `exploration_can_pay` and the other preconditions say what they were chosen for.

Cells: three base policies, which solve 0.06, 0.2 and 0.46 of their rollouts, times two
regimes of 400 updates, one epoch or four epochs over each batch of samples. They differ
in how stale samples are, hence in the tokens that are clipped: logs of large runs show
0.04 to 0.2 %, as one epoch does; a few per cent is what other small studies have.

Every method runs at each of four rates in each cell, on 8 seeds and on 4 others for
tuning. The rate with the largest mean area on the tuning seeds is used, so all methods
have equal effort. Area: pass@1 and pass@256 on held-out prompts, at ten checkpoints
from the base policy on, are the points of a trade-off; the area that they dominate
(hypervolume from the origin) does not ask when one stops. A frontier that lies 0.01
further out in pass@1 has an area larger by 0.01 where pass@256 is near 1.

Expected, from the theory (experiments/advantage_theory.py): in expectation an estimator
only reweights prompts, so where little is clipped differences to GRPO are small, and a
focus on hard prompts helps pass@256. Found: see docs/advantage-symmetry.md.
Cost on one core: smoke 2 s, quick 3 min, paper 10 min.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from symlab.harness import (
    Arm,
    Claim,
    family,
    figure,
    grid,
    named,
    panels,
    plot,
    weakest,
    where,
)
from symlab.harness.race import Race, chosen
from symlab.papers import ADVANTAGES, AGRAE, ZHU
from symlab.rlvr.branching import TRAIN, Training, frontier_area
from symlab.rlvr.passk import pass_at_k_exact

LANES = 64
STATIC = ("epochs", "updates", "group")
NOISE = {0.06: 3.6, 0.2: 1.03, 0.46: 0.355}  # of the base policies, by their success
EPOCHS, RATES = (1, 4), (0.025, 0.05, 0.1, 0.2)
CHECKPOINTS = (0, 16, 32, 48, 80, 112, 160, 224, 304, 400)  # numbers of updates
PD, ND, WR = "positive_dominant", "negative_dominant", "w_reinforce"
METHODS = ("grpo", PD, ND, "ddas", "agrae", WR, "hard", "easy")


@dataclass(frozen=True)
class Config:
    study: str = "race"
    """'race', or 'tune': the same on other seeds, which choose the rates."""
    method: str = "grpo"
    """An estimator of symlab.rlvr.advantages, with its default options."""
    omega: str = "batch"
    """The rollouts whose mean reward is A-GRAE's omega: of the 'batch' or 'group'."""
    base: float = 0.2
    """Success rate of the base policy, to which its noise belongs; a key of NOISE."""
    epochs: int = 1
    """Passes over the samples of a step, each of 4 minibatches."""
    lr: float = 0.1
    """Adam's learning rate."""
    clip: float = 0.2
    """Ratios outside 1 - clip to 1 + clip are clipped."""
    updates: int = 400
    """Updates of the policy; a step has 4 in each epoch."""
    group: int = 8
    """Rollouts of a prompt, G."""
    seed: int = 0
    """Prompts, base policy and samples; shared by all arms."""

    @property
    def noise(self) -> float:
        """Noise of the base policy, relative to the teacher."""
        return NOISE[self.base]


def sweep(scale: str) -> list[Config]:
    n, tuning = {"smoke": (2, 2), "quick": (8, 4), "paper": (32, 8)}[scale]
    updates = 16 if scale == "smoke" else CHECKPOINTS[-1]
    seeds = [("race", s) for s in range(n)]
    seeds += [("tune", s) for s in range(100, 100 + tuning)]
    methods = [(m, "batch") for m in METHODS] + [("agrae", "group")]
    cells = {"base": NOISE, "epochs": EPOCHS, "lr": RATES, "updates": updates}
    # seeds outermost: a chunk of lanes then has few of them, and few samples to draw
    return [
        c
        for study, s in seeds
        for method, omega in methods
        for c in grid(Config, study=study, method=method, omega=omega, seed=s, **cells)
    ]


def run(configs: list[Config]) -> list[dict]:
    training = Training(configs)
    c, each = configs[0], 4 * configs[0].epochs
    found, clipped = [training.measure()], []
    for done in range(0, c.updates, each):
        clipped.append(training.step(count=True))
        if done + each in CHECKPOINTS:
            found.append(training.measure())
    clipped = np.stack(clipped)
    return [_row(training, i, found, clipped[:, i]) for i in range(len(configs))]


def _row(training: Training, lane: int, found: list[dict], clipped) -> dict:
    """Curves over the checkpoints, and the numbers that are read from them."""
    success = [f["success"][lane] for f in found]
    first = [float(p[TRAIN:].mean()) for p in success]
    last = [float(pass_at_k_exact(p[TRAIN:], 256).mean()) for p in success]
    solved = [float(p[:TRAIN].mean()) for p in success]
    kept = {k: float(found[-1][k][lane, TRAIN:].mean()) for k in ("free", "decisive")}
    foreseen = training.worlds[lane].foreseen
    return kept | {
        "pass_1_curve": first,
        "pass_256_curve": last,
        "solved_curve": solved,
        "area": frontier_area(first, last),
        "unreached": 1 - frontier_area(first, last),
        "pass_1": first[-1],
        "pass_256": last[-1],
        "rise_1": first[-1] - first[0],
        "rise_256": last[-1] - last[0],
        "solved_first": solved[0],
        "solved_early": float(np.mean(solved[1:4])),
        "solved_late": solved[-1],
        "clipped": float(clipped.mean()),
        "foreseen_gap": float(foreseen[-3:].mean() - foreseen[0]),
    }


# --- table and figure ----------------------------------------------------------------

ARM = ("method", "omega", "base", "epochs")  # each has a rate of its own
SHOWN = {m: ADVANTAGES[m] for m in ("grpo", "agrae", PD, ND, WR)}
OTHERS = {m: arm for m, arm in SHOWN.items() if m != "grpo"}
REGIMES = {1: "one epoch", 4: "four epochs"}
TOKENS = {"free": Arm("plan (free)", plot.BLUE, "o"),
          "decisive": Arm("answer (decisive)", plot.ORANGE, "s")}  # fmt: skip


def tuned(df):
    """study = race, each method at the rate with the largest area on the tuning seeds

    A rate is chosen for each method in each cell, which is a base policy and a regime.
    """
    best = chosen(df[df.study == "tune"], ARM, ("lr",), "unreached").lr
    race = df[df.study == "race"]
    race = race.merge(best.rename("best").reset_index(), on=list(ARM))
    cell = race.base.astype(str) + ", " + race.epochs.map(REGIMES)
    return race[race.lr == race.best].assign(cell=cell)


RACED = where(tuned)
OF_BATCH = RACED.where(omega="batch")
AREA = named("area", "area under the frontier of pass@1 and pass@256")


def gain(quantity, method: str, each: str = "", **cell):
    """The paired difference to GRPO, averaged over a field where one is named."""
    return OF_BATCH.where(**cell).paired(quantity, each=each, method=(method, "grpo"))


def entropy(tokens: str, method: str, epochs: int):
    """A method's final entropy over GRPO's, a geometric mean over seeds and bases."""
    words = named(tokens, f"final entropy of the {tokens} tokens")
    logs = OF_BATCH.where(epochs=epochs).log_ratio(
        words, each="base", method=(method, "grpo")
    )
    return logs.map(lambda x: float(np.exp(x)), "exp of the {}")


def table(df):
    """Every method against GRPO, in each regime; averages over the base policies."""
    import pandas as pd

    def shown(found):
        return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"

    rows = []
    for epochs, method in ((e, m) for e in EPOCHS for m in METHODS[1:]):
        row = {"samples used for": REGIMES[epochs], "method": ADVANTAGES[method].label}
        for base in NOISE:
            found = gain("area", method, base=base, epochs=epochs)(df)
            row[f"area, base {base:g}"] = shown(found)
        for column in ("pass_1", "pass_256"):
            name = "final " + column.replace("_", "@")
            row[name] = shown(gain(column, method, each="base", epochs=epochs)(df))
        for tokens in TOKENS:
            ratio = entropy(tokens, method, epochs)(df).value
            row[f"entropy, {tokens}"] = f"{ratio:.2f} times"
        rows.append(row)
    return pd.DataFrame(rows)


def _frontier(df, ax, base: float, epochs: int):
    """Means over seeds at the checkpoints, from the base policy on."""
    rows = OF_BATCH.where(base=base, epochs=epochs)(df)
    for method, arm in SHOWN.items():
        own = rows[rows.method == method]
        x, y = (np.mean([*own[f"pass_{k}_curve"]], axis=0) for k in (1, 256))
        look = {"color": arm.color, "ls": arm.line, "marker": arm.marker, "mew": 0}
        ax.plot(x, y, label=arm.label, **look)
    ax.plot(x[:1], y[:1], "x", color="0.2", ms=5, zorder=9)
    panels.note(ax, x[0], y[0], "  base", data=True, va="center")
    ax.set(xlabel="pass@1, held out", ylabel="pass@256, held out")
    ax.set_title(f"base {base:g}, {REGIMES[epochs]}")


@figure("agrae8", panel="left")
def draw_rare(df, ax):
    _frontier(df, ax, 0.2, 1)
    panels.legend(ax, "lower left")


@figure("agrae8", panel="mid")
def draw_common(df, ax):
    _frontier(df, ax, 0.2, 4)


@figure("agrae8", panel="right")
def draw_weak(df, ax):
    _frontier(df, ax, 0.06, 4)


@figure("agrae8", panel="left", row=1)
def draw_areas(df, ax):
    cells = {f"{b:g}, {e} ep.": {"base": b, "epochs": e} for b in NOISE for e in EPOCHS}
    rows = {
        name: {m: gain("area", m, **cell)(df) for m in OTHERS}
        for name, cell in cells.items()
    }
    panels.forest(ax, rows, OTHERS, spread=0.6)
    for edge in (-POINT, POINT):
        panels.reference(ax, x=edge, ls=":")
    ax.set(xlabel="area, difference to GRPO", ylabel="base success, regime")
    panels.legend(ax, "lower left", room=0.3, ncol=2, columnspacing=0.8)


@figure("agrae8", panel="mid", row=1)
def draw_entropies(df, ax):
    for epochs, filled in ((1, "none"), (4, None)):
        for (tokens, arm), shift in zip(TOKENS.items(), (-0.1, 0.1), strict=True):
            found = [entropy(tokens, m, epochs)(df) for m in OTHERS]
            at = np.arange(len(found)) + shift + (0.04 if filled else -0.04) * 5
            label = f"{arm.label}, {REGIMES[epochs]}"
            look = {"mfc": filled or arm.color, "mew": 0.7, "label": label}
            panels.points(ax, at, found, arm, **look)
    panels.reference(ax, y=1)
    names = [arm.label.replace("-", "-\n", 1) for arm in OTHERS.values()]
    ax.set_xticks(range(len(names)), names)
    ax.set_yscale("log")
    ax.set_ylabel("final entropy over GRPO's")
    panels.legend(ax, "upper left", room=0.35)


@figure("agrae8", panel="right", row=1)
def draw_rates(df, ax):
    rows = where(study="race", omega="batch", base=0.2, epochs=4)(df)
    panels.curves(ax, rows, "lr", "area", "method", SHOWN)
    panels.ticks(ax, "x", RATES, log=2)
    ax.set(xlabel="learning rate", ylabel="area of the frontier")
    ax.set_title("base 0.2, four epochs")


# --- claims --------------------------------------------------------------------------

POINT = AGRAE.smallest["pass@k"].size  # least difference in pass@k that counts
ROLLOUT = AGRAE.smallest["batch-correct rate"].size
MORE = AGRAE.smallest["entropy"].size  # least ratio of entropies that counts
LESS = 1 / MORE
OUTWARDS = (
    "A frontier that lies 0.01 further out in pass@1, one prompt in a hundred, which "
    "is the smallest gain that counts in pass@k, has an area larger by 0.01 where "
    "pass@256 is near 1."
)
TENTH = (
    "A difference of less than a tenth would hardly be seen in figure 3 of arXiv "
    "2602.05548, whose curves end at 0.42 and 6.6 times GRPO's entropy."
)
IN_REGIME = {1: "with one epoch over the samples", 4: "with four epochs over them"}
AT_BASE = {b: f"from a base policy of success {b:g}" for b in NOISE}
TUNED = "each method at its tuned rate"
ROLLOUTS = AGRAE.smallest["batch-correct rate"].reason
GRPO = OF_BATCH.where(method="grpo")
QUANTITY = {
    "easy_before_hard": named("solved_early", "success on training prompts, first 48"),
    "hard_after_easy": named("solved_late", "final success on training prompts"),
}
setting = partial(Claim, origin="protocol", kind="precondition")
areas = partial(family, unit="area", reason=OUTWARDS)
ratios = partial(family, unit="times GRPO's entropy", reason=TENTH, epochs=IN_REGIME,
                 tokens={"free": "plan", "decisive": "answer"})  # fmt: skip
RACE = Race(
    "the race of estimators", ARM, ("lr",), where(study="tune"), RACED, "unreached"
)
CLAIMS = [
    *family("base_reward_{base}",
        "The base policy that is meant to solve {base} of its rollouts on the training "
        "prompts solves 0.75 to 1.25 times that, in the mean over seeds.",
        lambda base: GRPO.where(base=base).mean(named(
            "solved_first / base", "success of the base policy over what is meant")),
        base=list(NOISE), above=0.75, below=1.25, origin="protocol",
        kind="precondition", unit="times what is meant",
        reason="The three base policies then stay apart, by a factor of two and more."),
    setting("clips_are_rare",
        "Under GRPO at its tuned rates, with one epoch over the samples, 0.01 to 0.2 % "
        "of the tokens are clipped.",
        estimate=GRPO.where(epochs=1).mean(named("clipped", "fraction clipped")),
        above=1e-4, below=2e-3, unit="fraction of tokens",
        reason="Logs of large runs show 0.04 to 0.2 %."),
    setting("clips_are_common",
        "Under GRPO at its tuned rates, with four epochs over the samples, 1 to 5 % of "
        "the tokens are clipped.",
        estimate=GRPO.where(epochs=4).mean(named("clipped", "fraction clipped")),
        above=0.01, below=0.05, unit="fraction of tokens",
        reason="The clip moves entropy from about 1 % on, as advantage_dynamics shows, "
        "and a regime without it stands beside."),
    setting("exploration_can_pay",
        "The best guess of the teacher is right more often, by more than 0.1, after "
        "the three plans that the base policy uses least than after the one that it "
        "uses most.",
        estimate=where(study="race").mean(named(
            "foreseen_gap", "right answers foreseen, rare minus common plans")),
        above=0.1, unit="fraction of prompts",
        reason="A policy that changes its plans can then gain ten times the smallest "
        "difference that counts at pass@1."),
    *RACE.protocol(prefix="", tolerance=1e-9, unit="of area",
        reason="The rates are chosen by the tuning rows themselves."),
    # --- the frontier
    *areas("agrae_frontier_{base}_{epochs}",
        "A-GRAE's frontier of pass@1 and pass@256 has an area that is above GRPO's by "
        f"more than 0.01, {{base}}, {{epochs}}, {TUNED}.",
        lambda base, epochs: gain(AREA, "agrae", base=base, epochs=epochs),
        base=AT_BASE, epochs=IN_REGIME, paper=AGRAE, place="table 1", tests="a-grae",
        above=POINT),
    *areas("negative_dominant_frontier_{epochs}",
        "Negative-Dominant (advantages of correct rollouts divided by 10) has a "
        "frontier of pass@1 and pass@256 whose area is less than 0.01 below GRPO's, "
        f"{{epochs}}, {TUNED} (mean of three base policies).",
        lambda epochs: gain(AREA, ND, each="base", epochs=epochs),
        epochs=IN_REGIME, paper=AGRAE, place="figure 2", tests="suppression",
        above=-POINT),
    *areas("positive_dominant_frontier_{epochs}",
        "Positive-Dominant (advantages of correct rollouts times 10) has a frontier of "
        "pass@1 and pass@256 whose area is below GRPO's by more than 0.01, {epochs}, "
        f"{TUNED} (mean of three base policies).",
        lambda epochs: gain(AREA, PD, each="base", epochs=epochs),
        epochs=IN_REGIME, paper=AGRAE, place="figure 2", below=-POINT),
    *areas("w_reinforce_frontier_{epochs}",
        "W-REINFORCE (advantage 0.1 if right, -1 if wrong) has a frontier of pass@1 "
        "and pass@256 whose area is above GRPO's by more than 0.01, {epochs}, "
        f"{TUNED} (mean of three base policies).",
        lambda epochs: gain(AREA, WR, each="base", epochs=epochs),
        epochs=IN_REGIME, paper=ZHU, place="pass@k for k from 1 to 256",
        tests="weighted", above=POINT),
    Claim("omega_of_single_groups_costs",
        "A-GRAE's frontier of pass@1 and pass@256 has an area that is lower by more "
        "than 0.01 where omega is the mean reward of a single group than where it is "
        f"that of the batch, {TUNED} (mean of six cells).",
        place="batches of one group are TRL's default", unit="area",
        estimate=RACED.where(method="agrae").paired(
            AREA, each="cell", omega=("group", "batch")),
        below=-POINT, reason=OUTWARDS),
    # --- entropy
    *ratios("negative_dominant_{tokens}_entropy_{epochs}",
        "Negative-Dominant (advantages of correct rollouts divided by 10) ends with "
        "more than 1.1 times GRPO's entropy of {tokens} tokens on held-out prompts, "
        f"{{epochs}}, {TUNED}.",
        lambda tokens, epochs: entropy(tokens, ND, epochs),
        paper=AGRAE, place="figure 3", tests="suppression", above=MORE),
    *ratios("positive_dominant_{tokens}_entropy_{epochs}",
        "Positive-Dominant (advantages of correct rollouts times 10) ends with less "
        "than 0.91 of GRPO's entropy of {tokens} tokens on held-out prompts, "
        f"{{epochs}}, {TUNED}.",
        lambda tokens, epochs: entropy(tokens, PD, epochs),
        paper=AGRAE, place="figure 3", below=LESS),
    *ratios("agrae_{tokens}_entropy_{epochs}",
        "A-GRAE ends with more than 1.1 times GRPO's entropy of {tokens} tokens on "
        f"held-out prompts, {{epochs}}, {TUNED}.",
        lambda tokens, epochs: entropy(tokens, "agrae", epochs),
        paper=AGRAE, place="figure 10", above=MORE),
    # --- what training does, and in which order
    Claim("grpo_lifts_pass_1",
        "In each of six cells (three base policies, one and four epochs) GRPO at its "
        "tuned rate raises pass@1 on held-out prompts above the base policy's by more "
        "than 0.01.",
        paper=AGRAE, place="figure 2", tests="shrinkage", unit="fraction of prompts",
        estimate=weakest(*(
            GRPO.where(base=b, epochs=e).mean(named("rise_1", "rise of pass@1"))
            for b in NOISE for e in EPOCHS)),
        above=POINT, reason=AGRAE.smallest["pass@k"].reason),
    *family("grpo_lowers_pass_256_{base}",
        "GRPO at its tuned rates ends with a pass@256 on held-out prompts that is "
        "below the base policy's by more than 0.01, {base} (mean of both regimes).",
        lambda base: GRPO.where(base=base).mean(named("rise_256", "rise of pass@256")),
        base=AT_BASE, paper=AGRAE, place="figure 2", tests="shrinkage",
        unit="fraction of prompts", below=-POINT,
        reason=AGRAE.smallest["pass@k"].reason),
    *family("{order}_{epochs}",
        f"{{order}}, {{epochs}}, {TUNED} (mean of three base policies).",
        lambda order, epochs: OF_BATCH.where(epochs=epochs).paired(
            QUANTITY[order], each="base", method=order.split("_")[:3:2]),
        order={
            "easy_before_hard": "Over the first 48 updates Easy has a success rate on "
            "training prompts that is above Hard's by more than 0.01",
            "hard_after_easy": "After 400 updates Hard has a success rate on training "
            "prompts that is above Easy's by more than 0.01"},
        epochs=IN_REGIME, paper=AGRAE, place="figure 5", tests="curriculum",
        unit="fraction of rollouts", above=ROLLOUT, reason=ROLLOUTS),
]  # fmt: skip
