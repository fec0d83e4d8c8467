"""The results as a Parquet file: read back they are the same frame."""

import io

import pandas as pd
import pyarrow.parquet as pq
import pytest

from results.frame import RESULT_COLUMNS
from results.parquet import parquet_bytes, read_parquet, table_of
from tests.results.builders import EIGHTH, TableStub, judged, put_done, put_score, read, spec_of
from trainer.storage import Storage


@pytest.fixture
def results(tmp_path) -> pd.DataFrame:
    storage = Storage(str(tmp_path / "runs"))
    put_score(storage, "ComplexMix", EIGHTH, 0, 1 / 3)
    put_done(storage, spec_of("ComplexMix", seed=1), judged(10, 0.5, classes=(0.25, None, 0.75)))
    return read(storage, TableStub()).results


def test_a_frame_read_back_is_equal_to_the_last_bit(results, tmp_path):
    (tmp_path / "r.parquet").write_bytes(parquet_bytes(results, table="stub"))
    back = read_parquet(tmp_path / "r.parquet")
    pd.testing.assert_frame_equal(back, results, check_exact=True)
    assert back["iou"].isna().sum() == 1
    assert (results["iou"] == 1 / 3).any()


def test_an_empty_frame_keeps_its_dtypes(results, tmp_path):
    (tmp_path / "r.parquet").write_bytes(parquet_bytes(results.iloc[:0], table="stub"))
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "r.parquet"), results.iloc[:0])


def test_pandas_reads_it_without_us(results, tmp_path):
    (tmp_path / "r.parquet").write_bytes(parquet_bytes(results, table="stub"))
    found = pd.read_parquet(tmp_path / "r.parquet")
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == RESULT_COLUMNS
    pd.testing.assert_frame_equal(found, results, check_exact=True)


def test_the_file_names_its_table_and_says_that_nothing_was_chosen(results, tmp_path):
    (tmp_path / "r.parquet").write_bytes(parquet_bytes(results, table="stub"))
    assert table_of(tmp_path / "r.parquet") == "stub"
    assert b"Nothing was selected" in pq.read_schema(tmp_path / "r.parquet").metadata[b"mixgrid.note"]
    results.to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="was not written by"):
        table_of(tmp_path / "other.parquet")


def test_the_same_frame_gives_the_same_bytes(results):
    assert parquet_bytes(results, table="stub") == parquet_bytes(results.copy(), table="stub")


def test_words_are_kept_once(results):
    many = pd.concat([results] * 500, ignore_index=True)
    file = io.BytesIO(parquet_bytes(many, table="stub"))
    columns = pq.ParquetFile(file).metadata.row_group(0)
    used = {columns.column(i).path_in_schema: columns.column(i).encodings for i in range(columns.num_columns)}
    assert all("RLE_DICTIONARY" in used[name] for name, dtype in RESULT_COLUMNS.items() if dtype == "str")
    assert len(file.getvalue()) < 12 * len(many)
