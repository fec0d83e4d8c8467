"""Labels that a network gave the unlabelled pool, for a round of self-training. Loads neither torch nor ray.

They are kept compressed, in memory as in storage: label maps shrink to a few hundredths.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from trainer.data.folders import Array, DataError

_CODEC = "zstd"


@dataclass(frozen=True, slots=True)
class PoolLabels:
    """A label map [height, width] uint8 for each image of the pool, by name; 255 where a pixel got none.

    `about` is what a record says of them: whole words, numbers and lists of numbers.
    """

    height: int
    width: int
    packed: Mapping[str, bytes]
    about: Mapping[str, object]

    def label(self, name: str) -> Array:
        """One label map. Raises: KeyError for an image that is not of the pool."""
        content = pa.decompress(self.packed[name], decompressed_size=self.height * self.width, codec=_CODEC)
        return np.frombuffer(content, np.uint8).reshape(self.height, self.width)

    def to_bytes(self) -> bytes:
        """An Arrow file: a row (name, packed label map) for each image, sorted by name."""
        names = sorted(self.packed)
        columns = [pa.array(names, pa.string()), pa.array([self.packed[name] for name in names], pa.binary())]
        size = {"height": str(self.height), "width": str(self.width)}
        schema = pa.schema([("name", pa.string()), ("label", pa.binary())], metadata=size)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.record_batch(columns, schema=schema))
        content: bytes = sink.getvalue().to_pybytes()
        return content

    @property
    def digest(self) -> str:
        """SHA-256 of `to_bytes`."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def pack(label: Array) -> bytes:
    """Compress one label map [H, W] uint8."""
    packed: bytes = pa.compress(np.ascontiguousarray(label), codec=_CODEC, asbytes=True)
    return packed


def read_pool_labels(content: bytes, about: Mapping[str, object]) -> PoolLabels:
    """Read what `to_bytes` wrote. Raises: DataError where it is something else."""
    try:
        table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
        size = {key.decode(): int(value) for key, value in table.schema.metadata.items()}
        packed = dict(zip(table.column("name").to_pylist(), table.column("label").to_pylist(), strict=True))
        return PoolLabels(size["height"], size["width"], packed, about)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"these are no labels of a pool: {error}") from error
