"""Tokens of texts: one shift, no overlap, one order, and a cache that heals."""

import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from symlab.data import text
from symlab.data.text import building, cutting, progress, sources, splitting
from symlab.data.text import cache as stored
from symlab.data.text import tokens as token
from symlab.data.text import windows as order

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
WORDS += ["iota", "kappa", "lambda", "mu"]
HOME = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SYMLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SYMLAB_DATA", str(tmp_path / "data"))
    return tmp_path / "cache" / "text"


def prose(seed: int, words: int = 80) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, words)) + f" é{seed}\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """40 documents, one of them twice, and files that are no text."""
    root = tmp_path / "prose"
    (root / "inner").mkdir(parents=True)
    for i in range(40):
        path = root / ("inner" if i % 2 else ".") / f"{i}.txt"
        path.write_text(prose(i), encoding="utf-8")
    (root / "copy.txt").write_text(prose(3), encoding="utf-8")
    (root / "windows.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo <|endoftext|>\r\n")
    (root / "image.bin").write_bytes(b"\0\1\2" * 100)
    (root / "latin.txt").write_bytes("é".encode("latin-1"))
    (root / "empty.txt").write_text(" \n")
    (root / ".hidden").write_text("hidden")
    (root / "dangling").symlink_to(root / "nowhere")
    return root


EXPECTED = {prose(i) for i in range(40)} | {"one\ntwo <|endoftext|>\n"}


def corpus(folder, vocabulary=300, limit=None) -> text.Corpus:
    return text.corpus(str(folder), vocabulary, limit)


def decoded(found: text.Corpus, tokens) -> list[str]:
    """The text of each document, by the ends that the tokens have."""
    ends = np.flatnonzero(tokens == found.vocabulary - 1) + 1
    assert ends[-1] == len(tokens)
    return [found.decode(part) for part in np.split(tokens, ends[:-1])]


# --- batches -------------------------------------------------------------------------


def loss(logits, targets) -> float:
    logits, targets = torch.from_numpy(logits), torch.from_numpy(targets)
    return float(
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.ravel())
    )


@pytest.mark.parametrize("kind", ["train", "validation"])
def test_the_shift_is_single(kind):
    tokens = np.random.default_rng(0).permutation(200).astype(np.uint16)
    if kind == "train":
        inputs, targets = next(text.batches(tokens, 4, 16, seed=0))
    else:
        inputs, targets = text.validation_batches(tokens, 4, 16, count=1)[0]
    assert inputs.shape == targets.shape == (4, 16)
    assert inputs.dtype == targets.dtype == np.int64
    assert (targets[:, :-1] == inputs[:, 1:]).all()

    follows = dict(itertools.pairwise(tokens.tolist()))
    answer = np.vectorize(follows.get)(inputs)
    one_hot = 1e3 * np.eye(200)
    assert loss(one_hot[answer], targets) == 0.0
    assert loss(one_hot[inputs], targets) > 100  # a model that repeats its input
    assert loss(one_hot[np.vectorize(follows.get)(answer[:, :-1])], targets[:, 1:]) == 0

    before = inputs.copy()
    targets[:] = -1  # two arrays
    np.testing.assert_array_equal(inputs, before)


@pytest.mark.parametrize(("n", "length"), [(101, 10), (11, 10), (15, 10), (400, 7)])
def test_an_epoch_predicts_each_token_at_most_once(n, length):
    phases = set()
    starts = order._starts(n, length, seed=1)
    for _ in range(20):
        first = next(starts)
        phase = first % length
        windows = (n - 1 - phase) // length
        epoch = sorted([first, *itertools.islice(starts, windows - 1)])
        assert epoch == list(range(phase, phase + length * windows, length))
        assert epoch[-1] + length < n
        phases.add(phase)
    assert len(phases) == 1 if n == 11 else len(phases) > 3


def test_the_order_comes_from_the_seed_alone():
    tokens = np.arange(300, dtype=np.uint16)

    def some(seed, start=0, batches=20):  # 20 batches of 4 are three epochs
        pairs = text.batches(tokens, 4, 10, seed, start)
        return np.array([x for x, _ in itertools.islice(pairs, batches)])

    np.random.seed(0)  # noqa: NPY002
    first = some(0)
    np.random.seed(1)  # noqa: NPY002
    np.testing.assert_array_equal(first, some(0))
    np.testing.assert_array_equal(first[13:], some(0, 13, 7))
    assert (first != some(1)).any()
    windows = first.reshape(-1, 10)
    assert (windows[:28] != windows[28:56]).any()  # epochs differ in order


def test_validation_windows_are_fixed_disjoint_and_spread():
    tokens = np.arange(1001, dtype=np.uint16)
    found = text.validation_batches(tokens, batch=5, length=10, count=4)
    starts = np.concatenate([x[:, 0] for x, _ in found])
    assert len(found) == 4
    assert starts[0] == 0
    assert set(np.diff(starts)) == {50}
    whole = text.validation_batches(tokens, batch=5, length=10, count=20)
    predicted = np.concatenate([y.ravel() for _, y in whole])
    np.testing.assert_array_equal(predicted, np.arange(1, 1001))
    with pytest.raises(ValueError, match="the 20 that 1,001 validation tokens give"):
        text.validation_batches(tokens, batch=5, length=10, count=21)


def test_what_does_not_fit_is_said():
    tokens = np.arange(10, dtype=np.uint16)
    with pytest.raises(ValueError, match="10 tokens are too few for a sequence of 10"):
        text.batches(tokens, 1, 10, seed=0)  # at once, not at the first batch
    with pytest.raises(ValueError, match="too few"):
        text.validation_batches(tokens, 1, 10, 1)
    with pytest.raises(ValueError, match="1 or more"):
        text.batches(tokens, 0, 5, seed=0)
    found = text.Corpus("a", "", 300, tokens, tokens, 1.0, "")
    text.check_vocabulary(found, 300)
    with pytest.raises(ValueError, match="vocabulary of 300 and the model one of 512"):
        text.check_vocabulary(found, 512)


# --- documents -----------------------------------------------------------------------


def test_documents_come_back_and_are_in_one_part_only(folder):
    found = corpus(folder)
    train, held = decoded(found, found.train), decoded(found, found.validation)
    assert len(train) + len(held) == len(EXPECTED)  # copies once
    assert set(train) | set(held) == EXPECTED
    assert not set(train) & set(held)
    assert held
    assert found.vocabulary == 300 > found.train.max() == found.validation.max()
    assert found.name == "prose"
    size = sum(len(document.encode()) for document in held)
    assert found.bytes_per_token == size / len(found.validation)


def test_the_split_is_by_content_and_near_five_percent():
    ranks = np.random.default_rng(0).integers(2**64, size=4000, dtype=np.uint64)
    held = splitting.by_rank(ranks)
    assert 0.04 < held.mean() < 0.06
    assert (splitting.by_rank(ranks[1000:2000]) == held[1000:2000]).all()
    for part in (ranks[~held], ranks[held]):  # where chance gives one side nothing
        for n in (2, 3, 8):
            assert len(set(splitting.by_rank(part[:n]))) == 2


def test_a_limit_takes_the_same_part_each_time(folder):
    whole = list(text.documents(str(folder)))
    some = list(text.documents(str(folder), 5000))
    assert some == whole[: len(some)]
    sizes = np.cumsum([len(document.encode()) for document in whole])
    assert len(some) == np.searchsorted(sizes, 5000, side="right") > 2
    by_name = [path.read_text("utf-8") for path in sorted(folder.glob("[0-9]*.txt"))]
    assert [document for document in whole if document in by_name] != by_name


def test_long_texts_are_cut_between_lines():
    line = "x" * 9 + "\n"
    for whole in (line * 50, ("ab\n" * 10 + "\n") * 30, "a\n\n", ""):
        pieces = list(cutting.cut([whole], 40))
        assert "".join(pieces) == whole
        assert all(pieces)
        assert all(piece.endswith("\n") for piece in pieces)
        assert all(40 <= len(piece) <= 80 for piece in pieces[:-1])
    whole = ("ab\n" * 10 + "\n") * 30
    assert all(piece.endswith("\n\n") for piece in cutting.cut([whole], 40))


@pytest.mark.parametrize(
    ("whole", "sizes"),
    [
        ("y" * 500, [80] * 6 + [20]),
        ("é\N{GRINNING FACE}" * 100, [80, 80, 40]),
        ("short\n" + "word " * 100 + "\n", [41] + [45] * 9 + [61]),
        ("y" * 100 + "\n" + "z" * 10, [80, 31]),
    ],
)
def test_a_long_line_is_cut_at_a_space_or_anywhere(whole, sizes):
    pieces = list(cutting.cut([whole], 40))
    assert "".join(pieces) == whole
    assert [len(piece) for piece in pieces] == sizes


def test_how_a_text_arrives_does_not_change_its_pieces():
    draws = np.random.default_rng(0)
    letters = np.array(["a", " ", "\n", "é", "\n\n"])
    whole = "".join(draws.choice(letters, 3000, p=[0.9, 0.06, 0.01, 0.02, 0.01]))
    expected = list(cutting.cut([whole], 50))
    assert max(map(len, expected)) <= 100
    for mean in (1, 7, 60, 400):
        ends = np.cumsum(draws.integers(1, 2 * mean + 1, size=3000))
        bounds = [0, *ends[ends < len(whole)], len(whole)]
        blocks = [whole[a:b] for a, b in itertools.pairwise(bounds)]
        assert list(cutting.cut(blocks, 50)) == expected


def test_the_hash_names_the_text_and_nothing_else(folder, tmp_path):
    first = corpus(folder).hash
    assert len(first) == 16
    assert corpus(folder, 280).hash == first
    os.utime(folder / "0.txt", (0, 0))
    elsewhere = folder.rename(tmp_path / "elsewhere")
    assert corpus(elsewhere).hash == first != corpus(elsewhere, limit=9000).hash
    (elsewhere / "0.txt").write_text("other")
    assert corpus(elsewhere).hash != first


def test_ranks_are_a_set(monkeypatch):
    monkeypatch.setattr(cutting, "RECENT", 10)
    draws = np.random.default_rng(0).integers(2**64, size=100, dtype=np.uint64)
    ranks, known = cutting.Ranks(), set()
    for rank in [*map(int, np.concatenate([draws, draws])), 0, 2**64 - 1]:
        assert (rank in ranks) == (rank in known)
        ranks.add(rank)
        known.add(rank)
    assert len(ranks.older) > 90


# --- near copies ---------------------------------------------------------------------


def runs(document: bytes) -> set[tuple]:
    words = document.split()
    return {tuple(words[i : i + 30]) for i in range(len(words) - 29)}


def essays() -> tuple[list[bytes], np.ndarray]:
    """300 documents and their ranks; some share a third, some a fifteenth."""
    draws = np.random.default_rng(1)
    found = [[f"w{i}" for i in draws.integers(1000, size=300)] for _ in range(300)]
    for i in range(0, 120, 2):
        found[i][:130] = found[i + 1][:130]  # 101 of 271 shingles
        found[i][250:] = found[i + 121][:50]  # 21 of them
    found[290:] = [["few", "words", str(i)] for i in range(10)]
    ranks = draws.integers(2**64, size=300, dtype=np.uint64)
    ranks[::7] //= 20  # 43 and about twelve more are held out
    return [" ".join(words).encode() for words in found], ranks


def test_near_copies_are_on_one_side_and_the_rest_is_counted():
    documents, ranks = essays()
    held, shared = splitting.split(documents, ranks)
    by_hash = splitting.by_rank(ranks)

    shingles = [runs(document) for document in documents]

    def both(held):
        """The runs of words of either side."""
        sides = [set(), set()]
        for own, out in zip(shingles, held, strict=True):
            sides[int(out)] |= own
        return sides

    trained, candidates = both(by_hash)
    assert len(candidates & trained) / len(candidates) > 0.2
    expected, at = by_hash.copy(), 299  # one at a time, from the last on
    while at >= 0:
        own = shingles[at]
        if expected[at] and len(own & trained) > 0.1 * len(own):
            trained |= own
            expected[at], at = False, 300
        at -= 1
    np.testing.assert_array_equal(held, expected)
    assert 10 < held.sum() < by_hash.sum() - 10
    trained, own = both(held)
    assert shared == len(own & trained) / len(own)
    assert 0 < shared < 0.1
    assert held[290:].sum() == by_hash[290:].sum()  # too short to have shingles


def test_what_is_near_to_a_document_that_joins_joins_too():
    a, b, c, d, e = (np.char.add(f"{x}", np.arange(200).astype(str)) for x in "abcde")
    texts = [a, np.r_[a[:100], b[:100]], np.r_[b[:100], c[:100]], d, np.r_[e, c[:40]]]
    documents = [" ".join(words).encode() for words in texts]
    ranks = np.array([2**63, 1, 2, 3, 4], np.uint64)  # all but the first are held out
    held, shared = splitting.split(documents, ranks)
    assert held.tolist() == [False, False, False, True, True]
    assert shared == 11 / (171 + 211)  # of the last, with the third


def test_where_all_are_near_copies_the_hash_decides_and_that_is_said():
    documents = [prose(0, 200).encode() + str(i).encode() for i in range(5)]
    ranks = np.array([5, 4, 2**63, 2**63 + 1, 6], np.uint64)
    held, shared = splitting.split(documents, ranks)
    assert held.tolist() == [True, True, False, False, True]
    assert shared > 0.9
    short = [f"only {i}".encode() for i in range(5)]
    held, shared = splitting.split(short, ranks)
    assert held.sum() == 3
    assert np.isnan(shared)


def test_a_sample_of_shingles_finds_them_too(monkeypatch):
    documents, ranks = essays()
    exact, shared = splitting.split(documents, ranks)
    monkeypatch.setattr(splitting, "LARGEST", 2000)
    monkeypatch.setattr(splitting, "TOGETHER", 100)
    held, estimate = splitting.split(documents, ranks)
    assert (held != exact).sum() < 12
    assert abs(estimate - shared) < 0.05
    again, same = splitting.split(documents, ranks)
    assert (again == held).all()
    assert same == estimate
    kept, every = splitting._sample(documents)
    assert every == 64  # of 78,000
    assert 600 < sum(map(len, kept)) <= 2000


def test_shingles_are_alike_where_the_words_are():
    words = prose(4, 400).split()
    joined, spread = " ".join(words).encode(), "\n\t ".join(words).encode()
    hashes = splitting.shingles(joined)
    assert len(hashes) == len(words) - 29
    np.testing.assert_array_equal(splitting.shingles(spread), hashes)
    moved = splitting.shingles(b"one more " + joined)
    np.testing.assert_array_equal(moved[2:], hashes)
    words[200] = "other"
    differ = splitting.shingles(" ".join(words).encode()) != hashes
    assert np.flatnonzero(differ).tolist() == list(range(171, 201))
    words = [f"w{i}" for i in range(30)]
    swapped = {tuple(words)}
    for i, j in itertools.combinations(range(30), 2):
        other = words.copy()
        other[i], other[j] = words[j], words[i]
        swapped.add(tuple(other))
    hashes = {int(splitting.shingles(" ".join(w).encode())[0]) for w in swapped}
    assert len(hashes) == len(swapped) == 436
    assert len(splitting.shingles(b"w " * 29)) == 0
    assert len(splitting.shingles(b"w " * 30)) == 1


def test_more_text_moves_documents_to_training_only():
    documents, ranks = essays()
    order = np.random.default_rng(0).permutation(len(documents))
    documents, ranks = [documents[i] for i in order], ranks[order]
    parts = [splitting.split(documents[:n], ranks[:n])[0] for n in (70, 150, 300)]
    for held, more in itertools.pairwise(parts):
        moved = held != more[: len(held)]
        assert 0 < moved.sum() < 20
        assert held[moved].all()


# --- tokens --------------------------------------------------------------------------


def test_the_tokenizer_learns_from_the_training_part_alone(folder, monkeypatch):
    learn, seen = token.learn, []

    def spy(texts, size):
        seen.extend(texts)
        return learn(seen, size)

    monkeypatch.setattr(token, "learn", spy)
    found = corpus(folder)
    assert seen == decoded(found, found.train)


def test_the_tokenizer_learns_from_a_bounded_sample(monkeypatch):
    monkeypatch.setattr(token, "SAMPLE", 1000)
    taken = []

    def texts():
        for i in range(100):
            taken.append(prose(i))
            yield taken[-1]

    learned = token.learn(texts(), 300)
    assert sum(map(len, taken[:-1])) <= 1000 < sum(map(len, taken))
    assert learned.to_str() == token.learn(taken[:-1], 300).to_str()


def test_more_than_65536_tokens_need_four_bytes():
    tokenizer = token.learn(["ab ab"], 256)
    assert token.encode(tokenizer, ["ab"], 2**16)[0].dtype == np.uint16
    wide = token.encode(tokenizer, ["ab"], 2**16 + 1)[0]
    assert wide.dtype == np.uint32
    assert wide[-1] == 2**16


def raw(found: text.Corpus, ids) -> bytes:
    """The bytes of tokens, by the table of GPT-2 (`bytes_to_unicode`)."""
    from tokenizers import Tokenizer

    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [i for i in range(256) if i not in printed]
    table = {chr(i): i for i in printed}
    table |= {chr(256 + n): i for n, i in enumerate(others)}
    tokenizer = Tokenizer.from_str(found.tokenizer)
    kept = [int(i) for i in np.ravel(ids) if i != found.vocabulary - 1]
    return bytes(table[letter] for i in kept for letter in tokenizer.id_to_token(i))


def test_the_bytes_of_targets_are_those_of_their_text(folder):
    found = corpus(folder, 290)
    held = "".join(decoded(found, found.validation)).encode()
    for length in (4, 16):
        _, targets = text.validation_batches(found.validation, 2, length, 1)[0]
        assert all(raw(found, row) in held for row in targets)
        assert found.target_bytes(targets) == len(raw(found, targets)) > length
    assert (found.validation == 289).sum() > 1
    assert raw(found, found.validation) == held
    assert found.target_bytes(found.validation) == len(held)
    assert found.bytes_per_token == len(held) / len(found.validation)
    assert found.target_bytes(np.array([[289]])) == 0  # the end of a document
    assert found.bytes_of.shape == (290,)


@pytest.mark.parametrize("tokenizer", ["", "{}"])
def test_a_text_without_a_tokenizer_has_its_mean(tokenizer):
    ids = np.arange(300, dtype=np.uint16)
    toy = text.Corpus("toy", "", 300, ids, ids, 2.5, tokenizer)
    assert toy.target_bytes(np.zeros((4, 8), np.int64)) == 80


def test_validation_is_checked_before_there_is_work():
    ids = np.arange(1001, dtype=np.uint16)
    toy = text.Corpus("toy", "", 2000, ids, ids, 1.0, "{}")
    text.check_validation(toy, 5, 10, 20)
    with pytest.raises(ValueError, match="21 batches .* between 1 and the 20 that"):
        text.check_validation(toy, 5, 10, 21)
    with pytest.raises(ValueError, match="0 batches of 5 x 10 tokens are not between"):
        text.check_validation(toy, 5, 10, 0)
    with pytest.raises(ValueError, match="too few for a sequence"):
        text.check_validation(toy, 5, 1001, 1)


# --- cache ---------------------------------------------------------------------------


def same(a: text.Corpus, b: text.Corpus) -> bool:
    arrays = np.array_equal(a.train, b.train) and np.array_equal(
        a.validation, b.validation
    )
    return arrays and a.hash == b.hash and a.bytes_per_token == b.bytes_per_token


def fail(*_):
    raise AssertionError("made again")


def test_the_second_call_maps_what_the_first_wrote(folder, cache, monkeypatch):
    first = corpus(folder)
    monkeypatch.setattr(token, "learn", fail)
    second = corpus(folder)
    assert same(first, second)
    made = {path.name for path in Path(first.train.filename).parent.iterdir()}
    assert made == {"train.bin", "validation.bin", "about.json"}
    for found in (first, second):
        assert isinstance(found.train, np.memmap)
        assert not found.train.flags.writeable
    with pytest.raises(AssertionError, match="made again"):
        corpus(folder, 299)
    with monkeypatch.context() as patch:
        patch.setattr(stored, "version", lambda: "another")
        with pytest.raises(AssertionError, match="made again"):
            corpus(folder)
    (folder / "0.txt").write_text("changed")
    with pytest.raises(AssertionError, match="made again"):
        corpus(folder)
    assert not [*cache.glob("*.tmp"), *cache.glob("*.part"), *cache.glob("*.status")]


def age(folder, seconds=100.0):
    """As if the files had not been touched for a while; their ctime cannot be set."""
    for path in folder.rglob("*.txt"):
        os.utime(path, (time.time() - seconds,) * 2)


def test_files_that_have_not_changed_are_not_read(folder, monkeypatch):
    age(folder)
    monkeypatch.setattr(stored, "SETTLED", -60.0)  # for the ctime
    first = corpus(folder)
    with monkeypatch.context() as patch:
        patch.setattr(building, "distinct", fail)
        found = corpus(folder)
        assert same(first, found)
        assert found.left_out() == first.left_out() != ""
        (folder / "0.txt").write_text("changed")
        with pytest.raises(AssertionError, match="made again"):
            corpus(folder)
    assert corpus(folder).hash != first.hash


def test_files_of_this_second_are_read_again(folder):
    """One may change twice within a tick of the clock of its times."""
    first, times = corpus(folder), os.stat(folder / "0.txt")
    memo = stored.Memo(sources.find(str(folder), None), None)
    assert memo.read() is None
    memo.asked = times.st_mtime - 60  # as of a process that has waited since
    assert memo.read()[0] == first.hash


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip(path):
    data = bytearray(path.read_bytes())
    data[-4] ^= 1  # of the json, within its content
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [halve, zero, flip, Path.unlink])
@pytest.mark.parametrize("name", ["train.bin", "validation.bin", "about.json"])
def test_a_damaged_cache_is_rebuilt(folder, cache, damage, name, monkeypatch):
    first = corpus(folder)
    first = text.Corpus(**{**vars(first), "train": first.train.copy(),
                           "validation": first.validation.copy()})  # fmt: skip
    damage(next(cache.glob(f"*/{name}")))
    assert same(first, corpus(folder))
    monkeypatch.setattr(token, "learn", fail)
    assert same(first, corpus(folder))


def test_without_a_folder_to_write_there_is_no_cache(folder, tmp_path, monkeypatch):
    cached = corpus(folder)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SYMLAB_CACHE", str(tmp_path / "file" / "below"))
    found = corpus(folder)
    assert not isinstance(found.train, np.memmap)
    assert not found.train.flags.writeable
    assert same(found, cached)
    assert found.left_out() == cached.left_out()


def test_memory_does_not_grow_with_the_text(tmp_path, folder, monkeypatch):
    """Of two lines of 1 MB, a third is never held."""
    monkeypatch.setattr(token, "SAMPLE", 100_000)
    monkeypatch.setattr(token, "CHUNK", 2)
    monkeypatch.setattr(sources, "BLOCK", 2**14)
    monkeypatch.setattr(stored, "BLOCK", 2**14)
    monkeypatch.setattr(splitting, "LARGEST", 2000)
    monkeypatch.setattr(splitting, "TOGETHER", 2000)
    draws = np.random.default_rng(0)
    with (tmp_path / "long.txt").open("w") as file:
        for _ in range(2):
            print(*draws.choice(WORDS, 180_000), file=file)
    size = (tmp_path / "long.txt").stat().st_size
    corpus(folder)  # what is imported on the way is not counted
    tracemalloc.start()
    found = text.corpus(str(tmp_path / "long.txt"), 300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.train) > 300_000
    assert peak < size / 3


def start(code: str, **extra) -> subprocess.Popen:
    hidden = ("TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS")
    env = {k: v for k, v in os.environ.items() if k not in hidden}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=env | {"PYTHONPATH": str(HOME)} | extra,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


ONE_OF_SEVERAL = """
import time
from pathlib import Path
from symlab.data.text import building, corpus, tokens
building.FIRST_WORD = 0.3
read, learn = building.distinct, tokens.learn
def spy(*arguments):
    print("reads", flush=True)
    yield from read(*arguments)
def slow(*arguments):
    learned = learn(*arguments)
    print("learns", flush=True)
    end = time.monotonic() + 60
    while not Path(GO).exists() and time.monotonic() < end:
        time.sleep(0.05)
    return learned
building.distinct, tokens.learn = spy, slow
found = corpus(PATH, 300)
print(found.hash, found.train.filename, len(found.train))
"""


def one_of_several(folder) -> subprocess.Popen:
    code = ONE_OF_SEVERAL.replace("PATH", repr(str(folder)))
    return start(code.replace("GO", repr(str(folder.parent / "go"))))


def until_it_learns(process) -> None:
    assert [process.stdout.readline() for _ in range(2)] == ["reads\n", "learns\n"]


WAITING = (
    "waiting for another process, which makes the tokens of 'prose' "
    "(learning tokens, 100% of 18.0kB, 00:00 left)\n"
)


def test_one_process_makes_the_tokens_and_the_others_wait(folder):
    first = one_of_several(folder)
    until_it_learns(first)
    others = [one_of_several(folder) for _ in range(2)]
    assert [process.stderr.readline() for process in others] == [WAITING] * 2
    (folder.parent / "go").touch()
    made, errors = first.communicate(timeout=60)
    assert errors == ""
    for process in others:
        theirs, errors = process.communicate(timeout=60)
        assert theirs == made  # neither reads nor learns, and maps the same file
        assert errors == ""  # nothing more for ten minutes


def test_another_takes_over_when_the_one_dies(folder, cache):
    first = one_of_several(folder)
    until_it_learns(first)
    second = one_of_several(folder)
    assert second.stderr.readline() == WAITING
    assert [path.suffix for path in cache.iterdir() if path.is_dir()] == [".part"]
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (folder.parent / "go").touch()
    out, _ = second.communicate(timeout=60)
    assert out.startswith("reads\nlearns\n")
    assert not [*cache.glob("*.part"), *cache.glob("*.status")]
    assert corpus(folder).hash == out.split()[2]


def test_a_full_disk_is_said_and_leaves_nothing(folder, cache):
    limited = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES, BYTES))
from symlab.data.text import corpus
try:
    corpus({str(folder)!r}, 260)
except OSError as error:
    print(error)
"""
    for size in (2000, 20_000):  # of the documents, and of the tokens
        out, errors = start(limited.replace("BYTES", str(size))).communicate(timeout=60)
        assert errors == ""
        assert out == (
            f"there is no room for the text 'prose' in {cache}: free some, set "
            "SYMLAB_CACHE to a larger folder, or take less text by limit\n"
        )
        assert not [path for path in cache.iterdir() if path.is_dir()]
    assert set(decoded(corpus(folder), corpus(folder).train)) < EXPECTED


def test_progress_is_shown_when_it_takes_long(folder, monkeypatch, capsys):
    monkeypatch.delenv("SYMLAB_QUIET", raising=False)
    corpus(folder, 280)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "QUIET", 0.0)
    corpus(folder, 281)
    said = capsys.readouterr().err
    stages = ("reading", "comparing", "learning tokens", "tokenising")
    for stage in stages:
        assert f"prose: {stage}:   0%" in said
    monkeypatch.setenv("SYMLAB_QUIET", "1")  # as in a run of a sweep
    corpus(folder, 282)
    assert capsys.readouterr().err == ""


def test_one_bar_is_gone_before_the_next(folder, monkeypatch):
    bars = []

    class Spy(progress.Bar):
        def __init__(self, *arguments, **options):
            assert all(bar.disable for bar in bars)  # as tqdm is after its close
            super().__init__(*arguments, **options)
            bars.append(self)

    monkeypatch.setattr(progress, "Bar", Spy)
    monkeypatch.setattr(token, "SAMPLE", 5000)  # learning ends within the text
    corpus(folder, 280)
    assert len(bars) == 5  # there are two passes of comparing


def test_progress_counts_files_or_the_limit(folder, monkeypatch):
    stages = []
    monkeypatch.setattr(progress, "_line", lambda *about: stages.append(about) or "")
    monkeypatch.setattr(progress.time, "monotonic", itertools.count(0, 10).__next__)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    size -= (folder / ".hidden").stat().st_size
    for limit, total in ((None, size), (5000, 5000), (10**9, size)):
        stages.clear()
        corpus(folder, 280, limit)
        done = [about[1] for about in stages if about[0] == "reading"]
        assert {about[2] for about in stages if about[0] == "reading"} == {total}
        assert done == sorted(done)
        assert 0.8 * total < done[-1] <= total
    monkeypatch.setattr(sources, "BLOCK", 2**12)
    (folder / "long.txt").write_text("".join(map(prose, range(100, 200))))
    stages.clear()
    corpus(folder / "long.txt", 280)
    done = {about[1] for about in stages if about[0] == "reading"}
    assert len(done) > 2  # and not only the end of the file


def test_two_processes_at_once_and_threads_change_nothing(folder, cache, monkeypatch):
    code = f"""
import os, signal, sys, zlib
from symlab.data import text
assert "torch" not in sys.modules and "tokenizers" not in sys.modules
found = text.corpus({str(folder)!r}, 300)
print(found.hash, zlib.crc32(found.train), zlib.crc32(found.validation))
sys.stdout.flush()
own = 280 + int(os.environ["OMP_NUM_THREADS"])
text.corpus({str(folder)!r}, own)  # the other process does not do this one
child = os.fork()
if child == 0:
    signal.alarm(10)  # a child that waits for its parent's threads hangs
    text.corpus({str(folder)!r}, own + 10)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    both = [start(code, OMP_NUM_THREADS=n) for n in ("1", "3")]
    out = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], out
    assert out[0][0] == out[1][0]
    assert not any("parallelism" in errors for _, errors in out)
    assert not list(cache.glob("*.tmp"))
    with monkeypatch.context() as patch:
        patch.setattr(token, "learn", fail)
        assert corpus(folder).hash == out[0][0].split()[0]
        threaded = corpus(folder, 283)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SYMLAB_CACHE", str(cache / "fresh"))
    assert same(threaded, corpus(folder, 283))


@pytest.mark.parametrize("before", [None, "true"])
def test_the_environment_is_left_as_it_was(folder, monkeypatch, before):
    for name in ("TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    if before:
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", before)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    corpus(folder)
    assert os.environ.get("TOKENIZERS_PARALLELISM") == before
    assert "RAYON_NUM_THREADS" not in os.environ


# --- sources -------------------------------------------------------------------------


def test_the_standard_library_is_there():
    found = text.corpus("stdlib", 512, limit=150_000)
    documents = list(text.documents("stdlib", 150_000))
    assert 100_000 < sum(len(document.encode()) for document in documents) <= 150_000
    assert sorted(documents) == sorted(
        decoded(found, found.train) + decoded(found, found.validation)
    )
    assert 1.5 < found.bytes_per_token < 4
    assert sum("def " in document for document in documents) > 3


@pytest.mark.parametrize("name", ["stdlib", "site"])
def test_an_installed_text_is_read_once(name, cache, monkeypatch):
    first = text.corpus(name, 400, limit=150_000)
    with monkeypatch.context() as patch:
        patch.setattr(building, "distinct", fail)
        assert same(first, text.corpus(name, 400, limit=150_000))
    first = text.Corpus(**{**vars(first), "train": first.train.copy(),
                           "validation": first.validation.copy()})  # fmt: skip
    for made in cache.glob("*/"):
        shutil.rmtree(made)  # its hash is known then, and its tokens are not
    assert same(first, text.corpus(name, 400, limit=150_000))


def test_stored_texts_are_read_raw_or_as_parquet(tmp_path):
    data = tmp_path / "data"
    lines = ["", " = Title = \n", "", " one \n", " = = Part = = \n", " two \n"]
    lines += [" = Other = \n", "", " three \n"]
    (data / "wikitext2").mkdir(parents=True)
    (data / "wikitext2/README.txt").write_text("About.")
    (data / "wikitext2/test.txt").write_text("".join(lines))
    raw = list(text.documents("wikitext2"))
    assert raw == ["".join(lines[:6]), "".join(lines[6:])]
    (data / "wikitext-2-raw").mkdir()
    table = pa.table({"text": lines})
    pq.write_table(table, data / "wikitext-2-raw/test.parquet")
    assert list(text.documents("wikitext-2-raw")) == raw
    whole = "".join(lines)
    for size in (1, 3, 50):  # blocks may end within a title
        blocks = [whole[i : i + size] for i in range(0, len(whole), size)]
        assert list(sources._lines(blocks)) == whole.splitlines(keepends=True)

    (data / "tinyshakespeare").mkdir()
    play = "".join(f"SPEAKER {i}:\n{prose(i)}\n" for i in range(40))
    (data / "tinyshakespeare/input.txt").write_text(play)
    scenes = list(text.documents("tinyshakespeare"))
    assert "".join(scenes) == play
    assert all(scene.startswith("SPEAKER") for scene in scenes)
    assert len(scenes) > 3

    rows = tmp_path / "rows"
    rows.mkdir()
    pq.write_table(pa.table({"text": ["a b", None, "c d", "a b"]}), rows / "x.parquet")
    assert list(text.documents(str(rows))) == ["a b", "c d"]
    table = pa.table({"text": [str(i) for i in range(2000)]})
    pq.write_table(table, rows / "x.parquet")
    met = sources.Reading()
    half = [met.inside for _ in sources.find(str(rows), None).texts(met)][1500]
    assert 0 < half < met.before == (rows / "x.parquet").stat().st_size


def test_fineweb_is_streamed_up_to_the_limit_and_then_cached(monkeypatch):
    drawn = []

    def load_dataset(name, part, split, streaming):
        assert (name, split, streaming) == ("HuggingFaceFW/fineweb-edu", "train", True)
        for i in range(1000):
            drawn.append(i)
            yield {"text": prose(i)}

    online = types.SimpleNamespace(load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", online)
    found = text.corpus("fineweb-edu", 300, limit=20_000)
    assert found.name == "fineweb-edu"
    assert 30 < len(drawn) < 100
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert same(found, text.corpus("fineweb-edu", 300, limit=20_000))
    with pytest.raises(ModuleNotFoundError, match="pip install datasets"):
        text.corpus("fineweb-edu", 299, limit=20_000)

    def offline(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(online, "load_dataset", offline)
    monkeypatch.setitem(sys.modules, "datasets", online)
    with pytest.raises(ConnectionError, match="go online, or use the text 'stdlib'"):
        text.corpus("fineweb-edu", 299, limit=20_000)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ("stdlb",),
            ValueError,
            "did you mean stdlib.* or the path of a file or folder",
        ),
        (("stdlib", 256), ValueError, "vocabulary=256 is too small"),
        (("stdlib", 4096, 20_000), ValueError, "take a smaller vocabulary or more"),
        (("stdlib", 4096, 0), ValueError, "limit=0 leaves no text"),
        (("stdlib", 4096, 10), ValueError, "has 0 documents .* limit=10"),
        (("fineweb-edu",), ValueError, "say how many bytes"),
        (("wikitext2",), FileNotFoundError, "set SYMLAB_DATA to a folder with wiki"),
        (("tinyshakespeare",), FileNotFoundError, "tinyshakespeare/"),
    ],
)
def test_errors_say_what_to_do(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        text.corpus(*arguments)
    assert "\n" not in str(caught.value)


def test_folders_without_text_are_said(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="has 0 documents"):
        text.corpus(str(tmp_path / "none"))
    pq.write_table(pa.table({"label": [1]}), tmp_path / "none" / "x.parquet")
    with pytest.raises(ValueError, match=r"x.parquet has no column 'text'"):
        text.corpus(str(tmp_path / "none"))
    pq.write_table(pa.table({"text": [1]}), tmp_path / "none" / "x.parquet")
    with pytest.raises(ValueError, match=r"'text' of x.parquet is int"):
        text.corpus(str(tmp_path / "none"))


def test_files_that_are_left_out_are_counted_and_named(folder, monkeypatch):
    found = corpus(folder)
    assert (found.not_utf8, found.binary) == (1, 1)
    assert found.examples == ("latin.txt",)
    assert found.left_out() == (
        "files left out of the text 'prose': 1 not UTF-8 (latin.txt) and 1 binary"
    )
    for i in range(8):
        (folder / f"cut{i}.txt").write_bytes("é".encode()[:1])
    monkeypatch.setattr(sources, "BLOCK", 64)
    late = "é" * 1000
    (folder / "late.txt").write_bytes(late.encode() + b"\xff")
    (folder / "late.bin").write_bytes(late.encode() + b"\0")
    more = corpus(folder)
    assert more.hash == found.hash  # nothing of them was taken
    assert (more.not_utf8, more.binary, len(more.examples)) == (10, 2, 5)
    assert more.left_out().count("cut") + more.left_out().count("la") == 5
    assert more.left_out().endswith(", ...) and 2 binary")
    for pattern in ("cut*", "la*", "*.bin"):
        for path in folder.glob(pattern):
            path.unlink()
    none = corpus(folder)
    assert none.hash == found.hash
    assert none.left_out() == ""


def packed(path: Path, data: bytes) -> None:
    """Written by gzip, by zstd in two frames, or plain."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data))
    elif path.suffix == ".zst":
        codec = pa.Codec("zstd")
        halves = data[: len(data) // 2], data[len(data) // 2 :]
        path.write_bytes(b"".join(codec.compress(h, asbytes=True) for h in halves))
    else:
        path.write_bytes(data)


@pytest.mark.parametrize(
    "suffix", ["jsonl", "jsonl.gz", "jsonl.zst", "ndjson", "JSONL"]
)
def test_lines_of_json_give_their_field_of_text(tmp_path, suffix):
    rows = [{"text": "one\n\ntwo é", "id": 3}, {"id": 4, "text": None}]
    rows += [{"text": ""}, {"text": "\0 three"}, {"text": "x" * 40_000}]
    lines = [json.dumps(row).encode() for row in rows]
    lines += [b"", '{"text": "é"}'.encode("latin-1"), b'{"text": "\\ud800 half"}']
    packed(tmp_path / f"x.{suffix}", b"\n".join(lines))
    found = list(text.documents(str(tmp_path)))
    assert found == ["one\n\ntwo é", "\0 three", "x" * 32_000, "x" * 8_000]
    met = sources.Reading()
    texts = sources.find(str(tmp_path), None).texts(met)
    assert min(met.before + met.inside for _ in texts) > 0
    assert met.not_utf8 == 2
    assert met.examples == [f"x.{suffix}:7", f"x.{suffix}:8"]
    assert met.binary == 0
    assert met.before == (tmp_path / f"x.{suffix}").stat().st_size


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"body": "a", "id": 1}',
            "x.jsonl:2 has no field 'text', .* body, id; rename",
        ),
        ("{}", "its fields are: none"),
        ("text", "x.jsonl:2 is no JSON object"),
        ("[1]", "x.jsonl:2 is no JSON object: write one per line"),
        ('{"text": 7}', "'text' of x.jsonl:2 is int"),
        ('{"text": 0}', "'text' of x.jsonl:2 is int"),
        ('{"text": []}', "'text' of x.jsonl:2 is list"),
        ("[" * 100_000, "x.jsonl:2 is no JSON object"),
        ('{"text": ' + "9" * 5000 + "}", "x.jsonl:2 is no JSON object"),
    ],
)
def test_lines_of_json_without_text_are_said(tmp_path, line, message):
    (tmp_path / "x.jsonl").write_text('{"text": "fine"}\n' + line)
    with pytest.raises(ValueError, match=message) as caught:
        text.corpus(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl.gz", "x.jsonl.zst"])
def test_a_damaged_file_is_named(tmp_path, name):
    whole = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.table({"text": ["a text"] * 100}), whole)
    else:
        packed(whole, b'{"text": "a text"}\n' * 1000)
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(ValueError, match=f"{name} is damaged .*copy it again"):
        list(text.documents(str(tmp_path)))


def test_rows_of_parquet_that_are_not_utf8_are_counted(tmp_path):
    column = pa.array([b"one text", b"\xff", b"another"]).view(pa.string())
    pq.write_table(pa.table({"text": column}), tmp_path / "x.parquet")
    met = sources.Reading()
    texts = sources.find(str(tmp_path), None).texts(met)
    assert ["".join(t) for t in texts] == ["one text", "another"]
    assert (met.not_utf8, met.examples) == (1, ["a row of x.parquet"])


def test_folders_behind_links_are_read_once(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "a.txt").write_text("first")
    (tmp_path / "there" / "b.txt").write_text("second")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there")
    (tmp_path / "there" / "back").symlink_to(tmp_path / "here")
    found = sources.find(str(tmp_path / "here"), None).files
    assert sorted(found) == ["a.txt", "link/b.txt"]


def test_a_folder_that_cannot_be_read_is_said(tmp_path, monkeypatch):
    (tmp_path / "secret").mkdir()
    (tmp_path / "a.txt").write_text("first")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="secret"):
        sources.find(str(tmp_path), None)


def test_no_name_is_no_folder():
    with pytest.raises(ValueError, match="the path of a file or folder of text"):
        text.corpus("")


def test_the_saved_tokenizer_is_the_one_of_the_tokens(folder, cache):
    found = corpus(folder)
    saved = json.loads(next(cache.glob("*/about.json")).read_text())["content"]
    assert saved["tokenizer"] == found.tokenizer
    assert len(json.loads(found.tokenizer)["model"]["vocab"]) == 299
