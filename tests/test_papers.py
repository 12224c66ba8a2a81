"""Papers: their headlines read alone, and each quantity has one smallest effect."""

from pathlib import Path

import pytest

from symlab import papers
from symlab.harness import Paper, Smallest, contract, project

PROJECT = project.find(Path(__file__).resolve().parents[1])
PAPERS = {k: v for k, v in vars(papers).items() if isinstance(v, Paper)}
HEADLINES = [(p.short, *h) for p in PAPERS.values() for h in p.headlines.items()]
SIZES = {  # unit of a claim: the thresholds that it may have
    "fraction of prompts": {papers.PASS_AT_K.size, -papers.PASS_AT_K.size},
    "area": {papers.PASS_AT_K.size, -papers.PASS_AT_K.size},
    "times GRPO's entropy": {papers.ENTROPY.size, 1 / papers.ENTROPY.size},
}
CLAIMS = [
    (name, c)
    for name in ("advantage_dynamics", "advantage_frontier", "policy_exploration")
    for c in contract.load(PROJECT, name).claims
    if c.unit in SIZES
]


@pytest.mark.parametrize(("paper", "key", "text"), HEADLINES)
def test_a_headline_is_a_sentence_under_a_short_key(paper, key, text):
    assert text[0].isupper()
    assert text.endswith(".")
    assert len(key) <= 20


def test_papers_have_their_facts():
    for p in PAPERS.values():
        assert 2000 < p.year < 2100
        assert not p.headlines or (p.authors and p.title)
        for s in p.smallest.values():
            assert s.unit
            assert s.reason.endswith(".")


@pytest.mark.parametrize(("name", "claim"), CLAIMS)
def test_all_tiers_ask_for_one_smallest_effect(name, claim):
    asked = {x for x in (claim.above, claim.below) if abs(x) < float("inf")}
    assert asked <= SIZES[claim.unit]


def test_a_resized_threshold_says_what_it_was():
    small = Smallest(0.5, "nats", "Half a nat is much.")
    fields = papers.resized(small, "of 2", ("2026-01-01", "first"))
    assert fields["written"] == "after"
    first, last = fields["history"]
    assert first == ("2026-01-01", "first")
    assert "of 2 became 0.5 (nats)" in last[1]
