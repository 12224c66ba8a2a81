"""syre: remove the mirror symmetries of any model by a fixed random offset.

The model is evaluated at theta + theta_0 with a fixed Gaussian theta_0, and weight
decay pulls theta to zero. No reflection maps theta_0 to itself, so there is no mirror
to which solutions could collapse. The offset needs weight decay: without it, it merely
renames the parameters. It removes all mirrors of a countable set (permutations, sign
flips, rescalings); the continuum of rotations also needs unequal decay, `penalty`.

Source: Ziyin, Xu, Chuang, "Remove Symmetries to Control Model Expressivity and Improve
Optimization" (syre). Its default theta_0 has standard deviation 0.01/sqrt(d), d the
fan-in. That removes the mirrors exactly, but decay still leads to a point next to them:
a network whose weights are a hundredth of the usual ones. By default this module draws
theta_0 like the parameter at its initialisation. Measured, with plain weight decay /
the paper's scale / the default / scale=0.3:
  u*v, a new teacher every 600 steps (40 inputs, initial deviation 0.2, lr and decay
         0.02, excess loss of the last 3 of 30 tasks; of the first 3: 0.09 to 0.13):
         0.86 / 0.38 / 0.08 / 0.07
  tanh   8-24-3, decay 0.03: least singular value of the first layer relative to the
         largest 2e-4 / 5e-3 / 0.24 / 0.25; distinct neurons of 24: 7 / 23 / 24 / 24
  relu   the same: distinct 14 / 18 / 24 / 24, training loss 0.33 / 0.28 / 0.23 / 0.18
  batch norm (digits, decay 5e-3): training loss 0.020 / 0.021 / 0.013 / 0.027
  a pre-norm transformer of two blocks (copying backwards, AdamW, decay 0.1): loss
         0.0079 / 0.0081 / 0.0063 / 0.0078
"""

from numbers import Real

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from symlab.mirror.dcs import check_decay, check_model

SPREAD = 0.1  # least deviation of theta_0, relative to a mean such as a gain's 1


class Offset(nn.Module):
    """A torch parametrization: a trained theta plus a fixed offset theta_0."""

    def __init__(self, offset: Tensor):
        super().__init__()
        self.register_buffer("offset", offset)

    def forward(self, theta: Tensor) -> Tensor:
        """Return theta + theta_0, the weight that the module uses."""
        return theta + self.offset

    def right_inverse(self, theta: Tensor) -> Tensor:
        """Return the trained theta of a given weight, weight - theta_0, which the
        module calls when a weight is assigned.
        """
        return theta - self.offset


def remove_symmetries(
    model: nn.Module, scale: float | str | None = None, seed: int = 0
) -> nn.Module:
    """Add a fixed random offset theta_0 to each trainable parameter; return the model.

    Call it at initialisation, and train with weight decay on all of
    `model.parameters()`: the decay then pulls each weight towards theta_0.

    scale: None draws theta_0 like the parameter itself: a Gaussian with the mean and
        the standard deviation of its entries, so that decay leads to a random network
        as expressive as the initial one. The standard deviation is at least 0.1 of the
        mean: gains that are all 1 get 1 + 0.1 N(0, 1), and decay does not switch a
        layer off. Tensors that are all zero, such as biases, are drawn as with 'paper'.
        A number draws N(0, scale^2) for every parameter. 'paper' is the default of the
        paper, N(0, (0.01/sqrt(d))^2), with d the fan-in, the number of entries of one
        row: this breaks every mirror symmetry, but decay still leads to weights near
        the mirror.
    seed: seed of the draws, which do not depend on the device.

    The function of the model is unchanged up to rounding: a weight becomes (theta -
    theta_0) + theta_0, with an error of at most eps (|theta| + |theta_0|), where eps is
    1e-7 in float32, 1e-3 in float16 and 8e-3 in bfloat16. A parameter that several
    modules share stays one trained tensor with one offset. Frozen parameters get no
    offset. Torch itself cannot deep-copy a parametrized nn.LSTM, GRU or RNN after a
    call that recorded gradients: call it under torch.no_grad() before copying.
    torch.nn.utils.parametrize.remove_parametrizations makes theta + theta_0 the weight
    again; for a shared parameter it would add the offset once per module, which is
    wrong. Raises ValueError, and changes nothing, for a scale that is not positive, and
    if a trainable parameter is already parametrized, has no values yet, or shares its
    memory with another one.
    """
    check_model(model)
    _check_scale(scale)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"the seed is {seed!r}: give an integer")
    draws = torch.Generator().manual_seed(seed)
    for p, places in _trainable(model):
        offset = Offset(_draw(p.detach(), scale, draws))
        weight = p.detach().clone()
        for module, name in places:
            with torch.no_grad():
                p.copy_(weight)  # each registration subtracts the offset from it
            parametrize.register_parametrization(module, name, offset)
    return model


def penalty(model: nn.Module, weight_decay: float, spread: float = 0.5) -> Tensor:
    """Return the L2 penalty (1/2) sum_i d_i theta_i^2 with unequal rates d_i.

    weight_decay, spread: each d_i is a fixed number in weight_decay * [1 - spread, 1 +
        spread] that depends on the position of the entry.

    Add it to the loss instead of the optimizer's weight_decay: it breaks rotation
    symmetries, under which equal decay is invariant. Frozen parameters are left out.
    Raises ValueError for a spread outside (0, 1), a decay that is negative or not
    finite, and a model without trainable parameters.
    """
    check_model(model)
    check_decay("weight_decay", weight_decay)
    if not 0 < spread < 1:
        raise ValueError(f"the spread is {spread}: choose it between 0 and 1")
    draws, total = torch.Generator().manual_seed(1), None
    for p in model.parameters():
        d = 1 + spread * (2 * torch.rand(p.shape, generator=draws) - 1)
        if p.requires_grad:
            value = (d.to(p) * p.square()).sum()
            total = value if total is None else total + value
    if total is None:
        raise ValueError("the model has no trainable parameters to decay")
    return weight_decay / 2 * total


# --- drawing and finding -------------------------------------------------------------


def _check_scale(scale) -> None:
    if scale is None or scale == "paper":
        return
    if not isinstance(scale, Real) or not 0 < scale < float("inf"):
        raise ValueError(
            f"the scale is {scale!r}: a static offset must be positive and finite (or "
            "'paper', or None for the deviation of each parameter)"
        )


def _draw(p: Tensor, scale, draws: torch.Generator) -> Tensor:
    """theta_0 of a parameter, see `remove_symmetries`."""
    noise = torch.randn(p.shape, generator=draws)
    fan_in = max(1, p.shape[1:].numel() if p.ndim > 1 else p.numel())
    mean, std = 0.0, 0.01 / fan_in**0.5
    if scale is None and p.any():
        wide = p.double()
        mean = float(wide.mean())
        std = max(float((wide - mean).square().mean().sqrt()), SPREAD * abs(mean))
    elif isinstance(scale, Real):
        std = float(scale)
    return (mean + std * noise).to(device=p.device, dtype=p.dtype)


def _trainable(model: nn.Module) -> list[tuple[nn.Parameter, list]]:
    """Each trainable parameter with all (module, name) where it stands."""
    places: dict[int, tuple] = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError("the model is compiled by torch.jit: call this before it")
        for name, p in module._parameters.items():
            if p is None or not p.requires_grad:
                continue
            label = f"{path}.{name}".lstrip(".")
            if isinstance(module, parametrize.ParametrizationList):
                _refuse(label, module)
            _check_values(label, p)
            places.setdefault(id(p), (p, label, []))[2].append((module, name))
    memory: dict[int, str] = {}
    for p, label, _ in places.values():
        other = memory.setdefault(p.data_ptr() or id(p), label)
        if other != label:
            raise ValueError(
                f"{other} and {label} are two parameters over one memory: tie them by "
                "assigning one parameter to both modules"
            )
    return [(p, where) for p, _, where in places.values()]


def _check_values(label: str, p: Tensor) -> None:
    if isinstance(p, nn.parameter.UninitializedTensorMixin) or p.is_meta:
        raise ValueError(
            f"{label} has no values yet: load them, or call the model once on a batch"
        )
    if not p.is_floating_point():
        raise ValueError(f"{label} has dtype {p.dtype}: an offset is for real numbers")
    if not p.isfinite().all():
        raise ValueError(f"{label} has entries that are not finite")


def _refuse(label: str, parametrizations: parametrize.ParametrizationList) -> None:
    """One sentence for a parameter that is parametrized already."""
    tensor = label.replace("parametrizations.", "").rpartition(".")[0]
    kinds = [type(m).__name__ for m in parametrizations]
    if "Offset" in kinds:
        raise ValueError(
            f"{tensor} has an offset already: remove_symmetries is called once"
        )
    raise ValueError(
        f"{tensor} is parametrized already ({', '.join(kinds)}), and an offset would "
        "not act on the trained tensors: remove that parametrization before "
        "(torch.nn.utils.parametrize.remove_parametrizations), or freeze it"
    )
