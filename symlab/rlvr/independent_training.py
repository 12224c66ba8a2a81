"""Train many policies with independent tokens at once, by PPO's clipped objective.

A step samples G rollouts of every prompt, then makes updates on MINIBATCHES minibatches
in each of some epochs. The gradient is computed by explicit formulas, and equal tokens
are counted together. The settings of a lane (one of the runs that are trained side by
side) are an object with the fields

  method            an estimator of symlab.rlvr.advantages; 'base' is not trained
  beta, alpha       its options, see OPTIONS
  clip_low, clip_high   ratios outside [1 - clip_low, 1 + clip_high] are clipped
  reward            'verifier', or 'random' for the toss of a coin
  lr, length        see symlab.rlvr.independent.Policy
  seed              determines prompts, base policy and samples

and with fields that are equal in all lanes of a call:

  group             rollouts of a prompt, G, at most 255
  epochs            passes over the samples of a step
  fresh             whether every update has new samples
  noise             noise of the base policy
"""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature

import numpy as np

from symlab.harness import lanes
from symlab.rlvr.independent import (
    BATCH,
    DECISIVE,
    MINIBATCHES,
    TOKENS,
    TRAIN,
    VOCABULARY,
    WIDTH,
    Draws,
    Policy,
    counts,
    hits,
    later,
    world,
)

TINY = 1e-20  # a lower bound of the probability of a sampled token
SIDES = ("low", "high")
OPTIONS = {
    "positive_dominant": ("beta",),
    "negative_dominant": ("beta",),
    "ass": ("alpha",),
    "agrae": ("alpha",),
    "agrae_released": ("alpha",),
}


def estimator(c) -> tuple:
    """Return a lane's advantage estimator: its name, then its options as (name, value).

    c: the lane's settings, an object with `method` and that method's options.
    """
    return c.method, *((k, getattr(c, k)) for k in OPTIONS.get(c.method, ()))


@dataclass
class Minibatch:
    """P prompts of each lane, and the tokens of their rollouts that can change the
    policy.

    A lane is one of L runs that are trained side by side. The tokens are the N distinct
    tokens v of lanes l at columns c = (position, prompt) that were sampled with a
    nonzero advantage, about a tenth of all. In arrays (2, N) the first row is for
    rollouts with reward 1, the second for those with reward 0.

    features: (L, D, P), D for each prompt. right: (L, 2, P), the right tokens.
    index: (N,), (l*V + v)*T*P + c, with V tokens and T positions. column: (N,), l*T*P +
        c.
    number: (2, N), how many rollouts have the token.
    slope: (2, N), number * advantage / probability at sampling.
    limit: (2, N), the probability beyond which the token is clipped.
    """

    features: object  # (L, D, P)
    right: object  # (L, 2, P) tokens
    index: object = None  # (N,): (l*V + v)*T*P + c
    column: object = None  # (N,): l*T*P + c
    number: object = None  # (2, N): how many rollouts have the token
    slope: object = None  # (2, N): number * advantage / probability when sampled
    limit: object = None  # (2, N): the probability beyond which the token is clipped


class Training:
    """The training, step by step, of L policies side by side (lanes).

    settings: for each lane an object with the fields that the module's docstring names:
        estimator and its options, clip range, reward, learning rate, seed. Lanes with
        one estimator must be next to each other (sorting by `estimator` does this).
    dtype: dtype of the policies, by default float32.

    curves: {name: list of measured arrays (L,)}.
    """

    def __init__(self, settings: Sequence, dtype=None):
        import torch

        self.settings, self.c = settings, settings[0]
        if self.c.group > 255:
            raise ValueError(
                f"group = {self.c.group}: use at most 255 rollouts, counted in bytes"
            )
        self.dtype = dtype or torch.float32
        seeds, which = lanes.shared(settings)
        self.which = torch.from_numpy(which)
        worlds = [world(seed, self.c.noise) for seed in seeds]
        features = np.stack([w.features for w in worlds])
        base = np.stack([w.base.reshape(-1, WIDTH) for w in worlds])
        self.features = self._tensor(features)  # (U, D, N)
        self.right = torch.from_numpy(np.stack([w.right for w in worlds]))  # (U, 2, N)
        self.policy = Policy(settings, self._tensor(base)[self.which])
        samplings = self.c.epochs if self.c.fresh else 1
        self.draws = [Draws(seed, self.c.group, samplings) for seed in seeds]
        low, high = (lanes.column(settings, f"clip_{s}", 1, np.float64) for s in SIDES)
        self.bounds = np.stack([1 + high, 1 - low])  # (2, L), for rewards 1 and 0
        self.random = np.array([c.reward == "random" for c in settings])[:, None]
        self.parts, group = _parts(settings), self.c.group
        self.values = np.zeros((2, len(settings), group + 1))
        for at, *chosen in self.parts:
            any_omega = np.zeros(at.stop - at.start)
            self.values[:, at] = _values(*chosen, any_omega, group)
        shape = len(settings), VOCABULARY, TOKENS * BATCH
        self.buffers = [torch.empty(shape, dtype=self.dtype) for _ in range(2)]
        self.curves: dict[str, list] = {}

    def _tensor(self, array):
        import torch

        return torch.from_numpy(array).to(self.dtype)

    def step(self, count: bool) -> None:
        """Sample rollouts of every training prompt and make all updates that use them.

        count: whether to record the fractions of clipped tokens in `curves`.
        """
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
        """Sample rollouts for minibatches and store in each the tokens that change the
        policy.

        batches: the minibatches; together they are the batch whose mean reward is
            omega.
        uniforms, coins: random numbers as `independent.Draws.step` returns them, one
            entry for each minibatch.
        """
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
        """Store in the minibatch the tokens that can change the policy.

        a: (2, L, P), the advantages of rewards 1 and 0 for P prompts in each of L
            lanes, divided by the number of tokens.
        pi: (L, V, T*P), the probabilities of V tokens at T positions, at sampling.
        n: (2, V, L, T*P), how many rollouts with reward 1 and 0 have each token, as
            `counts` returns it.
        """
        import torch

        a = np.tile(a, (1, 1, TOKENS))  # (2, L, T*P)
        n *= (a != 0)[:, None]
        n = np.ascontiguousarray(n.swapaxes(1, 2)).reshape(2, -1)
        at = np.flatnonzero((n[0] | n[1]) != 0)
        columns = a.shape[2]
        lane = at // (VOCABULARY * columns)
        column = lane * columns + at - at // columns * columns
        # rounding may sample a token of probability 0, which would give 0 / 0
        old = np.maximum(pi.reshape(-1)[at], TINY)
        number = n.take(at, 1)
        slope = number * a.reshape(2, -1).take(column, 1) / old
        batch.index, batch.column = torch.from_numpy(at), torch.from_numpy(column)
        batch.number, batch.slope = self._tensor(number), self._tensor(slope)
        batch.limit = self._tensor(old * self.bounds.take(lane, 1))

    def advantages(self, rewards):
        """Return (2, L, P): the advantages of rewards 1 and of rewards 0 in each group.

        rewards: (G, L, P), of G rollouts in L lanes for P prompts.

        Each lane has its own estimator; omega is the mean reward of its batch. Groups
        with equally many right rollouts have equal advantages, so the advantages for 0
        to G right ones are computed once and looked up.
        """
        right = rewards.sum(0)  # (L, P)
        omega = right.mean(1) / len(rewards)
        for at, *chosen in self.parts:
            if _of_batch(*chosen):
                self.values[:, at] = _values(*chosen, omega[at], len(rewards))
        return np.take_along_axis(self.values, right[None], 2)

    def gradient(self, batch: Minibatch, clipped: list | None = None):
        """Return the gradient (L, V*T, D) of PPO's clipped objective with respect to
        the weights.

        batch: the minibatch. clipped: a list to which the numbers of tokens clipped low
            and high, each (L,), are appended.

        The gradient has L lanes, V tokens of the vocabulary, T positions and D
        features. The objective is the mean over tokens of min(rho A, clip(rho) A),
        where rho is the ratio of a token's probability to that at sampling and A its
        advantage. Unless it is clipped, a token adds rho A (onehot - pi) to the
        gradient with respect to its logits; equal tokens of one prompt and position are
        counted together with the sum of their A.
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
        shape = len(self.settings), TOKENS * BATCH
        out = values.new_zeros(shape)
        out.view(-1).scatter_add_(0, batch.column, values)
        return out

    def measure(self, block: int = 4) -> None:
        """Append exact properties of the policies to `curves`.

        They are pass rates, entropies and the accuracy of the most probable tokens.

        block: the number of lanes that are computed at once.
        """
        import torch

        from symlab.rlvr.passk import pass_at_k_exact

        parts = torch.arange(len(self.settings)).split(block)
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
        """Success rate, entropy per token and whether greedy is right: each (B, N)."""
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


def _parts(settings: Sequence) -> list[tuple[slice, str, dict]]:
    """Return (lanes, name, options) of each estimator."""
    return [
        (at, method, dict(options))
        for (method, *options), at in lanes.slices(settings, estimator).items()
        if method != "base"
    ]


def _of_batch(method: str, options: dict) -> bool:
    """Whether an estimator depends on the mean reward of the batch."""
    from symlab.rlvr.advantages import ESTIMATORS

    return "omega" in signature(ESTIMATORS[method]).parameters


def _values(method: str, options: dict, omega, group: int):
    """Return (2, n, G+1): the advantages of rewards 1 and 0, with 0 to G right ones.

    omega (n,): the mean rewards of n batches.
    """
    from symlab.rlvr.advantages import advantages

    levels = np.tri(group + 1, group, -1)  # (G+1, G): the first k are right
    rows = np.tile(levels, (len(omega), 1))
    of_rows = omega.repeat(group + 1)[:, None]
    a = advantages(rows, method, omega=of_rows, **options)
    a = a.reshape(len(omega), group + 1, group)
    return np.stack([a[..., 0], a[..., -1]])
