"""Weight decay switches constraints on: exactly, above a critical decay known before.

DCS, differentiable constraint by symmetry: theta = (I - O O^T) v + O (u*w) with decay
on u and w alone is l_0(theta) + weight_decay*|O^T theta|_1.
Reference: Liu Ziyin, "Symmetry Induces Structure and Constraint of Learning", ICML 2024
(arXiv 2309.16932), where DCS is proposed. Figure 7 belongs to its appendix, which was
not available to us: the content of this figure, the general form, the critical decay
and every setting are ours. Studies:

  decay  least squares, 10 orthonormal constraints on 40 weights. The labels are scaled
         so that the critical decay wd_c = max|O^T grad l_0(theta_c)| is .1 for every
         seed. Full-batch descent, minibatch SGD, and projection. The path of each
         O_i^T theta is compared with scipy's solution of the generalised lasso.
  soft   the minimum under (beta/2)|O^T theta|^2 instead: off by about wd_c/beta once
         beta is large, never by zero.
  torch  the same through torch.nn.utils.parametrize and torch's own optimizers.
  fused  a signal with steps; its differences are the constraints (fused lasso).
  rate   SGD of batch 1 on s = u*w with loss (s - y)^2/2, y from a finite sample of mean
         1 = wd_c with skewed noise. Near u=w=0, u+w and u-w are multiplied by
         1 - lr (wd + g) and 1 - lr (wd - g) with g = -y, so s vanishes if and only if
         both exponents E log|.| are negative. That is the critical decay of SGD, with
         no free parameter. The Hessian is the identity, so that v has no part in s.
         It starts at s = 1 with u = 2 w: from u = w, a mirror, u-w would stay 0 and the
         second exponent would not be tested.
         Just below it |s| < 1e-12 is visited and left again, so that 'collapsed' asks
         for it all through the second half of the steps.

Expected: max|O^T theta| near 5e-3 at .95 wd_c and 1e-17 at 1.05 wd_c; noise lowers the
critical decay, to a third at lr .1. AdamW misses the constraints with its default eps
and keeps them with eps=1 on u and w: its critical decay is wd_c/eps (see
symlab/mirror/dcs.py).
weight_decay is PyTorch's (wd/2)*|theta|^2, half of the paper's gamma.
Cost on one core: smoke 8 s, quick 50 s, paper 15 min.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from symlab.harness import Claim, figure, grid, lanes, plot, rng, stats

LANES = 1200
STATIC = ("study", "method", "dim", "constraints", "samples", "batch", "steps")
STATIC += ("noise",)
CRITICAL = 0.1  # wd_c of the least squares problems, by the scale of their labels
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of wd_c
RATIOS += (0.98, 1.02, 1.05, 1.1, 1.2, 1.35, 1.5)
MINIBATCH = (0.5, 0.7, 0.9, 0.95, 1.05, 1.2, 1.5)
BETAS = (1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
RATES = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1)
STEP = 0.05  # of the grid of decays in the study 'rate'
EXACT = 1e-12  # |O^T theta| below this is zero up to rounding
JUMP = 1e-4  # a difference of neighbours above this is a jump; the noise is .4


@dataclass(frozen=True)
class Config:
    study: str = "decay"
    """'decay', 'soft', 'torch', 'fused' or 'rate': see above."""
    method: str = "descent"
    """decay: 'descent', 'minibatch', 'projection'. torch: 'sgd'; 'adamw'; 'adamw eps',
    with eps=1 on u and w."""
    weight_decay: float = CRITICAL
    """PyTorch's: adds (weight_decay/2)*(u^2 + w^2); none on v."""
    beta: float = 0.0
    """Strength of the soft penalty."""
    lr: float = 0.2
    """Learning rate; of u and w, with 'adamw eps'."""
    momentum: float = 0.9
    """Heavy-ball momentum."""
    dim: int = 40
    """Entries of theta."""
    constraints: int = 10
    """Rows of O^T; dim - 1 in the fused lasso."""
    samples: int = 200
    """Training samples; 0 where theta is observed itself (fused)."""
    batch: int = 0
    """Samples per step; 0: all."""
    noise: float = 0.5
    """Standard deviation of the label noise."""
    steps: int = 5000
    """Steps."""
    seed: int = 0
    """Data, constraints and the order of samples; shared by all arms."""


def sweep(scale: str) -> list[Config]:
    seeds = range({"smoke": 2, "quick": 8, "paper": 32}[scale])
    size = {"dim": 12, "constraints": 4, "samples": 60} if scale == "smoke" else {}
    steps = {"smoke": 400, "quick": 5000, "paper": 20_000}[scale]
    full = size | {"steps": steps, "seed": seeds}
    near = (0.95 * CRITICAL, 1.05 * CRITICAL)
    decays = [r * CRITICAL for r in RATIOS]
    minibatch = {"weight_decay": [r * CRITICAL for r in MINIBATCH], "batch": 40}
    adam = {"study": "torch", "momentum": 0.0, "weight_decay": near, **full}
    adam["steps"] = 4 * steps // 5
    fused = {
        "study": "fused",
        "dim": 80,
        "constraints": 79,
        "samples": 0,
        "seed": seeds,
    }
    fused |= {"noise": 0.4, "lr": 0.016, "weight_decay": 1.0}
    fused["steps"] = {"smoke": 200, "quick": 12_500, "paper": 60_000}[scale]
    rate = {"study": "rate", "dim": 1, "constraints": 1, "batch": 1, "seed": seeds}
    rate |= {"noise": 4.0, "momentum": 0.0}
    rate["steps"] = {"smoke": 2000, "quick": 300_000, "paper": 1_500_000}[scale]
    grid_of_decays = [round(STEP * i, 2) for i in range(25)]
    return [
        *grid(Config, weight_decay=decays, **full),
        *grid(Config, method="minibatch", lr=0.04, **minibatch, **full),
        *grid(Config, method="projection", **full),
        *grid(Config, study="soft", beta=BETAS, **full),
        *grid(Config, study="torch", method="sgd", weight_decay=near, **full),
        *grid(Config, method="adamw", lr=0.01, **adam),
        *grid(Config, method="adamw eps", lr=1.0, **adam),
        *grid(Config, **fused),
        *grid(Config, lr=RATES, weight_decay=grid_of_decays, **rate),
    ]


def run(configs: list[Config]) -> list[dict]:
    """Lanes of one study and method."""
    studies = {"soft": _soft, "torch": _torch, "rate": _rate}
    return studies.get(configs[0].study, _descent)(configs)


# --- problems and their exact solutions ----------------------------------------------


@dataclass(frozen=True)
class Problem:
    """The loss theta.gram.theta/2 - target.theta and the constraints rows theta = 0."""

    gram: np.ndarray  # (P, P)
    target: np.ndarray  # (P,)
    rows: np.ndarray  # (k, P), O^T
    x: np.ndarray  # (N, P)
    y: np.ndarray  # (N,)


def problem(c: Config) -> Problem:
    """The data of a seed; labels scaled to make CRITICAL the critical decay."""
    draws = rng.stream(c.seed, "data")
    if c.study == "fused":
        levels = np.array([0.0, 1.5, 0.5, 2.0, 1.0])
        signal = np.repeat(levels, c.dim // len(levels))
        y = signal + c.noise * draws.normal(size=c.dim)
        rows = np.diff(np.eye(c.dim), axis=0)
        return Problem(np.eye(c.dim), y, rows, np.eye(c.dim), y)
    x = draws.normal(size=(c.samples, c.dim))
    truth = draws.normal(size=c.dim) / np.sqrt(c.dim)
    y = x @ truth + c.noise * draws.normal(size=c.samples)
    rows = np.linalg.qr(draws.normal(size=(c.dim, c.constraints)))[0].T
    y *= CRITICAL / _critical(x, y, rows)
    return Problem(x.T @ x / c.samples, x.T @ y / c.samples, rows, x, y)


def _critical(x, y, rows) -> float:
    """The library's critical decay, at the least squares solution in ker O^T."""
    import torch

    from symlab import mirror

    kernel = np.linalg.svd(rows)[2][len(rows) :].T  # (P, P-k)
    theta = kernel @ np.linalg.lstsq(x @ kernel, y, rcond=None)[0]
    x, y, theta, rows = (torch.from_numpy(a) for a in (x, y, theta, rows))
    return mirror.critical_decay(lambda t: (x @ t - y).square().mean() / 2, theta, rows)


def lasso(p: Problem, decay: float) -> np.ndarray:
    """The minimum of the loss + decay*|rows theta|_1, by scipy, from its dual.

    min over |z_i| <= decay of (1/2)|L^-1 (target - rows^T z)|^2 with gram = L L^T, a
    bounded least squares problem; theta = gram^-1 (target - rows^T z).
    """
    from scipy.optimize import lsq_linear

    z = np.zeros(len(p.rows))
    if decay > 0:
        root = np.linalg.cholesky(p.gram)
        a, b = np.linalg.solve(root, p.rows.T), np.linalg.solve(root, p.target)
        z = lsq_linear(a, b, (-decay, decay), method="bvls", tol=1e-15).x
    return np.linalg.solve(p.gram, p.target - p.rows.T @ z)


def _soft(configs: list[Config]) -> list[dict]:
    """The exact minimum under the soft penalty: what descent on it tends to."""
    found = []
    for c in configs:
        p = problem(c)
        theta = np.linalg.solve(p.gram + c.beta * p.rows.T @ p.rows, p.target)
        found.append({"violation": float(np.abs(p.rows @ theta).max())})
    return found


# --- descent on (v, u, w), by hand, lanes together -----------------------------------


def _descent(configs: list[Config]) -> list[dict]:
    """theta = v + A^+ (u*w - A v) by heavy-ball descent from theta = 0, as DCS does."""
    import torch

    from symlab.mirror.dcs import factors

    seeds, which = lanes.shared(configs)
    c, problems = configs[0], [problem(replace(configs[0], seed=s)) for s in seeds]

    def stacked(arrays):
        return torch.from_numpy(np.stack(arrays)[which])

    rows = stacked([p.rows for p in problems])  # (L, k, P)
    inverse = stacked([np.linalg.pinv(p.rows) for p in problems])  # (L, P, k)
    back, up = inverse.mT.contiguous(), rows.mT.contiguous()
    gradient = (_minibatch if c.batch else _full_batch)(configs, problems, which)
    lr, decay, beta = (
        torch.from_numpy(lanes.column(configs, f, 2, np.float64))
        for f in ("lr", "weight_decay", "momentum")
    )
    v, s = torch.zeros_like(up[..., 0]), torch.zeros_like(rows[..., 0])
    u, w = (z.view_as(s) for z in factors(s.view(-1)))
    if c.method == "projection":  # u = w = 0 is stationary: descent from it projects
        u = torch.zeros_like(s)
    velocity = [torch.zeros_like(z) for z in (v, u, w)]
    for t in range(c.steps):
        g = gradient(v + _times(inverse, u * w - _times(rows, v)), t)
        gs = _times(back, g)  # dl/ds, (L, k)
        slopes = (g - _times(up, gs), (gs * w).addcmul_(decay, u),
                  (gs * u).addcmul_(decay, w))  # fmt: skip
        for z, m, slope in zip((v, u, w), velocity, slopes, strict=True):
            z.addcmul_(lr, m.mul_(beta).add_(slope), value=-1)
    theta = (v + _times(inverse, u * w - _times(rows, v))).numpy()
    return [
        _row(c, problems[i], theta[lane])
        for lane, (c, i) in enumerate(zip(configs, which, strict=True))
    ]


def _times(matrix, x):
    """(L, a, b) times (L, b)."""
    return matrix.bmm(x.unsqueeze(-1)).squeeze(-1)


def _full_batch(configs, problems, which):
    import torch

    target = torch.from_numpy(np.stack([p.target for p in problems])[which])
    if configs[0].study == "fused":
        return lambda theta, t: theta - target
    gram = torch.from_numpy(np.stack([p.gram for p in problems])[which])
    return lambda theta, t: _times(gram, theta).sub_(target)


def _minibatch(configs, problems, which):
    """Batches with replacement, the same for all lanes of a seed."""
    import torch

    c, (seeds, _) = configs[0], lanes.shared(configs)
    size, streams = (c.steps, c.batch), [rng.stream(s, "batches") for s in seeds]
    order = np.stack([s.integers(c.samples, size=size) for s in streams], 1)
    x = torch.from_numpy(np.stack([p.x for p in problems]))  # (S, N, P)
    y = torch.from_numpy(np.stack([p.y for p in problems]))
    order, which = torch.from_numpy(order), torch.from_numpy(which)
    seed = torch.arange(len(seeds))[:, None]

    def gradient(theta, t):
        xb = x[seed, order[t]].index_select(0, which)  # (L, batch, P)
        yb = y[seed, order[t]].index_select(0, which)
        return _times(xb.mT, _times(xb, theta).sub_(yb)) / c.batch

    return gradient


def _row(c: Config, p: Problem, theta) -> dict:
    """What is left of the constraints, and the distance to the solver's solution."""
    s = p.rows @ theta
    row = {"violation": float(np.abs(s).max())}
    if c.method == "projection" or c.batch:
        return row
    exact = lasso(p, c.weight_decay)
    row["max_difference"] = float(np.abs(theta - exact).max())
    if c.study == "decay":
        return row | {"path": np.abs(s)}
    return row | {
        "jumps": int(np.sum(np.abs(s) > JUMP)),
        "exact_jumps": int(np.sum(np.abs(p.rows @ exact) > JUMP)),
        "signal": p.y,
        "recovered": theta,
        "exact": exact,
    }


# --- the library with torch's optimizers ---------------------------------------------


def _torch(configs: list[Config]) -> list[dict]:
    """Arms one after another; the seeds of an arm share an optimizer, see below."""
    rows = {}
    for arm in dict.fromkeys(replace(c, seed=0) for c in configs):
        members = [c for c in configs if replace(c, seed=0) == arm]
        rows |= dict(zip(members, _parametrized(members), strict=True))
    return [rows[c] for c in configs]


def _parametrized(configs: list[Config]) -> list[dict]:
    """One parameter (S, P) under block-diagonal constraints, a row for each seed.

    Rows never interact: the loss is a sum over them, and the optimizers work entrywise.
    """
    import torch
    from torch.nn.utils import parametrize

    from symlab import mirror

    c, problems = configs[0], [problem(c) for c in configs]
    gram = torch.from_numpy(np.stack([p.gram for p in problems]))
    target = torch.from_numpy(np.stack([p.target for p in problems]))
    rows = torch.block_diag(*[torch.from_numpy(p.rows) for p in problems])
    model = torch.nn.Module()
    model.theta = torch.nn.Parameter(torch.zeros_like(target))
    parametrize.register_parametrization(model, "theta", mirror.DCS(rows))
    optimizer = _optimizer(c, model)
    for _ in range(c.steps):
        optimizer.zero_grad()
        theta = model.theta
        ((_times(gram, theta) / 2 - target) * theta).sum().backward()
        optimizer.step()
    s = (rows @ model.theta.detach().reshape(-1)).view(len(configs), -1)
    return [{"violation": float(v)} for v in s.abs().amax(1)]


def _optimizer(c: Config, model):
    import torch

    from symlab.mirror import decay_groups

    if c.method == "sgd":
        groups = decay_groups(model, c.weight_decay)
        return torch.optim.SGD(groups, lr=c.lr, momentum=c.momentum)
    if c.method == "adamw":
        return torch.optim.AdamW(decay_groups(model, c.weight_decay), lr=c.lr)
    groups = decay_groups(model, c.weight_decay, eps=1.0, lr=c.lr)
    return torch.optim.AdamW(groups, lr=0.01)


# --- SGD noise and the critical decay ------------------------------------------------


def labels(c: Config) -> np.ndarray:
    """y (N,), of mean exactly 1 and standard deviation exactly `noise`, skewed.

    Exponential, as the second order errs where the third moment is large; cut at 2.5,
    as a few large labels in a row make steps of lr .1 unstable far from the mirror.
    """
    e = np.minimum(rng.stream(c.seed, "labels").exponential(size=c.samples), 2.5)
    return 1 + c.noise * (e - e.mean()) / e.std()


def exponent(y: np.ndarray, lr: float, decay: float, order: str = "exact") -> float:
    """The larger Lyapunov exponent of u+w and u-w at u=w=0: it decides."""
    import torch

    from symlab.mirror import lyapunov

    of = {"exact": lyapunov.exponent, "second": lyapunov.second_order}[order]
    g = torch.from_numpy(-y)
    return max(of(g, lr, decay), of(-g, lr, decay))


def critical(y: np.ndarray, lr: float, order: str = "exact") -> float:
    """The decay from which SGD collapses: the root of the exponent, 0 if there is none.

    At decay 2 both factors shrink in the mean, by more than noise can undo.
    """
    from scipy.optimize import brentq

    if exponent(y, lr, 0.0, order) < 0:
        return 0.0
    return brentq(lambda d: exponent(y, lr, d, order), 0.0, 2.0, xtol=1e-9)


def _rate(configs: list[Config], chunk: int = 1000) -> list[dict]:
    """SGD of batch 1 from the unconstrained optimum s = 1, off its mirrors."""
    import torch

    from symlab.mirror.dcs import factors

    seeds, which = lanes.shared(configs)
    c, y = configs[0], [labels(replace(configs[0], seed=s)) for s in seeds]
    streams = [rng.stream(s, "order") for s in seeds]
    lr, decay = (
        lanes.column(configs, f, 1, np.float64) for f in ("lr", "weight_decay")
    )
    keep = 1 - lr * decay
    u, w = (z.numpy() for z in factors(torch.ones(len(lr)).double()))
    g, gw, largest = np.empty_like(lr), np.empty_like(lr), np.zeros_like(lr)
    divergence = lanes.Divergence(len(configs))
    for begin in range(0, c.steps, chunk):
        n = min(chunk, c.steps - begin)
        draws = [v[s.integers(len(v), size=n)] for v, s in zip(y, streams, strict=True)]
        for label in np.stack(draws, 1):  # (S,)
            np.multiply(u, w, out=g)
            g -= label.take(which)
            g *= lr
            np.multiply(g, w, out=gw)
            g *= u
            u *= keep
            u -= gw
            w *= keep
            w -= g
            if 2 * begin >= c.steps:
                np.maximum(largest, np.abs(u * w), out=largest)
        # zero is stationary; short of it, subnormal numbers would be slow and stick
        gone = np.abs(u) + np.abs(w) < 1e-100
        u[gone] = w[gone] = 0.0
        divergence.look(np.isfinite(u * w), begin + n)
    roots = {k: critical(y[k[0]], k[1]) for k in {*zip(which, lr, strict=True)}}
    seconds = {k: critical(y[k[0]], k[1], "second") for k in roots}
    return [
        {
            "collapsed": int(largest[i] < EXACT),
            "size": float(np.abs(u[i] * w[i])),
            "diverged_at": int(divergence.at[i]),
            "root": roots[k],
            "second_order": seconds[k],
        }
        for i, k in enumerate(zip(which, lr, strict=True))
    ]


# --- figure --------------------------------------------------------------------------


def _arm(df, study: str, method: str = "descent"):
    """Rows of an arm, with the decay in units of wd_c."""
    df = df[(df.study == study) & (df.method == method)]
    return df.assign(ratio=(df.weight_decay / CRITICAL).round(6))


def _config(row) -> Config:
    """The config of a row of the results."""
    return Config(**{f.name: f.type(row[f.name]) for f in fields(Config)})


RATIO = "weight decay / critical decay"
VIOLATION = "violation $\\max|O^\\top\\theta|$"
CLEAR = {"frameon": True, "facecolor": "white", "edgecolor": "none", "framealpha": 1}


def _curves(ax, arms, legend: dict):
    """Violation against decay of (rows, label, color, marker).

    Its exponent is averaged: seeds at 1e-17 and 1e-12 have no useful mean.
    """
    ax.axvline(1, color="0.75", lw=0.8, zorder=0)
    for rows, label, color, marker in arms:
        style = {"label": label, "color": color, "marker": marker}
        rows = rows.assign(exponent=np.log10(rows.violation.clip(lower=1e-18)))
        plot.curve(ax, rows, "ratio", "exponent", **style)
    ax.yaxis.set_major_formatter(lambda y, _: f"$10^{{{y:.0f}}}$")
    ax.set(ylim=(-18.7, 0.5), yticks=range(-18, 1, 3), xlabel=RATIO, ylabel=VIOLATION)
    ax.legend(**legend)


@figure("fig7", panel="left")
def draw_violation(df, ax):
    soft = df[(df.study == "soft") & (df.beta == 1e4)].violation.mean()
    label = "soft, $\\beta=10^4$"
    ax.plot([0, 1.5], np.log10([soft] * 2), color="0.5", ls="-.", label=label)
    projected = _arm(df, "decay", "projection").violation.mean()
    style = {"color": plot.GREEN, "ls": ":", "label": "projection"}
    ax.plot([0, 1.5], np.log10([projected] * 2), **style)
    arms = [
        (_arm(df, "decay"), "DCS, full batch", plot.BLUE, "o"),
        (_arm(df, "decay", "minibatch"), "DCS, SGD", plot.ORANGE, "s"),
    ]
    _curves(ax, arms, {"loc": "center left", "bbox_to_anchor": (0, 0.4)})
    ax.set(xlim=(0, 1.55))


@figure("fig7", panel="mid")
def draw_path(df, ax):
    rows = _arm(df, "decay")
    rows = rows[rows.seed == rows.seed.min()].sort_values("ratio")
    ax.axvline(1, color="0.75", lw=0.8, zorder=0)
    p, ratios = problem(_config(rows.iloc[0])), np.linspace(0, 1.5, 76)
    exact = np.stack([np.abs(p.rows @ lasso(p, r * CRITICAL)) for r in ratios])
    for i, path in enumerate(np.stack(rows.path).T):  # constraint by constraint
        dcs, scipy = ("DCS", "generalised lasso (scipy)") if i == 0 else (None, None)
        ax.plot(rows.ratio, path, "o", color=plot.BLUE, ms=2.4, mew=0, label=dcs)
        plot.theory(ax, ratios, exact[:, i], label=scipy, linewidth=0.7)
    ylabel = "$|O_i^\\top\\theta|$ of each constraint"
    ax.set(xlabel=RATIO, ylabel=ylabel, xlim=(0, 1.55), ylim=(-0.004, None))
    ax.legend(loc="upper right", **CLEAR)


@figure("fig7", panel="right")
def draw_signal(df, ax):
    rows = df[df.study == "fused"]
    row = rows[rows.seed == rows.seed.min()].iloc[0]
    at, style = np.arange(len(row.signal)), {"color": plot.BLUE, "lw": 2.2}
    label = f"DCS, {row.jumps:.0f} jumps"
    ax.plot(at, row.signal, ".", color="0.65", ms=3, mew=0, label="signal + noise")
    ax.step(at, row.recovered, where="mid", alpha=0.6, label=label, **style)
    label = f"fused lasso (scipy), {row.exact_jumps:.0f} jumps"
    plot.theory(ax, at, row.exact, label=label, drawstyle="steps-mid")
    ylim = (min(row.signal) - 0.2, max(row.signal) * 1.45)
    ax.set(xlabel="position", ylabel="signal", ylim=ylim)
    ax.legend(loc="upper left")


@figure("fig7", panel="left", row=1)
def draw_soft(df, ax):
    soft, dcs = df[df.study == "soft"], _arm(df, "decay")
    betas = np.array(sorted(soft.beta.unique()))
    style = {"color": plot.ORANGE, "marker": "s"}
    plot.curve(ax, soft, "beta", "violation", label="soft penalty, exact", **style)
    plot.theory(ax, betas, CRITICAL / betas, label="critical decay / $\\beta$")
    value, label = dcs[dcs.ratio == 1.05].violation.mean(), "DCS, 1.05 critical decay"
    ax.plot(betas[[0, -1]], [value] * 2, color=plot.BLUE, label=label)
    ax.set(xscale="log", yscale="log", ylim=(2e-19, 3))
    ax.set(xlabel="strength of the penalty $\\beta$", ylabel=VIOLATION)
    ax.legend(loc="center left", bbox_to_anchor=(0, 0.3))


@figure("fig7", panel="mid", row=1)
def draw_rate(df, ax):
    mean = measured(df).groupby("lr").mean()
    style = {"color": plot.BLUE, "mew": 0, "elinewidth": 0.8, "capsize": 2}
    label = "SGD, $\\pm$ a grid step"
    ax.errorbar(mean.index, mean.measured, STEP, fmt="o", label=label, **style)
    plot.theory(ax, mean.index, mean.root, label="exact exponent $=0$")
    style = {"color": plot.ORANGE, "linestyle": (0, (1, 1))}
    plot.theory(ax, mean.index, mean.second, label="second order $=0$", **style)
    ax.axhline(1, color="0.6", lw=0.8)
    ax.text(0.1, 1.02, "full batch", ha="right", va="bottom", fontsize=6.5, color="0.4")
    ax.set(xlabel="learning rate", ylabel="critical decay", ylim=(0, 1.15))
    ax.set(xlim=(0, None))
    ax.legend(loc="lower left")


@figure("fig7", panel="right", row=1)
def draw_optimizers(df, ax):
    arms = [
        ("adamw", "AdamW", plot.ORANGE, "s"),
        ("adamw eps", "AdamW, $\\epsilon=1$ on $u,w$", plot.GREEN, "^"),
        ("sgd", "SGD", plot.BLUE, "o"),
    ]
    arms = [(_arm(df, "torch", name), *style) for name, *style in arms]
    _curves(ax, arms, {"loc": "lower left", **CLEAR})
    ax.set(xlim=(0.94, 1.06), xticks=[0.95, 1, 1.05])


def measured(df):
    """The critical decay of each rate and seed, and its two predictions.

    It lies between the last decay of the grid at which s lives and the next one.
    """
    df, rows = df[df.study == "rate"], []
    for (lr, seed), one in df.groupby(["lr", "seed"]):
        alive = one.weight_decay[one.collapsed == 0].max()
        alive = -1.0 if np.isnan(alive) else alive
        first = one.weight_decay[one.weight_decay > alive].min()
        rows.append(
            {
                "lr": lr,
                "seed": seed,
                "measured": first - STEP / 2,
                "root": one.root.iloc[0],
                "second": one.second_order.iloc[0],
            }
        )
    return type(df)(rows)


# --- claims --------------------------------------------------------------------------


def _at(study: str, method: str, ratio: float, largest: bool = True):
    """The extreme violation of all runs of an arm at one decay."""

    def estimate(df):
        rows = _arm(df, study, method)
        return stats.worst(rows.violation[rows.ratio == ratio], largest)

    return estimate


def _difference(study: str):
    return lambda df: stats.worst(_arm(df, study).max_difference)


def _soft_error(df):
    """Relative distance of the soft penalty's violation from wd_c/beta, beta >= 1e4."""
    soft = df[(df.study == "soft") & (df.beta >= 1e4)]
    return stats.worst((soft.violation * soft.beta / CRITICAL - 1).abs())


def _wrong_jumps(df):
    fused = df[df.study == "fused"]
    return stats.worst((fused.jumps - fused.exact_jumps).abs())


def _root_error(df):
    found = measured(df)
    return stats.worst((found.measured - found.root).abs())


def _at_largest_rate(difference):
    def estimate(df):
        found = measured(df)
        return stats.mean(difference(found[found.lr == found.lr.max()]))

    return estimate


def _switch(name: str, what: str, study: str, method: str) -> list[Claim]:
    """Two claims: exactly zero at 1.05 of the critical decay, visibly not at .95."""
    source = "ours; subgradient of weight_decay*|O^T theta|_1 at 0"
    zero = "float64 rounding is 1e-16; room for the sum over 40 weights"
    seen = "s is about (wd_c - wd)/curvature, 5e-3 at .95 wd_c"
    exact = f"{what}: at 1.05 of the critical decay the constraints hold exactly."
    broken = f"{what}: at .95 of the critical decay not all of them hold."
    above, below = _at(study, method, 1.05), _at(study, method, 0.95, largest=False)
    return [
        Claim(f"{name}_exact_above", exact, source, above, zero, below=EXACT),
        Claim(f"{name}_violated_below", broken, source, below, seen, above=1e-3),
    ]


CLAIMS = [
    *_switch("full_batch", "Full batch", "decay", "descent"),
    *_switch("library", "Through parametrize and torch.optim.SGD", "torch", "sgd"),
    *_switch("adamw_eps", "AdamW with eps=1 on u and w", "torch", "adamw eps"),
    Claim(
        "minibatch_exact",
        "Minibatch SGD keeps the constraints exactly at 1.5 of the critical decay.",
        "ours; u=w=0 is stationary under every minibatch",
        _at("decay", "minibatch", 1.5),
        below=EXACT,
        reason="float64 rounding is 1e-16; room for the sum over 40 weights",
    ),
    Claim(
        "adamw_misses_constraints",
        "AdamW as it is: in no run do all constraints hold at 1.05 of the critical.",
        "ours; its critical decay is wd_c/eps (symlab/mirror/dcs.py)",
        _at("torch", "adamw", 1.05, largest=False),
        above=1e-3,
        reason="eps is 1e-8: weights near the unconstrained ones, .1 off, are expected",
    ),
    Claim(
        "soft_is_inverse_beta",
        "A large soft penalty leaves the violation wd_c/beta: never zero.",
        "ours; beta O^T theta = -O^T grad l_0",
        _soft_error,
        below=0.01,
        reason="the next term is smaller by 1/(beta*curvature), 1e-4 at beta 1e4",
    ),
    Claim(
        "path_exact",
        "At every decay theta is the generalised lasso's solution.",
        "ours; oracle: scipy's bounded least squares on the dual",
        _difference("decay"),
        below=2e-4,
        reason="a constraint that is just critical falls as 1/(2 h t): 1.6e-4 at the "
        "time t = 1e4 for the least curvature h = .3; all others are exact",
    ),
    Claim(
        "fused_signal",
        "With differences as constraints the signal is the fused lasso's.",
        "ours; oracle as above",
        _difference("fused"),
        below=1e-3,
        reason="1/(2 h t) again, with h = 1/4 and t = 2000",
    ),
    Claim(
        "fused_jumps",
        "DCS under a fused-lasso constraint jumps as often as the fused lasso does.",
        "ours; oracle as above",
        _wrong_jumps,
        below=0.5,
        reason="no jump may be missing or too many, in any run",
    ),
    Claim(
        "exponent_predicts",
        "The exact exponent gives SGD's critical decay within a grid step, everywhere.",
        "Ziyin 2024, SGD near the mirror, and arXiv 2303.13093; for DCS by us",
        _root_error,
        below=STEP,
        reason="half a step is the resolution of the grid; decays just above the "
        "critical one need more steps than there are. Worst of six rates and all "
        "seeds. A first look asked for |s| < 1e-12 in the last 20,000 of 200,000 steps "
        "only, and one of 48 was .059 off: an excursion may last as long",
    ),
    Claim(
        "second_order_errs",
        "At lr .1 the second-order exponent is wrong by more than a grid step.",
        "ours; control: the test above can tell theories apart",
        _at_largest_rate(lambda f: f.measured - f.second),
        above=STEP,
        reason="a grid step, the bound that the exact exponent keeps",
    ),
    Claim(
        "noise_lowers_critical_decay",
        "SGD noise lowers the critical decay: at lr .1 by half at least.",
        "Ziyin 2024, section on SGD near the mirror; the DCS form is ours",
        _at_largest_rate(lambda f: 1 - f.measured),
        above=0.5,
        reason="second order: lr*noise^2/2 = .8, of which the skew takes a part",
    ),
]
