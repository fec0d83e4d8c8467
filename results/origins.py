"""What lies behind each cell, a line a cell, for the comments and notes of every format."""

from collections.abc import Iterator

from results.compute import ComputedTable
from results.escaping import one_line
from results.layout import marked_label
from results.marks import marks_of, state_words


def origins(table: ComputedTable) -> Iterator[str]:
    """Row, fraction, seeds in the mean, states, trials and code of every cell, each on one line."""
    for line in table.lines:
        for cell in line.cells:
            if cell is not None:
                code = sorted({table.code[name] for name in cell.trial_ids if name in table.code}) or ["unknown"]
                state = f"; {state_words(cell)}" if marks_of(cell) else ""
                place = f"{marked_label(table, line)}, {cell.label_fraction}: n {cell.n}/{cell.expected}{state}"
                yield one_line(f"{place}; trials {', '.join(cell.trial_ids)}; code {', '.join(code)}")


def open_cells(table: ComputedTable) -> Iterator[str]:
    """Each cell that bears a mark, with its states and seeds."""
    for line in table.lines:
        for cell in line.cells:
            if cell is not None and marks_of(cell):
                yield f"{marked_label(table, line)}, {cell.label_fraction}: {state_words(cell)}"
