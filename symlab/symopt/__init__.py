"""Updates that are equivariant under the symmetry group of each weight block.

Pure parts so far: polar factors, rules from momentum to update, and the groups that say
which rule fits which block. Source: Lau & Su, arXiv 2605.18106.
"""

from symlab.symopt.groups import Action, columns, equivariance_error, rows
from symlab.symopt.polar import nuclear_norm, polar
from symlab.symopt.rules import (
    centre,
    centred_row_norm,
    column_norm,
    paired_row_norm,
    row_norm,
    row_then_spectral,
    scale,
    spectral,
    spectral_then_row,
)

__all__ = [
    "Action",
    "centre",
    "centred_row_norm",
    "column_norm",
    "columns",
    "equivariance_error",
    "nuclear_norm",
    "paired_row_norm",
    "polar",
    "row_norm",
    "row_then_spectral",
    "rows",
    "scale",
    "spectral",
    "spectral_then_row",
]
