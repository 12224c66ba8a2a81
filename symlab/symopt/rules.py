"""Rules: from the momentum of a weight block to its update, as pure functions.

A block of shape (m, n) has m rows; leading dimensions are a stack of blocks (heads,
experts). A rule is equivariant under the group of its block: permuting or rotating the
gradient permutes or rotates the update, and adding one vector to all rows of the
gradient leaves it as it is.

Source: Lau & Su, "symmetry-compatible" optimizers (arXiv 2605.18106); the group of each
rule is in its docstring as (rows) x (columns), P permutations, O rotations, S(hift) of
all rows by one vector.

Every rule is scale free (of degree 0), but for `spectral` with alpha > 0.
Zero gradients have zero updates; inputs are not changed.
"""

from math import inf

import torch
from torch import Tensor

from symlab.symopt.polar import nuclear_norm, polar

CACHED = 2**18  # entries of rows at a time on a CPU
SHORT, LONG = 1e-15, 1e18  # lengths whose squares float32 can sum
LAYOUTS = ("concatenated", "interleaved")


def centre(x: Tensor) -> Tensor:
    """Return x less its mean row: the part that a shift of all rows does not move."""
    return x - x.mean(-2, keepdim=True)


def row_norm(x: Tensor, *, centred: bool = False, floor: float = 0.0) -> Tensor:
    """Each row over its length. P x O; with `centred` P x O and shifts.

    floor: rows are divided by (|x_i|^2 + floor^2 mean|x|^2)^(1/2), so that rows whose
    last gradient is long ago fade instead of moving on at full size. centred is the
    paper's form: centre, normalise, centre again; `centred_row_norm` is the exact one.
    """
    _check_matrix(x)
    x = centre(_scaled(x)) if centred else x  # scaled: a mean must not overflow
    y = _by_rows(x, row_factor(row_lengths(x), floor))
    return centre(y) if centred else y


def row_factor(lengths: Tensor, floor: float = 0.0) -> Tensor:
    """Return `row_norm`'s factors for rows of these lengths (..., m, 1)."""
    if not 0 <= floor < inf:
        raise ValueError(f"floor must be 0 or more, not {floor}")
    largest = _safe(lengths.amax(-2, keepdim=True))
    squares = (lengths / largest).square()  # those of 1e-200 underflow, too
    floors = floor**2 * squares.mean(-2, keepdim=True)
    return _inverse(squares + floors) / largest


def row_lengths(x: Tensor) -> Tensor:
    """Return |x_i| (..., m, 1), of any scale, as float64.

    Squares of half and single precision are summed in float64. A CPU, where that is
    slow, sums them in float32, some rows at a time so that they stay in its cache, and
    only rows too long or too short for float32 again in float64.
    """
    _check_matrix(x)
    if x.dtype == torch.float64:
        largest = _safe(x.abs().amax(-1, keepdim=True))
        return largest * torch.linalg.vector_norm(x / largest, dim=-1, keepdim=True)
    if torch.compiler.is_compiling():  # what it fuses
        return x.double().square().sum(-1, keepdim=True).sqrt()
    if x.device.type != "cpu":
        return torch.linalg.vector_norm(x.double(), dim=-1, keepdim=True)
    found = torch.cat([_length(part.float()) for part in row_parts(x)], -2).double()
    kept = (found > SHORT) & (found < LONG)
    if not kept.all():
        odd = ~kept[..., 0]
        found[odd] = _length(x[odd].double())
    return found


def _length(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def row_parts(x: Tensor) -> tuple[Tensor, ...]:
    """Return slices of rows that fit a CPU's cache; on a GPU or compiled, one slice."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return (x,)
    return x.split(max(1, CACHED * x.shape[-2] // max(1, x.numel())), -2)


def column_norm(x: Tensor, *, floor: float = 0.0) -> Tensor:
    """Each column over its length. O x P: for matrices whose columns are neurons."""
    return row_norm(x.mT, floor=floor).mT


def paired_row_norm(x: Tensor, layout: str = "concatenated", floor: float = 0.0):
    """Gate and up row of one neuron over their common length. P x O, jointly.

    x (..., 2r, d): gates, then ups ('concatenated'), or in turn ('interleaved').
    """
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}: use {' or '.join(LAYOUTS)}")
    if x.shape[-2] % 2:
        raise ValueError(
            f"{x.shape[-2]} rows do not pair: gate and up have equally many"
        )
    *stack, rows, d = x.shape
    if layout == "interleaved":
        return row_norm(x.reshape(*stack, rows // 2, 2 * d), floor=floor).reshape(
            x.shape
        )
    pairs = x.view(*stack, 2, rows // 2, d).transpose(-3, -2)
    pairs = pairs.reshape(*stack, rows // 2, 2 * d)
    y = row_norm(pairs, floor=floor).view(*stack, rows // 2, 2, d)
    return y.transpose(-3, -2).reshape(x.shape)


def centred_row_norm(x: Tensor, floor: float = 1e-3, steps: int = 100) -> Tensor:
    """The centred row-norm that is optimal among shift-free updates. P x O and shifts.

    The linear minimisation oracle of {max_i |D_i| <= 1, sum_i D_i = 0}: its dual is
    min_a sum_i |x_i - a|, so a is the geometric median of the rows and D_i the unit
    vector of x_i - a. Smoothed by floor times the mean row length, for which the median
    is unique and rows without gradient do not jump. Weiszfeld's iteration from the mean
    stops where sum D_i is rounding. Ours; the paper centres twice instead.
    """
    x = _scaled(centre(x))
    size = x.square().sum(-1, keepdim=True).mean(-2, keepdim=True)
    epsilon = floor**2 * size
    a = torch.zeros_like(x[..., :1, :])
    tolerance = 4 * torch.finfo(x.dtype).eps
    for _ in range(steps):
        weight = _inverse((x - a).square().sum(-1, keepdim=True) + epsilon)
        new = (weight * x).sum(-2, keepdim=True) / _safe(weight.sum(-2, keepdim=True))
        moved = (new - a).abs().amax()
        a = new
        if moved <= tolerance:
            break
    return (x - a) * _inverse((x - a).square().sum(-1, keepdim=True) + epsilon)


def spectral(
    x: Tensor,
    *,
    alpha: float = 0.0,
    centred: bool = False,
    method: str = "auto",
    **options,
) -> Tensor:
    """Return the polar factor of each block. O x O; centred: shifts, too.

    alpha: the power of the nuclear norm that multiplies it; 0 is Muon's direction, 1
    PolarGrad's: steepest descent under the spectral norm. options: of `polar`.
    """
    x = centre(x) if centred else x
    y = _powered(x, polar(x, method, **options), alpha)
    return centre(y) if centred else y


def row_then_spectral(
    x: Tensor,
    *,
    centred: bool = False,
    alpha: float = 0.0,
    floor: float = 0.0,
    method: str = "auto",
    **options,
) -> Tensor:
    """The polar factor of the row-normalised block ('hybrid'). P x O; also shifts."""
    y = row_norm(x, centred=centred, floor=floor)
    y = _powered(y, polar(y, method, **options), alpha)
    return centre(y) if centred else y


def spectral_then_row(
    x: Tensor,
    *,
    centred: bool = False,
    floor: float = 0.0,
    method: str = "auto",
    **options,
) -> Tensor:
    """The row-normalised polar factor. P x O; with `centred` also shifts."""
    y = polar(centre(x) if centred else x, method, **options)
    return row_norm(y, centred=centred, floor=floor)


# --- parts ---------------------------------------------------------------------------


def _check_matrix(x: Tensor) -> None:
    if x.ndim < 2:
        raise ValueError(
            f"this rule is for matrices, and this has shape {tuple(x.shape)}: use AdamW"
        )


def _scaled(x: Tensor) -> Tensor:
    """Return x over the largest entry of each block: squares of 1e-30 underflow."""
    _check_matrix(x)
    return x / _safe(x.abs().amax((-2, -1), keepdim=True))


def _by_rows(x: Tensor, factor: Tensor) -> Tensor:
    """x times a float64 number per row, rounded to the dtype of x once."""
    wide = torch.promote_types(x.dtype, torch.float32)
    limit = torch.finfo(wide).max
    return (x * factor.clamp(max=limit).to(wide)).to(x.dtype)


def _inverse(squares: Tensor) -> Tensor:
    """squares^(-1/2), 0 where they are 0."""
    return torch.where(squares > 0, _safe(squares).rsqrt(), 0)


def _safe(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1)


def _powered(x: Tensor, factor: Tensor, alpha: float) -> Tensor:
    return factor * nuclear_norm(x, factor) ** alpha if alpha else factor
