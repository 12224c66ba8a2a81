"""Tokens per second of pretraining: against Hugging Face's loop, and per optimizer.

    python benchmarks/bench_pretraining.py [--device cuda] [--model dense-768]

Sides take turns over several rounds and a ratio is the median over rounds, of
CPU-seconds on a CPU (one thread) and of the GPU's own clock there. Five questions:

1. the model: forward and backward of our decoder and of Hugging Face's Qwen3 or OLMoE
   of the same sizes (needs transformers), float32 on a CPU, bfloat16 by autocast on a
   GPU;
2. the optimizer: whole steps with the layerwise stack, with Muon, and with torch's
   fused AdamW, which a user would pick instead. Asked on a GPU: the stack has 97 % of
   fused AdamW's tokens per second or more;
3. the limit: what part of the device's peak the operations of the model use. On a GPU
   that is the model-flops utilisation (asked: 40 % for dense-768 in bfloat16), on a CPU
   the rate of one large product in the same precision;
4. the loop (on a CPU): `symlab.pretraining.train` and a loop written around Hugging
   Face's model and its own loss, with one AdamW and one order of batches. Asked: at
   least as many tokens per second;
5. its memory (on a CPU): how far the resident memory of a fresh process rises above
   what it is with the model built. Asked: no further than in the other loop.

Not run on a GPU yet.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from symlab.data.text import Corpus, batches  # noqa: E402
from symlab.models import vision  # noqa: E402
from symlab.models.families import DecoderConfig, preset  # noqa: E402
from symlab.models.transformer import Decoder, loss  # noqa: E402
from symlab.pretraining import Recipe, train  # noqa: E402
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
    """Their Qwen3, or OLMoE for a mixture, of the same sizes."""
    vision.torchvision()  # transformers imports it
    import transformers

    sizes = {
        "vocab_size": c.vocabulary,
        "hidden_size": c.width,
        "intermediate_size": c.hidden,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "tie_word_embeddings": False,
        "use_cache": False,
    }
    if c.experts:
        sizes |= {"num_experts": c.experts, "num_experts_per_tok": c.chosen}
        config = transformers.OlmoeConfig(**sizes)
        return transformers.OlmoeForCausalLM(config)
    config = transformers.Qwen3Config(**sizes, head_dim=c.head_width)
    return transformers.Qwen3ForCausalLM(config)


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


# --- whole loops ---------------------------------------------------------------------

SIDES = ("symlab", "Hugging Face")


class Turns:
    """Two threads of which one runs, until it passes the turn to the other."""

    def __init__(self):
        self.now, self.changed = 0, threading.Condition()

    def wait(self, mine: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.now == mine)

    def pass_on(self) -> None:
        with self.changed:
            self.now = 1 - self.now
            self.changed.notify_all()


class Timed(torch.optim.AdamW):
    """Fused AdamW that passes the turn after each step, and notes CPU-seconds.

    A step is timed from the end of the one before it, so with all that is done between.
    """

    turns, mine = None, 0

    def step(self, closure=None):
        super().step(closure)
        self.taken.append(time.thread_time() - self.since)
        if self.turns:
            self.turns.pass_on()
            self.turns.wait(self.mine)
        self.since = time.thread_time()

    def begin(self) -> None:
        self.taken, self.since = [], time.thread_time()


class Loop:
    """A model with its optimizer in one of the two loops; one call is all steps."""

    def __init__(self, name: str, c: DecoderConfig, o, steps: int):
        draws = torch.Generator().manual_seed(0)
        ours = name == "symlab"
        self.model = Decoder(c, draws) if ours else hugging_face(c)
        self.loop = train if ours else plain_loop
        self.optimizer = Timed(self.model.parameters(), lr=1e-4, fused=True)
        sizes = {"batch": o.batch, "length": o.length, "validation": 1}
        self.recipe = Recipe(steps=steps, decay=0.0, **sizes)
        ids = np.random.default_rng(0).integers(c.vocabulary, size=400_000)
        halves = np.split(ids.astype(np.uint16), 2)
        self.text = Corpus("random", "0" * 16, c.vocabulary, *halves, 1.0, "{}")

    def __call__(self) -> list[float]:
        """CPU-seconds of each step but the first two."""
        self.optimizer.begin()
        self.loop(self.model, self.optimizer, self.text, self.recipe)
        return self.optimizer.taken[2:]


def plain_loop(model, optimizer, text: Corpus, recipe: Recipe) -> list[float]:
    """What one writes around a model of Hugging Face; losses of all steps."""
    r, losses = recipe, []
    for x, y in islice(batches(text.train, r.batch, r.length, r.seed), r.steps):
        y = torch.from_numpy(y)
        loss = model(torch.from_numpy(x), labels=y, shift_labels=y).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def compare_loops(c: DecoderConfig, o) -> dict[str, list[float]]:
    """CPU-seconds of the steps of both loops, which take turns after each step."""
    loops = {name: Loop(name, c, o, 2 + o.steps * o.rounds) for name in SIDES}
    counts = [sum(p.numel() for p in x.model.parameters()) for x in loops.values()]
    assert counts[0] == counts[1], counts
    turns, found = Turns(), {}

    def run(mine: int, name: str) -> None:
        torch.set_num_threads(1)
        loops[name].optimizer.turns, loops[name].optimizer.mine = turns, mine
        turns.wait(mine)
        found[name] = loops[name]()
        turns.pass_on()

    threads = [threading.Thread(target=run, args=x) for x in enumerate(SIDES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def memory(o) -> dict[str, float]:
    """MB by which each loop's own process grows above the model at most."""
    sizes = [f"--{k}={getattr(o, k)}" for k in ("vocabulary", "batch", "length")]
    command = [sys.executable, "-W", "ignore", __file__, "--model", o.model, *sizes]
    found = {}
    for name in SIDES:
        done = subprocess.run(
            [*command, "--steps=6", "--memory-of", name],
            capture_output=True,
            text=True,
            check=True,
        )
        found[name] = float(done.stdout)
    return found


def grown(loop: Loop) -> float:
    """MB of resident memory above what it is now, at most, while the loop runs."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _resident("VmRSS")
    loop()
    return _resident("VmHWM") - before


def _resident(what: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"this system does not say {what}: run it on Linux")


def main() -> None:
    o = _options()
    torch.set_num_threads(1)
    if o.memory_of:
        c = preset(o.model, context=o.length, vocabulary=o.vocabulary)
        print(grown(Loop(o.memory_of, c, o, o.steps)))
        return
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
    sides["Hugging Face"] = Side(theirs, hugging_face(c).to(device))
    for side in sides.values() if on_gpu else ():
        side.model.compile()
    found = compare(sides, batch, o.steps, o.rounds)
    _tell("1. forward and backward", found, per_step)
    print(f"   decoder / Hugging Face {ratio(found, 'decoder', 'Hugging Face'):.2f}")

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
    if on_gpu:
        return

    found = compare_loops(c, o)
    _tell("4. whole loops with AdamW", found, per_step)
    print(f"   symlab / Hugging Face {ratio(found, *SIDES):.2f}")
    print("5. memory above the model")
    for name, megabytes in memory(o).items():
        print(f"   {name}: {megabytes:.0f} MB")


def _tell(title: str, found: dict, per_step: int) -> None:
    print(title)
    for name, times in found.items():
        print(
            f"   {name}: {per_step / statistics.median(times):,.0f} tokens/s, "
            f"{1e3 * statistics.median(times):.1f} ms a step"
        )


def _options():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    p.add_argument("--model")
    for name in ("vocabulary", "batch", "length", "steps", "rounds"):
        p.add_argument(f"--{name}", type=int)
    p.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
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
