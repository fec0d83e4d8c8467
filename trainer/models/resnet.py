"""The residual body below DeepLab-V2, with the names of the published COCO checkpoint. Knows no head."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from trainer.models.batch_norm import GlobalBatchNorm2d

Depth = Literal[50, 101]
NUM_BLOCKS: dict[int, tuple[int, int, int, int]] = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


@dataclass(frozen=True, slots=True)
class Body:
    """What the published bodies differ in; their tensors have the same names and shapes.

    `strides_3x3`: the stride of a block is in its 3x3 instead of its first 1x1. `pools_with_ceil`: the stem's pooling
    rounds sizes up. `first_keeps_dilation`: the first block of a dilated stage has the dilation of the stage before.
    """

    strides_3x3: bool
    pools_with_ceil: bool
    first_keeps_dilation: bool


CAFFE = Body(strides_3x3=False, pools_with_ceil=True, first_keeps_dilation=False)
"""AdvSemiSeg's model file, which ClassMix, s4GAN and French et al. share; what the COCO weights were trained in."""
TORCHVISION = Body(strides_3x3=True, pools_with_ceil=False, first_keeps_dilation=True)
"""torchvision's resnet with replace_stride_with_dilation=[False, True, True], which DST-CBC uses (methods.md, 6)."""


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut.

    Args:
        channels: width of the 3x3; the block puts out 4 x channels.
        strides_3x3: whether the stride is in the 3x3 (torchvision) or in the first 1x1 (Caffe).
        projects: whether the shortcut is a 1x1 convolution with batch norm instead of the identity.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        strides_3x3: bool = False,
        projects: bool = False,
    ) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        strides = (1, stride) if strides_3x3 else (stride, 1)
        self.conv1 = nn.Conv2d(in_channels, channels, 1, stride=strides[0], bias=False)
        self.bn1 = GlobalBatchNorm2d(channels)
        self.conv2 = nn.Conv2d(
            channels, channels, 3, stride=strides[1], padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = GlobalBatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = GlobalBatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, out_channels, stride) if projects else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """[N, in_channels, h, w] to [N, 4 x channels, h / stride, w / stride], rounded up."""
        residual = self.relu(self.bn1(self.conv1(features)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return self.relu(residual + self.downsample(features))  # type: ignore[no-any-return]


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(convolution, GlobalBatchNorm2d(out_channels))


class ResNet(nn.Module):
    """ResNet at output stride 8: stages 3 and 4 are dilated by 2 and 4 instead of strided.

    Source: Chen et al. 2018 (DeepLab-V2), arXiv:1606.00915, section 3.1, in the layout of AdvSemiSeg's model file:
    a projection at the first block of every stage, no convolution biases, weights from normal(0, 0.01); `body` says
    what DST-CBC's differs in.
    """

    out_channels = 512 * Bottleneck.expansion
    output_stride = 8

    def __init__(self, depth: Depth = 101, body: Body = CAFFE) -> None:
        super().__init__()
        if depth not in NUM_BLOCKS:
            raise ValueError(f"no ResNet of depth {depth} here: choose from {', '.join(map(str, NUM_BLOCKS))}")
        first, second, third, fourth = NUM_BLOCKS[depth]
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = GlobalBatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=body.pools_with_ceil)
        self.layer1 = _stage(body, first, 64, 64)
        self.layer2 = _stage(body, second, 256, 128, stride=2)
        self.layer3 = _stage(body, third, 512, 256, dilation=2)
        self.layer4 = _stage(body, fourth, 1024, 512, dilation=4)
        initialize_convolutions(self)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, 2048, h, w]: 512x1024 gives 65x129 (64x128 without ceil), 321x321 gives 41x41."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        return self.layer4(self.layer3(self.layer2(self.layer1(features))))  # type: ignore[no-any-return]


def _stage(
    body: Body, num_blocks: int, in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    before = max(1, dilation // 2)  # each dilated stage doubles the dilation of the one before
    first = Bottleneck(
        in_channels,
        channels,
        stride=stride,
        dilation=before if body.first_keeps_dilation else dilation,
        strides_3x3=body.strides_3x3,
        projects=True,
    )
    wide = channels * Bottleneck.expansion
    return nn.Sequential(first, *(Bottleneck(wide, channels, dilation=dilation) for _ in range(num_blocks - 1)))


def initialize_convolutions(module: nn.Module) -> None:
    """Draw every convolution's weight from normal(0, 0.01), as AdvSemiSeg's model file does; biases stay."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.normal_(child.weight, 0.0, 0.01)
