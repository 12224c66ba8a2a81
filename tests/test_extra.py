"""An experiment whose extra is not installed is named, and its rows can be judged."""

import shutil

ABSENT = 'EXTRA = ("lm", "a_package_that_is_not_there")\n\n\n@dataclass'
SAID = "needs the extra lm (a_package_that_is_not_there not installed): `make lm`"


def without_the_extra(sandbox):
    sandbox.edit("experiments/line.py", "@dataclass", ABSENT)


def test_nothing_runs_and_one_sentence_says_what_to_install(sandbox):
    without_the_extra(sandbox)
    done = sandbox("fig", "line")
    assert done.returncode == 1  # it was asked for, and is not drawn
    assert f"not run: line {SAID}" in done.stdout
    assert f"line is not drawn: line {SAID}" in done.stdout
    assert not (sandbox.root / "figures").exists()
    status = sandbox("status")
    assert status.returncode == 0
    assert SAID in status.stdout
    claims = sandbox("claims")
    assert claims.returncode == 0
    assert f"not judged: line {SAID}" in claims.stdout


def test_other_figures_go_on(sandbox):
    text = (sandbox.root / "experiments" / "line.py").read_text()
    sandbox.write("experiments/other.py", text.replace('"line"', '"other"'))
    without_the_extra(sandbox)
    done = sandbox("fig", "line", "other")
    assert done.returncode == 0, done.stdout
    assert SAID in done.stdout
    assert (sandbox.root / "figures" / "other.png").exists()
    assert not (sandbox.root / "figures" / "line.png").exists()


def test_committed_rows_are_judged_and_drawn(sandbox):
    assert sandbox("run", "line").returncode == 0
    committed = sandbox.root / "results" / "reference" / "quick"
    committed.mkdir(parents=True)
    shutil.move(sandbox.root / "results" / "quick" / "line.parquet", committed)
    without_the_extra(sandbox)
    done = sandbox("fig", "line")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 fresh" in done.stdout
    assert "held" in done.stdout
    assert (sandbox.root / "figures" / "line.png").exists()
    again = sandbox("fig", "line", "--fresh")  # cannot be run again
    assert "12 fresh" in again.stdout
