"""Random small projects, one random edit each: a changed result has a changed key."""

import random
import re
import tokenize
from io import StringIO

import pytest

from symlab.harness import code
from tests import code_edits as cases

MODULES = ("p", "q", "r")  # each may import those before it
FILES = (*MODULES, "e")


class Project:
    """Text of a few modules whose statements use, change and hide each other."""

    def __init__(self, draws: random.Random):
        self.draws = draws
        self.names: dict[str, list[str]] = {}
        self.files = {name: self.module(name) for name in MODULES}
        used = [f"{m}.{n}" for m in MODULES for n in self.names[m]]
        shown = ", ".join(f"repr({u})" for u in draws.sample(used, min(3, len(used))))
        calls = ", ".join(
            f"{m}.f{i}()" for m in MODULES for i in range(2) if draws.random() < 0.6
        )
        order = draws.sample(MODULES, 3)
        body = "".join(f"import {m}\n" for m in order)
        body += f"\n\ndef value(c):\n    return [{shown}, {calls}]\n"
        self.files["e"] = body

    def number(self) -> int:
        return self.draws.randrange(1, 9)

    def module(self, name: str) -> str:
        self.names[name] = ["K0", "T0"]
        lines = ["K0 = 1", "T0 = {}", *self.imports(name)]
        for _ in range(7):
            lines.append(self.draws.choice(self.kinds)(self, name))
        for i in range(2):
            lines.append(f"def f{i}(x={self.use(name)}):\n    {self.body(name)}")
        return "\n".join(lines) + "\n"

    def imports(self, name: str) -> list[str]:
        before = MODULES[: MODULES.index(name)]
        lines = [f"import {m}" for m in before]
        for m in before:
            if self.draws.random() < 0.5:
                lines.append(f"from {m} import *")
            picked = self.draws.choice(self.names[m])
            lines.append(f"from {m} import {picked} as {name.upper()}_{m}")
            self.names[name].append(f"{name.upper()}_{m}")
        return lines

    def use(self, name: str) -> str:
        before = MODULES[: MODULES.index(name)]
        local = [n for n in self.names[name] if not n.startswith("C")]
        far = [f"{m}.{n}" for m in before for n in self.names[m]]
        return f"str({self.draws.choice([*local, *far, str(self.number())])})[:9]"

    def body(self, name: str) -> str:
        return self.draws.choice(
            [
                f"return x + {self.use(name)}",
                f"return [x, {self.use(name)}, {self.number()}]",
                f"T0[{self.number()}] = {self.use(name)}\n    return T0",
                f"global K0\n    K0 = {self.use(name)}\n    return x",
                f"from math import sin as g\n    return g({self.number()})",
            ]
        )

    def new(self, name: str, kind: str) -> str:
        made = f"{kind}{self.draws.randrange(4)}"
        if made not in self.names[name]:
            self.names[name].append(made)
        return made

    def constant(self, name):
        value = self.draws.choice([str(self.number()), self.use(name)])
        return f"{self.new(name, 'K')} = {value}"

    def item(self, name):
        return f"T0[{self.number()}] = {self.use(name)}"

    def elsewhere(self, name):
        before = MODULES[: MODULES.index(name)]
        if not before:
            return self.item(name)
        return f"{self.draws.choice(before)}.K0 = {self.use(name)}"

    def loop(self, name):
        return f"for i in range({self.number()}):\n    T0[i] = {self.use(name)}"

    def choice(self, name):
        test = f"len({self.use(name)}) < {self.number()}"
        made = self.new(name, "K")
        return f"if {test}:\n    {made} = {self.number()}\nelse:\n    {made} = 'no'"

    def call(self, name):
        made = f"g{self.draws.randrange(99)}"
        call = self.draws.choice([f"{made}()", f"_ = {made}()", f"K0 = {made}()"])
        return f"def {made}(x='0'):\n    {self.body(name)}\n\n\n{call}"

    def registered(self, name):
        made = f"h{self.draws.randrange(99)}"
        return (
            f"def reg{made}(f):\n    T0[f.__name__] = f()\n    return f\n\n\n"
            f"@reg{made}\ndef {made}():\n    return {self.use(name)}"
        )

    def klass(self, name):
        value = self.use(name)
        made = self.new(name, "K")
        return f"class {made}:\n    k = {value}\n\n\n{made} = {made}.k"

    def alias(self, name):
        return f"K0, T1 = T0, {{}}\nT1[0] = {self.use(name)}\nK0[1] = {self.number()}"

    kinds = [constant, item, elsewhere, loop, choice, call, registered, klass, alias]


def statements(text: str) -> list[str]:
    """Top-level statements, roughly: lines that are indented go with those before."""
    return re.split(r"\n+(?=[^\s@)]|@)(?<!@)", text.rstrip("\n"))


def mutated(draws: random.Random, text: str) -> str:
    """One number, one order, one import or one statement is another."""
    kind = draws.choice(["number", "number", "swap", "swap", "drop", "import"])
    if kind == "number":
        found = list(re.finditer(r"(?<![\w.])\d(?![\w.])", text))
        one = draws.choice(found) if found else None
        return text if one is None else f"{text[: one.start()]}7{text[one.end() :]}"
    if kind == "import":
        return text.replace("sin as g", "cos as g", 1)
    parts = statements(text)
    i = draws.randrange(len(parts) - 1)
    if kind == "swap" and not parts[i].startswith("@"):
        parts[i], parts[i + 1] = parts[i + 1], parts[i]
    elif kind == "drop":
        del parts[i]
    return "\n".join(parts) + "\n"


def harmless(draws: random.Random, text: str) -> str:
    """Comments, annotations, something unused: a function, a constant, an import."""
    added = ["# a comment\n", "def unused():\n    return T0\n", "UNUSED = 3\n"]
    added += ["import colorsys\n", "class Unused:\n    k = 3\n"]
    parts = statements(text)
    places = [i for i in range(1, len(parts)) if parts[i - 1][0] != "@"]
    parts.insert(draws.choice(places), draws.choice(added).rstrip("\n"))
    text = "\n".join(parts) + "\n"
    text = re.sub(r"def f(\d)\(x=", r"def f\1(x: 'float' =", text)
    return "".join(
        line + ("  # why" if line.startswith("K0 = ") else "") + "\n"
        for line in text.splitlines()
    )


def key(root) -> str:
    return code.reach(root, "experiments.e", ["run"]).code


def is_python(text: str) -> bool:
    try:
        compile(text, "x", "exec")
        list(tokenize.generate_tokens(StringIO(text).readline))
    except (SyntaxError, tokenize.TokenError):
        return False
    return True


LONG = pytest.mark.long


@pytest.mark.parametrize(
    "seed", [0, 1, 2, *(pytest.param(s, marks=LONG) for s in range(3, 12))]
)
def test_a_result_never_changes_under_the_same_key(tmp_path, seed):
    draws = random.Random(seed)
    changed = 0
    for number in range(10):
        root = tmp_path / str(number)
        project = Project(draws)
        cases.write(root, project.files)
        result, before = cases.play(root), key(root)
        for _ in range(5):
            name = draws.choice(FILES)
            text = mutated(draws, project.files[name])
            if not is_python(text):
                continue
            cases.write(root, {name: text})
            other, after = cases.play(root), key(root)
            if "Error" not in result + other and result != other:
                changed += 1
                assert before != after, f"{name}.py:\n{project.files[name]}\n{text}"
            cases.write(root, {name: project.files[name]})
    assert changed  # the edits are worth something; a project that fails has no rows


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(s, marks=LONG) for s in range(2, 6))]
)
def test_what_changes_nothing_keeps_the_key(tmp_path, seed):
    draws = random.Random(1000 + seed)
    for number in range(10):
        root = tmp_path / str(number)
        project = Project(draws)
        cases.write(root, project.files)
        before = key(root)
        for name in MODULES:
            text = harmless(draws, project.files[name])
            if is_python(text):
                cases.write(root, {name: text})
                assert key(root) == before, f"{name}.py:\n{text}"
