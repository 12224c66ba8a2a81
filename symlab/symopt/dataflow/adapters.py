"""Low-rank pairs: a product B (A x) of two weights with nothing in between.

    B A = (B G^-1) (G A)   for every invertible r x r matrix G

so that the pair has the group GL(r), which no weight of its own has. Found by dataflow:
the only input of B is the output of A, linearly and with nothing added, of fewer
features than A has inputs and B has outputs, and nothing else takes it. So LoRA's pairs
(Hu et al., arXiv 2106.09685) are found, of linear layers and of embeddings. A norm, an
activation or a bias in between leaves two weights of their own.
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
    """Return the first factor A of a low-rank product B (A x), given the second, or
    None.

    outer: the `Product` of the weight B with its input. A is returned where its output
    is the only input of B, unchanged, and of fewer features than A has inputs and B has
    outputs.
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
    """Return the low-rank pairs B A of a model as {weight's name: (role, name of the
    other weight, node)}.

    There is an entry for both weights of each pair, with the role 'adapter in' for A
    and 'adapter out' for B. seen: the record of a forward pass. node: the `Product` or
    `Lookup` of that weight in it.
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
    """Return [the main term] where a sum adds a low-rank correction B (A x) to it; else
    `values` unchanged.

    op: the operation. values: the tensors that it adds. known: what is known of each
    tensor. The weight that an adapter (such as LoRA's) was added to thus keeps the role
    that it has without the adapter.
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
    """Record on each product with a weight, and on each table lookup, how an operation
    uses its values.

    `inner` and `pairs` read it. op: the operation. origins: the products and lookups
    behind each of its inputs. weights: whether it also takes a parameter. bend: how far
    from linear it is, LINEAR to ACTIVATED.
    """
    scaled = op.name in ("mul", "div") and not weights
    scaled = scaled and all(t.numel() == 1 for t in tensors(op.args[1:]))
    keeps = bend == LINEAR and op.name in KEEPING
    for origin in origins:
        for node in origin.nodes((Product, Lookup)):
            node.plain = node.plain and (scaled or keeps)
            if bend > LINEAR:
                node.consumers.add(op.name)
