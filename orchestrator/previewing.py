"""What `preview masks` draws: a pair of unlabelled images of a table, and the mask of every method on them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.table import Table
from trainer.build import DTYPES, bare_network, build_mask
from trainer.checkpoint import from_bytes, seal_of
from trainer.data.cache import cache_folder
from trainer.data.catalog import open_layout
from trainer.data.opening import open_resized
from trainer.drawing import png_of, scale_for
from trainer.methods.masks import MaskFn
from trainer.preview import mix_panels
from trainer.records import Storage, read_trial, trial_path
from trainer.spec import NAMED_METHODS, ComplexMask, Mask, Mix, TrialSpec


def masks_png(table: Table, storage: Storage, *, data: Path, cache: str | None, step: int) -> tuple[bytes, str]:
    """The PNG, and where its classes come from."""
    spec = table.cells()[0].spec
    layout = open_layout(spec.dataset, data)
    images = open_resized(spec.dataset, layout, spec.dataset.eval_split, cache_folder(cache))
    pair = [(2 * step) % len(images), (2 * step + 1) % len(images)]
    image = torch.from_numpy(images.images(pair)).permute(0, 3, 1, 2).float() / 255
    class_maps = torch.from_numpy(images.labels(pair)).long()
    source = "labels"
    trained = trained_network(table, storage, len(images.class_names))
    if trained is not None:
        class_maps, source = trained[1](image), trained[0]
    masks = masks_of(table, len(images.class_names))
    rows = mix_panels(image, class_maps, masks, np.asarray(layout.palette), seed=spec.seed, step=step)
    return png_of(rows, scale=scale_for(images.width)), source


def masks_of(table: Table, num_classes: int) -> list[tuple[str, MaskFn]]:
    """The mask functions of `mask_specs`, by their names."""
    return [(label, build_mask(mask, num_classes)) for label, mask in mask_specs(table).items()]


def mask_specs(table: Table) -> dict[str, Mask]:
    """The masks of the table's own mixing methods by their labels, then the named ones that it does not have."""
    chosen: dict[str, Mask] = {}
    for cell in table.cells():
        if isinstance(cell.spec.method, Mix):
            chosen.setdefault(cell.row, cell.spec.method.mask)
    counts = next((mask.block_counts for mask in chosen.values() if isinstance(mask, ComplexMask)), None)
    for name, method in NAMED_METHODS.items():
        if isinstance(method, Mix) and method.mask not in chosen.values():
            mask = method.mask
            is_literal = isinstance(mask, ComplexMask) and mask.grid == "per_side"
            if is_literal and counts is not None:
                continue  # the table's own counts stand for it
            chosen[name] = mask
    return chosen


class Labeler:
    """A trained network that gives classes [N, H, W] for images [N, 3, H, W] in [0, 1]."""

    def __init__(self, spec: TrialSpec, state: dict[str, Tensor], num_classes: int) -> None:
        self._network, _ = bare_network(spec, num_classes)
        self._network.load_state_dict(state)
        self._network.to(DTYPES[spec.precision]).eval()
        self._dtype = DTYPES[spec.precision]

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """The arg-max of the logits."""
        logits: Tensor = self._network(image.to(self._dtype))
        return logits.argmax(dim=1)


def trained_network(table: Table, storage: Storage, num_classes: int) -> tuple[str, Labeler] | None:
    """The last finished trial of a table with the weights that its result names, and its student."""
    for cell in reversed(table.cells()):
        _, result = read_trial(storage, cell.trial_id)
        path = trial_path(cell.trial_id, "weights.pt")
        if result is not None and result.weights_sha256 is not None and storage.exists(path):
            content = storage.read(path)
            if seal_of(content).sha256_of_file == result.weights_sha256:
                return f"predictions of {cell.name}", Labeler(cell.spec, from_bytes(content)["student"], num_classes)
    return None
