"""The door to every format of a computed table, and onto disk: format and write are apart, neither reads storage.

The same records give the same bytes: no format knows the date, the machine or where the storage lies.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from results.compute import ComputedTable, compute_table
from results.csv_formats import format_csv, format_csv_long
from results.html_table import format_html
from results.latex import format_latex, format_latex_plain
from results.layout import DEFAULT, Layout
from results.markdown import format_markdown

__all__ = ["FORMATS", "SUFFIXES", "Layout", "compute_table", "format_table", "write_table"]

FORMATS: Mapping[str, Callable[[ComputedTable, Layout], str]] = {
    "csv": lambda table, _: format_csv(table),
    "csv-long": lambda table, _: format_csv_long(table),
    "html": format_html,
    "latex": format_latex,
    "latex-plain": format_latex_plain,
    "markdown": format_markdown,
}
SUFFIXES: Mapping[str, str] = {".csv": "csv", ".html": "html", ".tex": "latex", ".md": "markdown"}
"""The format that the name of a file asks for."""


def format_table(table: ComputedTable, name: str, layout: Layout = DEFAULT) -> str:
    """The table in one of FORMATS.

    Args:
        layout: for people's formats; a CSV always holds everything.
    Raises: ValueError naming the formats that there are, or those that can stand alone.
    """
    if name not in FORMATS:
        raise ValueError(f"no table format {name!r}: give one of {', '.join(FORMATS)}")
    if layout.standalone and not name.startswith("latex"):
        raise ValueError(f"{name} cannot be asked to stand alone: only latex and latex-plain are snippets else")
    return FORMATS[name](table, layout)


def write_table(text: str, path: Path) -> None:
    """Write a formatted table, making the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
