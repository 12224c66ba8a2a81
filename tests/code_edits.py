"""Small projects and edits of them: some change what `run` returns, some do not.

A case is (files, edits): files maps a name to its text, where "e" is the body of the
experiment, which defines value(c); edits are (file, old, new), or (file, None, text) for
a new file. `play` writes a project, runs it, and says what came out.
"""

import sys
from pathlib import Path

HEAD = '''"""A claim."""
from dataclasses import dataclass, field, fields, replace
'''
CONFIG = """
@dataclass(frozen=True)
class Config:
    x: float = 2.0
    seed: int = 0
"""
RUN = """

def sweep(scale):
    return [Config(x=2.0, seed=s) for s in range(2)]


def run(configs):
    return [{"y": value(c)} for c in configs]


CLAIMS = []
"""
CALL = "from m import f\n\n\ndef value(c):\n    return f()\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        if name == "e":
            config = "" if "class Config" in text else CONFIG
            name, text = "experiments/e.py", HEAD + config + text + RUN
        path = root / (name if "." in Path(name).name else f"{name}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def edit(root: Path, edits) -> None:
    for name, old, new in edits:
        name = "experiments/e.py" if name == "e" else name
        path = root / (name if "." in Path(name).name else f"{name}.py")
        if old is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(new)
            continue
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
        path.write_text(text.replace(old, new))


def play(root: Path, paths=()) -> str:
    """What run returns on two fixed configs, in a fresh import; errors are a result."""
    before, known = dict(sys.modules), list(sys.path)
    sys.path[:0] = [str(root), *map(str, paths)]
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
    try:
        scope = {"__name__": "experiments.e", "__file__": str(root / "experiments/e.py")}
        module = type(sys)("experiments.e")
        module.__dict__.update(scope)
        sys.modules["experiments.e"] = module
        sys.path_importer_cache.clear()
        source = (root / "experiments/e.py").read_text()
        exec(compile(source, "e.py", "exec"), module.__dict__)
        configs = [module.Config(x=3.0, seed=s) for s in (0, 1)]
        return repr(module.run(configs))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        sys.dont_write_bytecode = kept
        sys.path[:] = known
        for name in set(sys.modules) - set(before):
            if _ours(sys.modules[name], [root, *paths]):
                del sys.modules[name]


def _ours(module, folders) -> bool:
    """Whether a module lies in the project; numpy cannot be imported twice."""
    places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    fresh = module.__name__ == "experiments.e"
    return fresh or any(str(p).startswith(str(f)) for p in places for f in folders)


def m(text: str, old: str, new: str, e: str = CALL, **others: str):
    """A case of one helper module, called from the experiment."""
    return {"e": e, "m": text, **others}, [("m", old, new)]


def e(text: str, old: str, new: str, **others: str):
    """A case in which the experiment itself is edited."""
    return {"e": text, **others}, [("e", old, new)]


F1 = "def f():\n    return 1\n"
F2 = "def f():\n    return 2\n"
K = "\n\n\ndef f():\n    return K\n"
PAIR = {"a": "K = 1\n" + F1, "b": "K = 2\n" + F2}
VALUE = "\n\n\ndef value(c):\n    return "

CHANGES = {
    # what an import line binds
    "from math": e(f"from math import sin as f{VALUE}f(1)", "sin as", "cos as"),
    "from math in a helper": m("from math import sin as g\ndef f():\n    return g(1)\n", "sin as", "cos as"),
    "a module by alias": e(f"import math as q{VALUE}q.sqrt(-1 + c.x)", "import math", "import cmath"),
    "ours by alias": e(f"import a as q{VALUE}q.f()", "import a", "import b", **PAIR),
    "from ours": e(f"from a import f{VALUE}f()", "from a", "from b", **PAIR),
    "a constant from ours": e(f"from a import K{VALUE}K", "from a", "from b", **PAIR),
    "another attribute": e(f"from a import f as g{VALUE}g()", "import f", "import h", a=F1 + "def h():\n    return 3\n"),
    "in a function": e("def value(c):\n    from math import sin as f\n    return f(1)\n", "sin", "cos"),
    "a module in a function": e("def value(c):\n    import math as q\n    return q.sqrt(3)\n", "math as", "cmath as"),
    "ours in a function": e("def value(c):\n    import a as q\n    return q.f()\n", "a as", "b as", **PAIR),
    "in a function of a helper": m("def f():\n    from a import K\n    return K\n", "from a", "from b", **PAIR),
    "a re-export": ({"e": f"from p import f{VALUE}f()", "p/__init__": "from p.a import f\n", "p/a": F1, "p/b": F2}, [("p/__init__", "p.a", "p.b")]),
    "a re-export, relative": ({"e": f"from p import f{VALUE}f()", "p/__init__": "from .a import f\n", "p/a": F1, "p/b": F2}, [("p/__init__", ".a", ".b")]),
    "a re-export of math": ({"e": f"from p import f{VALUE}f(1)", "p/__init__": "from math import sin as f\n"}, [("p/__init__", "sin as", "cos as")]),
    "a re-export by attribute": ({"e": f"import p{VALUE}p.f()", "p/__init__": "from .a import f\n", "p/a": F1, "p/b": F2}, [("p/__init__", ".a", ".b")]),
    "two hops": ({"e": CALL, "m": "from p import f\n", "p/__init__": "from .a import f\n", "p/a": F1, "p/b": F2}, [("p/__init__", ".a", ".b")]),
    "order of imports of a name": e(f"from a import f\nfrom b import f{VALUE}f()", "from a import f\nfrom b", "from b import f\nfrom a", **PAIR),
    "order of imports in a helper": m("from a import K\nfrom b import K" + K, "from a import K\nfrom b", "from b import K\nfrom a", **PAIR),
    "an import over a definition": e(f"K = 5\nfrom a import K{VALUE}K", "K = 5\nfrom a import K", "from a import K\nK = 5", **PAIR),
    "order of aliases": e(f"import a as q\nimport b as q{VALUE}q.K", "a as q\nimport b", "b as q\nimport a", **PAIR),
    "order of stars": e(f"from a import *\nfrom b import *{VALUE}f()", "a import *\nfrom b", "b import *\nfrom a", **PAIR),
    "order of stars in a helper": m("from a import *\nfrom b import *\n", "a import *\nfrom b", "b import *\nfrom a", **PAIR),
    "a star after a definition": m("K = 3\nfrom a import *\ndef g():\n    return K\nf = g\n", "K = 3\nfrom a import *", "from a import *\nK = 3", a="K = 1\n"),
    "another star": e(f"from a import *{VALUE}f()", "from a", "from b", **PAIR),
    "a star of math": e(f"from math import *{VALUE}sqrt(2)", "from math", "from cmath"),
    "a second star hides": m("from a import *" + K, "import *", "import *\nfrom b import *", **PAIR),
    "a builtin is hidden": m("def f():\n    return max(1, 2)\n", "def f", "def max(*a):\n    return 9\ndef f"),
    "a builtin is hidden by a star": e(f"from a import *{VALUE}max(1, 2)", "from a", "from b", a="X = 1\n", b="def max(*a):\n    return 9\n"),
    "a name appears in a star": ({"e": f"from a import *{VALUE}max(1, 2)", "a": "X = 1\n"}, [("a", "X = 1", "X = 1\ndef max(*a):\n    return 9")]),
    "try, except ImportError": e(f"try:\n    from a import f\nexcept ImportError:\n    from b import f{VALUE}f()", "from a", "from b", a=F1, b=F2) if False else e(f"try:\n    from nowhere import f\nexcept ImportError:\n    from a import f{VALUE}f()", "from a", "from b", **PAIR),
    "the try appears": ({"e": f"try:\n    from fast import f\nexcept ImportError:\n    from a import f{VALUE}f()", **PAIR}, [("fast", None, "def f():\n    return 7\n")]),
    "an empty module appears": ({"e": f"try:\n    import fast\n    K = 1\nexcept ImportError:\n    K = 2{VALUE}K"}, [("fast", None, "")]),
    "the else of a try": e(f"try:\n    import math\nexcept ImportError:\n    K = 1\nelse:\n    K = 2{VALUE}K", "K = 2", "K = 3"),
    "a conditional import": e(f"FAST = True\nif FAST:\n    from a import f\nelse:\n    from b import f{VALUE}f()", "FAST = True", "FAST = False", **PAIR),
    "a module shadows": ({"e": CALL, "m": "from q import f\n", "q/__init__": F1}, [("q/__init__", "1", "2")]),
    "a package appears over a module": ({"e": CALL, "m": F1}, [("m/__init__", None, F2)]),
    "a submodule": e(f"import p.a{VALUE}p.a.f()", "p.a.f()", "p.a.K", **{"p/__init__": "", "p/a": "K = 4\n" + F1}),
    "a submodule by alias": e(f"import p.a as q{VALUE}q.f()", "p.a as", "p.b as", **{"p/__init__": "", "p/a": F1, "p/b": F2}),
    "a submodule from its package": e(f"from p import a as q{VALUE}q.f()", "import a", "import b", **{"p/__init__": "", "p/a": F1, "p/b": F2}),
    "a class attribute that was imported": m("class C:\n    from a import K\ndef f():\n    return C.K\n", "from a", "from b", **PAIR),
    "import_module": e(f"import importlib{VALUE}importlib.import_module('a').f()", "'a'", "'b'", **PAIR),
    "import_module, the file": ({"e": f"from importlib import import_module{VALUE}import_module('a').f()", "a": F1}, [("a", "1", "2")]),
    "import_module at top level": ({"e": f"from importlib import import_module\nq = import_module('a'){VALUE}q.f()", "a": F1}, [("a", "1", "2")]),
    "import_module, relative": ({"e": f"from p import f{VALUE}f()", "p/__init__": "import importlib\ndef f():\n    return importlib.import_module('.a', __package__).f()\n", "p/a": F1}, [("p/a", "1", "2")]),
    "__import__": ({"e": f"q = __import__('a'){VALUE}q.f()", "a": F1}, [("a", "1", "2")]),
    "sys.modules": ({"e": f"import sys\nimport a{VALUE}sys.modules['a'].f()", "a": F1}, [("a", "1", "2")]),
    "getattr of a module": ({"e": f"import a{VALUE}getattr(a, 'f')()", "a": F1}, [("a", "1", "2")]),
    "getattr, computed": ({"e": f"import a{VALUE}getattr(a, 'fg'[0])()", "a": F1}, [("a", "1", "2")]),
    "getattr, another name": e(f"import a{VALUE}getattr(a, 'f')()", "'f'", "'K'.lower() and 'g'", a=F1 + "def g():\n    return 5\n"),
    "globals()": m("def g():\n    return 1\ndef f():\n    return globals()['g']()\n", "return 1", "return 2"),
    "globals(), computed": m("def g():\n    return 1\ndef f():\n    return globals()['gh'[0]]()\n", "return 1", "return 2"),
    "the module itself, by its name": m("import sys\ndef g():\n    return 1\ndef f():\n    return getattr(sys.modules[__name__], 'g')()\n", "return 1", "return 2"),
    "vars of a module": ({"e": f"import a{VALUE}vars(a)['f']()", "a": F1}, [("a", "1", "2")]),
    "__dict__ of a module": ({"e": f"import a{VALUE}a.__dict__['f']()", "a": F1}, [("a", "1", "2")]),
    "a lazy import": ({"e": f"from p import f{VALUE}f()", "p/__init__": "from importlib import import_module\n_WHERE = {'f': 'a'}\ndef __getattr__(name):\n    if name not in _WHERE:\n        raise AttributeError(name)\n    return getattr(import_module(f'p.{_WHERE[name]}'), name)\n", "p/a": F1, "p/b": F2}, [("p/a", "1", "5")]),
    "a lazy import, its table": ({"e": f"from p import f{VALUE}f()", "p/__init__": "from importlib import import_module\n_WHERE = {'f': 'a'}\ndef __getattr__(name):\n    if name not in _WHERE:\n        raise AttributeError(name)\n    return getattr(import_module(f'p.{_WHERE[name]}'), name)\n", "p/a": F1, "p/b": F2}, [("p/__init__", "'a'", "'b'")]),
    "a lazy import by another name": ({"e": f"import p{VALUE}p.f()", "p/__init__": "from importlib import import_module\n_WHERE = {'f': ('.a', 'g')}\ndef __getattr__(name):\n    if name not in _WHERE:\n        raise AttributeError(name)\n    m, n = _WHERE[name]\n    return getattr(import_module(m, __name__), n)\n", "p/a": "def g():\n    return 1\n"}, [("p/a", "1", "5")]),
    "a __getattr__": m("def __getattr__(name):\n    if name == 'f':\n        return lambda: 1\n    raise AttributeError(name)\n", "lambda: 1", "lambda: 2"),
    "__all__": ({"e": f"from b import *\nfrom a import *{VALUE}f()", "a": "__all__ = ['K']\nK = 1\n" + F1, "b": F2}, [("a", "['K']", "['K', 'f']")]),
    "__all__ of private names": ({"e": f"_f = max\nfrom a import *{VALUE}_f(3, 4)", "a": "__all__ = ['K']\nK = 1\n_f = min\n"}, [("a", "['K']", "['K', '_f']")]),
    "else of TYPE_CHECKING": e(f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    K = 0\nelse:\n    from a import K{VALUE}K", "from a", "from b", **PAIR),
    # effects of imports, order
    "a thrown call": ({"e": CALL, "m": "R = {}\ndef register(k, v):\n    R[k] = v\nregister('x', 2)\ndef f():\n    return R['x']\n"}, [("m", "2)", "3)")]),
    "a thrown call elsewhere": ({"e": "import n\n" + CALL, "m": "R = {}\ndef register(k, v):\n    R[k] = v\ndef f():\n    return R['x']\n", "n": "from m import register\nregister('x', 2)\n"}, [("n", "2)", "3)")]),
    "a call bound to _": ({"e": "import n\n" + CALL, "m": "R = {}\ndef register(k, v):\n    R[k] = v\ndef f():\n    return R['x']\n", "n": "from m import register\n_ = register('x', 2)\n"}, [("n", "2)", "3)")]),
    "a call bound to another name": ({"e": "import n\n" + CALL, "m": "R = {}\ndef register(k, v):\n    R[k] = v\n    return v\ndef f():\n    return R['x']\n", "n": "from m import register\nunused = register('x', 2)\n"}, [("n", "2)", "3)")]),
    "a tuple of calls": ({"e": "import n\n" + CALL, "m": "R = {}\ndef register(k, v):\n    R[k] = v\ndef f():\n    return R['x']\n", "n": "from m import register\nregister('y', 1), register('x', 2)\n"}, [("n", "2)", "3)")]),
    "a comprehension of calls": ({"e": "import n\n" + CALL, "m": "R = {}\ndef register(k, v):\n    R[k] = v\ndef f():\n    return R['x']\n", "n": "from m import register\n[register(k, 2) for k in 'xyz']\n"}, [("n", "2)", "3)")]),
    "map of a function": ({"e": "import n\n" + CALL, "m": "R = []\ndef register(v):\n    R.append(v)\ndef f():\n    return R\n", "n": "from m import register\n_done = list(map(register, [1, 2]))\n"}, [("n", "2]", "3]")]),
    "a lambda is called": ({"e": "import n\n" + CALL, "m": "R = []\ndef f():\n    return R\n", "n": "from m import R\nx = (lambda v: R.append(v))(1)\n"}, [("n", "(1)", "(2)")]),
    "an append": m("R = []\nR.append(1)\ndef f():\n    return R\n", "(1)", "(2)"),
    "an append from outside": ({"e": "import n\n" + CALL, "m": "R = []\ndef f():\n    return R\n", "n": "import m\nm.R.append(1)\n"}, [("n", "(1)", "(2)")]),
    "an append by alias": m("R = []\nQ = R\nQ.append(1)\ndef f():\n    return R\n", "(1)", "(2)"),
    "an item by alias": m("R = {}\nQ = R\nQ[1] = 1\ndef f():\n    return R\n", "= 1\n", "= 2\n"),
    "an alias by a function": m("R = {}\ndef table():\n    return R\ntable()['a'] = 1\ndef f():\n    return R\n", "= 1", "= 2"),
    "a local alias": m("R = {}\ndef table():\n    return R\ndef fill(v):\n    t = table()\n    t['a'] = v\nfill(1)\ndef f():\n    return R\n", "(1)", "(2)"),
    "an argument is changed": ({"e": "import n\n" + CALL, "m": "R = []\ndef f():\n    return R\n", "n": "import m\ndef fill(t):\n    t.append(1)\nfill(m.R)\n"}, [("n", "append(1)", "append(2)")]),
    "an extended slice": m("R = [0, 0]\nR[1:] = [1]\ndef f():\n    return R\n", "[1]", "[2]"),
    "an update": m("R = {}\nR.update(a=1)\ndef f():\n    return R\n", "a=1", "a=2"),
    "setdefault in an expression": m("R = {}\nX = R.setdefault('a', 1)\ndef f():\n    return R\n", "1)", "2)"),
    "pop in an expression": m("R = [1, 2]\nX = R.pop(0)\ndef f():\n    return R\n", "pop(0)", "pop(1)"),
    "a generator is advanced": m("G = iter([1, 2, 3])\nX = next(G)\ndef f():\n    return next(iter([*G]))\n", "X = next(G)\n", "X = next(G)\nY = next(G)\n") if False else m("G = [1, 2, 3]\nI = iter(G)\nX = next(I)\nN = list(I)\ndef f():\n    return N\n", "X = next(I)\n", "X = next(I)\nY = next(I)\n"),
    "a random state": m("import random\nG = random.Random(0)\nX = G.random()\nY = G.random()\ndef f():\n    return Y\n", "X = G.random()\n", ""),
    "a seed": m("import random\nrandom.seed(1)\nX = random.random()\ndef f():\n    return X\n", "(1)", "(2)"),
    "setattr": ({"e": "import n\n" + CALL, "m": "K = 0" + K, "n": "import m\nsetattr(m, 'K', 1)\n"}, [("n", "1)", "2)")]),
    "an attribute of a module": ({"e": "import n\n" + CALL, "m": "K = 0" + K, "n": "import m\nm.K = 1\n"}, [("n", "= 1", "= 2")]),
    "an augmented attribute of a module": ({"e": "import n\n" + CALL, "m": "K = 0" + K, "n": "import m\nm.K += 1\n"}, [("n", "= 1", "= 2")]),
    "an attribute in a loop": ({"e": "import n\n" + CALL, "m": "K = 0" + K, "n": "import m\nfor k in (1, 2):\n    m.K = k\n"}, [("n", "(1, 2)", "(2, 1)")]),
    "an effect two imports away": ({"e": "import o\n" + CALL, "o": "import n\n", "m": "K = 0" + K, "n": "import m\nm.K = 1\n"}, [("n", "= 1", "= 2")]),
    "the import of an effect goes": ({"e": "import o\n" + CALL, "o": "import n\n", "m": "K = 0" + K, "n": "import m\nm.K = 1\n"}, [("o", "import n", "pass")]),
    "an effect in a package": ({"e": f"from p.a import f{VALUE}f()", "p/__init__": "import m\nm.K = 1\n", "p/a": "import m\ndef f():\n    return m.K\n", "m": "K = 0\n"}, [("p/__init__", "= 1", "= 2")]),
    "order of effects of imports": ({"e": "import n\nimport o\n" + CALL, "m": "K = 0" + K, "n": "import m\nm.K = 1\n", "o": "import m\nm.K = 2\n"}, [("e", "import n\nimport o", "import o\nimport n")]),
    "a copy before an effect": ({"e": f"from m import K\nimport n{VALUE}K", "m": "K = 0\n", "n": "import m\nm.K = 1\n"}, [("e", "from m import K\nimport n", "import n\nfrom m import K")]),
    "a value before an effect": ({"e": f"import m\nX = m.K\nimport n{VALUE}X", "m": "K = 0\n", "n": "import m\nm.K = 1\n"}, [("e", "X = m.K\nimport n", "import n\nX = m.K")]),
    "an effect of a local import": ({"e": "import m\ndef value(c):\n    import n\n    return m.K\n", "m": "K = 0\n", "n": "import m\nm.K = 1\n"}, [("n", "= 1", "= 2")]),
    "a function writes a global": m("K = 0\ndef setup():\n    global K\n    K = 1\nsetup()\ndef f():\n    return K\n", "= 1", "= 2"),
    "a function writes a global, called in run": m("K = 0\ndef setup():\n    global K\n    K = 1\ndef f():\n    setup()\n    return K\n", "= 1", "= 2"),
    "a function writes another module": ({"e": "import n\n" + CALL, "m": "K = 0" + K, "n": "import m\ndef setup():\n    m.K = 1\nsetup()\n"}, [("n", "= 1", "= 2")]),
    "a class body writes": ({"e": "import n\n" + CALL, "m": "R = []\ndef f():\n    return R\n", "n": "import m\nclass C:\n    m.R.append(1)\n"}, [("n", "(1)", "(2)")]),
    "a default writes": ({"e": "import n\n" + CALL, "m": "R = []\ndef f():\n    return R\n", "n": "import m\ndef g(x=m.R.append(1)):\n    pass\n"}, [("n", "(1)", "(2)")]),
    "a default is made early": m("K = 1\ndef f(x=K):\n    return x\nK = 2\n", "def f(x=K):\n    return x\nK = 2\n", "K = 2\ndef f(x=K):\n    return x\n"),
    "order of assignments": m("x = 1\ny = x\nx = 2\ndef f():\n    return y\n", "y = x\nx = 2", "x = 2\ny = x"),
    "order of values": m("x = 1\nx = 2\ndef f():\n    return x\n", "x = 1\nx = 2", "x = 2\nx = 1"),
    "order through a call": m("x = 1\ndef g():\n    return x\ny = g()\nx = 2\ndef f():\n    return y\n", "y = g()\nx = 2", "x = 2\ny = g()"),
    "order of definitions of a name": m("def f():\n    return 1\ndef f():\n    return 2\n", "def f():\n    return 1\ndef f():\n    return 2", "def f():\n    return 2\ndef f():\n    return 1"),
    "order of a definition and its wrapper": m("def f():\n    return 1\nold = f\ndef f():\n    return old() + 1\n", "return 1", "return 3"),
    "order of items": m("R = {}\nR['a'] = 1\nR['a'] = 2\ndef f():\n    return R\n", "= 1\nR['a'] = 2", "= 2\nR['a'] = 1"),
    "order of reading an item": m("R = {'a': 0}\ny = R['a']\nR['a'] = 2\ndef f():\n    return y\n", "y = R['a']\nR['a'] = 2", "R['a'] = 2\ny = R['a']"),
    "order of calls": m("R = []\ndef add(v):\n    R.append(v)\nadd(1)\nadd(2)\ndef f():\n    return R\n", "add(1)\nadd(2)", "add(2)\nadd(1)"),
    "order of a length and a call": m("R = []\ndef add(v):\n    R.append(v)\nn = len(R)\nadd(2)\ndef f():\n    return n\n", "n = len(R)\nadd(2)", "add(2)\nn = len(R)"),
    "an augmented assignment": m("K = 1\nK += 1" + K, "+= 1", "+= 2"),
    "an augmented list": m("R = [1]\nQ = R\nR += [2]\ndef f():\n    return Q\n", "[2]", "[3]"),
    "del": ({"e": CALL, "m": "max = min\ndel max\ndef f():\n    return max(1, 2)\n"}, [("m", "del max\n", "")]),
    "del of an item": m("R = {1: 1, 2: 2}\ndel R[1]\ndef f():\n    return R\n", "R[1]", "R[2]"),
    "del of another module's": ({"e": "import n\n" + CALL, "m": "max = min\ndef f():\n    return max(1, 2)\n", "n": "import m\nX = 1\n"}, [("n", "X = 1", "del m.max")]),
    "a for": m("K = 0\nfor i in range(3):\n    K = K + i" + K, "range(3)", "range(4)"),
    "a for over a table": m("R = {}\nfor i in range(3):\n    R[i] = i\ndef f():\n    return R\n", "range(3)", "range(4)"),
    "the variable of a for": m("for i in range(3):\n    pass\ndef f():\n    return i\n", "range(3)", "range(4)"),
    "a while": m("K = 0\nwhile K < 3:\n    K = K + 1" + K, "< 3", "< 4"),
    "a with": m("from contextlib import nullcontext\nwith nullcontext(1) as K:\n    pass" + K, "(1)", "(2)"),
    "an if": m("if 1 < 2:\n    K = 1\nelse:\n    K = 2" + K, "1 < 2", "1 > 2"),
    "an if of a flag": m("FLAG = True\nif FLAG:\n    K = 1\nelse:\n    K = 2" + K, "True", "False"),
    "a match": m("match 1:\n    case 1:\n        K = 1\n    case _:\n        K = 2" + K, "match 1", "match 2"),
    "a match that captures": m("match [1, 2]:\n    case [K, *_]:\n        pass" + K, "[1, 2]", "[2, 2]"),
    "a try": m("try:\n    K = int('1')\nexcept ValueError:\n    K = 0" + K, "'1'", "'x'"),
    "a finally": m("K = 1\ntry:\n    pass\nfinally:\n    K = 2" + K, "K = 2", "K = 3"),
    "definitions in an if": m("if True:\n    def f():\n        return 1\n", "return 1", "return 2"),
    "a walrus": m("if (K := 1):\n    pass" + K, ":= 1", ":= 2"),
    "an assertion that binds": m("assert (K := 1)" + K, ":= 1", ":= 2"),
    "a chain of targets": m("J = K = 1" + K, "= 1", "= 2"),
    "unpacking": m("J, *K = 1, 2, 3" + K, "2, 3", "3, 2"),
    "a nested global": m("K = 0\ndef outer():\n    def inner():\n        global K\n        K = 1\n    inner()\nouter()" + K, "= 1", "= 2"),
    "a counter in a class": m("class C:\n    n = 0\n    def __init__(self):\n        C.n += 1\na = C()\ndef f():\n    return C.n\n", "+= 1", "+= 2"),
    "an instance registers": ({"e": CALL, "m": "ALL = []\nclass C:\n    def __init__(self, v):\n        ALL.append(v)\nunused = C(1)\ndef f():\n    return ALL\n"}, [("m", "C(1)", "C(2)")]),
    "an instance registers in its class": m("class C:\n    every = []\n    def __init__(self, v):\n        self.every.append(v)\nunused = C(1)\ndef f():\n    return C.every\n", "C(1)", "C(2)"),
    "a post-init registers": m("from dataclasses import dataclass\nALL = []\n@dataclass\nclass C:\n    v: int\n    def __post_init__(self):\n        ALL.append(self.v)\nunused = C(1)\ndef f():\n    return ALL\n", "C(1)", "C(2)"),
    "a method of an instance": m("class C:\n    def __init__(self):\n        self.v = 0\n    def put(self, v):\n        self.v = v\nX = C()\nX.put(1)\ndef f():\n    return X.v\n", "(1)", "(2)"),
    "an attribute of a function": m("def g():\n    return g.k\ng.k = 1\nf = g\n", "= 1", "= 2"),
    "an attribute of a class": m("class C:\n    k = 0\nC.k = 1\ndef f():\n    return C.k\n", "= 1", "= 2"),
    "a method put on a class": m("class C:\n    pass\nC.g = lambda self: 1\ndef f():\n    return C().g()\n", ": 1", ": 2"),
    "os.environ": ({"e": "import n\n" + CALL, "m": "import os\ndef f():\n    return os.environ.get('SYMLAB_T')\n", "n": "import os\nos.environ['SYMLAB_T'] = '1'\n"}, [("n", "'1'", "'2'")]),
    # Config
    "a default by the class": e("def value(c):\n    return Config.x\n", "return Config.x", "return Config.seed"),
    "Config.x": ({"e": CONFIG + "\ndef value(c):\n    return Config.x\n"}, [("e", "x: float = 2.0", "x: float = 4.0")]),
    "Config().x": ({"e": CONFIG + "\ndef value(c):\n    return Config().x\n"}, [("e", "x: float = 2.0", "x: float = 4.0")]),
    "a field's default": ({"e": CONFIG.replace("2.0", "field(default=2.0)") + "\ndef value(c):\n    return Config().x\n"}, [("e", "default=2.0", "default=4.0")]),
    "a default factory": ({"e": "def make():\n    return 2.0\n" + CONFIG.replace("2.0", "field(default_factory=make)") + "\ndef value(c):\n    return Config().x\n"}, [("e", "return 2.0", "return 4.0")]),
    "a default of a constant": ({"e": "D = 2.0\n" + CONFIG.replace("2.0", "D") + "\ndef value(c):\n    return Config().x\n"}, [("e", "D = 2.0", "D = 4.0")]),
    "fields(Config)": ({"e": CONFIG + "\ndef value(c):\n    return [f.default for f in fields(Config)]\n"}, [("e", "x: float = 2.0", "x: float = 4.0")]),
    "fields(c)": ({"e": CONFIG + "\ndef value(c):\n    return [f.default for f in fields(c)]\n"}, [("e", "x: float = 2.0", "x: float = 4.0")]),
    "fields by a helper": ({"e": "from m import g\n" + CONFIG + "\ndef value(c):\n    return g(c)\n", "m": "import dataclasses\ndef g(c):\n    return [f.default for f in dataclasses.fields(c)]\n"}, [("e", "x: float = 2.0", "x: float = 4.0")]),
    "type(c)": ({"e": CONFIG + "\ndef value(c):\n    return type(c)().x\n"}, [("e", "x: float = 2.0", "x: float = 4.0")]),
    "c.__class__": ({"e": CONFIG + "\ndef value(c):\n    return c.__class__.x\n"}, [("e", "x: float = 2.0", "x: float = 4.0")]),
    "the order of fields": ({"e": CONFIG + "\ndef value(c):\n    return [f.name for f in fields(c)]\n"}, [("e", "    x: float = 2.0\n    seed: int = 0\n", "    seed: int = 0\n    x: float = 2.0\n")]),
    "replace of a default": ({"e": CONFIG + "\ndef value(c):\n    return replace(Config(), seed=3).x\n"}, [("e", "x: float = 2.0", "x: float = 4.0")]),
    "a module's default config": ({"e": CONFIG + "BASE = Config()\ndef value(c):\n    return BASE.x\n"}, [("e", "x: float = 2.0", "x: float = 4.0")]),
    "a method of Config": ({"e": CONFIG + "    def g(self):\n        return self.x + 1\ndef value(c):\n    return c.g()\n"}, [("e", "+ 1", "+ 2")]),
    "a property of Config": ({"e": CONFIG + "    @property\n    def g(self):\n        return self.x + 1\ndef value(c):\n    return c.g\n"}, [("e", "+ 1", "+ 2")]),
    "__post_init__ of Config": ({"e": CONFIG + "    def __post_init__(self):\n        object.__setattr__(self, 'x', self.x + 1)\ndef value(c):\n    return c.x\n"}, [("e", "+ 1", "+ 2")]),
    "a method that reads a default": ({"e": CONFIG + "    def g(self):\n        return Config.x\ndef value(c):\n    return c.g()\n"}, [("e", "x: float = 2.0", "x: float = 4.0")]),
    "a classmethod": ({"e": CONFIG + "    @classmethod\n    def g(cls):\n        return cls().x\ndef value(c):\n    return c.g()\n"}, [("e", "x: float = 2.0", "x: float = 4.0")]),
    "a ClassVar": ({"e": "from typing import ClassVar\n" + CONFIG + "    k: ClassVar[int] = 1\ndef value(c):\n    return c.k\n"}, [("e", "= 1", "= 2")]),
    "a plain class attribute": ({"e": CONFIG + "    k = 1\ndef value(c):\n    return c.k\n"}, [("e", "k = 1", "k = 2")]),
    "a base of Config": ({"e": "from m import Base\n@dataclass(frozen=True)\nclass Config(Base):\n    x: float = 2.0\n    seed: int = 0\ndef value(c):\n    return c.g()\n", "m": "class Base:\n    def g(self):\n        return 1\n"}, [("m", "1", "2")]),
    "a base's default": ({"e": "from m import Base\n@dataclass(frozen=True)\nclass Config(Base):\n    x: float = 2.0\n    seed: int = 0\ndef value(c):\n    return type(c).k\n", "m": "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Base:\n    k: int = 1\n"}, [("m", "= 1", "= 2")]),
    "a mixin's constant": ({"e": "from m import Base\n@dataclass(frozen=True)\nclass Config(Base):\n    x: float = 2.0\n    seed: int = 0\ndef value(c):\n    return c.k\n", "m": "class Base:\n    k = 1\n"}, [("m", "= 1", "= 2")]),
    # registries and what classes do
    "__subclasses__": m("class B:\n    pass\nclass C(B):\n    k = 1\ndef f():\n    return [c.k for c in B.__subclasses__()]\n", "= 1", "= 2"),
    "__subclasses__ elsewhere": ({"e": "import n\n" + CALL, "m": "class B:\n    pass\ndef f():\n    return [c.k for c in B.__subclasses__()]\n", "n": "from m import B\nclass C(B):\n    k = 1\n"}, [("n", "= 1", "= 2")]),
    "a new subclass": ({"e": "import n\n" + CALL, "m": "class B:\n    pass\ndef f():\n    return [c.k for c in B.__subclasses__()]\n", "n": "from m import B\nclass C(B):\n    k = 1\n"}, [("n", "class C", "class D(B):\n    k = 5\nclass C")]),
    "order of subclasses": m("class B:\n    pass\nclass C(B):\n    k = 1\nclass D(B):\n    k = 2\ndef f():\n    return [c.k for c in B.__subclasses__()]\n", "class C(B):\n    k = 1\nclass D(B):\n    k = 2", "class D(B):\n    k = 2\nclass C(B):\n    k = 1"),
    "__init_subclass__": ({"e": "import n\n" + CALL, "m": "class B:\n    every = []\n    def __init_subclass__(cls):\n        B.every.append(cls.k)\ndef f():\n    return B.every\n", "n": "from m import B\nclass C(B):\n    k = 1\n"}, [("n", "= 1", "= 2")]),
    "__init_subclass__, two levels": ({"e": "import n\n" + CALL, "m": "class A:\n    every = []\n    def __init_subclass__(cls):\n        A.every.append(getattr(cls, 'k', 0))\nclass B(A):\n    pass\ndef f():\n    return A.every\n", "n": "from m import B\nclass C(B):\n    k = 1\n"}, [("n", "= 1", "= 2")]),
    "a metaclass": ({"e": "import n\n" + CALL, "m": "ALL = []\nclass M(type):\n    def __init__(cls, *a):\n        ALL.append(getattr(cls, 'k', 0))\nclass B(metaclass=M):\n    pass\ndef f():\n    return ALL\n", "n": "from m import B\nclass C(B):\n    k = 1\n"}, [("n", "= 1", "= 2")]),
    "a metaclass's own": m("class M(type):\n    k = 1\nclass B(metaclass=M):\n    pass\ndef f():\n    return B.k\n", "= 1", "= 2"),
    "singledispatch": m("from functools import singledispatch\n@singledispatch\ndef g(x):\n    return 0\n@g.register\ndef _(x: int):\n    return 1\ndef f():\n    return g(3)\n", "return 1", "return 2"),
    "singledispatch by annotation": m("from functools import singledispatch\n@singledispatch\ndef g(x):\n    return 0\n@g.register\ndef _(x: int):\n    return 1\ndef f():\n    return g(3)\n", "x: int", "x: str"),
    "singledispatch by argument": m("from functools import singledispatch\n@singledispatch\ndef g(x):\n    return 0\n@g.register(int)\ndef _(x):\n    return 1\ndef f():\n    return g(3)\n", "(int)", "(str)"),
    "singledispatch elsewhere": ({"e": "import n\n" + CALL, "m": "from functools import singledispatch\n@singledispatch\ndef g(x):\n    return 0\ndef f():\n    return g(3)\n", "n": "from m import g\n@g.register\ndef _(x: int):\n    return 1\n"}, [("n", "return 1", "return 2")]),
    "singledispatch on a class of ours": m("from functools import singledispatch\nclass A:\n    pass\nclass B(A):\n    pass\n@singledispatch\ndef g(x):\n    return 0\n@g.register\ndef _(x: B):\n    return 1\ndef f():\n    return g(B())\n", "class B(A)", "class C(A)\n    pass\nB = str\nclass D(A)") if False else m("from functools import singledispatch\nclass A:\n    pass\n@singledispatch\ndef g(x):\n    return 0\n@g.register\ndef _(x: A):\n    return 1\ndef f():\n    return g(3)\n", "class A:", "class A(int):") if False else m("from functools import singledispatch\nA = int\n@singledispatch\ndef g(x):\n    return 0\n@g.register\ndef _(x: A):\n    return 1\ndef f():\n    return g(3)\n", "A = int", "A = str"),
    "an Enum": m("from enum import Enum\nclass E(Enum):\n    A = 1\n    B = 2\ndef f():\n    return [x.value for x in E]\n", "B = 2", "B = 3"),
    "order in an Enum": m("from enum import Enum, auto\nclass E(Enum):\n    A = auto()\n    B = auto()\ndef f():\n    return E.A.value\n", "    A = auto()\n    B = auto()", "    B = auto()\n    A = auto()"),
    "a decorator that registers": m("R = {}\ndef reg(g):\n    R[g.__name__] = g\n    return g\n@reg\ndef h():\n    return 1\ndef f():\n    return R['h']()\n", "return 1", "return 2"),
    "a decorator factory": m("R = {}\ndef reg(k):\n    def inner(g):\n        R[k] = g\n        return g\n    return inner\n@reg('a')\ndef h():\n    return 1\ndef f():\n    return R['a']()\n", "return 1", "return 2"),
    "a decorator elsewhere": ({"e": "import n\n" + CALL, "m": "R = {}\ndef reg(g):\n    R['h'] = g\n    return g\ndef f():\n    return R['h']()\n", "n": "from m import reg\n@reg\ndef h():\n    return 1\n"}, [("n", "return 1", "return 2")]),
    "a decorator of a registry": ({"e": "import n\n" + CALL, "m": "class Reg:\n    def __init__(self):\n        self.all = {}\n    def add(self, g):\n        self.all[g.__name__] = g\n        return g\nreg = Reg()\ndef f():\n    return reg.all['h']()\n", "n": "from m import reg\n@reg.add\ndef h():\n    return 1\n"}, [("n", "return 1", "return 2")]),
    "a decorator of a class": ({"e": "import n\n" + CALL, "m": "R = []\ndef reg(c):\n    R.append(c)\n    return c\ndef f():\n    return R[0].k\n", "n": "from m import reg\n@reg\nclass C:\n    k = 1\n"}, [("n", "= 1", "= 2")]),
    "the name of a registered function": m("R = {}\ndef reg(g):\n    R[g.__name__] = g\n    return g\n@reg\ndef h():\n    return 1\ndef f():\n    return list(R)\n", "def h", "def hh"),
    "a decorator that wraps": m("def twice(g):\n    return lambda: g() * 2\n@twice\ndef f():\n    return 1\n", "* 2", "* 3"),
    "a decorator goes": m("def twice(g):\n    return lambda: g() * 2\n@twice\ndef f():\n    return 1\n", "@twice\n", ""),
    "order of decorators": m("def a(g):\n    return lambda: g() * 2\ndef b(g):\n    return lambda: g() + 1\n@a\n@b\ndef f():\n    return 1\n", "@a\n@b", "@b\n@a"),
    "a dataclass's order": m("from dataclasses import dataclass, astuple\n@dataclass\nclass C:\n    a: int = 1\n    b: int = 2\ndef f():\n    return astuple(C())\n", "    a: int = 1\n    b: int = 2", "    b: int = 2\n    a: int = 1"),
    "a dataclass's annotation": m("from dataclasses import dataclass, asdict\nfrom typing import ClassVar\n@dataclass\nclass C:\n    a: int = 1\n    b: int = 2\ndef f():\n    return asdict(C())\n", "b: int", "b: ClassVar[int]"),
    "a dataclass's annotation goes": m("from dataclasses import dataclass, asdict\n@dataclass\nclass C:\n    a: int = 1\n    b: int = 2\ndef f():\n    return asdict(C())\n", "b: int =", "b ="),
    "a dataclass's default": m("from dataclasses import dataclass\n@dataclass\nclass C:\n    a: int = 1\ndef f():\n    return C().a\n", "= 1", "= 2"),
    "a dataclass's option": m("from dataclasses import dataclass\n@dataclass(order=True)\nclass C:\n    a: int = 1\ndef f():\n    return C(1) == C(1)\n", "order=True", "eq=False"),
    "a NamedTuple": m("from typing import NamedTuple\nclass C(NamedTuple):\n    a: int = 1\n    b: int = 2\ndef f():\n    return tuple(C())\n", "    a: int = 1\n    b: int = 2", "    b: int = 2\n    a: int = 1"),
    "a TypedDict": m("from typing import TypedDict\nclass C(TypedDict):\n    a: int\ndef f():\n    return list(C.__annotations__)\n", "    a: int", "    b: int"),
    "get_type_hints": m("from typing import get_type_hints\ndef g(x: int):\n    pass\ndef f():\n    return get_type_hints(g)['x'].__name__\n", "x: int", "x: str"),
    "__annotations__": m("class C:\n    a: int = 1\ndef f():\n    return list(C.__annotations__)\n", "a: int", "b: int"),
    "__annotations__ of a function": m("def g(x: int):\n    pass\ndef f():\n    return g.__annotations__['x'].__name__\n", "x: int", "x: str"),
    "the signature's annotation": m("import inspect\ndef g(x: int):\n    pass\ndef f():\n    return str(inspect.signature(g).parameters['x'].annotation)\n", "x: int", "x: str"),
    "partial": m("from functools import partial\ndef g(x, y):\n    return x - y\nf = partial(g, 1, y=2)\n", "y=2", "y=3"),
    "partial, the function": m("from functools import partial\ndef g(x, y):\n    return x - y\nf = partial(g, 1, y=2)\n", "x - y", "y - x"),
    "__class_getitem__": m("class C:\n    def __class_getitem__(cls, k):\n        return k + 1\ndef f():\n    return C[1]\n", "+ 1", "+ 2"),
    "a descriptor": m("class D:\n    def __get__(self, o, t):\n        return 1\nclass C:\n    x = D()\ndef f():\n    return C().x\n", "return 1", "return 2"),
    "__set_name__": m("ALL = []\nclass D:\n    def __set_name__(self, o, n):\n        ALL.append(n)\nclass C:\n    x = D()\ndef f():\n    return ALL\n", "    x = D", "    y = D"),
    "__set_name__ elsewhere": ({"e": "import n\n" + CALL, "m": "ALL = []\nclass D:\n    def __set_name__(self, o, n):\n        ALL.append(n)\ndef f():\n    return ALL\n", "n": "from m import D\nclass C:\n    x = D()\n"}, [("n", "    x = D", "    y = D")]),
    "a base class": m("class A:\n    k = 1\nclass B(A):\n    pass\ndef f():\n    return B.k\n", "= 1", "= 2"),
    "a base class elsewhere": ({"e": CALL, "m": "from n import A\nclass B(A):\n    pass\ndef f():\n    return B().g()\n", "n": "class A:\n    def g(self):\n        return 1\n"}, [("n", "1", "2")]),
    "order of bases": m("class A:\n    k = 1\nclass B:\n    k = 2\nclass C(A, B):\n    pass\ndef f():\n    return C.k\n", "(A, B)", "(B, A)"),
    "an operator": m("class C:\n    def __add__(self, o):\n        return 1\ndef f():\n    return C() + 1\n", "return 1", "return 2"),
    "a table of functions": m("def g():\n    return 1\nT = {'a': g}\ndef f():\n    return T['a']()\n", "return 1", "return 2"),
    "a cached function": m("from functools import cache\n@cache\ndef f():\n    return 1\n", "return 1", "return 2"),
    "a generator": m("def g():\n    yield 1\ndef f():\n    return list(g())\n", "yield 1", "yield 2"),
    "a default argument": m("def f(x=1):\n    return x\n", "x=1", "x=2"),
    "a keyword default": m("def f(*, x=1):\n    return x\n", "x=1", "x=2"),
    "the name of an argument": m("def f(a=1, b=2):\n    return a\n", "a=1, b=2", "b=1, a=2"),
    "a string": m("def f():\n    return 'a'\n", "'a'", "'b'"),
    "a docstring that is read": m("def g():\n    'one'\ndef f():\n    return g.__doc__\n", "one", "two"),
    "its own docstring": m("def f():\n    'one'\n    return f.__doc__\n", "one", "two"),
    "a docstring of a class": m("class C:\n    'one'\ndef f():\n    return C.__doc__\n", "one", "two"),
    "a docstring of a module": m("'one'\ndef f():\n    return __doc__\n", "one", "two"),
    "a docstring of another module": ({"e": f"import m{VALUE}m.__doc__", "m": "'one'\n"}, [("m", "one", "two")]),
    "getdoc": m("import inspect\ndef g():\n    'one'\ndef f():\n    return inspect.getdoc(g)\n", "one", "two"),
    "a docstring by getattr": m("def g():\n    'one'\ndef f():\n    return getattr(g, '__doc__')\n", "one", "two"),
    "a docstring parsed by a decorator": m("def d(g):\n    return lambda: g.__doc__\n@d\ndef f():\n    'one'\n", "one", "two"),
    "a type of a number": m("K = 1" + K, "K = 1", "K = 1.0"),
    "a constant in a comprehension": m("K = [i for i in range(3)]" + K, "range(3)", "range(4)"),
    "the bound of a slice": m("def f():\n    return 'abc'[1:]\n", "1:", "2:"),
    "namedtuple": m("from collections import namedtuple\nP = namedtuple('P', 'a b')\ndef f():\n    return P(1, 2).a\n", "'a b'", "'b a'"),
    "a nested class": m("class A:\n    class B:\n        k = 1\ndef f():\n    return A.B.k\n", "= 1", "= 2"),
    "a closure": m("def make():\n    k = 1\n    def g():\n        return k\n    return g\nf = make()\n", "= 1", "= 2"),
    "an f-string": m("K = 1\ndef f():\n    return f'{K:03d}'\n", "03d", "04d"),
    "a match in a function": m("def f():\n    match 1:\n        case 1:\n            return 1\n        case _:\n            return 2\n", "case 1", "case 3"),
}  # fmt: skip

BOTH = "def g():\n    return 1\n\n\ndef f():\n    return g()\n"
HARMLESS = {
    "a comment": m(F1, "    return", "    # why\n    return"),
    "layout": m(F1, "return 1", "return (\n        1\n    )"),
    "a docstring": m(F1, "    return", "    'Return one.'\n    return"),
    "a docstring of a module": m(F1, "def f", "'Words.'\n\n\ndef f"),
    "another docstring": m("'A.'\n" + F1, "A.", "B."),
    "a docstring of a class": m("class C:\n    'A.'\n    k = 1\ndef f():\n    return C.k\n", "A.", "B."),
    "a docstring of Config": e(CONFIG + "    'A.'\ndef value(c):\n    return c.x\n", "'A.'", "'B.'"),
    "an annotation": m("def f(x=1):\n    return x\n", "x=1", "x: int = 1"),
    "another annotation": m("def f(x: int = 1):\n    return x\n", "int", "float"),
    "the annotation of a result": m("def f():\n    return 1\n", "f():", "f() -> int:"),
    "an annotation of a cached function": m("from functools import cache\n@cache\ndef f(x: int = 1):\n    return x\n", "int", "float"),
    "an annotation of a method": m("class C:\n    def g(self, x: int):\n        return x\ndef f():\n    return C().g(1)\n", "int", "float"),
    "an annotation of a local": m("def f():\n    x: int = 1\n    return x\n", "int", "float"),
    "an annotation of a constant": m("K: int = 1" + K, "int", "float"),
    "an annotation with a name": m("from typing import Any\ndef f(x: int = 1):\n    return x\n", "int", "Any"),
    "the annotation of run": e("def value(c):\n    return c.x\n", "    return c.x", "    return c.x\n\n\n_T = list"),
    "drawing": e("def value(c):\n    return c.x\n\n\ndef draw(df, ax):\n    ax.plot([1])\n", "plot([1])", "plot([2])"),
    "a constant of drawing": e("COLOUR = 'red'\ndef value(c):\n    return c.x\n\n\ndef draw(df, ax):\n    ax.plot(COLOUR)\n", "'red'", "'blue'"),
    "a table of drawing": e("STYLE = {}\nSTYLE['a'] = 'red'\ndef value(c):\n    return c.x\n\n\ndef draw(df, ax):\n    ax.plot(STYLE)\n", "'red'", "'blue'"),
    "a list of drawing": e("STYLE = []\nSTYLE.append('red')\ndef value(c):\n    return c.x\n\n\ndef draw(df, ax):\n    ax.plot(STYLE)\n", "'red'", "'blue'"),
    "a computed constant of drawing": e("def shade(n):\n    out = []\n    for i in range(n):\n        out.append(i)\n    return out\nSHADES = shade(3)\ndef value(c):\n    return c.x\n", "shade(3)", "shade(4)"),
    "a theory": e("def value(c):\n    return c.x\ndef theory(c):\n    return c.x\n", "theory(c):\n    return c.x", "theory(c):\n    return c.x + 1"),
    "claims": e("def value(c):\n    return c.x\n", "    return c.x", "    return c.x\n\n\ndef _slope(df):\n    return 1"),
    "the list of claims": e("def value(c):\n    return c.x\n", "CLAIMS = []", "CLAIMS = [print]"),
    "the sweep": e("def value(c):\n    return c.x\n", "range(2)", "range(5)"),
    "LANES": e("LANES = 4\ndef value(c):\n    return c.x\n", "= 4", "= 8"),
    "STATIC": e("STATIC = ()\ndef value(c):\n    return c.x\n", "()\ndef", "('x',)\ndef"),
    "a default of the sweep": e(CONFIG + "def value(c):\n    return c.x\n", "x: float = 2.0", "x: float = 5.0"),
    "a default of a base": ({"e": "from m import Base\n@dataclass(frozen=True)\nclass Config(Base):\n    x: float = 2.0\n    seed: int = 0\ndef value(c):\n    return c.x\n", "m": "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Base:\n    k: int = 1\n"}, [("m", "= 1", "= 2")]),
    "order of functions": m(BOTH, BOTH.rstrip("\n"), "def f():\n    return g()\n\n\ndef g():\n    return 1"),
    "order of classes": m("class A:\n    k = 1\nclass B:\n    k = 2\ndef f():\n    return A.k + B.k\n", "class A:\n    k = 1\nclass B:\n    k = 2", "class B:\n    k = 2\nclass A:\n    k = 1"),
    "order of a class and a function": m("class A:\n    k = 1\ndef f():\n    return A.k\n", "class A:\n    k = 1\ndef f():\n    return A.k", "def f():\n    return A.k\nclass A:\n    k = 1"),
    "order of functions around an effect": m("R = []\nR.append(1)\ndef g():\n    return R\ndef f():\n    return g()\n", "R.append(1)\ndef g():\n    return R\n", "def g():\n    return R\nR.append(1)\n"),
    "order of imports": m("import math\nimport cmath\ndef f():\n    return math.pi + cmath.pi\n", "import math\nimport cmath", "import cmath\nimport math"),
    "order of imports of ours": e(f"from a import f\nfrom b import K{VALUE}f() + K", "from a import f\nfrom b import K", "from b import K\nfrom a import f", **PAIR),
    "imports in one line": e(f"from a import f\nfrom a import K{VALUE}f() + K", "f\nfrom a import K", "f, K", **PAIR),
    "an unused import": m(F1, "def f", "import os\n\n\ndef f"),
    "an unused import of ours": m(F1, "def f", "import a\n\n\ndef f", a="K = 1\n"),
    "an unused name of an import": m("from math import sin\ndef f():\n    return sin(1)\n", "sin\n", "sin, cos\n"),
    "an unused constant": m(F1, "def f", "UNUSED = 3\n\n\ndef f"),
    "an unused computed constant": m(F1, "def f", "from pathlib import Path\nHERE = Path('a').parent\n\n\ndef f"),
    "an unused logger": m(F1, "def f", "import logging\nlog = logging.getLogger('a')\n\n\ndef f"),
    "an unused table": m(F1, "def f", "T = {'a': [1, 2]}\n\n\ndef f"),
    "an unused function": m(F1, "def f", "def unused():\n    return 5\n\n\ndef f"),
    "an unused function changes": m("def unused():\n    return 5\n" + F1, "5", "6"),
    "an unused class": m(F1, "def f", "class Unused:\n    k = 1\n\n\ndef f"),
    "an unused dataclass": m(F1, "def f", "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Unused:\n    k: int = 1\n\n\ndef f"),
    "an unused subclass": m("class A:\n    k = 1\ndef f():\n    return A.k\n", "def f", "class B(A):\n    k = 2\ndef f"),
    "an unused decorated function": m("from functools import cache\n" + F1, "def f", "@cache\ndef unused():\n    return 5\n\n\ndef f"),
    "a type-checking import": m(F1, "def f", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\n\n\ndef f", a="K = 1\n"),
    "a main guard": m(F1, "    return 1\n", "    return 1\n\n\nif __name__ == '__main__':\n    print(f())\n"),
    "another file": ({"e": CALL, "m": F1}, [("other", None, "K = 1\n")]),
    "a function of another file": ({"e": CALL, "m": "from n import g\ndef f():\n    return g()\n", "n": "def g():\n    return 1\ndef h():\n    return 2\n"}, [("n", "return 2", "return 3")]),
    "a quote": m("def f():\n    return 'a'\n", "'a'", '"a"'),
    "a figure's style": e("def value(c):\n    return c.x\n\n\ndef draw(df, ax):\n    import matplotlib\n    matplotlib.rc('a')\n", "rc('a')", "rc('b')"),
}  # fmt: skip
