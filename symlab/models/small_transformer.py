"""A decoder of one or two layers over characters, with its attention products in view.

Head h reads the normalised input x only through two products:
    logits   x_s^T (W_Q^T W_K) x_t / sqrt(d_head)     output   sum_t a_st (W_O W_V) x_t
so W_Q, W_K -> R W_Q, R W_K and W_V -> S W_V, W_O -> W_O S^T with orthogonal R, S
(d_head, d_head) change nothing: a rotation symmetry for each head and each pair of
matrices. Biases, rotary positions or normalised queries would break or change it; there
are none here. With `factored=False` the two products, (d_model, d_model) each, are
trained themselves: the same function at the start, without the hidden index of size
d_head and without the rotation symmetry.

Axes: B sequences, T characters, H heads, E d_head, D d_model, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention


class SmallTransformer(nn.Module):
    """A pre-norm decoder over characters with learned positions and ReLU perceptrons.

    vocabulary: V, the number of characters. context: the largest T.
    d_model, heads, d_head: D, H and E of the module.
    layers: the number of layers, one or more.
    factored: whether W_Q, W_K, W_V and W_O are trained, or their products.
    seed: of the initial weights; both forms compute the same function at the start.

    Its normalisation has no parameters.
    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        d_model: int = 64,
        heads: int = 4,
        d_head: int = 16,
        layers: int = 1,
        factored: bool = True,
        seed: int = 0,
    ):
        super().__init__()
        draws = torch.Generator().manual_seed(seed)

        def normal(*shape: int, std: float) -> Tensor:
            return std * torch.randn(*shape, generator=draws)

        self.embedding = nn.Parameter(normal(vocabulary, d_model, std=1.0))
        self.position = nn.Parameter(normal(context, d_model, std=0.3))
        kind = Attention if factored else Unfactored
        blocks = []
        for _ in range(layers):
            q, k, v = normal(3, heads, d_head, d_model, std=d_model**-0.5)
            o = normal(heads, d_model, d_head, std=d_model**-0.5)
            up = normal(2 * d_model, d_model, std=d_model**-0.5)
            down = normal(d_model, 2 * d_model, std=(2 * d_model) ** -0.5)
            blocks.append(Block(kind(q, k, v, o), up, down))
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Parameter(normal(vocabulary, d_model, std=d_model**-0.5))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (B, T, V) of the next character for character indices (B,
        T).
        """
        x = self.embedding[tokens] + self.position[: tokens.shape[1]]  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        return _norm(x) @ self.head.t()

    def attention(self) -> list[nn.Parameter]:
        """Return the trained matrices of all attention layers.

        They are W_Q, W_K, W_V and W_O, on which the rotation symmetries act, or their
        products if `factored` is False.
        """
        return [p for block in self.blocks for p in block.attention.parameters()]


class Block(nn.Module):
    """A transformer layer: x + attention, then x + perceptron, both pre-norm."""

    def __init__(self, attention: nn.Module, up: Tensor, down: Tensor):
        super().__init__()
        self.attention = attention
        self.up, self.down = nn.Parameter(up), nn.Parameter(down)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's outputs (B, T, D) for inputs x (B, T, D)."""
        x = x + self.attention(_norm(x))
        return x + (_norm(x) @ self.up.t()).relu() @ self.down.t()


class Attention(nn.Module):
    """Causal attention of H heads of size E on width D.

    q, k, v: the matrices W_Q, W_K, W_V of all heads, (H, E, D). o: W_O, (H, D, E).
    """

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, o: Tensor):
        super().__init__()
        self.q, self.k = nn.Parameter(q.clone()), nn.Parameter(k.clone())
        self.v, self.o = nn.Parameter(v.clone()), nn.Parameter(o.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return the attention's outputs (B, T, D) for inputs x (B, T, D)."""
        b, t, d = x.shape
        h, e, _ = self.q.shape
        qkv = torch.cat([self.q, self.k, self.v]).view(3 * h * e, d)
        q, k, v = (x @ qkv.t()).view(b, t, 3, h, e).permute(2, 0, 3, 1, 4)
        y = scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, E)
        return _joined(y) @ self.o.transpose(1, 2).reshape(h * e, d)

    def products(self) -> tuple[Tensor, Tensor]:
        """Return W_Q^T W_K and W_O W_V of each head, (H, D, D) both.

        The attention depends on its four matrices through these two products only.
        """
        return self.q.transpose(1, 2) @ self.k, self.o @ self.v


class Unfactored(nn.Module):
    """Causal attention whose products W_Q^T W_K and W_O W_V are the trained parameters.

    q, k, v: the matrices W_Q, W_K, W_V of H heads of size E on width D, (H, E, D).
    o: W_O, (H, D, E).
    qk, vo: the parameters, (H, D, D), which start at the products of these matrices.
    """

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, o: Tensor):
        super().__init__()
        self.qk = nn.Parameter(q.transpose(1, 2) @ k)
        self.vo = nn.Parameter(o @ v)
        self.scale = q.shape[1] ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        """Return the attention's outputs (B, T, D) for inputs x (B, T, D)."""
        b, t, d = x.shape
        h = len(self.qk)
        q = (x @ self.qk.transpose(0, 1).reshape(d, h * d)).view(b, t, h, d)
        shared = x[:, None].expand(b, h, t, d)
        y = scaled_dot_product_attention(
            q.transpose(1, 2), shared, shared, is_causal=True, scale=self.scale
        )  # (B, H, T, D)
        return _joined(y) @ self.vo.transpose(1, 2).reshape(h * d, d)

    def products(self) -> tuple[Tensor, Tensor]:
        """Return W_Q^T W_K and W_O W_V of each head, (H, D, D) both: the parameters."""
        return self.qk, self.vo


def _joined(y: Tensor) -> Tensor:
    """(B, H, T, E) to (B, T, H*E)."""
    return y.transpose(1, 2).flatten(2)


def _norm(x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:])
