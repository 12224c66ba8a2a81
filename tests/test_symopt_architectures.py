"""Roles of nineteen architectures, against a truth that was read in their code."""

import functools
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from symlab.symopt import roles
from tests.architectures import (
    ARCHITECTURES,
    EMBEDDING,
    MATRIX,
    VOCABULARY,
    Architecture,
    Truth,
    mistakes,
)

pytestmark = pytest.mark.skipif(
    find_spec("transformers") is None, reason="the models are those of transformers"
)
ROOT = Path(__file__).resolve().parents[1]
EACH = pytest.mark.parametrize("name", ARCHITECTURES)


@functools.cache
def seen(name: str):
    """(model, name -> Truth, name -> Block, warnings): roles without an example."""
    architecture = ARCHITECTURES[name]
    model = architecture.build()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = roles(model)
    return model, architecture.truths(model), found, [str(w.message) for w in caught]


# --- the truth itself ----------------------------------------------------------------


@EACH
def test_each_parameter_has_a_truth_and_each_pattern_is_used(name):
    architecture = ARCHITECTURES[name]
    model = seen(name)[0]
    used = {architecture.pattern(n) for n, _ in model.named_parameters()}
    idle = set(architecture.truth) - used
    shared = {"*.bias", "*norm*.weight"}  # some have no biases
    assert idle <= shared


@EACH
def test_heads_divide_what_they_cut(name):
    model, truths, _, _ = seen(name)
    for n, p in model.named_parameters():
        truth = truths[n]
        inside = truth.roles[0] == "attention out"
        cut = p.shape[truth.columns if inside else truth.rows] if p.ndim > 1 else 1
        assert cut % truth.heads == 0, n
        assert truth.heads == 1 or cut // truth.heads in (8, 12), n  # widths of heads


def logits(name: str, model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(**ARCHITECTURES[name].example()).logits.double().log_softmax(-1)


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n not in ("ViT", "CLIP")])
def test_the_true_shifts_change_no_prediction_and_the_others_do(name):
    """Those two have no softmax over a vocabulary, so no shift is claimed for them."""
    model = ARCHITECTURES[name].build()
    before = logits(name, model)
    assert before.shape[-1] == VOCABULARY
    checked = 0
    for n, p in model.named_parameters():
        truth = seen(name)[1][n]
        if truth.roles[0] not in ("head", "tied embedding", "router"):
            assert not truth.shift
            continue
        draw = torch.Generator().manual_seed(2)
        kept, vector = p.detach().clone(), torch.randn(p.shape[-1], generator=draw)
        p.data += vector
        change = (logits(name, model) - before).abs().max()
        p.data = kept
        in_the_loss = name == "Switch" and truth.roles[0] == "router"  # its z-loss
        assert (change < 1e-4) == (truth.shift or in_the_loss), n
        checked += 1
    assert checked


def test_the_loss_of_switch_feels_what_its_predictions_do_not():
    architecture = ARCHITECTURES["Switch"]
    model, example = architecture.build(), architecture.example()
    example |= {"labels": example["input_ids"], "output_router_logits": True}
    model(**example).loss.backward()
    for n, p in model.named_parameters():
        if "router" in n:
            assert p.grad.sum(0).norm() > 0.01 * p.grad.norm()


# --- the library, against it ---------------------------------------------------------


@EACH
def test_roles_need_no_example_and_do_not_warn(name):
    assert seen(name)[3] == []


@EACH
def test_no_role_is_wrong(name):
    """Nor the heads, the axes, the layout or the shift of one that is known."""
    _, truths, found, _ = seen(name)
    assert list(found) == list(truths)
    assert {n: m for n, b in found.items() if (m := mistakes(b, truths[n]))} == {}


@EACH
def test_only_what_an_expert_might_not_know_is_unknown_and_says_why(name):
    _, truths, found, _ = seen(name)
    unknown = {n: b.note for n, b in found.items() if b.role == "unknown"}
    assert [n for n in unknown if "unknown" not in truths[n].roles] == []
    assert [n for n, note in unknown.items() if not note.strip()] == []


@EACH
def test_an_example_gives_the_same_roles(name):
    model, truths, found, _ = seen(name)
    given = roles(model, ARCHITECTURES[name].example())
    assert {n: m for n, b in given.items() if (m := mistakes(b, truths[n]))} == {}
    assert given == found


@EACH
def test_fused_weights_list_their_parts(name):
    _, truths, found, _ = seen(name)
    for n, block in found.items():
        if block.role == "fused":
            assert len(block.parts) >= truths[n].parts > 1, n


def test_mistakes_are_found():
    right = seen("Llama")[2]["model.layers.0.self_attn.q_proj.weight"]
    truth = Truth(("query",), 4)
    assert mistakes(right, truth) == []
    assert mistakes(replace(right, role="unknown"), truth) == []
    assert mistakes(replace(right, role="key"), truth) == ["the role is key, not query"]
    assert mistakes(replace(right, heads=2), truth) == ["heads is 2, not 4"]
    assert mistakes(replace(right, shift=True), truth) == ["shift is True, not False"]
    swapped = replace(right, rows=1, columns=0)
    assert mistakes(swapped, truth) == ["axes is (1, 0), not (0, 1)"]


# --- the table of routes -------------------------------------------------------------


def counts(name: str, architecture: Architecture, router: str) -> dict:
    from benchmarks.routing_table import ROUTERS, count

    model = architecture.build()
    return count(model, architecture.truths(model), ROUTERS[router](model))


NAMES = "Muon, 2-D, no embed, no head"
MOONLIGHT = "Muon, names of Moonlight"
LONG_LIST = "Muon, long list of names"


@pytest.mark.parametrize(
    ("name", "router", "missed", "misused", "fused", "refused"),
    [
        # 2 stacks of experts have 3 axes; of those, gate_up is fused
        ("Mixtral", NAMES, 2, 0, 0, 0),
        ("Mixtral", MOONLIGHT, 0, 0, 1, 2),
        # A_log is no matrix; in_proj and x_proj hold 2 and 3 maps
        ("Mamba", NAMES, 0, 1, 2, 0),
        # 'embeddings' is not 'embed_tokens'; A_log; a depthwise convolution
        ("Mamba", MOONLIGHT, 0, 3, 2, 1),
        ("Mamba", LONG_LIST, 0, 2, 2, 1),
        # `shared`, and 2 tables of biases
        ("T5", NAMES, 0, 3, 0, 0),
        # a table of biases has 'bias' in its name, and `shared` says nothing
        ("T5", LONG_LIST, 0, 1, 0, 0),
        # a convolution has 4 axes; 'classifier' is not 'head'
        ("ViT", NAMES, 1, 1, 0, 0),
        # 'embed' is in the patch embedding, which is a convolution
        ("ViT", LONG_LIST, 1, 1, 0, 0),
        # the class token, the positions and the classifier; the convolution is right
        ("ViT", MOONLIGHT, 0, 3, 0, 3),
    ],
)
def test_counts_of_the_routing_table_by_hand(
    name, router, missed, misused, fused, refused
):
    found = counts(name, ARCHITECTURES[name], router)
    assert (found["missed"], found["misused"]) == (missed, misused)
    assert found["wrong"] == missed + misused
    assert (found["fused as one"], found["refused"]) == (fused, refused)


def test_muon_refuses_what_the_table_says():
    from benchmarks.routing_table import REFUSED, ROUTERS

    model = ARCHITECTURES["Mixtral"].build()
    routes = ROUTERS[MOONLIGHT](model)
    for name, p in model.named_parameters():
        if routes.get(name) == REFUSED:
            with pytest.raises(ValueError, match="2D"):
                torch.optim.Muon([p])
        elif p.ndim == 2:
            torch.optim.Muon([p])


def test_counts_of_the_routing_table_come_from_the_truth():
    """Another truth, other counts: 7 of the 9 matrices of Llama's layer go to Muon."""
    llama = ARCHITECTURES["Llama"]
    found = counts("Llama", llama, NAMES)
    assert (found["tensors"], found["missed"], found["misused"]) == (9, 0, 0)
    found = counts("Llama", replace(llama, truth={"*": EMBEDDING}), NAMES)
    assert (found["missed"], found["misused"]) == (0, 7)
    found = counts("Llama", replace(llama, truth={"*": MATRIX}), NAMES)
    assert (found["missed"], found["misused"]) == (2, 0)
    fused = Truth(("qkv",), parts=3)
    found = counts("Llama", replace(llama, truth={"*": fused}), NAMES)
    assert found["fused as one"] == 7


def test_the_routing_table_has_each_architecture_and_a_total():
    from benchmarks.routing_table import ROUTERS, markdown, table

    some = {n: ARCHITECTURES[n] for n in ("Llama", "Mamba")}
    found = table(some)
    assert len(found) == 3 * len(ROUTERS)
    total = found.architecture == "total"
    each = found[~total].groupby("optimizer").wrong.sum()
    assert each.to_dict() == found[total].set_index("optimizer").wrong.to_dict()
    assert markdown(found).count("\n") == 4  # heads, a rule, two rows and the total


def test_the_page_shows_the_routing_table_of_today():
    from benchmarks.routing_table import markdown, table, written

    page = ROOT / "docs" / "symmetry-compatible-optimizers.md"
    text = page.read_text()
    assert text == written(text, markdown(table())), (
        "python benchmarks/routing_table.py docs/symmetry-compatible-optimizers.md"
    )
