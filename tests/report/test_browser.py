"""The page in a real browser, opened from disk: no error, nothing loaded, and its table works by keyboard."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.report.test_page import PAYLOADS, html_of, outcomes

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'vbench[browser]'")

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser():
    """Chromium from the path or from ``$VBENCH_BROWSER``, else the one that playwright has fetched."""
    found = os.environ.get("VBENCH_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    with playwright.sync_playwright() as play:
        try:
            opened = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no browser: apt install chromium, or playwright install chromium ({error.message[:60]}...)")
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def file(page, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page.html, "utf-8")
    return path


@pytest.fixture
def opened(browser, file):
    """The page at a desk, and everything that it complained of or asked for."""
    yield from visited(browser, file)


def visited(browser, file, **settings):
    context = browser.new_context(**settings)
    tab = context.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
    tab.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or said.append(asked.url))
    tab.goto(file.as_uri())
    yield tab, said
    assert said == []
    context.close()


def shown(tab, column: str) -> list[str]:
    """What a column of the table of cells says, row by row, as far as it is seen."""
    return tab.evaluate(
        """(name) => {
          const table = document.getElementById("cell-table");
          const place = [...table.tHead.rows[0].cells].findIndex((head) => head.textContent === name);
          const rows = [...table.tBodies[0].rows].filter((row) => row.offsetParent !== null);
          return rows.map((row) => row.cells[place].textContent);
        }""",
        column,
    )


def test_it_opens_without_a_complaint(opened) -> None:
    tab, _ = opened
    assert tab.title() == "small - vbench"
    assert tab.locator("output#count").inner_text() == "10 of 10 cells"
    broken = "[...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
    assert tab.evaluate(broken) == 0


def test_columns_sort_by_keyboard_numbers_as_numbers(opened) -> None:
    tab, _ = opened
    tab.get_by_role("button", name="estimator", exact=True).focus()
    tab.keyboard.press("Enter")
    assert shown(tab, "estimator") == sorted(shown(tab, "estimator"))
    tab.get_by_role("button", name="seed", exact=True).press("Space")
    assert shown(tab, "seed") == sorted(shown(tab, "seed"), key=int)
    tab.keyboard.press("Space")
    assert shown(tab, "seed") == sorted(shown(tab, "seed"), key=int, reverse=True)
    heads = tab.locator("#cell-table th[aria-sort]")
    assert heads.count() == 1
    assert heads.get_attribute("aria-sort") == "descending"


def test_what_is_empty_comes_last_whichever_way(opened) -> None:
    tab, _ = opened
    for _ in range(2):
        tab.get_by_role("button", name="reason").click()
        reasons = shown(tab, "reason")
        assert reasons[2:] == [""] * 8
        assert all(reasons[:2])


def test_filters_and_search_narrow_the_table_and_come_off_again(opened) -> None:
    tab, _ = opened
    tab.get_by_role("combobox", name="status").select_option("diverged")
    assert shown(tab, "estimator") == ["rloo[k=4]"]
    assert tab.locator("output#count").inner_text() == "1 of 10 cells"
    tab.get_by_role("combobox", name="status").select_option("")
    tab.get_by_label("Search").fill("RLOO done")
    assert shown(tab, "status") == ["done", "done"]
    tab.get_by_role("combobox", name="estimator").select_option("reparam")
    assert shown(tab, "status") == []
    tab.get_by_role("button", name="Show all").click()
    assert len(shown(tab, "status")) == 10


def test_numbers_fold_out(opened) -> None:
    tab, _ = opened
    folded = tab.locator("#gradient-variance details")
    assert folded.get_attribute("open") is None
    folded.locator("summary").press("Enter")
    assert folded.locator("td").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_sideways_scrolling_of_the_page(browser, file, width, scheme) -> None:
    for tab, _ in visited(browser, file, viewport={"width": width, "height": 800}, color_scheme=scheme):
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_the_dark_page_is_dark_and_its_words_can_be_read(browser, file) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        for tab, _ in visited(browser, file, color_scheme=scheme):
            style = tab.evaluate(
                "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
            )
            colours[scheme] = [luminance(text) for text in style]
    assert contrast(*colours["light"]) > 7
    assert contrast(*colours["dark"]) > 7
    assert colours["dark"][1] < 0.1 < 0.9 < colours["light"][1]


def luminance(text: str) -> float:
    parts = [int(part) / 255 for part in text[4:-1].split(",")]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_without_scripts_all_is_there(browser, file) -> None:
    for tab, _ in visited(browser, file, java_script_enabled=False):
        assert tab.locator("#cell-table tbody tr").count() == 10
        assert not tab.locator(".tools").is_visible()


def test_printed_it_is_whole(browser, file) -> None:
    for tab, _ in visited(browser, file):
        tab.emulate_media(media="print")
        assert not tab.locator("nav").is_visible()
        assert len(tab.pdf()) > 50_000


@pytest.mark.usefixtures("blank")
def test_hostile_names_do_nothing(browser, tmp_path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(html_of(outcomes(tmp_path / "study", PAYLOADS)), "utf-8")
    for tab, _ in visited(browser, path):
        assert tab.locator("#cell-table tbody tr").count() == 2 * len(PAYLOADS)
        assert tab.locator("script").count() == 2
        assert shown(tab, "estimator").count("<script>alert(1)</script>") == 2


def test_the_policy_stops_what_would_get_in(browser, page, tmp_path) -> None:
    """Were something not escaped after all, it would not run."""
    path = tmp_path / "spoilt.html"
    bad = "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"
    path.write_text(page.html.replace("</main>", f"{bad}</main>"), "utf-8")
    tab = browser.new_page()
    tab.goto(path.as_uri())
    assert tab.title() == "small - vbench"
    tab.close()
