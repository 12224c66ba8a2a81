"""Claims: what papers state, each as an estimate with an interval and a criterion.

The thresholds of the criterion and the reason for them are written in the experiment
file before the runs are made. The verdict is
  held       if the whole interval meets the criterion,
  failed     if the whole interval lies outside,
  undecided  if a threshold lies inside the interval: a new sweep of seeds would decide,
  error      if the estimate could not be made, or is not finite; never as expected.
Equality is claimed with both `above` and `below`: the interval must fit between them
(an equivalence test), as a large P value shows nothing.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from symlab.harness import faults, stats
from symlab.harness.stats import Interval

VERDICTS = ("held", "failed", "undecided", "error")
ORIGINS = ("paper", "ours", "control", "protocol", "oracle")
KINDS = ("effect", "equivalence", "identity", "precondition")
WRITTEN = ("before", "after")
BEARINGS = ("supports", "contradicts", "undecided", "not about a paper")
LOG_RATIO = "log ratio"  # the unit of the natural log of a ratio; texts show the ratio
RATIO = "times"
LARGEST_LOG = 700.0  # exp of more is no float64
SMALLER = " (the effect has the claimed sign, but is smaller than asked)"


class LackingRows(ValueError):
    """Raised by an estimate that needs rows which do not exist.

    This happens in a sweep at scale smoke, which has fewer settings than the one at
    scale quick.
    """


@dataclass(frozen=True)
class Smallest:
    """The smallest effect of interest of one quantity: its size, its unit and a reason.

    Claims about the quantity take their thresholds from it; a smaller effect would
    change no decision.
    """

    size: float
    unit: str
    reason: str

    @property
    def log(self) -> float:
        """The natural logarithm of the size, for a quantity that is a ratio."""
        return math.log(self.size)


@dataclass(frozen=True)
class Paper:
    """A publication; it prints as 'Ziyin 2024 (arXiv 2309.16932)'.

    `Paper("Ziyin 2024", arxiv="2309.16932")` is enough; authors, title and year are
    shown in the report and in archives.
    headlines: {key: sentence}, the main statements of the abstract and the
        introduction, in the paper's words; a `Claim` names the one that it tests by its
        key.
    smallest: {quantity: Smallest}, the smallest effect of interest for each quantity,
        from which all claims about the quantity take their thresholds.
    """

    short: str  # as in running text: "Ziyin 2024"
    authors: str = ""
    title: str = ""
    year: int = 0
    arxiv: str = ""
    headlines: Mapping[str, str] = field(default_factory=dict, hash=False)
    smallest: Mapping[str, Smallest] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        known = self.arxiv and self.arxiv not in self.short
        return f"{self.short} (arXiv {self.arxiv})" if known else self.short


@dataclass(frozen=True)
class Claim:
    """One statement about the rows of an experiment, which can be judged by computing.

    statement: a sentence that can be read alone, with its quantity and its conditions.
    place: where the paper states it ("figure 3 middle"), or, for a claim of our own,
        where its derivation or the known result is.
    estimate: a function from the rows of the sweep (a DataFrame) to an `Interval`;
        estimates made by `symlab.harness.where` print as a phrase.
    above, below: the ends of the open interval in which the estimate must lie.
    reason: why these thresholds.
    unit: of the estimate.
    expected, because: the verdict that is expected, if it is not "held", and why.

    paper: the paper that the claim is about, if any.
    origin: "paper" (the paper states it; the default if `paper` is given), "ours" (the
        default otherwise), "control" (a claim of our own: what must follow if the
        effect has the supposed cause, such as no effect without that cause), "protocol"
        (the comparison was made as intended) or "oracle" (agreement with a result that
        is known independently).
    kind: "effect" (a difference over seeds), "equivalence" (a difference is small),
        "identity" (true of every run, up to rounding) or "precondition" (without it
        other claims mean nothing).
    tests: the key in `paper.headlines` of the main statement that the claim tests, if
        any.

    written: whether the thresholds were written "before" or "after" a look at rows.
    history: pairs (date, what was changed and why), one for each change since then.
    """

    name: str
    statement: str
    place: str = ""
    estimate: Callable[[pd.DataFrame], Interval] | None = None
    reason: str = ""
    above: float = -math.inf
    below: float = math.inf
    expected: str = "held"
    because: str = ""
    paper: Paper | None = None
    origin: str = ""
    kind: str = "effect"
    unit: str = ""
    written: str = "before"
    history: tuple[tuple[str, str], ...] = ()
    tests: str = ""

    def __post_init__(self):
        def refuse(what: str):
            raise ValueError(f"claim {self.name!r} {what}")

        if not callable(self.estimate):
            refuse("needs `estimate`, a function of the rows")
        if not self.reason:
            refuse("needs `reason`: why this threshold and no other")
        if self.above == -math.inf and self.below == math.inf:
            refuse("needs `above` or `below`: a claim that cannot fail says nothing")
        if not self.above < self.below:
            refuse(f"asks for > {self.above:g} and < {self.below:g}: no number is both")
        if self.expected not in VERDICTS[:3]:
            refuse(f"expects {self.expected!r}: use one of {', '.join(VERDICTS[:3])}")
        if self.expected != "held" and not self.because:
            refuse("is not expected to hold: say why in `because`")
        for entry in self.history:
            if isinstance(entry, str) or len(entry) != 2:
                refuse("has a history that is not made of pairs (date, what and why)")
        if not self.origin:
            object.__setattr__(self, "origin", "paper" if self.paper else "ours")
        for name, allowed in (
            ("origin", ORIGINS), ("kind", KINDS), ("written", WRITTEN)
        ):  # fmt: skip
            if (given := getattr(self, name)) not in allowed:
                refuse(f"has {name}={given!r}: use one of {', '.join(allowed)}")
        if self.tests and self.tests not in (
            self.paper.headlines if self.paper else ()
        ):
            refuse(
                f"tests the headline {self.tests!r}, which its paper does not list in "
                "symlab/papers.py"
            )

    @property
    def source(self) -> str:
        """The paper and place of the claim as text.

        Examples are 'Ziyin 2024 (arXiv 2309.16932), figure 3' and 'ours; derivation'.
        """
        if self.paper:
            words = [str(self.paper), self.place]
            if self.origin != "paper":
                words.append(f"as {self.origin}" if self.origin != "ours" else "by us")
            return ", ".join(filter(None, words))
        return "; ".join(filter(None, [self.origin, self.place]))

    @property
    def quantity(self) -> str:
        """What the claim's estimate measures, in words; '' if the estimate has no
        description.
        """
        phrase = getattr(self.estimate, "phrase", "")
        text = phrase or (getattr(self.estimate, "__doc__", "") or "").strip()
        return " ".join(text.split("\n\n")[0].split()).removesuffix(".")

    @property
    def limits(self) -> str:
        """The thresholds as text: '> 0', '< 1e-06' or '> -0.05 and < 0.05'."""
        return _limits(self.above, self.below)

    @property
    def criterion(self) -> str:
        """The thresholds with the claim's unit as text: '> -0.05 and < 0.05 nats'."""
        return f"{self.limits} {self.unit}".rstrip()

    @property
    def asked(self) -> str:
        """The criterion as text for readers; that of a log ratio is given as a ratio.

        An example is '< 0.91 times'. `criterion` keeps the unit of the estimate, by
        which the rows of tables are matched.
        """
        ends = [x for x in (self.above, self.below) if math.isfinite(x)]
        if self.unit != LOG_RATIO or max(ends) > LARGEST_LOG:
            return self.criterion
        above = math.exp(self.above) if self.above in ends else -math.inf
        below = math.exp(self.below) if self.below in ends else math.inf
        return f"{_limits(above, below, digits=4)} {RATIO}"

    @property
    def registered(self) -> str:
        """When the thresholds were written, as text, such as 'before rows'.

        The text also says if they were changed later.
        """
        if self.written == "after":
            return "after rows" + ", see history" * bool(self.history)
        if not self.history:
            return "before rows"
        times = {1: "once", 2: "twice"}.get(n := len(self.history), f"{n} times")
        return f"before rows, changed {times}, see history"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one claim, from the rows of its experiment.

    verdict: 'held', 'failed', 'undecided' or 'error'.
    interval: the estimate, or None if there is none.
    note: why there is no estimate, or what would decide the claim; '' if nothing is to
        be said.
    holm: whether the verdict stands under Holm's correction for several tests within
        the claim's paper: "stands" or "flips to undecided", or "" if no correction was
        made (`symlab.harness.summary.corrected`).
    """

    experiment: str
    claim: Claim
    verdict: str
    interval: Interval | None
    note: str = ""
    holm: str = ""

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one that the claim expects, on complete rows."""
        return self.judged and self.verdict == self.claim.expected

    @property
    def judged(self) -> bool:
        """Whether all rows that the claim needs existed when it was judged."""
        return self.interval is not None or self.verdict != "undecided"

    @property
    def p(self) -> float:
        """The P value of the verdict; NaN if its interval models no sampling."""
        c = self.claim
        if not self.interval:
            return math.nan
        return stats.p_value(self.interval, c.above, c.below)

    @property
    def bearing(self) -> str:
        """What the verdict means for the paper that the claim is about: one of
        BEARINGS.
        """
        if self.claim.origin != "paper":
            return "not about a paper"
        return {"held": "supports", "failed": "contradicts"}.get(
            self.verdict, "undecided"
        )

    @property
    def too_small(self) -> bool:
        """Whether the claim failed although the effect has the claimed direction.

        The effect is then smaller than the claim's threshold.
        """
        c, i = self.claim, self.interval
        null = getattr(c.estimate, "null", None)
        if self.verdict != "failed" or i is None or null is None:
            return False
        if c.above >= null and c.below == math.inf:
            return i.low > null
        return c.below <= null and c.above == -math.inf and i.high < null

    @property
    def meaning(self) -> str:
        """What the verdict means for its paper, as text: 'contradicts Ziyin 2024', or
        'control'.

        The text also says if the effect has the claimed sign and is too small.
        """
        c = self.claim
        if c.origin != "paper":
            return c.origin
        paper = c.paper.short if c.paper else "the paper"
        if self.verdict == "error":
            return f"says nothing about {paper}"
        if not self.judged:
            return f"does not yet speak about {paper}"
        decided = self.bearing != "undecided"
        if not decided:
            return f"leaves {paper} undecided"
        return f"{self.bearing} {paper}" + SMALLER * self.too_small

    @property
    def measured(self) -> str:
        """The estimate with its interval as text, or why there is none.

        A log ratio is shown as the ratio.
        """
        i = self.interval
        if i is None:
            return self.note
        logs = self.claim.unit == LOG_RATIO
        if logs and max(i.value, i.low, i.high) <= LARGEST_LOG:
            i = i.map(math.exp)
        return str(i)

    def line(self) -> str:
        """The verdict as a line of text for the terminal, with a reason if it is not
        "held".
        """
        marks = {"held": "held", "failed": "FAILED", "error": "ERROR"}
        mark = f"{marks.get(self.verdict, 'undecided'):9}"
        c = self.claim
        text = (
            f"{mark}  {c.name}: {self.measured if self.interval else 'no estimate'}, "
            f"claimed {c.asked} ({self.meaning})"
        )
        if self.note:
            text += f"\n           {self.note}"
        if not self.as_expected:
            text += f"\n           expected {c.expected}. {c.statement} ({c.source})"
            text += f"\n           measured: {c.quantity}" if c.quantity else ""
        elif self.verdict != "held":
            text += f"\n           expected: {c.because}"
        return text

    def details(self) -> str:
        """Return the verdict and everything that its claim says as text for the
        terminal.
        """
        c = self.claim
        lines = {
            f"{self.experiment}.{c.name}": self.verdict,
            "statement": c.statement,
            "source": c.source,
            "quantity": c.quantity,
            "measured": self.measured,
            "claimed": c.asked,
            "meaning": self.meaning,
            "thresholds": f"written {c.registered}. {c.reason}",
            "expected": f"{c.expected}. {c.because}".rstrip(),
            "history": "; ".join(f"{day}: {what}" for day, what in c.history),
        }
        return "\n".join(f"{k}: {text}" for k, text in lines.items() if text)

    def record(self) -> dict:
        """Return the verdict and its claim as one flat dict.

        It becomes a row of a DataFrame, or part of the provenance of a figure.
        """
        i, c = self.interval, self.claim
        return {
            "experiment": self.experiment,
            "claim": c.name,
            "verdict": self.verdict,
            "bearing": self.bearing,
            "holm": self.holm,
            "expected": c.expected,
            "value": i.value if i else math.nan,
            "low": i.low if i else math.nan,
            "high": i.high if i else math.nan,
            "n": i.n if i else 0,
            "runs": (i.runs or i.n) if i else 0,
            "method": i.method if i else "",
            "beyond": i.beyond if i else math.nan,
            "p": self.p,
            "above": c.above,
            "below": c.below,
            "statement": c.statement,
            "quantity": c.quantity,
            "unit": c.unit,
            "source": c.source,
            "paper": c.paper.short if c.paper else "",
            "place": c.place,
            "tests": c.tests,
            "origin": c.origin,
            "kind": c.kind,
            "written": c.written,
            "registered": c.registered,
            "history": "; ".join(f"{day}: {what}" for day, what in c.history),
            "reason": c.reason,
            "because": c.because,
            "note": self.note,
        }


def after(*history: tuple[str, str]) -> dict:
    """Return the fields `written` and `history` of a claim that was changed after rows.

    That is a claim whose thresholds were written or changed after a look at rows.

    history: the entries, (date, what was changed and why) each.

    >>> Claim("it_falls", "...", **after(("2026-11-30", "written after the rows")))
    """
    return {"written": "after", "history": history}


def _limits(above: float, below: float, digits: int = 6) -> str:
    limits = [f"> {above:.{digits}g}"] if above > -math.inf else []
    limits += [f"< {below:.{digits}g}"] if below < math.inf else []
    return " and ".join(limits)


def judge(experiment: str, claim: Claim, df: pd.DataFrame) -> Verdict:
    """Return the verdict on one claim.

    experiment: the name of the experiment. df: its rows.

    If the claim's estimate raises an error, the verdict is 'error'.
    """
    if df.empty:
        return Verdict(experiment, claim, "undecided", None, "no rows yet")
    try:
        interval = claim.estimate(df)
        if not isinstance(interval, Interval):
            raise TypeError(f"it returned {type(interval).__name__}, not an Interval")
    except (Exception, SystemExit) as error:  # it must not hide the other claims
        note = f"the estimate could not be made ({faults.said(error)})"
        return Verdict(experiment, claim, "error", None, note)
    limits = interval.low, interval.high
    if not math.isfinite(interval.value) or any(map(math.isnan, limits)):
        return Verdict(
            experiment, claim, "error", interval, "the estimate is not finite"
        )
    if interval.low > claim.above and interval.high < claim.below:
        return Verdict(experiment, claim, "held", interval)
    if interval.high <= claim.above or interval.low >= claim.below:
        return Verdict(experiment, claim, "failed", interval)
    crossed = [x for x in (claim.above, claim.below) if math.isfinite(x)]
    crossed = [x for x in crossed if interval.low <= x <= interval.high]
    nearest = min(crossed, key=lambda x: abs(x - interval.value))
    note = stats.advice(interval, nearest)
    if interval.n < 2 and interval.of == "seeds" and df.seed.nunique() == 1:
        note = (
            f"all rows have seed = {df.seed.iloc[0]}: vary the field `seed` in sweep, "
            "as in grid(Config, ..., seed=range(8))"
        )
    return Verdict(experiment, claim, "undecided", interval, note)


def judge_all(experiment, df: pd.DataFrame) -> list[Verdict]:
    """Return the verdicts on all claims of an experiment, judged on its rows df."""
    return [judge(experiment.name, claim, df) for claim in experiment.claims]
