"""`status --watch`: the grid, what is trained, how fast and for how long, again and again."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from experiments.table import Table
from orchestrator.cli.common import Chosen
from orchestrator.cli.grid_view import grid_view, summary
from orchestrator.cli.running import duration
from orchestrator.cli.stale import Viewer
from orchestrator.sight import SILENT_SECONDS, Going, Sight, look, remembering, use_of_this_machine
from trainer.storage import Storage

EVERY_SECONDS = 4.0
# Looking takes this part of the time at most: a thousand trials in a remote storage are looked at less often.
_LOOKING_PART = 0.25
_BAR_WIDTH = 14
_FEWEST_LINES = 4
_HOW_TO_LEAVE = f"every {EVERY_SECONDS:.0f} s; Ctrl-C leaves, and the run goes on"
_COLORS = {"failed": "red", "partial": "yellow"}
T = TypeVar("T")


def refuse_json(is_wanted: bool) -> None:
    """Raises: ValueError where a script asks to watch."""
    if is_wanted:
        raise ValueError("--json and --watch do not go together: a script asks for --json as often as it likes")


def watch_grid(chosen: Chosen, viewer: Viewer, tracking_uri: str | None) -> None:
    """Show the grid until every cell is done or Ctrl-C; once where there is no terminal. The last view stays."""
    console, table, storage, judge = Console(), chosen.table, chosen.storage, remembering(viewer.judge)
    links = links_of(storage, tracking_uri)
    if not console.is_terminal:
        console.print(whole_view(table, look(table, storage, judge, viewer.glances.look), links))
        return
    sight, pause = None, 0.0
    with suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as live:
        while sight is None or not sight.is_done:
            time.sleep(pause)
            before = time.monotonic()
            sight = look(table, storage, judge, viewer.glances.look)
            viewer.glances.remember()
            live.update(view_on(console, table, sight, links), refresh=True)
            seconds = time.monotonic() - before
            pause = max(EVERY_SECONDS - seconds, seconds * (1 / _LOOKING_PART - 1))
    if sight is not None:
        console.print(whole_view(table, sight, links))


def links_of(storage: Storage, tracking_uri: str | None) -> list[str]:
    """Where MLflow is, or how to see what it has."""
    if tracking_uri is not None and tracking_uri.startswith("http"):
        return [f"MLflow  {tracking_uri}"]
    if tracking_uri is None and storage.is_local and storage.exists("mlflow.db"):
        tracking_uri = f"sqlite:///{storage.locate('mlflow.db')}"
    return [] if tracking_uri is None else [f"MLflow  mlflow ui --backend-store-uri {tracking_uri}"]


def whole_view(table: Table, sight: Sight, links: Sequence[str]) -> Group:
    """Everything that is known, however long."""
    return Group(*_head(table, sight), *_trials(sight, None), *_failures(sight, None), *_foot(sight, links))


def view_on(console: Console, table: Table, sight: Sight, links: Sequence[str]) -> Group:
    """What fits on a screen: the grid first, then how to leave, then trials and failures, then devices and links."""
    head, foot = _head(table, sight), [*_foot(sight, links), _note(f"{time.strftime('%H:%M:%S')}  {_HOW_TO_LEAVE}")]
    if console.height - _height(console, head + foot) < _FEWEST_LINES:
        foot = foot[-1:]
    room = max(console.height - _height(console, head + foot), _FEWEST_LINES)
    failures = _failures(sight, room // 2)
    trials = _trials(sight, room - _height(console, failures))
    return Group(*head, *trials, *failures, *foot)


def _height(console: Console, parts: Sequence[RenderableType]) -> int:
    return len(console.render_lines(Group(*parts), console.options.update(height=None)))


def _head(table: Table, sight: Sight) -> list[RenderableType]:
    return [Text(table.title, "bold"), Text(rates(sight)), grid_view(table, sight.planned), summary(sight.planned)]


def rates(sight: Sight) -> str:
    """Trials at work, their step rate, and the time left."""
    if not sight.going:
        return "all cells are done" if sight.is_done else "nobody trains these cells now"
    speaking = sum(going.rate > 0 for going in sight.going)
    left = sight.seconds_left()
    until = "" if left is None else f"; about {duration(left)} left"
    return f"{speaking} training, {len(sight.going) - speaking} in line; {sight.rate:.1f} steps/s{until}"


def _trials(sight: Sight, most: int | None) -> list[RenderableType]:
    speaking = [going for going in sight.going if going.progress is not None]
    shown, more = _cut(speaking, most)
    if not shown:
        return more
    lines = RichTable.grid(padding=(0, 1))
    lines.add_column(overflow="ellipsis", no_wrap=True)
    lines.add_column(width=_BAR_WIDTH)
    for _ in range(3):
        lines.add_column(no_wrap=True, justify="right")
    for going in shown:
        lines.add_row(*_trial(going))
    return [lines, *more]


def _trial(going: Going) -> tuple[RenderableType, ...]:
    assert going.progress is not None
    step, whole = going.progress.step, going.progress.num_steps
    bar = ProgressBar(total=max(whole, 1), completed=step, width=_BAR_WIDTH)
    if going.silent_seconds > SILENT_SECONDS:
        pace = ("silent for", duration(going.silent_seconds))
    else:
        pace = (f"{going.rate:.2f}/s", duration((whole - step) / going.rate) if going.rate > 0 else "")
    return Text(going.item.cell.name), bar, f"{step}/{whole}", *pace


def _failures(sight: Sight, most: int | None) -> list[RenderableType]:
    failed = [item for item in sight.planned if item.state == "failed"]
    failed += [item for item in sight.planned if item.state == "partial" and item.trial.detail]
    shown, more = _cut(failed, most)
    lines: list[RenderableType] = [
        Text(
            f"{item.state}  {item.cell.name}  {item.trial.detail}",
            _COLORS[item.state],
            overflow="ellipsis",
            no_wrap=True,
        )
        for item in shown
    ]
    return [*lines, *more]


def _cut(items: Sequence[T], most: int | None) -> tuple[Sequence[T], list[RenderableType]]:
    """What fits into so many lines, one of which says how many do not."""
    if most is None or len(items) <= most:
        return items, []
    shown = max(most - 1, 0)
    return items[:shown], [_note(f"and {len(items) - shown} more")]


def _foot(sight: Sight, links: Sequence[str]) -> list[RenderableType]:
    devices = [f"{ranks} x {device} on {host.partition('/')[0]}" for (host, device), ranks in sight.devices().items()]
    lines = [
        *([f"devices {', '.join(devices)}"] if devices else []),
        f"here    {'; '.join(use_of_this_machine())}",
        *links,
        *(f"Ray     {address}" for address in sight.dashboards),
    ]
    return [_note(line) for line in lines]


def _note(text: str) -> Text:
    return Text(text, "dim", overflow="ellipsis", no_wrap=True)
