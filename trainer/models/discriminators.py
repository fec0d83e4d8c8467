"""The second players: a discriminator of label maps, pixel by pixel, and one of whole (class map, image) pairs."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.randomness import fold, fold_int, uniform

SLOPE = 0.2  # of the leaky ReLU below zero, in both


class PixelDiscriminator(nn.Module):
    """Judges every pixel of a map of class probabilities: real ones are one-hot ground truth.

    Args:
        num_classes: channels of the map.
        width: channels of the first convolution; the next have 2, 4 and 8 times as many, the last one.
    Source: Hung et al., AdvSemiSeg model/discriminator.py (docs/methods.md, card 4): five 4x4 convolutions of stride 2,
        leaky ReLU 0.2 behind all but the last, no batch norm; the trainer resizes its logits to the image, bilinear.
        Differs: height and width are not exchanged, which only square crops forgave.
    """

    def __init__(self, num_classes: int, width: int = 64) -> None:
        super().__init__()
        channels = [num_classes, width, 2 * width, 4 * width, 8 * width]
        self.features = nn.ModuleList(_halving(i, o) for i, o in pairwise(channels))
        self.classifier = _halving(channels[-1], 1)

    def forward(self, class_probs: Tensor) -> Tensor:
        """[N, C, H, W], H and W at least 32, to logits [N, H, W]: above 0 where the map looks like ground truth."""
        features = class_probs
        for layer in self.features:
            features = F.leaky_relu(layer(features), SLOPE)
        logits = F.interpolate(
            self.classifier(features), size=class_probs.shape[-2:], mode="bilinear", align_corners=True
        )
        return logits.squeeze(1)


class ImageDiscriminator(nn.Module):
    """Judges whole pairs of a class map and an image: one score each, and the features it rests on.

    Args:
        num_classes: channels of the class map; the image has three more.
        width: channels of the first convolution.
        dropout: probability with which a channel is dropped behind each of the first three convolutions.
    Source: Mittal et al., s4GAN model/discriminator.py (docs/methods.md, card 5): four 4x4 convolutions of stride 2,
        leaky ReLU 0.2, dropout of channels, average pooling, one linear layer, sigmoid. Differs: the pooling adapts to
        the map (theirs is 16x32, all of it at their crop); dropout is computed from keys; the score is a logit.
    """

    def __init__(self, num_classes: int, width: int = 64, dropout: float = 0.5) -> None:
        super().__init__()
        channels = [num_classes + 3, width, 2 * width, 4 * width, 8 * width]
        self.features = nn.ModuleList(_halving(i, o) for i, o in pairwise(channels))
        self.score = nn.Linear(channels[-1], 1)
        self.dropout = dropout

    def forward(self, class_map: Tensor, image: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Judge pairs.

        Args:
            class_map: [N, C, H, W], probabilities or one-hot; H and W at least 16.
            image: [N, 3, H, W] in [0, 1].
            keys: [N] int64, from which dropout is drawn; None for none.
        Returns: logits [N], above 0 where the pair looks real, and pooled features [N, 8 x width].
        """
        features = torch.cat([class_map, image], dim=1)
        for place, layer in enumerate(self.features):
            features = F.leaky_relu(layer(features), SLOPE)
            if keys is not None and place < len(self.features) - 1:
                factors = channel_dropout(keys, place, features.shape[1], self.dropout)
                features = features * factors[:, :, None, None].to(features.dtype)
        pooled = features.mean(dim=(2, 3))
        return self.score(pooled).squeeze(1), pooled


def channel_dropout(keys: Tensor, place: int, num_channels: int, probability: float) -> Tensor:
    """What channels are multiplied with, [N, channels] float64: 0 with `probability`, else 1 / (1 - it)."""
    channel = torch.arange(num_channels, device=keys.device)[None]
    kept = uniform(fold(keys[:, None], fold_int(place, 0) + channel)) >= probability
    return kept.double() / (1 - probability)


def _halving(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)
