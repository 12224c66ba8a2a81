"""At a symmetric solution the Hessian has blocks, and decay decides across the mirror.

Reference: Liu Ziyin, "Symmetry Induces Structure and Constraint of Learning", ICML 2024
(arXiv 2309.16932), figure 2 and theorem 1, part 2. The two pictures are the paper's: a
block diagonal Hessian, and the loss along the distance s from a mirror when the signal
is stronger than, equal to or weaker than the regularisation. Network, data, controls
and all that is measured are ours:

  tanh network 5-6-2 on data of a tanh teacher of its size, mean squared error. Mirrors:
  neurons 0, 1 are equal, and neurons 2, 3 are. The symmetric solution theta_c is the
  minimum of the loss, with a small decay, restricted to both mirrors (scipy).

Let h < 0 be the lowest eigenvalue of the Hessian in the mirrors' blocks, the signal,
and d its direction. As d is orthogonal to theta_c, decay adds (weight_decay/2) s^2 to
the loss along theta_c + s d: the curvature h + weight_decay changes sign at
weight_decay = -h, and two minima at s = +-sqrt(6 (-h - weight_decay)/q), q the fourth
derivative, merge to one. weight_decay is PyTorch's, twice the paper's gamma.

The last panel asks the whole space: decay on the mirror coordinates O^T theta alone
(theta_c stays the restricted minimum at any strength) and L-BFGS over all parameters
from theta_c + .01 d. It returns to the mirror above -h and leaves it below.

Expected: entries outside the blocks about 1e-16 of the largest inside on the mirror,
tenths at a random point, and on the mirror if an unequal quadratic term is added.
Cost on one core: smoke 6 s, quick 40 s, paper 3 min.
"""

from dataclasses import dataclass

import numpy as np

from symlab.harness import Claim, figure, grid, plot, rng, stats

INPUTS, HIDDEN, OUTPUTS = 5, 6, 2
SHAPES = {
    "w": (HIDDEN, INPUTS),
    "b": (HIDDEN,),
    "a": (OUTPUTS, HIDDEN),
    "c": (OUTPUTS,),
}
UNITS = {"w": 0, "b": 0, "a": 1}  # the hidden index
PAIRS = ((0, 1), (2, 3))  # neurons that the mirrors make equal
KICK = 0.01  # distance from the mirror at which the search of the whole space starts
RATIOS = (0.25, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5, 2.0)  # of the decay to -h
WELLS = (0.5, 1.0, 2.0)  # of these the loss along s is kept
REACH = 3.0  # s of the loss along d


@dataclass(frozen=True)
class Config:
    samples: int = 200
    """Training samples."""
    noise: float = 0.1
    """Standard deviation of the label noise."""
    weight_decay: float = 1e-3
    """PyTorch's, on all parameters: it makes the restricted minimum well defined."""
    bias: float = 0.1
    """Standard deviation of the random coefficients b of the quadratic term
    sum b theta^2 that breaks the symmetry (the control)."""
    seed: int = 0
    """Teacher, data, start of the search, random point and quadratic term."""


def sweep(scale: str) -> list[Config]:
    return grid(Config, seed=range({"smoke": 2, "quick": 16, "paper": 64}[scale]))


def run(configs: list[Config]) -> list[dict]:
    return [_run(c) for c in configs]


def _run(c: Config) -> dict:
    import torch

    loss, random = problem(c)
    mirrors = mirrors_of(random)
    theta = symmetric_solution(c, loss, random, mirrors)
    hessians = _hessians(c, loss, theta, random, mirrors)
    h, d = signal(loss, theta, mirrors)
    full = torch.func.grad(lambda t: loss(unpack(t)))(theta) + c.weight_decay * theta
    across = _basis(mirrors).T @ full
    row = {"h": h, "gradient": float(full.norm()), "across": float(across.abs().max())}
    return row | hessians | _along(loss, theta, h, d) | _search(c, loss, theta, h, d)


# --- network and its symmetric solution ----------------------------------------------


def unpack(theta) -> dict:
    """The parameter dict of a vector (P,)."""
    parts = theta.split([int(np.prod(s)) for s in SHAPES.values()])
    return {n: p.view(s) for (n, s), p in zip(SHAPES.items(), parts, strict=True)}


def network(p, x):
    """tanh(x w^T + b) a^T + c, (N, OUTPUTS)."""
    return (x @ p["w"].T + p["b"]).tanh() @ p["a"].T + p["c"]


def problem(c: Config):
    """(the loss of a parameter dict, a random point of the size of the teacher)."""
    import torch

    data = rng.stream(c.seed, "data")
    x = torch.from_numpy(data.normal(size=(c.samples, INPUTS)))
    eps = torch.from_numpy(data.normal(size=(c.samples, OUTPUTS)))
    y = network(_drawn(c, "teacher"), x) + c.noise * eps

    def loss(p):
        return (network(p, x) - y).square().mean()

    return loss, _drawn(c, "point")


def _drawn(c: Config, name: str) -> dict:
    """Weights of a generic network whose neurons are far from linear."""
    import torch

    draws = rng.stream(c.seed, name)
    spread = {"w": 1.5 / np.sqrt(INPUTS), "b": 0.5, "a": 1.0, "c": 0.5}
    return {
        n: torch.from_numpy(draws.normal(size=s) * spread[n]) for n, s in SHAPES.items()
    }


def mirrors_of(params) -> list:
    from symlab import mirror

    return [mirror.permutation(params, UNITS, i, j) for i, j in PAIRS]


def _basis(mirrors):
    """O of all mirrors over all parameters (P, k); SHAPES orders both."""
    import torch

    rest = int(np.prod(SHAPES["c"]))  # the only one that no mirror touches
    rows = torch.cat([m.matrix() for m in mirrors], 1)
    return torch.cat([rows, rows.new_zeros(rest, rows.shape[1])])


def symmetric_solution(c: Config, loss, start, mirrors):
    """theta_c (P,): the minimum of loss + decay on all mirrors, from `start`.

    L-BFGS finds the basin and Newton steps in a trust region (scipy) go to rounding.
    """
    import torch
    from scipy.optimize import minimize

    o = _basis(mirrors)
    eye = torch.eye(len(o), dtype=o.dtype)
    within = torch.linalg.qr(torch.cat([o, eye], 1))[0][:, o.shape[1] : len(o)]
    flat = torch.cat([p.reshape(-1) for p in start.values()])

    def objective(z):
        return loss(unpack(within @ z)) + c.weight_decay / 2 * z.square().sum()

    first, hessian = _for_scipy(objective), torch.func.hessian(objective)
    z = (within.T @ flat).numpy()
    rough = {"gtol": 1e-6, "ftol": 1e-15, "maxiter": 20_000, "maxfun": 20_000}
    z = minimize(first, z, jac=True, method="L-BFGS-B", options=rough).x
    fine = {"gtol": 1e-10, "maxiter": 300}

    def second(z):
        return hessian(torch.from_numpy(z)).numpy()

    z = minimize(first, z, jac=True, hess=second, method="trust-exact", options=fine).x
    theta = unpack(within @ torch.from_numpy(z))
    for m in mirrors:
        theta = m.project(theta)  # off by rounding of the basis only
    return torch.cat([p.reshape(-1) for p in theta.values()])


def _for_scipy(objective):
    """value and gradient, as numpy."""
    import torch

    def call(z):
        at = torch.from_numpy(z).requires_grad_()
        value = objective(at)
        (gradient,) = torch.autograd.grad(value, at)
        return float(value.detach()), gradient.numpy()

    return call


def signal(loss, theta, mirrors):
    """(h, d): lowest eigenvalue over the mirrors' blocks of the Hessian, its vector."""
    import torch

    from symlab import mirror

    matrix = mirror.blocks(loss, unpack(theta), mirrors).matrix
    found, begin = [], 0
    for m in mirrors:
        block = matrix[begin : begin + m.k, begin : begin + m.k]
        values, vectors = torch.linalg.eigh(block)
        across = _basis(mirrors)[:, begin : begin + m.k]
        found.append((float(values[0]), across @ vectors[:, 0]))
        begin += m.k
    return min(found, key=lambda pair: pair[0])


# --- what is measured ----------------------------------------------------------------


def _hessians(c: Config, loss, theta, random, mirrors) -> dict:
    """Off-block entries on the mirror, at a random point, and with broken symmetry."""
    import torch

    from symlab import mirror

    draws = rng.stream(c.seed, "bias")
    bias = {n: torch.from_numpy(c.bias * draws.normal(size=SHAPES[n])) for n in SHAPES}

    def broken(p):
        return loss(p) + sum((bias[n] * p[n].square()).sum() for n in p)

    on = mirror.blocks(loss, unpack(theta), mirrors)
    off = mirror.blocks(loss, random, mirrors)
    return {
        "off_block": on.off_block,
        "off_block_random": off.off_block,
        "off_block_broken": mirror.blocks(broken, unpack(theta), mirrors).off_block,
        "sizes": list(on.sizes),
        "hessian": on.matrix.reshape(-1).numpy(),
        "hessian_random": off.matrix.reshape(-1).numpy(),
    }


def _along(loss, theta, h: float, d) -> dict:
    """The loss on the line theta_c + s d: derivatives at 0, minima against decay."""
    import torch

    def at(s):
        return loss(unpack(theta + s * d))

    derivative, zero = at, torch.zeros((), dtype=theta.dtype)
    for _ in range(4):
        derivative = torch.func.grad(derivative)
    fourth = float(derivative(zero))
    s = torch.linspace(-REACH, REACH, 3001, dtype=theta.dtype)
    line = torch.func.vmap(at)(s).numpy() - float(at(zero))
    step = 1e-3
    low, high = (float(at(zero + x)) for x in (-step, step))
    s = s.numpy()
    kept = slice(None, None, 20)
    return {
        "fourth": fourth,
        "s": s[kept],
        "line": line[kept],
        "uneven": float(np.abs(line - line[::-1]).max()),
        "curvature": (low + high - 2 * float(at(zero))) / step**2,
        "ratios": np.array(RATIOS),
        "minima": np.array([len(minima(s, line, -h * r)) for r in RATIOS]),
        "wells": np.array([np.abs(minima(s, line, -h * r)).max() for r in RATIOS]),
        "critical_ratio": _merging(s, line, -h),
    }


def minima(s, line, weight_decay: float) -> np.ndarray:
    """Places of the inner local minima of line + (weight_decay/2) s^2 on the grid."""
    y = line + weight_decay / 2 * s**2
    lower = (y[1:-1] < y[:-2]) & (y[1:-1] <= y[2:])
    return s[1:-1][lower]


def _merging(s, line, critical: float) -> float:
    """The decay, relative to `critical`, from which on there is one minimum only."""
    low, high = 0.2, 5.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        if len(minima(s, line, middle * critical)) > 1:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _search(c: Config, loss, theta, h: float, d) -> dict:
    """Distance from the mirrors where L-BFGS over all parameters ends, for RATIOS."""
    import torch
    from scipy.optimize import minimize

    o = _basis(mirrors_of(unpack(theta)))
    start = (theta + KICK * d).numpy()
    ends = []
    for ratio in RATIOS:
        # c.weight_decay acts on everything, the rest on the mirror coordinates only
        extra = -h * ratio - c.weight_decay

        def objective(t, extra=extra):
            decay = c.weight_decay * t.square().sum() + extra * (o.T @ t).square().sum()
            return loss(unpack(t)) + decay / 2

        end = minimize(
            _for_scipy(objective),
            start,
            jac=True,
            method="L-BFGS-B",
            options={"gtol": 1e-8, "ftol": 1e-16, "maxiter": 3000, "maxfun": 3000},
        ).x
        ends.append(float((o.T @ torch.from_numpy(end)).norm()))
    return {"distance": np.array(ends)}


# --- figure --------------------------------------------------------------------------


def _show(ax, row, column: str):
    """log10 of |Hessian|, relative to its largest entry, with the blocks outlined."""
    size = sum(row["sizes"])
    matrix = np.abs(np.array(row[column])).reshape(size, size)
    shown = ax.imshow(
        np.log10(np.maximum(matrix / matrix.max(), 1e-30)),
        cmap="magma_r",
        vmin=-6,
        vmax=0,
        interpolation="nearest",
        rasterized=True,
    )
    for edge in np.cumsum(row["sizes"])[:-1]:
        ax.axhline(edge - 0.5, color=plot.BLUE, lw=0.7, ls="--")
        ax.axvline(edge - 0.5, color=plot.BLUE, lw=0.7, ls="--")
    edges = np.r_[0, np.cumsum(row["sizes"])]
    names = ["$O_1$", "$O_2$", "$\\ker O^T$"]
    ax.set_xticks((edges[1:] + edges[:-1]) / 2 - 0.5, names)
    ax.set_yticks((edges[1:] + edges[:-1]) / 2 - 0.5, names, rotation=90, va="center")
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set(visible=True)
    return shown


@figure("fig2", panel="left")
def draw_symmetric(df, ax):
    _show(ax, df.sort_values("seed").iloc[0], "hessian")
    ax.set_xlabel("Hessian at the symmetric solution")


@figure("fig2", panel="mid")
def draw_random(df, ax):
    shown = _show(ax, df.sort_values("seed").iloc[0], "hessian_random")
    ax.set_xlabel("Hessian at a random point")
    bar = ax.figure.colorbar(shown, ax=ax, fraction=0.05, pad=0.03)
    bar.set_ticks([-6, -4, -2, 0], labels=["$10^{-6}$", "$10^{-4}$", ".01", "1"])
    bar.set_label("|entry|, relative to the largest", labelpad=1)
    bar.outline.set_linewidth(0.4)


@figure("fig2", panel="right")
def draw_wells(df, ax):
    row = df.sort_values("seed").iloc[0]
    s, line = np.array(row.s), np.array(row.line)
    well = np.sqrt(-6 * row.h / row.fourth)  # without decay, to fourth order
    depth = -row.h * well**2 / 4
    names = ("signal > decay", "signal = decay", "signal < decay")
    colors, markers = (plot.BLUE, plot.GREEN, plot.ORANGE), "o^s"
    for ratio, name, color, marker in zip(WELLS, names, colors, markers, strict=True):
        y = line - row.h * ratio * s**2 / 2
        style = {"marker": marker, "markevery": 3, "ms": 3}
        ax.plot(s / well, y / depth, color=color, label=name, **style)
        x = np.linspace(-1.3, 1.3, 101)
        quartic = row.h * (1 - ratio) * (x * well) ** 2 / 2
        quartic = quartic + row.fourth * (x * well) ** 4 / 24
        plot.theory(ax, x, quartic / depth, label="_" if ratio < 2 else "4th order")
    ax.set(xlim=(-1.7, 1.7), ylim=(-0.5, 4.8))
    ax.set(xlabel="distance $s$ from the mirror, scaled")
    ax.set(ylabel="loss above that on the mirror, scaled")
    ax.legend(loc="upper center")


@figure("fig2", panel="left", row=1)
def draw_off_block(df, ax):
    columns = ("off_block", "off_block_broken", "off_block_random")
    colors, markers = (plot.BLUE, plot.GREEN, plot.ORANGE), "o^s"
    for i, (name, color, marker) in enumerate(
        zip(columns, colors, markers, strict=True)
    ):
        beside = i + np.linspace(-0.22, 0.22, len(df))
        ax.plot(beside, df[name], marker, color=color, ms=3)
    ax.set(yscale="log", ylim=(1e-17, 10), xlim=(-0.5, 2.5), xticks=range(3))
    ax.set_xticklabels(["symmetric\nsolution", "symmetry\nbroken", "random\npoint"])
    ax.set(ylabel="largest entry off the blocks")


@figure("fig2", panel="mid", row=1)
def draw_pitchfork(df, ax):
    """Seeds fall onto one curve: wells in units of sqrt(6 |h|/q)."""
    for i, row in enumerate(df.itertuples()):
        x = np.array(row.ratios)
        y = np.array(row.wells) / np.sqrt(-6 * row.h / row.fourth)
        style = {"color": plot.BLUE, "ms": 2.6, "alpha": 0.6, "lw": 0}
        ax.plot(x, y, "o", label="_" if i else "minima", **style)
        ax.plot(x, -y, "o", **style)
    r = np.linspace(0, 1, 200)
    plot.theory(ax, np.r_[r, 2.1], np.r_[np.sqrt(1 - r), 0], label="$\\sqrt{1-r}$")
    plot.theory(ax, r, -np.sqrt(1 - r), label="_")
    ax.set(xlabel="decay / signal $r$", ylabel="minima along $s$, scaled")
    ax.legend(loc="upper right")


@figure("fig2", panel="right", row=1)
def draw_search(df, ax):
    for i, row in enumerate(df.itertuples()):
        style = {"color": plot.BLUE, "ms": 2.6, "lw": 0.5, "alpha": 0.6}
        ax.plot(row.ratios, row.distance, "-o", label="_" if i else "end", **style)
    ax.axhline(KICK, color="0.6", lw=0.8, ls=":", label="start")
    plot.theory(ax, [1, 1], [1e-9, 0.5], label="signal = decay")
    ax.set(yscale="log", ylim=(1e-9, 1e3), xlabel="decay of $O^T\\theta$ / signal")
    ax.set(ylabel="distance $|O^T\\theta|$ after L-BFGS")
    ax.legend(loc="upper right")


# --- claims --------------------------------------------------------------------------


def _worst(column: str, largest: bool = True):
    return lambda df: stats.worst(df[column], largest)


def _miscounted(df):
    """Runs with another number of minima than two below and one above -h."""
    expected = np.where(np.array(RATIOS) < 1, 2, 1)
    return stats.worst([np.abs(np.array(m) - expected).max() for m in df.minima])


def _ends(above: bool):
    """The distance after the search, in units of that at its start."""
    side = (np.array(RATIOS) > 1) == above

    def estimate(df):
        ends = [np.array(d)[side] / KICK for d in df.distance]
        return stats.worst([e.max() if above else e.min() for e in ends], above)

    return estimate


PAPER = "Ziyin 2024, figure 2 and theorem 1"
CLAIMS = [
    Claim(
        "blocks_on_the_mirror",
        "At the symmetric solution the Hessian is block diagonal: two mirrors, three "
        "blocks.",
        PAPER,
        _worst("off_block"),
        below=1e-12,
        reason="relative to the largest entry: a Hessian of 200 samples and a change "
        "of basis of 50 are thousands of roundings of 1e-16",
    ),
    Claim(
        "no_blocks_at_random",
        "At a random point it is not.",
        "ours; the control",
        _worst("off_block_random", largest=False),
        above=1e-3,
        reason="a thousandth of the largest entry is far above rounding, in every run",
    ),
    Claim(
        "no_blocks_if_broken",
        "With an unequal quadratic term added the same point has no blocks.",
        "ours; the control",
        _worst("off_block_broken", largest=False),
        above=1e-3,
        reason="as above",
    ),
    Claim(
        "restricted_minimum_is_stationary",
        "The gradient across the mirrors vanishes at the minimum on them.",
        PAPER,
        _worst("across"),
        below=1e-13,
        reason="no search went across it; a thousand roundings of 1e-16",
    ),
    Claim(
        "signal_exists",
        "The symmetric solution is unstable without decay in every run.",
        "ours; a teacher of six neurons, a student of four different ones",
        _worst("h"),
        below=0.0,
        reason="else there were no transition to speak of; a prototype of 8 runs at "
        "other sizes of the weights had it in all",
    ),
    Claim(
        "even_in_s",
        "The loss along d is even in s.",
        PAPER,
        _worst("uneven"),
        below=1e-12,
        reason="losses of size 1, s up to 3: a thousand roundings",
    ),
    Claim(
        "curvature_is_h",
        "The curvature of the loss along d is the eigenvalue.",
        "ours; second difference of the loss against the Hessian",
        lambda df: stats.worst((df.curvature - df.h).abs()),
        below=1e-5,
        reason="a step of .001 errs by 1e-6 q/12, and rounding by 1e-10",
    ),
    Claim(
        "two_minima_become_one",
        "Below weight_decay = -h the loss has two minima along s, above it one.",
        PAPER,
        _miscounted,
        below=0.5,
        reason="no run at no decay may differ, from .9 to 1.1 of -h",
    ),
    Claim(
        "minima_merge_at_h",
        "The two minima merge at weight_decay = -h.",
        "ours; h from the Hessian, the minima from the loss",
        lambda df: stats.worst((df.critical_ratio - 1).abs()),
        below=0.01,
        reason="the grid of s has a step of .002, and h is a few hundredths: minima "
        "so near are told apart from about .001 below",
    ),
    Claim(
        "search_leaves_below",
        "With less decay than the signal L-BFGS from .01 off the mirror ends farther.",
        "ours; L-BFGS over all parameters (scipy)",
        _ends(above=False),
        above=1.0,
        reason="farther from the mirror than it started",
    ),
    Claim(
        "search_returns_above",
        "With more decay than the signal it returns to the mirror.",
        "ours; L-BFGS over all parameters (scipy)",
        _ends(above=True),
        below=0.01,
        reason="a hundredth of the start; the solver stops at gradients of 1e-8, which "
        "at 1.1 of a signal of .01 is 1e-5",
    ),
]
