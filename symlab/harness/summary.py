"""Counts of verdicts for each paper and main statement, and Holm's correction."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from symlab.harness import contract, findings, plan, stats
from symlab.harness.claims import BEARINGS, ORIGINS, VERDICTS, Paper, Verdict
from symlab.harness.project import Project

NOT_TESTED = "not tested here"
NOT_JUDGED = "not judged"  # rows are missing


def judged(project: Project, scale: str, seed0: int = 0) -> list[Verdict]:
    """Return the verdicts on all claims of the project, with Holm's correction.

    scale: of the rows. seed0: a number added to all seeds.

    The correction is for the number of claims about the same paper.
    """
    names = contract.names(project)
    plans = [plan.make(project, name, scale, seed0=seed0) for name in names]
    return corrected(findings.verdicts(plans))


def counts(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """Return a frame of how many claims about each paper support it or contradict it.

    Claims that do neither are counted, too.
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
    """Return a frame that counts the claims about no paper, by origin and verdict."""
    rows = [
        {"origin": v.claim.origin, "axis": _axis(v, v.verdict)}
        for v in verdicts
        if v.claim.origin != "paper"
    ]
    table = _table(rows, "origin", "axis", VERDICTS)
    return table.reindex([o for o in ORIGINS if o in table.index])


def registered(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """Return a frame that counts papers' claims by outcome, and by when their
    thresholds were written.
    """
    rows = [
        {"outcome": "error" if v.verdict == "error" else _axis(v, v.bearing),
         "written": v.claim.written + " rows" + ", changed since" * bool(
             v.claim.written == "before" and v.claim.history)}
        for v in verdicts
        if v.claim.origin == "paper"
    ]  # fmt: skip
    columns = ("before rows", "before rows, changed since", "after rows")
    table = _table(rows, "outcome", "written", columns)
    return table.reindex([b for b in (*BEARINGS, "error") if b in table.index])


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
    """A main statement of a paper, with the verdicts of the claims that test it.

    key, sentence: the statement and its key in `Paper.headlines`.
    """

    paper: Paper
    key: str
    sentence: str
    verdicts: tuple[Verdict, ...]

    @property
    def outcome(self) -> str:
        """Return as text how the claims that test the statement came out.

        An example is 'supported by 2 (a, b); contradicted by 1 (c)'; the text says if
        nothing tests it.
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
    """Return every main statement of every paper that has a claim, tested or not."""
    papers = {v.claim.paper.short: v.claim.paper for v in verdicts if v.claim.paper}
    return [
        Headline(paper, key, sentence, tuple(
            v for v in verdicts if v.claim.paper == paper and v.claim.tests == key
        ))
        for paper in papers.values()
        for key, sentence in paper.headlines.items()
    ]  # fmt: skip


def scoreboard(
    verdicts: Sequence[Verdict],
    confirmed: pd.DataFrame | None = None,
    named: Sequence[str] = (),
) -> pd.DataFrame:
    """Return a frame with a row per paper: how its claims came out, and how sure this
    is.

    verdicts: on all claims of the project, as `judged` returns them.
    confirmed: the table of verdicts on fresh seeds (`symlab.harness.confirm`), if there
        is one.
    named: the short names of papers that get a row of their own, in this order; all
        others share one row. By default each paper has its own, in descending order of
        the number of claims.

    Unless said otherwise the columns count claims whose origin is the paper.
    `supported`, `contradicted` and `undecided` count effects, equivalences and
    preconditions; `no_verdict` counts those of them without rows or without an
    estimate. `identities` and `identities_held` count claims about every run, up to
    rounding. `headlines` and `untested` count the paper's main statements, and those
    that no claim tests. `controls` and `controls_held` count our control claims about
    the paper. `seeds_low`, `seeds` and `seeds_high` are the least, median and largest
    number of seeds of an estimate. `confirmed` and `differing` count equal and
    different verdicts on fresh seeds, for claims whose thresholds are the present ones
    and whose interval is finite: one seed leaves an effect undecided whatever it is.
    `before` counts claims whose thresholds were written before a look at rows, among
    `supported`, `contradicted` and `undecided` together, and `unchanged` those of them
    in which nothing was changed since. `supported_flip` and
    `contradicted_flip` count those that become undecided under Holm's correction.
    """
    groups: dict[str, list[Verdict]] = {name: [] for name in named}
    counted = [v for v in verdicts if v.claim.paper]
    papers = {v.claim.paper.short: 0 for v in counted}
    for v in counted:
        papers[v.claim.paper.short] += v.claim.origin == "paper"
    rest = [p for p in papers if p not in groups]
    other = f"{len(rest)} other paper{'s' * (len(rest) != 1)}"
    for name in () if named else sorted(rest, key=papers.get, reverse=True):
        groups[name] = []
    for v in counted:
        short = v.claim.paper.short
        groups.setdefault(short if short in groups else other, []).append(v)
    known = {} if confirmed is None else _fresh_seeds(confirmed)
    main = headlines(verdicts)
    return pd.DataFrame(
        [
            {"paper": name, **_score(members, known, [
                h for h in main
                if h.paper.short == name or (name == other and h.paper.short in rest)
            ])}
            for name, members in groups.items()
        ]
    )  # fmt: skip


def _score(
    about: Sequence[Verdict], known: dict, main: Sequence[Headline]
) -> dict[str, float]:
    """One row of the scoreboard, of the verdicts about one paper or several."""
    own = [v for v in about if v.claim.origin == "paper"]
    exact = [v for v in own if v.claim.kind == "identity"]
    found = [v for v in own if v.claim.kind != "identity"]
    decided = [v for v in found if v.judged and v.verdict != "error"]
    early = [v for v in decided if v.claim.written == "before"]
    controls = [v for v in about if v.claim.origin == "control"]
    seeds = [v.interval.n for v in own if v.interval]
    again = [
        agreement
        for v in own
        if (key := (v.experiment, v.claim.name, v.claim.criterion)) in known
        if v.interval is None or math.isfinite(v.interval.high - v.interval.low)
        for agreement in [known[key]]
    ]
    return {
        "supported": sum(v.verdict == "held" for v in decided),
        "contradicted": sum(v.verdict == "failed" for v in decided),
        "undecided": sum(v.verdict == "undecided" for v in decided),
        "no_verdict": len(found) - len(decided),
        "identities": len(exact),
        "identities_held": sum(v.verdict == "held" for v in exact),
        "headlines": len(main),
        "untested": sum(h.outcome == NOT_TESTED for h in main),
        "controls": len(controls),
        "controls_held": sum(v.verdict == "held" for v in controls),
        "seeds_low": min(seeds, default=0),
        "seeds": statistics.median_low(seeds) if seeds else 0,
        "seeds_high": max(seeds, default=0),
        "confirmed": again.count("equal"),
        "differing": again.count("differs"),
        "before": len(early),
        "unchanged": sum(not v.claim.history for v in early),
        "supported_flip": _flips(decided, "held"),
        "contradicted_flip": _flips(decided, "failed"),
    }


def _flips(verdicts: Sequence[Verdict], verdict: str) -> int:
    """How many of these verdicts are undecided with Holm's correction."""
    return sum(v.verdict == verdict and v.holm.startswith("flips") for v in verdicts)


def _fresh_seeds(confirmed: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """{(experiment, claim, criterion): whether both verdicts are equal}."""
    return {(r.experiment, r.claim, r.claimed): r.agreement
            for r in confirmed.itertuples()}  # fmt: skip


def shown(board: pd.DataFrame) -> pd.DataFrame:
    """Return the scoreboard for readers: a frame with few columns of text.

    board: the frame that `scoreboard` returned.
    """
    if board.empty:
        return board
    texts = pd.DataFrame({
        "paper": board.paper,
        "supported (after Holm)": _after(board.supported, board.supported_flip),
        "contradicted (after Holm)":
            _after(board.contradicted, board.contradicted_flip),
        "undecided": board.undecided,
        "thresholds before rows (unchanged)": [
            f"{r.before} ({r.unchanged}) of {n}" if n else "none"
            for r in board.itertuples()
            for n in [r.supported + r.contradicted + r.undecided]],
        "exact identities": _of(board.identities_held, board.identities),
        "main statements not tested": _of(board.untested, board.headlines),
        "controls that hold": _of(board.controls_held, board.controls),
        "seeds": [_range(r.seeds_low, r.seeds, r.seeds_high)
                  for r in board.itertuples()],
        "same verdict on unseen seeds":
            _of(board.confirmed, board.confirmed + board.differing, "not run"),
    })  # fmt: skip
    if board.no_verdict.any():
        texts.insert(4, "no verdict", board.no_verdict)
    return texts


def _of(part: pd.Series, whole: pd.Series, none: str = "none") -> list[str]:
    return [f"{p} of {w}" if w else none for p, w in zip(part, whole, strict=True)]


def _after(found: pd.Series, flip: pd.Series) -> list[str]:
    """Numbers of verdicts, and in brackets those that a correction leaves."""
    return [f"{n} ({n - k})" if n else "0" for n, k in zip(found, flip, strict=True)]


def _range(low: int, median: int, high: int) -> str:
    if not high:
        return "none"
    return f"{median} ({low} to {high})" if low < high else f"{median}"


def _estimated(v: Verdict) -> bool:
    return v.interval is not None and v.verdict != "error"


def corrected(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts with their field `holm` set.

    It is "stands", or "flips to undecided" under Holm's correction for several tests. A
    family of tests is all effects that are claimed about one paper, so `verdicts` must
    hold all claims of the project. A claim that is not judged yet, or whose estimate
    could not be made, counts in the family with a P value of 1, so the family is no
    smaller while rows are missing. If no P value exists for a claim, `holm` stays
    empty.
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
