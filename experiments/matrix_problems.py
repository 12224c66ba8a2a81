"""Update rules at tuned rates on matrix problems whose optimum is known.

Reference: the rules are those of Lau & Su, "symmetry-compatible" optimizers (arXiv
2605.18106) and what they are compared with; problems, protocol and claims are ours, as
is the exact centring of `centred_row_norm`. Three convex problems, each from W = 0:

  sensing    y_k = <A_k, W*>, full gradient: what differs then is the rule alone, noise
             has its place in the other two. W* (20, 12) has rank 4 and singular values
             over 1.5 decades; A_k = P^(1/2) Z_k Q^(1/2) is anisotropic, and there are
             four times as many as entries, so W* is the only optimum and its loss 0
  embedding  next-token prediction, softmax(W_i H^T) for token i, with the head H known
             and W the embedding; a row gets a gradient only when its token is drawn,
             the rarest of 256 every 49 steps
  head       the same with the embedding known and W the head: here a shift of all
             rows changes nothing, and the centred rules belong here

Tokens follow Zipf's law, labels about so. They are drawn from the model with W = W*, so
the excess loss is a Kullback-Leibler divergence, computed exactly over the whole
distribution. V D/2N, dashed, is that of maximum likelihood on N tokens were N large for
each of them. Bases: in 'axes' P and Q are diagonal, and so is the covariance of the
known factor, whose spectrum is a decade; in 'rotated' the same problem has no
particular basis.

Protocol: the whole grid, seven rates a factor two apart for every rule, runs on all
seeds. Even seeds tune: each rule takes the rate with the least mean log excess there.
Odd seeds are fresh: all comparisons are made on them at that rate, paired. The centres
of the grids and the numbers of steps come from a prototype on seeds 10000 and 10001
with rates a factor four apart. Momentum is an average (EMA) with .95 for every rule,
weight decay 0, and the rate falls linearly to 0 over the last 40 % of the steps. AdamW
has twice the grid: its second average has .999 (torch's default) or .95 (the paper's),
and comparisons are with the one that tunes better. The spectral rules use the five
steps of Polar Express.

Expected before the first run, from trials with small language models: tuned AdamW is
not beaten by row_norm or spectral updates on loss; the floor helps rare tokens. Found:
PolarGrad has 13 % less excess loss on the embedding and 10 % on the head. The arms of
the token problems in 'axes' were added after that, to see whether the basis is why.
Cost on one core: smoke 5 s, quick 5 min, paper 20 min.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from symlab.harness import Claim, figure, lanes, plot, rng, stats

LANES = 40  # more do not fit into the cache
STATIC = ("study", "rows", "columns", "batch", "steps", "momentum", "zipf")
CEILING = 1e3  # the excess of a run that diverged
DECAY = 0.4  # of the steps, at the end
FLOOR = 0.1  # of the root mean square row: what row_norm_floor fades below
RANK, CONDITION = 4, 30.0  # of W*; of P and of Q in sensing
LOGITS = 2.0  # standard deviation of the true logits, without the frequencies
ADAM = {"adamw": 0.999, "adamw_95": 0.95}  # and the average of its squares
SHARED = ("sgd", "adamw", "adamw_95", "sign", "row_norm", "row_norm_floor")
SHARED += ("spectral", "polargrad", "row_then_spectral")
RULES = {
    "sensing": (*SHARED, "column_norm"),
    "embedding": SHARED,
    "head": (*SHARED, "twice_centred", "centred_row_norm"),
}
IN_AXES = ("adamw", "adamw_95", "polargrad")  # of the token problems
CENTRES = {  # the middle of each grid, from the prototype
    "sensing": {
        "sgd": 20.0,
        "adamw": 0.03,
        "adamw_95": 0.008,
        "sign": 0.0025,
        "row_norm": 0.005,
        "row_norm_floor": 0.005,
        "spectral": 0.008,
        "polargrad": 4.0,
        "row_then_spectral": 0.008,
        "column_norm": 0.008,
    },
    "embedding": {
        "sgd": 4.0,
        "adamw": 0.03,
        "adamw_95": 0.02,
        "sign": 0.003,
        "row_norm": 0.008,
        "row_norm_floor": 0.015,
        "spectral": 0.1,
        "polargrad": 0.4,
        "row_then_spectral": 0.04,
    },
    "head": {
        "sgd": 5.0,
        "adamw": 0.04,
        "adamw_95": 0.03,
        "sign": 0.004,
        "row_norm": 0.012,
        "row_norm_floor": 0.025,
        "spectral": 0.1,
        "polargrad": 0.4,
        "row_then_spectral": 0.06,
        "twice_centred": 0.012,
        "centred_row_norm": 0.02,
    },
}


@dataclass(frozen=True)
class Config:
    study: str = "sensing"
    """The problem: 'sensing', 'embedding' or 'head'."""
    basis: str = "rotated"
    """'axes': covariances of the data are diagonal; 'rotated': in no such basis."""
    rule: str = "sgd"
    """From momentum to update; a key of RULES[study]."""
    lr: float = 0.01
    """Learning rate before its decay."""
    rows: int = 20
    """Rows of W; for tokens the vocabulary V."""
    columns: int = 12
    """Columns of W; for tokens the width."""
    batch: int = 0
    """Tokens per step; 0 is the full gradient."""
    steps: int = 400
    """Steps."""
    momentum: float = 0.95
    """Of the average of gradients, for every rule."""
    zipf: float = 1.0
    """Token i has a frequency in proportion to (i+1)^-zipf."""
    seed: int = 0
    """Problem and data. Even seeds tune the rate, odd ones compare."""


def sweep(scale: str) -> list[Config]:
    seeds = range({"smoke": 2, "quick": 16, "paper": 64}[scale])
    powers = range(-1, 2) if scale == "smoke" else range(-3, 4)
    v = {"smoke": 40, "quick": 256, "paper": 256}[scale]
    steps = {"smoke": 60, "quick": 1000, "paper": 1000}[scale]
    tokens = {"rows": v, "columns": 16, "batch": 32, "steps": steps}
    sensing = {"steps": 60 if scale == "smoke" else 400}
    arms = {
        ("sensing", "axes"): (RULES["sensing"], sensing),
        ("sensing", "rotated"): (RULES["sensing"], sensing),
    }
    for study in ("embedding", "head"):
        arms[study, "axes"] = IN_AXES, tokens
        arms[study, "rotated"] = RULES[study], tokens
    # seeds outermost: a chunk of lanes then has few of them, and few data
    return [
        Config(study, basis, rule, CENTRES[study][rule] * 2.0**k, **size, seed=seed)
        for (study, basis), (rules, size) in arms.items()
        for seed in seeds
        for rule in rules
        for k in powers
    ]


def run(configs: list[Config]) -> list[dict]:
    order = sorted(range(len(configs)), key=lambda i: configs[i].rule)
    inside = [configs[i] for i in order]  # lanes of one rule side by side
    problem = PROBLEMS[configs[0].study](inside)
    rows = problem.measure(_descend(inside, problem))
    place = np.argsort(order)
    return [_row(rows[place[i]]) for i in range(len(configs))]


def _row(found: dict) -> dict:
    """Numbers of one lane; those of a run that diverged are the ceiling."""
    lost = not np.isfinite(list(found.values())).all() or found["excess"] > CEILING
    ceiling = dict.fromkeys((k for k in found if k != "oracle_gap"), CEILING)
    return found | (ceiling if lost else {}) | {"diverged": lost}


# --- descent -------------------------------------------------------------------------


def _descend(configs: list[Config], problem):
    """The last W (L, M, N) of each lane; lanes of one rule must be side by side."""
    import torch

    c = configs[0]
    w = torch.zeros(len(configs), c.rows, c.columns, dtype=problem.dtype)
    lr = torch.from_numpy(lanes.column(configs, "lr", 3, np.float64)).to(w)
    parts = _parts(configs, w)
    for t in range(c.steps):
        g = problem.gradient(w, t)
        for at, step in parts:
            w[at].addcmul_(lr[at], step(g[at]), value=-schedule(t, c.steps))
    return w


def schedule(t: int, steps: int) -> float:
    """What multiplies the rate at step t: 1, then linearly to 0."""
    return min(1.0, (steps - t) / (DECAY * steps))


def _parts(configs: list[Config], w) -> list:
    """(slice of lanes, map from gradient to update) for each rule."""
    rules, beta, parts = [c.rule for c in configs], configs[0].momentum, []
    for rule in dict.fromkeys(rules):
        at = slice(rules.index(rule), rules.index(rule) + rules.count(rule))
        if rule in ADAM:
            parts.append((at, _Adam(ADAM[rule], beta, w[at])))
        else:
            parts.append((at, _Momentum(directions()[rule], beta, w[at])))
    return parts


def directions() -> dict:
    """name -> map from momentum (..., M, N) to update."""
    import torch

    from symlab import symopt

    return {
        "sgd": lambda m: m,
        "sign": torch.sign,
        "row_norm": symopt.row_norm,
        "row_norm_floor": partial(symopt.row_norm, floor=FLOOR),
        "column_norm": symopt.column_norm,
        "spectral": symopt.spectral,
        "polargrad": partial(symopt.spectral, alpha=1.0),
        "row_then_spectral": symopt.row_then_spectral,
        "twice_centred": partial(symopt.row_norm, centred=True),
        # a fixed number of steps: in float32 a lane stops when all others may, too
        "centred_row_norm": lambda m: symopt.centred_row_norm(m.double(), steps=20).to(
            m.dtype
        ),
    }


class _Momentum:
    """direction(EMA of gradients)."""

    def __init__(self, direction, beta: float, like):
        self.direction, self.beta = direction, beta
        self.mean = like.clone().zero_()

    def __call__(self, g):
        return self.direction(self.mean.lerp_(g, 1 - self.beta))


class _Adam:
    """Kingma & Ba's with bias correction; eps 1e-8 as in torch."""

    def __init__(self, beta2: float, beta: float, like):
        self.beta, self.beta2, self.t = beta, beta2, 0
        self.mean, self.square = like.clone().zero_(), like.clone().zero_()

    def __call__(self, g):
        self.t += 1
        self.mean.lerp_(g, 1 - self.beta)
        self.square.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
        size = (self.square / (1 - self.beta2**self.t)).sqrt_().add_(1e-8)
        return (self.mean / (1 - self.beta**self.t)).div_(size)


# --- sensing -------------------------------------------------------------------------


def measurements(c: Config) -> tuple[np.ndarray, np.ndarray]:
    """A (4 M N, M N) and W* (M, N). In 'rotated' both are those of 'axes', rotated."""
    draws = rng.stream(c.seed, "sensing")
    m, n = c.rows, c.columns
    left, right = (_haar(draws, k)[:, :RANK] for k in (m, n))
    truth = (left * np.logspace(0, -1.5, RANK)) @ right.T
    a = draws.normal(size=(4 * m * n, m, n))
    p, q = (np.logspace(0, -0.5 * np.log10(CONDITION), k) for k in (m, n))
    a = p[:, None] * a * q
    r, s = _haar(draws, m), _haar(draws, n)
    if c.basis == "rotated":
        a, truth = r @ a @ s.T, r @ truth @ s.T
    return a.reshape(len(a), m * n), truth


def _haar(draws, k: int) -> np.ndarray:
    """A random rotation (k, k)."""
    q, r = np.linalg.qr(draws.normal(size=(k, k)))
    return q * np.sign(np.diag(r))


class Sensing:
    """|A vec W - y|^2 / 2N, over its value at W = 0."""

    def __init__(self, configs: list[Config]):
        import torch

        self.dtype = torch.float64
        self.data = []  # lanes of one problem, its A^T A / N, A^T y / N, W*, oracle
        keys = [(c.seed, c.basis) for c in configs]
        for key in dict.fromkeys(keys):
            at = [i for i, k in enumerate(keys) if k == key]
            a, truth = measurements(configs[at[0]])
            y = a @ truth.ravel()
            best = np.linalg.lstsq(a, y, rcond=None)[0].reshape(truth.shape)
            gap = np.linalg.norm(best - truth) / np.linalg.norm(truth)
            arrays = (torch.from_numpy(b / len(a)) for b in (a.T @ a, a.T @ y))
            self.data.append((torch.tensor(at), *arrays, truth, float(gap)))

    def gradient(self, w, t: int):
        import torch

        g = torch.empty_like(w)
        for at, gram, target, _, _ in self.data:
            x = w[at].flatten(1).unsqueeze(1)  # one product per lane: one product of
            # all rounds by how many there are, and near the optimum that is felt
            x = torch.bmm(x, gram.expand(len(x), -1, -1)).squeeze(1)
            g[at] = (x - target).view(-1, *w.shape[1:])
        return g

    def measure(self, w) -> list[dict]:
        rows = [{}] * len(w)
        for at, gram, _, truth, gap in self.data:
            for i in at.tolist():
                with np.errstate(all="ignore"):  # lanes that diverged
                    found = _distances(w[i].numpy(), truth, gram.numpy())
                rows[i] = found | {"oracle_gap": gap}
        return rows


def _distances(w, truth, gram) -> dict:
    """Loss and |W - W*|, over their values at W = 0."""
    error, start = (w - truth).ravel(), truth.ravel()
    return {
        "excess": float(error @ gram @ error / (start @ gram @ start)),
        "distance": float(np.linalg.norm(error) / np.linalg.norm(start)),
    }


# --- tokens --------------------------------------------------------------------------


@dataclass(frozen=True)
class Tokens:
    """The truth: token i has `frequency`, and the next one log_softmax(E_i H^T)."""

    frequency: np.ndarray  # (V,)
    embedding: np.ndarray  # E (V, D)
    head: np.ndarray  # H (V, D)

    def log_p(self) -> np.ndarray:
        """(V, V), rows are the distributions of the next token."""
        z = self.embedding @ self.head.T
        z = z - z.max(1, keepdims=True)
        return z - np.log(np.exp(z).sum(1, keepdims=True))


def tokens(c: Config) -> Tokens:
    """Logits log pi_j + x_i.y_j, written as E H^T: there is no bias to know."""
    draws = rng.stream(c.seed, c.study)
    v, d = c.rows, c.columns
    frequency = (1.0 + np.arange(v)) ** -c.zipf
    spectrum = np.logspace(0, -1, d - 1)
    spectrum = LOGITS * spectrum / np.sqrt(np.sum(spectrum**2))
    known, sought = draws.normal(size=(2, v, d - 1))
    known = known * spectrum
    x, y = (sought, known) if c.study == "embedding" else (known, sought)
    turn = _haar(draws, d) if c.basis == "rotated" else np.eye(d)
    log_pi = np.log(frequency) - np.log(frequency).mean()
    embedding, head = np.c_[np.ones(v), x] @ turn.T, np.c_[log_pi, y] @ turn.T
    return Tokens(frequency / frequency.sum(), embedding, head)


def drawn(c: Config, truth: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and labels of every step, each (T, B)."""
    draws = rng.stream(c.seed, "tokens")
    u = draws.random((2, c.steps, c.batch))
    x = np.searchsorted(np.cumsum(truth.frequency)[:-1], u[0], "right")
    # one sorted list of all distributions: that of token i lies in [i, i+1]
    cumulative = np.cumsum(np.exp(truth.log_p()), 1)
    cumulative[:, -1] = 1.0
    flat = (cumulative + np.arange(c.rows)[:, None]).ravel()
    y = np.searchsorted(flat, u[1] + x, "right") - x * c.rows
    return x, y.clip(0, c.rows - 1)


class _Language:
    """What embedding and head share: the true model of each lane, and its tokens."""

    def __init__(self, configs: list[Config]):
        import torch

        self.dtype = torch.float32
        keys = [(c.seed, c.basis) for c in configs]
        first = {k: configs[keys.index(k)] for k in keys}
        self.which = torch.tensor([list(first).index(k) for k in keys])
        self.truth = [tokens(c) for c in first.values()]
        pairs = map(drawn, first.values(), self.truth)
        self.x, self.y = (
            torch.from_numpy(np.stack(a, 1)) for a in zip(*pairs, strict=True)
        )  # (T, S, B)
        known = np.stack([self._known(t) for t in self.truth])
        self.known = torch.from_numpy(known).to(self.dtype)[self.which]  # (L, V, D)
        c, size = configs[0], (len(configs), configs[0].batch)
        self.logits, self.p = (self.known.new_empty(*size, c.rows) for _ in "ab")
        self.minus = self.known.new_full((*size, 1), -1.0)

    def errors(self, x, y, t: int):
        """softmax(x y^T) - one-hot of the labels, (L, B, V), in a buffer."""
        import torch

        label = self.y[t][self.which].unsqueeze(-1)
        torch.bmm(x, y.mT, out=self.logits)
        torch.softmax(self.logits, -1, out=self.p)  # fresh memory would take longer
        return self.p.scatter_add_(-1, label, self.minus)

    def measure(self, w) -> list[dict]:
        """Exact excess, in nats, split into the frequent and rare half of tokens."""
        log_p = [t.log_p() for t in self.truth]
        rows = []
        for i, s in enumerate(self.which.tolist()):
            truth, ours = (
                self.truth[s],
                self._with(self.truth[s], w[i].double().numpy()),
            )
            with np.errstate(all="ignore"):
                parts = self._parts(truth.frequency, log_p[s], ours.log_p())
            rows.append(_split(*parts) | {"drift": _drift(w[i].double().numpy())})
        return rows


def _split(excess, mass) -> dict:
    """Of excess (V,) by token, which occurs with `mass`: nats per occurrence."""
    half = len(mass) // 2
    return {
        "excess": float(excess.sum()),
        "frequent": float(excess[:half].sum() / mass[:half].sum()),
        "rare": float(excess[half:].sum() / mass[half:].sum()),
    }


def _drift(w) -> float:
    """The mean row over the root mean square row: what a shift changes."""
    size = np.sqrt(np.mean(np.sum(w**2, 1)))
    return float(np.linalg.norm(w.mean(0)) / size) if size else 0.0


class Embedding(_Language):
    """W = E, split by the token that is given."""

    @staticmethod
    def _known(truth: Tokens):
        return truth.head

    @staticmethod
    def _with(truth: Tokens, w) -> Tokens:
        return replace(truth, embedding=w)

    def gradient(self, w, t: int):
        import torch

        n, v, d = w.shape
        x = self.x[t][self.which] + v * torch.arange(n)[:, None]  # (L, B)
        e = w.view(n * v, d)[x.flatten()].view(*x.shape, d)
        back = torch.bmm(self.errors(e, self.known, t), self.known)
        g = torch.zeros(n * v, d, dtype=w.dtype)
        g.index_add_(0, x.flatten(), back.flatten(0, 1).div_(x.shape[1]))
        return g.view(n, v, d)

    @staticmethod
    def _parts(frequency, log_p, log_q):
        p = np.exp(log_p)
        return frequency * (p * (log_p - log_q)).sum(1), frequency


class Head(_Language):
    """W = H, split by the token that is predicted."""

    @staticmethod
    def _known(truth: Tokens):
        return truth.embedding

    @staticmethod
    def _with(truth: Tokens, w) -> Tokens:
        return replace(truth, head=w)

    def gradient(self, w, t: int):
        import torch

        x = self.x[t][self.which].unsqueeze(-1)
        e = self.known.gather(1, x.expand(-1, -1, w.shape[-1]))  # (L, B, D)
        return torch.bmm(self.errors(e, w, t).mT, e.div_(e.shape[1]))

    @staticmethod
    def _parts(frequency, log_p, log_q):
        """p log(p/q) - p + q is never negative, and sums to the divergence."""
        p, q = np.exp(log_p), np.exp(log_q)
        return frequency @ (p * (log_p - log_q) - p + q), frequency @ p


PROBLEMS = {"sensing": Sensing, "embedding": Embedding, "head": Head}


# --- estimates -----------------------------------------------------------------------

ARM = ["study", "basis", "rule"]


def scores(df):
    """Mean log excess of each arm and rate over the tuning seeds, the even ones."""
    tuning = df[df.seed % 2 == 0]
    return _log(tuning.excess).groupby([tuning[f] for f in (*ARM, "lr")]).mean()


def tuned(df):
    """Rows of the fresh seeds at the rate that the tuning seeds chose, per arm."""
    best = scores(df).groupby(level=ARM).idxmin()
    rate = {arm[:-1]: arm[-1] for arm in best}
    arms = df[ARM].itertuples(index=False, name=None)
    chosen = df.lr == [rate[arm] for arm in arms]
    return df[chosen & (df.seed % 2 == 1)]


def _fresh_of(df, study: str):
    rows = tuned(df)
    return rows[rows.study == study]


def baseline(df, study: str, basis: str = "rotated") -> str:
    """The AdamW that is better on the tuning seeds."""
    least = scores(df)[study, basis].groupby("rule").min()
    return least[list(ADAM)].idxmin()


def _log(values):
    return np.log(np.maximum(values, 1e-300))


def difference(df, study, rule, other="", column="excess", basis="rotated"):
    """Paired interval of log(rule / other, else AdamW) of a column, fresh seeds."""
    other = other or baseline(df, study, basis)
    rows = _fresh_of(df, study)
    rows = rows[rows.basis == basis]
    rows = rows.assign(value=_log(rows[column]))
    return stats.paired(rows, "value", "rule", rule, other)


# --- figure --------------------------------------------------------------------------

LOOK = {  # colour, marker and name, in the order of the lower panels
    "sgd": (plot.BLACK, "o", "SGD"),
    "adamw": (plot.ORANGE, "s", "AdamW, .999"),
    "adamw_95": (plot.ORANGE, "D", "AdamW, .95"),
    "sign": (plot.PINK, "v", "sign"),
    "row_norm": (plot.BLUE, "^", "row-norm"),
    "row_norm_floor": (plot.BLUE, "<", "with floor"),
    "spectral": (plot.GREEN, "P", "spectral"),
    "row_then_spectral": (plot.GREEN, "d", "row-spectral"),
    "polargrad": (plot.GREEN, "X", "PolarGrad"),
    "column_norm": (plot.BLUE, ">", "column-norm"),
    "twice_centred": (plot.BLUE, "h", "centred twice"),
    "centred_row_norm": (plot.BLUE, "p", "centred exactly"),
}
CURVES = {"sgd": "--", "adamw": "--", "sign": ":"}
CURVES |= dict.fromkeys(("row_norm", "spectral", "polargrad"), "-")
RATES = {1 / 8: "1/8", 1 / 4: "1/4", 1 / 2: "1/2", 1: "1", 2: "2", 4: "4", 8: "8"}
TITLES = {"sensing": "matrix sensing", "embedding": "embedding", "head": "head"}


def _loss_axis(ax, which: str, study: str) -> None:
    """Log scale of the excess loss: relative, or in nats with a few round numbers."""
    unit = "loss at 0" if study == "sensing" else "nats"
    ax.set_title(TITLES[study])
    ax.set(**{f"{which}scale": "log", f"{which}label": f"excess loss ({unit})"})
    if study != "sensing":
        axis = getattr(ax, f"{which}axis")
        axis.set_ticks(
            [0.05, 0.1, 0.2, 0.5, 1], labels=["0.05", "0.1", "0.2", "0.5", "1"]
        )
        axis.set_ticks([], minor=True)


def _sensitivity(df, ax, study: str):
    """Geometric mean of fresh seeds against the rate over the tuned one."""
    rate = tuned(df).groupby(ARM).lr.first()[study, "rotated"]
    df = df[(df.study == study) & (df.basis == "rotated") & (df.seed % 2 == 1)]
    for rule, line in CURVES.items():
        color, marker, name = LOOK[rule]
        runs = df[df.rule == rule].groupby("lr")
        means = {
            lr: stats.mean(_log(g.excess)) for lr, g in runs if not any(g.diverged)
        }
        x = np.array(list(means)) / rate[rule]
        value = np.exp([i.value for i in means.values()])
        look = {"color": color, "marker": marker, "label": name, "mew": 0}
        ax.plot(x, value, line, **look)
        if df.seed.nunique() > 1:
            low, high = np.exp([(i.low, i.high) for i in means.values()]).T
            ax.fill_between(x, low, high, color=color, alpha=0.15, lw=0)
    ax.axvline(1, color="0.8", lw=0.6, zorder=0)
    _loss_axis(ax, "y", study)
    ax.set(xscale="log", xlabel="learning rate / tuned", xlim=(1 / 11, 11))
    ax.set_xticks(list(RATES), RATES.values())
    ax.set_xticks([], minor=True)


def _final(df, ax, study: str, kinds: tuple):
    """Tuned rules on fresh seeds: geometric means and intervals, rules downwards."""
    df = _fresh_of(df, study)
    order = {rule: i for i, rule in enumerate(LOOK)}
    for (column, basis, marker, color, label), offset in kinds.items():
        runs = df[df.basis == basis].groupby("rule")
        found = {rule: stats.mean(_log(g[column])) for rule, g in runs}
        value = np.exp([i.value for i in found.values()])
        ends = np.exp([(i.low, i.high) for i in found.values()]).T
        reach = np.abs(ends - value) if df.seed.nunique() > 1 else None
        y = [order[rule] + offset for rule in found]
        style = {"color": color, "ms": 3, "mew": 0, "elinewidth": 0.8, "label": label}
        ax.errorbar(value, y, xerr=reach, fmt=marker, **style)
    for y in range(len(LOOK)):
        ax.axhline(y, color="0.93", lw=0.5, zorder=0)
    names = [name for _, _, name in LOOK.values()] if study == "sensing" else []
    ax.set_yticks(range(len(LOOK)), names or [""] * len(LOOK))
    ax.tick_params(axis="y", length=0)
    _loss_axis(ax, "x", study)
    ax.set(ylim=(len(LOOK) - 0.4, -0.6))


def _tokens_final(df, ax, study: str) -> float:
    """The split by frequency, and V D/2N; squares are of 'axes', as in sensing."""
    kinds = {
        ("frequent", "rotated", "^", plot.GREEN, "frequent half"): -0.15,
        ("excess", "axes", "s", plot.BLUE, None): -0.15,
        ("excess", "rotated", "o", plot.BLACK, "all tokens"): 0.15,
        ("rare", "rotated", "v", plot.ORANGE, "rare half"): 0.15,
    }
    _final(df, ax, study, kinds)
    c = df[df.study == study].iloc[0]
    limit = c.rows * c.columns / (2 * c.batch * c.steps)
    ax.axvline(limit, color=plot.BLACK, ls=(0, (4, 2)), lw=0.9)
    return limit


@figure("symopt2", panel="left")
def draw_sensing(df, ax):
    _sensitivity(df, ax, "sensing")
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * 1e5)
    ax.legend(loc="upper center", ncol=2, title="curves end where a run diverged")
    ax.get_legend().get_title().set_fontsize(6.5)


@figure("symopt2", panel="mid")
def draw_embedding(df, ax):
    _sensitivity(df, ax, "embedding")


@figure("symopt2", panel="right")
def draw_head(df, ax):
    _sensitivity(df, ax, "head")


@figure("symopt2", panel="left", row=1)
def draw_sensing_final(df, ax):
    kinds = {
        ("excess", "axes", "s", plot.BLUE, "axes"): -0.15,
        ("excess", "rotated", "o", plot.BLACK, "rotated"): 0.15,
    }
    _final(df, ax, "sensing", kinds)
    ax.legend(loc="lower left")


@figure("symopt2", panel="mid", row=1)
def draw_embedding_final(df, ax):
    limit = _tokens_final(df, ax, "embedding")
    ax.text(1.06 * limit, 10.2, "$VD/2N$", fontsize=6.5)
    ax.legend(loc="lower right", borderpad=0.1)


@figure("symopt2", panel="right", row=1)
def draw_head_final(df, ax):
    _tokens_final(df, ax, "head")


# --- claims --------------------------------------------------------------------------


def _at_the_edge(df):
    """1 for an arm whose tuned rate is the first or last of its grid."""
    ends = df.groupby(ARM).lr.agg(["min", "max"])
    rate = tuned(df).groupby(ARM).lr.first()
    return stats.worst(1.0 * ((rate == ends["min"]) | (rate == ends["max"])))


def _basis(df, study: str, rule: str = ""):
    """log excess in the rotated basis minus that in the axes, each tuned."""
    rule = rule or baseline(df, study)
    rows = _fresh_of(df, study)
    rows = rows[rows.rule == rule]
    rows = rows.assign(value=_log(rows.excess))
    return stats.paired(rows, "value", "basis", "rotated", "axes")


def _not_beaten(study: str, rule: str, basis: str = "rotated", **expected) -> Claim:
    where = study if basis == "rotated" else f"{study}, axes"
    return Claim(
        f"{study}_adamw_and_{rule}" + "_in_axes" * (basis == "axes"),
        f"{where}: {NAMES[rule]} not beat tuned AdamW.",
        "ours; as in trials with small language models",
        partial(difference, study=study, rule=rule, basis=basis),
        above=-0.1,
        reason="less than 10 % of the excess loss is no gain that one would change an "
        "optimizer for",
        **expected,
    )


NAMES = {
    "row_norm": "row_norm does",
    "spectral": "spectral updates do",
    "row_then_spectral": "row, then spectral does",
    "polargrad": "PolarGrad does",
}
EXPECTED = {
    ("embedding", "polargrad"): {
        "expected": "failed",
        "because": "the basis: AdamW scales coordinates, and those of a rotated "
        "spectrum are all alike. In its axes AdamW is not beaten, and PolarGrad's loss "
        "is the same in both (two claims below)",
    },
    ("embedding", "spectral"): {
        "expected": "undecided",
        "because": "8 % less, close to the margin; for PolarGrad's reason",
    },
    ("head", "polargrad"): {
        "expected": "undecided",
        "because": "10 % less, the margin itself; for the embedding's reason",
    },
}
OURS = "ours"
CLAIMS = [
    Claim(
        "grids_hold_the_best",
        "The tuned rate of every rule lies inside its grid.",
        OURS + ", protocol",
        _at_the_edge,
        below=0.5,
        reason="no arm at either end, in any problem",
    ),
    Claim(
        "sensing_optimum",
        "Least squares on the measurements gives W*.",
        OURS + "; numpy's lstsq",
        lambda df: stats.worst(df[df.study == "sensing"].oracle_gap),
        below=1e-10,
        reason="rounding times the condition number, about 100",
    ),
    Claim(
        "sensing_reached",
        "Every tuned rule ends at W*.",
        OURS,
        lambda df: stats.worst(_fresh_of(df, "sensing").distance),
        below=0.05,
        reason="a twentieth of |W*|: the directions that matter least are slow, and "
        "steps of constant size end at the size of the last",
    ),
    Claim(
        "excess_is_a_divergence",
        "No run is below the known optimum.",
        "Gibbs' inequality",
        lambda df: stats.worst(df[df.study != "sensing"].excess, largest=False),
        above=-1e-12,
        reason="sums of 65,536 terms in float64",
    ),
    *(
        _not_beaten(study, rule, **EXPECTED.get((study, rule), {}))
        for study in RULES
        for rule in NAMES
    ),
    *(_not_beaten(s, "polargrad", "axes") for s in ("embedding", "head")),
    *(
        Claim(
            f"{study}_adamw_feels_the_basis",
            f"{study}: a rotated spectrum costs AdamW.",
            OURS + "; its squares belong to coordinates",
            partial(_basis, study=study),
            above=0.0,
            reason="a cost is a cost",
        )
        for study in RULES
    ),
    *(
        Claim(
            f"{study}_polargrad_does_not",
            f"{study}: a rotated spectrum changes nothing for PolarGrad.",
            OURS + "; O x O",
            partial(_basis, study=study, rule="polargrad"),
            above=-0.01,
            below=0.01,
            reason="1 %: an identity up to the rounding of float32, which 1000 steps "
            "amplify; four seeds of a prototype agreed to .1 %",
        )
        for study in ("embedding", "head")
    ),
    Claim(
        "sensing_sgd_does_not",
        "sensing: a rotation changes nothing for SGD.",
        OURS + "; the gradient turns with the problem",
        partial(_basis, study="sensing", rule="sgd"),
        above=-1e-6,
        below=1e-6,
        reason="rounding: losses of 1e-10 to four digits and more",
    ),
    Claim(
        "sensing_spectral_does_not",
        "sensing: a rotation changes nothing for spectral updates.",
        OURS + "; O x O",
        partial(_basis, study="sensing", rule="spectral"),
        above=-0.7,
        below=0.7,
        reason="a factor of two: steps of constant size amplify rounding near the "
        "optimum, so that only the distribution of the end is the same, not its digits",
    ),
    Claim(
        "floor_helps_rare_tokens",
        "embedding: the floor lowers the excess loss of the rare half.",
        OURS + "; plain row_norm moves a row at full size long after its last gradient",
        partial(
            difference,
            study="embedding",
            rule="row_norm_floor",
            other="row_norm",
            column="rare",
        ),
        below=0.0,
        reason="an improvement is an improvement",
    ),
    Claim(
        "exact_centring_pays",
        "head: the exact centred row_norm has less excess loss than centring twice.",
        OURS + "; with rows of very different size, centring twice is up to a third "
        "less steep at equal largest row",
        partial(
            difference, study="head", rule="centred_row_norm", other="twice_centred"
        ),
        below=0.0,
        reason="an improvement is an improvement; two seeds of the prototype had -.2",
    ),
    Claim(
        "centring_twice_changes_nothing",
        "head: centring twice has the excess loss of not centring.",
        OURS + "; the gradient of a softmax has no mean row",
        partial(difference, study="head", rule="twice_centred", other="row_norm"),
        above=-1e-3,
        below=1e-3,
        reason="an identity: centring a centred gradient does nothing, and what the "
        "second centring takes away is a shift. Rounding of float32 stays far below. "
        "It was 10 % before the first run, which found 6e-8",
    ),
    Claim(
        "centred_heads_do_not_drift",
        "The mean row of the head stays at zero under centred rules.",
        "arXiv 2605.18106; the shift symmetry",
        lambda df: stats.worst(
            df[df.rule.isin(["twice_centred", "centred_row_norm"])].drift
        ),
        below=1e-2,
        reason="1 % of a row: the exact rule stops after twenty steps of its iteration",
    ),
    Claim(
        "plain_heads_drift",
        "It does not under row_norm.",
        OURS + ", as trials with small language models had it",
        lambda df: stats.mean(_fresh_of(df, "head").query("rule == 'row_norm'").drift),
        above=0.1,
        reason="a tenth of a row",
    ),
]
