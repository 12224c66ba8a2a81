"""Tokens per second of pretraining: against Hugging Face's loop, and per optimizer.

    python benchmarks/bench_pretraining.py [--device cuda] [--model dense-768]

Sides take turns over several rounds and a ratio is the median over rounds, of
CPU-seconds on a CPU (one thread) and of the GPU's own clock there. Three questions:

1. the model: forward and backward of our decoder and of Hugging Face's Qwen3 of the
   same sizes (needs transformers), float32 on a CPU, bfloat16 by autocast on a GPU;
2. the optimizer: whole steps with the layerwise stack, with Muon, and with torch's
   fused AdamW, which a user would pick instead. Asked on a GPU: the stack has 97 % of
   fused AdamW's tokens per second or more;
3. the limit: what part of the device's peak the operations of the model use. On a GPU
   that is the model-flops utilisation (asked: 40 % for dense-768 in bfloat16), on a CPU
   the rate of one large product in the same precision.

Not run on a GPU yet.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from symlab.models import vision  # noqa: E402
from symlab.models.families import DecoderConfig, preset  # noqa: E402
from symlab.models.transformer import Decoder, loss  # noqa: E402
from symlab.pretraining.cost import flops_per_token, peak_flops  # noqa: E402
from symlab.symopt import SymOpt  # noqa: E402


class Side:
    """A model with its optimizer; one call is one step, with none a pass alone."""

    def __init__(self, objective, model: nn.Module, optimizer=None):
        self.objective, self.model, self.optimizer = objective, model, optimizer

    def __call__(self, x, y) -> None:
        half = x.is_cuda
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            value = self.objective(self.model, x, y)
        value.backward()
        if self.optimizer:
            self.optimizer.step()
        self.model.zero_grad(set_to_none=True)


def ours(model, x, y):
    return loss(model(x), y)


def theirs(model, x, y):
    """Hugging Face's logits under the same loss: its own would shift once more."""
    return loss(model(x).logits, y)


def hugging_face(c: DecoderConfig) -> nn.Module:
    vision.torchvision()  # transformers imports it
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=c.vocabulary,
            hidden_size=c.width,
            intermediate_size=c.hidden,
            num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            num_key_value_heads=c.kv_heads,
            head_dim=c.head_width,
            tie_word_embeddings=False,
            use_cache=False,
        )
    )


def seconds(side: Side, batch, steps: int) -> float:
    """Of one step, on this device's clock."""
    if not batch[0].is_cuda:
        start = time.process_time()
        for _ in range(steps):
            side(*batch)
        return (time.process_time() - start) / steps
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(steps):
        side(*batch)
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / steps


def compare(sides: dict[str, Side], batch, steps: int, rounds: int) -> dict:
    """Seconds of a step of each side, by round; the first call of each is not timed."""
    for side in sides.values():
        seconds(side, batch, 3)
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(seconds(side, batch, steps))
    return found


def ratio(found: dict, a: str, b: str) -> float:
    """How many times as many tokens per second a has as b."""
    return statistics.median(y / x for x, y in zip(found[a], found[b], strict=True))


def product_rate(device: torch.device, n: int = 1536) -> float:
    """Operations per second of one large float32 product on a CPU."""
    a = torch.randn(n, n, device=device)
    times = []
    for _ in range(4):
        start = time.process_time()
        a @ a
        times.append(time.process_time() - start)
    return 2 * n**3 / min(times)


def main() -> None:
    o = _options()
    torch.set_num_threads(1)
    device = torch.device(o.device)
    on_gpu = device.type == "cuda"
    c = preset(o.model, context=o.length, vocabulary=o.vocabulary)

    def model() -> Decoder:
        return Decoder(c, torch.Generator().manual_seed(0)).to(device)

    tokens = torch.randint(c.vocabulary, (o.batch, o.length + 1), device=device)
    batch = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    per_step = o.batch * o.length
    print(f"{o.model}, vocabulary {c.vocabulary}, {o.batch} x {o.length} tokens a step")

    sides = {"decoder": Side(ours, model())}
    if not c.experts:
        sides["Hugging Face"] = Side(theirs, hugging_face(c).to(device))
    for side in sides.values() if on_gpu else ():
        side.model.compile()
    found = compare(sides, batch, o.steps, o.rounds)
    _tell("1. forward and backward", found, per_step)
    if "Hugging Face" in sides:
        print(
            f"   decoder / Hugging Face {ratio(found, 'decoder', 'Hugging Face'):.2f}"
        )

    sides = {}
    for name in ("fused AdamW", "symmetric", "muon"):
        one = model()
        if name == "fused AdamW":
            optimizer = torch.optim.AdamW(one.parameters(), lr=1e-4, fused=True)
        else:
            optimizer = SymOpt(
                one, lr=1e-4, preset=name, compile=on_gpu, example=batch[0][:1, :8]
            )
        if on_gpu:
            one.compile()
        sides[name] = Side(ours, one, optimizer)
    found = compare(sides, batch, o.steps, o.rounds)
    _tell("2. whole steps", found, per_step)
    for name in ("symmetric", "muon"):
        print(f"   {name} / fused AdamW {ratio(found, name, 'fused AdamW'):.3f}")

    peak = peak_flops(device) if on_gpu else product_rate(device)
    rate = flops_per_token(c, o.length) * per_step
    what = "of the GPU's peak" if on_gpu else "of the rate of one large product"
    print("3. the limit")
    for name, times in found.items():
        print(f"   {name}: {rate / statistics.median(times) / peak:.0%} {what}")


def _tell(title: str, found: dict, per_step: int) -> None:
    print(title)
    for name, times in found.items():
        print(f"   {name}: {per_step / statistics.median(times):,.0f} tokens/s")


def _options():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    p.add_argument("--model")
    for name in ("vocabulary", "batch", "length", "steps", "rounds"):
        p.add_argument(f"--{name}", type=int)
    o = p.parse_args()
    gpu = o.device == "cuda"
    usual = {"model": "dense-768", "vocabulary": 32768, "batch": 64, "length": 1024}
    usual |= {"steps": 10, "rounds": 5}
    small = {"model": "dense-small", "vocabulary": 4096, "batch": 8, "length": 128}
    small |= {"steps": 8, "rounds": 5}
    for name, value in (usual if gpu else small).items():
        if getattr(o, name) is None:
            setattr(o, name, value)
    return o


if __name__ == "__main__":
    main()
