"""What asymmetric advantages do to a policy: entropy, pass@k, difficulty, stability.

Reference: "Unveiling Implicit Advantage Symmetry" (A-GRAE, arXiv 2602.05548), figures
2-5, 9 and 10 on 7B models; psr, nsr and w_reinforce are those of arXiv 2506.01347. The
estimators come from symlab.rlvr; environment, controls and thresholds are ours. What is
compared are orderings: none of the paper's numbers is a target at this scale.

A policy writes 10 tokens of a vocabulary of 12, each from a softmax that is linear in
the features of the prompt, 960 shared parameters; the first two tokens decide, eight
are free. The right token of a prompt is drawn from a sharp softmax of a teacher, so it
is in part unforeseeable; the base policy knows the teacher with noise. 128 prompts are
trained on and 512 held out. Given the prompt tokens are independent, so success rates
p, pass@k = mean of 1 - (1-p)^k, entropies and the expected number of unsolved groups
are exact: only training is random. A step samples G = 8 rollouts of every prompt, then
takes 4 epochs of 4 minibatches with the clipped objective of PPO (.2) and Adam (.1); no
KL, no bonus. All completions have one length, so GRPO, DAPO and Dr.GRPO normalise
alike: DAPO has its wider upper clip and Dr.GRPO no std. Widths and noises were chosen
with GRPO alone, on seeds 10000 to 10003: base reward .45-.5, a training plateau above
.8, clip fractions of 1-10 %.

Studies, each with the same seeds for all its arms, 16 and in 'main' 128:
  main            every method
  no clip, low clip, high clip, on-policy, random reward, matched step
                  controls: neither clip, one of them, fresh samples for every update,
                  rewards tossed with a coin, updates of one length
  beta, alpha, clip, group   what is swept; other values are in 'main'
  long            200 steps, for collapses
  weak base       a base policy whose mean reward is about .05

Why: in expectation an asymmetric estimator only reweights prompts, as long as samples
are fresh (experiments/advantage_theory.py). With stale minibatches the low clip takes
negatives away and the high clip positives: the first holds entropy up, the second down
(arXiv 2509.26114), and the weight of either sign decides how much each of them matters.
Expected, from a prototype of this setting: entropy PD < GRPO < A-GRAE < ND with the
clip only, random rewards included; pass@256 falls below the base; W-REINFORCE gains at
large k; ND > GRPO on pass@k does not reproduce, nor A-GRAE > GRPO. Found: all of that,
but A-GRAE is better than GRPO, by a quarter of a point at pass@1 and .4 at pass@256,
which it has from DDAS: ASS alone costs .2. In 'main' there are 128 seeds, since 16 left
that undecided, and 64 left pass@1 undecided on seeds that nobody had looked at.
Updates amplify rounding: within 10 to 40 steps a run in float32 parts from the same in
float64, in what free tokens do (entropy by up to .02), and where negatives rule (ND,
NSR, W-REINFORCE) in success, too (by up to .03): as far as other samples would lead. A
lane is bitwise the same alone and among others.
Cost on one core: smoke 8 s, quick 3 min, paper 8 min.
"""

from dataclasses import dataclass, replace
from functools import partial
from inspect import signature

import numpy as np

from symlab.harness import Claim, figure, lanes, plot, rng, stats

LANES = 64  # half of it costs a seventh more time, twice it gains nothing
STATIC = ("fresh", "group", "epochs", "steps", "noise")
VOCABULARY, TOKENS, DECISIVE, WIDTH = 12, 10, 2, 8
TRAIN, TEST, MINIBATCHES = 128, 512, 4
BATCH = TRAIN // MINIBATCHES  # prompts of an update
TEACHER, SHARP = 20.0, 5.0  # size of the logits of the teacher and of the base policy
KS = tuple(2**i for i in range(9))
LENGTH = 0.022  # what GRPO's updates have: root mean square over parameters
TINY = 1e-20  # no sampled token is less probable
SIDES = ("low", "high")
OFF = 1e9  # of a clip that is not there
WEAK = 2.0  # the noise of a base policy with a mean reward of about .05
FALL, RISE = 0.05, 1.3  # a collapse: of the batch-correct rate, of unsolved prompts
OPTIONS = {
    "positive_dominant": ("beta",),
    "negative_dominant": ("beta",),
    "ass": ("alpha",),
    "agrae": ("alpha",),
    "agrae_released": ("alpha",),
}
METHODS = ("grpo", "positive_dominant", "negative_dominant", "ass", "ddas", "agrae")
METHODS += ("agrae_released", "w_reinforce", "psr", "nsr", "hard", "easy", "dr_grpo")
METHODS += ("dapo",)


@dataclass(frozen=True)
class Config:
    study: str = "main"
    """Which comparison the run belongs to."""
    method: str = "grpo"
    """Of symlab.rlvr.advantages; 'base' is not trained."""
    beta: float = 10.0
    """Of positive_dominant and negative_dominant."""
    alpha: float = 1.0
    """Of ass, agrae and agrae_released."""
    clip_low: float = 0.2
    """Ratios below 1 - clip_low are clipped where the advantage is negative."""
    clip_high: float = 0.2
    """Ratios above 1 + clip_high are clipped where the advantage is positive."""
    reward: str = "verifier"
    """'verifier': both decisive tokens are right; 'random': a coin."""
    fresh: bool = False
    """Sample anew for every update, else once a step."""
    length: float = 0.0
    """Root mean square of every update over the parameters; 0 leaves it to Adam."""
    group: int = 8
    """Rollouts of a prompt, G; at most 255."""
    lr: float = 0.1
    """Adam's rate."""
    epochs: int = 4
    """Passes over the samples of a step."""
    steps: int = 60
    """Steps, each over all prompts."""
    noise: float = 0.25
    """Of the base policy, relative to the teacher."""
    seed: int = 0
    """Prompts, base policy, samples; shared by all arms."""


CONTROLS = {
    "no clip": {"clip_low": 1.0, "clip_high": OFF},
    "low clip": {"clip_high": OFF},
    "high clip": {"clip_low": 1.0},
    "on-policy": {"fresh": True},
    "random reward": {"reward": "random"},
    "matched step": {"length": LENGTH},
}


def sweep(scale: str) -> list[Config]:
    n, more = {"smoke": (2, 2), "quick": (16, 128), "paper": (64, 256)}[scale]
    steps, long = (6, 8) if scale == "smoke" else (60, 200)
    arms = [replace(a, steps=long if a.study == "long" else steps) for a in _arms()]
    # seeds outermost: a chunk of lanes then has few of them, and few samples to draw
    return [
        replace(a, seed=s)
        for s in range(more)
        for a in arms
        if s < n or a.study == "main"
    ]


def _arms() -> list[Config]:
    dapo = {"clip_high": 0.28}
    arms = [Config(method="base")]
    for study, fields in {"main": {}, **CONTROLS}.items():
        for method in METHODS:
            own = dapo if method == "dapo" else {}
            arms.append(Config(study, method, **(own | fields)))
    pd, nd = "positive_dominant", "negative_dominant"
    for method in (pd, nd):
        arms += [Config("beta", method, beta=b) for b in (2.0, 5.0, 20.0)]
    for method in ("ass", "agrae"):
        arms += [Config("alpha", method, alpha=a) for a in (0.25, 0.5, 2.0)]
    for method in ("grpo", pd, nd):
        pairs = [{"clip_low": c, "clip_high": c} for c in (0.05, 0.1, 0.4)]
        arms += [Config("clip", method, **pair) for pair in pairs]
    for method in ("grpo", pd, nd, "agrae"):
        arms += [Config("group", method, group=g) for g in (4, 16, 32)]
    arms += [Config("long", method) for method in ("grpo", nd, "ass", "agrae")]
    weak = ("base", "grpo", "hard", "easy")
    return arms + [Config("weak base", method, noise=WEAK) for method in weak]


def logged(steps: int) -> list[int]:
    """After how many steps the policy is measured."""
    early = {0, 1, 2, 3, 5, steps}
    return sorted((early | set(range(0, steps, 10))) & set(range(steps + 1)))


def run(configs: list[Config]) -> list[dict]:
    order = sorted(range(len(configs)), key=lambda i: _estimator(configs[i]))
    rows = train([configs[i] for i in order])
    place = np.argsort(order)
    return [rows[i] for i in place]


def _estimator(c: Config) -> tuple:
    """Name and options of what turns rewards into advantages."""
    return c.method, *((k, getattr(c, k)) for k in OPTIONS.get(c.method, ()))


# --- environment ---------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Prompts and base policy of a seed; the first TRAIN prompts are trained on."""

    features: np.ndarray  # (D, N), N = TRAIN + TEST
    right: np.ndarray  # (2, N) tokens
    base: np.ndarray  # (V, T, D): logits are base @ features


def world(c: Config) -> World:
    """Features have unit length on average, so logits have the size of the weights."""
    size = (WIDTH, TRAIN + TEST)
    features = rng.stream(c.seed, "prompts").normal(size=size) / np.sqrt(WIDTH)
    truth = rng.stream(c.seed, "truth")
    teacher = truth.normal(size=(VOCABULARY, DECISIVE, WIDTH))
    logits = TEACHER * teacher @ features
    right = (logits + truth.gumbel(size=logits.shape)).argmax(0)
    base = rng.stream(c.seed, "base").normal(size=(VOCABULARY, TOKENS, WIDTH))
    known = teacher + c.noise * base[:, :DECISIVE]
    base[:, :DECISIVE] = known / np.sqrt(1 + c.noise**2)
    return World(features, right, SHARP * base)


class Draws:
    """What is random in training, drawn once for each seed."""

    def __init__(self, c: Config):
        self.c = c
        names = ("order", "samples", "coins")
        self.order, self.samples, self.coins = (rng.stream(c.seed, n) for n in names)

    def step(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The order of prompts (TRAIN,), and for each sampling of a minibatch (M)
        uniforms (M, G, T*P) and coins (M, G, P)."""
        c = self.c
        m = MINIBATCHES * (c.epochs if c.fresh else 1)
        order = self.order.permutation(TRAIN)
        uniforms = self.samples.random((m, c.group, TOKENS * BATCH), np.float32)
        return order, uniforms, self.coins.random((m, c.group, BATCH)) < 0.5


# --- policy --------------------------------------------------------------------------
# Arrays of a policy are (L, V, T*P) and those of its samples (G, L, T*P): sums over the
# vocabulary and over rollouts then add long rows.


@dataclass
class Minibatch:
    """P prompts of each lane, and the tokens of their rollouts that can move a policy.

    These are a tenth of all: tokens v of lanes l at columns c = (place, prompt) that
    were sampled with an advantage other than 0. Rows are for reward 1 and for reward 0.
    """

    features: object  # (L, D, P)
    right: object  # (L, 2, P) tokens
    index: object = None  # (N,): (l*V + v)*T*P + c
    column: object = None  # (N,): l*T*P + c
    number: object = None  # (2, N): rollouts with it
    slope: object = None  # (2, N): the same times advantage over its probability then
    limit: object = None  # (2, N): probabilities beyond which it is clipped


class Policy:
    """Weights (L, V*T, D) of all lanes, and what moves them."""

    def __init__(self, configs: list[Config], base):
        import torch

        self.w, self.update = base, torch.zeros_like(base)
        # at a rate of 1, as every lane has its own
        self.adam = torch.optim.Adam([self.update], lr=1.0, maximize=True, fused=True)
        columns = (lanes.column(configs, f, 3, np.float64) for f in ("lr", "length"))
        self.lr, self.length = (torch.from_numpy(x).to(base) for x in columns)
        self.matched = bool((self.length > 0).any())

    def __call__(self, features, out):
        """Probabilities (L, V, T*P), in out."""
        import torch

        torch.bmm(self.w, features, out=out.view(*self.w.shape[:2], -1))
        # along this axis torch.softmax takes longer
        out.sub_(out.amax(1, keepdim=True)).exp_()
        return out.mul_(out.sum(1, keepdim=True).reciprocal_())

    def ascend(self, g) -> None:
        """Adam's step, or one of fixed length in its direction."""
        self.update.zero_().grad = g
        self.adam.step()
        rate = self._rate() if self.matched else self.lr
        self.w.addcmul_(self.update, rate)

    def _rate(self):
        import torch

        size = self.update.square().mean((1, 2), keepdim=True).sqrt_()
        fixed = torch.where(size > 0, self.length / size, 0.0)
        return torch.where(self.length > 0, fixed, self.lr)


def later(pi, uniforms):
    """(V-1, G, L, T*P): which rollouts have a token after v, the last one excepted.

    Those with uniforms (G, L, T*P) of at least F(v), the distribution function of the
    probabilities pi (L, V, T*P).
    """
    f = np.zeros(uniforms.shape[1:], pi.dtype)
    out = np.empty((VOCABULARY - 1, *uniforms.shape), bool)
    for v in range(VOCABULARY - 1):
        f += pi[:, v]
        np.greater_equal(uniforms, f, out=out[v])
    return out


def hits(after, right):
    """Which rollouts (G, L, P) have the right decisive tokens (L, 2, P)."""
    n, places, p = right.shape
    tokens = after[..., : places * p].view(np.int8).sum(0, np.int8)
    return (tokens.reshape(-1, n, places, p) == right).all(2)


def counts(after, rewards):
    """(2, V, L, T*P): how many rollouts of reward 1, and of 0, have each token.

    after: of `later`, overwritten. rewards: (G, L, P), booleans.
    """
    shape = *rewards.shape[:2], TOKENS, rewards.shape[2]
    ones = np.broadcast_to(rewards[:, :, None], shape).reshape(after.shape[1:])
    least = np.zeros((2, VOCABULARY + 1, *ones.shape[1:]), np.uint8)  # that or later
    least[0, 0] = _number(ones)
    least[1, 0] = len(ones) - least[0, 0]
    least[1, 1:-1] = _number(after)
    least[0, 1:-1] = _number(np.logical_and(after, ones, out=after))
    least[1, 1:-1] -= least[0, 1:-1]
    return least[:, :-1] - least[:, 1:]


def _number(rollouts):
    """(..., L, T*P): how many of (..., G, L, T*P) are true; at most 255.

    Eight are added at once, as the bytes of one integer.
    """
    return rollouts.view(np.int64).sum(-3).view(np.uint8)


# --- training ------------------------------------------------------------------------


def train(configs: list[Config], dtype=None) -> list[dict]:
    """Rows of lanes in one precision, float32 if not said; equal estimators adjoin."""
    lane = Training(configs, dtype)
    steps = configs[0].steps
    when = logged(steps)
    for step in range(steps):
        if step in when:
            lane.measure()
        lane.step(count=step in when)
    lane.measure()
    return lane.rows()


class Training:
    """All lanes of a call, step by step."""

    def __init__(self, configs: list[Config], dtype=None):
        import torch

        self.configs, self.c = configs, configs[0]
        if self.c.group > 255:
            raise ValueError(
                f"group = {self.c.group}: use at most 255 rollouts, counted in bytes"
            )
        self.dtype = dtype or torch.float32
        seeds, which = lanes.shared(configs)
        self.which = torch.from_numpy(which)
        firsts = [configs[which.tolist().index(i)] for i in range(len(seeds))]
        worlds = [world(c) for c in firsts]
        features = np.stack([w.features for w in worlds])
        base = np.stack([w.base.reshape(-1, WIDTH) for w in worlds])
        self.features = self._tensor(features)  # (U, D, N)
        self.right = torch.from_numpy(np.stack([w.right for w in worlds]))  # (U, 2, N)
        self.policy = Policy(configs, self._tensor(base)[self.which])
        self.draws = [Draws(c) for c in firsts]
        low, high = (lanes.column(configs, f"clip_{s}", 1, np.float64) for s in SIDES)
        self.bounds = np.stack([1 + high, 1 - low])  # (2, L), of rewards 1 and 0
        self.random = np.array([c.reward == "random" for c in configs])[:, None]
        self.parts, group = _parts(configs), self.c.group
        self.values = np.zeros((2, len(configs), group + 1))
        for at, *estimator in self.parts:
            any_omega = np.zeros(at.stop - at.start)
            self.values[:, at] = _values(*estimator, any_omega, group)
        shape = len(configs), VOCABULARY, TOKENS * BATCH
        self.buffers = [torch.empty(shape, dtype=self.dtype) for _ in range(2)]
        self.curves: dict[str, list] = {}

    def _tensor(self, array):
        import torch

        return torch.from_numpy(array).to(self.dtype)

    def step(self, count: bool) -> None:
        """One batch of prompts: its samples, and the updates they are used for."""
        batches, uniforms, coins = self._draw()
        if not self.c.fresh:
            self.sample(batches, uniforms, coins)
        clipped = []
        for i in range(self.c.epochs * MINIBATCHES):
            batch = batches[i % MINIBATCHES]
            if self.c.fresh:
                at = slice(i, i + 1)
                self.sample([batch], uniforms[at], coins[at])
            self.policy.ascend(self.gradient(batch, clipped if count else None))
        if count:
            tokens = self.c.epochs * TRAIN * self.c.group * TOKENS
            for side, n in zip(SIDES, zip(*clipped, strict=True), strict=True):
                self._note(f"clip_{side}_curve", sum(n) / tokens)

    def _draw(self):
        """Minibatches in a new order, uniforms (M, G, U, T*P), coins (M, G, U, P)."""
        import torch

        order, uniforms, coins = zip(*(d.step() for d in self.draws), strict=True)
        order = torch.from_numpy(np.stack(order))[:, None]
        prompts = []
        for x in (self.features, self.right):
            x = x.gather(2, order.expand(-1, x.shape[1], -1))
            x = x.index_select(0, self.which)
            prompts.append([b.contiguous() for b in x.split(BATCH, 2)])
        batches = [Minibatch(*pair) for pair in zip(*prompts, strict=True)]
        return batches, np.stack(uniforms, 2), np.stack(coins, 2)

    def sample(self, batches, uniforms, coins) -> None:
        """Rollouts of the minibatches by the policy as it is; one batch for omega."""
        drawn, found, which = [], [], self.which.numpy()
        for batch, u, coin in zip(batches, uniforms, coins, strict=True):
            pi = self.policy(batch.features, self.buffers[0]).numpy()
            after = later(pi, u.take(which, 1))
            r = hits(after, batch.right.numpy())
            r = np.where(self.random, coin.take(which, 1), r)
            drawn.append(r)
            found.append((pi.copy(), counts(after, r)))
        a = np.split(self.advantages(np.concatenate(drawn, 2)), len(batches), 2)
        for batch, part, (pi, n) in zip(batches, a, found, strict=True):
            self.select(batch, part / (BATCH * self.c.group * TOKENS), pi, n)

    def select(self, batch: Minibatch, a, pi, n) -> None:
        """The tokens that can move a policy, from n (2, V, L, T*P) of `counts`.

        a: advantages (2, L, P) over the number of tokens. pi: probabilities that
        sampled.
        """
        import torch

        a = np.tile(a, (1, 1, TOKENS))  # (2, L, T*P)
        n *= (a != 0)[:, None]
        n = np.ascontiguousarray(n.swapaxes(1, 2)).reshape(2, -1)
        at = np.flatnonzero((n[0] | n[1]) != 0)
        columns = a.shape[2]
        lane = at // (VOCABULARY * columns)
        column = lane * columns + at - at // columns * columns
        # what is sampled by rounding may have no probability: 0 over 0
        old = np.maximum(pi.reshape(-1)[at], TINY)
        number = n.take(at, 1)
        slope = number * a.reshape(2, -1).take(column, 1) / old
        batch.index, batch.column = torch.from_numpy(at), torch.from_numpy(column)
        batch.number, batch.slope = self._tensor(number), self._tensor(slope)
        batch.limit = self._tensor(old * self.bounds.take(lane, 1))

    def advantages(self, rewards):
        """(2, L, P): what rewards 1 and 0 are worth in each group of (G, L, P).

        By each lane's estimator; omega is the mean reward of its batch. Groups with
        equally many right rollouts have equal advantages, so those of 0 to G right ones
        are computed and looked up.
        """
        right = rewards.sum(0)  # (L, P)
        omega = right.mean(1) / len(rewards)
        for at, *estimator in self.parts:
            if _of_batch(*estimator):
                self.values[:, at] = _values(*estimator, omega[at], len(rewards))
        return np.take_along_axis(self.values, right[None], 2)

    def gradient(self, batch: Minibatch, clipped: list | None = None):
        """Of the mean of min(rho A, clip(rho) A) over tokens, (L, V*T, D).

        A token adds rho A (onehot - pi) to the gradient of its logits unless it is
        clipped, so tokens of one prompt, place and kind count with the sum of their A.
        clipped: gets the numbers of tokens clipped low and high, each (L,).
        """
        import torch

        pi = self.policy(batch.features, self.buffers[0])
        p = pi.view(-1).index_select(0, batch.index)
        kept = (p - batch.limit).mul_(batch.slope).le_(0)  # 1 within the clip, else 0
        if clipped is not None:
            lost = (1 - kept).mul_(batch.number)
            sums = (self._by_column(batch, n).sum(1) for n in lost)
            clipped.append([*sums][::-1])
        g = kept.mul_(batch.slope).sum(0).mul_(p)
        total = self._by_column(batch, g).neg_()[:, None]
        c = torch.mul(pi, total, out=self.buffers[1])
        c.view(-1).scatter_add_(0, batch.index, g)
        c = c.view(len(pi), -1, BATCH)
        return torch.bmm(c, batch.features.transpose(1, 2))

    def _by_column(self, batch: Minibatch, values):
        """Sums (L, T*P) of values (N,) over the tokens of each place and prompt."""
        shape = len(self.configs), TOKENS * BATCH
        out = values.new_zeros(shape)
        out.view(-1).scatter_add_(0, batch.column, values)
        return out

    def measure(self, block: int = 4) -> None:
        """Exact properties of the policy; a few lanes at a time fit into the cache."""
        import torch

        from symlab.rlvr.passk import pass_at_k_exact

        parts = torch.arange(len(self.configs)).split(block)
        found = [self._properties(at) for at in parts]
        p, entropy, greedy = (torch.cat(x) for x in zip(*found, strict=True))  # (L, N)
        self.rates = p[:, TRAIN:]  # (L, TEST)
        self._note("batch_correct_curve", p[:, :TRAIN].mean(1))
        unsolved = (1 - p[:, :TRAIN]) ** self.c.group
        self._note("unsolved_curve", unsolved.sum(1))
        self._note("train_entropy_curve", entropy[:, :TRAIN].mean(1))
        self._note("entropy_curve", entropy[:, TRAIN:].mean(1))
        self._note("greedy_curve", greedy[:, TRAIN:].mean(1))
        self._note("pass_1_curve", self.rates.mean(1))
        self._note("pass_256_curve", pass_at_k_exact(self.rates, 256).mean(1))

    def _properties(self, at):
        """Success rate, entropy per token, whether greedy is right: each (B, N)."""
        import torch

        which = self.which[at]
        z = torch.bmm(self.policy.w[at], self.features[which])
        z = z.view(len(at), VOCABULARY, TOKENS, -1)
        z.sub_(z.amax(1, keepdim=True))
        e = z.exp()
        total = e.sum(1)
        own = z[:, :, :DECISIVE].gather(1, self.right[which][:, None])[:, 0]
        greedy = (own == 0).all(1).double()
        p = (own - total[:, :DECISIVE].log()).double().sum(1).exp().clamp(max=1)
        entropy = (total.log() - e.mul_(z).sum(1) / total).mean(1).double()
        return p, entropy, greedy

    def _note(self, name: str, values) -> None:
        self.curves.setdefault(name, []).append(values.tolist())

    def rows(self) -> list[dict]:
        from symlab.rlvr.passk import pass_at_k_exact

        passes = np.stack([pass_at_k_exact(self.rates, k).mean(1) for k in KS], 1)
        when = logged(self.c.steps)
        curves = {name: np.transpose(x) for name, x in self.curves.items()}
        return [
            _row(when, {name: x[i] for name, x in curves.items()}, passes[i])
            for i in range(len(self.configs))
        ]


def _parts(configs: list[Config]) -> list[tuple[slice, str, dict]]:
    """(lanes, name, options) of each estimator."""
    names, parts = [_estimator(c) for c in configs], []
    for name in dict.fromkeys(names):
        first = names.index(name)
        if name[0] != "base":
            at = slice(first, first + names.count(name))
            parts.append((at, name[0], dict(name[1:])))
    return parts


def _of_batch(method: str, options: dict) -> bool:
    """Whether an estimator depends on the mean reward of the batch."""
    from symlab.rlvr.advantages import ESTIMATORS

    return "omega" in signature(ESTIMATORS[method]).parameters


def _values(method: str, options: dict, omega, group: int):
    """(2, n, G+1): what rewards 1 and 0 are worth in groups of 0 to G right rollouts.

    omega (n,): mean rewards of n batches.
    """
    from symlab.rlvr.advantages import advantages

    levels = np.tri(group + 1, group, -1)  # (G+1, G): the first k are right
    rows = np.tile(levels, (len(omega), 1))
    of_rows = omega.repeat(group + 1)[:, None]
    a = advantages(rows, method, omega=of_rows, **options)
    a = a.reshape(len(omega), group + 1, group)
    return np.stack([a[..., 0], a[..., -1]])


def _row(when: list[int], curves: dict, passes: np.ndarray) -> dict:
    """Curves over the steps in `when`, and what is read from them."""
    correct, unsolved = curves["batch_correct_curve"], curves["unsolved_curve"]
    fall = np.maximum.accumulate(correct) - correct
    rise = unsolved / np.minimum.accumulate(unsolved)
    settled = [i for i, step in enumerate(when[:-1]) if step >= 5 or len(when) < 7]
    return {
        **{name: x.tolist() for name, x in curves.items()},
        "step_curve": when,
        "pass_at_k": passes.tolist(),
        "pass_1": float(passes[0]),
        "pass_16": float(passes[KS.index(16)]),
        "pass_256": float(passes[-1]),
        "entropy": float(curves["entropy_curve"][-1]),
        "greedy": float(curves["greedy_curve"][-1]),
        "batch_correct": float(correct[-1]),
        "clip_low_mean": float(curves["clip_low_curve"][settled].mean()),
        "clip_high_mean": float(curves["clip_high_curve"][settled].mean()),
        "fall": float(fall.max()),
        "rise": float(rise.max()),
        "collapsed": bool(((fall > FALL) & (rise > RISE)).any()),
    }


# --- table and figures ---------------------------------------------------------------

PD, ND = "positive_dominant", "negative_dominant"  # as in the paper
NAMES = {
    "base": "base",
    "grpo": "GRPO",
    PD: "PD",
    ND: "ND",
    "ass": "ASS",
    "ddas": "DDAS",
    "agrae": "A-GRAE",
    "agrae_released": "A-GRAE, released",
    "w_reinforce": "W-REINFORCE",
    "psr": "PSR",
    "nsr": "NSR",
    "hard": "Hard",
    "easy": "Easy",
    "dr_grpo": "Dr.GRPO",
    "dapo": "DAPO",
}
LOOK = {
    "base": ("#888888", "X"),
    "grpo": (plot.BLACK, "o"),
    PD: (plot.ORANGE, "^"),
    ND: (plot.BLUE, "v"),
    "ass": (plot.GREEN, "D"),
    "agrae": (plot.PINK, "s"),
    "hard": (plot.ORANGE, "D"),
    "easy": (plot.BLUE, "P"),
}
STUDIES = {"main": "both clips", **{name: name for name in CONTROLS}}


def table(df):
    """Every method of the main study, with paired differences to GRPO."""
    import pandas as pd

    main = df[df.study == "main"]
    rows = []
    for method in ("base", *METHODS):
        mean = main[main.method == method].mean(numeric_only=True)
        row = {"method": NAMES[method]}
        for column in ("entropy", "pass_1", "pass_16", "pass_256"):
            row[column.replace("pass_", "pass@")] = f"{mean[column]:.3f}"
        for column in ("pass_1", "pass_256"):
            name = "difference of " + column.replace("_", "@")
            row[name] = (
                "" if method == "grpo" else _shown(difference(df, column, method))
            )
        row["clipped low, high"] = (
            f"{mean.clip_low_mean:.1%}, {mean.clip_high_mean:.1%}"
        )
        rows.append(row)
    return pd.DataFrame(rows)


def _shown(i) -> str:
    return f"{i.value:+.3f} [{i.low:+.3f}, {i.high:+.3f}]"


def difference(df, column: str, method: str, other: str = "grpo", study: str = "main"):
    """Paired difference of two methods within a study."""
    return stats.paired(df[df.study == study], column, "method", method, other)


def ratio(df, method: str, other: str = "grpo", study: str = "main"):
    """Paired ratio of final entropies within a study."""
    wide = df[df.study == study].pivot(index="seed", columns="method", values="entropy")
    return stats.mean((wide[method] / wide[other]).dropna())


def long(df, column: str, x: str = "step_curve"):
    """One row for each seed and point of a curve."""
    import pandas as pd

    rows = [
        (seed, at, value)
        for seed, points, values in zip(df.seed, df[x], df[column], strict=True)
        for at, value in zip(points, values, strict=False)
    ]
    return pd.DataFrame(rows, columns=["seed", "x", "y"])


def gaps(df, column: str, method: str, other: str = "grpo", study: str = "main"):
    """The same of paired differences; x is the position in the curve."""
    import pandas as pd

    part = df[df.study == study]
    one, two = (
        part[part.method == m].set_index("seed")[column] for m in (method, other)
    )
    rows = [
        (seed, i, a - b)
        for seed in one.index
        for i, (a, b) in enumerate(zip(one[seed], two[seed], strict=True))
    ]
    return pd.DataFrame(rows, columns=["seed", "x", "y"])


def beside(df, *studies: str):
    """The main study and others, on the seeds that all of them have."""
    part = df[df.study.isin(["main", *studies])]
    seeds = [set(df[df.study == s].seed) for s in studies]
    return part[part.seed.isin(set.intersection(*seeds))]


def _arm(df, method: str, study: str = "main"):
    return df[(df.method == method) & (df.study == study)]


def _curve(ax, frame, method: str, label: str | None = None, **line):
    color, marker = LOOK[method]
    label = NAMES[method] if label is None else label
    style = {"color": color, "marker": marker} | line
    plot.curve(ax, frame, "x", "y", label=label, **style)


def _points(ax, at, intervals, method: str, label: str | None = None, across=False):
    """Means with their intervals; across: along the horizontal axis."""
    color, marker = LOOK[method]
    at, value = np.asarray(at, float), np.array([i.value for i in intervals])
    error = [value - [i.low for i in intervals], [i.high for i in intervals] - value]
    ax.errorbar(
        *((value, at) if across else (at, value)),
        **{"xerr" if across else "yerr": np.abs(error)},
        fmt=marker,
        color=color,
        ms=3.5,
        lw=1,
        label=NAMES[method] if label is None else label,
    )


def _entropies(df, ax, study: str, title: str):
    both = beside(df, study)
    for method in ("base", ND, "agrae", "grpo", PD):
        part = _arm(both, method, "main" if method == "base" else study)
        _curve(ax, long(part, "entropy_curve"), method)
    ax.set(xlabel="step", ylabel="test entropy per token, nats", ylim=(0.3, 0.88))
    ax.set_title(title)


@figure("agrae2", panel="left")
def draw_entropy(df, ax):
    _entropies(df, ax, "main", "clip .2")
    ax.legend(loc="upper left", ncol=2, columnspacing=0.8, borderaxespad=0.1)
    ax.get_legend().set_in_layout(False)


@figure("agrae2", panel="mid")
def draw_entropy_no_clip(df, ax):
    _entropies(df, ax, "no clip", "control: no clip")


@figure("agrae2", panel="right")
def draw_entropy_controls(df, ax):
    for method, shift in ((PD, -0.12), (ND, 0.12)):
        found = [ratio(df, method, study=s) for s in STUDIES]
        _points(ax, np.arange(len(found)) + shift, found, method)
    ax.axhline(1, color="0.6", lw=0.7, zorder=0)
    ax.set_xticks(range(len(STUDIES)), STUDIES.values(), rotation=40, ha="right")
    ax.set(ylabel="final entropy over GRPO's", yscale="log", ylim=(0.5, 2.4))
    ax.set_yticks([0.5, 0.7, 1, 1.4, 2], ["0.5", "0.7", "1", "1.4", "2"])
    ax.minorticks_off()
    ax.legend(loc="upper left", borderaxespad=0.1)


@figure("agrae2", panel="left", row=1)
def draw_clip_fractions(df, ax):
    for method in (ND, "grpo", PD):
        for side, line in (("low", "-"), ("high", "--")):
            frame = long(_arm(df, method), f"clip_{side}_curve")
            frame = frame.assign(y=100 * frame.y)
            _curve(ax, frame, method, f"{NAMES[method]}, {side}", linestyle=line)
    ax.set(xlabel="step", ylabel="tokens clipped, %", yscale="log", ylim=(0.2, 60))
    ax.set_yticks([0.3, 1, 3, 10], ["0.3", "1", "3", "10"])
    ax.minorticks_off()
    ax.legend(loc="upper right", ncol=2, columnspacing=0.8, borderaxespad=0.1)


@figure("agrae2", panel="mid", row=1)
def draw_beta(df, ax):
    both = beside(df, "beta")
    for method, sign in ((PD, 1), (ND, -1)):
        part = both[both.method == method]
        frame = part.assign(x=part.beta**sign, y=part.entropy)
        _curve(ax, frame, method)
    one = _arm(both, "grpo")
    _curve(ax, one.assign(x=1.0, y=one.entropy), "grpo")
    base = _arm(both, "base").entropy.mean()
    ax.axhline(base, color=LOOK["base"][0], lw=0.8, ls=":", label="base")
    ax.set(xscale="log", xlabel="factor of positive advantages", ylim=(0.3, 0.88))
    ax.set_ylabel("final test entropy, nats")
    ax.set_xticks([0.05, 0.2, 1, 5, 20], [".05", ".2", "1", "5", "20"])
    ax.minorticks_off()
    ax.legend(loc="upper right")


@figure("agrae2", panel="right", row=1)
def draw_clip_range(df, ax):
    both = beside(df, "clip", "no clip")
    for method in (ND, "grpo", PD):
        part = both[both.method == method]
        frame = part.assign(x=part.clip_high.clip(upper=0.9), y=part.entropy)
        _curve(ax, frame, method)
    ax.set(xscale="log", xlabel="clip range $\\epsilon$", ylim=(0.3, 0.88))
    ax.set_ylabel("final test entropy, nats")
    ax.set_xticks([0.05, 0.1, 0.2, 0.4, 0.9], [".05", ".1", ".2", ".4", "off"])
    ax.minorticks_off()
    ax.legend(loc="upper right")


def _passes(df, ax, methods, study: str = "main"):
    """Differences to GRPO at every k."""
    for method in methods:
        frame = gaps(df, "pass_at_k", method, study=study)
        _curve(ax, frame.assign(x=frame.x.map(dict(enumerate(KS)))), method)
    ax.axhline(0, color="0.6", lw=0.7, zorder=0)
    _log_k(ax)
    ax.set_ylabel("pass@$k$, difference to GRPO")


def _log_k(ax):
    ax.set_xscale("log", base=2)
    ax.set_xticks(KS[::2], [str(k) for k in KS[::2]])
    ax.minorticks_off()
    ax.set_xlabel("$k$")


WIDE = (-0.075, 0.045)


@figure("agrae3", panel="left")
def draw_pass(df, ax):
    for method in ("base", "grpo", PD, ND):
        part = _arm(df, method)
        frame = long(part.assign(k=[KS] * len(part)), "pass_at_k", "k")
        _curve(ax, frame, method)
    _log_k(ax)
    ax.set_ylabel("pass@$k$, held-out prompts")
    ax.legend(loc="lower right")


@figure("agrae3", panel="mid")
def draw_pass_differences(df, ax):
    _passes(df, ax, (PD, ND))
    ax.set_title("stale minibatches, clip .2")
    ax.set_ylim(*WIDE)
    ax.legend(loc="lower right", ncol=2)


@figure("agrae3", panel="right")
def draw_pass_on_policy(df, ax):
    _passes(df, ax, (PD, ND), "on-policy")
    ax.set_title("control: on-policy")
    ax.set_ylim(*WIDE)


@figure("agrae4", panel="left")
def draw_batch(df, ax):
    for method in ("hard", "easy", "grpo"):
        _curve(ax, long(_arm(df, method), "batch_correct_curve"), method)
    ax.set(xlabel="step", ylabel="batch-correct rate, training prompts")
    ax.legend(loc="lower right")


@figure("agrae4", panel="mid")
def draw_batch_gap(df, ax):
    for study, color, marker in (
        ("main", plot.BLACK, "o"),
        ("weak base", plot.GREEN, "s"),
    ):
        steps = _arm(df, "easy", study).step_curve.iloc[0]
        frame = gaps(df, "batch_correct_curve", "easy", "hard", study)
        frame = frame.assign(x=frame.x.map(dict(enumerate(steps))))
        label = f"base reward {_arm(df, 'base', study).batch_correct.mean():.2f}"
        plot.curve(ax, frame, "x", "y", label=label, color=color, marker=marker)
    ax.axhline(0, color="0.6", lw=0.7, zorder=0)
    ax.set(xlabel="step", ylabel="batch-correct rate, Easy minus Hard")
    ax.set_ylim(-0.15, 0.015)
    ax.legend(loc="lower left")


@figure("agrae4", panel="right")
def draw_focus_passes(df, ax):
    _passes(df, ax, ("hard", "easy"))
    _room(ax)


@figure("agrae5", panel="left")
def draw_training(df, ax):
    for method in ("grpo", "agrae"):
        part = _arm(df, method)
        _curve(ax, long(part, "entropy_curve"), method, f"{NAMES[method]}, test")
        frame = long(part, "train_entropy_curve").groupby("x").y.mean().reset_index()
        _curve(ax, frame, method, f"{NAMES[method]}, train", linestyle="--")
    ax.set(xlabel="step", ylabel="entropy per token, nats")
    ax.legend(loc="upper right")


@figure("agrae5", panel="mid")
def draw_accuracy(df, ax):
    for method in ("grpo", "agrae"):
        part = _arm(df, method)
        _curve(ax, long(part, "greedy_curve"), method, f"{NAMES[method]}, greedy")
        frame = long(part, "pass_1_curve")
        _curve(ax, frame, method, f"{NAMES[method]}, pass@1", linestyle="--")
    ax.set(xlabel="step", ylabel="accuracy, held-out prompts", ylim=(0.36, 0.7))
    ax.legend(loc="lower right")


@figure("agrae5", panel="right")
def draw_methods(df, ax):
    methods = [m for m in METHODS if m != "grpo"]
    at = np.arange(len(methods))[::-1]
    for column, look, shift in (("pass_256", "agrae", 0.15), ("pass_1", "grpo", -0.15)):
        found = [difference(df, column, m) for m in methods]
        label = column.replace("_", "@")
        _points(ax, at + shift, found, look, label, across=True)
    ax.axvline(0, color="0.6", lw=0.7, zorder=0)
    ax.set_yticks(at, [NAMES[m] for m in methods])
    ax.tick_params(axis="y", labelsize=6)
    ax.set(xlabel="difference to GRPO", ylim=(-0.6, len(methods) - 0.4))
    ax.set_xlim(-0.043, 0.05)  # room for the legend
    ax.legend(loc="lower right", borderaxespad=0.1)


def _agrae_against(df, ax, study: str, field: str, methods, default):
    """Differences of pass@256 to GRPO against a field that is swept."""
    both = beside(df, study)
    for i, method in enumerate(methods):
        found = []
        values = sorted(both[(both.study == study)][field].unique())
        values = sorted({*values, default})
        for value in values:
            one = both[(both.method == method) & (both[field] == value)]
            # alpha means nothing to GRPO, the group size does
            other = both[both.method == "grpo"]
            other = other[(other[field] == value) | (field == "alpha")]
            pair = one.set_index("seed").pass_256 - other.set_index("seed").pass_256
            found.append(stats.mean(pair.dropna()))
        _points(ax, np.array(values) * 1.06 ** (i - 1), found, method)
    ax.axhline(0, color="0.6", lw=0.7, zorder=0)
    ax.set_xscale("log", base=2)
    ax.set_xticks(values, [f"{v:g}" for v in values])
    ax.set_ylabel("pass@256, difference to GRPO")


def _room(ax):
    """A legend above the data."""
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.2 * (high - low))
    ax.legend(loc="upper left", ncol=3, columnspacing=0.8, borderaxespad=0.1)


@figure("agrae5", panel="left", row=1)
def draw_alpha(df, ax):
    _agrae_against(df, ax, "alpha", "alpha", ("ass", "agrae"), 1.0)
    ax.set_xlabel("$\\alpha$")
    _room(ax)


@figure("agrae5", panel="mid", row=1)
def draw_group(df, ax):
    _agrae_against(df, ax, "group", "group", (PD, ND, "agrae"), 8)
    ax.set_xlabel("rollouts of a group $G$")
    _room(ax)


@figure("agrae5", panel="right", row=1)
def draw_controls(df, ax):
    at = np.arange(len(STUDIES))[::-1]
    for column, look, shift in (("pass_256", "agrae", 0.12), ("pass_1", "grpo", -0.12)):
        found = [difference(df, column, "agrae", study=s) for s in STUDIES]
        _points(ax, at + shift, found, look, column.replace("_", "@"), across=True)
    ax.axvline(0, color="0.6", lw=0.7, zorder=0)
    ax.set_yticks(at, STUDIES.values())
    ax.set(xlabel="A-GRAE minus GRPO", ylim=(-0.5, len(STUDIES) - 0.5))
    ax.set_xscale("symlog", linthresh=0.01)
    ax.set_xticks([-0.1, -0.01, 0, 0.01], ["-0.1", "-0.01", "0", "0.01"])
    ax.legend(loc="center left")


def _each_seed(df, ax, method: str):
    part = _arm(df, method, "long")
    color, _ = LOOK[method]
    for steps, rates in zip(part.step_curve, part.batch_correct_curve, strict=True):
        ax.plot(steps, rates, color=color, lw=0.6, alpha=0.5)
    n = int(part.collapsed.sum())
    ax.set_title(f"{NAMES[method]}: {n} of {len(part)} collapse")
    ax.set(xlabel="step", ylabel="batch-correct rate, each seed", ylim=(0.4, 1))


@figure("agrae6", panel="left")
def draw_negative(df, ax):
    _each_seed(df, ax, ND)


@figure("agrae6", panel="mid")
def draw_ass(df, ax):
    _each_seed(df, ax, "ass")


@figure("agrae6", panel="right")
def draw_unsolved(df, ax):
    for method in (ND, "ass", "agrae", "grpo"):
        _curve(ax, long(_arm(df, method, "long"), "unsolved_curve"), method)
    ax.set(xlabel="step", ylabel="unsolved of 128 prompts, expected", ylim=(0, None))
    ax.legend(loc="upper right")


# --- claims --------------------------------------------------------------------------


def _ordered(df, study: str = "main"):
    """The least of GRPO - PD and ND - GRPO in final entropy, over seeds."""
    wide = df[df.study == study].pivot(index="seed", columns="method", values="entropy")
    least = np.minimum(wide["grpo"] - wide[PD], wide[ND] - wide["grpo"])
    return stats.worst(least.dropna(), largest=False)


def _between_studies(df, a: str, b: str, method: str = "grpo"):
    df = df[df.study.isin([a, b]) & (df.method == method)]
    return stats.paired(df, "entropy", "study", a, b)


def _every_seed(df, column: str, method: str, other: str):
    """The least difference over seeds."""
    wide = df[df.study == "main"].pivot(index="seed", columns="method", values=column)
    return stats.worst((wide[method] - wide[other]).dropna(), largest=False)


def _extreme_k(df, method: str, least: bool, above: int = 0):
    """The paired difference to GRPO at the k > above where it is least or largest."""
    frame = gaps(df, "pass_at_k", method)
    at = [i for i, k in enumerate(KS) if k > above]
    found = [stats.mean(frame[frame.x == i].y) for i in at]
    return (min if least else max)(found, key=lambda i: i.value)


def _batch_gap(df, study: str, early: bool):
    """Batch-correct rate, Easy minus Hard: mean of steps 1 to 5, or at the end."""
    frame = gaps(df, "batch_correct_curve", "easy", "hard", study)
    steps = _arm(df, "easy", study).step_curve.iloc[0]
    last = len(steps) - 1
    at = [i for i, s in enumerate(steps) if (1 <= s <= 5 if early else i == last)]
    return stats.mean(frame[frame.x.isin(at)].groupby("seed").y.mean())


def _collapses(df, method: str):
    return stats.mean(_arm(df, method, "long").collapsed.astype(float))


def _alone(df, study_method: str, side: str):
    return stats.worst(df[df.method == study_method][f"clip_{side}_mean"])


def _mean(df, method: str, *columns: str):
    return stats.mean(sum(_arm(df, method)[c] for c in columns))


PAPER, NOTES = "arXiv 2602.05548", "ours"
NOTHING = "more than nothing, paired"
SAME = "within a tenth: what the clip makes of them is .7 and 1.2"


CLAIMS = [
    Claim(
        "base_reward",
        "The base policy is right in four to five cases out of ten.",
        NOTES + ", the setting",
        lambda df: _mean(df, "base", "batch_correct"),
        above=0.4,
        below=0.55,
        reason="chosen so on other seeds: both signs of advantage are common",
    ),
    Claim(
        "plateau",
        "GRPO brings the training prompts to a batch-correct rate above .8.",
        NOTES + ", the setting",
        lambda df: _mean(df, "grpo", "batch_correct"),
        above=0.8,
        reason="chosen so on other seeds",
    ),
    Claim(
        "clip_fraction",
        "Of GRPO's tokens 1 to 10 % are clipped after the first steps.",
        NOTES + ", the setting",
        lambda df: _mean(df, "grpo", "clip_low_mean", "clip_high_mean"),
        above=0.01,
        below=0.1,
        reason="what large models have; chosen so on other seeds",
    ),
    Claim(
        "entropy_is_ordered",
        "Final entropy is PD < GRPO < ND in every seed.",
        PAPER + ", figure 3",
        _ordered,
        above=0.0,
        reason="an order is an order, seed by seed",
    ),
    Claim(
        "positive_dominant_loses_entropy",
        "Positive-Dominant ends below .7 of GRPO's entropy.",
        PAPER + ", figure 3",
        partial(ratio, method=PD),
        below=0.7,
        reason="of a size that figure 3 would show; the prototype had .48",
    ),
    Claim(
        "negative_dominant_keeps_entropy",
        "Negative-Dominant ends above 1.2 of GRPO's entropy.",
        PAPER + ", figure 3",
        partial(ratio, method=ND),
        above=1.2,
        reason="of a size that figure 3 would show; the prototype had 1.34",
        expected="failed",
        because="there is no room: GRPO itself keeps .82 of the base policy's "
        "entropy, and ND nearly all of it",
    ),
    Claim(
        "agrae_entropy_is_above_grpo",
        "A-GRAE ends with more entropy than GRPO.",
        PAPER + ", figure 10",
        partial(difference, column="entropy", method="agrae"),
        above=0.0,
        reason=NOTHING,
    ),
    Claim(
        "agrae_entropy_is_below_nd",
        "and with less than Negative-Dominant.",
        NOTES,
        partial(difference, column="entropy", method="agrae", other=ND),
        below=0.0,
        reason=NOTHING,
    ),
    Claim(
        "no_clip_no_loss",
        "Control, no clip: Positive-Dominant has GRPO's entropy.",
        NOTES + "; an asymmetric estimator reweights prompts, no more",
        partial(ratio, method=PD, study="no clip"),
        above=0.9,
        below=1.1,
        reason=SAME,
    ),
    Claim(
        "no_clip_no_gain",
        "Control, no clip: Negative-Dominant has GRPO's entropy.",
        NOTES + "; an asymmetric estimator reweights prompts, no more",
        partial(ratio, method=ND, study="no clip"),
        above=0.9,
        below=1.1,
        reason=SAME,
    ),
    Claim(
        "on_policy_no_loss",
        "Control, on-policy: Positive-Dominant has GRPO's entropy.",
        NOTES + "; an asymmetric estimator reweights prompts, no more",
        partial(ratio, method=PD, study="on-policy"),
        above=0.9,
        below=1.1,
        reason=SAME,
    ),
    Claim(
        "on_policy_no_gain",
        "Control, on-policy: Negative-Dominant has GRPO's entropy.",
        NOTES + "; an asymmetric estimator reweights prompts, no more",
        partial(ratio, method=ND, study="on-policy"),
        above=0.9,
        below=1.1,
        reason=SAME,
    ),
    Claim(
        "entropy_is_ordered_by_random_rewards",
        "Control, random rewards: the order of entropies is there all the same.",
        NOTES + "; arXiv 2509.26114",
        partial(_ordered, study="random reward"),
        above=0.0,
        reason="an order is an order, seed by seed",
    ),
    Claim(
        "entropy_is_ordered_at_matched_steps",
        "Control, updates of one length: so it is.",
        NOTES,
        partial(_ordered, study="matched step"),
        above=0.0,
        reason="an order is an order, seed by seed",
    ),
    Claim(
        "low_clip_raises_entropy",
        "GRPO with the low clip alone keeps more entropy than without a clip.",
        "arXiv 2509.26114",
        partial(_between_studies, a="low clip", b="no clip"),
        above=0.0,
        reason=NOTHING,
    ),
    Claim(
        "high_clip_lowers_entropy",
        "GRPO with the high clip alone keeps less than without a clip.",
        "arXiv 2509.26114",
        partial(_between_studies, a="high clip", b="no clip"),
        below=0.0,
        reason=NOTHING,
    ),
    Claim(
        "no_gain_without_the_low_clip",
        "With the high clip alone Negative-Dominant has GRPO's entropy.",
        NOTES,
        partial(ratio, method=ND, study="high clip"),
        above=0.9,
        below=1.1,
        reason=SAME,
    ),
    Claim(
        "positives_are_not_clipped_low",
        "PSR, which has no negatives, meets the high clip alone,",
        NOTES,
        partial(_alone, study_method="psr", side="low"),
        below=1e-12,
        reason="by definition",
    ),
    Claim(
        "negatives_are_not_clipped_high",
        "and NSR the low one.",
        NOTES,
        partial(_alone, study_method="nsr", side="high"),
        below=1e-12,
        reason="by definition",
    ),
    Claim(
        "grpo_lifts_pass_1",
        "GRPO lifts pass@1 of held-out prompts.",
        PAPER + ", figure 2",
        partial(difference, column="pass_1", method="grpo", other="base"),
        above=0.0,
        reason=NOTHING + ". It was to hold in every seed; in one of the first 16 it is "
        "lower by .006",
    ),
    Claim(
        "grpo_lowers_pass_256",
        "GRPO lowers their pass@256 below the base policy's, in every seed.",
        PAPER + ", figure 2",
        partial(_every_seed, column="pass_256", method="base", other="grpo"),
        above=0.0,
        reason="in every seed",
    ),
    Claim(
        "negative_dominant_at_every_k",
        "Negative-Dominant is at least as good as GRPO at every k.",
        PAPER + ", figure 2",
        partial(_extreme_k, method=ND, least=True),
        above=-0.002,
        reason="at the k where it is worst; .002 is one prompt of 512",
        expected="failed",
        because="beta reweights prompts, and Negative-Dominant is a hidden focus on "
        "easy ones, W = p + (1-p)/beta: on-policy, where nothing else is left, it is "
        "worse still. The entropy that the clip keeps does not make up for it",
    ),
    Claim(
        "positive_dominant_at_large_k",
        "Positive-Dominant is worse than GRPO at every k above 16.",
        PAPER + ", figure 2",
        partial(_extreme_k, method=PD, least=False, above=16),
        below=0.0,
        reason="at the k where it is best",
        expected="failed",
        because="it is a hidden focus on hard prompts, W = p + beta (1-p), and "
        "better for it, more so on-policy",
    ),
    Claim(
        "on_policy_negative_dominant_is_worse",
        "Control, on-policy: Negative-Dominant has the lower pass@256.",
        NOTES + "; a hidden focus on easy prompts",
        partial(difference, column="pass_256", method=ND, study="on-policy"),
        below=0.0,
        reason=NOTHING,
    ),
    Claim(
        "on_policy_positive_dominant_is_better",
        "Control, on-policy: Positive-Dominant has the higher pass@256.",
        NOTES + "; a hidden focus on hard prompts",
        partial(difference, column="pass_256", method=PD, study="on-policy"),
        above=0.0,
        reason=NOTHING,
    ),
    Claim(
        "easy_is_faster_early",
        "In steps 1 to 5 Easy has the higher batch-correct rate.",
        PAPER + ", figure 5",
        partial(_batch_gap, study="main", early=True),
        above=0.0,
        reason=NOTHING,
        expected="failed",
        because="with half of the rollouts right from the start, prompts that are "
        "hard have as much to give; a prototype saw it with a base reward of .05 "
        "alone",
    ),
    Claim(
        "hard_is_better_late",
        "At the end Hard has it.",
        PAPER + ", figure 5",
        partial(_batch_gap, study="main", early=False),
        below=0.0,
        reason=NOTHING,
    ),
    Claim(
        "easy_is_faster_early_from_a_weak_base",
        "Easy is faster early where the base policy is right in one of twenty cases.",
        NOTES + "; seen in a prototype",
        partial(_batch_gap, study="weak base", early=True),
        above=0.01,
        reason="a point would be seen in figure 5. It was 0 before the first run, "
        "whose interval was -.002 to .002",
        expected="failed",
        because="the difference changes its sign within these steps and is a thousandth"
        ": there are too few easy prompts to be fast on",
    ),
    Claim(
        "hard_at_large_k",
        "Hard has a higher pass@256 than GRPO.",
        PAPER + ", figure 4",
        partial(difference, column="pass_256", method="hard"),
        above=0.0,
        reason=NOTHING,
    ),
    Claim(
        "agrae_pass_1",
        "A-GRAE has a higher pass@1 than GRPO.",
        PAPER + ", table 1",
        partial(difference, column="pass_1", method="agrae"),
        above=0.0,
        reason=NOTHING,
    ),
    Claim(
        "agrae_pass_256",
        "A-GRAE has a higher pass@256 than GRPO.",
        PAPER + ", table 1",
        partial(difference, column="pass_256", method="agrae"),
        above=0.0,
        reason=NOTHING,
    ),
    Claim(
        "agrae_pass_256_of_large_groups",
        "With 32 rollouts A-GRAE has a higher pass@256 than GRPO.",
        NOTES,
        lambda df: difference(df[df.group == 32], "pass_256", "agrae", study="group"),
        above=0.0,
        reason=NOTHING + ". Written after a look at the first 16 seeds, "
        "before one at others",
    ),
    Claim(
        "ddas_pass_256",
        "DDAS alone has a higher pass@256 than GRPO.",
        PAPER + ", ablation",
        partial(difference, column="pass_256", method="ddas"),
        above=0.0,
        reason=NOTHING + ". Written after a look at 64 seeds",
    ),
    Claim(
        "ass_pass_256",
        "ASS alone has a higher pass@256 than GRPO.",
        PAPER + ", ablation",
        partial(difference, column="pass_256", method="ass"),
        above=0.002,
        reason="one prompt of 512. Written after a look at 64 seeds",
        expected="failed",
        because="it is a mild Negative-Dominant: what A-GRAE gains it has from DDAS, "
        "which leans to hard prompts once omega is above one half",
    ),
    Claim(
        "w_reinforce_at_large_k",
        "W-REINFORCE has a higher pass@256 than GRPO.",
        "arXiv 2506.01347; " + PAPER + ", table 1",
        partial(difference, column="pass_256", method="w_reinforce"),
        above=0.0,
        reason=NOTHING,
    ),
    Claim(
        "negative_dominant_collapses",
        "Negative-Dominant collapses in more than one run of ten.",
        PAPER + ", figure 9: 3 of 10",
        partial(_collapses, method=ND),
        above=0.1,
        reason="a collapse: 5 points below its maximum with 30 % more unsolved prompts",
        expected="failed",
        because="with a verifier that is always right the batch-correct rate of no "
        "run falls by more than .4 points in 200 steps; with random rewards it falls "
        "by 36",
    ),
    Claim(
        "ass_is_stable",
        "ASS never collapses.",
        PAPER + ", figure 9",
        lambda df: stats.worst(_arm(df, "ass", "long").collapsed.astype(float)),
        below=0.5,
        reason="one collapse would count as 1",
    ),
]
