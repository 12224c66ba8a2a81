"""Registration: what the claims say, in a committed file that shows every change.

`claims.lock` has a line for each claim: the experiment, the claim, 16 hex digits of a
hash of what it says, whether its thresholds were written before or after a look at
result rows, how many entries its history has, its thresholds, and its estimate in
words. A line "(design)" for each experiment has a hash of the runs of its sweep at
quick scale. Git keeps the file's history, so a threshold that was moved after rows
existed is noticed: it needs an entry in the claim's `history`.
`symlab.harness.confirm` derives its seeds from the same hashes.
"""

import json
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from symlab.harness import contract, files
from symlab.harness.claims import Claim
from symlab.harness.errors import UserError
from symlab.harness.project import Project

DESIGN = "(design)"
SCALE = "quick"  # the scale whose design and rows the lock speaks of
HEAD = (
    "# The claims as they are registered; `python -m symlab lock` writes this file.\n"
    "# experiment, claim, what it says, thresholds written before or after rows,\n"
    "# entries of its history, thresholds, estimate; (design): runs at quick scale\n"
)


def digest(claims: Sequence[Claim]) -> str:
    """Return 16 hex digits of a hash of what claims say, independent of their order.

    It covers each claim's name, statement, thresholds, estimate in words, kind, origin,
    paper, place and headline. It leaves out the reason, the expected verdict and the
    history, which say why and not what.
    """
    said = [
        (
            c.name,
            c.statement,
            repr(float(c.above)),
            repr(float(c.below)),
            c.quantity,
            c.kind,
            c.origin,
            c.paper.short if c.paper else "",
            c.place,
            c.tests,
        )
        for c in sorted(claims, key=lambda c: c.name)
    ]
    return _short(said)


def design(keys: Iterable[str]) -> str:
    """Return 16 hex digits of a hash of a set of runs, given by the keys of their
    configs.
    """
    return _short(sorted(set(keys)))


def _short(value) -> str:
    return sha256(json.dumps(value).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """One line of the file claims.lock, about a claim or about an experiment's sweep.

    It records what the claim said when it was registered, or which runs the sweep has.

    claim: the claim's name, or DESIGN for the sweep. digest: 16 hex digits of a hash of
        what the claim says, or of the sweep's runs.
    written: when the claim's thresholds were written, "before" or "after" a look at
        rows. changes: the number of entries of its history.
    limits, estimate: its thresholds and its estimate, as text.
    """

    experiment: str
    claim: str  # or DESIGN
    digest: str
    written: str = ""
    changes: int = 0  # entries of the claim's history
    limits: str = ""
    estimate: str = ""

    def line(self) -> str:
        """Return the entry as a line of the file claims.lock."""
        values = list(map(str, vars(self).values()))
        return "\t".join(values[:3] if self.claim == DESIGN else values) + "\n"


def entries(project: Project, names: Iterable[str] = ()) -> list[Entry]:
    """Return the entries that claims.lock would have for the present claims.

    names: the experiments, by default all.
    """
    found = []
    for name in names or contract.names(project):
        experiment = contract.load(project, name)
        found.append(Entry(name, DESIGN, design(experiment.configs(SCALE))))
        found += [
            Entry(name, c.name, digest([c]), c.written, len(c.history), c.limits,
                  c.quantity)
            for c in experiment.claims
        ]  # fmt: skip
    return sorted(found, key=lambda e: (e.experiment, e.claim))


def path(project: Project) -> Path:
    """Return the path of claims.lock, the file of registered claims in the project's
    folder.
    """
    return project.root / "claims.lock"


def write(project: Project, lines: Iterable[Entry]) -> Path:
    """Write the file claims.lock and return its path.

    lines: its entries. Raises UserError if the file cannot be written.
    """
    text = HEAD + "".join(e.line() for e in lines)
    try:
        path(project).write_text(text, "utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path(project)}: {error.strerror}") from None
    return path(project)


def read(project: Project) -> list[Entry]:
    """Return the entries of claims.lock on disk; [] if there is no such file."""
    file = path(project)
    return parse(file.read_text("utf-8")) if file.is_file() else []


def parse(text: str) -> list[Entry]:
    """Return the entries in the text of a claims.lock.

    Raises UserError if a line is not an entry, or repeats one.
    """
    found, seen = [], set()
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        values = line.split("\t")
        whole = len(values) == 3 or (len(values) == 7 and values[4].isdigit())
        if not whole or tuple(values[:2]) in seen:
            raise UserError(
                f"line {number} of claims.lock is damaged: take the file back from "
                "git, or run `python -m symlab lock`"
            )
        seen.add(tuple(values[:2]))
        values += ["", "0", "", ""] * (len(values) == 3)
        found.append(Entry(*values[:4], int(values[4]), *values[5:]))
    return found


def name_of(lines: Iterable[Entry], experiment: str) -> str:
    """Return 16 hex digits of a hash of one experiment's registered claims and sweep.

    lines: entries of claims.lock, whose order makes no difference.
    experiment: its name.
    """
    own = (e for e in lines if e.experiment == experiment)
    return _short(sorted([e.claim, e.digest] for e in own))


# --- what changed --------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """The change of one claim's or sweep's line between two versions of claims.lock.

    kind: 'new', 'gone', 'renamed', 'threshold', 'estimate', 'words', 'registration' (of
        when it was written) or 'design' (of the sweep's runs).
    before, after: the line in each version, or None if it has none.
    """

    kind: str  # new, gone, renamed, threshold, estimate, words, registration, design
    before: Entry | None
    after: Entry | None

    def __str__(self) -> str:
        e = self.after or self.before
        return f"{e.experiment}.{e.claim}: {self._words()}"

    def _words(self) -> str:
        a, b = self.before, self.after
        return {
            "new": "is new",
            "gone": "is gone",
            "renamed": f"was called {a.claim}" if a else "",
            "threshold": _moved(a, b) if a and b else "",
            "estimate": "another estimate, or other words for it",
            "words": "other words, or another place, origin, kind or headline",
            "registration": "its entry on when it was written changed",
            "design": "the sweep at quick scale has other runs",
        }[self.kind]


def changes(before: Iterable[Entry], after: Iterable[Entry]) -> list[Change]:
    """Return what differs between two versions of claims.lock, by experiment and claim.

    before, after: the entries of the two versions.

    If a claim was removed and one with the same estimate was added, this counts as one
    claim under a new name, even if its threshold changed as well.
    """
    old = {(e.experiment, e.claim): e for e in before}
    new = {(e.experiment, e.claim): e for e in after}
    renamed = _renamed(
        [e for key, e in old.items() if key not in new],
        [e for key, e in new.items() if key not in old],
    )
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if a == b or (b is None and a in renamed.values()):
            continue
        if key in renamed:
            a = renamed[key]
            kind = "renamed" if a.limits == b.limits else "threshold"
            found.append(Change(kind, a, b))
        else:
            found.append(Change(_kind(a, b), a, b))
    return found


def _renamed(gone: list[Entry], new: list[Entry]) -> dict[tuple[str, str], Entry]:
    """From a new claim's key to the claim that it was, under another name."""
    found = {}
    for limits in (True, False):  # the same thresholds first
        left = [e for e in gone if e.claim != DESIGN and e not in found.values()]
        for e in new:
            key = e.experiment, e.claim
            same = [
                g for g in left
                if (g.experiment, g.estimate) == (e.experiment, e.estimate)
                and (g.limits == e.limits or not limits)
            ]  # fmt: skip
            if same and key not in found:
                found[key] = same[0]
                left.remove(same[0])
    return found


def _moved(a: Entry, b: Entry) -> str:
    name = "" if a.claim == b.claim else f", and it was called {a.claim}"
    return f"{a.limits} became {b.limits}{name}"


def _kind(a: Entry | None, b: Entry | None) -> str:
    if a is None or b is None:
        return "gone" if a else "new"
    if a.claim == DESIGN:
        return "design"
    if a.limits != b.limits:
        return "threshold"
    if a.estimate != b.estimate:
        return "estimate"
    return "words" if a.digest != b.digest else "registration"


def unexplained(
    before: Iterable[Entry],
    after: Iterable[Entry],
    rows: Callable[[str], str | None],
) -> list[str]:
    """Return sentences on changes of registered claims that the rules do not permit.

    before, after: entries of two versions of claims.lock.
    rows: a function from an experiment's name to the `design` of the rows that existed
        then, or None if there were none.

    Rules: if rows existed, a changed threshold needs a new entry in the claim's
        `history`. A new claim on a sweep whose rows existed must not say that it was
        written before them. Whether or not rows existed, a history must keep its
        entries, and a claim that was written after rows must keep saying so, also under
        another name.
    """
    before, after = list(before), list(after)
    designs = {e.experiment: e.digest for e in before + after if e.claim == DESIGN}
    found = []
    for change in changes(before, after):
        a, b = change.before, change.after
        moved = change.kind == "threshold" and b.changes <= a.changes
        if moved and rows(b.experiment) is not None:
            found.append(f"{change} when rows existed: say so in its `history`")
        if a and b and b.changes < a.changes:
            found.append(f"{a.experiment}.{a.claim}: its `history` lost an entry")
        if a and b and (a.written, b.written) == ("after", "before"):
            found.append(
                f"{a.experiment}.{a.claim}: it was written after rows, and "
                f"{b.experiment}.{b.claim} says that it was not"
            )
        early = change.kind == "new" and b.written == "before"
        existed = rows(b.experiment) if early else None
        if existed is not None and existed == designs.get(b.experiment):
            found.append(
                f"{change}, and all rows of its sweep existed: it was written "
                'after them (written="after")'
            )
    return found


def rows_before(project: Project, changed: Iterable[Change]) -> list[str]:
    """Return a note for each experiment with rows whose changed claims say "before
    rows".

    changed: what `changes` returned.

    The rows are those of the sweep at quick scale. Nobody can tell whether they were
    looked at before the claim was written, so this is no error.
    """
    found = []
    early: dict[str, list[str]] = {}
    for change in changed:
        e = change.after
        if e and e.claim != DESIGN and e.written == "before" and not e.changes:
            early.setdefault(e.experiment, []).append(e.claim)
    for name, claims in early.items():
        file = project.results / SCALE / f"{name}.parquet"
        if not file.is_file():
            continue
        wanted = set(contract.load(project, name).configs(SCALE))
        rows = files.read_table(file.read_bytes())
        if n := len(wanted & set(rows["key"].to_pylist())):
            one = len(claims) == 1
            found.append(
                f"note: {file.parent.name}/{file.name} holds {n} runs of this sweep, "
                f"and {name}.{claims[0]}{'' if one else f' and {len(claims) - 1} more'}"
                f" say{'s' * one} written before rows: where they were looked at, "
                'write written="after"'
            )
    return found


# --- git -----------------------------------------------------------------------------


def audit(project: Project) -> list[str]:
    """Return sentences on changes of claims.lock, in git or on disk, that break its
    rules.

    The rules are those of `unexplained`. Every commit that changed the file is compared
    with its parent, on side branches too. A line that a merge takes from any of its
    parents was explained there. A version that is missing or damaged is skipped. Raises
    UserError if the checkout has no git history to look at.
    """
    found, last = [], []
    for commit, parents in _versions(project):
        if not (new := _lock(project, commit)):
            continue
        known = {p: lock for p in parents if (lock := _lock(project, p))}
        at = next(iter(known), parents[0] if parents else "")
        others = {e for p, lock in known.items() if p != at for e in lock}
        old = {(e.experiment, e.claim): e for e in known.get(at, last)}
        old |= {(e.experiment, e.claim): e for e in new if e in others}
        if old:
            found += [
                f"{sentence} ({commit[:8] or 'not committed'})"
                for sentence in unexplained(
                    old.values(), new, lambda name, at=at: _rows(project, name, at)
                )
            ]
        last = new
    return found


def _versions(project: Project) -> list[tuple[str, list[str]]]:
    """(commit, its parents) of each version, oldest first; on disk it has no commit."""
    found = commits(project, path(project).name)
    parents = [_git(project, "show", "-s", "--format=%P", c) for c in found]
    versions = [(c, of.decode().split()) for c, of in zip(found, parents, strict=True)]
    return [*versions, ("", ["HEAD"])]


def commits(project: Project, name: str) -> list[str]:
    """Return the git commits that changed a file, oldest first, on side branches too.

    name: the file's path in the project.

    Raises UserError if the checkout has no git history to look at.
    """
    if _git(project, "rev-parse", "--is-shallow-repository").strip() != b"false":
        raise UserError(
            f"the history of {name} cannot be read, as this checkout is shallow: "
            "run `git fetch --unshallow`"
        )
    log = _git(project, "log", "--full-history", "--topo-order", "--reverse",
               "--format=%H", "--", name, missing=b"")  # fmt: skip
    return log.decode().split()


def _lock(project: Project, commit: str) -> list[Entry]:
    """The lock at a commit, or on disk; none where it is missing or damaged there."""
    if not commit:
        return read(project)
    try:
        return parse(text_at(project, commit, path(project).name))
    except UserError:
        return []


def text_at(project: Project, commit: str, name: str) -> str:
    """Return the text of a file at a git commit; '' if it did not exist there.

    name: the file's path in the project.
    """
    text = _git(project, "show", f"{commit}:./{name}", missing=b"")
    return text.decode(errors="replace")


def _rows(project: Project, experiment: str, commit: str) -> str | None:
    """The design of an experiment's committed rows at a commit."""
    file = project.reference / SCALE / f"{experiment}.parquet"
    name = file.relative_to(project.root).as_posix()
    data = _git(project, "show", f"{commit}:./{name}", missing=b"")
    return design(files.read_table(data)["key"].to_pylist()) if data else None


def _git(project: Project, *words: str, missing: bytes | None = None) -> bytes:
    """What git prints; `missing` where it fails, else a UserError."""
    try:
        done = subprocess.run(
            ["git", "-C", str(project.root), *words],
            capture_output=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        if missing is not None:
            return missing
        raise UserError(
            f"{project.root} has no history of its own: the lock's changes can be "
            "checked in a clone of the git repository"
        ) from None
    return done.stdout
