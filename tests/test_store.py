"""One row per run, whatever happens to the process, the file or the disk."""

import os
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from symlab.harness import store
from symlab.harness.errors import UserError
from symlab.harness.store import Store


def row(key, code="c", status="ok", finished="1", **result):
    meta = {"error": "", "lanes": 1, "wall_s": 0.1, "device": "cpu", "threads": 1}
    meta |= {"versions": "", "git": "", "dirty": False, "finished": finished}
    return {"key": key, "code": code, "status": status, **meta, **result}


@pytest.fixture
def rows(tmp_path) -> Store:
    return Store(tmp_path, "e")


def test_pandas_alone_reads_the_packed_file(rows):
    rows.write_part([row("a", y=1.5, curve=[1.0, 2.0]), row("b", y=2.5, curve=[])], {})
    rows.pack()
    frame = pd.read_parquet(rows.file)
    assert list(frame.key) == ["a", "b"]
    assert frame.y.dtype == np.float64
    assert frame.curve[0].tolist() == [1.0, 2.0]
    assert not list(rows.parts.glob("*.parquet"))


def test_ok_counts_before_failed_and_late_before_early(rows):
    rows.write_part([row("a", finished="2", y=1.0), row("b", finished="1", y=1.0)], {})
    rows.write_part([row("a", status="failed", finished="3")], {})
    rows.write_part([row("b", finished="2", y=2.0)], {})
    for _ in range(2):  # from parts, then packed
        frame = rows.frame().set_index("key")
        assert frame.status["a"] == "ok"
        assert frame.y["b"] == 2.0
        assert len(frame) == 2
        rows.pack()


def test_int_then_float_columns_merge(rows):
    rows.write_part([row("a", y=1)], {})
    rows.write_part([row("b", y=0.5)], {})
    rows.pack()
    assert rows.frame().y.tolist() == [1.0, 0.5]


def test_other_types_do_not_merge(rows):
    rows.write_part([row("a", y=1)], {})
    rows.write_part([row("b", y="one")], {})
    with pytest.raises(UserError, match="cannot share a table"):
        rows.pack()


def test_a_missing_result_is_nan(rows):
    rows.write_part([row("a", y=1.0), row("b", status="failed")], {})
    assert np.isnan(rows.frame().y[1])


@pytest.mark.parametrize("damage", [b"", b"PAR1 not really", None])
def test_a_damaged_file_is_moved_aside(rows, damage, capsys):
    rows.write_part([row("a", y=1.0)], {})
    rows.pack()
    whole = rows.file.read_bytes()
    rows.file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert rows.read().num_rows == 0
    assert "is damaged" in capsys.readouterr().err
    assert not rows.file.exists()
    assert len(list(rows.file.parent.glob("*damaged*"))) == 1


def test_a_foreign_parquet_file_is_no_results_file(rows, capsys):
    pd.DataFrame({"x": [1]}).to_parquet(rows.file)
    assert rows.read().num_rows == 0
    assert "no columns" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_now_is_left_alone(rows, monkeypatch):
    rows.write_part([row("a", y=1.0)], {})
    rows.pack()

    def busy(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(store.Path, "read_bytes", busy)
    with pytest.raises(UserError, match="Too many open files"):
        rows.read()
    assert rows.file.exists()


def test_a_column_has_the_type_of_its_own_rows(rows):
    rows.write_part([row("a", y=1, on=True), row("b", status="failed")], {})
    rows.write_part([row("c", code="other", z=1.0)], {})
    frame = rows.frame("c")
    assert frame.y.dtype == np.int64
    assert frame.on.dtype == bool
    assert "z" not in frame


def test_nothing_is_left_of_a_write_that_fails(rows, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.pq, "write_table", full)
    with pytest.raises(UserError, match="No space left on device.*SYMLAB_RESULTS"):
        rows.write_part([row("a")], {})
    assert [p for p in rows.parts.iterdir() if p.suffix != ".lock"] == []


def test_packing_from_many_threads_and_processes_loses_nothing(rows, tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from pathlib import Path; from symlab.harness.store import Store\n"
        "from tests.test_store import row\n"
        "s = Store(Path(sys.argv[1]), 'e')\n"
        "for i in range(25):\n"
        "    s.write_part([row(f'{sys.argv[2]}-{i}', y=1.0)], {}); s.pack()\n"
    )
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    running = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path, str(n), home])
        for n in range(3)
    ]
    seen: list[int] = []
    stop = threading.Event()

    def watch():
        while not stop.is_set():
            seen.append(len(rows.frame()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert [p.wait() for p in running] == [0, 0, 0]
    stop.set()
    watcher.join()
    frame = rows.frame()
    assert len(frame) == 75
    assert frame.key.is_unique
    assert seen == sorted(seen), "a reader saw rows vanish while others packed"


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1, "int64"), (1.0, "double"), (True, "bool"), ("a", "string")]
    + [([1, 2], "list<item: int64>"), ([1.0, 2], "list<item: double>")]
    + [([], "list<item: double>")],
)
def test_types(value, kind):
    assert str(store.value_type("y", value)) == kind.replace("item", _item())


def _item() -> str:
    return pa.list_(pa.int64()).value_field.name


@pytest.mark.parametrize("value", [None, {"a": 1}, [[1]], object(), [1, "a"], 1j])
def test_other_values_are_refused_by_name(value):
    with pytest.raises(TypeError, match="column 'y' holds"):
        store.value_type("y", value)
