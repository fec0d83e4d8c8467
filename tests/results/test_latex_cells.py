"""One cell at a time: what siunitx is given, and what stands in its place without it."""

import pytest

from results.latex_cells import PLAIN, SIUNITX, shapes_of
from results.layout import PrintedCell, PrintedLine
from results.marks import Mark

MARKED = PrintedCell("9.50", "0.75", count="3/5", marks=(Mark("failed", (1,)),))


def column(*cells):
    return shapes_of([PrintedLine("ours", "a", (cell,)) for cell in cells], 1)[0]


def test_the_shape_is_the_largest_of_each_part():
    shape = column(PrintedCell("9.50", "0.75"), PrintedCell("+10.1"), PrintedCell("58.8", "11.25"), MARKED)
    assert (shape.has_sign, shape.digits, shape.decimals, shape.std_digits) == (True, 2, 2, 2)
    assert shape.note == r"\,(3/5)\textsuperscript{f}"
    assert SIUNITX.column(shape).startswith("S[table-format=+2.2(4), table-space-text-post=")


def test_a_column_of_words_alone_has_a_shape():
    assert SIUNITX.column(column(PrintedCell(words="–"))) == "S[table-format=1.0]"


@pytest.mark.parametrize(
    ("cell", "siunitx", "plain"),
    [
        (PrintedCell("54.84", "0.56"), "54.84 +- 0.56", r"\phantom{$+$}54.84 $\pm$ \phantom{0}0.56"),
        (PrintedCell("9.50"), "9.50", r"\phantom{0}\phantom{$+$}9.50"),
        (PrintedCell("−1.25"), "-1.25", r"\phantom{0}$-$1.25"),
        (PrintedCell("58.8", "0.5"), "58.8 +- 0.5", r"\phantom{$+$}58.8\phantom{0} $\pm$ \phantom{0}0.5"),
        (PrintedCell("58", "1"), "58 +- 1", r"\phantom{$+$}58\phantom{.00} $\pm$ \phantom{0}1"),
        (PrintedCell(words="off by −1.31"), "{off by $-$1.31}", r"\multicolumn{1}{c}{off by $-$1.31}"),
        (PrintedCell(), "", ""),
        (
            MARKED,
            r"9.50 +- 0.75 {\,(3/5)\textsuperscript{f}}",
            r"\phantom{0}\phantom{$+$}9.50 $\pm$ \phantom{0}0.75\,(3/5)\textsuperscript{f}",
        ),
        (
            PrintedCell("54.84", "0.56", is_leader=True),
            r"\fontseries{b}\selectfont 54.84 +- 0.56",
            r"{\fontseries{b}\selectfont \phantom{$+$}54.84 $\pm$ \phantom{0}0.56}",
        ),
    ],
)
def test_a_cell_in_both_dialects(cell, siunitx, plain):
    shape = column(PrintedCell("54.84", "11.25"), PrintedCell("+9.50"))
    assert SIUNITX.cell(cell, shape) == siunitx
    assert PLAIN.cell(cell, shape) == plain
