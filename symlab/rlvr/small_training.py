"""Train a tiny policy on a verifiable task: supervised start, then reinforcement
learning.

In each step of reinforcement learning, `collected` samples rollouts and computes their
rewards, and `updates` trains on them by the clipped objective. The settings are an
object with the fields

  method                an estimator of symlab.rlvr.advantages, with its default options
  prompts, group        prompts of a step, B, and rollouts of each, G
  epochs, minibatches   passes over the rollouts of a step, and updates of each pass
  clip_low, clip_high   ratios outside [1 - clip_low, 1 + clip_high] are clipped
  heads                 attention heads of the policy

Weights are those of symlab.rlvr.small_policy.
"""

import numpy as np

from symlab.harness import rng
from symlab.rlvr.small_policy import (
    TABLES,
    initial,
    mask_of,
    sample,
    tensors,
    token_logp,
)

CHUNK = 4096  # sequences sampled at once


def task_of(name: str):
    """Return the task 'rule' (`RuleWithExceptions`) or 'countdown' (`Countdown`)."""
    from symlab.rlvr.tasks import Countdown, RuleWithExceptions

    return RuleWithExceptions(work=8) if name == "rule" else Countdown()


# --- supervised start ----------------------------------------------------------------


def demonstrated(
    *,
    task: str,
    layers: int,
    width: int,
    heads: int,
    start_steps: int,
    start_batch: int,
    start_lr: float,
    table_lr: float,
    shown: int,
    noise: float,
    seed: int,
    device: str,
) -> dict[str, np.ndarray]:
    """Return a tiny decoder's weights after supervised training on demonstrations of a
    task.

    task: 'rule' or 'countdown'. layers, width, heads: of the decoder.
    start_steps, start_batch: number of steps, and demonstrations per step.
    start_lr, table_lr: learning rates of the matrices inside blocks and of the tables
        (embeddings and head); they rise over 5 % of the steps and fall linearly to
        zero.
    shown: the number of training prompts that are demonstrated.
    noise: the rate of wrong answers in demonstrations.
    """
    import torch

    name, task, where = task, task_of(task), torch.device(device)
    draws = rng.stream(seed, f"{name} init")
    weights = tensors(initial(task, layers, width, draws), where)
    optimizer = starting(weights, start_lr, table_lr)
    prompts = task.prompts(seed, shown, "train")
    draws = rng.stream(seed, f"{name} demonstrations")
    for step in range(start_steps):
        x = prompts[draws.integers(0, len(prompts), start_batch)]
        y = task.demonstration(x, draws, noise)
        mask = mask_of(task, y, where)
        x, y = (torch.from_numpy(z).to(where) for z in (x, y))
        logp = token_logp(weights, x, y, heads)
        loss = -torch.where(mask, logp, 0).sum() / mask.sum()
        done = step / start_steps
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * min(1.0, 20 * done) * (1 - done)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: w.detach().cpu().numpy() for name, w in weights.items()}


def starting(weights: dict, lr: float, table_lr: float):
    """Return the optimizer of the supervised start: SymOpt with two update rules.

    The matrices inside blocks get polar updates, the tables (embeddings and head)
    AdamW. With it the supervised start takes two thirds (task 'rule') or half (task
    'countdown') of the steps that Adam takes to the same reward.

    weights: {name: tensor}. lr, table_lr: learning rates of matrices and tables.
    """
    from symlab.symopt import SymOpt

    fused = [name for name in weights if name.startswith("qkv")]
    others = [name for name in weights if name not in (*fused, *TABLES)]

    def group(names, **how) -> dict:
        return {"params": [weights[name] for name in names], **how}

    return SymOpt(
        [
            group(others, rule="spectral", lr=lr),
            group(fused, rule="spectral", lr=lr, pieces=3, along="columns"),
            group(TABLES, rule="adamw", lr=table_lr),
        ],
        weight_decay=0.0,
    )


# --- reinforcement -------------------------------------------------------------------


def collected(c, task, weights: dict, prompts, draws, where) -> dict:
    """Return N = B G rollouts of B prompts (B, P), with rewards of the task's verifier.

    c: settings with `group` (G), `heads` and `method`. weights: {name: tensor}.
    draws: a numpy Generator for the samples. where: a torch device.

    The result is a dict with tensors of N rows (prompts, completions, logp, mask,
    advantages), rewards (B, G), their mean `reward` and `entropy`, the mean entropy per
    token in nats.
    """
    import torch

    from symlab.rlvr.advantages import advantages

    b, t = len(prompts), task.completion_length
    uniforms = draws.random((b * c.group, t), np.float32)
    x = torch.from_numpy(prompts).to(where)
    u = torch.from_numpy(uniforms).to(where)
    tokens, logp, entropy = sample(weights, x, u, c.heads, t)
    shown = tokens.cpu().numpy()
    rewards = task.reward(prompts, shown.reshape(b, c.group, t))
    a = advantages(rewards, c.method, omega=rewards.mean()).astype(np.float32)
    mask = mask_of(task, shown, where)
    return {
        "prompts": x.repeat_interleave(c.group, 0),
        "completions": tokens,
        "logp": logp,
        "mask": mask,
        "rewards": rewards,
        "advantages": torch.from_numpy(a).flatten().to(where),
        "reward": float(rewards.mean()),
        "entropy": float(entropy[mask].mean()),
    }


def objective(c, weights: dict, rollouts: dict, pick):
    """Return the clipped loss on some rollouts, and its statistics.

    The statistics are those of `objective.clipped_objective`, such as the fractions of
    tokens clipped.

    c: settings with `method`, `heads`, `clip_low` and `clip_high`. weights: {name:
        tensor}.
    rollouts: the result of `collected`. pick: indices of the rollouts to use.

    DAPO averages over tokens and Dr. GRPO divides by a constant length; every other
    method averages over the tokens of each sequence first.
    """
    from symlab.rlvr.objective import clipped_objective

    how = {"dapo": "token", "dr_grpo": "constant"}.get(c.method, "sequence")
    x, y, old, mask, a = (
        rollouts[name][pick]
        for name in ("prompts", "completions", "logp", "mask", "advantages")
    )
    return clipped_objective(
        token_logp(weights, x, y, c.heads),
        old,
        a,
        mask,
        clip_low=c.clip_low,
        clip_high=c.clip_high,
        normalisation=how,
        max_length=y.shape[1],
    )


def updates(c, weights: dict, adam, rollouts: dict, draws) -> dict:
    """Train on rollouts in minibatches of whole groups; return the mean clip fractions.

    c: settings with `prompts`, `group`, `epochs`, `minibatches` and those of
        `objective`.
    weights: {name: tensor}. adam: their optimizer. rollouts: the result of `collected`.
    draws: the numpy Generator for the order of minibatches.

    The result is {'clipped_low': fraction of tokens, 'clipped_high': fraction of
    tokens}.
    """
    import torch

    logged = []
    size = c.prompts // c.minibatches
    for _ in range(c.epochs):
        order = draws.permutation(c.prompts)
        for i in range(c.minibatches):
            groups = order[i * size : (i + 1) * size, None]
            pick = (groups * c.group + np.arange(c.group)).ravel()
            pick = torch.from_numpy(pick).to(rollouts["mask"].device)
            loss, found = objective(c, weights, rollouts, pick)
            adam.zero_grad()
            loss.backward()
            adam.step()
            names = {"clip_low": "clipped_low", "clip_high": "clipped_high"}
            logged.append(torch.stack([found[name] for name in names]))
    means = torch.stack(logged).double().mean(0).tolist()
    return dict(zip(names.values(), means, strict=True))


def judged(task, weights: dict, prompts, n: int, draws, heads: int):
    """Return the rewards (B, n) of sampled completions, and the mean entropy per token
    (nats).

    weights: {name: tensor}. prompts: (B, P) tokens.
    n: completions per prompt; 0 takes the most probable tokens, one completion per
        prompt.
    draws: a numpy Generator. heads: the number of attention heads.

    The entropy is over the tokens up to and including the stop.
    """
    import torch

    t, where = task.completion_length, weights["token"].device
    rewards, entropies, tokens = [], 0.0, 0
    step = max(1, CHUNK // max(n, 1))
    for i in range(0, len(prompts), step):
        part = prompts[i : i + step]
        x = torch.from_numpy(part)
        u = (
            torch.from_numpy(draws.random((len(part) * n, t), np.float32))
            if n
            else None
        )
        x, u = (z if z is None else z.to(where) for z in (x, u))
        y, _, entropy = sample(weights, x, u, heads, t)
        y = y.cpu().numpy()
        mask = mask_of(task, y, where)
        entropies += float(torch.where(mask, entropy, 0).sum())
        tokens += int(mask.sum())
        rewards.append(task.reward(part, y.reshape(len(part), max(n, 1), t)))
    return np.concatenate(rewards), entropies / tokens
