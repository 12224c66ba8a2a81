"""Text generation: tokens drawn from a decoder one after another, with a cache.

    draws = torch.Generator().manual_seed(0)
    tokens = generate(model, prompt, 50, draws=draws, top_k=40)  (B, T) to (B, T + 50)

The cache holds keys and values of earlier tokens (`symlab.models.cache`).
"""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from symlab.models.cache import Cache
from symlab.models.transformer import Decoder


@torch.no_grad()
def generate(
    model: Decoder,
    tokens: Tensor,
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    draws: torch.Generator | None = None,
    ends: Sequence[int] = (),
) -> Tensor:
    """Return tokens (B, T + n): each prompt, then n tokens that the model adds to it.

    tokens: the prompts (B, T), T at least 1.
    count: the largest n; n is smaller if all sequences have ended before.
    temperature: divides the logits; 0 takes the most probable token each time, and
        needs no draws.
    top_k: the number of most probable tokens from which one is drawn; None for all.
    top_p: of these, only the smallest set of most probable tokens is kept whose
        probabilities sum to top_p or more (arXiv 1904.09751); None keeps all.
    draws: a CPU generator of random numbers.
    ends: tokens after which a sequence has ended; it repeats its last token until all
        have ended.

    Raises ValueError for a setting out of its range, and if the prompt and `count`
    tokens do not fit into the model's context.
    """
    check_sampling(count, temperature, top_k, top_p)
    if temperature and draws is None:
        raise ValueError(
            "give draws=torch.Generator().manual_seed(seed), or temperature=0 for the "
            "most probable tokens"
        )
    start, context = tokens.shape[1], model.config.context
    if start < 1:
        raise ValueError("the prompt is empty: give one token at least")
    if start + count > context:
        raise ValueError(
            f"{start} tokens of the prompt and {count} more do not fit into the "
            f"context of {context}: ask for {max(0, context - start)} or shorten the "
            "prompt"
        )
    cache, new = Cache(model.config, start + count), tokens
    ended = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    final = torch.tensor(list(ends), dtype=tokens.dtype, device=tokens.device)
    for _ in range(count):
        x, _ = model.hidden(new, cache)
        logits = model.head(x[:, -1])  # (B, V)
        chosen = _chosen(logits, temperature, top_k, top_p, draws).to(tokens)
        new = torch.where(ended, tokens[:, -1], chosen)[:, None]
        tokens = torch.cat([tokens, new], 1)
        if len(final):
            ended |= torch.isin(new[:, 0], final)
            if ended.all():
                break
    return tokens


def check_sampling(
    count: int, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    """Raise ValueError if a setting of `generate` is out of its range.

    count, temperature, top_k, top_p: as for `generate`.
    """
    if count < 0:
        raise ValueError(f"tokens = {count} is negative: ask for 0 or more")
    if not (isfinite(temperature) and temperature >= 0):
        raise ValueError(
            f"temperature = {temperature} must be finite and 0 or more: 1 draws from "
            "the model's own probabilities, 0 takes the most probable token"
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k = {top_k} leaves no token: use 1 or more, or None")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p = {top_p} must be in (0, 1], or None")


def _chosen(logits, temperature, top_k, top_p, draws) -> Tensor:
    """(B, V) to a token of each sequence (B,)."""
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial(
        probabilities(logits, temperature, top_k, top_p), 1, generator=draws
    )[:, 0]


def probabilities(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Return the probabilities (B, V) with which the next tokens are drawn, float64.

    logits: (B, V). temperature, top_k, top_p: as for `generate`.

    The probabilities are computed on the CPU, so that draws are the same on all
    devices. Among equal logits the first counts as the most probable.
    """
    wide = logits.to("cpu", torch.float64)
    # below 0 before the division: a temperature near 0 then overflows to -inf alone
    scaled = (wide - wide.amax(-1, keepdim=True)) / temperature
    if top_k is not None and top_k < scaled.shape[-1]:
        beyond = scaled.sort(dim=-1, descending=True, stable=True).indices[..., top_k:]
        scaled = scaled.scatter(-1, beyond, -torch.inf)
    p = scaled.softmax(-1)
    if top_p is None:
        return p
    falling, order = p.sort(dim=-1, descending=True, stable=True)
    before = falling.cumsum(-1) - falling  # of the more probable ones: 0 for the first
    falling = falling.masked_fill(before >= top_p, 0.0)
    kept = torch.zeros_like(p).scatter(-1, order, falling)
    return kept / kept.sum(-1, keepdim=True)
