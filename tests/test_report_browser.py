"""The report in a browser: filters, order, links, keyboard, accessibility.

It needs the extra `browser` and an installed Chromium (Debian's, or one that `CHROMIUM`
names), and is skipped without. `SYMLAB_REPORT=figures/report.html` has it look at that
report, too, which takes a minute or two.
"""

import os
import shutil
from pathlib import Path

import pytest

from tests.test_report import TEXT

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is missing: pip install -e '.[browser]'"
)
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
if not CHROMIUM:
    pytest.skip(
        "Chromium is not installed: apt-get install chromium, or set CHROMIUM to it",
        allow_module_level=True,
    )
WHOLE = os.environ.get("SYMLAB_REPORT")
PAGES = ["made up", pytest.param("whole", marks=pytest.mark.skipif(
    not WHOLE, reason="SYMLAB_REPORT names no report to look at"))]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as tools:
        opened = tools.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=120_000
        )
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, tmp_path):
    """A function that opens the page at an anchor; messages of the console fail."""
    path, said, contexts = tmp_path / "report.html", [], []
    path.write_text(TEXT, "utf-8")

    def visit(anchor="", width=1280, file=path, **options):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, **options
        )
        contexts.append(context)
        context.set_default_timeout(60_000 if file == path else 600_000)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"file://{file}{anchor}")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not said


def shown(page) -> list[str]:
    rows = "[...document.querySelectorAll('#table tbody tr')]"
    return page.evaluate(f"{rows}.filter(r => !r.hidden).map(r => r.dataset.name)")


def test_filters_search_order_and_their_address(visit):
    page = visit()
    assert page.text_content("#count") == "5 claims"
    page.select_option("[name=verdict]", "held")
    assert shown(page) == ["e.early", "e.ours"]
    page.select_option("[name=origin]", "ours")
    assert shown(page) == ["e.ours"]
    assert page.text_content("#count") == "1 of 5 claims"
    address = page.url
    assert address.endswith("#claims?verdict=held&origin=ours")
    page.click("button[type=reset]")
    page.wait_for_function("document.getElementById('count').textContent == '5 claims'")
    page.fill("[name=text]", "LATE wrong")
    assert shown(page) == ["d.late"]
    page.fill("[name=text]", "")
    page.click("[data-sort=verdict] button")
    assert shown(page)[0] == "d.late"
    page.click("[data-sort=verdict] button")
    assert shown(page)[0] == "e.open"
    assert page.get_attribute("[data-sort=verdict]", "aria-sort") == "descending"
    page.click("[data-sort=order] button")
    assert shown(page)[-1] == "e.ours"
    again = visit(f"#{address.partition('#')[2]}")
    assert shown(again) == ["e.ours"]


def test_links_to_claims_and_figures_open_them(visit):
    page = visit("#claim-e.rare")
    assert page.is_visible("[id='claim-e.rare'] dl")
    page.select_option("[name=figure]", "fig10")
    assert shown(page) == ["d.late"]
    page.evaluate("location.hash = '#claim-e.early'")
    page.wait_for_function("!document.getElementById('claim-e.early').hidden")
    page.click("#figure-fig10 a[href='#claims?figure=fig10']")
    page.wait_for_function("document.getElementById('claim-e.early').hidden")


def test_a_picture_opens_at_full_size_and_closes_by_keyboard(visit):
    page = visit()
    page.focus("#figure-fig2 .picture")
    page.keyboard.press("Enter")
    assert page.is_visible("dialog")
    page.keyboard.press("Escape")
    assert not page.is_visible("dialog")
    assert page.evaluate("document.activeElement.className") == "picture"


def looked_at(which: str) -> dict:
    """The file that `visit` opens, where it is not the made-up page."""
    return {"file": Path(WHOLE).resolve()} if which == "whole" else {}


@pytest.mark.parametrize("which", PAGES)
def test_a_phone_scrolls_inside_tables_only(visit, which):
    page = visit(width=360, **looked_at(which))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


# Shows the first row of each kind: kinds differ in what stands in a row and in its
# colours. A claim that came out otherwise than expected says so.
KINDS_OF_ROWS = """() => {
  const known = new Set();
  for (const row of document.querySelectorAll('#table tbody tr')) {
    const mark = row.cells[0].querySelector('b').className;
    const unexpected = row.cells[0].textContent.includes('expected');
    const kind = [row.dataset.verdict, row.dataset.origin, mark, unexpected].join();
    row.hidden = known.has(kind);
    known.add(kind);
  }
  document.querySelectorAll('details').forEach(d => d.open = true);
  return known.size;
}"""


def serious(page, **options) -> list:
    """What axe-core finds serious or critical: rule, how many elements, the first."""
    found = page.evaluate(
        "async o => (await axe.run(o)).violations.map("
        "v => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 300)])",
        {"resultTypes": ["violations"], **options},  # all others take it minutes more
    )
    return [rest for impact, *rest in found if impact in ("serious", "critical")]


@pytest.mark.parametrize("which", PAGES)
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, colours, which):
    """The contrast of thousands of equal cells takes axe most of its time. So of the
    whole report every row is looked at by all other rules, once, and one row of each
    kind by all rules in both colours, with all details open.
    """
    axe = pytest.importorskip(
        "axe_core_python", reason="axe-core-python is missing: it is in `browser`"
    )
    (script,) = Path(axe.__file__).parent.rglob("axe.min.js")
    page = visit(color_scheme=colours, **looked_at(which))
    page.evaluate(script.read_text("utf-8"))
    if which == "whole" and colours == "light":
        assert len(shown(page)) > 100
        assert not serious(page, rules={"color-contrast": {"enabled": False}})
    assert page.evaluate(KINDS_OF_ROWS) == len(shown(page)) >= 4
    assert not serious(page)
    soft, hint = page.evaluate(  # axe looks at no text that stands for an input
        "[['small', null], ['[name=text]', '::placeholder']].map("
        "a => getComputedStyle(document.querySelector(a[0]), a[1]).color)"
    )
    assert soft == hint
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (colours == "light")


@pytest.mark.parametrize("fault", ["contrast", "name"])
def test_axe_sees_a_fault_that_is_put_in(visit, fault):
    axe = pytest.importorskip("axe_core_python", reason="it is in `browser`")
    (script,) = Path(axe.__file__).parent.rglob("axe.min.js")
    page = visit()
    page.evaluate(script.read_text("utf-8"))
    page.evaluate(KINDS_OF_ROWS)
    page.evaluate(
        "document.querySelector('#table tbody dd').style.color = '#ccc'"
        if fault == "contrast"
        else "document.querySelector('#figure-fig2 img').alt = '';"
        "document.querySelector('#figure-fig2 .picture').ariaLabel = ''"
    )
    (found,) = serious(page)
    assert found[0] == {"contrast": "color-contrast", "name": "button-name"}[fault]
