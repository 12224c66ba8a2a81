"""The zip of a sweep's source is whole, always the same, and stays what it was."""

import io
import sys
import tempfile
import zipfile

import pytest

from symlab.harness import parcel


@pytest.fixture
def packed(sandbox):
    (sandbox.root / "measured.csv").write_text("1\n")
    (sandbox.root / "unused.py").write_text("")
    sandbox.edit("experiments/line.py", "LANES = 4", 'DATA = ("measured.csv",)')
    tasks = [{"root": str(sandbox.root), "name": "line"}]
    return parcel.pack(tasks), parcel.pack(tasks)


def test_it_holds_what_runs_need_and_is_the_same_each_time(packed):
    (data, name), again = packed
    assert again == (data, name)
    found = set(zipfile.ZipFile(io.BytesIO(data)).namelist())
    needed = {"experiments/line.py", "middle.py", "deep.py", "measured.csv"}
    assert {f"project/{n}" for n in needed} <= found
    assert {"lib/symlab/__init__.py", "lib/symlab/harness/children.py"} <= found
    assert "project/unused.py" not in found


def test_files_that_were_deleted_from_the_folder_are_unpacked_again(
    packed, tmp_path, monkeypatch
):
    (data, name), _ = packed
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folders = []
    for _ in range(2):
        with pytest.raises(KeyError):  # it unpacks, and then there is no task
            parcel.carrier()(data, name, {})
        folder = sys.modules.pop(f"_symlab_crew_{name}").crew.folder
        assert (folder / "project" / "deep.py").is_file()
        (folder / "project" / "deep.py").unlink()
        folders.append(folder)
    assert folders[0].name == name
    assert folders[1] != folders[0]
