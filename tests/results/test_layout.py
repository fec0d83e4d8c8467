"""What stands in which line and cell, before any format."""

from dataclasses import replace

from results.aggregate import Selection
from results.compute import compute_table
from results.layout import Layout, header, marked_label, printed_lines, verdict_at
from tests.results.builders import (
    EIGHTH,
    read,
)
from tests.results.holes import TABLE, compute_holes


def texts(table, layout=Layout()):
    """Kind, label and cells of every line; a leader in asterisks."""
    lines = printed_lines(table, layout)
    return [(line.kind, [f"*{cell.text}*" if cell.is_leader else cell.text for cell in line.cells]) for line in lines]


def test_a_row_has_its_difference_its_published_value_and_the_verdict_below_it(holes):
    lines = texts(holes)
    start = [kind for kind, _ in lines].index("difference")
    # 0.7421875 - 0.53125, paired; 74.22 - 62.25
    assert lines[start - 1 : start + 3] == [
        ("ours", ["*74.22 ± 0.78*", "62.50 (1/3 m,f)", ""]),
        ("difference", ["+21.09", "", ""]),
        ("published", ["62.25 ± 1.22", "64.07 ± 0.46", ""]),
        ("verdict", ["off by +11.97", "", ""]),
    ]


def test_the_reference_row_has_no_difference_to_itself(holes):
    assert [kind for kind, _ in texts(holes)][:3] == ["ours", "published", "verdict"]


def test_incomplete_and_stale_cells_lead_nothing_and_get_neither_difference_nor_verdict(holes):
    lines = texts(holes)
    assert lines[3] == ("ours", ["86.72 ± 0.78 (s)", "65.62 ± 4.42 (2/3 u)", ""])
    assert lines[4] == ("published", ["61.35", "63.63", ""])
    assert lines[5][0] == "ours"


def test_a_cell_without_any_number_is_a_dash_with_its_states(holes):
    assert texts(holes)[-1] == ("ours", ["– (0/3 m,p)", "– (0/3 m,r)", ""])


def test_lines_below_can_be_left_out(holes):
    bare = printed_lines(holes, Layout(differences=False, published=False))
    assert [line.kind for line in bare] == ["ours"] * 4
    assert {line.kind for line in printed_lines(holes, Layout(published=False))} == {"ours", "difference"}


def test_a_group_begins_where_the_group_changes(holes):
    ours = [line for line in printed_lines(holes) if line.kind == "ours"]
    assert [line.begins_group for line in ours] == [False, True, False, True]


def test_a_demonstration_gets_no_verdict(holes_storage):
    table = compute_holes(holes_storage, replace(TABLE, is_demonstration=True))
    assert verdict_at(table, table.lines[0], 0) is None
    assert "verdict" not in [kind for kind, _ in texts(table)]


def test_no_reference_row_or_one_that_is_not_there_gives_no_difference(holes_storage):
    for reference in (None, "Nobody"):
        table = compute_holes(holes_storage, replace(TABLE, reference_row=reference))
        assert all(difference is None for line in table.lines for difference in line.differences)


def test_headers_carry_the_count_of_labelled_images(holes, holes_storage):
    assert header(holes) == ["Method", "1/8 (30)", "1/4 (60)", "Full (240)"]
    told = compute_table(read(holes_storage, TABLE), TABLE, Selection(), counts={EIGHTH: 372})
    assert header(told) == ["Method", "1/8 (372)", "1/4", "Full"]


def test_a_cell_with_other_seeds_than_the_table_prints_its_n(holes_storage):
    more = replace(TABLE, seeds=(0, 1, 2, 3))
    frames = read(holes_storage, TABLE)
    assert texts(compute_table(frames, more, Selection()))[0][1][2] == "64.06 ± 1.56 (n = 3)"
    assert texts(compute_table(frames, TABLE, Selection()))[0][1][2] == "64.06 ± 1.56"


def test_a_row_judged_otherwise_is_marked_in_its_label(own_selections):
    labels = [marked_label(own_selections, line) for line in own_selections.lines]
    assert labels == ["Supervised", "ClassMix [best]", "ComplexMix [teacher]"]


def test_what_was_chosen_in_another_way_leads_nothing_and_has_no_difference(own_selections):
    assert texts(own_selections) == [
        ("ours", ["51.00 ± 1.00"]),
        ("ours", ["90.00 ± 0.00"]),
        ("ours", ["*62.00 ± 1.00*"]),
        ("difference", ["+11.00"]),
    ]


def test_a_published_value_of_a_cell_that_is_not_declared_is_printed_without_verdict(whole):
    line = replace(whole.lines[0], cells=(None,) * 5, published=whole.lines[0].published)
    assert texts(replace(whole, lines=(line,)))[1:] == [("published", ["43.84", "54.84", "60.08", "63.02", "66.19"])]
