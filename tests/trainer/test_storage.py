"""Files of a storage appear whole or not at all, and errors name where and what is free."""

import errno
import os
from pathlib import Path

import pytest

from tests.storage_contract import StorageContract
from trainer.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty storage."""
    return Storage(str(tmp_path / "runs"))


class TestAFolder(StorageContract):
    pass


def test_a_file_is_written_whole_and_leaves_no_draft(storage: Storage) -> None:
    storage.write("a/b/c.json", b"one")
    storage.write("a/b/c.json", b"two")
    assert storage.read("a/b/c.json") == b"two"
    assert os.listdir(storage.locate("a/b")) == ["c.json"]  # noqa: PTH208  (hidden files too)


def test_a_failed_write_leaves_the_old_file_and_no_draft(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    storage.write("a/c.json", b"old")
    monkeypatch.setattr("trainer.storage.os.fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*a/c\.json \(\d+ MiB free\): .*No space left on device"):
        storage.write("a/c.json", b"new")
    assert storage.read("a/c.json") == b"old"
    assert os.listdir(storage.locate("a")) == ["c.json"]  # noqa: PTH208


def test_a_storage_that_is_no_folder_is_named_with_the_free_space(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(OSError, match=r"cannot write .*/runs/a/b \(\d+ MiB free\)"):
        Storage(str(tmp_path / "runs")).write("a/b", b"")


def test_a_file_url_is_the_folder_it_names(tmp_path: Path) -> None:
    Storage(f"file://{tmp_path}/runs").write("a", b"1")
    assert Storage(str(tmp_path / "runs")).read("a") == b"1"
    assert Storage(f"file://{tmp_path}/runs").locate("a") == f"{tmp_path}/runs/a"


def test_a_name_that_is_no_text_is_said(storage: Storage) -> None:
    storage.write("a/b", b"")
    with open(storage.locate("a").encode() + b"/\xff", "wb"):  # noqa: PTH123
        pass
    with pytest.raises(ValueError, match="holds a name that is no text"):
        storage.names("a")


def test_a_link_is_removed_and_what_it_leads_to_stays(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"kept")
    storage.write("a/b", b"")
    for place in ("a/link", "folder/link"):
        Path(storage.locate(place)).parent.mkdir(exist_ok=True)
        Path(storage.locate(place)).symlink_to(tmp_path / "elsewhere")
    storage.remove("a/link")
    storage.remove("folder")
    assert storage.names("a") == ["b"]
    assert not storage.exists("folder")
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"kept"
