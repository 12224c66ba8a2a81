"""symlab.mirror.monitor: agrees with audit, sees a collapse, leaves no trace."""

import random
import time

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from symlab.mirror import Monitor, audit
from symlab.mirror.monitor import COLUMNS


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def digits(n: int):
    data = load_digits()
    return torch.tensor(data.data[:n] / 16).float(), torch.tensor(data.target[:n])


def network(*between: nn.Module) -> nn.Sequential:
    """A relu layer of 32 units and a linear one of 12, on the digits."""
    torch.manual_seed(0)
    widths = nn.Linear(64, 32), nn.Linear(32, 12), nn.Linear(12, 10)
    return nn.Sequential(widths[0], nn.ReLU(), *between, *widths[1:])


def train(model, batch, steps: int, weight_decay: float) -> None:
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay
    )
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()


def assert_like_audit(monitor, model, batch) -> None:
    """The latest rows are those of a fresh audit, number by number."""
    frame, found = monitor.frame(), audit(model, loss, batch)
    found = found[~found.symmetry.isin(["none", "unknown"])]
    latest = frame.tail(len(monitor.indices)).reset_index(drop=True)
    both = [c for c in latest if c in found]
    assert len(both) == len(COLUMNS) - 1
    pd.testing.assert_frame_equal(latest[both], found[both], rtol=1e-6)


# --- what it sees --------------------------------------------------------------------


def test_strong_decay_makes_units_equal_or_dead_and_rows_are_those_of_audit():
    model, batch = network(), digits(300)
    small = tuple(x[:64] for x in batch)
    monitor = Monitor(model, loss, small)
    monitor.step(0)
    for steps in (100, 200, 300):
        train(model, batch, 100, weight_decay=0.03)
        monitor.step(steps)
    frame = monitor.frame()
    relu = frame[frame.symmetry == "permutation, rescaling"]
    linear = frame[frame.symmetry == "rotation"]
    assert relu.step.tolist() == linear.step.tolist() == [0, 100, 200, 300]
    assert relu.distinct.iloc[0] == 32
    assert relu.distinct.iloc[-1] < 24
    assert relu.nearest.iloc[-1] < relu.nearest.iloc[0] / 2
    assert linear["rank"].iloc[-1] < linear["rank"].iloc[0]
    assert linear.dead.isna().all()
    assert_like_audit(monitor, model, small)


def test_what_units_add_is_measured_anew_at_each_step():
    """A unit that writes a constant dies, though it was alive at the start."""
    model, batch = network(), digits(64)
    monitor = Monitor(model, loss, batch)
    monitor.step()
    with torch.no_grad():
        model[0].weight[3], model[0].bias[3], model[2].weight[:, 3] = 0.0, 1.0, 1e-6
        model[0].bias[5] = -100.0  # cut off: silent on the batch, not dead
    monitor.step()
    frame = monitor.frame()
    first, second = frame[frame.symmetry == "permutation, rescaling"].itertuples()
    assert (first.dead, second.dead) == (0, 1)
    assert second.silent > first.silent
    assert_like_audit(monitor, model, batch)


class Attention(nn.Module):
    """Two heads of 4 over a stream of 8, then classes."""

    def __init__(self):
        super().__init__()
        self.qkv, self.o = nn.Linear(8, 24, bias=False), nn.Linear(8, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, x):  # (B, 64)
        x = x.unflatten(1, (8, 8))
        split = [
            t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1)
        ]
        x = nn.functional.scaled_dot_product_attention(*split)
        return self.head(self.o(x.transpose(1, 2).flatten(2)).tanh().mean(1))


def test_heads_and_parts_of_packed_projections_are_followed():
    torch.manual_seed(0)
    model, batch = Attention(), digits(16)
    monitor = Monitor(model, loss, batch)
    train(model, batch, 5, weight_decay=0.0)
    monitor.step()
    assert set(monitor.frame().symmetry) == {
        "rotation", "permutation of heads", "signed permutation"
    }  # fmt: skip
    assert_like_audit(monitor, model, batch)


def test_batch_norm_statistics_of_the_moment_count():
    model, batch = network(nn.BatchNorm1d(32)), digits(64)
    train(model, batch, 5, weight_decay=0.1)  # running means of 0 allow rescalings
    monitor = Monitor(model.eval(), loss, batch)
    train(model.train(), batch, 10, weight_decay=0.1)
    with torch.no_grad():  # a small weight that reads a large value: not dead
        lively = int(model[2].running_mean.argmax())
        model[3].weight[:, lively] *= 1e-5
        model[2].running_var.fill_(1e4)[lively] = 0.0
    monitor.step()
    assert monitor.frame().dead[0] == 0
    assert_like_audit(monitor, model.eval(), batch)


def test_frozen_parameters_are_constants():
    model, batch = network(), digits(64)
    for p in (model[0].weight, model[2].bias):
        p.requires_grad_(False)
    monitor = Monitor(model, loss, batch)
    monitor.step()
    assert monitor.frame().units.tolist() == [11]  # rotations that fix the bias
    assert_like_audit(monitor, model, batch)


# --- what it leaves alone, and what it bears -----------------------------------------


def test_the_model_and_all_random_states_are_left_alone():
    model, batch = network(nn.Dropout(0.5)), digits(64)
    monitor = Monitor(model.eval(), loss, batch)
    loss(model.train(), batch).backward()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    draws = torch.get_rng_state(), random.getstate(), str(np.random.get_state())  # noqa: NPY002
    monitor.step()
    assert torch.equal(draws[0], torch.get_rng_state())
    assert draws[1:] == (random.getstate(), str(np.random.get_state()))  # noqa: NPY002
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert all(
        torch.equal(g, p.grad)
        for g, p in zip(gradients, model.parameters(), strict=True)
    )
    assert model.training


def test_draws_inside_the_loss_are_taken_back():
    def drawing(model, batch):
        torch.rand(3)
        return loss(model, batch)

    model, batch = network(), digits(16)
    before = torch.get_rng_state()
    monitor = Monitor(model, drawing, batch)
    monitor.step()
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_of_another_dtype_is_read_as_it_is():
    model, batch = network(), digits(64)
    monitor = Monitor(model, loss, batch)
    monitor.step()
    model.to(torch.bfloat16)
    monitor.step()
    model.double()
    monitor.step()
    steps = monitor.frame().groupby("step").effective_rank
    single, half, double = (ranks.tolist() for _, ranks in steps)
    assert half == double != single
    assert half == pytest.approx(single, rel=0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_may_move_to_a_gpu():
    model, batch = network(), digits(64)
    monitor = Monitor(model, loss, batch)
    monitor.step()
    model.cuda()
    monitor.step()
    first, second = (f.drop(columns="step") for _, f in monitor.frame().groupby("step"))
    pd.testing.assert_frame_equal(first, second.reset_index(drop=True))


def test_weights_that_are_not_finite_leave_gaps():
    model, batch = network(), digits(16)
    monitor = Monitor(model, loss, batch)
    with torch.no_grad():
        model[0].weight[0, 0] = np.nan
    monitor.step(7)
    frame = monitor.frame()
    assert frame.step.tolist() == [7, 7]
    assert frame.distinct.isna().all()
    assert frame.units.tolist() == [32, 12]
    monitor.plot()


def test_another_shape_is_refused_in_one_sentence():
    model, batch = network(), digits(16)
    monitor = Monitor(model, loss, batch)
    model[0] = nn.Linear(64, 31)
    with pytest.raises(ValueError, match=r"'0\.bias' has another shape .* new Monitor"):
        monitor.step()
    assert len(monitor.frame()) == 0


def test_a_loss_without_symmetry_is_refused():
    with pytest.raises(ValueError, match="no index of this loss has a symmetry"):
        Monitor(nn.Linear(64, 10), loss, digits(16))


def test_a_step_costs_milliseconds():
    monitor = Monitor(network(), loss, digits(64))
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        monitor.step()
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.1


def test_the_figure_has_one_line_per_index_with_its_values():
    model, batch = network(), digits(64)
    monitor = Monitor(model, loss, batch)
    for step in (0, 10):
        monitor.step(step)
        train(model, batch, 10, weight_decay=0.03)
    fig = monitor.plot()
    frame = monitor.frame()
    left, dead, near = fig.axes
    assert [line.get_label() for line in left.lines] == [
        "0.weight:0 (32, permutation)", "2.weight:0 (12, rotation)"
    ]  # fmt: skip
    relu = frame[frame.symmetry == "permutation, rescaling"]
    assert near.lines[0].get_ydata() == pytest.approx(relu.nearest.to_numpy())
    assert left.lines[0].get_xdata().tolist() == [0, 10]
    rank = frame[frame.symmetry == "rotation"]["rank"].to_numpy(float)
    assert left.lines[1].get_ydata() == pytest.approx(rank / 12)
    assert dead.lines[0].get_ydata().tolist() == (relu.dead / 32).tolist()
    fig.draw_without_rendering()
    (legend,) = fig.legends
    box, page = legend.get_window_extent(), fig.bbox
    assert page.x0 <= box.x0 < box.x1 <= page.x1
