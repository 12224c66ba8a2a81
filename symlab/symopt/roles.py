"""The role of each parameter of a model, and with it its symmetry group.

    roles(model)["lm_head.weight"].role      'head'

Roles follow from what the model does with a parameter, seen in one forward pass (see
`connections`), never from its name: a weight is a router because its product reaches a
top-k. Groups are those of Lau & Su (arXiv 2605.18106), but for what is no symmetry: a
shift of all logits is one under a softmax alone, so not after sigmoid gates or a soft
cap, and not of a head that is tied to the embedding.
"""

import inspect
import warnings
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from symlab.symopt.connections import Attention, Gated, Product, Seen, follow
from symlab.symopt.sharded import is_distributed

ROTATION, PERMUTATION = "rotation", "permutation"
GROUPS = {  # role: (group on outputs, group on inputs)
    "embedding": (PERMUTATION, ROTATION),
    "tied embedding": (PERMUTATION, ROTATION),
    "head": (PERMUTATION, ROTATION),
    "query": (ROTATION, ROTATION),
    "key": (ROTATION, ROTATION),
    "value": (ROTATION, ROTATION),
    "qkv": (ROTATION, ROTATION),
    "attention out": (ROTATION, ROTATION),
    "gate": (PERMUTATION, ROTATION),
    "up": (PERMUTATION, ROTATION),
    "gate_up": (PERMUTATION, ROTATION),
    "down": (ROTATION, PERMUTATION),
    "router": (PERMUTATION, ROTATION),
    "matrix": (ROTATION, ROTATION),
    "convolution": (ROTATION, ROTATION),
}
VECTORS = ("gain", "bias", "unknown")  # no group: AdamW
ROLES = (*GROUPS, *VECTORS, "fused")


@dataclass(frozen=True)
class Part:
    """Rows start to start + length of a weight that holds several things."""

    role: str
    start: int
    length: int
    heads: int = 1


@dataclass(frozen=True)
class Block:
    """What is known of one parameter.

    rows, columns: the axes of outputs and of inputs; another axis is a stack (experts,
    heads). heads: how many blocks the rows (or, `head_columns`, the columns) fall into.
    layout: of a fused gate_up, 'concatenated' or 'interleaved'. shift: whether adding
    one vector to all rows changes nothing. note: why it is unknown.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    rows: int = 0
    columns: int = 1
    heads: int = 1
    head_columns: bool = False
    layout: str | None = None
    shift: bool = False
    note: str = ""
    groups: int = 1
    parts: tuple[Part, ...] = ()
    partner: str = ""

    @property
    def group(self) -> str:
        """As text: on rows x on columns, e.g. 'permutation x rotation + shift'."""
        if self.role in VECTORS:
            return ""
        left, right = GROUPS[self.role]
        head = f" in {self.heads} heads" if self.heads > 1 else ""
        pair = " of pairs" if self.role == "gate_up" else ""
        left += pair or ("" if self.head_columns else head)
        right += head if self.head_columns else ""
        stack = "stack of " if len(self.shape) > 2 and not self.is_convolution else ""
        return f"{stack}{left} x {right}{' + shift' if self.shift else ''}"

    @property
    def is_convolution(self) -> bool:
        return self.role == "convolution"


def roles(model: nn.Module, example=None) -> dict[str, Block]:
    """name -> Block, for each parameter once.

    example: one input, as a tensor, a tuple of positional or a dict of keyword
    arguments; default Hugging Face's `dummy_inputs`, a few token ids for a model with
    an embedding, or random numbers for its first linear layer. Where the model cannot
    be called with it, module types alone decide, and a warning says so.
    """
    model = unwrapped(model)
    parameters = dict(model.named_parameters())
    if any(is_distributed(p) for p in parameters.values()):
        raise ValueError(
            "the model is sharded, and its roles show in a forward pass of the whole: "
            "use `param_groups` before, or on a copy, and SymOpt(model, groups=...)"
        )
    seen, why = _seen(model, example)
    found = {n: _block(n, p, seen) for n, p in parameters.items()}
    if seen is None or any(b.role == "unknown" for b in found.values()):
        found = _by_type(model, found, why)
    return _like_siblings(model, found)


def unwrapped(model: nn.Module) -> nn.Module:
    """Without the wrappers of torch.compile and DistributedDataParallel."""
    model = getattr(model, "_orig_mod", model)
    model = getattr(model, "module", model) if _is_parallel(model) else model
    return getattr(model, "_orig_mod", model)


def _is_parallel(model: nn.Module) -> bool:
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    return isinstance(model, wrappers)


# --- an input to look with -----------------------------------------------------------


def _seen(model: nn.Module, example) -> tuple[Seen | None, str]:
    where = next((p.device for p in model.parameters()), torch.device("cpu"))
    given = example is not None
    example = example if given else default_example(model)
    if example is None:
        why = "no input is known"
    else:
        args, kwargs = _arguments(example, where)
        try:
            return follow(model, lambda: model(*args, **kwargs)), ""
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            why = f"{type(error).__name__}: {first}"
            if given:
                raise ValueError(f"the model fails on this example ({why})") from error
    warnings.warn(
        f"the model could not be called to see its connections ({why}): give "
        "example=, one input; until then only module types are known, and other "
        "matrices get AdamW",
        stacklevel=4,
    )
    return None, why


def default_example(model: nn.Module):
    """An input that fits, guessed from the model; None where there is no guess."""
    given = getattr(model, "dummy_inputs", None)  # Hugging Face
    if isinstance(given, dict) and "input_ids" in given:
        rows = _vocabulary(model)
        return {"input_ids": given["input_ids"] % rows} if rows else given
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            return torch.arange(4)[None] % module.num_embeddings
        if isinstance(module, nn.Linear):
            return _numbers((2, module.in_features), module.weight.dtype)
        if isinstance(module, nn.Conv2d):
            return _numbers((2, module.in_channels, 32, 32), module.weight.dtype)
    return None


def _numbers(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Random, but not by torch's own stream, which is the user's."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def _vocabulary(model: nn.Module) -> int | None:
    tables = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    return max(tables, default=None)


def _arguments(example, device) -> tuple[tuple, dict]:
    def moved(x):
        return x.to(device) if isinstance(x, Tensor) else x

    if isinstance(example, dict) or hasattr(example, "items"):  # BatchEncoding, too
        return (), {k: moved(v) for k, v in example.items()}
    if isinstance(example, tuple | list):
        return tuple(moved(x) for x in example), {}
    return (moved(example),), {}


# --- from connections to roles -------------------------------------------------------


def _block(name: str, p: Tensor, seen: Seen | None) -> Block:
    shape = tuple(p.shape)
    if seen is None:
        note = "" if p.ndim < 2 else "the model was not seen at work"
        return Block(name, shape, "bias" if p.ndim < 2 else "unknown", note=note)
    products = [q for q in seen.products if q.name == name]
    looked_up = any(at.name == name for at in seen.lookups)
    if name in seen.unknown:
        return Block(name, shape, "unknown", note=seen.unknown[name])
    if name in seen.convolutions:
        return Block(name, shape, "convolution")
    if products and p.ndim in (2, 3):
        return _product_block(name, shape, products, looked_up, seen)
    if looked_up and p.ndim == 2:
        return Block(name, shape, "embedding")
    if name in seen.added:
        return Block(name, shape, "bias")
    if name in seen.multiplied:
        return Block(name, shape, "gain")
    if p.ndim < 2:
        return Block(name, shape, "bias", note="not used in a forward pass")
    note = "not used in a forward pass" if not products else "of more than 3 axes"
    return Block(name, shape, "unknown", note=note)


def _product_block(name, shape, products: list[Product], looked_up, seen) -> Block:
    axes = {(p.free, p.summed) for p in products}
    if len(axes) > 1:
        return Block(name, shape, "unknown", note="used in both directions")
    rows, columns = axes.pop()
    block = Block(name, shape, "matrix", rows, columns)
    if looked_up:
        return replace(block, role="tied embedding", rows=0, columns=1)
    kinds = {_role(p, seen) for p in products}
    if {k.role for k in kinds} < {"query", "key", "value", "qkv"} and len(kinds) > 1:
        kinds = {replace(k, role="qkv") for k in kinds}  # slices of one weight
    if len(kinds) > 1:  # used in several ways
        return block
    kind = kinds.pop()
    inside = kind.role == "attention out"
    heads, rest = divmod(shape[columns if inside else rows], kind.width or 1)
    if kind.width == 0 or rest or len(shape) == 3:  # a third axis has them apart
        heads = 1
    return replace(
        block,
        role=kind.role,
        heads=heads,
        head_columns=inside and heads > 1,
        layout=kind.layout,
        shift=kind.shift,
    )


@dataclass(frozen=True)
class _Kind:
    """What one product says of its weight; width: of a head."""

    role: str
    width: int = 0
    layout: str | None = None
    shift: bool = False


def _role(p: Product, seen: Seen) -> _Kind:
    if p is seen.head:
        return _Kind("head", shift=p.softmax or _is_vocabulary(p, seen))
    if p.topk:
        return _Kind("router", shift=p.softmax)
    for node in p.inputs.nodes():
        if isinstance(node, Attention):
            return _Kind("attention out", node.value_width)
        if isinstance(node, Gated):
            return _Kind("down")
    for g in seen.gated:
        if p is g.gate and p is g.up:
            return _Kind("gate_up", layout=g.layout)
        if p in (g.gate, g.up):
            return _Kind("gate" if p is g.gate else "up")
    return _attention_role(p, seen)


def _attention_role(p: Product, seen: Seen) -> _Kind:
    for a in seen.attentions:
        parts = {"query": a.query, "key": a.key, "value": a.value}
        mine = [part for part, origin in parts.items() if p in origin.nodes(Product)]
        if not mine:
            continue
        alone = all(parts[part].product() is p for part in mine)
        width = a.value_width if mine == ["value"] else a.query_width
        equal = len(mine) == 1 or a.value_width == a.query_width
        if not alone or not equal:  # latent attention: parts of several products
            break
        return _Kind(mine[0] if len(mine) == 1 else "qkv", width)
    return _Kind("matrix")


def _is_vocabulary(head: Product, seen: Seen) -> bool:
    """A language model's head: its loss, a softmax, was not in the forward pass."""
    sizes = {at.rows for at in seen.lookups}
    return head.features in sizes and not seen.head_bent


# --- without connections -------------------------------------------------------------


def _by_type(model: nn.Module, found: dict[str, Block], why: str) -> dict[str, Block]:
    """What a module's type alone says, for parameters that are still unknown."""
    found = dict(found)
    for prefix, module in model.named_modules():
        for own, p in module.named_parameters(recurse=False):
            name = f"{prefix}.{own}" if prefix else own
            if name not in found or found[name].role not in VECTORS:
                continue
            if isinstance(module, nn.Embedding):
                found[name] = replace(found[name], role="embedding", note="")
            elif isinstance(module, nn.MultiheadAttention) and p.ndim == 2:
                parts = {"in_proj_weight": "qkv", "q_proj_weight": "query"}
                parts |= {"k_proj_weight": "key", "v_proj_weight": "value"}
                heads = p.shape[0] // module.head_dim
                found[name] = replace(
                    found[name], role=parts[own], heads=heads, note=""
                )
            elif _is_norm(module) and own == "weight":
                found[name] = replace(found[name], role="gain", note="")
    return found


def _is_norm(module: nn.Module) -> bool:
    norms = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
    return isinstance(module, norms)


def _like_siblings(model: nn.Module, found: dict[str, Block]) -> dict[str, Block]:
    """A parameter that the example did not reach is as in another module of its class.

    So experts in a list that no token was sent to get the role of those that were.
    """
    classes: dict[tuple, set[Block]] = {}
    keys: dict[str, list[tuple]] = {name: [] for name in found}
    for prefix, module in model.named_modules():
        for own, _ in module.named_parameters():
            name = f"{prefix}.{own}" if prefix else own
            if name in keys:
                key = (type(module), own, found[name].shape)
                keys[name].append(key)
                if found[name].role != "unknown" and not found[name].note:
                    classes.setdefault(key, set()).add(replace(found[name], name=""))
    done = dict(found)
    for name, block in found.items():
        if block.note != "not used in a forward pass":
            continue
        for key in reversed(keys[name]):  # the innermost module first
            if type(model) is key[0] or inspect.getmodule(key[0]) is nn.modules.linear:
                continue  # every Linear is not alike
            if len(classes.get(key, ())) == 1:
                done[name] = replace(next(iter(classes[key])), name=name)
                break
    return done
