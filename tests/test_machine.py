"""Rows say on what machine and with what packages and claims they were made."""

import platform
from importlib import metadata

import pandas as pd
import pytest

from symlab.harness import contract, machine, registration
from symlab.harness.project import Project
from symlab.harness.store import META

COLUMNS = ["cpu", "blas", "system", "versions", "claims_digest"]


def test_a_row_says_where_it_was_made_and_stays_fresh_elsewhere(sandbox):
    assert sandbox("run", "line").returncode == 0
    rows = sandbox.rows()
    claims = contract.load(Project(sandbox.root), "line").claims
    for column in COLUMNS:
        assert rows[column].nunique() == 1, column
    first = rows.iloc[0]
    assert first.cpu == machine.cpu()
    assert platform.machine() in first.system
    assert any(word in first.blas for word in ("blas", "mkl", "blis", "unknown"))
    assert f"pandas {pd.__version__}" in first.versions
    assert f"torch {metadata.version('torch')}" in first.versions
    assert first.claims_digest == registration.digest(claims)
    file = sandbox.root / "results" / "quick" / "line.parquet"
    rows.assign(cpu="other", blas="other", system="other").to_parquet(file)
    sandbox.edit("experiments/line.py", "above=1.9", "above=1.8")
    assert "12 fresh" in sandbox("run", "line", "--dry-run").stdout
    rows.drop(columns=COLUMNS).to_parquet(file)  # rows of before
    assert "12 fresh" in sandbox("run", "line", "--dry-run").stdout


def test_a_failed_row_says_it_too(sandbox):
    sandbox.edit("experiments/line.py", "return [{", "raise ValueError('no')\n    [{")
    assert sandbox("run", "line").returncode == 1
    assert set(sandbox.rows().cpu) == {machine.cpu()}


@pytest.mark.parametrize("name", META)
def test_no_field_and_no_result_may_have_the_name_of_such_a_column(sandbox, name):
    sandbox.edit("experiments/line.py", '{"y":', f'{{"{name}": 1.0, "y":')
    project = Project(sandbox.root)
    contract.load(project, "line")
    sandbox.edit(
        "experiments/line.py", "    x: float", f"    {name}: int = 1\n    x: float"
    )
    with pytest.raises(contract.UserError, match="rename the config fields"):
        contract.load(project, "line")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n"
            "\nprocessor\t: 1\nmodel name\t: another\n",
            "AMD EPYC (family 25, model 17)",
        ),
        ("model name\t: Cortex-A72\n", "Cortex-A72"),
        ("processor\t: 0\nCPU part\t: 0xd0c\n", "of Python"),
        ("", "of Python"),
        (None, "of Python"),
    ],
)
def test_the_processor_comes_from_cpuinfo_or_python(monkeypatch, tmp_path, text, found):
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(machine, "CPUINFO", file)
    monkeypatch.setattr(machine.platform, "processor", lambda: "of Python")
    assert machine.cpu.__wrapped__() == found


def test_what_cannot_be_told_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    assert machine.cpu.__wrapped__() == machine.UNKNOWN
    monkeypatch.setattr("threadpoolctl.threadpool_info", list)
    monkeypatch.setitem(machine.sys.modules, "torch", None)
    assert machine._blas.__wrapped__(()) == machine.UNKNOWN


def test_versions_add_what_run_does_not_reach():
    text = machine.versions({"python": "3.12.3", "numpy": "1.0"})
    assert text.startswith("python 3.12.3, numpy 1.0, ")
    assert f"pandas {pd.__version__}" in text
    assert text.count("numpy") == 1
