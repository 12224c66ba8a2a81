"""The lock names what claims say, and shows a threshold that moved after rows."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from symlab.harness import Claim, project, registration, where
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
    ):
        assert registration.unexplained(LOCK, lock, rows.get) == []


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
