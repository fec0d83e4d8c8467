"""What the published checkpoints hold, written down a second time from their description."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

Layout = dict[str, tuple[int, ...]]
STAGES = {"layer1": (64, 64), "layer2": (256, 128), "layer3": (512, 256), "layer4": (1024, 512)}
NUM_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep each test on one core and from one seed."""
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batch_norm_layout(name: str, channels: int) -> Layout:
    """The four tensors of a batch norm in a published file."""
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def block_layout(name: str, in_channels: int, channels: int) -> Layout:
    """The tensors of one bottleneck, without its shortcut."""
    layout: Layout = {f"{name}.conv1.weight": (channels, in_channels, 1, 1)}
    layout |= {f"{name}.conv2.weight": (channels, channels, 3, 3)}
    layout |= {f"{name}.conv3.weight": (4 * channels, channels, 1, 1)}
    for index, width in enumerate((channels, channels, 4 * channels), start=1):
        layout |= batch_norm_layout(f"{name}.bn{index}", width)
    return layout


def resnet_layout(depth: int) -> Layout:
    """The tensors of a ResNet without its classifier: 520 at depth 101."""
    layout: Layout = {"conv1.weight": (64, 3, 7, 7)} | batch_norm_layout("bn1", 64)
    for (stage, (in_channels, channels)), num_blocks in zip(STAGES.items(), NUM_BLOCKS[depth], strict=True):
        layout |= {f"{stage}.0.downsample.0.weight": (4 * channels, in_channels, 1, 1)}
        layout |= batch_norm_layout(f"{stage}.0.downsample.1", 4 * channels)
        for index in range(num_blocks):
            layout |= block_layout(f"{stage}.{index}", 4 * channels if index else in_channels, channels)
    return layout


def coco_layout(num_classes: int) -> Layout:
    """The 528 tensors of resnet101COCO-41f33a49.pth."""
    layout = resnet_layout(101)
    for index in range(4):
        layout |= {f"layer5.conv2d_list.{index}.weight": (num_classes, 2048, 3, 3)}
        layout |= {f"layer5.conv2d_list.{index}.bias": (num_classes,)}
    return layout


def imagenet_layout(depth: int) -> Layout:
    """A torchvision file: the body and its classifier."""
    return resnet_layout(depth) | {"fc.weight": (1000, 2048), "fc.bias": (1000,)}


@pytest.fixture
def layouts() -> dict[str, Layout]:
    """The layouts of the published files, by name."""
    return {"coco": coco_layout(21), "resnet50": imagenet_layout(50), "resnet101": imagenet_layout(101)}


@pytest.fixture
def fill() -> Callable[[Layout], dict[str, Tensor]]:
    """Tensors of a layout that are small on disk: the n-th is n / 1000 everywhere."""
    return lambda layout: {
        name: torch.full((1,), index / 1000).expand(shape) for index, (name, shape) in enumerate(layout.items())
    }
