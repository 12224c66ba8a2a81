"""Whatever a run does, it is one row, and the next run finds the process as it was."""

import os
import signal

import pytest

from symlab.harness import worker
from tests.conftest import SIMPLE
from tests.processes import LIMIT, children, until

HEAD, TAIL = SIMPLE.split("def run(configs):")
TAIL = TAIL[TAIL.index("@figure") :]

WAYS = '''
import asyncio, ctypes, os, sys


class Own(BaseException):
    """An exception that no `except Exception` catches."""


class Mute(Exception):
    def __str__(self):
        raise Own("no text")


class Alone(Exception):
    def __reduce__(self):
        raise TypeError("cannot be pickled")


class Array:
    def tolist(self):
        raise KeyboardInterrupt("in tolist")


def deep(n):
    return deep(n + 1)


def throw(error):
    raise error


WAYS = {
    "fine": lambda: 1.0,
    "generator": lambda: throw(GeneratorExit("left")),
    "keyboard": lambda: throw(KeyboardInterrupt("no user did that")),
    "cancelled": lambda: throw(asyncio.CancelledError("stopped")),
    "own": lambda: throw(Own("of my own")),
    "mute": lambda: throw(Mute()),
    "alone": lambda: throw(Alone("not to be copied")),
    "huge": lambda: throw(ValueError("beginning" + "x" * 10**6 + "the end")),
    "deep": lambda: deep(0),
    "memory": lambda: [0] * 2**60,
    "surrogate": lambda: throw(ValueError("half \\ud800 a pair")),
    "result": lambda: "half \\ud800 a pair",
    "array": lambda: Array(),
    "exit": lambda: sys.exit("enough"),
    "exit 0": lambda: os._exit(0),
    "exit 3": lambda: os._exit(3),
    "abort": lambda: os.abort(),
    "segfault": lambda: ctypes.string_at(0),
}


def run(configs):
    return [{"y": WAYS[c.way]()} for c in configs]


'''

ERRORS = {
    "generator": "GeneratorExit: left",
    "keyboard": "KeyboardInterrupt: no user did that",
    "cancelled": "CancelledError: stopped",
    "own": "Own: of my own",
    "mute": "Mute",
    "alone": "Alone: not to be copied",
    "huge": "characters are left out here",
    "deep": "RecursionError",
    "memory": "MemoryError",
    "surrogate": "half \\ud800 a pair",
    "result": "cannot be stored",
    "array": "cannot be stored: in tolist",
    "exit": "SystemExit: enough",
    **dict.fromkeys(("exit 0", "exit 3", "abort", "segfault"), "process died"),
}


def experiment(body: str) -> str:
    return HEAD.replace("LANES = 4", "LANES = 1") + body + TAIL


def test_every_way_to_fail_is_a_row_with_one_job(sandbox):
    """One job is the default on a GPU; the calling process outlives it all."""
    text = experiment(WAYS).replace('x: float = 1.0\n    """', 'way: str = ""\n    """')
    text = text.replace("x=[1.0, 2.0, 3.0], seed=range(4)", "way=list(WAYS)")
    text = text.replace('"x", "y"', '"seed", "y"').replace("df.x", "df.seed")
    sandbox.write("experiments/line.py", text)
    done = sandbox("run", "line", "--jobs", 1)
    assert done.returncode == 1, done.stderr
    rows = sandbox.rows().set_index("way")
    assert len(rows) == 1 + len(ERRORS)
    assert rows.status["fine"] == "ok"
    assert rows.y["fine"] == 1.0
    for way, error in ERRORS.items():
        assert rows.status[way] == "failed"
        assert error in rows.error[way], way
    assert len(rows.error["huge"]) < 1.1 * worker.LONGEST
    assert rows.error["huge"].endswith("the end")


DISTURBS = """
import ctypes, locale, os, random, signal, sys, time, warnings
import numpy as np


def state():
    mask = os.umask(0o22)
    os.umask(mask)
    with open(os.devnull) as file:  # the lowest free number
        free = file.fileno()
    return [
        os.getcwd(), oct(mask), str(sorted(os.environ.items())), str(np.geterr()),
        str(warnings.filters), str(signal.getsignal(signal.SIGTERM)),
        str(signal.getsignal(signal.SIGINT) is signal.default_int_handler),
        str(signal.getitimer(signal.ITIMER_REAL)[0]), locale.setlocale(locale.LC_ALL),
        str(sys.getrecursionlimit()), str(sys.stdout.closed), str(sys.stderr.closed),
        str([f"{n}: {f}" for n, f in vars(time).items() if callable(f)]),
        str(os.fstat(1).st_ino), str(os.fstat(2).st_ino), str(free), str(os.getpid()),
    ]


def run(configs):
    before = state()
    drawn = [random.random(), np.random.random()]
    print("said", flush=True)
    random.seed(0), np.random.seed(0)
    os.chdir("/"), os.umask(0o77)
    os.environ["NEW"] = "1"
    os.environ.pop("OMP_NUM_THREADS")
    os.environ["HOME"] = "elsewhere"
    np.seterr(all="ignore")
    warnings.simplefilter("error")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 1000)
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    sys.setrecursionlimit(5000)
    time.perf_counter = time.time = time.sleep = None
    sys.stdout.close()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stderr = None
    return [{"before": before, "drawn": drawn, "y": 1.0}]


"""


def test_the_next_run_finds_the_process_as_it_was(sandbox):
    sandbox.write("experiments/line.py", experiment(DISTURBS))
    done = sandbox("run", "line", "--jobs", 1, LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("said") == 12
    rows = sandbox.rows()
    first = rows.before[0].tolist()
    for before in rows.before:
        # the run leaves one file open: its number is its own matter
        assert before.tolist()[:-2] == first[:-2]
        assert before.tolist()[-1] == first[-1], "one worker process makes all runs"
    drawn = rows.set_index("key").drawn.map(tuple)
    assert drawn.is_unique, "two runs drew the same from an unseeded generator"
    sandbox("run", "line", "--jobs", 1, "--only", "x > 1 and seed > 1", "--fresh")
    again = sandbox.rows().set_index("key").drawn.map(tuple)
    assert (again == drawn[again.index]).all(), "a draw depends on the runs before"


ASLEEP = """
import time


def run(configs):
    open(f"begun-{configs[0].x}", "w").close()
    time.sleep(600)
    return [{"y": 1.0}]


"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_stops_runs_that_take_long(sandbox, jobs):
    """Unlike a KeyboardInterrupt that a run raises."""
    sandbox.write("experiments/line.py", experiment(ASLEEP))
    process = sandbox.start("run", "line", "--jobs", jobs)
    until(lambda: list(sandbox.root.glob("begun-*")), 60, "no run began")
    assert children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    until(lambda: not children(process.pid), LIMIT, "a worker outlived the sweep")
    assert not (sandbox.root / "results" / "quick" / "line.parquet").exists()


@pytest.mark.parametrize("jobs", [1, 2])
def test_workers_end_soon_after_a_parent_that_is_killed_alone(sandbox, jobs):
    """One of them runs, and with two jobs the other has nothing to do."""
    text = experiment(ASLEEP).replace("x=[1.0, 2.0, 3.0], seed=range(4)", "x=[1.0]")
    sandbox.write("experiments/line.py", text)
    process = sandbox.start("run", "line", "--jobs", jobs)
    until(lambda: list(sandbox.root.glob("begun-*")), 60, "no run began")
    assert children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)  # workers hold its streams open
    until(lambda: not children(process.pid), LIMIT, "a worker outlived the sweep")


THREAD = """
import threading, time


def run(configs):
    threading.Thread(target=time.sleep, args=[600]).start()
    return [{"y": 1.0}]


"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_thread_that_a_run_left_does_not_hold_up_the_end(sandbox, jobs):
    sandbox.write("experiments/line.py", experiment(THREAD))
    process = sandbox.start("run", "line", "--jobs", jobs)
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert len(sandbox.rows()) == 12
