"""What a sweep of 100,000 runs costs whose rows are all there.

    python benchmarks/bench_scale.py [n_runs]

Times are CPU seconds of one process, because other programs may share the cores. Those
of a command include the start of Python and the import of matplotlib. Memory is the
largest of any of these processes.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HOME))
from symlab.harness import contract  # noqa: E402
from symlab.harness.project import Project  # noqa: E402
from symlab.harness.store import Store  # noqa: E402

LARGE = '''"""y rises with x."""
from dataclasses import dataclass
from symlab.harness import Arm, Claim, figure, grid, panels, plot, where


@dataclass(frozen=True)
class Config:
    study: str = "main"
    x: float = 1.0
    lr: float = 0.1
    n: int = 10
    seed: int = 0


def sweep(scale):
    return grid(Config, study=["main", "control"], x=[float(i) for i in range(10)],
                lr=[0.1, 0.2, 0.3, 0.4, 0.5], seed=range({n} // 100))


def run(configs):
    return [{{"y": c.x + c.seed % 7}} for c in configs]


@figure("large")
def draw(df, ax):
    panels.curve(ax, df, "x", "y", Arm("y", plot.BLUE))


CLAIMS = [Claim("rises", "y rises with x by 1.", "here",
                where(study="main").slope("y", "x"), reason="-", above=0.9, below=1.1)]
'''


def fill(project: Project) -> None:
    """Write a row for each run, as the engine would."""
    experiment = contract.load(project, "large")
    code, store = experiment.reached.code, Store(project.results / "quick", "large")
    about = {"code": code, "status": "ok", "error": "", "lanes": 100, "wall_s": 0.001}
    about |= {"device": "cpu", "threads": 1, "git": "0" * 12, "dirty": False}
    about |= {"versions": experiment.reached.made_with, "finished": "2026-01-01T00:00"}
    rows = [
        {"key": key, **c, **about, "y": c["x"] + c["seed"] % 7}
        for key, c in experiment.configs("quick").items()
    ]
    store.write_part(rows, {code: experiment.reached.definitions})
    store.pack()


INSIDE = """
import time
from pathlib import Path
from symlab.harness import plan, project
import symlab.notebook
here = project.find()
start = time.process_time()
plan.make(here, "large", "quick")
middle = time.process_time()
symlab.notebook.load("large")
print(middle - start, time.process_time() - middle)
"""


def command(project: Project, *words: str) -> tuple[str, float, float]:
    """Return (what a process printed, its CPU seconds, the largest memory in GiB of
    all processes so far).
    """
    env = os.environ | {"PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *words], cwd=project.root, env=env, check=True, text=True,
        capture_output=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    per_gib = 2**30 if sys.platform == "darwin" else 2**20
    return done.stdout, seconds, after.ru_maxrss / per_gib


def main(n: int = 100_000) -> None:
    """Print a table of what a project with n fresh runs costs."""
    for name in ("SYMLAB_RESULTS", "SYMLAB_FIGURES"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        project.experiments.mkdir()
        (project.experiments / "large.py").write_text(LARGE.format(n=n))
        fill(project)
        planned, loaded = command(project, "-c", INSIDE)[0].split()
        fig = ("-m", "symlab", "fig", "large")
        drawn, again = command(project, *fig), command(project, *fig)
    assert "drew" in drawn[0]
    assert "up to date" in again[0]
    print(f"| {n} fresh runs | measured | wanted |\n|---|---|---|")
    print(f"| `plan.make` | {float(planned):.2f} s | < 2 s |")
    print(f"| `symlab.load`, imports aside | {float(loaded):.2f} s | < 1 s |")
    print(f"| `symlab fig`, to be drawn | {drawn[1]:.1f} s | < 5 s |")
    print(f"| `symlab fig`, up to date | {again[1]:.1f} s | < 5 s |")
    print(f"| memory | {again[2]:.2f} GiB | < 1 GiB |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
