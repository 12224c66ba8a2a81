"""At a symmetric solution the Hessian has blocks, and decay decides across the mirror.

Reference: Liu Ziyin, "Symmetry Induces Structure and Constraint of Learning", ICML 2024
(arXiv 2309.16932), figure 2 and theorem 1, part 2. The two pictures are the paper's: a
block diagonal Hessian, and the loss along the distance s from a mirror when the signal
is stronger than, equal to or weaker than the regularisation. The network, the data, the
controls and all that is measured are ours:

  tanh network 5-6-2 on data of a tanh teacher of its size, mean squared error. Mirrors:
  neurons 0, 1 are equal, and neurons 2, 3 are. The symmetric solution theta_c is the
  minimum of the loss, with a small decay, restricted to both mirrors (scipy).

Let h < 0 be the lowest eigenvalue of the Hessian in the mirrors' blocks and d its
direction; -h is the signal. As d is orthogonal to theta_c, decay adds
(weight_decay/2) s^2 to the loss along theta_c + s d: the curvature h + weight_decay
changes sign at weight_decay = -h, and two minima at s = +-sqrt(6 (-h - weight_decay)/q)
merge to one, with q the fourth derivative. weight_decay is PyTorch's, twice the
paper's gamma.

The last panel searches the whole space: decay acts on the mirror coordinates O^T theta
alone (theta_c stays the restricted minimum at any strength), and L-BFGS over all
parameters starts from theta_c + 0.01 d. It returns to the mirror above -h and leaves it
below.

Expected: entries outside the blocks are about 1e-16 of the largest inside on the
mirror, and tenths of it at a random point, or on the mirror if an unequal quadratic
term is added.
Cost on one core: smoke 6 s, quick 40 s, paper 3 min.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from symlab.harness import Arm, Claim, figure, grid, named, panels, plot, rng, where
from symlab.papers import ZIYIN

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
    """Return the row of one config: find the symmetric solution and measure it.

    Columns:
        h: lowest eigenvalue of the Hessian of the loss, without decay, in the blocks
            across the two mirrors at the symmetric solution; -h is the signal, the
            weight decay at which the curvature changes sign
        gradient: norm of the gradient of the loss plus weight decay, over all
            parameters, at the symmetric solution
        across: largest absolute component across the mirrors of the gradient in the
            column gradient
    """
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
    """Return the network's parameters as {name: tensor}, views of a vector theta (P,)
    that holds them in the order of SHAPES.
    """
    parts = theta.split([int(np.prod(s)) for s in SHAPES.values()])
    return {n: p.view(s) for (n, s), p in zip(SHAPES.items(), parts, strict=True)}


def network(p, x):
    """Return the outputs tanh(x w^T + b) a^T + c, (N, OUTPUTS), of the network at
    inputs x (N, INPUTS). p: its parameters w, b, a and c by name.
    """
    return (x @ p["w"].T + p["b"]).tanh() @ p["a"].T + p["c"]


def problem(c: Config):
    """Return the loss, as a function of the parameters by name, and random parameters
    from the distribution of the teacher's.
    """
    import torch

    data = rng.stream(c.seed, "data")
    x = torch.from_numpy(data.normal(size=(c.samples, INPUTS)))
    eps = torch.from_numpy(data.normal(size=(c.samples, OUTPUTS)))
    y = network(_drawn(c, "teacher"), x) + c.noise * eps

    def loss(p):
        return (network(p, x) - y).square().mean()

    return loss, _drawn(c, "point")


def _drawn(c: Config, name: str) -> dict:
    """Return weights of a generic network whose neurons are far from linear."""
    import torch

    draws = rng.stream(c.seed, name)
    spread = {"w": 1.5 / np.sqrt(INPUTS), "b": 0.5, "a": 1.0, "c": 0.5}
    return {
        n: torch.from_numpy(draws.normal(size=s) * spread[n]) for n, s in SHAPES.items()
    }


def mirrors_of(params) -> list:
    """Return, for each pair of hidden neurons in PAIRS, the symmetry that exchanges
    them, a `MirrorSymmetry`. params: the network's parameters by name.
    """
    from symlab import mirror

    return [mirror.permutation(params, UNITS, i, j) for i, j in PAIRS]


def _basis(mirrors):
    """Return O of all mirrors (P, k), over all parameters in the order of SHAPES."""
    import torch

    rest = int(np.prod(SHAPES["c"]))  # the only one that no mirror touches
    rows = torch.cat([m.matrix() for m in mirrors], 1)
    return torch.cat([rows, rows.new_zeros(rest, rows.shape[1])])


def symmetric_solution(c: Config, loss, start, mirrors):
    """Return theta_c (P,), the weights at the minimum of the loss plus weight decay
    among all weights that lie on every mirror. start: the parameters, by name, at which
    the search begins.

    L-BFGS finds the basin; Newton steps in a trust region (scipy) reach rounding.
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
        theta = m.project(theta)  # it was off by the rounding of the basis
    return torch.cat([p.reshape(-1) for p in theta.values()])


def _for_scipy(objective):
    """Return a function of a numpy vector that gives the value and the gradient."""
    import torch

    def call(z):
        at = torch.from_numpy(z).requires_grad_()
        value = objective(at)
        (gradient,) = torch.autograd.grad(value, at)
        return float(value.detach()), gradient.numpy()

    return call


def signal(loss, theta, mirrors):
    """Return (h, d): the lowest eigenvalue of the blocks of the loss's Hessian across
    the mirrors, and its eigenvector (P,). theta: the weights (P,) at which the Hessian
    is taken.
    """
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
    """Return off-block entries: on the mirror, at random, with broken symmetry.

    Columns:
        off_block: largest absolute entry of the Hessian outside its diagonal blocks
            over the largest inside, in the basis of the mirrors, at the symmetric
            solution
        off_block_random: as off_block, but at random weights
        off_block_broken: as off_block, at the symmetric solution, but with a random
            quadratic term in the loss that breaks the symmetry
        sizes: (3,), number of directions in each block: across the first mirror, across
            the second, and the rest
        hessian: (2500,), Hessian of the loss at the symmetric solution, in the basis of
            the mirrors with the order of sizes: a matrix (50, 50), row by row
        hessian_random: (2500,), as hessian, but at random weights
    """
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
    """Return the loss on theta_c + s d: derivatives at 0, minima against decay.

    Columns:
        fourth: fourth derivative of the loss along d at the symmetric solution theta_c,
            where d is the eigenvector of the eigenvalue h
        s: (151,), distances from the mirror along d, from -3 to 3
        line: (151,), loss at theta_c + s d minus that at theta_c, at the distances of
            s, without decay
        uneven: largest absolute difference of the loss between theta_c + s d and
            theta_c - s d, over 3001 distances s from -3 to 3
        curvature: second derivative of the loss along d at theta_c, by finite
            differences with a step of 0.001; an estimate of h
        ratios: (8,), ratios of weight decay to -h at which minima, wells and distance
            are taken
        minima: (8,), number of local minima along d, between s = -3 and 3, of the loss
            plus (weight decay / 2) s^2, at the decays of ratios
        wells: (8,), largest |s| at these minima, for each decay of ratios
        critical_ratio: ratio of weight decay to -h from which on the loss plus (weight
            decay / 2) s^2 has one local minimum along d, by bisection
    """
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
    """Return the distances s at which a loss plus (weight_decay/2) s^2 has a local
    minimum inside a grid. s: the grid of distances; line: the loss at each of them.
    """
    y = line + weight_decay / 2 * s**2
    lower = (y[1:-1] < y[:-2]) & (y[1:-1] <= y[2:])
    return s[1:-1][lower]


def _merging(s, line, critical: float) -> float:
    """Return the decay, relative to `critical`, from which on one minimum is left."""
    low, high = 0.2, 5.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        if len(minima(s, line, middle * critical)) > 1:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _search(c: Config, loss, theta, h: float, d) -> dict:
    """Return how far from the mirrors L-BFGS over all parameters ends, for RATIOS.

    Columns:
        distance: (8,), distance from the mirrors at which L-BFGS over all parameters
            ends, started at 0.01 from the symmetric solution along d, with the decays
            of ratios on the directions across the mirrors
    """
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

WELLS = {  # ratio of decay to signal: its look
    0.5: Arm("signal > decay", plot.BLUE),
    1.0: Arm("signal = decay", plot.GREEN, "^"),
    2.0: Arm("signal < decay", plot.ORANGE, "s"),
}
PLACES = {
    "off_block": Arm("symmetric\nsolution", plot.BLUE),
    "off_block_broken": Arm("symmetry\nbroken", plot.GREEN, "^"),
    "off_block_random": Arm("random\npoint", plot.ORANGE, "s"),
}
SEEDS = {"color": plot.BLUE, "marker": "o", "ms": 2.6, "alpha": 0.6}


def _show(ax, df, column: str, scale: bool = True):
    """Draw log10 of |Hessian| over its largest entry, with the blocks outlined."""
    row = df.sort_values("seed").iloc[0]
    edges = np.r_[0, np.cumsum(row.sizes)] - 0.5
    matrix = np.abs(np.array(row[column])).reshape(sum(row.sizes), -1)
    logs = np.log10(np.maximum(matrix / matrix.max(), 1e-30))
    shown = panels.heat(ax, logs, limits=(-6, 0), cmap="magma_r")
    for edge in edges[1:-1]:
        panels.reference(ax, x=edge, y=edge, color=plot.BLUE, zorder=2)
    names = ["$O_1$", "$O_2$", "$\\ker O^T$"]
    for axis in "xy":
        middles = (edges[1:] + edges[:-1]) / 2
        panels.ticks(ax, axis, dict(zip(middles, names, strict=True)))
    names = {-6: "$\\leq10^{-6}$"} | {p: f"$10^{{{p}}}$" for p in (-4, -2, 0)}
    if scale:
        panels.colorbar(ax, shown, "|entry| / the largest", names, aspect=23)


@figure("fig2", "left", title="Hessian, symmetric solution")
def draw_symmetric(df, ax):
    """Size of the entries of the loss's Hessian, divided by the largest, at weights at
    which two pairs of neurons are equal, in a basis of the directions that make the
    first pair unequal (O_1), the second pair unequal (O_2), and of all others (ker
    O^T): entries between the blocks vanish. The scale of colours is that of the panel
    at random weights. Pale squares inside a block are pairs of an output's weight or
    bias with the other output's, which the sum of squared errors does not mix.
    """
    _show(ax, df, "hessian", ax.figure.get_figwidth() <= plot.COLUMN)


@figure("fig2", "mid", title="Hessian, random point")
def draw_random(df, ax):
    """Size of the entries of the loss's Hessian at random weights, in a basis of the
    directions that make one pair of neurons unequal (O_1), another pair (O_2), and of
    all others (ker O^T), in the colours of the symmetric solution: it has no blocks.
    """
    _show(ax, df, "hessian_random")


@figure("fig2", "right", title="Decay removes the wells")
def draw_wells(df, ax):
    """Loss plus weight decay of one seed against the distance s from the mirror
    (weights at which paired neurons are equal), along the direction of lowest curvature
    h < 0, at weight decays of half the signal |h|, the signal and twice it; dashed, the
    expansion to fourth order in s, whose well without decay has the distance s_0 and
    the depth d_0. The frame cuts what rises higher.
    """
    row = df.sort_values("seed").iloc[0]
    s, line = np.array(row.s), np.array(row.line)
    well = np.sqrt(-6 * row.h / row.fourth)  # without decay, to fourth order
    depth = -row.h * well**2 / 4
    x = np.linspace(-1.7, 1.7, 101)
    for ratio, arm in WELLS.items():
        y = line - row.h * ratio * s**2 / 2
        ax.plot(s / well, y / depth, color=arm.color, label=arm.label,
                marker=arm.marker, markevery=3, ms=3)  # fmt: skip
        quartic = row.h * (1 - ratio) * (x * well) ** 2 / 2
        quartic = quartic + row.fourth * (x * well) ** 4 / 24
        plot.theory(ax, x, quartic / depth, label="_" if ratio < 2 else "4th order")
    ax.set(xlabel="distance from the mirror $s/s_0$", xlim=(-1.7, 1.7))
    ax.set(ylabel="loss above the mirror's $/d_0$", ylim=(-0.5, 4.8))
    panels.legend(ax, "upper center")


@figure("fig2", "left", row=1, title="Blocks need the symmetry")
def draw_off_block(df, ax):
    """Largest entry of the Hessian off the blocks over the largest inside them: at
    weights at which two pairs of neurons are equal; there with sum b theta^2 with
    random b added to the loss (symmetry broken); and at random weights; one marker per
    seed.
    """
    for i, (column, arm) in enumerate(PLACES.items()):
        beside = i + np.linspace(-0.22, 0.22, len(df))
        ax.plot(beside, df[column], arm.marker, color=arm.color, ms=3, mfc="none")
    panels.ticks(ax, "x", {i: arm.label for i, arm in enumerate(PLACES.values())})
    ax.set(yscale="log", ylim=(1e-17, 10), xlim=(-0.5, 2.5))
    ax.set(ylabel="largest entry off / in the blocks")


@figure("fig2", "mid", row=1, title="Two minima merge into one")
def draw_pitchfork(df, ax):
    """Distances s from the mirror (weights at which paired neurons are equal) at which
    loss plus weight decay, along the direction of lowest curvature h < 0, has a
    minimum, against weight decay over |h|, one marker per seed, in units of sqrt(6
    |h|/q), with q the fourth derivative at s = 0. Dashed, the expansion to fourth
    order, which holds near the mirror: seeds differ far from it.
    """
    for i, row in enumerate(df.itertuples()):
        y = np.array(row.wells) / np.sqrt(-6 * row.h / row.fourth)
        ax.plot(row.ratios, y, lw=0, label="_" if i else "minima", **SEEDS)
        ax.plot(row.ratios, -y, lw=0, **SEEDS)
    r = np.linspace(0, 1, 200)
    plot.theory(ax, np.r_[r, 2.1], np.r_[np.sqrt(1 - r), 0], label="$\\sqrt{1-r}$")
    plot.theory(ax, r, -np.sqrt(1 - r), label="_")
    ax.set(xlabel="decay / signal $r$", ylabel="minima along $s$, scaled")
    panels.legend(ax, "upper right")


@figure("fig2", "right", row=1, title="L-BFGS leaves or returns")
def draw_search(df, ax):
    """Distance from the mirror (weights at which paired neurons are equal) at which
    L-BFGS over all weights ends, from a start as close to it as the grey line, against
    the weight decay of the differences O^T theta within pairs, over the signal |h|;
    lines, one seed each. Dashed, the theory's threshold, decay = signal.
    """
    for i, row in enumerate(df.itertuples()):
        ax.plot(row.ratios, row.distance, lw=0.5, label="_" if i else "end", **SEEDS)
    panels.reference(ax, y=KICK)
    panels.note(ax, 2.05, KICK * 1.4, "start", data=True, ha="right")
    plot.theory(ax, [1, 1], [1e-9, 10], label="_")
    panels.note(ax, 1.05, 2, "decay = signal", data=True)
    ax.set(xlabel="decay of $O^T\\theta$ / signal", yscale="log", ylim=(1e-9, 10))
    ax.set(ylabel="distance $|O^T\\theta|$ after L-BFGS")


# --- claims --------------------------------------------------------------------------

WEAK = np.array(RATIOS) < 1  # decays below the signal -h


def _miscounted(df):
    """error in the number of minima, at the weight decay where it is largest"""
    return df.minima.map(lambda n: np.abs(np.array(n) - np.where(WEAK, 2, 1)).max())


def _left(df):
    """final over initial distance from the mirrors, least of the weak decays"""
    return df.distance.map(lambda d: np.array(d)[WEAK].min() / KICK)


def _kept(df):
    """final over initial distance from the mirrors, most of the strong decays"""
    return df.distance.map(lambda d: np.array(d)[~WEAK].max() / KICK)


ALL = where()
BLOCKS = "theorem 1, part 2, and figure 2"
OFF = "ratio of the largest entry off the blocks to the largest inside them"
MIRROR = named("off_block", f"{OFF}, at the symmetric solution,")
RANDOM = named("off_block_random", f"{OFF}, at a random point,")
BROKEN = named("off_block_broken", f"{OFF}, with the symmetry broken,")
ON = ("In a small tanh network trained on a teacher's outputs, two pairs of neurons "
      "kept equal,")  # fmt: skip
LOWEST = "the direction of lowest curvature among those that make a pair unequal"
START = ("When L-BFGS over all weights of a tanh network starts at a distance of 0.01 "
         "from weights at which two pairs of neurons are equal,")  # fmt: skip
STABLE = "the least that makes equality stable"
ABOVE = ("A thousandth of the largest entry is far above rounding, which is 1e-16 of "
         "it.")  # fmt: skip
ziyin = partial(Claim, paper=ZIYIN, kind="identity")
control = partial(Claim, paper=ZIYIN, place=BLOCKS, origin="control", above=1e-3)
search = partial(Claim, origin="ours", place="L-BFGS over all parameters (scipy)",
                 unit="times the starting distance")  # fmt: skip
CLAIMS = [
    ziyin("blocks_on_the_mirror",
        f"{ON} the Hessian of the loss couples the weight differences within a pair to "
        "no other direction: its entries between them are below 1e-12 of the largest "
        "entry inside the blocks, in every run.",
        unit="of the largest entry",
        place=BLOCKS, estimate=ALL.worst(MIRROR), below=1e-12,
        reason="The Hessian is a sum over 200 samples, written in a basis of 50 "
        "vectors in which it has one block for the differences within each pair and "
        "one for all other directions: thousands of roundings of 1e-16 add up."),
    control("no_blocks_at_random",
        "At random weights of a small tanh network, the Hessian of the loss couples "
        "the weight differences within two pairs of neurons to other directions: an "
        "entry between them is above 0.001 of the largest entry inside the blocks, in "
        "every run.",
        unit="of the largest entry", estimate=ALL.least(RANDOM), reason=ABOVE),
    control("no_blocks_if_broken",
        f"{ON} adding sum b theta^2 with random b to the loss makes its Hessian couple "
        "the differences within a pair to other directions: an entry between them is "
        "above 0.001 of the largest inside the blocks, in every run.",
        unit="of the largest entry", estimate=ALL.least(BROKEN),
        reason=f"{ABOVE} The coefficients b have a standard deviation of 0.1, and the "
        "term is added after training."),
    ziyin("restricted_minimum_is_stationary",
        f"{ON} the gradient of the loss with weight decay has no component that would "
        "make the neurons of a pair unequal: each is below 1e-13 in absolute value, in "
        "every run.",
        place="theorem 1, part 1", tests="constraint",
        estimate=ALL.worst(named("across", "gradient component across the mirrors")),
        below=1e-13,
        reason="Training never left the weights with equal pairs, so that only "
        "rounding can give such a component: 1e-13 is a thousand times 1e-16."),
    Claim("signal_exists",
        f"{ON} the Hessian of the loss without weight decay has a negative eigenvalue "
        "among the directions that make the neurons of a pair unequal, in every run.",
        unit="lowest eigenvalue", origin="protocol", kind="precondition",
        place="a teacher of six neurons, a student of four different ones",
        estimate=ALL.worst(named("h", "eigenvalue h across the mirrors")),
        below=0.0,
        reason="If all these eigenvalues were positive, equal neurons would be stable "
        "without weight decay, and weight decay could not be seen to make them stable. "
        "A prototype of 8 runs at other sizes of the weights had a negative one in "
        "all."),
    ziyin("even_in_s",
        f"{ON} the loss at distance s from the trained weights equals that at -s, to "
        f"within 1e-12 for all s up to 3, along {LOWEST}, in every run.",
        place="mirror symmetry; figure 2",
        estimate=ALL.worst(named("uneven", "difference of the losses at s and -s")),
        below=1e-12,
        reason="Losses are of size 1, so thousands of roundings of 1e-16 stay below "
        "1e-12."),
    Claim("curvature_is_h",
        f"{ON} the second difference of the loss along {LOWEST} equals the lowest "
        "eigenvalue of the Hessian among these directions, to within 0.00001, in every "
        "run.",
        origin="oracle", kind="identity",
        place="second difference of the loss against the Hessian",
        estimate=ALL.worst(named("abs(curvature - h)", "error of the curvature")),
        below=1e-5,
        reason="The second difference with a step of 0.001 errs by 1e-6 q/12, where q "
        "is the fourth derivative of the loss along that direction, and by 1e-10 from "
        "rounding."),
    ziyin("two_minima_become_one",
        f"{ON} the loss plus weight decay has two minima along {LOWEST} (curvature h < "
        "0) at decays of 0.25 to 0.9 |h| and one at 1.1 to 2 |h|, in every run.",
        place="figure 2", tests="decay", estimate=ALL.worst(_miscounted), below=0.5,
        unit="minima",
        reason="The number of minima may not differ in any run, at any of the eight "
        "weight decays."),
    Claim("minima_merge_at_h",
        f"{ON} the loss plus weight decay has two minima along {LOWEST} (curvature h < "
        "0) that merge into one at a weight decay within 1 % of |h|, in every run.",
        unit="relative distance", origin="ours", kind="equivalence",
        place="h from the Hessian, the minima from the loss",
        estimate=ALL.worst(named("abs(critical_ratio - 1)",
                                 "relative distance of the merging decay from -h")),
        below=0.01,
        reason="The loss is computed on a grid of distances with steps of 0.002, and "
        "two minima nearer than that are taken for one, which moves the weight decay "
        "at which they merge by about 0.1 %."),
    search("search_leaves_below",
        f"{START} it ends farther away in every run, if the weight decay on the "
        f"differences within the pairs is 0.25 to 0.9 times {STABLE}.",
        estimate=ALL.least(_left), above=1.0,
        reason="To end farther away than the start is to leave. All other directions "
        "have a weight decay of 0.001."),
    search("search_returns_above",
        f"{START} it ends less than 0.0001 away in every run, if the weight decay on "
        f"the differences within the pairs is 1.1 to 2 times {STABLE}.",
        estimate=ALL.worst(_kept), below=0.01,
        reason="The limit of 0.0001 is a hundredth of the starting distance. The "
        "solver stops at gradients of 1e-8. Where a weight decay of 1.1 times an "
        "eigenvalue of -0.01 leaves a curvature of 0.001, this is a distance of 1e-5."),
]  # fmt: skip
