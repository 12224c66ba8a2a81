"""A small decoder learns one text and is adapted to another by low-rank products
(LoRA).

    begun = begin(width=32, layers=2, rank=4, batch=16, context=32, seed=0,
                  pretraining=600, warmup=20)
    end = adapt(sizes, frozen(begun), [start(begun, "warm")], [("adamw", 0.01)], 120)

The first text is the documentation of mpmath's functions, character by character, the
second the source code of these functions; both come with mpmath 1.3.0. All matrices of
the decoder are adapted (see `symlab.models.adapters`), and nothing else is trained.
Several runs are computed side by side in one tensor program ("lanes"): they share the
decoder and the batches, and differ in the initial factors, the update rule and its
learning rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from symlab.data import characters
from symlab.harness import rng
from symlab.models import adapters, symmetric_attention
from symlab.models.adapters import STACKS, Factors
from symlab.models.symmetric_attention import Shape
from symlab.schedule import schedule
from symlab.symopt import SymOpt

FIRST, SECOND = 0, 1  # of the texts
RATIO = 16.0  # of LoRA+'s rates, B's over A's: the authors' choice of 2^4
EPSILON = 1e-12  # of AdamW: 1e-8 is not small beside all gradients here
WARMUP_RATE, PRETRAINING_RATE = 0.005, 0.01
TESTED = 256  # sequences of a validation text
BLOCKS = 100  # of the second text


@dataclass(frozen=True)
class Sizes:
    """Sizes of the decoder, of its adapters and of a batch, with the seed of a run.

    width, layers: of the decoder.
    rank: of the low-rank products.
    batch: the number of sequences per step.
    context: the length of a sequence, in characters.
    seed: of the weights, the adapters and the batches.
    """

    width: int
    layers: int
    rank: int
    batch: int
    context: int
    seed: int

    @property
    def shape(self) -> Shape:
        n = texts()[1]
        sizes = {"head_width": self.width // 4, "layers": self.layers}
        return Shape("full", n, n, self.context, width=self.width, **sizes)


# --- texts ---------------------------------------------------------------------------


@cache
def texts() -> tuple[tuple, int]:
    """Return the text of the pretraining and that of the adaptation as character
    indices, and the number of different characters.

    The first result is a pair (FIRST, SECOND), with a pair (training, validation) of
    int64 tensors (N,) for each text. The second text is written in the characters of
    the first; any other character becomes a space. Its files differ from each other, so
    every tenth of 100 blocks is for validation, and not the end of the text.
    """
    first = characters.load("mpmath")
    folder = Path(find_spec("mpmath").origin).parent / "functions"
    code = "".join(f.read_text("utf-8") for f in sorted(folder.glob("*.py")))
    place = {x: i for i, x in enumerate(first.vocabulary)}
    ids = torch.tensor([place.get(x, place[" "]) for x in code])
    blocks = ids[: len(ids) // BLOCKS * BLOCKS].view(BLOCKS, -1)
    held = torch.arange(BLOCKS) % 10 == 9
    second = blocks[~held].flatten(), blocks[held].flatten()
    return ((first.train, first.validation), second), len(first.vocabulary)


def _windows(text: Tensor, begin: np.ndarray, length: int) -> tuple[Tensor, Tensor]:
    """Return inputs and targets (B, T) from the positions `begin` (B,) on."""
    rows = text[torch.from_numpy(begin)[:, None] + torch.arange(length + 1)]
    return rows[:, :-1], rows[:, 1:]


def _batch(text: Tensor, s: Sizes, size: int, draws: np.random.Generator) -> tuple:
    begin = draws.integers(0, len(text) - s.context, size)
    return _windows(text, begin, s.context)


def _losses(out: Tensor, y: Tensor) -> Tensor:
    """Return the mean loss (nats) of each lane, (L,), for outputs (L, B, T, V)."""
    y = y.expand(len(out), *y.shape).flatten()
    found = cross_entropy(out.flatten(0, 2), y, reduction="none")
    return found.view(len(out), -1).mean(1)


def judged(s: Sizes, p: dict, factors: Factors, which: int = SECOND) -> Tensor:
    """Return the validation loss of L adapted decoders, (L,), in nats per character.

    s: the sizes.
    p: the frozen weights of the decoder, which all share.
    factors: the low-rank factors (B, A), with a leading axis L.
    which: the text, FIRST or SECOND.
    """
    text = texts()[0][which][1]
    begin = np.linspace(0, len(text) - s.context - 1, TESTED).astype(int)
    x, y = _windows(text, begin, s.context)
    with torch.no_grad():
        return _losses(adapters.forward(p, factors, x, s.shape), y)


# --- training ------------------------------------------------------------------------


def adapt(
    s: Sizes,
    p: dict[str, Tensor],
    starts: Sequence[Factors],
    rules: Sequence[tuple[str, float]],
    steps: int,
    stream: str = "batches",
    watch: Callable[[dict[str, Tensor]], None] | None = None,
) -> Factors:
    """Return the low-rank factors of L runs after training on the second text, to which
    the decoder is adapted.

    s: the sizes. p: the frozen weights of the decoder.
    starts: the initial factors of each run; the result has their precision.
    rules: the update rule and the learning rate of each run, as `arm` and `lr` of
        `settings`; rates fall linearly to 0 over the last 40 % of the steps.
    steps: the number of steps.
    stream: the name of the stream of random numbers that draws batches.
    watch: a function that is given the products B A after each step, {stack: (L, S, m,
        n)} for stacks of S matrices with m outputs and n inputs.
    """
    kind = starts[0][STACKS[0]][0].dtype
    p = {name: w.to(kind) for name, w in p.items()}
    lanes = [
        {k: [w.clone().requires_grad_() for w in pair] for k, pair in start.items()}
        for start in starts
    ]
    pairs = zip(lanes, rules, strict=True)
    groups = [group for lane, rule in pairs for group in settings(lane, *rule)]
    rates = [group["lr"] for group in groups]
    optimizer = SymOpt(groups, weight_decay=0.0, eps=EPSILON)
    text, draws, shape = texts()[0][SECOND][0], rng.stream(s.seed, stream), s.shape
    for step in range(steps):
        x, y = _batch(text, s, s.batch, draws)
        loss = _losses(adapters.forward(p, _together(lanes), x, shape), y).sum()
        optimizer.zero_grad()
        loss.backward()
        factor = schedule(step, steps, decay=0.4)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        optimizer.step()
        if watch:
            watch({k: w.detach() for k, w in _products(lanes).items()})
    return {k: tuple(w.detach() for w in pair) for k, pair in _together(lanes).items()}


def _together(lanes: list) -> Factors:
    return {
        k: tuple(torch.stack([lane[k][i] for lane in lanes]) for i in (0, 1))
        for k in STACKS
    }


def _products(lanes: list) -> dict[str, Tensor]:
    return adapters.products(_together(lanes))


def settings(factors: Factors, arm: str, lr: float) -> list[dict]:
    """Return the `param_groups` of the optimizer SymOpt for the factors of one run.

    factors: (B, A) by the name of a stack of matrices.
    arm: the update rule: "low_rank" (invariant under changes of basis of B and A),
        "adamw", "lora_plus" (AdamW with RATIO times the learning rate for B) or "muon"
        (the polar factor of each factor's momentum).
    lr: the learning rate of both factors; under "lora_plus" that of A.
    """
    outs, ins = map(list, zip(*factors.values(), strict=True))  # B and A of each stack
    if arm == "lora_plus":
        rates = ((outs, RATIO * lr), (ins, lr))
        return [{"params": its, "rule": "adamw", "lr": rate} for its, rate in rates]
    rule = {
        "low_rank": {"rule": "low_rank", "inner_axes": (-2, -1)},
        "adamw": {"rule": "adamw"},
        "muon": {"rule": "spectral", "options": {"method": "newton_schulz"}},
    }[arm]
    pairs = [w for pair in zip(outs, ins, strict=True) for w in pair]
    return [{"params": pairs, "lr": lr, **rule}]


# --- what runs of a seed share -------------------------------------------------------


def begin(pretraining: int, warmup: int, **sizes: int) -> dict[str, np.ndarray]:
    """Pretrain a decoder, and return the arrays from which all runs of one seed start.

    pretraining: the number of steps of Adam on the first text.
    warmup: the number of steps of AdamW on the second text.
    sizes: the fields of `Sizes`.

    The arrays are the pretrained weights (read by `frozen`); two starts of the factors
    (read by `start`), LoRA's usual one, "zero", with B = 0 and A random, and "warm",
    the product that the warm-up makes of it, written as balanced factors in float64;
    and losses in nats: pretraining_loss on the first text, unadapted_loss and
    start_loss on the second, before and after the warm-up.
    """
    s = Sizes(**sizes)
    p = _pretrained(s, pretraining)
    lora = adapters.initial(s.shape, s.rank, rng.stream(s.seed, "adapters"))
    warm = adapt(s, p, [lora], [("adamw", WARMUP_RATE)], warmup, "warm-up")
    none = {k: tuple(w[None] for w in pair) for k, pair in lora.items()}
    one = {k: tuple(w[0].double() for w in pair) for k, pair in warm.items()}
    arrays = {
        "pretraining_loss": judged(s, p, none, FIRST)[0],
        "unadapted_loss": judged(s, p, none)[0],
        "start_loss": judged(s, p, warm)[0],
        **{f"frozen {name}": w for name, w in p.items()},
    }
    for name, factors in (("zero", lora), ("warm", adapters.balanced(one))):
        for stack, pair in factors.items():
            arrays |= {f"{name} {stack} {i}": w for i, w in enumerate(pair)}
    return {name: array.numpy() for name, array in arrays.items()}


def _pretrained(s: Sizes, steps: int) -> dict[str, Tensor]:
    shape, text = s.shape, texts()[0][FIRST][0]
    p = symmetric_attention.initial(shape, rng.stream(s.seed, "init"))
    p = {name: w.requires_grad_() for name, w in p.items()}
    optimizer = torch.optim.Adam(p.values(), betas=(0.9, 0.99))
    draws = rng.stream(s.seed, "pretraining")
    for step in range(steps):
        factor = schedule(step, steps, decay=0.5, warmup=0.05)
        optimizer.param_groups[0]["lr"] = PRETRAINING_RATE * factor
        x, y = _batch(text, s, 2 * s.batch, draws)
        lane = {name: w[None] for name, w in p.items()}
        loss = _losses(symmetric_attention.forward(lane, x[None], shape), y)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    return {name: w.detach() for name, w in p.items()}


def frozen(begun: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Return the decoder's pretrained weights by name, float32.

    begun: the arrays that `begin` returned.
    """
    mine = {k: w for k, w in begun.items() if k.startswith("frozen ")}
    return {k.removeprefix("frozen "): torch.from_numpy(w) for k, w in mine.items()}


def start(begun: dict[str, np.ndarray], name: str) -> Factors:
    """Return the initial low-rank factors "zero" or "warm" (see `begin`), float64.

    begun: the arrays that `begin` returned. name: "zero" or "warm".
    """
    return {
        k: tuple(torch.from_numpy(begun[f"{name} {k} {i}"]).double() for i in (0, 1))
        for k in STACKS
    }
