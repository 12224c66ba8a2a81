"""Many steps of many small runs as one compiled program, for long sweeps.

Runs that are computed side by side are called lanes. A step on small arrays spends most
of its time on starting operations and on moving arrays through memory between them.
torch.compile turns ten steps into one C++ loop over lanes, in which the numbers of a
lane stay in the processor's cache. Compiling takes seconds, so short sweeps are not
compiled (`pays`), and nothing is compiled without a C++ compiler. Compiled or not, the
rows are the same up to float32's rounding.

For torch.compile to make a single loop, a step is written in this way:

- a dot product is a sum, `(w * x).sum(-1, keepdim=True)`, since `bmm` would be a call
  of its own;
- each part of the state is an array (L, D) of its own, for L lanes;
- an array that is used twice is computed from few others: x * u is then computed twice,
  but x * s, where s is a function of the residual, would be written to memory, so a
  step has s * (x * u);
- outputs are the sums (L, 1) themselves, since an operation on (L, 1) alone would be a
  loop of its own. What follows from them is computed afterwards, for all steps at once.
"""

import types
import warnings
from collections.abc import Callable
from functools import cache, partial
from itertools import count

BLOCK = 10  # steps in one program: 20 are hardly faster and compile twice as long
PER_STEP = 20e-6  # CPU-seconds that a compiled step saves however few lanes there are,
PER_NUMBER = 0.5e-9  # and for each number of the state
COMPILATION = 12.0  # CPU-seconds of one program with the C++ compiler; 9 to 16 measured
_numbers = count()
_failed: list[str] = []  # why this process does not compile: at most one sentence


def pays(n_numbers: int, n_steps: int) -> bool:
    """Return whether compiling a step saves more time than the compilation takes.

    n_numbers: how many numbers the state of all lanes has, 2 L D for two arrays (L, D)
        of L lanes.
    n_steps: how many steps are taken on arrays of this shape.

    The answer depends on nothing else, so the same sweep is always computed in the same
    way on machines with a compiler.
    """
    return n_steps * (PER_STEP + PER_NUMBER * n_numbers) > COMPILATION


class Steps:
    """Takes steps of L runs side by side, in compiled blocks or operation by operation.

    step: a pure function, defined at the top of a module, from (state, inputs,
        constants), three tuples of tensors, to the next state and one output (L, 1).
    compiled: whether to compile. If the compiler fails, the steps are computed without
        it, after a warning.
    """

    def __init__(self, step: Callable, compiled: bool):
        self.step, self.compiled = step, compiled

    def __call__(self, state: tuple, inputs: tuple, constants: tuple):
        """Return the state after T steps and the outputs, a list of T tensors (L, 1).

        inputs: tensors (T, ...), of which step t is given the t-th entries. constants:
        tensors that all steps are given.
        """
        outputs, begin, n = [], 0, len(inputs[0])
        while self.compiled and not _failed and begin + BLOCK <= n:
            block = tuple(x[begin : begin + BLOCK] for x in inputs)
            found = _attempt(self.step, state, block, constants)
            if found is None:
                break
            state, begin = found[0], begin + BLOCK
            outputs += found[1]
        for now in zip(*(x[begin:].unbind() for x in inputs), strict=True):
            state, output = self.step(state, now, constants)
            outputs.append(output)
        return state, outputs


def _attempt(step, state, block, constants):
    """What the compiled program returns; None, and one warning, where it fails."""
    try:
        shapes = (_shapes(state), _shapes(block), _shapes(constants))
        return _program(step, shapes)(state, block, constants)
    except Exception as error:  # of the compiler, and of folders that it cannot write
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[0].strip() if lines else type(error).__name__
        _failed.append(reason)
        warnings.warn(
            "steps are computed without torch.compile, which is slower and gives the "
            f"same rows: {reason}",
            RuntimeWarning,
            stacklevel=3,
        )
        return None


def _shapes(tensors: tuple) -> tuple:
    return tuple((tuple(t.shape), t.stride(), t.dtype) for t in tensors)


@cache
def _program(step: Callable, shapes: tuple) -> Callable:
    """BLOCK steps as one program, for tensors of these shapes.

    torch keeps eight programs of one code object, so each has one of its own.
    """
    import torch

    name = f"{step.__name__}_{next(_numbers)}"
    code = _block.__code__.replace(co_name=name)
    block = types.FunctionType(code, _block.__globals__, name)
    return torch.compile(partial(block, step), fullgraph=True, dynamic=False)


def _block(step, state, inputs, constants):
    outputs = []
    for t in range(BLOCK):
        state, output = step(state, tuple(x[t] for x in inputs), constants)
        outputs.append(output)
    return state, outputs
