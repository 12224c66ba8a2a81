"""A tokenised text, and the tokenizer that is learned from it."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

SAMPLE = 64_000_000  # characters that the tokenizer learns from, at most
CHUNK = 64  # documents tokenised at once: their offsets take 30 times their memory


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as token ids, read only; the id `vocabulary - 1` ends each document.

    train, validation: uint16 (N,), or uint32 if the vocabulary exceeds 65,536.
    hash: 16 hexadecimal digits that identify the text and its split, before
        tokenisation.
    bytes_per_token: the mean over the whole validation text. To get the bits per byte
        of some windows, divide by the bytes of these windows instead: `target_bytes`.
    shared: the fraction of validation's distinct runs of 30 words that also occur in
        the training text; nan if it is unknown or no document has 30 words.
    not_utf8, binary: how many files (or lines of JSON) were left out because they are
        not UTF-8, or because they hold NUL bytes.
    examples: the names of the first files that are not UTF-8.
    """

    name: str
    hash: str
    vocabulary: int
    train: np.ndarray
    validation: np.ndarray
    bytes_per_token: float
    tokenizer: str = field(repr=False)  # JSON, for tokenizers.Tokenizer.from_str
    shared: float = float("nan")
    not_utf8: int = 0
    binary: int = 0
    examples: tuple[str, ...] = ()

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; the token that ends a document gives no
        text.
        """
        end = self.vocabulary - 1
        kept = [int(i) for i in ids if i != end]
        return library().Tokenizer.from_str(self.tokenizer).decode(kept)

    def target_bytes(self, targets: np.ndarray) -> int:
        """Return how many bytes of UTF-8 some tokens stand for.

        targets: token ids, of any shape.

        The token that ends a document counts 0 bytes. A loss of x nats, summed over the
        targets, is x / log(2) / target_bytes bits per byte, which can be compared
        across vocabularies. If the text has no tokenizer, each token counts
        `bytes_per_token`.
        """
        if self.bytes_of is None:
            return round(self.bytes_per_token * np.size(targets))
        return int(self.bytes_of[targets].sum())

    @cached_property
    def bytes_of(self) -> np.ndarray | None:
        """The number of UTF-8 bytes of each token id, int64 (V,), or None.

        It is None for a text without a tokenizer. Byte-level BPE writes every byte of a
        token as one character.
        """
        merged = json.loads(self.tokenizer or "{}").get("model", {}).get("vocab")
        if merged is None:
            return None
        sizes = np.zeros(self.vocabulary, np.int64)
        for token, i in merged.items():
            sizes[i] = len(token)
        return sizes

    def left_out(self) -> str:
        """Return one sentence on the files that were left out; '' if none was."""
        said = []
        if self.not_utf8:
            more = ", ..." if self.not_utf8 > len(self.examples) else ""
            said.append(
                f"{self.not_utf8:,} not UTF-8 ({', '.join(self.examples)}{more})"
            )
        if self.binary:
            said.append(f"{self.binary:,} binary")
        if not said:
            return ""
        return f"files left out of the text {self.name!r}: {' and '.join(said)}"


def library():
    """Return the package `tokenizers`, which is imported only when it is needed.

    Raises ModuleNotFoundError, which says how to install it.
    """
    try:
        import tokenizers
    except ImportError:
        raise ModuleNotFoundError(
            "texts need the package tokenizers: pip install tokenizers"
        ) from None
    return tokenizers


@contextmanager
def threads():
    """Return a context inside which the tokenizer may use OMP_NUM_THREADS threads.

    Without that variable it may use one thread per core. The library's threads do not
    survive a fork: a child process that uses them hangs, and some versions print a
    warning. So the threads are turned off again when the context ends.
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


def learn(texts: Iterable[str], size: int):
    """Return a byte-level BPE tokenizer with `size` tokens, learned from texts.

    Its tokens are the 256 bytes, and merges that occur at least twice in the first
    `SAMPLE` characters, from which it learns. It has no special tokens: text that looks
    like one is treated as text.
    """
    tokenizer = library().Tokenizer(library().models.BPE())
    from tokenizers import decoders, pre_tokenizers, trainers

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


def _first(texts: Iterable[str], size: int) -> Iterator[str]:
    for text in texts:
        size -= len(text)
        if size < 0:
            return
        yield text


def encode(tokenizer, texts: list[str], vocabulary: int) -> list[np.ndarray]:
    """Return for each text its token ids followed by the end token, vocabulary - 1."""
    dtype = id_type(vocabulary)
    found = tokenizer.encode_batch_fast(texts)
    return [np.array([*one.ids, vocabulary - 1], dtype) for one in found]


def id_type(vocabulary: int) -> type:
    """Return the NumPy type of token ids: uint16, or uint32 if there are over 65,536
    tokens.
    """
    return np.uint16 if vocabulary <= 2**16 else np.uint32
