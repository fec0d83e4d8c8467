"""Preparing and checking images as a user meets it."""

from pathlib import Path

import pytest

from tests.orchestrator.cli.test_commands import mixgrid
from tests.orchestrator.conftest import small_table
from tests.trainer.data.conftest import picture, save
from trainer.data.catalog import open_layout

SMALLER = ("--set", "dataset.height=16", "--set", "dataset.width=32")
DATASET = small_table().frame.dataset


@pytest.mark.parametrize(
    ("words", "sizes", "files"),
    [
        ((), ("16x32", "16x32"), ("train-16x32", "val-16x32")),
        (("--set", "evaluation.protocol=full_whole"), ("16x32", "32x64"), ("train-16x32", "val-32x64-full")),
        (
            ("--set", "dataset.image_filter=box", "--set", "dataset.label_filter=majority"),
            ("16x32", "16x32"),
            ("train-16x32-box-majority", "val-16x32-box-majority"),
        ),
    ],
)
def test_prepare_builds_what_the_specs_read(
    words: tuple[str, ...], sizes: tuple[str, str], files: tuple[str, str], table_file: str, tmp_path: Path
) -> None:
    places = ("--data", str(tmp_path / "data"), "--cache", str(tmp_path / "cache"))
    told = mixgrid("data", "prepare", table_file, *places, *SMALLER, *words)
    assert told.returncode == 0, told.stderr
    assert f"12 train images of synthetic at {sizes[0]}" in told.stdout
    assert f"4 val images of synthetic at {sizes[1]}" in told.stdout
    built = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "cache").glob("*.arrow"))
    assert built == [f"synthetic-{file}" for file in files]


def test_what_was_published_is_prepared_on_another_machine_and_not_mistaken_for_images(
    table_file: str, tmp_path: Path
) -> None:
    here = ("--data", str(tmp_path / "data"), "--cache", str(tmp_path / "cache"))
    shared, node = str(tmp_path / "shared"), ("--data", str(tmp_path / "shared"), "--cache", str(tmp_path / "node"))
    told = mixgrid("data", "publish", table_file, *here, "--to", shared)
    assert f"12 train images of synthetic at 32x64: {shared}/published/synthetic-train-32x64-" in told.stdout
    copied = mixgrid("data", "prepare", table_file, *node)
    assert f"12 train images of synthetic at 32x64: {tmp_path / 'node'}/synthetic-train-32x64-" in copied.stdout
    missing = mixgrid("data", "prepare", table_file, *node, *SMALLER)
    assert missing.returncode == 2
    assert "synthetic-train-16x32 was not published" in missing.stderr
    refused = mixgrid("data", "check", table_file, *node[:2])
    assert (refused.returncode, "holds published caches, no images" in refused.stderr) == (2, True)
    refused = mixgrid("data", "publish", table_file, *here, "--to", str(tmp_path / "data"))
    assert (refused.returncode, "is the folder of the images" in refused.stderr) == (2, True)
    assert "4 at 1/3: the same names in every row" in mixgrid("plan", table_file, "--data", shared).stdout


def test_check_wants_one_size_only_where_files_are_judged_as_they_are(table_file: str, tmp_path: Path) -> None:
    layout = open_layout(DATASET, tmp_path / "data")
    sample = layout.samples("val")[2]
    save(sample.image, picture(32, 60))
    assert sample.label is not None
    save(sample.label, picture(32, 60)[..., 0] * 0 + 7)
    words = ("data", "check", table_file, "--data", str(tmp_path / "data"))
    assert mixgrid(*words).returncode == 0
    told = mixgrid(*words, "--set", "evaluation.protocol=full_sliding")
    assert told.returncode == 1
    assert f"{sample.image} is 32x60, the first image of its split 32x64" in told.stdout
    assert "1 bad files" in told.stdout
