"""What a plan says before time is spent."""

from pathlib import Path

from experiments import TABLES
from experiments.table import find_table
from orchestrator.lint import findings

TABLE1 = find_table("table1", TABLES)


def test_missing_initial_weights_are_named_with_their_folder(tmp_path: Path) -> None:
    notes = findings(TABLE1, data=str(tmp_path), weights=None)
    assert any("resnet101COCO-41f33a49.pth are not in" in note and str(tmp_path) in note for note in notes)


def test_weights_that_are_there_are_not_named(tmp_path: Path) -> None:
    (tmp_path / "resnet101COCO-41f33a49.pth").touch()
    assert not [note for note in findings(TABLE1, data="data", weights=str(tmp_path)) if "initial weights" in note]


def test_blocks_finer_than_the_papers_are_named_with_the_largest_count() -> None:
    small = TABLE1.changed(["dataset.height=128", "dataset.width=256"])
    assert any("[64, 128]" in note and "at most 32" in note for note in findings(small, data="data", weights=None))


def test_a_random_start_of_the_papers_network_is_named() -> None:
    random = TABLE1.changed(["initial_weights=random"])
    assert any("far below" in note for note in findings(random, data="data", weights=None))


def test_few_seeds_are_named() -> None:
    assert any("2 seeds" in note for note in findings(TABLE1.selected(seeds="0,1"), data="data", weights=None))
