"""Flow-equivariant networks: the lift law, scipy's correlation, separate lanes."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from symlab.models import flowing

WIDTH, SITES = 5, 24


def lane(seed: int, channels: int = 3) -> dict:
    """A network of random kernels, as one lane."""
    kernels = flowing.initial(np.random.default_rng(seed), channels, WIDTH)
    return {k: w[None] for k, w in kernels.items()}


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize(
    ("fastest", "flow"), [(1, -2), (1, 1), (2, -2), (2, 1), (2, 3)]
)
def test_the_lift_law_is_exact_for_any_frames(fastest, flow):
    """h(v) becomes T_{t w} h(v - w) for every v and v - w in V, channel by channel."""
    p, frames = lane(0), noise(1, 7, SITES)
    still = flowing.hidden_states(p, fastest, frames)
    shifted = torch.stack([f.roll(t * flow) for t, f in enumerate(frames)])
    found = flowing.hidden_states(p, fastest, shifted)
    for v in range(-fastest, fastest + 1):
        if abs(v - flow) <= fastest:
            for t in range(len(frames)):
                expected = still[t, :, v - flow + fastest].roll(t * flow, -1)
                error = (found[t, :, v + fastest] - expected).abs().max()
                assert error < 1e-12
    assert flowing.lift_error(p, fastest, frames, flow) < 1e-12


def test_an_rnn_and_a_wrong_lift_break_the_law(monkeypatch):
    p, frames = lane(0), noise(1, 7, SITES)
    assert flowing.lift_error(p, 0, frames, 1) > 0.1
    monkeypatch.setattr(flowing, "flowed", lambda h: h)  # channels that do not flow
    assert flowing.lift_error(p, 2, frames, 1) > 0.1


def test_a_flow_that_no_two_channels_differ_by_is_refused():
    with pytest.raises(ValueError, match="ask for a flow of at most 2"):
        flowing.lift_error(lane(0), 1, noise(1, 3, SITES), 3)


def test_a_step_is_scipys_correlation_of_shifted_states():
    p, h, frame = lane(2), noise(3, 1, 3, 3, 2, SITES), noise(4, 1, 2, SITES)
    found = flowing.step(p, h, frame)
    kernel = p["cell"][0].numpy()
    for v in (-1, 0, 1):
        for n in range(2):
            inputs = [np.roll(h[0, c, v + 1, n].numpy(), v) for c in range(3)]
            inputs.append(frame[0, n].numpy())
            for out in range(3):
                each = zip(inputs, kernel[out], strict=True)
                total = sum(correlate1d(x, w, mode="wrap") for x, w in each)
                mine = found[0, out, v + 1, n].numpy()
                assert mine == pytest.approx(np.tanh(total), abs=1e-12)


def test_predictions_are_made_of_predictions_and_lanes_are_apart():
    lanes, frames = [lane(5), lane(6)], noise(7, 4, 2, 3, SITES)
    p = {k: torch.cat([one[k] for one in lanes]) for k in lanes[0]}
    together = flowing.continued(p, 1, frames, 5)
    assert together.shape == (5, 2, 3, SITES)
    for i, one in enumerate(lanes):
        alone = flowing.continued(one, 1, frames[:, i : i + 1], 5)
        torch.testing.assert_close(together[:, i], alone[:, 0], rtol=0, atol=1e-12)
    longer = torch.cat([frames, together[:2]])
    again = flowing.continued(p, 1, longer, 3)
    torch.testing.assert_close(again, together[2:], rtol=0, atol=1e-12)


def test_patterns_have_variance_1_and_videos_move_them():
    draws = np.random.default_rng(8)
    still = flowing.patterns(draws, 4000, SITES, 4)
    assert still.var() == pytest.approx(1, abs=0.03)
    assert np.abs(still.mean(1)).max() < 1e-12
    velocity = np.array([2, -1, 0])
    shown = flowing.videos(still[:3], velocity, 5)
    for n, v in enumerate(velocity):
        for t in range(5):
            assert np.array_equal(shown[n, t], np.roll(still[n], t * v))
    moved = flowing.moved(torch.from_numpy(shown[2]), 3).numpy()
    assert np.array_equal(moved, flowing.videos(still[2:3], 3, 5)[0])
