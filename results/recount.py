"""The printed means and standard deviations again, from nothing but confusion matrices: a second, exact computation.

Shares no step with `frame`, `aggregate` and `tables`: fractions of whole numbers, and one square root of 50 digits.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

from results.aggregate import CellSummary, Selection
from results.compute import ComputedTable, Line
from results.figures import percent
from results.frame import TableLike
from trainer.reading import read_result
from trainer.records import (
    DamagedRecord,
    EvaluationRecord,
    Result,
)
from trainer.storage import Storage

_EXACT = Context(prec=50)
_TOLERANCE = Decimal("1e-9")
_HALF_A_DIGIT = Decimal("0.005") + _TOLERANCE  # figures are printed in percent with two decimals
Confusion = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Recount:
    """Mean and sample standard deviation over the seeds of a cell, None where there are too few, and their number."""

    n: int
    mean: Decimal | None
    std: Decimal | None


def doubts_of_table(storage: Storage, table: TableLike, printed: ComputedTable, printed_csv: str) -> Iterator[str]:
    """A line for each figure of a computed table, and of its CSV, that its confusion matrices do not give."""
    results = {cell.trial_id: _find(storage, cell.trial_id) for cell in table.cells()}
    lines = list(csv.DictReader(io.StringIO(printed_csv)))
    if len(lines) != len(printed.lines):
        yield f"the CSV has {len(lines)} rows, the table {len(printed.lines)}"
        return
    for line, written in zip(printed.lines, lines, strict=True):
        of_row = [cell for cell in table.cells() if cell.row == line.label]
        network = _network(line.selection, [results[cell.trial_id] for cell in of_row])
        for fraction, cell in zip(printed.fractions, line.cells, strict=True):
            if cell is not None:
                mine = [results[c.trial_id] for c in of_row if str(c.label_fraction) == fraction]
                again = recount(mine, line.selection.policy, network)
                yield from _doubts_of_cell(line, cell, again, _columns(written, fraction))


def _find(storage: Storage, trial_id: str) -> Result | None:
    with suppress(DamagedRecord):
        return read_result(storage, trial_id)
    return None


def _network(selection: Selection, results: Sequence[Result | None]) -> str:
    """The network a row is judged by: the student where none of its trials has the one that is asked for."""
    networks = {record.network for result in results if result is not None for record in result.evaluations}
    return selection.network if selection.network in networks else "student"


def recount(results: Sequence[Result | None], policy: str, network: str) -> Recount:
    """Mean and standard deviation over the trials that are done."""
    scores = [
        score
        for result in results
        if result is not None
        and (score := _score([r for r in result.evaluations if r.network == network], policy)) is not None
    ]
    mean = sum(scores, Fraction(0)) / len(scores) if scores else None
    if mean is None or len(scores) < 2:
        return Recount(len(scores), None if mean is None else _decimal(mean), None)
    variance = sum(((score - mean) ** 2 for score in scores), Fraction(0)) / (len(scores) - 1)
    return Recount(len(scores), _decimal(mean), _EXACT.sqrt(_decimal(variance)))


def _score(records: Sequence[EvaluationRecord], policy: str) -> Fraction | None:
    """The mean IoU of the evaluation that counts: the last one, or the earliest of the best."""
    ordered = sorted(records, key=lambda record: record.step)
    if not ordered:
        return None
    scores = [mean_iou(record.confusion) for record in ordered]
    if policy == "last":
        return scores[-1]
    return max((score for score in scores if score is not None), default=None)


def mean_iou(confusion: Confusion) -> Fraction | None:
    """The mean IoU over the classes that are in truth or prediction, exactly; None where there are none."""
    ious = []
    for index, row in enumerate(confusion):
        union = sum(row) + sum(other[index] for other in confusion) - row[index]
        if union:
            ious.append(Fraction(row[index], union))
    return sum(ious, Fraction(0)) / len(ious) if ious else None


def _decimal(value: Fraction) -> Decimal:
    return _EXACT.divide(Decimal(value.numerator), Decimal(value.denominator))


# --- comparing ----------------------------------------------------------------------------------------------------


def _columns(written: Mapping[str, str], fraction: str) -> tuple[str, str, str]:
    """Mean, std and n of a cell as the CSV has them; empty where it has no such column."""
    mean, std, count = (written.get(f"{fraction} {field}", "") for field in ("mean (0-1)", "std (0-1)", "n"))
    return mean, std, count


def _doubts_of_cell(line: Line, cell: CellSummary, again: Recount, written: tuple[str, str, str]) -> Iterator[str]:
    place = f"{line.label}, {cell.label_fraction}"
    if (cell.n, written[2]) != (again.n, str(again.n)):
        yield f"{place}: n is {cell.n}, and {written[2] or 'nothing'} in the CSV; {again.n} trials give a number"
    for name, exact, value, text in (
        ("mean", again.mean, cell.mean, written[0]),
        ("standard deviation", again.std, cell.std, written[1]),
    ):
        shown = percent(value)
        wanted = "none" if exact is None else f"{exact:.12f}"
        if not _is(repr(value), exact, _TOLERANCE, scale=1):
            yield f"{place}: the {name} is {value!r}, the confusion matrices give {wanted}"
        if not _is(shown, exact, _HALF_A_DIGIT, scale=100):
            yield f"{place}: the {name} is printed as {shown or 'nothing'}, the confusion matrices give {wanted}"
        if not _is(text, exact, _TOLERANCE, scale=1):
            yield f"{place}: the {name} is {text or 'empty'} in the CSV, the confusion matrices give {wanted}"


def _is(text: str, exact: Decimal | None, tolerance: Decimal, *, scale: int) -> bool:
    """Whether a text says a number, or that there is none."""
    if exact is None or text in ("", "nan"):
        return exact is None and text in ("", "nan")
    return abs(Decimal(text) - exact * scale) <= tolerance
