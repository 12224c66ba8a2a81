"""A placebo audit: does a claim also hold if the labels of its arms are shuffled?

An arm is a method or setting that a claim compares. The labels of the arms are permuted
within each seed, and the claim is judged again. If a claim of an effect holds for
shuffled arms as often as for the true ones, it is no evidence that the arms differ: its
margin is too wide, or its threshold holds for all of them. An equivalence, an identity
or a precondition says that arms do not differ, or speaks of every run: such a claim may
hold on shuffled arms.

What is shuffled depends on the claim's estimate:
  an estimate that compares arms (`paired`, `ratio`, `log_ratio`, and `weakest` of them)
      its arms, within each seed, by its own `Estimate.placebo`;
  one that selects rows by fields, or names its `arms`
      these fields, one at a time, among the rows of a seed that agree in the others
      (in all fields of the sweep, if the estimate cannot be made otherwise);
  any other
      each field of the sweep, one at a time, among the rows of a seed that agree in
      all others (or among all rows of a seed, if no two agree).
If several fields are shuffled one at a time, the table shows the one under which the
claim holds least often. If an estimate does not name its arms, and the claim holds
under every shuffle, the result is "unknown": perhaps no shuffle changed what it
compares.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from symlab.harness import findings, plan, store
from symlab.harness.claims import Claim, judge
from symlab.harness.stats import Interval

DRAWS = 200  # permutations of arms that are compared
FEWER = 40  # of a field among whole rows, where each draw judges on a whole frame
SCREEN = 8  # of each such field, to find the one that matters most
CHANCE = 0.05  # a test of level 95 % holds on shuffled arms at most as often

NONE = "no evidence that the arms differ"
FEW = "too few seeds to tell"
DIFFER = "the arms differ"


@dataclass(frozen=True)
class Placebo:
    """How often a claim still holds when the labels of what it compares are shuffled.

    shuffled: the fields whose values were permuted within each seed; "" if there are
        none.
    draws: the number of shuffled data sets that were judged.
    survives: the fraction of these on which the claim holds.
    least: the probability that a permutation changes nothing, which is the lowest
        possible mean of `survives` for a claim that holds on the true rows.
    note: why there is no result, or ''.
    """

    shuffled: str = ""
    draws: int = 0
    survives: float = float("nan")
    least: float = 0.0
    note: str = ""


def audit(plans: Iterable[plan.Plan]) -> pd.DataFrame:
    """Return a frame that says for each claim whether it also holds on shuffled arms.

    plans: one plan per experiment.

    The columns are experiment, claim, paper, origin, kind and verdict of the claim;
    shuffled, draws, survives and least of its `Placebo`; and finding, the result in
    words. Claims of incomplete sweeps are not shuffled.
    """
    rows = []
    for p in plans:
        done, wanted = findings.progress(p)
        df = p.rows()
        for claim in p.experiment.claims:
            if done < wanted:
                placebo, verdict = Placebo(note="rows are missing"), "undecided"
            else:
                judged = judge(p.experiment.name, claim, df)
                placebo, verdict = shuffle(claim, df, swept(p, df)), judged.verdict
            rows.append(
                {
                    "experiment": p.experiment.name,
                    "claim": claim.name,
                    "paper": claim.paper.short if claim.paper else "",
                    "origin": claim.origin,
                    "kind": claim.kind,
                    "verdict": verdict,
                    "shuffled": placebo.shuffled,
                    "draws": placebo.draws,
                    "survives": placebo.survives,
                    "least": placebo.least,
                    "finding": finding(claim, verdict, placebo),
                }
            )
    return pd.DataFrame(rows)


def swept(p: plan.Plan, df: pd.DataFrame) -> list[str]:
    """Return the names of the config fields, except the seed, that vary in a sweep.

    p: the plan of the sweep. df: its rows.

    Text columns that `run` adds count as fields, because they are labels, such as the
    name of a method.
    """
    names = [f.name for f in fields(p.experiment.module.Config) if f.name != "seed"]
    others = [c for c in df if c not in (*names, "seed", *store.META)]
    names += [c for c in others if isinstance(df[c].iloc[0], str)] if len(df) else []
    return [n for n in names if df[n].nunique(dropna=False) > 1]


def finding(claim: Claim, verdict: str, placebo: Placebo) -> str:
    """Return in words what shuffling the labels of its arms says about a claim.

    verdict: on the true rows. placebo: the result on shuffled rows.
    """
    if np.isnan(placebo.survives):
        return f"unknown: {placebo.note}"
    if verdict != "held":
        return f"does not hold ({verdict})"
    if claim.kind != "effect":
        return f"may survive ({claim.kind})"
    if placebo.least > CHANCE and placebo.survives <= 2 * placebo.least:
        return FEW
    if placebo.survives <= CHANCE:
        return DIFFER
    return f"unknown: {placebo.note}" if placebo.note else NONE


def shuffle(claim: Claim, df: pd.DataFrame, swept: Sequence[str]) -> Placebo:
    """Return how often a claim holds on rows whose labels were permuted within each
    seed.

    df: the rows.
    swept: the config fields that vary, which are shuffled if the claim's estimate does
        not say what it compares.
    """
    estimate = claim.estimate
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if getattr(estimate, "placebo", None):
            return _compared(claim, df)
        arms = [f for f in getattr(estimate, "arms", ()) if f in swept]
        found, still = [], []
        for field in arms or swept:
            for within in (arms, swept) if arms else (swept, ()):
                draw = _labels(claim, df, field, [f for f in within if f != field])
                share = _share(claim, draw, SCREEN) if draw else float("nan")
                if not np.isnan(share):
                    found.append((share, field, draw))
                    break
            else:
                still.append(field)
        note = _unknown(bool(arms), still)
        if not found:
            return Placebo(note=note if swept else "no field has several values")
        _, field, draw = min(found, key=lambda f: f[0])
        return Placebo(field, FEWER, _share(claim, draw, FEWER), note=note)


def _compared(claim: Claim, df: pd.DataFrame) -> Placebo:
    try:
        draw = claim.estimate.placebo(df)
        seeds = claim.estimate(df).n
    except Exception as error:  # one claim must not stop the audit
        return Placebo(note=f"the estimate could not be made ({error})")
    arms, share = " and ".join(claim.estimate.arms), _share(claim, draw, DRAWS)
    note = "" if share == share else "the estimate cannot be made on shuffled arms"
    return Placebo(arms, DRAWS, share, 0.5**seeds, note)


def _labels(
    claim: Claim, df: pd.DataFrame, field: str, others: Sequence[str]
) -> Callable[[int], Interval] | None:
    """draw -> the estimate with one field's labels permuted; None if none can move."""
    strata = df.groupby(["seed", *others], sort=False, dropna=False)
    if strata[field].nunique(dropna=False).max() < 2:
        return None
    groups, labels = strata.ngroup().to_numpy(), df[field].to_numpy()
    here = np.argsort(groups, kind="stable")

    def draw(number: int) -> Interval:
        random = np.random.default_rng(number).random(len(df))
        moved = labels.copy()
        moved[here] = labels[np.lexsort((random, groups))]
        return claim.estimate(df.assign(**{field: moved}))

    return draw


def _share(claim: Claim, draw: Callable[[int], Interval], draws: int) -> float:
    """The share of the draws on which the claim holds; NaN where most cannot be made.

    A draw cannot be made where rows no longer pair, or no finite number comes out.
    """
    held = made = 0
    for number in range(draws):
        try:
            interval = draw(number)
        except Exception:  # of whatever kind: the estimate does not know such rows
            continue
        if np.isfinite(interval.value):
            made += 1
            held += interval.low > claim.above and interval.high < claim.below
    return held / made if made > draws / 2 else float("nan")


def _unknown(told: bool, still: Sequence[str]) -> str:
    """Why a claim that survives may yet be evidence: fields that were not shuffled.

    told: whether the estimate names its arms.
    """
    if not told:
        return "the estimate does not say which arms it compares"
    return f"{', '.join(still)} cannot be shuffled alone" if still else ""


def table(found: pd.DataFrame) -> str:
    """Return a Markdown summary of how claims fared on shuffled arms.

    It counts the findings by kind of claim, and then has a line for each claim.

    found: what `audit` returned, or the same read back from CSV.
    """
    found = found.fillna({"paper": "", "shuffled": ""})
    short = found.finding.str.partition(":")[0].str.partition(" (")[0]
    counts = pd.crosstab(short, found.kind)
    lines = [_line("finding", *counts.columns), _line(*["---"] * (1 + counts.shape[1]))]
    lines += [_line(name, *row) for name, row in counts.iterrows()]
    head = ("experiment", "claim", "about", "kind", "verdict")
    head += ("shuffled", "survives", "finding")
    lines += ["", _line(*head), _line(*["---"] * len(head))]
    for row in found.itertuples():
        about = row.paper if row.origin == "paper" else row.origin
        share = "" if np.isnan(row.survives) else f"{100 * row.survives:.3g} %"
        lines.append(
            _line(
                row.experiment, f"`{row.claim}`", about, row.kind, row.verdict,
                row.shuffled, share, row.finding,
            )
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def _line(*cells) -> str:
    return f"| {' | '.join(str(c).replace('|', '&#124;') for c in cells)} |"
