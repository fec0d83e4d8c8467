"""What commands print and write of a grid: Parquet files, and one line of hours."""

from pathlib import Path

import pandas as pd
import pytest

from results.frame import read_frames
from results.parquet import read_parquet, table_of
from tests.fuzz.hammer import assert_one_message, mixgrid
from tests.results.builders import EIGHTH, RowStub, TableStub, put_done, put_partial, put_score, spec_of
from trainer.records import ProgressRecord, attempt_path
from trainer.storage import Storage

OWN = f"""
from tests.results.builders import METHODS
from trainer.spec import Evaluation, Synthetic, TinyNetwork
from experiments.table import Frame, Fraction, Row, Table
FRAME = Frame(dataset=Synthetic(), network=TinyNetwork(), initial_weights="random", num_steps=20,
              evaluation=Evaluation(every=10))
STUB = Table(name="stub", title="Stub", frame=FRAME, rows=(Row("ComplexMix", METHODS["ComplexMix"]),),
             fractions=({EIGHTH!r},), seeds=(0, 1, 2))
"""
TABLE = TableStub(rows=(RowStub("ComplexMix"),), fractions=(EIGHTH,))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path / "runs"))
    put_score(storage, "ComplexMix", EIGHTH, 0, 1 / 3)
    put_partial(storage, spec_of("ComplexMix", seed=1))
    return storage


@pytest.fixture
def words(storage: Storage, tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "stub.py").write_text(OWN)
    return (str(tmp_path / "stub.py"), "--storage", storage.url)


@pytest.mark.parametrize("form", [("--format", "parquet"), ()])
def test_a_parquet_file_holds_the_frame(storage: Storage, words: tuple[str, ...], form: tuple[str, ...]) -> None:
    path = Path(words[0]).parent / "deep" / "results.parquet"
    told = mixgrid("table", *words, *form, "-o", str(path))
    assert (told.code, told.out.strip()) == (0, str(path))
    pd.testing.assert_frame_equal(read_parquet(path), read_frames(storage, TABLE).results, check_exact=True)
    assert table_of(path) == "stub"


def test_parquet_on_the_screen_is_refused_with_the_cure(words: tuple[str, ...]) -> None:
    told = mixgrid("table", *words, "--format", "parquet")
    assert_one_message(told)
    assert "name a file, as in -o results.parquet" in told.err


def test_status_says_the_hours_in_one_line(storage: Storage, words: tuple[str, ...], tmp_path: Path) -> None:
    trial_id = spec_of("ComplexMix", seed=1).trial_id
    (attempt,) = storage.names(f"trials/{trial_id}/attempts")
    progress = ProgressRecord(
        trial_id=trial_id, attempt=attempt, step=12, num_steps=20, steps_per_second=1.0, time=1.0 + 3600.0
    )
    storage.write(attempt_path(trial_id, attempt, "progress.json"), progress.sealed())
    (line,) = [line for line in mixgrid("status", *words).out.splitlines() if "hours" in line]
    assert line == "cpu: less than 0.001 CPU-thread-hours in results, 0.167 lost, 0.833 in trials not done"
    assert "hours" not in mixgrid("status", words[0], "--storage", str(tmp_path / "empty")).out


def test_a_second_look_at_a_changed_result_sees_the_change(storage: Storage) -> None:
    """What a process accepted before is known by its bytes, not by its place."""
    spec = spec_of("ComplexMix")
    before = read_frames(storage, TABLE).results
    put_done(storage, spec)
    after = read_frames(storage, TABLE).results
    assert before["iou"].tolist() != after["iou"].tolist()
    assert set(after["iou"]) == {0.25}
