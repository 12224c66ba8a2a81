"""README and docs: places that are filled from rows, and code that runs as it says."""

import contextlib
import importlib.util
import io
import re
import shlex
import shutil
import sys
import types
from pathlib import Path

import pandas as pd
import pytest

from symlab.harness import Claim, api, contract, pages, project, where
from symlab.harness.claims import Paper, judge
from symlab.harness.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PROJECT = project.find(ROOT)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TEXTS = {page.name: page for page in pages.texts(PROJECT)}
FIGURES = set(contract.figures(PROJECT))
PAPER = Paper("A 2024", "A", "T", 2024, "1", headlines={"sparse": "It is sparse."})


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, content) of each fenced block of a page, in order."""
    return FENCE.findall(TEXTS[page].read_text())


# --- places --------------------------------------------------------------------------


def verdict(name: str, **fields):
    frame = pd.DataFrame({"seed": range(8), "y": [1.0, 2.0] * 4})
    given = {"estimate": where().mean("y"), "reason": "R.", "above": 0.0}
    given |= {"paper": PAPER, "place": "figure 1"} | fields
    return judge("line", Claim(name, "y is large.", **given), frame)


@pytest.fixture
def board(sandbox):
    """A project with a page of claims, whose verdicts are made up."""
    (sandbox.root / "docs").mkdir()
    return project.Project(sandbox.root)


VERDICTS = [verdict("a"), verdict("b", above=3.0), verdict("c", above=1.5)]


def test_a_page_shows_the_scoreboard_and_a_terminal_shows_it_again(board, sandbox):
    assert pages.committed_scoreboard(board) == ""
    page = board.root / "docs" / "claims.md"
    before = "First.\n<!-- scoreboard all -->\nold\n<!-- end -->\nLast.\n"
    page.write_text(pages.filled(board, "quick", before, VERDICTS))
    text = page.read_text()
    assert text.startswith("First.\n<!-- scoreboard all -->\n| paper | supported (")
    row = "| A 2024 | 1 (1) | 1 (1) | 1 | 3 (3) of 3 | none | 1 of 1 | none | 8 |"
    assert row in text
    assert text.endswith("<!-- end -->\nLast.\n")
    head, row = pages.committed_scoreboard(board).splitlines()
    assert head.split()[:3] == ["paper", "supported", "(after"]
    assert row.split()[:5] == ["A", "2024", "1", "(1)", "1"]
    said = sandbox("status").stdout.splitlines()
    assert said[0].startswith("line (quick): 12 missing")
    assert said[-3:] == [
        "claims of papers, by the committed rows (docs/claims.md)", head, row
    ]
    others = "<!-- scoreboard B 2025 -->\n<!-- end -->\n"
    assert "| 1 other paper | 1 (1) |" in pages.filled(board, "quick", others, VERDICTS)
    assert "-->\nNone.\n<!--" in pages.filled(board, "quick", before, [])


def test_contradicted_claims_are_listed_with_what_checks_them(board):
    text = pages.filled(
        board, "quick", "<!-- bearing contradicts -->\n<!-- end -->\n", VERDICTS
    )
    assert text.count("| A 2024, figure 1 | y is large. | mean over seeds of y |") == 1
    assert "| > 3 | `line.b` | `make line` |" in text
    none = pages.filled(
        board, "quick", "<!-- bearing undecided -->\n<!-- end -->\n", VERDICTS[:1]
    )
    assert none == "<!-- bearing undecided -->\nNone.\n<!-- end -->\n"


def test_a_place_without_an_end_is_refused_and_swallows_nothing(board):
    page = "<!-- verdicts a -->\nText.\n<!-- verdicts b -->\n<!-- end -->\n"
    with pytest.raises(UserError, match=r"<!-- verdicts a --> has no <!-- end --> bef"):
        pages.filled(board, "quick", page, [])


def test_a_table_says_which_page_has_which_figures(board):
    (board.root / "docs" / "a.md").write_text("# Lines\n<!-- verdicts li -->\n")
    text = pages.filled(board, "quick", "<!-- pages all -->\n<!-- end -->\n", VERDICTS)
    assert '| [Lines](a.md) | line | `make claims REFERENCE=1 NAMES="line"` |' in text


def test_readme_writes_what_the_committed_rows_say_and_checks_it(sandbox):
    sandbox("run", "line", "--jobs", "1")
    (sandbox.root / "docs").mkdir()
    page = sandbox.root / "docs" / "page.md"
    page.write_text("<!-- verdicts line -->\n<!-- end -->\n")
    assert sandbox("readme").returncode == 0
    assert "no rows yet" not in page.read_text()  # they are not committed
    assert "0 of 12 runs are there" in page.read_text()
    committed = sandbox.root / "results" / "reference"
    shutil.copytree(sandbox.root / "results" / "quick", committed / "quick")
    done = sandbox("readme", "--check")
    assert done.returncode == 1
    assert "docs/page.md is not current: run `make readme`" in done.stderr
    assert sandbox("readme").stdout == "wrote docs/page.md\n"
    assert "| held |" in page.read_text()
    done = sandbox("readme", "--check")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_readme_writes_no_page_where_a_table_has_no_rows(sandbox):
    docs = sandbox.root / "docs"
    docs.mkdir()
    (docs / "a.md").write_text(old := "<!-- verdicts line -->\n<!-- end -->\n")
    (docs / "b.md").write_text("<!-- table line -->\n<!-- end -->\n")
    done = sandbox("readme")
    assert done.returncode == 2
    assert "a table of line is to be made of its rows at scale quick" in done.stderr
    assert (docs / "a.md").read_text() == old


def test_one_claim_is_checked_by_its_name_on_committed_rows(sandbox):
    sandbox("run", "line", "--jobs", "1")
    done = sandbox("claims", "line.slope")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("line.slope: held\nstatement: y/x is 2.\n")
    assert "claimed: > 1.9 and < 2.1\nmeaning: ours\n" in done.stdout
    assert "thresholds: written before rows. noise of 1 %" in done.stdout
    assert "\nrows: 12 of 12 runs in results/quick/line.parquet\n" in done.stdout
    assert done.stdout.endswith(": make line, make confirm NAMES=line\n")
    done = sandbox("claims", "line.slope", "--reference")
    assert done.returncode == 1
    assert "0 of 12 runs are there" in done.stdout
    done = sandbox("claims", "line.slop")
    assert done.returncode == 2
    assert "unknown claim 'slop': did you mean slope?" in done.stderr


# --- names ---------------------------------------------------------------------------


def offered(first, *rest, size=1.0, wide=print, **more):
    """Return what is
    offered | sold.

    More.
    """


def test_names_are_shown_with_arguments_and_a_first_sentence():
    shown = api.row("m", "offered", offered)
    arguments = "(first, *rest, size=1.0, wide=..., **more)"
    assert shown == (f"`offered{arguments}`", "Return what is offered &#124; sold.")
    assert api.row("m", "SIZES", {}) == ("`SIZES`", "a constant: dict")
    error = type("TooBig", (Exception,), {"__doc__": "Raised."})
    assert api.row("m", "TooBig", error) == ("`TooBig`", "Raised.")
    with pytest.raises(UserError, match=r"m.bare has no docstring"):
        api.row("m", "bare", lambda: 0)
    assert api.table("symlab.harness.api").count("\n") == 2 + 2  # table and row
    with pytest.raises(UserError, match="has no public names"):
        api.table("symlab.symopt.dataflow")


# --- code in the pages ---------------------------------------------------------------


def verl(monkeypatch) -> None:
    """verl's registry, which is not installed here."""
    registry = types.ModuleType("verl.trainer.ppo.core_algos")
    registry.register_adv_est = lambda name: lambda function: function
    for name in ("verl", "verl.trainer", "verl.trainer.ppo"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, registry.__name__, registry)


def trained(folder: Path) -> None:
    """The folder of weights that a page's shell block leaves."""
    from symlab.data.text import corpus
    from symlab.models.families import preset
    from symlab.pretraining import Recipe, pretrain

    text = corpus("stdlib", vocabulary=300, limit=200_000)
    config = preset("dense-small", vocabulary=300, layers=1)
    recipe = Recipe(steps=1, batch=2, length=32)
    pretrain(config, text, recipe, {"lr": 0.02}, out=folder / "run" / "small")


def archived(folder: Path) -> None:
    """The archive that a page's shell block leaves."""
    from symlab.__main__ import main

    words = ["archive", str(folder / "ranks.zip"), "rotation_low_rank", "--reference"]
    assert main(words) == 0


def given(page: str, folder: Path, monkeypatch) -> dict:
    """What the blocks of a page take from elsewhere."""
    import torch

    if page == "advantage-symmetry.md":
        verl(monkeypatch)
        return {"rewards": torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 0]] * 8)}
    if page == "sharing.md":
        archived(folder)
    if page == "pretraining.md":
        trained(folder)
    return {}


PYTHON = [p for p in TEXTS if any(language == "python" for language, _ in blocks(p))]
ROUNDING = re.compile(r"\d\.\de-1[5-7]")  # of float64: other on another machine
# One needs TRL and a model, and has a test of its own; the other needs Slurm.
ELSEWHERE = ("AdvantageTrainer(", "SLURMCluster(")


def commented(code: str) -> str:
    """The comments at the end of a block, which stand for what it prints."""
    (end,) = re.findall(r"(?:^# .*\n)*\Z", code, re.M)[:1]
    return re.sub(r"^# ", "", end, flags=re.M)


@pytest.mark.parametrize("page", PYTHON)
def test_python_blocks_run_and_print_what_stands_below(page, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("SYMLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    found, scope = blocks(page), given(page, tmp_path, monkeypatch)
    for i, (language, code) in enumerate(found):
        if language != "python" or any(name in code for name in ELSEWHERE):
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, page, "exec"), scope)
        below = found[i + 1] if i + 1 < len(found) else ("", "")
        wanted = below[1] if below[0] == "text" else commented(code)
        assert ROUNDING.sub("?", out.getvalue()) == ROUNDING.sub("?", wanted), code


def commands(page: str) -> list[list[str]]:
    """The words of each command in the shell blocks of a page."""
    found = []
    for language, text in blocks(page):
        if language == "sh":
            joined = text.replace("\\\n", " ").splitlines()
            found += [words for line in joined if (words := shlex.split(line, True))]
    return found


def exists(words: list[str]) -> bool:
    """Whether a command of the pages can be run: its target, module and options."""
    if words[0] == "make":
        targets = [w for w in words[1:] if "=" not in w]
        makefile = (ROOT / "Makefile").read_text()
        rules = set(re.findall(r"^([\w-]+):", makefile, re.M))
        known = rules | FIGURES
        variables = {w.split("=")[0] for w in words[1:] if "=" in w}
        return set(targets) <= known and all(f"$({v})" in makefile for v in variables)
    if words[0] == "dask":
        name = f"distributed.cli.dask_{words[1]}"
        known = {o for p in importlib.import_module(name).main.params for o in p.opts}
        return {w for w in words if w.startswith("--")} <= known
    if words[0] == "ray":
        return words[1] in ("start", "stop")
    if "-m" not in words or words[0] not in ("python", "torchrun"):
        return False
    module = importlib.util.find_spec(words[words.index("-m") + 1])
    if module is None:
        return False
    files = [Path(module.origin)]
    if module.submodule_search_locations:
        files = list(Path(module.origin).parent.rglob("*.py"))
    source = "".join(file.read_text() for file in files)
    after = [w[2:] for w in words[words.index("-m") + 2 :] if w.startswith("--")]
    return all(re.search(rf"\b{w.replace('-', '[-_]')}\b", source) for w in after)


@pytest.mark.parametrize("page", TEXTS)
def test_shell_commands_exist(page):
    for words in commands(page):
        assert exists(words), " ".join(words)


def test_what_is_no_command_is_noticed():
    for line in ("make fig33", "make fig3 SEEDS=3", "python -m symlab.pretrain x",
                 "python -m symlab.pretraining x --stepz 3", "ray begin",
                 "dask worker --threadz 2"):  # fmt: skip
        assert not exists(shlex.split(line)), line
    assert sum(len(commands(page)) for page in TEXTS) >= 8


def anchors(text: str) -> set[str]:
    """The names that headings have as targets of links."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    here = TEXTS[page]
    for target in re.findall(r"\]\(([^)\s]+)\)", here.read_text()):
        path, _, anchor = target.partition("#")
        if path.startswith("http"):
            continue
        there = (here.parent / path).resolve() if path else here
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there.read_text()), target
