"""Which records of a public benchmark of optimizers are decided by its own logs.

Reference: the modded-nanogpt optimization benchmark (Keller Jordan and contributors,
2026, github.com/KellerJordan/modded-nanogpt, records/track_3_optimization): a GPT of
124 million parameters with fixed data, batch size and architecture; a submission counts
the steps to a validation loss of 3.28 nats. A mean loss of n runs is accepted if it is
0.004/sqrt(n) below, for which the rule assumes a standard deviation of 0.0013. There
are 46 submissions, of which 20 were records, and the logs of 585 runs. Nothing is
trained here: the data are the benchmark's, the statistics ours (symlab.leaderboard).

Studies; rows are made from the logs at one commit, whose digest each row has:

  entry     one submission: published and logged mean, losses of its runs, slope of its
            curve at the end, early losses, steps to 3.28 by that mean and the slope
  pair      the gain of one submission over another: mean losses at equal steps, the
            difference in steps exchanged at the mean slope of all curves
  halves    gains of records over predecessors in two random halves of all runs
  coverage  how often intervals of the difference of two halves of one submission's runs
            hold the true difference, which is 0

A seed names random halves, and there is no other randomness: more seeds are no new
data. The logs are read from SYMLAB_DATA or downloaded with SYMLAB_DOWNLOAD=1, which the
sentence of an unfinished plan says. Expected: see the claims. Cost on one core: 10 s.
"""

from dataclasses import dataclass
from functools import partial

from symlab.harness import Claim, grid, rng, where
from symlab.harness.estimates import family, named
from symlab.leaderboard import board, estimates, intervals, judging
from symlab.leaderboard.entries import ENTRIES, KINSHIPS, SUCCESSIONS
from symlab.leaderboard.source import stored
from symlab.papers import JORDAN

LANES = 512
INPUTS = ("leaderboard/curves.parquet", "leaderboard/entries.csv")
EARLY = board.EARLY
MAY_BE_NAN = ("deviation", "slope", *(f"early_{step}" for step in EARLY))


@dataclass(frozen=True)
class Config:
    study: str = "entry"
    """'entry', 'pair', 'halves' or 'coverage'."""
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
        *grid(Config, study="halves", seed=seeds),
        *grid(Config, study="coverage", draws=draws, seed=seeds),
    ]


def run(configs: list[Config]) -> list[dict]:
    logs = stored()
    found, digest = board.board(logs), logs.digest
    studies = {
        "entry": lambda c: found.rows[c.entry],
        "pair": lambda c: judging.gain(
            found.result(c.entry), found.result(c.other), found.noise
        ),
        "halves": lambda c: board.halves(found, rng.stream(c.seed, "halves")),
        "coverage": lambda c: board.coverage(
            found, rng.stream(c.seed, "coverage"), c.draws
        ),
    }
    return [studies[c.study](c) | {"data": digest} for c in configs]


# --- claims --------------------------------------------------------------------------

READ = "written after reading the published steps, means, numbers of runs and P values"
KNOWN = {
    "written": "after",
    "history": (("2026-11-30", f"{READ}, and before any row"),),
}
GLIMPSED = {
    "written": "after",
    "history": (
        (
            "2026-11-30",
            f"{READ}, and READMEs of four submissions with two standard deviations and "
            "three slopes, and before any row",
        ),
    ),
}
PAIRS = {
    "row_statistics": ((8, 5), (10, 12)),
    "eigenbasis": ((14, 11), (19, 8)),
    "averaging": ((34, 30), (39, 12), (40, 30), (45, 44)),
    "coupling": ((41, 40),),
}
ADAMH, MUON, BEST = 4, 36, 46
SMALL = JORDAN.smallest
ANY = "A rule that is better gains by any amount, as costs are not counted."
jordan = partial(Claim, paper=JORDAN, place="README, rules")
ours = partial(Claim, place="README, pairwise significance", **KNOWN)
gains = partial(ours, above=0.0, unit="nats", reason=ANY)
CLAIMS = [
    ours(
        "published_means_are_those_of_the_logs",
        "The published mean loss of each submission to the 124M benchmark is that of "
        "its public logs to 0.0001 nats, for all but the two whose logs are incomplete "
        "or of other weights.",
        estimate=estimates.LOGGED.worst(
            named("abs(mean - published)", "difference of published and logged mean")
        ),
        origin="protocol",
        kind="identity",
        unit="nats",
        below=1e-4,
        reason="Published means have four decimals.",
    ),
    jordan(
        "deviation_is_as_assumed",
        "The standard deviation of the final loss of runs of one submission, pooled "
        "over the submissions to the 124M benchmark, is below the 0.0013 nats that its "
        "rule assumes.",
        estimate=estimates.of_samples(
            intervals.deviation,
            "pooled standard deviation of final losses within submissions over 0.0013",
        ),
        tests="rule",
        unit="times 0.0013 nats",
        below=1.0,
        reason="With a larger one the rule errs more often than it says.",
        **GLIMPSED,
    ),
    Claim(
        "deviations_differ_little",
        "The standard deviations of final losses differ between submissions to the "
        "124M benchmark by less than a factor of 1.25, as one standard deviation of "
        "their logarithms.",
        estimate=estimates.of_samples(
            intervals.spread,
            "standard deviation over submissions of the log of the standard deviation "
            "of final losses",
        ),
        place="rule of the benchmark",
        kind="equivalence",
        unit="log",
        below=SMALL["deviation"].log,
        reason=SMALL["deviation"].reason,
        **GLIMPSED,
    ),
    jordan(
        "rule_errs_as_it_says",
        "The 124M benchmark's rule accepts a submission whose mean loss is 3.28 itself "
        "with a probability below 0.001, if standard deviations vary between "
        "submissions as they do.",
        estimate=estimates.of_samples(
            intervals.rule_error, "chance that the rule accepts a mean loss of 3.28"
        ),
        tests="rule",
        unit="probability",
        below=0.001,
        reason="It is the P value of the rule.",
        **GLIMPSED,
    ),
    jordan(
        "slope_is_that_of_one_pair",
        "Over submissions to the 124M benchmark the loss falls by 0.0045 nats per 100 "
        "steps before the end of the curves, within 0.001.",
        estimate=estimates.slope(),
        tests="exchange",
        kind="equivalence",
        unit="nats per 100 steps",
        above=0.0045 - SMALL["slope"].size,
        below=0.0045 + SMALL["slope"].size,
        reason=SMALL["slope"].reason,
        **GLIMPSED,
    ),
    gains(
        "every_record_gains",
        "Each of the 19 later records of the 124M benchmark has a lower loss than the "
        "record before it at equal steps.",
        estimate=estimates.least_gain(SUCCESSIONS),
        expected="undecided",
        because="The README says of four of them that their logs do not decide.",
    ),
    ours(
        "a_third_of_records_is_open",
        "At most two thirds of the 19 later records of the 124M benchmark are decided, "
        "in steps and loss together, against the record before, at 5 % after Holm's "
        "correction.",
        estimate=estimates.share_decided(),
        kind="identity",
        unit="of records",
        below=2 / 3,
        reason="If a third is open, the order of neighbours is no result by itself.",
    ),
    ours(
        "open_records_need_many_runs",
        "The 124M benchmark's records that are not decided against the record before "
        "would need more than 20 runs of each, in the median, for a power of 80 % at "
        "the measured gain.",
        estimate=estimates.median_needed(),
        kind="identity",
        unit="runs",
        above=20.0,
        reason="Of the 46 submissions 43 have at most 20 runs.",
    ),
    Claim(
        "decided_records_repeat",
        "Of the 124M benchmark's records that one half of all runs decides, at 5 % "
        "after Holm's correction, more than 80 % also gain in the other half, in each "
        "of the random halvings.",
        estimate=where(study="halves").least(estimates.repeated),
        place="split halves",
        kind="identity",
        unit="of records",
        above=0.8,
        reason="If two in ten were reversed, decisions would not mean what they say.",
    ),
    Claim(
        "intervals_cover",
        "Intervals of 95 % by the pooled standard deviation hold the true difference, "
        "0, of two random halves of one submission's runs in 93 to 97 % of cases, in "
        "the mean over submissions to the 124M benchmark.",
        estimate=where(study="coverage").mean("covered"),
        origin="oracle",
        place="resampling within submissions",
        kind="equivalence",
        unit="of intervals",
        above=0.93,
        below=0.97,
        reason="Two points are what docs/statistics.md allows intervals of means.",
    ),
    gains(
        "row_statistics_gain",
        "Row statistics on top of the polar factor lower the loss at equal steps at "
        "124M in both pairs that change nothing else in words: NorMuon for Muon, as it "
        "is and on the hyperball.",
        estimate=estimates.least_gain(PAIRS["row_statistics"]),
    ),
    gains(
        "eigenbasis_gains",
        "Adam in the eigenbasis of gradient covariances lowers the loss at equal steps "
        "at 124M in both pairs that change nothing else in words: SOAP on the MLP's "
        "weights, and KL-SOAP for NorMuon on the hyperball.",
        estimate=estimates.least_gain(PAIRS["eigenbasis"]),
    ),
    gains(
        "averaging_gains",
        "Averaged or extrapolated weights lower the loss at equal steps in each of "
        "four pairs at 124M: RRE, EMA-Nesterov on Muon and on SOAP, and an average of "
        "the tail.",
        estimate=estimates.least_gain(PAIRS["averaging"]),
        expected="undecided",
        because="The README gives a P value of 0.168 for RRE.",
    ),
    gains(
        "gauge_coupling_gains",
        "Coupling the updates of value and output weights along their scaling symmetry "
        "(Circuit-Muon) lowers the loss at equal steps at 124M.",
        estimate=estimates.least_gain(PAIRS["coupling"]),
        expected="undecided",
        because="It saves 15 steps at a mean that is 0.0002 nats higher, which is "
        "below the noise of 16 and 20 runs.",
    ),
    ours(
        "coordinatewise_is_behind",
        "The fastest coordinate-wise submission to the 124M benchmark, AdamH, which is "
        "likely undertuned, needs more than 1.2 times the steps of the tuned Muon.",
        estimate=estimates.steps_ratio(ADAMH, MUON),
        unit="ratio of steps",
        above=SMALL["speedup"].size,
        reason="It is the ratio that the benchmark states of its record.",
    ),
    jordan(
        "record_is_a_fifth_faster",
        "The record of the 124M benchmark needs less than 1/1.2 of the steps to 3.28 "
        "nats of the tuned Muon.",
        estimate=estimates.steps_ratio(MUON, BEST),
        tests="speedup",
        unit="ratio of steps",
        above=SMALL["speedup"].size,
        reason=SMALL["speedup"].reason,
        **KNOWN,
    ),
    *family(
        "step_{step}_does_not_rank",
        "Over submissions to the 124M benchmark the loss at step {step} has a rank "
        "correlation below 0.7 with the steps to 3.28 nats.",
        estimates.early,
        step=(125, 500, 1000),
        place="README, guidelines",
        unit="rank correlation",
        below=0.7,
        reason="0.7, half of the variance, is what is commonly called strong.",
        but={(1000,): {"paper": JORDAN, "tests": "early"}},
    ),
]
