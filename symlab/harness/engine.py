"""From plans to rows: chunks of lanes over joblib, each result safe once it is in.

The parent is the only writer. It takes results as they finish, so a worker that dies
takes along only what was running; that is tried again, one run per process, and a run
that kills its process twice becomes a failed row.
"""

import math
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from importlib import metadata

from tqdm import tqdm

from symlab.harness import contract, sweep, worker
from symlab.harness.errors import UserError
from symlab.harness.plan import Plan, default_jobs
from symlab.harness.project import Project
from symlab.harness.store import NUMBERS, column_type

PACKAGES = ("numpy", "scipy", "torch", "torchvision", "scikit-learn", "joblib")
BACKENDS = ("loky", "dask", "ray")
FLUSH = 0.05  # seconds of work that may be lost to a kill: a part file costs a tenth


@dataclass
class Report:
    """What one call of the engine did."""

    ok: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)  # (run, error)
    interrupted: bool = False
    seconds: float = 0.0


def run(
    project: Project,
    plans: list[Plan],
    *,
    jobs: int | None = None,
    backend: str = "loky",
    device: str = "cpu",
    quiet: bool = False,
) -> Report:
    """Run what each plan lacks; rows are on disk and packed when this ends.

    A failure is a row and never an exception; Ctrl-C ends the call with what finished.
    """
    jobs = jobs or (1 if device == "cuda" else default_jobs())
    report, start = Report(), time.perf_counter()
    tasks = [t for p in plans for t in _tasks(project, p, jobs, device)]
    tasks.sort(key=lambda t: -t["cost"])  # the long ones first, so that none ends late
    if not tasks:
        for plan in plans:
            plan.store.pack()  # a call that was killed may have left parts
        return report
    sink = _Sink(project, plans, report)
    cost = {k: c for p in plans for k, c in p.seconds.items()}
    try:
        with _Progress(tasks, cost, jobs, quiet) as bar:
            for task, outcomes in _outcomes(tasks, jobs, backend):
                sink.take(task, outcomes)
                bar(outcomes)
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        sink.close()
        report.seconds = time.perf_counter() - start
    return report


# --- tasks ---------------------------------------------------------------------------


def _tasks(project: Project, plan: Plan, jobs: int, device: str) -> Iterator[dict]:
    """Chunks of at most LANES configs that agree in STATIC, even over the workers."""
    experiment = plan.experiment
    groups: dict[tuple, list] = {}
    for config in plan.todo:
        groups.setdefault(tuple(config[f] for f in experiment.static), []).append(
            config
        )
    checkpoints = plan.store.parts / "checkpoints"
    for configs in groups.values():
        n_chunks = max(
            math.ceil(len(configs) / experiment.lanes),
            min(jobs, len(configs)) if experiment.lanes > 1 else 1,
        )
        size = math.ceil(len(configs) / n_chunks)
        for i in range(0, len(configs), size):
            chunk = configs[i : i + size]
            keys = [sweep.key(c) for c in chunk]
            yield {
                "root": str(project.root),
                "name": experiment.name,
                "code": plan.code,
                "device": device if device in experiment.devices else "cpu",
                "configs": chunk,
                "keys": keys,
                "checkpoints": str(checkpoints / _digest([plan.code, *keys])),
                "cost": sum(plan.seconds.get(k, 0.0) for k in keys),
            }


def _digest(words: list[str]) -> str:
    return sha256(" ".join(words).encode()).hexdigest()[:16]


def _singles(task: dict) -> list[dict]:
    pairs = zip(task["configs"], task["keys"], strict=True)
    return [{**task, "configs": [c], "keys": [k]} for c, k in pairs]


# --- joblib --------------------------------------------------------------------------


def _outcomes(tasks: list[dict], jobs: int, backend: str) -> Iterator:
    """(task, outcomes) as they finish; survives workers that die."""
    waiting = {id(t): t for t in tasks}
    while waiting:
        running: dict[int, dict] = {}  # handed to joblib and not yet back
        try:
            for i, outcomes in _pool(waiting, running, jobs, backend):
                running.pop(i)
                yield waiting.pop(i), outcomes
        except Exception as error:
            if not _worker_died(error):
                raise
            tqdm.write(
                "a worker process died; what it ran is tried again, one run at a time",
                file=sys.stderr,
            )
            suspects = [waiting.pop(i) for i in list(running or waiting)]
            yield from _one_by_one([t for s in suspects for t in _singles(s)], backend)


_KILLED = (
    "the worker process died while running this (out of memory, or killed): "
    "see whether the run fits this machine"
)


def _one_by_one(tasks: list[dict], backend: str) -> Iterator:
    """Suspects, each alone in a pool: who kills its process again is a failed row."""
    for task in tasks:
        try:
            for _, outcomes in _pool({0: task}, {}, 1, backend, isolate=True):
                yield task, outcomes
        except Exception as error:
            if not _worker_died(error):
                raise
            yield task, [worker.outcome(task, task["keys"][0], error=_KILLED)]


def _pool(
    tasks: dict[int, dict],
    running: dict,
    jobs: int,
    backend: str,
    isolate: bool = False,
) -> Iterator:
    """Run tasks on a joblib backend; with one job in this process, unless isolated."""
    _check_backend(backend)
    edits, outdated = contract.edits()
    if jobs == 1 and backend == "loky" and not isolate and not outdated:
        with worker.OneThread():
            for i, task in list(tasks.items()):
                running[i] = task
                yield i, worker.execute(task)
        return
    import joblib

    def calls():
        for i, task in list(tasks.items()):
            running[i] = task
            yield joblib.delayed(_tagged)(i, task)

    jobs = max(jobs, 2)  # joblib runs n_jobs=1 in this process
    if backend == "loky" and edits != _pool_edits[0]:
        joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
        _pool_edits[0] = edits  # workers that imported older code are gone
    with _pool_of(backend, jobs), warnings.catch_warnings():
        # loky says so when a long task keeps a worker busy past its idle time
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")
        # and joblib, when we stop early
        warnings.filterwarnings("ignore", ".*have been cancelled")
        yield from joblib.Parallel(
            return_as="generator_unordered", batch_size=1, max_nbytes=None
        )(calls())


_pool_edits = [0]  # the edits that the reusable workers have seen


def _check_backend(backend: str) -> None:
    if backend not in BACKENDS:
        raise UserError(
            f"unknown backend {backend!r}: use {', '.join(BACKENDS)} (threads would "
            "share one random generator and one set of BLAS threads)"
        )


def _tagged(i: int, task: dict) -> tuple[int, list[dict]]:
    worker.settle()
    return i, worker.execute(task)


@contextmanager
def _pool_of(backend: str, jobs: int) -> Iterator[None]:
    """joblib set to a backend; dask and ray are started here unless they run."""
    import joblib

    with ExitStack() as stack:
        options = {"inner_max_num_threads": 1} if backend == "loky" else {}
        try:
            if backend == "dask":
                stack.enter_context(_dask_client(jobs))
            elif backend == "ray":
                from ray.util.joblib import register_ray

                register_ray()
            config = joblib.parallel_config(backend=backend, n_jobs=jobs, **options)
        except (ValueError, ImportError) as error:
            raise UserError(
                f"the backend {backend!r} is not at hand "
                f"({str(error).splitlines()[0]}): use loky, or install it "
                "(pip install 'symlab[dask]', or ray)"
            ) from None
        with config:
            yield


def _dask_client(jobs: int):
    """The cluster at DASK_SCHEDULER_ADDRESS, or a local one of one-thread workers."""
    import dask
    from dask.distributed import Client

    if dask.config.get("scheduler-address", None):
        return Client()
    return Client(
        n_workers=jobs, threads_per_worker=1, memory_limit=0, dashboard_address=None
    )


def _worker_died(error: Exception) -> bool:
    return type(error).__name__ in (
        "TerminatedWorkerError",
        "BrokenProcessPool",
        "KilledWorker",
        "WorkerCrashedError",
    )


# --- rows ----------------------------------------------------------------------------


class _Sink:
    """Makes rows of outcomes and puts them on disk."""

    def __init__(self, project: Project, plans: list[Plan], report: Report):
        self.plans = {p.experiment.name: p for p in plans}
        self.report = report
        self.about = {"threads": 1, "versions": _versions(), **_git(project)}
        self.waiting: dict[str, list[dict]] = {name: [] for name in self.plans}
        self.checkpoints: dict[str, list[str]] = {name: [] for name in self.plans}
        self.types = {name: _types(p) for name, p in self.plans.items()}

    def take(self, task: dict, outcomes: list[dict]) -> None:
        name = task["name"]
        configs = dict(zip(task["keys"], task["configs"], strict=True))
        for outcome in outcomes:
            self.waiting[name].append(self._row(name, configs, outcome, task["code"]))
        self.checkpoints[name].append(task["checkpoints"])
        if sum(r["wall_s"] for r in self.waiting[name]) >= FLUSH:
            self._flush(name)

    def _row(self, name: str, configs: dict, outcome: dict, code: str) -> dict:
        result = outcome.pop("result")
        config = configs[outcome["key"]]
        if not outcome["error"]:
            outcome["error"] = self._misfit(name, config, result)
        if outcome["error"]:
            outcome["status"] = "failed"
            shown = ", ".join(f"{k}={v}" for k, v in config.items())
            self.report.failed.append((f"{name}({shown})", outcome["error"]))
        else:
            self.report.ok += 1
        finished = datetime.now(UTC).isoformat(timespec="microseconds")
        kept = result if outcome["status"] == "ok" else {}
        return {
            "key": outcome["key"],
            "code": code,
            **config,
            **kept,
            **{k: outcome[k] for k in ("status", "error", "lanes", "wall_s", "device")},
            **self.about,
            "finished": finished,
        }

    def _misfit(self, name: str, config: dict, result: dict) -> str:
        """What keeps a result out of the table, '' if it fits the rows before it."""
        if clash := set(result) & {*config, *contract.RESERVED}:
            return (
                f"run returned {sorted(clash)}, which are columns already: rename them"
            )
        types = self.types[name]
        for column, value in result.items():
            kind, old = column_type(column, [value]), types.get(column)
            if value == [] or old is None or old == kind or {old, kind} in NUMBERS:
                continue
            return (
                f"column {column!r} is {kind} here and {old} in other rows: return one "
                f"type, or rename it if rows of older code are meant to keep theirs"
            )
        for column, value in result.items():
            if value != []:
                types.setdefault(column, column_type(column, [value]))
        return ""

    def _flush(self, name: str) -> None:
        rows, plan = self.waiting[name], self.plans[name]
        if rows:
            plan.store.write_part(rows, {plan.code: plan.manifest})
            if all(r["status"] == "ok" for r in rows):
                for folder in self.checkpoints[name]:
                    shutil.rmtree(folder, ignore_errors=True)
            self.waiting[name], self.checkpoints[name] = [], []

    def close(self) -> None:
        for name, plan in self.plans.items():
            self._flush(name)
            plan.store.pack()
            plan.frame = plan.store.frame()


def _types(plan: Plan) -> dict:
    """Column types of the rows there are, of any code: new rows share their table."""
    table = plan.store.read()
    if table is None:
        return {}
    return {f.name: f.type for f in table.schema if str(f.type) != "null"}


def _versions() -> str:
    found = [f"python {sys.version.split()[0]}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _git(project: Project) -> dict:
    """The commit of the project, and whether files differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(project.root), *words],
            text=True,
            capture_output=True,
            check=False,
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return {"git": commit, "dirty": bool(git("status", "--porcelain"))}
    except OSError:
        return {"git": "", "dirty": False}


# --- progress ------------------------------------------------------------------------


class _Progress:
    """One bar over all runs; the ETA weighs each run by its expected seconds."""

    def __init__(self, tasks: Iterable[dict], cost: dict, jobs: int, quiet: bool):
        keys = [k for t in tasks for k in t["keys"]]
        self.cost = {k: cost.get(k) for k in keys}
        self.jobs, self.start, self.done = jobs, time.perf_counter(), set()
        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=len(keys),
            unit="run",
            disable=quiet,
            file=sys.stderr,
            mininterval=0.1 if terminal else 20,
            dynamic_ncols=True,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
        )

    def __enter__(self):
        self._show()
        return self

    def __call__(self, outcomes: list[dict]) -> None:
        self.done |= {o["key"] for o in outcomes}
        failed = sum(o["status"] == "failed" for o in outcomes)
        self.bar.update(len(outcomes))
        self._show(failed)

    def _show(self, failed: int = 0) -> None:
        from symlab.harness.plan import duration

        left = [c for k, c in self.cost.items() if k not in self.done]
        known = [c for c in left if c is not None]
        if known:
            self.bar.set_postfix_str(
                f"ETA {duration(sum(known) / self.jobs)}", refresh=False
            )
        if failed:
            tqdm.write(f"{failed} run(s) failed, the others go on", file=sys.stderr)

    def __exit__(self, *_):
        self.bar.close()


def check_device(device: str) -> None:
    """One sentence when CUDA is asked for and not there."""
    if device not in ("cpu", "cuda"):
        raise UserError(f"unknown device {device!r}: use cpu or cuda")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("DEVICE=cuda, but torch sees no GPU here: use DEVICE=cpu")
    os.environ["SYMLAB_DEVICE"] = device
