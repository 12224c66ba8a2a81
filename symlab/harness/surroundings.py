"""Restores what a run has changed in its process, before the next run in that
process.
"""

import locale
import os
import random
import signal
import sys
import threading
import time
import warnings
from _signal import getsignal  # signal's own makes an enum of each, for a microsecond
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from zlib import crc32

PutBack = Callable[[], None]


def seed_generators(name: str) -> None:
    """Seed the global random generators of Python, NumPy and torch (CPU) from a name.

    name: identifies the call of `run`, so that equal calls get equal numbers.

    A run should draw its numbers from `rng.stream`. If it uses the global generators
    all the same, its numbers then depend on this name, and not on the runs that the
    process made before.
    """
    seed = crc32(name.encode())
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed)
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(seed)


@contextmanager
def restored(experiment: str) -> Iterator[None]:
    """Return a context that restores the state of the process at its end.

    experiment: the name of the experiment that is run inside.

    Restored to their state when the experiment was imported: the working directory, the
    umask, standard output and error, NumPy's handling of float errors, torch's default
    dtype, gradient mode and threads, warning filters, signal handlers and timers, the
    locale, the recursion limit and the functions of `time`. Environment variables are
    restored to their state at the start of the context.

    Not restored: attributes and entries of other modules, sys.path, generators on a
    GPU, open files, memory, limits and priority of the process, threads and child
    processes.
    """
    saved = [_environment(), *_saved(experiment, "torch" in sys.modules)]
    try:
        yield
    finally:
        for put_back in saved:
            try:
                put_back()
            except Exception:  # the others are put back all the same
                continue


@lru_cache(maxsize=1)
def _saved(experiment: str, torch: bool) -> list[PutBack]:
    """What puts back the state of this moment; kept, as saving it takes a while."""
    return [save() for save in KEEPERS]


def _folder() -> PutBack:
    here = os.getcwd()
    return lambda: os.chdir(here)


def _umask() -> PutBack:
    mask = os.umask(0)
    os.umask(mask)
    return lambda: os.umask(mask)


def _environment() -> PutBack:
    before = dict(os.environ._data)  # bytes: decoding them takes a hundred times longer

    def put_back():
        if before != os.environ._data:
            for name in os.environb.keys() - before.keys():
                del os.environb[name]
            os.environb.update(before)

    return put_back


def _streams() -> PutBack:
    copies, streams = {}, {}
    for number, name in ((1, "stdout"), (2, "stderr")):
        with suppress(OSError):  # it was closed before
            copies[number] = os.dup(number)
            streams[number] = name, getattr(sys, name)

    def put_back():
        for number, (name, stream) in streams.items():
            with suppress(Exception):
                getattr(sys, name).flush()
            os.dup2(copies[number], number)
            if getattr(stream, "closed", False):
                stream = open(number, "w", buffering=1, closefd=False)  # noqa: SIM115
                streams[number] = name, stream
            setattr(sys, name, stream)

    return put_back


def _numpy() -> PutBack:
    numpy = sys.modules.get("numpy")
    errors = numpy.geterr() if numpy else {}
    return lambda: numpy and numpy.seterr(**errors)


def _torch() -> PutBack:
    torch = sys.modules.get("torch")
    if torch is None:
        return lambda: None
    dtype, gradients = torch.get_default_dtype(), torch.is_grad_enabled()
    threads = torch.get_num_threads()

    def put_back():
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

    return put_back


def _warnings() -> PutBack:
    before = list(warnings.filters)

    def put_back():
        if warnings.filters != before:
            warnings.filters[:] = before

    return put_back


def _signals() -> PutBack:
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # only the main thread may set handlers
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1)
    before = {number: getsignal(number) for number in numbers}

    def put_back():
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, old in before.items():
            if getsignal(number) is not old and old is not None:
                signal.signal(number, old)

    return put_back


def _locale() -> PutBack:
    before = locale.setlocale(locale.LC_ALL)

    def put_back():
        if locale.setlocale(locale.LC_ALL) != before:
            locale.setlocale(locale.LC_ALL, before)

    return put_back


def _recursion() -> PutBack:
    limit = sys.getrecursionlimit()
    return lambda: sys.setrecursionlimit(limit)


CLOCKS = ("time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "sleep")
CLOCKS += ("monotonic_ns", "process_time", "process_time_ns")


def _clocks() -> PutBack:
    """The functions of `time`, which a run may replace to test what depends on them."""
    before = {name: getattr(time, name) for name in CLOCKS}
    return lambda: vars(time).update(before)


KEEPERS = (_folder, _umask, _streams, _numpy, _torch, _warnings)
KEEPERS += (_signals, _locale, _recursion, _clocks)
