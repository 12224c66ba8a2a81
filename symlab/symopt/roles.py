"""Find the role of each parameter of a model, and with it its symmetry group.

    roles(model)["lm_head.weight"].role      'head'

A role follows from what the model does with a parameter in one forward pass (see
`connections`), never from its name: a weight is a router because its product reaches a
top-k. Groups are those of Lau & Su (arXiv 2605.18106), except where these are not
symmetries: a shift of all logits is one under a softmax only, so not before sigmoid
gates or a soft cap, and not for a head that is tied to the embedding.
"""

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from symlab.symopt.dataflow import fused
from symlab.symopt.dataflow.adapters import pairs
from symlab.symopt.dataflow.connections import follow
from symlab.symopt.dataflow.examples import arguments, candidates
from symlab.symopt.dataflow.fused import Kind, Part
from symlab.symopt.dataflow.outputs import assumes_softmax, proves_softmax
from symlab.symopt.dataflow.traces import Attention, Gated, Product, Seen, collapsed
from symlab.symopt.rule import LINEAR, PERMUTATION, ROTATION
from symlab.symopt.sharded import is_distributed
from symlab.tracing import tensors

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
    "adapter out": (ROTATION, LINEAR),
    "adapter in": (LINEAR, ROTATION),
}
VECTORS = ("gain", "bias", "bias table", "depthwise", "unknown")  # no group: AdamW
ROLES = (*GROUPS, *VECTORS, "fused")
UNUSED, UNSEEN = "not used in a forward pass", "the model was not seen at work"
ANYTHING = ("torch.nn.modules.linear", "torch.nn.modules.conv")
ANYTHING += ("torch.nn.modules.container", "torch.nn.modules.sparse")
CONFIGURATIONS = ("config", "cfg", "args", "hparams")
IN_A_SUM = (
    "it is added or joined to a constant or another weight before use, so that a "
    "symmetry of the whole is none of it alone"
)
MIXED = (
    "its rows are {roles}, which lie between each other or are shared and are taken "
    "for one matrix: the group is larger than that of each head"
)
ASSUMED = (
    "assumes a softmax over the outputs; shift=False for binary or regression losses"
)


@dataclass(frozen=True)
class Block:
    """What is known about one parameter of a model: its role and how it splits into
    matrices.

    name, shape, role: of the parameter.
    rows, columns: the axes of outputs and of inputs; another axis is a stack (experts,
        heads).
    heads: how many heads the rows (or, with `head_columns`, the columns) hold.
    layout: for a fused gate and up projection, 'concatenated' or 'interleaved'.
    shift: whether adding one vector to all rows leaves the loss unchanged.
    parts: for a weight of the role 'fused', which rows have which role, in order and
        without gaps.
    groups: the number of groups of a grouped convolution, whose rows and columns are
        then those of one group.
    partner: the name of the other weight of a low-rank pair.
    note: why the role is unknown, or what `shift` assumes.
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
    parts: tuple[Part, ...] = ()
    groups: int = 1
    partner: str = ""

    @property
    def group(self) -> str:
        """The symmetry group of the parameter as text, such as 'permutation x
        rotation'.

        The first factor acts on rows, the second on columns. The text is '' for
        vectors.
        """
        if self.role in VECTORS:
            return ""
        stack = "stack of " if len(self.shape) > 2 and not self.is_convolution else ""
        if self.role == "fused":
            said = [f"{p.role}: {_group_of(p) or 'none'}" for p in self.parts]
            return stack + "; ".join(said)
        if self.partner:
            rank = self.shape[self.rows if self.role == "adapter in" else self.columns]
            return f"GL({rank}) with {self.partner}"
        left, right = GROUPS[self.role]
        head = f" in {self.heads} heads" if self.heads > 1 else ""
        pair = " of pairs" if self.role == "gate_up" else ""
        left += pair or ("" if self.head_columns else head)
        right += head if self.head_columns else ""
        return f"{stack}{left} x {right}{' + shift' if self.shift else ''}"

    @property
    def is_convolution(self) -> bool:
        """Whether it is the weight of a convolution; further axes are the kernel."""
        return self.role == "convolution"


def _group_of(part: Part) -> str:
    return Block("", (), part.role, heads=part.heads).group


def roles(model: nn.Module, example=None) -> dict[str, Block]:
    """Return the role and axes of each parameter of a model, {name: Block}.

    example: one input, as a tensor, a tuple of positional or a dict of keyword
        arguments; by default one is guessed from the model. If no guess fits, roles
        follow from module types alone, and a warning says so.

    A matrix that is added to a constant or another weight before it multiplies is
    "unknown", and its note says so. A "matrix" whose rows belong to queries, keys or
    values that cannot be distinguished has a note, too. Raises ValueError if the model
    fails on a given example, or is sharded.
    """
    model = unwrapped(model)
    parameters = dict(model.named_parameters())
    if any(is_distributed(p) for p in parameters.values()):
        raise ValueError(
            "the model is sharded, and its roles show in a forward pass of the whole: "
            "use `param_groups` before, or on a copy, and SymOpt(model, groups=...)"
        )
    seen = _seen(model, example)
    main = getattr(model, "main_input_name", None)
    found = {n: _block(n, p, seen, main) for n, p in parameters.items()}
    if any(b.shift for b in found.values()):
        found = _as_trained(model, found, example, main)
    for name, (role, partner, node) in (pairs(seen) if seen else {}).items():
        found[name] = _pair_block(found[name], role, partner, node)
    found = _like_siblings(model, _by_type(model, found))
    found = {n: _checked(b) for n, b in found.items()}
    return found if seen is None else {n: _noted(b, seen) for n, b in found.items()}


def _checked(block: Block) -> Block:
    """Return the block, or an unknown one where parts or heads do not fill its axis."""
    if block.role in VECTORS:
        return block
    end = 0
    for p in block.parts:
        end = end + p.length if p.start == end and p.length % p.heads == 0 else -1
    cut = block.shape[block.columns if block.head_columns else block.rows]
    if cut % block.heads == 0 and (not block.parts or end == cut):
        return block
    note = f"its parts or heads do not fill an axis of {cut} rows"
    return Block(block.name, block.shape, "unknown", note=note)


def _noted(block: Block, seen: Seen) -> Block:
    """Return the block of a matrix with a note where its role alone says too little.

    A matrix in a sum becomes "unknown", but for the factors of a low-rank product: they
    may be exchanged for others of the same product, whatever it is added to.
    """
    name = block.name
    if len(block.shape) < 2 or block.note:
        return block
    summed = block.role in GROUPS and not block.partner and name in seen.in_sums
    if summed or (block.role in ("bias", "gain") and name in seen.combined):
        return Block(name, block.shape, "unknown", note=IN_A_SUM)
    if block.role == "matrix":
        return replace(block, note=_mixed(name, seen))
    return block


def _mixed(name: str, seen: Seen) -> str:
    """The note of a matrix that holds heads which are not told apart, else ''."""
    products = [p for p in seen.products if p.name == name]
    used = {use.role for use in fused.uses(products, seen)}
    if not used & set(fused.HEADS):
        return ""
    said = [r for r in fused.HEADS if r in used] + sorted(used - set(fused.HEADS))
    listed = ", ".join(said[:-1])
    return MIXED.format(roles=f"{listed} and {said[-1]}" if listed else said[0])


def _as_trained(model, found: dict[str, Block], example, main) -> dict[str, Block]:
    """Takes those shifts away that are none when the model is trained.

    A second pass is followed in training mode, because dropout on logits and a z-loss
    are seen there only. Where it fails, what the first one says stays. A z-loss that a
    Hugging Face configuration has is added by trainers that ask for router logits.
    """
    shifted = [n for n, b in found.items() if b.shift]
    again = _seen(model, example, training=True)
    doubted = set()
    for name in shifted:
        if again is not None:
            trained = _block(name, model.get_parameter(name), again, main)
            idle = trained.note == UNUSED and name not in again.otherwise
            doubted |= set() if trained.shift or idle else {name}
        if found[name].role == "router" and _has_z_loss(model):
            doubted.add(name)
    return found | {n: replace(found[n], shift=False, note="") for n in doubted}


def _has_z_loss(model: nn.Module) -> bool:
    """Whether some setting of its configuration, however deep, is a z-loss."""
    todo = [getattr(model, name, None) for name in CONFIGURATIONS]
    done = set()
    while todo:
        here = todo.pop()
        if id(here) in done or isinstance(here, nn.Module | Tensor | type):
            continue
        done.add(id(here))
        if isinstance(here, list | tuple):
            todo += here
            continue
        for key, value in _settings(here).items():
            plain = str(key).lower().replace("_", "").replace("-", "")
            if "zloss" in plain and _is_given(value):
                return True
            todo.append(value)
    return False


def _settings(config) -> dict:
    """Its entries or attributes, with those in slots and of its class."""
    if isinstance(config, Mapping):
        return dict(config)
    if not hasattr(config, "__dict__") and not hasattr(type(config), "__slots__"):
        return {}
    names = [n for n in dir(type(config)) if "loss" in n.lower()]
    for c in type(config).__mro__:
        slots = vars(c).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else list(slots)
    found = {n: v for n in names if not callable(v := getattr(config, n, None))}
    return found | getattr(config, "__dict__", {})


def _is_given(value) -> bool:
    return not (value is None or (isinstance(value, int | float) and value == 0))


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside the wrappers of torch.compile and
    DistributedDataParallel.

    Raises ValueError if FullyShardedDataParallel (FSDP1) has flattened its parameters.
    """
    model = getattr(model, "_orig_mod", model)
    model = getattr(model, "module", model) if _is_parallel(model) else model
    model = getattr(model, "_orig_mod", model)
    if any(_is_flattened(m) for m in model.modules()):
        raise ValueError(
            "FullyShardedDataParallel flattens its parameters, so that no matrix is "
            "left to act on: use fully_shard (FSDP2), and plan groups before; see "
            "param_groups"
        )
    return model


def _is_parallel(model: nn.Module) -> bool:
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    return isinstance(model, wrappers)


def _is_flattened(module: nn.Module) -> bool:
    """By names: the import of FSDP takes a second."""
    return any(
        c.__name__ == "FullyShardedDataParallel"
        and c.__module__.startswith("torch.distributed.fsdp")
        for c in type(module).__mro__
    )


def _seen(model: nn.Module, example, training: bool = False) -> Seen | None:
    """What was seen of the model; None, with a warning, where no guess fits.

    training: in that mode, in which a model may fail without a word.
    """
    where = next((p.device for p in model.parameters()), torch.device("cpu"))
    why = "no input is known"
    tried = candidates(model) if example is None else [lambda: example]
    for guess in tried:
        try:
            args, kwargs = arguments(guess(), where)
            inputs = _inputs(model, args, kwargs)
            given = tensors((args, kwargs))
            call = lambda a=args, k=kwargs: model(*a, **k)  # noqa: E731
            return follow(model, call, inputs, given, training)
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            said = f"{type(error).__name__}: {first}"
            if example is not None and not training:
                raise ValueError(f"the model fails on this example ({said})") from error
            why = said if why == "no input is known" else why
    if training:
        return None
    warnings.warn(
        f"the model could not be called to see its connections ({why}): give "
        "example=, one input; until then only module types are known, and other "
        "matrices get AdamW",
        stacklevel=4,
    )
    return None


def _inputs(model: nn.Module, args: tuple, kwargs: dict) -> dict[str, Tensor]:
    """The tensors of a call by the names of forward's arguments."""
    try:
        bound = inspect.signature(model.forward).bind_partial(*args, **kwargs)
    except (TypeError, ValueError):
        return {}
    named = {}
    for name, value in bound.arguments.items():
        values = value.items() if isinstance(value, dict) else [(name, value)]
        if isinstance(value, tuple | list):
            values = [(f"{name} {i}", v) for i, v in enumerate(value)]
            values = [(name, value[0])] if len(value) == 1 else values
        named |= {n: v for n, v in values if isinstance(v, Tensor)}
    return named


# --- from connections to roles -------------------------------------------------------


def _block(name: str, p: Tensor, seen: Seen | None, main: str | None) -> Block:
    shape = tuple(p.shape)
    if seen is None:
        return Block(name, shape, "bias" if p.ndim < 2 else "unknown", note=UNSEEN)
    products = [q for q in seen.products if q.name == name]
    lookups = [at for at in seen.lookups if at.name == name]
    if name in seen.recurrent:
        note = f"the gates of a recurrent layer ({seen.recurrent[name]})"
        role = "bias" if p.ndim < 2 else "unknown"
        return Block(name, shape, role, note="" if p.ndim < 2 else note)
    if name in seen.unknown:
        return Block(name, shape, "unknown", note=seen.unknown[name])
    if name in seen.convolutions:
        return _convolution_block(name, shape, *seen.convolutions[name])
    if lookups and p.ndim == 2:
        return _table_block(name, shape, lookups, products)
    if products and p.ndim in (2, 3):
        return _product_block(name, shape, products, seen, main)
    if name in seen.added:
        return Block(name, shape, "bias")
    if name in seen.multiplied:
        return Block(name, shape, "gain")
    if p.ndim < 2:
        return Block(name, shape, "bias", note=UNUSED)
    note = UNUSED if not products else "of more than 3 axes"
    return Block(name, shape, "unknown", note=note)


def _pair_block(block: Block, role: str, partner: str, node) -> Block:
    if len(block.shape) != 2:
        return block
    axes = (node.free, node.summed) if isinstance(node, Product) else (
        node.columns, node.rows,
    )  # fmt: skip
    return Block(block.name, block.shape, role, *axes, partner=partner)


def _convolution_block(name, shape, transposed: bool, groups: int) -> Block:
    """Return the block of a convolution: one matrix per group, taps count as inputs.

    The polar factor of a matrix of one row or column is only a normalisation, so that
    a depthwise convolution, also one with several outputs per input, is a "depthwise".
    """
    rows, columns = (1, 0) if transposed else (0, 1)
    outputs = shape[1] if transposed else shape[0] // groups
    inputs = shape[0] // groups if transposed else shape[1]
    depthwise = groups > 1 and 1 in (outputs, inputs)
    role = "depthwise" if depthwise else "convolution"
    return Block(name, shape, role, rows, columns, groups=groups)


def _table_block(name, shape, lookups, products: list[Product]) -> Block:
    axes = {(at.rows, at.columns) for at in lookups}
    if len(axes) > 1:
        return Block(name, shape, "unknown", note="looked up by rows and by columns")
    rows, columns = axes.pop()
    if any(at.scores for at in lookups):
        return Block(name, shape, "bias table", rows, columns)
    role = "tied embedding" if products else "embedding"
    return Block(name, shape, role, rows, columns)


def _product_block(name, shape, products: list[Product], seen, main) -> Block:
    axes = {(p.free, p.summed) for p in products}
    if len(axes) > 1:
        return Block(name, shape, "unknown", note="used in both directions")
    rows, columns = axes.pop()
    block = Block(name, shape, "matrix", rows, columns)
    if all(p.chosen for p in products):
        shift = all(proves_softmax(p, seen, None) for p in products)
        shift = shift and _only_products(name, seen)
        return replace(block, role="router", shift=shift)
    if all(p is seen.head for p in products):
        return _head_block(block, products, seen, main)
    length, sides = shape[rows], {_input_side(p) for p in products}
    kind = fused.kind(products, seen, length)
    if kind is None and all(p in seen.shared_head for p in products):
        return _head_block(block, products, seen, main)
    side = sides.pop() if len(sides) == 1 else None
    if kind in (None, fused.MATRIX) and side is not None:
        return _by_columns(block, *side)
    if kind is None and all(p in seen.second_heads for p in products):
        return _head_block(block, products, seen, None)
    kind = kind or fused.cut(products, seen, length) or fused.MATRIX
    return _by_rows(block, kind)


def _only_products(name: str, seen: Seen) -> bool:
    """Whether no value but its products comes from this weight."""
    return name not in seen.added | seen.multiplied | seen.otherwise


def _head_block(block: Block, products, seen, main) -> Block:
    if not _only_products(block.name, seen):
        return replace(block, role="head")
    assumed = all(assumes_softmax(p, seen, main) for p in products)
    proven = all(proves_softmax(p, seen, main) for p in products)
    known = proven and all(p.compared for p in products if p in seen.returned)
    shift = assumed or proven
    note = ASSUMED if shift and not known else ""
    return replace(block, role="head", shift=shift, note=note)


def _by_columns(block: Block, role: str, heads: int) -> Block:
    heads = heads if len(block.shape) == 2 else 1  # a third axis has them apart
    return replace(block, role=role, heads=heads, head_columns=heads > 1)


def _by_rows(block: Block, kind: Kind) -> Block:
    return replace(
        block,
        role=kind.role,
        heads=kind.heads,
        layout=kind.layout,
        parts=kind.parts,
        note=kind.note,
    )


def _input_side(p: Product) -> tuple[str, int] | None:
    """Role and heads of a weight whose inputs are an attention's or a gated unit's."""
    if p.inputs.only(Gated) is not None:
        return "down", 1
    node = p.inputs.only(Attention)
    if node is None:
        return None
    labels = p.inputs[node].labels
    if labels is None or len(labels) != 1:
        return "attention out", 1
    columns = collapsed(labels[0]).reshape(-1).tolist()
    heads, rest = divmod(p.width, node.value_width)
    in_order = columns == list(range(p.width)) and not rest
    return "attention out", heads if in_order else 1


# --- without connections -------------------------------------------------------------


def _by_type(model: nn.Module, found: dict[str, Block]) -> dict[str, Block]:
    """What a module's type alone says, for parameters that were not seen in use."""
    found = dict(found)
    for prefix, module in model.named_modules():
        for own, p in module.named_parameters(recurse=False):
            name = f"{prefix}.{own}" if prefix else own
            if name not in found or found[name].note not in (UNUSED, UNSEEN):
                continue
            if isinstance(module, nn.Embedding):
                found[name] = replace(found[name], role="embedding", note="")
            elif isinstance(module, nn.MultiheadAttention) and p.ndim == 2:
                parts = {"in_proj_weight": "qkv", "q_proj_weight": "query"}
                parts |= {"k_proj_weight": "key", "v_proj_weight": "value"}
                if own in parts:
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

    So experts in a list that no token was sent to get the role of those that were. What
    follows their products was not seen, so that none of them has a shift.
    """
    classes: dict[tuple, set[Block]] = {}
    keys: dict[str, list[tuple]] = {name: [] for name in found}
    for prefix, module in model.named_modules():
        for own, _ in module.named_parameters():
            name = f"{prefix}.{own}" if prefix else own
            if name in keys:
                key = (type(module), own, found[name].shape)
                keys[name].append(key)
                alone = not found[name].note and not found[name].partner
                if found[name].role != "unknown" and alone:
                    like = replace(found[name], name="", shift=False)
                    classes.setdefault(key, set()).add(like)
    done = dict(found)
    for name, block in found.items():
        if block.note != UNUSED:
            continue
        for key in reversed(keys[name]):  # the innermost module first
            if type(model) is key[0] or key[0].__module__ in ANYTHING:
                continue  # every Linear, or list of layers, is not alike
            if len(classes.get(key, ())) == 1:
                done[name] = replace(next(iter(classes[key])), name=name)
                break
    return done
