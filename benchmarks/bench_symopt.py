"""A step of SymOpt against torch.optim.Muon and AdamW, both sides in one run.

    python benchmarks/bench_symopt.py [--device cuda] [--compile] [--layers 1]

The hidden matrices and the embedding of a GPT-2 of 124M parameters, random weights and
gradients, one thread. Sides take turns; a ratio is the median over pairs of SymOpt's
time to the other's: CPU-seconds, or a GPU's own clock. Last come the asked ratios.

On a CPU one of the 12 layers is enough, as it takes one matrix after the other. Muon
iterates in bfloat16, in which a CPU without instructions for it is up to 80 times
slower than in float32. So there the one that counts is Muon with the same recurrence in
float32 ('Muon, float32'); the original runs at a small width. Not run on a GPU yet.

Small things: 500 matrices of 500 shapes against Muon, 500 vectors against fused AdamW,
a centred head against it, a ResNet18 against its polar factors alone.

Also: how far both are from the exact polar factor, SymOpt per head, the centred rules,
the memory of a step beyond weights, gradients and state, and the ratio to the limit:
the flops that an iteration executes, at the rate of one large product; seven passes of
a row-norm (gradient and momentum twice and the weight read, the last two written) at
the rate of a sum in place. --compile: the hidden matrices with torch.compile, too.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import _muon
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from symlab.models import vision  # noqa: E402
from symlab.symopt import SymOpt, polar  # noqa: E402

WIDTH, HEADS, VOCABULARY = 768, 12, 50257
HEAD = (32000, 256)  # of a small language model
ATTENTION = ((3, 1), (1, 1))  # qkv and out, in widths
LAYER = (*ATTENTION, (4, 1), (1, 4))
FLOOR = {"floor": 1e-3}  # the preset's
JORDAN = (3.4445, -4.7750, 2.0315)
original = _muon._zeropower_via_newtonschulz


def single(gradient: Tensor, coefficients, steps: int, eps: float) -> Tensor:
    """Muon's iteration, as in torch, in the gradient's own precision."""
    a, b, c = coefficients
    tall = gradient.size(0) > gradient.size(1)
    x = gradient.T if tall else gradient
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


# --- sides: each makes weights and gradients of its own and returns its step ---------


def weights(shapes, device: str) -> list[nn.Parameter]:
    """Random weights with gradients."""
    draws = torch.Generator(device).manual_seed(0)
    made = []
    for shape in shapes:
        w, g = torch.randn(2, *shape, generator=draws, device=device)
        made.append(nn.Parameter(w.clone()))
        made[-1].grad = g.clone()
    return made


def hidden(layers: int, width: int = WIDTH, layer=LAYER) -> list[tuple[int, int]]:
    return [(m * width, n * width) for m, n in layer] * layers


def muon(shapes, device: str, dtype=torch.bfloat16, steps=5) -> Callable:
    step = torch.optim.Muon(weights(shapes, device), ns_steps=steps).step
    if dtype == torch.bfloat16:
        return step

    def patched():
        with mock.patch.object(_muon, "_zeropower_via_newtonschulz", single):
            step()

    return patched


def spectral(shapes, device: str, compile=False, **options) -> Callable:
    group = {"params": weights(shapes, device), "options": options, "scale": "muon"}
    return SymOpt([group], compile=compile).step


def per_head(shapes, device: str, compile=False) -> Callable:
    """Attention by 12 heads: rows of q, k and v, columns of the output."""
    qkv, out = (weights(s, device) for s in (shapes[::2], shapes[1::2]))
    groups = [
        {"params": qkv, "pieces": 3 * HEADS},
        {"params": out, "pieces": HEADS, "along": "columns"},
    ]
    return SymOpt(groups, compile=compile).step


def vectors(shapes, device: str) -> Callable:
    return SymOpt([{"params": weights(shapes, device), "rule": "adamw"}]).step


def resnet18(device: str) -> tuple[Callable, Callable]:
    """(the polar factors of its convolutions alone, a step of SymOpt)."""
    model = vision.torchvision().models.resnet18(num_classes=10).to(device)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    step = SymOpt(model, example=torch.randn(2, 3, 32, 32)).step
    by_shape: dict = {}
    for p in model.parameters():
        if p.ndim > 1:
            by_shape.setdefault(p.flatten(1).shape, []).append(p.grad.flatten(1))
    dtype = None if device == "cpu" else torch.bfloat16
    stacks = [torch.stack(same) for same in by_shape.values()]
    return (lambda: [polar(x, dtype=dtype) for x in stacks]), step


def rows(shapes, device: str, rule="row_norm", compile=False, **options) -> Callable:
    group = {"params": weights(shapes, device), "rule": rule, "shift": True}
    group |= {"options": FLOOR | options, "weight_decay": 0.0}
    return SymOpt([group], compile=compile).step


def adamw(shapes, device: str) -> Callable:
    return torch.optim.AdamW(weights(shapes, device), fused=True).step


# --- measuring -----------------------------------------------------------------------


def seconds(function: Callable, device: str) -> float:
    """CPU-seconds, or those between two events on a GPU."""
    if device == "cpu":
        start = time.process_time()
        function()
        return time.process_time() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def compare(name: str, other: Callable, ours: Callable, device: str, pairs: int):
    """Print and return (median of ours / other, median seconds of ours)."""
    for _ in range(2):  # makes the state; compiles
        other(), ours()
    times = []
    for i in range(pairs):
        sides = (other, ours)[:: 1 - 2 * (i % 2)]
        pair = [seconds(side, device) for side in sides]
        times.append(pair[:: 1 - 2 * (i % 2)])
    ratios = [b / a for a, b in times]
    middle, (base, own) = np.median(ratios), np.median(times, axis=0)
    print(
        f"{name:58s} {base * 1e3:9.1f} {own * 1e3:9.1f} ms  {middle:6.3f}  "
        f"({min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )
    return float(middle), float(own)


def flops(shapes, device: str) -> int:
    """Of the products that SymOpt's step executes, counted by torch."""
    step = spectral(shapes, device)

    def in_place(y, a, b, **_):  # shapes (N, m, k), (N, k, n): not known to torch's
        return 2 * a[0] * a[1] * a[2] * b[2]

    known = {torch.ops.aten.baddbmm_: in_place}
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        step()
    return counter.get_total_flops()


def rates(device: str, dtype: torch.dtype, repeat: int = 7) -> tuple[float, float]:
    """(flops, bytes) per second of a large product and of a large sum in place."""
    n = 2048 if device == "cpu" else 8192
    x, source = torch.randn(n, n, device=device).to(dtype), torch.ones(2**26 // 2)
    source = source.to(device)
    target = torch.ones_like(source)
    product, add = partial(torch.mm, x, x), partial(target.add_, source)
    product(), add()
    best = [min(seconds(f, device) for _ in range(repeat)) for f in (product, add)]
    return 2 * n**3 / best[0], 3 * source.nbytes / best[1]


def accuracy(width: int = 256, condition: float = 1e3) -> None:
    """Print how far both iterations are from the exact factor, on the CPU."""
    print(
        f"\n{'against the SVD, ' + f'condition {condition:g}':30s} relative error,",
        end="",
    )
    print(" singular values: least, largest, rms deviation from 1")
    iterate = partial(original, ns_coefficients=JORDAN, ns_steps=5, eps=1e-7)
    sides = {
        "Muon, bfloat16": iterate,
        "Muon, float32": lambda x: single(x, JORDAN, 5, 1e-7),
        "SymOpt, bfloat16": lambda x: polar(x, dtype=torch.bfloat16),
        "SymOpt, float32": polar,
    }
    for m, n in sorted(set(LAYER)):
        draws = torch.Generator().manual_seed(0)
        x = torch.randn(m * width, n * width, generator=draws, dtype=torch.float64)
        u, s, vt = torch.linalg.svd(x, full_matrices=False)
        spectrum = condition ** -torch.linspace(0, 1, len(s), dtype=torch.float64)
        for name, side in sides.items():
            y = side(((u * spectrum) @ vt).float()).double()
            found = torch.linalg.svdvals(y)
            error = torch.linalg.matrix_norm(y - u @ vt) / len(s) ** 0.5
            print(
                f"{f'{m}:{n} {name}':30s} {error:.4f}  {found[-1]:.4f} {found[0]:.4f} "
                f"{(found - 1).square().mean().sqrt():.4f}"
            )


# --- memory --------------------------------------------------------------------------

ALL = hidden(12)  # with one step of the iterations, as all steps need the same
SIDES = {
    "AdamW fused, 12 layers": lambda d: adamw(ALL, d),
    "Muon, float32, 12 layers": lambda d: muon(ALL, d, torch.float32, steps=1),
    "SymOpt, 12 layers": lambda d: spectral(ALL, d, steps=1),
    "AdamW fused, embedding": lambda d: adamw([(VOCABULARY, WIDTH)], d),
    "AdamW fused, head 32000 x 256 (33 MB)": lambda d: adamw([HEAD], d),
    "SymOpt centred, head 32000 x 256 (33 MB)": lambda d: rows([HEAD], d, centred=True),
    "SymOpt row_norm, embedding": lambda d: rows([(VOCABULARY, WIDTH)], d),
}


def peak(side: str, device: str) -> float:
    """MB that the second step takes beyond weights, gradients and state."""
    step = SIDES[side](device)
    step()
    if device != "cpu":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    step()
    return (resident("VmHWM") - before) / 1e3


def resident(key: str) -> int:
    """kB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(s for s in lines if s.startswith(key)).split()[1])


def memory(device: str) -> None:
    """Print the peaks, of a process each on a CPU: so none keeps what another freed."""
    print("\nmemory of a step beyond weights, gradients and state")
    for side in SIDES:
        if device == "cpu":
            command = [sys.executable, __file__, "--peak", side]
            env = os.environ | {
                "MALLOC_MMAP_THRESHOLD_": "65536"
            }  # freed is given back
            done = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True)
            found = float(done.stdout)
        else:
            found = peak(side, device)
        print(f"{side:58s} {found:9.1f} MB", flush=True)


# --- the run -------------------------------------------------------------------------


def matrices(layers: int, device: str, pairs: int, compile: bool) -> list[tuple]:
    """The asked ratios of the hidden matrices, as (what, ratio, limit)."""
    shapes, attention = hidden(layers), hidden(layers, layer=ATTENTION)
    versus = partial(compare, device=device, pairs=pairs)
    counts = f"{layers} layer{'s' * (layers > 1)}"
    asked, dtype = [], torch.float32 if device == "cpu" else torch.bfloat16
    for compiled in (False, True)[: 1 + compile]:
        ours = "SymOpt compiled" if compiled else "SymOpt"
        side = partial(spectral, device=device, compile=compiled)
        name = f"{counts}: Muon, {str(dtype)[6:]} | {ours}"
        ratio, own = versus(name, muon(shapes, device, dtype), side(shapes))
        asked.append((name, ratio, 0.8 if device == "cpu" else 0.5))
        name = f"{counts}: attention: {ours} | {ours} per head"
        heads = per_head(attention, device, compiled)
        versus(name, side(attention), heads)
        if not compiled:
            rate, _ = rates(device, dtype)
            total = flops(shapes, device)
            print(
                f"{'':10s}{total / 1e9:.0f} Gflop at {rate / 1e9:.0f} Gflop/s: "
                f"{own / (total / rate):.2f} times the limit"
            )
    half, full = torch.bfloat16, torch.float32
    sides, small = ((half, full), (half, half), (full, full)), hidden(1, 128)
    if device != "cpu":
        sides, small = ((full, full),), shapes
    where = "width 128" if device == "cpu" else counts
    for theirs, own in sides:
        name = f"{where}: Muon, {str(theirs)[6:]} | SymOpt, {str(own)[6:]}"
        versus(name, muon(small, device, theirs), spectral(small, device, dtype=own))
    return asked


def tables(device: str, pairs: int) -> list[tuple]:
    """The asked ratios of the embedding, as (what, ratio, limit)."""
    versus, asked = partial(compare, device=device, pairs=pairs), []
    shape, head = [(VOCABULARY, WIDTH)], [(VOCABULARY // 8, WIDTH)]
    for compiled in (False, True):
        ours = "row_norm compiled" if compiled else "row_norm"
        name = f"embedding: AdamW fused | {ours}"
        ratio, own = versus(
            name, adamw(shape, device), rows(shape, device, compile=compiled)
        )
        asked.append((name, ratio, 1.3))
        _, rate = rates(device, torch.float32)
        least = 7 * 4 * VOCABULARY * WIDTH
        print(
            f"{'':10s}{least / 1e9:.2f} GB at {rate / 1e9:.1f} GB/s: "
            f"{own / (least / rate):.2f} times the limit"
        )
        versus(f"embedding: AdamW fused | {ours}, centred",
               adamw(shape, device),
               rows(shape, device, compile=compiled, centred=True))  # fmt: skip
    versus("1/8 of the head: row_norm, centred | centred_row_norm",
           rows(head, device, centred=True),
           rows(head, device, "centred_row_norm"))  # fmt: skip
    return asked


def small(device: str, pairs: int) -> list[tuple]:
    """The asked ratios of many small tensors and of medium ones."""
    versus, asked = partial(compare, device=device, pairs=pairs), []
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    draws = np.random.default_rng(0)
    sides = [(m, n) for m in range(8, 65) for n in range(8, 65)]
    shapes = [sides[i] for i in draws.choice(len(sides), 500, replace=False)]
    lengths = [(int(n),) for n in draws.integers(8, 65, 500)]
    alone, step = resnet18(device)
    for name, other, ours, limit in (
        (f"500 shapes: Muon, {str(dtype)[6:]} | SymOpt",
         muon(shapes, device, dtype), spectral(shapes, device), 1.5),
        ("500 vectors: AdamW fused | SymOpt's AdamW",
         adamw(lengths, device), vectors(lengths, device), 1.3),
        ("head 32000 x 256: AdamW fused | row_norm, centred",
         adamw([HEAD], device), rows([HEAD], device, centred=True), 3.0),
        ("ResNet18: its polar factors alone | SymOpt", alone, step, 1.2),
    ):  # fmt: skip
        ratio, _ = versus(name, other, ours)
        asked.append((name, ratio, limit))
    return asked


def main(device: str, layers: int, pairs: int, compile: bool) -> None:
    print(f"{'the one | the other':58s} {'the one':>9s} {'the other':>9s}      ratio")
    asked = matrices(layers, device, pairs, compile)
    asked += small(device, pairs) + tables(device, pairs)
    memory(device)
    accuracy()
    print("\nasked:")
    for name, ratio, limit in asked:
        met = "met" if ratio <= limit else "NOT MET"
        print(f"{name:58s} {ratio:.3f}, at most {limit}: {met}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", type=int, help="default 1 on a CPU, else 12")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="also with compile=True")
    parser.add_argument("--peak", choices=SIDES, help="only print this side's memory")
    args = parser.parse_args()
    count = args.layers or (1 if args.device == "cpu" else 12)
    if args.peak:
        print(peak(args.peak, args.device))
    else:
        main(args.device, count, args.pairs, args.compile)
