"""Makes the tokens of a text, or takes them from the cache.

One process reads, splits and tokenises a text. The documents go to a compressed file
first. That file is read three times: for the split into training and validation, for
learning the tokenizer, and for the tokens, which are written as they are made.
"""

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from symlab.data.text import cache, tokens
from symlab.data.text.cutting import Spool, check_limit, distinct
from symlab.data.text.progress import Progress
from symlab.data.text.sources import Reading, Source, find
from symlab.data.text.splitting import split
from symlab.data.text.tokens import Corpus

FIRST_WORD, NEXT_WORD = 5.0, 600.0  # seconds until one who waits says so, and again
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def corpus(name: str, vocabulary: int = 4096, limit: int | None = None) -> Corpus:
    """Return a text, by name or path, as tokens.

    name: a data set of `symlab.data.text`, or the path of a file or folder.
    vocabulary: the number of different tokens, including the one that ends a document.
    limit: the largest number of bytes of text to take, the same ones each time; None
        for all. Files are read in the order of a hash of their names, so a part is a
        sample of the whole.

    Making the tokens takes about a second per megabyte; they are then read from the
    cache. If several processes ask at once, one makes the tokens and the others wait as
    long as it takes; all of them map the same file. If the cache cannot be written,
    each process makes the tokens for itself and holds them in memory.

    Raises ValueError if the text is too short for the vocabulary or gives fewer than
    two documents, FileNotFoundError for a data set that is not there, ConnectionError
    for one that cannot be streamed, OSError if the disk is full.
    """
    if vocabulary < 257:
        raise ValueError(
            f"vocabulary={vocabulary} is too small: 256 bytes and the end of a "
            "document need 257"
        )
    check_limit(limit)
    source = find(name, limit)
    request = _Request(source, vocabulary, limit, cache.Memo(source, limit))
    found = request.known()
    if found:
        return found
    if not _writable(cache.folder()):
        return _in_memory(request)
    with _turn(request):
        return request.known() or _build(request)


@dataclass(frozen=True)
class _Request:
    source: Source
    vocabulary: int
    limit: int | None
    memo: cache.Memo

    def known(self) -> Corpus | None:
        """What the cache has for it, if its files have not changed."""
        memo = self.memo.read()
        return self.load(*memo) if memo else None

    def load(self, key: str, met: Reading) -> Corpus | None:
        return cache.load(self.source, key, self.vocabulary, met)

    def path(self, suffix: str) -> Path:
        words = self.memo.path.name, self.vocabulary, cache.version()
        return cache.folder() / (cache.short(*words) + suffix)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _build(request: _Request) -> Corpus:
    """Make the tokens in a folder that no other process uses, then publish it."""
    part, name = request.path(".part"), request.source.name
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    show = Progress(name, request.path(".status"))
    try:
        with _room(name, part.parent):
            part.mkdir()
            documents, met = _read(request, part, show)
            # a text may be known whose files have changed: then it is there already
            if not request.load(documents.key, met):
                content = _tokenise(request, part, documents, show)
                documents.path.unlink()
                cache.save(part, content)
                cache.publish(part, documents.key, request.vocabulary)
            request.memo.write(documents.key, met)  # last: it is for those who wait
    finally:
        shutil.rmtree(part, ignore_errors=True)
    found = request.load(documents.key, met)
    if not found:
        raise OSError(
            f"the tokens of {name!r} were written to {part.parent} and cannot be read "
            "back: set SYMLAB_CACHE to another folder"
        )
    return found


def _in_memory(request: _Request) -> Corpus:
    name = request.source.name
    with tempfile.TemporaryDirectory() as folder, _room(name, Path(folder).parent):
        part, show = Path(folder), Progress(name, None)
        documents, met = _read(request, part, show)
        content = _tokenise(request, part, documents, show)
        kind = tokens.id_type(request.vocabulary)
        parts = [np.fromfile(part / file, kind) for file in cache.PARTS]
    for ids in parts:
        ids.setflags(write=False)
    key = documents.key
    return cache.assemble(request.source, key, request.vocabulary, parts, content, met)


@contextmanager
def _room(name: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(
            f"there is no room for the text {name!r} in {folder}: free some, set "
            "SYMLAB_CACHE to a larger folder, or take less text by limit"
        ) from error


# --- taking turns --------------------------------------------------------------------


@contextmanager
def _turn(request: _Request) -> Iterator[None]:
    """Alone with a request, after whoever has it; a dead process has no lock."""
    from filelock import FileLock, Timeout

    lock, patience = FileLock(request.path(".lock")), FIRST_WORD
    while True:
        try:
            lock.acquire(timeout=patience)
            break
        except Timeout:
            _say_what_is_awaited(request)
            patience = NEXT_WORD
    try:
        yield
    finally:
        request.path(".status").unlink(missing_ok=True)
        lock.release()


def _say_what_is_awaited(request: _Request) -> None:
    try:
        doing = request.path(".status").read_text(encoding="utf-8")
    except OSError:
        doing = ""
    print(
        "waiting for another process, which makes the tokens of "
        f"{request.source.name!r} ({doing or 'starting'})",
        file=sys.stderr,
        flush=True,
    )


# --- from files to tokens ------------------------------------------------------------


def _read(request: _Request, part: Path, show: Progress) -> tuple[Spool, Reading]:
    source, limit, met = request.source, request.limit, Reading()
    documents = Spool(
        part / "documents.gz",
        show.reading(distinct(source, limit, met), met, request.memo.bytes, limit),
    )
    if len(documents) < 2:
        raise ValueError(
            f"the text {source.name!r} has {len(documents)} documents of up to "
            f"{source.size:,} characters within limit={limit}, too few to train and "
            "validate: take more text"
        )
    return documents, met


def _tokenise(
    request: _Request, part: Path, documents: Spool, show: Progress
) -> dict[str, float | str]:
    """Write the tokens of both parts to their files; what a Corpus says of them."""
    vocabulary = request.vocabulary
    held, shared = split(show.over(documents, "comparing"), documents.ranks)
    with tokens.threads():
        sample = min(documents.bytes, tokens.SAMPLE)
        watched = show.over(documents, "learning tokens", sample)
        with closing(_training(watched, held)) as training:  # it may be longer
            tokenizer = tokens.learn(training, vocabulary - 1)
        filled = tokenizer.get_vocab_size() + 1
        if filled < vocabulary:
            raise ValueError(
                f"the text {request.source.name!r} fills {filled:,} tokens, not "
                f"vocabulary={vocabulary}: take a smaller vocabulary or more text"
            )
        watched = show.over(documents, "tokenising")
        rate = _write(part, watched, held, tokenizer, vocabulary)
    return {
        "bytes_per_token": rate,
        "shared": shared,
        "tokenizer": tokenizer.to_str(),
    }


def _training(documents, held: np.ndarray) -> Iterator[str]:
    for text, out in zip(documents, held, strict=True):
        if not out:
            yield text.decode()


def _write(part: Path, documents, held, tokenizer, vocabulary: int) -> float:
    """Tokens in the order of documents; bytes per token of the validation text."""
    size = count = 0
    train, validation = ((part / file).open("wb") for file in cache.PARTS)
    with train, validation:
        texts = zip(documents, held, strict=True)
        while some := list(islice(texts, tokens.CHUNK)):
            decoded = [text.decode() for text, _ in some]
            encoded = tokens.encode(tokenizer, decoded, vocabulary)
            for ids, (text, out) in zip(encoded, some, strict=True):
                (validation if out else train).write(ids)
                if out:
                    size, count = size + len(text), count + len(ids)
    return size / count
