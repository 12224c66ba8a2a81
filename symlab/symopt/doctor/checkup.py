"""Find errors in a training set-up, in a few training steps that are then undone.

    check(model, optimizer, batch)                      a Hugging Face batch with labels
    check(model, [muon, adamw], batch, loss, clip=1.0)  loss(model, batch) is a scalar

A `Trial` takes the steps, and each function of `findings` looks for one cause in what
it recorded. A parameter is named under the first cause that fits it, so that one cause
is one row: correct what is found and check again.
"""

from collections.abc import Callable

from torch import Tensor, nn

from symlab.symopt.doctor import findings
from symlab.symopt.doctor.as_found import as_found
from symlab.symopt.doctor.findings import Row, rows_of, span
from symlab.symopt.doctor.trial import Trial, Weight
from symlab.symopt.roles import unwrapped

COLUMNS = ["severity", "finding", "parameters", "count", "measured", "what_to_do"]
SEVERITIES = ("error", "warning", "note")
FINDINGS = (
    findings.not_finite,
    findings.of_another_model,
    findings.in_no_group,
    findings.listed_twice,
    findings.split_ties,
    findings.sparse,
    findings.no_rate,
    findings.equal_experts,
    findings.no_gradient,
    findings.rounded_away,
    findings.unmoved,
    findings.matrix_rule_on_a_table,
    findings.fused_as_one,
    findings.heads_not_apart,
    findings.in_a_sum,
    findings.off_by_width,
    findings.decayed_vectors,
    findings.idle_experts,
)


def check(model: nn.Module, optimizer, batch, loss=None, *, steps=3, clip=None):
    """Return a DataFrame with one row per error found in a training set-up; empty if
    none.

    optimizer: a torch optimizer or a list of them, which are stepped in turn.
    batch: the input of the model: a tensor, a tuple of positional or a dict of keyword
        arguments.
    loss: a function (model, batch) -> scalar, whose batch may be anything; by default
        the output's `loss`, or the output itself if that is a scalar.
    steps: the number of training steps.
    clip: the max_norm to which the training loop clips gradients; None for no clipping.

    The columns are severity (error, warning or note), finding, parameters (the first
    names of many), count (their number), measured (numbers with units) and what_to_do.
    The model, the optimizers, gradients, random numbers and modes are restored, also
    after an exception; hooks run as in training. The check needs memory for two copies
    of the weights and one of the optimizers' state. If lr is 0 and a scheduler is
    attached, the steps are taken with `initial_lr`.

    Raises ValueError if there is no scalar loss, and for sharded parameters.
    """
    import pandas as pd

    if steps < 1:
        raise ValueError(f"steps = {steps} takes no step: use 1 or more")
    many = isinstance(optimizer, list | tuple)
    optimizers = list(optimizer) if many else [optimizer]
    present = [n for n, p in unwrapped(model).named_parameters() if _has_gradient(p)]
    with as_found(model, optimizers) as start:
        trial = Trial(model, optimizers, clip)
        trial.look(batch, loss)
        trial.train(lambda: _loss(model, batch, loss), steps)
        trial.compare(start)
    rows, named = [], set()
    for find in FINDINGS:
        found = find(trial, [w for w in trial.weights if w not in named])
        rows += found
        named |= {w for row in found for w in row.weights}
    rows += _of_the_call(trial, [w for w in trial.weights if w.name in present])
    rows.sort(key=lambda row: SEVERITIES.index(row.severity))
    return pd.DataFrame([row.cells() for row in rows], columns=COLUMNS)


def _has_gradient(p: Tensor) -> bool:
    if p.grad is None:
        return False
    g = p.grad.coalesce().values() if p.grad.is_sparse else p.grad
    return bool(g.any())


def _loss(model: nn.Module, batch, loss: Callable | None) -> Tensor:
    """Return the scalar loss of one call."""
    if loss is not None:
        value = loss(model, batch)
    elif hasattr(batch, "items"):
        value = model(**batch)
    else:
        value = model(*batch) if isinstance(batch, tuple | list) else model(batch)
    value = value.get("loss") if isinstance(value, dict) else value
    value = getattr(value, "loss", value)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ValueError(
            "there is no scalar loss to differentiate: give loss=, a function of "
            "(model, batch), or a batch with labels"
        )
    if not value.requires_grad:
        raise ValueError("the loss does not depend on any parameter that is trained")
    return value.squeeze()


def _of_the_call(trial: Trial, present: list[Weight]) -> list[Row]:
    """Return rows on the call itself; other rows may name the same parameters."""
    free = [w for w in trial.weights if w.is_normalised] if trial.norms else []
    rows = rows_of(
        "warning",
        "clipping does not limit these updates",
        free,
        f"gradient norm {span(trial.norms or [0.0])}, max_norm {trial.clip:g}"
        if trial.norms
        else "",
        "Lower the learning rate to limit the step instead: these updates are as large "
        "whatever the gradient's size, and clipping only changes how much each step "
        "weighs in the momentum.",
    )
    rows += rows_of(
        "note",
        "gradients were there before the first step",
        present,
        "gradients that are not zero when check was called",
        "Call zero_grad() before the next backward pass, which adds to these gradients "
        "otherwise.",
    )
    if trial.unseen:
        why = "The checks that need roles were left out: look at `roles(model, batch)`."
        rows.append(Row("note", "roles are unknown", [], trial.unseen, why))
    return rows
