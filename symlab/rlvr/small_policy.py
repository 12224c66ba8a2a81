"""A tiny decoder as a policy: its weights, logits, samples and log-probabilities.

It is a pre-norm transformer with learned positions and layer normalisation without
weights, so small that a step of reinforcement learning takes a moment on one core.
Weights are a dictionary of float32 tensors: `token` (V, D), `place` (T, D), `head`
(D, V), and for each block i `qkv{i}` (D, 3 D), `out{i}` (D, D), `up{i}` (D, 4 D) and
`down{i}` (4 D, D). A task is one of symlab.rlvr.tasks.
"""

import numpy as np

TABLES = ("token", "place", "head")


def initial(task, layers: int, width: int, draws) -> dict[str, np.ndarray]:
    """Return initial weights {name: array} of a tiny decoder for a task.

    task: gives the vocabulary and the lengths. layers, width: of the decoder.
    draws: a numpy Generator.
    """
    d, length = width, task.prompt_length + task.completion_length - 1
    shapes = {"token": (len(task.vocabulary), d), "place": (length, d)}
    for i in range(layers):
        shapes |= {f"qkv{i}": (d, 3 * d), f"out{i}": (d, d)}
        shapes |= {f"up{i}": (d, 4 * d), f"down{i}": (4 * d, d)}
    shapes["head"] = (d, len(task.vocabulary))
    # into the stream: 0.3; back to it: half of what keeps variance; small logits
    size = {"token": 0.3, "place": 0.3, "head": 0.1 * d**-0.5}
    size |= {f"qkv{i}": d**-0.5 for i in range(layers)}
    size |= {f"out{i}": 0.5 * d**-0.5 for i in range(layers)}
    size |= {f"up{i}": d**-0.5 for i in range(layers)}
    size |= {f"down{i}": 0.25 * d**-0.5 for i in range(layers)}
    return {
        name: (size[name] * draws.normal(size=shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def logits(weights: dict, tokens, heads: int, *, keep: int = 0, cache=None):
    """Return the decoder's logits (N, T - keep, V) after each token but the first
    `keep`, for N sequences and V tokens in the vocabulary.

    weights: {name: tensor}. tokens: (N, T). heads: the number of attention heads.
    cache: a list, empty at first, of the keys and values (N, heads, earlier tokens, W)
        of every layer, W the width of a head; the given tokens then follow the earlier
        ones, and are added to it.
    """
    import torch
    from torch.nn import functional as F

    past = cache[0][0].shape[2] if cache else 0
    d, t = weights["token"].shape[1], tokens.shape[1]
    layers = sum(name.startswith("qkv") for name in weights)
    x = F.embedding(tokens, weights["token"]) + weights["place"][past : past + t]
    for i in range(layers):
        parts = F.layer_norm(x, (d,)) @ weights[f"qkv{i}"]
        q, k, v = parts.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        if cache is not None:
            if past:
                k, v = (torch.cat(z, 2) for z in zip(cache[i], (k, v), strict=True))
            cache[i : i + 1] = [(k, v)]
        # causal: whole sequences, or one token after all that it sees
        y = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
        if i == layers - 1:  # no later token sees what is left out
            x, y = x[:, keep:], y[:, :, keep:]
        x = x + y.transpose(1, 2).flatten(2) @ weights[f"out{i}"]
        hidden = F.layer_norm(x, (d,)) @ weights[f"up{i}"]
        x = x + F.relu(hidden) @ weights[f"down{i}"]
    return F.layer_norm(x, (d,)) @ weights["head"]


def sample(weights: dict, prompts, uniforms, heads: int, length: int):
    """Return sampled tokens, their log-probabilities and the entropies of their
    softmax.

    weights: {name: tensor}. prompts: (B, P), a tensor of B prompts of P tokens; each
        gets N / B completions.
    uniforms: (N, length), in [0, 1); each picks a token by the inverse distribution
        function. None takes the most probable tokens, one completion per prompt.
    heads: the number of attention heads. length: tokens of a completion.

    The three results are (N, length); entropies are in nats.
    """
    import torch

    group = 1 if uniforms is None else len(uniforms) // len(prompts)
    cache, found = [], []
    with torch.no_grad():
        keep = prompts.shape[1] - 1
        last = logits(weights, prompts, heads, keep=keep, cache=cache)[:, 0]
        last = last.repeat_interleave(group, 0)
        cache = [tuple(z.repeat_interleave(group, 0) for z in kv) for kv in cache]
        for t in range(length):
            logp = last.log_softmax(-1)
            p = logp.exp()
            if uniforms is None:
                token = last.argmax(-1)
            else:
                below = p.cumsum(-1)
                reached = below <= uniforms[:, t, None] * below[:, -1:]
                token = reached.sum(-1).clamp(max=p.shape[-1] - 1)
            own = logp.gather(-1, token[:, None])[:, 0]
            found.append((token, own, -(p * logp).sum(-1)))
            if t < length - 1:
                last = logits(weights, token[:, None], heads, cache=cache)[:, 0]
    return tuple(torch.stack(z, 1) for z in zip(*found, strict=True))


def token_logp(weights: dict, prompts, completions, heads: int):
    """Return the log-probabilities (N, T) of the T tokens of each of N completions.

    weights: {name: tensor}, of the decoder. prompts: (N, P). completions: (N, T), which
    follow the prompts. heads: the number of attention heads.
    """
    import torch

    tokens = torch.cat([prompts, completions[:, :-1]], 1)
    z = logits(weights, tokens, heads, keep=prompts.shape[1] - 1)
    return z.log_softmax(-1).gather(-1, completions[..., None])[..., 0]


def tensors(arrays: dict, device) -> dict:
    """Return trainable torch copies of arrays, {name: tensor}.

    arrays: {name: array}, which are not changed. device: a torch device.
    """
    import torch

    return {
        k: torch.tensor(v, device=device).requires_grad_() for k, v in arrays.items()
    }


def mask_of(task, completions: np.ndarray, device):
    """Return booleans (N, T): whether each token of N completions (N, T) counts.

    Tokens up to and including the task's stop token count, or all if it has none.

    task: a task of `symlab.rlvr.tasks`. device: the torch device of the result.
    """
    import torch

    lengths = np.asarray(task.lengths(completions))
    on = np.arange(completions.shape[-1]) < lengths[..., None]
    return torch.from_numpy(on).to(device)
