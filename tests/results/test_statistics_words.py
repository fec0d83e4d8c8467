"""What is said of the statistics of a table, and that nothing is said which was not shown."""

from dataclasses import replace
from fractions import Fraction

import pytest

from experiments.table1 import TABLE1
from results.aggregate import selections_of
from results.comparisons import Equivalence, compare_with_reference
from results.compute import compute_table
from results.statistics_words import comparison_figures, comparison_sentence, equivalence_words, sentences, what_varies
from tests.results.builders import EIGHTH, QUARTER, RowStub, TableStub, put_scores, read
from trainer.storage import Storage

SCORES = {
    "Supervised": {EIGHTH: [0.5, 0.52, 0.51, 0.53], QUARTER: [0.6, 0.61, 0.6, None]},
    "ClassMix": {EIGHTH: [0.56, 0.57, 0.58, 0.59], QUARTER: [0.66, 0.65, 0.66, 0.66]},
    "ComplexMix": {EIGHTH: [0.51, 0.51, 0.52, 0.52], QUARTER: [None, 0.61, None, 0.6]},
    "Judged [else]\nwhere": {EIGHTH: [0.9] * 4, QUARTER: [0.9] * 4},
}
ROWS = (*map(RowStub, list(SCORES)[:3]), RowStub("Judged [else]\nwhere", reported_network="teacher"))


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    storage = Storage(str(tmp_path_factory.mktemp("words") / "runs"))
    put_scores(storage, SCORES)
    table = TableStub(
        rows=ROWS,
        fractions=(EIGHTH, QUARTER),
        seeds=(0, 1, 2, 3),
        reference_row="Supervised",
        published="complexmix_table1",
    )
    selection, by_row = selections_of(table)
    return compute_table(read(storage, table), table, selection, by_row=by_row)


def about(computed, start, **options):
    (found,) = (text for text in sentences(computed, **options) if text.startswith(start))
    return found


def test_a_row_is_told_with_both_tests_their_pairs_and_the_smallest_p(computed):
    text = about(computed, "ClassMix against Supervised: +")
    for said in (
        "95 % interval",
        "Hedges' g",
        "Higher, by both tests",
        "Sign flips: p = 0.016 (0.031 after Holm over 2 rows), the smallest attainable being 0.016, on 7 of 8 pairs",
        "at 1/8, 1/4",
        "t on seed means: p = 0.011 (0.022 after Holm over 2 rows), on 3 of 4 seeds",
    ):
        assert said in text


def test_too_few_pairs_and_seeds_are_said_and_not_starred(computed):
    text = about(computed, "ComplexMix against Supervised: ")
    assert "Nothing can be claimed: the signs of 5 pairs cannot give a p below 0.12; 1 seed with every fraction" in text
    assert "t on seed means: no p, on 1 of 4 seeds" in text
    assert not any("*" in sentence for sentence in sentences(computed))


def test_a_row_judged_in_another_way_is_said_not_to_be_compared(computed):
    text = about(computed, "Judged [else] where against Supervised")
    assert text.endswith("not compared, being judged in another way (teacher, last evaluation).")


@pytest.mark.parametrize(
    ("p_pairs", "p_seeds", "said"),
    [
        (0.01, 0.01, "Higher, by both tests"),
        (0.2, 0.3, "No difference is shown, which is no proof that there is none"),
        (0.01, 0.2, "The two tests disagree, so nothing is claimed"),
        (0.2, 0.01, "The two tests disagree, so nothing is claimed"),
    ],
)
def test_each_verdict_is_said_in_words(computed, p_pairs, p_seeds, said):
    clear = compare_with_reference(computed)[0]
    pairs, seeds = replace(clear.pairs, p_holm=p_pairs), replace(clear.seeds, p_holm=p_seeds)
    assert f". {said}. Sign flips: " in comparison_sentence(replace(clear, pairs=pairs, seeds=seeds))


def test_a_row_without_a_pair_or_a_spread_and_one_of_another_size_say_so(computed):
    clear = compare_with_reference(computed)[0]
    none = replace(clear, pairs=replace(clear.pairs, n=0))
    assert comparison_sentence(none).endswith("not compared, none of 8 pairs being done in both rows")
    assert "no spread to judge by" in comparison_sentence(replace(clear, seeds=replace(clear.seeds, p=None)))
    assert comparison_sentence(replace(clear, sizes=("1x2", "3x4"))).endswith("Judged at 1x2, the reference at 3x4")


def test_the_reference_and_the_rules_are_said_once(computed):
    assert len([text for text in sentences(computed) if text.startswith("Rows are compared with Supervised")]) == 1
    assert about(computed, "Rows are compared with ClassMix", reference="ClassMix")
    with pytest.raises(ValueError, match="has the rows"):
        sentences(computed, reference="CutMix")


@pytest.mark.parametrize(
    ("name", "said"),
    [(None, "the table names no reference row"), ("Gone", "the reference row Gone is not among them")],
)
def test_without_a_reference_row_this_is_said(computed, name, said):
    changed = replace(computed, reference_row=name)
    assert f"Rows are compared with no other: {said}." in sentences(changed)


def test_what_varies_is_said_and_not_guessed(computed):
    assert "Between the runs of a cell the seed varies; whether the split" in about(computed, "Between the runs")
    assert about(computed, "Between", varies="the seed varies") == "Between the runs of a cell the seed varies."


def test_demonstrations_and_stale_runs_are_said(computed):
    line = computed.lines[0]
    stale = replace(line, cells=(replace(line.cells[0], stale=((0, "code"), (1, "code"))), *line.cells[1:]))
    text = sentences(replace(computed, is_demonstration=True, lines=(stale, *computed.lines[1:])))
    assert text[0].startswith("DEMONSTRATION")
    assert "2 runs behind these numbers came from what has changed since (stale)." in text


def test_published_values_are_told_with_both_p_values_and_what_was_taken_as_fixed(computed):
    supervised, mixed = (about(computed, f"{row} and its published values") for row in ("Supervised", "ComplexMix"))
    assert "at 1/8 different, and not shown to be within the margin (−3.34 points, equivalence p = " in supervised
    assert "n = 4, fixed)" in supervised
    assert "at 1/4 not testable with 2 seeds (" in mixed
    assert "n = 2 of 4)" in mixed
    assert "fixed" not in mixed
    assert about(
        computed, "Cells are tested for equivalence with their published value within 2 points", margin_points=2
    )
    assert about(computed, "A published value whose std or number of runs is not known is taken as a fixed number")
    assert about(computed, "Where both are known the test counts the noise of both means (Welch)")


@pytest.mark.parametrize(
    ("n", "p", "p_different", "said"),
    [
        (
            5,
            0.01,
            0.2,
            "at 1/8 equivalent within 0.5 (−0.10 points, equivalence p = 0.01, difference p = 0.2, n = 5, fixed)",
        ),
        (5, 0.01, 0.02, "at 1/8 equivalent within 0.5 though a difference is shown ("),
        (5, 0.3, 0.2, "at 1/8 undecided ("),
        (5, None, None, "at 1/8 not testable with 5 seeds without spread (−0.10 points, n = 5, fixed)"),
        (1, None, None, "at 1/8 not testable with 1 seed (−0.10 points, n = 1 of 5, fixed)"),
        (0, None, None, "at 1/8 not testable, no seed being done"),
    ],
)
def test_each_verdict_on_a_published_value_is_said_in_words(n, p, p_different, said):
    cell = Equivalence("Supervised", "1/8", n, 5, 54.84, -0.1, 0.5, True, p, p_different)
    assert equivalence_words(cell).startswith(said)


def test_figures_of_a_row_have_dashes_where_there_is_nothing(computed):
    clear, mixed, other = map(comparison_figures, compare_with_reference(computed))
    # seed means 6, 4.5 and 6.5: std 1.0408, so half the interval is 4.302653 x 1.0408 / sqrt(3) = 2.5855
    assert clear == ["ClassMix", "+5.67", "+3.08 to +8.25", "0.016", "0.031", "0.016", "0.011", "0.022", "higher"]
    assert mixed[0] == "ComplexMix"
    assert mixed[2:] == ["–", "1", "1", "0.12", "–", "–", "not testable"]
    assert other == ["Judged [else] where", *("–",) * 7, "not compared"]


# --- what varies --------------------------------------------------------------------------------------------------

SMALL = TABLE1.selected(rows="DeepLab-V2,ClassMix", fractions="1/8,1")


def test_the_seed_draws_the_split_unless_told_otherwise():
    assert what_varies(SMALL) == "the seed varies, and with it the split of labelled images"


def test_one_split_for_all_seeds_is_said():
    fixed = SMALL.selected(fractions="1/8").changed(["split_seed=7"])
    assert what_varies(fixed).startswith("the seed varies; the split of labelled images does not")
    names = SMALL.selected(fractions="1/8").changed(['labeled_names=["a", "b"]'])
    assert what_varies(names).startswith("the seed varies; the split of labelled images does not")


def test_a_row_with_a_split_of_its_own_is_named():
    first, second = SMALL.rows
    own = replace(second, deviations_at=((Fraction(1, 8), "split_seed", 3),))
    assert what_varies(replace(SMALL, rows=(first, own))).endswith("but not in every cell of ClassMix")


def test_one_seed_or_no_split_is_said():
    assert what_varies(SMALL.selected(seeds="0")) == "nothing varies: one seed is declared"
    assert "there is no split to draw" in what_varies(SMALL.selected(fractions="1"))
