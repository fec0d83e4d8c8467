"""A computed table as CSV: wide for a spreadsheet, long for a program. Numbers in [0, 1], in full precision."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import pandas as pd

from results.aggregate import CellSummary
from results.compute import ComputedTable, Line
from results.differences import Difference
from results.escaping import escape_csv
from results.layout import verdict_at
from results.published import PublishedScore
from trainer.spec import MEAN

CELL_FIELDS = ("mean (0-1)", "std (0-1)", "n", "expected n", "state", "stale seeds")
DIFFERENCE_FIELDS = ("difference (0-1)", "std of difference (0-1)", "seeds in difference")
PUBLISHED_FIELDS = ("published mean (0-1)", "published std (0-1)", "verdict")


def format_csv(table: ComputedTable) -> str:
    """One line per row; per fraction mean, std, n, expected n, state, stale seeds, and the same of what is compared.

    Differences are to the row named in the column `reference`, over the seeds that both have, complete or not; a
    verdict stands beside complete cells only.
    """
    has_differences, has_published = _has_differences(table), table.citation is not None
    fields = CELL_FIELDS + DIFFERENCE_FIELDS * has_differences + PUBLISHED_FIELDS * has_published
    columns = [f"{fraction} {field}" for fraction in table.fractions for field in fields]
    head = ["row", "policy", "network", "eval_size", *(["reference"] if has_differences else []), *columns]
    return _csv([head, *(_wide_line(table, line) for line in table.lines)])


def _has_differences(table: ComputedTable) -> bool:
    return any(difference is not None for line in table.lines for difference in line.differences)


def _wide_line(table: ComputedTable, line: Line) -> list[str]:
    has_differences = _has_differences(table)
    networks = "+".join(line.networks) or line.selection.network
    sizes = "+".join(line.eval_sizes or table.eval_sizes)
    values = [escape_csv(line.label), line.selection.policy, networks, sizes]
    values += [escape_csv(table.reference_row or "")] if has_differences else []
    for column, cell in enumerate(line.cells):
        values += _cell_values(cell)
        values += _difference_values(line.differences[column]) if has_differences else []
        values += _published_values(table, line, column) if table.citation else []
    return values


def _cell_values(cell: CellSummary | None) -> list[str]:
    if cell is None:
        return ["", "", "0", "0", "not declared", ""]
    stale = ", ".join(str(seed) for seed, _ in cell.stale)
    return [_exact(cell.mean), _exact(cell.std), str(cell.n), str(cell.expected), cell.state, stale]


def _difference_values(difference: Difference | None) -> list[str]:
    if difference is None:
        return ["", "", "0"]
    return [_exact(difference.mean), _exact(difference.std), str(difference.n)]


def _published_values(table: ComputedTable, line: Line, column: int) -> list[str]:
    verdict = verdict_at(table, line, column)
    return [*_published_shares(line.published[column]), verdict.text if verdict else ""]


def _published_shares(score: PublishedScore | None) -> list[str]:
    percents = (score.mean, score.std) if score else (None, None)
    return ["" if percent is None else str(percent / Decimal(100)) for percent in percents]


def format_csv_long(table: ComputedTable) -> str:
    """One line per trial and network with the IoU of each class in [0, 1]; one for each trial without a number.

    `stale` says what has changed since the trial was done; nothing where nothing has.
    """
    classes = [name for name in table.chosen["class_name"].unique() if name != MEAN]
    head = ["row", "label_fraction", "seed", "trial_id", "state", "stale"]
    head += ["step", "network", "policy", "eval_size", "mean_iou", *(f"iou_{name}" for name in classes)]
    places: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for (row, trial_id, _), lines in table.chosen.groupby(["row", "trial_id", "network"], sort=False):
        places.setdefault((str(row), str(trial_id)), []).append(lines)
    policies = {line.label: line.selection.policy for line in table.lines}
    written = [head]
    for row, fraction, seed, trial_id, state, stale in _trials(table):
        start = [escape_csv(row), fraction, seed, trial_id, state, escape_csv(stale)]
        empty = ["", "", policies[row], ""] + [""] * (1 + len(classes))
        judged = [_judged(lines, policies[row], [MEAN, *classes]) for lines in places.get((row, trial_id), ())]
        written += [[*start, *values] for values in judged or [empty]]
    return _csv(written)


def _trials(table: ComputedTable) -> Iterable[tuple[str, ...]]:
    columns = ("row", "label_fraction", "seed", "trial_id", "state", "stale")
    return zip(*(table.trials[name].astype(str) for name in columns), strict=True)


def _judged(lines: pd.DataFrame, policy: str, names: Sequence[str]) -> list[str]:
    ious: Mapping[str, float] = dict(zip(lines["class_name"], lines["iou"].tolist(), strict=True))
    first = lines.iloc[0]
    place = [str(first["step"]), str(first["network"]), policy, str(first["eval_size"])]
    return [*place, *(_exact(ious.get(name, float("nan"))) for name in names)]


def _exact(value: float) -> str:
    return "" if value != value else repr(value)


def _csv(lines: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
