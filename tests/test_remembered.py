"""What was reached last time is used again only while every file says the same."""

import json
import os
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from symlab.harness import code, effects, remembered


@pytest.fixture
def reach(sandbox, monkeypatch):
    """A function that says what `run` reaches, and whether the code was followed."""
    monkeypatch.delenv("SYMLAB_RESULTS", raising=False)
    monkeypatch.chdir(sandbox.root)
    others = str(sandbox.root.parents[1])  # projects of tests before this one
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not p.startswith(others)])
    (sandbox.root / "results").mkdir()
    sandbox.write("numbers.csv", "1\n")

    def reach(names=("run",)):
        followed = []
        original = code._Reach.walk
        with monkeypatch.context() as m:
            m.setattr(code._Reach, "walk",
                      lambda *a: (followed.append(1), original(*a))[1])  # fmt: skip
            found = code.reach(sandbox.root, "experiments.line", names, ["numbers.csv"])
        return found, bool(followed)

    return reach


def answers(sandbox):
    return sorted((sandbox.root / "results" / remembered.FOLDER).glob("*.json"))


def test_the_same_answer_comes_from_memory(sandbox, reach):
    first, followed = reach()
    assert followed
    again, followed = reach()
    assert not followed
    assert again == first
    assert list(again.definitions) == list(first.definitions)
    assert again.code == first.code
    other, followed = reach(["run", "CLAIMS"])
    assert followed
    assert other.code != first.code
    assert len(answers(sandbox)) == 2


def unmoved(path, text):
    """Write a file without a change of its size or its times."""
    before = path.stat()
    assert len(text) == before.st_size
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_an_edit_of_equal_size_and_time_is_seen(sandbox, reach):
    path = sandbox.root / "deep.py"
    old, text = reach()[0], path.read_text()
    unmoved(path, text.replace("2.0", "3.0"))
    new, followed = reach()
    assert followed
    assert code.changed(old.definitions, new.definitions) == ["deep:factor"]
    unmoved(path, text)
    assert reach()[0] == old


def test_data_of_equal_size_and_time_are_read(sandbox, reach):
    old = reach()[0]
    unmoved(sandbox.root / "numbers.csv", "2\n")
    new, followed = reach()
    assert followed
    assert code.changed(old.definitions, new.definitions) == ["data:numbers.csv"]


@pytest.mark.parametrize("how", ["package", "gone", "shadow"])
def test_another_file_for_a_name_is_seen(sandbox, reach, monkeypatch, how):
    reach()
    if how == "package":  # stands before middle.py
        (sandbox.root / "middle").mkdir()
        sandbox.write("middle/__init__.py", "def scale(x):\n    return 5 * x\n")
        assert reach()[0].definitions.keys() >= {"middle:scale"}
    elif how == "gone":
        (sandbox.root / "deep.py").unlink()
        assert "deep:factor" not in reach()[0].definitions
    else:  # a file of ours in place of a module of Python
        sandbox.write("dataclasses.py", "def dataclass(**_):\n    return lambda c: c\n")
        assert "dataclasses:dataclass" in reach()[0].definitions
    assert not reach()[1]


def test_a_search_path_or_builtin_of_another_kind_asks_again(reach, monkeypatch):
    reach()
    monkeypatch.setattr(sys, "path", [*sys.path, "/nowhere"])
    assert reach()[1]
    monkeypatch.setattr("builtins.scale", None, raising=False)
    assert reach()[1]


def test_an_answer_of_another_version_of_this_code_does_not_count(reach, monkeypatch):
    for module in (code, effects, remembered):
        own = sha256(Path(module.__file__).read_bytes()).hexdigest()
        assert own in remembered.OWN
    reach()
    monkeypatch.setattr(remembered, "OWN", ["other"])
    assert reach()[1]


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "list", "moved"])
def test_a_damaged_answer_costs_time_only(sandbox, reach, damage):
    first = reach()[0]
    (path,) = answers(sandbox)
    kept = json.loads(path.read_text())
    if damage == "changed":
        kept["told"]["answer"]["definitions"]["deep:factor"] = "0" * 12
    elif damage == "moved":  # the answer to another question
        reach(["draw"])
        (other,) = set(answers(sandbox)) - {path}
        kept = json.loads(other.read_text())
    elif damage == "list":
        kept = [kept]
    text = json.dumps(kept)
    path.write_text({"cut": text[:-9], "empty": ""}.get(damage, text))
    assert reach() == (first, True)
    assert reach() == (first, False)


def test_without_a_folder_of_results_nothing_is_left(sandbox, reach):
    (sandbox.root / "results").rmdir()
    assert reach()[1]
    assert reach()[1]
    assert not (sandbox.root / "results").exists()


def test_a_folder_that_cannot_be_written_costs_time_only(sandbox, reach):
    sandbox.write(f"results/{remembered.FOLDER}", "a file in place of the folder")
    assert reach()[1]
    assert reach()[1]


def test_a_picture_is_made_once_for_equal_content(tmp_path, monkeypatch):
    monkeypatch.delenv("SYMLAB_RESULTS", raising=False)
    made = []

    def make():
        made.append(1)
        return b"small"

    (tmp_path / "results").mkdir()
    for source in (b"one", b"one", b"two", b"one"):
        assert remembered.picture(tmp_path, source, make) == b"small"
    assert len(made) == 2
    for path in remembered.folder(tmp_path).glob("*.png"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert remembered.picture(tmp_path, b"one", make) == b"small"  # a damaged one
    assert len(made) == 3
    (other := tmp_path / "other").mkdir()
    assert remembered.picture(other, b"one", make) == b"small"
    assert not list(other.iterdir())


def test_the_oldest_answers_go(sandbox, reach, monkeypatch):
    monkeypatch.setattr(remembered, "MOST", 10)
    folder = sandbox.root / "results" / remembered.FOLDER
    folder.mkdir()
    for i in range(10):
        (folder / f"{i}.json").write_text("")
        os.utime(folder / f"{i}.json", (i, i))
    reach()
    assert {p.name for p in folder.glob("?.json")} == {
        f"{i}.json" for i in range(1, 10)
    }
    assert not reach()[1]
