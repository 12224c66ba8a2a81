"""The syntax of one definition: its canonical text, and the names it takes from
outside.

The text is the same on every Python version and in every layout. `ast.dump` and
`ast.unparse` differ between versions, so rows made with another version would look
stale.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITION = (*FUNCTION, ast.ClassDef)
COMPREHENSION = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
IGNORED = {"ctx", "kind", "type_comment", "type_ignores"}
BLIND = {  # decorators that do not look at annotations
    "cache", "cached_property", "classmethod", "contextmanager", "figure", "fixture",
    "lru_cache", "no_grad", "property", "setter", "staticmethod", "total_ordering",
    "wraps", "abstractmethod", "overload", "inference_mode", "jit", "njit",
    "compile", "vmap", "singledispatch",
}  # fmt: skip

Chain = tuple[str, ...]  # `np.random.x` is ("np", "random", "x")


# --- canonical text ------------------------------------------------------------------


def children(node: ast.AST) -> list[ast.AST]:
    """Return the syntax nodes directly below a node, without Python's Load and Store
    marks.

    They are found once and remembered, as code is read many times: see `forget`.
    """
    try:
        return node.below
    except AttributeError:
        found = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [n for n in value if isinstance(n, ast.AST)]
        elif isinstance(value, ast.AST) and name != "ctx":
            found.append(value)
    node.below = found  # at the end: an interrupt leaves no half of it
    return found


def forget(node: ast.AST) -> None:
    """Discard what `children` has remembered of a node whose parts were replaced."""
    vars(node).pop("below", None)


def walk(node: ast.AST) -> list[ast.AST]:
    """Return a syntax node and all nodes below it, level by level."""
    found = [node]
    for n in found:
        found += children(n)
    return found


def canonical(
    node, annotations: bool = False, docs: bool = False, read: bool = False
) -> str:
    """Return a text of a syntax tree that does not depend on Python's version or the
    layout.

    annotations, docs: whether the text includes every annotation, or docstring.
    read: whether Python or a decorator may read the node's annotations; if
        `annotations` is False, only annotations that may be read are included.
    """

    def inner(n, read=read):
        return canonical(n, annotations, docs, read)

    if isinstance(node, ast.JoinedStr):
        return f"JoinedStr({inner(_merged(node.values))})"
    if isinstance(node, ast.Constant):
        value = node.value
        long = isinstance(value, int) and value.bit_length() > 64
        write = json.dumps if isinstance(value, str) else hex if long else repr
        text = write(value)
        return f"{type(value).__name__}:{text}"
    if isinstance(node, list):
        kept = (n for n in node if docs or not is_text(n))
        return "[" + ",".join(inner(n) for n in kept) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    skip = IGNORED
    if not annotations and isinstance(node, (ast.arg, *FUNCTION, ast.AnnAssign)):
        if isinstance(node, FUNCTION):
            read = bool(_unknown_decorators(node))
        if not read:
            skip = IGNORED | {"annotation", "returns"}
    if isinstance(node, ast.ClassDef):
        read = _class_reads(node)
    if isinstance(node, FUNCTION):  # annotations of local variables are never evaluated
        parts = [
            f"{f}={inner(v, read and f in ('args', 'returns'))}"
            for f, v in ast.iter_fields(node)
            if f not in skip and v is not None and v != []
        ]
    else:
        parts = [
            f"{f}={inner(v, read)}"
            for f, v in ast.iter_fields(node)
            if f not in skip and v is not None and v != []
        ]
    return f"{type(node).__name__}({','.join(parts)})"


def _class_reads(node: ast.ClassDef) -> bool:
    """Whether something may read the annotations of a class: a decorator or a base."""
    return bool(node.decorator_list or node.bases or node.keywords)


def _unknown_decorators(node) -> list:
    """The decorators of a function that may read its annotations."""
    found = []
    for d in node.decorator_list:
        chain = chain_of(d.func if isinstance(d, ast.Call) else d)
        if chain is None or chain[-1] not in BLIND:
            found.append(d)
    return found


def is_text(node) -> bool:
    """Return whether a syntax node is a docstring, or another string used as a
    statement.
    """
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _merged(values: list) -> list:
    """Neighbouring constants of an f-string as one: parsers split them differently."""
    out: list = []
    for value in values:
        if isinstance(value, ast.Constant) and out and isinstance(out[-1], str):
            out[-1] += value.value
        else:
            out.append(value.value if isinstance(value, ast.Constant) else value)
    return [ast.Constant(v) if isinstance(v, str) else v for v in out if v != ""]


# --- names ---------------------------------------------------------------------------


def free_names(node: ast.AST, annotations: bool = False) -> set[Chain]:
    """Return the dotted names that a definition takes from outside, also inside
    functions.

    annotations: whether names in annotations count.
    """
    return _Names(annotations, deferred=True).of(node, False)


def names_now(node: ast.AST) -> set[Chain]:
    """Return the dotted names that are looked up when a statement itself is executed.

    Names that are looked up later, in a function that it defines, are not included.
    """
    return _Names(False, deferred=False).of(node, False)


class _Names:
    """Free names of a tree; without `deferred` the bodies of functions are left out."""

    def __init__(self, annotations: bool, deferred: bool):
        self.annotations, self.deferred = annotations, deferred

    def of(self, node, read: bool) -> set[Chain]:
        """Names of a node; read: whether annotations around it may be read."""
        if isinstance(node, (*FUNCTION, ast.Lambda)):
            return self._function(node)
        if isinstance(node, COMPREHENSION):
            bound = {
                n.id
                for g in node.generators
                for n in walk(g.target)
                if isinstance(n, ast.Name)
            }
            inside = {c for c in self._children(node, read) if c[0] not in bound}
            return inside | self.of(node.generators[0].iter, read)  # evaluated outside
        if isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
            inside = self._texts(node) if isinstance(node, ast.Call) else set()
            if not (chain := chain_of(node)):
                return inside | self._children(node, read)
            if chain[0] != "globals:*" and isinstance(node, ast.Call):
                for other in node.args[2:]:  # the default of getattr
                    inside |= self.of(other, read)
            return inside | {chain}
        if isinstance(node, ast.Name):
            return {(node.id,)} if isinstance(node.ctx, ast.Load) else set()
        if isinstance(node, ast.ClassDef):
            free = self._children(node, _class_reads(node))
            return free | {tuple(_private(x, node.name) for x in c) for c in free}
        if isinstance(node, ast.Global):  # a function around it may have a local K
            return {(f"globals:{name}",) for name in node.names}
        if isinstance(node, ast.Delete):
            return {(n.id,) for n in walk(node) if isinstance(n, ast.Name)}
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            return {(node.target.id,)} | self.of(node.value, read)
        if isinstance(node, ast.AnnAssign) and not (read or self.annotations):
            value = set() if node.value is None else self.of(node.value, read)
            return self.of(node.target, read) | value
        return self._children(node, read)

    def _texts(self, call: ast.Call) -> set[Chain]:
        """The names in a text that is evaluated, as in eval("f()") and query("@K")."""
        text = _literal(call.args[0]) if call.args else None
        called = getattr(call.func, "id", getattr(call.func, "attr", ""))
        if text is None or called not in ("eval", "exec", "query"):
            return set()
        if not isinstance(call.func, ast.Name):  # a method, as of pandas
            return {(name,) for name in re.findall(r"@([^\W\d]\w*)", text)}
        try:
            return self.of(ast.parse(text.strip()), False)
        except SyntaxError:
            return set()

    def _annotation(self, node) -> set[Chain]:
        """The names of an annotation, also of one that is a text."""
        if (text := _literal(node)) is None:
            return self.of(node, False)
        try:
            return self.of(ast.parse(text.strip()), False)
        except SyntaxError:
            return set()

    def _children(self, node, read: bool) -> set[Chain]:
        return set().union(*(self.of(c, read) for c in children(node)))

    def _function(self, node) -> set[Chain]:
        a = node.args
        outside = [*a.defaults, *filter(None, a.kw_defaults)]
        outside += getattr(node, "decorator_list", [])
        free = set().union(*(self.of(n, False) for n in outside))
        if not isinstance(node, ast.Lambda) and (
            self.annotations or _unknown_decorators(node)
        ):
            read = [x.annotation for x in arguments(node)] + [node.returns]
            free |= set().union(*(self._annotation(n) for n in read if n))
        if not self.deferred:
            return free
        body = node.body if isinstance(node.body, list) else [node.body]
        inside = set().union(*(self.of(n, False) for n in body))
        bound, declared = bound_in(node)
        inside |= {(name,) for name in declared}
        return free | {c for c in inside if c[0] not in bound}


def _private(name: str, around: str) -> str:
    """The name that a class makes of a private one: __K in class C is _C__K."""
    if not name.startswith("__") or name.endswith("__"):
        return name
    return f"_{around.lstrip('_')}{name}"


def on_class(function) -> bool:
    """Return whether the first argument of a method is the class, as in a
    classmethod.
    """
    if function.name in ("__class_getitem__", "__new__"):
        return True
    return ("classmethod",) in map(chain_of, function.decorator_list)


def arguments(node) -> list[ast.arg]:
    """Return every argument in a function's definition, including *args and
    **kwargs.
    """
    a = node.args
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
    return [x for x in every if x]


def bound_in(node) -> tuple[set[str], set[str]]:
    """Return the local names of a function, and the names it declares global or
    nonlocal.

    Names that imports inside the function bind are left out, because they are followed
    separately.
    """
    bound = {a.arg for a in arguments(node)}
    declared: set[str] = set()
    body = node.body if isinstance(node.body, list) else [node.body]
    for n in own(body):
        bound.update(_binds(n))
        if isinstance(n, (ast.Global, ast.Nonlocal)):
            declared.update(n.names)
    return bound - declared, declared


def own(nodes: Iterable) -> Iterator[ast.AST]:
    """Yield all syntax nodes of a scope, without the bodies of functions and classes in
    it.
    """
    queue = list(nodes)
    while queue:
        n = queue.pop()
        yield n
        if not isinstance(n, (*DEFINITION, ast.Lambda, *COMPREHENSION)):
            queue.extend(children(n))
        elif isinstance(n, COMPREHENSION):  # a walrus binds in the scope around it
            queue.extend(x for x in walk(n) if isinstance(x, ast.NamedExpr))


def _binds(n: ast.AST) -> list[str]:
    """The names that one node binds in its scope, imports left out."""
    if isinstance(n, DEFINITION):
        return [n.name]
    if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load):
        return [n.id]
    if isinstance(n, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and n.name:
        return [n.name]
    if isinstance(n, ast.MatchMapping) and n.rest:
        return [n.rest]
    return []


def bound_by(statement: ast.stmt) -> list[str]:
    """Return the names that a top-level statement binds or deletes, except by an
    import.
    """
    return list(dict.fromkeys(b for n in own([statement]) for b in _binds(n)))


def chain_of(node) -> Chain | None:
    """Return the dotted name of an expression as a tuple, such as ("np", "random",
    "x").

    Names that are looked up by getattr, globals() or importlib are recognised, too:
    ("import:m", "f") is f of module m; ("globals:f",) is the global f; ("globals:",) is
    the module itself, and ("globals:*",) any of its globals. The result is None for
    other expressions.
    """
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        return _joined(chain_of(node.value), node.attr)
    if isinstance(node, ast.Subscript):
        name = _literal(node.slice)
        called = node.value.func if isinstance(node.value, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in ("globals", "vars", "locals"):
            if not node.value.args and name:
                return (f"globals:{name}",)
        elif chain_of(node.value) == ("sys", "modules"):
            if isinstance(node.slice, ast.Name) and node.slice.id == "__name__":
                return ("globals:",)
            return (f"import:{name}",) if name else None
        return None
    if not isinstance(node, ast.Call):
        return None
    called, first = chain_of(node.func) or ("",), node.args[:1]
    name = _literal(node.args[1]) if len(node.args) > 1 else None
    if called == ("getattr",) and name:
        return _joined(chain_of(first[0]), name)
    if called[-1] in ("import_module", "__import__") and first and _literal(first[0]):
        imported = _literal(first[0])
        packages = [*node.args[1:], *(k.value for k in node.keywords)]
        if imported[:1] == "." and any(map(_literal, packages)):
            return None  # Statement.modules has it with the package that is named
        return (f"import:{imported}",)
    if called in (("globals",), ("vars",), ("dir",)) and not node.args:
        return ("globals:*",)
    return None


def _joined(chain: Chain | None, name: str) -> Chain | None:
    if chain == ("globals:*",):
        return chain
    if chain == ("globals:",):
        return (f"globals:{name}",)
    return None if chain is None else (*chain, name)


def _literal(node) -> str | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [_literal(node.left), _literal(node.right)]
        return None if None in parts else "".join(parts)
    found = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node.value if found else None
