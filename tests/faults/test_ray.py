"""What a sweep does where ray fails; ray itself is not needed, a stand-in fails for it.

ray ends the process that uses it by itself when the head of its cluster is gone, so the
sweep uses it in a process of its own. What ray really does was tried by hand, with
ray 2.60 (docs/cluster.md).
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from symlab.harness import cluster, engine, plan
from symlab.harness.errors import UserError
from symlab.harness.project import Project
from tests.conftest import SIMPLE
from tests.processes import LIMIT, children, running, until

HEAD, TAIL = SIMPLE.split("def run(configs):")
TAIL = TAIL[TAIL.index("@figure") :]
HEAD = HEAD.replace("LANES = 4", "LANES = 1").replace("[1.0, 2.0, 3.0]", "[1.0, 2.0]")
RUN = """
import os, time
from pathlib import Path


def run(configs):
    (c,) = configs
    time.sleep(0.1)  # so long that each row is written to disk at once
    while c.x == 2 and Path(GATE).exists():
        time.sleep(0.02)
    return [{"y": scale(c.x)}]


"""
WAIT = 120  # seconds, on a machine that ten others use


@pytest.fixture
def faults(sandbox, monkeypatch):
    """A folder whose files name the faults of the stand-in; a gate holds some runs."""
    folder = sandbox.root / "faults"
    folder.mkdir()
    (folder / "gate").touch()
    body = RUN.replace("GATE", repr(str(folder / "gate")))
    sandbox.write("experiments/line.py", HEAD + body + TAIL)
    monkeypatch.setenv("RAY_FAULTS", str(folder))
    monkeypatch.setenv("TMPDIR", str(sandbox.root))
    monkeypatch.syspath_prepend(Path(__file__).parent / "stand_in")
    yield folder
    (folder / "gate").unlink(missing_ok=True)


def sweep(sandbox, **options) -> engine.Report:
    project = Project(sandbox.root)
    made = plan.make(project, "line", "quick")
    options = {"jobs": 2, "backend": "ray", "quiet": True} | options
    return engine.run(project, [made], **options)


def ended(faults) -> bool:
    driver = int((faults / "driver").read_text())
    return not running(driver) and not children(driver)


def test_a_worker_of_ray_dies_and_its_run_is_made_again(sandbox, faults):
    (faults / "gate").unlink()
    (faults / "worker").touch()
    assert sweep(sandbox).ok == 8
    assert not (faults / "worker").exists(), "no worker died"
    assert (faults / "shutdown").exists()
    until(lambda: ended(faults), LIMIT, "something runs on")
    rows = sandbox.rows()
    assert (rows.y == 2 * rows.x).all()
    assert rows.key.is_unique


@pytest.mark.parametrize("fault", ["end", "node"])
def test_the_head_of_ray_dies_in_the_middle_of_a_sweep(sandbox, faults, fault):
    parts = sandbox.root / "results" / "quick" / ".line.parts"
    with ThreadPoolExecutor(1) as thread:
        going = thread.submit(sweep, sandbox)
        until((faults / "driver").exists, WAIT, "no driver")
        until(lambda: len(children(driver(faults))) == 2, WAIT, "no runs")
        until(lambda: [p for p in parts.glob("*") if p.suffix], WAIT, "no rows")
        (faults / fault).touch()
        if fault == "node":
            (faults / "gate").unlink()  # so that another call begins
        with pytest.raises(UserError, match="the ray cluster of this command is gone"):
            going.result(timeout=WAIT)
    until(lambda: ended(faults), LIMIT, "something runs on")
    rows = sandbox.rows()
    assert 0 < len(rows) < 8
    assert (rows.status == "ok").all(), "a lost cluster is no failed run"
    for name in (fault, "gate"):
        (faults / name).unlink(missing_ok=True)
    assert sweep(sandbox).ok == 8 - len(rows)


def driver(faults) -> int:
    return int((faults / "driver").read_text() or 0)


def test_ray_cannot_start_runs_or_itself_or_is_not_there(
    sandbox, faults, monkeypatch, tmp_path_factory
):
    (faults / "task").touch()
    with pytest.raises(UserError, match=r"cannot start runs \(Module.*: no numpy\)"):
        sweep(sandbox)
    (faults / "init").touch()
    with pytest.raises(UserError, match=r"no ray cluster .* \(no cluster here\)"):
        sweep(sandbox)
    with pytest.raises(UserError, match="no ray cluster answers at 127.0.0.1:9 "):
        sweep(sandbox, scheduler="127.0.0.1:9")
    until(lambda: ended(faults), LIMIT, "something runs on")
    monkeypatch.setattr(cluster, "Child", dying)
    with pytest.raises(UserError, match=r"no ray cluster .* \(ray ended its process"):
        sweep(sandbox)
    monkeypatch.undo()
    broken = tmp_path_factory.mktemp("broken")
    (broken / "ray.py").write_text("raise ImportError('no ray here')")
    monkeypatch.syspath_prepend(broken)
    with pytest.raises(UserError, match=r"BACKEND=ray is not at hand \(no ray here\)"):
        sweep(sandbox)


def dying(*arguments, **options):
    made = cluster_child(*arguments, **options)
    made.process.kill()
    return made


cluster_child = cluster.Child
