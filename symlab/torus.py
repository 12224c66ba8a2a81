"""Linear maps between functions on a torus, and the parts that violate its symmetries.

A torus has k_1 x k_2 x ... places, and each cyclic group of k_a shifts along one axis
acts on its functions (D,), D = k_1 k_2 ..., row-major. A map (..., D, D) is equivariant
to a group where a shift of its input shifts its output. The projections onto the maps
that are equivariant to each group commute, so that every map is a sum of orthogonal
parts which violate one set of groups each. Shapes are tuples (k_1, k_2, ...).
"""

import numpy as np


def violating(w, shape: tuple[int, ...], axis: int):
    """The part (..., D, D) of maps that violates shifts along one axis.

    It is w minus its mean over shifts of input and output together; w may be of NumPy
    or of torch, and gradients flow through it.
    """
    rank = len(shape)
    places = w.reshape(*w.shape[:-2], *shape, *shape)
    roll = np.roll if isinstance(w, np.ndarray) else type(w).roll
    axes = (axis - 2 * rank, axis - rank)
    moved = sum(roll(places, (s, s), axes) for s in range(1, shape[axis]))
    return (places - (places + moved) / shape[axis]).reshape(w.shape)


def symmetric(w, shape: tuple[int, ...], axes=None):
    """The part of maps that is equivariant to shifts along these axes; None for all."""
    for axis in range(len(shape)) if axes is None else axes:
        w = w - violating(w, shape, axis)
    return w


def violating_only(w, shape: tuple[int, ...], axis: int):
    """The part of maps that violates shifts along one axis and no others."""
    others = [other for other in range(len(shape)) if other != axis]
    return violating(symmetric(w, shape, others), shape, axis)


def dimension(shape: tuple[int, ...], axis: int) -> int:
    """The dimension of the maps that violate shifts along one axis and no others.

    Of the k^2 pairs of places along an axis, k combinations are equivariant.
    """
    k = shape[axis]
    return (k * k - k) * int(np.prod(shape)) // k


def projectors(shape: tuple[int, ...]) -> np.ndarray:
    """Matrices (axes, D^2, D^2) that take maps, row-major, to their violating parts."""
    d = int(np.prod(shape))
    units = np.eye(d * d).reshape(-1, d, d)
    return np.stack(
        [violating(units, shape, a).reshape(d * d, -1).T for a in range(len(shape))]
    )


def ridge(x, y, penalties, projectors) -> np.ndarray:
    """The map (D, D) that minimises the sum of squares with a penalty for each group.

    argmin_W |Y - X W^T|^2/(2 n) + sum_g penalties_g |(1 - P_g) W|^2/2, in closed form;
    x, y (n, D), penalties (groups,), projectors (groups, D^2, D^2) of `projectors`.
    """
    n, d = x.shape
    system = np.kron(np.eye(d), x.T @ x / n)  # acts on the rows of W
    system += np.tensordot(penalties, projectors, 1)
    return np.linalg.solve(system, (y.T @ x / n).ravel()).reshape(d, d)


def best_penalties(shape, eps, n: int, noise: float, most: float = 1e6) -> np.ndarray:
    """The penalties (..., axes) of least expected error, for inputs of unit variance.

    eps (..., axes): norms of the parts that violate one group alone, over sqrt(D). Such
    a part has the mean square tau^2 = D eps^2/dimension per weight, and the best
    penalty is noise^2/(n tau^2), at most `most`.
    """
    eps, dims = np.asarray(eps), [dimension(shape, a) for a in range(len(shape))]
    with np.errstate(divide="ignore"):
        best = noise**2 * np.array(dims) / (n * int(np.prod(shape)) * eps**2)
    return np.minimum(best, most)
