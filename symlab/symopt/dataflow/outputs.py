"""Which products a model returns: its heads, and whether a loss may follow them.

A language model returns logits, and the softmax of its loss is not in the forward
pass. It is assumed where the logits are a linear function of one product with as many
features as the table of the model's own tokens has rows.
"""

import dataclasses
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
    """Fills in seen.head, seen.second_heads and seen.assumed from what was returned."""
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
    if _named(out, "logits") is not None or len(given) == 1:
        for p, s in shift(logits).items():
            linear = p is seen.head and origin(logits)[p].bend == LINEAR
            if linear and s.kind == ADDED and s.whole and len(varying(s.features)) == 1:
                seen.assumed.add(p)
    consumed = {n for q in seen.products for n in q.inputs.nodes(Product)}
    for t in given:
        p = origin(t).product()
        if p is not None and p not in consumed and origin(t)[p].bend <= SCALED:
            seen.second_heads.add(p)


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
    """Whether this head's loss is taken for a softmax over the model's own tokens."""
    if p not in seen.assumed or p.spoiled:
        return False
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
