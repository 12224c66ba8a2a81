"""Files of Python source: where a first-party module lies, and its statements.

A module is first-party if it is neither in the standard library nor under a
site-packages or dist-packages folder: the project, symlab wherever it is installed,
`src/` on sys.path, editable installs. Modules are found by name without importing them.
"""

import ast
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from symlab.harness.syntax import (
    Chain,
    bound_by,
    canonical,
    chain_of,
    children,
    free_names,
    is_text,
    names_now,
    walk,
)

NOT_BY_A_LOOK = {  # special methods that run when an object is made, set or called
    "__call__", "__delattr__", "__delitem__", "__enter__", "__exit__", "__init__",
    "__init_subclass__", "__new__", "__post_init__", "__set__", "__set_name__",
    "__setattr__", "__setitem__",
}  # fmt: skip
Target = tuple[str, str | None]  # what an import binds: module, attribute or None


class Statement:
    """One top-level statement of a Python file.

    An import of several names counts as one statement for each name.
    """

    def __init__(self, node: ast.stmt, module: "Module", alias=None):
        self.node, self.index = node, len(module.statements)
        self.module, self.alias = module, alias
        self.names = [] if alias else bound_by(node)
        self.text_only = is_text(node)
        self._texts: dict = {}
        self._free: dict = {}
        self.imports = module.targets([node] if alias is None else [], at_import=True)
        self.star: str | None = None
        if alias is not None:
            name, target = module.bound(node, alias)
            self.imports = {name: [target]}
            if alias.name == "*":
                self.star, self.imports = target[0], {}
        if self.text_only and self.index == 0:
            self.names = ["__doc__"]
        self.names = list(dict.fromkeys([*self.names, *self.imports]))
        self.local = {} if alias else module.targets([node])  # in functions, too

    def text(self, annotations: bool, docs: bool) -> str:
        """Return a text of the statement that does not depend on its layout.

        annotations, docs: whether the text includes annotations and docstrings.

        The text of an import is the module and the name that it binds.
        """
        if self.alias is not None:
            (target,) = next(iter(self.imports.values()), [(self.star, "*")])
            return f"import {target[0]} {target[1] or ''}"
        options = (annotations, docs)
        if options not in self._texts:
            self._texts[options] = canonical(self.node, *options)
        return self._texts[options]

    def free(self, annotations: bool) -> list[Chain]:
        """Return, sorted, the dotted names that the statement takes from outside.

        Names that are used in functions inside the statement are included.

        annotations: whether names in annotations count.
        """
        if self.alias is not None:
            return []
        if annotations not in self._free:
            self._free[annotations] = sorted(free_names(self.node, annotations))
        return self._free[annotations]

    @cached_property
    def now(self) -> set[Chain]:
        """The dotted names that are looked up when the statement itself is executed.

        Names that are looked up only when a function in it is called are not included.
        """
        return set() if self.alias is not None else names_now(self.node)

    @cached_property
    def executed(self) -> list[str]:
        """The names of the modules that are imported when the statement is executed."""
        return self._imported(_outside_functions([self.node]))

    @cached_property
    def loads(self) -> list[str]:
        """The names of the modules that the statement, or a function in it, imports."""
        return self._imported(walk(self.node))

    def _imported(self, nodes: Iterable) -> list[str]:
        names: list[str] = []
        for node in nodes:
            if not isinstance(node, (ast.Import, ast.ImportFrom)):
                continue
            every = [self.alias] if self.alias else node.names
            if isinstance(node, ast.Import):
                names += [a.name for a in every]
            else:
                base = self.module.absolute(node.level, node.module)
                names += [base, *(f"{base}.{a.name}" for a in every)]
        return names

    @cached_property
    def words(self) -> set[str]:
        """The names, attributes and string arguments of calls that occur in the
        statement.
        """
        found: set[str] = set()
        for n in walk(self.node):
            if isinstance(n, ast.Name):
                found.add(n.id)
            elif isinstance(n, ast.Attribute):
                found.add(n.attr)
            elif isinstance(n, ast.MatchClass):
                found.update(n.kwd_attrs)
            elif isinstance(n, ast.Call):
                strings = (a.value for a in n.args if isinstance(a, ast.Constant))
                found.update(s for s in strings if isinstance(s, str))
            elif isinstance(n, ast.Constant) and isinstance(n.value, str):
                found.update({n.value} if n.value.startswith("__") else ())
        return found

    @cached_property
    def modules(self) -> list[str]:
        """String literals in the statement that may be names of modules to be imported.

        An example is "m" in `load("m")`, if `load` imports the module that it is given.
        The argument of `importlib.import_module("m")` is not included, as
        `syntax.chain_of` handles it.
        """
        nodes = [*walk(self.node)]
        known = {
            id(n.args[0]) for n in nodes if isinstance(n, ast.Call) and chain_of(n)
            and n.args
        }  # fmt: skip
        texts = [
            n.value.split(":")[0]
            for n in nodes
            if isinstance(n, ast.Constant) and isinstance(n.value, str)
            and id(n) not in known
        ]  # fmt: skip
        texts = [x for x in texts if re.fullmatch(r"[\w.]+", x)]
        inside = [x for x in texts if x[0] == "."]
        return texts + [f"{y}{x}" for x in inside for y in texts if y != x]


class Module:
    """A Python file as its top-level statements, in order, and the names that they
    bind.

    name: the module's dotted name.
    path: the file; None for a folder without __init__.py.
    source: the file's bytes.
    folders: the folders in which submodules lie.
    """

    def __init__(self, name: str, path: Path | None, source: bytes, folders: tuple):
        self.name, self.path = name, path  # no path: a folder without __init__.py
        self.folders = folders  # where submodules lie
        self.digest = sha256(source).hexdigest()[:16]
        self.statements: list[Statement] = []
        self.tree = ast.parse(source, str(path))
        typed = [n for n in self.tree.body if not _imports_of_typing(n)]
        own = {name for n in typed for name in bound_by(n)} | self.targets(typed).keys()
        self.guards = {*GUARDS} - ({GUARDS[0]} if GUARDS[0][0] in own else set())
        for node in self.tree.body:
            self._read(node)
        self.binding: dict[str, list[Statement]] = {}
        for statement in self.statements:
            for bound in statement.names:
                self.binding.setdefault(bound, []).append(statement)
        self.stars = [s for s in self.statements if s.star is not None]

    @cached_property
    def imports_by_name(self) -> bool:
        """Whether the file can import a module whose name is computed at run time."""
        if {"importlib", "pkgutil", "runpy"} & self.packages:
            return True
        return any(
            "__import__" in s.words or {"sys", "modules"} <= s.words
            for s in self.statements
        )

    @cached_property
    def methods(self) -> dict[str, list]:
        """{name: definitions} of the methods of all top-level classes of the file."""
        found: dict[str, list] = {}
        for node in self.tree.body:
            for n in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    found.setdefault(n.name, []).append(n)
        return found

    @cached_property
    def watching(self) -> dict[str, list]:
        """{class: methods that run when an object of the class is only read}.

        These are properties and some special methods. The dictionary is empty for files
        of symlab.
        """
        found: dict[str, list] = {}
        for node in self.tree.body if self.name.split(".")[0] != "symlab" else ():
            for n in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    special = n.name[:2] == "__" and n.name not in NOT_BY_A_LOOK
                    made = {(chain_of(d) or ("",))[-1] for d in n.decorator_list}
                    if special or made & {"property", "cached_property"}:
                        found.setdefault(node.name, []).append(n)
        return found

    def _read(self, node: ast.stmt) -> None:
        guarded = _guarded(node, self.guards)
        if guarded is not None:
            for other in guarded:
                self._read(other)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                self.statements.append(Statement(node, self, alias))
        else:
            self.statements.append(Statement(node, self))

    def targets(
        self, nodes: Iterable, at_import: bool = False
    ) -> dict[str, list[Target]]:
        """Return {imported name: the (module, attribute) pairs it may be bound to}.

        nodes: statements.
        at_import: whether imports inside functions are left out.

        Names of modules are absolute.
        """
        out: dict[str, list[Target]] = {}
        for node in _outside_functions(nodes) if at_import else _walk(nodes):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                for alias in node.names:
                    name, target = self.bound(node, alias)
                    out.setdefault(name, []).append(target)
        return out

    def bound(self, node, alias: ast.alias) -> tuple[str, Target]:
        """Return the name that one part of an import binds, and what it is bound to.

        node: the import statement. alias: the part.

        The second result is the pair (module, attribute).
        """
        name = alias.asname or alias.name.split(".")[0]
        if isinstance(node, ast.ImportFrom):
            return name, (self.absolute(node.level, node.module), alias.name)
        # `import a.b` binds a, and a is all that is named; a.b is executed, too
        whole = alias.name if alias.asname else alias.name.split(".")[0]
        return name, (whole, None)

    def absolute(self, level: int, module: str | None) -> str:
        """Return the absolute name of a module that this file imports by a relative
        name.

        level: the number of dots. module: what follows the dots.
        """
        if not level:
            return module or ""
        package = self.path is None or self.path.name == "__init__.py"
        parts = self.name.split(".")
        base = parts[: len(parts) - level + package]
        return ".".join([*base, *([module] if module else [])])

    @cached_property
    def packages(self) -> set[str]:
        """The first parts of the names of all modules that are imported anywhere in the
        file.
        """
        found: set[str] = set()
        for s in self.statements:
            for node in walk(s.node):
                if isinstance(node, ast.Import):
                    found.update(a.name.split(".")[0] for a in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    found.add((node.module or "").split(".")[0])
        return found


_module = lru_cache(maxsize=4096)(Module)  # one parse per text of a file


def _walk(nodes: Iterable) -> Iterator[ast.AST]:
    for node in nodes:
        yield from walk(node)


def _outside_functions(nodes: Iterable) -> Iterator[ast.AST]:
    """What is executed with the statement: bodies of classes, not of functions."""
    queue = list(nodes)
    while queue:
        node = queue.pop(0)
        yield node
        inside = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        if not isinstance(node, inside):
            queue.extend(children(node))


def _imports_of_typing(node) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module in GUARDS[1]


GUARDS = (("TYPE_CHECKING",), ("typing", "TYPE_CHECKING"))


def _guarded(statement, guards: set) -> list[ast.stmt] | None:
    """What an import runs of `if TYPE_CHECKING` and `if __name__ == "__main__"`: else.

    None for every other statement.
    """
    if not isinstance(statement, ast.If):
        return None
    test = statement.test
    if isinstance(test, ast.Compare) and chain_of(test.left) == ("__name__",):
        same = [type(o) for o in test.ops] == [ast.Eq]
        other = getattr(test.comparators[0], "value", None)
        return statement.orelse if same and other == "__main__" else None
    return statement.orelse if chain_of(test) in guards else None


# --- finding -------------------------------------------------------------------------

STANDARD = {Path(sysconfig.get_path(k)).resolve() for k in ("stdlib", "platstdlib")}


def third_party(folder: Path) -> bool:
    """Return whether a folder of sys.path has the standard library or installed
    packages.
    """
    inside = {"site-packages", "dist-packages"} & set(folder.parts)
    return bool(inside) or folder in STANDARD or folder.name == "lib-dynload"


class Finder:
    """Finds first-party modules (the project's own code) by their dotted names.

    root: the project's folder.
    make: make(name, path, source, folders) builds the record of a module from its
        dotted name, file, source and folders of submodules; None makes a `Module`.
    compiled: names of modules that were found without Python source.
    """

    def __init__(self, root: Path, make=None):
        self.root = root
        self.make = make or _module
        self.home = Path(__file__).resolve().parents[2]  # the folder that holds symlab
        self.modules: dict[str, Module | None] = {}
        self.compiled: set[str] = set()
        self.path: list[str] = []
        self.places: list[Path] = []  # its folders
        self.listed: dict[Path, set[str]] = {}  # folder: what it holds, up to a dot

    def module(self, name: str) -> Module | None:
        """Return the first-party module of a dotted name; None if it is not
        first-party.
        """
        if name not in self.modules:
            self.modules[name] = self._find(name)
        return self.modules[name]

    def _find(self, name: str) -> Module | None:
        parent, _, last = name.rpartition(".")
        if not last:
            return None
        if parent:
            package = self.module(parent)
            return self._within(name, package.folders) if package else None
        if name == "symlab":
            return self._within(name, (self.home,))
        if name in sys.builtin_module_names:
            return None
        folders = [self.root, *self._folders()]
        ours = []
        for folder in folders:
            if folder == self.root or not third_party(folder):
                ours.append(folder)
            elif name in self._held(folder) and _exists(folder, name):
                # ours stand before it on the path
                return self._within(name, ours, spaces=False)
        if name in sys.stdlib_module_names:
            return self._within(name, ours[:1])
        return self._within(name, ours) or self._hooked(name)

    def _folders(self) -> list[Path]:
        """The folders of sys.path, once for a finder."""
        if self.path != sys.path:
            self.path, self.places = (
                [*sys.path],
                [Path(p).resolve() for p in sys.path if p],
            )
        return self.places

    def _within(
        self, name: str, folders: Iterable[Path], spaces: bool = True
    ) -> Module | None:
        """The module in the first of the folders that has it.

        spaces: whether a folder without __init__.py may be it.
        """
        last = name.rpartition(".")[2]
        folders = [folder for folder in folders if last in self._held(folder)]
        for folder in folders:
            package = folder / last
            if (path := package / "__init__.py").is_file():
                return self.make(name, path, path.read_bytes(), (package,))
            if (path := folder / f"{last}.py").is_file():
                return self.make(name, path, path.read_bytes(), ())
            if any((folder / f"{last}{s}").is_file() for s in EXTENSION_SUFFIXES):
                self.compiled.add(name)
                return None
        if not spaces:
            return None
        portions = tuple(f / last for f in folders if (f / last).is_dir())
        if any(any(p.rglob("*.py")) for p in portions):
            return self.make(name, None, b"", portions)
        return None

    def _held(self, folder: Path) -> set[str]:
        """The names in a folder, up to their first dot; one look for a finder."""
        if folder not in self.listed:
            try:
                found = os.listdir(folder)
            except OSError:
                found = []  # Python's own search takes such a folder for empty, too
            self.listed[folder] = {name.split(".")[0] for name in found}
        return self.listed[folder]

    def _hooked(self, name: str) -> Module | None:
        """A module that a hook finds, as those of editable installs do."""
        for hook in sys.meta_path:
            if "editable" not in getattr(hook, "__module__", ""):
                continue
            try:
                spec = hook.find_spec(name, None)
            except Exception:
                continue  # a hook of others that does not understand the question
            origin = Path(spec.origin) if spec and spec.origin else None
            if origin and origin.suffix == ".py" and origin.is_file():
                folders = tuple(map(Path, spec.submodule_search_locations or ()))
                return self.make(name, origin, origin.read_bytes(), folders)
        return None


def _exists(folder: Path, name: str) -> bool:
    files = [f"{name}/__init__.py", f"{name}.py"]
    files += [f"{name}{s}" for s in EXTENSION_SUFFIXES]
    return any((folder / f).is_file() for f in files)
