"""What the theorems on advantage symmetry say, exactly, and where they stop.

Reference: "Unveiling Implicit Advantage Symmetry" (A-GRAE, arXiv 2602.05548), theorems
1 and 2 and figures 1 and 6. The limits, the expectation and the comparison with the
authors' code are ours. Studies:

  size    sum |A| of a group by its number of correct rollouts, for every estimator,
          with the 2G sqrt(p(1-p)) of theorem 2; and the weight W that an estimator
          gives to a prompt on average, E[dh] = eta W (E_pos - E_neg)
  motion  one softmax over 40 trajectories, 8 of them sampled: how a step changes the
          logits, by autograd, against theorem 1. Limit (i): where sum A = 0, the
          logits of unsampled trajectories do not change and their probabilities do.
          Limit (iii): with weights of 1/length sum A is not 0. Also both sides of the
          expectation, over all 4^6 groups
  tree    one softmax per prefix, 4 tokens and 3 places. Limit (ii): only the logits of
          unsampled first tokens do not change, as sum A over the rollouts that share a
          longer prefix is not 0

Groups are mixed, rewards are 0 and 1, and omega is held fixed at 0.5. Everything is
float64 and exact up to rounding; a seed sets the logits, the rewards and the samples.
Expected: identities to 1e-12; a step of size eta moves the logits of unsampled later
tokens by about eta.
Cost on one core: smoke 2 s, quick 5 s, paper 20 s.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from symlab.harness import (
    Claim,
    estimate,
    family,
    figure,
    grid,
    named,
    panels,
    plot,
    rng,
    stats,
    where,
)
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
    """'size': sums of groups; 'motion': one softmax; 'tree': a softmax per prefix."""
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
    """Sizes by the number of correct rollouts, and W on the grid of success rates."""
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
    """A sampled group (G,) that has both correct and wrong trajectories."""
    while True:
        found = draws.choice(len(probability), group, p=probability)
        if 0 < correct[found].sum() < group:
            return found


def _motion(c: Config) -> dict:
    """Motions of one softmax against theorem 1 and its limits (i) and (iii)."""
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
    """The gradient of sum_i A_i log pi_i with respect to the logits."""
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
    """Largest motion of unsampled tokens at prefixes that were sampled, by place."""
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
    """log pi (BRANCHES ** PLACES,) of all trajectories, the last token fastest."""
    import torch

    found = torch.zeros(1, 1, dtype=torch.float64)
    for h in logits:
        found = (found.reshape(-1, 1) + torch.log_softmax(h, 1)).reshape(1, -1)
    return found[0]


STUDIES = {"size": _size, "motion": _motion, "tree": _tree}


# --- table and figure ----------------------------------------------------------------

SIZE, MOTION, TREE = (where(study=study) for study in STUDIES)
COMPACT = {"columnspacing": 0.8, "borderaxespad": 0.1, "handlelength": 1.6}


def table(df):
    """sum |A| at G = 8 and omega = 0.5: A-GRAE by the paper and by its code."""
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
    style = {"color": arm.color, "marker": arm.marker, "linestyle": arm.line} | look
    ax.plot(x, y, label=arm.label, **style)


def _sizes(df, ax, *methods: str, ylim: tuple[float, float], columns: int = 2):
    rows = SIZE.where(group=8)(df).set_index("method")
    for method in methods:
        _line(ax, rows.rate[method], rows["size"][method], method)
    p = np.linspace(0.01, 0.99, 99)
    plot.theory(ax, p, 16 * np.sqrt(p * (1 - p)), label="$2G\\sqrt{p(1-p)}$")
    ax.set(xlabel="success rate of the group $p$", xlim=(0, 1), ylim=ylim)
    ax.set_ylabel("update size $\\sum|A|$, $G=8$")
    panels.legend(ax, "upper left", ncol=columns, **COMPACT)


@figure("agrae1", panel="left")
def draw_sizes(df, ax):
    """Size of an update, the sum of the absolute advantages of 8 rollouts, against
    the share of right ones; dashed, GRPO's closed form.
    """
    ax.set_yscale("log")
    methods = ("positive_dominant", "negative_dominant", "grpo", "dr_grpo")
    _sizes(df, ax, *methods, ylim=(1, 700), columns=1)
    panels.note(ax, 0.5, 0.03, "$\\beta=10$; DAPO as GRPO", ha="center")
    ax.set_title("Size by weights of signs")


@figure("agrae1", panel="mid")
def draw_refocused(df, ax):
    """The same for advantages that weigh hard or easy prompts, and for A-GRAE as
    published and as released.
    """
    methods = ("hard", "easy", "ddas", "ass", "agrae", "agrae_released")
    _sizes(df, ax, *methods, ylim=(0, 24))
    ax.set_title("Size by weights of groups")


@figure("agrae1", panel="right")
def draw_uncoupled(df, ax):
    """The same for advantages that use right and wrong rollouts apart (W-REINFORCE,
    PSR, NSR).
    """
    _sizes(df, ax, "w_reinforce", "psr", "nsr", ylim=(0, 11.5), columns=1)
    ax.set_title("Size of one sign alone")


@figure("agrae1", panel="left", row=1)
def draw_tree(df, ax):
    """Largest change of the logit of an unsampled token, in units of the learning
    rate, against the token's place in a tree of choices; theorem 1 says 0 for GRPO
    in the first place.
    """
    frame = panels.unrolled(TREE(df), range(1, PLACES + 1), "by_place", ["method"])
    shown = {m: ADVANTAGES[m] for m in ("grpo", "negative_dominant", "agrae")}
    panels.curves(ax, frame, "x", "y", "method", shown)
    ring = {"marker": "o", "ms": 8, "mfc": "none", "linestyle": "none"}
    plot.theory(ax, [1], [0], label="theorem 1", **ring)
    ax.set(xlabel="place of the token", xticks=range(1, PLACES + 1))
    ax.set(ylabel="largest $|dh|/\\eta$ of unsampled", ylim=(-0.05, 1.3))
    panels.legend(ax, "upper left")
    ax.set_title("Unsampled tokens that move")


def _weights(df, ax, *methods: str, **look):
    weights = SIZE.where(group=8)(df).set_index("method").weight
    for method in methods:
        _line(ax, GRID, weights[method] / weights["grpo"], method, markevery=6, **look)
    panels.reference(ax, y=1)
    ax.set(xlabel="success rate of the policy $p$", yscale="log", xlim=(0, 1))
    ax.set_ylabel("expected update over GRPO's")


@figure("agrae1", panel="mid", row=1)
def draw_hidden_focus(df, ax):
    """Expected update at a success rate, divided by GRPO's, of advantages that
    scale right or wrong rollouts by 10; dashed, the closed form.
    """
    _weights(df, ax, "positive_dominant", "negative_dominant", linestyle="-")
    for s, label in ((10, "$s(1-p)+p$"), (0.1, "")):
        plot.theory(ax, GRID, s * (1 - GRID) + GRID, label=label)
    panels.note(ax, 0.97, 0.03, "$\\beta=10$", ha="right")
    ax.set_ylim(0.08, 60)
    ax.set_title("Expected update, signs")
    panels.legend(ax, "upper right", **COMPACT)


@figure("agrae1", panel="right", row=1)
def draw_focus(df, ax):
    """The same for advantages that weigh hard or easy prompts."""
    _weights(df, ax, "hard", "easy", "ddas", "agrae", "agrae_released")
    panels.ticks(ax, "y", (0.5, 1, 2, 4))
    ax.set_ylim(0.4, 9)
    ax.set_title("Expected update, groups")
    panels.legend(ax, "upper left", ncol=2, **COMPACT)


# --- claims --------------------------------------------------------------------------

FORMS = {  # sum |A| of a group of G with the success rate p
    "grpo": lambda p, g: 2 * g * np.sqrt(p * (1 - p)),
    "hard": lambda p, g: g * np.sqrt(1 - p),
    "easy": lambda p, g: g * np.sqrt(p),
}
SCALES = {"grpo": 1.0, "positive_dominant": 10.0, "negative_dominant": 0.1}


def off_form(df):
    """relative distance of sum |A| from its closed form"""

    def gap(row):
        size = np.asarray(row["size"])
        form = FORMS[row.method](np.asarray(row.rate), row.group)
        return abs(size - form).max() / max(size.max(), 1.0)

    return df.apply(gap, axis=1)


def off_half(df):
    """distance from 1/2 to the success rate with the largest sum |A|"""
    return df.apply(lambda r: abs(r.rate[int(np.argmax(r["size"]))] - 0.5), axis=1)


def off_limit(df):
    """relative distance of W from its form for large groups at p from 0.1 to 0.9"""
    from symlab.rlvr.theory import large_group_weight

    inside = (GRID > 0.1) & (GRID < 0.9)

    def gap(row):
        form = large_group_weight(GRID, row.group, SCALES[row.method])
        return np.abs(np.asarray(row.weight) / form - 1)[inside].max()

    return df.apply(gap, axis=1)


def largest_groups(df):
    """the group is the largest"""
    return df[df.group == df.group.max()]


@estimate
def off_hand(df):
    """largest difference of sum |A| of A-GRAE, by the paper's formula or by that of its
    code, from the sum worked out by hand, for 1 to 7 of 8 correct rollouts
    """
    from symlab.rlvr.theory import update_size

    gaps = []
    for method, expected in PRINTED.items():
        found = update_size(method, 8, omega=OMEGA, std="population")[1:8]
        gaps.append(np.abs(found - expected).max())
    return stats.worst(gaps)


def largest(rows, column: str, words: str):
    """The largest value of a column over all runs, under a readable name."""
    return rows.worst(named(column, words))


SYMMETRICALLY = MOTION.where(method=SYMMETRIC)
SYMMETRIC_NAMES = "GRPO, DAPO, Dr. GRPO and the difficulty weights Hard, Easy and DDAS"
SUPPRESSED = (
    "Negative-Dominant, ASS, NSR and A-GRAE (the paper's formula or the code's)"
)
UNSAMPLED = "|change of the logit| / eta of an unsampled trajectory"
ROUNDING = "The statement is an identity up to the rounding of float64"
MIXED = "group with both right and wrong rollouts"
TREES = "In a tree of tokens with one softmax for each prefix"
identity = partial(Claim, paper=AGRAE, kind="identity", below=1e-12,
                   reason=f"{ROUNDING}.")  # fmt: skip
theorem_1 = partial(identity, place="theorem 1")
limit = partial(identity, origin="ours")
moves = partial(Claim, paper=AGRAE, origin="ours", unit="eta", kind="identity")
ONE, TWO, THREE = (f"limit ({n}) of theorem 1" for n in ("i", "ii", "iii"))
CLAIMS = [
    identity("group_symmetry",
        f"Under {SYMMETRIC_NAMES} the advantages of every {MIXED} sum to 0, to 1e-12 "
        "per rollout.",
        place="group symmetry of GRPO", tests="unsampled",
        estimate=SIZE.where(method=SYMMETRIC).worst(
            named("largest_sum", "|sum of advantages| / G of a mixed group")),
        reason=f"{ROUNDING}, per rollout."),
    Claim("symmetry_is_broken",
        "Under estimators that weigh right and wrong rollouts unequally (Positive- and "
        "Negative-Dominant, ASS, NSR, A-GRAE) the advantages of at most 8 rollouts, "
        "some right and some wrong, sum to more than 0.01 per rollout or less than "
        "-0.01.",
        paper=AGRAE, place="experiment I and A-GRAE", kind="identity", above=1e-2,
        estimate=SIZE.where(
            "group <= 8", method=(*SUPPRESSING, "positive_dominant")).least(
            named("least_sum", "|sum of advantages| / G of a mixed group")),
        reason="A hundredth of an advantage per rollout is more than rounding."),
    theorem_1("theorem_1",
        "Under every estimator a gradient step of size eta moves the logit of "
        "trajectory i, in one softmax pi over trajectories, by eta (S_i - C pi_i), to "
        "1e-12 eta, where S_i is the sum of the advantages of the rollouts of i, and C "
        "that of all.",
        tests="unsampled",
        estimate=largest(MOTION, "theorem_1_error",
                         "error of the change of a logit / eta")),
    theorem_1("unsampled_logits_rest",
        f"Under {SYMMETRIC_NAMES} a gradient step of size eta moves the logits of "
        "unsampled trajectories, in one softmax over trajectories, by less than 1e-12 "
        "eta.",
        tests="unsampled", estimate=largest(SYMMETRICALLY, "unsampled", UNSAMPLED)),
    Claim("suppressing_positives_raises_unsampled",
        f"Under {SUPPRESSED}, which weaken correct rollouts, a gradient step of size "
        "eta raises the logit of every unsampled trajectory, in one softmax over all, "
        "by more than 1e-6 eta.",
        paper=AGRAE, place="theorem 1", tests="suppression", kind="identity",
        above=1e-6, unit="eta",
        estimate=MOTION.where(method=SUPPRESSING).least(
            named("least_unsampled", "change of an unsampled logit / eta")),
        reason="The change is -C pi eta, where C, the sum of all advantages, is below "
        "0; a change of 1e-6 eta is far above rounding."),
    # --- where theorem 1 stops
    moves("probabilities_move_all_the_same",
        "With one softmax over trajectories, in every draw of policy and group, a "
        "gradient step of GRPO of size eta changes the log-probability of some "
        "unsampled trajectory by more than 0.001 eta, although its logit stays.",
        place=ONE, above=1e-3,
        estimate=MOTION.where(method="grpo").least(
            named("unsampled_log_probability",
                  "largest |change of log pi| / eta over the unsampled trajectories")),
        reason="The change is minus the sum of A pi over the rollouts, which is 0 by "
        "chance only; a thousandth is far above rounding."),
    limit("probabilities_move_by_formula",
        "A gradient step of size eta with advantages A of sum C changes the "
        "log-probability of an unsampled trajectory u, in one softmax pi over "
        "trajectories, by -eta (C (pi_u - sum of pi^2) + sum of A pi over the "
        "rollouts), to 1e-12 eta.",
        place=ONE, estimate=largest(
            MOTION, "limit_1_error",
            "error of the change of log pi / eta of an unsampled trajectory")),
    limit("root_of_a_tree_rests",
        f"{TREES}, a gradient step of size eta under {SYMMETRIC_NAMES} moves the "
        "logits of unsampled first tokens by less than 1e-12 eta.",
        place=TWO,
        estimate=largest(TREE.where(method=SYMMETRIC), "root",
                         "|change of the logit| / eta of an unsampled first token")),
    moves("deeper_tokens_move",
        f"{TREES}, a gradient step of GRPO of size eta moves the logit of some "
        "unsampled token after the first by more than 0.1 eta, in the mean over "
        "seeds.",
        place=TWO, kind="effect", above=0.1,
        estimate=TREE.where(method="grpo").mean(
            named("deeper", "the largest |change of the logit| / eta of an unsampled "
                  "token after the first")),
        reason="A tenth of the motion that an advantage of 1 can give is far above "
        "rounding; a prototype had up to 2 eta."),
    moves("lengths_break_the_symmetry",
        "With advantages divided by the length of each trajectory, a gradient step of "
        "GRPO of size eta moves the logit of some unsampled trajectory, in one softmax "
        "over all, by more than 0.001 eta, in the mean over seeds.",
        place=THREE, kind="effect", above=1e-3,
        estimate=MOTION.where(method="grpo").mean(
            named("unsampled_by_length", f"the largest {UNSAMPLED}")),
        reason="Lengths differ up to tenfold, so the advantages no longer sum to 0; a "
        "thousandth is far above rounding."),
    limit("equal_lengths_keep_it",
        "With advantages divided by the lengths of equally long trajectories, "
        f"a gradient step of size eta under {SYMMETRIC_NAMES} moves the logits of "
        "unsampled trajectories by less than 1e-12 eta.",
        origin="control", place=THREE,
        estimate=largest(SYMMETRICALLY, "unsampled_by_one_length", UNSAMPLED)),
    # --- the size of updates
    identity("theorem_2",
        "Under GRPO the advantages A of a group of G rollouts with success rate p, "
        "neither 0 nor 1, have sum |A| = 2 G sqrt(p (1 - p)), to a relative 1e-12, for "
        "G from 2 to 512.",
        place="theorem 2", tests="medium",
        estimate=SIZE.where(method="grpo").worst(off_form),
        reason=f"{ROUNDING}, relative to the largest sum."),
    identity("peak_at_one_half",
        "Under GRPO the sum of |A|, the sizes of the advantages of a group, is largest "
        "at the success rate 1/2, for groups of 2 to 512 rollouts.",
        place="theorem 2", tests="medium",
        estimate=SIZE.where(method="grpo").worst(off_half),
        reason="All sizes of groups are even, so 1/2 is among the success rates, and "
        "the rate with the largest sum is exactly 1/2 or another one."),
    *family("{method}_closed_form",
        "Under {method}, to a relative 1e-12, in a group of G rollouts with success "
        "rate p, neither 0 nor 1, for G from 2 to 512.",
        lambda method: SIZE.where(method=method).worst(off_form),
        method={"hard": "Hard (GRPO's advantages over 2 sqrt(p)) the advantages A have "
                "sum |A| = G sqrt(1 - p)",
                "easy": "Easy (GRPO's advantages over 2 sqrt(1 - p)) the advantages A "
                "have sum |A| = G sqrt(p)"},
        paper=AGRAE, place="experiment II", kind="identity", below=1e-12,
        reason=f"{ROUNDING}."),
    identity("expectation_identity",
        "Under every estimator the expected gradient step of size eta is eta W (E_pos "
        "- E_neg), to a relative 1e-12, with E_pos and E_neg the mean gradients of log "
        "pi over right and wrong trajectories: only the size W depends on the "
        "estimator.",
        origin="ours", place="the expectation of the update",
        estimate=largest(MOTION, "expectation_error",
                         "relative error of the expected step"),
        reason=f"{ROUNDING} in a mean over 4096 groups, relative to the largest step "
        "or to 1."),
    Claim("hidden_focus_of_large_groups",
        "With GRPO's advantages of correct rollouts multiplied by s = 0.1, 1 or 10, "
        "the expected update of a prompt with success rate p from 0.1 to 0.9 has the "
        "size W = G sqrt(p(1-p)) [s(1-p) + p], to 1 %, for G = 512 rollouts.",
        place="the expectation of the update", kind="equivalence", below=0.01,
        unit="of W",
        estimate=where(largest_groups, study="size", method=SCALES).worst(off_limit),
        reason="With k right rollouts of G the mean of sqrt(k/G (1-k/G)) is below "
        "sqrt(p(1-p)) by a relative 1/(8 G p(1-p)), which is 0.3 % at G = 512 and p = "
        "0.1."),
    Claim("sums_by_hand",
        "For 1 to 7 correct rollouts of 8, the sum of absolute advantages of A-GRAE, "
        "by the paper's formula and by that of the authors' code with the population's "
        "standard deviation, is within 0.006 of the sum worked out by hand.",
        origin="oracle", kind="identity", estimate=off_hand, below=0.006,
        place="by hand from the formulas",
        reason="The sums were written down with two decimals, so they are off by up to "
        "0.005."),
]  # fmt: skip
