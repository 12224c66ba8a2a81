"""Pretraining: the loop, its checkpoints, its accounts, and what it refuses."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from symlab.data.text import Corpus, corpus
from symlab.models.families import family, preset
from symlab.models.transformer import Decoder, loss
from symlab.pretraining import Recipe, flops_per_token, loop, pretrain, schedule
from symlab.pretraining import train as train_with
from symlab.pretraining.processes import on
from symlab.pretraining.tuning import at_edge, chosen, scores

V, T = 32, 16
SIZES = {"vocabulary": V, "context": T, "width": 16, "layers": 2, "heads": 2}
SIZES |= {"kv_heads": 1, "head_width": 8, "hidden": 24}
DENSE = family("qwen3", **SIZES)
MIXTURE = family("olmoe", **SIZES, experts=4, chosen=2)
RECIPE = Recipe(steps=12, batch=4, length=T, evaluate_every=5, validation=3)
ADAMW = {"preset": "adamw", "lr": 0.01}
RUNS = {  # what two processes must do as one does
    "dense": (DENSE, RECIPE, {"lr": 0.01}),
    "adamw": (DENSE, Recipe(steps=6, batch=4, length=T, micro=1), ADAMW),
    "mixture": (MIXTURE, RECIPE, {"lr": 0.01}),
}


def text(vocabulary: int = V, n: int = 4000) -> Corpus:
    """Each token is drawn from four that the one before it allows."""
    draws = np.random.default_rng(0)
    ids = [0]
    for step in draws.integers(1, 5, n):
        ids.append(int(ids[-1] * 3 + step) % vocabulary)
    ids = np.array(ids, np.uint16)
    return Corpus("toy", "0" * 16, vocabulary, ids[:-800], ids[-800:], 2.0, "{}")


def losses(row: dict) -> list[float]:
    return [*row["train_loss"], *row["val_curve"]]


def with_(recipe: Recipe, **changes) -> Recipe:
    return Recipe(**(recipe.__dict__ | changes))


# --- the loop ------------------------------------------------------------------------


@pytest.mark.parametrize("config", [DENSE, MIXTURE], ids=["dense", "mixture"])
def test_it_learns_what_can_be_learned(config):
    recipe = Recipe(steps=150, batch=8, length=T, validation=3)
    row = pretrain(config, text(), recipe, {"lr": 0.02})
    assert math.log(4) - 0.02 < row["val_loss"] < math.log(4) + 0.15
    assert row["bits_per_byte"] == row["val_loss"] / math.log(2) / 2
    assert row["tokens"] == 150 * 8 * T
    assert len(row["train_loss"]) == 150


def test_the_initial_loss_is_that_of_guessing():
    row = pretrain(DENSE, text(), RECIPE, {"lr": 0.0})
    assert row["val_curve"] == pytest.approx([math.log(V)] * 4, abs=0.01)
    assert row["val_step"] == [0, 5, 10, 12]


class Knows(Decoder):
    """Is sure of the token `ahead` places after the input's in 0, 1, 2, ..., V - 1."""

    ahead = 1

    def forward(self, tokens, routers=False):
        sure = torch.nn.functional.one_hot((tokens + self.ahead) % V, V) * 1e3
        logits = sure + 0 * self.head.weight.sum()
        return (logits, [None, None]) if routers else logits


@pytest.mark.parametrize(("ahead", "expected"), [(0, 1e3), (1, 0.0), (2, 1e3)])
def test_targets_are_the_next_tokens_shifted_once(ahead, expected):
    ids = (np.arange(2000) % V).astype(np.uint16)
    counting = Corpus("counting", "1" * 16, V, ids[:1600], ids[1600:], 1.0, "{}")
    model = Knows(DENSE, torch.Generator().manual_seed(0))
    model.ahead = ahead
    sgd = torch.optim.SGD(model.parameters(), lr=0.0)
    row = train_with(model, sgd, counting, with_(RECIPE, steps=2))
    assert losses(row) == [expected] * len(losses(row))


def test_rates_are_constant_and_then_fall_to_zero():
    factors = [schedule(t, 10, 0.4) for t in range(10)]
    assert factors == pytest.approx([1] * 7 + [0.75, 0.5, 0.25])
    assert [schedule(t, 10, 0.0) for t in range(10)] == [1] * 10


def test_the_optimizer_gets_those_rates():
    model = Decoder(DENSE, torch.Generator().manual_seed(0))
    seen = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([g["lr"] for g in self.param_groups])
            super().step()

    head, *others = reversed(list(model.parameters()))
    groups = [{"params": others}, {"params": [head], "lr": 0.5}]
    train_with(model, Spy(groups, lr=0.1), text(), with_(RECIPE, steps=5))
    assert np.array(seen) == pytest.approx(
        np.outer([1, 1, 1, 1, 0.5], [0.1, 0.5]), rel=1e-12
    )


@pytest.mark.parametrize("config", [DENSE, MIXTURE], ids=["dense", "mixture"])
def test_micro_batches_add_up(config):
    whole, parts = (
        pretrain(config, text(), with_(RECIPE, micro=m, precision="float64"), ADAMW)
        for m in (0, 1)
    )
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-10)


def test_bfloat16_is_near_float32():
    half = pretrain(DENSE, text(), with_(RECIPE, precision="bfloat16"), ADAMW)
    single = pretrain(DENSE, text(), RECIPE, ADAMW)
    assert losses(half) != losses(single)
    assert losses(half) == pytest.approx(losses(single), abs=0.02)


def test_the_loss_is_that_of_a_loop_written_out():
    """torch.optim.AdamW, and batches taken by hand."""
    from symlab.data.text import batches

    model = Decoder(DENSE, torch.Generator().manual_seed(3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.95))
    recipe = with_(RECIPE, seed=3, decay=0.0)
    expected = []
    for _, (x, y) in zip(range(12), batches(text().train, 4, T, 3), strict=False):
        optimizer.zero_grad()
        logits = model(torch.from_numpy(x))
        value = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), torch.from_numpy(y)
        )
        value.backward()
        optimizer.step()
        expected.append(value.item())
    model = Decoder(DENSE, torch.Generator().manual_seed(3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.95))
    row = train_with(model, optimizer, text(), recipe)
    assert row["train_loss"] == pytest.approx(expected, abs=1e-6)


# --- routers and shifts --------------------------------------------------------------


def test_auxiliary_losses_are_means_over_layers():
    model = Decoder(MIXTURE, torch.Generator().manual_seed(0))
    x, y = torch.arange(64).remainder(V).view(2, 2, T)
    recipe = with_(RECIPE, balance=0.3, z=0.2, phi=0.5)
    objective, nll = loop.Objective(model, recipe)(x, y)
    logits, routers = model(x, routers=True)
    expected = loss(logits, y)
    assert nll == expected
    for z, k in routers:
        p = z.softmax(-1).mean(0)
        price = 1 + (0.01 * p.detach()).log()  # of the first running mean, eta p
        f = torch.bincount(k.flatten(), minlength=4) / k.numel()
        terms = 0.3 * 4 * (f * p).sum(), 0.2 * z.logsumexp(-1).square().mean()
        expected = expected + (sum(terms) + 0.5 * (p * price).sum()) / 2
    torch.testing.assert_close(objective, expected)
    grads = torch.autograd.grad(objective, list(model.parameters()))
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    torch.testing.assert_close(grads, wanted)


def test_centred_updates_leave_the_mean_rows_alone():
    row = pretrain(MIXTURE, text(), with_(RECIPE, precision="float64"), {"lr": 0.02})
    assert row["head_shift"] < 1e-14
    assert row["router_shift"] < 1e-14
    row = pretrain(MIXTURE, text(), with_(RECIPE, precision="float64"), ADAMW)
    assert row["head_shift"] > 1e-3
    assert row["router_shift"] > 1e-3


def test_measures_are_of_all_validation_tokens():
    model = Decoder(MIXTURE, torch.Generator().manual_seed(0))
    one = loop.evaluate(model, text(), with_(RECIPE, micro=0))
    many = loop.evaluate(model, text(), with_(RECIPE, micro=1))
    assert many == pytest.approx(one, rel=1e-5)


# --- checkpoints ---------------------------------------------------------------------


class Killed(BaseException):
    pass


def killed_at(step: int, monkeypatch, *args, run=pretrain, **options) -> None:
    tell = loop._Run._tell

    def die(run, bar):
        tell(run, bar)
        if run.step == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_tell", die)
        with pytest.raises(Killed):
            run(*args, **options)


@pytest.mark.parametrize("preset", ["symmetric", "aro", "adamw"])
def test_a_killed_run_goes_on_to_the_same_losses(preset, tmp_path, monkeypatch):
    recipe = with_(RECIPE, phi=0.1)
    args = MIXTURE, text(), recipe, {"preset": preset, "lr": 0.01}
    whole = pretrain(*args)
    path = tmp_path / "run"
    killed_at(9, monkeypatch, *args, path=path, save_every=4)
    assert [f.name for f in tmp_path.iterdir()] == ["run.8.0of1"]
    steps = []
    advance = loop._Run._advance
    monkeypatch.setattr(
        loop._Run, "_advance", lambda r, *b: (steps.append(r.step), advance(r, *b))
    )
    row = pretrain(*args, path=path, save_every=4)
    assert steps == [8, 9, 10, 11]
    for name in ("train_loss", "val_curve", "load_cv_curve", "head_shift"):
        assert row[name] == whole[name]
    assert list(tmp_path.iterdir()) == []


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


def test_a_checkpoint_of_another_run_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "run"
    killed_at(5, monkeypatch, DENSE, text(), RECIPE, ADAMW, path=path, save_every=4)
    for recipe, optimizer, words in (
        (with_(RECIPE, seed=1), ADAMW, "seed = 0 instead of 1"),
        (RECIPE, ADAMW | {"lr": 0.02}, "optimizer = .*0.01.* instead of .*0.02"),
    ):
        with pytest.raises(ValueError, match=f"{words}.*: name another path"):
            pretrain(DENSE, text(), recipe, optimizer, path=path)
    assert (tmp_path / "run.4.0of1").exists()


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "run.4.0of1").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="run.4.0of1 cannot be read: delete it"):
        pretrain(DENSE, text(), RECIPE, ADAMW, path=tmp_path / "run")


def test_a_checkpoint_of_more_processes_is_refused(tmp_path):
    (tmp_path / "run.4.1of2").write_bytes(b"")
    with pytest.raises(ValueError, match="has 2 parts and this run 1"):
        pretrain(DENSE, text(), RECIPE, ADAMW, path=tmp_path / "run")


# --- accounts ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "olmoe"])
def test_operations_are_those_that_torch_counts(name):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    mixed = {"experts": 4, "chosen": 2} if name == "olmoe" else {}
    config = family(name, **SIZES, **mixed)
    model = Decoder(config, torch.Generator().manual_seed(0)).double()
    # of fused attention on the CPU it counts nothing, of float32 experts neither
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.zeros(3, T, dtype=torch.long)).sum().backward()
    assert counter.get_total_flops() == 3 * T * flops_per_token(config, T)


def test_the_accounts_of_a_run():
    row = pretrain(DENSE, text(), RECIPE, ADAMW)
    entries = sum(p.numel() for p in Decoder(DENSE, torch.Generator()).parameters())
    tensors = len(list(Decoder(DENSE, torch.Generator()).parameters()))
    assert row["parameters"] == entries
    assert row["state_bytes"] == 8 * entries + 4 * tensors
    assert row["vocabulary_state_bytes"] == 2 * (8 * V * 16 + 4)
    assert 0 < row["optimizer_share"] < 1
    assert row["tokens_per_s"] == 4 * T / row["step_s"]
    assert math.isnan(row["mfu"])
    half = pretrain(DENSE, text(), RECIPE, {"lr": 0.01})
    assert half["vocabulary_state_bytes"] == 2 * 4 * V * 16


# --- what goes wrong -----------------------------------------------------------------


def test_a_run_that_diverges_says_where_and_keeps_what_was_before():
    row = pretrain(DENSE, text(), RECIPE, ADAMW | {"lr": 1e20})
    assert 0 < row["diverged_at"] < 12
    assert len(row["train_loss"]) == row["diverged_at"]
    assert np.isfinite(row["train_loss"]).all()


@pytest.mark.parametrize(
    ("config", "recipe", "words"),
    [
        (family("qwen3", **(SIZES | {"vocabulary": 64})), RECIPE, "vocabulary of 32"),
        (DENSE, with_(RECIPE, length=4000), "too few for a sequence"),
        (DENSE, with_(RECIPE, micro=3), "micro = 3 does not divide the 4"),
        (DENSE, with_(RECIPE, balance=0.1), "this model is dense"),
        (DENSE, with_(RECIPE, validation=100), "ask for fewer"),
    ],
)
def test_what_does_not_fit_is_said(config, recipe, words):
    with pytest.raises(ValueError, match=words):
        pretrain(config, text(), recipe, ADAMW)


def test_recipes_are_checked():
    with pytest.raises(ValueError, match="use float32, bfloat16, float64"):
        Recipe(steps=1, batch=1, length=1, precision="float8")
    with pytest.raises(ValueError, match="one step or more"):
        Recipe(steps=0, batch=1, length=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said():
    with pytest.raises(ValueError, match="cuda was asked for and torch finds none"):
        on("cuda")


# --- from a shell --------------------------------------------------------------------


def shell(tmp_path, monkeypatch, *options) -> int:
    from symlab.pretraining.__main__ import main

    monkeypatch.setenv("SYMLAB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SYMLAB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "text"
    folder.mkdir(exist_ok=True)
    for d in range(40):
        lines = (f"{n} and {n * d} make {n + n * d}.\n" for n in range(60))
        (folder / f"{d}.txt").write_text("".join(lines))
    small = ["--text", str(folder), "--vocabulary", "300", "--steps", "3", "--batch"]
    small += ["2", "--length", "16", "--validation", "2"]
    return main(["dense-small", *small, *options])


def test_rows_of_the_shell_add_up_in_the_store(tmp_path, monkeypatch, capsys):
    """And hold what the library gives for the same arguments."""
    overrides = "--set", "head.lr=0.01", "--set", "attention_out.rule=adamw"
    assert shell(tmp_path, monkeypatch) == 0
    assert "nats per token" in capsys.readouterr().out
    assert shell(tmp_path, monkeypatch, "--seed", "1", *overrides) == 0
    df = pd.read_parquet(tmp_path / "results" / "full" / "pretraining.parquet")
    assert sorted(df.seed) == [0, 1]
    assert df.status.tolist() == ["ok", "ok"]
    changed = df[df.seed == 1].optimizer.item()
    assert "{'head': {'lr': 0.01}, 'attention out': {'rule': 'adamw'}}" in changed
    rates = {"lr": 0.02, "weight_decay": 0.0}
    sums = corpus(str(tmp_path / "text"), 300)
    model = preset("dense-small", vocabulary=300, context=16)
    overridden = {"head": {"lr": 0.01}, "attention out": {"rule": "adamw"}}
    for seed, optimizer in ((0, {}), (1, {"overrides": overridden})):
        recipe = Recipe(steps=3, batch=2, length=16, validation=2, seed=seed)
        row = pretrain(model, sums, recipe, {**rates, **optimizer})
        stored = df[df.seed == seed].iloc[0]
        for curve in ("train_loss", "val_curve"):
            assert stored[curve] == pytest.approx(row[curve], rel=1e-5)


def test_a_diverged_run_of_the_shell_is_a_failed_row(tmp_path, monkeypatch, capsys):
    options = "--preset", "adamw", "--lr", "1e30"
    assert shell(tmp_path, monkeypatch, *options) == 1
    assert "diverged at step" in capsys.readouterr().err
    df = pd.read_parquet(tmp_path / "results" / "full" / "pretraining.parquet")
    assert df.status.item() == "failed"


def test_what_the_shell_cannot_do_is_one_sentence(tmp_path, monkeypatch, capsys):
    for options, words in (
        (("--set", "head"), "--set head: write role.field=value"),
        (("--set", "heads.lr=1"), "'heads' is no role"),
        (("--length", "1000000"), "too few for a sequence"),
    ):
        assert shell(tmp_path, monkeypatch, *options) == 2
        assert words in capsys.readouterr().err


# --- tuning --------------------------------------------------------------------------


def grid(values, seeds=(0, 1)):
    rows = [
        {"rule": rule, "lr": lr, "seed": s, "val_loss": v + 0.1 * s}
        for (rule, lr), v in values.items()
        for s in seeds
    ]
    return pd.DataFrame(rows)


def test_each_arm_gets_the_rate_with_the_least_mean_loss():
    nan = float("nan")
    df = grid({("a", 1): 2.0, ("a", 2): 1.0, ("a", 4): nan, ("b", 1): 3.0, ("b", 2): 4})
    best = chosen(df, ["rule"], ["lr"])
    assert best.lr.to_dict() == {"a": 2, "b": 1}
    assert best.score.to_dict() == pytest.approx({"a": 1.05, "b": 3.05})
    assert at_edge(df, ["rule"], ["lr"]).lr.to_dict() == {"a": False, "b": True}


def test_a_grid_with_unequal_seeds_is_refused():
    with pytest.raises(ValueError, match="run the whole grid on the same"):
        scores(grid({("a", 1): 1, ("a", 2): 2}).iloc[:-1], ["rule"], ["lr"])
