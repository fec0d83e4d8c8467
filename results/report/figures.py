"""Plots as the page shows them: a picture a panel, so that they flow on a narrow screen, and a legend beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from results.plot_output import Plot, panel_svg, swatch_svg
from results.plot_style import variables


@dataclass(frozen=True, slots=True)
class Figure:
    """Titled pictures in at most so many columns, with a legend of (sample of the line, label)."""

    name: str
    title: str
    panels: tuple[tuple[str, Markup], ...]
    legend: tuple[tuple[Markup, str], ...]
    num_columns: int


def figure_of(plot: Plot, num_fractions: int) -> Figure:
    """A plot as SVG whose colours are the page's."""
    colours = _colours(num_fractions)
    return Figure(
        plot.name,
        plot.title,
        tuple((panel.title, Markup(panel_svg(plot, i, colours))) for i, panel in enumerate(plot.panels)),
        tuple((Markup(swatch_svg(plot, i, colours)), label) for i, (label, _) in enumerate(plot.legend)),
        plot.num_columns,
    )


def _colours(num_fractions: int) -> Mapping[str, str]:
    return {light: f"var({name})" for name, light, _ in variables(num_fractions)}


def colour_rules(num_fractions: int) -> tuple[Sequence[str], Sequence[str]]:
    """CSS declarations of every plot colour: on a white page, on a dark one."""
    named = variables(num_fractions)
    return [f"{name}: {light};" for name, light, _ in named], [f"{name}: {dark};" for name, _, dark in named]
