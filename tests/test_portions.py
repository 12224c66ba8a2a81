"""Portions run within their minutes, go on where they stopped, and end when done."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from symlab.__main__ import main
from symlab.data import images, pack
from symlab.harness import plan, portion_runs, portions, project
from symlab.harness.errors import UserError

HOME = Path(__file__).resolve().parents[1]

CUT = '''"""A run that saves its state and is then cut, the first time."""
import os
import signal
import time
from dataclasses import dataclass
from symlab.harness import Claim, grid, stats

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Config:
    last: bool = False
    """Whether this one is cut."""
    seed: int = 0
    """Nothing."""


def sweep(scale):
    return grid(Config, last=[False, True], seed=range(1))


def run(configs, context):
    path = context.checkpoint(configs[0])
    begun_at = int(path.read_text()) if path.exists() else 0
    if configs[0].last and not begun_at:
        path.write_text("7")
        os.kill(os.getppid(), signal.SIGALRM)  # as the clock does when time is over
        time.sleep(60)
    return [{"begun_at": begun_at}]


CLAIMS = [Claim("none", "Nothing is claimed.", "here", lambda df: stats.worst([0.0]),
                reason="none", below=1.0)]
'''
LIST = """
[[portion]]
name = "line"
experiment = "line"
only = "x < 2.5"
why = "Two of three inputs."

[[portion]]
name = "say"
command = ["-c"]
options.smoke = ["print('computed on', '{device}')"]
why = "A command."

[[portion]]
name = "elsewhere"
command = ["-c"]
options.paper = ["1 / 0"]
why = "A command of another scale."
"""
CALL = ("portions", "--scale", "smoke", "--device", "cpu")


@pytest.fixture
def list_of(sandbox, monkeypatch):
    """Writes portions.toml, and runs the portions within minutes in this process."""
    for name in ("SYMLAB_RESULTS", "SYMLAB_DATA", "SYMLAB_DOWNLOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(sandbox.root)
    place = project.Project(sandbox.root)

    def run(text: str, minutes: float = 10.0) -> int:
        sandbox.write("portions.toml", text)
        return portion_runs.run(place, portions.read(place, "smoke"), minutes, "smoke",
                            "cpu")  # fmt: skip

    return run


def command(body: str) -> str:
    return (
        '[[portion]]\nname = "c"\nwhy = "A test."\ncommand = ["-c"]\n'
        f"options.smoke = ['{body}']\n"
    )


def test_portions_run_once_and_then_nothing(sandbox, list_of, capsys):
    sandbox.write("portions.toml", LIST)
    assert main([*CALL, "--list"]) == 0
    listed = capsys.readouterr().out
    assert "line (smoke): 0 of 8 runs are there" in listed
    assert listed.count(portions.NEVER) == 2
    assert main([*CALL, "--minutes", "10"]) == 0
    rows = sandbox.rows(scale="smoke")
    assert len(rows) == 8
    assert set(rows.x) == {1.0, 2.0}
    said = (sandbox.root / "results" / "smoke" / "say.txt").read_text()
    assert "computed on cpu" in said
    assert said.startswith("command: python -c print(")
    capsys.readouterr()
    assert main([*CALL, "--minutes", "10"]) == 0
    assert "line (smoke): 8 of 8 runs are there" in capsys.readouterr().out
    assert sandbox.rows(scale="smoke").finished.equals(rows.finished)
    assert (sandbox.root / "results" / "smoke" / "say.txt").read_text() == said


def test_without_a_gpu_it_refuses_and_says_what_to_do(sandbox, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="--device cpu --scale smoke") as told:
        portion_runs.run(project.Project(sandbox.root), [], 1.0, "paper", "cuda")
    assert "\n" not in str(told.value)


def test_a_run_that_is_cut_goes_on_from_its_checkpoint(sandbox, list_of, capsys):
    sandbox.write("experiments/cut.py", CUT)
    text = '[[portion]]\nname = "cut"\nexperiment = "cut"\nwhy = "A test."\n'
    assert list_of(text) == 0
    assert "this one goes on from its checkpoint" in capsys.readouterr().out
    assert list(sandbox.rows("cut", "smoke").last) == [False]
    assert list_of(text) == 0
    assert list(sandbox.rows("cut", "smoke").begun_at) == [0, 7]


def test_a_run_that_does_not_fit_is_not_started(sandbox, list_of, capsys, monkeypatch):
    make = plan.make

    def timed(*words, **options):
        made = make(*words, **options)
        made.seconds = dict.fromkeys(made.configs, 90.0)
        return made

    monkeypatch.setattr(plan, "make", timed)
    text = '[[portion]]\nname = "line"\nexperiment = "line"\nwhy = "A test."\n'
    assert list_of(text, 1.0) == 0
    assert "MINUTES=2 suffice" in capsys.readouterr().out
    assert not (sandbox.root / "results" / "smoke" / "line.parquet").exists()


def test_committed_rows_and_outputs_count(sandbox, list_of, capsys):
    text = LIST.replace("x < 2.5", "x < 1.5")
    assert list_of(text) == 0
    (sandbox.root / "results" / "reference").mkdir()
    (sandbox.root / "results" / "smoke").rename(
        sandbox.root / "results" / "reference" / "smoke"
    )
    assert list_of(text) == 0
    assert "4 of 4 runs" in capsys.readouterr().out
    assert not list((sandbox.root / "results").glob("smoke/*.*"))


def test_a_command_is_stopped_with_its_output_and_is_not_tried_in_vain(
    sandbox, list_of, capsys
):
    text = command("import time; time.sleep(60)")
    assert list_of(text, 0.03) == 0
    unfinished = sandbox.root / "results" / "smoke" / "c.unfinished.txt"
    assert "stopped after" in unfinished.read_text()
    assert list_of(text, 0.02) == 0
    assert "not started: it was stopped after" in capsys.readouterr().out


def test_a_command_that_fails_is_tried_again(sandbox, list_of, capsys):
    assert list_of(command("raise SystemExit(3)")) == 1
    assert "failed with exit status 3" in capsys.readouterr().out
    assert list_of(command("print(1)")) == 0
    assert [p.name for p in (sandbox.root / "results" / "smoke").iterdir()] == ["c.txt"]


def test_data_that_is_absent_is_named_at_paper_scale(
    sandbox, capsys, monkeypatch, tmp_path
):
    portion = portions.Portion(
        "c", "A test.", command=("-c",), options={"paper": ["print(1)"]},
        needs=("cifar10/train.parquet", "batches"),
    )  # fmt: skip
    monkeypatch.setenv("SYMLAB_DATA", str(tmp_path / "there"))
    home = project.Project(sandbox.root)
    assert portion_runs.run(home, [portion], 10.0, "paper", "cpu") == 1
    assert "set SYMLAB_DATA" in capsys.readouterr().out
    assert portions.missing(portion, "smoke") == ""
    (tmp_path / "there" / "batches").mkdir(parents=True)
    assert portions.missing(portion, "paper") == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("portion = 1 [", "not a list of"),
        ('[[portion]]\nname = "a"\nwhy = "b"\n', "an experiment or a command"),
        ('[[portion]]\nname = "a"\nwy = "b"\n', "did you mean why"),
        (LIST.replace("options.smoke", "options.smok"), "did you mean smoke"),
        (LIST.replace("x < 2.5", "x < 0"), "selects no run"),
    ],
)
def test_a_list_that_cannot_be_used_is_a_sentence(list_of, text, said):
    with pytest.raises(UserError, match=said):
        list_of(text)


def test_the_projects_own_list_names_what_exists():
    home = project.Project(HOME)
    listed = portions.read(home, "paper")
    assert [p.name for p in listed][:2] == ["neuron_grouping", "bench_cifar"]
    for portion in listed:
        if portion.experiment:
            source = (home.experiments / f"{portion.experiment}.py").read_text()
            assert 'DEVICES = ("cpu", "cuda")' in source
        elif portion.command[0] != "-m":
            assert (HOME / portion.command[0]).is_file()


def test_a_packed_image_has_the_same_pixels(tmp_path, monkeypatch):
    from PIL import Image

    draws = np.random.default_rng(0)
    for part, n in (("train", 60), ("test", 20)):
        encoded = []
        for pixels in draws.integers(256, size=(n, 32, 32, 3), dtype=np.uint8):
            Image.fromarray(pixels).save(out := io.BytesIO(), "JPEG", quality=40)
            encoded.append({"bytes": out.getvalue(), "path": None})
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        labels = pa.array(draws.integers(10, size=n))
        table = pa.table({"img": pa.array(encoded, kind), "label": labels})
        (tmp_path / "whole" / "cifar10").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, tmp_path / "whole" / "cifar10" / f"{part}.parquet",
                       compression="none")  # fmt: skip
    written = pack.cifar10(tmp_path / "whole", tmp_path / "packed")
    for file, size in written.items():
        assert size < 0.75 * (tmp_path / "whole" / "cifar10" / file.name).stat().st_size
    found = []
    for folder in ("whole", "packed"):
        monkeypatch.setenv("SYMLAB_DATA", str(tmp_path / folder))
        found.append(images.cifar10())
    for name in ("x", "y", "x_test", "y_test"):
        assert getattr(found[0], name).equal(getattr(found[1], name))
    with pytest.raises(UserError, match="set SYMLAB_DATA"):
        pack.cifar10(tmp_path, tmp_path / "packed")
    with pytest.raises(UserError, match="another folder"):
        pack.cifar10(tmp_path / "whole", tmp_path / "whole")


@pytest.mark.long
def test_the_projects_own_list_runs_at_smoke_scale(tmp_path):
    import subprocess
    import sys

    commands = ["bench_cifar", "pretrain_135m_adamw", "pretrain_135m_symmetric"]
    words = [sys.executable, "-m", "symlab", *CALL, "neuron_grouping", *commands]
    env = {"PATH": "", "OMP_NUM_THREADS": "1", "SYMLAB_RESULTS": str(tmp_path)}
    env |= {"PYTHONPATH": str(HOME)}
    done = subprocess.run(words, env=env, cwd=HOME, capture_output=True, text=True,
                          check=False, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "smoke" / "neuron_grouping.parquet").is_file()
    for name, said in zip(commands, ("minus torch", *2 * ["validation loss"]),
                          strict=True):  # fmt: skip
        assert said in (tmp_path / "smoke" / f"{name}.txt").read_text()
    listed = subprocess.run([*words[:3], "portions", "--list"], env=env, cwd=HOME,
                            capture_output=True, text=True, check=False)  # fmt: skip
    assert listed.returncode == 0, listed.stderr
