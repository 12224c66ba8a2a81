"""Optimizers at matched tuning effort on a dense decoder: one rate each, eight seeds.

Reference: the optimizers are those of symlab.symopt.PRESETS, where each is cited;
protocol and claims are ours. A Qwen3-style decoder (untied) learns the standard
library's text, next-token loss.

What is raced. Muon, PolarGrad, NorMuon, ARO, Kaon and Freon are rules for hidden
matrices and leave embedding, head and gains to AdamW. Here that AdamW is one and the
same for all of them and for AdamW itself: rate .025 for embedding and head, .005 for
gains. The one knob of each arm is the rate of its hidden matrices, so that arms differ
there only, by their rule and by the momentum that is shipped with it. `symmetric` (the
layerwise stack) and `scion` are whole optimizers with rules of their own for tables;
their knob is their one rate. `adamw_one_rate` and `muon_one_rate` have no rate of their
own for tables: SymOpt as it is called with a preset and nothing else. AdamW is here
twice, then: comparisons are with the one whose tables have their own rate, unless a
claim says "one rate".

  tune    five rates a factor two apart for every arm, seeds 100 and 101
  race    at the rate that the tuning stage chose (TUNED), seeds 0 to 7: weights and
          order of the text are the same for all arms of a seed
  slope   AdamW and Muon at half and twice that rate, seeds 0 to 7

Weight decay is 0 for all: over so few steps .1 would shrink weights by some percent, in
proportion to the rate, and Scion's constrained form is another optimizer. Momentum is
.95, of AdamW and Scion .9; Muon, NorMuon and the stack look ahead (Nesterov), Freon,
Kaon, PolarGrad, ARO and Scion do not. The rate falls linearly to 0 over the last 40 %
of the steps.

From a prototype on seeds 10000 and 10001: the centres of the grids, the tables' rate
(.025 was as good as or better than .0125 and .05), and the reason to fix it: with one
rate for all, an arm's loss is decided by how fast its hidden matrices move in relation
to its tables. There Freon at c = 1/4 was .45 nats worse than at c = 5/6, and AdamW half
a nat worse than Muon, whose entries move at .2 of the rate; with the tables' rate apart
AdamW, Muon and both of these were within .05.
Expected before the first run, from trials with small language models and from the
literature: matrix rules are a little better than AdamW (hundredths of a nat); the
relatives of Muon are within .02 of it; Freon is flat between c = 1/2 and 2/3, and Kaon
is about Muon. Found: so they are, but for Freon, which is best at c = 1/2 here, and
Scion. AdamW's best three rates tie within .01 nats, two tuning seeds chose the one next
to a cliff, and on the fresh seeds half of it is better by half of Muon's gain. What was
changed after the first run: `race_muon_beats_adamw_at_half`; the expected verdicts
other than "held"; the slope study had four arms, four seeds and four times the rate.
On 2026-11-30 near copies left the validation text: the tuning seeds now choose half of
AdamW's former rate, and what that changed is said in `because`.
Cost on one core: smoke 20 s, quick 13 min. Scale paper (dense-512's sizes, bfloat16,
compiled) has the same design; not run on a GPU yet, so its TUNED are the centres of its
grids, and rates of other widths are only a guess.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from symlab.harness import Claim, figure, grid, plot, stats

LANES = 1
DEVICES = ("cpu", "cuda")
MAY_BE_NAN = ("mfu", "peak_bytes", "shared_text")
TABLES, GAINS = 0.025, 0.005  # AdamW's rates beside every rule for hidden matrices
FREON = {"freon_1_4": 1 / 4, "freon_1_2": 1 / 2, "freon_2_3": 2 / 3, "freon_5_6": 5 / 6}
RULES = ("adamw", "muon", "normuon", "polargrad", "kaon", "aro", *FREON)
WHOLE = {  # arm: preset, with one rate for everything
    "symmetric": "symmetric",
    "scion": "scion",
    "muon_one_rate": "muon",
    "adamw_one_rate": "adamw",
}
ARMS = (*RULES, *WHOLE)
CENTRES = {  # the middle of each grid, from the prototype
    "adamw": 0.0025,
    "muon": 0.005,
    "normuon": 0.005,
    "polargrad": 0.03,
    "kaon": 0.005,
    "aro": 0.005,
    "freon_1_4": 0.0025,
    "freon_1_2": 0.005,
    "freon_2_3": 0.005,
    "freon_5_6": 0.01,
    "symmetric": 0.005,
    "scion": 1e-4,
    "muon_one_rate": 0.01,
    "adamw_one_rate": 0.0025,
}
TUNED = dict.fromkeys(("smoke", "quick", "paper"), CENTRES)  # paper: until it has run
WHOLE_OPTIMIZERS = ("symmetric", "scion")
SLOPES, FACTORS = ("adamw", "muon"), (0.5, 2.0)
TUNING_SEED = 100
HIDDEN = ("query", "key", "value", "attention out", "gate", "up", "down")


@dataclass(frozen=True)
class Config:
    study: str = "race"
    """'tune', 'race' or 'slope': see above."""
    arm: str = "adamw"
    """One of ARMS."""
    lr: float = 0.005
    """Of hidden matrices; of everything where the arm has one rate."""
    width: int = 64
    """D, a multiple of 2 heads; the hidden units are 3 D."""
    layers: int = 2
    """Blocks of attention and a gated unit."""
    heads: int = 2
    """Of queries; keys and values have half as many."""
    vocabulary: int = 512
    """Tokens of the byte-pair encoding."""
    steps: int = 80
    """Of the optimizer."""
    batch: int = 8
    """Sequences per step."""
    length: int = 64
    """Tokens per sequence."""
    text: str = "stdlib"
    """A corpus of symlab.data.text."""
    precision: str = "float32"
    """Of products; 'bfloat16' on a GPU."""
    compile: bool = False
    """torch.compile for model, loss and rules."""
    power: str = "svd"
    """How Freon's power is computed; 'newton' has matrix products only."""
    validation: int = 16
    """Batches of validation text."""
    save_every: int = 0
    """Steps between checkpoints; 0: none."""
    seed: int = 0
    """Weights and order of the text."""


def sweep(scale: str) -> list[Config]:
    smoke, tuned, design = scale == "smoke", TUNED[scale], []
    powers = range(-1, 2) if smoke else range(-2, 3)
    seeds = [TUNING_SEED] if smoke else [TUNING_SEED, TUNING_SEED + 1]
    fresh = range(2 if smoke else 8)
    for arm in ARMS:
        one = partial(grid, Config, arm=arm, **SIZES[scale])
        design += one(
            study="tune", lr=[CENTRES[arm] * 2.0**k for k in powers], seed=seeds
        )
        design += one(lr=tuned[arm], seed=fresh)
        if arm in SLOPES:
            rates = [tuned[arm] * f for f in FACTORS]
            design += one(study="slope", lr=rates, seed=fresh)
    return design


SIZES = {
    "smoke": {
        "width": 16,
        "layers": 1,
        "steps": 4,
        "batch": 2,
        "length": 16,
        "validation": 1,
    },
    "quick": {},
    "paper": {
        "width": 512,
        "layers": 8,
        "heads": 8,
        "vocabulary": 32768,
        "steps": 1000,
        "batch": 64,
        "length": 1024,
        "text": "site",
        "precision": "bfloat16",
        "compile": True,
        "power": "newton",
        "save_every": 200,
    },
}


def run(configs: list[Config]) -> list[dict]:
    return [_trained(c) for c in configs]


def _trained(c: Config) -> dict:
    from symlab.data.text import corpus
    from symlab.harness import checkpoint, device
    from symlab.pretraining import Processes, pretrain
    from symlab.pretraining.processes import on

    path = checkpoint.path(c) if c.save_every else None
    row = pretrain(
        model(c),
        corpus(c.text, vocabulary=c.vocabulary),
        recipe(c),
        settings(c),
        processes=Processes(device=on(device.name())),
        path=path,
        save_every=c.save_every if path else 0,
    )
    return measured(c, row)


def model(c: Config):
    """Sizes of the decoder: those of symlab's dense-512 at its width."""
    from symlab.models.families import family

    return family(
        "qwen3",
        vocabulary=c.vocabulary,
        context=c.length,
        width=c.width,
        layers=c.layers,
        heads=c.heads,
        kv_heads=c.heads // 2,
        head_width=c.width // c.heads,
        hidden=3 * c.width,
    )


def recipe(c: Config):
    from symlab.pretraining import Recipe

    kept = ("steps", "batch", "length", "precision", "compile", "validation", "seed")
    return Recipe(**{name: getattr(c, name) for name in kept})


def settings(c: Config) -> dict:
    """What SymOpt is told: a preset, and who has which rate."""
    preset = WHOLE.get(c.arm, "freon" if c.arm in FREON else c.arm)
    told = {"preset": preset, "lr": c.lr, "weight_decay": 0.0, "compile": c.compile}
    if c.arm in WHOLE:
        return told
    overrides = {role: {"lr": TABLES} for role in ("embedding", "head")}
    overrides["gain"] = {"lr": GAINS}
    if c.arm in FREON:
        power = {"q": 2 - 2 * FREON[c.arm], "method": c.power}
        overrides |= dict.fromkeys(HIDDEN, power)
    return told | {"overrides": overrides}


def measured(c: Config, row: dict) -> dict:
    """The loop's row; a run that diverged has the loss of guessing."""
    row = {k: v for k, v in row.items() if k not in ("text", "diverged_at")} | {
        "diverged": row["diverged_at"] >= 0
    }
    if row["diverged"]:
        nats = float(np.log(c.vocabulary))
        row |= {"val_loss": nats, "val_curve": [nats], "val_step": [c.steps]}
        row |= dict.fromkeys(("bits_per_byte", "head_drift", "head_shift"), 0.0)
    return row


# --- estimates -----------------------------------------------------------------------


def tuning(df):
    """Of each arm and rate the mean loss on the tuning seeds, and where it is least."""
    from symlab.harness import race as tuning

    rows = df[df.study == "tune"]
    scores = tuning.scores(rows, ["arm"], ["lr"])
    edge = tuning.at_edge(rows, ["arm"], ["lr"]).lr
    return scores, edge


def race(df):
    return df[df.study == "race"]


def difference(df, arm: str, other: str = "adamw"):
    """Interval of arm - other in final validation loss, paired by seed."""
    return stats.paired(race(df), "val_loss", "arm", arm, other)


def rises(df, arm: str):
    """Loss at factors of the tuned rate minus that at it: seeds down, factors along."""
    at = race(df)[lambda rows: rows.arm == arm].set_index("seed")
    rows = df[(df.study == "slope") & (df.arm == arm)]
    factor = (rows.lr / at.lr.iloc[0]).round(6)
    wide = rows.assign(factor=factor).pivot(
        index="seed", columns="factor", values="val_loss"
    )
    return wide.sub(at.val_loss.reindex(wide.index), axis=0)


def table(df):
    """What each arm ends with and costs, best first; of the race."""
    import pandas as pd

    found = []
    for arm, rows in race(df).groupby("arm"):
        gap = difference(df, arm)
        found.append(
            {
                "optimizer": NAMES[arm],
                "tuned rate": f"{rows.lr.iloc[0]:.3g}",
                "validation loss": f"{rows.val_loss.mean():.3f}",
                "minus AdamW": f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]",
                "state, bytes per weight": f"{_state(rows):.1f}",
                "its part of a step": f"{rows.optimizer_share.median():.0%}",
            }
        )
    return pd.DataFrame(found).sort_values("validation loss", kind="stable")


def _state(rows) -> float:
    return float((rows.state_bytes / rows.parameters).mean())


# --- figure --------------------------------------------------------------------------

LOOK = {  # colour, marker, line, name
    "adamw": (plot.ORANGE, "s", "-", "AdamW"),
    "adamw_one_rate": (plot.ORANGE, "D", "--", "AdamW, one rate"),
    "muon": (plot.GREEN, "o", "-", "Muon"),
    "muon_one_rate": (plot.GREEN, "P", "--", "Muon, one rate"),
    "normuon": (plot.BLUE, "^", "-", "NorMuon"),
    "polargrad": (plot.BLUE, "v", "--", "PolarGrad"),
    "kaon": (plot.PINK, "X", "-", "Kaon"),
    "aro": (plot.PINK, "d", "--", "ARO"),
    "symmetric": (plot.BLACK, "p", "-", "symmetric"),
    "scion": (plot.BLACK, "h", "--", "Scion"),
    "freon_1_4": (plot.BLUE, "<", "--", "Freon 1/4"),
    "freon_1_2": (plot.BLUE, "o", "-", "Freon 1/2"),
    "freon_2_3": (plot.PINK, "^", "-", "Freon 2/3"),
    "freon_5_6": (plot.PINK, ">", "--", "Freon 5/6"),
}
NAMES = {arm: name for arm, (*_, name) in LOOK.items()}
RATES = {1 / 8: "1/8", 1 / 4: "1/4", 1 / 2: "1/2", 1: "1", 2: "2", 4: "4", 8: "8"}
SMALL = {"ms": 3, "mew": 0, "elinewidth": 0.8}


def _sensitivity(df, ax, arms: tuple):
    """Mean over the tuning seeds against the rate over the tuned one."""
    scores, _ = tuning(df)
    rate = race(df).groupby("arm").lr.first()
    for arm in arms:
        color, marker, line, name = LOOK[arm]
        x = scores[arm].index.to_numpy() / rate[arm]
        style = {"color": color, "marker": marker, "label": name, "mew": 0}
        ax.plot(x, scores[arm], line, lw=0.9, **style)
    ax.axvline(1, color="0.8", lw=0.6, zorder=0)
    ax.set(xscale="log", xlabel="learning rate / tuned", xlim=(1 / 10, 10))
    ax.set(ylabel="validation loss (nats)")
    ax.set_xticks(list(RATES), RATES.values())
    ax.set_xticks([], minor=True)


def _near_the_best(df, ax):
    """Cut the loss where the cliffs of AdamW and of small rates would hide the rest."""
    best = tuning(df)[0].min()
    ax.set_ylim(best - 0.03, best + 0.6)


@figure("symopt5", panel="left")
def draw_tables(df, ax):
    _sensitivity(df, ax, ("adamw_one_rate", "muon_one_rate", "adamw", "muon"))
    ax.set_ylim(top=ax.get_ylim()[1] + 0.35)
    ax.legend(loc="upper right")


@figure("symopt5", panel="mid")
def draw_relatives(df, ax):
    arms = ("muon", "normuon", "polargrad", "kaon", "aro", "symmetric", "scion")
    _sensitivity(df, ax, arms)
    _near_the_best(df, ax)
    ax.legend(loc="upper right")


@figure("symopt5", panel="right")
def draw_exponents(df, ax):
    _sensitivity(df, ax, ("adamw", *FREON))
    _near_the_best(df, ax)
    ax.legend(loc="upper left")


def _order(df) -> list[str]:
    """Arms from the best to the worst of the race."""
    return list(race(df).groupby("arm").val_loss.mean().sort_values().index)


def _arms_downwards(ax, order: list[str], names: bool) -> None:
    for y in range(len(order)):
        ax.axhline(y, color="0.93", lw=0.5, zorder=0)
    labels = [NAMES[arm] if names else "" for arm in order]
    ax.set_yticks(range(len(order)), labels)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(order) - 0.4, -0.6)


@figure("symopt5", panel="left", row=1)
def draw_final(df, ax):
    order, (low, high) = _order(df), (-0.05, 0.065)
    _arms_downwards(ax, order, names=True)
    ax.axvline(0, color=plot.ORANGE, lw=0.8, zorder=0)
    wide = race(df).pivot(index="seed", columns="arm", values="val_loss")
    for y, arm in enumerate(order):
        i, (color, marker, _, _) = difference(df, arm), LOOK[arm]
        if not low < i.value < high:
            said = f"{i.value:.2f} [{i.low:.2f}, {i.high:.2f}] →"
            text = {"ha": "right", "va": "center", "fontsize": 6.5, "color": color}
            behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            ax.text(high, y, said, bbox=behind, **text)
            continue
        seeds = wide[arm] - wide["adamw"]
        ax.plot(seeds, [y] * len(seeds), "|", color=color, alpha=0.35, ms=4)
        reach = [[i.value - i.low], [i.high - i.value]] if i.n > 1 else None
        ax.errorbar(i.value, y, xerr=reach, fmt=marker, color=color, **SMALL)
    ax.set(xlabel="final loss minus AdamW's (nats)", xlim=(low, high))


@figure("symopt5", panel="mid", row=1)
def draw_rises(df, ax):
    scores, _ = tuning(df)
    rate = race(df).groupby("arm").lr.first()
    order = _order(df)
    _arms_downwards(ax, order, names=False)
    kinds = {0.5: ("<", plot.BLUE, "half"), 2.0: (">", plot.PINK, "twice")}
    for factor, (marker, color, name) in kinds.items():
        rise = [_tuning_rise(scores[arm], rate[arm], factor) for arm in order]
        style = {"color": color, "ms": 3.5, "mew": 0, "label": f"at {name} the rate"}
        ax.plot(rise, range(len(order)), marker, **style)
        for arm in SLOPES:
            i, y = stats.mean(rises(df, arm)[factor]), order.index(arm)
            y = y + (0.27 if factor < 1 else 0.42)
            ends = [i.low, i.high] if i.n > 1 else []
            label = "fresh seeds" if (arm, factor) == (SLOPES[-1], 2) else None
            ax.plot(ends, [y] * len(ends), color=color, lw=1.4, label=label)
    ax.axvline(0, color="0.8", lw=0.6, zorder=0)
    ax.set_xscale("symlog", linthresh=0.1)
    ax.set_xticks([0, 0.05, 0.1, 0.2, 0.5, 1], ["0", ".05", ".1", ".2", ".5", "1"])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="loss minus that at the tuned rate (nats)", xlim=(-0.05, 1.6))
    ax.legend(loc="upper right")


def _tuning_rise(scores, rate: float, factor: float) -> float:
    """Of mean losses by rate; NaN where the grid has no such rate."""
    off = abs(np.log(scores.index / (rate * factor)))
    return scores.iloc[off.argmin()] - scores[rate] if off.min() < 1e-6 else np.nan


@figure("symopt5", panel="right", row=1)
def draw_freon(df, ax):
    found = [difference(df, arm) for arm in FREON]
    value = np.array([i.value for i in found])
    reach = np.array([(i.value - i.low, i.high - i.value) for i in found]).T
    x = list(FREON.values())
    style = {"color": plot.BLUE, "lw": 1, "label": "Freon"}
    ax.errorbar(x, value, yerr=reach if df.seed.nunique() > 1 else None, fmt="o-",
                **style, **SMALL)  # fmt: skip
    for arm in ("muon", "kaon"):
        color, _, line, name = LOOK[arm]
        level = difference(df, arm)
        ax.axhline(level.value, color=color, ls=line, lw=0.9, label=name)
        ax.axhspan(level.low, level.high, color=color, alpha=0.12, lw=0)
    ax.axhline(0, color=plot.ORANGE, lw=0.8, zorder=0, label="AdamW")
    ax.set_xticks(x, ["1/4", "1/2", "2/3", "5/6"])
    ax.set(xlabel="Freon's exponent $c$, of $s^{1-2c}$")
    ax.set_ylabel("final loss minus AdamW's (nats)")
    ax.legend()


# --- claims --------------------------------------------------------------------------


def _at_the_edge(df):
    """1 for an arm whose best rate is the least or largest of its grid."""
    return stats.worst(1.0 * tuning(df)[1])


def _missed(df):
    """Mean tuning loss at the rate that was raced, above the least of the grid."""
    scores, _ = tuning(df)
    rate = race(df).groupby("arm").lr.first()
    return stats.worst(
        [scores[arm][rate[arm]] - scores[arm].min() for arm in rate.index]
    )


def _diverged(df):
    return stats.worst(1.0 * df[df.study != "tune"].diverged)


def _ratio(df, column: str, arms: tuple):
    """The largest ratio of a column to AdamW's."""
    means = race(df).groupby("arm")[column].mean()
    return stats.worst([means[arm] / means["adamw"] for arm in arms])


def _rise(df, arm: str, factors: tuple, other: str = ""):
    """Mean rise over factors of the tuned rate; minus that of another arm."""
    rise = rises(df, arm)[list(factors)].mean(axis=1)
    if other:
        rise = rise - rises(df, other)[list(factors)].mean(axis=1)
    return stats.mean(rise)


OURS = "ours"
GAIN = "an improvement is an improvement; two seeds of the prototype had .02 to .03"
NEAR = "hundredths of a nat are what a factor of 1.4 in the rate is worth"


def _at_half(df):
    """Muon minus AdamW at half of its tuned rate, on the seeds that have it."""
    wide = race(df).pivot(index="seed", columns="arm", values="val_loss")
    half = wide.adamw + rises(df, "adamw")[0.5]
    return stats.mean((wide.muon - half).dropna())


def _ahead(arm: str, **expected) -> Claim:
    return Claim(
        f"race_{arm}_beats_adamw",
        f"{NAMES[arm]} ends below AdamW whose tables have their own rate.",
        "arXiv 2605.18106 and the relatives' sources; protocol ours",
        partial(difference, arm=arm),
        below=0.0,
        reason=GAIN if arm in RULES else "an improvement is an improvement",
        **expected,
    )


def _alike(arm: str, other: str, **expected) -> Claim:
    return Claim(
        f"race_{arm}_is_near_{other}",
        f"{NAMES[arm]} ends where {NAMES[other]} does.",
        "arXiv 2605.11181 for Freon and Kaon; else ours",
        partial(difference, arm=arm, other=other),
        above=-0.02,
        below=0.02,
        reason=NEAR,
        **expected,
    )


def _forgives(arm: str, **expected) -> Claim:
    return Claim(
        f"race_{arm}_forgives_a_factor_of_two",
        f"{NAMES[arm]}: half or twice the tuned rate cost less than .05 nats.",
        OURS,
        partial(_rise, arm=arm, factors=(0.5, 2.0)),
        below=0.05,
        reason="a grid of factors two then misses little of the optimum",
        **expected,
    )


def _failed(because: str) -> dict:
    return {"expected": "failed", "because": because}


CLAIMS = [
    Claim(
        "race_grids_hold_the_best",
        "The best rate of every arm lies inside its grid.",
        OURS + ", protocol",
        _at_the_edge,
        below=0.5,
        reason="no arm at either end",
    ),
    Claim(
        "race_rates_are_the_best",
        "Every arm races at the best rate of its grid.",
        OURS + ", protocol",
        _missed,
        below=0.01,
        reason="nats of mean tuning loss: the constants are of one text and of seeds "
        "100 and 101, and on other seeds a neighbour may be as good",
    ),
    Claim(
        "race_nothing_diverged",
        "No run of the race has diverged.",
        OURS + ", protocol",
        _diverged,
        below=0.5,
        reason="a run that diverged would count with the loss of guessing",
    ),
    *map(_ahead, ("muon", "normuon", "polargrad", "kaon", "aro")),
    _ahead(
        "freon_2_3",
        expected="undecided",
        because="held until 2026-11-30 against AdamW at twice its present rate "
        "(-0.015 [-0.020, -0.010]), and is 0.007 [-0.000, 0.014] since",
    ),
    _ahead(
        "symmetric",
        **_failed(
            "held until 2026-11-30 against AdamW at twice its present rate (-0.012 "
            "[-0.020, -0.004]), and is 0.027 [0.015, 0.039] since: it has one rate"
        ),
    ),
    _ahead(
        "scion",
        **_failed(
            "a hundredth worse in the first run: its tables have one rate with the "
            "rest, and signs in its head; Muon at one rate is as far behind"
        ),
    ),
    Claim(
        "race_muon_beats_adamw_at_half",
        "So does Muon where AdamW has half of its tuned rate.",
        OURS + "; written after the first run",
        _at_half,
        below=0.0,
        reason="on the tuning seeds that rate is worse by .001 only, and next to the "
        "tuned one is a cliff: the gain must not be one of tuning",
    ),
    *(_alike(a, "muon") for a in ("normuon", "polargrad", "kaon", "freon_1_2")),
    _alike("freon_2_3", "freon_1_2"),  # undecided until 2026-11-30
    _alike(
        "freon_5_6",
        "freon_1_2",
        **_failed(
            ".05 worse in the first run: so far beyond Muon's exponent what is least "
            "in the gradient is largest in the update"
        ),
    ),
    Claim(
        "race_freon_below_half_is_worse",
        "Freon at c = 1/4, between SGD and Muon, ends above c = 1/2.",
        "arXiv 2605.11181, where the best exponents are beyond Muon's",
        partial(difference, arm="freon_1_4", other="freon_1_2"),
        above=0.0,
        reason="a loss is a loss; a seed of the prototype had .02",
        expected="undecided",
        because="held until 2026-11-30 (near copies in the validation text), and is "
        "0.004 [-0.000, 0.008] since",
    ),
    Claim(
        "race_one_rate_costs_adamw",
        "With one rate for hidden matrices and tables AdamW ends higher.",
        OURS,
        partial(difference, arm="adamw_one_rate"),
        above=0.1,
        reason="a tenth of a nat would decide any comparison; the prototype had .5",
    ),
    Claim(
        "race_one_rate_costs_muon_little",
        "So does Muon, by less than that.",
        OURS + "; its hidden matrices move at .2 of the rate, AdamW's first steps at 1",
        partial(difference, arm="muon_one_rate", other="muon"),
        above=0.0,
        below=0.1,
        reason="as above; the prototype had .05",
    ),
    Claim(
        "race_one_rate_decides",
        "At one rate for everything Muon beats AdamW.",
        OURS,
        partial(difference, arm="muon_one_rate", other="adamw_one_rate"),
        below=-0.1,
        reason="as above: what one would see without a rate for tables",
    ),
    _forgives("muon"),
    _forgives("adamw"),  # failed until 2026-11-30, at twice the present rate
    Claim(
        "race_adamw_forgives_less",
        "Twice the tuned rate costs AdamW more than Muon.",
        OURS + "; also of Muon's sources, where rates transfer",
        partial(_rise, arm="adamw", factors=(2.0,), other="muon"),
        above=0.0,
        reason="a cost is a cost; before the first run this was claimed of four times "
        "the rate, where a seed of the prototype had .4 against .16",
        expected="undecided",
        because="held until 2026-11-30 at twice the present rate of AdamW, which was "
        "beside a cliff: 0.766 there, 0.002 [-0.010, 0.014] here",
    ),
    Claim(
        "race_layerwise_state_is_half",
        "The state of the layerwise stack and of Scion is half of AdamW's.",
        "arXiv 2605.18106; one average instead of two",
        partial(_ratio, column="state_bytes", arms=WHOLE_OPTIMIZERS),
        below=0.51,
        reason="gains keep two in the stack: a thousandth of the weights",
    ),
]
