"""Makes the runs that plans lack, and writes each result to disk as soon as it arrives.

Configs are grouped into tasks for worker processes. Only the calling process writes: it
turns results into rows and stores them.
"""

import math
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from time import perf_counter

from symlab.harness import columns, machine, pool, registration
from symlab.harness.errors import UserError
from symlab.harness.plan import Plan, default_jobs
from symlab.harness.progress import Progress
from symlab.harness.project import Project
from symlab.harness.store import META

FLUSH = 0.05  # seconds of work that may be lost to a kill: a part file costs a tenth
FLUSH_BYTES = 2**26  # of results that wait in memory to be written


@dataclass
class Report:
    """What happened to the runs that a call of `run` was to make.

    ok: the number of runs that succeeded.
    failed: (run, error) of each run that failed.
    interrupted: whether Ctrl-C ended the call.
    seconds: how long the call took.
    """

    ok: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)  # (run, error)
    interrupted: bool = False
    seconds: float = 0.0


def run(
    project: Project,
    plans: list[Plan],
    *,
    jobs: int | None = None,
    backend: str = "joblib",
    device: str = "cpu",
    quiet: bool = False,
    timeout: float = 0.0,
    scheduler: str = "",
) -> Report:
    """Make the runs that each plan lacks; on return their result rows are on disk.

    plans: plans whose experiments need a package that is not installed are left out.
    jobs: how many calls of an experiment's `run` are made at a time, each in a process
        of its own; None for one per core, or one on a GPU.
    backend: 'joblib' (processes of this machine), 'dask' or 'ray'.
    device: 'cpu' or 'cuda'.
    quiet: whether no progress is shown.
    timeout: the seconds that a call may take, 0 for any. A call that takes longer is
        stopped, and its configs are tried again in two halves, down to single runs,
        which then fail.
    scheduler: the address of a running cluster.

    A run that fails becomes a row with its error, and raises nothing. Ctrl-C ends the
    call; rows of finished runs are kept.
    """
    backend = pool.known(backend)
    plans = [p for p in plans if not p.blocked]
    jobs = jobs or (1 if device == "cuda" else default_jobs())
    report, start = Report(), perf_counter()
    for plan in plans:
        if plan.todo:
            plan.store.check()
    tasks = [t for p in plans for t in _tasks(project, p, jobs, device)]
    tasks.sort(key=lambda t: -t["cost"])  # the long ones first, so that none ends late
    for task in tasks:
        task["timeout"] = timeout
    if not tasks:
        for plan in plans:
            plan.store.pack()  # a call that was killed may have left parts
        return report
    jobs = min(jobs, len(tasks))
    sink = _Sink(project, plans, report, tasks)
    cost = {k: c for p in plans for k, c in p.seconds.items()}
    try:
        with Progress(tasks, cost, jobs, quiet) as bar:
            for task, outcomes in pool.outcomes(tasks, jobs, backend, scheduler):
                sink.take(task, outcomes)
                bar(outcomes)
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        sink.close()
        report.seconds = perf_counter() - start
    return report


# --- tasks ---------------------------------------------------------------------------


def _tasks(project: Project, plan: Plan, jobs: int, device: str) -> Iterator[dict]:
    """Chunks of at most LANES configs that agree in STATIC, even over the workers.

    Seeds are outermost, whatever the order of the sweep: the lanes of a chunk then have
    few seeds and draw little, and an interrupted sweep has whole seeds.
    """
    experiment = plan.experiment
    groups: dict[tuple, list[str]] = {}
    for key, config in plan.todo.items():
        groups.setdefault(tuple(config[f] for f in experiment.static), []).append(key)
    checkpoints, code = plan.store.parts / "checkpoints", plan.code
    for static, group in groups.items():
        group.sort(key=lambda key: plan.configs[key]["seed"])  # else as in the sweep
        n_chunks = max(
            math.ceil(len(group) / experiment.lanes),
            min(jobs, len(group)) if experiment.lanes > 1 else 1,
        )
        size = math.ceil(len(group) / n_chunks)
        for i in range(0, len(group), size):
            keys = group[i : i + size]
            yield {
                "root": str(project.root),
                "name": experiment.name,
                "code": code,
                "device": device if device in experiment.devices else "cpu",
                "configs": [plan.configs[k] for k in keys],
                "keys": keys,
                "checkpoints": f"{checkpoints}/{_digest([code, *keys])}",
                "cost": sum(plan.seconds.get(k, 0.0) for k in keys),
                "alike": (experiment.name, *static),  # tasks that may take as long
            }


def _digest(words: list[str]) -> str:
    return sha256(" ".join(words).encode()).hexdigest()[:16]


# --- rows ----------------------------------------------------------------------------


class _Sink:
    """Makes rows of outcomes and puts them on disk."""

    def __init__(
        self, project: Project, plans: list[Plan], report: Report, tasks: list[dict]
    ):
        self.plans = {p.experiment.name: p for p in plans}
        self.report = report
        self.about = {"threads": 1, **origin(project)}
        self.of_plan = {name: _history(p) for name, p in self.plans.items()}
        self.waiting: dict[str, list[dict]] = {name: [] for name in self.plans}
        self.seconds = dict.fromkeys(self.plans, 0.0)
        self.bytes = dict.fromkeys(self.plans, 0)
        self.checkpoints: dict[str, list[str]] = {name: [] for name in self.plans}
        self.unfinished = {t["checkpoints"]: len(t["keys"]) for t in tasks}
        self.kinds = {name: _kinds(p) for name, p in self.plans.items()}

    def take(self, task: dict, outcomes: list[dict]) -> None:
        name = task["name"]
        configs = dict(zip(task["keys"], task["configs"], strict=True))
        for outcome in outcomes:
            self.bytes[name] += sum(map(_size, outcome["result"].values()))
            self.waiting[name].append(self._row(name, configs, outcome, task["code"]))
        self.unfinished[task["checkpoints"]] -= len(outcomes)
        if not self.unfinished[task["checkpoints"]]:  # the halves of a call share it
            self.checkpoints[name].append(task["checkpoints"])
        self.seconds[name] += sum(o["wall_s"] for o in outcomes)
        if self.seconds[name] >= FLUSH or self.bytes[name] >= FLUSH_BYTES:
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
            **self.about,
            **self.of_plan[name],
            **outcome,  # of the machine that made it, versions and all
            "finished": finished,
        }

    def _misfit(self, name: str, config: dict, result: dict) -> str:
        """What keeps a result out of the table, '' if it fits the rows before it."""
        if clash := set(result) & {*config, *META}:
            return (
                f"run returned {sorted(clash)}, which are columns already: rename them"
            )
        known = self.kinds[name]
        found = {}
        for column, value in result.items():
            new = columns.kind(column, value)
            old = known.get(column, columns.NOTHING)
            found[column] = columns.joined(old, new)
            if not found[column]:
                return (
                    f"column {column!r} is {new} here and {old} in other rows: "
                    "return one type in every row"
                )
        known |= found
        return ""

    def _flush(self, name: str) -> None:
        rows, plan = self.waiting[name], self.plans[name]
        if rows:
            plan.store.write_part(rows, {plan.code: plan.manifest})
            if all(r["status"] == "ok" for r in rows):
                for folder in self.checkpoints[name]:
                    shutil.rmtree(folder, ignore_errors=True)
            self.waiting[name], self.checkpoints[name] = [], []
            self.seconds[name], self.bytes[name] = 0.0, 0  # what is not on disk yet

    def close(self) -> None:
        for name, plan in self.plans.items():
            self._flush(name)
            plan.store.pack()


def _kinds(plan: Plan) -> dict[str, str]:
    """The kinds of the results there are of this code: new rows share their columns."""
    frame = plan.store.current(plan.code)
    return {
        name: columns.kind_of(frame[name])
        for name in frame.column_names
        if name not in META
    }


def _history(plan: Plan) -> dict[str, str]:
    """What was so when the rows of this call were made; no freshness depends on it."""
    return {
        "versions": machine.versions(plan.experiment.reached.versions),
        "claims_digest": registration.digest(plan.experiment.claims),
    }


def _size(value) -> int:
    """About how many bytes a result takes in a column."""
    if type(value) is list and value and type(value[0]) is str:
        return sum(map(len, value))
    if type(value) is str:
        return len(value)
    return 8 * len(value) if type(value) is list else 8


def origin(project: Project) -> dict:
    """Return the columns `git` and `dirty` of a row as a dict.

    They are the git commit of the checkout, and whether files differ from it.
    """

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


def check_device(device: str, here: bool = True) -> None:
    """Raise UserError for an unknown device, and for "cuda" without a CUDA device.

    here: whether the runs are made on this machine.
    """
    if device not in ("cpu", "cuda"):
        raise UserError(f"unknown device {device!r}: use cpu or cuda")
    if device == "cuda" and here:
        import torch

        if not torch.cuda.is_available():
            raise UserError("DEVICE=cuda, but torch sees no GPU here: use DEVICE=cpu")
