"""Which code made this: a hash of the definitions that `run` can reach.

From `run` we follow names through functions, classes, constants and imports into every
first-party module (the project's own files and symlab). Comments, docstrings, layout
and annotations of arguments do not count; `draw`, `sweep` and `CLAIMS` are not reached.
The result is a manifest {definition: digest}, so that a plan can name what changed.

Post-mortem of simpler ideas: file times re-run everything in a fresh clone; file hashes
re-run everything when a label moves; `ast.dump` and `ast.unparse` differ between Python
versions, so rows made elsewhere would look stale. Hence the serialiser below.

Limits: names reached only by getattr(module, string) or importlib are not followed.
"""

import ast
import json
from collections.abc import Iterable
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
        return {c for c in _free_of_children(node) if c[0] not in bound}
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


class Module:
    """Top-level bindings of a file: name -> statements, name -> import target."""

    def __init__(self, name: str, path: Path):
        self.name, self.path = name, path
        self.tree = ast.parse(path.read_text())
        self.defined: dict[str, list[ast.stmt]] = {}
        self.imported: dict[str, tuple[str, str | None]] = {}
        self.stars: list[str] = []
        self.loose: list[ast.stmt] = []  # statements with effects: count when touched
        for statement in self.tree.body:
            self._read(statement)

    def _read(self, statement: ast.stmt) -> None:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            self.imported |= self.targets([statement])
            if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
                self.stars.append(self._absolute(statement))
        elif isinstance(statement, DEFINITION):
            self._define(statement.name, statement)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and _simple(statement):
            for name in _assigned(statement):
                self._define(name, statement)
        elif not _is_text(statement) and not _is_guard(statement):
            self.loose.append(statement)
            self.imported |= self.targets(ast.walk(statement))
            for node in ast.walk(statement):
                if isinstance(node, DEFINITION):
                    self._define(node.name, node)

    def _define(self, name: str, node) -> None:
        self.defined.setdefault(name, []).append(node)

    def targets(self, nodes: Iterable) -> dict[str, tuple[str, str | None]]:
        """Names bound by import statements: name -> (module, attribute or None)."""
        out: dict[str, tuple[str, str | None]] = {}
        for node in nodes:
            if isinstance(node, ast.Import):
                for a in node.names:
                    out[a.asname or a.name.split(".")[0]] = (
                        a.name if a.asname else a.name.split(".")[0],
                        None,
                    )
            elif isinstance(node, ast.ImportFrom):
                for a in node.names:
                    out[a.asname or a.name] = (self._absolute(node), a.name)
        return out

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        up = node.level - (self.path.name == "__init__.py")
        parts = self.name.split(".")
        base = parts[: len(parts) - up]
        return ".".join([*base, *([node.module] if node.module else [])])


def _simple(statement) -> bool:
    targets = getattr(statement, "targets", None) or [statement.target]
    return all(
        isinstance(t, (ast.Name, ast.Tuple, ast.List, ast.Starred)) for t in targets
    )


def _assigned(statement) -> list[str]:
    targets = getattr(statement, "targets", None) or [statement.target]
    return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]


def _is_guard(statement) -> bool:
    """`if __name__ == "__main__":` and `if TYPE_CHECKING:` do not run on import."""
    return isinstance(statement, ast.If) and any(
        getattr(n, "id", getattr(n, "attr", "")) in ("__name__", "TYPE_CHECKING")
        for n in ast.walk(statement.test)
    )


# --- everything that is reached ------------------------------------------------------


class _Reach:
    def __init__(self, root: Path):
        self.root = root
        self.home = Path(__file__).resolve().parents[2]  # the folder that holds symlab
        self.modules: dict[str, Module | None] = {}
        self.texts: dict[str, list[str]] = {}
        self.seen: set = set()

    def module(self, name: str) -> Module | None:
        if name not in self.modules:
            path = self._path(name)
            self.modules[name] = Module(name, path) if path else None
        return self.modules[name]

    def _path(self, name: str) -> Path | None:
        relative = Path(*name.split("."))
        homes = [self.root] + ([self.home] if relative.parts[0] == "symlab" else [])
        for home in homes:
            for path in (
                home / relative / "__init__.py",
                (home / relative).with_suffix(".py"),
            ):
                if path.is_file():
                    return path
        return None

    def visit(self, module: Module, name: str) -> None:
        """Count the definition of a module's top-level name and all that it uses."""
        if (module.name, name) in self.seen:
            return
        self.seen.add((module.name, name))
        self._touch(module)
        if name in module.defined:
            for node in module.defined[name]:
                self._count(module, name, node)
        elif name in module.imported:
            self._follow(*module.imported[name], ())
        elif "__getattr__" in module.defined:
            for node in module.defined["__getattr__"]:
                self._count(module, "__getattr__", node)
        for star in module.stars if name not in module.defined else ():
            if source := self.module(star):
                self.visit(source, name)

    def _touch(self, module: Module) -> None:
        """A module that is used runs its statements with effects, and decorators."""
        if (module.name, None) in self.seen:
            return
        self.seen.add((module.name, None))
        for statement in module.loose:
            self._count(module, "top level", statement)
        for name, nodes in module.defined.items():
            if any(self._registers(module, n) for n in nodes):
                self.visit(module, name)

    def _registers(self, module: Module, node) -> bool:
        """Decorated by our own code: it may be looked up in a registry at run time."""
        for decorator in getattr(node, "decorator_list", ()):
            for chain in free_names(decorator):
                target = module.imported.get(chain[0])
                if target and target[0].startswith("symlab.harness"):
                    continue  # @figure: drawing is not running
                if chain[0] in module.defined or (target and self.module(target[0])):
                    return True
        return False

    def _count(self, module: Module, name: str, node: ast.AST) -> None:
        self.texts.setdefault(f"{module.name}:{name}", []).append(canonical(node))
        local = module.targets(ast.walk(node))
        for chain in sorted(free_names(node)):
            head, *rest = chain
            if head in local:
                self._follow(*local[head], tuple(rest))
            elif head in module.imported and head not in module.defined:
                self._touch(module)
                self._follow(*module.imported[head], tuple(rest))
            elif head in module.defined or module.stars:
                self.visit(module, head)

    def _follow(self, module: str, attribute: str | None, rest: tuple) -> None:
        """A name imported from somewhere: into it, when the file is ours."""
        if attribute and (self.module(f"{module}.{attribute}")):
            source = self.module(module)
            if not (source and attribute in source.defined):
                module, attribute = f"{module}.{attribute}", None
        source = self.module(module)
        if source is None and not any(self._path(f"{module}.{r}") for r in rest[:1]):
            return
        if attribute and source:
            self.visit(source, attribute)
        elif rest and self.module(f"{module}.{rest[0]}"):
            self._follow(f"{module}.{rest[0]}", None, rest[1:])
        elif rest and source:
            self.visit(source, rest[0])
        elif source:
            for name in (*source.defined, *source.imported):
                self.visit(source, name)


def manifest(root: Path, module: str, names: Iterable[str]) -> dict[str, str]:
    """{definition: 12-hex digest} of everything reachable from names of a module.

    A class named `Config` counts by its methods only: the values of its fields are in
    each run's key, and their defaults and docstrings change no result.
    """
    reach = _Reach(root)
    source = reach.module(module)
    for node in source.defined.get("Config", ()):
        reach.seen.add((module, "Config"))
        methods = [n for n in getattr(node, "body", ()) if isinstance(n, FUNCTION)]
        for method in methods:
            reach._count(source, f"Config.{method.name}", method)
    for name in names:
        reach.visit(source, name)
    return {
        k: sha256("\n".join(v).encode()).hexdigest()[:12]
        for k, v in sorted(reach.texts.items())
    }


def digest(definitions: dict[str, str]) -> str:
    """12 hex digits for a whole manifest: the `code` column."""
    text = json.dumps(definitions, sort_keys=True)
    return sha256(text.encode()).hexdigest()[:12]


def of_experiment(root: Path, name: str) -> dict[str, str]:
    """The manifest of an experiment's `run`."""
    return manifest(root, f"experiments.{name}", ["run"])


def changed(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Definitions that differ ('symlab.models.resnet:resnet18'), new and gone too."""
    return sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
