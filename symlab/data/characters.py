"""Texts as character indices, to train small language models on.

  mpmath            the documentation of mpmath's functions, 280 kB of English, formulas
                    and examples. It comes with torch (through sympy); constraints.txt
                    has version 1.3.0, so that it is the same text everywhere
  tinyshakespeare   1.1 MB, from SYMLAB_DATA/tinyshakespeare/input.txt

Results vary with the text, so rows of experiments record its hash, `digest`.
"""

import os
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

NAMES = ("mpmath", "tinyshakespeare")


@dataclass(frozen=True)
class Characters:
    """A text as character indices, divided into a training and a validation part.

    train, validation: int64 (N,), positions of the characters in `vocabulary`.
    vocabulary: the distinct characters, sorted.
    """

    train: Tensor
    validation: Tensor
    vocabulary: str
    digest: str

    def unigram_loss(self) -> float:
        """Return the validation loss of the best constant prediction, in nats per
        character.
        """
        n = len(self.vocabulary)
        counts = torch.bincount(self.train, minlength=n).double() + 1
        return float(-(counts / counts.sum()).log()[self.validation].mean())

    def bigram_loss(self) -> float:
        """Return the validation loss of a prediction from the previous character alone.

        It is in nats per character. Probabilities are counts of pairs of characters in
        the training text, with one added to each count.
        """
        n = len(self.vocabulary)
        pairs = self.train[:-1] * n + self.train[1:]
        counts = torch.bincount(pairs, minlength=n * n).view(n, n).double() + 1
        log = (counts / counts.sum(1, keepdim=True)).log()
        return float(-log[self.validation[:-1], self.validation[1:]].mean())


def load(name: str, held_out: float = 0.1) -> Characters:
    """Return a text by name, as character indices; the module lists the names.

    name: "mpmath" or "tinyshakespeare"; any other raises ValueError.
    held_out: the fraction of the text, taken from its end, that is for validation.
    """
    if name not in NAMES:
        raise ValueError(f"unknown text {name!r}: use {' or '.join(map(repr, NAMES))}")
    return encode(_mpmath() if name == "mpmath" else _tinyshakespeare(), held_out)


def encode(text: str, held_out: float = 0.1) -> Characters:
    """Return any text as character indices, each distinct character a symbol.

    held_out: the fraction of the text, taken from its end, that is for validation.
    """
    vocabulary = "".join(sorted(set(text)))
    index = {character: i for i, character in enumerate(vocabulary)}
    ids = torch.tensor([index[character] for character in text])
    n = round(len(ids) * (1 - held_out))
    digest = sha256(text.encode()).hexdigest()[:16]
    return Characters(ids[:n], ids[n:], vocabulary, digest)


def _mpmath() -> str:
    found = find_spec("mpmath")  # without importing it
    if found is None:
        raise FileNotFoundError(
            "the text 'mpmath' is that package's documentation: install mpmath==1.3.0"
        )
    return _read(Path(found.origin).with_name("function_docs.py"))


def _tinyshakespeare() -> str:
    path = Path(os.environ.get("SYMLAB_DATA") or "data") / "tinyshakespeare/input.txt"
    if not path.is_file():
        raise FileNotFoundError(
            f"no text at {path}: set SYMLAB_DATA to a folder with "
            "tinyshakespeare/input.txt"
        )
    return _read(path)


def _read(path: Path) -> str:
    """As UTF-8, line ends as \\n on every system."""
    return path.read_text(encoding="utf-8")
