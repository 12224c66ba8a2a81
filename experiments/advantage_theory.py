"""What the theorems on advantage symmetry say, exactly, and where they stop.

Reference: "Unveiling Implicit Advantage Symmetry" (A-GRAE, arXiv 2602.05548), theorems
1 and 2 and figures 1 and 6. The limits, the expectation and the comparison with the
authors' code are ours. Studies:

  size    sum |A| of a group by its number of correct rollouts, for every estimator,
          with the 2G sqrt(p(1-p)) of theorem 2; and the weight W that an estimator
          gives to a prompt on average: a step of size eta changes the logits by
          E[dh] = eta W (E_pos - E_neg), with the mean gradients E_pos and E_neg of the
          log-probability over right and over wrong trajectories
  motion  one softmax over 40 trajectories, 8 of them sampled: how a step changes the
          logits, by autograd, against theorem 1. Limit (i): where sum A = 0, the
          logits of unsampled trajectories do not change and their probabilities do.
          Limit (iii): with weights of 1/length sum A is not 0. Also both sides of the
          equation for E[dh], over all 4^6 groups
  tree    one softmax per prefix, 4 tokens and 3 places. Limit (ii): only the logits of
          unsampled first tokens do not change, as sum A over the rollouts that share a
          longer prefix is not 0

Groups have right and wrong rollouts, rewards are 0 and 1, and A-GRAE's mean reward
omega is held fixed at 0.5. Everything is
float64 and exact up to rounding; a seed sets the logits, the rewards and the samples.
Expected: identities to 1e-12; a step of size eta moves the logits of unsampled later
tokens by about eta.
Cost on one core: smoke 2 s, quick 5 s, paper 20 s.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from symlab.harness import Claim, figure, grid, panels, plot, rng, stats
from symlab.harness.estimates import estimate, family, named, where
from symlab.papers import ADVANTAGES, AGRAE

LANES = 64
OMEGA = 0.5
SYMMETRIC = ("grpo", "dapo", "dr_grpo", "hard", "easy", "ddas")
SUPPRESSING = ("negative_dominant", "ass", "agrae", "agrae_released", "nsr")
METHODS = (*SYMMETRIC, *SUPPRESSING, "positive_dominant", "w_reinforce", "psr")
TRAJECTORIES, PLACES, BRANCHES = 40, 3, 4
SMALL, SMALL_GROUP = 4, 6  # the softmax and the group of the expectation
LENGTHS = 10  # trajectories have 1 to 10 tokens
GRID = np.linspace(0.02, 0.98, 49)
PRINTED = {  # sum |A| of A-GRAE for 1..7 of 8 correct, by hand from its formulas
    "agrae": (3.87, 4.10, 4.21, 4.24, 4.21, 4.10, 3.87),
    "agrae_released": (4.34, 5.20, 6.12, 7.24, 8.77, 11.20, 16.42),
}


@dataclass(frozen=True)
class Config:
    study: str = "size"
    """'size': sums |A| of groups; 'motion': one softmax; 'tree': one per prefix."""
    method: str = "grpo"
    """An estimator of symlab.rlvr.advantages."""
    group: int = 8
    """Rollouts of a group."""
    seed: int = 0
    """Logits, rewards and samples; the study 'size' is not random."""


def sweep(scale: str) -> list[Config]:
    seeds = range({"smoke": 2, "quick": 16, "paper": 64}[scale])
    sizes = [4, 8] if scale == "smoke" else [2, 4, 8, 16, 64, 512]
    return [
        *grid(Config, method=METHODS, group=sizes, seed=0),
        *grid(Config, study=["motion", "tree"], method=METHODS, seed=seeds),
    ]


def run(configs: list[Config]) -> list[dict]:
    return [STUDIES[c.study](c) for c in configs]


def _size(c: Config) -> dict:
    """Sizes by the number of correct rollouts, and W on the grid of success rates.

    Columns:
        rate: (G-1,), success rates k/G of groups of G rollouts with k = 1, ..., G-1
            correct ones; in the study 'size' only, else empty
        size: (G-1,), sum of the absolute advantages over a group at each success rate
            of the column rate; in the study 'size' only, else empty
        closed_form: (G-1,), the column size by theorem 2, 2 G sqrt(p (1 - p)) with p of
            the column rate; in the study 'size' only, else empty
        largest_sum: absolute value of the sum of advantages over a group, divided by G,
            at the number of correct rollouts from 1 to G-1 where it is largest; in the
            study 'size' only, else empty
        least_sum: as largest_sum, but at the number of correct rollouts where it is
            least; in the study 'size' only, else empty
        at_the_ends: sum of the absolute advantages of the group without a correct
            rollout plus that of the group with correct ones alone; in the study 'size'
            only, else empty
        weight: (49,), weight W of the expected update of a prompt, E[dh] = eta W (E_pos
            - E_neg), at success rates p = 0.02, 0.04, ..., 0.98 of the policy, exact;
            in the study 'size' only, else empty
    """
    from symlab.rlvr import theory
    from symlab.rlvr.advantages import advantages

    g = c.group
    k = np.arange(1, g)
    rewards = (np.arange(g) < k[:, None]).astype(float)
    a = advantages(rewards, c.method, omega=OMEGA)
    size = theory.update_size(c.method, g, omega=OMEGA)
    return {
        "rate": k / g,
        "size": size[1:-1],
        "closed_form": theory.magnitude(k / g, g),
        "largest_sum": float(abs(a.sum(-1)).max() / g),
        "least_sum": float(abs(a.sum(-1)).min() / g),
        "at_the_ends": float(size[0] + size[-1]),
        "weight": theory.update_weight(GRID, g, c.method, omega=OMEGA),
    }


def mixed(draws, probability, correct, group: int) -> np.ndarray:
    """Return the indices (G,) of a sampled group of trajectories that has both right
    and wrong ones. probability, correct: of every trajectory, its probability and
    whether it is right (1 or 0). group: G, the number of samples.
    """
    while True:
        found = draws.choice(len(probability), group, p=probability)
        if 0 < correct[found].sum() < group:
            return found


def _motion(c: Config) -> dict:
    """Motions of one softmax against theorem 1 and its limits (i) and (iii).

    Columns:
        theorem_1_error: largest absolute difference, over 40 logits, between their
            change by theorem 1 and by autograd, after a gradient step with learning
            rate 1; in the study 'motion' only, else empty
        unsampled: largest absolute change of the logit of a trajectory that was not
            sampled, by a step with learning rate 1; in the study 'motion' only, else
            empty
        least_unsampled: least change, with its sign, of the logit of a trajectory that
            was not sampled, by a step with learning rate 1; in the study 'motion' only,
            else empty
        unsampled_log_probability: largest absolute change of the log-probability of a
            trajectory that was not sampled, to first order, by a step with learning
            rate 1; in the study 'motion' only, else empty
        limit_1_error: largest absolute difference between the changes of
            log-probabilities of trajectories that were not sampled and the closed form
            -C (pi_u - sum_j pi_j^2) - sum_G A_k pi_k, with C the sum of the group's
            advantages A; in the study 'motion' only, else empty
        unsampled_by_length: largest absolute change of the logit of a trajectory that
            was not sampled if each advantage is divided by the length, of 1 to 10
            tokens, of its trajectory; in the study 'motion' only, else empty
        unsampled_by_one_length: as unsampled_by_length, but each advantage is divided
            by 10, whatever the length; in the study 'motion' only, else empty
        expectation_error: largest absolute difference between both sides of E[dh] = W
            (E_pos - E_neg), taken over all 4^6 groups of 6 of 4 trajectories, divided
            by the largest entry of the right side or by 1 if that is larger; in the
            study 'motion' only, else empty
    """
    from symlab.rlvr import theory
    from symlab.rlvr.advantages import advantages

    draws = rng.stream(c.seed, "motion")
    h = draws.normal(size=TRAJECTORIES)
    pi = np.exp(h) / np.exp(h).sum()
    correct = (np.arange(TRAJECTORIES) % 2).astype(float)
    group = mixed(draws, pi, correct, c.group)
    lengths = draws.integers(1, LENGTHS + 1, TRAJECTORIES)[group]
    a = advantages(correct[group][None], c.method, omega=OMEGA)[0]
    dh = theory.logit_motion(pi, group, a)
    dlog = theory.log_probability_motion(pi, group, a)
    rest = np.setdiff1d(np.arange(TRAJECTORIES), group)  # not sampled
    formula = -a.sum() * (pi - (pi**2).sum()) - (a * pi[group]).sum()
    by_length = theory.logit_motion(pi, group, a / lengths)
    by_one_length = theory.logit_motion(pi, group, a / LENGTHS)
    return {
        "theorem_1_error": float(abs(dh - by_autograd(h, group, a)).max()),
        "unsampled": float(abs(dh[rest]).max()),
        "least_unsampled": float(dh[rest].min()),
        "unsampled_log_probability": float(abs(dlog[rest]).max()),
        "limit_1_error": float(abs(dlog - formula)[rest].max()),
        "unsampled_by_length": float(abs(by_length[rest]).max()),
        "unsampled_by_one_length": float(abs(by_one_length[rest]).max()),
        "expectation_error": _expectation_error(c, draws),
    }


def by_autograd(h, group, a) -> np.ndarray:
    """Return the gradient of sum_i A_i log pi_i with respect to the logits h, by
    torch's autograd, where pi = softmax(h). group: the sampled trajectories i; a: their
    advantages A_i.
    """
    import torch

    h = torch.from_numpy(h).requires_grad_()
    loss = (
        torch.from_numpy(a) * torch.log_softmax(h, 0)[torch.from_numpy(group)]
    ).sum()
    return torch.autograd.grad(loss, h)[0].numpy()


def _expectation_error(c: Config, draws) -> float:
    """The error of E[dh] = eta W (E_pos - E_neg), relative to the largest motion."""
    from symlab.rlvr import theory

    pi = draws.dirichlet(np.ones(SMALL))
    correct = np.arange(SMALL) % 2
    left, right = theory.expected_motion(
        pi, correct, SMALL_GROUP, c.method, omega=OMEGA
    )
    return float(abs(left - right).max() / max(1.0, abs(right).max()))


def _tree(c: Config) -> dict:
    """Largest motion of unsampled tokens at prefixes that were sampled, by place.

    Columns:
        by_place: (3,), largest absolute change of the logit of a token that was not
            sampled after a prefix that was, by a step with learning rate 1, for the
            first, second and third token; in the study 'tree' only, else empty
        root: the first entry of by_place; in the study 'tree' only, else empty
        deeper: the larger one of the other two entries of by_place; in the study 'tree'
            only, else empty
    """
    import torch

    from symlab.rlvr.advantages import advantages

    draws = rng.stream(c.seed, "tree")
    logits = [
        torch.from_numpy(draws.normal(size=(BRANCHES**d, BRANCHES))).requires_grad_()
        for d in range(PLACES)
    ]
    log_pi = leaves(logits)
    pi = log_pi.exp().detach().numpy()
    correct = draws.permutation(np.arange(len(pi)) % 2).astype(float)
    group = mixed(draws, pi / pi.sum(), correct, c.group)
    a = advantages(correct[group][None], c.method, omega=OMEGA)[0]
    loss = (torch.from_numpy(a) * log_pi[torch.from_numpy(group)]).sum()
    motions = torch.autograd.grad(loss, logits)
    largest = []
    for place, motion in enumerate(motions):
        taken = np.unique(group // BRANCHES ** (PLACES - place - 1))  # nodes below
        prefixes = np.unique(taken // BRANCHES)
        there = prefixes[:, None] * BRANCHES + np.arange(BRANCHES)
        rest = np.setdiff1d(there, taken)
        largest.append(float(np.abs(motion.flatten().numpy()[rest]).max(initial=0.0)))
    return {"by_place": largest, "root": largest[0], "deeper": max(largest[1:])}


def leaves(logits):
    """Return the log-probabilities (BRANCHES ** PLACES,) of all trajectories, sequences
    of PLACES tokens; the last token varies fastest. logits: one tensor for each place,
    with a row of BRANCHES logits for each prefix.
    """
    import torch

    found = torch.zeros(1, 1, dtype=torch.float64)
    for h in logits:
        found = (found.reshape(-1, 1) + torch.log_softmax(h, 1)).reshape(1, -1)
    return found[0]


STUDIES = {"size": _size, "motion": _motion, "tree": _tree}


# --- table and figure ----------------------------------------------------------------

SIZE, MOTION, TREE = (where(study=study) for study in STUDIES)


def table(df):
    """Return a table of sum |A| of a group of 8 rollouts by the number of right ones,
    under A-GRAE by the paper's formula and by its released code, at a mean reward of
    omega = 0.5.
    """
    import pandas as pd

    from symlab.rlvr.theory import update_size

    def of(method: str, **options):
        return update_size(method, 8, omega=OMEGA, **options)[1:8]

    paper, code = of("agrae"), of("agrae_released", std="population")
    sums = {
        "GRPO": of("grpo"),
        "A-GRAE, paper": paper,
        "A-GRAE, released code": code,
        "ratio": code / paper,
        "released code with its own std": of("agrae_released"),
    }
    shown = {name: [f"{x:4.2f}" for x in found] for name, found in sums.items()}
    return pd.DataFrame({"correct of 8": range(1, 8)} | shown)


def _line(ax, x, y, method: str, **look):
    arm = ADVANTAGES[method]
    ax.plot(x, y, **{"label": arm.label} | arm.look | look)


def _sizes(df, ax, *methods: str, over: dict | None = None, **look):
    """Draw sizes on the same scale in each panel; `over` divides some of them."""
    rows = SIZE.where(group=8)(df).set_index("method")
    p = np.linspace(0.001, 0.999, 999)
    plot.theory(ax, p, 16 * np.sqrt(p * (1 - p)), label="$2G\\sqrt{p(1-p)}$", zorder=1)
    for method in methods:
        size = np.array(rows["size"][method]) / (over or {}).get(method, 1)
        _line(ax, rows.rate[method], size, method, **look)
    ax.set(xlabel="success rate of the group $p$", xlim=(0, 1), ylim=(0, 17.5))
    panels.ticks(ax, "y", (0, 5, 10, 15))
    ax.set_ylabel("update size $\\sum|A|$, $G=8$")


def _names(ax, places: dict) -> None:
    """Write the names of methods at {method: (x, y)} in data coordinates."""
    for method, (x, y) in places.items():
        arm = ADVANTAGES[method]
        panels.note(ax, x, y, arm.label, data=True, color=arm.color, ha="center")


@figure("agrae1", "left", title="Sign weights keep the peak")
def draw_sizes(df, ax):
    """Sum of the absolute advantages A of a group of G = 8 rollouts, which is the size
    of its update, against the share p of right ones; dashed, GRPO's closed form 2 G
    sqrt(p (1 - p)) (theorem 2), which the panels for other estimators show on the same
    scale. Positive-Dominant multiplies the advantages of right rollouts by s = 10,
    Negative-Dominant by s = 0.1; the sizes of the first are drawn divided by 10. DAPO's
    sizes are GRPO's. The sizes are exact.
    """
    small = {"linestyle": ""}
    _sizes(df, ax, "grpo", **small)
    _sizes(df, ax, "dr_grpo")
    over = {"positive_dominant": 10}
    divided = "Positive-Dominant / 10, $s=10$"
    hollow = small | {"ms": 7, "mfc": "none", "label": divided}
    _sizes(df, ax, "positive_dominant", over=over, **hollow)
    weakened = "Negative-Dominant, $s=0.1$"
    _sizes(df, ax, "negative_dominant", label=weakened, **small)
    panels.legend(ax, "upper left")


@figure("agrae1", "mid", title="Prompt weights can move the peak")
def draw_refocused(df, ax):
    """Sum of the absolute advantages of a group of 8 rollouts against the share of
    right ones, for advantages that weigh hard or easy prompts more (Hard, Easy, DDAS),
    for ASS, which shrinks those of right rollouts, and for A-GRAE by the paper's
    formula and by its released code, at a mean reward of 0.5; dashed, GRPO's closed
    form.
    """
    methods = ("hard", "easy", "ddas", "ass", "agrae", "agrae_released")
    _sizes(df, ax, *methods, label="_")
    _names(ax, {"hard": (0.16, 7.9), "easy": (0.92, 8.5), "ddas": (0.94, 5.75),
                "ass": (0.4, 6.75), "agrae": (0.5, 2.9),
                "agrae_released": (0.58, 14)})  # fmt: skip
    panels.legend(ax, "upper left")


@figure("agrae1", "right", title="Signs taken apart: no peak")
def draw_uncoupled(df, ax):
    """Sum of the absolute advantages of a group of 8 rollouts against the share of
    right ones, for advantages that treat right and wrong rollouts apart: W-REINFORCE
    (0.1 for right, -1 for wrong ones), PSR (right ones alone), NSR (wrong ones alone);
    dashed, GRPO's closed form.
    """
    _sizes(df, ax, "w_reinforce", "psr", "nsr")
    panels.legend(ax, "upper left")


@figure("agrae1", "left", row=1, title="GRPO: only the first token stands still")
def draw_tree(df, ax):
    """Largest change |dh| of the logit of a token that was not sampled, by a gradient
    step of size eta, divided by eta, against the token's place, for a policy with a
    softmax for each prefix (a tree of choices): means over seeds, with 95 % intervals
    that end at 0. Ring: theorem 1, by which GRPO does not change the logits of first
    tokens.
    """
    frame = panels.unrolled(TREE(df), range(1, PLACES + 1), "by_place", ["method"])
    shown = {m: ADVANTAGES[m] for m in ("negative_dominant", "grpo", "agrae")}
    look = {"spread": 0.24, "limits": (0, np.inf)}
    panels.apart(ax, frame, "x", "y", "method", shown, **look)
    ring = {"marker": "o", "ms": 8, "mfc": "none", "linestyle": "none"}
    plot.theory(ax, [1], [0], **ring)
    panels.note(ax, 1.15, -0.04, "theorem 1: 0", data=True)
    _names(ax, {"negative_dominant": (1.4, 0.92), "grpo": (2.75, 0.72),
                "agrae": (2.6, 0.28)})  # fmt: skip
    ax.set(xlabel="place of the token", xticks=range(1, PLACES + 1))
    ax.set(ylabel="largest $|dh|/\\eta$, unsampled", ylim=(-0.08, 1.02))


def _weights(df, ax, *methods: str, **look):
    weights = SIZE.where(group=8)(df).set_index("method").weight
    for method in methods:
        ratio = weights[method] / weights["grpo"]
        _line(ax, GRID, ratio, method, markevery=6, **look)
    panels.reference(ax, y=1)
    ax.set(xlabel="success rate of the policy $p$", yscale="log", xlim=(0, 1))
    ax.set_ylabel("expected update over GRPO's")


@figure("agrae1", "mid", row=1, title="Sign weights favour hard or easy")
def draw_hidden_focus(df, ax):
    """Expected update of a prompt that is solved with probability p, divided by GRPO's
    (grey line), if the advantages of right rollouts are multiplied by s = 10
    (Positive-Dominant) or s = 0.1 (Negative-Dominant), for groups of 8 rollouts, exact;
    dashed, the closed form s (1 - p) + p of large groups.
    """
    signed = "positive_dominant", "negative_dominant"
    _weights(df, ax, *signed, linestyle="", label="_")
    for s, label in ((10, "$s(1-p)+p$"), (0.1, "")):
        plot.theory(ax, GRID, s * (1 - GRID) + GRID, label=label, zorder=1)
    for at, method, s in (((0.3, 8.6), "positive_dominant", 10),
                          ((0.3, 0.19), "negative_dominant", 0.1)):  # fmt: skip
        arm = ADVANTAGES[method]
        panels.note(ax, *at, f"{arm.label}, $s={s}$", data=True, color=arm.color)
    panels.ticks(ax, "y", (0.1, 0.3, 1, 3, 10), log=10)
    ax.set_ylim(0.08, 13)
    panels.legend(ax, "lower right")


@figure("agrae1", "right", row=1, title="A-GRAE weighs easy over hard")
def draw_focus(df, ax):
    """Expected update of a prompt that is solved with probability p, divided by GRPO's
    (grey line), for advantages that weigh hard or easy prompts more (Hard, Easy, DDAS),
    and for A-GRAE by the paper's formula and by its released code, at a mean reward of
    0.5, for groups of 8 rollouts, exact.
    """
    _weights(df, ax, "hard", "easy", "ddas", "agrae", "agrae_released", label="_")
    _names(ax, {"hard": (0.12, 1.45), "easy": (0.93, 1.5), "ddas": (0.13, 0.7),
                "agrae": (0.67, 0.49), "agrae_released": (0.6, 2.4)})  # fmt: skip
    panels.ticks(ax, "y", (0.5, 1, 2, 4))
    ax.set_ylim(0.45, 4.5)


# --- claims --------------------------------------------------------------------------

FORMS = {  # sum |A| of a group of G with the success rate p
    "grpo": lambda p, g: 2 * g * np.sqrt(p * (1 - p)),
    "hard": lambda p, g: g * np.sqrt(1 - p),
    "easy": lambda p, g: g * np.sqrt(p),
}
SCALES = {"grpo": 1.0, "positive_dominant": 10.0, "negative_dominant": 0.1}


def off_form(df):
    """relative distance of sum |A| from its closed form

    The function returns one number for each row of df, the largest over success rates;
    A are the advantages of a group of rollouts. Claims print the line above.
    """

    def gap(row):
        size = np.asarray(row["size"])
        form = FORMS[row.method](np.asarray(row.rate), row.group)
        return abs(size - form).max() / max(size.max(), 1.0)

    return df.apply(gap, axis=1)


def off_half(df):
    """distance from 1/2 to the success rate with the largest sum |A|

    The function returns one number for each row of df; A are the advantages of a group
    of rollouts. Claims print the line above.
    """
    return df.apply(lambda r: abs(r.rate[int(np.argmax(r["size"]))] - 0.5), axis=1)


def off_limit(df):
    """relative distance of W from its form for large groups at p from 0.1 to 0.9

    The function returns one number for each row of df, the largest over p. W is the
    weight that an estimator gives on average to a prompt that is solved with
    probability p. Claims print the line above.
    """
    from symlab.rlvr.theory import large_group_weight

    inside = (GRID > 0.1) & (GRID < 0.9)

    def gap(row):
        form = large_group_weight(GRID, row.group, SCALES[row.method])
        return np.abs(np.asarray(row.weight) / form - 1)[inside].max()

    return df.apply(gap, axis=1)


def largest_groups(df):
    """the group of rollouts is the largest of the sweep

    The function returns the rows of df for which this holds. Claims print the line
    above.
    """
    return df[df.group == df.group.max()]


@estimate
def off_hand(df):
    """largest difference of sum |A| of A-GRAE, by the paper's formula or by that of its
    code, from the sum worked out by hand, for 1 to 7 of 8 correct rollouts

    A are the advantages of a group of rollouts. Claims print the words above.
    """
    from symlab.rlvr.theory import update_size

    gaps = []
    for method, expected in PRINTED.items():
        found = update_size(method, 8, omega=OMEGA, std="population")[1:8]
        gaps.append(np.abs(found - expected).max())
    return stats.worst(gaps)


def largest(rows, column: str, words: str):
    """Return the estimate of the largest value that a column has in any run. words: the
    name of the column's quantity, which claims print.
    """
    return rows.worst(named(column, words))


SYMMETRICALLY = MOTION.where(method=SYMMETRIC)
SYMMETRIC_NAMES = (
    "GRPO, DAPO, Dr. GRPO or GRPO with prompts weighed by difficulty (the variants "
    "Hard, Easy and DDAS)"
)
SUPPRESSED = (
    "Negative-Dominant, ASS, NSR or A-GRAE (by the paper's formula or its code's)"
)
UNSAMPLED = "|change of the logit| / eta of an unsampled trajectory"
ROUNDING = (
    "The statement is exact but for the rounding of float64, about 1e-16 of each "
    "number, so that a deviation of 1e-12 would be real."
)
GROUPS = "2, 4, 8, 16, 64 or 512 rollouts (sampled answers with reward 0 or 1)"
A_GROUP = (
    "a group of G rollouts with reward 0 or 1 of which a fraction p is right, for six "
    "G from 2 to 512"
)
POLICY = "With one softmax over 40 trajectories as the policy"
TREES = "With a policy of three tokens (a softmax for each prefix)"
identity = partial(Claim, paper=AGRAE, kind="identity", below=1e-12,
                   reason=ROUNDING)  # fmt: skip
theorem_1 = partial(identity, place="theorem 1")
limit = partial(identity, origin="ours")
moves = partial(Claim, paper=AGRAE, origin="ours", kind="identity")
ONE, TWO, THREE = (f"limit ({n}) of theorem 1" for n in ("i", "ii", "iii"))
CLAIMS = [
    identity("group_symmetry",
        f"For every group of {GROUPS} of which some are right and some wrong, the "
        f"advantages by {SYMMETRIC_NAMES} sum to 0, to within 1e-12 per rollout.",
        unit="per rollout",
        place="group symmetry of GRPO", tests="unsampled",
        estimate=SIZE.where(method=SYMMETRIC).worst(
            named("largest_sum", "|sum of advantages| / G of a mixed group")),
        reason=ROUNDING),
    Claim("symmetry_is_broken",
        "For every group of 2, 4 or 8 rollouts (sampled answers with reward 0 or 1) "
        "of which some are right and some wrong, the advantages by "
        "Positive-Dominant, Negative-Dominant, ASS, NSR and A-GRAE, which weigh "
        "right and wrong ones unequally, sum to more than 0.01 per rollout or less "
        "than -0.01.",
        unit="per rollout",
        paper=AGRAE, place="experiment I and A-GRAE", kind="identity", above=1e-2,
        estimate=SIZE.where(
            "group <= 8", method=(*SUPPRESSING, "positive_dominant")).least(
            named("least_sum", "|sum of advantages| / G of a mixed group")),
        reason="A sum that is zero but for rounding is below 1e-12; a hundredth of an "
        "advantage per rollout is far above it."),
    theorem_1("theorem_1",
        f"{POLICY}, a gradient step of size eta moves the logit of trajectory i by "
        "eta (S_i - C pi_i) under each of 14 advantage estimators, to 1e-12 eta. S_i "
        "is the sum of the advantages of the samples of trajectory i, C that of all "
        "samples, and pi the softmax.",
        unit="times eta",
        tests="unsampled",
        estimate=largest(MOTION, "theorem_1_error",
                         "error of the change of a logit / eta")),
    theorem_1("unsampled_logits_rest",
        f"{POLICY}, a gradient step of size eta under {SYMMETRIC_NAMES} changes the "
        "logit of no trajectory that was not sampled by more than 1e-12 eta.",
        unit="times eta",
        tests="unsampled", estimate=largest(SYMMETRICALLY, "unsampled", UNSAMPLED)),
    Claim("suppressing_positives_raises_unsampled",
        f"{POLICY}, a gradient step of size eta under {SUPPRESSED}, which weigh right "
        "rollouts less than wrong ones, raises the logit of every trajectory that "
        "was not sampled by more than 1e-6 eta.",
        paper=AGRAE, place="theorem 1", tests="suppression", kind="identity",
        above=1e-6,
        unit="times eta",
        estimate=MOTION.where(method=SUPPRESSING).least(
            named("least_unsampled", "change of an unsampled logit / eta")),
        reason="Such a logit changes by -eta times its probability times the sum of "
        "all advantages, which is negative. For the least likely trajectories this is "
        "small, but 1e-6 eta is far above rounding."),
    # --- where theorem 1 stops
    moves("probabilities_move_all_the_same",
        f"{POLICY}, a gradient step of GRPO of size eta leaves the logits of "
        "trajectories that were not sampled as they are, but changes the "
        "log-probability of at least one of them by more than 0.001 eta, in every "
        "run.",
        unit="times eta",
        place=ONE, above=1e-3,
        estimate=MOTION.where(method="grpo").least(
            named("unsampled_log_probability",
                  "largest |change of log pi| / eta over the unsampled trajectories")),
        reason="The softmax is normalised, so that these probabilities change unless "
        "a sum over the samples is zero by chance. A thousandth is far above "
        "rounding."),
    limit("probabilities_move_by_formula",
        f"{POLICY}, a gradient step of size eta changes the log-probability of a "
        "trajectory u that was not sampled by -eta [C (pi_u - sum of pi^2) + D], to "
        "1e-12 eta. D is the sum over the samples of advantage times probability, C "
        "the sum of their advantages.",
        unit="times eta",
        place=ONE, estimate=largest(
            MOTION, "limit_1_error",
            "error of the change of log pi / eta of an unsampled trajectory")),
    limit("root_of_a_tree_rests",
        f"{TREES}, a gradient step of size eta under {SYMMETRIC_NAMES} changes the "
        "logit of no first token that was not sampled by more than 1e-12 eta.",
        unit="times eta",
        place=TWO,
        estimate=largest(TREE.where(method=SYMMETRIC), "root",
                         "|change of the logit| / eta of an unsampled first token")),
    moves("deeper_tokens_move",
        f"{TREES}, the largest change that a gradient step of GRPO of size eta makes "
        "to the logit of a second or third token that was not sampled exceeds 0.1 "
        "eta, in the mean over seeds.",
        unit="times eta",
        place=TWO, kind="effect", above=0.1,
        estimate=TREE.where(method="grpo").mean(
            named("deeper", "the largest |change of the logit| / eta of an unsampled "
                  "token after the first")),
        reason="A tenth of what an advantage of 1 can do is far above rounding. In a "
        "prototype the largest changes were up to 2 eta."),
    moves("lengths_break_the_symmetry",
        f"{POLICY} and GRPO's advantages divided by the trajectories' lengths of 1 to "
        "10 tokens, the largest change that a gradient step of size eta makes to the "
        "logit of a trajectory that was not sampled exceeds 0.001 eta, in the mean "
        "over seeds.",
        unit="times eta",
        place=THREE, kind="effect", above=1e-3,
        estimate=MOTION.where(method="grpo").mean(
            named("unsampled_by_length", f"the largest {UNSAMPLED}")),
        reason="Advantages that are divided by different lengths no longer sum to "
        "zero. A thousandth is far above rounding."),
    limit("equal_lengths_keep_it",
        f"{POLICY} and all advantages divided by one length, a gradient step of size "
        f"eta under {SYMMETRIC_NAMES} changes the logit of no unsampled trajectory by "
        "more than 1e-12 eta.",
        unit="times eta",
        origin="control", place=THREE,
        estimate=largest(SYMMETRICALLY, "unsampled_by_one_length", UNSAMPLED)),
    # --- the size of updates
    identity("theorem_2",
        f"In {A_GROUP}, GRPO's advantages A have sum |A| = 2 G sqrt(p (1 - p)) for "
        "all p between 0 and 1, to 1e-12 of the largest sum.",
        unit="relative error",
        place="theorem 2", tests="medium",
        estimate=SIZE.where(method="grpo").worst(off_form),
        reason=ROUNDING),
    identity("peak_at_one_half",
        f"In groups of {GROUPS}, the sum of the absolute values of GRPO's advantages "
        "is largest where exactly half of the rollouts are right.",
        unit="distance of p from 1/2",
        place="theorem 2", tests="medium",
        estimate=SIZE.where(method="grpo").worst(off_half),
        reason="All groups are of even size, so that half of a group is a whole "
        "number of rollouts. The largest sum is there or at least one rollout away, "
        "and no rounding can hide that."),
    *family("{method}_closed_form",
        f"In {A_GROUP}, the advantages A by {{method}} for all p between 0 and 1, to "
        "1e-12 of the largest sum.",
        lambda method: SIZE.where(method=method).worst(off_form),
        unit="relative error",
        method={"hard": "Hard (GRPO's divided by 2 sqrt(p)) have sum |A| = G sqrt(1 - "
                "p)",
                "easy": "Easy (GRPO's divided by 2 sqrt(1 - p)) have sum |A| = G "
                "sqrt(p)"},
        paper=AGRAE, place="experiment II", kind="identity", below=1e-12,
        reason=ROUNDING),
    identity("expectation_identity",
        "For a softmax policy over 4 trajectories and groups of 6 samples, the "
        "expected gradient step of size eta is eta W (E_pos - E_neg) to a relative "
        "1e-12 under each of 14 advantage estimators. E_pos and E_neg are the mean "
        "gradients of log pi over right and over wrong trajectories; W is a number.",
        unit="relative error",
        origin="ours", place="the expectation of the update",
        estimate=largest(MOTION, "expectation_error",
                         "relative error of the expected step"),
        reason=f"{ROUNDING} The mean over all 4096 groups is compared, relative to "
        "the largest step, or to 1 where that is smaller."),
    Claim("hidden_focus_of_large_groups",
        "If GRPO's advantages of right rollouts are multiplied by s = 0.1, 1 or 10, "
        "the expected update of a prompt is W = G sqrt(p (1 - p)) [s (1 - p) + p] "
        "times a vector that does not depend on s, to a relative 0.01, for groups of G "
        "= 512 rollouts and a success rate p between 0.1 and 0.9.",
        place="the expectation of the update", kind="equivalence", below=0.01,
        unit="relative error",
        estimate=where(largest_groups, study="size", method=SCALES).worst(off_limit),
        reason="The formula is the limit of large groups. At G = 512 and p = 0.1 the "
        "exact value is 0.3 % smaller, by 1/(8 G p (1 - p)), and a wrong formula "
        "would be off by much more than 1 %."),
    Claim("sums_by_hand",
        "For 1 to 7 right rollouts of 8 and a mean reward of 0.5, the sum of the "
        "absolute values of A-GRAE's advantages as symlab computes it is within 0.006 "
        "of the sum worked out by hand, both by the paper's formula and by that of "
        "the authors' code (population standard deviation).",
        unit="sum of advantages",
        origin="oracle", kind="identity", estimate=off_hand, below=0.006,
        place="by hand from the formulas",
        reason="The sums by hand were written down with two decimals, so that they "
        "are off by up to 0.005."),
]  # fmt: skip
