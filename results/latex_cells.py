"""Cells and columns of a LaTeX table in two dialects: aligned by siunitx, or by invisible digits. Knows no table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from results.escaping import escape_latex
from results.figures import MINUS
from results.layout import PrintedCell, PrintedLine

# The plain weight b is as wide as the medium one; \bfseries (bx) is wider and would push figures out of line.
BOLD = "\\fontseries{b}\\selectfont "


@dataclass(frozen=True, slots=True)
class Shape:
    """The largest parts of the figures of a column, and its longest note as LaTeX."""

    has_sign: bool
    digits: int
    decimals: int
    std_digits: int
    note: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the two: packages, settings inside the float, columns, heads and cells."""

    packages: tuple[str, ...]
    setup: tuple[str, ...]
    column: Callable[[Shape], str]
    head: Callable[[str], str]
    cell: Callable[[PrintedCell, Shape], str]


def shapes_of(lines: Sequence[PrintedLine], num_columns: int) -> list[Shape]:
    """The shape of each column."""
    return [_shape([line.cells[column] for line in lines]) for column in range(num_columns)]


def _shape(cells: Sequence[PrintedCell]) -> Shape:
    means = [_Figure.of(cell.mean) for cell in cells if cell.mean]
    stds = [_Figure.of(cell.std) for cell in cells if cell.std]
    return Shape(
        has_sign=any(mean.sign for mean in means),
        digits=max((len(mean.whole) for mean in means), default=1),
        decimals=max((len(figure.decimals) for figure in (*means, *stds)), default=0),
        std_digits=max((len(std.whole) for std in stds), default=0),
        note=max((_note(cell) for cell in cells if not cell.words), key=len, default=""),
    )


@dataclass(frozen=True, slots=True)
class _Figure:
    sign: str
    whole: str
    decimals: str

    @classmethod
    def of(cls, text: str) -> "_Figure":
        sign = text[0] if text[0] in f"+{MINUS}" else ""
        whole, _, decimals = text.removeprefix(sign).partition(".")
        return cls(sign, whole, decimals)


def _note(cell: PrintedCell) -> str:
    count = f"\\,({cell.count})" if cell.count else ""
    return count + (f"\\textsuperscript{{{cell.letters}}}" if cell.marks else "")


def _words(cell: PrintedCell) -> str:
    return f"{escape_latex(cell.words)}{_note(cell)}"


# --- siunitx ------------------------------------------------------------------------------------------------------


def _siunitx_column(shape: Shape) -> str:
    sign = "+" if shape.has_sign else ""
    std = f"({shape.std_digits + shape.decimals})" if shape.std_digits else ""
    room = f", table-space-text-post={{{shape.note}}}" if shape.note else ""
    return f"S[table-format={sign}{shape.digits}.{shape.decimals}{std}{room}]"


def _siunitx_cell(cell: PrintedCell, shape: Shape) -> str:
    if cell.words:
        return f"{{{_words(cell)}}}"
    number = " +- ".join(part.replace(MINUS, "-") for part in (cell.mean, cell.std) if part)
    note = f" {{{note}}}" if (note := _note(cell)) else ""
    return (BOLD if cell.is_leader else "") + number + note


SIUNITX = Dialect(
    packages=("booktabs", "siunitx"),
    setup=(
        "% The signs of the mathematical font, which is there in every document.",
        "\\renewcommand{\\textpm}{\\ensuremath{\\pm}}\\renewcommand{\\textminus}{\\ensuremath{-}}",
        "\\sisetup{mode=match, reset-text-series=false, uncertainty-mode=separate, retain-explicit-plus=true,",
        "  table-align-uncertainty=true, table-number-alignment=left, table-text-alignment=center}",
    ),
    column=_siunitx_column,
    head=lambda text: f"{{{text}}}",
    cell=_siunitx_cell,
)


# --- plain --------------------------------------------------------------------------------------------------------


def _plain_cell(cell: PrintedCell, shape: Shape) -> str:
    if cell.words:
        return f"\\multicolumn{{1}}{{c}}{{{_words(cell)}}}"
    if not cell.mean:
        return ""
    mean = _Figure.of(cell.mean)
    sign = f"${mean.sign.replace(MINUS, '-')}$" if mean.sign else _room("$+$" if shape.has_sign else "")
    figures = f"{_room('0' * (shape.digits - len(mean.whole)))}{sign}{_joined(mean)}"
    if cell.std:
        figures += f"{_room(_missing_decimals(mean, shape))} $\\pm$ {_plain_std(cell.std, shape)}"
    return (f"{{{BOLD}{figures}}}" if cell.is_leader else figures) + _note(cell)


def _plain_std(text: str, shape: Shape) -> str:
    std = _Figure.of(text)
    return f"{_room('0' * (shape.std_digits - len(std.whole)))}{_joined(std)}"


def _joined(figure: _Figure) -> str:
    return f"{figure.whole}.{figure.decimals}" if figure.decimals else figure.whole


def _missing_decimals(figure: _Figure, shape: Shape) -> str:
    point = "" if figure.decimals or not shape.decimals else "."
    return point + "0" * (shape.decimals - len(figure.decimals))


def _room(text: str) -> str:
    return f"\\phantom{{{text}}}" if text else ""


PLAIN = Dialect(
    packages=("booktabs",),
    setup=(),
    column=lambda _: "l",
    head=lambda text: f"\\multicolumn{{1}}{{c}}{{{text}}}",
    cell=_plain_cell,
)
