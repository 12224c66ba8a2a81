"""`symlab new` begins an experiment anywhere, also from an installed wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from symlab.harness import contract, starting
from symlab.harness.errors import UserError
from symlab.harness.project import Project, above, find
from tests.conftest import HOME


def test_a_new_experiment_is_complete_and_runs(tmp_path):
    path = starting.write("mine", tmp_path)
    assert path == tmp_path / "experiments" / "mine.py"
    experiment = contract.load(Project(tmp_path), "mine")
    configs = list(experiment.configs("smoke").values())
    rows = experiment.run(configs)
    assert len(rows) == 6
    for row, config in zip(rows, configs, strict=True):
        assert row["spread"] == pytest.approx(config["sigma"], rel=0.05)
    assert contract.figures(Project(tmp_path)) == {"mine": ["mine"]}
    assert len(experiment.panels("mine")) == 1


def test_it_goes_into_the_project_above(tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "notes" / "deep").mkdir(parents=True)
    path = starting.write("mine", tmp_path / "notes" / "deep")
    assert path == tmp_path / "experiments" / "mine.py"


def test_nothing_is_overwritten(tmp_path):
    path = starting.write("mine", tmp_path)
    path.write_text("my own")
    with pytest.raises(UserError, match=r"mine\.py is there already: choose another"):
        starting.write("mine", tmp_path)
    assert path.read_text() == "my own"
    path.rename(path.with_name("other.py")).write_text('@figure("mine")\ndef f(): ...')
    with pytest.raises(UserError, match="there is a figure 'mine' already"):
        starting.write("mine", tmp_path)


@pytest.mark.parametrize("name", ["my-one", "../up", "_mine", "1st", "class", "", "é"])
def test_a_name_that_cannot_be_imported_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="cannot be named"):
        starting.write(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_to_run_next(sandbox):
    done = sandbox("new", "mine")
    assert done.stdout == "wrote experiments/mine.py: run `symlab fig mine`\n"
    assert done.returncode == 0, done.stderr


def test_without_a_project_one_sentence_says_how_to_begin(tmp_path, monkeypatch):
    away = tmp_path / "site-packages" / "symlab" / "harness" / "project.py"
    monkeypatch.setattr("symlab.harness.project.__file__", str(away))
    assert above(tmp_path) is None
    with pytest.raises(UserError, match="begin one with `symlab new NAME`"):
        find(tmp_path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The unpacked wheel of this checkout, built from a copy of it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(
        HOME / "symlab", source / "symlab", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HOME / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    pip += ["--no-index", "--quiet", "--wheel-dir", str(folder), str(source)]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    zipfile.ZipFile(built).extractall(folder / "site-packages")
    return folder / "site-packages"


@pytest.mark.long
def test_the_wheel_runs_an_experiment_of_a_folder_without_a_checkout(wheel, tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("SYMLAB_")}
    env |= {"PYTHONPATH": str(wheel), "OMP_NUM_THREADS": "1"}

    def symlab(*words: str):
        return subprocess.run(
            [sys.executable, "-m", "symlab", *words], cwd=tmp_path, env=env, text=True,
            capture_output=True, timeout=300, check=False,
        )  # fmt: skip

    none = symlab("status")
    assert none.returncode == 2
    assert "begin one with `symlab new NAME`" in none.stderr
    assert symlab("new", "mine").stdout.endswith("run `symlab fig mine`\n")
    done = symlab("fig", "mine", "--jobs", "1", "--scale", "smoke")
    assert done.returncode == 0, done.stderr
    assert "drew figures/mine.smoke.pdf" in done.stdout
    again = symlab("fig", "mine", "--scale", "smoke")
    assert "6 fresh" in again.stdout
    assert "up to date" in again.stdout
    assert (tmp_path / "results" / "smoke" / "mine.parquet").is_file()


@pytest.mark.long
def test_the_wheel_holds_every_file_of_the_package(wheel):
    wanted = {
        str(p.relative_to(HOME))
        for p in (HOME / "symlab").rglob("*")
        if p.is_file() and p.suffix not in (".pyc",)
    }
    there = {str(p.relative_to(wheel)) for p in wheel.rglob("*") if p.is_file()}
    assert wanted <= there
