"""Notebooks without a Jupyter server: run the code cells, keep what they print.

`python tests/notebooks.py examples/*.ipynb` writes the outputs into the notebooks.
"""

import ast
import base64
import contextlib
import io
import json
import os
import sys
from pathlib import Path


def read(path: Path) -> dict:
    """Return a notebook as the dict of its JSON."""
    return json.loads(Path(path).read_text("utf-8"))


def run(path: Path) -> list[list[dict]]:
    """Return the outputs of each code cell of a notebook, run in its folder in one
    scope.

    A cell gives what it prints, then its last line's value, as a notebook shows it:
    text, and a figure as PNG.
    """
    scope, outputs = {"__name__": "__main__"}, []
    with contextlib.chdir(Path(path).parent):
        for cell in read(path)["cells"]:
            if cell["cell_type"] == "code":
                outputs.append(_execute("".join(cell["source"]), scope, len(outputs)))
    return outputs


def _execute(source: str, scope: dict, number: int) -> list[dict]:
    tree, printed = ast.parse(source), io.StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"cell {number + 1}", "exec"), scope)
        value = None
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), scope)
    out = []
    if text := printed.getvalue():
        out.append({"name": "stdout", "output_type": "stream", "text": _lines(text)})
    if value is not None:
        data = {"text/plain": _lines(repr(value))}
        if hasattr(value, "savefig"):
            file = io.BytesIO()
            value.savefig(file, format="png", dpi=100, metadata={"Software": None})
            data = {"image/png": base64.b64encode(file.getvalue()).decode()} | data
        out.append(
            {"data": data, "execution_count": number + 1, "metadata": {},
             "output_type": "execute_result"}
        )  # fmt: skip
    return out


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def texts(outputs: list[dict]) -> list[str]:
    """Return what outputs of a cell say in words; a figure says nothing."""
    return [
        "".join(o.get("text") or o["data"]["text/plain"])
        for o in outputs
        if "image/png" not in o.get("data", {})
    ]


def write(path: Path) -> None:
    """Run a notebook and put the outputs into its file."""
    notebook, made = read(path), run(path)
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    for i, (cell, outputs) in enumerate(zip(code, made, strict=True)):
        cell |= {"execution_count": i + 1, "outputs": outputs}
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    Path(path).write_text(text, "utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in sys.argv[1:]:
        write(Path(name).resolve())
