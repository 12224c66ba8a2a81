"""A decoder of one layer for comparisons across widths, in runs side by side.

The residual stream has width D; there are D/32 heads of width E = 16 and a ReLU
perceptron; pre-norm, no biases, norms without parameters. Attention and perceptron are
half as wide as the stream, so each hidden matrix is (D, D/2) or (D/2, D) at every
width. A wider decoder has more heads, and not wider ones: the scale 1/sqrt(E) of the
scores does not change, and muP needs no scale 1/E (Yang et al., arXiv 2203.03466,
definition 4.1).

Axes: L runs ("lanes", one per seed), B sequences, T tokens, H heads, E head width, D
    width, V vocabulary.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, layer_norm, scaled_dot_product_attention

from symlab.harness import rng

HEAD = 16
INPUTS = ("embed", "position")  # their inputs, tokens and places, do not grow with D
HIDDEN = ("q", "k", "v", "o", "up", "down")


def initial(
    width: int, tokens: int, vocabulary: int, seeds, head_variance: float = 1.0
) -> dict[str, Tensor]:
    """Return random weights of L decoders by name, float32 (L, inputs, outputs) each,
    which require gradients.

    width: D, a multiple of 32. tokens: T, the largest length of a sequence.
    vocabulary: V.
    seeds: L seeds, one for each run.
    head_variance: D times the variance of the head's entries.

    Entries have variance 1 in the embedding, 0.1 in the positions, 1/inputs in hidden
    matrices and head_variance/D in the head.
    """
    d, half = width, width // 2
    shapes = {
        "embed": (vocabulary, d, 1.0),
        "position": (tokens, d, 0.1),
        **dict.fromkeys(("q", "k", "v", "up"), (d, half, 1 / d)),
        **dict.fromkeys(("o", "down"), (half, d, 1 / half)),
        "head": (d, vocabulary, head_variance / d),
    }

    def drawn(seed: int) -> dict:
        draws = rng.stream(seed, "init")
        return {
            name: variance**0.5 * draws.normal(size=(m, n))
            for name, (m, n, variance) in shapes.items()
        }

    lanes = [drawn(seed) for seed in seeds]
    stacked = {name: np.stack([w[name] for w in lanes]) for name in shapes}
    return {k: torch.from_numpy(w).float().requires_grad_() for k, w in stacked.items()}


def losses(p: dict[str, Tensor], rows: Tensor) -> Tensor:
    """Return the loss of each run, (L,), in nats per token.

    p: the weights of L runs. rows: token ids (L, B, T + 1): T inputs and the tokens
        that follow them, for B sequences.
    """
    out = logits(p, rows[..., :-1]).transpose(1, 2)  # (L, V, B * T)
    return cross_entropy(out, rows[..., 1:].flatten(1), reduction="none").mean(1)


def logits(p: dict[str, Tensor], x: Tensor) -> Tensor:
    """Return the logits (L, B * T, V) of the token that follows each token of x.

    p: the weights of L runs. x: token ids (L, B, T), B sequences of T of V tokens.
    """
    y = stream(p, x)
    y = y + (_norm(y) @ p["up"]).relu() @ p["down"]
    return _norm(y) @ p["head"]


def stream(p: dict[str, Tensor], x: Tensor) -> Tensor:
    """Return the residual stream (L, B * T, D) of width D between attention and
    perceptron.

    p: the weights of L runs. x: token ids (L, B, T), B sequences of T tokens.
    """
    lanes, b, t = x.shape

    def split(y: Tensor) -> Tensor:  # (L, B * T, D/2) to (L * B, H, T, E)
        return y.view(lanes * b, t, -1, HEAD).transpose(1, 2)

    y = p["embed"][torch.arange(lanes)[:, None], x.flatten(1)]
    y = y + p["position"][:, :t].repeat(1, b, 1)  # (L, B * T, D)
    z = _norm(y)
    q, k, v = (split(z @ p[name]) for name in ("q", "k", "v"))
    seen = scaled_dot_product_attention(q, k, v, is_causal=True)  # (L * B, H, T, E)
    return y + seen.transpose(1, 2).reshape(lanes, b * t, -1) @ p["o"]


def _norm(x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:])
