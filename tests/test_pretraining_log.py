"""What a person watches while a run goes on, and what there is to tune: logs, lines,
warm-up, clipping."""

import math
import resource
import sys
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from symlab.data.text import batches
from symlab.models.transformer import Decoder
from symlab.pretraining import log as logs
from symlab.pretraining import loop, pretrain, schedule
from symlab.pretraining import train as train_with
from tests.test_pretraining import (
    ADAMW,
    DENSE,
    RECIPE,
    T,
    losses,
    shell,
    text,
    with_,
)
from tests.test_pretraining_checkpoints import at_step, killed_at

ARGS = DENSE, text(), RECIPE, ADAMW


def go(recipe=RECIPE, **options) -> dict:
    """A run of torch's AdamW, for which no roles have to be found."""
    model = Decoder(DENSE, torch.Generator().manual_seed(0))
    adamw = torch.optim.AdamW(model.parameters(), lr=0.01)
    return train_with(model, adamw, text(), recipe, **options)


def read(file) -> pd.DataFrame:
    return pd.read_csv(file).set_index("step")


# --- the table -----------------------------------------------------------------------


def test_the_log_has_the_losses_of_the_row(tmp_path):
    recipe = with_(RECIPE, clip=math.inf, warmup=3)
    row = pretrain(DENSE, text(), recipe, ADAMW, log=tmp_path / "new" / "log.csv")
    df = read(tmp_path / "new" / "log.csv")
    assert df.index.tolist() == list(range(13))
    assert df.loss[:12].tolist() == row["train_loss"]
    assert df.val_loss.dropna().to_dict() == dict(
        zip(row["val_step"], row["val_curve"], strict=True)
    )
    assert df.tokens.tolist() == [step * 4 * T for step in range(13)]
    assert df.lr_factor[:12].tolist() == [schedule(t, 12, 0.4, 3) for t in range(12)]
    assert df.gradient_norm.max() == row["gradient_norm_max"]
    assert df.gradient_norm.median() == row["gradient_norm"]
    assert df.step_s[3:12].median() == row["step_s"]
    assert df.loc[12].drop(["tokens", "val_loss"]).isna().all()


def test_it_can_be_read_while_the_run_goes_on(tmp_path, monkeypatch):
    """After step 7 the rows of the six before it are there; its own comes next."""
    found = []
    with monkeypatch.context() as patch:
        at_step(7, lambda: found.append(read(tmp_path / "log.csv")), patch)
        row = go(log=tmp_path / "log.csv")
    assert found[0].loss.tolist() == row["train_loss"][:6]
    assert found[0].gradient_norm.isna().all()
    assert losses(row) == losses(go())


def test_a_resumed_run_has_each_step_once(tmp_path, monkeypatch):
    """Of a kill after step 9 the rows of steps 4 to 7 are written twice."""
    whole = go(log=tmp_path / "whole.csv")
    options = {"path": tmp_path / "run", "save_every": 4, "log": tmp_path / "log.csv"}
    killed_at(9, monkeypatch, run=go, **options)
    assert read(tmp_path / "log.csv").index.tolist() == list(range(8))
    (tmp_path / "run.8.0of1").unlink()
    with (tmp_path / "log.csv").open("a") as file:
        file.write("8,512,3.4")  # of a process that was killed in the middle of a row
    assert losses(go(**options)) == losses(whole)
    columns = ["tokens", "loss", "lr_factor", "val_loss"]
    pd.testing.assert_frame_equal(
        read(tmp_path / "log.csv")[columns], read(tmp_path / "whole.csv")[columns]
    )


def test_a_run_killed_before_its_first_checkpoint_begins_its_log_anew(
    tmp_path, monkeypatch
):
    options = {"path": tmp_path / "run", "save_every": 9, "log": tmp_path / "log.csv"}
    killed_at(7, monkeypatch, run=go, **options)
    row = go(**options)
    assert read(tmp_path / "log.csv").loss[:12].tolist() == row["train_loss"]


def test_more_steps_go_on_in_the_log(tmp_path):
    options = {"path": tmp_path / "run", "save_every": 9, "log": tmp_path / "log.csv"}
    for steps in (12, 20):
        row = go(with_(RECIPE, steps=steps, decay=0.0), **options)
    df = read(tmp_path / "log.csv")
    assert df.index.tolist() == list(range(21))
    assert df.loss[:20].tolist() == row["train_loss"]


@pytest.mark.parametrize("path", [None, "run"])
def test_the_log_of_an_earlier_run_is_not_overwritten(path, tmp_path, monkeypatch):
    log = tmp_path / "log.csv"
    go(log=log)
    kept = log.read_bytes()
    options = {"path": tmp_path / path, "save_every": 4} if path else {}
    for start, args in ((go, ()), (loop.ready, (DENSE, RECIPE, ADAMW))):
        with pytest.raises(ValueError, match="has the losses of an earlier run"):
            start(*args, log=log, **options)
    assert log.read_bytes() == kept


def test_a_log_that_ended_early_is_kept_where_there_is_no_checkpoint(
    tmp_path, monkeypatch
):
    killed_at(5, monkeypatch, run=go, log=tmp_path / "log.csv")
    with pytest.raises(ValueError, match="has the losses of an earlier run"):
        go(log=tmp_path / "log.csv")
    assert len(read(tmp_path / "log.csv")) == 4


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("log.parquet", None, "a name that ends in .csv"),
        ("log.csv", "a,b\n1,2\n", "is no log of a run, which would begin with step,to"),
        ("log.csv", logs.HEADER + "0,0,3.4,1,,0.1,\n!\n", "row 2 of the log .*damaged"),
    ],
)
def test_what_is_no_log_is_said_before_a_text_is_read(name, content, words, tmp_path):
    if content:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=words):
        loop.ready(DENSE, RECIPE, ADAMW, log=tmp_path / name)
    if content:
        assert (tmp_path / name).read_text() == content


def test_a_log_on_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    """A limit on the size of files stands for the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))

    at_step(5, full, monkeypatch)
    try:
        with pytest.raises(OSError, match="log.csv could not be written.*: make room"):
            go(log=tmp_path / "log.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_run_that_diverges_logs_what_it_keeps(tmp_path):
    args = DENSE, text(), RECIPE, ADAMW | {"lr": 1e20}
    row = pretrain(*args, log=tmp_path / "log.csv")
    assert read(tmp_path / "log.csv").loss.dropna().tolist() == row["train_loss"]


def test_the_shell_writes_a_log(tmp_path, monkeypatch, capsys):
    options = "--log", str(tmp_path / "log.csv"), "--clip", "1", "--warmup", "2"
    assert shell(tmp_path, monkeypatch, *options) == 0
    df = read(tmp_path / "log.csv")
    assert df.lr_factor[:3].tolist() == pytest.approx([0.5, 1, 1 / 1.2])
    assert (df.gradient_norm[:3] > 0).all()
    assert shell(tmp_path, monkeypatch, *options) == 2
    assert "has the losses of an earlier run" in capsys.readouterr().err


# --- TensorBoard ---------------------------------------------------------------------


class Writer:
    """Stands for torch's SummaryWriter: what it is given, by name and step."""

    def __init__(self, folder, purge_step):
        self.folder, self.purge_step, self.points = folder, purge_step, {}
        self.open, Writer.last = True, self

    def add_scalar(self, name, value, step):
        self.points[name, step] = value

    def flush(self):
        pass

    def close(self):
        self.open = False


def test_tensorboard_gets_the_same_curves(tmp_path, monkeypatch):
    fake = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    options = {"path": tmp_path / "run", "save_every": 5, "tensorboard": tmp_path / "b"}
    killed_at(7, monkeypatch, *ARGS, **options)
    assert Writer.last.purge_step == 0
    assert not Writer.last.open
    row = pretrain(*ARGS, **options)
    points = Writer.last.points
    assert Writer.last.folder == str(tmp_path / "b")
    assert Writer.last.purge_step == 5
    curve = [points["loss", step] for step in range(5, 12)]
    assert curve == row["train_loss"][5:]
    assert points["val_loss", 12] == row["val_loss"]
    assert {name for name, _ in points} == {"loss", "lr_factor", "step_s", "val_loss"}


def test_tensorboard_that_is_not_installed_is_said_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match="need the package tensorboard"):
        loop.ready(DENSE, RECIPE, ADAMW, tensorboard="board")


# --- the terminal --------------------------------------------------------------------


def test_without_a_terminal_progress_is_lines(capsys, monkeypatch):
    row = go(show=True)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "symlab.pretraining: step 0/12"
    said = f"symlab.pretraining: step 12/12  loss {row['train_loss'][-1]:.4f}  lr x 0."
    assert last.startswith(said)
    assert last.endswith("tokens/s  ETA 0 s")
    monkeypatch.setattr(logs, "EVERY", -1.0)
    go(show=True)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 13
    assert f"step 5/12  loss {row['train_loss'][4]:.4f}  lr x 1  " in said[5]


def test_the_speed_and_what_is_left_are_right(capsys, monkeypatch):
    """On a clock that runs 10 s a step, of 64 tokens each."""
    now = [0.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    with logs.Progress(12, 2, 64, True) as progress:
        for _ in range(4):
            now[0] += 10.0
            progress.step(torch.tensor(2.5), 1.0)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "symlab.pretraining: step 2/12",
        "symlab.pretraining: step 5/12  loss 2.5000  lr x 1  6 tokens/s  ETA 70 s",
    ]


def test_in_a_terminal_progress_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    row = go(show=True)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    last = said.split("\r")[-1]
    assert "12/12" in last
    assert f"loss {row['train_loss'][-1]:.4f}, lr x 0." in last


def test_nothing_is_said_unless_asked(capsys):
    go()
    assert capsys.readouterr().err == ""


# --- warm-up -------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [4, 0.4])
def test_rates_rise_from_zero_to_one(warmup):
    factors = [schedule(t, 10, 0.2, warmup) for t in range(10)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 0.5])


def test_where_rising_and_falling_overlap_the_smaller_counts():
    factors = [schedule(t, 4, 1.0, 2) for t in range(4)]
    assert factors == pytest.approx([0.5, 0.75, 0.5, 0.25])


def test_the_optimizer_gets_the_rates_of_the_warm_up():
    """Those of torch's own LinearLR, which multiplies from its first factor to 1."""
    recipe = with_(RECIPE, warmup=5, decay=0.0)
    expected = plain_losses(
        lambda o: torch.optim.lr_scheduler.LinearLR(o, 1 / 5, total_iters=4)
    )
    assert trained(recipe)["train_loss"] == pytest.approx(expected, abs=1e-6)


def trained(recipe) -> dict:
    model = Decoder(DENSE, torch.Generator().manual_seed(0))
    return train_with(
        model, torch.optim.SGD(model.parameters(), lr=0.5), text(), recipe
    )


def plain_losses(scheduler=None, clip: float | None = None) -> list[float]:
    """Twelve losses of SGD in a loop written out, with torch's own parts."""
    model = Decoder(DENSE, torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    rates = scheduler(optimizer) if scheduler else None
    found = []
    for x, y in islice(batches(text().train, 4, T, 0), 12):
        optimizer.zero_grad()
        logits = model(torch.from_numpy(x)).transpose(1, 2)
        value = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y))
        value.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if rates:
            rates.step()
        found.append(value.item())
    return found


def test_more_steps_resume_after_a_warm_up_in_steps(tmp_path, monkeypatch):
    short, long = (with_(RECIPE, steps=n, warmup=6) for n in (12, 20))
    whole = go(long)
    options = {"path": tmp_path / "run", "save_every": 4}
    killed_at(7, monkeypatch, short, run=go, **options)
    assert losses(go(long, **options)) == losses(whole)


def test_other_rates_while_warming_up_are_refused(tmp_path, monkeypatch):
    recipe = with_(RECIPE, warmup=0.5)
    options = {"path": tmp_path / "run", "save_every": 4}
    killed_at(5, monkeypatch, recipe, run=go, **options)
    words = "step 4, and from step 0 on its rates were .*decay = 0.4 and warmup = 0.5, "
    for changes in ({"steps": 20}, {"warmup": 5}, {"warmup": 0.0}):
        with pytest.raises(ValueError, match=words):
            go(with_(recipe, **changes), **options)


def test_a_warm_up_in_steps_or_in_parts_is_one_where_the_steps_are(
    tmp_path, monkeypatch
):
    options = {"path": tmp_path / "run", "save_every": 4}
    recipe = with_(RECIPE, warmup=0.5)
    killed_at(5, monkeypatch, recipe, run=go, **options)
    row = go(with_(RECIPE, warmup=6), **options)
    assert losses(row) == losses(go(recipe))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"warmup": -1}, "warmup = -1: give a whole number of steps, or the part"),
        ({"warmup": 1.5}, "warmup = 1.5: give a whole"),
        ({"warmup": math.nan}, "warmup = nan: give a whole"),
        ({"warmup": math.inf}, "warmup = inf: give a whole"),
        ({"warmup": 13}, "warmup = 13 is more than steps = 12"),
        ({"clip": -1.0}, "clip = -1.0: give the largest norm"),
        ({"clip": math.nan}, "clip = nan: give the largest norm"),
    ],
    ids=str,
)
def test_recipes_are_checked(changes, words):
    with pytest.raises(ValueError, match=words):
        with_(RECIPE, **changes)


# --- clipping ------------------------------------------------------------------------


@pytest.mark.parametrize("micro", [0, 2])
def test_clipped_losses_are_those_of_a_loop_written_out(micro):
    """Clipped after the micro-batches have added up; unclipped losses are others."""
    recipe = with_(RECIPE, clip=0.3, decay=0.0, micro=micro)
    row, expected = trained(recipe), plain_losses(clip=0.3)
    assert row["train_loss"] == pytest.approx(expected, abs=1e-6)
    assert abs(np.subtract(expected, plain_losses())).max() > 0.01
    assert 0.3 < row["gradient_norm"] <= row["gradient_norm_max"]


def test_an_infinite_norm_measures_only():
    """The norms are those of all gradients together."""
    measured, plain = go(with_(RECIPE, clip=math.inf)), go()
    assert losses(measured) == losses(plain)
    assert "gradient_norm" not in plain
    model = Decoder(DENSE, torch.Generator().manual_seed(0))
    x, y = next(batches(text().train, 4, T, 0))
    logits = model(torch.from_numpy(x)).transpose(1, 2)
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).backward()
    first = sum(float(p.grad.square().sum()) for p in model.parameters()) ** 0.5
    one = go(with_(RECIPE, clip=math.inf, steps=1))
    assert one["gradient_norm"] == pytest.approx(first, rel=1e-5)


def test_norms_go_on_after_a_resume(tmp_path, monkeypatch):
    recipe = with_(RECIPE, clip=0.3)
    whole = go(recipe)
    options = {"path": tmp_path / "run", "save_every": 4}
    killed_at(9, monkeypatch, recipe, run=go, **options)
    row = go(recipe, **options)
    for name in ("train_loss", "gradient_norm", "gradient_norm_max"):
        assert row[name] == whole[name]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_ends_the_run(value, tmp_path):
    """The loss of that step is finite, and the state of the step before is kept."""
    model = Decoder(DENSE, torch.Generator().manual_seed(0))
    passes = []

    def spoil(gradient):
        passes.append(1)
        return gradient * value if len(passes) == 6 else gradient

    model.head.weight.register_hook(spoil)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"path": tmp_path / "run", "save_every": 1}
    row = train_with(model, optimizer, text(), with_(RECIPE, clip=1.0), **options)
    assert row["diverged_at"] == 5
    assert len(row["train_loss"]) == 5
    assert math.isfinite(row["gradient_norm_max"])
    assert sorted(f.name for f in tmp_path.iterdir()) == ["run.4.0of1", "run.5.0of1"]


def test_normalised_updates_hardly_see_clipping():
    """All gradients a thousand times shorter: the losses of polar factors stay."""
    recipe = with_(RECIPE, steps=16)
    symmetric = {"lr": 0.01, "overrides": {"gain": {"lr": 0.0}}}
    plain = pretrain(DENSE, text(), recipe, symmetric)
    clipped = pretrain(DENSE, text(), with_(recipe, clip=1e-3), symmetric)
    assert clipped["gradient_norm"] > 0.1
    assert clipped["val_loss"] == pytest.approx(plain["val_loss"], abs=0.02)
