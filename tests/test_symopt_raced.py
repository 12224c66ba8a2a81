"""What the field races now: rules, decays, precisions, each against its definition."""

import copy
import math

import pytest
import torch
from torch import nn

from symlab.symopt import SymOpt, describe
from symlab.symopt.relatives import eigen_adam
from symlab.symopt.step import stochastically_rounded


def weights(*shapes, dtype=torch.float32, seed=0) -> list[nn.Parameter]:
    draws = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(s, generator=draws).to(dtype)) for s in shapes]


def train(steps: int, *sides, seed: int = 1) -> None:
    """The same gradients for pairs of (optimizer, parameters)."""
    draws = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for same in zip(*(params for _, params in sides), strict=True):
            gradient = torch.randn(same[0].shape, generator=draws)
            for p in same:
                p.grad = gradient.to(p.dtype)
        for optimizer, _ in sides:
            optimizer.step()


# --- Adam in the eigenbasis of the inputs --------------------------------------------


def last(gradients, **options):
    states = ()
    for x in gradients:
        update, *states = eigen_adam(x, *states, **options)
    return update


def gradients(m=10, n=4, steps=5):
    """Columns of unequal size, so that eigenvalues are apart."""
    draws = torch.Generator().manual_seed(0)
    sizes = torch.tensor([3.0, 1.0, 0.3, 0.1], dtype=torch.float64)[:n]
    return [
        torch.randn(m, n, generator=draws, dtype=torch.float64) * sizes
        for _ in range(steps)
    ]


@pytest.mark.parametrize("centred", [False, True])
def test_it_turns_with_the_inputs_and_renumbers_with_the_rows(centred):
    draws, gs = torch.Generator().manual_seed(1), gradients()
    q, _ = torch.linalg.qr(torch.randn(4, 4, generator=draws, dtype=torch.float64))
    order = torch.randperm(10, generator=draws)
    shift = torch.randn(1, 4, generator=draws, dtype=torch.float64) if centred else 0
    update = last(gs, centred=centred)
    moved = last([g[order] @ q.T + shift for g in gs], centred=centred)
    error = (update[order] @ q.T - moved).norm() / update.norm()
    assert error < 1e-12
    turned = last([q.new_tensor(0) + _rotated_rows(g) for g in gs], centred=centred)
    assert (_rotated_rows(update) - turned).norm() / update.norm() > 1e-2
    if centred:
        assert update.mean(0).abs().max() < 1e-15


def _rotated_rows(x):
    angle = 0.7
    c, s = math.cos(angle), math.sin(angle)
    y = x.clone()
    y[0], y[1] = c * x[0] - s * x[1], s * x[0] + c * x[1]
    return y


def test_of_one_input_it_is_torchs_adam():
    p, q = weights((12, 1), (5, 1)), weights((12, 1), (5, 1))
    kind = {"rule": "eigen_adam", "momentum": 0.0, "scale": 1.0, "weight_decay": 0.0}
    ours = SymOpt([{"params": p, **kind}], lr=0.01)
    theirs = torch.optim.Adam(q, lr=0.01, betas=(0.9, 0.95), eps=1e-8)
    train(20, (ours, p), (theirs, q))
    for a, b in zip(p, q, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_it_is_adam_where_inputs_are_uncorrelated_and_adam_turned_elsewhere():
    """Rows that are multiples of unit vectors have a diagonal x^T x."""
    draws = torch.Generator().manual_seed(0)
    places = torch.arange(10) % 4
    gs = []
    for _ in range(6):
        g = torch.zeros(10, 4, dtype=torch.float64)
        sizes = torch.tensor([4.0, 2.0, 1.0, 0.5], dtype=torch.float64)[places]
        noise = 1 + 0.1 * torch.randn(10, generator=draws, dtype=torch.float64)
        g[torch.arange(10), places] = sizes * noise
        gs.append(g)
    w = nn.Parameter(torch.zeros(10, 4, dtype=torch.float64))
    adam = torch.optim.Adam([w], lr=1.0, betas=(0.9, 0.95), eps=1e-8)
    for g in gs:
        before, w.grad = w.detach().clone(), g
        adam.step()
    torch.testing.assert_close(last(gs), before - w.detach(), rtol=1e-6, atol=1e-9)


def test_as_a_heads_rule_it_is_centred_and_saved():
    (head,) = weights((12, 4))
    kind = {"rule": "eigen_adam", "momentum": 0.0, "shift": True}
    group = {"params": [head], "options": {"centred": True}, **kind}
    one, mean = SymOpt([group], lr=0.1, weight_decay=0.0), head.detach().mean(0)
    train(3, (one, [head]))
    torch.testing.assert_close(head.detach().mean(0), mean, rtol=0, atol=1e-6)
    other = nn.Parameter(head.detach().clone())
    two = SymOpt([group | {"params": [other]}], lr=0.1, weight_decay=0.0)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    train(2, (one, [head]), (two, [other]), seed=4)
    assert torch.equal(head, other)


# --- MuonEq --------------------------------------------------------------------------


def test_muoneq_is_torchs_muon_of_rows_of_length_one(monkeypatch):
    """The form R: rows over their length before the iteration."""
    from torch.optim import _muon

    def equilibrated(gradient, coefficients, steps, eps):
        x = gradient / gradient.norm(dim=-1, keepdim=True)
        tall = x.size(0) > x.size(1)
        x = x.T if tall else x
        x = x / x.norm()
        a, b, c = coefficients
        for _ in range(steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        return x.T if tall else x

    monkeypatch.setattr(_muon, "_zeropower_via_newtonschulz", equilibrated)
    shapes = ((24, 8), (8, 24), (12, 12))
    p, q = weights(*shapes), weights(*shapes)
    kind = {"rule": "row_then_spectral", "scale": "muon", "weight_decay": 0.1}
    ours = SymOpt([{"params": p, "options": {"method": "newton_schulz"}, **kind}], 0.02)
    theirs = torch.optim.Muon(q, lr=0.02, weight_decay=0.1)
    train(20, (ours, p), (theirs, q))
    for a, b in zip(p, q, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# --- decay ---------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["spectral", "row_norm", "adamw"])
def test_an_independent_decay_follows_the_schedule_and_not_the_rate(rule):
    """Without gradients the weights shrink by (1 - wd times the schedule's factor)."""
    found = []
    for lr in (0.1, 0.001):
        (p,) = weights((6, 4))
        start, kind = p.detach().clone(), {"rule": rule, "decay": "independent"}
        optimizer = SymOpt([{"params": [p], **kind}], lr=lr, weight_decay=0.2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 / (1 + i))
        for _ in range(3):
            p.grad = torch.zeros(6, 4)
            optimizer.step()
            schedule.step()
        expected = start * (1 - 0.2) * (1 - 0.2 / 2) * (1 - 0.2 / 3)
        torch.testing.assert_close(p.detach(), expected)
        found.append(p.detach())
    torch.testing.assert_close(*found)


def test_a_cautious_decay_shrinks_what_the_step_makes_smaller():
    p, q = weights((6, 4)), weights((6, 4))
    start = p[0].detach().clone()
    plain = SymOpt([{"params": q}], lr=0.1, weight_decay=0.0)
    ours = SymOpt([{"params": p, "decay": "cautious"}], lr=0.1, weight_decay=0.5)
    train(1, (ours, p), (plain, q))
    step = start - q[0].detach()  # what was subtracted
    expected = q[0].detach() - 0.05 * start * (start * step > 0)
    torch.testing.assert_close(p[0].detach(), expected)
    (bias,) = weights((6,))
    with pytest.raises(ValueError, match="'cautious' is not for torch's AdamW"):
        SymOpt([{"params": [bias], "rule": "adamw", "decay": "cautious"}])
    with pytest.raises(ValueError, match="did you mean 'cautious'"):
        SymOpt([{"params": p, "decay": "coutious"}])


def test_describe_says_that_a_cautious_decay_breaks_rotations():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    table = describe(
        model, overrides={"*": {"decay": "cautious"}}, example=torch.randn(2, 4)
    ).set_index("name")
    assert "by its decay, rotation of outputs" in table.loc["0.weight", "note"]
    SymOpt(model, overrides={"*": {"decay": "cautious"}}, example=torch.randn(2, 4))


# --- half-precision weights ----------------------------------------------------------


def test_rounding_at_random_is_right_on_average():
    draws = torch.Generator().manual_seed(0)
    x = torch.tensor([1.001, -3.3, 1e-20, 0.0, 255.3]).repeat(20000, 1)
    y = stochastically_rounded(x, torch.bfloat16, draws).float()
    gap = torch.finfo(torch.bfloat16).eps * x[0].abs()
    assert ((y - x).abs() <= gap).all()  # one of the two neighbours
    error = (y.mean(0) - x[0]).abs()
    assert (error <= 5 * gap / 20000**0.5 + 1e-7 * x[0].abs()).all()
    odd = torch.tensor([float("inf"), float("-inf"), float("nan")])
    same = stochastically_rounded(odd, torch.bfloat16, draws)
    assert torch.equal(same.isnan(), odd.isnan())
    assert torch.equal(same[:2].float(), odd[:2])


def test_small_steps_of_bfloat16_weights_are_not_lost():
    """400 steps of 1e-4 from 1, where bfloat16 has steps of 0.008."""
    moved = {}
    for rounding in (False, True):
        p = nn.Parameter(torch.ones(64, 64, dtype=torch.bfloat16))
        group = {"params": [p], "rule": "sign", "scale": 1.0, "momentum": 0.0}
        group["stochastic_rounding"] = rounding
        optimizer = SymOpt([group], lr=1e-4, weight_decay=0.0)
        for _ in range(400):
            p.grad = torch.ones_like(p)
            optimizer.step()
        moved[rounding] = 1 - float(p.detach().float().mean())
    assert moved[False] == 0
    assert moved[True] == pytest.approx(0.04, abs=0.002)


def test_a_rounded_run_goes_on_alike_after_a_save():
    kind = {"stochastic_rounding": True, "momentum_dtype": "float32"}
    (p,) = weights((6, 4), dtype=torch.bfloat16)
    one = SymOpt([{"params": [p], **kind}], lr=0.01)
    train(3, (one, [p]))
    q = nn.Parameter(p.detach().clone())
    two = SymOpt([{"params": [q], **kind}], lr=0.01)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    assert two.state[q]["momentum_buffer"].dtype == torch.float32
    train(3, (one, [p]), (two, [q]), seed=5)
    assert torch.equal(p, q)
    with pytest.raises(ValueError, match="stochastic_rounding is for bfloat16"):
        SymOpt([{"params": weights((3, 3)), "stochastic_rounding": True}])


@pytest.mark.parametrize("rule", ["spectral", "row_norm", "normuon"])
def test_a_momentum_in_float32_is_that_of_float32_gradients(rule):
    (p,) = weights((6, 4), dtype=torch.bfloat16)
    kind = {"rule": rule, "momentum_dtype": "float32"}
    optimizer = SymOpt([{"params": [p], **kind}], lr=0.01)
    draws, average = torch.Generator().manual_seed(1), torch.zeros(6, 4)
    for _ in range(4):
        p.grad = torch.randn(6, 4, generator=draws).bfloat16()
        average.lerp_(p.grad.float(), 0.05)
        optimizer.step()
    assert torch.equal(optimizer.state[p]["momentum_buffer"], average)
    assert p.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="did you mean 'float32'"):
        SymOpt([{"params": weights((3, 3)), "momentum_dtype": "float23"}])


def test_two_parameters_are_rounded_by_draws_of_their_own():
    ps = [nn.Parameter(torch.ones(64, 64, dtype=torch.bfloat16)) for _ in range(2)]
    group = {"params": ps, "rule": "sign", "momentum": 0.0}
    group |= {"scale": 1.0, "stochastic_rounding": True}
    optimizer = SymOpt([group], lr=1e-3, weight_decay=0.0)
    for p in ps:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert not torch.equal(*ps)
