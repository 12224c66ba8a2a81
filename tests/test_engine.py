"""The command line on a small project: what runs, what does not, what survives."""

import os
import resource
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from symlab.harness import contract, plan, plot
from symlab.harness.errors import UserError
from symlab.harness.project import Project
from symlab.harness.store import Store
from tests.conftest import SIMPLE

RESULTS = ["key", "x", "seed", "y", "status"]


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[RESULTS].sort_values("key").reset_index(drop=True)


def test_from_nothing_to_a_figure_and_again(sandbox):
    first = sandbox("fig", "line")
    assert first.returncode == 0, first.stderr
    assert "12 missing" in first.stdout
    assert "held" in first.stdout
    png = (sandbox.root / "figures" / "line.png").read_bytes()
    pdf = (sandbox.root / "figures" / "line.pdf").read_bytes()
    before = sandbox.rows()
    again = sandbox("fig", "line")
    assert again.returncode == 0
    assert "12 fresh" in again.stdout
    assert "up to date" in again.stdout
    pd.testing.assert_frame_equal(before, sandbox.rows())
    for kind in ("pdf", "png"):
        (sandbox.root / "figures" / f"line.{kind}").unlink()
    assert "drew" in sandbox("fig", "line", PYTHONHASHSEED="7").stdout
    assert (sandbox.root / "figures" / "line.png").read_bytes() == png
    assert (sandbox.root / "figures" / "line.pdf").read_bytes() == pdf
    for kind in ("pdf", "png", "json"):
        whence = sandbox("whence", f"figures/line.{kind}").stdout
        assert "12 runs" in whence
        assert "line.slope" in whence


def test_jobs_and_lanes_do_not_change_rows(sandbox):
    sandbox("run", "line", "--jobs", 1)
    one = comparable(sandbox.rows())
    sandbox("run", "line", "--jobs", 2, SYMLAB_RESULTS=str(sandbox.root / "two"))
    two = pd.read_parquet(sandbox.root / "two" / "quick" / "line.parquet")
    pd.testing.assert_frame_equal(one, comparable(two))
    assert two.lanes.max() > 1
    sandbox.edit("experiments/line.py", "LANES = 4", "LANES = 1")
    sandbox("run", "line", "--fresh", SYMLAB_RESULTS=str(sandbox.root / "three"))
    three = pd.read_parquet(sandbox.root / "three" / "quick" / "line.parquet")
    pd.testing.assert_frame_equal(one, comparable(three))
    assert three.lanes.max() == 1


@pytest.mark.parametrize("backend", ["dask"])
def test_other_backends(sandbox, backend):
    if backend == "dask":
        pytest.importorskip("distributed")
    done = sandbox("run", "line", "--backend", backend)
    assert done.returncode == 0, done.stderr
    assert len(sandbox.rows()) == 12


def test_an_edit_two_modules_away_is_named_and_reverting_is_free(sandbox):
    sandbox("run", "line")
    sandbox.edit("deep.py", "2.0", "2.0 + 0")
    plan = sandbox("run", "line", "--dry-run").stdout
    assert "12 stale" in plan
    assert "stale because of deep:factor" in plan
    assert sandbox("run", "line").returncode == 0
    assert len(sandbox.rows()) == 24
    sandbox.edit("deep.py", "2.0 + 0", "2.0")
    assert "everything is fresh" in sandbox("run", "line").stdout
    assert len(sandbox.rows()) == 24


def test_editing_draw_runs_nothing_and_draws_again(sandbox):
    sandbox("fig", "line")
    sandbox.edit("experiments/line.py", 'label="y"', 'label="why"')
    done = sandbox("fig", "line").stdout
    assert "everything is fresh" in done
    assert "drew" in done


def test_the_form_for_a_column_lies_beside_the_other_and_says_how_it_was_made(sandbox):
    sandbox("fig", "line")
    done = sandbox("fig", "line", "--column").stdout
    assert "everything is fresh" in done
    figures = sandbox.root / "figures"
    assert "drew figures/line.column.pdf" in done
    assert (figures / "line.png").exists()
    record = plot.provenance(figures / "line.column.json")
    assert record["command"] == "make line SCALE=quick COLUMN=1"
    assert "up to date" in sandbox("fig", "line", "--column").stdout


def test_seed0_runs_unseen_seeds_beside_the_others(sandbox):
    sandbox("fig", "line")
    assert sandbox("fig", "line", "--seed0", 1000).returncode == 0
    rows = sandbox.rows()
    assert len(rows) == 24
    assert set(rows.seed) == {0, 1, 2, 3, 1000, 1001, 1002, 1003}
    assert (sandbox.root / "figures" / "line.seed1000.pdf").exists()


# --- failures ------------------------------------------------------------------------

BROKEN = SIMPLE.replace(
    "    return [{",
    "    import math\n"
    "    if any(c.x == 2 and c.seed == 1 for c in configs) and {bad}:\n"
    "        {action}\n"
    "    return [{",
)


def broken(action: str, bad: str = "not __import__('os').path.exists('mended')"):
    return BROKEN.replace("{bad}", bad).replace("{action}", action)


def test_a_run_that_raises_is_a_row_and_only_it_is_tried_again(sandbox):
    sandbox.write("experiments/line.py", broken("raise RuntimeError('no such luck')"))
    done = sandbox("fig", "line")
    assert done.returncode == 1
    assert "no such luck" in done.stderr
    assert "not drawn" in done.stdout
    rows = sandbox.rows()
    assert list(rows[rows.status == "failed"].x) == [2.0]
    assert "no such luck" in rows[rows.status == "failed"].error.iloc[0]
    assert (rows.status == "ok").sum() == 11
    partial = sandbox("fig", "line", "--partial")
    assert "drew" in partial.stdout
    assert (sandbox.root / "figures" / "line.png").exists()
    before = sandbox.rows()
    sandbox.write("mended", "")
    again = sandbox("fig", "line")
    assert "to run: 1," in again.stdout
    assert again.returncode == 0
    after = sandbox.rows()
    assert len(after) == 12
    good = before[before.status == "ok"].set_index("key").finished
    assert (after.set_index("key").finished[good.index] == good).all()


def test_fresh_runs_that_fail_lose_no_row(sandbox):
    sandbox.write("experiments/line.py", broken("raise OSError('gone')", "fail()"))
    text = (sandbox.root / "experiments" / "line.py").read_text()
    fail = "def fail():\n    return __import__('os').path.exists('broken')\n\n\n"
    sandbox.write("experiments/line.py", text.replace("def run(", fail + "def run("))
    assert sandbox("run", "line").returncode == 0
    before = sandbox.rows()
    sandbox.write("broken", "")
    done = sandbox("run", "line", "--fresh", "--only", "x == 2 and seed == 1")
    assert done.returncode == 1
    assert "gone" in done.stderr
    pd.testing.assert_frame_equal(before, sandbox.rows())
    assert "everything is fresh" in sandbox("run", "line").stdout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed=range(4)", "seed=[2**63]", "'seed' holds an int outside"),
        ("x: float = 1.0", "x: str = '\\ud800'", "'x' holds a text with a lone"),
    ],
)
def test_configs_that_cannot_be_stored_are_refused_first(sandbox, old, new, message):
    sandbox.edit("experiments/line.py", old, new)
    sandbox.edit("experiments/line.py", "x=[1.0, 2.0, 3.0], ", "")
    sandbox.edit("experiments/line.py", "return [{", "print('ran')\n    return [{")
    done = sandbox("run", "line")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "ran" not in done.stdout


DIVERGES = (
    "return [{'y': math.inf if c.x == 2 and c.seed == 1 else 2 * c.x} for c in configs]"
)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (DIVERGES, "diverged: y not finite"),
        (
            DIVERGES.replace("math.inf", "2.0").replace(
                "'y'", "'diverged_at': 7 if c.x == 2 and c.seed == 1 else -1, 'y'"
            ),
            "diverged at step 7",
        ),
        (DIVERGES.replace("math.inf", "'text'"), "return one type"),
        (DIVERGES.replace("math.inf", "None"), "return int, float, bool, str"),
        ("return []", "run returned 0 rows for 1 configs"),
        (DIVERGES.replace("math.inf", "2**70"), "cannot be stored"),
        (DIVERGES.replace("math.inf", "chr(0xd800)"), "cannot be stored"),
        (
            DIVERGES.replace("'y'", "7 if c.x == 2 and c.seed == 1 else 'y'"),
            "a result is named 7",
        ),
        (
            DIVERGES.replace(
                "'y'", "'lanes' if c.x == 2 and c.seed == 1 else 'y'"
            ).replace("math.inf", "2.0"),
            "columns already",
        ),
        ("raise SystemExit('boo')", "SystemExit: boo"),
        ("return {}", "run returned dict for 1 configs"),
        (
            DIVERGES.replace(
                "{'y': math", "{'x': 1.0} if c.x == 2 and c.seed == 1 else {'y': math"
            ),
            "columns already",
        ),
    ],
)
def test_bad_results_are_one_failed_row(sandbox, action, message):
    sandbox.write("experiments/line.py", broken(action))
    # One worker: of rows whose types differ, those that come first are kept.
    done = sandbox("run", "line", "--jobs", 1)
    assert done.returncode == 1
    assert message in done.stderr
    rows = sandbox.rows()
    assert (rows.status == "failed").sum() == 1
    assert rows[rows.status == "failed"].seed.tolist() == [1]
    assert len(rows) == 12


def test_a_worker_that_is_killed_costs_only_its_own_run(sandbox):
    sandbox.write("experiments/line.py", broken("__import__('os')._exit(9)"))
    done = sandbox("run", "line")
    assert done.returncode == 1
    rows = sandbox.rows()
    assert (rows.status == "ok").sum() == 11
    assert "process died" in rows[rows.status == "failed"].error.iloc[0]


SLOW = SIMPLE.replace(
    "    return [{", "    __import__('time').sleep(0.25)\n    return [{"
).replace("LANES = 4", "LANES = 1")


def wait_for_rows(sandbox, n: int) -> None:
    parts = sandbox.root / "results" / "quick" / ".line.parts"
    until = time.monotonic() + 60
    while len(list(parts.glob("[0-9]*.parquet"))) < n:
        assert time.monotonic() < until, "no rows appeared"
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killing_the_sweep_keeps_what_finished(sandbox, how):
    sandbox.write("experiments/line.py", SLOW)
    process = sandbox.start("run", "line")
    wait_for_rows(sandbox, 4)
    os.killpg(process.pid, how)
    _, errors = process.communicate(timeout=60)
    plan = sandbox("run", "line", "--dry-run").stdout
    assert " fresh" in plan
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "are kept" in errors
        assert "Traceback" not in errors
    fresh = int(plan.split(" fresh")[0].split()[-1])
    assert fresh >= 4
    done = sandbox("run", "line")
    assert done.returncode == 0
    assert f"to run: {12 - fresh}," in done.stdout
    rows = sandbox.rows()
    assert len(rows) == 12
    assert rows.key.is_unique


def test_two_sweeps_at_once_leave_each_run_once(sandbox):
    sandbox.write("experiments/line.py", SLOW.replace("0.25", "0.05"))
    both = [sandbox.start("fig", "line") for _ in range(2)]
    for process in both:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    rows = sandbox.rows()
    assert len(rows) == 12
    assert rows.key.is_unique


# --- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fig", "lnie"], "did you mean line?"),
        (["run", "lin"], "did you mean line?"),
        (["fig", "line", "--scale", "quik"], "did you mean quick?"),
        (["run", "line", "--only", "x <"], "cannot read the query 'x <'"),
        (["run", "line", "--only", "z > 1"], "the fields are seed, x"),
        (["run", "line", "--only", "x > 99"], "selects no run"),
        (["run", "line", "--jobs", "0"], "not a number of workers"),
        (["run", "line", "--timeout", "0"], "'0' is not a number of seconds"),
        (["run", "line", "--backend", "spark"], "unknown backend 'spark'"),
        (["run", "line", "--backend", "spark", "--jobs", "1"], "unknown backend"),
        (["run", "line", "--backend", "threading"], "use joblib, dask, ray"),
        (["run", "line", "--only", "seed"], "not a condition: seed"),
        (["run", "line", "--device", "tpu"], "use cpu or cuda"),
        (["run", "line", "--seed0", str(2**70)], "'seed' holds an int outside"),
        (["status", "--seed0", str(2**70)], "'seed' holds an int outside"),
        (["run", "line", "--seed0", "2**70"], "invalid int value: '2**70'"),
        (["whence", "figures/none.pdf"], "there is no file"),
        (["whence", "deep.py"], "says nothing of its origin"),
    ],
)
def test_bad_words_get_one_sentence(sandbox, words, message):
    done = sandbox(*words)
    assert done.returncode not in (0, 1)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("x: float", "x: list", "'x' has the unsupported type list"),
        ("x: float", "x: 'complex'", "'x' has the unsupported type"),
        ("x=[1.0", "x=['1.0'", "'x' is declared float and holds '1.0'"),
        ("x=[1.0", "x=[float('nan')", "not NaN"),
        ("    seed: int = 0", "    sed: int = 0", "needs a field `seed: int`"),
        ("    x: float", "    wall_s: float = 0\n    x: float", "rename the config"),
        ("LANES = 4", "STATIC = ('q',)", "STATIC names unknown fields ['q']"),
        ("def run(", "def ran(", "lacks run"),
        ("def run(", "def run((", "line.py line"),
        ("from middle", "import nosuch\nfrom middle", "No module named 'nosuch'"),
        ("frozen=True", "frozen=False", "must be a frozen dataclass"),
        ("seed: int = 0", "seed: float = 0.0", "needs a field `seed: int`"),
        ("x=[1.0, 2.0, 3.0]", "x=[]", "the sweep is empty"),
    ],
)
def test_bad_experiment_files_get_one_sentence(sandbox, old, new, message):
    sandbox.edit("experiments/line.py", old, new)
    done = sandbox("run", "line")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("LANEZ = 5", "LANES"),
        ("STATICS = ('x',)", "STATIC"),
        ("DEVICE: tuple = ('cpu', 'cuda')", "DEVICES"),
        ("MAYBE_NAN = ('y',)", "MAY_BE_NAN"),
        ("Datas = ('x.csv',)", "DATA"),
    ],
)
def test_a_misspelt_name_of_the_contract_is_said(sandbox, line, meant):
    sandbox.edit("experiments/line.py", "LANES = 4", line)
    project, name = Project(sandbox.root), line.split()[0].strip(":")
    with pytest.raises(UserError, match=f"line 6: nothing reads {name}: write {meant}"):
        contract.load(project, "line")
    text = (sandbox.root / "experiments" / "line.py").read_text()
    sandbox.write("experiments/line.py", f"{text}\n\nOTHER = {name}\n")  # it is read
    assert contract.load(project, "line").lanes == 1


def test_a_mistake_at_import_is_reported_where_it_is(sandbox):
    sandbox.edit("experiments/line.py", 'reason="noise of 1 %", ', "")
    done = sandbox("run", "line")
    assert done.returncode == 2
    assert "line.py line 35: ValueError: claim 'slope' needs `reason`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_in_draw_is_reported_where_it_is(sandbox):
    sandbox.edit("experiments/line.py", '"x", "y", label', '"x", "z", label')
    done = sandbox("fig", "line")
    assert done.returncode == 2
    assert "line cannot be drawn: line.py line 28: ValueError: Could" in done.stderr
    assert done.stderr.count("cannot be drawn") == 1
    assert "Traceback" not in done.stderr
    assert len(sandbox.rows()) == 12
    assert "Traceback" in sandbox("fig", "line", SYMLAB_TRACEBACK="1").stderr


def test_fresh_runs_that_are_run_again_are_not_called_missing(sandbox):
    sandbox("run", "line")
    said = sandbox("run", "line", "--fresh", "--dry-run").stdout
    assert "line (quick): 12 fresh (run again)\n" in said
    assert "to run: 12," in said


def test_the_time_of_a_run_is_that_of_the_fastest_with_equal_fields(sandbox):
    """The machine of the other rows was busy; seeds alone make no run longer."""
    project = Project(sandbox.root)
    first = plan.make(project, "line", "quick")
    assert not first.seconds
    committed = Store(project.reference / "quick", "line")
    about = {"code": first.code, "status": "ok", "error": "", "lanes": 1}
    rows = [
        {"key": k, **c, **about, "wall_s": 10.0 * c["x"] * (1 + c["seed"]), "y": 0.0}
        for k, c in first.configs.items()
    ]
    committed.write_part(rows, {first.code: first.manifest})
    made = plan.make(project, "line", "quick")
    assert {made.seconds[k] / c["x"] for k, c in made.configs.items()} == {10.0}
    assert made.eta == 4 * (10.0 + 20.0 + 30.0)
    elsewhere = "if this machine is as fast as that of the committed rows was"
    assert f"about 2 min with 2 workers, {elsewhere}" in plan.summary([made], 2)
    rows = [r | {"wall_s": 1.0} for r in rows[:1]]
    made.store.write_part(rows, {first.code: first.manifest})
    assert elsewhere not in plan.summary([plan.make(project, "line", "quick")], 2)


def test_rows_are_made_once_and_anew_when_the_file_changed(sandbox):
    sandbox("run", "line")
    made = plan.make(Project(sandbox.root), "line", "quick")
    first = made.rows()
    first["extra"], first["y"] = 1, 0.0
    again = made.rows()
    assert "extra" not in again
    assert (again.y != 0).all(), "what one caller changes, another sees"
    (row,) = made.store.read().slice(0, 1).to_pylist()
    made.store.write_part([row | {"y": 9.0}], {})
    assert made.rows().set_index("key").y[row["key"]] == 9.0
    assert len(made.rows()) == 12


def test_a_claim_that_fails_says_what_was_measured(sandbox):
    sandbox.edit("experiments/line.py", "def slope(df):", 'def slope(df):\n    "y / x"')
    sandbox.edit("experiments/line.py", "above=1.9", "above=2.05")
    assert "measured: y / x" in sandbox("fig", "line").stdout


# --- streams and limits --------------------------------------------------------------


def redirected(sandbox, how: str):
    """`symlab run line` with its streams redirected by a shell."""
    return subprocess.run(
        f"'{sys.executable}' -m symlab run line --jobs 1 {how}",
        shell=True,
        cwd=sandbox.root,
        env=sandbox.env(),
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("how", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stop_nothing(sandbox, how):
    done = redirected(sandbox, how)
    assert done.returncode == 0, done.stderr
    assert len(sandbox.rows()) == 12


@pytest.mark.parametrize(
    ("how", "why"), [(">/dev/full", "No space left"), ("| true", "Broken pipe")]
)
def test_output_that_cannot_be_written_is_one_sentence(sandbox, how, why):
    done = redirected(sandbox, how)
    assert done.stderr.startswith(f"symlab: the output cannot be written ({why}")
    assert done.stderr.count("\n") == 1
    if "|" not in how:  # else it is the status of `true`
        assert done.returncode == 2


def test_a_limit_of_file_sizes_is_one_sentence(sandbox):
    done = subprocess.run(
        [sys.executable, "-m", "symlab", "run", "line", "--jobs", "2"],
        cwd=sandbox.root,
        env=sandbox.env(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    folder = sandbox.root / "results" / "quick" / ".line.parts"
    assert done.stderr.startswith(f"symlab: cannot write {folder} (File too large): ")
    assert done.stderr.count("\n") == 1


def test_a_damaged_results_file_is_done_again(sandbox):
    sandbox("run", "line")
    file = sandbox.root / "results" / "quick" / "line.parquet"
    file.write_bytes(file.read_bytes()[:500])
    done = sandbox("run", "line")
    assert done.returncode == 0
    assert "is damaged" in done.stderr
    assert len(sandbox.rows()) == 12
    assert list(file.parent.glob("line.damaged-*"))


def test_an_output_folder_that_cannot_be_written(sandbox):
    sandbox.write("blocked", "a file where a folder should be")
    done = sandbox("run", "line", SYMLAB_RESULTS=str(sandbox.root / "blocked"))
    assert done.returncode == 2
    assert "SYMLAB_RESULTS" in done.stderr
    assert "Traceback" not in done.stderr
    done = sandbox("fig", "line", SYMLAB_FIGURES=str(sandbox.root / "blocked"))
    assert done.returncode == 2
    assert "SYMLAB_FIGURES" in done.stderr
    assert len(sandbox.rows()) == 12


def test_a_claim_that_fails_is_shown_as_failed(sandbox):
    sandbox.edit("experiments/line.py", "above=1.9, below=2.1", "above=2.5")
    done = sandbox("fig", "line")
    assert done.returncode == 1
    assert "FAILED" in done.stdout
    assert "expected held" in done.stdout
    assert "drew" in done.stdout
    sandbox.edit(
        "experiments/line.py", "above=2.5", 'above=2.5, expected="failed", because="x"'
    )
    assert sandbox("fig", "line").returncode == 0


def test_a_query_leaves_the_figure_undrawn_unless_asked(sandbox):
    done = sandbox("fig", "line", "--only", "seed < 2")
    assert done.returncode == 1
    assert "not drawn" in done.stdout
    assert len(sandbox.rows()) == 6
    assert "drew" in sandbox("fig", "line", "--only", "seed < 2", "--partial").stdout


def test_a_mistake_in_a_helper_is_reported_where_it_is(sandbox):
    sandbox.write("deep.py", "def factor(:\n")
    done = sandbox("run", "line")
    assert done.returncode == 2
    assert "deep.py line 1 is not Python" in done.stderr


def test_parts_left_by_a_kill_are_packed_by_the_next_call(sandbox):
    sandbox("run", "line")
    file = sandbox.root / "results" / "quick" / "line.parquet"
    file.rename(file.parent / ".line.parts" / "1-1-1.parquet")  # as before packing
    assert "everything is fresh" in sandbox("run", "line").stdout
    assert len(sandbox.rows()) == 12


def loaded(sandbox) -> pd.DataFrame:
    """What symlab.load gives, by way of a file."""
    script = "import symlab; symlab.load('line').to_pickle('loaded.pickle')"
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=sandbox.root,
        env=sandbox.env(),
        check=True,
    )
    return pd.read_pickle(sandbox.root / "loaded.pickle")


def test_a_result_may_change_its_type_with_the_code(sandbox):
    sandbox("run", "line")
    before = loaded(sandbox)
    sandbox.edit("experiments/line.py", '{"y": scale', '{"y": "text", "z": scale')
    done = sandbox("run", "line")
    assert done.returncode == 0, done.stderr
    assert set(loaded(sandbox).y) == {"text"}
    both = sandbox.rows()
    assert both.y.notna().sum() == both["y (string)"].notna().sum() == 12
    sandbox.edit("experiments/line.py", '{"y": "text", "z": scale', '{"y": scale')
    assert "everything is fresh" in sandbox("run", "line").stdout
    pd.testing.assert_frame_equal(before, loaded(sandbox))


def test_a_config_field_may_change_its_type_and_back(sandbox):
    sandbox("run", "line")
    before = loaded(sandbox)
    edits = [("x: float = 1.0", "x: str = ''"), ("[1.0, 2.0, 3.0]", "['1', '2', '3']")]
    edits += [("scale(c.x)", "scale(float(c.x))")]
    for old, new in edits:
        sandbox.edit("experiments/line.py", old, new)
    done = sandbox("run", "line")
    assert done.returncode == 0, done.stderr
    assert sorted(set(loaded(sandbox).x)) == ["1", "2", "3"]
    assert "x (string)" in sandbox.rows()
    for old, new in edits:
        sandbox.edit("experiments/line.py", new, old)
    assert "everything is fresh" in sandbox("run", "line").stdout
    pd.testing.assert_frame_equal(before, loaded(sandbox))
    sandbox.edit("experiments/line.py", "x: float = 1.0", "x: int = 1")
    sandbox.edit("experiments/line.py", "[1.0, 2.0, 3.0]", "[1, 2, 3]")
    assert sandbox("run", "line").returncode == 0
    assert loaded(sandbox).x.dtype == int


def test_two_panels_cannot_share_a_place(sandbox):
    sandbox.write("experiments/other.py", SIMPLE)
    done = sandbox("fig", "line")
    assert done.returncode == 2
    assert "its own panel" in done.stderr


def test_a_partial_figure_may_lack_a_whole_experiment(sandbox):
    sandbox.write(
        "experiments/other.py",
        SIMPLE.replace('@figure("line")', '@figure("line", row=1)').replace(
            "    return [{", "    raise ValueError('never')\n    return [{"
        ),
    )
    done = sandbox("fig", "line", "--partial")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "drew" in done.stdout


SESSION = """
import sys, symlab
from pathlib import Path
first = symlab.load("line")
jobs, file, old, new = int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
before = symlab.run("line", jobs=jobs)
file.write_text(file.read_text().replace(old, new))
after = symlab.run("line", jobs=jobs)
other = symlab.run("other", jobs=jobs)
print(before.y.mean() // 1, after.y.mean() // 1, other.y.mean() // 1)
assert symlab.claims("line").verdict.tolist() == ["failed"]
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_edit_within_a_session_is_what_runs(sandbox, jobs):
    """A notebook stays open while a module two steps away is edited."""
    sandbox.write(
        "experiments/other.py", SIMPLE.replace('figure("line")', 'figure("o")')
    )
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(jobs), "deep.py", "2.0", "5.0"],
        cwd=sandbox.root,
        env=sandbox.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["4.0", "10.0", "10.0"]


def test_claims_of_an_incomplete_sweep_are_undecided(sandbox):
    sandbox("run", "line", "--only", "seed < 2")
    script = "import symlab; print(symlab.claims('line').to_dict('records')[0])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=sandbox.root,
        env=sandbox.env(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'verdict': 'undecided'" in done.stdout
    assert "6 of 12 runs" in done.stdout
