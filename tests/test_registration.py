"""The digest of claims changes with what they say, and with nothing else."""

from dataclasses import replace

import pytest

from symlab.harness import Claim, registration, where
from symlab.harness.claims import Paper

PAPER = Paper("A 2024", "A", "T", 2024, "1", headlines={"key": "What it claims."})
CLAIMS = [
    Claim(
        name, "y is positive.", paper=PAPER, place="figure 1", tests="key",
        estimate=where(x=1).mean("y"), reason="r", above=0.0,
    )
    for name in ("b", "a")
]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"name": "c"},
        {"statement": "y is above 0."},
        {"above": 0.1},
        {"below": 2.0},
        {"estimate": where(x=2).mean("y")},
        {"kind": "identity"},
        {"origin": "control"},
        {"paper": replace(PAPER, short="B 2024")},
        {"place": "figure 2"},
        {"tests": ""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_a_claim_says_is_in_the_digest(change):
    changed = [replace(CLAIMS[0], **change), CLAIMS[1]]
    assert registration.digest(changed) != registration.digest(CLAIMS)


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "another"},
        {"expected": "failed", "because": "x"},
        {"history": (("2026-11-30", "reworded"),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_why_a_claim_says_it_is_not(change):
    changed = [replace(CLAIMS[0], **change), CLAIMS[1]]
    assert registration.digest(changed) == registration.digest(CLAIMS)


def test_order_and_whole_numbers_make_no_difference():
    as_before = [replace(CLAIMS[1], above=0), CLAIMS[0]]
    assert registration.digest(as_before) == registration.digest(CLAIMS)
    assert len(registration.digest([])) == 16
