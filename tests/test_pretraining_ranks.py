"""Two processes give the losses of one, as replicas and as shards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from symlab.models.transformer import Decoder
from symlab.pretraining import pretrain
from symlab.pretraining.objective import Objective
from symlab.pretraining.processes import ALONE, MODES, leave, replicate
from tests.test_pretraining import MIXTURE, RECIPE, RUNS, text, with_

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def started(folder: Path, what: str, launcher: tuple[str, ...] = ()) -> dict:
    """What two processes have found: see tests/ranks.py."""
    out = folder / "rows.json"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *launcher, "-m", "tests.ranks", out, what],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Rows of both modes, from one start of two processes."""
    return started(tmp_path_factory.mktemp("ranks"), "each")


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


@pytest.mark.long
def test_torchrun_starts_the_same(found, tmp_path):
    def numbers(results):  # `said` names the folder, which differs
        return {
            name: {k: v for k, v in one.items() if k != "said"}
            for name, one in results.items()
        }

    assert numbers(started(tmp_path, "each", TORCHRUN)) == numbers(found)


@pytest.mark.parametrize("mode", MODES)
def test_the_norms_of_gradients_are_those_of_one_process(found, alone, mode):
    two, one = found[f"{mode} clipped"], alone["clipped"]
    assert one["gradient_norm"] < 1.1 < one["gradient_norm_max"]  # some are clipped
    for name in ("gradient_norm", "gradient_norm_max"):
        assert two[name] == pytest.approx(one[name], rel=1e-4)


@pytest.mark.parametrize("name", RUNS)
def test_shards_halve_the_state_and_replicas_do_not(found, alone, name):
    whole = alone[name]["state_bytes"]
    assert found[f"ddp {name}"]["state_bytes"] == whole
    assert found[f"fsdp {name}"]["state_bytes"] < 0.55 * whole


@pytest.mark.parametrize("mode", MODES)
def test_one_that_is_asked_to_stop_stops_both_in_one_step(found, mode):
    """The signal comes after step 9, and the others hear of it in step 10."""
    whole, resumed = found[f"{mode} mixture"], found[f"{mode} resumed"]
    parts = {"ddp": ["0of1"], "fsdp": ["0of2", "1of2"]}[mode]
    kept = [f"{mode}.state.{step}.{part}" for step in (10, 8) for part in parts]
    assert resumed["files"] == kept
    assert "stopped by SIGTERM after step 10 of 12" in resumed["said"]
    assert {name: resumed[name] for name in whole} == whole


@pytest.fixture(scope="module")
def restarted(tmp_path_factory):
    """The folder, and rows of runs of which one process was killed."""
    folder = tmp_path_factory.mktemp("killed")
    return folder, started(folder, "killed")


@pytest.mark.parametrize("mode", MODES)
def test_two_go_on_to_the_same_losses_when_one_was_killed(found, restarted, mode):
    row = restarted[1][mode]
    parts = {"ddp": ["0of1"], "fsdp": ["0of2", "1of2"]}[mode]
    kept = [f"{mode}.state.{step}.{part}" for step in (4, 8) for part in parts]
    assert row.pop("files") == kept
    assert row == found[f"{mode} mixture"]


def test_one_process_goes_on_from_the_state_of_two(restarted, alone, capsys):
    folder, _ = restarted
    (folder / "ddp.state.12.0of1").unlink()
    config, recipe, optimizer = RUNS["mixture"]
    options = {"path": folder / "ddp.state", "save_every": 4}
    row = pretrain(config, text(), recipe, optimizer, **options)
    assert "of 2 processes and goes on with 1: losses agree" in capsys.readouterr().err
    one = alone["mixture"]["train_loss"]
    torch.testing.assert_close(row["train_loss"], one, rtol=0, atol=1e-5)


def test_another_number_of_shards_is_refused(restarted):
    config, recipe, optimizer = RUNS["mixture"]
    options = {"path": restarted[0] / "fsdp.state", "save_every": 4}
    with pytest.raises(ValueError, match="has 2 parts and this run 1: start as many"):
        pretrain(config, text(), recipe, optimizer, **options)


@pytest.mark.parametrize("phi", [0.0, 0.1])
def test_replicas_send_no_buffers_but_the_prices_of_phi_balancing(phi, tmp_path):
    """And torch, whose warnings are errors here, has nothing to say against it."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = Decoder(MIXTURE, torch.Generator().manual_seed(0))
        replica = replicate(Objective(model, with_(RECIPE, phi=phi)), ALONE)
        assert replica.will_sync_module_buffers() == (phi > 0)
    finally:
        leave()
