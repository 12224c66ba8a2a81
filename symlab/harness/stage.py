"""A stage: a computation that several runs share, such as pretraining, made only once.

A stage is a function at the top of a module. It is given numbers, strings and booleans
as named arguments, and returns a dict of arrays. Its key is a hash of the source code
that it can reach, of the versions of the packages that this code imports, and of its
arguments; so a stage is computed again after every change that could alter it, and only
then. Everything that it depends on must be an argument: the seed, and the device if
there are several.

A file is written completely or not at all, so several processes may compute the same
stage at once: each writes the same arrays. The file begins with the SHA-256 of the
rest; if that differs, the file is damaged, and the stage is computed and written again.
"""

import io
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np

from symlab.harness import code, files
from symlab.harness.errors import UserError
from symlab.harness.sweep import TYPES

Arrays = dict[str, np.ndarray]


def shared(
    folder: Path, root: Path, function: Callable[..., Arrays], arguments: dict
) -> Arrays:
    """Return function(**arguments), a dict of arrays, from disk if it was computed
    before.

    folder: where results are kept.
    root: the folder of the project, in which the function's code is looked up.

    Raises TypeError for an argument that is not an int, float, str or bool, and for a
    result that is not an array. If the result cannot be written to disk, the next call
    computes it again.
    """
    path = folder / f"{function.__name__}-{key(root, function, arguments)}.stage"
    arrays = _read(path)
    if arrays is None:
        arrays = function(**arguments)
        _check(function, arrays)
        with suppress(UserError):
            files.remove_abandoned(folder, path.name)
            _write(arrays, path)
    return arrays


def key(root: Path, function: Callable, arguments: dict) -> str:
    """Return 16 hex digits that identify a call of a function.

    They are a hash of the code that the function reaches, of the versions of the
    packages that this code imports, and of the arguments. root: the folder of the
    project.
    """
    for name, value in arguments.items():
        if type(value) not in TYPES:
            raise TypeError(
                f"the stage {function.__name__} gets {name} = {value!r}: use an int, "
                "float, str or bool, so that the stage has a key"
            )
    reached = code.reach(root, function.__module__, [function.__name__])
    about = [reached.code, reached.made_with]
    about += [f"{name}={value!r}" for name, value in sorted(arguments.items())]
    return sha256("\n".join(about).encode()).hexdigest()[:16]


def _check(function: Callable, arrays: Arrays) -> None:
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            raise TypeError(
                f"the stage {function.__name__} returns {name!r} as a "
                f"{type(array).__name__}: return arrays of numbers, booleans or text"
            )


def _write(arrays: Arrays, path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    data = buffer.getvalue()
    files.write([sha256(data).digest(), data], path)


def _read(path: Path) -> Arrays | None:
    """Return the arrays of a file; None where there is none, or a damaged one."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if sha256(data[32:]).digest() != data[:32]:
        return None
    with np.load(io.BytesIO(data[32:]), allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}
