"""Find low-rank pairs: products B (A x) of two weights with nothing in between.

    B A = (B G^-1) (G A)   for every invertible r x r matrix G

so that the pair has the symmetry group GL(r), which neither weight has by itself. A
pair is found by dataflow: the only input of B is the output of A, linearly and with
nothing added, A has fewer outputs than A has inputs and B has outputs, and nothing else
uses A's output. This finds the pairs of LoRA (Hu et al., arXiv 2106.09685), in linear
layers and in embeddings. With a norm, an activation or a bias in between, the two are
separate weights.
"""

from torch import Tensor

from symlab.symopt.dataflow.traces import (
    LINEAR,
    Lookup,
    Operation,
    Origin,
    Product,
    Seen,
    collapsed,
)
from symlab.tracing import tensors, words

KEEPING = words(  # the place of features, and their value but for a sign
    "t transpose permute unsqueeze squeeze expand slice select split split_with_sizes "
    "unbind view reshape unsafe_view reshape_alias detach alias clone contiguous "
    "to_copy index index_select neg native_dropout"
)


def inner(outer: Product) -> Product | Lookup | None:
    """Return the first factor A of a low-rank product B (A x), given the second; else
    None.

    outer: the `Product` of the weight B with its input.

    A is a `Product` or `Lookup`, and is returned if its output is the only input of B,
    unchanged, and has fewer features than A has inputs and B has outputs.
    """
    a = outer.inputs.only((Product, Lookup))
    if a is None or not a.plain or outer.inputs[a].bend != LINEAR:
        return None
    rank, wide = a.features, a.width if isinstance(a, Product) else a.length
    labels = outer.inputs[a].labels
    whole = labels and len(labels) == 1 and collapsed(labels[0]).numel() == rank
    low = outer.width == rank < min(wide, outer.features)
    return a if whole and low else None


def pairs(seen: Seen) -> dict[str, tuple[str, str, object]]:
    """Return the low-rank pairs B A of a model: {weight's name: (role, partner, node)}.

    seen: the record of a forward pass.

    Both weights of a pair have an entry. role: 'adapter in' for A and 'adapter out' for
    B.
    partner: the name of the other weight. node: the `Product` or `Lookup` of the weight
    in the record.
    """
    used: dict[str, int] = {}
    for node in (*seen.products, *seen.lookups):
        used[node.name] = used.get(node.name, 0) + 1
    found = {}
    for b in seen.products:
        a = inner(b)
        if a is None or a.consumers != {b} or b in (seen.head, *seen.second_heads):
            continue
        if isinstance(a, Lookup) and not a.corrects:
            continue  # a factorised embedding is an embedding
        names = {a.name, b.name}
        if names & (seen.unknown.keys() | seen.convolutions.keys() | seen.multiplied):
            continue
        if len(names) == 2 and used[a.name] == used[b.name] == 1:
            found[a.name] = ("adapter in", b.name, a)
            found[b.name] = ("adapter out", a.name, b)
    return found


def without_adapter(op: Operation, values: list[Tensor], known) -> list[Tensor]:
    """Return [the main term] if a sum adds a low-rank correction B (A x) to it.

    op: the operation. values: the tensors that it adds, returned unchanged in all other
        cases.
    known: the record of the pass (`Known`).

    A weight to which an adapter (such as LoRA's) was added thus keeps the role that it
    has without the adapter.
    """
    if op.name != "add" or len(values) != 2:
        return values
    for base, added in (values, values[::-1]):
        b, of = known.origin(added).product(), known.origin(base)
        a = inner(b) if b is not None else None
        if a is None:
            continue
        main = of.only((Product, Lookup))
        if isinstance(a, Lookup):
            alike = isinstance(main, Lookup) and main.ids_source is a.ids_source
        else:
            alike = isinstance(main, Product) and main.source is a.source
        if alike and main.features == b.features and main is not b:
            a.corrects = True
            return [base]
    return values


def note_use(op: Operation, origins: list[Origin], weights: bool, bend: int) -> None:
    """Record how an operation uses the products and table lookups behind its inputs.

    `inner` and `pairs` read this record.

    op: the operation. origins: for each of its inputs, the products and lookups behind
        it.
    weights: whether it also takes a parameter.
    bend: how far from linear it is, from LINEAR to ACTIVATED.
    """
    scaled = op.name in ("mul", "div") and not weights
    scaled = scaled and all(t.numel() == 1 for t in tensors(op.args[1:]))
    keeps = bend == LINEAR and op.name in KEEPING
    for origin in origins:
        for node in origin.nodes((Product, Lookup)):
            node.plain = node.plain and (scaled or keeps)
            if bend > LINEAR:
                node.consumers.add(op.name)
