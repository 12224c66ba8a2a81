"""A plan: which runs of an experiment are fresh, stale, missing or failed, and their
time.
"""

import math
import os
from dataclasses import dataclass, field, replace
from statistics import median

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from symlab.harness import code, columns, contract
from symlab.harness.errors import UserError
from symlab.harness.progress import duration
from symlab.harness.project import Project
from symlab.harness.query import only
from symlab.harness.store import Store, manifests

STATES = ("fresh", "repeated", "stale", "missing", "failed")  # repeated: by FRESH=1


@dataclass
class Plan:
    """The runs of one experiment at one scale, and which of them already have result
    rows.

    configs: {key: config} of the runs that were asked for. wanted: the number of runs
        of the whole sweep.
    table: all rows on disk when the plan was made, of any version of the code.
    state: {key: 'fresh', 'repeated' (has a row and is made again), 'stale', 'missing'
        or 'failed'}.
    reasons: the definitions whose change made rows stale.
    seconds: {key: expected seconds}. timed_here: whether they come from rows of this
        store.
    strict: whether rows made with other versions of packages are stale. upgrades: how
        those versions differ from the installed ones.
    """

    experiment: contract.Experiment
    scale: str
    store: Store
    configs: dict[str, dict]  # key -> typed config, all that were asked for
    table: pa.Table  # rows on disk when the plan was made, of any code
    wanted: int  # runs of the whole sweep, whether asked for or not
    state: dict[str, str] = field(default_factory=dict)  # key -> one of STATES
    reasons: list[str] = field(default_factory=list)  # definitions that changed
    seconds: dict[str, float] = field(default_factory=dict)  # key -> expected
    strict: bool = False  # whether rows of other versions of packages are stale
    timed_here: bool = True  # whether these seconds are of rows of this store
    upgrades: list[str] = field(default_factory=list)  # how versions differ
    _rows: tuple[pa.Table, pd.DataFrame] | None = field(default=None, repr=False)

    @property
    def code(self) -> str:
        """The key of the code that the experiment's `run` reaches now.

        It is the column `code` of new rows.
        """
        return self.experiment.reached.code

    @property
    def manifest(self) -> dict[str, str]:
        """{definition: hash} of the code that the experiment's `run` reaches at
        present.
        """
        return self.experiment.reached.definitions

    @property
    def blocked(self) -> str:
        """A sentence on why the missing runs cannot be made here; '' if they can, or if
        none is missing.

        Optional packages or input files may be missing.
        """
        lacks = self.experiment.lacks
        return lacks if lacks and self.todo else ""

    @property
    def todo(self) -> dict[str, dict]:
        """{key: config} of the runs to make: those without a current row, or to be
        repeated.
        """
        return {k: c for k, c in self.configs.items() if self.state[k] != "fresh"}

    @property
    def eta(self) -> float:
        """The expected seconds of the runs to make, on one core.

        A run that was never timed adds 0.
        """
        return sum(self.seconds.get(k, 0.0) for k in self.todo)

    def rows(self) -> pd.DataFrame:
        """Return the rows of this sweep that the present code made, in the order of the
        sweep.
        """
        table = self.store.read()
        if self._rows is None or self._rows[0] is not table:
            self._rows = table, self._current()
        return self._rows[1].copy()  # who draws or judges may add columns

    def lacking(self) -> str:
        """Return as text how many runs of the sweep have no current row, and why.

        An example is '300 runs are stale, 20 are missing'.
        """
        now = replace(self, table=self.store.read(), state={})
        _classify(now, fresh=False)
        states = list(now.state.values())
        counts = {
            "are stale": states.count("stale"),
            "are missing": states.count("missing"),
            "failed": states.count("failed"),
            "were not asked for": self.wanted - len(self.configs),
        }
        parts = [f"{n} {what}" for what, n in counts.items() if n]
        return ", ".join(parts).replace(" ", " runs ", 1)

    def _current(self) -> pd.DataFrame:
        good = self.store.frame(self.code, self.configs).set_index("key", drop=False)
        if self.strict:
            differs = {v: bool(self.differences(v)) for v in good.versions.unique()}
            good = good[~good.versions.map(differs).astype(bool)]
        found = set(good.key)
        there = [k for k in self.configs if k in found]
        return good.loc[there].reset_index(drop=True).infer_objects()

    def differences(self, made_with: str) -> list[str]:
        """Return how the package versions that made a row differ from the installed
        ones.

        made_with: the row's column `versions`.

        There is one phrase for each package. The part of a version after +, which names
        a build, as in 2.13.0+cpu, is not compared.
        """
        words = [part.split(" ", 1) for part in (made_with or "").split(", ") if part]
        there = {name: version for name, *rest in words for version in rest}
        here = self.experiment.reached.versions
        found = [
            f"made with {name} {there[name]}, here {version}"
            for name, version in here.items()
            if name in there and there[name].split("+")[0] != version.split("+")[0]
        ]
        if unknown := sorted(here.keys() - there.keys()):
            found.append(f"made with unknown versions of {', '.join(unknown)}")
        return found

    def describe(self) -> str:
        """Return the plan as text for the terminal.

        It says how many runs are fresh, stale, missing or failed, why rows are stale,
        and the expected time.
        """
        counts = {s: list(self.state.values()).count(s) for s in STATES}
        shown = {"repeated": "fresh (run again)"}
        text = ", ".join(f"{n} {shown.get(s, s)}" for s, n in counts.items() if n)
        line = f"{self.experiment.name} ({self.scale}): {text}"
        if self.reasons:
            more = len(self.reasons) - 4
            tail = f" and {more} more" if more > 0 else ""
            line += f"\n    stale because of {', '.join(self.reasons[:4])}{tail}"
        if self.upgrades:
            stale = "so these rows are stale"
            said = stale if self.strict else "STRICT=1 runs them anew"
            line += f"\n    {'; '.join(self.upgrades[:6])} ({said})"
        if self.blocked:
            line += f"\n    not run: {self.experiment.name} {self.blocked}"
        if unseen := self.experiment.reached.compiled:
            line += (
                f"\n    not followed: {', '.join(unseen)}, of which there is no Python "
                "source; use FRESH=1 after a change there"
            )
        return line


def make(
    project: Project,
    name: str,
    scale: str,
    *,
    query: str | None = None,
    seed0: int = 0,
    fresh: bool = False,
    strict: bool = False,
) -> Plan | None:
    """Return the plan of one experiment at a scale: which of its runs are missing.

    name: of the experiment. scale: the size of the sweep.
    query: a condition on the fields of a config (see query.py), which selects runs; the
        plan is None if the experiment lacks a field of the condition.
    seed0: a number that is added to every seed.
    fresh: whether runs that have current rows are made again.
    strict: whether rows made with other versions of packages count as stale.
    """
    experiment = contract.load(project, name)
    configs = experiment.configs(scale, seed0)
    _check_configs(name, configs)
    wanted = len(configs)
    if query:
        configs = only(configs, query)
        if configs is None:
            return None
    store = Store(project.results / scale, name)
    committed = Store(project.reference / scale, name)
    if experiment.lacks and not store.read().num_rows and committed.read().num_rows:
        store, fresh = committed, False  # these can be judged and drawn all the same
    plan = Plan(experiment, scale, store, configs, store.read(), wanted, strict=strict)
    _classify(plan, fresh)
    if plan.todo:
        _estimate(plan, project)
    return plan


def _check_configs(name: str, configs: dict[str, dict]) -> None:
    """One sentence before anything runs, where a config has no place in a table."""
    for column in next(iter(configs.values()), {}):
        for value in dict.fromkeys(c[column] for c in configs.values()):
            try:
                columns.kind(column, value)
            except TypeError as error:
                raise UserError(f"a config of {name}: {error}") from None


def make_all(project: Project, names: list[str], scale: str, **options) -> list[Plan]:
    """Return the plans of several experiments.

    options: further arguments of `make`.

    Raises UserError if a query selects no run in any of them.
    """
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
    mine = pc.fill_null(pc.equal(plan.table["code"], plan.code), False)
    current, others = plan.table.filter(mine), plan.table.filter(pc.invert(mine))
    old = set(others["key"].to_numpy())
    status = _by_key(current, "status")
    made_with = _by_key(current, "versions")
    known = {made_with[k] for k in plan.configs if k in made_with}
    differs = {text: plan.differences(text) for text in known}
    plan.upgrades = sorted({clause for found in differs.values() for clause in found})
    for key in plan.configs:
        state = {"ok": "fresh", "failed": "failed"}.get(status.get(key))
        plan.state[key] = state or ("stale" if key in old else "missing")
        if fresh and state == "fresh":
            plan.state[key] = "repeated"
        elif plan.strict and state == "fresh" and differs[made_with[key]]:
            plan.state[key] = "stale"
    if old and any(plan.state[k] == "stale" for k in old & plan.state.keys()):
        before = manifests(plan.table).get(others["code"][-1].as_py(), {})
        plan.reasons = code.changed(before, plan.manifest)


def _by_key(table: pa.Table, column: str) -> dict:
    """{key of a run: value}; None where the table has no such column."""
    keys = table["key"].to_numpy()
    if column not in table.column_names:
        return dict.fromkeys(keys)
    return dict(zip(keys, table[column].to_numpy(), strict=True))


def _estimate(plan: Plan, project: Project) -> None:
    """Seconds of the fastest run of these fields but the seed, else the median of runs
    of equal STATIC fields, else of any.

    Other programs only ever make a run slower, so the fastest of equal ones says most.
    """
    reference = Store(project.reference / plan.scale, plan.experiment.name)
    static = plan.experiment.static
    same: dict[str, float] = {}
    alike: dict[tuple, list[float]] = {}
    for table in (reference.read(), plan.table):
        good = table.filter(pc.equal(table["status"], "ok"))
        absent = [None] * len(good)
        names = ("key", "wall_s", *static)
        there = set(good.column_names)
        values = [good[n].to_pylist() if n in there else absent for n in names]
        for key, wall, *group in zip(*values, strict=True):
            same[key] = wall
            alike.setdefault(tuple(group), []).append(wall)
    if not same:
        return
    plan.timed_here = pc.any(pc.equal(plan.table["status"], "ok")).as_py() or False
    usual = {group: median(walls) for group, walls in alike.items()}
    other = median(same.values())
    equal = {k: tuple((c | {"seed": 0}).values()) for k, c in plan.configs.items()}
    fastest: dict[tuple, float] = {}
    for key in equal.keys() & same.keys():
        fastest[equal[key]] = min(same[key], fastest.get(equal[key], math.inf))
    for key, config in plan.configs.items():
        group = tuple(config[f] for f in static)
        plan.seconds[key] = fastest.get(equal[key], usual.get(group, other))


def summary(plans: list[Plan], jobs: int) -> str:
    """Return the text that a command prints before any run starts.

    It says what will be run, and how long that takes.

    jobs: how many runs are made at a time.
    """
    lines = [p.describe() for p in plans]
    plans = [p for p in plans if not p.blocked]
    todo = sum(len(p.todo) for p in plans)
    if not todo:
        return "\n".join([*lines, "everything is fresh: nothing to run" * bool(plans)])
    jobs = min(jobs, todo)  # no more have anything to do
    unknown = sum(k not in p.seconds for p in plans for k in p.todo)
    eta = sum(p.eta for p in plans) / jobs
    guess = (
        f"about {duration(eta)} with {jobs} workers" if eta else "time not known yet"
    )
    guess += f" plus {unknown} runs nobody has timed" if unknown and eta else ""
    if eta and not all(p.timed_here for p in plans if p.todo):
        guess += ", if this machine is as fast as that of the committed rows was"
    return "\n".join([*lines, f"to run: {todo}, {guess}"])


def default_jobs() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
