"""Masks against loops over blocks and pixels; 1 keeps image a."""

from itertools import pairwise

import pytest
import torch
from scipy import stats
from torch import Tensor

from tests import oracles
from trainer.build import build_mask
from trainer.methods.masks import block_index, grid_shape
from trainer.randomness import key_of, sample_keys
from trainer.spec import NAMED_METHODS, BlendMask, BoxMask, ClassMask, ComplexMask, CowMask, Mask, Mix

NUM_CLASSES = 7
MASKS: dict[str, Mask] = {
    **{name: m.mask for name, m in NAMED_METHODS.items() if isinstance(m, Mix) and m.mask.kind != "blend"},
    "complexmix, a count for each image": ComplexMask(block_counts=(2, 4, 8), count_scope="image"),
    "complexmix, halves rounded by a coin": ComplexMask(block_counts=(4,), rounding="random"),
}
CPU = torch.device("cpu")


def batch_key_of(step: int) -> int:
    """The host key of a step."""
    return key_of(0, "mix_mask", step)


def draw(spec: Mask, class_map: Tensor, step: int = 0, num_classes: int = NUM_CLASSES) -> Tensor:
    """The masks of a batch at a step."""
    keys = sample_keys(batch_key_of(step), torch.arange(len(class_map)))
    return build_mask(spec, num_classes)(class_map, keys, batch_key_of(step))


def classes_of(samples: int, height: int, width: int, num_classes: int = NUM_CLASSES) -> Tensor:
    """A class map in which every class is likely everywhere."""
    return torch.randint(num_classes, (samples, height, width), generator=torch.Generator().manual_seed(height))


# --- ICT: a share instead of a mask -------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 2.0])
def test_the_share_of_ict_follows_its_beta_distribution(alpha: float) -> None:
    share = draw(BlendMask(alpha=alpha), torch.zeros(20_000, 1, 1, dtype=torch.int64))[:, 0, 0, 0].double()
    below = [0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99]
    measured = [(share < limit).double().mean().item() for limit in below]
    assert measured == pytest.approx(stats.beta(alpha, alpha).cdf(below).tolist(), abs=0.012)


def test_the_share_of_ict_is_one_for_an_image_and_another_for_the_next_and_the_next_step() -> None:
    one, other = (draw(BlendMask(alpha=1.0), classes_of(2, 5, 7), step=step) for step in (0, 1))
    assert one.shape == (2, 1, 5, 7)
    assert len(one[0].unique()) == len(one[1].unique()) == 1
    assert len({one[0, 0, 0, 0].item(), one[1, 0, 0, 0].item(), other[0, 0, 0, 0].item()}) == 3


# --- open points of ComplexMix ------------------------------------------------------------------------------------


def test_with_a_count_for_each_image_both_counts_occur_in_a_batch() -> None:
    spec = ComplexMask(block_counts=(1, 8), count_scope="image")
    class_map = classes_of(1, 16, 16, 2).expand(64, -1, -1)
    mask = draw(spec, class_map, num_classes=2)
    whole = [torch.equal(m[0], class_map[0].float()) or torch.equal(m[0], 1 - class_map[0].float()) for m in mask]
    assert 10 < sum(whole) < 54  # with one block a mask is a class, or its complement


def test_an_image_with_its_own_count_gets_the_mask_of_that_count() -> None:
    class_map, counts = classes_of(32, 16, 16), (1, 2, 8)
    mixed = draw(ComplexMask(block_counts=counts, count_scope="image"), class_map)
    alone = [draw(ComplexMask(block_counts=(count,)), class_map) for count in counts]
    assert all(any(torch.equal(mixed[i], masks[i]) for masks in alone) for i in range(32))


def test_a_coin_rounds_half_of_three_classes_to_one_or_two() -> None:
    spec = ComplexMask(block_counts=(1,), rounding="random")
    mask = draw(spec, torch.arange(3).view(1, 1, 3).expand(400, -1, -1), num_classes=3)
    kept = mask.sum(dim=(1, 2, 3))
    assert set(kept.tolist()) == {1.0, 2.0}
    assert 150 < (kept == 2).sum() < 250


def test_a_coin_leaves_an_even_number_of_classes_alone() -> None:
    spec = ComplexMask(block_counts=(1,), rounding="random")
    mask = draw(spec, torch.arange(4).view(1, 1, 4).expand(100, -1, -1), num_classes=4)
    assert (mask.sum(dim=(1, 2, 3)) == 2).all()


# --- what holds for every mask ------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", MASKS.values(), ids=MASKS)
def test_a_mask_has_one_channel_of_zeros_and_ones(spec: Mask) -> None:
    mask = draw(spec, classes_of(3, 17, 30))
    assert mask.shape == (3, 1, 17, 30)
    assert mask.dtype == torch.float32
    assert set(mask.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("spec", MASKS.values(), ids=MASKS)
def test_the_same_keys_give_the_same_mask_and_others_another(spec: Mask) -> None:
    class_map = classes_of(2, 20, 24)
    assert torch.equal(draw(spec, class_map), draw(spec, class_map.clone()))
    assert not torch.equal(draw(spec, class_map), draw(spec, class_map, step=1))


@pytest.mark.parametrize("spec", MASKS.values(), ids=MASKS)
def test_equal_images_in_a_batch_get_masks_of_their_own(spec: Mask) -> None:
    mask = draw(spec, classes_of(1, 20, 24).expand(3, -1, -1))
    assert not torch.equal(mask[0], mask[1])
    assert not torch.equal(mask[1], mask[2])


@pytest.mark.parametrize("spec", MASKS.values(), ids=MASKS)
def test_the_mask_of_a_sample_does_not_depend_on_the_rest_of_the_batch(spec: Mask) -> None:
    class_map, keys = classes_of(4, 18, 22), sample_keys(batch_key_of(5), torch.arange(4))
    mask_fn = build_mask(spec, NUM_CLASSES)
    whole = mask_fn(class_map, keys, batch_key_of(5))
    alone = [mask_fn(class_map[i : i + 1], keys[i : i + 1], batch_key_of(5)) for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), whole)


# --- ClassMix -----------------------------------------------------------------------------------------------------


def kept_classes(mask: Tensor, class_map: Tensor) -> set[int]:
    """The classes of the kept pixels; AssertionError where a class is kept in part."""
    kept, dropped = (set(class_map[mask[0] == value].tolist()) for value in (1, 0))
    assert not kept & dropped
    return kept


def test_the_class_mask_keeps_the_classes_of_smallest_hash_in_image_a() -> None:  # polarity: 1 keeps image a
    class_map = torch.arange(5).repeat(1, 4, 2)
    key = int(sample_keys(batch_key_of(0), torch.arange(1)))
    expected = oracles.choose_by_hash(key, 0, range(5), NUM_CLASSES, 2)
    assert kept_classes(draw(ClassMask(), class_map)[0], class_map[0]) == expected


@pytest.mark.parametrize("present", range(1, NUM_CLASSES + 1))
def test_the_class_mask_keeps_half_of_the_present_classes_rounded_down(present: int) -> None:
    class_map = torch.arange(present).repeat(8, 5, 3)
    for sample in draw(ClassMask(), class_map):
        assert len(kept_classes(sample, class_map[0])) == present // 2


def test_the_class_mask_keeps_nothing_of_an_image_with_one_class() -> None:
    assert draw(ClassMask(), torch.full((2, 6, 6), 3)).sum() == 0


@pytest.mark.parametrize("step", range(4))
def test_the_class_mask_equals_the_mask_by_loops(step: int) -> None:
    class_map = classes_of(2, 9, 11)
    keys = sample_keys(batch_key_of(step), torch.arange(2)).tolist()
    for sample, key, found in zip(class_map.tolist(), keys, draw(ClassMask(), class_map, step), strict=True):
        expected = oracles.block_mask(sample, 1, 1, chooser(key, "of_present", "floor"))
        assert found[0].tolist() == expected


def test_every_class_is_kept_equally_often() -> None:
    mask = draw(ClassMask(), torch.arange(4).view(1, 2, 2).expand(2000, -1, -1))
    assert mask.mean(dim=(0, 1)).flatten().tolist() == pytest.approx([0.5] * 4, abs=0.04)


def test_a_class_map_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[N, H, W\] is wanted"):
        draw(ClassMask(), torch.zeros(4, 4, dtype=torch.int64))


# --- ComplexMix ---------------------------------------------------------------------------------------------------


def chooser(key: int, classes: str, rounding: str) -> oracles.Chooser:
    """The rule that chooses half of the classes of a block, for the oracle."""

    def choose(block: int, present: list[int]) -> set[int]:
        candidates = present if classes == "of_present" else list(range(NUM_CLASSES))
        count = (len(candidates) + (rounding == "ceil")) // 2
        return oracles.choose_by_hash(key, block, candidates, NUM_CLASSES, count)

    return choose


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
@pytest.mark.parametrize("classes", ["of_all", "of_present"])
@pytest.mark.parametrize(("height", "width", "count"), [(12, 12, 4), (13, 29, 4), (10, 23, 7), (6, 9, 16)])
def test_the_complex_mask_equals_the_mask_by_loops_over_blocks(
    height: int, width: int, count: int, classes: str, rounding: str
) -> None:
    spec = ComplexMask.model_validate({"block_counts": (count,), "classes": classes, "rounding": rounding})
    class_map = classes_of(2, height, width)
    keys = sample_keys(batch_key_of(0), torch.arange(2)).tolist()
    for sample, key, found in zip(class_map.tolist(), keys, draw(spec, class_map), strict=True):
        assert found[0].tolist() == oracles.block_mask(sample, count, count, chooser(key, classes, rounding))


@pytest.mark.parametrize(("length", "blocks"), [(512, 128), (120, 16), (13, 4), (10, 4), (7, 7), (9, 16), (8, 64)])
def test_block_edges_are_rounded_half_up_also_with_more_blocks_than_pixels(length: int, blocks: int) -> None:
    edges = oracles.block_edges(length, blocks)
    expected = [k for k, (first, end) in enumerate(pairwise(edges)) for _ in range(first, end)]
    assert block_index(length, 1, blocks, 1, CPU)[:, 0].tolist() == expected
    assert block_index(1, length, 1, blocks, CPU)[0].tolist() == expected


def test_blocks_are_numbered_row_by_row() -> None:
    assert block_index(2, 4, 2, 2, CPU).tolist() == [[0, 0, 1, 1], [2, 2, 3, 3]]


def block_of(mask: Tensor, row: int, column: int, side: int) -> Tensor:
    """The pixels of one square block of a mask."""
    return mask[..., row * side : (row + 1) * side, column * side : (column + 1) * side]


@pytest.mark.parametrize(("rounding", "kept"), [("floor", 3), ("ceil", 4)])
def test_of_all_keeps_half_of_all_classes_in_every_block(rounding: str, kept: int) -> None:
    spec = ComplexMask.model_validate({"block_counts": (4,), "rounding": rounding})
    class_map = torch.arange(NUM_CLASSES).view(1, 1, -1).repeat(2, 28, 4)  # each 7x7 block has every class
    mask = draw(spec, class_map)
    for row in range(4):
        for column in range(4):
            block = block_of(mask, row, column, 7)
            assert (block == block[:, :, :1]).all()  # a class, here a column, shares its fate
            assert (block[:, 0, 0].sum(dim=1) == kept).all()


def test_of_all_may_keep_the_only_class_of_a_block() -> None:
    area = draw(ComplexMask(block_counts=(16,)), torch.full((4, 32, 32), 2)).mean().item()
    assert area == pytest.approx(3 / 7, abs=0.05)


@pytest.mark.parametrize(("rounding", "kept"), [("floor", 1), ("ceil", 2)])
def test_of_present_keeps_half_of_the_classes_of_its_block(rounding: str, kept: int) -> None:
    spec = ComplexMask.model_validate({"block_counts": (2,), "classes": "of_present", "rounding": rounding})
    class_map = torch.tensor([[0, 1, 2, 3, 4, 5]]).repeat(2, 6, 1)  # left blocks have 0, 1, 2, right ones 3, 4, 5
    for mask in draw(spec, class_map)[:, 0]:
        for row in range(2):
            assert [int(block_of(mask, row, column, 3)[0].sum()) for column in range(2)] == [kept, kept]


def test_of_present_keeps_nothing_of_blocks_with_one_class() -> None:
    spec = ComplexMask(block_counts=(4,), classes="of_present")
    assert draw(spec, torch.full((2, 16, 16), 5)).sum() == 0


def test_blocks_choose_for_themselves() -> None:
    class_map = torch.arange(NUM_CLASSES).view(1, 1, -1).repeat(1, 28, 4)
    mask = draw(ComplexMask(block_counts=(4,)), class_map)[0, 0]
    choices = {tuple(block_of(mask, row, column, 7)[0].tolist()) for row in range(4) for column in range(4)}
    assert len(choices) > 8


@pytest.mark.parametrize(("count", "shape"), [(4, (2, 2)), (16, (4, 4)), (64, (8, 8)), (128, (8, 16))])
def test_blocks_in_total_make_the_squarest_grid_and_per_side_p_by_p(count: int, shape: tuple[int, int]) -> None:
    assert grid_shape(count, "in_total") == shape
    assert grid_shape(count, "per_side") == (count, count)


@pytest.mark.parametrize(("count", "rows", "columns"), [(4, 2, 2), (128, 8, 16)])
def test_a_grid_in_total_equals_the_mask_by_loops(count: int, rows: int, columns: int) -> None:
    spec = ComplexMask(block_counts=(count,), grid="in_total", classes="of_present")
    class_map = classes_of(1, 20, 34)
    key = int(sample_keys(batch_key_of(0), torch.arange(1)))
    expected = oracles.block_mask(class_map[0].tolist(), rows, columns, chooser(key, "of_present", "floor"))
    assert draw(spec, class_map)[0, 0].tolist() == expected


def test_the_block_count_is_drawn_once_for_the_batch_and_evenly_over_steps() -> None:
    counts = (1, 2, 4, 8)
    drawn = [int(oracles.uniform(oracles.fold(batch_key_of(step), 0)) * 4) for step in range(40)]
    assert {drawn.count(place) for place in range(4)} <= set(range(4, 18))
    class_map = classes_of(2, 16, 16)
    for step, place in enumerate(drawn):
        alone = draw(ComplexMask(block_counts=(counts[place],)), class_map, step)
        assert torch.equal(draw(ComplexMask(block_counts=counts), class_map, step), alone)


def test_the_mean_area_is_nine_of_nineteen() -> None:
    class_map = torch.arange(19).repeat(4, 32, 8)[:, :, :128]
    areas = [draw(ComplexMask(), class_map, step, 19).mean().item() for step in range(40)]
    # A step's area has a standard deviation of at most 0.02 (4 x 4 blocks, 4 images), so the mean's is below 0.004.
    assert sum(areas) / 40 == pytest.approx(9 / 19, abs=0.012)


# --- CutMix -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["french", "classmix"])
@pytest.mark.parametrize(("height", "width"), [(32, 64), (33, 47), (64, 31)])
def test_a_box_covers_half_of_the_image_within_rounding_and_lies_inside(law: str, height: int, width: int) -> None:
    spec = BoxMask.model_validate({"law": law})
    for mask in draw(spec, torch.zeros(50, height, width, dtype=torch.int64))[:, 0]:
        _, _, box_height, box_width = oracles.zero_box(mask.tolist())
        assert abs(box_height * box_width - height * width / 2) <= (height + width) / 2 + 0.25


@pytest.mark.parametrize("law", ["french", "classmix"])
def test_image_a_is_kept_outside_the_box_that_the_published_law_draws(law: str) -> None:
    keys = sample_keys(batch_key_of(0), torch.arange(40)).tolist()
    box = oracles.french_box if law == "french" else oracles.classmix_box
    masks = draw(BoxMask.model_validate({"law": law}), torch.zeros(40, 24, 50, dtype=torch.int64))
    for mask, key in zip(masks[:, 0], keys, strict=True):
        draws = [oracles.uniform(oracles.fold(key, place)) for place in range(3)]
        assert oracles.zero_box(mask.tolist()) == box(24, 50, draws)


@pytest.mark.parametrize(("law", "mean_width"), [("french", 64 * 0.5 / 0.6931), ("classmix", 48)])
def test_box_widths_are_log_uniform_by_one_law_and_uniform_by_the_other(law: str, mean_width: float) -> None:
    masks = draw(BoxMask.model_validate({"law": law}), torch.zeros(400, 64, 64, dtype=torch.int64))
    widths = (masks[:, 0] == 0).any(dim=1).sum(dim=1)
    assert widths.min() < 35 < 61 < widths.max()
    assert widths.double().mean().item() == pytest.approx(mean_width, abs=1)


# --- CowMix -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proportion", [0.25, 0.5, 0.75])
def test_the_cow_mask_keeps_about_the_asked_share(proportion: float) -> None:
    spec = CowMask(sigma_min=3, sigma_max=5, proportion_min=proportion, proportion_max=proportion)
    mask = draw(spec, torch.zeros(32, 64, 64, dtype=torch.int64))
    assert mask.mean().item() == pytest.approx(proportion, abs=0.03)


def test_the_cow_mask_at_its_ends_keeps_nothing_or_all() -> None:
    blank = torch.zeros(2, 20, 20, dtype=torch.int64)
    assert draw(CowMask(proportion_min=0, proportion_max=0), blank).sum() == 0
    assert draw(CowMask(proportion_min=1, proportion_max=1), blank).mean() == 1


def test_the_cow_mask_equals_the_mask_by_loops() -> None:
    spec = CowMask(sigma_min=2, sigma_max=2, proportion_min=0.3, proportion_max=0.3)
    key = int(sample_keys(batch_key_of(0), torch.arange(1)))
    expected = torch.tensor(oracles.cow_mask(14, 18, key, sigma=2.0, proportion=0.3))
    found = draw(spec, torch.zeros(1, 14, 18, dtype=torch.int64))[0, 0]
    assert (found != expected).sum() <= 1  # a pixel within float32's rounding of the threshold may fall either side


def test_the_cow_masks_sigma_and_share_are_drawn_within_their_ranges() -> None:
    spec = CowMask(sigma_min=2, sigma_max=4, proportion_min=0.2, proportion_max=0.8)
    areas = draw(spec, torch.zeros(64, 48, 48, dtype=torch.int64)).mean(dim=(1, 2, 3))
    assert 0.1 < areas.min() < 0.3
    assert 0.7 < areas.max() < 0.9


def test_a_larger_sigma_makes_larger_patches() -> None:
    def changes(sigma: float) -> float:
        mask = draw(CowMask(sigma_min=sigma, sigma_max=sigma), torch.zeros(8, 64, 64, dtype=torch.int64))
        return (mask[..., 1:] != mask[..., :-1]).float().mean().item()

    assert changes(2) > 1.5 * changes(4) > 2 * changes(8)
