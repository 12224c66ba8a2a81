"""LoRA as peft makes it: found, trained alike for any factors, resumed exactly."""

import copy
import warnings

import pytest
import torch

from symlab.models import vision
from symlab.symopt import SymOpt, describe, roles

MODULES = ["q_proj", "v_proj", "down_proj"]


@pytest.fixture(scope="module")
def peft():
    vision.torchvision()  # transformers imports it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return pytest.importorskip("peft")


def adapted(peft, dtype=torch.float64, **settings):
    """A tiny Llama with adapters of rank 4."""
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    said = {"r": 4, "lora_alpha": 8, "target_modules": MODULES} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return peft.get_peft_model(model, peft.LoraConfig(**said)).to(dtype)


def train(model, optimizer, steps=20, seed=1) -> list[float]:
    draws, losses = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        ids = torch.randint(64, (4, 12), generator=draws)
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def pairs(model) -> list:
    """(B, A) of each adapter."""
    found = dict(model.named_parameters())
    outs = [n for n in found if ".lora_B." in n]
    return [(found[n], found[n.replace("lora_B", "lora_A")]) for n in outs]


def test_every_adapter_is_a_pair(peft):
    model = adapted(peft)
    found = roles(model)
    for name, block in found.items():
        if ".lora_" in name:
            out = ".lora_B." in name
            assert block.role == ("adapter out" if out else "adapter in"), name
            other = "lora_B", "lora_A"
            assert block.partner == name.replace(*(other if out else other[::-1]))
        else:
            assert block.role not in ("adapter out", "adapter in", "unknown"), name
    table = describe(model).set_index("name")
    lora = table[table.index.str.contains(".lora_")]
    assert (lora.note == "").all()
    assert lora.rule.str.startswith("low_rank").all()
    plain = describe(model, preset="adamw").set_index("name").loc[lora.index]
    assert plain.note.str.contains("general linear").all()


def test_training_does_not_see_how_the_product_is_written(peft):
    one = adapted(peft)
    with torch.no_grad():
        draws = torch.Generator().manual_seed(3)
        for b, _ in pairs(one):
            b.copy_(0.1 * torch.randn(b.shape, generator=draws, dtype=b.dtype))
    parted = {}
    for name, make in {
        "low_rank": lambda m: SymOpt(m, lr=3e-3),
        "adamw": lambda m: torch.optim.AdamW(
            [p for p in m.parameters() if p.requires_grad], lr=3e-3
        ),
    }.items():
        sides = [copy.deepcopy(one), copy.deepcopy(one)]
        with torch.no_grad():
            draws = torch.Generator().manual_seed(4)
            for b, a in pairs(sides[1]):
                m = torch.randn(4, 4, generator=draws, dtype=b.dtype)
                b.copy_(b @ m)
                a.copy_(torch.linalg.solve(m, a))
        losses = [train(side, make(side)) for side in sides]
        assert losses[0][-1] < losses[0][0]
        products = zip(*([b @ a for b, a in pairs(s)] for s in sides), strict=True)
        parted[name] = max(
            float(((v - w).norm() / v.norm()).detach()) for v, w in products
        )
    assert parted["low_rank"] < 1e-7  # Llama's norms compute in float32
    assert parted["adamw"] > 0.1


def test_a_saved_run_goes_on_to_the_last_bit(peft, tmp_path):
    whole = adapted(peft, torch.float32)
    optimizer = SymOpt(whole, lr=3e-3)
    train(whole, optimizer, 3)
    torch.save([whole.state_dict(), optimizer.state_dict()], tmp_path / "run.pt")
    expected = train(whole, optimizer, 3, seed=5)
    again = adapted(peft, torch.float32)
    weights, state = torch.load(tmp_path / "run.pt", weights_only=True)
    again.load_state_dict(weights)
    resumed = SymOpt(again, lr=3e-3)
    resumed.load_state_dict(state)
    assert train(again, resumed, 3, seed=5) == expected
    for p, q in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)
