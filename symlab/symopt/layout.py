"""A parameter as a stack of matrices with outputs as rows, and back.

Experts, heads, and the two halves of a fused gate and up projection are matrices of
their own; a convolution is one matrix. Splitting makes views: nothing is copied.
"""

from dataclasses import dataclass

from torch import Tensor

ALONG = ("rows", "columns", "interleaved rows")


@dataclass(frozen=True)
class Layout:
    """How a parameter falls into matrices (m, n).

    rows, columns: its axes of outputs and inputs; a third axis is a stack. pieces: how
    many matrices lie side by side `along` the rows, the columns, or row by row in turn
    ('interleaved rows'). flat: all axes after the first are inputs (a convolution).
    transpose: inputs as rows, for rules that act on columns.
    """

    rows: int = -2
    columns: int = -1
    pieces: int = 1
    along: str = "rows"
    flat: bool = False
    transpose: bool = False

    def split(self, x: Tensor) -> Tensor:
        """(N, m, n). Raises ValueError where the pieces do not divide it."""
        x = self._oriented(x)
        if self.pieces > 1:
            x = x.unflatten(self._axis, self._lengths(x)).movedim(self._piece, -3)
        x = x[None] if x.ndim == 2 else x.flatten(0, -3)
        return x.mT if self.transpose else x

    def join(self, blocks: Tensor, like: Tensor) -> Tensor:
        """The inverse: (N, m, n) to the shape of `like`."""
        blocks = blocks.mT if self.transpose else blocks
        whole = self._oriented(like)
        if self.pieces > 1:
            stack = (*whole.shape[:-2], self.pieces)
            blocks = blocks.reshape(*stack, *blocks.shape[-2:])
            blocks = blocks.movedim(-3, self._piece)
        x = blocks.reshape(whole.shape)
        if self.flat or like.ndim > 3:
            return x.reshape(like.shape)
        return x.movedim((-2, -1), (self.rows, self.columns))

    def is_stack(self, ndim: int) -> bool:
        """Whether axis 0 of a parameter counts matrices, each by itself."""
        return (
            ndim == 3 and not self.flat and 0 not in (self.rows % 3, self.columns % 3)
        )

    def _oriented(self, x: Tensor) -> Tensor:
        """(..., outputs, inputs)."""
        if self.flat or x.ndim > 3:
            return x.flatten(1)
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
                f"{length} {self.along} do not make {self.pieces} equal heads"
            )
        if self.along == "interleaved rows":
            return length // self.pieces, self.pieces
        return self.pieces, length // self.pieces
