import pytest
import torch
from torch import nn

from trainer.models.segmentation import COCO, IMAGENET, Normalization, SegmentationNetwork
from trainer.models.tiny import make_tiny_network


def network_of(backbone: nn.Module, **options: object) -> SegmentationNetwork:
    return SegmentationNetwork(backbone, nn.Conv2d(3, 2, 1), **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_have_the_size_of_the_image_and_the_dtype_of_the_network(dtype: torch.dtype) -> None:
    network = make_tiny_network(5, width=4).to(dtype)
    logits = network(torch.rand(2, 3, 33, 50, dtype=dtype))
    assert logits.shape == (2, 5, 33, 50)
    assert logits.dtype == dtype


def test_logits_are_float32_under_bfloat16_autocast() -> None:
    network = make_tiny_network(5, width=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(torch.rand(2, 3, 32, 32))
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.head_parameters())


def test_corner_logits_are_those_of_the_corner_features() -> None:
    network = network_of(nn.AvgPool2d(4))
    image = torch.rand(1, 3, 16, 24)
    features = network.head(network.backbone(network.normalize(image)))
    torch.testing.assert_close(network(image)[..., [0, -1], [0, -1]], features[..., [0, -1], [0, -1]])


def test_imagenet_weights_see_standardized_rgb() -> None:
    image = torch.rand(2, 3, 4, 4)
    expected = torch.stack(
        [
            (image[:, 0] - 0.485) / 0.229,
            (image[:, 1] - 0.456) / 0.224,
            (image[:, 2] - 0.406) / 0.225,
        ],
        dim=1,
    )
    torch.testing.assert_close(network_of(nn.Identity(), normalization=IMAGENET).normalize(image), expected)


def test_coco_weights_see_blue_first_and_0_to_255() -> None:
    red = torch.zeros(1, 3, 1, 1)
    red[:, 0] = 1
    seen = network_of(nn.Identity(), normalization=COCO).normalize(red).flatten()
    torch.testing.assert_close(seen, torch.tensor([-104.008, -116.669, 255 - 122.675]))


def seen_by_the_network(normalization: Normalization, red: int, green: int, blue: int) -> list[float]:
    """The three channels that the first layer gets of one pixel of 8 bits."""
    pixel = torch.tensor([red, green, blue], dtype=torch.float64).view(1, 3, 1, 1) / 255
    network = network_of(nn.Identity())
    network.normalize_by(normalization)
    network.double()
    return network.normalize(pixel).flatten().tolist()


# The pixel is red 200, green 100, blue 50; each row is worked out by hand from docs/methods.md.
@pytest.mark.parametrize(
    ("normalization", "wanted"),
    [
        # Adversarial: blue, green, red minus the COCO mean of each, then turned round: weights for BGR see RGB.
        (
            Normalization((122.675, 116.669, 104.008), (1.0, 1.0, 1.0), 255.0, is_bgr=False),
            [77.325, -16.669, -54.008],
        ),
        # s4GAN: blue, green, red minus a mean written as red, green, blue, then divided by 255.
        (
            Normalization((73.158, 82.909, 72.392), (255.0, 255.0, 255.0), 255.0, is_bgr=True),
            [-23.158 / 255, 17.091 / 255, 127.608 / 255],
        ),
        # ClassMix: the same without the division.
        (Normalization((73.158, 82.909, 72.392), (1.0, 1.0, 1.0), 255.0, is_bgr=True), [-23.158, 17.091, 127.608]),
    ],
)
def test_the_published_mistakes_can_be_had(normalization: Normalization, wanted: list[float]) -> None:
    assert seen_by_the_network(normalization, 200, 100, 50) == pytest.approx(wanted, abs=1e-5)


def test_a_later_normalization_replaces_the_first_and_is_not_saved() -> None:
    network = network_of(nn.Identity(), normalization=COCO)
    network.normalize_by(IMAGENET)
    image = torch.rand(1, 3, 2, 2)
    assert torch.equal(network.normalize(image), network_of(nn.Identity()).normalize(image))
    assert list(network.state_dict()) == ["head.weight", "head.bias"]


def test_normalization_follows_the_network_and_is_not_saved() -> None:
    network = network_of(nn.Identity()).double()
    assert network.input_mean.dtype == network.input_std.dtype == torch.float64
    assert list(network.state_dict()) == ["head.weight", "head.bias"]


def test_each_trained_parameter_is_listed_once() -> None:
    shared = nn.Conv2d(3, 3, 1)
    network = network_of(nn.Sequential(shared, shared, nn.Conv2d(3, 3, 1)))
    network.backbone[2].bias.requires_grad_(False)
    assert [id(parameter) for parameter in network.backbone_parameters()] == [
        id(parameter) for parameter in (shared.weight, shared.bias, network.backbone[2].weight)
    ]
    assert len(network.head_parameters()) == 2
