"""Windows of tokens as batches for training and validation; targets are the next
tokens.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from symlab.data.text.tokens import Corpus
from symlab.harness import rng


def batches(
    tokens: np.ndarray, batch: int, length: int, seed: int, start: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield endless training batches (inputs, targets), int64 (B, T) each.

    tokens: the token ids of a text (N,).
    batch, length: B and T. Target t is the token that follows input t.
    seed: of the order of the windows, which depends on nothing else.
    start: how many batches are skipped, without being read, to resume a run.

    Each epoch cuts the tokens into adjoining windows from a random offset on, and draws
    them without replacement; a batch may reach into the next epoch.
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
    """Return `count` batches (inputs, targets) of evenly spread windows of tokens.

    tokens: the token ids of a text (N,).
    batch, length: the shape (B, T) of inputs and targets; target t is the token that
        follows input t.

    Windows do not overlap. Raises ValueError if there are too few tokens.
    """
    have, want = _check_count(tokens, batch, length, count), batch * count
    starts = length * (np.arange(want) * have // want)
    return [_shifted(tokens, s, length) for s in starts.reshape(count, batch)]


def _shifted(tokens, starts, length) -> tuple[np.ndarray, np.ndarray]:
    """The one place where targets are shifted."""
    windows = tokens[starts[:, None] + np.arange(length + 1)].astype(np.int64)
    return windows[:, :-1].copy(), windows[:, 1:].copy()  # two arrays, free to change


def check_vocabulary(text: Corpus, vocabulary: int) -> None:
    """Raise ValueError unless the text was tokenised with a vocabulary of that size."""
    if text.vocabulary != vocabulary:
        raise ValueError(
            f"the text {text.name!r} has a vocabulary of {text.vocabulary:,} and the "
            f"model one of {vocabulary:,}: give both the same"
        )


def check_validation(text: Corpus, batch: int, length: int, count: int) -> None:
    """Raise ValueError if the validation text is too short for `validation_batches`.

    batch, length, count: the arguments of `validation_batches`.

    The check takes no time, so it can be made before training.
    """
    _check_count(text.validation, batch, length, count)


def _check_count(tokens: np.ndarray, batch: int, length: int, count: int) -> int:
    """The number of windows that the tokens give, if `count` batches are among them."""
    _check_windows(tokens, length, batch)
    have = (len(tokens) - 1) // length
    if count < 1 or batch * count > have:
        raise ValueError(
            f"{count} batches of {batch} x {length} tokens are not between 1 and the "
            f"{have // batch} that {len(tokens):,} validation tokens give: ask for "
            "fewer, or take more text"
        )
    return have


def _check_windows(tokens: np.ndarray, length: int, batch: int) -> None:
    if length < 1 or batch < 1:
        raise ValueError(f"batch={batch} and length={length} must be 1 or more")
    if len(tokens) <= length:
        raise ValueError(
            f"{len(tokens):,} tokens are too few for a sequence of {length:,}, which "
            f"needs {length + 1:,}: shorten the sequence or take more text"
        )
