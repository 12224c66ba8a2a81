"""Linear maps between functions on a torus, and the parts that violate its symmetries.

A torus has k_1 x k_2 x ... places, and each cyclic group of k_a shifts along one axis
acts on its functions (D,), D = k_1 k_2 ..., row-major. A map (..., D, D) is equivariant
to a group where a shift of its input shifts its output. The projections onto the maps
that are equivariant to each group commute, so that every map is a sum of orthogonal
parts which violate one set of groups each. Shapes are tuples (k_1, k_2, ...).
"""

import numpy as np


def violating(w, shape: tuple[int, ...], axis: int):
    """Return the part (..., D, D) of linear maps that violates shifts along one axis.

    w: maps (..., D, D) between functions on a torus of this shape, D its number of
        places; of NumPy or of torch, and gradients flow through it. The part is w minus
        its mean over shifts of input and output together.
    """
    rank = len(shape)
    places = w.reshape(*w.shape[:-2], *shape, *shape)
    roll = np.roll if isinstance(w, np.ndarray) else type(w).roll
    axes = (axis - 2 * rank, axis - rank)
    moved = sum(roll(places, (s, s), axes) for s in range(1, shape[axis]))
    return (places - (places + moved) / shape[axis]).reshape(w.shape)


def symmetric(w, shape: tuple[int, ...], axes=None):
    """Return the part of maps w that is equivariant to shifts along some axes.

    w: (..., D, D), linear maps between functions on a torus with D places. shape: of
        the torus. axes: None for all of them.
    """
    for axis in range(len(shape)) if axes is None else axes:
        w = w - violating(w, shape, axis)
    return w


def violating_only(w, shape: tuple[int, ...], axis: int):
    """Return the part of maps w (..., D, D) that violates shifts along one axis only.

    shape: of the torus, D places in all. The part is equivariant to shifts along all
        others.
    """
    others = [other for other in range(len(shape)) if other != axis]
    return violating(symmetric(w, shape, others), shape, axis)


def dimension(shape: tuple[int, ...], axis: int) -> int:
    """Return the dimension of the linear maps that violate shifts along one axis only.

    shape: of the torus on whose functions the maps act. axis: the axis of the shifts.

    A map has k^2 pairs of input and output places along an axis of length k. Shifts
    along it leave k combinations of these alone; the other k^2 - k violate them.
    """
    k = shape[axis]
    return (k * k - k) * int(np.prod(shape)) // k


def projectors(shape: tuple[int, ...]) -> np.ndarray:
    """Return, for each axis of a torus, the projector (D^2, D^2) to the violating part.

    It takes a map (D, D), flattened row by row, to the part that violates shifts along
    that axis. The result is (axes, D^2, D^2).
    """
    d = int(np.prod(shape))
    units = np.eye(d * d).reshape(-1, d, d)
    return np.stack(
        [violating(units, shape, a).reshape(d * d, -1).T for a in range(len(shape))]
    )


def ridge(x, y, penalties, projectors) -> np.ndarray:
    """Return the map W (D, D) of least squares with a penalty on each broken symmetry.

    W minimises |Y - X W^T|^2/(2 n) + sum_g penalties_g |(1 - P_g) W|^2/2, in closed
    form; P_g W is the part of W that is equivariant to the shifts along axis g of a
    torus.

    x, y: inputs X and targets Y, (n, D).
    penalties: (groups,), one for the shifts along each axis.
    projectors: (groups, D^2, D^2), 1 - P_g, as the function `projectors` returns them.
    """
    n, d = x.shape
    system = np.kron(np.eye(d), x.T @ x / n)  # acts on the rows of W
    system += np.tensordot(penalties, projectors, 1)
    return np.linalg.solve(system, (y.T @ x / n).ravel()).reshape(d, d)


def best_penalties(shape, eps, n: int, noise: float, most: float = 1e6) -> np.ndarray:
    """Return the penalties (..., axes) of `ridge` that give the least expected error.

    shape: of the torus, D places in all. n: samples, whose inputs have unit variance.
    eps: (..., axes), norms of the parts of the target map that violate one axis's
        shifts only, over sqrt(D).
    noise: standard deviation of the noise on the targets. most: the largest penalty.

    Such a part has the mean square tau^2 = D eps^2/dimension per weight, and the best
    penalty is noise^2/(n tau^2).
    """
    eps, dims = np.asarray(eps), [dimension(shape, a) for a in range(len(shape))]
    with np.errstate(divide="ignore"):
        best = noise**2 * np.array(dims) / (n * int(np.prod(shape)) * eps**2)
    return np.minimum(best, most)
