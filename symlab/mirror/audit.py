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

    It is `symlab.mirror.audit`, whose docstring explains arguments, columns and errors,
    without what that adds to the notes.
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
        'copies'.
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
            f"{lost} of {width} dimensions are unused: a width of {index.units - lost} "
            "gives the same function (symlab.mirror.compress); to keep them, "
            "symlab.mirror.remove_symmetries or less weight decay"
        )
    gone, copies = values.get("dead", 0), values.get("copies", 0)
    if not gone and not copies:
        return "no unit is near a mirror: nothing to do"
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
        f"{what}; symlab.mirror.compress removes the others; to keep units apart, "
        "symlab.mirror.remove_symmetries or less weight decay"
    )
