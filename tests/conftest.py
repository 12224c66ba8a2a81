"""A throw-away project in a temporary folder, and the command line in it."""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path

import pytest

from symlab.harness import code

# Two test processes with a BLAS and a torch that use both cores wait for each other's
# threads: the audit of a MobileNet took 360 s so, and 48 s with one thread for each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

HOME = Path(__file__).resolve().parents[1]

# The repository's own experiments do not change while tests run, and following the code
# that one of them reaches takes 0.3 s: each is followed once in a process.
follow = code.reach
follow_once = cache(follow)


def reach(root, module, names, data=()):
    """Return what `code.reach` returns; for this repository, from memory."""
    known = follow_once if Path(root) == HOME else follow
    return known(root, module, tuple(names), tuple(data))


code.reach = reach

# A command imports pandas, matplotlib and seaborn, 1 to 2 s of computing that hundreds
# of tests need not pay each: this process imports them once and forks for each command.
SERVER = """
import json, os, runpy, sys, traceback
import matplotlib.pyplot, pandas, pyarrow.parquet, scipy.stats, seaborn
import symlab.__main__
from symlab.harness import engine, findings, report, store

del sys.modules["symlab.__main__"]
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        for stream, path in enumerate((os.devnull, asked["out"], asked["err"])):
            flags = os.O_RDWR | os.O_CREAT
            os.dup2(os.open(path, flags), stream)
        sys.stdin = open(0, closefd=False)
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["env"])
        sys.argv = ["symlab", *asked["words"]]
        sys.path[0] = asked["cwd"]
        status = 1
        try:
            runpy.run_module("symlab", run_name="__main__", alter_sys=True)
            status = 0
        except SystemExit as stop:
            if isinstance(stop.code, str):
                print(stop.code, file=sys.stderr)
            status = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@cache
def server() -> subprocess.Popen:
    """Start the process that forks for each command; it ends with this one."""
    made = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=HOME,
        env=os.environ | {"PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"},
    )

    def end() -> None:
        made.stdin.close()
        made.wait()
        made.stdout.close()

    atexit.register(end)
    return made


SIMPLE = '''"""y = 2 x + noise."""
from dataclasses import dataclass
from symlab.harness import Claim, figure, grid, plot, rng, stats
from middle import scale

LANES = 4


@dataclass(frozen=True)
class Config:
    x: float = 1.0
    """Input."""
    seed: int = 0
    """Noise."""


def sweep(scale):
    return grid(Config, x=[1.0, 2.0, 3.0], seed=range(4))


def run(configs):
    return [{"y": scale(c.x) + 0.01 * float(rng.stream(c.seed, "e").normal())}
            for c in configs]


@figure("line")
def draw(df, ax):
    plot.curve(ax, df, "x", "y", label="y", color=plot.BLUE)


def slope(df):
    return stats.mean((df.y / df.x).groupby(df.seed).mean())


CLAIMS = [Claim("slope", "y/x is 2.", "here", slope,
                reason="noise of 1 %", above=1.9, below=2.1)]
'''
MIDDLE = "from deep import factor\n\n\ndef scale(x):\n    return factor() * x\n"
DEEP = "def factor():\n    return 2.0\n"


class Sandbox:
    """A small project: one experiment whose run reaches two modules away."""

    def __init__(self, root: Path):
        self.root = root
        (root / "experiments").mkdir()
        self.write("experiments/line.py", SIMPLE)
        self.write("middle.py", MIDDLE)
        self.write("deep.py", DEEP)

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text, f"{old!r} is not in {name}"
        self.write(name, text.replace(old, new))

    def env(self, **extra) -> dict:
        base = {k: v for k, v in os.environ.items() if not k.startswith("SYMLAB_")}
        return base | {"PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"} | extra

    def __call__(self, *words: str, python: str | None = None, **extra):
        """Run `symlab words...` in a process of its own."""
        if python is None:
            return self.fork([str(word) for word in words], self.env(**extra))
        return subprocess.run(
            [python, "-m", "symlab", *map(str, words)],
            text=True,
            cwd=self.root,
            env=self.env(**extra),
            timeout=300,
            capture_output=True,
            check=False,
        )

    def fork(self, words: list[str], env: dict) -> subprocess.CompletedProcess:
        """Run a command in a fork of a process that has the libraries imported."""
        with tempfile.TemporaryDirectory() as folder:
            streams = {name: os.path.join(folder, name) for name in ("out", "err")}
            asked = {"words": words, "env": env, "cwd": str(self.root)} | streams
            made = server()
            print(json.dumps(asked), file=made.stdin, flush=True)
            child = int(made.stdout.readline())
            late = threading.Timer(300, os.killpg, (child, signal.SIGKILL))
            late.start()
            status = int(made.stdout.readline())
            late.cancel()
            said = [Path(path).read_text() for path in streams.values()]
        return subprocess.CompletedProcess(["symlab", *words], status, *said)

    def start(self, *words: str, **extra) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "symlab", *map(str, words)],
            cwd=self.root,
            env=self.env(**extra),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # a shell that starts us in the background has us ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def rows(self, name: str = "line", scale: str = "quick"):
        import pandas as pd

        return pd.read_parquet(self.root / "results" / scale / f"{name}.parquet")


@pytest.fixture
def sandbox(tmp_path) -> Sandbox:
    return Sandbox(tmp_path)
