"""What the engine gives to a run: the device, a file for its state, shared stages."""

import json
from pathlib import Path

import pytest

from symlab.harness import Context, contract, engine, plan, project, worker
from tests.conftest import SIMPLE

ASKS = """
def half(seed):
    import numpy as np
    with open(__file__ + ".log", "a") as file:
        file.write("computed ")
    return {"x": np.array([seed / 2])}


def run(configs, context):
    rows = []
    for c in configs:
        path = context.checkpoint(c)
        before = path.read_text() if path and path.exists() else "nothing"
        if path:
            path.write_text(f"state of {c.x}")
        y = c.x * float(context.shared(half, seed=7)["x"][0])
        rows.append({"y": y, "where": context.device, "before": before,
                     "path": str(path)})
    return rows
"""


def asking(sandbox, devices: str = ""):
    """The sandbox's experiment with a run that asks for a context."""
    head, tail = SIMPLE.split("def run(configs):")
    text = head + devices + ASKS.strip() + "\n\n\n" + tail[tail.index("@figure") :]
    sandbox.write("experiments/line.py", text)
    return project.find(sandbox.root)


def tasks(here, device: str = "cpu", jobs: int = 1) -> list[dict]:
    return list(engine._tasks(here, plan.make(here, "line", "smoke"), jobs, device))


def results(task: dict) -> list[dict]:
    found = worker.execute(task)
    assert not [o["error"] for o in found if o["error"]]
    return [o["result"] for o in found]


def computed(sandbox) -> int:
    return (sandbox.root / "experiments/line.py.log").read_text().count("computed")


def test_tasks_share_a_stage_and_each_keeps_its_own_state(sandbox):
    chunks = tasks(asking(sandbox))
    assert len(chunks) == 3
    first = [row for task in chunks for row in results(task)]
    assert computed(sandbox) == 1
    assert {row["before"] for row in first} == {"nothing"}
    assert len({row["path"] for row in first}) == len(first) == 12
    again = [row for task in chunks for row in results(task)]
    assert computed(sandbox) == 1
    xs = [c["x"] for task in chunks for c in task["configs"]]
    assert [row["before"] for row in again] == [f"state of {x}" for x in xs]
    assert [row["y"] for row in first] == [3.5 * x for x in xs]


@pytest.mark.parametrize("devices", ["", 'DEVICES = ("cpu", "cuda")\n\n\n'])
def test_a_run_gets_the_device_of_the_call_where_it_can_follow(sandbox, devices):
    here = asking(sandbox, devices)
    task = tasks(here, device="cuda")[0]
    assert {row["where"] for row in results(task)} == {"cuda" if devices else "cpu"}


def test_without_the_engine_a_run_computes_on_the_cpu_and_keeps_nothing(sandbox):
    experiment = contract.load(asking(sandbox), "line")
    config = {"x": 2.0, "seed": 0}
    (row,) = experiment.run([config])
    assert row == {"y": 7.0, "where": "cpu", "before": "nothing", "path": "None"}
    assert experiment.run([config], Context()) == [row]
    assert sorted(p.name for p in sandbox.root.iterdir() if p.name == "results") == []


def test_the_context_is_in_no_key(sandbox):
    """Code that the harness runs for a context does not make rows stale."""
    reached = contract.load(asking(sandbox), "line").reached.definitions
    assert "experiments.line:half" in reached
    assert not [name for name in reached if "context" in name or "stage" in name]


def test_states_are_removed_with_their_task_and_stages_stay(sandbox):
    asking(sandbox)
    done = sandbox("run", "line", "--scale", "smoke", "--jobs", 2)
    assert done.returncode == 0, done.stderr
    rows = sandbox.rows(scale="smoke")
    assert (rows.status == "ok").all()
    left = [p for p in (sandbox.root / "results").rglob("*.st*")]
    assert [p.suffix for p in left] == [".stage"], json.dumps([str(p) for p in left])


def test_seeds_are_outermost_whatever_the_order_of_the_sweep(sandbox):
    """Twelve configs, seeds innermost in the sweep: three chunks of four."""
    here = project.find(sandbox.root)
    chunks = tasks(here)
    seeds = [[c["seed"] for c in task["configs"]] for task in chunks]
    assert seeds == [[0, 0, 0, 1], [1, 1, 2, 2], [2, 3, 3, 3]]
    xs = [c["x"] for task in chunks for c in task["configs"]]
    assert xs == [1.0, 2.0, 3.0] * 4


def test_state_stays_until_both_halves_of_a_call_are_safe(sandbox):
    """A call that lost its process goes on as two; they share a folder for state."""
    here = asking(sandbox)
    made = plan.make(here, "line", "smoke")
    (task, *_) = tasks(here)
    folder, n = Path(task["checkpoints"]), len(task["keys"])
    sink = engine._Sink(here, [made], engine.Report(), [task])
    for part in (slice(0, n // 2), slice(n // 2, n)):
        half = task | {k: task[k][part] for k in ("keys", "configs")}
        folder.mkdir(parents=True, exist_ok=True)
        sink.take(half, worker.execute(half))
        sink._flush("line")
        assert folder.exists() == (part.start == 0)
