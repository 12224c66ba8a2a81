"""The code key changes when a result may, and only then, on every Python version."""

import ast
import json
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from symlab.harness import code, syntax
from symlab.harness.errors import UserError

HOME = Path(__file__).resolve().parents[1]


def manifest(sandbox):
    return code.reach(sandbox.root, "experiments.line", ["run"]).definitions


def test_a_function_two_modules_away_counts_and_is_named(sandbox):
    before = manifest(sandbox)
    sandbox.edit("deep.py", "return 2.0", "return 2.5")
    assert code.changed(before, manifest(sandbox)) == ["deep:factor"]
    sandbox.edit("deep.py", "return 2.5", "return 2.0")
    assert manifest(sandbox) == before


def test_what_only_the_default_of_a_field_uses_is_not_followed(sandbox):
    sandbox.edit("experiments/line.py", "x: float = 1.0", "x: float = START + 1.0")
    sandbox.edit("experiments/line.py", "LANES = 4", "LANES = 4\nSTART = 0.0")
    found = manifest(sandbox)
    assert "experiments.line:Config" in found
    assert "experiments.line:START" not in found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" + ".join(["x"] * 1500), " + ".join(["x"] * 1499)),
        (
            "".join(f"(x == {i} and {i}) or (" for i in range(90)) + "0" + ")" * 90,
            "".join(f"(x == {i} and {i}) or (" for i in range(90)) + "1" + ")" * 90,
        ),
        ("x % 0x" + "f" * 5000, "x % 0x" + "f" * 4999 + "e"),
    ],
)
def test_long_expressions_and_numbers_have_a_key(sandbox, old, new):
    sandbox.edit("middle.py", "    return factor()", f"    return factor() + ({old})")
    before = manifest(sandbox)
    sandbox.edit("middle.py", f"({old})", f"({new})")
    assert code.changed(before, manifest(sandbox)) == ["middle:scale"]


def test_a_chain_of_400_elif_has_a_key(sandbox):
    chain = "".join(f"    elif x == {i}:\n        x = {i + 1}\n" for i in range(400))
    text = f"    if x < 0:\n        x = 0\n{chain}    return factor()"
    sandbox.edit("middle.py", "    return factor()", text)
    before = manifest(sandbox)
    sandbox.edit("middle.py", "x = 400\n", "x = 500\n")
    assert code.changed(before, manifest(sandbox)) == ["middle:scale"]


def test_an_expression_that_is_too_deep_is_one_sentence(sandbox, monkeypatch):
    monkeypatch.setattr(code, "DEEPEST", 2000)
    deep = "x" + ".real" * 900
    sandbox.edit("middle.py", "    return factor()", f"    return factor() + {deep}")
    with pytest.raises(UserError, match="too many nested parts"):
        manifest(sandbox)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("experiments/line.py", 'label="y"', 'label="other"'),  # draw
        ("experiments/line.py", '"""y = 2 x + noise."""', '"""Other words."""'),
        ("experiments/line.py", '"""Input."""', '"""Other words."""'),
        ("experiments/line.py", "above=1.9", "above=1.8"),  # CLAIMS
        ("experiments/line.py", "range(4)", "range(5)"),  # sweep
        ("experiments/line.py", "LANES = 4", "LANES = 2"),
        (
            "experiments/line.py",
            "x: float = 1.0",
            "x: float = 1.5",
        ),  # value is in the key
        (
            "middle.py",
            "    return factor()",
            "    # a comment\n\n    return  factor( )",
        ),
        ("middle.py", "def scale(x):", 'def scale(x: float) -> float:\n    """Doc."""'),
        ("deep.py", "def factor", "UNUSED = 3\n\n\ndef factor"),
    ],
)
def test_what_cannot_change_a_result_does_not_count(sandbox, file, old, new):
    before = manifest(sandbox)
    sandbox.edit(file, old, new)
    assert manifest(sandbox) == before


@pytest.mark.parametrize(
    ("file", "old", "new", "name"),
    [
        ("experiments/line.py", "0.01 * float", "0.02 * float", "experiments.line:run"),
        ("middle.py", "factor() * x", "x * factor()", "middle:scale"),
        (
            "deep.py",
            "def factor",
            "import os\nos.umask(0o22)\n\n\ndef factor",
            "deep:top level",
        ),
    ],
)
def test_what_can_change_a_result_counts(sandbox, file, old, new, name):
    before = manifest(sandbox)
    sandbox.edit(file, old, new)
    assert name in code.changed(before, manifest(sandbox))


REACH = {
    "a constant": ("from m import f", "K = 1\ndef f():\n    return K", "m:K", "K = 1"),
    "an alias": ("import m as q\nf = q.f", "def f():\n    return 1", "m:f", "return 1"),
    "a method": (
        "from m import C\nf = C().g",
        "class C:\n    def g(self):\n        return 1",
        "m:C",
        "return 1",
    ),
    "a default": (
        "from m import f",
        "def d():\n    return 1\ndef f(x=d()):\n    return x",
        "m:d",
        "return 1",
    ),
    "a decorator": (
        "from m import f",
        "def d(f):\n    return f\n@d\ndef f():\n    return 1",
        "m:d",
        "return f\n",
    ),
    "a registry": (
        "from m import f",
        "R = {}\ndef reg(f):\n    R[f.__name__] = f\n    return f\n"
        "@reg\ndef h():\n    return 1\ndef f():\n    return R['h']()",
        "m:h",
        "return 1",
    ),
    "a local import": (
        "def f():\n    from m import g\n    return g()",
        "def g():\n    return 1",
        "m:g",
        "return 1",
    ),
    "a star import": ("from m import *", "def f():\n    return 1", "m:f", "return 1"),
    "a re-export": (
        "from package import f",
        "def f():\n    return 1",
        "m:f",
        "return 1",
    ),
    "a comprehension": (
        "from m import f",
        "def g():\n    return 1\ndef f():\n    return [g() for _ in 'a']",
        "m:g",
        "return 1",
    ),
    "an f-string": (
        "from m import f",
        "def g():\n    return 1\ndef f():\n    return float(f'{g():d}')",
        "m:g",
        "return 1",
    ),
    "a mutated table": (
        "from m import f",
        "T = {}\nT['a'] = 1\ndef f():\n    return T",
        "m:T",
        "= 1",
    ),
}


@pytest.mark.parametrize("how", REACH)
def test_it_follows(sandbox, how):
    experiment, module, name, text = REACH[how]
    sandbox.write("m.py", module + "\n")
    (sandbox.root / "package").mkdir()
    sandbox.write("package/__init__.py", "from m import f\n")
    sandbox.edit(
        "experiments/line.py", "from middle import scale", experiment + "\nscale = f"
    )
    before = manifest(sandbox)
    sandbox.edit(
        "m.py", text, text.replace("1", "2").replace("return f\n", "return  (f) or 0\n")
    )
    assert name in code.changed(before, manifest(sandbox))


HARDER = {
    # what the experiment does, {file: text}, the file and text that change, the name
    "a guarded import": (
        "try:\n    from m import f\nexcept ImportError:\n    from o import f",
        {"m.py": "def f():\n    return 1\n", "o.py": "def f():\n    return 3\n"},
        "m.py", "m:f",
    ),
    "a wrapped name": (
        "from m import f\n_inner = f\ndef f():\n    return _inner()",
        {"m.py": "def f():\n    return 1\n"}, "m.py", "m:f",
    ),
    "an else of TYPE_CHECKING": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import m\n"
        "else:\n    from m import f",
        {"m.py": "def f():\n    return 1\n"}, "m.py", "m:f",
    ),
    "a namespace package": (
        "import p.q.r\nf = p.q.r.f", {"p/q/r.py": "def f():\n    return 1\n"},
        "p/q/r.py", "p.q.r:f",
    ),
    "the first iterable of a comprehension": (
        "from m import x\ndef f():\n    return sum([x for x in x])",
        {"m.py": "x = [1]\n"}, "m.py", "m:x",
    ),
    "an import that a function shadows": (
        "import m\ndef f():\n    def g():\n        import o as m\n        return m.f()"
        "\n    return g() + m.f()",
        {"m.py": "def f():\n    return 1\n", "o.py": "def f():\n    return 3\n"},
        "m.py", "m:f",
    ),
    "a walrus": (
        "from m import g\nX = (K := g())\ndef f():\n    return K",
        {"m.py": "def g():\n    return 1\n"}, "m.py", "m:g",
    ),
    "a base that collects its classes": (
        "from m import f",
        {"m.py": "class B:\n    all = []\n    def __init_subclass__(cls):\n"
         "        B.all.append(cls)\nclass C(B):\n    y = 1\n"
         "def f():\n    return B.all[0].y\n"}, "m.py", "m:C",
    ),
    "a module imported for its effect": (
        "import effect\nfrom m import f",
        {"effect.py": "import m\nm.K = 1\n",
         "m.py": "K = 0\ndef f():\n    return K\n"}, "effect.py", "effect:top level",
    ),
    "a relative import": (
        "from p.a import f",
        {"p/__init__.py": "", "p/a.py": "from . import b\n\n\ndef f():\n"
         "    return b.g()\n", "p/b.py": "def g():\n    return 1\n"},
        "p/b.py", "p.b:g",
    ),
    "a closure": (
        "from m import make\nf = make()",
        {"m.py": "def g():\n    return 1\ndef make():\n    def inner():\n"
         "        return g()\n    return inner\n"}, "m.py", "m:g",
    ),
    "a table of functions": (
        "from m import T\nf = T['a']",
        {"m.py": "def g():\n    return 1\nT = {'a': g}\n"}, "m.py", "m:g",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", HARDER)
def test_it_follows_what_python_would_run(sandbox, how):
    experiment, files, changing, name = HARDER[how]
    for file, text in files.items():
        (sandbox.root / file).parent.mkdir(parents=True, exist_ok=True)
        sandbox.write(file, text)
    sandbox.edit(
        "experiments/line.py", "from middle import scale", experiment + "\nscale = f"
    )
    before = manifest(sandbox)
    sandbox.edit(changing, "1", "2")
    assert name in code.changed(before, manifest(sandbox))


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("    @property\n    def twice(self):\n        return 1\n", True),
        ("    K: ClassVar[int] = 1\n", True),
        ("    K = 1\n", True),
        ("    z: int = 1\n", False),
    ],
)
def test_of_config_all_but_the_fields_counts(sandbox, text, counts):
    sandbox.edit(
        "experiments/line.py", "    seed: int = 0\n", "    seed: int = 0\n" + text
    )
    before = manifest(sandbox)
    sandbox.edit("experiments/line.py", text, text.replace("1", "2"))
    assert (manifest(sandbox) != before) == counts


def test_a_local_name_is_not_a_global_one(sandbox):
    sandbox.write(
        "m.py",
        "def noise():\n    return 1\ndef f(noise=3):\n"
        "    return [noise for noise in (noise,)]\n",
    )
    sandbox.edit("middle.py", "from deep import factor", "from m import f as factor")
    assert not any("m:noise" in k for k in manifest(sandbox))


def pythons() -> list[str]:
    """Other Pythons of this machine that symlab supports."""
    found = [shutil.which(f"python3.{minor}") for minor in (11, 12, 13)]
    found += sorted(
        str(p) for p in Path.home().glob(".pyenv/versions/3.1[123].*/bin/python")
    )
    working = []
    for python in filter(None, found):
        probe = subprocess.run(
            [python, "-c", "import sys; print(sys.version_info[1])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if probe.returncode == 0 and int(probe.stdout) != sys.version_info[1]:
            working.append(python)
    return working


# Syntax on which the parsers of 3.11, 3.12 and 3.13 are known or suspected to differ.
HARD = r"""
def f(x, *, y: int = 3, **k) -> "str":
    "doc"
    a = f"{x!r:>{y}} {x=} {'a' 'b'}{{}} {x:{'>'}{y}}" 'tail' f'{x}'
    b = f"" or f"{x:}" or "\u2028\U0001fae8" or b"\xff" or 1e400 or 1_000j or ...
    with (open(x) as p, open(y) as q): pass
    match x:
        case {"k": [1, *rest], **more} if rest: return lambda *a, b=1: (a, b)
        case str() | None: pass
    try: pass
    except* ValueError as e: raise
    async def g(): return [i async for i in x if await i]
    return {**k, 'n': -0.0, 1: x[1:2, ...], 2: (z := 3)}
class C[T]: pass
""".replace("class C[T]: pass\n", "class C: pass\n")


def test_the_key_of_hard_syntax_is_what_it_was():
    """Also where only one Python is at hand: a change here makes every row stale."""
    text = syntax.canonical(ast.parse(HARD))
    assert sha256(text.encode()).hexdigest()[:16] == "70b338f21945187b"


def test_the_same_source_has_one_key_on_every_python(tmp_path):
    others = pythons()
    if not others:
        pytest.skip("no other Python on this machine")
    (tmp_path / "hard.py").write_text(HARD)
    files = [
        tmp_path / "hard.py",
        *sorted((HOME / "symlab").rglob("*.py")),
        *sorted((HOME / "experiments").glob("*.py")),
        *sorted(Path(ast.__file__).parent.glob("*.py"))[:80],
    ]
    script = (
        "import sys, ast, json, hashlib, importlib.util as u\n"
        "s = u.spec_from_file_location('code_', sys.argv[1])\n"
        "m = u.module_from_spec(s); s.loader.exec_module(m)\n"
        "print(json.dumps([hashlib.sha256(m.canonical(ast.parse(open(f).read()))"
        ".encode()).hexdigest() for f in sys.argv[2:]]))"
    )
    path = HOME / "symlab" / "harness" / "syntax.py"
    answers = {}
    for python in [sys.executable, *others]:
        out = subprocess.run(
            [python, "-W", "ignore", "-c", script, path, *files],
            check=True,
            capture_output=True,
            text=True,
        )
        answers[python] = json.loads(out.stdout)
    first = answers.pop(sys.executable)
    for python, keys in answers.items():
        different = [
            str(f) for f, a, b in zip(files, first, keys, strict=True) if a != b
        ]
        assert not different, f"{python} differs on {different}"


JUDGING = ("claims", "estimates", "panels", "plot", "race", "stats", "contract")


@pytest.mark.parametrize(
    "name", [f.stem for f in sorted((HOME / "experiments").glob("[!_]*.py"))]
)
def test_judging_and_drawing_are_in_no_key(name):
    """Selections of rows, arms and papers are made at import, and change no result."""
    found = code.reach(HOME, f"experiments.{name}", ["run"]).definitions
    modules = {f"symlab.harness.{m}" for m in JUDGING} | {"symlab.papers"}
    assert not {k for k in found if k.split(":")[0] in modules}
