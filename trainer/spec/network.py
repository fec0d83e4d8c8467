"""The networks a trial may train, and what their weights start from."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.spec.base import Part


class DeepLabV2(Part):
    """DeepLab-V2 as the published codes run it (docs/methods.md, "The shared network").

    `body`: "caffe" is AdvSemiSeg's (stride in the first 1x1 of a block, ceil-mode pooling, every block of a stage
    dilated alike); "torchvision" is DST-CBC's (stride in the 3x3, floor, the first block of a dilated stage keeps the
    dilation before it).
    """

    kind: Literal["deeplab_v2"] = "deeplab_v2"
    backbone: Literal["resnet50", "resnet101"] = "resnet101"
    body: Literal["caffe", "torchvision"] = "caffe"
    head_branches: Literal[2, 4] = 2
    batch_norm: Literal["batch_statistics", "frozen", "trained"] = "batch_statistics"


class TinyNetwork(Part):
    """A small residual network with the same kind of head: trains in seconds on a CPU."""

    kind: Literal["tiny"] = "tiny"
    width: int = Field(default=16, ge=4, le=512)
    output_stride: Literal[4, 8] = 4
    head_branches: Literal[2, 4] = 2
    batch_norm: Literal["batch_statistics", "frozen", "trained"] = "trained"


class TimmNetwork(Part):
    """A timm feature extractor below the same head (extra `timm`)."""

    kind: Literal["timm"] = "timm"
    backbone: str = "tf_efficientnet_lite0"
    output_stride: Literal[8, 16, 32] = 16
    head_branches: Literal[2, 4] = 2
    batch_norm: Literal["batch_statistics", "frozen", "trained"] = "trained"


Network = Annotated[DeepLabV2 | TinyNetwork | TimmNetwork, Field(discriminator="kind")]
InitialWeights = Literal["random", "imagenet", "coco"]
