"""u*v loses plasticity in continual learning, but not without mirrors or with noise.

Reference: Liu Ziyin, "Symmetry Induces Structure and Constraint of Learning", ICML 2024
(arXiv 2309.16932), figure 4: the vanilla model (dashed) keeps learning new tasks, the
rescaling-symmetric one (solid) does not, and two remedies are to remove the symmetry
and to inject noise. The paper's settings were not available to us; all below is ours.

Online SGD with batch 1 on (w.x - y)^2, y = w*.x + noise*eps. Each task has a new
teacher w* ~ N(0, 1/dim). The excess loss is |w - w*|^2, exact for x ~ N(0, I), and is 1
for predicting zero. All arms start at the same w; those with w = u*v share their rate:

  vanilla    w itself, at a rate of its own, because its stable range is another one
  symmetric  u*v with decay. u = v = 0 is absorbing: a step multiplies the distances
             |u+v|, |u-v| to the mirrors u = -v, u = v by 1 - lr*wd -+ 2 lr r x, and the
             mean logarithm of that over random teachers is negative (`exponent`; by
             Jensen, as long as the factor rarely changes sign: at lr 1 it would be
             positive)
  bias       (u+b)(v+c) with fixed random signs b and c, and decay on u and v (syre). As
             |b| = |c|, one of the two mirrors of each weight is left, but not both
  point      decay of u and v towards a fixed Gaussian point instead of zero
  noise      symmetric, with +-kick*sqrt(lr) added to each of u and v at each step. The
             noise takes two values instead of being Gaussian, as in the simplified weak
             Euler scheme (Kloeden and Platen 1992, section 14.1); its sum over a task
             is Gaussian
  trap       bias without decay, which is symmetric without decay under another name

For U = u+b decay on u is decay of U towards b. Hence bias and point are one method with
two choices of the point, and all arms of u*v are one program.

Theory: the exponent, and for vanilla the mean-square recursion of the LMS
algorithm (`lms`), both without a fitted parameter. Expected excess of the last
tasks: 1 for symmetric and trap, 0.08 for vanilla, 0.16 to 0.33 for the remedies.
Settings (one rate, sizes of init, offset and kick) and thresholds follow a prototype
with other seeds, except for the pair of claims on the rate of the fall.

What foresees the loss? At the end of each task one knows the distance to the mirrors,
the fraction of zero weights and the effective rank of the features u*x; `foresight`
says how well each of them ranks the excess of the next task.

weight_decay is PyTorch's (wd/2)*|theta|^2, half of it the paper's gamma.
Cost on one core: smoke 1 s, quick 10 s, paper 90 s.
"""

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pandas as pd
from scipy.special import entr
from scipy.stats import rankdata

from symlab import compiled
from symlab.harness import Arm, figure, lanes, panels, plot, rng, stats
from symlab.harness.claims import Claim, after
from symlab.harness.estimates import Estimate, estimate, family, named, weakest, where
from symlab.papers import ZIYIN

LANES = 1200
STATIC = ("dim", "tasks", "steps", "noise")
ZERO = 1e-4  # |w| below this counts as zero
TINY = 1e-38  # float32's smallest normal number: nearer to a mirror is not resolved
LAST = 5  # tasks at either end that the claims compare
RATE = 0.02
ARMS = {
    "vanilla": {"lr": 0.001},
    "symmetric": {"lr": RATE},
    "bias": {"lr": RATE, "offset": 1.0},
    "point": {"lr": RATE, "offset": 0.3},
    "noise": {"lr": RATE, "kick": 0.01},
    "trap": {"lr": RATE, "offset": 1.0, "weight_decay": 0.0},
}
REMEDIES = ("bias", "point", "noise")


@dataclass(frozen=True)
class Config:
    arm: str = "symmetric"
    """A key of ARMS: 'vanilla' trains w, the others u and v."""
    lr: float = RATE
    """Learning rate."""
    weight_decay: float = 0.02
    """PyTorch's: adds (weight_decay/2)*|theta|^2, on u and v, or on w."""
    offset: float = 0.0
    """'point': standard deviation of the point; others: size of the random signs."""
    kick: float = 0.0
    """Noise added to u and v at each step, in units of sqrt(lr)."""
    init: float = 0.2
    """Standard deviation of the initial factors of w."""
    noise: float = 0.5
    """Standard deviation of the label noise."""
    dim: int = 100
    """Input dimension."""
    tasks: int = 50
    """Teachers, one after the other."""
    steps: int = 1000
    """Steps per task, one sample each."""
    seed: int = 0
    """Teachers, initialisation and data; shared by all arms."""


def sweep(scale: str) -> list[Config]:
    tasks, steps = (5, 200) if scale == "smoke" else (50, 1000)
    seeds = range({"smoke": 2, "quick": 20, "paper": 200}[scale])
    # seeds are outermost: a chunk of lanes then has whole seeds and draws no data twice
    return [
        Config(arm=arm, **its, tasks=tasks, steps=steps, seed=seed)
        for seed in seeds
        for arm, its in ARMS.items()
    ]


def run(configs: list[Config], chunk: int = 250) -> list[dict]:
    """Return a row for each config.

    Columns:
        excess: (tasks,), expected loss on new inputs less the variance of the label
            noise, |w - w*|^2 with the task's teacher w*, at the end of each task; about
            1 for predicting zero
        zero_fraction: (tasks,), fraction of the weights with |w| below 1e-4 at the end
            of each task
        log_distance: (tasks,), median over weights of the natural logarithms of the
            distances |u+v| and |u-v| to both mirrors at the end of each task; arm
            vanilla, which has no mirrors: of log |w|
        effective_rank: (tasks,), exp of the entropy of |u| / sum |u|, the singular
            values of the features u*x, at the end of each task, at most `dim`; arm
            vanilla: always `dim`
    """
    c = configs[0]
    seeds, which = lanes.shared(configs)
    plain = np.array([c.arm == "vanilla" for c in configs])
    parts = [
        (kind([configs[i] for i in at], which[at]), at)
        for kind, at in zip(
            (_Plain, _Product), map(np.flatnonzero, (plain, ~plain)), strict=True
        )
        if len(at)
    ]
    streams = [rng.stream(s, "data") for s in seeds]
    teachers = np.stack([teacher(s, c) for s in seeds])  # (S, tasks, D)
    draws = np.empty((len(seeds), chunk, c.dim + 1), np.float32)
    out = np.empty((4, len(configs), c.tasks))
    for task in range(c.tasks):
        truth = teachers[:, task]
        for begin in range(0, c.steps, chunk):
            n = min(chunk, c.steps - begin)
            x, y = _samples(streams, truth, draws[:, :n], c.noise)
            for part, _ in parts:
                part.train(x, y)
        for part, at in parts:
            w = part.weights()
            out[0, at, task] = np.square(w - truth[which[at]]).sum(-1)
            out[1, at, task] = np.mean(np.abs(w) < ZERO, -1)
            out[2, at, task] = part.log_distances()
            out[3, at, task] = effective_rank(part.gains())
    columns = ("excess", "zero_fraction", "log_distance", "effective_rank")
    return [dict(zip(columns, o.tolist(), strict=True)) for o in out.swapaxes(0, 1)]


def teacher(seed: int, c: Config) -> np.ndarray:
    """Return the teachers w*, the true weights of each task's linear regression,
    (tasks, D).
    """
    return rng.stream(seed, "teacher").normal(size=(c.tasks, c.dim)) / np.sqrt(c.dim)


def start(configs: list[Config]) -> np.ndarray:
    """Return the initial factors u and v of the weights w = u*v, and the point that
    weight decay pulls them to, stacked as (2, 2, L, D) for L runs.
    """
    out = []
    for c in configs:
        size = (2, c.dim)
        uv = c.init * rng.stream(c.seed, "init").normal(size=size)
        point = rng.stream(c.seed, "point").normal(size=size)
        point = point if c.arm == "point" else np.sign(point)
        out.append([uv, c.offset * point])
    return np.stack(out, 2)


def effective_rank(sigma: np.ndarray) -> np.ndarray:
    """Return the effective rank of Roy and Vetterli (2007), the exponential of the
    entropy of sigma/sum(sigma) over the last axis; 0 if all are 0. sigma: singular
    values, >= 0.
    """
    total = sigma.sum(-1, keepdims=True)
    p = sigma / np.where(total > 0, total, 1.0)
    return np.exp(entr(p).sum(-1)) * (total[..., 0] > 0)


def _samples(streams, truth, draws, noise: float):
    """Return x (n, S, D) and y (n, S, 1) of n steps, drawn once for each seed.

    draws: (S, n, D + 1), which is overwritten, and of which x is a part.
    """
    import torch

    for stream, out in zip(streams, draws, strict=True):
        stream.standard_normal(out=out, dtype=np.float32)
    x, eps = torch.from_numpy(draws).split((truth.shape[-1], 1), -1)
    truth = torch.from_numpy(truth.astype(np.float32)).unsqueeze(1)
    clean = (x * truth).sum(-1, keepdim=True)
    y = clean.add_(eps, alpha=noise).swapaxes(0, 1).contiguous()
    return x.swapaxes(0, 1), y


# --- one SGD step on (w.x - y)^2 of all lanes, by hand -------------------------------


def _columns(configs, which):
    """Return 2 lr and lr*wd of each lane, (L, 1), and the index of its seed, (L,)."""
    import torch

    lr, decay = (lanes.column(configs, f) for f in ("lr", "weight_decay"))
    return *map(torch.from_numpy, (2 * lr, lr * decay)), torch.from_numpy(which)


def _pays(configs, n_arrays: int) -> bool:
    """Return whether a step is compiled that works on so many arrays (L, D)."""
    c = configs[0]
    return compiled.pays(n_arrays * len(configs) * c.dim, c.tasks * c.steps)


def plain_step(state, inputs, constants):
    """Return the next w (L, D) after a step of SGD on (w.x - y)^2, and the prediction
    w.x (L, 1), in the form that compiled.Steps takes. L: runs side by side (lanes), S:
    seeds.

    The inputs are x (S, D) and y (L, 1); the constants index (L,), the row of x for
    each lane, rate (L, 1), twice the learning rate, and decay (L, 1), the learning rate
    times the weight decay.
    """
    (w,), (x, y), (index, rate, decay) = state, inputs, constants
    x = x.index_select(0, index)
    wx = (w * x).sum(-1, keepdim=True)
    # 1 - lr*wd would round: in float32 it is off by 0.2 % of a decay of 2e-5
    w = w.addcmul(w, decay, value=-1)
    return (w.addcmul(x, (wx - y) * rate, value=-1),), wx


def product_step(state, inputs, constants):
    """Return the next p = (u+v)/2 and q = (u-v)/2, each (L, D), after a step of SGD on
    (w.x - y)^2 with w = u*v = p^2 - q^2, and the prediction w.x (L, 1), in the form
    that compiled.Steps takes. L: runs side by side (lanes), S: seeds.

    The inputs are x (S, D), y (L, 1) and signs_p, signs_q (K, D), -1, 0 or 1: noise for
    the K lanes that have any. The constants are index (L,), the row of x for each lane;
    rate (L, 1), twice the learning rate; keep (L, 1), the factor by which weight decay
    shrinks p and q; pull_p and pull_q (L, D), what it adds if it pulls to a point;
    kicked (L,), the row of the noise for each lane; and size (L, 1), that of the noise,
    0 for lanes without.
    """
    (p, q), (x, y, signs_p, signs_q) = state, inputs
    index, rate, keep, pull_p, pull_q, kicked, size = constants
    x = x.index_select(0, index)
    xp, xq = x * p, x * q
    wx = (p * xp - q * xq).sum(-1, keepdim=True)
    s = (wx - y) * rate
    p = pull_p + size * signs_p.index_select(0, kicked) + (keep * p - s * xp)
    q = pull_q + size * signs_q.index_select(0, kicked) + (keep * q + s * xq)
    return (p, q), wx


class _Plain:
    """The vanilla model, which trains w (L, D) itself."""

    def __init__(self, configs, which):
        import torch

        self.w = torch.from_numpy(start(configs)[0].prod(0).astype(np.float32))
        rate, decay, self.index = _columns(configs, which)
        self.constants = (self.index, rate, decay)
        self.advance = compiled.Steps(plain_step, _pays(configs, 1))

    def train(self, x, y):
        inputs = (x, y.index_select(1, self.index))
        (self.w,), _ = self.advance((self.w,), inputs, self.constants)

    def weights(self):
        return self.w.double().numpy()

    def gains(self):
        """Return ones (L, D): the features x of this model never change."""
        return np.ones(self.w.shape)

    def log_distances(self):
        """Return the median of log |w|; zero is no mirror of this model."""
        return np.median(np.log(np.maximum(np.abs(self.weights()), TINY)), -1)


class _Product:
    """u*v in the coordinates p = (u+v)/2 and q = (u-v)/2, stacked as (2, L, D).

    There u*v = p^2 - q^2, and with g = 2 lr r x a step is diagonal,
        p <- (keep - g) p + pull,   q <- (keep + g) q + pull,
    where keep = 1 - lr*wd, and pull = lr*wd*centre moves u, v towards the centre. The
    mirrors u = -v and u = v are p = 0 and q = 0, which rounding cannot reach; in u and
    v it can, as float32 does not tell u from v once |q| < 6e-8 |p|.
    """

    def __init__(self, configs, which):
        import torch

        pq, centre = map(_turn, start(configs))  # (2, L, D)
        self.rate, decay, self.index = _columns(configs, which)
        self.keep = 1 - decay
        self.pq = torch.from_numpy(pq.astype(np.float32))
        self.pull = decay * torch.from_numpy(centre.astype(np.float32))
        kicked = [i for i, c in enumerate(configs) if c.kick]  # K lanes
        self.kicked = torch.tensor(kicked)
        self.streams = [rng.stream(configs[i].seed, "kicks") for i in kicked]
        sizes = lanes.column(configs, "kick") * np.sqrt(lanes.column(configs, "lr"))
        self.sizes = torch.from_numpy(sizes)  # (L, 1)
        self.advance = compiled.Steps(product_step, _pays(configs, 2))

    def train(self, x, y):
        """Take n steps; x (n, S, D), y (n, S, 1)."""
        signs, y = self._signs(len(x)), y.index_select(1, self.index)
        (self._compiled if self.advance.compiled else self._in_place)(x, y, signs)

    def _compiled(self, x, y, signs):
        import torch

        kicked = torch.zeros_like(self.index)
        kicked[self.kicked] = torch.arange(len(self.kicked))
        constants = (self.index, self.rate, self.keep, *self.pull, kicked, self.sizes)
        inputs = (x, y, *signs.unbind(1))
        state, _ = self.advance(tuple(self.pq), inputs, constants)
        self.pq = torch.stack(state)

    def _in_place(self, x, y, signs):
        """The same steps, by fewer and larger operations: a fifth faster when each is
        called from here.
        """
        import torch

        pq, factor = self.pq, torch.empty_like(self.pq)
        ahead, behind = factor  # views: slicing costs as much as half an operation
        g, kicked = torch.empty_like(ahead), self.kicked
        kicks = signs.float().mul_(self.sizes[kicked]) if len(kicked) else None
        for t, (xt, yt) in enumerate(zip(x, y, strict=True)):
            xt = torch.index_select(xt, 0, self.index)  # (L, D)
            torch.mul(pq, pq, out=factor)
            wx = torch.sub(ahead, behind, out=g).mul_(xt)
            r = wx.sum(-1, keepdim=True).sub_(yt).mul_(self.rate)  # (L, 1)
            torch.mul(xt, r, out=g)
            torch.sub(self.keep, g, out=ahead)
            torch.add(self.keep, g, out=behind)
            torch.addcmul(self.pull, pq, factor, out=pq)
            if len(kicked):
                pq.index_add_(1, kicked, kicks[t])

    def _signs(self, n: int):
        """Return the noise of n steps in units of its size, -1, 0 or 1 for p and q of
        the K lanes that have any, (n, 2, K, D); zeros (n, 2, 1, D) where none has.
        """
        import torch

        if not self.streams:
            return torch.zeros(n, 2, 1, self.pq.shape[-1], dtype=torch.int8)
        u, v = np.stack([bits(s, n, self.pq.shape[-1]) for s in self.streams], 2)
        # p and q of the signs 2u-1 and 2v-1, in one-byte integers, which is quick
        return torch.from_numpy(np.stack([u + v - 1, u - v], 1))

    def weights(self):
        p, q = self.pq.double().numpy()
        return p**2 - q**2

    def gains(self):
        """Return |u| (L, D), the singular values of the features u*x."""
        return np.abs(self.pq.double().numpy().sum(0))

    def log_distances(self):
        """Return the median of log |u+v| and log |u-v|, the distances to the mirrors.

        The median, because some of them underflow long before the typical one does.
        """
        size = np.maximum(2 * np.abs(self.pq.double().numpy()), TINY)
        return np.median(np.log(size), axis=(0, 2))


def _turn(uv: np.ndarray) -> np.ndarray:
    """Return (p, q) of (u, v), along the first axis."""
    return np.stack([uv[0] + uv[1], uv[0] - uv[1]]) / 2


def bits(stream, n: int, d: int) -> np.ndarray:
    """Return random bits (2, n, D) as int8, which cost far less than normal numbers.
    stream: the random generator; d: D.
    """
    octets = 4 * -(-2 * d // 32)  # per step; a stream gives out whole words
    drawn = np.frombuffer(stream.bytes(n * octets), np.uint8).reshape(n, octets)
    out = np.unpackbits(drawn, axis=1, count=2 * d).astype(np.int8)
    return out.reshape(n, 2, d).swapaxes(0, 1)


# --- theory --------------------------------------------------------------------------


@cache
def exponent(c: Config, nodes: int = 80) -> float:
    """Return the Lyapunov exponent per step of the distances |u+v| and |u-v| near u*v =
    0, under SGD with weight decay wd on (u*v.x - y)^2, in d dimensions.

    It is E log|1 - lr*wd + 2 lr y x_i| over a random teacher w*: y = w*_i x_i + rho,
    where rho is the rest of the label. Given x_i, y is Gaussian up to O(1/d), by which
    a sum of d - 1 products differs from one, so that two Gauss-Hermite sums suffice.
    While the factor is positive, as it is here but for rare samples, Jensen's
    inequality puts the exponent below log(1 - lr*wd), as E y x_i = 0.
    """
    z, weight = np.polynomial.hermite_e.hermegauss(nodes)
    weight = weight / weight.sum()
    x, spread = z[:, None], np.sqrt(z**2 / c.dim + 1 - 1 / c.dim + c.noise**2)
    factor = 1 - c.lr * c.weight_decay + 2 * c.lr * spread[:, None] * z * x
    return float(weight @ np.log(np.abs(factor)) @ weight)


def lms(c: Config) -> np.ndarray:
    """Return the mean excess loss of plain weights w (arm 'vanilla') at the end of each
    task, (tasks,), exactly at any learning rate.

    A step of SGD is on (w.x - y)^2 with y = w*.x + noise times a standard normal
    number, x standard normal in d dimensions, and weight decay wd. With a = 2 lr,
    k = lr*wd, the error e = w - w* and m = E e.w*, |w*|^2 = 1 in the mean:
        m'       = (1 - k - a) m - k
        E|e'|^2  = ((1-k)^2 - 2 a (1-k) + a^2 (d+2)) E|e|^2 + a^2 noise^2 d
                   - 2 k (1 - k - a) m + k^2,
    as E x x^T x x^T = (d+2) I. A new teacher is independent of w.
    """
    a, k, d = 2 * c.lr, c.lr * c.weight_decay, c.dim
    shrink = (1 - k) ** 2 - 2 * a * (1 - k) + a**2 * (d + 2)
    square, out = d * c.init**4, []  # E|w|^2
    for _ in range(c.tasks):
        error, m = square + 1, -1.0
        for _ in range(c.steps):
            error = shrink * error + a**2 * c.noise**2 * d
            error += k**2 - 2 * k * (1 - k - a) * m
            m = (1 - k - a) * m - k
        square = error + 2 * m + 1
        out.append(error)
    return np.array(out)


# --- quantities ----------------------------------------------------------------------


def _config(df) -> Config:
    """Return the config of the first of one arm's rows."""
    return Config(**{f: df[f].iloc[0] for f in Config.__dataclass_fields__})


def _mean(column: str, tasks: slice, words: str):
    """Return as a quantity the mean of a column's entries over some tasks of a run."""
    return named(lambda df: df[column].map(lambda v: np.mean(v[tasks])), words)


START, END = slice(LAST), slice(-LAST, None)
_first = _mean("excess", START, "the excess loss at the end of the first five tasks")
_last = _mean("excess", END, "the excess loss at the end of the last five tasks")
_zeros = _mean("zero_fraction", END, "the fraction of zero weights at the end of the "
               "last five tasks")  # fmt: skip


def _change(df):
    """the excess loss of the last five tasks minus that of the first five"""
    return _last(df) - _first(df)


def _window(c: Config) -> tuple[int, int]:
    """Return the tasks between which the fall is measured, far from underflow."""
    return max(1, 2 * c.tasks // 5), max(2, 4 * c.tasks // 5)


def _fall(df):
    """the measured rate of fall of the log distance over the Lyapunov exponent"""
    c, logs = _config(df), np.stack(df.log_distance)
    begin, end = _window(c)
    rate = (logs[:, end - 1] - logs[:, begin - 1]) / ((end - begin) * c.steps)
    return pd.Series(rate / exponent(c), df.index)


def _over_lms(df):
    """the excess loss over that of LMS theory, averaged over the tasks"""
    return pd.Series((np.stack(df.excess) / lms(_config(df))).mean(1), df.index)


# each measure with the sign of its correlation with the excess of the next task
PREDICTORS = {"log_distance": -1, "zero_fraction": 1, "effective_rank": -1}


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's rank correlation; 0 where one of both does not vary."""
    a, b = (r - r.mean() for r in map(rankdata, (a, b)))
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size else 0.0


def foresight(df, measure: str) -> pd.Series:
    """Return, for each seed, how well a measure at the end of a task ranks the excess
    loss at the end of the next task; 1 is perfect.

    It is Spearman's correlation over all tasks of all arms that train w = u*v (the arm
    vanilla, which trains w itself, is left out); its sign is turned for measures of
    which a smaller value should mean a larger loss. measure: a column, one of
    PREDICTORS.
    """
    found = {}
    for seed, its in df[df.arm != "vanilla"].groupby("seed"):
        now = np.concatenate([np.asarray(m)[:-1] for m in its[measure]])
        later = np.concatenate([np.asarray(e)[1:] for e in its.excess])
        found[seed] = PREDICTORS[measure] * _spearman(now, later)
    return pd.Series(found)


# --- figure --------------------------------------------------------------------------

LOOK = {
    "symmetric": Arm("$u\\odot v$, symmetric", plot.BLUE),
    "trap": Arm("bias, no decay", plot.ORANGE, "v", "-."),
    "bias": Arm("static bias", plot.GREEN, "^"),
    "noise": Arm("noise", plot.SKY, "X"),
    "point": Arm("decay to a point", plot.PINK, "D"),
    "vanilla": Arm("$w$, vanilla", plot.BLACK, "P", "none"),
}


def _curves(df, ax, column: str, names: dict, scale: float = 1.0, **limits):
    """Draw each arm against the task, with markers where no other arm has them.

    names: {arm: (fraction of the width, value)}, where its name stands.
    """
    last = df.tasks.iloc[0]
    for i, (arm, look) in enumerate(LOOK.items()):
        if len(rows := df[df.arm == arm]):
            long = panels.unrolled(rows, range(1, last + 1), column)
            long["y"] *= scale
            each = (i % 4 * 2, 4 if look.line == "none" else 8)
            panels.curve(ax, long, "x", "y", look, markevery=each, **limits)
    for arm, at in names.items():
        panels.name(ax, LOOK[arm], *at)
    ax.set(xlabel="task", xlim=(0, last + 1))


@figure("fig4", "left", title="Two of six stop learning new tasks")
def draw(df, ax):
    """Excess loss at the end of each of 50 linear regressions in turn (1: predicting
    zero) of models with weights w or u*v, with remedies against the loss of plasticity
    and without. Dashed, the mean-square theory of the LMS algorithm for w, without a
    fitted parameter.
    """
    names = {"symmetric": (0.17, 1.12), "trap": (0.25, 0.6), "bias": (0.71, 0.37)}
    names |= {"noise": (0.71, 0.195), "point": (0.71, 0.115), "vanilla": (0.71, 0.057)}
    _curves(df, ax, "excess", names)
    panels.reference(ax, y=1)
    panels.note(ax, 0.98, 0.91, "predicting zero", ha="right")
    law = lms(_config(where(arm="vanilla")(df)))
    plot.theory(ax, np.arange(len(law)) + 1, law)
    panels.note(ax, 0.08, 0.067, "dashed: theory for $w$")
    panels.ticks(ax, "y", [0.05, 0.1, 0.2, 0.5, 1.0], log=10)
    ax.set(ylabel="excess loss at the end of a task", ylim=(0.045, 1.5))


@figure("fig4", "right", title="First against last five tasks")
def draw_ends(df, ax):
    """Mean excess loss at the end of the first five and of the last five of 50 linear
    regressions in turn, of models with weights w or u*v, with and without remedies;
    grey line, predicting zero. Most intervals are shorter than a marker.
    """
    for place, (arm, look) in enumerate(LOOK.items()):
        for end, y, fill in ((_first, -0.17, "white"), (_last, 0.17, look.color)):
            style = {"mfc": fill, "ms": 3.6, "mew": 0.8, "label": "_"}
            at = where(arm=arm).mean(end)(df)
            panels.points(ax, [place + y], [at], look, across=True, **style)
            panels.note(ax, 1.35, place + y, f"{at.value:.2f}", data=True, va="center")
        panels.reference(ax, y=place + 0.5, color=panels.FAINT)
    for fill, label in (("white", "first"), (panels.GREY, "last")):
        look = {"color": panels.GREY, "mfc": fill, "label": f"{label} {LAST} tasks"}
        ax.plot([], [], "o", **look)
    panels.reference(ax, x=1)
    panels.ticks(ax, "x", [0.05, 0.1, 0.2, 0.5, 1.0], log=10)
    panels.rows_of(ax, [look.label for look in LOOK.values()])
    ax.set(xlabel="mean excess loss", xlim=(0.045, 2), ylim=(place + 0.5, -0.5))
    panels.legend(ax, "upper left")


@figure("fig4", "left", row=1, title="The same two lose their weights")
def draw_zeros(df, ax):
    """Fraction of zero weights, |w| < 1e-4, after each of 50 linear regressions in
    turn, of models with weights w or u*v, with and without remedies. Bands end at 0 and
    1.
    """
    names = {"symmetric": (0.06, 0.9), "trap": (0.35, 0.72), "noise": (0.71, 0.065)}
    _curves(df, ax, "zero_fraction", names, limits=(0, 1))
    rest = ", ".join(LOOK[arm].label for arm in ("bias", "point", "vanilla"))
    panels.note(ax, 0.98, 0.02, f"{rest}: 0 to 0.01", ha="right")
    ax.set(ylabel="fraction of zero weights", ylim=(-0.11, 1.03))


@figure("fig4", "right", row=1, title="They fall onto the mirrors, as predicted")
def draw_mirror(df, ax):
    """Distance of the factors u of the weights u*v from v and -v (the mirrors) after
    each of 50 linear regressions in turn, the median over weights, for models with and
    without remedies against the loss of plasticity. Dashed, the slope by the Lyapunov
    exponent, from the value measured after task 20 on.
    """
    names = {"symmetric": (0.12, -17), "trap": (0.53, -9), "noise": (0.71, -3)}
    names |= {"bias": (0.53, 0.6), "point": (0.735, 0.6)}
    _curves(df[df.arm != "vanilla"], ax, "log_distance", names, 1 / np.log(10))
    for arm in ("symmetric", "trap"):
        rows = where(arm=arm)(df)
        c, logs = _config(rows), np.stack(rows.log_distance)
        begin, _ = _window(c)
        tasks = np.arange(begin, c.tasks + 1)
        line = logs[:, begin - 1].mean() + exponent(c) * c.steps * (tasks - begin)
        plot.theory(ax, tasks, line / np.log(10))
    panels.note(ax, 0.06, 0.08, "dashed: slope by the Lyapunov exponent")
    ax.set(ylabel="$\\log_{10}$ distance of $u$ from $\\pm v$", ylim=(None, 3))


# --- claims --------------------------------------------------------------------------


@estimate
def _foresight(df):
    """mean over seeds of minus the rank correlation of the distance to the mirrors at
    the end of a task with the excess loss of the next task"""
    return stats.mean(foresight(df, "log_distance"))


def _advantage(measure: str) -> Estimate:
    """Return by how much the distance ranks the next excess better than `measure`."""
    return Estimate(
        lambda df: stats.mean(foresight(df, "log_distance") - foresight(df, measure)),
        "mean over seeds of the rank correlation with the excess loss of the next task "
        f"(that of the distance to the mirrors minus that of {measure}, paired)",
    )


def _of(quantity):
    return lambda arm: where(arm=arm).mean(quantity)


def _was(threshold: float, seen: str) -> dict:
    """The fields of a claim whose threshold became the smallest effect of interest."""
    return after(("2026-11-30", f"{threshold} became 0.1, the smallest effect of "
                  "interest for excess losses in all claims about this paper; "
                  f"{seen} was seen"))  # fmt: skip


LEAST = ZIYIN.smallest["excess loss"]
figure_4 = partial(Claim, paper=ZIYIN, place="figure 4")
tasks = partial(family, paper=ZIYIN, place="figure 4", unit="excess loss")
A_NAME = {"paper": None, "tests": "", "origin": "control",
          "place": "without decay an offset only renames the parameters (after "
          "syre)"}  # fmt: skip
SIGNS = "weights (u+b)*(v+c), fixed random signs b and c,"
ONLINE = "Online SGD on 50 linear regressions in turn"
EXCESS = "excess loss (over label noise; 1 for predicting zero)"
REMEDIED = ("In online SGD on 50 linear regressions in turn with weights u*v, with and "
            "without remedies for plasticity loss,")  # fmt: skip
LOSERS = {"symmetric": "weights u*v and weight decay on u and v",
          "trap": f"{SIGNS} and no weight decay"}  # fmt: skip
KEEPERS = {"vanilla": "weights trained directly, not as products",
           "bias": f"{SIGNS} and weight decay on u and v",
           "point": "weights u*v and weight decay of u and v to a random point",
           "noise": "weights u*v, weight decay, and noise added to u and v at each "
           "step"}  # fmt: skip
CLAIMS = [
    *tasks("{arm}_loses_plasticity",
        f"{ONLINE} loses plasticity with {{arm}}: its {EXCESS} rises by more than 0.1 "
        "from the first five to the last five tasks, in the mean over seeds.",
        _of(_change), arm=LOSERS, above=LEAST.size, tests="plasticity",
        but={("trap",): A_NAME}, reason=LEAST.reason, **_was(0.3, "0.6 to 0.7")),
    *tasks("{arm}_learns_nothing",
        f"{ONLINE} learns nothing in the end with {{arm}}: its {EXCESS} is above 0.9 "
        "in the mean over the last five tasks and over seeds.",
        _of(_last), arm=LOSERS, above=1 - LEAST.size, origin="ours",
        but={("trap",): A_NAME},
        reason="Predicting zero has an excess loss of 1 in the mean, and 0.9 is a "
        f"tenth below it. {LEAST.reason}"),
    *tasks("{arm}_keeps_plasticity",
        f"{ONLINE} keeps plasticity with {{arm}}: its {EXCESS} rises by less than 0.1 "
        "from the first five to the last five tasks, in the mean over seeds.",
        _of(_change), arm=KEEPERS, below=LEAST.size, kind="equivalence",
        tests="plasticity", place="figure 4, remedies",
        but={("vanilla",): {"place": "figure 4"}},
        reason=f"{LEAST.reason} A fall of the excess loss is an improvement, so there "
        "is no lower limit."),
    figure_4("remedies_learn",
        f"{ONLINE} with weights u*v and weight decay has an {EXCESS} that each of "
        "three remedies lowers by more than 0.1 on the last five tasks: random signs "
        "added to u and v, decay to a random point, and noise at each step.",
        tests="plasticity", place="figure 4, remedies", above=LEAST.size,
        estimate=weakest(*(where().paired(_last, arm=("symmetric", arm))
                           for arm in REMEDIES)), unit="excess loss",
        reason=f"{LEAST.reason} The claim excludes a remedy whose excess loss does not "
        "rise only because it is high from the first task on.", **_was(0.5, "0.67")),
    figure_4("symmetric_collapses",
        f"{ONLINE} with weights w = u*v and weight decay on u and v has more than 90 % "
        "of the weights at zero (|w| < 1e-4) at the end of each of the last five "
        "tasks, in the mean.",
        estimate=_of(_zeros)("symmetric"), above=0.9, origin="ours",
        unit="of the weights", reason="Nine of ten weights are nearly all of them."),
    figure_4("vanilla_stays_dense",
        f"{ONLINE} with weights w that are trained directly, not as products u*v, has "
        "fewer than 2 % of the weights at zero (|w| < 1e-4) at the end of each of the "
        "last five tasks, in the mean.",
        estimate=_of(_zeros)("vanilla"), below=0.02, origin="control",
        unit="of the weights",
        reason="Weights of size 0.1 are below 1e-4 by chance in 0.1 % of the cases, "
        "and twenty times that is allowed."),
    *family("{arm}_falls_at_lyapunov_rate",
        "In online SGD on 50 linear regressions in turn with {arm}, sum and difference "
        "of a weight's two factors shrink exponentially (in the median) from task 20 "
        "to 40, at 0.9 to 1.1 times the rate of their Lyapunov exponent at zero "
        "weights.",
        _of(_fall), arm=LOSERS, above=0.9, below=1.1, kind="equivalence", origin="ours",
        unit="times the exponent", paper=ZIYIN, place="section on SGD near the mirror",
        **after(("2026-11-21", "the thresholds were written after a look at these "
                 "seeds")),
        reason="The Lyapunov exponent is the mean growth per step of the logarithms of "
        "sum and difference where all weights are zero; no parameter is fitted. "
        "Weights that are not yet zero at task 20 lower the prediction error, and with "
        "it the rate, by up to a tenth."),
    Claim("distance_foresees_the_next_task",
        f"{REMEDIED} a larger distance of u from v and -v at the end of a task goes "
        "with a lower excess loss at the end of the next task: their rank correlation "
        "is below -0.5, in the mean over seeds.",
        estimate=_foresight, above=0.5, unit="rank correlation, times -1",
        reason="A rank correlation of a half explains a quarter of the variance of the "
        "ranks; less does not warn of much."),
    *family("distance_foresees_better_than_{measure}",
        f"{REMEDIED} the distance of u from v and -v after a task predicts the next "
        "task's excess loss better than the {measure} does: its rank correlation is "
        "stronger by over 0.05.",
        _advantage, above=0.05, unit="rank correlation",
        measure={"zero_fraction": "fraction of zero weights",
                 "effective_rank": "effective rank of the features u*x"},
        reason="A smaller gain in rank correlation is no reason to measure something "
        "else.",
        expected="failed", because="Where training collapses, all measures rank the "
        "tasks alike. Among the remedies, the fixed random signs added to u and v keep "
        "u farthest from v and -v, and yet have the highest excess loss. This was seen "
        "in 6 seeds and not foreseen.",
        history=(("2026-11-29", "the expected verdict became failed after 6 seeds; the "
                  "threshold stayed"),)),
    Claim("vanilla_is_lms",
        f"{ONLINE} with weights that are trained directly has an excess loss (over "
        "label noise) of 0.95 to 1.05 times that of the exact mean-square theory of "
        "LMS (least mean squares), in the mean over tasks and seeds.",
        place="exact second moments of least mean squares (Widrow and Hoff's rule)",
        estimate=_of(_over_lms)("vanilla"), above=0.95, below=1.05, origin="oracle",
        kind="equivalence", unit="times the theory",
        reason="The theory is exact in the mean, and 20 seeds of 50 tasks leave an "
        "error of 1 %."),
]  # fmt: skip
