"""Whether executing a function, or the top level of a file, has an effect outside it.

Effects are judged from the syntax alone. A third-party object may be changed by every
function that it is passed to, and a global by changing any object that may share memory
with it (sharing.py). If the syntax does not decide, an effect is assumed.
"""

import ast

from symlab.harness import sharing
from symlab.harness.sharing import CALLED, SCALARS, held, root
from symlab.harness.source import Module
from symlab.harness.syntax import (
    COMPREHENSION,
    DEFINITION,
    FUNCTION,
    Chain,
    arguments,
    bound_in,
    chain_of,
    children,
    on_class,
    own,
    walk,
)

DRAWING = ("matplotlib", "seaborn", "symlab.harness")  # these change no result
SETS = ("enable_", "manual_seed", "set_", "setbuf", "seterr", "use_")
DRAWS = ("rvs", "sample", "train_test_split")
ACTS = {"exec", "eval", "setattr", "delattr", "next", "__import__", "globals", "vars"}
QUIET = {  # modules of others whose functions change nothing but what they are given
    "abc", "array", "ast", "base64", "bisect", "builtins", "calendar", "cmath",
    "collections", "copy", "csv", "dataclasses", "datetime", "decimal.Decimal",
    "difflib", "enum", "fnmatch", "fractions", "functools", "glob", "hashlib", "heapq",
    "html", "importlib.metadata", "importlib.resources", "importlib.util.find_spec",
    "inspect", "io", "itertools", "json", "logging.getLogger", "math", "numbers",
    "numpy", "operator", "os.cpu_count", "os.fspath", "os.getcwd", "os.getenv",
    "os.path", "pandas", "pathlib", "platform", "pyarrow", "random.Random", "re",
    "scipy.constants", "scipy.fft", "scipy.integrate", "scipy.interpolate",
    "scipy.linalg", "scipy.special", "shlex", "statistics", "string", "struct",
    "sysconfig", "textwrap", "threading.Lock", "threading.local", "time",
    "torch.Generator", "torch.arange", "torch.cuda.is_available", "torch.device",
    "torch.eye", "torch.finfo", "torch.full", "torch.linspace", "torch.ones",
    "torch.tensor", "torch.utils.weak", "torch.zeros", "types", "typing",
    "typing_extensions", "unicodedata", "urllib.parse", "weakref", "zlib", "zoneinfo",
}  # fmt: skip
LOOKS = {  # methods of Python's and numpy's objects that change nothing
    "all", "any", "astype", "cdf", "copy", "count", "decode", "encode", "endswith",
    "exists", "flatten", "format", "get", "index", "is_dir", "is_file", "isf",
    "issubset", "item", "items", "join", "keys", "logpdf", "lower", "lstrip", "max",
    "mean", "min", "pdf", "ppf", "ravel", "read_text", "removeprefix", "removesuffix",
    "replace", "reshape", "resolve", "rstrip", "sf", "split", "splitlines",
    "startswith", "std", "strip", "sum", "title", "tolist", "transpose", "union",
    "upper", "values", "with_name", "with_suffix",
}  # fmt: skip
CHANGES = {  # functions of others that change what they are given
    "heappop", "heappush", "heapify", "heapreplace", "heappushpop", "shuffle", "insort",
    "insort_left", "insort_right", "setitem", "delitem", "iadd", "iconcat", "copyto",
    "fill_diagonal", "place", "putmask", "register", "__setattr__", "__delattr__",
}  # fmt: skip
VIEWS = {  # functions of others whose result may be, or hold, what they are given
    "asarray", "asanyarray", "ravel", "reshape", "atleast_1d", "atleast_2d", "squeeze",
    "transpose", "swapaxes", "moveaxis", "broadcast_to", "as_tensor", "from_numpy",
    "memoryview", "iter", "map", "filter", "zip", "reversed", "enumerate", "cast",
    "next", "getattr", "vars", "max", "min",
}  # fmt: skip
PARTIALS = (("partial",), ("functools", "partial"))
DISPLAY = (ast.List, ast.Dict, ast.Set, ast.Tuple, ast.Constant, ast.JoinedStr)
FRESH = (*DISPLAY, *COMPREHENSION, ast.BinOp, ast.Compare, ast.UnaryOp)


class Scope:
    """What executing a function, or the top level of a module, may change.

    It follows the names and objects of the function or module as far as the syntax
    shows them.
    """

    def __init__(
        self, effects, module: Module, function, deep=False, owner=None,
        trust: int = 0,
    ):  # fmt: skip
        self.effects, self.module, self.function = effects, module, function
        self.deep, self.owner, self.own, self.trust = deep, owner, "", trust
        self.cls = ""  # the first argument of __new__ or of a class method
        self.made_of_own: set[str] = set()  # attributes that a constructor sets
        self.writes: set[str] = set()
        self.local: set[str] = set()
        self.fresh: set[str] = set()
        self.given: set[str] = set()
        self.nested: set[str] = set()  # functions and classes defined within
        if function is not None:
            self.local, _ = bound_in(function)
            self.given = {a.arg for a in arguments(function)}
            nodes = list(own(function.body))
            self.given -= (shared := _shared(function))  # made once, with the function
            self.fresh = set(self.given) if trust else set()
            for _ in range(3):  # objects made of objects made here
                made = self._made(nodes)
                self.fresh |= made if trust else made - self.given
            self.fresh = (set(self.local) if trust == 2 else self.fresh) - shared
            self.nested = {n.name for n in nodes if isinstance(n, DEFINITION)}
            self.used = _loaded(function)
            if on_class(function) and function.args.args:
                self.cls = function.args.args[0].arg
            if owner is not None and function.args.args:
                self.own = function.args.args[0].arg
                self.made_of_own = {
                    n.attr
                    for n in nodes
                    if isinstance(n, ast.Attribute)
                    and isinstance(n.ctx, ast.Store)
                    and chain_of(n.value) == (self.own,)
                }

    def _made(self, nodes: list) -> set[str]:
        """Local names that are only ever bound to objects made here."""
        made, other = set(), set()
        for n in nodes:
            if isinstance(n, ast.Assign) or (isinstance(n, ast.AnnAssign) and n.value):
                targets = n.targets if isinstance(n, ast.Assign) else [n.target]
                for t in targets:
                    single = isinstance(t, ast.Name)
                    names = {x.id for x in walk(t) if isinstance(x, ast.Name)}
                    fresh = single and self._is_fresh(n.value)
                    (made if fresh else other).update(names)
            elif isinstance(n, (ast.For, ast.AsyncFor)):
                other |= {x.id for x in walk(n.target) if isinstance(x, ast.Name)}
            elif isinstance(n, ast.withitem) and n.optional_vars:
                walked = walk(n.optional_vars)
                other |= {x.id for x in walked if isinstance(x, ast.Name)}
            elif isinstance(n, ast.NamedExpr):
                other.add(n.target.id)
        return made - other

    def _is_fresh(self, value) -> bool:
        if isinstance(value, FRESH):
            return True
        if isinstance(value, ast.Name):
            return value.id in self.fresh
        if isinstance(value, (ast.Attribute, ast.Subscript)):
            return self._is_fresh(value.value)
        if isinstance(value, ast.IfExp):
            return self._is_fresh(value.body) and self._is_fresh(value.orelse)
        if not isinstance(value, ast.Call):
            return False
        chain = chain_of(value.func)
        if chain is None:
            return isinstance(value.func, ast.Attribute) and self._is_fresh(
                value.func.value
            )
        if chain[0] in self.local:
            return len(chain) > 1 and chain[0] in self.fresh
        views = chain[-1] in VIEWS and self.function is not None
        if views and not all(map(self._plain, value.args)):
            return False  # at the top level `_change` looks at what is shared
        return self.effects.foreign(self.module, chain[0]) and self._quiet(chain)

    def _quiet(self, chain: Chain) -> bool:
        """Whether a function of others changes nothing but what it is given."""
        path = self.effects.path(self.module, chain)
        last = chain[-1]
        if last in LOOKS or path.startswith(DRAWING):
            return True
        if last.startswith(SETS) or self._draws_numbers(chain):
            return False
        return any(f"{path}.".startswith(f"{q}.") for q in QUIET)

    def _plain(self, value) -> bool:
        """Whether an argument is an object that the function may change unnoticed."""
        if isinstance(value, (ast.List, ast.Tuple, ast.Set)):
            return all(self._plain(v) for v in value.elts)
        if isinstance(value, ast.Dict):
            return all(self._plain(v) for v in value.values)
        if isinstance(value, (ast.Starred, ast.keyword)):
            return self._plain(value.value)
        if self._is_fresh(value) or isinstance(value, ast.Lambda):
            return True
        chain = chain_of(value)
        if chain is None or chain[0] in self.local:
            return False
        if self.effects.foreign(self.module, chain[0]):
            return True
        if self.effects.definitions(self.module, chain):
            return True
        bindings = self.module.binding.get(chain[0], ())
        return bool(bindings) and all(
            isinstance(getattr(s.node, "value", None), ast.Constant) for s in bindings
        )

    def acts(self, nodes: list) -> bool:
        """Return whether executing statements may change anything outside this scope.

        nodes: the syntax nodes of the statements.
        """
        return any([self._acts(n, set()) for n in nodes])  # all, for `writes`

    def _acts(self, n: ast.AST, inner: set[str]) -> bool:
        """inner: names of classes, lambdas and comprehensions around the node."""
        if isinstance(n, (FUNCTION, ast.ClassDef)):
            found = [self._called(d, inner, False, given=[]) for d in n.decorator_list]
            for d in n.decorator_list:
                if isinstance(d, ast.Call):
                    given = [*d.args, *(k.value for k in d.keywords)]
                    found += [self._acts(a, inner) for a in given]
            if isinstance(n, FUNCTION):
                now = [*n.args.defaults, *filter(None, n.args.kw_defaults)]
                if self.function is not None and (self.deep or n.name in self.used):
                    names = inner | bound_in(n)[0]
                    found += [self._acts(x, names) for x in n.body]
                return any(found + [self._acts(x, inner) for x in now])
            found.append(self.effects.collects(self.module, n))
            above = [*n.bases, *(k.value for k in n.keywords)]
            found += [self._acts(x, inner) for x in above]
            found += [self._names_itself(x, inner) for x in n.body]
            names = {x for s in n.body for y in own([s]) for x in _names(y)}
            found += [self._acts(x, inner | names) for x in n.body]
            return any(found)
        if isinstance(n, (ast.Global, ast.Nonlocal)):
            return isinstance(n, ast.Global)
        if isinstance(n, ast.Raise):  # making an exception changes nothing else
            given = n.exc.args if isinstance(n.exc, ast.Call) else []
            return any([self._acts(a, inner) for a in given])
        found = []
        if isinstance(n, ast.Lambda):  # called with arguments that we do not know
            return self._lambda(n, inner)
        if isinstance(n, COMPREHENSION):
            inner = inner | {x for y in walk(n) for x in _names(y)}
        if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call):
            if self._new_attribute(n.value):
                return False
            found.append(self._calls(n.value, inner, True))
            inside = [*children(n.value)][1:]
            if isinstance(n.value.func, ast.Call):  # f(...)(...)
                inside.append(n.value.func)
            return any(found + [self._acts(a, inner) for a in inside])
        if isinstance(n, ast.Expr) and self._evaluates(n.value):
            return True
        if isinstance(n, ast.Call):
            found.append(self._calls(n, inner, _unused(n)))
        if isinstance(n, (ast.Attribute, ast.Subscript)) and not isinstance(
            n.ctx, ast.Load
        ):
            found.append(self._stores(n.value, inner))
        if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name):
            found.append(self._stores(n.target, inner))
        elif isinstance(n, ast.AugAssign) and self.function is None:
            found.append(self._change((root(n.target),)))  # what is held, too
        found += [self._acts(c, inner) for c in children(n)]
        return any(found)

    def _calls(self, call: ast.Call, inner: set[str], thrown: bool) -> bool:
        """Whether a call acts, by itself or on what it is given."""
        given = [*call.args, *(k.value for k in call.keywords)]
        trust = all(map(self._plain, given))
        if self._called(call.func, inner, thrown, trust, given):
            return True
        called = chain_of(call.func) or ("",)
        if self._harmless(called, inner):
            return False
        if self.function is None and self.effects.made_by_drawing(self.module, call):
            return False
        later = called[-1] in SCALARS | {"partial"}  # these do not call what is given
        if not later and any([self._given(a, inner) for a in given]):
            return True
        if called[0] in inner | self.local:
            return False
        if self.effects.foreign(self.module, called[0]):
            return self._calls_others(call, called, inner, thrown)
        if self.function is not None or self._is_container(called[0]):
            return False
        if called[-1] in LOOKS or self._ours(called, inner):
            return False
        return self._touches(given, inner)  # a method of an object that we do not know

    def _calls_others(self, call, called: Chain, inner: set[str], thrown: bool) -> bool:
        """Whether a function of others acts, by itself or on what it is given."""
        given = [*call.args, *(k.value for k in call.keywords)]
        if self.trust < 2 and not (thrown or self._quiet(called)):
            return True
        if called[-1] in LOOKS | SCALARS | {"partial"}:
            return False
        path = self.effects.path(self.module, called)
        plain = path.count(".") == 1 or called[-1] == "fromkeys"
        if not (plain and path.startswith(("builtins.", "math."))):
            return self._touches(given, inner)
        if called == ("type",) and len(given) == 3:  # it makes a class
            bases = getattr(given[1], "elts", [given[1]])
            return any(not self.effects.foreign(self.module, root(b)) for b in bases)
        changed = [k.value for k in call.keywords if k.arg in ("file", "key")]
        changed += given[:1] if called in (("map",), ("filter",)) else []
        return self._touches(changed, inner)

    def _touches(self, values: list, inner: set[str]) -> bool:
        """These values are handed to a function that may change them."""
        found = False
        for chain in sorted(set().union(*map(held, values))):
            if chain[-1] == CALLED or chain[0] in inner:
                continue
            if chain[0] in self.local:
                given = chain[0] in self.given and chain[0] not in self.fresh
                found |= given and self.trust == 0
            else:
                found |= self._change(chain, results=False)
        return found

    def _change(self, chain: Chain, results: bool = True) -> bool:
        """What a global is or holds may be changed; True where it is not made here.

        results: also objects that functions of ours returned.
        """
        if self.function is not None:
            return not self.effects.fixed(self.module, chain)
        if self.module.name not in self.effects.holding:
            self.effects.holding[self.module.name] = sharing.holdings(self.module)
        holding = self.effects.holding[self.module.name]
        acts, seen, queue = False, set(), [chain]
        while queue:
            chain = queue.pop()
            if chain in seen:
                continue
            seen.add(chain)
            if chain[-1] == CALLED:
                acts |= results and not self._makes_new(chain[:-1])
                continue
            if self.effects.fixed(self.module, chain):
                continue
            if self._made_here(chain[0]):
                self.writes.add(chain[0])
            elif chain[0] not in holding or self._assigned(chain[0]):
                acts = True
            queue += holding.get(chain[0], ())
        return acts

    def _makes_new(self, chain: Chain) -> bool:
        """Whether what a call returns is others' or an instance of a class of ours."""
        if self.effects.foreign(self.module, chain[0]):
            return True
        if self.effects.draws(self.module, chain):
            return True
        found = self.effects.definitions(self.module, chain)
        if not found:  # a method: its object is looked at itself
            return len(chain) > 1 and self._made_here(chain[0])
        return all(isinstance(n, ast.ClassDef) for _, n in found)

    def _assigned(self, name: str) -> bool:
        """Whether a global is bound otherwise than by a loop or a with."""
        bindings = self.module.binding.get(name, ())
        loops = (ast.For, ast.AsyncFor, ast.With, ast.AsyncWith)
        return not all(isinstance(s.node, loops) for s in bindings)

    def _is_container(self, name: str) -> bool:
        """Whether a global is a list, dict or set that was made as such."""
        if name in self.local:
            return False
        bindings = self.module.binding.get(name, ())
        nodes = [s.node for s in bindings if not isinstance(s.node, ast.AugAssign)]
        return bool(nodes) and all(
            sharing.container(getattr(n, "value", None)) for n in nodes
        )

    def _looks(self, method: str) -> bool:
        """Whether a method of this name changes nothing, of whatever object."""
        if method not in LOOKS:
            return False
        found = self.effects.methods(method)
        return not any(self.effects.calling(m, n) for m, n in found)

    def _names_itself(self, statement, inner: set[str]) -> bool:
        """A class attribute whose object is told its name (__set_name__)."""
        chain = chain_of(getattr(statement, "value", None))
        if not isinstance(statement, ast.Assign) or chain is None:
            return False
        return any(
            self.effects.calling(m, n)
            for where, value in self.effects.values(self.module, chain)
            if isinstance(value, ast.Call)
            for place, node in self.effects.base(where, value.func)
            for m, n in self.effects.definitions(place, (node.name, "__set_name__"))
        )

    def _evaluates(self, value) -> bool:
        """Whether an expression alone is there for what its operators do."""
        if isinstance(value, (ast.BinOp, ast.Subscript, ast.Attribute, ast.UnaryOp)):
            return self.function is None or root(value) not in self.local
        return False

    def _stores(self, value, inner: set[str]) -> bool:
        """Something of `value` is set; False where it is an object of this scope."""
        if not isinstance(value, ast.Name):
            chain = chain_of(value)
            if chain and chain[0] == self.own and chain[1:2] and self._of_own(chain[1]):
                return False
            return not (chain and self._draws_only(chain[0]))
        name = value.id
        if name in inner or name == self.cls:
            return True
        if self.function is not None:
            made = self.function.name != "__new__" and name == self.own
            return not (made or name in self.fresh)
        if self._draws_only(name):
            return False
        if self._made_here(name):
            if not self._is_container(name):
                return self._change((name,))
            self.writes.add(name)
            return False
        return True

    def _draws_only(self, name: str) -> bool:
        """Whether what is set in an object of this name changes only drawing."""
        bindings = self.module.binding.get(name, ())
        targets = [t for s in bindings for t, _ in s.imports.get(name, ())]
        mine = any(t.startswith("symlab") for t in targets)
        return not mine and self.effects.draws(self.module, (name,))

    def _of_own(self, attribute: str) -> bool:
        """Whether an attribute of a new object was made by its constructor."""
        return attribute in self.made_of_own

    def _made_here(self, name: str) -> bool:
        """Whether a global of this module is only ever bound to objects made here."""
        bindings = self.module.binding.get(name, ())
        nodes = [s.node for s in bindings if not isinstance(s.node, ast.AugAssign)]
        simple = all(isinstance(n, (ast.Assign, ast.AnnAssign)) for n in nodes)
        return bool(nodes) and simple and name in self._made(nodes)

    def _lambda(self, n: ast.Lambda, inner: set[str]) -> bool:
        names = {a.arg for a in arguments(n)}
        defaults = [*n.args.defaults, *filter(None, n.args.kw_defaults)]
        if any([self._acts(d, inner) for d in defaults]):
            return True
        before = self.local, self.fresh, self.trust
        self.local, self.fresh = self.local | names, self.fresh | names
        self.trust = 2
        acts = self._acts(n.body, inner - names)
        self.local, self.fresh, self.trust = before
        return acts

    def _new_attribute(self, call: ast.Call) -> bool:
        """Whether it is object.__setattr__(self, ...) in a constructor."""
        chain = chain_of(call.func) or ("",)
        first = chain_of(call.args[0]) if call.args else None
        return chain == ("object", "__setattr__") and first == (self.own,)

    def _given(self, value, inner: set[str]) -> bool:
        """A function that is handed to a call may be called, on what we do not know."""
        if isinstance(value, (ast.Tuple, ast.List)):
            return any([self._given(v, inner) for v in value.elts])
        chain = chain_of(value)
        if chain is None or chain[0] in inner | self.local:
            return False
        found = self.effects.named(self.module, chain)
        return any([self._calls_back(m, n) for m, n in found])

    def called_back(self, value) -> bool:
        """Return whether calling an expression's value without arguments may have an
        effect.

        value: the syntax node of the expression.
        """
        chain = chain_of(value)
        if chain is None:
            return self._calls_back(self.module, value)
        known = self.effects.foreign(self.module, chain[0])
        if chain[1:] and not (known or self.effects.named(self.module, chain)):
            return chain[-1] not in LOOKS  # a method of an object
        return self._given(value, set())

    def _calls_back(self, module: Module, node) -> bool:
        """Whether a function, a class or a partial of one acts when it is called."""
        if isinstance(node, ast.ClassDef) and self.effects.collects(module, node, True):
            return True
        if isinstance(node, DEFINITION):
            return self.effects.calling(module, node, trust=2)
        scope = Scope(self.effects, module, None)
        if isinstance(node, ast.Lambda):
            return scope._lambda(node, set()) or bool(scope.writes)
        if isinstance(node, ast.Call) and chain_of(node.func) in PARTIALS:
            return any([scope._given(a, set()) for a in node.args])
        return False

    def _called(
        self, callee, inner: set[str], thrown: bool, trust=False, given=()
    ) -> bool:
        """Whether a call acts; thrown: its result is not used."""
        trust = 2 if self.trust == 2 else int(trust)
        if isinstance(callee, ast.Lambda):
            return self._lambda(callee, inner)
        if isinstance(callee, ast.Call):  # a decorator with arguments, or f()()
            chain = chain_of(callee.func)
            if chain and self._outside(chain, inner):
                parts = [*callee.args, *(k.value for k in callee.keywords)]
                acts = thrown or any([self._given(a, inner) for a in parts])
                return chain[-1] == "register" or acts
            if chain and (found := self._ours(chain, inner)) is not None:
                return any(
                    self.effects.calling(m, n, deep=True, trust=trust) for m, n in found
                )
            return True
        chain = chain_of(callee)
        if chain is None:
            return self._method(callee, inner, thrown)
        head, *rest = chain
        if self.trust == 2 and head in inner | self.fresh:
            return False
        if head in inner and not rest:
            return head not in self.local
        if head in inner | self.local:
            if not rest:
                return head not in self.nested
            if head == self.cls and len(rest) > 1:
                return not self._looks(rest[-1])
            if head == self.own and head:
                return self._own_method(rest)
            known = rest[-1] in ("setter", "getter") or self._looks(rest[-1])
            return not (head in self.fresh or known)
        if self._harmless(chain, inner):
            return False
        if self.effects.foreign(self.module, head):
            acts = head in ACTS or chain[-1] in CHANGES or self._draws_numbers(chain)
            return acts or (thrown and head != "print")
        if not rest and self.effects.records(self.module, head):
            return False
        found = self._ours(chain, inner)
        if found is not None:
            return self._acts_on(found, trust, given, inner)
        looks = bool(rest) and self._looks(rest[-1]) and not thrown
        if looks and len(rest) == 1 and (methods := self._methods(head, rest[0])):
            return any(self.effects.calling(m, n) for m, n in methods)
        if rest and self.function is None and self._made_here(head):
            if looks:
                return False
            if rest[-1] in DRAWS or len(rest) > 1:
                return True
            if not self._is_container(head):
                return self._change((head,))
            self.writes.add(head)
            return False
        return not looks

    def _acts_on(self, found: list, trust: int, given, inner: set[str]) -> bool:
        """Whether functions of ours act, by themselves or on what they are given."""
        if any(self.effects.calling(m, n, trust=max(trust, 1)) for m, n in found):
            return True
        if trust or not any(self.effects.calling(m, n) for m, n in found):
            return False
        return self._touches(list(given), inner)

    def _own_method(self, rest: list[str]) -> bool:
        """A constructor calls a method of the new object, or of its attribute."""
        if len(rest) > 1:
            return not (self._looks(rest[-1]) or self._of_own(rest[0]))
        methods = [m for m in self.owner.body if isinstance(m, FUNCTION)]
        found = [m for m in methods if m.name == rest[0]]
        return not found or any(
            self.effects.calling(self.module, m, owner=self.owner) for m in found
        )

    def _from_table(self, chain) -> bool:
        """A function of a table like METHODS[name] is called: any that it names."""
        bindings = self.module.binding.get(chain[0], ())
        if chain[0] in self.local or not bindings or any(s.alias for s in bindings):
            return True
        if chain[0] in sharing.changed(self.module):
            return True  # items are set by other statements
        names = {c for s in bindings for c in s.free(False)}
        found = {c: self.effects.definitions(self.module, c) for c in sorted(names)}
        if not all(d or self.effects.fixed(self.module, c) for c, d in found.items()):
            return True
        every = [d for defined in found.values() for d in defined]
        return not every or any(self.effects.calling(m, n, trust=2) for m, n in every)

    def _ours(self, chain, inner) -> list | None:
        if chain[0] in inner | self.local:
            return None
        return self.effects.definitions(self.module, chain) or None

    def _methods(self, head: str, name: str) -> list[tuple]:
        """The methods of that name of what a global instance of ours is made of."""
        return [
            (m, n)
            for where, value in self.effects.values(self.module, (head,))
            if isinstance(value, ast.Call)
            for place, made in self.effects.base(where, value.func)
            if isinstance(made, ast.ClassDef)
            for m, n in self.effects.definitions(place, (made.name, name))
        ]

    def _draws_numbers(self, chain) -> bool:
        """Whether a function of others advances a random state that all share."""
        path = self.effects.path(self.module, chain).split(".")
        last = path[-1]
        constructs = last[:1].isupper() or last == "default_rng"
        return (
            last.startswith("rand")
            or last in DRAWS
            or ("random" in path[:-1] and not constructs)
        )

    def _harmless(self, chain, inner) -> bool:
        return chain[0] not in inner | self.local and self.effects.draws(
            self.module, chain
        )

    def _outside(self, chain, inner) -> bool:
        """Whether a dotted name is drawing's, a builtin's or somebody else's."""
        if chain[0] in inner | self.local:
            return False
        return self._harmless(chain, inner) or self.effects.foreign(
            self.module, chain[0]
        )

    def _method(self, callee, inner, thrown: bool) -> bool:
        """A call of what is no dotted name: a method of a result, a function in one."""
        if isinstance(callee, ast.Subscript) and (chain := chain_of(callee.value)):
            return self._from_table(chain)
        if not isinstance(callee, ast.Attribute):
            return True
        if root(callee) not in self.local | inner and self.effects.made_by_drawing(
            self.module, callee.value
        ):
            return False
        made, name = callee.value, root(callee)
        called = chain_of(made.func) if isinstance(made, ast.Call) else None
        if called == (name, "setdefault") and self._is_container(name):
            return self._change((name,))  # T.setdefault(key, []).append(...)
        if self.trust == 2 and not thrown:
            return False
        if self.trust == 2 and root(callee) in self.local | inner:
            return False
        if not self._is_fresh(callee.value) or thrown:
            return not self._looks(callee.attr)
        if self.function is None and not self._looks(callee.attr):
            return callee.attr in DRAWS or self._touches([callee.value], inner)
        return False


def _shared(function) -> set[str]:
    """Arguments whose default is an object that all calls share."""
    a = function.args
    plain = [*a.posonlyargs, *a.args]
    pairs = [
        *zip(plain[::-1], a.defaults[::-1], strict=False),
        *zip(a.kwonlyargs, a.kw_defaults, strict=True),
    ]
    return {x.arg for x, d in pairs if d and not isinstance(d, ast.Constant)}


def _unused(call: ast.Call) -> bool:
    """Whether the result of a call is bound to `_` alone (marked by Effects.of)."""
    return getattr(call, "unused", False)


def _loaded(function) -> set[str]:
    """Names that a function reads otherwise than to return them."""
    returned = {
        id(n.value) for n in walk(function) if isinstance(n, ast.Return) and n.value
    }
    return {
        n.id
        for n in walk(function)
        if isinstance(n, ast.Name)
        and isinstance(n.ctx, ast.Load)
        and id(n) not in returned
    }


def _names(n: ast.AST) -> list[str]:
    if isinstance(n, ast.arg):
        return [n.arg]
    if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load):
        return [n.id]
    return [n.name] if isinstance(n, DEFINITION) else []
