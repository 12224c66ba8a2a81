"""A verifiable task with several right paths, and policies of dependent tokens.

A completion has three tokens of a vocabulary of PLANS = 6: a plan, then two answer
tokens. Any plan is allowed. The reward depends on the answer tokens, and which are
right depends on the prompt and on the plan, so a prompt has six right paths, one for
each plan. A policy has a softmax for the plan and, for each plan, one for either answer
token, all with logits that are linear in the WIDTH features of the prompt: 13 softmaxes
of 6 tokens with 624 parameters, shared by all prompts. Success rates, pass@k and
entropies are exact sums over the plans: only training is random.

Exploration can help in two ways. The right answers of a plan are drawn from the softmax
of a teacher, whose logits are larger for plans with higher numbers, so that answers
after plan 0 can be predicted half of the time and those after plan 5 nearly always; the
base policy prefers low numbers. A policy that keeps trying rare plans can find those
after which it is right more often (pass@1). Moreover, a prompt whose answer is
unpredictable after one plan may be predictable after another, so that a policy that
keeps several plans solves more prompts in many tries (pass@256).

A step samples G rollouts of each of TRAIN prompts, then makes updates on MINIBATCHES
minibatches in each of some epochs, by the clipped objective of PPO and Adam. The
gradient is computed by explicit formulas. Arrays of a policy are (L, V, J*P) for L
lanes (runs that are trained side by side), V tokens, J softmaxes and P prompts; the
softmaxes are the plan's, then those of the first and of the second answer token, by
plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from symlab.harness import lanes, rng
from symlab.rlvr.independent import Policy

PLANS = 6  # also the size of the vocabulary, V
WIDTH, TOKENS = 8, 3
SOFTMAXES = 1 + 2 * PLANS
TRAIN, TEST, MINIBATCHES = 128, 256, 4
BATCH = TRAIN // MINIBATCHES  # prompts of an update
TEACHER = (2.0, 12.0)  # scale of the teacher's logits after the first and last plan
KNOWN, PLANNED, HABIT = 5.0, 1.0, 1.5  # scales of the base policy's logits
TINY = 1e-20  # a lower bound of the probability of a sampled token


@dataclass(frozen=True)
class World:
    """The prompts of a seed and the policy from which training starts.

    features: (D, N), the D features of N = TRAIN + TEST prompts; the first feature is
        1.
    right: (2*PLANS, N), the right first answer token for each plan, then the second.
    base: (V, J, D), the weights of the initial policy, for V tokens and J softmaxes:
        its logits are base @ features.
    foreseen: (PLANS,), the mean probability that the teacher's most probable answers
        are the right ones, for each plan.

    Training uses the first TRAIN prompts.
    """

    features: np.ndarray  # (D, N), N = TRAIN + TEST; the first is 1
    right: np.ndarray  # (2*PLANS, N): the right first tokens by plan, then the second
    base: np.ndarray  # (V, J, D): logits are base @ features
    foreseen: np.ndarray  # (PLANS,): mean chance that the teacher itself is right


def world(seed: int, noise: float) -> World:
    """Return the prompts of a seed and the policy from which training starts.

    noise: the standard deviation of the error of that policy's weights for answer
        tokens, relative to that of the weights of the teacher from which right answers
        are drawn.
    """
    n = TRAIN + TEST
    features = rng.stream(seed, "prompts").normal(size=(WIDTH, n))
    features /= np.sqrt(WIDTH - 1)
    features[0] = 1
    truth = rng.stream(seed, "truth")
    teacher = truth.normal(size=(PLANS, 2, PLANS, WIDTH))  # token, place, plan
    scale = np.linspace(*TEACHER, PLANS)[:, None]
    logits = scale * (teacher @ features)  # (V, 2, PLANS, N)
    right = (logits + truth.gumbel(size=logits.shape)).argmax(0)
    chance = np.exp(logits - logits.max(0))
    chance = (chance / chance.sum(0)).max(0).prod(0)  # that its best guess is right
    base = rng.stream(seed, "base").normal(size=(PLANS, SOFTMAXES, WIDTH))
    answers = teacher.reshape(PLANS, 2 * PLANS, WIDTH) + noise * base[:, 1:]
    base[:, 1:] = KNOWN * answers / np.sqrt(1 + noise**2)
    base[:, 0] *= PLANNED
    base[:, 0, 0] = HABIT * np.linspace(1, -1, PLANS)
    return World(features, right.reshape(2 * PLANS, n), base, chance.mean(1))


def frontier_area(x, y) -> float:
    """Return the area that some points (x, y) dominate: of all (u, v) >= 0 with u <= x,
    v <= y.

    x, y: (n,), two objectives of n points, each from 0 to 1 and better when larger.

    It is the hypervolume of the points' Pareto frontier with the origin as reference
    point.
    """
    order = np.argsort(x)
    x, y = np.asarray(x, float)[order], np.asarray(y, float)[order]
    height = np.maximum.accumulate(y[::-1])[::-1]  # best y among the points right of x
    return float(np.diff(x, prepend=0.0) @ height)


def table(method: str, group: int):
    """Return all advantages that an estimator can give to rewards of 0 and 1.

    method: the estimator's name. group: G, the rollouts of a prompt.

    The result is (G*TRAIN + 1, G + 1, 2). Its axes are the number of right rollouts in
    the batch (which determines the mean success omega), the number of right ones among
    the G of the group, and whether the rollout is wrong or right.
    """
    from symlab.rlvr.advantages import advantages

    n = group * TRAIN
    levels = np.tri(group + 1, group, -1)  # (G+1, G): the first k are right
    omega = np.arange(n + 1).repeat(group + 1)[:, None] / n
    a = advantages(np.tile(levels, (n + 1, 1)), method, omega=omega)
    return a.reshape(n + 1, group + 1, group)[..., [-1, 0]]


@dataclass
class Minibatch:
    """P prompts of each lane, and the tokens of their rollouts that change the policy.

    A lane is one of L runs that are trained side by side. The tokens are the N sampled
    tokens whose rollouts have a nonzero advantage.

    features: (L, D, P), the D features of the prompts.
    index: (N,), the position of the token in the probabilities (L, V, J*P) of V tokens
        in J softmaxes per prompt.
    column: (N,), the position of its softmax in (L, J*P).
    slope: (N,), advantage / probability at sampling, divided by the number of tokens.
    limit: (N,), the probability beyond which the token is clipped.
    """

    features: object  # (L, D, P)
    index: object  # (N,): where the token stands in the probabilities (L, V, J*P)
    column: object  # (N,): where its softmax stands in (L, J*P)
    slope: object  # (N,): advantage / probability when sampled, over all tokens
    limit: object  # (N,): the probability beyond which the token is clipped


class Training:
    """The training, step by step, of L policies side by side (lanes).

    settings: for each lane an object with `method`, an estimator of
        symlab.rlvr.advantages; `omega`, 'batch' or 'group', the rollouts whose mean
        reward is used as omega; `lr`, the learning rate; `clip`: probability ratios
        outside [1 - clip, 1 + clip] are clipped; `noise` and `seed`, arguments of
        `world`; and, equal in all lanes, `epochs` (passes over the samples of a step)
        and `group` (the rollouts of a prompt).
    dtype: dtype of the policies, by default float32.

    Lanes do not affect each other.
    """

    def __init__(self, settings: Sequence, dtype=None):
        import torch

        self.settings, self.c = settings, settings[0]
        self.dtype = dtype or torch.float32
        pairs = [(c.seed, c.noise) for c in settings]
        worlds = {pair: world(*pair) for pair in dict.fromkeys(pairs)}
        self.worlds = own = [worlds[pair] for pair in pairs]
        self.features = self._tensor(np.stack([w.features for w in own]))  # (L, D, N)
        self.right = torch.from_numpy(np.stack([w.right for w in own]))  # (L, 2*K, N)
        base = np.stack([w.base.reshape(-1, WIDTH) for w in own])
        rates = [SimpleNamespace(lr=c.lr, length=0.0) for c in settings]
        self.policy = Policy(rates, self._tensor(base))
        seeds, which = lanes.shared(settings)
        self.which = torch.from_numpy(which)
        self.order = [rng.stream(s, "order") for s in seeds]
        self.samples = [rng.stream(s, "samples") for s in seeds]
        clip = lanes.column(settings, "clip", 1, np.float64)
        self.bounds = self._tensor(np.stack([1 - clip, 1 + clip]))  # (2, L)
        tables = {m: table(m, self.c.group) for m in {c.method for c in settings}}
        self.tables = [tables[c.method] for c in settings]
        shape = len(settings), PLANS, SOFTMAXES * BATCH
        self.buffers = [torch.empty(shape, dtype=self.dtype) for _ in range(2)]

    def _tensor(self, array):
        import torch

        return torch.from_numpy(array).to(self.dtype)

    def step(self, count: bool = False):
        """Sample one batch of rollouts and make all updates that use it.

        count: whether to return the fraction of tokens that are clipped, (L,) for L
            lanes; otherwise the result is None.
        """
        batches, clipped = self.sample(), []
        for _ in range(self.c.epochs):
            for batch in batches:
                self.policy.ascend(self.gradient(batch, clipped if count else None))
        tokens = self.c.epochs * TRAIN * self.c.group * TOKENS
        return sum(clipped).double().numpy() / tokens if count else None

    def sample(self) -> list[Minibatch]:
        """Return the minibatches of a step, with rollouts sampled from the present
        policy.
        """
        import torch

        order = np.stack([o.permutation(TRAIN) for o in self.order])
        order = torch.from_numpy(order)[self.which][:, None]  # (L, 1, TRAIN)
        shape = TOKENS, self.c.group, TRAIN
        u = [s.random(shape, np.float32) for s in self.samples]
        u = self._tensor(np.stack(u))[self.which]  # (L, TOKENS, G, TRAIN)
        pieces = []
        for at, part in zip(order.split(BATCH, 2), u.split(BATCH, 3), strict=True):
            x = self.features.gather(2, at.expand(-1, WIDTH, -1))
            right = self.right.gather(2, at.expand(-1, 2 * PLANS, -1))
            pieces.append((x, *self.rollouts(x, right, part)))
        rewards = torch.cat([p[-1] for p in pieces], 2)  # (L, G, TRAIN)
        a = self.advantages(rewards).split(BATCH, 2)
        return [self.select(*p[:-1], b) for p, b in zip(pieces, a, strict=True)]

    def rollouts(self, features, right, u):
        """Sample rollouts; return (columns, tokens, probabilities, rewards).

        A rollout has three tokens: a plan, then two answer tokens. L policies are
        trained side by side, each on P prompts with D features, and each has
        J = 1 + 2*PLANS softmaxes: one for the plan and two for each plan's answers.

        features: (L, D, P).
        right: (L, 2*PLANS, P), the right tokens: the first answer token after each
            plan, then the second after each plan.
        u: (L, TOKENS, G, P), uniform random numbers for G rollouts of each prompt.

        The first three results are (L, TOKENS, G, P); a column is the index of a
        token's softmax in (L, J*P), with J softmaxes per prompt. Rewards are booleans
        (L, G, P).
        """
        import torch

        pi = self.policy(features, self.buffers[0])
        rows = pi.transpose(1, 2).contiguous().view(-1, PLANS)  # (L*J*P, V)
        least = rows.cumsum(1)[:, :-1].contiguous()
        lane = torch.arange(len(u)).view(-1, 1, 1) * SOFTMAXES
        prompt = torch.arange(BATCH).expand(u[:, 0].shape)
        columns, tokens = [], []
        softmax = torch.zeros_like(prompt)
        for place in range(TOKENS):
            columns.append((lane + softmax) * BATCH + prompt)
            below = least.index_select(0, columns[-1].view(-1))
            token = (u[:, place].reshape(-1, 1) >= below).sum(1)
            tokens.append(token.view(prompt.shape))
            softmax = 1 + place * PLANS + tokens[0]
        column, token = torch.stack(columns, 1), torch.stack(tokens, 1)
        old = rows.view(-1).take(column * PLANS + token)
        first, second = right.gather(1, tokens[0]), right.gather(1, tokens[0] + PLANS)
        return column, token, old, (tokens[1] == first) & (tokens[2] == second)

    def advantages(self, rewards):
        """Return the advantages (L, G, P) of rewards (L, G, P).

        L: lanes (runs that are trained side by side), G: rollouts, P: prompts.
        """
        right = rewards.sum(1)  # (L, P)
        in_all = right.sum(1)
        values = [
            t[range(0, len(t), TRAIN), range(len(t[0]))] if c.omega == "group" else t[n]
            for c, t, n in zip(self.settings, self.tables, in_all, strict=True)
        ]
        values = self._tensor(np.array(values)).flatten(1)  # (L, (G+1)*2)
        index = right[:, None] * 2 + rewards  # (L, G, P)
        return values.gather(1, index.flatten(1)).view(rewards.shape)

    def select(self, features, columns, tokens, old, a) -> Minibatch:
        """Return the `Minibatch` of those tokens whose rollouts have a nonzero
        advantage.

        features: (L, D, P), the D features of P prompts in each of L lanes.
        columns, tokens, old: (L, TOKENS, G, P) for G rollouts of TOKENS tokens: the
            index of each token's softmax, the token and its probability, as `rollouts`
            returns them.
        a: (L, G, P), the advantages.
        """
        a = a[:, None].expand_as(old).reshape(-1)
        at = a.nonzero()[:, 0]
        a, column, token = (x.view(-1)[at] for x in (a, columns, tokens))
        n = SOFTMAXES * BATCH
        lane = column // n
        old = old.view(-1)[at].clamp_(min=TINY)
        index = column + (lane * (PLANS - 1) + token) * n
        limit = old * self.bounds[(a > 0).long(), lane]
        slope = a / old / (BATCH * self.c.group * TOKENS)
        return Minibatch(features, index, column, slope, limit)

    def gradient(self, batch: Minibatch, clipped: list | None = None):
        """Return the gradient (L, V*J, D) of PPO's clipped objective with respect to
        the weights.

        batch: the minibatch. clipped: a list to which the number of clipped tokens,
            (L,), is appended.

        L: lanes, V: tokens of the vocabulary, J: softmaxes, D: features. The objective
        is the mean over tokens of min(rho A, clip(rho) A), where rho is the ratio of a
        token's probability to that at sampling and A its advantage. Unless it is
        clipped, a token adds rho A (onehot - pi) to the gradient with respect to its
        logits.
        """
        import torch

        pi = self.policy(batch.features, self.buffers[0])
        p = pi.view(-1).index_select(0, batch.index)
        kept = (p - batch.limit).mul_(batch.slope).le_(0)  # 1 within the clip, else 0
        if clipped is not None:
            clipped.append(self._by_softmax(batch, 1 - kept).sum(1))
        g = kept.mul_(batch.slope).mul_(p)
        total = self._by_softmax(batch, g).neg_()[:, None]
        c = torch.mul(pi, total, out=self.buffers[1])
        c.view(-1).scatter_add_(0, batch.index, g)
        return torch.bmm(c.view(len(pi), -1, BATCH), batch.features.transpose(1, 2))

    def _by_softmax(self, batch: Minibatch, values):
        """Sums (L, J*P) of values (N,) over the tokens of each softmax and prompt."""
        out = values.new_zeros(len(self.settings), SOFTMAXES * BATCH)
        out.view(-1).scatter_add_(0, batch.column, values)
        return out

    def measure(self, block: int = 8) -> dict:
        """Return exact properties of the policies: {name: (L, N)}, for L lanes and N
        prompts.

        The names are success, the probability of a reward of 1; free, the entropy of
        the plan in nats; and decisive, the entropy of an answer token in nats, its mean
        over both answer tokens and over the plans. A lane is one of the runs that are
        trained side by side.

        block: the number of lanes that are computed at once.
        """
        import torch

        parts = torch.arange(len(self.settings)).split(block)
        found = [self._properties(at) for at in parts]
        names = ("success", "free", "decisive")
        found = (torch.cat(x).numpy() for x in zip(*found, strict=True))
        return dict(zip(names, found, strict=True))

    def _properties(self, at):
        import torch

        z = torch.bmm(self.policy.w[at], self.features[at])
        log_pi = torch.log_softmax(z.view(len(at), PLANS, SOFTMAXES, -1), 1)
        plan = log_pi[:, :, 0].double().exp()  # (B, K, N)
        own = log_pi[:, :, 1:].gather(1, self.right[at][:, None])[:, 0].double()
        entropy = -(log_pi.exp() * log_pi).sum(1).double()  # (B, J, N)
        answers = (entropy[:, 1:].unflatten(1, (2, PLANS))).mean(1)
        success = (plan * own.unflatten(1, (2, PLANS)).sum(1).exp()).sum(1)
        return success.clamp(max=1), entropy[:, 0], (plan * answers).sum(1)
