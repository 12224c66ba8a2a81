"""Merge two models layer by layer with least squares on features (PLeaS).

Nasery et al., "PLeaS: Merging Models with Permutations and Least Squares", CVPR 2025,
arXiv 2407.02447. The mean of two matched models has features of too small a variance.
PLeaS therefore fits new weights, one layer after another, so that the layer's outputs
are the mean of the outputs of both models. Only inputs are needed, no labels. This is
the complete merge (budget ratio 0), solved in closed form; the authors' code takes 400
steps of Adam.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from symlab.mirror.match import assert_alike
from symlab.mirror.merge import merge

INPUTS = ("averaged", "merged")


@torch.no_grad()
def refit(
    a: nn.Module,
    b: nn.Module,
    batch,
    call: Callable | None = None,
    ridge: float = 0.01,
    inputs: str = "averaged",
) -> nn.Module:
    """Return a merged model whose linear layers reproduce the mean outputs of a and b.

    b has to be matched to a before, so that their units correspond. With the inputs x
    (n, D) of a layer, extended by a column of ones, and Z (n, O) the mean of the
    layer's outputs in a and in b, the new weights W, including the bias, minimise

        |x W^T - Z|^2 + n ridge |W - (W_a + W_b)/2|^2 .

    batch: the argument of `call(model, batch)`, or of model(batch) without `call`.
    inputs: 'averaged': x is the mean of the layer's inputs in a and in b, as in the
        authors' code; 'merged': x is the layer's input in the merged model, after the
        layers before it have been fitted.

    Parameters outside linear layers are the mean of a's and b's. Raises ValueError for
    other `inputs`, a ridge that is not positive, models of different architectures,
    models without a linear layer, and linear layers that are called more than once.
    """
    if inputs not in INPUTS:
        raise ValueError(f"inputs must be one of {', '.join(INPUTS)}, not {inputs!r}")
    if not ridge > 0:
        raise ValueError(
            f"ridge must be positive, not {ridge}: with fewer samples than inputs the "
            "weights have no unique solution without it"
        )
    assert_alike(a, b)
    call = call or (lambda model, batch: model(batch))
    merged = copy.deepcopy(merge(a, b))
    ours, theirs = (_features(model, batch, call) for model in (a, b))
    if not ours:
        raise ValueError("the model has no torch.nn.Linear: there is nothing to fit")
    layers = dict(merged.named_modules())
    for name, (x, z) in ours.items():  # in the order of the calls
        other, outputs = theirs[name]
        x = (x + other) / 2
        if inputs == "merged":
            x = _features(merged, batch, call)[name][0]
        solve(layers[name], x, (z + outputs) / 2, ridge)
    return merged


@torch.no_grad()
def solve(layer: nn.Linear, x: Tensor, z: Tensor, ridge: float) -> None:
    """Set a linear layer to the ridge regression of outputs z on inputs x.

    x: (n, D), n samples of D inputs. z: (n, O), their O outputs.

    The penalty n ridge |W - W_0|^2 pulls towards the layer's present weights and bias
    W_0.
    """
    columns = [x, torch.ones_like(x[:, :1])] if layer.bias is not None else [x]
    parts = [layer.weight, layer.bias[:, None]] if layer.bias is not None else [
        layer.weight
    ]  # fmt: skip
    design = torch.cat(columns, 1)  # (n, D + 1)
    start = torch.cat([p.double() for p in parts], 1)  # (O, D + 1)
    gram = design.T @ design
    gram.diagonal().add_(len(x) * ridge)
    change = torch.linalg.solve(gram, design.T @ (z - design @ start.T))
    fitted = start + change.T
    layer.weight.copy_(fitted[:, : x.shape[1]])
    if layer.bias is not None:
        layer.bias.copy_(fitted[:, -1])


def _features(model: nn.Module, batch, call) -> dict[str, tuple[Tensor, Tensor]]:
    """{linear layer: inputs (n, D), outputs (n, O)} in float64, in order of calls."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    with _watched(model, found):
        call(model, batch)
    return found


@contextmanager
def _watched(model: nn.Module, found: dict) -> Iterator[None]:
    def keep(name):
        def hook(module, inputs, output):
            if name in found:
                raise ValueError(
                    f"the layer {name!r} is called more than once: its weights would "
                    "have to fit several features"
                )
            x = inputs[0].reshape(-1, inputs[0].shape[-1])
            found[name] = x.double(), output.reshape(-1, output.shape[-1]).double()

        return hook

    linear = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    handles = [m.register_forward_hook(keep(n)) for n, m in linear]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
