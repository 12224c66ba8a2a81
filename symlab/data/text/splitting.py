"""Splits documents into training and validation, with no near copies across the split.

A shingle is a run of 30 words (Broder 1997, On the resemblance and containment of
documents). A hash of its content assigns one document in twenty to validation. A
validation document with more than a tenth of its shingles in the training text is moved
to training; this is repeated until no such document is left. The result does not depend
on the order of the documents.

MinHash signatures of whole documents, the usual method of removing copies, would need a
looser criterion: a licence or a table that two files share is a small part of either
file. They would also need memory that grows with the text. The shingles of the
validation documents alone are few and are compared exactly; the overlap that remains is
counted in the same pass. If there are more than `LARGEST` shingles, only those are used
whose hash is a multiple of some power of two.
"""

import zlib
from collections.abc import Collection, Iterable, Iterator

import numpy as np

HELD_OUT = 0.05  # of the documents, about
NEAR = 0.1  # of a document's shingles in the training text make it a near copy
WORDS = 30
LARGEST = 4_000_000  # shingles of held-out text to keep: exact to about 500 MB of text
TOGETHER = 2**16  # shingles looked up at once
MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio, odd


def split(documents: Collection[bytes], ranks: np.ndarray) -> tuple[np.ndarray, float]:
    """Return which documents are for validation, and their overlap with training.

    documents: D distinct documents, at least two; they are read twice.
    ranks: uint64 (D,), 64-bit hashes of their content.

    The result is the pair (held, shared). held: bool (D,), true for validation. shared:
    the fraction of validation's distinct runs of 30 words that also occur in training;
    nan if no validation document has 30 words. If all documents assigned to validation
    are near copies of training text, they stay in validation.
    """
    held = by_rank(ranks)
    found, every = _sample(_those(documents, held))
    if not sum(map(len, found)):
        return held, float("nan")
    # (S,) each: the shingle's number among the distinct ones, and its document
    known, number = np.unique(np.concatenate(found), return_inverse=True)
    owner = np.repeat(np.arange(len(found)), [len(one) for one in found])
    trained = _occur(known, _those(documents, ~held), every)
    stays, then_trained = _settle(number, owner, trained, len(found))
    if stays.any():
        held[np.flatnonzero(held)[~stays]] = False
        trained, number = then_trained, number[stays[owner]]
    if not len(number):
        return held, float("nan")
    return held, float(trained[np.unique(number)].mean())


def by_rank(ranks: np.ndarray) -> np.ndarray:
    """Return which documents are assigned to validation by their hash alone, bool (D,).

    ranks: uint64 (D,), the hashes.

    Validation gets the hashes in the lowest twentieth of the range of 64 bits, and at
    least the smallest one; training gets at least the largest one.
    """
    bound, last = max(int(HELD_OUT * 2**64), int(ranks.min())), ranks.max()
    return (ranks <= np.uint64(bound)) & (ranks < last)


def _settle(number, owner, trained, count) -> tuple[np.ndarray, np.ndarray]:
    """Which of `count` documents stay held out, and the shingles trained on then."""
    trained, stays = trained.copy(), np.ones(count, bool)
    size = np.bincount(owner, minlength=count)
    while True:
        copied = np.bincount(owner, trained[number], count)
        joins = stays & (copied > NEAR * size)
        if not joins.any():
            return stays, trained
        stays &= ~joins
        trained[number[joins[owner]]] = True


def shingles(document: bytes) -> np.ndarray:
    """Return a 64-bit hash of each run of 30 words of a document, uint64 (words - 29,).

    The hash is a polynomial in the checksums of the words. It is computed by doubling,
    from the hashes of runs of 2, 4, 8 and 16 words; 30 is 16 + 8 + 4 + 2.
    """
    words = np.fromiter(map(zlib.crc32, document.split()), np.uint64)
    count = len(words) - WORDS + 1
    if count < 1:
        return np.empty(0, np.uint64)
    total, at = np.zeros(count, np.uint64), 0
    runs, length, power = words, 1, MULTIPLIER  # power: MULTIPLIER ** length
    while length <= WORDS:
        if WORDS & length:
            total = total * np.uint64(power) + runs[at : at + count]
            at += length
        runs = runs[:-length] * np.uint64(power) + runs[length:]
        length, power = 2 * length, power * power % 2**64
    return (total ^ (total >> np.uint64(32))) * np.uint64(MULTIPLIER)


def _those(documents: Iterable[bytes], chosen: np.ndarray) -> Iterator[bytes]:
    for document, take in zip(documents, chosen, strict=True):
        if take:
            yield document


def _sample(documents: Iterable[bytes]) -> tuple[list[np.ndarray], int]:
    """Shingles of each document, and of how many they are one."""
    found, size, every = [], 0, 1
    for document in documents:
        found.append(_thin(shingles(document), every))
        size += len(found[-1])
        while size > LARGEST:
            every *= 2
            found = [_thin(one, every) for one in found]
            size = sum(map(len, found))
    return found, every


def _thin(hashes: np.ndarray, every: int) -> np.ndarray:
    """Those whose upper half, which a product mixes best, is a multiple of `every`."""
    return hashes[hashes >> np.uint64(32) & np.uint64(every - 1) == 0]


def _occur(known: np.ndarray, documents: Iterable[bytes], every: int) -> np.ndarray:
    """Which of the sorted `known` shingles the documents have, bool."""
    occur = np.zeros(len(known), bool)
    for hashes in _gathered(_thin(shingles(d), every) for d in documents):
        hashes.sort()  # neighbours are looked up in neighbouring memory
        at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        occur[at[known[at] == hashes]] = True
    return occur


def _gathered(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    waiting, size = [], 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= TOGETHER:
            yield np.concatenate(waiting)
            waiting, size = [], 0
    if waiting:
        yield np.concatenate(waiting)
