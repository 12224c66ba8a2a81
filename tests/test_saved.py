"""Weights on disk: kept whole, refused where they would be mixed up, sampled from."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from symlab.data.text import Corpus, corpus
from symlab.models import folder as folders
from symlab.models.cache import Cache
from symlab.models.families import Yarn, family
from symlab.models.generate import generate, probabilities
from symlab.models.transformer import Decoder
from symlab.pretraining import load, saved, weights
from symlab.pretraining.saved import check, save
from tests import saving_ranks
from tests.test_transformer import FAMILIES, TOKENS, WINDOW, T, V, decoder, draws

SIZES = {"vocabulary": V, "context": T, "width": 16, "layers": 2, "heads": 2}
SIZES |= {"kv_heads": 1, "head_width": 8, "hidden": 24}
DENSE = family("qwen3", **SIZES)
ABOUT = {"steps": 3, "rates": (0.1, 0.2), "text": "toy", "mfu": float("nan")}


def model(config=DENSE, seed: int = 0) -> Decoder:
    return Decoder(config, draws(seed))


def same(one: Decoder, other: Decoder) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return list(mine) == list(theirs) and all(
        torch.equal(mine[name], theirs[name]) for name in mine
    )


def files(folder) -> list[str]:
    """Of the folder and beside it, hidden ones, too."""
    found = sorted(p.name for p in folder.parent.iterdir() if p != folder)
    return found + sorted(p.name for p in folder.iterdir() if folder.is_dir())


KEPT = ["model.safetensors", "symlab.json"]


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Corpus:
    """A text with a tokenizer."""
    place, patch = tmp_path_factory.mktemp("text"), pytest.MonkeyPatch()
    lines = [f"{i} plus {i + 1} is {2 * i + 1}, naïve né?\n\n" for i in range(4000)]
    for i in range(8):
        (place / f"{i}.txt").write_text("".join(lines[i::8]), encoding="utf-8")
    patch.setenv("SYMLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield corpus(str(place), vocabulary=270)
    patch.undo()


# --- a cache of keys and values ------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)]
)
def test_logits_with_a_cache_are_those_of_a_whole_pass(name, dtype, bound):
    """After a prompt, token by token, and by parts that cross the window's edge."""
    whole = decoder(name).to(dtype)
    with torch.no_grad():
        expected = whole(TOKENS)
        for sizes in ([5] + [1] * (T - 5), [1] * T, [3, 9, 1, 2, 9], [WINDOW, 1, 16]):
            cache = Cache(whole.config, T)
            parts = [whole(t, cache=cache) for t in TOKENS.split(sizes, 1)]
            found = torch.cat(parts, 1)
            error = (found - expected).abs().max() / expected.abs().max()
            assert error < bound, sizes
            assert cache.length == T


def test_a_cache_knows_its_capacity_and_the_context():
    cache = Cache(DENSE, 4)
    with pytest.raises(ValueError, match="5 tokens are more than the 4"):
        model()(TOKENS[:, :5], cache=cache)
    cache = Cache(DENSE, 40)
    with torch.no_grad():
        model()(TOKENS, cache=cache)
        with pytest.raises(ValueError, match="25 tokens are more than the context"):
            model()(TOKENS[:, :1], cache=cache)


# --- sampling ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gemma3", "gpt-oss"])
def test_greedy_tokens_are_those_of_whole_passes(name):
    whole, found = decoder(name), TOKENS[:, :4]
    for _ in range(T - 4):
        with torch.no_grad():
            found = torch.cat([found, whole(found)[:, -1:].argmax(-1)], 1)
    assert torch.equal(generate(whole, TOKENS[:, :4], T - 4, temperature=0), found)


def test_probabilities_by_hand():
    p = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]])
    logits = p.log() + 7

    def first(**settings) -> list[float]:
        return pytest.approx(probabilities(logits, **settings)[0].tolist(), abs=1e-6)

    assert first() == [0.1, 0.4, 0.2, 0.3]
    assert first(temperature=0.5) == [1 / 30, 16 / 30, 4 / 30, 9 / 30]
    assert first(top_k=2) == [0, 4 / 7, 0, 3 / 7]
    assert first(top_k=1) == [0, 1, 0, 0]
    assert first(top_k=9) == [0.1, 0.4, 0.2, 0.3]
    assert first(top_p=0.39) == [0, 1, 0, 0]
    assert first(top_p=0.41) == [0, 4 / 7, 0, 3 / 7]
    assert first(top_p=1e-9) == [0, 1, 0, 0]
    assert first(top_p=1.0) == [0.1, 0.4, 0.2, 0.3]
    assert first(top_k=3, top_p=0.5) == [0, 4 / 7, 0, 3 / 7]
    assert probabilities(logits, top_p=0.5)[1].count_nonzero() == 2


def test_tokens_are_drawn_with_the_models_probabilities():
    """Of 4,000 sequences, the second token; four standard errors."""
    drawn, many = decoder("qwen3"), TOKENS[:1, :3].expand(4_000, -1)
    found = generate(drawn, many, 1, draws=draws(3), temperature=2.0)[:, -1]
    with torch.no_grad():
        p = probabilities(drawn(TOKENS[:1, :3])[:, -1], 2.0)[0]
    share = found.bincount(minlength=V) / len(many)
    error = (p * (1 - p) / len(many)).sqrt()
    assert ((share - p).abs() < 4 * error + 1e-4).all()
    again = generate(drawn, many, 1, draws=draws(3), temperature=2.0)[:, -1]
    other = generate(drawn, many, 1, draws=draws(4), temperature=2.0)[:, -1]
    assert torch.equal(found, again)
    assert not torch.equal(found, other)


def test_a_sequence_that_has_ended_repeats_its_end():
    whole, prompt = decoder("qwen3"), TOKENS[:, :4]
    free = generate(whole, prompt, 12, temperature=0)
    end = int(free[0, 6])
    found = generate(whole, prompt, 12, temperature=0, ends=[end, V + 5])
    for mine, all_ in zip(found, free, strict=True):
        new = all_[4:].tolist()
        n = 4 + (new.index(end) if end in new else 12)
        assert torch.equal(mine[:n], all_[:n])
        assert (mine[n:] == end).all()
    alone = generate(whole, prompt[:1], 12, temperature=0, ends=[end])
    assert alone.shape[1] < 16  # it stops where all have ended


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": -1}, "tokens = -1 is negative"),
        ({"temperature": -0.1}, "temperature = -0.1 must be finite and 0 or more"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"top_k": 0}, "top_k = 0 leaves no token"),
        ({"top_p": 0.0}, "top_p = 0.0 must be in"),
        ({"top_p": 1.1}, "top_p = 1.1 must be in"),
        ({"draws": None}, "give draws=torch.Generator"),
        ({"count": 21}, "4 tokens of the prompt and 21 more .* 24: ask for 20"),
        ({"tokens": TOKENS[:, :0]}, "the prompt is empty"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    usual = {"tokens": TOKENS[:, :4], "count": 2, "draws": draws()}
    with pytest.raises(ValueError, match=message):
        generate(model(), **(usual | settings))


def test_temperatures_near_0_draw_the_most_probable_token():
    logits = torch.tensor([[300.0, 301.0, -500.0], [-2.0, -2.0, -3.0]])
    p = probabilities(logits, temperature=1e-320)
    assert p.tolist() == [[0, 1, 0], [0.5, 0.5, 0]]
    found = generate(model(), TOKENS, 0, draws=draws(), temperature=1e-320)
    assert torch.equal(found, TOKENS)
    found = generate(model(), TOKENS[:, :4], 3, draws=draws(), temperature=1e-320)
    assert torch.equal(found, generate(model(), TOKENS[:, :4], 3, temperature=0))


def test_of_equal_logits_the_first_stay():
    equal = torch.tensor([[1.0, 3.0, 3.0, 2.0, 3.0, 3.0], [5.0] * 6])
    p = probabilities(equal, top_k=2)
    assert p.tolist() == [[0, 0.5, 0.5, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0]]
    p = probabilities(equal, top_p=0.25)
    assert p[1].tolist() == [0.5, 0.5, 0, 0, 0, 0]
    assert probabilities(equal, top_k=1).argmax(-1).tolist() == [1, 0]


# --- kept and loaded -----------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_kept_is_loaded_bit_for_bit(tmp_path, name):
    kept = decoder(name).double() if name == "gemma3" else decoder(name)
    if name == "gpt-oss":
        kept.config = replace(kept.config, yarn=Yarn(3.0, 8, 16.0, 2.0))
        kept.rotation.yarn = kept.config.yarn
    kept.tabulate()  # in float64 where weights are
    save(tmp_path / "a" / "kept", kept, about=ABOUT)
    found = load(str(tmp_path / "a" / "kept"))
    assert found.config == kept.config
    assert str(found.about) == str(ABOUT | {"rates": [*ABOUT["rates"]]})
    assert (found.tokenizer, found.ends) == (None, ())
    assert same(found.model, kept)
    assert not found.model.training
    with torch.no_grad():
        assert torch.equal(found.model(TOKENS), kept(TOKENS))
    assert files(tmp_path / "a" / "kept") == KEPT
    with pytest.raises(ValueError, match="no tokenizer was kept"):
        found.sample("x")


def test_a_text_without_a_tokenizer_has_none(tmp_path):
    ids = np.zeros(10, np.uint16)
    save(tmp_path / "kept", model(), Corpus("toy", "0" * 16, V, ids, ids, 2.0, "{}"))
    found = load(tmp_path / "kept")
    assert (found.tokenizer, found.ends) == (None, (V - 1,))


def test_texts_with_an_empty_or_a_damaged_tokenizer(tmp_path):
    ids = np.zeros(10, np.uint16)

    def keep(tokenizer: str) -> None:
        text = Corpus("toy", "0" * 16, V, ids, ids, 2.0, tokenizer)
        save(tmp_path / "kept", model(), text)

    keep("")
    assert load(tmp_path / "kept").tokenizer is None
    for damaged in ("{", "[1]"):
        with pytest.raises(ValueError, match="the text 'toy' is no JSON object: give"):
            keep(damaged)


def test_weights_without_values_are_not_kept(tmp_path):
    with torch.device("meta"):
        empty = Decoder(DENSE)
    with pytest.raises(ValueError, match="embedding.weight is on the meta device"):
        save(tmp_path / "kept", empty)
    assert not (tmp_path / "kept").exists()


def test_other_weights_than_the_models_own(tmp_path):
    mean = {name: p + 1 for name, p in model().named_parameters()}
    save(tmp_path / "kept", model(), weights=mean)
    found = load(tmp_path / "kept").model
    assert torch.equal(found.head.weight, mean["head.weight"])
    del mean["head.weight"]
    with pytest.raises(ValueError, match=r"differ in head.weight: give one"):
        save(tmp_path / "new", model(), weights=mean)
    with pytest.raises(ValueError, match="a Sequential is no Decoder: give the one"):
        save(tmp_path / "new", torch.nn.Sequential(model()))
    assert not (tmp_path / "new").exists()


def test_samples_are_texts(tmp_path, real):
    sure = Decoder(replace(DENSE, vocabulary=270), draws())
    save(tmp_path / "kept", sure, real, ABOUT)
    found = load(tmp_path / "kept")
    assert found.ends == (269,)
    assert found.tokenizer.to_str() == real.tokenizer
    text = found.sample("1 né", tokens=8, seed=1)
    assert text.startswith("1 né")
    assert text == found.sample("1 né", tokens=8, seed=1)
    assert text != found.sample("1 né", tokens=8, seed=2)
    assert found.sample("1 né", tokens=0) == "1 né"
    assert found.sample("", tokens=8)  # begins after the end of a document
    greedy = generate(sure, torch.tensor([[269]]), 8, temperature=0, ends=[269])
    assert found.sample("", tokens=8, temperature=0) == real.decode(greedy[0])
    assert found.sample("", tokens=8, top_k=1) == real.decode(greedy[0])
    with pytest.raises(ValueError, match="context of 24"):
        found.sample("1 né", tokens=80)
    with pytest.raises(ValueError, match="top_k"):
        found.sample("1 né", top_k=-3)
    with pytest.raises(ValueError, match="prompt is of bytes: give a str"):
        found.sample(b"1")
    with pytest.raises(ValueError, match=r"no text, it has '\\udce9' at place 3"):
        found.sample("1 n\udce9")
    assert found.sample("1", 2, seed=2**64 - 1)
    with pytest.raises(ValueError, match=r"seed = 18446744073709551616: give a whole"):
        found.sample("1", seed=2**64)


def test_a_document_that_ends_ends_the_sample(tmp_path, real):
    sure = Decoder(replace(DENSE, vocabulary=270), draws())
    with torch.no_grad():
        for block in sure.blocks:  # no block adds anything to the token's own vector
            block.attention.out.weight.zero_()
            block.feed.down.weight.zero_()
        sure.embedding.weight.zero_()
        sure.embedding.weight[:, 0] = 1.0
        sure.embedding.weight[269] = sure.embedding.weight[0].roll(1)
        sure.head.weight.zero_()
        sure.head.weight[269, 0] = 1.0  # the end follows all tokens
        sure.head.weight[42, 1] = 1.0  # but itself
    save(tmp_path / "kept", sure, real)
    found = load(tmp_path / "kept")
    assert found.sample("1 plus", 9, temperature=0) == "1 plus"
    assert found.sample("", 9, temperature=0) == real.decode([42])


# --- folders -------------------------------------------------------------------------


def test_a_folder_of_the_same_run_is_replaced(tmp_path):
    place = tmp_path / "kept"
    place.mkdir()  # an empty one is as good as none
    save(place, model(seed=0), about=ABOUT)
    save(place, model(seed=1), about=ABOUT)
    assert same(load(place).model, model(seed=1))
    assert files(place) == KEPT
    link = tmp_path / "link"
    link.symlink_to(place)
    save(link, model(seed=2), about=ABOUT)
    assert link.is_symlink()
    assert same(load(place).model, model(seed=2))


@pytest.mark.parametrize(
    ("config", "about", "message"),
    [
        (
            replace(DENSE, hidden=32),
            ABOUT,
            "another run, with hidden = 24 instead of 32",
        ),
        (DENSE, ABOUT | {"steps": 4}, "another run, with steps = 3 instead of 4"),
        (DENSE, ABOUT | {"z": 1}, "another run, with z = None instead of 1"),
        (DENSE, None, "another run, with steps = 3 instead of None"),
        (None, ABOUT, "has weights already: name another folder"),
    ],
)
def test_other_weights_are_not_written_over(tmp_path, config, about, message):
    save(tmp_path / "kept", model(), about=ABOUT)
    with pytest.raises(ValueError, match=message):
        check(tmp_path / "kept", config, about)
    if config is not None:
        with pytest.raises(ValueError, match=message):
            save(tmp_path / "kept", model(config, seed=1), about=about)
    assert same(load(tmp_path / "kept").model, model())


def test_folders_that_cannot_take_weights_are_refused_before(tmp_path, monkeypatch):
    check(tmp_path / "new" / "folder", DENSE, ABOUT)
    assert not (tmp_path / "new").exists()  # to check is to leave no trace
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file: name a folder"):
        check(tmp_path / "file")
    with pytest.raises(ValueError, match="no kept weights, such as file"):
        check(tmp_path)
    with pytest.raises(ValueError, match="about cannot be kept .*not JSON serial"):
        check(tmp_path / "new", DENSE, {"x": {1}})
    monkeypatch.setattr(saved.os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(PermissionError, match="cannot be written: name another"):
        check(tmp_path / "new" / "folder", DENSE, ABOUT)


def test_files_are_on_the_disk_before_the_folder_has_its_name(tmp_path, monkeypatch):
    place, seen = tmp_path / "kept", []
    sync = folders.sync

    def spy(path):
        sync(path)
        seen.append((path.name, place.exists()))

    monkeypatch.setattr(folders, "sync", spy)
    save(place, model())
    assert sorted(seen[:2]) == [(name, False) for name in KEPT]
    assert seen[2:] == [("new", False), (tmp_path.name, True)]


def test_an_interrupted_save_leaves_what_was_there(tmp_path, monkeypatch):
    place = tmp_path / "kept"
    save(place, model(), about=ABOUT)

    def stop(*_):
        raise KeyboardInterrupt

    def full(*_, **__):
        raise folders.SafetensorError("No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(saved, "write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            save(place, model(seed=1), about=ABOUT)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path / "new", model(seed=1))
    with monkeypatch.context() as patch:
        patch.setattr(folders, "save_file", full)
        with pytest.raises(OSError, match=r"kept could not be written \(No space"):
            save(place, model(seed=1), about=ABOUT)
    assert same(load(place).model, model())
    assert files(place) == KEPT  # and nothing beside it


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), KeyboardInterrupt()])
def test_weights_that_cannot_be_replaced_come_back(tmp_path, monkeypatch, error):
    """The new folder gets its name after the old one has lost it."""
    place, rename = tmp_path / "kept", Path.rename
    save(place, model(), about=ABOUT)

    def failing(path, target):
        if path.name == "new":
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(type(error)):
        save(place, model(seed=1), about=ABOUT)
    assert same(load(place).model, model())
    assert files(place) == KEPT


def test_what_killed_saves_left_is_cleared_and_nothing_else(tmp_path):
    def left(name: str, inside: str = "new", hours: float = 2.0) -> str:
        folder = tmp_path / name
        (folder / inside).mkdir(parents=True)
        then = time.time() - 3600 * hours
        for path in (folder / inside, folder):
            os.utime(path, (then, then))
        return name

    left(".kept.abcd_123.unfinished")
    stays = [
        left(".kept.abcd_124.unfinished", hours=0.5),  # its process may be alive
        left(".kept.other.abcd_123.unfinished"),  # of a folder called kept.other
        left(".kept.abcd_123"),
        left(".kept.mine.unfinished"),
        left("kept.abcd_123.unfinished"),
    ]
    only_copy = left(".kept.abcd_125.unfinished", "old")
    save(tmp_path / "kept", model(), about=ABOUT)
    assert files(tmp_path / "kept") == sorted([*stays, only_copy]) + KEPT
    save(tmp_path / "kept", model(), about=ABOUT)  # there are weights in place again
    assert files(tmp_path / "kept") == sorted(stays) + KEPT


# --- what is damaged -----------------------------------------------------------------

EDITED = "symlab.json is damaged or was edited, its checksum is another"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.safetensors", lambda b: b[:-5], "safetensors is damaged, its checksum"),
        ("model.safetensors", lambda b: b[:-5] + b"\1" + b[-4:], "is damaged, its"),
        ("tokenizer.json", lambda b: b[:-5], "tokenizer.json is damaged"),
        ("symlab.json", lambda b: b[:-5], "symlab.json is damaged: it holds no JSON"),
        ("symlab.json", lambda b: b"[]", "symlab.json is damaged: it holds no JSON"),
        ("symlab.json", lambda b: b"\xff", "symlab.json is damaged: it holds no JSON"),
        ("symlab.json", lambda b: b'{"format": 2}', "damaged: it has no 'about'"),
        ("symlab.json", lambda b: b'{"format": 1}', "has the format 1 and this ver"),
        ("symlab.json", lambda b: b.replace(b"checksum", b"x"), "has no 'checksum'"),
        *(
            ("symlab.json", lambda b, old=old, new=new: b.replace(old, new), EDITED)
            for old, new in [
                (b'"layers": 2', b'"layers": 1'),
                (b'"layers": 2', b'"layers": 3'),
                (b'"width": 16', b'"width": "a"'),
                (b'"width": 16,', b""),
                (b'"end": 269', b'"end": 268'),
                (b'"steps": 3', b'"steps": 4'),
                (b'"config": {', b'"config": null, "old": {'),
                (b'"sha256": {', b'"sha256": [], "old": {'),
                (b'"tokenizer.json": ', b'"tokens": '),
            ]
        ),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, real, name, damage, message):
    place = tmp_path / "kept"
    save(place, Decoder(replace(DENSE, vocabulary=270), draws()), real, ABOUT)
    whole = (place / name).read_bytes()
    assert damage(whole) != whole
    (place / name).write_bytes(damage(whole))
    with pytest.raises(ValueError, match=message):
        load(place)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "the setting 'colour', which this version does not know"),
        ({"layers": 1}, "has the weight blocks.1.*a model of its configuration has"),
        ({"layers": 3}, "the weight blocks.2.attention_norm.weight is missing"),
        ({"width": None}, "symlab.json is damaged .*missing 1 .* 'width'"),
        ({"hidden": 32}, r"feed.gate.weight has the shape \(24, 16\) where .*32, 16"),
    ],
)
def test_a_model_of_another_version_is_refused(tmp_path, change, message):
    """Its checksums are right, and this version cannot build it."""
    save(tmp_path / "kept", model())
    file = tmp_path / "kept" / "symlab.json"
    said = folders.read_json(file)
    config = said["config"] | change
    said["config"] = {key: value for key, value in config.items() if value is not None}
    said["checksum"] = saved._own_checksum(said)
    folders.write_json(file, said)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "kept")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="nowhere does not exist: name a folder"
    ):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="neither symlab.json nor config.json"):
        load(tmp_path)
    save(tmp_path / "kept", model())
    (tmp_path / "kept" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors is missing: copy"):
        load(tmp_path / "kept")


# --- several processes ---------------------------------------------------------------


def test_shards_are_gathered_and_all_processes_hear_of_an_error(tmp_path):
    place = tmp_path / "kept"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.saving_ranks", str(place)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        text=True,
    ) as other:
        mine = saving_ranks.keep(0, str(place))
        theirs = other.communicate(timeout=120)[0]
    assert other.returncode == 0
    for said in (mine, theirs):
        assert "another run, with mode = 'fsdp' instead of 'ddp'" in said
    found = load(place)
    assert found.about == {"mode": "fsdp"}
    assert same(found.model, model(saving_ranks.SHARDED))


# --- from a shell --------------------------------------------------------------------


def test_samples_and_exports_from_a_shell(tmp_path, real, capsys):
    kept = Decoder(replace(DENSE, vocabulary=270), draws())
    save(tmp_path / "kept", kept, real)
    place = str(tmp_path / "kept")
    assert (
        weights.main(["sample", place, "1 plus", "--tokens", "6", "--seed", "3"]) == 0
    )
    expected = load(place).sample("1 plus", 6, seed=3)
    assert capsys.readouterr().out == expected + "\n"
    out = str(tmp_path / "theirs")
    assert weights.main(["export", place, out]) == 0
    assert "theirs is written" in capsys.readouterr().out
    assert load(out).sample("1 plus", 6, seed=3) == expected
    assert weights.main(["export", place, out]) == 2
    said = capsys.readouterr().err
    assert said.startswith("symlab.pretraining.weights: ")
    assert said.endswith("exists and is not empty: name a new folder\n")
    assert weights.main(["sample", place, "1", "--tokens", "-6"]) == 2
    assert "tokens = -6 is negative" in capsys.readouterr().err
    assert weights.main(["sample", place, "n\udce9"]) == 2
    assert "the prompt is no text" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        weights.main(["sample", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "with the prompt they must fit the context" in said
    assert weights.main(["sample", out + "x", "1"]) == 2
    assert "does not exist" in capsys.readouterr().err
