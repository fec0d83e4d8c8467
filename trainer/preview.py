"""Pictures of what a mixing method does: images a and b, what the teacher sees in them, the mask and the mix."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from trainer.distributed import next_of_global_batch
from trainer.losses import IGNORE_INDEX
from trainer.methods.masks import MaskFn
from trainer.methods.mix import blend
from trainer.randomness import key_of, sample_keys

_GAP = 6
_TITLE_HEIGHT = 16
_VOID_COLOR = (0, 0, 0)


def mix_panels(
    images: Tensor,
    class_maps: Tensor,
    masks: Sequence[tuple[str, MaskFn]],
    palette: np.ndarray,
    *,
    seed: int,
    step: int,
) -> list[list[tuple[str, np.ndarray]]]:
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
        ("image a", _image(images[0])),
        ("image b", _image(images[1])),
        ("classes of a", _colors(class_maps[0], palette)),
        ("classes of b", _colors(class_maps[1], palette)),
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
                (f"{title}: a onto b", _image(mixed[0])),
                (f"{title}: mixed classes", _colors(mixed_map[0], palette)),
                (f"{title}: b onto a", _image(mixed[1])),
            ]
        )
    return rows


def png_of(rows: Sequence[Sequence[tuple[str, np.ndarray]]], *, scale: int = 1) -> bytes:
    """Draw titled pictures as one PNG; `scale` enlarges each pixel."""
    height, width = (scale * side for side in rows[0][0][1].shape[:2])
    columns = max(len(row) for row in rows)
    cell = (width + _GAP, height + _TITLE_HEIGHT + _GAP)
    sheet = Image.new("RGB", (columns * cell[0] + _GAP, len(rows) * cell[1] + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for row_number, row in enumerate(rows):
        for column, (title, picture) in enumerate(row):
            left, top = _GAP + column * cell[0], _GAP + row_number * cell[1]
            pen.text((left, top), title, fill="black")
            enlarged = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (left, top + _TITLE_HEIGHT))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def scale_for(width: int) -> int:
    """How much to enlarge pictures of a width so that titles fit below 320 pixels and above."""
    return max(1, -(-256 // width))


def picture_row(pictures: Sequence[tuple[str, Tensor]]) -> list[tuple[str, np.ndarray]]:
    """Titled images [3, H, W] in [0, 1] as a row of pictures."""
    return [(title, _image(image.detach().float())) for title, image in pictures]


def _image(image: Tensor) -> np.ndarray:
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _mask(mix_mask: Tensor) -> np.ndarray:
    return (mix_mask[0] * 255).byte().cpu().numpy()[:, :, None].repeat(3, axis=2)


def _colors(class_map: Tensor, palette: np.ndarray) -> np.ndarray:
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette
    table[IGNORE_INDEX] = _VOID_COLOR
    colors: np.ndarray = table[class_map.cpu().numpy()]
    return colors
