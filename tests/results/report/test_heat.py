"""Tables of classes: the figure of every cell, its colour, and the ends of the scale."""

import pytest

from results.report.heat import HeatTable, heat_tables
from tests.results.builders import TableStub
from tests.results.report.small_report import TABLE, computed, fill
from trainer.storage import Storage


@pytest.fixture
def storage(tmp_path) -> Storage:
    filled = Storage(str(tmp_path))
    fill(filled)
    return filled


def texts(heat: HeatTable) -> dict[str, list[str]]:
    return {row: [cell.text for cell in cells] for row, cells in heat.rows}


def test_iou_and_gain_come_for_each_fraction(storage: Storage) -> None:
    heats = list(heat_tables(computed(storage)[0]))
    assert [heat.title.partition(" in ")[0] for heat in heats] == [
        "IoU by class",
        "Gain by class over Supervised",
        "IoU by class",
        "Gain by class over Supervised",
    ]
    assert texts(heats[0])["Supervised"] == ["60", "50", "25"]
    assert texts(heats[1]) == {"ClassMix": ["+10.0", "+5.0", "+30.0"], "ComplexMix": ["+10.0", "+10.0", "+10.0"]}
    assert (heats[0].low, heats[0].high) == ("0", "100")
    assert (heats[1].low, heats[1].high) == ("−30.0", "+30.0")


def test_a_larger_iou_is_lighter_and_no_change_is_white(storage: Storage) -> None:
    iou, gain, *_ = heat_tables(computed(storage)[0])
    road, _, car = next(cells for row, cells in iou.rows if row == "Supervised")
    assert int(road.background[1:3], 16) > int(car.background[1:3], 16)
    purple = next(cells for row, cells in gain.rows if row == "ClassMix")[2].background
    assert purple == "#2d004b"


def test_without_a_reference_row_there_is_no_gain(storage: Storage) -> None:
    table = TableStub(**{**TABLE.__dict__, "reference_row": None})
    assert [heat.title[:3] for heat in heat_tables(computed(storage, table)[0])] == ["IoU", "IoU"]


def test_an_undefined_class_has_a_dash_and_no_colour(tmp_path) -> None:
    from tests.results.builders import RowStub, judged, put_done, spec_of

    storage, table = Storage(str(tmp_path)), TableStub(rows=(RowStub("Supervised"),), seeds=(0,))
    put_done(storage, spec_of("Supervised"), judged(20, 0.45, classes=(0.5, 0.4, None)))
    (heat,) = heat_tables(computed(storage, table)[0])
    car = heat.rows[0][1][2]
    assert (car.text, car.background) == ("–", "")
