"""Every column of the committed rows is described, and no other."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import symlab
from symlab.harness import contract, dictionary, project
from symlab.harness.errors import UserError
from symlab.harness.store import META

PROJECT = project.find(Path(__file__).parent)


@pytest.mark.parametrize("name", contract.names(PROJECT))
def test_each_column_of_the_committed_rows_is_described(name):
    path = PROJECT.reference / "quick" / f"{name}.parquet"
    schema = pq.read_schema(path)
    meanings = dictionary.meanings(PROJECT, name)
    assert not meanings.column.duplicated().any()
    assert meanings.meaning.str.fullmatch(r"\S.{5,}").all()
    results = set(meanings.column[meanings.kind == "result"])
    settings = set(meanings.column[meanings.kind == "setting"])
    assert results == set(schema.names) - settings - set(META)


def test_the_history_of_a_row_is_described_as_in_the_manual():
    assert list(dictionary.HISTORY) == list(META)
    manual = (PROJECT.root / "docs" / "harness.md").read_text()
    for name, text in dictionary.HISTORY.items():
        assert f"| `{name}` | {text} |\n" in manual


def test_a_section_of_columns_is_read():
    text = """Return a row for each config.

    Columns:
        loss: mean squared error; at the
            last step.
        rank, rank_loose: number of singular values
    Raises ValueError: never.
    """
    assert dictionary.described(text) == {
        "loss": "mean squared error; at the last step.",
        "rank": "number of singular values",
        "rank_loose": "number of singular values",
    }
    assert dictionary.described("loss: no section.") == {}


def test_a_notebook_gets_the_meanings_of_columns(monkeypatch):
    monkeypatch.chdir(PROJECT.root)
    found = symlab.columns("rescaling_sparsity").set_index("column")
    assert found.kind["lr"] == "setting"
    assert found.meaning["lr"] == "Learning rate. Default: 0.01."
    assert found.kind["wall_s"] == "history"
    with pytest.raises(UserError, match="unknown experiment 'rescaling'"):
        symlab.columns("rescaling")


def test_an_edited_docstring_is_read_again(sandbox, monkeypatch):
    monkeypatch.chdir(sandbox.root)
    file = sandbox.root / "experiments" / "line.py"
    old = file.read_text()
    assert "result" not in set(symlab.columns("line").kind)
    for text in ("y of x", "twice x"):
        section = f'    """Rows.\n\n    Columns:\n        y: {text}\n    """\n'
        head = "def run(configs):\n"
        file.write_text(old.replace(head, head + section))
        found = symlab.columns("line").set_index("column")
        assert found.meaning["y"] == text
