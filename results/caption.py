"""The words above a computed table: what was measured, how it was chosen, and what the signs mean. Knows no format."""

from collections.abc import Iterable

from results.aggregate import POLICY_WORDS
from results.compute import ComputedTable, Line
from results.layout import DEFAULT, Layout, own_selection, printed_lines
from results.marks import legend
from results.verdicts import TOLERANCE_POINTS

DEMONSTRATION = "DEMONSTRATION on synthetic or small data, no reproduction of published numbers"


def caption(table: ComputedTable, layout: Layout = DEFAULT) -> str:
    """The whole caption as plain text."""
    return " ".join(caption_sentences(table, layout))


def caption_sentences(table: ComputedTable, layout: Layout = DEFAULT) -> tuple[str, ...]:
    """The caption in sentences, the title first; nothing is explained that does not occur."""
    judged = f"Mean IoU in percent of the {table.selection.network} {POLICY_WORDS[table.selection.policy]}"
    sizes = " and ".join(map(_in_pixels, table.eval_sizes))
    said = [
        f"{DEMONSTRATION}. {table.title}" if table.is_demonstration else table.title,
        f"Changed from the declared table: {', '.join(map(_clipped, table.overrides))}" if table.overrides else "",
        f"{judged}, evaluated at {sizes}" if sizes else judged,
        *_said_of_own_selections(table),
        *_said_of_sizes(table),
        _said_of_spread(table.num_seeds),
        *_said_of_networks(table),
        f"Initial weights: {', '.join(table.initial_weights)}" if table.initial_weights else "",
        *_said_of_bold(table),
        *_said_of_lines(table, layout),
        *_said_of_marks(table),
    ]
    return tuple(f"{text.rstrip('.')}." for text in said if text)


def _said_of_spread(num_seeds: int) -> str:
    if num_seeds == 1:
        return "One seed, so no standard deviation"
    spread = "Mean ± standard deviation of the sample (ddof 1, not the standard error)"
    return f"{spread} over n = {num_seeds} seeds, unless a cell says otherwise"


def _in_pixels(eval_size: str) -> str:
    """Put the unit behind the numbers of 512x1024 or of 1024x2048 (sliding windows)."""
    size, gap, protocol = eval_size.partition(" ")
    return f"{size} pixels{gap}{protocol}"


def _clipped(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"


def _said_of_own_selections(table: ComputedTable) -> Iterable[str]:
    for line in table.lines:
        if words := own_selection(table, line):
            judged = f"the {line.selection.network} {POLICY_WORDS[line.selection.policy]}"
            yield f"Otherwise the row marked [{words}], {_flat(line.label)}: {judged}"


def _flat(label: str) -> str:
    return " ".join(label.split())


def _said_of_sizes(table: ComputedTable) -> Iterable[str]:
    if len(table.eval_sizes) > 1:
        for size in table.eval_sizes:
            yield f"At {size}: {', '.join(_flat(line.label) for line in table.lines if size in line.eval_sizes)}"


def _said_of_networks(table: ComputedTable) -> Iterable[str]:
    other = [_flat(line.label) for line in table.lines if set(line.networks) - {line.selection.network}]
    if other:
        yield f"Judged by the student, having no teacher: {', '.join(other)}"


def _said_of_bold(table: ComputedTable) -> Iterable[str]:
    if len(table.lines) < 2 or table.num_seeds < 2:
        return
    rule = "a mean that is above every other of its column by more than the larger of their two standard deviations"
    yield f"Bold: {rule}; no test of significance"
    if any(_is_judged_by_another_policy(table, line) for line in table.lines):
        yield "Rows whose evaluation is chosen in another way take no part in it"


def _is_judged_by_another_policy(table: ComputedTable, line: Line) -> bool:
    return line.selection.policy != table.selection.policy


def _said_of_lines(table: ComputedTable, layout: Layout) -> Iterable[str]:
    kinds = {line.kind for line in printed_lines(table, layout)}
    if "difference" in kinds:
        yield f"Δ: mean difference to {_flat(table.reference_row or '')} over the same seeds, in points"
    if "published" in kinds:
        yield f"Paper: as published, not run here ({table.citation})"
    if "verdict" in kinds:
        yield (
            f"Verdict on ours: reproduced if at most {TOLERANCE_POINTS:g} points from the paper, else within spread if "
            "at most the larger standard deviation of the two, else off by so many points"
        )


def _said_of_marks(table: ComputedTable) -> Iterable[str]:
    cells = table.cells
    if any(not cell.is_complete for cell in cells):
        yield "(k/n): k of n seeds in the mean; –: none"
    if letters := legend(cells):
        yield f"Seeds: {'; '.join(letters)}"
    if any(not cell.is_settled for cell in cells):
        yield "Cells so marked take no part in bold, differences and verdicts"
    if any(cell is None for line in table.lines for cell in line.cells):
        yield "An empty cell is not part of the table"
