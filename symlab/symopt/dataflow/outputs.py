"""Find which products a model returns (its heads), and whether a softmax may follow
them.

A language model returns logits, and the softmax of its loss is not in the forward pass.
It is assumed if the logits are a linear function of one product with as many features
as the table of the model's own tokens has rows. Any other value that, after the pass,
still changes if one vector is added to all rows of a weight could be used in any way,
such as in a z-loss or a squared error. The weight then counts as one without this shift
symmetry.
"""

import dataclasses
import gc
from collections.abc import Mapping

from torch import Tensor

from symlab.symopt.dataflow.shifts import ADDED
from symlab.symopt.dataflow.traces import (
    LINEAR,
    SCALED,
    Attention,
    Gated,
    Lookup,
    Origin,
    Product,
    Scores,
    Seen,
    varying,
)

CACHES = ("past_key_values", "hidden_states", "attentions", "cache", "router_logits")
TOKENS = ("decoder_input_ids", "input_ids")  # the first that is there has the targets
OTHERS = ("position", "type", "segment", "mask", "label", "user", "item")
NAMES = ("ids", "idx", "tokens", "token_ids", "x", "input", "inputs")


def find_heads(seen: Seen, out, origin, shift) -> None:
    """Record in `seen` which products with a weight the model returns, and which are
    logits.

    seen: the record of the pass. out: the model's output.
    origin: a function from a tensor to the products from which it is computed.
    shift: a function from a tensor to how it changes when one vector is added to all
        rows of a weight.

    A head that is called for pieces of the tokens, or for each of several losses, has
    several products.
    """
    given = list(_floats(out))
    for t in given:
        for node in origin(t).nodes((Product, Lookup)):
            node.consumers.add("output")
    logits = _named(out, "logits")
    if logits is None and given:
        logits = given[0]
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        return
    seen.head = origin(logits).product()
    named = _is_record(out) and _named(out, "logits") is not None
    alone = isinstance(out, Tensor | Mapping | list | tuple) or _is_record(out)
    scalars = alone and all(t.ndim == 0 for t in given if t is not logits)
    for p, s in shift(logits).items():
        trace = origin(logits).get(p)
        linear = p is seen.head and trace.bend == LINEAR and trace.direct
        if linear and s.kind == ADDED and s.whole and len(varying(s.features)) == 1:
            if named or (alone and len(given) == 1):
                seen.assumed.add(p)
            if named or scalars:
                seen.returned.add(p)
    loss = _named(out, "loss") if named else None
    seen.has_loss = isinstance(loss, Tensor) and loss.ndim == 0
    consumed = {n for q in seen.products for n in q.inputs.nodes(Product)}
    ends = origin(logits).nodes()
    if len(ends) > 1 and ends == origin(logits).nodes(Product) - consumed:
        seen.shared_head = ends if len({p.name for p in ends}) == 1 else set()
    for t in given:
        p = origin(t).product()
        if p is not None and p not in consumed and origin(t)[p].bend <= SCALED:
            seen.second_heads.add(p)


def note_survivors(seen: Seen, out, known) -> None:
    """Mark the products on which a value that outlives the forward pass still depends.

    These count as without shift symmetry (one vector added to all rows of the weight).
    Values that outlive the pass are in the output, in an attribute or in a list. The
    logits among `seen.returned` are excepted; `assumes_softmax` judges these.

    seen: the record of the pass. out: the output. known: what is known about each
        tensor.
    """
    if not _survivors(known):
        return
    gc.collect()  # what only a cycle of references holds is not held
    given = list(_floats(out))
    logits = _named(out, "logits")
    logits = logits if logits is not None else next(iter(given), None)
    others = [t for t in given if t is not logits]
    for t in _survivors(known):
        free = t is logits or (
            _storage(t) == _storage(logits) and not any(t is x for x in others)
        )
        for p in list(known.shift(t)):
            if not (free and p in seen.returned):
                p.spoiled = p.spoiled or "it is returned or stored"


def _survivors(known) -> list[Tensor]:
    return [t for t in list(known.shifts.keys()) if known.shift(t)]


def _storage(t):
    return t.untyped_storage()._cdata if isinstance(t, Tensor) else None


def _is_record(out) -> bool:
    """Whether it has fields of its own: any object may have a property `logits`."""
    return (
        isinstance(out, Mapping)
        or hasattr(out, "_fields")
        or (dataclasses.is_dataclass(out) and not isinstance(out, type))
    )


def _named(out, name: str):
    if isinstance(out, Mapping):
        return out.get(name)
    return getattr(out, name, None) if not isinstance(out, Tensor) else None


def _floats(out):
    """The float tensors of an output, but for caches and what is shown of inside."""
    if isinstance(out, Tensor):
        if out.is_floating_point():
            yield out
    elif isinstance(out, Mapping):
        for key, value in out.items():
            if not any(str(key).endswith(c) for c in CACHES):
                yield from _floats(value)
    elif isinstance(out, list | tuple):
        for value in out:
            yield from _floats(value)
    elif dataclasses.is_dataclass(out) and not isinstance(out, type):
        yield from _floats(
            {f.name: getattr(out, f.name) for f in dataclasses.fields(out)}
        )


# --- the table of the tokens that a head predicts ------------------------------------


def assumes_softmax(p: Product, seen: Seen, main: str | None) -> bool:
    """Return whether the loss on some logits is assumed to be a softmax over tokens.

    p: the product with a weight that gives the logits. seen: the record of the pass.
    main: the model's name for its input of tokens, if it has one.

    It is assumed only if the logits are over the model's own vocabulary.
    """
    return p in seen.assumed and not p.spoiled and _predicts(p, seen, main)


def proves_softmax(p: Product, seen: Seen, main: str | None) -> bool:
    """Return whether the forward pass itself applies a softmax to the features of a
    product.

    This requires that no other use of the features changes if one number is added to
    all of them.

    p: the product with a weight. seen: the record of the pass.
    main: the model's name for its input of tokens, if it has one.

    Features that are returned as logits beside a loss are allowed; if there is no loss,
    they must be logits over the model's own vocabulary, as in `assumes_softmax`.
    """
    if not p.softmax or p.spoiled:
        return False
    return p not in seen.returned or seen.has_loss or _predicts(p, seen, main)


def _predicts(p: Product, seen: Seen, main: str | None) -> bool:
    """Whether its features are the model's own tokens, one row for each of them."""
    name = _token_input(seen, main)
    return any(
        at.ids == name and at.length == p.features and _reaches(p.inputs, at)
        for at in seen.lookups
        if name is not None and not at.scores
    )


def _token_input(seen: Seen, main: str | None) -> str | None:
    """The input that holds the tokens; None in doubt.

    main: the model's own word for it (Hugging Face's `main_input_name`).
    """
    names = {at.ids for at in seen.lookups if at.ids is not None}
    for name in (*TOKENS, main):
        if name in names:
            return name
    if len(names) != 1:
        return None
    name = names.pop()
    alone = len(seen.inputs) == 1 and not any(w in name for w in OTHERS)
    return name if alone or name in NAMES else None


def _reaches(origin: Origin, table: Lookup) -> bool:
    """Whether a value per token of the table, not a mean over tokens, arrives."""
    todo, done = [origin], set()
    while todo:
        here = todo.pop()
        if id(here) in done:
            continue
        done.add(id(here))
        for node, trace in here.items():
            if not trace.direct:
                continue
            if node is table:
                return True
            if isinstance(node, Product):
                todo.append(node.inputs)
            elif isinstance(node, Gated):
                todo.append(node.gate.inputs)
            elif isinstance(node, Attention):
                todo.append(node.query)  # keys and values are mixed
            elif isinstance(node, Scores):
                todo.append(node.query)
    return False
