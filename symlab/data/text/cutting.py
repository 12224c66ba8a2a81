"""Cuts texts into distinct documents of bounded length, and keeps these in a file."""

import gzip
import struct
from array import array
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np

from symlab.data.text.sources import Reading, Source, find

FORMAT = 2  # change it with anything here or in `splitting` that changes the tokens
LENGTH = struct.Struct("<I")
RECENT = 2**20  # ranks in a Python set, which takes ten times the memory of an array


def documents(name: str, limit: int | None = None) -> Iterator[str]:
    """Return the distinct documents of a text, given by name or path.

    limit: the largest number of bytes of UTF-8 in all documents together; None for no
        limit.
    """
    check_limit(limit)
    return (text for text, _ in distinct(find(name, limit), limit, Reading()))


def check_limit(limit: int | None) -> None:
    """Raise ValueError if the limit is less than one byte; None stands for no limit."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} leaves no text: give bytes, or None for all")


def distinct(
    source: Source, limit: int | None, reading: Reading
) -> Iterator[tuple[str, int]]:
    """Yield the distinct documents of a source, each with its rank, a 64-bit hash.

    limit: the largest number of bytes of UTF-8 in all documents together; None for no
        limit.
    reading: records what is found on the way, such as files that are left out.

    A document is lost if another one has the same rank; among ten million documents the
    probability of one such pair is 3e-6.
    """
    seen, total = Ranks(), 0
    for text in source.texts(reading):
        for piece in cut(text, source.size):
            encoded = piece.encode()
            rank = int.from_bytes(sha256(encoded).digest()[:8], "big")
            if rank in seen or not piece.strip():
                continue
            total += len(encoded)
            if limit is not None and total > limit:
                return
            seen.add(rank)
            yield piece, rank


def cut(blocks: Iterable[str], size: int) -> Iterator[str]:
    """Yield pieces of a text, each of `size` to about twice `size` characters.

    blocks: the text in consecutive strings; where one ends makes no difference.

    The pieces joined together are the text; the last one may be shorter. A piece ends
    at a blank line if there is one in the second half of its permitted length, else at
    the end of a line, else at a space, else at any character.
    """
    rest = ""
    for block in blocks:
        rest, at = rest + block, 0
        while len(rest) - at > 2 * size:
            end = _end(rest, at + size, at + 2 * size)
            yield rest[at:end]
            at = end
        rest = rest[at:]
    if rest:
        yield rest


def _end(text: str, low: int, high: int) -> int:
    """Behind the first and best break between two positions."""
    for mark in ("\n\n", "\n", " "):
        found = text.find(mark, low, high)
        if found >= 0:
            return found + len(mark)
    return high


class Ranks:
    """A set of 64-bit integers, 8 bytes each except for the most recent ones."""

    def __init__(self):
        self.recent: set[int] = set()
        self.older = np.empty(0, np.uint64)  # sorted

    def add(self, rank: int) -> None:
        self.recent.add(rank)
        if len(self.recent) >= RECENT:
            recent = np.fromiter(self.recent, np.uint64, len(self.recent))
            self.older = np.sort(np.concatenate([self.older, recent]))
            self.recent.clear()

    def __contains__(self, rank: int) -> bool:
        if rank in self.recent:
            return True
        i = np.searchsorted(self.older, np.uint64(rank))
        return bool(i < len(self.older) and self.older[i] == rank)


class Spool:
    """Documents in a compressed file, which can be iterated over repeatedly.

    path: the file, which is written. ranked: the documents, each with a 64-bit hash
        (rank).
    ranks: uint64 (D,), the hashes of the D documents, in their order.
    bytes: the size of all documents in UTF-8.
    key: 16 hexadecimal digits of a hash of the documents, their order and the version
        of the code that splits them.

    Iterating yields the documents as UTF-8 bytes.
    """

    def __init__(self, path: Path, ranked: Iterable[tuple[str, int]]):
        self.path, self.bytes = path, 0
        ranks, named = array("Q"), sha256(f"symlab text {FORMAT}".encode())
        with gzip.open(path, "wb", compresslevel=1) as file:
            for text, rank in ranked:
                encoded = text.encode()
                file.write(LENGTH.pack(len(encoded)) + encoded)
                named.update(sha256(encoded).digest())
                ranks.append(rank)
                self.bytes += len(encoded)
        self.ranks = np.array(ranks, np.uint64)
        self.key = named.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.ranks)

    def __iter__(self) -> Iterator[bytes]:
        with gzip.open(self.path, "rb") as file:
            while head := file.read(LENGTH.size):
                yield file.read(*LENGTH.unpack(head))
