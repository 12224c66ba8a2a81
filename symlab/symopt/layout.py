"""Split a parameter into matrices with outputs as rows, and join them again.

Experts, heads, the halves of a fused gate and up projection and the groups of a
convolution are separate matrices. The results are views if possible.
"""

from dataclasses import dataclass
from math import prod

from torch import Tensor

ALONG = ("rows", "columns", "interleaved rows")


@dataclass(frozen=True)
class Layout:
    """How a parameter is split into matrices (m, n) of outputs by inputs.

    rows, columns: the axes of outputs and inputs; a third axis is a stack of matrices.
    pieces, along: how many matrices lie side by side, and along what: 'rows', 'columns'
        or 'interleaved rows', in which the matrices' rows alternate.
    flat: whether it is a convolution, whose further axes (the kernel) count as inputs.
    transpose: whether inputs become the rows, for rules that act on columns.
    """

    rows: int = -2
    columns: int = -1
    pieces: int = 1
    along: str = "rows"
    flat: bool = False
    transpose: bool = False

    def split(self, x: Tensor) -> Tensor:
        """Return the matrices (N, m, n) of x, a tensor of the parameter's shape.

        Raises ValueError if the number of pieces does not divide it.
        """
        x = self._oriented(x)
        if self.pieces > 1:
            x = x.unflatten(self._axis, self._lengths(x)).movedim(self._piece, -3)
        x = x[None] if x.ndim == 2 else x.flatten(0, -3)
        return x.mT if self.transpose else x

    def join(self, blocks: Tensor, like: Tensor) -> Tensor:
        """Return matrices (N, m, n) in the shape of a parameter: the inverse of
        `split`.

        like: a tensor of the parameter's shape.
        """
        blocks = blocks.mT if self.transpose else blocks
        whole = self._oriented(like)
        if self.pieces > 1:
            stack = (*whole.shape[:-2], self.pieces)
            blocks = blocks.reshape(*stack, *blocks.shape[-2:])
            blocks = blocks.movedim(-3, self._piece)
        x = blocks.reshape(whole.shape)
        if self._is_flat(like):
            return x.reshape(like.movedim(self._out(like), 0).shape).movedim(
                0, self._out(like)
            )
        return x.movedim((-2, -1), (self.rows, self.columns))

    def kernel(self, shape: tuple[int, ...]) -> int:
        """Return the number of kernel entries per channel, 9 for a 3 x 3 convolution.

        shape: the shape of the weight. The result is 1 for other weights.
        """
        return prod(shape[2:]) if self.flat or len(shape) > 3 else 1

    def is_stack(self, ndim: int) -> bool:
        """Return whether axis 0 of a parameter with `ndim` axes enumerates separate
        matrices.
        """
        return (
            ndim == 3 and not self.flat and 0 not in (self.rows % 3, self.columns % 3)
        )

    def _is_flat(self, x: Tensor) -> bool:
        return self.flat or x.ndim > 3

    def _out(self, x: Tensor) -> int:
        """The axis of outputs of a convolution; 0 where only 'flat' was said."""
        return self.rows % x.ndim if self.flat and self.rows >= 0 else 0

    def _oriented(self, x: Tensor) -> Tensor:
        """(..., outputs, inputs)."""
        if self._is_flat(x):
            return x.movedim(self._out(x), 0).flatten(1)
        return x.movedim((self.rows, self.columns), (-2, -1))

    @property
    def _axis(self) -> int:
        return -1 if self.along == "columns" else -2

    @property
    def _piece(self) -> int:
        """Where the axis of pieces is when its axis is in two: (..., m, n) in 3."""
        return {"rows": -3, "columns": -2, "interleaved rows": -2}[self.along]

    def _lengths(self, x: Tensor) -> tuple[int, int]:
        length = x.shape[self._axis]
        if length % self.pieces:
            raise ValueError(
                f"{length} {self.along} do not make {self.pieces} equal pieces"
            )
        if self.along == "interleaved rows":
            return length // self.pieces, self.pieces
        return self.pieces, length // self.pieces
