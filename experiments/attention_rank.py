"""Rotation symmetry makes attention low-rank: decay lowers the rank of W_Q^T W_K.

Reference: Liu Ziyin, "Symmetry Induces Structure and Constraint of Learning", ICML 2024
(arXiv 2309.16932): rotation symmetry leads to low rank. Figure 8 belongs to its
appendix, which was not available to us: content, model and settings are ours. That
weight decay lowers the rank of attention is known from Kobayashi et al., "Weight decay
induces low-rank attention layers", NeurIPS 2024.

The loss sees a head through W_Q^T W_K and W_O W_V alone, so rotating its hidden index
(of size d_head) changes nothing. The least of (wd/2)(|Q|^2 + |K|^2) under Q^T K = M is
wd times the nuclear norm of M, which sets singular values to zero. A small decoder
learns characters of a real text; decay acts on its attention matrices alone, equal for
three models:

  factored     W_Q, W_K, W_V, W_O are trained, and decay pulls them to zero
  offset       the same at theta + theta_0, decay on theta: a pull towards theta_0. The
               rotations act on all columns of (theta_0Q, theta_0K), so only R = I keeps
               them. (syre's warning that an offset alone cannot remove rotations is
               about rotations that do keep it.) theta_0 is the initialisation: a small
               one would leave a pull to almost zero. Without decay nothing is removed.
  unfactored   the products are trained, with Frobenius decay on them: same functions at
               the start, no hidden index, no nuclear norm. The cleanest control: it,
               too, is pulled to zero.

Study sgd has decay in the loss, for which the above is exact; adamw has it decoupled,
as in practice. Rank counts singular values above 1e-2 of the layer's largest over all
heads (a dead head has rank 0); 1e-3 and the entropy's effective rank are reported, too.
Decay needs a total exponent D of about 10 to show (column total_decay: 14 at .008).

Expected: ranks of 16 without decay fall below 4 at decay .008, at the cost of some .3
nats; with the symmetry removed they stay and half of that is lost. Equal decays are not
equal penalties: a nuclear norm in one model, a squared one in the others. Results vary
with the text; rows hold its hash. weight_decay is PyTorch's (wd/2)*|theta|^2, half of
the paper's gamma. Only four seeds at quick scale, as each run trains a transformer.
Thresholds were written after one run of seed 0, before the sweep.
Cost on one core: smoke 5 s, quick 7 min, paper (two layers, tinyshakespeare) 6 h.
"""

import math
from dataclasses import dataclass

import numpy as np

from symlab.harness import Claim, figure, grid, plot, rng, stats

LANES = 1  # a step is matrix products that fill a core: vmap was measured, no faster
RANK, STRICT = 1e-2, 1e-3  # of the layer's largest singular value
DECAYS = (0.001, 0.002, 0.004, 0.008)
ADAM_DECAYS = (0.0, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class Config:
    study: str = "sgd"
    """'sgd': decay is part of the loss; 'adamw': decoupled, as practice has it."""
    model: str = "factored"
    """'factored', 'offset' (decay towards theta_0) or 'unfactored' (the products)."""
    weight_decay: float = 0.0
    """PyTorch's, on attention matrices alone: adds (weight_decay/2)*|theta|^2."""
    lr: float = 0.2
    """Peak learning rate."""
    momentum: float = 0.9
    """Heavy-ball momentum, or AdamW's first beta (the second is .99)."""
    steps: int = 1200
    """Optimizer steps."""
    batch: int = 8
    """Sequences per step."""
    context: int = 32
    """Characters per sequence."""
    layers: int = 1
    """Layers."""
    d_model: int = 64
    """Width of the residual stream."""
    heads: int = 4
    """Attention heads per layer."""
    d_head: int = 16
    """Size of the hidden index that is rotated; the full rank of factored products."""
    data: str = "mpmath"
    """'mpmath' or 'tinyshakespeare'."""
    seed: int = 0
    """Initialisation, which is theta_0, and batches; shared by all arms."""


def sweep(scale: str) -> list[Config]:
    size = {
        "smoke": {"steps": 40, "context": 16, "d_model": 16, "d_head": 4},
        "quick": {},
        "paper": {
            "data": "tinyshakespeare",
            "layers": 2,
            "context": 64,
            "batch": 16,
            "steps": 6000,
        },
    }[scale]
    seeds = range({"smoke": 2, "quick": 4, "paper": 8}[scale])
    common = size | {"seed": seeds}
    adam = {"study": "adamw", "lr": 0.01, "weight_decay": ADAM_DECAYS}
    return [
        *grid(Config, model="factored", weight_decay=(0.0, *DECAYS), **common),
        *grid(Config, model="offset", weight_decay=DECAYS, **common),
        *grid(Config, model="unfactored", weight_decay=(0.0, *DECAYS), **common),
        *grid(Config, **adam, **common),
    ]


def run(configs: list[Config]) -> list[dict]:
    return [_one(c) for c in configs]


# --- training ------------------------------------------------------------------------


def _one(c: Config) -> dict:
    from symlab.data import characters

    text = characters.load(c.data)
    model = build(c, len(text.vocabulary))
    diverged_at = _train(c, model, text.train)
    row = {
        "corpus_hash": text.digest,
        "unigram_loss": text.unigram_loss(),
        "bigram_loss": text.bigram_loss(),
        "total_decay": total_decay(c),
        "diverged_at": diverged_at,
    }
    return row | _validation(c, model, text.validation) | _measures(c, model)


def build(c: Config, vocabulary: int):
    """The transformer; with 'offset', its attention is theta + theta_0, theta = 0."""
    from torch.nn.utils import parametrize

    from symlab.mirror.syre import Offset
    from symlab.models.small_transformer import SmallTransformer

    model = SmallTransformer(
        vocabulary,
        c.context,
        c.d_model,
        c.heads,
        c.d_head,
        c.layers,
        factored=c.model != "unfactored",
        seed=rng.integer(c.seed, "init"),
    )
    if c.model == "offset":
        for block in model.blocks:
            for name, p in list(block.attention.named_parameters()):
                offset = Offset(p.detach().clone())
                parametrize.register_parametrization(block.attention, name, offset)
    return model


def schedule(c: Config, step: int) -> float:
    """Learning rate: 5 % warm-up, constant, over the last half linear to zero."""
    done = step / c.steps
    return c.lr * min(1.0, (step + 1) / (0.05 * c.steps), 2 * (1 - done))


def total_decay(c: Config) -> float:
    """D: to first order in lr, decay alone shrinks a weight by exp(-D) over the run."""
    gain = 1 / (1 - c.momentum) if c.study == "sgd" else 1.0
    return gain * c.weight_decay * sum(schedule(c, t) for t in range(c.steps))


def _train(c: Config, model, text) -> int:
    """Minibatch training; the step of divergence, or -1."""
    import torch

    optimizer, draws = _optimizer(c, model), rng.stream(c.seed, "batches")
    window = torch.arange(c.context + 1)
    for step in range(c.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule(c, step)
        begin = draws.integers(0, len(text) - c.context, size=(c.batch, 1))
        loss = _loss(model, text[torch.from_numpy(begin) + window])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0 and not math.isfinite(loss.item()):
            return step
    return -1 if math.isfinite(loss.item()) else c.steps


def _optimizer(c: Config, model):
    import torch

    attention = model.attention()
    ours = {id(p) for p in attention}
    rest = [p for p in model.parameters() if id(p) not in ours]
    groups = [
        {"params": attention, "weight_decay": c.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    if c.study == "sgd":
        return torch.optim.SGD(groups, lr=c.lr, momentum=c.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=c.lr, betas=(c.momentum, 0.99), fused=True)


def _loss(model, sequences):
    """Mean cross-entropy of sequences (B, T+1), nats per character."""
    from torch.nn.functional import cross_entropy

    logits = model(sequences[:, :-1])
    return cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten())


# --- measurement ---------------------------------------------------------------------


def _validation(c: Config, model, text) -> dict:
    import torch

    whole = text[: len(text) // (c.context + 1) * (c.context + 1)]
    with torch.no_grad():
        loss = _loss(model, whole.view(-1, c.context + 1))
    return {"validation_loss": float(loss)}


def _measures(c: Config, model) -> dict:
    """Ranks of the products, mean over heads, spectra, and the price of the factors."""
    out, spectra = {}, {"qk": [], "vo": []}
    for block in model.blocks:
        pairs = zip(spectra, block.attention.products(), strict=True)
        for name, product in pairs:
            found = product.detach().double().numpy()  # (H, D, D)
            finite = np.isfinite(found).all()
            s = np.linalg.svd(found, compute_uv=False) if finite else found[:, 0] * 0
            spectra[name].append(s)  # (H, D)
    for name, layers in spectra.items():
        out |= {f"{key}_{name}": v for key, v in ranks(np.stack(layers)).items()}
    if c.model != "unfactored":
        nuclear = sum(float(s.sum()) for s in spectra["qk"] + spectra["vo"])
        squares = sum(
            float(getattr(block.attention, name).detach().double().square().sum())
            for block in model.blocks
            for name in "qkvo"
        )
        out["price"] = squares / 2 / nuclear
    return out | {"full_rank": c.d_model if c.model == "unfactored" else c.d_head}


def ranks(s: np.ndarray) -> dict:
    """Of singular values s (layers, H, D), each row falling.

    rank: how many exceed RANK times the layer's largest, over all heads, so that a dead
    head counts as zero; mean over heads and layers. effective: the exponential of the
    entropy of s/sum(s) (Roy and Vetterli 2007). spectrum: of the strongest head.
    """
    top = s.max((1, 2), keepdims=True)
    p = s / np.maximum(s.sum(-1, keepdims=True), 1e-300)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(-1)
    strongest = np.unravel_index(s[..., 0].argmax(), s.shape[:2])
    return {
        "rank": float((s > RANK * top).sum(-1).mean()),
        "rank_strict": float((s > STRICT * top).sum(-1).mean()),
        "effective": float(np.exp(entropy).mean()),
        "top": float(top.max()),
        "spectrum": s[strongest],
    }


# --- figure --------------------------------------------------------------------------

MODELS = {
    "factored": (plot.BLUE, "o", "factored"),
    "offset": (plot.ORANGE, "s", "decay towards $\\theta_0$"),
    "unfactored": (plot.GREEN, "^", "product trained"),
}
NO_DECAY = {"color": plot.BLACK, "marker": "D"}


def _sgd(df, model: str = ""):
    df = df[df.study == "sgd"]
    return df[df.model == model] if model else df


def _lines(df, ax, column: str):
    """One line for each model, in its colour and marker."""
    for model, (color, marker, label) in MODELS.items():
        rows = _sgd(df, model).dropna(subset=column)
        style = {"label": label, "color": color, "marker": marker}
        if len(rows):
            plot.curve(ax, rows, "weight_decay", column, **style)
    ax.set(xlabel="weight decay")


def _rank_panel(df, ax, product: str, symbol: str):
    df = df.assign(fraction=df[f"rank_{product}"] / df.full_rank)
    _lines(df, ax, "fraction")
    ax.set(ylabel=f"rank of {symbol} / full rank", ylim=(0, 1.05))


@figure("fig8", panel="left")
def draw_query_key(df, ax):
    _rank_panel(df, ax, "qk", "$W_Q^\\top W_K$")
    ax.legend(loc="center right", bbox_to_anchor=(1.0, 0.56))


@figure("fig8", panel="mid")
def draw_value_output(df, ax):
    _rank_panel(df, ax, "vo", "$W_O W_V$")


@figure("fig8", panel="right")
def draw_spectrum(df, ax):
    """Singular values of the strongest head; indices beyond 16 for the product."""
    shown = DECAYS[2]
    arms = [("factored", 0.0), *((model, shown) for model in MODELS)]
    for model, decay in arms:
        color, marker, label = MODELS[model]
        rows = _sgd(df, model)
        long = _exploded(rows[rows.weight_decay == decay])
        style = {"color": color, "marker": marker} if decay else NO_DECAY
        label = f"{label}, {decay:g}" if decay else f"{label}, no decay"
        plot.curve(ax, long, "index", "log", label=label, markevery=3, **style)
    ax.axhline(np.log10(RANK), color=plot.BLACK, linewidth=0.6, linestyle=":")
    ax.text(20, np.log10(RANK) - 0.15, "rank threshold", fontsize=6.5, va="top")
    ax.set(xlabel="index $i$", ylabel="$\\log_{10}\\, s_i/s_1$ of $W_Q^\\top W_K$")
    ax.set(ylim=(-6.2, 0.2))
    ax.legend(loc="lower right")


def _exploded(df):
    """One line per singular value, down to 1e-6 of the largest."""
    import pandas as pd

    frames = []
    for seed, full, s in zip(df.seed, df.full_rank, df.spectrum_qk, strict=True):
        s = np.asarray(s)[:full]
        log = np.log10(np.maximum(s / s[0], 1e-6))
        index = np.arange(1, full + 1)
        frames.append(pd.DataFrame({"seed": seed, "index": index, "log": log}))
    return pd.concat(frames)


@figure("fig8", panel="left", row=1)
def draw_adamw(df, ax):
    df = df[df.study == "adamw"]
    query_key = {"label": "$W_Q^\\top W_K$", "color": plot.BLUE, "marker": "o"}
    value_output = {"label": "$W_O W_V$", "color": plot.PINK, "marker": "v"}
    plot.curve(ax, df, "weight_decay", "rank_qk", **query_key)
    plot.curve(ax, df, "weight_decay", "rank_vo", **value_output)
    ax.set(xlabel="weight decay of AdamW", ylabel="rank", ylim=(0, 16.8))
    ax.set_yticks(range(0, 17, 4))
    ax.legend(loc="upper right")


@figure("fig8", panel="mid", row=1)
def draw_loss(df, ax):
    _lines(df, ax, "validation_loss")
    bigram = df.bigram_loss.mean()
    plot.theory(ax, [0, max(DECAYS)], [bigram, bigram], label="last character alone")
    ax.set(ylabel="validation loss (nats)")
    ax.legend(loc="upper left", bbox_to_anchor=(0.02, 0.93))


@figure("fig8", panel="right", row=1)
def draw_price(df, ax):
    _lines(df, ax, "price")
    plot.theory(ax, [0, max(DECAYS)], [1, 1], label="nuclear norm")
    ax.set(ylabel="$\\frac{1}{2}\\sum |W|^2$ / nuclear norms")
    ax.legend(loc="center right", bbox_to_anchor=(1.0, 0.42))


# --- claims --------------------------------------------------------------------------


def _fall(*products: str, study: str = "sgd"):
    """Paired loss of rank from no decay to the most: the least over both thresholds."""

    def estimate(df):
        rows = df[(df.study == study) & (df.model == "factored")]
        end = rows.weight_decay.max()
        falls = [
            stats.paired(rows, f"{rank}_{product}", "weight_decay", 0.0, end)
            for rank in ("rank", "rank_strict")
            for product in products
        ]
        return min(falls, key=lambda i: i.low)

    return estimate


def _least_step(df):
    """The smallest paired fall between neighbouring decays, over both products."""
    rows = _sgd(df, "factored")
    levels = sorted(d for d in rows.weight_decay.unique() if d > 0)
    falls = [
        stats.paired(rows, f"rank_{product}", "weight_decay", a, b)
        for a, b in zip(levels, levels[1:], strict=False)
        for product in ("qk", "vo")
    ]
    return min(falls, key=lambda i: i.low)


def _least_fraction(model: str):
    """The lowest rank of any run, as a fraction of the full one."""

    def estimate(df):
        rows = _sgd(df, model)
        both = rows[["rank_qk", "rank_vo"]].min(axis=1)
        return stats.worst(both / rows.full_rank, largest=False)

    return estimate


def _moderate_cost(df):
    return stats.paired(
        _sgd(df, "factored"), "validation_loss", "weight_decay", MODERATE, 0.0
    )


def _price(df):
    rows = _sgd(df, "factored")
    return stats.worst(rows.price[rows.weight_decay >= PRICED])


MODERATE = 0.002  # about half of the rank of W_Q^T W_K is gone
PRICED = 0.004  # D = 7: an imbalance of the factors has shrunk by exp(-14)
KOBAYASHI = "Kobayashi et al. 2024; rotation symmetry of Ziyin 2024"
CLAIMS = [
    Claim(
        "query_key_rank_falls",
        "Weight decay lowers the rank of W_Q^T W_K.",
        KOBAYASHI,
        _fall("qk"),
        above=8.0,
        reason="half of the full rank of 16, by either threshold",
    ),
    Claim(
        "value_output_rank_falls",
        "Weight decay lowers the rank of W_O W_V.",
        KOBAYASHI,
        _fall("vo"),
        above=8.0,
        reason="as above",
    ),
    Claim(
        "more_decay_less_rank",
        "Each doubling of the decay lowers both ranks.",
        KOBAYASHI,
        _least_step,
        above=0.0,
        reason="a fall is a fall",
    ),
    Claim(
        "offset_keeps_rank",
        "With decay towards theta_0 the rank is full at any decay.",
        "Ziyin 2024, figure 3 middle, inset, carried over to attention by us",
        _least_fraction("offset"),
        above=0.9,
        reason="every run, both products: within a tenth of full",
    ),
    Claim(
        "unfactored_keeps_rank",
        "The same decay on the products themselves leaves over half of their rank.",
        "ours",
        _least_fraction("unfactored"),
        above=0.5,
        reason="more than half of the 64 directions in every run, twice what a "
        "factored head can have at all; a spectrum falling as a power has its weakest "
        "below 1e-2",
    ),
    Claim(
        "decay_is_nuclear_norm",
        "Under decay the factors cost what the nuclear norm of the products costs.",
        "ours; least of (|Q|^2+|K|^2)/2 under Q^T K = M",
        _price,
        below=1.03,
        reason="it is 1 at a minimum and never less; noise of the batches unbalances "
        "the factors again, at the percent level at these rates",
    ),
    Claim(
        "adamw_rank_falls",
        "AdamW's decoupled decay lowers both ranks, too.",
        KOBAYASHI,
        _fall("qk", "vo", study="adamw"),
        above=8.0,
        reason="half of the full rank",
    ),
    Claim(
        "moderate_decay_is_cheap",
        f"Decay {MODERATE:g} costs little validation loss.",
        "ours",
        _moderate_cost,
        below=0.16,
        reason="a tenth of the 1.6 nats that a model gains over single frequencies; no "
        "gain is claimed, as nothing overfits in so few steps",
    ),
    Claim(
        "attention_is_used",
        "Every model predicts better than the last character alone allows.",
        "ours: otherwise low rank would only say that attention is idle",
        lambda df: stats.worst(df.validation_loss - df.bigram_loss),
        below=0.0,
        reason="better is better, in every run",
    ),
]
