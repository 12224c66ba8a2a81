"""What tracing a model needs: its operations one at a time, each with its name.

`symlab.mirror` follows hidden units through one call of a model, `symlab.symopt`
follows the features that its matrix products read and write. They draw different
conclusions from an operation; how they observe operations, and how they store labels of
tensor entries, is the same and is here.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Mode(TorchDispatchMode):
    """A torch dispatch mode whose use does not load torch's compiler, which would take
    90 MB of memory and a second.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


@contextmanager
def one_by_one() -> Iterator[None]:
    """Return a context in which a model runs the operations that it is written with.

    Compiled functions and flex attention run uncompiled, and torch's attention layers
    do not take their fused path, in which one operation computes a whole layer.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    flex = sys.modules.get("torch.nn.attention.flex_attention")
    debug = getattr(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", None)
    stance = nullcontext()
    if "torch._dynamo" in sys.modules:  # else nothing has been compiled
        stance = torch.compiler.set_stance("force_eager")
    torch.backends.mha.set_fastpath_enabled(False)
    if debug is not None:
        flex._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = True
    try:
        with stance:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        if debug is not None:
            flex._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = debug


def operator_name(func) -> str:
    """Return a torch operator's name without namespace, overload and outer underscores.

    `aten::add_.Tensor` is `add`; `aten::__and__.Tensor` stays `__and__`.
    """
    name = func._schema.name.rpartition("::")[2]
    return name if name.startswith("__") else name.strip("_")


def tensors(tree) -> list[Tensor]:
    """Return the tensors among the arguments or results of a call, in order."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def words(text: str) -> frozenset[str]:
    """Return the set of the words in a text."""
    return frozenset(text.split())


# Labels: a tensor of integers with the shape of a value, one for each of its entries.


def compact(*labels: Tensor) -> list[Tensor]:
    """Return tensors of labels, cut to length 1 along dimensions in which all are
    constant.

    labels: integer tensors of one shape. A dimension is cut if each of them has stride
        0 (is broadcast) or length 1 along it.
    """
    for dim in range(labels[0].ndim):
        if all(x.stride(dim) == 0 or x.shape[dim] == 1 for x in labels):
            labels = [x.narrow(dim, 0, 1) for x in labels]
    return list(labels)


def seen_through(view: Tensor, base: Tensor, labels: Tensor) -> Tensor:
    """Return the labels of a view's entries, as a view of the labels of its base
    tensor.

    view, base: a tensor, and the contiguous tensor whose memory it shares.
    labels: integers in the shape of `base`, contiguous.
    """
    offset = view.storage_offset() - base.storage_offset()
    return labels.as_strided(view.shape, view.stride(), offset)
