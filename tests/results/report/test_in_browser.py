"""The page in a real browser: silent, sufficient to itself, for keys alone, narrow screens, dark rooms and paper."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from results.report import render
from tests.browser import CHROMIUM, Page, chromium
from tests.results.builders import RowStub, TableStub
from tests.results.report.small_report import TABLE, fill, parts_of
from trainer.storage import Storage

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a table with every kind of cell and a row whose name is long."""
    folder = tmp_path_factory.mktemp("report")
    storage = Storage(str(folder / "runs"))
    fill(storage)
    table = TableStub(**{**TABLE.__dict__, "rows": (*TABLE.rows, RowStub("A method with a long name " * 3, 4))})
    parts = parts_of(storage, table)
    path = folder / "report.html"
    path.write_text(render(replace(parts, compute_statement="averylongword" * 40)))
    return path.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, address: str) -> Page:
    browser.resize(1280)
    browser.prefer("light")
    browser.open(address)
    return browser


def test_the_console_is_silent_and_nothing_is_asked_for_outside(page: Page, address: str) -> None:
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("data:")] == [address]


def test_the_policy_stops_what_would_go_outside(page: Page) -> None:
    page.run("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/a.png'}))")
    page.run("new Promise(done => setTimeout(done, 200))")
    assert any("Content Security Policy" in text for text in page.complaints)


def test_table_plots_and_pictures_are_shown(page: Page) -> None:
    assert page.run("document.querySelectorAll('#table table tbody tr').length") >= 4
    sizes = page.run(
        "[...document.querySelectorAll('.panel svg, .picture img')].map(e => e.getBoundingClientRect().width)"
    )
    assert len(sizes) == 6 + 6
    assert min(sizes) > 100
    assert page.run("[...document.images].every(image => image.naturalWidth > 0)")


def focused(page: Page) -> str:
    """The address of the link that has the focus, else the tag."""
    return str(page.run("document.activeElement.getAttribute('href') ?? document.activeElement.tagName"))


def tab_to(page: Page, wanted: str) -> None:
    for _ in range(80):
        page.press("Tab")
        if focused(page) == wanted:
            return
    raise AssertionError(f"Tab never reaches {wanted}")


def test_keys_alone_reach_and_close_the_origin_of_every_cell(page: Page) -> None:
    cells = page.run("[...document.querySelectorAll('#table a[href^=\"#cell-\"]')].map(a => a.getAttribute('href'))")
    assert len(cells) == 8
    for cell in cells:
        tab_to(page, cell)
        page.press("Enter")
        title = page.run("document.querySelector('dialog[open] h2').textContent")
        told = page.run(f"document.querySelector('{cell}').closest('details').querySelector('h3').textContent")
        assert str(title).startswith(f"{told}: ")
        assert "seed" in str(page.run("document.querySelector('dialog[open] .body').textContent")).casefold()
        page.press("Escape")
        assert page.run("document.querySelector('dialog[open]')") is None
        assert focused(page) == cell


def test_focus_can_be_seen(page: Page) -> None:
    page.press("Tab")
    assert focused(page) == "#table"
    assert (
        page.run("document.activeElement.getBoundingClientRect().left") >= 0
    )  # the way around the header shows itself
    for place in ("#scores", "#cell-0-0"):
        tab_to(page, place)
        assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert page.run("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2


def test_without_scripts_a_cell_leads_to_its_origin_further_down(page: Page, address: str) -> None:
    page.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open("about:blank")
        page.open(f"{address}#cell-1-0")
        assert page.run("document.querySelector('#cell-1-0').getBoundingClientRect().height") > 0
    finally:
        page.ask("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_is_never_wider_than_the_screen(page: Page, address: str, width: int) -> None:
    page.resize(width)
    page.open(address)
    assert page.run("document.documentElement.scrollWidth") <= width
    page.run("document.querySelector('a[href=\"#cell-1-0\"]').click()")
    assert page.run("document.querySelector('dialog[open]').getBoundingClientRect().width") <= width


def test_text_of_plots_can_be_read_on_a_phone(page: Page, address: str) -> None:
    page.resize(390)
    page.open(address)
    sizes = page.run(
        "[...document.querySelectorAll('.panel svg text')].map(t => "
        "parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getScreenCTM().a)"
    )
    assert min(sizes) >= 9


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_text_is_legible_in_light_and_dark(page: Page, address: str, scheme: str, is_dark: bool) -> None:
    page.prefer(scheme)
    page.open(address)
    paper, ink = page.run("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    assert (_lightness(paper) < 128) == is_dark
    assert (_lightness(ink) > 128) == is_dark
    label = page.run("getComputedStyle(document.querySelector('.panel svg text')).fill")
    assert label == ink


def _lightness(colour: str) -> float:
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3


def test_who_wants_no_motion_gets_none(page: Page, address: str) -> None:
    page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    page.open(address)
    assert page.run("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_it_prints(page: Page, tmp_path: Path) -> None:
    page.prefer("dark")
    printed = page.printed()
    assert printed.startswith(b"%PDF")
    page.ask("Emulation.setEmulatedMedia", media="print")
    assert page.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert _lightness(page.run("getComputedStyle(document.body).color")) < 128  # dark ink, though the room is dark
    page.ask("Emulation.setEmulatedMedia", media="")
