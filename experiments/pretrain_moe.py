"""How a router's update rule changes the load of experts, at all of its rates.

Reference: Lau & Su, "symmetry-compatible" optimizers (arXiv 2605.18106), sections on
mixtures of experts; balancing losses are those of Switch (arXiv 2101.03961), ST-MoE
(arXiv 2202.08906) and phi-balancing (arXiv 2605.15403). Sizes, protocol, the frozen
router, and all claims are ours. An OLMoE-style decoder (softmax, then top-k, weights
not renormalised) learns the next token of real text. Only the router's rule differs:

  frozen      no step: what the rest of the model does to a random router
  adamw       torch's, (.9, .95)
  row_norm    rows of the averaged gradient over their lengths, centred
  left_polar  its polar factor, centred: LeftPolar with alpha = 0
  hybrid      rows, then polar factor, centred (scale `paper` only)

Embedding and head have AdamW with a rate each, tuned on a recorded grid with the router
under AdamW, which favours no other rule; hidden matrices, experts one by one, have
polar factors at one rate. On a CPU they take a third of the time of a step, and row
norms for experts, a fifth cheaper, had a higher loss in the prototype. No weight decay.

Load and loss both move with the router's rate, so no rule is seen at a single one:
every rule has four, and they are told by the length of a row's step, `step`. It is the
rate of the normalised rules, and that of AdamW times width^(1/2): an upper bound for
AdamW, whose entries move by .2 to .4 of its rate, so that at equal `step` it moves
less. One learning rate for all rules, as in the paper (7.5e-4, width 2048), gives AdamW
rows that may move 45 times as far.

  tune       the grid of embedding and head, two seeds
  frontier   rules x steps, eight seeds, paired: weights and text of a seed are shared
  auxiliary  all rules at one step with the load-balancing loss, with the z-loss beside
             it (gpt-oss's recipe), and with phi-balancing

Where a claim lets a rule choose its rate, each seed is judged at the rate that the
seeds of the other parity chose, so that a choice costs no seeds and flatters nobody.

Expected before the run, from trials with other small models and a prototype on seeds
10000 and 10001: left_polar has the lower load CV at equal loss, by less than the 30 %
of those trials; no rule is better on loss; centred rules leave the mean logit where it
was. And a frozen router is as good on loss within .02 nats: at this size the loss says
little about routers, and imbalance is what learning one adds.
Found: all of that, and at the rates of least loss the whole 30 %, as left_polar's best
step is a long one and AdamW's load CV grows with its own. The room of .02 nats, set
before, is wider than all that routers change (.007), so the claim that uses it compares
least steps only. With a balancing loss AdamW's load is the more even. Expectations of
four claims were set to what the first run gave: three say what they were before, and
left_polar_dead was undecided. No threshold was changed.
Cost on one core: smoke 15 s, quick 13 min on a busy machine; paper (moe-512, some 250
runs of 33 million tokens, about 2 minutes each) not run on a GPU yet.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from symlab.harness import Claim, checkpoint, device, figure, grid, plot, stats

LANES = 1
DEVICES = ("cpu", "cuda")
MAY_BE_NAN = ("mfu", "peak_bytes", "shared_text")
MODELS = {  # preset, and what differs from it
    "tiny": (
        "moe-small",
        {"width": 64, "heads": 2, "kv_heads": 2, "hidden": 32},
    ),
    "moe-512": ("moe-512", {}),
}
HIDDEN = ("query", "key", "value", "attention out", "gate_up", "down")
CENTRED = {"centred": True, "nesterov": False, "scale": "none"}
ROUTERS = {
    "frozen": {"rule": "adamw", "lr": 0.0},
    "adamw": {"rule": "adamw"},
    "row_norm": {"rule": "row_norm", **CENTRED},
    "left_polar": {"rule": "spectral", **CENTRED},
    "hybrid": {"rule": "row_then_spectral", **CENTRED},
}
AUXILIARY = {
    "none": {},
    "balance": {"balance": 0.01},
    "balance and z": {"balance": 0.01, "z": 0.001},
    "phi": {"phi": 0.1},
}
STEPS = (0.0025, 0.008, 0.025, 0.08)
MIDDLE = 0.008  # the step of the tuning and of the auxiliary losses
GRIDS = {
    "tiny": {"embedding_lr": (0.02, 0.06, 0.18), "head_lr": (0.004, 0.012, 0.036)},
    "moe-512": {"embedding_lr": (0.01, 0.03, 0.1), "head_lr": (0.001, 0.003, 0.01)},
}
TUNED = {  # one arm: the same tables under every router
    "smoke": {"tables": {"embedding_lr": 0.06, "head_lr": 0.012}},
    "quick": {"tables": {"embedding_lr": 0.06, "head_lr": 0.012}},
    "paper": {"tables": {"embedding_lr": 0.03, "head_lr": 0.003}},  # the centre: no run
}
ROOM = 0.02  # nats above AdamW's best loss that count as none


@dataclass(frozen=True)
class Config:
    study: str = "frontier"
    """'tune', 'frontier' or 'auxiliary'."""
    router: str = "adamw"
    """The rule of routers, a key of ROUTERS."""
    step: float = MIDDLE
    """Length of a row's step before its decay; of AdamW the rate times width^(1/2)."""
    auxiliary: str = "none"
    """Losses beside that of the next token, a key of AUXILIARY."""
    embedding_lr: float = 0.06
    """AdamW's, of the embedding."""
    head_lr: float = 0.012
    """AdamW's, of the head."""
    body_lr: float = 0.01
    """Of hidden matrices, whose updates have .2 root mean square; AdamW's of gains."""
    model: str = "tiny"
    """A key of MODELS."""
    vocabulary: int = 512
    """Tokens."""
    source: str = "stdlib"
    """The text, of symlab.data.text."""
    steps: int = 100
    """Steps; rates fall to zero in the last 40 %."""
    batch: int = 8
    """Sequences of a step."""
    micro: int = 0
    """Sequences of a forward pass; 0: all."""
    length: int = 64
    """Tokens of a sequence."""
    validation: int = 16
    """Batches of validation text."""
    precision: str = "float32"
    """'bfloat16': products by autocast."""
    compile: bool = False
    """torch.compile for model, loss and rules."""
    save_every: int = 0
    """Steps between two checkpoints; 0: none."""
    seed: int = 0
    """Weights and the order of the text; shared by all arms."""


def sweep(scale: str) -> list[Config]:
    size = {
        "smoke": {"steps": 4, "batch": 4, "length": 32, "validation": 4},
        "quick": {},
        "paper": {
            "model": "moe-512",
            "vocabulary": 32768,
            "source": "site",
            "body_lr": 0.004,
            "steps": 500,
            "batch": 64,
            "micro": 16,
            "length": 1024,
            "precision": "bfloat16",
            "compile": True,
            "save_every": 100,
        },
    }[scale]
    small = scale == "smoke"
    rules = [r for r in ROUTERS if r not in ("frozen", "hybrid")]
    rules += ["hybrid"] if scale == "paper" else []
    tables = GRIDS[size.get("model", "tiny")]
    if small:
        tables = tables | {"head_lr": 0.012}
    arms = {"seed": range(2 if small else 8), **size, **TUNED[scale]["tables"]}
    steps = (MIDDLE, STEPS[-1]) if small else STEPS
    return [
        *grid(Config, study="tune", **size, **tables, seed=range(2)),
        *grid(Config, router="frozen", step=0.0, **arms),
        *grid(Config, router=rules, step=steps, **arms),
        *grid(
            Config,
            study="auxiliary",
            router=rules[::2] if small else rules,
            auxiliary=[name for name in AUXILIARY if name != "none"],
            **arms,
        ),
    ]


def run(configs: list[Config]) -> list[dict]:
    return [_train(c) for c in configs]


def _train(c: Config) -> dict:
    """The row of `symlab.pretraining.train`, and how far routers have moved."""
    from symlab.data.text import corpus
    from symlab.pretraining import Recipe, train
    from symlab.pretraining.loop import build
    from symlab.pretraining.processes import Processes, on
    from symlab.symopt import SymOpt

    recipe = Recipe(
        steps=c.steps,
        batch=c.batch,
        micro=c.micro,
        length=c.length,
        precision=c.precision,
        compile=c.compile,
        validation=c.validation,
        seed=c.seed,
        **AUXILIARY[c.auxiliary],
    )
    processes = Processes(device=on(device.name()))
    chosen = optimizer(c)
    model, groups = build(decoder(c), recipe, chosen, processes)
    path = checkpoint.path(c) if c.save_every else None
    before = routers(model)  # of a resumed run, too: `build` has the initial weights
    row = train(
        model,
        SymOpt(model, groups=groups, compile=c.compile),
        corpus(c.source, vocabulary=c.vocabulary),
        recipe,
        processes=processes,
        path=path,
        save_every=c.save_every if path else 0,
        about={"optimizer": repr(sorted(chosen.items()))},
    )
    return row | {"router_moved": moved(before, routers(model))}


def decoder(c: Config):
    from symlab.models.families import preset

    name, changes = MODELS[c.model]
    return preset(name, vocabulary=c.vocabulary, context=c.length, **changes)


def optimizer(c: Config) -> dict:
    """What SymOpt is told: a Muon of single projections, AdamW's tables, a router."""
    lr = c.step / decoder(c).width ** 0.5 if c.router == "adamw" else c.step
    single = {"per_piece": True, "method": "auto"}
    return {
        "preset": "muon",
        "lr": c.body_lr,
        "weight_decay": 0.0,
        "overrides": {
            **dict.fromkeys(HIDDEN, single),
            "embedding": {"lr": c.embedding_lr},
            "head": {"lr": c.head_lr},
            "router": {"lr": lr, **ROUTERS[c.router]},
        },
    }


def routers(model) -> list:
    """Copies of the routers' weights (E, D), layer by layer."""
    return [block.feed.router.weight.detach().clone() for block in model.blocks]


def moved(before: list, after: list) -> float:
    """|R_T - R_0| / |R_0| without what a softmax does not see, mean over layers."""
    from symlab.symopt import centre

    ratios = [
        float(centre(b - a).norm() / centre(a).norm())
        for a, b in zip(before, after, strict=True)
    ]
    return sum(ratios) / len(ratios)


# --- estimates -----------------------------------------------------------------------

RULES = ("adamw", "row_norm", "left_polar")  # in all scales
TABLES = ["embedding_lr", "head_lr"]


def frontier(df):
    return df[df.study == "frontier"]


def _means(df, column: str):
    """Over seeds, rules down and steps across; without the frozen router."""
    rows = frontier(df)
    rows = rows[rows.router != "frozen"]
    return rows.groupby(["router", "step"])[column].mean().unstack()


def best_loss(df) -> dict[str, float]:
    """The step with the least loss of each rule."""
    return _means(df, "val_loss").idxmin(axis=1).to_dict()


def least_load(df) -> dict[str, float]:
    """The step with the least load CV of each rule among those that lose nothing.

    That is, whose mean loss is within ROOM of AdamW's best; of a rule without such a
    step the one with the least loss.
    """
    loss, load = _means(df, "val_loss"), _means(df, "load_cv")
    allowed = loss <= loss.loc["adamw"].min() + ROOM
    found = load.where(allowed).dropna(how="all").idxmin(axis=1).to_dict()
    return best_loss(df) | found


def judged(df, choose):
    """Rows of each seed at the steps that seeds of the other parity choose."""
    import pandas as pd

    df, rows = frontier(df), []
    for odd in (0, 1):
        steps = {"frozen": 0.0} | choose(df[df.seed % 2 != odd])
        mine = df[df.seed % 2 == odd]
        rows.append(mine[mine.step == mine.router.map(steps)])
    return pd.concat(rows)


def _wide(df, column: str, log: bool, arms: list[str]):
    """Seeds down, arms across."""
    values = df.assign(value=np.log(df[column]) if log else df[column])
    return values.pivot(index="seed", columns=arms, values="value")


def at_chosen(df, choose, column: str, rule: str, other: str = "adamw", log=True):
    """Paired interval of rule - other at their chosen steps; of logs, if so wanted."""
    wide = _wide(judged(df, choose), column, log, ["router"])
    return stats.mean(wide[rule] - wide[other])


def at_equal_steps(df, column: str, rule: str, other: str = "adamw", log=True):
    """The same at each step, and the mean over steps."""
    wide = _wide(frontier(df), column, log, ["router", "step"])
    return stats.mean((wide[rule] - wide[other]).mean(axis=1))


def auxiliary(df, column: str, log: bool = True):
    """Seeds down; (losses, rule) across: all at one step."""
    same = df[(df.study != "tune") & (df.step == MIDDLE)]
    return _wide(same, column, log, ["auxiliary", "router"]).dropna(axis=1)


def effect(df, column: str, name: str, log: bool = True, other: str = "none"):
    """What the losses `name` change against `other`, seeds down and rules across."""
    wide = auxiliary(df, column, log)
    return wide[name] - wide[other].loc[:, wide[name].columns]


# --- figure --------------------------------------------------------------------------

LOOK = {  # colour, marker and name
    "frozen": (plot.BLACK, "*", "frozen"),
    "adamw": (plot.ORANGE, "s", "AdamW"),
    "row_norm": (plot.BLUE, "^", "row-norm"),
    "left_polar": (plot.GREEN, "o", "left polar"),
    "hybrid": (plot.PINK, "D", "hybrid"),
}
RIGHT = {"ha": "right", "va": "center", "fontsize": 6.5}
LOSSES = {"none": "none", "balance": "balance", "balance and z": "with z", "phi": "φ"}


def _band(ax, interval, **line) -> None:
    """What the frozen router has: a dashed line and its interval."""
    ax.axhline(interval.value, color=plot.BLACK, ls=(0, (4, 2)), lw=0.9, zorder=1)
    if interval.n > 1:
        ax.axhspan(interval.low, interval.high, color="0.9", lw=0, zorder=0)


def _against_step(df, ax, column: str, label: str) -> None:
    """A column over steps, one curve per rule, and the frozen router's."""
    rows = frontier(df)
    for rule, (color, marker, name) in LOOK.items():
        part = rows[rows.router == rule]
        if rule == "frozen":
            _band(ax, stats.mean(part[column]))
        elif len(part):
            plot.curve(ax, part, "step", column, label=name, color=color, marker=marker)
    ax.set(xscale="log", xlabel="step of a router's row", ylabel=label)
    ax.set_xticks(STEPS, [f"{s:g}".removeprefix("0") for s in STEPS])
    ax.set_xticks([], minor=True)


def _reach(intervals) -> np.ndarray | None:
    """Half-widths (2, n) for errorbar; none of one run."""
    if intervals[0].n < 2:
        return None
    return np.array([[i.value - i.low, i.high - i.value] for i in intervals]).T


@figure("symopt4", panel="left")
def draw_frontier(df, ax):
    """Loss, paired with the frozen router's, against load CV; a curve over steps."""
    rows = frontier(df).set_index(["router", "step", "seed"])
    loss, load = rows.val_loss.unstack(), rows.load_cv.unstack()
    loss = loss - loss.loc["frozen", 0.0]
    start = stats.mean(load.loc["frozen", 0.0])
    for rule, (color, marker, name) in LOOK.items():
        if rule not in loss.index:
            continue
        x = [stats.mean(r) for r in load.loc[rule].to_numpy()]
        y = [stats.mean(r) for r in loss.loc[rule].to_numpy()]
        at = [[i.value for i in v] for v in (x, y)]
        if rule != "frozen":
            ax.plot([start.value, *at[0]], [0, *at[1]], color=color, lw=0.8, zorder=2)
        style = {"color": color, "elinewidth": 0.5, "alpha": 0.55, "zorder": 1}
        reach = _reach(y) if rule != "frozen" else None
        ax.errorbar(*at, yerr=reach, xerr=_reach(x), fmt="none", **style)
        size = 34 if rule == "frozen" else 5 * (1 + np.arange(len(x))) ** 1.4
        ax.scatter(*at, s=size, color=color, marker=marker, label=name, lw=0, zorder=3)
    ax.set(xlabel="load CV", ylabel="loss − that of the frozen router (nats)")
    ax.legend(loc="lower left", markerscale=0.8, title="larger: longer steps")
    ax.get_legend().get_title().set_fontsize(6.5)
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.6 * (high - low), high)  # room for the legend


@figure("symopt4", panel="mid")
def draw_moved(df, ax):
    """Load CV against how far routers have moved."""
    rows = frontier(df)
    for rule, (color, marker, name) in LOOK.items():
        part = rows[rows.router == rule]
        if rule == "frozen":
            level = stats.mean(part.load_cv)
            _band(ax, level)
            where = ax.get_yaxis_transform()
            ax.text(0.98, level.value, "frozen\n", transform=where, **RIGHT)
            continue
        runs = [g for _, g in part.groupby("step")]
        if not runs:
            continue
        x = [np.exp(np.log(g.router_moved).mean()) for g in runs]
        y = [stats.mean(g.load_cv) for g in runs]
        look = {"color": color, "marker": marker, "label": name, "elinewidth": 0.7}
        ax.errorbar(x, [i.value for i in y], yerr=_reach(y), mew=0, **look)
    ax.set(xscale="log", xlabel="distance moved / initial norm", ylabel="load CV")
    ax.legend(loc="upper left")


def _beside(df, ax, wide, names) -> None:
    """Intervals of (losses, rule) side by side, losses along the axis."""
    rules = [r for r in LOOK if r in wide.columns.get_level_values("router")]
    for k, rule in enumerate(rules):
        if rule == "frozen":
            continue
        color, marker, label = LOOK[rule]
        found = {
            i: stats.mean(wide[name, rule])
            for i, name in enumerate(names)
            if (name, rule) in wide
        }
        x = np.array(list(found)) + 0.17 * (k - (len(rules) - 1) / 2)
        y = list(found.values())
        style = {"color": color, "ms": 3.4, "mew": 0, "elinewidth": 0.8}
        values = [i.value for i in y]
        ax.errorbar(x, values, yerr=_reach(y), fmt=marker, label=label, **style)
    ax.set_xticks(range(len(names)), [LOSSES[n] for n in names])
    ax.set(xlim=(-0.5, len(names) - 0.5), xlabel="auxiliary loss")


@figure("symopt4", panel="right")
def draw_auxiliary(df, ax):
    _beside(df, ax, auxiliary(df, "load_cv", log=False), list(LOSSES))
    ax.set(ylabel="load CV", ylim=(0, None))
    ax.legend(loc="upper right")


@figure("symopt4", panel="left", row=1)
def draw_drift(df, ax):
    _against_step(df, ax, "mean_logit_drift", "mean router logit, rms over tokens")
    ax.set_yscale("log")
    ax.legend(loc="upper left")


@figure("symopt4", panel="mid", row=1)
def draw_dead(df, ax):
    _against_step(df, ax, "dead_fraction", "dead experts")
    ax.set(ylim=(0, None))


@figure("symopt4", panel="right", row=1)
def draw_cost(df, ax):
    """Loss with auxiliary losses minus that without."""
    names = [name for name in LOSSES if name != "none"]
    wide = auxiliary(df, "val_loss", log=False)
    for name in names:
        for rule in wide[name].columns:
            wide[name, rule] = wide[name, rule] - wide["none", rule]
    _beside(df, ax, wide, names)
    ax.axhline(0, color="0.8", lw=0.6, zorder=0)
    ax.set(ylabel="what it costs (nats)")


def table(df):
    """Means over seeds of each rule and step, and of the auxiliary losses."""
    import pandas as pd

    columns = {
        "val_loss": ("loss", ".3f"),
        "load_cv": ("load CV", ".2f"),
        "max_violation": ("MaxVio", ".1f"),
        "dead_fraction": ("dead", ".2f"),
        "load_entropy": ("entropy", ".2f"),
        "mean_logit_drift": ("mean logit", ".3f"),
        "z_loss": ("z-loss", ".1f"),
        "router_moved": ("moved", ".2f"),
    }
    rows = []
    arms = df[df.study != "tune"].groupby(["auxiliary", "router", "step"], sort=False)
    for (losses, router, step), runs in arms:
        row = {"router": LOOK[router][2], "step": f"{step:g}", "losses": losses}
        means = runs[list(columns)].mean()
        rows.append(row | {n: f"{means[c]:{f}}" for c, (n, f) in columns.items()})
    return pd.DataFrame(rows)


# --- claims --------------------------------------------------------------------------

RATE = 2  # places in STEPS between steps of AdamW and of the others at one rate, nearly


def at_equal_rates(df, rule: str):
    """log load CV of a rule - AdamW's at nearly its learning rate, mean over pairs.

    Of width 64: AdamW's step .025 is a rate of .0031, its .08 one of .01.
    """
    wide = _wide(frontier(df), "load_cv", True, ["router", "step"])
    pairs = zip(STEPS, STEPS[RATE:], strict=False)
    found = [(a, b) for a, b in pairs if (rule, a) in wide and ("adamw", b) in wide]
    gaps = [wide[rule, a] - wide["adamw", b] for a, b in found]
    return stats.mean(sum(gaps) / len(gaps))


def _tuned(df):
    """By how much the loss at the rates in use exceeds the least of the grid."""
    from symlab.harness.race import scores

    found = scores(df[df.study == "tune"], ["router"], TABLES)
    used = frontier(df)[TABLES].iloc[0]
    return stats.worst([found[("adamw", *used)] - found.min()])


def _at_edge(df):
    from symlab.harness.race import at_edge

    found = at_edge(df[df.study == "tune"], ["router"], TABLES)
    return stats.worst(found.to_numpy(float).ravel())


def _worst_effect(df, column: str, name: str, log: bool = True):
    """The largest effect of auxiliary losses among the rules of a seed."""
    return stats.mean(effect(df, column, name, log).max(axis=1))


def _worst_cost(df):
    """The largest cost in loss among auxiliary losses and rules of a seed."""
    names = [name for name in AUXILIARY if name != "none"]
    costs = [effect(df, "val_loss", name, log=False).max(axis=1) for name in names]
    return stats.mean(np.max(costs, axis=0))


def _between(df, name: str):
    """log load CV of left_polar - AdamW's, under the same auxiliary losses."""
    wide = auxiliary(df, "load_cv")[name]
    return stats.mean(wide["left_polar"] - wide["adamw"])


def _z_loss(df, centred: bool):
    """log mean lse^2 with the z-loss - without, both with the balancing loss."""
    change = effect(df, "z_loss", "balance and z", other="balance")
    others = change.drop(columns="adamw").min(axis=1)
    return stats.mean(others if centred else change["adamw"])


def _shift(df, centred: bool):
    """The mean row's move over the length of rows, in every run with a learning router.

    The largest of centred rules, the least of AdamW's.
    """
    rows = df[(df.router == "adamw") != centred]
    shifts = rows[rows.router != "frozen"].router_shift
    return stats.worst(shifts, largest=centred)


def _steady(df):
    """log mean logit of each centred rule - the frozen router's; the worst by seed."""
    wide = _wide(frontier(df), "mean_logit_drift", True, ["router", "step"])
    gaps = wide[["row_norm", "left_polar"]].sub(wide["frozen", 0.0], axis=0)
    signed = [row[np.abs(row).argmax()] for row in gaps.to_numpy()]
    return stats.mean(signed)


OURS = "ours"
LAU = "Lau & Su, arXiv 2605.18106; measured here, ours"
TRIALS = "ours; as in trials with small mixtures"
A_FIFTH = float(np.log(0.8))
LESS = "less is less, paired by the seed"
CLAIMS = [
    Claim(
        "tables_are_tuned",
        "Embedding and head have the rates that the recorded grid chooses.",
        OURS + ", protocol",
        _tuned,
        below=0.01,
        reason="nats: what two other seeds may find better by chance",
    ),
    Claim(
        "tables_lie_inside",
        "Neither rate is the first or last of its grid.",
        OURS + ", protocol",
        _at_edge,
        below=0.5,
        reason="neither",
    ),
    # --- the frontier
    Claim(
        "left_polar_frontier",
        "Within .02 nats of AdamW's best loss left_polar reaches a lower load CV.",
        TRIALS,
        lambda df: at_chosen(df, least_load, "load_cv", "left_polar"),
        below=0.0,
        reason=LESS,
        expected="undecided",
        because="every rate of every rule is within .02 nats, so that each takes the "
        "smallest, and AdamW's smallest moves least: 1.02 and 1.03 in the prototype, "
        ".92 and 1.00 in the run. The interval was [-0.010, 0.139] at first, [0.000, "
        "0.138] (failed) with AdamW's fused kernel, and is [-0.060, 0.101] since "
        "2026-11-30, on validation text without near copies",
    ),
    Claim(
        "frozen_frontier",
        "So does a router that never learns, against AdamW's least.",
        OURS,
        lambda df: at_chosen(df, least_load, "load_cv", "frozen"),
        below=A_FIFTH,
        reason="a fifth; the prototype had .66 against 1.02",
    ),
    Claim(
        "frozen_loss",
        "The loss of a frozen router is that of AdamW at its best, within .02 nats.",
        OURS,
        lambda df: at_chosen(df, best_loss, "val_loss", "frozen", log=False),
        above=-ROOM,
        below=ROOM,
        reason="the room of the frontier; the prototype had +.006",
    ),
    *(
        Claim(
            f"{rule}_loss",
            f"{rule} and AdamW, each at its best, have the same loss within .02 nats.",
            TRIALS,
            partial(
                at_chosen, choose=best_loss, column="val_loss", rule=rule, log=False
            ),
            above=-ROOM,
            below=ROOM,
            reason="the room of the frontier; the prototype had differences of .003",
        )
        for rule in ("row_norm", "left_polar")
    ),
    Claim(
        "left_polar_at_best_loss",
        "With rates chosen by loss alone, left_polar has the lower load CV.",
        TRIALS,
        lambda df: at_chosen(df, best_loss, "load_cv", "left_polar"),
        below=0.0,
        reason=LESS,
    ),
    Claim(
        "left_polar_at_equal_steps",
        "At equal length of steps left_polar has a lower load CV than AdamW.",
        TRIALS,
        lambda df: at_equal_steps(df, "load_cv", "left_polar"),
        below=0.0,
        reason=LESS + "; it moves farther than AdamW then, so this errs against it",
    ),
    Claim(
        "row_norm_at_equal_steps",
        "So has row_norm.",
        OURS,
        lambda df: at_equal_steps(df, "load_cv", "row_norm"),
        below=0.0,
        reason=LESS,
        expected="failed",
        because="it has 6 % more. Before the run it was undecided: the prototype had "
        "3 % more",
    ),
    Claim(
        "left_polar_and_row_norm",
        "At equal length of steps left_polar has a lower load CV than row_norm.",
        TRIALS,
        lambda df: at_equal_steps(df, "load_cv", "left_polar", "row_norm"),
        below=0.0,
        reason=LESS + "; both move equally far",
    ),
    Claim(
        "left_polar_at_equal_rates",
        "At one learning rate for all rules, left_polar has a fifth less load CV.",
        LAU,
        partial(at_equal_rates, rule="left_polar"),
        below=A_FIFTH,
        reason="a fifth; the trials had 30 to 35 %, the prototype 35 %",
    ),
    Claim(
        "row_norm_at_equal_rates",
        "row_norm has less, too, though not at equal steps.",
        OURS + ": its steps are shorter by width^(1/2) then",
        partial(at_equal_rates, rule="row_norm"),
        below=0.0,
        reason=LESS,
    ),
    Claim(
        "left_polar_violation",
        "At equal length of steps its fullest expert is less full.",
        TRIALS,
        lambda df: at_equal_steps(df, "max_violation", "left_polar"),
        below=0.0,
        reason=LESS,
    ),
    Claim(
        "left_polar_dead",
        "And fewer experts are dead.",
        TRIALS,
        lambda df: at_equal_steps(df, "dead_fraction", "left_polar", log=False),
        below=0.0,
        reason=LESS,
    ),
    # --- the mean logit
    Claim(
        "centred_routers_do_not_shift",
        "Under centred rules the mean row of a router stays where it was.",
        LAU,
        partial(_shift, centred=True),
        below=1e-5,
        reason="rounding of float32 over hundreds of steps, over the length of rows",
    ),
    Claim(
        "adamw_shifts",
        "Under AdamW it moves, in every run.",
        LAU,
        partial(_shift, centred=False),
        above=0.01,
        reason="a hundredth of a row",
    ),
    Claim(
        "mean_logit_is_steady",
        "Under centred rules the mean logit is that of the frozen router.",
        LAU,
        _steady,
        above=-0.3,
        below=0.3,
        reason="a factor 1.35: the router's mean row stays, what it reads does not",
    ),
    Claim(
        "adamw_drifts",
        "At equal length of steps AdamW's mean logit is more than twice left_polar's.",
        TRIALS,
        lambda df: at_equal_steps(df, "mean_logit_drift", "adamw", "left_polar"),
        above=float(np.log(2)),
        reason="twice; the prototype had a factor of 4",
    ),
    # --- auxiliary losses
    *(
        Claim(
            f"{name.replace(' ', '_')}_lowers_load_cv",
            f"{words} lowers load CV by a fifth and more under every rule.",
            source,
            partial(_worst_effect, column="load_cv", name=name),
            below=A_FIFTH,
            reason="a fifth, of the rule that it helps least in each seed",
        )
        for name, words, source in (
            ("balance", "The load-balancing loss", "arXiv 2101.03961"),
            ("balance and z", "That with the z-loss", "arXiv 2202.08906"),
            ("phi", "phi-balancing", "arXiv 2605.15403"),
        )
    ),
    Claim(
        "auxiliary_losses_are_cheap",
        "No auxiliary loss costs .02 nats under any rule.",
        OURS,
        _worst_cost,
        below=ROOM,
        reason="the room of the frontier, for the dearest of nine in each seed",
    ),
    Claim(
        "left_polar_with_balance",
        "With the load-balancing loss left_polar still has the lower load CV.",
        LAU,
        partial(_between, name="balance"),
        below=0.0,
        reason=LESS,
        expected="failed",
        because="it has more, .42 against .35. Before the run it was undecided: .43 "
        "and .37 in the prototype. AdamW follows a small steady gradient faster",
    ),
    Claim(
        "left_polar_with_phi",
        "So it has with phi-balancing.",
        TRIALS,
        partial(_between, name="phi"),
        below=0.0,
        reason=LESS,
        expected="undecided",
        because=".61 against .55. The trials had .75 against .89, the prototype here "
        ".58 against .47, and so the claim was to fail. The interval was "
        "[-0.014, 0.296] at first, [0.008, 0.259] (failed) with AdamW's fused kernel, "
        "and is [-0.010, 0.345] since 2026-11-30, on validation text without near "
        "copies",
    ),
    Claim(
        "z_loss_moves_adamw",
        "The z-loss lowers lse^2 under AdamW.",
        OURS + ": by the mean logit, which no probability depends on",
        partial(_z_loss, centred=False),
        below=A_FIFTH,
        reason="a fifth; the prototype went from 8.0 to 5.3",
    ),
    Claim(
        "centring_cancels_the_z_loss",
        "Under centred rules it cannot.",
        OURS + ": lse is the mean logit plus log E or more",
        partial(_z_loss, centred=True),
        above=-0.05,
        reason="log(16)^2 = 7.7 is the least with a mean logit of 0, and 8.0 what it "
        "is without the loss: 4 % at most",
    ),
]
