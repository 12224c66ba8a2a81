"""One error for a name that is not known, which says the nearest that is."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(what: str, name: object, known: Iterable[str]) -> ValueError:
    """Return a ValueError that says that `name` is none of the known ones, and which
    known one is nearest.

    what: the kind of thing, with its owner where that helps ('option of row_norm').
    """
    known = list(known)
    there = f"known are {', '.join(known)}" if known else "there are none"
    return ValueError(f"unknown {what} {name!r}{meant(name, known)} ({there})")


def meant(name: object, known: Iterable[str]) -> str:
    """Return ": did you mean 'x'?", with the known name x nearest to `name`, or '' if
    none is near.
    """
    near = get_close_matches(str(name), list(known), n=1)
    return f": did you mean {near[0]!r}?" if near else ""
