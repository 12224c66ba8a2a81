"""What is said of a sweep that runs: the time left learns from the speed it sees."""

import pytest

from symlab.harness.progress import Progress, Remaining
from tests.processes import until


def outcome(key: str, wall: float = 1.0, status: str = "ok") -> dict:
    return {"key": key, "wall_s": wall, "status": status}


KEYS = [f"run{i}" for i in range(100)]


def test_at_first_the_time_left_is_what_earlier_rows_took():
    left = Remaining(KEYS, dict.fromkeys(KEYS, 6.0), jobs=2)
    assert left.seconds(0.0) == 300.0


def test_a_machine_that_is_slower_than_expected_is_noticed():
    """Each of 100 runs takes 20 times what is expected: 1.2 s was 24 s."""
    left = Remaining(KEYS, dict.fromkeys(KEYS, 1.2), jobs=2)
    for i in range(0, 50, 2):
        left.took([outcome(KEYS[i], 24.0), outcome(KEYS[i + 1], 24.0)])
    # 50 runs of 24 s on two workers; the two under way count as expected
    assert left.seconds(25 * 24.0) == pytest.approx(25 * 24.0, rel=0.05)


def test_runs_that_ought_to_have_finished_are_noticed_before_any_did():
    left = Remaining(KEYS, dict.fromkeys(KEYS, 1.2), jobs=2)
    assert left.seconds(24.0) > 0.9 * 49 * 24.0
    assert left.seconds(24.0) > left.seconds(12.0)


def test_a_run_under_way_is_not_taken_for_a_slow_one():
    left = Remaining(KEYS[:2], dict.fromkeys(KEYS[:2], 60.0), jobs=2)
    assert left.seconds(45.0) == pytest.approx(15.0)


def test_runs_that_nobody_timed_take_what_the_others_took():
    left = Remaining(KEYS, {}, jobs=4)
    assert left.seconds(10.0) is None
    left.took([outcome(KEYS[0], 8.0)])
    assert left.seconds(10.0) == pytest.approx(99 * 8.0 / 4)
    half = dict.fromkeys(KEYS[:50], 2.0)
    left = Remaining(KEYS, half, jobs=1)
    left.took([outcome(k, 2.0) for k in KEYS[:25]])
    assert left.seconds(50.0) == pytest.approx(25 * 2.0 + 50 * 2.0)


def test_the_end_of_a_sweep_is_no_time_away():
    left = Remaining(KEYS, dict.fromkeys(KEYS, 1.0), jobs=1)
    left.took([outcome(k) for k in KEYS])
    assert not left.seconds(100.0)


def test_a_log_says_now_and_then_what_is_done(monkeypatch):
    said = []
    monkeypatch.setattr(Progress, "FIRST", 0.02)
    tasks = [{"keys": KEYS[:2]}, {"keys": KEYS[2:4]}]
    with Progress(tasks, dict.fromkeys(KEYS, 60.0), 1, False, said.append) as progress:
        progress([outcome(KEYS[0]), outcome(KEYS[1], status="failed")])
        until(lambda: len(said) > 3, 60, "nothing was said")
    assert "1 run(s) failed, the others go on" in said
    assert said[-1].startswith("2 of 4 runs done, 1 failed, ")
    assert " gone, about " in said[-1]
    assert said[-1].endswith(" left")


def test_a_short_sweep_says_nothing(capsys):
    with Progress([{"keys": KEYS}], {}, 1, False) as progress:
        progress([outcome(k) for k in KEYS])
    assert capsys.readouterr().err == ""
