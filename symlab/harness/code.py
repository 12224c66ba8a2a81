"""The code key of a row: a hash of all definitions that an experiment's `run` can
reach.

From `run` we follow names through functions, classes, constants and imports into every
first-party module (source.py says which those are), and count each statement that binds
one of these names or changes its object. Of a module that is imported, those statements
count as well that may change anything else (effects.py), and so does the order of the
imports. Comments, docstrings, layout and annotations do not count unless code that is
reached reads them; `draw`, `sweep` and `CLAIMS` are not reached. The result is a
manifest {definition: digest}, so that `symlab status` can say which definition changed.
docs/harness.md tells users what counts and what cannot be seen.

Why simpler rules fail: file times make every run stale in a fresh clone; file hashes
make every run stale when a label is moved; hashes of the definitions alone miss effects
of order and of import lines.
"""

import ast
import json
import platform
import re
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from sys import stdlib_module_names

from symlab.harness import remembered
from symlab.harness.effects import Effects
from symlab.harness.errors import UserError
from symlab.harness.source import Finder, Module, Statement
from symlab.harness.syntax import (
    DEFINITION,
    FUNCTION,
    Chain,
    canonical,
    chain_of,
    forget,
    free_names,
    walk,
)

READERS = {  # a word in reached code -> what then counts everywhere in it
    "__annotations__": "annotations", "get_type_hints": "annotations",
    "get_annotations": "annotations", "annotation": "annotations",
    "return_annotation": "annotations", "__annotate__": "annotations",
    "__doc__": "docs", "getdoc": "docs",
    "co_consts": "docs", "pydoc": "docs",
    "from_callable": "annotations",
    "__subclasses__": "subclasses",
    "getsource": "source", "getsourcelines": "source",
}  # fmt: skip
READS_DEFAULTS = {  # attributes of a config, or of its class
    "__class__", "__dataclass_fields__", "__defaults__", "__match_args__", "__reduce__",
    "__reduce_ex__", "__signature__",
}  # fmt: skip
READS_SIGNATURE = {"signature", "getfullargspec"}
ORDER = "order of the imports:"  # in a manifest: what importing the files does, in turn


class _Reach:
    """One walk; `reads` is what reached code reads beside values (see READERS)."""

    def __init__(self, finder: Finder, effects: Effects, reads: frozenset, config: str):
        self.finder, self.effects, self.reads = finder, effects, reads
        self.config = config  # the module whose class Config is special
        self.texts: dict[str, dict] = {}  # 'module:name' -> {index: text}
        self.written: dict[Statement, str] = {}  # what `_text` has written
        self.found: set[str] = set()  # what the code reached so far reads
        self.seen: set = set()
        self.loaded: dict[str, None] = {}
        self.waiting: set[str] = set()  # modules that only functions import
        self.order: list[tuple[Module, Statement]] = []  # as imports execute them
        self.counted: set[Statement] = set()
        self.configs: set[tuple[str, str]] = set()  # Config and its bases
        self.bases: set[tuple[str, str]] = set()  # those without their fields

    def module(self, name: str) -> Module | None:
        return self.finder.module(name)

    def walk(self, name: str, names: Iterable[str]) -> None:
        """Import a module, and use names of it."""
        module = self.module(name)
        if module is None:
            raise ImportError(f"there is no first-party module {name}")
        self.configs = self._config_classes(module)
        self.bases = set() if "defaults" in self.reads else self.configs
        self.load(name)
        for where, used in sorted(self.configs):
            self.visit(self.module(where), used)
        for s in module.binding.get("Config", ()):
            if s.alias is not None:
                self.record(module, "Config", s, self._text(module, s))
        for used in names:
            self.visit(module, used)
        while self.waiting:
            self.load(sorted(self.waiting)[0])
        self._sequence()

    # --- imports ---

    def load(self, name: str) -> None:
        """Execute an import: the packages around it, then each statement in order."""
        self.waiting.discard(name)
        module = self.module(name)
        if module is None or name in self.loaded:
            return
        self.loaded[name] = None
        parent = name.rpartition(".")[0]
        if parent:
            self.load(parent)
        for s in module.statements:
            for other in [*s.executed, *self._listed(s)]:
                self.load(other)
            self.order.append((module, s))
            if self._acts(module, s):
                self.count_all(module, s)

    def _acts(self, module: Module, s: Statement) -> bool:
        if module.name == self.config and s.names == ["CLAIMS"]:
            return False  # claims judge rows that are there
        acts, _ = self.effects.of(module, s)
        lists = "subclasses" in self.reads and self.effects.derives(module, s.node)
        return acts or lists

    def _sequence(self) -> None:
        """Between two statements with effects, the set of those that may notice."""
        if not any(self._acts(m, s) for m, s in self.order):
            return
        parts: list[list[str]] = [[]]
        for module, s in self.order:
            label = f"{module.name}:{','.join(s.names)}"
            if self._acts(module, s):
                parts += [[f"{label} {_digest(self._text(module, s))}"], []]
            elif s in self.counted and self._notices(module, s):
                parts[-1].append(label)
        text = json.dumps([sorted(p) for p in parts if p])
        self.texts[ORDER] = {0: text}

    def _notices(self, module: Module, s: Statement) -> bool:
        """Whether what the statement computes may depend on effects before it."""
        if s.alias is not None:
            return any(
                a and self.module(m) and not self._is_definition(self.module(m), a)
                for found in s.imports.values() for m, a in found
            )  # fmt: skip
        if isinstance(s.node, FUNCTION) and not s.now:
            return False
        return any(not self._settled(module, chain) for chain in s.now)

    def _is_definition(self, module: Module, name: str) -> bool:
        found = self.effects.definitions(module, (name,))
        inner = self.module(f"{module.name}.{name}")
        return bool(inner) or (
            bool(found) and len(module.binding.get(name, ())) == len(found) == 1
        )

    def _settled(self, module: Module, chain: Chain) -> bool:
        """A name that is no value: a class, or somebody else's."""
        if self.effects.foreign(module, chain[0]):
            return True
        found = self.effects.definitions(module, chain)
        return len(found) == 1 and isinstance(found[0][1], ast.ClassDef)

    # --- names ---

    def visit(self, module: Module, name: str) -> None:
        """Count all statements that bind a top-level name, or change its object."""
        if (module.name, name) in self.seen:
            return
        self.seen.add((module.name, name))
        self.later(module.name)
        for s in self.effects.concerning(module, name):
            self.count(module, s, name)
        for s in module.stars:
            if self._provides(s.star, name, set()):
                self._star(module, s, name)
        if name not in module.binding and "__getattr__" in module.binding:
            self._lazily(module, name)

    def later(self, name: str) -> None:
        if name not in self.loaded:
            self.waiting.add(name)

    def _listed(self, s: Statement) -> list[str]:
        """Submodules that `from p import *` imports, as p's __all__ lists them."""
        source = self.module(s.star) if s.star is not None else None
        return [f"{s.star}.{name}" for name in self._all(source)] if source else []

    def _all(self, module: Module) -> list[str]:
        """The names in the texts of a module's __all__."""
        return [
            n.value
            for b in module.binding.get("__all__", ())
            for n in walk(b.node)
            if isinstance(n, ast.Constant) and isinstance(n.value, str)
        ]

    def _star(self, module: Module, s: Statement, name: str) -> None:
        """A name that `from m import *` may bind."""
        self.record(module, name, s, f"import {s.star} *")
        source = self.module(s.star)
        if source is not None:
            self.visit(source, "__all__")
            bound = source.binding.get(name, ())
            modules = [a for b in bound for _, a in b.imports.get(name, ())]
            if not modules or None not in modules:  # else `use` follows its attribute
                self.follow(s.star, name, ())

    def _provides(self, star: str, name: str, seen: set) -> bool:
        source = self.module(star)
        if source is None:
            return not name.startswith("_")  # somebody else's: it may
        if star in seen:
            return False
        seen.add(star)
        if "__getattr__" in source.binding and name in self._all(source):
            return True
        lists = name.startswith("_") and "__all__" not in source.binding
        if name in ("__all__", "__getattr__", "__doc__") or lists:
            return False
        if "__all__" in source.binding and self.module(f"{star}.{name}"):
            return True
        return name in source.binding or any(
            self._provides(s.star, name, seen) for s in source.stars
        )

    def _lazily(self, module: Module, name: str) -> None:
        """A name that a module's __getattr__ makes: what its tables name may be it."""
        self.visit(module, "__getattr__")
        own = [s for s in module.statements if s in self.counted]
        words = {
            n.value
            for s in own
            for n in walk(s.node)
            if isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value
        }
        inside = [f"{module.name}.{w.lstrip('.')}" for w in sorted(words)]
        named = [*filter(None, map(self.module, [*inside, *sorted(words)]))]
        exact = [m for m in named if name in m.binding]
        for m in exact:
            self.visit(m, name)
        if not exact and not self.module(f"{module.name}.{name}"):
            for m in named:
                for bound in sorted(words & m.binding.keys()) or m.binding:
                    self.visit(m, bound)

    def count_all(self, module: Module, s: Statement) -> None:
        for name in s.names or ["top level"]:
            if name == "top level":
                self.count(module, s, name)
            else:
                self.visit(module, name)

    def count(self, module: Module, s: Statement, name: str) -> None:
        """Put a statement on record under a name, and follow what it uses."""
        if not self.record(module, name, s, self._text(module, s)):
            return
        if s.alias is not None:
            for target in s.imports.get(name, ()):
                self.follow(*target, ())
            return
        if s in self.counted:
            return
        self.counted.add(s)
        self._notice_readers(module, s)
        for other in s.loads:
            if other not in s.executed and self.module(other):
                self.later(other)
        if module.name.split(".")[0] != "symlab":
            self.found.update({"modules"} if module.imports_by_name else ())
            for text in s.modules if "modules" in self.reads else ():
                self._named(text)
        free = s.free("annotations" in self.reads)
        if (module.name, name) in self.bases:
            fieldless = _without_defaults(module, s.node)
            free = sorted(free_names(fieldless, "annotations" in self.reads))
        for chain in free:
            self.use(module, s, chain)

    def _named(self, text: str) -> None:
        """Follow a text such as 'm' or 'm.f' that is handed to an importer."""
        name, rest = text, []
        while name and not self.module(name):
            name, _, last = name.rpartition(".")
            rest.insert(0, last)
        if name and name.split(".")[0] != "symlab":
            self.follow(name, None, tuple(rest))

    def record(self, module: Module, name: str, s: Statement, text: str) -> bool:
        texts = self.texts.setdefault(f"{module.name}:{name}", {})
        new = s.index not in texts
        texts[s.index] = text
        return new

    def use(self, module: Module, s: Statement | None, chain: Chain) -> None:
        """Follow one dotted name that a statement of a module uses."""
        head, *rest = chain
        if head.startswith("import:"):
            name = head.removeprefix("import:")
            level = len(name) - len(name.lstrip("."))
            self.follow(module.absolute(level, name.lstrip(".")), None, tuple(rest))
            return
        if head.startswith("globals:"):
            name = head.removeprefix("globals:").rstrip("*")
            for bound in [name] if name else list(module.binding):
                self.use(module, None, (bound, *rest))
            return
        if s is not None and self._is_base(module, s, chain):
            for b in module.binding[head]:  # the base itself is counted by `walk`
                self.record(module, head, b, self._text(module, b))
            return
        if (module.name, head) in self.configs:
            self.found.add("defaults")
        for target in s.local.get(head, ()) if s is not None else ():
            self._notice_alias(head, target)
            self.follow(*target, tuple(rest))
        bindings = module.binding.get(head, ())
        for star in module.stars:
            if self.module(star.star) and self._provides(star.star, head, set()):
                self.follow(star.star, head, tuple(rest))
        imports = [b for b in bindings if b.alias is not None]
        for b in imports:
            self.record(module, head, b, self._text(module, b))
            self.counted.add(b)
        for b in bindings:
            for target in b.imports.get(head, ()):
                self._notice_alias(head, target)
                self.follow(*target, tuple(rest))
        if len(imports) < len(bindings) or not bindings or module.stars:
            self.visit(module, head)
        elif (module.name, f"{head} changed") not in self.seen:
            self.seen.add((module.name, f"{head} changed"))
            for b in self.effects.concerning(module, head):
                if head in self.effects.of(module, b)[1]:
                    self.count(module, b, head)

    def follow(self, name: str, attribute: str | None, rest: tuple) -> None:
        """Into what was imported and the attributes taken of it, while it is ours."""
        chain = ([attribute] if attribute and attribute != "*" else []) + list(rest)
        module = self.module(name)
        while module is not None:
            self.later(module.name)
            inner = self.module(f"{module.name}.{chain[0]}") if chain else None
            if inner is None or chain[0] in module.binding:
                break
            module, chain = inner, chain[1:]
        if module is None:
            return
        if chain and chain[0] != "__dict__":
            self.use(module, None, tuple(chain))
        else:  # the module itself is handed on: all of it may be used
            for bound in module.binding:
                self.use(module, None, (bound,))
            for star in module.stars:
                self.follow(star.star, None, ())

    # --- texts ---

    def _text(self, module: Module, s: Statement) -> str:
        if s not in self.written:
            self.written[s] = self._write(module, s)
        return self.written[s]

    def _write(self, module: Module, s: Statement) -> str:
        """The statement, and of the names it looks up which of their values it sees."""
        options = ("annotations" in self.reads, "docs" in self.reads)
        if s.alias is not None:
            (target,) = [t for f in s.imports.values() for t in f] or [(s.star, "*")]
            where = " of ours" if self.effects.ours(*target) else ""
            return s.text(*options) + where
        plain = s.text(*options)
        targets = sorted({t for found in s.imports.values() for t in found}, key=str)
        if ours := [f"{m}.{a}" for m, a in targets if self.effects.ours(m, a)]:
            plain += f" ours: {ours}"  # an import that failed may come to succeed
        if any((module.name, n) in self.bases for n in s.names):
            plain = canonical(_without_defaults(module, s.node), *options)
        if options[0] and "annotations" in module.binding and s is not None:
            future = module.binding["annotations"][0].imports.get("annotations")
            plain += " as texts" if future == [("__future__", "annotations")] else ""
        seen = []
        for name in sorted(self._read_now(module, s)):
            places = [b.index for b in self.effects.concerning(module, name)]
            if len(places) > 1:
                seen.append(f"{name}@{sum(i < s.index for i in places)}")
        return " ".join([plain, *seen])

    def _read_now(self, module: Module, s: Statement) -> set[str]:
        """Globals that executing the statement looks up, in calls too."""
        found: set[str] = set()
        queue = [c[0] for c in s.now]
        while queue:
            name = queue.pop()
            if name in found or name not in module.binding:
                continue
            found.add(name)
            for b in module.binding[name]:
                if isinstance(b.node, DEFINITION) and b is not s:
                    queue += [c[0] for c in b.free(False)]
        return found

    def _notice_readers(self, module: Module, s: Statement) -> None:
        self.found.update(READERS[w] for w in s.words if w in READERS)
        if not module.name.startswith("symlab."):
            if _takes_class(s):
                self.found.add("defaults")
            if _prints_signature(s):
                self.found.add("annotations")
        if any((module.name, n) in self.configs for n in s.names):
            self.found.update({"defaults"} if "classmethod" in s.words else ())

    def _is_base(self, module: Module, s: Statement, chain: Chain) -> bool:
        """Whether a config class names one of its bases here."""
        if not any((module.name, n) in self.configs for n in s.names):
            return False
        found = self.effects.definitions(module, chain)
        names = {(m.name, getattr(n, "name", "")) for m, n in found} & self.configs
        return bool(names) and not any((module.name, n) in names for n in s.names)

    def _notice_alias(self, head: str, target: tuple) -> None:
        """A reader that was imported under another name."""
        if target[1] in READERS:
            self.found.add(READERS[target[1]])
        if target[1] in READS_SIGNATURE and head != target[1]:
            self.found.add("annotations")
        if target == ("dataclasses", "fields") and head != "fields":
            self.found.add("defaults")

    def _config_classes(self, module: Module) -> set[tuple[str, str]]:
        """Config and the bases of ours: the values of their fields are in each key."""
        found: set[tuple[str, str]] = set()
        queue = self.effects.definitions(module, ("Config",)) if self.config else []
        while queue:
            where, node = queue.pop()
            if isinstance(node, ast.ClassDef) and (where.name, node.name) not in found:
                found.add((where.name, node.name))
                other = [d for d in node.decorator_list if not _is_dataclass(d)]
                if other or self.effects.collects(where, node):  # they get the class
                    self.found.add("defaults")
                for b in node.bases:
                    queue += self.effects.base(where, b)
        return found


def _is_dataclass(decorator) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (chain_of(called) or ("",))[-1] == "dataclass"


def _without_defaults(module: Module, node):
    """A dataclass without the types and defaults of its fields, whose order stays."""
    if not isinstance(node, ast.ClassDef) or not any(
        map(_is_dataclass, node.decorator_list)
    ):
        return node
    node = copy(node)
    forget(node)
    node.body = [_bare(n) if _is_field(module, n) else n for n in node.body]
    return node


def _is_field(module: Module, n) -> bool:
    """Whether every run is given this value; ClassVar, InitVar, init=False are not."""
    if not isinstance(n, ast.AnnAssign) or "init=False" in ast.unparse(n):
        return False
    words = set(re.findall(r"\w+", ast.unparse(n.annotation)))
    for s in [s for w in words & module.binding.keys() for s in module.binding[w]]:
        words |= {str(a) for found in s.imports.values() for _, a in found}
        if not isinstance(s.node, DEFINITION):
            words |= s.words  # CV = typing.ClassVar
    return not words & {"ClassVar", "InitVar"}


def _bare(n: ast.AnnAssign) -> ast.AnnAssign:
    """The name of a field, and whether and how it is printed and compared."""
    given = n.value.keywords if isinstance(n.value, ast.Call) else []
    kept = [k for k in given if k.arg in ("repr", "hash", "compare", "kw_only")]
    options = ast.Dict([ast.Constant(k.arg) for k in kept], [k.value for k in kept])
    return ast.AnnAssign(n.target, ast.Constant(None), options, n.simple)


def _prints_signature(s: Statement) -> bool:
    """Whether a signature is used otherwise than for its parameters."""
    if not {"signature", "getfullargspec"} & s.words:
        return False
    nodes = [*walk(s.node)]
    walked = [n for n in nodes if isinstance(n, ast.Attribute)]
    harmless = {id(n.value) for n in walked if n.attr in ("parameters", "bind")}
    called = {
        id(n.func) for n in nodes if isinstance(n, ast.Call) and id(n) in harmless
    }
    return any(
        {getattr(n, "id", ""), getattr(n, "attr", "")} & READS_SIGNATURE
        and id(n) not in called
        for n in nodes
    )


def _takes_class(s: Statement) -> bool:
    """Whether the statement may read defaults of a config that it was given."""
    if READS_DEFAULTS & s.words:
        return True
    if not {"type", "fields", "__init__"} & s.words:
        return False
    nodes = [*walk(s.node)]
    calls = [n for n in nodes if isinstance(n, ast.Call)]
    harmless: set[int] = set()  # expressions that ask nothing of the class
    for n in nodes:
        if isinstance(n, ast.Compare):
            harmless |= {id(x) for x in (n.left, *n.comparators)}
        elif isinstance(n, ast.Attribute) and n.attr in ("__name__", "__qualname__"):
            harmless.add(id(n.value))
    inert = {id(n.func) for n in calls if id(n) in harmless}
    inert |= {id(n.value) for n in nodes if isinstance(n, ast.Subscript)}  # type[int]
    for n in calls:
        given = [*n.args, *n.keywords]
        named = chain_of(n.func) or ("",)
        if len(given) != 1 or named[-1] == "__init__":
            inert.add(id(n.func))
        if named == ("isinstance",):
            inert |= {id(x) for x in n.args[1:]}
    own = {n.id for n in nodes if isinstance(n, ast.Name) and _is_set(n)}
    own |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    return any(
        id(n) not in inert and _names_reader(s, n) and not {getattr(n, "id", "")} & own
        for n in nodes
    )


def _is_set(n) -> bool:
    return not isinstance(n.ctx, ast.Load)


def _names_reader(s: Statement, n) -> bool:
    """Whether a node is type, fields, dataclasses.fields or the __init__ of x."""
    if isinstance(n, ast.Name):
        return n.id in ("type", "fields")
    if not isinstance(n, ast.Attribute):
        return False
    head, *rest = chain_of(n) or ("",)
    bound = [b.imports.get(head, ()) for b in s.module.binding.get(head, ())]
    targets = {t for found in [*bound, s.local.get(head, ())] for t in found}
    known = ("dataclasses", None) in targets and rest == ["fields"]
    known = known or ("builtins", None) in targets and rest == ["type"]
    return n.attr == "__init__" or known


# --- the answer ----------------------------------------------------------------------


@dataclass(frozen=True)
class Reached:
    """The code that some names of a module can reach through calls, classes and
    imports.

    definitions: {'module:name': 12 hex digits of the hash of its source}.
    files: {module: 16 hex digits of its content's hash} of every first-party module
        read.
    packages: import names of the third-party modules in the files of the definitions.
    compiled: first-party modules without Python source.
    """

    definitions: dict[str, str]
    files: dict[str, str]
    packages: tuple[str, ...] = ()
    compiled: tuple[str, ...] = field(default=())

    @cached_property
    def code(self) -> str:
        """Return the code key, 12 hex digits of a hash of all definitions together.

        It is the column `code` of a row.
        """
        text = json.dumps(self.definitions, sort_keys=True)
        return sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def versions(self) -> dict[str, str]:
        """Return the versions of Python and of the installed third-party packages
        reached.

        An example is {'python': '3.12.3', 'numpy': '2.1.0'}.
        """
        known = _distributions()
        names = sorted({d for p in self.packages for d in known.get(p, ())})
        return {"python": platform.python_version()} | {
            name: _version(name) for name in names
        }

    @property
    def made_with(self) -> str:
        """Return the versions as one text, such as 'python 3.12.3, numpy 2.1.0'.

        It is the column `versions` of a row.
        """
        return ", ".join(f"{name} {v}" for name, v in self.versions.items())


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


@cache
def _version(distribution: str) -> str:
    return metadata.version(distribution)


def reach(
    root: Path, module: str, names: Iterable[str], data: Iterable[str] = ()
) -> Reached:
    """Return all code that names of a module can reach, with a hash of each definition.

    root: the project's folder.
    module: the module's dotted name.
    names: the global names to start from.
    data: paths of files below the root whose content counts, too.

    Of a class named `Config`, the types and defaults of its fields count only if code
    that is reached may read them; otherwise their values are in the key of each run.
    Results of earlier calls are reused if no file has changed.
    """
    names, data = list(names), list(data)
    answer = remembered.Answer(root, module, names, data)
    if known := answer.recall():
        return Reached(**{k: tuple(v) if isinstance(v, list) else v
                          for k, v in known.items()})  # fmt: skip
    try:
        found, finder = _reach(root, module, names, data)
    except (MemoryError, RecursionError):  # the parser raises both
        found, finder = _with_a_deep_stack(
            lambda: _reach(root, module, names, data), module
        )
    answer.keep(finder, asdict(found))
    return found


DEEPEST = 100_000  # calls within each other, with half a GB of (virtual) stack


def _with_a_deep_stack(work, module: str):
    """What work() returns, with room for expressions of some thousand terms.

    A thread has a stack of the size that is asked for, so a higher limit is safe.
    """
    limit, size = sys.getrecursionlimit(), threading.stack_size(512 * 2**20)
    sys.setrecursionlimit(max(limit, DEEPEST))
    try:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(work).result()
    except (MemoryError, RecursionError) as error:
        raise UserError(
            f"{module}, or a file that it imports, has an expression with too many "
            "nested parts for Python: write it in several statements"
        ) from error
    finally:
        sys.setrecursionlimit(limit)
        threading.stack_size(size)


def _reach(
    root: Path, module: str, names: list[str], data: list[str]
) -> tuple[Reached, Finder]:
    """What `reach` returns, and the finder that was asked for it."""
    finder = Finder(root)
    effects = Effects(finder)
    reads: frozenset[str] = frozenset()
    while True:
        found = _Reach(finder, effects, reads, module)
        found.walk(module, names)
        if found.found <= reads:
            break
        reads |= found.found
    definitions = {
        name: _digest("\n".join(text for _, text in sorted(texts.items())))
        for name, texts in sorted(found.texts.items())
    }
    files = {name: m.digest for name, m in finder.modules.items() if m and m.path}
    counted = {name.split(":")[0] for name in definitions}
    modules = [m for name, m in finder.modules.items() if m and name in counted]
    if "source" in reads:  # it reads source text, so every letter counts
        definitions |= {f"{m.name}:source text": m.digest for m in modules}
    for name in data:
        with (root / name).open("rb") as file:
            digest = sha256(file.read()).hexdigest()[:12]
        definitions[f"data:{name}"] = digest
    packages = set().union(*(m.packages for m in modules)) - stdlib_module_names
    packages = {p for p in packages if p and not finder.module(p)}
    found = Reached(
        definitions,
        files,
        tuple(sorted(packages)),
        tuple(sorted(finder.compiled)),
    )
    return found, finder


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]


def changed(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Return the names of definitions that were changed, added or removed.

    old, new: {definition: hash} of two versions of the code.

    A name is, for instance, 'symlab.models.resnet:resnet18'. A change in what importing
    the files does, or in the order of imports, is named if no definition accounts for
    it.
    """
    found = {k for k in old.keys() | new.keys() if old.get(k) != new.get(k)}
    if ORDER in found:
        found = found - {ORDER} or {"what importing the files does, or its order"}
    return sorted(found)
