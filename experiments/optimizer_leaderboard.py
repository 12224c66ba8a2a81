"""Which records of a public benchmark of optimizers are decided by its own logs.

Reference: the modded-nanogpt optimization benchmark (Keller Jordan and contributors,
2026, github.com/KellerJordan/modded-nanogpt, records/track_3_optimization): a GPT of
124 million parameters with fixed data, batch size and architecture; a submission counts
the steps to a validation loss of 3.28 nats. A mean loss of n runs is accepted if it is
0.004/sqrt(n) below, for which the rule assumes a standard deviation of 0.0013. There
are 46 submissions, of which 20 were records, with the logs of 513 runs. Nothing is
trained here: the data are the benchmark's, the statistics ours (symlab.leaderboard).

Studies; rows are made from the logs at one commit, whose digest each row has:

  entry     one submission: published and logged mean, losses of its runs, slope of its
            curve at the end, early losses, steps to 3.28 by that mean and the slope
  pair      the gain of one submission over another: the difference of mean losses, with
            the difference in steps converted to loss by the mean slope of all curves,
            or by the cost of a shorter schedule
  shorter   that cost: one submission was run again with 200 steps fewer in its schedule
  halves    gains of records over predecessors in two random halves of all runs
  coverage  how often intervals of the difference of two halves of one submission's runs
            hold the true difference, which is 0

A seed names random halves, and there is no other randomness: more seeds are no new
data. The logs are read from SYMLAB_DATA, or downloaded with SYMLAB_DOWNLOAD=1.
Expected: a pooled standard deviation of 0.0011 nats, slopes of 0.0072 nats per 100
steps where a shorter plan costs 0.0048, and 10 of 19 records whose gain over the record
before is decided, whichever way steps are converted. Cost on one core: 10 s; 2 min at
scale paper.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from symlab.harness import Arm, Claim, after, family, figure, grid, panels, plot, rng
from symlab.harness.estimates import named, where
from symlab.leaderboard import board, estimates, intervals, judging
from symlab.leaderboard.entries import ENTRIES, GROUPS, KINSHIPS, SUCCESSIONS
from symlab.leaderboard.source import stored
from symlab.papers import JORDAN

LANES = 512
EXTERNAL = ("leaderboard/curves.parquet", "leaderboard/entries.csv")
EARLY = board.EARLY
MAY_BE_NAN = ("deviation", "slope", *(f"early_{step}" for step in EARLY))


@dataclass(frozen=True)
class Config:
    study: str = "entry"
    """The study: 'entry', 'pair', 'shorter', 'halves' or 'coverage'; see the module."""
    entry: int = 0
    """Number of the submission in the benchmark's table; 0 where all are used."""
    other: int = 0
    """Of a pair: the submission over which `entry` gains."""
    draws: int = 0
    """Of coverage: how often each submission's runs are halved."""
    seed: int = 0
    """Random halves of the runs; nothing else is random."""


def sweep(scale: str) -> list[Config]:
    seeds = range({"smoke": 2, "quick": 8, "paper": 32}[scale])
    pairs = sorted({*SUCCESSIONS, *KINSHIPS})
    draws = {"smoke": 10, "quick": 250, "paper": 1000}[scale]
    return [
        *grid(Config, entry=list(ENTRIES)),
        *(Config("pair", entry, other) for entry, other in pairs),
        Config("shorter", board.SHORTENED),
        *grid(Config, study="halves", seed=seeds),
        *grid(Config, study="coverage", draws=draws, seed=seeds),
    ]


def run(configs: list[Config]) -> list[dict]:
    """Return a row for each config.

    Columns:
        data: 16 hex digits, a hash of the logs and of the benchmark's table from which
            all rows are made
        steps: study entry alone: the submission's published number of steps
        planned: study entry alone: the number of steps for which its learning-rate
            schedule is planned, which may be longer
        published: study entry alone: the published mean of the final validation loss,
            in nats
        published_n: study entry alone: the number of runs of the published mean
        mean: study entry alone: the mean final validation loss of the runs with public
            logs, in nats
        n: study entry alone: the number of runs with public logs
        losses: (n,), study entry alone: the final validation loss of each run with a
            public log, in nats
        deviation: study entry alone: sample standard deviation of `losses`, in nats;
            NaN with one run
        slope: study entry alone: fall of the validation loss per 100 steps over the
            last 130 steps, in nats, a line fitted to the mean over runs; NaN with fewer
            than two evaluations there, and of no meaning where the last ones are made
            with averaged weights
        early_125: study entry alone: validation loss at step 125, in nats, mean over
            the runs with public logs; NaN if none was evaluated then
        early_500: study entry alone: as `early_125`, at step 500
        early_1000: study entry alone: as `early_125`, at step 1000
        early_2000: study entry alone: as `early_125`, at step 2000
        early_2500: study entry alone: as `early_125`, at step 2500
        reach: study entry alone: steps to a mean loss of 3.28 nats, extrapolated from
            `steps` at the mean slope over submissions; from `published` where the
            public logs are not its runs, else from `mean`
        gain: study pair alone: how much lower the mean loss of `entry` is than that of
            `other` at equal steps, in nats; steps are exchanged for loss at the mean
            slope of the curves
        gain_planned: study pair alone: as `gain`, with steps exchanged at the cost of a
            shorter plan
        uncertainty: study pair: standard error of `gain`, in nats; study shorter: that
            of `cost`
        uncertainty_planned: study pair alone: standard error of `gain_planned`, in nats
        p: study pair alone: two-sided P value of `gain` by Student's t test, without a
            correction for the number of pairs
        p_planned: study pair alone: as `p`, of `gain_planned`
        needed: study pair alone: runs of each submission with which a gain as large as
            `gain` is significant with probability 0.8, from 2 to 10,000, which also
            stands for more or never
        needed_planned: study pair alone: as `needed`, of `gain_planned`
        runs: study pair: number of runs of both submissions; study shorter: of both
            plans
        cost: study shorter alone: rise of the mean loss per 100 steps by which the
            schedule of submission 12 was shortened, in nats
        records: (14,), study halves alone: numbers of the records whose gain over the
            record before is computed, as both have at least four public runs
        gain_first: (14,), study halves alone: the gain of each of `records`, in nats,
            in one random half of the runs
        gain_second: (14,), study halves alone: as `gain_first`, in the other half
        p_first: (14,), study halves alone: two-sided P value of each entry of
            `gain_first`
        shares: (39,), study coverage alone: for each submission with at least four
            public runs, how often the 95 % interval of the difference of two random
            halves' means contains 0, as a fraction of `draws`
        covered: study coverage alone: the mean of `shares`, which should be 0.95
    """
    logs = stored()
    found, digest = board.board(logs), logs.digest
    studies = {
        "entry": lambda c: found.rows[c.entry],
        "pair": lambda c: board.pair(found, c.entry, c.other),
        "shorter": lambda c: found.shorter,
        "halves": lambda c: board.halves(found, rng.stream(c.seed, "halves")),
        "coverage": lambda c: board.coverage(
            found, rng.stream(c.seed, "coverage"), c.draws
        ),
    }
    return [studies[c.study](c) | {"data": digest} for c in configs]


# --- figure --------------------------------------------------------------------------

RATES = ("", "_planned")  # the price of a step: the curves' slope, a shorter plan
LOGS = Arm("complete logs", plot.BLUE)
OTHER = Arm("known to differ", plot.ORANGE, "X")
OPEN = Arm("not decided", plot.ORANGE, "s", hollow=True)
NAMED = {  # kind of change: {what a submission adds to the one it names: its number}
    "rule": {"NorMuon": 8, "fixed-norm NorMuon": 10, "SOAP in MLP": 14, "KL-SOAP": 19,
             "Circuit-Muon": 41},
    "averaging": {"EMA on Muon": 39, "EMA on SOAP": 40, "extrapolation": 34,
                  "tail average": 45},
    "tuning": {"Muon, 12 over 6": 12, "Muon, 36 over 12": 36},
}  # fmt: skip
TEN_THOUSANDTHS, THOUSANDTHS = 1e4, 1e3


def _thousandths(interval):
    """Return an interval that is in nats in units of 0.001 nats."""
    return interval.map(lambda x: THOUSANDTHS * x)


@figure("symopt6", "left", title="All but 4 means are as published")
def draw_means(df, ax):
    """Mean final loss in the public logs minus the published mean, by submission.
    Orange: incomplete logs, and a loss of averaged weights. Grey: agreement within
    0.0001 nats; why 6 and 8 differ is not said. Linear below the break, then log.
    """
    rows = estimates.ENTRY(df)
    complete = ~rows.entry.isin([k for k, e in ENTRIES.items() if e.differs])
    for arm, some in ((LOGS, rows[complete]), (OTHER, rows[~complete])):
        off = TEN_THOUSANDTHS * (some["mean"] - some.published)
        ax.plot(some.entry, off, arm.marker, color=arm.color, label=arm.label, ms=3)
        for row in some[off.abs() > 1].itertuples():
            panels.note(ax, row.entry - 1.5, off[row.Index], row.entry, data=True,
                        ha="right", va="center")  # fmt: skip
    ax.axhspan(-1, 1, color=panels.SHADE, lw=0, zorder=0)
    ax.set_yscale("symlog", linthresh=3)
    panels.ticks(ax, "y", (-1, 0, 1, 10))
    panels.gap(ax, "y", 3)
    ax.set(xlabel="submission", ylabel="logs $-$ published (0.0001 nats)")
    panels.legend(ax, "upper left")


@figure("symopt6", "mid", title="Pooled deviation is below assumed")
def draw_deviations(df, ax):
    """Standard deviation of the final loss over the runs of each submission, sorted,
    with intervals. Grey: pooled over submissions, with its interval. Dash-dot: the
    0.0013 nats that the benchmark's rule for accepting submissions assumes.
    """
    rows = estimates.LOGGED.where("n > 1")(df).sort_values("deviation")
    found = map(_thousandths, map(intervals.of_deviation, rows.deviation, rows.n))
    panels.points(ax, range(len(rows)), [*found], LOGS, label="", ms=2.5)
    assumed = THOUSANDTHS * judging.ASSUMED
    pooled = intervals.deviation(estimates.samples(df))
    panels.level(ax, pooled.map(lambda ratio: assumed * ratio), "pooled")
    panels.reference(ax, y=assumed, label="assumed", color=plot.ORANGE, ls="-.", lw=1)
    panels.ticks(ax, "y", (0.1, 0.3, 1, 3, 10), log=10)
    ax.set(xlabel="submissions, sorted by deviation", xticks=[], ylim=(0.04, 15))
    ax.set(ylabel="standard deviation (0.001 nats)")
    panels.legend(ax, "upper left")


@figure("symopt6", "right", title="Loss at 1000 ranks poorly")
def draw_early(df, ax):
    """Rank correlation, over n submissions, of the validation loss at an early step
    with the number of steps to 3.28 nats. Dashed: the claimed limit of 0.7.
    """
    found = [estimates.early(step)(df) for step in EARLY]
    panels.points(ax, EARLY, found, LOGS, label="all submissions")
    panels.reference(ax, y=0)
    panels.reference(ax, y=0.7, ls="--")
    look = {"data": True, "ha": "center", "va": "bottom"}
    panels.note(ax, 1500, 0.71, "claimed limit", **look)
    panels.note(ax, 2480, 0.03, f"n = {found[0].n}", **look | {"ha": "right"})
    ax.set(xlabel="step of the early loss")
    ax.set(ylabel="rank correlation", ylim=(-0.05, 1.04))
    panels.ticks(ax, "x", EARLY)


def _gain(df, new: int, old: int, rate: str):
    """Return the interval of the gain of one submission over another, in 0.001 nats."""
    return _thousandths(estimates.gain(new, old, rate)(df))


@figure("symopt6", "left", row=1, title="10 of 19 records are decided")
def draw_records(df, ax):
    """Mean loss of the record before (first: submission 1) minus a record's, at equal
    steps: differences in steps are converted to loss by the cost of a shorter plan. A
    gain is decided if it differs from 0 after Holm's correction (5 % level).
    """
    judged = estimates.judged(df, "_planned").set_index("entry")
    decided = [judged.decided[new] for new, _ in SUCCESSIONS]
    for arm, kept in ((replace(LOGS, label="decided"), True), (OPEN, False)):
        at = [i for i, known in enumerate(decided) if known == kept]
        found = [_gain(df, *SUCCESSIONS[i], "_planned") for i in at]
        panels.points(ax, at, found, arm)
    panels.reference(ax, y=0)
    named = {i: "\n" * (i % 2) + f"{new}" for i, (new, _) in enumerate(SUCCESSIONS)}
    panels.ticks(ax, "x", named)
    ax.tick_params(axis="x", labelsize=panels.SMALL, length=0)
    ax.set(xlabel="record (its submission)", ylabel="gain (0.001 nats)")
    panels.legend(ax, "upper right")


@figure("symopt6", "mid", row=1, title="What single changes gain")
def draw_changes(df, ax):
    """Mean loss of the submission that each one changes minus its own, at equal steps
    (differences converted to loss by the cost of a shorter plan), for eleven
    submissions that say to change one thing.
    """
    at, names = 0, {}
    for kind, changes in NAMED.items():
        parents = {n: ENTRIES[n].parent for n in changes.values()}
        found = [_gain(df, *pair, "_planned") for pair in parents.items()]
        places = np.arange(at, at + len(found))
        panels.points(ax, places, found, LOGS, across=True)
        names |= dict(zip(places, changes, strict=True))
        panels.note(ax, 0.99, at, kind, transform=ax.get_yaxis_transform(),
                    ha="right", va="center", style="italic")  # fmt: skip
        at += len(found)
        if at < sum(map(len, NAMED.values())):
            panels.reference(ax, y=at - 0.5, color=panels.FAINT)
    panels.reference(ax, x=0)
    panels.rows_of(ax, [*names.values()])
    ax.tick_params(axis="y", labelsize=panels.SMALL)
    ax.set(xlabel="gain (0.001 nats)", xlim=(-0.9, 17.5))


@figure("symopt6", "right", row=1, title="Steps by group of the rule")
def draw_frontier(df, ax):
    """Steps to a loss of 3.28 nats of each submission, by the group under which updates
    are equivariant (entries+polar: second moments, then a polar factor; row aware:
    rotations on one side, permutations on the other; eigenbasis: Adam in one). Filled,
    with its number: the fewest of a group. Steps beyond the axis are written out.
    Later submissions add other changes to those of earlier ones, so groups differ by
    more than the rule.
    """
    rows = estimates.ENTRY(df)
    groups = rows.entry.map(lambda k: ENTRIES[k].group)
    low, high = 2450, 6100
    look = {"data": True, "ha": "right", "va": "center"}
    for y, group in enumerate(GROUPS):
        own = rows[groups == group].sort_values("reach")
        inside = own[own.reach < high]
        ax.plot(inside.reach, [y] * len(inside), "o", color=LOGS.color, mfc="white",
                mew=0.6, ms=3.2)  # fmt: skip
        best = own.iloc[0]
        ax.plot(best.reach, y, "o", color=LOGS.color, ms=3.6)
        panels.note(ax, best.reach / 1.02, y, f"{best.entry}", **look)
        panels.reference(ax, y=y, color=panels.SHADE)
        beyond = " ".join(f"{steps:.0f}" for steps in own.reach[own.reach >= high])
        panels.note(ax, high, y, beyond and f"{beyond} →", **look)
    panels.ticks(ax, "x", (2700, 3300, 4000, 5000, 6000), log=10)
    panels.rows_of(ax, GROUPS)
    ax.tick_params(axis="y", labelsize=panels.SMALL)
    ax.set(xlabel="steps to 3.28 nats", xlim=(low, high))


# --- table ---------------------------------------------------------------------------


def table(df) -> pd.DataFrame:
    """Return the gain of each record over the record before it, for a page in docs."""
    rows = estimates.judged(df, "_planned")

    def gains(row) -> dict:
        slope, plan = (_gain(df, row.entry, row.other, rate) for rate in RATES)
        needed = f"{row.needed:.0f}" if row.needed < judging.MOST else "none would do"
        return {
            "record": f"{row.entry} over {row.other}",
            "gain at the curves' slope": f"{slope:.1f}",
            "gain at a shorter plan's cost": f"{plan:.1f}",
            "P, Holm": f"{row.holm:.1g}",
            "decided": "yes" if row.decided else "no",
            "runs of each that would decide": "" if row.decided else needed,
        }

    return pd.DataFrame(map(gains, rows.itertuples()))


# --- claims --------------------------------------------------------------------------

DAY = "2026-11-30"


def before(read: str) -> dict:
    """Return written='after' and the history of a claim that was written after a look
    at the benchmark's published numbers, but before the experiment had any row.

    read: what else had been read, a text that begins with a comma; '' if only steps,
        means, numbers of runs and P values.
    """
    known = "published steps, means, numbers of runs and P values"
    return after((DAY, f"written after reading the {known}{read}, and before any row"))


KNOWN = before("")
GLIMPSED = before(", and READMEs of four submissions with two standard deviations and "
                  "three slopes")  # fmt: skip
EARLIER = before(", and some early losses of five logs")
LATE = after((DAY, "written after the rows, which showed that the end of a curve is "
              "steeper than a shorter plan costs"))  # fmt: skip
ADAMH, MUON, BEST = 4, 36, 46
DEVIATION, SLOPE, SPEEDUP = JORDAN.smallest.values()
ANY = "A better rule gains by any amount, as costs of computation are not counted."
IN = "In the modded-nanogpt benchmark of optimizers (GPT of 124M parameters),"
FOR_STEPS = "with step differences converted to loss by the final slope"
PRICED = "with differences in steps converted to loss by"
PRICES = {"": "the curves' final slope", "_planned": "the cost of a shorter schedule"}
PAIRWISE = "README, pairwise significance"
jordan = partial(Claim, paper=JORDAN, place="README, rules")
ours = partial(Claim, place=PAIRWISE, **KNOWN)
gains = partial(ours, above=0.0, unit="nats", reason=ANY)
exchange = partial(jordan, kind="equivalence", unit="nats per 100 steps",
                   above=0.0045 - SLOPE.size, below=0.0045 + SLOPE.size,
                   reason=SLOPE.reason)  # fmt: skip
records = partial(family, rate=PRICES, place=PAIRWISE, kind="identity",
                  but={("",): KNOWN, ("_planned",): LATE})  # fmt: skip
CLAIMS = [
    ours("published_means_are_those_of_the_logs", f"{IN} the published mean loss of "
        "each submission, but for one with incomplete logs and one with averaged "
        "weights, agrees to 0.0001 nats with the mean of the final losses in its "
        "public logs.",
        estimate=estimates.LOGGED.worst(named("abs(mean - published)", "difference of "
        "published and logged mean")), origin="protocol", kind="identity",
        unit="nats", below=0.0001, reason="Published means have four decimals, so "
        "that rounding changes them by less.",
        expected="failed", because="The logs of submissions 6 and 8 average 0.00013 "
        "and 0.00018 nats more than was published, with all of their runs there."),
    jordan("deviation_is_as_assumed", f"{IN} the standard deviation of the final loss "
        "between runs of one submission, pooled over submissions, is below the 0.0013 "
        "nats that the benchmark's rule for accepting submissions assumes.",
        estimate=estimates.of_samples(intervals.deviation, "pooled standard deviation "
        "of final losses within submissions over 0.0013"), tests="rule",
        unit="times 0.0013 nats", below=1.0, reason="With a larger standard deviation "
        "the rule accepts by chance more often than it says.", **GLIMPSED),
    Claim("deviations_differ_little", f"{IN} the standard deviation of the final "
        "loss between runs varies between submissions by a factor below 1.25 (one "
        "standard deviation of its logarithm).", estimate=estimates.of_samples(
        intervals.spread, "standard deviation over submissions of the log of the "
        "standard deviation of final losses"), place="rule of the benchmark",
        kind="equivalence", unit="log ratio", below=DEVIATION.log,
        reason=DEVIATION.reason, **GLIMPSED, expected="undecided",
        because="The interval from 40 submissions ends at a factor of 1.25."),
    jordan("rule_errs_as_it_says", f"{IN} the rule (accept if n runs have a mean loss "
        "below 3.28 - 0.004/sqrt(n) nats) accepts a true mean of 3.28 nats with "
        "probability below 0.001, if n is fixed in advance and standard deviations "
        "vary between submissions as measured.",
        estimate=estimates.of_samples(intervals.rule_error, "chance that the rule "
        "accepts a mean loss of 3.28"), tests="rule", unit="probability", **GLIMPSED,
        below=0.001, reason="The benchmark gives 0.001 as the P value of its rule."),
    exchange("slope_is_that_of_one_pair", f"{IN} the validation loss falls by 0.0045 "
        "nats per 100 steps, to within 0.001 nats, at the end of the training curves, "
        "in the mean over submissions.",
        estimate=estimates.slope(), origin="ours", expected="failed", because="A run "
        "that is stopped early pays more than one whose schedule is shortened, which "
        "is what the benchmark measured.", written="after",
        history=(*GLIMPSED["history"], (DAY, "origin changed from paper to ours after "
        "the rows"))),
    exchange("shorter_plans_cost_as_stated", f"{IN} Muon (submission 12) ends with a "
        "loss that is 0.0045 nats higher for each 100 steps by which its schedule is "
        "shortened, to within 0.001 nats, in the runs from which the benchmark took "
        "this number.", estimate=estimates.shorter_plan(), place=PAIRWISE,
        tests="exchange", **LATE),
    gains("every_record_gains", f"{IN} each of the 19 records after the first has a "
        f"lower mean loss than the record before it, {FOR_STEPS}.",
        estimate=estimates.least_gain(SUCCESSIONS), expected="undecided",
        because="The README says of four of them that their logs do not decide."),
    *records("a_third_of_records_is_open{rate}", f"{IN} at most two thirds of the 19 "
        "records after the first have a significantly lower loss than the record "
        f"before (5 % level, Holm's correction), {PRICED} {{rate}}.",
        estimates.share_decided, unit="of records", below=2 / 3,
        reason="If a third of the comparisons is open, the order of neighbouring "
        "records is no result by itself."),
    *records("open_records_need_many_runs{rate}", f"{IN} the records that are not "
        "significantly better than the one before need more than 20 runs of both, in "
        f"the median, to show their gain with 80 % power, {PRICED} {{rate}}.",
        estimates.median_needed, unit="runs", above=20.0,
        reason="43 of the 46 submissions have at most 20 runs."),
    Claim("decided_records_repeat", f"{IN} of the records that are significantly "
        "better than the record before in one random half of all runs (5 % level, "
        "Holm's correction), more than 80 % also have a lower loss in the other half, "
        "in every random halving.",
        estimate=where(study="halves").least(estimates.repeated),
        place="split halves", kind="identity", unit="of records", above=0.8,
        reason="If two in ten significant gains were reversed in the other half, "
        "significance would not mean what it says."),
    Claim("intervals_cover", f"{IN} 95 % intervals from the pooled standard deviation "
        "contain the true difference, 0, of the means of two random halves of one "
        "submission's runs in 93 to 97 % of halvings, in the mean over submissions.",
        estimate=estimates.covered(), origin="oracle", unit="of intervals",
        place="resampling within submissions", kind="equivalence", above=0.93,
        below=0.97, reason="Two percentage points are the tolerance that "
        "docs/statistics.md allows for intervals of means.", expected="undecided",
        because="The interval over 39 submissions is wider than the limits.",
        history=(("2026-11-30", "after the rows, the unit of the interval changed from "
        "random halvings of the same runs to submissions; limits stayed"),)),
    gains("row_statistics_gain", f"{IN} normalising rows of the polar factor in Muon "
        "(NorMuon) lowers the loss of both submissions that it modifies, a plain one "
        f"and one with weights of fixed norm, {FOR_STEPS}.",
        estimate=estimates.least_gain([(8, 5), (10, 12)])),
    gains("eigenbasis_gains", f"{IN} Adam in the eigenbasis of gradient covariances "
        "lowers the loss of both submissions that it modifies (as SOAP on MLP weights, "
        f"and as KL-SOAP at fixed weight norms), {FOR_STEPS}.",
        estimate=estimates.least_gain([(14, 11), (19, 8)])),
    gains("averaging_gains", f"{IN} averaging or extrapolating weights (RRE, "
        "an extrapolation; EMA-Nesterov on Muon and on SOAP; a mean of last steps) "
        f"lowers the loss of each of four submissions, {FOR_STEPS}.",
        estimate=estimates.least_gain([(34, 30), (39, 12), (40, 30), (45, 44)]),
        expected="undecided", because="The README gives a P value of 0.168 for RRE."),
    gains("gauge_coupling_gains", f"{IN} coupling the updates of value and output "
        "weights along their scaling symmetry (Circuit-Muon) lowers a submission's "
        f"loss, {FOR_STEPS}.", estimate=estimates.least_gain([(41, 40)]),
        expected="undecided", because="It saves 15 steps at a mean that is 0.0002 "
        "nats higher, which is below the noise of 16 and 20 runs."),
    ours("coordinatewise_is_behind", f"{IN} AdamH, the fastest submission that updates "
        "entries one by one (undertuned, we think), needs more than 1.2 times as many "
        "steps to a loss of 3.28 nats as the tuned Muon.",
        estimate=estimates.steps_ratio(ADAMH, MUON), unit="ratio of steps",
        above=SPEEDUP.size,
        reason="It is the speedup over Muon that the benchmark states for its record."),
    jordan("record_is_a_fifth_faster", f"{IN} the tuned Muon needs more than 1.2 times "
        "as many steps to a loss of 3.28 nats as the fastest submission, the record.",
        estimate=estimates.steps_ratio(MUON, BEST), tests="speedup",
        unit="ratio of steps", above=SPEEDUP.size, reason=SPEEDUP.reason, **KNOWN),
    *family("step_{step}_does_not_rank", f"{IN} the loss at step {{step}} has, over "
        "submissions, a rank correlation below 0.7 with the number of steps to 3.28 "
        "nats.", estimates.early, step=(125, 500, 1000), place="README, guidelines",
        unit="rank correlation", below=0.7, reason="A correlation of 0.7, half of the "
        "variance, is what is commonly called strong.", **EARLIER, but={(1000,):
        {"paper": JORDAN, "tests": "early"}, (125,): {"expected": "undecided",
        "because": "The correlation is 0.68, and 45 submissions give it to 0.2."}}),
]  # fmt: skip
