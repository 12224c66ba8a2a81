"""A small transformer whose attention scores may be symmetric, in runs side by side.

Head h scores a pair of tokens by x_s^T A x_t/sqrt(rank), x (D,) normalised. Forms of A:

  full        W_Q^T W_K, two matrices (E, D): any A of rank E.
  symmetric   W^T Sigma W, one matrix (E, D), Sigma = diag(1, -1, 1, ...): A = A^T.
  positive    W^T W, symmetric and positive semidefinite: queries are keys.
  narrow      W_Q^T W_K of rank E/2, with as many parameters as a symmetric A.
  uniform     0: every token that is seen has the same weight.

A block is x + attention(norm x), then x + perceptron(norm x), without biases, and norms
have no parameters. Axes: L runs side by side ("lanes", one per seed), B sequences, T
tokens, H heads, E head width, D model width, V outputs.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, scaled_dot_product_attention

FORMS = ("full", "symmetric", "positive", "narrow", "uniform")


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer, and the form of its attention scores.

    form: the form of the attention scores, as the module lists them.
    inputs: the inputs of the linear map that embeds a token; for one-hot characters the
        size of the alphabet.
    outputs: V. tokens: T. width: D. heads: H. head_width: E.
    layers: the number of layers.
    causal: whether a token sees only itself and those before it.

    Raises ValueError for an unknown form and for an odd head_width.
    """

    form: str
    inputs: int
    outputs: int
    tokens: int
    width: int = 32
    heads: int = 4
    head_width: int = 8
    layers: int = 1
    causal: bool = True

    def __post_init__(self):
        if self.form not in FORMS:
            raise ValueError(f"no scores of the form {self.form!r}: use one of {FORMS}")
        if self.head_width % 2:
            raise ValueError("head_width must be even: a narrow head has half of it")

    @property
    def rank(self) -> int:
        """The largest rank of the score matrix A: the rows of W_Q, W_K or W."""
        return {"narrow": self.head_width // 2, "uniform": 0}.get(
            self.form, self.head_width
        )

    @property
    def matrices(self) -> int:
        """The number of matrices (rank, D) that make the score matrix A: two, one or
        none.

        They are W_Q and W_K, or W, on a model of width D.
        """
        return 1 if self.form in ("symmetric", "positive") else 2

    def score_parameters(self) -> int:
        """Return the number of trained weights in all score matrices A."""
        return self.layers * self.matrices * self.heads * self.rank * self.width

    def score_flops(self) -> int:
        """Return the floating-point operations that all scores of one sequence take.

        These are projections and products of queries with keys. A multiply-add counts
        as two, and scores that a causal mask hides are counted, too.
        """
        project = 2 * self.tokens * self.score_parameters()
        return project + 2 * self.layers * self.heads * self.tokens**2 * self.rank


def initial(shape: Shape, draws: np.random.Generator) -> dict[str, Tensor]:
    """Return random float32 parameters of one transformer by name, without an axis L of
    runs.

    shape: the sizes. draws: the source of random numbers.

    With equal draws, two forms of the scores start with equal parameters, except W_K
    and those rows of W_Q that a narrow head lacks.
    """
    h, e, d, n = shape.heads, shape.head_width, shape.width, shape.layers

    def normal(*size: int, fan: int) -> Tensor:
        return torch.from_numpy(draws.normal(size=size) / fan**0.5).float()

    p = {
        "embed": normal(shape.inputs, d, fan=1),
        "position": normal(shape.tokens, d, fan=10),
        "up": normal(n, d, 2 * d, fan=d),
        "down": normal(n, 2 * d, d, fan=2 * d),
        "v": normal(n, d, h * e, fan=d),
        "o": normal(n, h * e, d, fan=d),
        "head": normal(d, shape.outputs, fan=d),
    }
    both = normal(2, n, d, h, e, fan=d)[: shape.matrices, ..., : shape.rank]
    if shape.rank:
        p["scores"] = both.flatten(-2).contiguous()  # (1 or 2, layers, D, H * rank)
    return p


def forward(p: dict[str, Tensor], x: Tensor, shape: Shape) -> Tensor:
    """Return the outputs (L, B, T, V) of L transformers for B sequences of T tokens.

    p: parameters by name, with a leading axis L.
    x: integers (L, B, T), or vectors (L, B, T, I) with I inputs.
    shape: the sizes; it has V outputs.
    """
    lanes, b, t = x.shape[:3]
    if x.is_floating_point():
        y = x.flatten(1, 2) @ p["embed"]
    else:
        lane = torch.arange(lanes)[:, None]
        y = p["embed"][lane, x.flatten(1)]
    y = y + p["position"][:, :t].repeat(1, b, 1)  # (L, B * T, D)
    for i in range(shape.layers):
        y = y + _attention(p, _norm(y), shape, i, (lanes, b, t))
        y = y + (_norm(y) @ p["up"][:, i]).relu() @ p["down"][:, i]
    return (_norm(y) @ p["head"]).view(lanes, b, t, -1)


def _attention(p, x: Tensor, shape: Shape, layer: int, size) -> Tensor:
    lanes, b, t = size
    h = shape.heads

    def split(y: Tensor) -> Tensor:  # (L, B * T, H * E) to (L * B, H, T, E)
        return y.view(lanes * b, t, h, -1).transpose(1, 2)

    q = k = x.new_zeros(lanes, b * t, h * 2)
    if shape.rank:
        w = p["scores"][:, :, layer]
        q = x @ w[:, 0]
        k = x @ w[:, 1] if shape.matrices == 2 else q
    if shape.form == "symmetric":
        k = k * _signs(shape)
    y = scaled_dot_product_attention(
        split(q), split(k), split(x @ p["v"][:, layer]),
        is_causal=shape.causal, scale=max(shape.rank, 1) ** -0.5,
    )  # fmt: skip
    return y.transpose(1, 2).reshape(lanes, b * t, -1) @ p["o"][:, layer]


def _signs(shape: Shape) -> Tensor:
    """Return Sigma of all heads (H * E,)."""
    return torch.tensor([1.0, -1.0]).repeat(shape.heads * shape.rank // 2)


def products(p: dict[str, Tensor], shape: Shape) -> Tensor:
    """Return the score matrices A of every run, layer and head, (L, layers, H, D, D).

    p: parameters by name, with a leading axis of L runs. shape: the sizes: H heads,
        width D.
    """
    w = p["scores"].unflatten(-1, (shape.heads, shape.rank))  # (L, 1 or 2, n, D, H, E)
    q, k = w[:, 0], w[:, -1]
    if shape.form == "symmetric":
        k = k * _signs(shape).view(shape.heads, shape.rank)
    return torch.einsum("lndhe,lnche->lnhdc", q, k)


def _norm(x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:])
