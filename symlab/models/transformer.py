"""One decoder; Qwen3, Gemma 3, OLMoE and gpt-oss are configurations of it.

    config = preset("dense-small", vocabulary=4096, context=128)
    model = Decoder(config, torch.Generator().manual_seed(0))
    loss(model(tokens), targets).backward()      targets: the NEXT tokens, (B, T)

It has pre-norm blocks of causal attention with grouped queries and rotary positions,
followed by a gated feed-forward unit or a mixture of such units. All differences
between the families are in their configuration (`families`); logits are those of
Hugging Face's models with the same weights.

Axes: B sequences, T tokens, N = B T, D width, H heads, G key-value heads, W width of a
    head, V vocabulary, E experts, K chosen of them, R hidden units.
"""

from collections.abc import Callable
from contextlib import nullcontext
from math import log, pi
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from symlab.models.cache import Cache, Past
from symlab.models.families import DecoderConfig, Yarn, family, preset

__all__ = ["Decoder", "DecoderConfig", "Router", "family", "loss", "preset"]

ALPHA, LIMIT = 1.702, 7.0  # of gpt-oss's clamped unit
STD = 0.02  # of initial weights

# --- parts ---------------------------------------------------------------------------


class Router(NamedTuple):
    """What a router computed: logits (N, E), and the numbers of the chosen experts (N,
    K).
    """

    logits: Tensor
    chosen: Tensor


class Linear(nn.Linear):
    """A linear layer whose weights are drawn by `Decoder.initialise`, not by torch."""

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """An embedding whose weights are drawn by `Decoder.initialise`, not by torch."""

    def reset_parameters(self) -> None:
        pass


class Norm(nn.Module):
    """RMS norm: x divided by its root mean square, times (gain + offset)."""

    def __init__(self, width: int, config: DecoderConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.offset, self.eps = config.gain_offset, config.eps

    def forward(self, x: Tensor) -> Tensor:
        gain = self.weight + self.offset if self.offset else self.weight
        return F.rms_norm(x, gain.shape, gain.to(x.dtype), self.eps)


class Rotation(nn.Module):
    """Rotary position embedding (arXiv 2104.09864), with YaRN if the configuration says
    so.

    Coordinates i and i + W/2 of a head of width W are rotated as a pair.
    """

    def __init__(self, config: DecoderConfig, base: float):
        super().__init__()
        self.context, self.width = config.context, config.head_width
        self.base, self.yarn = base, config.yarn
        shape = (self.context, self.width)
        self.register_buffer("cos", torch.empty(shape), persistent=False)
        self.register_buffer("sin", torch.empty(shape), persistent=False)

    def tabulate(self) -> None:
        """Fill the tables of cosines and sines.

        They cover both halves of a head, and the sines have the sign of the rotation,
        so that `forward` is short.
        """
        frequency, size = _frequencies(self.width, self.base, self.yarn)
        position = torch.arange(self.context, dtype=torch.float64, device="cpu")
        angle = position[:, None] * frequency  # (T, W/2)
        cos, sin = size * angle.cos(), size * angle.sin()
        self.cos.copy_(torch.cat([cos, cos], -1))
        self.sin.copy_(torch.cat([-sin, sin], -1))

    def forward(self, x: Tensor, at: int = 0) -> Tensor:
        """Return x (B, T, H, W), rotated; its first token is at position `at`."""
        cos, sin = (t[at : at + x.shape[1], None] for t in (self.cos, self.sin))
        return torch.addcmul(x * cos, x.roll(self.width // 2, -1), sin)


def _frequencies(width: int, base: float, yarn: Yarn | None) -> tuple[Tensor, float]:
    """Angle per token of each pair (W/2,), float64, and what multiplies cos and sin."""
    pair = torch.arange(width // 2, dtype=torch.float64, device="cpu")
    frequency = base ** (-2 * pair / width)
    if yarn is None:
        return frequency, 1.0

    def pair_of(turns: float) -> float:
        return width * log(yarn.context / (2 * pi * turns)) / (2 * log(base))

    low, high = max(pair_of(yarn.fast), 0.0), min(pair_of(yarn.slow), width - 1.0)
    slowed = ((pair - low) / max(high - low, 1e-3)).clamp(0, 1)
    mixed = frequency * (1 - slowed) + frequency / yarn.factor * slowed
    return mixed, 0.1 * log(yarn.factor) + 1


class Attention(nn.Module):
    """Causal attention of H query heads that share G heads of keys and values."""

    def __init__(self, c: DecoderConfig):
        super().__init__()
        inside, shared = c.heads * c.head_width, c.kv_heads * c.head_width
        self.query = Linear(c.width, inside, c.biases)
        self.key = Linear(c.width, shared, c.biases)
        self.value = Linear(c.width, shared, c.biases)
        self.out = Linear(inside, c.width, c.biases)
        if c.qk_norm != "none":
            whole = c.qk_norm == "projection"
            self.query_norm = Norm(inside if whole else c.head_width, c)
            self.key_norm = Norm(shared if whole else c.head_width, c)
        self.sinks = nn.Parameter(torch.empty(c.heads)) if c.sinks else None
        self.qk_norm, self.head_width = c.qk_norm, c.head_width
        self.scale = c.query_scale or c.head_width**-0.5

    def forward(
        self,
        x: Tensor,
        rotation: Rotation,
        seen: Tensor | None,
        past: Past | None = None,
    ) -> Tensor:
        """Return the outputs (B, T, D) of attention for inputs x (B, T, D).

        rotation: rotates queries and keys by position.
        seen: which keys each query sees, booleans (T, keys) or (B, 1, T, keys); None
            for all keys up to its own position.
        past: keys and values of earlier tokens, to which those of x are added.
        """
        at = past.length if past else 0
        q, k, v = self.query(x), self.key(x), self.value(x)
        if self.qk_norm == "projection":
            q, k = self.query_norm(q), self.key_norm(k)
        q, k, v = (t.unflatten(-1, (-1, self.head_width)) for t in (q, k, v))
        if self.qk_norm == "head":
            q, k = self.query_norm(q), self.key_norm(k)
        q, k = rotation(q, at), rotation(k, at)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        if past:
            k, v = past.extend(k, v)
        y = self._attend(q, k, v, seen)
        return self.out(y.transpose(1, 2).flatten(2))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        """(B, H, T, W) from q and from k, v (B, G, keys, W)."""
        shared = q.shape[1] // k.shape[1]
        if seen is None:
            # with a past, one query, which sees all keys
            causal = q.shape[2] == k.shape[2]
            return F.scaled_dot_product_attention(
                q, k, v, is_causal=causal, scale=self.scale, enable_gqa=shared > 1
            )
        # the kernels that take a mask want as many keys as queries
        k, v = (t.repeat_interleave(shared, 1) for t in (k, v))
        if self.sinks is None:
            return F.scaled_dot_product_attention(q, k, v, seen, scale=self.scale)
        # a sink is a key and a value of zeros whose logit comes through the mask
        k, v = (F.pad(t, (0, 0, 0, 1)) for t in (k, v))
        seen = seen if seen.ndim == 4 else seen[None, None]
        barred = torch.zeros(seen.shape, dtype=q.dtype, device=q.device)
        barred = barred.masked_fill(~seen, -torch.inf)
        b, heads, t = len(seen), len(self.sinks), seen.shape[2]
        sinks = self.sinks[:, None, None].expand(b, heads, t, 1).to(q.dtype)
        mask = torch.cat([barred.expand(b, heads, t, -1), sinks], -1)
        return F.scaled_dot_product_attention(q, k, v, mask, scale=self.scale)


def _gated(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    if activation == "silu":
        return F.silu(gate) * up
    if activation == "gelu":
        return F.gelu(gate, approximate="tanh") * up
    gate, up = gate.clamp(max=LIMIT), up.clamp(-LIMIT, LIMIT)
    return (up + 1) * (gate * torch.sigmoid(ALPHA * gate))


class GatedUnit(nn.Module):
    """A gated feed-forward layer: down(act(gate x) * up x)."""

    def __init__(self, c: DecoderConfig):
        super().__init__()
        self.gate = Linear(c.width, c.hidden, bias=False)
        self.up = Linear(c.width, c.hidden, bias=False)
        self.down = Linear(c.hidden, c.width, bias=False)
        self.activation = c.activation

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.down(_gated(self.gate(x), self.up(x), self.activation)), None


class Mixture(nn.Module):
    """A mixture of experts: each token passes through K of E gated feed-forward units.

    The weights of all experts are stacked: gate_up (E, 2R, D) has the R rows of the
    gates of each expert, followed by its R up-projections; down is (E, D, R).
    """

    def __init__(self, c: DecoderConfig):
        super().__init__()
        e, d, r = c.experts, c.width, c.hidden
        self.router = Linear(d, e, c.biases)
        self.gate_up = nn.Parameter(torch.empty(e, 2 * r, d))
        self.down = nn.Parameter(torch.empty(e, d, r))
        self.gate_up_bias = nn.Parameter(torch.empty(e, 2 * r)) if c.biases else None
        self.down_bias = nn.Parameter(torch.empty(e, d)) if c.biases else None
        self.config = c

    def forward(self, x: Tensor) -> tuple[Tensor, Router]:
        tokens, k = x.flatten(0, -2), self.config.chosen  # (N, D)
        logits, weights, chosen = self._route(tokens)
        expert, order = chosen.flatten().sort(stable=True)  # (N K)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        number = torch.arange(self.config.experts, device=order.device)
        ends = torch.searchsorted(expert, number, right=True).to(torch.int32)
        copies = tokens[:, None].expand(-1, k, -1).flatten(0, 1)
        y = Reordered.apply(copies, order, place)
        y = grouped_product(y, self.gate_up, ends, self.gate_up_bias, expert)
        y = _gated(*y.chunk(2, -1), self.config.activation)
        y = grouped_product(y, self.down, ends, self.down_bias, expert)
        y = Reordered.apply(y, place, order).unflatten(0, (-1, k))  # (N, K, D)
        return (y * weights[..., None]).sum(1).view(x.shape), Router(logits, chosen)

    def _route(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, E), weights and numbers of the chosen (N, K).

        In float32 at least: bfloat16 logits have ties, and ties are choices by chance.
        """
        kind = tokens.device.type
        known = torch.amp.is_autocast_available(kind)  # not on the meta device
        with torch.autocast(kind, enabled=False) if known else nullcontext():
            wide = torch.promote_types(tokens.dtype, self.router.weight.dtype)
            logits = self.router(tokens.to(wide))
            if self.config.gate == "softmax, top-k":
                weights, chosen = logits.softmax(-1).topk(self.config.chosen)
            else:
                top, chosen = logits.topk(self.config.chosen)
                weights = top.softmax(-1)
        return logits, weights, chosen


class Reordered(torch.autograd.Function):
    """The rows x[order], with the gradient g[place], where `place` is the inverse of
    `order`.

    Torch's own gradient of x[order] would need atomic additions; this one does not.
    """

    @staticmethod
    def forward(ctx, x: Tensor, order: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(order, place)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx, g: Tensor):
        order, place = ctx.saved_tensors
        return Reordered.apply(g, place, order), None, None


def grouped_product(
    x: Tensor, w: Tensor, ends: Tensor, bias: Tensor | None, expert: Tensor
) -> Tensor:
    """Return each row of x times the matrix of its expert, plus its bias: (M, out).

    x: rows (M, in), sorted by expert.
    w: (E, out, in), the matrices of E experts.
    ends: (E,) int32, the row at which each expert's rows end.
    bias: (E, out) or None.
    expert: (M,), the expert of each row.

    It is one grouped product of torch, or one product per expert if torch has no
    grouped one: in float64, for rows that are not a multiple of 16 bytes, and in
    compiled float32.
    """
    x, w = (t.to(_product_dtype(x)) for t in (x, w))
    if _has_grouped_product(x, w):
        y = F.grouped_mm(x, w.mT, offs=ends)
    else:
        sizes = ends.diff(prepend=ends.new_zeros(1)).tolist()
        parts = zip(x.split(sizes), w, strict=True)
        y = torch.cat([F.linear(part, matrix) for part, matrix in parts])
    return y if bias is None else y + bias[expert].to(y.dtype)


def _product_dtype(x: Tensor) -> torch.dtype:
    """That of autocast, which does not know grouped products, else x's own."""
    kind = x.device.type
    if kind == "meta":  # torch knows shapes of products in bfloat16 alone
        return torch.bfloat16
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


def _has_grouped_product(x: Tensor, w: Tensor) -> bool:
    half = x.dtype in (torch.bfloat16, torch.float16)
    single = x.dtype == torch.float32 and not torch.compiler.is_compiling()
    aligned = all(n * x.element_size() % 16 == 0 for n in w.shape[1:])
    return hasattr(F, "grouped_mm") and (half or single) and aligned


class Block(nn.Module):
    """A pre-norm layer: x + attention(norm x), then x + gated unit(s)(norm x)."""

    def __init__(self, c: DecoderConfig):
        super().__init__()
        self.attention_norm, self.attention = Norm(c.width, c), Attention(c)
        self.feed_norm = Norm(c.width, c)
        self.feed = Mixture(c) if c.experts else GatedUnit(c)
        post = Norm if c.post_norms else nn.Identity
        self.post_attention_norm = post(c.width, c)
        self.post_feed_norm = post(c.width, c)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation,
        seen: Tensor | None,
        past: Past | None = None,
    ):
        """Return the outputs (B, T, D), and this layer's Router or None.

        x: (B, T, D). rotation, seen, past: as for `Attention.forward`.
        """
        y = self.attention(self.attention_norm(x), rotation, seen, past)
        x = x + self.post_attention_norm(y)
        y, router = self.feed(self.feed_norm(x))
        return x + self.post_feed_norm(y), router


# --- the whole -----------------------------------------------------------------------


class Decoder(nn.Module):
    """A decoder-only transformer, from token ids to logits of the next token.

    config: its configuration (`families`).
    draws: the CPU generator of its initial weights; None only on the meta device.
    """

    def __init__(self, config: DecoderConfig, draws: torch.Generator | None = None):
        """draws: a CPU generator of the initial weights; none on the meta device."""
        super().__init__()
        c = self.config = config
        self.embedding = Embedding(c.vocabulary, c.width)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = Norm(c.width, c)
        self.head = Linear(c.width, c.vocabulary, bias=False)
        self._tie()
        self.rotation = Rotation(c, c.rope_base)
        other = c.window_rope_base
        self.window_rotation = Rotation(c, other) if other else self.rotation
        if not self.head.weight.is_meta:
            if draws is None:
                raise ValueError(
                    "give draws=torch.Generator().manual_seed(seed) for the initial "
                    "weights"
                )
            self.initialise(draws)

    @torch.no_grad()
    def initialise(self, draws: torch.Generator) -> None:
        """Draw weights, attention sinks and the router's bias from N(0, 0.02^2).

        Other biases are set to 0, gains to 1. Numbers are drawn on the CPU in float32
        in the order of parameters, so that they are the same on all devices. The method
        also fills the tables of rotary positions, which `to_empty` leaves unset.
        """
        for name, p in self.named_parameters():
            if name.endswith("norm.weight"):
                p.fill_(1 - self.config.gain_offset)
            elif name.endswith("bias") and not name.endswith("router.bias"):
                p.zero_()
            else:
                put(p, STD * torch.randn(p.shape, generator=draws, device="cpu"))
        self.tabulate()

    def _tie(self) -> None:
        if self.config.tied:
            self.head.weight = self.embedding.weight

    def _apply(self, *args, **kwargs):
        """As of every module, which gives each its own weight where memory is new."""
        super()._apply(*args, **kwargs)
        self._tie()
        return self

    def tabulate(self) -> None:
        """Fill the tables of the rotary positions, which are not stored with the
        weights.
        """
        for module in self.modules():
            if isinstance(module, Rotation):
                module.tabulate()

    @classmethod
    @torch.no_grad()
    def from_weights(
        cls,
        config: DecoderConfig,
        weight: Callable[[str], Tensor],
        dtype: torch.dtype = torch.float32,
    ) -> "Decoder":
        """Return a decoder on the CPU with the values weight(name) of each parameter.

        weight: a function from a parameter's name to its tensor.
        dtype: the type of the parameters.

        Raises ValueError for a weight of another shape.
        """
        with torch.device("meta"):
            model = cls(config)
        model.to(dtype).to_empty(device="cpu").tabulate()
        for name, p in model.named_parameters():
            value = weight(name)
            if value.shape != p.shape:
                raise ValueError(
                    f"{name} has the shape {tuple(value.shape)} where the "
                    f"configuration asks for {tuple(p.shape)}: weights and "
                    "configuration are not of one model"
                )
            p.copy_(value)
        return model

    def forward(
        self,
        tokens: Tensor,
        routers: bool = False,
        cache: Cache | None = None,
        *,
        documents: Tensor | None = None,
        recompute: bool = False,
        read: Callable[[Tensor, Tensor], object] | None = None,
    ):
        """Return the logits (B, T, V) for token ids (B, T).

        routers: whether to return a Router per layer as well.
        cache: keys and values of the tokens before these, as a `Cache`; the new tokens
            continue the sequences, and the cache then holds them, too.
        documents: a number for each token, (B, T); attention stays within equal ones.
        recompute: whether values inside a block are computed again in the backward pass
            instead of kept.
        read: a function of the head's inputs (B, T, D) and its weight (V, D), whose
            result is returned in place of the logits; `chunked_loss` is one. It is
            called inside this method, because the weight of a model that is sharded
            over processes is complete only here.

        Raises ValueError for a sequence longer than the context.
        """
        x, records = self.hidden(tokens, cache, documents, recompute)
        found = self.head(x) if read is None else read(x, self.head.weight)
        return (found, records) if routers else found

    def hidden(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        documents: Tensor | None = None,
        recompute: bool = False,
    ) -> tuple[Tensor, list[Router | None]]:
        """Return the inputs of the head, (B, T, D), and a Router (or None) per layer.

        tokens, cache, documents, recompute: as for `forward`.
        """
        c, t, at = self.config, tokens.shape[1], cache.length if cache else 0
        if at + t > c.context:
            raise ValueError(
                f"{at + t} tokens are more than the context of {c.context}: shorten "
                "them or configure a longer context"
            )
        if cache and (documents is not None or recompute):
            raise ValueError(
                "a cache is for one document without gradients: leave out documents "
                "and recompute"
            )
        x = self.embedding(tokens)
        x = x * c.width**0.5 if c.scaled_embedding else x
        whole = self.rotation, self._seen(t, None, x.device, at, documents)
        sliding = whole
        if c.window is not None:
            seen = self._seen(t, c.window, x.device, at, documents)
            sliding = self.window_rotation, seen
        records = []
        for layer, block in enumerate(self.blocks):
            past = cache.layers[layer] if cache else None
            inputs = x, *(sliding if c.slides(layer) else whole), past
            x, router = _recomputed(block, inputs) if recompute else block(*inputs)
            records.append(router)
        return self.norm(x), records

    def _seen(
        self,
        t: int,
        window: int | None,
        device: torch.device,
        at: int = 0,
        documents: Tensor | None = None,
    ) -> Tensor | None:
        """(T, keys), True where query (row) sees key, or (B, 1, T, T) with documents;
        None: all keys before, or, of one query with a past, all keys. Queries begin at
        position `at`, keys at the first that a query sees."""
        first = max(0, at + 1 - window) if window is not None else 0
        keys = at + t - first
        narrow = window is not None and window < keys
        masked = narrow or self.config.sinks or documents is not None
        if not (masked or (at and t > 1)):
            return None
        seen = torch.ones(t, keys, dtype=torch.bool, device=device).tril(at - first)
        seen = seen.triu(at - first + 1 - window) if narrow else seen
        if documents is None:
            return seen
        return seen & (documents[:, None, :, None] == documents[:, None, None])


def _recomputed(block: Block, inputs: tuple):
    """What the block gives; nothing in it is drawn, so no state of draws is kept."""
    return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)


def document_numbers(tokens: Tensor, end: int) -> Tensor:
    """Return how many documents have ended before each token, (B, T).

    tokens: token ids (B, T).
    end: the id of the token that ends a document, and belongs to the document it ends.
    """
    ended = tokens == end
    return ended.cumsum(-1) - ended.long()


def put(p: Tensor, value: Tensor) -> None:
    """Copy a tensor into a parameter, in place.

    If the parameter is sharded over processes, each process copies the part that it
    holds.
    """
    if hasattr(p, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        mine = value.to(p.device, p.dtype)
        value = distribute_tensor(mine, p.device_mesh, p.placements, src_data_rank=None)
    p.copy_(value)


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross entropy in nats, in float32 at least.

    logits: (B, T, V).
    targets: (B, T), the tokens that follow the inputs; the data are already shifted,
        and nothing is shifted here.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits.flatten(0, -2).to(wide), targets.flatten())
