"""Which objects a value shares with names, and which values can never change.

After `B = np.flip(A)`, `D = {"w": A}` or `D["w"] = A`, a change of B, or of an item of
D, may be a change of A. The result of a third-party function is assumed to share
everything that the function was given.
"""

import ast
from collections.abc import Iterable

from symlab.harness.source import Module
from symlab.harness.syntax import (
    COMPREHENSION,
    FUNCTION,
    Chain,
    arguments,
    chain_of,
    children,
    own,
    walk,
)

SCALARS = {  # functions whose result shares nothing with what they are given
    "abs", "all", "any", "bool", "bytes", "callable", "chr", "complex", "divmod",
    "float", "format", "hasattr", "hash", "id", "int", "isinstance", "issubclass",
    "len", "ord", "pow", "range", "repr", "round", "str",
}  # fmt: skip
IMMUTABLE = SCALARS | {  # and those that hold only what they are given
    "Path", "compile", "frozenset", "max", "min", "replace", "sum", "tuple",
}  # fmt: skip
ONCE = {  # what these return changes when it is looked through
    "BytesIO", "DictReader", "StringIO", "chain", "count", "cycle", "defaultdict",
    "enumerate", "filter", "finditer", "islice", "iter", "map", "open", "reader",
    "reversed", "tee", "zip",
}  # fmt: skip
CONTAINERS = {"dict", "list", "set", "defaultdict", "OrderedDict", "Counter", "deque"}
CALLED = "()"  # (f, "()") is what a call of f returns


def held(value) -> set[Chain]:
    """Return the dotted names whose objects an expression's value may be or contain."""
    if value is None or isinstance(value, (ast.Constant, ast.JoinedStr, ast.Compare)):
        return set()
    if isinstance(value, (ast.Name, ast.Attribute)) and (chain := chain_of(value)):
        return {chain}
    if isinstance(value, (ast.Attribute, ast.Subscript, ast.Starred)):
        return held(value.value)
    if isinstance(value, ast.Call):
        given = [*value.args, *(k.value for k in value.keywords)]
        called = chain_of(value.func)
        if called and called[-1] in SCALARS:
            return set()
        if called:
            receiver = {called[:-1]} if called[1:] else set()
            return receiver | {(*called, CALLED)} | _of_all(given)
        return held(value.func) | _of_all(given)
    if isinstance(value, COMPREHENSION):
        parts = [value.value] if isinstance(value, ast.DictComp) else [value.elt]
        found = _of_all(parts)
        targets = {n for g in value.generators for n in names(g.target)}
        if targets & {c[0] for c in found}:
            found |= _of_all(g.iter for g in value.generators)
        return {c for c in found if c[0] not in targets}
    if isinstance(value, ast.Lambda):
        own = {a.arg for a in arguments(value)}
        return {c for c in held(value.body) if c[0] not in own}
    if isinstance(value, ast.Dict):
        return _of_all(value.values)
    return _of_all(n for n in children(value) if isinstance(n, ast.expr))


def _of_all(values: Iterable) -> set[Chain]:
    return set().union(*map(held, values))


def names(target: ast.AST) -> set[str]:
    """Return the names that the target of an assignment or a loop binds."""
    return {n.id for n in walk(target) if isinstance(n, ast.Name)}


def root(node) -> str:
    """Return the name at the beginning of an expression, such as a in a.b[0]().

    node: an expression of attributes, items and calls; '' for any other.
    """
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call, ast.Starred)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def beginning(node) -> Chain:
    """Return the dotted name at the beginning of an expression of attributes and calls.

    It is ("h", "where") for h.where(x=1).mean("y"), and ("",) if the expression does
    not begin with a name.
    """
    names: list[str] = []
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call, ast.Starred)):
        names = [node.attr, *names] if isinstance(node, ast.Attribute) else []
        node = node.func if isinstance(node, ast.Call) else node.value
    return (node.id, *names) if isinstance(node, ast.Name) else ("",)


def holdings(module: Module) -> dict[str, set[Chain]]:
    """Return {global name: dotted names whose objects it may be or contain} of a
    module.

    All statements of the module are taken into account.
    """
    found: dict[str, set[Chain]] = {}

    def gives(targets: Iterable[str], value) -> None:
        for name in targets:
            found.setdefault(name, set()).update(held(value))

    for s in module.statements:
        for n in _executed(s.node) if s.alias is None else ():
            if isinstance(n, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr)):
                for t in n.targets if isinstance(n, ast.Assign) else [n.target]:
                    parts = t.elts if isinstance(t, (ast.Tuple, ast.List)) else [t]
                    gives({root(p) for p in parts} | names(t), n.value)
            elif isinstance(n, (ast.For, ast.AsyncFor)):
                gives(names(n.target), n.iter)
            elif isinstance(n, ast.withitem) and n.optional_vars:
                gives(names(n.optional_vars), n.context_expr)
            elif isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute):
                for value in [*n.args, *(k.value for k in n.keywords)]:
                    gives([root(n.func)], value)
    return found


def changed(module: Module) -> set[str]:
    """Return the global names of a module whose objects one of its statements may
    change.

    A statement may change an object if it sets one of its items or calls one of its
    methods.
    """
    nodes = [n for s in module.statements if not s.alias for n in _executed(s.node)]
    stores = [
        n
        for n in nodes
        if isinstance(n, (ast.Attribute, ast.Subscript))
        and not isinstance(n.ctx, ast.Load)
    ]
    calls = [n.func for n in nodes if isinstance(n, ast.Call)]
    methods = [f for f in calls if isinstance(f, ast.Attribute)]
    return {root(n) for n in [*stores, *methods]}


def _executed(statement) -> list[ast.AST]:
    """The nodes of a statement outside of functions."""
    found, queue = [], [statement]
    while queue:
        n = queue.pop()
        if not isinstance(n, (*FUNCTION, ast.Lambda)):
            found.append(n)
            queue.extend(children(n))
    return found


def container(value) -> bool:
    """Return whether an expression makes a new list, dict or set.

    Setting an item of such an object has no other effect.
    """
    if isinstance(value, ast.Call):
        return (chain_of(value.func) or ("",))[-1] in CONTAINERS
    return isinstance(value, (ast.List, ast.Dict, ast.Set, *COMPREHENSION))


def used_up(value) -> bool:
    """Return whether an expression makes an object that changes when it is read.

    Examples are an iterator, an open file, and a dict that grows when a key is looked
    up.
    """
    if isinstance(value, ast.Call):
        return (chain_of(value.func) or ("",))[-1] in ONCE
    return isinstance(value, ast.GeneratorExp)


def yields(function) -> bool:
    """Return whether a function is a generator, from its definition."""
    return any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in own(function.body))
