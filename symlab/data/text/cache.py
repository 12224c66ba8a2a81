"""The cache of tokenised texts on disk.

SYMLAB_CACHE/text/
    <text>-<vocabulary>-<version>/  train.bin, validation.bin and about.json, whose
                                    checksum shows whether the three belong together
    <source>.json                   the hash of the text that a source had when it was
                                    last read
"""

import json
import os
import shutil
import tempfile
import time
import zlib
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import numpy as np

from symlab.data.text.cutting import FORMAT
from symlab.data.text.sources import BLOCK, Reading, Source
from symlab.data.text.tokens import Corpus, id_type, library

PARTS = ("train.bin", "validation.bin")
SETTLED = 2.0  # seconds, the coarsest tick of the times of files


def folder() -> Path:
    """Return the folder of tokenised texts, below SYMLAB_CACHE or ~/.cache/symlab."""
    chosen = os.environ.get("SYMLAB_CACHE") or os.path.expanduser("~/.cache/symlab")
    return Path(chosen) / "text"


def short(*words) -> str:
    """Return 16 hexadecimal digits of a hash of the given values."""
    return sha256(repr(words).encode()).hexdigest()[:16]


@cache
def version() -> str:
    """Return the version of the package `tokenizers`.

    Raises ModuleNotFoundError, which says how to install it, if it is missing.
    """
    try:
        return metadata.version("tokenizers")
    except metadata.PackageNotFoundError:
        return library().__version__  # says what to install


def address(key: str, vocabulary: int) -> Path:
    """Return the folder in the cache for a tokenised text.

    key: the hash of the text. vocabulary: the number of different tokens.
    """
    return folder() / f"{key}-{vocabulary}-{version()}"


def load(source: Source, key: str, vocabulary: int, met: Reading) -> Corpus | None:
    """Return a tokenised text from the cache, memory-mapped; None if absent or damaged.

    source, key: the text and its hash.
    vocabulary: the number of different tokens.
    met: the record of reading the source, such as which files were left out.
    """
    path, kind = address(key, vocabulary), id_type(vocabulary)
    try:
        saved = json.loads((path / "about.json").read_text(encoding="utf-8"))
        if saved["checksum"] != checksum(path, saved["content"]):
            return None
        parts = [np.memmap(path / part, kind, mode="r") for part in PARTS]
    except Exception:  # a damaged file raises anything; it is written anew
        return None
    return assemble(source, key, vocabulary, parts, saved["content"], met)


def assemble(source, key, vocabulary, parts, content: dict, met: Reading) -> Corpus:
    """Return a `Corpus` of tokens that exist already.

    source, key, vocabulary: as in `load`.
    parts: the token ids for training and those for validation.
    content: the remaining fields of `Corpus`, by name.
    met: the record of reading the source, which says which files were left out.
    """
    return Corpus(
        source.name,
        key,
        vocabulary,
        *parts,
        **content,
        not_utf8=met.not_utf8,
        binary=met.binary,
        examples=tuple(met.examples),
    )


def save(path: Path, content: dict) -> None:
    """Write about.json into a folder of token files, which `load` requires.

    path: the folder.
    content: what is recorded about the tokens; a checksum of it and of the token files
        is added.
    """
    saved = {"checksum": checksum(path, content), "content": content}
    (path / "about.json").write_text(json.dumps(saved), encoding="utf-8")


def publish(path: Path, key: str, vocabulary: int) -> None:
    """Move a complete folder of tokens to its place in the cache, all of it or nothing.

    path: the folder.
    key: the hash of the text.
    vocabulary: the number of different tokens.

    A folder that is already at that place is replaced.
    """
    place = address(key, vocabulary)
    shutil.rmtree(place, ignore_errors=True)  # a damaged one
    with suppress(OSError):  # another request for the same text was first
        path.rename(place)


def checksum(path: Path, content: dict) -> int:
    """Return the CRC-32 of a folder's token files and of the record about them.

    path: the folder. content: the record.

    The files are read in blocks, because the pages of a memory map would count as
    memory of the process.
    """
    total = zlib.crc32(json.dumps(content, sort_keys=True).encode())
    for part in PARTS:
        with (path / part).open("rb") as file:
            while block := file.read(BLOCK):
                total = zlib.crc32(block, total)
    return total


class Memo:
    """A note on disk of a text's hash, valid while the source's files stay as they are.

    It lets a text be identified without reading its files again.
    source: the text. limit: how many bytes of it are taken at most; None for all.
    """

    def __init__(self, source: Source, limit: int | None):
        self.asked = time.time()
        self.fingerprint, self.last_change, self.bytes = source.state
        self.path = folder() / f"{short(source.name, source.place, limit, FORMAT)}.json"

    def read(self) -> tuple[str, Reading] | None:
        """Return the text's hash and the record of its reading; None if there is no
        valid note.

        Without a valid note the text must be read again. A note is not valid if a file
        has changed since, or if a file was changed within two seconds before the note
        was begun, because a second change within one tick of the clock would not show
        in the file's time. A process that waited while another one wrote the note
        accepts it in the second case.
        """
        try:
            saved = json.loads(self.path.read_text(encoding="utf-8"))
            settled = saved["settled"] or self.path.stat().st_mtime >= self.asked
            if settled and saved["fingerprint"] == self.fingerprint:
                return saved["key"], Reading(**saved["met"])
        except Exception:  # as in load
            return None
        return None

    def write(self, key: str, met: Reading) -> None:
        """Write the hash `key` of the text and the record `met` of its reading to disk.

        The entry `settled` tells whether any later change of a file would show in its
        times.
        """
        saved = {"key": key, "fingerprint": self.fingerprint, "met": asdict(met)}
        saved["settled"] = self.last_change < self.asked - SETTLED
        handle, temporary = tempfile.mkstemp(".tmp", ".", self.path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(saved, file)
            os.chmod(temporary, 0o644)
            os.replace(temporary, self.path)
        finally:
            Path(temporary).unlink(missing_ok=True)
