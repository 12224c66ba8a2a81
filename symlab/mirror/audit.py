"""Find the mirror symmetries of a torch model, and how near its weights are to them.

    audit(model, lambda model, batch: cross_entropy(model(batch[0]), batch[1]), batch)

`orbits` conjectures which units may be exchanged, turned or flipped; each conjecture is
then tested on the loss itself, at random points, and only what passes is reported as a
symmetry. On a mirror two units are equal, a unit is zero, or a rotation's index has
lost rank: structure that training fell into and, under theorem 1 of Ziyin (ICML 2024),
does not leave.
"""

import copy
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from symlab.mirror.orbits import Orbit, orbits
from symlab.mirror.symmetry import MirrorSymmetry, violation

DEAD = 0.01  # of the largest unit's norm; for a rotation, of the largest singular value
NEAR = 0.1  # |a - b| / (|a|^2 + |b|^2)^(1/2) below this, in each matrix: copies
VIOLATION = 1e-5  # of the loss's spread, in float64; 1e-3 where a model needs float32
BROKEN = "the loss changes under what was thought its symmetry"
NO_HEADS = "whole heads may be exchanged, but not by these parameters alone (rotary?)"
UNKNOWN = {"dead": pd.NA, "copies": pd.NA, "distinct": pd.NA, "rank": pd.NA}


def audit(
    model: nn.Module,
    loss: Callable[[nn.Module, object], Tensor],
    batch,
    dead: float = DEAD,
    near: float = NEAR,
) -> pd.DataFrame:
    """The mirror symmetries of `loss(model, batch)`, one row for each hidden index.

    parameters   what carries the index ('fc.weight:1' is its dimension 1)
    symmetry     'permutation', 'signed permutation', 'rotation', 'permutation of
                 heads' (of attention), or 'unknown'
    units        H, the number of units that may be exchanged
    violation    change of the loss under a product of random reflections of all units
                 of all indices, relative to its spread; of this index alone where
                 that is not zero
    dead         units with a norm below `dead` of the largest
    copies       live units with another at a relative distance below `near`, as a
                 whole and in each matrix by itself
    distinct     clusters of live units (average linkage at `near`)
    rank         dimensions in use: of a rotation the singular values above `dead` of
                 the largest, else `distinct`
    effective_rank  exp of the entropy of the singular values (Roy & Vetterli 2007)
    nearest      median over live units of the distance to their nearest other: 0 on a
                 mirror, about 1 for random units
    note         what to do about it; for 'unknown' what stood in the way

    The model is not changed. A small batch is enough: labels are carried for each
    value. Raises ValueError where the loss is no scalar, not finite, random, or does
    not use the model.
    """
    model, batch, exact = _double(model, loss, batch)
    value = loss(model, batch)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ValueError("the loss must return one number: reduce it over the batch")
    if not bool(torch.isfinite(value)):
        raise ValueError("the loss is not finite at these weights: nothing to compare")
    if not torch.equal(value, loss(model, batch)):
        raise ValueError(
            "the loss changes from call to call (dropout?): call model.eval() first"
        )
    call = _functional(model, loss, batch)
    tensors = {n: p.detach() for n, p in model.named_parameters()}
    still = {n: b for n, b in model.named_buffers() if b.is_floating_point()}
    limit = VIOLATION if exact else 1e-3
    rows, unknown = [], {}
    found = orbits(model, lambda: loss(model, batch))
    known = [o for o in found if not o.unknown]
    together = verify(known, call, tensors, still)
    for orbit in [*found, *heads(found)]:
        change, why = together, orbit.unknown
        guess = orbit.kind == "permutation of heads"
        if guess or not (why or together < limit):
            change = verify([orbit], call, tensors, still)
            if not change < limit:
                why = NO_HEADS if guess else BROKEN
        if why:
            unknown.setdefault(why, []).extend(orbit.axes)
            continue
        rows.append(
            {"parameters": ", ".join(orbit.axes), "symmetry": orbit.kind}
            | {"units": len(orbit.index), "violation": change}
            | _state(orbit, tensors, dead, near)
        )
    for why, axes in unknown.items():
        rows.append(
            {"parameters": ", ".join(dict.fromkeys(axes)), "symmetry": "unknown"}
            | {"units": pd.NA, "violation": np.nan, **UNKNOWN}
            | {"effective_rank": np.nan, "nearest": np.nan, "note": f"unknown: {why}"}
        )
    frame = pd.DataFrame(rows, columns=COLUMNS)
    whole = ["units", "dead", "copies", "distinct", "rank"]
    return frame.astype(dict.fromkeys(whole, "Int64"))


COLUMNS = [
    *("parameters", "symmetry", "units", "violation", "dead", "copies", "distinct"),
    *("rank", "effective_rank", "nearest", "note"),
]


# --- putting conjectures to the test -------------------------------------------------


def verify(found: list[Orbit], loss, params: dict, still: dict) -> float:
    """The violation under a product of reflections that touch every unit.

    still: buffers, such as running statistics; reflected with the units and not moved.
    """
    mirrors = [m for seed, o in enumerate(found) for m in _mirrors(o, seed)]

    def transform(theta):
        for m in mirrors:
            theta = m.reflect(theta)
        return theta

    return violation(transform, loss, params, 3, still)


def _mirrors(orbit: Orbit, seed: int) -> list[MirrorSymmetry]:
    draws = torch.Generator().manual_seed(seed)  # no two wrong ones cancel
    m = len(orbit.index)
    if orbit.kind == "rotation":
        n = torch.randn(1, m, generator=draws, dtype=torch.float64)
        return [mirror(orbit, n)]
    order = torch.randperm(m, generator=draws)  # exchanges in disjoint pairs, at once
    pairs = order[: m // 2 * 2].view(-1, 2)
    n = torch.zeros(len(pairs), m, dtype=torch.float64)
    n[torch.arange(len(pairs)), pairs[:, 0]] = 1.0
    n[torch.arange(len(pairs)), pairs[:, 1]] = -1.0
    made = [mirror(orbit, n)]
    if m % 2:  # the one that is left over, with any other
        odd = torch.zeros(1, m, dtype=torch.float64)
        odd[0, order[-1]], odd[0, order[0]] = 1.0, -1.0
        made.append(mirror(orbit, odd))
    if orbit.kind == "signed permutation":
        some = torch.randperm(m, generator=draws)[: (m + 1) // 2]
        made.append(mirror(orbit, torch.eye(m, dtype=torch.float64)[some]))
    return made


def mirror(orbit: Orbit, n: Tensor) -> MirrorSymmetry:
    """Reflections of an orbit along orthogonal directions n (k, m) of its units."""
    n = n / n.norm(dim=1, keepdim=True)
    row, unit = n.nonzero(as_tuple=True)
    width = orbit.index.shape[1]
    return MirrorSymmetry(
        orbit.names,
        orbit.shapes,
        rows=orbit.index[unit].reshape(-1),
        columns=(row[:, None] * width + torch.arange(width)).reshape(-1),
        values=n[row, unit].repeat_interleave(width),
        k=len(n) * width,
    )


def heads(found: list[Orbit]) -> list[Orbit]:
    """Attention heads as units: the index spaces of equal number in one module.

    Each head has its own rotations of queries and keys and of values and outputs; whole
    heads may be exchanged as well.
    """
    families: dict[tuple, list[Orbit]] = {}
    for orbit in found:
        if orbit.kind == "rotation" and not orbit.unknown:
            axes = tuple(a.split("[")[0] for a in orbit.axes)
            families.setdefault(axes, []).append(orbit)
    modules: dict[tuple, list[list[Orbit]]] = {}
    for family in families.values():
        if len(family) > 1:
            module = _common([a.split(":")[0] for a in family[0].axes])
            modules.setdefault((module, len(family)), []).append(family)
    for module, n in sorted(modules, key=lambda key: -len(key[0])):
        parent = (module.rpartition(".")[0], n)  # a fused qkv lies one level deeper
        if module and parent in modules:
            modules[parent] += modules.pop((module, n))
    return [_joined([list(h) for h in zip(*m, strict=True)]) for m in modules.values()]


def _common(names: list[str]) -> str:
    """The module that holds all these parameters: 'blocks.0.attention'."""
    parts = [n.split(".")[:-1] for n in names]
    shared = zip(*parts, strict=False)
    same = [level[0] for level in shared if len(set(level)) == 1]
    return ".".join(same)


def _joined(each: list[list[Orbit]]) -> Orbit:
    """One unit of each list of orbits: all of their entries."""
    sizes = {
        n: torch.Size(s)
        for o in each[0]
        for n, s in zip(o.names, o.shapes, strict=True)
    }
    names, starts, total = sorted(sizes), {}, 0
    for name in names:
        starts[name], total = total, total + sizes[name].numel()
    rows = [torch.cat([_moved(o, starts).reshape(-1) for o in head]) for head in each]
    return Orbit(
        "permutation of heads",
        tuple(names),
        tuple(tuple(sizes[n]) for n in names),
        torch.stack(rows),
        tuple(dict.fromkeys(a.split("[")[0] for o in each[0] for a in o.axes)),
    )


def _moved(orbit: Orbit, starts: dict[str, int]) -> Tensor:
    """The index of an orbit, where its tensors start elsewhere."""
    shift, at = torch.zeros_like(orbit.index), 0
    for name, shape in zip(orbit.names, orbit.shapes, strict=True):
        size = torch.Size(shape).numel()
        inside = (orbit.index >= at) & (orbit.index < at + size)
        shift[inside] = starts[name] - at
        at += size
    return orbit.index + shift


def _functional(model: nn.Module, loss, batch):
    """The loss as a function of a dict of parameters and buffers."""

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            return loss(self.model, batch)

    whole = Whole()

    def call(tensors) -> Tensor:
        named = {f"model.{n}": t for n, t in tensors.items()}
        return torch.func.functional_call(whole, named).detach()

    return call


def _double(model: nn.Module, loss, batch):
    """A copy in float64, where rounding cannot hide a violation, if the model allows.

    Random layers stay as they are: a dropout in training mode has no exact symmetry.
    """
    copied = copy.deepcopy(model)
    cast = torch.utils._pytree.tree_map(
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x,
        batch,
    )
    try:
        with torch.no_grad():
            loss(copied.double(), cast)
    except RuntimeError:  # float32 made inside the model
        return copy.deepcopy(model), batch, False
    return copied, cast, True


# --- how near the weights are --------------------------------------------------------


def units(orbit: Orbit, tensors: dict) -> list[Tensor]:
    """(m, P) for each parameter: what a unit has of it, in float64; no buffers."""
    parts, start = [], 0
    for name, shape in zip(orbit.names, orbit.shapes, strict=True):
        size = torch.Size(shape).numel()
        inside = (orbit.index >= start) & (orbit.index < start + size)
        if name in tensors:
            places = orbit.index[inside].view(len(orbit.index), -1) - start
            parts.append(tensors[name].double().reshape(-1).cpu()[places])
        start += size
    return parts


def _state(orbit: Orbit, tensors: dict, dead: float, near: float) -> dict:
    parts = units(orbit, tensors)
    u = torch.cat(parts, 1)
    sigma = torch.linalg.eigvalsh(u @ u.T).flip(0).clamp(min=0).sqrt()
    p = sigma / sigma.sum().clamp(min=1e-300)
    effective = float(torch.exp(-torch.special.xlogy(p, p).sum()))
    if orbit.kind == "rotation":
        rank = int((sigma > dead * sigma[0]).sum())
        lost = len(u) - rank
        note = "full rank: nothing to do"
        if lost:
            note = (
                f"{lost} of {len(u)} dimensions are unused: a width of {rank} gives "
                "the same function; to keep them, syre with unequal decay "
                "(symlab.mirror.syre) or less weight decay"
            )
        return dict(dead=pd.NA, copies=pd.NA, distinct=pd.NA, rank=rank) | {
            "effective_rank": effective,
            "nearest": np.nan,
            "note": note,
        }
    norms = u.norm(dim=1)
    alive = norms > dead * norms.max()
    live, signed = u[alive], orbit.kind == "signed permutation"
    distance = _distances(live, signed)
    for part in parts:  # near in each matrix: a common gain or bias makes no copies
        mine = part[alive]
        if mine.shape[1] > 1 and len(mine) and mine.norm() > dead * live.norm():
            distance = np.maximum(distance, _distances(mine, signed))
    nearest = (distance + np.diag(np.full(len(live), np.inf))).min(1, initial=np.inf)
    copies, distinct = int((nearest < near).sum()), _clusters(distance, near)
    gone = len(u) - len(live)
    note = "no unit is near a mirror: nothing to do"
    if gone or copies:
        note = (
            f"{gone} dead, {copies} with a copy: {distinct} of {len(u)} units do the "
            "work; merge copies (add outgoing weights) and drop the dead, or keep "
            "them apart by symlab.mirror.remove_symmetries or less weight decay"
        )
    return {
        "dead": gone,
        "copies": copies,
        "distinct": distinct,
        "rank": distinct,
        "effective_rank": effective,
        "nearest": float(np.median(nearest)) if len(live) > 1 else np.nan,
        "note": note,
    }


def _distances(u: Tensor, signed: bool) -> np.ndarray:
    """(m, m): |a - b| / (|a|^2 + |b|^2)^(1/2); up to sign where signs are free."""
    squares = u.square().sum(1)
    total = (squares[:, None] + squares[None, :]).clamp(min=1e-300)
    product = u @ u.T
    product = product.abs() if signed else product
    return ((total - 2 * product).clamp(min=0) / total).sqrt().numpy()


def _clusters(distance: np.ndarray, near: float) -> int:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(distance) < 2:
        return len(distance)
    tree = linkage(squareform(distance, checks=False), "average")
    return int(fcluster(tree, near, "distance").max())
