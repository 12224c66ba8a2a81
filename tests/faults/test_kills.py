"""Sweeps that are killed at random: no row lost or doubled, no process or file left."""

import os
import random
import signal
import time

import pandas as pd
import pytest

from tests.conftest import SIMPLE
from tests.processes import LIMIT, children, until

SLOW = SIMPLE.replace(
    "    return [{", "    __import__('time').sleep(0.1)\n    return [{"
).replace("LANES = 4", "LANES = 1")


def finished(sandbox) -> pd.Series:
    """The time at which each run finished that is on disk, by its key."""
    from symlab.harness.store import Store

    frame = Store(sandbox.root / "results" / "quick", "line").frame()
    return frame.set_index("key").finished if len(frame) else pd.Series(dtype=str)


def whole(sandbox) -> None:
    """Finish the sweep, and check what there is: each run once, right, and no more."""
    done = sandbox("run", "line")
    assert done.returncode == 0, done.stderr
    rows = sandbox.rows()
    assert len(rows) == 12
    assert rows.key.is_unique
    assert ((rows.y - 2 * rows.x).abs() < 0.1).all()
    results = sandbox.root / "results"
    left = {p for p in results.rglob("*") if p.is_file() and p.name != ".lock"}
    kept = {p for p in left if p.parent.name == ".reached" and p.suffix == ".json"}
    assert {p.name for p in left - kept} == {"line.parquet"}


def killed(sandbox, draws: random.Random, whom: str, longest: float) -> None:
    """Start the sweep, and kill it or a worker after a random time; rows there stay."""
    before = finished(sandbox)
    process = sandbox.start("run", "line", "--jobs", 2)
    time.sleep(draws.uniform(0, longest))
    if whom == "sweep":
        process.kill()
    else:
        for child in children(process.pid)[:1]:
            os.kill(child, signal.SIGKILL)
    process.communicate(timeout=240)
    until(lambda: not children(process.pid), LIMIT, "a worker outlived the sweep")
    after = finished(sandbox)
    assert (after[before.index] == before).all(), "a row was lost or made again"


def longest(sandbox) -> float:
    """Seconds from the start of a sweep to its second row, and a little more."""
    start = time.monotonic()
    process = sandbox.start("run", "line", "--jobs", 2)
    until(lambda: len(finished(sandbox)) > 1, 240, "no rows appeared")
    process.kill()
    process.communicate(timeout=60)
    return 1.3 * (time.monotonic() - start)


@pytest.mark.parametrize("whom", ["sweep", "worker"])
@pytest.mark.parametrize(
    "times", [pytest.param(20, marks=pytest.mark.long), pytest.param(1)]
)
def test_random_kills(sandbox, whom, times):
    sandbox.write("experiments/line.py", SLOW)
    most, draws = longest(sandbox), random.Random(times)
    for _ in range(times):
        killed(sandbox, draws, whom, most)
    whole(sandbox)


@pytest.mark.long
@pytest.mark.parametrize("how", ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"])
def test_signals_at_each_stage(sandbox, how):
    """Before the plan, at the first run, amid the rows, at the end."""
    sandbox.write("experiments/line.py", SLOW)
    most = longest(sandbox)
    for share in (0.05, 0.5, 0.8, 1.0, 1.3):
        process = sandbox.start("fig", "line", "--jobs", 2)
        time.sleep(share * most)
        process.send_signal(getattr(signal, how))
        process.communicate(timeout=60)
        until(lambda p=process: not children(p.pid), LIMIT, "a worker outlived it")
    whole(sandbox)


@pytest.mark.long
def test_eight_sweeps_in_one_folder(sandbox):
    sandbox.write("experiments/line.py", SLOW)
    every = [sandbox.start("fig", "line", "--jobs", 1) for _ in range(8)]
    for process in every:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
        assert not children(process.pid)
    whole(sandbox)


@pytest.mark.long
def test_eight_sweeps_in_one_folder_are_killed(sandbox):
    sandbox.write("experiments/line.py", SLOW)
    most, draws = longest(sandbox), random.Random(8)
    every = [sandbox.start("run", "line", "--jobs", 1) for _ in range(8)]
    time.sleep(2 * most)
    for process in every:
        time.sleep(draws.uniform(0, most / 4))
        process.kill()
    for process in every:
        process.communicate(timeout=60)
        until(lambda p=process: not children(p.pid), LIMIT, "a worker outlived it")
    whole(sandbox)
