"""Tokens of texts: one shift, no overlap, one order, and a cache that heals."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from symlab.data import text

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
    starts = text._starts(n, length, seed=1)
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
    texts = [f"document {i}" for i in range(4000)]
    train, held = text.split(texts)
    assert 0.04 < len(held) / len(texts) < 0.06
    fewer = text.split(texts[1000:2000])
    assert set(fewer[0]) < set(train)
    assert set(fewer[1]) < set(held)
    for part in (train, held):  # where chance gives one side nothing
        for n in (2, 3, 8):
            parts = text.split(part[:n])
            assert all(parts)
            assert sorted(parts[0] + parts[1]) == sorted(part[:n])


def test_a_limit_takes_the_same_part_each_time(folder):
    whole = text.documents(str(folder))
    some = text.documents(str(folder), 5000)
    assert some == whole[: len(some)]
    sizes = np.cumsum([len(document.encode()) for document in whole])
    assert len(some) == np.searchsorted(sizes, 5000, side="right") > 2
    by_name = [path.read_text("utf-8") for path in sorted(folder.glob("[0-9]*.txt"))]
    assert [document for document in whole if document in by_name] != by_name


def test_long_texts_are_cut_between_lines():
    line = "x" * 9 + "\n"
    for whole in (line * 50, ("ab\n" * 10 + "\n") * 30, "y" * 500, "y\n\n", ""):
        pieces = text.cut(whole, 40)
        assert "".join(pieces) == whole
        assert all(pieces)
        if "y" not in whole:
            assert all(piece.endswith("\n") for piece in pieces)
            assert all(40 <= len(piece) <= 80 for piece in pieces[:-1])
    assert all(
        piece.endswith("\n\n") for piece in text.cut(("ab\n" * 10 + "\n") * 30, 40)
    )


def test_the_hash_names_the_text_and_nothing_else(folder, tmp_path):
    def name(path, limit=None):
        return text.digest(text.documents(str(path), limit))

    first = name(folder)
    assert len(first) == 16
    assert corpus(folder).hash == first == corpus(folder, 280).hash
    os.utime(folder / "0.txt", (0, 0))
    folder.rename(tmp_path / "elsewhere")
    assert name(tmp_path / "elsewhere") == first != name(tmp_path / "elsewhere", 9000)
    (tmp_path / "elsewhere" / "0.txt").write_text("other")
    assert name(tmp_path / "elsewhere") != first


# --- tokens --------------------------------------------------------------------------


def test_the_tokenizer_learns_from_the_training_part_alone(folder, monkeypatch):
    learn, seen = text.learn, []
    monkeypatch.setattr(text, "learn", lambda t, n: seen.extend(t) or learn(t, n))
    found = corpus(folder)
    assert seen == decoded(found, found.train)


def test_more_than_65536_tokens_need_four_bytes():
    tokenizer = text.learn(["ab ab"], 256)
    assert text._encode(tokenizer, ["ab"], 2**16).dtype == np.uint16
    wide = text._encode(tokenizer, ["ab"], 2**16 + 1)
    assert wide.dtype == np.uint32
    assert wide[-1] == 2**16


# --- cache ---------------------------------------------------------------------------


def same(a: text.Corpus, b: text.Corpus) -> bool:
    arrays = np.array_equal(a.train, b.train) and np.array_equal(
        a.validation, b.validation
    )
    return arrays and a.hash == b.hash and a.bytes_per_token == b.bytes_per_token


def fail(*_):
    raise AssertionError("tokenised again")


def test_the_second_call_maps_what_the_first_wrote(folder, cache, monkeypatch):
    first = corpus(folder)
    monkeypatch.setattr(text, "learn", fail)
    second = corpus(folder)
    assert same(first, second)
    for found in (first, second):
        assert isinstance(found.train, np.memmap)
        assert not found.train.flags.writeable
    with pytest.raises(AssertionError, match="tokenised again"):
        corpus(folder, 299)
    with monkeypatch.context() as patch:
        patch.setattr(text, "_version", lambda: "another")
        with pytest.raises(AssertionError, match="tokenised again"):
            corpus(folder)
    (folder / "0.txt").write_text("changed")
    with pytest.raises(AssertionError, match="tokenised again"):
        corpus(folder)
    assert not list(cache.glob("*.tmp"))


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip(path):
    data = bytearray(path.read_bytes())
    data[-4] ^= 1  # of the json, a digit
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [halve, zero, flip, Path.unlink])
@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_damaged_cache_is_rebuilt(folder, cache, damage, suffix, monkeypatch):
    first = corpus(folder)
    first = text.Corpus(**{**vars(first), "train": first.train.copy(),
                           "validation": first.validation.copy()})  # fmt: skip
    damage(next(cache.glob("*" + suffix)))
    assert same(first, corpus(folder))
    monkeypatch.setattr(text, "learn", fail)
    assert same(first, corpus(folder))


def test_without_a_folder_to_write_there_is_no_cache(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SYMLAB_CACHE", str(tmp_path / "file" / "below"))
    found = corpus(folder)
    assert not isinstance(found.train, np.memmap)
    assert not found.train.flags.writeable
    assert set(decoded(found, found.train)) < EXPECTED


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
        patch.setattr(text, "learn", fail)
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
    documents = text.documents("stdlib", 150_000)
    assert 100_000 < sum(len(document.encode()) for document in documents) <= 150_000
    assert sorted(documents) == sorted(
        decoded(found, found.train) + decoded(found, found.validation)
    )
    assert 1.5 < found.bytes_per_token < 4
    assert sum("def " in document for document in documents) > 3


@pytest.mark.parametrize("name", ["stdlib", "site"])
def test_an_installed_text_is_read_once_in_a_process(name, cache, monkeypatch):
    first = text.corpus(name, 400, limit=150_000)
    with monkeypatch.context() as patch:
        patch.setattr(text, "documents", fail)
        assert same(first, text.corpus(name, 400, limit=150_000))
    shutil.rmtree(cache)  # its hash is known then, and its tokens are not
    assert same(first, text.corpus(name, 400, limit=150_000))


def test_stored_texts_are_read_raw_or_as_parquet(tmp_path):
    data = tmp_path / "data"
    lines = ["", " = Title = \n", "", " one \n", " = = Part = = \n", " two \n"]
    lines += [" = Other = \n", "", " three \n"]
    (data / "wikitext2").mkdir(parents=True)
    (data / "wikitext2/README.txt").write_text("About.")
    (data / "wikitext2/test.txt").write_text("".join(lines))
    raw = text.documents("wikitext2")
    assert raw == ["".join(lines[:6]), "".join(lines[6:])]
    (data / "wikitext-2-raw").mkdir()
    table = pa.table({"text": lines})
    pq.write_table(table, data / "wikitext-2-raw/test.parquet")
    assert text.documents("wikitext-2-raw") == raw

    (data / "tinyshakespeare").mkdir()
    play = "".join(f"SPEAKER {i}:\n{prose(i)}\n" for i in range(40))
    (data / "tinyshakespeare/input.txt").write_text(play)
    scenes = text.documents("tinyshakespeare")
    assert "".join(scenes) == play
    assert all(scene.startswith("SPEAKER") for scene in scenes)
    assert len(scenes) > 3

    rows = tmp_path / "rows"
    rows.mkdir()
    pq.write_table(pa.table({"text": ["a b", None, "c d", "a b"]}), rows / "x.parquet")
    assert text.documents(str(rows)) == ["a b", "c d"]


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
        (("stdlb",), ValueError, "did you mean stdlib.* or the path of a folder"),
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
    with pytest.raises(ValueError, match="no column 'text'"):
        text.corpus(str(tmp_path / "none"))


def test_the_saved_tokenizer_is_the_one_of_the_tokens(folder, cache):
    found = corpus(folder)
    saved = json.loads(next(cache.glob("*.json")).read_text())["content"]
    assert saved["tokenizer"] == found.tokenizer
    assert len(json.loads(found.tokenizer)["model"]["vocab"]) == 299
