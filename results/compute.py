"""Aggregates to a computed table: its rows and columns, and what is said of them. Knows no wording, format or disk."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import pandas as pd

from results.aggregate import (
    NO_ROWS,
    CellSummary,
    Selection,
    choose_steps,
    find_differences,
    labeled_counts,
    leader,
    select_scores,
    summarize,
)
from results.differences import Difference, paired_difference
from results.frame import Frames, TableLike
from results.published import PublishedScore, published_table

_MOST_PLACES = 6  # named in a note; `status` lists more


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a computed table; a cell is None where the table declares no trial there.

    `selection` is that by which the row is judged, `eval_sizes` what it was measured at. `differences` are to the
    reference row: None in that row itself, where the two are judged by different policies, or share no seed.
    """

    label: str
    group: int | str
    networks: tuple[str, ...]
    cells: tuple[CellSummary | None, ...]
    published: tuple[PublishedScore | None, ...]
    selection: Selection
    eval_sizes: tuple[str, ...] = ()
    differences: tuple[Difference | None, ...] = ()


@dataclass(frozen=True)
class ComputedTable:
    """All that a format needs: cells by line and fraction, what they were measured on, and what to be wary of.

    `selection` is the heading's, and that of every line that is not marked as having its own; `reference_row` is the
    row that others are compared with. `leaders` holds per fraction the row printed in bold, `counts` labelled images by
    fraction, `code` the code digests by trial, `trials` the frame of cells, `chosen` the result lines at the chosen
    steps, `overrides` the fields changed from the declared table, `warnings` lines for a person.
    """

    name: str
    title: str
    is_demonstration: bool
    overrides: tuple[str, ...]
    selection: Selection
    reference_row: str | None
    fractions: tuple[str, ...]
    counts: Mapping[str, int]
    num_seeds: int
    lines: tuple[Line, ...]
    leaders: tuple[str | None, ...]
    eval_sizes: tuple[str, ...]
    initial_weights: tuple[str, ...]
    citation: str | None
    code: Mapping[str, str]
    trials: pd.DataFrame
    chosen: pd.DataFrame
    warnings: tuple[str, ...]

    @property
    def cells(self) -> tuple[CellSummary, ...]:
        """Every cell that the table declares, line by line."""
        return tuple(cell for line in self.lines for cell in line.cells if cell is not None)


def compute_table(
    frames: Frames,
    table: TableLike,
    selection: Selection,
    *,
    by_row: Mapping[str, Selection] = NO_ROWS,
    counts: Mapping[Fraction, int] | None = None,
) -> ComputedTable:
    """Bring what was read of a table into its rows and columns.

    Args:
        by_row: selections of rows that have one of their own; every format marks them.
        counts: labelled images by fraction for the headers; where not given, what the manifests say.
    """
    summaries = summarize(frames, selection, by_row)
    scores = select_scores(frames, selection, by_row)
    fractions = tuple(str(fraction) for fraction in table.fractions)
    means = choose_steps(frames.results, selection.policy, by_row)
    # What was chosen on the reported images by another rule leads nothing and follows nothing.
    comparable = [cell for cell in summaries.values() if by_row.get(cell.row, selection).policy == selection.policy]
    chosen_at = means[["row", "trial_id", "network", "step"]]
    return ComputedTable(
        name=table.name,
        title=table.title,
        is_demonstration=table.is_demonstration,
        overrides=tuple(f"{path}={value}" for path, value in table.overrides),
        selection=selection,
        reference_row=table.reference_row,
        fractions=fractions,
        counts={str(f): n for f, n in counts.items()} if counts is not None else labeled_counts(frames),
        num_seeds=len(table.seeds),
        lines=_lines(table, summaries, scores, {row.label: by_row.get(row.label, selection) for row in table.rows}),
        leaders=tuple(leader(cell for cell in comparable if cell.label_fraction == f) for f in fractions),
        eval_sizes=tuple(sorted(scores["eval_size"].unique())),
        initial_weights=tuple(sorted(scores["initial_weights"].unique())),
        citation=published_table(table.published).citation if table.published else None,
        code=_code_by_trial(frames),
        trials=frames.cells,
        chosen=frames.results.merge(chosen_at, on=list(chosen_at.columns)),
        warnings=(*_wary(frames.cells), *_stale_by_reason(summaries.values()), *find_differences(frames)),
    )


def _lines(
    table: TableLike,
    summaries: Mapping[tuple[str, str], CellSummary],
    scores: pd.DataFrame,
    selections: Mapping[str, Selection],
) -> tuple[Line, ...]:
    """A line for each row that has cells."""
    networks = scores.groupby("row", sort=False)["network"].unique().to_dict()
    sizes = scores.groupby("row", sort=False)["eval_size"].unique().to_dict()
    published = published_table(table.published) if table.published else None
    with_cells = {row for row, _ in summaries}
    return tuple(
        Line(
            label=row.label,
            group=row.group,
            networks=tuple(networks.get(row.label, ())),
            cells=tuple(summaries.get((row.label, str(fraction))) for fraction in table.fractions),
            published=tuple(published.find(row.label, f) if published else None for f in table.fractions),
            selection=selections[row.label],
            eval_sizes=tuple(sorted(sizes.get(row.label, ()))),
            differences=_differences(table, summaries, selections, row.label),
        )
        for row in table.rows
        if row.label in with_cells
    )


def _differences(
    table: TableLike,
    summaries: Mapping[tuple[str, str], CellSummary],
    selections: Mapping[str, Selection],
    label: str,
) -> tuple[Difference | None, ...]:
    reference = table.reference_row or ""
    own, its = selections[label], selections.get(reference)
    is_comparable = reference != label and its is not None and its.policy == own.policy
    pairs = ((summaries.get((label, str(f))), summaries.get((reference, str(f)))) for f in table.fractions)
    return tuple(
        paired_difference(cell, other) if is_comparable and cell is not None and other is not None else None
        for cell, other in pairs
    )


def _code_by_trial(frames: Frames) -> dict[str, str]:
    counted = frames.attempts[frames.attempts["in_result"]]
    digests = counted.groupby("trial_id", sort=False)["code_digest"].unique()
    return {str(name): "+".join(sorted(digest[:12] for digest in found)) for name, found in digests.items()}


def _wary(cells: pd.DataFrame) -> Iterable[str]:
    for cell in cells[cells["detail"] != ""].itertuples():
        yield f"{cell.row}, {cell.label_fraction}, seed {cell.seed} ({cell.trial_id}): {cell.state}, {cell.detail}"


def _stale_by_reason(cells: Iterable[CellSummary]) -> Iterable[str]:
    """A line for each change since, with the cells that it makes stale: one change often does so to all of them."""
    places: dict[str, dict[str, list[int]]] = {}
    for cell in cells:
        for seed, reason in cell.stale:
            places.setdefault(reason, {}).setdefault(f"{cell.row}, {cell.label_fraction}", []).append(seed)
    for reason, found in places.items():
        listed = [f"{place}, seed {', '.join(map(str, seeds))}" for place, seeds in found.items()]
        more = [f"and {len(listed) - _MOST_PLACES} more (`status` lists them)"] if len(listed) > _MOST_PLACES else []
        yield f"stale, {reason}: {'; '.join([*listed[:_MOST_PLACES], *more])}"
