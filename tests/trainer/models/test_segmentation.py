import pytest
import torch
from torch import nn

from trainer.models.segmentation import COCO, IMAGENET, SegmentationNetwork
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
