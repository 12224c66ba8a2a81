"""`audit` and `compress` as the package offers them, and what they leave unsaid.

The table of `symlab.mirror.audit` counts units that are near a mirror. `compress`
removes more than these, and the notes of the table say so here. And where `compress`
cannot compare outputs, it says why.
"""

from collections.abc import Callable

import pandas as pd
from torch import Tensor, nn

from symlab.mirror.audit import audit as counted
from symlab.mirror.compress import Report
from symlab.mirror.compress import compress as compressed
from symlab.mirror.state import DEAD

IDLE = "no unit is near a mirror: nothing to do"


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

    parameters   what carries the index: 'fc.weight:1' is dimension 1 of fc.weight,
                 'qkv.weight:0[0:16]' a part of it
    symmetry     'rotation', 'signed permutation', 'permutation', 'permutation of
                 heads', 'sign flip', 'none' or 'unknown'; with ', rescaling' where
                 each unit may be multiplied in some parts and divided in others
                 ('rescaling' where that is all). A signed permutation exchanges units
                 and may change the sign of each in all its parts (in- and outgoing
                 weights of tanh) or in some (up and down of a gated unit, not its gate)
    units        H, the number of units
    violation    the largest difference between the gradient at an image and the image
                 of the gradient, of one unit in one parameter, relative to its size
    dead         units whose incoming or outgoing weights are below `dead` of those of
                 a typical unit
    copies       live units that equal another one: at a relative distance below `near`
                 (0.1), or below what would be chance where units have few weights
    distinct     clusters of live units (average linkage at the same distance)
    rank         of a rotation: singular values of the product above `dead` of the
                 largest; else `distinct`
    effective_rank  exp of the entropy of the singular values (Roy & Vetterli 2007)
    nearest      median over live units of the distance to their nearest other: 0 on a
                 mirror, about 1 for random units of many weights
    silent       units whose value is the same at every place of the batch
    twins        other units whose values correlate above 0.999 with those of another
    note         what to do about it; for 'none' and 'unknown' the reason
    dead_units, copy_groups  the numbers of the units that the counts speak of

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
    table = counted(model, loss, batch, dead, near)
    table["note"] = [said(row) for row in table.itertuples()]
    return table


def said(row) -> str:
    """Return the note of a row of the table of `audit`, with what `compress` looks for
    beside the units that are near a mirror: twins, and units that are constant.
    """
    if pd.isna(row.units) or pd.isna(row.distinct) or row.symmetry == "rotation":
        return row.note
    if pd.isna(row.twins):
        if row.note != IDLE:
            return row.note
        return (
            "no unit is near a mirror; whether units compute the same function, or a "
            "constant, is not known here: symlab.mirror.compress tries it"
        )
    copies = 0 if pd.isna(row.copies) else row.copies
    more = []
    if row.twins > copies:
        more.append(
            f"{row.twins} have values that follow another unit's on this batch "
            "(twins), of which symlab.mirror.compress merges those whose incoming "
            "weights agree"
        )
    if row.silent > row.dead:
        more.append(
            f"{row.silent} have one value on all of this batch (silent), which "
            "symlab.mirror.compress removes if no other input changes it"
        )
    if not more:
        return row.note
    first = "no unit is near a mirror" if row.note == IDLE else row.note
    return "; ".join([first, *more])


def compress(
    model: nn.Module,
    loss: Callable[[nn.Module, object], Tensor],
    batch,
    tolerance: float = 0.0,
    silent: bool = False,
) -> tuple[nn.Module, Report]:
    """Return a smaller module with the same outputs on the batch, and a report.

    With tolerance 0 the outputs are the same for every input; with a tolerance they are
    held on this batch alone, and others may move by several times as much.

    The module is a deep copy of the model, of its dtype, with sliced tensors and sizes
    that fit: it can be trained, saved, copied and moved. The model is not changed.
    Tied parameters stay tied.

    model, loss, batch: as for `audit`.
    tolerance: 0 for reductions that leave the function as it is: outputs change by less
    than 1e-6 of the largest output, in float64 (float16 and bfloat16: by less than
    their spacing at one; 1e-5 where the model's code makes float32 of float64). Above
    0, units are also removed or merged one by one, the least change first, while
    |new - old| <= tolerance * max |old| for every output tensor of the batch and
    |new - old| <= tolerance * max(|old|, 1) for the loss. This holds on the batch
    alone: give one of many samples, several times as many as there are units, and
    compare old and new on others. A round calls the loss once for each unit; attention
    heads and streams with norms are not approximated.
    silent: also remove units whose value is the same at every place of this batch,
    although other inputs may wake them.

    Raises ValueError where `tolerance` is negative, where the model is called inside of
    a transform of torch.func such as vmap, and where `audit` does.
    """
    try:
        return compressed(model, loss, batch, tolerance, silent)
    except RuntimeError as error:  # of torch's own
        if "functorch" not in str(error):
            raise
        raise ValueError(
            "compress compares what the model returns, which cannot be read inside of "
            "torch.vmap or another transform of torch.func: write the loss with a call "
            "of the model on the whole batch"
        ) from None
