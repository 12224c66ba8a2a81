"""A run goes on from its checkpoint to the same losses, whatever has stopped it."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from symlab.models.transformer import Decoder
from symlab.pretraining import (
    NotKept,
    Stopped,
    checkpoint,
    forget,
    interrupt,
    loop,
    pretrain,
)
from symlab.pretraining import train as train_with
from symlab.pretraining.processes import ALONE, Processes
from tests.test_pretraining import (
    ADAMW,
    DENSE,
    MIXTURE,
    RECIPE,
    losses,
    poisoned,
    shell,
    text,
    with_,
)


class Killed(BaseException):
    pass


@pytest.fixture(autouse=True)
def ctrl_c():
    """As in a terminal: a shell starts its background jobs with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def die() -> None:
    raise Killed


def at_step(step: int, what, monkeypatch) -> None:
    """Do `what` after that step, before anything is saved."""
    tell = loop._Run._tell

    def told(run, bar):
        tell(run, bar)
        if run.step == step:
            what()

    monkeypatch.setattr(loop._Run, "_tell", told)


def killed_at(step: int, monkeypatch, *args, run=pretrain, **options) -> None:
    with monkeypatch.context() as patch:
        at_step(step, die, patch)
        with pytest.raises(Killed):
            run(*args, **options)


def names(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir())


def taken(monkeypatch) -> list[int]:
    """Filled with the steps that are taken from now on."""
    steps, advance = [], loop._Run._advance
    monkeypatch.setattr(
        loop._Run, "_advance", lambda r, *b: (steps.append(r.step), advance(r, *b))
    )
    return steps


# --- resuming ------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["symmetric", "aro", "adamw"])
def test_a_killed_run_goes_on_to_the_same_losses(preset, tmp_path, monkeypatch):
    recipe = with_(RECIPE, phi=0.1)
    args = MIXTURE, text(), recipe, {"preset": preset, "lr": 0.01}
    whole = pretrain(*args)
    path = tmp_path / "run"
    killed_at(9, monkeypatch, *args, path=path, save_every=4)
    assert names(tmp_path) == ["run.4.0of1", "run.8.0of1"]
    steps = taken(monkeypatch)
    row = pretrain(*args, path=path, save_every=4)
    assert steps == [8, 9, 10, 11]
    for name in ("train_loss", "val_curve", "load_cv_curve", "head_shift"):
        assert row[name] == whole[name]
    assert names(tmp_path) == ["run.12.0of1", "run.8.0of1"]
    forget(path)
    assert names(tmp_path) == []


def test_all_of_a_run_is_in_its_checkpoint(tmp_path, monkeypatch):
    """Other weights in the model that goes on change nothing."""

    def go(seed, **options):
        model = Decoder(DENSE, torch.Generator().manual_seed(seed))
        adamw = torch.optim.AdamW(model.parameters(), lr=0.01)
        return train_with(model, adamw, text(), RECIPE, **options)

    whole = go(0)
    options = {"path": tmp_path / "run", "save_every": 4}
    killed_at(5, monkeypatch, 0, run=go, **options)
    row = go(1, **options)
    for name in ("train_loss", "val_curve", "head_shift"):
        assert row[name] == whole[name]


def test_a_run_that_has_ended_gives_its_row_again(tmp_path, monkeypatch):
    args = DENSE, text(), RECIPE, ADAMW
    options = {"path": tmp_path / "run", "save_every": 5}
    whole = pretrain(*args, **options)
    monkeypatch.setattr(loop._Run, "_advance", None)  # no further step
    again = pretrain(*args, **options)
    for name in ("train_loss", "val_step", "val_curve", "tokens", "head_shift"):
        assert again[name] == whole[name]


def test_ten_kills_at_random_moments_change_no_loss(tmp_path):
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.killed", tmp_path],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert len(set(found["at"])) == 10
    assert max(found["at"]) < 60
    assert found["resumed"] == found["whole"]
    assert "damaged" not in done.stderr


@pytest.mark.parametrize("decay", [0.4, 0.0])
def test_more_steps_give_the_losses_of_one_run(decay, tmp_path, monkeypatch):
    short, long = (with_(RECIPE, steps=n, decay=decay) for n in (12, 20))
    whole = pretrain(MIXTURE, text(), long, {"lr": 0.01})
    options = {"path": tmp_path / "run", "save_every": 4}
    args = MIXTURE, text(), short, {"lr": 0.01}
    if decay:
        killed_at(7, monkeypatch, *args, **options)
    else:
        pretrain(*args, **options)
    steps = taken(monkeypatch)
    row = pretrain(MIXTURE, text(), long, {"lr": 0.01}, **options)
    assert steps == list(range(4 if decay else 12, 20))
    assert losses(row) == losses(whole)
    assert row["val_step"] == whole["val_step"]


def test_more_steps_are_refused_where_rates_had_fallen(tmp_path, monkeypatch):
    """Of 12 steps with a decay of 0.4 the first lower rate is in step 8."""
    options = {"path": tmp_path / "run", "save_every": 9}
    killed_at(10, monkeypatch, DENSE, text(), RECIPE, ADAMW, **options)
    words = "is at step 9, and from step 8 on its rates were those of steps = 12"
    with pytest.raises(ValueError, match=words):
        pretrain(DENSE, text(), with_(RECIPE, steps=20), ADAMW, **options)
    short = with_(RECIPE, steps=8, decay=0.0)
    with pytest.raises(ValueError, match="at step 9, past steps = 8: ask for as many"):
        pretrain(DENSE, text(), short, ADAMW, **options)


def test_other_evaluations_are_free_to_resume(tmp_path, monkeypatch):
    whole = pretrain(DENSE, text(), RECIPE, ADAMW)
    path = tmp_path / "run"
    killed_at(5, monkeypatch, DENSE, text(), RECIPE, ADAMW, path=path, save_every=4)
    other = with_(RECIPE, evaluate_every=0, validation=2)
    row = pretrain(DENSE, text(), other, ADAMW, path=path, save_every=3)
    assert row["train_loss"] == whole["train_loss"]
    assert row["val_step"] == [0, 12]


def test_a_checkpoint_of_another_run_is_refused(tmp_path, monkeypatch):
    options = {"path": tmp_path / "run", "save_every": 4}
    killed_at(5, monkeypatch, DENSE, text(), RECIPE, ADAMW, **options)
    given = dict(Decoder(DENSE, torch.Generator().manual_seed(7)).named_parameters())
    for recipe, optimizer, other, words in (
        (with_(RECIPE, seed=1), ADAMW, {}, "seed = 0 instead of 1"),
        (with_(RECIPE, micro=2), ADAMW, {}, "micro = 0 instead of 2"),
        (RECIPE, ADAMW | {"lr": 0.02}, {}, "optimizer = .*0.01.* instead of .*0.02"),
        (RECIPE, ADAMW, {"weights": given}, "start = None instead of"),
    ):
        with pytest.raises(ValueError, match=f"{words}.*: name another path"):
            pretrain(DENSE, text(), recipe, optimizer, **options, **other)
    assert (tmp_path / "run.4.0of1").exists()


def test_a_checkpoint_that_began_with_other_weights_is_refused(tmp_path, monkeypatch):
    options = {"path": tmp_path / "run", "save_every": 4}
    given = dict(Decoder(DENSE, torch.Generator().manual_seed(7)).named_parameters())
    args = DENSE, text(), RECIPE, ADAMW
    whole = pretrain(*args, weights=given)
    killed_at(5, monkeypatch, *args, **options, weights=given)
    with pytest.raises(ValueError, match="start = .* instead of None"):
        pretrain(*args, **options)
    assert losses(pretrain(*args, **options, weights=given)) == losses(whole)


def test_a_checkpoint_of_more_shards_is_refused(tmp_path):
    (tmp_path / "run.4.1of2").write_bytes(b"")
    with pytest.raises(ValueError, match="has 2 parts and this run 1"):
        pretrain(DENSE, text(), RECIPE, ADAMW, path=tmp_path / "run", save_every=4)


def test_names_with_brackets_are_names(tmp_path, monkeypatch):
    args = DENSE, text(), RECIPE, ADAMW
    options = {"path": tmp_path / "run[1]*?", "save_every": 4}
    (tmp_path / "run1.8.0of1").write_bytes(b"of another run")
    killed_at(9, monkeypatch, *args, **options)
    steps = taken(monkeypatch)
    pretrain(*args, **options)
    assert steps == [8, 9, 10, 11]
    forget(options["path"])
    assert names(tmp_path) == ["run1.8.0of1"]


# --- damage --------------------------------------------------------------------------


def cut(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size // 2)


def flip(file: Path) -> None:
    """One bit, in the middle of the file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip, empty])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    damage, tmp_path, monkeypatch, capsys
):
    args = MIXTURE, text(), RECIPE, {"lr": 0.01}
    whole = pretrain(*args)
    options = {"path": tmp_path / "run", "save_every": 4}
    killed_at(9, monkeypatch, *args, **options)
    damage(tmp_path / "run.8.0of1")
    steps = taken(monkeypatch)
    row = pretrain(*args, **options)
    assert steps == list(range(4, 12))
    said = f"{tmp_path / 'run.8.0of1'} is damaged, so the run goes on from step 4"
    assert said in capsys.readouterr().err
    assert losses(row) == losses(whole)
    assert names(tmp_path) == ["run.12.0of1", "run.8.0of1"]  # which is whole again


def test_two_damaged_checkpoints_are_named(tmp_path, monkeypatch):
    args = DENSE, text(), RECIPE, ADAMW
    options = {"path": tmp_path / "run", "save_every": 4}
    killed_at(9, monkeypatch, *args, **options)
    cut(tmp_path / "run.8.0of1")
    flip(tmp_path / "run.4.0of1")
    with pytest.raises(ValueError, match="run.8.0of1 and .*run.4.0of1 are damaged: de"):
        pretrain(*args, **options)


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path, monkeypatch):
    """The disk is full after step 8: a limit on the size of files stands for it."""
    args = MIXTURE, text(), RECIPE, {"lr": 0.01}
    whole = pretrain(*args)
    options = {"path": tmp_path / "run", "save_every": 4}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    with monkeypatch.context() as patch:
        at_step(8, full, patch)
        try:
            with pytest.raises(OSError, match="state of step 8 could not be saved.*"):
                pretrain(*args, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == ["run.4.0of1"]
    steps = taken(monkeypatch)
    row = pretrain(*args, **options)
    assert steps == list(range(4, 12))
    assert losses(row) == losses(whole)


def test_the_shell_says_that_the_disk_is_full(tmp_path, monkeypatch, capsys):
    def full(file, data):
        file.error = OSError(28, "No space left on device")
        raise file.error

    monkeypatch.setattr(checkpoint._Summed, "write", full)
    options = "--checkpoint", str(tmp_path / "run"), "--save-every", "2"
    assert shell(tmp_path, monkeypatch, *options) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("symlab.pretraining: the state of step 2 could not be saved")
    assert last.endswith(
        "(No space left on device): make room, and start the same command again"
    )


@pytest.mark.parametrize("when", [7, 12])
def test_a_run_that_diverges_keeps_its_last_good_state(when, tmp_path):
    options = {"path": tmp_path / "run", "save_every": 3}
    row = train_with(*poisoned(when), text(), RECIPE, **options)
    assert row["diverged_at"] == when
    good = [f"run.{step}.0of1" for step in ((3, 6) if when == 7 else (6, 9))]
    assert names(tmp_path) == good
    state = torch.load(tmp_path / good[1], weights_only=True)
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_file_gets_its_name_when_its_content_is_on_the_disk(tmp_path, monkeypatch):
    """And the name is on the disk before the run goes on."""
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def spy(*args, name=name, real=real):
            calls.append(name)
            return real(*args)

        monkeypatch.setattr(checkpoint.os, name, spy)
    options = {"path": tmp_path / "run", "save_every": 12}
    pretrain(DENSE, text(), RECIPE, ADAMW, **options)
    assert calls == ["fsync", "replace", "fsync"]


def test_what_a_kill_while_saving_has_left_is_deleted(tmp_path):
    (tmp_path / ".run.3.0of1.tmp").write_bytes(b"half of a state")
    options = {"path": tmp_path / "run", "save_every": 12}
    pretrain(DENSE, text(), RECIPE, ADAMW, **options)
    assert names(tmp_path) == ["run.12.0of1"]


# --- signals -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_of_the_step_it_came_in(number, tmp_path, monkeypatch):
    args = MIXTURE, text(), RECIPE, {"lr": 0.01}
    whole = pretrain(*args)
    options = {"path": tmp_path / "run", "save_every": 1000}
    before = signal.getsignal(number)
    words = f"{number.name} after step 7 of 12; the state is in {tmp_path / 'run'}"
    with monkeypatch.context() as patch:
        at_step(7, lambda: signal.raise_signal(number), patch)
        with pytest.raises(Stopped, match=words) as stopped:
            pretrain(*args, **options)
    assert stopped.value.number == number
    assert signal.getsignal(number) is before
    assert names(tmp_path) == ["run.7.0of1"]
    steps = taken(monkeypatch)
    row = pretrain(*args, **options)
    assert steps == [7, 8, 9, 10, 11]
    assert losses(row) == losses(whole)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_is_the_status_of_the_shell(
    number, status, tmp_path, monkeypatch, capsys
):
    at_step(2, lambda: signal.raise_signal(number), monkeypatch)
    options = "--checkpoint", str(tmp_path / "run"), "--save-every", "100"
    assert shell(tmp_path, monkeypatch, *options) == status
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"symlab.pretraining: stopped by {number.name} after step 2")
    assert last.endswith("and the same command goes on from there")


def test_without_a_checkpoint_ctrl_c_acts_at_once(tmp_path, monkeypatch, capsys):
    at_step(2, lambda: signal.raise_signal(signal.SIGINT), monkeypatch)
    assert shell(tmp_path, monkeypatch) == 130
    assert capsys.readouterr().err.endswith("symlab.pretraining: stopped by SIGINT\n")


def test_a_second_signal_acts_as_it_would_have(monkeypatch):
    with interrupt.Signals() as signals:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # at once: a launcher repeats Ctrl-C
        assert signals.caught == signal.SIGINT
        monkeypatch.setattr(interrupt, "SAME", -1.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_threads_train_without_signals():
    found = []
    before = signal.getsignal(signal.SIGTERM)

    def enter():
        with interrupt.Signals() as signals:
            found.append((signals.caught, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(0, before)]


# --- names ---------------------------------------------------------------------------


def test_files_of_other_runs_are_not_deleted(tmp_path):
    """A run named run.2.40 is being saved beside the run named run."""
    others = [".run.2.40.0of1.tmp", ".run.x.0of1.tmp", "run.x.0of1"]
    for name in (*others, ".run.40.0of1.tmp"):
        (tmp_path / name).write_bytes(b"half of a state")
    forget(tmp_path / "run")
    assert names(tmp_path) == sorted(others)


@pytest.mark.parametrize("name", ["run.009.0of1", "run.٣.0of1", "run.9.00of1"])
def test_only_names_that_a_run_gives_are_states(name, tmp_path):
    (tmp_path / name).write_bytes(b"of someone else")
    assert checkpoint.latest(tmp_path / "run") is None
    forget(tmp_path / "run")
    assert names(tmp_path) == [name]


def test_a_folder_is_no_state(tmp_path):
    (tmp_path / "run.2.0of1").mkdir()
    assert checkpoint.load(tmp_path / "run", {}, ALONE) is None


@pytest.mark.parametrize(
    "content",
    [{"about": {}, "step": 3}, {"step": 4}, [1, 2]],
    ids=["of another step", "of no run", "a list"],
)
def test_a_file_with_another_content_is_damaged(content, tmp_path):
    checkpoint._write(tmp_path / "run.4.0of1", content)
    with pytest.raises(ValueError, match=r"as .*run\.4\.0of1 is damaged"):
        checkpoint.load(tmp_path / "run", {}, ALONE)


def test_a_file_that_torch_cannot_read_is_damaged(tmp_path):
    content = b"no state"
    whole = content + checkpoint.MARK + sha256(content).digest()
    (tmp_path / "run.4.0of1").write_bytes(whole)
    with pytest.raises(ValueError, match=r"as .*run\.4\.0of1 is damaged"):
        checkpoint.load(tmp_path / "run", {}, ALONE)


class Failing(Processes):
    """One whose word from another process is always that something is wrong there."""

    def any(self, here: bool) -> bool:
        return True


def test_damage_to_the_parts_of_another_process_is_damage_here(tmp_path):
    checkpoint._write(tmp_path / "run.4.0of1", {"about": {}, "step": 4})
    with pytest.raises(ValueError, match="as parts of other processes are damaged"):
        checkpoint.load(tmp_path / "run", {}, Failing())


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("", "'.' is no name for a checkpoint"),
        ("/", "'/' is no name"),
        ("..", "'..' is no name"),
        ("/dev/null/run", "cannot be written .*: name another place"),
        ("/proc/run", "/proc/run cannot be written"),
        ("r" * 251, "cannot be written .File name too long"),
    ],
)
def test_a_place_that_takes_no_state_is_said_before_the_first_step(
    place, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop._Run, "_advance", None)
    options = {"path": place, "save_every": 4}
    with pytest.raises((ValueError, OSError), match=words):
        loop.ready(DENSE, RECIPE, ADAMW, **options)
    with pytest.raises((ValueError, OSError), match=words):
        pretrain(DENSE, text(), RECIPE, ADAMW, **options)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": "nest/run", "out": "nest"}, "the checkpoint nest/run is in the"),
        ({"path": "nest", "out": "nest"}, "the checkpoint nest is in the folder of"),
        ({"path": "run", "out": "run.2.0of1"}, "has the name of a file of the check"),
        ({"log": "nest/a.csv", "out": "nest"}, "the log nest/a.csv is in the folder"),
        ({"tensorboard": "n/b", "out": "n"}, "the folder of TensorBoard n/b is in"),
    ],
    ids=str,
)
def test_files_in_the_way_of_the_weights_are_refused_at_once(
    options, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "build", None)
    options |= {"save_every": 2 * ("path" in options)}
    for run, args in ((loop.ready, ()), (pretrain, (text(),))):
        with pytest.raises(ValueError, match=words):
            run(DENSE, *args, RECIPE, ADAMW, **options)
    checked = {"path": "nest/run", "out": "nest/weights", "save_every": 2}
    loop.ready(DENSE, RECIPE, ADAMW, **checked)  # side by side


# --- whose state it is ---------------------------------------------------------------


def test_a_state_of_another_optimizer_is_refused(tmp_path, monkeypatch):
    options = {"path": tmp_path / "run", "save_every": 4}

    def go(kind, **settings):
        model = Decoder(DENSE, torch.Generator().manual_seed(0))
        optimizer = kind(model.parameters(), **settings)
        return train_with(model, optimizer, text(), RECIPE, **options)

    adamw = torch.optim.AdamW
    first = {"lr": 0.001, "weight_decay": 0.0, "betas": (0.9, 0.95)}
    killed_at(5, monkeypatch, adamw, run=go, **first)
    for kind, changes, words in (
        (adamw, {"lr": 0.1}, "lr of group 0 = 0.001 instead of 0.1"),
        (adamw, {"weight_decay": 0.5}, "weight_decay of group 0 = 0.0 instead of 0.5"),
        (adamw, {"betas": (0.9, 0.9)}, "betas of group 0 = .*0.95.* instead of .*0.9"),
        (torch.optim.Adam, {}, "class of the optimizer = 'AdamW' instead of 'Adam'"),
    ):
        with pytest.raises(ValueError, match=words):
            go(kind, **(first | changes))
    go(adamw, **first)
    assert names(tmp_path) == ["run.12.0of1", "run.8.0of1"]


def test_the_order_of_overrides_is_free_to_resume(tmp_path, monkeypatch):
    options = {"path": tmp_path / "run", "save_every": 4}
    head, gain = {"lr": 0.01, "momentum": 0.9}, {"lr": 0.02}
    first = {"lr": 0.01, "overrides": {"head": head, "embedding": gain}}
    killed_at(5, monkeypatch, DENSE, text(), RECIPE, first, **options)
    turned = {"embedding": gain, "head": {"momentum": 0.9, "lr": 0.01}}
    steps = taken(monkeypatch)
    pretrain(DENSE, text(), RECIPE, {"overrides": turned, "lr": 0.01}, **options)
    assert steps == list(range(4, 12))


def test_numbers_of_numpy_are_numbers(tmp_path, monkeypatch):
    options = {"path": tmp_path / "run", "save_every": np.int64(4)}
    changes = {"z_logits": np.float64(0.01), "seed": np.int64(1), "clip": np.float32(1)}
    recipe = with_(RECIPE, **changes, compile=np.False_)
    args = DENSE, text(), recipe, ADAMW | {"weight_decay": np.float64(0.1)}
    killed_at(5, monkeypatch, *args, **options)
    plain = with_(RECIPE, z_logits=0.01, seed=1, clip=1.0)
    steps = taken(monkeypatch)
    pretrain(DENSE, text(), plain, ADAMW | {"weight_decay": 0.1}, **options)
    assert steps == list(range(4, 12))


# --- with weights --------------------------------------------------------------------


def test_a_run_at_its_end_replaces_its_own_weights(tmp_path):
    """With other evaluations, too; more steps are another run's weights."""
    options = {"path": tmp_path / "run", "save_every": 6, "out": tmp_path / "kept"}
    recipe = with_(RECIPE, decay=0.0)
    pretrain(DENSE, text(), recipe, ADAMW, **options)
    other = with_(recipe, validation=2, evaluate_every=0)
    loop.ready(DENSE, other, ADAMW, **options)
    pretrain(DENSE, text(), other, ADAMW, **options)
    longer = with_(recipe, steps=14)
    words = "kept has the weights of another run, with steps = 12 instead of 14: name"
    with pytest.raises(ValueError, match=words):
        pretrain(DENSE, text(), longer, ADAMW, **options)
    assert names(tmp_path) == ["kept", "run.12.0of1", "run.6.0of1"]
    with pytest.raises(ValueError, match="has weights already"):
        loop.ready(DENSE, recipe, ADAMW, out=tmp_path / "kept")


def test_weights_that_cannot_be_written_lose_no_row(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("symlab.pretraining.saved.save", full)
    with pytest.raises(NotKept, match="No space left") as lost:
        pretrain(DENSE, text(), RECIPE, ADAMW, out=tmp_path / "kept")
    assert len(lost.value.row["train_loss"]) == 12
    again = loop.evaluate(lost.value.model, text(), RECIPE)
    assert again["val_loss"] == lost.value.row["val_loss"]


def test_the_shell_stores_the_row_of_a_run_whose_weights_are_lost(
    tmp_path, monkeypatch, capsys
):
    """And keeps the checkpoint, from which the same command writes them."""
    path, out = tmp_path / "run", tmp_path / "kept"
    options = ["--checkpoint", str(path), "--save-every", "2", "--out", str(out)]

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("symlab.pretraining.saved.save", full)
        assert shell(tmp_path, monkeypatch, *options) == 2
    said = capsys.readouterr()
    assert "the final weights are not kept ([Errno 28] No space left on" in said.err
    assert "has the state at the end: start the same command again" in said.err
    stored = tmp_path / "results" / "full" / "pretraining.parquet"
    assert len(pd.read_parquet(stored).train_loss.item()) == 3
    monkeypatch.setattr(loop._Run, "_advance", None)  # no further step
    assert shell(tmp_path, monkeypatch, *options) == 0
    assert (out / "model.safetensors").exists()
    assert not list(tmp_path.glob("run.*"))


# --- of several processes ------------------------------------------------------------


def test_what_fails_in_one_process_ends_the_others(tmp_path, monkeypatch, capsys):
    """Here the others, whose first process cannot write its results, or its log."""
    other = Failing(rank=1)
    monkeypatch.setattr("symlab.pretraining.__main__.join", lambda *_: other)
    monkeypatch.setattr("symlab.pretraining.__main__.corpus", None)
    assert shell(tmp_path, monkeypatch) == 2
    assert "another process has failed" in capsys.readouterr().err
    monkeypatch.setattr(loop._Run, "go", None)
    with pytest.raises(OSError, match="another process has failed"):
        pretrain(DENSE, text(), RECIPE, ADAMW, processes=other)
