"""A throw-away project in a temporary folder, and the command line in it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Two test processes with a BLAS and a torch that use both cores wait for each other's
# threads: the audit of a MobileNet took 360 s so, and 48 s with one thread for each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

HOME = Path(__file__).resolve().parents[1]
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

    def __call__(self, *words: str, python: str = sys.executable, **extra):
        """Run `symlab words...` in a process of its own."""
        return subprocess.run(
            [python, "-m", "symlab", *map(str, words)],
            text=True,
            cwd=self.root,
            env=self.env(**extra),
            timeout=300,
            capture_output=True,
            check=False,
        )

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
