"""The HTML table: well formed, scoped, safe, and told apart without colour; in a real browser where there is one."""

import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from results.html_table import TABLE_CSS, format_html, table_fragment
from results.layout import Layout
from results.tables import write_table
from tests.results.holes import HOSTILE

VOID = {"meta"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """Every element with its attributes and the text below it; fails where a tag is not closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self.elements[index][2].append(data)

    def find(self, tag: str, **wanted: str) -> list[str]:
        """The text of each element with this tag and these attributes."""
        return [
            "".join(text)
            for name, attributes, text in self.elements
            if name == tag and all(attributes.get(key.rstrip("_")) == value for key, value in wanted.items())
        ]


@pytest.fixture
def page(holes):
    return Page(format_html(holes))


def test_the_fragment_is_one_table_with_caption_and_scoped_headers(holes):
    fragment = Page(table_fragment(holes))
    assert fragment.elements[0][0] == "table"
    assert [len(fragment.find(tag)) for tag in ("table", "caption", "thead")] == [1, 1, 1]
    assert fragment.find("th", scope="col") == ["Method", "1/8 (30)", "1/4 (60)", "Full (240)"]
    assert len(fragment.find("th", scope="row")) == len(fragment.find("tr")) - 1
    assert len(fragment.find("tbody")) == 3


def test_lines_below_a_row_say_to_a_screen_reader_whose_they_are(page):
    assert "Δ for ComplexMix" in page.find("th", scope="row")
    assert "verdict for Supervised" in page.find("th", scope="row")


def test_cells_have_classes_and_marks_have_words(page):
    classes = [(found.get("class") or "").split() for tag, found, _ in page.elements if tag == "td"]
    states = {"state-missing": 3, "state-running": 1, "state-failed": 1, "state-partial": 1, "state-undefined": 1}
    assert Counter(name for names in classes for name in names) == {
        "leader": 1,
        "incomplete": 4,
        "stale": 1,
        **states,
    }
    assert page.find("abbr", title="failed: seed 1") == ["f"]
    assert page.find("abbr", title="stale: seeds 0, 2") == ["s"]


def test_states_differ_in_print_without_any_colour():
    rules = re.findall(r"\.mark-(\w+) \{ (.*?) \}", TABLE_CSS)
    assert len({rule for _, rule in rules}) == len(rules) == 5


def test_figures_lead_where_the_link_says(holes):
    fragment = Page(table_fragment(holes, link=lambda cell: f'#"{cell.row}"&{cell.label_fraction}'))
    links = [
        (found["href"], found["aria-label"], "".join(text)) for tag, found, text in fragment.elements if tag == "a"
    ]
    assert len(links) == len(holes.cells) == 9
    assert links[0] == ('#"Supervised"&1/8', "Supervised at 1/8: 53.12 ± 1.56", "53.12\u00a0±\u00a01.56")
    assert links[-1][1].endswith("at 1/4: no number; missing: seeds 1, 2; running: seed 0")


def test_hostile_labels_are_text(holes):
    text = format_html(holes)
    assert "<b>" not in text
    assert "&lt;b&gt;line&lt;/b&gt;" in text
    assert " ".join(HOSTILE.split()) in Page(text).find("th", scope="row")


def test_the_page_asks_for_nothing_and_runs_nothing(whole, holes):
    for table in (whole, holes):
        text = format_html(table)
        assert not re.search(r"<script|<img|<link|@import|url\(|https?:", text)
        assert "default-src 'none'" in text


def test_the_page_tells_what_to_be_wary_of_and_what_lies_behind(page, whole):
    assert any("result not accepted" in text for text in page.find("li"))
    assert any(
        text.startswith("ComplexMix, 1/4: n 1/3; missing: seed 2; failed: seed 1; trials") for text in page.find("li")
    )
    assert "To be wary of" not in format_html(whole)


def test_decimal_points_stand_below_each_other(whole):
    """The right edge of a mean is that of its column: what a value of one decimal lacks is a space of one digit."""
    means = Page(table_fragment(whole)).find("span", class_="mean")
    assert "58.8\u2007" in means
    assert {len(mean.partition(".")[2]) for mean in means} == {2}


def test_lines_below_can_be_left_out(holes):
    bare = Page(table_fragment(holes, layout=Layout(differences=False, published=False)))
    assert len(bare.find("tr")) == 1 + 4


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_lays_it_out_without_a_word_of_complaint(holes, width, tmp_path: Path):
    """The page is no wider than the window: only the table scrolls. The script is put in by the test alone."""
    script = "<script>document.title = document.documentElement.scrollWidth + ' ' + innerWidth</script></body>"
    text = re.sub(r"<meta http-equiv.*?>", "", format_html(holes)).replace("</body>", script)
    write_table(text, tmp_path / "table.html")
    options = ["--headless", "--no-sandbox", "--dump-dom", "--enable-logging=stderr", f"--window-size={width},900"]
    place = (tmp_path / "table.html").as_uri()
    done = subprocess.run(
        [str(CHROMIUM), *options, f"--user-data-dir={tmp_path / 'profile'}", place],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    wide, window = map(int, re.search(r"<title>(\d+) (\d+)</title>", done.stdout).groups())  # type: ignore[union-attr]
    assert wide <= window
    assert "CONSOLE" not in done.stderr
