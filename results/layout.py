"""A computed table as lines of printed cells, the same for every format for people. Knows no syntax of any.

A row has up to four lines: ours, the difference to the reference row, the published value, and the verdict on ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from results.aggregate import CellSummary
from results.compute import ComputedTable, Line
from results.differences import Difference
from results.figures import percent, signed
from results.marks import Mark, count_note, marks_of
from results.published import PublishedScore
from results.verdicts import Verdict, verdict_of

LineKind = Literal["ours", "difference", "published", "verdict"]
NOTHING_DONE = "–"


@dataclass(frozen=True, slots=True)
class Layout:
    """What is printed below our own numbers, and whether LaTeX is a whole document that compiles as it stands."""

    differences: bool = True
    published: bool = True
    standalone: bool = False


DEFAULT = Layout()


@dataclass(frozen=True, slots=True)
class PrintedCell:
    """Figures or, in their place, words; `count` and `marks` stand beside, `summary` is the cell of a line of ours."""

    mean: str = ""
    std: str = ""
    words: str = ""
    count: str = ""
    marks: tuple[Mark, ...] = ()
    is_leader: bool = False
    summary: CellSummary | None = None

    @property
    def figures(self) -> str:
        """Mean ± std, or the words."""
        return self.words or " ± ".join(part for part in (self.mean, self.std) if part)

    @property
    def letters(self) -> str:
        """The marks, such as "m,f"."""
        return ",".join(mark.letter for mark in self.marks)

    @property
    def note(self) -> str:
        """Count and marks in brackets, such as "(3/5 m,f)"; nothing where there are none."""
        inside = " ".join(part for part in (self.count, self.letters) if part)
        return f"({inside})" if inside else ""

    @property
    def text(self) -> str:
        """All of it as plain text."""
        return " ".join(part for part in (self.figures, self.note) if part)


NOTHING = PrintedCell()


@dataclass(frozen=True, slots=True)
class PrintedLine:
    """One line below the header; `begins_group` and `begins_row` where a rule or a gap goes before it."""

    kind: LineKind
    label: str
    cells: tuple[PrintedCell, ...]
    begins_group: bool = False


def header(table: ComputedTable) -> list[str]:
    """The column headers: "1/8 (372)" where the number of labelled images is known."""
    counts = (f" ({table.counts[fraction]})" if fraction in table.counts else "" for fraction in table.fractions)
    names = ("Full" if fraction == "1" else fraction for fraction in table.fractions)
    return ["Method", *(name + count for name, count in zip(names, counts, strict=True))]


def own_selection(table: ComputedTable, line: Line) -> str:
    """The words that mark a line which is not judged as the heading says; empty for all others."""
    network = "" if line.selection.network == table.selection.network else line.selection.network
    policy = "" if line.selection.policy == table.selection.policy else line.selection.policy
    return " ".join(word for word in (network, policy) if word)


def marked_label(table: ComputedTable, line: Line) -> str:
    """A row's label on one line, marked where the row has a selection of its own."""
    words = own_selection(table, line)
    return " ".join(line.label.split()) + (f" [{words}]" if words else "")


def verdict_at(table: ComputedTable, line: Line, column: int) -> Verdict | None:
    """The verdict on a cell; None where there is none to pass, and anywhere in a demonstration."""
    cell, score = line.cells[column], line.published[column]
    if table.is_demonstration or cell is None or score is None:
        return None
    return verdict_of(cell, score)


def printed_lines(table: ComputedTable, layout: Layout = DEFAULT) -> tuple[PrintedLine, ...]:
    """Every line below the header, from top to bottom; a line that would be empty is left out."""
    return tuple(printed for index in range(len(table.lines)) for printed in _lines_of_row(table, index, layout))


def _lines_of_row(table: ComputedTable, index: int, layout: Layout) -> Iterator[PrintedLine]:
    line = table.lines[index]
    columns = range(len(line.cells))
    begins_group = index > 0 and table.lines[index - 1].group != line.group
    ours = tuple(_ours(table, line, column) for column in columns)
    yield PrintedLine("ours", marked_label(table, line), ours, begins_group)
    below: Sequence[tuple[LineKind, str, bool, tuple[PrintedCell, ...]]] = (
        ("difference", "Δ", layout.differences, tuple(map(_difference, line.differences))),
        ("published", "paper", layout.published, tuple(map(_published, line.published))),
        ("verdict", "verdict", layout.published, tuple(_verdict(verdict_at(table, line, i)) for i in columns)),
    )
    for kind, label, is_wanted, cells in below:
        if is_wanted and any(cell.figures for cell in cells):
            yield PrintedLine(kind, label, cells)


def _ours(table: ComputedTable, line: Line, column: int) -> PrintedCell:
    cell = line.cells[column]
    if cell is None:
        return NOTHING
    return PrintedCell(
        mean=percent(cell.mean),
        std=percent(cell.std),
        words="" if cell.n else NOTHING_DONE,
        count=count_note(cell, table.num_seeds),
        marks=marks_of(cell),
        is_leader=table.leaders[column] == line.label,
        summary=cell,
    )


def _difference(difference: Difference | None) -> PrintedCell:
    is_printed = difference is not None and difference.is_settled
    return PrintedCell(signed(100 * difference.mean)) if difference and is_printed else NOTHING


def _published(score: PublishedScore | None) -> PrintedCell:
    if score is None or score.mean is None:
        return NOTHING
    return PrintedCell(str(score.mean), "" if score.std is None else str(score.std))


def _verdict(verdict: Verdict | None) -> PrintedCell:
    return NOTHING if verdict is None else PrintedCell(words=verdict.text)
