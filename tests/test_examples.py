"""The notebooks of examples/ run, and show the outputs that are stored in them."""

import re
from pathlib import Path

import pytest

from tests import notebooks

FOLDER = Path(__file__).resolve().parents[1] / "examples"
NAMES = ("audit_and_compress", "inspect_results", "symopt_on_your_model")


NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def same(stored: str, made: str) -> bool:
    """Whether two texts agree in their words, and nearly in their numbers: machines
    round sums differently, and training makes such differences larger.
    """
    words = [" ".join(NUMBER.sub("#", text).split()) for text in (stored, made)]
    pairs = zip(NUMBER.findall(stored), NUMBER.findall(made), strict=False)
    near = [
        float(a) == pytest.approx(float(b), rel=0.05, abs=0.11 if "." in a else 2)
        for a, b in pairs
    ]
    return words[0] == words[1] and all(near)


def test_words_are_equal_and_numbers_near():
    assert same("loss 0.20, 40 units", "loss 0.22, 41 units")
    assert not same("loss 0.20, 40 units", "loss 0.20, 50 units")
    assert not same("loss 0.2", "loss 0.9")
    assert not same("loss 0.2", "error 0.2")
    assert not same("1 2", "1")


def test_every_notebook_is_listed_here():
    assert sorted(p.stem for p in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_what_it_computes(name, monkeypatch):
    for variable in ("SYMLAB_RESULTS", "SYMLAB_FIGURES"):
        monkeypatch.setenv(variable, "set by the test")  # so that it is put back
    path = FOLDER / f"{name}.ipynb"
    cells = [c for c in notebooks.read(path)["cells"] if c["cell_type"] == "code"]
    for cell, made in zip(cells, notebooks.run(path), strict=True):
        stored, now = notebooks.texts(cell["outputs"]), notebooks.texts(made)
        assert len(stored) == len(now)
        for before, after in zip(stored, now, strict=True):
            assert same(before, after), f"{after}\ndiffers from\n{before}"
