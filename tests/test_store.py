"""One row per run, whatever happens to the process, the file or the disk."""

import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from symlab.harness import columns, files, store
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


VALUES = [1, 2**60, 0.5, True, "one", "", [], [1], [2**60], [0.5], [True], ["a"]]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("second", VALUES)
@pytest.mark.parametrize("first", VALUES)
def test_any_two_types_share_a_table_and_keep_their_values(rows, first, second, packed):
    for code, value in (("one", first), ("two", second), ("three", first)):
        rows.write_part([row("a", code=code, y=value)], {})
        if packed:
            rows.pack()
    for code, value in (("one", first), ("two", second), ("three", first)):
        frame = rows.frame(code)
        found = frame.y[0]
        assert [c for c in frame if c.startswith("y")] == ["y"]
        assert (list(found) if type(value) is list else found) == value
        assert isinstance(found, (bool, np.bool_)) == (type(value) is bool)


def test_a_second_column_is_told_from_a_result_of_that_name(rows):
    rows.write_part([row("a", **{"y": 1.0, "y (string)": "mine"})], {})
    rows.pack()
    rows.write_part([row("a", code="new", **{"y": "text", "y (string)": 2.0})], {})
    for _ in range(2):
        old, new = rows.frame("c"), rows.frame("new")
        assert (old.y[0], old["y (string)"][0]) == (1.0, "mine")
        assert (new.y[0], new["y (string)"][0]) == ("text", 2.0)
        rows.pack()


def test_a_result_may_later_have_the_name_of_a_second_column(rows):
    rows.write_part([row("a", y=1.0)], {})
    rows.write_part([row("a", code="other", y="text")], {})
    rows.pack()
    rows.write_part([row("a", code="new", **{"y (string)": "mine", "y": 1})], {})
    for _ in range(2):
        new = rows.frame("new")
        assert (new.y[0], new["y (string)"][0]) == (1, "mine")
        assert rows.frame("other").y[0] == "text"
        assert "y (string)" not in rows.frame("other")
        rows.pack()


def test_two_types_in_the_rows_of_one_code_are_both_shown(rows):
    rows.write_part([row("a", y=1.0)], {})
    rows.write_part([row("b", y="one")], {})  # by another process
    frame = rows.frame("c")
    assert frame.y[0] == 1.0
    assert frame["y (string)"][1] == "one"
    assert rows.frame("c", {"b": {}}).y[0] == "one"
    assert rows.frame("c", {"a": {"y": 1}}).y.dtype == np.int64


@pytest.mark.parametrize(
    "name", ["", " ", "a.b", "a\nb", "\x00", "é", "__index_level_0__", "Key"]
)
def test_columns_may_have_odd_names(rows, name):
    rows.write_part([row("a", **{name: 1.5})], {})
    rows.write_part([row("b", **{name: "x"})], {})
    rows.pack()
    assert pd.read_parquet(rows.file)[name][0] == 1.5
    assert rows.frame("c")[f"{name} (string)"][1] == "x"


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


def test_a_pointer_of_git_lfs_is_left_alone(rows):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
    rows.file.parent.mkdir(parents=True, exist_ok=True)
    rows.file.write_bytes(pointer)
    with pytest.raises(UserError, match="`git lfs pull`"):
        rows.read()
    assert rows.file.read_bytes() == pointer
    assert not list(rows.file.parent.glob("*damaged*"))


@pytest.mark.parametrize(
    "damage", [b"[1]", b"", b"{}", b'{"c": {}}', b"\xff", b"[" * 10**5, b"flip", b"5"]
)
def test_a_damaged_manifest_is_moved_aside_and_no_row_is_lost(rows, damage, capsys):
    rows.write_part([row("a", y=1.0)], {"c": {"m:f": "0123456789ab"}})
    (path,) = rows.parts.glob("*.json")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"9ab", b"9aa") if damage == b"flip" else damage)
    assert rows.frame().y.tolist() == [1.0]
    assert store.manifests(rows.read()) == {}
    said = capsys.readouterr().err
    assert said.count("is damaged") == 1
    assert "not known what code made them" in said
    rows.write_part([row("b", y=2.0)], {"c": {"m:f": "0123456789ab"}})
    assert store.manifests(rows.read()) == {"c": {"m:f": "0123456789ab"}}


def test_no_flipped_bit_of_a_manifest_is_read_as_another(rows):
    manifest = {"c": {"m:f": "0123456789ab", "m:g": "ba9876543210"}}
    rows.write_part([row("a", y=1.0)], manifest)
    (path,) = rows.parts.glob("*.json")
    whole = path.read_bytes()
    for i in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[i // 8] ^= 1 << i % 8
        path.write_bytes(flipped)
        found = rows._read_manifest(path)
        assert found in ({}, manifest), bytes(flipped)


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

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(UserError, match="No space left on device.*SYMLAB_RESULTS"):
        rows.write_part([row("a")], {})
    assert [p for p in rows.parts.iterdir() if p.suffix != ".lock"] == []


@contextmanager
def only_read(folder):
    """The folder for somebody who may read it: root, who may all, is another user."""
    for place in (folder, *filter(Path.is_dir, folder.iterdir())):
        place.chmod(0o555)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)
        for place in (folder, *filter(Path.is_dir, folder.iterdir())):
            place.chmod(0o755)


def test_parts_in_a_folder_that_can_only_be_read_are_read_where_they_are():
    with tempfile.TemporaryDirectory() as name:  # another user cannot see pytest's
        folder = Path(name) / "quick"
        mine = Store(folder, "e")
        mine.write_part([row("a", y=1.0)], {})
        mine.pack()
        mine.write_part([row("b", y=2.0)], {})
        Path(name).chmod(0o755)
        with only_read(folder):
            theirs = Store(folder, "e")
            theirs.pack()
            assert theirs.frame("c").y.tolist() == [1.0, 2.0]
            with pytest.raises(UserError, match="Permission denied.*SYMLAB_RESULTS"):
                theirs.check()
        assert len(list(mine.parts.glob("*.parquet"))) == 1
        mine.pack()
        assert not list(mine.parts.glob("*.parquet"))


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
    [(1, "int"), (1.0, "float"), (True, "bool"), ("a", "string"), ([], "empty list")]
    + [(2**53, "int"), (-(2**53) - 1, "large int"), (2**63 - 1, "large int")]
    + [([1, 2], "list of int"), ([1.0, 2], "list of float"), ([""], "list of string")]
    + [([1, 2**60], "list of large int"), ([True] * 10**6, "list of bool")]
    + [(np.float32(1), "float"), (np.array([1], "u1"), "list of int")]
    + [(np.str_("a"), "string"), (np.array([]), "empty list"), (np.bool_(1), "bool")]
    + [(np.array(["a", "b"]), "list of string"), ((1, np.int8(2)), "list of int")],
)
def test_kinds(value, kind):
    value = columns.plain(value)
    assert columns.kind("y", value) == kind
    table = columns.table_of([{"y": value}], {})
    assert columns.kind_of(table["y"]) == kind
    assert table["y"][0].as_py() == value


@pytest.mark.parametrize(
    "value",
    [None, {"a": 1}, [[1]], object(), [1, "a"], 1j, b"a", [b"a"], [True, 1], [None]]
    + [2**63, [-(2**63) - 1], [2**60, 0.5], "\ud800", ["a", "\udfff"], Decimal(1)]
    + [datetime.now(), date.today(), timedelta(1), np.zeros((2, 2)), np.array(1j)]
    + [np.datetime64("2020", "ns"), np.timedelta64(1, "ns"), np.array(["2020"], "M8")]
    + [np.longdouble(1), np.array([b"a"]), np.array([None]), np.uint64(2**63)]
    + [np.array([(1, 2.0)], "i4,f4"), np.ma.masked_array([1.0], [True]), {1}, range(3)],
)
def test_other_values_are_refused_by_name(value):
    with pytest.raises(TypeError, match="column 'y' holds .* (return|encode)"):
        columns.kind("y", columns.plain(value))
