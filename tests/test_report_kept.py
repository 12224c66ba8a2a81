"""What a report said is said again from memory only while all is as it was."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from symlab.harness import remembered, report_kept, stats
from symlab.harness.project import Project
from symlab.harness.report_data import Described, Drawn, Ends, Looked
from tests.test_report import EXPERIMENTS, FIGURES

MARK = """def slope(df):
    import time
    from pathlib import Path
    folder = Path(__file__).parents[1] / "judged" / f"{LINE}{time.time_ns()}"
    folder.mkdir(parents=True)
"""


@pytest.fixture
def project(sandbox):
    """Two experiments that leave a folder whenever one of their claims is judged."""
    sandbox.edit("experiments/line.py", "def slope(df):\n", MARK)
    sandbox.edit("experiments/line.py", "LANES = 4", 'LANES = 4\nLINE = "line"')
    text = (sandbox.root / "experiments" / "line.py").read_text()
    other = text.replace('figure("line")', 'figure("curve")')
    sandbox.write("experiments/other.py", other.replace('"line"', '"other"'))
    for name in ("line", "other"):
        done = sandbox("run", name, "--jobs", "1")
        assert done.returncode == 0, done.stderr
    return sandbox


def report(project, **env) -> list[str]:
    """The experiments whose claims were judged for a report."""
    shutil.rmtree(project.root / "judged", ignore_errors=True)
    done = project("report", "--jobs", "1", **env)
    assert done.returncode == 0, done.stderr
    found = (project.root / "judged").glob("*")
    return sorted({p.name.rstrip("0123456789") for p in found})


def page(project) -> str:
    return (project.root / "figures" / "report.html").read_text("utf-8")


def kept(project) -> list[Path]:
    return sorted((project.root / "results" / remembered.FOLDER).glob("*.report"))


def test_a_second_report_is_the_same_and_judges_nothing(project):
    assert report(project) == ["line", "other"]
    assert project("fig", "line", "--jobs", "1").returncode == 0
    assert report(project) == ["line"]  # its figure is new
    first = page(project)
    assert 'src="data:image/png;base64,' in first
    assert report(project) == []
    assert page(project) == first
    for file in kept(project):
        file.unlink()
    assert report(project) == ["line", "other"]
    assert page(project) == first


def unmoved(path: Path, old: str, new: str) -> None:
    """Change a file, but neither its size nor its times."""
    before, text = path.stat(), path.read_text()
    assert old in text
    assert len(old) == len(new)
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def commit(root: Path) -> None:
    (root / "results/reference/quick").mkdir(parents=True)
    name = "quick/other.parquet"
    shutil.copy(root / "results" / name, root / "results/reference" / name)


CHANGES = {
    "claim": (["line"], lambda r: unmoved(r / "experiments/line.py", "1.9", "1.8")),
    "docstring": (["line"], lambda r: unmoved(r / "experiments/line.py", "y = 2 x",
                                              "y = x 2")),
    "helper": (["line", "other"], lambda r: unmoved(r / "deep.py", "2.0", "2.5")),
    "new helper": (["line", "other"], lambda r: (r / "scipy_.py").write_text("")),
    "data": (["line", "other"], lambda r: (r / "data" / "x.csv").write_text("2")),
    "rows": (["other"], lambda r: shutil.copy(
        r / "results/quick/line.parquet", r / "results/quick/other.parquet")),
    "committed rows": (["other"], commit),
    "figure": (["other"], lambda r: (r / "figures" / "curve.json").write_text("{}")),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen_and_touches_no_other_experiment(project, change):
    (project.root / "data").mkdir()
    (project.root / "data" / "x.csv").write_text("1")
    report(project)
    assert report(project) == []
    expected, make = CHANGES[change]
    make(project.root)
    judged = report(project)
    stale = {"helper": expected, "rows": ["other"]}.get(change, [])
    assert judged == [name for name in expected if name not in stale]
    assert page(project).count('data-verdict="not judged"') == len(stale)
    assert report(project) == []


def test_the_environment_and_the_packages_count(project, tmp_path_factory):
    report(project)
    assert report(project, SYMLAB_DATA="/nowhere") == ["line", "other"]
    assert report(project) == []
    folder = tmp_path_factory.mktemp("site-packages") / "site-packages"
    (folder / "nothing-9.dist-info").mkdir(parents=True)
    path = {"PYTHONPATH": f"{Path(__file__).parents[1]}{os.pathsep}{folder}"}
    python = {"python": shutil.which("python", path=os.path.dirname(os.sys.executable))}
    for expected in (["line", "other"], []):
        assert report(project, **path, **python) == expected
    (folder / "nothing-9.dist-info").rename(folder / "nothing-10.dist-info")
    assert report(project, **path, **python) == ["line", "other"]


def test_an_experiment_that_another_names_counts_there(project):
    project.edit(
        "experiments/other.py", "from middle", "import experiments.line\nfrom middle"
    )
    assert project("run", "other", "--jobs", "1").returncode == 0
    report(project)
    assert report(project) == []
    unmoved(project.root / "experiments/line.py", "1.9", "1.8")
    assert report(project) == ["line", "other"]


def test_an_estimate_that_reads_a_file_of_its_own_is_judged_each_time(project):
    (project.root / "notes.txt").write_text("1")
    project.edit("experiments/line.py", "    import time\n",
                 "    import time\n    open('notes.txt').close()\n")  # fmt: skip
    report(project)
    assert report(project) == ["line"]


def test_a_change_while_claims_are_judged_is_not_kept(project):
    project.edit("experiments/line.py", "    import time\n",
                 "    import time\n    p = Path(__file__).parents[1] / 'deep.py'\n"
                 "    p.write_text(p.read_text() + '#')\n")  # fmt: skip
    project.edit("experiments/line.py", "    from pathlib import Path\n", "")
    project.edit(
        "experiments/line.py", "from middle", "from pathlib import Path\nfrom middle"
    )
    assert project("run", "line", "--jobs", "1").returncode == 0
    assert report(project) == ["line", "other"]
    assert not kept(project)


@pytest.mark.parametrize("damage", ["cut", "verdict", "moved", "list"])
def test_a_damaged_file_costs_time_only(project, damage):
    report(project)
    first = page(project)
    one, other = kept(project)
    told = json.loads(one.read_text())
    if damage == "moved":
        told = json.loads(other.read_text())
    text = json.dumps([told] if damage == "list" else told)
    text = text[:-9] if damage == "cut" else text
    one.write_text(text.replace('"held"', '"failed"') if damage == "verdict" else text)
    assert len(report(project)) == 1
    assert page(project) == first


def test_edited_code_of_a_running_process_is_neither_kept_nor_recalled(
    tmp_path, monkeypatch
):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "experiments" / "e.py").write_text("")
    group = (("e",), ("f",))

    def memory():
        made = report_kept.Memory(Project(tmp_path), "quick")
        return made, made.recall(group)

    made, told = memory()
    assert told is None
    made.keep(group, EXPERIMENTS, FIGURES)
    looked, drawn = memory()[1]
    assert looked == EXPERIMENTS
    assert drawn == [replace(f, picture=b"") for f in FIGURES]
    monkeypatch.setattr(report_kept, "OWN", "other")
    assert memory()[1] is None
    memory()[0].keep(group, EXPERIMENTS, FIGURES)
    assert len(list(remembered.folder(tmp_path).iterdir())) == 1


def test_a_kept_p_value_is_that_of_the_interval():
    for sample in ([0.1, 0.3, 0.2, 0.5], [5.0, 5.1, 5.2], [-1.0, 1.0, 0.5, 3.0, 9.0]):
        interval = stats.mean(sample)
        for limits in ((0.0, 1.0), (0.25, float("inf")), (float("-inf"), 4.0)):
            p = stats.p_value(interval, *limits)
            again = stats.p_value(replace(interval, ends=Ends(p)), *limits)
            assert again == pytest.approx(p, rel=1e-12)


def test_values_are_read_again_as_they_were_and_others_are_refused():
    value = Looked("a", "b", "c", 1, 2, ())
    drawn = Drawn("f", b"", (1, 2), (("a", "b"),), {"claims": [{"n": 1}], "x": (1,)})
    told = json.loads(
        json.dumps(report_kept._plain([value, drawn, Described("p", 0.5)]))
    )
    assert report_kept._made(told) == [value, drawn, Described("p", 0.5)]
    with pytest.raises(TypeError, match="set is not kept"):
        report_kept._plain({1, 2})
    with pytest.raises(KeyError):
        report_kept._made({"is": "Path", "of": {}})
