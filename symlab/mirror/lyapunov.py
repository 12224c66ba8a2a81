"""Lyapunov exponents of SGD near a mirror: whether SGD converges to the mirror.

Near a mirror (a surface of symmetric weights), the distance s from it along a direction
in which a sample x has curvature h(x) obeys s <- (1 - lr (h(x) + weight_decay)) s, so
|s| vanishes if and only if
    Lambda = E_x log|1 - lr (h(x) + weight_decay)| < 0.
Source: Ziyin 2024, section on SGD near the mirror; Ziyin et al., arXiv 2303.13093.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def exponent(h: Tensor, lr: float, weight_decay: float = 0.0) -> float:
    """Return the Lyapunov exponent per step, mean of log|1 - lr (h + weight_decay)|.

    h: (N,), the curvatures of N samples' losses along one direction that leads away
        from the mirror, a surface of symmetric weights.
    lr, weight_decay: the settings of SGD.

    The result is exact in lr. If it is negative, SGD with batch size 1 converges to the
    mirror along this direction.
    """
    return float(torch.log((1 - lr * (h.double() + weight_decay)).abs()).mean())


def second_order(h: Tensor, lr: float, weight_decay: float = 0.0) -> float:
    """Return the Lyapunov exponent to second order in lr: -lr E[h'] - lr^2 E[h'^2]/2.

    h: (N,), the curvatures of N samples' losses along a direction that leads away from
        the mirror; h' = h + weight_decay.

    The result is a good approximation of `exponent` for small lr only.
    """
    h = h.double() + weight_decay
    return float(-lr * h.mean() - lr**2 / 2 * h.square().mean())


def critical_lr(h: Tensor, weight_decay: float = 0.0) -> float:
    """Return the learning rate above which SGD converges to the mirror.

    h: (N,), the curvatures of N samples' losses along a direction that leads away from
        the mirror, a surface of symmetric weights; h' = h + weight_decay.

    To second order in the rate it is -2 E[h']/E[h'^2], and 0 if E[h'] >= 0: SGD then
    converges to the mirror at every small rate.
    """
    h = h.double() + weight_decay
    return max(0.0, float(-2 * h.mean() / h.square().mean()))


def spectrum(
    step: Callable[[Tensor, Tensor], Tensor],
    theta: Tensor,
    inputs: Iterable[Tensor],
    k: int,
    every: int = 1,
) -> tuple[Tensor, Tensor]:
    """Return the k largest Lyapunov exponents (k,) per step, and the last state.

    step: step(theta, x) -> theta', one update of the state theta (P,).
    theta: the state at the start. inputs: the random input x of each step.
    every: the number of steps between two orthonormalisations.

    k orthonormal tangent directions are propagated by forward-mode derivatives and
    orthonormalised by QR decompositions (Benettin et al. 1980). Raises ValueError if k
    is not in 1 to P, or there is no input.
    """
    if not 1 <= k <= theta.numel():
        raise ValueError(f"k is {k}: ask for 1 to {theta.numel()} exponents")
    draws = torch.Generator().manual_seed(0)
    tangent = torch.randn(theta.numel(), k, generator=draws, dtype=theta.dtype)
    tangent, _ = torch.linalg.qr(tangent)
    sums, n = torch.zeros(k, dtype=torch.float64), 0
    for n, x in enumerate(inputs, 1):  # noqa: B007

        def push(v, at=theta, x=x):
            return torch.func.jvp(lambda t: step(t, x), (at,), (v,))[1]

        tangent = torch.vmap(push, in_dims=1, out_dims=1)(tangent)
        theta = step(theta, x)
        if n % every == 0:
            tangent, r = torch.linalg.qr(tangent)
            sums += r.diagonal().abs().double().log()
    if n % every:
        _, r = torch.linalg.qr(tangent)
        sums += r.diagonal().abs().double().log()
    if n == 0:
        raise ValueError("there is no input to run on: give at least one")
    return sums / n, theta
