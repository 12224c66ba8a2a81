"""Pretraining: the loop, its checkpoints, its accounts, and what it refuses."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer

import symlab.pretraining
from symlab.data.text import Corpus, corpus, validation_batches
from symlab.harness import Context
from symlab.harness.race import at_edge, chosen, scores
from symlab.models.families import family, preset
from symlab.models.transformer import Decoder, loss
from symlab.pretraining import Recipe, flops_per_token, loop, pretrain, schedule
from symlab.pretraining import train as train_with
from symlab.pretraining.processes import Processes, on
from symlab.pretraining.runs import place_of, recipe_of

V, T = 32, 16
SIZES = {"vocabulary": V, "context": T, "width": 16, "layers": 2, "heads": 2}
SIZES |= {"kv_heads": 1, "head_width": 8, "hidden": 24}
DENSE = family("qwen3", **SIZES)
MIXTURE = family("olmoe", **SIZES, experts=4, chosen=2)
LONG = family("qwen3", **(SIZES | {"context": 4000}))
RECIPE = Recipe(steps=12, batch=4, length=T, evaluate_every=5, validation=3)
ADAMW = {"preset": "adamw", "lr": 0.01}
RUNS = {  # what two processes must do as one does
    "dense": (DENSE, RECIPE, {"lr": 0.01}),
    "adamw": (DENSE, Recipe(steps=6, batch=4, length=T, micro=1), ADAMW),
    "mixture": (MIXTURE, RECIPE, {"lr": 0.01}),
    "large": (
        replace(MIXTURE, tied=True),
        replace(
            RECIPE,
            micro=1,
            chunk=7,
            documents=True,
            recompute=True,
            z_logits=0.1,
            z=0.1,
        ),
        {"lr": 0.01},
    ),
    "clipped": (DENSE, Recipe(steps=6, batch=4, length=T, clip=1.1), ADAMW),
}


def text(vocabulary: int = V, n: int = 4000) -> Corpus:
    """Each token is drawn from four that the one before it allows."""
    draws = np.random.default_rng(0)
    ids = [0]
    for step in draws.integers(1, 5, n):
        ids.append(int(ids[-1] * 3 + step) % vocabulary)
    ids = np.array(ids, np.uint16)
    return Corpus("toy", "0" * 16, vocabulary, ids[:-800], ids[-800:], 2.0, "{}")


def changed(toy: Corpus, **attributes) -> Corpus:
    """The same text, which says something else of itself."""
    for name, value in attributes.items():
        object.__setattr__(toy, name, value)  # its fields are frozen
    return toy


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


def test_bits_per_byte_are_of_the_windows_that_are_evaluated():
    """A token has as many bytes as its number here, whatever the whole text has."""
    toy = changed(text(), target_bytes=lambda targets: int(targets.sum()))
    windows = validation_batches(toy.validation, 4, T, 3)
    bytes_ = sum(int(targets.sum()) for _, targets in windows)
    row = pretrain(DENSE, toy, with_(RECIPE, steps=1), ADAMW)
    bits = row["val_loss"] * (3 * 4 * T) / math.log(2)
    assert row["bits_per_byte"] == pytest.approx(bits / bytes_, rel=1e-12)


def test_the_row_says_what_a_balancing_loss_is_taken_over():
    recipe = with_(RECIPE, steps=1, balance=0.1, micro=2)
    row = pretrain(MIXTURE, text(), recipe, ADAMW)
    assert row["balance_over"] == "micro-batches of 2 sequences, 2 per step"
    assert pretrain(MIXTURE, text(), RECIPE, ADAMW)["balance_over"] == ""


def test_the_row_says_how_much_of_validation_is_in_training():
    recipe = with_(RECIPE, steps=1)
    row = pretrain(DENSE, changed(text(), shared=0.125), recipe, ADAMW)
    assert row["shared_text"] == 0.125


def test_the_example_of_the_package_runs(monkeypatch):
    """In one step, on a toy text with the vocabulary that it asks for."""

    def toy(name, vocabulary):
        assert name == "stdlib"
        whole = text(vocabulary, 20_000)
        return replace(whole, validation=whole.train[-10_000:])

    monkeypatch.setattr("symlab.data.text.corpus", toy)
    lines = symlab.pretraining.__doc__.splitlines()
    example = "\n".join(x.strip() for x in lines if x.startswith("    "))
    assert "steps=100" in example
    found: dict = {}
    exec(example.replace("steps=100", "steps=1"), found)
    assert len(found["row"]["train_loss"]) == 1


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
        (DENSE, with_(RECIPE, length=T + 1), "more than the model's context of 16"),
        (LONG, with_(RECIPE, length=4000), "too few for a sequence"),
        (DENSE, with_(RECIPE, micro=3), "micro = 3 does not divide the 4"),
        (DENSE, with_(RECIPE, balance=0.1), "this model is dense"),
        (DENSE, with_(RECIPE, validation=100), "ask for fewer"),
    ],
)
def test_what_does_not_fit_is_said(config, recipe, words):
    with pytest.raises(ValueError, match=words):
        pretrain(config, text(), recipe, ADAMW)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"precision": "float8"}, "use float32, bfloat16, float64"),
        ({"steps": 0}, "steps = 0: give a whole number of 1 or more"),
        ({"steps": 1.5}, "steps = 1.5: give a whole number"),
        ({"batch": 0}, "batch = 0"),
        ({"length": -1}, "length = -1"),
        ({"validation": 0}, "validation = 0: give a whole number of 1 or more"),
        ({"micro": -1}, "micro = -1: give a whole number of 0 or more"),
        ({"evaluate_every": -5}, "evaluate_every = -5"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 2**63}, "give one below 2"),
        ({"decay": 1.1}, "decay = 1.1: give the part"),
        ({"decay": math.nan}, "decay = nan"),
        ({"balance": -0.1}, "balance = -0.1: give a finite number of 0 or more"),
        ({"z": math.inf}, "z = inf"),
        ({"phi": math.nan}, "phi = nan"),
        ({"clip": "1"}, "clip = '1': give a number"),
        ({"documents": "false"}, "documents = 'false': give True or False"),
    ],
    ids=str,
)
def test_recipes_are_checked(changes, words):
    with pytest.raises(ValueError, match=words):
        with_(RECIPE, **changes)


@pytest.mark.parametrize(
    ("optimizer", "options", "words"),
    [
        ({"lr": -0.1}, {}, "lr = -0.1: give a finite number of 0 or more"),
        ({"lr": math.nan}, {}, "lr = nan"),
        ({"weight_decay": -1.0}, {}, "weight_decay = -1.0"),
        ({"overrides": {"hed": {"lr": 1}}}, {}, "'hed' is no role.*mean 'head'"),
        ({"overrides": {"head": "adam"}}, {}, "unknown rule.*did you mean 'adamw'"),
        ({"overrides": {"head": {"rate": 1}}}, {}, "unknown setting or option 'rate'"),
        ({"overrides": {"head": {"lr": -1}}}, {}, "'head': lr"),
        ({"lr": 1e300}, {}, "lr = 1e.300: give one of at most 1e.30"),
        ({"overrides": {"head": {"lr": 1e300}}}, {}, "lr = 1e.300"),
        ({"lr": 1e20, "weight_decay": 1e20}, {}, "more than 1e.30: give lower ones"),
        ({"overrides": {"head": {"centred": "false"}}}, {}, "True, False or None, not"),
        ({"overrides": {"head": {"nesterov": "no"}}}, {}, "must be True or False, not"),
        ({"preset": "muno"}, {}, "unknown preset 'muno': did you mean 'muon'"),
        ({}, {"save_every": 5}, "save_every = 5 without a checkpoint: say where"),
        ({}, {"path": "run"}, "checkpoint run is never saved: say after how many"),
        ({}, {"path": "run", "save_every": -1}, "save_every = -1"),
        ({}, {"processes": Processes(world=3)}, "4 sequences does not divide among 3"),
        ({}, {"processes": Processes(world=2)}, "micro = 4 does not divide the 2"),
    ],
    ids=str,
)
def test_what_cannot_be_run_is_said_before_a_text_is_read(optimizer, options, words):
    with pytest.raises(ValueError, match=words):
        loop.ready(DENSE, with_(RECIPE, micro=4), optimizer, **options)


def test_a_text_is_checked_before_a_weight_exists(monkeypatch):
    monkeypatch.setattr(loop, "build", None)
    for config, recipe, words in (
        (LONG, with_(RECIPE, length=4000), "too few for a sequence of 4,000"),
        (DENSE, with_(RECIPE, validation=100), "ask for fewer"),
    ):
        with pytest.raises(ValueError, match=words):
            pretrain(config, text(), recipe, ADAMW)


def test_errors_do_not_run_into_the_progress_bar(capsys):
    class Fails(torch.optim.SGD):
        def step(self, closure=None):
            raise ValueError("the optimizer fails")

    model = Decoder(DENSE, torch.Generator().manual_seed(0))
    fails = Fails(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="the optimizer fails"):
        train_with(model, fails, text(), RECIPE, show=True)
    shown = capsys.readouterr().err
    assert "0/12" in shown
    assert shown.endswith("\n")


@pytest.mark.parametrize("when", [3, 12])
def test_weights_that_are_not_finite_end_the_run(when):
    """Also after the last step, whose own loss was finite."""
    row = train_with(*poisoned(when), text(), RECIPE)
    assert row["diverged_at"] == when
    assert len(row["train_loss"]) == when


def poisoned(when: int) -> tuple:
    """A model, and SGD that puts an infinite weight into it in that step."""

    class Poisons(torch.optim.SGD):
        taken = 0

        def step(self, closure=None):
            super().step()
            self.taken += 1
            if self.taken == when:
                with torch.no_grad():
                    self.param_groups[0]["params"][0].view(-1)[0] = math.inf

    model = Decoder(DENSE, torch.Generator().manual_seed(0))
    return model, Poisons(model.parameters(), lr=0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said():
    with pytest.raises(ValueError, match="cuda was asked for and torch finds none"):
        on("cuda")


# --- from a shell --------------------------------------------------------------------


def shell(tmp_path, monkeypatch, *options, model=("dense-small",)) -> int:
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
    return main([*model, *small, *options])


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
        (("--validation", "0"), "validation = 0: give a whole number of 1 or more"),
        (("--validation", "100000"), "ask for fewer"),
        (("--lr", "-1"), "lr = -1.0: give a finite number of 0 or more"),
        (("--weight-decay", "nan"), "weight_decay = nan"),
        (("--checkpoint", "run"), "say after how many steps"),
        (("--save-every", "5"), "without a checkpoint"),
        (("--set", "head.rule=adam"), "did you mean 'adamw'"),
        (("--start", "weights"), "one of the two"),
        (("--vocabulary", "0"), "--vocabulary 0: give 1 or more tokens"),
        (("--vocabulary", "-5"), "--vocabulary -5: give 1 or more"),
        (("--lr", "1e300"), "lr = 1e+300: give one of at most 1e+30"),
        (("--set", "router.lr=1"), "--set router: no parameter of this model has this"),
        (("--set", "head.centred=nein"), "must be True, False or None, not 'nein'"),
    ):
        assert shell(tmp_path, monkeypatch, *options) == 2
        assert words in capsys.readouterr().err


def test_no_number_is_said_in_words(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        shell(tmp_path, monkeypatch, "--steps", "abc")
    assert "--steps: 'abc' is no whole number, as 1000 or" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "value"),
    [("false", False), ("No", False), ("TRUE", True), ("yes", True), ("None", None)],
)
def test_words_for_true_and_false_are_values(word, value):
    from symlab.pretraining.__main__ import _optimizer, _parser

    options = _parser().parse_args(["--set", f"head.centred={word}"])
    assert _optimizer(options)["overrides"] == {"head": {"centred": value}}


def test_none_is_also_the_name_of_a_scale():
    from symlab.pretraining.__main__ import _optimizer, _parser

    options = _parser().parse_args(["--set", "head.scale=none"])
    optimizer = _optimizer(options)
    assert optimizer["overrides"] == {"head": {"scale": "none"}}
    loop.ready(DENSE, RECIPE, optimizer)


def test_ctrl_c_before_the_first_state_names_none(tmp_path, monkeypatch, capsys):
    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("symlab.pretraining.__main__.corpus", stopped)
    options = "--checkpoint", str(tmp_path / "run"), "--save-every", "2"
    assert shell(tmp_path, monkeypatch, *options) == 130
    assert capsys.readouterr().err.endswith("symlab.pretraining: stopped by SIGINT\n")
    (tmp_path / "run.2.0of1").touch()
    assert shell(tmp_path, monkeypatch, *options) == 130
    said = f"SIGINT; the same command goes on from step 2, which is in {tmp_path}/run\n"
    assert capsys.readouterr().err.endswith(said)


@pytest.mark.parametrize(
    "options",
    [
        ("--lr", "-1"),
        ("--set", "heads.lr=1"),
        ("--micro", "3"),
        ("--save-every", "5"),
        ("--balance", "0.1"),
    ],
    ids=str,
)
def test_the_shell_says_so_before_it_reads_a_text(options, tmp_path, monkeypatch):
    def read(*args):
        raise AssertionError("the text was read")

    monkeypatch.setattr("symlab.pretraining.__main__.corpus", read)
    assert shell(tmp_path, monkeypatch, *options) == 2


def test_results_that_cannot_be_written_are_said_at_once(tmp_path, monkeypatch, capsys):
    (tmp_path / "results").write_text("a file where a folder should be")
    assert shell(tmp_path, monkeypatch) == 2
    said = capsys.readouterr()
    assert "results cannot be written to" in said.err
    assert "steps/s" not in said.err


def test_first_the_row_is_stored_and_then_the_checkpoint_goes(
    tmp_path, monkeypatch, capsys
):
    path = tmp_path / "run"
    options = "--checkpoint", str(path), "--save-every", "2"

    def full(*args):
        assert [f.name for f in tmp_path.glob("run.*")]
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("symlab.harness.store.Store.write_part", full)
        assert shell(tmp_path, monkeypatch, *options) == 2
    said = capsys.readouterr()
    assert "nats per token" in said.out
    assert f"again, from the checkpoint {path}, which is at its end" in said.err
    assert sorted(f.name for f in tmp_path.glob("run.*")) == [
        "run.2.0of1",
        "run.3.0of1",
    ]

    monkeypatch.setattr(loop._Run, "_advance", None)  # no further step
    assert shell(tmp_path, monkeypatch, *options) == 0
    df = pd.read_parquet(tmp_path / "results" / "full" / "pretraining.parquet")
    assert len(df.train_loss.item()) == 3
    assert not list(tmp_path.glob("run.*"))


class Weights:
    """Stands for `symlab.pretraining.saved`, and notes what it is called with."""

    def __init__(self, refuses: bool = False):
        self.calls, self.refuses = [], refuses

    def check(self, folder, *of):
        self.calls.append("check")
        if self.refuses:
            raise ValueError(f"{folder} holds other weights")

    def save(self, folder, model, text, about):
        self.calls.append("save")
        self.folder, self.about = folder, about
        self.weights = {k: p.detach().clone() for k, p in model.named_parameters()}


def test_final_weights_are_kept_where_they_are_asked_for(tmp_path, monkeypatch):
    fake = Weights()
    monkeypatch.setattr(loop, "saved_weights", lambda: fake)
    row = pretrain(DENSE, text(), RECIPE, ADAMW, out=tmp_path / "kept")
    assert fake.calls == ["check", "save"]
    assert fake.folder == tmp_path / "kept"
    assert (fake.about["steps"], fake.about["text"]) == (12, "toy")
    model = Decoder(DENSE, torch.Generator().manual_seed(1))
    model.load_state_dict(fake.weights)
    assert loop.evaluate(model, text(), RECIPE)["val_loss"] == row["val_loss"]


def test_a_folder_that_takes_no_weights_is_said_before_the_first_step(monkeypatch):
    monkeypatch.setattr(loop, "saved_weights", lambda: Weights(refuses=True))
    monkeypatch.setattr(loop._Run, "_advance", None)
    with pytest.raises(ValueError, match="holds other weights"):
        pretrain(DENSE, text(), RECIPE, ADAMW, out="kept")
    with pytest.raises(ValueError, match="holds other weights"):
        loop.ready(DENSE, RECIPE, ADAMW, out="kept")


def test_weights_that_diverged_are_not_kept(monkeypatch):
    fake = Weights()
    monkeypatch.setattr(loop, "saved_weights", lambda: fake)
    train_with(*poisoned(3), text(), RECIPE, out="kept")
    assert fake.calls == ["check"]


def test_a_run_begins_with_the_weights_it_is_given():
    given = Decoder(DENSE, torch.Generator().manual_seed(7))
    weights = dict(given.named_parameters())
    first = loop.evaluate(given, text(), RECIPE)["val_loss"]
    row = pretrain(DENSE, text(), RECIPE, ADAMW, weights=weights)
    assert row["val_curve"][0] == first
    weights.pop("head.weight")
    with pytest.raises(ValueError, match="have head.weight missing and the model"):
        pretrain(DENSE, text(), RECIPE, ADAMW, weights=weights)


def test_the_shell_goes_on_from_kept_weights(tmp_path, monkeypatch, capsys):
    """The second run's first loss is the first run's last one."""
    fake = Weights()
    monkeypatch.setattr(loop, "saved_weights", lambda: fake)
    assert shell(tmp_path, monkeypatch, "--out", str(tmp_path / "kept")) == 0
    found = Decoder(
        preset("dense-small", vocabulary=300, context=16),
        torch.Generator().manual_seed(0),
    )
    found.load_state_dict(fake.weights)
    learned = corpus(str(tmp_path / "text"), 300).tokenizer
    loaded = SimpleNamespace(model=found, tokenizer=Tokenizer.from_str(learned))
    monkeypatch.setattr("symlab.pretraining.load", lambda _: loaded, raising=False)
    again = "--start", str(tmp_path / "kept"), "--evaluate-every", "1"
    assert shell(tmp_path, monkeypatch, *again, model=()) == 0
    df = pd.read_parquet(tmp_path / "results" / "full" / "pretraining.parquet")
    first, second = df.sort_values("finished").val_curve
    assert second[0] == first[-1]
    loaded.tokenizer = None
    assert shell(tmp_path, monkeypatch, *again, model=()) == 2
    assert "are for other tokens than the text's" in capsys.readouterr().err
    assert shell(tmp_path, monkeypatch, *again, "--vocabulary", "301", model=()) == 2
    assert "leave out --vocabulary" in capsys.readouterr().err


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


def test_a_run_of_an_experiment_takes_its_recipe_and_place_from_its_config(tmp_path):
    c = SimpleNamespace(steps=3, batch=2, length=8, seed=5, arm="adamw")
    assert recipe_of(c, z=0.1) == Recipe(steps=3, batch=2, length=8, seed=5, z=0.1)
    kept = Context(checkpoints=tmp_path)
    place = place_of(c, kept, save_every=200)
    assert place["path"] == kept.checkpoint(c)
    assert place["save_every"] == 200
    assert place["processes"].device.type == "cpu"
    for context, every in ((kept, 0), (Context(), 200)):
        place = place_of(c, context, save_every=every)
        assert (place["path"], place["save_every"]) == (None, 0)
