"""Tables: cells, selections, changed fields, and a user's own file."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from experiments import TABLES
from experiments.table import (
    Deviation,
    DeviationAt,
    Frame,
    Row,
    Table,
    TableError,
    find_table,
    parse_seeds,
    parse_setting,
)
from trainer.spec import Mix, Supervised, TinyNetwork, TrialSpec

DEMO = find_table("demo", TABLES)
TABLE1 = find_table("table1", TABLES)


def test_cells_are_rows_by_fractions_by_seeds() -> None:
    assert len(DEMO.cells()) == 3 * 2 * 2
    assert [cell.name for cell in DEMO.cells()][:2] == ["Supervised@1/30#0", "Supervised@1/30#1"]


def test_cells_and_their_ids_are_made_once_and_anew_for_a_changed_table() -> None:
    assert TABLE1.cells() is TABLE1.cells()
    cell = TABLE1.cells()[0]
    assert cell.trial_id is cell.trial_id
    changed = TABLE1.changed(["num_steps=50000"]).cells()[0]
    assert changed.trial_id == changed.spec.trial_id != cell.trial_id


@pytest.mark.parametrize("name", TABLES)
def test_a_spec_made_for_a_further_seed_is_the_one_that_reads_from_its_own_content(name: str) -> None:
    for cell in find_table(name, TABLES).selected(seeds="0-2,4294967295").cells():
        read = TrialSpec.model_validate_json(cell.spec.model_dump_json())
        assert (cell.spec, cell.trial_id) == (read, read.trial_id)
        assert (cell.seed, cell.label_fraction) == (read.seed, read.label_fraction)


def test_a_cell_of_another_spec_has_its_own_id() -> None:
    one, other = DEMO.cells()[:2]
    assert replace(one, spec=other.spec).trial_id == other.trial_id == other.spec.trial_id


@pytest.mark.parametrize(("path", "value"), [("seed", 0), ("seed", 1), ("label_fraction", "1/8")])
def test_neither_a_row_nor_a_setting_changes_the_place_of_its_cells(path: str, value: object) -> None:
    row = Row("A", Supervised(), deviations=((path, value),))
    for rows, overrides in [((row,), ()), ((Row("A", Supervised()),), ((path, value),))]:
        table = Table("t", "t", DEMO.frame, rows, (Fraction(1, 8),), (0,), overrides=overrides)
        with pytest.raises(
            TableError, match=f"row 'A' changes {path}: that is a cell's place, which .* --seeds choose"
        ):
            table.cells()
    with pytest.raises(TableError, match=f"^--set {path}: that is a cell's place"):
        DEMO.changed([f"{path}={value}"])


def test_a_mixing_row_has_no_cell_where_all_is_labelled() -> None:
    full = [cell.row for cell in TABLE1.cells() if cell.label_fraction == 1]
    assert set(full) == {"DeepLab-V2"}


def test_every_cell_of_the_known_tables_is_another_trial() -> None:
    for name in TABLES:
        cells = find_table(name, TABLES).cells()
        assert len({cell.trial_id for cell in cells}) == len(cells)


def test_a_changed_field_reaches_every_cell() -> None:
    changed = DEMO.changed(["num_steps=77", "method.supervised_start=5"])
    assert {cell.spec.num_steps for cell in changed.cells()} == {77}
    assert {cell.spec.method.supervised_start for cell in changed.cells() if isinstance(cell.spec.method, Mix)} == {5}


def test_a_field_that_only_some_rows_have_applies_there() -> None:
    changed = DEMO.changed(["method.mask.block_counts=[2]"])
    same = [a.trial_id == b.trial_id for a, b in zip(DEMO.cells(), changed.cells(), strict=True)]
    assert [cell.row for cell, kept in zip(DEMO.cells(), same, strict=True) if not kept] == ["ComplexMix"] * 4


def test_a_field_that_exists_nowhere_is_an_error_with_near_names() -> None:
    with pytest.raises(TableError, match="num_step: no cell.*num_steps"):
        DEMO.changed(["num_step=3"])


def test_another_kind_starts_a_part_from_its_defaults() -> None:
    changed = TABLE1.changed(["network.kind=tiny", "network.width=8", "initial_weights=random"])
    assert {cell.spec.network for cell in changed.cells()} == {TinyNetwork(width=8)}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("num_steps", "give field=value"),
        ("num_steps=-1", "num_steps.*greater than or equal to 1"),
        ("num_steps=many", "num_steps.*valid integer"),
        ("label_fraction=1/2", "that is a cell's place"),
        ("method.mask.block_counts=[]", "block_counts"),
        ("labeled_names=@/nowhere/list.txt", "--set labeled_names.*cannot be read"),
    ],
)
def test_a_bad_setting_says_what_is_wrong(word: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        DEMO.changed([word])


def test_a_name_list_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a/1\n\na/2\n")
    assert parse_setting(f"labeled_names=@{tmp_path}/names.txt") == ("labeled_names", ["a/1", "a/2"])


@pytest.mark.parametrize(
    ("words", "seeds"), [("0-4", (0, 1, 2, 3, 4)), ("2,0", (0, 2)), ("7", (7,)), ("0-1,5", (0, 1, 5))]
)
def test_seeds_are_read(words: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(words) == seeds


@pytest.mark.parametrize("words", ["", "a", "4-0", "-1", "1.5", "0-99999999999", "0--3"])
def test_bad_seeds_are_refused(words: str) -> None:
    with pytest.raises(TableError, match="--seeds"):
        parse_seeds(words)


def test_a_selection_keeps_the_tables_order() -> None:
    chosen = DEMO.selected(rows="complexmix,Supervised", fractions="1/4", seeds="1")
    assert [cell.name for cell in chosen.cells()] == ["Supervised@1/4#1", "ComplexMix@1/4#1"]


def test_more_seeds_than_declared_only_add_cells() -> None:
    before = {cell.trial_id for cell in DEMO.cells()}
    after = {cell.trial_id for cell in DEMO.selected(seeds="0-2").cells()}
    assert before < after
    assert len(after) == 18


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"rows": "Foo"}, "has the rows Supervised, ClassMix, ComplexMix"),
        ({"fractions": "1/7.5"}, "1/7.5"),
        ({"fractions": "1/2"}, "has the fractions 1/30, 1/4"),
    ],
)
def test_a_selection_of_what_is_not_there_says_what_is(selection: dict[str, str], message: str) -> None:
    with pytest.raises(TableError, match=message):
        DEMO.selected(**selection)


OWN = """
from fractions import Fraction
from experiments.table import Frame, Row, Table
from trainer.spec import Supervised
MINE = Table(name="mine", title="Mine", frame=Frame(), rows=(Row("A", Supervised()),), fractions=(Fraction(1, 8),),
             seeds=(0,))
"""


def test_a_users_own_table_is_a_python_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    table = find_table(str(tmp_path / "mine.py"), TABLES)
    assert isinstance(table, Table)
    assert [cell.label_fraction for cell in table.cells()] == [Fraction(1, 8)]


def test_a_file_with_two_tables_wants_a_name(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(OWN + OWN.replace("MINE", "YOURS"))
    with pytest.raises(TableError, match="holds 2 tables.*MINE, YOURS"):
        find_table(str(tmp_path / "two.py"), TABLES)
    assert find_table(f"{tmp_path / 'two.py'}:YOURS", TABLES).name == "mine"


@pytest.mark.parametrize(("content", "message"), [("x = ", "SyntaxError"), ("x = 1", "holds 0 tables")])
def test_a_file_that_is_no_table_says_why(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(content)
    with pytest.raises(TableError, match=message):
        find_table(str(tmp_path / "bad.py"), TABLES)


def test_an_unknown_table_names_those_there_are() -> None:
    with pytest.raises(TableError, match="did you mean demo.*camvid, demo, demo_methods, table1"):
        find_table("dem", TABLES)


def test_two_rows_of_one_label_are_refused() -> None:
    with pytest.raises(TableError, match="two rows of one label"):
        Table("t", "t", DEMO.frame, (DEMO.rows[0], DEMO.rows[0]), DEMO.fractions, DEMO.seeds)


EIGHTH, QUARTER = Fraction(1, 8), Fraction(1, 4)


def table_of(*rows: Row) -> Table:
    return Table("t", "t", Frame(), rows, (EIGHTH, QUARTER), (0,))


def test_an_optional_row_has_cells_only_where_it_is_named() -> None:
    table = table_of(Row("A", Supervised()), Row("B", Mix(), is_optional=True))
    assert {cell.row for cell in table.cells()} == {cell.row for cell in table.selected().cells()} == {"A"}
    assert {cell.row for cell in table.selected(rows="b").cells()} == {"B"}
    assert {cell.row for cell in table.selected(rows="all").cells()} == {"A", "B"}


def test_a_table_of_optional_rows_alone_is_empty() -> None:
    with pytest.raises(TableError, match="is empty"):
        table_of(Row("B", Mix(), is_optional=True))


def test_a_selection_that_leaves_only_optional_rows_is_refused() -> None:
    table = table_of(Row("A", Supervised(), fractions=(EIGHTH,)), Row("B", Mix(), is_optional=True))
    with pytest.raises(TableError, match="leaves no cell"):
        table.selected(fractions="1/4")


def test_a_row_may_deviate_at_one_fraction_alone() -> None:
    row = Row("A", Supervised(), deviations=(("num_steps", 30),), deviations_at=((EIGHTH, "num_steps", 50),))
    assert [cell.spec.num_steps for cell in table_of(row).cells()] == [50, 30]


def test_a_deviation_at_a_fraction_without_cells_is_refused() -> None:
    with pytest.raises(TableError, match="deviates at 1/4, where it has no cells"):
        Row("A", Supervised(), fractions=(EIGHTH,), deviations_at=((QUARTER, "num_steps", 50),))


def test_a_deviation_is_a_pair_or_names_its_source() -> None:
    row = Row(
        "A",
        Supervised(),
        deviations=(("view.flip", True), Deviation("num_steps", 30, "card 5")),
        deviations_at=(DeviationAt(EIGHTH, "num_steps", 50, "card 6"),),
    )
    assert [deviation.source for deviation in row.declared_at(EIGHTH)] == ["", "card 5", "card 6"]
    assert [deviation.value for deviation in row.declared_at(QUARTER)] == [True, 30]


@pytest.mark.parametrize("bad", [("view.flip",), ("view.flip", True, 5), ("", True)])
def test_what_is_no_deviation_is_refused(bad: tuple[object, ...]) -> None:
    with pytest.raises(TableError, match="deviations"):
        Row("A", Supervised(), deviations=(bad,))  # type: ignore[arg-type]


def test_a_deviation_in_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(TableError, match="deviates in method.pairs, but has no such field"):
        table_of(Row("A", Supervised(), deviations_at=((EIGHTH, "method.pairs", "cyclic"),))).cells()


@pytest.mark.parametrize(
    ("setting", "place"), [("method.gate=pixle", "method.gate"), ("optimizer.momentum=2", "optimizer.momentum")]
)
def test_a_bad_value_is_named_as_it_was_set(setting: str, place: str) -> None:
    with pytest.raises(TableError, match=f": {place}: Input should be"):
        DEMO.changed([setting])
