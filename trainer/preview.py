"""Pictures of what a mixing method does, and of what networks make of cached images, as rows of panels."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trainer.data.cache import CachedSplit
from trainer.data.resizing import Array
from trainer.data.streams import on_device
from trainer.distributed import next_of_global_batch
from trainer.drawing import Panel, colored, errors_on, small_image, small_map, wrong_share
from trainer.evaluate import Predict
from trainer.losses import IGNORE_INDEX
from trainer.methods.masks import MaskFn
from trainer.methods.mix import blend
from trainer.randomness import key_of, sample_keys


def mix_panels(
    images: Tensor,
    class_maps: Tensor,
    masks: Sequence[tuple[str, MaskFn]],
    palette: Array,
    *,
    seed: int,
    step: int,
) -> list[list[Panel]]:
    """Rows of titled pictures, uint8 [H, W, 3]: the pair and its class maps, then each method's mask and mix.

    Args:
        images: [2, 3, H, W] in [0, 1], images a and b.
        class_maps: [2, H, W] int64, predictions or labels; IGNORE_INDEX is drawn black and masked as class 0.
        masks: title and mask function of each method.
        palette: [C, 3] uint8.
    """
    batch_key = key_of(seed, "mix_mask", step)
    keys = sample_keys(batch_key, torch.arange(2))
    legal = torch.where(class_maps == IGNORE_INDEX, 0, class_maps)
    top = [
        ("image a", as_pixels(images[0])),
        ("image b", as_pixels(images[1])),
        ("classes of a", colored(as_map(class_maps[0]), palette)),
        ("classes of b", colored(as_map(class_maps[1]), palette)),
    ]
    rows = [top]
    for title, mask in masks:
        mix_mask = mask(legal, keys, batch_key)
        mixed = blend(mix_mask, images, next_of_global_batch(images))
        mixed_map = torch.where(mix_mask.squeeze(1) >= 0.5, class_maps, next_of_global_batch(class_maps))
        area = float(mix_mask[0].mean())
        rows.append(
            [
                (f"{title}: mask (white keeps a, {area:.0%})", _mask(mix_mask[0])),
                (f"{title}: a onto b", as_pixels(mixed[0])),
                (f"{title}: mixed classes", colored(as_map(mixed_map[0]), palette)),
                (f"{title}: b onto a", as_pixels(mixed[1])),
            ]
        )
    return rows


def as_pixels(image: Tensor) -> Array:
    """An image [3, H, W] in [0, 1] as [H, W, 3] uint8."""
    pixels: Array = (image.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return pixels


def as_map(class_map: Tensor) -> Array:
    """A class map [H, W] as uint8."""
    pixels: Array = class_map.byte().cpu().numpy()
    return pixels


def _mask(mix_mask: Tensor) -> Array:
    pixels: Array = (mix_mask[0] * 255).byte().cpu().numpy()[:, :, None].repeat(3, axis=2)
    return pixels


# --- predictions --------------------------------------------------------------------------------------------------


def spread_over(images: CachedSplit, num_images: int) -> list[int]:
    """Places of labelled images of a split, spread evenly over it: always the same, and no place twice."""
    labeled = np.flatnonzero(images.has_label)
    count = min(num_images, len(labeled))
    return [int(labeled[(2 * part + 1) * len(labeled) // (2 * count)]) for part in range(count)]


def predictor_on(
    images: CachedSplit, predict: Predict, *, device: torch.device, dtype: torch.dtype
) -> Callable[[nn.Module, int], Array]:
    """What says of a network and a place in a split the class of every pixel, [H, W] uint8, as evaluation does.

    The network is in eval mode for as long, and in its own mode again afterwards, come what may.
    """

    @torch.no_grad()
    def class_map_of(network: nn.Module, place: int) -> Array:
        was_training = network.training
        network.eval()
        try:
            image = on_device(torch.from_numpy(images.images([place])), device, dtype)
            return as_map(predict(network, image)[0])
        finally:
            network.train(was_training)

    return class_map_of


def truth_panels(name: str, image: Array, label: Array, palette: Array) -> list[Panel]:
    """An image [H, W, 3] and its label [H, W], both small."""
    return [(name, small_image(image)), ("truth", colored(small_map(label), palette))]


def prediction_panels(title: str, image: Array, label: Array, prediction: Array, palette: Array) -> list[Panel]:
    """A prediction [H, W] for an image, and its errors against the label, both small."""
    small_prediction = small_map(prediction)
    errors = errors_on(small_image(image), small_map(label), small_prediction)
    wrong = wrong_share(label, prediction)
    return [(title, colored(small_prediction, palette)), (f"{title}: {wrong:.1%} wrong", errors)]
