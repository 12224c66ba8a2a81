"""Where an exception was raised in a file of the user, in words.

A file is the user's when it is neither part of Python nor an installed package nor
symlab itself. Where there is none, as where an estimate that symlab made finds no rows,
the message alone says what is wrong.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from symlab.harness.errors import UserError, located, told
from symlab.harness.source import STANDARD, third_party


def file_of(error: BaseException) -> Path | None:
    """Return the innermost file of the user in which an error was raised, None where
    only others' code was running.
    """
    frames = traceback.extract_tb(error.__traceback__)
    files = [Path(f.filename) for f in frames if not f.filename.startswith("<")]
    return next(filter(_is_users, reversed(files)), None)


def _is_users(file: Path) -> bool:
    outside = (Path(__file__).resolve().parents[1], *STANDARD)
    return not third_party(file) and not any(map(file.is_relative_to, outside))


def said(error: BaseException) -> str:
    """Return an error as one line: "my_law.py line 45: KeyError: 'z'", or its type and
    message alone where it was raised in no file of the user.
    """
    if file := file_of(error):
        return located(error, file)
    return f"{type(error).__name__}: {error}".split("\n")[0].rstrip(": ")


@contextmanager
def telling(what: str, root: Path, but: tuple[type, ...] = ()) -> Iterator[None]:
    """A context that turns whatever the project's code raises inside into a UserError
    of one sentence, which names the user's line.

    what, root, but: as of `errors.told`; the innermost place below `root` is named
    where the error was raised in no file of the user.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, *but):
        raise
    except BaseException as error:
        with told(what, file_of(error) or root):
            raise
