"""Confirmation runs on seeds that follow from the lock, and logs each draw."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from symlab.harness import (
    claim_tables,
    confirm,
    contract,
    pages,
    project,
    registration,
)
from symlab.harness.errors import UserError
from symlab.harness.registration import Entry

ROOT = Path(__file__).resolve().parents[1]
LOCK = [Entry("e", "(design)", "d"), Entry("e", "a", "1"), Entry("f", "a", "1")]


def test_seeds_follow_from_the_claims_of_the_experiment_alone():
    first = confirm.seed0(LOCK, "e", "quick")
    assert first >= confirm.FIRST
    assert first % confirm.STEP == 0
    assert confirm.FIRST + confirm.STEP * confirm.DRAWS < 2**31
    assert confirm.seed0(LOCK, "e", "smoke") != first
    assert confirm.seed0([*LOCK, Entry("f", "b", "2")], "e", "quick") == first
    assert confirm.seed0([*LOCK, Entry("e", "b", "2")], "e", "quick") != first


@pytest.mark.long
def test_every_sweep_has_fewer_seeds_than_two_draws_are_apart():
    here = project.find(ROOT)
    for name in contract.names(here):
        experiment = contract.load(here, name)
        for scale in ("smoke", "quick"):
            seeds = {c["seed"] for c in experiment.configs(scale).values()}
            assert max(seeds) < confirm.STEP


@pytest.fixture
def locked(sandbox):
    assert sandbox("run", "line", "--jobs", 1).returncode == 0
    assert sandbox("lock").returncode == 0
    return sandbox


def log(sandbox) -> list[list[str]]:
    file = sandbox.root / "results" / "reference" / "confirm" / "confirmations.log"
    return [line.split("\t") for line in file.read_text().splitlines()]


def test_verdicts_are_compared_and_each_draw_is_logged(locked):
    assert "to run: 12" in locked("confirm", "--dry-run").stdout
    done = locked("confirm", "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert "equal    slope: held" in done.stdout
    assert "of 1 verdicts: 1 equal, 0 differs, 0 no rows" in done.stdout
    rows = locked.rows()
    first = confirm.seed0(
        registration.parse((locked.root / "claims.lock").read_text()), "line", "quick"
    )
    assert sorted(set(rows.seed)) == [0, 1, 2, 3, *range(first, first + 4)]
    table = pd.read_csv(locked.root / "results/reference/confirm/quick.csv")
    (row,) = table.itertuples()
    assert (row.before, row.confirmation, row.agreement) == ("held", "held", "equal")
    assert row.value != row.confirmed_value
    assert row.n == row.confirmed_n == 4
    assert row.seed0 == first
    here = project.find(locked.root)
    shown = pages.confirmed_table(here, "quick")
    assert f"| line | {first} | 1 | 0 | 0 | as registered | 1 |" in shown
    assert "Not confirmed yet" not in shown
    assert "Not made yet" in pages.confirmed_table(here, "paper")
    assert [line[1:3] for line in log(locked)] == [["quick", "line"]] * 2
    assert [line[4:] for line in log(locked)] == [
        [str(first), "begun"],
        [str(first), "1 equal", "0 differs", "0 no rows"],
    ]
    done = locked("confirm")  # rows are kept, and the same draw is no other draw
    assert "nothing to run" in done.stdout
    assert len(log(locked)) == 2
    locked.edit("experiments/line.py", "above=1.9", "above=2.05")
    done = locked("confirm")
    assert done.returncode == 2
    assert "claims.lock is not of the claims as they stand (line.slope" in done.stderr
    locked("lock")
    shown = pages.confirmed_table(here, "quick")
    assert f"| line | {first} | 1 | 0 | 0 | changed since |" in shown
    done = locked("confirm")
    assert done.returncode == 0, done.stderr
    assert "this is draw 2 of seeds for line" in done.stdout
    drawn = [fields[4] for fields in log(locked)]
    assert drawn[:2] == [str(first)] * 2
    assert drawn[2] == drawn[3] != str(first)
    assert "| as registered | 2 |" in pages.confirmed_table(here, "quick")
    line = locked.root / "experiments" / "line.py"
    line.with_name("other.py").write_text(line.read_text())
    shown = pages.confirmed_table(here, "quick")
    assert shown.endswith("\nNot confirmed yet: other.\n")


def test_a_draw_is_logged_before_anybody_can_look_at_it(locked):
    assert locked("confirm", "--dry-run").returncode == 0
    assert not (locked.root / "results" / "reference").exists()
    run = "def run(configs):\n"
    locked.edit("experiments/line.py", run, run + "    1 / 0\n")
    done = locked("confirm", "--jobs", 1)
    assert done.returncode != 0
    assert [fields[5:] for fields in log(locked)] == [["begun"]]
    here = project.find(locked.root)
    assert confirm.draws(here, "quick", "line") == 1


def test_a_line_that_left_the_log_is_missed(tmp_path):
    here = project.Project(tmp_path)
    lines = ["day\tquick\te\thash\t1000000\tbegun\n", "day\tquick\tf\tg\t1\tbegun\n"]
    file = confirm.log_file(here, "quick")
    file.parent.mkdir(parents=True)

    def git(*words):
        who = ["-c", "user.name=x", "-c", "user.email=x"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True,
                       capture_output=True)  # fmt: skip

    git("init")
    assert confirm.lost(here, "quick") == []
    for text in ("".join(lines), lines[1]):
        file.write_text(text)
        git("add", ".")
        git("commit", "-m", "x")
    (said,) = confirm.lost(here, "quick")
    assert said == (
        "confirmations.log lost a draw of seeds for e: day quick e hash 1000000 begun"
    )
    file.write_text("".join(reversed(lines)))
    assert confirm.lost(here, "quick") == []
    file.write_text(lines[0] + "day\tquick\te\n")  # damaged
    assert confirm.draws(here, "quick", "e") == 1


def test_no_draw_left_the_log():
    try:
        lost = confirm.lost(project.find(ROOT), "quick")
    except UserError as error:
        pytest.skip(str(error))
    assert not lost


def test_differences_are_marked_and_the_placebo_audit_has_every_claim(locked):
    line = locked.root / "experiments" / "line.py"
    line.write_text(
        line.read_text()
        + "\n\ndef early(df):\n    return stats.mean((df.seed < 10) * 1.0 + df.y * 0)"
        + "\n\n\ndef size(df):\n    return stats.worst(df.x)\n\n\n"
        + 'CLAIMS += [Claim("early", "Seeds are below 10.", estimate=early, above=0.9,'
        + 'reason="r"), Claim("size", "x is below 4.", estimate=size, below=4.0,'
        + 'reason="r")]\n'
    )
    assert locked("lock").returncode == 0
    done = locked("confirm")
    assert done.returncode == 0, done.stderr
    assert "DIFFERS  early: held" in done.stdout
    assert "confirmation: failed 0" in done.stdout
    assert done.stdout.count(confirm.SAME) == 1
    assert "of 3 verdicts: 2 equal, 1 differs, 0 no rows" in done.stdout
    shown = pages.confirmed_table(project.find(locked.root), "quick")
    assert "| line | `early` | > 0.9 | held: 1 [1, 1], n=12 | failed: 0" in shown
    done = locked("placebo")
    assert done.returncode == 0, done.stderr
    assert "wrote results/reference/placebo/quick.csv" in done.stdout
    here = project.find(locked.root)
    table = claim_tables.read(here, "placebo", "quick")
    assert table.claim.tolist() == ["early", "size", "slope"]
    assert "`slope`" in pages.placebo_table(here, "quick")


def test_a_table_is_renewed_experiment_by_experiment(tmp_path):
    here = project.Project(tmp_path)

    def written(**values):
        claim_tables.write(here, "confirm", "quick", pd.DataFrame([values]))
        return claim_tables.read(here, "confirm", "quick").to_dict("records")

    first = {"experiment": "b", "claim": "x", "value": float("inf")}
    assert written(**first) == [first]
    second = {"experiment": "a", "claim": "y", "value": 2.0}
    assert written(**second) == [second, first]
    assert written(**first | {"value": 1.0}) == [second, first | {"value": 1.0}]


def confirmed(names: str, folder: Path) -> str:
    """The output of `make confirm SCALE=smoke` with results in a folder."""
    done = subprocess.run(
        ["make", "VENV=", f"PYTHON={sys.executable}", "confirm", "SCALE=smoke",
         "JOBS=1", f"NAMES={names}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"SYMLAB_RESULTS": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_confirm_at_smoke_scale(tmp_path):
    found = confirmed("fig1 stationary_sets", tmp_path)
    assert "no rows  " in found  # no sweep at smoke scale on the usual seeds
    assert "error" not in found
    assert (tmp_path / "smoke" / "confirm" / "smoke.csv").is_file()


@pytest.mark.long
def test_make_confirm_at_smoke_scale_of_everything(tmp_path):
    """Of everything that can run here: one experiment needs logs, two a package."""
    here = project.find(ROOT)
    names = [n for n in contract.names(here) if not contract.load(here, n).lacks]
    assert len(names) >= len(contract.names(here)) - 3
    confirmed(" ".join(names), tmp_path)
    table = pd.read_csv(tmp_path / "smoke" / "confirm" / "smoke.csv")
    assert set(table.experiment) == set(names)


def test_a_claim_says_how_it_came_out_on_unseen_seeds(locked):
    said = locked("claims", "line.slope").stdout
    assert "\non unseen seeds: not judged\n" in said
    assert locked("confirm", "--jobs", 1).returncode == 0
    said = locked("claims", "line.slope").stdout
    assert re.search(r"\non unseen seeds: held, [12].* \[.*\], n=4", said)
    file = locked.root / "results" / "reference" / "confirm" / "quick.csv"
    file.write_text(file.read_text().replace("> 1.9 and < 2.1", "> 1.8"))
    said = locked("claims", "line.slope").stdout
    assert "\non unseen seeds: judged with other thresholds, > 1.8: held\n" in said
