"""What is to do: which runs are fresh, stale and why, missing, failed; how long."""

import os
from dataclasses import dataclass, field
from statistics import median

import pandas as pd

from symlab.harness import code, contract, sweep
from symlab.harness.errors import UserError
from symlab.harness.project import Project
from symlab.harness.store import Store

STATES = ("fresh", "stale", "missing", "failed")


@dataclass
class Plan:
    """One experiment at one scale: its runs, and the rows that are there already."""

    experiment: contract.Experiment
    scale: str
    store: Store
    configs: list[dict]  # typed, all that were asked for
    frame: pd.DataFrame  # rows on disk, of any code; the engine reads them again
    state: dict[str, str] = field(default_factory=dict)  # key -> one of STATES
    reasons: list[str] = field(default_factory=list)  # definitions that changed
    seconds: dict[str, float] = field(default_factory=dict)  # key -> expected

    @property
    def code(self) -> str:
        return self.experiment.reached.code

    @property
    def manifest(self) -> dict[str, str]:
        return self.experiment.reached.definitions

    @property
    def todo(self) -> list[dict]:
        return [c for c in self.configs if self.state[sweep.key(c)] != "fresh"]

    @property
    def eta(self) -> float:
        """Expected CPU-seconds; runs that nobody has timed count as nothing."""
        return sum(self.seconds.get(sweep.key(c), 0.0) for c in self.todo)

    def rows(self) -> pd.DataFrame:
        """The current rows of this sweep, in its order: what is drawn and judged."""
        keys = [sweep.key(c) for c in self.configs]
        good = self.store.frame(self.code)
        good = good.set_index("key", drop=False)
        return good.loc[[k for k in keys if k in good.index]].reset_index(drop=True)

    def describe(self) -> str:
        counts = {s: list(self.state.values()).count(s) for s in STATES}
        text = ", ".join(f"{n} {s}" for s, n in counts.items() if n)
        line = f"{self.experiment.name} ({self.scale}): {text}"
        if self.reasons:
            more = len(self.reasons) - 4
            tail = f" and {more} more" if more > 0 else ""
            line += f"\n    stale because of {', '.join(self.reasons[:4])}{tail}"
        return line


def make(
    project: Project,
    name: str,
    scale: str,
    *,
    query: str | None = None,
    seed0: int = 0,
    fresh: bool = False,
) -> Plan | None:
    """The plan of one experiment; None where it lacks a field of the query."""
    experiment = contract.load(project, name)
    configs = experiment.configs(scale, seed0)
    if query:
        configs = sweep.only(configs, query)
        if configs is None:
            return None
    store = Store(project.results / scale, name)
    plan = Plan(
        experiment,
        scale,
        store,
        configs,
        store.frame(),
    )
    _classify(plan, fresh)
    _estimate(plan, project)
    return plan


def make_all(project: Project, names: list[str], scale: str, **options) -> list[Plan]:
    """Plans of several experiments; a query must select something in one of them."""
    plans = [make(project, name, scale, **options) for name in names]
    query = options.get("query")
    if query and all(p is None for p in plans):
        known = {f for n in names for f in _fields(contract.load(project, n))}
        raise UserError(
            f"the query {query!r} names a field that no experiment of "
            f"this call has: the fields are {', '.join(sorted(known))}"
        )
    plans = [p for p in plans if p is not None]
    if not any(p.configs for p in plans):
        why = f"the query {query!r} selects no run" if query else "the sweep is empty"
        raise UserError(f"{why}: nothing to do")
    return [p for p in plans if p.configs]


def _fields(experiment) -> list[str]:
    from dataclasses import fields

    return [f.name for f in fields(experiment.module.Config)]


def _classify(plan: Plan, fresh: bool) -> None:
    rows, current = plan.frame, plan.code
    status = dict(zip(zip(rows.key, rows.code, strict=True), rows.status, strict=True))
    old = set(rows.key[rows.code != current])
    for config in plan.configs:
        key = sweep.key(config)
        state = {"ok": "fresh", "failed": "failed"}.get(status.get((key, current)))
        plan.state[key] = state or ("stale" if key in old else "missing")
        if fresh and state == "fresh":
            plan.state[key] = "missing"
    if "stale" in plan.state.values():
        stale = rows[rows.code != current].sort_values("finished")
        before = plan.store.manifests().get(stale.code.iloc[-1], {})
        plan.reasons = code.changed(before, plan.manifest)


def _estimate(plan: Plan, project: Project) -> None:
    """Seconds of the same run, else of runs of equal STATIC fields, else of any."""
    reference = Store(project.reference / plan.scale, plan.experiment.name)
    frames = [f[f.status == "ok"] for f in (reference.frame(), plan.frame)]
    columns = ["key", "wall_s", *plan.experiment.static]
    timed = pd.concat(
        [f[[c for c in columns if c in f]] for f in frames if len(f)]
        or [plan.frame[:0]]
    )
    if timed.empty:
        return
    same = dict(zip(timed.key, timed.wall_s, strict=True))
    fields = [f for f in plan.experiment.static if f in timed]
    alike: dict[tuple, list[float]] = {}
    for *values, wall in timed[[*fields, "wall_s"]].itertuples(index=False):
        alike.setdefault(tuple(values), []).append(wall)
    for config in plan.configs:
        key, group = sweep.key(config), tuple(config[f] for f in fields)
        plan.seconds[key] = same.get(key) or median(alike.get(group, timed.wall_s))


def duration(seconds: float) -> str:
    """'45 s', '7 min', '2.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def summary(plans: list[Plan], jobs: int) -> str:
    """What the plan says before anything runs."""
    lines = [p.describe() for p in plans]
    todo = sum(len(p.todo) for p in plans)
    if not todo:
        return "\n".join([*lines, "everything is fresh: nothing to run"])
    unknown = sum(sweep.key(c) not in p.seconds for p in plans for c in p.todo)
    eta = sum(p.eta for p in plans) / jobs
    guess = (
        f"about {duration(eta)} with {jobs} workers" if eta else "time not known yet"
    )
    guess += f" plus {unknown} runs nobody has timed" if unknown and eta else ""
    return "\n".join([*lines, f"to run: {todo}, {guess}"])


def default_jobs() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
