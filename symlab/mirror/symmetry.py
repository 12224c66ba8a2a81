"""Mirror symmetries of a loss: an orthonormal O with l(theta) = l((I - 2 O O^T) theta).

Definition 1 of Liu Ziyin, "Symmetry Induces Structure and Constraint of Learning" (ICML
2024). The mirror is the surface O^T theta = 0. Parameters are a dict {name: tensor}, as
`dict(model.named_parameters())` gives it; a symmetry touches some of them and leaves
the others as they are.

Three families are one construction, `hidden`: a unit vector n acts on a
hidden index that several parameters share, as I - 2 n n^T.
  rotation      any n, where the loss sees only products over the index: low rank
  permutation   n = (e_i - e_j)/sqrt 2: neurons i and j are equal on the mirror
  sign flip     n = e_i: neuron i is zero on the mirror
`rescaling` is the fourth: the pair (u_i, v_j) that the loss sees as u_i*v_j only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Params = Mapping[str, Tensor]


@dataclass(frozen=True)
class MirrorSymmetry:
    """O (P, k) over named parameters, held as the list of its nonzero entries.

    names, shapes: the P entries that it touches, parameter after parameter.
    rows, columns, values: (nnz,), O[rows, columns] = values; k: the number of columns.
    Raises ValueError where they do not fit or O^T O is not the identity.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    rows: Tensor
    columns: Tensor
    values: Tensor
    k: int

    @classmethod
    def of_matrix(cls, params: Params, names: tuple[str, ...], basis: Tensor):
        """A symmetry given by a dense O (P, k) over the named parameters."""
        check_names(params, names)
        shapes = tuple(tuple(params[n].shape) for n in names)
        rows = sum(torch.Size(s).numel() for s in shapes)
        if basis.ndim != 2 or basis.shape[0] != rows:
            raise ValueError(
                f"the basis has shape {tuple(basis.shape)}, but the parameters "
                f"{', '.join(names)} have {rows} entries: give it {rows} rows"
            )
        at, column = basis.nonzero(as_tuple=True)
        values = basis[at, column].double()
        return cls(tuple(names), shapes, at, column, values, basis.shape[1])

    def __post_init__(self):
        # O^T O c = c for a few random c says O^T O = I, without forming the matrix
        draws = torch.Generator().manual_seed(0)
        for _ in range(2):
            c = torch.randn(self.k, generator=draws, dtype=torch.float64)
            error = float((self._along(self._across(c)) - c).abs().max())
            if not error < 1e-5:
                raise ValueError(
                    f"O^T O differs from the identity (by {error:.2g}): make the "
                    "columns of the basis orthonormal (torch.linalg.qr)"
                )

    @property
    def size(self) -> int:
        """P, the number of entries that it touches."""
        return sum(torch.Size(s).numel() for s in self.shapes)

    def matrix(self) -> Tensor:
        """O as a dense (P, k) matrix in float64."""
        out = torch.zeros(self.size, self.k, dtype=torch.float64)
        return out.index_put((self.rows, self.columns), self.values.double())

    def _along(self, theta: Tensor) -> Tensor:
        """O^T theta: (P,) to (k,)."""
        values, zero = self.values.to(theta), theta.new_zeros(self.k)
        rows, columns = self.rows.to(theta.device), self.columns.to(theta.device)
        return zero.index_add(0, columns, values * theta[rows])

    def _across(self, c: Tensor) -> Tensor:
        """O c: (k,) to (P,)."""
        values, zero = self.values.to(c), c.new_zeros(self.size)
        rows, columns = self.rows.to(c.device), self.columns.to(c.device)
        return zero.index_add(0, rows, values * c[columns])

    def coordinates(self, params: Params) -> Tensor:
        """O^T theta, (k,): zero exactly on the mirror."""
        return self._along(self._flat(params))

    def distance(self, params: Params) -> Tensor:
        """|O^T theta|, the distance from the mirror."""
        return self.coordinates(params).norm()

    def project(self, params: Params) -> dict[str, Tensor]:
        """(I - O O^T) theta: the nearest point on the mirror."""
        return self._moved(params, 1.0)

    def reflect(self, params: Params) -> dict[str, Tensor]:
        """(I - 2 O O^T) theta: the mirror image."""
        return self._moved(params, 2.0)

    def violation(
        self,
        loss: Callable[[Params], Tensor],
        params: Params,
        points: int = 4,
        still: Params | None = None,
    ) -> float:
        """How far the loss is from having the symmetry, see `violation` below."""
        return violation(self.reflect, loss, params, points, still)

    def check(self, loss, params: Params, tolerance: float = 1e-4) -> None:
        """Raise ValueError where the loss has not this symmetry."""
        found = self.violation(loss, params)
        if not found < tolerance:
            raise ValueError(
                f"the loss changes by {found:.2g} of its spread under the reflection "
                f"of {', '.join(self.names)}: it has not this symmetry"
            )

    def threshold(self, loss: Callable[[Params], Tensor], params: Params) -> Tensor:
        """gamma_0 = (l(P theta) - l(theta)) / |O^T theta|^2 of theorem 1, part 3.

        With the penalty gamma |theta|^2 the projection is better than theta if and only
        if gamma > gamma_0. PyTorch's weight_decay is 2 gamma.
        """
        gain = loss(self.project(params)) - loss(params)
        return gain / self.coordinates(params).square().sum()

    def _flat(self, params: Params) -> Tensor:
        check_names(params, self.names)
        for name, shape in zip(self.names, self.shapes, strict=True):
            if tuple(params[name].shape) != tuple(shape):
                raise ValueError(
                    f"parameter {name!r} has shape {tuple(params[name].shape)}, the "
                    f"symmetry was made for {tuple(shape)}"
                )
        return torch.cat([params[name].reshape(-1) for name in self.names])

    def _moved(self, params: Params, factor: float) -> dict[str, Tensor]:
        theta = self._flat(params)
        theta = theta - factor * self._across(self._along(theta))
        parts = theta.split([torch.Size(s).numel() for s in self.shapes])
        moved = {
            name: part.reshape(shape)
            for name, shape, part in zip(self.names, self.shapes, parts, strict=True)
        }
        return {**params, **moved}


def violation(
    transform: Callable[[Params], Params],
    loss: Callable[[Params], Tensor],
    params: Params,
    points: int = 4,
    still: Params | None = None,
) -> float:
    """How much the loss changes under a transform: 0 up to rounding for a symmetry.

    The largest |l(image) - l| over random points around `params`, relative to the
    spread of the loss between those points. `still`: tensors that are transformed and
    not moved, such as the running statistics of a batch norm.
    """
    draws = torch.Generator().manual_seed(0)
    values, images = [], []
    for _ in range(points):
        theta = {
            n: p.detach() + _scale(p) * torch.randn(p.shape, generator=draws).to(p)
            for n, p in params.items()
        } | dict(still or {})
        values.append(float(loss(theta)))
        images.append(float(loss(transform(theta))))
    a, b = torch.tensor([values, images], dtype=torch.float64)
    spread = max(float(a.max() - a.min()), 1e-12 * float(a.abs().max()), 1e-300)
    return float((a - b).abs().max()) / spread


def check_names(params: Params, names) -> None:
    """One sentence for a parameter that does not exist, or that two names share."""
    for name in names:
        if name not in params:
            raise ValueError(
                f"there is no parameter {name!r}: the parameters are "
                f"{', '.join(params)}"
            )
        twins = [n for n, p in params.items() if n != name and p is params[name]]
        if twins:
            raise ValueError(
                f"{name!r} and {twins[0]!r} are one shared tensor: a mirror of one of "
                "them would have to move both, name them once"
            )


def _scale(p: Tensor) -> float:
    """Noise as large as the entries, so that points are generic."""
    return float(p.detach().float().square().mean().sqrt()) or 1.0


# --- constructors --------------------------------------------------------------------


def hidden(params: Params, axes: Mapping[str, int], n: Tensor) -> MirrorSymmetry:
    """I - 2 n n^T on a hidden index: axes = {parameter: the dimension of that index}.

    n: (H,) of any length but zero. A linear layer's units are dimension 0 of its weight
    and bias and dimension 1 of the next layer's weight.
    """
    check_names(params, axes)
    n = n.detach().double() / n.detach().double().norm()
    rows, columns, values, row, column = [], [], [], 0, 0
    for name, axis in axes.items():
        shape = params[name].shape
        if not -len(shape) <= axis < len(shape) or shape[axis] != len(n):
            raise ValueError(
                f"dimension {axis} of {name!r}, shape {tuple(shape)}, is no hidden "
                f"index of size {len(n)}"
            )
        entries = torch.arange(shape.numel()).view(shape).movedim(axis, 0)
        entries = entries.reshape(len(n), -1)  # (H, other indices)
        used = n.nonzero()[:, 0]
        rows.append((row + entries[used]).reshape(-1))
        others = torch.arange(entries.shape[1])
        columns.append((column + others).repeat(len(used)))
        values.append(n[used].repeat_interleave(entries.shape[1]))
        row, column = row + shape.numel(), column + entries.shape[1]
    return _entries(params, tuple(axes), rows, columns, values, column)


def permutation(params: Params, axes: Mapping[str, int], i: int, j: int):
    """Neurons i and j may be exchanged; on the mirror they are equal."""
    n = torch.zeros(_width(params, axes))
    n[i], n[j] = 1.0, -1.0
    return hidden(params, axes, n)


def sign_flip(params: Params, axes: Mapping[str, int], i: int):
    """Neuron i may change sign in all its weights; on the mirror it is zero."""
    n = torch.zeros(_width(params, axes))
    n[i] = 1.0
    return hidden(params, axes, n)


def rescaling(params: Params, u: str, v: str, i: int, mirror: str = "zero"):
    """The loss sees entry i (flattened) of u and v through their product only.

    mirror: 'equal' (on it u_i = v_i), 'opposite' (u_i = -v_i), 'zero' (u_i = v_i = 0),
    the intersection of both, where sparsity comes from.
    """
    check_names(params, (u, v))
    directions = {"equal": [[1, -1]], "opposite": [[1, 1]], "zero": [[1, -1], [1, 1]]}
    if mirror not in directions:
        raise ValueError(f"unknown mirror {mirror!r}: use {', '.join(directions)}")
    a = torch.tensor(directions[mirror], dtype=torch.float64).T / 2**0.5  # (2, k)
    places = torch.tensor([i, params[u].numel() + i])
    k = a.shape[1]
    rows, columns = places.repeat_interleave(k), torch.arange(k).repeat(2)
    return _entries(params, (u, v), [rows], [columns], [a.reshape(-1)], k)


def _width(params: Params, axes: Mapping[str, int]) -> int:
    check_names(params, axes)
    name, axis = next(iter(axes.items()))
    return params[name].shape[axis]


def _entries(params: Params, names, rows, columns, values, k: int) -> MirrorSymmetry:
    shapes = tuple(tuple(params[n].shape) for n in names)
    entries = (torch.cat(rows), torch.cat(columns), torch.cat(values).double())
    return MirrorSymmetry(names, shapes, *entries, k)
