"""The advantage estimators as functions with the signatures of other libraries.

  prime_rl   prime-rl's custom advantage: AdvantageInputs to AdvantageOutputs
  nemo_rl    NeMo-RL's estimator classes: compute_advantage(prompt_ids, rewards, mask)
  openrlhf   OpenRLHF's reward shaping: a list of tensors to a list of tensors

None of these libraries is imported; the tests use their documented arguments, not a
training run. For TRL and verl see `symlab.rlvr.trl` and `symlab.rlvr.verl`. In each
function, `name` is one of `advantages.ESTIMATORS` or a result of `compose`, and
`options` are the estimator's options, with omega, success and log as in
`grouped_advantages`; unknown ones raise ValueError at once.
"""

from importlib import import_module

import numpy as np

from symlab.rlvr.advantages import (
    checked_estimator,
    grouped_advantages,
    name_of,
    named,
    options_of,
)


def prime_rl(name="agrae", *, log=None, **options):
    """Return a custom advantage function for prime-rl.

        agrae = prime_rl("agrae", omega=SmoothedOmega())      # in my_module

        [orchestrator.advantage]
        type = "custom"
        import_path = "my_module.agrae"

    name: an estimator in `advantages.ESTIMATORS`, or a result of `compose`.
    log: a function that is called with the `advantage_metrics` of each call.
    options: options of the estimator, with omega and success as in
        `grouped_advantages`.

    The function maps prime-rl's AdvantageInputs to AdvantageOutputs. Its inputs have
    `rollouts`, dictionaries with "reward", of one group, and advantages are then a list
    of floats; or, in older versions, `rewards` (P, G), and advantages are a tensor (P,
    G). If only one rollout of a group is left and the group is the baseline, its
    advantage is zero. `kwargs` of the configuration are options, too, and override
    those given here. One call receives one group, so an estimator that depends on omega
    needs it as an option, a number or a `SmoothedOmega`, and one that depends on the
    statistics of the batch is
    refused: both raise ValueError, as do unknown options.
    """
    checked_estimator(name, options)
    uses = options_of(named(name))
    if "omega" in uses and options.get("omega") is None:
        raise ValueError(
            f"{name_of(name)} depends on omega, and prime-rl hands over one group a "
            "call: give omega=SmoothedOmega(), or a number"
        )
    if "batch" in uses:
        raise ValueError(
            f"{name_of(name)} depends on the whole batch, and prime-rl hands over one "
            "group a call: use an estimator that is relative to the group"
        )

    def estimate(inputs, **configured):
        own = options | configured
        checked_estimator(name, own)
        outputs = import_module(type(inputs).__module__).AdvantageOutputs
        if hasattr(inputs, "rewards"):
            r = inputs.rewards
            labels = np.arange(r.shape[0]).repeat(r.shape[1])
            a = grouped_advantages(r.reshape(-1), labels, name, log=log, **own)
            return outputs(advantages=a.reshape(r.shape))
        r = [float(rollout["reward"]) for rollout in inputs.rollouts]
        if not r:
            return outputs(advantages=[])
        # one rollout alone is given a second, which is left out
        valid = [True] * len(r) + [False] * (len(r) == 1)
        r = r + [0.0] * (len(r) == 1)
        a = grouped_advantages(r, [0] * len(r), name, valid=valid, log=log, **own)
        return outputs(advantages=[float(x) for x in a[: len(inputs.rollouts)]])

    estimate.__name__ = estimate.__qualname__ = name_of(name)
    return estimate


def nemo_rl(name="agrae", *, log=None, **options) -> type:
    """Return a class with the methods of NeMo-RL's advantage estimators.

    name: an estimator in `advantages.ESTIMATORS`, or a result of `compose`.
    log: a function that is called with the `advantage_metrics` of each batch.
    options: options of the estimator, with omega and success as in
        `grouped_advantages`.

    The class's method compute_advantage takes prompt_ids, (N,) labels or (N, S) the
    prompts' tokens, rewards (N,) and mask (N, T). It returns advantages (N, T), equal
    at all positions of a rollout, as NeMo-RL's own classes do. Rollouts without any
    token in the mask are excluded from their groups and from omega, and get the
    advantage zero. The two configurations that NeMo-RL passes to the class have no
    effect.
    """
    checked_estimator(name, options)

    class Estimator:
        def __init__(self, estimator_config=None, loss_config=None):
            pass

        def compute_advantage(self, prompt_ids, rewards, mask, **_):
            labels = prompt_ids.tolist()
            if prompt_ids.ndim > 1:
                labels = [tuple(row) for row in labels]
            answered = mask.bool().any(-1).cpu()
            a = grouped_advantages(
                rewards.detach(), labels, name, valid=answered, log=log, **options
            )
            return a[:, None].expand(mask.shape)

    Estimator.__name__ = Estimator.__qualname__ = name_of(name)
    return Estimator


def openrlhf(name="agrae", *, samples: int, log=None, **options):
    """Return a function that turns rewards into advantages, for OpenRLHF's reward
    shaping.

    name: an estimator in `advantages.ESTIMATORS`, or a result of `compose`.
    samples: the number of rollouts of a prompt (n_samples_per_prompt).
    log: a function that is called with the `advantage_metrics` of each batch.
    options: options of the estimator, with omega and success as in
        `grouped_advantages`.

    The function takes the rewards of a batch as OpenRLHF's experience maker holds them:
    a list of tensors, one per experience, in whose concatenation the rollouts of a
    prompt are consecutive. It returns advantages in tensors of the same lengths. Use it
    where OpenRLHF shapes rewards for `--advantage_estimator rloo`, which, unlike
    `reinforce_baseline`, adds no normalisation afterwards. It raises ValueError for a
    batch that does not consist of groups of `samples`.
    """
    checked_estimator(name, options, samples)

    def shaped(rewards: list):
        import torch

        lengths = [len(x) for x in rewards]
        flat = torch.cat([x.detach().reshape(-1) for x in rewards])
        if len(flat) % samples or not len(flat):
            raise ValueError(
                f"{len(flat)} rewards are no groups of {samples}: give whole groups"
            )
        labels = np.arange(len(flat)) // samples
        a = grouped_advantages(flat, labels, name, log=log, **options)
        return list(a.split(lengths))

    shaped.__name__ = shaped.__qualname__ = name_of(name)
    return shaped
