"""The clipped policy-gradient objective, with the two clips counted apart.

PPO's surrogate (arXiv 1707.06347) on tokens, with an upper clip of its own (DAPO, arXiv
2503.14476) and an optional third clip for negative advantages (dual clip, arXiv
1912.09729); summed over tokens in one of three ways:

  sequence   mean over sequences of their means over tokens: GRPO, arXiv 2402.03300
  token      mean over all tokens of the batch: DAPO
  constant   sum over tokens over N max_length: Dr.GRPO, arXiv 2503.20783

Which clip binds matters: clipping low raises the entropy of the policy and clipping
high lowers it (arXiv 2509.26114), so their fractions are logged apart.
"""

import torch
from torch import Tensor

from symlab.rlvr.arrays import floating

NORMALISATIONS = ("sequence", "token", "constant")
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
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss (a scalar, to be minimised) and its statistics (scalars, detached).

    logp, old_logp, mask (N, T): log-probabilities of the tokens sampled, N = B G; what
    the mask (bool or 0/1) leaves out may be anything, NaN included. advantages (N,), or
    (N, T) for one of each token. Only logp has a gradient. Half precision is computed
    in float32, and so is what is returned. max_length: for 'constant'.

    Per token -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A), rho the ratio of
    probabilities; with dual_clip at most -dual_clip A where A < 0. A sequence without
    tokens counts as 0. Statistics, means over tokens: clip_low, clip_high (the fraction
    with A < 0 and rho below, with A > 0 and rho above), clip_dual, approx_kl (of old to
    new, rho - 1 - log rho), approx_kl_k1 (-log rho, verl's ppo_kl), ratio; and the
    largest, ratio_max.
    """
    _check(logp, old_logp, advantages, mask, clip_low, clip_high, dual_clip)
    mask = mask.bool()
    logp, old_logp = floating(logp)[0], floating(old_logp)[0]
    a = floating(advantages.detach())[0]
    a = (a[:, None] if a.ndim == 1 else a).expand_as(logp)
    log_ratio = torch.where(mask, logp - old_logp.detach(), 0)
    log_ratio = log_ratio.clamp(-LOG_RATIO, LOG_RATIO)
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -torch.minimum(ratio * a, clipped * a)
    bound = torch.zeros_like(mask)
    if dual_clip is not None:
        bound = (a < 0) & (loss > -dual_clip * a)
        loss = torch.where(a < 0, torch.minimum(loss, -dual_clip * a), loss)
    each = {
        "clip_low": (a < 0) & (ratio < 1 - clip_low),
        "clip_high": (a > 0) & (ratio > 1 + clip_high),
        "clip_dual": bound,
        "approx_kl": torch.expm1(log_ratio) - log_ratio,
        "approx_kl_k1": -log_ratio,
        "ratio": ratio,
    }
    with torch.no_grad():
        stats = {name: _token_mean(x.to(logp.dtype), mask) for name, x in each.items()}
        stats["ratio_max"] = torch.where(mask, ratio, 0).max()
    loss = torch.where(mask, loss, 0)
    return _normalised(loss, mask, normalisation, max_length), stats


def _normalised(loss: Tensor, mask: Tensor, how: str, max_length: int | None) -> Tensor:
    if how == "sequence":
        return (loss.sum(-1) / mask.sum(-1).clamp(min=1)).mean()
    if how == "token":
        return _token_mean(loss, mask)
    if how != "constant":
        raise ValueError(
            f"unknown normalisation {how!r}: use {', '.join(NORMALISATIONS)}"
        )
    if not max_length or max_length < 1:
        raise ValueError("the constant normalisation needs max_length, in tokens")
    return loss.sum() / (len(loss) * max_length)


def _token_mean(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, 0).sum() / mask.sum().clamp(min=1)


def _check(logp, old_logp, advantages, mask, clip_low, clip_high, dual_clip) -> None:
    shape = tuple(logp.shape)
    if len(shape) != 2 or not shape[0] or not shape[1]:
        raise ValueError(f"logp has shape {shape}: give (N, T), sequences by tokens")
    for name, x in (("old_logp", old_logp), ("mask", mask)):
        if tuple(x.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(x.shape)} and logp {shape}")
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
