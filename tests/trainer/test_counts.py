"""Counts of a whole result at once: accepted only where the slow and obvious way accepts."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.results.builders import judged, put_done, spec_of
from trainer.consistency import ious_of, refuse_other_ious
from trainer.counts import cut_counts, do_numbers_follow, parse_counts
from trainer.reading import read_result
from trainer.records import trial_path
from trainer.seals import unsealed
from trainer.storage import Storage

COUNTS = [[[5, 1], [0, 4]], [[0, 0], [0, 7]]]
TEXTS = [b"5,1],[0,4", b"0,0],[0,7"]


def test_the_matrices_of_a_result_are_cut_out_and_the_rest_stays(tmp_path) -> None:
    storage, spec = Storage(str(tmp_path)), spec_of("ComplexMix")
    put_done(storage, spec, judged(20, 0.5, classes=(0.25, None, 0.75)))
    text = unsealed(storage.read(trial_path(spec.trial_id, "result.json")))
    rest, texts = cut_counts(text)
    body, result = json.loads(text), read_result(storage, spec.trial_id)
    counts = parse_counts(texts, 3)
    assert counts is not None
    assert counts.tolist() == [[list(row) for row in record.confusion] for record in result.evaluations]
    assert [record.pop("confusion") for record in body["evaluations"]]
    assert json.loads(rest) == body


def test_rows_become_squares_of_numbers() -> None:
    found = parse_counts(TEXTS, 2)
    assert found is not None
    assert found.tolist() == COUNTS
    assert parse_counts([b"3"], 1).tolist() == [[[3]]]


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [b""],
        [b"5,1],[0"],
        [b"5,1,0,4"],
        [b"5,1],[0,4],[1,1"],
        [b"5,1],[0,4", b"1,1"],
        [b"5],[1,0],[4"],
        [b"5,],[0,4"],
        [b",5],[0,4"],
        [b"5,1],[0,-4"],
        [b"5,1],[0,4.0"],
        [b"5,1],[0,1e3"],
        [b'5,1],[0,"4"'],
        [b"5,1],[0,true"],
        [b"5,1],[0, 4"],
        [b"5,1],[0,1000000000000000"],
        [b"5,1],[0,99999999999999999999999"],
        [b"5,1],[0,[4"],
    ],
)
def test_what_is_no_square_of_counts_is_left_to_others(texts: list[bytes]) -> None:
    assert parse_counts(texts, 2) is None


def follows(confusion: list[list[int]], class_iou: list[float | None], mean_iou: float | None) -> bool:
    try:
        refuse_other_ious(confusion, class_iou, mean_iou)
    except ValueError:
        return False
    return True


matrices = st.integers(1, 4).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, 3), min_size=size, max_size=size), min_size=size, max_size=size)
)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_numbers_follow_where_they_follow_one_by_one(data: st.DataObject) -> None:
    confusion = data.draw(matrices)
    ious = ious_of(confusion)
    defined = [iou for iou in ious if iou is not None]
    mean = sum(defined) / len(defined) if defined else None
    nudge = data.draw(st.sampled_from([0.0, 1e-12, 0.9e-9, 1e-8, 0.1]))
    place = data.draw(st.integers(0, len(ious)))
    if place == len(ious):
        mean = None if mean is None or nudge == 0.1 else mean + nudge
    else:
        ious[place] = 0.5 if ious[place] is None else ious[place] + nudge
    text = b"],[".join(b",".join(b"%d" % count for count in row) for row in confusion)
    assert do_numbers_follow([text], len(confusion), [ious], [mean]) == follows(confusion, ious, mean)


def test_each_evaluation_is_held_against_its_own_counts() -> None:
    ious = [ious_of(confusion) for confusion in COUNTS]
    means = [(5 / 6 + 4 / 5) / 2, 1.0]
    assert ious == [[5 / 6, 4 / 5], [None, 1.0]]
    assert do_numbers_follow(TEXTS, 2, ious, means)
    assert not do_numbers_follow(TEXTS[::-1], 2, ious, means)
    assert not do_numbers_follow(TEXTS, 2, ious[:1], means[:1])
    assert not do_numbers_follow(TEXTS, 2, ious, means[::-1])
    assert not do_numbers_follow(TEXTS, 2, [ious[0], ious[1][:1]], means)
