"""What large models need, each against the plain way: logits of a few tokens at once,
attention within documents, blocks that are computed twice, one table for both ends."""

import copy
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from symlab.data.text import validation_batches
from symlab.models.cache import Cache
from symlab.models.chunked_loss import chunked_loss
from symlab.models.families import family
from symlab.models.transformer import Decoder, document_numbers, loss
from symlab.pretraining import load, pretrain
from symlab.pretraining.evaluation import evaluate
from symlab.pretraining.model import build
from symlab.pretraining.objective import Objective
from symlab.pretraining.saved import save
from tests.test_pretraining import (
    ADAMW,
    DENSE,
    MIXTURE,
    RECIPE,
    SIZES,
    losses,
    shell,
    text,
)
from tests.test_pretraining import T as LENGTH
from tests.test_pretraining import V as VOCABULARY
from tests.test_pretraining_checkpoints import killed_at
from tests.test_transformer import FAMILIES, T, V, decoder, draws

SINKS = family("gpt-oss", **SIZES, window=5, pattern=2, experts=4, chosen=2)
SHORT = replace(RECIPE, steps=4, evaluate_every=2, validation=2)
CONFIGS = {"dense": DENSE, "mixture": MIXTURE, "sinks": SINKS}
END = VOCABULARY - 1

# --- logits of a few tokens at once --------------------------------------------------


def example(dtype=torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden values (3, 8, 5), a head (11, 5) and targets (3, 8)."""
    x = torch.randn(3, 8, 5, generator=draws(1), dtype=dtype).requires_grad_()
    weight = torch.randn(11, 5, generator=draws(2), dtype=dtype).requires_grad_()
    return x, weight, torch.randint(11, (3, 8), generator=draws(3))


@pytest.mark.parametrize("z", [0.0, 0.3])
@pytest.mark.parametrize("chunk", [1, 7, 24, 1000])
def test_the_loss_in_parts_is_the_loss(chunk, z):
    x, weight, targets = example()
    total, nll = chunked_loss(x, weight, targets, chunk, z)
    logits = x @ weight.T
    plain = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    expected = plain + z * logits.logsumexp(-1).square().mean()
    torch.testing.assert_close((total, nll), (expected, plain), rtol=0, atol=1e-12)
    assert not nll.requires_grad
    found = torch.autograd.grad(total / 3, (x, weight))
    wanted = torch.autograd.grad(expected / 3, (x, weight))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_a_loss_in_parts_of_what_has_none_is_refused():
    x, weight, targets = example()
    for chunk in (0, -3):
        with pytest.raises(ValueError, match=f"chunk = {chunk}: give the 1 or more"):
            chunked_loss(x, weight, targets, chunk)
    for wrong in (-100, 11):
        targets[1, 2] = wrong
        with pytest.raises(ValueError, match=f"target {wrong} is no token of 0 to 10"):
            chunked_loss(x, weight, targets, 7)


def test_autocast_makes_the_same_logits_in_both_ways():
    x, weight, targets = example(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = chunked_loss(x, weight, targets, 7)
        expected = loss(F.linear(x, weight), targets)
    torch.testing.assert_close(total, expected, rtol=0, atol=1e-6)
    exact = loss(F.linear(x, weight), targets)
    assert (total - exact).abs() > 1e-5
    found = torch.autograd.grad(total, (x, weight))
    wanted = torch.autograd.grad(expected, (x, weight))
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=1e-3)


def test_gradients_of_gradients_are_refused():
    x, weight, targets = example()
    total, _ = chunked_loss(x, weight, targets, 7)
    (slope,) = torch.autograd.grad(total.square(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_in_parts_is_the_run(name):
    """Its training, its evaluation and the drift of its logits, with other losses."""
    recipe = replace(SHORT, precision="float64", z_logits=0.1, micro=2)
    if name != "dense":
        recipe = replace(recipe, balance=0.2, z=0.1)
    whole, parts = (
        pretrain(CONFIGS[name], text(), replace(recipe, chunk=chunk), {"lr": 0.01})
        for chunk in (0, 7)
    )
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-10)
    assert parts["head_drift"] == pytest.approx(whole["head_drift"], rel=1e-10)


def test_bfloat16_in_parts_is_near_bfloat16():
    recipe = replace(SHORT, precision="bfloat16")
    whole = pretrain(DENSE, text(), recipe, ADAMW)
    parts = pretrain(DENSE, text(), replace(recipe, chunk=7), ADAMW)
    assert losses(parts) == pytest.approx(losses(whole), abs=2e-3)


class Rows(TorchDispatchMode):
    """The most rows of the vocabulary's length that one tensor has had."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for t in tree_iter(out):
            if isinstance(t, Tensor) and t.ndim and t.shape[-1] == VOCABULARY:
                self.most = max(self.most, t.numel() // VOCABULARY)
        return out


@pytest.mark.parametrize(("chunk", "training", "evaluation"), [(0, 64, 64), (7, 7, 7)])
def test_logits_of_so_many_tokens_exist_at_once(chunk, training, evaluation):
    model, recipe = Decoder(DENSE, draws()), replace(RECIPE, chunk=chunk)
    x, y = map(torch.from_numpy, validation_batches(text().validation, 4, LENGTH, 1)[0])
    with Rows() as rows:
        Objective(model, recipe)(x, y)[0].backward()
    assert rows.most == max(training, DENSE.width)  # transposed, the head has D rows
    with Rows() as rows:
        evaluate(model, text(), recipe)
    assert rows.most == max(evaluation, DENSE.width)


@pytest.mark.parametrize("chunk", [0, 7])
def test_the_z_loss_of_logits_is_their_mean_square_logsumexp(chunk):
    """Beside that of routers, which has a weight of its own."""
    model = Decoder(MIXTURE, draws()).double()
    x, y = torch.arange(64).remainder(VOCABULARY).view(2, 2, LENGTH)
    recipe = replace(RECIPE, z_logits=0.3, z=0.2, chunk=chunk)
    total, nll = Objective(model, recipe)(x, y)
    logits, routers = model(x, routers=True)
    plain = F.cross_entropy(logits.flatten(0, 1), y.flatten())
    expected = plain + 0.3 * logits.logsumexp(-1).square().mean()
    for z, _ in routers:
        expected = expected + 0.2 / 2 * z.logsumexp(-1).square().mean()
    torch.testing.assert_close((total, nll), (expected, plain), rtol=0, atol=1e-12)
    found = torch.autograd.grad(total, list(model.parameters()))
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


# --- documents -----------------------------------------------------------------------

PACKED = torch.randint(V - 1, (3, T), generator=draws(4))  # 24 tokens of 40
for row, ends in enumerate([(0, 11, 12), (9, 23), ()]):
    PACKED[row, list(ends)] = V - 1


def alone(model: Decoder, row: Tensor) -> Tensor:
    """Logits (T, V) of each document of a row by itself, from position 0 on."""
    starts = [0, *(i + 1 for i, t in enumerate(row.tolist()) if t == V - 1)]
    ends = [*starts[1:], len(row)]
    parts = [row[None, a:b] for a, b in zip(starts, ends, strict=True) if a < b]
    return torch.cat([model(part)[0] for part in parts])


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_packed_window_has_the_logits_of_its_documents(name):
    """The longest is of 24 tokens, beyond the windows of 7."""
    model = decoder(name)
    expected = torch.stack([alone(model, row) for row in PACKED])
    found = model(PACKED, documents=document_numbers(PACKED, V - 1))
    size = expected.abs().max()
    assert (found - expected).abs().max() < 1e-5 * size
    assert (model(PACKED) - expected).abs().max() > 0.01 * size


def test_an_end_belongs_to_the_document_that_it_ends():
    numbers = document_numbers(torch.tensor([[3, 9, 9, 4], [1, 2, 3, 9]]), 9)
    assert numbers.tolist() == [[0, 0, 1, 2], [0, 0, 0, 0]]


@pytest.mark.parametrize("chunk", [0, 7])
def test_losses_are_of_all_tokens_within_documents(chunk):
    """Also of the first token of a document, which the end before it predicts."""
    model = decoder("gpt-oss")
    recipe = replace(RECIPE, documents=True, chunk=chunk)
    targets = PACKED.roll(-1, 1)
    logits = torch.stack([alone(model, row) for row in PACKED])
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    _, nll = Objective(model, recipe)(PACKED, targets)
    torch.testing.assert_close(nll, expected.detach(), rtol=1e-5, atol=0)


@torch.no_grad()
def test_evaluations_keep_to_documents_too():
    model = Decoder(DENSE, draws())
    for p in model.parameters():
        p.add_(0.3 * torch.randn(p.shape, generator=draws(p.numel())))
    expected = 0.0
    for pair in validation_batches(text().validation, 4, LENGTH, 3):
        x, y = map(torch.from_numpy, pair)
        assert (x == END).any()
        expected += loss(model(x, documents=document_numbers(x, END)), y) / 3
    found = evaluate(model, text(), replace(RECIPE, documents=True))["val_loss"]
    assert found == pytest.approx(float(expected), abs=1e-6)
    assert abs(evaluate(model, text(), RECIPE)["val_loss"] - found) > 1e-3


def test_a_cache_holds_one_document_without_gradients():
    model = Decoder(DENSE, draws())
    tokens = torch.zeros(1, 4, dtype=torch.long)
    for asked in ({"documents": tokens}, {"recompute": True}):
        with pytest.raises(ValueError, match="leave out documents and recompute"):
            model(tokens, cache=Cache(DENSE, 8), **asked)


# --- blocks that are computed twice --------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_recomputed_blocks_give_the_same_losses_bit_for_bit(name, precision):
    recipe = replace(SHORT, precision=precision, documents=True)
    if name != "dense":
        recipe = replace(recipe, balance=0.2)
    kept, again = (
        pretrain(CONFIGS[name], text(), replace(recipe, recompute=r), {"lr": 0.01})
        for r in (False, True)
    )
    assert losses(again) == losses(kept)


def kept_bytes(model: Decoder, tokens: Tensor, recompute: bool) -> int:
    """What the forward pass keeps for the backward pass, parameters left out."""
    own, kept = {p.data_ptr() for p in model.parameters()}, {}

    def keep(t: Tensor) -> Tensor:
        if t.data_ptr() not in own:
            kept[t.data_ptr()] = t  # held, so that no other gets its address
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        model.hidden(tokens, recompute=recompute)
    return sum(t.nbytes for t in kept.values())


def test_of_a_recomputed_block_its_input_is_kept():
    layers, tokens = 6, torch.zeros(4, LENGTH, dtype=torch.long)
    model = Decoder(replace(DENSE, layers=layers), draws())
    stream = tokens.numel() * DENSE.width * 4  # bytes of the residual stream
    found = kept_bytes(model, tokens, recompute=True)
    assert found < (layers + 4) * stream
    assert kept_bytes(model, tokens, recompute=False) > 10 * layers * stream


def test_a_run_may_be_resumed_with_blocks_that_are_recomputed(tmp_path, monkeypatch):
    whole = pretrain(DENSE, text(), SHORT, {"lr": 0.01})
    kept = {"path": tmp_path / "state", "save_every": 2}
    killed_at(3, monkeypatch, DENSE, text(), SHORT, {"lr": 0.01}, **kept)
    again = replace(SHORT, recompute=True)
    row = pretrain(DENSE, text(), again, {"lr": 0.01}, **kept)
    assert losses(row) == losses(whole)


def test_all_of_it_compiles_as_one_graph():
    model = Decoder(replace(DENSE, tied=True), draws())
    asked = {"chunk": 30, "documents": True, "recompute": True, "z_logits": 0.1}
    objective = Objective(model, replace(RECIPE, **asked))
    x, y = torch.arange(128).remainder(VOCABULARY).view(2, 4, LENGTH)
    compiled = torch.compile(objective, backend="eager", fullgraph=True)
    totals = [run(x, y)[0] for run in (objective, compiled)]
    torch.testing.assert_close(totals[1], totals[0])
    found = [torch.autograd.grad(t, list(model.parameters())) for t in totals]
    torch.testing.assert_close(found[1], found[0])


# --- one table for embedding and head ------------------------------------------------

TIED = replace(MIXTURE, tied=True)


def test_a_tied_head_is_the_embedding():
    model = Decoder(TIED, draws())
    two = Decoder(MIXTURE, draws())
    size = sum(p.numel() for p in model.parameters())
    table = VOCABULARY * MIXTURE.width
    assert size == sum(p.numel() for p in two.parameters()) - table
    with torch.no_grad():
        for name, p in two.named_parameters(remove_duplicate=False):
            p.copy_(model.get_parameter(name))
    x, y = torch.arange(64).remainder(VOCABULARY).view(2, 2, LENGTH)
    values = [loss(m(x), y) for m in (model, two)]
    assert values[0] == values[1]
    for value in values:
        value.backward()
    both = two.embedding.weight.grad + two.head.weight.grad
    torch.testing.assert_close(model.head.weight.grad, both)


@pytest.mark.parametrize(
    "moved",
    [
        copy.deepcopy,
        lambda m: m.double(),
        lambda m: m.to("meta").to_empty(device="cpu"),
        lambda m: build(TIED, RECIPE, {"lr": 0.1})[0],
    ],
    ids=["copied", "another type", "new memory", "built"],
)
def test_it_stays_the_embedding(moved):
    model = moved(Decoder(TIED, draws()))
    assert model.head.weight is model.embedding.weight


def test_it_is_one_block_with_a_role_of_its_own():
    _, groups = build(TIED, RECIPE, {"lr": 0.1})
    (group,) = [g for g in groups if "embedding.weight" in g["param_names"]]
    assert group["role"] == "tied embedding"
    assert not group["shift"]  # a shift of this head is a shift of the embedding
    assert not any("head.weight" in g["param_names"] for g in groups)
    for role in ("head", "embedding"):
        asked = {"lr": 0.1, "overrides": {role: {"lr": 0.3}}}
        with pytest.raises(ValueError, match="give those of 'tied embedding'"):
            build(TIED, RECIPE, asked)


def test_a_tied_run_is_kept_loaded_and_resumed(tmp_path, monkeypatch):
    recipe = replace(SHORT, chunk=7)
    whole = pretrain(TIED, text(), recipe, {"lr": 0.01}, out=tmp_path / "out")
    kept = {"path": tmp_path / "state", "save_every": 2}
    killed_at(3, monkeypatch, TIED, text(), recipe, {"lr": 0.01}, **kept)
    row = pretrain(TIED, text(), recipe, {"lr": 0.01}, **kept)
    assert losses(row) == losses(whole)
    assert row["head_shift"] == whole["head_shift"] > 0
    model = load(tmp_path / "out").model
    assert model.config == TIED
    assert model.head.weight is model.embedding.weight
    found = evaluate(model, text(), recipe)["val_loss"]
    assert found == pytest.approx(whole["val_loss"], abs=1e-6)
    weights = dict(model.named_parameters())
    going_on = pretrain(
        TIED, text(), replace(recipe, steps=1), {"lr": 0.0}, weights=weights
    )
    assert going_on["val_curve"][0] == pytest.approx(found, abs=1e-6)


# --- what is asked for ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chunk": -1}, "chunk = -1: give a whole number of 0 or more"),
        ({"chunk": 1.5}, "chunk = 1.5: give a whole number"),
        ({"z_logits": -0.1}, "z_logits = -0.1: give a finite number of 0 or more"),
    ],
    ids=str,
)
def test_values_that_no_run_can_have_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(RECIPE, **changes)


def test_the_shell_knows_all_of_it(tmp_path, monkeypatch, capsys):
    asked = "--chunk", "10", "--documents", "--recompute", "--tied", "--z-logits", "0.1"
    out = tmp_path / "out"
    assert shell(tmp_path, monkeypatch, *asked, "--out", str(out)) == 0
    df = pd.read_parquet(tmp_path / "results" / "full" / "pretraining.parquet")
    row = df.iloc[0]
    assert (row.chunk, row.z_logits) == (10, 0.1)
    assert row.documents
    assert row.recompute
    assert row.tied
    assert load(out).model.config.tied
    two = tmp_path / "two"
    save(two, Decoder(DENSE, draws()))
    start = "--start", str(two), "--tied"
    assert shell(tmp_path, monkeypatch, *start, model=()) == 2
    assert "have a head of their own: leave out --tied" in capsys.readouterr().err
