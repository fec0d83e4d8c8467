"""What every storage promises, wherever it lies. A test class inherits the contract with a fixture `storage`."""

import pytest

from trainer.records import DamagedRecord, DriverRecord
from trainer.storage import Storage

ODD_NAMES = ["a b", "a%20b", "a+b", "a&b=c", "ä…", "#1", "what?", "~x", "'quoted'"]


class StorageContract:
    """Inherit with a fixture `storage`: an empty one."""

    def test_a_file_comes_back_as_it_was_written_last(self, storage: Storage) -> None:
        storage.write("a/b/c.json", b"the first, which is longer")
        storage.write("a/b/c.json", b"two")
        assert storage.read("a/b/c.json") == b"two"
        assert storage.names("a/b") == ["c.json"]

    @pytest.mark.parametrize("size", [0, 1, 10 * 2**20, 10 * 2**20 + 1])  # an upload's part is 10 MiB
    def test_a_file_of_any_size_comes_back_whole(self, storage: Storage, size: int) -> None:
        content = (bytes(range(251)) * (size // 251 + 1))[:size]
        storage.write("some/state.pt", content)
        assert storage.read("some/state.pt") == content

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_names_are_names_like_any(self, storage: Storage, name: str) -> None:
        storage.write(f"folder/{name}/{name}", b"1")
        assert storage.read(f"folder/{name}/{name}") == b"1"
        assert storage.names("folder") == storage.names(f"folder/{name}") == [name]
        storage.remove(f"folder/{name}")
        assert storage.names("folder") == []

    def test_what_is_not_there_is_said_to_be_so(self, storage: Storage) -> None:
        storage.write("folder/file", b"1")
        for path in ("nowhere", "folder/nothing", "folder/file/below", "folder/fil", "nowhere/at/all"):
            with pytest.raises((FileNotFoundError, NotADirectoryError)):
                storage.read(path)
            assert not storage.exists(path)
            assert storage.names(path) == []
            assert storage.modified(path) == 0.0
            assert DriverRecord.find(storage, path) is None
            storage.remove(path)
        assert storage.read("folder/file") == b"1"

    def test_files_and_folders_are_there(self, storage: Storage) -> None:
        storage.write("a/b/c", b"")
        assert all(storage.exists(path) for path in ("a", "a/b", "a/b/c"))

    @pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "a//b", "", ".", "a/./b", "a/"])
    def test_a_path_never_leaves_the_storage(self, storage: Storage, path: str) -> None:
        for act in (storage.read, storage.exists, storage.names, storage.remove, lambda p: storage.write(p, b"")):
            with pytest.raises(ValueError, match="is no path inside the storage"):
                act(path)

    def test_names_are_sorted_and_empty_where_there_is_no_folder(self, storage: Storage) -> None:
        for name in ("b", "a", "c/d", "a.x/d", "B"):
            storage.write(f"folder/{name}", b"")
        assert storage.names("folder") == ["B", "a", "a.x", "b", "c"]
        assert storage.names("elsewhere") == []

    def test_removing_takes_files_folders_and_nothing_alike(self, storage: Storage) -> None:
        storage.write("folder/a", b"")
        storage.write("folder/b/c", b"")
        storage.write("folder-too/a", b"")
        storage.remove("folder/a")
        storage.remove("folder/a")
        assert storage.names("folder") == ["b"]
        storage.remove("folder")
        storage.remove("folder")
        assert not storage.exists("folder")
        assert storage.names("folder-too") == ["a"]

    def test_a_folder_whose_files_are_removed_is_empty(self, storage: Storage) -> None:
        storage.write("folder/a", b"")
        storage.remove("folder/a")
        assert storage.names("folder") == []
        storage.write("folder/b", b"")
        assert storage.names("folder") == ["b"]

    def test_the_storages_clock_is_that_of_its_files(self, storage: Storage) -> None:
        storage.write("a", b"")
        assert storage.now() >= storage.modified("a") > 1e9
        assert storage.names("clock") == []

    def test_another_opens_the_same_by_its_url(self, storage: Storage) -> None:
        Storage(storage.url_of("deep/er")).write("a", b"1")
        assert storage.read("deep/er/a") == b"1"
        assert Storage(storage.url).read("deep/er/a") == b"1"

    def test_a_record_written_anew_while_it_is_read_is_read_again(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage.write("drivers/d.json", DRIVER.sealed())
        answers = [DRIVER.sealed()[:-20], DRIVER.sealed()]  # as many bytes of the new one as the old one had
        with monkeypatch.context() as patch:
            patch.setattr(Storage, "read", lambda _self, _path: answers.pop(0))
            assert DriverRecord.find(storage, "drivers/d.json") == DRIVER
        storage.write("drivers/d.json", DRIVER.sealed()[:-20])
        with pytest.raises(DamagedRecord, match=r"drivers/d\.json is not a sealed record"):
            DriverRecord.find(storage, "drivers/d.json")


DRIVER = DriverRecord(
    driver="d", host="elsewhere/1", pid=1, process_started=0.0, table="t", trial_ids=("x",), finished=False
)
