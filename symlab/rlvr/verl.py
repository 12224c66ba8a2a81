"""The advantage estimators in verl, by its registry of estimators.

    # my_estimators.py, beside what starts the training
    from symlab.rlvr.verl import estimator
    from verl.trainer.ppo.core_algos import register_adv_est

    register_adv_est("agrae")(estimator("agrae", alpha=1.0))

    VERL_USE_EXTERNAL_MODULES=my_estimators python -m verl.trainer.main_ppo \
        algorithm.adv_estimator=agrae ...

verl imports the modules of that variable in every process. omega is the mean success of
the rollouts that its trainer passes in one call: of the whole batch, as in the paper,
in `sync` and `colocate_async`, of a minibatch in `separate_async`, and of the remaining
groups with `algorithm.filter_groups`; below 16 groups a warning is given. Rows without
response tokens, with which verl pads batches, are left out; groups of which some
rollouts failed are smaller. Each rollout must be one row, because estimators are not
told which rows are turns of one rollout.

The objective is chosen in verl as usual (loss_agg_mode, clip_ratio_low and _high), and
norm_adv_by_std_in_grpo has no effect. If rewards are not 0 and 1, as with
algorithm.use_kl_in_reward, `success` states which rollouts succeed. verl does not save
the state of an estimator: in a resumed training `SmoothedOmega` starts anew, unless the
module that registers it saves and restores its state.

Written against verl 0.9.1.
"""

from symlab.rlvr.advantages import checked_estimator, grouped_advantages, name_of


def estimator(name="agrae", *, log=None, **options):
    """Return a function that verl can register as an advantage estimator.

    name: a name in `advantages.ESTIMATORS`, or a result of `compose`.
    log: a function that is called with the `advantage_metrics` of each batch, a
        dictionary.
    options: options of the estimator, such as std="verl", with omega and success as in
        `grouped_advantages`.

    Raises ValueError for unknown ones at once. The function takes token_level_rewards
    and response_mask (N, T) and index, N labels of prompts (verl's uid), and gives
    advantages and returns, (N, T) each, which are equal. The reward of a rollout is the
    sum over its tokens, and all its tokens have its advantage. The function raises
    ValueError for rewards that the estimator cannot use.
    """
    checked_estimator(name, options)

    def estimate(token_level_rewards, response_mask, index, **_):
        rewards = token_level_rewards.detach().sum(-1)
        answered = response_mask.bool().any(-1).cpu()
        of_rollouts = grouped_advantages(
            rewards, index, name, valid=answered, log=log, **options
        )
        of_tokens = of_rollouts[:, None] * response_mask
        return of_tokens, of_tokens

    estimate.__name__ = estimate.__qualname__ = name_of(name)
    return estimate
