"""The results of a table as a Parquet file, for analyses elsewhere: a line per evaluation and class, nothing chosen."""

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from results.frame import RESULT_COLUMNS

NOTE = (
    "Every evaluation of every done trial: mean IoU in the lines of class_name mean, class IoUs in the others, in "
    "[0, 1], no value where a class is in neither truth nor prediction. Nothing was selected or averaged over seeds."
)


def parquet_bytes(results: pd.DataFrame, *, table: str) -> bytes:
    """`Frames.results` as a Parquet file whose metadata name the table; the same lines give the same bytes."""
    content = pa.Table.from_pandas(results[list(RESULT_COLUMNS)], preserve_index=False)
    words = [name for name, dtype in RESULT_COLUMNS.items() if dtype == "str"]
    metadata = {**(content.schema.metadata or {}), b"mixgrid.table": table.encode(), b"mixgrid.note": NOTE.encode()}
    file = io.BytesIO()
    pq.write_table(content.replace_schema_metadata(metadata), file, compression="zstd", use_dictionary=words)
    return file.getvalue()


def read_parquet(path: Path) -> pd.DataFrame:
    """What `parquet_bytes` was given, with the same dtypes."""
    frame: pd.DataFrame = pq.read_table(path).to_pandas()
    return frame.astype(RESULT_COLUMNS)


def table_of(path: Path) -> str:
    """The table that a file of ours was written for. Raises: ValueError where it is none."""
    metadata = pq.read_schema(path).metadata or {}
    if b"mixgrid.table" not in metadata:
        raise ValueError(f"{path} was not written by `mixgrid table --format parquet`")
    return str(metadata[b"mixgrid.table"].decode())
