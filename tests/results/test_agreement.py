"""Two accounts of the same results agree to the last bit, or it is said where they do not."""

import math

import pandas as pd
import pytest

from results.agreement import disagreements
from tests.results.builders import EIGHTH, TableStub, judged, put_done, put_score, read, spec_of
from trainer.storage import Storage


@pytest.fixture
def ours(tmp_path) -> pd.DataFrame:
    """Two trials with 16 numbers each, of which one is undefined."""
    storage = Storage(str(tmp_path / "runs"))
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    put_done(storage, spec_of("ComplexMix", seed=1), judged(10, 0.5, classes=(0.25, None, 0.75)))
    return read(storage, TableStub()).results


def test_equal_accounts_agree_in_any_order(ours):
    assert disagreements(ours, ours) == ()
    assert disagreements(ours, ours[::-1].reset_index(drop=True)) == ()
    assert disagreements(ours.iloc[:0], ours.iloc[:0]) == ()


def test_the_last_bit_counts(ours):
    theirs = ours.copy()
    theirs.loc[3, "iou"] = math.nextafter(theirs.loc[3, "iou"], 1.0)
    (line,) = disagreements(ours, theirs)
    assert line.startswith(f"different: ComplexMix@1/8#0 ({spec_of('ComplexMix').trial_id}): student mean at step 10")
    assert "iou 0.25, tracked 0.25000000000000006" in line


def test_another_size_or_start_counts(ours):
    for name, value in (("eval_size", "8x8"), ("initial_weights", "coco")):
        theirs = ours.copy()
        theirs.loc[0, name] = value
        assert f"{name} " in disagreements(ours, theirs)[0]
        assert value in disagreements(ours, theirs)[0]


def test_what_is_missing_and_what_is_too_much_are_told_apart_by_trial(ours):
    first = ours[ours["seed"] == 0]
    (missing,) = disagreements(ours, first)
    (extra,) = disagreements(first, ours)
    assert missing.startswith("missing in the tracker: ComplexMix@1/8#1")
    assert extra.startswith("not in the storage: ComplexMix@1/8#1")
    assert missing.endswith("and 12 more")


def test_an_undefined_number_is_as_good_as_none_but_not_as_another(ours):
    undefined = ours["iou"].isna()
    assert undefined.sum() == 1
    assert disagreements(ours, ours[~undefined]) == ()
    theirs = ours.copy()
    theirs.loc[undefined, "iou"] = 0.0
    (line,) = disagreements(ours, theirs)
    assert line.startswith("not in the storage")
    assert line.endswith("student sky at step 10")


def test_an_evaluation_at_another_step_is_missing_and_too_much(ours):
    theirs = ours.assign(step=ours["step"].replace({20: 19}))
    assert [line.partition(":")[0] for line in disagreements(ours, theirs)] == [
        "missing in the tracker",
        "missing in the tracker",
        "not in the storage",
        "not in the storage",
    ]
