"""Two trees of results, compared row by row: what is equal, near, beyond or missing."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from symlab.harness import compare, files, trees
from symlab.harness.compare import Tolerance
from symlab.harness.differences import BEYOND, EQUAL, WITHIN, apart
from symlab.harness.errors import UserError
from symlab.harness.store import META, Store

NAN, INF = math.nan, math.inf


def states(a, b, absolute=0.0, relative=0.0) -> list[int]:
    return apart(pa.array(a), pa.array(b), Tolerance(absolute, relative)).state.tolist()


# --- values --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "state"),
    [
        (1.0, 1.0, EQUAL), (0.0, -0.0, EQUAL), (NAN, NAN, EQUAL), (INF, INF, EQUAL),
        (None, None, EQUAL), ("x", "x", EQUAL), (True, True, EQUAL), (3, 3.0, EQUAL),
        (100.0, 101.0, WITHIN), (101.0, 100.0, WITHIN), (0.0, 0.5, WITHIN),
        (100, 101, WITHIN), (100.0, 102.0, BEYOND), (INF, -INF, BEYOND),
        (INF, 1e308, BEYOND), (NAN, 1.0, BEYOND), (None, NAN, BEYOND),
        (None, 0.0, BEYOND), ("x", "y", BEYOND), (True, False, BEYOND),
        (2**60, 2**60, EQUAL), (2**60, 2**60 + 1, BEYOND), (True, 1, BEYOND),
        ("1", 1, BEYOND), ([1.0, NAN], [1.0, NAN], EQUAL), ([], [], EQUAL),
        ([100.0, 1.0], [101.0, 1.0], WITHIN), ([100.0, 1.0], [102.0, 1.0], BEYOND),
        ([1.0], [1.0, 1.0], BEYOND), ([], [1.0], BEYOND), (None, [], BEYOND),
        ([1.0, None], [1.0, None], EQUAL), ([1.0, None], [1.0, NAN], BEYOND),
        ([[1.0], [2.0, NAN]], [[1.0], [2.0, NAN]], EQUAL),
        ([[1.0], [100.0]], [[1.0], [101.0]], WITHIN), ([[1.0]], [[1.0, 2.0]], BEYOND),
        (["a"], ["a"], EQUAL), (["a"], ["b"], BEYOND), ({"u": NAN}, {"u": NAN}, EQUAL),
        ({"u": 1.0}, {"u": 2.0}, BEYOND),
    ],
)  # fmt: skip
def test_a_value_is_equal_near_or_beyond(a, b, state):
    assert states([a], [b], absolute=0.5, relative=0.01) == [state]
    if type(a) is type(b):
        assert states([b, b], [a, b], absolute=0.5, relative=0.01) == [state, EQUAL]


def test_the_farthest_entry_of_a_list_counts_for_its_row():
    rng = np.random.default_rng(0)
    a = [rng.normal(size=n).tolist() for n in (3, 0, 2, 5)]
    b = [list(values) for values in a]
    b[3][4] += 0.25
    b[2][0] += 1e-9
    found = apart(pa.array(a), pa.array(b), Tolerance(1e-6, 0.0))
    assert found.state.tolist() == [EQUAL, EQUAL, WITHIN, BEYOND]
    assert found.absolute == pytest.approx(0.25)
    largest = max(abs(a[3][4]), abs(b[3][4]))
    assert found.relative == pytest.approx(0.25 / largest)


def test_types_that_differ_are_said():
    said = apart(pa.array([1, 2]), pa.array([1.0, 2.0]), Tolerance()).said
    assert said == "holds int in A and float in B: compared as float"
    said = apart(pa.array(["1"]), pa.array([1.0]), Tolerance()).said
    assert said == "holds string in A and float in B: these are not compared"
    assert "unequal length" in apart(pa.array([[1]]), pa.array([[]]), Tolerance()).said
    struct = pa.array([{"u": 1.0}])
    assert "for equality only" in apart(struct, struct, Tolerance()).said


# --- rows ----------------------------------------------------------------------------


def rows(folder, name="line", scale="quick", code="c", **values):
    """Write runs k0, k1, ... with these columns."""
    n = len(next(iter(values.values())))
    given = {
        "key": [f"k{i}" for i in range(n)],
        "code": [code] * n,
        "wall_s": [1.0] * n,
    }
    given = given | {"status": ["ok"] * n} | values
    given |= {"code": code} if isinstance(code, list) else {}
    types = {c: META[c] for c in given if c in META}
    table = pa.table({c: pa.array(v, types.get(c)) for c, v in given.items()})
    path = folder / scale / f"{name}.parquet"
    files.write_table(table, path)
    return path


def compared(tmp_path, **options):
    options = {"tolerance": Tolerance(0.0, 0.01)} | options
    found = compare.compare(
        trees.tree(tmp_path / "a"), trees.tree(tmp_path / "b"), **options
    )
    return found[0] if len(found) == 1 else found


def test_rows_are_counted_and_the_columns_that_differ_are_named(tmp_path):
    rows(tmp_path / "a", loss=[1.0, 100.0, 5.0, 7.0], key=["k1", "k2", "k3", "k4"])
    rows(tmp_path / "b", loss=[6.0, 100.5, 1.0, 9.0], key=["k3", "k2", "k1", "k0"])
    found = compared(tmp_path)
    assert found.rows == {"equal": 1, "within": 1, "beyond": 1, "only in A": 1,
                          "only in B": 1, "unclear": 0, "other code": 0}  # fmt: skip
    (row,) = found.columns.to_dict("records")
    assert row == {"column": "loss", "rows": 1, "absolute": pytest.approx(1.0),
                   "relative": pytest.approx(1 / 6), "first run": "k3"}  # fmt: skip
    assert not found.same


def test_tolerances_are_of_all_columns_or_of_one(tmp_path):
    rows(tmp_path / "a", loss=[1.0], rank=[100.0])
    rows(tmp_path / "b", loss=[1.5], rank=[101.0])
    assert compared(tmp_path).columns.column.tolist() == ["loss"]
    own = Tolerance(0.0, 0.01, {"loss": Tolerance(0.5, 0.0)})
    assert compared(tmp_path, tolerance=own).same
    with pytest.raises(UserError, match="unknown column 'los': did you mean loss"):
        compared(tmp_path, tolerance=Tolerance(columns={"los": Tolerance()}))


def test_provenance_counts_only_where_it_is_asked_for(tmp_path):
    rows(tmp_path / "a", loss=[1.0], device=["cpu"], finished=["2026"])
    rows(tmp_path / "b", loss=[1.0], device=["cuda"], finished=["2027"], wall_s=[9.0])
    assert compared(tmp_path).rows["equal"] == 1
    asked = compared(tmp_path, provenance=True)
    assert asked.columns.column.tolist() == ["wall_s", "device", "finished"]


def test_rows_of_other_code_are_paired_where_it_is_clear_which(tmp_path):
    rows(tmp_path / "a", loss=[1.0], code="old")
    rows(tmp_path / "b", loss=[1.0], code="new")
    assert compared(tmp_path).same  # one row of the run in each
    rows(tmp_path / "b", loss=[1.0, 2.0], key=["k0", "k0"], code=["old", "new"])
    found = compared(tmp_path)
    assert found.same
    assert (found.rows["equal"], found.rows["other code"]) == (1, 1)
    rows(tmp_path / "b", loss=[1.0, 2.0], key=["k0", "k0"], code=["new", "newer"])
    found = compared(tmp_path)
    assert (found.rows["unclear"], found.rows["equal"], found.same) == (1, 0, False)
    assert "rows of 1 versions of the code in A and of 2 in B" in found.said[0]


def test_a_run_that_failed_on_one_side_differs(tmp_path):
    rows(tmp_path / "a", loss=[1.0, None], status=["ok", "failed"], error=["", "a/b:"])
    rows(tmp_path / "b", loss=[1.0, None], status=["ok", "failed"], error=["", "c/d:"])
    assert compared(tmp_path).same  # a traceback holds paths
    rows(tmp_path / "b", loss=[1.0, 2.0])
    assert compared(tmp_path).columns.column.tolist() == ["status", "loss"]


def test_a_column_that_one_tree_lacks_is_said(tmp_path):
    rows(tmp_path / "a", loss=[1.0], old=[2.0], nothing=pa.nulls(1))
    rows(tmp_path / "b", loss=[1.0], new=[3.0])
    found = compared(tmp_path)
    assert found.said == [
        "column old has no values in B",
        "column new has no values in A",
    ]
    assert found.rows["beyond"] == 1


def test_runs_that_stand_twice_are_not_compared(tmp_path):
    path = rows(tmp_path / "a", loss=[1.0, 2.0, 3.0], key=["k0", "k0", "k1"])
    rows(tmp_path / "b", loss=[1.0, 3.0])
    before = path.read_bytes()
    found = compared(tmp_path)
    assert (found.rows["unclear"], found.rows["equal"], found.same) == (1, 1, False)
    assert found.said == ["run k0 has several rows of one code: none was compared"]
    assert path.read_bytes() == before


def test_parts_that_were_not_packed_yet_count(tmp_path):
    store = Store(tmp_path / "a" / "quick", "line")
    row = {"key": "k0", "code": "c", "status": "ok", "loss": 1.0}
    store.write_part([row], {"c": {"m:f": "1"}})
    rows(tmp_path / "b", loss=[1.0])
    assert compared(tmp_path).rows["equal"] == 1
    assert not store.file.exists()  # a comparison packs nothing


def test_a_damaged_file_stays_and_is_a_sentence(tmp_path):
    path = rows(tmp_path / "a", loss=[1.0])
    rows(tmp_path / "b", loss=[1.0])
    rows(tmp_path / "a", "other", loss=[1.0])
    rows(tmp_path / "b", "other", loss=[1.0])
    path.write_bytes(path.read_bytes()[:-20])
    line, other = compared(tmp_path)
    assert other.same
    assert not line.same
    assert len(line.said) == 1
    assert "line.parquet cannot be read (" in line.said[0]
    assert [p.name for p in path.parent.iterdir()] == ["line.parquet", "other.parquet"]


def test_folders_of_one_scale_and_of_all_are_trees(tmp_path):
    rows(tmp_path / "a", loss=[1.0])
    rows(tmp_path / "a", loss=[1.0], scale="smoke")
    rows(tmp_path / "a" / "reference", loss=[1.0])  # committed rows are another tree
    assert set(trees.tree(tmp_path / "a").tables) == {
        ("quick", "line"), ("smoke", "line")
    }  # fmt: skip
    assert set(trees.tree(tmp_path / "a" / "quick").tables) == {("quick", "line")}
    plain = shutil.copytree(tmp_path / "a" / "quick", tmp_path / "mine")
    assert set(trees.tree(plain).tables) == {("", "line")}
    rows(tmp_path / "b", loss=[1.0], scale="paper")
    said = "has rows of scale quick and smoke, and .* of paper: name two trees"
    with pytest.raises(UserError, match=said):
        compared(tmp_path)


# --- the command ---------------------------------------------------------------------


def test_the_command_says_what_differs_and_how_it_ended(sandbox):
    a, b = sandbox.root / "a", sandbox.root / "b"
    rows(a, loss=[1.0, 2.0])
    rows(b, loss=[1.0, 2.0 + 1e-9])
    done = sandbox("diff", "a", "b")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("no difference beyond the tolerance\n")
    done = sandbox("diff", "a", "b", "line", "--rtol", "1e-12", "--atol", "0")
    assert done.returncode == 1
    assert "line (quick)\n  column  rows  absolute  relative first run" in done.stdout
    assert done.stdout.endswith("1 of 1 experiments differ beyond the tolerance\n")
    assert not sandbox("diff", "a", "b", "--rtol", "loss=0.1", "--rtol", "0").returncode
    done = sandbox("diff", "a", "b", "--rtol", "0", "--atol", "0", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["same"], told["experiments"][0]["rows"]["beyond"]) == (False, 1)
    assert told["experiments"][0]["columns"][0]["first run"] == "k1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "none"], "there is no folder or archive none"),
        (["a", "empty"], "empty holds no rows"),
        (["a", "a", "lin"], "unknown experiment 'lin': did you mean line"),
        (["a", "a", "--rtol", "much"], "'much' is not a tolerance"),
        (["a", "a", "--atol", "-1"], "'-1' is not a tolerance"),
        (["a", "a", "--rtol", "loss=nan"], "'loss=nan' is not a tolerance"),
        (["a", "a", "--rtol", "los=1"], "unknown column 'los'"),
        (["a", "notes.txt"], "notes.txt is damaged or is no ZIP file"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(sandbox, words, said):
    rows(sandbox.root / "a", loss=[1.0])
    (sandbox.root / "empty").mkdir()
    sandbox.write("notes.txt", "not an archive")
    done = sandbox("diff", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_table_of_pandas_is_read_as_rows_are(tmp_path):
    frame = pd.DataFrame(
        {"key": ["k0"], "code": ["c"], "status": ["ok"], "loss": [1.0]}
    )
    (tmp_path / "b" / "quick").mkdir(parents=True)
    frame.to_parquet(tmp_path / "b" / "quick" / "line.parquet")
    rows(tmp_path / "a", loss=[1.0])
    assert compared(tmp_path).same
