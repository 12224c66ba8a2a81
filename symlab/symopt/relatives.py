"""The update maps of related optimizers, as pure functions of a momentum.

  schatten_power, freon   U s^(q-1) V^T, from SGD (q = 2) through Muon (q = 1) to
                          inverted spectra (q < 1): Shumaylov et al., arXiv 2605.11181
  kaon                    a chaotic map of the singular values; same paper
  sinkhorn                rows and columns of equal length: SinkGD, arXiv 2502.06742
  sign                    the sign of each entry
  aro                     one of these in a rotated frame: Gong et al., arXiv 2602.09006
  normuon                 a row statistic on a polar factor: Li et al., arXiv 2510.05491
  eigen_adam              Adam in the eigenbasis of the inputs: one-sided SOAP, Vyas et
                          al., arXiv 2409.11321
  bias_rms                Scion's oracle for vectors: Pethick et al., arXiv 2502.07529

Scion's other oracles are other rules times a number and are not repeated here:
`spectral` with the scale 'scion'; D^(1/2) `row_norm` for embeddings (V, D);
`row_norm` / D^(1/2) or `sign` / D for heads with D inputs.

A map with a state takes it as an argument and returns the next one; None is the first.
Inputs are not changed, zero has the update zero, and each map except `schatten_power`
is independent of the scale of its input. Half precision is computed in float32.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from symlab.symopt.names import unknown
from symlab.symopt.polar import _cutoff, _normalised, nuclear_norm
from symlab.symopt.rules import _inverse, _safe, column_norm, row_norm

# --- Freon ---------------------------------------------------------------------------


def freon(x: Tensor, q: float = 2 / 3, method: str = "svd", **options) -> Tensor:
    """Return Freon's update of each matrix x = U diag(s) V^T (..., m, n), in x's dtype.

    It is U diag((s / M)^(q-1)) V^T with the power mean M = (sum s^q / k)^(1/q) over the
    k = min(m, n) singular values (arXiv 2605.11181). q = 1 is the polar factor, q = 2
    is x scaled to the Frobenius norm k^(1/2) of a polar factor, and equal singular
    values become 1 for every q. The paper divides x by (sum s^q)^(1/q), maps, and
    multiplies by (sum s^q / k)^((1-q)/q) of the divided matrix, which is the same. It
    is equivariant under rotations of rows and of columns.

    method, options: of `schatten_power`. Raises ValueError unless q > 0.
    """
    if not q > 0:
        raise ValueError(f"q = {q} is no Schatten exponent: use one above 0")
    y, powered = _power(x, 1 - q / 2, method, **options)
    # s s^(q-1) summed, so no method needs the singular values themselves
    mean = nuclear_norm(y, powered) / max(1, min(x.shape[-2:]))
    return (powered * _safe(mean) ** ((1 - q) / q)).to(x.dtype)


def schatten_power(x: Tensor, c: float, method: str = "svd", **options) -> Tensor:
    """Return (x x^T)^(-c) x = U diag(s^(1-2c)) V^T of each matrix x = U diag(s) V^T.

    x: (..., m, n); the result has its dtype and is homogeneous of degree 1 - 2c in x.
    method: one of the names below.
    options: dtype to compute in, cutoff (svd, gram), damping and steps (newton).

      svd       the definition, on singular values above `cutoff` times the largest
      gram      eigenvectors of the smaller Gram matrix, on the same range; in float64,
                because squares need the digits: in float32 a condition above 1e3 is cut
      newton    a coupled iteration for the inverse b-th root, c = a/b (Guo and Higham
                2006): matrix products only. Its `damping` d, RELATIVE to the trace of
                the Gram matrix, replaces the cut-off: s (s^2 + d)^(-c)

    Raises ValueError for vectors, complex numbers, an unknown method, and for newton if
    c is not a fraction a/b in [0, 1] with b <= 12.
    """
    y, powered = _power(x, c, method, **options)
    size = _safe(nuclear_norm(x.to(y.dtype), y))  # <x, x/|x|> = |x|
    return (powered * size ** (1 - 2 * c)).to(x.dtype)


def _power(
    x: Tensor, c: float, method: str, *, dtype: torch.dtype | None = None, **options
) -> tuple[Tensor, Tensor]:
    """x / |x| and its power, in the dtype of the computation."""
    _check(x, "a Schatten power")
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    single = torch.promote_types(x.dtype, torch.float32)
    y = _normalised(x, dtype or (torch.float64 if method == "gram" else single))
    if x.numel() == 0:
        return y, y
    if method != "newton":
        options.setdefault("cutoff", _cutoff(x.to(single), None))
    wide = y.shape[-2] <= y.shape[-1]
    powered = METHODS[method](y if wide else y.mT, c, **options)
    return y, powered if wide else powered.mT


def _svd(x: Tensor, c: float, *, cutoff: float) -> Tensor:
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    kept = s > cutoff * s[..., :1]
    s = torch.where(kept, torch.where(kept, s, 1) ** (1 - 2 * c), 0)
    return (u * s[..., None, :]) @ vt


def _gram(x: Tensor, c: float, *, cutoff: float) -> Tensor:
    values, vectors = torch.linalg.eigh(x @ x.mT)
    # eigenvalues are known to rounding of the largest: their roots no better than this
    least = max(cutoff**2, x.shape[-2] * float(torch.finfo(x.dtype).eps))
    kept = values > least * values[..., -1:]
    powers = torch.where(kept, torch.where(kept, values, 1) ** -c, 0)
    return (vectors * powers[..., None, :]) @ (vectors.mT @ x)


def _newton(
    x: Tensor, c: float, *, damping: float | None = None, steps: int | None = None
) -> Tensor:
    """X -> X T, M -> T^b M with T = ((b+1) I - M)/b: M -> I and X -> A^(-1/b)."""
    if steps is not None:
        _check_steps(steps)
    fraction = Fraction(c).limit_denominator(12)
    a, b = fraction.numerator, fraction.denominator
    if abs(c - a / b) > 1e-9 or not 0 <= c <= 1:
        raise ValueError(
            f"newton needs a fraction a/b in [0, 1] with b <= 12, and c is {c}: use svd"
        )
    d = 4 * float(torch.finfo(x.dtype).eps) if damping is None else damping
    eye = torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    gram = x @ x.mT + d * eye  # |x| = 1 is the trace: d is relative
    scale = (b + 1) / 2 / torch.linalg.matrix_norm(gram, keepdim=True)
    root, residual = scale ** (1 / b) * eye, scale * gram
    # the least eigenvalue grows by (1 + 1/b)^b a step; then convergence is quadratic
    growing = math.log(1 / d) / (b * math.log1p(1 / b))
    for _ in range(steps or math.ceil(growing) + 6):
        t = ((b + 1) * eye - residual) / b
        root = root @ t
        for _ in range(b):
            residual = t @ residual
    for _ in range(a):
        x = root @ x
    return x


METHODS = {"svd": _svd, "gram": _gram, "newton": _newton}

# --- maps without state --------------------------------------------------------------


def kaon(x: Tensor, steps: int = 5) -> Tensor:
    """Return Kaon's update of each matrix x (..., m, n): a chaotic map of singular
    values.

    steps: the number of iterations of the map.

    Starting from x / |x|, each step maps X to 4.1 (I - X X^T)^2 X, so each singular
    value s to 4.1 s (1 - s^2)^2, which stays below 1.1735; the result is divided by
    1.175 (arXiv 2605.11181). It is equivariant under rotations of rows and of columns.
    Errors grow by a factor of e^0.89 per step, so half precision is computed in
    float32. A matrix of rank one has s = 1, which the map sends to 0: its update is
    zero.
    """
    _check(x, "Kaon's update")
    _check_steps(steps)
    y = _normalised(x, torch.promote_types(x.dtype, torch.float32))
    wide = y.shape[-2] <= y.shape[-1]
    y = y if wide else y.mT
    eye = torch.eye(y.shape[-2], dtype=y.dtype, device=y.device)
    for _ in range(steps):
        rest = eye - y @ y.mT
        y = 4.1 * (rest @ rest @ y)
    y = y / 1.175
    return (y if wide else y.mT).to(x.dtype)


def sinkhorn(x: Tensor, steps: int = 5) -> Tensor:
    """Return x (..., m, n) scaled to columns of length m^(1/2) and rows of about
    n^(1/2).

    steps: the number of alternating normalisations.

    Rows and columns are normalised in turn, rows first, as in SinkGD (arXiv 2502.06742,
    Algorithm 3), so that columns are exact after every step, and entries have root mean
    square 1. It is equivariant under permutations of rows and of columns. The paper on
    ARO (arXiv 2602.09006) divides by both at once, which commutes with transposition
    and has the same limit, but exact lengths only in the limit.
    """
    _check(x, "Sinkhorn's update")
    _check_steps(steps)
    y = x.to(torch.promote_types(x.dtype, torch.float32))
    for _ in range(steps):
        y = column_norm(row_norm(y))
    return (math.sqrt(x.shape[-2]) * y).to(x.dtype)


def sign(x: Tensor) -> Tensor:
    """Return the sign of each entry of x, 0 at 0.

    It is equivariant under signed permutations of rows and of columns.
    """
    return x.sign()


def bias_rms(x: Tensor) -> Tensor:
    """Return vectors (..., d) divided by the root mean square of their entries.

    It is equivariant under rotations; a zero vector stays zero.
    """
    y = x.to(torch.promote_types(x.dtype, torch.float32))
    y = y / _safe(y.abs().amax(-1, keepdim=True))
    return (y * _inverse(y.square().mean(-1, keepdim=True))).to(x.dtype)


# --- maps with state -----------------------------------------------------------------


def _clear_sign(z: Tensor) -> Tensor:
    """The sign, 0 for entries that are rounding of their row.

    QR makes rows of R^T x orthogonal to earlier rows of signs, some entries exactly 0.
    """
    clear = z.abs() > math.sqrt(float(torch.finfo(z.dtype).eps)) * z.norm(
        dim=-1, keepdim=True
    )
    return torch.where(clear, sign(z), 0)


BASES = {"sinkhorn": sinkhorn, "sign": _clear_sign, "row_norm": row_norm}


def aro(
    x: Tensor,
    rotation: Tensor | None = None,
    base: str | Callable[[Tensor], Tensor] = "sinkhorn",
) -> tuple[Tensor, Tensor]:
    """Return R f(R^T x), the update of a base rule f in a rotated frame of rows, and R.

    x: (..., m, n), the momentum.
    rotation: (..., m, m), R', the rotation of the previous step; None at first, for the
        identity.
    base: f, as 'sinkhorn', 'sign', 'row_norm' or a scale-free function.

    R = QR(x f(R'^T x)^T) (arXiv 2602.09006), computed in float32 or better. The update
    is equivariant under a rotation of the rows if R' is rotated with x, and under
    permutations of columns.

    With f = row_norm this is a power iteration for the left singular vectors, and the
    update tends to the polar factor. An f that commutes with rotations of the rows,
    such as `column_norm`, cancels the frame. A zero x leaves R unchanged. Rows of R^T x
    shorter than the square root of rounding are set to zero: R is computed from a
    product of two matrices and has no higher accuracy, and f would scale these rows to
    full size. If x has few columns, their images under f = sign can be linearly
    dependent; rounding then determines a part of the frame. Raises ValueError for a
    rotation of another shape.
    """
    _check(x, "ARO's update")
    if isinstance(base, str) and base not in BASES:
        raise unknown("base", base, BASES)
    f = BASES[base] if isinstance(base, str) else base
    y = _normalised(x, torch.promote_types(x.dtype, torch.float32))
    square = (*x.shape[:-1], x.shape[-2])
    if rotation is None:
        rotation = torch.eye(x.shape[-2], device=x.device).expand(square)
    if tuple(rotation.shape) != square:
        raise ValueError(
            f"the rotation has shape {tuple(rotation.shape)}: {tuple(x.shape)} needs "
            f"{square}, or None at first"
        )
    rotation = rotation.to(y.dtype)
    q = _next_rotation(y, f(_framed(rotation, y)), rotation)
    q = torch.where(y.abs().amax((-2, -1), keepdim=True) > 0, q, rotation)
    return (q @ f(_framed(q, y))).to(x.dtype), q


def _next_rotation(y: Tensor, z: Tensor, rotation: Tensor) -> Tensor:
    """QR(y z^T), and for tall y a basis of its columns, then the old frame's rest.

    y z^T of a tall y is singular: rounding would choose the columns beyond its rank.
    """
    n = y.shape[-1]
    if y.shape[-2] <= n:
        return _orthonormal(y @ z.mT)
    basis, t = torch.linalg.qr(y)
    inside = basis @ _orthonormal(t @ z.mT)
    return _orthonormal(torch.cat([inside, rotation[..., n:]], -1))


def _orthonormal(a: Tensor) -> Tensor:
    """Q of QR with a positive diagonal of R, which makes it one."""
    q, r = torch.linalg.qr(a)
    negative = r.diagonal(dim1=-2, dim2=-1) < 0
    return torch.where(negative[..., None, :], -q, q)


def _framed(rotation: Tensor, y: Tensor) -> Tensor:
    """R^T y without the rows that are rounding."""
    z = rotation.mT @ y
    length = z.norm(dim=-1, keepdim=True)
    rounding = math.sqrt(float(torch.finfo(y.dtype).eps))
    return torch.where(length > rounding * length.amax(-2, keepdim=True), z, 0)


def normuon(
    update: Tensor,
    second: Tensor | None = None,
    beta2: float = 0.95,
    eps: float = 1e-8,
) -> tuple[Tensor, Tensor]:
    """Return a polar factor with normalised rows, and the next row statistic.

    update: (..., m, n), the polar factor.
    second: (..., m, 1), the running average of the mean square of each row's entries,
        None at first; it starts from zero and has the rate 1 - beta2.
    eps: added to its root.

    Rows are divided by the root of the statistic plus eps, and the whole is scaled to
    the Frobenius norm 0.2 (m n)^(1/2), with entries as large as AdamW's (arXiv
    2510.05491, Algorithm 1). That norm is imposed at each step, so the statistic needs
    no bias correction. Rows that are only rounding relative to the longest become zero,
    because division by their own length would amplify them. It is equivariant under
    permutations of rows and rotations of columns. Raises ValueError for a statistic of
    another shape, and for beta2 or eps out of range.
    """
    _check(update, "NorMuon's statistic")
    if not (0 <= beta2 < 1 and eps >= 0):
        raise ValueError(f"beta2 = {beta2} is not in [0, 1), or eps = {eps} below 0")
    u = update.to(torch.promote_types(update.dtype, torch.float32))
    length = u.norm(dim=-1, keepdim=True)
    longest = length.amax(-2, keepdim=True) if u.numel() else length
    u = torch.where(length > _cutoff(u, None) * longest, u, 0)
    row_shape = (*u.shape[:-1], 1)
    if second is None:
        second = u.new_zeros(row_shape)
    if tuple(second.shape) != row_shape:
        raise ValueError(
            f"the statistic has shape {tuple(second.shape)}: {tuple(u.shape)} needs "
            f"{row_shape}, or None at first"
        )
    second = beta2 * second + (1 - beta2) * u.square().mean(-1, keepdim=True)
    even = u / (second.sqrt() + eps)
    norm = _safe(torch.linalg.matrix_norm(even, keepdim=True))
    size = 0.2 * math.sqrt(u.shape[-2] * u.shape[-1])
    return (even * (size / norm)).to(update.dtype), second


def eigen_adam(
    x: Tensor,
    mean: Tensor | None = None,
    second: Tensor | None = None,
    gram: Tensor | None = None,
    count: Tensor | None = None,
    *,
    centred: bool = False,
    beta1: float = 0.9,
    beta2: float = 0.95,
    beta3: float = 0.95,
    eps: float = 1e-8,
) -> tuple[Tensor, ...]:
    """Return Adam's update in the eigenbasis of the inputs, and its next states.

    x: (..., m, n), the gradient; this rule keeps its own momentum.
    mean, second: (..., m, n), gram: (..., n, n), count: (..., 1, 1), the states, None
        at first; count is the number of steps, for Adam's bias corrections.
    centred: whether the mean row is subtracted before and after, so that adding one
        vector to all rows changes nothing.
    beta1, beta2, beta3: decays of mean, second and gram. eps: as for Adam.

    With Q the eigenvectors of the average of x^T x (gram), the rule averages x (mean)
    and the squares of the entries of x Q (second); the update is (mean Q / root of
    second) Q^T, as large as Adam's. With Q = I this is Adam, which is not equivariant
    under rotations of the inputs (the n columns); here Q rotates with them. Permuting
    the m rows (tokens, classes) permutes the update. It is SOAP (Vyas et al., arXiv
    2409.11321) with one side and a new basis at each step. If eigenvalues are equal,
    rounding determines the basis. Raises ValueError for betas outside [0, 1) and a
    negative eps.
    """
    _check(x, "Adam in an eigenbasis")
    for name, beta in (("beta1", beta1), ("beta2", beta2), ("beta3", beta3)):
        if not 0 <= beta < 1:
            raise ValueError(f"{name} = {beta} is not in [0, 1)")
    if not eps >= 0:
        raise ValueError(f"eps must be 0 or more, not {eps}")
    y = x.to(torch.promote_types(x.dtype, torch.float32))
    y = y - y.mean(-2, keepdim=True) if centred else y
    if mean is None:
        mean, second = torch.zeros_like(y), torch.zeros_like(y)
        gram, count = torch.zeros_like(y.mT @ y), torch.zeros_like(y[..., :1, :1])
    count = count + 1
    gram = torch.lerp(gram, y.mT @ y, 1 - beta3)
    q = torch.linalg.eigh(gram)[1]
    mean = torch.lerp(mean, y, 1 - beta1)
    second = torch.lerp(second, (y @ q).square(), 1 - beta2)
    first = (mean @ q) / (1 - beta1**count)
    size = (second / (1 - beta2**count)).sqrt()
    # directions without gradient stay zero, whatever the size of the others
    floor = _cutoff(y, None) * size.amax((-2, -1), keepdim=True)
    kept = size > floor
    update = torch.where(kept, first / (torch.where(kept, size, 1) + eps), 0) @ q.mT
    update = update - update.mean(-2, keepdim=True) if centred else update
    return update.to(x.dtype), mean, second, gram, count


def _check(x: Tensor, what: str) -> None:
    if x.ndim < 2:
        raise ValueError(
            f"{what} is of matrices, and this has shape {tuple(x.shape)}: use bias_rms "
            "or AdamW for vectors"
        )
    if not x.is_floating_point():
        raise ValueError(f"{what} is of real matrices, not {x.dtype}")


def _check_steps(steps: int) -> None:
    if not (isinstance(steps, int) and steps > 0):
        raise ValueError(f"steps must be a whole number above 0, not {steps}")
