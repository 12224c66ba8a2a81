"""`audit` and `compress` as the package offers them, and what they leave unsaid.

The table of `symlab.mirror.audit` counts units that are near a mirror. `compress`
removes more than these, and the notes of the table say so here. And where `compress`
cannot compare outputs, it says why.
"""

from functools import wraps

import pandas as pd

from symlab.mirror.audit import audit as counted
from symlab.mirror.compress import compress as compressed

IDLE = "no unit is near a mirror: nothing to do"


@wraps(counted)
def audit(*args, **kwargs):  # noqa: D103 - the docstring is that of `counted`
    table = counted(*args, **kwargs)
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
            f"{row.silent} have one value on all of this batch (silent), of which "
            "symlab.mirror.compress removes those that have it for every input"
        )
    if not more:
        return row.note
    first = "no unit is near a mirror" if row.note == IDLE else row.note
    return "; ".join([first, *more])


@wraps(compressed)
def compress(*args, **kwargs):  # noqa: D103 - the docstring is that of `compressed`
    try:
        return compressed(*args, **kwargs)
    except RuntimeError as error:  # of torch's own
        if "functorch" not in str(error) and "vmap" not in str(error):
            raise
        raise ValueError(
            "compress compares what the model returns, which cannot be read inside of "
            "torch.vmap or another transform of torch.func: write the loss with a call "
            "of the model on the whole batch"
        ) from None
