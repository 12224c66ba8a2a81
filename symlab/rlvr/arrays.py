"""Helpers for formulas that accept numpy arrays and torch tensors.

torch is never imported here; it is used only if it has been imported already.
"""

import sys

import numpy as np

RATIONAL = "fiubO"  # kinds of numpy arrays that may hold real numbers


def namespace(*values):
    """Return the module torch if one of the values is a torch tensor, else numpy."""
    torch = sys.modules.get("torch")
    if torch is not None and any(isinstance(v, torch.Tensor) for v in values):
        return torch
    return np


def floating(x):
    """Return x in at least single precision, and the dtype that results should have.

    x: a numpy array or torch tensor. Integers and booleans become float64 (numpy) or
        torch's default dtype; half precision is converted to float32, and its own dtype
        is the one returned.

    Raises ValueError if x is not an array of real numbers.
    """
    xp = namespace(x)
    if xp is np:
        x = _array(x)
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        return x.astype(np.promote_types(dtype, np.float32), copy=False), dtype
    if x.is_complex():
        raise ValueError(f"an array of {x.dtype} is given: give real numbers")
    dtype = x.dtype if x.is_floating_point() else xp.get_default_dtype()
    return x.to(xp.promote_types(dtype, xp.float32)), dtype


def _array(x):
    try:
        x = np.asarray(x)
    except ValueError as error:
        raise ValueError(
            "rows of unequal lengths are no array: give them flat, with their labels, "
            "to grouped_advantages"
        ) from error
    if x.dtype.kind not in RATIONAL:
        raise ValueError(f"an array of {x.dtype} is given: give real numbers")
    return x


def checked_finite(r) -> None:
    """Raise ValueError unless rewards r are finite, and small enough to be summed."""
    xp = namespace(r)
    finite = xp.isfinite(r)
    if not finite.all():
        raise ValueError(f"{int((~finite).sum())} rewards are not finite: mend them")
    limit = xp.finfo(r.dtype).max / (4 * r.shape[-1])
    if (abs(r) > limit).any():
        raise ValueError(
            f"rewards of size {float(abs(r).max()):.3g} overflow {r.dtype} in sums: "
            "divide them by a constant"
        )


def cast(x, dtype):
    """Return the numpy array or torch tensor x converted to another dtype."""
    return x.astype(dtype, copy=False) if namespace(x) is np else x.to(dtype)


def like(value, x):
    """Return a value as an array of the same kind, dtype and device as x.

    value: a number or array. x: a numpy array or a torch tensor.
    """
    xp = namespace(x)
    if xp is np:
        return np.asarray(value, dtype=x.dtype)
    return xp.as_tensor(value, dtype=x.dtype, device=x.device)
