"""The table on a terminal: aligned, and never cut off."""

import io

import pytest
from rich.console import Console

from orchestrator.cli.table_view import aligned, print_computed, show
from results.layout import DEFAULT, PrintedCell
from tests.results.holes import compute_holes, fill
from trainer.storage import Storage


@pytest.fixture(scope="module")
def holes(tmp_path_factory):
    storage = Storage(str(tmp_path_factory.mktemp("holes") / "runs"))
    fill(storage)
    return compute_holes(storage)


def printed(table, width, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    print_computed(table, console)
    return console.file.getvalue()


def test_figures_are_aligned_at_the_decimal_point():
    cells = [PrintedCell("9.50", "0.75"), PrintedCell("+10.25"), PrintedCell("58.8", "11.2"), PrintedCell(words="–")]
    assert aligned(cells) == ["  9.50 ±  0.75", "+10.25", " 58.8  ± 11.2", "–"]


def test_a_wide_terminal_shows_each_row_with_its_marks_below(holes):
    text = printed(holes, 150)
    assert "│  74.22 ± 0.78 │ 62.50        │" in text
    for note in ("(1/3 m,f)", "(2/3 u)", "– (0/3 m,r)", "(s)", "off by +11.97"):
        assert note in text


@pytest.mark.parametrize("width", range(40, 110, 7))
def test_a_narrow_terminal_cuts_off_no_mark_and_no_digit(holes, width):
    shown = printed(holes, width)
    first = next(line for line in shown.splitlines() if "│" in line)
    assert first.startswith("Super")  # a label is broken, and not into letters
    text = "".join(shown.split())
    assert "…" not in text
    for whole in ("74.22", "0.78", "66.19", "m,p)", "m,r)", "(s)"):
        assert whole in text


def test_leaders_are_bold_and_what_stands_below_is_dim(holes):
    text = printed(holes, 150, force_terminal=True, color_system="standard")
    assert "\x1b[1m 74.22 ± 0.78" in text
    assert "\x1b[2m  verdict" in text


def test_a_file_gets_the_same_without_colour(holes, tmp_path, capsys):
    show(holes, DEFAULT, tmp_path / "new" / "table.txt")
    text = (tmp_path / "new" / "table.txt").read_text()
    assert "74.22 ± 0.78" in text
    assert "\x1b" not in text
    assert capsys.readouterr().out.strip() == str(tmp_path / "new" / "table.txt")
