"""A plot as files for a paper and as SVG for a page. The same plot gives the same bytes; needs no screen."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.plot_style import Look, drawing

Form = Literal["pdf", "png"]
FORMS: tuple[Form, ...] = ("pdf", "png")
_DATES = {"pdf": ("CreationDate",), "png": ("Software",), "svg": ("Date",)}
"""What a file would say of the time and the library that made it."""
_DOTS_PER_INCH = 200
_SWATCH_INCHES = (0.5, 0.17)


@dataclass(frozen=True)
class Panel:
    """One pair of axes: what is drawn on them, and the same in words."""

    title: str
    words: str
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Plot:
    """Panels that share a legend; `name` is that of its files, `size` a panel's width and height in inches.

    `is_drawn_on_page` is false where a page says the same better, as a table that can be read aloud.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]
    legend: tuple[tuple[str, Look], ...] = ()
    num_columns: int = 3
    size: tuple[float, float] = (3.6, 2.7)
    is_drawn_on_page: bool = True


def plot_files(plot: Plot) -> dict[Form, bytes]:
    """All panels on one sheet with their legend below, for a paper; drawn once for both forms."""
    with drawing(plot.name):
        figure = _sheet(plot)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # everything stays where it is now
        return {form: _saved(figure, form) for form in FORMS}


def _sheet(plot: Plot) -> Figure:
    columns = min(plot.num_columns, len(plot.panels))
    rows = -(-len(plot.panels) // columns)
    size = (columns * plot.size[0], rows * plot.size[1] + 0.2 * len(plot.legend) / columns)
    figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for panel, place in zip(plot.panels, axes, strict=False):
        panel.draw(place)
        place.set_title(panel.title)
    for place in axes[len(plot.panels) :]:
        place.remove()
    _draw_legend(figure, plot.legend, columns)
    return figure


def _draw_legend(figure: Figure, legend: Sequence[tuple[str, Look]], columns: int) -> None:
    if legend:
        handles = [Line2D([], [], label=label, **look.options()) for label, look in legend]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(legend), 2 * columns))


def _saved(figure: Figure, form: Literal["pdf", "png", "svg"]) -> bytes:
    buffer = io.BytesIO()
    metadata: dict[str, None] = dict.fromkeys(_DATES[form])
    figure.savefig(buffer, format=form, dpi=_DOTS_PER_INCH, metadata=metadata, transparent=form == "svg")
    return buffer.getvalue()


# --- svg ----------------------------------------------------------------------------------------------------------


def panel_svg(plot: Plot, number: int, colours: Mapping[str, str]) -> str:
    """One panel as an SVG element without a title; `colours` says what stands for a colour, such as var(--ink)."""
    with drawing(plot.name):
        figure = Figure(figsize=plot.size, layout="constrained")
        panel = plot.panels[number]
        panel.draw(figure.subplots())
        return _inline(figure, f"{plot.name}-{number}", f"{panel.title}. {panel.words}", colours)


def swatch_svg(plot: Plot, number: int, colours: Mapping[str, str]) -> str:
    """A short piece of a line of the legend, for a page that writes the label beside it."""
    with drawing(plot.name):
        figure = Figure(figsize=_SWATCH_INCHES)
        figure.add_artist(Line2D([0.04, 0.5, 0.96], [0.5] * 3, markevery=[1], **plot.legend[number][1].options()))
        return _inline(figure, f"{plot.name}-legend-{number}", "", colours)


def _inline(figure: Figure, name: str, words: str, colours: Mapping[str, str]) -> str:
    text = _saved(figure, "svg").decode()
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = _with_own_ids(body, name)
    body = re.sub(r"#[0-9a-f]{6}\b", lambda found: colours.get(found[0], found[0]), body)
    view = re.search(r'viewBox="[^"]*"', body)
    assert view is not None
    said = f'role="img" aria-label="{escape(words)}"' if words else 'aria-hidden="true"'
    return re.sub(r"<svg[^>]*>", lambda _: f"<svg {view[0]} {said}>", body, count=1).strip()


def _with_own_ids(body: str, name: str) -> str:
    """Keep the ids that something refers to, and let no two pictures of a page share one."""
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', body))
    kept = {first or second for first, second in used}
    body = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in kept else "", body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    return re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{name}-\1"', body)
