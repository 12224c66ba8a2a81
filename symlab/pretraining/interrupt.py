"""Handle SIGTERM and Ctrl-C during a training run: note them, stop between steps."""

import signal
import threading
import time

ASKED = (signal.SIGINT, signal.SIGTERM)
SAME = 2.0  # seconds: torchrun repeats a terminal's Ctrl-C, which is one wish


class Stopped(KeyboardInterrupt):
    """Raised if a run was asked to stop and its state is on disk; the message says
    where.

    number: the signal's number; a shell's exit code is 128 + number.
    said: the message.
    """

    def __init__(self, number: int, said: str):
        super().__init__(said)
        self.number = number


class Signals:
    """A context in which SIGTERM and Ctrl-C set `caught` and do not end the process.

    `caught` is the signal's number, 0 before any signal. A second signal that comes
    more than two seconds after the first one has its usual effect. Signals that are
    ignored outside the context stay ignored, and in any other thread than the main one
    the context has no effect, because Python lets no other thread handle signals.

    wanted: False for a context without effect.
    """

    def __init__(self, wanted: bool = True):
        self.wanted, self.caught, self.since = wanted, 0, 0.0
        self.before: dict[int, object] = {}

    def __enter__(self) -> "Signals":
        if self.wanted and threading.current_thread() is threading.main_thread():
            for number in ASKED:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error) -> None:
        while self.before:
            signal.signal(*self.before.popitem())

    def _note(self, number: int, frame) -> None:
        if not self.caught:
            self.caught, self.since = number, time.monotonic()
        elif time.monotonic() - self.since > SAME:
            self.__exit__()
            signal.raise_signal(number)
