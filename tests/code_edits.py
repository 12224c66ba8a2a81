"""Small projects and edits of them: some change what `run` returns, some do not.

The cases stand in code_edits.txt, and those that keys are known to miss in
code_edits_missed.txt. Each begins with a line `=== change: name` or
`=== harmless: name`; then follow the files of the project (`--- m` begins m.py, and
`--- e` the body of the experiment, which defines value(c)), and the edits (`<<< m`, the
old text, `>>>`, the new text; or `+++ m` and the text of a new file).
"""

import sys
from decimal import localcontext
from pathlib import Path

import numpy as np

from symlab.harness import rng

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


def read(kind: str) -> dict[str, tuple[dict, list]]:
    """{name: (files, edits)} of the cases of a kind: 'change', 'harmless' or 'missed'.

    files: {name: text}. edits: (file, old text, new text), or None for the old text.
    """
    file = "code_edits_missed.txt" if kind == "missed" else "code_edits.txt"
    text = Path(__file__).with_name(file).read_text()
    cases = {}
    for case in text.split("=== ")[1:]:
        title, _, rest = case.partition("\n")
        if title.startswith(f"{kind}: "):
            cases[title.removeprefix(f"{kind}: ")] = _parts(rest)
    return cases


def _parts(text: str) -> tuple[dict, list]:
    files, edits, lines, name = {}, [], [], ""
    for line in text.splitlines():
        if line[:4] in ("--- ", "+++ ", "<<< "):
            name, lines = line[4:], []
            if line[0] == "-":
                files[name] = lines
            else:
                edits.append((name, lines if line[0] == "<" else None, lines))
        elif line == ">>>":
            lines = []
            edits[-1] = (*edits[-1][:2], lines)
        else:
            lines.append(line)
    joined = [
        (n, None if a is None else "\n".join(a), "\n".join(b)) for n, a, b in edits
    ]
    return {n: "\n".join(t) + "\n" for n, t in files.items()}, joined


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
    stream = rng.stream  # a case may replace it
    sys.path[:0] = [str(root), *map(str, paths)]
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
    try:
        scope = {
            "__name__": "experiments.e",
            "__file__": str(root / "experiments/e.py"),
        }
        module = type(sys)("experiments.e")
        module.__dict__.update(scope)
        sys.modules["experiments.e"] = module
        sys.path_importer_cache.clear()
        source = (root / "experiments/e.py").read_text()
        with np.errstate(), localcontext():  # a case may set them for good
            exec(compile(source, "e.py", "exec"), module.__dict__)
            configs = [module.Config(x=3.0, seed=s) for s in (0, 1)]
            return repr(module.run(configs))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        rng.stream = stream
        sys.dont_write_bytecode = kept
        sys.path[:] = known
        for name in set(sys.modules) - set(before):
            if _ours(sys.modules[name], [root, *paths]):
                del sys.modules[name]


def _ours(module, folders) -> bool:
    """Whether a module lies in the project; numpy cannot be imported twice."""
    path = getattr(module, "__path__", ())
    inside = path if hasattr(type(path), "__iter__") else ()  # not torch.classes
    places = [getattr(module, "__file__", None) or "", *inside]
    fresh = module.__name__ == "experiments.e"
    return fresh or any(str(p).startswith(str(f)) for p in places for f in folders)
