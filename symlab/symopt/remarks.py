"""Notes on the roles of some matrices, for the user; they do not change a rule.

`roles.roles` decides how SymOpt steps a parameter. Two further properties of a matrix
are found in a second forward pass here, and reported by `describe`, `roles` and
`check`:

  in a sum   the matrix is added to a constant or to another weight, and the sum is what
             multiplies. In W + C the symmetry is that of the sum: for constant C a
             rotation of W is no symmetry, and weight decay pulls W to 0, the sum to C.
  mixed      its rows are queries, keys or values that lie between each other or are
             shared, so that it is updated as one matrix.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from symlab.symopt.dataflow import fused
from symlab.symopt.dataflow.connections import follow
from symlab.symopt.dataflow.examples import arguments, candidates
from symlab.symopt.dataflow.traces import Seen
from symlab.symopt.roles import GROUPS, Block, unwrapped
from symlab.symopt.roles import roles as of_a_pass
from symlab.tracing import Mode, operator_name, tensors, words

FACTORS = {  # operator -> places of the arguments that it multiplies or looks up
    **dict.fromkeys(words("mm bmm mv grouped_mm linear convolution"), (0, 1)),
    **dict.fromkeys(words("addmm baddbmm addmv"), (1, 2)),
    **dict.fromkeys(words("embedding embedding_bag index index_select gather"), (0, 1)),
}
ATTENTION = "scaled_dot_product"  # how names of operators begin that take all three
SUMS = words("add sub rsub cat addmm baddbmm")
IN_A_SUM = (
    "it is added or joined to a constant or another weight before use, so that a "
    "symmetry of the whole is none of it alone"
)
MIXED = (
    "its rows are {roles}, which lie between each other or are shared and are taken "
    "for one matrix: the group is larger than that of each head"
)


class Sums(Mode):
    """A torch dispatch mode that finds parameters that are added to something before
    use.

    It records parameters that reach a product after they were combined with a value
    that does not depend on the model's input.

    parameters: {name: tensor}. inputs: the tensors that the model is given.

    names: the names of parameters that were combined in any way.
    sums: the names of those that were combined by an addition.
    """

    def __init__(self, parameters: dict[str, Tensor], inputs: list[Tensor]):
        super().__init__()
        self.names: set[str] = set()
        self.sums: set[str] = set()
        self.given = WeakIdKeyDictionary()  # values that depend on the inputs
        self.made = WeakIdKeyDictionary()  # of other values: (names, combined, added)
        for t in inputs:
            self.given[t] = True
        for name, p in parameters.items():
            self.made[p] = frozenset([name]), False, False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = operator_name(func) if hasattr(func, "_schema") else ""
        read, results = tensors((args, kwargs)), tensors(out)
        if any(t in self.given for t in read):
            for t in results:
                self.given[t] = True
                if t._base is not None and any(t is x for x in read):  # written to
                    self.given[t._base] = True
            self._used(name, args)
            return out
        parts = [self.made[t] for t in _kept(name, args, read) if t in self.made]
        names = frozenset().union(*(p[0] for p in parts))
        several = len(read) > 1
        combined = several or any(p[1] for p in parts)
        added = (several and name in SUMS) or any(p[2] for p in parts)
        for t in results if names else ():
            self.made[t] = names, combined, added
        return out

    def _used(self, name: str, args: tuple) -> None:
        """A product or a lookup with values that depend on the inputs."""
        places = FACTORS.get(name, range(3) if name.startswith(ATTENTION) else ())
        for t in tensors([args[i] for i in places if i < len(args)]):
            if t in self.made:
                names, combined, added = self.made[t]
                self.names |= names if combined else set()
                self.sums |= names if added else set()


def _kept(name: str, args: tuple, read: list[Tensor]) -> list[Tensor]:
    """What may still be recognised in a result: of a product what it adds, as W of
    W + A B in one call, else all.
    """
    if name not in FACTORS and not name.startswith(ATTENTION):
        return read
    return tensors(args[:1]) if 0 not in FACTORS.get(name, (0,)) else []


def remarked(model: nn.Module, blocks: dict[str, Block], example=None) -> dict:
    """Return the blocks of a model with what a second forward pass adds to them.

    blocks: {name: Block}, the result of `roles.roles(model, example)`.
    example: an input of the model, as for `roles.roles`.

    A bias or a gain that is a matrix in a sum becomes "unknown"; a matrix in a sum that
    kept its role, and one whose heads are mixed, get a note. If the model cannot be
    called, the blocks are returned unchanged.
    """
    model = unwrapped(model)
    silent = {n for n, b in blocks.items() if len(b.shape) > 1 and not b.note}
    if not silent:
        return blocks
    seen, looked = _watched(model, example)
    if seen is None:
        return blocks
    found = dict(blocks)
    for name in silent:
        block = blocks[name]
        if block.role in ("bias", "gain") and name in looked.names:
            found[name] = Block(name, block.shape, "unknown", note=IN_A_SUM)
        elif block.role in GROUPS and name in looked.sums:
            found[name] = replace(block, note=IN_A_SUM)
        elif block.role == "matrix":
            found[name] = replace(block, note=_mixed(name, seen))
    return found


def _mixed(name: str, seen: Seen) -> str:
    products = [p for p in seen.products if p.name == name]
    used = {use.role for use in fused.uses(products, seen)}
    if not used & set(fused.HEADS):
        return ""
    said = [r for r in fused.HEADS if r in used] + sorted(used - set(fused.HEADS))
    listed = ", ".join(said[:-1])
    return MIXED.format(roles=f"{listed} and {said[-1]}" if listed else said[0])


def _watched(model: nn.Module, example) -> tuple[Seen | None, Sums | None]:
    """What `connections.follow` and `Sums` saw of one forward pass."""
    where = next((p.device for p in model.parameters()), torch.device("cpu"))
    parameters = dict(model.named_parameters())
    for guess in candidates(model) if example is None else [lambda: example]:
        try:
            args, kwargs = arguments(guess(), where)
            given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            looked = Sums(parameters, given)

            def call(args=args, kwargs=kwargs, looked=looked):
                with looked:
                    return model(*args, **kwargs)

            return follow(model, call, {}), looked
        except Exception:
            continue  # `roles` has warned of it, or raised
    return None, None


def roles(model: nn.Module, example=None) -> dict[str, Block]:
    """Return the role and axes of each parameter of a model, {name: Block}.

    example: one input, as a tensor, a tuple of positional or a dict of keyword
        arguments; by default one is guessed from the model. If no guess fits, roles
        follow from module types alone, and a warning says so.

    A matrix that is added to a constant or another weight before it multiplies is
    "unknown" with that note; SymOpt steps it, as all unknown ones, by AdamW without
    weight decay, in the param_group of its biases. Raises ValueError if the model fails
    on a given example, or is sharded.
    """
    return remarked(model, of_a_pass(model, example), example)
