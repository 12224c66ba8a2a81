"""Find the mirror symmetries of a torch model, and how near its weights are to them.

    audit(model, lambda model, batch: cross_entropy(model(batch[0]), batch[1]), batch)

`indices` follows one call of the loss, conjectures which units may be exchanged,
turned, flipped or rescaled, and tests each conjecture on the gradient at random points.
On a mirror two units are equal, a unit is zero, or a product has lost rank: a structure
that training fell into and, under theorem 1 of Ziyin (ICML 2024), does not leave.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from torch import Tensor, nn

from symlab.mirror.atoms import KERNEL, ONE, UNUSED
from symlab.mirror.indices import indices
from symlab.mirror.state import DEAD, state
from symlab.mirror.units import Index

COLUMNS = [
    *("parameters", "symmetry", "units", "violation", "dead", "copies", "distinct"),
    *("rank", "effective_rank", "nearest", "silent", "twins", "note"),
    *("dead_units", "copy_groups"),
]
WHOLE = ["units", "dead", "copies", "distinct", "rank", "silent", "twins"]


def audit(
    model: nn.Module,
    loss: Callable[[nn.Module, object], Tensor],
    batch,
    dead: float = DEAD,
    near: float | None = None,
) -> pd.DataFrame:
    """Return the mirror symmetries of `loss(model, batch)`, one row per hidden index.

    A hidden index is a set of units (neurons, channels, attention heads) with the
    tensor axes that carry them. `loss` returns a scalar tensor.

    Every axis of every trainable parameter stands in one row, also an axis without a
    symmetry ('none') and one of which nothing can be said ('unknown'). A row
    'permutation of heads' is about blocks of the units of other rows. The columns:

    parameters   the tensor axes that carry the units: 'fc.weight:1' is dimension 1 of
                 fc.weight, 'qkv.weight:0[0:16]' a part of it
    symmetry     'rotation', 'signed permutation', 'permutation', 'permutation of
                 heads', 'sign flip', 'none' or 'unknown'; with ', rescaling' where
                 each unit may be multiplied in some parts and divided in others
                 ('rescaling' where that is all). A signed permutation exchanges units
                 and may change the sign of each in all its parts (in- and outgoing
                 weights of tanh) or in some (up and down of a gated unit, not its gate)
    units        H, the number of units
    violation    the largest difference between the gradient at transformed weights and
                 the transformed gradient, of one unit in one parameter, relative to
                 the larger of their norms
    dead         number of units with incoming or outgoing weights below `dead` times
                 those of a typical unit
    copies       number of live units that equal another one: at a relative distance
                 below `near` (by default 0.1) and, where units have few weights, below
                 the smaller distance that pairs of random units have by chance
    distinct     number of clusters of live units (average linkage at that distance)
    rank         for a rotation the number of singular values of the weight product
                 that exceed `dead` times the largest; else `distinct`
    effective_rank  exp of the entropy of the singular values (Roy & Vetterli 2007)
    nearest      median over live units of the distance to their nearest other: 0 on a
                 mirror, about 1 for random units of many weights
    silent       number of units whose value is the same at every place of the batch
    twins        number of units, not silent, whose values correlate above 0.999 with
                 those of another unit
    note         what to do about it; for 'none' and 'unknown' the reason
    dead_units, copy_groups  which units are dead, and which ones are copies of each
                 other, by number

    How far a certificate reaches: a row is certified if the gradient is moved as the
    symmetry moves the parameters, at random ones (see `symlab.mirror.certify`). The
    elements that are tested generate the group, so that in exact arithmetic and at a
    generic point (one that no equation singles out, as a random one) a loss without the
    symmetry passes with probability zero (2**-10 for sign flips of more than 10 units
    that cannot be exchanged). They are tested at two random points; at one, if indices
    times parameters exceed 1e8. In float64 a difference is seen where
    it is above 1e-10 of the gradient of one unit with respect to one parameter; between
    that and 1e-6 the row says 'unknown', unless rounding explains it. A part of the
    loss that moves no parameter of the index by more than that cannot be seen, nor a
    difference where no sample of the batch takes a unit (a relu that is always on).

    The model is not changed. A small batch is enough for the symmetries: labels are
    carried for each value. `silent` and `twins`, and `compress` with a tolerance, speak
    of this batch alone and want many samples. Units are balanced before they are
    compared: where a certified rescaling lets incoming weights grow as outgoing ones
    shrink, both are brought to one size, which leaves the function as it is.

    Raises ValueError where the loss is no scalar, not finite, random, or does not use
    the model, and where parameters are sharded.
    """
    found = indices(model, loss, batch)
    tensors = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    several = {KERNEL: [], ONE: [], UNUSED: []}  # one row each
    rows = []
    for i in sorted(found, key=order):
        if (i.unknown or i.why) in several:
            several[i.unknown or i.why].append(i)
            continue
        values = state(i, tensors, dead, near)
        width = i.units if i.subspace is None else i.subspace.shape[1]
        row = {"parameters": i.text(), "symmetry": i.symmetry, "units": width}
        rows.append(row | {"violation": i.violation, "note": note(i, values), **values})
    for same in several.values():
        if same:
            row = {"parameters": ", ".join(i.text() for i in same)}
            row |= {"symmetry": same[0].symmetry, "units": sum(i.units for i in same)}
            rows.append(row | {"violation": np.nan, "note": note(same[0], {})})
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.astype(dict.fromkeys(WHOLE, "Int64"))


def order(index: Index) -> int:
    """Return the place of an index in the table of `audit`.

    0 for an index with a symmetry, 1 for attention heads, 2 for unknown, 3 for 'none'.
    """
    if index.unknown:
        return 2
    return 1 if index.heads else 3 if index.symmetry == "none" else 0


def note(index: Index, values: dict) -> str:
    """Return one sentence on an index: what to do about it, or why nothing can be done.

    values: the measures of this index by column of `audit`, such as 'dead' and
        'copies'. Beside units that are near a mirror, the sentence names twins and
        units that are constant, which `compress` looks for, too.
    """
    if index.unknown:
        return f"unknown: {index.unknown}"
    if index.symmetry == "none":
        return f"none: {index.why}"
    if index.kind == "rotation":
        width = index.units if index.subspace is None else index.subspace.shape[1]
        lost = width - values["rank"]
        if not lost:
            return "full rank: nothing to do"
        return (
            f"{lost} of {width} dimensions are nearly unused: symlab.mirror.compress "
            "cuts them where that changes no output (its tolerance= allows a change); "
            "to keep them, symlab.mirror.remove_symmetries or less weight decay"
        )
    compared = "distinct" in values  # whether units were, with each other
    near = _near(index, values)
    if compared and not near and "twins" not in values:
        return (
            "no unit is near a mirror; whether units compute the same function, or a "
            "constant, is not known here: symlab.mirror.compress tries it"
        )
    beside = _beside_a_mirror(values) if compared else []
    if not near and not beside:
        return "no unit is near a mirror: nothing to do"
    return "; ".join([near or "no unit is near a mirror", *beside])


def _near(index: Index, values: dict) -> str:
    """What to do about units that are near a mirror; '' if none is."""
    gone, copies = values.get("dead", 0), values.get("copies", 0)
    if not gone and not copies:
        return ""
    what = f"{gone} dead, {copies} with a copy"
    if index.kind != "none":
        what += f": {values['distinct']} of {index.units} units do the work"
    if index.across:
        return (
            f"{what}; they cannot be dropped, as the {index.across} reads all units "
            "at once; to keep units apart, symlab.mirror.remove_symmetries or less "
            "weight decay"
        )
    return (
        f"{what}; symlab.mirror.compress removes the others where that changes no "
        "output (its tolerance= allows a change); to keep units apart, "
        "symlab.mirror.remove_symmetries or less weight decay"
    )


def _beside_a_mirror(values: dict) -> list[str]:
    """What else `compress` looks for, if there is any: twins, and constant units."""
    found = []
    if values.get("twins", 0) > values["copies"]:
        found.append(
            f"{values['twins']} have values that follow another unit's on this batch "
            "(twins), of which symlab.mirror.compress merges those whose incoming "
            "weights agree"
        )
    if values.get("silent", 0) > values["dead"]:
        found.append(
            f"{values['silent']} have one value on all of this batch (silent), which "
            "symlab.mirror.compress removes if no other input changes it"
        )
    return found
