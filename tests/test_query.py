"""Which configs a condition selects, and which texts are refused unevaluated."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symlab.harness.errors import UserError
from symlab.harness.query import only

CONFIGS = {
    f"{i}{name}{on}": {"seed": i, "lr": 0.1 * i, "model": name, "on": on}
    for i in range(3)
    for name in ("uv", "it's")
    for on in (True, False)
}


def chosen(query):
    return list(only(CONFIGS, query))


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("lr<0.15 and seed<3", lambda c: c["lr"] < 0.15),
        ("0 < seed <= 1", lambda c: c["seed"] == 1),
        ("model == 'uv' or not on", lambda c: c["model"] == "uv" or not c["on"]),
        ('model != "it\'s" and on', lambda c: c["model"] == "uv" and c["on"]),
        ("seed in (0, 2)", lambda c: c["seed"] != 1),
        ("seed not in [0, 2] ", lambda c: c["seed"] == 1),
        ("seed > -1 and lr >= +0.1", lambda c: c["seed"] >= 1),
        ("on == True", lambda c: c["on"]),
        ("seed == 1.0", lambda c: c["seed"] == 1),
        ("True", lambda c: True),
        ("seed == lr", lambda c: c["seed"] == 0),
    ],
)
def test_a_condition_means_what_it_means_in_python(query, meant):
    assert chosen(query) == [k for k, c in CONFIGS.items() if meant(c)]


def test_a_field_that_is_missing_selects_nothing_to_plan():
    assert only(CONFIGS, "width > 1 or seed == 0") is None


@pytest.mark.parametrize(
    "query",
    [
        "@pd.io.common.os.system('touch broken')",
        "__import__('os').system('touch broken')",
        "model.__class__ == 'x'",
        "[c for c in (1, 2)] == seed",
        "(lambda: 1)() == 1",
        "seed + 1 == 2",
        "seed == 9**9**9",
        "f'{model}' == 'uv'",
        "seed is 1",
        "seed in model",
        "seed in range(3)",
        "(seed := 1) == 1",
        "seed",
        "not seed",
        "seed and on",
        "1",
        "'uv'",
        "seed < 'a'",
        "(lr < 1) & (seed < 2)",
        "seed == 1 if on else 0",
        "seed == None",
        "seed == (1, 2)",
        "`seed` == 1",
        "seed = 1",
        "x <",
        "",
        "seed == 1\0",
        "not " * 50_000 + "on",
        "(" * 5_000 + "on" + ")" * 5_000,
    ],
)
def test_other_texts_are_refused_in_one_sentence(query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot read the query") as caught:
        only(CONFIGS, query)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


LETTERS = "seedlron ()<>=!'\"0123.,andortinx[]{}@`$;:+-*/%\\"


@given(st.text(alphabet=LETTERS, max_size=40))
def test_any_text_is_a_condition_or_is_refused(text):
    try:
        kept = only(CONFIGS, text)
    except UserError:
        return
    assert kept is None or set(kept) <= set(CONFIGS)


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize(
    "query",
    ["`touch broken`", "$(touch broken)", '"; touch broken; "', "'; touch broken; '"],
)
def test_the_shell_reads_no_part_of_a_query(sandbox, query):
    makefile = Path(__file__).parents[1] / "Makefile"
    done = subprocess.run(
        ["make", "-f", makefile, "VENV=", f"PYTHON={sys.executable}", "line"],
        cwd=sandbox.root,
        env={**os.environ, "ONLY": query},
        text=True,
        capture_output=True,
        check=False,
    )
    assert "cannot read the query" in done.stderr
    assert not (sandbox.root / "broken").exists()


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_quotes_of_a_query_reach_the_command(sandbox):
    makefile = Path(__file__).parents[1] / "Makefile"
    words = ["line", "ONLY=x in (1.0, 2.0) and seed != 0", "DRY=1"]
    done = subprocess.run(
        ["make", "-f", makefile, "VENV=", f"PYTHON={sys.executable}", *words],
        cwd=sandbox.root,
        text=True,
        capture_output=True,
        check=False,
    )
    assert "to run: 6" in done.stdout + done.stderr
