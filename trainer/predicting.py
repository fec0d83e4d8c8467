"""Classes of images of any size, by the protocol that a trial was judged by. Knows neither storage nor files."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.build import DTYPES, PREDICTORS
from trainer.data.resizing import Array, resize_image
from trainer.data.streams import PIXELS_AT_ONCE, on_device
from trainer.preview import as_map
from trainer.trained import NetworkName, Trained


class Predictor:
    """A trained network that says the class of every pixel of images, at the images' own size.

    Judged at the trained size, an image is brought there by the trial's own filter and the logits are brought back
    (bilinear, aligned corners, as within the network) before the arg-max; judged at full size, whole or in windows, it
    is seen as it is.
    """

    def __init__(self, trained: Trained, name: NetworkName, device: torch.device) -> None:
        self._spec = trained.spec
        self._network = trained.network(name, device)
        self._predict = PREDICTORS[trained.spec.evaluation.protocol](trained.spec)
        self._device = device

    def at_once(self, height: int, width: int) -> int:
        """How many images of a size to give at once."""
        dataset = self._spec.dataset
        seen = dataset.height * dataset.width if self._spec.evaluation.is_resized else height * width
        return max(1, PIXELS_AT_ONCE // seen)

    @torch.no_grad()
    def __call__(self, images: Sequence[Array]) -> list[Array]:
        """Predict images [H, W, 3] uint8 of one size. Returns: for each its classes, [H, W] uint8."""
        if not self._spec.evaluation.is_resized:
            return [as_map(each) for each in self._predict(self._network, self._batch(images))]
        dataset, size = self._spec.dataset, images[0].shape[:2]
        resized = [
            resize_image(image, height=dataset.height, width=dataset.width, rule=dataset.image_filter)
            for image in images
        ]
        logits = self._network(self._batch(resized))
        return [as_map(_enlarged(each, size).argmax(dim=0)) for each in logits]

    def _batch(self, images: Sequence[Array]) -> Tensor:
        return on_device(torch.from_numpy(np.stack(images)), self._device, DTYPES[self._spec.precision])


def _enlarged(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Logits [C, h, w] at another size, one image at a time: they take the room of C images."""
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=True)[0]
