"""Keys and values that a decoder has already computed, kept for the tokens that follow.

With them the next token costs one token's work instead of a whole sequence's.

    cache = Cache(model.config, capacity=100)
    logits = model(prompt, cache=cache)          (B, T, V)
    logits = model(following, cache=cache)       (B, 1, V), as after both in a row
"""

from torch import Tensor

from symlab.models.families import DecoderConfig


class Past:
    """Keys and values of the earlier tokens in one attention layer, (B, G, tokens, W).

    B sequences, G key-value heads of width W. Keys are stored after their rotation.
    """

    def __init__(self, capacity: int, window: int | None):
        self.capacity, self.window, self.length = capacity, window, 0
        self.keys = self.values = None  # shape and type are those of the first tokens

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add T new tokens; return all keys and values that the new tokens may attend
        to.

        k, v: (B, G, T, W), for B sequences and G key-value heads of width W.

        In a layer with a sliding window the result begins at the first key that the
        first new token sees. Raises ValueError if there are more tokens than the
        capacity.
        """
        if self.keys is None:
            shape = (*k.shape[:2], self.capacity, k.shape[3])
            self.keys, self.values = k.new_empty(shape), v.new_empty(shape)
        start, end = self.length, self.length + k.shape[2]
        if end > self.capacity:
            raise ValueError(
                f"{end} tokens are more than the {self.capacity} that the cache was "
                "made for: make it with a larger capacity"
            )
        self.keys[:, :, start:end], self.values[:, :, start:end] = k, v
        self.length = end
        first = max(0, start + 1 - self.window) if self.window is not None else 0
        return self.keys[:, :, first:end], self.values[:, :, first:end]


class Cache:
    """Keys and values of every layer, for B sequences of at most `capacity` tokens.

    It takes 2 B capacity G W numbers per layer (G key-value heads of width W), also in
    layers with a sliding window. It keeps no gradients: use it under `torch.no_grad`.
    """

    def __init__(self, config: DecoderConfig, capacity: int):
        windows = (
            config.window if config.slides(i) else None for i in range(config.layers)
        )
        self.layers = [Past(capacity, window) for window in windows]

    @property
    def length(self) -> int:
        """The number of tokens of each sequence that the cache holds."""
        return self.layers[0].length
