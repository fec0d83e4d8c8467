"""Colour jitter and blur against torchvision, and their draws."""

from itertools import permutations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from tests import oracles
from trainer.data.transforms import _order, blur_kernel_size, gaussian_blur, jitter_colors, strong_augmentation
from trainer.spec import StrongAugmentation

NEVER = StrongAugmentation(jitter_probability=0, blur_probability=0)
ALWAYS = StrongAugmentation(jitter_probability=1, blur_probability=1)


def picture(height: int = 24, width: int = 40, dtype: torch.dtype = torch.float32) -> Tensor:
    """Two noisy pictures in [0, 1]."""
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(2), dtype=dtype)


@pytest.mark.parametrize(
    ("side", "size"), [(512, 51), (1024, 103), (64, 7), (128, 13), (360, 35), (480, 47), (321, 33), (20, 1), (8, 1)]
)
def test_the_kernel_is_the_odd_number_near_a_tenth_of_a_side(side: int, size: int) -> None:
    assert blur_kernel_size(side) == size


@pytest.mark.parametrize("sigma", [0.15, 0.5, 1.15])
@pytest.mark.parametrize(("height", "width"), [(64, 128), (33, 70), (20, 41)])
def test_the_blur_equals_torchvisions_in_both_precisions(height: int, width: int, sigma: float) -> None:
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-6)):  # torchvision's kernel is float32
        image = picture(height, width, dtype)
        kernel_size = [blur_kernel_size(width), blur_kernel_size(height)]
        expected = vision.gaussian_blur(image, kernel_size, [sigma, sigma])
        torch.testing.assert_close(gaussian_blur(image, sigma), expected, rtol=0, atol=tolerance)


def test_the_blur_at_the_papers_size_equals_torchvisions_full_kernel() -> None:
    image = picture(512, 1024)[:1, :1, :, :]
    expected = vision.gaussian_blur(image, [103, 51], [1.15, 1.15])
    torch.testing.assert_close(gaussian_blur(image, 1.15), expected, rtol=0, atol=1e-6)


def test_a_blur_wider_than_the_papers_equals_torchvisions_too() -> None:
    image = picture(400, 24, torch.float64)[:1, :1]
    expected = vision.gaussian_blur(image, [3, 39], [8.0, 8.0])
    torch.testing.assert_close(gaussian_blur(image, 8.0), expected, rtol=0, atol=1e-6)


def test_the_blur_keeps_a_flat_image_and_moves_no_mass_between_channels() -> None:
    image = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    image[:, 1] = 0.7
    torch.testing.assert_close(gaussian_blur(image, 1.0), image)


def test_no_jitter_strength_changes_nothing() -> None:
    image = picture()
    torch.testing.assert_close(jitter_colors(image, [0.1, 0.9, 0.3, 0.7, 0.5], 0.0), image, rtol=0, atol=1e-5)


def test_each_draw_moves_its_own_colour_property_both_ways() -> None:
    image, middle = picture(), [0.5] * 5
    changes = [vision.adjust_brightness, vision.adjust_contrast, vision.adjust_saturation, vision.adjust_hue]
    for place, change in enumerate(changes):
        for draw, amount in ((0.0, -0.25), (0.75, 0.125)):
            draws = [draw if other == place else value for other, value in enumerate(middle)]
            expected = change(image, amount if place == 3 else 1 + amount)
            torch.testing.assert_close(jitter_colors(image, draws, 0.25), expected, rtol=0, atol=1e-5)


def test_the_order_of_the_changes_matters_and_is_drawn() -> None:
    image = picture()
    results = [jitter_colors(image, [0.9, 0.1, 0.8, 0.2, number / 24], 0.25) for number in (0, 23)]
    assert not torch.allclose(results[0], results[1], atol=1e-3)


def test_the_draws_of_the_order_give_each_of_the_24_permutations_once() -> None:
    orders = [tuple(_order((number + 0.5) / 24)) for number in range(24)]
    assert sorted(orders) == sorted(permutations(range(4)))
    assert _order(1 - 2**-53) == list(orders[-1])


def test_with_probability_zero_the_image_stays_as_it_is() -> None:
    image = picture()
    for key in range(50):
        assert strong_augmentation(image, key, NEVER) is image


@pytest.mark.parametrize("spec", [ALWAYS, ALWAYS.model_copy(update={"blur_probability": 0.0})])
def test_with_probability_one_every_step_changes_the_image(spec: StrongAugmentation) -> None:
    image = picture()
    assert not any(torch.equal(strong_augmentation(image, key, spec), image) for key in range(20))


def test_jitter_comes_in_four_of_five_steps_and_blur_in_half_of_them() -> None:
    image = picture(8, 8)[:1]
    only_jitter = StrongAugmentation(blur_probability=0)
    only_blur = StrongAugmentation(jitter_probability=0, blur_sigma_min=1.0)
    wide = picture(8, 64)[:1]
    jittered = sum(strong_augmentation(image, key, only_jitter) is not image for key in range(300)) / 300
    blurred = sum(strong_augmentation(wide, key, only_blur) is not wide for key in range(300)) / 300
    assert jittered == pytest.approx(0.8, abs=0.06)
    assert blurred == pytest.approx(0.5, abs=0.08)


def test_sigma_is_drawn_within_its_range() -> None:
    image, spec = picture(32, 32), StrongAugmentation(jitter_probability=0, blur_probability=1)
    for key in range(5):
        sigma = 0.15 + oracles.uniform(oracles.fold(key, 7)) * (1.15 - 0.15)
        torch.testing.assert_close(strong_augmentation(image, key, spec), gaussian_blur(image, sigma))


def test_the_same_key_gives_the_same_image_and_another_key_another() -> None:
    image = picture()
    assert torch.equal(strong_augmentation(image, 5, ALWAYS), strong_augmentation(image.clone(), 5, ALWAYS))
    assert not torch.equal(strong_augmentation(image, 5, ALWAYS), strong_augmentation(image, 6, ALWAYS))


def test_images_of_a_batch_share_the_draw() -> None:
    image = picture()
    alone = torch.cat([strong_augmentation(image[i : i + 1], 9, ALWAYS) for i in range(2)])
    torch.testing.assert_close(strong_augmentation(image, 9, ALWAYS), alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_dtype_and_range_stay(dtype: torch.dtype) -> None:
    image = (2 * picture(dtype=dtype) - 0.5).clamp(0, 1)
    strongest = StrongAugmentation(jitter_probability=1, jitter_strength=0.5, blur_probability=1)
    for key in range(20):
        augmented = strong_augmentation(image, key, strongest)
        assert augmented.shape == image.shape
        assert augmented.dtype == dtype
        assert augmented.min() >= 0
        assert augmented.max() <= 1 + 1e-6


def test_the_given_image_is_left_alone() -> None:
    image = picture()
    before = image.clone()
    strong_augmentation(image, 3, ALWAYS)
    assert torch.equal(image, before)
