"""Mirror symmetries of a loss: find them, impose them, remove them."""

from symlab.mirror.audit import audit
from symlab.mirror.compress import compress
from symlab.mirror.dcs import DCS, critical_decay, decay_groups, differences
from symlab.mirror.hessian import blocks
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
    "MirrorSymmetry",
    "audit",
    "blocks",
    "compress",
    "critical_decay",
    "decay_groups",
    "differences",
    "hidden",
    "permutation",
    "remove_symmetries",
    "rescaling",
    "sign_flip",
]
