"""Errors that the user can fix: one sentence, without a traceback.

With SYMLAB_TRACEBACK=1 the command line prints the traceback, too.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """An error that the user can fix; its message says how.

    The command line prints the message and exits.
    """


@contextmanager
def told(what: str, root: Path, but: tuple[type, ...] = ()) -> Iterator[None]:
    """A context that turns any error of the project's code into a one-sentence
    UserError.

    what: the beginning of the sentence, such as "fig3 cannot be drawn".
    root: the project's folder.
    but: other exceptions that are not changed, because the caller handles them.

    It also turns sys.exit into a UserError, which would otherwise end the command
    without a message; Ctrl-C and a UserError are not changed.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, *but):
        raise
    except BaseException as error:
        raise UserError(
            f"{what}: {located(error, root)} (SYMLAB_TRACEBACK=1 shows the whole "
            "traceback)"
        ) from error


def located(error: BaseException, root: Path) -> str:
    """Return where in the project an error was raised, with its type and message.

    root: the project's folder. The text reads "line.py line 31: KeyError: 'z'" and
        names the innermost place below `root`.
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if Path(f.filename).is_relative_to(root)]
    ours = [f for f in ours if "site-packages" not in f.filename] or list(frames)
    what = f"{type(error).__name__}: {error}".split("\n")[0].rstrip(": ")
    return f"{Path(ours[-1].filename).name} line {ours[-1].lineno}: {what}"


def nearest(name: str, known, what: str) -> str:
    """Return a message for an unknown name, with the known names that are most similar.

    name: the unknown name. known: the known names.
    what: the kind of thing, such as 'figure'.

    It reads "unknown figure 'fgi3': did you mean fig3? known: ...".
    """
    from difflib import get_close_matches

    known = sorted(set(known))
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" did you mean {' or '.join(close)}?" if close else ""
    return f"unknown {what} {name!r}:{hint} known: {', '.join(known) or 'none'}"
