"""An optimizer whose updates are equivariant under the symmetry group of each weight.

    describe(model)            the role, group and rule of each parameter
    SymOpt(model, lr=1e-3)     a torch optimizer with these rules
    param_groups(model)        the same by names, for SymOpt(other, groups=...)
    check(model, optimizer, batch)   errors in a training set-up, for any optimizer

The package also has the parts: rules from momentum to update, polar factors, measures
of equivariance, and the update maps of related optimizers. Source: Lau & Su, arXiv
2605.18106.
"""

from symlab.symopt.checks import NotFinite
from symlab.symopt.doctor import check
from symlab.symopt.groups import Action, columns, equivariance_error, rows
from symlab.symopt.optimizer import SymOpt
from symlab.symopt.polar import nuclear_norm, polar
from symlab.symopt.presets import PRESETS, describe, param_groups
from symlab.symopt.registry import RULES
from symlab.symopt.roles import roles
from symlab.symopt.rule import Rule, size
from symlab.symopt.rules import (
    centre,
    centred_row_norm,
    column_norm,
    paired_row_norm,
    row_norm,
    row_then_spectral,
    spectral,
    spectral_then_row,
)

__all__ = [
    "PRESETS",
    "RULES",
    "Action",
    "NotFinite",
    "Rule",
    "SymOpt",
    "centre",
    "centred_row_norm",
    "check",
    "column_norm",
    "columns",
    "describe",
    "equivariance_error",
    "nuclear_norm",
    "param_groups",
    "paired_row_norm",
    "polar",
    "roles",
    "row_norm",
    "row_then_spectral",
    "rows",
    "size",
    "spectral",
    "spectral_then_row",
]
