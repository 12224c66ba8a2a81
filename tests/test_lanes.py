"""Lanes that stand side by side: sorted by a rule, run as one batch, put back."""

from dataclasses import dataclass

import numpy as np
import pytest

from symlab.harness import lanes


@dataclass(frozen=True)
class Config:
    rule: str
    seed: int


def some(n: int = 40) -> list[Config]:
    rules = np.random.default_rng(0).choice(["c", "a", "b"], n)
    return [Config(str(rule), seed) for seed, rule in enumerate(rules)]


def rule(c: Config) -> str:
    return c.rule


def test_one_batch_is_sorted_and_its_results_are_in_the_order_given():
    configs, batches = some(), []

    def run(inside):
        batches.append(inside)
        return [(c.rule, c.seed) for c in inside]

    assert lanes.grouped(configs, rule, run) == [(c.rule, c.seed) for c in configs]
    (inside,) = batches
    assert inside == sorted(configs, key=lambda c: (c.rule, c.seed))


def test_results_that_are_too_few_are_an_error():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        lanes.grouped(some(), rule, lambda inside: inside[1:])


def test_slices_are_the_lanes_of_each_value():
    inside = sorted(some(), key=rule)
    found = lanes.slices(inside, rule)
    assert list(found) == ["a", "b", "c"]
    for value, at in found.items():
        assert inside[at] == [c for c in inside if c.rule == value]


def test_slices_refuse_lanes_that_stand_apart():
    with pytest.raises(ValueError, match="do not stand side by side"):
        lanes.slices([Config("a", 0), Config("b", 1), Config("a", 2)], rule)
