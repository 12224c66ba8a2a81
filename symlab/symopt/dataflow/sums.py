"""Find which parameters reach a product in a sum with a constant or another weight.

If a model multiplies by W + C, a symmetry acts on the sum: for a constant C, a rotation
of W is no symmetry, and weight decay pulls W to 0, that is the sum to C.
"""

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from symlab.tracing import tensors, words

FACTORS = {  # operator -> places of the arguments that it multiplies or looks up
    **dict.fromkeys(words("mm bmm mv grouped_mm linear convolution"), (0, 1)),
    **dict.fromkeys(words("addmm baddbmm addmv"), (1, 2)),
    **dict.fromkeys(words("embedding embedding_bag index index_select gather"), (0, 1)),
}
ATTENTION = "scaled_dot_product"  # how names of operators begin that take all three
SUMS = words("add sub rsub cat addmm baddbmm")


class Sums:
    """The parameters that one forward pass combines with constants or other weights.

    parameters: tensors by name. inputs: the tensors that the model is given.

    combined: names of the parameters that reach a product after an operation joined
        them with something that does not depend on the inputs. added: those among them
        that were added to it.
    """

    def __init__(self, parameters: dict[str, Tensor], inputs: list[Tensor]):
        self.combined: set[str] = set()
        self.added: set[str] = set()
        self._given = WeakIdKeyDictionary()  # values that depend on the inputs
        self._made = WeakIdKeyDictionary()  # of other values: (names, joined, added)
        for t in inputs:
            self._given[t] = True
        for name, p in parameters.items():
            self._made[p] = frozenset([name]), False, False

    def saw(self, name: str, args: tuple, kwargs: dict, out) -> None:
        """Take note of one operation: its name, its arguments and what it returned."""
        read, results = tensors((args, kwargs)), tensors(out)
        if any(t in self._given for t in read):
            for t in results:
                self._given[t] = True
                if t._base is not None and any(t is x for x in read):  # written to
                    self._given[t._base] = True
            self._used(name, args)
            return
        parts = [self._made[t] for t in _kept(name, args, read) if t in self._made]
        names = frozenset().union(*(p[0] for p in parts))
        several = len(read) > 1
        joined = several or any(p[1] for p in parts)
        added = (several and name in SUMS) or any(p[2] for p in parts)
        for t in results if names else ():
            self._made[t] = names, joined, added

    def _used(self, name: str, args: tuple) -> None:
        """A product or a lookup with values that depend on the inputs."""
        places = FACTORS.get(name, range(3) if name.startswith(ATTENTION) else ())
        for t in tensors([args[i] for i in places if i < len(args)]):
            if t in self._made:
                names, joined, added = self._made[t]
                self.combined |= names if joined else set()
                self.added |= names if added else set()


def _kept(name: str, args: tuple, read: list[Tensor]) -> list[Tensor]:
    """What may still be recognised in a result: of a product what it adds, as W of
    W + A B in one call, else all.
    """
    if name not in FACTORS and not name.startswith(ATTENTION):
        return read
    return tensors(args[:1]) if 0 not in FACTORS.get(name, (0,)) else []
