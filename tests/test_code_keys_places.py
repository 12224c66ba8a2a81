"""Where code lies does not change its key; versions are told; DATA counts."""

import shutil
import subprocess
import sys
import types
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest

from symlab.harness import code, contract, plan
from symlab.harness.errors import UserError
from symlab.harness.project import Project

HOME = Path(__file__).resolve().parents[1]
F1 = "def f():\n    return 1\n"


def reached(sandbox):
    return code.reach(sandbox.root, "experiments.line", ["run"])


def uses(sandbox, module: str) -> None:
    """Have the experiment use f of a module that lies elsewhere."""
    sandbox.edit(
        "experiments/line.py",
        "from middle import scale",
        f"from {module} import f\n\n\ndef scale(x):\n    return f() * x",
    )


# --- code outside the project's folder -----------------------------------------------


def test_a_folder_on_the_path_is_followed(sandbox, tmp_path_factory, monkeypatch):
    src = tmp_path_factory.mktemp("src")
    (src / "mine.py").write_text(F1)
    monkeypatch.syspath_prepend(src)
    uses(sandbox, "mine")
    before = reached(sandbox).definitions
    (src / "mine.py").write_text(F1.replace("1", "2"))
    assert code.changed(before, reached(sandbox).definitions) == ["mine:f"]


def test_a_file_named_like_a_standard_module_is_followed_where_it_hides_it(
    sandbox, tmp_path_factory, monkeypatch
):
    src = tmp_path_factory.mktemp("src")
    (src / "colorsys.py").write_text(F1)
    uses(sandbox, "colorsys")
    monkeypatch.setattr(sys, "path", [*sys.path, str(src)])  # the standard one is found
    assert "colorsys:f" not in reached(sandbox).definitions
    monkeypatch.syspath_prepend(src)
    before = reached(sandbox).definitions
    (src / "colorsys.py").write_text(F1.replace("1", "2"))
    assert code.changed(before, reached(sandbox).definitions) == ["colorsys:f"]


def test_a_package_beside_the_project_is_followed(
    sandbox, tmp_path_factory, monkeypatch
):
    beside = tmp_path_factory.mktemp("beside")
    (beside / "pack" / "inner").mkdir(parents=True)
    (beside / "pack" / "__init__.py").write_text("from .inner.deep import f\n")
    (beside / "pack" / "inner" / "deep.py").write_text(F1)
    monkeypatch.syspath_prepend(beside)
    uses(sandbox, "pack")
    before = reached(sandbox).definitions
    (beside / "pack" / "inner" / "deep.py").write_text(F1.replace("1", "2"))
    assert code.changed(before, reached(sandbox).definitions) == ["pack.inner.deep:f"]


def test_an_editable_install_by_a_hook_is_followed(
    sandbox, tmp_path_factory, monkeypatch
):
    """setuptools installs a finder that maps names to folders."""
    clone = tmp_path_factory.mktemp("clone") / "edited"
    clone.mkdir()
    (clone / "__init__.py").write_text("from edited.part import f\n")
    (clone / "part.py").write_text(F1)

    class Finder:
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            if name == "edited":
                return spec_from_file_location(name, clone / "__init__.py")
            return None

    Finder.__module__ = "__editable___edited_1_0_finder"
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    uses(sandbox, "edited")
    before = reached(sandbox).definitions
    (clone / "part.py").write_text(F1.replace("1", "2"))
    assert code.changed(before, reached(sandbox).definitions) == ["edited.part:f"]


def test_a_folder_that_the_experiment_adds_is_followed(sandbox):
    (sandbox.root / "src").mkdir()
    sandbox.write("src/added.py", F1)
    uses(sandbox, "added")
    sandbox.edit(
        "experiments/line.py",
        "from added",
        "import sys\nfrom pathlib import Path\n"
        "sys.path.append(str(Path(__file__).parents[1] / 'src'))\nfrom added",
    )
    done = sandbox("run", "line", "--scale", "smoke")
    assert done.returncode == 0, done.stderr
    assert "12 fresh" in sandbox("status", "--scale", "smoke").stdout
    sandbox.write("src/added.py", F1.replace("1", "2"))
    said = sandbox("status", "--scale", "smoke").stdout
    assert "12 stale" in said
    assert "added:f" in said


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages"])
def test_what_an_installer_put_there_is_not_followed(
    sandbox, tmp_path_factory, monkeypatch, folder
):
    site = tmp_path_factory.mktemp("lib") / folder
    site.mkdir()
    (site / "theirs.py").write_text(F1)
    monkeypatch.syspath_prepend(site)
    uses(sandbox, "theirs")
    before = reached(sandbox)
    (site / "theirs.py").write_text(F1.replace("1", "2"))
    assert reached(sandbox).code == before.code
    assert "theirs" in before.packages


def test_the_place_of_a_package_does_not_matter(sandbox, tmp_path_factory, monkeypatch):
    uses(sandbox, "mine")
    codes = set()
    for name in ("a", "b"):
        src = tmp_path_factory.mktemp(name)
        (src / "mine.py").write_text(F1)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(src)
            codes.add(reached(sandbox).code)
    sandbox.write("mine.py", F1)
    codes.add(reached(sandbox).code)
    assert len(codes) == 1


def test_symlab_as_a_wheel_gives_the_keys_of_the_clone(tmp_path):
    """The same project with symlab under site-packages and beside it."""
    names = ("rotation_low_rank", "policy_exploration", "dcs_constraints")
    script = (
        "import sys; from pathlib import Path; from symlab.harness import code\n"
        "import symlab; print(symlab.__file__)\n"
        "for n in sys.argv[2:]:\n"
        "    print(code.reach(Path(sys.argv[1]), f'experiments.{n}', ['run']).code)"
    )
    project = tmp_path / "project"
    shutil.copytree(HOME / "experiments", project / "experiments")
    site = tmp_path / "lib" / "site-packages"
    shutil.copytree(HOME / "symlab", site / "symlab")
    answers = []
    for path, root in ((HOME, HOME), (site, project)):
        done = subprocess.run(
            [sys.executable, "-c", script, root, *names],
            env=dict(__import__("os").environ, PYTHONPATH=str(path)),
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        where, *keys = done.stdout.split()
        assert where.startswith(str(path))
        answers.append(keys)
    assert answers[0] == answers[1]


def test_a_module_without_source_is_said_in_the_plan(
    sandbox, tmp_path_factory, monkeypatch
):
    src = tmp_path_factory.mktemp("src")
    (src / f"fast{EXTENSION_SUFFIXES[0]}").write_bytes(b"no library")
    monkeypatch.syspath_prepend(src)
    monkeypatch.setitem(sys.modules, "fast", types.SimpleNamespace(f=lambda: 2.0))
    uses(sandbox, "fast")
    assert reached(sandbox).compiled == ("fast",)
    made = plan.make(Project(sandbox.root), "line", "smoke")
    assert "not followed: fast, of which there is no Python source" in made.describe()


# --- what it was made with -----------------------------------------------------------


def test_the_versions_are_those_of_the_packages_in_the_reached_files(sandbox):
    import numpy

    sandbox.edit("deep.py", "def factor", "import pyarrow.parquet\n\n\ndef factor")
    sandbox.write("unused.py", "import torch\n")
    found = reached(sandbox)
    assert {"numpy", "pyarrow"} <= set(found.versions)
    assert "torch" not in found.versions
    assert found.made_with.startswith(f"python {sys.version.split()[0]}, numpy ")
    assert f"numpy {numpy.__version__}" in found.made_with


def test_an_import_name_becomes_its_distribution(sandbox):
    sandbox.edit("deep.py", "def factor", "import sklearn\n\n\ndef factor")
    assert "scikit-learn" in reached(sandbox).versions


def upgraded(sandbox, *options: str):
    """A finished sweep whose rows say that another numpy made them."""
    import numpy
    import pyarrow as pa

    from symlab.harness.files import write_table
    from symlab.harness.store import Store

    assert sandbox("run", "line", "--scale", "smoke").returncode == 0
    store = Store(sandbox.root / "results" / "smoke", "line")
    table = store.read()
    old = [
        v.replace(f"numpy {numpy.__version__}", "numpy 1.0.0")
        for v in table["versions"].to_pylist()
    ]
    assert all("numpy 1.0.0" in v for v in old)
    i = table.column_names.index("versions")
    write_table(table.set_column(i, "versions", pa.array(old)), store.file)
    return numpy.__version__


def test_an_upgrade_is_said_and_strict_makes_rows_stale(sandbox):
    here = upgraded(sandbox)
    said = sandbox("run", "line", "--scale", "smoke", "--dry-run").stdout
    assert "12 fresh" in said
    assert f"made with numpy 1.0.0, here {here} (STRICT=1" in said
    said = sandbox("run", "line", "--scale", "smoke", "--dry-run", "--strict").stdout
    assert "12 stale" in said
    strict = plan.make(Project(sandbox.root), "line", "smoke", strict=True)
    assert len(strict.rows()) == 0
    assert sandbox("run", "line", "--scale", "smoke", "--strict").returncode == 0
    said = sandbox("run", "line", "--scale", "smoke", "--dry-run", "--strict").stdout
    assert "12 fresh" in said
    assert "1.0.0" not in said


def test_another_build_of_a_version_is_no_upgrade(sandbox):
    made = plan.make(Project(sandbox.root), "line", "smoke")
    versions = made.experiment.reached.versions
    text = ", ".join(f"{k} {v}+cu130" for k, v in versions.items())
    assert made.differences(text) == []
    (found,) = made.differences(text.replace("numpy", "other"))
    assert found == "made with unknown versions of numpy"


# --- data ----------------------------------------------------------------------------


def test_a_data_file_counts(sandbox):
    project = Project(sandbox.root)
    (sandbox.root / "data").mkdir()
    sandbox.write("data/x.csv", "1,2\n")
    before = contract.load(project, "line").reached
    sandbox.edit(
        "experiments/line.py", "LANES = 4", 'DATA = ("data/x.csv",)\nLANES = 4'
    )
    named = contract.load(project, "line").reached
    assert code.changed(before.definitions, named.definitions) == ["data:data/x.csv"]
    sandbox.write("data/x.csv", "1,3\n")
    after = contract.load(project, "line").reached
    assert code.changed(named.definitions, after.definitions) == ["data:data/x.csv"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('("data/none.csv",)', "there is no such file"),
        ("tuple(['a'])", "write DATA as a tuple of file names in quotes"),
        ('"a.csv"', "write DATA as a tuple of file names in quotes"),
        ("(1,)", "write DATA as a tuple of file names in quotes"),
    ],
)
def test_data_that_cannot_be_read_is_one_sentence(sandbox, text, said):
    sandbox.edit("experiments/line.py", "LANES = 4", f"DATA = {text}")
    with pytest.raises(UserError, match=said):
        contract.load(Project(sandbox.root), "line")
