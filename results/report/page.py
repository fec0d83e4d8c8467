"""Parts to one HTML page. The same parts give the same bytes: no date, no place, nothing that is not in a record."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from results.aggregate import POLICY_WORDS, CellSummary
from results.caption import DEMONSTRATION
from results.compute import ComputedTable
from results.html_style import TABLE_CSS
from results.html_table import table_fragment
from results.report.cells import anchors, cell_origins, open_trials
from results.report.environment import environment_of
from results.report.figures import colour_rules, figure_of
from results.report.gallery import judged_strips, mixing_strips
from results.report.heat import heat_tables
from results.report.parts import ReportParts

_FOLDER = Path(__file__).parent / "page"
_SECTIONS = (
    ("table", "Table"),
    ("scores", "Mean IoU against labels"),
    ("statistics", "Statistics in words"),
    ("classes", "Classes"),
    ("learning", "Learning"),
    ("shares", "Confidence and masks"),
    ("gallery", "Pictures"),
    ("open", "Failed, missing, stale"),
    ("compute", "Compute"),
    ("environment", "Environment"),
    ("files", "Files"),
    ("origins", "Where each number comes from"),
)


def render(parts: ReportParts) -> str:
    """The report of a table as one HTML page that asks for nothing from outside."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    script = (_FOLDER / "script.js").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        **_content(parts),
        style=Markup(TABLE_CSS + (_FOLDER / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _content(parts: ReportParts) -> dict[str, Any]:
    table, places = parts.table, anchors(parts)
    num_fractions = len(table.fractions)
    light, dark = colour_rules(num_fractions)

    def link(cell: CellSummary) -> str:
        return f"#{places[cell.row, cell.label_fraction]}"

    return {
        "parts": parts,
        "table": table,
        "sections": [pair for pair in _SECTIONS if pair[0] != "files" or parts.files],
        "demonstration": DEMONSTRATION if table.is_demonstration else "",
        "facts": tuple(_facts(parts)),
        "table_html": Markup(table_fragment(table, link=link)),
        "figures": {plot.name: figure_of(plot, num_fractions) for plot in parts.plots if plot.is_drawn_on_page},
        "heat": tuple(heat_tables(table)),
        "judged": tuple(judged_strips(parts.pictures)),
        "mixing": tuple(mixing_strips(parts.pictures)),
        "open_trials": tuple(open_trials(parts)),
        "environment": tuple(environment_of(parts.frames.attempts)),
        "origins": tuple(cell_origins(parts)),
        "colours_on_white": light,
        "colours_in_the_dark": dark,
    }


def _facts(parts: ReportParts) -> Iterator[tuple[str, str]]:
    """The first things one wants to know, (name, value)."""
    table = parts.table
    yield "Trials done", _done_of(table)
    yield "Seeds", str(table.num_seeds)
    yield "Score", f"mean IoU of the {table.selection.network} {POLICY_WORDS[table.selection.policy]}"
    if table.eval_sizes:
        yield "Judged at", " and ".join(table.eval_sizes)
    if table.initial_weights:
        yield "Initial weights", ", ".join(table.initial_weights)
    yield "Code", _code_of(table)
    if table.overrides:
        yield "Changed from the declared table", ", ".join(table.overrides)


def _done_of(table: ComputedTable) -> str:
    counts = table.trials["state"].value_counts()
    others = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if state != "done")
    stale = int((table.trials["stale"] != "").sum())
    notes = "; ".join(text for text in (others, f"{stale} stale" if stale else "") if text)
    return f"{counts.get('done', 0)} of {len(table.trials)}" + (f" ({notes})" if notes else "")


def _code_of(table: ComputedTable) -> str:
    found = sorted(set(table.code.values()))
    if not found:
        return "none yet"
    return found[0] if len(found) == 1 else f"{len(found)} different digests, see Environment"
