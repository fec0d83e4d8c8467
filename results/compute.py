"""Aggregates to a computed table: its rows, columns, headers and caption in words. Knows no file format and no disk."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import pandas as pd

from results.aggregate import (
    NO_ROWS,
    POLICY_WORDS,
    CellSummary,
    Selection,
    choose_steps,
    find_differences,
    labeled_counts,
    leader,
    select_scores,
    summarize,
)
from results.frame import Frames, TableLike
from results.published import PublishedScore, published_table

DEMONSTRATION = "DEMONSTRATION on synthetic or small data, no reproduction of published numbers"


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a computed table; a cell is None where the table declares no trial there.

    `selection` is that by which the row is judged, `eval_sizes` what it was measured at.
    """

    label: str
    group: int | str
    networks: tuple[str, ...]
    cells: tuple[CellSummary | None, ...]
    published: tuple[PublishedScore | None, ...]
    selection: Selection
    eval_sizes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ComputedTable:
    """All that a format needs: cells by line and fraction, what they were measured on, and what to be wary of.

    `selection` is the heading's, and that of every line that is not marked as having its own; `reference_row` is the
    row that others are compared with. `leaders` holds per
    fraction the row printed in bold, `counts` labelled images by fraction, `code` the code digests
    by trial, `trials` the frame of cells, `chosen` the result lines at the chosen steps, `overrides` the fields changed
    from the declared table, `warnings` lines for a person.
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


# --- compute ------------------------------------------------------------------------------------------------------


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
        warnings=(*_wary(frames.cells), *find_differences(frames)),
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
        )
        for row in table.rows
        if row.label in with_cells
    )


def _code_by_trial(frames: Frames) -> dict[str, str]:
    counted = frames.attempts[frames.attempts["in_result"]]
    digests = counted.groupby("trial_id", sort=False)["code_digest"].unique()
    return {str(name): "+".join(sorted(digest[:12] for digest in found)) for name, found in digests.items()}


def _wary(cells: pd.DataFrame) -> Iterable[str]:
    for cell in cells[cells["detail"] != ""].itertuples():
        yield f"{cell.row}, {cell.label_fraction}, seed {cell.seed} ({cell.trial_id}): {cell.state}, {cell.detail}"


# --- what all formats say -----------------------------------------------------------------------------------------


def header(table: ComputedTable) -> list[str]:
    """The column headers: "1/8 (372)" where the number of labelled images is known."""
    counts = (f" ({table.counts[fraction]})" if fraction in table.counts else "" for fraction in table.fractions)
    names = ("Full" if fraction == "1" else fraction for fraction in table.fractions)
    return ["Method", *(name + count for name, count in zip(names, counts, strict=True))]


def caption(table: ComputedTable) -> str:
    """What was measured, how it was chosen and what the signs mean, as plain text."""
    judged = f"Mean IoU in percent of the {table.selection.network} {POLICY_WORDS[table.selection.policy]}"
    sizes = " and ".join(map(_in_pixels, table.eval_sizes))
    said = [
        f"{DEMONSTRATION}. {table.title}" if table.is_demonstration else table.title,
        f"Changed from the declared table: {', '.join(map(_clipped, table.overrides))}" if table.overrides else "",
        f"{judged}, evaluated at {sizes}" if sizes else judged,
        *_said_of_own_selections(table),
        *_said_of_sizes(table),
        f"Mean ± sample standard deviation (ddof 1) over n = {table.num_seeds} seeds, unless a cell says otherwise",
        *_said_of_networks(table),
        f"Initial weights: {', '.join(table.initial_weights)}" if table.initial_weights else "",
        "Bold: best complete mean of a column if above the runner-up by more than the runner-up's standard deviation",
        *_said_of_bold(table),
        *_said_of_absent(table),
        f"Numbers marked (paper) are as published, not run here: {table.citation}" if table.citation else "",
    ]
    return " ".join(f"{text.rstrip('.')}." for text in said if text)


def _in_pixels(eval_size: str) -> str:
    """Put the unit behind the numbers of 512x1024 or of 1024x2048 (sliding windows)."""
    size, gap, protocol = eval_size.partition(" ")
    return f"{size} pixels{gap}{protocol}"


def _clipped(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"


def own_selection(table: ComputedTable, line: Line) -> str:
    """The words that mark a line which is not judged as the heading says; empty for all others."""
    network = "" if line.selection.network == table.selection.network else line.selection.network
    policy = "" if line.selection.policy == table.selection.policy else line.selection.policy
    return " ".join(word for word in (network, policy) if word)


def marked_label(table: ComputedTable, line: Line) -> str:
    """A row's label on one line, marked where the row has a selection of its own."""
    words = own_selection(table, line)
    return " ".join(line.label.split()) + (f" [{words}]" if words else "")


def _said_of_own_selections(table: ComputedTable) -> Iterable[str]:
    for line in table.lines:
        if words := own_selection(table, line):
            judged = f"the {line.selection.network} {POLICY_WORDS[line.selection.policy]}"
            yield f"Otherwise the row marked [{words}], {' '.join(line.label.split())}: {judged}"


def _said_of_bold(table: ComputedTable) -> Iterable[str]:
    if any(line.selection.policy != table.selection.policy for line in table.lines):
        yield "Rows whose evaluation is chosen in another way take no part in it"


def _said_of_sizes(table: ComputedTable) -> Iterable[str]:
    if len(table.eval_sizes) > 1:
        for size in table.eval_sizes:
            yield f"At {size}: {', '.join(line.label for line in table.lines if size in line.eval_sizes)}"


def _said_of_networks(table: ComputedTable) -> Iterable[str]:
    other = [line.label for line in table.lines if set(line.networks) - {line.selection.network}]
    if other:
        yield f"Judged by the student, having no teacher: {', '.join(other)}"


def _said_of_absent(table: ComputedTable) -> Iterable[str]:
    cells = [cell for line in table.lines for cell in line.cells]
    if any(cell is not None and not cell.is_complete for cell in cells):
        yield "†: incomplete, with the number of seeds done of those declared; –: none done"
    if None in cells:
        yield "An empty cell is not part of the table"


def figures(cell: CellSummary) -> tuple[str, str]:
    """Mean and std in percent with two decimals; an en dash for no mean, nothing for no std."""
    mean, std = ("" if math.isnan(value) else f"{100 * value:.2f}" for value in (cell.mean, cell.std))
    return mean or "–", std


def count_note(cell: CellSummary, num_seeds: int) -> str:
    """What a cell must say about its seeds: that some are absent, or that it declares more or fewer than the table."""
    if not cell.is_complete:
        return f"† ({cell.n}/{cell.expected})"
    return f" (n = {cell.n})" if cell.n != num_seeds else ""


def is_leader(table: ComputedTable, line: Line, column: int) -> bool:
    """Whether this cell is printed in bold."""
    return table.leaders[column] == line.label


def rows_for_display(
    table: ComputedTable, *, embolden: Callable[[str], str] = str, escape: Callable[[str], str] = str
) -> list[list[str]]:
    """The rows below `header` as text, published values beside ours; `embolden` marks the leading cells."""
    return [
        [escape(marked_label(table, line)), *(_cell_text(table, line, i, embolden) for i in range(len(line.cells)))]
        for line in table.lines
    ]


def _cell_text(table: ComputedTable, line: Line, column: int, embolden: Callable[[str], str]) -> str:
    cell, published = line.cells[column], line.published[column]
    texts = []
    if cell is not None:
        text = " ± ".join(part for part in figures(cell) if part)
        note = count_note(cell, table.num_seeds)
        texts.append((embolden(text) if is_leader(table, line, column) else text) + note)
    if published is not None and published.mean is not None:
        texts.append(f"{published.text} (paper)")
    return "; ".join(texts)
