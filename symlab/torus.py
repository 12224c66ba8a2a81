"""Linear maps between functions on a torus, and the parts that violate its symmetries.

A torus has k_1 x k_2 x ... places, and for each axis a cyclic group of k_a shifts acts
on its functions (D,), D = k_1 k_2 ..., in row-major order. A map (..., D, D) is
equivariant to a group if a shift of its input shifts its output. The projections onto
the maps that are equivariant to each group commute, so every map is a sum of orthogonal
parts, each of which violates one set of these symmetries. Shapes are tuples (k_1, k_2,
...).
"""

import numpy as np


def violating(w, shape: tuple[int, ...], axis: int):
    """Return the part (..., D, D) of linear maps that violates shifts along one axis.

    w: maps (..., D, D) between functions on a torus of this shape, D its number of
        places; arrays of NumPy or tensors of torch, through which gradients flow.

    The part is w minus its mean over simultaneous shifts of input and output.
    """
    rank = len(shape)
    places = w.reshape(*w.shape[:-2], *shape, *shape)
    roll = np.roll if isinstance(w, np.ndarray) else type(w).roll
    axes = (axis - 2 * rank, axis - rank)
    moved = sum(roll(places, (s, s), axes) for s in range(1, shape[axis]))
    return (places - (places + moved) / shape[axis]).reshape(w.shape)


def symmetric(w, shape: tuple[int, ...], axes=None):
    """Return the part (..., D, D) of maps w that is equivariant to shifts along some
    axes.

    w: (..., D, D), linear maps between functions on a torus with D places.
    shape: the shape of the torus.
    axes: the axes of the shifts; None for all.
    """
    for axis in range(len(shape)) if axes is None else axes:
        w = w - violating(w, shape, axis)
    return w


def violating_only(w, shape: tuple[int, ...], axis: int):
    """Return the part of maps w (..., D, D) that violates shifts along one axis only.

    shape: the shape of the torus, with D places. The part is equivariant to shifts
        along all other axes.
    """
    others = [other for other in range(len(shape)) if other != axis]
    return violating(symmetric(w, shape, others), shape, axis)


def dimension(shape: tuple[int, ...], axis: int) -> int:
    """Return the dimension of the linear maps that violate shifts along one axis only.

    shape: the shape of the torus on whose functions the maps act.
    axis: the axis of the shifts that are violated.

    A map has k^2 pairs of input and output places along an axis of length k. A
    k-dimensional subspace of these is invariant under shifts along the axis; the other
    k^2 - k dimensions violate them.
    """
    k = shape[axis]
    return (k * k - k) * int(np.prod(shape)) // k


def projectors(shape: tuple[int, ...]) -> np.ndarray:
    """Return for each axis of a torus the projector onto the part that violates its
    shifts.

    The projector acts on maps (D, D) that are flattened row by row. The result is
    (axes, D^2, D^2).
    """
    d = int(np.prod(shape))
    units = np.eye(d * d).reshape(-1, d, d)
    return np.stack(
        [violating(units, shape, a).reshape(d * d, -1).T for a in range(len(shape))]
    )


def ridge(x, y, penalties, projectors) -> np.ndarray:
    """Return the map W (D, D) of least squares with a penalty on each broken symmetry.

    x, y: inputs X and targets Y, (n, D).
    penalties: (groups,), one for the shifts along each axis.
    projectors: (groups, D^2, D^2), 1 - P_g, as the function `projectors` returns them.

    W minimises |Y - X W^T|^2/(2 n) + sum_g penalties_g |(1 - P_g) W|^2/2, in closed
    form; P_g W is the part of W that is equivariant to shifts along axis g of a torus.
    """
    n, d = x.shape
    system = np.kron(np.eye(d), x.T @ x / n)  # acts on the rows of W
    system += np.tensordot(penalties, projectors, 1)
    return np.linalg.solve(system, (y.T @ x / n).ravel()).reshape(d, d)


def best_penalties(shape, eps, n: int, noise: float, most: float = 1e6) -> np.ndarray:
    """Return the penalties (..., axes) of `ridge` that give the least expected error.

    shape: the shape of the torus, with D places.
    eps: (..., axes), norms of the parts of the target map that violate shifts along one
        axis only, divided by sqrt(D).
    n: the number of samples, whose inputs have unit variance.
    noise: the standard deviation of the noise on the targets.
    most: the largest penalty.

    A part of norm eps sqrt(D) has the mean square tau^2 = D eps^2/dimension per weight,
    and its best penalty is noise^2/(n tau^2).
    """
    eps, dims = np.asarray(eps), [dimension(shape, a) for a in range(len(shape))]
    with np.errstate(divide="ignore"):
        best = noise**2 * np.array(dims) / (n * int(np.prod(shape)) * eps**2)
    return np.minimum(best, most)
