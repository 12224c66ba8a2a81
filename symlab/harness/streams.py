"""Standard output and error that are closed or full, or that nobody reads any more."""

import os
import sys


def open_closed() -> None:
    """Reopen closed standard streams (`>&-`) so that output to them is discarded.

    Otherwise the next file that is opened gets the number of the closed stream, and
    printed text goes into it, also from worker processes, which inherit the streams.
    """
    for number, name, mode in (
        (0, "stdin", "r"),
        (1, "stdout", "w"),
        (2, "stderr", "w"),
    ):
        try:
            os.fstat(number)
        except OSError:
            lowest = os.open(os.devnull, os.O_RDWR)  # of the numbers that are free
            os.set_inheritable(lowest, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def silence() -> None:
    """Redirect standard output and error to nowhere, so that Python exits without an
    error.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
