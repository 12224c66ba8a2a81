"""Update rules as pure functions, from the momentum of a weight to its update.

A weight of shape (m, n) has m rows; leading dimensions are a stack of weights (heads,
experts). A rule is equivariant under the symmetry group of its weight: permuting or
rotating the gradient permutes or rotates the update, and adding one vector to all rows
of the gradient leaves the update unchanged if shifts belong to the group.

Source: Lau & Su, "symmetry-compatible" optimizers (arXiv 2605.18106). Each docstring
names the group of its rule.

Every rule is independent of the scale of the gradient, except `spectral` with
alpha > 0. Zero gradients have zero updates; inputs are not changed.
"""

from math import inf

import torch
from torch import Tensor

from symlab.symopt.polar import nuclear_norm, polar

CACHED = 2**18  # entries of rows at a time on a CPU
SHORT, LONG = 1e-15, 1e18  # lengths whose squares float32 can sum
LAYOUTS = ("concatenated", "interleaved")


def centre(x: Tensor) -> Tensor:
    """Return x (..., m, n) minus its mean row.

    The result does not change when one vector is added to all rows (a shift).
    """
    return x - x.mean(-2, keepdim=True)


def row_norm(x: Tensor, *, centred: bool = False, floor: float = 0.0) -> Tensor:
    """Return x (..., m, n) with each row divided by its length.

    centred: whether the mean row is subtracted before and after, as in Lau & Su (arXiv
        2605.18106), so that adding one vector to all rows changes nothing;
        `centred_row_norm` is the exact form.
    floor: rows are divided by (|x_i|^2 + floor^2 mean|x|^2)^(1/2) instead of |x_i|, so
        that rows whose momentum has decayed have small updates and not full ones.

    It is equivariant under permutations of rows and rotations of columns.
    """
    _check_matrix(x)
    x = centre(_scaled(x)) if centred else x  # scaled: a mean must not overflow
    y = _by_rows(x, row_factor(row_lengths(x), floor))
    return centre(y) if centred else y


def row_factor(lengths: Tensor, floor: float = 0.0) -> Tensor:
    """Return the numbers (..., m, 1) by which `row_norm` multiplies rows.

    lengths: (..., m, 1), the lengths of the rows. floor: as in `row_norm`.

    Raises ValueError for a floor that is negative or not finite.
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

    Squares of half and single precision are summed in float64. On a CPU, where that is
    slow, they are summed in float32, for blocks of rows that fit its cache, and only
    rows that are too long or too short for float32 are summed again in float64.
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
    """Return x as slices of rows that fit a CPU's cache; as one slice on a GPU or
    compiled.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return (x,)
    return x.split(max(1, CACHED * x.shape[-2] // max(1, x.numel())), -2)


def column_norm(x: Tensor, *, floor: float = 0.0) -> Tensor:
    """Return x (..., m, n) with each column divided by its length.

    It is for matrices whose columns are neurons, and is equivariant under rotations of
    rows and permutations of columns.

    floor: as in `row_norm`.
    """
    return row_norm(x.mT, floor=floor).mT


def paired_row_norm(x: Tensor, layout: str = "concatenated", floor: float = 0.0):
    """Return gate and up rows, the two rows of each neuron divided by their common
    length.

    x: (..., 2r, d), r gate rows, then r up rows (layout 'concatenated'), or gate and up
        rows alternating ('interleaved').
    floor: as in `row_norm`.

    It is equivariant under permutations of the r pairs and rotations of columns. Raises
    ValueError for an odd number of rows and an unknown layout.
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
    """Return the update D with rows of length at most 1 and sum 0 that maximises <x,
    D>.

    x: (..., m, n), the momentum.
    floor: smoothing of the lengths, relative to the root-mean-square length of the
        centred rows. With it the median below is unique, and rows without gradient do
        not jump.
    steps: the largest number of iterations.

    The dual problem is min_a sum_i |x_i - a|, so a is the geometric median of the rows
    x_i, and D_i is the unit vector of x_i - a. Weiszfeld's iteration from the mean
    stops at convergence to rounding. Adding one vector to all rows changes nothing. The
    rule is ours; Lau & Su (arXiv 2605.18106) centre twice instead.
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

    alpha: the power of nu, the nuclear norm of the matrix. alpha = 0 is Muon's
        direction, alpha = 1 PolarGrad's, steepest descent under the spectral norm.
    centred: whether the mean row is subtracted before and after, so that adding one
        vector to all rows changes nothing.
    method, options: of `polar`.

    It is equivariant under rotations of rows and of columns.
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

    centred: whether adding one vector to all rows changes nothing.
    alpha: the power of the nuclear norm by which it is multiplied.
    floor: as in `row_norm`. method, options: of `polar`.

    Lau & Su (arXiv 2605.18106) call it 'hybrid'. It is equivariant under permutations
    of rows and rotations of columns.
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

    centred: whether adding one vector to all rows changes nothing.
    floor: as in `row_norm`. method, options: of `polar`.

    It is equivariant under permutations of rows and rotations of columns.
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
