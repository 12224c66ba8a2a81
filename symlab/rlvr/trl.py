"""The advantage estimators in TRL's GRPOTrainer, without touching TRL.

    from symlab.rlvr.trl import AdvantageTrainer

    trainer = AdvantageTrainer(model, reward_funcs, args=GRPOConfig(...), ...,
                               estimator="agrae", estimator_options={"alpha": 1.0})

A reward function cannot do this: GRPOTrainer subtracts the mean of each group from
what it returns, and with it the asymmetry of A-GRAE. So the trainer is left to sample,
reward and log, and the advantages of the generation batch are then replaced, before
they are shuffled and split into minibatches. omega is the mean reward of that batch
over all processes: generation_batch_size is the batch of the paper. Completions that no
reward function scores (None) are left out of it and of their groups, as in TRL, and
have the advantage zero. The objective is chosen in GRPOConfig as ever (loss_type,
epsilon, epsilon_high); scale_rewards has no effect.

Written against trl 1.16, and works with versions whose GRPOTrainer has the methods
`_calculate_rewards` and `_generate_and_score_completions` of these meanings.
"""

from functools import cache

import numpy as np

from symlab.rlvr.advantages import advantages, grouped_advantages


class AdvantageHook:
    """What comes before GRPOTrainer among the bases of a trainer of one's own.

    estimator: a name in `advantages.ESTIMATORS`; estimator_options: its options. Raises
    ValueError for unknown ones before a model is loaded, and for rewards the estimator
    cannot use when they come.
    """

    def __init__(
        self,
        *args,
        estimator: str = "agrae",
        estimator_options: dict | None = None,
        **kwargs,
    ):
        self.estimator = estimator
        self.estimator_options = dict(estimator_options or {})
        advantages([[0.0, 1.0]], estimator, **self.estimator_options)
        self._group_rewards = None
        super().__init__(*args, **kwargs)
        if getattr(self, "multi_objective_aggregation", None) == "normalize_then_sum":
            raise ValueError(
                "normalize_then_sum leaves no success rates: use sum_then_normalize"
            )

    def _calculate_rewards(self, *args, **kwargs):
        """(N, F): the rewards of all processes by F functions, kept as they pass."""
        self._group_rewards = super()._calculate_rewards(*args, **kwargs)
        return self._group_rewards

    def _generate_and_score_completions(self, inputs):
        self._group_rewards = None
        output = super()._generate_and_score_completions(inputs)
        if not self.model.training:  # groups of evaluation may have one member
            return output
        if self._group_rewards is None:
            raise ValueError(
                "this version of trl does not call _calculate_rewards: use trl 1.16"
            )
        every = self._estimated(self._group_rewards)
        theirs = output["advantages"]
        start = self.accelerator.process_index * len(theirs)
        own = every[start : start + len(theirs)]
        output["advantages"] = own.to(theirs.device, theirs.dtype)
        self._relog(every.tolist())
        return output

    def _estimated(self, by_function):
        """Advantages (N,) of rewards (N, F), rollouts of one prompt side by side."""
        weights = self.reward_weights.to(by_function)
        rewards = (by_function * weights).nansum(-1)
        prompts = np.arange(len(rewards)) // self.num_generations
        scored = ~by_function.isnan().all(-1)  # by one function at least
        return grouped_advantages(
            rewards,
            prompts,
            self.estimator,
            valid=scored.cpu(),
            **self.estimator_options,
        )

    def _relog(self, every: list[float]) -> None:
        """TRL has just logged its own: the table of completions is to show ours."""
        log = getattr(self, "_logs", {}).get("advantages")
        if log is not None:
            for _ in range(min(len(every), len(log))):
                log.pop()
            log.extend(every)


@cache
def _trainer() -> type:
    try:
        from trl import GRPOTrainer
    except ImportError as error:
        raise ImportError(
            f"AdvantageTrainer needs trl ({error}): pip install 'symlab[trl]'"
        ) from error
    return type(
        "AdvantageTrainer",
        (AdvantageHook, GRPOTrainer),
        {"__doc__": AdvantageHook.__doc__, "__module__": __name__},
    )


def __getattr__(name: str):
    if name == "AdvantageTrainer":
        return _trainer()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
