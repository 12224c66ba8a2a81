"""Update rules at tuned rates on matrix problems whose optimum is known.

Reference: Lau & Su, "symmetry-compatible" optimizers (arXiv 2605.18106), for the rules
and what they are compared with. Problems, protocol, claims and the exact centring of
`centred_row_norm` are ours. Three convex problems, each from W = 0:

  sensing    y_k = <A_k, W*>, full gradient. W* (20, 12) has rank 4 and singular values
             over 1.5 decades; the A_k = P^(1/2) Z_k Q^(1/2) are anisotropic and four
             times as many as the entries, so W* is the only optimum and its loss is 0
  embedding  next-token prediction, softmax(W_i H^T) for token i, with the head H known;
             a row gets a gradient only when its token is drawn, the rarest of 256 every
             49 steps
  head       the same with the embedding known and W the head: a shift of all rows
             changes nothing, and the centred rules belong here

Tokens follow Zipf's law, and labels nearly do. They are drawn from the model with W =
W*, so the excess loss is a Kullback-Leibler divergence, computed exactly over the whole
distribution. V D/2N, dashed in the figure, is the excess loss of maximum likelihood
with V tokens and D dimensions after N drawn tokens, if each token were drawn many
times. In the basis 'axes' P, Q and the covariance of the known factor, whose spectrum
spans a decade, are diagonal; 'rotated' turns the same problem at random. The problems
are those of symlab.known_optima.

Protocol: every seed runs the whole grid, seven rates a factor of two apart for each
rule. On even seeds each rule takes the rate with the least mean log excess loss; all
comparisons are made at that rate on odd seeds, paired. The centres of the grids and the
numbers of steps come from a prototype on seeds 10000 and 10001. Momentum is an average
(EMA) with 0.95, weight decay is 0, and the rate falls linearly to 0 over the last 40 %
of the steps. AdamW has a grid for each beta2, 0.999 (torch's default) and 0.95 (the
paper's); the better one counts. Spectral rules take five steps of Polar Express.

Expected, from trials with language models: row_norm and spectral updates do not beat
tuned AdamW on loss; the floor helps rare tokens. Found: PolarGrad has 13 % less excess
loss on the embedding and 10 % less on the head, in a rotated basis only.
Cost on one core: smoke 5 s, quick 5 min, paper 20 min.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from symlab import papers
from symlab.harness import Arm, figure, lanes, panels, plot, race, stats
from symlab.harness.claims import Claim, after
from symlab.harness.estimates import Estimate, family, named, where
from symlab.schedule import schedule

LANES = 40  # more lanes do not fit into the cache
STATIC = ("study", "rows", "columns", "batch", "steps", "momentum", "zipf")
CEILING = 1e3  # the excess of a run that diverged
DECAY = 0.4  # part of the steps, at the end, over which the rate falls
FLOOR = 0.1  # row_norm_floor fades rows below this part of the root mean square row
ADAM = {"adamw": 0.999, "adamw_95": 0.95}  # beta2, of the average of squares
IN_AXES = ("adamw", "adamw_95", "polargrad")  # rules of the token problems there
CENTRES = {  # the rules of each problem, and the middle of each grid, of the prototype
    "sensing": {"sgd": 20.0, "adamw": 0.03, "adamw_95": 0.008, "sign": 0.0025,
                "row_norm": 0.005, "row_norm_floor": 0.005, "spectral": 0.008,
                "polargrad": 4.0, "row_then_spectral": 0.008, "column_norm": 0.008},
    "embedding": {"sgd": 4.0, "adamw": 0.03, "adamw_95": 0.02, "sign": 0.003,
                  "row_norm": 0.008, "row_norm_floor": 0.015, "spectral": 0.1,
                  "polargrad": 0.4, "row_then_spectral": 0.04},
    "head": {"sgd": 5.0, "adamw": 0.04, "adamw_95": 0.03, "sign": 0.004,
             "row_norm": 0.012, "row_norm_floor": 0.025, "spectral": 0.1,
             "polargrad": 0.4, "row_then_spectral": 0.06, "twice_centred": 0.012,
             "centred_row_norm": 0.02},
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    study: str = "sensing"
    """The problem: 'sensing', 'embedding' or 'head'."""
    basis: str = "rotated"
    """'axes': covariances of the data are diagonal; 'rotated': in no such basis."""
    rule: str = "sgd"
    """The update rule, a key of CENTRES[study]."""
    lr: float = 0.01
    """Learning rate before its decay."""
    rows: int = 20
    """Rows of W; for tokens the vocabulary V."""
    columns: int = 12
    """Columns of W; for tokens the width."""
    batch: int = 0
    """Tokens per step; 0 is the full gradient."""
    steps: int = 400
    """Steps."""
    momentum: float = 0.95
    """Momentum of the average of gradients, for every rule."""
    zipf: float = 1.0
    """Token i has a frequency in proportion to (i+1)^-zipf."""
    seed: int = 0
    """Problem and data. Even seeds tune the rate, odd ones compare."""


def sweep(scale: str) -> list[Config]:
    seeds = range({"smoke": 2, "quick": 16, "paper": 64}[scale])
    powers = range(-1, 2) if scale == "smoke" else range(-3, 4)
    v = {"smoke": 40, "quick": 256, "paper": 256}[scale]
    steps = {"smoke": 60, "quick": 1000, "paper": 1000}[scale]
    tokens = {"rows": v, "columns": 16, "batch": 32, "steps": steps}
    sensing = {"steps": 60 if scale == "smoke" else 400}
    arms = {("sensing", b): (CENTRES["sensing"], sensing) for b in ("axes", "rotated")}
    for study in ("embedding", "head"):
        arms[study, "axes"] = IN_AXES, tokens
        arms[study, "rotated"] = CENTRES[study], tokens
    # seeds outermost: a chunk of lanes then has few of them, and few data
    return [
        Config(study, basis, rule, CENTRES[study][rule] * 2.0**k, **size, seed=seed)
        for (study, basis), (rules, size) in arms.items()
        for seed in seeds
        for rule in rules
        for k in powers
    ]


def run(configs: list[Config]) -> list[dict]:
    return lanes.grouped(configs, _rule, _rows)


def _rule(c: Config) -> str:
    return c.rule


def _rows(configs: list[Config]) -> list[dict]:
    from symlab.known_optima import PROBLEMS

    problem = PROBLEMS[configs[0].study](configs)
    return [_row(found) for found in problem.measure(_descend(configs, problem))]


def _row(found: dict) -> dict:
    """Numbers of one lane; all but the oracle's are the ceiling if it diverged.

    Columns:
        excess: loss minus its least value after the last step, computed without
            sampling: in study sensing relative to the loss at W = 0; in studies
            embedding and head in nats per token, where it is the Kullback-Leibler
            divergence from the true model; 1000 if the run diverged
        distance: |W - W*| / |W*| after the last step, Frobenius norms, W* the true
            matrix; 1000 if the run diverged; study sensing alone, else empty
        oracle_gap: |W' - W*| / |W*| for the solution W' of the measurements by numpy's
            least squares, which should be 0; study sensing alone, else empty
        diverged: whether the excess was above 1000 or a number of the row not finite
        frequent: excess loss of the more frequent half of the tokens after the last
            step, in nats per occurrence; the tokens are the given ones in study
            embedding and the predicted ones in study head; 1000 if the run diverged;
            empty in study sensing
        rare: as `frequent`, of the rarer half of the tokens
        drift: norm of the mean row of W over the root mean square norm of its rows,
            after the last step; 1000 if the run diverged; empty in study sensing
    """
    lost = not np.isfinite(list(found.values())).all() or found["excess"] > CEILING
    ceiling = dict.fromkeys((k for k in found if k != "oracle_gap"), CEILING)
    return found | (ceiling if lost else {}) | {"diverged": lost}


# --- descent -------------------------------------------------------------------------


def _descend(configs: list[Config], problem):
    """The last W (L, M, N) of each lane; lanes of one rule must be side by side."""
    import torch

    c = configs[0]
    w = torch.zeros(len(configs), c.rows, c.columns, dtype=problem.dtype)
    lr = torch.from_numpy(lanes.column(configs, "lr", 3, np.float64)).to(w)
    parts = _parts(configs, w)
    for t in range(c.steps):
        g = problem.gradient(w, t)
        for at, step in parts:
            w[at].addcmul_(lr[at], step(g[at]), value=-schedule(t, c.steps, DECAY))
    return w


def _parts(configs: list[Config], w) -> list:
    """(slice of lanes, map from gradient to update) for each rule."""
    from symlab.matrix_descents import Momentum

    beta, found = configs[0].momentum, directions()
    return [
        (at, _Adam(ADAM[rule], beta, w[at]) if rule in ADAM
         else Momentum(found[rule], beta, w[at]))
        for rule, at in lanes.slices(configs, _rule).items()
    ]  # fmt: skip


def directions() -> dict:
    """Return {update rule: function from the momentum (..., M, N) to the update}."""
    import torch

    from symlab import symopt

    return {
        "sgd": lambda m: m,
        "sign": torch.sign,
        "row_norm": symopt.row_norm,
        "row_norm_floor": partial(symopt.row_norm, floor=FLOOR),
        "column_norm": symopt.column_norm,
        "spectral": symopt.spectral,
        "polargrad": partial(symopt.spectral, alpha=1.0),
        "row_then_spectral": symopt.row_then_spectral,
        "twice_centred": partial(symopt.row_norm, centred=True),
        # a fixed number of steps, as in float32 all lanes stop together
        "centred_row_norm": lambda m: symopt.centred_row_norm(m.double(), steps=20).to(
            m.dtype
        ),
    }


class _Adam:
    """Adam of Kingma & Ba with bias correction; eps is 1e-8 as in torch."""

    def __init__(self, beta2: float, beta: float, like):
        self.beta, self.beta2, self.t = beta, beta2, 0
        self.mean, self.square = like.clone().zero_(), like.clone().zero_()

    def __call__(self, g):
        self.t += 1
        self.mean.lerp_(g, 1 - self.beta)
        self.square.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
        size = (self.square / (1 - self.beta2**self.t)).sqrt_().add_(1e-8)
        return (self.mean / (1 - self.beta**self.t)).div_(size)


# --- tuned rates and figure ----------------------------------------------------------


def logs(df):
    """the logarithm of the excess loss is known

    The function returns df with the column `log_excess`, the natural logarithm of the
    excess loss over the optimum. Claims print the line above.
    """
    return df.assign(log_excess=np.log(np.maximum(df.excess, 1e-300)))


def tuned(df):
    """fresh seeds run at the rate that the tuning seeds chose

    The function returns the rows of odd seeds at the learning rate that is best, for
    the same problem, basis and rule, in the mean of the log excess loss over even
    seeds. Claims print the line above.
    """
    best = RACE.chosen(df).lr.rename("best")
    return df[(df.lr == df.join(best, on=RACE.arm).best) & (df.seed % 2 == 1)]


def one_adamw(df):
    """adamw is the variant of AdamW (beta2 0.999 or 0.95) that tunes better

    The function returns df without the rows of the other variant, for each problem and
    basis; the better variant is named 'adamw'. Claims print the line above.
    """
    scores = RACE.chosen(df).score.unstack("rule")[list(ADAM)]
    better = df.join(scores.idxmin(axis=1).rename("better"), on=["study", "basis"])
    kept = df[~df.rule.isin(ADAM) | (df.rule == better.better)]
    return kept.assign(rule=kept.rule.replace(dict.fromkeys(ADAM, "adamw")))


TUNED, COMPARED = where(tuned), where(one_adamw, tuned)
RACE = race.Race("comparing update rules on matrix sensing and token prediction",
                 ("study", "basis", "rule"), ("lr",),
                 tune=where(logs, "seed % 2 == 0"), raced=TUNED,
                 value="log_excess")  # fmt: skip
LABELS = {  # the rows of the lower panels; the upper ones are in units of AdamW
    "adamw": "AdamW ($\\beta_2$ 0.999)", "adamw_95": "AdamW ($\\beta_2$ 0.95)",
    "sgd": "SGD", "polargrad": "PolarGrad", "spectral": "spectral",
    "row_then_spectral": "hybrid", "row_norm_floor": "row-norm, floor",
    "row_norm": "row-norm", "sign": "sign", "centred_row_norm": "row-norm, centred",
}  # fmt: skip
RIVALS = ("sgd", "polargrad", "spectral", "row_then_spectral", "row_norm_floor",
          "row_norm", "sign")  # fmt: skip
ROTATED = Arm("rotated at random", plot.BLUE)
AXES = Arm("in the principal axes (where it was run)", plot.ORANGE, "s", hollow=True)
BASES = {"rotated": ROTATED, "axes": AXES}
TURNED_IN = {
    "embedding": Arm("embedding", plot.PINK, "^"),
    "sensing": Arm("sensing", plot.GREEN, "D"),
    "head": Arm("head", plot.BLACK, "P"),
}
HALVES = {
    "frequent": Arm("frequent half of tokens", plot.BLUE, "<"),
    "excess": Arm("all", plot.BLACK, "o", hollow=True),
    "rare": Arm("rare half", plot.ORANGE, "X"),
}


def _ratio(ax, rows: dict, arms: dict, *, spread: float) -> None:
    """Ratios from logs of ratios, on a log axis with a line at 1."""
    rows = {name: {of: i.map(np.exp) for of, i in found.items()}
            for name, found in rows.items()}  # fmt: skip
    for y in range(len(rows)):
        panels.reference(ax, y=y, color=panels.SHADE, lw=0.5)
    panels.forest(ax, rows, arms, zero=1, spread=spread)
    panels.rows_of(ax, list(rows), shared=True)
    ax.set_xscale("log")


def _against_adamw(df, ax, study: str) -> None:
    """Excess loss over AdamW's, in either basis, if the rule was run there."""
    wanted = where(study=study)(df)
    there = {basis: set(rows.rule) for basis, rows in wanted.groupby("basis")}
    rows = {LABELS[rule]: {basis: against_adamw(study, rule, basis)(df)
                           for basis in BASES if rule in there[basis]}
            for rule in RIVALS}  # fmt: skip
    _ratio(ax, rows, BASES, spread=0.35 * (study == "sensing"))
    panels.reference(ax, x=np.exp(GAIN), ls="--")
    ax.set(xlabel="excess loss / AdamW's")


def _halves(df, ax, study: str) -> float:
    """Geometric means of tuned rules, all tokens and halves; returns V D/2N."""
    rows, order = TUNED.where(study=study, basis="rotated")(df), list(LABELS)
    for y, rule in enumerate(order):
        panels.reference(ax, y=y, color=panels.SHADE, lw=0.5)
        if rule not in set(rows.rule):
            panels.note(ax, 0.99, y, "not run here", color="0.4", ha="right",
                        va="center", transform=ax.get_yaxis_transform())  # fmt: skip
    shown = rows[rows.rule.isin(order)]
    for column, arm in HALVES.items():
        found = shown.groupby("rule")[column].apply(stats.geometric_mean)
        panels.points(ax, found.index.map(order.index), found, arm, across=True)
    panels.rows_of(ax, [*LABELS.values()], shared=True)
    panels.ticks(ax, "x", (0.05, 0.1, 0.2, 0.5, 1), log=10)
    ax.set(xlabel="excess loss (nats)", xlim=(0.045, 1.1))
    limit = rows.eval("rows * columns / (2 * batch * steps)").iloc[0]
    panels.reference(ax, x=limit, color=plot.BLACK, ls=panels.DASHED, lw=0.9)
    return limit


@figure("symopt2", "left", title="Sensing: most rules far above")
def draw_sensing(df, ax):
    """Matrix sensing: excess loss over the optimum by update rule, divided by AdamW's
    (the better of two second-moment decays) of the same seed, each at its tuned
    learning rate, in a random basis and in the data's principal axes: geometric means
    over seeds with 95 % intervals. Dashed: 1/1.1, the claimed limit. Floor: short rows
    are scaled down. Hybrid: polar factor of normalised rows.
    """
    _against_adamw(df, ax, "sensing")
    panels.decades(ax, "x", (0, 2, 4))
    panels.key(ax, [*BASES.values()], lines=False)


@figure("symopt2", "mid", title="Embedding rotated: PolarGrad leads")
def draw_embedding(df, ax):
    """Next-token prediction with a trained embedding and a known head: excess loss over
    the optimum by update rule, divided by AdamW's of the same seed, each at its tuned
    learning rate: geometric means over seeds with 95 % intervals. Dashed: 1/1.1, the
    claimed limit. PolarGrad alone was also run in the principal axes.
    """
    _against_adamw(df, ax, "embedding")
    panels.ticks(ax, "x", (0.8, 1, 1.2, 1.5, 1.8), log=10)
    ax.set_xlim(0.72, 1.85)
    panels.note(ax, 0.9, 5.5, "claimed\nlimit", data=True, ha="right", va="center")


@figure("symopt2", "right", title="Head rotated: PolarGrad leads")
def draw_head(df, ax):
    """Next-token prediction with a trained head and a known embedding: excess loss over
    the optimum by update rule, divided by AdamW's of the same seed, each at its tuned
    learning rate: geometric means over seeds with 95 % intervals. Dashed: 1/1.1, the
    claimed limit. PolarGrad alone was also run in the principal axes.
    """
    _against_adamw(df, ax, "head")
    panels.ticks(ax, "x", (0.8, 1, 1.2, 1.5, 1.8), log=10)
    ax.set_xlim(0.72, 1.85)
    panels.note(ax, 0.9, 5.5, "claimed\nlimit", data=True, ha="right", va="center")


@figure("symopt2", "left", row=1, title="What a random rotation costs")
def draw_rotation(df, ax):
    """Excess loss in a random basis divided by that in the data's principal axes of the
    same seed, by update rule, each at its tuned learning rate: geometric means over
    seeds with 95 % intervals. With an embedding or a head three rules were run in both.
    """
    rows = {label: {} for label in LABELS.values()}
    for study in TURNED_IN:
        found = TUNED.where(study=study)(df).groupby("rule").basis.nunique()
        for rule in found.index[found == 2].intersection([*LABELS]):
            rows[LABELS[rule]][study] = _turned(study, rule)(df)
    _ratio(ax, rows, TURNED_IN, spread=0.5)
    panels.ticks(ax, "x", (1, 2, 4, 8), log=2)
    y = len(rows) - 1
    panels.note(ax, 0.99, y, "not run", color="0.4", ha="right", va="center",
                transform=ax.get_yaxis_transform())  # fmt: skip
    ax.set(xlabel="excess loss rotated / in the axes")
    panels.key(ax, [*TURNED_IN.values()], lines=False)


@figure("symopt2", "mid", row=1, title="Embedding: rare tokens cost most")
def draw_embedding_final(df, ax):
    """Next-token prediction with a trained embedding in a random basis: excess loss at
    tuned learning rates, by update rule, of all tokens and of the frequent and the rare
    half; geometric means over seeds with 95 % intervals. Dashed, V D/2N: the excess
    that is expected of maximum likelihood with V tokens, D dimensions and N drawn
    tokens.
    """
    limit = _halves(df, ax, "embedding")
    panels.note(ax, 1.06 * limit, len(LABELS) - 1, "$VD/2N$", data=True, va="center")
    panels.key(ax, [*HALVES.values()], lines=False)


@figure("symopt2", "right", row=1, title="Head: rare tokens cost most")
def draw_head_final(df, ax):
    """Next-token prediction with a trained head in a random basis: excess loss at tuned
    learning rates, by update rule, of all tokens and of the frequent and the rare half;
    geometric means over seeds with 95 % intervals. Dashed: V D/2N, the excess that is
    expected of maximum likelihood.
    """
    _halves(df, ax, "head")


# --- claims --------------------------------------------------------------------------

GAIN = -papers.EXCESS_LOSS.log  # of the log of a ratio
EXCESS = named("excess", "excess loss")
DRIFT = named("drift", "norm of the mean row of W over its root mean square row")
HEAD = TUNED.where(study="head", basis="rotated")
ONLY = "synthetic next-token prediction where only the {} is trained"
TOKENS = {study: ONLY.format(study) for study in [*CENTRES][1:]}
BOTH = "in randomly rotated coordinates and in the data's principal axes"
SMALLEST = "at the smallest learning rate of its grid"
SENSING = "matrix sensing (a 20 x 12 matrix from linear measurements)"
STUDIES = {"sensing": SENSING} | TOKENS
ROW_NORM = "row-norm (momentum, each row scaled to length 1)"
NAMES = {
    "row_norm": ROW_NORM,
    "spectral": "spectral (polar factor of the momentum)",
    "row_then_spectral": "hybrid (polar factor of row-normalised momentum)",
    "polargrad": "PolarGrad (polar factor of the momentum times its nuclear norm)",
}
TIMES_ADAMW = ("ends with less than 0.91 times AdamW's excess loss over the known "
               "optimum, each at its tuned learning rate.")  # fmt: skip


def least_rate(df):
    """each rule runs at the smallest rate of its grid

    The function returns the rows of df for which this holds. Claims print the line
    above.
    """
    return df[df.lr == df.groupby(["study", "rule"]).lr.transform("min")]


def against_adamw(study: str, rule: str, basis: str = "rotated"):
    rows = COMPARED.where(study=study, basis=basis)
    return rows.log_ratio(EXCESS, rule=(rule, "adamw"))


def rotation(study: str, rule: str = "adamw"):
    rows = (COMPARED if rule == "adamw" else TUNED).where(study=study, rule=rule)
    return rows.log_ratio(EXCESS, basis=("rotated", "axes"))


def _turned(study: str, rule: str):
    """The cost of a rotation for one rule; of the two AdamW for each by itself."""
    rows = TUNED.where(study=study, rule=rule)
    return rows.log_ratio(EXCESS, basis=("rotated", "axes"))


def far_from_the_optimum(rule: str) -> Estimate:
    """Estimate the largest change over seeds, in absolute log, of a rule's excess loss
    in matrix sensing between the bases 'rotated' and 'axes', at the smallest learning
    rate of its grid.
    """
    rows = where(least_rate, "seed % 2 == 1", study="sensing", rule=rule)

    def compute(df):
        wide = rows(df).pivot(index="seed", columns="basis", values="excess")
        return stats.worst(np.abs(np.log(wide["rotated"] / wide["axes"])))

    return Estimate(compute, "largest |log of excess loss in the rotated basis over "
                    f"that in the axes| of any seed, where {rows}")  # fmt: skip


DAY, TODAY = "2026-11-21", "2026-11-30"
FOUND = DAY, "before the first run it was expected that the rule does not gain a tenth"
ADDED = (DAY, "added after the first run, to see whether the basis is why PolarGrad "
         "was ahead of AdamW")  # fmt: skip
TURNED = (TODAY, "the direction was reversed: the claim had been that the rule's "
          "excess loss is not a tenth below AdamW's")  # fmt: skip
was = partial(papers.resized, papers.EXCESS_LOSS)
IN_FAVOUR = {"origin": "paper", "paper": papers.POLARGRAD, "tests": "adam",
             "place": "abstract: matrix optimization problems"}  # fmt: skip
log_ratio = partial(Claim, unit="log ratio")
gain = partial(log_ratio, below=GAIN, reason=papers.EXCESS_LOSS.reason + " The factor "
               "1.1 has the logarithm 0.095, and 1/1.1 = 0.91 has -0.095.")  # fmt: skip
gains, ratios = partial(family, **gain.keywords), partial(family, **log_ratio.keywords)
oracle = partial(Claim, origin="oracle", kind="identity")
# that the rates in use are the best, the second claim, is so by construction
INSIDE, _, FRESH = RACE.protocol(1e-9, "The rates are chosen from the rows.", "nats")
CLAIMS = [
    INSIDE, replace(FRESH, **after((TODAY, "added after the rows"))),
    oracle("sensing_optimum",
        f"On {SENSING}, a least-squares fit to the measurements agrees with the true "
        "matrix, to 1e-10 of its norm, in every run.",
        place="numpy's lstsq", below=1e-10, unit="of its norm",
        estimate=where(study="sensing").worst(named(
            "oracle_gap", "relative distance of the least-squares fit from W*")),
        reason="Rounding of 1e-16 grows by the measurements' condition number, 100."),
    Claim("sensing_reached",
        f"On {SENSING}, each of the update rules compared, at its tuned learning rate, "
        "ends within 0.05 of the true matrix, in Frobenius norm relative to that of "
        "the true matrix, in every run.",
        place="rules are compared near the optimum", kind="precondition", below=0.05,
        unit="of its norm", origin="protocol", estimate=TUNED.where(study="sensing")
        .worst(named("distance", "relative distance of W from W*")),
        reason="A twentieth leaves room for directions of small curvature, which are "
        "learned last, and for rules of constant steps, which end one step off."),
    oracle("excess_is_a_divergence",
        "On synthetic next-token prediction where only embedding or head is trained, "
        "no run has a loss more than 1e-12 nats below the known optimum.",
        place="Gibbs' inequality", above=-1e-12, unit="nats",
        estimate=where("study != 'sensing'").least(EXCESS),
        reason="The excess is a Kullback-Leibler divergence, at least 0, and the "
        "rounding of sums of 65,536 terms in float64 is of that size."),
    *gains("{study}_adamw_and_{rule}",
        f"On {{study}}, in randomly rotated coordinates, {{rule}} {TIMES_ADAMW}",
        against_adamw, study=STUDIES, rule=NAMES, paper=papers.LAU, origin="ours",
        place="abstract, on convex problems with a known optimum, which are no "
        "pretraining", expected="failed", because="AdamW at its tuned rate has less "
        "excess loss than the rule, or at most a tenth more.",
        **was("of 0.905", TURNED), but={
             ("sensing", "polargrad"): IN_FAVOUR,
             ("embedding", "polargrad"): IN_FAVOUR | was("of 0.905", FOUND, TURNED) | {
                 "expected": "held", "because": ""},
             ("embedding", "spectral"): was("of 0.905", FOUND, TURNED) | {
                 "expected": "undecided", "because": "The excess loss is 8 % below "
                 "AdamW's, and AdamW's is larger in rotated coordinates."},
             ("head", "polargrad"): IN_FAVOUR | was("of 0.905", FOUND, TURNED) | {
                 "expected": "undecided", "because": "PolarGrad's excess loss is 10 % "
                 "below AdamW's, and AdamW's is larger in rotated coordinates."}}),
    *gains("{study}_adamw_and_polargrad_in_axes",
        f"On {{study}}, in the data's principal axes, {NAMES['polargrad']} "
        f"{TIMES_ADAMW}",
        partial(against_adamw, rule="polargrad", basis="axes"), study=TOKENS,
        **IN_FAVOUR, **was("of 0.905", ADDED, TURNED), expected="failed",
        because="In principal axes AdamW gains by scaling each coordinate on its own. "
        "A rotation mixes coordinates and leaves PolarGrad's loss as it is."),
    *gains("{study}_adamw_feels_the_basis",
        "On {study}, AdamW ends with more than 1.1 times as much excess loss over the "
        "known optimum in randomly rotated coordinates as in the data's principal "
        "axes, its learning rate tuned in each.",
        rotation, study=STUDIES, above=-GAIN, below=np.inf, tests="coordinate-wise",
        paper=papers.LAU, place="abstract: Adam is coordinate-wise", **was("of 1"),
        but={("embedding",): was("of 1", ADDED),
             ("head",): was("of 1, which held,", ADDED) | {"expected": "undecided",
                "because": "The excess loss is larger by 10 %, the threshold."}}),
    *ratios("{study}_polargrad_does_not",
        f"On {{study}}, {NAMES['polargrad']} at its tuned learning rate ends with the "
        f"same excess loss over the known optimum, to 1 %, {BOTH}.",
        partial(rotation, rule="polargrad"), study=TOKENS, above=-0.01, below=0.01,
        place="the rule commutes with rotations of rows and columns",
        kind="equivalence", **after(ADDED),
        reason="In exact arithmetic the losses are equal; 1000 steps amplify the "
        "rounding of float32. Four seeds of a trial run agreed to 0.1 %."),
    log_ratio("sensing_sgd_does_not",
        f"On {SENSING}, SGD with momentum at its tuned learning rate ends with the "
        f"same excess loss over the known optimum, to 1e-6 of it, {BOTH}.",
        place="the gradient turns with the problem", kind="equivalence",
        estimate=rotation("sensing", "sgd"), above=-1e-6, below=1e-6,
        reason="In exact arithmetic the losses are equal."),
    log_ratio("sensing_spectral_does_not",
        f"On {SENSING}, {NAMES['spectral']} {SMALLEST} ends with the same excess loss "
        f"over the known optimum, to 1e-6 of it, {BOTH}, in every seed.",
        place="the rule commutes with rotations of rows and columns", kind="identity",
        estimate=far_from_the_optimum("spectral"), below=1e-6,
        reason="Near the optimum, which this rate does not reach, constant steps "
        "amplify rounding: at the tuned rate the log ratio is -0.02 [-0.15, 0.10].",
        **after((TODAY, "the claim had asked for equality within a factor of two at "
                 "the tuned rate, which many rules would meet; it became an identity "
                 "at the smallest rate"))),
    log_ratio("sensing_hybrid_does",
        f"On {SENSING}, {NAMES['row_then_spectral']} {SMALLEST} ends with excess "
        "losses that differ by more than 1 %, in some seed, between randomly rotated "
        "coordinates and the data's principal axes.",
        place="row norms do not commute with rotations of rows", origin="control",
        estimate=far_from_the_optimum("row_then_spectral"), above=0.01,
        reason="If losses were equal under every rule, equality under the polar factor "
        "would show nothing. It is allowed a ten thousandth of this difference.",
        **after((TODAY, "added as the control of the spectral rule's identity"))),
    gain("floor_helps_rare_tokens",
        f"On {TOKENS['embedding']}, {ROW_NORM} with rows below a tenth of the root "
        "mean square length scaled down has less than 0.91 times plain row-norm's "
        "excess loss on the rarer half of the tokens, each at its tuned rate.",
        place="plain row-norm moves a row at full size long after its last gradient",
        estimate=TUNED.where(study="embedding", basis="rotated").log_ratio(
            named("rare", "excess loss of the rare half"),
            rule=("row_norm_floor", "row_norm")), **was("of 1")),
    gain("exact_centring_pays",
        f"On {TOKENS['head']}, {ROW_NORM} after subtracting the rows' geometric median "
        "has less than 0.91 times the excess loss of row-norm that subtracts the mean "
        "row before and after scaling, each at its tuned learning rate.",
        place="with rows of very different size, centring twice is up to a third less "
        "steep at equal largest row", **was("of 1"),
        estimate=HEAD.log_ratio(EXCESS, rule=("centred_row_norm", "twice_centred"))),
    log_ratio("centring_twice_changes_nothing",
        f"On {TOKENS['head']}, tuned {ROW_NORM} ends with the same excess loss, to "
        "0.1 %, whether or not the mean row is subtracted before and after scaling.",
        place="the gradient of a softmax has no mean row", kind="equivalence",
        estimate=HEAD.log_ratio(EXCESS, rule=("twice_centred", "row_norm")),
        above=-1e-3, below=1e-3,
        reason="The gradient's mean row is 0 already, and the loss does not depend on "
        "a shift of all rows. Rounding stays far below 0.1 %.",
        **after((DAY, "10 % became 0.1 % after the first run, which found 6e-8"))),
    Claim("centred_heads_do_not_drift",
        f"On {TOKENS['head']}, the mean row of the head ends shorter than 1 % of the "
        "rows' root mean square length, in every run of row-norm (rows scaled to "
        "length 1) that subtracts the mean row before and after scaling, or the rows' "
        "geometric median.",
        paper=papers.LAU, place="abstract: shared-shift symmetry", tests="shift",
        kind="identity", unit="of a row's root mean square length", below=1e-2,
        estimate=where(rule=("twice_centred", "centred_row_norm")).worst(DRIFT),
        reason="In theory the mean row stays 0; a median by 20 iterations has 1 %."),
    Claim("plain_heads_drift",
        f"On {TOKENS['head']}, the mean row of the head ends longer than 0.1 times "
        f"the rows' root mean square length under tuned {ROW_NORM} without centring.",
        place="rows of mean 0 divided by their lengths have another mean",
        origin="control", unit="of a row's root mean square length", above=0.1,
        estimate=TUNED.where(study="head", rule="row_norm").mean(DRIFT),
        reason="A tenth is ten times what is allowed to rules that subtract a mean."),
]  # fmt: skip
