"""A cluster whose workers have no symlab, no file system of ours, and die."""

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from symlab.harness import cluster, engine, plan
from symlab.harness.errors import UserError
from symlab.harness.project import Project
from tests.conftest import SIMPLE
from tests.processes import until

pytest.importorskip("distributed", reason="the extra dask is not installed")

HEAD, TAIL = SIMPLE.split("def run(configs):")
TAIL = TAIL[TAIL.index("@figure") :]
HEAD = HEAD.replace("LANES = 4", "LANES = 1")
HEAD = HEAD.replace("x=[1.0, 2.0, 3.0], seed=range(4)", "x=[1.0, 2.0]")
RUN = """
import os, time
from pathlib import Path
import symlab


def run(configs, context):
    (c,) = configs
    gate = Path(GATE)
    if c.x == 2 and gate.exists():
        (gate / f"begun-{os.getppid()}").touch()
        while gate.exists():
            time.sleep(0.05)
    state = context.checkpoint(c)
    state.write_text("kept")
    return [{"y": scale(c.x), "symlab": symlab.__file__, "here": __file__,
             "state": str(state)}]


"""


WAIT = 240  # seconds, on a machine that ten others use


@contextmanager
def gated(folder):
    """A folder at which runs wait, until it or this context is gone."""
    folder.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Cluster:
    """A dask scheduler and workers, in processes and folders of their own."""

    def __init__(self, folder):
        self.folder, self.file = folder, folder / "scheduler.json"
        words = ["--port", "0", "--no-dashboard", "--scheduler-file", self.file]
        self.scheduler = self._start("scheduler", *words)
        until(self.file.exists, WAIT, "no scheduler")
        self.address = json.loads(self.file.read_text())["address"]

    def worker(self) -> subprocess.Popen:
        words = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
        return self._start("worker", self.address, *words)

    def _start(self, *words) -> subprocess.Popen:
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *map(str, words)],
            cwd=self.folder,
            env=env | {"TMPDIR": str(self.folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@pytest.fixture
def far(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("far"))
    processes = [made.scheduler]
    start = made.worker

    def worker():
        processes.append(start())
        return processes[-1]

    made.worker = worker
    yield made
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of dask, about its own connections
def test_workers_die_and_the_scheduler_dies(sandbox, far, monkeypatch, capfd):
    gate = sandbox.root / "gate"
    sandbox.write(
        "experiments/line.py", HEAD + RUN.replace("GATE", repr(str(gate))) + TAIL
    )
    project = Project(sandbox.root)

    def sweep(fresh=False):
        made = plan.make(project, "line", "quick", fresh=fresh)
        options = {"jobs": 2, "backend": "dask", "scheduler": far.address}
        return engine.run(project, [made], quiet=True, **options)

    with ThreadPoolExecutor(1) as thread, gated(gate):
        far.worker()
        going = thread.submit(sweep)
        until(lambda: list(gate.iterdir()), WAIT, "no run began")
        (first,) = gate.iterdir()
        os.kill(int(first.name.split("-")[1]), signal.SIGKILL)
        far.worker()  # another takes over
        until(lambda: len(list(gate.iterdir())) == 2, WAIT, "it was not tried again")
        shutil.rmtree(gate)
        assert going.result(timeout=WAIT).ok == 2
    rows = sandbox.rows()
    assert sorted(rows.y) == [2.0, 4.0]
    assert rows.symlab.str.startswith(str(far.folder)).all(), "not of the parcel"
    assert rows.here.str.startswith(str(far.folder)).all()
    kept = sandbox.root / "results" / "quick" / ".line.parts" / "checkpoints"
    assert rows.state.str.startswith(str(kept)).all(), "it sees our file system"
    assert not list(kept.rglob("*.state"))
    assert not list(kept.rglob(".mark"))

    monkeypatch.setattr(cluster, "PATIENCE", 2.0)
    with ThreadPoolExecutor(1) as thread, gated(gate):
        going = thread.submit(sweep, fresh=True)
        until(lambda: list(gate.iterdir()), WAIT, "no run began")
        far.scheduler.kill()
        with pytest.raises(UserError, match=f"scheduler at {far.address} is gone"):
            going.result(timeout=WAIT)
    assert len(sandbox.rows()) == 2


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_without_workers_and_none_at_all(sandbox, far, monkeypatch):
    project = Project(sandbox.root)
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    monkeypatch.setattr(cluster, "CONNECT", 1.0)

    def sweep(address):
        made = plan.make(project, "line", "quick")
        options = {"jobs": 2, "backend": "dask", "scheduler": address}
        return engine.run(project, [made], quiet=True, **options)

    with pytest.raises(UserError, match=f"worker of .* at {far.address} is gone"):
        sweep(far.address)
    with pytest.raises(UserError, match="no dask scheduler answers at tcp://127.0.0.1"):
        sweep("tcp://127.0.0.1:9")
    with pytest.raises(UserError, match="no dask scheduler answers at nonsense"):
        sweep("nonsense://x")


def test_an_address_at_which_no_ray_cluster_listens(sandbox):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    made = plan.make(Project(sandbox.root), "line", "quick")
    options = {"jobs": 2, "backend": "ray", "scheduler": "127.0.0.1:9"}
    with pytest.raises(UserError, match="no ray cluster answers at 127.0.0.1:9"):
        engine.run(Project(sandbox.root), [made], quiet=True, **options)


def test_marks_of_another_machine_are_not_taken_for_ours(sandbox, tmp_path):
    """Without our file system a worker keeps checkpoints in a folder of its own."""
    from symlab.harness.children import Guests

    crew = Guests(tmp_path)
    parts = sandbox.root / "parts"
    task = {"checkpoints": f"{parts}/abc", "mark": "m1", "root": "elsewhere"}
    own = str(tmp_path / "checkpoints" / "abc")
    assert crew._here(dict(task))["checkpoints"] == own
    parts.mkdir()
    (parts / ".mark").write_text("m2")
    assert crew._here(dict(task))["checkpoints"] == own
    (parts / ".mark").write_text("m1")
    here = crew._here(dict(task))
    assert here["checkpoints"] == f"{parts}/abc"
    assert here["root"] == str(tmp_path / "project")
