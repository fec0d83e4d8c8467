"""What `plan` prints below the grid: a forecast, and findings by kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from experiments.table import clipped
from orchestrator.cost import ACHIEVED_FLOPS
from orchestrator.finding import HEADINGS, Finding, Level
from orchestrator.forecast import Length, RowForecast, Span, by_row, finishing_time, total
from orchestrator.plan import PlannedCell

_MARKS: dict[Level, tuple[str, str]] = {"wrong": ("✗", "red"), "doubt": ("!", "yellow"), "told": ("·", "default")}
_MOST_DEVICES = 100_000


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a finishing time is asked for: numbers of devices, and devices of one trial."""

    sizes: tuple[int, ...] = ()
    workers: int = 1


def fleet_of(word: str, workers: int) -> Fleet:
    """The numbers of `--devices 1,8`. Raises: ValueError saying how they are given."""
    sizes = [int(part) if part.strip().isdecimal() else 0 for part in word.split(",")]
    if not all(0 < size <= _MOST_DEVICES for size in sizes):
        raise ValueError(f"--devices {clipped(word)}: give numbers from 1 to {_MOST_DEVICES}, such as 1,8")
    if too_few := [size for size in sizes if size < workers]:
        raise ValueError(f"--devices {too_few[0]}: a trial takes {workers} (--workers), so give at least as many")
    return Fleet(tuple(sizes), workers)


def print_forecast(console: Console, planned: Sequence[PlannedCell], found: Mapping[str, Length], fleet: Fleet) -> None:
    """Print FLOP and hours of what is missing, row by row and in sum; nothing where nothing is missing."""
    lines = by_row(planned, found)
    if not lines:
        return
    view = RichTable(show_edge=False, title="forecast, an estimate", title_justify="left", title_style="bold")
    view.add_column("")
    view.add_column("trials", justify="right")
    view.add_column("FLOP", justify="right")
    view.add_column("hours" if any(" on cpu" in line.basis for line in lines) else "GPU-hours", justify="right")
    view.add_column("from")
    for line in lines:
        view.add_row(escape(line.row), str(line.num_trials), _flop(line.flop), _hours(line.hours), line.basis)
    if len(lines) > 1:
        view.add_section()
        view.add_row(*_sum(lines))
    console.print()
    console.print(view)
    if any("assumed" in line.basis for line in lines):
        console.print(_assumption(planned), style="dim", highlight=False)
    for size in fleet.sizes:
        if (span := finishing_time(planned, found, [size], fleet.workers)) is not None:
            console.print(_finish(span, size, fleet.workers), highlight=False)


def _finish(span: Span, size: int, workers: int) -> str:
    width = "" if workers == 1 else f", {workers} to a trial"
    number = "1 device" if size == 1 else f"{size} devices"
    return f"finished after {_hours(span.times(1 / 3600))} h on {number}{width}"


def _assumption(planned: Sequence[PlannedCell]) -> str:
    slow, fast = (f"{rate / 1e12:.0f}" for rate in ACHIEVED_FLOPS)
    said = f"Assumed rate: {fast} to {slow} TFLOP/s, as one H100 may achieve in tf32 or bf16 (docs/methods.md, 2.7)"
    if any(item.cell.spec.precision == "float32" for item in planned):
        said += "; these cells say float32, which is slower (--set precision=tf32)"
    return said + "."


def _sum(lines: Sequence[RowForecast]) -> tuple[str, ...]:
    flops = [line.flop for line in lines if line.flop is not None]
    hours = [line.hours for line in lines if line.hours is not None]
    num_unknown = len(lines) - len(hours)
    trials = str(sum(line.num_trials for line in lines))
    basis = f"{num_unknown} of {len(lines)} rows unknown" if num_unknown else ""
    return "in all", trials, _flop(sum(flops) if flops else None), _hours(total(hours) if hours else None), basis


def _flop(flop: float | None) -> str:
    return "?" if flop is None else f"{flop:.1e}".replace("e+", "e")


def _hours(hours: Span | None) -> str:
    """What is expected, and the range where there is one."""
    if hours is None:
        return "?"
    low, expected, high = (f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in hours.ends)
    return expected if low == high else f"{expected} ({low} – {high})"


def print_findings(console: Console, findings: Sequence[Finding], num_rows: int) -> None:
    """Print each kind of finding under its heading, a sentence each with the rows it holds for, unless all."""
    for kind, group in groupby(findings, key=lambda finding: finding.kind):
        console.print(f"\n{HEADINGS[kind]}", style="bold", markup=False, highlight=False)
        view = RichTable.grid(padding=(0, 1, 0, 0))
        for finding in group:
            mark, style = _MARKS[finding.level]
            view.add_row(Text(mark, style), Text(sentence(finding, num_rows), style))
        console.print(view)


def sentence(finding: Finding, num_rows: int) -> str:
    """What was found, with the rows it holds for unless these are all."""
    return finding.text + (f": {', '.join(finding.rows)}" if 0 < len(finding.rows) < num_rows else "")
