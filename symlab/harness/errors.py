"""What goes wrong in a way the user can cure: one sentence, no traceback."""


class UserError(Exception):
    """A problem whose message says what to do. The command line prints it and exits."""


def nearest(name: str, known, what: str) -> str:
    """'unknown figure "fgi3": did you mean fig3? Known: ...'."""
    from difflib import get_close_matches

    known = sorted(set(known))
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" did you mean {' or '.join(close)}?" if close else ""
    return f"unknown {what} {name!r}:{hint} known: {', '.join(known) or 'none'}"
