"""The intervals cover as often as they say, and docs/statistics.md says how often."""

import pytest

from tests.interval_coverage import (
    BINARY,
    CONTINUOUS,
    PAGE,
    ROWS,
    SIZES,
    cells,
    coverage,
)

PRINTED = cells(PAGE.read_text("utf-8"))
FAIR = ("normal", "uniform", "Student t, 3 d.f.")


def test_the_table_has_every_interval_law_and_size():
    wanted = {
        (r, law, n) for r, (_, laws) in ROWS.items() for law in laws for n in SIZES
    }
    assert set(PRINTED) == wanted


@pytest.mark.parametrize("name", ROWS)
def test_the_table_is_current(name):
    """Some of its cells, drawn again from the same streams."""
    covers, laws = ROWS[name]
    for law in laws if name == "`mean`" else (laws[0], laws[-1]):
        again = 100 * coverage(covers, law, 8)
        assert PRINTED[name, law, 8] == pytest.approx(again, abs=0.11), law


@pytest.mark.parametrize("law", FAIR)
def test_means_cover_93_to_97_per_cent_from_four_seeds_on(law):
    shares = [PRINTED["`mean`", law, n] for n in SIZES if n >= 4]
    assert all(93 <= share <= 97 for share in shares), shares


@pytest.mark.parametrize(
    ("law", "least"), [("exponential", 91), ("lognormal", 85)], ids=str
)
def test_skewed_samples_are_mended_as_far_as_the_page_says(law, least):
    """Never below Student's, and clearly above it from 4 to 16 seeds."""
    for n in SIZES:
        ours, plain = (PRINTED[row, law, n] for row in ("`mean`", "Student's alone"))
        assert ours >= plain
        assert n not in (4, 8, 16) or ours >= max(plain + 2, least)


@pytest.mark.parametrize("law", BINARY)
def test_fractions_cover_at_least_95_per_cent_and_means_of_numbers_do_not(law):
    """Up to the error of 2,000 draws: 0.5 per cent of them, twice."""
    for n in SIZES:
        assert PRINTED["`fraction`", law, n] >= 94
        assert PRINTED["`fraction`, 4 equal runs of each seed", law, n] >= 94
    assert PRINTED["`mean`", "Bernoulli 0.1", 8] < 70


@pytest.mark.parametrize("law", CONTINUOUS + BINARY)
def test_worst_cases_have_their_tolerance_bound_and_anytime_intervals_are_wide(law):
    assert all(PRINTED["`worst`, tolerance bound", law, n] >= 94 for n in SIZES)
    if law in FAIR:
        assert all(PRINTED["`anytime`, one look", law, n] >= 97 for n in SIZES)
