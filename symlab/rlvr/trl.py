"""The advantage estimators in TRL's GRPOTrainer, without a change to TRL.

    from symlab.rlvr import SmoothedOmega
    from symlab.rlvr.trl import AdvantageTrainer

    trainer = AdvantageTrainer(model, reward_funcs, args=GRPOConfig(...), ...,
                               estimator="agrae",
                               estimator_options={"omega": SmoothedOmega()})

A reward function cannot do this: GRPOTrainer subtracts the mean of each group from
what it returns, and with it the asymmetry of A-GRAE. So the trainer samples, computes
rewards and logs as usual, and the advantages of the generation batch, in training or
evaluation, are then replaced, before they are shuffled and split into minibatches. The
objective is chosen in GRPOConfig as usual (loss_type, epsilon, epsilon_high). Further:

  omega          the mean success of the generation batch over all processes. TRL's
                 defaults put one group into it; below 16 groups a warning is given.
  success        states which rollouts succeed if the weighted sum of rewards is not 0
                 and 1: the least sum of a success, a function of the sums (N,), the
                 name of a reward function that returns 0 and 1, or {its name: its least
                 reward of a success}. A completion that this function does not score,
                 but another does, is not a success.
  left out       of groups and of omega, with the advantage zero: completions that no
                 reward function scores, as in TRL, and those that
                 mask_truncated_completions masks, as in verl.
  scale_rewards  'group' keeps the estimator's own std; 'none' removes it from
                 estimators that have one (base="dr_grpo"), and is refused with those
                 that cannot do without; 'batch' is refused.
  TRL's own      if the estimator is that of GRPOTrainer (grpo or dapo with std="trl",
                 or without a std under 'none'), TRL's advantages are kept bit by bit,
                 masked completions in their groups, except for groups of rewards that
                 are equal up to rounding, which get exactly zero.
  on-policy      if clipping cannot be active, as by TRL's defaults, a warning is given:
                 an estimator then only weights prompts.

The results of `advantage_metrics` are logged beside TRL's own metrics, as advantages/*.

Written against trl 1.16; it works with versions whose GRPOTrainer has the methods
`_calculate_rewards` and `_generate_and_score_completions` with the same meanings.
"""

import json
import os
import warnings
from functools import cache
from inspect import signature
from numbers import Real

import numpy as np

from symlab.rlvr import parts
from symlab.rlvr.advantages import (
    checked_estimator,
    grouped_advantages,
    name_of,
    named,
    options_of,
    pkpo,
)
from symlab.rlvr.compose import OF_BATCH

TRLS_OWN = ("grpo", "dapo", "dr_grpo")
PKPO_K = signature(pkpo).parameters["k"].default
STATE = "omega.json"  # in a checkpoint, of an omega that has a state


class AdvantageHook:
    """A base class that puts an advantage estimator into a subclass of TRL's
    GRPOTrainer.

    List it before the trainer among the base classes.

    estimator: a name in `advantages.ESTIMATORS`, or a result of `compose`.
    estimator_options: its options, with omega (the mean success of a batch) and success
        (which rollouts succeed) as in `advantages`.

    Raises ValueError for unknown ones before a model is loaded. Before the first step
    it raises ValueError if the estimator needs to know which rollouts succeed and there
    are several reward functions or a reward model without the option success. A single
    reward function is refused as soon as it returns other values than 0 and 1.
    """

    def __init__(
        self,
        *args,
        estimator="agrae",
        estimator_options: dict | None = None,
        **kwargs,
    ):
        options = dict(estimator_options or {})
        self._success = options.pop("success", None)
        self._omega = options.pop("omega", None)
        self.estimator, self.estimator_options = estimator, options
        success = self._success
        if isinstance(success, dict) and len(success) == 1:
            (success,) = success.values()
        if isinstance(success, (str, dict)):  # the name of a reward function
            success = None
        checked_estimator(
            estimator, options | {"omega": self._omega, "success": success}
        )
        self._uses = options_of(named(estimator))
        self._last_omega = None
        self._group_rewards = self._answered = None
        super().__init__(*args, **kwargs)
        if getattr(self, "multi_objective_aggregation", None) == "normalize_then_sum":
            raise ValueError(
                "normalize_then_sum leaves no success rates: use sum_then_normalize"
            )
        self._honour_scale_rewards(getattr(self, "scale_rewards", "group"))
        checked_estimator(
            estimator,
            self.estimator_options | {"omega": self._omega},
            getattr(self, "num_generations", 1024),
        )
        self._check_success()
        if getattr(self, "args", None) is not None:
            self._warn_of_setting(self.args)

    # --- before the first step -------------------------------------------------------

    def _honour_scale_rewards(self, scale: str) -> None:
        own = self.estimator_options
        self._keeps_trls = (
            self.estimator in TRLS_OWN[:2] and own == {"std": "trl"}
            if scale == "group"
            else self.estimator in TRLS_OWN and scale == "none" and not own
        )
        if scale == "batch":
            raise ValueError(
                "scale_rewards='batch' is TRL's own: use scale_rewards='group' with "
                "estimator='reinforce_pp_baseline', or compose(normalise=...)"
            )
        if scale != "none":
            return
        if self.estimator in OF_BATCH or getattr(self.estimator, "by_std", False):
            raise ValueError(
                f"{name_of(self.estimator)} divides by a std and scale_rewards='none' "
                "forbids it: use scale_rewards='group', which leaves the estimator its "
                "own, or an estimator that has none"
            )
        if "std" not in self._uses:
            return
        if self.estimator in TRLS_OWN and not own:
            self.estimator = "dr_grpo"
        elif "base" in self._uses and not {"base", "std"} & set(own):
            self.estimator_options = own | {"base": "dr_grpo"}
        elif own.get("base") != "dr_grpo":
            raise ValueError(
                f"{name_of(self.estimator)} divides by a std and scale_rewards='none' "
                "forbids it: use dr_grpo as the estimator or as its base, or "
                "scale_rewards='group'"
            )

    def _check_success(self) -> None:
        """Refuse, before a step is taken, rewards that tell of no success."""
        names = list(getattr(self, "reward_func_names", []))
        of_function = self._success
        if isinstance(of_function, str):
            of_function = {of_function: None}
        if isinstance(of_function, dict):
            (name,) = of_function if len(of_function) == 1 else (None,)
            if name not in names:
                raise ValueError(
                    f"success = {self._success!r} names no reward function: use one of "
                    f"{', '.join(names)}"
                )
            if names.count(name) > 1:
                raise ValueError(
                    f"success = {self._success!r} names {names.count(name)} reward "
                    "functions: give the one that is meant a __name__ of its own"
                )
        if "success" not in self._uses or self._success is not None:
            return
        weights = [float(w) for w in self.reward_weights if float(w)]
        models = [
            n
            for n, f in zip(names, getattr(self, "reward_funcs", []), strict=False)
            if hasattr(f, "parameters")
        ]
        if len(weights) > 1 or weights not in ([], [1.0]) or models:
            what = ", ".join(f"{w:g}" for w in weights)
            what = f"the reward model {models[0]}" if models else f"the weights {what}"
            raise ValueError(
                f"{name_of(self.estimator)} needs to know which completions "
                f"succeed, and rewards by {what} do not tell: give success in "
                "estimator_options, such as a threshold or a reward function's name"
            )

    def _warn_of_setting(self, args) -> None:
        groups = args.generation_batch_size // self.num_generations
        if "omega" in self._uses and self._omega is None and groups < parts.FEW_GROUPS:
            count = "1 group" if groups == 1 else f"{groups} groups"
            warnings.warn(
                f"omega is the mean success of {count}, all that a generation "
                f"batch of {args.generation_batch_size} has: set generation_batch_size "
                f"to {parts.FEW_GROUPS * self.num_generations} or more, or "
                "omega=SmoothedOmega() in estimator_options",
                UserWarning,
                stacklevel=3,
            )
        every = args.steps_per_generation * self.num_iterations
        fresh = args.gradient_accumulation_steps % every == 0
        if fresh and name_of(self.estimator) not in TRLS_OWN:
            warnings.warn(
                "training is on-policy: a generation batch is used for one optimizer "
                "step, so that the clip never binds and an estimator does nothing but "
                "weigh prompts; raise num_iterations, or steps_per_generation above "
                "gradient_accumulation_steps, for the effects of clipping",
                UserWarning,
                stacklevel=3,
            )

    # --- in each generation batch ----------------------------------------------------

    def _calculate_rewards(self, *args, **kwargs):
        """(N, F): the rewards of all processes by F functions, kept as they pass."""
        self._group_rewards = super()._calculate_rewards(*args, **kwargs)
        return self._group_rewards

    def _generate_and_score_completions(self, inputs):
        self._group_rewards = None
        output = super()._generate_and_score_completions(inputs)
        if self._group_rewards is None:
            raise ValueError(
                "this version of trl does not call _calculate_rewards: use trl 1.16"
            )
        theirs = output["advantages"]
        self._answered = self._of_masks(output)
        every = self._estimated(self._group_rewards)
        start = self.accelerator.process_index * len(theirs)
        own = every[start : start + len(theirs)].to(theirs.device, theirs.dtype)
        if self._keeps_trls:
            equal = self._equal_groups(self._group_rewards)
            own = theirs.where(~equal[start : start + len(theirs)], 0.0)
            every = self.accelerator.gather(own)
        output["advantages"] = own
        self._relog(every.tolist())
        return output

    def _of_masks(self, output):
        """(N,) of all processes: completions of which the mask leaves a token."""
        if not getattr(self, "mask_truncated_completions", False) or self._keeps_trls:
            return None
        return self.accelerator.gather(output["completion_mask"].bool().any(-1))

    def _estimated(self, by_function):
        """Advantages (N,) of rewards (N, F), rollouts of one prompt side by side."""
        weights = self.reward_weights.to(by_function)
        rewards = (by_function * weights).nansum(-1)
        size = self._group_size()
        valid = ~by_function.isnan().all(-1)  # scored by one function at least
        if self._answered is not None:
            valid = valid & self._answered.to(valid.device)
        success = self._successes(by_function, rewards, valid)
        options = self.estimator_options | {"success": success}
        if "omega" in self._uses:
            options["omega"] = self._omega_of(success, valid)
        groups = np.arange(len(rewards)) // size
        return self._of_groups(rewards, groups, valid, size, options, self._log_metrics)

    def _group_size(self) -> int:
        if self.model.training:
            return self.num_generations
        return getattr(self, "num_generations_eval", self.num_generations)

    def _of_groups(self, rewards, groups, valid, size: int, options: dict, log=None):
        """Evaluation may have groups of one, which then are groups of equal rewards.

        Its groups may also be too small for the k of pkpo, which then is less there.
        """
        copies = 2 if size == 1 else 1
        if named(self.estimator) is pkpo and size < self.num_generations:
            k = options.get("k", PKPO_K)
            options = options | {"k": min(k, max(1, size - 1))}
        if copies == 2 and options.get("success") is not None:
            options = options | {"success": options["success"].repeat_interleave(2)}
        found = grouped_advantages(
            rewards.repeat_interleave(copies),
            groups.repeat(copies),
            self.estimator,
            valid=valid.cpu().repeat_interleave(copies),
            log=log,
            **options,
        )
        return found[::copies]

    def _successes(self, by_function, rewards, valid):
        """(N,) 0.0 and 1.0, of which those that are not valid say nothing.

        None where success is neither told nor asked for.
        """
        success, values = self._success, rewards
        if success is None and "success" not in self._uses:
            return None
        if isinstance(success, str):
            success = {success: None}
        if isinstance(success, dict):
            ((function, success),) = success.items()
            values = by_function[:, self.reward_func_names.index(function)]
            valid = valid & ~values.isnan()  # what this one passes is no success
        found = rewards.new_zeros(rewards.shape)
        if valid.any():
            name = name_of(self.estimator)
            found[valid] = parts.successes(values[valid], success, name)
        return found

    def _omega_of(self, success, valid) -> float:
        """In evaluation that of the last training batch, so that nothing is entered."""
        seen, training = success[valid], self.model.training
        if not training and self._last_omega is not None:
            return self._last_omega
        if isinstance(self._omega, Real):
            return float(self._omega)
        if not len(seen):
            return 0.0 if self._last_omega is None else self._last_omega
        if self._omega is None or not training:
            omega = float(seen.mean())
        else:
            omega = float(parts.batch_omega(self._omega, seen, len(seen)))
        if training:
            self._last_omega = omega
        return omega

    def _equal_groups(self, by_function):
        """(N,) whether the rewards of a rollout's group are equal up to rounding."""
        weights = self.reward_weights.to(by_function)
        r = (by_function * weights).nansum(-1)
        valid = ~by_function.isnan().all(-1)
        groups = np.arange(len(r)) // self._group_size()
        a = self._of_groups(r, groups, valid, self._group_size(), {})
        every = a.reshape(-1, self._group_size()).abs().sum(-1) == 0
        return every.repeat_interleave(self._group_size())

    # --- logs and checkpoints --------------------------------------------------------

    def _log_metrics(self, found: dict[str, float]) -> None:
        metrics = getattr(self, "_metrics", None)
        if metrics is not None:
            mode = "train" if self.model.training else "eval"
            for name, value in found.items():
                metrics[mode][f"advantages/{name}"].append(value)

    def _relog(self, every: list[float]) -> None:
        """TRL has just logged its own: the table of completions is to show ours."""
        log = getattr(self, "_logs", {}).get("advantages")
        if log is not None:
            for _ in range(min(len(every), len(log))):
                log.pop()
            log.extend(every)

    def _save_checkpoint(self, model, trial):
        super()._save_checkpoint(model, trial)
        if self.args.should_save and self._last_omega is not None:
            folder = f"checkpoint-{self.state.global_step}"
            place = os.path.join(self._get_output_dir(trial=trial), folder, STATE)
            state = {"last": self._last_omega}
            if hasattr(self._omega, "state_dict"):
                state["omega"] = self._omega.state_dict()
            with open(place, "w") as file:
                json.dump(state, file)

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        place = checkpoint and os.path.join(checkpoint, STATE)
        if not place or not os.path.exists(place):
            return
        with open(place) as file:
            state = json.load(file)
        self._last_omega = state["last"]
        if "omega" in state and hasattr(self._omega, "load_state_dict"):
            self._omega.load_state_dict(state["omega"])


@cache
def _trainer() -> type:
    from symlab.models.vision import torchvision

    torchvision()  # transformers imports it, and a wheel built for CUDA needs the cure
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
