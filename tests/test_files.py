"""A damaged file is never read as other content; no write leaves anything behind."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from symlab.harness import engine, files, worker
from symlab.harness.project import Project
from symlab.harness.store import Store, manifests
from tests.test_store import row

HOME = Path(__file__).resolve().parents[1]
MANIFEST = {f"module:function_{i}": f"{i:016x}" for i in range(200)}
FLIPS = 300


def filled(folder: Path, n: int = 40) -> Store:
    store = Store(folder, "e")
    draws = np.random.default_rng(0)
    rows = [row(f"key{i}", curve=draws.normal(size=50).tolist()) for i in range(n)]
    store.write_part([{**r, "name": f"arm {i}"} for i, r in enumerate(rows)], {})
    store.write_part([row("old", code="old", curve="text")], {"old": MANIFEST})
    store.pack()
    return store


def test_no_flipped_bit_is_read_as_other_content(tmp_path, capsys):
    store = filled(tmp_path)
    whole, before = store.file.read_bytes(), store.read()
    draws = random.Random(0)
    damaged = 0
    for at in (draws.randrange(8 * len(whole)) for _ in range(FLIPS)):
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        store.file.write_bytes(flipped)
        after = Store(tmp_path, "e").read()
        if after.num_rows:
            assert after.equals(before, check_metadata=True), f"bit {at}"
        else:
            damaged += 1
    assert damaged > 0.95 * FLIPS  # a flip in the mark of the seal changes no content
    assert capsys.readouterr().err.count("is damaged") == damaged


def test_any_reader_opens_a_sealed_file(tmp_path):
    file = filled(tmp_path).file
    frame = pd.read_parquet(file)
    assert len(frame) == len(pq.read_table(file)) == 41
    assert frame["curve (string)"].dropna().tolist() == ["text"]
    assert pq.read_table(file, columns=["curve"], memory_map=True).num_rows == 41
    duckdb = pytest.importorskip("duckdb")
    assert duckdb.sql(f"select count(*) from '{file}' where key < 'l'") \
        .fetchall() == [(40,)]  # fmt: skip


def test_the_seal_is_small(tmp_path):
    table = filled(tmp_path, n=400).read()
    pq.write_table(table, tmp_path / "plain", compression="zstd")
    files.write_table(table, tmp_path / "sealed")
    sizes = [(tmp_path / name).stat().st_size for name in ("sealed", "plain")]
    assert sizes[0] / sizes[1] < 1.002


def test_a_file_without_a_seal_is_read(tmp_path):
    store = filled(tmp_path)
    before = store.read()
    pq.write_table(before, store.file)
    assert Store(tmp_path, "e").read().equals(before)


OLD_TYPES = {"a": pa.list_(pa.float64()), "b": pa.int64(), "c": pa.null()}


def test_files_of_before_are_read_whatever_their_types(tmp_path):
    """Then, an empty list was one of floats, and a manifest was in each part."""
    store = Store(tmp_path, "e")
    old = pa.Table.from_pylist([row("1", code="old")])
    values = {"a": [[]], "b": [2**60], "c": [None]}
    for name, kind in OLD_TYPES.items():
        old = old.append_column(name, pa.array(values[name], kind))
    old = Store.with_manifests(old, {"old": MANIFEST})
    store.parts.mkdir(parents=True)
    pq.write_table(old, store.parts / "1764480000000000000-77-1.parquet")
    store.write_part([row("2", a=["x"], b=0.5, c=True)], {"c": {"f": "1"}})
    assert "a (list of string)" not in store.frame()
    for _ in range(2):
        assert list(store.frame("old").a[0]) == []
        assert store.frame("old").b[0] == 2**60
        assert list(store.frame("c").a[0]) == ["x"]
        assert store.frame("c").b[0] == 0.5
        assert store.frame("c").c[0]
        assert manifests(store.read()) == {"old": MANIFEST, "c": {"f": "1"}}
        store.pack()


def test_a_part_holds_no_manifest_and_the_packed_file_does(tmp_path):
    store = Store(tmp_path, "e")
    for i in range(20):
        store.write_part([row(str(i), y=1.0)], {"c": MANIFEST})
    sizes = [p.stat().st_size for p in store.parts.glob("*.parquet")]
    assert max(sizes) < 7000
    assert len(list(store.parts.glob("*.json"))) == 1
    store.pack()
    assert b"function_199" in pq.read_schema(store.file).metadata[b"symlab.manifests"]
    assert [p.name for p in store.parts.iterdir()] in ([], [".lock"])


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_gives_the_mode(tmp_path, mask):
    before = os.umask(mask)
    try:
        file = filled(tmp_path).file
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o666 & ~mask


KILLS = 20
KILLED = f"""
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.test_files import filled, temporary
folder, draws, rename = Path(sys.argv[1]), random.Random(0), os.replace
filled(folder)
left = 0
for _ in range({KILLS}):
    before = set(temporary(folder))
    child = os.fork()
    if child == 0:  # a slow disk: a temporary file stands for a while
        os.replace = lambda *names: (time.sleep(0.02), rename(*names))
    while child == 0:
        filled(folder)
    while set(temporary(folder)) <= before:
        time.sleep(0.001)
    time.sleep(draws.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    left += bool(set(temporary(folder)) - before)
print(left)
"""


def temporary(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.name.endswith(".tmp")]


def test_no_temporary_file_outlives_the_next_call(tmp_path):
    """Processes are killed while they write, another lives and is left alone."""
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(HOME)]
    told = subprocess.run(command, check=True, timeout=300, capture_output=True)
    assert int(told.stdout) > 0, "no kill left a temporary file"
    (tmp_path / ".e.parquet.0123.tmp").write_text("half a file")
    mine, handle = files._open_locked(tmp_path / "e.parquet")
    store = Store(tmp_path, "e")
    store.pack()
    assert temporary(tmp_path) == [mine]
    os.close(handle)
    store.pack()
    assert temporary(tmp_path) == []
    assert len(store.frame()) == 41


def test_large_results_do_not_wait_in_memory(tmp_path):
    store = Store(tmp_path, "e")
    reached = SimpleNamespace(versions={"python": "3"})
    experiment = SimpleNamespace(name="e", reached=reached, claims=[])
    plan = SimpleNamespace(experiment=experiment, store=store, code="c", manifest={})
    every = [{"checkpoints": str(tmp_path / "none"), "keys": range(17)}]
    sink = engine._Sink(Project(tmp_path), [plan], engine.Report(), every)
    parts = []
    for i in range(2 * 8 + 1):
        task = {"name": "e", "keys": [str(i)], "configs": [{"seed": i}], "code": "c"}
        outcome = worker.outcome(
            {"device": "cpu"}, str(i), result={"curve": [0.0] * 2**20}
        )
        sink.take({**task, "checkpoints": str(tmp_path / "none")}, [outcome])
        parts.append(len(list(store.parts.glob("*.parquet"))))
    assert parts == [0] * 7 + [1] * 8 + [2] * 2
    sink.close()
    assert len(store.frame("c")) == 17


def counted(monkeypatch) -> list[Path]:
    read, found = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda p: found.append(p) or read(p))
    return found


def test_files_are_read_once_until_they_change(tmp_path, monkeypatch):
    store, reads = filled(tmp_path), counted(monkeypatch)
    store.frame("c")
    n = len(reads)
    for _ in range(3):
        store.frame("c")
        store.read()
    assert len(reads) == n
    Store(tmp_path, "e").write_part([row("new", y=1.0)], {})  # by another process
    assert "new" in set(store.frame("c").key)
    Store(tmp_path, "e").pack()
    Store(tmp_path, "e").write_part([row("newer", y=1.0)], {})
    assert {"new", "newer"} <= set(store.frame("c").key)
    store.file.unlink()
    assert set(store.frame("c").key) == {"newer"}


def test_a_later_row_is_later_whatever_the_clock_says(tmp_path, monkeypatch):
    store = Store(tmp_path, "e")
    store.write_part([row("a", finished="2030", y=1.0)], {})
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    Store(tmp_path, "e").write_part([row("a", finished="1970", y=2.0)], {})
    assert store.frame("c").y.tolist() == [2.0]
    store.pack()
    Store(tmp_path, "e").write_part([row("a", finished="1960", y=3.0)], {})
    assert store.frame("c").y.tolist() == [3.0]
    store.pack()
    assert store.frame("c").y.tolist() == [3.0]


def test_more_parts_than_ten_are_in_order(tmp_path):
    for i in range(12):
        Store(tmp_path, "e").write_part([row("a", y=float(i))], {})
    assert Store(tmp_path, "e").frame("c").y.tolist() == [11.0]
