"""The estimators in TRL's trainer and in what verl calls; TRL and verl themselves."""

import sys

import numpy as np
import pytest
import torch

from symlab import rlvr
from symlab.models import vision
from symlab.rlvr import advantages as estimate
from symlab.rlvr import clipped_objective
from symlab.rlvr.advantages import ESTIMATORS
from tests import trl_parts as trl_parts_of
from tests.test_rlvr import SMALL, binary, close

# --- TRL -----------------------------------------------------------------------------


class Sampler:
    """What AdvantageHook needs of a GRPOTrainer of two processes; advantages of 9."""

    num_generations = 4
    multi_objective_aggregation = "sum_then_normalize"

    def __init__(self, rewards, weights, process):
        self.model = torch.nn.Linear(1, 1)
        self.rewards, self.reward_weights = rewards, weights
        self.accelerator = type("Accelerator", (), {"process_index": process})
        self._logs = {"advantages": []}

    def _calculate_rewards(self, *_):
        return self.rewards

    def _generate_and_score_completions(self, inputs):
        every = self._calculate_rewards(inputs)[:, 0]
        self._logs["advantages"].extend([9.0] * len(every))
        return {"advantages": torch.full((len(every) // 2,), 9.0), "ids": inputs}


@SMALL
def test_the_hook_replaces_the_advantages_of_this_process_and_the_log():
    from symlab.rlvr.trl import AdvantageHook

    class Trainer(AdvantageHook, Sampler):
        pass

    r = binary(4, 4, seed=5)
    by_function = torch.tensor(r).float().reshape(-1, 1).repeat(1, 2)
    by_function[::3, 1] = torch.nan  # a function may pass
    weights = torch.tensor([1.0, 0.0])
    for process in (0, 1):
        trainer = Trainer(
            by_function, weights, process, estimator_options={"alpha": 0.5}
        )
        output = trainer._generate_and_score_completions("inputs")
        expected = estimate(r, "agrae", alpha=0.5).ravel()
        close(output["advantages"], expected[8 * process : 8 * process + 8], 1e-6)
        close(trainer._logs["advantages"], expected, 1e-6)
        assert output["ids"] == "inputs"
        trainer.model.eval()  # at the omega of the last training batch
        trainer.rewards = by_function[:8].flip(0)
        output = trainer._generate_and_score_completions("inputs")
        options = {"alpha": 0.5, "omega": r.mean()}
        of_eval = estimate(r.ravel()[:8][::-1].reshape(2, 4), "agrae", **options)
        close(
            output["advantages"], of_eval.ravel()[4 * process : 4 * process + 4], 1e-6
        )
    with pytest.raises(ValueError, match="did you mean 'agrae'"):
        Trainer(by_function, weights, 0, estimator="agra")
    by_function[:4], by_function[4] = torch.nan, torch.nan
    trainer = Trainer(by_function, weights, 0)
    output = trainer._generate_and_score_completions("inputs")
    omega = r.ravel()[5:].mean()
    expected = np.zeros(8)
    expected[5:] = estimate([r[1, 1:]], "agrae", omega=omega)[0]
    close(output["advantages"], expected, 1e-6)


def made(**own):
    """A trainer of the hook whose settings are class attributes of a Sampler."""
    from symlab.rlvr.trl import AdvantageHook

    options = {k: own.pop(k) for k in ("estimator", "estimator_options") if k in own}
    kind = type("Trainer", (AdvantageHook, Sampler), own)
    return kind(torch.zeros(16, 2), torch.tensor([1.0, 0.0]), 0, **options)


@SMALL
def test_a_std_that_scale_rewards_forbids_is_refused_in_mixes_too():
    mixes = [rlvr.compose(normalise=n) for n in ("grpo", "trl", "reinforce_pp")]
    for estimator in (*mixes, "reinforce_pp", "reinforce_pp_baseline"):
        made(estimator=estimator, scale_rewards="group")
        with pytest.raises(ValueError, match="scale_rewards='none' forbids it"):
            made(estimator=estimator, scale_rewards="none")
    for normalise in ("dr_grpo", "rloo", "none", lambda r: r):
        made(estimator=rlvr.compose(normalise=normalise), scale_rewards="none")


@SMALL
@pytest.mark.parametrize("generations", [1, 2, 4])
@pytest.mark.parametrize("options", [{}, {"k": 5}])
def test_pkpo_evaluates_in_groups_smaller_than_its_k(options, generations):
    """As rlvr.advantages at the largest k that such groups have."""
    own = {"num_generations": 8, "num_generations_eval": generations}
    trainer = made(estimator="pkpo", estimator_options=options, **own)
    r = np.array([1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0.0])
    trainer.rewards = torch.tensor(r).float()[:, None].repeat(1, 2)
    in_training = trainer._generate_and_score_completions("inputs")["advantages"]
    close(in_training, estimate(r.reshape(2, 8), "pkpo", **options)[0], 1e-6)
    trainer.model.eval()
    found = trainer._generate_and_score_completions("inputs")["advantages"]
    if generations == 1:
        assert not found.any()
    else:
        k = min(generations - 1, options.get("k", 4))
        expected = estimate(r.reshape(-1, generations), "pkpo", k=k).ravel()
        close(found, expected[:8], 1e-6)


@SMALL
@pytest.mark.parametrize(
    ("success", "message"),
    [
        (1e-9, "success = 1e-09 is rounding"),
        ({"accuracy": 1e-9}, "success = 1e-09 is rounding"),
        (np.ones(16, bool), "truth values, which belong to one batch"),
        (True, "truth values, which belong to one batch"),
        (float("nan"), "success = nan is no threshold"),
        ("check", "names 2 reward functions: give the one that is meant"),
        ("exact", "names no reward function: use one of accuracy, check, check"),
    ],
)
def test_a_success_that_would_mislead_is_refused_before_a_step(success, message):
    names = ["accuracy", "check", "check"]  # two partials of one function
    for told in (0.9, "accuracy", {"accuracy": 0.5}, lambda r: r > 0):
        made(estimator_options={"success": told}, reward_func_names=names)
    with pytest.raises(ValueError, match=message):
        made(estimator_options={"success": success}, reward_func_names=names)


@pytest.fixture
def trl_parts(tmp_path):
    """What a trainer of one step is made from."""
    pytest.importorskip("trl")
    return {
        "model": trl_parts_of.model(),
        "args": trl_parts_of.settings(tmp_path),
        "train_dataset": trl_parts_of.prompts(),
        "processing_class": trl_parts_of.tokenizer(),
    }


@pytest.mark.filterwarnings("ignore")
def test_trl_steps_with_the_advantages_of_agrae(trl_parts):
    from symlab.rlvr.trl import AdvantageTrainer

    seen = []

    def reward(completion_ids, **_):
        r = [float(sum(i < 5 for i in ids) > 0.5 * len(ids)) for ids in completion_ids]
        seen.append(r)
        return r

    class Watched(AdvantageTrainer):
        def _compute_loss(self, model, inputs):
            self.used = inputs["advantages"], inputs["completion_ids"]
            return super()._compute_loss(model, inputs)

    trainer = Watched(reward_funcs=reward, **trl_parts)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    r = np.array(seen[0]).reshape(-1, 4)
    assert 0 < r.mean() < 1
    expected = estimate(r, "agrae").ravel()
    used, ids = trainer.used  # shuffled, with its completions
    close(np.sort(used), np.sort(expected), 1e-6)
    assert abs(expected.sum()) > 1e-3  # not what subtracting a mean leaves
    close(list(trainer._logs["advantages"]), expected, 1e-6)
    short = torch.tensor(reward([row[row != 10] for row in ids]))
    assert ((used > 0) <= (short == 1)).all()
    assert ((used < 0) <= (short == 0)).all()
    after = trainer.model.parameters()
    assert any((p - q).abs().max() > 0 for p, q in zip(before, after, strict=True))


@pytest.mark.filterwarnings("ignore")
def test_our_grpo_is_trls_and_our_objective_its_losses(trl_parts):
    """What TRL itself computes, before the hook: advantages and all three losses."""
    from trl import GRPOTrainer

    draws, seen = np.random.default_rng(0), []

    def reward(completion_ids, **_):
        seen.append(draws.random(len(completion_ids)).round(1).tolist())
        return seen[-1]

    trainer = GRPOTrainer(reward_funcs=reward, **trl_parts)
    trainer.model.train()
    rows = [{"prompt": f"{i} {i + 1}"} for i in range(4) for _ in range(4)]
    batch = trainer._generate_and_score_completions(rows)
    r = torch.tensor(seen[0]).reshape(-1, 4)
    a = estimate(r, "grpo", std="trl").flatten()
    torch.testing.assert_close(batch["advantages"], a)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    keep = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    n, t = batch["completion_ids"].shape
    logp, _, _ = _three(
        trainer._get_per_token_logps_and_entropies(trainer.model, ids, keep, t)
    )
    logp = logp.detach()
    old = logp + 0.4 * torch.randn(n, t, generator=torch.Generator().manual_seed(0))
    batch["old_per_token_logps"] = old
    trainer.current_gradient_accumulation_steps = 1
    mask = batch["completion_mask"]
    for name, how in (
        ("grpo", "sequence"),
        ("bnpo", "token"),
        ("dr_grpo", "constant"),
    ):
        trainer.loss_type = name
        theirs = trainer._compute_loss(trainer.model, batch)
        ours, stats = clipped_objective(
            logp, old, a, mask, normalisation=how, max_length=6
        )
        torch.testing.assert_close(theirs.detach(), ours)
        metrics = trainer._metrics["train"]
        for side in ("low", "high"):
            their = metrics[f"clip_ratio/{side}_mean"][-1]
            assert float(stats[f"clip_{side}"]) == pytest.approx(their, rel=1e-5)
            assert their > 0.02


@pytest.mark.filterwarnings("ignore")
def test_completions_without_a_reward_count_as_in_trl(trl_parts):
    from trl import GRPOTrainer

    seen = []

    def reward(completion_ids, **_):
        none = np.nan  # for one of four, two, three
        r = [[1, none, 1, 0], [1, 0, none, none], [0, none, none, none], [1, 0, 0, 1]]
        r = np.array(r, float).ravel()
        seen.append(r)
        return [None if np.isnan(x) else x for x in r]

    trainer = GRPOTrainer(reward_funcs=reward, **trl_parts)
    trainer.model.train()
    rows = [{"prompt": f"{i} {i + 1}"} for i in range(4) for _ in range(4)]
    theirs = trainer._generate_and_score_completions(rows)["advantages"]
    ours = rlvr.grouped_advantages(
        seen[0], np.arange(16) // 4, "grpo", std="trl", valid=~np.isnan(seen[0])
    )
    close(theirs, ours, 1e-5)
    assert (ours != 0).sum() == 9


def _three(values) -> tuple:
    """The first is log-probabilities; what follows differs between versions."""
    return (*values, None, None)[:3]


def test_without_trl_the_adapter_says_what_to_install(monkeypatch):
    from symlab.rlvr import trl

    monkeypatch.setitem(sys.modules, "trl", None)
    trl._trainer.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'symlab\[trl\]'"):
        _ = trl.AdvantageTrainer
    trl._trainer.cache_clear()


# --- verl ----------------------------------------------------------------------------


def verl_batch(b=6, g=4, t=5, seed=2) -> dict:
    """What verl's trainer hands over: rollouts in any order, uids, rewards at the end.

    Rows are rollouts (B G, T); beside it `rewards` (B, G) and `rows`, their places.
    """
    draws = np.random.default_rng(seed)
    r, rows = binary(b, g, seed), draws.permutation(b * g)
    lengths = draws.integers(1, t + 1, b * g)
    mask = torch.arange(t) < torch.tensor(lengths)[:, None]
    scores = torch.zeros(b * g, t)
    scores[torch.arange(b * g), torch.tensor(lengths - 1)] = torch.tensor(
        r.ravel()[rows], dtype=torch.float32
    )
    uids = np.array([f"prompt-{row // g}" for row in rows], dtype=object)
    given = {"token_level_rewards": scores, "response_mask": mask.long()}
    return {"given": given, "uid": uids, "rewards": r, "rows": rows}


@SMALL
@pytest.mark.parametrize("name", [n for n in ESTIMATORS if n != "pkpo"])
def test_verl_gets_the_advantages_of_its_rollouts_on_their_tokens(name):
    from symlab.rlvr.verl import estimator

    batch = verl_batch()
    mask = batch["given"]["response_mask"]
    found, returns = estimator(name)(
        **batch["given"], index=batch["uid"], config={"adv_estimator": name}
    )
    of_rollouts = estimate(batch["rewards"], name).ravel()[batch["rows"]]
    close(found, of_rollouts[:, None] * mask.numpy(), 1e-6)
    assert found.dtype == torch.float32
    assert returns is found
    assert abs(of_rollouts).max() > 0


@SMALL
def test_verls_padding_and_failed_rollouts_change_no_other():
    """verl fills a batch up by rows of their own uid, without tokens or reward."""
    from symlab.rlvr.verl import estimator

    batch = verl_batch()
    kept = slice(1, None)  # the first has failed
    whole = {name: x[kept] for name, x in batch["given"].items()}
    rewards, rows = batch["rewards"].ravel()[batch["rows"]][kept], batch["uid"][kept]
    expected = rlvr.grouped_advantages(rewards, rows, "agrae")
    padded = {
        name: torch.cat([x, torch.zeros(4, x.shape[1], dtype=x.dtype)])
        for name, x in whole.items()
    }
    uids = np.append(rows, ["pad-0"] * 4)  # a group of the same size, too
    found, _ = estimator("agrae")(**padded, index=uids)
    close(found[:-4, 0], expected, 1e-6)
    assert (found[-4:] == 0).all()


@SMALL
def test_what_verl_cannot_be_given_is_said():
    from symlab.rlvr.verl import estimator

    with pytest.raises(ValueError, match="did you mean 'agrae'"):
        estimator("agra")
    with pytest.raises(ValueError, match="no option 'beta'"):
        estimator("agrae", beta=2.0)
    batch = verl_batch()
    penalised = batch["given"] | {
        "token_level_rewards": batch["given"]["token_level_rewards"] - 0.01
    }
    with pytest.raises(ValueError, match="agrae needs rewards 0 and 1"):
        estimator()(**penalised, index=batch["uid"])


def test_verl_gets_mixes_success_and_a_log():
    """A mix of four lines; ±1 rewards; a warning below 16 groups; metrics by batch."""
    from symlab.rlvr.verl import estimator

    mix = rlvr.compose(
        normalise="rloo", difficulty=lambda p: 1 / (p + 0.1), sign=0.5, name="mix"
    )
    batch, logged = verl_batch(b=20), []
    ours = estimator(mix, success=0, log=logged.append)
    signed = batch["given"]["token_level_rewards"].clone()
    last = batch["given"]["response_mask"].sum(1) - 1
    signed[torch.arange(len(last)), last] = (
        2 * signed[torch.arange(len(last)), last] - 1
    )
    given = batch["given"] | {"token_level_rewards": signed}
    found, _ = ours(**given, index=batch["uid"])
    expected = estimate(2 * batch["rewards"] - 1, mix, success=0)
    of_rollouts = expected.ravel()[batch["rows"]]
    close(found, of_rollouts[:, None] * batch["given"]["response_mask"].numpy(), 1e-6)
    assert ours.__name__ == "mix"
    assert logged[0]["groups"] == 20
    assert logged[0]["omega"] == pytest.approx(batch["rewards"].mean())
    few = verl_batch(b=6)
    with pytest.warns(UserWarning, match="omega is the mean success of 6 groups"):
        estimator("agrae")(**few["given"], index=few["uid"])
    smooth = rlvr.SmoothedOmega()
    estimator("agrae", omega=smooth)(**few["given"], index=few["uid"])
    assert smooth.value == pytest.approx(few["rewards"].mean())


@pytest.mark.filterwarnings("ignore")
def test_verl_itself_runs_what_is_registered(monkeypatch):
    """Its GRPO is ours with its std; A-GRAE is what its trainer computes by name."""
    vision.torchvision()  # transformers imports it
    pytest.importorskip("verl")
    from verl import DataProto
    from verl.trainer.ppo import core_algos
    from verl.trainer.ppo.ray_trainer import compute_advantage

    from symlab.rlvr.verl import estimator

    monkeypatch.setattr(core_algos, "ADV_ESTIMATOR_REGISTRY", {})
    core_algos.register_adv_est("agrae")(estimator("agrae", alpha=0.5))
    core_algos.register_adv_est("ours")(estimator("grpo", std="verl"))
    mix = rlvr.compose(normalise="verl", difficulty="ddas", sign=0.5)
    core_algos.register_adv_est("mix")(estimator(mix))
    batch = verl_batch()

    def computed(name):
        data = DataProto.from_dict(dict(batch["given"]), {"uid": batch["uid"]})
        return compute_advantage(data, name, config={}).batch["advantages"]

    torch.testing.assert_close(computed("ours"), computed("grpo"))
    of_rollouts = estimate(batch["rewards"], "agrae", alpha=0.5).ravel()[batch["rows"]]
    mask = batch["given"]["response_mask"]
    close(computed("agrae"), of_rollouts[:, None] * mask.numpy(), 1e-6)
    of_rollouts = estimate(batch["rewards"], mix).ravel()[batch["rows"]]
    close(computed("mix"), of_rollouts[:, None] * mask.numpy(), 1e-6)
