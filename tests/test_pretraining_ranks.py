"""Two processes under torchrun give the losses of one, as replicas and as shards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from symlab.pretraining import pretrain
from tests.test_pretraining import RUNS, text

MODES = ("ddp", "fsdp")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Rows of both modes, from one start of two processes."""
    out = tmp_path_factory.mktemp("ranks") / "rows.json"
    root = Path(__file__).parents[1]
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run"]
    command += [
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "tests.ranks",
        out,
        *MODES,
    ]
    done = subprocess.run(
        command,
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def alone():
    return {name: pretrain(c, text(), r, o) for name, (c, r, o) in RUNS.items()}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("mode", MODES)
def test_the_losses_are_those_of_one_process(found, alone, mode, name):
    two, one = found[f"{mode} {name}"], alone[name]
    torch.testing.assert_close(two["train_loss"], one["train_loss"], rtol=0, atol=1e-5)
    torch.testing.assert_close(two["val_curve"], one["val_curve"], rtol=0, atol=1e-5)
    if "load_cv" in one:
        assert two["load_cv"] == pytest.approx(one["load_cv"], abs=0.02)


@pytest.mark.parametrize("name", RUNS)
def test_shards_halve_the_state_and_replicas_do_not(found, alone, name):
    whole = alone[name]["state_bytes"]
    assert found[f"ddp {name}"]["state_bytes"] == whole
    assert found[f"fsdp {name}"]["state_bytes"] < 0.55 * whole


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_run_of_two_goes_on_to_the_same_losses(found, mode):
    whole, resumed = found[f"{mode} mixture"], found[f"{mode} resumed"]
    parts = {"ddp": ["0of1"], "fsdp": ["0of2", "1of2"]}[mode]
    assert resumed.pop("files") == [f"{mode}.state.8.{part}" for part in parts]
    assert resumed == whole
