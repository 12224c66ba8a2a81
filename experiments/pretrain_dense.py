"""Does a rule with the symmetries of embedding and head pretrain better than AdamW?

Reference: Lau & Su, arXiv 2605.18106: dense models of 0.6 and 1.1 billion parameters,
one run each, end 0.007 to 0.04 nats below AdamW when the rows of embedding and head are
normalised ('row-norm') or made orthogonal after that ('hybrid'). AdamW there has one
rate for both tables in some of the comparisons. Design, arms and claims are ours; here
every arm has a rate for the embedding and one for the head, tuned with equal effort.

A decoder like Qwen3's learns the standard library's source. Arms differ in embedding
and head alone: AdamW; row_norm; row_then_spectral (hybrid, power 0). The last two have
a centred head, a momentum that is an average with 0.95, no Nesterov, no scale and no
decay, as in the paper's code. 'uncentred' is row_norm without centring, and
'adamw_one_rate' is AdamW whose embedding has the head's rate, as in the paper, tuned
over that one number. The body is under Muon-like spectral updates per head at one rate
for all arms, and the gains are under AdamW. Studies:

  equivariance  A tiny decoder in float64, with gains fixed at 1 (learned ones break the
                rotation) and exact polar factors. It trains as it is, and with tokens,
                neurons or heads permuted, the residual stream rotated or the head
                shifted. Errors are the largest differences of losses, and of the final
                weights from those of the first run, moved in the same way.
  tune          3 x 3 rates a factor three apart per arm, 3 for adamw_one_rate, 2 seeds
  compare       The chosen rates, TUNED, on 8 fresh seeds, paired by seed: equal initial
                weights, equal text in equal order.
  sensitivity   both rates halved and doubled, on 4 of these seeds

Expected, from a prototype on seed 10000 that set body rate, centres and thresholds:
moved models agree up to rounding, except for AdamW under rotation; centred heads keep
their mean row, others move it by half a row and more; AdamW is not beaten: hybrid ties,
row_norm loses some 0.05 nats, as does AdamW with one rate. The first grids had three
times the rates for the embedding, and a third for adamw_one_rate. Every arm's best lay
at their end, so all were moved by a factor three before the other studies ran. Verdicts
that are expected to be undecided were first expected to hold; see their `history`.
Found: hybrid is 0.012 nats behind tuned AdamW, row_norm 0.06 and AdamW with one rate
0.08. On the validation text of the first run, which had near copies of the training
text, hybrid was 0.016 nats ahead, row_norm 0.02 behind and AdamW with one rate 0.06.
Cost: smoke 30 s, quick 12 minutes on one core; paper: one GPU, 130 runs of about 2
minutes, rates still to be tuned there (TUNED has the middle of the grids until then).
Scale paper was not run on a GPU yet.
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from symlab.harness import Arm, Context, figure, panels, plot, rng, stats
from symlab.harness.claims import Claim, after
from symlab.harness.estimates import Estimate, estimate, family, name_of, where
from symlab.harness.race import Race, rises
from symlab.models.moved import MOVES, moved, weights_of
from symlab.papers import LAU, OPTIMIZERS, RULES, resized

LANES = 1
DEVICES = ("cpu", "cuda")
MAY_BE_NAN = ("mfu", "peak_bytes")
CEILING = 100.0  # nats: the loss recorded for a tuning run that diverged
SAVE_EVERY = 200  # steps, where the harness keeps checkpoints
GAIN_LR = 0.003
BODY = ("query", "key", "value", "attention out", "gate", "up", "down")
PAPERS = {"nesterov": False, "scale": "none"}  # as in the code of the paper
ROWS = {"rule": "row_norm", "floor": 0.0, **PAPERS}
ARMS = {  # what embedding and head get
    "adamw": {"rule": "adamw"},
    "adamw_one_rate": {"rule": "adamw"},
    "row_norm": ROWS,
    "uncentred": ROWS,
    "hybrid": {"rule": "row_then_spectral", **PAPERS},
}
MODELS = {  # name: (preset, sizes)
    "tiny": ("dense-small", {
        "width": 16, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 8,
        "hidden": 24}),
    "small": ("dense-small", {"width": 64, "layers": 2, "heads": 2, "hidden": 192}),
    "dense-512": ("dense-512", {}),
}  # fmt: skip
TUNE = ("adamw", "row_norm", "hybrid")  # arms with a grid of two rates
CENTRES = {  # the middle of each grid: rates of embedding and head
    "quick": {  # chosen again when near copies had left the validation text
        "adamw": (0.09, 0.015), "adamw_one_rate": (0.045, 0.045),
        "row_norm": (0.1, 0.02), "hybrid": (0.47, 0.1)},
    "paper": {
        "adamw": (0.03, 0.003), "adamw_one_rate": (0.003, 0.003),
        "row_norm": (0.15, 0.005), "hybrid": (0.5, 0.15)},
}  # fmt: skip
TUNED = dict(CENTRES)  # the tuning stage chose the middles; scale paper has not run yet
EXACT = {"adamw": (0.03, 0.01), "row_norm": (0.03, 0.01), "hybrid": (0.1, 0.03)}


@dataclass(frozen=True)
class Config:
    study: str = "compare"
    """The study: 'equivariance', 'tune', 'compare' or 'sensitivity'; see the module."""
    arm: str = "adamw"
    """A key of ARMS."""
    embedding_lr: float = 0.1
    """Rate of the embedding, before the decay of rates."""
    head_lr: float = 0.01
    """Rate of the head."""
    body_lr: float = 0.01
    """Rate of all hidden matrices, the same for all arms."""
    model: str = "small"
    """A key of MODELS."""
    vocabulary: int = 1024
    """Tokens, the end of a document among them."""
    steps: int = 120
    """Steps; rates fall linearly to 0 over the last 40 %."""
    batch: int = 8
    """Sequences per step."""
    length: int = 64
    """Tokens per sequence."""
    validation: int = 16
    """Batches of validation text, at the end."""
    precision: str = "float32"
    """As in symlab.pretraining.Recipe; float64 goes with exact polar factors."""
    compile: bool = False
    """torch.compile for model, loss and rules."""
    corpus: str = "stdlib"
    """As in symlab.data.text."""
    seed: int = 0
    """Weights, order of the text, moves; shared by all arms."""


SIZES = {
    "smoke": {"model": "tiny", "steps": 4, "batch": 2, "length": 16, "validation": 1},
    "quick": {},
    "paper": {"model": "dense-512", "vocabulary": 32768, "steps": 1000, "batch": 64,
              "length": 1024, "precision": "bfloat16", "compile": True,
              "corpus": "site"},
}  # fmt: skip


def sweep(scale: str) -> list[Config]:
    c, smoke = Config(**SIZES[scale]), scale == "smoke"
    tuned = TUNED[_rates_of(scale)]
    tuned = tuned | {"uncentred": tuned["row_norm"]}
    fresh, later = (range(2), [2]) if smoke else (range(8), [8, 9])
    chosen = [(arm, *tuned[arm]) for arm in ARMS]
    wrong = [(arm, *(f * r for r in tuned[arm])) for arm in TUNE for f in (0.5, 2.0)]
    studies = (("tune", grid_of(scale), later), ("compare", chosen, fresh),
               ("sensitivity", wrong, fresh[:4]))  # fmt: skip
    return _equivariance_sweep(scale) + [
        _arm(c, study, *point, seed=seed)
        for study, points, seeds in studies
        for point in points
        for seed in seeds
    ]


def _rates_of(scale: str) -> str:
    return "quick" if scale == "smoke" else scale


def _arm(c: Config, study: str, arm: str, embedding_lr, head_lr, seed: int) -> Config:
    rates = {"embedding_lr": float(embedding_lr), "head_lr": float(head_lr)}
    return replace(c, study=study, arm=arm, **rates, seed=seed)


def grid_of(scale: str) -> list[tuple[str, float, float]]:
    """Return (arm, learning rate of the embedding, learning rate of the head) for each
    point of the tuning grids at a scale.
    """
    points = []
    for arm, centres in CENTRES[_rates_of(scale)].items():
        embedding, head = (
            [float(f"{x * f:0.2g}") for f in (1 / 3, 1, 3)] for x in centres
        )
        one = arm == "adamw_one_rate"
        pairs = zip(head, head, strict=True) if one else product(embedding, head)
        points += [(arm, *pair) for pair in pairs]
    return points


def _equivariance_sweep(scale: str) -> list[Config]:
    steps = 5 if scale == "smoke" else 40
    c = Config("equivariance", model="tiny", steps=steps, batch=4)
    c = replace(c, length=16, validation=2, precision="float64")
    rates = EXACT | {"uncentred": EXACT["row_norm"]}
    seeds = range({"smoke": 1, "quick": 8, "paper": 8}[scale])
    return [_arm(c, c.study, arm, *lr, s) for arm, lr in rates.items() for s in seeds]


def run(configs: list[Config], context: Context) -> list[dict]:
    """Return a row for each config; those of study equivariance have no columns of the
    training loop.

    Columns:
        text: name of the text; empty in study equivariance
        diverged_at: step of the first training loss that is not finite, -1 if there is
            none; in study tune always -1, and a run that diverged has a `val_loss` of
            100 nats; empty in study equivariance
    """
    return [
        _equivariance(c) if c.study == "equivariance" else _train(c, context)
        for c in configs
    ]


def _train(c: Config, context: Context) -> dict:
    """The row of one run; in the tuning stage also where the rates are too large."""
    from symlab.data.text import corpus
    from symlab.pretraining import pretrain
    from symlab.pretraining.runs import place_of, recipe_of

    text = corpus(c.corpus, vocabulary=c.vocabulary)
    chosen = optimizer(c) | ({"compile": True} if c.compile else {})
    place = place_of(c, context, SAVE_EVERY)
    row = pretrain(size(c), text, recipe_of(c), chosen, **place)
    return _with_ceiling(row) if c.study == "tune" else row


def _with_ceiling(row: dict) -> dict:
    """A rate that is too large is a result of the tuning stage, not a failure."""
    if row["diverged_at"] < 0:
        return row
    numbers = {k: v for k, v in row.items() if isinstance(v, float)}
    lost = [
        k for k, v in numbers.items() if k not in MAY_BE_NAN and not abs(v) < np.inf
    ]
    return row | dict.fromkeys(lost, CEILING) | {"val_loss": CEILING, "diverged_at": -1}


def size(c: Config):
    """Return the configuration (layers, widths, vocabulary) of the decoder of a run."""
    from symlab.models.families import preset

    name, sizes = MODELS[c.model]
    return preset(name, **sizes, vocabulary=c.vocabulary, context=c.length)


def optimizer(c: Config) -> dict:
    """Return the arguments of SymOpt: update rules and learning rates of the embedding,
    of the head and of the hidden matrices.
    """
    svd = {"method": "svd"} if c.precision == "float64" else {}
    table = dict(ARMS[c.arm])
    table |= svd if table["rule"] == "row_then_spectral" else {}
    body = {"rule": "spectral", "transpose": False, **svd}
    overrides = {
        **dict.fromkeys(BODY, body),
        "gain": {"lr": GAIN_LR},
        "embedding": table | {"lr": c.embedding_lr},
        "head": table | {"lr": c.head_lr},
    }
    if c.arm == "uncentred":
        overrides["head"]["centred"] = False
    return {"lr": c.body_lr, "weight_decay": 0.0, "overrides": overrides}


# --- equivariance --------------------------------------------------------------------


def _equivariance(c: Config) -> dict:
    """Errors of each move: largest differences of losses, and of final weights.

    Columns:
        loss_errors: (5,), study equivariance alone, else empty: largest difference in
            nats of a training loss or the final validation loss, when the initial
            weights are moved by a symmetry, from that without; for the moves tokens,
            neurons, heads, rotation, shift
        weight_errors: (5,), study equivariance alone, else empty: largest difference of
            a final weight of the runs of `loss_errors` from that of the run without a
            move, moved in the same way
        first_loss: study equivariance alone, else empty: training loss of the first
            step of the run without a move, in nats per token
        last_loss: study equivariance alone, else empty: validation loss at the end of
            the run without a move, in nats per token
    """
    losses, end = follow(c)
    loss_errors, weight_errors = [], []
    for move in MOVES:
        moved_losses, moved_end = follow(c, move)
        expected, _ = moved(move, end, size(c), rng.stream(c.seed, move))
        loss_errors.append(float(np.abs(moved_losses - losses).max()))
        gaps = [(moved_end[k] - w).abs().max() for k, w in expected.items()]
        weight_errors.append(float(max(gaps)))
    fall = {"first_loss": float(losses[0]), "last_loss": float(losses[-1])}
    return {"loss_errors": loss_errors, "weight_errors": weight_errors} | fall


def follow(c: Config, move: str = "") -> tuple[np.ndarray, dict]:
    """Return the losses and the final weights of a model whose initial weights were
    moved by a symmetry before training. The losses are those of training, then the
    validation loss. move: the symmetry; '' moves nothing.
    """
    import torch

    from symlab.data.text import corpus
    from symlab.models.transformer import Decoder
    from symlab.pretraining import train
    from symlab.pretraining.runs import recipe_of
    from symlab.symopt import SymOpt

    text = corpus(c.corpus, vocabulary=c.vocabulary)
    model = Decoder(size(c), torch.Generator().manual_seed(c.seed)).double()
    weights, ids = moved(move, weights_of(model), size(c), rng.stream(c.seed, move))
    if move == "tokens":
        named = {k: ids[getattr(text, k)] for k in ("train", "validation")}
        text = replace(text, **named)
    model.load_state_dict(weights, strict=False)
    for p in model.parameters():
        p.requires_grad_(p.ndim > 1)
    row = train(model, SymOpt(model, **optimizer(c)), text, recipe_of(c))
    return np.array([*row["train_loss"], row["val_loss"]]), weights_of(model)


# --- rows and estimates --------------------------------------------------------------

MOVED, COMPARED = where(study="equivariance"), where(study="compare")
TABLES = ("embedding_lr", "head_lr")
RACE = Race("pretraining a small dense language model", ("arm",), TABLES,
            where(study="tune"), COMPARED)  # fmt: skip
SYMMETRIC = ("row_norm", "uncentred", "hybrid")
CENTRED = ("row_norm", "hybrid")
ROTATION = MOVES.index("rotation")
EQUAL = 1e-12  # nats, between losses of float64 that should be equal
STILL = 1e-6  # of a row: the mean row of a head that does not move, in float32


def loss_error(df):
    """difference of losses between moved and unmoved run (worst step and move)

    The function returns one number for each row of df: the largest difference over
    steps and symmetries between a run whose model was moved by a symmetry and a run as
    it is, in nats. Claims print the line above.
    """
    return df.loss_errors.map(max)


def weight_error(df):
    """difference between final weights and moved final weights (worst move)

    The function returns one number for each row of df: the largest difference, over
    symmetries, between the final weights of a run from moved weights and those of a run
    as it is, moved in the same way. Claims print the line above.
    """
    return df.weight_errors.map(max)


def rotation_error(df):
    """difference of losses between rotated and unmoved run (worst step)

    The function returns one number for each row of df: the largest difference over
    steps between a run whose model had its residual stream rotated and a run as it is,
    in nats. Claims print the line above.
    """
    return df.loss_errors.map(lambda errors: errors[ROTATION])


def other_error(df):
    """difference of losses (worst step, all moves but the rotation)

    The function returns one number for each row of df: as `loss_error`, without the
    rotation of the residual stream. Claims print the line above.
    """
    return df.loss_errors.map(lambda errors: np.delete(errors, ROTATION).max())


def rises_of(df, arm: str):
    """Return by how much the validation loss of an arm rises when both its learning
    rates (of embedding and head) are multiplied by a factor: one row per seed, one
    column per factor.
    """
    moved = where(study="sensitivity", arm=arm)
    return rises(df, moved, COMPARED.where(arm=arm), rate="embedding_lr")


def wrong_rates(arm: str, other: str = "") -> Estimate:
    """Estimate the rise of an arm's validation loss when its learning rates of
    embedding and head are both halved or both doubled, whichever is worse; with
    `other`, minus the same rise of that arm.
    """

    def compute(df):
        cost = rises_of(df, arm).max(axis=1)
        return stats.mean(cost - rises_of(df, other).max(axis=1) if other else cost)

    phrase = f"mean over seeds of the rise of val_loss under {arm}"
    phrase += f" minus that under {other}" if other else ""
    return Estimate(compute, f"{phrase} at the worse of half and twice both rates")


@estimate
def state_from_half(df):
    """largest deviation from one half, among row_norm and hybrid, of the bytes of
    state of embedding and head over AdamW's

    AdamW has two numbers of state for each weight of embedding and head, the other
    rules one. Claims print the words above.
    """
    size = COMPARED(df).groupby("arm").vocabulary_state_bytes.first()
    return stats.worst([abs(size[a] / size.adamw - 0.5) for a in CENTRED])


def diagonal(df, arm: str) -> dict[float, float]:
    """Return {factor: rise of an arm's mean validation loss} for the points of its
    tuning grid at which the learning rates of embedding and head are both about
    `factor` times those in use. The rise is over the loss at the rates in use.
    """
    scores, best = RACE.scores(df).loc[arm], RACE.used(df).loc[arm]
    found = {}
    for (e, h), score in scores.items():
        a, b = e / best.embedding_lr, h / best.head_lr
        if abs(np.log(a / b)) < 0.1 and abs(np.log(a)) > 0.1:  # grids are rounded
            found[float(np.sqrt(a * b))] = score - scores[tuple(best)]
    return found


# --- figure --------------------------------------------------------------------------

LOOK = {arm: {**RULES, **OPTIMIZERS}[arm] for arm in ARMS}
GRID = Arm("two tuning seeds", panels.GREY, "o", "", hollow=True)
FLOOR = 1e-17  # where differences of 0 are drawn
FACTORS = {1 / 3: "1/3", 1 / 2: "1/2", 2.0: "2", 3.0: "3"}  # of the tuned rates


@figure("symopt3", "left", title="No mean is below tuned AdamW's")
def draw_losses(df, ax):
    """Validation loss of a decoder minus that under tuned AdamW, by the update rule of
    embedding and head, paired by seed; ticks: single seeds; black line: the claimed
    gain. Row-norm has the same loss with and without centring, as a softmax does not
    see a shift of all rows of the head.
    """
    losses = COMPARED(df).pivot(index="seed", columns="arm", values="val_loss")
    arms = {value: arm for value, arm in LOOK.items() if value != "adamw"}
    against = {a: COMPARED.paired("val_loss", arm=(a, "adamw"))(df) for a in arms}
    names = {arm.label.replace(", ", ",\n"): value for value, arm in arms.items()}
    panels.forest(ax, {n: {a: against[a]} for n, a in names.items()}, arms, spread=0)
    for y, (value, arm) in enumerate(arms.items()):
        seeds = losses[value] - losses.adamw
        look = {"color": arm.color, "ms": 4, "alpha": 0.6}
        ax.plot(seeds, [y + 0.22] * len(seeds), "|", **look)
    panels.reference(ax, x=-NATS, color=plot.BLACK)
    panels.note(ax, -NATS - 0.003, 1.5, "claimed gain of 0.01", data=True, rotation=90,
                ha="right", va="center")  # fmt: skip
    panels.ticks(ax, "x", (0, 0.05, 0.1))
    ax.set(xlabel="loss minus tuned AdamW's (nats)", xlim=(-0.032, None))
    mean = losses.adamw.mean()
    panels.note(ax, 0.0, -0.4, f" tuned AdamW: {mean:0.3f}", data=True)


@figure("symopt3", "mid", title="Cost of rates that are off")
def draw_sensitivity(df, ax):
    """Rise of the validation loss when the learning rates of embedding and head are
    both multiplied by a factor, by update rule, with 95 % intervals. Hollow: means over
    the two seeds of the tuning grid, without intervals.
    """
    arms, spread = {value: LOOK[value] for value in TUNE}, 0.5
    rows = {name: {} for name in FACTORS.values()}
    for k, (value, arm) in enumerate(arms.items()):
        found = rises_of(df, value)
        for factor in found:
            rows[FACTORS[_nearest(factor)]][value] = stats.mean(found[factor])
        for factor, rise in diagonal(df, value).items():
            y = list(FACTORS).index(_nearest(factor)) + spread * (k / 2 - 0.5)
            ax.plot(rise, y, arm.marker, color=arm.color, mfc="white", mew=0.8)
    panels.forest(ax, rows, arms, spread=spread)
    for y in range(1, len(rows)):
        panels.reference(ax, y=y - 0.5, color=panels.FAINT)
    ax.set(xlabel="rise of validation loss (nats)")
    ax.set(ylabel="both learning rates / tuned")
    panels.key(ax, [*arms.values(), GRID], lines=False)


def _nearest(factor: float) -> float:
    """The factor of FACTORS that is meant, as the rates of grids are rounded."""
    return min(FACTORS, key=lambda f: abs(np.log(f / float(factor))))


@figure("symopt3", "right", title="AdamW alone breaks rotation")
def draw_symmetries(df, ax):
    """Largest difference of training losses, over all seeds, between a model and its
    copy moved by a symmetry (tokens, neurons or heads permuted, residual stream
    rotated, head shifted), by the update rule of embedding and head: log10 of nats. The
    last column: log10 of the largest drift of the head's mean row over the length of
    rows, in the runs of (a).
    """
    rules, found = ("adamw", *SYMMETRIC), []
    for value in rules:
        errors = np.stack(MOVED.where(arm=value)(df).loss_errors).max(0)
        found.append([*errors, COMPARED.where(arm=value)(df).head_shift.max()])
    logs = np.log10(np.maximum(found, FLOOR))
    names = [LOOK[v].label.replace(", ", ",\n") for v in rules]
    panels.heat(ax, logs, rows=names, columns=[*MOVES, "head drift"], limits=(-16, 2),
                cmap="Oranges", text=_decade)  # fmt: skip
    ax.axvline(len(MOVES) - 0.5, color="white", lw=3)
    ax.tick_params(axis="x", labelrotation=90)
    ax.set_xlabel("log$_{10}$ (nats; drift / row length)")


def _decade(log: float) -> str:
    return f"{log:.{0 if log < -3 else 1}f}".replace("-", "−")


# --- claims --------------------------------------------------------------------------

RUN, TEXT = "2026-11-21", "2026-11-30"  # of the first run; of a new validation text
NATS = LAU.smallest["validation loss"].size  # least difference that counts
COPIES = (TEXT, "near copies left the validation text, and the rates of the embedding "
          "were tuned again for AdamW and hybrid")  # fmt: skip
WRONG = (RUN, "expected verdict from held to undecided after the first run")
UNDECIDED = {"expected": "undecided", "history": (WRONG,), "because":
    "Half the rates cost row-norm 0.14 nats, hybrid 0.12 and AdamW 0.06: row-norm and "
    "hybrid depend more on their rates than one seed of a trial run showed, and 4 "
    "seeds do not tell on which side of the threshold they lie."}  # fmt: skip
HUNDREDTH = LAU.smallest["validation loss"].reason
MODEL = "a small language model of Python code"
TWO_RATES, ONE_RATE = "with a tuned rate for each", "with one tuned rate for both"
SAID = {
    "adamw": "AdamW",
    "row_norm": "row-norm (momentum, each row scaled to length 1)",
    "hybrid": "hybrid (polar factor of row-normalised momentum)",
}
LENGTH = "lengths of a row"
ROW_RULES = "row-norm (rows of length 1) or hybrid (polar factor of these)"
MOVED_COPIES = ("copies with permuted tokens, neurons or heads, rotated residual "
                "stream or shifted head")  # fmt: skip
CENTRED_RULES = ("row-norm (momentum, each row scaled to length 1) or hybrid (polar "
                 "factor of that)")  # fmt: skip
LOWER = (f"A{MODEL[1:]} ends with a validation loss more than 0.01 nats lower if "
         "{arm} trains embedding and head, with a tuned learning rate for each, "
         "than if AdamW does so")  # fmt: skip
WORSE = ("Halving or doubling both tuned learning rates {of}for embedding and head, "
         f"whichever is worse, raises the validation loss of {MODEL} ")  # fmt: skip
INSIDE, BEST, FRESH = RACE.protocol(
    NATS, "Two tuning seeds do not tell smaller differences apart.", "nats"
)


def final(arm: str, other: str) -> Estimate:
    return COMPARED.paired("val_loss", arm=(arm, other))


def agreeing(rows, error) -> Estimate:
    """Estimate the fraction of runs whose error is below EQUAL, as errors that are only
    rounding are. rows: the runs that count; error: a function of the frame, one number
    for each run.
    """
    return Estimate(
        lambda df: stats.fraction(error(rows(df)) < EQUAL),
        f"fraction of runs whose {name_of(error)} is below {EQUAL:g}, where {rows}",
    )


exact = partial(Claim, unit="fraction of runs", above=0.5, place="the principle "
                "U(g.G) = g.U(G), followed through training", **after(
                (TEXT, "'in every run' became more than half of them, with 8 seeds "
                 "instead of 2: in the experiment equivariance_audit one of 60 seeds "
                 "with exact polar factors parted by 3.5e-9")))  # fmt: skip
RARE = (
    " The SVDs by which hidden matrices are trained amplify rounding by the ratio of "
    "the largest to the smallest singular value that is kept. Training does not bound "
    "this ratio, so that losses differ in a rare run. If all of 8 runs agree, the "
    "interval of the fraction begins at 0.63."
)
control = partial(Claim, origin="control")
versus = partial(Claim, paper=LAU, unit="nats", below=-NATS, reason=HUNDREDTH)
was = partial(resized, LAU.smallest["validation loss"])
CLAIMS = [
    replace(BEST, name="compared_rates_are_the_grids", history=(COPIES,)),
    replace(INSIDE, name="grids_hold_the_best_rates"),
    replace(FRESH, **after((TEXT, "added after the rows"))),
    # --- moved models, in float64
    exact("moved_models_have_the_same_losses",
        f"In over half of the runs, a small language model and its {MOVED_COPIES} "
        "have equal losses, to 1e-12 nats, over 40 float64 steps in which "
        f"{ROW_RULES} trains embedding and head.",
        paper=LAU, tests="stack",
        estimate=agreeing(MOVED.where(arm=SYMMETRIC), loss_error),
        reason="Rounding is 1e-16 of a loss of 7 nats and grows a hundred times in 40 "
        "steps." + RARE),
    exact("moved_models_stay_moved",
        f"In over half of the runs, a small language model and its {MOVED_COPIES} "
        "differ by that alone, to 1e-12, after 40 float64 steps in which "
        f"{ROW_RULES} trains embedding and head.",
        paper=LAU, tests="stack",
        estimate=agreeing(MOVED.where(arm=SYMMETRIC), weight_error),
        reason="A trial run had 9e-14, for the copy with one vector added to all rows "
        "of the head, which makes a logit that is common to all tokens 50 times as "
        "large as the others." + RARE),
    control("adamw_parts_from_a_rotated_model",
        f"In every run, the losses of {MODEL} and of its copy with a rotated residual "
        "stream, equal at the start, come to differ by more than 0.001 nats over 40 "
        "float64 steps in which AdamW trains embedding and head.",
        place="second moments belong to coordinates", unit="nats", above=1e-3,
        estimate=MOVED.where(arm="adamw").least(rotation_error),
        reason="Rounding makes 1e-14 nats; a thousandth of a nat can be seen in a "
        "curve of losses."),
    exact("adamw_follows_the_rest",
        f"In more than half of the runs, the losses of {MODEL} and of its copies with "
        "permuted tokens, neurons or heads or one vector added to all rows of the "
        "head, equal at the start, stay equal, to 1e-12 nats, over 40 float64 steps "
        "in which AdamW trains embedding and head.",
        origin="control", place="permutations move coordinates as wholes",
        estimate=agreeing(MOVED.where(arm="adamw"), other_error),
        reason="AdamW treats entries alike wherever they stand, and the gradients of "
        "a softmax do not depend on a shift of all logits." + RARE),
    # --- the mean row of the head, and the state
    Claim("centred_heads_keep_their_mean",
        f"While {MODEL} is trained, the mean row of its head moves by less than "
        f"0.000001 of a row's length, in every run in which {CENTRED_RULES}, both with "
        "their mean row subtracted, trains the head.",
        paper=LAU, place="abstract: shared-shift symmetry", tests="shift",
        kind="identity", unit=LENGTH, below=STILL,
        estimate=COMPARED.where(arm=CENTRED).worst("head_shift"),
        reason="A step rounds entries by 6e-8 of their size; the mean of 1024 such "
        "errors, added up over 120 steps, is 2e-8 of a row's length, as in a trial "
        "run."),
    control("other_heads_do_not",
        f"While {MODEL} is trained, the mean row of its head moves by more than 0.1 of "
        "a row's length, in every run in which AdamW, or row-norm (momentum, each row "
        "scaled to length 1) without subtraction of the mean row, trains the head.",
        place="gradients sum to 0 over the rows, and what is made of each row does not",
        unit=LENGTH, above=0.1, reason="A tenth of a row's length is a hundred "
        "thousand times what is allowed to rules that subtract the mean; a trial run "
        "had half a length.",
        estimate=COMPARED.where(arm=("adamw", "adamw_one_rate", "uncentred"))
        .least("head_shift")),
    Claim("half_the_state",
        f"The optimizer state of embedding and head in {MODEL} takes half as many "
        f"bytes under {CENTRED_RULES} as under AdamW, to within 0.001 of AdamW's "
        "bytes.",
        paper=LAU, place="one momentum buffer per rule", origin="ours", kind="identity",
        estimate=state_from_half, below=1e-3, unit="of AdamW's bytes",
        reason="Row-norm and hybrid keep one number per weight where AdamW keeps two "
        "and a counter of 4 bytes for each matrix."),
    # --- validation loss
    *family("{arm}_and_adamw", f"{LOWER}.",
        lambda arm: final(arm, "adamw"), arm={a: SAID[a] for a in CENTRED},
        **versus.keywords,
        place="figures 3 and 4", tests="loss", expected="failed",
        because="Row-norm is 0.06 nats behind AdamW.",
        **was("of 0.02", (TEXT, "the direction was reversed: the claim had been that "
                          "the rule is at most 0.02 nats ahead"), COPIES),
        but={("hybrid",): {"because": "Hybrid is 0.012 nats behind AdamW. It was 0.016 "
             "[-0.003, 0.035] ahead on validation text that had near copies of the "
             "training text."}}),
    *family("{arm}_and_adamw_of_one_rate", f"{LOWER} {ONE_RATE}.",
        lambda arm: final(arm, "adamw_one_rate"),
        arm={a: SAID[a] for a in ("hybrid", "row_norm")},
        **versus.keywords, place="figure 4, whose AdamW has one rate", tests="loss",
        **was("of 0"),
        but={("row_norm",): {"expected": "undecided",
             "because": "The difference is -0.018 [-0.036, -0.001] nats: row-norm is "
             "ahead, but not certainly by 0.01.", **was("of 0, which held,", (RUN, ""
             "the direction was reversed after the first run, which was at -0.04: the "
             "claim had been that row-norm is at most 0.02 nats ahead, as a prototype "
             "had a tie"))}}),
    Claim("one_rate_costs_adamw",
        "A small language model of Python code ends with a validation loss more than "
        f"0.01 nats higher if AdamW trains embedding and head {ONE_RATE} than if it "
        f"does so {TWO_RATES}.",
        origin="control", place="the tuning of AdamW decides which rule is ahead",
        unit="nats", estimate=final("adamw_one_rate", "adamw"), above=NATS,
        reason=HUNDREDTH, **was("of 0.02")),
    Claim("centring_changes_no_loss",
        f"A{MODEL[1:]} ends within 0.01 nats of the same validation loss "
        f"whether or not {SAID['row_norm']}, which trains embedding and head, "
        "subtracts the mean row from the head's update.",
        place="the gradient of a softmax has no mean row, and the loss does not depend "
        "on the head's", kind="equivalence", unit="nats",
        estimate=final("uncentred", "row_norm"), above=-NATS, below=NATS,
        reason="In exact arithmetic the losses are equal; training amplifies the "
        "rounding of float32. " + HUNDREDTH, **was("of 0.005")),
    # --- wrong rates
    *family("{arm}_bears_a_factor_of_two",
        WORSE.replace("{of}", "of {arm} ") + "by less than 0.15 nats.",
        wrong_rates, arm={arm: SAID[arm] for arm in TUNE}, below=0.15, unit="nats",
        place="how finely a grid must be spaced",
        but={("row_norm",): UNDECIDED, ("hybrid",): {"history": (WRONG, (TEXT,
            "expected verdict back to held: " + COPIES[1]))}},
        reason="A trial run had 0.06 to 0.1 nats. A rule that lost more at a factor of "
        "two could not be tuned by a grid whose rates are a factor of three apart."),
    *family("{arm}_needs_its_rates_as_adamw_does",
        WORSE.replace("{of}", "") + "as much under {arm} as under AdamW, to within "
        "0.1 nats.",
        lambda arm: wrong_rates(arm, "adamw"), arm={arm: SAID[arm] for arm in CENTRED},
        above=-0.1, below=0.1, kind="equivalence", unit="nats",
        place="how finely a grid must be spaced", **UNDECIDED,
        reason="A difference of 0.1 nats is about what a factor of two in the rates "
        "costs a single rule."),
]  # fmt: skip
