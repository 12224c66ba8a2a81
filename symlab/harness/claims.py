"""A claim: what the paper states, as an estimate with an interval and a criterion.

The threshold and its reason stand in the experiment file before the run. The verdict is
  held       the whole interval lies where the claim says,
  failed     the whole interval lies outside,
  undecided  the interval straddles the threshold: about n more seeds would decide.
Equality is claimed with both `above` and `below`: the interval must fit between them
(an equivalence test), a large p-value shows nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from symlab.harness import stats
from symlab.harness.stats import Interval

VERDICTS = ("held", "failed", "undecided")


@dataclass(frozen=True)
class Claim:
    """One executable statement about the rows of an experiment.

    `estimate(df)` gets the current rows of the sweep and returns an `Interval`.
    `source` is the place in the paper, or "ours" with the derivation's place.
    """

    name: str
    statement: str
    source: str
    estimate: Callable[[pd.DataFrame], Interval]
    reason: str  # why this threshold
    above: float = -math.inf
    below: float = math.inf
    expected: str = "held"
    because: str = ""  # why another verdict is expected

    def __post_init__(self):
        if self.above == -math.inf and self.below == math.inf:
            raise ValueError(
                f"claim {self.name!r} needs `above` or `below`: a claim "
                "that cannot fail says nothing"
            )
        if self.expected not in VERDICTS:
            raise ValueError(f"claim {self.name!r}: expected must be a verdict")
        if self.expected != "held" and not self.because:
            raise ValueError(
                f"claim {self.name!r} is not expected to hold: say why in `because`"
            )

    @property
    def criterion(self) -> str:
        """'> 0', '< 1e-06' or '> -0.05 and < 0.05'."""
        limits = [f"> {self.above:g}"] if self.above > -math.inf else []
        limits += [f"< {self.below:g}"] if self.below < math.inf else []
        return " and ".join(limits)


@dataclass(frozen=True)
class Verdict:
    """What came of a claim."""

    experiment: str
    claim: Claim
    verdict: str
    interval: Interval | None
    note: str = ""

    @property
    def as_expected(self) -> bool:
        return self.verdict == self.claim.expected

    def line(self) -> str:
        mark = {"held": "held     ", "failed": "FAILED   "}.get(
            self.verdict, "undecided"
        )
        c = self.claim
        text = (
            f"{mark}  {c.name}: {self.interval or 'no estimate'}, claimed {c.criterion}"
        )
        if self.note:
            text += f"\n           {self.note}"
        if not self.as_expected:
            text += f"\n           expected {c.expected}. {c.statement} ({c.source})"
        elif self.verdict != "held":
            text += f"\n           as expected: {c.because}"
        return text

    def record(self) -> dict:
        """One flat row for a DataFrame or for the provenance of a figure."""
        i, c = self.interval, self.claim
        return {
            "experiment": self.experiment,
            "claim": c.name,
            "verdict": self.verdict,
            "expected": c.expected,
            "value": i.value if i else math.nan,
            "low": i.low if i else math.nan,
            "high": i.high if i else math.nan,
            "n": i.n if i else 0,
            "above": c.above,
            "below": c.below,
            "statement": c.statement,
            "source": c.source,
            "reason": c.reason,
            "note": self.note,
        }


def judge(experiment: str, claim: Claim, df: pd.DataFrame) -> Verdict:
    """The verdict of one claim; an estimator that raises leaves it undecided."""
    if df.empty:
        return Verdict(experiment, claim, "undecided", None, "no rows yet")
    try:
        interval = claim.estimate(df)
    except Exception as error:  # one bad estimator must not hide the other claims
        what = f"{type(error).__name__}: {error}".split("\n")[0]
        note = f"the estimate could not be made ({what})"
        return Verdict(experiment, claim, "undecided", None, note)
    if not math.isfinite(interval.value):
        return Verdict(
            experiment, claim, "undecided", interval, "the estimate is not finite"
        )
    if interval.low > claim.above and interval.high < claim.below:
        return Verdict(experiment, claim, "held", interval)
    if interval.high <= claim.above or interval.low >= claim.below:
        return Verdict(experiment, claim, "failed", interval)
    crossed = claim.above if interval.low <= claim.above else claim.below
    more = stats.more_runs(interval, crossed)
    without = "more seeds are needed" if interval.n < 2 else "seeds will not decide"
    note = f"about {more} more seeds would decide" if more else without
    return Verdict(experiment, claim, "undecided", interval, note)


def judge_all(experiment, df: pd.DataFrame) -> list[Verdict]:
    """Verdicts of all claims of an experiment."""
    return [judge(experiment.name, claim, df) for claim in experiment.claims]
