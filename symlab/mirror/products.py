"""Rank of a product of two weight matrices, and its truncation to a lower rank.

The weights A (m, n) compute m hidden units and B (m, k) read them; if the units may be
rotated, the function depends on A^T B only. With the singular value decomposition
A^T B = U S V^T, the factors S^(1/2) U^T and S^(1/2) V^T have as many rows as the
product has rank. If no rescaling between A and B is certified (as for queries and keys
in one matrix), both are rotated by one orthogonal matrix.
"""

import torch
from torch import Tensor

from symlab.mirror.surgery import Draft
from symlab.mirror.units import Index

ZERO = 1e-6  # relative size below which a weight or a singular value counts as zero


def rank(index: Index, draft: Draft) -> int:
    """Return the rank of the weight product that is summed over some hidden units.

    index: the units, whose rotations leave this product unchanged.
    draft: the tensors with the removals made so far.

    The rank is 0 if all units have been removed.
    """
    sigma = torch.linalg.svdvals(product(index, draft)[0])
    return int((sigma > ZERO * sigma.max().clamp(min=1e-300)).sum())


def _sides(index: Index) -> tuple[list[int], list[int]]:
    """Parts on both sides of the product; one side only where a part holds both."""
    parts = range(len(index.parts))
    s = index.rescaling
    if s is None or not all(s[p] for p in parts):
        return list(parts), []
    first = [p for p in parts if s[p] * s[0] > 0]  # the side of part 0
    return first, [p for p in parts if p not in first]


def product(index: Index, draft: Draft) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weight product summed over hidden units as a small core between two
    bases.

    index: m hidden units between factors A (m, n) and B (m, k).
    draft: the tensors with the removals made so far.

    Returns (core, qa, qb) with A^T B = qa core qb^T: a core with the product's singular
    values, at most (m, m), and orthonormal columns qa and qb. If the index has only one
    side, core and qa are those of A^T, and qb is qa.
    """
    rows = [draft.rows(p, slice(None)) for p in index.parts]
    left, right = _sides(index)
    a = torch.cat([rows[p] for p in left], 1)
    qa, ra = torch.linalg.qr(a.T)
    if not right:
        return ra.T, qa, qa
    qb, rb = torch.linalg.qr(torch.cat([rows[p] for p in right], 1).T)
    return ra @ rb.T, qa, qb


def cut(index: Index, width: int, draft: Draft, factor: float = 1.0) -> None:
    """Truncate a weight product to its `width` largest singular values, in the draft.

    index: the hidden units over which the product is summed; all but `width` of them
        are removed.
    draft: the tensors, which are changed.
    factor: a factor on the product, to undo a scale that depends on the width.
    """
    core, qa, qb = product(index, draft)
    left, right = _sides(index)
    u, sigma, vh = torch.linalg.svd(core, full_matrices=False)
    here = draft.alive(index).nonzero()[:, 0]
    keep, gone = here[:width], here[width:]
    n = min(width, len(sigma))
    if right:
        root = (factor * sigma[:n]).sqrt()[:, None]
        spread(index, left, keep, root * (qa @ u[:, :n]).T, draft)
        spread(index, right, keep, root * (qb @ vh[:n].T).T, draft)
    else:  # turned: rows are ra.T qa.T, and u.T turns them
        turned = factor**0.5 * sigma[:n, None] * (qa @ vh[:n].T).T
        spread(index, left, keep, turned, draft)
    draft.drop(index.parts, gone)


def spread(index: Index, parts: list[int], keep: Tensor, rows: Tensor, draft: Draft):
    """Write the rows of a matrix to some hidden units, across several tensor axes.

    index: the hidden units. parts: positions of the tensor axes that are written, whose
        entries stand side by side in `rows`.
    keep: the numbers of the units that are written; those beyond the first n get zeros.
    rows: (n, entries), with as many columns as a unit owns entries on all these axes.
    draft: the tensors, which are changed.
    """
    for p in parts:
        part = index.parts[p]
        old = draft.rows(part, keep)
        new = torch.zeros_like(old)
        new[: len(rows)] = rows[:, : old.shape[1]]
        rows = rows[:, old.shape[1] :]
        draft.put(part, keep, new)
