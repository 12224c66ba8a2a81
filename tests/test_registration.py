"""The lock names what claims say, and shows a threshold that moved after rows."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from symlab.harness import Claim, late, project, registration, where
from symlab.harness.claims import Paper
from symlab.harness.errors import UserError
from symlab.harness.registration import Entry

PAPER = Paper("A 2024", "A", "T", 2024, "1", headlines={"key": "What it claims."})
CLAIMS = [
    Claim(
        name, "y is positive.", paper=PAPER, place="figure 1", tests="key",
        estimate=where(x=1).mean("y"), reason="r", above=0.0,
    )
    for name in ("b", "a")
]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"name": "c"},
        {"statement": "y is above 0."},
        {"above": 0.1},
        {"below": 2.0},
        {"estimate": where(x=2).mean("y")},
        {"kind": "identity"},
        {"origin": "control"},
        {"paper": replace(PAPER, short="B 2024")},
        {"place": "figure 2"},
        {"tests": ""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_a_claim_says_is_in_the_digest(change):
    changed = [replace(CLAIMS[0], **change), CLAIMS[1]]
    assert registration.digest(changed) != registration.digest(CLAIMS)


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "another"},
        {"expected": "failed", "because": "x"},
        {"history": (("2026-11-30", "reworded"),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_why_a_claim_says_it_is_not(change):
    changed = [replace(CLAIMS[0], **change), CLAIMS[1]]
    assert registration.digest(changed) == registration.digest(CLAIMS)


def test_order_and_whole_numbers_make_no_difference():
    as_before = [replace(CLAIMS[1], above=0), CLAIMS[0]]
    assert registration.digest(as_before) == registration.digest(CLAIMS)
    assert len(registration.digest([])) == 16


def test_late_is_written_after_rows_with_an_entry_for_each_change():
    fields = late("2026-11-30", "written after a pilot", "the range was halved")
    assert fields["history"] == (
        ("2026-11-30", "written after a pilot"),
        ("2026-11-30", "the range was halved"),
    )
    assert replace(CLAIMS[0], **fields).registered == "after rows, see history"


# --- the lock


ROOT = Path(__file__).resolve().parents[1]
LOCK = [
    Entry("e", "(design)", "d1"),
    Entry("e", "a", "1", "before", 0, "> 0", "mean over seeds of y"),
    Entry("e", "b", "2", "after", 1, "< 1", "largest y of any run"),
]


def changed(**fields) -> list[Entry]:
    return [LOCK[0], replace(LOCK[1], **fields), LOCK[2]]


def test_the_lock_is_of_the_claims_as_they_stand():
    here = project.find(ROOT)
    found = registration.changes(registration.read(here), registration.entries(here))
    assert not found, "run `python -m symlab lock` and commit claims.lock"


def test_no_threshold_moved_after_rows_without_a_history_entry():
    try:
        late = registration.audit(project.find(ROOT))
    except UserError as error:
        pytest.skip(str(error))
    assert not late


def test_a_lock_is_read_back_as_it_was_written():
    text = "# a comment\n" + "".join(e.line() for e in LOCK)
    assert registration.parse(text) == LOCK
    with pytest.raises(UserError, match="line 2 of claims.lock is damaged"):
        registration.parse("# a comment\ne\ta\n")


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        (changed(limits="> 1", digest="3"), "threshold"),
        (changed(estimate="mean over seeds of z", digest="3"), "estimate"),
        (changed(digest="3"), "words"),
        (changed(changes=1), "registration"),
        (changed(claim="c", digest="3"), "renamed"),
        (LOCK[:2], "gone"),
        ([*LOCK, Entry("e", "c", "4", "before", 0, "> 9", "least y")], "new"),
        ([replace(LOCK[0], digest="d2"), *LOCK[1:]], "design"),
    ],
)
def test_changes_are_told_apart(after, kind):
    (change,) = registration.changes(LOCK, after)
    assert change.kind == kind
    assert str(change).startswith("e.")
    assert registration.changes(LOCK, LOCK) == []


def test_a_threshold_may_move_before_rows_or_with_a_history_entry():
    moved = changed(limits="> 1", digest="3")
    (said,) = registration.unexplained(LOCK, moved, {"e": "d1"}.get)
    assert said == "e.a: > 0 became > 1 when rows existed: say so in its `history`"
    assert registration.unexplained(LOCK, moved, {}.get) == []
    explained = changed(limits="> 1", digest="3", changes=1)
    assert registration.unexplained(LOCK, explained, {"e": "d1"}.get) == []


def test_a_new_claim_on_rows_that_exist_was_not_written_before_them():
    new = Entry("e", "c", "4", "before", 0, "> 9", "least y")
    (said,) = registration.unexplained(LOCK, [*LOCK, new], {"e": "d1"}.get)
    assert said.startswith("e.c: is new, and all rows of its sweep existed")
    for lock, rows in (
        ([*LOCK, new], {}),  # no rows
        ([replace(LOCK[0], digest="d2"), *LOCK[1:], new], {"e": "d1"}),  # of other runs
        ([*LOCK, replace(new, written="after")], {"e": "d1"}),
        ([*LOCK, replace(new, experiment="f")], {}),  # no line of its sweep, either
    ):
        assert registration.unexplained(LOCK, lock, rows.get) == []
    lock = [*LOCK[1:], new]  # the line of the sweep left at once
    assert len(registration.unexplained(LOCK, lock, {"e": "d1"}.get)) == 1


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (changed(claim="c", limits="> 1"), "e.c: > 0 became > 1, and it was"),
        (LOCK[:2] + [replace(LOCK[2], written="before")], "e.b: it was written after"),
        (LOCK[:2] + [replace(LOCK[2], changes=0)], "e.b: its `history` lost an entry"),
        (
            LOCK[:2] + [replace(LOCK[2], claim="c", written="before")],
            "e.b: it was written after rows, and e.c says that it was not",
        ),
        (
            LOCK[:2] + [replace(LOCK[2], limits="< 2", written="before", changes=2)],
            "e.b: it was written after rows",
        ),
    ],
    ids=["renamed and moved", "written", "history", "renamed", "moved"],
)
def test_no_other_name_and_no_later_edit_makes_a_claim_early(after, words):
    """Also where the sweep changed at once, and the rows are not all of its runs."""
    for lock in (after, [replace(LOCK[0], digest="d2"), *after[1:]]):
        (said,) = registration.unexplained(LOCK, lock, {"e": "d1"}.get)
        assert said.startswith(words)


def test_two_claims_with_one_estimate_keep_their_names_apart():
    other = replace(LOCK[1], claim="z", limits="> 5", digest="9")
    names = {"a": "x", "z": "y"}
    after = [replace(e, claim=names.get(e.claim, e.claim)) for e in [*LOCK, other]]
    found = registration.changes([*LOCK, other], after)
    assert [(c.kind, c.before.claim, c.after.claim) for c in found] == [
        ("renamed", "a", "x"), ("renamed", "z", "y")
    ]  # fmt: skip


def test_the_order_of_lines_gives_no_other_seeds_and_no_line_counts_twice():
    turned = registration.name_of(LOCK[::-1], "e")
    assert turned == registration.name_of(LOCK, "e")
    text = "".join(e.line() for e in LOCK)
    assert registration.parse(text.replace("\n", "\r\n")) == LOCK
    with pytest.raises(UserError, match="line 4 of claims.lock is damaged"):
        registration.parse(text + LOCK[1].line())


@pytest.fixture
def git(sandbox):
    """Git in the sandbox; `git.commit()` commits all that a project commits."""

    def run(*words):
        who = {f"GIT_{a}_{b}": "x" for a in ("AUTHOR", "COMMITTER")
               for b in ("NAME", "EMAIL")}  # fmt: skip
        subprocess.run(["git", *words], cwd=sandbox.root, check=True,
                       capture_output=True, env=sandbox.env(**who))  # fmt: skip

    def commit():
        run("add", "claims.lock", "experiments", "results", "middle.py", "deep.py")
        run("commit", "-m", "x")

    run.commit = commit
    return run


def test_a_threshold_that_moves_in_git_needs_a_history_entry(sandbox, git):
    assert sandbox("run", "line", "--jobs", 1).returncode == 0
    done = sandbox("lock")  # without git the lock alone is checked
    assert done.returncode == 0, done.stderr
    assert "has no history of its own" in done.stdout
    rows = sandbox.root / "results" / "reference" / "quick"
    rows.mkdir(parents=True)
    shutil.copy(sandbox.root / "results" / "quick" / "line.parquet", rows)
    git("init")
    git.commit()

    sandbox.edit("experiments/line.py", "above=1.9", "above=1.85")
    why = 'history=(("2026-11-30", "1.9 was a slip"),), reason='
    sandbox.edit("experiments/line.py", "reason=", why)
    done = sandbox("lock")
    assert done.returncode == 0, done.stderr
    git.commit()
    done = sandbox("lock", "--check")
    assert done.returncode == 0, done.stdout + done.stderr

    sandbox.edit("experiments/line.py", "above=1.85", "above=1.8")
    done = sandbox("lock", "--check")
    assert done.returncode == 1
    assert "line.slope: > 1.85 and < 2.1 became > 1.8 and < 2.1" in done.stdout
    assert "run `python -m symlab lock`" in done.stderr
    done = sandbox("lock")
    assert done.returncode == 1
    assert "say so in its `history` (not committed)" in done.stderr
    git.commit()
    done = sandbox("lock", "--check")  # it stays red, whatever follows
    assert done.returncode == 1
    assert "say so in its `history`" in done.stderr


@pytest.fixture
def history(tmp_path, monkeypatch):
    """A repository of locks; the rows of experiment e exist at some commits."""
    here, rows = project.Project(tmp_path), set()

    def run(*words):
        who = ["-c", "user.name=x", "-c", "user.email=x"]
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, check=True,
                              capture_output=True, text=True)  # fmt: skip
        return done.stdout.strip()

    def commit(lock, *, with_rows=False):
        text = lock if isinstance(lock, str) else "".join(e.line() for e in lock)
        registration.path(here).write_text(text)
        run("add", "claims.lock")
        run("commit", "-m", "x", "--allow-empty")
        if with_rows:
            rows.add(run("rev-parse", "HEAD"))

    def existed(project_, experiment, at):
        return "d1" if run("rev-parse", at) in rows else None

    monkeypatch.setattr(registration, "_rows", existed)
    run("init", "-b", "main")
    run.commit, run.audit = commit, lambda: registration.audit(here)
    return run


MOVED = changed(limits="> 1", digest="3")


def test_a_threshold_that_moved_on_a_merged_branch_is_seen(history):
    """At the merge's first parent there were no rows, and no claim."""
    history.commit([LOCK[0], LOCK[2]])
    history("checkout", "-b", "side")
    history.commit(LOCK)
    history.commit(LOCK, with_rows=True)
    history.commit(MOVED, with_rows=True)
    history("checkout", "main")
    history("merge", "--no-ff", "side", "-m", "x")
    (said,) = history.audit()
    assert said.startswith("e.a: > 0 became > 1 when rows existed")


def test_what_a_merge_takes_from_a_side_is_explained_there_and_nothing_else(history):
    history.commit(LOCK, with_rows=True)
    history("checkout", "-b", "side")
    history.commit(changed(limits="> 1", digest="3", changes=1), with_rows=True)
    history("checkout", "main")
    other = replace(LOCK[2], digest="7")
    history.commit([*LOCK[:2], other], with_rows=True)
    history("merge", "--no-ff", "-s", "ours", "side", "-m", "x")
    history.commit([*LOCK[:2], other])
    assert history.audit() == []
    history("reset", "--hard", "HEAD~2")
    history("merge", "--no-commit", "--no-ff", "-s", "ours", "side")
    history.commit([LOCK[0], MOVED[1], other])  # in the merge itself
    (said,) = history.audit()
    assert said.startswith("e.a: > 0 became > 1 when rows existed")


@pytest.mark.parametrize("between", ["", "damaged\n", "<<<<<<< HEAD\n"])
def test_a_missing_or_damaged_version_hides_nothing(history, between):
    history.commit(LOCK, with_rows=True)
    history.commit(between, with_rows=True)
    history.commit(MOVED, with_rows=True)
    (said,) = history.audit()
    assert said.startswith("e.a: > 0 became > 1 when rows existed")
