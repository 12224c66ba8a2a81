"""Every claim can be read alone: its statement, its quantity, its reasons."""

import re
from pathlib import Path

import pytest

from symlab.harness import contract, project

ROOT = Path(__file__).resolve().parents[1]
PROJECT = project.find(ROOT)
NAMES = contract.names(PROJECT)
CLAIMS = [(name, c) for name in NAMES for c in contract.load(PROJECT, name).claims]
IDS = [f"{name}-{c.name}" for name, c in CLAIMS]
LEANING = re.compile(
    r"^(So|And|It|That|Nor|They|Then|Also|Neither|Under (it|them)|The same|As)\b"
)
BACKWARDS = re.compile(r"\b(too|likewise|as well|as above|so (do|does|has|had))\b[ ,.]")
BARE_POINT = re.compile(r"(?<![\w.:+\])])\.\d")  # ".02" for "0.02"


def sentence(text: str) -> bool:
    return bool(re.match(r"[A-Z0-9'\"]", text)) and text.rstrip().endswith(".")


@pytest.mark.parametrize(("name", "claim"), CLAIMS, ids=IDS)
def test_a_statement_stands_alone(name, claim):
    text = claim.statement
    assert text[0].isupper() or text.startswith(("u*v", "f(x)")), text
    assert text.endswith("."), text
    assert not LEANING.search(text), text
    assert not BACKWARDS.search(text), text
    assert len(text) <= 300, text


@pytest.mark.parametrize(("name", "claim"), CLAIMS, ids=IDS)
def test_a_claim_names_its_quantity_and_where_it_comes_from(name, claim):
    assert len(claim.quantity.split()) >= 3, "the estimate says too little of itself"
    assert claim.origin != "paper" or (claim.paper and claim.place)
    for text in (claim.reason, claim.because):
        assert not text or sentence(text), f"no capital first or no stop last: {text}"
    for day, what in claim.history:
        assert re.fullmatch(r"2026-\d\d-\d\d", day)
        assert what


def test_no_statement_repeats():
    statements = [c.statement for _, c in CLAIMS]
    twice = {s for s in statements if statements.count(s) > 1}
    assert not twice


def test_numbers_have_a_leading_zero():
    files = [PROJECT.experiments / f"{name}.py" for name in NAMES]
    found = [
        f"{file.name}:{i}: {line.strip()}"
        for file in files
        for i, line in enumerate(file.read_text().split("\n"), 1)
        if BARE_POINT.search(line)
    ]
    assert not found


@pytest.mark.parametrize(
    ("text", "leans"),
    [
        ("So has row_norm.", True),
        ("And fewer experts are dead.", True),
        ("It beats AdamW.", True),
        ("GRPO loses entropy, too.", True),
        ("The rank falls below 4.", False),
        ("Andrews' bound holds.", False),
    ],
)
def test_what_counts_as_leaning(text, leans):
    assert bool(LEANING.search(text) or BACKWARDS.search(text)) == leans
