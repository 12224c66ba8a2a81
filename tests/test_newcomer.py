"""A newcomer's mistake is told in a sentence that names the place and the cure."""

import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from symlab.harness import (
    code,
    contract,
    crate,
    engine,
    estimates,
    faults,
    findings,
    panels,
    plot,
    report,
    where,
)
from symlab.harness.claims import Paper, Verdict, judge
from symlab.harness.errors import UserError
from symlab.harness.plan import make
from symlab.harness.project import Project
from symlab.harness.report_data import Looked
from tests.conftest import HOME, SIMPLE

LINE = "experiments/line.py"
DRAW = SIMPLE[SIMPLE.index('@figure("line")') : SIMPLE.index("def slope")]


def at(sandbox, words: str, name: str = LINE) -> str:
    """'line 7' of a file, the first that has these words."""
    lines = (sandbox.root / name).read_text().splitlines()
    return f"line {next(n for n, line in enumerate(lines, 1) if words in line)}"


def refused(sandbox) -> str:
    with pytest.raises(UserError) as caught:
        contract.load(Project(sandbox.root), "line").configs("quick")
    return str(caught.value)


# --- two things of one name


def test_two_claims_of_one_name_are_refused(sandbox):
    sandbox.edit(LINE, "CLAIMS = [Claim(", "CLAIMS = 2 * [Claim(")
    assert refused(sandbox).startswith("line.py: two claims are named 'slope'")
    done = sandbox("lock")
    assert done.returncode == 2
    assert "two claims are named 'slope'" in done.stderr
    assert not (sandbox.root / "claims.lock").exists()


def test_a_list_among_the_claims_is_refused(sandbox):
    sandbox.edit(LINE, "CLAIMS = [Claim(", "CLAIMS = [[]] + [Claim(")
    assert "CLAIMS holds a list where a Claim belongs; unpack a" in refused(sandbox)


def test_two_functions_that_draw_one_panel_are_refused_before_any_run(sandbox):
    second = DRAW.replace("def draw", "def draw_again")
    sandbox.edit(LINE, "def slope", f"{second}def slope")
    done = sandbox("fig", "line", "--dry-run")
    assert done.returncode == 2
    assert (
        "panel 'main' of figure 'line' is drawn twice, by draw in line.py "
        f"{at(sandbox, 'def draw(')} and by draw_again in line.py "
        f"{at(sandbox, 'def draw_again')}: give each"
    ) in done.stderr
    assert refused(sandbox).startswith("line.py: panel 'main' of figure 'line' is")
    sandbox.edit(LINE, f"{second}def slope", "def slope")
    assert not contract.collisions(Project(sandbox.root))


def test_a_draw_function_that_hides_another_is_refused(sandbox):
    second = DRAW.replace('figure("line")', 'figure("other")')
    sandbox.edit(LINE, "def slope", f"{second}def slope")
    first = int(at(sandbox, "def draw").split()[1])
    lines = f"(lines {first} and {first + 5})"
    assert f"two draw functions are named 'draw' {lines}" in refused(sandbox)


@pytest.mark.parametrize("mark", ['@figure("line")', '@h.figure(name="line", row=0)'])
def test_a_figure_name_of_two_files_is_refused_before_any_run(sandbox, mark):
    other = SIMPLE.replace('@figure("line")', mark)
    sandbox.write("experiments/other.py", f"{other}\nimport symlab.harness as h\n")
    line = at(sandbox, "def draw")
    sentence = (
        f"panel 'main' of figure 'line' is drawn twice, by draw in line.py {line} and "
        f"by draw in other.py {line}: give each @figure its own panel, row or name"
    )
    for words in (["fig", "line", "--dry-run"], ["fig", "line"], ["status"]):
        done = sandbox(*words)
        assert done.returncode == 2
        assert sentence in done.stderr
    assert not (sandbox.root / "results").exists()
    sandbox.edit("experiments/other.py", mark, '@figure("line", row=1)')
    assert sandbox("fig", "line", "--dry-run").returncode == 0


# --- a file of one law, three claims and one figure


def test_a_small_experiment_is_a_short_file(sandbox):
    law = Path(__file__).with_name("newcomer_law.py")
    assert len(law.read_text().splitlines()) < 70
    ruff = [sys.executable, "-m", "ruff", "format", "--check", str(law)]
    assert subprocess.run(ruff, cwd=HOME, check=False).returncode == 0
    sandbox.write("experiments/newcomer_law.py", law.read_text())
    done = sandbox("fig", "newcomer_law", "--scale", "smoke", "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n  held") == 3
    assert "80 of 80 runs" in done.stdout


def test_a_paper_needs_no_more_than_its_name_and_number():
    paper = Paper("Doe 2025", arxiv="2501.00001")
    assert str(paper) == "Doe 2025 (arXiv 2501.00001)"
    assert crate._paper("#a", paper)["name"] == "Doe 2025"
    assert "author" not in crate._paper("#a", paper)
    claim = estimates.Claim("c", "s", paper=paper, estimate=where().mean("y"),
                            below=1, reason="r")  # fmt: skip
    looked = Looked("e", "t", "b", 1, 1, (Verdict("e", claim, "held", None),))
    page = report.page([looked], [], "quick")
    assert '<a href="https://arxiv.org/abs/2501.00001">Doe 2025</a>' in page


# --- code keys


ALIASED = (
    SIMPLE.replace(
        "from symlab.harness import Claim, figure, grid, plot, rng, stats",
        "from symlab import harness as h",
    )
    .replace("@figure", "@h.figure")
    .replace("Claim(", "h.Claim(")
    .replace("grid(", "h.grid(")
    .replace("rng.", "h.rng.")
    .replace("plot.", "h.plot.")
    .replace("stats.", "h.stats.")
)
ALIASED += (
    'PAPER = h.Paper("A 2024", "A", "T", 2024, "1")\n'
    'EVERY = h.where(x=1.0).where("y > 0")\n'
)
FREE = [
    ('label="y"', 'label="why"'),
    ('h.Paper("A 2024"', 'h.Paper("B 2024"'),
    ("h.where(x=1.0)", "h.where(x=2.0)"),
    ("above=1.9", "above=1.8"),
    ("seed=range(4)", "seed=range(5)"),
]


def reached(sandbox) -> dict[str, str]:
    return code.reach(sandbox.root, "experiments.line", ["run"]).definitions


@pytest.mark.parametrize(
    "line",
    ["from symlab import harness as h", "import symlab.harness as h"],
)
def test_the_harness_by_another_name_makes_no_more_rows_stale(sandbox, line):
    text = ALIASED.replace("from symlab import harness as h", line)
    sandbox.write(LINE, text)
    before = reached(sandbox)
    assert "experiments.line:draw" not in before
    for old, new in FREE:
        sandbox.write(LINE, text.replace(old, new))
        assert text.replace(old, new) != text
        assert reached(sandbox) == before, old
    sandbox.write(LINE, text.replace("0.01 *", "0.02 *"))
    assert code.changed(before, reached(sandbox)) == ["experiments.line:run"]
    # what `run` computes with counts, by whatever name
    drawn = "X = {}rng.stream(0, 'x').normal(size=3)\nX.sort()\n"
    for kind, prefix in ((text, "h."), (SIMPLE, "")):
        used = kind.replace("scale(c.x)", "X[0] + scale(c.x)")
        sandbox.write(LINE, used.replace("LANES", drawn.format(prefix) + "LANES"))
        first = reached(sandbox)
        sandbox.edit(LINE, "X.sort()\n", "")
        assert code.changed(first, reached(sandbox))


def test_a_change_of_the_order_of_imports_is_named_in_words(sandbox):
    sandbox.edit(
        LINE, "LANES = 4", "LANES = 4\nimport sys\nsys.setrecursionlimit(2000)"
    )
    before = reached(sandbox)
    for text in code.changed({code.ORDER: "1"}, {code.ORDER: "2"}):
        assert text == "what importing the files does, or its order"
    sandbox.edit(LINE, "limit(2000)", "limit(2001)")
    changed = code.changed(before, reached(sandbox))
    assert changed == ["experiments.line:top level"]


# --- mistakes in the file


def test_a_failed_run_names_its_line_and_one_cause_is_told_once(sandbox):
    sandbox.edit(LINE, "    return [{", "    1 / 0\n    return [{")
    done = sandbox("run", "line", "--jobs", 1)
    assert done.returncode == 1
    line = f"line.py {at(sandbox, '1 / 0')}: ZeroDivisionError: division by zero"
    assert f"12 of 12 runs failed, all with: {line}\n" in done.stderr
    assert done.stderr.count("ZeroDivisionError") == 1
    assert "results/quick/line.parquet holds the whole error" in done.stderr
    errors = set(sandbox.rows().error)
    assert all(e.startswith("Traceback") and e.endswith(line) for e in errors)


def test_causes_of_failed_runs_are_counted(sandbox):
    sandbox.edit("deep.py", "    return 2.0", "    return [][0]")
    sandbox.edit(LINE, "    return [{", "    assert configs[0].seed\n    return [{")
    done = sandbox("run", "line", "--jobs", 1)
    assert (
        "12 of 12 runs failed:\n    9 with: deep.py line 2: IndexError" in done.stderr
    )
    line = at(sandbox, "assert configs")
    assert f"    3 with: line.py {line}: AssertionError\n" in done.stderr


def test_an_estimate_names_the_line_of_the_file(sandbox):
    sandbox.edit(LINE, "slope,\n", "where().mean(lambda df: df.y),\n")
    sandbox.edit(LINE, "rng, stats", "rng, stats, where")
    line = at(sandbox, "lambda")
    assert f"line.py {line}: ValueError: <lambda> needs a doc" in refused(sandbox)


def test_a_line_of_the_user_is_named_also_where_symlab_lies_in_the_project(sandbox):
    text = "from symlab.harness import where\n\nwhere().mean(lambda df: 1)"
    source = compile(text, str(sandbox.root / LINE), "exec")
    with pytest.raises(UserError) as caught, faults.telling("it failed", Path("/")):
        exec(source, {})
    assert str(caught.value).startswith("it failed: line.py line 3: ValueError: <lamb")


def test_an_import_that_fails_names_file_and_line(sandbox):
    sandbox.edit("middle.py", "from deep import factor", "\nfrom deep import fctor")
    assert "middle.py line 2: ImportError: cannot import name" in refused(sandbox)


def test_an_error_in_a_panel_names_the_file_of_the_panel(sandbox):
    sandbox.edit(LINE, 'df, "x", "y"', 'df, "x", "z"')
    done = sandbox("fig", "line", "--jobs", 1)
    line = at(sandbox, "plot.curve")
    assert f"line cannot be drawn: line.py {line}: ValueError" in done.stderr


def test_a_field_without_annotation_and_an_unknown_one_are_told(sandbox):
    sandbox.edit(LINE, "x: float = 1.0", "x = 1.0")
    assert refused(sandbox) == (
        "line.py: Config.x has no annotation, so it is no field: write `x: float = 1.0`"
    )
    sandbox.edit(LINE, "x = 1.0", "x: float = 1.0")
    sandbox.edit(LINE, "Config, x=", "Config, xx=")
    assert "unknown field of Config 'xx': did you mean x? known: seed, x" in refused(
        sandbox
    )
    sandbox.edit(LINE, "seed: int = 0", "seed = 0")
    assert "field `seed: int` (it has no annotation there)" in refused(sandbox)


# --- what is judged


@pytest.fixture
def rows():
    import pandas as pd

    return pd.DataFrame({"seed": [0, 1], "spread": [1.0, 2.0], "arm": ["a", "b"]})


@pytest.mark.parametrize(
    "make",
    [
        lambda: where().mean("spred"),
        lambda: where().worst("abs(spred - 1)"),
        lambda: where("spred > 1").mean("spread"),
        lambda: where().fraction("spred < 1"),
        lambda: where().slope("log(spread)", "log(spred)"),
        lambda: where().paired("spread", spred=("a", "b")),
        lambda: where().paired("spread", arm=("a", "b"), each="spred"),
        lambda: where().cells({"k": [0, 1]}, s="spred").mean("s"),
    ],
)
def test_a_misspelt_column_gets_its_neighbour(rows, make):
    with pytest.raises(ValueError, match="column 'spred': did you mean spread"):
        make()(rows)


def test_one_seed_is_told(rows):
    claim = estimates.Claim("c", "s", estimate=where().mean("spread"), below=1.5,
                            reason="r")  # fmt: skip
    note = judge("e", claim, rows.assign(seed=7)).note
    assert note.startswith("all rows have seed = 7: vary the field `seed` in sweep")


def test_smoke_fails_where_an_estimate_cannot_be_made(sandbox):
    sandbox.edit(LINE, "above=1.9, below=2.1", "above=5.0")
    done = sandbox("fig", "line", "--scale", "smoke", "--jobs", 1)
    assert "FAILED" in done.stdout
    assert done.returncode == 0, done.stderr
    sandbox.edit(LINE, "df.y / df.x", "df.z / df.x")
    done = sandbox("fig", "line", "--scale", "smoke", "--jobs", 1)
    assert done.returncode == 1
    assert "an estimate that cannot be made is a mistake" in done.stdout


@pytest.mark.parametrize(
    ("estimate", "status"),
    [
        ("where(x=3.0).mean('y')", 0),  # scale quick has it
        ("where(x=4.0).mean('y')", 1),  # no scale has it
        ("where().paired('y', x=(1.0, 3.0))", 0),
        ("where().paired('y', x=(1.0, 4.0))", 1),
        ("where(x=3.0).mean('yy')", 0),  # its rows are not there to tell
        ("where(x=1.0).mean('yy')", 1),
        ("where().slope('y', 'x')", 0),
    ],
)
def test_smoke_excuses_an_estimate_that_lacks_rows_of_scale_quick(
    sandbox, estimate, status
):
    sandbox.edit(LINE, "slope,\n", f"{estimate},\n")
    sandbox.edit(LINE, "rng, stats", "rng, stats, where")
    few = "x=[1.0, 2.0, 3.0] if scale == 'quick' else [1.0]"
    sandbox.edit(LINE, "x=[1.0, 2.0, 3.0]", few)
    plan = make(Project(sandbox.root), "line", "smoke")
    assert engine.run(Project(sandbox.root), [plan], jobs=1, quiet=True).ok == 4
    (claim,) = plan.experiment.claims
    assert judge("line", claim, plan.rows()).verdict == "error"
    assert findings.mistaken(plan, claim) == bool(status)


def test_claims_say_that_rows_are_stale(sandbox):
    sandbox("run", "line", "--jobs", 1)
    sandbox.edit("deep.py", "2.0", "2.0 + 0")
    done = sandbox("claims")
    assert "line: 0 of 12 runs\n  not judged: 12 runs are stale\n" in done.stdout
    sandbox.edit(LINE, "range(4)", "range(5)")
    assert "12 runs are stale, 3 are missing" in sandbox("claims").stdout
    text = (
        "slope: not judged: 0 of 15 runs are there (12 runs are stale, 3 are missing)"
    )
    done = sandbox("claims", "line.slope")
    assert text.partition(": ")[2] in done.stdout


# --- registration, reports, figures


def test_lock_says_what_it_does_and_which_rows_are_there(sandbox):
    done = sandbox("lock")
    assert "reading the claims and the sweeps of 1 experiment\n" in done.stderr
    assert "note" not in done.stdout
    sandbox("run", "line", "--jobs", 1)
    assert "note" not in sandbox("lock").stdout
    sandbox.edit(LINE, "above=1.9", "above=1.8")
    done = sandbox("lock")
    assert done.returncode == 0
    assert (
        "note: quick/line.parquet holds 12 runs of this sweep, and line.slope says "
        "written before rows"
    ) in done.stdout
    sandbox.edit(LINE, "above=1.8", 'written="after", above=1.7')
    assert "note" not in sandbox("lock").stdout


def test_confirm_names_the_command_of_the_project(sandbox):
    done = sandbox("confirm")
    assert "run `python -m symlab lock` and commit it" in done.stderr
    sandbox.write("Makefile", "lock:\n\tpython -m symlab lock\n")
    assert "run `make lock` and commit it" in sandbox("confirm").stderr


def test_a_report_shows_the_committed_rows_when_asked(sandbox):
    sandbox("run", "line", "--jobs", 1)
    here = sandbox("report", "--jobs", 1)
    assert "1 experiment on the rows under " in here.stderr
    page = sandbox.root / "figures" / "report.html"
    assert 'data-verdict="held"' in page.read_text()
    asked = sandbox("report", "--reference", "--jobs", 1)
    assert "on the committed rows\n" in asked.stderr
    assert 'data-verdict="not judged"' in page.read_text()  # none is committed


@pytest.mark.parametrize(
    ("words", "status"),
    [("report REFERENCE=1", 0), ("status REFERENCE=1", 2), ("status REFERENCE=0", 0)],
)
def test_make_reads_reference_or_refuses_it(words, status):
    done = subprocess.run(
        ["make", "-n", "VENV=", *words.split()],
        cwd=HOME, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status
    assert ("--reference" in done.stdout) == (words == "report REFERENCE=1")
    assert ("REFERENCE=1 is read by" in done.stderr) == bool(status)


def test_make_finds_a_figure_that_is_marked_by_the_harness_under_a_name(sandbox):
    sandbox.write("Makefile", (HOME / "Makefile").read_text())
    sandbox.write("experiments/other.py", '@h.figure("other")\ndef draw(): ...\n')
    done = subprocess.run(
        ["make", "-n", "VENV=", "figures"],
        cwd=sandbox.root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "symlab fig line other --scale quick" in done.stdout


def test_closed_forms_of_one_name_are_one_entry_of_a_legend():
    _, ax = plt.subplots()
    for slope in (1, 2):
        plot.theory(ax, [0, 1], [0, slope])
        ax.plot([0, 1], [slope, 0], label="measured")
    plot.theory(ax, [0, 1], [1, 1], label="bound")
    panels.legend(ax)
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert texts == ["measured", "measured", "theory", "bound"]
    plt.close("all")
