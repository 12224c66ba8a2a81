"""Metadata of an archive in the format RO-Crate 1.1, which repositories read.

https://www.researchobject.org/ro-crate/specification/1.1 defines the entities and
properties: the metadata file itself, the data set "./", its files, its licence, its
authors and the papers that it tests.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from symlab.harness.claims import Paper

NAME = "ro-crate-metadata.json"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
PROFILE = "https://w3id.org/ro/crate/1.1"
FORMATS = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".py": "text/x-python",
    ".toml": "application/toml",
}
SAID = {  # what a file is, by its place in the archive
    "archive.json": "Form of the archive, and the SHA-256 of each other file",
    "claims.csv": "Verdict on each claim, with estimate, interval and thresholds",
    "claims.lock": "What every claim said, by its hash, with its thresholds",
    "environment.json": "Machine, Python and versions of all packages",
    "environment.txt": "Versions of all packages, as a constraints file for pip",
}


def metadata(
    files: Mapping[str, bytes | None],
    date: str,
    about: Mapping[str, str],
    authors: Iterable[str] = (),
    papers: Iterable[Paper] = (),
) -> dict:
    """Return the content of ro-crate-metadata.json.

    files: {name in the archive: content} of all other files; None for the content of a
        file that is not written yet.
    date: the date of publication, such as 2026-11-30.
    about: name and description of the data set, and `license`, its SPDX identifier, if
        known.
    authors: their names.
    papers: the papers that the archive's claims test.
    """
    people = {f"#author-{i}": name for i, name in enumerate(authors, 1)}
    cited = {address(p): p for p in papers}
    licence = about.get("license", "")
    link = f"https://spdx.org/licenses/{licence}"
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": about["name"],
        "description": about["description"],
        "datePublished": date,
        "hasPart": [{"@id": quoted(name)} for name in sorted(files)],
    }
    root |= {"license": {"@id": link}} if licence else {}
    root |= {"author": [{"@id": i} for i in people]} if people else {}
    root |= {"citation": [{"@id": i} for i in cited]} if cited else {}
    itself = {
        "@id": NAME,
        "@type": "CreativeWork",
        "conformsTo": {"@id": PROFILE},
        "about": {"@id": "./"},
    }
    graph = [itself, root, *(_file(n, files[n]) for n in sorted(files))]
    graph += [{"@id": i, "@type": "Person", "name": n} for i, n in people.items()]
    graph += [_paper(i, p) for i, p in cited.items()]
    if licence:
        graph.append({"@id": link, "@type": "CreativeWork", "name": licence})
    return {"@context": CONTEXT, "@graph": graph}


def quoted(name: str) -> str:
    """Return the name of a file as a relative URL.

    Characters other than letters, digits and -._~/ are percent-encoded, as in %20.
    """
    return re.sub(r"[^\w.~/-]", lambda m: "".join(f"%{b:02X}" for b in m[0].encode()),
                  name, flags=re.ASCII)  # fmt: skip


def address(paper: Paper) -> str:
    """Return the URL of a paper on arXiv, or, without one, an identifier for the
    metadata.
    """
    known = re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv)
    short = re.sub(r"\W+", "-", paper.short).strip("-")
    return f"https://arxiv.org/abs/{paper.arxiv}" if known else f"#paper-{short}"


def _file(name: str, data: bytes | None) -> dict:
    suffix = PurePosixPath(name).suffix
    entity = {
        "@id": quoted(name),
        "@type": "File",
        "name": SAID.get(name) or _described(PurePosixPath(name)),
        "encodingFormat": FORMATS.get(suffix, "text/plain"),
    }
    return entity if data is None else entity | {"contentSize": str(len(data))}


def _described(name: PurePosixPath) -> str:
    kind, *_ = name.parts
    if kind == "results":
        return f"Rows of the experiment {name.stem} at scale {name.parts[1]}"
    if kind == "figures":
        return f"Figure {name.stem}" + " as drawn data" * (name.suffix == ".json")
    return str(PurePosixPath(*name.parts[1:])) if name.parts[1:] else str(name)


def _paper(identity: str, paper: Paper) -> dict:
    about = {
        "@id": identity,
        "@type": "ScholarlyArticle",
        "name": paper.title or paper.short,
        "author": paper.authors,
        "datePublished": str(paper.year or ""),
    }
    return {k: v for k, v in about.items() if v}
