"""Measurements of a model besides its training losses."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from symlab.data.text import Corpus, validation_batches
from symlab.models.routing_load import measures
from symlab.models.transformer import Decoder, Router, loss
from symlab.pretraining.objective import attention
from symlab.pretraining.processes import ALONE, Processes
from symlab.pretraining.recipe import PRECISIONS, Recipe, share_of


@torch.no_grad()
def evaluate(
    model: Decoder, text: Corpus, recipe: Recipe, processes: Processes = ALONE
) -> dict[str, float]:
    """Return the validation loss of a decoder and other measures, {name: number}.

    All are taken over all validation tokens. val_loss: nats per token. head_drift: the
    mean logit over the vocabulary, as a root mean square over tokens. For a mixture of
    experts, the measures of `symlab.models.routing_load` for all routers are added.

    text: the text, whose validation part is used. recipe: the batch size, length,
    number of validation batches and precision. processes: all of them must call this.
    """
    r = recipe
    _, size = share_of(r, processes)
    data = validation_batches(text.validation, r.batch, r.length, r.validation)
    autocast, wide = r.precision == "bfloat16", PRECISIONS[r.precision]
    totals = torch.zeros(2, dtype=torch.float64, device=processes.device)
    routers: list[list[Router]] = []
    parts = [
        part
        for pair in data
        for part in zip(
            *(torch.from_numpy(processes.share(x)).split(size) for x in pair),
            strict=True,
        )
    ]
    for inputs, targets in parts:
        inputs, targets = inputs.to(processes.device), targets.to(processes.device)
        asked = attention(model, r, inputs)
        if r.chunk:
            settings = {"targets": targets, "chunk": r.chunk, "wide": wide}
            asked["read"] = partial(_in_parts, **settings)
        with torch.autocast(processes.device.type, torch.bfloat16, enabled=autocast):
            read, found = model(inputs, routers=True, **asked)
        totals += read if r.chunk else _of_logits(read, targets, wide)
        routers.append(found)
    nll, drift = (processes.mean(totals) / len(parts)).tolist()
    row = {"val_loss": nll, "head_drift": drift**0.5}
    if model.config.experts:
        row |= _measures(routers, processes)
    return row


def _of_logits(logits: Tensor, targets: Tensor, wide: torch.dtype) -> Tensor:
    """The loss and the mean square of the mean logit, (2,) in float64."""
    drift = logits.mean(-1, dtype=wide).square().mean()
    return torch.stack([loss(logits, targets).double(), drift.double()])


def _in_parts(
    x: Tensor, weight: Tensor, targets: Tensor, chunk: int, wide: torch.dtype
) -> Tensor:
    """`_of_logits` of W x, with those of `chunk` tokens at once."""
    x, targets = x.flatten(0, -2).split(chunk), targets.flatten().split(chunk)
    found = sum(
        len(target) * _of_logits(F.linear(h, weight), target, wide)
        for h, target in zip(x, targets, strict=True)
    )
    return found / sum(map(len, targets))


def _measures(routers: list[list[Router]], processes: Processes) -> dict[str, float]:
    """Of routers by batch, then layer, over the tokens of all processes."""
    layers = [
        Router(*(processes.gather(torch.cat(x)) for x in zip(*layer, strict=True)))
        for layer in zip(*routers, strict=True)
    ]
    return measures(layers)


def bytes_per_token(text: Corpus, recipe: Recipe) -> float:
    """Return the mean number of bytes of text per predicted validation token.

    It is taken over the windows of text that `evaluate` uses. Raises ValueError if the
    text is too short for these windows.
    """
    r = recipe
    data = validation_batches(text.validation, r.batch, r.length, r.validation)
    found = sum(text.target_bytes(targets) for _, targets in data)
    return found / sum(targets.size for _, targets in data)


def mean_rows(model: Decoder) -> dict[str, Tensor]:
    """Return {name: mean row (D,)} of the weights of output head and routers, D inputs
    each.

    The mean row adds the same number to all logits, which does not change the softmax
    of these logits.
    """
    names = {"head.weight", *(f"blocks.{i}.feed.router.weight" for i in _layers(model))}
    return {
        name: _whole(p.detach().mean(0))
        for name, p in model.named_parameters(remove_duplicate=False)
        if name in names
    }


def shifts(model: Decoder, origin: dict[str, Tensor]) -> dict[str, float]:
    """Return how far the mean rows of head and routers have moved since the start.

    origin: the mean rows at the start, as `mean_rows` returns them.

    The distance is relative to the root-mean-square length of the weight's rows. In the
    result, head_shift belongs to the head, and router_shift is the mean over routers.
    Both stay 0 under updates whose mean row is 0.
    """
    parameters, found = dict(model.named_parameters(remove_duplicate=False)), {}
    for name, now in mean_rows(model).items():
        p = parameters[name].detach()
        length = _whole(p.square().sum()).sqrt() / len(p) ** 0.5
        moved = float((now - origin[name]).norm() / length)
        found.setdefault(name.split(".")[-2], []).append(moved)
    return {f"{kind}_shift": sum(x) / len(x) for kind, x in found.items()}


def are_finite(model: Decoder, processes: Processes) -> bool:
    """Return whether all parameters are finite in all processes; all must call it."""
    parts = [p.detach() for p in model.parameters()]
    parts = [p.to_local() if hasattr(p, "to_local") else p for p in parts]
    bad = torch.stack([~p.isfinite().all() for p in parts]).any()
    return not processes.any(bool(bad))


def _layers(model: Decoder) -> range:
    return range(model.config.layers if model.config.experts else 0)


def _whole(x: Tensor) -> Tensor:
    return x.full_tensor() if hasattr(x, "full_tensor") else x
