"""Groups that act on tensors: orbit averages, equivariance errors, and PCA frames.

An `Action` is a finite group, or a sample of a compact one, as functions on tensors. A
network f from inputs to outputs is equivariant if f(g x) = g f(x) for every g, and
invariant if also g acts trivially on the outputs.

    turn = shifts(24)                            # cyclic shifts of the last axis
    equivariance_error(network, x, turn, turn)   # 0 up to rounding if equivariant
    average = orbit_average(network, turn, turn) # exactly equivariant

Sources: the average over a group is the Reynolds operator. Frames and averages over
    them are those of Puny et al., "Frame Averaging for Invariant and Equivariant
    Network Design", ICLR 2022 (arXiv 2110.03336), section 2 and equations 3 and 4.
    Groups that act on weight matrices under optimizers are in symlab.symopt.groups.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations as orders
from itertools import product

import numpy as np
import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
LARGEST = 8  # letters of a symmetric group that is listed in full: 8! = 40320


@dataclass(frozen=True)
class Action:
    """A finite group, or a sample of a larger one, as functions x -> g x on tensors.

    elements, inverses: one function per element g, and in the same order those that
        undo them. Leading axes of a tensor that the group does not act on are free.
        Raises ValueError if the numbers of functions differ.
    """

    elements: tuple[Map, ...]
    inverses: tuple[Map, ...]

    def __post_init__(self):
        if not self.elements or len(self.elements) != len(self.inverses):
            raise ValueError(
                f"an action has {len(self.elements)} elements and "
                f"{len(self.inverses)} inverses: give one inverse for each element"
            )

    def __len__(self) -> int:
        return len(self.elements)

    def __iter__(self) -> Iterator[Map]:
        return iter(self.elements)

    def __mul__(self, other: "Action") -> "Action":
        """The product group, for actions that commute, such as on different axes."""
        return Action(
            tuple(_then(b, a) for a in self.elements for b in other.elements),
            tuple(_then(a, b) for a in self.inverses for b in other.inverses),
        )


def _then(first: Map, second: Map) -> Map:
    return lambda x: second(first(x))


# --- groups on tensors ----------------------------------------------------------------


def trivial(order: int) -> Action:
    """Return an action of `order` elements, each of which leaves every tensor alone."""
    return Action((_same,) * order, (_same,) * order)


def _same(x: Tensor) -> Tensor:
    return x


def roll(shift: int, axis: int = -1) -> Map:
    """Return the cyclic shift of an axis, which moves entry i to i + shift."""
    return lambda x: torch.roll(x, shift, axis)


def shifts(n: int, axis: int = -1) -> Action:
    """Return the n cyclic shifts of an axis of length n, by 0, 1, ..., n - 1."""
    return Action(
        tuple(roll(s, axis) for s in range(n)), tuple(roll(-s, axis) for s in range(n))
    )


def permutations(n: int, *axes: int) -> Action:
    """Return the n! permutations of an axis of length n, or of several axes at once.

    axes: by default the last axis; permutations(n, -1, -2) acts on an adjacency matrix,
        whose rows and columns are permuted together.

    Permutation p moves entry p[i] of an axis to i. Raises ValueError if n exceeds 8, as
    there are then too many permutations to list.
    """
    if n > LARGEST:
        raise ValueError(
            f"the group of all permutations of {n} letters is too large to list: use "
            f"at most {LARGEST}, or a frame"
        )

    def moved(p) -> Map:
        def act(x):
            for axis in axes or (-1,):
                x = x.index_select(axis, torch.tensor(p, device=x.device))
            return x

        return act

    every = list(orders(range(n)))
    return Action(
        tuple(map(moved, every)), tuple(moved(np.argsort(p).tolist()) for p in every)
    )


def linear(matrices, axis: int = -1) -> Action:
    """Return the action of orthogonal matrices (G, n, n) on one axis of length n.

    The axis holds the n coordinates of vectors v, and element g sends each to g v;
    points in rows are (..., n) with axis -1. Raises ValueError if a matrix is not
    orthogonal, as its inverse would not be its transpose.
    """
    g = torch.as_tensor(matrices)
    error = float((g @ g.mT - torch.eye(g.shape[-1]).to(g)).abs().max())
    if error > 1e3 * torch.finfo(g.dtype).eps:
        raise ValueError(
            f"a matrix of the group is not orthogonal, by {error:.1e}: give orthogonal "
            "matrices"
        )

    def act(m) -> Map:
        return lambda x: (x.movedim(axis, -1) @ m.mT.to(x)).movedim(-1, axis)

    return Action(tuple(act(m) for m in g), tuple(act(m.mT) for m in g))


# --- groups as matrices ---------------------------------------------------------------


def shift_matrices(n: int) -> Tensor:
    """Return the n cyclic shifts of n coordinates as matrices (n, n, n), float64."""
    return torch.stack([torch.eye(n).double().roll(s, 0) for s in range(n)])


def permutation_matrices(n: int) -> Tensor:
    """Return all permutations of n coordinates as matrices (n!, n, n), float64.

    Raises ValueError if n exceeds 8, as `permutations` does.
    """
    return torch.stack([g(torch.eye(n).double()) for g in permutations(n, -2)])


def sign_matrices(n: int, *, special: bool = False) -> Tensor:
    """Return all diagonal matrices of signs, (2^n, n, n), in float64.

    special: whether only the 2^(n-1) matrices of determinant 1 are returned.
    """
    signs = torch.tensor(list(product((1.0, -1.0), repeat=n))).double()
    return torch.diag_embed(signs[signs.prod(1) > 0] if special else signs)


def signed_permutation_matrices(n: int, *, special: bool = False) -> Tensor:
    """Return all signed permutation matrices, the symmetries of the n-cube, float64.

    special: whether only those of determinant 1, the rotations of the cube, are
        returned. The result is (2^n n!, n, n), or half as many with `special`.
    """
    every = sign_matrices(n)[:, None] @ permutation_matrices(n)  # (2^n, n!, n, n)
    every = every.flatten(0, 1)
    return every[torch.linalg.det(every) > 0] if special else every


def planar_rotations(order: int) -> Tensor:
    """Return the rotations of the plane by multiples of 2 pi / order, float64.

    The result is (order, 2, 2).
    """
    turn = 2 * torch.pi * torch.arange(order).double() / order
    rows = (turn.cos(), -turn.sin()), (turn.sin(), turn.cos())
    return torch.stack([torch.stack(r, -1) for r in rows], -2)


def random_rotations(
    draws: np.random.Generator, n: int, d: int, *, special: bool = True
) -> Tensor:
    """Return n Haar-distributed orthogonal matrices (n, d, d), in float64.

    draws: the source of random numbers.
    special: whether only rotations, matrices of determinant 1, are drawn.

    They come from the QR decomposition of a matrix of normal random numbers; the
    columns of Q get the signs of R's diagonal, without which Q is not Haar-distributed
    (Mezzadri, arXiv math-ph/0609050).
    """
    q, r = torch.linalg.qr(torch.from_numpy(draws.normal(size=(n, d, d))))
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    if special:
        q = torch.cat([q[..., :1] * torch.linalg.det(q)[:, None, None], q[..., 1:]], -1)
    return q


# --- averages and errors --------------------------------------------------------------


def orbit_average(f: Map, on_input: Action, on_output: Action | None = None) -> Map:
    """Return the function x -> mean over g of g^-1 f(g x), which is equivariant.

    on_input: how the elements g of a group act on x.
    on_output: how the same elements, in the same order, act on f(x); None for an
        invariant average.

    It leaves a function that is equivariant already as it is. For a sample of a group
    the average is a Monte-Carlo estimate. Raises ValueError if the two actions have
    different lengths.
    """
    on_output = _paired(on_input, on_output)

    def average(x):
        both = zip(on_input.elements, on_output.inverses, strict=True)
        return sum(back(f(g(x))) for g, back in both) / len(on_input)

    return average


def project(weight: Tensor, on_output: Tensor, on_input: Tensor) -> Tensor:
    """Return the equivariant part of a linear map: the mean of out(g)^-1 weight in(g).

    weight: (..., m, n).
    on_output, on_input: orthogonal matrices out(g) (G, m, m) and in(g) (G, n, n) of the
        same group elements g in the same order.

    It is an orthogonal projection in the Frobenius norm, so weight - project(weight) is
    the part that violates the symmetry.
    """
    if len(on_output) != len(on_input):
        raise ValueError(
            f"{len(on_output)} elements act on outputs and {len(on_input)} on inputs: "
            "list the same elements in both"
        )
    moved = on_output.mT.to(weight) @ weight.unsqueeze(-3) @ on_input.to(weight)
    return moved.mean(-3)


def equivariance_error(
    f: Map, x: Tensor, on_input: Action, on_output: Action | None = None
) -> float:
    """Return the largest |f(g x) - g f(x)| / |f(x)| over the elements g of a group.

    on_input, on_output: how the same elements, in the same order, act on x and on f(x);
        None for `on_output` asks for invariance.

    It is 0 up to rounding for an equivariant f, and about sqrt(2) for an output that
    has nothing to do with the group. Norms are Euclidean over all entries of the
    output, batch included, in float64. Where f(x) is zero, the result is the difference
    itself. Raises ValueError if the two actions have different lengths.
    """
    on_output = _paired(on_input, on_output)
    expected = f(x).detach()
    size = float(expected.double().norm()) or 1.0
    return max(
        float((f(g(x)).detach() - h(expected)).double().norm()) / size
        for g, h in zip(on_input.elements, on_output.elements, strict=True)
    )


def _paired(on_input: Action, on_output: Action | None) -> Action:
    if on_output is None:
        return trivial(len(on_input))
    if len(on_input) != len(on_output):
        raise ValueError(
            f"{len(on_input)} elements act on inputs and {len(on_output)} on outputs: "
            "list the same elements in both"
        )
    return on_output


# --- frames ---------------------------------------------------------------------------


def pca_frame(x: Tensor, *, special: bool = False) -> tuple[Tensor, Tensor]:
    """Return the centroids of point clouds and the frames of their principal axes.

    x: (..., N, d), with points in rows.
    special: only frames of determinant 1, for invariance under SO(d) instead of O(d).

    The centroids are (..., 1, d). The frames are (..., F, d, d): their columns are the
    eigenvectors of the covariance in ascending order of eigenvalue, with all F = 2^d
    choices of signs, or the F = 2^(d-1) of determinant 1. Raises ValueError if two
    eigenvalues are equal up to rounding, as the axes are then not determined.
    """
    centroid = x.mean(-2, keepdim=True)
    centred = x - centroid
    sizes, axes = torch.linalg.eigh(centred.mT @ centred)
    gap = (sizes.diff(dim=-1) / sizes[..., -1:]).amin() if x.shape[-1] > 1 else 1.0
    if not gap > 8 * torch.finfo(x.dtype).eps:
        raise ValueError(
            "two principal axes of a cloud have equal variance, so that its PCA frame "
            "is infinite: average over the group, or move the points apart"
        )
    signs = sign_matrices(x.shape[-1]).to(x)
    frames = axes.unsqueeze(-3) @ signs  # (..., 2^d, d, d)
    if special:
        right = torch.linalg.det(frames) > 0  # the same number for every cloud
        frames = frames[right].reshape(*x.shape[:-2], -1, *frames.shape[-2:])
    return centroid, frames


def framed(x: Tensor, *, special: bool = False) -> Tensor:
    """Return each point cloud (..., N, d) in the coordinates of its PCA frames.

    special: whether only frames of determinant 1 are taken.

    The result is (..., F, N, d): F copies of the cloud, which differ by the signs of
    axes. The set of these copies is the same for every rotated and shifted copy of x
    (with special=False, for every reflected one, too).
    """
    centroid, frames = pca_frame(x, special=special)
    return (x - centroid).unsqueeze(-3) @ frames


def frame_average(f: Map, *, special: bool = False) -> Map:
    """Return the function x -> mean of f over the copies of x in its PCA frames.

    f: maps point clouds (..., N, d) to (..., *outputs), with any leading axes.
    special: whether only frames of determinant 1 are averaged.

    The mean is invariant under rotations and shifts of x, whatever f is; with
    special=False it is invariant under reflections, too.
    """

    def average(x):
        clouds = framed(x, special=special)
        return f(clouds).mean(x.ndim - 2)

    return average


def equivariant_frame_average(f: Map, *, special: bool = False) -> Map:
    """Return the function x -> mean of f(x g) g^-1 over the PCA frames g of x.

    f: maps clouds (..., N, d) to clouds (..., M, d).
    special: whether only frames of determinant 1 are averaged.

    The average rotates and shifts with x, whatever f is; with special=False it is
    reflected with x, too.
    """

    def average(x):
        centroid, frames = pca_frame(x, special=special)
        clouds = (x - centroid).unsqueeze(-3) @ frames
        return (f(clouds) @ frames.mT).mean(-3) + centroid

    return average
