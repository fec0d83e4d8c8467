"""The page as text: all of it is there, nothing of it comes from outside, and no text becomes a tag."""

import base64
import hashlib
import re
import tomllib
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from results.report import ReportParts, render
from tests.results.builders import EIGHTH, RowStub, TableStub, spec_of
from tests.results.report.small_report import TABLE, fill, parts_of
from trainer.storage import Storage

LAST_WORDS = "attempt 20260101T000000-00000001 ended without a word: killed, or its machine was lost"
ROOT = Path(__file__).parents[3]


class Reader(HTMLParser):
    """Tags with their attributes, headings by level, and the text below each section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self._section = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._section = str(dict(attrs)["id"])

    def handle_data(self, data: str) -> None:
        self.sections[self._section] = self.sections.get(self._section, "") + " ".join(data.split()) + " "

    def values(self, attribute: str) -> list[str]:
        return [str(attrs[attribute]) for _, attrs in self.tags if attribute in attrs]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> ReportParts:
    storage = Storage(str(tmp_path_factory.mktemp("runs")))
    fill(storage)
    return parts_of(storage)


@pytest.fixture(scope="module")
def page(parts: ReportParts) -> str:
    return render(parts)


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    return Reader(page)


def test_the_same_parts_give_the_same_bytes(parts: ReportParts, page: str) -> None:
    assert render(parts) == page


def test_nothing_comes_from_outside(read: Reader, page: str) -> None:
    assert all(source.startswith("data:image/png;base64,") for source in read.values("src"))
    assert all(address.startswith(("#", "data:,", "table.")) for address in read.values("href"))
    assert not re.search(r"@import|url\((?!#)", page)


def test_the_policy_allows_this_script_and_no_other(page: str) -> None:
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    assert page.count("<script") == 1


def test_every_cell_leads_to_its_origin(read: Reader) -> None:
    links = [address for address in read.values("href") if address.startswith("#cell-")]
    assert len(links) == len(set(links)) == 6
    assert {f"#{name}" for name in read.values("id")} >= set(links)


def test_no_id_is_there_twice(read: Reader) -> None:
    ids = read.values("id")
    assert len(ids) == len(set(ids))


def test_an_origin_names_seeds_with_values_trials_and_what_was_given(read: Reader) -> None:
    told = read.sections["origins"]
    assert "ClassMix, 1/8 (30)" in told
    for word in ("60.00", spec_of("ClassMix", EIGHTH, 1).trial_id, "made by", "mixgrid train <spec>"):
        assert word in told
    assert re.search(r"Seed 0: 60.00\s+stale", told)
    assert "seed 0: code changed since" in told


def test_what_is_not_done_is_listed_with_its_reason(read: Reader) -> None:
    told = read.sections["open"]
    rows = re.sub(r"\s+", " ", told.partition("their seeds")[2])
    assert rows.strip() == (
        "failed non_finite_loss: loss is nan 7 ComplexMix, 1/8 (30): 1 "
        f"partial {LAST_WORDS} 10 Supervised, 1/4 (60): 1 "
        "missing not started yet 0 ComplexMix, 1/4 (60): 0, 1 "
        "stale code changed since 20 ClassMix, 1/8 (30): 0"
    )
    assert "8 of 12 (1 failed, 2 missing, 1 partial; 1 stale)" in read.sections[""]


def test_statistics_compute_and_environment_are_told(read: Reader) -> None:
    assert "ClassMix is above Supervised." in read.sections["statistics"]
    for word in ("cpu (x86_64)", "CPU-thread-hours", "1.500", "0.250", "0.125", "All in all 1.5 CPU-hours."):
        assert word in read.sections["compute"]
    for word in ("torch", "2.11.0", "c0dec0dec0de", "node-a"):
        assert word in read.sections["environment"]


def test_pictures_have_words_and_lie_in_the_page(read: Reader) -> None:
    images = [attrs for tag, attrs in read.tags if tag == "img"]
    assert len(images) == 6
    assert [attrs["alt"] for attrs in images][2:4] == [
        "classes as predicted by ClassMix, street 1",
        "where the prediction errs by ClassMix, street 1",
    ]


def test_plots_are_there_in_words_too(read: Reader) -> None:
    words = [attrs["aria-label"] for tag, attrs in read.tags if tag == "svg" and "aria-label" in attrs]
    assert len(words) == 1 + 3 + 2  # scores; a panel a row; two shares at one fraction
    assert all(re.search(r"\d\d\.\d", str(text)) for text in words)


def test_classes_are_a_table_that_can_be_read_aloud(read: Reader) -> None:
    told = read.sections["classes"]
    assert "Gain by class over Supervised in points at 1/8 (30)" in told
    assert "+30.0" in told
    heads = [attrs for tag, attrs in read.tags if tag == "th"]
    assert all(attrs.get("scope") in ("col", "row", "colgroup", "rowgroup") for attrs in heads)


def test_headings_come_in_order(read: Reader) -> None:
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_a_text_never_becomes_a_tag(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    fill(storage)
    bad = '<script>alert("1")</script>'
    table = TableStub(**{**TABLE.__dict__, "rows": (RowStub(bad), *TABLE.rows), "title": bad})
    page = render(parts_of(storage, table, statistics=(bad,), picture_notes=(bad,), compute_statement=bad))
    assert page.count("<script") == 1
    assert "alert(&#34;1&#34;)" in page


def test_a_demonstration_says_so_first(tmp_path, page: str) -> None:
    table = TableStub(**{**TABLE.__dict__, "is_demonstration": True})
    shown = render(parts_of(Storage(str(tmp_path)), table))
    assert shown.index('class="demonstration"') < shown.index("<h1>")
    assert "no reproduction of published numbers" in shown
    assert 'class="demonstration"' not in page


def test_sections_with_nothing_to_show_say_why(tmp_path) -> None:
    table = TableStub(**{**TABLE.__dict__, "published": None})
    parts = parts_of(
        Storage(str(tmp_path)), table, plots=(), statistics=(), hours=(), compute_statement="", pictures=(),
        picture_notes=("There are no images below data.",),
    )  # fmt: skip
    told = Reader(render(parts)).sections
    for name in ("scores", "statistics", "classes", "learning", "shares", "compute", "environment"):
        assert re.search(r"\b(No|Nothing)\b", told[name]), name
    assert "No pictures are shown. There are no images below data." in told["gallery"].replace("  ", " ")
    assert "not started yet 0 Supervised, 1/8 (30): 0, 1;" in re.sub(r"\s+", " ", told["open"])


def test_a_table_that_is_done_says_so(tmp_path) -> None:
    table = TableStub(rows=(RowStub("ClassMix"),), fractions=(EIGHTH,), seeds=(1,))
    storage = Storage(str(tmp_path))
    fill(storage)
    assert "All 1 trials are done, and none is stale." in Reader(render(parts_of(storage, table))).sections["open"]


def test_the_files_of_the_page_go_into_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["setuptools"]["package-data"]["results.report"] == ["page/*"]
    names = {path.name for path in (ROOT / "results/report/page").iterdir()}
    assert names == {"page.html", "sections.html", "macros.html", "style.css", "script.js"}
