"""The main program of a worker process, which makes runs of experiments.

It takes tasks from a socket until the process at the other end sends no more.
"""

import fcntl
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

from symlab.harness import worker
from symlab.harness.children import BEGUN

IDLE = 300  # seconds without a task after which a child ends


def main(number: int, watched: int, parent: int) -> None:
    """Make the runs of each task that arrives, and send back the results of each task.

    number: the file descriptor of the socket.
    watched: the file descriptor of a pipe whose other end the parent process holds.
    parent: the id of the process that started this one. After its death no further run
        begins, and a run under way is ended.
    """
    for inherited in (number, watched):  # programs that a run starts have no part in it
        os.set_inheritable(inherited, False)
    _die_with(watched)
    worker.follow(parent)
    worker.settle()
    connection = Connection(number)
    with suppress(EOFError, OSError):  # the parent closed the socket, or has died
        while connection.poll(IDLE):
            for task in connection.recv():
                if os.getppid() != parent:
                    return _leave()
                if task["timeout"]:
                    worker.prepare(task)
                    connection.send(BEGUN)
                outcomes = worker.execute(task)
                for stream in (sys.stdout, sys.stderr):
                    with suppress(Exception):
                        stream.flush()
                connection.send(outcomes)
    _leave()


def _die_with(pipe: int) -> None:
    """Have the system end this process, and the programs that it started, when the
    other end of a pipe is closed.

    `worker.follow` watches the parent, too, but in a thread: while a run computes for
    minutes in one call of C code that keeps Python's lock, no thread gets a turn. The
    system's signal (SIGIO, which ends a process that does not handle it) needs none.
    """
    if sys.platform == "linux":  # elsewhere SIGIO is ignored
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
        flags = fcntl.fcntl(pipe, fcntl.F_GETFL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, flags | os.O_ASYNC)


def _leave() -> None:
    """End; Python alone would wait for ever for threads that a run has left."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(2)  # what a run left for the end may not take longer
    others = set(threading.enumerate()) - {threading.main_thread()}
    if not all(thread.daemon for thread in others):
        os._exit(0)
