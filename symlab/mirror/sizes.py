"""Determine the new values of a reduced module's attributes, such as its widths."""

from torch import nn

from symlab.mirror.heads import Block
from symlab.mirror.moves import Site
from symlab.mirror.surgery import HEADS, WIDTHS, Draft, Edits, ancestor


def edits(
    model: nn.Module,
    sites: dict[int, Site],
    blocks: list[Block],
    draft: Draft,
    eager: set[int],
) -> Edits:
    """Return the changes of attributes, such as widths, that a reduced model needs.

    model: the full model. sites: {number: hidden index}. blocks: the attention heads.
    draft: the tensors, in which the removed units are marked.
    eager: numbers of the indices (sets of units) for which every attribute that equals
        the old width is changed, whatever its name.
    """
    members = {i for b in blocks for i in b.members}
    whole = {n: s for n, s in sites.items() if n not in members}
    widths, norms, heads = [], [], []
    for n, s in whole.items():
        here = int(draft.alive(s.index).sum())
        if here < s.index.units:
            norms += [(path, s.index.units, here) for path in s.norms]
            new = _new_widths(s.index.parts, draft)
            widths += [(p, new, n in eager) for p in _holders(model, s.index.names)]
    for b in blocks:
        here, width = _size(b, sites, draft)
        if (here, width) != (b.heads.units, b.width):
            new = _new_widths(b.parts(), draft) | {b.width: width}
            heads.append((b.path, new, b.number in eager, b.heads.units, here))
    config = getattr(model, "config", None)
    fields = ()
    if hasattr(config, "to_dict") and (widths or heads):
        fields = _fields(config, whole, blocks, sites, draft)
    return Edits(tuple(widths), tuple(heads), tuple(norms), fields)


def _size(b: Block, sites: dict[int, Site], draft: Draft) -> tuple[int, int]:
    """Heads that are left, and their width."""
    widths = [int(draft.alive(sites[i].index).sum()) for i in b.outputs]
    return int(draft.alive(b.heads).sum()), max(widths)


def _new_widths(parts, draft: Draft) -> dict[int, int]:
    """{old: new} sizes of all axes."""
    new = {}
    for p in parts:
        gone = len(draft.removed.get((p.name, p.axis, p.stack), ())) // p.stack
        new[p.shape[p.axis]] = p.shape[p.axis] - gone
    return new


def _holders(model: nn.Module, names) -> list[str]:
    """Paths of the modules that hold some of the tensors, below what holds all."""
    top = ancestor(model, names)
    found = {top}
    for name in names:
        path = name.rpartition(".")[0]
        while len(path) > len(top):
            found.add(path)
            path = path.rpartition(".")[0]
    return sorted(found)


def _fields(config, whole, blocks, sites, draft: Draft) -> tuple[tuple[str, int], ...]:
    """Fields of a Hugging Face configuration, where all layers agree."""
    new: dict[int, set[int]] = {}
    for s in whole.values():
        here = int(draft.alive(s.index).sum())
        new.setdefault(s.index.units, set()).add(here)
    agreed = {old: min(sizes) for old, sizes in new.items() if len(sizes) == 1}
    old = {n: v for n, v in config.to_dict().items() if type(v) is int}
    found = {n: agreed.get(v, v) for n, v in old.items() if WIDTHS.search(n)}
    sizes = {(b.heads.units, b.width, *_size(b, sites, draft)) for b in blocks}
    if len(sizes) == 1:
        heads, _, here, _ = sizes.pop()
        for n, v in old.items():
            if HEADS.search(n) and v % heads == 0:
                found[n] = v // heads * here
    if getattr(config, "n_inner", 0) is None:  # GPT-2: four times the width
        four = 4 * config.hidden_size
        found |= {"n_inner": agreed[four]} if agreed.get(four, four) != four else {}
    return tuple((n, v) for n, v in found.items() if v != old.get(n))
