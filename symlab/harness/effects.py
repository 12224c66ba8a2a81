"""What top-level statements of a module do besides binding names.

Each statement belongs to one of three classes: it only binds names (it counts if one of
the names is used); it changes an object that the same module made, as in `TABLE["a"] =
1` (it counts if TABLE is used); or it may change anything else, and counts as soon as
its module is imported. If the syntax does not decide, it is the third.
"""

import ast
import builtins

from symlab.harness import sharing
from symlab.harness.scope import DRAWING, Scope
from symlab.harness.sharing import CALLED, beginning, held, root
from symlab.harness.source import Finder, Module, Statement
from symlab.harness.syntax import (
    COMPREHENSION,
    DEFINITION,
    FUNCTION,
    Chain,
    chain_of,
    children,
    free_names,
    on_class,
)

MAKING = {  # but these of symlab.harness make what `run` computes with
    f"symlab.harness.{name}"
    for name in ("context", "grid", "lanes", "rng", "sweep", "zipped")
}
MAKES = (
    "__init__",
    "__new__",
    "__post_init__",
    "_missing_",
    "__set_name__",
    "__enter__",
    "__exit__",
)
KEEPS = ("cache", "cached_property", "lru_cache")  # these keep a function's result


class Effects:
    """Judges what top-level statements of Python modules may change besides binding
    names.

    finder: finds first-party modules by name.
    """

    def __init__(self, finder: Finder):
        self.finder = finder
        self.judged: dict[Statement, tuple[bool, set[str]]] = {}
        self.acting: dict[tuple, bool] = {}  # definition -> whether a call acts
        self.asked: set[tuple[str, str]] = set()  # names whose making is looked at
        self.open: set[tuple] = set()  # calls that are being judged
        self.guessed: dict[tuple, bool] = {}  # judged meanwhile
        self.recurs = False  # whether one of these calls itself
        self.by_name: dict[str, dict[str, list[Statement]]] = {}  # by module
        self.holding: dict[str, dict[str, set[Chain]]] = {}  # by module

    def of(self, module: Module, s: Statement) -> tuple[bool, set[str]]:
        """Return whether a top-level statement may change anything outside its module.

        The second result is the set of the module's names whose objects it changes.
        """
        if s not in self.judged:
            self.judged[s] = (False, set())
            self.judged[s] = self._statement(module, s)
        return self.judged[s]

    def concerning(self, module: Module, name: str) -> list[Statement]:
        """Return the module's statements, in order, that bind a name or change its
        object.

        name: a global name of the module.
        """
        if module.name not in self.by_name:
            found = self.by_name[module.name] = {}
            for s in module.statements:
                for bound in {*s.names, *self.of(module, s)[1]}:
                    found.setdefault(bound, []).append(s)
        return self.by_name[module.name].get(name, [])

    def _statement(self, module: Module, s: Statement) -> tuple[bool, set[str]]:
        if s.alias is not None or s.text_only:
            return False, set()
        if isinstance(s.node, ast.Assign) and s.names == ["_"]:
            s.node.value.unused = True  # `_ = f()` is done for the effect of f
        scope = Scope(self, module, None)
        acts = scope.acts([s.node])
        for name in {chain[0] for chain in s.now} - set(s.names):
            if name in module.binding and self._used_up(module, name):
                scope.writes.add(name)
        acts = acts or any(self._notices(module, chain) for chain in s.now)
        return acts, scope.writes

    def _used_up(self, module: Module, name: str) -> bool:
        """Whether a global is an iterator, a generator or an open file."""
        for where, value in self.values(module, (name,)):
            called = chain_of(value.func) if isinstance(value, ast.Call) else None
            made = self.definitions(where, called) if called else []
            functions = [n for _, n in made if isinstance(n, FUNCTION)]
            if sharing.used_up(value) or any(map(sharing.yields, functions)):
                return True
        return False

    def _notices(self, module: Module, chain: Chain) -> bool:
        """Whether a name is of an object of ours that changes when it is looked at.

        Looked at is by an operator, an item, a property, len() and the like.
        """
        classes = [m for m in self.finder.modules.values() if m and m.watching]
        if not classes:
            return False
        queue = []
        for m, n in self.named(module, chain[:1]) + self.named(module, chain):
            if isinstance(n, ast.Call) and (called := chain_of(n.func)):
                queue += [(p, d, False) for p, d in self.definitions(m, called)]
            elif isinstance(n, ast.ClassDef):
                queue.append((m, n, True))
        while queue:
            m, n, itself = queue.pop()
            if not isinstance(n, ast.ClassDef):
                continue
            looks = [f for f in m.watching.get(n.name, ()) if itself == on_class(f)]
            if any(self.calling(m, f) for f in looks):
                return True
            queue += [(p, d, itself) for b in n.bases for p, d in self.base(m, b)]
        return False

    def records(self, module: Module, name: str) -> bool:
        """Return whether a global name of a module is a class made by `namedtuple`."""
        found = [n for _, n in self.values(module, (name,))]
        return bool(found) and all(
            isinstance(n, ast.Call)
            and (chain_of(n.func) or ("",))[-1] in ("NamedTuple", "namedtuple")
            for n in found
        )

    def definitions(self, module: Module, chain: tuple) -> list[tuple]:
        """Return the functions and classes that a dotted name may be bound to; [] if
        unknown.

        They are pairs (module, syntax node).

        chain: the parts of the name, as used in the module.
        """
        found = self._definitions(module, chain, set())
        return [(m, n) for m, n in found if isinstance(n, DEFINITION)]

    def values(self, module: Module, chain: tuple) -> list[tuple]:
        """Return the expressions that are assigned to a dotted name.

        They are pairs (module, expression).

        chain: the parts of the name, as used in the module.
        """
        return [(m, n) for m, n in self.named(module, chain) if isinstance(n, ast.expr)]

    def named(self, module: Module, chain: tuple) -> list[tuple]:
        """Return the definitions and expressions that a dotted name may stand for.

        They are pairs (module, syntax node).

        chain: the parts of the name, as used in the module.
        """
        return self._definitions(module, chain, set())

    def methods(self, name: str) -> list[tuple]:
        """Return the methods of this name in first-party classes outside of symlab.

        They are pairs (module, syntax node).
        """
        return [
            (m, n)
            for m in filter(None, self.finder.modules.values())
            if m.name.split(".")[0] != "symlab"
            for n in m.methods.get(name, ())
        ]

    def _definitions(self, module: Module, chain: tuple, seen: set) -> list[tuple]:
        head, *rest = chain
        if (module.name, chain) in seen:
            return []
        seen.add((module.name, chain))
        found = []
        for s in module.binding.get(head, ()):
            if s.alias is None and isinstance(s.node, DEFINITION) and not rest:
                found.append((module, s.node))
            elif _assigns(s):
                found += [] if rest else [(module, s.node.value)]
                alias = chain_of(s.node.value)
                if alias and s not in seen:
                    seen.add(s)  # A = B.x and B = A.x would never end
                    found += self._definitions(module, (*alias, *rest), seen)
            elif s.alias is None and isinstance(s.node, ast.ClassDef):
                found += [(module, n) for n in _members(s.node, rest)]
            for target, attribute in s.imports.get(head, ()):
                onward = ((attribute,) if attribute else ()) + tuple(rest)
                found += self._across(target, onward, seen)
        if head not in module.binding:
            for star in module.stars:
                found += self._across(star.star, chain, seen)
        return found

    def _across(self, name: str, chain: tuple, seen: set) -> list[tuple]:
        module = self.finder.module(name)
        while module and chain and chain[0] not in module.binding:
            inner = self.finder.module(f"{module.name}.{chain[0]}")
            if inner is None:
                break
            module, chain = inner, chain[1:]
        return self._definitions(module, chain, seen) if module and chain else []

    def foreign(self, module: Module, head: str) -> bool:
        """Return whether a name in a module is a builtin or comes from a third-party
        module.

        head: the name, without attributes.
        """
        bindings = module.binding.get(head)
        if bindings is None:
            if head.startswith("import:"):
                return not self.ours(head.removeprefix("import:"), None)
            return hasattr(builtins, head)
        targets = [t for s in bindings for t in s.imports.get(head, ())]
        if len(targets) < len(bindings) or not targets:
            return False
        return not any(self.ours(*t) for t in targets)

    def ours(self, name: str, attribute: str | None) -> bool:
        """Return whether a name, with an attribute if one is given, is a first-party
        module.
        """
        inner = f"{name}.{attribute}" if attribute else name
        return bool(self.finder.module(name) or self.finder.module(inner))

    def draws(self, module: Module, chain: Chain) -> bool:
        """Return whether a name comes from the harness or a plotting package.

        Calls of these change no result.

        chain: the parts of the name, as used in the module: `where`, or `h.where` after
            `from symlab import harness as h`.

        A name that is bound to what such calls return counts, too, for instance a
        selection of rows in `NOISE = where(study="noise")`.
        """
        head, *rest = chain
        bindings = module.binding.get(head, ())
        targets = [t for s in bindings for t in s.imports.get(head, ())]
        if targets:
            paths = [".".join([*filter(None, t), *rest, ""]) for t in targets]
            return len(targets) == len(bindings) and all(
                p.startswith(tuple(f"{d}." for d in DRAWING))
                and not p.startswith(tuple(f"{m}." for m in MAKING))
                for p in paths
            )
        if not bindings or (module.name, head) in self.asked:
            return False
        self.asked.add((module.name, head))
        values = [getattr(s.node, "value", None) for s in bindings if _assigns(s)]
        made = len(values) == len(bindings) and all(
            self.made_by_drawing(module, v) for v in values
        )
        self.asked.discard((module.name, head))
        return made

    def made_by_drawing(self, module: Module, value) -> bool:
        """Return whether every part of a value is made by the harness or a plotting
        package.

        It is made by them if it is a call of one of them, or of an object that they
        made.
        """
        if isinstance(value, (ast.Tuple, ast.List, ast.Dict)):
            parts = value.values if isinstance(value, ast.Dict) else value.elts
            parts = [v for v in parts if not isinstance(v, ast.Constant)]
            return bool(parts) and all(self.made_by_drawing(module, v) for v in parts)
        if isinstance(value, COMPREHENSION):
            part = value.value if isinstance(value, ast.DictComp) else value.elt
            return self.made_by_drawing(module, part)
        if isinstance(value, ast.Call) and chain_of(value.func) == ("partial",):
            chain = chain_of(value.args[0]) if value.args else None
            return bool(chain) and self.draws(module, chain)
        made = isinstance(value, (ast.Subscript, ast.Call))
        return made and self.draws(module, beginning(value))

    def calling(
        self, module: Module, node, deep=False, owner=None, trust: int = 0
    ) -> bool:
        """Return whether a call of a first-party function or class may change something
        outside.

        node: the definition of the function or class.
        deep: whether what the call returns is called, too.
        owner: the class, if the function is a method.
        trust: 1 if no other code holds the objects that are passed as arguments; 2 if
            the function is only passed on, so that only its effect on globals counts.
        """
        key = (id(node), deep, trust)
        if key in self.open:
            self.recurs = True
            return False  # of a recursion, the rest decides
        if key in self.acting or key in self.guessed:
            return self.acting.get(key, self.guessed.get(key))
        self.open.add(key)
        if isinstance(node, ast.ClassDef):
            acts = self._making(module, node, trust)
        else:
            scope = Scope(self, module, node, deep, owner, trust)
            acts = scope.acts(node.body) or bool(scope.writes)
            acts = acts or self._keeps(module, node)
        self.open.discard(key)
        self.guessed[key] = acts
        if not self.open:  # "no" holds if it was no answer to a call that acts
            final = not (acts and self.recurs)
            self.acting.update({k: a for k, a in self.guessed.items() if a or final})
            self.acting[key] = acts
            self.guessed, self.recurs = {}, False
        return acts

    def _making(self, module: Module, node: ast.ClassDef, trust: int) -> bool:
        """Whether making an instance acts: its own methods, and those of its bases."""
        methods = [m for m in node.body if isinstance(m, FUNCTION) and m.name in MAKES]
        if any(self.calling(module, m, owner=node, trust=trust) for m in methods):
            return True
        scope = Scope(self, module, None)
        if any(scope.called_back(f) for f in _factories(node)):
            return True
        return self.collects(module, node) or any(
            self.calling(m, n, trust=trust)
            for b in node.bases
            for m, n in self.base(module, b)
        )

    def _keeps(self, module: Module, node) -> bool:
        """Whether a call keeps a result that depends on objects that may change: made
        before such a change, it is another result for all later calls.
        """
        made = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
        kept = any((chain_of(d) or ("",))[-1] in KEEPS for d in made)
        return kept and not self._constant(module, node, set())

    def _constant(self, module: Module, function, seen: set) -> bool:
        """Whether a function, and ours that it calls, read fixed names only."""
        seen.add(id(function))
        return all(
            self.fixed(module, chain)
            and all(
                self._constant(m, n, seen)
                for m, n in self.definitions(module, chain)
                if isinstance(n, FUNCTION) and id(n) not in seen
            )
            for chain in free_names(function)
        )

    def base(self, module: Module, expression) -> list[tuple]:
        """Return the classes that an expression in a class's list of bases may be.

        They are pairs (module, syntax node).
        """
        if isinstance(expression, ast.Subscript):  # Base[int]
            expression = expression.value
        chain = chain_of(expression)
        return self.definitions(module, chain) if chain else []

    def collects(self, module: Module, node: ast.ClassDef, inner=False) -> bool:
        """Return whether first-party code runs when this class, or a subclass, is
        defined.

        node: the definition of the class.
        inner: whether it is a base class of the class in question, so that its
            `__init_subclass__` runs.
        """
        meta = [k.value for k in node.keywords if k.arg == "metaclass"]
        if any(not self.foreign(module, (chain_of(k) or ("",))[0]) for k in meta):
            return True
        if not all(self._known(module, b) for b in node.bases):
            return True
        hooks = {n.name for n in node.body if isinstance(n, FUNCTION)}
        if inner and "__init_subclass__" in hooks:
            return True
        if hooks & set(MAKES) and self._enumerates(module, node):  # members are made
            made = [n for n in node.body if getattr(n, "name", "") in MAKES]
            if any(self.calling(module, n, owner=node) for n in made):
                return True
        return any(
            self.collects(m, n, inner=True)
            for b in node.bases
            for m, n in self.base(module, b)
            if isinstance(n, ast.ClassDef)
        )

    def _enumerates(self, module: Module, node: ast.ClassDef) -> bool:
        """Whether a class has a base of the module enum."""
        chains = filter(None, map(chain_of, node.bases))
        return any(self.path(module, c).startswith("enum.") for c in chains)

    def _known(self, module: Module, base) -> bool:
        """Whether a base class is of others, or a class statement of ours."""
        name = root(base)
        return self.foreign(module, name) or any(
            isinstance(n, ast.ClassDef) for _, n in self.base(module, base)
        )

    def derives(self, module: Module, node) -> bool:
        """Return whether a syntax node is a class with a first-party base class."""
        return isinstance(node, ast.ClassDef) and any(
            self.base(module, b) for b in node.bases
        )

    def path(self, module: Module, chain: Chain) -> str:
        """Return the full name of a third-party object.

        It is 'numpy.random.rand' for np.random.rand.

        chain: the parts of the name, as used in the module.
        """
        bindings = module.binding.get(chain[0], ())
        targets = [t for s in bindings for t in s.imports.get(chain[0], ())]
        words = [".".join(filter(None, t)) for t in targets[:1]]
        if not targets:
            words = ["builtins", chain[0]]
        return ".".join([*words, *chain[1:]])

    def immutable(self, module: Module, value, seen: frozenset = frozenset()) -> bool:
        """Return whether the value of an expression is of an immutable type.

        seen: what is being judged already, which ends recursion.
        """
        if isinstance(value, (ast.Constant, ast.JoinedStr, ast.Compare, ast.Lambda)):
            return True
        if isinstance(value, ast.Call):
            called = chain_of(value.func) or ("",)
            made = self.definitions(module, called)
            if made and all(map(_frozen, (n for _, n in made))):
                return True
            if called[-1] not in sharing.IMMUTABLE:
                return False
            return self.foreign(module, called[0]) and all(
                chain[-1] == CALLED or self.fixed(module, chain, seen)
                for chain in held(value)
            )
        if isinstance(value, (ast.Tuple, ast.BinOp, ast.UnaryOp, ast.IfExp)):
            parts = [n for n in children(value) if isinstance(n, ast.expr)]
            return all(self.immutable(module, n, seen) for n in parts)
        chain = chain_of(value)
        return bool(chain) and self.fixed(module, chain, seen)

    def fixed(self, module: Module, chain: Chain, seen: frozenset = frozenset()):
        """Return whether a dotted name is a third-party object, a definition or an
        immutable value.

        chain: the parts of the name, as used in the module.
        seen: what is being judged already, which ends recursion.
        """
        if (module.name, chain) in seen:
            return False
        if self.foreign(module, chain[0]) or self.draws(module, chain):
            return True
        found = self._definitions(module, chain, set())
        seen = seen | {(module.name, chain)}
        return bool(found) and all(
            isinstance(n, DEFINITION) or self.immutable(m, n, seen) for m, n in found
        )


def _assigns(s: Statement) -> bool:
    kinds = (ast.Assign, ast.AnnAssign)
    return s.alias is None and isinstance(s.node, kinds) and s.node.value is not None


def _factories(node: ast.ClassDef) -> list[ast.expr]:
    """What a dataclass calls for the values of fields that an instance is not given."""
    values = [getattr(n, "value", None) for n in node.body]
    calls = [v for v in values if isinstance(v, ast.Call)]
    return [k.value for c in calls for k in c.keywords if k.arg == "default_factory"]


def _frozen(node) -> bool:
    """Whether a definition is a class of frozen instances."""
    return isinstance(node, ast.ClassDef) and any(
        k.arg == "frozen" and getattr(k.value, "value", False)
        for d in node.decorator_list
        if isinstance(d, ast.Call)
        for k in d.keywords
    )


def _members(node: ast.ClassDef, rest: list[str]) -> list[ast.AST]:
    """The methods and the values in a class body that `rest` names."""
    found: list[ast.AST] = []
    for n in node.body:
        targets = getattr(n, "targets", [getattr(n, "target", None)])
        if isinstance(n, FUNCTION) and [n.name] == rest:
            found.append(n)
        elif isinstance(n, (ast.Assign, ast.AnnAssign)) and n.value is not None:
            found += [n.value for x in targets if [getattr(x, "id", "")] == rest]
    return found
