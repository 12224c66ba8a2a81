"""How near hidden units are to their mirrors: dead units, equal units, low rank.

All numbers are properties of the function. They do not change under the certified
symmetries: units that may be rescaled are balanced first (relu(c w x) a/c is the same
unit for every c > 0), units whose signs are free are compared up to sign, and the rank
of rotated units is the rank of the product of their incoming and outgoing weights.
"""

import itertools

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform
from torch import Tensor

from symlab.mirror.units import Index

DEAD = 0.01  # of a typical unit; for a rotation, of the largest singular value
NEAR = 0.1  # |a - b| / (|a|^2 + |b|^2)^(1/2) below this, in each matrix: copies
CHANCE = 0.01  # expected number of pairs of random units that would count as copies
TWINS = 0.999  # correlation of two units' activations
CHUNK = 1 << 18  # entries that are multiplied at once


def state(index: Index, tensors: dict, dead: float, near: float | None = None) -> dict:
    """Return the measures of one set of hidden units that are columns of `audit`.

    index: the hidden units; the result is empty if they have no symmetry.
    tensors: {name: tensor}, the trainable parameters.
    dead, near: thresholds for dead and for equal units, as for `audit`.

    The result is {column: value}.
    """
    if index.unknown or index.symmetry == "none":
        return {}
    found = activity(index)
    if index.kind == "rotation":
        sigma = product_spectrum(index, tensors)
        rank = int((sigma > dead * sigma.max()).sum()) if float(sigma.max()) else 0
        return found | {"rank": rank, "effective_rank": _entropy(sigma)}
    norms = unit_norms(index, tensors)
    gone = dead_units(index, norms, dead)
    found |= {"dead": int(gone.sum()), "dead_units": gone.nonzero()[:, 0].tolist()}
    if index.kind == "none":
        return found
    alive = (~gone).nonzero()[:, 0]
    distance, sigma = distances(index, tensors, alive, dead)
    most = NEAR if near is None else near
    radius = min(most, chance_radius(index, tensors, len(alive)))
    np.fill_diagonal(distance, np.inf)
    nearest = distance.min(1, initial=np.inf)
    groups = _groups(distance < radius, alive)
    np.fill_diagonal(distance, 0.0)
    distinct = _clusters(distance, radius)
    return found | {
        "copies": int((nearest < radius).sum()),
        "copy_groups": groups,
        "distinct": distinct,
        "rank": distinct,
        "effective_rank": _entropy(sigma),
        "nearest": float(np.median(nearest)) if len(alive) > 1 else np.nan,
    }


def unit_norms(index: Index, tensors: dict) -> list[Tensor | None]:
    """Return the norms (m,) of the entries that m hidden units own on each tensor axis.

    index: the units. The result has one entry for each of its tensor axes (parts).
    tensors: {name: tensor}; the entry is None for a tensor that is missing here.
    """
    return [
        None
        if p.name not in tensors
        else torch.cat([p.rows(tensors[p.name], u).double().norm(dim=1).cpu()
                        for u in p.chunks(CHUNK)])
        for p in index.parts
    ]  # fmt: skip


def balance(index: Index, norms: list) -> list:
    """Return factors (m,) on each tensor axis that balance the weights of hidden units.

    index: the m units. norms: as `unit_norms` returns them.

    With these factors, the weights that compute a unit and those that read it have the
    same norm. The factors are a product of certified rescalings, which leave the
    function unchanged. The factor is None where the norm is None.
    """
    sizes = list(norms)
    factors = [None if n is None else torch.ones_like(n) for n in norms]
    ways = [s for s in index.scales if min(s) < 0 < max(s)]
    for s in ways * (3 if len(ways) > 1 else 1):  # they share parts: a few rounds
        grow = [p for p, e in enumerate(s) if e > 0 and sizes[p] is not None]
        shrink = [p for p, e in enumerate(s) if e < 0 and sizes[p] is not None]
        if not grow or not shrink:
            continue
        a, b = _joint(sizes, grow), _joint(sizes, shrink)
        t = torch.where((a > 0) & (b > 0), b / a.clamp(min=1e-300), 1.0)
        t = t ** (1 / (max(s) - min(s)))
        for p in (*grow, *shrink):
            sizes[p], factors[p] = sizes[p] * t ** s[p], factors[p] * t ** s[p]
    return factors


def directions(index: Index, norms: list) -> list:
    """Return factors (m,) per tensor axis under which incoming weights have length one.

    index: the m hidden units. norms: as `unit_norms` returns them.

    Units are normalised only if a certified rescaling acts on all weights that read
    them; otherwise the result is that of `balance`. Two units of one direction and
    different sizes then count as equal: relu(w x) a and relu(2 w x) a add up to relu(w
    x) 3 a.
    """
    factors, s = balance(index, norms), index.merging
    if s is None:
        return factors
    moved = [p for p, e in enumerate(s) if e and norms[p] is not None]
    length = _joint([None if n is None else n * f for n, f in _pairs(norms, factors)],
                    moved).clamp(min=1e-300)  # fmt: skip
    return [f / length if p in moved else f for p, f in enumerate(factors)]


def dead_units(index: Index, norms: list, dead: float) -> Tensor:
    """Return booleans (m,): whether a hidden unit's weights are so small that it is
    dead.

    index: the m units. norms: as `unit_norms` returns them.
    dead: the threshold. After balancing, a unit is dead if the norm of its incoming or
        of its outgoing weights is at most `dead` times the median over those units that
        contribute to the layers that read them (the largest norm if contributions are
        unknown). If contributions are known, its own must be at most `dead`, too.
    """
    factors = balance(index, norms)
    norms = [None if n is None else n * f for n, f in _pairs(norms, factors)]
    added = index.contributions
    typical = added > dead**2 if added is not None else None  # one may dwarf all others
    small = torch.zeros(index.units, dtype=torch.bool)
    known = [p for p, n in enumerate(norms) if n is not None]
    scaled = index.merging or ()  # a gain and bias of zero, whatever stands before
    gains = [p for p, e in enumerate(scaled) if e > 0 and p in known]
    for side in (*sides(index, known), gains):
        if side:
            norm = _joint(norms, side)
            if typical is not None and bool((norm[typical] > 0).any()):
                scale = norm[typical].median()
            else:
                scale = norm.max()
            small |= norm <= dead * scale
    if added is not None:
        small &= added <= dead
    return small


def sides(index: Index, known: list[int]) -> tuple[list[int], list[int]]:
    """Return the tensor axes that compute the units of an index, and those that read
    them.

    known: positions in `index.parts` of the axes to consider. Both results are lists of
    positions.
    """
    s = index.merging
    if s is not None and all(s[p] for p in known):
        return [p for p in known if s[p] > 0], [p for p in known if s[p] < 0]
    reads = [p for p in known if index.parts[p].reads]
    return [p for p in known if p not in reads], reads


def product_spectrum(index: Index, tensors: dict) -> Tensor:
    """Return the singular values of the weight product that is summed over hidden
    units.

    index: the units. tensors: {name: tensor}.

    The product is that of the units' incoming and outgoing weights. If no rescaling
    between both is certified (as for W^T W), the result is the singular values of all
    the index's weights side by side.
    """
    known = [p for p, part in enumerate(index.parts) if part.name in tensors]
    writes, reads = sides(index, known) if index.merging else ([], [])
    if not writes or not reads:
        return torch.linalg.svdvals(_triangle(_side(index, tensors, known)))
    a, b = (_triangle(_side(index, tensors, side)) for side in (writes, reads))
    return torch.linalg.svdvals(a.T @ b)


def distances(index: Index, tensors: dict, alive: Tensor, dead: float):
    """Return the relative distances (n, n) of live units, and singular values (n,).

    index: the hidden units. tensors: {name: tensor}.
    alive: the numbers of the n live units.
    dead: a weight matrix with less than dead^2 of the sum of all squared weights is not
        compared separately.

    The weights a and b of two units are first rescaled by `directions`. Their distance
    is |a - b| / (|a|^2 + |b|^2)^(1/2), over all weights or on the weight matrix on
    which it is largest, so that units with only an equal gain or bias are not copies;
    of all certified sign changes, the one with the least distance counts. The singular
    values are those of the n units' weights side by side.
    """
    norms = unit_norms(index, tensors)
    factors = directions(index, norms)
    size = [None if n is None else (n * f)[alive] for n, f in _pairs(norms, factors)]
    total = sum(float(n.square().sum()) for n in size if n is not None)
    ways = [
        chosen
        for count in range(len(index.signs) + 1)
        for chosen in itertools.combinations(index.signs, count)
    ]
    sums = [0.0] * len(ways)
    worst: list = [None] * len(ways)
    squares = 0.0
    for parts, product in _products(index, tensors, factors, alive):
        own = product.diagonal().clone()
        matrix = len(parts) > 1 or _entries(index, parts[0]) > 1
        matrix = matrix and float(own.sum()) > dead**2 * total
        squares = squares + own
        for i, chosen in enumerate(ways):
            sign = (-1) ** sum(parts[0] in c for c in chosen)
            if isinstance(sums[i], float):
                sums[i] = torch.zeros_like(product)
            sums[i].add_(product, alpha=sign)
            if matrix:
                one = _relative(product, own, sign)
                one = one if worst[i] is None else torch.maximum(worst[i], one, out=one)
                worst[i] = one
    sigma = torch.linalg.eigvalsh(sums[0]).clamp(min=0).sqrt()  # no sign was changed
    best = None
    for total_of_way, one in zip(sums, worst, strict=True):
        found = _relative(total_of_way, squares)
        found = found if one is None else torch.maximum(found, one, out=found)
        best = found if best is None else torch.minimum(best, found, out=found)
    return best.numpy(), sigma


def chance_radius(index: Index, tensors: dict, m: int) -> float:
    """Return the distance below which about CHANCE pairs of m random units are
    expected.

    index: the hidden units. tensors: {name: tensor}.

    In d dimensions a fraction r**d of random units is nearer than r, so that m^2/2
    pairs give m^2/2 * r**d. Here d is the number of a unit's weights minus its
    rescalings.
    """
    d = sum(_entries(index, p) for p, q in enumerate(index.parts) if q.name in tensors)
    d -= len(index.scales) + (index.merging is not None)
    return float((2 * CHANCE / max(m, 2) ** 2) ** (1 / max(d, 1)))


def activity(index: Index) -> dict:
    """Return the columns `silent` and `twins` of `audit`, from the values of hidden
    units.

    silent: the number of units with the same value on all samples. twins: the number of
    other units whose correlation with some unit exceeds TWINS in absolute value. The
    result is empty if fewer than 3 samples are known, and for rotations.
    """
    h = index.activations
    if h is None or len(h) < 3 or index.kind == "rotation":
        return {}
    silent = (h == h[0]).all(0)
    h = h[:, ~silent]
    h = h - h.mean(0)
    h = h / h.norm(dim=0).clamp(min=1e-300)
    close = (h.T @ h).abs().fill_diagonal_(0)
    twins = int((close.max(0).values > TWINS).sum()) if h.shape[1] > 1 else 0
    return {"silent": int(silent.sum()), "twins": twins}


# --- sums over what units own --------------------------------------------------------


def _products(index: Index, tensors: dict, factors: list, alive: Tensor):
    """Yields (parts, (n, n) inner products of the units), part by part.

    A head's queries A and keys B enter as A^T B only, and the inner product of two
    heads' is the sum over (A_i A_j^T) * (B_i B_j^T).
    """
    seen: set[int] = set()
    for width, *pair in index.pairs:
        if all(index.parts[p].name in tensors for side in pair for p in side):
            grams = []
            for side in pair:
                rows = [index.parts[p].rows(tensors[index.parts[p].name]) for p in side]
                x = [r.double().view(len(r), width, -1)[alive] for r in rows]
                x = torch.cat(x, 2)
                grams.append(torch.einsum("iap,jbp->ijab", x, x))
            yield (*pair[0], *pair[1]), (grams[0] * grams[1]).sum((2, 3))
            seen |= {p for side in pair for p in side}
    for p, part in enumerate(index.parts):
        if part.name in tensors and p not in seen:
            rows = part.rows(tensors[part.name])[alive.to(tensors[part.name].device)]
            gram = rows.new_zeros(len(rows), len(rows), dtype=torch.float64)
            step = max(1, CHUNK // max(1, len(rows)))
            for a in range(0, rows.shape[1], step):
                some = rows[:, a : a + step].double()
                gram += some @ some.T
            f = factors[p][alive]
            yield (p,), gram.cpu().mul_(f[:, None]).mul_(f)


def _entries(index: Index, p: int) -> int:
    """How many numbers of part p a unit owns."""
    part = index.parts[p]
    axis = part.shape[part.axis] * part.stack if part.shape else 1
    return torch.Size(part.shape).numel() // axis * part.places.shape[1]


def _side(index: Index, tensors: dict, parts: list[int]) -> Tensor:
    """(m, entries) of some parts, in the subspace that rotates."""
    found = [
        index.parts[p].rows(tensors[index.parts[p].name]).double().cpu() for p in parts
    ]
    rows = torch.cat(found, 1)
    return rows if index.subspace is None else index.subspace.T @ rows


def _triangle(rows: Tensor) -> Tensor:
    """(m, r) with the same singular values, r at most m, however many columns."""
    if rows.shape[1] <= rows.shape[0]:
        return rows
    return torch.linalg.qr(rows.T, mode="r")[1].T


def _joint(norms: list, parts: list[int]) -> Tensor:
    return sum(norms[p].square() for p in parts).sqrt()


def _pairs(norms: list, factors: list):
    return zip(norms, factors, strict=True)


def _relative(products: Tensor, squares: Tensor, sign: float = 1.0) -> Tensor:
    """|a - sign b| / (|a|^2 + |b|^2)^(1/2) of all pairs, from their inner products."""
    found = products.mul(-2 * sign)
    step = max(1, CHUNK // max(1, len(squares)))  # of the sums few are kept at once
    for rows, own in zip(found.split(step), squares.split(step), strict=True):
        total = (own[:, None] + squares).clamp_(min=1e-300)
        rows.add_(total).clamp_(min=0).div_(total).sqrt_()
    return found


def _entropy(sigma: Tensor) -> float:
    p = sigma / sigma.sum().clamp(min=1e-300)
    return float(torch.exp(-torch.special.xlogy(p, p).sum()))


def _groups(near: np.ndarray, alive: Tensor) -> list[list[int]]:
    """Sets of units that are copies of each other, by their numbers."""
    if not near.any():
        return []
    _, label = connected_components(csr_array(near), directed=False)
    sets = [alive[torch.from_numpy(label == n)].tolist() for n in np.unique(label)]
    return [s for s in sets if len(s) > 1]


def _clusters(distance: np.ndarray, radius: float) -> int:
    if len(distance) < 2:
        return len(distance)
    tree = linkage(squareform(distance, checks=False), "average")
    return int(fcluster(tree, radius, "distance").max())
