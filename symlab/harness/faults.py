"""Where in a user's file an exception was raised, in words.

A file is the user's if it is not part of Python, of an installed package or of symlab.
If no such file was involved, for instance because an estimate made by symlab found no
rows, only the message is given.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from symlab.harness.errors import UserError, located, told
from symlab.harness.source import STANDARD, third_party


def file_of(error: BaseException) -> Path | None:
    """Return the innermost of the user's files in which an error was raised, or None.

    The result is None if only code of Python, packages or symlab was running.
    """
    frames = traceback.extract_tb(error.__traceback__)
    files = [Path(f.filename) for f in frames if not f.filename.startswith("<")]
    return next(filter(_is_users, reversed(files)), None)


def _is_users(file: Path) -> bool:
    outside = (Path(__file__).resolve().parents[1], *STANDARD)
    return not third_party(file) and not any(map(file.is_relative_to, outside))


def said(error: BaseException) -> str:
    """Return an error as one line, such as "my_law.py line 45: KeyError: 'z'".

    It has only the type and the message if the error was raised in no file of the user.
    """
    if file := file_of(error):
        return located(error, file)
    return f"{type(error).__name__}: {error}".split("\n")[0].rstrip(": ")


@contextmanager
def telling(what: str, root: Path, but: tuple[type, ...] = ()) -> Iterator[None]:
    """A context that turns any error of the project's code into a one-sentence
    UserError.

    The sentence names the line of the user's file, or, if no file of the user was
    involved, the innermost place below `root`.

    what, root, but: as for `errors.told`.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, *but):
        raise
    except BaseException as error:
        with told(what, file_of(error) or root):
            raise
