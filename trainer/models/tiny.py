"""A small residual network that trains from random weights in seconds on one CPU thread."""

from typing import Literal

from torch import Tensor, nn

from trainer.models.batch_norm import BatchNormPolicy, GlobalBatchNorm2d, set_batch_norm_policy
from trainer.models.deeplab_v2 import Branches, DilatedHead
from trainer.models.segmentation import IMAGENET, SegmentationNetwork

OutputStride = Literal[4, 8]
DILATIONS = (1, 3, 6, 9)  # the features of a 64x128 image are 16x32 or 8x16: 6, 12, 18, 24 would see padding


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, projected where the shape changes (He et al. 2016, arXiv:1512.03385)."""

    is_block = True

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn1 = GlobalBatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = GlobalBatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        keeps_shape = stride == 1 and in_channels == channels
        self.downsample = nn.Identity() if keeps_shape else _projection(in_channels, channels, stride)

    def forward(self, features: Tensor) -> Tensor:
        """[N, in_channels, h, w] to [N, channels, h / stride, w / stride], rounded up."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(features)))))
        return self.relu(residual + self.downsample(features))  # type: ignore[no-any-return]


def _projection(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
    return nn.Sequential(convolution, GlobalBatchNorm2d(channels))


class TinyBackbone(nn.Module):
    """A strided stem and three residual blocks, drawn as in He et al. 2015 (arXiv:1502.01852, fan-out form).

    That start suits training from nothing, where DeepLab-V2's normal(0, 0.01) counts on weights from a file.

    Args:
        width: channels of the stem; the features have 4 x width.
        output_stride: 8, or 4 for finer features at half as much time again.
    Raises: ValueError for another output stride.
    """

    def __init__(self, width: int = 16, *, output_stride: OutputStride = 4) -> None:
        super().__init__()
        if output_stride not in (4, 8):
            raise ValueError(f"the tiny network has output stride 4 or 8, not {output_stride}")
        self.out_channels = 4 * width
        self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.bn1 = GlobalBatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = ResidualBlock(width, width)
        self.layer2 = ResidualBlock(width, 2 * width, stride=2)
        self.layer3 = ResidualBlock(2 * width, 4 * width, stride=output_stride // 4, dilation=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, 4 x width, H / output_stride, W / output_stride], rounded up."""
        features = self.relu(self.bn1(self.conv1(image)))
        return self.layer3(self.layer2(self.layer1(features)))  # type: ignore[no-any-return]


def make_tiny_network(
    num_classes: int,
    *,
    width: int = 16,
    head_branches: Branches = 2,
    batch_norm: BatchNormPolicy = "trained",
    output_stride: OutputStride = 4,
) -> SegmentationNetwork:
    """A network for demonstrations and tests: the same kind of head as DeepLab-V2 on a small residual body.

    Raises: ValueError for an unknown number of branches, output stride or batch-norm policy.
    """
    backbone = TinyBackbone(width, output_stride=output_stride)
    head = DilatedHead(backbone.out_channels, num_classes, branches=head_branches, dilations=DILATIONS)
    network = SegmentationNetwork(backbone, head, normalization=IMAGENET)
    set_batch_norm_policy(network, batch_norm)
    return network
