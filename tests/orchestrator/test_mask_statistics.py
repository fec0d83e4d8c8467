"""What is measured: every mask once, on the images and with the draws that the seed says."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
import torch

from experiments.table import Frame, Row, Table
from orchestrator.mask_statistics import candidates_of, family_of, measure, survey_masks
from orchestrator.previewing import mask_specs
from tests.conftest import write_small_dataset
from tests.contracts import SMALL
from tests.orchestrator.conftest import small_table
from trainer.build import build_mask
from trainer.data.folders import IGNORE
from trainer.mask_statistics import MaskSurvey
from trainer.randomness import key_of, sample_keys
from trainer.spec import BlendMask, BoxMask, ClassMask, ComplexMask, Mix

OTHER_READING = ComplexMask(grid="in_total", classes="of_present")


def table_of(**rows: Mix) -> Table:
    """Methods on the small dataset of four classes."""
    frame = small_table().frame.model_dump() | {"dataset": SMALL}
    return replace(small_table(), frame=Frame(**frame), rows=tuple(Row(name, method) for name, method in rows.items()))


def survey_of(data: Path, table: Table | None = None, *, num_images: int = 4, step: int = 0) -> MaskSurvey:
    """A survey of the small dataset below a folder with `data`."""
    blocks = Mix(mask=ComplexMask(block_counts=(2, 16)))
    chosen = table or table_of(Blocks=blocks)
    return survey_masks(chosen, data=data / "data", cache=str(data / "cache"), num_images=num_images, step=step)


@pytest.fixture(scope="module")
def survey(small_data: Path) -> MaskSurvey:
    """The survey that most tests look at."""
    return survey_of(small_data)


# --- which masks --------------------------------------------------------------------------------------------------


def test_each_mask_is_measured_once_under_its_first_name() -> None:
    found, _ = candidates_of({"A": BoxMask(), "B": ClassMask(), "C": BoxMask()})
    assert [(candidate.name, candidate.mask) for candidate in found] == [("A", BoxMask()), ("B", ClassMask())]


def test_a_block_mask_is_also_measured_with_each_count_alone() -> None:
    found, _ = candidates_of({"X": ComplexMask(block_counts=(8, 2)), "Y": ComplexMask(block_counts=(2, 4))})
    assert [(candidate.name, candidate.block_count) for candidate in found] == [
        ("X", None), ("Y", None), ("X p=2", 2), ("X p=8", 8), ("Y p=4", 4),
    ]  # fmt: skip


def test_a_block_mask_of_one_count_stands_for_itself() -> None:
    found, _ = candidates_of({"X": ComplexMask(block_counts=(8,))})
    assert [(candidate.name, candidate.block_count) for candidate in found] == [("X", 8)]


def test_a_blend_is_no_mask_and_said_to_be_left_out() -> None:
    found, left_out = candidates_of({"ICT": BlendMask(), "A": BoxMask()})
    assert ([candidate.name for candidate in found], left_out) == (["A"], ("ICT",))


def test_both_readings_of_complexmix_are_measured_whatever_the_table_has() -> None:
    masks = [candidate.mask for candidate in candidates_of(mask_specs(table_of(ClassMix=Mix())))[0]]
    for count in (4, 16, 64, 128):
        assert ComplexMask(block_counts=(count,)) in masks
        assert OTHER_READING.model_copy(update={"block_counts": (count,)}) in masks


def test_the_tables_own_counts_stand_for_the_papers() -> None:
    found, _ = candidates_of(mask_specs(small_table()))
    literal = [c.mask.block_counts for c in found if isinstance(c.mask, ComplexMask) and c.mask.grid == "per_side"]
    assert literal == [(2, 4), (2,), (4,)]


def test_a_family_is_a_method_and_its_reading() -> None:
    assert family_of(BoxMask()) == family_of(BoxMask(law="classmix")) == "cutmix"
    assert family_of(ComplexMask()) == "complexmix: p x p blocks, half of all classes"
    assert family_of(OTHER_READING) == "complexmix: p blocks in all, half of those present"
    assert family_of(ComplexMask(rounding="ceil")) == "complexmix: p x p blocks, half of all classes, rounding ceil"


# --- on which images, with which draws ----------------------------------------------------------------------------


def test_the_survey_says_what_was_measured(survey: MaskSurvey) -> None:
    assert (survey.dataset, survey.split, survey.height, survey.width) == ("small", "train", 32, 64)
    assert {len(mask.images) for mask in survey.masks} == {4} == {survey.num_images}
    assert survey.left_out == ("ict",)
    assert [mask.name for mask in survey.masks][:3] == ["Blocks", "french", "cutmix_classmix_law"]


def test_the_same_seed_gives_the_same_numbers_and_another_others(small_data: Path, survey: MaskSurvey) -> None:
    assert repr(survey_of(small_data)) == repr(survey)
    other = replace(table_of(Blocks=Mix(mask=ComplexMask(block_counts=(2, 16)))), seeds=(1,))
    assert repr(survey_of(small_data, other).masks) != repr(survey.masks)


def test_fewer_images_are_the_first_of_more(small_data: Path, survey: MaskSurvey) -> None:
    fewer = survey_of(small_data, num_images=2)
    assert repr([mask.images for mask in fewer.masks]) == repr([mask.images[:2] for mask in survey.masks])


def test_all_images_are_measured_where_more_are_asked_for(small_data: Path) -> None:
    assert survey_of(small_data, num_images=50).num_images == 16


def test_images_without_labels_are_not_measured(tmp_path: Path) -> None:
    write_small_dataset(tmp_path / "data")
    (tmp_path / "data/labels/train/03.png").unlink()
    assert survey_of(tmp_path, num_images=50).num_images == 15


def test_a_mask_is_the_one_that_training_draws_at_that_step() -> None:
    label = np.random.default_rng(0).integers(0, 4, (20, 30)).astype(np.uint8)
    spec, key = ComplexMask(block_counts=(1, 2, 4)), key_of(3, "mix_mask", 7)
    drawn = build_mask(spec, 4)(torch.from_numpy(label).long()[None], sample_keys(key, torch.tensor([0])), key)
    assert measure([build_mask(spec, 4)], label, key)[0].area_share == pytest.approx(float(drawn.mean()))


def test_the_mask_is_drawn_from_the_filled_map_and_judged_on_the_true_one() -> None:
    label = np.full((4, 8), IGNORE, np.uint8)
    label[:, 0], label[:, 7] = 1, 3
    filled, key = label.copy(), key_of(0, "mix_mask", 0)
    filled[:, :4], filled[:, 4:] = 1, 3
    assert measure([build_mask(ClassMask(), 4)], label, key)[0] == replace(
        measure([build_mask(ClassMask(), 4)], filled, key)[0],
        artificial_edge_share=ANY,  # the one edge lies between ignored pixels
        ignored_edge_share=1.0,
        cut_object_share=ANY,  # four pixels are no object
    )


def test_image_k_gets_the_masks_of_step_k(small_data: Path) -> None:
    box = table_of(CutMix=Mix(mask=BoxMask()))
    by_step = [survey_of(small_data, box, num_images=1, step=step).masks[0].images[0] for step in range(3)]
    edges = [image.edge_length for image in survey_of(small_data, box, num_images=3).masks[0].images]
    assert edges == [image.edge_length for image in by_step]  # a box does not look at the image
    assert len(set(edges)) > 1


# --- what has to come out -----------------------------------------------------------------------------------------


def test_class_masks_follow_true_labels_and_boxes_do_not(survey: MaskSurvey) -> None:
    shares = {mask.name: [image.artificial_edge_share for image in mask.images] for mask in survey.masks}
    assert shares["classmix"] == [0.0] * 4
    assert min(shares["french"]) > 0.5


def test_finer_blocks_are_more_complex_and_less_correct(survey: MaskSurvey) -> None:
    coarse, fine = (next(mask for mask in survey.masks if mask.name == f"Blocks p={count}") for count in (2, 16))
    for first, second in zip(coarse.images, fine.images, strict=True):
        assert first.edge_length < second.edge_length
        assert first.artificial_edge_share < second.artificial_edge_share
