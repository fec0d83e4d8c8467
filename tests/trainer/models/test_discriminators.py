"""Discriminators against loops, and their shapes against the cards."""

import pytest
import torch
from torch import Tensor, nn

from tests import oracles
from trainer.models.discriminators import ImageDiscriminator, PixelDiscriminator, channel_dropout

KEYS = torch.tensor([3, -8, 1 << 40])


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    """Its convolutions in order."""
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def by_loops(network: nn.Module, planes: oracles.Planes, factors: list[list[float]] | None = None) -> oracles.Planes:
    """Four 4x4 convolutions of stride 2 with a leaky ReLU of 0.2 each, channels times the factors of each layer."""
    for place, layer in enumerate(convolutions(network)[:4]):
        planes = oracles.convolved(planes, layer.weight.tolist(), layer.bias.tolist(), stride=2, padding=1)
        planes = oracles.leaky(planes, 0.2)
        if factors is not None and place < len(factors):
            planes = [[[v * f for v in row] for row in p] for p, f in zip(planes, factors[place], strict=True)]
    return planes


def score_by_loops(network: ImageDiscriminator, planes: oracles.Planes) -> tuple[float, list[float]]:
    """The mean of each plane, and what the linear layer makes of them."""
    pooled = [sum(sum(row) for row in plane) / (len(plane) * len(plane[0])) for plane in planes]
    weights = network.score.weight[0].tolist()
    return sum(w * p for w, p in zip(weights, pooled, strict=True)) + network.score.bias.item(), pooled


# --- of pixels ----------------------------------------------------------------------------------------------------


def test_the_pixel_discriminator_has_five_halving_convolutions_and_nothing_else() -> None:
    network = PixelDiscriminator(19)
    shapes = [(c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding) for c in convolutions(network)]
    widths = [(19, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    assert shapes == [(*width, (4, 4), (2, 2), (1, 1)) for width in widths]
    assert {type(module) for module in network.modules()} == {PixelDiscriminator, nn.ModuleList, nn.Conv2d}


@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 32)])
def test_the_pixel_discriminator_equals_its_loops(height: int, width: int) -> None:
    network = PixelDiscriminator(2, width=1).double()
    class_probs = torch.rand(1, 2, height, width, dtype=torch.float64)
    last = convolutions(network)[4]
    nn.init.constant_(last.bias, -1.0)  # a judgement may be below zero
    (judged,) = oracles.convolved(
        by_loops(network, class_probs[0].tolist()), last.weight.tolist(), last.bias.tolist(), stride=2, padding=1
    )
    expected = torch.tensor([oracles.resized(judged, height, width)], dtype=torch.float64)
    torch.testing.assert_close(network(class_probs), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("height", "width"), [(512, 1024), (1024, 512), (33, 47)])
def test_every_pixel_of_a_map_that_is_not_square_gets_a_judgement(height: int, width: int) -> None:
    with torch.device("meta"):
        assert PixelDiscriminator(19)(torch.empty(2, 19, height, width)).shape == (2, height, width)


# --- of images ----------------------------------------------------------------------------------------------------


def test_the_image_discriminator_has_four_halving_convolutions_and_a_linear_layer() -> None:
    network = ImageDiscriminator(19)
    shapes = [(c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding) for c in convolutions(network)]
    widths = [(22, 64), (64, 128), (128, 256), (256, 512)]
    assert shapes == [(*width, (4, 4), (2, 2), (1, 1)) for width in widths]
    assert (network.score.in_features, network.score.out_features) == (512, 1)
    assert {type(m) for m in network.modules()} == {ImageDiscriminator, nn.ModuleList, nn.Conv2d, nn.Linear}


def test_the_image_discriminator_gives_one_score_and_its_features_for_each_pair() -> None:
    with torch.device("meta"):
        score, features = ImageDiscriminator(19)(torch.empty(4, 19, 256, 512), torch.empty(4, 3, 256, 512))
    assert (score.shape, features.shape) == ((4,), (4, 512))


@pytest.mark.parametrize("keys", [None, KEYS[:2]])
def test_the_image_discriminator_equals_its_loops(keys: Tensor | None) -> None:
    network = ImageDiscriminator(1, width=2, dropout=0.5).double()
    class_map, image = (torch.rand(2, channels, 16, 32, dtype=torch.float64) for channels in (1, 3))
    score, features = network(class_map, image, keys)
    for place in range(2):
        factors = None
        if keys is not None:  # behind the first three convolutions, not behind the fourth
            factors = [channel_dropout(keys, layer, 2 * 2**layer, 0.5)[place].tolist() for layer in range(3)]
        planes = by_loops(network, torch.cat([class_map, image], dim=1)[place].tolist(), factors)
        expected, pooled = score_by_loops(network, planes)
        assert score[place].item() == pytest.approx(expected, rel=1e-12)
        assert features[place].tolist() == pytest.approx(pooled, rel=1e-12)


# --- dropout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5])
def test_channels_are_dropped_with_the_probability_and_the_others_scaled_up(probability: float) -> None:
    factors = channel_dropout(torch.arange(100), 0, 512, probability)
    assert set(factors.unique().tolist()) == {1 / (1 - probability)} | ({0.0} if probability else set())
    assert (factors == 0).double().mean().item() == pytest.approx(probability, abs=0.01)
    assert factors.mean().item() == pytest.approx(1, abs=0.02)


def test_the_same_keys_drop_the_same_channels_and_others_others() -> None:
    factors = channel_dropout(KEYS, 1, 64, 0.5)
    assert torch.equal(factors, channel_dropout(KEYS, 1, 64, 0.5))
    assert torch.equal(factors[1:2], channel_dropout(KEYS[1:2], 1, 64, 0.5))  # whoever else is in the batch
    assert not torch.equal(factors[0], factors[1])
    assert not torch.equal(factors, channel_dropout(KEYS, 2, 64, 0.5))


def test_a_score_depends_on_its_own_pair_alone() -> None:
    network = ImageDiscriminator(3, width=2).double()
    class_map, image = torch.rand(3, 3, 16, 16, dtype=torch.float64), torch.rand(3, 3, 16, 16, dtype=torch.float64)
    whole, _ = network(class_map, image, KEYS)
    alone, _ = network(class_map[1:2], image[1:2], KEYS[1:2])
    torch.testing.assert_close(alone, whole[1:2])
