"""What `plan` gathers and prints: for a person in parts, for scripts as one JSON object."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from orchestrator.cli.common import Chosen, Places
from orchestrator.cli.grid_view import grid_view, summary
from orchestrator.cli.planning import Fleet, print_findings, print_forecast
from orchestrator.cli.probing import probe_sharing, probe_table
from orchestrator.cli.stale import Viewer, say_stale
from orchestrator.finding import Finding
from orchestrator.forecast import UNFINISHED, Length, Probed, Span, by_row, finishing_time, lengths, not_probed
from orchestrator.lint import findings
from orchestrator.lint_data import DataOnDisk
from orchestrator.plan import PlannedCell
from orchestrator.sharing import Sharing, SharingBook, lines, options_of, shape_of
from trainer.data.cache import cache_folder


def print_plan(chosen: Chosen, places: Places, fleet: Fleet, *, probes: bool, as_json: bool) -> None:
    """State of every cell, forecast, sharing and findings; as JSON what a probe says goes to stderr."""
    table, storage, console = chosen.table, chosen.storage, Console(stderr=as_json)
    viewer = Viewer.of(storage, places)
    planned = viewer.survey(table)
    if not as_json:
        console.print(table.title, style="bold", markup=False, highlight=False)
        console.print(grid_view(table, planned))
        console.print(summary(planned))
        say_stale(planned, console)
        if table.optional_rows:
            names = ", ".join(row.label for row in table.optional_rows)
            console.print(f"optional rows, by --rows with their labels or all: {names}", markup=False, highlight=False)
    ran_on = {name: seen.ran_on for name, seen in viewer.glances.seen.items() if seen.ran_on is not None}
    counts = DataOnDisk(places.data).counts
    probed: Probed = not_probed
    if probes:
        probed = probe = probe_table(planned, places, counts, console)
        probe_sharing(planned, places, probe, console)
    found = lengths(planned, storage, counts, ran_on, probed)
    rows = shapes_of(planned)
    known = SharingBook(cache_folder(places.cache)).about(rows)
    unfinished = [item.cell for item in planned if item.state != "done"]
    noted = findings(
        table,
        data=places.data,
        weights=places.weights,
        storage=storage,
        cache=places.cache,
        unfinished=unfinished,
    )
    if as_json:
        print(json.dumps(plan_as_dict(planned, found, fleet, known, noted), indent=1))
        return
    print_forecast(console, planned, found, fleet)
    print_sharing(console, rows, known, fleet.workers)
    print_findings(console, noted, len(table.included_rows))


# --- sharing ------------------------------------------------------------------------------------------------------


def shapes_of(planned: Sequence[PlannedCell]) -> dict[str, list[str]]:
    """The rows of each shape of trials that is still to be trained."""
    rows: dict[str, dict[str, None]] = {}
    for item in planned:
        if item.state in UNFINISHED:
            rows.setdefault(shape_of(item.cell.spec), {})[item.cell.row] = None
    return {shape: list(names) for shape, names in rows.items()}


def print_sharing(
    console: Console, rows: Mapping[str, Sequence[str]], known: Mapping[str, Sequence[Sharing]], workers: int
) -> None:
    """What was measured of trials that share a device; nothing where nothing is missing."""
    if rows:
        console.print("\nsharing a device", style="bold", highlight=False)
    for line in lines(rows, known, workers=workers):
        console.print(line, markup=False, highlight=False)


# --- for scripts --------------------------------------------------------------------------------------------------


def plan_as_dict(
    planned: Sequence[PlannedCell],
    found: Mapping[str, Length],
    fleet: Fleet,
    known: Mapping[str, Sequence[Sharing]],
    noted: Sequence[Finding],
) -> dict[str, Any]:
    """All that `plan` says. Hours are [low, expected, high], null where unknown."""
    finishing = {size: finishing_time(planned, found, [size], fleet.workers) for size in fleet.sizes}
    return {
        "cells": dict(Counter(item.state for item in planned)),
        "forecast": [{**asdict(line), "hours": _ends(line.hours)} for line in by_row(planned, found)],
        "finished_after_hours": {str(size): _ends(span, 1 / 3600) for size, span in finishing.items()},
        "sharing": [
            {"shape": shape, "rows": rows, "measured": [_as_dict(sharing) for sharing in known[shape]]}
            for shape, rows in shapes_of(planned).items()
        ],
        "findings": [asdict(finding) for finding in noted],
    }


def _as_dict(sharing: Sharing) -> dict[str, Any]:
    return {**sharing.model_dump(mode="json"), "best_at_once": sharing.best.at_once, "options": options_of(sharing)}


def _ends(span: Span | None, factor: float = 1.0) -> list[float] | None:
    return None if span is None else list(span.times(factor).ends)
