"""The audit figure: its model, moves and elements, and that it can fail."""

from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from symlab.harness import contract, project, rng, where
from symlab.symopt import RULES, describe
from symlab.symopt.presets import plan

audit = contract.load(project.find(Path(__file__).parent), "equivariance_audit").module
Config = audit.Config
TRAJECTORY = Config(study="trajectory", steps=6, seed=3)


def cells(row: dict, column: str = "errors") -> dict:
    return dict(zip(product(audit.BLOCKS, audit.ELEMENTS), row[column], strict=True))


def asked(row: dict) -> list[float]:
    return [e for e, a in zip(row["errors"], row["asked"], strict=True) if a]


# --- the model and its moves ---------------------------------------------------------


def test_roles_of_the_model_come_out_right():
    table = describe(audit.language_model(Config()), **audit.choices(Config()))
    table = table.set_index("name")
    rotation = "rotation in 4 heads"
    expected = {
        "embedding.weight": ("embedding", "permutation x rotation"),
        "previous.weight": ("matrix", "rotation x rotation"),
        **{
            f"{n}.weight": (n, f"{rotation} x rotation")
            for n in ("query", "key", "value")
        },
        "out.weight": ("attention out", f"rotation x {rotation}"),
        "gate.weight": ("gate", "permutation x rotation"),
        "up.weight": ("up", "permutation x rotation"),
        "down.weight": ("down", "rotation x permutation"),
        "router.weight": ("router", "permutation x rotation + shift"),
        "expert_gate_up": ("gate_up", "stack of permutation of pairs x rotation"),
        "expert_down": ("down", "stack of rotation x permutation"),
        "head.weight": ("head", "permutation x rotation + shift"),
    }
    assert {n: (r.role, r.group) for n, r in table.iterrows()} == expected
    assumed = table.note.str.startswith("assumes a softmax over the outputs")
    assert table.index[assumed].tolist() == ["head.weight"]
    assert (table.note[~assumed] == "").all()


@pytest.mark.parametrize("move", audit.MOVES)
def test_a_moved_model_computes_the_same(move):
    weights, ids = audit.start(TRAJECTORY), audit.text(TRAJECTORY)[0]
    copy, names = audit.moved(move, weights, rng.stream(3, move))
    outputs = []
    for w, x in ((weights, ids), (copy, names[ids])):
        model = audit.language_model(TRAJECTORY)
        audit.set_weights(model, w)
        outputs.append(model(torch.from_numpy(x)).log_softmax(-1).detach().numpy())
    np.testing.assert_allclose(outputs[1][..., names], outputs[0], atol=1e-12)
    changed = [n for n in weights if not np.array_equal(weights[n], copy[n])]
    number = {"tokens": 2, "neurons": 5, "signs": 4, "experts": 3, "heads": 4}
    assert len(changed) == (number | {"rotation": 13, "shift": 2})[move]
    assert all(
        np.array_equal(w, audit.start(TRAJECTORY)[n]) for n, w in weights.items()
    )


def test_text_follows_a_chain_that_is_not_uniform():
    ids = audit.text(replace(TRAJECTORY, steps=2000))
    assert ids.shape == (2000, audit.B, audit.T + 1)
    assert 0 <= ids.min() <= ids.max() < audit.V
    counts = np.zeros((audit.V, audit.V))
    np.add.at(counts, (ids[..., :-1].ravel(), ids[..., 1:].ravel()), 1)
    found = counts / counts.sum(1, keepdims=True)
    p = np.exp(2 * rng.stream(3, "chain").normal(size=(audit.V, audit.V)))
    np.testing.assert_allclose(found, p / p.sum(1, keepdims=True), atol=0.06)


def test_adamw_trains_as_torchs_own():
    """The losses and the drift, from a loop of torch's optimizer."""
    c = replace(TRAJECTORY, preset="adamw")
    row = audit.run([c])[0]
    model = audit.language_model(c)
    tables = {"embedding.weight", "head.weight", "router.weight"}
    groups = [
        {
            "params": [
                p for n, p in model.named_parameters() if (n in tables) == table
            ],
            "weight_decay": 0.0 if table else c.weight_decay,
        }
        for table in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=c.lr, betas=(0.9, 0.95))
    before, losses = model.head.weight.detach().clone(), []
    for ids in torch.from_numpy(audit.text(c)):
        loss = cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert row["first_loss"] == pytest.approx(losses[0], rel=1e-12)
    assert row["last_loss"] == pytest.approx(losses[-1], rel=1e-12)
    change = model.head.weight.detach() - before
    drift = change.mean(0).norm() / change.square().sum(1).mean().sqrt()
    assert row["head_drift"] == pytest.approx(float(drift), rel=1e-9)


# --- elements ------------------------------------------------------------------------


def block(name: str):
    model = audit.language_model(Config())
    planned = [one.block for _, one in plan(model, **audit.choices(Config()))]
    return next(b for b in planned if b.name == audit.BLOCKS[name])


def element(name: str, label: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of the block's shape, and the same moved."""
    b = block(name)
    x = torch.from_numpy(rng.stream(1, "x").normal(size=b.shape))
    g = audit._element(Config(), b, x, *audit.ELEMENTS[label])
    return x, audit._act(b, g, x)


def test_elements_act_within_heads_experts_and_halves():
    gram = lambda x: x.mT @ x  # noqa: E731
    x, y = element("query", "R")
    for i in range(0, audit.D, 6):
        torch.testing.assert_close(gram(x[i : i + 6]), gram(y[i : i + 6]))
    assert not torch.allclose(x[:6], y[:6])
    turns = [y[i : i + 6] @ torch.linalg.pinv(x[i : i + 6]) for i in (0, 6)]
    assert not torch.allclose(*turns)
    x, y = element("out", "r")
    for i in range(0, audit.D, 6):
        torch.testing.assert_close(gram(x[:, i : i + 6].mT), gram(y[:, i : i + 6].mT))
    x, y = element("query", "r")  # one rotation of what all heads read
    torch.testing.assert_close(
        torch.linalg.solve(x, y) @ torch.linalg.solve(x, y).mT,
        torch.eye(audit.D, dtype=torch.float64),
    )
    x, y = element("gate_up", "P")  # pairs stay pairs, in each expert alone
    half = audit.EXPERT_HIDDEN
    orders = [
        (a[:, None] == b[None]).all(-1).double().argmax(0)
        for a, b in zip(x, y, strict=True)
    ]
    for order in orders:
        assert torch.equal(order[half:], order[:half] + half)
        assert sorted(order.tolist()) == list(range(2 * half))
    assert not torch.equal(orders[0], orders[1])


def test_elements_of_tables():
    x, y = element("head", "P")
    assert torch.equal(x[:, 0].sort()[0], y[:, 0].sort()[0])
    x, y = element("head", "±")
    assert torch.equal(x[:, 0].abs().sort()[0], y[:, 0].abs().sort()[0])
    assert not torch.equal(x[:, 0].sort()[0], y[:, 0].sort()[0])
    x, y = element("head", "+")
    torch.testing.assert_close((y - x).std(0), torch.zeros(audit.D).double())
    x, y = element("embedding", "r")
    torch.testing.assert_close(x @ x.mT, y @ y.mT)
    x, y = element("embedding", "p")
    assert torch.equal(x[0].sort()[0], y[0].sort()[0])


def test_what_is_asked_and_promised_agrees_with_describe():
    """A note of describe names each factor that is asked and not promised."""
    for preset in ("adamw", "ssd", "normuon", "aro", "symmetric"):
        c = Config(preset=preset)
        planned = plan(audit.language_model(c), **audit.choices(c))
        for one in (one for _, one in planned):
            a, b = audit._symmetries(one)
            broken = [k for k, x, y in zip(audit.ELEMENTS, a, b, strict=True) if x > y]
            words = {"R": "rotation of outputs", "r": "rotation of inputs"}
            words |= {"+": "shift of outputs"}
            note = one.row()["note"]
            assert {words[k] for k in broken} == {
                w for w in words.values() if w in note
            }


# --- errors --------------------------------------------------------------------------


def test_adamws_error_is_that_of_torchs_own():
    """A rotation and a shift of the head, by hand, under torch.optim.AdamW."""
    c = Config(preset="adamw", seed=5)
    found = cells(audit.run([c])[0])
    b, start = block("head"), torch.from_numpy(audit.start(c)["head.weight"])
    for label in ("r", "+", "p"):
        g = audit._element(c, b, start, *audit.ELEMENTS[label])
        ends = []
        for act in (lambda x: x, lambda x, g=g: audit._act(b, g, x)):
            p = torch.nn.Parameter(act(start).clone())
            optimizer = torch.optim.AdamW([p], lr=c.lr, weight_decay=0.0)
            optimizer.param_groups[0]["betas"] = (0.9, 0.95)
            draws = rng.stream(5, "gradients head.weight")
            for _ in range(c.steps):
                p.grad = act(audit._gradient(b, draws, False))
                optimizer.step()
            ends.append(p.detach())
        size = (ends[0] - start).norm()
        error = float((ends[1] - audit._act(b, g, ends[0])).norm() / size)
        assert found["head", label] == pytest.approx(error, rel=1e-9, abs=1e-15)
        assert (error > 0.1) == (label != "p")


def test_gradients_lack_rank_unless_told():
    b = block("gate")
    low = audit._gradient(b, rng.stream(0, "g"), False)
    full = audit._gradient(b, rng.stream(0, "g"), True)
    ranks = [int(torch.linalg.matrix_rank(g)) for g in (low, full)]
    assert ranks == [audit.D // 3, audit.D]


def test_estimates_see_the_cells_by_name():
    c = Config(preset="adamw")
    row = audit.run([c])[0]
    df = pd.DataFrame([asdict(c) | row] * 2)
    table = audit.EXACT(df)
    assert len(table) == 2 * len(row["errors"])
    for column in ("errors", "asked", "promised"):
        name = {"errors": "error"}.get(column, column)
        found = table[:60].set_index(["block", "element"])[name].to_dict()
        assert found == cells(row, column)
    found = audit.EXACT.where("asked", element="r").least("error")(df)
    turned = [b for b in audit.BLOCKS if b != "down"]  # its columns are permuted
    assert found.value == min(cells(row)[b, "r"] for b in turned)
    assert (found.n, found.runs) == (1, 2 * len(turned))
    df.at[1, "errors"] = row["errors"][1:]
    with pytest.raises(ValueError, match="errors has 59 entries, and block x element"):
        audit.EXACT(df)


def test_the_audit_fails_a_rule_that_breaks_its_group(monkeypatch):
    c = Config(variant="svd")
    assert max(asked(audit.run([c])[0])) < 1e-10
    broken = replace(
        RULES["row_norm"], map=lambda x, centred=False, floor=0.0: x.sign()
    )
    monkeypatch.setitem(RULES, "row_norm", broken)
    found = cells(audit.run([c])[0])
    assert found["embedding", "r"] > 0.1
    assert found["head", "+"] > 0.1
    assert found["query", "r"] < 1e-10


def test_cutoff_and_frame_matter():
    assert max(asked(audit.run([Config(variant="no cut-off")])[0])) > 0.1
    rows = {
        v: cells(audit.run([Config(preset="aro", variant=v)])[0])
        for v in ("full rank", "frame")
    }
    for name, label in audit.RESIDUAL.items():
        assert rows["full rank"][name, label] > 0.01
        assert rows["frame"][name, label] < 1e-9


def test_trajectories_follow_the_moves():
    (symmetric,) = audit.run([TRAJECTORY])
    assert max(symmetric["errors"]) < 1e-12
    assert max(symmetric["head_drift"], symmetric["router_drift"]) < 1e-12
    (adamw,) = audit.run([replace(TRAJECTORY, preset="adamw")])
    errors = dict(zip(audit.MOVES, adamw["errors"], strict=True))
    assert errors.pop("rotation") == max(adamw["growth"]) > 1e-3
    assert max(errors.values()) < 1e-12
    assert min(adamw["head_drift"], adamw["router_drift"]) > 0.01


def test_no_variant_of_an_unknown_kind():
    variants = {v for _, v in audit.ARMS}
    assert variants <= {"", *audit.VARIANTS, *audit.FULL_RANK}


def test_an_error_that_is_not_a_number_is_no_agreement():
    """A moved copy that broke has no error; the others of its run do not hide it."""
    df = pd.DataFrame({"seed": [0, 0, 1, 1], "error": [0.0, np.nan, 0.0, 0.0]})
    found = audit._runs_that_agree(where())(df)
    assert (found.value, found.n) == (0.5, 2)
    assert np.isnan(audit._in_each_run(where())(df).value)
