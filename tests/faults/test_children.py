"""A worker process that dies or takes too long costs its own call, and no other."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count

import pytest

from symlab.harness import engine, local, plan, pool
from symlab.harness.children import DIED, DONE, LATE, Child, Crew
from symlab.harness.project import Project
from tests.conftest import SIMPLE
from tests.processes import LIMIT, children, running, until

HEAD, TAIL = SIMPLE.split("def run(configs):")
TAIL = TAIL[TAIL.index("@figure") :]
HEAD = HEAD.replace("[1.0, 2.0, 3.0]", "[1.0, 2.0]")  # 8 runs in 2 calls
RUN = """
import os, signal, subprocess, time


def once(name):
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def run(configs):
    os.close(os.open(f"call-{len(configs)}-{time.time_ns()}", os.O_CREAT))
    bad = any(c.x == 2 and c.seed == 3 for c in configs)
    ACTION
    return [{"y": c.x} for c in configs]


"""
DIE = "os.kill(os.getpid(), signal.SIGKILL)"
ONCE = f"if bad and once('died'): {DIE}"
ALWAYS = f"if bad: {DIE}"
SLOW = "if bad: open('program', 'w').write(str(subprocess.Popen(['sleep', '99']).pid))"
SLOW += "; time.sleep(99)"


@pytest.fixture
def sweep(sandbox, monkeypatch):
    """A function that runs 8 configurations, 4 in a call; (report, rows, calls)."""
    monkeypatch.chdir(sandbox.root)

    def run(action: str, **options):
        body = RUN.replace("ACTION", action)
        sandbox.write("experiments/line.py", HEAD + body + TAIL)
        project = Project(sandbox.root)
        made = plan.make(project, "line", "quick")
        report = engine.run(project, [made], jobs=1, quiet=True, **options)
        calls = sorted(int(p.name.split("-")[1]) for p in sandbox.root.glob("call-*"))
        return report, sandbox.rows(), calls

    yield run
    local.close_idle()


def test_a_death_that_does_not_return_costs_two_calls_of_half_the_lanes(sweep, capsys):
    report, rows, calls = sweep(ONCE)
    assert report.ok == 8
    assert rows.key.is_unique
    assert calls == [2, 2, 4, 4]
    said = capsys.readouterr().err
    assert "lost its worker process: its runs are tried again" in said


@pytest.mark.long
def test_the_run_that_kills_its_process_is_found_by_halves(sweep):
    report, rows, calls = sweep(ALWAYS)
    failed = rows[rows.status == "failed"]
    assert [(r.x, r.seed) for r in failed.itertuples()] == [(2.0, 3)]
    assert "process died" in failed.error.iloc[0]
    assert report.ok == 7
    # those of 4, 2 and 1 lanes with it, and the other call and the other halves
    assert calls == [1, 1, 2, 2, 4, 4]


def test_a_run_that_takes_too_long_is_a_failed_row_and_its_programs_end(sandbox, sweep):
    report, rows, _ = sweep(SLOW, timeout=2.0)
    failed = rows[rows.status == "failed"]
    assert [(r.x, r.seed) for r in failed.itertuples()] == [(2.0, 3)]
    assert "took longer than TIMEOUT=2 seconds" in failed.error.iloc[0]
    assert failed.wall_s.tolist() == [2.0]
    assert report.ok == 7
    program = int((sandbox.root / "program").read_text())
    until(lambda: not running(program), LIMIT, "its program outlived it")


SHORT = HEAD.replace("LANES = 4", "LANES = 1").replace("range(4)", "range(40)")
LOG = """
import os, signal, time


def run(configs):
    (c,) = configs
    os.close(os.open(f"call-{c.x}-{c.seed}-{time.time_ns()}", os.O_CREAT))
    ACTION
    return [{"y": c.x}]


"""
BAD = "c.x == 2 and c.seed == 30"


@pytest.mark.parametrize(
    ("action", "timeout", "tries", "said"),
    [
        (f"if {BAD}: {DIE}", 0.0, 2, "process died"),
        (f"if {BAD}: time.sleep(99)", 5.0, 1, "took longer than TIMEOUT=5 seconds"),
    ],
)
def test_among_short_calls_the_one_that_is_lost_is_named(
    sandbox, monkeypatch, capsys, action, timeout, tries, said
):
    """Those before it in the same message are kept, those behind it made once."""
    monkeypatch.chdir(sandbox.root)
    monkeypatch.setattr(local, "SPELL", 60.0)  # a machine that ten others use
    body = LOG.replace("ACTION", action)
    sandbox.write("experiments/line.py", SHORT + body + TAIL)
    messages = []
    calls = Crew.calls

    def noted(crew, tasks):
        messages.append(
            [(t["configs"][0]["x"], t["configs"][0]["seed"]) for t in tasks]
        )
        return calls(crew, tasks)

    monkeypatch.setattr(Crew, "calls", noted)
    project = Project(sandbox.root)
    made = plan.make(project, "line", "quick")
    try:
        report = engine.run(project, [made], jobs=1, quiet=True, timeout=timeout)
    finally:
        local.close_idle()
    (message,) = (m for m in messages if (2.0, 30) in m and len(m) > 1)
    place = message.index((2.0, 30))
    assert 0 < place < len(message) - 1, "none before it or none behind it"
    assert report.ok == 79
    rows = sandbox.rows()
    failed = rows[rows.status == "failed"]
    assert [(r.x, r.seed) for r in failed.itertuples()] == [(2.0, 30)]
    assert said in failed.error.iloc[0]
    made = Counter(tuple(p.name.split("-")[1:3]) for p in sandbox.root.glob("call-*"))
    assert made.pop(("2.0", "30")) == tries
    assert set(made.values()) == {1}
    lost = capsys.readouterr().err.count("lost its worker process")
    assert lost == tries - 1, "one that was not begun is called lost"


GATED = """
from pathlib import Path
import time


def run(configs):
    (c,) = configs
    Path(f"begun-{c.seed}").touch()
    while not Path(f"gate-{c.seed}").exists():
        time.sleep(0.02)
    return [{"y": c.x}]


"""


def test_the_time_of_a_call_begins_when_the_one_before_it_ended(sandbox, monkeypatch):
    monkeypatch.chdir(sandbox.root)
    sandbox.write("experiments/line.py", SHORT + GATED + TAIL)
    clock = [0.0]
    monkeypatch.setattr("symlab.harness.children.monotonic", lambda: clock[0])
    project = Project(sandbox.root)
    tasks = list(engine._tasks(project, plan.make(project, "line", "quick"), 1, "cpu"))
    tasks = [t | {"timeout": 10.0} for t in tasks if t["configs"][0]["x"] == 1][:3]
    child = Child([str(sandbox.root), *sys.path])

    def deadline(i: int) -> float | None:
        until((sandbox.root / f"begun-{i}").exists, 60, "no run began")
        assert child.ended() is None
        return child._deadline

    def end_of(i: int) -> tuple:
        (sandbox.root / f"gate-{i}").touch()
        found = []
        until(lambda: found.append(child.ended()) or found[-1], 60, "it did not end")
        assert child._deadline is None, "the next call has the time of this one"
        return found[-1]

    try:
        child.begin(tasks)
        assert deadline(0) == 10.0
        clock[0] = 9.0
        assert end_of(0)[0] == DONE
        assert deadline(1) == 19.0
        clock[0] = 15.0  # later than the time of the first, within that of the second
        assert end_of(1)[0] == DONE
        assert deadline(2) == 25.0
        clock[0] = 26.0
        assert child.ended() == (LATE, [])
        assert [t["configs"][0]["seed"] for t in child.tasks] == [2]
    finally:
        child.kill()


def test_the_next_call_begins_while_the_rows_of_the_last_are_stored(
    sandbox, monkeypatch
):
    """It does not wait until somebody takes the outcomes; and one job is one call."""
    monkeypatch.chdir(sandbox.root)
    sandbox.write("experiments/line.py", SHORT + GATED + TAIL)
    project = Project(sandbox.root)
    tasks = list(engine._tasks(project, plan.make(project, "line", "quick"), 1, "cpu"))
    tasks = [t | {"timeout": 0.0} for t in tasks if t["configs"][0]["x"] == 1][:3]

    def begun() -> set[str]:
        return {p.name.removeprefix("begun-") for p in sandbox.root.glob("begun-*")}

    with (
        closing(pool.outcomes(tasks, 1)) as some,
        ThreadPoolExecutor(1) as thread,
    ):
        going = thread.submit(next, some)
        until(begun, 60, "no run began")
        (first,) = begun()
        (sandbox.root / f"gate-{first}").touch()
        going.result(timeout=60)
        until(lambda: len(begun()) == 2, 60, "the process waits")
        time.sleep(0.5)
        assert len(begun()) == 2, "two calls at a time"
        for i in range(3):
            (sandbox.root / f"gate-{i}").touch()
        assert len(list(some)) == 2
    local.close_idle()


def test_only_calls_that_are_known_to_be_short_are_handed_over_together():
    def tasks(name: str, n: int, cost: float = 0.0) -> list[dict]:
        return [{"alike": (name,), "cost": cost} for _ in range(n)]

    def lengths(todo: list[dict], one: float) -> list[int]:
        spells, found = local._Spells(todo), []
        while some := spells.next():
            assert len({t["alike"] for t in some}) == 1
            spells.took(some, one * len(some))
            found.append(len(some))
        assert sum(found) == len(todo)
        return found

    short, few = local.SPELL / 10.5, local.SPELL / 2.1
    assert lengths(tasks("a", 37), short) == [1, 2, 4, 8, 10, 10, 2]
    assert lengths(tasks("a", 5), few) == [1, 2, 2]
    assert lengths(tasks("a", 3), 2 * local.SPELL) == [1, 1, 1]
    assert lengths(tasks("a", 3) + tasks("b", 4), short) == [1, 2, 1, 2, 1]
    assert lengths(tasks("a", 3, cost=local.SPELL), short) == [1, 1, 1]
    mixed = [t for pair in zip(tasks("a", 3), tasks("b", 3), strict=True) for t in pair]
    assert lengths(mixed, short) == [1] * 6
    spells = local._Spells(tasks("a", 5))
    assert [len(spells.next()) for _ in range(5)] == [1] * 5, "nothing is known yet"


def test_the_last_try_of_a_run_is_made_alone(monkeypatch):
    """What needs too much memory beside another run may have enough by itself."""
    beside, clock = {}, count()

    class Workers:
        def calls(self, tasks, jobs):
            for task in tasks:
                beside.setdefault(task["keys"][0], []).append((next(clock), jobs))
                lost = task["keys"] == ["b"] and "deaths" not in task
                yield task, DIED if lost else DONE, [] if lost else [{}]

        def close(self):
            pass

    monkeypatch.setattr(local, "Local", Workers)
    task = {"configs": [{}], "name": "e", "cost": 0.0, "timeout": 0.0}
    tasks = [task | {"keys": [k]} for k in "abcdef"]
    found = [task["keys"][0] for task, _ in pool.outcomes(tasks, 3)]
    assert found == ["a", "c", "d", "e", "f", "b"]
    assert beside["b"][1] == (6, 1), "it ran beside others"


@pytest.mark.parametrize("jobs", [1, 3])
def test_who_wants_no_more_outcomes_leaves_no_process_and_no_thread(jobs):
    """A warning of joblib's, or an error in a thread of its, would fail this test."""
    before = set(threading.enumerate())
    task = {"root": ".", "name": "none", "code": "", "configs": [{}], "cost": 0.0}
    task |= {"timeout": 0.0, "device": "cpu", "alike": ()}
    some = pool.outcomes([task | {"keys": [str(i)]} for i in range(10_000)], jobs)
    assert next(some)[1][0]["status"] == "failed", "there is no such experiment"
    there = children(os.getpid())
    assert 0 < len(there) <= jobs
    start = time.monotonic()
    some.close()
    assert time.monotonic() - start < LIMIT
    assert not any(map(running, there))
    until(lambda: set(threading.enumerate()) <= before, LIMIT, "a thread goes on")


HOLDS = """
def run(configs):
    open("begun", "w").close()
    return [{"y": float(pow(3, 10**9) % 7)} for c in configs]  # minutes in one C call


"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="other systems ignore SIGIO")
def test_a_run_that_never_lets_a_thread_run_ends_with_the_sweep(sandbox):
    sandbox.write("experiments/line.py", HEAD + HOLDS + TAIL)
    process = sandbox.start("run", "line", "--jobs", 1)
    until((sandbox.root / "begun").exists, 60, "no run began")
    (child,) = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    until(lambda: not children(process.pid), LIMIT, "a worker outlived the sweep")
    assert not running(child)


@pytest.mark.long
def test_a_child_takes_no_task_after_its_parent_died(sandbox):
    """The parent stops the child, sends a task and dies; the child goes on then."""
    script = (
        "import os, signal, sys\n"
        "from symlab.harness.children import Child\n"
        "child = Child(sys.path)\n"
        "child.begin([{'root': '.', 'name': 'none', 'code': '', 'keys': [],"
        " 'timeout': 0, 'configs': []}])\n"
        "while child.ended() is None: pass\n"
        "os.kill(child.process.pid, signal.SIGSTOP)\n"
        "child.begin([{'root': '.', 'name': 'none', 'code': '', 'keys': ['a'],"
        " 'timeout': 0, 'configs': [{}]}])\n"
        "print(child.process.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    said = sandbox.root / "said"  # no pipe: the stopped child would hold it open
    with said.open("w") as stream:
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=sandbox.root,
            env=sandbox.env(),
            stdout=stream,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
    child = int(said.read_text())
    os.kill(child, signal.SIGCONT)
    until(lambda: not running(child), LIMIT, "a worker outlived the sweep")
