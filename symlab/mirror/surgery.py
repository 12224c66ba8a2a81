"""Remove hidden units from a module: cut its tensors and adapt its attributes.

A `Draft` holds the tensors at full width, in float64, together with a list of what is
to be removed; `smaller` makes an ordinary module of it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from symlab.mirror.private import copied
from symlab.mirror.units import Index, Part

Axis = tuple[str, int, int]  # name of a tensor, axis, stack: see `Part`
# names of numbers that are widths, and of numbers that count something
WIDTHS = re.compile(
    r"(intermediate|hidden|inner|ffn?|embed\w*|model|head|split)_?(size|dim|width)$"
    r"|^(d_(ff|model|inner|head|kv|k|v)|n_(embd|inner)|hidden|width|inplanes)$"
)
STREAM = re.compile(r"^(embed|hidden|model).*|^(d_model|n_embd|width|dim)$")
COUNTS = re.compile(r"^(n|num|number)_|heads?$|count$|groups?$|layers?$")
HEADS = re.compile(r"heads?$")


class Misfit(ValueError):
    """Raised if the smaller tensors do not fit the module."""


class Draft:
    """A model's tensors with a record of the hidden units that are to be removed.

    Tensors keep their full width, in float64 on the CPU; a tensor is copied when it is
    first written to.

    source: {name: tensor}, the model's parameters and buffers.
    """

    def __init__(self, source: Mapping[str, Tensor]):
        self.source = source
        self.changed: dict[str, Tensor] = {}
        self.removed: dict[Axis, set[int]] = {}
        self._own: set[str] = set()

    def fork(self) -> "Draft":
        """Return a new draft that starts as a copy of this one; later changes are
        independent.
        """
        new = Draft(self.source)
        new.changed = dict(self.changed)
        new.removed = {k: set(v) for k, v in self.removed.items()}
        return new

    def tensor(self, name: str) -> Tensor:
        """Return the current tensor of the given name, which must not be written to."""
        found = self.changed.get(name)
        if found is None:
            return self.source[name].detach().to("cpu", torch.float64)
        return found

    def own(self, name: str) -> Tensor:
        """Return the current tensor of the given name, which may be written to."""
        if name not in self._own:
            self.changed[name] = self.tensor(name).clone()
            self._own.add(name)
        return self.changed[name]

    def rows(self, part: Part, units) -> Tensor:
        """Return a copy (units, entries) of what some units own of a tensor.

        part: the axis of the tensor along which each unit owns some positions.
        units: the numbers of the units, or a slice.
        """
        return part.rows(self.tensor(part.name), units).clone()

    def put(self, part: Part, units, rows: Tensor) -> None:
        """Write rows (units, entries) to the entries of a tensor that some units own.

        part: the axis of the tensor along which each unit owns some positions.
        units: the numbers of the units.
        """
        t, places = self.own(part.name), part.places[units].reshape(-1)
        if part.stack == 1:
            view, at = t.movedim(part.axis, 0), (places,)
        else:
            n = t.shape[part.axis]
            view = t.view(part.stack, -1, *t.shape[1:]).movedim(part.axis + 1, 1)
            at = (places // n, places % n)
        view[at] = rows.reshape(view[at].shape)

    def drop(self, parts: Sequence[Part], units) -> None:
        """Mark units as removed: their entries are set to 0, and `smaller` cuts them
        off.

        parts: the tensor axes on which the units own entries. units: their numbers.
        """
        for part in parts:
            if part.shape:
                self.put(part, units, torch.zeros_like(self.rows(part, units)))
                key = (part.name, part.axis, part.stack)
                gone = self.removed.setdefault(key, set())
                gone.update(part.places[units].reshape(-1).tolist())

    def alive(self, index: Index) -> Tensor:
        """Return booleans (m,): which of the index's m hidden units have not been
        removed.
        """
        part = index.parts[0]
        gone = self.removed.get((part.name, part.axis, part.stack), set())
        here = [int(x) not in gone for x in part.places[:, 0]]
        return torch.tensor(here, dtype=torch.bool)


@dataclass(frozen=True)
class Edits:
    """Changes of module attributes, such as widths, that the removal of units requires.

    widths: (path of the module, {old width: new width}, eager).
    heads: (path, {old width: new width}, eager, number of heads before, number after).
    norms: (path, units before, units after) of root-mean-square norms.
    config: (field, value) of a Hugging Face model's configuration.

    If `eager` is True, all numbers that equal an old width are changed; otherwise only
    those whose names say that they are widths.
    """

    widths: tuple[tuple[str, dict[int, int], bool], ...] = ()
    heads: tuple[tuple[str, dict[int, int], bool, int, int], ...] = ()
    norms: tuple[tuple[str, int, int], ...] = ()
    config: tuple[tuple[str, int], ...] = ()


def smaller(model: nn.Module, draft: Draft, edits: Edits) -> nn.Module:
    """Return a deep copy of a model without the units that a draft marks as removed.

    draft: the tensors and the record of removals.
    edits: the changes of module attributes that the removals require.

    Raises Misfit if the groups of a convolution would get unequal widths.
    """
    new = copied(model)
    named = dict(new.named_parameters()) | dict(new.named_buffers())
    touched = {*draft.changed, *(name for name, _, _ in draft.removed)}
    swap = {}
    for name in touched:
        old = named[name]
        t = draft.changed.get(name, old.detach()).to(old.device, old.dtype)
        axes = sorted((-s, a, s) for n, a, s in draft.removed if n == name)
        for _, axis, stack in axes:  # stacks first: they need the first axis whole
            t = _cut(t, axis, stack, draft.removed[name, axis, stack])
        t = t.contiguous()
        if isinstance(old, nn.Parameter):
            t = nn.Parameter(t, requires_grad=old.requires_grad)
        swap[id(old)] = t
    for module in new.modules():
        own = [*module._parameters.items(), *module._buffers.items()]
        replaced = {n: swap[id(t)] for n, t in own if id(t) in swap}
        for n, t in replaced.items():  # by identity: ties stay ties
            where = module._parameters if n in module._parameters else module._buffers
            where[n] = t
        if replaced:
            _fit(module)
    for path, before, after in edits.norms:
        _stretch(new.get_submodule(path), before / after)
    for path, widths, eager in edits.widths:
        old, cut = model.get_submodule(path), new.get_submodule(path)
        _set_widths(old, cut, widths, eager)
    for path, widths, eager, before, after in edits.heads:
        old, cut = model.get_submodule(path), new.get_submodule(path)
        _set_widths(old, cut, widths, eager, stream=False)
        _set_heads(old, cut, before, after)
    for name, value in edits.config:
        setattr(new.config, name, value)
    return new


def _cut(t: Tensor, axis: int, stack: int, gone: set[int]) -> Tensor:
    n = t.shape[axis]
    kept = [[j for j in range(n) if e * n + j not in gone] for e in range(stack)]
    if len({len(k) for k in kept}) > 1:
        raise Misfit("all groups of one layer keep the same number of units")
    if stack == 1:
        return t.index_select(axis, torch.tensor(kept[0], device=t.device))
    if t.shape[0] % stack:
        raise Misfit("all groups of one layer keep the same number of units")
    groups = t.reshape(stack, -1, *t.shape[1:])
    at = [torch.tensor(k, device=t.device) for k in kept]
    pairs = zip(groups, at, strict=True)
    return torch.stack([g.index_select(axis, k) for g, k in pairs]).flatten(0, 1)


def _fit(module: nn.Module) -> None:
    """The sizes that torch's layers keep beside their weights."""
    w = getattr(module, "weight", None)
    if isinstance(module, nn.modules.batchnorm._NormBase):
        module.num_features = len(module.running_mean if w is None else w)
    if not isinstance(w, Tensor):
        return
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = w.shape
    elif isinstance(module, nn.modules.conv._ConvNd):
        _fit_convolution(module, w)
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        module.normalized_shape = tuple(w.shape)
    elif isinstance(module, nn.GroupNorm):
        module.num_channels = len(w)
    elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
        module.num_embeddings, module.embedding_dim = w.shape
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(w)
    elif hasattr(module, "nf") and hasattr(module, "nx"):  # Hugging Face's Conv1D
        module.nx, module.nf = w.shape


def _fit_convolution(module, w: Tensor) -> None:
    first, second = w.shape[0], w.shape[1]
    if 1 < module.groups == module.in_channels:  # depthwise
        each = module.out_channels // module.groups
        module.groups = first if module.transposed else first // each
        module.in_channels, module.out_channels = module.groups, module.groups * each
    elif module.transposed:
        module.in_channels, module.out_channels = first, second * module.groups
    else:
        module.out_channels, module.in_channels = first, second * module.groups


def _stretch(norm: nn.Module, ratio: float) -> None:
    """A root mean square over fewer units: the mean of squares grows by `ratio`.

    x g / sqrt(mean + eps) stays, with eps times the ratio and g times its root.
    """
    attribute = epsilon(norm)
    eps = getattr(norm, attribute)
    if eps is None:
        eps = torch.finfo(norm.weight.dtype).eps
    setattr(norm, attribute, eps * ratio)
    offset = getattr(norm, "offset", 0.0)
    with torch.no_grad():
        norm.weight.copy_((norm.weight.double() + offset) * ratio**0.5 - offset)


def epsilon(norm: nn.Module) -> str:
    """Return the name of the attribute that holds a norm's epsilon, '' if there is
    none.
    """
    names = ("eps", "variance_epsilon", "epsilon")
    return next((n for n in names if hasattr(norm, n)), "")


def _numbers(module: nn.Module) -> dict[str, int]:
    """The module's own whole numbers, those of torch's layers excepted."""
    if type(module).__module__.startswith("torch.nn"):
        return {}
    own = vars(module).items()
    return {n: v for n, v in own if type(v) is int and not n.startswith("_")}


def _set_widths(
    old: nn.Module, new: nn.Module, widths: dict[int, int], eager: bool, stream=True
) -> None:
    """Numbers of the old module that were a width; not those of the stream's width."""
    for name, value in _numbers(old).items():
        known = bool(WIDTHS.search(name)) or (eager and not COUNTS.search(name))
        if value in widths and known and (stream or not STREAM.search(name)):
            setattr(new, name, widths[value])


def _set_heads(old: nn.Module, new: nn.Module, before: int, after: int) -> None:
    for name, value in _numbers(old).items():
        if HEADS.search(name) and value % before == 0:
            setattr(new, name, value // before * after)


def ancestor(model: nn.Module, names: Sequence[str]) -> str:
    """Return the path of the smallest module that holds all tensors of the given names.

    names: the full names of the tensors. A module without submodules does not count:
    the path is then that of its parent.
    """
    paths = [n.split(".")[:-1] for n in names]
    common = []
    for steps in zip(*paths, strict=False):
        if len(set(steps)) > 1:
            break
        common.append(steps[0])
    leaf = not list(model.get_submodule(".".join(common)).children())
    return ".".join(common[:-1] if leaf else common)
