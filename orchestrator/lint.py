"""What to know of a table before time is spent on it. Torch-free; reads names of files, never pixels."""

from collections.abc import Iterator
from pathlib import Path

from experiments.table import Table
from trainer.spec import ComplexMask, DeepLabV2, Mix, TimmNetwork, TrialSpec

# The paper's finest block at 512 x 1024 and 128 blocks a side (docs/methods.md, section 13).
_FINEST_BLOCK = (4, 8)


def findings(table: Table, *, data: str, weights: str | None) -> list[str]:
    """Deviations and doubts, a sentence each; the same finding is said once for all cells it holds for."""
    found: dict[str, None] = {}
    for row in table.rows:
        for path, value in row.deviations:
            found[f"row {row.label} deviates from the frame: {path} = {value}"] = None
    for cell in table.cells():
        for finding in _of_spec(cell.spec):
            found[finding] = None
    specs = [cell.spec for cell in table.cells()]
    for finding in _of_weights(specs[0], Path(weights) if weights else Path(data) / "weights"):
        found[finding] = None
    if table.frame.selection == "best":
        found[
            "the best of all evaluations on the reported images is selected: optimistic, and said in every heading"
        ] = None
    if len(table.seeds) < 3:
        found[f"{len(table.seeds)} seeds: a sample standard deviation of so few says little"] = None
    return list(found)


def _of_spec(spec: TrialSpec) -> Iterator[str]:
    if isinstance(spec.network, DeepLabV2 | TimmNetwork) and spec.initial_weights == "random":
        yield f"{spec.network.kind} starts from random weights: numbers will be far below published ones"
    if isinstance(spec.method, Mix) and isinstance(spec.method.mask, ComplexMask):
        yield from _of_blocks(spec, spec.method.mask)


def _of_blocks(spec: TrialSpec, mask: ComplexMask) -> Iterator[str]:
    height = spec.view.crop_height or spec.dataset.height
    width = spec.view.crop_width or spec.dataset.width
    if mask.grid != "per_side":
        return
    fine = [p for p in mask.block_counts if height / p < _FINEST_BLOCK[0] or width / p < _FINEST_BLOCK[1]]
    if fine:
        largest = min(height // _FINEST_BLOCK[0], width // _FINEST_BLOCK[1])
        yield (
            f"block counts {fine} cut {height} x {width} images into blocks below {_FINEST_BLOCK[0]} x "
            f"{_FINEST_BLOCK[1]} pixels, the paper's finest: use at most {largest} "
            "(--set method.mask.block_counts=[…])"
        )


def _of_weights(spec: TrialSpec, folder: Path) -> Iterator[str]:
    backbone = getattr(spec.network, "backbone", None)
    if spec.initial_weights == "random" or not isinstance(spec.network, DeepLabV2):
        return
    patterns = {"coco": "resnet101COCO-41f33a49.pth", "imagenet": f"{backbone}-*.pth"}
    if not list(folder.glob(patterns[spec.initial_weights])):
        yield (
            f"initial weights {patterns[spec.initial_weights]} are not in {folder}: put them there, or say where with "
            "--weights DIR; without them cells fail"
        )
