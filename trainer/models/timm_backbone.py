"""Any timm feature extractor below the DeepLab-style head. timm is an extra and is imported when asked for."""

from importlib import import_module
from typing import Any, Literal

from torch import Tensor, nn

from trainer.models.batch_norm import BatchNormPolicy, GlobalBatchNorm2d, set_batch_norm_policy
from trainer.models.deeplab_v2 import DILATIONS, Branches, DilatedHead
from trainer.models.segmentation import Normalization, SegmentationNetwork

OutputStride = Literal[8, 16, 32]


class GlobalBatchNormAct2d(GlobalBatchNorm2d):
    """timm's batch norm with a drop layer and an activation behind it, over the global batch."""

    def __init__(self, plain: nn.BatchNorm2d, *, drop: nn.Module, act: nn.Module) -> None:
        super().__init__(plain.num_features, plain.eps, 0.1 if plain.momentum is None else plain.momentum)
        self.drop = drop
        self.act = act

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [N, C, H, W], then drop and activate as timm's layer does."""
        return self.act(self.drop(super().forward(input)))  # type: ignore[no-any-return]


class TimmBackbone(nn.Module):
    """The last feature map of a timm model, its batch norms over the global batch; random weights.

    Args:
        name: a timm model with a features_only form, such as "tf_efficientnet_lite0" or "resnet18".
        output_stride: image pixels per feature pixel; later strides become dilations.
    Raises: ValueError if timm is missing, has no such model, or the model cannot have this output stride.
    """

    def __init__(self, name: str, *, output_stride: OutputStride = 16) -> None:
        super().__init__()
        timm = import_timm()
        try:
            self.features = timm.create_model(name, pretrained=False, features_only=True, output_stride=output_stride)
        except (RuntimeError, AttributeError, TypeError, ValueError, NotImplementedError) as error:
            raise ValueError(f"timm cannot make {name!r} at output stride {output_stride}: {error}") from error
        stride = self.features.feature_info.reduction()[-1]
        if stride != output_stride:
            raise ValueError(
                f"{name!r} has output stride {stride}, not {output_stride}: "
                "choose --set network.output_stride=32, or another network.backbone"
            )
        self.out_channels: int = self.features.feature_info.channels()[-1]
        globalize_batch_norm(self.features)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, out_channels, H / output_stride, W / output_stride], rounded up."""
        return self.features(image)[-1]  # type: ignore[no-any-return]


def import_timm() -> Any:
    """The timm package. Raises: ValueError that names the extra where it is missing."""
    try:
        return import_module("timm")
    except ImportError as error:
        raise ValueError("a timm network needs the extra: pip install 'mixgrid[timm]'") from error


def globalize_batch_norm(module: nn.Module) -> None:
    """Replace every batch norm below `module` by its global form, in place; weights, buffers and names stay.

    Raises: ValueError for a batch norm without weights or running averages.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _globalized(child))
        else:
            globalize_batch_norm(child)


def _globalized(plain: nn.BatchNorm2d) -> GlobalBatchNorm2d:
    if not (plain.affine and plain.track_running_stats):
        raise ValueError(f"{plain} has no weights or no running averages: choose another network.backbone")
    drop, act = getattr(plain, "drop", nn.Identity()), getattr(plain, "act", nn.Identity())
    converted = GlobalBatchNormAct2d(plain, drop=drop, act=act)
    converted.load_state_dict(plain.state_dict())
    return converted


def timm_normalization(name: str) -> Normalization:
    """The mean and std that timm records for a model's weights, RGB in [0, 1].

    Raises: ValueError if timm is missing or records nothing for this model.
    """
    record = import_timm().get_pretrained_cfg(name)
    if record is None:
        raise ValueError(f"timm records no normalisation for {name!r}: choose another network.backbone")
    return Normalization(mean=tuple(record.mean), std=tuple(record.std))


def make_timm_network(
    backbone: str,
    num_classes: int,
    *,
    output_stride: OutputStride = 16,
    head_branches: Branches = 2,
    batch_norm: BatchNormPolicy = "trained",
) -> SegmentationNetwork:
    """A timm feature extractor below DeepLab-V2's head, normalised as timm records for its weights.

    The head's dilations are DeepLab-V2's at output stride 8 and shrink with coarser features, so that a branch reaches
    as many image pixels.

    Raises: ValueError if timm is missing or cannot make the backbone, or for an unknown policy or number of branches.
    """
    body = TimmBackbone(backbone, output_stride=output_stride)
    dilations = [dilation * 8 // output_stride for dilation in DILATIONS]
    head = DilatedHead(body.out_channels, num_classes, branches=head_branches, dilations=dilations)
    network = SegmentationNetwork(body, head, normalization=timm_normalization(backbone))
    set_batch_norm_policy(network, batch_norm)
    return network
