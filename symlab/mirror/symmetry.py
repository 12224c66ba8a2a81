"""Mirror symmetries of a loss: an orthonormal O with l(theta) = l((I - 2 O O^T) theta).

Definition 1 of Liu Ziyin, "Symmetry Induces Structure and Constraint of Learning" (ICML
2024). The mirror is the surface O^T theta = 0. Parameters are a dict {name: tensor},
such as `dict(model.named_parameters())`; a symmetry acts on some of them and leaves the
others unchanged.

Three families have one construction, `hidden`: with a unit vector n, I - 2 n n^T acts
on a set of hidden units that several parameters share.
  rotation      any n, if the loss sees only products over the units: low rank
  permutation   n = (e_i - e_j)/sqrt 2: neurons i and j are equal on the mirror
  sign flip     n = e_i: neuron i is zero on the mirror
The fourth family is `rescaling`: entries u_i and v_i that enter the loss only by their
product u_i*v_i.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

Params = Mapping[str, Tensor]


@dataclass(frozen=True)
class MirrorSymmetry:
    """A mirror symmetry: the loss is the same at theta and at (I - 2 O O^T) theta.

    O (P, k) has orthonormal columns and is stored as the list of its nonzero entries.

    names, shapes: the parameters whose P entries it acts on, one after another.
    rows, columns, values: (nnz,), the nonzero entries O[rows, columns] = values.
    k: the number of columns of O.

    Raises ValueError if these are inconsistent or O^T O is not the identity.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    rows: Tensor
    columns: Tensor
    values: Tensor
    k: int

    @classmethod
    def of_matrix(cls, params: Params, names: tuple[str, ...], basis: Tensor):
        """Return the symmetry of a dense O (P, k) that acts on named parameters.

        params: {name: tensor}. names: the parameters with P entries in total.
        basis: the matrix O.

        Raises ValueError if O does not fit the parameters or its columns are not
        orthonormal.
        """
        names = (names,) if isinstance(names, str) else tuple(names)
        check_names(params, names)
        basis = torch.as_tensor(basis)
        shapes = tuple(tuple(params[n].shape) for n in names)
        rows = sum(torch.Size(s).numel() for s in shapes)
        if basis.ndim != 2 or basis.shape[0] != rows:
            raise ValueError(
                f"the basis has shape {tuple(basis.shape)}, but the parameters "
                f"{', '.join(names)} have {rows} entries: give it {rows} rows"
            )
        at, column = basis.nonzero(as_tuple=True)
        values = basis[at, column].double()
        return cls(names, shapes, at, column, values, basis.shape[1])

    def __post_init__(self):
        self._check_entries()
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

    def _check_entries(self) -> None:
        if self.k < 1 or not len(self.values):
            raise ValueError("the basis has no columns: a mirror needs one or more")
        lengths = {len(t) for t in (self.rows, self.columns, self.values)}
        inside = len(lengths) == 1 and all(
            int(at.min()) >= 0 and int(at.max()) < size
            for at, size in ((self.rows, self.size), (self.columns, self.k))
        )
        if not inside:
            raise ValueError(
                "rows, columns and values have to be of one length, with rows below "
                f"{self.size} and columns below {self.k}"
            )

    @property
    def size(self) -> int:
        """P, the number of entries of the parameters that the reflection acts on."""
        return sum(torch.Size(s).numel() for s in self.shapes)

    def matrix(self) -> Tensor:
        """Return O, whose columns are orthonormal normals of the mirror, as a dense
        matrix (P, k) in float64.
        """
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
        """Return O^T theta (k,), which is zero if and only if theta is on the mirror.

        params: theta as {name: tensor}.
        """
        return self._along(self._flat(params))

    def distance(self, params: Params) -> Tensor:
        """Return |O^T theta|, the distance of theta from the mirror.

        params: theta as {name: tensor}.
        """
        return self.coordinates(params).norm()

    def project(self, params: Params) -> dict[str, Tensor]:
        """Return (I - O O^T) theta, the point on the mirror nearest to theta.

        params: theta as {name: tensor}.
        """
        return self._moved(params, 1.0)

    def reflect(self, params: Params) -> dict[str, Tensor]:
        """Return (I - 2 O O^T) theta, the mirror image of theta.

        params: theta as {name: tensor}.
        """
        return self._moved(params, 2.0)

    def violation(
        self,
        loss: Callable[[Params], Tensor],
        params: Params,
        points: int = 4,
        still: Params | None = None,
    ) -> float:
        """Return how much the loss changes under the reflection: about 0 if it is
        symmetric.

        loss: takes parameters {name: tensor} and returns a scalar.
        points: how many random points around `params` are tried, two or more.
        still: tensors that are reflected but not perturbed.

        The result is the largest change of the loss over the points, relative to the
        spread of the loss between them.
        """
        return violation(self.reflect, loss, params, points, still)

    def check(self, loss, params: Params, tolerance: float = 1e-4) -> None:
        """Raise ValueError if the loss does not have this symmetry.

        loss: takes parameters {name: tensor} and returns a scalar.
        tolerance: the smallest `violation` that raises the error.
        """
        found = self.violation(loss, params)
        if not found < tolerance:
            raise ValueError(
                f"the loss changes by {found:.2g} of its spread under the reflection "
                f"of {', '.join(self.names)}: it has not this symmetry"
            )

    def threshold(self, loss: Callable[[Params], Tensor], params: Params) -> Tensor:
        """Return the L2 penalty gamma_0 above which the mirror has the lower total
        loss.

        loss: l, takes parameters {name: tensor} and returns a scalar.
        params: theta as {name: tensor}.

        gamma_0 = (l(P theta) - l(theta)) / |O^T theta|^2, with P theta the projection
        of theta onto the mirror: l + gamma |theta|^2 is lower at P theta if and only if
        gamma > gamma_0. PyTorch's weight_decay is 2 gamma. If theta is on the mirror,
        the result is 0/0. Source: Ziyin (ICML 2024), theorem 1, part 3.
        """
        gain = _scalar(loss(self.project(params))) - _scalar(loss(params))
        return gain / self.coordinates(params).square().sum()

    def _flat(self, params: Params) -> Tensor:
        check_names(params, self.names)
        for name, shape in zip(self.names, self.shapes, strict=True):
            if tuple(params[name].shape) != tuple(shape):
                raise ValueError(
                    f"parameter {name!r} has shape {tuple(params[name].shape)}, the "
                    f"symmetry was made for {tuple(shape)}"
                )
        theta = torch.cat([params[name].reshape(-1) for name in self.names])
        return theta.float() if theta.dtype.itemsize < 4 else theta

    def _moved(self, params: Params, factor: float) -> dict[str, Tensor]:
        theta = self._flat(params)
        theta = theta - factor * self._across(self._along(theta))
        parts = theta.split([torch.Size(s).numel() for s in self.shapes])
        moved = {
            name: part.reshape(shape).to(params[name].dtype)
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
    """Return how much the loss changes under a transform: about 0 if it is symmetric.

    transform: takes and returns parameters {name: tensor}.
    loss: takes such parameters and returns a scalar.
    points: how many random points around `params` are tried, two or more.
    still: tensors that are transformed but not perturbed, such as the running
        statistics of a batch norm.

    The result is the largest |l(image) - l| over the points, relative to the spread of
    the loss between them. Integer tensors are not perturbed. Raises ValueError for
    fewer than two points.
    """
    if points < 2:
        raise ValueError(f"points is {points}: the spread of the loss needs 2 or more")
    draws = torch.Generator().manual_seed(0)
    values, images = [], []
    for _ in range(points):
        theta = {
            n: p.detach() + _scale(p) * torch.randn(p.shape, generator=draws).to(p)
            if p.is_floating_point()
            else p
            for n, p in params.items()
        } | dict(still or {})
        values.append(float(_scalar(loss(theta))))
        images.append(float(_scalar(loss(transform(theta)))))
    a, b = torch.tensor([values, images], dtype=torch.float64)
    spread = max(float(a.max() - a.min()), 1e-12 * float(a.abs().max()), 1e-300)
    return float((a - b).abs().max()) / spread


def check_names(params: Params, names) -> None:
    """Raise ValueError for parameters on which a symmetry cannot act.

    params: {name: tensor}.
    names: the parameters that are checked. The error is raised if a parameter does not
        exist, is not a tensor of real floating-point numbers, is named twice, or shares
        its tensor with another name.
    """
    if not isinstance(params, Mapping):
        raise ValueError(
            f"the parameters are {type(params).__name__}: give a dict of name and "
            "tensor, as dict(model.named_parameters())"
        )
    if not names or len({*names}) < len(names):
        raise ValueError(f"the names are {list(names)}: name each parameter once")
    for name in names:
        if name not in params:
            raise ValueError(
                f"there is no parameter {name!r}: the parameters are "
                f"{', '.join(params)}"
            )
        p = params[name]
        if not isinstance(p, Tensor) or not p.is_floating_point():
            kind = p.dtype if isinstance(p, Tensor) else type(p).__name__
            raise ValueError(
                f"parameter {name!r} is {kind}: a mirror needs tensors of real "
                "floating-point numbers"
            )
        twins = [n for n, p in params.items() if n != name and p is params[name]]
        if twins:
            raise ValueError(
                f"{name!r} and {twins[0]!r} are one shared tensor: a mirror of one of "
                "them would have to move both, name them once"
            )


def _scalar(value):
    """The value of a loss, one number."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(
            f"the loss returns a tensor of shape {tuple(value.shape)}: it has to "
            "return one number"
        )
    return value


def _scale(p: Tensor) -> float:
    """Noise as large as the entries, so that points are generic."""
    return float(p.detach().float().square().mean().sqrt()) or 1.0


# --- constructors --------------------------------------------------------------------


def hidden(params: Params, axes: Mapping[str, int], n: Tensor) -> MirrorSymmetry:
    """Return the symmetry under I - 2 n n^T on the H hidden units of some layers.

    params: {name: tensor}.
    axes: {parameter name: the dimension that indexes the units}. For a linear layer,
        these are dimension 0 of its weight and bias and dimension 1 of the next layer's
        weight.
    n: (H,), a direction of any nonzero length.

    `MirrorSymmetry.check` tests whether a loss has the symmetry. Raises ValueError if n
    is not a direction, or if a dimension is not of size H.
    """
    _check_axes(params, axes)
    n = _direction(n)
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
    """Return the symmetry that exchanges neurons i and j; on its mirror they are equal.

    params: {name: tensor}. axes: {parameter name: the dimension that indexes the
        neurons}.
    i, j: the neurons' numbers; negative ones count from the end, as in a list.

    Raises ValueError if i and j are the same neuron or do not exist.
    """
    n = torch.zeros(_width(params, axes))
    i, j = _index(i, len(n), "neurons"), _index(j, len(n), "neurons")
    if i == j:
        raise ValueError(
            f"neuron {i} cannot be exchanged with itself: name two different neurons, "
            "or use sign_flip for a neuron that may change sign"
        )
    n[i], n[j] = 1.0, -1.0
    return hidden(params, axes, n)


def sign_flip(params: Params, axes: Mapping[str, int], i: int):
    """Return the symmetry that flips all weights of neuron i; on its mirror they are
    zero.

    params: {name: tensor}. axes: {parameter name: the dimension that indexes the
        neurons}.
    i: the neuron's number; a negative one counts from the end.

    Raises ValueError if i does not exist.
    """
    n = torch.zeros(_width(params, axes))
    n[_index(i, len(n), "neurons")] = 1.0
    return hidden(params, axes, n)


def rescaling(params: Params, u: str, v: str, i: int, mirror: str = "zero"):
    """Return a mirror symmetry of two entries that a loss depends on only by their
    product.

    params: {name: tensor}. u, v: the names of the two parameters.
    i: the number of the entry in both flattened parameters; a negative one counts from
        the end.
    mirror: the set of weights that the symmetry leaves fixed: 'equal' (u_i = v_i),
        'opposite' (u_i = -v_i), or 'zero' (u_i = v_i = 0), the intersection of both,
        which leads to sparsity.

    Raises ValueError if u and v are one tensor, have different numbers of entries or no
    entry i, and for an unknown mirror.
    """
    if u == v:
        raise ValueError(
            f"{u!r} is named twice: a rescaling symmetry acts on two different tensors"
        )
    check_names(params, (u, v))
    sizes = params[u].numel(), params[v].numel()
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"{u!r} has {sizes[0]} entries and {v!r} has {sizes[1]}: a rescaling "
            "symmetry needs entries in pairs"
        )
    i = _index(i, sizes[0], "entries")
    directions = {"equal": [[1, -1]], "opposite": [[1, 1]], "zero": [[1, -1], [1, 1]]}
    if mirror not in directions:
        raise ValueError(f"unknown mirror {mirror!r}: use {', '.join(directions)}")
    a = torch.tensor(directions[mirror], dtype=torch.float64).T / 2**0.5  # (2, k)
    places = torch.tensor([i, sizes[0] + i])
    k = a.shape[1]
    rows, columns = places.repeat_interleave(k), torch.arange(k).repeat(2)
    return _entries(params, (u, v), [rows], [columns], [a.reshape(-1)], k)


def _width(params: Params, axes: Mapping[str, int]) -> int:
    _check_axes(params, axes)
    name, axis = next(iter(axes.items()))
    return params[name].shape[axis]


def _check_axes(params: Params, axes: Mapping[str, int]) -> None:
    if not isinstance(axes, Mapping) or not axes:
        raise ValueError(
            f"the axes are {axes!r}: give a dict of parameter and dimension, as "
            "{'0.weight': 0, '2.weight': 1}"
        )
    check_names(params, axes)
    for name, axis in axes.items():
        dims = params[name].ndim
        if not isinstance(axis, Integral) or not -dims <= axis < dims:
            raise ValueError(
                f"{name!r}, shape {tuple(params[name].shape)}, has no dimension "
                f"{axis!r}: it is no hidden index"
            )


def _direction(n) -> Tensor:
    """n as a unit vector in float64."""
    try:
        n = torch.as_tensor(n).detach()
    except (TypeError, ValueError, RuntimeError):
        n = torch.zeros(())
    if n.ndim != 1 or n.is_complex() or not n.isfinite().all() or not n.any():
        raise ValueError(
            "n has to be a vector of finite real numbers, not all of them zero, one "
            "for each hidden unit"
        )
    n = n.double() / n.double().abs().max()  # squares of 1e-200 underflow
    return n / n.norm()


def _index(i, size: int, what: str) -> int:
    """i, counted from the start; one sentence where it does not exist."""
    if isinstance(i, Tensor) and i.numel() == 1 and not i.is_floating_point():
        i = i.item()
    whole = isinstance(i, Integral) and not isinstance(i, bool)
    if not whole or not -size <= i < size:
        raise ValueError(
            f"there is no number {i!r} among {size} {what}: give an integer from "
            f"{-size} to {size - 1}"
        )
    return int(i) % size


def _entries(params: Params, names, rows, columns, values, k: int) -> MirrorSymmetry:
    shapes = tuple(tuple(params[n].shape) for n in names)
    entries = (torch.cat(rows), torch.cat(columns), torch.cat(values).double())
    return MirrorSymmetry(names, shapes, *entries, k)
