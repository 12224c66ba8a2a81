"""Which worker processes there are; each is in a session of its own."""

import subprocess
import time
from collections.abc import Callable

LIMIT = 10.0  # seconds after which no worker of a dead sweep may run


def children(parent: int) -> list[int]:
    """Return the ids of the workers that the process with the id `parent` started."""
    said = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,stat=,args="],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = []
    for line in said.splitlines():
        pid, state, args = line.split(None, 2)
        words = args.split("main(*map(int, numbers))")
        if len(words) == 2 and words[1].split()[2] == str(parent) and state[0] != "Z":
            found.append(int(pid))
    return found


def running(process: int) -> bool:
    """Return whether a process is there and has not ended (a zombie has)."""
    said = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return bool(said) and said[0] != "Z"


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until a condition holds; AssertionError with `what` after some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)
