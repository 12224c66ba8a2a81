"""Flow-equivariant recurrent networks on a ring, many side by side in one program.

T. Anderson Keller, "Flow Equivariant Recurrent Neural Networks" (arXiv 2507.14793). The
hidden state has a channel for each velocity v of a set V = {-m..m}; channels share
their kernels, and each is shifted by its velocity at each step:

    h_{t+1}(v) = tanh(W * T_v h_t(v) + U * f_t)

T_v is the shift by v sites, and * the circular convolution. If the frames f_t become
T_{t w} f_t, then h_t(v) becomes T_{t w} h_t(v - w) wherever v and v - w are in V. The
next frame is decoded from the maximum over v of T_v h(v). This shift is our addition:
each channel predicts the next frame in its own moving frame of reference.

Axes: L networks side by side, channels C, velocities V, sequences N, sites S, time T. A
    network is {name: kernels (L, out, in, K)}: 'cell' holds W and, as its last input,
    U; 'hidden' and 'out' are the decoder.
"""

import numpy as np
import torch
from torch import Tensor

from symlab.actions import Action, equivariance_error

# --- patterns in motion ---------------------------------------------------------------


def patterns(draws: np.random.Generator, n: int, sites: int, modes: int) -> np.ndarray:
    """Return n random patterns (n, sites) of variance 1 on a ring of sites.

    modes: the largest number of periods around the ring; a pattern is a sum of cosines
        and sines of 1 to `modes` periods.
    """
    angle = 2 * np.pi * np.outer(np.arange(1, modes + 1), np.arange(sites)) / sites
    waves = np.concatenate([np.cos(angle), np.sin(angle)]) / np.sqrt(modes)
    return draws.normal(size=(n, 2 * modes)) @ waves


def videos(still: np.ndarray, velocity, frames: int) -> np.ndarray:
    """Return patterns in uniform motion around a ring, (n, frames, S).

    still: the patterns (n, S). velocity: sites per frame, integers (n,) or one for all.
    """
    n_sites = still.shape[-1]
    time, site = np.arange(frames)[:, None], np.arange(n_sites)
    at = (site - np.reshape(velocity, (-1, 1, 1)) * time) % n_sites
    return np.take_along_axis(still[:, None], at, 2)


# --- networks -------------------------------------------------------------------------


def initial(draws: np.random.Generator, channels: int, width: int) -> dict:
    """Return random kernels {name: (out, in, width)} of one network, in float64.

    draws: the source of random numbers.
    channels: C, the number of channels of the hidden state.
    width: the width of each kernel, in sites.

    Entries are normal with a variance of one over the number of inputs. The kernels
    'cell', 'hidden' and 'out' are described in the module.
    """
    n = channels
    shapes = {"cell": (n, n + 1), "hidden": (n, n), "out": (1, n)}
    drawn = {k: draws.normal(size=(*s, width)) for k, s in shapes.items()}
    for kernel in drawn.values():
        kernel /= np.sqrt(n * width)
    drawn["cell"][:, n] *= np.sqrt(n)  # U has one input
    return {k: torch.from_numpy(kernel) for k, kernel in drawn.items()}


def convolved(x: Tensor, kernel: Tensor) -> Tensor:
    """Return the circular convolution of x with kernels, (L, C', ..., S).

    x: (L, C, ..., S), C channels on a ring of S sites, for each of L networks.
    kernel: (L, C', C, K), of K sites, from C to C' channels.
    """
    width = kernel.shape[-1]
    shifted = [x.roll(width // 2 - k, -1) for k in range(width)]
    rows = torch.stack(shifted, 2).flatten(3).flatten(1, 2)  # (L, C*K, ...*S)
    return torch.bmm(kernel.flatten(2), rows).view(len(x), -1, *x.shape[2:])


def flowed(h: Tensor) -> Tensor:
    """Return T_v h(v): each channel of the hidden state, shifted by its velocity v in
    sites.

    h: (L, C, 2m+1, N, S): L networks, C channels for each velocity v = -m..m, N
        sequences, S sites of the ring.
    """
    fastest = h.shape[2] // 2
    moving = [x.roll(v - fastest, -1) for v, x in enumerate(h.unbind(2))]
    return torch.stack(moving, 2)


def step(p: dict, h: Tensor, frame: Tensor) -> Tensor:
    """Return the hidden state (L, C, V, N, S) of L networks after they have seen a
    frame.

    p: kernels by name, with a leading axis L.
    h: the hidden state before: C channels for each of V velocities, N sequences, S
        sites of the ring.
    frame: (L, N, S).
    """
    told = frame[:, None, None].expand(-1, -1, h.shape[2], -1, -1)
    return convolved(torch.cat([flowed(h), told], 1), p["cell"]).tanh()


def decoded(p: dict, h: Tensor) -> Tensor:
    """Return the next frame (L, N, S) that L networks predict from a hidden state.

    p: kernels by name, with a leading axis L.
    h: (L, C, V, N, S): C channels for each of V velocities, N sequences, S sites of the
        ring.
    """
    ahead = flowed(h).amax(2)
    return convolved(convolved(ahead, p["hidden"]).tanh(), p["out"])[:, 0]


def rest(p: dict, frame: Tensor, fastest: int) -> Tensor:
    """Return the initial hidden state of L networks, zeros (L, C, 2*fastest+1, N, S).

    p: kernels by name, from which the number C of channels is read.
    frame: any frame (L, N, S) of N sequences on a ring of S sites, from which these
        sizes are read.
    fastest: m, the largest velocity of a channel, in sites per frame.
    """
    n_lanes, n, sites = frame.shape
    return frame.new_zeros(n_lanes, p["cell"].shape[1], 2 * fastest + 1, n, sites)


def continued(p: dict, fastest: int, frames: Tensor, n: int) -> Tensor:
    """Return the n frames (n, L, N, S) that L networks predict after a sequence.

    p: kernels by name, with a leading axis L.
    fastest: m, the largest velocity of a channel, in sites per frame; 0 for an ordinary
        network.
    frames: the sequences, (T, L, N, S): T frames of N sequences on a ring of S sites.

    From the second prediction on, networks see their own predictions, without a
    gradient through them, as in the author's code.
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
    """Return the hidden states (T, C, V, S) of one network, C channels for each of V
    velocities, after each of T frames (T, S) on a ring of S sites.

    p, fastest: as for `continued`, with L = 1.
    """
    h, states = rest(p, frames[0, None, None], fastest), []
    for frame in frames:
        h = step(p, h, frame[None, None])
        states.append(h[0, :, :, 0])
    return torch.stack(states)


def moved(x: Tensor, velocity: int) -> Tensor:
    """Return a sequence (T, ..., S) on a ring of S sites, with entry t shifted by t *
    velocity sites.
    """
    return torch.stack([a.roll(t * velocity, -1) for t, a in enumerate(x)])


def lift_error(p: dict, fastest: int, frames: Tensor, flow: int) -> float:
    """Return the relative error with which one network violates flow equivariance.

    p, fastest: as for `continued`, with L = 1.
    frames: (T, S).
    flow: the velocity w, in sites per frame, at which the frames are set in motion.

    Flow equivariance: if each frame t is shifted by t w sites, the hidden state of
    velocity v becomes that of velocity v - w, shifted by t w sites. The two are
    compared for all v for which v and v - w are velocities of the network. A network
    with the single velocity 0 is compared with itself. Raises ValueError if the network
    has no such pair of velocities.
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
