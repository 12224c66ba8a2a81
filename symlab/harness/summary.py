"""Counts of verdicts per paper and headline, and Holm's correction."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from symlab.harness import contract, findings, plan, stats
from symlab.harness.claims import ORIGINS, VERDICTS, Paper, Verdict
from symlab.harness.project import Project

NOT_TESTED = "not tested here"
NOT_JUDGED = "not judged"  # rows are missing


def judged(project: Project, scale: str, seed0: int = 0) -> list[Verdict]:
    """Return the verdicts of all claims of the project, with Holm's correction for the
    number of claims on a paper.

    seed0: added to all seeds.
    """
    names = contract.names(project)
    plans = [plan.make(project, name, scale, seed0=seed0) for name in names]
    return corrected(findings.verdicts(plans))


def counts(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """Return a frame with how many claims about each paper support it, contradict it,
    or do neither.
    """
    rows = [
        {"paper": v.claim.paper.short if v.claim.paper else "unnamed",
         "axis": "error" if v.verdict == "error" else _axis(v, v.bearing)}
        for v in verdicts
        if v.claim.origin == "paper"
    ]  # fmt: skip
    axes = ("supports", "contradicts", "undecided", "error")
    return _table(rows, "paper", "axis", axes)


def others(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """Return a frame with how many claims that are about no paper held, failed, or did
    neither.
    """
    rows = [
        {"origin": v.claim.origin, "axis": _axis(v, v.verdict)}
        for v in verdicts
        if v.claim.origin != "paper"
    ]
    table = _table(rows, "origin", "axis", VERDICTS)
    return table.reindex([o for o in ORIGINS if o in table.index])


def _axis(v: Verdict, word: str) -> str:
    return word if v.judged else NOT_JUDGED


def _table(rows: list[dict], index: str, column: str, columns) -> pd.DataFrame:
    """A count of each word, and of the claims that are not judged where there are."""
    frame = pd.DataFrame(rows, columns=[index, column])
    table = pd.crosstab(frame[index], frame[column])
    columns = [*columns, *table.columns.intersection([NOT_JUDGED])]
    return table.reindex(columns=columns, fill_value=0).rename_axis(columns=None)


@dataclass(frozen=True)
class Headline:
    """A main statement of a paper (`sentence`, under a `key`), with the verdicts of the
    claims that test it.
    """

    paper: Paper
    key: str
    sentence: str
    verdicts: tuple[Verdict, ...]

    @property
    def outcome(self) -> str:
        """How the claims that test the statement came out, as text: 'supported by 2 (a,
        b); contradicted by 1 (c)', or that nothing tests it.
        """
        own = [v for v in self.verdicts if v.claim.origin == "paper"]
        groups = {
            "supported by": [v for v in own if v.verdict == "held"],
            "contradicted by": [v for v in own if v.verdict == "failed"],
            "undecided in": [v for v in own if v.verdict == "undecided" and v.judged],
            "not estimated in": [v for v in own if v.verdict == "error"],
            "not judged yet in": [v for v in own if not v.judged],
        }
        said = [
            f"{words} {len(group)} ({', '.join(map(_name, group))})"
            for words, group in groups.items()
            if group
        ]
        if beside := [v for v in self.verdicts if v.claim.origin != "paper"]:
            named = ", ".join(f"{_name(v)}: {v.verdict}" for v in beside)
            said.append(f"beside it, not the paper's own words: {named}")
        return "; ".join(said) or NOT_TESTED


def _name(v: Verdict) -> str:
    return f"{v.experiment}.{v.claim.name}"


def headlines(verdicts: Sequence[Verdict]) -> list[Headline]:
    """Return every main statement of every paper that a claim is about, tested or
    not.
    """
    papers = {v.claim.paper.short: v.claim.paper for v in verdicts if v.claim.paper}
    return [
        Headline(paper, key, sentence, tuple(
            v for v in verdicts if v.claim.paper == paper and v.claim.tests == key
        ))
        for paper in papers.values()
        for key, sentence in paper.headlines.items()
    ]  # fmt: skip


def _estimated(v: Verdict) -> bool:
    return v.interval is not None and v.verdict != "error"


def corrected(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts with `holm` set: "stands" or "flips to undecided" under
    Holm's correction for several tests.

    A family is all effects that are claimed about one paper, so `verdicts` must hold
    all claims of the project. A claim that is not judged yet, or whose estimate could
    not be made, is a member with a P value of 1: the family is no smaller while rows
    are missing. Where no P value can be made, `holm` stays empty.
    """
    families: dict[str, list[int]] = {}
    for i, v in enumerate(verdicts):
        if v.claim.paper and v.claim.kind == "effect":
            families.setdefault(v.claim.paper.short, []).append(i)
    out = list(verdicts)
    for members in families.values():
        known = [out[i].p if _estimated(out[i]) else 1.0 for i in members]
        for i, p in zip(members, stats.holm(known), strict=True):
            if out[i].verdict in ("held", "failed") and not math.isnan(p):
                word = "stands" if p < 1 - stats.LEVEL else "flips to undecided"
                out[i] = replace(out[i], holm=word)
    return out
