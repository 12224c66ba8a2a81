"""What the harness costs beside joblib: short runs, both ways, in one process.

    python benchmarks/bench_engine.py [n_runs] [milliseconds of a run] [repeats]

The joblib side calls the experiment's run once per config and keeps the rows in memory;
the engine's side plans, keys, runs, checks, writes and packs them. LANES = 1, so that
both make the same number of tasks; workers are warm on both sides. joblib makes the
runs of one job in the calling process, where they cost no message.
"""

import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from statistics import median

import joblib

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from symlab.harness import contract, engine, plan  # noqa: E402
from symlab.harness.project import Project  # noqa: E402

TRIVIAL = '''"""Nothing, for some milliseconds."""
from dataclasses import dataclass
from time import perf_counter
from symlab.harness import Claim, grid, stats


@dataclass(frozen=True)
class Config:
    seed: int = 0


def sweep(scale):
    return grid(Config, seed=range({n}))


def run(configs):
    end = perf_counter() + {ms} / 1000
    while perf_counter() < end:
        pass
    return [{{"y": float(c.seed)}} for c in configs]


CLAIMS = [Claim("y", "y", "here", lambda df: stats.mean(df.y), reason="-", above=0)]
'''


# What a user would write beside the experiment: an importable function of one config.
BY_HAND = """from experiments.trivial import Config, run


def call(config):
    return run([Config(**config)])
"""


def main(n: int = 1000, ms: int = 1, repeats: int = 5) -> dict[int, float]:
    """Print and return {jobs: median of engine's time / joblib's} for 1 and 2 jobs."""
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        project.experiments.mkdir()
        (project.experiments / "trivial.py").write_text(TRIVIAL.format(n=n, ms=ms))
        (project.root / "by_hand.py").write_text(BY_HAND)
        sys.path.insert(0, folder)  # workers get the parent's path
        sys.modules.pop("experiments", None)
        os.environ.pop("SYMLAB_RESULTS", None)
        return {jobs: compare(project, n, ms, jobs, repeats) for jobs in (1, 2)}


def compare(project: Project, n: int, ms: int, jobs: int, repeats: int) -> float:
    """Print and return the median ratio of times with a number of jobs."""
    call = import_module("by_hand").call

    def alone():
        configs = contract.load(project, "trivial").configs("quick")
        calls = (joblib.delayed(call)(c) for c in configs.values())
        options = {"batch_size": 1, "max_nbytes": None}
        with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
            parallel = joblib.Parallel(return_as="generator_unordered", **options)
            return len(list(parallel(calls)))

    def sweep():
        p = plan.make(project, "trivial", "quick", fresh=True)
        report = engine.run(project, [p], jobs=jobs, quiet=True)
        assert report.ok == n, report
        return report.ok

    alone(), sweep()
    times: dict[str, list[float]] = {"joblib": [], "engine": []}
    for _ in range(repeats):
        for name, function in (("joblib", alone), ("engine", sweep)):
            start = time.perf_counter()
            assert function() == n
            times[name].append(time.perf_counter() - start)
    ratios = [e / j for e, j in zip(times["engine"], times["joblib"], strict=True)]
    found = ", ".join(f"{name} {median(v):.2f} s" for name, v in times.items())
    print(
        f"{n} runs of {ms} ms, jobs {jobs}: {found}; engine / joblib "
        f"{', '.join(f'{r:.2f}' for r in ratios)}, median {median(ratios):.2f}"
    )
    return median(ratios)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
