"""What the theorems on advantage symmetry say, exactly, and where they stop.

Reference: "Unveiling Implicit Advantage Symmetry" (A-GRAE, arXiv 2602.05548), theorems
1 and 2 and figures 1 and 6. The limits, the expectation and the comparison with the
authors' code are ours. Studies:

  size    sum |A| of a group by its number of correct rollouts, for every estimator,
          with the 2G sqrt(p(1-p)) of theorem 2; and W of E[dh] = eta W (E_pos -
          E_neg), what an estimator makes of a prompt on average
  motion  one softmax over 40 trajectories, 8 sampled: motion of the logits by autograd
          against theorem 1, with the limit (i): logits of unsampled trajectories rest
          where sum A = 0, their probabilities do not; the same with 1/length weights,
          (iii); and both sides of the expectation over all 4^6 groups
  tree    one softmax per prefix, 4 tokens and 3 places, (ii): unsampled tokens rest at
          the root alone, as the rollouts that pass a prefix have no symmetry of theirs

Groups are mixed, rewards 0 and 1, omega = .5 is held fixed. Everything is float64 and
exact but for rounding; seeds are random logits, rewards and samples.
Expected: identities to 1e-12; beyond the root unsampled tokens move by about 1.
Cost on one core: smoke 2 s, quick 5 s, paper 20 s.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from symlab.harness import Claim, figure, grid, plot, rng, stats

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
    """'size': of groups; 'motion': of one softmax; 'tree': of a softmax per prefix."""
    method: str = "grpo"
    """Of symlab.rlvr.advantages."""
    group: int = 8
    """Rollouts of a group."""
    seed: int = 0
    """Logits, rewards and samples; 'size' is not random."""


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
    """Sizes by the number of correct rollouts; W on the grid of success rates."""
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
    """A sampled group (G,) that has correct and wrong ones."""
    while True:
        found = draws.choice(len(probability), group, p=probability)
        if 0 < correct[found].sum() < group:
            return found


def _motion(c: Config) -> dict:
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
    """Of E[dh] = eta W (E_pos - E_neg), relative to the largest motion."""
    from symlab.rlvr import theory

    pi = draws.dirichlet(np.ones(SMALL))
    correct = np.arange(SMALL) % 2
    left, right = theory.expected_motion(
        pi, correct, SMALL_GROUP, c.method, omega=OMEGA
    )
    return float(abs(left - right).max() / max(1.0, abs(right).max()))


def _tree(c: Config) -> dict:
    """Largest motion of tokens not sampled, at prefixes that were, by place."""
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
    """log pi of all trajectories, (BRANCHES ** PLACES,), last token fastest."""
    import torch

    found = torch.zeros(1, 1, dtype=torch.float64)
    for h in logits:
        found = (found.reshape(-1, 1) + torch.log_softmax(h, 1)).reshape(1, -1)
    return found[0]


STUDIES = {"size": _size, "motion": _motion, "tree": _tree}


# --- table and figure ----------------------------------------------------------------

LOOK = {  # color, marker, line
    "grpo": (plot.BLACK, "o", "-"),
    "dr_grpo": (plot.GREEN, "s", "-"),
    "positive_dominant": (plot.ORANGE, "^", "-"),
    "negative_dominant": (plot.BLUE, "v", "-"),
    "hard": (plot.ORANGE, "D", "-"),
    "easy": (plot.BLUE, "P", "-"),
    "ddas": (plot.GREEN, "s", "-"),
    "ass": ("#E69F00", "X", "-"),
    "agrae": (plot.PINK, "o", "-"),
    "agrae_released": ("#888888", "X", "-"),
    "w_reinforce": (plot.GREEN, "o", "-"),
    "psr": (plot.ORANGE, "^", "-"),
    "nsr": (plot.BLUE, "v", "-"),
}
NAMES = {
    "grpo": "GRPO, DAPO",
    "dr_grpo": "Dr.GRPO",
    "positive_dominant": "PD, $\\beta=10$",
    "negative_dominant": "ND, $\\beta=10$",
    "hard": "Hard",
    "easy": "Easy",
    "ddas": "DDAS",
    "ass": "ASS",
    "agrae": "A-GRAE",
    "agrae_released": "as released",
    "w_reinforce": "W-REINFORCE",
    "psr": "PSR",
    "nsr": "NSR",
}


def table(df):
    """sum |A|, G = 8, omega = .5: the paper's A-GRAE and what its code computes."""
    import pandas as pd

    from symlab.rlvr.theory import update_size

    k = range(1, 8)
    paper = update_size("agrae", 8, omega=OMEGA)[1:8]
    code = update_size("agrae_released", 8, omega=OMEGA, std="population")[1:8]
    own = update_size("agrae_released", 8, omega=OMEGA)[1:8]
    return pd.DataFrame(
        {
            "correct of 8": list(k),
            "GRPO": [f"{x:.2f}" for x in update_size("grpo", 8)[1:8]],
            "A-GRAE, paper": [f"{x:.2f}" for x in paper],
            "A-GRAE, released code": [f"{x:.2f}" for x in code],
            "ratio": [f"{x:.2f}" for x in code / paper],
            "released code with its own std": [f"{x:.2f}" for x in own],
        }
    )


def _of(df, method: str, group: int = 8):
    return df[(df.method == method) & (df.study == "size") & (df.group == group)].iloc[
        0
    ]


def _sizes(df, ax, methods, scale: str = "linear"):
    for m in methods:
        row, (color, marker, line) = _of(df, m), LOOK[m]
        ax.plot(row.rate, row["size"], line, color=color, marker=marker, label=NAMES[m])
    p = np.linspace(0.01, 0.99, 99)
    plot.theory(ax, p, 16 * np.sqrt(p * (1 - p)), label="$2G\\sqrt{p(1-p)}$")
    ax.set(xlabel="success rate of the group $p$", yscale=scale, xlim=(0, 1))
    ax.set_ylabel("update size $\\sum|A|$, $G=8$")
    ax.legend(loc="upper left", ncol=2, columnspacing=0.8, borderaxespad=0.1)


@figure("agrae1", panel="left")
def draw_sizes(df, ax):
    methods = ("grpo", "dr_grpo", "positive_dominant", "negative_dominant")
    _sizes(df, ax, methods, "log")
    ax.set_ylim(1, 250)


@figure("agrae1", panel="mid")
def draw_refocused(df, ax):
    _sizes(df, ax, ("hard", "easy", "ddas", "ass", "agrae", "agrae_released"))
    ax.set_ylim(0, 24)


@figure("agrae1", panel="right")
def draw_uncoupled(df, ax):
    _sizes(df, ax, ("w_reinforce", "psr", "nsr"))
    ax.set_ylim(0, 11.5)


@figure("agrae1", panel="left", row=1)
def draw_tree(df, ax):
    import pandas as pd

    df = df[df.study == "tree"]
    for m in ("grpo", "negative_dominant", "agrae"):
        part = df[df.method == m]
        rows = [(d + 1, x) for b in part.by_place for d, x in enumerate(b)]
        frame = pd.DataFrame(rows, columns=["place", "motion"])
        color, marker, _ = LOOK[m]
        plot.curve(
            ax, frame, "place", "motion", label=NAMES[m], color=color, marker=marker
        )
    ring = {"marker": "o", "ms": 8, "mfc": "none", "linestyle": "none"}
    plot.theory(ax, [1], [0], label="theorem 1", **ring)
    ax.set(xlabel="place of the token", xticks=range(1, PLACES + 1))
    ax.set(ylabel="largest $|dh|/\\eta$ of unsampled", ylim=(-0.05, 1.3))
    ax.legend(loc="upper left")


def _weights(df, ax, methods, scales=None):
    base = _of(df, "grpo").weight
    for m in methods:
        color, marker, line = LOOK[m]
        ratio = _of(df, m).weight / base
        ax.plot(
            GRID, ratio, line, color=color, marker=marker, markevery=6, label=NAMES[m]
        )
    for i, s in enumerate(scales or ()):
        plot.theory(ax, GRID, s * (1 - GRID) + GRID, label="" if i else "$s(1-p)+p$")
    ax.axhline(1, color="0.6", lw=0.7, zorder=0)
    ax.set(xlabel="success rate of the policy $p$", yscale="log", xlim=(0, 1))
    ax.set_ylabel("expected update over GRPO's")


@figure("agrae1", panel="mid", row=1)
def draw_hidden_focus(df, ax):
    _weights(df, ax, ("positive_dominant", "negative_dominant"), (10, 0.1))
    ax.set_ylim(0.08, 60)
    ax.legend(loc="upper right", borderaxespad=0.1)


@figure("agrae1", panel="right", row=1)
def draw_focus(df, ax):
    _weights(df, ax, ("hard", "easy", "ddas", "agrae", "agrae_released"))
    ax.set_ylim(0.4, 9)
    ax.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    ax.minorticks_off()
    ax.legend(loc="upper left", ncol=2, columnspacing=0.8, borderaxespad=0.1)


# --- claims --------------------------------------------------------------------------


def _worst(column: str, methods=METHODS, study: str = "motion", largest: bool = True):
    def estimate(df):
        rows = df[(df.study == study) & df.method.isin(methods)]
        return stats.worst(rows[column], largest)

    return estimate


def _closed_form(df, method: str, form):
    """The largest difference of sum |A| from a closed form in (p, G), over G."""
    rows = df[(df.study == "size") & (df.method == method)]
    gaps = [
        abs(np.asarray(r["size"]) - form(np.asarray(r.rate), r.group)).max()
        / max(np.asarray(r["size"]).max(), 1.0)
        for _, r in rows.iterrows()
    ]
    return stats.worst(gaps)


def _peak(df):
    """How far from 1/2 the update of GRPO is largest."""
    rows = df[(df.study == "size") & (df.method == "grpo")]
    return stats.worst(
        [abs(r.rate[int(np.argmax(r["size"]))] - 0.5) for _, r in rows.iterrows()]
    )


def _large_group(df):
    """Of W from its form for large groups, relative, at the largest group."""
    from symlab.rlvr.theory import large_group_weight

    g, gaps = df.group.max(), []
    inside = (GRID > 0.1) & (GRID < 0.9)
    scales = {"grpo": 1.0, "positive_dominant": 10.0, "negative_dominant": 0.1}
    for m, s in scales.items():
        form = large_group_weight(GRID, g, s)
        gaps.append(np.abs(np.asarray(_of(df, m, g).weight) / form - 1)[inside].max())
    return stats.worst(gaps)


def _printed(df):
    """The largest difference from the sums worked out by hand."""
    from symlab.rlvr.theory import update_size

    gaps = []
    for m, expected in PRINTED.items():
        options = {"std": "population"}
        found = update_size(m, 8, omega=OMEGA, **options)[1:8]
        gaps.append(np.abs(found - expected).max())
    return stats.worst(gaps)


PAPER, OURS = "arXiv 2602.05548", "ours"
ROUNDING = "an identity: rounding of float64"
CLAIMS = [
    Claim(
        "group_symmetry",
        "sum A = 0 in every group under GRPO, DAPO, Dr.GRPO, Hard, Easy and DDAS.",
        PAPER,
        _worst("largest_sum", SYMMETRIC, "size"),
        below=1e-12,
        reason=ROUNDING + ", per rollout",
    ),
    Claim(
        "symmetry_is_broken",
        "It is not 0 in any mixed group of 8 or fewer under the estimators that "
        "suppress positives, nor under Positive-Dominant.",
        PAPER,
        lambda df: _worst(
            "least_sum", (*SUPPRESSING, "positive_dominant"), "size", False
        )(df[df.group <= 8]),
        above=1e-2,
        reason="a hundredth of an advantage per rollout is no rounding",
    ),
    Claim(
        "theorem_1",
        "dh_i = eta (I(i in G) A_i - C pi_i) is the gradient that autograd finds.",
        PAPER + ", theorem 1",
        _worst("theorem_1_error"),
        below=1e-12,
        reason=ROUNDING,
    ),
    Claim(
        "unsampled_logits_rest",
        "Under symmetric estimators logits of unsampled trajectories do not move.",
        PAPER + ", theorem 1",
        _worst("unsampled", SYMMETRIC),
        below=1e-12,
        reason=ROUNDING,
    ),
    Claim(
        "suppressing_positives_raises_unsampled",
        "Where positives are suppressed every unsampled logit rises.",
        PAPER + ", theorem 1",
        _worst("least_unsampled", SUPPRESSING, largest=False),
        above=1e-6,
        reason="-C pi: above 0 by more than rounding",
    ),
    Claim(
        "probabilities_move_all_the_same",
        "(i) Resting logits are not resting probabilities: GRPO changes log pi of "
        "unsampled trajectories.",
        OURS,
        _worst("unsampled_log_probability", ("grpo",), largest=False),
        above=1e-3,
        reason="in every draw, by more than rounding: sum A_k pi_k is 0 by chance only",
    ),
    Claim(
        "probabilities_move_by_formula",
        "(i) dlog pi_u = -eta (C (pi_u - sum pi^2) + sum_G A_k pi_k), unsampled.",
        OURS,
        _worst("limit_1_error"),
        below=1e-12,
        reason=ROUNDING,
    ),
    Claim(
        "root_of_a_tree_rests",
        "(ii) With a softmax per prefix unsampled tokens rest at the root.",
        OURS,
        _worst("root", SYMMETRIC, "tree"),
        below=1e-12,
        reason=ROUNDING,
    ),
    Claim(
        "deeper_tokens_move",
        "(ii) Deeper they move under GRPO, too.",
        OURS,
        lambda df: stats.mean(df[(df.study == "tree") & (df.method == "grpo")].deeper),
        above=0.1,
        reason="a tenth of an advantage; a prototype had up to 2",
    ),
    Claim(
        "lengths_break_the_symmetry",
        "(iii) With 1/length weights unsampled logits move under GRPO.",
        OURS,
        lambda df: stats.mean(
            df[(df.study == "motion") & (df.method == "grpo")].unsampled_by_length
        ),
        above=1e-3,
        reason="more than rounding: weights differ tenfold",
    ),
    Claim(
        "equal_lengths_keep_it",
        "(iii) With one length they rest.",
        OURS,
        _worst("unsampled_by_one_length", SYMMETRIC),
        below=1e-12,
        reason=ROUNDING,
    ),
    Claim(
        "theorem_2",
        "sum |A| = 2 G sqrt(p (1 - p)) for groups of 2 to 512.",
        PAPER + ", theorem 2",
        partial(
            _closed_form,
            method="grpo",
            form=lambda p, g: 2 * g * np.sqrt(p * (1 - p)),
        ),
        below=1e-12,
        reason=ROUNDING + ", relative to the largest",
    ),
    Claim(
        "peak_at_one_half",
        "It is largest at p = 1/2.",
        PAPER + ", theorem 2",
        _peak,
        below=1e-12,
        reason="groups are even, so 1/2 is among their rates",
    ),
    Claim(
        "hard_closed_form",
        "Hard has sum |A| = G sqrt(1 - p).",
        PAPER + ", experiment II",
        partial(_closed_form, method="hard", form=lambda p, g: g * np.sqrt(1 - p)),
        below=1e-12,
        reason=ROUNDING,
    ),
    Claim(
        "easy_closed_form",
        "Easy has sum |A| = G sqrt(p).",
        PAPER + ", experiment II",
        partial(_closed_form, method="easy", form=lambda p, g: g * np.sqrt(p)),
        below=1e-12,
        reason=ROUNDING,
    ),
    Claim(
        "expectation_identity",
        "E[dh] = eta W (E_pos - E_neg) for every estimator: on average it changes the "
        "size of a prompt's update, not its direction.",
        OURS,
        _worst("expectation_error"),
        below=1e-12,
        reason=ROUNDING + " over 4096 groups, relative to the largest motion or 1",
    ),
    Claim(
        "hidden_focus_of_large_groups",
        "W = G sqrt(p(1-p)) [s(1-p) + p] for positives times s and large groups.",
        OURS,
        _large_group,
        below=0.01,
        reason="E sqrt(k/G (1-k/G)) is below sqrt(p(1-p)) by 1/(8 G p(1-p)), relative: "
        ".3 % at G = 512 and p = .1",
    ),
    Claim(
        "sums_by_hand",
        "A-GRAE and what its code computes have the sums |A| worked out by hand.",
        OURS,
        _printed,
        below=0.006,
        reason="they were written down with two decimals",
    ),
]
