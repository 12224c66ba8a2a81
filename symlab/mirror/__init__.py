"""Mirror symmetries of a loss: find them, impose them, remove them."""

from symlab.mirror.audit import audit
from symlab.mirror.compress import compress
from symlab.mirror.dcs import DCS, critical_decay, decay_groups, differences
from symlab.mirror.hessian import blocks
from symlab.mirror.match import Match, match
from symlab.mirror.merge import barrier, merge, reset_statistics
from symlab.mirror.monitor import Monitor
from symlab.mirror.symmetry import (
    MirrorSymmetry,
    hidden,
    permutation,
    rescaling,
    sign_flip,
)
from symlab.mirror.syre import remove_symmetries

__all__ = [
    "DCS",
    "Match",
    "MirrorSymmetry",
    "Monitor",
    "audit",
    "barrier",
    "blocks",
    "compress",
    "critical_decay",
    "decay_groups",
    "differences",
    "hidden",
    "match",
    "merge",
    "permutation",
    "remove_symmetries",
    "rescaling",
    "reset_statistics",
    "sign_flip",
]
