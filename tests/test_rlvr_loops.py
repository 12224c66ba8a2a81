"""The estimators under the signatures of prime-rl, NeMo-RL and OpenRLHF.

On the inputs that each library documents, against its own published formula; the
libraries are not installed.
"""

import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch

from symlab.rlvr import SmoothedOmega, compose
from symlab.rlvr import advantages as estimate
from symlab.rlvr.loops import nemo_rl, openrlhf, prime_rl
from tests.test_rlvr import SMALL, binary, close

# --- prime-rl ------------------------------------------------------------------------


@dataclass
class AdvantageOutputs:
    advantages: object


@dataclass
class Table:
    """AdvantageInputs of the first versions: all problems of a step."""

    rewards: torch.Tensor
    completion_lengths: torch.Tensor


@dataclass
class Group:
    """AdvantageInputs since: the rollouts of one problem."""

    rollouts: list


@pytest.fixture
def prime(monkeypatch):
    module = ModuleType("orchestrator_advantage")
    module.AdvantageOutputs = AdvantageOutputs
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for kind in (Table, Group):
        monkeypatch.setattr(kind, "__module__", module.__name__)


def group(*rewards):
    return Group([{"reward": r, "trajectory": []} for r in rewards])


def test_prime_rl_gets_its_normalised_advantage(prime):
    """Its documented example: (r - mean) / std of the group, in both signatures."""
    r = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    expected = (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-6)
    ours = prime_rl("grpo", std="verl")
    lengths = torch.ones(5, 4, dtype=torch.long)
    table = ours(Table(r, lengths))
    assert isinstance(table, AdvantageOutputs)
    close(table.advantages, expected, 1e-5)
    for row, true in zip(r.tolist(), expected, strict=True):
        found = ours(group(*row)).advantages
        assert [type(x) for x in found] == [float] * 4
        close(found, true, 1e-5)


def test_prime_rl_gets_agrae_with_an_omega_over_its_groups(prime):
    r = binary(12, 4)
    ours, smooth = prime_rl("agrae", omega=SmoothedOmega()), SmoothedOmega()
    for row in r:
        found = ours(group(*row)).advantages
        close(found, estimate(row[None], "agrae", omega=smooth)[0])
    assert ours(group(1.0)).advantages == [0.0]  # the others of its group failed
    assert ours(group()).advantages == []
    assert prime_rl("nsr")(group(0.0)).advantages == [-1.0]
    by_score = prime_rl("agrae", omega=0.5, success=0.5)
    close(by_score(group(0.9, 0.2)).advantages, [np.sqrt(2) / 4, -np.sqrt(2) / 2])


def test_kwargs_of_prime_rls_configuration_are_options(prime):
    r = binary(3, 4)
    ours = prime_rl("agrae", omega=0.6, alpha=1.0)
    for row in r:
        found = ours(group(*row), alpha=2.0).advantages
        close(found, estimate(row[None], "agrae", omega=0.6, alpha=2.0)[0])
        close(ours(group(*row)).advantages, estimate(row[None], "agrae", omega=0.6)[0])
    with pytest.raises(ValueError, match="agrae has no option 'eps': use"):
        ours(group(1.0, 0.0), eps=1e-8)


def test_what_prime_rl_cannot_tell_is_refused_at_once():
    with pytest.raises(ValueError, match="agrae depends on omega, and prime-rl"):
        prime_rl("agrae")
    with pytest.raises(ValueError, match="depends on the whole batch"):
        prime_rl("reinforce_pp_baseline")
    with pytest.raises(ValueError, match="no option 'beta'"):
        prime_rl("grpo", beta=1)


# --- NeMo-RL -------------------------------------------------------------------------


def test_nemo_rl_gets_its_leave_one_out_baseline():
    """Its GRPO with use_leave_one_out_baseline and no normalize_rewards."""
    r = torch.tensor([1.0, 0.25, 0.0, 0.5, 1.0, 0.0])
    prompts = torch.tensor(
        [[5, 6, 0], [7, 0, 0], [5, 6, 0], [7, 0, 0], [5, 6, 0], [7, 0, 0]]
    )
    mask = (torch.arange(4) < torch.tensor([4, 1, 2, 3, 4, 2])[:, None]).long()
    ours = nemo_rl("rloo")({"use_leave_one_out_baseline": True}, {})
    expected = torch.stack(
        [r[i] - r[[j for j in range(i % 2, 6, 2) if j != i]].mean() for i in range(6)]
    )
    for ids in (prompts, prompts[:, 0]):
        found = ours.compute_advantage(ids, r, mask, repeated_batch=None)
        assert found.shape == mask.shape
        close(found, expected[:, None].expand(6, 4), 1e-6)


@SMALL
def test_nemo_rl_gets_agrae_and_leaves_out_what_has_no_token():
    r = binary(6, 4)
    flat, ids = torch.tensor(r.ravel()), torch.arange(24) // 4
    mask = torch.ones(24, 3)
    close(
        nemo_rl("agrae")().compute_advantage(ids, flat, mask)[:, 0].reshape(6, 4),
        estimate(r, "agrae"),
    )
    mask[:4] = 0
    found = nemo_rl("agrae")().compute_advantage(ids, flat, mask)
    close(found[4:, 0].reshape(5, 4), estimate(r[1:], "agrae"))
    assert not found[:4].any()


# --- OpenRLHF ------------------------------------------------------------------------


def test_openrlhf_gets_its_rloo_and_its_group_norm():
    """(sum - r) / (n - 1) as the baseline; (r - mean) / (std + eps)."""
    r = torch.rand(6, 4, generator=torch.Generator().manual_seed(1))
    experiences = list(r.flatten().split([5, 7, 12]))  # micro-batches cut groups
    rloo = r - (r.sum(1, keepdim=True) - r) / 3
    norm = (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-6)
    for made, expected in (
        (openrlhf("rloo", samples=4), rloo),
        (openrlhf("grpo", samples=4, std="verl"), norm),
    ):
        found = made(experiences)
        assert [len(x) for x in found] == [5, 7, 12]
        close(torch.cat(found), expected.flatten(), 1e-5)


def test_openrlhf_gets_mixes_and_refuses_parts_of_groups():
    logged = []
    mix = compose(normalise="dr_grpo", difficulty="ddas")
    made = openrlhf(mix, samples=4, success=0, log=logged.append)
    r = torch.tensor(2 * binary(20, 4) - 1).float()
    found = torch.cat(made(list(r.flatten().split(8))))
    close(found, estimate(r, mix, success=0).flatten(), 1e-6)
    assert logged[0]["groups"] == 20
    assert logged[0]["omega"] == pytest.approx(float((r > 0).float().mean()))
    with pytest.raises(ValueError, match="7 rewards are no groups of 4"):
        made([torch.zeros(7)])
    with pytest.raises(ValueError, match="use whole numbers from 1 to G - 1 = 3"):
        openrlhf("pkpo", samples=4, k=4)
