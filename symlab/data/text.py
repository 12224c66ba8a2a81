"""Texts as byte-level BPE tokens, to pretrain transformers on.

stdlib           the standard library's source and documentation: on every machine, no
                 download. It differs between Python versions
site             the Python source installed beside it, large and your own
tinyshakespeare  SYMLAB_DATA/tinyshakespeare/input.txt
wikitext2        SYMLAB_DATA/wikitext2, raw text or Parquet; so is any other name that
                 begins with wikitext. The articles are split anew
fineweb-edu      streamed by Hugging Face `datasets` (arXiv 2406.17557), needs a limit
a path           a folder of text: whatever is UTF-8, and the column `text` of Parquet

`Corpus.hash` names the text: results vary with it, so rows of experiments record it.

Long texts are cut into documents at blank lines, identical documents are taken once,
and a hash of its content alone puts a document into training or validation: where it
goes depends neither on `limit` nor on the others. Near copies are not recognised.

Tokens are cached under SYMLAB_CACHE (or ~/.cache/symlab) by text, vocabulary and
version of `tokenizers`, and memory-mapped from there. OMP_NUM_THREADS bounds the
threads of the first tokenisation; workers of a sweep have one.
"""

import itertools
import json
import os
import re
import sysconfig
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import numpy as np

from symlab.harness import rng
from symlab.harness.errors import nearest

NAMES = ("stdlib", "site", "tinyshakespeare", "wikitext2", "fineweb-edu")
INSTALLED = ("stdlib", "site")  # taken not to change while Python runs
HELD_OUT = 0.05  # of the documents, about
LONGEST = 16_000  # characters; longer texts are cut, or one file decides the validation
SCENE = 4_000  # of Shakespeare, who comes as one text of a megabyte
SAMPLE = 64_000_000  # characters that the tokenizer learns from, at most
CHUNK = 64  # documents tokenised at once: their offsets take 30 times their memory
CACHE_FORMAT = 1  # change it with anything here that changes tokens
# tests are left out because many distributions of Python do; config-* and
# _sysconfigdata* record how this machine's Python was built
SKIPPED = re.compile(
    r"__pycache__|site-packages|dist-packages|tests?|idle_test|config-.*|_sysconfigdata.*"
)
TITLE = re.compile(r"^ = [^=\n].*[^=\n] = ?$", re.MULTILINE)  # " = = " are sections


@dataclass(frozen=True, eq=False)
class Corpus:
    """Token ids, read only; `vocabulary - 1` ends each document.

    train, validation: uint16 (N,), or uint32 where the vocabulary is beyond 65,536
    hash: 16 hexadecimal digits of the text, before it is tokenised
    bytes_per_token: of the validation text; a loss there of x nats per token is
        x / log(2) / bytes_per_token bits per byte, which compares across vocabularies
    """

    name: str
    hash: str
    vocabulary: int
    train: np.ndarray
    validation: np.ndarray
    bytes_per_token: float
    tokenizer: str = field(repr=False)  # JSON, for tokenizers.Tokenizer.from_str

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; ends of documents leave nothing."""
        end = self.vocabulary - 1
        kept = [int(i) for i in ids if i != end]
        return _tokenizers().Tokenizer.from_str(self.tokenizer).decode(kept)


def corpus(name: str, vocabulary: int = 4096, limit: int | None = None) -> Corpus:
    """A text by name or path, tokenised; the first time takes a second per megabyte.

    `limit` takes that many bytes of text at most, the same ones each time. Files come
    in the order of a hash of their names: a part is a sample of the whole.
    """
    if vocabulary < 257:
        raise ValueError(
            f"vocabulary={vocabulary} is too small: 256 bytes and the end of a "
            "document need 257"
        )
    memo = _memo(name, limit)
    known = memo.read_text() if memo and memo.is_file() else None
    if name in INSTALLED:
        known = _installed(name, limit)
    found = _load(name, known, vocabulary) if known else None
    if found:
        return found
    texts = documents(name, limit)
    key = digest(texts)
    found = _load(name, key, vocabulary)
    if not found:
        with _alone(_path(key, vocabulary)):  # another process may have written it
            found = _load(name, key, vocabulary) or _build(name, key, texts, vocabulary)
    if memo:
        with suppress(OSError):
            _write(memo, lambda file: file.write(key.encode()))
    return found


# --- batches -------------------------------------------------------------------------


def batches(
    tokens: np.ndarray, batch: int, length: int, seed: int, start: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless (inputs, targets), int64 (B, T); target t is the token after input t.

    Each epoch cuts the tokens into adjoining windows from a random phase on, and draws
    them without replacement; a batch may reach into the next epoch. The order depends
    on `seed` alone. `start` leaves out that many batches, unread, to resume a run.
    """
    _check_windows(tokens, length, batch)
    return _batches(tokens, batch, length, seed, start)


def _batches(tokens, batch, length, seed, start):
    starts = itertools.islice(_starts(len(tokens), length, seed), start * batch, None)
    while True:
        yield _shifted(tokens, np.array(list(itertools.islice(starts, batch))), length)


def _starts(n: int, length: int, seed: int) -> Iterator[int]:
    """First positions of windows of `length` inputs, epoch after epoch."""
    for epoch in itertools.count():
        draws = rng.stream(seed, f"text, epoch {epoch}")
        phase = int(draws.integers(min(length, n - length)))
        yield from phase + length * draws.permutation((n - 1 - phase) // length)


def validation_batches(
    tokens: np.ndarray, batch: int, length: int, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` batches of windows that do not overlap, spread over all of the tokens."""
    _check_windows(tokens, length, batch)
    have, want = (len(tokens) - 1) // length, batch * count
    if count < 1 or want > have:
        raise ValueError(
            f"{count} batches of {batch} x {length} tokens are not between 1 and the "
            f"{have // batch} that {len(tokens):,} validation tokens give: ask for "
            "fewer, or take more text"
        )
    starts = length * (np.arange(want) * have // want)
    return [_shifted(tokens, s, length) for s in starts.reshape(count, batch)]


def _shifted(tokens, starts, length) -> tuple[np.ndarray, np.ndarray]:
    """The one place where targets are shifted."""
    windows = tokens[starts[:, None] + np.arange(length + 1)].astype(np.int64)
    return windows[:, :-1].copy(), windows[:, 1:].copy()  # two arrays, free to change


def _check_windows(tokens: np.ndarray, length: int, batch: int) -> None:
    if length < 1 or batch < 1:
        raise ValueError(f"batch={batch} and length={length} must be 1 or more")
    if len(tokens) <= length:
        raise ValueError(
            f"{len(tokens):,} tokens are too few for a sequence of {length:,}, which "
            f"needs {length + 1:,}: shorten the sequence or take more text"
        )


def check_vocabulary(text: Corpus, vocabulary: int) -> None:
    """Raise unless a model with `vocabulary` tokens fits the text."""
    if text.vocabulary != vocabulary:
        raise ValueError(
            f"the text {text.name!r} has a vocabulary of {text.vocabulary:,} and the "
            f"model one of {vocabulary:,}: give both the same"
        )


# --- documents -----------------------------------------------------------------------


def documents(name: str, limit: int | None = None) -> list[str]:
    """Distinct documents of a text, at most `limit` bytes of UTF-8 in all."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} leaves no text: give bytes, or None for all")
    texts, size = _source(name, limit)
    seen, kept, total = set(), [], 0
    for piece in (piece for text in texts for piece in cut(text, size)):
        encoded = piece.encode()
        identity = sha256(encoded).digest()
        if identity in seen or not piece.strip():
            continue
        total += len(encoded)
        if limit is not None and total > limit:
            break
        seen.add(identity)
        kept.append(piece)
    if len(kept) < 2:
        raise ValueError(
            f"the text {name!r} has {len(kept)} documents of up to {size:,} characters "
            f"within limit={limit}, too few to train and validate: take more text"
        )
    return kept


def cut(text: str, size: int) -> list[str]:
    """Pieces of about `size` characters, at most twice that unless a line is longer.

    Each ends at a blank line where there is one, else at the end of a line; they add up
    to the text.
    """
    pieces, at = [], 0
    while len(text) - at > 2 * size:
        end = text.find("\n\n", at + size, at + 2 * size) + 2
        if end == 1:  # none: -1 + 2
            end = text.find("\n", at + size) + 1 or len(text)
        pieces.append(text[at:end])
        at = end
    return [*pieces, text[at:]] if at < len(text) else pieces


def split(texts: list[str]) -> tuple[list[str], list[str]]:
    """Train and validation documents, each put there by the hash of its content.

    `texts` are two or more and distinct. Where chance gives none to one side, it gets
    the one whose hash is nearest.
    """
    ranks = [
        int.from_bytes(sha256(text.encode()).digest()[:8], "big") for text in texts
    ]
    bound, last = max(HELD_OUT * 2**64, min(ranks)), max(ranks)
    held = [rank <= bound and rank < last for rank in ranks]
    train = [text for text, out in zip(texts, held, strict=True) if not out]
    return train, [text for text, out in zip(texts, held, strict=True) if out]


def digest(texts: list[str]) -> str:
    """16 hexadecimal digits that name the documents and their order."""
    parts = b"".join(sha256(text.encode()).digest() for text in texts)
    return sha256(parts).hexdigest()[:16]


@cache
def _installed(name: str, limit: int | None) -> str:
    """The hash of an installed text, read once in a process: it has many short runs."""
    return digest(documents(name, limit))


# --- sources -------------------------------------------------------------------------


def _source(name: str, limit: int | None) -> tuple[Iterable[str], int]:
    """The texts of a source, and the size to cut them to."""
    paths = sysconfig.get_paths()
    if name == "stdlib":
        suffixes = (".py", ".txt", ".rst")
        return _folder([paths["stdlib"]], suffixes, SKIPPED), LONGEST
    if name == "site":
        roots = sorted({paths["purelib"], paths["platlib"]})
        return _folder(roots, (".py",), re.compile("__pycache__")), LONGEST
    if name == "tinyshakespeare":
        return ["".join(_stored(name, "input.txt"))], SCENE
    if name.startswith("wikitext"):
        found = _stored(name, "*")
        return [article for text in found for article in _articles(text)], LONGEST
    if name == "fineweb-edu":
        return _fineweb(limit), LONGEST
    if Path(name).exists():
        return _folder([name], ("",), re.compile(r"__pycache__|\..*")), LONGEST
    known = nearest(name, NAMES, "text")
    raise ValueError(f"{known}, or the path of a folder of text")


def _folder(roots: list[str], suffixes: tuple, skipped: re.Pattern) -> Iterator[str]:
    """Texts of the files below, in the order of a hash of their relative paths."""
    found = {}
    for root in map(Path, roots):
        if root.is_file():
            found[root.name] = root
        for folder, inner, files in os.walk(root):
            inner[:] = [name for name in inner if not skipped.fullmatch(name)]
            for name in files:
                if name.endswith(suffixes) and not skipped.fullmatch(name):
                    path = Path(folder, name)
                    found.setdefault(path.relative_to(root).as_posix(), path)
    for relative in sorted(found, key=lambda path: sha256(os.fsencode(path)).digest()):
        yield from _read(found[relative])


def _stored(name: str, pattern: str) -> list[str]:
    """The text of each of a data set's files, raw or Parquet."""
    folder = Path(os.environ.get("SYMLAB_DATA") or "data") / name
    paths = sorted(folder.rglob(pattern)) or sorted(folder.rglob("*.parquet"))
    if not paths:
        raise FileNotFoundError(
            f"no text at {folder / pattern}: set SYMLAB_DATA to a folder with {name}/"
        )
    return ["".join(_read(path)) for path in paths]


def _articles(text: str) -> list[str]:
    """WikiText at its titles; what precedes the first, all of a README, is left."""
    starts = [match.start() for match in TITLE.finditer(text)]
    return [text[a:b] for a, b in itertools.pairwise([*starts, len(text)])]


def _read(path: Path) -> Iterator[str]:
    """A file's text, line ends as \\n, or a Parquet file's; of other files nothing."""
    if not path.is_file():  # dangling links, sockets
        return
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    with path.open("rb") as file:
        if b"\0" in file.read(4096):  # not text, and possibly huge
            return
    with suppress(UnicodeDecodeError):
        yield path.read_text(encoding="utf-8-sig")


def _parquet(path: Path) -> Iterator[str]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        if "text" not in file.schema_arrow.names:
            raise ValueError(f"{path} has no column 'text': rename its column of text")
        for part in file.iter_batches(columns=["text"]):
            yield from (text for text in part["text"].to_pylist() if text)


def _fineweb(limit: int | None) -> Iterator[str]:
    """The 10-billion-token sample of FineWeb-Edu, in its own order."""
    if limit is None:
        raise ValueError(
            "fineweb-edu has 10 billion tokens: say how many bytes, as limit=10**8"
        )
    try:
        from datasets import load_dataset
    except ImportError:
        raise ModuleNotFoundError(
            "fineweb-edu needs Hugging Face datasets: pip install datasets"
        ) from None
    try:
        rows = load_dataset(
            "HuggingFaceFW/fineweb-edu", "sample-10BT", split="train", streaming=True
        )
        for row in rows:
            yield row["text"]
    except Exception as error:  # each layer below has its own for "offline"
        raise ConnectionError(
            f"fineweb-edu could not be streamed ({type(error).__name__}): go online, "
            "or use the text 'stdlib' or 'site'"
        ) from error


# --- tokens --------------------------------------------------------------------------


def _tokenizers():
    try:
        import tokenizers
    except ImportError:
        raise ModuleNotFoundError(
            "texts need the package tokenizers: pip install tokenizers"
        ) from None
    return tokenizers


@contextmanager
def _threads():
    """OMP_NUM_THREADS of them, or one per core, and only once.

    The library's threads do not survive a fork: a child that uses them hangs, and some
    versions warn of it on stderr. So they stay off after they were used.
    """
    names = "TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS"
    before = {name: os.environ.get(name) for name in names}
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    n = int(wanted) if wanted.isdigit() else os.cpu_count() or 1
    os.environ.setdefault(names[0], "true" if n > 1 else "false")
    os.environ.setdefault(names[1], str(n))
    try:
        yield
    finally:
        if n > 1 and before[names[0]] is None:
            before[names[0]] = "false"
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def learn(texts: list[str], size: int):
    """A `tokenizers.Tokenizer` with `size` tokens: bytes, and merges of two or more.

    It has no special tokens: text that looks like one stays text.
    """
    library = _tokenizers()
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = library.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_first(texts, SAMPLE), trainer)
    return tokenizer


def _first(texts: list[str], size: int) -> Iterator[str]:
    for text in texts:
        if size < 0:
            return
        yield text
        size -= len(text)


def _encode(tokenizer, texts: list[str], vocabulary: int) -> np.ndarray:
    dtype = np.uint16 if vocabulary <= 2**16 else np.uint32
    parts = []
    for i in range(0, len(texts), CHUNK):
        for one in tokenizer.encode_batch_fast(texts[i : i + CHUNK]):
            parts.append(np.array([*one.ids, vocabulary - 1], dtype))
    return np.concatenate(parts)


def _build(name: str, key: str, texts: list[str], vocabulary: int) -> Corpus:
    """Tokenise and try to cache."""
    train, validation = split(texts)
    with _threads():
        tokenizer = learn(train, vocabulary - 1)
        filled = tokenizer.get_vocab_size() + 1
        if filled < vocabulary:
            raise ValueError(
                f"the text {name!r} fills {filled:,} tokens, not vocabulary="
                f"{vocabulary}: take a smaller vocabulary or more text"
            )
        ids = [_encode(tokenizer, part, vocabulary) for part in (train, validation)]
    content = {
        "train": len(ids[0]),
        "bytes_per_token": sum(len(t.encode()) for t in validation) / len(ids[1]),
        "tokenizer": tokenizer.to_str(),
    }
    tokens = np.concatenate(ids)
    _save(_path(key, vocabulary), tokens, content)
    mapped = _load(name, key, vocabulary)
    return mapped or _corpus(name, key, vocabulary, tokens, content)


def _corpus(name, key, vocabulary, tokens, content) -> Corpus:
    tokens.setflags(write=False)
    n, rate = content["train"], content["bytes_per_token"]
    title = name if name in NAMES else Path(name).name  # no paths of this machine
    parts = tokens[:n], tokens[n:]
    return Corpus(title, key, vocabulary, *parts, rate, content["tokenizer"])


# --- cache: <key>.npy, train before validation, and <key>.json -----------------------


def _cache() -> Path:
    folder = os.environ.get("SYMLAB_CACHE") or os.path.expanduser("~/.cache/symlab")
    return Path(folder) / "text"


@cache
def _version() -> str:
    try:
        return metadata.version("tokenizers")
    except metadata.PackageNotFoundError:
        return _tokenizers().__version__  # says what to install


def _path(key: str, vocabulary: int) -> Path:
    return _cache() / f"{key}-{vocabulary}-{_version()}-{CACHE_FORMAT}.npy"


def _load(name: str, key: str, vocabulary: int) -> Corpus | None:
    """From the cache; None where it is absent or damaged."""
    path = _path(key, vocabulary)
    try:
        saved = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        tokens = np.load(path, mmap_mode="r")
        if saved["checksum"] != _checksum(tokens, saved["content"]):
            return None
    except Exception:  # a damaged file raises anything; it is written anew
        return None
    return _corpus(name, key, vocabulary, tokens, saved["content"])


def _save(path: Path, tokens: np.ndarray, content: dict) -> None:
    """Each file whole or not at all; the checksum tells whether they are a pair."""
    saved = {"checksum": _checksum(tokens, content), "content": content}
    with suppress(OSError):  # a folder that cannot be written means no cache
        _write(path, lambda file: np.save(file, tokens))
        _write(path.with_suffix(".json"), lambda file: file.write(_bytes(saved)))


def _checksum(tokens: np.ndarray, content: dict) -> int:
    return zlib.crc32(_bytes(content), zlib.crc32(tokens))


def _bytes(content: dict) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _write(path: Path, write) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(".tmp", ".", path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextmanager
def _alone(path: Path):
    """The second process that wants these tokens waits for the first, not for ever."""
    from filelock import FileLock, Timeout

    lock = None
    with suppress(OSError, Timeout):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"), timeout=600)
        lock.acquire()
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _memo(name: str, limit: int | None) -> Path | None:
    """Where the hash of a text is kept that one would have to download to hash it."""
    return _cache() / f"{name}-{limit}.hash" if name == "fineweb-edu" else None
