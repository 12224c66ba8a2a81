"""Reinforcement learning of low-rank adapters of a pretrained language model.

    adapters = initial(model, rank, draws)
    with adapted(model, adapters):
        tokens, logp, mask, entropy = rollouts(model, prompts, uniforms, ends)
        loss, found = clipped_objective(token_logp(model, prompts, tokens), logp, ...)

An adapter adds B A x to the output of the query and value projections of every block
(LoRA, arXiv 2106.09685, with the scale 1); A (rank, D) starts at random values and B
(D', rank) at zero, and the model's own weights are not trained. Sampling is at
temperature 1. The model can be any causal model of transformers with projections of
these names.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

TARGETS = ("q_proj", "v_proj")


def initial(model, rank: int, draws) -> dict[str, tuple]:
    """Return new low-rank adapters of a language model: {name of a projection: (A, B)}.

    rank: their rank. draws: a numpy Generator.

    There is one for the query and value projections W (D', D) of every block, with A
    (rank, D) random and B (D', rank) zero, float32 tensors that require gradients.
    """
    import torch

    found = {}
    for name, module in model.named_modules():
        if name.rpartition(".")[2] not in TARGETS:
            continue
        outs, ins = module.weight.shape
        device = module.weight.device
        a = draws.normal(size=(rank, ins)) / np.sqrt(ins)
        a = torch.from_numpy(a.astype(np.float32)).to(device).requires_grad_()
        found[name] = a, torch.zeros(outs, rank, device=device, requires_grad=True)
    return found


@contextmanager
def adapted(model, adapters: dict[str, tuple]) -> Iterator[None]:
    """Return a context in which each adapted projection W x of the model gives W x + B
    A x.

    adapters: {name of the projection: (A, B)}, as `initial` returns them.
    """
    import torch.nn.functional as F

    def added(a, b):
        return lambda _, inputs, output: output + F.linear(F.linear(inputs[0], a), b)

    hooks = [
        model.get_submodule(name).register_forward_hook(added(a, b))
        for name, (a, b) in adapters.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def rollouts(model, prompts, uniforms, ends):
    """Sample completions from a language model; return (tokens, logp, mask, entropy).

    prompts: (B, P), tokens. uniforms: (N, T), numbers in [0, 1), one per sampled token,
        N = B G; the G rollouts of a prompt are consecutive. ends: the tokens that end a
        completion.

    Each result is (N, T). mask: booleans, True up to and including the first end. logp
    and entropy (nats) are those of the sampling policy. Tokens after the first end are
    sampled as well, but have no meaning.
    """
    import torch
    from transformers import DynamicCache

    n, t = uniforms.shape
    cache = DynamicCache(config=model.config)
    kept = []
    with torch.no_grad():
        h = model.model(prompts, past_key_values=cache, use_cache=True)
        group = n // len(prompts)
        h = h.last_hidden_state[:, -1:].repeat_interleave(group, 0)
        cache.batch_repeat_interleave(group)
        for i in range(t):
            logp = torch.log_softmax(model.lm_head(h[:, -1]), -1)  # (N, V)
            p = logp.exp()
            cdf = p.cumsum(-1)
            drawn = torch.searchsorted(cdf, uniforms[:, i : i + 1] * cdf[:, -1:])
            token = drawn.clamp(max=p.shape[1] - 1)  # (N, 1)
            kept.append((token, logp.gather(1, token), -(p * logp).sum(-1, True)))
            if i + 1 < t:
                h = model.model(token, past_key_values=cache, use_cache=True)
                h = h.last_hidden_state
    tokens, logp, entropy = (torch.cat(x, 1) for x in zip(*kept, strict=True))
    closes = torch.isin(tokens, torch.tensor(ends, device=tokens.device)).long()
    mask = closes.cumsum(1) - closes == 0
    return tokens, logp, mask, entropy


def token_logp(model, prompts, completions):
    """Return the log-probabilities (N, T) of completions under a language model.

    prompts: (N, P), tokens. completions: (N, T), the tokens that follow the prompts.
    """
    import torch

    t = completions.shape[1]
    x = torch.cat([prompts, completions[:, :-1]], 1)
    h = model.model(x, use_cache=False).last_hidden_state[:, -t:]
    logp = torch.log_softmax(model.lm_head(h), -1)
    return logp.gather(2, completions[..., None])[..., 0]


def rewards_of(tokens: np.ndarray, mask: np.ndarray, accepted, ends) -> np.ndarray:
    """Return rewards (B, G), 1.0 for right completions, else 0.0.

    tokens, mask: (B G, T), as `rollouts` returns them.
    accepted: for each prompt the right completions, lists of tokens.
    ends: the tokens of which one has to follow a right completion.
    """
    group = len(tokens) // len(accepted)
    right = [
        row[said][-1] in ends and row[said][:-1].tolist() in accepted[i // group]
        for i, (row, said) in enumerate(zip(tokens, mask, strict=True))
    ]
    return np.reshape(right, (len(accepted), group)).astype(np.float64)
