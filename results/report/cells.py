"""Cells of a table as the page tells of them: where each number comes from, and what has none and why."""

from collections.abc import Iterator
from dataclasses import dataclass

from results.aggregate import CellSummary
from results.explanation import aggregate_entries
from results.figures import percent
from results.layout import NOTHING_DONE, header, marked_label
from results.marks import state_words
from results.report.parts import Entries, ReportParts


@dataclass(frozen=True, slots=True)
class TrialOrigin:
    """One trial behind a cell; `value` is its mean IoU in percent, "" where it has none; stale ones have that state."""

    seed: int
    trial_id: str
    state: str
    value: str
    entries: Entries


@dataclass(frozen=True, slots=True)
class CellOrigin:
    """The trials behind a cell, under the anchor that its figures in the table lead to."""

    anchor: str
    title: str
    figures: str
    entries: Entries
    trials: tuple[TrialOrigin, ...]


@dataclass(frozen=True, slots=True)
class OpenTrials:
    """Trials that are in no mean, or that are in one and stale: those with the same state, step and reason together.

    `places` are cells with their seeds, such as "ClassMix, 1/8 (372): 0, 3".
    """

    state: str
    places: tuple[str, ...]
    step: int
    reason: str


def anchors(parts: ReportParts) -> dict[tuple[str, str], str]:
    """The anchor of each cell by row and label fraction."""
    return {
        (cell.row, cell.label_fraction): f"cell-{row}-{column}"
        for row, line in enumerate(parts.table.lines)
        for column, cell in enumerate(line.cells)
        if cell is not None
    }


def cell_origins(parts: ReportParts) -> Iterator[CellOrigin]:
    """What the page says behind each cell, in the order of the table."""
    heads = dict(zip(parts.table.fractions, header(parts.table)[1:], strict=True))
    places = anchors(parts)
    for line in parts.table.lines:
        for cell in line.cells:
            if cell is not None:
                yield CellOrigin(
                    places[cell.row, cell.label_fraction],
                    f"{marked_label(parts.table, line)}, {heads[cell.label_fraction]}",
                    _figures(cell),
                    aggregate_entries(parts.table, cell.row, cell.label_fraction),
                    tuple(_trials(parts, cell)),
                )


def _figures(cell: CellSummary) -> str:
    printed = " ± ".join(text for text in (percent(cell.mean), percent(cell.std)) if text) or NOTHING_DONE
    return printed if state_words(cell) == "done" else f"{printed} ({state_words(cell)})"


def _trials(parts: ReportParts, cell: CellSummary) -> Iterator[TrialOrigin]:
    values, states, stale = dict(cell.scores), dict(cell.absent), {seed for seed, _ in cell.stale}
    here = (parts.table.trials["row"] == cell.row) & (parts.table.trials["label_fraction"] == cell.label_fraction)
    for seed, trial_id in parts.table.trials.loc[here, ["seed", "trial_id"]].itertuples(index=False):
        yield TrialOrigin(
            seed=seed,
            trial_id=trial_id,
            state="stale" if seed in stale else states.get(seed, "done"),
            value=percent(values[seed]) if seed in values else "",
            entries=parts.origins.get(trial_id, ()),
        )


def open_trials(parts: ReportParts) -> Iterator[OpenTrials]:
    """Every trial that is not done or is stale: what failed first, what is merely stale last."""
    heads = dict(zip(parts.table.fractions, header(parts.table)[1:], strict=True))
    found: dict[tuple[str, int, str], dict[str, list[str]]] = {}
    for cell in parts.table.trials.to_dict("records"):
        state = "stale" if cell["stale"] else cell["state"]
        if state in _REASONS:
            reason = cell["stale"] or cell["detail"] or _REASONS[state]
            places = found.setdefault((state, cell["step"], reason), {})
            places.setdefault(f"{cell['row']}, {heads[cell['label_fraction']]}", []).append(str(cell["seed"]))
    order = list(_REASONS)
    for (state, step, reason), places in sorted(found.items(), key=lambda item: order.index(item[0][0])):
        yield OpenTrials(state, tuple(f"{place}: {', '.join(seeds)}" for place, seeds in places.items()), step, reason)


_REASONS = {
    "failed": "no reason was recorded",
    "partial": "stopped at a checkpoint",
    "running": "a driver trains it now",
    "missing": "not started yet",
    "stale": "what decides the number has changed",
}
"""States that the page lists, in its order, and what is said where a trial says nothing of its own."""
