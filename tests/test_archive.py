"""An archive holds what a result rests on, and reads back as it was."""

import io
import json
import shutil
import zipfile
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest
from rocrate.rocrate import ROCrate

import symlab
from symlab.harness import archive, crate, files, findings, packing, project
from symlab.harness.claims import Paper
from symlab.harness.errors import UserError

PROJECT = """[project]
name = "lines"
description = "Lines"
license = "MIT"
"""
AUTHORS = (
    'authors:\n  - family-names: Noether\n    given-names: Emmy\n  - name: "A B"\n'
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A small project whose rows and figure were packed, and its archive."""
    from tests.conftest import Sandbox

    sandbox = Sandbox(tmp_path_factory.mktemp("project"))
    sandbox.write("pyproject.toml", PROJECT)
    sandbox.write("CITATION.cff", AUTHORS)
    (sandbox.root / "docs" / ".hidden").mkdir(parents=True)
    sandbox.write("docs/a page.md", "# Lines\n")
    sandbox.write("docs/.hidden/page.md", "no part of the source")
    done = sandbox("fig", "line", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    done = sandbox("archive", "line.zip")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wrote line.zip: 1 experiments, 12 rows, 1 figures, ")
    return sandbox


def content(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_it_holds_rows_figures_claims_source_and_environment(packed):
    found = content(packed.root / "line.zip")
    assert list(found) == sorted(found)
    outside = {n for n in found if not n.startswith("source/")}
    assert outside == {
        "archive.json", "claims.csv", "environment.json", "environment.txt",
        "figures/line.json", "figures/line.pdf", "figures/line.png",
        "results/quick/line.parquet", "ro-crate-metadata.json",
    }  # fmt: skip
    for name in ("deep.py", "middle.py", "experiments/line.py", "docs/a page.md",
                 "pyproject.toml"):  # fmt: skip
        assert found[f"source/{name}"] == (packed.root / name).read_bytes()
    assert "source/symlab/harness/report.html.j2" in found
    assert not [n for n in found if "hidden" in n or "__pycache__" in n]
    claims = pd.read_csv(io.BytesIO(found["claims.csv"]))
    assert claims.verdict.tolist() == ["held"]
    environment = json.loads(found["environment.json"])
    assert environment["packages"]["numpy"]
    assert f"numpy=={environment['packages']['numpy']}\n" in str(
        found["environment.txt"], "ascii"
    )


def test_nothing_in_it_names_the_machine_or_its_folders(packed):
    import getpass
    import platform

    own = {n: d for n, d in content(packed.root / "line.zip").items()
           if not n.startswith(("source/symlab", "figures/"))}  # fmt: skip
    for word in (
        platform.node(),
        str(packed.root),
        str(Path.home() / getpass.getuser()),
    ):
        assert not [n for n, data in own.items() if word and word.encode() in data], (
            word
        )


def test_equal_content_gives_equal_bytes(packed):
    assert packed("archive", "again.zip").returncode == 0
    first = (packed.root / "line.zip").read_bytes()
    assert (packed.root / "again.zip").read_bytes() == first


def test_rows_are_read_back_as_they_were(packed, monkeypatch):
    monkeypatch.chdir(packed.root)
    monkeypatch.delenv("SYMLAB_RESULTS", raising=False)
    rows = symlab.load("line")
    read = symlab.load("line", archive="line.zip")
    pd.testing.assert_frame_equal(read, rows)
    assert read.x.tolist() == [1.0] * 4 + [2.0] * 4 + [3.0] * 4  # as in the sweep
    packed.edit("deep.py", "2.0", "2.5")
    try:
        with pytest.warns(UserWarning, match="make them by .*or pass reference=True"):
            assert len(symlab.load("line")) == 0
        pd.testing.assert_frame_equal(symlab.load("line", archive="line.zip"), rows)
    finally:
        packed.edit("deep.py", "2.5", "2.0")
    with pytest.raises(UserError, match="unknown experiment 'lin': did you mean line"):
        symlab.load("lin", archive="line.zip")
    with pytest.raises(UserError, match="unknown scale 'smoke'.*known: quick"):
        symlab.load("line", "smoke", archive="line.zip")
    with pytest.raises(UserError, match="leave out reference and seed0"):
        symlab.load("line", reference=True, archive="line.zip")


def test_an_archive_is_compared_with_a_folder(packed):
    done = packed("diff", "results", "line.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12       0       0          0          0" in done.stdout
    changed(packed.root / "line.zip", packed.root / "bad.zip", line=b"other rows")
    done = packed("diff", "results", "bad.zip")
    assert done.returncode == 1
    assert "line (quick)\n  bad.zip is damaged" in done.stdout
    assert done.stdout.endswith("1 of 1 experiments differ beyond the tolerance\n")


# --- metadata ------------------------------------------------------------------------


def test_a_library_of_others_reads_the_metadata(packed, tmp_path):
    shutil.unpack_archive(packed.root / "line.zip", tmp_path)
    read = ROCrate(tmp_path)
    root = read.root_dataset
    assert root["name"] == "lines: rows, figures and verdicts at scale quick"
    assert root["license"]["name"] == "MIT"
    assert [a["name"] for a in root["author"]] == ["Emmy Noether", "A B"]
    named = {e.id for e in root["hasPart"]}
    there = {
        p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()
    }
    assert {crate.quoted(n) for n in there} - {crate.NAME} == named
    assert "source/docs/a%20page.md" in named
    figure = read.dereference("figures/line.png")
    assert figure["encodingFormat"] == "image/png"
    assert int(figure["contentSize"]) == (tmp_path / "figures/line.png").stat().st_size


def test_metadata_follow_the_specification():
    """https://www.researchobject.org/ro-crate/specification/1.1/root-data-entity.html"""
    papers = [Paper("A 2024", "A", "T", 2024, "2401.00001"),
              Paper("B & C", "B", "U", 2023, "")]  # fmt: skip
    about = {"name": "N", "description": "D", "license": "MIT"}
    found = crate.metadata({"a b.csv": b"12"}, "2026-11-30", about, ["E N"], papers)
    assert found["@context"] == "https://w3id.org/ro/crate/1.1/context"
    by_id = {e["@id"]: e for e in found["@graph"]}
    assert len(by_id) == len(found["@graph"])
    descriptor, root = by_id["ro-crate-metadata.json"], by_id["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert descriptor["about"] == {"@id": "./"}
    assert root["@type"] == "Dataset"
    assert {"name", "description", "datePublished", "license"} <= root.keys()
    values = [x for e in found["@graph"] for x in e.values()]
    values += [v for x in values if isinstance(x, list) for v in x]
    links = {v["@id"] for v in values if isinstance(v, dict)} - {crate.PROFILE}
    assert links == by_id.keys() - {"ro-crate-metadata.json"}
    assert by_id["a%20b.csv"]["contentSize"] == "2"
    assert by_id["#paper-B-C"]["name"] == "U"


# --- what is refused -----------------------------------------------------------------


def test_a_file_that_is_there_is_left_as_it_is(packed):
    done = packed("archive", "line.zip")
    assert done.returncode == 2
    assert "line.zip exists and is left as it is" in done.stderr
    path = packed.root / "other.zip"
    path.write_text("mine")
    with pytest.raises(UserError, match="exists and is left as it is"):
        archive.write(path, {}, {})
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["line.tar"], "line.tar does not end in .zip"),
        (["none/line2.zip"], "name a file in a folder that exists"),
        (["line2.zip", "lin"], "unknown figure or experiment 'lin'"),
        (["line2.zip", "--scale", "smoke"], "line lacks 12 of 12 runs at scale smoke"),
        (["line2.zip", "--reference"], "line lacks 12 of 12 runs at scale quick"),
    ],
)
def test_what_cannot_be_packed_is_one_sentence(packed, words, said):
    done = packed("archive", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (packed.root / "line2.zip").exists()


def test_a_figure_of_other_rows_is_left_out_and_said(packed):
    (packed.root / "figures" / "line.pdf").rename(packed.root / "figures" / "line.x")
    try:
        found = packing.pack(
            project.Project(packed.root), packed.root / "f.zip", "quick"
        )
    finally:
        (packed.root / "figures" / "line.x").rename(
            packed.root / "figures" / "line.pdf"
        )
    assert found.figures == 0
    assert found.said == ["line is left out: it is not drawn from these rows "
                          "(`make line SCALE=quick` draws it)"]  # fmt: skip
    assert not [n for n in content(packed.root / "f.zip") if n.startswith("figures/")]


def test_a_figure_that_shows_other_experiments_too_is_left_out(packed, monkeypatch):
    shown = {"line": ["line"], "both": ["line", "other"], "others": ["other"]}
    monkeypatch.setattr(packing.contract, "figures", lambda _: shown)
    place = project.Project(packed.root)
    plans = [packing.plan.make(place, "line", "quick")]
    found, said = packing._figures(place, plans, {"line": findings.verdicts(plans)})
    assert set(found) == {"figures/line.json", "figures/line.pdf", "figures/line.png"}
    assert said == ["both is left out: it also shows other, which is not packed"]


def changed(path: Path, target: Path, **replaced) -> Path:
    """The archive with other content of some files, whose ZIP checksums are right."""
    with zipfile.ZipFile(target, "w") as file:
        for name, data in content(path).items():
            new = replaced.get(Path(name).stem, data)
            if new is not None:
                file.writestr(name, new)
    return target


@pytest.mark.parametrize("damage", ["cut", "flipped", "row", "gone", "text"])
def test_a_damaged_archive_is_one_sentence(packed, tmp_path, damage):
    whole, path = packed.root / "line.zip", tmp_path / "x.zip"
    data = whole.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        at = data.index(b"PAR1") + 100  # in the rows
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif damage == "row":
        other = archive.read(whole).table("quick", "line").slice(0, 3)
        changed(whole, path, line=b"".join(files.pieces_of(other)))
    elif damage == "gone":
        changed(whole, path, line=None)
    else:
        path.write_text("no archive")
    with pytest.raises(UserError, match=r"x\.zip is (damaged|no archive).*line|no ZIP"):
        symlab.load("line", archive=path)


@pytest.mark.parametrize("schema", [0, archive.SCHEMA + 1, "one"])
def test_an_archive_of_another_form_is_refused(packed, tmp_path, schema):
    index = json.loads(content(packed.root / "line.zip")["archive.json"])
    text = archive.text(index | {"schema": schema})
    path = changed(packed.root / "line.zip", tmp_path / "x.zip", archive=text)
    with pytest.raises(
        UserError, match=f"has the form {schema}, and this symlab reads"
    ):
        archive.read(path)
    for other in (b"[]", b"{}", b"{", archive.text({"schema": 1, "sha256": []})):
        path = changed(packed.root / "line.zip", tmp_path / "x.zip", archive=other)
        with pytest.raises(UserError, match="is no archive of symlab"):
            archive.read(path)
    with pytest.raises(UserError, match="there is no archive"):
        archive.read(tmp_path / "none.zip")


def test_the_index_has_the_digest_of_every_other_file(packed):
    found = content(packed.root / "line.zip")
    digests = json.loads(found.pop("archive.json"))["sha256"]
    assert digests == {n: sha256(data).hexdigest() for n, data in found.items()}
