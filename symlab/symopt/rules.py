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
    """Return x (..., m, n) less its mean row.

    The result does not change when one vector is added to all rows (a shift).
    """
    return x - x.mean(-2, keepdim=True)


def row_norm(x: Tensor, *, centred: bool = False, floor: float = 0.0) -> Tensor:
    """Return x (..., m, n) with each row divided by its length.

    It is equivariant under permutations of rows and rotations of columns. floor: rows
    are divided by (|x_i|^2 + floor^2 mean|x|^2)^(1/2) instead, so that rows whose last
    gradient is long ago fade instead of moving on at full size. centred: whether the
    mean row is subtracted before and after, as in Lau & Su (arXiv 2605.18106), so that
    adding one vector to all rows changes nothing; `centred_row_norm` is the exact form.
    """
    _check_matrix(x)
    x = centre(_scaled(x)) if centred else x  # scaled: a mean must not overflow
    y = _by_rows(x, row_factor(row_lengths(x), floor))
    return centre(y) if centred else y


def row_factor(lengths: Tensor, floor: float = 0.0) -> Tensor:
    """Return the numbers (..., m, 1) by which `row_norm` multiplies rows of these
    lengths.

    lengths (..., m, 1). floor: as in `row_norm`.
    """
    if not 0 <= floor < inf:
        raise ValueError(f"floor must be 0 or more, not {floor}")
    largest = _safe(lengths.amax(-2, keepdim=True))
    squares = (lengths / largest).square()  # those of 1e-200 underflow, too
    floors = floor**2 * squares.mean(-2, keepdim=True)
    return _inverse(squares + floors) / largest


def row_lengths(x: Tensor) -> Tensor:
    """Return the length of each row of x, (..., m, 1) in float64, without over- or
    underflow.

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
    """Return x as slices of rows that fit a CPU's cache; on a GPU, or compiled, as one
    slice.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return (x,)
    return x.split(max(1, CACHED * x.shape[-2] // max(1, x.numel())), -2)


def column_norm(x: Tensor, *, floor: float = 0.0) -> Tensor:
    """Return x (..., m, n) with each column divided by its length.

    It is for matrices whose columns are neurons, and equivariant under rotations of
    rows and permutations of columns. floor: as in `row_norm`.
    """
    return row_norm(x.mT, floor=floor).mT


def paired_row_norm(x: Tensor, layout: str = "concatenated", floor: float = 0.0):
    """Return gate and up rows, each pair of one neuron divided by the pair's common
    length.

    x (..., 2r, d): r gate rows, then r up rows ('concatenated'), or both in turn
    ('interleaved'). It is equivariant under permutations of the r pairs and rotations
    of columns. floor: as in `row_norm`.
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
    """Return the update with rows of length at most 1 and sum 0 that follows x most.

    It maximises <x, D> over {max_i |D_i| <= 1, sum_i D_i = 0}. The dual is min_a sum_i
    |x_i - a|, so a is the geometric median of the rows x_i and D_i the unit vector of
    x_i - a. Lengths are smoothed by floor times the mean row length, for which the
    median is unique and rows without gradient do not jump. Weiszfeld's iteration from
    the mean stops where sum D_i is rounding, after at most `steps`. Adding one vector
    to all rows changes nothing. It is ours; Lau & Su (arXiv 2605.18106) centre twice
    instead.
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
    """Return nu^alpha times the polar factor of each matrix of x (..., m, n).

    nu: the nuclear norm of the matrix. alpha = 0 is Muon's direction, alpha = 1
    PolarGrad's, steepest descent under the spectral norm. It is equivariant under
    rotations of rows and of columns. centred: whether the mean row is taken out, so
    that adding one vector to all rows changes nothing. method, options: of `polar`.
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
    """Return the polar factor of x (..., m, n) after each row is divided by its length.

    Lau & Su (arXiv 2605.18106) call it 'hybrid'. It is equivariant under permutations
    of rows and rotations of columns. alpha: the power of the nuclear norm that
    multiplies it. centred: whether adding one vector to all rows changes nothing.
    floor: as in `row_norm`. method, options: of `polar`.
    """
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
    """Return the polar factor of x (..., m, n) with each of its rows divided by its
    length.

    It is equivariant under permutations of rows and rotations of columns. centred:
    whether adding one vector to all rows changes nothing. floor: as in `row_norm`.
    method, options: of `polar`.
    """
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
