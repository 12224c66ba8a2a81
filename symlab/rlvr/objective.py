"""PPO's clipped policy-gradient objective, with the fractions of both clips.

The surrogate of PPO (arXiv 1707.06347) on tokens, with a separate upper clip (DAPO,
arXiv 2503.14476) and an optional third clip for negative advantages (dual clip, arXiv
1912.09729), is averaged in one of three ways:

  sequence   mean over sequences of their means over tokens: GRPO, arXiv 2402.03300
  token      mean over all tokens of the batch: DAPO
  constant   sum over tokens, divided by N max_length: Dr.GRPO, arXiv 2503.20783

The ratio of probabilities is each token's, or that of the sequence: GSPO, arXiv
2507.18071. If the engine that sampled differs from the one that computes `old_logp`,
tokens can be weighted by the truncated ratio of the two probabilities.

It matters which clip is active: clipping low raises the entropy of the policy and
clipping high lowers it (arXiv 2509.26114), so their fractions are reported separately.
"""

import torch
from torch import Tensor

from symlab.rlvr.arrays import floating

NORMALISATIONS = ("sequence", "token", "constant")
RATIOS = ("token", "sequence")
LOG_RATIO = 20.0  # a ratio of 5e8 is no estimate any more; verl clamps there, too


def clipped_objective(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    normalisation: str = "sequence",
    max_length: int | None = None,
    total_tokens: float | None = None,
    total_sequences: float | None = None,
    ratio: str = "token",
    sampler_logp: Tensor | None = None,
    truncation: float = 2.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return PPO's clipped loss (a scalar, to be minimised) and its statistics.

    logp, old_logp: (N, T), log-probabilities of the tokens of N sequences under the
        present policy and at sampling. Only logp has a gradient. Half precision is
        computed, and results are returned, in float32.
    advantages: (N,), or (N, T) for one per token.
    mask: (N, T), booleans or 0/1: the tokens that count. The others may have any
        values, NaN included.
    clip_low, clip_high: the ratio rho is clipped to [1 - clip_low, 1 + clip_high].
    dual_clip: the loss of a token with A < 0 is at most -dual_clip A; None for no
        bound.
    normalisation: 'sequence' (mean over sequences of token means), 'token' (mean over
        all tokens) or 'constant' (sum, divided by N max_length).
    max_length: for 'constant'.
    total_tokens, total_sequences: for 'token' and for the others: the number in the
        whole batch, if this call gets one of its micro-batches. The losses of the
        micro-batches then add up to that of the batch, and so do their gradients;
        otherwise each call is a batch by itself. A trainer that averages gradients over
        processes passes the total divided by the number of processes.
    ratio: 'token', or 'sequence' for GSPO: the geometric mean of the sequence's ratios
        is used on all its tokens, usually with clip ranges of about 3e-4.
    sampler_logp: (N, T), log-probabilities under the engine that sampled; the loss of
        each token is then multiplied by min(exp(old_logp - sampler_logp), truncation).

    The loss of a token is -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A), with
    rho the ratio of probabilities. A sequence without tokens counts as 0. The
    statistics are detached scalars, means over tokens: clip_low and clip_high (the
    fractions with A < 0 and rho below the range, and with A > 0 and rho above it),
    clip_dual, approx_kl (from old to new policy, rho - 1 - log rho), approx_kl_k1 (-log
    rho, verl's ppo_kl), ratio; ratio_max, the largest ratio; and with sampler_logp
    sampler_weight, and truncated, the fraction of truncated weights.

    Raises ValueError for shapes that differ, a mask with values other than 0 and 1,
    invalid clip ranges, and a total that belongs to another normalisation.
    """
    _check(logp, old_logp, advantages, mask, clip_low, clip_high, dual_clip)
    mask = mask.bool()
    logp, old_logp = floating(logp)[0], floating(old_logp)[0]
    a = floating(advantages.detach())[0]
    a = (a[:, None] if a.ndim == 1 else a).expand_as(logp)
    log_ratio = _log_ratio(logp, old_logp.detach(), mask, ratio)
    rho = log_ratio.exp()
    clipped = rho.clamp(1 - clip_low, 1 + clip_high)
    loss = -torch.minimum(rho * a, clipped * a)
    bound = torch.zeros_like(mask)
    if dual_clip is not None:
        bound = (a < 0) & (loss > -dual_clip * a)
        loss = torch.where(a < 0, torch.minimum(loss, -dual_clip * a), loss)
    each = {
        "clip_low": (a < 0) & (rho < 1 - clip_low),
        "clip_high": (a > 0) & (rho > 1 + clip_high),
        "clip_dual": bound,
        "approx_kl": torch.expm1(log_ratio) - log_ratio,
        "approx_kl_k1": -log_ratio,
        "ratio": rho,
    }
    if sampler_logp is not None:
        weight, over = _sampler_weight(old_logp, sampler_logp, mask, truncation)
        loss = loss * weight
        each |= {"sampler_weight": weight, "truncated": over}
    with torch.no_grad():
        stats = {name: _token_mean(x.to(logp.dtype), mask) for name, x in each.items()}
        stats["ratio_max"] = torch.where(mask, rho, 0).max()
    loss = torch.where(mask, loss, 0)
    totals = total_tokens, total_sequences
    return _normalised(loss, mask, normalisation, max_length, *totals), stats


def _log_ratio(logp: Tensor, old_logp: Tensor, mask: Tensor, ratio: str) -> Tensor:
    """log rho (N, T), 0 where the mask leaves out."""
    if ratio not in RATIOS:
        raise ValueError(f"unknown ratio {ratio!r}: use {', '.join(RATIOS)}")
    found = torch.where(mask, logp - old_logp, 0)
    if ratio == "sequence":
        mean = found.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
        found = torch.where(mask, mean, 0)
    return found.clamp(-LOG_RATIO, LOG_RATIO)


def _sampler_weight(old_logp, sampler_logp, mask, truncation: float):
    """min(exp(old - sampler), truncation) (N, T), and where it is truncated."""
    if tuple(sampler_logp.shape) != tuple(mask.shape):
        raise ValueError(
            f"sampler_logp has shape {tuple(sampler_logp.shape)} and logp "
            f"{tuple(mask.shape)}"
        )
    if not truncation > 0:
        raise ValueError(f"truncation = {truncation} is no bound: use one above 0")
    old, sampler = old_logp.detach(), floating(sampler_logp.detach())[0]
    weight = torch.where(mask, old - sampler, 0).clamp(-LOG_RATIO, LOG_RATIO).exp()
    return weight.clamp(max=truncation), weight > truncation


def _normalised(
    loss: Tensor, mask: Tensor, how: str, max_length: int | None, tokens, sequences
) -> Tensor:
    if how not in NORMALISATIONS:
        raise ValueError(
            f"unknown normalisation {how!r}: use {', '.join(NORMALISATIONS)}"
        )
    if how == "token":
        if sequences is not None:
            raise ValueError("the token normalisation takes total_tokens")
        return loss.sum() / _total("total_tokens", tokens, mask.sum().clamp(min=1))
    if tokens is not None:
        raise ValueError(f"the {how} normalisation takes total_sequences")
    n = _total("total_sequences", sequences, len(loss))
    if how == "sequence":
        return (loss.sum(-1) / mask.sum(-1).clamp(min=1)).sum() / n
    if not max_length or max_length < 1:
        raise ValueError("the constant normalisation needs max_length, in tokens")
    return loss.sum() / (n * max_length)


def _total(name: str, given, here):
    """What to divide by: the count of the whole batch, or of this call alone."""
    if given is None:
        return here
    if not 0 < float(given) < float("inf"):
        raise ValueError(f"{name} = {float(given):g} is no count: use one above 0")
    return float(given)


def _token_mean(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, 0).sum() / mask.sum().clamp(min=1)


def _check(logp, old_logp, advantages, mask, clip_low, clip_high, dual_clip) -> None:
    shape = tuple(logp.shape)
    if len(shape) != 2 or not shape[0] or not shape[1]:
        raise ValueError(f"logp has shape {shape}: give (N, T), sequences by tokens")
    for name, x in (("old_logp", old_logp), ("mask", mask)):
        if tuple(x.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(x.shape)} and logp {shape}")
    if mask.dtype != torch.bool and not ((mask == 0) | (mask == 1)).all():
        raise ValueError(
            "mask has values other than 0 and 1: a token counts or is left out"
        )
    if tuple(advantages.shape) not in (shape[:1], (shape[0], 1), shape):
        raise ValueError(
            f"advantages have shape {tuple(advantages.shape)}: give ({shape[0]},) or "
            f"{shape}"
        )
    if not (0 <= clip_low <= 1 and clip_high >= 0):
        raise ValueError(
            f"clip_low = {clip_low} and clip_high = {clip_high} are no clip range: use "
            "0 <= clip_low <= 1 and clip_high >= 0"
        )
    if dual_clip is not None and not dual_clip > 1:
        raise ValueError(f"dual_clip = {dual_clip} is no dual clip: use one above 1")
