"""Propose reductions of attention heads: one smaller width, removal, and merging.

Heads of a module are cut to a common width, removed if they are dead, and merged if
they have the same attention pattern.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from symlab.mirror.moves import EQUAL, Move, Site
from symlab.mirror.products import ZERO, cut, product, rank, spread
from symlab.mirror.surgery import Draft, ancestor
from symlab.mirror.units import Index, Part

ALONE = "heads are exchanged with queries and keys only"


@dataclass
class Block:
    """The attention heads of one module, and the hidden indices (sets of hidden units
    with the tensor axes that carry them) inside them.

    number: the number of the index whose units are the heads, in the list of all
        indices.
    heads: that index.
    path: the path of the attention module in the model.
    groups: lists of numbers of indices. Each list belongs to one product, such as that
        of queries and keys, and holds, head by head, the index that may be rotated
        there. The list for values times output weights comes last.
    extra: axes of queries and keys that may not be rotated (as with rotary positions)
        but are removed with their head.
    width: the inner width of a head's product of values and output weights.
    outputs: the last list of `groups`.
    """

    number: int
    heads: Index
    path: str
    groups: list[list[int]]
    extra: list[Part]
    width: int
    outputs: list[int]

    @property
    def members(self) -> set[int]:
        """The numbers of all hidden indices that lie inside the heads."""
        return {i for g in self.groups for i in g}

    def parts(self) -> list[Part]:
        """Return the tensor axes whose slices belong to whole heads."""
        return [*self.heads.parts, *self.extra]


def blocks(model: nn.Module, sites: dict[int, Site], found: list[Index]) -> list[Block]:
    """Return a `Block` for each index of `found` whose units are attention heads.

    model: the model. sites: {number: `Site`} of the other indices.

    Heads are left out unless the product of values and output weights of each head is
    one index with a certified rotation.
    """
    made = []
    for number, heads in enumerate(found):
        groups: dict[tuple, list[int]] = {}
        for i, s in sites.items() if heads.heads else ():
            if s.index.kind == "rotation" and _inside(s.index, heads):
                groups.setdefault(_axes(s.index), []).append(i)
        outputs = [g for g in groups.values() if sites[g[0]].reads]
        if len(outputs) != 1 or len(outputs[0]) != heads.units:
            continue
        order = [g for g in groups.values() if g is not outputs[0]] + outputs
        if any(sites[i].index.rescaling is None for i in outputs[0]):
            continue
        for g in order:  # member h is of head h
            g.sort(key=lambda i: _head_of(sites[i].index, heads))
        path = ancestor(model, heads.names)
        extra = _extra(model.get_submodule(path), path, heads)
        width = sites[outputs[0][0]].index.units
        made.append(Block(number, heads, path, order, extra, width, outputs[0]))
    return made


def unseen(sites: dict[int, Site], found: list[Index]) -> list[Index]:
    """Return the attention heads that `found` does not cover, marked as unknown.

    found: all hidden indices, with the attention heads that were certified.
    sites: {number: `Site`} of the other indices.

    Two or more rotations on the same tensor axes and of equal width are taken for
    heads.
    """
    groups: dict[tuple, list[Index]] = {}
    for s in sites.values():
        covered = any(h.heads and _inside(s.index, h) for h in found)
        if s.index.kind == "rotation" and s.reads and not covered:
            groups.setdefault((s.index.units, *_axes(s.index)), []).append(s.index)
    made = []
    for group in groups.values():
        if len(group) > 1:
            parts = [
                replace(
                    p,
                    places=torch.stack([x.parts[i].places.reshape(-1) for x in group]),
                )
                for i, p in enumerate(group[0].parts)
            ]
            made.append(Index("none", tuple(parts), heads=True, unknown=ALONE))
    return made


def _axes(index: Index) -> tuple:
    return tuple((p.name, p.axis) for p in index.parts)


def _head_of(index: Index, heads: Index) -> int:
    """The head that holds the first entry of an index."""
    part = index.parts[0]
    for p in heads.parts:
        if (p.name, p.axis) == (part.name, part.axis):
            here = (p.places == part.places[0, 0]).any(1).nonzero()
            if len(here):
                return int(here[0])
    return heads.units


def _inside(index: Index, heads: Index) -> bool:
    """Whether all that an index holds belongs to heads."""
    owned: dict[tuple[str, int], set[int]] = {}
    for p in heads.parts:
        places = p.places.reshape(-1).tolist()
        owned.setdefault((p.name, p.axis), set()).update(places)
    return all(
        set(p.places.reshape(-1).tolist()) <= owned.get((p.name, p.axis), set())
        for p in index.parts
    )


def _extra(module: nn.Module, path: str, heads: Index) -> list[Part]:
    """Layers beside those of the values whose outputs are as many: queries and keys."""
    totals = {p.shape[p.axis] for p in heads.parts}
    order = heads.parts[0].places.amin(1).argsort().argsort()  # first head, second, ...
    found = []
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.Linear) or layer.out_features not in totals:
            continue
        own = {
            ".".join(x for x in (path, name, n) if x): p
            for n, p in layer.named_parameters(recurse=False)
        }
        for full, p in own.items() if own.keys().isdisjoint(heads.names) else ():
            places = torch.arange(len(p)).view(heads.units, -1)[order]
            found.append(Part(full, 0, tuple(p.shape), places))
    return found


def alive(block: Block, draft: Draft) -> list[int]:
    """Return the numbers of the heads of a block that have not been removed from the
    draft.
    """
    return draft.alive(block.heads).nonzero()[:, 0].tolist()


def width_moves(block: Block, sites: dict[int, Site], draft: Draft, together: bool):
    """Return proposals that narrow the heads' products to the largest rank of any head.

    block: the heads of one module. sites: {number: `Site`} of the indices.
    draft: the tensors with the removals made so far.
    together: whether all products (queries with keys, values with outputs) get one
        common width; otherwise each product gets its own.
    """
    left = [[i for i in g if bool(draft.alive(sites[i].index).any())]
            for g in block.groups]  # fmt: skip
    if not left[-1]:
        return []
    ranks = [max((rank(sites[i].index, draft) for i in g), default=0) for g in left]
    chosen = [range(len(ranks))] if together else [[g] for g in range(len(ranks))]
    moves = []
    for some in chosen:
        width = max(1, *(ranks[g] for g in some))
        olds = {
            i: int(draft.alive(sites[i].index).sum()) for g in some for i in left[g]
        }
        if olds and width < min(olds.values()):
            moves.append(_width_move(block, sites, olds, width))
    return moves


def _width_move(block: Block, sites, olds: dict[int, int], width: int) -> Move:
    def change(draft: Draft, factor: float) -> None:
        for i in olds:
            outputs = i in block.outputs
            cut(sites[i].index, width, draft, 1.0 if outputs else factor)

    patterns = any(i not in block.outputs for i in olds)
    root = (width / max(olds.values())) ** 0.5  # attention divides by the root of it
    factors = (1.0, root) if patterns else (1.0,)
    key = (width, *olds)
    return Move(block.number, "cut", key, change, tuple(olds), factors=factors)


def head_moves(block: Block, sites: dict[int, Site], draft: Draft) -> list[Move]:
    """Return proposals that remove or merge attention heads of one module.

    block: the heads. sites: {number: `Site`} of the indices.
    draft: the tensors with the removals made so far.

    A head is removed if its product of values and output weights is zero, and merged
    into another head with the same attention pattern.
    """
    here = alive(block, draft)
    outputs = [sites[i].index for i in block.outputs]
    sizes = {h: float(product(outputs[h], draft)[0].norm()) for h in here}
    largest = max(sizes.values(), default=0.0)
    dead = [h for h in here if sizes[h] <= ZERO * largest]
    dead = dead[: len(here) - 1]
    moves = [_head_move(block, h, _removal(block, h)) for h in dead]
    live = [h for h in here if h not in dead]
    patterns = {h: _pattern(block, sites, draft, h) for h in live}
    taken: set[int] = set()
    for a, i in enumerate(live):
        for j in live[a + 1 :]:
            x, y = patterns[i], patterns[j]
            near = (x - y).norm() <= EQUAL * torch.maximum(x.norm(), y.norm())
            if i not in taken and j not in taken and bool(near):
                taken.add(j)
                moves.append(_head_move(block, j, _union(block, outputs, i, j), i))
    return moves


def _head_move(block: Block, h: int, change, *needs: int) -> Move:
    return Move(block.number, "heads", (h,), change, (block.number,), needs=(h, *needs))


def _removal(block: Block, h: int):
    return lambda draft, factor: draft.drop(block.parts(), [h])


def _pattern(block: Block, sites, draft: Draft, h: int) -> Tensor:
    """What decides where a head attends: products of queries and keys, or all rows."""
    mine = [sites[g[h]].index for g in block.groups[:-1] if len(g) == block.heads.units]
    products = []
    for index in mine:
        if index.rescaling is not None:
            core, qa, qb = product(index, draft)
            products.append((qa @ core @ qb.T).reshape(-1))
        elif all(p.places.shape[1] == 2 for p in index.parts):  # queries, then keys
            rows = [draft.rows(p, slice(None)) for p in index.parts]
            q, k = (torch.cat([r.chunk(2, 1)[n] for r in rows], 1) for n in (0, 1))
            products.append((q.T @ k).reshape(-1))
        else:
            products += [draft.rows(p, slice(None)).reshape(-1) for p in index.parts]
    covered = {p.name for i in mine for p in i.parts}
    outputs = {p.name for i in block.outputs for p in sites[i].index.parts}
    for part in block.parts():
        if part.name not in covered | outputs:
            products.append(draft.rows(part, [h]).reshape(-1))
    return torch.cat(products) if products else torch.zeros(1)


def _union(block: Block, outputs: list[Index], i: int, j: int):
    """Head i takes over what head j adds; it needs the width for both."""

    def change(draft: Draft, factor: float) -> None:
        index = outputs[i]
        s = index.rescaling
        sides = [[p for p, e in enumerate(s) if sign * e > 0] for sign in (1, -1)]
        rows = []
        for side in sides:
            both = [
                torch.cat([draft.rows(x.parts[p], slice(None)) for p in side], 1)
                for x in (index, outputs[j])
            ]
            rows.append(torch.cat(both))
        (qa, ra), (qb, rb) = (torch.linalg.qr(r.T) for r in rows)
        u, sigma, vh = torch.linalg.svd(ra @ rb.T, full_matrices=False)
        keep = draft.alive(index).nonzero()[:, 0]
        n = min(len(keep), len(sigma))
        root = sigma[:n].sqrt()[:, None]
        spread(index, sides[0], keep, root * (qa @ u[:, :n]).T, draft)
        spread(index, sides[1], keep, root * (qb @ vh[:n].T).T, draft)
        draft.drop(block.parts(), [j])

    return change
