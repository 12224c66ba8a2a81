"""Dense Hopfield networks: brute-force energies, the exact law, and the fixed point."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

from symlab import dense_memories as dense
from symlab.harness import contract, project

PROJECT = project.find(Path(__file__).resolve().parents[1])
module = contract.load(PROJECT, "hopfield_load").module
ORDERS = (2, 3, 4)


def signs(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1.0, 1.0], shape)


def energy(memories, spins, order: int) -> float:
    return -float((memories @ spins) ** order @ np.ones(len(memories)))


@pytest.mark.parametrize("order", ORDERS)
def test_the_worth_of_a_spin_is_the_difference_of_two_energies(order):
    memories, spins = signs(0, 7, 9), signs(1, 3, 9)
    found = dense.worth(memories, spins, order)
    for s, row in zip(spins, found, strict=True):
        for i in range(9):
            flipped = s.copy()
            flipped[i] *= -1
            cost = energy(memories, flipped, order) - energy(memories, s, order)
            assert row[i] == cost


@pytest.mark.parametrize("order", ORDERS)
def test_the_exact_law_is_that_of_all_noises(order):
    """For one other memory the noise is listed, and for a few it is drawn."""
    neurons, memories = 12, 9
    draws = np.random.default_rng(order)
    h = 2.0 * draws.binomial(neurons - 1, 0.5, (400_000, memories - 1)) - neurons + 1
    terms = ((h + 1) ** order - (h - 1) ** order) * draws.choice([-1, 1], h.shape)
    signal = neurons**order - (neurons - 2) ** order
    noise = terms.sum(1)
    share = (noise > signal).mean() + (noise == signal).mean() / 2
    found = dense.exact_error(order, neurons, memories)
    assert found == pytest.approx(share, rel=0.05 if order > 2 else 0.02)


def test_the_exact_law_of_pairs_is_binomial():
    """For P = 2 the terms are 4 h, and the noise a sum of (K - 1)(N - 1) signs."""
    neurons, memories = 30, 12
    n = (neurons - 1) * (memories - 1)
    above = (n + neurons - 1) / 2  # the least number of signs +1 that flips the bit
    law = stats.binom(n, 0.5)
    share = law.sf(above) + law.pmf(above) / 2
    assert dense.exact_error(2, neurons, memories) == pytest.approx(share, rel=5e-3)


@pytest.mark.parametrize("order", ORDERS)
def test_the_exact_law_tends_to_the_law_of_the_load(order):
    gaps = []
    for neurons in (40, 80, 160):
        k = dense.number(0.3, order, neurons)
        load = k * special.factorial2(2 * order - 3) / neurons ** (order - 1)
        law = dense.gaussian_error(load)
        gaps.append(abs(dense.exact_error(order, neurons, k) / law - 1))
    assert gaps[0] > 1.5 * gaps[1] > 2.25 * gaps[2]
    assert gaps[2] < 0.03


@pytest.mark.parametrize("order", ORDERS)
def test_errors_are_those_of_the_exact_law(order):
    neurons = 60
    k = dense.number(0.4, order, neurons)
    sets = [signs(seed, k, neurons) for seed in range(8)]
    found = np.mean([dense.wrong(x, x[:64], order) for x in sets])
    assert found == pytest.approx(dense.exact_error(order, neurons, k), rel=0.15)


def test_a_turned_memory_is_one_for_even_orders_alone():
    rows = module.run([module.Config(order=p, neurons=30, load=0.6) for p in ORDERS])
    for p, row in zip(ORDERS, rows, strict=True):
        wanted = row["flips"] if p % 2 == 0 else 1 - row["flips"]
        assert row["turned_flips"] == wanted
    assert min(row["flips"] for row in rows) > 0


def test_settled_states_gain_by_no_flip():
    memories = signs(3, 6, 50)
    start = np.where(signs(4, 6, 50) * np.linspace(0, 1, 50) > 0.8, -1, 1) * memories
    end = dense.settled(memories, start, 3, 20)
    assert (dense.worth(memories, end, 3) >= 0).all()
    assert (end != start).any()
    assert (end == memories).mean() > 0.99


@pytest.mark.parametrize(("order", "critical"), [(3, 0.252), (4, 0.198)])
def test_the_symmetric_fixed_point_vanishes_at_the_maximum_of_its_curve(
    order, critical
):
    """m = erf(y), y = m^(P-1)/sqrt(2 load): the largest load is where y allows it."""
    best = optimize.minimize_scalar(
        lambda y: -(special.erf(y) ** (order - 1)) / y, bounds=(0.3, 3)
    )
    load = best.fun**2 / 2
    assert load == pytest.approx(critical, abs=1e-3)
    below, above = dense.symmetric_error(order, np.array([0.98, 1.05]) * load)
    assert below < 0.1
    assert above == pytest.approx(0.5)


def test_memories_are_counted_where_one_per_cent_flips():
    """A made-up network whose error is exactly the square of its load."""
    rows = [
        {"order": 3, "neurons": n, "seed": s, "load": load,
         "memories": 100 * n**2 * load, "unstable": load**2}
        for n in (10, 20) for s in (0, 1) for load in (0.05, 0.08, 0.2, 0.3)
    ]  # fmt: skip
    df = pd.DataFrame(rows)
    counts = module._counts(df)
    assert counts[10].tolist() == pytest.approx([1000.0, 1000.0])
    assert counts[20].tolist() == pytest.approx([4000.0, 4000.0])
    np.testing.assert_allclose(module._excess(df), np.log(10))


def test_without_further_steps_there_is_no_settled_state():
    c = module.Config(neurons=30, steps=0)
    none, some = module.run([c, replace(c, steps=2)])
    assert np.isnan(none["settled"])
    assert 0 <= some["settled"] < 0.1
