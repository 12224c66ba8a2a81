"""AdvantageTrainer beside GRPOTrainer: bit for bit where the estimator is TRL's own.

And what it says and refuses: success, omega of few groups, on-policy settings, masked
completions, scale_rewards, evaluation, checkpoints. Every loss of TRL under one setting
each runs here; all settings, and two processes, in `make test-long`.
"""

import math
import os
import subprocess
import sys
import warnings

import pandas as pd
import pytest
import torch

from symlab.models import vision
from symlab.rlvr import SmoothedOmega, compose
from symlab.rlvr import advantages as estimate
from tests import trl_parts as parts
from tests.conftest import HOME
from tests.test_rlvr import close

pytest.importorskip("trl")
QUIET = pytest.mark.filterwarnings("ignore")
OURS = {"estimator": "grpo", "estimator_options": {"std": "trl"}}
LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")


def lora():
    from peft import LoraConfig

    return LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)


SETTINGS = {
    "plain": {},
    "accumulated": {"gradient_accumulation_steps": 2},
    "reused": {"num_iterations": 2},
    "stale": {"steps_per_generation": 2, "gradient_accumulation_steps": 1},
    "masked": {"mask_truncated_completions": True, "max_completion_length": 9},
    "two rewards": {
        "rewards": [parts.accuracy, parts.graded],
        "reward_weights": [0.9, 0.3],
    },
    "unscored": {"rewards": parts.graded},
    "lora": {"peft": lora},
    "unscaled": {"scale_rewards": "none"},
}


def pair(folder, setting: dict, **own):
    """Two trainers that differ in the class alone, after their steps."""
    vision.torchvision()  # transformers imports it
    from trl import GRPOTrainer

    from symlab.rlvr.trl import AdvantageTrainer

    own = {"max_steps": 2, "per_device_train_batch_size": 8} | setting | own
    if "peft" in own:
        own["peft"] = own["peft"]()
    ours = OURS if own.get("scale_rewards") != "none" else {"estimator": "grpo"}
    theirs = parts.trained(GRPOTrainer, folder / "trl", **own)
    return theirs, parts.trained(AdvantageTrainer, folder / "ours", **own, **ours)


def same(theirs, ours) -> None:
    assert torch.equal(parts.weights(theirs), parts.weights(ours))
    start = torch.cat([p.detach().flatten() for p in parts.model().parameters()])
    if parts.weights(ours).shape == start.shape:
        assert (parts.weights(ours) - start).abs().max() > 1e-3  # it did train
    for a, b in zip(theirs.state.log_history, ours.state.log_history, strict=True):
        for name in set(a) - {"step_time", "train_runtime"}:
            if "per_second" not in name and "time" not in name:
                assert a[name] == b[name] or math.isnan(a[name]), name


@QUIET
@pytest.mark.parametrize(
    ("loss", "setting"), list(zip(LOSSES, [*SETTINGS][1:], strict=True))
)
def test_with_trls_grpo_every_loss_trains_to_the_same_bits(loss, setting, tmp_path):
    same(*pair(tmp_path, SETTINGS[setting], loss_type=loss))


@pytest.mark.long
@QUIET
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_under_every_setting_trains_to_the_same_bits(
    loss, setting, tmp_path
):
    same(*pair(tmp_path, SETTINGS[setting], loss_type=loss))


@pytest.mark.long
@QUIET
@pytest.mark.parametrize("loss", ["dr_grpo", "dapo"])
def test_resumed_training_is_trls_and_goes_on_with_its_omega(loss, tmp_path):
    """TRL's own training, resumed, samples other completions than uninterrupted."""
    vision.torchvision()
    from trl import GRPOTrainer

    from symlab.rlvr.trl import AdvantageTrainer

    own = {"loss_type": loss, "save_strategy": "steps", "save_steps": 2}

    def resumed(kind, folder, first, second):
        own_folder = tmp_path / folder
        parts.trained(kind, own_folder, max_steps=2, **own, **first)
        resume = str(own_folder / "checkpoint-2")
        return parts.trained(
            kind, own_folder, max_steps=4, resume=resume, **own, **second
        )

    theirs = resumed(GRPOTrainer, "trl", {}, {})
    ours = resumed(AdvantageTrainer, "ours", OURS, OURS)
    assert torch.equal(parts.weights(theirs), parts.weights(ours))
    whole, begun, after = (SmoothedOmega(0.5) for _ in range(3))
    agrae = [{"estimator_options": {"omega": x}} for x in (whole, begun, after)]
    parts.trained(AdvantageTrainer, tmp_path / "whole", max_steps=4, **own, **agrae[0])
    resumed(AdvantageTrainer, "agrae", *agrae[1:])
    assert begun.rollouts == 16 * (1 + 0.5)
    assert after.rollouts == whole.rollouts == 16 * (1 + 0.5 + 0.25 + 0.125)


@pytest.mark.long
def test_two_processes_train_as_trl_does_and_agree(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    env = os.environ | {"PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "-m", "tests.trl_parts", str(tmp_path)],
        check=True,
        cwd=HOME,
        env=env,
        capture_output=True,
        timeout=600,
    )
    found = {p.stem: torch.load(p) for p in tmp_path.glob("*.pt")}
    for name in ("trl", "ours", "agrae"):
        first, second = (found[f"{name}-{i}"]["weights"] for i in (0, 1))
        assert torch.equal(first, second)
    assert torch.equal(found["trl-0"]["weights"], found["ours-0"]["weights"])
    assert not torch.equal(found["trl-0"]["weights"], found["agrae-0"]["weights"])
    logged = [found[f"agrae-{i}"]["log"][0]["advantages/groups"] for i in (0, 1)]
    assert logged == [4, 4]  # of both processes


# --- success -------------------------------------------------------------------------


def watched(tmp_path, rewards, options, estimator="agrae", **own):
    """A trainer after its steps, with the rewards and advantages of each batch."""
    from symlab.rlvr.trl import AdvantageTrainer

    class Watched(AdvantageTrainer):
        batches = []

        def _generate_and_score_completions(self, inputs):
            output = super()._generate_and_score_completions(inputs)
            kept = self._group_rewards.clone(), output["advantages"].clone()
            self.batches.append((self.model.training, *kept, output["completion_mask"]))
            return output

    Watched.batches = []
    extra = {"estimator": estimator, "estimator_options": options}
    return parts.trained(Watched, tmp_path, rewards=rewards, **extra, **own)


@QUIET
@pytest.mark.parametrize(
    "success", [0.9, "accuracy", {"accuracy": 0.5}, lambda r: r >= 0.9]
)
def test_accuracy_plus_format_works_once_success_is_told(success, tmp_path):
    def length(completion_ids, **_):
        return [len(ids) / 6 for ids in completion_ids]

    own = {"reward_weights": [0.9, 0.09]}
    trainer = watched(tmp_path, [parts.accuracy, length], {"success": success}, **own)
    (_, by_function, a, _), *_ = trainer.batches
    right = by_function[:, 0].reshape(-1, 4)
    total = (by_function @ trainer.reward_weights).reshape(-1, 4)
    assert 0 < right.mean() < 1
    expected = estimate(total, "agrae", success=right > 0)
    close(a, expected.flatten(), 1e-5)
    log = trainer.state.log_history[0]
    assert log["advantages/omega"] == pytest.approx(float(right.mean()))
    assert log["advantages/all_wrong"] == float((right.sum(1) == 0).float().mean())


@QUIET
def test_what_tells_of_no_success_is_refused_before_a_step(tmp_path):
    from symlab.rlvr.trl import AdvantageTrainer

    both = [parts.accuracy, parts.graded]
    for rewards, own, options, message in (
        (both, {}, {}, "rewards by the weights 1, 1 do not tell"),
        (parts.accuracy, {"reward_weights": [0.5]}, {}, "the weights 0.5 do not tell"),
        (both, {}, {"success": "acuracy"}, "names no reward function: use one of acc"),
        (parts.accuracy, {}, {"beta": 1.0}, "no option 'beta'"),
    ):
        with pytest.raises(ValueError, match=message):
            parts.trained(
                AdvantageTrainer,
                tmp_path,
                rewards=rewards,
                estimator="agrae",
                estimator_options=options,
                **own,
            )
    with pytest.raises(ValueError, match="use whole numbers from 1 to G - 1 = 3"):
        watched(tmp_path, parts.accuracy, {"k": 4}, "pkpo")
    with pytest.raises(ValueError, match="agrae needs rewards 0 and 1"):
        watched(tmp_path, parts.graded, {})


# --- settings ------------------------------------------------------------------------


def messages(tmp_path, options=None, estimator="agrae", **own):
    """Warnings of ours when a trainer is made, before it takes a step."""
    from symlab.rlvr.trl import AdvantageTrainer

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        AdvantageTrainer(
            model=parts.model(),
            reward_funcs=parts.accuracy,
            args=parts.settings(tmp_path, **own),
            train_dataset=parts.prompts(),
            processing_class=parts.tokenizer(),
            estimator=estimator,
            estimator_options=options,
        )
    ours = ("omega is", "training is on-policy")
    return [str(w.message) for w in caught if str(w.message).startswith(ours)]


def test_trls_defaults_are_warned_of(tmp_path):
    """One group in a generation batch, each used for one optimizer step."""
    own = {"per_device_train_batch_size": 8, "num_generations": 8}
    few, fresh = messages(tmp_path, **own)
    assert "mean success of 1 group, all" in few
    assert "set generation_batch_size to 128 or more" in few
    assert "the clip never binds" in fresh
    for options, estimator in (
        ({"omega": SmoothedOmega()}, "agrae"),
        ({"omega": 0.5}, "agrae"),
        ({}, "positive_dominant"),
    ):
        (only,) = messages(tmp_path, options, estimator, **own)
        assert "on-policy" in only
    assert messages(tmp_path, {}, "grpo", **own) == []
    stale = {"num_iterations": 2, "per_device_train_batch_size": 64}
    assert messages(tmp_path, **stale) == []
    stale = {"steps_per_generation": 8, "gradient_accumulation_steps": 4}
    assert messages(tmp_path, **stale) == []


@QUIET
def test_scale_rewards_is_honoured_or_refused(tmp_path):
    trainer = watched(tmp_path, parts.accuracy, {}, scale_rewards="none")
    (_, by_function, a, _), *_ = trainer.batches
    r = by_function.reshape(-1, 4)
    close(a, estimate(r, "agrae", base="dr_grpo").flatten(), 1e-6)
    for options, own, message in (
        ({"std": "trl"}, {"scale_rewards": "none"}, "scale_rewards='none' forbids it"),
        ({"base": "grpo"}, {"scale_rewards": False}, "use dr_grpo as the estimator"),
        ({}, {"scale_rewards": "batch"}, "scale_rewards='batch' is TRL's own"),
    ):
        with pytest.raises(ValueError, match=message):
            watched(tmp_path, parts.accuracy, options, **own)


@QUIET
def test_masked_completions_are_left_out_of_groups_and_of_omega(tmp_path):
    own = {"mask_truncated_completions": True, "max_completion_length": 9}
    trainer = watched(tmp_path, parts.accuracy, {}, **own)
    (_, by_function, a, mask), *_ = trainer.batches
    answered, r = mask.any(1), by_function[:, 0]
    assert 0 < answered.sum() < len(answered)
    omega = float(r[answered].mean())
    for rows in range(0, 16, 4):
        kept = answered[rows : rows + 4]
        group = r[rows : rows + 4][kept][None]
        if group.shape[1] > 1:
            close(a[rows : rows + 4][kept], estimate(group, "agrae", omega=omega)[0])
        assert not a[rows : rows + 4][~kept].any()
    assert trainer.state.log_history[0]["advantages/omega"] == pytest.approx(omega)


@QUIET
@pytest.mark.parametrize("generations", [1, 4])
def test_tables_and_evaluation_have_the_estimators_advantages(generations, tmp_path):
    smooth = SmoothedOmega(0.5)
    trainer = watched(
        tmp_path,
        parts.accuracy,
        {"omega": smooth},
        max_steps=2,
        log_completions=True,
        num_generations_eval=generations,
        per_device_eval_batch_size=8,
        logging_steps=1,
    )
    trained = [b for b in trainer.batches if b[0]]
    table = pd.read_parquet(tmp_path / "completions" / "completions_00002.parquet")
    close(table["advantage"], trained[-1][2], 1e-6)
    before = smooth.value
    found = trainer.evaluate(parts.prompts())
    assert smooth.value == before  # evaluation enters nothing
    training, by_function, a, _ = trainer.batches[-1]
    assert not training
    r = by_function.reshape(-1, generations)
    if generations == 1:
        assert not a.any()
    else:
        close(a, estimate(r, "agrae", omega=before).flatten(), 1e-6)
    assert found["eval_advantages/omega"] == pytest.approx(before)


@QUIET
def test_equal_sums_of_rewards_train_nothing(tmp_path):
    """Four functions whose sums are equal but for rounding, under TRL's own grpo."""

    def function(column):
        def reward(completion_ids, **_):
            rows = [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 0], [0, 1, 1, 1]]
            return [float(rows[i % 4][column]) for i in range(len(completion_ids))]

        reward.__name__ = f"reward_{column}"
        return reward

    own = {"reward_weights": [0.1, 0.1, 0.5, 0.1], "weight_decay": 0.0}
    rewards = [function(i) for i in range(4)]
    for estimator, options in (("grpo", {"std": "trl"}), ("grpo", {}), ("rloo", {})):
        trainer = watched(tmp_path, rewards, options, estimator, **own)
        (_, by_function, a, _), *_ = trainer.batches
        sums = (by_function * trainer.reward_weights).nansum(-1)
        assert len(set(sums.tolist())) > 1
        assert not a.any()


@QUIET
def test_a_users_mix_of_four_lines_trains(tmp_path):
    from symlab.rlvr.trl import AdvantageTrainer

    mix = compose(normalise="rloo", difficulty=lambda p: 1 / (p + 0.1), sign=0.5)
    trainer = parts.trained(AdvantageTrainer, tmp_path, estimator=mix)
    start = torch.cat([p.detach().flatten() for p in parts.model().parameters()])
    assert not torch.equal(parts.weights(trainer), start)
    log = trainer.state.log_history[0]
    assert log["advantages/weight_hard"] > 0
    assert log["advantages/sum"] < 0  # its positives are halved


def test_the_adapter_imports_by_itself():
    """In a process of its own: torchvision's operators are cured first."""
    code = "from symlab.rlvr.trl import AdvantageTrainer; print(AdvantageTrainer)"
    env = os.environ | {"PYTHONPATH": str(HOME)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "AdvantageTrainer" in done.stdout
