"""A verifiable task, and a policy whose tokens are independent given the prompt.

A completion has TOKENS tokens of a vocabulary of VOCABULARY. Each token has a softmax
whose logits are linear in the WIDTH features of the prompt. The first DECISIVE tokens
must be right for a reward of 1; the others are free. The right tokens of a prompt are
drawn from a sharp softmax of a teacher, so they cannot be predicted with certainty; the
weights of the base policy are those of the teacher plus noise. TRAIN prompts are used
for training, TEST are held out. Success rates, pass@k and entropies of such a policy
are exact: they involve no sampling.

Arrays of a policy are (L, V, T*P) and those of its samples are (G, L, T*P), for L lanes
(runs that are trained side by side), V tokens of the vocabulary, T positions, P prompts
and G rollouts, so that sums over the vocabulary and over rollouts add long rows.
`independent_training` trains such policies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from symlab.harness import lanes, rng

VOCABULARY, TOKENS, DECISIVE, WIDTH = 12, 10, 2, 8
TRAIN, TEST, MINIBATCHES = 128, 512, 4
BATCH = TRAIN // MINIBATCHES  # prompts of an update
TEACHER, SHARP = 20.0, 5.0  # scales of the logits of the teacher and the base policy


@dataclass(frozen=True)
class World:
    """The prompts of a seed and the policy from which training starts.

    features: (D, N), the D features of N = TRAIN + TEST prompts.
    right: (2, N), the right tokens at the two decisive positions.
    base: (V, T, D), the weights of the initial policy, for V tokens at T positions: its
        logits are base @ features.

    Training uses the first TRAIN prompts.
    """

    features: np.ndarray  # (D, N), N = TRAIN + TEST
    right: np.ndarray  # (2, N) tokens
    base: np.ndarray  # (V, T, D): logits are base @ features


def world(seed: int, noise: float) -> World:
    """Return the prompts of a seed and the policy from which training starts.

    noise: the standard deviation of the error of that policy's weights, relative to
        that of the weights of the teacher from which right tokens are drawn.

    Features have root-mean-square length 1, so that logits have the size of the
    weights.
    """
    size = (WIDTH, TRAIN + TEST)
    features = rng.stream(seed, "prompts").normal(size=size) / np.sqrt(WIDTH)
    truth = rng.stream(seed, "truth")
    teacher = truth.normal(size=(VOCABULARY, DECISIVE, WIDTH))
    logits = TEACHER * teacher @ features
    right = (logits + truth.gumbel(size=logits.shape)).argmax(0)
    base = rng.stream(seed, "base").normal(size=(VOCABULARY, TOKENS, WIDTH))
    known = teacher + noise * base[:, :DECISIVE]
    base[:, :DECISIVE] = known / np.sqrt(1 + noise**2)
    return World(features, right, SHARP * base)


class Draws:
    """The random numbers that training with one seed uses, step by step.

    group: G, the rollouts of a prompt.
    samplings: how many times each prompt is sampled in a step.
    """

    def __init__(self, seed: int, group: int, samplings: int = 1):
        self.group, self.samplings = group, samplings
        names = ("order", "samples", "coins")
        self.order, self.samples, self.coins = (rng.stream(seed, n) for n in names)

    def step(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the random numbers of one training step: (order, uniforms, coins).

        order: (TRAIN,), a permutation of the prompts. uniforms: (M, G, T*P), numbers in
            [0, 1).
        coins: (M, G, P), booleans.

        M = MINIBATCHES * samplings, G: rollouts of a prompt, T: tokens of a completion,
        P: prompts of a minibatch.
        """
        m = MINIBATCHES * self.samplings
        order = self.order.permutation(TRAIN)
        uniforms = self.samples.random((m, self.group, TOKENS * BATCH), np.float32)
        return order, uniforms, self.coins.random((m, self.group, BATCH)) < 0.5


class Policy:
    """The weights (L, V*T, D) of L policies trained side by side (lanes), and their
    optimizer.

    V: tokens of the vocabulary, T: tokens of a completion, D: features.

    settings: for each lane an object with its learning rate `lr`, and with `length`,
        the root mean square over the parameters to which every update is scaled; 0
        leaves updates as Adam makes them.
    base: the initial weights.
    """

    def __init__(self, settings: Sequence, base):
        import torch

        self.w, self.update = base, torch.zeros_like(base)
        # Adam has the rate 1 here, as every lane has a rate of its own
        self.adam = torch.optim.Adam([self.update], lr=1.0, maximize=True, fused=True)
        columns = (lanes.column(settings, f, 3, np.float64) for f in ("lr", "length"))
        self.lr, self.length = (torch.from_numpy(x).to(base) for x in columns)
        self.matched = bool((self.length > 0).any())

    def __call__(self, features, out):
        """Return the probabilities (L, V, T*P), written to `out`."""
        import torch

        torch.bmm(self.w, features, out=out.view(*self.w.shape[:2], -1))
        # torch.softmax is slower along this axis
        out.sub_(out.amax(1, keepdim=True)).exp_()
        return out.mul_(out.sum(1, keepdim=True).reciprocal_())

    def ascend(self, g) -> None:
        """Move the weights along the gradient g by one step of Adam.

        g: (L, V*T, D), the shape of the weights. In lanes with a nonzero `length` the
            root mean square of the update is scaled to that number.
        """
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
    """Return booleans (V-1, G, L, T*P): whether a rollout's token is greater than v.

    v runs from 0 to V-2 along the first axis.

    pi: (L, V, T*P), probabilities of V tokens in L lanes at T positions of P prompts.
    uniforms: (G, L, T*P), random numbers in [0, 1), one per token of a rollout; the
        token is greater than v if its number is at least the distribution function at
        v.
    """
    f = np.zeros(uniforms.shape[1:], pi.dtype)
    out = np.empty((VOCABULARY - 1, *uniforms.shape), bool)
    for v in range(VOCABULARY - 1):
        f += pi[:, v]
        np.greater_equal(uniforms, f, out=out[v])
    return out


def hits(after, right):
    """Return booleans (G, L, P): whether a rollout's two decisive tokens are right.

    These are its first two tokens.

    after: booleans (V-1, G, L, T*P), the result of `later`, for G rollouts in L lanes.
    right: (L, 2, P), the two right tokens of each of P prompts.
    """
    n, places, p = right.shape
    tokens = after[..., : places * p].view(np.int8).sum(0, np.int8)
    return (tokens.reshape(-1, n, places, p) == right).all(2)


def counts(after, rewards):
    """Return (2, V, L, T*P): how many rollouts with reward 1, and with reward 0, have a
    token.

    The axes are the reward (1, 0), the token, the lane, and the position of the token
    times the prompt.

    after: the result of `later`, which is overwritten.
    rewards: booleans (G, L, P) for G rollouts.
    """
    shape = *rewards.shape[:2], TOKENS, rewards.shape[2]
    ones = np.broadcast_to(rewards[:, :, None], shape).reshape(after.shape[1:])
    least = np.zeros((2, VOCABULARY + 1, *ones.shape[1:]), np.uint8)  # it or later
    least[0, 0] = _number(ones)
    least[1, 0] = len(ones) - least[0, 0]
    least[1, 1:-1] = _number(after)
    least[0, 1:-1] = _number(np.logical_and(after, ones, out=after))
    least[1, 1:-1] -= least[0, 1:-1]
    return least[:, :-1] - least[:, 1:]


def _number(rollouts):
    """Count the true ones of booleans (..., G, L, T*P) over G, at most 255.

    Eight columns are added at once, as the bytes of one integer.
    """
    return rollouts.view(np.int64).sum(-3).view(np.uint8)
