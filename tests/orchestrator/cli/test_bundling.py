"""A bundle as a user makes it and as somebody else opens it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from orchestrator.cli.bundling import write_whole
from tests.orchestrator.cli.test_commands import mixgrid
from trainer.storage import Storage


@pytest.fixture
def words(trained: str, table_file: str, places: dict[str, str], tmp_path: Path) -> tuple[str, ...]:
    shutil.copytree(trained, tmp_path / "runs")
    runs = str(tmp_path / "runs")
    return (table_file, "--storage", runs, "--data", places["data"], "--cache", places["cache"])


def test_a_bundle_lies_beside_the_table_and_is_redrawn_where_it_is_unpacked(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    told = mixgrid("bundle", *words)
    assert told.returncode == 0, told.stderr
    path = Path(Storage(words[2]).locate("tables/small/small.zip"))
    assert f"{path}: " in told.stdout
    assert "2 of 2 trials with a result" in told.stdout
    assert "note: manifests name the machines: " in told.stdout
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "theirs")
    ran = subprocess.run(
        [sys.executable, "-m", "results.redraw"],
        capture_output=True,
        text=True,
        cwd=tmp_path / "theirs" / "small",
        env={"PATH": os.environ["PATH"]},
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "table.csv: identical" in ran.stdout
    assert "table.tex: identical" in ran.stdout


def test_what_a_bundle_prints_is_what_the_table_prints(words: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "mine.zip"
    assert mixgrid("bundle", *words, "-o", str(out), "--anonymous").stdout.startswith(f"{out}: ")
    with zipfile.ZipFile(out) as archive:
        printed = archive.read("small/printed/table.csv").decode()
    assert printed == mixgrid("table", *words, "--format", "csv").stdout


def test_a_bundle_of_a_part_is_of_that_part(words: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "part.zip"
    assert "1 of 1 trials" in mixgrid("bundle", *words, "--rows", "ComplexMix", "-o", str(out)).stdout


def test_an_archive_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _content: bytes) -> int:
        raise OSError("no space left")

    write_whole(tmp_path / "a.zip", b"before")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        write_whole(tmp_path / "a.zip", b"after")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    assert (tmp_path / "a.zip").read_bytes() == b"before"
