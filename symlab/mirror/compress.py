"""Remove what `audit` finds: the same function, as a smaller ordinary module.

    smaller, report = compress(model, loss, batch)
    print(report)

Units that do nothing are removed, units that compute the same function are merged, and
products that have lost rank are cut (`moves`, `heads`). Every reduction is done to
a copy (`surgery`), whose outputs on the batch are compared in float64; one that does
not reproduce them is undone, and the report says so (`search`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from symlab.mirror.private import copied
from symlab.mirror.search import Search
from symlab.mirror.state import DEAD, state
from symlab.mirror.units import Index
from symlab.mirror.verify import outputs

KINDS = ("dead", "constant", "silent", "merged", "cut", "heads", "approximated")


@dataclass(frozen=True)
class Report:
    """What `compress` did to a model.

    table: one row for each hidden index with a symmetry: units before and after; how
        many went as dead, constant, silent, merged, cut, heads and approximated; and
        why others stay.
    parameters: (before, after), their number.
    flops: (before, after), for one call of the loss on the batch by torch's counter; a
        multiply-add is two.
    change: the largest difference of an output on the batch, relative to the largest
        output, or that of the loss if larger.
    """

    table: pd.DataFrame
    parameters: tuple[int, int]
    flops: tuple[int, int]
    change: float
    tolerance: float

    def __str__(self) -> str:
        lines = [_ratio("parameters", self.parameters), _ratio("flops", self.flops)]
        lines.append(f"outputs change by {self.change:.1e} of the largest")
        unknown = 0
        for row in self.table.itertuples():
            done = [f"{getattr(row, k)} {k}" for k in KINDS if getattr(row, k)]
            named = f"{_short(row.parameters)}: {row.before}"
            if done:
                lines.append(f"{named} -> {row.after} ({', '.join(done)})")
            elif row.note.startswith("unknown"):
                unknown += 1
                continue
            elif row.note:
                lines.append(f"{named} units")
            lines += [f"  {row.note}"] if row.note else []
        if len(lines) == 3:
            lines.append("nothing to remove")
        if unknown:
            lines.append(
                f"unknown indices, left as they are: {unknown} (see the table)"
            )
        return "\n".join(lines)


def _ratio(name: str, sizes: tuple[int, int]) -> str:
    a, b = sizes
    return f"{name} {a:,} -> {b:,} ({b / max(a, 1):.1%})"


def _short(text: str, most: int = 3) -> str:
    parts = text.split(", ")
    more = f" and {len(parts) - most} more" if len(parts) > most else ""
    return ", ".join(parts[:most]) + more


def compress(
    model: nn.Module,
    loss: Callable[[nn.Module, object], Tensor],
    batch,
    tolerance: float = 0.0,
    silent: bool = False,
) -> tuple[nn.Module, Report]:
    """Return a smaller module with the same outputs, and a report.

    With tolerance 0 the outputs are the same for every input, up to rounding. With a
    tolerance they are held on this batch alone, and those of other inputs may move by
    several times as much.

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
    if not (isinstance(tolerance, int | float) and 0 <= tolerance < float("inf")):
        raise ValueError(f"tolerance must be a number from 0 up, not {tolerance!r}")
    try:
        search = Search(model, loss, batch, silent)
    except RuntimeError as error:
        if "functorch" not in str(error):  # which is how torch words its own
            raise
        raise ValueError(
            "compress compares what the model returns, which cannot be read inside of "
            "torch.vmap or another transform of torch.func: write the loss with a call "
            "of the model on the whole batch"
        ) from None
    search.exact()
    if tolerance:
        search.approximate(tolerance)
    new, change = search.build(search.draft), search.change(search.draft)[0]
    sizes = tuple(sum(p.numel() for p in m.parameters()) for m in (model, new))
    flops = tuple(_flops(m, loss, batch) for m in (model, new))
    return new, Report(_table(search), sizes, flops, change, tolerance)


def _flops(model: nn.Module, loss, batch) -> int:
    with FlopCounterMode(display=False) as counter:
        outputs(copied(model), loss, batch)  # a copy: batch norm counts its calls
    return counter.get_total_flops()


def _table(search: Search) -> pd.DataFrame:
    """One row for each index with a symmetry, in the order of `indices`."""
    tensors = {n: p.detach() for n, p in search.model.named_parameters()}
    rows = []
    for n, index in enumerate(search.found):
        if index.symmetry == "none" or not index.parts[0].shape:
            continue
        alive = search.draft.alive(index)
        after = int(alive.sum())
        row = {"parameters": index.text(), "symmetry": index.symmetry}
        row |= {"before": index.units, "after": after}
        row |= dict.fromkeys(KINDS, 0) | search.counts.get(n, {})
        texts = [_note(search, n, index), _near(state(index, tensors, DEAD), alive)]
        rows.append(row | {"note": "; ".join(filter(None, texts))})
    columns = ["parameters", "symmetry", "before", "after", *KINDS, "note"]
    return pd.DataFrame(rows, columns=columns)


def _near(values: dict, alive: Tensor) -> str:
    """How many units stay that `audit` counts as dead or as copies, beyond the one that
    a layer must have; '' if none.

    values: the measures of `audit`. alive: (H,) booleans, the units that stay.
    """
    near = int(alive[values.get("dead_units", [])].sum())
    for copies in values.get("copy_groups", []):
        near += max(int(alive[copies].sum()) - 1, 0)
    near = min(near, int(alive.sum()) - 1)
    return f"{near} stay: near a mirror, not on it (see tolerance=)" * bool(near)


def _note(search: Search, number: int, index: Index) -> str:
    """Why units stay that could go, '' where there is nothing to say."""
    reasons = search.notes.get(number, {})
    texts = [f"{units} stay: {why}" if units else why for why, units in reasons.items()]
    if not texts and index.unknown and number not in search.open_heads:
        texts = [f"unknown: {index.unknown}"]
    return "; ".join(texts)
