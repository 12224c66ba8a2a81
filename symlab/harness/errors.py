"""What goes wrong in a way the user can cure: one sentence, no traceback.

With SYMLAB_TRACEBACK=1 the command line prints the traceback, too.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """An error that the user can cure, whose message says how; the command line prints
    it and exits.
    """


@contextmanager
def told(what: str, root: Path, but: tuple[type, ...] = ()) -> Iterator[None]:
    """A context that turns whatever the project's code raises inside into a UserError
    with one sentence.

    That includes sys.exit, which would end the command without a word; only Ctrl-C and
    a UserError pass. what: the beginning of the sentence, as "fig3 cannot be drawn".
    root: the project's folder. but: other exceptions that pass, because the caller
    knows more about them.
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
    """Return where an error was raised in the project, with its type and message.

    It reads "line.py line 31: KeyError: 'z'"; the innermost place below `root` counts.
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if Path(f.filename).is_relative_to(root)]
    ours = [f for f in ours if "site-packages" not in f.filename] or list(frames)
    what = f"{type(error).__name__}: {error}".split("\n")[0].rstrip(": ")
    return f"{Path(ours[-1].filename).name} line {ours[-1].lineno}: {what}"


def nearest(name: str, known, what: str) -> str:
    """Return a message for an unknown name, with the known names most like it.

    It reads "unknown figure 'fgi3': did you mean fig3? known: ...". what: the kind of
    thing ('figure').
    """
    from difflib import get_close_matches

    known = sorted(set(known))
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" did you mean {' or '.join(close)}?" if close else ""
    return f"unknown {what} {name!r}:{hint} known: {', '.join(known) or 'none'}"
