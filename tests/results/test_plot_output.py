"""A plot as PDF, PNG and SVG: the same bytes each time, nothing from outside, words for those who do not see it."""

import io
import re
import xml.etree.ElementTree as ET

import pytest
from matplotlib.axes import Axes
from PIL import Image

from results.plot_output import Panel, Plot, panel_svg, plot_files, swatch_svg
from results.plot_style import INK, row_look


def line(axes: Axes) -> None:
    axes.plot([1, 2], [3, 4], **row_look(1).options())
    axes.set_xlabel("$50 & <more>")


PLOT = Plot(
    "two",
    "Two lines",
    (Panel("One", 'Rises from 3 to "4" & <on>.', line), Panel("Other", "The same.", line)),
    (("a row", row_look(1)), ("$_another", row_look(2))),
)


def test_the_same_plot_gives_the_same_bytes() -> None:
    assert plot_files(PLOT) == plot_files(PLOT)


def test_files_are_what_their_names_say() -> None:
    pdf, png = plot_files(PLOT)["pdf"], plot_files(PLOT)["png"]
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    with Image.open(io.BytesIO(png)) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 1.5 * sheet.height  # two panels side by side
        assert sheet.info["dpi"] == pytest.approx((200, 200), abs=0.1)


def test_an_svg_is_the_same_each_time_and_says_its_words() -> None:
    text = panel_svg(PLOT, 0, {})
    assert text == panel_svg(PLOT, 0, {})
    root = ET.fromstring(text.replace("<svg ", '<svg xmlns:xlink="x" ', 1))
    assert root.attrib["aria-label"] == 'One. Rises from 3 to "4" & <on>.'
    assert root.attrib["role"] == "img"
    assert root.attrib["viewBox"] == "0 0 259.2 194.4"
    assert "width" not in root.attrib
    assert "$50 &amp; &lt;more&gt;" in text


def test_an_svg_names_no_place_outside() -> None:
    text = panel_svg(PLOT, 0, {}) + swatch_svg(PLOT, 0, {})
    assert not re.search(r"https?:|//|<script|<!|<\?|<metadata", text)


def test_pictures_of_one_page_share_no_id() -> None:
    texts = [*(panel_svg(PLOT, i, {}) for i in (0, 1)), *(swatch_svg(PLOT, i, {}) for i in (0, 1))]
    ids = [found for text in texts for found in re.findall(r'\bid="([^"]+)"', text)]
    assert ids
    assert len(ids) == len(set(ids))
    for text in texts:
        own = set(re.findall(r'\bid="([^"]+)"', text))
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', text)) == own


def test_colours_become_those_of_the_page() -> None:
    text = panel_svg(PLOT, 0, {INK: "var(--ink)", row_look(1).colour: "var(--row-1)"})
    assert "stroke: var(--row-1)" in text
    assert "var(--ink)" in text
    assert INK not in text
    assert row_look(1).colour not in text


def test_a_swatch_is_hidden_from_those_who_hear_its_label() -> None:
    assert 'aria-hidden="true"' in swatch_svg(PLOT, 1, {})
