"""The findings of `checkup.check`: one function per cause of error in a training
set-up.

Each takes the `Trial` and those of its parameters (`Weight`s) that no earlier finding
has named, and returns one `Row` per finding. `checkup.FINDINGS` has their order, the
most specific first.
"""

from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from symlab.symopt.doctor.trial import Trial, Weight, parted_ties
from symlab.symopt.roles import IN_A_SUM, MIXED, unwrapped

ADAM_SIZE = 0.2  # root mean square of AdamW's updates over lr, arXiv 2502.16982
FACTOR = 4.0  # sizes of updates that differ by less are not reported
SHARED_LR = 2.0  # rates within this factor are taken for one rate
LOST = 0.5  # the fraction of updates that rounding may remove
TABLES = ("embedding", "tied embedding", "head")
FUSED = ("qkv", "gate_up")


class Row(NamedTuple):
    """One finding of a check of a training set-up, as a row of its table.

    severity: 'error', 'warning' or 'note'. finding: what is wrong.
    weights: the parameters concerned.
    measured: numbers as text, or a function that makes this text from the weights.
    advice: what to do.
    """

    severity: str
    finding: str
    weights: list[Weight]
    measured: str | Callable
    advice: str

    def cells(self) -> tuple:
        """Return the row as (severity, finding, names, number of names, measured,
        advice).
        """
        names = [w.name for w in self.weights]
        said = ", ".join(names)
        if len(names) > 3:
            said = f"{names[0]}, {names[1]} and {len(names) - 2} more"
        measured = self.measured
        measured = measured if isinstance(measured, str) else measured(self.weights)
        return self.severity, self.finding, said, len(names), measured, self.advice


def rows_of(*cells) -> list[Row]:
    """Return [Row(*cells)], or [] if the row would name no parameter."""
    row = Row(*cells)
    return [row] if row.weights else []


# --- numbers that are not finite -----------------------------------------------------


def not_finite(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return a finding if the loss or some gradients of the trial steps are not finite.

    trial: the steps that were taken. weights: the parameters that no earlier finding
    has named.
    """
    when = f"at step {trial.steps + 1}"
    if trial.failed is not None:
        return [
            Row(
                "error",
                "loss is not finite",
                [],
                f"a loss of {trial.failed} {when}",
                "Look for the cause in the forward pass: the batch, the weights, a "
                "logarithm or a division, or a learning rate that is too large where "
                "earlier steps were finite.",
            )
        ]
    return rows_of(
        "error",
        "gradient is not finite",
        [w for w in weights if not w.finite],
        when,
        "Look for a square root, a norm or a division at 0 in what uses these "
        "parameters, or for an overflow in half precision.",
    )


# --- which parameters are stepped ----------------------------------------------------


def of_another_model(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return a finding if optimizers have parameters that are not the model's.

    It names the model's parameters of the same shapes that no optimizer has, if any.

    trial: the steps that were taken. weights: the parameters that no earlier finding
    has named.
    """
    strangers = [w for w in trial.others if w.gradient == "none"]
    if not strangers or not trial.steps:
        return []
    shapes = Counter(tuple(w.p.shape) for w in strangers)
    replaced = []
    for w in _orphans(weights):
        if shapes[tuple(w.p.shape)]:
            shapes[tuple(w.p.shape)] -= 1
            replaced.append(w)
    return [
        Row(
            "error" if replaced else "warning",
            "optimizer has parameters that are not the model's",
            replaced or strangers,
            f"{len(strangers)} parameters in groups are not in the model and got no "
            f"gradient; {len(replaced)} of the model have their shapes and no group",
            "Build the optimizer after the model has been built, moved, wrapped or "
            "loaded, from the parameters of the model that is trained.",
        )
    ]


def _orphans(weights: list[Weight]) -> list[Weight]:
    return [w for w in weights if w.p.requires_grad and not w.places]


def in_no_group(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return a finding for trainable parameters that no optimizer has.

    trial: the steps that were taken. weights: the parameters that no earlier finding
    has named.
    """
    total = sum(w.p.numel() for w in trial.weights if w.p.requires_grad)
    return rows_of(
        "error",
        "parameter is in no optimizer",
        _orphans(weights),
        lambda ws: f"{sum(w.p.numel() for w in ws):,} of {total:,} trainable numbers",
        "Add these parameters to a group, or call requires_grad_(False) on them if "
        "they are to stay.",
    )


def listed_twice(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return a finding for parameters that are in several param_groups or optimizers.

    weights: the parameters that no earlier finding has named.
    """
    return rows_of(
        "error",
        "parameter is in several groups",
        [w for w in weights if len(w.places) > 1],
        lambda ws: f"{max(len(w.places) for w in ws)} updates in each step",
        "Leave each parameter in one group of one optimizer; a tied weight is one "
        "parameter under two names, so collect parameters by id, not by name.",
    )


def split_ties(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return findings for weights that should be tied, as one parameter, but are two.

    trial: the steps that were taken. weights: the parameters that no earlier finding
    has named.
    """
    memory = Counter((w.p.device, w.p.data_ptr()) for w in weights if w.p.numel())
    shared = [w for w in weights if memory[(w.p.device, w.p.data_ptr())] > 1]
    rows = rows_of(
        "error",
        "tied weights are split",
        [w for w in shared if w.p.numel() and not w.p.is_meta],
        lambda ws: f"{len(ws)} parameters lie in the same memory",
        "Tie weights by assigning one Parameter to both modules; as two parameters "
        "over one memory they are stepped, and decayed, twice.",
    )
    parted = parted_ties(unwrapped(trial.model)) - {id(w.p) for w in shared}
    return rows + rows_of(
        "error",
        "tied weights are split",
        [w for w in weights if id(w.p) in parted],
        lambda ws: f"the configuration ties {len(ws)} parameters that are distinct",
        "Call model.tie_weights() after the last change to the model and before the "
        "optimizer is built, or say in the configuration that they are not tied.",
    )


# --- gradients and motion ------------------------------------------------------------


def sparse(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return a finding for sparse gradients that the parameter's optimizer does not
    accept.

    weights: the parameters that no earlier finding has named.
    """
    return rows_of(
        "error",
        "gradient is sparse",
        [w for w in weights if w.sparse],
        "a step raises an exception; the check went on with dense gradients",
        "Build the embedding with sparse=False, or give it to torch.optim.SparseAdam.",
    )


def no_rate(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return a finding for parameters whose learning rate is 0.

    weights: the parameters that no earlier finding has named.
    """
    still = [w for w in weights if w.p.requires_grad and w.places and w.lr == 0]
    trained = [w for w in trial.weights if w.p.requires_grad]
    return rows_of(
        "error" if len(still) == len(trained) else "warning",
        "learning rate is 0",
        still,
        "lr = 0, and no scheduler that would raise it",
        "Give their group a learning rate, or call requires_grad_(False) on them if "
        "they are to stay.",
    )


def equal_experts(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return a finding if experts of a mixture are still equal bit for bit after the
    steps.

    trial: the steps that were taken. weights: the parameters that no earlier finding
    has named.
    """
    return rows_of(
        "error",
        "experts are copies of each other",
        [w for w in weights if w.copies],
        lambda ws: f"{ws[0].copies} are equal bit for bit after {trial.steps} steps",
        "Begin experts from different values, add noise to copies, or let the router "
        "weigh them differently: equal experts with equal gradients stay equal.",
    )


def no_gradient(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return findings for trainable parameters without a gradient, or with a zero
    gradient.

    A gradient is zero if all its entries were zero in all trial steps.

    trial: the steps that were taken. weights: the parameters that no earlier finding
    has named.
    """
    if trial.failed is not None:
        return []
    trained = [w for w in weights if w.p.requires_grad and not w.idle]
    steps = f"{max(trial.steps, 1)} backward passes"
    return rows_of(
        "error",
        "parameter gets no gradient",
        [w for w in trained if w.gradient == "none"],
        f"no gradient in {steps}",
        "See whether the loss uses these parameters on this batch, and whether a "
        "detach(), no_grad() or .data cuts them off; freeze them if they are unused.",
    ) + rows_of(
        "warning",
        "gradient is exactly zero",
        [w for w in trained if w.gradient == "zero"],
        f"every entry is 0 in {steps}",
        "See what multiplies these parameters by 0: units that never fire, a gate "
        "that is closed, a softmax over one entry, or a mask that covers the batch.",
    )


def rounded_away(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return a finding for low-precision weights whose updates are mostly lost to
    rounding.

    trial: the steps that were taken. weights: the parameters that no earlier finding
    has named.
    """
    return rows_of(
        "error",
        "updates are lost to rounding",
        [w for w in weights if w.lost > LOST],
        lambda ws: (
            f"{100 * median(w.lost for w in ws):.0f}% of the nonzero updates do not "
            f"change their {_dtypes(ws)} weight at lr {span([w.lr for w in ws])}"
        ),
        "Keep the weights in float32 and compute in half precision under "
        "torch.autocast, raise the learning rate, or use an optimizer with float32 "
        "copies or stochastic rounding.",
    )


def _dtypes(weights: list[Weight]) -> str:
    return "/".join(sorted({str(w.p.dtype).removeprefix("torch.") for w in weights}))


def span(values: list[float]) -> str:
    """Return the least and the largest of some values as text."""
    low, high = min(values), max(values)
    return f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"


def unmoved(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return findings for trainable parameters that do not move, and frozen ones that
    do.

    trial: the steps that were taken. weights: the parameters that no earlier finding
    has named.
    """
    if not trial.steps:
        return []
    listed = [w for w in weights if w.places]
    still = [w for w in listed if w.gradient == "some" and not w.moved]
    return rows_of(
        "error",
        "parameter has a gradient and never moves",
        [w for w in still if w.p.requires_grad],
        f"equal bit for bit after {trial.steps} steps",
        "See whether the optimizer skips these parameters, or something in the forward "
        "pass writes over them.",
    ) + rows_of(
        "note",
        "frozen parameter moves",
        [w for w in listed if not w.p.requires_grad and w.moved],
        lambda ws: f"weight decay {span([_decay(w) for w in ws])} in their groups",
        "Take frozen parameters out of the optimizer's groups, or set their weight "
        "decay to 0.",
    )


def _decay(w: Weight) -> float:
    return float(w.group.get("weight_decay", 0.0))


# --- rules that do not fit -----------------------------------------------------------


def matrix_rule_on_a_table(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return findings for embeddings and output heads whose updates are orthogonalised.

    Such updates are for hidden matrices. There is one finding for each of the two
    roles.

    trial: the steps that were taken. weights: the parameters that no earlier finding
    has named.
    """
    found = [w for w in weights if w.role in TABLES and w.kind == "matrix"]
    rows = []
    for role in TABLES:
        rows += rows_of(
            "warning",
            "embedding or head under a matrix rule",
            [w for w in found if w.role == role and not w.was_chosen()],
            f"role: {role}",
            "Give embeddings and heads to AdamW or to SymOpt's row_norm: their rows "
            "are tokens or classes, which no rotation should mix.",
        )
    return rows


def fused_as_one(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return a finding for fused weights whose update is orthogonalised as one matrix.

    Fused weights hold several projections, such as query, key and value.

    trial: the steps that were taken. weights: the parameters that no earlier finding
    has named.
    """

    def is_whole(w: Weight) -> bool:
        parts = getattr(w.block, "parts", None)
        if "rule" not in w.group:
            return True
        known = parts or w.block.heads > 1 or w.block.layout
        apart = w.group.get("pieces", 1) > 1 or w.group.get("parts")
        return bool(known) and not apart and not w.was_chosen(per_piece=False)

    return rows_of(
        "warning",
        "fused weight is orthogonalised as one",
        [w for w in weights if _is_fused(w) and w.kind == "matrix" and is_whole(w)],
        lambda ws: f"roles: {', '.join(sorted({w.role for w in ws}))}",
        "Use SymOpt(model), which takes queries, keys, values, gates and ups apart, or "
        "split the weight into parameters: together, the larger part sets the update "
        "of the others.",
    )


def _is_fused(w: Weight) -> bool:
    named = w.role in FUSED or "fused" in w.role
    return named or bool(getattr(w.block, "parts", None))


def heads_not_apart(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return a finding for weights whose heads cannot be separated, and are
    orthogonalised as one matrix.

    The rows of their queries, keys or values are interleaved or shared.

    trial: the steps that were taken. weights: the parameters that no earlier finding
        has named.
    """
    return rows_of(
        "warning",
        "heads of a fused weight are not told apart",
        [w for w in weights if _is_mixed(w) and w.kind == "matrix"],
        lambda ws: ws[0].block.note,
        "Order the rows by query, key and value, then by head, as in "
        "view(B, T, 3, heads, width), or make a parameter of each: overrides cannot "
        "name these rows, and one polar factor for all mixes their sizes.",
    )


def _is_mixed(w: Weight) -> bool:
    return w.role == "matrix" and w.block.note.startswith(MIXED.partition("{")[0])


def in_a_sum(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return a finding for matrices in a sum that SymOpt steps by AdamW.

    Such a matrix is added to a constant or another weight before use.

    trial: the steps that were taken. weights: the parameters that no earlier finding
    has named.
    """
    summed = [w for w in weights if w.block and w.block.note == IN_A_SUM]
    return rows_of(
        "note",
        "matrix in a sum gets AdamW",
        [w for w in summed if "rule" in w.group and w.kind == "adam"],
        lambda ws: f"shapes: {', '.join(sorted({str(tuple(w.p.shape)) for w in ws}))}",
        "Its gradient is that of the sum, so that a rule for matrices moves the sum as "
        "it would a weight: give it one by overrides={name: 'spectral'}, with "
        "weight_decay if it shall decay, or leave it to AdamW.",
    )


def off_by_width(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return findings for matrices whose updates have a size that depends on their
    width.

    A warning compares the root mean square of their updates with that of AdamW, if a
    param_group of AdamW has the same lr. A note compares matrices of one optimizer that
    have the same settings.

    trial: the steps that were taken. weights: the parameters that no earlier finding
    has named.
    """
    sized = [w for w in weights if w.size > 0 and w.is_normalised]
    sized = [w for w in sized if not w.was_chosen(scale=w.group.get("scale"))]
    rates = [w.lr for w in trial.weights if w.kind == "adam" and w.lr > 0]
    beside = [w for w in sized if any(_near(w.lr, r, SHARED_LR) for r in rates)]
    beside = [w for w in beside if not _near(w.size, ADAM_SIZE, FACTOR)]
    settings: dict[tuple, list[Weight]] = {}
    for w in sized:
        keys = ("rule", "scale", "radius", "adjust_lr_fn")
        own = (id(w.places[0][0]), *(str(w.group.get(k)) for k in keys))
        settings.setdefault(own, []).append(w)
    spread = []
    for ws in settings.values():
        middle = median(w.size for w in ws)
        spread += [w for w in ws if not _near(w.size, middle, FACTOR)]
    advice = (
        "Use scale='rms' in SymOpt or adjust_lr_fn='match_rms_adamw' in "
        "torch.optim.Muon, which make updates as large as AdamW's at every width"
    )
    return rows_of(
        "warning",
        "update size depends on the width",
        beside,
        lambda ws: f"{_sizes(ws)}; AdamW's at the same lr is about {ADAM_SIZE} lr",
        f"{advice}, or tune a learning rate for the matrices alone.",
    ) + rows_of(
        "note",
        "update size depends on the width",
        [w for w in spread if w not in beside],
        lambda ws: (
            f"{_sizes(ws)}; the median in their optimizer is "
            f"{median(w.size for w in sized):.2g} lr"
        ),
        f"{advice}, unless equal spectral norms are what is wanted.",
    )


def _near(a: float, b: float, factor: float) -> bool:
    return b / factor <= a <= b * factor


def _sizes(ws: list[Weight]) -> str:
    sides = [max(w.p.shape) for w in ws]
    widths = f"{min(sides)} to {max(sides)}" if len(set(sides)) > 1 else f"{sides[0]}"
    return (
        f"root-mean-square updates of {span([w.size for w in ws])} lr at longest "
        f"sides of {widths}"
    )


def decayed_vectors(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return a finding for gains and biases that have a weight decay.

    weights: the parameters that no earlier finding has named.
    """
    vectors = [w for w in weights if w.role in ("gain", "bias") and w.p.ndim < 2]
    return rows_of(
        "note",
        "weight decay on gains or biases",
        [
            w
            for w in vectors
            if _decay(w) > 0 and not w.was_chosen(weight_decay=_decay(w))
        ],
        lambda ws: f"weight decay {span([_decay(w) for w in ws])}",
        "Put gains and biases into a group with weight_decay=0, unless decay towards "
        "0 is wanted for them.",
    )


def idle_experts(trial: Trial, weights: list[Weight]) -> list[Row]:
    """Return a finding for experts of a mixture that no token reached in the trial
    steps.

    trial: the steps that were taken. weights: the parameters that no earlier finding
    has named.
    """
    return rows_of(
        "note",
        "experts get no gradient",
        [w for w in weights if w.idle],
        lambda ws: f"{ws[0].idle} in {trial.steps} steps on this batch",
        "Check with a larger batch; if experts stay idle, balance the router's load.",
    )
