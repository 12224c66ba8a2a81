"""Moves a decoder's weights along the symmetries of the function that it computes.

  tokens     the vocabulary is permuted, in the embedding and in the head
  neurons    the hidden units of each gated feed-forward unit are permuted
  heads      the groups of attention heads are permuted, and the heads within each
  rotation   the residual stream is rotated, if norms have no gains
  shift      one vector is added to all rows of the head, which a softmax ignores

The decoder is symlab.models.transformer.Decoder with separate embedding and head.
"""

import numpy as np

MOVES = ("tokens", "neurons", "heads", "rotation", "shift")
READERS = ("embedding", "query", "key", "value", "gate", "up", "head")
WRITERS = ("out", "down")  # to the residual stream


def weights_of(model) -> dict:
    """Return a copy of each parameter of a model, by name."""
    return {k: p.detach().clone() for k, p in model.named_parameters()}


def moved(move: str, weights: dict, c, draws) -> tuple[dict, np.ndarray]:
    """Return weights of a decoder that computes the same, and each token's new id (V,).

    move: the symmetry, one of MOVES: 'tokens', 'neurons', 'heads', 'rotation' or
        'shift'; any other name leaves all weights as they are.
    weights: the weights by name.
    c: the decoder's configuration.
    draws: the random generator that chooses the permutation, rotation or vector. Heads
        that share keys stay together.
    """
    w, ids = dict(weights), np.arange(c.vocabulary)
    if move == "tokens":
        ids = draws.permutation(c.vocabulary)
        for name in ("embedding.weight", "head.weight"):
            w[name] = w[name][np.argsort(ids)]
    for layer in range(c.layers if move == "neurons" else 0):
        order = draws.permutation(c.hidden)
        _permute(w, layer, {"feed.gate": 0, "feed.up": 0, "feed.down": 1}, order)
    for layer in range(c.layers if move == "heads" else 0):
        groups, shared = draws.permutation(c.kv_heads), c.heads // c.kv_heads
        heads = [g * shared + draws.permutation(shared) for g in groups]
        heads = _pieces(np.concatenate(heads), c.head_width)
        _permute(w, layer, {"attention.query": 0, "attention.out": 1}, heads)
        groups = _pieces(groups, c.head_width)
        _permute(w, layer, {"attention.key": 0, "attention.value": 0}, groups)
    if move == "rotation":
        q = np.linalg.qr(draws.normal(size=(c.width, c.width)))[0]
        _rotate(w, q)
    if move == "shift":
        w["head.weight"] = w["head.weight"] + _like(draws.normal(size=c.width), w)
    return w, ids


def _permute(weights: dict, layer: int, axes: dict, order: np.ndarray) -> None:
    for name, axis in axes.items():
        name = f"blocks.{layer}.{name}.weight"
        weights[name] = weights[name].take_along_dim(_along(order, axis), axis)


def _along(order: np.ndarray, axis: int):
    import torch

    return torch.from_numpy(order).unsqueeze(1 - axis)


def _pieces(order: np.ndarray, width: int) -> np.ndarray:
    """Return the indices of rows when pieces of this width are put into this order."""
    return (order[:, None] * width + np.arange(width)).ravel()


def _rotate(weights: dict, q: np.ndarray) -> None:
    """Rotate, in place, what reads the residual stream and what writes to it."""
    q = _like(q, weights)
    for name, w in weights.items():
        kind = name.split(".")[-2]
        if kind in READERS:
            weights[name] = w @ q.T
        if kind in WRITERS:
            weights[name] = q @ w


def _like(x: np.ndarray, weights: dict):
    import torch

    return torch.from_numpy(x).to(weights["head.weight"])
