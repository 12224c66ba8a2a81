"""What the columns of an experiment's rows mean.

A row holds the settings of its run, the results of `run`, and its history. A setting is
described by the string below its field in `Config`. A result is described in the
docstring of the function that makes it, which is `run` or any function that `run`
reaches, in a section of this form:

    Columns:
        loss: mean squared error on test data after the last step.
        path: (steps,), the same after each step; more text of an entry is indented
            further.
        rank, rank_loose: number of singular values above 1e-6 and above 1e-3.

History is the same for all experiments: `HISTORY`.
"""

import ast
import re
from functools import lru_cache
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path

import pandas as pd

from symlab.harness import contract
from symlab.harness.project import Project

HISTORY = {
    "key": "which run: a hash of the experiment's name and of its settings",
    "code": "which code made the row: a hash of all that `run` reaches",
    "status": "`ok` or `failed`",
    "error": "the traceback of a failed run, at most 4000 characters of it; else empty",
    "lanes": "how many configurations the call of `run` had",
    "wall_s": "seconds of the call, divided by its lanes",
    "device": "`cpu` or `cuda`",
    "threads": "threads of BLAS and torch, always 1",
    "versions": "Python and packages where the row was made, as in "
    "`python 3.12.3, numpy 2.1.0`",
    "cpu": "the model of the processor",
    "blas": "the BLAS libraries that were loaded, with version and architecture; "
    "torch's own, which is often linked into it, after `torch:`",
    "system": "operating system, architecture, C library",
    "claims_digest": "16 hex digits, a hash of the claims when the run was made",
    "git": "the commit",
    "dirty": "whether files differed from the commit",
    "finished": "the time when the row was made (UTC)",
}
_ENTRY = re.compile(r"(\w+(?:, \w+)*): (.*)")


def meanings(project: Project, experiment: str) -> pd.DataFrame:
    """Return what each column of an experiment's rows means, a row per column.

    The columns are `column`; `kind`, which is 'setting', 'result' or 'history'; and
    `meaning`, a text. A setting's meaning names its default. Results are those that
    docstrings describe, whether or not rows exist.

    Raises UserError if there is no such experiment.
    """
    loaded = contract.load(project, experiment)
    rows = [
        *((name, "setting", text) for name, text in _settings(loaded.path).items()),
        *((name, "result", text) for name, text in results(project, loaded).items()),
        *((name, "history", text) for name, text in HISTORY.items()),
    ]
    return pd.DataFrame(rows, columns=["column", "kind", "meaning"])


def results(project: Project, experiment: contract.Experiment) -> dict[str, str]:
    """Return {column: meaning} of the results of an experiment.

    Where two docstrings describe a column, that in the experiment's own file counts.
    """
    reached: dict[str, set[str]] = {}
    for definition in experiment.reached.definitions:
        module, _, name = definition.partition(":")
        reached.setdefault(module, set()).add(name)
    own = f"{project.experiments.name}.{experiment.name}"
    found: dict[str, str] = {}
    for module in sorted(reached, key=lambda m: m == own):
        path = experiment.path if module == own else _source(module)
        for name, text in _documented(path, path.stat().st_mtime_ns) if path else ():
            if name in reached[module]:
                found |= described(text)
    return found


def described(docstring: str) -> dict[str, str]:
    """Return {column: meaning} of the section 'Columns:' of a docstring."""
    _, header, section = f"\n{cleandoc(docstring)}".partition("\nColumns:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines() if header else ():
        if line.strip() and not line.startswith("    "):
            break  # the section has ended
        entry = _ENTRY.fullmatch(line[4:])
        if entry:
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def _source(module: str) -> Path | None:
    spec = find_spec(module)
    return Path(spec.origin) if spec and spec.origin else None


@lru_cache(maxsize=512)
def _documented(path: Path, _changed: int) -> tuple[tuple[str, str], ...]:
    """(name of a function or class of a file, a docstring in it that has columns).

    _changed: when the file was changed, so that an edited one is read again.
    """
    return tuple(
        (outer.name, text)
        for outer in _parsed(path).body
        if isinstance(outer, ast.FunctionDef | ast.ClassDef)
        for inner in ast.walk(outer)
        if isinstance(inner, ast.FunctionDef | ast.ClassDef)
        for text in [ast.get_docstring(inner) or ""]
        if "Columns:" in text
    )


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _settings(path: Path) -> dict[str, str]:
    """{field of Config: the string below it, and its default}."""
    for node in _parsed(path).body:
        if isinstance(node, ast.ClassDef) and node.name == "Config":
            return {
                field.target.id: f"{' '.join(_text(below).split())} Default: "
                f"{ast.unparse(field.value)}."
                for field, below in zip(node.body, [*node.body[1:], None], strict=True)
                if isinstance(field, ast.AnnAssign) and field.value is not None
            }
    return {}


def _text(node: ast.stmt | None) -> str:
    """The text of a statement that is a string; '' for any other."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return str(node.value.value)
    return ""
