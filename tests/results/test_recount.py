"""Means and standard deviations of the printed table, again from confusion matrices, by a second computation."""

import math
import statistics
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest

from results.aggregate import NO_ROWS, Selection
from results.compute import ComputedTable, compute_table
from results.recount import doubts_of_table, mean_iou, recount
from results.tables import format_table
from tests.results.builders import EIGHTH, TableStub, judged, put_done, put_failed, put_score, read, spec_of
from trainer.reading import read_result
from trainer.storage import Storage

TABLE = TableStub()
SCORES = (0.5, 0.625, 0.53125)


@pytest.fixture
def storage(tmp_path) -> Storage:
    """Both rows at 1/8, one seed of the second missing; nothing at 1/4 but one failure."""
    storage = Storage(str(tmp_path))
    for seed, score in enumerate(SCORES):
        put_score(storage, "Supervised", EIGHTH, seed, score)
    for seed in (0, 2):
        put_score(storage, "ComplexMix", EIGHTH, seed, 0.625 + seed / 100)
    put_failed(storage, spec_of("Supervised", TABLE.fractions[1], 0))
    return storage


def printed(storage: Storage, selection: Selection = Selection(), by_row=NO_ROWS) -> ComputedTable:
    return compute_table(read(storage, TABLE), TABLE, selection, by_row=by_row)


def doubts(storage: Storage, table: ComputedTable, csv: str | None = None) -> list[str]:
    return list(doubts_of_table(storage, TABLE, table, csv or format_table(table, "csv")))


def with_cell(table: ComputedTable, **changes: object) -> ComputedTable:
    """The table with another first cell."""
    first, *lines = table.lines
    cells = (replace(first.cells[0], **changes), *first.cells[1:])
    return replace(table, lines=(replace(first, cells=cells), *lines))


def test_the_mean_iou_of_a_matrix_is_exact() -> None:
    assert mean_iou([[3, 1], [0, 4]]) == (Fraction(3, 4) + Fraction(4, 5)) / 2
    assert mean_iou([[3, 0, 1], [0, 0, 0], [0, 0, 4]]) == (Fraction(3, 4) + Fraction(4, 5)) / 2  # a class in neither
    assert mean_iou([[0, 0], [0, 0]]) is None


def test_mean_and_deviation_are_those_of_the_sample(storage: Storage) -> None:
    found = recount(
        [read_result(storage, spec_of("Supervised", EIGHTH, s).trial_id) for s in range(3)], "last", "student"
    )
    assert found.n == 3
    assert float(found.mean or 0) == pytest.approx(statistics.mean(SCORES), abs=1e-11)
    assert float(found.std or 0) == pytest.approx(statistics.stdev(SCORES), abs=1e-11)


@pytest.mark.parametrize("seeds", [0, 1])
def test_too_few_seeds_have_no_deviation(seeds: int, storage: Storage) -> None:
    found = recount(
        [read_result(storage, spec_of("Supervised", EIGHTH, s).trial_id) for s in range(seeds)], "last", "student"
    )
    assert (found.n, found.std) == (seeds, None)
    assert (found.mean is None) == (seeds == 0)


@pytest.mark.parametrize("policy", ["last", "best"])
@pytest.mark.parametrize("network", ["student", "teacher"])
def test_the_table_that_is_printed_holds(policy: str, network: str, storage: Storage) -> None:
    assert doubts(storage, printed(storage, Selection(policy, network))) == []


def test_the_best_evaluation_counts_only_where_it_is_asked_for(storage: Storage) -> None:
    spec = spec_of("Supervised", EIGHTH, 0)
    put_done(storage, spec, judged(10, 0.75), judged(20, 0.5))
    best = printed(storage, Selection("best"))
    assert doubts(storage, best) == []
    as_last = replace(best, lines=tuple(replace(line, selection=Selection("last")) for line in best.lines))
    assert any("mean is" in text for text in doubts(storage, as_last))


def test_a_row_with_a_selection_of_its_own_is_counted_by_it(storage: Storage) -> None:
    table = printed(storage, by_row={"ComplexMix": Selection("best", "teacher")})
    assert table.lines[1].networks == ("teacher",)
    assert doubts(storage, table) == []


def test_an_undefined_score_is_no_seed(storage: Storage) -> None:
    put_done(storage, spec_of("Supervised", EIGHTH, 0), judged(20, None, classes=(None, None, None)))
    table = printed(storage)
    assert table.lines[0].cells[0].n == 2
    assert doubts(storage, table) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean": statistics.mean(SCORES) + 2e-9}, ["the mean is 0.5520833"]),
        ({"mean": 0.5622}, ["the mean is 0.5622", "printed as 56.22"]),
        ({"mean": math.nan}, ["the mean is nan", "printed as nothing"]),
        ({"std": statistics.pstdev(SCORES)}, ["the standard deviation is 0.05311", "printed as 5.31"]),
        ({"std": math.nan}, ["the standard deviation is nan", "printed as nothing"]),
        ({"values": SCORES[:2]}, ["n is 2"]),
    ],
)
def test_a_figure_that_the_matrices_do_not_give_is_named(
    changes: dict[str, object], words: list[str], storage: Storage
) -> None:
    table = printed(storage)
    found = doubts(storage, with_cell(table, **changes), format_table(table, "csv"))
    for word in words:
        assert any(text.startswith("Supervised, 1/8: ") and word in text for text in found), found


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ("0.5520833333333", "0.5520833433333", "the mean is 0.55208334"),
        ("1/8 mean", "1/8 median", "the mean is empty in the CSV"),
        (",3,3,done", ",2,3,done", "and 2 in the CSV"),
    ],
)
def test_a_csv_that_says_another_number_is_named(before: str, after: str, word: str, storage: Storage) -> None:
    table = printed(storage)
    csv = format_table(table, "csv")
    assert before in csv
    assert any(word in text for text in doubts(storage, table, csv.replace(before, after, 1)))


def test_a_csv_with_a_row_less_is_named(storage: Storage) -> None:
    table = printed(storage)
    csv = "\n".join(format_table(table, "csv").splitlines()[:-1])
    assert doubts(storage, table, csv) == ["the CSV has 1 rows, the table 2"]


def test_a_result_that_changed_after_the_table_was_computed_is_seen(storage: Storage) -> None:
    table = printed(storage)
    put_score(storage, "Supervised", EIGHTH, 1, 0.626)
    assert len(doubts(storage, table)) == 6  # mean and deviation: as computed, as printed, in the CSV


def test_figures_on_the_edge_of_rounding_are_no_doubt(storage: Storage) -> None:
    exact = recount([None], "last", "student")
    assert (exact.mean, exact.n) == (None, 0)
    for seed in range(3):
        put_score(storage, "Supervised", EIGHTH, seed, 0.55555)
    table = printed(storage)
    assert doubts(storage, table) == []
    assert Decimal("55.55") <= Decimal(f"{100 * table.lines[0].cells[0].mean:.2f}") <= Decimal("55.56")
