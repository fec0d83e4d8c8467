"""Letters beside a number: which states they stand for, and what is said of them."""

from results.aggregate import CellSummary
from results.marks import count_note, legend, marks_of, state_words


def cell(*, n=3, absent=(), stale=()):
    values = tuple(0.5 for _ in range(n))
    scores = tuple(enumerate(values))
    return CellSummary("a", "1/8", 0.5, 0.0, n + len(absent), values, scores, tuple(absent), (), tuple(stale))


def test_a_plain_cell_bears_no_mark():
    assert marks_of(cell()) == ()
    assert state_words(cell()) == "done"
    assert count_note(cell(), 3) == ""


def test_each_state_has_a_letter_of_its_own_in_one_order():
    states = ("failed", "undefined", "running", "missing", "partial")
    marked = cell(n=1, absent=[(seed + 1, state) for seed, state in enumerate(states)], stale=[(0, "code")])
    assert [mark.letter for mark in marks_of(marked)] == ["m", "r", "p", "f", "u", "s"]


def test_marks_name_their_seeds():
    marked = cell(absent=[(3, "failed"), (4, "missing"), (5, "failed")])
    assert state_words(marked) == "missing: seed 4; failed: seeds 3, 5"


def test_n_is_said_where_seeds_are_absent_or_not_declared():
    assert count_note(cell(n=3, absent=[(3, "failed")]), 4) == "3/4"
    assert count_note(cell(n=3), 5) == "n = 3"


def test_the_legend_explains_what_occurs_and_nothing_else():
    assert legend([cell(), cell(absent=[(3, "failed")])]) == ("f: failed",)
    assert legend([cell()]) == ()
    assert [words[0] for words in legend([cell(stale=[(0, "x")]), cell(absent=[(3, "missing")])])] == ["m", "s"]
