"""How many weights get the wrong kind of update, for SymOpt and for name filters.

    python benchmarks/routing_table.py [docs/symmetry-compatible-optimizers.md]

For each architecture of tests/architectures.py, whose truth was read in its code, and
for each tensor of two or more axes: does an optimizer give it a matrix update (one that
orthogonalises it) or a vector's (AdamW, or a row norm)?

missed        a hidden matrix, convolution or stack of experts that gets a vector's
misused       a matrix update for what is none: embeddings, positions, heads (those of
              classifiers, too), tables of biases, depthwise convolutions, class tokens
wrong         both; a router is right either way, as is a last projection like CLIP's
fused as one  several maps in one tensor (queries, keys and values; gate and up) that
              are orthogonalised as if they were one map; not counted as wrong
refused       given to Muon, but torch.optim.Muon raises for it, as it has not two axes

The filters by name, as they are found in public trainers:

2-D, no embed, no head    p.ndim == 2 and neither 'embed' nor 'head' in the name, the
                          usual filter for torch.optim.Muon
names of Moonlight        p.ndim >= 2 and neither 'embed_tokens' nor 'lm_head' in the
                          name, as in Moonlight's example (arXiv 2502.16982)
long list of names        p.ndim >= 2 and none of 'embed', 'wte', 'wpe', 'lm_head',
                          'norm', 'bias' in the name, the union of several lists
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from symlab.symopt import describe  # noqa: E402
from tests.architectures import ARCHITECTURES, Architecture, Truth  # noqa: E402

VECTOR_RULES = ("adamw", "row_norm", "centred_row_norm", "paired_row_norm", "sign")
VECTOR_RULES += ("bias_rms",)
MATRIX, PIECES, VECTOR = "matrix", "matrix in pieces", "vector"
START, END = "<!-- routing -->", "<!-- end routing -->"
REFUSED = "matrix, which Muon refuses"


# --- routers: model -> {name: which update each parameter of two or more axes gets} --


def symopt(model: nn.Module, preset: str) -> dict[str, str]:
    table = describe(model, preset=preset)
    table = table[table["shape"].map(len) > 1]
    return {r.name: _update(r.rule) for r in table.itertuples(index=False)}


def _update(rule: str) -> str:
    """Of a rule as `describe` writes it, e.g. 'spectral (per head)'."""
    if rule.split(" ")[0] in VECTOR_RULES:
        return VECTOR
    return PIECES if "per " in rule else MATRIX


def muon(model: nn.Module, excluded: tuple[str, ...], axes: tuple[int, int]) -> dict:
    """A filter by the number of axes and by parts of names."""
    found = {}
    for name, p in model.named_parameters():
        if p.ndim < 2:
            continue
        fits = axes[0] <= p.ndim <= axes[1] and not any(k in name for k in excluded)
        matrix = MATRIX if p.ndim == 2 else REFUSED
        found[name] = matrix if fits else VECTOR
    return found


LONG = ("embed", "wte", "wpe", "lm_head", "norm", "bias")
ROUTERS: dict[str, Callable[[nn.Module], dict[str, str]]] = {
    "SymOpt": partial(symopt, preset="symmetric"),
    "SymOpt, preset muon": partial(symopt, preset="muon"),
    "Muon, 2-D, no embed, no head": partial(
        muon, excluded=("embed", "head"), axes=(2, 2)
    ),
    "Muon, names of Moonlight": partial(
        muon, excluded=("embed_tokens", "lm_head"), axes=(2, 5)
    ),
    "Muon, long list of names": partial(muon, excluded=LONG, axes=(2, 5)),
}


# --- counts --------------------------------------------------------------------------


def count(model: nn.Module, truths: dict[str, Truth], routes: dict[str, str]) -> dict:
    """How many tensors of two or more axes go which way, judged by the truth."""
    names = [n for n, p in model.named_parameters() if p.ndim > 1]
    right = {n: truths[n].update for n in names}
    vector = {n for n in names if routes[n] == VECTOR}
    missed = sum(right[n] == "matrix" for n in vector)
    misused = sum(right[n] == "vector" for n in names if n not in vector)
    whole = [n for n in names if routes[n] in (MATRIX, REFUSED)]
    return {
        "tensors": len(names),
        "missed": missed,
        "misused": misused,
        "wrong": missed + misused,
        "fused as one": sum(truths[n].parts > 1 for n in whole),
        "refused": sum(routes[n] == REFUSED for n in names),
    }


def table(architectures: dict[str, Architecture] = ARCHITECTURES) -> pd.DataFrame:
    """One row per architecture and optimizer, and for each optimizer a total."""
    rows = []
    for name, architecture in architectures.items():
        model = architecture.build()
        truths = architecture.truths(model)
        for optimizer, routes in ROUTERS.items():
            known = {"architecture": name, "optimizer": optimizer}
            rows.append(known | count(model, truths, routes(model)))
    found = pd.DataFrame(rows)
    total = found.drop(columns="architecture").groupby("optimizer", sort=False).sum()
    total = total.reset_index().assign(architecture="total")
    return pd.concat([found, total], ignore_index=True)[list(found)]


def markdown(found: pd.DataFrame) -> str:
    """One line per architecture: 'wrong (missed + misused), fused as one, refused'."""
    optimizers = list(found.optimizer.unique())
    lines = [["architecture", "tensors", *optimizers], ["---", "--:"]]
    lines[1] += ["---"] * len(optimizers)
    for name, part in found.groupby("architecture", sort=False):
        rows = part.set_index("optimizer").to_dict("index")
        cells = [_cell(rows[optimizer]) for optimizer in optimizers]
        lines.append([name, str(part.tensors.iloc[0]), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(row: dict) -> str:
    words = [f"{row['wrong']} wrong"]
    if row["missed"] and row["misused"]:
        words[0] += f" ({row['missed']} missed, {row['misused']} misused)"
    elif row["wrong"]:
        words[0] += " (missed)" if row["missed"] else " (misused)"
    words += [f"{row[k]} {k}" for k in ("fused as one", "refused") if row[k]]
    return ", ".join(words)


def written(text: str, shown: str) -> str:
    """The text with `shown` between its marks for this table."""
    start, end = text.index(START) + len(START), text.index(END)
    return f"{text[:start]}\n{shown}\n{text[end:]}"


def main(page: str = "") -> pd.DataFrame:
    """Print the table; page: a Markdown file that is to show it, too."""
    found = table()
    print(markdown(found))
    if page:
        path = Path(page)
        path.write_text(written(path.read_text(), markdown(found)))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
