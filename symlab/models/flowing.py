"""Flow-equivariant recurrent networks on a ring, many of them as lanes of one program.

T. Anderson Keller, "Flow Equivariant Recurrent Neural Networks" (arXiv 2507.14793). The
hidden state has a channel for each velocity v of a set V = {-m..m}; channels share
their kernels, and each is shifted by its velocity at each step:

    h_{t+1}(v) = tanh(W * T_v h_t(v) + U * f_t)      T_v: shift by v sites, *:
    convolution

If the frames f_t become T_{t w} f_t, then h_t(v) becomes T_{t w} h_t(v - w) wherever v
and v - w are in V. The next frame is decoded from the maximum over v of T_v h(v): the
shift is ours, and asks for the next frame in the frame of reference of each channel.

Axes: lanes L, channels C, velocities V, sequences N, sites S, time T. A network is
{name: kernels (L, out, in, K)}: 'cell' holds W and, as its last input, U; 'hidden' and
'out' are the decoder.
"""

import numpy as np
import torch
from torch import Tensor

from symlab.actions import Action, equivariance_error

# --- patterns in motion ---------------------------------------------------------------


def patterns(draws: np.random.Generator, n: int, sites: int, modes: int) -> np.ndarray:
    """n random patterns (n, sites) of variance 1: sums of waves 1..modes."""
    angle = 2 * np.pi * np.outer(np.arange(1, modes + 1), np.arange(sites)) / sites
    waves = np.concatenate([np.cos(angle), np.sin(angle)]) / np.sqrt(modes)
    return draws.normal(size=(n, 2 * modes)) @ waves


def videos(still: np.ndarray, velocity, frames: int) -> np.ndarray:
    """Patterns (n, S) in motion, (n, frames, S); velocity: integers (n,), or one."""
    n_sites = still.shape[-1]
    time, site = np.arange(frames)[:, None], np.arange(n_sites)
    at = (site - np.reshape(velocity, (-1, 1, 1)) * time) % n_sites
    return np.take_along_axis(still[:, None], at, 2)


# --- networks -------------------------------------------------------------------------


def initial(draws: np.random.Generator, channels: int, width: int) -> dict:
    """Kernels {name: (out, in, width)} of one network, float64, normal over fan in."""
    n = channels
    shapes = {"cell": (n, n + 1), "hidden": (n, n), "out": (1, n)}
    drawn = {k: draws.normal(size=(*s, width)) for k, s in shapes.items()}
    for kernel in drawn.values():
        kernel /= np.sqrt(n * width)
    drawn["cell"][:, n] *= np.sqrt(n)  # U has one input
    return {k: torch.from_numpy(kernel) for k, kernel in drawn.items()}


def convolved(x: Tensor, kernel: Tensor) -> Tensor:
    """The circular convolution of x (L, C, ..., S) with kernels (L, C', C, K)."""
    width = kernel.shape[-1]
    shifted = [x.roll(width // 2 - k, -1) for k in range(width)]
    rows = torch.stack(shifted, 2).flatten(3).flatten(1, 2)  # (L, C*K, ...*S)
    return torch.bmm(kernel.flatten(2), rows).view(len(x), -1, *x.shape[2:])


def flowed(h: Tensor) -> Tensor:
    """T_v h(v) for the channels v = -m..m of h (L, C, 2m+1, N, S)."""
    fastest = h.shape[2] // 2
    moving = [x.roll(v - fastest, -1) for v, x in enumerate(h.unbind(2))]
    return torch.stack(moving, 2)


def step(p: dict, h: Tensor, frame: Tensor) -> Tensor:
    """The hidden state (L, C, V, N, S) after the frame (L, N, S)."""
    told = frame[:, None, None].expand(-1, -1, h.shape[2], -1, -1)
    return convolved(torch.cat([flowed(h), told], 1), p["cell"]).tanh()


def decoded(p: dict, h: Tensor) -> Tensor:
    """The prediction (L, N, S) of the next frame."""
    ahead = flowed(h).amax(2)
    return convolved(convolved(ahead, p["hidden"]).tanh(), p["out"])[:, 0]


def rest(p: dict, frame: Tensor, fastest: int) -> Tensor:
    """The hidden state of zeros (L, C, 2*fastest+1, N, S) for frames (L, N, S)."""
    n_lanes, n, sites = frame.shape
    return frame.new_zeros(n_lanes, p["cell"].shape[1], 2 * fastest + 1, n, sites)


def continued(p: dict, fastest: int, frames: Tensor, n: int) -> Tensor:
    """The n frames (n, L, N, S) that networks predict after `frames` (T, L, N, S).

    From the second one on they see their own predictions, without a gradient through
    them, as in the author's code.
    """
    h, out = rest(p, frames[0], fastest), []
    for frame in frames:
        h = step(p, h, frame)
    for _ in range(n):
        out.append(decoded(p, h))
        if len(out) < n:
            h = step(p, h, out[-1].detach())
    return torch.stack(out)


def hidden_states(p: dict, fastest: int, frames: Tensor) -> Tensor:
    """The hidden states (T, C, V, S) of one network, at frames (T, S)."""
    h, states = rest(p, frames[0, None, None], fastest), []
    for frame in frames:
        h = step(p, h, frame[None, None])
        states.append(h[0, :, :, 0])
    return torch.stack(states)


def moved(x: Tensor, velocity: int) -> Tensor:
    """A sequence (T, ..., S) with entry t shifted by t * velocity sites."""
    return torch.stack([a.roll(t * velocity, -1) for t, a in enumerate(x)])


def lift_error(p: dict, fastest: int, frames: Tensor, flow: int) -> float:
    """The relative violation of the lift law by one network, for frames (T, S).

    `flow` is the velocity w at which the frames are set in motion. All channels v are
    compared for which v - w is in V, too; a network with V = {0} has one channel, which
    is compared with itself. Raises ValueError where V has no such pair of channels.
    """
    still = [v for v in range(-fastest, fastest + 1) if abs(v + flow) <= fastest]
    if fastest and not still:
        raise ValueError(
            f"no two velocities up to {fastest} differ by {flow}: ask for a flow of at "
            f"most {2 * fastest}"
        )

    def channels(x):
        """The channels that move with the input, x: frames and their velocity."""
        at = [v + x[1] + fastest for v in still] if fastest else [0]
        return hidden_states(p, fastest, x[0])[:, :, at]

    def on_input(w):
        return lambda x: (moved(x[0], w), x[1] + w)

    def on_states(w):
        return lambda h: moved(h, w)

    flows, shifts = (Action((g(flow),), (g(-flow),)) for g in (on_input, on_states))
    return equivariance_error(channels, (frames, 0), flows, shifts)
