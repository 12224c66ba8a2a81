"""Which code made this: a hash of the definitions that `run` can reach.

From `run` we follow names through functions, classes, constants and imports into every
first-party module (the project's own files and symlab). Comments, docstrings, layout
and annotations of arguments do not count; `draw`, `sweep` and `CLAIMS` are not reached.
The result is a manifest {definition: digest}, so that a plan can name what changed.

Post-mortem of simpler ideas: file times re-run everything in a fresh clone; file hashes
re-run everything when a label moves; `ast.dump` and `ast.unparse` differ between Python
versions, so rows made elsewhere would look stale. Hence the serialiser below.

A module that is used also counts with its top-level statements that have effects, and
so do the modules it imports. Names reached only by getattr(module, string) or importlib
are not followed.
"""

import ast
import json
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITION = (*FUNCTION, ast.ClassDef)
COMPREHENSION = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
IGNORED = {"ctx", "kind", "type_comment", "type_ignores"}


# --- one definition ------------------------------------------------------------------


def canonical(node) -> str:
    """A text of the syntax tree that no Python version and no layout changes."""
    if isinstance(node, ast.JoinedStr):
        return f"JoinedStr({canonical(_merged(node.values))})"
    if isinstance(node, ast.Constant):
        value = node.value
        text = json.dumps(value) if isinstance(value, str) else repr(value)
        return f"{type(value).__name__}:{text}"
    if isinstance(node, list):
        return "[" + ",".join(canonical(n) for n in node if not _is_text(n)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    skip = set(IGNORED)
    skip |= {"annotation"} if isinstance(node, ast.arg) else set()
    skip |= {"returns"} if isinstance(node, FUNCTION) else set()
    parts = [
        f"{f}={canonical(v)}"
        for f, v in ast.iter_fields(node)
        if f not in skip and v is not None and v != []
    ]
    return f"{type(node).__name__}({','.join(parts)})"


def _is_text(node) -> bool:
    """A docstring, or any other string that stands alone as a statement."""
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
    merged = [ast.Constant(v) if isinstance(v, str) else v for v in out if v != ""]
    return merged


def free_names(node: ast.AST) -> set[tuple[str, ...]]:
    """Dotted names that a definition takes from outside: `np.random.x` is one tuple."""
    if isinstance(node, (*FUNCTION, ast.Lambda)):
        return _free_of_function(node)
    if isinstance(node, COMPREHENSION):
        bound = {
            n.id
            for g in node.generators
            for n in ast.walk(g.target)
            if isinstance(n, ast.Name)
        }
        inside = {c for c in _free_of_children(node) if c[0] not in bound}
        return inside | free_names(node.generators[0].iter)  # evaluated outside
    if isinstance(node, ast.Attribute) and (chain := _chain(node)):
        return {chain}
    if isinstance(node, ast.Name):
        return {(node.id,)}
    return _free_of_children(node)


def _free_of_children(node: ast.AST) -> set[tuple[str, ...]]:
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.arg):
        children = []
    return set().union(*(free_names(c) for c in children))


def _free_of_function(node) -> set[tuple[str, ...]]:
    body = node.body if isinstance(node.body, list) else [node.body]
    outside = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
    outside += getattr(node, "decorator_list", [])
    inside = set().union(*(free_names(n) for n in body))
    bound = _bound(node, body)
    free = {c for c in inside if c[0] not in bound}
    return free | set().union(*(free_names(n) for n in outside))


def _bound(node, body: list) -> set[str]:
    """Local names of one function; its imports stay free, as they are followed."""
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    bound = {a.arg for a in (*every, arguments.vararg, arguments.kwarg) if a}
    declared: set[str] = set()
    queue = list(body)
    while queue:
        n = queue.pop()
        if isinstance(n, DEFINITION):
            bound.add(n.name)
        elif isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load):
            bound.add(n.id)
        elif isinstance(n, (ast.Global, ast.Nonlocal)):
            declared.update(n.names)
        elif isinstance(n, ast.ExceptHandler) and n.name:
            bound.add(n.name)
        if not isinstance(n, (*DEFINITION, ast.Lambda, *COMPREHENSION)):
            queue.extend(ast.iter_child_nodes(n))
    return bound - declared


def _chain(node: ast.Attribute) -> tuple[str, ...] | None:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else None


# --- one module ----------------------------------------------------------------------

Target = tuple[str, str | None]  # what an import binds: module, attribute or None


class Module:
    """Top-level bindings of a file: name -> statements, name -> import targets."""

    def __init__(self, name: str, path: Path | None, source: bytes = b""):
        self.name, self.path = name, path  # no path: a folder without __init__.py
        self.digest = sha256(source).hexdigest()[:16]
        self.defined: dict[str, list[ast.AST]] = {}
        self.imported: dict[str, list[Target]] = {}
        self.stars: list[str] = []
        self.loose: list[ast.stmt] = []  # statements with effects: count when touched
        for statement in ast.parse(source, str(path)).body:
            self._read(statement)

    def _read(self, statement: ast.stmt) -> None:
        guarded = _guarded(statement)
        if guarded is not None:
            for other in guarded:
                self._read(other)
            return
        self._import(self.targets(ast.walk(statement), local=False))
        for node in ast.walk(statement):
            if isinstance(node, ast.NamedExpr):
                self._define(node.target.id, statement)
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
                self.stars.append(self._absolute(statement))
        elif isinstance(statement, DEFINITION):
            self._define(statement.name, statement)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and _simple(statement):
            for name in _assigned(statement):
                self._define(name, statement)
        elif not _is_text(statement):
            self.loose.append(statement)
            for node in ast.walk(statement):
                if isinstance(node, DEFINITION):
                    self._define(node.name, node)

    def _define(self, name: str, node) -> None:
        self.defined.setdefault(name, []).append(node)

    def _import(self, targets: dict[str, list[Target]]) -> None:
        for name, found in targets.items():
            self.imported.setdefault(name, []).extend(found)

    def targets(self, nodes: Iterable, local: bool = True) -> dict[str, list[Target]]:
        """Every target of each imported name; `local`: also those inside functions."""
        nodes = list(nodes)
        inner = {id(n) for f in nodes if isinstance(f, DEFINITION) for n in ast.walk(f)}
        out: dict[str, list[Target]] = {}
        for node in nodes:
            if not local and id(node) in inner:
                continue
            for alias in getattr(node, "names", ()):
                if isinstance(node, ast.ImportFrom):
                    target = (self._absolute(node), alias.name)
                elif isinstance(node, ast.Import):
                    whole = alias.name if alias.asname else alias.name.split(".")[0]
                    target = (whole, None)
                else:
                    continue
                name = alias.asname or alias.name.split(".")[0]
                out.setdefault(name, []).append(target)
        return out

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.path is None or self.path.name == "__init__.py"
        parts = self.name.split(".")
        base = parts[: len(parts) - node.level + package]
        return ".".join([*base, *([node.module] if node.module else [])])


_module = lru_cache(maxsize=4096)(Module)  # one parse per text of a file


def _simple(statement) -> bool:
    targets = getattr(statement, "targets", None) or [statement.target]
    return all(
        isinstance(t, (ast.Name, ast.Tuple, ast.List, ast.Starred)) for t in targets
    )


def _assigned(statement) -> list[str]:
    targets = getattr(statement, "targets", None) or [statement.target]
    return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]


def _guarded(statement) -> list[ast.stmt] | None:
    """What an import runs of `if TYPE_CHECKING` and `if __name__ == "__main__"`: else.

    None for every other statement.
    """
    if not isinstance(statement, ast.If):
        return None
    test = ast.unparse(statement.test).replace('"', "'")
    if test in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'"):
        return statement.orelse
    return None


# --- everything that is reached ------------------------------------------------------


class _Reach:
    def __init__(self, root: Path):
        self.root = root
        self.home = Path(__file__).resolve().parents[2]  # the folder that holds symlab
        self.modules: dict[str, Module | None] = {}
        self.texts: dict[str, list[str]] = {}
        self.seen: set = set()

    def module(self, name: str) -> Module | None:
        """A first-party module by its dotted name; None for everybody else's."""
        if name not in self.modules:
            self.modules[name] = self._find(name)
        return self.modules[name]

    def _find(self, name: str) -> Module | None:
        relative = Path(*name.split("."))
        homes = [self.root] + ([self.home] if relative.parts[:1] == ("symlab",) else [])
        for home in homes:
            folder = home / relative
            for path in (folder / "__init__.py", folder.with_suffix(".py")):
                if name and path.is_file():
                    return _module(name, path, path.read_bytes())
            if name and folder.is_dir() and any(folder.rglob("*.py")):
                return _module(name, None)
        return None

    def visit(self, module: Module, name: str) -> None:
        """Count the definition of a module's top-level name and all that it uses."""
        if (module.name, name) in self.seen:
            return
        self.seen.add((module.name, name))
        self.touch(module)
        for node in module.defined.get(name, ()):
            self.count(module, name, node)
        for target in module.imported.get(name, ()):
            self._follow(*target, ())
        if name not in module.defined and name not in module.imported:
            for node in module.defined.get("__getattr__", ()):
                self.count(module, "__getattr__", node)
            for star in module.stars:
                if source := self.module(star):
                    self.visit(source, name)

    def touch(self, module: Module) -> None:
        """What importing a module does: effects, registries, imports."""
        if (module.name, None) in self.seen:
            return
        self.seen.add((module.name, None))
        for statement in module.loose:
            self.count(module, "top level", statement)
        for name, nodes in module.defined.items():
            if any(self._registers(module, n) for n in nodes):
                self.visit(module, name)
        parents = [module.name.rpartition(".")[0], *module.stars]
        targets = [t for found in module.imported.values() for t in found]
        parents += [m for m, _ in targets] + [f"{m}.{a}" for m, a in targets if a]
        for name in parents:
            if imported := self.module(name):
                self.touch(imported)

    def _registers(self, module: Module, node) -> bool:
        """It may be looked up at run time: decorated or collected by our own code."""
        for decorator in getattr(node, "decorator_list", ()):
            for chain in free_names(decorator):
                targets = module.imported.get(chain[0], [])
                if any(m.startswith("symlab.harness") for m, _ in targets):
                    continue  # @figure: drawing is not running
                ours = any(self.module(m) for m, _ in targets)
                if ours or chain[0] in module.defined:
                    return True
        return any(self._collects(module, b) for b in getattr(node, "bases", ()))

    def _collects(self, module: Module, base: ast.expr) -> bool:
        """Whether a base class of ours has __init_subclass__."""
        for chain in free_names(base):
            places = [(module, chain[-1])]
            for name, attribute in module.imported.get(chain[0], ()):
                places.append((self.module(name), attribute or chain[-1]))
            for place, name in places:
                for node in place.defined.get(name, ()) if place else ():
                    if "__init_subclass__" in (
                        getattr(n, "name", "") for n in getattr(node, "body", ())
                    ):
                        return True
        return False

    def count(self, module: Module, name: str, node: ast.AST) -> None:
        """Put a node on record under a name, and follow what it uses."""
        self.texts.setdefault(f"{module.name}:{name}", []).append(canonical(node))
        local = module.targets(ast.walk(node))
        for chain in sorted(free_names(node)):
            head, *rest = chain
            for target in (*local.get(head, ()), *module.imported.get(head, ())):
                self._follow(*target, tuple(rest))
            if head in module.defined or (module.stars and head not in local):
                self.visit(module, head)

    def _follow(self, name: str, attribute: str | None, rest: tuple) -> None:
        """Into what was imported and the attributes taken of it, while it is ours."""
        chain = ([attribute] if attribute and attribute != "*" else []) + list(rest)
        module = self.module(name)
        while module is not None:
            self.touch(module)
            bound = chain and (
                chain[0] in module.defined or chain[0] in module.imported
            )
            inner = self.module(f"{module.name}.{chain[0]}") if chain else None
            if inner is None or bound:
                break
            module, chain = inner, chain[1:]
        if module is not None and chain:
            self.visit(module, chain[0])
        elif (
            module is not None
        ):  # the module itself is handed on: all of it may be used
            for bound in (*module.defined, *module.imported):
                self.visit(module, bound)


@dataclass(frozen=True)
class Reached:
    """What some names of a module reach.

    definitions: {'module:name': 12 hex digits}; files: {module: 16 hex digits} of every
    first-party module that was read.
    """

    definitions: dict[str, str]
    files: dict[str, str]

    @cached_property
    def code(self) -> str:
        """12 hex digits for all definitions: the `code` column."""
        text = json.dumps(self.definitions, sort_keys=True)
        return sha256(text.encode()).hexdigest()[:12]


def reach(root: Path, module: str, names: Iterable[str]) -> Reached:
    """Everything reachable from names of a module.

    Of a class named `Config` the annotated fields do not count: their values are in
    each run's key, their defaults and docstrings change no result. All else does.
    """
    found = _Reach(root)
    source = found.module(module)
    for node in source.defined.get("Config", ()):
        found.seen.add((module, "Config"))
        if isinstance(node, ast.ClassDef):
            node = copy(node)
            node.body = [n for n in node.body if not _is_field(n)]
        found.count(source, "Config", node)
    for name in names:
        found.visit(source, name)
    definitions = {
        name: sha256("\n".join(texts).encode()).hexdigest()[:12]
        for name, texts in sorted(found.texts.items())
    }
    files = {name: m.digest for name, m in found.modules.items() if m and m.path}
    return Reached(definitions, files)


def _is_field(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(
        node.annotation
    )


def changed(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Definitions that differ ('symlab.models.resnet:resnet18'), new and gone too."""
    return sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
