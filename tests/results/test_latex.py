"""LaTeX as text, as a document that a real TeX sets, and as figures at their places on the page."""

import math
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from results.layout import Layout
from results.tables import format_table, write_table

KINDS = ("latex", "latex-plain")
STANDALONE = Layout(standalone=True)
needs_tex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here (pdflatex with siunitx)")


def typeset(text: str, folder: Path) -> str:
    """Set a document and return what TeX said; the PDF is table.pdf in the folder."""
    write_table(text, folder / "table.tex")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-1500:]
    return done.stdout


def places(folder: Path) -> list[tuple[str, float, float]]:
    """Words on the page with their left and right edges in points."""
    subprocess.run(["pdftotext", "-bbox", "table.pdf", "table.html"], cwd=folder, check=True)
    pattern = re.compile(r'<word xMin="([\d.]+)" yMin="[\d.]+" xMax="([\d.]+)" yMax="[\d.]+">(.*?)</word>')
    found = pattern.findall((folder / "table.html").read_text())
    return [(word, float(left), float(right)) for left, right, word in found]


# --- as text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_lines_say_what_it_is_what_it_needs_and_how_wide_it_is(whole, kind):
    lines = format_table(whole, kind).splitlines()
    assert lines[0] == "% mixgrid table table1_stub"
    siunitx = r" \usepackage{siunitx}" if kind == "latex" else ""
    assert lines[1] == rf"% Needs in the preamble: \usepackage{{booktabs}}{siunitx}"
    assert re.fullmatch(r"% About 1\d\.\d cm wide \(\\footnotesize\)\.", lines[2])


@pytest.mark.parametrize("kind", KINDS)
def test_groups_have_midrules_and_rows_with_lines_below_have_gaps(whole, kind):
    text = format_table(whole, kind)
    assert text.count(r"\midrule") == 4  # below the header, and between four groups
    assert text.count(r"\addlinespace") == 3  # the other rows of the groups of three and two
    bare = format_table(whole, kind, Layout(differences=False, published=False))
    assert (bare.count(r"\midrule"), bare.count(r"\addlinespace")) == (4, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_leaders_alone_are_bold_and_marks_stay_outside(holes, kind):
    text = format_table(holes, kind)
    assert text.count(r"\fontseries{b}") == 1
    bold = {"latex": r"\fontseries{b}\selectfont 74.22 +- 0.78 &", "latex-plain": r"\selectfont \phantom{$+$}74.22"}
    assert bold[kind] in text
    marked = {"latex": r"62.50 {\,(1/3)\textsuperscript{m,f}}", "latex-plain": r"62.50\,(1/3)\textsuperscript{m,f}"}
    assert marked[kind] in text


def test_siunitx_columns_reserve_sign_digits_spread_and_marks(holes):
    columns = re.findall(r"S\[.*?\](?= S|\})", format_table(holes, "latex"))
    assert columns == [
        r"S[table-format=+2.2(3), table-space-text-post={\textsuperscript{s}}]",
        r"S[table-format=2.2(3), table-space-text-post={\,(1/3)\textsuperscript{m,f}}]",
        "S[table-format=2.2(3)]",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_comments_carry_trials_states_and_code_and_nothing_leaves_them(holes, kind):
    lines = format_table(holes, kind).splitlines()
    start = lines.index(r"\begin{table}")
    assert all(line.startswith("% ") for line in lines[:start])
    assert any(line.startswith("% ComplexMix, 1/4: n 1/3; missing: seed 2; failed: seed 1; trials ") for line in lines)
    assert any(line.endswith("; code c0dec0dec0de") for line in lines)
    assert not [line for line in lines if line.startswith("next")]


def test_a_demonstration_says_so_in_caption_and_first_comment(holes):
    text = format_table(replace(holes, is_demonstration=True), "latex", STANDALONE)
    assert text.startswith("% DEMONSTRATION on synthetic or small data, no reproduction")
    assert r"\caption{DEMONSTRATION" in text


# --- as set by TeX ------------------------------------------------------------------------------------------------


def assert_aligned(folder: Path) -> None:
    """Every figure of a column of five ends where the others end: the right edges of numbers with two decimals.

    A bold figure is as wide as a medium one to half a point; a step of one digit would be 4.
    """
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext here: it compiles, its places are not looked at")
    words = places(folder)
    heads = [left for word, left, _ in words if re.fullmatch(r"\(\d{3,4}\)", word)][:5]
    assert len(heads) == 5
    lefts = [head - 75 for head in heads]
    figures = [(left, right) for word, left, right in words if re.fullmatch(r"\d\d\.\d\d", word)]
    for start, end in pairwise([*lefts, 1000.0]):
        rights = [right for left, right in figures if start < left < end]
        firsts = [right for right in rights if right < min(rights) + 15]
        assert len(firsts) >= 2
        assert max(firsts) - min(firsts) < 1.5, firsts


@needs_tex
@pytest.mark.parametrize("kind", KINDS)
def test_the_145_records_fit_one_page_with_every_figure_below_the_other(whole, kind, tmp_path):
    said = typeset(format_table(whole, kind, STANDALONE), tmp_path)
    assert "Overfull" not in said
    assert "(1 page" in said
    assert_aligned(tmp_path)


@needs_tex
@pytest.mark.parametrize("kind", KINDS)
def test_marks_beside_a_figure_push_neither_it_nor_the_bold_one_out_of_line(whole, kind, tmp_path):
    states = tuple(enumerate(("missing", "running", "partial", "failed"), start=1))
    cell = whole.lines[1].cells[1]
    marked = replace(cell, values=cell.values[:1], absent=states, std=math.nan)
    line = replace(whole.lines[1], cells=(whole.lines[1].cells[0], marked, *whole.lines[1].cells[2:]))
    table = replace(whole, lines=(whole.lines[0], line, *whole.lines[2:]))
    said = typeset(format_table(table, kind, STANDALONE), tmp_path)
    assert "Overfull" not in said
    assert_aligned(tmp_path)


@needs_tex
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_with_holes_and_a_hostile_label_is_set_as_it_reads(holes, kind, tmp_path):
    said = typeset(format_table(holes, kind, STANDALONE), tmp_path)
    assert "Overfull" not in said
    if shutil.which("pdftotext"):
        subprocess.run(["pdftotext", "-layout", "table.pdf", "table.txt"], cwd=tmp_path, check=True)
        text = " ".join((tmp_path / "table.txt").read_text().split())
        assert "[50%]* & a" in text
        assert "#1 $x$ {y}" in text
        assert "<b>line</b>" in text


@needs_tex
@pytest.mark.parametrize("kind", KINDS)
def test_no_font_of_dots_is_needed(whole, kind, tmp_path):
    """The signs ± and − of the text fonts are not there as outlines everywhere."""
    if shutil.which("pdffonts") is None:
        pytest.skip("no pdffonts here")
    typeset(format_table(whole, kind, STANDALONE), tmp_path)
    fonts = subprocess.run(["pdffonts", "table.pdf"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "Type 1" in fonts
    assert "Type 3" not in fonts


@needs_tex
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_columns", [9, 16])
def test_a_wide_table_turns_the_page_or_shrinks(whole, kind, num_columns, tmp_path):
    repeat = [number % 4 for number in range(num_columns)]
    lines = tuple(
        replace(
            line,
            **{name: tuple(getattr(line, name)[i] for i in repeat) for name in ("cells", "published", "differences")},
        )
        for line in whole.lines
    )
    fractions = tuple(whole.fractions[i] for i in repeat)
    wide = replace(whole, lines=lines, fractions=fractions, leaders=tuple(whole.leaders[i] for i in repeat))
    text = format_table(wide, kind, STANDALONE)
    assert ",landscape" in text
    assert ("\\resizebox" in text) == (num_columns == 16)
    assert "sidewaystable" in text
    assert "Overfull" not in typeset(text, tmp_path)


@needs_tex
@pytest.mark.parametrize("kind", KINDS)
def test_the_snippet_goes_into_a_paper_in_another_font(whole, kind, tmp_path):
    """In a narrow text set in Times, with other text before and after, bold text around it and settings of its own."""
    packages = r"\usepackage{mathptmx}\usepackage{booktabs}\usepackage{siunitx}"
    text = f"\\documentclass[12pt]{{article}}{packages}\\begin{{document}}Before.\n"
    said = typeset(
        f"{text}{format_table(whole, kind)}\nAfter, \\textbf{{\\num{{1.5 +- 0.5}}}}.\\end{{document}}", tmp_path
    )
    assert "undefined" not in said.lower().replace("undefined references", "")
