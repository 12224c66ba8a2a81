"""The theorems of arXiv 2602.05548 as functions, for one softmax over trajectories.

A group of G trajectories is sampled from pi = softmax(h), and a gradient step on
sum_i A_i log pi_i is made in h:

  theorem 1    dh_i = eta (I(i in group) A_i - C pi_i), C = sum_G A: `logit_motion`
  theorem 2    sum_i |A_i| = 2 G sqrt(p (1 - p)), p the group's mean: `magnitude`

Further functions give, for every estimator of `advantages`, the sum of |A| by the
number of correct trajectories (`update_size`) and the expected change of the logits
(`expected_motion`, `update_weight`).

Rewards are 0 and 1 and omega is held fixed, so that groups do not depend on each other.
"""

import math
from itertools import product

import numpy as np

from symlab.rlvr.advantages import advantages
from symlab.rlvr.arrays import like, namespace

LIMIT = 200_000  # groups that `expected_motion` enumerates


# --- theorem 1 -----------------------------------------------------------------------


def logit_motion(pi, samples, advantages, eta: float = 1.0):
    """Return dh (..., n), the change of a softmax's logits by one policy-gradient step.

    pi: (..., n), the probabilities of n trajectories.
    samples: (..., G), the numbers of the sampled trajectories, with repetition.
    advantages: (..., G), the advantages of the samples. eta: the learning rate.

    Arguments are numpy arrays or tensors. Source: theorem 1 of arXiv 2602.05548. Raises
    ValueError unless each sample has one advantage.
    """
    xp = namespace(pi, samples, advantages)
    if samples.shape[-1:] != advantages.shape[-1:]:
        raise ValueError(
            f"samples have shape {tuple(samples.shape)} and advantages "
            f"{tuple(advantages.shape)}: give one advantage to each sample"
        )
    every = xp.arange(pi.shape[-1])
    every = every if xp is np else every.to(samples.device)
    is_sampled = like(samples[..., None] == every, pi)  # (..., G, n)
    own = (is_sampled * advantages[..., None]).sum(-2)
    return eta * (own - advantages.sum(-1)[..., None] * pi)


def log_probability_motion(pi, samples, advantages, eta: float = 1.0):
    """Return d log pi (..., n), the change of log-probabilities by one policy-gradient
    step.

    It is computed to first order in eta: dh - sum_j pi_j dh_j, where dh is the result
    of `logit_motion` for the same arguments. For an unsampled trajectory u it is -eta
    (C (pi_u - sum_j pi_j^2) + sum_G A_k pi_k), C the sum of the group's advantages A:
    if C = 0, the logits of unsampled trajectories do not change, but their
    probabilities do.
    """
    dh = logit_motion(pi, samples, advantages, eta)
    return dh - (pi * dh).sum(-1)[..., None]


# --- theorem 2 -----------------------------------------------------------------------


def magnitude(p, group: int):
    """Return 2 G sqrt(p (1 - p)), the sum of |A| of GRPO's advantages over a group.

    p: the group's success rate. group: G, the number of rollouts.

    Source: theorem 2 of arXiv 2602.05548, with the population's std.
    """
    p = np.asarray(p, dtype=float) if namespace(p) is np else p
    return 2 * group * (p * (1 - p)) ** 0.5


def update_size(estimator: str, group: int, *, omega: float = 0.5, **options):
    """Return (G+1,): the sum of |A| over a group of G rollouts with 0, 1, ..., G
    correct ones.

    estimator: the name of the estimator of the advantages A. group: G.
    omega: the mean success of the batch. options: options of the estimator.
    """
    _, a = _levels(estimator, group, omega, options)
    return abs(a).sum(-1)


# --- expectation ---------------------------------------------------------------------


def update_weight(
    p, group: int, estimator: str = "grpo", *, omega: float = 0.5, **options
):
    """Return W in E[dh] = eta W (E_pos - E_neg), the weight of a prompt's expected
    update.

    p: (...), success rates of prompts; the result has the same shape and is exact.
    group: G, the number of rollouts. estimator: the name of an advantage estimator.
    omega: the mean success of the batch, held fixed. options: options of the estimator.

    E_pos and E_neg are the mean gradients of log pi over correct and over wrong
    trajectories, and dh is the update of the logits at learning rate eta. With k of G
    rollouts correct, and advantages A+(k) of a correct and A-(k) of a wrong one, the
    mean update is A+(k) k E_pos + A-(k) (G - k) E_neg, and p E_pos + (1 - p) E_neg = 0
    for any parametrisation, so

        W = sum_k Binomial(k; G, p) [k A+(k) (1 - p) - (G - k) A-(k) p].

    An estimator changes the size of a prompt's expected update, not its direction, if
    sampling is on-policy, nothing is clipped, and the loss gives all tokens equal
    weights: with weights 1/length the last equation fails, and directions differ, too.
    """
    p = np.asarray(p, dtype=float)[..., None]
    r, a = _levels(estimator, group, omega, options)
    k = np.arange(group + 1)
    ways = np.array([float(math.comb(group, int(j))) for j in k])
    chance = ways * p**k * (1 - p) ** (group - k)
    right, wrong = (a * r).sum(-1), (a * (1 - r)).sum(-1)
    return (chance * (right * (1 - p) - wrong * p)).sum(-1)


def large_group_weight(p, group: int, scale: float = 1.0):
    """Return G sqrt(p (1 - p)) [s (1 - p) + p], an approximate update weight for large
    groups.

    p: success rates of prompts. group: G, the number of rollouts. scale: s.

    It approximates the weight W of a prompt's expected update (see `update_weight`)
    under GRPO with positive advantages multiplied by s. At finite G the mean of
    sqrt(k/G (1 - k/G)), with k correct rollouts, is below sqrt(p (1 - p));
    `update_weight` is exact for every G.
    """
    p = np.asarray(p, dtype=float)
    return group * (p * (1 - p)) ** 0.5 * (scale * (1 - p) + p)


def expected_motion(
    pi,
    correct,
    group: int,
    estimator: str = "grpo",
    *,
    omega: float = 0.5,
    eta: float = 1.0,
    **options,
) -> tuple[np.ndarray, np.ndarray]:
    """Return both sides of E[dh] = eta W (E_pos - E_neg), each (n,), for n
    trajectories.

    pi: (n,), the probabilities of the trajectories. correct: (n,), rewards 0 and 1,
        both present. group: G, the number of rollouts. estimator, omega, options: as
        for `update_weight`. eta: the learning rate.

    The left side is the mean of `logit_motion` (the change dh of the logits) over all
    n^G groups; the right side is `update_weight` W times the difference of the mean
    gradients of log pi over correct and over wrong trajectories. Raises ValueError if
    n^G is too large to enumerate, or if no trajectory is correct or none is wrong.
    """
    pi, correct = np.asarray(pi, dtype=float), np.asarray(correct, dtype=float)
    if len(pi) ** group > LIMIT:
        raise ValueError(f"{len(pi)}^{group} groups are too many: enumerate {LIMIT}")
    p = float(pi @ correct)
    if not 0 < p < 1:
        raise ValueError("one trajectory must be correct and one wrong at least")
    samples = np.array(list(product(range(len(pi)), repeat=group)))
    a = advantages(correct[samples], estimator, omega=omega, **options)
    left = pi[samples].prod(-1) @ logit_motion(pi, samples, a, eta)
    direction = pi * correct / p - pi * (1 - correct) / (1 - p)
    weight = update_weight(p, group, estimator, omega=omega, **options)
    return left, eta * float(weight) * direction


def _levels(estimator: str, group: int, omega: float, options: dict):
    """Rewards and advantages (G+1, G) of groups with 0..G correct ones."""
    r = (np.arange(group) < np.arange(group + 1)[:, None]).astype(float)
    return r, advantages(r, estimator, omega=omega, **options)
