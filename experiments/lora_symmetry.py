"""Does it pay that an optimizer of LoRA does not see how the product B A is written?

Reference: the rule `low_rank` of symlab.symopt, which is ours; AdamW and Muon on each
factor; and LoRA+ (Hayou, Ghosh and Yu, arXiv 2402.12354), AdamW whose rate of B is 16
times that of A. That optimizers of LoRA should not depend on how the factors are
scaled or rotated is the point of LoRA-RITE (Yen et al., arXiv 2410.20625; only the
abstracts of both papers were at hand). Model, texts, starts and claims are ours.

A small decoder learns the documentation of mpmath's functions, character by character,
and is then adapted to the source code of these functions by products B A of rank 4
beside each of its matrices; all else is frozen. (B M, M^-1 A) is the same product for
every invertible M, which is the group GL(r). Starts:

  balanced  factors U S^(1/2) and S^(1/2) V^T of one product U S V^T
  out_10    10 B and A / 10             in_10     B / 10 and 10 A
  mixed     B M and M^-1 A with a random M of condition 100 for each matrix
  zero      LoRA's own: B = 0 and A random. There the product is 0 and GL(r) acts on A
            alone, so it is no start of that product, and only arms are compared there.

The first four are one product, which 20 steps of AdamW from `zero` made (a stage shared
by all runs of a seed, as the pretrained model is). Studies:

  tune      five rates a factor 2 apart for every arm and start, seeds 100 and 101
  own       each start at its own best rate, TUNED, seeds 0 to 7
  kept      the starts other than balanced at the best rate of balanced, same seeds
  identity  40 steps in float64: how far the products part from those of the same arm
            from `balanced`. `quarter` is AdamW from B / 4 and 4 A at 4 times LoRA+'s
            rate, against LoRA+ from `balanced`: an update of AdamW does not depend on
            the size of the gradient, so that a ratio of rates is a scale of factors.

Weights do not decay, AdamW has betas (0.9, 0.95) and epsilon 1e-12, the others momentum
0.95 with Nesterov's look ahead; rates fall linearly to 0 over the last 40 %.
PROTOTYPE
Cost on two idle cores: smoke 10 s, quick 3 min; paper (4 layers, twice the width, not
run) hours.
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from symlab.harness import Claim, Context, family, figure, grid, panels, rng, stats
from symlab.harness.estimates import Estimate, where
from symlab.harness.race import Race
from symlab.papers import ADAPTERS, LORA_PLUS, LORA_RITE

LANES = 32
SIZES = ("width", "layers", "rank", "batch", "context", "seed")
STATIC = ("arm", "precision", "steps", "pretraining", "warmup", *SIZES)
ARMS = ("low_rank", "adamw", "lora_plus", "muon")
MOVED = ("out_10", "in_10", "mixed")
STARTS = ("balanced", *MOVED, "zero")
SCALES = {"out_10": 10.0, "in_10": 0.1, "quarter": 0.25}  # B times this, A over it
CONDITION = 100.0
GUESS = 4.543  # nats: a uniform guess among 94 characters, for runs that diverged
CENTRES = {  # of the grids, for STARTS in order; of A under LoRA+
    "low_rank": (0.04, 0.04, 0.04, 0.04, 0.04),
    "adamw": (0.02, 0.01, 0.01, 0.01, 0.02),
    "lora_plus": (0.004, 0.008, 0.0005, 0.001, 0.004),
    "muon": (0.04, 0.02, 0.02, 0.02, 0.02),
}
TUNED = CENTRES  # what the tuning stage chose


SCALE = {
    "smoke": {"steps": 4, "width": 16, "layers": 1, "batch": 2, "context": 8,
              "pretraining": 10, "warmup": 4},
    "quick": {},
    "paper": {"steps": 1000, "width": 64, "layers": 4, "rank": 8, "context": 64,
              "pretraining": 6000},
}  # fmt: skip
FACTORS = (0.25, 0.5, 1, 2, 4)


@dataclass(frozen=True)
class Config:
    study: str = "own"
    """'tune', 'own', 'kept' or 'identity'."""
    arm: str = "adamw"
    """One of ARMS."""
    start: str = "balanced"
    """One of STARTS, or 'quarter' in the study identity."""
    lr: float = 0.01
    """Rate of both factors; of A under LoRA+."""
    precision: str = "float32"
    """'float32' or 'float64', of the adaptation."""
    steps: int = 120
    """Steps of the adaptation."""
    width: int = 32
    """Width of the residual stream; heads are a quarter of it wide."""
    layers: int = 2
    """Layers."""
    rank: int = 4
    """Columns of B, rows of A."""
    batch: int = 16
    """Sequences per step; twice as many in pretraining."""
    context: int = 32
    """Characters per sequence."""
    pretraining: int = 600
    """Steps of Adam on the first text."""
    warmup: int = 20
    """Steps of AdamW on the second text that make the product of the starts."""
    seed: int = 0
    """Pretrained model, adapters and batches; shared by all arms and starts."""


def sweep(scale: str) -> list[Config]:
    size, smoke, design = SCALE[scale], scale == "smoke", []
    exact = size | {"study": "identity", "precision": "float64"}
    exact["steps"] = min(40, size.get("steps", 40))
    for seed, arm in product([100] if smoke else [100, 101], ARMS):
        for start, centre in zip(STARTS, CENTRES[arm], strict=True):
            rates = [centre * f for f in ((0.5, 1, 2) if smoke else FACTORS)]
            design += grid(Config, study="tune", arm=arm, start=start, lr=rates,
                           seed=seed, **size)  # fmt: skip
    for seed, arm in product(range(2 if smoke else 8), ARMS):
        one, best = partial(grid, Config, arm=arm, seed=seed), TUNED[arm]
        for start, lr in zip(STARTS, best, strict=True):
            design += one(start=start, lr=lr, **size)
        design += one(study="kept", start=MOVED, lr=best[0], **size)
        design += one(start=MOVED, lr=best[0], **exact)
        if arm == "adamw":
            design += one(start="quarter", lr=4 * TUNED["lora_plus"][0], **exact)
    return design


def run(configs: list[Config], context: Context) -> list[dict]:
    from symlab.models import adaptation

    c, fields = configs[0], ("pretraining", "warmup", *SIZES)
    begun = context.shared(adaptation.begin, **{f: getattr(c, f) for f in fields})
    if c.precision == "float64":
        return _parted(configs, begun)
    losses = adaptation.judged(*_end(configs, begun)).tolist()
    before = {k: float(begun[k]) for k in ("unadapted_loss", "start_loss")}
    return [{"val_loss": v if v < GUESS else GUESS, "diverged": not v < GUESS} | before
            for v in losses]  # fmt: skip


def _end(configs: list[Config], begun: dict, watch=None) -> tuple:
    """The sizes, the frozen weights, and the factors at the end of each run."""
    import torch

    from symlab.models import adaptation

    c, p = configs[0], adaptation.frozen(begun)
    sizes = adaptation.Sizes(**{f: getattr(c, f) for f in SIZES})
    kind = getattr(torch, c.precision)
    starts = [{k: tuple(w.to(kind) for w in pair)
               for k, pair in start_of(c, begun).items()} for c in configs]  # fmt: skip
    rules = [(c.arm, c.lr) for c in configs]
    return sizes, p, adaptation.adapt(sizes, p, starts, rules, c.steps, watch=watch)


def start_of(c: Config, begun: dict) -> dict:
    """Return the factors from which a run starts, float64."""
    from symlab.models import adaptation, adapters

    found = adaptation.start(begun, "zero" if c.start == "zero" else "warm")
    if c.start == "mixed":
        return adapters.mixed(found, CONDITION, rng.stream(c.seed, "mixed"))
    return adapters.scaled(found, SCALES.get(c.start, 1.0))


def counterpart(c: Config) -> Config:
    """Return the run from balanced factors that ought to have the same products."""
    if c.start == "quarter":  # AdamW at 4 lr; LoRA+ has lr for A and 16 lr for B
        return replace(c, arm="lora_plus", start="balanced", lr=c.lr / 4)
    return replace(c, start="balanced")


def _parted(configs: list[Config], begun: dict) -> list[dict]:
    """How far each run's products are from those of its counterpart after each step:
    the largest of its matrices' differences over their norms.
    """
    paths = [], []
    _end(configs, begun, paths[0].append)
    _end([counterpart(c) for c in configs], begun, paths[1].append)
    gaps = []
    for one, other in zip(*paths, strict=True):
        parts = [(one[k] - w).norm(dim=(2, 3)) / w.norm(dim=(2, 3))
                 for k, w in other.items()]  # fmt: skip
        gaps.append(np.concatenate(parts, axis=1).max(1))  # (L,)
    return [{"parting": list(map(float, row)), "parted": float(row[-1])}
            for row in np.transpose(gaps)]  # fmt: skip


# --- estimates -----------------------------------------------------------------------

TUNE, OWN, EXACT = (where(study=study) for study in ("tune", "own", "identity"))
RACE = Race("the race of LoRA optimizers", ("arm", "start"), ("lr",), TUNE, OWN)
WRITTEN = EXACT.where(start=MOVED)  # one product, written in other ways


def spread(arm: str, study: str) -> Estimate:
    """The largest minus the smallest final loss over the four starts of one product."""

    def compute(df):
        rows = [OWN.where(arm=arm, start="balanced")(df)]
        rows.append(where(study=study, arm=arm, start=MOVED)(df))
        losses = pd.concat(rows).groupby("seed").val_loss
        return stats.mean((losses.max() - losses.min())[losses.size() == 4])

    rates = {"kept": "balanced's best rate", "own": "each start's best rate"}[study]
    phrase = f"mean over seeds of the range of val_loss of {arm} over the four starts"
    return Estimate(compute, f"{phrase} of one product, at {rates}", ("arm", "start"))


def against(arm: str, other: str, start) -> Estimate:
    """The mean difference in final loss, each arm at its own best rate of the start."""
    each = "" if isinstance(start, str) else "start"
    return OWN.where(start=start).paired("val_loss", each=each, arm=(arm, other))


# --- figure --------------------------------------------------------------------------

@figure("symopt9", panel="left")
def draw_identity(df, ax):
    """Relative difference, in float64, of the products of two runs whose factors were
    written differently, by step: largest matrix, mean over seeds.
    """
    rows = EXACT.where(start="mixed")(df)
    steps = range(1, 1 + len(rows.parting.iloc[0]))
    long = panels.unrolled(rows, steps, "parting", ["arm"])
    panels.curves(ax, long, "x", "y", "arm", ADAPTERS, markevery=8)
    ax.set(xlabel="step", ylabel="difference of products, relative", yscale="log")
    ax.set_title("Do products see the factors?")
    panels.legend(ax, "center right")


@figure("symopt9", panel="mid")
def draw_rates(df, ax):
    """Validation loss against the learning rate (LoRA+: of A) from balanced factors,
    and, thin, from the other three ways to write the same product; tuning seeds.
    """
    for start in ("balanced", *MOVED):
        first = start == "balanced"
        look = {} if first else {"lw": 0.5, "ms": 1.5, "alpha": 0.5}
        for arm, its in ADAPTERS.items():
            scores = TUNE.where(arm=arm, start=start)(df).groupby("lr").val_loss.mean()
            ax.plot(scores.index, scores, its.marker + "-", color=its.color,
                    label=its.label if first else "_", **look)  # fmt: skip
    ax.set(xscale="log", xlabel="learning rate", ylabel="validation loss, nats")
    ax.set(title="Loss by rate", ylim=(None, 2.5))


@figure("symopt9", panel="right")
def draw_starts(df, ax):
    """Validation loss by start: filled, at the best rate of balanced factors; hollow, at
    the best rate of the start itself.
    """
    kept = where(study=("kept", "own"))
    for k, (arm, its) in enumerate(ADAPTERS.items()):
        for study, style in (("kept", {}), ("own", {"mfc": "white", "mew": 0.7})):
            starts = MOVED if study == "kept" else STARTS
            rows = kept.where(study=study, arm=arm)(df).set_index("start")
            place = [STARTS.index(s) + 0.16 * (k - 1.5) for s in starts]
            found = [stats.mean(rows.loc[s].set_index("seed").val_loss) for s in starts]
            label = its.label if study == "own" else "_"
            panels.points(ax, place, found, its, label=label, **style)
    names = {"out_10": "10 B, A/10", "in_10": "B/10, 10 A", "mixed": "GL(r)",
             "zero": "B = 0"}  # fmt: skip
    ax.set_xticks(range(len(STARTS)), [names.get(s, s) for s in STARTS], rotation=25)
    ax.set(ylabel="validation loss, nats", title="Loss by start")
    panels.legend(ax, "upper left")


# --- claims --------------------------------------------------------------------------

NATS = LORA_RITE.smallest["validation loss"].size
HUNDREDTH = LORA_RITE.smallest["validation loss"].reason
SAID = {
    "low_rank": "SymOpt's low_rank (a polar factor in the frame of the other factor)",
    "adamw": "AdamW",
    "lora_plus": "LoRA+ (AdamW with 16 times the rate for B)",
    "muon": "Muon (a polar factor of each factor)",
}
OTHERS = {arm: SAID[arm] for arm in ARMS[1:]}
WAYS = "factors B, A are scaled by 10 and 1/10 or mixed by a matrix of condition 100"
nats = partial(Claim, unit="nats", reason=HUNDREDTH)
exact = partial(Claim, kind="identity", unit="of the product's norm")
OURS = {"paper": None, "tests": "", "origin": "ours"}
CLAIMS = [
    *RACE.protocol(NATS, "Two tuning seeds do not tell smaller differences apart.",
                   "nats"),
    Claim("adapters_learn",
        "Adapters trained by AdamW from LoRA's start lower a small decoder's loss on a "
        "second text by more than 0.1 nats.",
        origin="protocol", kind="precondition", unit="nats", below=-0.1,
        place="without learning no optimizer differs",
        estimate=OWN.where(arm="adamw", start="zero").mean("val_loss - unadapted_loss"),
        reason="Ten times the least difference that counts."),
    Claim("nothing_diverged",
        "In the race of LoRA optimizers no run at a tuned learning rate diverged.",
        origin="protocol", kind="precondition", place="means need finite losses",
        estimate=where(study=("own", "kept")).worst("diverged"), below=0.5,
        reason="A run that diverged counts with the loss of a guess, which would "
        "decide any mean."),
    # --- identities, in float64
    exact("low_rank_does_not_see_the_factors",
        f"After 40 steps of {SAID['low_rank']} in float64, LoRA products B A agree "
        "to 1e-6 whether balanced factors start or rescaled and mixed ones.",
        place="equivariance under GL(r)", below=1e-6,
        estimate=WRITTEN.where(arm="low_rank").worst("parted"),
        reason="REASON"),
    *family("{arm}_sees_the_factors",
        "After 40 steps of {arm} in float64, LoRA products B A from balanced factors "
        "and from rescaled or mixed ones differ by more than 0.1 of their norm.",
        lambda arm: WRITTEN.where(arm=arm).least("parted"), arm=OTHERS,
        paper=LORA_RITE, place="abstract", tests="invariance", kind="identity",
        unit="of the product's norm", above=0.1,
        reason="A tenth of the product is a million times what rounding makes.",
        but={("muon",): OURS}),
    exact("lora_plus_is_adamw_from_other_factors",
        "In float64, LoRA+ at rates lr for A and 16 lr for B has the products of AdamW "
        "at 4 lr from the factors B/4 and 4 A, to 1e-6, after 40 steps.",
        paper=LORA_PLUS, origin="ours", place="AdamW's update does not depend on the "
        "gradient's size", below=1e-6, estimate=EXACT.where(start="quarter")
        .worst("parted"), reason="REASON"),
    # --- what a start costs
    nats("low_rank_ends_alike",
        f"With {SAID['low_rank']} at one rate, final losses from four ways to write "
        "one LoRA product differ by less than 0.01 nats.",
        place="invariance, in float32", kind="equivalence", below=NATS,
        estimate=spread("low_rank", "kept")),
    *family("{arm}_ends_depend_on_the_factors",
        "With {arm} at the best rate of balanced factors, final losses from four ways "
        "to write one LoRA product differ by more than 0.01 nats.",
        lambda arm: spread(arm, "kept"), arm=OTHERS, paper=LORA_RITE, place="abstract",
        tests="suboptimal", unit="nats", above=NATS, reason=HUNDREDTH,
        but={("muon",): OURS}),
    *family("{arm}_tuned_for_each_start_depends_on_it",
        "With {arm} at a rate tuned for each start, final losses from four ways to "
        "write one LoRA product differ by more than 0.01 nats.",
        lambda arm: spread(arm, "own"), arm=OTHERS, paper=LORA_RITE, place="abstract",
        tests="suboptimal", unit="nats", above=NATS, reason=HUNDREDTH,
        but={("muon",): OURS}),
    # --- is the invariant rule ahead?
    *family("low_rank_beats_{arm}_from_balanced",
        f"From balanced factors, {SAID['low_rank']} ends with a loss more than 0.01 "
        "nats below that of {arm}, each at its tuned rate.",
        lambda arm: against("low_rank", arm, "balanced"), arm=OTHERS, place="the start "
        "that favours no factor", unit="nats", below=-NATS, reason=HUNDREDTH),
    *family("low_rank_beats_{arm}_from_others",
        f"From rescaled or mixed factors, {SAID['low_rank']} ends with a loss more "
        "than 0.01 nats below that of {arm}, each at a rate tuned for the start.",
        lambda arm: against("low_rank", arm, MOVED), arm=OTHERS, place="the mean over "
        "three starts", unit="nats", below=-NATS, reason=HUNDREDTH),
    *family("low_rank_beats_{arm}_from_zero",
        f"From LoRA's start (B = 0), {SAID['low_rank']} ends with a loss more than "
        "0.01 nats below that of {arm}, each at its tuned rate.",
        lambda arm: against("low_rank", arm, "zero"), arm=OTHERS, place="the start that "
        "is in use", unit="nats", below=-NATS, reason=HUNDREDTH),
    nats("lora_plus_beats_adamw_from_zero",
        "From LoRA's start (B = 0), LoRA+ (AdamW with 16 times the rate for B) ends "
        "with a loss more than 0.01 nats below AdamW's, each at its tuned rate.",
        paper=LORA_PLUS, place="abstract", tests="performance", below=-NATS,
        estimate=against("lora_plus", "adamw", "zero")),
]  # fmt: skip
