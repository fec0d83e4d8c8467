"""The network every method sees: an image in [0, 1] goes in, logits of the image's size come out."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Normalization:
    """What a backbone is given: (image x scale - mean) / std; mean and std are in the order it gets the channels in."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float = 1.0
    is_bgr: bool = False


IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""torchvision's classification weights."""

COCO = Normalization(mean=(104.008, 116.669, 122.675), std=(1.0, 1.0, 1.0), scale=255.0, is_bgr=True)
"""The Caffe DeepLab-V2 weights of resnet101COCO-41f33a49.pth: blue first, 0 to 255, mean taken off."""


class SegmentationNetwork(nn.Module):
    """Normalise an image, run `backbone` and `head`, and bring the logits to the image's size.

    With `autocast_dtype` set to bfloat16, backbone and head compute in it where autocast holds that safe.

    Args:
        backbone: [N, 3, H, W] to features [N, F, h, w].
        head: features to logits [N, C, h, w].
    Source: bilinear with align_corners on, as in the trainers of the AdvSemiSeg lineage (ClassMix: in the trainer
        itself, French et al.: in the model, as here).
    """

    input_mean: Tensor
    input_std: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, *, normalization: Normalization = IMAGENET) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.autocast_dtype: torch.dtype | None = None
        self.normalize_by(normalization)

    def forward(self, image: Tensor) -> Tensor:
        """Score every class at every pixel.

        Args:
            image: [N, 3, H, W] float, RGB in [0, 1].
        Returns: logits [N, C, H, W] in float32, also under bfloat16 autocast; float64 for a float64 network.
        """
        with torch.autocast(image.device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
            logits = self.head(self.backbone(self.normalize(image)))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)

    def normalize_by(self, normalization: Normalization) -> None:
        """Give the backbone something else than its weights expect, before the network is moved or trained."""
        self.normalization = normalization
        self.register_buffer("input_mean", torch.tensor(normalization.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("input_std", torch.tensor(normalization.std).view(1, 3, 1, 1), persistent=False)

    def normalize(self, image: Tensor) -> Tensor:
        """Bring RGB in [0, 1], [N, 3, H, W], to what the backbone is to be given, in one pass over the image."""
        ordered = image.flip(1) if self.normalization.is_bgr else image
        return torch.addcmul(-self.input_mean / self.input_std, ordered, self.normalization.scale / self.input_std)

    def backbone_parameters(self) -> list[nn.Parameter]:
        """The backbone's parameters that are trained, each once."""
        return [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]

    def head_parameters(self) -> list[nn.Parameter]:
        """The head's parameters that are trained, each once."""
        return [parameter for parameter in self.head.parameters() if parameter.requires_grad]
