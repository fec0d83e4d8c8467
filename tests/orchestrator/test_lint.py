"""What a plan says before time is spent: each finding provoked, and silence where there is nothing to say."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from experiments import TABLES
from experiments.table import Cell, Frame, Row, Table, find_table
from orchestrator import lint, lint_data
from orchestrator.finding import Finding
from orchestrator.lint import WEIGHT_FILES, findings
from tests.orchestrator.conftest import small_table
from trainer.models.weights import EXPECTED_FILES
from trainer.spec import (
    DSTCBC,
    NO_AUGMENTATION,
    S4GAN,
    Adversarial,
    Mix,
    Supervised,
    TinyNetwork,
)
from trainer.storage import Storage

TABLE1 = find_table("table1", TABLES)
PUBLISHED = find_table("table1_as_published", TABLES)
EIGHTH, QUARTER = Fraction(1, 8), Fraction(1, 4)


def of(table: Table, kind: str, data: str = "data", **places: object) -> list[Finding]:
    return [found for found in findings(table, data=data, weights=None, **places) if found.kind == kind]  # type: ignore[arg-type]


def table_of(*rows: Row, **fields: object) -> Table:
    frame = Frame(network=TinyNetwork(), initial_weights="random", num_steps=400)
    return Table("t", "t", frame, rows, (EIGHTH, QUARTER), (0, 1, 2), **fields)  # type: ignore[arg-type]


# --- the frame ----------------------------------------------------------------------------------------------------


def test_what_is_changed_by_hand_is_told_with_what_it_does_to_trials() -> None:
    assert not [found for found in of(TABLE1, "frame") if "--set" in found.text]
    changed = TABLE1.changed(["precision=bf16"])
    (told,) = [found for found in of(changed, "frame") if "--set" in found.text]
    assert told.text.startswith("changed by --set: precision=bf16; where a cell had another value it is another trial")
    assert (told.level, told.rows) == ("told", ())
    ids = [{cell.trial_id for cell in table.cells()} for table in (TABLE1, changed)]
    assert len(ids[0]) == len(ids[1]) == 145
    assert not ids[0] & ids[1]


def test_a_controlled_table_says_that_methods_alone_differ() -> None:
    assert [found.text for found in of(TABLE1, "frame")] == [
        "no row declares a deviation: rows differ by their methods alone"
    ]


def test_a_deviation_in_a_controlled_table_is_named() -> None:
    table = table_of(Row("A", Supervised()), Row("B", Supervised(), deviations=(("view.flip", True),)))
    assert of(table, "frame") == [
        Finding("frame", "doubt", "deviates from the controlled frame: view.flip = true", ("B",))
    ]


class Bent(Table):
    """A table whose row B trains longer than it says, at the last of its seeds."""

    def cells(self) -> tuple[Cell, ...]:
        return tuple(bent(cell) if (cell.row, cell.seed) == ("B", self.seeds[-1]) else cell for cell in super().cells())


def bent(cell: Cell) -> Cell:
    return replace(cell, spec=cell.spec.model_copy(update={"num_steps": 500}))


def test_what_is_not_declared_is_named_as_such() -> None:
    straight = table_of(Row("A", Supervised()), Row("B", Supervised(), deviations=(("view.flip", True),)))
    table = Bent("t", "t", straight.frame, straight.rows, straight.fractions, straight.seeds)
    wrong = [found for found in of(table, "frame") if found.level == "wrong"]
    assert len(wrong) == 1
    assert wrong[0].text.startswith("UNDECLARED: num_steps = 500 where the frame has 400")
    assert wrong[0].rows == ("B",)


@pytest.mark.parametrize("path", ["optimizer.kind", "optimizer"])
def test_another_kind_of_a_part_declares_all_of_its_fields(path: str) -> None:
    value = "adam" if path.endswith("kind") else {"kind": "adam", "learning_rate": 0.1}
    table = table_of(Row("A", Supervised(), deviations=((path, value),)))
    assert not [found for found in of(table, "frame") if found.level == "wrong"]


def test_a_changed_field_of_every_row_is_the_frame() -> None:
    assert not [found for found in of(TABLE1.changed(["view.flip=true"]), "frame") if found.level == "wrong"]


def test_a_deviation_that_is_none_is_named() -> None:
    table = table_of(Row("A", Supervised(), deviations=(("num_steps", 400),)))
    assert any("which the frame has as well" in found.text for found in of(table, "frame"))


def test_mixing_rows_with_other_augmentation_are_named() -> None:
    table = table_of(Row("A", Mix()), Row("B", Mix(augmentation=NO_AUGMENTATION)))
    assert any(
        found.rows == ("B",) and "augmented otherwise than in row A" in found.text for found in of(table, "frame")
    )


def test_deviations_as_published_carry_their_source_and_all_their_rows() -> None:
    texts = {found.text: found for found in of(PUBLISHED, "declared")}
    assert {found.level for found in texts.values()} == {"told"}
    assert texts["initial_weights = imagenet (card 5)"].rows == ("s4GAN",)
    assert texts["optimizer.repeats_backbone = true (2.5)"].rows[:2] == ("DeepLab-V2", "Adversarial")
    assert any(text.startswith("num_steps = 40075 at 1/30, 40455 at 1/8, 39060 at 1/4 (card 6") for text in texts)
    assert not of(PUBLISHED, "frame")


def test_a_published_deviation_without_a_source_is_doubted() -> None:
    table = table_of(Row("A", Supervised(), deviations=(("view.flip", True),)), frames="as_published")
    assert [(found.level, found.text) for found in of(table, "declared")] == [
        ("doubt", "view.flip = true (without a source)")
    ]


# --- splits -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cityscapes(tmp_path: Path) -> str:
    """Names of sixteen training images, whose files hold nothing."""
    for number in range(16):
        for folder, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
            path = tmp_path / "cityscapes" / folder / "train" / "ulm" / f"ulm_000000_{number:06d}_{ending}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return str(tmp_path)


def test_splits_are_checked_where_the_names_are_on_disk(cityscapes: str) -> None:
    (found,) = of(TABLE1, "splits", cityscapes)
    assert found.text.startswith("1 at 1/30, 2 at 1/8, 4 at 1/4, 8 at 1/2, 16 at 1: the same names in every row")


def test_rows_that_label_other_images_are_named(cityscapes: str) -> None:
    table = table_of(Row("A", Supervised()), Row("B", Supervised(), deviations=(("split_seed", 77),)))
    assert [(found.level, found.text) for found in of(table, "splits", cityscapes)] == [
        ("wrong", "at 1/8 they label other images than row A, at equal seeds"),
        ("wrong", "at 1/4 they label other images than row A, at equal seeds"),
    ]


def test_fractions_that_are_not_nested_are_named(cityscapes: str) -> None:
    table = table_of(Row("A", Supervised(), deviations_at=((EIGHTH, "split_seed", 77),)))
    assert any("labelled at 1/8 are not all labelled at 1/4" in found.text for found in of(table, "splits", cityscapes))


def test_a_list_of_another_length_is_named(cityscapes: str) -> None:
    table = table_of(Row("A", Supervised())).changed(['labeled_names=["ulm/ulm_000000_000001"]'])
    assert any("no split can be drawn" in found.text for found in of(table, "splits", cityscapes))


def test_splits_that_cannot_be_checked_say_so(tmp_path: Path) -> None:
    (found,) = of(TABLE1, "splits", str(tmp_path))
    assert (found.level, found.text.startswith("not checked")) == ("told", True)


def test_a_plan_draws_no_scenes(tmp_path: Path) -> None:
    (found,) = of(small_table(), "splits", str(tmp_path))
    assert "not drawn yet" in found.text
    assert not list(tmp_path.iterdir())


# --- selection ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "text"),
    [({"selection": "best"}, "the best evaluation counts"), ({"reported_network": "teacher"}, "the teacher is judged")],
)
def test_a_row_that_is_judged_otherwise_is_wrong_in_a_controlled_table(own: dict[str, str], text: str) -> None:
    rows = (Row("A", Supervised()), Row("B", Mix(), **own))  # type: ignore[arg-type]
    for frames, level in (("controlled", "wrong"), ("as_published", "told")):
        (found,) = of(table_of(*rows, frames=frames), "selection")
        assert (found.level, found.rows, found.text.startswith(text)) == (level, ("B",), True)


def test_best_for_every_row_is_doubted() -> None:
    frame = Frame(selection="best", network=TinyNetwork(), initial_weights="random")
    table = Table("t", "t", frame, (Row("A", Supervised()),), (EIGHTH,), (0, 1, 2))
    assert [found.level for found in of(table, "selection")] == ["doubt"]


def test_rounds_that_go_on_from_the_best_weights_select_on_the_reported_images() -> None:
    table = table_of(Row("D", DSTCBC(supervised_start=100, carry="best"), deviations=(("evaluation.every", 50),)))
    assert [(found.level, found.rows) for found in of(table, "selection")] == [("wrong", ("D",))]


# --- methods and schedules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (Adversarial(self_taught_start=400), "self_taught_start 400 is not before num_steps 400"),
        (
            Adversarial(self_taught_start=1, unlabeled_adversarial_start=500),
            "unlabeled_adversarial_start 500 is not before",
        ),
        (S4GAN(self_training_start=400), "self_training_start 400 is not before"),
        (Mix(supervised_start=300), "supervised_start 300 is more than half of num_steps 400"),
        (Mix(ramp_up_steps=500), "ramp_up_steps 500 go beyond"),
        (DSTCBC(supervised_start=380), "rounds of 4 steps are shorter than one log interval (8 steps)"),
    ],
)
def test_a_schedule_that_leaves_a_part_out_is_named(method: object, text: str) -> None:
    table = table_of(Row("A", method))  # type: ignore[arg-type]
    assert any(found.text.startswith(text) and found.rows == ("A",) for found in of(table, "method"))


def test_the_declared_tables_leave_no_part_out() -> None:
    for name in TABLES:
        assert not of(find_table(name, TABLES).selected(rows="all"), "method")


def test_blocks_finer_than_the_papers_are_named_with_the_largest_count() -> None:
    small = TABLE1.changed(["dataset.height=128", "dataset.width=256"])
    assert any("[64, 128]" in note.text and "at most 32" in note.text for note in of(small, "method"))


def test_a_random_start_of_the_papers_network_is_named() -> None:
    random = TABLE1.changed(["initial_weights=random"])
    assert any("far below" in note.text for note in of(random, "method"))


def test_few_seeds_are_named() -> None:
    assert any("2 seeds" in note.text for note in of(TABLE1.selected(seeds="0,1"), "seeds"))


# --- initial weights ----------------------------------------------------------------------------------------------


def test_the_weights_of_every_row_are_looked_for(tmp_path: Path) -> None:
    found = {note.text.split()[2]: note.rows for note in of(PUBLISHED, "weights", str(tmp_path))}
    assert found["resnet101-5d3b4d8f.pth"] == ("s4GAN", "French et al. (CutMix)")
    assert "ClassMix" in found["resnet101COCO-41f33a49.pth"]
    assert all(str(tmp_path) in note.text for note in of(PUBLISHED, "weights", str(tmp_path)))


def test_weights_that_are_there_are_not_named(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet101COCO-41f33a49.pth").touch()
    assert not of(TABLE1, "weights", str(tmp_path))


def test_of_two_files_one_is_to_be_kept(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    for name in ("resnet50-1.pth", "resnet50-2.pth"):
        (tmp_path / "weights" / name).touch()
    table = TABLE1.changed(["network.backbone=resnet50", "initial_weights=imagenet"])
    assert any("keep one" in note.text for note in of(table, "weights", str(tmp_path)))


def test_weights_that_nobody_published_are_named() -> None:
    table = TABLE1.changed(["network.backbone=resnet50"])
    assert any("there are no coco weights of resnet50" in note.text for note in of(table, "weights"))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint, "find_spec", lambda name: None)
    table = TABLE1.changed(["network.kind=timm", "initial_weights=imagenet"])
    assert len([note for note in of(table, "weights") if "mixgrid[timm]" in note.text]) == 2


def test_files_of_weights_are_those_that_training_expects() -> None:
    assert {key: name for key, name in EXPECTED_FILES.items() if not key[0].startswith("timm/")} == WEIGHT_FILES


# --- memory and disk ----------------------------------------------------------------------------------------------


def test_the_memory_of_a_trial_is_told_where_it_matters() -> None:
    texts = {row: note.text for note in of(PUBLISHED, "space") for row in note.rows}
    assert "7.6 GiB" in texts["DeepLab-V2"]
    assert "4.3 GiB" in texts["French et al. (CutMix)"]
    assert not of(small_table(), "space")


def told_of_disk(tmp_path: Path, **fields: object) -> list[Finding]:
    table = TABLE1.selected(rows="DST-CBC", fractions="1/8", seeds="0-2")
    places = {"storage": Storage(str(tmp_path / "runs")), "cache": str(tmp_path / "cache")}
    return [note for note in of(table, "space", **places, **fields) if "free in" in note.text]


def test_disk_is_told_for_caches_and_storage(tmp_path: Path) -> None:
    caches, storage = told_of_disk(tmp_path)
    assert caches.text.startswith("image caches, about 7.3 GB;")  # 3,475 images of 512 x 1024 at four bytes
    # three times 44 million values of four bytes; two checkpoints with momentum, and five times labels of 2,603 images
    assert "storage, about 1.6 GB: 0.5 GB of weights that stay" in storage.text
    assert "1.0 GB while a trial runs" in storage.text


def test_too_little_disk_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage: Callable[[object], object] = lambda place: type("Usage", (), {"free": 10**9})  # noqa: E731
    monkeypatch.setattr(lint_data.shutil, "disk_usage", usage)
    assert [note.level for note in told_of_disk(tmp_path)] == ["wrong", "wrong"]


def test_caches_that_are_there_need_no_space(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with (tmp_path / "cache" / "cityscapes-train-512x1024-0123456789abcdef.arrow").open("wb") as file:
        file.truncate(2975 * 512 * 1024 * 4)
    assert told_of_disk(tmp_path)[0].text.startswith("image caches, about 1.0 GB;")


def test_caches_of_other_filters_are_other_files(tmp_path: Path) -> None:
    boxed = PUBLISHED.selected(rows="French et al. (CutMix)", seeds="0")
    (tmp_path / "cityscapes-train-512x1024-0123456789abcdef.arrow").write_bytes(b"x" * 1000)
    notes = of(boxed, "space", storage=Storage(str(tmp_path / "runs")), cache=str(tmp_path))
    assert any(note.text.startswith("image caches, about 7.3 GB;") for note in notes)


def test_a_judgement_at_full_size_has_a_larger_cache(tmp_path: Path) -> None:
    full = TABLE1.changed(["evaluation.protocol=full_whole"]).selected(rows="ClassMix", seeds="0")
    notes = of(full, "space", storage=Storage(str(tmp_path / "runs")), cache=str(tmp_path))
    assert any(note.text.startswith("image caches, about 10.4 GB;") for note in notes)  # 2975 + 4 x 500 images


def test_where_all_is_done_no_disk_is_needed(tmp_path: Path) -> None:
    assert told_of_disk(tmp_path, unfinished=[]) == []


def test_a_sentence_is_said_once_for_all_its_rows(tmp_path: Path) -> None:
    noted = findings(PUBLISHED, data=str(tmp_path), weights=None)
    assert len({(note.kind, note.text) for note in noted}) == len(noted)
