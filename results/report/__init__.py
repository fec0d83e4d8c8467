"""One HTML page of a table: all that was measured and where it comes from. Asks for nothing from outside."""

from results.report.page import render
from results.report.parts import ReportParts

__all__ = ["ReportParts", "render"]
