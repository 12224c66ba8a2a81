"""torch.compile for functions of many shapes, one graph per shape.

torch keeps eight graphs per code object, and runs a ninth shape without a graph and
without a message. A model has more shapes than that, so each shape gets a code object
of its own. What cannot be compiled runs uncompiled, with a warning.
"""

import types
import warnings
from collections.abc import Callable
from functools import partial
from itertools import count

import torch
from torch import Tensor

BACKEND = "inductor"
_calls: dict[tuple, Callable] = {}
_numbers = count()


def compiled(function: Callable, what: str, settings: tuple, x: Tensor) -> Callable:
    """Return the function compiled by torch.compile for tensors like x, from a cache.

    It is compiled once for each shape, dtype and device of x, and for each value of
    `settings`. The cache is kept as long as the process runs.

    what: the function's name in the warning that is given if it cannot be compiled and
        runs uncompiled.
    settings: values that require a compiled function of their own.
    """
    name = getattr(function, "__name__", what)
    key = (name, what, settings, tuple(x.shape), x.dtype, x.device)
    if key not in _calls:
        _calls[key] = _Compiled(function, what)
    return _calls[key]


class _Compiled:
    """Compiles at the first call; where that fails, warns and calls the function."""

    def __init__(self, function: Callable, what: str):
        self.what, self.eager = what, function
        self.call = torch.compile(
            _own_code(function), fullgraph=True, dynamic=False, backend=BACKEND
        )

    def __call__(self, *args, **kwargs):
        from torch._dynamo.exc import TorchDynamoException  # takes a second to import

        if self.call is self.eager:
            return self.eager(*args, **kwargs)
        try:
            return self.call(*args, **kwargs)
        except TorchDynamoException as error:
            first = (str(error).splitlines() or [""])[0]
            warnings.warn(
                f"{self.what} runs without torch.compile: {first}", stacklevel=2
            )
            self.call = self.eager
            return self.eager(*args, **kwargs)


def _own_code(function: Callable) -> Callable:
    """A function that does the same, with a code object that no other has."""
    if isinstance(function, partial):
        inner = function

        def function(*args, **kwargs):
            return inner(*args, **kwargs)

    code = function.__code__.replace(co_name=f"{function.__name__}_{next(_numbers)}")
    own = types.FunctionType(
        code,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    own.__kwdefaults__ = function.__kwdefaults__
    return own
