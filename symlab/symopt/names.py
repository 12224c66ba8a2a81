"""The error for an unknown name, whose message gives the nearest known name."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(what: str, name: object, known: Iterable[str]) -> ValueError:
    """Return a ValueError whose message says that `name` is unknown, and which name is
    near.

    what: the kind of thing that is named, such as 'option of row_norm'.
    known: the known names, which the message lists.
    """
    known = list(known)
    there = f"known are {', '.join(known)}" if known else "there are none"
    return ValueError(f"unknown {what} {name!r}{meant(name, known)} ({there})")


def meant(name: object, known: Iterable[str]) -> str:
    """Return ": did you mean 'x'?" with the known name x nearest to `name`, or ''.

    The result is '' if no known name is near.
    """
    near = get_close_matches(str(name), list(known), n=1)
    return f": did you mean {near[0]!r}?" if near else ""
