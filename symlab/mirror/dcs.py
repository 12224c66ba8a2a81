"""DCS, differentiable constraint by symmetry, as a torch parametrization.

A parameter theta gets constraints A theta = 0 that weight decay enforces:
    theta = (I - A^+ A) v + A^+ s,   s = u * w,
with weight decay on u and w alone. Since min (wd/2)(u^2 + w^2) under u w = s is wd |s|,
this minimises l(theta) + wd ||A theta||_1 with an ordinary optimizer: above a finite
critical decay the constraint holds exactly. With orthonormal rows, A = O^T, it is the
construction of Liu Ziyin, "Symmetry Induces Structure and Constraint of Learning" (ICML
2024); general A (generalised and fused lasso) and the critical decay are derived here.

    torch.nn.utils.parametrize.register_parametrization(layer, "weight", DCS(A))
    optimizer = torch.optim.SGD(decay_groups(model, weight_decay=0.1), lr=0.1)

Signs. The mirrors of s = u*w are u = w and u = -w. Gradient descent stays on a mirror
once it is there, and on u = w no s is ever negative. Training therefore starts at
|u| = 2 |w| (`factors`). Each step of SGD multiplies u^2 - w^2 by
(1 - lr wd)^2 - (lr g)^2, where g = dl/ds (law of balance), so that weight decay and
gradient noise pull every pair towards a mirror. The mirror is reached, u = w to the
last bit, when the sum over all steps of lr wd + (lr g)^2/2 is about 8 in float32, 17 in
float64, 3 in float16 and 2 in bfloat16 (measured with noisy gradients; without noise
u - w stalls at its rounding, about eps/(lr wd), and a sign can still change, but
slowly). From then on s can shrink to zero and grow again, but cannot change its sign. A
task that changes later needs new factors: `layer.weight = layer.weight.detach()` makes
them and keeps the function.

Optimizers. DCS requires an update that is linear in (u, w) near 0, as SGD's is: there
u + w and u - w are multiplied by 1 - lr (weight_decay +- g). Adam and AdamW divide the
gradient by its own size, up to their eps:
  AdamW  near 0 a step is lr (g w/eps + weight_decay u), so that the critical decay is
         1/eps times that of SGD: 1e8 times by default, and no constraint ever holds.
         With eps=1 on u and w it is SGD's: decay_groups(model, 0.1, eps=1.0, lr=1.0).
  Adam   its decay is part of the gradient, so that the minimum is the right one, but s
         does not stay at 0: with full batches it leaves 0 again and again, up to 1e-6
         at lr 0.001 and 1e-3 at lr 0.1.

Precision. theta is computed in float32, or in float64 if the parameter or A is float64,
also under autocast and for half-precision parameters, and is finally rounded to the
dtype of the parameter. A constraint a theta = 0 therefore holds up to that rounding: at
most eps * sum_j |a_j theta_j|, eps being that of the parameter's dtype (1e-7 in
float32, 4e-3 in bfloat16).
"""

from collections.abc import Callable, Sequence
from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

AWAKE = 0.01  # least initial u: u = w = 0 is stationary and would never be left
RATIO = 2.0  # initial |u|/|w|: costs 5/4 of the least decay, and is off the mirror
SPARSE = 16  # a matrix with fewer than one nonzero entry in 16 is held as its entries


class DCS(nn.Module):
    """A torch parametrization under which weight decay enforces A theta = 0 exactly.

    The parameter theta is computed from trained v, u and w as theta = (I - A^+ A) v +
    A^+ (u * w), with weight decay on u and w alone.

    constraint: A (k, P) on the flattened parameter, of full row rank: a tensor (dense
        or sparse), an array or nested lists. It is stored in float32 or float64, and a
        cast of the model to a shorter dtype does not round it.
    groups: sizes that add up to k; the k values A theta = s = u * w of a group share
        one u, and vanish together (group lasso). By default every constraint is a group
        of its own.

    Full row rank means that no row lies within max(k, 4) eps (of A's dtype) of the span
    of the rows before it, relative to its own length. Rows that are orthogonal to each
    other, such as single entries or sums over disjoint sets, need no more memory than
    A, of which only the nonzero entries are stored if these are few. Other rows need a
    dense orthonormal basis (k, P) of their span.

    Raises ValueError if A is not a finite matrix of full row rank, if the groups do not
    add up to k, and, on registration, if A does not fit the parameter.
    """

    def __init__(self, constraint: Tensor, groups: Sequence[int] = ()):
        super().__init__()
        matrix = _as_matrix(constraint)
        sizes = torch.tensor(_sizes(groups, matrix.shape[0]), device=matrix.device)
        owner = torch.arange(len(sizes), device=matrix.device, dtype=torch.int32)
        self.groups = len(sizes)
        # the group of each constraint, (k,)
        self.register_buffer("owner", owner.repeat_interleave(sizes))
        self._factor(matrix)

    def _factor(self, matrix: Tensor) -> None:
        """Hold A, and A = L Q where its rows are not orthogonal.

        Q (k, P) has orthonormal rows, L is lower triangular, and A^+ = Q^T L^-1.
        """
        lengths, basis, inverse = _factored(matrix)
        self.constraint = Matrix(matrix)
        self.basis = None if basis is None else Matrix(basis)
        self.register_buffer("lengths", lengths)  # |a_i| of each row, (k,)
        self.register_buffer("inverse", inverse)  # L^-1 (k, k)

    def _apply(self, fn, recurse=True):
        """Follow the module to its device, but never to a shorter dtype."""

        def keep(t: Tensor) -> Tensor:
            moved = fn(t)
            shorter = t.is_floating_point() and moved.dtype.itemsize < t.dtype.itemsize
            return t.to(moved.device) if shorter else moved

        before = self.constraint.dtype
        super()._apply(keep, recurse)
        if self.constraint.dtype != before:  # Q of float32 is not orthonormal to 1e-16
            self._factor(self.constraint.tensor())
        return self

    def forward(
        self, v: Tensor, u: Tensor | None = None, w: Tensor | None = None
    ) -> Tensor:
        """Return theta = (I - A^+ A) v + A^+ (u * w), in the shape and dtype of v.

        A (k, P) is the constraint and A^+ its pseudo-inverse.

        v: the unconstrained part, in the shape of the parameter.
        u, w: (number of groups,) and (k,), the factors on which weight decay acts.

        Raises ValueError if u or w is missing, or A does not fit the parameter.
        """
        if u is None or w is None:
            raise ValueError(
                "DCS has to be the first parametrization of a parameter: remove the "
                "others (torch.nn.utils.parametrize.remove_parametrizations) before"
            )
        self._check(v)
        wide = torch.promote_types(v.dtype, self.constraint.dtype)
        with _without_autocast(v):
            flat, u, w = v.reshape(-1).to(wide), u.to(wide), w.to(wide)
            s = u.index_select(0, self.owner) * w  # u[...] has a slow backward
            theta = flat + self._across(s, flat)
        return theta.to(v.dtype).reshape(v.shape)

    def _across(self, s: Tensor, flat: Tensor) -> Tensor:
        """A^+ (s - A v), (P,)."""
        if self.basis is None:
            rest = (s - self.constraint.times(flat)) / self.lengths
            return self.constraint.back(rest / self.lengths)
        rest = self.inverse.to(s.dtype) @ s - self.basis.times(flat)
        return self.basis.back(rest)

    def right_inverse(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (v, u, w) that represent a given theta, so that the function is
        unchanged.

        v is theta, u is at least 2 |w| (see `factors`), and u * w is A theta up to the
        rounding of w. Raises ValueError if the constraint A does not fit theta, or
        theta or A theta is not finite.
        """
        self._check(theta)
        theta = theta.detach()
        if not theta.isfinite().all():
            raise ValueError("the parameter has entries that are not finite")
        wide = torch.promote_types(theta.dtype, self.constraint.dtype)
        self.to(device=theta.device, dtype=wide)
        with _without_autocast(theta):
            s = self.constraint.times(theta.reshape(-1).to(wide))
        if not s.isfinite().all():
            raise ValueError("A theta overflows: scale the constraint down")
        return theta.clone(), *factors(s, self.owner, theta.dtype)

    def violation(self, theta: Tensor) -> Tensor:
        """Return max |A theta|, a scalar tensor: 0 if every constraint holds."""
        theta = torch.as_tensor(theta)
        self._check(theta)
        wide = torch.promote_types(theta.dtype, self.constraint.dtype)
        with _without_autocast(theta):
            return self.constraint.times(theta.reshape(-1).to(wide)).abs().max()

    def _check(self, theta: Tensor) -> None:
        if not theta.is_floating_point():
            raise ValueError(
                f"the parameter has dtype {theta.dtype}: DCS constrains parameters of "
                "real floating-point numbers"
            )
        k, entries = self.constraint.shape
        if theta.numel() != entries:
            raise ValueError(
                f"the constraint has {entries} columns, but the parameter of shape "
                f"{tuple(theta.shape)} has {theta.numel()} entries: give a matrix of "
                f"shape ({k}, {theta.numel()}), one column for each entry"
            )


def factors(
    s: Tensor, owner: Tensor | None = None, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Return u (number of groups,) and w (k,) with u[owner] * w = s and |u| > |w|.

    s: (k,), the values A theta of the constraints.
    owner: (k,), the number of the group of each entry of s; by default each entry is a
        group of its own.
    dtype: dtype of u and w, by default that of s.

    With |s| the norm over a group, u = sqrt(2 |s|) and w = s/u, so that |u| = 2 |w| for
    a group of one entry: on the mirror |u| = |w|, which gradient descent does not
    leave, s could never change its sign. u is at least AWAKE, because gradient descent
    would not leave u = w = 0 either.
    """
    s, dtype = s.detach(), dtype or s.dtype
    owner = torch.arange(len(s), device=s.device) if owner is None else owner.long()
    zeros = s.new_zeros(int(owner.max()) + 1)
    peak = zeros.scatter_reduce(0, owner, s.abs(), "amax")
    unit = s / peak.clamp(min=torch.finfo(s.dtype).tiny)[owner]  # no square overflows
    norm = zeros.index_add(0, owner, unit.square()).sqrt()
    u = (RATIO**0.5 * peak.sqrt() * norm.sqrt()).clamp(min=AWAKE).to(dtype)
    return u, (s / u.to(s.dtype)[owner]).to(dtype)


def decay_groups(
    model: nn.Module, weight_decay: float, others: float = 0.0, **options
) -> list[dict]:
    """Return optimizer parameter groups in which weight decay acts on the DCS factors.

    weight_decay: the decay of u and w of every `DCS`, which enforces its constraint.
    others: the decay of all other parameters, by default 0; it is not part of the
        constraint, and on v it would shrink the solution.
    options: further settings of the optimizer for u and w alone, such as lr and, for
        AdamW, eps.

    Raises ValueError for a model without DCS and for a decay that is negative or not
    finite.
    """
    check_model(model)
    for name, decay in (("weight_decay", weight_decay), ("others", others)):
        check_decay(name, decay)
    pairs = []
    for module in model.modules():
        if isinstance(module, parametrize.ParametrizationList) and isinstance(
            module[0], DCS
        ):
            pairs += [module.original1, module.original2]
    if not pairs:
        raise ValueError(
            "the model has no DCS parametrization: register one with "
            "torch.nn.utils.parametrize.register_parametrization"
        )
    chosen = {id(p) for p in pairs}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = [{"params": pairs, "weight_decay": weight_decay, **options}]
    return [*groups, {"params": rest, "weight_decay": others}] if rest else groups


def critical_decay(
    loss: Callable[[Tensor], Tensor],
    theta: Tensor,
    constraint: Tensor,
    groups: Sequence[int] = (),
) -> float:
    """Return the least weight decay at which the constraint of `DCS` holds.

    loss: l(theta), a scalar.
    theta: the minimum of l under A theta = 0; that it is a minimum is not checked.
    constraint, groups: A (k, P) and the group sizes, as for `DCS`.

    At theta the gradient of l is A^T mu. With s = A theta and wd the weight decay, s =
    0 minimises l + wd ||s|| (locally, if l is not convex) if and only if wd >= |mu| in
    each group. The result is the largest |mu|. Raises ValueError as `DCS` does, and if
    the loss or its gradient is not finite.
    """
    theta = torch.as_tensor(theta).detach()
    dcs = DCS(constraint, groups)
    dcs._check(theta)
    wide = torch.promote_types(theta.dtype, dcs.constraint.dtype)
    dcs.to(device=theta.device, dtype=wide)
    g = _gradient(loss, theta).reshape(-1).to(wide)
    if dcs.basis is None:
        mu = dcs.constraint.times(g) / dcs.lengths / dcs.lengths
    else:
        mu = dcs.inverse.T @ dcs.basis.times(g)
    squares = mu.new_zeros(dcs.groups).index_add(0, dcs.owner, mu.square())
    return float(squares.max().sqrt())


def differences(n: int) -> Tensor:
    """Return the constraints (n-1, n) of the fused lasso: rows theta_{i+1} - theta_i.

    Raises ValueError if n is not an integer of at least 2.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 2:
        raise ValueError(f"differences of {n!r} entries: give an integer of 2 or more")
    return torch.diff(torch.eye(int(n)), dim=0)


# --- matrices ------------------------------------------------------------------------


class Matrix(nn.Module):
    """A constant matrix (k, P), stored sparsely where most entries are zero."""

    def __init__(self, matrix: Tensor):
        super().__init__()
        self.shape = tuple(matrix.shape)
        row, column, value = None, None, matrix
        count = matrix._nnz() if matrix.is_sparse else int(matrix.count_nonzero())
        if SPARSE * count < matrix.numel():
            entries = matrix.to_sparse_coo().coalesce()
            (row, column), value = entries.indices().int(), entries.values()
        elif matrix.is_sparse:
            value = matrix.to_dense()
        self.register_buffer("row", row)  # (entries,), None for a dense matrix
        self.register_buffer("column", column)
        self.register_buffer("value", value.detach().clone())

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the matrix entries."""
        return self.value.dtype

    def tensor(self) -> Tensor:
        """Return the matrix as a tensor (k, P), sparse if the matrix is stored
        sparsely.
        """
        if self.row is None:
            return self.value
        places = torch.stack([self.row, self.column]).long()
        return torch.sparse_coo_tensor(
            places, self.value, self.shape, is_coalesced=True, check_invariants=False
        )

    def times(self, x: Tensor) -> Tensor:
        """Return the product (k,) of the matrix (k, P) with x (P,)."""
        value = self.value.to(x.dtype)
        if self.row is None:
            return value @ x
        found = value * x.index_select(0, self.column)
        return found.new_zeros(self.shape[0]).index_add(0, self.row, found)

    def back(self, c: Tensor) -> Tensor:
        """Return the product (P,) of the transposed matrix (P, k) with c (k,)."""
        value = self.value.to(c.dtype)
        if self.row is None:
            return value.T @ c
        found = value * c.index_select(0, self.row)
        return found.new_zeros(self.shape[1]).index_add(0, self.column, found)


def _as_matrix(constraint) -> Tensor:
    """The constraint as a finite (k, P) tensor of float32 or float64, dense or COO."""
    if not isinstance(constraint, Tensor):
        array = np.asarray(constraint)
        if array.dtype.kind not in "fiub":
            raise ValueError(
                f"the constraint is {type(constraint).__name__} of {array.dtype} "
                "entries: give a matrix of real numbers"
            )
        wide = array.dtype.kind == "f" and array.dtype.itemsize >= 8
        constraint = torch.from_numpy(array.astype(np.float64 if wide else np.float32))
    matrix = constraint.detach()
    if matrix.layout is not torch.strided:
        matrix = matrix.to_sparse_coo().coalesce()
        matrix = matrix if matrix.dense_dim() == 0 else matrix.to_dense()
    if matrix.ndim != 2:
        raise ValueError(
            f"the constraint has shape {tuple(matrix.shape)}: give a matrix "
            "(constraints, entries of the parameter)"
        )
    if matrix.is_complex():
        raise ValueError("the constraint is complex: give a matrix of real numbers")
    if not matrix.shape[0]:
        raise ValueError("the constraint has no rows: give one row for each constraint")
    if matrix.dtype != torch.float64:
        matrix = matrix.float()
    if not matrix.is_sparse and SPARSE * matrix.count_nonzero() < matrix.numel():
        matrix = matrix.to_sparse_coo()
    if not (matrix.values() if matrix.is_sparse else matrix).isfinite().all():
        raise ValueError("the constraint has entries that are not finite (nan or inf)")
    return matrix


def _sizes(groups, k: int) -> list[int]:
    """The sizes of the groups, checked."""
    try:
        sizes = [int(n) for n in groups]
        whole = all(n == size for n, size in zip(groups, sizes, strict=True))
    except (TypeError, ValueError):
        whole = False
    if not whole or isinstance(groups, str):
        raise ValueError(
            f"the groups are {groups!r}: give the number of constraints in each group, "
            "as (3, 3, 2)"
        )
    if len(sizes) and (sum(sizes) != k or min(sizes) < 1):
        shown = f"{sizes[:8]}".replace("]", ", ...]" if len(sizes) > 8 else "]")
        raise ValueError(
            f"the groups {shown} do not add up to {k} constraints: give positive "
            "sizes whose sum is the number of rows"
        )
    return sizes or [1] * k


def _factored(matrix: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(lengths of the rows, Q, L^-1) of A = L Q; no Q where the rows are orthogonal."""
    k, entries = matrix.shape
    eps = torch.finfo(matrix.dtype).eps
    dependent = (
        "the constraints depend on each other: drop rows until the matrix has full row "
        "rank"
    )
    if k > entries:
        raise ValueError(f"{k} constraints on {entries} entries; {dependent}")
    units, lengths = _units(matrix)
    if _largest_product(units) < 8 * eps:
        return lengths.to(matrix.dtype), None, None
    # |R_ii| is the distance of unit row i from the span of the rows before it
    dense = units.to_dense() if units.is_sparse else units
    q, r = torch.linalg.qr(dense.T)
    if r.diagonal().abs().min() < max(k, 4) * eps:
        raise ValueError(dependent)
    inverse = torch.linalg.solve_triangular(
        r.T, torch.diag(1 / lengths), upper=False
    )  # L = diag(lengths) R^T
    lengths, q, inverse = (t.to(matrix.dtype) for t in (lengths, q.T, inverse))
    return lengths, q.contiguous(), inverse


def _units(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The rows scaled to length 1, and their lengths, in float64."""
    wide = matrix.double()
    if not wide.is_sparse:
        peak = wide.abs().amax(1)  # squares of 1e-200 underflow
        lengths = peak * (wide / _nonzero(peak)[:, None]).norm(dim=1)
        return wide / lengths[:, None], lengths
    wide = wide.coalesce()
    (row, _), value = wide.indices(), wide.values()
    peak = value.new_zeros(len(wide)).scatter_reduce(0, row, value.abs(), "amax")
    squares = (value / _nonzero(peak)[row]).square()
    lengths = peak * value.new_zeros(len(wide)).index_add(0, row, squares).sqrt()
    units = torch.sparse_coo_tensor(
        wide.indices(), value / lengths[row], wide.shape, is_coalesced=True,
        check_invariants=False,
    )  # fmt: skip
    return units, lengths


def _nonzero(peak: Tensor) -> Tensor:
    if not peak.all():
        row = int((peak == 0).nonzero()[0])
        raise ValueError(
            f"row {row} of the constraint is zero: drop it, as the matrix needs full "
            "row rank"
        )
    return peak


def _largest_product(units: Tensor) -> float:
    """The largest |a_i . a_j| of two different unit rows."""
    if len(units) == 1:
        return 0.0
    if not units.is_sparse:
        gram = units @ units.T
        return float(gram.fill_diagonal_(0).abs().max())
    from scipy import sparse

    places, value = units.indices().cpu().numpy(), units.values().cpu().numpy()
    rows = sparse.csr_array((value, places), shape=tuple(units.shape))
    gram = (rows @ rows.T).tocoo()
    off = np.abs(gram.data[gram.row != gram.col])
    return float(off.max(initial=0.0))


def _gradient(loss, theta: Tensor) -> Tensor:
    """The gradient of the loss at theta, both finite."""
    with torch.enable_grad():
        at = theta.clone().requires_grad_()
        value = loss(at)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ValueError("the loss has to return one number, a scalar tensor")
        if not value.requires_grad:
            raise ValueError("the loss does not depend on theta by torch operations")
        (gradient,) = torch.autograd.grad(value.reshape(()), at, allow_unused=True)
    if gradient is None or not gradient.isfinite().all():
        raise ValueError("the gradient of the loss is not finite at this theta")
    return gradient


def _without_autocast(t: Tensor):
    """Autocast would round the products to half precision, and the constraint too."""
    kind = t.device.type
    known = torch.amp.is_autocast_available(kind)
    return torch.autocast(kind if known else "cpu", enabled=False)


def check_model(model) -> None:
    """Raise ValueError if `model` is not a torch.nn.Module."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"the model is {type(model).__name__}: give a torch.nn.Module")


def check_decay(name: str, decay: float) -> None:
    """Raise ValueError unless the weight decay is a finite number of at least 0.

    name: the name of the argument, for the message. decay: its value.
    """
    if not isinstance(decay, Real) or not 0 <= decay < float("inf"):
        raise ValueError(f"{name} is {decay!r}: a decay is a finite number, 0 or more")
