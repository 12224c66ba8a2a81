"""What a run changes of its process is put back before the next run in it."""

import locale
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PutBack = Callable[[], None]


@contextmanager
def restored() -> Iterator[None]:
    """A context after which the process is as before, as far as that is cheap.

    Put back: the working directory, the umask, environment variables, standard output
    and error, the global generators of random, numpy and torch (CPU), numpy's handling
    of float errors, torch's default dtype, gradient mode and threads, warnings filters,
    signal handlers and timers, the locale and the recursion limit.

    Not put back: attributes and entries of modules, sys.path, CUDA's generators, open
    files, memory, limits and priority of the process, threads and child processes.
    """
    saved = [save() for save in KEEPERS]
    try:
        yield
    finally:
        for put_back in reversed(saved):
            with suppress(Exception):
                put_back()


def _folder() -> PutBack:
    here = os.getcwd()
    return lambda: os.chdir(here)


def _umask() -> PutBack:
    mask = os.umask(0)
    os.umask(mask)
    return lambda: os.umask(mask)


def _environment() -> PutBack:
    before = dict(os.environ)

    def put_back():
        if before != dict(os.environ):
            for name in set(os.environ) - set(before):
                del os.environ[name]
            os.environ.update(before)

    return put_back


def _streams() -> PutBack:
    copies = {}
    for number in (1, 2):
        with suppress(OSError):  # closed before the run
            copies[number] = os.dup(number)
    streams = {1: ("stdout", sys.stdout), 2: ("stderr", sys.stderr)}

    def put_back():
        for number, copy in copies.items():
            name, stream = streams[number]
            with suppress(Exception):
                getattr(sys, name).flush()
            os.dup2(copy, number)
            os.close(copy)
            if getattr(stream, "closed", False):
                stream = open(number, "w", buffering=1, closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)

    return put_back


def _random() -> PutBack:
    state = random.getstate()
    return lambda: random.setstate(state)


def _numpy() -> PutBack:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return lambda: None
    state, errors = numpy.random.get_state(legacy=False), numpy.geterr()

    def put_back():
        numpy.random.set_state(state)
        numpy.seterr(**errors)

    return put_back


def _torch() -> PutBack:
    torch = sys.modules.get("torch")
    if torch is None:
        return lambda: None
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    gradients, threads = torch.is_grad_enabled(), torch.get_num_threads()

    def put_back():
        torch.set_rng_state(state)
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
    names = ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}

    def put_back():
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            if signal.getsignal(number) is not handler and handler is not None:
                signal.signal(number, handler)

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


KEEPERS = (_folder, _umask, _environment, _streams, _random, _numpy, _torch)
KEEPERS += (_warnings, _signals, _locale, _recursion)
