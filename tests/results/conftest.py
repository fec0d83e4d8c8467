"""Two computed tables: one whole, from 145 checked-in records, and one in which every kind of cell occurs."""

import pytest

from results.aggregate import Selection
from results.compute import ComputedTable, compute_table
from tests.results.builders import read
from tests.results.holes import compute_holes, compute_own, fill
from tests.results.record_sets import TABLE1, unpack
from trainer.storage import Storage


@pytest.fixture(scope="session")
def holes_storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    storage = Storage(str(tmp_path_factory.mktemp("holes") / "runs"))
    fill(storage)
    return storage


@pytest.fixture(scope="session")
def holes(holes_storage: Storage) -> ComputedTable:
    return compute_holes(holes_storage)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ComputedTable:
    storage = Storage(str(tmp_path_factory.mktemp("whole") / "runs"))
    unpack(storage)
    return compute_table(read(storage, TABLE1), TABLE1, Selection())


@pytest.fixture(scope="session")
def own_selections(tmp_path_factory: pytest.TempPathFactory) -> ComputedTable:
    return compute_own(Storage(str(tmp_path_factory.mktemp("own") / "runs")))
