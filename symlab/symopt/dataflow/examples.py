"""Guess inputs with which a model can be called; see `candidates`.

The arguments of a Hugging Face model's forward and its configuration tell what it
takes: tokens, images, spectrograms or waves. For other models the first layer tells.
"""

import inspect
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

LENGTH = 8  # tokens


def candidates(model: nn.Module) -> Iterator[Callable]:
    """Yield functions that each return one guess of an input for the model, likeliest
    first.
    """
    if hasattr(model, "config") and hasattr(model, "main_input_name"):
        for batch in (2, 1):
            yield lambda b=batch: hugging_face(model, b)
        yield lambda: hugging_face(model, 2, only=model.main_input_name)
    if isinstance(getattr(model, "dummy_inputs", None), dict):
        yield lambda: _dummy(model)
    found = set()
    for module in model.modules():
        if type(module) not in found and (guess := _for_layer(module)) is not None:
            found.add(type(module))
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                yield lambda m=module: _few_ids(m, 2)
            yield lambda g=guess: g


def hugging_face(model: nn.Module, batch: int, only: str = "") -> dict[str, Tensor]:
    """Return inputs {name: tensor} for a Hugging Face model, sized by its
    configuration.

    batch: the number of samples. only: the name of the single input to give, or '' for
        all.
    """
    wanted = [n for n in inspect.signature(model.forward).parameters if n in GUESSES]
    if not getattr(model.config, "is_encoder_decoder", False):
        wanted = [n for n in wanted if not n.startswith("decoder_")]
    if only:
        wanted = [n for n in wanted if n == only]
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    given = {n: GUESSES[n](model.config, batch) for n in wanted}
    return {
        n: t.to(dtype) if dtype and t.is_floating_point() else t
        for n, t in given.items()
    }


def _tokens(config, batch: int) -> Tensor:
    """Different ids that are not the padding, nor the token of an image."""
    text = config.get_text_config()
    rows = getattr(text, "vocab_size", None) or config.vocab_size
    special = {getattr(config, n, None) for n in dir(config) if n.endswith("token_id")}
    special |= {getattr(text, n, None) for n in dir(text) if n.endswith("token_id")}
    usual = [i for i in range(min(rows, 16 * LENGTH)) if i not in special] or [0]
    ids = [usual[i % len(usual)] for i in range(batch * LENGTH)]
    return torch.tensor(ids, device="cpu").view(batch, LENGTH)


def _image(config, batch: int) -> Tensor:
    vision = getattr(config, "vision_config", None) or config
    size = getattr(vision, "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    shape = (getattr(vision, "num_channels", None) or 3, height, width)
    frames = getattr(vision, "num_frames", None)
    return numbers((batch, *([frames] if frames else []), *shape))


def _spectrogram(config, batch: int) -> Tensor:
    if hasattr(config, "num_mel_bins") and hasattr(config, "max_source_positions"):
        return numbers((batch, config.num_mel_bins, 2 * config.max_source_positions))
    bins = getattr(config, "input_feat_per_channel", None) or config.feature_size
    return numbers((batch, 64, bins))


def _wave(config, batch: int) -> Tensor:
    if hasattr(config, "num_mel_bins") and hasattr(config, "max_length"):
        return numbers((batch, config.max_length, config.num_mel_bins))
    return numbers((batch, 4000))


GUESSES = {
    "input_ids": _tokens,
    "decoder_input_ids": _tokens,
    "pixel_values": _image,
    "input_features": _spectrogram,
    "input_values": _wave,
}


def _dummy(model: nn.Module) -> dict:
    """Hugging Face's own, with ids that the tables of this model have."""
    given = dict(model.dummy_inputs)
    tables = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    rows = max(tables, default=None)
    return {
        n: t % rows if rows and n.endswith("input_ids") else t for n, t in given.items()
    }


def _for_layer(module: nn.Module):
    """An input of this layer; None for a kind of layer that does not say its sizes."""
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return _few_ids(module, 1)
    weight = next(module.parameters(recurse=False), None)
    if weight is None:
        return None
    if isinstance(module, nn.Linear):
        return numbers((2, module.in_features), weight.dtype)
    if isinstance(module, nn.modules.conv._ConvNd):
        length = {1: 32, 2: 32, 3: 16}[len(module.kernel_size)]
        sides = [max(length, 2 * k) for k in module.kernel_size]
        return numbers((2, module.in_channels, *sides), weight.dtype)
    if isinstance(module, nn.RNNBase):
        return numbers((3, 2, module.input_size), weight.dtype)
    return None


def _few_ids(module: nn.Module, batch: int) -> Tensor:
    ids = torch.arange(4 * batch, device="cpu").view(batch, 4)
    return ids % module.num_embeddings


def numbers(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Return random numbers of the given shape from a separate generator.

    torch's global random stream, which belongs to the user, is not used.
    """
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, device="cpu").to(dtype)


def arguments(example, device) -> tuple[tuple, dict]:
    """Return an example input as (positional, keyword) arguments, on the device.

    example: a tensor, a tuple of positional or a dict of keyword arguments.
    """

    def moved(x):
        return x.to(device) if isinstance(x, Tensor) else x

    if isinstance(example, dict) or hasattr(example, "items"):  # BatchEncoding, too
        return (), {k: moved(v) for k, v in example.items()}
    if isinstance(example, tuple | list):
        return tuple(moved(x) for x in example), {}
    return (moved(example),), {}
