"""The pipe table: bold, lines below, notes."""

from results.layout import Layout
from results.markdown import format_markdown


def test_the_leader_alone_is_bold_and_what_stands_below_is_in_italics(holes):
    text = format_markdown(holes)
    assert "| ComplexMix | **74.22 ± 0.78** | 62.50 (1/3 m,f) |  |" in text
    assert text.count("**") == 2
    assert "| *Δ* | +21.09 |  |  |" in text
    assert "| *verdict* | off by +11.97 |  |  |" in text


def test_every_line_has_as_many_cells_as_the_header(holes, whole):
    for table in (holes, whole):
        lines = format_markdown(table).splitlines()
        grid = [line.replace("\\|", "") for line in lines if line.startswith("|")]
        assert {line.count("|") for line in grid} == {len(table.fractions) + 2}


def test_marked_cells_and_what_changed_are_told_below(holes):
    text = format_markdown(holes)
    assert "- ComplexMix, 1/4: missing: seed 2; failed: seed 1" in text
    assert "- stale, code changed: trainer/losses.py: ClassMix, 1/8, seed 0, 2" in text


def test_a_whole_table_needs_no_notes(whole):
    assert format_markdown(whole, Layout(differences=False, published=False)).count("\n\n") == 1
