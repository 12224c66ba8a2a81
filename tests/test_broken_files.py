"""A file that is broken stops itself, in one sentence, and no other experiment."""

import json
import subprocess
import sys

import pytest

from symlab.harness import contract, plot
from symlab.harness.errors import UserError
from symlab.harness.project import Project


@pytest.fixture
def project(sandbox):
    return Project(sandbox.root)


def refused(project, name="line"):
    with pytest.raises(UserError) as caught:
        contract.load(project, name).configs("quick")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_neighbour_that_is_not_python_stops_only_its_own_figures(sandbox):
    sandbox.write("experiments/other.py", '@figure("other")\ndef draw(:\n')
    assert sandbox("fig", "line", "--dry-run").returncode == 0
    for words in (["fig", "other"], ["run", "other"]):
        done = sandbox(*words)
        assert done.returncode == 2
        assert done.stderr == "symlab: other.py line 2 is not Python: invalid syntax\n"
    # a figure that shares panels with the broken file is not drawn without them
    sandbox.write("experiments/other.py", '@figure( "line" )\ndef draw(:\n')
    done = sandbox("fig", "line", "--dry-run")
    assert done.returncode == 2
    assert "other.py line 2 is not Python" in done.stderr


def test_status_names_what_it_leaves_out(sandbox):
    sandbox.write("experiments/a.b.py", "x = 1\n")
    sandbox.write("experiments/other.py", "import nothing_of_this_name\n")
    done = sandbox("status")
    assert done.returncode == 2
    assert "line (quick): 12 missing" in done.stdout
    assert "a.b.py is left out: name the file" in done.stderr
    assert "other.py cannot be imported: other.py line 1: ModuleNotFound" in done.stderr
    done = sandbox("fig", "a.b", "--dry-run")
    assert done.returncode == 2
    assert "a.b.py is left out: name the file" in done.stderr


@pytest.mark.parametrize("lanes", ["0", "-3", "'4'", "2.0", "True"])
def test_lanes_are_a_positive_whole_number(sandbox, project, lanes):
    sandbox.edit("experiments/line.py", "LANES = 4", f"LANES = {lanes}")
    assert refused(project).startswith(f"line.py: LANES is {lanes}: give")


@pytest.mark.parametrize(
    ("action", "told"),
    [("{}['boo']", "KeyError: 'boo'"), ("__import__('sys').exit(3)", "SystemExit: 3")],
)
def test_what_a_file_raises_is_one_sentence(sandbox, project, action, told):
    original = (sandbox.root / "experiments/line.py").read_text()
    sandbox.edit(
        "experiments/line.py", "    return grid(", f"    {action}\n    return grid("
    )
    assert refused(project).startswith(
        "line.py: sweep('quick') failed: line.py line 18:"
    )
    assert told in refused(project)
    sandbox.write("experiments/line.py", f"{original}\n{action}\n")
    assert refused(project).startswith("line.py cannot be imported: line.py line")
    assert told in refused(project)


def test_an_estimator_or_a_panel_that_exits_is_told(sandbox):
    exits = "__import__('sys').exit(3)"
    sandbox.edit(
        "experiments/line.py", "    return stats", f"    {exits}\n    return stats"
    )
    done = sandbox("fig", "line", "--jobs", 1)
    assert done.returncode == 1
    assert "could not be made (line.py line 32: SystemExit: 3)" in done.stdout
    assert "drew figures/line.pdf" in done.stdout
    sandbox.edit(
        "experiments/line.py", "    plot.curve", f"    {exits}\n    plot.curve"
    )
    done = sandbox("fig", "line", "--jobs", 1)
    assert done.returncode == 2
    assert "symlab: line cannot be drawn: line.py line" in done.stderr
    assert "SystemExit: 3" in done.stderr


@pytest.mark.parametrize("name", ["../../line", "/tmp/line", "a/b", "", ".line", "a b"])
def test_a_figure_stays_in_its_folder(name):
    with pytest.raises(UserError, match="a figure cannot be named"):
        contract.figure(name)


@pytest.mark.parametrize(
    "record",
    [
        [1, 2],
        {"provenance": 3},
        {"provenance": {"figure": "x"}},
        {"provenance": {"figure": 1, "command": 2, "experiments": [3], "claims": []}},
        {"provenance": {"figure": 1, "command": 2, "experiments": {}, "claims": [3]}},
    ],
)
def test_foreign_files_say_nothing_of_their_origin(tmp_path, record):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="says nothing of its origin"):
        plot.origin_lines(path, plot.provenance(path))


def test_an_origin_cannot_steer_the_terminal(sandbox):
    record = {"figure": "\x1b[2Jx\n", "command": "y", "experiments": {}, "claims": []}
    sandbox.write("x.json", json.dumps({"provenance": record}))
    assert sandbox("whence", "x.json").stdout == (
        "x.json: \\x1b[2Jx\\n, drawn by `y`\n"
    )


@pytest.mark.parametrize("words", ["status", "whence figures/line.json"])
def test_nobody_reads_the_answer(sandbox, words):
    """As in `symlab status | head -0`."""
    (sandbox.root / "figures").mkdir()
    names = ("verdict", "experiment", "claim", "value", "low", "high", "n")
    claims = [dict.fromkeys(names, "x" * 9)] * 3000  # more than a pipe holds
    record = {"figure": "f", "command": "c", "experiments": {}, "claims": claims}
    sandbox.write("figures/line.json", json.dumps({"provenance": record}))
    done = subprocess.run(
        f"'{sys.executable}' -m symlab {words} | true",
        shell=True, cwd=sandbox.root, env=sandbox.env(), timeout=300,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.startswith("symlab: the output cannot be written (Broken pipe)")
    assert done.stderr.count("\n") == 1


def test_the_package_lists_what_a_notebook_needs():
    import symlab

    public = {"load", "columns", "run", "claims", "figure", "__version__"}
    assert set(dir(symlab)) == public
