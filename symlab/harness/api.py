"""Tables of a module's public names, made from its docstrings, for the
documentation.
"""

import importlib
import inspect

from symlab.harness.errors import UserError


def table(name: str) -> str:
    """Return a Markdown table of a module's public names, with arguments and first
    sentences.

    name: the module's dotted name; its public names are those of `__all__`, in its
        order. A module without `__all__` offers the functions and classes without a
        leading underscore that it defines.

    Raises UserError if the module has no public name, or if one has no docstring.
    """
    module = importlib.import_module(name)
    defined = [
        n
        for n, value in vars(module).items()
        if n[0] != "_" and getattr(value, "__module__", "") == name
    ]
    names = getattr(module, "__all__", defined)
    if not names:
        raise UserError(f"{name} has no public names: list them in its __all__")
    rows = [row(name, public, getattr(module, public)) for public in names]
    head = "| name | what it is |\n| --- | --- |\n"
    return head + "".join(f"| {a} | {b} |\n" for a, b in rows)


def row(module: str, name: str, value) -> tuple[str, str]:
    """Return the name with its arguments, and the first sentence of its docstring.

    module: the dotted name of the module. value: the object of that name.

    Constants are shown by their type. Raises UserError if a function or a class has no
    docstring.
    """
    if not (callable(value) or inspect.ismodule(value)):
        return f"`{name}`", f"a constant: {type(value).__name__}"
    docs = inspect.getdoc(value)
    if not docs:
        raise UserError(f"{module}.{name} has no docstring: write its first sentence")
    first = " ".join(docs.split("\n\n")[0].split())
    return f"`{name}{_arguments(value)}`", first.replace("|", "&#124;")


def _plain_error(value) -> bool:
    """Whether it is an exception that takes what every exception takes."""
    error = isinstance(value, type) and issubclass(value, BaseException)
    return error and not inspect.isfunction(value.__init__)


def _arguments(value) -> str:
    """Names of arguments; defaults only where every version of Python prints them
    alike.
    """
    if inspect.ismodule(value) or _plain_error(value):
        return ""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return "(...)"
    shown, starred = [], False
    for p in parameters:
        stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        if p.kind is p.KEYWORD_ONLY and not starred:
            shown.append("*")
        starred = starred or p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        plain = isinstance(p.default, (bool, int, float, str, type(None)))
        default = f"={p.default!r}" if plain else "=..."
        shown.append(f"{stars}{p.name}{'' if p.default is p.empty else default}")
    return f"({', '.join(shown)})"
